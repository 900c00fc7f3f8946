/* What other plans of the same attention cost, and the modelled time of any of them.
 *
 * For one layer of decode attention over a tree of segments, one query row a leaf:
 *   walk      row tiles that walk the tree: from a plan's own tables (cost.h)
 *   segment   one work item a (segment, chunk, tile of 64 rows), one launch; a partial for each
 *             (row, segment, chunk)
 *   levels    the same work, one launch a level and then a merge launch a level: a cascade
 *   unshared  one row walks its own path (paged attention), split every 2048 tokens; every row
 *             has its own copy of what it sees
 *
 * The time is a paper model's, for comparing plans where no GPU is at hand, never a measurement:
 * the largest of DRAM traffic at the bandwidth reached, L2 traffic at L2's, and the makespan of the
 * items over the resident blocks, longest first, each drawing what one block can draw after a fixed
 * cost. The bound is every KV byte, Q and O once from DRAM.
 *
 * Source: MultiLevelCascade in FlashInfer (MLSys'25); Graham 1969 for the makespan's rule.
 */
#pragma once

#include <stdint.h>

#include "kernels/cost.h"

typedef struct cop_gpu_model {
    double dram_bytes_per_s;  /* reached by a good kernel */
    double l2_bytes_per_s;    /* from L2 to all processors */
    double block_bytes_per_s; /* that one resident block draws */
    double item_s, launch_s;  /* fixed cost of a work item, of a further launch */
    uint32_t resident_blocks;
} cop_gpu_model;

#define COP_COST_ROOT UINT32_MAX

/* Parents stand before their children. A leaf (a node without children) has one row. */
typedef struct cop_cost_tree {
    const uint32_t *parent; /* COP_COST_ROOT: stands on nothing */
    const uint32_t *tokens;
    const uint32_t *rows; /* leaves at or below the node */
    uint32_t n_nodes, n_rows, n_levels;
} cop_cost_tree;

typedef struct cop_plan_cost { /* one layer, all heads */
    cop_attention_cost bytes;
    uint32_t launches;
    double seconds; /* modelled */
} cop_plan_cost;

/* The sum of a plan's bytes, each load counted. */
uint64_t cop_cost_all_bytes(const cop_attention_cost *bytes);
/* Every KV token of the tree once. */
uint64_t cop_cost_minimum_bytes(const cop_cost_tree *tree, const cop_attention_shape *shape);
double cop_cost_bound_seconds(const cop_cost_tree *tree, const cop_attention_shape *shape,
                              const cop_gpu_model *gpu);

/* KV tokens that each item of the tables loads, [n_items]. */
void cop_cost_item_tokens(const cop_plan_tables *tables, uint64_t *tokens);

/* Work items in groups of equal length, and room to lay them out. The caller owns the arrays. */
typedef struct cop_cost_items {
    uint64_t *tokens; /* [n]; sorted in place, longest first */
    uint32_t *count;  /* [n] items of this many tokens; NULL: one each. Moves with tokens. */
    uint32_t n;
    double *blocks; /* scratch [resident_blocks] */
} cop_cost_items;

/* Modelled seconds until the last resident block is idle; every item once for each KV head. */
double cop_cost_makespan_seconds(const cop_cost_items *items, const cop_attention_shape *shape,
                                 const cop_gpu_model *gpu);

/* Modelled seconds of one launch with these bytes, given its makespan. */
double cop_cost_launch_seconds(const cop_attention_cost *bytes, double makespan_s,
                               const cop_gpu_model *gpu);

/* `items` needs room for cop_cost_segment_groups(tree) groups, with counts; `parts`
 * is scratch of n_nodes words. */
uint32_t cop_cost_segment_groups(const cop_cost_tree *tree);
typedef struct cop_cost_scratch {
    cop_cost_items items;
    uint32_t *parts;
} cop_cost_scratch;
void cop_cost_segment_plan(const cop_cost_tree *tree, const cop_attention_shape *shape,
                           const cop_gpu_model *gpu, uint32_t chunk_tokens,
                           cop_cost_scratch *scratch, cop_plan_cost *out);
/* The cascade of a segment plan: the same bytes, more launches. */
void cop_cost_level_plan(const cop_plan_cost *segment, const cop_cost_tree *tree,
                         const cop_gpu_model *gpu, cop_plan_cost *out);
/* `parts` is scratch of n_nodes words. */
void cop_cost_unshared_plan(const cop_cost_tree *tree, const cop_attention_shape *shape,
                            const cop_gpu_model *gpu, uint32_t *parts, cop_plan_cost *out);
