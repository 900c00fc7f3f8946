#include "model/model_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

static const struct {
    const char *name;
    bool rope_halves, qkv_bias, head_norms;
} families[COP_FAMILY_COUNT] = {
    [COP_FAMILY_LLAMA] = {"llama", false, false, false},
    [COP_FAMILY_QWEN2] = {"qwen2", true, true, false},
    [COP_FAMILY_QWEN3] = {"qwen3", true, false, true},
};

const char *cop_model_family_name(cop_model_family family) {
    return families[family].name;
}

void cop_model_shape_set_family(cop_model_shape *shape, cop_model_family family) {
    shape->family = family;
    shape->rope_halves = families[family].rope_halves;
    shape->qkv_bias = families[family].qkv_bias;
    shape->head_norms = families[family].head_norms;
}

static const char *const weight_names[COP_W_COUNT] = {
    [COP_W_EMBED] = "token_embd.weight",   [COP_W_NORM_FINAL] = "output_norm.weight",
    [COP_W_OUTPUT] = "output.weight",      [COP_W_NORM_ATTN] = "attn_norm.weight",
    [COP_W_Q] = "attn_q.weight",           [COP_W_K] = "attn_k.weight",
    [COP_W_V] = "attn_v.weight",           [COP_W_O] = "attn_output.weight",
    [COP_W_NORM_FFN] = "ffn_norm.weight",  [COP_W_GATE] = "ffn_gate.weight",
    [COP_W_UP] = "ffn_up.weight",          [COP_W_DOWN] = "ffn_down.weight",
    [COP_W_Q_BIAS] = "attn_q.bias",        [COP_W_K_BIAS] = "attn_k.bias",
    [COP_W_V_BIAS] = "attn_v.bias",        [COP_W_Q_NORM] = "attn_q_norm.weight",
    [COP_W_K_NORM] = "attn_k_norm.weight",
};

void cop_weight_name(cop_weight weight, uint32_t layer, char name[COP_WEIGHT_NAME_BYTES]) {
    if ((int)weight < COP__W_GLOBALS)
        snprintf(name, COP_WEIGHT_NAME_BYTES, "%s", weight_names[weight]);
    else
        snprintf(name, COP_WEIGHT_NAME_BYTES, "blk.%u.%s", layer, weight_names[weight]);
}

bool cop__weight_is_norm(cop_weight weight) {
    return weight == COP_W_NORM_FINAL || weight == COP_W_NORM_ATTN || weight == COP_W_NORM_FFN ||
           weight == COP_W_Q_NORM || weight == COP_W_K_NORM;
}

bool cop__weight_is_bias(cop_weight weight) {
    return weight == COP_W_Q_BIAS || weight == COP_W_K_BIAS || weight == COP_W_V_BIAS;
}

void cop__weight_shape(const cop_model_shape *shape, cop_weight weight, uint64_t *rows,
                       uint64_t *cols) {
    uint64_t q = (uint64_t)shape->n_heads * shape->head_dim;
    uint64_t kv = (uint64_t)shape->n_kv_heads * shape->head_dim;
    *rows = 1;
    *cols = shape->hidden;
    switch (weight) {
    case COP_W_EMBED:
    case COP_W_OUTPUT:
        *rows = shape->vocab;
        break;
    case COP_W_Q:
        *rows = q;
        break;
    case COP_W_K:
    case COP_W_V:
        *rows = kv;
        break;
    case COP_W_O:
        *rows = shape->hidden;
        *cols = q;
        break;
    case COP_W_GATE:
    case COP_W_UP:
        *rows = shape->ffn;
        break;
    case COP_W_DOWN:
        *rows = shape->hidden;
        *cols = shape->ffn;
        break;
    case COP_W_Q_BIAS:
        *cols = q;
        break;
    case COP_W_K_BIAS:
    case COP_W_V_BIAS:
        *cols = kv;
        break;
    case COP_W_Q_NORM:
    case COP_W_K_NORM:
        *cols = shape->head_dim;
        break;
    default: /* norms of the residual stream */
        break;
    }
}

cop_status cop__shape_check(const cop_model_shape *shape, const char *source, cop_status status) {
    if (shape->n_kv_heads > shape->n_heads || shape->n_heads % shape->n_kv_heads != 0)
        return COP_FAIL(status, "%s: %u attention heads do not divide over %u KV heads", source,
                        shape->n_heads, shape->n_kv_heads);
    if (shape->head_dim % 16 != 0 || shape->head_dim > COP_MODEL_HEAD_DIM_MAX)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%s: a head dimension of %u; multiples of 16 up to %d are computed", source,
                        shape->head_dim, COP_MODEL_HEAD_DIM_MAX);
    if (!(shape->rope_theta >= 1) || !isfinite(shape->rope_theta))
        return COP_FAIL(status, "%s: a rotary base of %g; it must be finite and 1 or more", source,
                        shape->rope_theta);
    if (!(shape->rms_eps > 0) || !(shape->rms_eps < 1))
        return COP_FAIL(status, "%s: a norm's epsilon of %g; it must lie between 0 and 1", source,
                        shape->rms_eps);
    return COP_OK;
}

