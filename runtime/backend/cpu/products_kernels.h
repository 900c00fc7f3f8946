/* Inside the products: the panel layouts and the table of kernels of each instruction set.
 *
 * A panel holds outputs o = 0 .. 31 for all of K:
 *   F32   float w[K][32]
 *   BF16  uint32_t w[(K + 1) / 2][32]; the even k in the low half, the odd one in the high half
 *   F16   uint16_t w[K][32]
 *   Q4_0  for each block of 32 k: uint32_t q[4][32], uint16_t d[32] (f16)
 *   Q4_1  the same and uint16_t m[32]; byte i of q[j][o] holds k = 8j + i in its low nibble and
 *         k = 8j + 4 + i in its high one, so a nibble plane is four consecutive int8 inputs
 *   Q8_0  for each block: int8_t q[8][32][4] (k = 4j + i), uint16_t d[32]
 */
#pragma once

#include <string.h>

#include "backend/cpu/products.h"

enum {
    COP_PANELS_AT_ONCE = 4,
    COP_Q4_PLANE_BYTES = 4 * COP_PANEL_OUTPUTS * 4,
    COP_Q4_0_BYTES = COP_Q4_PLANE_BYTES + 2 * COP_PANEL_OUTPUTS,
    COP_Q4_1_BYTES = COP_Q4_PLANE_BYTES + 4 * COP_PANEL_OUTPUTS,
    COP_Q8_PLANE_BYTES = 32 * COP_PANEL_OUTPUTS,
    COP_Q8_0_BYTES = COP_Q8_PLANE_BYTES + 2 * COP_PANEL_OUTPUTS,
};

/* A step's inputs. Block arrays have one value a block of 32 along K. */
typedef struct cop_product_rows {
    const float *x;
    size_t x_stride;
    const float *sx;   /* sum of the block's x */
    const int8_t *xq;  /* int8 inputs, 4-byte aligned */
    const float *dx;   /* their scale */
    const int32_t *sq; /* their sum */
    size_t xq_stride, block_stride;
    uint32_t n;
} cop_product_rows;

/* Adds inputs k0 .. k1 - 1 of every row to y, whose column 0 is the first output of `panel`; starts
 * from 0 when k0 is 0. k0 is a multiple of 32; all 32 columns of a panel are written. n_panels is
 * at most COP_PANELS_AT_ONCE. */
typedef struct cop_product_span {
    const cop_packed *w;
    uint32_t panel, n_panels;
    uint32_t k0, k1;
    const cop_product_rows *rows;
    float *y;
    size_t y_stride;
} cop_product_span;

typedef void cop_product_kernel(const cop_product_span *span);

typedef struct cop_product_kernels {
    cop_product_kernel *with_f32[COP_PACK_COUNT];
    cop_product_kernel *with_int8[COP_PACK_COUNT]; /* NULL for plain weights */
} cop_product_kernels;

extern const cop_product_kernels cop__product_kernels_portable;
#if defined(__x86_64__)
extern const cop_product_kernels cop__product_kernels_avx2;
extern const cop_product_kernels cop__product_kernels_avx512; /* no with_int8 */
extern const cop_product_kernels cop__product_kernels_vnni;   /* only with_int8 */
#endif

static inline bool cop_pack_has_blocks(cop_pack pack) {
    return pack >= COP_PACK_Q4_0;
}

static inline size_t cop_pack_block_bytes(cop_pack pack) {
    return pack == COP_PACK_Q4_0   ? COP_Q4_0_BYTES
           : pack == COP_PACK_Q4_1 ? COP_Q4_1_BYTES
                                   : COP_Q8_0_BYTES;
}

/* Sizes that divide `left` into the fewest tiles of at most `most`, as evenly as it goes. */
static inline uint32_t cop_even_tile(uint32_t left, uint32_t most) {
    const uint32_t tiles = (left + most - 1) / most;
    return (left + tiles - 1) / tiles;
}

/* A panel of nibbles is too short a stream for the processor to have read ahead by its end, so with
 * few rows, when the products wait for memory, they ask for what comes AHEAD bytes later: past the
 * end of this group of neighbouring panels, that is the start of the next one. Longer panels (Q8_0,
 * F16, BF16, F32) gained nothing from it; a row of SmolLM2 with native-f32 took 2.4 instead of
 * 3.7 ms on one core. */
enum { COP_AHEAD_BYTES = 2048, COP_AHEAD_ROWS = 3, COP_LINE_BYTES = 64 };

static inline __attribute__((always_inline)) void
cop_read_ahead(const uint8_t *panel, size_t panel_bytes, int panels, size_t offset, size_t bytes) {
    const size_t ahead = offset + COP_AHEAD_BYTES;
    const uint8_t *from =
        panel + ahead + (ahead < panel_bytes ? 0 : (size_t)(panels - 1) * panel_bytes);
    for (int p = 0; p < panels; p++)
        for (size_t i = 0; i < bytes; i += COP_LINE_BYTES)
            __builtin_prefetch(from + (size_t)p * panel_bytes + i, 0, 3);
}

#if defined(__clang__)
#define COP_UNROLL _Pragma("unroll")
#else
#define COP_UNROLL _Pragma("GCC unroll 32")
#endif
#define COP_ALWAYS_INLINE static inline __attribute__((always_inline))
