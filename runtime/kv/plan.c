#include "kv/plan.h"

#include "base/memory.h"
#include "kv/plan_internal.h"

#include <string.h>

static cop_status options_resolve(cop_plan_options *o, const cop_kv *kv) {
    if (o->group == 0)
        return COP_FAIL(COP_ERR_CONFIG, "the plan's group is 0; it must be at least 1");
    if (o->tile_slots > COP_TILE_SLOTS_MAX)
        return COP_FAIL(COP_ERR_CONFIG, "tile_slots is %u; it must be at most %d", o->tile_slots,
                        COP_TILE_SLOTS_MAX);
    if (o->tile_slots == 0)
        o->tile_slots = o->group > 64 ? 1 : 64 / o->group;
    if (o->chunk_tokens != kv->options.chunk_tokens ||
        o->chunk_tail_tokens != kv->options.chunk_tail_tokens)
        return COP_FAIL(COP_ERR_MISMATCH, "the plan's chunk rule %u/%u is not the kv's %u/%u",
                        o->chunk_tokens, o->chunk_tail_tokens, kv->options.chunk_tokens,
                        kv->options.chunk_tail_tokens);
    const uint64_t slots = (uint64_t)o->max_decode_slots + o->max_prefill_slots;
    if (slots == 0 || slots > INT32_MAX / COP_TILE_SLOTS_MAX)
        return COP_FAIL(COP_ERR_CONFIG, "%u decode and %u prefill slots; 1 to 2^25 can be planned",
                        o->max_decode_slots, o->max_prefill_slots);
    if (o->max_partials == 0) {
        /* A chunk that is not a view's last holds at least min(C, W) tokens; with W = 0 it holds at
         * least one page. */
        const uint64_t pool = (uint64_t)kv->options.n_pages * kv->options.page_tokens;
        uint32_t least =
            o->chunk_tokens < o->chunk_tail_tokens ? o->chunk_tokens : o->chunk_tail_tokens;
        if (least == 0)
            least = kv->options.page_tokens;
        const uint64_t partials = slots * (pool / least + 1);
        o->max_partials = partials < INT32_MAX ? (uint32_t)partials : INT32_MAX;
    }
    return COP_OK;
}

/* Entries: the walks of tiles without anything in common have no more entries than there are nodes
 * and chunks; what neighbouring tiles share is counted for each of them. Set aside: 16 walks over
 * everything that the kv can hold, and 64 entries a slot. */
static cop_status entries_capacity(cop_plan *plan) {
    const cop_kv_options *kv = &plan->kv->options;
    const uint64_t chunks = (uint64_t)kv->n_pages * kv->page_tokens / kv->chunk_tokens;
    const uint64_t slots =
        (uint64_t)plan->options.max_decode_slots + plan->options.max_prefill_slots;
    const uint64_t capacity = 16 * (kv->max_nodes + chunks) + 64 * slots;
    if (capacity > INT32_MAX)
        return COP_FAIL(COP_ERR_CONFIG,
                        "a plan for %u view nodes and %llu slots is too large; lower one of them",
                        kv->max_nodes, (unsigned long long)slots);
    plan->entries_capacity = (uint32_t)capacity;
    return COP_OK;
}

static cop_status tables_create(cop_plan *plan) {
    const uint32_t decode = plan->options.max_decode_slots;
    const uint32_t prefill = plan->options.max_prefill_slots;
    const uint32_t slots = decode + prefill, entries = plan->entries_capacity;
    const uint32_t width = plan->options.tile_slots;
    plan->limits_capacity = prefill * width;
    const struct {
        void *field; /* address of a pointer */
        size_t count, size;
    } wish[] = {
        {&plan->slots, slots, sizeof *plan->slots},
        {&plan->slot_state, slots, sizeof *plan->slot_state},
        {&plan->free_slots, decode, sizeof *plan->free_slots},
        {&plan->tiles, slots, sizeof *plan->tiles},
        {&plan->tile_state, slots, sizeof *plan->tile_state},
        {&plan->free_tiles, decode, sizeof *plan->free_tiles},
        {&plan->dirty, decode, sizeof *plan->dirty},
        {&plan->nodes, plan->kv->options.max_nodes, sizeof *plan->nodes},
        {&plan->order, decode, sizeof *plan->order},
        {&plan->common, decode, sizeof *plan->common},
        {&plan->from, (size_t)decode + 1, sizeof *plan->from},
        {&plan->tiles_to, (size_t)decode + 1, sizeof *plan->tiles_to},
        {&plan->window, (size_t)decode + 1, sizeof *plan->window},
        {&plan->cost_to, (size_t)decode + 1, sizeof *plan->cost_to},
        {&plan->entries, entries, sizeof *plan->entries},
        {&plan->tile_items, entries, sizeof *plan->tile_items},
        {&plan->item_tokens, entries, sizeof *plan->item_tokens},
        {&plan->chunk_at, entries, sizeof *plan->chunk_at},
        {&plan->entry_changed, entries, sizeof *plan->entry_changed},
        {&plan->items, entries, sizeof *plan->items},
        {&plan->limits, plan->limits_capacity, sizeof *plan->limits},
        {&plan->runs, prefill, sizeof *plan->runs},
    };
    for (size_t i = 0; i < sizeof wish / sizeof *wish; i++) {
        void *memory = cop_calloc(wish[i].count, wish[i].size);
        if (!memory)
            return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a plan of %u slots", slots);
        memcpy(wish[i].field, &memory, sizeof memory);
    }
    return COP_OK;
}

