/* The engine: branches, their KV and the step loop. It knows forks, joins and rows; it knows
 * neither tags nor text. A driver decides (driver_replay.h: a trajectory's tokens are forced;
 * driver_live.h: a dialect, samples and prune rules) and calls back into the engine to act.
 *
 * A run holds one or more problems, each with a driver, and steps until all have ended. One step is
 * one forward pass over all rows that are ready: tokens fed but not yet computed. A fed token's
 * page is taken at once, its row runs in the next step. Within a step a row may read K and V that
 * another row of the same step writes, because every layer appends before it attends; so a fork's
 * last token, its children's headers, or a join's last tokens and the text after it, share one
 * step.
 *
 * Time is kept by one running timer that always stands in exactly one term (measure/metrics.h).
 * Nothing is allocated between the first step and the last. One thread; the backend may use more.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "kv/kv.h"
#include "measure/metrics.h"
#include "measure/timeline.h"
#include "model/model.h"

#define COP_BRANCH_NONE UINT32_MAX

typedef struct cop_engine cop_engine;
typedef uint32_t cop_branch; /* index; valid until the branch is released */

/* What happens when the KV pool is full, a cached prefix apart, which goes first. Under all but
 * FAIL a branch may have to give way: its own tokens leave the pool, and are prefilled once more
 * when there is room; its tokens stay the same. */
typedef enum cop_pressure {
    COP_PRESSURE_FAIL,  /* the run ends with ERR_NO_PAGES */
    COP_PRESSURE_QUEUE, /* a branch or a problem starts only when what it may need beside the others
                           is free; what was promised is kept, so nobody gives way unless a driver
                           promised too little */
    COP_PRESSURE_RECOMPUTE,    /* all start; the youngest gives way */
    COP_PRESSURE_PRUNE_LOWEST, /* drivers end their lowest-scored branches (driver.shed); where none
                                  can go, as RECOMPUTE */
} cop_pressure;
const char *cop_pressure_name(cop_pressure pressure); /* "fail", "queue", "recompute", .. */
cop_status cop_pressure_parse(const char *name, cop_pressure *out);

typedef struct cop_engine_options {
    const char *backend; /* "cpu" */
    cop_arith arith;
    uint32_t n_threads;
    const char *isa;
    cop_products_mode products; /* backend.h, as the next three */
    uint32_t device;
    bool eager;
    uint32_t time_every;
    uint32_t profile_first, profile_last; /* steps under the profiler, from 1; 0, 0: none */
    uint32_t page_tokens;                 /* 16, 32 or 64 */
    uint32_t n_pages;
    uint32_t chunk_tokens, chunk_tail_tokens; /* plan.h; 0: 1024 */
    uint32_t tile_slots;                      /* 0: 64 / group */
    uint32_t max_branches;                    /* alive at once, waiting ones included */
    uint32_t max_rows;                        /* of a step; at least max_branches; 0: derived */
    uint32_t max_positions;   /* rotary positions; at most the context unless allowed */
    uint32_t max_view_tokens; /* 0: the pool's, or twice max_positions */
    uint32_t max_segments;    /* 0: derived */
    /* Prompts that begin alike share KV, across problems and runs (prefix_store.h): blocks of so
     * many tokens; 0: off. A multiple of 64 that divides chunk_tokens. */
    uint32_t prefix_block;
    cop_pressure pressure;
    uint64_t seed;
    uint64_t inject_ns[COP_TERM_COUNT]; /* tests: a delay put into each term where it occurs */
    cop_timeline *timeline;             /* NULL: none */
    const atomic_bool *interrupt;       /* NULL: none; true ends the run with ERR_INTERRUPTED */
} cop_engine_options;

cop_status cop_engine_create(const cop_model *model, const cop_engine_options *options,
                             cop_engine **out);
void cop_engine_destroy(cop_engine *engine);
/* What it runs on; the engine's. */
const cop_backend *cop_engine_backend(const cop_engine *engine, const cop_backend_ops **ops);

