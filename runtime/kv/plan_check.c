/* Counts again what the plan keeps from step to step, from the slots and the entries up. */
#include "kv/plan_internal.h"

#include <string.h>

/* How many decode slots see each node, and what they see together. */
static cop_status check_views(cop_plan *plan) {
    const cop_kv *kv = plan->kv;
    uint32_t *below = plan->chunk_at; /* scratch; there are more entries than nodes */
    uint64_t unique = 0;
    memset(below, 0, kv->options.max_nodes * sizeof *below);
    for (uint32_t slot = 0; slot < plan->slots_end; slot++) {
        if (plan->slot_state[slot].node == COP_NODE_NONE)
            continue;
        for (cop_node at = plan->slot_state[slot].node; at != 0; at = kv->nodes[at].parent)
            unique += below[at]++ == 0 ? cop__node_tokens(kv, at) : 0;
    }
    for (cop_node node = 1; node < kv->options.max_nodes; node++)
        if (below[node] != plan->nodes[node].below)
            return COP_FAIL(COP_ERR_INTERNAL, "plan: %u slots see node %u, which counts %u",
                            below[node], node, plan->nodes[node].below);
    if (unique != plan->unique)
        return COP_FAIL(COP_ERR_INTERNAL, "plan: slots see %llu tokens, %llu counted",
                        (unsigned long long)unique, (unsigned long long)plan->unique);
    return COP_OK;
}

static cop_status check_slots(const cop_plan *plan) {
    for (uint32_t slot = 0; slot < plan->slots_end; slot++) {
        const cop__plan_slot *state = &plan->slot_state[slot];
        const cop__plan_watch *w = &plan->watch[slot];
        const int32_t row = plan->slots[slot].row;
        if (row >= 0 && ((uint32_t)row >= plan->n_rows || plan->row_slot[row] != slot))
            return COP_FAIL(COP_ERR_INTERNAL, "plan: slot %u has row %d, which is not its own",
                            slot, row);
        if (state->node == COP_NODE_NONE)
            continue;
        if (plan->tiles[state->tile].slot[state->index] != (int32_t)slot)
            return COP_FAIL(COP_ERR_INTERNAL, "plan: slot %u is not in its tile %u", slot,
                            state->tile);
        if (w->segment != plan->kv->nodes[state->node].segment ||
            w->tokens != plan->kv->segments[w->segment].tokens)
            return COP_FAIL(COP_ERR_INTERNAL, "plan: slot %u watches %u tokens of segment %u", slot,
                            w->tokens, w->segment);
    }
    return COP_OK;
}

static cop_status check_loads(cop_plan *plan) {
    uint64_t loads = 0;
    for (uint32_t tile = 0; tile < plan->tiles_end; tile++) {
        const uint64_t tokens = plan->tile_state[tile].used ? cop__walk_gather(plan, tile) : 0;
        if (tokens != plan->tile_state[tile].loads)
            return COP_FAIL(COP_ERR_INTERNAL, "plan: tile %u loads %llu tokens, %llu counted", tile,
                            (unsigned long long)tokens,
                            (unsigned long long)plan->tile_state[tile].loads);
        loads += tokens;
    }
    if (loads != plan->loads)
        return COP_FAIL(COP_ERR_INTERNAL, "plan: tiles load %llu tokens, %llu counted",
                        (unsigned long long)loads, (unsigned long long)plan->loads);
    uint32_t n;
    const uint64_t best = cop__tiling_search(plan, &n);
    if (plan->bound > best)
        return COP_FAIL(COP_ERR_INTERNAL, "plan: %llu is no lower bound of the best loads, %llu",
                        (unsigned long long)plan->bound, (unsigned long long)best);
    return COP_OK;
}

static uint64_t item_tokens(const cop_plan *plan, const cop_item *item) {
    uint64_t tokens = 0;
    for (uint32_t e = item->first_entry; e < item->first_entry + item->n_entries; e++) {
        const cop_walk_entry *entry = &plan->entries[e];
        tokens += entry->tokens == COP_TO_END
                      ? plan->kv->segments[entry->segment].tokens - entry->first
                      : entry->tokens;
    }
    return tokens;
}

static cop_status check_items(const cop_plan *plan) {
    uint32_t n = 0;
    for (uint32_t tile = 0; tile < plan->tiles_end + plan->n_prefill_tiles; tile++) {
        const cop__plan_tile *t = &plan->tile_state[tile];
        for (uint32_t c = 0; c < t->n_items; c++, n++) {
            const uint32_t at = t->first_entry + c, place = plan->item_place[at];
            const uint32_t bucket = plan->item_bucket[at];
            const cop_item *item = &plan->items[place];
            if (place < plan->bucket_end[bucket + 1] || place >= plan->bucket_end[bucket] ||
                item->tile != tile || item->chunk != c)
                return COP_FAIL(COP_ERR_INTERNAL, "plan: item %u of tile %u is not at %u", c, tile,
                                place);
            const uint64_t tokens = item_tokens(plan, item);
            if (tokens != plan->item_tokens[at])
                return COP_FAIL(
                    COP_ERR_INTERNAL, "plan: item %u of tile %u has %llu tokens, %llu counted", c,
                    tile, (unsigned long long)tokens, (unsigned long long)plan->item_tokens[at]);
            if (!t->lagging && cop__item_bucket(tokens) != bucket)
                return COP_FAIL(COP_ERR_INTERNAL, "plan: item %u of tile %u is in bucket %u", c,
                                tile, bucket);
        }
    }
    if (n != plan->bucket_end[0])
        return COP_FAIL(COP_ERR_INTERNAL, "plan: tiles have %u items, %u are listed", n,
                        plan->bucket_end[0]);
    return COP_OK;
}

static cop_status check_partials(const cop_plan *plan) {
    uint64_t live = 0;
    uint32_t holders = 0;
    for (uint32_t slot = 0; slot < plan->slots_end; slot++) {
        const cop_slot *s = &plan->slots[slot];
        if (s->row < 0 || s->n_partials < 2)
            continue;
        live += s->n_partials;
        holders++;
        if (s->first_partial + s->n_partials > plan->partials_end)
            return COP_FAIL(COP_ERR_INTERNAL, "plan: partials of slot %u lie beyond %u", slot,
                            plan->partials_end);
    }
    if (live != plan->partials_live || holders != plan->n_holders)
        return COP_FAIL(COP_ERR_INTERNAL, "plan: %u slots hold %llu partials, %u and %llu counted",
                        holders, (unsigned long long)live, plan->n_holders,
                        (unsigned long long)plan->partials_live);
    return COP_OK;
}

cop_status cop_plan_check(cop_plan *plan) {
    COP_TRY(check_views(plan));
    COP_TRY(check_slots(plan));
    COP_TRY(check_loads(plan));
    COP_TRY(check_items(plan));
    return check_partials(plan);
}
