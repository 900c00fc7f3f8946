#include "kv/plan_internal.h"

#include <string.h>

void cop__tile_mark(cop_plan *plan, uint32_t tile) {
    if (plan->tile_state[tile].dirty)
        return;
    plan->tile_state[tile].dirty = true;
    plan->dirty[plan->n_dirty++] = tile;
}

void cop__tile_clear(cop_plan *plan, uint32_t tile) {
    cop__plan_tile *state = &plan->tile_state[tile];
    cop__range_release(plan, tile);
    state->used = 0;
    state->loads = 0;
    plan->tiles[tile].n_slots = 0;
    for (uint32_t i = 0; i < COP_TILE_SLOTS_MAX; i++)
        plan->tiles[tile].slot[i] = COP_SLOT_HOLE;
}

void cop__tile_put(cop_plan *plan, uint32_t tile, uint32_t slot) {
    cop__plan_tile *state = &plan->tile_state[tile];
    const uint32_t index = (uint32_t)__builtin_ctzll(~state->used);
    state->used |= 1ull << index;
    plan->tiles[tile].slot[index] = (int32_t)slot;
    if (plan->tiles[tile].n_slots <= index)
        plan->tiles[tile].n_slots = index + 1;
    plan->slot_state[slot].tile = tile;
    plan->slot_state[slot].index = index;
    cop__change(plan, COP_TABLE_TILES, tile, 1);
}

static uint32_t tile_take(cop_plan *plan) {
    const uint32_t tile = plan->free_tiles[--plan->n_free_tiles];
    if (tile >= plan->tiles_end)
        plan->tiles_end = tile + 1;
    return tile;
}

/* Makes the tile the first hint of all nodes that a view goes through. */
static void hint_push(cop_plan *plan, cop_node node, uint32_t tile) {
    if (!cop__tile_has_room(plan, tile))
        return;
    for (cop_node at = node; at != 0; at = plan->kv->nodes[at].parent) {
        cop__plan_node *n = &plan->nodes[at];
        if (n->hint_birth != plan->kv->nodes[at].birth || n->hint_era != plan->era) {
            n->hint_birth = plan->kv->nodes[at].birth;
            n->hint_era = plan->era;
            for (uint32_t i = 0; i < COP__HINTS; i++)
                n->hint[i] = COP__NONE;
        }
        uint32_t carried = tile;
        for (uint32_t i = 0; i < COP__HINTS; i++) {
            const uint32_t here = n->hint[i];
            n->hint[i] = carried;
            if (here == tile || here == COP__NONE)
                break;
            carried = here;
        }
    }
}

static uint32_t hint_find(const cop_plan *plan, cop_node node) {
    const cop__plan_node *n = &plan->nodes[node];
    if (n->hint_birth != plan->kv->nodes[node].birth || n->hint_era != plan->era)
        return COP__NONE;
    for (uint32_t i = 0; i < COP__HINTS && n->hint[i] != COP__NONE; i++)
        if (cop__tile_has_room(plan, n->hint[i]))
            return n->hint[i];
    return COP__NONE;
}

/* A slot goes where a place is free next to slots that share the longest prefix with it: the hole
 * that its parent or a sibling left, or the end of a sibling's tile. A hint may name a tile whose
 * slots have changed since, which costs no more than a tile of its own would. */
void cop__slot_place(cop_plan *plan, uint32_t slot) {
    const cop_kv *kv = plan->kv;
    const cop_node node = plan->slot_state[slot].node;
    uint32_t tile = COP__NONE;
    for (cop_node at = node; at != 0; at = kv->nodes[at].parent) {
        if (plan->nodes[at].below++ == 0) {
            plan->unique += cop__node_tokens(kv, at);
            plan->bound += cop__node_tokens(kv, at);
        }
        if (tile == COP__NONE)
            tile = hint_find(plan, at);
    }
    const uint32_t mate = plan->nodes[node].first_slot;
    plan->slot_state[slot].next_on_node = mate;
    plan->nodes[node].first_slot = slot;
    plan->watch[slot].segment = kv->nodes[node].segment;
    plan->watch[slot].tokens =
        mate == COP__NONE ? cop__node_tokens(kv, node) : plan->watch[mate].tokens;
    for (uint32_t s = slot; s != COP__NONE; s = plan->slot_state[s].next_on_node)
        plan->watch[s].end = 0;

    if (tile == COP__NONE)
        tile = tile_take(plan);
    cop__tile_put(plan, tile, slot);
    cop__tile_mark(plan, tile);
    hint_push(plan, node, tile);
}

void cop__slot_take_out(cop_plan *plan, uint32_t slot) {
    const cop_kv *kv = plan->kv;
    cop__plan_slot *state = &plan->slot_state[slot];
    if (plan->watch[slot].tokens != cop__node_tokens(kv, state->node))
        cop__node_account(plan, slot);
    uint32_t *link = &plan->nodes[state->node].first_slot;
    while (*link != slot)
        link = &plan->slot_state[*link].next_on_node;
    *link = state->next_on_node;

    uint64_t view = 0;
    for (cop_node at = state->node; at != 0; at = kv->nodes[at].parent) {
        view += cop__node_tokens(kv, at);
        if (--plan->nodes[at].below == 0)
            plan->unique -= cop__node_tokens(kv, at);
    }
    plan->bound -= plan->bound < view ? plan->bound : view;

    cop__plan_tile *tile = &plan->tile_state[state->tile];
    tile->used &= ~(1ull << state->index);
    plan->tiles[state->tile].slot[state->index] = COP_SLOT_HOLE;
    cop__change(plan, COP_TABLE_TILES, state->tile, 1);
    if (tile->used) {
        plan->tiles[state->tile].n_slots = 64 - (uint32_t)__builtin_clzll(tile->used);
        cop__tile_mark(plan, state->tile);
        hint_push(plan, state->node, state->tile);
    } else {
        plan->loads -= tile->loads;
        cop__tile_clear(plan, state->tile);
        plan->free_tiles[plan->n_free_tiles++] = state->tile;
    }
}

