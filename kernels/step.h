/* The launches of a step besides attention and cuBLAS: their arguments and what they promise.
 * A C header without dependencies: this folder can be lifted out.
 *
 * A step's rows are decode rows and prefill rows alike; row r has a token, a rotary position, the
 * segment that it writes to and an offset there. Activations are bf16, row-major, [rows, width],
 * 16-byte aligned, widths in elements, row strides given where they may differ. Values are rounded
 * to bf16 where the stores say so and nowhere else (the residual stream after each add, the output
 * of a norm, Q, K and V after a bias, after their norm and after the rotary embedding, silu(gate) *
 * up); in between everything is f32, in one fixed order, each operation rounded once.
 *
 * Bits     The same on every device and on a host that follows the same order, for all but: the
 *          product (tensor cores round in their own way; on one device a row's bits depend on the
 *          row and the weights alone), and logsumexp and what is derived from it (a double log).
 *          Payloads of NaN are nobody's promise.
 * Failure  A row whose token is negative, or whose Q, K or V is not finite, is marked in
 *          row_failed, and its segment in segment_failed; from there on it stores zeros, so that
 *          no other row meets 0 x NaN. cop_launch_advance clears the marks of the step's rows.
 * Launch   Every launcher queues one kernel and gives 0 or a cudaError_t; arguments that a kernel
 *          cannot take give 1 (cudaErrorInvalidValue) and queue nothing. No rows: 0, and
 *          nothing is queued.
 */
#pragma once

#include <stdint.h>

#include "kernels/tables.h"

#ifdef __CUDACC__
#define COP_STEP_INLINE static inline __host__ __device__
#else
#define COP_STEP_INLINE static inline
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the step's first kernel: the device's own prediction of its next step ---- */

typedef struct cop_open_segment { /* an open segment that this step makes longer */
    uint32_t segment, tokens;     /* 0 tokens: nothing moves, a row that only fills up a launch */
    int32_t row;                  /* >= 0: this row's rotary position moves on by `tokens` */
    int32_t order; /* >= 0: so does this order's key, and its place in the script if it has one */
} cop_open_segment;

typedef struct cop_advance_args {
    cop_segment *segments;
    const cop_open_segment *open;    /* [n_open], each segment, row and order at most once */
    int32_t *position;               /* [n_rows] */
    struct cop_sample_order *orders; /* or NULL where no entry names one */
    uint32_t *tickets;               /* [n_tickets] set to 0: one a layer */
    uint32_t *row_failed;            /* [n_rows] set to 0 */
    uint32_t *segment_failed;        /* set to 0 for the segments of row_segment */
    const uint32_t *row_segment;     /* [n_rows] */
    uint32_t n_open, n_tickets, n_rows;
} cop_advance_args;
int cop_launch_advance(const cop_advance_args *args, void *stream);

/* ---- patches: words of device tables, all from one uploaded buffer ---- */

enum { COP_PATCH_TABLES_MAX = 24 };

typedef struct cop_patch_record {
    uint32_t table;   /* of cop_patch_args.tables */
    uint32_t index;   /* the first word to replace */
    uint32_t n_words; /* 4 bytes each */
    uint32_t first;   /* where they stand in cop_patch_args.words */
} cop_patch_record;

typedef struct cop_patch_table {
    uint32_t *words;
    uint32_t n_words;
} cop_patch_table;

typedef struct cop_patch_args {
    cop_patch_table tables[COP_PATCH_TABLES_MAX];
    const cop_patch_record *records; /* records of one step touch no word twice */
    const uint32_t *words;
    uint32_t *bad; /* set to 1 + its index by a record that leaves a table, which is skipped */
    uint32_t n_tables, n_records, n_words;
} cop_patch_args;
int cop_launch_patch(const cop_patch_args *args, void *stream);

/* ---- rows ---- */

typedef struct cop_embed_args {
    const uint16_t *embedding; /* [vocab, hidden] */
    const int32_t *token;      /* [n_rows]; outside the vocabulary: zeros, and the row fails */
    const uint32_t *row_segment;
    uint16_t *x; /* [n_rows, hidden] */
    uint32_t *row_failed, *segment_failed;
    uint32_t n_rows, hidden, vocab;
} cop_embed_args;
int cop_launch_embed(const cop_embed_args *args, void *stream);