/* What a fed token is, for the partition of time and the counts. */
typedef enum cop_feed {
    COP_FEED_PROMPT,
    COP_FEED_DECODE, /* a generated token */
    COP_FEED_HEADER, /* forced after a fork */
    COP_FEED_SPAWN,  /* what a spawned child's own context begins with: counted as prompt, timed as
                        fork */
    COP_FEED_JOIN,   /* forced after a join */
    COP_FEED_AGAIN,  /* re-prefilled at a join: was computed in a child before */
    COP_FEED_RESUME, /* the engine's own: of a branch that gave way, computed once more */
} cop_feed;

typedef struct cop_driver cop_driver;
struct cop_driver {
    uint64_t
        problem_key; /* names the problem to the random numbers, whatever else runs beside it */
    uint32_t prompt_tokens; /* what start will feed at once, for admission; 0: unknown */
    /* Opens the root branch with cop_engine_root, feeds it. */
    cop_status (*start)(cop_driver *driver, cop_engine *engine, uint32_t problem);
    /* Fills temperature and filters, biases and forced; row and key are already set. */
    void (*request)(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                    cop_sample_request *request);
    /* The same one token further on, for a backend that runs ahead: the request after the one that
     * is still out for the branch, without its token being known. False: cannot be said, so nothing
     * runs ahead. NULL: never. The guess may be wrong: the driver need not feed that token. */
    bool (*request_ahead)(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                          cop_sample_request *request);
    /* A token was sampled for the branch: take it (cop_engine_feed), fork, end, .. */
    cop_status (*token)(cop_driver *driver, cop_engine *engine, cop_branch branch,
                        const cop_sample *sample);
    /* Every child of the branch's block has ended: join them. */
    cop_status (*joined)(cop_driver *driver, cop_engine *engine, cop_branch parent);
    /* Under COP_PRESSURE_PRUNE_LOWEST, between steps: ends the lowest-scored branch that can go;
     * *shed is false if none can. NULL: none can. */
    cop_status (*shed)(cop_driver *driver, cop_engine *engine, uint32_t problem, bool *shed);
    /* A full pool in which nobody that runs can give way: everything that this branch was fed, said
     * and opened is gone. The driver forgets it and feeds what it did right after the fork, nothing
     * more; of a root nothing, for `start` will be called again. The tokens will be those of the
     * first time, for they hang on paths and positions alone. `ask`: only whether it could. NULL:
     * never. */
    bool (*restart)(cop_driver *driver, cop_engine *engine, cop_branch branch, bool ask);
};

/* Runs the problems to their end. Afterwards no branch and no page is held. On failure everything
 * is released too and the metrics hold what was counted so far. */
cop_status cop_engine_run(cop_engine *engine, cop_driver *const *drivers, uint32_t n,
                          cop_metrics *metrics);

/* Problems from a queue: at most `at_once` run at a time, and whenever one has ended the next one
 * begins in the following step. */
typedef struct cop_problem_result {
    uint32_t number;           /* in the order in which they began, from 0 */
    uint64_t begin_ns, end_ns; /* since the run began */
    uint64_t tokens_longest_thread, tokens_critical_path, tokens_critical_path_async;
    uint64_t tokens_total;
    uint64_t seen_sum, seen_max; /* of what its generated tokens attended to (context_seen.h) */
} cop_problem_result;

typedef struct cop_problem_queue cop_problem_queue;
struct cop_problem_queue {
    /* NULL: there is none; asked once more whenever a problem has ended, as `ended` was told. */
    cop_driver *(*next)(cop_problem_queue *queue);
    void (*ended)(cop_problem_queue *queue, cop_driver *driver, const cop_problem_result *result);
};

cop_status cop_engine_run_queue(cop_engine *engine, cop_problem_queue *queue, uint32_t at_once,
                                cop_metrics *metrics);

/* Empties the prefix store, so that the next run finds it cold. */
void cop_engine_prefix_clear(cop_engine *engine);

/* Measures the decode step's cost for 1, 2, 4, .. branches, for the modelled split of decode time.
 */
cop_status cop_engine_calibrate(cop_engine *engine);

/* ---- for drivers, inside a callback ---- */

cop_status cop_engine_root(cop_engine *engine, uint32_t problem, cop_branch *out);

