/* Every mutant of the attention kernels is caught by the checks that the kernels themselves pass:
 * the fold's bits, the bytes of cost.h, counters left at zero, no fault on the emulated device. */
#include "attention_device.h"

/* A tile in which a leaf of its own leaves a row at -0: the first chunk's sums are rescaled by 0,
 * and all that the second leaf adds is -0. A mate's leaf would turn it into +0. */
static void zero_world(world *w) {
    memset(w, 0, sizeof *w);
    w->bf16 = true;
    w->d = 64;
    w->n_heads = w->n_kv_heads = 1;
    w->chunk_tokens = w->chunk_tail_tokens = 1024;
    w->n_segments = 1;
    w->tokens[0] = 128;
    w->k[0] = random_values(128 * 64, true, 0.0f);
    w->v[0] = random_values(128 * 64, true, 1.0f);
    for (uint32_t i = 0; i < 128 * 64; i++)
        w->v[0][i] = i < 64 * 64 ? -1.0f : -0.0f;
    w->n_views = w->n_rows = 1;
    w->views[0] = (view){.n = 1, .limit = UINT32_MAX};
    w->q = random_values(64, true, 1.0f);
    w->expected = random_values(64, false, 1.0f);
    for (uint32_t i = 0; i < 64; i++) {
        w->q[i] = 64.0f;
        for (uint32_t token = 64; token < 128; token++)
            w->k[0][token * 64 + i] = 64.0f;
    }
    expect_row(w, &w->views[0], 0, w->expected);
}

static bool run_and_check(const world *w, const tables *t, uint32_t i, verdict *bad) {
    static const uint32_t flags[] = {0, COP_ATTENTION_WIDE_ONLY, 0, COP_ATTENTION_SEPARATE_MERGE};
    device g;
    device_create(w, t, &g);
    emu_vary(i);
    return device_run(&g, flags[i / 2 % 4], 1 + i % 4, bad) && device_check(w, &g, bad) &&
           device_check_bytes(w, t, &g, bad) &&
           /* what one launch leaves behind, the next one meets */
           device_run(&g, flags[i / 2 % 4], 1 + i % 3, bad) && device_check(w, &g, bad);
}

/* Rows whose view is one segment, through their own page tables. */
static bool check_paged(uint32_t i, verdict *bad) {
    static world w;
    static tables t;
    const shape s = {.d = i % 2 ? 64 : 128, .n_kv_heads = 1, .group = 3 + i, .amplitude = 1.0f};
    grow_world(&w, &s);
    make_tables(&w, &t, 16u << i % 3, 1);
    device g;
    device_create(&w, &t, &g);
    emu_vary(i);
    cop_segment rows[MAX_SLOTS];
    uint32_t n = 0;
    for (uint32_t v = 0; v < w.n_views && n < 4; v++) {
        if (w.views[v].row < 0 || w.views[v].n == 0)
            continue;
        const uint32_t segment = w.views[v].segment[0];
        view *one = &w.views[n]; /* n <= v: what it replaces was looked at */
        *one = (view){.segment = {segment}, .n = 1, .limit = UINT32_MAX, .row = (int32_t)n};
        for (uint32_t h = 0; h < w.n_heads; h++)
            expect_row(&w, one, h, w.expected + ((size_t)n * w.n_heads + h) * w.d);
        rows[n++] = t.segments[segment];
    }
    w.n_views = n;
    w.n_rows = g.n_rows = n;
    const uint32_t chunks = 8;
    cop_attention_paged_args a = {.rows = upload(rows, n * sizeof *rows, "tables"),
                                  .page_table = g.args.page_table,
                                  .pool = g.pool,
                                  .q = g.q,
                                  .out = g.out,
                                  .lse = g.lse,
                                  .q_stride = g.stride,
                                  .out_stride = g.stride,
                                  .page_tokens = g.args.page_tokens,
                                  .n_heads = w.n_heads,
                                  .n_kv_heads = 1,
                                  .head_dim = w.d,
                                  .scale_log2 = g.args.scale_log2,
                                  .n_rows = n,
                                  .chunk_tokens = w.chunk_tokens,
                                  .max_chunks = chunks};
    const size_t partials = (size_t)n * chunks * w.n_heads + 1;
    a.partial_o = emu_alloc(partials * w.d * 4, "partials", EMU_WORKSPACE);
    a.partial_ml = emu_alloc(partials * 8, "partials", EMU_WORKSPACE);
    a.counters = g.counters = emu_alloc((size_t)n * 4 + 4, "paged counters", EMU_OUTPUT);
    g.n_counters = n;
    memset(g.counters, 0, n * 4 + 4);
    emu_poison();
    const int error = n ? cop_launch_attention_paged(&a, NULL) : 0;
    if (error)
        snprintf(bad->text, sizeof bad->text, "paged: error %d: %.300s", error, emu_report()->text);
    const bool passed = error == 0 && device_check(&w, &g, bad);
    world_destroy(&w);
    return passed;
}

