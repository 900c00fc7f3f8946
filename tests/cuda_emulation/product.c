#include "cuda_emulation/product.h"

#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A tile has LANES outputs along m, packed side by side for every k, and up to ROWS along n. */
enum { LANES = 16, ROWS = 6 };

/* sums[row][lane] = chain over k of a[k][lane] * b[row][k]; `rows` is 1 .. ROWS. */
typedef void tile_run(const float *a, const float *b, size_t k, size_t b_stride, int rows,
                      float sums[ROWS][LANES]);

static float from_bf16(uint16_t bits) {
    const uint32_t word = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &word, sizeof x);
    return x;
}

static uint16_t to_bf16(float x) { /* to nearest even; a NaN stays one */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void tile_portable(const float *a, const float *b, size_t k, size_t b_stride, int rows,
                          float sums[ROWS][LANES]) {
    for (int r = 0; r < rows; r++) {
        float acc[LANES] = {0};
        for (size_t i = 0; i < k; i++)
            for (int lane = 0; lane < LANES; lane++)
                acc[lane] = fmaf(a[i * LANES + lane], b[(size_t)r * b_stride + i], acc[lane]);
        memcpy(sums[r], acc, sizeof acc);
    }
}

__attribute__((target("avx2,fma"))) static inline void rows_avx2(const float *a, const float *b,
                                                                 size_t k, size_t b_stride,
                                                                 int rows,
                                                                 float sums[ROWS][LANES]) {
    __m256 acc[ROWS][2];
    for (int r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    for (size_t i = 0; i < k; i++) {
        const __m256 a0 = _mm256_load_ps(a + i * LANES), a1 = _mm256_load_ps(a + i * LANES + 8);
        for (int r = 0; r < rows; r++) {
            const __m256 x = _mm256_broadcast_ss(b + (size_t)r * b_stride + i);
            acc[r][0] = _mm256_fmadd_ps(a0, x, acc[r][0]);
            acc[r][1] = _mm256_fmadd_ps(a1, x, acc[r][1]);
        }
    }
    for (int r = 0; r < rows; r++) {
        _mm256_storeu_ps(sums[r], acc[r][0]);
        _mm256_storeu_ps(sums[r] + 8, acc[r][1]);
    }
}

/* The number of rows is a constant in each call, so that the sums stay in registers. */
__attribute__((target("avx2,fma"))) static void tile_avx2(const float *a, const float *b, size_t k,
                                                          size_t b_stride, int rows,
                                                          float sums[ROWS][LANES]) {
    switch (rows) {
    case 1:
        rows_avx2(a, b, k, b_stride, 1, sums);
        break;
    case 2:
        rows_avx2(a, b, k, b_stride, 2, sums);
        break;
    case 3:
        rows_avx2(a, b, k, b_stride, 3, sums);
        break;
    case 4:
        rows_avx2(a, b, k, b_stride, 4, sums);
        break;
    case 5:
        rows_avx2(a, b, k, b_stride, 5, sums);
        break;
    default:
        rows_avx2(a, b, k, b_stride, 6, sums);
    }
}

__attribute__((target("avx512f"))) static inline void rows_avx512(const float *a, const float *b,
                                                                  size_t k, size_t b_stride,
                                                                  int rows,
                                                                  float sums[ROWS][LANES]) {
    __m512 acc[ROWS];
    for (int r = 0; r < rows; r++)
        acc[r] = _mm512_setzero_ps();
    for (size_t i = 0; i < k; i++) {
        const __m512 a0 = _mm512_load_ps(a + i * LANES);
        for (int r = 0; r < rows; r++)
            acc[r] = _mm512_fmadd_ps(a0, _mm512_set1_ps(b[(size_t)r * b_stride + i]), acc[r]);
    }
    for (int r = 0; r < rows; r++)
        _mm512_storeu_ps(sums[r], acc[r]);
}

__attribute__((target("avx512f"))) static void tile_avx512(const float *a, const float *b, size_t k,
                                                           size_t b_stride, int rows,
                                                           float sums[ROWS][LANES]) {
    switch (rows) {
    case 1:
        rows_avx512(a, b, k, b_stride, 1, sums);
        break;
    case 2:
        rows_avx512(a, b, k, b_stride, 2, sums);
        break;
    case 3:
        rows_avx512(a, b, k, b_stride, 3, sums);
        break;
    case 4:
        rows_avx512(a, b, k, b_stride, 4, sums);
        break;
    case 5:
        rows_avx512(a, b, k, b_stride, 5, sums);
        break;
    default:
        rows_avx512(a, b, k, b_stride, 6, sums);
    }
}

static tile_run *chosen;

bool cemu_product_select(const char *name) {
    __builtin_cpu_init();
    const bool avx512 = __builtin_cpu_supports("avx512f");
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (name ? strcmp(name, "avx512") == 0 && avx512 : avx512)
        chosen = tile_avx512;
    else if (name ? strcmp(name, "avx2") == 0 && avx2 : avx2)
        chosen = tile_avx2;
    else if (!name || strcmp(name, "portable") == 0)
        chosen = tile_portable;
    else
        return false;
    return true;
}

static size_t span(bool transposed, int rows, int columns, int ld) { /* of op(x)[rows x columns] */
    const int stored_rows = transposed ? columns : rows, stored = transposed ? rows : columns;
    return stored_rows && stored ? (size_t)ld * (size_t)(stored - 1) + (size_t)stored_rows : 0;
}

size_t cemu_product_a_bytes(const cemu_product *p) {
    return span(p->transpose_a, p->m, p->k, p->lda) * 2;
}

size_t cemu_product_b_bytes(const cemu_product *p) {
    return span(p->transpose_b, p->k, p->n, p->ldb) * 2;
}

size_t cemu_product_c_bytes(const cemu_product *p) {
    return span(false, p->m, p->n, p->ldc) * (p->c_f32 ? 4 : 2);
}

/* Eight outputs' next eight values of k, turned so that the outputs lie side by side. */
static void turn_8x8(const uint16_t *from, size_t ld, float *to) {
    __m128i r[8], s[8];
    for (int i = 0; i < 8; i++)
        r[i] = _mm_loadu_si128((const __m128i *)(const void *)(from + (size_t)i * ld));
    for (int i = 0; i < 4; i++) {
        s[2 * i] = _mm_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
        s[2 * i + 1] = _mm_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        r[4 * i] = _mm_unpacklo_epi32(s[4 * i], s[4 * i + 2]);
        r[4 * i + 1] = _mm_unpackhi_epi32(s[4 * i], s[4 * i + 2]);
        r[4 * i + 2] = _mm_unpacklo_epi32(s[4 * i + 1], s[4 * i + 3]);
        r[4 * i + 3] = _mm_unpackhi_epi32(s[4 * i + 1], s[4 * i + 3]);
    }
    const __m128i zero = _mm_setzero_si128();
    for (int i = 0; i < 8; i++) { /* k = i: four outputs in r[i / 2], four in r[i / 2 + 4] */
        const __m128i eight = i % 2 ? _mm_unpackhi_epi64(r[i / 2], r[i / 2 + 4])
                                    : _mm_unpacklo_epi64(r[i / 2], r[i / 2 + 4]);
        float *out = to + (size_t)i * LANES;
        _mm_storeu_ps(out, _mm_castsi128_ps(_mm_unpacklo_epi16(zero, eight)));
        _mm_storeu_ps(out + 4, _mm_castsi128_ps(_mm_unpackhi_epi16(zero, eight)));
    }
}

static float a_at(const cemu_product *p, int row, int k) {
    return from_bf16(p->transpose_a ? p->a[(size_t)row * (size_t)p->lda + (size_t)k]
                                    : p->a[(size_t)k * (size_t)p->lda + (size_t)row]);
}

/* LANES outputs from `row` on; lanes past the last one are zeros. */
static void pack_a(const cemu_product *p, int row, float *to) {
    const int lanes = p->m - row < LANES ? p->m - row : LANES;
    int k = 0;
    if (p->transpose_a && lanes == LANES)
        for (; k + 8 <= p->k; k += 8)
            for (int half = 0; half < LANES; half += 8)
                turn_8x8(p->a + (size_t)(row + half) * (size_t)p->lda + (size_t)k, (size_t)p->lda,
                         to + (size_t)k * LANES + half);
    for (; k < p->k; k++)
        for (int lane = 0; lane < LANES; lane++)
            to[(size_t)k * LANES + (size_t)lane] = lane < lanes ? a_at(p, row + lane, k) : 0.0f;
}

static void pack_b(const cemu_product *p, float *to) {
    for (int column = 0; column < p->n; column++)
        for (int k = 0; k < p->k; k++)
            to[(size_t)column * (size_t)p->k + (size_t)k] =
                from_bf16(p->transpose_b ? p->b[(size_t)k * (size_t)p->ldb + (size_t)column]
                                         : p->b[(size_t)column * (size_t)p->ldb + (size_t)k]);
}

static void store(const cemu_product *p, int row, int column, const float *sums) {
    const int lanes = p->m - row < LANES ? p->m - row : LANES;
    const size_t at = (size_t)column * (size_t)p->ldc + (size_t)row;
    if (p->c_f32) {
        memcpy((float *)p->c + at, sums, (size_t)lanes * sizeof *sums);
        return;
    }
    for (int lane = 0; lane < lanes; lane++)
        ((uint16_t *)p->c)[at + (size_t)lane] = to_bf16(sums[lane]);
}

bool cemu_product_run(const cemu_product *p) {
    const size_t k = (size_t)p->k;
    if (p->m == 0 || p->n == 0)
        return true;
    if (!chosen)
        cemu_product_select(NULL);
    float *a = aligned_alloc(64, (k * LANES * sizeof *a + 127) / 64 * 64);
    float *b = malloc((k * (size_t)p->n + 1) * sizeof *b);
    if (a && b) {
        pack_b(p, b);
        for (int row = 0; row < p->m; row += LANES) {
            pack_a(p, row, a);
            for (int column = 0; column < p->n; column += ROWS) {
                const int rows = p->n - column < ROWS ? p->n - column : ROWS;
                float sums[ROWS][LANES];
                chosen(a, b + (size_t)column * k, k, k, rows, sums);
                for (int r = 0; r < rows; r++)
                    store(p, row, column + r, sums[r]);
            }
        }
    }
    const bool ok = a && b;
    free(a);
    free(b);
    return ok;
}
