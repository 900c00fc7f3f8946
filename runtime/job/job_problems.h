/* What the files of the problems job share. Nothing else includes this, but its test.
 *
 * A cell is one method at one number of problems at once. job_problems.c walks the cells,
 * job_problems_prompts.c encodes the prompts, job_problems_cell.c runs one,
 * job_problems_calls.c what is other under a controller, job_problems_samples.c what is where
 * several samples are drawn, job_problems_record.c makes its line and its answers,
 * job_problems_reasoning.c what of it is the papers' measures. All that a run keeps of a problem is
 * a cop__problem_outcome and the ids that it said, in arrays made before the run: nothing is
 * allocated while it runs.
 */
#pragma once

#include "base/sha256.h"
#include "job/job_internal.h"
#include "job/job_rule.h"
#include "measure/metrics_reasoning.h"
#include "reason/checker.h"
#include "reason/driver_controller.h"
#include "reason/live_tracer.h"
#include "reason/problem_set.h"

/* What the problems of a set are given under one method, encoded: one after another. */
typedef struct cop__problem_prompts {
    cop_dialect_file *file;
    const cop_dialect *dialect;
    cop_token_ids prompts, spawns;  /* spawns: message joins only */
    size_t *prompt_end, *spawn_end; /* [count] */
    uint32_t longest_prompt, longest_spawn;
    cop_buffer inputs;                 /* under a controller: what it is asked, as text */
    size_t *input_end;                 /* [count] in bytes; else NULL */
    cop_buffer before, after;          /* of a chat format, around every prompt; empty: none */
    char sha256[COP_SHA256_HEX_BYTES]; /* of all ids and of the dialect's rules: one that changed is
                                          another cell */
} cop__problem_prompts;

typedef struct cop__problem_outcome {
    cop_grade grade;
    cop_stop stop;
    uint64_t begin_ns, end_ns; /* since its run began */
    uint64_t longest, tokens;  /* tokens of the longest thread; generated tokens */
    uint64_t seen_sum;         /* of what each of them attended to */
    uint64_t hash;             /* of its ids and its paths' */
    uint32_t forks, paths, cancelled;
    uint32_t n_samples; /* that ran, where several are drawn */
    bool well_formed, claimed;
    double lowest_confidence;
    bool traced, marked; /* whether the figures below are there */
    cop_trace_figures trace;
    cop_marked_figures marks;
    double gain_words;
    size_t first_id; /* in the cell's ids */
    uint32_t n_ids;
    size_t text_bytes, answer_at, answer_bytes; /* in its text, which is that of its ids, */
    size_t first_byte;                          /* or under a controller the cell's from here on */
} cop__problem_outcome;

/* One of several samples of a problem. */
typedef struct cop__problem_sample {
    cop_grade grade;
    cop_stop stop;
    uint32_t n_ids, generated;
    size_t first_id; /* in the cell's ids */
    size_t text_bytes, answer_at, answer_bytes;
    bool claimed;
} cop__problem_sample;

typedef struct cop__problem_cell {
    cop_job *job;
    const cop_problems_job *what;
    const cop_problems_method *method;
    const cop_problem_set *set;
    const cop_checker *checker;
    const cop__problem_prompts *prompts;
    const json_t *rule_identity; /* NULL: the method has no rule */
    const char *problem;         /* "countdown x 8" */
    uint32_t at_once;
    uint32_t done, total; /* cells, for progress */
    /* of its run */
    cop__problem_outcome *outcomes; /* [set->count] */
    cop__problem_sample *samples;   /* [set->count][n_samples] of a method that draws several */
    int32_t *ids;                   /* of all problems, in the order in which they ended */
    size_t n_ids, max_ids;
    cop_buffer texts; /* of all problems whose answer is no text of a branch: a controller's, or
                         that of a rule over several samples */
    cop_buffer sample_text, sample_answers; /* one sample's text; all claims of a problem */
    uint32_t n_failed;   /* problems that their controller could not go on with, */
    char failed[256];    /* and why, of the first */
    uint32_t positions;  /* that the engine had */
    double threshold;    /* -INFINITY: none was set */
    cop_rule_stats rule; /* of its method's rule, all problems together */
    cop_metrics metrics;
} cop__problem_cell;

/* Encodes what every problem is given; `out` is zeroed, and released by the caller either way. */
cop_status cop__problem_prompts_encode(const cop_job *job, const cop_problem_set *set,
                                       const cop_problems_method *method,
                                       cop__problem_prompts *out);
