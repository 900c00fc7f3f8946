#include "model/model.h"

#include <math.h>
#include <unistd.h>

#include "base/sha256.h"
#include "model_files.h"

static const char real_path[] = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

static void check_shape(const cop_model_shape *got, const cop_model_shape *want) {
    CHECK_EQ(got->n_layers, want->n_layers);
    CHECK_EQ(got->hidden, want->hidden);
    CHECK_EQ(got->n_heads, want->n_heads);
    CHECK_EQ(got->n_kv_heads, want->n_kv_heads);
    CHECK_EQ(got->head_dim, want->head_dim);
    CHECK_EQ(got->ffn, want->ffn);
    CHECK_EQ(got->vocab, want->vocab);
    CHECK_EQ(got->context, want->context);
    CHECK(got->rope_theta == want->rope_theta);
    CHECK(got->rms_eps == want->rms_eps);
    CHECK_EQ(got->tied, want->tied);
    CHECK_EQ(got->family, want->family);
    CHECK_EQ(got->rope_halves, want->family != COP_FAMILY_LLAMA);
    CHECK_EQ(got->qkv_bias, want->family == COP_FAMILY_QWEN2);
    CHECK_EQ(got->head_norms, want->family == COP_FAMILY_QWEN3);
}

static void expected_shape(const cop_model_shape *s, cop_weight weight, uint64_t *rows,
                           uint64_t *cols) {
    const uint64_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    const uint64_t shapes[COP_W_COUNT][2] = {[COP_W_EMBED] = {s->vocab, s->hidden},
                                             [COP_W_NORM_FINAL] = {1, s->hidden},
                                             [COP_W_OUTPUT] = {s->vocab, s->hidden},
                                             [COP_W_NORM_ATTN] = {1, s->hidden},
                                             [COP_W_Q] = {q, s->hidden},
                                             [COP_W_K] = {kv, s->hidden},
                                             [COP_W_V] = {kv, s->hidden},
                                             [COP_W_O] = {s->hidden, q},
                                             [COP_W_NORM_FFN] = {1, s->hidden},
                                             [COP_W_GATE] = {s->ffn, s->hidden},
                                             [COP_W_UP] = {s->ffn, s->hidden},
                                             [COP_W_DOWN] = {s->hidden, s->ffn},
                                             [COP_W_Q_BIAS] = {1, q},
                                             [COP_W_K_BIAS] = {1, kv},
                                             [COP_W_V_BIAS] = {1, kv},
                                             [COP_W_Q_NORM] = {1, s->head_dim},
                                             [COP_W_K_NORM] = {1, s->head_dim}};
    *rows = shapes[weight][0];
    *cols = shapes[weight][1];
}

static bool has_weight(cop_model_family family, int weight) {
    if (weight >= COP_W_Q_NORM)
        return family == COP_FAMILY_QWEN3;
    return weight < COP_W_Q_BIAS || family == COP_FAMILY_QWEN2;
}

/* Every role has the bytes that were written under its name. */
static void check_weights(const cop_model *model, gguf_writer *w) {
    static const char *const roles[COP_W_COUNT] = {
        "token_embd.weight", "output_norm.weight", "output.weight", "attn_norm.weight",
        "attn_q.weight",     "attn_k.weight",      "attn_v.weight", "attn_output.weight",
        "ffn_norm.weight",   "ffn_gate.weight",    "ffn_up.weight", "ffn_down.weight",
        "attn_q.bias",       "attn_k.bias",        "attn_v.bias",   "attn_q_norm.weight",
        "attn_k_norm.weight"};
    const cop_model_shape *s = cop_model_shape_of(model);
    uint64_t bytes = 0;
    for (int weight = 0; weight < COP_W_COUNT; weight++) {
        bool per_layer = weight >= COP_W_NORM_ATTN;
        for (uint32_t layer = 0; layer < (per_layer ? s->n_layers : 1); layer++) {
            char name[64], given[COP_WEIGHT_NAME_BYTES];
            if (per_layer)
                snprintf(name, sizeof name, "blk.%u.%s", layer, roles[weight]);
            else
                snprintf(name, sizeof name, "%s", roles[weight]);
            cop_weight_name((cop_weight)weight, layer, given);
            CHECK_TEXT(given, name);
            if (weight == COP_W_OUTPUT && s->tied)
                strcpy(name, "token_embd.weight");
            if (!has_weight(s->family, weight)) {
                CHECK(!cop_model_tensor(model, (cop_weight)weight, layer));
                continue;
            }
            const gguf_writer_tensor *want = gguf_writer_find_tensor(w, name);
            const cop_tensor *tensor = cop_model_tensor(model, (cop_weight)weight, layer);
            uint64_t rows, cols;
            expected_shape(s, (cop_weight)weight, &rows, &cols);
            CHECK(tensor->rows == rows && tensor->cols == cols && tensor->type == want->type);
            CHECK(tensor->bytes == want->bytes);
            CHECK(memcmp(tensor->data, want->data, want->bytes) == 0);
            bytes += weight == COP_W_EMBED ? 0 : want->bytes;
        }
    }
    CHECK_EQ(cop_model_weight_bytes(model), bytes);
}

