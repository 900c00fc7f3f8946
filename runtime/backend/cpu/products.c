#include "backend/cpu/products.h"

#include <omp.h>

#include "backend/cpu/products_kernels.h"
#include "base/memory.h"
#include "kv/fold_reference.h"

/* Inputs of one pass over a group of panels when there are many rows: two f32 panels of it stay in
 * a second-level cache while the rows go by. A multiple of a block. */
enum { K_STEP = 1024, ROWS_OF_ONE_PASS = 6 };

struct cop_products {
    cop_products_options options;
    cop_product_kernels kernels;
    size_t xq_stride, block_stride;
    float *sx, *dx;
    int32_t *sq;
    int8_t *xq;
    float *tail; /* [parts, max_rows, 32]: a part's last panel, when it is not full */
};

static cop_product_kernels kernels_for(const cop_products_options *options) {
    cop_product_kernels kernels = cop__product_kernels_portable;
#if defined(__x86_64__)
    if (options->isa == COP_ISA_PORTABLE)
        return kernels;
    kernels = cop__product_kernels_avx2;
    if (options->isa == COP_ISA_AVX512) {
        memcpy(kernels.with_f32, cop__product_kernels_avx512.with_f32, sizeof kernels.with_f32);
        if (cop_isa_has_vnni() && !options->no_vnni)
            memcpy(kernels.with_int8, cop__product_kernels_vnni.with_int8,
                   sizeof kernels.with_int8);
    }
#else
    (void)options;
#endif
    return kernels;
}

cop_status cop_products_create(const cop_products_options *options, cop_products **out) {
    cop_products *p = cop_calloc(1, sizeof *p);
    if (p) {
        const size_t rows = options->max_rows;
        p->options = *options;
        p->kernels = kernels_for(options);
        p->block_stride = (options->max_inputs + (size_t)COP_BLOCK_VALUES - 1) / COP_BLOCK_VALUES;
        p->xq_stride = p->block_stride * COP_BLOCK_VALUES;
        p->sx = cop_calloc(rows * p->block_stride, sizeof *p->sx);
        p->dx = cop_calloc(rows * p->block_stride, sizeof *p->dx);
        p->sq = cop_calloc(rows * p->block_stride, sizeof *p->sq);
        p->xq = cop_calloc(rows * p->xq_stride, sizeof *p->xq);
        p->tail = cop_calloc(rows * COP_PRODUCT_PARTS * (size_t)COP_PANEL_OUTPUTS, sizeof *p->tail);
    }
    if (!p || !p->sx || !p->dx || !p->sq || !p->xq || !p->tail) {
        cop_products_destroy(p);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the inputs of %u rows of %u",
                        options->max_rows, options->max_inputs);
    }
    *out = p;
    return COP_OK;
}

void cop_products_destroy(cop_products *products) {
    if (!products)
        return;
    cop_free(products->sx);
    cop_free(products->dx);
    cop_free(products->sq);
    cop_free(products->xq);
    cop_free(products->tail);
    cop_free(products);
}

static float block_sum(const float *x) {
    float sum = x[0];
    for (uint32_t i = 1; i < COP_BLOCK_VALUES; i++)
        sum += x[i];
    return sum;
}

/* arith.h's int8 inputs. A value that is not finite makes the scale NaN, so that the outputs of its
 * row are NaN too instead of plausible garbage. A scale so small that its inverse overflows counts
 * as 0. Adding 1.5 * 2^23 rounds to the nearest integer, half to even. */
static void block_quantise(const float *x, int8_t *xq, float *dx, int32_t *sq) {
    uint32_t largest = 0;
    for (uint32_t i = 0; i < COP_BLOCK_VALUES; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffffu;
        largest = (int32_t)bits > (int32_t)largest ? bits : largest;
    }
    float magnitude;
    memcpy(&magnitude, &largest, sizeof magnitude);
    const float scale = magnitude / 127.0f, inverse = 1.0f / scale;
    *sq = 0;
    if (largest >= 0x7f800000u || scale == 0.0f || inverse > 3.402823466e+38f) {
        *dx = largest >= 0x7f800000u ? __builtin_nanf("") : 0.0f;
        memset(xq, 0, COP_BLOCK_VALUES);
        return;
    }
    int32_t sum = 0;
    for (uint32_t i = 0; i < COP_BLOCK_VALUES; i++) {
        const float rounded = (x[i] * inverse + 0x1.8p23f) - 0x1.8p23f;
        const int32_t q = (int32_t)rounded;
        xq[i] = (int8_t)q;
        sum += q;
    }
    *dx = scale;
    *sq = sum;
}

/* Blocks first .. last - 1 of all rows, counted row by row. */
static void prepare(cop_products *p, const cop_product_call *call, bool int8, size_t first,
                    size_t last) {
    const size_t blocks = call->parts[0].inputs / COP_BLOCK_VALUES;
    for (size_t i = first; i < last; i++) {
        const size_t row = i / blocks, block = i % blocks, at = row * p->block_stride + block;
        const float *x = call->x + row * call->x_stride + block * COP_BLOCK_VALUES;
        if (int8)
            block_quantise(x, p->xq + row * p->xq_stride + block * COP_BLOCK_VALUES, p->dx + at,
                           p->sq + at);
        else
            p->sx[at] = block_sum(x);
    }
}

