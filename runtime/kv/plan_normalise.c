/* The normal form, from the tables alone: it knows nothing of views or of how tiles were made. Its
 * loops are plain searches; it is for tests and reports, not for the step. */
#include "kv/plan.h"

typedef struct writer {
    cop_plan_span *out;
    size_t n, capacity;
    cop_plan_span last; /* kept apart: spans beyond the capacity are joined and counted too */
} writer;

static void put(writer *w, cop_plan_span span) {
    if (w->n && w->last.row == span.row && w->last.segment == span.segment &&
        w->last.chunk == span.chunk && w->last.first + w->last.tokens == span.first) {
        w->last.tokens += span.tokens;
        w->n--;
    } else {
        w->last = span;
    }
    if (w->n < w->capacity)
        w->out[w->n] = w->last;
    w->n++;
}

/* The slot with the least row above `row`, or -1. */
static int64_t slot_after_row(const cop_plan_tables *tables, int64_t row) {
    int64_t best = -1;
    for (uint32_t s = 0; s < tables->n_slots; s++)
        if (tables->slots[s].row > row &&
            (best < 0 || tables->slots[s].row < tables->slots[best].row))
            best = s;
    return best;
}

static int64_t tile_of_slot(const cop_plan_tables *tables, int64_t slot, uint32_t *index) {
    for (uint32_t t = 0; t < tables->n_tiles; t++)
        for (uint32_t i = 0; i < tables->tiles[t].n_slots; i++)
            if (tables->tiles[t].slot[i] == slot) {
                *index = i;
                return t;
            }
    return -1;
}

static void put_item(writer *w, const cop_plan_tables *tables, const cop_item *item, uint32_t index,
                     int32_t row) {
    for (uint32_t e = item->first_entry; e < item->first_entry + item->n_entries; e++) {
        const cop_walk_entry *entry = &tables->entries[e];
        if (!(entry->mask >> index & 1))
            continue;
        const uint32_t length = tables->segments[entry->segment].tokens;
        uint32_t end = entry->tokens == COP_TO_END ? length : entry->first + entry->tokens;
        if (entry->limits != COP_LIMITS_NONE) {
            const int32_t limit = tables->limits[entry->limits + (int32_t)index];
            end = limit < (int64_t)end ? (uint32_t)limit : end;
        }
        if (end > entry->first)
            put(w, (cop_plan_span){row, entry->segment, entry->first, end - entry->first,
                                   item->chunk});
    }
}

size_t cop_plan_normalise(const cop_plan_tables *tables, cop_plan_span *out, size_t capacity) {
    writer w = {.out = out, .capacity = capacity};
    for (int64_t slot = slot_after_row(tables, -1); slot >= 0;
         slot = slot_after_row(tables, tables->slots[slot].row)) {
        uint32_t index = 0;
        const int64_t tile = tile_of_slot(tables, slot, &index);
        for (uint32_t chunk = 0; chunk < tables->slots[slot].n_partials; chunk++)
            for (uint32_t i = 0; i < tables->n_items; i++)
                if (tables->items[i].tile == tile && tables->items[i].chunk == chunk)
                    put_item(&w, tables, &tables->items[i], index, tables->slots[slot].row);
    }
    return w.n;
}