static void test_a_tied_model(void) {
    char path[32], hex[65], want[65];
    cop_model *model;
    gguf_writer w = {0};
    write_small(&w);
    gguf_image image = gguf_writer_finish(&w);
    cop_sha256_of(image.data, image.bytes, want);
    gguf_image_release(&image);
    CHECK_OK(open_written(&w, path, &model));
    check_shape(cop_model_shape_of(model), &small);
    check_weights(model, &w);
    CHECK(!cop_model_tokenizer(model));
    CHECK(!cop_model_is_random(model));
    CHECK_TEXT(cop_model_name(model), "tiny");
    CHECK_TEXT(cop_model_warning(model), "");
    CHECK_OK(cop_model_sha256(model, hex));
    CHECK_TEXT(hex, want);
    CHECK_OK(cop_model_check(model));
    cop_model_close(model);
    gguf_writer_release(&w);
    cop_model_close(NULL);
}

static void test_the_other_families(void) {
    for (int f = COP_FAMILY_QWEN2; f <= COP_FAMILY_QWEN3; f++) {
        char path[32];
        cop_model *model;
        gguf_writer w = {0};
        const cop_model_shape shape = small_of((cop_model_family)f);
        write_family(&w, (cop_model_family)f);
        CHECK_OK(open_written(&w, path, &model));
        check_shape(cop_model_shape_of(model), &shape);
        check_weights(model, &w);
        CHECK_TEXT(cop_model_warning(model), "");
        cop_model_close(model);
        gguf_writer_release(&w);
    }
}

/* Head dimension by its own keys, no KV head count, no base, no name, every float type. */
static void test_other_forms(void) {
    static const cop_dtype types[] = {COP_F32, COP_F16, COP_BF16, COP_Q8_0, COP_Q4_0};
    for (int i = 0; i < 5; i++) {
        cop_model_shape shape = small;
        cop_model *model;
        char path[32];
        gguf_writer w = {0};
        shape.tied = false;
        shape.head_dim = 32;
        shape.n_kv_heads = shape.n_heads;
        shape.context = COP_MODEL_CONTEXT_MAX;
        shape.n_layers = 11; /* layer numbers of two digits */
        gguf_writer_llama(&w, &(gguf_writer_model){.shape = shape, .dtype = types[i]});
        gguf_writer_remove_key(&w, "llama.attention.head_count_kv");
        gguf_writer_remove_key(&w, "llama.rope.freq_base");
        gguf_writer_remove_key(&w, "llama.vocab_size");
        gguf_writer_remove_key(&w, "general.name");
        gguf_writer_text(&w, "llama.rope.scaling.type", "none");
        gguf_writer_u32(&w, "llama.expert_count", 0);
        gguf_writer_u32(&w, "split.count", 1);
        CHECK_OK(open_written(&w, path, &model));
        shape.rope_theta = 10000;
        check_shape(cop_model_shape_of(model), &shape);
        check_weights(model, &w);
        CHECK_TEXT(cop_model_name(model), path + 5); /* the file's name without its folder */
        cop_model_close(model);
        gguf_writer_release(&w);
    }
}

static void test_a_model_with_a_tokenizer(void) {
    char path[32];
    cop_model *model;
    gguf_writer w = {0};
    write_small(&w);
    gguf_writer_byte_tokenizer(&w, "gpt-2", small.vocab);
    CHECK_OK(open_written(&w, path, &model));
    const cop_tokenizer *tokenizer = cop_model_tokenizer(model);
    CHECK(tokenizer);
    CHECK_EQ(cop_tokenizer_vocab(tokenizer), small.vocab);
    CHECK_EQ(cop_tokenizer_eos(tokenizer), 256);
    cop_token_ids ids = {0};
    CHECK_OK(cop_tokenizer_encode(tokenizer, "a\n<|7|>", 7, (cop_encode_options){0}, &ids));
    CHECK(ids.count == 3 && ids.data[0] == 'a' && ids.data[1] == '\n' && ids.data[2] == 263);
    cop_token_ids_release(&ids);
    cop_model_close(model);
    /* What the tokenizer finds wrong names the file. */
    gguf_writer_text(&w, "tokenizer.ggml.model", "nonsense");
    CHECK(open_written(&w, path, &model) != COP_OK && !model);
    CHECK_MESSAGE(path);
    gguf_writer_release(&w);
}