cop_status cop_plan_create(const cop_plan_options *options, cop_kv *kv, cop_plan **out) {
    *out = NULL;
    cop_plan *plan = cop_calloc(1, sizeof *plan);
    if (!plan)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a plan");
    plan->options = *options;
    plan->kv = kv;
    cop_status status = options_resolve(&plan->options, kv);
    if (status == COP_OK)
        status = entries_capacity(plan);
    if (status == COP_OK)
        status = tables_create(plan);
    if (status == COP_OK)
        status = cop__plan_changes_create(plan);
    if (status != COP_OK) {
        cop_plan_destroy(plan);
        return status;
    }

    const uint32_t decode = plan->options.max_decode_slots;
    plan->first_range = plan->last_range = COP__NONE;
    for (uint32_t i = 0; i < decode + plan->options.max_prefill_slots; i++) {
        plan->slots[i].row = -1;
        plan->slot_state[i].node = COP_NODE_NONE;
        cop__tile_clear(plan, i);
    }
    for (uint32_t i = 0; i < decode; i++)
        plan->free_slots[i] = plan->free_tiles[i] = decode - 1 - i;
    plan->n_free_slots = plan->n_free_tiles = decode;
    for (uint32_t i = 0; i < kv->options.max_nodes; i++)
        plan->nodes[i].first_slot = COP__NONE;
    *out = plan;
    return COP_OK;
}

void cop_plan_destroy(cop_plan *plan) {
    if (!plan)
        return;
    void *const memory[] = {
        plan->slots,      plan->slot_state,   plan->free_slots, plan->tiles,   plan->tile_state,
        plan->free_tiles, plan->dirty,        plan->nodes,      plan->order,   plan->common,
        plan->from,       plan->tiles_to,     plan->window,     plan->cost_to, plan->entries,
        plan->tile_items, plan->item_tokens,  plan->chunk_at,   plan->items,   plan->limits,
        plan->runs,       plan->entry_changed};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        cop_free(memory[i]);
    cop__plan_changes_destroy(plan);
    cop_free(plan);
}

cop_status cop_plan_slot_add(cop_plan *plan, cop_node node, uint32_t *out_slot) {
    if (node == 0 || !cop__node_live(plan->kv, node))
        return COP_FAIL(COP_ERR_INTERNAL, "plan: a slot on node %u, which has no segment", node);
    if (plan->n_free_slots == 0)
        return COP_FAIL(COP_ERR_NO_ROOM, "all %u decode slots are in use; raise max_decode_slots",
                        plan->options.max_decode_slots);
    cop__prefill_drop(plan); /* it stands where a fresh decode slot and tile may go */
    const uint32_t slot = plan->free_slots[--plan->n_free_slots];
    if (slot >= plan->slots_end)
        plan->slots_end = slot + 1;
    plan->slots[slot] = (cop_slot){.row = -1};
    plan->slot_state[slot] = (cop__plan_slot){.node = node, .limit = COP_TO_END};
    cop__change(plan, COP_TABLE_SLOTS, slot, 1);
    cop__slot_place(plan, slot);
    plan->epoch++;
    plan->pending = true;
    *out_slot = slot;
    return COP_OK;
}

void cop_plan_slot_remove(cop_plan *plan, uint32_t slot) {
    if (slot >= plan->slots_end || plan->slot_state[slot].node == COP_NODE_NONE)
        return;
    cop__slot_take_out(plan, slot);
    plan->slots[slot] = (cop_slot){.row = -1};
    plan->slot_state[slot] = (cop__plan_slot){.node = COP_NODE_NONE};
    plan->free_slots[plan->n_free_slots++] = slot;
    cop__change(plan, COP_TABLE_SLOTS, slot, 1);
    plan->epoch++;
    plan->pending = true;
}

