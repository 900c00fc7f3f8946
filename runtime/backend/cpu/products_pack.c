#include <omp.h>

#include "backend/cpu/products_kernels.h"
#include "kv/fold_reference.h"

static cop_pack pack_of(cop_dtype type, cop_arith arith) {
    if (arith == COP_ARITH_F32)
        return COP_PACK_F32;
    if (arith == COP_ARITH_BF16)
        return COP_PACK_BF16;
    switch (type) {
    case COP_F32:
        return COP_PACK_F32;
    case COP_F16:
        return COP_PACK_F16;
    case COP_BF16:
        return COP_PACK_BF16;
    case COP_Q4_0:
        return COP_PACK_Q4_0;
    case COP_Q4_1:
        return COP_PACK_Q4_1;
    case COP_Q8_0:
        return COP_PACK_Q8_0;
    }
    return COP_PACK_F32;
}

cop_status cop_packed_plan(const cop_tensor *tensor, cop_arith arith, cop_packed *out) {
    if (tensor->rows == 0 || tensor->cols == 0 || tensor->rows > INT32_MAX ||
        tensor->cols > INT32_MAX)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "a matrix of %llu x %llu cannot be repacked: 1 to 2147483647 a side",
                        (unsigned long long)tensor->rows, (unsigned long long)tensor->cols);
    if (tensor->cols % cop_dtype_block_values(tensor->type) != 0)
        return COP_FAIL(COP_ERR_FORMAT, "%s weights have rows of %llu values, not blocks of 32",
                        cop_dtype_name(tensor->type), (unsigned long long)tensor->cols);
    const uint32_t n = (uint32_t)tensor->rows, k = (uint32_t)tensor->cols;
    *out = (cop_packed){.pack = pack_of(tensor->type, arith), .outputs = n, .inputs = k};
    out->panels = (n + COP_PANEL_OUTPUTS - 1) / COP_PANEL_OUTPUTS;
    size_t k_bytes;
    switch (out->pack) {
    case COP_PACK_F32:
        k_bytes = (size_t)k * sizeof(float);
        break;
    case COP_PACK_BF16:
        k_bytes = ((size_t)k + 1) / 2 * sizeof(uint32_t);
        break;
    case COP_PACK_F16:
        k_bytes = (size_t)k * sizeof(uint16_t);
        break;
    default:
        out->panel_bytes = k / COP_BLOCK_VALUES * cop_pack_block_bytes(out->pack);
        return COP_OK;
    }
    out->panel_bytes = k_bytes * COP_PANEL_OUTPUTS;
    return COP_OK;
}

size_t cop_packed_bytes(const cop_packed *packed) {
    return packed->panels * packed->panel_bytes;
}

size_t cop_packed_scratch(const cop_packed *packed) {
    return (size_t)COP_PANEL_OUTPUTS * packed->inputs;
}

static void store_plain(const cop_packed *w, uint8_t *panel, const float *rows) {
    const uint32_t inputs = w->inputs;
    for (uint32_t k = 0; k < inputs; k++) {
        for (uint32_t o = 0; o < COP_PANEL_OUTPUTS; o++) {
            const float value = rows[(size_t)o * inputs + k];
            if (w->pack == COP_PACK_F32) {
                ((float *)panel)[(size_t)k * COP_PANEL_OUTPUTS + o] = value;
                continue;
            }
            uint16_t *pairs = (uint16_t *)panel;
            pairs[((size_t)(k / 2) * COP_PANEL_OUTPUTS + o) * 2 + k % 2] = cop_bf16_from_f32(value);
        }
    }
}

static void store_f16(const cop_packed *w, uint8_t *panel, uint32_t o, const uint8_t *row) {
    for (uint32_t k = 0; k < w->inputs; k++)
        memcpy(panel + ((size_t)k * COP_PANEL_OUTPUTS + o) * 2, row + (size_t)k * 2, 2);
}

/* ggml's blocks: f16 d, (f16 m,) 16 bytes whose low nibbles are values 0 .. 15 and whose high ones
 * are 16 .. 31; Q8_0: f16 d, 32 int8. */
static void store_q4(const cop_packed *w, uint8_t *panel, uint32_t o, const uint8_t *row) {
    const bool has_m = w->pack == COP_PACK_Q4_1;
    const size_t header = has_m ? 4 : 2, block_bytes = cop_pack_block_bytes(w->pack);
    for (uint32_t b = 0; b < w->inputs / COP_BLOCK_VALUES; b++) {
        const uint8_t *from = row + b * (header + 16), *nibbles = from + header;
        uint8_t *to = panel + b * block_bytes;
        for (uint32_t k = 0; k < COP_BLOCK_VALUES; k++) {
            const uint8_t q = k < 16 ? nibbles[k] & 15 : nibbles[k - 16] >> 4;
            uint8_t *byte = to + (k / 8 * COP_PANEL_OUTPUTS + o) * 4 + k % 4;
            *byte = (uint8_t)(*byte | q << (k % 8 < 4 ? 0 : 4));
        }
        memcpy(to + COP_Q4_PLANE_BYTES + o * 2, from, 2);
        if (has_m)
            memcpy(to + COP_Q4_PLANE_BYTES + (COP_PANEL_OUTPUTS + o) * 2, from + 2, 2);
    }
}

static void store_q8(const cop_packed *w, uint8_t *panel, uint32_t o, const uint8_t *row) {
    for (uint32_t b = 0; b < w->inputs / COP_BLOCK_VALUES; b++) {
        const uint8_t *from = row + b * (size_t)(2 + COP_BLOCK_VALUES);
        uint8_t *to = panel + b * (size_t)COP_Q8_0_BYTES;
        for (uint32_t j = 0; j < 8; j++)
            memcpy(to + (j * COP_PANEL_OUTPUTS + o) * 4, from + 2 + 4 * j, 4);
        memcpy(to + COP_Q8_PLANE_BYTES + o * 2, from, 2);
    }
}

static void fill_panel(const cop_packed *w, const cop_tensor *tensor, uint32_t index,
                       float *scratch) {
    const size_t row_bytes =
        w->inputs / cop_dtype_block_values(tensor->type) * cop_dtype_block_bytes(tensor->type);
    uint8_t *panel = w->data + index * w->panel_bytes;
    const bool plain = w->pack == COP_PACK_F32 || w->pack == COP_PACK_BF16;
    for (uint32_t o = 0; o < COP_PANEL_OUTPUTS; o++) {
        const uint32_t n = index * COP_PANEL_OUTPUTS + o;
        float *wide = scratch + (size_t)o * w->inputs;
        if (n >= w->outputs) {
            if (plain)
                memset(wide, 0, w->inputs * sizeof *wide);
            continue;
        }
        const uint8_t *row = (const uint8_t *)tensor->data + n * row_bytes;
        if (plain)
            cop_dtype_widen(tensor->type, row, w->inputs, wide);
        else if (w->pack == COP_PACK_F16)
            store_f16(w, panel, o, row);
        else if (w->pack == COP_PACK_Q8_0)
            store_q8(w, panel, o, row);
        else
            store_q4(w, panel, o, row);
    }
    if (plain)
        store_plain(w, panel, scratch);
}

void cop_packed_fill(const cop_packed *packed, const cop_tensor *tensor, uint32_t n_threads,
                     float *scratch) {
#pragma omp parallel for schedule(static) num_threads((int)n_threads)
    for (uint32_t p = 0; p < packed->panels; p++)
        fill_panel(packed, tensor, p,
                   scratch + (size_t)omp_get_thread_num() * cop_packed_scratch(packed));
}
