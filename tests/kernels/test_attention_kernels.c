/* The attention kernels on the emulated device over 1,000 small random DAGs: however a row is
 * tiled, batched, paged, merged and scheduled, it has the fold's bits, and a launch moves the bytes
 * that cost.h predicts. Edges: test_attention_edges.c; the real plan: test_attention_trees.c,
 * test_attention_sizes.c; mutants: test_attention_mutants.c. */
#include "attention_device.h"

#define VARIANT_MAP(X)                                                                             \
    X(NARROW, "narrow tiles")                                                                      \
    X(FULL, "full tiles, wide ones among them")                                                    \
    X(WIDE_ONLY, "tiles of any width as wide ones")                                                \
    X(SEPARATE_MERGE, "a merge of its own")                                                        \
    X(ALONE, "a row alone")                                                                        \
    X(OTHER_BATCH, "some of the rows, in another order")

typedef enum kind {
#define VARIANT_ENUM(name, text) name,
    VARIANT_MAP(VARIANT_ENUM)
#undef VARIANT_ENUM
        N_KINDS,
} kind;
#define VARIANT_TEXT(name, text) text,
static const char *const kind_text[N_KINDS] = {VARIANT_MAP(VARIANT_TEXT)};

/* How one launch of a world differs from the others. */
typedef struct variant {
    kind kind;
    uint32_t tile_slots, page_tokens, flags, n_blocks, schedule;
} variant;

static struct {
    uint64_t kind[N_KINDS], pair[N_KINDS][N_KINDS], schedule[EMU_VARIATIONS], page[3], copies[2];
    uint64_t narrow_items, wide_items, split_heads, joined_worlds, hole_worlds;
} seen;

static void must_pass(bool passed, const variant *v, const verdict *bad, const char *what) {
    if (!passed)
        fprintf(stderr, "%s, %u slots, schedule %u: %s: %s\n", kind_text[v->kind], v->tile_slots,
                v->schedule, what, bad->text);
    CHECK(passed);
}

static shape random_shape(uint32_t i) {
    static const uint32_t dims[] = {64, 128, 96, 64, 256};
    static const uint32_t groups[] = {1, 2, 3, 4, 5, 7, 8, 16, 20, 36};
    const shape s = {.d = dims[i % 5],
                     .n_kv_heads = 1 + (below(4) == 0),
                     .group = groups[below(below(4) ? 7 : 10)],
                     .rule = below(4),
                     .amplitude = below(5) ? 1.0f : 30.0f};
    return s;
}

/* One that is of another kind than `other`. */
static variant draw_variant(const world *w, kind other) {
    const uint32_t group = w->n_heads / w->n_kv_heads;
    const uint32_t most = cop_attention_tile_slots(w->d, group);
    variant v = {.page_tokens = 16u << below(3),
                 .n_blocks = 1 + below(5),
                 .schedule = below(EMU_VARIATIONS)};
    do
        v.kind = below(N_KINDS);
    while (v.kind == other || (v.kind == NARROW && group > COP_ATTENTION_NARROW_ROWS));
    v.tile_slots = v.kind == NARROW ? COP_ATTENTION_NARROW_ROWS / group
                   : v.kind == FULL ? most
                                    : 1 + below(most);
    v.flags = v.kind == WIDE_ONLY        ? COP_ATTENTION_WIDE_ONLY
              : v.kind == SEPARATE_MERGE ? COP_ATTENTION_SEPARATE_MERGE
                                         : 0;
    return v;
}

/* Some of a world's rows, with numbers and slots of their own. K and V are borrowed. */
static void pick_batch(const world *w, uint32_t n, world *out) {
    *out = *w;
    const size_t row = (size_t)w->n_heads * w->d;
    uint32_t order[MAX_SLOTS], here = 0;
    for (uint32_t s = 0; s < w->n_views; s++) {
        if (w->views[s].row < 0)
            continue;
        const uint32_t x = below(here + 1);
        order[here] = order[x];
        order[x] = s;
        here++;
    }
    n = n < here ? n : here;
    out->n_views = out->n_rows = n;
    out->q = malloc((n * row + 1) * sizeof *out->q);
    out->expected = malloc((n * row + 1) * sizeof *out->expected);
    CHECK(out->q && out->expected);
    for (uint32_t i = 0; i < n; i++) {
        const view *v = &w->views[order[i]];
        memcpy(out->q + i * row, w->q + (size_t)v->row * row, row * sizeof *w->q);
        memcpy(out->expected + i * row, w->expected + (size_t)v->row * row, row * sizeof *w->q);
        out->views[i] = *v;
        out->views[i].row = (int32_t)i;
    }
}

