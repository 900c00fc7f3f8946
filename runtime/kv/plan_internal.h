/* What the files of the plan share.
 *
 * plan.c           create, slots that come and go, the step
 * plan_tile.c      which slots share a tile: placement, loads, the best tiling and when to go back
 *                  to it
 * plan_walk.c      what a tile walks: entries cut at chunks, their storage, the sorted items
 * plan_prefill.c   the transient tiles of prefill runs
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
 */
#pragma once

#include "kv/kv_internal.h"
#include "kv/plan.h"

#define COP__NONE UINT32_MAX
enum { COP__HINTS = 4 };

typedef struct cop__plan_slot {
    cop_node node;        /* COP_NODE_NONE: free */
    uint32_t tile, index; /* slot `index` of the tile */
    uint32_t pieces; /* runs of one chunk that its open segment had when its tile was written */
    uint32_t limit;  /* tokens of its own segment that it sees; COP_TO_END: all */
    uint32_t next_on_node; /* decode slots on one node */
    uint32_t partials;     /* partials held from first_partial on */
    uint64_t stamp;        /* of the last step that it took part in */
} cop__plan_slot;

typedef struct cop__plan_tile {
    uint64_t used;  /* bit i: slot i is taken; 0: the tile is free */
    uint64_t loads; /* tokens that it loads */
    bool dirty;     /* its entries must be written again; it stands in the dirty list */
    uint32_t first_entry, capacity, n_entries, n_items; /* its range of the entries */
    uint32_t previous, next;                            /* ranges in order of place */
} cop__plan_tile;

typedef struct cop__plan_node {
    uint32_t below;      /* decode slots that see the node */
    uint32_t tokens;     /* of its segment, as accounted in U; while below > 0 */
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

struct cop_plan {
    cop_plan_options options; /* tile_slots and max_partials resolved */
    const cop_kv *kv;
    cop_plan_stats stats;
    uint64_t epoch, stamp;
    uint64_t cleared; /* steps when the changes were last cleared */
    bool pending;     /* something changed since the tables were last made */

    cop_slot *slots; /* decode slots, then prefill slots from max_decode_slots on */
    cop__plan_slot *slot_state;
    uint32_t *free_slots, n_free_slots, slots_end; /* no decode slot at or after slots_end */

    cop_tile *tiles; /* decode tiles, then prefill tiles from tiles_end on */
    cop__plan_tile *tile_state;
    uint32_t *free_tiles, n_free_tiles, tiles_end;
    uint32_t *dirty, n_dirty;

    cop__plan_node *nodes;         /* [max_nodes] */
    uint64_t loads, unique, bound; /* of the decode tiles; U; lower bound of R */
    uint32_t era;                  /* number of tilings made; hints of earlier ones are void */
    bool recount;                  /* loads of all tiles must be counted again */
    uint32_t *order, *common, *from, *tiles_to, *window; /* scratch of the best tiling */
    uint64_t *cost_to;

    cop_walk_entry *entries;
    cop_item *tile_items;  /* item c of a tile at its first_entry + c; first_entry relative */
    uint64_t *item_tokens; /* parallel to tile_items */
    uint32_t entries_capacity, entries_end;
    uint32_t first_range, last_range;
    uint32_t *chunk_at; /* scratch: entries of each chunk */
    cop_item *items;
    uint32_t n_items;

    int32_t *limits;
    uint32_t limits_capacity, n_limits;

    cop__plan_run *runs; /* of the last step, in depth-first order */
    uint32_t n_runs, n_prefill_slots, n_prefill_tiles;

    uint32_t partials_end, n_partials; /* of decode slots; with prefill slots */
};

static inline bool cop__tile_has_room(const cop_plan *plan, uint32_t tile) {
    const uint64_t used = plan->tile_state[tile].used;
    return used && (uint32_t)__builtin_popcountll(used) < plan->options.tile_slots;
}

/* Puts a slot into the lowest free place of a tile that has one. */
void cop__tile_put(cop_plan *plan, uint32_t tile, uint32_t slot);
void cop__tile_mark(cop_plan *plan, uint32_t tile);
void cop__tile_clear(cop_plan *plan, uint32_t tile);

void cop__slot_place(cop_plan *plan, uint32_t slot);
void cop__slot_take_out(cop_plan *plan, uint32_t slot);
/* Loads up to date; goes back to the best tiling if they may be too far from it. */
void cop__tiles_balance(cop_plan *plan);
void cop__tiles_rebuild(cop_plan *plan);

/* Links the nodes that the tile's slots see; returns the tokens that it loads. */
uint64_t cop__walk_gather(cop_plan *plan, uint32_t tile);
cop_status cop__walk_write(cop_plan *plan, uint32_t tile);
void cop__range_release(cop_plan *plan, uint32_t tile);
void cop__items_sort(cop_plan *plan);

/* Copies the runs into plan->runs in depth-first order. */
void cop__prefill_take(cop_plan *plan, const cop_prefill_run *runs, uint32_t n_runs);
cop_status cop__prefill_place(cop_plan *plan);
bool cop__prefill_drop(cop_plan *plan); /* the tiles and slots, not plan->runs; true if any */
