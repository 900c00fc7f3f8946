/* What the CUDA backend's own files share. Nothing else includes this.
 *
 * The device predicts its next step and the host verifies it. All that a step reads beside weights
 * and K and V is one block of tables on the device; the host keeps their mirror, word for word what
 * the device will hold when everything queued so far has run. A step's first kernel moves lengths,
 * positions and keys on and the sampler writes tokens, and the mirror does the same. step_begin
 * compares what the step wants with the mirror and sends what differs, as values before that first
 * kernel, ahead of the step: one copy and one patch kernel. A step that goes on as predicted sends
 * nothing.
 *
 * Everything is queued on one stream in the order of the calls, so a table is never written while
 * an earlier step reads it. What the host writes and the device reads later (staged patches), and
 * the other way round (results), lies in pinned memory that is used again only when an event says
 * that the copy is done.
 *
 * cuda.c           the table of functions, samples and doors
 * cuda_create.c    options, memory, destruction      cuda_weights.c  weights to the device
 * cuda_step.c      a step: checks, prediction        cuda_tables.c   differences and patches
 * cuda_graph.c     buckets, capture, launch          cuda_ops.c      one operation, one launch
 * cuda_time.c      events: what a step's times are   cuda_probe.c    device, driver, errors' texts
 */
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include "backend/backend.h"
#include "kernels/attention.h"
#include "kernels/step.h"

enum {
    COP__STAGES = 2,               /* pinned buffers of patches, used in turn */
    COP__STAGE_BYTES = 256 * 1024, /* of one; a step that needs more sends several */
    COP__STEPS_AHEAD = 1,
    COP__RING = COP__STEPS_AHEAD + 3, /* steps whose events are kept */
    COP__SCRIPT_TOKENS = 64,          /* forced tokens that are sent ahead for an order */
    COP__ORDER_BIASES = 16,           /* biases of a request */
    COP__BUCKETS_MAX = 40,
    COP__BLAS_WORKSPACE = 32 << 20, /* cuBLAS's own advice for the newest devices */
    COP__MESSAGE_BYTES = 400,
};

#define COP__TOKEN_UNKNOWN INT32_MIN /* mirror of a token that is still to be sampled */

/* Seeded bugs, for the tests: constant false in the product, so that nothing is left of them. */
#define COP_CUDA_MUTANTS(X)                                                                        \
    X(stage_reused, "a pinned buffer of patches is used again before its copy is done")            \
    X(results_early, "results are read without waiting for their event")                           \
    X(results_shared, "all steps share one pinned buffer of results")                              \
    X(stale_tables, "a copy of the plan that missed a turn goes on")                               \
    X(patch_after_launch, "patches are queued behind the graph")                                   \
    X(wrong_bucket, "the graph of the next smaller bucket is launched")                            \
    X(capture_left_open, "a failed step leaves its capture open")                                  \
    X(segment_not_moved, "predicted lengths of segments stay")                                     \
    X(position_not_moved, "predicted positions stay")                                              \
    X(order_not_moved, "predicted keys of the draws stay")                                         \
    X(script_not_moved, "predicted places in the script stay")                                     \
    X(token_assumed, "a sampled token is taken to be the one that is asked for")                   \
    X(padding_live_page, "rows that fill up a launch write to page 0")                             \
    X(padding_left, "rows that left a step are not emptied")                                       \
    X(wait_in_step, "a step waits for the device before it is queued")                             \
    X(leak_on_error, "a failed creation keeps its pinned memory")                                  \
    X(double_free, "weights are freed twice")                                                      \
    X(unregistered_early, "weights are unregistered while they are copied")                        \
    X(weights_stage_reused, "a pinned buffer of weights is filled again before its copy is done")  \
    X(error_ignored, "a failed launch is not noticed")

