/* One small table of functions behind which every device hides: cpu | cuda | sim.
 *
 * The layer sequence is written once (model/forward.c) in terms of these operations on named
 * activation buffers; a backend owns the buffers, its copy of the weights and the KV pool, and
 * never sees branches, tags or text: only rows, the plan's integers and sampling requests. Backends
 * with heavy dependencies are modules opened on demand (dlopen of libcoppice_<name>.so, which
 * exports `const cop_backend_ops *cop_backend_module(uint32_t abi)`); the command links none of
 * them.
 *
 * A step: step_begin with its rows and requests; then, unless the backend says that it has the
 * whole sequence queued already (a captured graph), the operations; step_end; later `samples`. A
 * backend that runs asynchronously (cuda) queues every operation and waits only in `samples`, which
 * gives the samples of the oldest step that has not given its own. Up to `steps_ahead` further
 * steps may be begun before that: their rows may take tokens that are still to be sampled
 * (COP_TOKEN_SAMPLED).
 *
 * All memory is taken in create; no operation allocates. One thread drives a backend; it may use
 * threads of its own. Rows: at most max_rows a step; sampling requests at most max_samples.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "backend/arith.h"
#include "base/rng.h"
#include "base/status.h"
#include "kv/plan.h"
#include "model/model.h"

enum { COP_BACKEND_ABI = 4, COP_TOP_LOGPROBS = 20 };

/* How matrix products are made. Invariant: a row's bits do not depend on the other rows of its
 * step, which is the promise of the runtime; fast: whatever the device's library finds fastest for
 * the number of rows. cpu has the invariant ones alone. */
typedef enum cop_products_mode {
    COP_PRODUCTS_DEFAULT, /* the backend's: cpu invariant, cuda fast; results name the one used */
    COP_PRODUCTS_INVARIANT,
    COP_PRODUCTS_FAST,
} cop_products_mode;
const char *cop_products_mode_name(cop_products_mode mode); /* "default" | "invariant" | "fast" */
cop_status cop_products_mode_parse(const char *name, cop_products_mode *out);

typedef struct cop_backend_options {
    cop_arith arith;
    uint32_t n_threads;     /* 0: all that the process may use */
    const char *isa;        /* NULL: the best; "portable" | "avx2" | "avx512" */
    uint32_t max_rows;      /* decode rows and prefill rows of one step together */
    uint32_t max_samples;   /* sampling requests of one step */
    uint32_t max_partials;  /* attention partials of one step (for each query head) */
    uint32_t max_positions; /* rotary positions are < this */
    uint32_t n_pages, page_tokens;
    cop_table_capacity capacity; /* of the plan's tables; cpu borrows them and does not ask */
    cop_products_mode products;
    uint32_t device;     /* which of several; 0: the first */
    bool eager;          /* cuda: queue every operation, capture no graph */
    uint32_t time_every; /* cuda: every so many steps are timed operation by operation with
                            events; 0: none. cpu times every step. */
} cop_backend_options;

/* The token of a row is the one that the step before it samples: of the request that named the same
 * row, which must have been the only one to name it. Only where steps_ahead > 0. */
#define COP_TOKEN_SAMPLED (-1)

/* One step's rows, in the order of the activations: decode rows first. A decode row that goes on
 * from step to step keeps its number, so that a device that advances its own tables by a token each
 * step needs nothing uploaded. Borrowed until step_end. */
typedef struct cop_step {
    uint32_t n_rows, n_decode;
    const int32_t *token;    /* [n_rows] */
    const int32_t *position; /* [n_rows] rotary position */
    /* [n_rows] rotary position of the row's key where it is not the query's: its segment floats
     * (cop_kv_float). NULL: they are the same. cpu alone; others refuse it, and entries with a
     * q_shift. */
    const int32_t *key_position;
    const uint32_t *segment; /* [n_rows] where the row's K and V go */
    const uint32_t *offset;  /* [n_rows] token offset in that segment */
    cop_plan_tables plan;
} cop_step;

