#include "backend/cpu/cpu.h"

#include <omp.h>
#include <string.h>

#include "base/clock.h"
#include "kv/fold_reference.h"
#include "model/sampler.h"

static bool rounds(const cop_backend *b) {
    return b->options.arith == COP_ARITH_BF16;
}

static const char *backend_describe(const cop_backend *b) {
    return b->describe;
}

static cop_products_mode backend_products(const cop_backend *b) {
    (void)b;
    return COP_PRODUCTS_INVARIANT;
}

static cop_status check_row(const cop_backend *b, const cop_step *step, uint32_t row) {
    /* Where the key stands elsewhere, attention checks the positions that queries are turned to. */
    const int32_t *positions = step->key_position ? step->key_position : step->position;
    const int32_t token = step->token[row], position = positions[row];
    if (token < 0 || (uint32_t)token >= b->shape.vocab)
        return COP_FAIL(COP_ERR_USAGE, "row %u: token %d is outside the vocabulary of %u", row,
                        token, b->shape.vocab);
    if (position < 0 || (uint32_t)position >= b->options.max_positions)
        return COP_FAIL(COP_ERR_CONTEXT,
                        "row %u: position %d is outside the %u positions of this run", row,
                        position, b->options.max_positions);
    const cop_segment *segment = &step->plan.segments[step->segment[row]];
    if (step->offset[row] >= segment->tokens)
        return COP_FAIL(COP_ERR_INTERNAL, "row %u: offset %u is beyond the %u tokens of segment %u",
                        row, step->offset[row], segment->tokens, step->segment[row]);
    return COP_OK;
}

static cop_status check_requests(const cop_backend *b, const cop_step *step,
                                 const cop_sample_request *requests, uint32_t n) {
    if (n > b->options.max_samples)
        return COP_FAIL(COP_ERR_NO_ROOM, "%u sampling requests: the backend was created for %u", n,
                        b->options.max_samples);
    for (uint32_t i = 0; i < n; i++) {
        if (requests[i].row >= step->n_rows)
            return COP_FAIL(COP_ERR_USAGE, "sampling request %u: row %u of a step of %u rows", i,
                            requests[i].row, step->n_rows);
        const cop_status status = cop_sampler_check(&requests[i], b->shape.vocab);
        if (status != COP_OK)
            return cop_status_prefix(status, "sampling request %u", i);
    }
    return COP_OK;
}

/* Whether a row meets a segment at other positions than its keys were rotated to. */
static bool step_turns(const cop_step *step) {
    if (step->key_position)
        return true;
    for (uint32_t i = 0; i < step->plan.n_items; i++) {
        const cop_item *item = &step->plan.items[i];
        for (uint32_t e = 0; e < item->n_entries; e++)
            if (step->plan.entries[item->first_entry + e].q_shift != 0)
                return true;
    }
    return false;
}

static cop_status backend_step_begin(cop_backend *b, const cop_step *step,
                                     const cop_sample_request *requests, uint32_t n_requests,
                                     bool *queued) {
    *queued = false;
    if (step->n_rows > b->options.max_rows)
        return COP_FAIL(COP_ERR_NO_ROOM, "a step of %u rows: the backend was created for %u",
                        step->n_rows, b->options.max_rows);
    if (step->plan.page_tokens != b->options.page_tokens)
        return COP_FAIL(COP_ERR_MISMATCH, "the plan has pages of %u tokens, the pool of %u",
                        step->plan.page_tokens, b->options.page_tokens);
    for (uint32_t row = 0; row < step->n_rows; row++)
        COP_TRY(check_row(b, step, row));
    COP_TRY(check_requests(b, step, requests, n_requests));
    b->step = *step;
    b->turns = step_turns(step);
    b->requests = requests;
    b->n_requests = n_requests;
    b->n_logits_rows = 0;
    memset(b->failed, 0, step->n_rows * sizeof *b->failed);
    b->any_failed = false;
    b->counters.steps++;
    b->counters.timed_steps++;
    return COP_OK;
}

