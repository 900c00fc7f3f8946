/* The embedded backend: every operation of backend.h on the processor, with OpenMP threads.
 *
 * It owns the activations (f32, row-major; values are rounded where the arithmetic says so), the
 * repacked weights (products.h), the KV pool (attention.h) and the samplers' scratch. cpu.c holds
 * the table and the steps; cpu_create.c builds and takes apart. Internal to the cpu backend.
 */
#pragma once

#include "backend/backend.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/ops.h"
#include "backend/cpu/products.h"
#include "base/mapping.h"

enum { COP_CPU_DESCRIBE_BYTES = 160, COP_CPU_PARALLEL_ROWS = 8 };

typedef struct cop_cpu_layer {
    cop_packed qkv[3], o, gate_up[2], down;
    const float *norm_attn, *norm_ffn;
    cop_cpu_heads heads;
} cop_cpu_layer;

struct cop_backend {
    cop_backend_options options; /* n_threads resolved */
    cop_model_shape shape;
    cop_isa isa;
    char describe[COP_CPU_DESCRIBE_BYTES];

    const cop_tensor *embed; /* borrowed from the model: rows are widened as they are read */
    cop_cpu_layer *layers;
    cop_packed head;
    cop_mapping panels;
    float *vectors; /* all norms and biases, widened: the layers', then the final norm */
    const float *norm_final;

    const cop_cpu_ops *ops;
    cop_products *products;
    cop_cpu_attention *attention;
    cop_rotary rotary;

    uint32_t width[COP_A_COUNT];
    float *activation[COP_A_COUNT]; /* [max_rows, width] */
    float *head_input;              /* [max_samples, hidden] */
    float *logits;        /* [max_samples, vocab]; one row for each row that is asked for */
    uint32_t *logits_row; /* [max_samples] of a request */
    uint32_t *row_logits; /* [max_rows] the logits of a row, or UINT32_MAX */
    const cop_sample_request *requests;
    uint32_t n_logits_rows, n_requests;
    uint8_t *scratch; /* [threads, scratch_bytes] of the samplers */
    size_t scratch_bytes;

    cop_step step;
    bool turns;   /* its views hold segments that float: attention rotates the queries */
    bool *failed; /* [max_rows] */
    bool any_failed;
    cop_backend_counters counters;
};

static inline float *cop_cpu_row(const cop_backend *b, cop_activation which, uint32_t row) {
    return b->activation[which] + (size_t)row * b->width[which];
}

cop_status cop__cpu_create(const cop_model *model, const cop_backend_options *options,
                           cop_backend **out);
void cop__cpu_destroy(cop_backend *backend);
