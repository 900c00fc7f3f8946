/* Matrix products of the cpu backend: y[row][n] = sum over k of x[row][k] w[n][k], in the order
 * that arith.h fixes.
 *
 * Weights are repacked once into panels of 32 outputs, K ascending inside a panel, so that vectors
 * run over outputs: each output is then one chain over K, whatever the number of rows, threads or
 * lanes, and the bits are the same in portable C, AVX2 and AVX-512. A panel is one sequential
 * stream; with one row several panels are walked at once, with many rows a register tile of rows
 * uses each weight that it loads, so a step reads the weights from memory once.
 *
 * A cop_packed describes panels inside memory that the caller owns (a cop_mapping: on huge pages
 * where the system grants them). A cop_products owns the scratch of the inputs' block sums
 * and int8 copies; one thread drives it, its own OpenMP threads share the panels statically.
 * Nothing is allocated after create.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/arith.h"
#include "backend/cpu/isa.h"
#include "base/status.h"
#include "model/gguf.h"

enum { COP_PANEL_OUTPUTS = 32 };

typedef enum cop_pack { /* how a panel stores its weights; products_kernels.h has the layouts */
                        COP_PACK_F32,
                        COP_PACK_BF16,
                        COP_PACK_F16,
                        COP_PACK_Q4_0,
                        COP_PACK_Q4_1,
                        COP_PACK_Q8_0,
                        COP_PACK_COUNT,
} cop_pack;

typedef struct cop_packed {
    cop_pack pack;
    uint32_t outputs, inputs; /* N and K */
    uint32_t panels;
    size_t panel_bytes; /* a multiple of 64 */
    uint8_t *data;      /* [panels, panel_bytes], borrowed */
} cop_packed;

/* Describes (without data) how a tensor is packed for an arithmetic; ERR_UNSUPPORTED for shapes
 * beyond 32 bits, ERR_FORMAT when a block type's K is not a multiple of 32. */
cop_status cop_packed_plan(const cop_tensor *tensor, cop_arith arith, cop_packed *out);
size_t cop_packed_bytes(const cop_packed *packed);

/* Fills packed->data, which must be zeroed. scratch: n_threads * cop_packed_scratch() floats. */
size_t cop_packed_scratch(const cop_packed *packed);
void cop_packed_fill(const cop_packed *packed, const cop_tensor *tensor, uint32_t n_threads,
                     float *scratch);

typedef struct cop_products_options {
    cop_isa isa;
    bool no_vnni; /* for tests: AVX-512 without its int8 dot products */
    cop_arith arith;
    uint32_t n_threads;
    uint32_t max_rows, max_inputs;
} cop_products_options;

typedef struct cop_products cop_products;

cop_status cop_products_create(const cop_products_options *options, cop_products **out);
void cop_products_destroy(cop_products *products);

enum { COP_PRODUCT_PARTS = 3 };

typedef struct cop_product_call {
    const cop_packed *parts; /* outputs of the parts stand side by side in y */
    uint32_t n_parts;        /* at most COP_PRODUCT_PARTS, all with the same inputs */
    const float *x;          /* row r at x + r * x_stride */
    size_t x_stride;
    uint32_t n_rows;
    float *y;
    size_t y_stride;
    bool round_output; /* to bf16 */
} cop_product_call;

/* Returns the bytes of weights that the product streamed. */
uint64_t cop_products_run(cop_products *products, const cop_product_call *call);