static cop_status backend_embed(cop_backend *b) {
    const uint64_t begin = cop_clock_ns();
    const uint32_t hidden = b->shape.hidden;
    const size_t row_bytes = hidden / cop_dtype_block_values(b->embed->type) *
                             (size_t)cop_dtype_block_bytes(b->embed->type);
    for (uint32_t row = 0; row < b->step.n_rows; row++) {
        const uint8_t *from = b->embed->data;
        float *x = cop_cpu_row(b, COP_A_X, row);
        cop_dtype_widen(b->embed->type, from + (size_t)b->step.token[row] * row_bytes, hidden, x);
        if (rounds(b))
            b->ops->round(x, hidden);
    }
    b->counters.weight_bytes += b->step.n_rows * row_bytes;
    b->counters.op_ns[COP_OP_EMBED] += cop_clock_ns() - begin;
    return COP_OK;
}

static cop_status backend_norm(cop_backend *b, cop_norm which, uint32_t layer, bool add_delta) {
    const uint64_t begin = cop_clock_ns();
    const uint32_t rows = b->step.n_rows, hidden = b->shape.hidden;
    const float *weight = which == COP_N_FINAL  ? b->norm_final
                          : which == COP_N_ATTN ? b->layers[layer].norm_attn
                                                : b->layers[layer].norm_ffn;
#pragma omp parallel for schedule(static)                                                          \
    num_threads((int)b->options.n_threads) if (rows >= COP_CPU_PARALLEL_ROWS)
    for (uint32_t row = 0; row < rows; row++) {
        float *x = cop_cpu_row(b, COP_A_X, row);
        if (add_delta)
            b->ops->add(x, cop_cpu_row(b, COP_A_DELTA, row), hidden, rounds(b));
        b->ops->norm(x, weight, hidden, (float)b->shape.rms_eps, rounds(b),
                     cop_cpu_row(b, COP_A_H, row));
    }
    b->counters.op_ns[COP_OP_NORM] += cop_clock_ns() - begin;
    return COP_OK;
}

static cop_status backend_product(cop_backend *b, cop_product which, uint32_t layer) {
    const uint64_t begin = cop_clock_ns();
    const cop_cpu_layer *l = &b->layers[layer];
    cop_product_call call = {.n_rows = b->step.n_rows, .round_output = rounds(b)};
    cop_activation from = COP_A_H, to = COP_A_DELTA;
    switch (which) {
    case COP_P_QKV:
        call.parts = l->qkv, call.n_parts = 3, to = COP_A_QKV;
        break;
    case COP_P_O:
        call.parts = &l->o, call.n_parts = 1, from = COP_A_ATT;
        break;
    case COP_P_GATE_UP:
        call.parts = l->gate_up, call.n_parts = 2, to = COP_A_GATE_UP;
        break;
    case COP_P_DOWN:
        call.parts = &l->down, call.n_parts = 1, from = COP_A_ACT;
        break;
    }
    call.x = b->activation[from], call.x_stride = b->width[from];
    call.y = b->activation[to], call.y_stride = b->width[to];
    b->counters.weight_bytes += cop_products_run(b->products, &call);
    b->counters.op_ns[COP_OP_PRODUCT] += cop_clock_ns() - begin;
    return COP_OK;
}

/* Bias, head norms and rotation of a row's Q, K and V. A pool of bf16 takes its queries rounded as
 * well (attention.h). A failed row keeps failing, so that its mates never meet 0 x NaN: its Q, K
 * and V are zeros from here on. */
static void finish_qkv(cop_backend *b, uint32_t layer, uint32_t row) {
    float *qkv = cop_cpu_row(b, COP_A_QKV, row);
    const int32_t *position = b->step.key_position ? b->step.key_position : b->step.position;
    const size_t angle = (size_t)position[row] * b->rotary.half;
    const uint32_t raw = b->turns ? b->shape.n_heads * b->shape.head_dim : 0;
    (b->turns ? cop_cpu_heads_run_keys : cop_cpu_heads_run)(
        b->ops, &b->layers[layer].heads, b->rotary.cosine + angle, b->rotary.sine + angle, qkv);
    if (b->options.arith != COP_ARITH_F32)
        b->ops->round(qkv + raw, b->width[COP_A_QKV] - raw);
    if (b->failed[row] || !b->ops->finite(qkv, b->width[COP_A_QKV])) {
        b->failed[row] = true;
        memset(qkv, 0, b->width[COP_A_QKV] * sizeof *qkv);
    }
}

