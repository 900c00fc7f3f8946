/* Attention over the trees of a shape file: the tree kernel (with its own and with a separate
 * merge, narrow and wide tiles), and paged attention, against double precision straight from the
 * views.
 *
 * Pages are filled with NaN before tokens are stored, and so is the output: what a kernel should
 * not read or leaves out fails. Tolerance: at most twice the error of a plain bf16 implementation
 * plus two roundings of the largest output of the row (FlashAttention-3, section 4). Variants of
 * the tree kernel must agree in every bit. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_device.h"
#include "job/shape_plan.h"
#include "kernels/attention.h"
#include "kernels/step.h"
#include "ref/attention_double.h"

enum { PAGED_ROWS_MAX = 8, PAGED_CHUNK_TOKENS = 256 };
#define ORACLE_WORK                                                                                \
    4e7 /* products that the oracle may do for a case; beyond it, rows are picked                  \
         */

typedef struct world {
    const cop_tree_shape *shape;
    cop_shape_plan *plan;
    cop_plan_tables tables;
    uint32_t n_heads, n_kv_heads, d, page_tokens, n_rows;
    float **k, **v; /* of each tree node: [token][kv_head][d] */
    uint16_t *pool, *q;
    size_t pool_elements, q_elements;
    float scale_log2;
    char name[160];
} world;

typedef struct outcome {
    uint16_t *out;
    float *lse;
} outcome;

static void fill_node(world *w, uint32_t node, values *random) {
    const uint32_t tokens = w->shape->tree.tokens[node], row = w->n_kv_heads * w->d;
    w->k[node] = host_take((size_t)tokens * row, sizeof(float));
    w->v[node] = host_take((size_t)tokens * row, sizeof(float));
    const cop_segment *segment = &w->tables.segments[cop_shape_plan_segment_of(w->plan, node)];
    const uint32_t *pages = w->tables.page_table + segment->page_table_offset;
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t i = 0; i < row; i++) {
            const uint16_t k = to_bf16(next_uniform(random)), v = to_bf16(next_uniform(random));
            const uint32_t page = pages[t / w->page_tokens], at = t % w->page_tokens;
            const uint32_t head = i / w->d, e = i % w->d;
            w->k[node][(size_t)t * row + i] = from_bf16(k);
            w->v[node][(size_t)t * row + i] = from_bf16(v);
            w->pool[cop_pool_offset(page, 0, head, at, w->n_kv_heads, w->page_tokens, w->d) + e] =
                k;
            w->pool[cop_pool_offset(page, 1, head, at, w->n_kv_heads, w->page_tokens, w->d) + e] =
                v;
        }
    }
}

static void world_create(world *w, const cop_tree_shape *shape, uint32_t head_pair,
                         uint32_t page_tokens, uint32_t chunk_tokens, uint32_t max_kv_heads) {
    const uint32_t group = shape->heads[head_pair][0] / shape->heads[head_pair][1];
    *w = (world){.shape = shape, .d = shape->head_dim, .page_tokens = page_tokens};
    w->n_kv_heads = shape->heads[head_pair][1];
    w->n_kv_heads = w->n_kv_heads > max_kv_heads ? max_kv_heads : w->n_kv_heads;
    w->n_heads = w->n_kv_heads * group;
    w->n_rows = shape->tree.n_rows;
    w->scale_log2 = (float)(0x1.71547652b82fep+0 / sqrt(w->d));
    snprintf(w->name, sizeof w->name, "%.24s, %u rows, %llu tokens, d %u, heads %u/%u, pages of %u",
             shape->source, w->n_rows, (unsigned long long)shape->unique_tokens, w->d, w->n_heads,
             w->n_kv_heads, page_tokens);
    const cop_shape_plan_options options = {.page_tokens = page_tokens,
                                            .chunk_tokens = chunk_tokens,
                                            .chunk_tail_tokens = chunk_tokens,
                                            .group = group,
                                            .tile_slots = cop_attention_tile_slots(w->d, group)};
    if (cop_shape_plan_create(&shape->tree, &options, &w->plan) != COP_OK) {
        printf("FAILED %s: %s\n", w->name, cop_status_message());
        exit(1);
    }
    w->tables = cop_shape_plan_tables(w->plan);
    w->pool_elements =
        (size_t)cop_shape_plan_pages(w->plan) * 2 * w->n_kv_heads * page_tokens * w->d;
    w->pool = host_take(w->pool_elements, sizeof *w->pool);
    memset(w->pool, 0xff, w->pool_elements * sizeof *w->pool);
    w->k = host_take(shape->tree.n_nodes, sizeof *w->k);
    w->v = host_take(shape->tree.n_nodes, sizeof *w->v);
    values random = {.state = head_pair + 7 * page_tokens};
    for (uint32_t i = 0; i < shape->tree.n_nodes; i++)
        fill_node(w, i, &random);
    w->q_elements = (size_t)w->n_rows * w->n_heads * w->d;
    w->q = host_take(w->q_elements, sizeof *w->q);
    for (size_t i = 0; i < w->q_elements; i++)
        w->q[i] = to_bf16(2.0f * next_uniform(&random));
}

