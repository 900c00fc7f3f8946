#include "backend/cuda/cuda_internal.h"

#include "kv/fold_reference.h"

#ifdef COP_CUDA_MUTANTS_ON
int cop__cuda_mutant = -1;
#endif

static const char *backend_describe(const cop_backend *b) {
    return b->describe;
}

static cop_products_mode backend_products(const cop_backend *b) {
    return b->products;
}

static void backend_counters(const cop_backend *b, cop_backend_counters *out) {
    *out = b->counters;
}

/* ---- doors: they wait for all that is queued ---- */

static cop_status read_device(cop_backend *b, const void *from, void *to, size_t bytes) {
    if (b->broken)
        return COP_FAIL(COP_ERR_DEVICE, "the device failed before: %s", b->broken_text);
    COP__CUDA(b, cudaStreamSynchronize, b->stream);
    COP__CUDA(b, cudaMemcpy, to, from, bytes, cudaMemcpyDeviceToHost);
    b->counters.waits++;
    return COP_OK;
}

static cop_status backend_read_logits(cop_backend *b, uint32_t request, float *out) {
    if (request >= b->now.n_requests)
        return COP_FAIL(COP_ERR_USAGE, "logits of request %u: this step has had %u", request,
                        b->now.n_requests);
    const cop_sample_order *order =
        (const cop_sample_order *)b->tables[COP__T_ORDERS].mirror + request;
    return read_device(b, b->logits + (size_t)order->logits_row * b->logits_stride, out,
                       b->shape.vocab * sizeof *out);
}

/* Narrow values come to the end of `out` and are widened from the front. */
static cop_status read_narrow(cop_backend *b, const uint16_t *from, uint32_t n, float *out) {
    uint16_t *narrow = (uint16_t *)out + n;
    COP_TRY(read_device(b, from, narrow, n * 2ull));
    for (uint32_t i = 0; i < n; i++) {
        uint16_t bits;
        __builtin_memcpy(&bits, narrow + i, 2);
        const float value = cop_f32_from_bf16(bits);
        __builtin_memcpy(out + i, &value, 4);
    }
    return COP_OK;
}

/* QKV's queries are the rotated ones, as on cpu; its keys and values are those of the product: what
 * append made of them lies in the pool. */
static cop_status backend_read_activation(cop_backend *b, cop_activation which, uint32_t row,
                                          float *out) {
    if (which >= COP_A_COUNT || row >= b->now.n_rows)
        return COP_FAIL(COP_ERR_USAGE, "activation %d of row %u: this step has %u rows", (int)which,
                        row, b->now.n_rows);
    const uint32_t width = b->width[which], q = b->width[COP_A_ATT];
    COP_TRY(read_narrow(b, b->activation[which] + (size_t)row * width, width, out));
    return which == COP_A_QKV ? read_narrow(b, b->query + (size_t)row * q, q, out) : COP_OK;
}

#ifndef COP_CUDA_NAME
#define COP_CUDA_NAME "cuda" /* the module over the emulated runtime has a name of its own */
#endif

static const cop_backend_ops ops = {
    .name = COP_CUDA_NAME,
    .virtual_clock = false,
    .steps_ahead = COP__STEPS_AHEAD,
    .create = cop__cuda_create,
    .destroy = cop__cuda_destroy,
    .describe = backend_describe,
    .products = backend_products,
    .step_begin = cop__cuda_step_begin,
    .embed = cop__cuda_embed,
    .norm = cop__cuda_norm,
    .product = cop__cuda_product,
    .append = cop__cuda_append,
    .attention = cop__cuda_attention,
    .activate = cop__cuda_activate,
    .logits = cop__cuda_logits,
    .step_end = cop__cuda_step_end,
    .samples = cop__cuda_samples,
    .read_logits = backend_read_logits,
    .read_activation = backend_read_activation,
    .counters = backend_counters,
    .range = cop__range,
    .profile = cop__cuda_profile,
    .probe = cop__cuda_probe,
};

__attribute__((visibility("default"))) const cop_backend_ops *cop_backend_module(uint32_t abi);

const cop_backend_ops *cop_backend_module(uint32_t abi) {
    return abi == COP_BACKEND_ABI ? &ops : NULL;
}
