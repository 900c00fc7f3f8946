#include "kernels/cost.h"

#include <stdbool.h>
#include <string.h>

/* `seen` is for each segment where its leaves stand, then one word a leaf: the tokens loaded. A
 * segment gets its place when an entry first names it, since those that nobody names may be stale.
 */
#define UNPLACED UINT64_MAX

uint64_t cop_cost_scratch_words(uint32_t max_segments, uint32_t n_pages) {
    return (uint64_t)max_segments + n_pages;
}

static bool takes_part(const cop_plan_tables *tables, const cop_tile *tile, uint32_t s) {
    return tile->slot[s] != COP_SLOT_HOLE && tables->slots[tile->slot[s]].row >= 0;
}

/* Tokens of the entry that tile slot s sees: a prefix of the entry. */
static uint64_t visible_tokens(const cop_plan_tables *tables, const cop_walk_entry *entry,
                               uint32_t s) {
    const int64_t first = entry->first, length = tables->segments[entry->segment].tokens;
    int64_t end = length;
    if (entry->tokens != COP_TO_END && first + (int64_t)entry->tokens < end)
        end = first + (int64_t)entry->tokens;
    if (entry->limits != COP_LIMITS_NONE && tables->limits[entry->limits + (int32_t)s] < end)
        end = tables->limits[entry->limits + (int32_t)s];
    return end > first ? (uint64_t)(end - first) : 0;
}

typedef struct load_marks {
    uint64_t *seen;
    uint64_t used; /* words of it */
} load_marks;

static uint64_t *place_segment(const cop_plan_tables *tables, uint32_t segment, load_marks *marks) {
    if (marks->seen[segment] == UNPLACED) {
        const uint64_t leaves =
            ((uint64_t)tables->segments[segment].tokens + COP_LEAF_TOKENS - 1) / COP_LEAF_TOKENS;
        marks->seen[segment] = marks->used;
        memset(marks->seen + marks->used, 0, leaves * sizeof *marks->seen);
        marks->used += leaves;
    }
    return marks->seen + marks->seen[segment];
}

/* Marks tokens first .. first + tokens - 1 of a segment; returns how many were not marked yet. */
static uint64_t mark_tokens(uint64_t *leaves, uint32_t first, uint64_t tokens) {
    uint64_t fresh = 0;
    for (uint64_t leaf = first / COP_LEAF_TOKENS; tokens > 0; leaf++) {
        const uint64_t n = tokens < COP_LEAF_TOKENS ? tokens : COP_LEAF_TOKENS;
        const uint64_t mask = n == COP_LEAF_TOKENS ? UINT64_MAX : (1ull << n) - 1;
        fresh += (uint64_t)__builtin_popcountll(mask & ~leaves[leaf]);
        leaves[leaf] |= mask;
        tokens -= n;
    }
    return fresh;
}

/* Figures of one item in tokens and rows; the caller turns them into bytes and flops. */
typedef struct item_sums {
    uint64_t loads, firsts, seen, queries, partials;
} item_sums;

static void add_item(const cop_plan_tables *tables, const cop_item *item, load_marks *marks,
                     item_sums *sums) {
    const cop_tile *tile = &tables->tiles[item->tile];
    uint64_t participants = 0;
    for (uint32_t e = 0; e < item->n_entries; e++) {
        const cop_walk_entry *entry = &tables->entries[item->first_entry + e];
        uint64_t most = 0;
        for (uint32_t s = 0; s < tile->n_slots; s++) {
            if (!(entry->mask >> s & 1) || !takes_part(tables, tile, s))
                continue;
            const uint64_t tokens = visible_tokens(tables, entry, s);
            most = tokens > most ? tokens : most;
            sums->seen += tokens;
            participants |= 1ull << s;
        }
        sums->loads += most;
        sums->firsts +=
            mark_tokens(place_segment(tables, entry->segment, marks), entry->first, most);
    }
    for (uint32_t s = 0; s < tile->n_slots; s++) {
        if (!(participants >> s & 1))
            continue;
        sums->queries++;
        sums->partials += tables->slots[tile->slot[s]].n_partials > 1;
    }
}

void cop_cost_attention(const cop_plan_tables *tables, uint32_t max_segments,
                        const cop_attention_shape *shape, uint64_t *seen, cop_attention_cost *out) {
    load_marks marks = {.seen = seen, .used = max_segments};
    for (uint32_t s = 0; s < max_segments; s++)
        seen[s] = UNPLACED;
    item_sums sums = {0};
    for (uint32_t i = 0; i < tables->n_items; i++)
        add_item(tables, &tables->items[i], &marks, &sums);
    uint64_t rows = 0;
    for (uint32_t s = 0; s < tables->n_slots; s++) {
        if (tables->slots[s].row < 0)
            continue;
        rows++;
        if (tables->slots[s].n_partials > 1)
            sums.partials += tables->slots[s].n_partials; /* the merge reads what items wrote */
    }
    const uint64_t head_bytes = (uint64_t)shape->head_dim * shape->kv_element_bytes;
    const uint64_t token_bytes = 2 * head_bytes * shape->n_kv_heads;
    *out = (cop_attention_cost){
        .kv_load_bytes = sums.loads * token_bytes,
        .kv_first_bytes = sums.firsts * token_bytes,
        /* An entry loads as far as one of its slots sees: nothing is loaded that nobody sees. */
        .partial_bytes = sums.partials * shape->n_heads * (shape->head_dim + 2) * sizeof(float),
        .query_bytes = sums.queries * shape->n_heads * head_bytes, /* once an item */
        .output_bytes = rows * shape->n_heads * head_bytes,
        .flops = 4ull * shape->head_dim * shape->n_heads * sums.seen,
        .items = tables->n_items * shape->n_kv_heads,
    };
}
