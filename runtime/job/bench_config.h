/* A sweep's config as a struct: configs/sweeps/NAME.json, read, checked and fully defaulted.
 *
 * {"name": "quickstart",
 *  "model": "../../models/X.gguf", "random": "../models/X.json"  (used when the model is absent),
 *  "compute": "native", "threads": 0, "backend": "cpu", "products": "default", "device": 0,
 *  "eager": false, "time_every": 0, "page_tokens": 32, "pages": 0, "chunk_tokens": 1024,
 *  "kv_policy": "fail", "prefix": {"block": 256, "state": "cold"} (left out: no prefix store),
 *  "chunk_tail_tokens": 1024, "seed": 1, "repeats": 1, "allow_extrapolation": false,
 *  "replay":  [{"trajectories": "../trajectories/own.jsonl", "ids": ["a"], "joins": ["stitch"]},
 *              {"grid": {"prefix_tokens": [1024, 8192], "branches": [1, 8], "branch_tokens": 32},
 *               "joins": ["flattened", "stitch"]}],
 *  "samples": [{"name": "sum", "prompt": "..", "chat": true, "n": 16, "max_tokens": 64,
 *               "temperature": 0.8, "top_k": 0, "top_p": 1, "min_p": 0,
 *               "prune": {"budget_tokens": 0, "first_finisher": false, "window": 32, "warmup": 4,
 *                         "keep_percent": 90}}],
 *  "problems": [{"name": "countdown", "set": "X.jsonl", "first": 200, "checker": "countdown",
 *                "max_tokens": 2000, "max_paths": 24, "at_once": [1, 8, 64], "temperature": 0,
 *                "top_k": 0, "top_p": 1, "min_p": 0, "methods": [
 *      {"name": "message", "dialect": "countdown-message", "ask_paths": 5, "max_blocks": 4,
 *       "max_tokens": 0, "prune": {"budget_tokens": 400, "window": 16, "warmup": 50,
 *       "keep_percent": 90}, "join_policy": {"quorum": 1, "finisher": "success",
 *       "deadline_tokens": 0, "losers": "drop"}}]}]}
 * Trees of a grid: job/tree_grid.h. finisher: "success" or "any"; losers: "drop" or "keep_partial".
 * kv_policy: fail, queue, recompute or prune-lowest (reason/engine.h). state: "cold", the store is
 * emptied before every repeat of a cell; "warm", a discarded pass of the same work fills it first.
 * "samples" of a method: so many of each problem, over which its "rule" stands.
 * "rule" of samples or of a method, instead of "prune": a prune rule, or for a method whose dialect
 * never forks a controller (configs/rules/). "chat" of a method: its prompts in the model's format.
 * A dialect or a rule is a name, or a file when it holds a '/' or ends in .json. Paths are relative
 * to the config file. Unknown keys are errors.
 */
#pragma once

#include "config/json.h"
#include "job/job.h"
#include "job/job_rule.h"
#include "job/tree_grid.h"

typedef struct cop_bench_replay {
    const char *trajectories; /* NULL: the grid */
    const cop_tree_grid *grid;
    const char **ids;
    uint32_t n_ids;
    cop_method methods[COP_METHOD_COUNT];
    uint32_t n_methods;
} cop_bench_replay;

struct cop_bench_config {
    cop_arena *arena;
    json_t *source; /* as written */
    const char *name;
    cop_job_options job;
    bool model_missing; /* the model file was not there: random weights stand in */
    uint32_t repeats;
    cop_bench_replay *replays;
    uint32_t n_replays;
    cop_samples_job *samples;
    uint32_t n_samples;
    cop_problems_job *problems;
    uint32_t n_problems;
};

/* What the files of the config share: texts and paths that live as long as it does. */
cop_status cop__bench_keep_text(cop_bench_config *config, const char *text, const char **out);
/* `path` is the config's own; *out stays as it is when an optional key is missing. */
cop_status cop__bench_keep_path(cop_bench_config *config, const char *path, const cop_json *object,
                                const char *key, cop_json_presence presence, const char **out);

cop_status cop__bench_named_or_beside(cop_bench_config *config, const char *path,
                                      const cop_json *object, const char *key,
                                      cop_json_presence presence, const char **out);
/* "rule": NULL where there is none; one that cannot work under these limits is refused here. */
cop_status cop__bench_rule_read(cop_bench_config *config, const char *path, const cop_json *object,
                                const cop_job_rule_limits *limits, const char **out);

/* The "grid" of a replay, kept in the config's arena. */
cop_status cop__bench_grid_read(cop_bench_config *config, const cop_json *object,
                                const cop_tree_grid **out);

/* One item of "problems". */
cop_status cop__bench_problems_read(cop_bench_config *config, const char *path,
                                    const cop_json *object, cop_problems_job *out);
cop_status cop__bench_problems_list(const cop_problems_job *problems, uint32_t repeats,
                                    cop_buffer *out);
