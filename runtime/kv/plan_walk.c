#include "kv/plan_internal.h"

#include <string.h>

/* Stamps a node into the walk being gathered; false if it was there. */
static bool node_enter(cop_plan *plan, cop_node node) {
    cop__plan_node *n = &plan->nodes[node];
    if (n->stamp == plan->stamp)
        return false;
    n->stamp = plan->stamp;
    n->mask = n->own = 0;
    n->first = n->last = n->next = COP_NODE_NONE;
    return true;
}

/* Links `node` among the gathered children of its parent, in order of birth. */
static void node_link(cop_plan *plan, cop_node parent, cop_node node) {
    const cop__node *kv_nodes = plan->kv->nodes;
    cop__plan_node *above = &plan->nodes[parent];
    if (above->last != COP_NODE_NONE && kv_nodes[above->last].birth < kv_nodes[node].birth) {
        plan->nodes[above->last].next = node;
        above->last = node;
        return;
    }
    cop_node *link = &above->first;
    while (*link != COP_NODE_NONE && kv_nodes[*link].birth < kv_nodes[node].birth)
        link = &plan->nodes[*link].next;
    plan->nodes[node].next = *link;
    *link = node;
    if (plan->nodes[node].next == COP_NODE_NONE)
        above->last = node;
}

static void gather_view(cop_plan *plan, cop_node node, uint64_t mask) {
    bool fresh = node_enter(plan, node);
    plan->nodes[node].own |= mask;
    while (node != 0) {
        const cop_node parent = plan->kv->nodes[node].parent;
        plan->nodes[node].mask |= mask;
        const bool parent_fresh = node_enter(plan, parent);
        if (fresh)
            node_link(plan, parent, node);
        node = parent;
        fresh = parent_fresh;
    }
}

/* The gathered node after `node`, depth first; the root ends the walk. */
static cop_node walk_next(const cop_plan *plan, cop_node node) {
    if (plan->nodes[node].first != COP_NODE_NONE)
        return plan->nodes[node].first;
    while (node != 0 && plan->nodes[node].next == COP_NODE_NONE)
        node = plan->kv->nodes[node].parent;
    return node == 0 ? 0 : plan->nodes[node].next;
}

uint64_t cop__walk_gather(cop_plan *plan, uint32_t tile) {
    const cop_tile *t = &plan->tiles[tile];
    plan->stamp++;
    node_enter(plan, 0);
    for (uint32_t i = 0; i < t->n_slots;) {
        if (t->slot[i] == COP_SLOT_HOLE) {
            i++;
            continue;
        }
        const cop_node node = plan->slot_state[t->slot[i]].node;
        uint64_t mask = 0;
        for (; i < t->n_slots && t->slot[i] != COP_SLOT_HOLE &&
               plan->slot_state[t->slot[i]].node == node;
             i++)
            mask |= 1ull << i;
        gather_view(plan, node, mask);
    }
    uint64_t tokens = 0;
    for (cop_node node = walk_next(plan, 0); node != 0; node = walk_next(plan, node))
        tokens += cop__node_tokens(plan->kv, node);
    return tokens;
}

/* One run of a node's tokens in one chunk. */
typedef struct piece {
    uint32_t chunk, first, end, tokens; /* tokens: of the whole segment */
} piece;

static piece piece_first(const cop_kv *kv, cop_node node) {
    const uint32_t head = cop__chunk_head(kv, kv->nodes[node].chunk_fill);
    const uint32_t tokens = cop__node_tokens(kv, node);
    return (piece){kv->nodes[node].chunk, 0, head < tokens ? head : tokens, tokens};
}

static piece piece_next(const cop_kv *kv, piece p) {
    const uint32_t left = p.tokens - p.end;
    const uint32_t take = left < kv->options.chunk_tokens ? left : kv->options.chunk_tokens;
    return (piece){p.chunk + 1, p.end, p.end + take, p.tokens};
}

/* The entry of one piece. False if nobody sees it. `limits`, when not NULL, receives a limit for
 * each slot where the entry needs them; *limited says whether it does. */
