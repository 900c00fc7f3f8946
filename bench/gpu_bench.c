/* Times the attention kernels on a GPU over the trees of a shape file: the tree kernel and plain
 * paged attention. One line of JSON a case.
 *
 *   gpu_bench --shapes FILE.json --gpu configs/gpus/x.json [--repeats N] [--kv-heads N]
 *
 * Inside the clock: one launch, between two events. Outside: the tables, the upload, a write of 512
 * MB that puts everything else out of the L2 cache. The figure is the median. Q, K and V are
 * random: zeros would draw less power and run at higher clocks than a model does (kernel_check is
 * the proof). The paged rows walk the pages of their view, each segment's last page to its end, so
 * paged attention reads up to a page a segment more than it must.
 */
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job/shape_plan.h"
#include "kernels/attention.h"
#include "measure/gpu_figures.h"
#include "measure/tree_shapes.h"

enum { PAGE_TOKENS = 64, CHUNK_TOKENS = 1024, PAGED_CHUNK_TOKENS = 2048, REPEATS_MAX = 100 };
#define FLUSH_BYTES ((size_t)512 << 20)
#define RANDOM_BYTES ((size_t)4 << 20)

static void *taken[64];
static uint32_t n_taken;

static void need(int error, const char *what) {
    if (error == 0)
        return;
    fprintf(stderr, "gpu_bench: %s: %s\n", what, cudaGetErrorString((cudaError_t)error));
    exit(1);
}

static void *take(size_t bytes) {
    void *p = NULL;
    need(cudaMalloc(&p, bytes + 16), "cudaMalloc");
    need(cudaMemset(p, 0, bytes + 16), "cudaMemset");
    taken[n_taken++] = p;
    return p;
}

