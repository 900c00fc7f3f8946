/* The planner's own tables for a tree of a shape file: a KV pool's bookkeeping with the tree's
 * segments, a decode slot on every leaf, one step.
 *
 * Row r of the step is leaf r in the tree's order. Benchmarks and checks take their tables from
 * here, so that figures are those of the plan that runs, not of a model of it.
 */
#pragma once

#include <stdint.h>

#include "base/status.h"
#include "kernels/cost_plans.h"
#include "kv/plan.h"

typedef struct cop_shape_plan_options {
    uint32_t page_tokens;
    uint32_t chunk_tokens, chunk_tail_tokens;
    uint32_t group;      /* query heads for each KV head */
    uint32_t tile_slots; /* 0: the planner's widest */
} cop_shape_plan_options;

typedef struct cop_shape_plan cop_shape_plan;

cop_status cop_shape_plan_create(const cop_cost_tree *tree, const cop_shape_plan_options *options,
                                 cop_shape_plan **out);
void cop_shape_plan_destroy(cop_shape_plan *plan); /* NULL is fine */

cop_plan_tables cop_shape_plan_tables(const cop_shape_plan *plan);
uint32_t cop_shape_plan_pages(const cop_shape_plan *plan);
uint32_t cop_shape_plan_page_table_words(const cop_shape_plan *plan); /* capacity */
uint32_t cop_shape_plan_segments(const cop_shape_plan *plan); /* capacity of the segment table */
uint32_t cop_shape_plan_segment_of(const cop_shape_plan *plan, uint32_t tree_node);
uint32_t cop_shape_plan_node_of_row(const cop_shape_plan *plan, uint32_t row);