#ifdef COP_CUDA_MUTANTS_ON
typedef enum cop__mutant {
#define COP__MUTANT_ENUM(name, text) COP__MUTANT_##name,
    COP_CUDA_MUTANTS(COP__MUTANT_ENUM)
#undef COP__MUTANT_ENUM
        COP__MUTANT_COUNT,
} cop__mutant;
extern int cop__cuda_mutant; /* the one that is on, or -1 */
#define COP_CUDA_MUTANT(name) (cop__cuda_mutant == COP__MUTANT_##name)
#else
#define COP_CUDA_MUTANT(name) false
#endif

/* Tables of the device, in one block; each a whole number of 32-bit words. */
enum cop__table_id {
    COP__T_SEGMENTS, /* cop_segment; one more than the plan has, for rows that fill up a launch */
    COP__T_PAGE_TABLE,
    COP__T_TILES,
    COP__T_ENTRIES,
    COP__T_LIMITS,
    COP__T_ITEMS,
    COP__T_SLOTS,
    COP__T_QUEUE, /* one cop_attention_queue */
    COP__T_TOKEN, /* from here on by row */
    COP__T_POSITION,
    COP__T_ROW_SEGMENT,
    COP__T_ROW_OFFSET,
    COP__T_OPEN,
    COP__T_GATHER, /* rows whose logits are asked for, where they are not the first ones */
    COP__T_ORDERS, /* from here on by request */
    COP__T_BIAS,
    COP__T_SCRIPT,
    COP__T_COUNT,
};
_Static_assert((int)COP__T_COUNT <= (int)COP_PATCH_TABLES_MAX, "one patch reaches every table");

typedef struct cop__table {
    uint32_t *mirror, *device;
    uint32_t n_words;
} cop__table;

typedef struct cop__stage { /* one pinned buffer of patches */
    uint32_t *words;
    cudaEvent_t done; /* its last copy */
    uint64_t step;    /* the step that it was for: done with it */
    bool busy;
} cop__stage;

/* What is being collected for the next patch: words stand in the stage, records go behind them. */
typedef struct cop__patch {
    cop_patch_record *records; /* [records_max] */
    uint32_t n_records, n_words, records_max;
    uint32_t stage;
} cop__patch;

/* What the step wants of the tables by row and by request, before its first kernel. */
typedef struct cop__want {
    int32_t *token, *position;
    uint32_t *segment, *offset;
    cop_open_segment *open;
    uint32_t *gather;
    cop_sample_order *orders;
} cop__want;

typedef struct cop__layer {
    const uint16_t *qkv, *o, *gate_up, *down;
    const float *norm_attn, *norm_ffn;
    const float *bias, *q_norm, *k_norm; /* NULL in families without them */
} cop__layer;

typedef struct cop__bucket {
    uint32_t rows;
    bool warm; /* has run as operations: what the driver loads lazily is loaded */
    cudaGraphExec_t exec;
} cop__bucket;

/* A step that was queued. */
typedef struct cop__flight {
    uint64_t number; /* from 1; 0: none */
    cudaEvent_t begin, done;
    bool retired;
    bool timed;
    uint32_t n_requests;        /* whose samples were not taken */
    cop_sample_result *results; /* the pinned buffer that they come to */
    int32_t *next_row;          /* [n_requests] the row whose next token a request gives, or -1 */
} cop__flight;

typedef enum cop__mode { COP__EAGER, COP__CAPTURE, COP__GRAPH } cop__mode;

/* The step between step_begin and step_end: what its operations need. */
typedef struct cop__current {
    bool open;
    cop__mode mode;
    bool capturing; /* the stream is in a capture that must be ended */
    bool timed;
    cop__bucket *bucket;
    uint32_t rows;     /* launched: n_rows, or those of the bucket */
    uint32_t n_rows;   /* asked for */
    uint32_t n_orders; /* launched; requests, or those of the bucket */
    uint32_t n_requests;
    uint32_t n_logits; /* rows of the output product */
    bool gather;       /* its rows are picked */
} cop__current;

