#include "model/model.h"

#include <math.h>
#include <unistd.h>

#include "base/sha256.h"
#include "check.h"
#include "ref/gguf_writer.h"

static const char real_path[] = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

static const cop_model_shape small = {.n_layers = 2,
                                      .hidden = 64,
                                      .n_heads = 4,
                                      .n_kv_heads = 2,
                                      .head_dim = 16,
                                      .ffn = 96,
                                      .vocab = 288,
                                      .context = 512,
                                      .rope_theta = 20000,
                                      .rms_eps = 0x1p-17,
                                      .tied = true};

static void write_small(gguf_writer *w) {
    gguf_writer_llama(w, &(gguf_writer_model){.shape = small, .dtype = COP_Q4_1, .seed = 3});
}

static cop_status open_written(gguf_writer *w, char path[32], cop_model **model) {
    strcpy(path, "/tmp/test_model_XXXXXX");
    gguf_image image = gguf_writer_finish(w);
    close(mkstemp(path));
    gguf_image_save(&image, path);
    gguf_image_release(&image);
    cop_status status = cop_model_open(path, model);
    unlink(path);
    return status;
}

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
                                             [COP_W_DOWN] = {s->hidden, s->ffn}};
    *rows = shapes[weight][0];
    *cols = shapes[weight][1];
}

