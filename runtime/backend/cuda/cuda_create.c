#include "backend/cuda/cuda_internal.h"

#include <omp.h>
#include <string.h>

#include "backend/cpu/ops.h"
#include "base/memory.h"

enum { ALIGNMENT = 256, ROWS_MAX = 65535, TABLE_WORDS_MAX = UINT32_MAX / 2 };

void *cop__carve_take(cop__carve *carve, size_t count, size_t size) {
    void *p = carve->base ? carve->base + carve->bytes : NULL;
    carve->bytes += (count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return p;
}

static cop_status check_arith(const cop_backend *b) {
    const cop_backend_options *o = &b->options;
    if (o->arith != COP_ARITH_BF16)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "arithmetic %s: the cuda backend computes in bf16; use --compute bf16",
                        cop_arith_name(o->arith));
    return COP_OK;
}

static cop_status check_options(const cop_backend *b) {
    const cop_backend_options *o = &b->options;
    const cop_model_shape *s = &b->shape;
    if (o->max_rows == 0 || o->max_rows > ROWS_MAX || o->max_samples == 0 ||
        o->max_positions == 0 || o->n_pages == 0)
        return COP_FAIL(COP_ERR_CONFIG,
                        "the cuda backend needs at least one row (at most %d), sample, position "
                        "and page: max_rows %u, max_samples %u, max_positions %u, n_pages %u",
                        ROWS_MAX, o->max_rows, o->max_samples, o->max_positions, o->n_pages);
    const char *why =
        cop_attention_unsupported(s->head_dim, s->n_heads, s->n_kv_heads, o->page_tokens);
    if (why)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%s: this run has head size %u, %u query and %u KV heads, pages of %u "
                        "tokens; use backend cpu",
                        why, s->head_dim, s->n_heads, s->n_kv_heads, o->page_tokens);
    if (s->hidden % 8 != 0 || s->ffn % 8 != 0)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "hidden %u and ffn %u: the kernels take multiples of 8; use backend cpu",
                        s->hidden, s->ffn);
    const cop_table_capacity *c = &o->capacity;
    if (c->segments == 0 || c->page_table == 0 || c->tiles == 0 || c->slots == 0)
        return COP_FAIL(COP_ERR_CONFIG, "the cuda backend was not told how large the plan's "
                                        "tables can be");
    const uint64_t most = (uint64_t)c->entries * sizeof(cop_walk_entry);
    if (most / 4 > TABLE_WORDS_MAX || (uint64_t)c->tiles * sizeof(cop_tile) / 4 > TABLE_WORDS_MAX)
        return COP_FAIL(COP_ERR_CONFIG,
                        "a plan of %u entries and %u tiles is too large for the cuda backend; "
                        "lower the branches at once or the pages",
                        c->entries, c->tiles);
    return COP_OK;
}

/* ---- what goes where: each walk hands out from one block, or counts it ---- */

static void lay_out_tables(cop_backend *b, cop__carve *carve) {
    const cop_backend_options *o = &b->options;
    const cop_table_capacity *c = &o->capacity;
    const size_t bytes[COP__T_COUNT] = {
        [COP__T_SEGMENTS] = (c->segments + 1ull) * sizeof(cop_segment),
        [COP__T_PAGE_TABLE] = (c->page_table + 1ull) * 4,
        [COP__T_TILES] = c->tiles * sizeof(cop_tile),
        [COP__T_ENTRIES] = c->entries * sizeof(cop_walk_entry),
        [COP__T_LIMITS] = c->limits * 4ull,
        [COP__T_ITEMS] = c->items * sizeof(cop_item),
        [COP__T_SLOTS] = c->slots * sizeof(cop_slot),
        [COP__T_QUEUE] = sizeof(cop_attention_queue),
        [COP__T_TOKEN] = o->max_rows * 4ull,
        [COP__T_POSITION] = o->max_rows * 4ull,
        [COP__T_ROW_SEGMENT] = o->max_rows * 4ull,
        [COP__T_ROW_OFFSET] = o->max_rows * 4ull,
        [COP__T_OPEN] = o->max_rows * sizeof(cop_open_segment),
        [COP__T_GATHER] = b->max_logits * 4ull,
        [COP__T_ORDERS] = o->max_samples * sizeof(cop_sample_order),
        [COP__T_BIAS] = (size_t)o->max_samples * COP__ORDER_BIASES * sizeof(cop_sample_bias),
        [COP__T_SCRIPT] = (size_t)o->max_samples * COP__SCRIPT_TOKENS * 4,
    };
    for (uint32_t t = 0; t < COP__T_COUNT; t++) {
        uint32_t *words = cop__carve_take(carve, bytes[t], 1);
        b->tables[t].n_words = (uint32_t)(bytes[t] / 4);
        if (!carve->base)
            continue;
        const size_t at = (size_t)((uint8_t *)words - carve->base);
        b->tables[t].device = words;
        b->tables[t].mirror = (uint32_t *)((uint8_t *)b->mirror + at);
    }
}

