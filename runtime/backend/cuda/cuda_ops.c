#include "backend/cuda/cuda_internal.h"

#include <math.h>

static uint32_t *table(const cop_backend *b, enum cop__table_id id) {
    return b->tables[id].device;
}
static const cop_segment *segments(const cop_backend *b) {
    return (const cop_segment *)table(b, COP__T_SEGMENTS);
}

static cop_status check_open(const cop_backend *b) {
    if (b->broken)
        return COP_FAIL(COP_ERR_DEVICE, "the device failed before: %s", b->broken_text);
    if (!b->now.open || b->now.mode == COP__GRAPH)
        return COP_FAIL(COP_ERR_USAGE, "an operation outside a step that asks for operations");
    return COP_OK;
}

cop_status cop__cuda_advance(cop_backend *b) {
    const cop_advance_args args = {.segments = (cop_segment *)table(b, COP__T_SEGMENTS),
                                   .open = (const cop_open_segment *)table(b, COP__T_OPEN),
                                   .position = (int32_t *)table(b, COP__T_POSITION),
                                   .orders = (cop_sample_order *)table(b, COP__T_ORDERS),
                                   .tickets = b->tickets,
                                   .row_failed = b->row_failed,
                                   .segment_failed = b->segment_failed,
                                   .row_segment = table(b, COP__T_ROW_SEGMENT),
                                   .n_open = b->now.rows,
                                   .n_tickets = b->shape.n_layers,
                                   .n_rows = b->now.rows};
    COP__LAUNCH(b, cop_launch_advance, &args);
    return cop__time_begin(b);
}

cop_status cop__cuda_embed(cop_backend *b) {
    COP_TRY(check_open(b));
    cop__range("embed");
    const cop_embed_args args = {.embedding = b->embed,
                                 .token = (const int32_t *)table(b, COP__T_TOKEN),
                                 .row_segment = table(b, COP__T_ROW_SEGMENT),
                                 .x = b->activation[COP_A_X],
                                 .row_failed = b->row_failed,
                                 .segment_failed = b->segment_failed,
                                 .n_rows = b->now.rows,
                                 .hidden = b->shape.hidden,
                                 .vocab = b->shape.vocab};
    COP__LAUNCH(b, cop_launch_embed, &args);
    return cop__time_op(b, COP_OP_EMBED);
}

cop_status cop__cuda_norm(cop_backend *b, cop_norm which, uint32_t layer, bool add_delta) {
    COP_TRY(check_open(b));
    if (which == COP_N_ATTN)
        cop__range("layer");
    cop__range("norm");
    const cop_norm_args args = {
        .x = b->activation[COP_A_X],
        .delta = add_delta ? b->activation[COP_A_DELTA] : NULL,
        .weight = which == COP_N_FINAL  ? b->norm_final
                  : which == COP_N_ATTN ? b->layers[layer].norm_attn
                                        : b->layers[layer].norm_ffn,
        .out = b->activation[COP_A_H],
        .eps = (float)b->shape.rms_eps,
        .n_rows = b->now.rows,
        .hidden = b->shape.hidden,
    };
    COP__LAUNCH(b, cop_launch_norm, &args);
    return cop__time_op(b, COP_OP_NORM);
}

typedef struct product {
    const uint16_t *x, *w;
    void *y;
    uint32_t n_rows, outputs, inputs;
    uint32_t y_stride;
    bool y_f32;
} product;

