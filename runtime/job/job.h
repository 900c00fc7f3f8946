/* Jobs: what a command asks for, from a model and options to lines of results.
 *
 * A job opens a model, sizes an engine from the work it is given, runs methods on it, checks that
 * they did identical work, and appends one line a cell and repeat to a result folder. Commands
 * parse, jobs run; nothing here prints: progress goes through a callback.
 */
#pragma once

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend/arith.h"
#include "backend/choice.h"
#include "job/tree_grid.h"
#include "measure/results.h"
#include "model/model.h"
#include "reason/driver_live.h"
#include "reason/engine.h"
#include "reason/trajectory.h"

typedef struct cop_job_options {
    const char *model;  /* a GGUF file, or NULL */
    const char *random; /* a shape file: random weights, or NULL */
    cop_arith arith;
    cop_backend_choice on; /* steps under the profiler are those of the job's first engine */
    const char *isa;
    uint32_t n_threads;
    uint32_t page_tokens;   /* 0: 32 */
    uint32_t n_pages;       /* 0: as many as the work needs */
    cop_pressure kv_policy; /* what a full pool does */
    /* The prefix store (engine.h); 0: off. A cell finds it empty, or, warm, filled by a discarded
     * pass of the cell's own work, which is charged to it (kv.prefix_fill_tokens, _ms). */
    uint32_t prefix_block;
    bool prefix_warm;
    uint32_t chunk_tokens, chunk_tail_tokens, tile_slots, max_rows; /* 0: defaults of engine.h */
    uint64_t seed;
    bool allow_extrapolation; /* positions past the model's context, decided by the flattened length
                               */
    uint64_t inject_ns[COP_TERM_COUNT];
    const atomic_bool *interrupt;
} cop_job_options;

void cop_job_options_default(cop_job_options *options);
/* The arithmetic of a run that names none: native-a8 is the CPU's own. */
cop_arith cop_job_arith_default(const cop_backend_choice *on);

/* What is being done, for a progress line: done of total cells, and what comes next. */
typedef void cop_job_progress(void *context, uint32_t done, uint32_t total, const char *what);

typedef struct cop_job cop_job;

/* Opens the model. */
cop_status cop_job_create(const cop_job_options *options, cop_job **out);
void cop_job_destroy(cop_job *job);
const cop_model *cop_job_model(const cop_job *job);

/* What the work runs on, as the backend itself tells it. Known from the job's first engine on;
 * asked for before, a small one is made for it, so that a backend that cannot run here is refused
 * before anything is written. */
enum { COP_DEVICE_TEXT_BYTES = 192 };
typedef struct cop_job_device {
    const char *backend, *products, *clock; /* clock: cop_backend_clock */
    char text[COP_DEVICE_TEXT_BYTES];
} cop_job_device;
cop_status cop_job_device_of(cop_job *job, const cop_job_device **out);

/* What every manifest says of a job: model, hash, arithmetic, chunk rule, seed, threads, the device
 * and how it is used; on cpu the machine's ceilings (read bandwidth, FMA rate), which are measured
 * here. New object. */
cop_status cop_job_manifest(cop_job *job, const char *name, json_t **out);

/* An engine for work of this size. The caller destroys it, before the job. */
typedef struct cop_job_size {
    uint64_t tokens;   /* KV tokens held at once at most */
    uint32_t segments; /* segments held at once at most: each may waste most of a page */
    uint32_t branches;
    uint32_t positions; /* longest flattened sequence, prompt included */
    uint32_t rows;      /* of a step; 0: the engine's default */
    const char *what;   /* names the work in errors */
} cop_job_size;
cop_status cop_job_engine(cop_job *job, const cop_job_size *size, cop_timeline *timeline,
                          cop_engine **out);

/* Adds "kv_policy", "pages" and "prefix" to what describes a run, where they are used. 0: done. */
int cop_job_describe_pool(const cop_job *job, json_t *object);
/* Before a cell's work: the prefix store is emptied. True: the cell is to find it warm, so its work
 * is to run once and be thrown away first; what that run counted is then charged to the cell. */
bool cop_job_prefix_begin(const cop_job *job, cop_engine *engine);
void cop_job_prefix_charge(const cop_metrics *fill, cop_metrics *metrics);

/* ---- replay: methods on recorded trajectories ---- */

typedef enum cop_method {
    COP_METHOD_FLATTENED,
    COP_METHOD_REPREFILL,
    COP_METHOD_REPREFILL_REUSE,
    COP_METHOD_STITCH,
    COP_METHOD_SHARED,
    COP_METHOD_COUNT,
} cop_method;
const char *cop_method_name(cop_method method); /* "reprefill+reuse" */
cop_status cop_method_parse(const char *name, cop_method *out);

/* One finished line, before it is written: for tables. Borrowed. */
typedef void cop_job_listener(void *context, const json_t *record, const cop_metrics *metrics);