void cop__problem_prompts_release(cop__problem_prompts *prompts);

/* Of entry i of a list whose entries end where `end` says. */
static inline uint32_t cop__problem_length_at(const size_t *end, uint32_t i) {
    return (uint32_t)(end[i] - (i ? end[i - 1] : 0));
}

uint32_t cop__problem_max_tokens(const cop__problem_cell *cell);
uint32_t cop__problem_max_paths(const cop__problem_cell *cell); /* 0 where nothing forks */
/* A rule of the cell's method; the caller closes it. */
cop_status cop__problem_rule_open(const cop__problem_cell *cell, cop_job_rule *out);

/* Under a controller: calls of one problem that run at once, what they need, a driver for one
 * problem after another, and what its answer claims. */
uint32_t cop__problem_calls_at_once(const cop__problem_cell *cell);
cop_job_size cop__problem_calls_size(const cop__problem_cell *cell);
cop_status cop__problem_calls_create(const cop__problem_cell *cell, cop_rule *rule,
                                     cop_live_tracer *tracer, cop_controller **out);
cop_answer_text cop__problem_calls_claim(const cop__problem_cell *cell,
                                         const cop_live_sample *sample);
/* Before anything is run: whether the model's tokenizer has the words of its first prompt. */
cop_status cop__problem_calls_try(const cop__problem_cell *cell, cop_rule *rule);
/* Keeps the answer's text, and the message where the rule could not go on. */
cop_status cop__problem_calls_keep(cop__problem_cell *cell, const cop_controller *controller,
                                   const cop_live_sample *sample);

/* Under a method that draws several samples of each problem. */
uint32_t cop__problem_n_samples(const cop__problem_cell *cell); /* 1 where it does not */
/* What the dialect marks in a text that is whole, else what the checker finds in it. */
cop_answer_text cop__problem_claim_in(const cop__problem_cell *cell, const char *text,
                                      size_t bytes);
cop_live_claim cop__problem_claim; /* the same, for rules that count answers */
/* Keeps the samples that a run of the problem drew, `wave` of them from number `first` on. */
cop_status cop__problem_samples_keep(cop__problem_cell *cell, uint32_t problem,
                                     const cop_live *live, uint32_t first, uint32_t wave,
                                     const cop_problem_result *result);
/* All have run that the rule lets run: its answer is the problem's. */
cop_status cop__problem_samples_finish(cop__problem_cell *cell, uint32_t problem, cop_rule *rule);
/* How many of them are right, on average and at least once; new object. */
json_t *cop__problem_samples_record(const cop__problem_cell *cell);
/* The text of one of them. */
cop_status cop__problem_samples_text(const cop__problem_cell *cell,
                                     const cop__problem_sample *sample, const char *id,
                                     cop_buffer *out);
/* What a sample, or a path, claims: what its dialect marks, or, where that marks nothing, what the
 * checker finds in the text of one that ended by itself. */
cop_answer_text cop__problem_claim_of(const cop__problem_cell *cell, const cop_live_sample *sample);

/* Runs every problem of the set once, and keeps its outcome. */
cop_status cop__problem_cell_run(cop__problem_cell *cell);
void cop__problem_cell_release(cop__problem_cell *cell);

/* Whether a problem's tokens may depend on what the rules see of its other paths' progress: then
 * they are not held against another number at once. */
bool cop__problem_rules_look_across(const cop_problems_method *method);
/* Likewise where a full pool may end its paths for what runs beside it. */
bool cop__problem_may_be_shed(const cop__problem_cell *cell);

/* The tokens that a method gave at first, which every other number at once must give as well. */
typedef struct cop__problem_reference {
    uint64_t *hash;   /* [count] */
    uint32_t at_once; /* 0: nothing was run yet */
} cop__problem_reference;

/* The first call fills the reference, the others compare: ERR_MISMATCH names the problem. */
cop_status cop__problem_compare(const cop__problem_cell *cell, cop__problem_reference *reference);

/* One line of results.jsonl; new object, NULL without memory. */
json_t *cop__problem_record(const cop__problem_cell *cell, const cop__problem_reference *reference);
/* Its "reasoning": every paper's measure, a mean over the problems, or null with the reason; and
 * the columns of `each` that ratios to another method are taken from. 0, or not without memory. */
int cop__problem_reasoning(const cop__problem_cell *cell, json_t *record);
/* JSON lines: what each problem was answered. */
cop_status cop__problem_answers(const cop__problem_cell *cell, cop_buffer *out);