/* A pool so far away that 32 bits of elements do not reach it. */
static bool check_far_pages(verdict *bad) {
    static world w;
    static tables t;
    const shape s = {.d = 64, .n_kv_heads = 1, .group = 2, .amplitude = 1.0f};
    draws = 77;
    grow_world(&w, &s);
    make_tables(&w, &t, 64, 4);
    const uint32_t far = (1u << 20) - 16, n_pages = most_pages(&w, 64); /* pages of 2^13 elements */
    for (uint32_t p = 0; p < MAX_PAGES; p++)
        if (t.page_table[p] != UINT32_MAX)
            t.page_table[p] += far;
    device g;
    device_create_at(&w, &t, far + n_pages, &g);
    const bool passed = device_run(&g, 0, 2, bad) && device_check(&w, &g, bad);
    device_release_far(&g);
    world_destroy(&w);
    return passed;
}

/* False as soon as something is wrong. */
static bool suite(uint32_t n_worlds, verdict *bad) {
    static world w;
    static tables t;
    static const uint32_t dims[] = {64, 128, 64, 96, 256};
    bad->text[0] = 0;
    bool passed = true;
    zero_world(&w);
    make_tables(&w, &t, 32, 1);
    passed = run_and_check(&w, &t, 0, bad);
    world_destroy(&w);
    draws = 5;
    for (uint32_t i = 0; passed && i < n_worlds; i++) {
        const shape s = {.d = dims[i % 5],
                         .n_kv_heads = 1 + i % 2,
                         .group = 1 + below(9),
                         .rule = below(3),
                         .amplitude = i % 3 ? 1.0f : 30.0f};
        grow_world(&w, &s);
        make_tables(&w, &t, 16u << i % 3, 1 + below(cop_attention_tile_slots(s.d, s.group)));
        passed = run_and_check(&w, &t, i, bad);
        world_destroy(&w);
    }
    for (uint32_t i = 0; passed && i < 4; i++)
        passed = check_paged(i, bad);
    return passed && check_far_pages(bad);
}

static void test_the_kernels_pass(void) {
    verdict bad;
    const bool passed = suite(40, &bad);
    if (!passed)
        fprintf(stderr, "%s\n", bad.text);
    CHECK(passed);
}

static void test_every_mutant_is_caught(void) {
    uint32_t n = 0;
    bool all = true;
    for (uint32_t i = 0; i < emu_mutants(); i++) {
        const char *name = emu_mutant_name(i);
        if (strncmp(name, "attention_", 10) != 0)
            continue;
        verdict bad;
        CHECK(emu_mutant_select(name));
        const bool passed = suite(40, &bad);
        printf("  %-26s %s%.110s\n", name, passed ? "MISSED: " : "",
               passed ? emu_mutant_text(i) : bad.text);
        all = all && !passed;
        n++;
    }
    CHECK(emu_mutant_select(NULL));
    CHECK(n >= 20);
    CHECK(all);
}

int main(void) {
    (void)&world_create;
    RUN(test_the_kernels_pass);
    RUN(test_every_mutant_is_caught);
    emu_forget_all();
    return check_report();
}
