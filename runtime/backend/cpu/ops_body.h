/* The row operations, compiled once for each instruction set by the file that includes this one and
 * names its table COP_OPS_TABLE. Loops are written so that the compiler makes vectors of them
 * without changing the order of any sum; the one sum with lanes has an explicit AVX2 form. */
#include <math.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "backend/cpu/ops.h"

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float to_bf16(float x) {
    const uint32_t bits = bits_of(x);
    const uint32_t near = (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u;
    const uint32_t nan = (bits | 0x400000u) & 0xffff0000u;
    return float_of((bits & 0x7fffffffu) > 0x7f800000u ? nan : near);
}

/* cop_exp2 of kv/fold_reference.c, operation for operation, where the compiler can see it. Choices
 * are masks of bits: float operations may trap, so a compiler keeps them behind a branch. */
static inline float exp2_of(float x) {
    const uint32_t bits = bits_of(x), top = 0x43000000u, bottom = 0xc2fc0000u; /* 128, -126 */
    const float magic = 0x1.8p23f;
    const float clamped = float_of((int32_t)bits > (int32_t)top ? top : bits);
    const float shifted = clamped + magic;
    const float r = clamped - (shifted - magic);
    float y = 0x1.41fbbap-13f;
    y = fmaf(y, r, 0x1.5f3e52p-10f);
    y = fmaf(y, r, 0x1.3b2d4cp-7f);
    y = fmaf(y, r, 0x1.c6aee8p-5f);
    y = fmaf(y, r, 0x1.ebfbdcp-3f);
    y = fmaf(y, r, 0x1.62e430p-1f);
    y = fmaf(y, r, 1.0f);
    const uint32_t scaled = bits_of(y) + (bits_of(shifted) << 23);
    const uint32_t keep = bits > bottom ? 0u : ~0u;
    const uint32_t nan = (bits & 0x7fffffffu) > 0x7f800000u ? ~0u : 0u;
    return float_of((scaled & keep & ~nan) | (bits & nan));
}

static void round_row(float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        x[i] = to_bf16(x[i]);
}

static bool finite_row(const float *x, uint32_t n) {
    uint32_t bad = 0;
    for (uint32_t i = 0; i < n; i++)
        bad |= (bits_of(x[i]) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
    return bad == 0;
}

static void add_row(float *x, const float *delta, uint32_t n, bool round) {
    for (uint32_t i = 0; i < n; i++)
        x[i] += delta[i];
    if (round)
        round_row(x, n);
}

static float sum_of_squares(const float *x, uint32_t n) {
    float lane[8] = {0};
    uint32_t i = 0;
#if defined(__AVX2__)
    __m256 sum = _mm256_setzero_ps();
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        sum = _mm256_fmadd_ps(v, v, sum);
    }
    _mm256_storeu_ps(lane, sum);
#endif
    for (; i < n; i++)
        lane[i % 8] = fmaf(x[i], x[i], lane[i % 8]);
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
           ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

static void norm_row(const float *x, const float *weight, uint32_t n, float eps, bool round,
                     float *out) {
    const float r = 1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++)
        out[i] = x[i] * r * weight[i];
    if (round)
        round_row(out, n);
}

static void rotate_row(float *heads, uint32_t n_heads, uint32_t head_dim, const float *cosine,
                       const float *sine) {
    for (uint32_t h = 0; h < n_heads; h++) {
        float *head = heads + (size_t)h * head_dim;
        for (uint32_t i = 0; i < head_dim / 2; i++) {
            const float a = head[2 * i], b = head[2 * i + 1];
            head[2 * i] = a * cosine[i] - b * sine[i];
            head[2 * i + 1] = b * cosine[i] + a * sine[i];
        }
    }
}

static void rotate_halves_row(float *heads, uint32_t n_heads, uint32_t head_dim,
                              const float *restrict cosine, const float *restrict sine) {
    const uint32_t half = head_dim / 2;
    for (uint32_t h = 0; h < n_heads; h++) {
        float *restrict low = heads + (size_t)h * head_dim, *restrict high = low + half;
        for (uint32_t i = 0; i < half; i++) {
            const float a = low[i], b = high[i];
            low[i] = a * cosine[i] - b * sine[i];
            high[i] = b * cosine[i] + a * sine[i];
        }
    }
}

static void silu_mul_row(const float *restrict gate, const float *restrict up, uint32_t n,
                         bool round, float *restrict out) {
    const float log2_e = 0x1.715476p+0f;
    for (uint32_t i = 0; i < n; i++)
        out[i] = gate[i] / (1.0f + exp2_of(-gate[i] * log2_e)) * up[i];
    if (round)
        round_row(out, n);
}

const cop_cpu_ops COP_OPS_TABLE = {
    .round = round_row,
    .finite = finite_row,
    .add = add_row,
    .norm = norm_row,
    .rotate = rotate_row,
    .rotate_halves = rotate_halves_row,
    .silu_mul = silu_mul_row,
};
