/* The products in AVX2 with FMA and F16C: one row takes two panels at once, two rows one panel,
 * more rows half a panel in register tiles of up to six. The order of every chain is
 * products_portable.c's; int8 sums inside a block are exact in any order. */
#include "backend/cpu/products_kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>

enum { LANES = 8, VECTORS_MAX = 8, ROWS_MAX = 6, PANEL_VECTORS = COP_PANEL_OUTPUTS / LANES };

typedef struct tile {
    const uint8_t *panel;
    size_t panel_bytes;
    uint32_t first_vector; /* of the panel */
    uint32_t k0, k1;
    const float *x, *sx;
    const int8_t *xq;
    const float *dx;
    const int32_t *sq;
    size_t x_stride, xq_stride, block_stride;
    float *y;
    size_t y_stride;
    bool q4_0, has_m;
} tile;

/* Element 0 of vector v in a [32] array of `bytes`-wide elements that lies at `offset`. */
COP_ALWAYS_INLINE const uint8_t *vector_of(const tile *t, int v, size_t offset, size_t bytes) {
    return t->panel + (size_t)(v / PANEL_VECTORS) * t->panel_bytes + offset +
           (t->first_vector + (size_t)(v % PANEL_VECTORS)) * LANES * bytes;
}

COP_ALWAYS_INLINE __m256i load_words(const tile *t, int v, size_t offset) {
    return _mm256_load_si256((const __m256i *)vector_of(t, v, offset, 4));
}

COP_ALWAYS_INLINE __m256 load_f16(const tile *t, int v, size_t offset) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)vector_of(t, v, offset, 2)));
}

COP_ALWAYS_INLINE void load_sums(const tile *t, int vectors, int rows,
                                 __m256 acc[ROWS_MAX][VECTORS_MAX]) {
    COP_UNROLL
    for (int r = 0; r < rows; r++) {
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            acc[r][v] = t->k0 == 0 ? _mm256_setzero_ps()
                                   : _mm256_loadu_ps(t->y + r * t->y_stride + v * LANES);
    }
}

COP_ALWAYS_INLINE void store_sums(const tile *t, int vectors, int rows,
                                  __m256 acc[ROWS_MAX][VECTORS_MAX]) {
    COP_UNROLL
    for (int r = 0; r < rows; r++) {
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            _mm256_storeu_ps(t->y + r * t->y_stride + v * LANES, acc[r][v]);
    }
}

COP_ALWAYS_INLINE void zero_outputs(const tile *t, int vectors, int rows) {
    if (t->k0 != 0)
        return;
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            _mm256_storeu_ps(t->y + r * t->y_stride + v * LANES, _mm256_setzero_ps());
}

/* One k of a tile: weights w[] for all rows. */
COP_ALWAYS_INLINE void add_k(const tile *t, int vectors, int rows, uint32_t k,
                             const __m256 w[VECTORS_MAX], __m256 acc[ROWS_MAX][VECTORS_MAX]) {
    COP_UNROLL
    for (int r = 0; r < rows; r++) {
        const __m256 x = _mm256_broadcast_ss(t->x + r * t->x_stride + k);
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            acc[r][v] = _mm256_fmadd_ps(x, w[v], acc[r][v]);
    }
}

COP_ALWAYS_INLINE void f32_tile(const tile *t, int vectors, int rows) {
    __m256 acc[ROWS_MAX][VECTORS_MAX], w[VECTORS_MAX];
    load_sums(t, vectors, rows, acc);
    for (uint32_t k = t->k0; k < t->k1; k++) {
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            w[v] = _mm256_castsi256_ps(load_words(t, v, k * (size_t)(4 * COP_PANEL_OUTPUTS)));
        add_k(t, vectors, rows, k, w, acc);
    }
    store_sums(t, vectors, rows, acc);
}

COP_ALWAYS_INLINE void bf16_tile(const tile *t, int vectors, int rows) {
    const __m256i high = _mm256_set1_epi32((int)0xffff0000u);
    __m256 acc[ROWS_MAX][VECTORS_MAX], w[VECTORS_MAX];
    load_sums(t, vectors, rows, acc);
    for (uint32_t k = t->k0; k < t->k1; k += 2) {
        const size_t pair = k / 2 * (size_t)(4 * COP_PANEL_OUTPUTS);
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            w[v] = _mm256_castsi256_ps(_mm256_slli_epi32(load_words(t, v, pair), 16));
        add_k(t, vectors, rows, k, w, acc);
        if (k + 1 == t->k1)
            break;
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            w[v] = _mm256_castsi256_ps(_mm256_and_si256(load_words(t, v, pair), high));
        add_k(t, vectors, rows, k + 1, w, acc);
    }
    store_sums(t, vectors, rows, acc);
}