static uint32_t product_tiles(const cop_backend *b) {
    const cop_model_shape *s = &b->shape;
    const uint32_t widest = s->vocab > b->width[COP_A_GATE_UP] ? s->vocab : b->width[COP_A_GATE_UP];
    const uint32_t outputs = widest > b->width[COP_A_QKV] ? widest : b->width[COP_A_QKV];
    return (outputs + COP_PRODUCT_OUTPUTS - 1) / COP_PRODUCT_OUTPUTS;
}

static uint64_t product_workspace(const cop_backend *b) {
    const cop_model_shape *s = &b->shape;
    const uint32_t shapes[][2] = {{b->width[COP_A_QKV], s->hidden},
                                  {s->hidden, b->width[COP_A_ATT]},
                                  {b->width[COP_A_GATE_UP], s->hidden},
                                  {s->hidden, s->ffn},
                                  {s->vocab, s->hidden}};
    uint64_t most = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const uint64_t bytes =
            cop_product_workspace_bytes(COP_PRODUCT_ROWS_MAX, shapes[i][0], shapes[i][1]);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static void lay_out_work(cop_backend *b, cop__carve *carve) {
    const cop_backend_options *o = &b->options;
    const cop_model_shape *s = &b->shape;
    lay_out_tables(b, carve); /* first: the block begins with them */
    for (int a = 0; a < COP_A_COUNT; a++)
        b->activation[a] = cop__carve_take(carve, (size_t)o->max_rows * b->width[a], 2);
    b->query = cop__carve_take(carve, (size_t)o->max_rows * b->width[COP_A_ATT], 2);
    b->head_input = cop__carve_take(carve, (size_t)b->max_logits * s->hidden, 2);
    b->logits = cop__carve_take(carve, (size_t)b->max_logits * b->logits_stride, 4);
    const size_t partials = (size_t)o->max_partials * s->n_heads;
    b->partial_o = cop__carve_take(carve, partials * s->head_dim, 4);
    b->partial_ml = cop__carve_take(carve, partials * 2, 4);
    const uint64_t counters =
        cop_attention_counters(o->capacity.slots, s->head_dim, s->n_heads, s->n_kv_heads);
    b->attention_counters = cop__carve_take(carve, counters, 4);
    b->product_counters = cop__carve_take(carve, product_tiles(b), 4);
    b->product_workspace = cop__carve_take(carve, product_workspace(b), 1);
    b->tickets = cop__carve_take(carve, s->n_layers, 4);
    b->row_failed = cop__carve_take(carve, o->max_rows, 4);
    b->segment_failed = cop__carve_take(carve, o->capacity.segments + 1ull, 4);
    b->bad = cop__carve_take(carve, 1, 4);
    b->results = cop__carve_take(carve, o->max_samples, sizeof *b->results);
    b->patch_words = cop__carve_take(carve, COP__STAGE_BYTES, 1);
    const size_t angles = (size_t)o->max_positions * (s->head_dim / 2);
    b->cosine = cop__carve_take(carve, angles, 4);
    b->sine = cop__carve_take(carve, angles, 4);
    if (b->products == COP_PRODUCTS_FAST)
        b->blas_workspace = cop__carve_take(carve, COP__BLAS_WORKSPACE, 1);
}

static void lay_out_pinned(cop_backend *b, cop__carve *carve) {
    for (uint32_t i = 0; i < COP__STAGES; i++)
        b->stages[i].words = cop__carve_take(carve, COP__STAGE_BYTES, 1);
    for (uint32_t i = 0; i < COP__RING; i++) {
        b->flights[i].results =
            i > 0 && COP_CUDA_MUTANT(results_shared)
                ? b->flights[0].results
                : cop__carve_take(carve, b->options.max_samples, sizeof *b->results);
    }
}

static void lay_out_host(cop_backend *b, cop__carve *carve) {
    const cop_backend_options *o = &b->options;
    cop__want *w = &b->want;
    b->patch.records_max = COP__STAGE_BYTES / 2 / sizeof *b->patch.records;
    b->patch.records = cop__carve_take(carve, b->patch.records_max, sizeof *b->patch.records);
    w->token = cop__carve_take(carve, o->max_rows, 4);
    w->position = cop__carve_take(carve, o->max_rows, 4);
    w->segment = cop__carve_take(carve, o->max_rows, 4);
    w->offset = cop__carve_take(carve, o->max_rows, 4);
    w->open = cop__carve_take(carve, o->max_rows, sizeof *w->open);
    w->gather = cop__carve_take(carve, b->max_logits, 4);
    w->orders = cop__carve_take(carve, o->max_samples, sizeof *w->orders);
    b->grows = cop__carve_take(carve, o->capacity.segments, sizeof *b->grows);
    b->sampled = cop__carve_take(carve, o->max_rows, sizeof *b->sampled);
    b->row_order = cop__carve_take(carve, o->max_rows, 4);
    b->row_logits = cop__carve_take(carve, o->max_rows, 4);
    for (uint32_t i = 0; i < COP__RING; i++)
        b->flights[i].next_row = cop__carve_take(carve, o->max_samples, 4);
}

static void size_everything(cop_backend *b) {
    const cop_backend_options *o = &b->options;
    const cop_model_shape *s = &b->shape;
    b->width[COP_A_X] = b->width[COP_A_H] = b->width[COP_A_DELTA] = s->hidden;
    b->width[COP_A_QKV] = (s->n_heads + 2 * s->n_kv_heads) * s->head_dim;
    b->width[COP_A_ATT] = s->n_heads * s->head_dim;
    b->width[COP_A_GATE_UP] = 2 * s->ffn;
    b->width[COP_A_ACT] = s->ffn;
    b->logits_stride = (s->vocab + 3) / 4 * 4;
    b->dump_segment = o->capacity.segments;
    cop__buckets_init(b);
    const uint32_t most = o->max_samples < o->max_rows ? o->max_samples : o->max_rows;
    b->max_logits = cop__bucket_of(b, most)->rows;
    b->layer_elements = (o->n_pages + 1ull) * 2 * s->n_kv_heads * o->page_tokens * s->head_dim;
    b->pool_bytes = b->layer_elements * 2 * s->n_layers;
    b->weights_bytes = cop__weights_bytes(b);
    const uint64_t q = b->width[COP_A_ATT];
    b->layers_weight_bytes = 2ull * s->n_layers * s->hidden *
                             (b->width[COP_A_QKV] + q + b->width[COP_A_GATE_UP] + s->ffn);
    cop__carve work = {0}, pinned = {0}, tables = {0};
    lay_out_tables(b, &tables);
    lay_out_work(b, &work);
    lay_out_pinned(b, &pinned);
    b->table_bytes = tables.bytes;
    b->work_bytes = work.bytes;
    b->pinned_bytes = pinned.bytes;
}

/* ---- taking it ---- */

static cop_status check_memory(cop_backend *b) {
    size_t free_bytes = 0, total_bytes = 0;
    COP__CUDA(b, cudaMemGetInfo, &free_bytes, &total_bytes);
    const size_t need = b->weights_bytes + b->pool_bytes + b->work_bytes;
    if (need <= free_bytes)
        return COP_OK;
    const unsigned mb = 20;
    return COP_FAIL(COP_ERR_NO_MEMORY,
                    "the device has %zu MiB free of %zu, this run needs %zu: weights %zu (a "
                    "smaller model), KV pool %zu (fewer pages: --pages, \"pages\" in a config), "
                    "activations, logits and tables %zu (fewer branches and rows at once)",
                    free_bytes >> mb, total_bytes >> mb, (need >> mb) + 1, b->weights_bytes >> mb,
                    b->pool_bytes >> mb, b->work_bytes >> mb);
}

static cop_status take_device(cop_backend *b, void **p, size_t bytes) {
    COP__CUDA(b, cudaMalloc, p, bytes);
    b->counters.allocations++;
    return COP_OK;
}

static cop_status take_memory(cop_backend *b) {
    COP_TRY(check_memory(b));
    COP_TRY(take_device(b, &b->device_weights, b->weights_bytes));
    COP_TRY(take_device(b, &b->device_pool, b->pool_bytes));
    COP_TRY(take_device(b, &b->device_work, b->work_bytes));
    COP__CUDA(b, cudaHostAlloc, &b->pinned, b->pinned_bytes, cudaHostAllocDefault);
    b->counters.allocations++;
    cop__carve host = {0};
    lay_out_host(b, &host);
    b->host_work = cop_calloc(host.bytes, 1);
    b->mirror = cop_calloc(b->table_bytes, 1);
    if (!b->host_work || !b->mirror)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %zu MiB of tables on the host",
                        (host.bytes + b->table_bytes) >> 20);
    host = (cop__carve){.base = b->host_work};
    cop__carve work = {.base = b->device_work}, pinned = {.base = b->pinned};
    lay_out_host(b, &host);
    lay_out_work(b, &work);
    lay_out_pinned(b, &pinned);
    b->device_tables = b->device_work;
    b->pool = b->device_pool;
    return COP_OK;
}