static void round_columns(float *y, size_t columns) {
    for (size_t i = 0; i < columns; i++) {
        uint32_t bits;
        memcpy(&bits, &y[i], sizeof bits);
        const uint32_t near = (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u;
        const uint32_t nan = (bits | 0x400000u) & 0xffff0000u;
        bits = (bits & 0x7fffffffu) > 0x7f800000u ? nan : near;
        memcpy(&y[i], &bits, sizeof bits);
    }
}

/* A group of neighbouring panels of one part, all rows. column: of the part's first output. */
static void run_group(cop_products *p, const cop_product_call *call, const cop_product_rows *rows,
                      uint32_t part, size_t column, uint32_t panel, uint32_t n_panels) {
    const cop_packed *w = &call->parts[part];
    const size_t first = (size_t)panel * COP_PANEL_OUTPUTS;
    const bool partial = first + (size_t)n_panels * COP_PANEL_OUTPUTS > w->outputs;
    float *out = call->y + column + first;
    float *tail = p->tail + part * (size_t)p->options.max_rows * COP_PANEL_OUTPUTS;
    cop_product_span span = {.w = w, .panel = panel, .n_panels = n_panels, .rows = rows};
    span.y = partial ? tail : out;
    span.y_stride = partial ? COP_PANEL_OUTPUTS : call->y_stride;
    const bool int8 = p->options.arith == COP_ARITH_NATIVE_A8 && cop_pack_has_blocks(w->pack);
    cop_product_kernel *kernel =
        int8 ? p->kernels.with_int8[w->pack] : p->kernels.with_f32[w->pack];
    const uint32_t step = call->n_rows > ROWS_OF_ONE_PASS ? (uint32_t)K_STEP : w->inputs;
    for (uint32_t k = 0; k < w->inputs; k += step) {
        span.k0 = k;
        span.k1 = w->inputs - k < step ? w->inputs : k + step;
        kernel(&span);
        if (span.k1 == w->inputs)
            break;
    }
    const size_t columns = partial ? w->outputs - first : (size_t)n_panels * COP_PANEL_OUTPUTS;
    for (uint32_t r = 0; r < call->n_rows && (partial || call->round_output); r++) {
        float *y = out + r * call->y_stride;
        if (partial)
            memcpy(y, tail + (size_t)r * COP_PANEL_OUTPUTS, columns * sizeof *y);
        if (call->round_output)
            round_columns(y, columns);
    }
}

/* The panels of all parts in one line; a thread takes those from first to last - 1. A panel that is
 * not full goes alone, through the part's tail. */
static void run_panels(cop_products *p, const cop_product_call *call, const cop_product_rows *rows,
                       uint32_t first, uint32_t last) {
    uint32_t base = 0;
    size_t column = 0;
    for (uint32_t i = 0; i < call->n_parts; i++) {
        const cop_packed *w = &call->parts[i];
        const uint32_t full = w->outputs / COP_PANEL_OUTPUTS;
        uint32_t panel = first > base ? first - base : 0;
        const uint32_t end = last < base + w->panels ? (last > base ? last - base : 0) : w->panels;
        while (panel < end) {
            const uint32_t left = (end < full ? end : full) - (panel < full ? panel : full);
            const uint32_t n = left ? cop_even_tile(left, COP_PANELS_AT_ONCE) : 1;
            run_group(p, call, rows, i, column, panel, n);
            panel += n;
        }
        base += w->panels;
        column += w->outputs;
    }
}

uint64_t cop_products_run(cop_products *p, const cop_product_call *call) {
    const cop_product_rows rows = {
        .x = call->x,
        .x_stride = call->x_stride,
        .sx = p->sx,
        .xq = p->xq,
        .dx = p->dx,
        .sq = p->sq,
        .xq_stride = p->xq_stride,
        .block_stride = p->block_stride,
        .n = call->n_rows,
    };
    const bool a8 = p->options.arith == COP_ARITH_NATIVE_A8;
    uint32_t panels = 0;
    uint64_t bytes = 0;
    bool int8 = false, sums = false;
    for (uint32_t i = 0; i < call->n_parts; i++) {
        const cop_packed *w = &call->parts[i];
        panels += w->panels;
        bytes += cop_packed_bytes(w);
        int8 = int8 || (a8 && cop_pack_has_blocks(w->pack));
        sums = sums || (!a8 && w->pack == COP_PACK_Q4_1);
    }
    const size_t blocks =
        int8 || sums ? (size_t)call->n_rows * (call->parts[0].inputs / COP_BLOCK_VALUES) : 0;
#pragma omp parallel num_threads((int)p->options.n_threads)
    {
        const size_t threads = (size_t)omp_get_num_threads(), me = (size_t)omp_get_thread_num();
        if (blocks) {
            prepare(p, call, int8, blocks * me / threads, blocks * (me + 1) / threads);
#pragma omp barrier
        }
        run_panels(p, call, &rows, (uint32_t)(panels * me / threads),
                   (uint32_t)(panels * (me + 1) / threads));
    }
    return bytes;
}
