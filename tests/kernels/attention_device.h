/* A world of tests/attention_world.h on the emulated device: its tables, pool and buffers, one
 * launch after another, and what must hold after each. Included by the attention kernels' tests.
 *
 * Every row must have the bits of fold_reference.c, whose order of operations the emulated mma
 * shares; so any two ways to run a row are compared by comparing each with that. */
#pragma once

#include <sys/mman.h>

#include "attention_world.h"
#include "emulate/emulate.h"
#include "kernels/attention.h"
#include "kernels/cost.h"
#include "plan_upload.h"

typedef struct device {
    cop_attention_args args;
    uint32_t n_segments, n_rows, n_partials;
    uint64_t n_counters;
    uint16_t *pool, *q, *out;
    float *lse;
    uint32_t *ticket, *counters;
    uint64_t stride;  /* of rows of q and out */
    size_t far_bytes; /* of a pool that is mapped, not allocated */
} device;

/* What a launch got wrong; "" when nothing. */
typedef struct verdict {
    char text[400];
} verdict;

static uint16_t *pool_at(const device *g, uint32_t page, uint32_t is_v, uint32_t head,
                         uint32_t token) {
    const cop_attention_args *a = &g->args;
    return g->pool +
           ((((uint64_t)page * 2 + is_v) * a->n_kv_heads + head) * a->page_tokens + token) *
               a->head_dim;
}

/* K and V of every segment; all else is NaN, so that a token too many is seen. */
static void fill_device_pool(const world *w, const tables *t, device *g) {
    const uint32_t d = w->d, page_tokens = t->view.page_tokens;
    for (uint32_t s = 0; s < w->n_segments; s++)
        for (uint32_t i = 0; i < w->tokens[s]; i++)
            for (uint32_t h = 0; h < w->n_kv_heads; h++) {
                const uint32_t page =
                    t->page_table[t->segments[s].page_table_offset + i / page_tokens];
                uint16_t *k = pool_at(g, page, 0, h, i % page_tokens);
                uint16_t *v = pool_at(g, page, 1, h, i % page_tokens);
                const size_t at = ((size_t)i * w->n_kv_heads + h) * d;
                for (uint32_t x = 0; x < d; x++) {
                    k[x] = cop_bf16_from_f32(w->k[s][at + x]);
                    v[x] = cop_bf16_from_f32(w->v[s][at + x]);
                }
            }
}

static uint32_t most_pages(const world *w, uint32_t page_tokens) {
    uint32_t n = 1;
    for (uint32_t s = 0; s < w->n_segments; s++)
        n += (w->tokens[s] + page_tokens - 1) / page_tokens;
    return n;
}

/* A pool of far more pages than are touched: address space without memory. */
static uint16_t *map_pool(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    CHECK(p != MAP_FAILED);
    CHECK(emu_register(p, bytes, "pool", EMU_INPUT));
    return p;
}

static inline void device_release_far(device *g) {
    emu_unregister(g->pool);
    munmap(g->pool, g->far_bytes);
}

/* Base-2 logarithm of a row's sum, by fold_reference.c over the same chunks as expect_row's. */
static float expect_lse(const world *w, const view *v, uint32_t head) {
    enum { MAX_CHUNKS = 64 };
    static float o[MAX_CHUNKS][256], m[MAX_CHUNKS], l[MAX_CHUNKS], out[256];
    const uint32_t kv_head = head / (w->n_heads / w->n_kv_heads), row = w->n_kv_heads * w->d;
    const float *q = w->q + ((size_t)v->row * w->n_heads + head) * w->d;
    uint32_t n = 0, fill = 0;
    bool open = false;
    cop_fold fold;
    for (uint32_t i = 0; i < v->n; i++) {
        const uint32_t segment = v->segment[i], seen = seen_tokens(w, v, i);
        for (uint32_t t = 0; t < seen; t += 64) {
            const uint32_t tokens = seen - t < 64 ? seen - t : 64;
            const size_t at = (size_t)t * row + kv_head * w->d;
            if (!open)
                cop_fold_reset(&fold, o[n], w->d, scale_of(w), true);
            cop_fold_leaf(&fold, q, w->k[segment] + at, w->v[segment] + at, tokens, row, row);
            m[n] = fold.m;
            l[n] = cop_fold_sum(&fold);
            open = !chunk_cut(w, &fill, tokens, t + tokens == w->tokens[segment]);
            n += !open;
        }
    }
    return cop_fold_merge(o[0], 256, m, l, n + open, w->d, scale_of(w), out);
}

