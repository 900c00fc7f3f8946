/* The products of block weights with int8 inputs, by AVX512-VNNI's dot products of four bytes. Sums
 * inside a block are exact, so only the f32 operations at its end have an order to keep. */
#include "backend/cpu/products_tiles.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>

enum { LANES = 16, VECTORS_MAX = 8, ROWS_MAX = 6, PANEL_VECTORS = COP_PANEL_OUTPUTS / LANES };

typedef struct tile {
    const uint8_t *panel;
    size_t panel_bytes;
    uint32_t k0, k1;
    const int8_t *xq;
    const float *dx;
    const int32_t *sq;
    size_t xq_stride, block_stride;
    float *y;
    size_t y_stride;
    bool has_m;
    int32_t offset; /* added to the weights so that they are unsigned; taken off by the sum of xq */
} tile;

COP_ALWAYS_INLINE const uint8_t *vector_of(const tile *t, int vector, size_t offset) {
    return t->panel + (size_t)(vector / PANEL_VECTORS) * t->panel_bytes + offset +
           (size_t)(vector % PANEL_VECTORS) * 64;
}

COP_ALWAYS_INLINE void read_ahead(const tile *t, int vectors, int rows, size_t offset,
                                  size_t bytes) {
    if (rows <= COP_AHEAD_ROWS)
        cop_read_ahead(t->panel, t->panel_bytes, vectors / PANEL_VECTORS, offset, bytes);
}

COP_ALWAYS_INLINE __m512i input_of(const tile *t, int row, uint32_t k) {
    int32_t four;
    memcpy(&four, t->xq + row * t->xq_stride + k, sizeof four);
    return _mm512_set1_epi32(four);
}

COP_ALWAYS_INLINE void start_block(const tile *t, int vectors, int rows, uint32_t block,
                                   __m512i a[ROWS_MAX][VECTORS_MAX]) {
    COP_UNROLL
    for (int r = 0; r < rows; r++) {
        const __m512i correction =
            _mm512_set1_epi32(-t->offset * t->sq[r * t->block_stride + block]);
        COP_UNROLL
        for (int v = 0; v < vectors; v++)
            a[r][v] = correction;
    }
}

COP_ALWAYS_INLINE void add_block(const tile *t, int vectors, int rows, uint32_t block, size_t scale,
                                 __m512i a[ROWS_MAX][VECTORS_MAX]) {
    COP_UNROLL
    for (int v = 0; v < vectors; v++) {
        const uint8_t *half = t->panel + (size_t)(v / PANEL_VECTORS) * t->panel_bytes + scale +
                              (size_t)(v % PANEL_VECTORS) * 32;
        const __m512 d = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)half));
        const __m512 m = t->has_m ? _mm512_cvtph_ps(_mm256_loadu_si256(
                                        (const __m256i *)(half + 2 * COP_PANEL_OUTPUTS)))
                                  : _mm512_setzero_ps();
        COP_UNROLL
        for (int r = 0; r < rows; r++) {
            const size_t at = r * t->block_stride + block;
            const __m512 dx = _mm512_set1_ps(t->dx[at]);
            float *out = t->y + r * t->y_stride + v * LANES;
            __m512 y = _mm512_fmadd_ps(_mm512_mul_ps(d, dx), _mm512_cvtepi32_ps(a[r][v]),
                                       _mm512_loadu_ps(out));
            if (t->has_m)
                y = _mm512_fmadd_ps(_mm512_mul_ps(m, dx), _mm512_set1_ps((float)t->sq[at]), y);
            _mm512_storeu_ps(out, y);
        }
    }
}

COP_ALWAYS_INLINE void zero_outputs(const tile *t, int vectors, int rows) {
    if (t->k0 != 0)
        return;
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_ps(t->y + r * t->y_stride + v * LANES, _mm512_setzero_ps());
}

