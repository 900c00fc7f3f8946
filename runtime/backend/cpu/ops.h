/* The cpu backend's operations on single rows besides products and attention: residual add, norm,
 * what happens to Q, K and V before attention (bias, norm of each head, rotary embedding),
 * silu(gate) * up. Pure functions over the caller's memory.
 *
 * Every operation has one order (backend/arith.h), so all instruction sets give the same bits.
 * Where arith.h leaves a choice: a rotary pair (a, b) becomes (a cos - b sin, b cos + a sin), each
 * product rounded; cosines and sines are computed in double and rounded once. `round` rounds
 * results to bf16, as cop_bf16_from_f32 does. The kernels of step.h give these bits too.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "backend/cpu/isa.h"
#include "base/status.h"

typedef struct cop_cpu_ops {
    void (*round)(float *x, uint32_t n);
    bool (*finite)(const float *x, uint32_t n);
    void (*add)(float *x, const float *delta, uint32_t n, bool round);
    /* out may be x. */
    void (*norm)(const float *x, const float *weight, uint32_t n, float eps, bool round,
                 float *out);
    /* heads [n_heads, head_dim] in place; cosine and sine [head_dim / 2] of the row's position.
     * Pairs are neighbours, (2i, 2i + 1), or halves of a head, (i, i + head_dim / 2). */
    void (*rotate)(float *heads, uint32_t n_heads, uint32_t head_dim, const float *cosine,
                   const float *sine);
    void (*rotate_halves)(float *heads, uint32_t n_heads, uint32_t head_dim, const float *cosine,
                          const float *sine);
    void (*silu_mul)(const float *gate, const float *up, uint32_t n, bool round, float *out);
} cop_cpu_ops;

const cop_cpu_ops *cop_cpu_ops_for(cop_isa isa);

/* What a layer does to a row's Q, K and V between their product and attention. */
typedef struct cop_cpu_heads {
    uint32_t n_heads, n_kv_heads, head_dim;
    const float *bias;            /* [(n_heads + 2 n_kv_heads) head_dim], or NULL */
    const float *q_norm, *k_norm; /* [head_dim], both or neither */
    float eps;
    bool rope_halves;
    bool round; /* to bf16 after the bias and after the norm */
} cop_cpu_heads;

/* qkv [(n_heads + 2 n_kv_heads) head_dim] in place. The rotated values are not rounded: the caller
 * does that, since a pool of bf16 takes rounded values whatever `round` says. */
void cop_cpu_heads_run(const cop_cpu_ops *ops, const cop_cpu_heads *heads, const float *cosine,
                       const float *sine, float *qkv);
/* The same, but Q is not rotated: attention turns it for each entry. */
void cop_cpu_heads_run_keys(const cop_cpu_ops *ops, const cop_cpu_heads *heads, const float *cosine,
                            const float *sine, float *qkv);

/* cos and sin of position * theta^(-2i/d), i < d/2, for positions below n_positions. */
typedef struct cop_rotary {
    uint32_t n_positions, half;
    float *cosine, *sine; /* [n_positions, half] */
} cop_rotary;

cop_status cop_rotary_create(uint32_t n_positions, uint32_t head_dim, double theta,
                             uint32_t n_threads, cop_rotary *out);
void cop_rotary_release(cop_rotary *rotary);
