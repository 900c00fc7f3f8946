/* Random reasoning trees (after joins, DAGs) as a list of operations that can be replayed.
 *
 * tree_trace_create makes a trace from a seed: prompts, forks with headers, decode steps in which
 * some branches sit out, retracted tokens, finished and pruned branches, nested joins under three
 * rules. A trace names views by handles and knows nothing of pages, nodes or slots.
 *
 * A replay runs a trace on a cop_kv and a cop_plan of its own and hands out one batch of rows after
 * another: exactly what one forward pass needs. Replays of one trace may differ in page size, tile
 * width, rows a batch (1: every row alone) and in whether decode rows go through prefill tiles; a
 * row keeps its `id` through all of that, so results can be compared row by row. The chunk rule is
 * part of the arithmetic and should be the same.
 *
 *   tree_trace *trace = tree_trace_create(&(tree_options){.seed = 1, ...});
 *   tree_replay *replay = tree_replay_create(trace, &(tree_replay_options){...});
 *   while (tree_replay_next(replay, &batch)) forward(batch);
 *
 * Out of memory or a failure of the kv or the plan ends the process with a message: for tests only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "kv/kv.h"
#include "kv/plan.h"

#define TREE_ROOT UINT32_MAX /* the empty view */

typedef struct tree_options {
    uint64_t seed;
    uint32_t max_steps, max_branches; /* steps of the trace; branches that decode at once */
    uint32_t max_prompt,
        max_header;       /* tokens of a prompt, of what is prefilled at a fork or join */
    uint32_t max_prefill; /* prefill rows a step */
    uint32_t max_tokens;  /* appended in all; the trace ends soon after */
    uint32_t vocab;
    /* chances, in percent: of each event a step; of a branch to sit a step out */
    uint32_t fork, finish, prune, retract, sit_out;
} tree_options;

typedef enum tree_op_kind {
    TREE_OPEN,    /* view: opened under `parent` */
    TREE_APPEND,  /* count tokens, tokens[first ..] */
    TREE_RETRACT, /* count tokens */
    TREE_SEAL,
    TREE_STITCH,  /* view: parent, then what tails list[first .. + count] have below `below` */
    TREE_RELEASE, /* the handle is dead from here on */
    TREE_START,   /* the view's segment gets a decode slot */
    TREE_STOP,
    TREE_STEP, /* decode rows: list[first .. + count]; runs[first_run .. + n_runs] */
} tree_op_kind;

typedef struct tree_op {
    tree_op_kind kind;
    uint32_t view, parent, below;
    uint32_t first, count;
    uint32_t first_run, n_runs;
    uint32_t first_row; /* STEP: id of its first row; runs come before decode rows */
} tree_op;

typedef struct tree_run { /* tokens first .. first + tokens - 1 of the view's segment */
    uint32_t view, first, tokens;
} tree_run;

typedef struct tree_view {
    uint32_t first, count; /* paths[first .. + count]: the segments that it sees, by the handle that
                              opened them, its own last */
    uint32_t start;        /* rotary position of its segment's first token */
    bool stitched;         /* no segment of its own */
} tree_view;

/* What a test saw; every class must have been seen before a property counts as tested. */
#define TREE_COVERAGE_MAP(X)                                                                       \
    X(MANY_LEAVES, "segments of several leaves")                                                   \
    X(FORKS, "forks")                                                                              \
    X(STITCHES, "stitched joins")                                                                  \
    X(NESTED_JOINS, "nested joins")                                                                \
    X(REPREFILLS, "joins by prefill")                                                              \
    X(PRUNED, "pruned branches")                                                                   \
    X(RETRACTED, "retracted tokens")                                                               \
    X(EMPTY_SEGMENTS, "empty segments in a view")                                                  \
    X(TWO_PREFIXES, "one segment under two prefixes in one step")                                  \
    X(CHUNK_INSIDE, "chunks that end inside a segment")                                            \
    X(CHUNK_AT_END, "chunks that end at a segment's end")                                          \
    X(HOLES, "holes in a tile")                                                                    \
    X(PARTIAL_PAGES, "partial pages")                                                              \
    X(SEVERAL_TILES, "more decode rows than a tile")                                               \
    X(PREFILL_LIMITS, "prefill rows with limits")                                                  \
    X(PREFILL_SHARED, "prefill tiles shared by runs")                                              \
    X(MIXED_STEPS, "steps of prefill and decode rows")                                             \
    X(SAT_OUT, "slots that sat a step out")                                                        \
    X(STEADY_STEPS, "steps that left every table")

