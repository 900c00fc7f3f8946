/* Bytes and flops of a launch, predicted from its tables alone. The backends count the same figures
 * where they load; tests hold the two against one another, exactly.
 *
 * Source: the limits in FlashInfer (MLSys'25), section 2; Dao 2023 (FlashAttention-2), section 3.
 */
#pragma once

#include <stdint.h>

#include "kernels/tables.h"

typedef struct cop_attention_shape {
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t kv_element_bytes; /* 4 for f32, 2 for bf16 */
} cop_attention_shape;

typedef struct cop_attention_cost { /* one layer, one step, all heads */
    uint64_t
        kv_load_bytes; /* what tiles load: each token once for each tile entry that covers it */
    uint64_t kv_first_bytes; /* of these, the first load of each token */
    uint64_t partial_bytes;  /* f32 o, m and l, written and read */
    uint64_t query_bytes, output_bytes;
    uint64_t flops; /* 4 d for each (query head, key that its row sees) */
    uint32_t items; /* times the KV heads */
} cop_attention_cost;

/* `seen` is scratch of cop_cost_scratch_words words; the caller owns it. (A page holds at most a
 * leaf's tokens, so a pool of n_pages holds at most n_pages leaves.) An entry with limits loads up
 * to the largest limit of a slot in its mask. Slots without a row load nothing. */
uint64_t cop_cost_scratch_words(uint32_t max_segments, uint32_t n_pages);
void cop_cost_attention(const cop_plan_tables *tables, uint32_t max_segments,
                        const cop_attention_shape *shape, uint64_t *seen, cop_attention_cost *out);