static cop_status step_validate(cop_plan *plan, const uint32_t *decode_slot, uint32_t n_decode,
                                const cop_prefill_run *runs, uint32_t n_runs) {
    const cop_kv *kv = plan->kv;
    plan->stamp++;
    for (uint32_t i = 0; i < n_decode; i++) {
        const uint32_t slot = decode_slot[i];
        if (slot >= plan->slots_end || plan->slot_state[slot].node == COP_NODE_NONE)
            return COP_FAIL(COP_ERR_INTERNAL, "plan step: row %u names slot %u, which is free", i,
                            slot);
        if (plan->slot_state[slot].stamp == plan->stamp)
            return COP_FAIL(COP_ERR_INTERNAL, "plan step: row %u names slot %u again", i, slot);
        plan->slot_state[slot].stamp = plan->stamp;
    }
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < n_runs; i++) {
        const cop_prefill_run *run = &runs[i];
        if (run->node == 0 || !cop__node_live(kv, run->node) || run->row < 0 ||
            (uint64_t)run->first + run->tokens > cop__node_tokens(kv, run->node))
            return COP_FAIL(COP_ERR_INTERNAL,
                            "plan step: prefill run %u, tokens %u + %u of node %u, does not exist",
                            i, run->first, run->tokens, run->node);
        tokens += run->tokens;
    }
    if (tokens > plan->options.max_prefill_slots)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "%llu prefill tokens in one step, at most %u; raise max_prefill_slots",
                        (unsigned long long)tokens, plan->options.max_prefill_slots);
    return COP_OK;
}

/* Gives the slots that were stamped by step_validate their rows; true if any row changed. */
static bool take_rows(cop_plan *plan, const uint32_t *decode_slot, uint32_t n_decode) {
    bool changed = false;
    for (uint32_t i = 0; i < n_decode; i++) {
        if (plan->slots[decode_slot[i]].row == (int32_t)i)
            continue;
        plan->slots[decode_slot[i]].row = (int32_t)i;
        cop__change(plan, COP_TABLE_SLOTS, decode_slot[i], 1);
        changed = true;
    }
    for (uint32_t slot = 0; slot < plan->slots_end; slot++) {
        if (plan->slots[slot].row < 0 || plan->slot_state[slot].stamp == plan->stamp)
            continue;
        plan->slots[slot].row = -1;
        cop__change(plan, COP_TABLE_SLOTS, slot, 1);
        changed = true;
    }
    return changed;
}

/* Accounts for what the open segments grew or lost, and marks the tiles of slots whose segment
 * entered or left a chunk. */
static void account_lengths(cop_plan *plan) {
    const cop_kv *kv = plan->kv;
    for (uint32_t slot = 0; slot < plan->slots_end; slot++) {
        const cop__plan_slot *state = &plan->slot_state[slot];
        if (state->node == COP_NODE_NONE)
            continue;
        cop__plan_node *n = &plan->nodes[state->node];
        cop__plan_tile *tile = &plan->tile_state[state->tile];
        const uint32_t tokens = cop__node_tokens(kv, state->node);
        const uint32_t chunks = cop__chunks_of_view(kv, state->node, tokens);
        if ((tokens ? chunks - kv->nodes[state->node].chunk : 0) != state->pieces)
            cop__tile_mark(plan, state->tile);
        if (tokens == n->tokens)
            continue;
        /* Two's complement: a retracted token subtracts. */
        const uint64_t grown = (uint64_t)tokens - n->tokens;
        plan->unique += grown;
        if (tokens > n->tokens) {
            plan->bound += grown;
        } else {
            const uint64_t lost = (uint64_t)(n->tokens - tokens) * n->below;
            plan->bound -= plan->bound < lost ? plan->bound : lost;
        }
        if (n->below > 1)
            plan->recount = true;
        plan->loads += grown;
        tile->loads += grown;
        if (!tile->dirty && chunks)
            plan->item_tokens[tile->first_entry + chunks - 1] += grown;
        n->tokens = tokens;
    }
}

/* Partials of a slot stay where they are while their number stays; the others go to the end, and
 * all move together when that wastes too much. */
