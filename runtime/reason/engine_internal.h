/* What the engine's own files share. Nothing else includes this.
 *
 * engine.c         create, branches that come and go, what drivers call
 * engine_end.c     branches that end, and those that begin anew
 * engine_join.c    the joins
 * engine_async.c   children beside which their parent goes on
 * engine_share.c   blocks whose paths see each other while they decode
 * engine_step.c    one step: which tokens run, in which rows
 * engine_prefix.c  prompts through the prefix store
 * engine_retract.c tokens taken back, before a fork or because the text became another one
 * engine_pressure.c what happens when the pool is full
 * engine_flight.c  steps that are queued, the samples that come back, running ahead
 * engine_count.c   what a step is worth: KV bytes from the views, the modelled split of decode time
 * engine_time.c    the one running timer, calibration's cost function
 * engine_run.c     runs: queues of problems, from the first step to the last
 *
 * Rows. A branch that decodes keeps its row from step to step; when one stops, the last row moves
 * into its place. So a device that keeps rows of its own hears of what changed alone.
 *
 * Running ahead. Where a backend takes a second step before the samples of the first
 * (steps_ahead), and the first holds decode rows alone, the second is queued with the tokens that
 * the first one samples. A branch whose driver then feeds exactly that token goes on; any other
 * wish (a fork, an end, other tokens) takes the row back: its KV token is retracted, its sample is
 * dropped. Rows do not know of one another, so nobody else notices.
 */
#pragma once

#include "backend/choice.h"
#include "kernels/cost.h"
#include "reason/engine.h"
#include "reason/prefix_store.h"

enum { COP_SPANS_MAX = 8, COP_CALIBRATION_MAX = 12, COP_FLIGHTS_MAX = 2 };
#define COP_ROW_NONE UINT32_MAX
#define COP_PROBLEM_NONE UINT32_MAX

typedef enum cop_branch_state {
    COP_BRANCH_FREE,
    COP_BRANCH_LIVE,    /* wants its next token once everything fed has run */
    COP_BRANCH_WAITING, /* for its children */
    COP_BRANCH_ENDED,   /* done; its view waits for the join */
    COP_BRANCH_ZOMBIE,  /* released, but tokens fed to it must still run for others */
} cop_branch_state;

typedef struct cop_fed_span { /* fed tokens that have not run yet */
    const int32_t *ids;
    uint32_t n;
    uint32_t offset; /* of the first, in the segment */
    uint32_t position;
    cop_feed feed;
} cop_fed_span;

typedef struct cop_branch_record {
    cop_branch_state state;
    uint32_t problem;
    cop_branch parent;
    uint32_t index, depth;
    uint32_t serial; /* tells a reused record from the old one */
    cop_node node;
    cop_node view; /* of a shared branch in the step being built; else COP_NODE_NONE */
    bool shared;   /* the other paths of its block see it while it decodes (engine_share.c) */
    bool shares;   /* its open block is such a one: */
    cop_node share_base, share_others, share_own; /* what stands before, headers */
    int32_t share_begin;     /* position at which the block has token 0 of its views */
    uint32_t draws_before;   /* added to its position in the keys of random numbers */
    cop_branch older, newer; /* branches in use, by age */
    uint32_t slot;           /* the plan's decode slot, or UINT32_MAX */
    uint32_t row;            /* its decode row, or COP_ROW_NONE */
    uint64_t flight;         /* the queued step whose sample it waits for; 0: none */
    bool reserved;           /* the flight runs ahead with a token that was not fed yet */
    int32_t expected;        /* .. which must be this one */
    cop_fed_span
        again; /* the last fed token where a flight that ran ahead has computed it; n = 0: none */
    uint64_t stream;
    cop_fed_span spans[COP_SPANS_MAX];
    uint32_t n_spans, n_pending;
    /* All that it was fed on its node, so that it can give way: runs of ids that follow one another
     * in memory. */
    cop_fed_span fed[COP_SPANS_MAX];
    uint32_t n_fed, fed_tokens;
    bool fed_whole;          /* fed[] holds everything */
    bool parked;             /* it gave way: its node is empty until it resumes */
    uint32_t ran_tokens;     /* of a parked one: those that have been computed before */
    uint32_t yielded;        /* how often it began anew for one that came after it */
    uint32_t stripped_pages; /* what it and what stood on it held before it had to begin anew */
    uint32_t expected_tokens;
    bool spawned;     /* it began with an empty view */
    bool from_parent; /* the first token comes from the parent's last row, */
    cop_branch heir;  /* or from that of the record that took over its own tokens; or NONE */
    cop_node begin;   /* the view that it began on, and where */
    uint32_t begin_position;
    bool beside;       /* it goes on beside its children (engine_async.c) */
    uint32_t n_beside; /* children of that kind, so far */
    cop_branch awaits; /* of these, while it waits: the one; COP_BRANCH_NONE: all */
    uint32_t last_row; /* of the step in which everything fed has run, else COP_ROW_NONE */
    uint32_t next_position;
    cop_branch first_child; /* children in order: first_child, next_sibling, .. */
    cop_branch next_sibling;
    uint32_t n_children, n_children_live;
    cop_branch_end end;
    uint64_t generated, below; /* its own generated tokens, and those of branches below it */
    uint32_t data;             /* the driver's */
    cop_prefix entry;          /* of a filler (engine_prefix.c) */
    /* Longest paths ending here, since the branch began: tokens of its thread, all that were fed,
     * generated ones. The same of those that ended in its place, and those of its parent when it
     * began. */
    uint64_t thread_tokens, critical_tokens, chain_tokens;
    uint64_t thread_before, critical_before, chain_before;
    uint64_t parent_thread, parent_critical, parent_chain;
} cop_branch_record;

