/* The products with f32 inputs in AVX-512: register tiles of up to 4 panels x 3 rows (few rows:
 * many chains in flight, one pass over the weights) or 2 panels x 6 rows (many rows: each weight
 * that is decoded serves six rows). The order of every chain is products_portable.c's. */
#include "backend/cpu/products_tiles.h"

#if defined(__AVX512F__)
#include <immintrin.h>

enum { LANES = 16, VECTORS_MAX = 8, ROWS_MAX = 6, PANEL_VECTORS = COP_PANEL_OUTPUTS / LANES };

typedef struct tile {
    const uint8_t *panel;
    size_t panel_bytes;
    uint32_t k0, k1;
    const float *x, *sx;
    size_t x_stride, block_stride;
    float *y;
    size_t y_stride;
    bool q4_0, has_m;
} tile;

COP_ALWAYS_INLINE const uint8_t *panel_of(const tile *t, int vector) {
    return t->panel + (size_t)(vector / PANEL_VECTORS) * t->panel_bytes;
}

COP_ALWAYS_INLINE void read_ahead(const tile *t, int vectors, int rows, size_t offset,
                                  size_t bytes) {
    if (rows <= COP_AHEAD_ROWS)
        cop_read_ahead(t->panel, t->panel_bytes, vectors / PANEL_VECTORS, offset, bytes);
}

COP_ALWAYS_INLINE void load_sums(const tile *t, int vectors, int rows,
                                 __m512 acc[ROWS_MAX][VECTORS_MAX]) {
    COP_UNROLL
    for (int r = 0; r < rows; r++) {
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            acc[r][v] = t->k0 == 0 ? _mm512_setzero_ps()
                                   : _mm512_loadu_ps(t->y + r * t->y_stride + v * LANES);
    }
}

COP_ALWAYS_INLINE void store_sums(const tile *t, int vectors, int rows,
                                  __m512 acc[ROWS_MAX][VECTORS_MAX]) {
    COP_UNROLL
    for (int r = 0; r < rows; r++) {
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_ps(t->y + r * t->y_stride + v * LANES, acc[r][v]);
    }
}

/* One k of a tile: weights w[] for all rows. */
COP_ALWAYS_INLINE void add_k(const tile *t, int vectors, int rows, uint32_t k,
                             const __m512 w[VECTORS_MAX], __m512 acc[ROWS_MAX][VECTORS_MAX]) {
    COP_UNROLL
    for (int r = 0; r < rows; r++) {
        const __m512 x = _mm512_set1_ps(t->x[r * t->x_stride + k]);
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            acc[r][v] = _mm512_fmadd_ps(x, w[v], acc[r][v]);
    }
}

COP_ALWAYS_INLINE void f32_tile(const tile *t, int vectors, int rows) {
    __m512 acc[ROWS_MAX][VECTORS_MAX], w[VECTORS_MAX];
    load_sums(t, vectors, rows, acc);
    for (uint32_t k = t->k0; k < t->k1; k++) {
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            w[v] = _mm512_load_ps((const float *)panel_of(t, v) + (size_t)k * COP_PANEL_OUTPUTS +
                                  v % PANEL_VECTORS * LANES);
        add_k(t, vectors, rows, k, w, acc);
    }
    store_sums(t, vectors, rows, acc);
}

COP_ALWAYS_INLINE void bf16_tile(const tile *t, int vectors, int rows) {
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    __m512 acc[ROWS_MAX][VECTORS_MAX], w[VECTORS_MAX];
    load_sums(t, vectors, rows, acc);
    for (uint32_t k = t->k0; k < t->k1; k += 2) {
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            w[v] = _mm512_castsi512_ps(_mm512_slli_epi32(
                _mm512_load_si512((const uint32_t *)panel_of(t, v) +
                                  (size_t)(k / 2) * COP_PANEL_OUTPUTS + v % PANEL_VECTORS * LANES),
                16));
        add_k(t, vectors, rows, k, w, acc);
        if (k + 1 == t->k1)
            break;
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            w[v] = _mm512_castsi512_ps(_mm512_and_si512(
                _mm512_load_si512((const uint32_t *)panel_of(t, v) +
                                  (size_t)(k / 2) * COP_PANEL_OUTPUTS + v % PANEL_VECTORS * LANES),
                high));
        add_k(t, vectors, rows, k + 1, w, acc);
    }
    store_sums(t, vectors, rows, acc);
}

COP_ALWAYS_INLINE __m512 load_f16(const uint16_t *from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
}

COP_ALWAYS_INLINE void f16_tile(const tile *t, int vectors, int rows) {
    __m512 acc[ROWS_MAX][VECTORS_MAX], w[VECTORS_MAX];
    load_sums(t, vectors, rows, acc);
    for (uint32_t k = t->k0; k < t->k1; k++) {
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            w[v] = load_f16((const uint16_t *)panel_of(t, v) + (size_t)k * COP_PANEL_OUTPUTS +
                            v % PANEL_VECTORS * LANES);
        add_k(t, vectors, rows, k, w, acc);
    }
    store_sums(t, vectors, rows, acc);
}

COP_ALWAYS_INLINE void zero_outputs(const tile *t, int vectors, int rows) {
    if (t->k0 != 0)
        return;
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_ps(t->y + r * t->y_stride + v * LANES, _mm512_setzero_ps());
}

