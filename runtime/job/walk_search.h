/* Which tiles would walk a shape fastest, by the cost model, from the planner's own tables.
 *
 * A search holds, for one tree and one chunk rule, the items that the planner makes at each tile
 * width. The chunk rule is part of the arithmetic and declared by a run; the width is not: a row's
 * partial of a chunk is the same from any tile. So a choice may take each chunk's items from
 * another width: wide ones where many rows share, narrow ones where private tails would keep one
 * block busy for too long. Either all chunks have one width, or the choice is mixed.
 *
 * Sums are exact: every width's items are counted from its tables (kernels/cost.h), and choosing
 * among them changes KV loads and the number of items alone.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/cost_plans.h"

typedef struct cop_walk_choice {
    uint32_t chunk_tokens, chunk_tail_tokens;
    uint32_t tile_slots; /* 0: mixed */
    cop_plan_cost cost;
} cop_walk_choice;

typedef struct cop_walk_search cop_walk_search;

/* The tree must outlive the search. */
cop_status cop_walk_search_create(const cop_cost_tree *tree, uint32_t chunk_tokens,
                                  uint32_t chunk_tail_tokens, cop_walk_search **out);
void cop_walk_search_destroy(cop_walk_search *search); /* NULL is fine */

/* The cheapest choice for these heads. Rows of a tile: at most 64, or 32 at head size 256.
 * `one_width` forbids mixed choices. */
typedef struct cop_walk_question {
    cop_attention_shape shape;
    cop_gpu_model gpu;
    bool one_width;
} cop_walk_question;
cop_status cop_walk_search_best(cop_walk_search *search, const cop_walk_question *question,
                                cop_walk_choice *out);

/* The chunk rules that a search for the best one tries, ended by {0, 0}; the default comes first.
 */
extern const uint32_t cop_walk_rules[][2];
