/* What attention's own files share. Nothing else includes this.
 *
 * attention.c         the pool, launches: walks, folds, merges
 * attention_create.c  what is made of the options, and given back
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>

#include "backend/cpu/attention.h"
#include "backend/cpu/attention_kernels.h"
#include "base/mapping.h"
#include "kv/fold_reference.h"

/* One thread's state within an item. */
typedef struct cop__attention_worker {
    cop__fold_scratch fold;
    cop__row *rows;     /* [64 * group], those of the item's slots, slot by slot */
    cop__row **visible; /* [64 * group], those that see the current leaf */
    float *o;           /* [64 * group][d] */
    float *turned;      /* [64 * group][d], queries as the last entry had them rotated */
    uint32_t n_slots;   /* slots of the tile that take part in the item */
    uint32_t slot[COP_TILE_SLOTS_MAX], plan_slot[COP_TILE_SLOTS_MAX];
    const float *raw[COP_TILE_SLOTS_MAX]; /* queries of the slot's group, not rotated */
    int32_t angle[COP_TILE_SLOTS_MAX];    /* to what `turned` was rotated; -1: not yet */
    const cop_walk_entry *listed; /* `visible` holds this entry's rows, which see a whole leaf */
    uint32_t n_listed;
    cop_cpu_attention_counters counters;
} cop__attention_worker;

struct cop_cpu_attention {
    cop_cpu_attention_options options;
    const cop__attention_kernels *kernels;
    cop__fold_options fold;
    bool turns;
    cop_cpu_attention_turn turn;
    uint32_t group, element_bytes;
    size_t tile_elements, layer_elements; /* K or V of one (page, head); K and V of one layer */
    cop_mapping pool;
    cop__attention_worker **workers;
    /* A slot's partials are [n_heads][n_partials], so that a row's stand one after the other. */
    cop_mapping partial_o; /* [d] each */
    cop__partial *partials;
    _Atomic uint64_t *loaded; /* [kv_head][page]: tokens loaded in this launch */
    cop_cpu_attention_counters counters;
};