static void count_variant(const world *w, const tables *t, const variant *v) {
    const uint32_t group = w->n_heads / w->n_kv_heads;
    for (uint32_t i = 0; i < t->view.n_items; i++) {
        const bool narrow = t->tiles[t->items[i].tile].n_slots * group <= COP_ATTENTION_NARROW_ROWS;
        CHECK(narrow || v->kind != NARROW);
        seen.narrow_items += narrow;
        seen.wide_items += !narrow;
    }
    seen.split_heads += cop_attention_parts(w->d, group) > 1;
    seen.kind[v->kind]++;
    seen.schedule[v->schedule]++;
    seen.page[v->page_tokens / 32]++;
    seen.copies[emu_get_options().copies == EMU_LAZY]++;
}

static void run_variant(const world *w, tables *t, const variant *v) {
    world batch;
    const bool part = v->kind == ALONE || v->kind == OTHER_BATCH;
    if (part)
        pick_batch(w, v->kind == ALONE ? 1 : (w->n_rows + 1) / 2, &batch);
    const world *now = part ? &batch : w;
    make_tables(now, t, v->page_tokens, v->tile_slots);
    device g;
    verdict bad;
    device_create(now, t, &g);
    emu_vary(v->schedule);
    count_variant(now, t, v);
    must_pass(device_run(&g, v->flags, v->n_blocks, &bad), v, &bad, "launch");
    must_pass(device_check(now, &g, &bad), v, &bad, "bits");
    must_pass(device_check_bytes(now, t, &g, &bad), v, &bad, "bytes");
    CHECK_EQ(emu_launches("attention_tree_kernel"), 1);
    if (part) {
        free(batch.q);
        free(batch.expected);
    }
}

static void check_coverage(uint32_t n_worlds) {
    for (int c = 0; c < N_COVERED; c++) {
        if (c == WIDE_TILE) /* of the CPU's blocks; wide_items counts the kernels' own */
            continue;
        printf("  %6u %s\n", coverage[c], covered_name[c]);
        CHECK(coverage[c] > 0);
    }
    for (uint32_t k = 0; k < N_KINDS; k++) {
        printf("  %6llu launches: %s\n", (unsigned long long)seen.kind[k], kind_text[k]);
        CHECK(seen.kind[k] >= n_worlds / 10);
        for (uint32_t other = 0; other < N_KINDS; other++)
            CHECK(k == other || n_worlds < 1000 || seen.pair[k][other] > 0);
    }
    for (uint32_t i = 0; i < EMU_VARIATIONS; i++)
        CHECK(seen.schedule[i] >= n_worlds / 20);
    for (uint32_t i = 0; i < 3; i++)
        CHECK(seen.page[i] >= n_worlds / 4);
    CHECK(seen.copies[0] >= n_worlds / 4 && seen.copies[1] >= n_worlds / 4);
    CHECK(seen.narrow_items > 0 && seen.wide_items > 0);
    CHECK(seen.split_heads > 0 || n_worlds < 200);
    CHECK(seen.joined_worlds >= n_worlds / 10 && seen.hole_worlds >= n_worlds / 10);
    printf("  %6llu narrow items, %llu wide ones; %llu launches with heads in parts\n"
           "  %6u DAGs, %llu with a segment under two prefixes, %llu with holes\n",
           (unsigned long long)seen.narrow_items, (unsigned long long)seen.wide_items,
           (unsigned long long)seen.split_heads, n_worlds, (unsigned long long)seen.joined_worlds,
           (unsigned long long)seen.hole_worlds);
}

/* The fold knows nothing of tiles: two launches that both have its bits have one another's. */
static void test_every_row_is_the_fold_of_its_own_view(void) {
    static world w;
    tables *t = malloc(sizeof *t);
    CHECK(t);
    const uint32_t n_worlds = check_effort(1000, 60);
    for (uint32_t i = 0; i < n_worlds; i++) {
        const shape s = random_shape(i);
        const uint32_t joined = coverage[JOINED_TWICE], holes = coverage[HOLE];
        grow_world(&w, &s);
        const variant one = draw_variant(&w, N_KINDS), other = draw_variant(&w, one.kind);
        run_variant(&w, t, &one);
        run_variant(&w, t, &other);
        seen.pair[one.kind][other.kind]++;
        seen.joined_worlds += coverage[JOINED_TWICE] > joined;
        seen.hole_worlds += coverage[HOLE] > holes;
        world_destroy(&w);
    }
    free(t);
    emu_set_options(NULL);
    check_coverage(n_worlds);
}

int main(void) {
    (void)&world_create;
    RUN(test_every_row_is_the_fold_of_its_own_view);
    emu_forget_all();
    return check_report();
}
