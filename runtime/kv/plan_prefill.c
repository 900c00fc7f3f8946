#include "kv/plan_internal.h"

static cop_node ancestor_at(const cop_kv *kv, cop_node node, uint32_t depth) {
    while (kv->nodes[node].depth > depth)
        node = kv->nodes[node].parent;
    return node;
}

/* Lifts two nodes to their ancestors of equal depth. */
static void same_depth(const cop_kv *kv, cop_node *a, cop_node *b) {
    const uint32_t depth_a = kv->nodes[*a].depth, depth_b = kv->nodes[*b].depth;
    *a = ancestor_at(kv, *a, depth_b);
    *b = ancestor_at(kv, *b, depth_a);
}

/* Depth-first order of two nodes; runs of one node by their first token. */
static bool comes_before(const cop_kv *kv, const cop_prefill_run *a, const cop_prefill_run *b) {
    if (a->node == b->node)
        return a->first < b->first;
    cop_node x = a->node, y = b->node;
    same_depth(kv, &x, &y);
    if (x == y)
        return kv->nodes[a->node].depth < kv->nodes[b->node].depth;
    while (kv->nodes[x].parent != kv->nodes[y].parent) {
        x = kv->nodes[x].parent;
        y = kv->nodes[y].parent;
    }
    return kv->nodes[x].birth < kv->nodes[y].birth;
}

static uint32_t tokens_in_common(const cop_kv *kv, cop_node a, cop_node b) {
    same_depth(kv, &a, &b);
    while (a != b) {
        a = kv->nodes[a].parent;
        b = kv->nodes[b].parent;
    }
    return cop_kv_view_tokens(kv, a);
}

void cop__prefill_take(cop_plan *plan, const cop_prefill_run *runs, uint32_t n_runs) {
    plan->n_runs = 0;
    for (uint32_t i = 0; i < n_runs; i++) {
        if (runs[i].tokens == 0)
            continue;
        /* Runs mostly come in order already, so insertion from the end is cheap. */
        uint32_t at = plan->n_runs++;
        for (; at > 0 && comes_before(plan->kv, &runs[i], &plan->runs[at - 1].run); at--)
            plan->runs[at] = plan->runs[at - 1];
        plan->runs[at] = (cop__plan_run){runs[i], plan->kv->nodes[runs[i].node].birth};
    }
}

void cop__prefill_drop(cop_plan *plan) {
    if (plan->n_prefill_slots == 0)
        return;
    for (uint32_t i = plan->n_prefill_tiles; i-- > 0;)
        cop__tile_clear(plan, plan->tiles_end + i);
    for (uint32_t i = 0; i < plan->n_prefill_slots; i++)
        plan->slots[plan->slots_end + i] = (cop_slot){.row = -1};
    plan->n_prefill_tiles = plan->n_prefill_slots = plan->n_limits = 0;
    plan->epoch++;
    plan->pending = true;
}

/* Whether a run should begin in the `room` places that the tile of the run before it has left: yes
 * if that makes it touch no tile more than it must, or if what it would load once more is small
 * against what the two have in common. */
static bool shares_tile(const cop_plan *plan, const cop_prefill_run *before,
                        const cop_prefill_run *run, uint32_t room) {
    const uint32_t width = plan->options.tile_slots;
    const uint32_t common = tokens_in_common(plan->kv, before->node, run->node);
    if (room == 0 || common == 0)
        return false;
    const uint32_t rest = run->tokens > room ? run->tokens - room : 0;
    if (1 + (rest + width - 1) / width <= (run->tokens + width - 1) / width)
        return true;
    const uint32_t own = cop_kv_view_tokens(plan->kv, run->node) - common;
    return own < common / 2;
}

static void place_run(cop_plan *plan, const cop_prefill_run *run, uint32_t *room) {
    for (uint32_t i = 0; i < run->tokens; i++) {
        if (*room == 0) {
            plan->n_prefill_tiles++;
            *room = plan->options.tile_slots;
        }
        const uint32_t slot = plan->slots_end + plan->n_prefill_slots++;
        plan->slots[slot] = (cop_slot){.row = run->row + (int32_t)i};
        plan->slot_state[slot] = (cop__plan_slot){.node = run->node, .limit = run->first + i + 1};
        cop__tile_put(plan, plan->tiles_end + plan->n_prefill_tiles - 1, slot);
        --*room;
    }
}

cop_status cop__prefill_place(cop_plan *plan) {
    uint32_t room = 0;
    for (uint32_t i = 0; i < plan->n_runs; i++) {
        const cop_prefill_run *run = &plan->runs[i].run;
        if (i > 0 && !shares_tile(plan, &plan->runs[i - 1].run, run, room))
            room = 0;
        place_run(plan, run, &room);
    }
    cop__change(plan, COP_TABLE_SLOTS, plan->slots_end, plan->n_prefill_slots);
    for (uint32_t i = 0; i < plan->n_prefill_tiles; i++)
        COP_TRY(cop__walk_write(plan, plan->tiles_end + i));
    return COP_OK;
}
