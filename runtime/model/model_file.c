#include "model/model_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

static bool text_is(cop_text text, const char *want) {
    return text.bytes == strlen(want) && memcmp(text.data, want, text.bytes) == 0;
}

/* One printable line, cut where it does not fit. */
static void copy_printable(cop_text from, char *to, size_t bytes) {
    size_t n = from.bytes < bytes - 1 ? from.bytes : bytes - 1;
    for (size_t i = 0; i < n; i++)
        to[i] = from.data[i] >= 0x20 && from.data[i] < 0x7f ? from.data[i] : '?';
    to[n] = '\0';
}

static cop_status read_u32(const cop_gguf *gguf, const char *key, uint32_t max, uint32_t *out) {
    uint64_t value = 0;
    COP_TRY(cop_gguf_u64(gguf, key, &value));
    if (value < 1 || value > max)
        return COP_FAIL(COP_ERR_FORMAT, "%s: key '%s' is %" PRIu64 "; 1 to %u is accepted",
                        cop_gguf_source(gguf), key, value, max);
    *out = (uint32_t)value;
    return COP_OK;
}

/* The optional key `key` must equal `want`, the only value that is computed. */
static cop_status expect_u64(const cop_gguf *gguf, const char *key, uint64_t want) {
    uint64_t value = want;
    if (cop_gguf_has(gguf, key))
        COP_TRY(cop_gguf_u64(gguf, key, &value));
    if (value != want)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%s: key '%s' is %" PRIu64 "; only %" PRIu64 " is supported here",
                        cop_gguf_source(gguf), key, value, want);
    return COP_OK;
}

static cop_status expect_text(const cop_gguf *gguf, const char *key, const char *want) {
    cop_text value = {0};
    char shown[64];
    COP_TRY(cop_gguf_text(gguf, key, &value));
    if (text_is(value, want))
        return COP_OK;
    copy_printable(value, shown, sizeof shown);
    return COP_FAIL(COP_ERR_UNSUPPORTED, "%s: key '%s' is '%s'; only '%s' is supported",
                    cop_gguf_source(gguf), key, shown, want);
}

/* Metadata of the architecture changes what is computed, so a key that is not understood here
 * cannot be passed over. */
static cop_status check_known_keys(const cop_gguf *gguf) {
    static const char prefix[] = "llama.";
    static const char *const known[] = {"vocab_size",
                                        "context_length",
                                        "embedding_length",
                                        "block_count",
                                        "feed_forward_length",
                                        "attention.head_count",
                                        "attention.head_count_kv",
                                        "attention.key_length",
                                        "attention.value_length",
                                        "attention.layer_norm_rms_epsilon",
                                        "rope.dimension_count",
                                        "rope.freq_base",
                                        "rope.scaling.type",
                                        "expert_count",
                                        "expert_used_count"};
    for (size_t i = 0; i < cop_gguf_key_count(gguf); i++) {
        cop_text name = cop_gguf_key_name(gguf, i);
        if (name.bytes < sizeof prefix - 1 || memcmp(name.data, prefix, sizeof prefix - 1) != 0)
            continue;
        cop_text rest = {name.data + sizeof prefix - 1, name.bytes - (sizeof prefix - 1)};
        size_t k = 0;
        while (k < sizeof known / sizeof known[0] && !text_is(rest, known[k]))
            k++;
        if (k == sizeof known / sizeof known[0]) {
            char shown[80];
            copy_printable(name, shown, sizeof shown);
            return COP_FAIL(COP_ERR_UNSUPPORTED,
                            "%s: key '%s' is not supported, and ignoring it could give wrong "
                            "results",
                            cop_gguf_source(gguf), shown);
        }
    }
    return COP_OK;
}

static cop_status check_variant(const cop_gguf *gguf) {
    COP_TRY(expect_text(gguf, "general.architecture", "llama"));
    if (cop_gguf_has(gguf, "split.count"))
        COP_TRY(expect_u64(gguf, "split.count", 1));
    if (cop_gguf_has(gguf, "llama.rope.scaling.type"))
        COP_TRY(expect_text(gguf, "llama.rope.scaling.type", "none"));
    COP_TRY(check_known_keys(gguf));
    COP_TRY(expect_u64(gguf, "llama.expert_count", 0));
    COP_TRY(expect_u64(gguf, "llama.expert_used_count", 0));
    COP_TRY(expect_u64(gguf, "general.quantization_version", 2));
    if (cop_gguf_tensor(gguf, "rope_freqs.weight"))
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%s: tensor 'rope_freqs.weight' (rope scaling of Llama 3.1 and later) is "
                        "not supported",
                        cop_gguf_source(gguf));
    return COP_OK;
}

