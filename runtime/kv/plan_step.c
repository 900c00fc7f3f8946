#include "kv/plan_internal.h"

static bool slot_taken(const cop_plan *plan, uint32_t slot) {
    return slot < plan->slots_end && plan->slot_state[slot].node != COP_NODE_NONE;
}

/* Lists in moved[] the rows that are not those of the step before; for the others it is known that
 * they name a slot, and one each. */
static cop_status rows_check(cop_plan *plan, const uint32_t *decode_slot, uint32_t n_decode) {
    plan->stamp++;
    plan->n_moved = 0;
    for (uint32_t i = 0; i < n_decode; i++) {
        const uint32_t slot = decode_slot[i];
        if (i < plan->n_rows && plan->row_slot[i] == slot)
            continue;
        if (!slot_taken(plan, slot))
            return COP_FAIL(COP_ERR_INTERNAL, "plan step: row %u names slot %u, which is free", i,
                            slot);
        const int32_t row = plan->slots[slot].row;
        if (plan->slot_state[slot].stamp == plan->stamp ||
            (row >= 0 && (uint32_t)row < n_decode && decode_slot[row] == slot))
            return COP_FAIL(COP_ERR_INTERNAL, "plan step: row %u names slot %u again", i, slot);
        plan->slot_state[slot].stamp = plan->stamp;
        plan->moved[plan->n_moved++] = i;
    }
    return COP_OK;
}

static cop_status runs_check(const cop_plan *plan, const cop_prefill_run *runs, uint32_t n_runs) {
    const cop_kv *kv = plan->kv;
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

static void set_row(cop_plan *plan, uint32_t slot, int32_t row) {
    plan->slots[slot].row = row;
    cop__change(plan, COP_TABLE_SLOTS, slot, 1);
    cop__partials_touch(plan, slot);
    plan->pending = true;
}

/* The slot that had the row sits out, unless it moves to another one. */
static void row_leave(cop_plan *plan, uint32_t row) {
    if (row < plan->n_rows && plan->row_slot[row] != COP__NONE)
        set_row(plan, plan->row_slot[row], -1);
}

static void take_rows(cop_plan *plan, const uint32_t *decode_slot, uint32_t n_decode) {
    for (uint32_t i = 0; i < plan->n_moved; i++)
        row_leave(plan, plan->moved[i]);
    for (uint32_t row = n_decode; row < plan->n_rows; row++)
        row_leave(plan, row);
    for (uint32_t i = 0; i < plan->n_moved; i++) {
        const uint32_t row = plan->moved[i];
        plan->row_slot[row] = decode_slot[row];
        set_row(plan, decode_slot[row], (int32_t)row);
    }
    plan->n_rows = n_decode;
}

/* Marks the slot's tile if the slot's own segment entered or left a chunk. */
static void mark_crossing(cop_plan *plan, uint32_t slot) {
    const cop_node node = plan->slot_state[slot].node;
    const uint32_t tokens = cop__node_tokens(plan->kv, node);
    const uint32_t chunks = cop__chunks_of_view(plan->kv, node, tokens);
    const uint32_t pieces = tokens ? chunks - plan->kv->nodes[node].chunk : 0;
    if (pieces != plan->slot_state[slot].pieces)
        cop__tile_mark(plan, plan->slot_state[slot].tile);
}

/* The tile loads the grown segment once, whatever slots of it see it. */
static void tile_grow(cop_plan *plan, uint32_t slot, uint64_t grown) {
    const uint32_t tile = plan->slot_state[slot].tile;
    cop__plan_tile *t = &plan->tile_state[tile];
    if (t->stamp == plan->stamp)
        return;
    t->stamp = plan->stamp;
    t->loads += grown;
    plan->loads += grown;
    const uint32_t chunks = plan->slots[slot].n_partials;
    if (!t->dirty && chunks)
        cop__item_grow(plan, tile, chunks - 1, grown);
}

void cop__node_account(cop_plan *plan, uint32_t slot) {
    const cop_node node = plan->slot_state[slot].node;
    const cop__plan_node *n = &plan->nodes[node];
    const uint32_t before = plan->watch[slot].tokens, tokens = cop__node_tokens(plan->kv, node);
    for (uint32_t s = n->first_slot; s != COP__NONE; s = plan->slot_state[s].next_on_node) {
        plan->watch[s].tokens = tokens;
        mark_crossing(plan, s);
    }
    /* Two's complement: a retracted token subtracts. */
    const uint64_t grown = (uint64_t)tokens - before;
    plan->unique += grown;
    if (tokens > before) {
        plan->bound += grown;
    } else {
        const uint64_t lost = (uint64_t)(before - tokens) * n->below;
        plan->bound -= plan->bound < lost ? plan->bound : lost;
    }
    plan->stamp++;
    for (uint32_t s = n->first_slot; s != COP__NONE; s = plan->slot_state[s].next_on_node)
        tile_grow(plan, s, grown);
}

/* Accounts for what the open segments grew or lost. This alone looks at every slot in every step:
 * mostly a segment has grown inside its chunk, and nobody else stands on it. */
static void account_lengths(cop_plan *plan) {
    const cop_segment *segments = plan->kv->segments;
    uint64_t grown_all = 0;
    for (uint32_t slot = 0; slot < plan->slots_end; slot++) {
        cop__plan_watch *w = &plan->watch[slot];
        if (w->segment == COP_SEGMENT_NONE)
            continue;
        const uint32_t tokens = segments[w->segment].tokens;
        if (tokens == w->tokens)
            continue;
        if (tokens < w->tokens || tokens >= w->end) {
            cop__node_account(plan, slot);
            continue;
        }
        const uint32_t grown = tokens - w->tokens;
        cop__plan_tile *tile = &plan->tile_state[w->tile];
        w->tokens = tokens;
        grown_all += grown;
        tile->loads += grown;
        if (!tile->dirty)
            cop__item_grow(plan, w->tile, w->chunk, grown);
    }
    plan->unique += grown_all;
    plan->bound += grown_all;
    plan->loads += grown_all;
}

/* Makes the tables again where something changed. Until it succeeds they show no item, and what is
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
    COP_TRY(cop__partials_place(plan));
    cop__items_settle(plan);
    plan->pending = false;
    plan->made = true;
    return COP_OK;
}

cop_status cop_plan_step(cop_plan *plan, const uint32_t *decode_slot, uint32_t n_decode,
                         const cop_prefill_run *runs, uint32_t n_runs) {
    COP_TRY(rows_check(plan, decode_slot, n_decode));
    COP_TRY(runs_check(plan, runs, n_runs));
    plan->stats.steps++;
    cop__prefill_drop(plan);
    take_rows(plan, decode_slot, n_decode);
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