/* Counters must be 0 before the first launch. The attention's output is zeroed once since rows that
 * fill up a launch are read by the next product, though nobody asks for what comes of them. */
static cop_status clear_memory(cop_backend *b) {
    const cop_model_shape *s = &b->shape;
    const uint64_t counters =
        cop_attention_counters(b->options.capacity.slots, s->head_dim, s->n_heads, s->n_kv_heads);
    COP__CUDA(b, cudaMemsetAsync, b->attention_counters, 0, counters * 4, b->stream);
    COP__CUDA(b, cudaMemsetAsync, b->product_counters, 0, product_tiles(b) * 4ull, b->stream);
    COP__CUDA(b, cudaMemsetAsync, b->segment_failed, 0, (b->options.capacity.segments + 1ull) * 4,
              b->stream);
    COP__CUDA(b, cudaMemsetAsync, b->bad, 0, 4, b->stream);
    COP__CUDA(b, cudaMemsetAsync, b->activation[COP_A_ATT], 0,
              (size_t)b->options.max_rows * b->width[COP_A_ATT] * 2, b->stream);
    return COP_OK;
}

/* On the backend's own stream: a blocking copy from ordinary memory may return while it still is on
 * its way, and nothing would order that with the stream. */
static cop_status upload_angles(cop_backend *b, const cop_rotary *rotary, size_t bytes) {
    COP__CUDA(b, cudaMemcpyAsync, (void *)b->cosine, rotary->cosine, bytes, cudaMemcpyHostToDevice,
              b->stream);
    COP__CUDA(b, cudaMemcpyAsync, (void *)b->sine, rotary->sine, bytes, cudaMemcpyHostToDevice,
              b->stream);
    COP__CUDA(b, cudaStreamSynchronize, b->stream);
    return COP_OK;
}