static void store_row(cop_backend *b, uint32_t layer, uint32_t row) {
    const uint32_t d = b->shape.head_dim, offset = b->step.offset[row];
    const uint32_t page_tokens = b->options.page_tokens;
    const float *k = cop_cpu_row(b, COP_A_QKV, row) + (size_t)b->shape.n_heads * d;
    const cop_segment *segment = &b->step.plan.segments[b->step.segment[row]];
    const uint32_t page =
        b->step.plan.page_table[segment->page_table_offset + offset / page_tokens];
    cop_cpu_attention_store(b->attention, layer, page, offset % page_tokens, k,
                            k + (size_t)b->shape.n_kv_heads * d);
}

static cop_status backend_append(cop_backend *b, uint32_t layer) {
    const uint64_t begin = cop_clock_ns();
    const uint32_t rows = b->step.n_rows;
#pragma omp parallel for schedule(static)                                                          \
    num_threads((int)b->options.n_threads) if (rows >= COP_CPU_PARALLEL_ROWS)
    for (uint32_t row = 0; row < rows; row++)
        finish_qkv(b, layer, row);
    for (uint32_t row = 0; row < rows; row++) {
        store_row(b, layer, row);
        b->any_failed = b->any_failed || b->failed[row];
    }
    b->counters.op_ns[COP_OP_APPEND] += cop_clock_ns() - begin;
    return COP_OK;
}

static cop_status backend_attention(cop_backend *b, uint32_t layer) {
    const uint64_t begin = cop_clock_ns();
    const cop_cpu_attention_turn turn = {
        .rotate = b->layers[layer].heads.rope_halves ? b->ops->rotate_halves : b->ops->rotate,
        .round = b->options.arith != COP_ARITH_F32 ? b->ops->round : NULL,
        .rotary = &b->rotary,
        .position = b->step.position};
    cop_cpu_attention_set_turn(b->attention, b->turns ? &turn : NULL);
    COP_TRY(cop_cpu_attention_run(b->attention, layer, &b->step.plan, b->activation[COP_A_QKV],
                                  b->width[COP_A_QKV], b->activation[COP_A_ATT],
                                  b->width[COP_A_ATT]));
    b->counters.op_ns[COP_OP_ATTENTION] += cop_clock_ns() - begin;
    return COP_OK;
}

static cop_status backend_activate(cop_backend *b) {
    const uint64_t begin = cop_clock_ns();
    const uint32_t rows = b->step.n_rows, ffn = b->shape.ffn;
#pragma omp parallel for schedule(static)                                                          \
    num_threads((int)b->options.n_threads) if (rows >= COP_CPU_PARALLEL_ROWS)
    for (uint32_t row = 0; row < rows; row++) {
        const float *gate = cop_cpu_row(b, COP_A_GATE_UP, row);
        b->ops->silu_mul(gate, gate + ffn, ffn, rounds(b), cop_cpu_row(b, COP_A_ACT, row));
    }
    b->counters.op_ns[COP_OP_ACT] += cop_clock_ns() - begin;
    return COP_OK;
}

/* Requests of one row, such as the samples of one prompt, share its logits. */
static cop_status backend_logits(cop_backend *b) {
    const uint64_t begin = cop_clock_ns();
    const uint32_t hidden = b->shape.hidden;
    for (uint32_t row = 0; row < b->step.n_rows; row++)
        b->row_logits[row] = UINT32_MAX;
    for (uint32_t i = 0; i < b->n_requests; i++) {
        const uint32_t row = b->requests[i].row;
        uint32_t *slot = &b->row_logits[row];
        if (*slot == UINT32_MAX) {
            *slot = b->n_logits_rows++;
            memcpy(b->head_input + (size_t)*slot * hidden, cop_cpu_row(b, COP_A_H, row),
                   hidden * sizeof(float));
        }
        b->logits_row[i] = *slot;
    }
    b->counters.weight_bytes +=
        cop_products_run(b->products, &(cop_product_call){.parts = &b->head,
                                                          .n_parts = 1,
                                                          .x = b->head_input,
                                                          .x_stride = hidden,
                                                          .n_rows = b->n_logits_rows,
                                                          .y = b->logits,
                                                          .y_stride = b->shape.vocab});
    b->counters.op_ns[COP_OP_LOGITS] += cop_clock_ns() - begin;
    return COP_OK;
}