/* n_pages = 0: as many as the world needs. */
static void device_create_at(const world *w, const tables *t, uint32_t n_pages, device *g) {
    emu_forget_all();
    emu_reset_counts();
    memset(g, 0, sizeof *g);
    const uint32_t d = w->d;
    const bool far = n_pages != 0;
    n_pages = far ? n_pages : most_pages(w, t->view.page_tokens);
    g->n_segments = w->n_segments;
    g->n_rows = w->n_rows;
    g->n_partials = t->view.n_partials;
    g->stride = (uint64_t)w->n_heads * d + 8; /* rows need not touch */
    cop_attention_args *a = &g->args;
    *a = (cop_attention_args){.page_tokens = t->view.page_tokens, .n_heads = w->n_heads};
    a->n_kv_heads = w->n_kv_heads;
    a->head_dim = d;
    a->segments = upload(t->segments, w->n_segments * sizeof *t->segments, "tables");
    a->page_table = upload(t->page_table, sizeof t->page_table, "tables");
    a->tiles = upload(t->tiles, t->view.n_tiles * sizeof *t->tiles, "tables");
    a->entries = upload(t->entries, t->n_entries * sizeof *t->entries, "tables");
    a->limits = upload(t->limits, t->n_limits * sizeof *t->limits, "tables");
    a->items = upload(t->items, t->view.n_items * sizeof *t->items, "tables");
    cop_slot slots[MAX_SLOTS];
    memcpy(slots, t->slots, sizeof slots);
    for (uint32_t i = 0; i < t->view.n_slots; i++)
        if (slots[i].row < 0)
            slots[i].n_partials = 1; /* of a step that it did not sit out */
    a->slots = upload(slots, t->view.n_slots * sizeof *slots, "tables");
    const cop_attention_queue queue = {t->view.n_items, t->view.n_slots};
    a->queue = upload(&queue, sizeof queue, "tables");
    a->ticket = g->ticket = emu_alloc(4, "ticket", EMU_OUTPUT);
    g->n_counters = cop_attention_counters(t->view.n_slots, d, w->n_heads, w->n_kv_heads);
    a->counters = g->counters = emu_alloc(g->n_counters * 4 + 4, "counters", EMU_OUTPUT);
    memset(g->counters, 0, g->n_counters * 4);
    const size_t bytes = 4ull * n_pages * w->n_kv_heads * t->view.page_tokens * d;
    g->far_bytes = far ? bytes : 0;
    a->pool = g->pool = far ? map_pool(bytes) : emu_alloc(bytes, "pool", EMU_INPUT);
    fill_device_pool(w, t, g);
    a->q = g->q = emu_alloc((w->n_rows + 1) * g->stride * 2, "q", EMU_INPUT);
    for (uint32_t r = 0; r < w->n_rows; r++)
        for (uint32_t x = 0; x < w->n_heads * d; x++)
            g->q[r * g->stride + x] = cop_bf16_from_f32(w->q[(size_t)r * w->n_heads * d + x]);
    a->out = g->out = emu_alloc((w->n_rows + 1) * g->stride * 2, "out", EMU_WORKSPACE);
    a->lse = g->lse = emu_alloc(((size_t)w->n_rows + 1) * w->n_heads * 4, "lse", EMU_WORKSPACE);
    const size_t partials = ((size_t)g->n_partials + 1) * w->n_heads;
    a->partial_o = emu_alloc(partials * d * 4, "partials", EMU_WORKSPACE);
    a->partial_ml = emu_alloc(partials * 8, "partials", EMU_WORKSPACE);
    a->q_stride = a->out_stride = g->stride;
    a->scale_log2 = scale_of(w);
    a->n_slots = t->view.n_slots;
    CHECK(a->ticket && a->counters && a->pool && a->q && a->out && a->lse && a->partial_o &&
          a->partial_ml);
}

static inline void device_create(const world *w, const tables *t, device *g) {
    device_create_at(w, t, 0, g);
}

/* One layer: the tree kernel and, where it is asked for, the merge. */
static bool device_run(device *g, uint32_t flags, uint32_t n_blocks, verdict *bad) {
    emu_poison();
    *g->ticket = 0;
    g->args.flags = flags;
    g->args.n_blocks = n_blocks;
    int error = cop_launch_attention_tree(&g->args, NULL);
    if (error == 0 && flags & COP_ATTENTION_SEPARATE_MERGE)
        error = cop_launch_attention_merge(&g->args, NULL);
    bad->text[0] = 0;
    if (error != 0)
        snprintf(bad->text, sizeof bad->text, "error %d: %.300s", error, emu_report()->text);
    return error == 0;
}

