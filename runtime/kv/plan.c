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
        {&plan->watch, decode, sizeof *plan->watch},
        {&plan->row_slot, decode, sizeof *plan->row_slot},
        {&plan->moved, decode, sizeof *plan->moved},
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
        {&plan->item_place, entries, sizeof *plan->item_place},
        {&plan->item_bucket, entries, sizeof *plan->item_bucket},
        {&plan->lagging, slots, sizeof *plan->lagging},
        {&plan->chunk_at, entries, sizeof *plan->chunk_at},
        {&plan->entry_changed, entries, sizeof *plan->entry_changed},
        {&plan->items, entries, sizeof *plan->items},
        {&plan->limits, plan->limits_capacity, sizeof *plan->limits},
        {&plan->runs, prefill, sizeof *plan->runs},
        {&plan->partials, decode, sizeof *plan->partials},
        {&plan->holders, decode, sizeof *plan->holders},
        {&plan->touched, decode, sizeof *plan->touched},
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
        plan->watch[i].segment = COP_SEGMENT_NONE;
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
        plan->slots,      plan->slot_state,  plan->free_slots,    plan->tiles,
        plan->tile_state, plan->free_tiles,  plan->dirty,         plan->watch,
        plan->row_slot,   plan->moved,       plan->nodes,         plan->order,
        plan->common,     plan->from,        plan->tiles_to,      plan->window,
        plan->cost_to,    plan->entries,     plan->tile_items,    plan->item_tokens,
        plan->item_place, plan->item_bucket, plan->lagging,       plan->chunk_at,
        plan->items,      plan->limits,      plan->entry_changed, plan->runs,
        plan->partials,   plan->holders,     plan->touched};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        cop_free(memory[i]);
    cop__plan_changes_destroy(plan);
    cop_free(plan);
}

/* The slot as it is before its first step, or while it is free. */
static void slot_set(cop_plan *plan, uint32_t slot, cop_node node) {
    plan->slots[slot] = (cop_slot){.row = -1};
    plan->slot_state[slot] = (cop__plan_slot){.node = node, .limit = COP_TO_END};
    plan->watch[slot] = (cop__plan_watch){.segment = COP_SEGMENT_NONE};
    plan->partials[slot].held = 0;
    cop__partials_touch(plan, slot);
    cop__change(plan, COP_TABLE_SLOTS, slot, 1);
    plan->epoch++;
    plan->pending = true;
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
    slot_set(plan, slot, node);
    cop__slot_place(plan, slot);
    *out_slot = slot;
    return COP_OK;
}

void cop_plan_slot_remove(cop_plan *plan, uint32_t slot) {
    if (slot >= plan->slots_end || plan->slot_state[slot].node == COP_NODE_NONE)
        return;
    cop__slot_take_out(plan, slot);
    if (plan->slots[slot].row >= 0)
        plan->row_slot[plan->slots[slot].row] = COP__NONE;
    slot_set(plan, slot, COP_NODE_NONE);
    plan->free_slots[plan->n_free_slots++] = slot;
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
        .n_items = plan->made ? plan->bucket_end[0] : 0,
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
