/* Model files that must be refused, each with a message that names the file, the key or tensor, and
 * what is accepted. */
#include <math.h>

#include "model_files.h"

typedef struct damage {
    cop_model_family family;
    const char *key; /* set to `value`, removed when text is "-", else set to the text */
    uint64_t value;
    const char *text;
    cop_status status;
    const char *message;
} damage;

static const damage damages[] = {
    {COP_FAMILY_LLAMA, "general.architecture", 0, "qwen2moe", COP_ERR_UNSUPPORTED,
     "'general.architecture' is 'qwen2moe'; only 'llama', 'qwen2' and 'qwen3'"},
    {COP_FAMILY_LLAMA, "general.architecture", 0, "qwen", COP_ERR_UNSUPPORTED, "is 'qwen'; only"},
    {COP_FAMILY_LLAMA, "general.architecture", 0, "qwen2", COP_ERR_FORMAT,
     "'qwen2.block_count' is missing"},
    {COP_FAMILY_LLAMA, "general.architecture", 0, "-", COP_ERR_FORMAT,
     "'general.architecture' is missing"},
    {COP_FAMILY_LLAMA, "general.architecture", 3, NULL, COP_ERR_FORMAT,
     "'general.architecture' is an integer"},
    {COP_FAMILY_LLAMA, "general.quantization_version", 1, NULL, COP_ERR_UNSUPPORTED,
     "'general.quantization_version'"},
    {COP_FAMILY_LLAMA, "split.count", 2, NULL, COP_ERR_UNSUPPORTED, "'split.count' is 2"},
    {COP_FAMILY_LLAMA, "llama.block_count", 0, NULL, COP_ERR_FORMAT, "'llama.block_count' is 0"},
    {COP_FAMILY_LLAMA, "llama.block_count", 1025, NULL, COP_ERR_FORMAT,
     "'llama.block_count' is 1025; 1 to 1024"},
    {COP_FAMILY_LLAMA, "llama.block_count", 0, "-", COP_ERR_FORMAT,
     "'llama.block_count' is missing"},
    {COP_FAMILY_LLAMA, "llama.block_count", 3, NULL, COP_ERR_FORMAT,
     "tensor 'blk.2.attn_norm.weight' is missing"},
    {COP_FAMILY_LLAMA, "llama.block_count", 1, NULL, COP_ERR_UNSUPPORTED,
     "'blk.1.attn_norm.weight' has no role"},
    {COP_FAMILY_LLAMA, "llama.embedding_length", 0, NULL, COP_ERR_FORMAT,
     "'llama.embedding_length' is 0"},
    {COP_FAMILY_LLAMA, "llama.embedding_length", 65537, NULL, COP_ERR_FORMAT,
     "'llama.embedding_length' is 65537"},
    {COP_FAMILY_LLAMA, "llama.embedding_length", 70, NULL, COP_ERR_FORMAT,
     "70 does not divide over 4 attention"},
    {COP_FAMILY_LLAMA, "llama.embedding_length", 96, NULL, COP_ERR_UNSUPPORTED,
     "'llama.rope.dimension_count' is 16"},
    {COP_FAMILY_LLAMA, "llama.feed_forward_length", 0, NULL, COP_ERR_FORMAT,
     "'llama.feed_forward_length' is 0"},
    {COP_FAMILY_LLAMA, "llama.feed_forward_length", 1 << 21, NULL, COP_ERR_FORMAT,
     "'llama.feed_forward_length'"},
    {COP_FAMILY_LLAMA, "llama.feed_forward_length", 128, NULL, COP_ERR_FORMAT,
     "'blk.0.ffn_gate.weight' has 96 rows of 64 values; the metadata asks for 128 rows of 64"},
    {COP_FAMILY_LLAMA, "llama.context_length", 0, NULL, COP_ERR_FORMAT,
     "'llama.context_length' is 0"},
    {COP_FAMILY_LLAMA, "llama.context_length", UINT32_MAX, NULL, COP_ERR_FORMAT,
     "'llama.context_length' is 4294967295"},
    {COP_FAMILY_LLAMA, "llama.attention.head_count", 0, NULL, COP_ERR_FORMAT,
     "'llama.attention.head_count' is 0"},
    {COP_FAMILY_LLAMA, "llama.attention.head_count", 1025, NULL, COP_ERR_FORMAT,
     "head_count' is 1025"},
    {COP_FAMILY_LLAMA, "llama.attention.head_count_kv", 0, NULL, COP_ERR_FORMAT,
     "head_count_kv' is 0"},
    {COP_FAMILY_LLAMA, "llama.attention.head_count_kv", 3, NULL, COP_ERR_FORMAT,
     "4 attention heads do not divide"},
    {COP_FAMILY_LLAMA, "llama.attention.head_count_kv", 8, NULL, COP_ERR_FORMAT,
     "4 attention heads do not divide"},
    {COP_FAMILY_LLAMA, "llama.attention.key_length", 0, NULL, COP_ERR_FORMAT, "key_length' is 0"},
    {COP_FAMILY_LLAMA, "llama.attention.value_length", 32, NULL, COP_ERR_UNSUPPORTED,
     "value_length' is 32; only 16"},
    {COP_FAMILY_LLAMA, "llama.rope.dimension_count", 8, NULL, COP_ERR_UNSUPPORTED,
     "dimension_count' is 8; only 16"},
    {COP_FAMILY_LLAMA, "llama.rope.scaling.type", 0, "yarn", COP_ERR_UNSUPPORTED,
     "'llama.rope.scaling.type' is 'yarn'"},
    {COP_FAMILY_LLAMA, "llama.rope.scaling.type", 0, "linear", COP_ERR_UNSUPPORTED,
     "is 'linear'; only 'none'"},
    {COP_FAMILY_LLAMA, "llama.rope.scaling.factor", 2, NULL, COP_ERR_UNSUPPORTED,
     "'llama.rope.scaling.factor'"},
    {COP_FAMILY_LLAMA, "llama.rope.scale_linear", 2, NULL, COP_ERR_UNSUPPORTED,
     "'llama.rope.scale_linear'"},
    {COP_FAMILY_LLAMA, "llama.attention.sliding_window", 9, NULL, COP_ERR_UNSUPPORTED,
     "attention.sliding_window'"},
    {COP_FAMILY_LLAMA, "llama.expert_count", 8, NULL, COP_ERR_UNSUPPORTED,
     "'llama.expert_count' is 8; only 0"},
    {COP_FAMILY_LLAMA, "llama.expert_used_count", 2, NULL, COP_ERR_UNSUPPORTED,
     "'llama.expert_used_count' is 2"},
    {COP_FAMILY_LLAMA, "llama.vocab_size", 287, NULL, COP_ERR_FORMAT,
     "'token_embd.weight' has 288 rows of 64 values; the metadata asks for 287 rows of 64"},
    {COP_FAMILY_LLAMA, "llama.vocab_size", 0, NULL, COP_ERR_FORMAT, "'llama.vocab_size' is 0"},
    {COP_FAMILY_LLAMA, "llama.vocab_size", (1 << 22) + 1, NULL, COP_ERR_FORMAT,
     "'llama.vocab_size' is 4194305"},
    {COP_FAMILY_LLAMA, "llama.attention.layer_norm_rms_epsilon", 0, "-", COP_ERR_FORMAT,
     "rms_epsilon' is missing"},
    {COP_FAMILY_LLAMA, "llama.attention.layer_norm_rms_epsilon", 1, NULL, COP_ERR_FORMAT,
     "is an integer; a float"},
    {COP_FAMILY_QWEN2, "general.architecture", 0, "llama", COP_ERR_FORMAT,
     "'llama.block_count' is missing"},
    {COP_FAMILY_QWEN2, "qwen2.context_length", 0, "-", COP_ERR_FORMAT,
     "'qwen2.context_length' is missing"},
    {COP_FAMILY_QWEN2, "qwen2.attention.head_count", 0, "four", COP_ERR_FORMAT, "head_count' is a"},
    {COP_FAMILY_QWEN2, "qwen2.attention.head_count_kv", 4, NULL, COP_ERR_FORMAT,
     "'blk.0.attn_k.weight' has 32 rows of 64 values; the metadata asks for 64 rows of 64"},
    {COP_FAMILY_QWEN2, "qwen2.rope.scaling.type", 0, "yarn", COP_ERR_UNSUPPORTED,
     "'qwen2.rope.scaling.type' is 'yarn'; only 'none'"},
    {COP_FAMILY_QWEN2, "qwen2.rope.scaling.factor", 4, NULL, COP_ERR_UNSUPPORTED,
     "scaling.factor'"},
    {COP_FAMILY_QWEN2, "qwen2.attention.sliding_window", 4096, NULL, COP_ERR_UNSUPPORTED,
     "'qwen2.attention.sliding_window' is not supported"},
    {COP_FAMILY_QWEN2, "qwen2.rope.dimension_sections", 8, NULL, COP_ERR_UNSUPPORTED,
     "'qwen2.rope.dimension_sections'"},
    {COP_FAMILY_QWEN2, "qwen2.pooling_type", 1, NULL, COP_ERR_UNSUPPORTED, "'qwen2.pooling_type'"},
    {COP_FAMILY_QWEN2, "qwen2.expert_count", 60, NULL, COP_ERR_UNSUPPORTED,
     "'qwen2.expert_count' is 60; only 0"},
    {COP_FAMILY_QWEN3, "general.architecture", 0, "qwen3moe", COP_ERR_UNSUPPORTED, "is 'qwen3moe'"},
    {COP_FAMILY_QWEN3, "qwen3.attention.key_length", 0, "-", COP_ERR_UNSUPPORTED,
     "'qwen3.attention.value_length' is 32; only 16"},
    {COP_FAMILY_QWEN3, "qwen3.attention.key_length", 48, NULL, COP_ERR_UNSUPPORTED,
     "'qwen3.attention.value_length' is 32; only 48"},
    {COP_FAMILY_QWEN3, "qwen3.attention.value_length", 16, NULL, COP_ERR_UNSUPPORTED,
     "value_length' is 16; only 32"},
    {COP_FAMILY_QWEN3, "qwen3.rope.dimension_count", 16, NULL, COP_ERR_UNSUPPORTED,
     "'qwen3.rope.dimension_count' is 16; only 32"},
    {COP_FAMILY_QWEN3, "qwen3.rope.scaling.type", 0, "longrope", COP_ERR_UNSUPPORTED, "'longrope'"},
    {COP_FAMILY_QWEN3, "qwen3.attention.sliding_window_pattern", 2, NULL, COP_ERR_UNSUPPORTED,
     "'qwen3.attention.sliding_window_pattern'"},
    {COP_FAMILY_QWEN3, "qwen3.expert_used_count", 8, NULL, COP_ERR_UNSUPPORTED,
     "'qwen3.expert_used_count' is 8"},
    {COP_FAMILY_QWEN3, "qwen3.attention.layer_norm_rms_epsilon", 0, "-", COP_ERR_FORMAT,
     "'qwen3.attention.layer_norm_rms_epsilon' is missing"},
    {COP_FAMILY_LLAMA, "general.name", 7, NULL, COP_ERR_FORMAT, "'general.name' is an integer"},
};

