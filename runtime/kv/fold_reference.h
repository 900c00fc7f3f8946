/* The canonical arithmetic of attention for one row, in plain C. FROZEN INTERFACE AND BITS.
 *
 * The cpu backend, the CUDA kernels (up to the rounding of the tensor cores and of ex2) and the
 * tests all refer to this file. Over the leaves of a row's view, in order:
 *
 *   s[j]  = fma chain over i = 0 .. d-1 of q[i] * k[j][i], from 0        (unscaled scores)
 *   m'    = max(m, max_j s[j]);  M = m' == -inf ? 0 : m'
 *   f     = exp2((m - M) * c)                          c = scale * log2(e), rounded to f32 once
 *   p[j]  = exp2(fma(s[j], c, -(M * c)))               unseen tokens: p = 0
 *   l[t]  = fma(l[t], f, ((g0 + g1) + g2) + g3)        four lanes t = 0 .. 3, with for each 16 keys
 *           g_b = (p[16b+2t] + p[16b+2t+1]) + (p[16b+2t+8] + p[16b+2t+9])
 *   o[i]  = o[i] * f, then fma chain over j ascending of P(p[j]) * v[j][i]
 *           P rounds p to bf16 for arithmetics with a bf16 pool, and is the identity for f32
 *   m     = m'
 *
 * A chunk's partial is (o, m, l = (l[0] + l[1]) + (l[2] + l[3])). Partials merge in index order:
 *   m* = max m_i (M* as above);  w_i = exp2((m_i - M*) * c);  L = fma chain l_i * w_i from 0;
 *   O  = fma chain o_i * w_i from 0;   out = (O * (1 / L)) + 0;   lse2 = m* * c + log2(L)
 * A row with one chunk goes through the same formulas (w = 1). No key at all: out = 0, lse = -inf.
 * A leaf that a row does not see is a no-op, to the bit; so is a key that it does not see.
 *
 * Max ignores nothing: scores are finite or -inf here (append refuses the rest).
 * Source: online softmax, Milakov and Gimelshein 2018; FlashAttention-2 (2023), section 3.1.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* 2^x by a fixed sequence of correctly rounded f32 operations: the one exp2 of every CPU path.
 * x <= -150 and -inf give 0; x >= 128 gives +inf; error below 2 ulp for normal results; results
 * below 2^-126 are flushed to 0. */
float cop_exp2(float x);

/* f32 -> bf16 bits, round to nearest even; NaN stays NaN. And back. */
uint16_t cop_bf16_from_f32(float x);
float cop_f32_from_bf16(uint16_t bits);

typedef struct cop_fold { /* one row, one chunk; create with cop_fold_reset */
    float m;
    float l[4];
    float *o; /* [d], the caller's */
    uint32_t d;
    float c;
    bool round_p; /* P rounds to bf16 */
} cop_fold;

void cop_fold_reset(cop_fold *fold, float *o, uint32_t d, float c, bool round_p);

/* One leaf of `tokens` <= 64 keys that the row sees (a prefix of the leaf): q [d], k [tokens, d]
 * and v [tokens, d] as f32 values, row strides in elements. */
void cop_fold_leaf(cop_fold *fold, const float *q, const float *k, const float *v, uint32_t tokens,
                   uint32_t k_stride, uint32_t v_stride);

float cop_fold_sum(const cop_fold *fold); /* l of the chunk's partial */

/* Merges n partials: o [n, d] with row stride o_stride, m [n], l [n]; writes out [d]; returns lse
 * in base 2. n = 0 gives zeros and -inf. */
float cop_fold_merge(const float *o, uint32_t o_stride, const float *m, const float *l, uint32_t n,
                     uint32_t d, float c, float *out);
