#include "kv/fold_reference.h"

#include <math.h>
#include <string.h>

#include "kernels/tables.h"

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* x = n + r with n the nearest integer and |r| <= 1/2, which is exact; 2^r by its minimax
 * polynomial of degree 6 with constant 1, so that integers give exact powers; 2^n by adding n to
 * the exponent. Adding 1.5 * 2^23 rounds to the integer and leaves n in the low bits of the sum. At
 * x = 128 the exponent becomes that of infinity. */
float cop_exp2(float x) {
    const float magic = 0x1.8p23f;
    float clamped = x > 128.0f ? 128.0f : x;
    float shifted = clamped + magic;
    float r = clamped - (shifted - magic);
    float y = 0x1.41fbbap-13f;
    y = fmaf(y, r, 0x1.5f3e52p-10f);
    y = fmaf(y, r, 0x1.3b2d4cp-7f);
    y = fmaf(y, r, 0x1.c6aee8p-5f);
    y = fmaf(y, r, 0x1.ebfbdcp-3f);
    y = fmaf(y, r, 0x1.62e430p-1f);
    y = fmaf(y, r, 1.0f);
    float scaled = float_of(bits_of(y) + (bits_of(shifted) << 23));
    if (x < -126.0f)
        return 0.0f;
    return x != x ? x : scaled;
}

uint16_t cop_bf16_from_f32(float x) {
    uint32_t bits = bits_of(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 |
                          0x40); /* quiet: a payload in the low half must not give inf */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

float cop_f32_from_bf16(uint16_t bits) {
    return float_of((uint32_t)bits << 16);
}

void cop_fold_reset(cop_fold *fold, float *o, uint32_t d, float c, bool round_p) {
    *fold = (cop_fold){.m = -INFINITY, .o = o, .d = d, .c = c, .round_p = round_p};
    for (uint32_t i = 0; i < d; i++)
        o[i] = 0.0f;
}

/* The maximum that is subtracted: an empty row's -inf would give (-inf) - (-inf). */
static float finite_max(float m) {
    return m == -INFINITY ? 0.0f : m;
}

static void fold_sums(cop_fold *fold, const float p[COP_LEAF_TOKENS], float f) {
    for (uint32_t t = 0; t < 4; t++) {
        float g[COP_LEAF_TOKENS / 16];
        for (uint32_t b = 0; b < COP_LEAF_TOKENS / 16; b++) {
            const float *q = p + 16 * b + 2 * t;
            g[b] = (q[0] + q[1]) + (q[8] + q[9]);
        }
        fold->l[t] = fmaf(fold->l[t], f, ((g[0] + g[1]) + g[2]) + g[3]);
    }
}

void cop_fold_leaf(cop_fold *fold, const float *q, const float *k, const float *v, uint32_t tokens,
                   uint32_t k_stride, uint32_t v_stride) {
    if (tokens == 0)
        return;
    float s[COP_LEAF_TOKENS], p[COP_LEAF_TOKENS] = {0};
    float m = fold->m;
    for (uint32_t j = 0; j < tokens; j++) {
        const float *key = k + (size_t)j * k_stride;
        s[j] = 0.0f;
        for (uint32_t i = 0; i < fold->d; i++)
            s[j] = fmaf(q[i], key[i], s[j]);
        m = s[j] > m ? s[j] : m;
    }
    const float base = finite_max(m), c = fold->c;
    const float f = cop_exp2((fold->m - base) * c);
    const float shift = -(base * c);
    for (uint32_t j = 0; j < tokens; j++)
        p[j] = cop_exp2(fmaf(s[j], c, shift));
    fold_sums(fold, p, f);
    for (uint32_t j = 0; j < tokens && fold->round_p; j++)
        p[j] = cop_f32_from_bf16(cop_bf16_from_f32(p[j]));
    for (uint32_t i = 0; i < fold->d; i++)
        fold->o[i] *= f;
    for (uint32_t j = 0; j < tokens; j++) {
        const float *value = v + (size_t)j * v_stride;
        for (uint32_t i = 0; i < fold->d; i++)
            fold->o[i] = fmaf(p[j], value[i], fold->o[i]);
    }
    fold->m = m;
}

float cop_fold_sum(const cop_fold *fold) {
    return (fold->l[0] + fold->l[1]) + (fold->l[2] + fold->l[3]);
}

float cop_fold_merge(const float *o, uint32_t o_stride, const float *m, const float *l, uint32_t n,
                     uint32_t d, float c, float *out) {
    float top = -INFINITY, total = 0.0f;
    for (uint32_t p = 0; p < n; p++)
        top = m[p] > top ? m[p] : top;
    const float base = finite_max(top);
    for (uint32_t i = 0; i < d; i++)
        out[i] = 0.0f;
    for (uint32_t p = 0; p < n; p++) {
        const float w = cop_exp2((m[p] - base) * c);
        total = fmaf(l[p], w, total);
        for (uint32_t i = 0; i < d; i++)
            out[i] = fmaf(o[(size_t)p * o_stride + i], w, out[i]);
    }
    if (total == 0.0f) { /* no key, or none above -inf: 0 * (1 / 0) would be NaN */
        for (uint32_t i = 0; i < d; i++)
            out[i] = 0.0f;
        return -INFINITY;
    }
    const float reciprocal = 1.0f / total;
    for (uint32_t i = 0; i < d; i++)
        out[i] = out[i] * reciprocal + 0.0f;
    return top * c + log2f(total);
}