static void test_damaged_metadata_is_refused(void) {
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        const damage *d = &damages[i];
        char path[32];
        cop_model *model;
        gguf_writer w = {0};
        write_family(&w, d->family);
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

/* Each tensor missing, each a row short, each a block narrower. Biases and head norms are vectors
 * like the others, of every layer. */
static void check_tensors_of(cop_model_family family) {
    gguf_writer list = {0};
    cop_model_shape shape = small_of(family);
    shape.tied = false;
    const gguf_writer_model options = {.shape = shape, .dtype = COP_F32};
    gguf_writer_llama(&list, &options);
    CHECK_EQ(list.n_tensors, 3 + 2 * (9 + (family == COP_FAMILY_QWEN2   ? 3
                                           : family == COP_FAMILY_QWEN3 ? 2
                                                                        : 0)));
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

static void test_missing_and_misshapen_tensors(void) {
    for (int family = 0; family < COP_FAMILY_COUNT; family++)
        check_tensors_of((cop_model_family)family);
}

/* A bias as long as the fused product, and a head norm as long as all heads: the shapes of other
 * models' files. */
static void test_vectors_of_other_models(void) {
    static const struct {
        cop_model_family family;
        const char *name;
        uint64_t values;
        const char *message;
    } rows[] = {
        {COP_FAMILY_QWEN2, "blk.1.attn_q.bias", 128, "has 1 rows of 128 values"},
        {COP_FAMILY_QWEN2, "blk.0.attn_v.bias", 64, "the metadata asks for 1 rows of 32"},
        {COP_FAMILY_QWEN2, "blk.0.attn_k.bias", 1, "has 1 rows of 1 values"},
        {COP_FAMILY_QWEN3, "blk.1.attn_q_norm.weight", 128, "the metadata asks for 1 rows of 32"},
        {COP_FAMILY_QWEN3, "blk.0.attn_k_norm.weight", 64, "has 1 rows of 64 values"},
        {COP_FAMILY_QWEN3, "blk.0.attn_k_norm.weight", 16, "has 1 rows of 16 values"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gguf_writer w = {0};
        write_family(&w, rows[i].family);
        gguf_writer_remove_tensor(&w, rows[i].name);
        gguf_writer_matrix(&w, rows[i].name, COP_F32, 0, rows[i].values, NULL);
        check_refused(&w, COP_ERR_FORMAT, rows[i].message);
    }
}

/* What another family has is not quietly left out. */
static void test_tensors_without_a_role(void) {
    static const struct {
        cop_model_family family;
        const char *name;
    } rows[] = {
        {COP_FAMILY_LLAMA, "blk.0.attn_q.bias"},
        {COP_FAMILY_LLAMA, "blk.0.attn_q_norm.weight"},
        {COP_FAMILY_LLAMA, "blk.00.attn_q.weight"},
        {COP_FAMILY_LLAMA, "blk.2.attn_q.weight"},
        {COP_FAMILY_LLAMA, "blk.4294967296.attn_q.weight"},
        {COP_FAMILY_LLAMA, "blk..attn_q.weight"},
        {COP_FAMILY_LLAMA, "attn_q.weight"},
        {COP_FAMILY_LLAMA, "blk.1.ffn_gate_exps.weight"},
        {COP_FAMILY_LLAMA, "zzz"},
        {COP_FAMILY_QWEN2, "blk.1.attn_k_norm.weight"},
        {COP_FAMILY_QWEN2, "blk.0.attn_output.bias"},
        {COP_FAMILY_QWEN2, "blk.2.attn_q.bias"},
        {COP_FAMILY_QWEN2, "blk.0.attn_q.bias.weight"},
        {COP_FAMILY_QWEN2, "output.bias"},
        {COP_FAMILY_QWEN3, "blk.1.attn_v.bias"},
        {COP_FAMILY_QWEN3, "blk.0.attn_q_norm.bias"},
        {COP_FAMILY_QWEN3, "blk.0.attn_q_norm"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gguf_writer w = {0};
        char message[96];
        write_family(&w, rows[i].family);
        gguf_writer_matrix(&w, rows[i].name, COP_F32, 0, 8, NULL);
        snprintf(message, sizeof message, "tensor '%s' has no role", rows[i].name);
        check_refused(&w, COP_ERR_UNSUPPORTED, message);
    }
    for (int family = 0; family < COP_FAMILY_COUNT; family++) {
        gguf_writer w = {0};
        write_family(&w, (cop_model_family)family);
        gguf_writer_matrix(&w, "rope_freqs.weight", COP_F32, 0, 8, NULL);
        check_refused(&w, COP_ERR_UNSUPPORTED, "'rope_freqs.weight' (rope scaling");
    }
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

int main(void) {
    RUN(test_damaged_metadata_is_refused);
    RUN(test_numbers_out_of_range_are_refused);
    RUN(test_missing_and_misshapen_tensors);
    RUN(test_vectors_of_other_models);
    RUN(test_tensors_without_a_role);
    RUN(test_a_missing_embedding_names_itself);
    RUN(test_head_dimensions);
    RUN(test_vocabularies_must_agree);
    return check_report();
}