static bool entry_of(const cop_plan *plan, uint32_t tile, cop_node node, piece p, int32_t *limits,
                     cop_walk_entry *entry, bool *limited) {
    const cop__plan_node *n = &plan->nodes[node];
    uint64_t mask = n->mask;
    uint32_t end = p.end;
    bool all = false; /* some slot sees the whole piece */
    *limited = false;
    if (n->own && tile >= plan->tiles_end) { /* a prefill tile */
        uint32_t seen_end = 0;
        for (uint64_t left = n->mask; left; left &= left - 1) {
            const uint32_t i = (uint32_t)__builtin_ctzll(left);
            const uint32_t slot = (uint32_t)plan->tiles[tile].slot[i];
            const uint32_t limit = n->own >> i & 1 ? plan->slot_state[slot].limit : p.tokens;
            if (limit <= p.first)
                mask &= ~(1ull << i);
            else if (limit < p.end)
                *limited = true;
            else
                all = true;
            seen_end = limit > seen_end ? limit : seen_end;
            if (limits)
                limits[i] = (int32_t)limit;
        }
        if (mask == 0)
            return false;
        end = all ? p.end : seen_end;
    }
    const bool open =
        tile < plan->tiles_end && p.end == p.tokens && !cop__node_sealed(plan->kv, node);
    *entry = (cop_walk_entry){
        .segment = plan->kv->nodes[node].segment,
        .first = p.first,
        .tokens = open ? COP_TO_END : end - p.first,
        .q_shift = cop_kv_shift(plan->kv, node),
        .mask = mask,
        .limits = COP_LIMITS_NONE,
        .node = node,
    };
    return true;
}

static void range_unlink(cop_plan *plan, uint32_t tile) {
    cop__plan_tile *t = &plan->tile_state[tile];
    if (t->previous == COP__NONE)
        plan->first_range = t->next;
    else
        plan->tile_state[t->previous].next = t->next;
    if (t->next == COP__NONE)
        plan->last_range = t->previous;
    else
        plan->tile_state[t->next].previous = t->previous;
}

void cop__range_release(cop_plan *plan, uint32_t tile) {
    cop__plan_tile *t = &plan->tile_state[tile];
    cop__items_keep(plan, tile, 0);
    if (t->capacity) {
        range_unlink(plan, tile);
        if (plan->last_range == COP__NONE) {
            plan->entries_end = 0;
        } else {
            const cop__plan_tile *last = &plan->tile_state[plan->last_range];
            plan->entries_end = last->first_entry + last->capacity;
        }
    }
    t->capacity = t->n_entries = 0;
}

static void ranges_compact(cop_plan *plan) {
    uint32_t end = 0;
    for (uint32_t tile = plan->first_range; tile != COP__NONE; tile = plan->tile_state[tile].next) {
        cop__plan_tile *t = &plan->tile_state[tile];
        memmove(plan->entries + end, plan->entries + t->first_entry,
                t->n_entries * sizeof *plan->entries);
        memmove(plan->tile_items + end, plan->tile_items + t->first_entry,
                t->n_items * sizeof *plan->tile_items);
        memmove(plan->item_tokens + end, plan->item_tokens + t->first_entry,
                t->n_items * sizeof *plan->item_tokens);
        t->first_entry = end;
        t->capacity = t->n_entries;
        end += t->n_entries;
    }
    plan->entries_end = end;
    plan->items_stale = true;
    plan->stats.entries_moved++;
    cop__change_all(plan);
}

/* Room for n entries of a tile, in place if they fit; else at the end, with some to grow into. */
static cop_status range_take(cop_plan *plan, uint32_t tile, uint32_t n) {
    cop__plan_tile *t = &plan->tile_state[tile];
    if (n <= t->capacity)
        return COP_OK;
    cop__range_release(plan, tile);
    if (n > plan->entries_capacity - plan->entries_end)
        ranges_compact(plan);
    const uint32_t left = plan->entries_capacity - plan->entries_end;
    if (n > left)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "a tile of the attention plan walks %u entries, %u of %u are free; raise "
                        "max_nodes, chunk_tokens or the plan's slots",
                        n, left, plan->entries_capacity);
    const uint32_t wish = n + n / 4 + 8;
    t->capacity = wish < left ? wish : left;
    t->first_entry = plan->entries_end;
    t->previous = plan->last_range;
    t->next = COP__NONE;
    if (plan->last_range == COP__NONE)
        plan->first_range = tile;
    else
        plan->tile_state[plan->last_range].next = tile;
    plan->last_range = tile;
    plan->entries_end += t->capacity;
    return COP_OK;
}

/* Counts the gathered walk's entries by chunk into chunk_at. Every chunk below the last has one, so
 * there are no more chunks than entries. */
static cop_status walk_count(cop_plan *plan, uint32_t tile, uint32_t *n_entries,
                             uint32_t *n_chunks) {
    cop_walk_entry entry;
    bool limited;
    *n_entries = *n_chunks = 0;
    for (cop_node node = walk_next(plan, 0); node != 0; node = walk_next(plan, node)) {
        for (piece p = piece_first(plan->kv, node); p.first < p.end; p = piece_next(plan->kv, p)) {
            if (!entry_of(plan, tile, node, p, NULL, &entry, &limited))
                continue;
            if (p.chunk >= plan->entries_capacity)
                return COP_FAIL(COP_ERR_NO_ROOM,
                                "a view has more than %u chunks; raise chunk_tokens or max_nodes",
                                plan->entries_capacity);
            while (*n_chunks <= p.chunk)
                plan->chunk_at[(*n_chunks)++] = 0;
            plan->chunk_at[p.chunk]++;
            ++*n_entries;
        }
    }
    return COP_OK;
}