/* Feeds tokens to a branch. `ids` stay the driver's and must not move until the branch forks, goes
 * on after a join, or ends: one that gives way is prefilled from them. The prompt of a root or of a
 * spawned child goes through the prefix store where there is one. A branch whose fed tokens
 * have all run is asked for its next token, unless it waits or has ended. At most four spans may be
 * outstanding. */
cop_status cop_engine_feed(cop_engine *engine, cop_branch branch, const int32_t *ids, uint32_t n,
                           cop_feed feed);

/* Takes the branch's last n tokens back, all of which have run: right before its fork, and only
 * what it was fed since it began or was joined last (else ERR_UNSUPPORTED). */
cop_status cop_engine_retract(cop_engine *engine, cop_branch branch, uint32_t n);

/* Takes back what the branch holds from `position` on, for text that became another one: at any
 * time when all that it was fed has run. What it held before its last join goes stretch by stretch,
 * so that its next position may then be a smaller one, never before the branch's own begin. A
 * branch at its begin that is fed nothing is sampled from its parent's last row. Only in views
 * whose positions are their tokens. */
cop_status cop_engine_rewind(cop_engine *engine, cop_branch branch, uint32_t position);

/* Ends the branch's segment and opens n children on its view; the parent waits for them. Children
 * start at the parent's next position. A child that is fed nothing is sampled from the parent's
 * last row. An ancestor's block and its join are the driver's business: the engine calls `joined`
 * when the last child has ended. */
cop_status cop_engine_fork(cop_engine *engine, cop_branch parent, uint32_t n, cop_branch *out);

/* As fork, but each child begins with an empty view at position 0: it sees only what it is fed. */
cop_status cop_engine_spawn(cop_engine *engine, cop_branch parent, uint32_t n, cop_branch *out);

/* A spawned child ends as by cop_engine_end_text, and another one of its block, child `index`,
 * begins in its place with an empty view: for blocks of more children than may run at once. Of the
 * block's longest path each counts by itself, as if all had begun together. */
cop_status cop_engine_spawn_next(cop_engine *engine, cop_branch child, uint32_t index);

/* After a fork, before its children are fed anything: from now on they see each other's tokens, in
 * the very step in which these are computed (engine_share.c has the layout). Headers stand between
 * the parts of every path's view, computed alone; their ids stay the driver's as in feed, until
 * they have run. Positions: each path counts on through its view, wherever the parts stand in it.
 * Such paths do not fork, are never made to give way, and end as others do; whoever is pruned
 * disappears from the others' views. ERR_UNSUPPORTED where the backend does not rotate queries for
 * each segment that they see. */
typedef struct cop_shared_headers {
    const int32_t *others, *own; /* before the other paths' text; before the path's own */
    uint32_t n_others, n_own;
} cop_shared_headers;
cop_status cop_engine_share(cop_engine *engine, cop_branch parent,
                            const cop_shared_headers *headers);
/* All that a path of a shared block was fed, and that has run, stands before the block from now on,
 * for every path; the path goes on with nothing of its own. */
cop_status cop_engine_share_move(cop_engine *engine, cop_branch branch);
/* Tokens that a path of the block sees now, or will when what it was fed has run. */
uint32_t cop_engine_share_view_tokens(const cop_engine *engine, cop_branch parent);

/* The most tokens that the branch will be fed before it forks or ends, those it was fed included:
 * what COP_PRESSURE_QUEUE sets aside. Said after a fork, before its first feed. */
void cop_engine_expect(cop_engine *engine, cop_branch branch, uint32_t tokens);

/* As end with DONE, where the join takes the branch's text alone: its KV goes at once. */
cop_status cop_engine_end_text(cop_engine *engine, cop_branch branch);

/* Ends a branch. DONE keeps its view for the join; the other ends release it, and every branch
 * below it, at once. */
cop_status cop_engine_end(cop_engine *engine, cop_branch branch, cop_branch_end how);

/* The branch's random numbers are those of child `index` of its parent, whatever its own number is:
 * a sample drawn alone equals the same sample drawn among its siblings. */
