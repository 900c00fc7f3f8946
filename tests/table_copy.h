/* A copy of a plan's tables as a device keeps it: it starts out poisoned, follows the lists of
 * changes alone and takes everything only where it must. For tests.
 *
 * A full copy takes the segments and the page table whole, but of the plan's tables only what the
 * view names: what lies beyond is poisoned anew, so that a change that is not listed because the
 * right value stood there by chance is found.
 */
#pragma once

#include "check.h"
#include "kernels/tables.h"
#include "kv/plan.h"

typedef struct table_copy {
    cop_table_capacity most;
    cop_segment *segments;
    uint32_t *page_table;
    cop_tile *tiles;
    cop_walk_entry *entries;
    int32_t *limits;
    cop_item *items;
    cop_slot *slots;
    uint64_t at;                          /* the number that it stands at */
    uint8_t *listed[COP_TABLE_COUNT + 1]; /* scratch: what a list named already; segments last */
    char why[160];                        /* the first thing that was wrong */
    uint64_t full, followed, elements;    /* full copies; lists followed and what they named */
} table_copy;

typedef struct copy_part { /* one table: where it stands here and there */
    void *mine;
    const void *theirs;
    size_t size;
    uint32_t most;
} copy_part;

static inline void copy_parts(const table_copy *c, const cop_plan_tables *t,
                              copy_part part[COP_TABLE_COUNT + 1]) {
    const copy_part all[COP_TABLE_COUNT + 1] = {
        [COP_TABLE_PAGE_TABLE] = {c->page_table, t->page_table, sizeof *t->page_table,
                                  c->most.page_table},
        [COP_TABLE_TILES] = {c->tiles, t->tiles, sizeof *t->tiles, c->most.tiles},
        [COP_TABLE_ENTRIES] = {c->entries, t->entries, sizeof *t->entries, c->most.entries},
        [COP_TABLE_LIMITS] = {c->limits, t->limits, sizeof *t->limits, c->most.limits},
        [COP_TABLE_ITEMS] = {c->items, t->items, sizeof *t->items, c->most.items},
        [COP_TABLE_SLOTS] = {c->slots, t->slots, sizeof *t->slots, c->most.slots},
        [COP_TABLE_COUNT] = {c->segments, t->segments, sizeof *t->segments, c->most.segments},
    };
    memcpy(part, all, sizeof all);
}

static inline bool copy_wrong(table_copy *c, const char *what, uint64_t a, uint64_t b) {
    snprintf(c->why, sizeof c->why, "%s: %" PRIu64 ", %" PRIu64, what, a, b);
    return false;
}

static inline void copy_create(table_copy *c, cop_table_capacity most) {
    *c = (table_copy){.most = most};
    c->segments = malloc(most.segments * sizeof *c->segments + 1);
    c->page_table = malloc(most.page_table * sizeof *c->page_table + 1);
    c->tiles = malloc(most.tiles * sizeof *c->tiles + 1);
    c->entries = malloc(most.entries * sizeof *c->entries + 1);
    c->limits = malloc(most.limits * sizeof *c->limits + 1);
    c->items = malloc(most.items * sizeof *c->items + 1);
    c->slots = malloc(most.slots * sizeof *c->slots + 1);
    copy_part part[COP_TABLE_COUNT + 1];
    copy_parts(c, &(cop_plan_tables){0}, part);
    for (uint32_t table = 0; table <= COP_TABLE_COUNT; table++) {
        c->listed[table] = calloc(part[table].most + 1, 1);
        CHECK(part[table].mine && c->listed[table]);
        memset(part[table].mine, 0xa5, part[table].most * part[table].size);
    }
}

static inline void copy_destroy(table_copy *c) {
    copy_part part[COP_TABLE_COUNT + 1];
    copy_parts(c, &(cop_plan_tables){0}, part);
    for (uint32_t table = 0; table <= COP_TABLE_COUNT; table++) {
        free(part[table].mine);
        free(c->listed[table]);
    }
}

static inline void copy_range(const copy_part *part, uint32_t first, uint32_t n) {
    if (n)
        memcpy((char *)part->mine + first * part->size,
               (const char *)part->theirs + first * part->size, n * part->size);
}