static void limits_write(cop_plan *plan, const int32_t *limits, uint32_t n) {
    memcpy(plan->limits + plan->n_limits, limits, n * sizeof *limits);
    cop__change(plan, COP_TABLE_LIMITS, plan->n_limits, n);
    plan->n_limits += n;
}

/* The first `standing` entries of the range are what the tile walked before: of these, only what
 * differs is a change. */
static void walk_fill(cop_plan *plan, uint32_t tile, uint32_t standing) {
    const cop__plan_tile *t = &plan->tile_state[tile];
    uint8_t *changed = plan->entry_changed;
    for (cop_node node = walk_next(plan, 0); node != 0; node = walk_next(plan, node)) {
        for (piece p = piece_first(plan->kv, node); p.first < p.end; p = piece_next(plan->kv, p)) {
            int32_t limits[COP_TILE_SLOTS_MAX] = {0};
            cop_walk_entry entry;
            bool limited;
            if (!entry_of(plan, tile, node, p, limits, &entry, &limited))
                continue;
            if (limited) {
                entry.limits = (int32_t)plan->n_limits;
                limits_write(plan, limits, plan->tiles[tile].n_slots);
            }
            cop_item *item = &plan->tile_items[t->first_entry + p.chunk];
            plan->item_tokens[t->first_entry + p.chunk] +=
                entry.tokens == COP_TO_END ? p.end - p.first : entry.tokens;
            const uint32_t at = item->first_entry + item->n_entries++;
            cop_walk_entry *here = &plan->entries[t->first_entry + at];
            changed[at] = at >= standing || memcmp(here, &entry, sizeof entry) != 0;
            *here = entry;
        }
    }
    for (uint32_t at = 0, begin; at < t->n_entries; at++) {
        for (begin = at; at < t->n_entries && changed[at]; at++)
            ;
        if (at > begin)
            cop__change(plan, COP_TABLE_ENTRIES, t->first_entry + begin, at - begin);
    }
}

/* With so many tokens the node's segment enters another chunk. */
static uint32_t chunk_end(const cop_kv *kv, cop_node node, uint32_t tokens) {
    const uint64_t end = tokens ? cop__chunk_room(kv, node, tokens) + 1 : 1;
    return end < UINT32_MAX ? (uint32_t)end : UINT32_MAX;
}

static void slot_refresh(cop_plan *plan, uint32_t slot) {
    cop__plan_slot *state = &plan->slot_state[slot];
    const uint32_t tokens = cop__node_tokens(plan->kv, state->node);
    const uint32_t seen = state->limit < tokens ? state->limit : tokens;
    const uint32_t chunks = cop__chunks_of_view(plan->kv, state->node, seen);
    state->pieces = seen ? chunks - plan->kv->nodes[state->node].chunk : 0;
    const bool changed = plan->slots[slot].n_partials != chunks;
    plan->slots[slot].n_partials = chunks;
    if (slot >= plan->slots_end) /* of a prefill run: listed as a whole, nothing to watch */
        return;
    if (changed) {
        cop__change(plan, COP_TABLE_SLOTS, slot, 1);
        cop__partials_touch(plan, slot);
    }
    cop__plan_watch *w = &plan->watch[slot];
    const bool shared = plan->nodes[state->node].below > 1;
    w->end = shared || chunks == 0 ? 0 : chunk_end(plan->kv, state->node, tokens);
    w->tile = state->tile;
    w->chunk = chunks - 1;
}

cop_status cop__walk_write(cop_plan *plan, uint32_t tile) {
    cop__plan_tile *t = &plan->tile_state[tile];
    uint32_t n_entries, n_chunks;
    cop__walk_gather(plan, tile);
    COP_TRY(walk_count(plan, tile, &n_entries, &n_chunks));
    const bool stays = n_entries <= t->capacity;
    const uint32_t standing = stays ? t->n_entries : 0;
    cop__items_keep(plan, tile, stays ? n_chunks : 0);
    COP_TRY(range_take(plan, tile, n_entries));
    t->n_entries = n_entries;
    for (uint32_t chunk = 0, at = 0; chunk < n_chunks; at += plan->chunk_at[chunk++]) {
        plan->tile_items[t->first_entry + chunk] = (cop_item){tile, chunk, at, 0};
        plan->item_tokens[t->first_entry + chunk] = 0;
    }
    walk_fill(plan, tile, standing);
    cop__items_renew(plan, tile, n_chunks);
    for (uint32_t i = 0; i < plan->tiles[tile].n_slots; i++)
        if (plan->tiles[tile].slot[i] != COP_SLOT_HOLE)
            slot_refresh(plan, (uint32_t)plan->tiles[tile].slot[i]);
    return COP_OK;
}