typedef struct cop__op_event { /* of a timed step */
    cudaEvent_t end;
    cop_op op;
} cop__op_event;

struct cop_backend {
    cop_backend_options options;
    cop_model_shape shape;
    cop_products_mode products;
    char describe[192];
    bool broken; /* a call failed: the device is not asked for anything any more */
    char broken_text[COP__MESSAGE_BYTES];

    cudaStream_t stream;
    cublasHandle_t blas;
    void *blas_workspace;
    uint32_t blocks; /* of the attention's grid */

    /* Memory: weights, pool and work on the device; patches and results pinned. */
    void *device_weights, *device_pool, *device_work, *pinned;
    size_t weights_bytes, pool_bytes, work_bytes, pinned_bytes;
    uint32_t *mirror, *device_tables; /* the whole block of tables */
    size_t table_bytes;
    void *host_work;

    /* weights */
    cop__layer *layers;
    const uint16_t *embed, *head;
    const float *norm_final;
    const float *cosine, *sine;

    /* activations and scratch, on the device */
    uint32_t width[COP_A_COUNT];
    uint16_t *activation[COP_A_COUNT]; /* [max_rows, width] */
    uint16_t *query;                   /* [max_rows, n_heads, d] rotated */
    uint16_t *head_input;              /* [max_logits, hidden] */
    float *logits;                     /* [max_logits, logits_stride] */
    uint32_t logits_stride, max_logits;
    uint16_t *pool; /* [layer][page][K|V][kv_head][token][d] */
    uint64_t layer_elements;
    float *partial_o, *partial_ml;
    uint32_t *attention_counters, *product_counters, *tickets, *row_failed, *segment_failed, *bad;
    float *product_workspace;
    cop_sample_result *results;
    uint32_t *patch_words; /* on the device: where a stage is copied to */

    /* tables */
    cop__table tables[COP__T_COUNT];
    cop__patch patch;
    cop__stage stages[COP__STAGES];
    uint32_t dump_segment;
    uint64_t turn; /* of the plan's changes, at which the copy stands */
    bool turn_known;
    cop__want want;
    uint64_t turns;       /* steps that were begun, failed ones too */
    uint64_t *grows;      /* [segments] the last of them that makes the segment longer */
    uint64_t *sampled;    /* [max_rows] step whose sampler wrote the row's token, 0: the host did */
    uint32_t *row_order;  /* [max_rows] the one request of a row of this step, or COP__NO.. */
    uint32_t *row_logits; /* [max_rows] where the row's logits come to */

    /* steps */
    uint64_t n_steps, completed;
    cop__flight flights[COP__RING];
    cop__current now;
    cop__bucket buckets[COP__BUCKETS_MAX];
    uint32_t n_buckets;

    /* time */
    cop__op_event *op_events;
    uint32_t n_op_events, op_events_max;
    bool op_events_busy;          /* until the step that they time is retired */
    uint64_t layers_weight_bytes; /* of the layers' matrices */
    cop_backend_counters counters;
};

/* cuda_probe.c: errors. Every call of the runtime and of cuBLAS goes through one of these. */
cop_status cop__cuda_fail(cop_backend *b, const char *call, cudaError_t error);
cop_status cop__blas_fail(cop_backend *b, const char *call, cublasStatus_t status);
bool cop__cuda_probe(char *text, size_t capacity);
cop_status cop__cuda_choose_device(cop_backend *b);

