/* What the engine's own files share. Nothing else includes this. */
#pragma once

#include "backend/choice.h"
#include "kernels/cost.h"
#include "reason/engine.h"

enum { COP_SPANS_MAX = 4, COP_CALIBRATION_MAX = 12 };

typedef enum cop_branch_state {
    COP_BRANCH_FREE,
    COP_BRANCH_LIVE,    /* wants its next token once everything fed has run */
    COP_BRANCH_WAITING, /* for its children */
    COP_BRANCH_ENDED,   /* done; its view waits for the join */
    COP_BRANCH_ZOMBIE,  /* released, but tokens fed to it must still run for others */
} cop_branch_state;

typedef struct cop_span { /* fed tokens that have not run yet */
    const int32_t *ids;
    uint32_t n;
    uint32_t offset; /* of the first, in the segment */
    uint32_t position;
    cop_feed feed;
} cop_span;

typedef struct cop_branch_record {
    cop_branch_state state;
    uint32_t problem;
    cop_branch parent;
    uint32_t index, depth;
    uint32_t serial; /* tells a reused record from the old one */
    cop_node node;
    uint32_t slot; /* the plan's decode slot, or UINT32_MAX */
    uint64_t stream;
    cop_span spans[COP_SPANS_MAX];
    uint32_t n_spans, n_pending;
    bool from_parent;  /* the first token comes from the parent's last row */
    uint32_t last_row; /* of the step in which everything fed has run, else UINT32_MAX */
    uint32_t next_position;
    cop_branch first_child; /* children in order: first_child, next_sibling, .. */
    cop_branch next_sibling;
    uint32_t n_children, n_children_live;
    cop_branch_end end;
    uint64_t generated, below; /* its own generated tokens, and those of branches below it */
    uint32_t data;             /* the driver's */
    uint64_t thread_tokens, critical_tokens; /* longest paths ending here, since the branch began */
} cop_branch_record;

typedef struct cop_problem { /* a place for one problem at a time */
    cop_driver *driver;
    cop_branch root;
    bool ended, blocked;
    cop_problem_result result;
} cop_problem;

typedef struct cop_run { /* prefill rows of one branch in this step */
    cop_branch branch;
    uint32_t tokens;
} cop_run;

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
    uint64_t *seen;           /* scratch of cop_cost_attention */
    uint32_t *segment_step;   /* [max_segments] the last step that looked at a segment, */
    uint32_t *segment_tokens; /* and how many of its tokens its rows see */

    cop_branch_record *branches; /* [max_branches] */
    uint32_t *free_ids, n_free;  /* records that are not in use */
    uint32_t *order;             /* branches in use, by age */
    uint32_t n_order;
    uint32_t next_serial;

    cop_problem *problems;
    uint32_t n_problems, max_problems;

    /* the step being built */
    int32_t *token, *position;
    uint32_t *segment, *offset;
    uint8_t *row_term;  /* cop_term of each row */
    uint64_t *row_view; /* tokens that each row sees */
    uint32_t n_rows, n_decode;
    uint32_t *decode_slot;
    cop_branch *decode_branch;
    cop_run *runs;
    cop_prefill_run *plan_runs;
    uint32_t n_runs;
    cop_sample_request *requests;
    cop_branch *request_branch;
    uint32_t *request_serial;
    cop_sample *samples;
    uint32_t n_requests;

    /* time */
    cop_metrics *metrics;
    uint64_t begin_ns, mark_ns;
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
void cop__engine_leave_split(cop_engine *engine, uint64_t begin_ns, uint64_t sample_ns);
void cop__engine_delay(cop_engine *engine, cop_term term);
double cop__step_model_ns(const cop_step_model *model, double rows, double load_bytes);
void cop__engine_event(cop_engine *engine, cop_event_kind kind, cop_branch branch, uint32_t other,
                       uint64_t value);

/* engine.c */
void cop__engine_release(cop_engine *engine, cop_branch branch);
void cop__engine_forget(cop_engine *engine, cop_branch branch);

/* engine_step.c */
cop_status cop__engine_step(cop_engine *engine);
