#include "model/forward.h"

static cop_status queue_layers(const cop_backend_ops *ops, cop_backend *backend,
                               const cop_model_shape *shape) {
    COP_TRY(ops->embed(backend));
    for (uint32_t layer = 0; layer < shape->n_layers; layer++) {
        COP_TRY(ops->norm(backend, COP_N_ATTN, layer, layer > 0));
        COP_TRY(ops->product(backend, COP_P_QKV, layer));
        COP_TRY(ops->append(backend, layer));
        COP_TRY(ops->attention(backend, layer));
        COP_TRY(ops->product(backend, COP_P_O, layer));
        COP_TRY(ops->norm(backend, COP_N_FFN, layer, true));
        COP_TRY(ops->product(backend, COP_P_GATE_UP, layer));
        COP_TRY(ops->activate(backend));
        COP_TRY(ops->product(backend, COP_P_DOWN, layer));
    }
    return COP_OK;
}

cop_status cop_forward_queue(const cop_backend_ops *ops, cop_backend *backend,
                             const cop_model_shape *shape, const cop_step *step,
                             const cop_sample_request *requests, uint32_t n) {
    bool queued = false;
    COP_TRY(ops->step_begin(backend, step, requests, n, &queued));
    if (!queued) {
        COP_TRY(queue_layers(ops, backend, shape));
        if (n > 0) {
            COP_TRY(ops->norm(backend, COP_N_FINAL, 0, true));
            COP_TRY(ops->logits(backend));
        }
    }
    return ops->step_end(backend);
}

cop_status cop_forward(const cop_backend_ops *ops, cop_backend *backend,
                       const cop_model_shape *shape, const cop_step *step,
                       const cop_sample_request *requests, uint32_t n, cop_sample *out) {
    COP_TRY(cop_forward_queue(ops, backend, shape, step, requests, n));
    return n > 0 ? ops->samples(backend, n, out) : COP_OK;
}