static cop_status read_heads(const cop_gguf *gguf, cop_model_shape *shape) {
    COP_TRY(read_u32(gguf, "llama.attention.head_count", COP_MODEL_HEADS_MAX, &shape->n_heads));
    shape->n_kv_heads = shape->n_heads;
    if (cop_gguf_has(gguf, "llama.attention.head_count_kv"))
        COP_TRY(read_u32(gguf, "llama.attention.head_count_kv", COP_MODEL_HEADS_MAX,
                         &shape->n_kv_heads));
    if (cop_gguf_has(gguf, "llama.attention.key_length"))
        COP_TRY(read_u32(gguf, "llama.attention.key_length", UINT32_MAX, &shape->head_dim));
    else if (shape->hidden % shape->n_heads != 0)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: an embedding length of %u does not divide over %u attention heads",
                        cop_gguf_source(gguf), shape->hidden, shape->n_heads);
    else
        shape->head_dim = shape->hidden / shape->n_heads;
    COP_TRY(expect_u64(gguf, "llama.attention.value_length", shape->head_dim));
    return expect_u64(gguf, "llama.rope.dimension_count", shape->head_dim);
}

/* The vocabulary is what the metadata says, or the embedding's rows where it says nothing. */
static cop_status read_vocab(const cop_gguf *gguf, cop_model_shape *shape) {
    const char *source = cop_gguf_source(gguf);
    const cop_tensor *embedding = cop_gguf_tensor(gguf, "token_embd.weight");
    if (!embedding)
        return COP_FAIL(COP_ERR_FORMAT, "%s: tensor 'token_embd.weight' is missing", source);
    if (cop_gguf_has(gguf, "llama.vocab_size"))
        COP_TRY(read_u32(gguf, "llama.vocab_size", COP_MODEL_VOCAB_MAX, &shape->vocab));
    else if (embedding->rows > COP_MODEL_VOCAB_MAX)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: tensor 'token_embd.weight' has %" PRIu64 " rows; 1 to %d are accepted",
                        source, embedding->rows, COP_MODEL_VOCAB_MAX);
    else
        shape->vocab = (uint32_t)embedding->rows;
    if (!cop_gguf_has(gguf, "tokenizer.ggml.tokens"))
        return COP_OK;
    const cop_text *tokens;
    size_t count = 0;
    COP_TRY(cop_gguf_text_array(gguf, "tokenizer.ggml.tokens", &tokens, &count));
    if (count != embedding->rows)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: the vocabulary 'tokenizer.ggml.tokens' has %zu tokens and tensor "
                        "'token_embd.weight' has %" PRIu64 " rows; they must agree",
                        source, count, embedding->rows);
    return COP_OK;
}

static cop_status read_shape(const cop_gguf *gguf, cop_model_shape *shape) {
    COP_TRY(read_u32(gguf, "llama.block_count", COP_MODEL_LAYERS_MAX, &shape->n_layers));
    COP_TRY(read_u32(gguf, "llama.embedding_length", COP_MODEL_HIDDEN_MAX, &shape->hidden));
    COP_TRY(read_u32(gguf, "llama.feed_forward_length", COP_MODEL_FFN_MAX, &shape->ffn));
    COP_TRY(read_u32(gguf, "llama.context_length", COP_MODEL_CONTEXT_MAX, &shape->context));
    COP_TRY(read_heads(gguf, shape));
    COP_TRY(read_vocab(gguf, shape));
    COP_TRY(cop_gguf_f64(gguf, "llama.attention.layer_norm_rms_epsilon", &shape->rms_eps));
    shape->rope_theta = 10000; /* the format's default */
    if (cop_gguf_has(gguf, "llama.rope.freq_base"))
        COP_TRY(cop_gguf_f64(gguf, "llama.rope.freq_base", &shape->rope_theta));
    shape->tied = cop_gguf_tensor(gguf, "output.weight") == NULL;
    return cop__shape_check(shape, cop_gguf_source(gguf), COP_ERR_FORMAT);
}

static cop_status bind_weight(cop_model *model, cop_weight weight, uint32_t layer) {
    const char *source = cop_gguf_source(model->gguf);
    char name[COP_WEIGHT_NAME_BYTES];
    cop_weight_name(weight, layer, name);
    const cop_tensor *tensor = cop_gguf_tensor(model->gguf, name);
    if (!tensor)
        return COP_FAIL(COP_ERR_FORMAT, "%s: tensor '%s' is missing", source, name);
    uint64_t rows, cols;
    cop__weight_shape(&model->shape, weight, &rows, &cols);
    if (tensor->rows != rows || tensor->cols != cols)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: tensor '%s' has %" PRIu64 " rows of %" PRIu64
                        " values; the metadata asks for %" PRIu64 " rows of %" PRIu64,
                        source, name, tensor->rows, tensor->cols, rows, cols);
    *cop__model_slot(model, weight, layer) = *tensor;
    return COP_OK;
}

/* Whether bind_weight looked for this name: the names it makes are the only ones that count, so
 * "blk.01.attn_q.weight" has no role. */