typedef struct cop_logit_bias {
    int32_t token;
    float bias; /* added to the logit before anything else */
} cop_logit_bias;

typedef struct cop_sample_request {
    uint32_t row;
    float temperature; /* 0: greedy (lowest id wins a tie) */
    uint32_t top_k;    /* 0: off */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
    cop_rng_key key;
    int32_t forced; /* >= 0: its log-probability is reported too, and it is what
                       COP_TOKEN_SAMPLED means; the sample is drawn all the same */
    /* What `forced` will be in the requests after this one as long as the branch simply goes on: a
     * device that knows it ahead need not be told at every step. A hint alone. */
    const int32_t *forced_next;
    uint32_t n_forced_next;
    const cop_logit_bias *bias;
    uint32_t n_bias;
    /* Of the tokens in `seen`, after the biases (model/sampler.h). 0 or 1: off. cpu alone; others
     * refuse it. */
    float repetition_penalty;
    const uint32_t *seen; /* [ceil(vocab / 32)] token t: bit t % 32 of word t / 32 */
} cop_sample_request;

typedef struct cop_sample {
    int32_t token;
    /* Of token, natural log, before temperature and filters, after biases and penalty. */
    float logprob;
    float forced_logprob;                /* of request.forced, or 0 */
    float logsumexp;                     /* of the row's biased and penalised logits */
    bool failed;                         /* the row holds a value that is not finite: token is -1 */
    uint32_t n_top;                      /* min(COP_TOP_LOGPROBS, vocab) */
    int32_t top_token[COP_TOP_LOGPROBS]; /* by falling logit; lower id first on ties */
    float top_logprob[COP_TOP_LOGPROBS];
} cop_sample;

/* Named activations. Widths in elements: X, H, DELTA hidden; QKV (n_heads + 2 n_kv_heads) head_dim;
 * ATT n_heads * head_dim; GATE_UP 2 * ffn; ACT ffn. Logits live beside them, one row a request. */
typedef enum cop_activation {
    COP_A_X, /* the residual stream */
    COP_A_H, /* normed input of a product */
    COP_A_QKV,
    COP_A_ATT,
    COP_A_DELTA, /* a block's contribution, not yet added to X */
    COP_A_GATE_UP,
    COP_A_ACT,
    COP_A_COUNT,
} cop_activation;

typedef enum cop_product {
    COP_P_QKV,     /* H -> QKV: Q, K and V in one */
    COP_P_O,       /* ATT -> DELTA */
    COP_P_GATE_UP, /* H -> GATE_UP: gate, then up */
    COP_P_DOWN,    /* ACT -> DELTA */
} cop_product;

typedef enum cop_norm { COP_N_ATTN, COP_N_FFN, COP_N_FINAL } cop_norm;

/* What a backend counted since create; bytes are counted where they are loaded. On a device nothing
 * counts at the load: cuda leaves kv_load_bytes, kv_first_bytes and partial_bytes at 0, and reports
 * take the plan's prediction, which the kernels' tests hold against counted bytes. */
typedef enum cop_op {
    COP_OP_EMBED,
    COP_OP_NORM,
    COP_OP_PRODUCT,
    COP_OP_APPEND,
    COP_OP_ATTENTION,
    COP_OP_ACT,
    COP_OP_LOGITS,
    COP_OP_SAMPLE,
    COP_OP_COUNT,
} cop_op;

