/* What the files of the plan share.
 *
 * plan.c           create, slots that come and go, reading
 * plan_step.c      the step: rows, lengths, what has to be made again
 * plan_tile.c      which slots share a tile: placement, loads, the best tiling and when to go back
 *                  to it
 * plan_walk.c      what a tile walks: entries cut at chunks, and their storage
 * plan_items.c     the items, longest first, by buckets
 * plan_partials.c  where slots write their partials
 * plan_changes.c   what changed in the tables since a copy last followed
 * plan_prefill.c   the transient tiles of prefill runs
 * plan_check.c     counts again what is kept from step to step
 * plan_normalise.c the normal form, from the tables alone
 *
 * Loads. In a tiling whose tiles are runs of the depth-first order, a node is loaded once more than
 * there are tile ends inside its run of slots. So its loads are the unique tokens U that slots see,
 * plus for each tile end the tokens that the slots on its two sides have in common: the best tiling
 * R is found exactly by dynamic programming over tile ends, in O(slots). R only grows when slots
 * are added (take the new slot out of the best new tiling: it still tiles the old slots) and falls
 * by at most a view when one is removed (give it back as a tile of its own). Thus a lower bound of
 * R is kept in O(depth) an event, and only when the exact loads of the incremental tiles pass 1.25
 * times the bound is R computed; if they also pass 1.1 R, the tiles are made again from the best
 * tiling. Between two such computations a share of all loads must have come or gone, so their cost
 * is amortised over the events.
 *
 * Work. A step compares each row with that of the step before and each slot's segment with the
 * length that was accounted; all else is done for what changed: O(depth) to add or remove a slot,
 * and for each tile that is marked its walk and one item move for each bucket boundary. Amortised,
 * and counted in the stats, are the search for the best tiling and the tiles made from it, the
 * partials and the entries that move together once too much of their storage is unused, and items
 * that outgrew their bucket, which move when tables are made next.
 */
#pragma once

#include "kv/kv_internal.h"
#include "kv/plan.h"

#define COP__NONE UINT32_MAX
enum { COP__HINTS = 4, COP__BUCKETS = 64, COP__RANGES_LEAST = 64 };

typedef struct cop__plan_slot {
    cop_node node;        /* COP_NODE_NONE: free */
    uint32_t tile, index; /* slot `index` of the tile */
    uint32_t pieces; /* runs of one chunk that its open segment had when its tile was written */
    uint32_t limit;  /* tokens of its own segment that it sees; COP_TO_END: all */
    uint32_t next_on_node; /* decode slots on one node */
    uint64_t stamp;        /* of the last step that gave it another row */
} cop__plan_slot;

/* What the step reads of each decode slot: the length of its own segment, and up to where that may
 * grow without concerning anyone else. */
typedef struct cop__plan_watch {
    uint32_t segment; /* COP_SEGMENT_NONE: the slot is free */
    uint32_t tokens;  /* as accounted in U and in loads; the same for all slots on a node */
    uint32_t end;     /* fewer tokens than these: still in the same chunk; 0 where slots share the
                         node, and until the tile is written */
    uint32_t tile, chunk; /* whose item has the segment's end; while end is not 0 */
} cop__plan_watch;

typedef struct cop__plan_partials {
    uint32_t held, era;   /* partials from first_partial on, if the era is the current one */
    uint32_t counted, at; /* in partials_live; place among the holders, while counted */
    bool touched;         /* stands in the list of slots to be looked at */
} cop__plan_partials;

typedef struct cop__plan_tile {
    uint64_t used;  /* bit i: slot i is taken; 0: the tile is free */
    uint64_t loads; /* tokens that it loads */
    uint64_t stamp; /* of the last grown node that it was told of */
    bool dirty;     /* its entries must be written again; it stands in the dirty list */
    bool lagging;   /* an item has outgrown its bucket; it stands in the lagging list */
    uint32_t first_entry, capacity, n_entries, n_items; /* its range of the entries */
    uint32_t previous, next;                            /* ranges in order of place */
} cop__plan_tile;