static void world_destroy(world *w) {
    for (uint32_t i = 0; i < w->shape->tree.n_nodes; i++) {
        free(w->k[i]);
        free(w->v[i]);
    }
    free(w->k);
    free(w->v);
    free(w->pool);
    free(w->q);
    cop_shape_plan_destroy(w->plan);
}

static uint32_t entries_end(const cop_plan_tables *t) {
    uint32_t end = 0;
    for (uint32_t i = 0; i < t->n_items; i++) {
        const uint32_t last = t->items[i].first_entry + t->items[i].n_entries;
        end = last > end ? last : end;
    }
    return end;
}

static cop_attention_args arguments(const world *w, uint32_t *n_counters) {
    const cop_plan_tables *t = &w->tables;
    const cop_attention_queue queue = {.n_items = t->n_items, .n_slots = t->n_slots};
    const size_t partials = (size_t)t->n_partials * w->n_heads;
    *n_counters = (uint32_t)cop_attention_counters(t->n_slots, w->d, w->n_heads, w->n_kv_heads);
    return (cop_attention_args){
        .segments = device_put(t->segments, cop_shape_plan_segments(w->plan) * sizeof *t->segments),
        .page_table = device_put(t->page_table,
                                 cop_shape_plan_page_table_words(w->plan) * sizeof *t->page_table),
        .tiles = device_put(t->tiles, t->n_tiles * sizeof *t->tiles),
        .entries = device_put(t->entries, entries_end(t) * sizeof *t->entries),
        .limits = device_take(16),
        .items = device_put(t->items, t->n_items * sizeof *t->items),
        .slots = device_put(t->slots, t->n_slots * sizeof *t->slots),
        .queue = device_put(&queue, sizeof queue),
        .ticket = device_put(NULL, sizeof(uint32_t)),
        .counters = device_put(NULL, *n_counters * sizeof(uint32_t)),
        .pool = device_put(w->pool, w->pool_elements * sizeof *w->pool),
        .q = device_put(w->q, w->q_elements * sizeof *w->q),
        .out = device_take(w->q_elements * sizeof(uint16_t)),
        .lse = device_take((size_t)w->n_rows * w->n_heads * sizeof(float)),
        .partial_o = device_take(partials * w->d * sizeof(float)),
        .partial_ml = device_take(partials * 2 * sizeof(float)),
        .q_stride = (uint64_t)w->n_heads * w->d,
        .out_stride = (uint64_t)w->n_heads * w->d,
        .page_tokens = w->page_tokens,
        .n_heads = w->n_heads,
        .n_kv_heads = w->n_kv_heads,
        .head_dim = w->d,
        .scale_log2 = w->scale_log2,
        .n_slots = t->n_slots,
    };
}

static outcome fetch(const world *w, const void *out, const void *lse) {
    outcome o = {.out = host_take(w->q_elements, sizeof *o.out),
                 .lse = host_take((size_t)w->n_rows * w->n_heads, sizeof *o.lse)};
    device_get(o.out, out, w->q_elements * sizeof *o.out);
    device_get(o.lse, lse, (size_t)w->n_rows * w->n_heads * sizeof *o.lse);
    return o;
}

static void outcome_free(outcome *o) {
    free(o->out);
    free(o->lse);
}

