/* A run of many problems as the kv and the plan see it: fork trees that decode out of phase, and
 * events that leave the run as it was once their cycle is over. For the event benchmark and for the
 * test that counts what an event costs.
 *
 *   problem   prompt 1,200 tokens, 300 more, then up to four outer paths of 200 tokens with four
 *             leaves each; leaves of 40 to 199 tokens decode. Two chunks of 1,024 a view.
 *   cycle     fork of one leaf into four (headers of 8 tokens are prefilled), prune of a child, two
 *             children finish, the last one finishes and the leaf goes on from the stitched view (4
 *             tokens prefilled), the leaf ends and one like the old takes its place. Each cycle in
 *             another problem.
 *
 * Rows are stable: when a branch ends, the last row takes its place. Leaves grow by a token a step
 * and are taken back every EVENT_STEPS_MAX steps, before any of them enters another chunk.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kv/kv.h"
#include "kv/plan.h"

enum { EVENT_CHILDREN = 4, EVENT_CYCLE = 6, EVENT_STEPS_MAX = 120 };

typedef enum event_kind {
    EVENT_NONE, /* a steady step; the one after a fork or join gives its branches their rows */
    EVENT_FORK,
    EVENT_PRUNE,
    EVENT_FINISH,
    EVENT_JOIN,
    EVENT_REPLACE,
    EVENT_KINDS,
} event_kind;
const char *event_kind_name(event_kind kind);
extern const event_kind event_cycle[EVENT_CYCLE]; /* fork, prune, finish, finish, join, replace */

typedef struct event_bytes { /* what a copy on a device has to be sent for one step */
    uint32_t records;        /* ranges, and segments that it cannot foresee */
    uint32_t words;          /* of four bytes */
} event_bytes;

typedef struct event_world event_world;

cop_status event_world_create(uint32_t n_live, uint32_t tile_slots, event_world **out);
void event_world_destroy(event_world *w);

/* The host work of a step: the event, a token for each row, the plan. Events come in the order of
 * the cycle, each followed by a step without one at least. */
cop_status event_world_step(event_world *w, event_kind kind);

/* Of the last step. A device advances the segment of each decode row by a token itself. */
event_bytes event_world_bytes(event_world *w);

/* Between two cycles, and at least every EVENT_STEPS_MAX steps: takes back what leaves have grown,
 * in two steps of its own. */
cop_status event_world_settle(event_world *w);

cop_status event_world_check(event_world *w); /* cop_kv_check and cop_plan_check */
cop_plan_stats event_world_stats(const event_world *w);