/* Every role has the bytes that were written under its name. */
static void check_weights(const cop_model *model, gguf_writer *w) {
    static const char *const roles[COP_W_COUNT] = {"token_embd.weight",
                                                   "output_norm.weight",
                                                   "output.weight",
                                                   "attn_norm",
                                                   "attn_q",
                                                   "attn_k",
                                                   "attn_v",
                                                   "attn_output",
                                                   "ffn_norm",
                                                   "ffn_gate",
                                                   "ffn_up",
                                                   "ffn_down"};
    const cop_model_shape *s = cop_model_shape_of(model);
    uint64_t bytes = 0;
    for (int weight = 0; weight < COP_W_COUNT; weight++) {
        bool per_layer = weight >= COP_W_NORM_ATTN;
        for (uint32_t layer = 0; layer < (per_layer ? s->n_layers : 1); layer++) {
            char name[64], given[COP_WEIGHT_NAME_BYTES];
            if (per_layer)
                snprintf(name, sizeof name, "blk.%u.%s.weight", layer, roles[weight]);
            else
                snprintf(name, sizeof name, "%s", roles[weight]);
            cop_weight_name((cop_weight)weight, layer, given);
            CHECK_TEXT(given, name);
            if (weight == COP_W_OUTPUT && s->tied)
                strcpy(name, "token_embd.weight");
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

typedef struct damage {
    const char *key; /* set to `value`, removed when text is "-", else set to the text */
    uint64_t value;
    const char *text;
    cop_status status;
    const char *message;
} damage;

static const damage damages[] = {
    {"general.architecture", 0, "qwen2", COP_ERR_UNSUPPORTED,
     "'general.architecture' is 'qwen2'; only 'llama'"},
    {"general.architecture", 0, "-", COP_ERR_FORMAT, "'general.architecture' is missing"},
    {"general.architecture", 3, NULL, COP_ERR_FORMAT, "'general.architecture' is an integer"},
    {"general.quantization_version", 1, NULL, COP_ERR_UNSUPPORTED,
     "'general.quantization_version'"},
    {"split.count", 2, NULL, COP_ERR_UNSUPPORTED, "'split.count' is 2"},
    {"llama.block_count", 0, NULL, COP_ERR_FORMAT, "'llama.block_count' is 0"},
    {"llama.block_count", 1025, NULL, COP_ERR_FORMAT, "'llama.block_count' is 1025; 1 to 1024"},
    {"llama.block_count", 0, "-", COP_ERR_FORMAT, "'llama.block_count' is missing"},
    {"llama.block_count", 3, NULL, COP_ERR_FORMAT, "tensor 'blk.2.attn_norm.weight' is missing"},
    {"llama.block_count", 1, NULL, COP_ERR_UNSUPPORTED, "'blk.1.attn_norm.weight' has no role"},
    {"llama.embedding_length", 0, NULL, COP_ERR_FORMAT, "'llama.embedding_length' is 0"},
    {"llama.embedding_length", 65537, NULL, COP_ERR_FORMAT, "'llama.embedding_length' is 65537"},
    {"llama.embedding_length", 70, NULL, COP_ERR_FORMAT, "70 does not divide over 4 attention"},
    {"llama.embedding_length", 96, NULL, COP_ERR_UNSUPPORTED, "'llama.rope.dimension_count' is 16"},
    {"llama.feed_forward_length", 0, NULL, COP_ERR_FORMAT, "'llama.feed_forward_length' is 0"},
    {"llama.feed_forward_length", 1 << 21, NULL, COP_ERR_FORMAT, "'llama.feed_forward_length'"},
    {"llama.feed_forward_length", 128, NULL, COP_ERR_FORMAT,
     "'blk.0.ffn_gate.weight' has 96 rows of 64 values; the metadata asks for 128 rows of 64"},
    {"llama.context_length", 0, NULL, COP_ERR_FORMAT, "'llama.context_length' is 0"},
    {"llama.context_length", UINT32_MAX, NULL, COP_ERR_FORMAT,
     "'llama.context_length' is 4294967295"},
    {"llama.attention.head_count", 0, NULL, COP_ERR_FORMAT, "'llama.attention.head_count' is 0"},
    {"llama.attention.head_count", 1025, NULL, COP_ERR_FORMAT, "head_count' is 1025"},
    {"llama.attention.head_count_kv", 0, NULL, COP_ERR_FORMAT, "head_count_kv' is 0"},
    {"llama.attention.head_count_kv", 3, NULL, COP_ERR_FORMAT, "4 attention heads do not divide"},
    {"llama.attention.head_count_kv", 8, NULL, COP_ERR_FORMAT, "4 attention heads do not divide"},
    {"llama.attention.key_length", 0, NULL, COP_ERR_FORMAT, "key_length' is 0"},
    {"llama.attention.value_length", 32, NULL, COP_ERR_UNSUPPORTED, "value_length' is 32; only 16"},
    {"llama.rope.dimension_count", 8, NULL, COP_ERR_UNSUPPORTED, "dimension_count' is 8; only 16"},
    {"llama.rope.scaling.type", 0, "yarn", COP_ERR_UNSUPPORTED,
     "'llama.rope.scaling.type' is 'yarn'"},
    {"llama.rope.scaling.type", 0, "linear", COP_ERR_UNSUPPORTED, "is 'linear'; only 'none'"},
    {"llama.rope.scaling.factor", 2, NULL, COP_ERR_UNSUPPORTED, "'llama.rope.scaling.factor'"},
    {"llama.rope.scale_linear", 2, NULL, COP_ERR_UNSUPPORTED, "'llama.rope.scale_linear'"},
    {"llama.attention.sliding_window", 9, NULL, COP_ERR_UNSUPPORTED, "attention.sliding_window'"},
    {"llama.expert_count", 8, NULL, COP_ERR_UNSUPPORTED, "'llama.expert_count' is 8; only 0"},
    {"llama.expert_used_count", 2, NULL, COP_ERR_UNSUPPORTED, "'llama.expert_used_count' is 2"},
    {"llama.vocab_size", 287, NULL, COP_ERR_FORMAT,
     "'token_embd.weight' has 288 rows of 64 values; the metadata asks for 287 rows of 64"},
    {"llama.vocab_size", 0, NULL, COP_ERR_FORMAT, "'llama.vocab_size' is 0"},
    {"llama.vocab_size", (1 << 22) + 1, NULL, COP_ERR_FORMAT, "'llama.vocab_size' is 4194305"},
    {"llama.attention.layer_norm_rms_epsilon", 0, "-", COP_ERR_FORMAT, "rms_epsilon' is missing"},
    {"llama.attention.layer_norm_rms_epsilon", 1, NULL, COP_ERR_FORMAT, "is an integer; a float"},
    {"general.name", 7, NULL, COP_ERR_FORMAT, "'general.name' is an integer"},
};

static void test_damaged_metadata_is_refused(void) {
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        const damage *d = &damages[i];
        char path[32];
        cop_model *model;
        gguf_writer w = {0};
        write_small(&w);
        if (!d->text)
            gguf_writer_u32(&w, d->key, (uint32_t)d->value);
        else if (strcmp(d->text, "-") == 0)
            gguf_writer_remove_key(&w, d->key);
        else
            gguf_writer_text(&w, d->key, d->text);
        cop_status status = open_written(&w, path, &model);
        if (status != d->status)
            fprintf(stderr, "damage %zu: %s\n", i, d->message);
        CHECK_STATUS(status, d->status);
        CHECK_MESSAGE(d->message);
        CHECK_MESSAGE(path);
        CHECK(!model);
        gguf_writer_release(&w);
    }
}

static void test_numbers_out_of_range_are_refused(void) {
    static const struct {
        const char *key;
        float value;
        const char *message;
    } rows[] = {
        {"llama.rope.freq_base", 0.5f, "a rotary base of 0.5"},
        {"llama.rope.freq_base", NAN, "a rotary base of nan"},
        {"llama.rope.freq_base", INFINITY, "a rotary base of inf"},
        {"llama.attention.layer_norm_rms_epsilon", 0, "epsilon of 0"},
        {"llama.attention.layer_norm_rms_epsilon", -1e-5f, "epsilon of -1e-05"},
        {"llama.attention.layer_norm_rms_epsilon", 1, "epsilon of 1"},
        {"llama.attention.layer_norm_rms_epsilon", NAN, "epsilon of nan"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[32];
        cop_model *model;
        gguf_writer w = {0};
        write_small(&w);
        gguf_writer_f32(&w, rows[i].key, rows[i].value);
        CHECK_STATUS(open_written(&w, path, &model), COP_ERR_FORMAT);
        CHECK_MESSAGE(rows[i].message);
        gguf_writer_release(&w);
    }
}

static void check_refused(gguf_writer *w, cop_status want, const char *message) {
    char path[32];
    cop_model *model;
    CHECK_STATUS(open_written(w, path, &model), want);
    CHECK_MESSAGE(message);
    CHECK_MESSAGE(path);
    CHECK(!model);
    gguf_writer_release(w);
}

/* Each tensor missing, each a row short, each a block narrower. */
static void test_missing_and_misshapen_tensors(void) {
    gguf_writer list = {0};
    cop_model_shape shape = small;
    shape.tied = false;
    const gguf_writer_model options = {.shape = shape, .dtype = COP_F32};
    gguf_writer_llama(&list, &options);
    for (size_t i = 0; i < list.n_tensors; i++) {
        const char *name = list.tensors[i].name;
        char message[128];
        for (int change = 0; change < 3; change++) {
            gguf_writer w = {0};
            gguf_writer_llama(&w, &options);
            gguf_writer_tensor *tensor = gguf_writer_find_tensor(&w, name);
            bool vector = tensor->n_dims == 1;
            snprintf(message, sizeof message, "tensor '%s' has ", name);
            if (change == 0) {
                /* Without an output the model counts as tied, which is legal. */
                if (strcmp(name, "output.weight") == 0) {
                    gguf_writer_release(&w);
                    continue;
                }
                gguf_writer_remove_tensor(&w, name);
                snprintf(message, sizeof message, "tensor '%s' is missing", name);
            } else if (change == 1 && !vector) {
                tensor->dims[1]--;
                tensor->bytes -= tensor->dims[0] * 4;
            } else {
                tensor->dims[0] -= 8;
                tensor->bytes -= 8 * 4 * (vector ? 1 : tensor->dims[1]);
            }
            check_refused(&w, COP_ERR_FORMAT, message);
        }
    }
    gguf_writer_release(&list);
}

static void test_tensors_without_a_role(void) {
    static const char *const names[] = {
        "blk.0.attn_q.bias",          "blk.00.attn_q.weight",
        "blk.2.attn_q.weight",        "blk.4294967296.attn_q.weight",
        "blk..attn_q.weight",         "attn_q.weight",
        "blk.1.ffn_gate_exps.weight", "zzz"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        gguf_writer w = {0};
        char message[96];
        write_small(&w);
        gguf_writer_matrix(&w, names[i], COP_F32, 0, 8, NULL);
        snprintf(message, sizeof message, "tensor '%s' has no role", names[i]);
        check_refused(&w, COP_ERR_UNSUPPORTED, message);
    }
    gguf_writer w = {0};
    write_small(&w);
    gguf_writer_matrix(&w, "rope_freqs.weight", COP_F32, 0, 8, NULL);
    check_refused(&w, COP_ERR_UNSUPPORTED, "'rope_freqs.weight' (rope scaling");
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

static void test_a_missing_embedding_names_itself(void) {
    gguf_writer w = {0};
    write_small(&w);
    gguf_writer_remove_key(&w, "llama.vocab_size"); /* the vocabulary is then its rows */
    gguf_writer_remove_tensor(&w, "token_embd.weight");
    check_refused(&w, COP_ERR_FORMAT, "tensor 'token_embd.weight' is missing");
}

static void test_head_dimensions(void) {
    for (uint32_t head_dim = 8; head_dim <= 272; head_dim += head_dim < 256 ? 248 : 16) {
        cop_model_shape shape = small;
        cop_model *model;
        char path[32];
        gguf_writer w = {0};
        shape.head_dim = head_dim; /* 8, 256, 272 */
        gguf_writer_llama(&w, &(gguf_writer_model){.shape = shape, .dtype = COP_F32});
        if (head_dim == 256) {
            CHECK_OK(open_written(&w, path, &model));
            cop_model_close(model);
            gguf_writer_release(&w);
        } else {
            check_refused(&w, COP_ERR_UNSUPPORTED, "a head dimension of");
        }
    }
}

static void test_vocabularies_must_agree(void) {
    gguf_writer w = {0};
    write_small(&w);
    gguf_writer_byte_tokenizer(&w, "gpt-2", small.vocab + 1);
    check_refused(&w, COP_ERR_FORMAT,
                  "'tokenizer.ggml.tokens' has 289 tokens and tensor 'token_embd.weight' has 288");
    write_small(&w);
    gguf_writer_i32_array(&w, "tokenizer.ggml.tokens", (int32_t[]){1}, 1);
    check_refused(&w, COP_ERR_FORMAT, "an array of texts was expected");
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

static void test_the_real_model(void) {
    static const cop_model_shape want = {30, 576, 9, 3, 64, 1536, 49152, 8192, 100000, 0, true};
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
static gguf_image seed(int index, const char **name) {
    static const char *const names[] = {"every-kind", "llama-tied-tokenizer", "llama-untied-f16"};
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
    } else {
        shape.vocab = 16;
        shape.tied = false;
        shape.n_layers = 1;
        gguf_writer_llama(&w, &(gguf_writer_model){shape, COP_F16, COP_BF16, 1});
    }
    gguf_image image = gguf_writer_finish(&w);
    gguf_writer_release(&w);
    return image;
}

static void test_fuzz_seeds_are_current(void) {
    for (int i = 0; i < 3; i++) {
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
            CHECK_EQ(cop_model_tokenizer(model) != NULL, i == 1);
            cop_model_close(model);
        }
        gguf_image_release(&image);
    }
}

/* `test_model --write-seeds DIRECTORY` writes the seeds afresh. */
static int write_seeds(const char *directory) {
    for (int i = 0; i < 3; i++) {
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
    RUN(test_other_forms);
    RUN(test_a_model_with_a_tokenizer);
    RUN(test_damaged_metadata_is_refused);
    RUN(test_numbers_out_of_range_are_refused);
    RUN(test_missing_and_misshapen_tensors);
    RUN(test_tensors_without_a_role);
    RUN(test_names_are_made_printable);
    RUN(test_a_missing_embedding_names_itself);
    RUN(test_head_dimensions);
    RUN(test_vocabularies_must_agree);
    RUN(test_a_file_that_shrinks);
    RUN(test_nonfinite_weights_are_reported);
    RUN(test_fuzz_seeds_are_current);
    RUN(test_the_real_model);
    return check_report();
}
