#include "backend/cuda/cuda_internal.h"

#include <string.h>

#include "base/memory.h"
#include "kv/fold_reference.h"

enum {
    CHUNK_BYTES = 8 << 20, /* of a pinned buffer of converted weights; two are used in turn */
    CHUNKS = 2,
    BLOCK_VALUES = 4096, /* converted by one thread at a time */
    HOST_PAGE = 4096,
    PARTS_A_LAYER = 14,
    PARTS_BESIDE = 3,
};

/* One tensor and where it goes (a part of no rows: none). Matrices become bf16; norms and biases
 * bf16 values in f32, as on cpu. */
typedef struct part {
    cop_weight weight;
    uint32_t layer;
    uint64_t rows, cols;
    bool wide;
    void *to;
} part;

/* Q, K and V lie one behind the other, so that one product makes all three; gate and up too. */
static void plan_layer(const cop_backend *b, cop__carve *carve, cop__layer *l, uint32_t layer,
                       part *parts) {
    const cop_model_shape *s = &b->shape;
    const uint64_t q = (uint64_t)s->n_heads * s->head_dim,
                   kv = (uint64_t)s->n_kv_heads * s->head_dim;
    const uint64_t hidden = s->hidden, ffn = s->ffn;
    uint16_t *qkv = cop__carve_take(carve, (q + 2 * kv) * hidden, 2);
    uint16_t *o = cop__carve_take(carve, hidden * q, 2);
    uint16_t *gate_up = cop__carve_take(carve, 2 * ffn * hidden, 2);
    uint16_t *down = cop__carve_take(carve, hidden * ffn, 2);
    float *norms = cop__carve_take(carve, 2 * hidden, 4);
    const uint64_t biased = s->qkv_bias, normed = s->head_norms;
    float *bias = cop__carve_take(carve, biased * (q + 2 * kv), 4);
    float *head_norms = cop__carve_take(carve, normed * 2 * s->head_dim, 4);
    if (!carve->base)
        return;
    *l = (cop__layer){.qkv = qkv,
                      .o = o,
                      .gate_up = gate_up,
                      .down = down,
                      .norm_attn = norms,
                      .norm_ffn = norms + hidden,
                      .bias = biased ? bias : NULL,
                      .q_norm = normed ? head_norms : NULL,
                      .k_norm = normed ? head_norms + s->head_dim : NULL};
    const part all[PARTS_A_LAYER] = {
        {COP_W_Q, layer, q, hidden, false, qkv},
        {COP_W_K, layer, kv, hidden, false, qkv + q * hidden},
        {COP_W_V, layer, kv, hidden, false, qkv + (q + kv) * hidden},
        {COP_W_O, layer, hidden, q, false, o},
        {COP_W_GATE, layer, ffn, hidden, false, gate_up},
        {COP_W_UP, layer, ffn, hidden, false, gate_up + ffn * hidden},
        {COP_W_DOWN, layer, hidden, ffn, false, down},
        {COP_W_NORM_ATTN, layer, 1, hidden, true, norms},
        {COP_W_NORM_FFN, layer, 1, hidden, true, norms + hidden},
        {COP_W_Q_BIAS, layer, biased, q, true, bias},
        {COP_W_K_BIAS, layer, biased, kv, true, bias + q},
        {COP_W_V_BIAS, layer, biased, kv, true, bias + q + kv},
        {COP_W_Q_NORM, layer, normed, s->head_dim, true, head_norms},
        {COP_W_K_NORM, layer, normed, s->head_dim, true, head_norms + s->head_dim},
    };
    memcpy(parts, all, sizeof all);
}