/* Every element that a row owns has the fold's bits, and nothing else was written. */
static bool device_check(const world *w, const device *g, verdict *bad) {
    const uint32_t n = w->n_heads * w->d;
    for (uint32_t r = 0; r < w->n_rows; r++)
        for (uint32_t x = 0; x < g->stride; x++) {
            const uint16_t is = g->out[r * g->stride + x];
            const uint16_t wanted =
                x < n ? cop_bf16_from_f32(w->expected[(size_t)r * n + x]) : UINT16_MAX;
            if (is == wanted)
                continue;
            snprintf(bad->text, sizeof bad->text,
                     "d %u, %u/%u heads, page %u: row %u head %u element %u is %a, not %a", w->d,
                     w->n_heads, w->n_kv_heads, g->args.page_tokens, r, x / w->d, x % w->d,
                     (double)cop_f32_from_bf16(is), (double)cop_f32_from_bf16(wanted));
            return false;
        }
    for (uint32_t s = 0; s < w->n_views; s++)
        for (uint32_t h = 0; w->views[s].row >= 0 && h < w->n_heads; h++) {
            const float is = g->lse[(size_t)w->views[s].row * w->n_heads + h];
            const float wanted = expect_lse(w, &w->views[s], h);
            if (memcmp(&is, &wanted, sizeof is) == 0)
                continue;
            snprintf(bad->text, sizeof bad->text,
                     "d %u, %u/%u heads: row %d head %u: lse %a, not %a", w->d, w->n_heads,
                     w->n_kv_heads, w->views[s].row, h, (double)is, (double)wanted);
            return false;
        }
    for (uint64_t i = 0; i < g->n_counters; i++)
        if (g->counters[i] != 0) {
            snprintf(bad->text, sizeof bad->text, "counter %llu is left at %u",
                     (unsigned long long)i, g->counters[i]);
            return false;
        }
    return true;
}

static bool same_bytes(const char *what, uint64_t counted, uint64_t predicted, verdict *bad) {
    if (counted == predicted)
        return true;
    snprintf(bad->text, sizeof bad->text, "%s: %llu bytes counted, %llu predicted", what,
             (unsigned long long)counted, (unsigned long long)predicted);
    return false;
}

/* The counts of one launch (since emu_reset_counts) against cost.h. */
static inline bool device_check_bytes(const world *w, const tables *t, const device *g,
                                      verdict *bad) {
    const cop_attention_shape sizes = {.n_heads = w->n_heads,
                                       .n_kv_heads = w->n_kv_heads,
                                       .head_dim = w->d,
                                       .kv_element_bytes = 2,
                                       .kernel_parts =
                                           cop_attention_parts(w->d, w->n_heads / w->n_kv_heads)};
    const uint32_t n_pages = most_pages(w, t->view.page_tokens);
    uint64_t *seen = malloc(cop_cost_scratch_words(w->n_segments, n_pages) * sizeof *seen);
    CHECK(seen);
    cop_attention_cost cost;
    cop_cost_attention(&t->view, w->n_segments, &sizes, seen, &cost);
    free(seen);
    emu_buffer_counts pool, q, out, partials;
    CHECK(emu_counts("pool", &pool) && emu_counts("q", &q) && emu_counts("out", &out) &&
          emu_counts("partials", &partials));
    (void)g;
    return same_bytes("KV loads", pool.load_bytes, cost.kv_load_bytes, bad) &&
           same_bytes("KV first touches", pool.first_load_bytes, cost.kv_first_bytes, bad) &&
           same_bytes("partials", partials.load_bytes + partials.store_bytes, cost.partial_bytes,
                      bad) &&
           same_bytes("queries", q.load_bytes, cost.query_bytes, bad) &&
           same_bytes("output", out.store_bytes, cost.output_bytes, bad) &&
           same_bytes("output read", out.load_bytes, 0, bad);
}

/* ---- worlds of the kernels' shapes ---- */

enum { TILE_ROWS = 16 }; /* of a narrow tile: a ratio that does not divide it leaves holes */

typedef struct shape {
    uint32_t d, n_kv_heads, group;
    uint32_t rule; /* of chunks */
    float amplitude;
} shape;

/* As attention_world.h grows them, but shorter: an emulated product costs 4 us a warp. */
static void grow_world(world *w, const shape *s) {
    static const uint32_t rules[][2] = {{64, 64}, {128, 64}, {192, 128}, {1024, 1024}};
    *w = (world){.bf16 = true, .n_kv_heads = s->n_kv_heads, .d = s->d};
    w->n_heads = s->n_kv_heads * s->group;
    w->chunk_tokens = rules[s->rule][0];
    w->chunk_tail_tokens = rules[s->rule][1];
    w->n_segments = 2 + below(5);
    for (uint32_t x = 0; x < w->n_segments; x++) {
        w->tokens[x] = below(8) ? 1 + below(below(3) ? 70 : 200) : 0;
        if (below(5) == 0)
            w->tokens[x] = w->tokens[x] / 64 * 64;
        const size_t n = (size_t)w->tokens[x] * w->n_kv_heads * w->d;
        w->k[x] = random_values(n, true, s->amplitude);
        w->v[x] = random_values(n, true, 1.0f);
        coverage[EMPTY_SEGMENT] += w->tokens[x] == 0;
    }
    grow_views(w);
    fill_world(w, TILE_ROWS);
}
