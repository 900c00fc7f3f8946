/* Bytes and flops of a launch, predicted from its tables alone. The backends count the same figures
 * where they load; tests hold the two against one another, exactly.
 *
 * Source: the limits in FlashInfer (MLSys'25), section 2; Dao 2023 (FlashAttention-2), section 3.
 */
#pragma once

#include <stdint.h>

#include "kernels/step.h"
#include "kernels/tables.h"

typedef struct cop_attention_shape {
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t kv_element_bytes; /* 4 for f32, 2 for bf16 */
    /* Of the kernels, cop_attention_parts: the parts in which a KV head's query heads are done,
     * each of which loads K and V. 0: of the cpu backend, which does them all at once. */
    uint32_t kernel_parts;
} cop_attention_shape;

typedef struct cop_attention_cost { /* one layer, one step, all heads */
    uint64_t kv_load_bytes;  /* what tiles load: each token once for each tile entry that covers it,
                                and  for each part of the query heads */
    uint64_t kv_first_bytes; /* of these, the first load of each token */
    uint64_t partial_bytes;  /* f32 o, m and l, written and read; the kernels read m and l
                                of a row's chunks beyond COP_ATTENTION_MERGE_CHUNKS twice */
    uint64_t query_bytes, output_bytes;
    uint64_t flops; /* 4 d for each (query head, key that its row sees) */
    uint32_t items; /* times the KV heads and the parts */
} cop_attention_cost;

/* `seen` is scratch of cop_cost_scratch_words words; the caller owns it. (A page holds at most a
 * leaf's tokens, so a pool of n_pages holds at most n_pages leaves.) An entry with limits loads up
 * to the largest limit of a slot in its mask. Slots without a row load nothing. */
uint64_t cop_cost_scratch_words(uint32_t max_segments, uint32_t n_pages);
void cop_cost_attention(const cop_plan_tables *tables, uint32_t max_segments,
                        const cop_attention_shape *shape, uint64_t *seen, cop_attention_cost *out);

/* ---- the other launches of a step (step.h): every byte that threads load and store ---- */

typedef struct cop_launch_cost {
    uint64_t load_bytes, store_bytes, flops;
} cop_launch_cost;

/* Of healthy rows. A row that fails in append stores its zeros besides, and 8 bytes of marks; one
 * that had failed loads no Q, K, V. A row without a token loads no embedding. */
cop_launch_cost cop_cost_embed(const cop_embed_args *args);
cop_launch_cost cop_cost_norm(const cop_norm_args *args);
cop_launch_cost cop_cost_activate(const cop_activate_args *args);
cop_launch_cost cop_cost_append(const cop_append_args *args);
cop_launch_cost cop_cost_product(const cop_product_args *args);
/* Of the open segments: those with tokens; of these, those that name a row, an order, an order
 * with a place in the script. n_words in all records; n_tokens in all copies. */
typedef struct cop_advance_moves {
    uint32_t segments, positions, orders, scripts;
} cop_advance_moves;
cop_launch_cost cop_cost_advance(const cop_advance_args *args, const cop_advance_moves *moves);
cop_launch_cost cop_cost_patch(const cop_patch_args *args, uint64_t n_words);
cop_launch_cost cop_cost_copy_pages(const cop_copy_pages_args *args, uint64_t n_tokens);

/* One request, whose logits are to be sampled at all; the bytes of its logits and of its result.
 * Ties at a filter's edge, and equal logits by the hundred, cost further passes: known from the
 * row alone. */
typedef struct cop_sample_cost {
    uint32_t vocab;
    uint32_t list_full;      /* more candidates for the 20 best than the list holds (512) */
    const uint32_t *located; /* the ids that a pass was made for: ties cut, the token drawn */
    uint32_t n_located;
} cop_sample_cost;
cop_launch_cost cop_cost_sample(const cop_sample_cost *cost, const cop_sample_order *order);