static bool has_role(const cop_model *model, cop_text name) {
    uint64_t layer = 0;
    if (name.bytes > 4 && memcmp(name.data, "blk.", 4) == 0)
        for (size_t i = 4; i < name.bytes && name.data[i] >= '0' && name.data[i] <= '9'; i++)
            layer = layer > UINT32_MAX ? layer : layer * 10 + (uint64_t)(name.data[i] - '0');
    for (int w = 0; w < COP_W_COUNT; w++) {
        char want[COP_WEIGHT_NAME_BYTES];
        if (layer >= cop__weight_layers(&model->shape, (cop_weight)w))
            continue;
        cop_weight_name((cop_weight)w, (uint32_t)layer, want);
        if (text_is(name, want))
            return true;
    }
    return false;
}

/* A tensor without a role (a bias, an adapter, an expert) would be left out of the sums. */
static cop_status check_all_bound(const cop_model *model) {
    for (size_t i = 0; i < cop_gguf_tensor_count(model->gguf); i++) {
        cop_text name = cop_gguf_tensor_name(model->gguf, i);
        if (has_role(model, name))
            continue;
        char shown[80];
        copy_printable(name, shown, sizeof shown);
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%s: tensor '%s' has no role in this architecture, and ignoring it could "
                        "give wrong results",
                        cop_gguf_source(model->gguf), shown);
    }
    return COP_OK;
}

static cop_status bind_weights(cop_model *model) {
    for (int w = 0; w < COP_W_COUNT; w++) {
        if (w == COP_W_OUTPUT && model->shape.tied)
            continue;
        uint32_t layers = cop__weight_layers(&model->shape, (cop_weight)w);
        for (uint32_t layer = 0; layer < layers; layer++)
            COP_TRY(bind_weight(model, (cop_weight)w, layer));
    }
    if (model->shape.tied)
        *cop__model_slot(model, COP_W_OUTPUT, 0) = *cop__model_slot(model, COP_W_EMBED, 0);
    model->weight_bytes = cop__model_sum_bytes(model);
    return check_all_bound(model);
}

static void scan_norms(cop_model *model) {
    static const cop_weight norms[] = {COP_W_NORM_FINAL, COP_W_NORM_ATTN, COP_W_NORM_FFN};
    uint64_t values = 0;
    char first[COP_WEIGHT_NAME_BYTES] = "";
    for (size_t n = 0; n < sizeof norms / sizeof norms[0]; n++) {
        uint32_t layers = cop__weight_layers(&model->shape, norms[n]);
        for (uint32_t layer = 0; layer < layers; layer++) {
            const cop_tensor *tensor = cop__model_slot(model, norms[n], layer);
            uint64_t found = cop_dtype_count_nonfinite(tensor->type, tensor->data, tensor->cols);
            if (found > 0 && values == 0)
                cop_weight_name(norms[n], layer, first);
            values += found;
        }
    }
    if (values > 0)
        snprintf(model->warning, sizeof model->warning,
                 "%" PRIu64 " norm weights are NaN or infinite, the first in %s: results will not "
                 "be finite",
                 values, first);
}

static cop_status open_gguf(cop_model *model, const char *name) {
    const cop_gguf *gguf = model->gguf;
    COP_TRY(check_variant(gguf));
    COP_TRY(read_shape(gguf, &model->shape));
    COP_TRY(cop__model_create_table(model, cop_gguf_source(gguf)));
    COP_TRY(bind_weights(model));
    cop_text text = {name, strlen(name)};
    if (cop_gguf_has(gguf, "general.name"))
        COP_TRY(cop_gguf_text(gguf, "general.name", &text));
    copy_printable(text, model->name, sizeof model->name);
    scan_norms(model);
    if (!cop_gguf_has(gguf, "tokenizer.ggml.model"))
        return COP_OK;
    cop_status status = cop_tokenizer_create(gguf, &model->tokenizer);
    return status == COP_OK ? status : cop_status_prefix(status, "%s", cop_gguf_source(gguf));
}

cop_status cop__model_open_gguf(cop_gguf *gguf, const char *name, cop_model **out) {
    *out = NULL;
    cop_model *model = cop_calloc(1, sizeof *model);
    if (!model) {
        cop_gguf_close(gguf);
        return COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory for a model", name);
    }
    model->gguf = gguf;
    cop_status status = open_gguf(model, name);
    if (status == COP_OK)
        *out = model;
    else
        cop_model_close(model);
    return status;
}

cop_status cop_model_open(const char *gguf_path, cop_model **out) {
    cop_gguf *gguf = NULL;
    *out = NULL;
    COP_TRY(cop_gguf_open(gguf_path, &gguf));
    const char *slash = strrchr(gguf_path, '/');
    return cop__model_open_gguf(gguf, slash ? slash + 1 : gguf_path, out);
}
