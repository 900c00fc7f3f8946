#include "reason/rules/mlp.h"

#include <inttypes.h>
#include <math.h>

#include "base/memory.h"

enum { WIDTH_MAX = 1 << 20 };

struct cop_mlp {
    uint32_t hidden, inner;
    float *first;      /* [hidden][inner]: columns of net.0.weight */
    float *first_bias; /* [inner] */
    float *last;       /* [inner] */
    float last_bias;
};

/* A tensor whose shape is [rows, cols], or [cols] when it is a bias. */
static cop_status find(const cop_safetensors *file, const char *name, bool matrix, uint64_t rows,
                       uint64_t cols, const cop_safetensors_tensor **out) {
    const cop_safetensors_tensor *t = cop_safetensors_find(file, name);
    if (!t)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: tensor '%s' is missing: a scorer has net.0.weight, net.0.bias, "
                        "net.2.weight and net.2.bias",
                        cop_safetensors_source(file), name);
    bool fits = matrix ? t->n_dims == 2 && t->dims[0] == rows && t->dims[1] == cols
                       : t->n_dims == 1 && t->dims[0] == cols;
    if (!fits)
        return COP_FAIL(COP_ERR_MISMATCH,
                        "%s: tensor '%s' has %u dimensions, %" PRIu64 " by %" PRIu64
                        "; this scorer needs %" PRIu64 " by %" PRIu64,
                        cop_safetensors_source(file), name, t->n_dims, t->n_dims ? t->dims[0] : 0,
                        t->n_dims > 1 ? t->dims[1] : 1, matrix ? rows : cols, matrix ? cols : 1);
    *out = t;
    return COP_OK;
}

static cop_status read(const cop_safetensors *file, const cop_safetensors_tensor *tensor,
                       float *out) {
    COP_TRY(cop_safetensors_read(file, tensor, out));
    for (uint64_t i = 0; i < tensor->values; i++) {
        if (!isfinite(out[i]))
            return COP_FAIL(COP_ERR_NONFINITE,
                            "%s: value %" PRIu64 " of tensor '%.*s' is not finite: it cannot rank",
                            cop_safetensors_source(file), i, (int)tensor->name.bytes,
                            tensor->name.data);
    }
    return COP_OK;
}

static cop_status fill(const cop_safetensors *file, cop_mlp *mlp) {
    const cop_safetensors_tensor *weight, *bias, *last, *last_bias;
    uint64_t inner = mlp->inner, hidden = mlp->hidden;
    COP_TRY(find(file, "net.0.weight", true, inner, hidden, &weight));
    COP_TRY(find(file, "net.0.bias", false, 1, inner, &bias));
    COP_TRY(find(file, "net.2.weight", true, 1, inner, &last));
    COP_TRY(find(file, "net.2.bias", false, 1, 1, &last_bias));
    mlp->first = cop_calloc(inner * hidden, sizeof *mlp->first);
    mlp->first_bias = cop_calloc(inner, sizeof *mlp->first_bias);
    mlp->last = cop_calloc(inner, sizeof *mlp->last);
    float *rows = cop_calloc(inner * hidden, sizeof *rows);
    cop_status status = COP_OK;
    if (!mlp->first || !mlp->first_bias || !mlp->last || !rows)
        status = COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory for a scorer of %u by %u",
                          cop_safetensors_source(file), mlp->hidden, mlp->inner);
    if (status == COP_OK)
        status = read(file, weight, rows);
    if (status == COP_OK)
        status = read(file, bias, mlp->first_bias);
    if (status == COP_OK)
        status = read(file, last, mlp->last);
    if (status == COP_OK)
        status = read(file, last_bias, &mlp->last_bias);
    for (uint64_t j = 0; j < inner && status == COP_OK; j++) {
        for (uint64_t i = 0; i < hidden; i++)
            mlp->first[i * inner + j] = rows[j * hidden + i];
    }
    cop_free(rows);
    return status;
}

cop_status cop_mlp_from(const cop_safetensors *file, uint32_t hidden, cop_mlp **out) {
    const cop_safetensors_tensor *weight = cop_safetensors_find(file, "net.0.weight");
    *out = NULL;
    if (!weight || weight->n_dims != 2 || weight->dims[0] == 0 || weight->dims[1] == 0 ||
        weight->dims[0] > WIDTH_MAX || weight->dims[1] > WIDTH_MAX)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: there is no tensor 'net.0.weight' of two dimensions: not a scorer",
                        cop_safetensors_source(file));
    if (hidden && weight->dims[1] != hidden)
        return COP_FAIL(COP_ERR_MISMATCH,
                        "%s: the scorer takes hidden states of width %" PRIu64
                        ", but the model's have %u: use the scorer that was trained for it",
                        cop_safetensors_source(file), weight->dims[1], hidden);
    cop_mlp *mlp = cop_calloc(1, sizeof *mlp);
    if (!mlp)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a scorer");
    mlp->inner = (uint32_t)weight->dims[0];
    mlp->hidden = (uint32_t)weight->dims[1];
    cop_status status = fill(file, mlp);
    if (status != COP_OK) {
        cop_mlp_destroy(mlp);
        return status;
    }
    *out = mlp;
    return COP_OK;
}

cop_status cop_mlp_load(const char *path, uint32_t hidden, cop_mlp **out) {
    cop_safetensors *file = NULL;
    *out = NULL;
    COP_TRY(cop_safetensors_open(path, &file));
    cop_status status = cop_mlp_from(file, hidden, out);
    cop_safetensors_close(file);
    return status;
}

void cop_mlp_destroy(cop_mlp *mlp) {
    if (!mlp)
        return;
    cop_free(mlp->first);
    cop_free(mlp->first_bias);
    cop_free(mlp->last);
    cop_free(mlp);
}

uint32_t cop_mlp_hidden(const cop_mlp *mlp) {
    return mlp->hidden;
}

uint32_t cop_mlp_inner(const cop_mlp *mlp) {
    return mlp->inner;
}

double cop_mlp_score(const cop_mlp *mlp, const float *hidden, float *restrict unit) {
    uint32_t inner = mlp->inner;
    for (uint32_t j = 0; j < inner; j++)
        unit[j] = 0;
    for (uint32_t i = 0; i < mlp->hidden; i++) {
        const float *restrict column = mlp->first + (size_t)i * inner;
        float value = hidden[i];
        for (uint32_t j = 0; j < inner; j++)
            unit[j] += column[j] * value;
    }
    float logit = 0;
    bool finite = true;
    for (uint32_t j = 0; j < inner; j++) {
        float sum = unit[j] + mlp->first_bias[j];
        finite &= isfinite(sum) != 0;
        logit += mlp->last[j] * (sum > 0 ? sum : 0);
    }
    logit += mlp->last_bias;
    return finite ? 1 / (1 + exp(-(double)logit)) : (double)NAN;
}