static cop_status partials_place(cop_plan *plan) {
    const uint32_t first_prefill = plan->slots_end;
    uint64_t live = 0, fresh = 0, prefill = 0;
    for (uint32_t slot = 0; slot < plan->slots_end; slot++) {
        const cop_slot *s = &plan->slots[slot];
        if (s->row < 0 || s->n_partials < 2)
            continue;
        live += s->n_partials;
        if (plan->slot_state[slot].partials != s->n_partials)
            fresh += s->n_partials;
    }
    for (uint32_t i = 0; i < plan->n_prefill_slots; i++) {
        const uint32_t n = plan->slots[first_prefill + i].n_partials;
        prefill += n > 1 ? n : 0;
    }
    if (live + prefill > plan->options.max_partials)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "the step needs %llu attention partials, at most %u; raise max_partials or "
                        "chunk_tokens",
                        (unsigned long long)(live + prefill), plan->options.max_partials);

    const bool move = live == 0 || plan->partials_end + fresh > 2 * live + 64 ||
                      plan->partials_end + fresh + prefill > plan->options.max_partials;
    if (move)
        plan->partials_end = 0;
    for (uint32_t slot = 0; slot < plan->slots_end; slot++) {
        cop_slot *s = &plan->slots[slot];
        cop__plan_slot *state = &plan->slot_state[slot];
        if (move)
            state->partials = 0;
        if (s->row < 0 || s->n_partials < 2 || state->partials == s->n_partials)
            continue;
        s->first_partial = plan->partials_end;
        cop__change(plan, COP_TABLE_SLOTS, slot, 1);
        state->partials = s->n_partials;
        plan->partials_end += s->n_partials;
    }
    plan->n_partials = plan->partials_end;
    for (uint32_t i = 0; i < plan->n_prefill_slots; i++) {
        cop_slot *s = &plan->slots[first_prefill + i];
        if (s->n_partials < 2)
            continue;
        s->first_partial = plan->n_partials;
        plan->n_partials += s->n_partials;
    }
    return COP_OK;
}

/* Makes the tables again where something changed. Until it succeeds they hold no item, and what is
 * still dirty stays so. */
static cop_status tables_make(cop_plan *plan) {
    plan->epoch++;
    plan->pending = true;
    plan->made = false;
    while (plan->n_dirty) {
        const uint32_t tile = plan->dirty[plan->n_dirty - 1];
        if (plan->tile_state[tile].used) {
            COP_TRY(cop__walk_write(plan, tile));
            plan->stats.tiles_rewritten++;
        }
        plan->tile_state[tile].dirty = false;
        plan->n_dirty--;
    }
    COP_TRY(cop__prefill_place(plan));
    COP_TRY(partials_place(plan));
    cop__items_sort(plan);
    plan->pending = false;
    plan->made = true;
    return COP_OK;
}

cop_status cop_plan_step(cop_plan *plan, const uint32_t *decode_slot, uint32_t n_decode,
                         const cop_prefill_run *runs, uint32_t n_runs) {
    COP_TRY(step_validate(plan, decode_slot, n_decode, runs, n_runs));
    plan->stats.steps++;
    if (cop__prefill_drop(plan))
        plan->pending = true;
    if (take_rows(plan, decode_slot, n_decode))
        plan->pending = true;
    cop__prefill_take(plan, runs, n_runs);
    account_lengths(plan);
    cop__tiles_balance(plan);
    if (!plan->pending && plan->n_dirty == 0 && plan->n_runs == 0) {
        plan->stats.steps_unchanged++;
        return COP_OK;
    }
    return tables_make(plan);
}

cop_status cop_plan_rebuild(cop_plan *plan) {
    /* The runs of the last step stay part of it, unless their nodes have gone meanwhile. */
    for (uint32_t i = 0; i < plan->n_runs; i++) {
        const cop__plan_run *r = &plan->runs[i];
        if (plan->kv->nodes[r->run.node].birth != r->birth ||
            r->run.first + r->run.tokens > cop__node_tokens(plan->kv, r->run.node))
            plan->n_runs = 0;
    }
    cop__prefill_drop(plan);
    account_lengths(plan);
    cop__tiles_rebuild(plan);
    return tables_make(plan);
}

void cop_plan_changes_clear(cop_plan *plan) {
    cop_kv_changes_clear(plan->kv);
    cop__plan_changes_clear(plan);
}

cop_table_capacity cop_plan_capacity(const cop_plan *plan) {
    const cop_kv *kv = plan->kv;
    const uint32_t slots = plan->options.max_decode_slots + plan->options.max_prefill_slots;
    return (cop_table_capacity){.segments = kv->options.max_segments,
                                .page_table = kv->page_table_capacity,
                                .tiles = slots,
                                .entries = plan->entries_capacity,
                                .limits = plan->limits_capacity,
                                .items = plan->entries_capacity,
                                .slots = slots,
                                .partials = plan->options.max_partials};
}

cop_plan_tables cop_plan_view(const cop_plan *plan) {
    return (cop_plan_tables){
        .segments = cop_kv_segments(plan->kv),
        .page_table = cop_kv_page_table(plan->kv),
        .tiles = plan->tiles,
        .entries = plan->entries,
        .limits = plan->limits,
        .items = plan->items,
        .slots = plan->slots,
        .n_tiles = plan->tiles_end + plan->n_prefill_tiles,
        .n_items = plan->made ? plan->n_items : 0,
        .n_slots = plan->slots_end + plan->n_prefill_slots,
        .n_partials = plan->n_partials,
        .page_tokens = plan->kv->options.page_tokens,
        .epoch = plan->epoch,
        .changes = cop__plan_changes_read(plan),
    };
}

cop_plan_stats cop_plan_stats_read(const cop_plan *plan) {
    return plan->stats;
}