/* Lays the weights out (carve without a base: counts their bytes) and lists the parts. */
static void plan_parts(cop_backend *b, cop__carve *carve, part *parts) {
    const cop_model_shape *s = &b->shape;
    const uint64_t vocab = s->vocab, hidden = s->hidden;
    for (uint32_t l = 0; l < s->n_layers; l++)
        plan_layer(b, carve, &b->layers[l], l, parts ? parts + (size_t)l * PARTS_A_LAYER : NULL);
    uint16_t *embed = cop__carve_take(carve, vocab * hidden, 2);
    uint16_t *head = s->tied ? embed : cop__carve_take(carve, vocab * hidden, 2);
    float *norm = cop__carve_take(carve, hidden, 4);
    if (!carve->base)
        return;
    b->embed = embed, b->head = head, b->norm_final = norm;
    part *rest = parts + (size_t)s->n_layers * PARTS_A_LAYER;
    rest[0] = (part){COP_W_EMBED, 0, vocab, hidden, false, embed};
    rest[1] = (part){COP_W_NORM_FINAL, 0, 1, hidden, true, norm};
    rest[2] = (part){COP_W_OUTPUT, 0, s->tied ? 0 : vocab, hidden, false, head};
}

size_t cop__weights_bytes(cop_backend *b) {
    cop__carve carve = {0};
    plan_parts(b, &carve, NULL);
    return carve.bytes;
}

static cop_status check_part(const part *p, const cop_tensor *t) {
    if (t && t->rows * t->cols == p->rows * p->cols && t->cols == p->cols)
        return COP_OK;
    char name[COP_WEIGHT_NAME_BYTES];
    cop_weight_name(p->weight, p->layer, name);
    return COP_FAIL(COP_ERR_MISMATCH, "%s is %llu x %llu, the model's shape asks for %llu x %llu",
                    name, t ? (unsigned long long)t->rows : 0ull,
                    t ? (unsigned long long)t->cols : 0ull, (unsigned long long)p->rows,
                    (unsigned long long)p->cols);
}

/* ---- by way of pinned buffers ---- */

typedef struct chunk {
    uint8_t *data;
    cudaEvent_t done;
    bool busy;
} chunk;

typedef struct loader {
    cop_backend *b;
    chunk chunks[CHUNKS];
    uint32_t next;
    size_t chunk_bytes;
    bool registers; /* host memory can be registered, as far as is known */
} loader;

static void convert_block(const cop_tensor *t, uint64_t first, uint32_t n, bool wide,
                          uint8_t *out) {
    float values[BLOCK_VALUES];
    const size_t at = first / cop_dtype_block_values(t->type) * cop_dtype_block_bytes(t->type);
    cop_dtype_widen(t->type, (const uint8_t *)t->data + at, n, values);
    for (uint32_t i = 0; i < n; i++) {
        const uint16_t bits = cop_bf16_from_f32(values[i]);
        const float rounded = cop_f32_from_bf16(bits);
        if (wide)
            memcpy(out + i * 4ull, &rounded, 4);
        else
            memcpy(out + i * 2ull, &bits, 2);
    }
}

static void convert(const cop_tensor *t, uint64_t first, uint64_t n, bool wide, int threads,
                    uint8_t *out) {
    if (t->type == COP_BF16 && !wide) {
        memcpy(out, (const uint8_t *)t->data + first * 2, n * 2);
        return;
    }
    const int64_t blocks = (int64_t)((n + BLOCK_VALUES - 1) / BLOCK_VALUES);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < blocks; i++) {
        const uint64_t at = (uint64_t)i * BLOCK_VALUES, left = n - at;
        convert_block(t, first + at, (uint32_t)(left < BLOCK_VALUES ? left : BLOCK_VALUES), wide,
                      out + at * (wide ? 4 : 2));
    }
}

static cop_status copy_staged(loader *l, const part *p, const cop_tensor *t) {
    cop_backend *b = l->b;
    const uint64_t n = p->rows * p->cols, bytes = p->wide ? 4 : 2, most = l->chunk_bytes / bytes;
    for (uint64_t first = 0; first < n; first += most) {
        const uint64_t count = n - first < most ? n - first : most;
        chunk *c = &l->chunks[l->next++ % CHUNKS];
        if (c->busy && !COP_CUDA_MUTANT(weights_stage_reused))
            COP__CUDA(b, cudaEventSynchronize, c->done);
        convert(t, first, count, p->wide, (int)b->options.n_threads, c->data);
        COP__CUDA(b, cudaMemcpyAsync, (uint8_t *)p->to + first * bytes, c->data, count * bytes,
                  cudaMemcpyHostToDevice, b->stream);
        COP__CUDA(b, cudaEventRecord, c->done, b->stream);
        c->busy = true;
    }
    return COP_OK;
}