typedef struct cop_backend_counters {
    uint64_t op_ns[COP_OP_COUNT]; /* of the timed steps: all of them on cpu */
    uint64_t timed_steps, steps;
    uint64_t weight_bytes; /* weights read, once a product however many rows */
    uint64_t kv_append_bytes;
    uint64_t kv_load_bytes;  /* every K and V byte that a tile loads */
    uint64_t kv_first_bytes; /* of these, first time that a token is loaded in its step and layer */
    uint64_t partial_bytes;  /* attention partials written and read */
    /* Devices with memory of their own; 0 on cpu. */
    uint64_t upload_bytes, upload_steps; /* bytes sent for steps; steps that sent any */
    uint64_t waits;                      /* calls that waited for the device */
    uint64_t allocations;                /* of device or pinned memory */
    uint64_t launches, graph_launches, captures;
    uint64_t device_idle_ns; /* between the end of a step and the begin of the next, by events */
} cop_backend_counters;

typedef struct cop_backend cop_backend;

typedef struct cop_backend_ops {
    const char *name;
    bool virtual_clock;
    uint32_t steps_ahead; /* steps that may be begun before the samples of one are taken */
    cop_status (*create)(const cop_model *model, const cop_backend_options *options,
                         cop_backend **out);
    void (*destroy)(cop_backend *backend);
    /* One line of plain words: device, instruction set, threads. Valid until destroy. */
    const char *(*describe)(const cop_backend *backend);
    cop_products_mode (*products)(const cop_backend *backend); /* the one in use */

    /* Requests are borrowed until their samples are taken. *queued: nothing but step_end is to be
     * called. */
    cop_status (*step_begin)(cop_backend *backend, const cop_step *step,
                             const cop_sample_request *requests, uint32_t n_requests, bool *queued);
    cop_status (*embed)(cop_backend *backend); /* X = embedding rows */
    /* X += DELTA when add_delta; H = norm(X) * weight. */
    cop_status (*norm)(cop_backend *backend, cop_norm which, uint32_t layer, bool add_delta);
    cop_status (*product)(cop_backend *backend, cop_product which, uint32_t layer);
    /* Bias and head norms where the model has them, rotates Q and K of QKV, stores K and V at
     * (segment, offset). A row with a value that is not finite is marked failed and stores zeros.
     */
    cop_status (*append)(cop_backend *backend, uint32_t layer);
    cop_status (*attention)(cop_backend *backend, uint32_t layer); /* QKV's Q, the pool -> ATT */
    cop_status (*activate)(cop_backend *backend);                  /* ACT = silu(gate) * up */
    /* Logits of H's rows that the requests name, and their samples. H holds the final norm. Called
     * when there is a request. */
    cop_status (*logits)(cop_backend *backend);
    cop_status (*step_end)(cop_backend *backend);
    /* Of the oldest step with requests whose samples were not taken; n is their number. */
    cop_status (*samples)(cop_backend *backend, uint32_t n, cop_sample *out);

    /* Doors for oracles and tests; they may wait for the device. */
    cop_status (*read_logits)(cop_backend *backend, uint32_t request, float *out); /* [vocab] */
    cop_status (*read_activation)(cop_backend *backend, cop_activation which, uint32_t row,
                                  float *out);
    void (*counters)(const cop_backend *backend, cop_backend_counters *out);

    /* For profilers; NULL where a backend has none. A named range on the host's time line (NULL
     * ends the innermost), and the profiler's start and stop. */
    void (*range)(const char *name);
    cop_status (*profile)(cop_backend *backend, bool on);
    /* What `coppice info` shows: devices, driver, what is missing and how to get it, as lines of
     * text; gives false where the backend cannot run here. NULL where there is nothing to tell. */
    bool (*probe)(char *text, size_t capacity);
} cop_backend_ops;

extern const cop_backend_ops cop_backend_cpu;

/* "cpu" is built in; any other name is looked up as a module beside the command, whose table must
 * bear that name. */
cop_status cop_backend_find(const char *name, const cop_backend_ops **out);

/* What its times are: "wall", measured; "virtual", of a cost model; "emulated", of a stand-in on
 * the host for a device (a name that ends in _emulated), whose times mean nothing. Results and
 * reports label all but the first. */
const char *cop_backend_clock(const cop_backend_ops *ops);
