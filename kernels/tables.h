/* The integers that attention reads besides Q and the KV pool: segments, tiles, walk entries,
 * items. FROZEN INTERFACE. No dependency: this folder can be lifted out.
 *
 * What the tables mean, who makes them and what they promise: runtime/kv/plan.h.
 * Units: lengths and offsets in tokens, partials in rows of one query head.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The part of a segment that a backend reads; the array is the device table. */
typedef struct cop_segment {
    uint32_t page_table_offset; /* its pages are page_table[page_table_offset ..] */
    uint32_t tokens;
} cop_segment;

enum {
    COP_LEAF_TOKENS = 64,
    COP_TILE_SLOTS_MAX = 64, /* bits of a mask */
};
#define COP_TO_END UINT32_MAX /* entry tokens: to the end of the segment, however long it is */
#define COP_SLOT_HOLE (-1)
#define COP_LIMITS_NONE (-1)

typedef struct cop_tile {
    int32_t slot[COP_TILE_SLOTS_MAX]; /* COP_SLOT_HOLE where there is none */
    uint32_t n_slots;                 /* highest used index + 1 */
} cop_tile;

typedef struct cop_walk_entry {
    uint32_t segment;
    uint32_t first;  /* offset of the first token, a multiple of COP_LEAF_TOKENS */
    uint32_t tokens; /* or COP_TO_END */
    int32_t q_shift; /* added to the query's rotary position for this entry; 0 but for `shared` */
    uint64_t mask;   /* bit i: slot i of the tile sees this entry */
    int32_t
        limits; /* COP_LIMITS_NONE, or: slot i sees the segment's tokens below limits[limits + i] */
    uint32_t node; /* the trie node it came from; for reports and checks only */
} cop_walk_entry;

typedef struct cop_item {
    uint32_t tile;
    uint32_t chunk;
    uint32_t first_entry, n_entries;
} cop_item;

typedef struct cop_slot {
    int32_t row; /* row of the step's activations, -1 when the slot is not in this step */
    uint32_t first_partial, n_partials;
} cop_slot;

/* What changed in the tables since a copy of them was last brought up to date: a copy on a device
 * follows with work for the change alone. Ranges of one table never overlap; what stands there is
 * read from the tables themselves. Only what an item or a slot of the step can reach is promised to
 * be in a copy: words that nobody reads may differ. */
enum cop_table_id {
    COP_TABLE_PAGE_TABLE,
    COP_TABLE_TILES,
    COP_TABLE_ENTRIES,
    COP_TABLE_LIMITS,
    COP_TABLE_ITEMS,
    COP_TABLE_SLOTS,
    COP_TABLE_COUNT,
};

typedef struct cop_table_range {
    uint32_t table;    /* cop_table_id */
    uint32_t first, n; /* elements of that table */
} cop_table_range;

typedef struct cop_table_changes {
    const cop_table_range *kv, *plan; /* of the page table; of the other tables */
    uint32_t n_kv, n_plan;
    const uint32_t *segments; /* those whose offset or length changed, each once */
    uint32_t n_segments;
    uint64_t from, to; /* a copy that stood at `from` stands at `to` when it has followed */
    bool all;          /* more changed than could be listed: copy every table */
} cop_table_changes;

/* Elements that a table can ever hold. */
typedef struct cop_table_capacity {
    uint32_t segments, page_table, tiles, entries, limits, items, slots, partials;
} cop_table_capacity;

/* Everything that attention reads besides Q and KV. Borrowed from the plan, valid until it changes.
 */
typedef struct cop_plan_tables {
    const cop_segment *segments;
    const uint32_t *page_table;
    const cop_tile *tiles;
    const cop_walk_entry *entries;
    const int32_t *limits;
    const cop_item *items; /* longest first */
    const cop_slot *slots; /* [n_slots] */
    uint32_t n_tiles, n_items, n_slots, n_partials;
    uint32_t page_tokens;
    uint64_t epoch; /* changes whenever a table of the plan does */
    cop_table_changes changes;
} cop_plan_tables;