cop_status cop__model_create_table(cop_model *model, const char *source) {
    size_t count = COP__W_GLOBALS + (size_t)model->shape.n_layers * COP__W_PER_LAYER;
    model->tensors = cop_calloc(count, sizeof *model->tensors);
    if (!model->tensors)
        return COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory for a table of %zu tensors", source,
                        count);
    return COP_OK;
}

cop_tensor *cop__model_slot(const cop_model *model, cop_weight weight, uint32_t layer) {
    if ((int)weight < COP__W_GLOBALS)
        return &model->tensors[weight];
    return &model->tensors[COP__W_GLOBALS + (size_t)layer * COP__W_PER_LAYER + (size_t)weight -
                           COP__W_GLOBALS];
}

uint32_t cop__weight_layers(const cop_model_shape *shape, cop_weight weight) {
    const bool head_norm = weight == COP_W_Q_NORM || weight == COP_W_K_NORM;
    if ((cop__weight_is_bias(weight) && !shape->qkv_bias) || (head_norm && !shape->head_norms))
        return 0;
    return (int)weight < COP__W_GLOBALS ? 1 : shape->n_layers;
}

uint64_t cop__model_sum_bytes(const cop_model *model) {
    size_t count = COP__W_GLOBALS + (size_t)model->shape.n_layers * COP__W_PER_LAYER;
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        if (i != COP_W_EMBED) /* when tied it is read as the output */
            bytes += model->tensors[i].bytes;
    return bytes;
}

const cop_model_shape *cop_model_shape_of(const cop_model *model) {
    return &model->shape;
}

const cop_tensor *cop_model_tensor(const cop_model *model, cop_weight weight, uint32_t layer) {
    return cop__weight_layers(&model->shape, weight) ? cop__model_slot(model, weight, layer) : NULL;
}

const cop_tokenizer *cop_model_tokenizer(const cop_model *model) {
    return model->tokenizer;
}

cop_status cop_model_check(const cop_model *model) {
    return model->gguf ? cop_gguf_check_size(model->gguf) : COP_OK;
}

const char *cop_model_name(const cop_model *model) {
    return model->name;
}

bool cop_model_is_random(const cop_model *model) {
    return model->gguf == NULL;
}

uint64_t cop_model_weight_bytes(const cop_model *model) {
    return model->weight_bytes;
}

const char *cop_model_warning(const cop_model *model) {
    return model->warning;
}

cop_status cop_model_sha256(cop_model *model, char hex[65]) {
    if (model->sha256[0] == '\0' && model->gguf) {
        COP_TRY(cop_model_check(model));
        COP_TRY(cop_gguf_sha256(model->gguf, model->sha256));
    } else if (model->sha256[0] == '\0') {
        cop_sha256_of(model->identity, strlen(model->identity), model->sha256);
    }
    memcpy(hex, model->sha256, sizeof model->sha256);
    return COP_OK;
}

cop_status cop_model_count_nonfinite(const cop_model *model, uint64_t *values,
                                     char first[COP_WEIGHT_NAME_BYTES]) {
    *values = 0;
    first[0] = '\0';
    COP_TRY(cop_model_check(model));
    for (int w = 0; w < COP_W_COUNT; w++) {
        if (w == COP_W_OUTPUT && model->shape.tied)
            continue;
        uint32_t layers = cop__weight_layers(&model->shape, (cop_weight)w);
        for (uint32_t layer = 0; layer < layers; layer++) {
            const cop_tensor *tensor = cop__model_slot(model, (cop_weight)w, layer);
            uint64_t found =
                cop_dtype_count_nonfinite(tensor->type, tensor->data, tensor->rows * tensor->cols);
            if (found > 0 && *values == 0)
                cop_weight_name((cop_weight)w, layer, first);
            *values += found;
        }
    }
    return COP_OK;
}

void cop_model_close(cop_model *model) {
    if (!model)
        return;
    cop_tokenizer_destroy(model->tokenizer);
    cop_free(model->tensors);
    cop_free(model->random_weights);
    cop_free(model->identity);
    cop_gguf_close(model->gguf);
    cop_free(model);
}