static inline void copy_everything(table_copy *c, const cop_plan_tables *t) {
    copy_part part[COP_TABLE_COUNT + 1];
    copy_parts(c, t, part);
    for (uint32_t table = 0; table <= COP_TABLE_COUNT; table++)
        memset(part[table].mine, 0xa5, part[table].most * part[table].size);
    copy_range(&part[COP_TABLE_COUNT], 0, c->most.segments);
    copy_range(&part[COP_TABLE_PAGE_TABLE], 0, c->most.page_table);
    copy_range(&part[COP_TABLE_TILES], 0, t->n_tiles);
    copy_range(&part[COP_TABLE_ITEMS], 0, t->n_items);
    copy_range(&part[COP_TABLE_SLOTS], 0, t->n_slots);
    for (uint32_t i = 0; i < t->n_items; i++) {
        const cop_item *item = &t->items[i];
        copy_range(&part[COP_TABLE_ENTRIES], item->first_entry, item->n_entries);
        for (uint32_t e = item->first_entry; e < item->first_entry + item->n_entries; e++)
            if (t->entries[e].limits != COP_LIMITS_NONE)
                copy_range(&part[COP_TABLE_LIMITS], (uint32_t)t->entries[e].limits,
                           t->tiles[item->tile].n_slots);
    }
    c->full++;
}

/* One list of ranges: inside their tables, no element twice. */
static inline bool copy_list(table_copy *c, const copy_part *part, const cop_table_range *ranges,
                             uint32_t n, bool of_kv) {
    for (uint32_t i = 0; i < n; i++) {
        const cop_table_range r = ranges[i];
        if (r.table >= COP_TABLE_COUNT || (r.table == COP_TABLE_PAGE_TABLE) != of_kv)
            return copy_wrong(c, "a list holds a range of another table", i, r.table);
        if (r.n == 0 || r.first > part[r.table].most || r.n > part[r.table].most - r.first)
            return copy_wrong(c, "a range is empty or leaves its table", r.first, r.n);
        for (uint32_t e = r.first; e < r.first + r.n; e++)
            if (c->listed[r.table][e]++)
                return copy_wrong(c, "an element is listed twice", r.table, e);
        copy_range(&part[r.table], r.first, r.n);
        c->elements += r.n;
    }
    for (uint32_t i = 0; i < n; i++)
        memset(c->listed[ranges[i].table] + ranges[i].first, 0, ranges[i].n);
    return true;
}

/* Brings the copy up to date; false where the lists themselves are wrong. */
static inline bool copy_follow(table_copy *c, const cop_plan_tables *t) {
    const cop_table_changes *ch = &t->changes;
    if (ch->to < ch->from)
        return copy_wrong(c, "the numbers run backwards", ch->from, ch->to);
    if (ch->all || ch->from != c->at) {
        copy_everything(c, t);
        c->at = ch->to;
        return true;
    }
    copy_part part[COP_TABLE_COUNT + 1];
    copy_parts(c, t, part);
    if (!copy_list(c, part, ch->kv, ch->n_kv, true) ||
        !copy_list(c, part, ch->plan, ch->n_plan, false))
        return false;
    for (uint32_t i = 0; i < ch->n_segments; i++) {
        const uint32_t s = ch->segments[i];
        if (s >= c->most.segments)
            return copy_wrong(c, "a listed segment does not exist", i, s);
        if (c->listed[COP_TABLE_COUNT][s]++)
            return copy_wrong(c, "a segment is listed twice", i, s);
        copy_range(&part[COP_TABLE_COUNT], s, 1);
    }
    for (uint32_t i = 0; i < ch->n_segments; i++)
        c->listed[COP_TABLE_COUNT][ch->segments[i]] = 0;
    c->followed++;
    c->at = ch->to;
    return true;
}

/* Whatever the view's items and slots lead to exists, so that the copy can be read. */
static inline bool copy_readable(table_copy *c, const cop_plan_tables *t) {
    for (uint32_t tile = 0; tile < t->n_tiles; tile++)
        if (c->tiles[tile].n_slots > COP_TILE_SLOTS_MAX)
            return copy_wrong(c, "a tile's slots", tile, c->tiles[tile].n_slots);
    for (uint32_t i = 0; i < t->n_items; i++) {
        const cop_item *item = &c->items[i];
        if (item->tile >= t->n_tiles || item->first_entry > c->most.entries ||
            item->n_entries > c->most.entries - item->first_entry)
            return copy_wrong(c, "an item leads nowhere", i, item->tile);
        for (uint32_t e = item->first_entry; e < item->first_entry + item->n_entries; e++) {
            const cop_walk_entry *entry = &c->entries[e];
            if (entry->segment >= c->most.segments)
                return copy_wrong(c, "an entry leads nowhere", e, entry->segment);
            if (entry->limits != COP_LIMITS_NONE &&
                (entry->limits < 0 ||
                 (uint32_t)entry->limits + c->tiles[item->tile].n_slots > c->most.limits))
                return copy_wrong(c, "limits lead nowhere", e, (uint32_t)entry->limits);
        }
    }
    return true;
}