typedef struct cop_problem { /* a place for one problem at a time */
    cop_driver *driver;
    cop_branch root;
    bool ended, blocked, admitted, begun_before;
    uint64_t share_pending; /* of this step: tokens of shared blocks that were joined already */
    cop_problem_result result;
} cop_problem;

typedef struct cop_run { /* prefill rows of one branch in this step */
    cop_branch branch;
    uint32_t tokens;
} cop_run;

typedef struct cop_give { /* a sample, and whose it is */
    cop_branch branch;
    uint32_t serial, request;
    uint64_t seen; /* tokens that its row saw */
} cop_give;

/* What the last step's attention was worth. While the plan stays and the rows decode, a step adds
 * to it what the rows' own segments grew by, each of which one tile loads. */
typedef struct cop_step_count {
    bool known;
    uint64_t epoch, view_sum;                   /* view_sum: tokens that the rows see, added up */
    uint64_t unique, load_tokens, first_tokens; /* of one layer */
} cop_step_count;

/* A step that was queued and whose samples were not taken yet. */
typedef struct cop_flight {
    uint64_t number; /* from 1 */
    uint64_t step;   /* the same for profilers: calibration is left out */
    uint32_t n_rows, n_decode, n_runs, n_requests, n_gives;
    cop_sample_request *requests; /* those of decode rows first, each at its row's number */
    cop_give *gives;              /* by age of their branches */
    double share[COP_TERM_COUNT]; /* of its time */
    uint64_t longest_view, begin_ns, queue_ns;
    uint64_t weight_bytes, load_bytes;
} cop_flight;

/* Decode step time by rows, measured; see cop_engine_calibrate. */
typedef struct cop_step_model {
    uint32_t n;
    uint32_t rows[COP_CALIBRATION_MAX];
    double ns[COP_CALIBRATION_MAX], load_bytes[COP_CALIBRATION_MAX];
    double ns_per_byte;
} cop_step_model;

struct cop_engine {
    cop_engine_options options;
    const cop_model *model;
    const cop_backend_ops *ops;
    cop_backend *backend;
    cop_kv *kv;
    cop_plan *plan;
    uint32_t max_segments;
    cop_attention_shape attention;
    uint64_t *seen;         /* scratch of cop_cost_attention */
    uint32_t *segment_step; /* [max_segments] the last step that looked at a segment, */
    cop_step_count last_count;
    uint32_t *segment_tokens; /* and how many of its tokens its rows see */

    cop_branch_record *branches; /* [max_branches] */
    uint32_t *free_ids, n_free;  /* records that are not in use */
    cop_branch oldest, newest;   /* branches in use, by age */
    cop_prefix_store *store;     /* or NULL */
    cop_branch *fillers;         /* in order of their blocks */
    uint32_t n_fillers, max_fillers;
    uint32_t n_zombies, n_parked;
    uint32_t n_shares; /* open blocks whose paths see each other */
    uint32_t next_serial;

    cop_problem *problems;
    uint32_t n_problems, max_problems;

