#include "job/joins_internal.h"
#include "model/forward.h"

enum { PAGE_TOKENS = 16, CHUNK_TOKENS = 1024 };

cop_status cop__joins_lane_create(const cop_model *model, cop_arith arith,
                                  const cop_joins_options *options, const cop__joins_size *size,
                                  bool dry, cop__joins_lane *out) {
    const cop_model_shape *shape = cop_model_shape_of(model);
    const uint32_t rows = size->rows > COP_JOINS_ROWS ? size->rows : COP_JOINS_ROWS;
    const uint64_t element = arith == COP_ARITH_F32 ? sizeof(float) : sizeof(uint16_t);
    *out = (cop__joins_lane){.shape = shape,
                             .max_rows = rows,
                             .token_bytes = 2 * element * shape->n_layers * shape->n_kv_heads *
                                            shape->head_dim};
    cop_kv_options kv = {.page_tokens = PAGE_TOKENS,
                         .n_pages = size->pages,
                         .max_segments = size->segments,
                         .max_nodes = size->nodes,
                         .chunk_tokens = CHUNK_TOKENS,
                         .chunk_tail_tokens = CHUNK_TOKENS};
    COP_TRY(cop_kv_create(&kv, &out->kv));
    if (dry)
        return COP_OK;
    const uint32_t partials = rows * (size->positions / CHUNK_TOKENS + 2);
    cop_plan_options plan = {.group = shape->n_heads / shape->n_kv_heads,
                             .chunk_tokens = CHUNK_TOKENS,
                             .chunk_tail_tokens = CHUNK_TOKENS,
                             .max_decode_slots = 1,
                             .max_prefill_slots = rows,
                             .max_partials = partials};
    COP_TRY(cop_plan_create(&plan, out->kv, &out->plan));
    cop_backend_options backend = {.arith = arith,
                                   .n_threads = options->n_threads,
                                   .isa = options->isa,
                                   .max_rows = rows,
                                   .max_samples = COP_JOINS_ROWS,
                                   .max_partials = partials,
                                   .max_positions = size->positions,
                                   .n_pages = size->pages,
                                   .page_tokens = PAGE_TOKENS,
                                   .capacity = cop_plan_capacity(out->plan)};
    return cop_backend_cpu.create(model, &backend, &out->backend);
}

void cop__joins_lane_release(cop__joins_lane *lane) {
    if (lane->backend)
        cop_backend_cpu.destroy(lane->backend);
    cop_plan_destroy(lane->plan);
    cop_kv_destroy(lane->kv);
    *lane = (cop__joins_lane){0};
}

cop_status cop__joins_open(cop__joins_lane *lane, cop__joins_cursor *cursor) {
    cop_node opened = COP_NODE_NONE;
    COP_TRY(cop_kv_open(lane->kv, cursor->node, &opened));
    cop_kv_release(lane->kv, cursor->node);
    cursor->node = opened;
    return COP_OK;
}

void cop__joins_close(cop__joins_lane *lane, cop__joins_cursor *cursor) {
    cop_kv_seal(lane->kv, cursor->node);
}

static cop_status check_samples(const cop_sample *samples, uint32_t n, uint32_t position) {
    for (uint32_t i = 0; i < n; i++)
        if (samples[i].failed)
            return COP_FAIL(COP_ERR_NONFINITE, "position %u gives values that are not finite",
                            position + i);
    return COP_OK;
}

cop_status cop__joins_extend(cop__joins_lane *lane, cop__joins_cursor *cursor, const int32_t *token,
                             uint32_t n, float *logits, uint32_t n_logits) {
    int32_t position[COP_JOINS_ROWS];
    uint32_t segment[COP_JOINS_ROWS], offset[COP_JOINS_ROWS];
    cop_sample_request request[COP_JOINS_ROWS];
    cop_sample sample[COP_JOINS_ROWS];
    const cop_node_info info = cop_kv_node(lane->kv, cursor->node);
    const uint32_t first = cop_kv_view_tokens(lane->kv, cursor->node) - info.view_tokens;
    COP_TRY(cop_kv_append(lane->kv, cursor->node, n));
    const uint32_t start = cursor->position;
    cursor->position += n;
    if (!lane->backend)
        return COP_OK;
    cop_prefill_run run = {.node = cursor->node, .first = first, .tokens = n, .row = 0};
    COP_TRY(cop_plan_step(lane->plan, NULL, 0, &run, 1));
    for (uint32_t i = 0; i < n; i++) {
        position[i] = (int32_t)(start + i);
        segment[i] = info.segment;
        offset[i] = first + i;
    }
    for (uint32_t i = 0; i < n_logits; i++)
        request[i] = (cop_sample_request){.row = i, .top_p = 1, .forced = -1};
    const cop_step step = {.n_rows = n,
                           .token = token,
                           .position = position,
                           .segment = segment,
                           .offset = offset,
                           .plan = cop_plan_view(lane->plan)};
    COP_TRY(cop_forward(&cop_backend_cpu, lane->backend, lane->shape, &step, request, n_logits,
                        sample));
    cop_plan_changes_clear(lane->plan);
    lane->rows += n;
    COP_TRY(check_samples(sample, n_logits, start));
    for (uint32_t i = 0; i < n_logits; i++)
        COP_TRY(
            cop_backend_cpu.read_logits(lane->backend, i, logits + (size_t)i * lane->shape->vocab));
    return COP_OK;
}