COP_ALWAYS_INLINE void f16_tile(const tile *t, int vectors, int rows) {
    __m256 acc[ROWS_MAX][VECTORS_MAX], w[VECTORS_MAX];
    load_sums(t, vectors, rows, acc);
    for (uint32_t k = t->k0; k < t->k1; k++) {
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            w[v] = load_f16(t, v, k * (size_t)(2 * COP_PANEL_OUTPUTS));
        add_k(t, vectors, rows, k, w, acc);
    }
    store_sums(t, vectors, rows, acc);
}

/* The end of a block with f32 inputs: y = fma(d, a, y), and Q4_1's minimum. */
COP_ALWAYS_INLINE void add_block(const tile *t, int vectors, int rows, uint32_t block, size_t scale,
                                 __m256 a[ROWS_MAX][VECTORS_MAX]) {
    COP_UNROLL
    for (int v = 0; v < vectors; v++) {
        const __m256 d = load_f16(t, v, scale);
        const __m256 m =
            t->has_m ? load_f16(t, v, scale + 2 * COP_PANEL_OUTPUTS) : _mm256_setzero_ps();
        COP_UNROLL
        for (int r = 0; r < rows; r++) {
            float *at = t->y + r * t->y_stride + v * LANES;
            __m256 y = _mm256_fmadd_ps(d, a[r][v], _mm256_loadu_ps(at));
            if (t->has_m)
                y = _mm256_fmadd_ps(m, _mm256_set1_ps(t->sx[r * t->block_stride + block]), y);
            _mm256_storeu_ps(at, y);
        }
    }
}

COP_ALWAYS_INLINE void clear(int vectors, int rows, __m256 a[ROWS_MAX][VECTORS_MAX]) {
    COP_UNROLL
    for (int r = 0; r < rows; r++) {
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            a[r][v] = _mm256_setzero_ps();
    }
}

COP_ALWAYS_INLINE void q4_tile(const tile *t, int vectors, int rows, bool q4_0) {
    const __m256i low = _mm256_set1_epi32(15), eight = _mm256_set1_epi32(8);
    const size_t block_bytes = q4_0 ? COP_Q4_0_BYTES : COP_Q4_1_BYTES;
    zero_outputs(t, vectors, rows);
    for (uint32_t b = t->k0 / COP_BLOCK_VALUES; b < t->k1 / COP_BLOCK_VALUES; b++) {
        __m256 a[ROWS_MAX][VECTORS_MAX], w[VECTORS_MAX];
        clear(vectors, rows, a);
        for (uint32_t j = 0; j < 4; j++) {
            const size_t word = b * block_bytes + j * (size_t)(4 * COP_PANEL_OUTPUTS);
            COP_UNROLL
            for (int i = 0; i < 8; i++) {
                COP_UNROLL
                for (int v = 0; v < vectors; v++) {
                    const __m256i q =
                        _mm256_srli_epi32(load_words(t, v, word), i % 4 * 8 + i / 4 * 4);
                    const __m256i nibble = i == 7 ? q : _mm256_and_si256(q, low);
                    const __m256i integer = q4_0 ? _mm256_sub_epi32(nibble, eight) : nibble;
                    w[v] = _mm256_cvtepi32_ps(integer);
                }
                add_k(t, vectors, rows, b * COP_BLOCK_VALUES + j * 8 + (uint32_t)i, w, a);
            }
        }
        add_block(t, vectors, rows, b, b * block_bytes + COP_Q4_PLANE_BYTES, a);
    }
}

COP_ALWAYS_INLINE void q4_0_tile(const tile *t, int vectors, int rows) {
    q4_tile(t, vectors, rows, true);
}

COP_ALWAYS_INLINE void q4_1_tile(const tile *t, int vectors, int rows) {
    q4_tile(t, vectors, rows, false);
}

COP_ALWAYS_INLINE void q8_tile(const tile *t, int vectors, int rows) {
    zero_outputs(t, vectors, rows);
    for (uint32_t b = t->k0 / COP_BLOCK_VALUES; b < t->k1 / COP_BLOCK_VALUES; b++) {
        __m256 a[ROWS_MAX][VECTORS_MAX], w[VECTORS_MAX];
        clear(vectors, rows, a);
        for (uint32_t j = 0; j < 8; j++) {
            const size_t word = b * (size_t)COP_Q8_0_BYTES + j * (size_t)(4 * COP_PANEL_OUTPUTS);
            COP_UNROLL
            for (int i = 0; i < 4; i++) {
                COP_UNROLL
                for (int v = 0; v < vectors; v++) {
                    const __m256i q = _mm256_slli_epi32(load_words(t, v, word), 24 - 8 * i);
                    w[v] = _mm256_cvtepi32_ps(_mm256_srai_epi32(q, 24));
                }
                add_k(t, vectors, rows, b * COP_BLOCK_VALUES + j * 4 + (uint32_t)i, w, a);
            }
        }
        add_block(t, vectors, rows, b, b * (size_t)COP_Q8_0_BYTES + COP_Q8_PLANE_BYTES, a);
    }
}