/* The view, as whoever holds the copy reads it. */
static inline cop_plan_tables copy_view(const table_copy *c, const cop_plan_tables *t) {
    cop_plan_tables view = *t;
    view.segments = c->segments;
    view.page_table = c->page_table;
    view.tiles = c->tiles;
    view.entries = c->entries;
    view.limits = c->limits;
    view.items = c->items;
    view.slots = c->slots;
    return view;
}

/* What the items lead to, whether or not a slot of this step looks at it. */
static inline bool copy_same_walks(table_copy *c, const cop_plan_tables *t) {
    for (uint32_t i = 0; i < t->n_items; i++) {
        const cop_item *item = &c->items[i];
        if (memcmp(item, &t->items[i], sizeof *item) != 0)
            return copy_wrong(c, "an item", i, item->tile);
        if (memcmp(&c->tiles[item->tile], &t->tiles[item->tile], sizeof *t->tiles) != 0)
            return copy_wrong(c, "a tile", i, item->tile);
        for (uint32_t e = item->first_entry; e < item->first_entry + item->n_entries; e++) {
            const uint32_t s = c->entries[e].segment;
            if (memcmp(&c->entries[e], &t->entries[e], sizeof *t->entries) != 0)
                return copy_wrong(c, "an entry", i, e);
            if (memcmp(&c->segments[s], &t->segments[s], sizeof *t->segments) != 0)
                return copy_wrong(c, "a segment", e, s);
        }
    }
    return true;
}

/* Slots of the step, and the pages of what they see. */
static inline bool copy_same_places(table_copy *c, const cop_plan_tables *t,
                                    const cop_plan_span *spans, size_t n) {
    for (uint32_t s = 0; s < t->n_slots; s++) {
        const cop_slot *mine = &c->slots[s], *theirs = &t->slots[s];
        if (mine->row != theirs->row)
            return copy_wrong(c, "a slot's row", s, (uint32_t)mine->row);
        if (theirs->row >= 0 &&
            (mine->n_partials != theirs->n_partials ||
             (theirs->n_partials > 1 && mine->first_partial != theirs->first_partial)))
            return copy_wrong(c, "a slot's partials", s, mine->first_partial);
    }
    for (size_t i = 0; i < n; i++) {
        const uint32_t s = spans[i].segment, page_tokens = t->page_tokens;
        const uint32_t end = (spans[i].first + spans[i].tokens - 1) / page_tokens;
        for (uint32_t p = spans[i].first / page_tokens; p <= end; p++) {
            const uint64_t at = (uint64_t)c->segments[s].page_table_offset + p;
            if (at >= c->most.page_table ||
                c->page_table[at] != t->page_table[t->segments[s].page_table_offset + p])
                return copy_wrong(c, "a segment's page", s, p);
        }
    }
    return true;
}

/* What the copy says about the step is what the tables say. `mine` and `theirs` are scratch. */
static inline bool copy_check(table_copy *c, const cop_plan_tables *t, cop_plan_span *mine,
                              cop_plan_span *theirs, size_t capacity) {
    if (!copy_readable(c, t))
        return false;
    const cop_plan_tables view = copy_view(c, t);
    const size_t n = cop_plan_normalise(t, theirs, capacity);
    const size_t n_mine = cop_plan_normalise(&view, mine, capacity);
    CHECK(n < capacity);
    if (n != n_mine)
        return copy_wrong(c, "spans of the normal form", n_mine, n);
    for (size_t i = 0; i < n; i++)
        if (mine[i].row != theirs[i].row || mine[i].segment != theirs[i].segment ||
            mine[i].first != theirs[i].first || mine[i].tokens != theirs[i].tokens ||
            mine[i].chunk != theirs[i].chunk)
            return copy_wrong(c, "a span of the normal form", i, (uint32_t)theirs[i].row);
    return copy_same_walks(c, t) && copy_same_places(c, t, theirs, n);
}
