/* How the AVX-512 products, with and without VNNI, walk a span: one compiled kernel for each count
 * of panels and rows that a register tile can hold. The including file defines `tile`, `tile_of`,
 * PANEL_VECTORS and ROWS_MAX, and a function (const tile *, vectors, rows) for each format.
 */
#pragma once

#include "backend/cpu/products_kernels.h"

#define CASE(function, panels, rows)                                                               \
    case (panels)*8 + (rows):                                                                      \
        function(&t, (panels)*PANEL_VECTORS, rows);                                                \
        break;

/* Few rows: as many panels at once as registers hold. Many: two panels, rows in even tiles. */
#define DEFINE_KERNEL(name, function)                                                              \
    static void name(const cop_product_span *s) {                                                  \
        const cop_product_rows *rows = s->rows;                                                    \
        const uint32_t most = rows->n <= 3 ? COP_PANELS_AT_ONCE : 2;                               \
        for (uint32_t p = 0, panels; p < s->n_panels; p += panels) {                               \
            panels = cop_even_tile(s->n_panels - p, most);                                         \
            for (uint32_t r = 0, n; r < rows->n; r += n) {                                         \
                n = cop_even_tile(rows->n - r, ROWS_MAX);                                          \
                const tile t = tile_of(s, p, r);                                                   \
                switch (panels * 8 + n) {                                                          \
                    CASE(function, 4, 1)                                                           \
                    CASE(function, 4, 2)                                                           \
                    CASE(function, 4, 3)                                                           \
                    CASE(function, 3, 1)                                                           \
                    CASE(function, 3, 2)                                                           \
                    CASE(function, 3, 3)                                                           \
                    CASE(function, 2, 1)                                                           \
                    CASE(function, 2, 2)                                                           \
                    CASE(function, 2, 3)                                                           \
                    CASE(function, 2, 4)                                                           \
                    CASE(function, 2, 5)                                                           \
                    CASE(function, 2, 6)                                                           \
                    CASE(function, 1, 1)                                                           \
                    CASE(function, 1, 2)                                                           \
                    CASE(function, 1, 3)                                                           \
                    CASE(function, 1, 4)                                                           \
                    CASE(function, 1, 5)                                                           \
                    CASE(function, 1, 6)                                                           \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }
