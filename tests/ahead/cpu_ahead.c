/* The cpu backend with one step queued ahead, for tests of the engine alone: a module, found under
 * the name "cpu_ahead" beside the test. Samples are drawn when a step ends and handed out later, in
 * order; COP_TOKEN_SAMPLED is looked up as a device would, by row, and refused where no request or
 * more than one named that row. */
#include <string.h>

#include "backend/backend.h"
#include "base/memory.h"

enum { STEPS = 2, NOBODY = -2, MANY = -3 };

typedef struct pending {
    cop_sample *samples;
    uint32_t n;
} pending;

struct cop_backend {
    void *inner; /* of cop_backend_cpu */
    uint32_t max_rows;
    int32_t *next; /* [max_rows] what the last step sampled for a row, NOBODY, or MANY */
    int32_t *token;
    const cop_sample_request *requests;
    uint32_t n_requests, n_rows;
    pending steps[STEPS]; /* the oldest first */
    uint32_t n_steps;
};

static cop_backend *inner(const cop_backend *b) {
    return b->inner;
}

static void ahead_destroy(cop_backend *b) {
    if (!b)
        return;
    cop_backend_cpu.destroy(b->inner);
    for (uint32_t i = 0; i < STEPS; i++)
        cop_free(b->steps[i].samples);
    cop_free(b->next);
    cop_free(b->token);
    cop_free(b);
}

static cop_status ahead_create(const cop_model *model, const cop_backend_options *options,
                               cop_backend **out) {
    cop_backend *b = cop_calloc(1, sizeof *b), *cpu = NULL;
    cop_status status = b ? cop_backend_cpu.create(model, options, &cpu)
                          : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for cpu_ahead");
    if (status != COP_OK) {
        cop_free(b);
        return status;
    }
    b->inner = cpu;
    b->max_rows = options->max_rows;
    b->next = cop_calloc(options->max_rows, sizeof *b->next);
    b->token = cop_calloc(options->max_rows, sizeof *b->token);
    bool whole = b->next && b->token;
    for (uint32_t i = 0; i < STEPS; i++) {
        b->steps[i].samples = cop_calloc(options->max_samples, sizeof *b->steps[i].samples);
        whole = whole && b->steps[i].samples;
    }
    if (!whole) {
        ahead_destroy(b);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for cpu_ahead");
    }
    *out = b;
    return COP_OK;
}

static cop_status ahead_step_begin(cop_backend *b, const cop_step *step,
                                   const cop_sample_request *requests, uint32_t n, bool *queued) {
    cop_step resolved = *step;
    if (b->n_steps == STEPS)
        return COP_FAIL(COP_ERR_INTERNAL, "a third step was begun");
    for (uint32_t row = 0; row < step->n_rows && row < b->max_rows; row++) {
        b->token[row] = step->token[row];
        if (b->token[row] != COP_TOKEN_SAMPLED)
            continue;
        if (row >= b->n_rows || b->next[row] < 0)
            return COP_FAIL(COP_ERR_INTERNAL, "row %u: no single request named it before", row);
        b->token[row] = b->next[row];
    }
    resolved.token = b->token;
    b->requests = requests;
    b->n_requests = n;
    b->n_rows = step->n_rows;
    return cop_backend_cpu.step_begin(inner(b), &resolved, requests, n, queued);
}

static cop_status ahead_step_end(cop_backend *b) {
    COP_TRY(cop_backend_cpu.step_end(inner(b)));
    for (uint32_t row = 0; row < b->n_rows; row++)
        b->next[row] = NOBODY;
    if (b->n_requests == 0)
        return COP_OK;
    pending *p = &b->steps[b->n_steps++];
    p->n = b->n_requests;
    COP_TRY(cop_backend_cpu.samples(inner(b), p->n, p->samples));
    for (uint32_t i = 0; i < p->n; i++) {
        const cop_sample_request *r = &b->requests[i];
        const int32_t token = r->forced >= 0 ? r->forced : p->samples[i].token;
        b->next[r->row] = b->next[r->row] == NOBODY ? token : MANY;
    }
    return COP_OK;
}

static cop_status ahead_samples(cop_backend *b, uint32_t n, cop_sample *out) {
    const pending oldest = b->steps[0];
    if (b->n_steps == 0 || oldest.n != n)
        return COP_FAIL(COP_ERR_INTERNAL, "%u samples: the oldest step has %u", n, oldest.n);
    memcpy(out, oldest.samples, n * sizeof *out);
    b->steps[0] = b->steps[1];
    b->steps[1] = oldest;
    b->n_steps--;
    return COP_OK;
}

static const char *ahead_describe(const cop_backend *b) {
    return cop_backend_cpu.describe(inner(b));
}
static cop_products_mode ahead_products(const cop_backend *b) {
    return cop_backend_cpu.products(inner(b));
}
static cop_status ahead_embed(cop_backend *b) {
    return cop_backend_cpu.embed(inner(b));
}
static cop_status ahead_norm(cop_backend *b, cop_norm which, uint32_t layer, bool add_delta) {
    return cop_backend_cpu.norm(inner(b), which, layer, add_delta);
}
static cop_status ahead_product(cop_backend *b, cop_product which, uint32_t layer) {
    return cop_backend_cpu.product(inner(b), which, layer);
}
static cop_status ahead_append(cop_backend *b, uint32_t layer) {
    return cop_backend_cpu.append(inner(b), layer);
}
static cop_status ahead_attention(cop_backend *b, uint32_t layer) {
    return cop_backend_cpu.attention(inner(b), layer);
}
static cop_status ahead_activate(cop_backend *b) {
    return cop_backend_cpu.activate(inner(b));
}
static cop_status ahead_logits(cop_backend *b) {
    return cop_backend_cpu.logits(inner(b));
}
static cop_status ahead_read_logits(cop_backend *b, uint32_t request, float *out) {
    return cop_backend_cpu.read_logits(inner(b), request, out);
}
static cop_status ahead_read_activation(cop_backend *b, cop_activation which, uint32_t row,
                                        float *out) {
    return cop_backend_cpu.read_activation(inner(b), which, row, out);
}
static void ahead_counters(const cop_backend *b, cop_backend_counters *out) {
    cop_backend_cpu.counters(inner(b), out);
}

const cop_backend_ops *cop_backend_module(uint32_t abi);
__attribute__((visibility("default"))) const cop_backend_ops *cop_backend_module(uint32_t abi) {
    static const cop_backend_ops ops = {
        .name = "cpu_ahead",
        .steps_ahead = 1,
        .create = ahead_create,
        .destroy = ahead_destroy,
        .describe = ahead_describe,
        .products = ahead_products,
        .step_begin = ahead_step_begin,
        .embed = ahead_embed,
        .norm = ahead_norm,
        .product = ahead_product,
        .append = ahead_append,
        .attention = ahead_attention,
        .activate = ahead_activate,
        .logits = ahead_logits,
        .step_end = ahead_step_end,
        .samples = ahead_samples,
        .read_logits = ahead_read_logits,
        .read_activation = ahead_read_activation,
        .counters = ahead_counters,
    };
    return abi == COP_BACKEND_ABI ? &ops : NULL;
}