COP_ALWAYS_INLINE void clear_integers(int vectors, int rows, __m256i a[ROWS_MAX][VECTORS_MAX]) {
    COP_UNROLL
    for (int r = 0; r < rows; r++) {
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            a[r][v] = _mm256_setzero_si256();
    }
}

COP_ALWAYS_INLINE __m256i input_of(const tile *t, int row, uint32_t k) {
    int32_t four;
    memcpy(&four, t->xq + row * t->xq_stride + k, sizeof four);
    return _mm256_set1_epi32(four);
}

/* The end of a block with int8 inputs; `offset` was added to the weights. */
COP_ALWAYS_INLINE void add_int8_block(const tile *t, int vectors, int rows, uint32_t block,
                                      size_t scale, int32_t offset,
                                      __m256i a[ROWS_MAX][VECTORS_MAX]) {
    COP_UNROLL
    for (int v = 0; v < vectors; v++) {
        const __m256 d = load_f16(t, v, scale);
        const __m256 m =
            t->has_m ? load_f16(t, v, scale + 2 * COP_PANEL_OUTPUTS) : _mm256_setzero_ps();
        COP_UNROLL
        for (int r = 0; r < rows; r++) {
            const size_t at = r * t->block_stride + block;
            const __m256 dx = _mm256_set1_ps(t->dx[at]);
            const __m256i sum = _mm256_sub_epi32(a[r][v], _mm256_set1_epi32(offset * t->sq[at]));
            float *out = t->y + r * t->y_stride + v * LANES;
            __m256 y = _mm256_fmadd_ps(_mm256_mul_ps(d, dx), _mm256_cvtepi32_ps(sum),
                                       _mm256_loadu_ps(out));
            if (t->has_m)
                y = _mm256_fmadd_ps(_mm256_mul_ps(m, dx), _mm256_set1_ps((float)t->sq[at]), y);
            _mm256_storeu_ps(out, y);
        }
    }
}

/* Nibbles times int8 in pairs: eight such sums of a block are at most 8 * 2 * 15 * 127 < 2^15, so
 * the whole block adds up in 16 bits and is widened once. */
COP_ALWAYS_INLINE void q4_int8_tile(const tile *t, int vectors, int rows) {
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    const size_t block_bytes = t->has_m ? COP_Q4_1_BYTES : COP_Q4_0_BYTES;
    zero_outputs(t, vectors, rows);
    for (uint32_t b = t->k0 / COP_BLOCK_VALUES; b < t->k1 / COP_BLOCK_VALUES; b++) {
        __m256i a[ROWS_MAX][VECTORS_MAX];
        clear_integers(vectors, rows, a);
        COP_UNROLL
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t k = b * COP_BLOCK_VALUES + 8 * j;
            COP_UNROLL
            for (int v = 0; v < vectors; v++) {
                const __m256i q =
                    load_words(t, v, b * block_bytes + j * (size_t)(4 * COP_PANEL_OUTPUTS));
                const __m256i first = _mm256_and_si256(q, low);
                const __m256i second = _mm256_and_si256(_mm256_srli_epi32(q, 4), low);
                COP_UNROLL
                for (int r = 0; r < rows; r++) {
                    const __m256i pairs =
                        _mm256_add_epi16(_mm256_maddubs_epi16(first, input_of(t, r, k)),
                                         _mm256_maddubs_epi16(second, input_of(t, r, k + 4)));
                    a[r][v] = _mm256_add_epi16(a[r][v], pairs);
                }
            }
        }
        COP_UNROLL
        for (int r = 0; r < rows; r++) {
            COP_UNROLL
            for (int v = 0; v < vectors; v++)
                a[r][v] = _mm256_madd_epi16(a[r][v], ones);
        }
        add_int8_block(t, vectors, rows, b, b * block_bytes + COP_Q4_PLANE_BYTES, t->q4_0 ? 8 : 0,
                       a);
    }
}

