#include "backend/cpu/ops.h"

#include "base/memory.h"

extern const cop_cpu_ops cop__cpu_ops_portable;
#if defined(__x86_64__)
extern const cop_cpu_ops cop__cpu_ops_avx2;
#endif

const cop_cpu_ops *cop_cpu_ops_for(cop_isa isa) {
#if defined(__x86_64__)
    if (isa != COP_ISA_PORTABLE)
        return &cop__cpu_ops_avx2; /* rows are short: wider vectors would not show */
#endif
    (void)isa;
    return &cop__cpu_ops_portable;
}

#define COP_OPS_TABLE cop__cpu_ops_portable
#include "backend/cpu/ops_body.h"

static void bias_and_norm(const cop_cpu_ops *ops, const cop_cpu_heads *heads, float *qkv) {
    const uint32_t d = heads->head_dim, turned = heads->n_heads + heads->n_kv_heads;
    if (heads->bias)
        ops->add(qkv, heads->bias, (turned + heads->n_kv_heads) * d, heads->round);
    for (uint32_t h = 0; heads->q_norm && h < turned; h++) {
        float *head = qkv + (size_t)h * d;
        const float *weight = h < heads->n_heads ? heads->q_norm : heads->k_norm;
        ops->norm(head, weight, d, heads->eps, heads->round, head);
    }
}

void cop_cpu_heads_run(const cop_cpu_ops *ops, const cop_cpu_heads *heads, const float *cosine,
                       const float *sine, float *qkv) {
    bias_and_norm(ops, heads, qkv);
    (heads->rope_halves ? ops->rotate_halves : ops->rotate)(qkv, heads->n_heads + heads->n_kv_heads,
                                                            heads->head_dim, cosine, sine);
}

void cop_cpu_heads_run_keys(const cop_cpu_ops *ops, const cop_cpu_heads *heads, const float *cosine,
                            const float *sine, float *qkv) {
    bias_and_norm(ops, heads, qkv);
    (heads->rope_halves ? ops->rotate_halves
                        : ops->rotate)(qkv + (size_t)heads->n_heads * heads->head_dim,
                                       heads->n_kv_heads, heads->head_dim, cosine, sine);
}

cop_status cop_rotary_create(uint32_t n_positions, uint32_t head_dim, double theta,
                             uint32_t n_threads, cop_rotary *out) {
    cop_rotary rotary = {.n_positions = n_positions, .half = head_dim / 2};
    const size_t count = (size_t)n_positions * rotary.half;
    rotary.cosine = cop_calloc(count, sizeof(float));
    rotary.sine = cop_calloc(count, sizeof(float));
    double *step = cop_calloc(rotary.half, sizeof *step);
    if (!rotary.cosine || !rotary.sine || !step) {
        cop_free(step);
        cop_rotary_release(&rotary);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the rotary tables of %u positions",
                        n_positions);
    }
    for (uint32_t i = 0; i < rotary.half; i++)
        step[i] = pow(theta, -2.0 * i / head_dim);
#pragma omp parallel for schedule(static) num_threads((int)n_threads)
    for (uint32_t p = 0; p < n_positions; p++) {
        for (uint32_t i = 0; i < rotary.half; i++) {
            const double angle = p * step[i];
            rotary.cosine[(size_t)p * rotary.half + i] = (float)cos(angle);
            rotary.sine[(size_t)p * rotary.half + i] = (float)sin(angle);
        }
    }
    cop_free(step);
    *out = rotary;
    return COP_OK;
}

void cop_rotary_release(cop_rotary *rotary) {
    cop_free(rotary->cosine);
    cop_free(rotary->sine);
    *rotary = (cop_rotary){0};
}