/* One launch (or two, with a separate merge) from a clean output; says what was left behind. */
static outcome run_tree(const world *w, cop_attention_args *args, uint32_t flags,
                        uint32_t n_counters, bool *clean) {
    args->flags = flags;
    device_fill(args->out, 0xff, w->q_elements * sizeof(uint16_t));
    device_fill(args->lse, 0xff, (size_t)w->n_rows * w->n_heads * sizeof(float));
    device_fill(args->ticket, 0, sizeof(uint32_t));
    device_expect(cop_launch_attention_tree(args, NULL), "attention_tree");
    if (flags & COP_ATTENTION_SEPARATE_MERGE)
        device_expect(cop_launch_attention_merge(args, NULL), "attention_merge");
    uint32_t *counters = host_take(n_counters, sizeof *counters);
    device_get(counters, args->counters, n_counters * sizeof *counters);
    for (uint32_t i = 0; i < n_counters; i++)
        *clean &= counters[i] == 0;
    free(counters);
    return fetch(w, args->out, args->lse);
}

typedef struct error_sums {
    double worst;     /* error / bound */
    double worst_lse; /* error / bound */
    uint32_t rows;
    bool ok;
} error_sums;

static uint32_t view_of(const world *w, uint32_t row, uint32_t kv_head, const float **k,
                        const float **v) {
    uint32_t path[COP_SHAPE_LEVELS_MAX], depth = 0, n = 0;
    for (uint32_t node = cop_shape_plan_node_of_row(w->plan, row); node != COP_COST_ROOT;
         node = w->shape->tree.parent[node])
        path[depth++] = node;
    while (depth-- > 0) {
        for (uint32_t t = 0; t < w->shape->tree.tokens[path[depth]]; t++, n++) {
            const size_t at = ((size_t)t * w->n_kv_heads + kv_head) * w->d;
            if (k) {
                k[n] = w->k[path[depth]] + at;
                v[n] = w->v[path[depth]] + at;
            }
        }
    }
    return n;
}

static double worse(double worst, double x) {
    return isnan(worst) || x <= worst ? worst : x; /* once NaN, always NaN */
}

static void check_head(const world *w, const outcome *o, uint32_t row, uint32_t head,
                       const float **k, const float **v, error_sums *sums) {
    const uint32_t kv_head = head / (w->n_heads / w->n_kv_heads), d = w->d;
    const size_t at = ((size_t)row * w->n_heads + head) * d;
    const ref_view view = {
        .k = k, .v = v, .tokens = view_of(w, row, kv_head, k, v), .d = d, .scale = 1 / sqrt(d)};
    double exact[256], largest = 0, plain_error = 0;
    float q[256], plain[256];
    for (uint32_t i = 0; i < d; i++)
        q[i] = from_bf16(w->q[at + i]);
    const double lse = ref_attention_double(&view, q, exact);
    ref_attention_plain_bf16(&view, q, plain);
    for (uint32_t i = 0; i < d; i++) {
        largest = fmax(largest, fabs(exact[i]));
        if (view.tokens > 0)
            plain_error = fmax(plain_error, fabs((double)plain[i] - exact[i]));
    }
    const double rounding =
        largest > 0 ? ldexp(1, ilogb(largest) - 8) : 0; /* half a step of bf16 */
    const double bound = 2 * plain_error + 2 * rounding;
    for (uint32_t i = 0; i < d; i++) {
        const double error = fabs((double)from_bf16(o->out[at + i]) - exact[i]);
        sums->ok &= error <= bound; /* false for NaN */
        sums->worst = bound > 0 ? worse(sums->worst, error / bound) : sums->worst;
    }
    const double is = o->lse[(size_t)row * w->n_heads + head];
    const double lse_bound = 1e-3 + 1e-5 * fabs(lse), lse_error = is == lse ? 0 : fabs(is - lse);
    sums->ok &= lse_error <= lse_bound;
    sums->worst_lse = worse(sums->worst_lse, lse_error / lse_bound);
}

static error_sums check_rows(const world *w, const outcome *o, const uint32_t *rows, uint32_t n) {
    uint32_t most = 0;
    error_sums sums = {.rows = n, .ok = true};
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t tokens = view_of(w, rows[i], 0, NULL, NULL);
        most = tokens > most ? tokens : most;
    }
    const float **k = host_take(most, sizeof *k), **v = host_take(most, sizeof *v);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t head = 0; head < w->n_heads; head++)
            check_head(w, o, rows[i], head, k, v, &sums);
    free(k);
    free(v);
    return sums;
}

