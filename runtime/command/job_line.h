/* The options that every verb with a model shares: rows for its option table, and what they become.
 * Those that say where the work is computed are apart, for verbs that take only these.
 *
 *   cop_job_line shared = COP_JOB_LINE_DEFAULT;
 *   const cop_option options[] = {COP_JOB_LINE_OPTIONS(shared), {"json", ...}};
 *   ...
 *   COP_TRY(cop_job_line_read(&shared, &job_options));
 */
#pragma once

#include "command/options.h"
#include "job/job.h"

typedef struct cop_device_line {
    const char *backend, *products, *profile_steps; /* NULL: not given */
    uint32_t device, time_every;
    bool eager, device_given, time_every_given;
} cop_device_line;

#define COP_DEVICE_LINE_OPTIONS(d)                                                                 \
    {"backend", COP_OPTION_TEXT, &(d).backend, "NAME",                                             \
     "where it is computed (cpu); `coppice info` lists them"},                                     \
        {"products",                                                                               \
         COP_OPTION_TEXT,                                                                          \
         &(d).products,                                                                            \
         NULL,                                                                                     \
         "invariant: a row's bits do not depend on the others; default: the backend's",            \
         .choices = "default|invariant|fast"},                                                     \
        {"device",                                                                                 \
         COP_OPTION_U32,                                                                           \
         &(d).device,                                                                              \
         "N",                                                                                      \
         "which of the backend's devices (0)",                                                     \
         .max = 1023,                                                                              \
         .given = &(d).device_given},                                                              \
        {"eager", COP_OPTION_FLAG, &(d).eager, NULL,                                               \
         "on a GPU: launch every operation, capture no graph"},                                    \
        {"time-every",                                                                             \
         COP_OPTION_U32,                                                                           \
         &(d).time_every,                                                                          \
         "N",                                                                                      \
         "on a GPU: time the operations of every N-th step; 0: none (0)",                          \
         .max = 1u << 20,                                                                          \
         .given = &(d).time_every_given},                                                          \
    {                                                                                              \
        "profile-steps", COP_OPTION_TEXT, &(d).profile_steps, "A-B",                               \
            "start the GPU's profiler before step A, stop it after step B, from 1"                 \
    }

/* What was given replaces what `choice` holds. */
cop_status cop_device_line_read(const cop_device_line *line, cop_backend_choice *choice);

typedef struct cop_pool_line {
    const char *kv_policy, *prefix; /* NULL: not given */
    uint32_t prefix_block;          /* 0: not given */
} cop_pool_line;

#define COP_KV_POLICY_OPTION(p)                                                                    \
    {                                                                                              \
        "kv-policy", COP_OPTION_TEXT, &(p).kv_policy, NULL, "what a full KV pool does (fail)",     \
            .choices = "fail|queue|recompute|prune-lowest"                                         \
    }
#define COP_PREFIX_OPTIONS(p)                                                                      \
    {"prefix-block",                                                                               \
     COP_OPTION_U32,                                                                               \
     &(p).prefix_block,                                                                            \
     "N",                                                                                          \
     "prompts that begin alike share KV in blocks of N tokens (off)",                              \
     .min = 64,                                                                                    \
     .max = 1u << 20},                                                                             \
    {                                                                                              \
        "prefix", COP_OPTION_TEXT, &(p).prefix, NULL,                                              \
            "how the work finds them: empty, or filled by a discarded pass (cold)",                \
            .choices = "cold|warm"                                                                 \
    }

/* What was given replaces what `options` holds. */
cop_status cop_pool_line_read(const cop_pool_line *line, cop_job_options *options);

typedef struct cop_job_line {
    cop_device_line on;
    cop_pool_line pool;
    const char *model, *random, *compute, *isa;
    uint32_t threads, page_tokens, pages, chunk_tokens;
    uint64_t seed;
    bool allow_extrapolation;
} cop_job_line;

#define COP_JOB_LINE_DEFAULT                                                                       \
    { .page_tokens = 32, .seed = 1 }

#define COP_JOB_LINE_OPTIONS(s)                                                                    \
    {"model", COP_OPTION_TEXT, &(s).model, "FILE", "a GGUF model"},                                \
        {"random", COP_OPTION_TEXT, &(s).random, "FILE",                                           \
         "random weights from a shape file instead (configs/models/)"},                            \
        {"compute",                                                                                \
         COP_OPTION_TEXT,                                                                          \
         &(s).compute,                                                                             \
         NULL,                                                                                     \
         "arithmetic (native-a8 on cpu, bf16 elsewhere; native = native-a8)",                      \
         .choices = "f32|bf16|native-f32|native-a8|native"},                                       \
        {"threads", COP_OPTION_U32, &(s).threads, "N", "threads (all)", .min = 1, .max = 1024},    \
        {"isa",                                                                                    \
         COP_OPTION_TEXT,                                                                          \
         &(s).isa,                                                                                 \
         NULL,                                                                                     \
         "instruction set (the best)",                                                             \
         .choices = "portable|avx2|avx512"},                                                       \
        COP_DEVICE_LINE_OPTIONS((s).on),                                                           \
        {"page-tokens", COP_OPTION_U32, &(s).page_tokens, "N", "KV page: 16, 32 or 64 (32)",       \
         .min = 16,     .max = 64},                                                                \
        {"pages",  COP_OPTION_U32, &(s).pages, "N", "KV pool (as many as the work needs)",         \
         .min = 1, .max = 1u << 24},                                                               \
        COP_KV_POLICY_OPTION((s).pool), COP_PREFIX_OPTIONS((s).pool),                              \
        {"chunk-tokens",                                                                           \
         COP_OPTION_U32,                                                                           \
         &(s).chunk_tokens,                                                                        \
         "N",                                                                                      \
         "attention's chunk rule C = W, a multiple of 64 (1024)",                                  \
         .min = 64,                                                                                \
         .max = 1u << 20},                                                                         \
        {"seed", COP_OPTION_U64, &(s).seed, "N", "seed (1)", .max = INT64_MAX}, {                  \
        "allow-extrapolation", COP_OPTION_FLAG, &(s).allow_extrapolation, NULL,                    \
            "go past the model's context; the results say so"                                      \
    }

cop_status cop_job_line_read(const cop_job_line *line, cop_job_options *out);

/* Ctrl-C sets a flag that ends a run cleanly. Call once; returns the flag. */
const atomic_bool *cop_interrupt_flag(void);

/* A progress line on stderr while it is a terminal; nothing otherwise. */
void cop_progress_line(void *context, uint32_t done, uint32_t total, const char *what);
void cop_progress_clear(void);

/* Says on stderr what resuming a result folder found, when it found something. */
void cop_results_say_note(void *context, const char *note);

/* One row of the table of results; the first call prints the header. Problem sets have a table of
 * their own below it. */
typedef struct cop_table {
    bool begun, problems_begun;
    bool json; /* print the record as a line of JSON instead */
    bool quiet;
} cop_table;
void cop_table_row(void *table, const json_t *record, const cop_metrics *metrics);