/* A name reaches messages and tables: one printable line of bounded length. */
static void test_names_are_made_printable(void) {
    char path[32], text[300], want[128] = "~ ????";
    cop_model *model;
    gguf_writer w = {0};
    write_small(&w);
    strcpy(text, "~ \n\x1f\x7f\xc3");
    memset(text + 6, 'x', sizeof text - 7);
    text[sizeof text - 1] = '\0';
    memset(want + 6, 'x', sizeof want - 7);
    gguf_writer_text(&w, "general.name", text);
    CHECK_OK(open_written(&w, path, &model));
    CHECK_TEXT(cop_model_name(model), want);
    cop_model_close(model);
    gguf_writer_release(&w);
}

static void test_a_file_that_shrinks(void) {
    char path[32], hex[65], first[COP_WEIGHT_NAME_BYTES];
    cop_model *model;
    gguf_writer w = {0};
    uint64_t values;
    write_small(&w);
    gguf_image image = gguf_writer_finish(&w);
    strcpy(path, "/tmp/test_model_XXXXXX");
    close(mkstemp(path));
    gguf_image_save(&image, path);
    CHECK_OK(cop_model_open(path, &model));
    CHECK(truncate(path, (off_t)image.bytes / 2) == 0);
    CHECK_STATUS(cop_model_check(model), COP_ERR_IO);
    CHECK_STATUS(cop_model_sha256(model, hex), COP_ERR_IO);
    CHECK_STATUS(cop_model_count_nonfinite(model, &values, first), COP_ERR_IO);
    cop_model_close(model);
    unlink(path);
    gguf_image_release(&image);
    gguf_writer_release(&w);
}

static void test_nonfinite_weights_are_reported(void) {
    char path[32], first[COP_WEIGHT_NAME_BYTES];
    cop_model *model;
    uint64_t values;
    gguf_writer w = {0};
    write_small(&w);
    CHECK_OK(open_written(&w, path, &model));
    CHECK_OK(cop_model_count_nonfinite(model, &values, first));
    CHECK_EQ(values, 0);
    CHECK_TEXT(first, "");
    cop_model_close(model);
    /* A scale in a matrix: seen by the full scan only. */
    gguf_writer_tensor *up = gguf_writer_find_tensor(&w, "blk.1.ffn_up.weight");
    up->data[1] = 0x7c, up->data[0] = 0;
    CHECK_OK(open_written(&w, path, &model));
    CHECK_TEXT(cop_model_warning(model), "");
    CHECK_OK(cop_model_count_nonfinite(model, &values, first));
    CHECK_EQ(values, 32);
    CHECK_TEXT(first, "blk.1.ffn_up.weight");
    cop_model_close(model);
    /* A norm: seen at opening, in each of the three roles. */
    static const char *const norms[] = {"blk.1.ffn_norm.weight", "blk.1.attn_norm.weight",
                                        "output_norm.weight"};
    for (int i = 0; i < 3; i++) {
        const float nan = NAN;
        memcpy(gguf_writer_find_tensor(&w, norms[i])->data + 4 * 63, &nan, 4);
        CHECK_OK(open_written(&w, path, &model));
        CHECK(strstr(cop_model_warning(model), norms[i]));
        CHECK(atoi(cop_model_warning(model)) == i + 1);
        CHECK_OK(cop_model_count_nonfinite(model, &values, first));
        CHECK_EQ(values, 32 + i + 1);
        cop_model_close(model);
    }
    gguf_writer_release(&w);
}