static void *put(const void *from, size_t bytes) {
    void *p = take(bytes);
    need(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    return p;
}

/* bf16 between -1 and 1, the same few MB again and again. */
static void *take_random(size_t bytes) {
    uint16_t *values = malloc(RANDOM_BYTES);
    if (!values)
        need(cudaErrorMemoryAllocation, "host memory");
    uint32_t state = 1;
    for (size_t i = 0; i < RANDOM_BYTES / 2; i++) { /* any sign and fraction, exponents -8 to -1 */
        state = state * 1664525u + 1013904223u;
        values[i] = (uint16_t)((state >> 16 & 0x807fu) | (119u + (state >> 13 & 7)) << 7);
    }
    unsigned char *p = take(bytes);
    for (size_t at = 0; at < bytes; at += RANDOM_BYTES) {
        const size_t n = bytes - at < RANDOM_BYTES ? bytes - at : RANDOM_BYTES;
        need(cudaMemcpy(p + at, values, n, cudaMemcpyHostToDevice), "cudaMemcpy");
    }
    free(values);
    return p;
}

static void release(void) {
    while (n_taken > 0)
        cudaFree(taken[--n_taken]);
}

typedef struct bench {
    cop_attention_args tree;
    cop_attention_paged_args paged;
    cudaEvent_t begin, end;
    void *flush;
    uint32_t repeats;
} bench;

static int compare(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The median in microseconds. */
static double time_launch(bench *b, bool paged) {
    float ms[REPEATS_MAX];
    for (uint32_t i = 0; i < b->repeats + 2; i++) { /* two to warm up */
        need(cudaMemset(b->flush, (int)i, FLUSH_BYTES), "flush");
        if (!paged)
            need(cudaMemset(b->tree.ticket, 0, sizeof(uint32_t)), "ticket");
        need(cudaEventRecord(b->begin, NULL), "event");
        need(paged ? cop_launch_attention_paged(&b->paged, NULL)
                   : cop_launch_attention_tree(&b->tree, NULL),
             paged ? "attention_paged" : "attention_tree");
        need(cudaEventRecord(b->end, NULL), "event");
        need(cudaEventSynchronize(b->end), "attention");
        need(cudaEventElapsedTime(&ms[i < 2 ? 0 : i - 2], b->begin, b->end), "event");
    }
    qsort(ms, b->repeats, sizeof *ms, compare);
    return ms[b->repeats / 2] * 1e3;
}

static uint32_t entries_end(const cop_plan_tables *t) {
    uint32_t end = 0;
    for (uint32_t i = 0; i < t->n_items; i++) {
        const uint32_t last = t->items[i].first_entry + t->items[i].n_entries;
        end = last > end ? last : end;
    }
    return end;
}

static void set_tree(bench *b, const cop_shape_plan *plan, const cop_attention_shape *s,
                     uint32_t n_rows) {
    const cop_plan_tables t = cop_shape_plan_tables(plan);
    const cop_attention_queue queue = {.n_items = t.n_items, .n_slots = t.n_slots};
    const size_t row = (size_t)s->n_heads * s->head_dim,
                 partials = (size_t)t.n_partials * s->n_heads;
    const size_t pool =
        (size_t)cop_shape_plan_pages(plan) * 2 * s->n_kv_heads * PAGE_TOKENS * s->head_dim;
    b->tree = (cop_attention_args){
        .segments = put(t.segments, cop_shape_plan_segments(plan) * sizeof *t.segments),
        .page_table = put(t.page_table, cop_shape_plan_page_table_words(plan) * 4ull),
        .tiles = put(t.tiles, t.n_tiles * sizeof *t.tiles),
        .entries = put(t.entries, entries_end(&t) * sizeof *t.entries),
        .limits = take(16),
        .items = put(t.items, t.n_items * sizeof *t.items),
        .slots = put(t.slots, t.n_slots * sizeof *t.slots),
        .queue = put(&queue, sizeof queue),
        .ticket = take(4),
        .counters =
            take(4 * cop_attention_counters(t.n_slots, s->head_dim, s->n_heads, s->n_kv_heads)),
        .pool = take_random(pool * 2),
        .q = take_random(n_rows * row * 2),
        .out = take(n_rows * row * 2),
        .lse = take((size_t)n_rows * s->n_heads * 4),
        .partial_o = take(partials * s->head_dim * 4),
        .partial_ml = take(partials * 8),
        .q_stride = row,
        .out_stride = row,
        .page_tokens = PAGE_TOKENS,
        .n_heads = s->n_heads,
        .n_kv_heads = s->n_kv_heads,
        .head_dim = s->head_dim,
        .scale_log2 = (float)(0x1.71547652b82fep+0 / sqrt(s->head_dim)),
        .n_slots = t.n_slots,
    };
}

/* The pages of each row's view, root first. */
static void set_paged(bench *b, const cop_shape_plan *plan, const cop_cost_tree *tree,
                      const cop_attention_shape *s) {
    const cop_plan_tables t = cop_shape_plan_tables(plan);
    cop_segment *rows = calloc(tree->n_rows, sizeof *rows);
    uint32_t *table = NULL, n = 0, longest = 1;
    for (int pass = 0; pass < 2; pass++) { /* count, then fill */
        if (pass == 1 && !(table = calloc(n + 1ull, sizeof *table)))
            need(cudaErrorMemoryAllocation, "host memory");
        n = 0;
        for (uint32_t r = 0; r < tree->n_rows; r++) {
            uint32_t path[COP_SHAPE_LEVELS_MAX], depth = 0, first = n;
            for (uint32_t at = cop_shape_plan_node_of_row(plan, r); at != COP_COST_ROOT;
                 at = tree->parent[at])
                path[depth++] = at;
            while (depth-- > 0) {
                const cop_segment *g = &t.segments[cop_shape_plan_segment_of(plan, path[depth])];
                for (uint32_t p = 0; p * PAGE_TOKENS < g->tokens; p++, n++)
                    if (table)
                        table[n] = t.page_table[g->page_table_offset + p];
            }
            rows[r] =
                (cop_segment){.page_table_offset = first, .tokens = (n - first) * PAGE_TOKENS};
            longest = rows[r].tokens > longest ? rows[r].tokens : longest;
        }
    }
    const uint32_t chunks = (longest + PAGED_CHUNK_TOKENS - 1) / PAGED_CHUNK_TOKENS;
    const size_t partials = (size_t)tree->n_rows * chunks * s->n_heads;
    const uint32_t parts = cop_attention_paged_parts(s->n_heads / s->n_kv_heads);
    b->paged = (cop_attention_paged_args){
        .rows = put(rows, tree->n_rows * sizeof *rows),
        .page_table = put(table, n * sizeof *table),
        .pool = b->tree.pool,
        .q = b->tree.q,
        .out = b->tree.out,
        .lse = b->tree.lse,
        .partial_o = take(partials * s->head_dim * 4),
        .partial_ml = take(partials * 8),
        .counters = take((size_t)tree->n_rows * s->n_kv_heads * parts * 4),
        .q_stride = b->tree.q_stride,
        .out_stride = b->tree.out_stride,
        .page_tokens = PAGE_TOKENS,
        .n_heads = s->n_heads,
        .n_kv_heads = s->n_kv_heads,
        .head_dim = s->head_dim,
        .scale_log2 = b->tree.scale_log2,
        .n_rows = tree->n_rows,
        .chunk_tokens = PAGED_CHUNK_TOKENS,
        .max_chunks = chunks,
    };
    free(rows);
    free(table);
}

static cop_status run_shape(bench *b, const cop_tree_shape *shape, uint32_t pair, uint32_t kv_heads,
                            const cop_gpu_figures *gpu) {
    cop_attention_shape s = {.n_heads = shape->heads[pair][0],
                             .n_kv_heads = shape->heads[pair][1],
                             .head_dim = shape->head_dim,
                             .kv_element_bytes = 2,
                             .kernel_parts = cop_attention_parts(
                                 shape->head_dim, shape->heads[pair][0] / shape->heads[pair][1])};
    const uint32_t group = s.n_heads / s.n_kv_heads;
    if (kv_heads && s.n_kv_heads > kv_heads) {
        s.n_kv_heads = kv_heads;
        s.n_heads = kv_heads * group;
    }
    const cop_shape_plan_options options = {.page_tokens = PAGE_TOKENS,
                                            .chunk_tokens = CHUNK_TOKENS,
                                            .chunk_tail_tokens = CHUNK_TOKENS,
                                            .group = group,
                                            .tile_slots =
                                                cop_attention_tile_slots(s.head_dim, group)};
    cop_shape_plan *plan;
    COP_TRY(cop_shape_plan_create(&shape->tree, &options, &plan));
    set_tree(b, plan, &s, shape->tree.n_rows);
    set_paged(b, plan, &shape->tree, &s);
    const double tree_us = time_launch(b, false), paged_us = time_launch(b, true);
    const uint64_t minimum = cop_cost_minimum_bytes(&shape->tree, &s);
    printf("{\"source\": \"%s\", \"branches\": %u, \"head_dim\": %u, \"heads\": [%u, %u], "
           "\"kv_minimum_bytes\": %llu, \"tree_us\": %.2f, \"paged_us\": %.2f, "
           "\"described_dram_share\": %.3f}\n",
           shape->source, shape->tree.n_rows, s.head_dim, s.n_heads, s.n_kv_heads,
           (unsigned long long)minimum, tree_us, paged_us,
           (double)minimum / (tree_us * 1e-6) / gpu->dram_bytes_per_s);
    fflush(stdout);
    release();
    cop_shape_plan_destroy(plan);
    return COP_OK;
}

static const char usage[] =
    "gpu_bench --shapes FILE.json --gpu FILE.json [--repeats 1..100] [--kv-heads N]\n";

int main(int argc, char **argv) {
    const char *shapes = NULL, *described = NULL;
    uint32_t kv_heads = 0;
    bench b = {.repeats = 20};
    for (int i = 1; i + 1 < argc; i += 2) {
        const uint32_t number = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        if (!strcmp(argv[i], "--shapes"))
            shapes = argv[i + 1];
        else if (!strcmp(argv[i], "--gpu"))
            described = argv[i + 1];
        else if (!strcmp(argv[i], "--repeats") && number > 0 && number <= REPEATS_MAX)
            b.repeats = number;
        else if (!strcmp(argv[i], "--kv-heads") && number > 0)
            kv_heads = number;
        else
            shapes = described = NULL;
    }
    if (!shapes || !described || argc % 2 == 0) {
        fputs(usage, stderr);
        return 2;
    }
    cop_shape_file *file = NULL;
    cop_gpu_figures gpu;
    cop_status status = cop_gpu_figures_load(described, &gpu);
    if (status == COP_OK)
        status = cop_shape_file_load(shapes, &file);
    if (status == COP_OK) {
        need(cudaEventCreate(&b.begin), "event");
        need(cudaEventCreate(&b.end), "event");
        need(cudaMalloc(&b.flush, FLUSH_BYTES), "cudaMalloc");
    }
    for (uint32_t i = 0; status == COP_OK && i < cop_shape_file_count(file); i++) {
        const cop_tree_shape *shape = cop_shape_file_shape(file, i);
        for (uint32_t h = 0; status == COP_OK && h < shape->n_heads && h < 2; h++)
            status = run_shape(&b, shape, h, kv_heads, &gpu);
    }
    cop_shape_file_destroy(file);
    if (status != COP_OK)
        fprintf(stderr, "gpu_bench: %s\n", cop_status_message());
    return cop_status_exit_code(status);
}