/* |w| <= 128 unsigned times xq with w's sign: a pair is at most 2 * 128 * 127 < 2^15. */
COP_ALWAYS_INLINE void q8_int8_tile(const tile *t, int vectors, int rows) {
    const __m256i ones = _mm256_set1_epi16(1);
    zero_outputs(t, vectors, rows);
    for (uint32_t b = t->k0 / COP_BLOCK_VALUES; b < t->k1 / COP_BLOCK_VALUES; b++) {
        __m256i a[ROWS_MAX][VECTORS_MAX];
        clear_integers(vectors, rows, a);
        for (uint32_t j = 0; j < 8; j++) {
            const uint32_t k = b * COP_BLOCK_VALUES + 4 * j;
            COP_UNROLL
            for (int v = 0; v < vectors; v++) {
                const __m256i q = load_words(
                    t, v, b * (size_t)COP_Q8_0_BYTES + j * (size_t)(4 * COP_PANEL_OUTPUTS));
                const __m256i magnitude = _mm256_abs_epi8(q);
                COP_UNROLL
                for (int r = 0; r < rows; r++) {
                    const __m256i x = _mm256_sign_epi8(input_of(t, r, k), q);
                    a[r][v] = _mm256_add_epi32(
                        a[r][v], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, x), ones));
                }
            }
        }
        add_int8_block(t, vectors, rows, b, b * (size_t)COP_Q8_0_BYTES + COP_Q8_PLANE_BYTES, 0, a);
    }
}

static tile tile_of(const cop_product_span *s, uint32_t vector, uint32_t row) {
    const cop_product_rows *rows = s->rows;
    return (tile){
        .panel = s->w->data + (s->panel + vector / PANEL_VECTORS) * s->w->panel_bytes,
        .panel_bytes = s->w->panel_bytes,
        .first_vector = vector % PANEL_VECTORS,
        .k0 = s->k0,
        .k1 = s->k1,
        .x = rows->x + row * rows->x_stride,
        .sx = rows->sx + row * rows->block_stride,
        .xq = rows->xq + row * rows->xq_stride,
        .dx = rows->dx + row * rows->block_stride,
        .sq = rows->sq + row * rows->block_stride,
        .x_stride = rows->x_stride,
        .xq_stride = rows->xq_stride,
        .block_stride = rows->block_stride,
        .y = s->y + row * s->y_stride + vector * LANES,
        .y_stride = s->y_stride,
        .q4_0 = s->w->pack == COP_PACK_Q4_0,
        .has_m = s->w->pack == COP_PACK_Q4_1,
    };
}

#define CASE(function, vectors, rows)                                                              \
    case (vectors)*8 + (rows):                                                                     \
        function(&t, vectors, rows);                                                               \
        break;

#define DEFINE_KERNEL(name, function)                                                              \
    static void name(const cop_product_span *s) {                                                  \
        const uint32_t n = s->rows->n, all = s->n_panels * PANEL_VECTORS;                          \
        for (uint32_t v = 0, vectors; v < all; v += vectors) {                                     \
            vectors = n > 2 ? 2 : n == 1 && all - v >= 8 ? 8 : 4;                                  \
            for (uint32_t r = 0, tall; r < n; r += tall) {                                         \
                tall = cop_even_tile(n - r, ROWS_MAX);                                             \
                const tile t = tile_of(s, v, r);                                                   \
                switch (vectors * 8 + tall) {                                                      \
                    CASE(function, 8, 1)                                                           \
                    CASE(function, 4, 1)                                                           \
                    CASE(function, 4, 2)                                                           \
                    CASE(function, 2, 1)                                                           \
                    CASE(function, 2, 2)                                                           \
                    CASE(function, 2, 3)                                                           \
                    CASE(function, 2, 4)                                                           \
                    CASE(function, 2, 5)                                                           \
                    CASE(function, 2, 6)                                                           \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

DEFINE_KERNEL(run_f32, f32_tile)
DEFINE_KERNEL(run_bf16, bf16_tile)
DEFINE_KERNEL(run_f16, f16_tile)
DEFINE_KERNEL(run_q4_0, q4_0_tile)
DEFINE_KERNEL(run_q4_1, q4_1_tile)
DEFINE_KERNEL(run_q8, q8_tile)
DEFINE_KERNEL(run_q4_int8, q4_int8_tile)
DEFINE_KERNEL(run_q8_int8, q8_int8_tile)

const cop_product_kernels cop__product_kernels_avx2 = {
    .with_f32 =
        {
            [COP_PACK_F32] = run_f32,
            [COP_PACK_BF16] = run_bf16,
            [COP_PACK_F16] = run_f16,
            [COP_PACK_Q4_0] = run_q4_0,
            [COP_PACK_Q4_1] = run_q4_1,
            [COP_PACK_Q8_0] = run_q8,
        },
    .with_int8 =
        {
            [COP_PACK_Q4_0] = run_q4_int8,
            [COP_PACK_Q4_1] = run_q4_int8,
            [COP_PACK_Q8_0] = run_q8_int8,
        },
};
#endif