typedef struct cop_norm_args {
    uint16_t *x;           /* [n_rows, hidden]; x += delta where there is one */
    const uint16_t *delta; /* or NULL */
    const float *weight;   /* [hidden] */
    uint16_t *out;         /* x / rms(x) * weight */
    float eps;
    uint32_t n_rows, hidden;
} cop_norm_args;
int cop_launch_norm(const cop_norm_args *args, void *stream);

typedef struct cop_activate_args {
    const uint16_t *gate_up; /* [n_rows, 2 ffn]: gate, then up */
    uint16_t *out;           /* [n_rows, ffn] silu(gate) * up */
    uint32_t n_rows, ffn;
} cop_activate_args;
int cop_launch_activate(const cop_activate_args *args, void *stream);

/* ---- K and V into the pool ---- */

/* The pool of one layer: [page][K|V][kv_head][token][d] of bf16. */
COP_STEP_INLINE uint64_t cop_pool_offset(uint32_t page, uint32_t is_v, uint32_t kv_head,
                                         uint32_t token, uint32_t n_kv_heads, uint32_t page_tokens,
                                         uint32_t head_dim) {
    return ((((uint64_t)page * 2 + is_v) * n_kv_heads + kv_head) * page_tokens + token) * head_dim;
}

#define COP_AT_END UINT32_MAX /* row_offset: the last token of the row's segment */

enum {                      /* which elements a rotary angle turns together */
       COP_ROPE_NEIGHBOURS, /* (2i, 2i + 1): llama.cpp's "llama" files */
       COP_ROPE_HALVES,     /* (i, i + d / 2): Hugging Face's weights, llama.cpp's "neox" */
};

typedef struct cop_append_args {
    const void *qkv; /* [n_rows, (n_heads + 2 n_kv_heads) d] bf16, or f32 with qkv_f32 */
    uint16_t *query; /* [n_rows, n_heads, d] */
    uint16_t *pool;  /* of this layer */
    const cop_segment *segments;
    const uint32_t *page_table;
    const uint32_t *row_segment, *row_offset;
    const int32_t *position;      /* [n_rows], below n_positions */
    const float *cosine, *sine;   /* [n_positions, d / 2] */
    const float *bias;            /* [(n_heads + 2 n_kv_heads) d] or NULL: Q's, K's, then V's */
    const float *q_norm, *k_norm; /* [d], both or neither: norm of each head */
    uint32_t *row_failed, *segment_failed;
    float eps;
    uint32_t n_rows, n_heads, n_kv_heads, head_dim, page_tokens;
    uint32_t rope;    /* COP_ROPE_* */
    uint32_t qkv_f32; /* then nothing is rounded before Q, K and V are stored */
} cop_append_args;
int cop_launch_append(const cop_append_args *args, void *stream);

typedef struct cop_page_copy {
    uint32_t from, to; /* pages; no page is both written and read in one launch */
    uint32_t tokens;   /* the first so many */
} cop_page_copy;

typedef struct cop_copy_pages_args {
    uint16_t *pool;          /* of layer 0 */
    uint64_t layer_elements; /* from one layer's pool to the next */
    const cop_page_copy *copies;
    uint32_t n_copies, n_layers, n_kv_heads, head_dim, page_tokens;
} cop_copy_pages_args;
int cop_launch_copy_pages(const cop_copy_pages_args *args, void *stream);

/* ---- the product of the invariant mode ---- */

enum {
    COP_PRODUCT_ROWS_MAX = 64,
    COP_PRODUCT_OUTPUTS = 32, /* of a tile */
    COP_PRODUCT_WARPS = 4,    /* slices of K that one block sums */
};

typedef struct cop_product_split { /* of the weights' shape alone: never of the rows or the device
                                    */
    uint32_t tiles, blocks; /* of outputs; of K: the sum of a tile is made of `blocks` partials */
    uint32_t slice;         /* inputs of a warp; blocks * COP_PRODUCT_WARPS slices cover K */
} cop_product_split;