/* Rows spread evenly, the first and the last among them, as many as the oracle can afford. */
static uint32_t pick_rows(const world *w, uint32_t at_most, uint32_t *rows) {
    const double work = (double)w->shape->unshared_tokens * w->n_heads * w->d;
    double n = work > ORACLE_WORK ? w->n_rows * (ORACLE_WORK / work) : w->n_rows;
    n = fmin(fmax(n, 3), fmin(w->n_rows, at_most));
    const uint32_t count = (uint32_t)n;
    for (uint32_t i = 0; i < count; i++)
        rows[i] = count > 1 ? (uint32_t)((uint64_t)i * (w->n_rows - 1) / (count - 1)) : 0;
    return count;
}

static bool same_bits(const world *w, const outcome *a, const outcome *b) {
    return memcmp(a->out, b->out, w->q_elements * sizeof *a->out) == 0 &&
           memcmp(a->lse, b->lse, (size_t)w->n_rows * w->n_heads * sizeof *a->lse) == 0;
}

static void check_tree(const world *w) {
    static const struct {
        uint32_t flags;
        const char *name;
    } variants[] = {{0, "again"},
                    {COP_ATTENTION_WIDE_ONLY, "wide tiles"},
                    {COP_ATTENTION_SEPARATE_MERGE, "separate merge"}};
    uint32_t n_counters;
    bool clean = true;
    cop_attention_args args = arguments(w, &n_counters);
    outcome o = run_tree(w, &args, 0, n_counters, &clean);
    uint32_t *rows = host_take(w->n_rows, sizeof *rows);
    const error_sums sums = check_rows(w, &o, rows, pick_rows(w, w->n_rows, rows));
    report_case(sums.ok && clean, "tree   %s: %u items, %u rows checked, error %.2f, lse %.2f%s",
                w->name, w->tables.n_items * w->n_kv_heads, sums.rows, sums.worst, sums.worst_lse,
                clean ? "" : ", counters left dirty");
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        bool left_clean = true;
        outcome other = run_tree(w, &args, variants[i].flags, n_counters, &left_clean);
        if (!left_clean || !same_bits(w, &o, &other))
            report_case(false, "tree   %s: %s %s", w->name, variants[i].name,
                        left_clean ? "gives other bits" : "left counters dirty");
        outcome_free(&other);
    }
    free(rows);
    outcome_free(&o);
    device_release();
}

/* Copies a row's view into pages of its own; returns its length. */
static uint32_t own_pages(const world *w, uint32_t row, uint16_t *pool, uint32_t first_page) {
    uint32_t tokens = 0;
    const uint32_t most = view_of(w, row, 0, NULL, NULL);
    const float **k = host_take(most, sizeof *k), **v = host_take(most, sizeof *v);
    for (uint32_t head = 0; head < w->n_kv_heads; head++) {
        tokens = view_of(w, row, head, k, v);
        for (uint32_t t = 0; t < tokens; t++) {
            const uint32_t page = first_page + t / w->page_tokens, at = t % w->page_tokens;
            uint16_t *to_k =
                pool + cop_pool_offset(page, 0, head, at, w->n_kv_heads, w->page_tokens, w->d);
            uint16_t *to_v =
                pool + cop_pool_offset(page, 1, head, at, w->n_kv_heads, w->page_tokens, w->d);
            for (uint32_t i = 0; i < w->d; i++) {
                to_k[i] = to_bf16(k[t][i]);
                to_v[i] = to_bf16(v[t][i]);
            }
        }
    }
    free(k);
    free(v);
    return tokens;
}

typedef struct paged_rows {
    cop_segment rows[PAGED_ROWS_MAX];
    uint32_t picked[PAGED_ROWS_MAX], n, n_pages, max_chunks;
    uint32_t *table;
    uint16_t *pool, *q;
    size_t pool_elements;
} paged_rows;