typedef struct cop__plan_node {
    uint32_t below;      /* decode slots that see the node */
    uint32_t first_slot; /* on this very node */
    /* Tiles with a free place that had a slot below this node, the last one first; stale once the
     * node's birth or the plan's era has changed, and then as good as none. */
    uint32_t hint[COP__HINTS];
    uint32_t hint_era;
    uint64_t hint_birth;
    /* The part of the trie that one tile sees, while `stamp` is the current one. */
    uint64_t stamp, mask, own; /* slots that see the node; of these, those on it */
    cop_node first, last, next;
} cop__plan_node;

typedef struct cop__plan_run {
    cop_prefill_run run;
    uint64_t birth; /* of its node */
} cop__plan_run;

/* Ranges of the plan's tables, none of which overlap: an element is listed once a turn. When the
 * list is full, or most of the tables change, every table becomes one range (`whole`). */
typedef struct cop__plan_changes {
    cop_table_range *ranges;
    uint32_t n, capacity;
    uint32_t last[COP_TABLE_COUNT];    /* the table's last range, or COP__NONE */
    uint64_t *listed[COP_TABLE_COUNT]; /* [element] the turn that listed it last */
    uint64_t turn, cleared;            /* cleared: the kv's version then */
    bool whole, all;
} cop__plan_changes;

struct cop_plan {
    cop_plan_options options; /* tile_slots and max_partials resolved */
    cop_kv *kv;               /* only its list of changes is written */
    cop_plan_stats stats;
    cop__plan_changes changes;
    uint64_t epoch, stamp;
    bool pending; /* something changed since the tables were last made */
    bool made;    /* the tables are whole: else they show no item */

    cop_slot *slots; /* decode slots, then prefill slots from slots_end on */
    cop__plan_slot *slot_state;
    uint32_t *free_slots, n_free_slots, slots_end; /* no decode slot at or after slots_end */
    cop__plan_watch *watch;                        /* [decode slot] */
    uint32_t *row_slot, n_rows; /* decode slots of the last step by row, COP__NONE: gone since */
    uint32_t *moved, n_moved;   /* scratch: rows that name another slot now */

    cop_tile *tiles; /* decode tiles, then prefill tiles from tiles_end on */
    cop__plan_tile *tile_state;
    uint32_t *free_tiles, n_free_tiles, tiles_end;
    uint32_t *dirty, n_dirty;

    cop__plan_node *nodes;         /* [max_nodes] */
    uint64_t loads, unique, bound; /* of the decode tiles; U; lower bound of R */
    uint32_t era;                  /* number of tilings made; hints of earlier ones are void */
    uint32_t *order, *common, *from, *tiles_to, *window; /* scratch of the best tiling */
    uint64_t *cost_to;

    cop_walk_entry *entries;
    cop_item *tile_items;  /* item c of a tile at its first_entry + c; first_entry relative */
    uint64_t *item_tokens; /* parallel to tile_items, as the next two are */
    uint32_t *item_place;  /* in items */
    uint8_t *item_bucket;  /* whose range that is */
    uint32_t entries_capacity, entries_end;
    uint32_t first_range, last_range;
    uint32_t *chunk_at;     /* scratch: entries of each chunk */
    uint8_t *entry_changed; /* scratch: of the walk being written */
    /* Bucket b: items of 2^b .. 2^(b + 1) - 1 tokens, at bucket_end[b + 1] .. bucket_end[b] - 1;
     * the last one, of 0 and 1 tokens, ends them all. */
    cop_item *items;
    uint32_t bucket_end[COP__BUCKETS + 1];
    bool items_stale; /* places and buckets mean nothing until the items are sorted anew */
    uint32_t *lagging, n_lagging;