#define COP__CUDA(b, name, ...)                                                                    \
    do {                                                                                           \
        const cudaError_t cop_error = name(__VA_ARGS__);                                           \
        if (cop_error != cudaSuccess)                                                              \
            return cop__cuda_fail(b, #name, cop_error);                                            \
    } while (0)
#define COP__BLAS(b, name, ...)                                                                    \
    do {                                                                                           \
        const cublasStatus_t cop_error = name(__VA_ARGS__);                                        \
        if (cop_error != CUBLAS_STATUS_SUCCESS)                                                    \
            return cop__blas_fail(b, #name, cop_error);                                            \
    } while (0)
/* A launcher of kernels/. */
#define COP__LAUNCH(b, name, args)                                                                 \
    do {                                                                                           \
        const int cop_error = name(args, (b)->stream);                                             \
        (b)->counters.launches += !(b)->now.capturing;                                             \
        if (cop_error != 0 && !COP_CUDA_MUTANT(error_ignored))                                     \
            return cop__cuda_fail(b, #name, (cudaError_t)cop_error);                               \
    } while (0)

/* cuda_create.c */
cop_status cop__cuda_create(const cop_model *model, const cop_backend_options *options,
                            cop_backend **out);
void cop__cuda_destroy(cop_backend *backend);
/* Memory in one block: a first walk over nothing counts, a second one hands out. */
typedef struct cop__carve {
    uint8_t *base;
    size_t bytes;
} cop__carve;
void *cop__carve_take(cop__carve *carve, size_t count, size_t size);

/* cuda_weights.c */
size_t cop__weights_bytes(cop_backend *b);
cop_status cop__weights_load(cop_backend *b, const cop_model *model);

/* cuda_tables.c */
/* Brings words of a table to `want`: what differs from the mirror is staged. */
cop_status cop__table_sync(cop_backend *b, enum cop__table_id table, uint32_t first, uint32_t n,
                           const void *want);
cop_status cop__tables_follow(cop_backend *b, const cop_plan_tables *plan); /* the plan's */
cop_status cop__segment_sync(cop_backend *b, const cop_plan_tables *plan, uint32_t segment);
cop_status cop__patch_flush(cop_backend *b);
cop_status cop__tables_init(cop_backend *b);

/* cuda_step.c */
cop_status cop__cuda_step_begin(cop_backend *b, const cop_step *step,
                                const cop_sample_request *requests, uint32_t n_requests,
                                bool *queued);
cop_status cop__cuda_step_end(cop_backend *b);
cop_status cop__cuda_samples(cop_backend *b, uint32_t n, cop_sample *out);

/* cuda_graph.c */
void cop__buckets_init(cop_backend *b);
cop__bucket *cop__bucket_of(cop_backend *b, uint32_t rows);
cop_status cop__graph_begin(cop_backend *b); /* the mode of the step: launches, or captures */
cop_status cop__graph_end(cop_backend *b);
void cop__graph_abandon(cop_backend *b); /* an open capture, after a failure */
void cop__buckets_release(cop_backend *b);

/* cuda_ops.c */
cop_status cop__cuda_advance(cop_backend *b);
cop_status cop__cuda_embed(cop_backend *b);
cop_status cop__cuda_norm(cop_backend *b, cop_norm which, uint32_t layer, bool add_delta);
cop_status cop__cuda_product(cop_backend *b, cop_product which, uint32_t layer);
cop_status cop__cuda_append(cop_backend *b, uint32_t layer);
cop_status cop__cuda_attention(cop_backend *b, uint32_t layer);
cop_status cop__cuda_activate(cop_backend *b);
cop_status cop__cuda_logits(cop_backend *b);

/* cuda_time.c */
cop_status cop__time_create(cop_backend *b);
void cop__time_release(cop_backend *b);
cop_status cop__time_begin(cop_backend *b);
cop_status cop__time_op(cop_backend *b, cop_op op); /* the operation that was just queued */
/* Waits for a step; it and those before it are retired: their times are read. */
cop_status cop__flight_wait(cop_backend *b, cop__flight *flight);
void cop__range(const char *name);
cop_status cop__cuda_profile(cop_backend *b, bool on);

static inline uint16_t *cop__layer_pool(const cop_backend *b, uint32_t layer) {
    return b->pool + layer * b->layer_elements;
}