static paged_rows paged_create(const world *w) {
    paged_rows p = {.max_chunks = 1};
    uint32_t *all = host_take(w->n_rows, sizeof *all);
    p.n = pick_rows(w, PAGED_ROWS_MAX, all);
    for (uint32_t i = 0; i < p.n; i++) {
        const uint32_t tokens = view_of(w, all[i], 0, NULL, NULL);
        const uint32_t chunks = (tokens + PAGED_CHUNK_TOKENS - 1) / PAGED_CHUNK_TOKENS;
        p.picked[i] = all[i];
        p.rows[i] = (cop_segment){.page_table_offset = p.n_pages, .tokens = tokens};
        p.n_pages += (tokens + w->page_tokens - 1) / w->page_tokens;
        p.max_chunks = chunks > p.max_chunks ? chunks : p.max_chunks;
    }
    free(all);
    p.pool_elements = (size_t)p.n_pages * 2 * w->n_kv_heads * w->page_tokens * w->d;
    p.pool = host_take(p.pool_elements, sizeof *p.pool);
    memset(p.pool, 0xff, p.pool_elements * sizeof *p.pool);
    p.table = host_take(p.n_pages, sizeof *p.table);
    p.q = host_take(w->q_elements, sizeof *p.q);
    const size_t row_elements = (size_t)w->n_heads * w->d;
    for (uint32_t i = 0; i < p.n; i++) {
        own_pages(w, p.picked[i], p.pool, p.rows[i].page_table_offset);
        memcpy(p.q + i * row_elements, w->q + p.picked[i] * row_elements,
               row_elements * sizeof *p.q);
    }
    for (uint32_t i = 0; i < p.n_pages; i++)
        p.table[i] = i;
    return p;
}

/* A few rows, each with its view in pages of its own. */
static void check_paged(const world *w) {
    paged_rows p = paged_create(w);
    const size_t row_elements = (size_t)w->n_heads * w->d, partials = (size_t)p.n * p.max_chunks;
    const uint64_t counters =
        (uint64_t)p.n * w->n_kv_heads * cop_attention_paged_parts(w->n_heads / w->n_kv_heads);
    const cop_attention_paged_args args = {
        .rows = device_put(p.rows, p.n * sizeof *p.rows),
        .page_table = device_put(p.table, p.n_pages * sizeof *p.table),
        .pool = device_put(p.pool, p.pool_elements * sizeof *p.pool),
        .q = device_put(p.q, p.n * row_elements * sizeof *p.q),
        .out = device_take(w->q_elements * sizeof(uint16_t)),
        .lse = device_take((size_t)w->n_rows * w->n_heads * sizeof(float)),
        .partial_o = device_take(partials * w->n_heads * w->d * sizeof(float)),
        .partial_ml = device_take(partials * w->n_heads * 2 * sizeof(float)),
        .counters = device_put(NULL, counters * sizeof(uint32_t)),
        .q_stride = row_elements,
        .out_stride = row_elements,
        .page_tokens = w->page_tokens,
        .n_heads = w->n_heads,
        .n_kv_heads = w->n_kv_heads,
        .head_dim = w->d,
        .scale_log2 = w->scale_log2,
        .n_rows = p.n,
        .chunk_tokens = PAGED_CHUNK_TOKENS,
        .max_chunks = p.max_chunks,
    };
    device_expect(cop_launch_attention_paged(&args, NULL), "attention_paged");
    outcome packed = fetch(w, args.out, args.lse), o = fetch(w, args.out, args.lse);
    for (uint32_t i = p.n; i-- > 0;) { /* back to where the rows stand */
        memcpy(o.out + p.picked[i] * row_elements, packed.out + i * row_elements,
               row_elements * sizeof *o.out);
        memcpy(o.lse + (size_t)p.picked[i] * w->n_heads, packed.lse + (size_t)i * w->n_heads,
               w->n_heads * sizeof *o.lse);
    }
    const error_sums sums = check_rows(w, &o, p.picked, p.n);
    report_case(sums.ok, "paged  %s: %u rows of up to %u chunks, error %.2f, lse %.2f", w->name,
                p.n, p.max_chunks, sums.worst, sums.worst_lse);
    outcome_free(&packed);
    outcome_free(&o);
    free(p.pool);
    free(p.table);
    free(p.q);
    device_release();
}

void check_attention(const cop_tree_shape *shape, uint32_t head_pair, uint32_t page_tokens,
                     uint32_t chunk_tokens, uint32_t max_kv_heads) {
    world w;
    const uint32_t group = shape->heads[head_pair][0] / shape->heads[head_pair][1];
    const char *why = cop_attention_unsupported(shape->head_dim, group, 1, page_tokens);
    if (why) {
        report_case(false, "tree   %s, d %u, %u query heads a KV head: %s", shape->source,
                    shape->head_dim, group, why);
        return;
    }
    world_create(&w, shape, head_pair, page_tokens, chunk_tokens, max_kv_heads);
    check_tree(&w);
    check_paged(&w);
    world_destroy(&w);
}
