/* The products in portable C: the oracle of the vector kernels, and what runs where there is no
 * AVX2. Loops run over a panel's 32 outputs, so a compiler with a native fused multiply-add makes
 * vectors of them. */
#include <math.h>

#include "backend/cpu/products_kernels.h"

enum { ROWS = 4 };

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float f32_from_f16(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = half & 0x7fffu;
    if (rest >= 0x7c00u) /* infinity and NaN, which conversion makes quiet */
        return float_of(sign | 0x7f800000u | (rest & 0x3ffu) << 13 |
                        (rest > 0x7c00u ? 0x400000u : 0));
    if (rest >= 0x400u)
        return float_of(sign | ((rest << 13) + ((127u - 15u) << 23)));
    const float magnitude = (float)rest * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

static void weights_of_k(const cop_packed *w, const uint8_t *panel, uint32_t k,
                         float out[COP_PANEL_OUTPUTS]) {
    for (uint32_t o = 0; o < COP_PANEL_OUTPUTS; o++) {
        const size_t at = (size_t)k * COP_PANEL_OUTPUTS + o;
        if (w->pack == COP_PACK_F32)
            out[o] = ((const float *)panel)[at];
        else if (w->pack == COP_PACK_F16)
            out[o] = f32_from_f16(((const uint16_t *)panel)[at]);
        else
            out[o] = float_of(
                (uint32_t)((
                    const uint16_t *)panel)[((size_t)(k / 2) * COP_PANEL_OUTPUTS + o) * 2 + k % 2]
                << 16);
    }
}

static void start(const cop_product_span *span) {
    if (span->k0 != 0)
        return;
    for (uint32_t r = 0; r < span->rows->n; r++)
        memset(span->y + r * span->y_stride, 0,
               span->n_panels * COP_PANEL_OUTPUTS * sizeof *span->y);
}

static void add_outputs(float *acc, const float *w, float x) {
    for (uint32_t o = 0; o < COP_PANEL_OUTPUTS; o++)
        acc[o] = fmaf(x, w[o], acc[o]);
}

static void run_plain(const cop_product_span *span) {
    const cop_product_rows *rows = span->rows;
    start(span);
    for (uint32_t p = 0; p < span->n_panels; p++) {
        const uint8_t *panel = span->w->data + (span->panel + p) * span->w->panel_bytes;
        for (uint32_t r = 0; r < rows->n; r += ROWS) {
            const uint32_t end = rows->n - r < ROWS ? rows->n : r + ROWS;
            for (uint32_t k = span->k0; k < span->k1; k++) {
                float w[COP_PANEL_OUTPUTS];
                weights_of_k(span->w, panel, k, w);
                for (uint32_t i = r; i < end; i++)
                    add_outputs(span->y + i * span->y_stride + p * COP_PANEL_OUTPUTS, w,
                                rows->x[i * rows->x_stride + k]);
            }
        }
    }
}

typedef struct block {
    int32_t q[COP_BLOCK_VALUES][COP_PANEL_OUTPUTS]; /* the integer of the formula */
    float d[COP_PANEL_OUTPUTS], m[COP_PANEL_OUTPUTS];
    bool has_m;
} block;

static void block_load(const cop_packed *w, const uint8_t *data, block *out) {
    const bool q8 = w->pack == COP_PACK_Q8_0;
    const uint16_t *scale =
        (const uint16_t *)(data + (q8 ? COP_Q8_PLANE_BYTES : COP_Q4_PLANE_BYTES));
    out->has_m = w->pack == COP_PACK_Q4_1;
    for (uint32_t o = 0; o < COP_PANEL_OUTPUTS; o++) {
        out->d[o] = f32_from_f16(scale[o]);
        out->m[o] = out->has_m ? f32_from_f16(scale[COP_PANEL_OUTPUTS + o]) : 0.0f;
        for (uint32_t k = 0; k < COP_BLOCK_VALUES; k++) {
            if (q8) {
                out->q[k][o] = ((const int8_t *)data)[(k / 4 * COP_PANEL_OUTPUTS + o) * 4 + k % 4];
                continue;
            }
            const uint8_t byte = data[(k / 8 * COP_PANEL_OUTPUTS + o) * 4 + k % 4];
            const int32_t nibble = k % 8 < 4 ? byte & 15 : byte >> 4;
            out->q[k][o] = out->has_m ? nibble : nibble - 8;
        }
    }
}

static void block_with_f32(const block *b, const float *x, float sx, float *y) {
    float a[COP_PANEL_OUTPUTS] = {0};
    for (uint32_t k = 0; k < COP_BLOCK_VALUES; k++)
        for (uint32_t o = 0; o < COP_PANEL_OUTPUTS; o++)
            a[o] = fmaf(x[k], (float)b->q[k][o], a[o]);
    for (uint32_t o = 0; o < COP_PANEL_OUTPUTS; o++)
        y[o] = fmaf(b->d[o], a[o], y[o]);
    for (uint32_t o = 0; o < COP_PANEL_OUTPUTS && b->has_m; o++)
        y[o] = fmaf(b->m[o], sx, y[o]);
}

static void block_with_int8(const block *b, const int8_t *xq, float dx, int32_t sq, float *y) {
    int32_t a[COP_PANEL_OUTPUTS] = {0};
    for (uint32_t k = 0; k < COP_BLOCK_VALUES; k++)
        for (uint32_t o = 0; o < COP_PANEL_OUTPUTS; o++)
            a[o] += xq[k] * b->q[k][o];
    for (uint32_t o = 0; o < COP_PANEL_OUTPUTS; o++)
        y[o] = fmaf(b->d[o] * dx, (float)a[o], y[o]);
    for (uint32_t o = 0; o < COP_PANEL_OUTPUTS && b->has_m; o++)
        y[o] = fmaf(b->m[o] * dx, (float)sq, y[o]);
}

static void run_blocks(const cop_product_span *span, bool int8) {
    const cop_product_rows *rows = span->rows;
    const size_t block_bytes = cop_pack_block_bytes(span->w->pack);
    start(span);
    for (uint32_t p = 0; p < span->n_panels; p++) {
        const uint8_t *panel = span->w->data + (span->panel + p) * span->w->panel_bytes;
        for (uint32_t k = span->k0; k < span->k1; k += COP_BLOCK_VALUES) {
            block b;
            const uint32_t index = k / COP_BLOCK_VALUES;
            block_load(span->w, panel + index * block_bytes, &b);
            for (uint32_t r = 0; r < rows->n; r++) {
                float *y = span->y + r * span->y_stride + p * COP_PANEL_OUTPUTS;
                const size_t at = r * rows->block_stride + index;
                if (int8)
                    block_with_int8(&b, rows->xq + r * rows->xq_stride + k, rows->dx[at],
                                    rows->sq[at], y);
                else
                    block_with_f32(&b, rows->x + r * rows->x_stride + k,
                                   b.has_m ? rows->sx[at] : 0.0f, y);
            }
        }
    }
}

static void run_blocks_f32(const cop_product_span *span) {
    run_blocks(span, false);
}

static void run_blocks_int8(const cop_product_span *span) {
    run_blocks(span, true);
}

const cop_product_kernels cop__product_kernels_portable = {
    .with_f32 =
        {
            [COP_PACK_F32] = run_plain,
            [COP_PACK_BF16] = run_plain,
            [COP_PACK_F16] = run_plain,
            [COP_PACK_Q4_0] = run_blocks_f32,
            [COP_PACK_Q4_1] = run_blocks_f32,
            [COP_PACK_Q8_0] = run_blocks_f32,
        },
    .with_int8 =
        {
            [COP_PACK_Q4_0] = run_blocks_int8,
            [COP_PACK_Q4_1] = run_blocks_int8,
            [COP_PACK_Q8_0] = run_blocks_int8,
        },
};
