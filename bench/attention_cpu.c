#include "attention_cpu.h"

#include <string.h>

#include "backend/cpu/attention.h"
#include "base/memory.h"
#include "job/shape_plan.h"

enum { PAGE_TOKENS = 64, CHUNK_TOKENS = 1024, DIFFERENT_TOKENS = 251 };

typedef struct bench {
    cop_shape_plan *plan;
    cop_plan_tables tables;
    cop_cpu_attention *attention;
    float *q, *out, *values;
    uint32_t stride;
} bench;

static int iterate(void *user) {
    bench *b = user;
    return cop_cpu_attention_run(b->attention, 0, &b->tables, b->q, b->stride, b->out, b->stride) !=
           COP_OK;
}

static float next_value(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)(*state >> 24) * 0x1p-6f - 2.0f; /* exact in bf16 */
}

static cop_status create(bench *b, const cop_tree_shape *shape,
                         const cop_cpu_bench_options *options) {
    const uint32_t group = shape->heads[0][0] / shape->heads[0][1], d = shape->head_dim;
    const cop_shape_plan_options plan = {.page_tokens = PAGE_TOKENS,
                                         .chunk_tokens = CHUNK_TOKENS,
                                         .chunk_tail_tokens = CHUNK_TOKENS,
                                         .group = group};
    COP_TRY(cop_shape_plan_create(&shape->tree, &plan, &b->plan));
    b->tables = cop_shape_plan_tables(b->plan);
    const cop_cpu_attention_options attention = {.n_layers = 1,
                                                 .n_heads = group,
                                                 .n_kv_heads = 1,
                                                 .head_dim = d,
                                                 .n_pages = cop_shape_plan_pages(b->plan),
                                                 .page_tokens = PAGE_TOKENS,
                                                 .max_rows = shape->tree.n_rows,
                                                 .max_partials = b->tables.n_partials,
                                                 .bf16 = true,
                                                 .round_output = true,
                                                 .n_threads = options->n_threads,
                                                 .isa = options->isa};
    COP_TRY(cop_cpu_attention_create(&attention, &b->attention));
    b->stride = group * d;
    const size_t n = (size_t)shape->tree.n_rows * b->stride;
    b->q = cop_calloc(n, sizeof *b->q);
    b->out = cop_calloc(n, sizeof *b->out);
    b->values = cop_calloc((DIFFERENT_TOKENS + 1) * (size_t)d, sizeof *b->values);
    if (!b->q || !b->out || !b->values)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %zu query elements", n);
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++)
        b->q[i] = next_value(&state);
    for (size_t i = 0; i < (DIFFERENT_TOKENS + 1) * (size_t)d; i++)
        b->values[i] = next_value(&state);
    for (uint32_t p = 0; p < attention.n_pages; p++) {
        for (uint32_t t = 0; t < PAGE_TOKENS; t++) {
            const float *at = b->values + (p * PAGE_TOKENS + t) % DIFFERENT_TOKENS * (size_t)d;
            cop_cpu_attention_store(b->attention, 0, p, t, at, at + d);
        }
    }
    return COP_OK;
}

/* One iteration outside the clock, to warm up and to count. */
static cop_status count(bench *b, cop_cpu_bench_result *out) {
    cop_cpu_attention_counters before, after;
    cop_cpu_attention_counters_read(b->attention, &before);
    COP_TRY(cop_cpu_attention_run(b->attention, 0, &b->tables, b->q, b->stride, b->out, b->stride));
    cop_cpu_attention_counters_read(b->attention, &after);
    out->kv_first_bytes = after.first_bytes - before.first_bytes;
    out->kv_load_bytes = after.load_bytes - before.load_bytes;
    out->partial_bytes = after.partial_bytes - before.partial_bytes;
    return COP_OK;
}

cop_status cop_cpu_bench_shape(const cop_tree_shape *shape, const cop_cpu_bench_options *options,
                               cop_cpu_bench_result *out) {
    bench b = {0};
    *out = (cop_cpu_bench_result){.group = shape->heads[0][0] / shape->heads[0][1]};
    cop_status status = create(&b, shape, options);
    if (status == COP_OK)
        status = count(&b, out);
    if (status == COP_OK) {
        out->items = b.tables.n_items;
        out->flops = 4ull * shape->head_dim * out->group * shape->unshared_tokens;
        const cop_gbench_case one = {.name = shape->source,
                                     .iterate = iterate,
                                     .user = &b,
                                     .bytes = out->kv_first_bytes,
                                     .flops = out->flops};
        if (cop_gbench_run(&one, 1, options->min_time_s, &out->time) != 0)
            status = COP_FAIL(COP_ERR_INTERNAL, "%s: an iteration failed", shape->source);
    }
    cop_cpu_attention_destroy(b.attention);
    cop_shape_plan_destroy(b.plan);
    cop_free(b.q);
    cop_free(b.out);
    cop_free(b.values);
    return status;
}
