/* The attention kernels under the real plan: random traces of forks, joins and prefill, each row
 * against double precision straight from its view, and the same bits however the rows are batched,
 * tiled and paged. */
#include <math.h>

#include "check.h"
#include "emulate/emulate.h"
#include "kernels/attention.h"
#include "kv/fold_reference.h"
#include "ref/attention_double.h"
#include "ref/tree_generator.h"

enum { D = 64, HEADS = 3, MAX_ROWS = 4096 };

static void *upload(const void *from, size_t bytes, const char *name) {
    void *p = emu_alloc(bytes ? bytes : 16, name, EMU_INPUT);
    CHECK(p);
    if (bytes)
        memcpy(p, from, bytes);
    return p;
}

/* K, V and Q are functions of what they stand for, so that every replay meets the same values. */
static float value_of(uint32_t kind, uint32_t a, uint32_t b, uint32_t x) {
    uint64_t z = ((uint64_t)kind << 56 ^ (uint64_t)a << 40 ^ (uint64_t)b << 16 ^ x) * 2 + 1;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    const float y = (float)((z >> 40) & 0xffff) / 32768.0f - 1.0f;
    return cop_f32_from_bf16(cop_bf16_from_f32(kind == 2 ? 2 * y : y));
}

static uint32_t table_entries(const cop_plan_tables *p, uint32_t *n_limits) {
    uint32_t n = 0;
    *n_limits = 0;
    for (uint32_t i = 0; i < p->n_items; i++) {
        const uint32_t end = p->items[i].first_entry + p->items[i].n_entries;
        n = end > n ? end : n;
        for (uint32_t e = p->items[i].first_entry; e < end; e++) {
            const uint32_t slots = p->tiles[p->items[i].tile].n_slots;
            if (p->entries[e].limits >= 0 && (uint32_t)p->entries[e].limits + slots > *n_limits)
                *n_limits = (uint32_t)p->entries[e].limits + slots;
        }
    }
    return n;
}

/* The view of a row: pointers to its tokens' K and V. */
typedef struct row_view {
    float *k, *v;
    const float **k_at, **v_at;
    uint32_t n;
} row_view;

