/* What happened when: branches, forks, joins, prunes, steps and KV pages, as events in a fixed
 * array.
 *
 * The orchestrator records; the array never grows while steps run (further events are counted as
 * lost and the count is written). Written as a Chrome trace (Perfetto reads it): one track a
 * branch, flow arrows for fork and join, a counter for KV pages. One thread.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

typedef enum cop_event_kind {
    COP_EVENT_BRANCH_BEGIN, /* branch, other = parent branch or UINT32_MAX */
    COP_EVENT_BRANCH_END,   /* branch, value = generated tokens, other = cop_branch_end */
    COP_EVENT_FORK,         /* branch = parent, other = child */
    COP_EVENT_JOIN,         /* branch = parent, other = child */
    COP_EVENT_WAIT_BEGIN,   /* branch waits for its children */
    COP_EVENT_WAIT_END,
    COP_EVENT_STEP,  /* t_ns .. t_ns + duration_ns; value = rows, other = decode rows */
    COP_EVENT_PAGES, /* value = pages held */
} cop_event_kind;

typedef enum cop_branch_end {
    COP_END_DONE,
    COP_END_PRUNED,
    COP_END_CANCELLED,
    COP_END_FAILED
} cop_branch_end;

typedef struct cop_event {
    uint64_t t_ns; /* since the problem was submitted */
    uint64_t duration_ns;
    uint32_t kind;
    uint32_t branch, other;
    uint32_t problem;
    uint64_t value;
} cop_event;

typedef struct cop_timeline cop_timeline;

cop_status cop_timeline_create(uint32_t capacity, cop_timeline **out);
void cop_timeline_destroy(cop_timeline *timeline);
void cop_timeline_reset(cop_timeline *timeline);
void cop_timeline_add(cop_timeline *timeline, cop_event event); /* NULL timeline: nothing */
const cop_event *cop_timeline_events(const cop_timeline *timeline, uint32_t *count, uint64_t *lost);

/* Gives a branch its label in the trace ("root", "1", "2.1"); copied, at most 31 bytes. */
void cop_timeline_label(cop_timeline *timeline, uint32_t branch, const char *label);
const char *cop_timeline_label_of(const cop_timeline *timeline, uint32_t branch); /* "" when none */

/* Chrome trace JSON: {"traceEvents": [..], "otherData": {..}}. */
cop_status cop_timeline_write(const cop_timeline *timeline, const char *title, FILE *file);