void cop_engine_stream(cop_engine *engine, cop_branch branch, uint32_t index);

/* In a token callback: the hidden state of the row that the token was sampled from, the last
 * layer's after the final norm; as wide as the model. Waits for the device, and is not to be had of
 * a step behind which another one was queued already: a driver that asks for it says in
 * request_ahead that nothing is to run ahead. */
cop_status cop_engine_read_hidden(cop_engine *engine, cop_branch branch, float *out);

/* Counts n generated tokens for the branch (a last one that is never fed included). */
void cop_engine_generated(cop_engine *engine, cop_branch branch, uint32_t n);

/* Joins: the parent's view afterwards, on which it decodes again. Children are released. */
/* stitch: parent's view, then each child's own segments, in order; next position = 1 + the largest
 * position reached by any child when `equal_start`, else the number of tokens in the view. */
cop_status cop_engine_join_stitch(cop_engine *engine, cop_branch parent, bool equal_start);
/* shared: what stands before the block by now, then what the paths that are done still hold, in
 * order; next position = the number of tokens in the view. */
cop_status cop_engine_join_shared(cop_engine *engine, cop_branch parent);
/* text: the parent's own view again, or, with reuse_first, that of its first child (whose last
 * token must have been fed). The caller feeds the children's text (reprefill) or their replies
 * (message). */
cop_status cop_engine_join_text(cop_engine *engine, cop_branch parent, bool reuse_first);
/* The same on an empty view, at position 0: the caller feeds the prompt once more as well. */
cop_status cop_engine_join_anew(cop_engine *engine, cop_branch parent);

/* Children beside which their parent goes on; any number, one at a time, joined one by one or
 * several at once. A branch has children of this kind or a block of the kind above, never both at a
 * time. Each is fed something before the next step.
 *
 * fork_beside seals the parent's segment; the parent goes on in a new one under the same view, the
 * child's sibling, `gap` positions further on, and its next token comes from its last row unless it
 * is fed. spawn_beside changes nothing for the parent, which may be waiting. */
cop_status cop_engine_fork_beside(cop_engine *engine, cop_branch parent, uint32_t gap,
                                  cop_branch *out);
cop_status cop_engine_spawn_beside(cop_engine *engine, cop_branch parent, cop_branch *out);
/* The parent waits until `child` has ended, or, with COP_BRANCH_NONE, until none of its children
 * runs: then `joined` is called. *ready: that is so already, and it does not wait. One that waits
 * may be told to wait for something else. */
cop_status cop_engine_wait(cop_engine *engine, cop_branch parent, cop_branch child, bool *ready);
/* Children that have ended are joined, in this order, and released. As text: the parent's view
 * stays as it is. As `stitch`: it is followed by each child's own segments, those that ended with
 * DONE; the next position stays the parent's own, or with `behind` is at least 1 + the largest that
 * they reached. The caller feeds what comes then, at least one token. */
typedef struct cop_join_beside {
    const cop_branch *children;
    uint32_t n;
    bool stitch, behind;
} cop_join_beside;
cop_status cop_engine_join_beside(cop_engine *engine, cop_branch parent,
                                  const cop_join_beside *join);

typedef struct cop_branch_info {
    cop_branch parent;
    uint32_t problem;
    uint32_t index; /* child number from 0, in its block */
    uint32_t depth; /* forks above it */
    uint32_t n_children, n_children_live;
    uint32_t next_position;
    uint64_t generated; /* decoded tokens of its own */
    uint32_t data;      /* the driver's */
    cop_branch_end end;
} cop_branch_info;
cop_branch_info cop_engine_branch(const cop_engine *engine, cop_branch branch);
void cop_engine_set_data(cop_engine *engine, cop_branch branch, uint32_t data);
cop_branch cop_engine_child(const cop_engine *engine, cop_branch parent, uint32_t index);

/* Counts that only the driver knows. */
cop_metrics *cop_engine_metrics(cop_engine *engine);

/* Time that inject_ns really put into a term during the last run. */
uint64_t cop_engine_injected_ns(const cop_engine *engine, cop_term term);

uint32_t cop_engine_max_positions(const cop_engine *engine);