/* A row fails with any row of its segment in this step: what it sees holds zeros for that row. */
static bool row_failed(const cop_backend *b, uint32_t row) {
    for (uint32_t i = 0; b->any_failed && i < b->step.n_rows; i++)
        if (b->failed[i] && b->step.segment[i] == b->step.segment[row])
            return true;
    return false;
}

/* Samples of the step's requests, in place: nothing runs ahead here. */
static void draw_samples(cop_backend *b, cop_sample *out) {
    const uint32_t n = b->n_requests;
#pragma omp parallel for schedule(static) num_threads((int)b->options.n_threads) if (n > 1)
    for (uint32_t i = 0; i < n; i++) {
        void *scratch = b->scratch + (size_t)omp_get_thread_num() * b->scratch_bytes;
        const float *logits = b->logits + (size_t)b->logits_row[i] * b->shape.vocab;
        if (row_failed(b, b->requests[i].row))
            out[i] = (cop_sample){.token = -1, .failed = true};
        else
            cop_sampler_run(logits, b->shape.vocab, &b->requests[i], scratch, &out[i]);
    }
}

static cop_status backend_step_end(cop_backend *b) {
    (void)b;
    return COP_OK;
}

static cop_status backend_samples(cop_backend *b, uint32_t n, cop_sample *out) {
    const uint64_t begin = cop_clock_ns();
    if (n != b->n_requests)
        return COP_FAIL(COP_ERR_USAGE, "%u samples are asked for, the step has %u requests", n,
                        b->n_requests);
    draw_samples(b, out);
    b->counters.op_ns[COP_OP_SAMPLE] += cop_clock_ns() - begin;
    return COP_OK;
}

static cop_status backend_read_logits(cop_backend *b, uint32_t request, float *out) {
    if (request >= b->n_requests)
        return COP_FAIL(COP_ERR_USAGE, "logits of request %u: this step has had %u", request,
                        b->n_requests);
    memcpy(out, b->logits + (size_t)b->logits_row[request] * b->shape.vocab,
           b->shape.vocab * sizeof *out);
    return COP_OK;
}

static cop_status backend_read_activation(cop_backend *b, cop_activation which, uint32_t row,
                                          float *out) {
    if (which >= COP_A_COUNT || row >= b->step.n_rows)
        return COP_FAIL(COP_ERR_USAGE, "activation %d of row %u: this step has %u rows", (int)which,
                        row, b->step.n_rows);
    memcpy(out, cop_cpu_row(b, which, row), b->width[which] * sizeof *out);
    return COP_OK;
}

static void backend_counters(const cop_backend *b, cop_backend_counters *out) {
    cop_cpu_attention_counters kv;
    cop_cpu_attention_counters_read(b->attention, &kv);
    *out = b->counters;
    out->kv_append_bytes = kv.append_bytes;
    out->kv_load_bytes = kv.load_bytes;
    out->kv_first_bytes = kv.first_bytes;
    out->partial_bytes = kv.partial_bytes;
}

const cop_backend_ops cop_backend_cpu = {
    .name = "cpu",
    .virtual_clock = false,
    .create = cop__cpu_create,
    .destroy = cop__cpu_destroy,
    .describe = backend_describe,
    .products = backend_products,
    .step_begin = backend_step_begin,
    .embed = backend_embed,
    .norm = backend_norm,
    .product = backend_product,
    .append = backend_append,
    .attention = backend_attention,
    .activate = backend_activate,
    .logits = backend_logits,
    .step_end = backend_step_end,
    .samples = backend_samples,
    .read_logits = backend_read_logits,
    .read_activation = backend_read_activation,
    .counters = backend_counters,
};
