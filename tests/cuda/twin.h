/* A backend that is two: `cpu` and `cuda` (over the emulated runtime) run every step side by side,
 * and every row's logits and samples are compared. The engine goes on with the cpu's samples, so
 * that both see the same tree whatever they differ in. Included by the tests of the CUDA backend,
 * which link with --wrap=cop_backend_find. */
#pragma once

#include <math.h>

#include "backend/backend.h"
#include "check.h"
#include "cuda_emulation/cuda_emulation.h"

const cop_backend_ops *cop_backend_module(uint32_t abi); /* of the backend under test */
cop_status __wrap_cop_backend_find(const char *name, const cop_backend_ops **out);

enum { TWIN_VOCAB_MAX = 512, TWIN_SAMPLES_MAX = 4096 };

typedef struct twin_report { /* since the test set it to 0 */
    uint64_t steps, rows, queued, near_ties, equal_logits;
    float worst; /* difference of two logits, in units of the row's greatest magnitude */
} twin_report;
static twin_report twin_seen;
static float twin_bound = 0.01f; /* of `worst` */

typedef struct twin {
    const cop_backend_ops *ops[2];
    cop_backend *backend[2];
    uint32_t vocab, n_requests;
    bool queued;
    cop_sample_request requests[TWIN_SAMPLES_MAX];
    cop_sample samples[2][TWIN_SAMPLES_MAX];
    float logits[2][TWIN_VOCAB_MAX];
} twin;

static cop_backend *twin_last; /* the CUDA one of the twin that was created last */

static cop_status twin_create(const cop_model *model, const cop_backend_options *options,
                              cop_backend **out) {
    twin *t = calloc(1, sizeof *t);
    CHECK(t);
    t->ops[0] = &cop_backend_cpu;
    t->ops[1] = cop_backend_module(COP_BACKEND_ABI);
    t->vocab = cop_model_shape_of(model)->vocab;
    CHECK(t->vocab <= TWIN_VOCAB_MAX);
    cop_backend_options cpu = *options;
    cpu.products = COP_PRODUCTS_DEFAULT;
    cop_status status = t->ops[0]->create(model, &cpu, &t->backend[0]);
    if (status == COP_OK)
        status = t->ops[1]->create(model, options, &t->backend[1]);
    if (status != COP_OK) {
        t->ops[0]->destroy(t->backend[0]);
        free(t);
        return status;
    }
    twin_last = t->backend[1];
    *out = (cop_backend *)t;
    return COP_OK;
}

static void twin_destroy(cop_backend *b) {
    twin *t = (twin *)b;
    if (!t)
        return;
    for (int i = 0; i < 2; i++)
        t->ops[i]->destroy(t->backend[i]);
    free(t);
}

static const char *twin_describe(const cop_backend *b) {
    const twin *t = (const twin *)b;
    return t->ops[1]->describe(t->backend[1]);
}
static cop_products_mode twin_products(const cop_backend *b) {
    const twin *t = (const twin *)b;
    return t->ops[1]->products(t->backend[1]);
}

static cop_status twin_step_begin(cop_backend *b, const cop_step *step,
                                  const cop_sample_request *requests, uint32_t n, bool *queued) {
    twin *t = (twin *)b;
    bool unused;
    CHECK(n <= TWIN_SAMPLES_MAX);
    for (uint32_t i = 0; i < n; i++)
        t->requests[i] = requests[i];
    t->n_requests = n;
    twin_seen.steps++;
    COP_TRY(t->ops[0]->step_begin(t->backend[0], step, requests, n, &unused));
    COP_TRY(t->ops[1]->step_begin(t->backend[1], step, requests, n, &t->queued));
    twin_seen.queued += t->queued;
    *queued = false;
    return COP_OK;
}