static void gather(const tree_trace *trace, const tree_replay *replay, const tree_batch *b,
                   uint32_t row, row_view *out) {
    const tree_view *view = &trace->views[b->view[row]];
    uint32_t n = 0;
    for (uint32_t pass = 0; pass < 2; pass++) {
        n = 0;
        for (uint32_t i = 0; i < view->count; i++) {
            const uint32_t handle = trace->paths[view->first + i];
            const bool own = i + 1 == view->count;
            const uint32_t tokens = own ? b->offset[row] + 1 : tree_replay_tokens(replay, handle);
            for (uint32_t t = 0; t < tokens; t++, n++)
                for (uint32_t x = 0; pass && x < D; x++) {
                    out->k[n * D + x] = value_of(0, handle, t, x);
                    out->v[n * D + x] = value_of(1, handle, t, x);
                }
        }
        if (pass == 0) {
            out->k = malloc((n + 1) * D * sizeof(float));
            out->v = malloc((n + 1) * D * sizeof(float));
            out->k_at = malloc((n + 1) * sizeof(float *));
            out->v_at = malloc((n + 1) * sizeof(float *));
            CHECK(out->k && out->v && out->k_at && out->v_at);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        out->k_at[i] = out->k + i * D;
        out->v_at[i] = out->v + i * D;
    }
    out->n = n;
}

/* Error <= 2 x a plain bf16 implementation's + 2 roundings, over the row; NaN never passes. */
static void check_row(const tree_trace *trace, const tree_replay *replay, const tree_batch *b,
                      uint32_t row, const uint16_t *out) {
    row_view view;
    gather(trace, replay, b, row, &view);
    for (uint32_t h = 0; h < HEADS; h++) {
        float q[D], plain[D];
        double exact[D], worst = 0, allowed = 0;
        for (uint32_t x = 0; x < D; x++)
            q[x] = value_of(2, b->id[row], h, x);
        const ref_view oracle = {view.k_at, view.v_at, view.n, D, 1 / sqrt(D)};
        ref_attention_double(&oracle, q, exact);
        ref_attention_plain_bf16(&oracle, q, plain);
        for (uint32_t x = 0; x < D; x++) {
            allowed =
                fmax(allowed, 2 * fabs((double)plain[x] - exact[x]) + 2 * fabs(exact[x]) / 256);
            worst = fmax(worst, fabs((double)cop_f32_from_bf16(out[h * D + x]) - exact[x]));
            CHECK(!isnan(cop_f32_from_bf16(out[h * D + x])));
        }
        CHECK(worst <= allowed);
    }
    free(view.k);
    free(view.v);
    free(view.k_at);
    free(view.v_at);
}

static void run_batch(const tree_trace *trace, const tree_replay *replay, const tree_batch *b,
                      uint32_t variation, uint16_t *out) {
    const cop_plan_tables *p = &b->plan;
    const cop_kv_options kv = tree_replay_kv_options(replay);
    uint32_t n_limits, page_entries = 1;
    const uint32_t n_entries = table_entries(p, &n_limits);
    emu_forget_all();
    emu_reset_counts();
    cop_attention_args a = {.page_tokens = p->page_tokens,
                            .n_heads = HEADS,
                            .n_kv_heads = 1,
                            .head_dim = D,
                            .scale_log2 = (float)(0x1.71547652b82fep+0 / sqrt(D)),
                            .n_blocks = 3,
                            .q_stride = HEADS * D,
                            .out_stride = HEADS * D};
    uint16_t *pool = emu_alloc(4ull * kv.n_pages * p->page_tokens * D, "pool", EMU_INPUT);
    CHECK(pool);
    for (uint32_t v = 0; v < trace->n_views; v++) {
        const uint32_t segment = tree_replay_segment(replay, v);
        if (trace->views[v].stitched)
            continue;
        bool used = false; /* a row of this batch sees it, so it is live */
        for (uint32_t r = 0; r < b->n_rows && !used; r++) {
            const tree_view *view = &trace->views[b->view[r]];
            for (uint32_t i = 0; i < view->count; i++)
                used = used || trace->paths[view->first + i] == v;
        }
        if (!used)
            continue;
        const uint32_t at = p->segments[segment].page_table_offset;
        const uint32_t tokens = p->segments[segment].tokens;
        const uint32_t end = at + (tokens + p->page_tokens - 1) / p->page_tokens;
        page_entries = end > page_entries ? end : page_entries;
        for (uint32_t t = 0; t < tokens; t++) {
            const uint64_t page = p->page_table[at + t / p->page_tokens];
            for (uint32_t x = 0; x < D; x++) {
                uint16_t *k = pool + (page * 2 * p->page_tokens + t % p->page_tokens) * D + x;
                k[0] = cop_bf16_from_f32(value_of(0, v, t, x));
                k[p->page_tokens * D] = cop_bf16_from_f32(value_of(1, v, t, x));
            }
        }
    }
    a.segments = upload(p->segments, kv.max_segments * sizeof *p->segments, "tables");
    a.page_table = upload(p->page_table, page_entries * 4, "tables");
    a.tiles = upload(p->tiles, p->n_tiles * sizeof *p->tiles, "tables");
    a.entries = upload(p->entries, n_entries * sizeof *p->entries, "tables");
    a.limits = upload(p->limits, n_limits * 4, "tables");
    a.items = upload(p->items, p->n_items * sizeof *p->items, "tables");
    a.slots = upload(p->slots, p->n_slots * sizeof *p->slots, "tables");
    const cop_attention_queue queue = {p->n_items, p->n_slots};
    a.queue = upload(&queue, sizeof queue, "tables");
    a.ticket = emu_alloc(4, "ticket", EMU_OUTPUT);
    a.counters = emu_alloc(p->n_slots * 4 + 4, "counters", EMU_OUTPUT);
    *a.ticket = 0;
    memset(a.counters, 0, p->n_slots * 4);
    uint16_t *q = emu_alloc((size_t)b->n_rows * HEADS * D * 2, "q", EMU_INPUT);
    for (uint32_t r = 0; r < b->n_rows; r++)
        for (uint32_t x = 0; x < HEADS * D; x++)
            q[r * HEADS * D + x] = cop_bf16_from_f32(value_of(2, b->id[r], x / D, x % D));
    a.pool = pool;
    a.q = q;
    a.out = emu_alloc((size_t)b->n_rows * HEADS * D * 2, "out", EMU_WORKSPACE);
    a.partial_o = emu_alloc(((size_t)p->n_partials + 1) * HEADS * D * 4, "partials", EMU_WORKSPACE);
    a.partial_ml = emu_alloc(((size_t)p->n_partials + 1) * HEADS * 8, "partials", EMU_WORKSPACE);
    emu_vary(variation);
    const int error = cop_launch_attention_tree(&a, NULL);
    if (error)
        fprintf(stderr, "error %d: %s\n", error, emu_report()->text);
    CHECK_EQ(error, 0);
    memcpy(out, a.out, (size_t)b->n_rows * HEADS * D * 2);
}

static void test_rows_of_random_trees_do_not_depend_on_their_batch(void) {
    static uint16_t first[MAX_ROWS][HEADS * D], out[MAX_ROWS * HEADS * D];
    tree_coverage seen = {0};
    const uint32_t n_traces = check_effort(28, 4);
    uint32_t rows = 0;
    for (uint32_t i = 0; i < n_traces; i++) {
        tree_trace *trace = tree_trace_create(&(tree_options){.seed = 100 + i,
                                                              .max_steps = i % 4 == 3 ? 70 : 14,
                                                              .max_branches = 6 + i % 7,
                                                              .max_prompt = i % 3 ? 60 : 200,
                                                              .max_header = i % 4 ? 6 : 80,
                                                              .max_prefill = 40,
                                                              .max_tokens = i % 4 == 3 ? 600 : 400,
                                                              .vocab = 100,
                                                              .fork = 30,
                                                              .finish = 80,
                                                              .prune = 8,
                                                              .retract = 10,
                                                              .sit_out = 10});
        tree_coverage_add(&seen, &trace->coverage);
        CHECK(trace->n_rows <= MAX_ROWS);
        for (uint32_t way = 0; way < 3; way++) {
            tree_replay *replay = tree_replay_create(
                trace, &(tree_replay_options){.page_tokens = 16u << (i + way) % 3,
                                              .chunk_tokens = 64,
                                              .chunk_tail_tokens = 64,
                                              .group = HEADS,
                                              .tile_slots = way == 0   ? 21
                                                            : way == 1 ? 5
                                                                       : 2,
                                              .max_rows = way == 2 ? 3 : 0,
                                              .decode_by_prefill = way == 1});
            tree_batch batch;
            while (tree_replay_next(replay, &batch)) {
                run_batch(trace, replay, &batch, i + way, out);
                for (uint32_t r = 0; r < batch.n_rows; r++) {
                    uint16_t *kept = first[batch.id[r]], *now = out + r * HEADS * D;
                    if (way == 0) {
                        memcpy(kept, now, sizeof first[0]);
                        check_row(trace, replay, &batch, r, now);
                        rows++;
                    }
                    CHECK(memcmp(kept, now, sizeof first[0]) == 0);
                }
            }
            tree_coverage_add(&seen, tree_replay_coverage(replay));
            tree_replay_destroy(replay);
        }
        tree_trace_destroy(trace);
    }
    tree_coverage_print(&seen, stdout);
    printf("  %u rows\n", rows);
    const char *missing = tree_coverage_missing(&seen, 0);
    if (missing)
        fprintf(stderr, "not covered: %s\n", missing);
    CHECK(!missing || n_traces < 28);
}

int main(void) {
    RUN(test_rows_of_random_trees_do_not_depend_on_their_batch);
    emu_forget_all();
    return check_report();
}