    /* the step being built */
    int32_t *token, *position, *key_position;
    bool floats; /* some row's key stands at another position than its query */
    cop_node *share_below, *share_tail; /* scratch of a view */
    uint32_t *segment, *offset;
    uint8_t *row_term;  /* cop_term of each row */
    uint64_t *row_view; /* tokens that each row sees */
    uint32_t n_rows, n_decode;
    uint32_t *decode_slot; /* [max_branches] by row, as long as the branch decodes */
    cop_branch *decode_branch;
    cop_branch *candidates; /* scratch: branches with tokens to prefill, and fresh decode rows */
    cop_run *runs;
    cop_prefill_run *plan_runs;
    uint32_t n_runs;

    cop_flight flights[COP_FLIGHTS_MAX]; /* the oldest first */
    uint32_t n_flights;
    uint64_t n_queued;
    cop_sample *samples;

    /* time */
    cop_metrics *metrics;
    uint64_t begin_ns, mark_ns, last_end_ns;
    cop_term term;
    cop_step_model model_of_steps;
    uint64_t injected_ns[COP_TERM_COUNT];
    uint64_t single_ns, single_bytes;              /* steps with one decode row and nothing else */
    uint64_t pure_steps, pure_ns, pure_load_bytes; /* steps with decode rows and nothing else */

    /* profilers */
    cop_profile profile;
    uint64_t n_steps; /* over the engine's runs, calibration left out */
    bool in_range;    /* the one of the running term or step is open */
};

/* engine_time.c */
cop_term cop__engine_enter(cop_engine *engine, cop_term term); /* returns the term left */
/* Ends the open range and begins one of that name; NULL begins none. */
void cop__engine_range(cop_engine *engine, const char *name);
/* Time since begin_ns goes to the terms by their shares; the timer then stands in no term. */
void cop__engine_leave_split(cop_engine *engine, uint64_t begin_ns,
                             const double share[COP_TERM_COUNT]);
void cop__engine_shares(const cop_engine *engine, double share[COP_TERM_COUNT]);
void cop__engine_delay(cop_engine *engine, cop_term term);
double cop__step_model_ns(const cop_step_model *model, double rows, double load_bytes);
void cop__engine_event(cop_engine *engine, cop_event_kind kind, cop_branch branch, uint32_t other,
                       uint64_t value);

/* engine_share.c */
/* What the branch's rows see in the step being built. */
cop_node cop__engine_view(const cop_branch_record *branch);
/* Runs for what shared blocks that were joined still have to run, and for headers: of a problem all
 * together or nothing, and nothing else of it then. */
cop_status cop__engine_share_drain(cop_engine *engine, uint32_t *room);
/* Runs for all that the paths of shared blocks were fed, each block's together or not at all. */
cop_status cop__engine_share_rows(cop_engine *engine, uint32_t *room);
void cop__engine_share_release(cop_engine *engine); /* the step's views */
/* Moves what the paths hold behind what stands before the block: the view of the parent. */
cop_status cop__engine_share_stitch(cop_engine *engine, cop_branch_record *parent, cop_node *view);
void cop__engine_share_end(cop_engine *engine, cop_branch_record *parent);

/* engine.c */
cop_status cop__engine_branch_new(cop_engine *engine, uint32_t problem, cop_branch parent,
                                  cop_node view, cop_branch *out);
void cop__engine_release(cop_engine *engine, cop_branch branch);
void cop__engine_forget(cop_engine *engine, cop_branch branch);
void cop__engine_settle(const cop_engine *engine, cop_branch_record *branch);
bool cop__engine_is_full(const cop_engine *engine);
cop_status cop__engine_too_many(const cop_engine *engine);
/* A new serial number, as of a branch that was opened just now. */
void cop__engine_renumber(cop_engine *engine, cop_branch branch);
/* A branch as it is when it is opened; in no list yet. */
cop_branch_record cop__engine_blank(uint32_t problem, cop_branch parent, uint32_t serial,
                                    cop_node node);