/* y^T = w x^T in cuBLAS's column order, where a row-major matrix is its own transpose. */
static cop_status product_fast(cop_backend *b, const product *p) {
    const float one = 1, zero = 0;
    COP__BLAS(b, cublasGemmEx, b->blas, CUBLAS_OP_T, CUBLAS_OP_N, (int)p->outputs, (int)p->n_rows,
              (int)p->inputs, &one, p->w, CUDA_R_16BF, (int)p->inputs, p->x, CUDA_R_16BF,
              (int)p->inputs, &zero, p->y, p->y_f32 ? CUDA_R_32F : CUDA_R_16BF, (int)p->y_stride,
              CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    b->counters.launches += !b->now.capturing;
    return COP_OK;
}

static cop_status product_invariant(cop_backend *b, const product *p) {
    const size_t y_bytes = p->y_f32 ? 4 : 2;
    for (uint32_t row = 0; row < p->n_rows; row += COP_PRODUCT_ROWS_MAX) {
        const uint32_t left = p->n_rows - row;
        const cop_product_args args = {
            .x = p->x + (size_t)row * p->inputs,
            .w = p->w,
            .y = (uint8_t *)p->y + (size_t)row * p->y_stride * y_bytes,
            .workspace = b->product_workspace,
            .counters = b->product_counters,
            .x_stride = p->inputs,
            .y_stride = p->y_stride,
            .n_rows = left < COP_PRODUCT_ROWS_MAX ? left : COP_PRODUCT_ROWS_MAX,
            .outputs = p->outputs,
            .inputs = p->inputs,
            .y_f32 = p->y_f32,
        };
        COP__LAUNCH(b, cop_launch_product, &args);
    }
    return COP_OK;
}

static cop_status run_product(cop_backend *b, const product *p) {
    return b->products == COP_PRODUCTS_FAST ? product_fast(b, p) : product_invariant(b, p);
}

cop_status cop__cuda_product(cop_backend *b, cop_product which, uint32_t layer) {
    COP_TRY(check_open(b));
    cop__range("product");
    const cop__layer *l = &b->layers[layer];
    cop_activation from = COP_A_H, to = COP_A_DELTA;
    const uint16_t *w = l->o;
    switch (which) {
    case COP_P_QKV:
        w = l->qkv, to = COP_A_QKV;
        break;
    case COP_P_O:
        from = COP_A_ATT;
        break;
    case COP_P_GATE_UP:
        w = l->gate_up, to = COP_A_GATE_UP;
        break;
    case COP_P_DOWN:
        w = l->down, from = COP_A_ACT;
        break;
    }
    const product p = {.x = b->activation[from],
                       .w = w,
                       .y = b->activation[to],
                       .n_rows = b->now.rows,
                       .outputs = b->width[to],
                       .inputs = b->width[from],
                       .y_stride = b->width[to]};
    COP_TRY(run_product(b, &p));
    COP_TRY(cop__time_op(b, COP_OP_PRODUCT));
    if (which == COP_P_DOWN)
        cop__range(NULL); /* the layer */
    return COP_OK;
}

cop_status cop__cuda_append(cop_backend *b, uint32_t layer) {
    COP_TRY(check_open(b));
    cop__range("append");
    const cop_model_shape *s = &b->shape;
    const cop_append_args args = {.qkv = b->activation[COP_A_QKV],
                                  .query = b->query,
                                  .pool = cop__layer_pool(b, layer),
                                  .segments = segments(b),
                                  .page_table = table(b, COP__T_PAGE_TABLE),
                                  .row_segment = table(b, COP__T_ROW_SEGMENT),
                                  .row_offset = table(b, COP__T_ROW_OFFSET),
                                  .position = (const int32_t *)table(b, COP__T_POSITION),
                                  .cosine = b->cosine,
                                  .sine = b->sine,
                                  .bias = b->layers[layer].bias,
                                  .q_norm = b->layers[layer].q_norm,
                                  .k_norm = b->layers[layer].k_norm,
                                  .row_failed = b->row_failed,
                                  .segment_failed = b->segment_failed,
                                  .eps = (float)s->rms_eps,
                                  .n_rows = b->now.rows,
                                  .n_heads = s->n_heads,
                                  .n_kv_heads = s->n_kv_heads,
                                  .head_dim = s->head_dim,
                                  .page_tokens = b->options.page_tokens,
                                  .rope = s->rope_halves ? COP_ROPE_HALVES : COP_ROPE_NEIGHBOURS};
    COP__LAUNCH(b, cop_launch_append, &args);
    return cop__time_op(b, COP_OP_APPEND);
}

cop_status cop__cuda_attention(cop_backend *b, uint32_t layer) {
    COP_TRY(check_open(b));
    cop__range("attention");
    const cop_model_shape *s = &b->shape;
    const uint32_t stride = s->n_heads * s->head_dim;
    const cop_attention_args args = {
        .segments = segments(b),
        .page_table = table(b, COP__T_PAGE_TABLE),
        .tiles = (const cop_tile *)table(b, COP__T_TILES),
        .entries = (const cop_walk_entry *)table(b, COP__T_ENTRIES),
        .limits = (const int32_t *)table(b, COP__T_LIMITS),
        .items = (const cop_item *)table(b, COP__T_ITEMS),
        .slots = (const cop_slot *)table(b, COP__T_SLOTS),
        .queue = (const cop_attention_queue *)table(b, COP__T_QUEUE),
        .ticket = b->tickets + layer,
        .counters = b->attention_counters,
        .pool = cop__layer_pool(b, layer),
        .q = b->query,
        .out = b->activation[COP_A_ATT],
        .partial_o = b->partial_o,
        .partial_ml = b->partial_ml,
        .q_stride = stride,
        .out_stride = stride,
        .page_tokens = b->options.page_tokens,
        .n_heads = s->n_heads,
        .n_kv_heads = s->n_kv_heads,
        .head_dim = s->head_dim,
        .scale_log2 = (float)(M_LOG2E / sqrt(s->head_dim)),
        .n_blocks = b->blocks,
        .n_slots = b->options.capacity.slots,
    };
    COP__LAUNCH(b, cop_launch_attention_tree, &args);
    return cop__time_op(b, COP_OP_ATTENTION);
}

cop_status cop__cuda_activate(cop_backend *b) {
    COP_TRY(check_open(b));
    cop__range("act");
    const cop_activate_args args = {.gate_up = b->activation[COP_A_GATE_UP],
                                    .out = b->activation[COP_A_ACT],
                                    .n_rows = b->now.rows,
                                    .ffn = b->shape.ffn};
    COP__LAUNCH(b, cop_launch_activate, &args);
    return cop__time_op(b, COP_OP_ACT);
}

/* Rows that are asked for, one behind the other: an embedding of H by row numbers. */
static cop_status gather_rows(cop_backend *b) {
    const cop_embed_args args = {.embedding = b->activation[COP_A_H],
                                 .token = (const int32_t *)table(b, COP__T_GATHER),
                                 .row_segment = table(b, COP__T_ROW_SEGMENT),
                                 .x = b->head_input,
                                 .row_failed = b->row_failed,
                                 .segment_failed = b->segment_failed,
                                 .n_rows = b->now.n_logits,
                                 .hidden = b->shape.hidden,
                                 .vocab = b->now.rows};
    COP__LAUNCH(b, cop_launch_embed, &args);
    return COP_OK;
}

static cop_status sample(cop_backend *b) {
    cop__range("sample");
    const cop_sample_args args = {.logits = b->logits,
                                  .orders = (const cop_sample_order *)table(b, COP__T_ORDERS),
                                  .bias = (const cop_sample_bias *)table(b, COP__T_BIAS),
                                  .script = (const int32_t *)table(b, COP__T_SCRIPT),
                                  .row_failed = b->row_failed,
                                  .segment_failed = b->segment_failed,
                                  .row_segment = table(b, COP__T_ROW_SEGMENT),
                                  .results = b->results,
                                  .next_token = (int32_t *)table(b, COP__T_TOKEN),
                                  .logits_stride = b->logits_stride,
                                  .n_orders = b->now.n_orders,
                                  .vocab = b->shape.vocab};
    COP__LAUNCH(b, cop_launch_sample, &args);
    return cop__time_op(b, COP_OP_SAMPLE);
}

cop_status cop__cuda_logits(cop_backend *b) {
    COP_TRY(check_open(b));
    if (b->now.n_requests == 0)
        return COP_FAIL(COP_ERR_USAGE, "logits of a step without a request");
    cop__range("logits");
    if (b->now.gather)
        COP_TRY(gather_rows(b));
    const product p = {.x = b->now.gather ? b->head_input : b->activation[COP_A_H],
                       .w = b->head,
                       .y = b->logits,
                       .n_rows = b->now.n_logits,
                       .outputs = b->shape.vocab,
                       .inputs = b->shape.hidden,
                       .y_stride = b->logits_stride,
                       .y_f32 = true};
    COP_TRY(run_product(b, &p));
    COP_TRY(cop__time_op(b, COP_OP_LOGITS));
    return sample(b);
}
