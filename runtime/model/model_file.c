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

/* A key of the family's metadata: "qwen2.block_count". */
typedef struct family_key {
    char text[64];
} family_key;

static family_key key_of(const cop_model_shape *shape, const char *rest) {
    family_key key;
    snprintf(key.text, sizeof key.text, "%s.%s", cop_model_family_name(shape->family), rest);
    return key;
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

/* The architecture decides how everything else is read. */
static cop_status read_family(const cop_gguf *gguf, cop_model_shape *shape) {
    cop_text value = {0};
    char shown[64];
    COP_TRY(cop_gguf_text(gguf, "general.architecture", &value));
    for (int f = 0; f < COP_FAMILY_COUNT; f++) {
        if (!text_is(value, cop_model_family_name((cop_model_family)f)))
            continue;
        cop_model_shape_set_family(shape, (cop_model_family)f);
        return COP_OK;
    }
    copy_printable(value, shown, sizeof shown);
    return COP_FAIL(COP_ERR_UNSUPPORTED,
                    "%s: key 'general.architecture' is '%s'; only 'llama', 'qwen2' and 'qwen3' are "
                    "supported",
                    cop_gguf_source(gguf), shown);
}

static cop_status check_rope_scaling(const cop_gguf *gguf, const char *key) {
    cop_text value = {0};
    char shown[64];
    if (!cop_gguf_has(gguf, key))
        return COP_OK;
    COP_TRY(cop_gguf_text(gguf, key, &value));
    if (text_is(value, "none"))
        return COP_OK;
    copy_printable(value, shown, sizeof shown);
    return COP_FAIL(COP_ERR_UNSUPPORTED, "%s: key '%s' is '%s'; only 'none' is supported",
                    cop_gguf_source(gguf), key, shown);
}

/* Metadata of the architecture changes what is computed, so a key that is not understood here
 * cannot be passed over. */
static cop_status check_known_keys(const cop_gguf *gguf, const cop_model_shape *shape) {
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
    const family_key prefix = key_of(shape, "");
    const size_t bytes = strlen(prefix.text);
    for (size_t i = 0; i < cop_gguf_key_count(gguf); i++) {
        cop_text name = cop_gguf_key_name(gguf, i);
        if (name.bytes < bytes || memcmp(name.data, prefix.text, bytes) != 0)
            continue;
        cop_text rest = {name.data + bytes, name.bytes - bytes};
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

static cop_status check_variant(const cop_gguf *gguf, const cop_model_shape *shape) {
    if (cop_gguf_has(gguf, "split.count"))
        COP_TRY(expect_u64(gguf, "split.count", 1));
    COP_TRY(check_rope_scaling(gguf, key_of(shape, "rope.scaling.type").text));
    COP_TRY(check_known_keys(gguf, shape));
    COP_TRY(expect_u64(gguf, key_of(shape, "expert_count").text, 0));
    COP_TRY(expect_u64(gguf, key_of(shape, "expert_used_count").text, 0));
    COP_TRY(expect_u64(gguf, "general.quantization_version", 2));
    if (cop_gguf_tensor(gguf, "rope_freqs.weight"))
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%s: tensor 'rope_freqs.weight' (rope scaling of Llama 3.1 and later) is "
                        "not supported",
                        cop_gguf_source(gguf));
    return COP_OK;
}

static cop_status read_heads(const cop_gguf *gguf, cop_model_shape *shape) {
    const family_key kv_heads = key_of(shape, "attention.head_count_kv");
    const family_key key_length = key_of(shape, "attention.key_length");
    COP_TRY(read_u32(gguf, key_of(shape, "attention.head_count").text, COP_MODEL_HEADS_MAX,
                     &shape->n_heads));
    shape->n_kv_heads = shape->n_heads;
    if (cop_gguf_has(gguf, kv_heads.text))
        COP_TRY(read_u32(gguf, kv_heads.text, COP_MODEL_HEADS_MAX, &shape->n_kv_heads));
    if (cop_gguf_has(gguf, key_length.text))
        COP_TRY(read_u32(gguf, key_length.text, UINT32_MAX, &shape->head_dim));
    else if (shape->hidden % shape->n_heads != 0)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: an embedding length of %u does not divide over %u attention heads",
                        cop_gguf_source(gguf), shape->hidden, shape->n_heads);
    else
        shape->head_dim = shape->hidden / shape->n_heads;
    COP_TRY(expect_u64(gguf, key_of(shape, "attention.value_length").text, shape->head_dim));
    return expect_u64(gguf, key_of(shape, "rope.dimension_count").text, shape->head_dim);
}

/* The vocabulary is what the metadata says, or the embedding's rows where it says nothing. */
static cop_status read_vocab(const cop_gguf *gguf, cop_model_shape *shape) {
    const char *source = cop_gguf_source(gguf);
    const family_key vocab_size = key_of(shape, "vocab_size");
    const cop_tensor *embedding = cop_gguf_tensor(gguf, "token_embd.weight");
    if (!embedding)
        return COP_FAIL(COP_ERR_FORMAT, "%s: tensor 'token_embd.weight' is missing", source);
    if (cop_gguf_has(gguf, vocab_size.text))
        COP_TRY(read_u32(gguf, vocab_size.text, COP_MODEL_VOCAB_MAX, &shape->vocab));
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
    const struct {
        const char *key;
        uint32_t max, *out;
    } sizes[] = {
        {"block_count", COP_MODEL_LAYERS_MAX, &shape->n_layers},
        {"embedding_length", COP_MODEL_HIDDEN_MAX, &shape->hidden},
        {"feed_forward_length", COP_MODEL_FFN_MAX, &shape->ffn},
        {"context_length", COP_MODEL_CONTEXT_MAX, &shape->context},
    };
    const family_key base = key_of(shape, "rope.freq_base");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        COP_TRY(read_u32(gguf, key_of(shape, sizes[i].key).text, sizes[i].max, sizes[i].out));
    COP_TRY(read_heads(gguf, shape));
    COP_TRY(read_vocab(gguf, shape));
    COP_TRY(cop_gguf_f64(gguf, key_of(shape, "attention.layer_norm_rms_epsilon").text,
                         &shape->rms_eps));
    shape->rope_theta = 10000; /* the format's default */
    if (cop_gguf_has(gguf, base.text))
        COP_TRY(cop_gguf_f64(gguf, base.text, &shape->rope_theta));
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

/* A tensor without a role (a bias that the family has not, an adapter, an expert) would be left out
 * of the sums. */
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

static void scan_vectors(cop_model *model) {
    uint64_t values = 0;
    char first[COP_WEIGHT_NAME_BYTES] = "";
    for (int w = 0; w < COP_W_COUNT; w++) {
        const cop_weight weight = (cop_weight)w;
        if (!cop__weight_is_norm(weight) && !cop__weight_is_bias(weight))
            continue;
        uint32_t layers = cop__weight_layers(&model->shape, weight);
        for (uint32_t layer = 0; layer < layers; layer++) {
            const cop_tensor *tensor = cop__model_slot(model, weight, layer);
            uint64_t found = cop_dtype_count_nonfinite(tensor->type, tensor->data, tensor->cols);
            if (found > 0 && values == 0)
                cop_weight_name(weight, layer, first);
            values += found;
        }
    }
    if (values > 0)
        snprintf(model->warning, sizeof model->warning,
                 "%" PRIu64 " weights of norms and biases are NaN or infinite, the first in %s: "
                 "results will not be finite",
                 values, first);
}

static cop_status open_gguf(cop_model *model, const char *name) {
    const cop_gguf *gguf = model->gguf;
    COP_TRY(read_family(gguf, &model->shape));
    COP_TRY(check_variant(gguf, &model->shape));
    COP_TRY(read_shape(gguf, &model->shape));
    COP_TRY(cop__model_create_table(model, cop_gguf_source(gguf)));
    COP_TRY(bind_weights(model));
    cop_text text = {name, strlen(name)};
    if (cop_gguf_has(gguf, "general.name"))
        COP_TRY(cop_gguf_text(gguf, "general.name", &text));
    copy_printable(text, model->name, sizeof model->name);
    scan_vectors(model);
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