typedef enum tree_coverage_class {
#define TREE_COVERAGE_ENUM(name, text) TREE_##name,
    TREE_COVERAGE_MAP(TREE_COVERAGE_ENUM)
#undef TREE_COVERAGE_ENUM
        TREE_COVERAGE_COUNT,
} tree_coverage_class;

typedef struct tree_coverage {
    uint64_t seen[TREE_COVERAGE_COUNT];
} tree_coverage;

/* Adds a trace's own classes or a replay's, which is complete once its last batch was taken. */
void tree_coverage_add(tree_coverage *total, const tree_coverage *part);
void tree_coverage_print(const tree_coverage *coverage, FILE *out);
/* The text of a class that was not seen, or NULL. Classes in `except` (bit mask) are not asked. */
const char *tree_coverage_missing(const tree_coverage *coverage, uint32_t except);

typedef struct tree_trace {
    tree_options options;
    tree_op *ops;
    tree_view *views;
    uint32_t *list, *paths;
    int32_t *tokens;
    tree_run *runs;
    uint32_t n_ops, n_views, n_list, n_paths, n_tokens, n_runs;
    uint32_t n_rows, n_steps;
    uint32_t max_decode, max_prefill; /* rows of one step */
    uint32_t max_nodes;               /* bound on the nodes that it makes */
    tree_coverage coverage;
} tree_trace;

tree_trace *tree_trace_create(const tree_options *options);
void tree_trace_destroy(tree_trace *trace);

typedef struct tree_replay_options {
    uint32_t page_tokens, chunk_tokens, chunk_tail_tokens;
    uint32_t group, tile_slots; /* of the plan */
    uint32_t max_rows;          /* rows a batch; 0: a step is one batch */
    bool decode_by_prefill;     /* decode rows become runs of one token */
    bool pages_ahead;           /* of the kv */
    bool with_rebuilt;       /* keeps a second plan that is rebuilt from scratch for each batch */
    bool drop_prefill_first; /* the second plan is rebuilt before its step rather than after */
} tree_replay_options;

/* One forward pass. Decode rows come first: row i is decode_slot[i]'s. Borrowed until the next. */
typedef struct tree_batch {
    uint32_t n_rows, n_decode, n_runs;
    const uint32_t *id;     /* [n_rows] the row's number in the trace, the same in every replay */
    const uint32_t *view;   /* [n_rows] handle of the row's segment; its path is what it sees */
    const uint32_t *offset; /* [n_rows] token offset in the segment: sees itself and those before */
    const uint32_t *segment; /* [n_rows] the kv's segment */
    const int32_t *token, *position;
    const uint32_t *decode_slot;
    const cop_prefill_run *runs;
    cop_plan_tables plan;
    cop_plan_tables rebuilt; /* with_rebuilt */
} tree_batch;

typedef struct tree_replay tree_replay;

tree_replay *tree_replay_create(const tree_trace *trace, const tree_replay_options *options);
void tree_replay_destroy(tree_replay *replay);
bool tree_replay_next(tree_replay *replay, tree_batch *batch); /* false: the trace has ended */

const cop_kv *tree_replay_kv(const tree_replay *replay);
cop_kv_options tree_replay_kv_options(const tree_replay *replay); /* to size a backend */
cop_plan_options tree_replay_plan_options(const tree_replay *replay);
cop_plan *tree_replay_plan(const tree_replay *replay);
const tree_coverage *tree_replay_coverage(const tree_replay *replay);
/* The live handle's node. */
cop_node tree_replay_node(const tree_replay *replay, uint32_t view);
/* The kv's segment that the handle opened and the tokens that it has now. */
uint32_t tree_replay_segment(const tree_replay *replay, uint32_t view);
uint32_t tree_replay_tokens(const tree_replay *replay, uint32_t view);