/* ---- straight from where the model lies ---- */

/* False where the memory cannot be registered: a mapped file on most systems may be, read-only. */
static bool register_pages(const cop_tensor *t, void **base) {
    const uintptr_t first = (uintptr_t)t->data & ~(uintptr_t)(HOST_PAGE - 1);
    const uintptr_t end =
        ((uintptr_t)t->data + t->bytes + HOST_PAGE - 1) & ~(uintptr_t)(HOST_PAGE - 1);
    *base = (void *)first;
    if (cudaHostRegister(*base, end - first, cudaHostRegisterReadOnly) == cudaSuccess)
        return true;
    cudaGetLastError(); /* it is dealt with: nobody else is to find it */
    return false;
}

static cop_status copy_registered(loader *l, const part *p, const cop_tensor *t, bool *done) {
    cop_backend *b = l->b;
    void *base;
    *done = l->registers && register_pages(t, &base);
    l->registers = *done;
    if (!*done)
        return COP_OK;
    const bool early = COP_CUDA_MUTANT(unregistered_early);
    cudaError_t error =
        cudaMemcpyAsync(p->to, t->data, t->bytes, cudaMemcpyHostToDevice, b->stream);
    if (early)
        cudaHostUnregister(base);
    const char *call = "cudaMemcpyAsync";
    if (error == cudaSuccess) {
        error = cudaStreamSynchronize(b->stream);
        call = "cudaStreamSynchronize";
    }
    const cudaError_t left = early ? cudaSuccess : cudaHostUnregister(base);
    if (error != cudaSuccess)
        return cop__cuda_fail(b, call, error);
    return left == cudaSuccess ? COP_OK : cop__cuda_fail(b, "cudaHostUnregister", left);
}

static cop_status load_parts(loader *l, const cop_model *model, const part *parts, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        const part *p = &parts[i];
        if (p->rows == 0)
            continue;
        const cop_tensor *t = cop_model_tensor(model, p->weight, p->layer);
        COP_TRY(check_part(p, t));
        bool done = false;
        if (t->type == COP_BF16 && !p->wide)
            COP_TRY(copy_registered(l, p, t, &done));
        if (!done)
            COP_TRY(copy_staged(l, p, t));
    }
    COP__CUDA(l->b, cudaStreamSynchronize, l->b->stream);
    return COP_OK;
}

static cop_status load(loader *l, const cop_model *model, const part *parts, uint32_t n) {
    cop_backend *b = l->b;
    for (uint32_t i = 0; i < n; i++) {
        const size_t bytes = parts[i].rows * parts[i].cols * (parts[i].wide ? 4 : 2);
        l->chunk_bytes = bytes > l->chunk_bytes ? bytes : l->chunk_bytes;
    }
    l->chunk_bytes = l->chunk_bytes < CHUNK_BYTES ? l->chunk_bytes : CHUNK_BYTES;
    for (uint32_t i = 0; i < CHUNKS; i++) {
        COP__CUDA(b, cudaHostAlloc, (void **)&l->chunks[i].data, l->chunk_bytes,
                  cudaHostAllocDefault);
        COP__CUDA(b, cudaEventCreateWithFlags, &l->chunks[i].done, cudaEventDisableTiming);
        b->counters.allocations++;
    }
    return load_parts(l, model, parts, n);
}

cop_status cop__weights_load(cop_backend *b, const cop_model *model) {
    const uint32_t n = b->shape.n_layers * PARTS_A_LAYER + PARTS_BESIDE;
    part *parts = cop_calloc(n, sizeof *parts);
    if (!parts)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a list of %u weights", n);
    cop__carve carve = {.base = b->device_weights};
    plan_parts(b, &carve, parts);
    loader l = {.b = b, .registers = true};
    const cop_status status = load(&l, model, parts, n);
    if (status != COP_OK)
        cudaStreamSynchronize(b->stream); /* copies may read the chunks still */
    for (uint32_t i = 0; i < CHUNKS; i++) {
        if (l.chunks[i].data)
            cudaFreeHost(l.chunks[i].data);
        if (l.chunks[i].done)
            cudaEventDestroy(l.chunks[i].done);
    }
    cop_free(parts);
    return status;
}
