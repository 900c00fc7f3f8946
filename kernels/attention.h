/* Attention of one layer, for all rows of a step, over an arbitrary DAG of KV segments: one launch.
 * A C header without dependencies: this folder can be lifted out.
 *
 * A row is a slot of the plan (one query token) with one query head. Tables (tables.h) say which
 * rows form a tile, which runs of tokens the tile walks, and where chunks are cut; Q and the KV
 * pool are bf16, sums are f32, and a row's bits depend on its own view and the chunk rule alone.
 *
 *   cop_launch_attention_tree    every tile walks the union of what its rows see, once
 *   cop_launch_attention_merge   only the merge of partials, as a launch of its own: an oracle
 *   cop_launch_attention_paged   each row walks a page table of its own, nothing is shared: the
 *                                baseline. On a view of one segment it gives the tree's bits.
 *
 * Contract  The caller has checked: cop_attention_unsupported gives NULL; no tile uses slots beyond
 *           cop_attention_tile_slots; every entry has q_shift 0 (kernels do not rotate queries);
 *           rows, partials and pages lie in their buffers. Device pointers are aligned to 16 bytes.
 * Launch    Queues one kernel and gives 0 or a cudaError_t; arguments that no kernel takes give 1
 *           (cudaErrorInvalidValue) and queue nothing.
 * Rows      Slot s takes part in item (tile, chunk) if its row >= 0 and chunk < n_partials. Rows
 *           with n_partials = 0 get out = 0 and lse = -inf. Rows of no slot are not touched.
 */
#pragma once

#include <stdint.h>

#include "kernels/tables.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What changes from step to step, on the device so that a captured launch follows it. */
typedef struct cop_attention_queue {
    uint32_t n_items, n_slots;
} cop_attention_queue;

enum { /* cop_attention_args.flags: for tests and benchmarks, the bits of the result stay */
       COP_ATTENTION_WIDE_ONLY = 1,      /* few rows go through the wide tile too */
       COP_ATTENTION_SEPARATE_MERGE = 2, /* partials are written, cop_launch_attention_merge does
                                            the rest; counters are not used */
};

typedef struct cop_attention_args {
    const cop_segment *segments;
    const uint32_t *page_table;
    const cop_tile *tiles;
    const cop_walk_entry *entries;
    const int32_t *limits;
    const cop_item *items; /* longest first: blocks draw them in this order */
    const cop_slot *slots;
    const cop_attention_queue *queue;
    uint32_t *ticket;   /* of this layer; 0 before the launch, the step's first kernel clears it */
    uint32_t *counters; /* [cop_attention_counters] 0 before the first launch; left at 0 */
    const uint16_t *pool;          /* of this layer: [page][K|V][kv_head][token][d] */
    const uint16_t *q;             /* row r, head h: q + r * q_stride + h * d */
    uint16_t *out;                 /* likewise */
    float *lse;                    /* [row][head] in base 2, or NULL */
    float *partial_o;              /* [partial][head][d], not divided by the sum */
    float *partial_ml;             /* [partial][head][2]: maximum of the unscaled scores, sum */
    uint64_t q_stride, out_stride; /* elements; multiples of 8 */
    uint32_t page_tokens;          /* 16, 32 or 64 */
    uint32_t n_heads, n_kv_heads, head_dim;
    float scale_log2;  /* softmax scale * log2(e), rounded to f32 once */
    uint32_t n_blocks; /* of the grid; 0: as many as the device holds (cop_attention_blocks) */
    uint32_t n_slots;  /* capacity of the slot table: the grid of the separate merge */
    uint32_t flags;
} cop_attention_args;

int cop_launch_attention_tree(const cop_attention_args *args, void *stream);
int cop_launch_attention_merge(const cop_attention_args *args, void *stream);

typedef struct cop_attention_paged_args {
    const cop_segment *rows; /* [n_rows] row r sees the tokens of its own page table */
    const uint32_t *page_table;
    const uint16_t *pool, *q;
    uint16_t *out;
    float *lse;
    float *partial_o, *partial_ml; /* [n_rows * max_chunks][head]..; unused with one chunk */
    uint32_t *counters;            /* [row][kv_head][part] 0 before the first launch; left at 0 */
    uint64_t q_stride, out_stride;
    uint32_t page_tokens, n_heads, n_kv_heads, head_dim;
    float scale_log2;
    uint32_t n_rows;
    uint32_t chunk_tokens; /* rounded up to whole leaves: where a row is split */
    uint32_t max_chunks;   /* of a row; the grid is rows x KV heads x chunks */
} cop_attention_paged_args;

int cop_launch_attention_paged(const cop_attention_paged_args *args, void *stream);

/* NULL, or why no kernel takes this shape: a text to print. */
const char *cop_attention_unsupported(uint32_t head_dim, uint32_t n_heads, uint32_t n_kv_heads,
                                      uint32_t page_tokens);
/* The blocks of the tree kernel that the current device holds at once; 0 or a cudaError_t. */
int cop_attention_blocks(uint32_t head_dim, uint32_t *n_blocks);

/* Chunks of a row whose maxima and sums a merge keeps: it reads those of further ones twice. */
enum { COP_ATTENTION_MERGE_CHUNKS = 512 };

/* Rows of a wide tile, and of a narrow one for every head size. */
enum { COP_ATTENTION_NARROW_ROWS = 16 };
static inline uint32_t cop_attention_tile_rows(uint32_t head_dim) {
    return head_dim > 128 ? 32u : 64u;
}
/* A KV head with more query heads than a tile has rows is done in parts, each of which loads K and
 * V again. */
static inline uint32_t cop_attention_parts(uint32_t head_dim, uint32_t group) {
    const uint32_t rows = cop_attention_tile_rows(head_dim);
    return (group + rows - 1) / rows;
}
/* The most slots of a tile: the plan's tile_slots. */
static inline uint32_t cop_attention_tile_slots(uint32_t head_dim, uint32_t group) {
    const uint32_t rows = cop_attention_tile_rows(head_dim);
    return group < rows ? rows / group : 1;
}
/* The same for the paged kernel, whose tiles are narrow. */
static inline uint32_t cop_attention_paged_parts(uint32_t group) {
    return (group + COP_ATTENTION_NARROW_ROWS - 1) / COP_ATTENTION_NARROW_ROWS;
}
/* Words of cop_attention_args.counters. */
static inline uint64_t cop_attention_counters(uint32_t n_slots, uint32_t head_dim, uint32_t n_heads,
                                              uint32_t n_kv_heads) {
    return (uint64_t)n_slots * n_kv_heads * cop_attention_parts(head_dim, n_heads / n_kv_heads);
}

#ifdef __cplusplus
}
#endif
