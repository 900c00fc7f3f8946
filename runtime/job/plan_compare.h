/* What one shape costs under each plan: the row of a table that compares them.
 *
 * The walk's figures come from the planner's tables (walk_search.h); those of the other plans from
 * the tree (kernels/cost_plans.h), each at its best chunk length.
 */
#pragma once

#include "base/status.h"
#include "job/walk_search.h"
#include "measure/tree_shapes.h"

typedef struct cop_plan_compare { /* one shape and head configuration */
    cop_attention_shape heads;
    uint64_t minimum_bytes; /* every KV token once */
    double bound_s;         /* and Q and O once */
    cop_walk_choice walk;   /* at the default chunk rule */
    cop_walk_choice walk_best;
    cop_plan_cost segment, levels, unshared;
    uint32_t segment_chunk_tokens, levels_chunk_tokens;
} cop_plan_compare;

/* Writes one for each of the shape's head configurations, in order: room for shape->n_heads.
 * `one_width`: all chunks of a walk have tiles of one width, as the planner makes them today; else
 * each chunk may have its own. */
cop_status cop_plan_compare_shape(const cop_tree_shape *shape, const cop_gpu_model *gpu,
                                  uint32_t kv_element_bytes, bool one_width, cop_plan_compare *out);

/* Geometric means of modelled time / bound over those whose bound is min_bound_s or more. */
typedef struct cop_plan_means {
    double walk, walk_best, segment, levels, unshared;
    double worst_walk, worst_walk_best;
    double worst_against_others; /* walk_best / the best of the three other plans */
    uint32_t cases;
} cop_plan_means;
void cop_plan_means_add(cop_plan_means *means, const cop_plan_compare *one, double min_bound_s);
cop_plan_means cop_plan_means_read(const cop_plan_means *sums); /* of what was added, from {0} */