/* Biases and head norms are scanned at opening, and found by the full scan. */
static void test_nonfinite_vectors_are_reported(void) {
    static const struct {
        cop_model_family family;
        const char *name;
    } rows[] = {{COP_FAMILY_QWEN2, "blk.1.attn_v.bias"},
                {COP_FAMILY_QWEN2, "blk.0.attn_q.bias"},
                {COP_FAMILY_QWEN3, "blk.1.attn_k_norm.weight"},
                {COP_FAMILY_QWEN3, "blk.0.attn_q_norm.weight"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[32], first[COP_WEIGHT_NAME_BYTES];
        cop_model *model;
        uint64_t values;
        gguf_writer w = {0};
        const float infinite = INFINITY;
        write_family(&w, rows[i].family);
        memcpy(gguf_writer_find_tensor(&w, rows[i].name)->data + 4 * 7, &infinite, 4);
        CHECK_OK(open_written(&w, path, &model));
        CHECK(strstr(cop_model_warning(model), rows[i].name));
        CHECK_OK(cop_model_count_nonfinite(model, &values, first));
        CHECK_EQ(values, 1);
        CHECK_TEXT(first, rows[i].name);
        cop_model_close(model);
        gguf_writer_release(&w);
    }
}

static void test_the_real_model(void) {
    static const cop_model_shape want = {.n_layers = 30,
                                         .hidden = 576,
                                         .n_heads = 9,
                                         .n_kv_heads = 3,
                                         .head_dim = 64,
                                         .ffn = 1536,
                                         .vocab = 49152,
                                         .context = 8192,
                                         .rope_theta = 100000,
                                         .tied = true};
    cop_model *model;
    char hex[65], first[COP_WEIGHT_NAME_BYTES];
    uint64_t values;
    if (access(real_path, R_OK) != 0)
        SKIP("models/SmolLM2-135M-Instruct.Q4_1.gguf is absent");
    CHECK_OK(cop_model_open(real_path, &model));
    cop_model_shape got = *cop_model_shape_of(model);
    CHECK(got.rms_eps == (double)1e-5f);
    got.rms_eps = 0;
    check_shape(&got, &want);
    CHECK_EQ(cop_model_weight_bytes(model), 98362432 - 1785664);
    CHECK_EQ(cop_tokenizer_vocab(cop_model_tokenizer(model)), 49152);
    CHECK_OK(cop_model_sha256(model, hex));
    CHECK_TEXT(hex, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
    CHECK_TEXT(cop_model_warning(model), "");
    CHECK_OK(cop_model_count_nonfinite(model, &values, first));
    CHECK_EQ(values, 0);
    cop_model_close(model);
}

/* The fuzz target's seeds: small files that are accepted as far as they can be. */
enum { SEEDS = 5 };

static gguf_image seed(int index, const char **name) {
    static const char *const names[SEEDS] = {"every-kind", "llama-tied-tokenizer",
                                             "llama-untied-f16", "qwen2-tokenizer", "qwen3-q8"};
    gguf_writer w = {0};
    cop_model_shape shape = small;
    *name = names[index];
    shape.hidden = shape.ffn = 32;
    shape.n_heads = 2;
    shape.n_kv_heads = 1;
    if (index == 0) {
        gguf_writer_every_kind(&w);
    } else if (index == 1) {
        shape.vocab = 260;
        gguf_writer_llama(&w, &(gguf_writer_model){shape, COP_Q4_1, COP_Q4_0, 1});
        gguf_writer_byte_tokenizer(&w, "smollm", shape.vocab);
    } else if (index == 2) {
        shape.vocab = 16;
        shape.tied = false;
        shape.n_layers = 1;
        gguf_writer_llama(&w, &(gguf_writer_model){shape, COP_F16, COP_BF16, 1});
    } else if (index == 3) {
        shape.vocab = 260;
        shape.n_layers = 1;
        shape.family = COP_FAMILY_QWEN2;
        gguf_writer_llama(&w, &(gguf_writer_model){shape, COP_Q4_0, COP_Q4_0, 1});
        gguf_writer_byte_tokenizer(&w, "qwen2", shape.vocab);
    } else {
        shape.vocab = 16;
        shape.head_dim = 32;
        shape.family = COP_FAMILY_QWEN3;
        gguf_writer_llama(&w, &(gguf_writer_model){shape, COP_Q8_0, COP_Q8_0, 1});
    }
    gguf_image image = gguf_writer_finish(&w);
    gguf_writer_release(&w);
    return image;
}

static void test_fuzz_seeds_are_current(void) {
    for (int i = 0; i < SEEDS; i++) {
        const char *name;
        char path[128];
        static uint8_t held[65536];
        gguf_image image = seed(i, &name);
        snprintf(path, sizeof path, "tests/fuzz/corpus/gguf/%s.gguf", name);
        FILE *file = fopen(path, "rb");
        CHECK(file);
        CHECK_EQ(fread(held, 1, sizeof held, file), image.bytes);
        CHECK(memcmp(held, image.data, image.bytes) == 0);
        fclose(file);
        if (i > 0) {
            cop_model *model;
            CHECK_OK(cop_model_open(path, &model));
            CHECK_EQ(cop_model_tokenizer(model) != NULL, i == 1 || i == 3);
            cop_model_close(model);
        }
        gguf_image_release(&image);
    }
}

/* `test_model --write-seeds DIRECTORY` writes the seeds afresh. */
static int write_seeds(const char *directory) {
    for (int i = 0; i < SEEDS; i++) {
        const char *name;
        char path[1024];
        gguf_image image = seed(i, &name);
        snprintf(path, sizeof path, "%s/%s.gguf", directory, name);
        gguf_image_save(&image, path);
        gguf_image_release(&image);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--write-seeds") == 0)
        return write_seeds(argv[2]);
    RUN(test_a_tied_model);
    RUN(test_the_other_families);
    RUN(test_other_forms);
    RUN(test_a_model_with_a_tokenizer);
    RUN(test_names_are_made_printable);
    RUN(test_a_file_that_shrinks);
    RUN(test_nonfinite_weights_are_reported);
    RUN(test_nonfinite_vectors_are_reported);
    RUN(test_fuzz_seeds_are_current);
    RUN(test_the_real_model);
    return check_report();
}
