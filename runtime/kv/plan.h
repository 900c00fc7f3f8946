/* The plan of a step's attention: plain integers that every backend executes. FROZEN INTERFACE.
 *
 * A slot is one query token (all its heads): decode slots stay from step to step, one for each
 * decoding branch; prefill slots live for one step. A tile is a run of up to `tile_slots` slots
 * that are neighbours in the depth-first order of their views. A tile walks the union of the
 * segments that its slots see, ancestors first, each trie node once.
 *
 * The arithmetic of a row (one slot, one query head) is a left fold over leaves of 64 tokens in the
 * order of its view (fold_reference.h). A leaf is anchored at offsets 0, 64, 128, .. of its segment
 * and never crosses a segment. Chunks cut the fold: with n the tokens of the view already in the
 * chunk, a chunk ends after the first leaf that brings n to chunk_tokens or more, and at a
 * segment's end once n >= chunk_tail_tokens. So leaves and chunks are properties of a view alone:
 * never of the tile, the batch, the page size or the threads.
 *
 * An item is (tile, chunk number); a backend runs it once for each KV head. A slot takes part in an
 * item only if its own view has that chunk. n_partials of a slot is the number of its chunks: with
 * one, the row's result is final; with more, chunk c of slot s writes partial first_partial + c,
 * and the partials are merged in index order. A slot that sees no token has n_partials = 0 and o =
 * 0.
 *
 * Lengths of open segments are read from the segment table when the step runs: a step in which no
 * slot comes or goes and no chunk is crossed leaves every table as it was.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/tables.h"
#include "kv/kv.h"

typedef struct cop_plan_options {
    uint32_t group;                           /* query heads for each KV head */
    uint32_t tile_slots;                      /* 1 .. 64: slots of a tile; 0: max(1, 64 / group) */
    uint32_t chunk_tokens, chunk_tail_tokens; /* the chunk rule; the same as the kv's */
    uint32_t max_decode_slots, max_prefill_slots;
    uint32_t max_partials; /* 0: derived from the longest view that fits in the pool */
} cop_plan_options;

typedef struct cop_plan cop_plan;

/* The plan reads the kv and writes nothing there but its list of changes. */
cop_status cop_plan_create(const cop_plan_options *options, cop_kv *kv, cop_plan **out);
void cop_plan_destroy(cop_plan *plan);

/* A branch starts or stops decoding on `node` (its open segment). The plan holds no reference:
 * remove the slot before the node is released. */
cop_status cop_plan_slot_add(cop_plan *plan, cop_node node, uint32_t *out_slot);
void cop_plan_slot_remove(cop_plan *plan, uint32_t slot);

/* A run of prefill rows of this step: query tokens first .. first + tokens - 1 of the node's
 * segment, each of which sees the view before the node and the segment's tokens up to itself. */
typedef struct cop_prefill_run {
    cop_node node;
    uint32_t first, tokens;
    int32_t row; /* activation row of the first; the others follow */
} cop_prefill_run;

/* Brings the tables up to date for one step, after this step's tokens were appended to the kv.
 * decode_slot[i] takes part with activation row i, i < n_decode; other decode slots sit this one
 * out (their slots stay). Incremental: besides a look at each decode slot, work is done for what
 * changed. */
cop_status cop_plan_step(cop_plan *plan, const uint32_t *decode_slot, uint32_t n_decode,
                         const cop_prefill_run *runs, uint32_t n_runs);

/* Forgets everything incremental and orders and tiles all slots again from the views. */
cop_status cop_plan_rebuild(cop_plan *plan);

cop_plan_tables cop_plan_view(const cop_plan *plan);

/* The view's `changes` collect what happened since cop_plan_changes_clear, in the kv too: call it
 * once whoever keeps a copy has read them. Clearing moves `from` up to `to`, so a copy that missed
 * a turn sees that its own number is not `from` and copies everything, and so it does where
 * something changed between its turn and the clear. Where most of the plan changes, or more than
 * its list can hold, each of its tables is listed from end to end; `all` is set until the first
 * clear alone. Several plans on one kv clear its lists for one another, which costs the others a
 * full copy. */
void cop_plan_changes_clear(cop_plan *plan);
cop_table_capacity cop_plan_capacity(const cop_plan *plan);

/* Normal form: for each slot of the step, what it sees in order, leaf runs of one segment and one
 * chunk joined. Two plans of one step are equal iff their normal forms are. */
typedef struct cop_plan_span {
    int32_t row;
    uint32_t segment, first, tokens; /* tokens after the limit was applied */
    uint32_t chunk;
} cop_plan_span;
/* Writes up to `capacity` spans sorted by (row, order of the view); returns how many there are. */
size_t cop_plan_normalise(const cop_plan_tables *tables, cop_plan_span *out, size_t capacity);

/* Counts since creation, so that tests and reports can tell an incremental step from a rebuild. */
typedef struct cop_plan_stats {
    uint64_t steps, steps_unchanged, rebuilds, tiles_rewritten;
    uint64_t tilings_searched; /* in O(slots) each; rebuilds are those that were taken */
    uint64_t partials_moved, entries_moved; /* times that all moved together */
    uint64_t changes_whole; /* times that every table was listed as changed from end to end */
} cop_plan_stats;
cop_plan_stats cop_plan_stats_read(const cop_plan *plan);

/* After a step: recomputes what is kept from step to step; COP_ERR_INTERNAL with a message where it
 * disagrees. For tests: it looks at everything. */
cop_status cop_plan_check(cop_plan *plan);