static cop_status load_angles(cop_backend *b) {
    cop_rotary rotary = {0};
    COP_TRY(cop_rotary_create(b->options.max_positions, b->shape.head_dim, b->shape.rope_theta,
                              b->options.n_threads, &rotary));
    const size_t bytes = (size_t)rotary.n_positions * rotary.half * 4;
    const cop_status status = upload_angles(b, &rotary, bytes);
    if (status != COP_OK)
        cudaStreamSynchronize(b->stream); /* a copy may read `rotary` still */
    cop_rotary_release(&rotary);
    return status;
}

static cop_status create_blas(cop_backend *b) {
    if (b->products != COP_PRODUCTS_FAST)
        return COP_OK;
    COP__BLAS(b, cublasCreate, &b->blas);
    COP__BLAS(b, cublasSetStream, b->blas, b->stream);
    /* Its own workspace: what it would allocate in a capture belongs to the graph. */
    COP__BLAS(b, cublasSetWorkspace, b->blas, b->blas_workspace, COP__BLAS_WORKSPACE);
    COP__BLAS(b, cublasSetMathMode, b->blas, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    return COP_OK;
}

static cop_status build(cop_backend *b, const cop_model *model) {
    COP_TRY(check_arith(b));
    b->products =
        b->options.products == COP_PRODUCTS_DEFAULT ? COP_PRODUCTS_FAST : b->options.products;
    COP_TRY(cop__cuda_choose_device(b));
    COP_TRY(check_options(b));
    b->layers = cop_calloc(b->shape.n_layers, sizeof *b->layers);
    if (!b->layers)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u layers", b->shape.n_layers);
    size_everything(b);
    COP__CUDA(b, cudaStreamCreateWithFlags, &b->stream, cudaStreamNonBlocking);
    COP_TRY(take_memory(b));
    COP_TRY(cop__time_create(b));
    COP_TRY(create_blas(b));
    COP_TRY(clear_memory(b));
    COP_TRY(cop__tables_init(b));
    COP_TRY(load_angles(b));
    COP_TRY(cop__weights_load(b, model));
    const int error = cop_attention_blocks(b->shape.head_dim, &b->blocks);
    return error ? cop__cuda_fail(b, "cop_attention_blocks", (cudaError_t)error) : COP_OK;
}

cop_status cop__cuda_create(const cop_model *model, const cop_backend_options *options,
                            cop_backend **out) {
    cop_backend *b = cop_calloc(1, sizeof *b);
    if (!b)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the cuda backend");
    b->options = *options;
    b->options.isa = NULL; /* the caller's string need not outlive this call */
    if (b->options.n_threads == 0)
        b->options.n_threads = (uint32_t)omp_get_num_procs();
    b->shape = *cop_model_shape_of(model);
    const cop_status status = build(b, model);
    if (status != COP_OK) {
        if (COP_CUDA_MUTANT(leak_on_error))
            b->pinned = NULL;
        cop__cuda_destroy(b);
        return status;
    }
    *out = b;
    return COP_OK;
}

void cop__cuda_destroy(cop_backend *b) {
    if (!b)
        return;
    cop__graph_abandon(b);
    if (b->stream)
        cudaStreamSynchronize(
            b->stream); /* a failed device says so again, and frees all the same */
    cop__buckets_release(b);
    cop__time_release(b);
    if (b->blas)
        cublasDestroy(b->blas);
    if (b->device_weights)
        cudaFree(b->device_weights);
    if (COP_CUDA_MUTANT(double_free) && b->device_weights)
        cudaFree(b->device_weights);
    if (b->device_pool)
        cudaFree(b->device_pool);
    if (b->device_work)
        cudaFree(b->device_work);
    if (b->pinned)
        cudaFreeHost(b->pinned);
    if (b->stream)
        cudaStreamDestroy(b->stream);
    cop_free(b->mirror);
    cop_free(b->host_work);
    cop_free(b->layers);
    cop_free(b);
}