/* Tells the timeline that the child has begun. */
void cop__engine_say_begun(cop_engine *engine, cop_branch child);
/* Takes everything from a branch that waits or has ended, as if it had just been forked. */
bool cop__engine_strip(cop_engine *engine, cop_branch branch);
/* Takes a root and all below it away: its problem has not begun yet. */
void cop__engine_withdraw(cop_engine *engine, cop_branch root);
void cop__engine_leave_plan(cop_engine *engine, cop_branch_record *branch);
void cop__engine_row_remove(cop_engine *engine, uint32_t row);
/* The list of branches by age. */
void cop__engine_list_append(cop_engine *engine, cop_branch branch);
void cop__engine_list_remove(cop_engine *engine, cop_branch branch);
void cop__engine_list_replace(cop_engine *engine, cop_branch old, cop_branch with);
/* Undoes what ran ahead for the branch and was not confirmed. */
void cop__engine_take_back(cop_engine *engine, cop_branch_record *branch);

/* Opens a child of `parent` under `view`. */
cop_status cop__engine_child(cop_engine *engine, cop_branch parent, cop_node view, bool spawn,
                             uint32_t index, cop_branch *out);
void cop__engine_list_insert(cop_engine *engine, cop_branch branch, cop_branch before);

/* engine_join.c */
/* A record of its own takes over what a branch still has to run on its segment, and the branch's
 * place in the list; the branch is in no list then. */
cop_status cop__engine_hand_over(cop_engine *engine, cop_branch branch, cop_branch *heir);

/* engine_end.c */
/* The longest path into `branch` runs through its child, if that is longer. */
void cop__engine_lengthen(cop_branch_record *branch, const cop_branch_record *child);

/* engine_async.c */
/* Whether the end of a child is what its parent waits for. */
bool cop__engine_wakes(const cop_branch_record *parent, cop_branch child);
/* Whether the branch waits for this child. */
bool cop__engine_awaits(const cop_branch_record *parent, cop_branch child);
/* The branch ends or begins anew: nobody is sampled from the tokens that were taken over. */
void cop__engine_drop_heir(cop_engine *engine, cop_branch_record *branch);

/* engine_prefix.c */
cop_status cop__engine_prefix_create(cop_engine *engine);
uint32_t cop__engine_prefix_entries(const cop_engine_options *options);
uint32_t cop__engine_prefix_fillers(const cop_engine_options *options);
/* Takes what blocks there are off the front of a prompt, for a branch that has an empty view. */
cop_status cop__engine_prefix_take(cop_engine *engine, cop_branch_record *branch,
                                   const int32_t **ids, uint32_t *n);
void cop__engine_prefix_drain(cop_engine *engine, uint32_t *room);
void cop__engine_prefix_settle(cop_engine *engine);
void cop__engine_prefix_finish(cop_engine *engine);

/* engine_pressure.c */
void cop__engine_fed(cop_branch_record *branch, const int32_t *ids, uint32_t n);
void cop__engine_unfed(cop_branch_record *branch, uint32_t n); /* the last n of them */
/* Takes the branch's pages for n more tokens, whoever must give way for it. *parked: it was the
 * branch itself. */
cop_status cop__engine_take_pages(cop_engine *engine, cop_branch id, uint32_t n, bool *parked);
/* Before a step: branches are shed where the policy says so, and who gave way comes back. */
cop_status cop__engine_relieve(cop_engine *engine);
bool cop__engine_admits(const cop_engine *engine, uint32_t tokens);
/* Pages for two more tokens of every row: a step may run ahead without anybody giving way. */
bool cop__engine_has_spare_pages(const cop_engine *engine);
/* Somebody is about to stand on its tokens: it comes back now, at the others' cost. */
cop_status cop__engine_unpark(cop_engine *engine, cop_branch branch);

/* engine_step.c */
cop_status cop__engine_build_rows(cop_engine *engine);
/* Rows for one more token of every branch that decodes; false if there can be none. */
bool cop__engine_build_ahead(cop_engine *engine, const cop_flight *before);
void cop__engine_unbuild_ahead(cop_engine *engine);

/* engine_count.c */
void cop__engine_count_step(cop_engine *engine, const cop_plan_tables *tables);
bool cop__engine_has_siblings(const cop_engine *engine, const cop_branch_record *branch);
/* n tokens of a problem were generated from a row that saw `view` tokens. */
void cop__engine_count_seen(cop_engine *engine, cop_problem_result *result, bool siblings,
                            uint64_t view, uint64_t n);
void cop__engine_count_decode(cop_engine *engine, const cop_flight *flight, uint64_t ns);

/* engine_flight.c */
cop_status cop__engine_step(cop_engine *engine);
void cop__engine_drain(cop_engine *engine); /* takes the samples of queued steps and drops them */
