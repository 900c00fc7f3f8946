/* One sequence of tokens through a model on the cpu backend, as the tests against references drive
 * it: any rows of it as prefill or as one decode row, a sample request for each row. */
#pragma once

#include "backend/backend.h"
#include "check.h"
#include "kv/kv.h"
#include "kv/plan.h"
#include "model/forward.h"
#include "model/model.h"

enum {
    RUNNER_ROWS = 256,
    RUNNER_POSITIONS = 704,
    RUNNER_PAGE_TOKENS = 32,
    RUNNER_CHUNK_TOKENS = 1024,
};

typedef struct runner {
    const cop_model_shape *shape;
    cop_backend *backend;
    cop_kv *kv;
    cop_plan *plan;
    int32_t token[RUNNER_ROWS], position[RUNNER_ROWS];
    uint32_t segment[RUNNER_ROWS], offset[RUNNER_ROWS];
    cop_sample_request request[RUNNER_ROWS];
    cop_sample sample[RUNNER_ROWS];
    float *logits;
} runner;

static inline void runner_create(runner *r, const cop_model *model, cop_arith arith,
                                 const char *isa) {
    uint32_t n_pages = RUNNER_POSITIONS / RUNNER_PAGE_TOKENS + 1;
    r->shape = cop_model_shape_of(model);
    cop_kv_options kv = {.page_tokens = RUNNER_PAGE_TOKENS,
                         .n_pages = n_pages,
                         .max_segments = 4,
                         .max_nodes = 4,
                         .chunk_tokens = RUNNER_CHUNK_TOKENS,
                         .chunk_tail_tokens = RUNNER_CHUNK_TOKENS};
    CHECK_OK(cop_kv_create(&kv, &r->kv));
    cop_plan_options plan = {.group = r->shape->n_heads / r->shape->n_kv_heads,
                             .chunk_tokens = RUNNER_CHUNK_TOKENS,
                             .chunk_tail_tokens = RUNNER_CHUNK_TOKENS,
                             .max_decode_slots = 1,
                             .max_prefill_slots = RUNNER_ROWS,
                             .max_partials = RUNNER_ROWS};
    CHECK_OK(cop_plan_create(&plan, r->kv, &r->plan));
    cop_backend_options backend = {.arith = arith,
                                   .isa = isa,
                                   .max_rows = RUNNER_ROWS,
                                   .max_samples = RUNNER_ROWS,
                                   .max_partials = RUNNER_ROWS,
                                   .max_positions = RUNNER_POSITIONS,
                                   .n_pages = n_pages,
                                   .page_tokens = RUNNER_PAGE_TOKENS};
    CHECK_OK(cop_backend_cpu.create(model, &backend, &r->backend));
    r->logits = malloc(r->shape->vocab * sizeof *r->logits);
    CHECK(r->logits);
}

static inline void runner_release(runner *r) {
    cop_backend_cpu.destroy(r->backend);
    cop_plan_destroy(r->plan);
    cop_kv_destroy(r->kv);
    free(r->logits);
}

/* Rows first .. first + rows - 1 of ids; as one decode row of `slot`, or as a prefill run. */
static inline void runner_rows(runner *r, cop_node node, const int32_t *ids, uint32_t n,
                               uint32_t first, uint32_t rows, const uint32_t *slot) {
    CHECK_OK(cop_kv_append(r->kv, node, rows));
    cop_prefill_run run = {.node = node, .first = first, .tokens = rows, .row = 0};
    CHECK_OK(cop_plan_step(r->plan, slot, slot ? 1 : 0, &run, slot ? 0 : 1));
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t at = first + i;
        r->token[i] = ids[at];
        r->position[i] = (int32_t)at;
        r->segment[i] = cop_kv_node(r->kv, node).segment;
        r->offset[i] = at;
        r->request[i] =
            (cop_sample_request){.row = i, .top_p = 1, .forced = at + 1 < n ? ids[at + 1] : -1};
    }
    cop_step step = {.n_rows = rows,
                     .token = r->token,
                     .position = r->position,
                     .segment = r->segment,
                     .offset = r->offset,
                     .plan = cop_plan_view(r->plan)};
    CHECK_OK(
        cop_forward(&cop_backend_cpu, r->backend, r->shape, &step, r->request, rows, r->sample));
    for (uint32_t i = 0; i < rows; i++)
        CHECK(!r->sample[i].failed);
}
