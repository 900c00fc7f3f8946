/* A sweep's config as a struct: configs/sweeps/NAME.json, read, checked and fully defaulted.
 *
 * {"name": "quickstart",
 *  "model": "../../models/X.gguf", "random": "../models/X.json"  (used when the model is absent),
 *  "compute": "native", "threads": 0, "page_tokens": 32, "pages": 0, "chunk_tokens": 1024,
 *  "chunk_tail_tokens": 1024, "seed": 1, "repeats": 1, "allow_extrapolation": false,
 *  "replay":  [{"trajectories": "../trajectories/own.jsonl", "ids": ["a"], "joins": ["stitch",
 * ..]}], "samples": [{"name": "sum", "prompt": "..", "chat": true, "n": 16, "max_tokens": 64,
 *               "temperature": 0.8, "top_k": 0, "top_p": 1, "min_p": 0,
 *               "prune": {"budget_tokens": 0, "first_finisher": false, "window": 32, "warmup": 4,
 *                         "keep_percent": 90}}]}
 * Paths are relative to the config file. Unknown keys are errors.
 */
#pragma once

#include "job/job.h"

typedef struct cop_bench_replay {
    const char *trajectories;
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
};