    int32_t *limits;
    uint32_t limits_capacity, n_limits;

    cop__plan_run *runs; /* of the last step, in depth-first order */
    uint32_t n_runs, n_prefill_slots, n_prefill_tiles;

    cop__plan_partials *partials;      /* [decode slot] */
    uint32_t *holders, n_holders;      /* slots of the step that hold partials, in no order */
    uint32_t *touched, n_touched;      /* slots whose row or number of partials changed */
    uint64_t partials_live;            /* partials of the holders */
    uint32_t partials_end, n_partials; /* of decode slots; with prefill slots */
    uint32_t partials_era;             /* number of times that all moved together */
};

static inline uint32_t cop__item_bucket(uint64_t tokens) {
    return tokens ? 63 - (uint32_t)__builtin_clzll(tokens) : 0;
}

static inline bool cop__tile_has_room(const cop_plan *plan, uint32_t tile) {
    const uint64_t used = plan->tile_state[tile].used;
    return used && (uint32_t)__builtin_popcountll(used) < plan->options.tile_slots;
}

cop_status cop__plan_changes_create(cop_plan *plan);
void cop__plan_changes_destroy(cop_plan *plan);
/* Elements first .. first + n - 1 of the table were written. What was not part of the table before
 * counts as written even if it holds the right value by chance: a copy need not have it. */
void cop__change(cop_plan *plan, uint32_t table, uint32_t first, uint32_t n);
void cop__change_all(cop_plan *plan);
void cop__plan_changes_clear(cop_plan *plan);
cop_table_changes cop__plan_changes_read(const cop_plan *plan);

/* Puts a slot into the lowest free place of a tile that has one. */
void cop__tile_put(cop_plan *plan, uint32_t tile, uint32_t slot);
void cop__tile_mark(cop_plan *plan, uint32_t tile);
void cop__tile_clear(cop_plan *plan, uint32_t tile);

/* Accounts for what the slot's own segment has grown or lost: the tokens of a node on which a slot
 * stands are those that its watch tells, the others' are sealed. */
void cop__node_account(cop_plan *plan, uint32_t slot);
void cop__slot_place(cop_plan *plan, uint32_t slot);
void cop__slot_take_out(cop_plan *plan, uint32_t slot);
/* Loads up to date; goes back to the best tiling if they may be too far from it. */
void cop__tiles_balance(cop_plan *plan);
void cop__tiles_rebuild(cop_plan *plan);
/* The least loads of any tiling of the n decode slots; it is left in the scratch. */
uint64_t cop__tiling_search(cop_plan *plan, uint32_t *out_n);

/* Links the nodes that the tile's slots see; returns the tokens that it loads. */
uint64_t cop__walk_gather(cop_plan *plan, uint32_t tile);
cop_status cop__walk_write(cop_plan *plan, uint32_t tile);
void cop__range_release(cop_plan *plan, uint32_t tile);

/* An insertion, a removal or a change of bucket moves one item at each boundary between buckets. */
void cop__items_keep(cop_plan *plan, uint32_t tile, uint32_t n); /* the tile's first n, at most */
/* The tile's items are the first n of its tile_items now. */
void cop__items_renew(cop_plan *plan, uint32_t tile, uint32_t n);
/* The chunk's item got longer or shorter; it moves when the tables are made next. */
void cop__item_grow(cop_plan *plan, uint32_t tile, uint32_t chunk, uint64_t grown);
void cop__items_settle(cop_plan *plan);

void cop__partials_touch(cop_plan *plan, uint32_t slot);
cop_status cop__partials_place(cop_plan *plan);

/* Copies the runs into plan->runs in depth-first order. */
void cop__prefill_take(cop_plan *plan, const cop_prefill_run *runs, uint32_t n_runs);
cop_status cop__prefill_place(cop_plan *plan);
void cop__prefill_drop(cop_plan *plan); /* the tiles and slots, not plan->runs */