COP_ALWAYS_INLINE void q4_tile(const tile *t, int vectors, int rows) {
    const __m512i low = _mm512_set1_epi8(15);
    const size_t block_bytes = t->has_m ? COP_Q4_1_BYTES : COP_Q4_0_BYTES;
    zero_outputs(t, vectors, rows);
    for (uint32_t b = t->k0 / COP_BLOCK_VALUES; b < t->k1 / COP_BLOCK_VALUES; b++) {
        __m512i a[ROWS_MAX][VECTORS_MAX];
        read_ahead(t, vectors, rows, b * block_bytes, block_bytes);
        start_block(t, vectors, rows, b, a);
        COP_UNROLL
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t k = b * COP_BLOCK_VALUES + 8 * j;
            COP_UNROLL
            for (int v = 0; v < vectors; v++) {
                const __m512i q = _mm512_load_si512(
                    vector_of(t, v, b * block_bytes + j * (size_t)(4 * COP_PANEL_OUTPUTS)));
                const __m512i first = _mm512_and_si512(q, low);
                const __m512i second = _mm512_and_si512(_mm512_srli_epi32(q, 4), low);
                COP_UNROLL
                for (int r = 0; r < rows; r++) {
                    a[r][v] = _mm512_dpbusd_epi32(a[r][v], first, input_of(t, r, k));
                    a[r][v] = _mm512_dpbusd_epi32(a[r][v], second, input_of(t, r, k + 4));
                }
            }
        }
        add_block(t, vectors, rows, b, b * block_bytes + COP_Q4_PLANE_BYTES, a);
    }
}

COP_ALWAYS_INLINE void q8_tile(const tile *t, int vectors, int rows) {
    const __m512i flip = _mm512_set1_epi8((char)0x80); /* w + 128 as an unsigned byte */
    zero_outputs(t, vectors, rows);
    for (uint32_t b = t->k0 / COP_BLOCK_VALUES; b < t->k1 / COP_BLOCK_VALUES; b++) {
        __m512i a[ROWS_MAX][VECTORS_MAX];
        start_block(t, vectors, rows, b, a);
        COP_UNROLL
        for (uint32_t j = 0; j < 8; j++) {
            const uint32_t k = b * COP_BLOCK_VALUES + 4 * j;
            COP_UNROLL
            for (int v = 0; v < vectors; v++) {
                const __m512i q = _mm512_xor_si512(
                    _mm512_load_si512(vector_of(
                        t, v, b * (size_t)COP_Q8_0_BYTES + j * (size_t)(4 * COP_PANEL_OUTPUTS))),
                    flip);
                COP_UNROLL
                for (int r = 0; r < rows; r++)
                    a[r][v] = _mm512_dpbusd_epi32(a[r][v], q, input_of(t, r, k));
            }
        }
        add_block(t, vectors, rows, b, b * (size_t)COP_Q8_0_BYTES + COP_Q8_PLANE_BYTES, a);
    }
}

static tile tile_of(const cop_product_span *s, uint32_t panel, uint32_t row) {
    const cop_product_rows *rows = s->rows;
    const cop_pack pack = s->w->pack;
    return (tile){
        .panel = s->w->data + (s->panel + panel) * s->w->panel_bytes,
        .panel_bytes = s->w->panel_bytes,
        .k0 = s->k0,
        .k1 = s->k1,
        .xq = rows->xq + row * rows->xq_stride,
        .dx = rows->dx + row * rows->block_stride,
        .sq = rows->sq + row * rows->block_stride,
        .xq_stride = rows->xq_stride,
        .block_stride = rows->block_stride,
        .y = s->y + row * s->y_stride + panel * COP_PANEL_OUTPUTS,
        .y_stride = s->y_stride,
        .has_m = pack == COP_PACK_Q4_1,
        .offset = pack == COP_PACK_Q4_0   ? 8
                  : pack == COP_PACK_Q8_0 ? 128
                                          : 0,
    };
}

DEFINE_KERNEL(run_q4, q4_tile)
DEFINE_KERNEL(run_q8, q8_tile)

const cop_product_kernels cop__product_kernels_vnni = {
    .with_int8 =
        {
            [COP_PACK_Q4_0] = run_q4,
            [COP_PACK_Q4_1] = run_q4,
            [COP_PACK_Q8_0] = run_q8,
        },
};
#endif
