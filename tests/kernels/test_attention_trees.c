/* The attention kernels under the real plan: random traces of forks, joins and prefill, each row
 * against double precision straight from its view, and the same bits however the rows are batched,
 * tiled and paged. */
#include <math.h>

#include "check.h"
#include "emulate/emulate.h"
#include "kernels/attention.h"
#include "kv/fold_reference.h"
#include "plan_upload.h"
#include "ref/attention_double.h"
#include "ref/tree_generator.h"

enum { D = 64, HEADS = 3, MAX_ROWS = 4096 };

/* K, V and Q are functions of what they stand for, so that every replay meets the same values. */
static float value_of(uint32_t kind, uint32_t a, uint32_t b, uint32_t x) {
    uint64_t z = ((uint64_t)kind << 56 ^ (uint64_t)a << 40 ^ (uint64_t)b << 16 ^ x) * 2 + 1;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    const float y = (float)((z >> 40) & 0xffff) / 32768.0f - 1.0f;
    return cop_f32_from_bf16(cop_bf16_from_f32(kind == 2 ? 2 * y : y));
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

/* How one replay of a trace differs from another. */
typedef struct way {
    uint32_t page_tokens, tile_slots, max_rows, flags, n_blocks, schedule;
    bool decode_by_prefill;
} way;

static void run_batch(const tree_trace *trace, const tree_replay *replay, const tree_batch *b,
                      const way *how, uint16_t *out) {
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
                            .n_blocks = how->n_blocks,
                            .n_slots = p->n_slots,
                            .flags = how->flags,
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
    emu_vary(how->schedule);
    int error = cop_launch_attention_tree(&a, NULL);
    if (error == 0 && how->flags & COP_ATTENTION_SEPARATE_MERGE)
        error = cop_launch_attention_merge(&a, NULL);
    if (error)
        fprintf(stderr, "error %d: %s\n", error, emu_report()->text);
    CHECK_EQ(error, 0);
    memcpy(out, a.out, (size_t)b->n_rows * HEADS * D * 2);
}

typedef enum purpose {
    KEEP,    /* rows are kept */
    PROVE,   /* and held against double precision */
    COMPARE, /* they must have the bits that were kept */
} purpose;

/* Replays a trace; gives the number of rows. */
static uint32_t replay_trace(const tree_trace *trace, const way *how, purpose why,
                             tree_coverage *seen) {
    static uint16_t kept[MAX_ROWS][HEADS * D], out[MAX_ROWS * HEADS * D];
    CHECK(trace->n_rows <= MAX_ROWS);
    uint32_t rows = 0;
    tree_replay *replay = tree_replay_create(
        trace, &(tree_replay_options){.page_tokens = how->page_tokens,
                                      .chunk_tokens = 64,
                                      .chunk_tail_tokens = 64,
                                      .group = HEADS,
                                      .tile_slots = how->tile_slots,
                                      .max_rows = how->max_rows,
                                      .decode_by_prefill = how->decode_by_prefill});
    tree_batch batch;
    while (tree_replay_next(replay, &batch)) {
        run_batch(trace, replay, &batch, how, out);
        for (uint32_t r = 0; r < batch.n_rows; r++, rows++) {
            uint16_t *was = kept[batch.id[r]], *now = out + r * HEADS * D;
            if (why != COMPARE)
                memcpy(was, now, sizeof kept[0]);
            if (why == PROVE)
                check_row(trace, replay, &batch, r, now);
            CHECK(memcmp(was, now, sizeof kept[0]) == 0);
        }
    }
    tree_coverage_add(seen, tree_replay_coverage(replay));
    tree_replay_destroy(replay);
    CHECK_EQ(rows, trace->n_rows);
    return rows;
}

static void must_cover(const tree_coverage *seen, uint32_t except) {
    tree_coverage_print(seen, stdout);
    const char *missing = tree_coverage_missing(seen, except);
    if (missing)
        fprintf(stderr, "not covered: %s\n", missing);
    CHECK(!missing);
}

static void test_rows_of_random_trees_do_not_depend_on_their_batch(void) {
    tree_coverage seen = {0};
    const uint32_t n_traces = check_effort(16, 4);
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
        static const way ways[] = {{.tile_slots = 21},
                                   {.tile_slots = 5, .decode_by_prefill = true},
                                   {.tile_slots = 2, .max_rows = 3}};
        for (uint32_t w = 0; w < 3; w++) {
            way how = ways[w];
            how.page_tokens = 16u << (i + w) % 3;
            how.n_blocks = 3;
            how.schedule = i + w;
            replay_trace(trace, &how, w ? COMPARE : PROVE, &seen);
        }
        tree_trace_destroy(trace);
    }
    if (n_traces >= 16)
        must_cover(&seen, 0);
}