#define TWIN_BOTH(call, ...)                                                                       \
    do {                                                                                           \
        twin *t = (twin *)b;                                                                       \
        COP_TRY(t->ops[0]->call(t->backend[0], ##__VA_ARGS__));                                    \
        return t->queued ? COP_OK : t->ops[1]->call(t->backend[1], ##__VA_ARGS__);                 \
    } while (0)

static cop_status twin_embed(cop_backend *b) {
    TWIN_BOTH(embed);
}
static cop_status twin_norm(cop_backend *b, cop_norm which, uint32_t layer, bool add_delta) {
    TWIN_BOTH(norm, which, layer, add_delta);
}
static cop_status twin_product(cop_backend *b, cop_product which, uint32_t layer) {
    TWIN_BOTH(product, which, layer);
}
static cop_status twin_append(cop_backend *b, uint32_t layer) {
    TWIN_BOTH(append, layer);
}
static cop_status twin_attention(cop_backend *b, uint32_t layer) {
    TWIN_BOTH(attention, layer);
}
static cop_status twin_activate(cop_backend *b) {
    TWIN_BOTH(activate);
}
static cop_status twin_logits(cop_backend *b) {
    TWIN_BOTH(logits);
}
static cop_status twin_step_end(cop_backend *b) {
    twin *t = (twin *)b;
    COP_TRY(t->ops[0]->step_end(t->backend[0]));
    return t->ops[1]->step_end(t->backend[1]);
}

static void twin_compare(const twin *t, uint32_t i) {
    const cop_sample *cpu = &t->samples[0][i], *cuda = &t->samples[1][i];
    CHECK_EQ(cpu->failed, cuda->failed);
    if (cpu->failed)
        return;
    float largest = 0, worst = 0;
    for (uint32_t v = 0; v < t->vocab; v++) {
        largest = fmaxf(largest, fabsf(t->logits[0][v]));
        worst = fmaxf(worst, fabsf(t->logits[0][v] - t->logits[1][v]));
    }
    twin_seen.rows++;
    twin_seen.equal_logits += memcmp(t->logits[0], t->logits[1], t->vocab * sizeof(float)) == 0;
    const float error = worst / largest;
    twin_seen.worst = error > twin_seen.worst ? error : twin_seen.worst;
    CHECK(error <= twin_bound);
    /* Sampling is a pure function of the logits: the same logits, the same token. Of others at
     * least the best token is the same wherever the margin decides. */
    const float margin = cpu->n_top > 1 ? cpu->top_logprob[0] - cpu->top_logprob[1] : INFINITY;
    if (worst == 0)
        CHECK_EQ(cpu->token, cuda->token);
    if (worst == 0 || margin > 2 * worst)
        CHECK_EQ(cpu->top_token[0], cuda->top_token[0]);
    else
        twin_seen.near_ties++;
    CHECK(fabsf(cpu->logsumexp - cuda->logsumexp) <= worst + 4e-6f * (1 + fabsf(cpu->logsumexp)));
    CHECK(fabsf(cpu->forced_logprob - cuda->forced_logprob) <=
          2 * worst + 4e-6f * (1 + fabsf(cpu->forced_logprob)));
}

static cop_status twin_samples(cop_backend *b, uint32_t n, cop_sample *out) {
    twin *t = (twin *)b;
    for (int side = 0; side < 2; side++)
        COP_TRY(t->ops[side]->samples(t->backend[side], n, t->samples[side]));
    for (uint32_t i = 0; i < n; i++) {
        for (int side = 0; side < 2; side++)
            COP_TRY(t->ops[side]->read_logits(t->backend[side], i, t->logits[side]));
        twin_compare(t, i);
        out[i] = t->samples[0][i];
    }
    return COP_OK;
}

static cop_status twin_read_logits(cop_backend *b, uint32_t request, float *out) {
    twin *t = (twin *)b;
    return t->ops[0]->read_logits(t->backend[0], request, out);
}
static cop_status twin_read_activation(cop_backend *b, cop_activation which, uint32_t row,
                                       float *out) {
    twin *t = (twin *)b;
    return t->ops[0]->read_activation(t->backend[0], which, row, out);
}
static void twin_counters(const cop_backend *b, cop_backend_counters *out) {
    const twin *t = (const twin *)b;
    t->ops[0]->counters(t->backend[0], out);
}

static const cop_backend_ops twin_ops = {
    .name = "twin",
    .create = twin_create,
    .destroy = twin_destroy,
    .describe = twin_describe,
    .products = twin_products,
    .step_begin = twin_step_begin,
    .embed = twin_embed,
    .norm = twin_norm,
    .product = twin_product,
    .append = twin_append,
    .attention = twin_attention,
    .activate = twin_activate,
    .logits = twin_logits,
    .step_end = twin_step_end,
    .samples = twin_samples,
    .read_logits = twin_read_logits,
    .read_activation = twin_read_activation,
    .counters = twin_counters,
};

cop_status __wrap_cop_backend_find(const char *name, const cop_backend_ops **out) {
    if (strcmp(name, "twin") == 0)
        *out = &twin_ops;
    else if (strcmp(name, "cuda") == 0)
        *out = cop_backend_module(COP_BACKEND_ABI);
    else
        *out = &cop_backend_cpu;
    return COP_OK;
}