/* The decode slots in depth-first order of their views, and the tokens that each has in common with
 * the next one. */
static uint32_t depth_first(cop_plan *plan) {
    const cop_kv *kv = plan->kv;
    uint32_t n = 0, common = 0;
    cop_node node = 0;
    for (;;) {
        if (node != 0) {
            for (uint32_t slot = plan->nodes[node].first_slot; slot != COP__NONE;
                 slot = plan->slot_state[slot].next_on_node) {
                if (n)
                    plan->common[n - 1] = common;
                plan->order[n++] = slot;
                common = cop_kv_view_tokens(kv, node);
            }
        }
        cop_node next = kv->nodes[node].first_child;
        for (;;) {
            while (next != COP_NODE_NONE && plan->nodes[next].below == 0)
                next = kv->nodes[next].next_sibling;
            if (next != COP_NODE_NONE || node == 0)
                break;
            next = kv->nodes[node].next_sibling;
            node = kv->nodes[node].parent;
            if (common > cop_kv_view_tokens(kv, node))
                common = cop_kv_view_tokens(kv, node);
        }
        if (next == COP_NODE_NONE)
            return n;
        node = next;
    }
}

/* Cost and number of tiles when a tile ends before slot j of the order. */
static uint64_t end_cost(const cop_plan *plan, uint32_t j) {
    return plan->cost_to[j] + (j ? plan->common[j - 1] : 0);
}

static bool end_is_better(const cop_plan *plan, uint32_t a, uint32_t b) {
    const uint64_t cost_a = end_cost(plan, a), cost_b = end_cost(plan, b);
    return cost_a != cost_b ? cost_a < cost_b : plan->tiles_to[a] < plan->tiles_to[b];
}

/* The least loads of any tiling into runs of the depth-first order; the tile that ends before slot
 * i starts at from[i]. Slots with nothing in common never share a tile: it would save nothing. */
uint64_t cop__tiling_search(cop_plan *plan, uint32_t *out_n) {
    const uint32_t n = depth_first(plan);
    uint32_t head = 0, tail = 0; /* the sliding window's candidates, best first */
    plan->cost_to[0] = 0;
    plan->tiles_to[0] = 0;
    for (uint32_t i = 1; i <= n; i++) {
        const uint32_t candidate = i - 1;
        if (candidate && plan->common[candidate - 1] == 0)
            head = tail = 0;
        while (tail > head && end_is_better(plan, candidate, plan->window[tail - 1]))
            tail--;
        plan->window[tail++] = candidate;
        if (plan->window[head] + plan->options.tile_slots < i)
            head++;
        plan->from[i] = plan->window[head];
        plan->cost_to[i] = end_cost(plan, plan->from[i]);
        plan->tiles_to[i] = plan->tiles_to[plan->from[i]] + 1;
    }
    *out_n = n;
    return plan->unique + plan->cost_to[n];
}

static void count_tile(cop_plan *plan, uint32_t tile) {
    plan->loads -= plan->tile_state[tile].loads;
    plan->tile_state[tile].loads = cop__walk_gather(plan, tile);
    plan->loads += plan->tile_state[tile].loads;
}

/* Makes all tiles from the best tiling that was just computed for n slots. */
static void retile(cop_plan *plan, uint32_t n) {
    plan->items_stale = true;
    cop__change_all(plan);
    for (uint32_t tile = 0; tile < plan->tiles_end; tile++)
        cop__tile_clear(plan, tile);
    plan->n_free_tiles = plan->options.max_decode_slots;
    for (uint32_t i = 0; i < plan->n_free_tiles; i++)
        plan->free_tiles[i] = plan->n_free_tiles - 1 - i;
    plan->tiles_end = 0;
    plan->loads = 0;
    plan->era++;

    /* from[] leads backwards; the window holds the tiles' starts in order. */
    uint32_t n_tiles = plan->tiles_to[n];
    for (uint32_t end = n, i = n_tiles; i-- > 0; end = plan->from[end])
        plan->window[i] = plan->from[end];
    for (uint32_t i = 0; i < n_tiles; i++) {
        const uint32_t tile = tile_take(plan), end = i + 1 < n_tiles ? plan->window[i + 1] : n;
        for (uint32_t j = plan->window[i]; j < end; j++) {
            cop__tile_put(plan, tile, plan->order[j]);
            plan->watch[plan->order[j]].end = 0;
        }
        for (uint32_t j = plan->window[i]; j < end; j++)
            hint_push(plan, plan->slot_state[plan->order[j]].node, tile);
        cop__tile_mark(plan, tile);
        count_tile(plan, tile);
    }
    plan->stats.rebuilds++;
    plan->pending = true;
}

void cop__tiles_rebuild(cop_plan *plan) {
    uint32_t n;
    plan->bound = cop__tiling_search(plan, &n);
    plan->stats.tilings_searched++;
    retile(plan, n);
}

void cop__tiles_balance(cop_plan *plan) {
    for (uint32_t i = 0; i < plan->n_dirty; i++)
        if (plan->tile_state[plan->dirty[i]].used)
            count_tile(plan, plan->dirty[i]);
    if (plan->bound < plan->unique)
        plan->bound = plan->unique;
    if (4 * plan->loads <= 5 * plan->bound)
        return;
    uint32_t n;
    plan->bound = cop__tiling_search(plan, &n);
    plan->stats.tilings_searched++;
    if (10 * plan->loads > 11 * plan->bound)
        retile(plan, n);
}