/* ---- 1,000 small ones, two ways drawn for each ---- */

#define WAY_MAP(X)                                                                                 \
    X(NARROW, "narrow tiles")                                                                      \
    X(FULL, "full tiles, wide ones among them")                                                    \
    X(WIDE_ONLY, "narrow tiles as wide ones")                                                      \
    X(SEPARATE_MERGE, "a merge of its own")                                                        \
    X(ALONE, "every row alone")                                                                    \
    X(FEW_ROWS, "a few rows a batch")                                                              \
    X(BY_PREFILL, "decode rows in prefill tiles")

typedef enum way_kind {
#define WAY_ENUM(name, text) name,
    WAY_MAP(WAY_ENUM)
#undef WAY_ENUM
        N_WAYS,
} way_kind;
#define WAY_TEXT(name, text) text,
static const char *const way_text[N_WAYS] = {WAY_MAP(WAY_TEXT)};

static uint32_t draw(uint64_t *state, uint32_t bound) {
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((*state >> 33) % bound);
}

static way draw_way(way_kind kind, uint64_t *state) {
    const uint32_t most = cop_attention_tile_slots(D, HEADS);
    way how = {.page_tokens = 16u << draw(state, 3),
               .tile_slots = 1 + draw(state, most),
               .n_blocks = 1 + draw(state, 4),
               .schedule = draw(state, EMU_VARIATIONS)};
    if (kind == NARROW || kind == WIDE_ONLY)
        how.tile_slots = COP_ATTENTION_NARROW_ROWS / HEADS;
    if (kind == FULL)
        how.tile_slots = most;
    how.max_rows = kind == ALONE ? 1 : kind == FEW_ROWS ? 2 + draw(state, 3) : 0;
    how.decode_by_prefill = kind == BY_PREFILL;
    how.flags = kind == WIDE_ONLY        ? COP_ATTENTION_WIDE_ONLY
                : kind == SEPARATE_MERGE ? COP_ATTENTION_SEPARATE_MERGE
                                         : 0;
    return how;
}

static tree_trace *small_trace(uint32_t i) {
    return tree_trace_create(&(tree_options){.seed = 5000 + i,
                                             .max_steps = 12,
                                             .max_branches = i % 5 ? 3 + i % 2 : 2 + i % 7,
                                             .max_prompt = i % 4 ? 10 : 70,
                                             .max_header = i % 8 ? 3 : 66,
                                             .max_prefill = 40,
                                             .max_tokens = i % 4 ? 40 : 110,
                                             .vocab = 100,
                                             .fork = 90,
                                             .finish = 100,
                                             .prune = 5,
                                             .retract = 5,
                                             .sit_out = 10});
}

static void test_1000_small_dags_give_equal_bits_two_ways(void) {
    tree_coverage seen = {0};
    const uint32_t n_traces = check_effort(1000, 40);
    uint32_t ways[N_WAYS] = {0}, schedules[EMU_VARIATIONS] = {0}, rows = 0, joined = 0;
    uint64_t state = 1;
    for (uint32_t i = 0; i < n_traces; i++) {
        tree_trace *trace = small_trace(i);
        joined += trace->coverage.seen[TREE_STITCHES] + trace->coverage.seen[TREE_REPREFILLS] > 0;
        tree_coverage_add(&seen, &trace->coverage);
        const way_kind one = draw(&state, N_WAYS),
                       other = (one + 1 + draw(&state, N_WAYS - 1)) % N_WAYS;
        for (uint32_t w = 0; w < 2; w++) {
            const way how = draw_way(w ? other : one, &state);
            ways[w ? other : one]++;
            schedules[how.schedule]++;
            /* the oracle is dear */
            const purpose why = w ? COMPARE : i % 4 ? KEEP : PROVE;
            rows += replay_trace(trace, &how, why, &seen);
        }
        tree_trace_destroy(trace);
    }
    for (uint32_t k = 0; k < N_WAYS; k++) {
        printf("  %8u DAGs: %s\n", ways[k], way_text[k]);
        CHECK(ways[k] >= n_traces / 8);
    }
    for (uint32_t i = 0; i < EMU_VARIATIONS; i++)
        CHECK(schedules[i] >= n_traces / 20);
    printf("  %8u DAGs with joins\n  %8u rows\n", joined, rows);
    if (n_traces >= 1000) {
        CHECK(joined >= n_traces / 4);
        must_cover(&seen, 0);
    }
}

int main(void) {
    RUN(test_rows_of_random_trees_do_not_depend_on_their_batch);
    RUN(test_1000_small_dags_give_equal_bits_two_ways);
    emu_forget_all();
    return check_report();
}