/* The end of a block: y = fma(d, a, y), and Q4_1's minimum. scale: at the block's d. */
COP_ALWAYS_INLINE void add_block(const tile *t, int vectors, int rows, uint32_t block, size_t scale,
                                 __m512 a[ROWS_MAX][VECTORS_MAX]) {
    COP_UNROLL
    for (int v = 0; v < vectors; v++) {
        const uint16_t *half =
            (const uint16_t *)(panel_of(t, v) + scale) + v % PANEL_VECTORS * LANES;
        const __m512 d = load_f16(half);
        const __m512 m = t->has_m ? load_f16(half + COP_PANEL_OUTPUTS) : _mm512_setzero_ps();
        COP_UNROLL
        for (int r = 0; r < rows; r++) {
            float *at = t->y + r * t->y_stride + v * LANES;
            __m512 y = _mm512_fmadd_ps(d, a[r][v], _mm512_loadu_ps(at));
            if (t->has_m)
                y = _mm512_fmadd_ps(m, _mm512_set1_ps(t->sx[r * t->block_stride + block]), y);
            _mm512_storeu_ps(at, y);
        }
    }
}

/* Eight nibbles a 32-bit lane: a shift brings one into the low bits, and the permute that looks up
 * its float in a table of 16 ignores all others. */
COP_ALWAYS_INLINE void q4_tile(const tile *t, int vectors, int rows) {
    const __m512 count = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 table = _mm512_sub_ps(count, _mm512_set1_ps(t->q4_0 ? 8.0f : 0.0f));
    const size_t block_bytes = t->has_m ? COP_Q4_1_BYTES : COP_Q4_0_BYTES;
    zero_outputs(t, vectors, rows);
    for (uint32_t b = t->k0 / COP_BLOCK_VALUES; b < t->k1 / COP_BLOCK_VALUES; b++) {
        __m512 a[ROWS_MAX][VECTORS_MAX], w[VECTORS_MAX];
        read_ahead(t, vectors, rows, b * block_bytes, block_bytes);
        COP_UNROLL
        for (int r = 0; r < rows; r++) {
            COP_UNROLL
            for (int v = 0; v < vectors; v++)
                a[r][v] = _mm512_setzero_ps();
        }
        for (uint32_t j = 0; j < 4; j++) {
            COP_UNROLL
            for (uint32_t i = 0; i < 8; i++) {
                COP_UNROLL
                for (int v = 0; v < vectors; v++) {
                    const __m512i q =
                        _mm512_load_si512((const uint32_t *)(panel_of(t, v) + b * block_bytes) +
                                          j * COP_PANEL_OUTPUTS + v % PANEL_VECTORS * LANES);
                    w[v] =
                        _mm512_permutexvar_ps(_mm512_srli_epi32(q, i % 4 * 8 + i / 4 * 4), table);
                }
                add_k(t, vectors, rows, b * COP_BLOCK_VALUES + j * 8 + i, w, a);
            }
        }
        add_block(t, vectors, rows, b, b * block_bytes + COP_Q4_PLANE_BYTES, a);
    }
}

COP_ALWAYS_INLINE void q8_tile(const tile *t, int vectors, int rows) {
    zero_outputs(t, vectors, rows);
    for (uint32_t b = t->k0 / COP_BLOCK_VALUES; b < t->k1 / COP_BLOCK_VALUES; b++) {
        __m512 a[ROWS_MAX][VECTORS_MAX], w[VECTORS_MAX];
        COP_UNROLL
        for (int r = 0; r < rows; r++) {
            COP_UNROLL
            for (int v = 0; v < vectors; v++)
                a[r][v] = _mm512_setzero_ps();
        }
        for (uint32_t j = 0; j < 8; j++) {
            COP_UNROLL
            for (uint32_t i = 0; i < 4; i++) {
                COP_UNROLL
                for (int v = 0; v < vectors; v++) {
                    const __m512i q = _mm512_load_si512(
                        (const uint32_t *)(panel_of(t, v) + b * (size_t)COP_Q8_0_BYTES) +
                        j * COP_PANEL_OUTPUTS + v % PANEL_VECTORS * LANES);
                    w[v] =
                        _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(q, 24 - 8 * i), 24));
                }
                add_k(t, vectors, rows, b * COP_BLOCK_VALUES + j * 4 + i, w, a);
            }
        }
        add_block(t, vectors, rows, b, b * (size_t)COP_Q8_0_BYTES + COP_Q8_PLANE_BYTES, a);
    }
}

static tile tile_of(const cop_product_span *s, uint32_t panel, uint32_t row) {
    const cop_product_rows *rows = s->rows;
    return (tile){
        .panel = s->w->data + (s->panel + panel) * s->w->panel_bytes,
        .panel_bytes = s->w->panel_bytes,
        .k0 = s->k0,
        .k1 = s->k1,
        .x = rows->x + row * rows->x_stride,
        .sx = rows->sx + row * rows->block_stride,
        .x_stride = rows->x_stride,
        .block_stride = rows->block_stride,
        .y = s->y + row * s->y_stride + panel * COP_PANEL_OUTPUTS,
        .y_stride = s->y_stride,
        .q4_0 = s->w->pack == COP_PACK_Q4_0,
        .has_m = s->w->pack == COP_PACK_Q4_1,
    };
}

DEFINE_KERNEL(run_f32, f32_tile)
DEFINE_KERNEL(run_bf16, bf16_tile)
DEFINE_KERNEL(run_f16, f16_tile)
DEFINE_KERNEL(run_q4, q4_tile)
DEFINE_KERNEL(run_q8, q8_tile)

const cop_product_kernels cop__product_kernels_avx512 = {
    .with_f32 =
        {
            [COP_PACK_F32] = run_f32,
            [COP_PACK_BF16] = run_bf16,
            [COP_PACK_F16] = run_f16,
            [COP_PACK_Q4_0] = run_q4,
            [COP_PACK_Q4_1] = run_q4,
            [COP_PACK_Q8_0] = run_q8,
        },
};
#endif