/* Blocks are doubled while there are fewer than 264 and a warp would keep 128 inputs. */
COP_STEP_INLINE cop_product_split cop_product_split_of(uint32_t outputs, uint32_t inputs) {
    cop_product_split split;
    split.tiles = (outputs + COP_PRODUCT_OUTPUTS - 1) / COP_PRODUCT_OUTPUTS;
    split.blocks = 1;
    while (split.tiles * split.blocks < 264 &&
           inputs / (2 * split.blocks * COP_PRODUCT_WARPS) >= 128)
        split.blocks *= 2;
    const uint32_t warps = split.blocks * COP_PRODUCT_WARPS;
    split.slice = ((inputs + warps - 1) / warps + 63) / 64 * 64;
    return split;
}
/* f32 partials of a launch with so many rows; 0 when tiles have one block. */
COP_STEP_INLINE uint64_t cop_product_workspace_bytes(uint32_t rows, uint32_t outputs,
                                                     uint32_t inputs) {
    const cop_product_split split = cop_product_split_of(outputs, inputs);
    return split.blocks == 1
               ? 0
               : (uint64_t)split.tiles * split.blocks * rows * COP_PRODUCT_OUTPUTS * 4;
}

typedef struct cop_product_args { /* y[r][n] = sum over k of x[row(r)][k] w[n][k] */
    const uint16_t *x;            /* [.., inputs] */
    const uint32_t *x_rows;       /* [n_rows] which row of x, or NULL: row r */
    const uint16_t *w;            /* [outputs, inputs] */
    void *y;                      /* [n_rows, outputs] bf16, or f32 with y_f32 */
    float *workspace;             /* cop_product_workspace_bytes */
    uint32_t *counters;           /* [tiles], 0 before the first launch; left at 0 */
    uint64_t x_stride, y_stride;  /* elements from row to row */
    uint32_t n_rows, outputs, inputs;
    uint32_t y_f32;
} cop_product_args;
int cop_launch_product(const cop_product_args *args, void *stream);

/* ---- logits to tokens ---- */

enum { COP_SAMPLE_TOP = 20 };

typedef struct cop_sample_bias {
    int32_t token;
    float bias; /* finite or -inf; entries are added in their order */
} cop_sample_bias;

/* `forced` of an order: this number and those below it name places of the script, from place 0 down
 * to place COP_FORCED_SCRIPT - forced; -1: nothing is forced. */
enum { COP_FORCED_NONE = -1, COP_FORCED_SCRIPT = -2 };

typedef struct cop_sample_order {    /* one request */
    uint64_t seed, stream, position; /* key of the counter-based generator */
    uint32_t logits_row;
    float temperature; /* 0: greedy, the lowest id of the best */
    uint32_t top_k;    /* 0: off */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
    int32_t forced;    /* >= 0: its log-probability is reported, and it is what goes to next_token;
                          <= COP_FORCED_SCRIPT: so it is with the token that stands in the script */
    uint32_t first_bias, n_bias;
    int32_t row;      /* the step's row, whose failure is the sample's; -1: none */
    int32_t next_row; /* where in next_token the token goes; -1: nowhere */
} cop_sample_order;

typedef struct cop_sample_result { /* 188 bytes: all that goes back to the host */
    int32_t token;                 /* -1 when it failed */
    float logprob, forced_logprob, logsumexp;
    float confidence; /* minus the mean of top_logprob */
    uint32_t failed;
    uint32_t n_top;
    int32_t top_token[COP_SAMPLE_TOP]; /* beyond n_top: -1 and 0 */
    float top_logprob[COP_SAMPLE_TOP];
} cop_sample_result;

typedef struct cop_sample_args {
    const float *logits; /* [.., vocab], row stride a multiple of 4 */
    const cop_sample_order *orders;
    const cop_sample_bias *bias;
    const int32_t *script; /* tokens of the vocabulary; or NULL where no order names a place */
    const uint32_t *row_failed, *segment_failed, *row_segment; /* of the step's rows */
    cop_sample_result *results;
    int32_t *next_token; /* of the next step's rows, or NULL */
    uint64_t logits_stride;
    uint32_t n_orders, vocab;
} cop_sample_args;
int cop_launch_sample(const cop_sample_args *args, void *stream);

#ifdef __cplusplus
}
#endif
