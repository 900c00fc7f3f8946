#include "kv/plan_internal.h"

#include "base/memory.h"

cop_status cop__plan_changes_create(cop_plan *plan) {
    cop__plan_changes *c = &plan->changes;
    const cop_table_capacity most = cop_plan_capacity(plan);
    const uint32_t elements[COP_TABLE_COUNT] = {
        [COP_TABLE_TILES] = most.tiles,   [COP_TABLE_ENTRIES] = most.entries,
        [COP_TABLE_LIMITS] = most.limits, [COP_TABLE_ITEMS] = most.items,
        [COP_TABLE_SLOTS] = most.slots,
    };
    c->capacity = COP__RANGES_LEAST + most.slots;
    c->turn = 1;
    c->all = true;
    c->ranges = cop_calloc(c->capacity, sizeof *c->ranges);
    bool made = c->ranges != NULL;
    for (uint32_t table = 0; table < COP_TABLE_COUNT; table++) {
        c->last[table] = COP__NONE;
        if (elements[table] == 0)
            continue;
        c->listed[table] = cop_calloc(elements[table], sizeof *c->listed[table]);
        made = made && c->listed[table];
    }
    if (!made)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the changes of a plan");
    return COP_OK;
}

void cop__plan_changes_destroy(cop_plan *plan) {
    cop_free(plan->changes.ranges);
    for (uint32_t table = 0; table < COP_TABLE_COUNT; table++)
        cop_free(plan->changes.listed[table]);
}

static void push(cop__plan_changes *c, uint32_t table, uint32_t first, uint32_t n) {
    c->last[table] = c->n;
    c->ranges[c->n++] = (cop_table_range){table, first, n};
}

/* Every table as one range, which only grows. */
static void change_whole(cop__plan_changes *c, uint32_t table, uint32_t end) {
    const uint32_t last = c->last[table];
    if (last == COP__NONE)
        push(c, table, 0, end);
    else if (c->ranges[last].n < end)
        c->ranges[last].n = end;
}

void cop__change(cop_plan *plan, uint32_t table, uint32_t first, uint32_t n) {
    cop__plan_changes *c = &plan->changes;
    uint64_t *listed = c->listed[table];
    if (n == 0)
        return;
    plan->kv->version++;
    for (uint32_t i = first; i < first + n && !c->whole;) {
        const uint32_t begin = i, last = c->last[table];
        while (i < first + n && listed[i] != c->turn)
            listed[i++] = c->turn;
        if (i == begin)
            i++;
        else if (last != COP__NONE && c->ranges[last].first + c->ranges[last].n == begin)
            c->ranges[last].n += i - begin;
        else if (c->n < c->capacity)
            push(c, table, begin, i - begin);
        else
            cop__change_all(plan);
    }
    if (c->whole)
        change_whole(c, table, first + n);
}

void cop__change_all(cop_plan *plan) {
    cop__plan_changes *c = &plan->changes;
    plan->kv->version++;
    if (c->whole)
        return;
    const uint32_t end[COP_TABLE_COUNT] = {
        [COP_TABLE_TILES] = plan->tiles_end + plan->n_prefill_tiles,
        [COP_TABLE_ENTRIES] = plan->entries_end,
        [COP_TABLE_LIMITS] = plan->n_limits,
        [COP_TABLE_ITEMS] = plan->bucket_end[0],
        [COP_TABLE_SLOTS] = plan->slots_end + plan->n_prefill_slots,
    };
    c->whole = true;
    c->n = 0;
    for (uint32_t table = 0; table < COP_TABLE_COUNT; table++) {
        c->last[table] = COP__NONE;
        if (end[table])
            push(c, table, 0, end[table]);
    }
    plan->stats.changes_whole++;
}

void cop__plan_changes_clear(cop_plan *plan) {
    cop__plan_changes *c = &plan->changes;
    c->n = 0;
    c->turn++;
    c->whole = c->all = false;
    for (uint32_t table = 0; table < COP_TABLE_COUNT; table++)
        c->last[table] = COP__NONE;
    c->cleared = plan->kv->version;
}

cop_table_changes cop__plan_changes_read(const cop_plan *plan) {
    const cop__plan_changes *c = &plan->changes;
    const cop_kv_changes kv = cop_kv_changes_read(plan->kv);
    const uint64_t kv_cleared = plan->kv->changes.cleared;
    return (cop_table_changes){
        .kv = kv.ranges,
        .plan = c->ranges,
        .n_kv = kv.n_ranges,
        .n_plan = c->n,
        .segments = kv.segments,
        .n_segments = kv.n_segments,
        .from = c->cleared > kv_cleared ? c->cleared : kv_cleared,
        .to = plan->kv->version,
        .all = c->all || kv.all,
    };
}