typedef struct cop_replay_job {
    const char *trajectories;  /* a JSONL file, or NULL: */
    const cop_tree_grid *grid; /* trees made from numbers */
    const char *const *ids;    /* only these, in this order; n_ids = 0: all */
    uint32_t n_ids;
    cop_method methods[COP_METHOD_COUNT];
    uint32_t n_methods;
    uint32_t repeats;
    cop_results *results; /* NULL: not written */
    cop_job_listener *listener;
    cop_job_progress *progress;
    void *context;
} cop_replay_job;

/* Every method forces the same tokens; ERR_MISMATCH when one did not. Cells already in the results
 * are not run again. */
cop_status cop_job_replay(cop_job *job, const cop_replay_job *replay);

/* ---- samples: one prompt, many answers ---- */

typedef struct cop_samples_job {
    const char *name;   /* of the problem, in the results */
    const char *prompt; /* text; or, for a model without tokenizer, n_placeholder ids are drawn */
    uint32_t n_placeholder;
    bool chat;
    uint32_t n_samples, max_tokens;
    float temperature, top_p, min_p;
    uint32_t top_k;
    /* the pruned row: rules, and how many samples run whole first to set the threshold */
    cop_prune_options prune;
    uint32_t n_warmup;
    double keep_percent;
    const char *rule; /* the pruned row's instead: a preset or a file (job_rule.h); NULL: none */
    uint32_t repeats;
    cop_results *results;
    cop_job_listener *listener;
    cop_job_progress *progress;
    void *context;
} cop_samples_job;

/* Three rows: serial, forked, forked+pruned (forked+NAME under the rule of that name). The first
 * two give the same ids, or ERR_MISMATCH. */
cop_status cop_job_samples(cop_job *job, const cop_samples_job *samples);
/* What is wrong with their rule for this model, before anything is run or written. */
cop_status cop_job_samples_check(cop_job *job, const cop_samples_job *samples);

/* ---- problems: a set with answers, several methods, several at once ---- */

typedef struct cop_problems_method {
    const char *name;               /* in the results */
    const char *dialect;            /* as cop_dialect_open takes it */
    uint32_t ask_paths, max_blocks; /* 0: the dialect's */
    uint32_t max_tokens;            /* 0: the job's */
    cop_prune_options prune;
    uint32_t n_warmup; /* confidence: problems that run whole first, to set the threshold */
    double keep_percent;
    cop_join_policy join_policy;
    /* Over the paths of a dialect that forks, or over the problem's one sample; or a controller,
     * whose problem is the dialect's prompt; a preset or a file (job_rule.h); NULL: none. */
    const char *rule;
    const char *program; /* makes the dialect's messages (message_program.h); NULL: none */
    uint32_t n_samples;  /* of each problem, over which the rule stands; 0: one */
    bool runs_prompts;   /* the rule is a controller: max_tokens is of one call */
    bool chat;           /* prompts are wrapped in the model's chat format, those of calls too */
} cop_problems_method;

enum { COP_AT_ONCE_MAX = 16, COP_PROBLEM_PATHS_DEFAULT = 64 };

typedef struct cop_problems_job {
    const char *name; /* of the set, in the results */
    const char *set;  /* a JSONL file, problem_set.h */
    uint32_t first;   /* only so many problems; 0: all */
    const char *checker;
    uint32_t max_tokens; /* generated tokens of one problem, all branches */
    uint32_t max_paths;  /* paths of one problem, all its blocks; 0: 64. Of a controller the calls
                            that run at once; 0: 16 */
    float temperature, top_p, min_p;
    uint32_t top_k;
    const cop_problems_method *methods;
    uint32_t n_methods;
    uint32_t at_once[COP_AT_ONCE_MAX], n_at_once; /* problems that run at the same time */
    uint32_t repeats;
    cop_results *results;
    cop_job_listener *listener;
    cop_job_progress *progress;
    void *context;
} cop_problems_job;

/* One cell a method and number at once. The tokens of a problem must not depend on how many run
 * beside it: ERR_MISMATCH when they do, for methods whose rules do not look across paths. */
cop_status cop_job_problems(cop_job *job, const cop_problems_job *problems);
/* What is wrong with the set, its dialects or a prompt, before anything is run or written. */
cop_status cop_job_problems_check(cop_job *job, const cop_problems_job *problems);

/* ---- a whole config: configs/sweeps/NAME.json ---- */

typedef struct cop_bench_config cop_bench_config;
cop_status cop_bench_config_load(const char *path, cop_bench_config **out);
void cop_bench_config_destroy(cop_bench_config *config);
cop_job_options *
cop_bench_config_job(cop_bench_config *config); /* may be overridden before a run */
json_t *cop_bench_config_resolved(const cop_bench_config *config); /* new object */
/* Does it say so itself, at its top? */
bool cop_bench_config_names(const cop_bench_config *config, const char *key);
/* Lists what would run, a line each, without opening the model. */
cop_status cop_bench_config_list(const cop_bench_config *config, cop_buffer *out);

typedef struct cop_bench_run {
    const char *folder;
    bool resume;
    cop_job_listener *listener;
    cop_job_progress *progress;
    void (*note)(void *context, const char *note); /* what resuming found; "" when nothing */
    void *context;
} cop_bench_run;
cop_status cop_bench_run_config(cop_bench_config *config, const cop_bench_run *run);
