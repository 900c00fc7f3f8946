/* Edges of the attention kernels, by name. */
#include "attention_device.h"

static world w;
static tables t;

/* One KV head and one segment of so many tokens, seen by n rows of `group` heads each. */
static void one_segment(uint32_t d, uint32_t group, uint32_t tokens, uint32_t n, float amplitude) {
    w = (world){.bf16 = true, .d = d, .n_heads = group, .n_kv_heads = 1, .n_segments = 1};
    w.chunk_tokens = w.chunk_tail_tokens = 64;
    w.tokens[0] = tokens;
    w.k[0] = random_values((size_t)tokens * d, true, amplitude);
    w.v[0] = random_values((size_t)tokens * d, true, 1.0f);
    w.n_views = w.n_rows = n;
    for (uint32_t i = 0; i < n; i++)
        w.views[i] = (view){.n = 1, .limit = UINT32_MAX, .row = (int32_t)i};
}

static void run_and_check(uint32_t page_tokens, uint32_t width, uint32_t flags) {
    device g;
    verdict bad;
    make_tables(&w, &t, page_tokens, width);
    device_create(&w, &t, &g);
    const bool passed = device_run(&g, flags, 3, &bad) && device_check(&w, &g, &bad) &&
                        device_check_bytes(&w, &t, &g, &bad);
    if (!passed)
        fprintf(stderr, "%s\n", bad.text);
    CHECK(passed);
}

static void test_an_empty_segment_gives_zeros(void) {
    one_segment(64, 2, 0, 2, 1.0f);
    fill_world(&w, TILE_ROWS);
    run_and_check(16, 4, 0);
    world_destroy(&w);
}

static void test_a_fresh_fork_sees_its_parent_alone(void) {
    one_segment(128, 4, 100, 3, 1.0f);
    w.n_segments = 3;
    for (uint32_t s = 1; s < 3; s++) {
        w.tokens[s] = s - 1; /* one child is fresh, the other has a token */
        w.k[s] = random_values(128, true, 1.0f);
        w.v[s] = random_values(128, true, 1.0f);
        w.views[s].n = 2;
        w.views[s].segment[1] = s;
    }
    fill_world(&w, TILE_ROWS);
    run_and_check(32, 4, 0);
    run_and_check(32, 1, 0);
    world_destroy(&w);
}

static void test_one_token_one_row(void) {
    static const uint32_t dims[] = {64, 96, 128, 256};
    for (uint32_t i = 0; i < 4; i++) {
        one_segment(dims[i], 1, 1, 1, 1.0f);
        fill_world(&w, TILE_ROWS);
        run_and_check(64, 1, 0);
        run_and_check(16, 1, COP_ATTENTION_WIDE_ONLY);
        world_destroy(&w);
    }
}

/* Scores far apart, so that all keys but one weigh 0, and scores that are subnormal. (Beyond 2^24
 * the fold's own definition runs out of bits.) */
static void test_huge_scores(void) {
    for (uint32_t i = 0; i < 2; i++) {
        one_segment(64, 3, 200, 2, i ? 0x1p12f : 0x1p-126f);
        fill_world(&w, TILE_ROWS);
        run_and_check(16, 2, 0);
        world_destroy(&w);
    }
}

/* Scores of -inf are keys that weigh nothing; a view of such keys alone gives zeros and -inf. */
static void test_scores_of_minus_infinity(void) {
    one_segment(64, 1, 70, 2, 1.0f);
    fill_world(&w, TILE_ROWS);
    for (uint32_t i = 0; i < 64; i++) /* row 0 meets -inf wherever k is 1, row 1 never */
        w.q[i] = i == 0 ? -INFINITY : 0.0f;
    for (uint32_t token = 0; token < 70; token++)
        w.k[0][token * 64] = 1.0f;
    for (uint32_t r = 0; r < 2; r++)
        expect_row(&w, &w.views[r], 0, w.expected + r * 64);
    for (uint32_t i = 0; i < 64; i++)
        CHECK_EQ(w.expected[i] == 0.0f, 1);
    run_and_check(16, 2, 0);
    world_destroy(&w);
}

/* A row that is NaN stays alone with it: its tile mates have their own bits. */
static void test_a_poisoned_row_beside_healthy_ones(void) {
    one_segment(128, 2, 130, 4, 1.0f);
    fill_world(&w, TILE_ROWS);
    make_tables(&w, &t, 32, 4);
    device g;
    verdict bad;
    device_create(&w, &t, &g);
    for (uint32_t x = 0; x < 256; x++)
        g.q[g.stride + x] = 0x7fff;
    CHECK(device_run(&g, 0, 2, &bad));
    for (uint32_t r = 0; r < 4; r++)
        for (uint32_t x = 0; x < 256 && r != 1; x++)
            CHECK_EQ(g.out[r * g.stride + x], cop_bf16_from_f32(w.expected[r * 256 + x]));
    world_destroy(&w);
}

/* More query heads to a KV head than a tile has rows: parts, which load K and V once each. */
static void test_more_heads_than_rows(void) {
    static const struct {
        uint32_t d, group, rows, parts;
    } cases[] = {{64, 71, 1, 2},  {64, 40, 2, 1},  {96, 71, 2, 2}, {128, 40, 1, 1},
                 {128, 71, 2, 2}, {256, 40, 2, 2}, {256, 71, 1, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint32_t d = cases[i].d, tokens = 90;
        CHECK_EQ(cop_attention_parts(d, cases[i].group), cases[i].parts);
        one_segment(d, cases[i].group, tokens, cases[i].rows, 1.0f);
        fill_world(&w, TILE_ROWS);
        emu_buffer_counts pool;
        run_and_check(16u << i % 3, 1, 0); /* bytes too, against cost.h */
        CHECK(emu_counts("pool", &pool));
        CHECK_EQ(pool.load_bytes, 4ull * tokens * d * cases[i].parts * cases[i].rows);
        CHECK_EQ(pool.first_load_bytes, 4ull * tokens * d);
        world_destroy(&w);
    }
}

/* Requests of shared memory and their cycles: 4 leaves, in one chunk or in four that are merged. */
static emu_bank_counts banks_of(uint32_t d, uint32_t rows, uint32_t chunk_tokens) {
    device g;
    verdict bad;
    one_segment(d, 1, 256, rows, 1.0f);
    w.chunk_tokens = w.chunk_tail_tokens = chunk_tokens;
    fill_world(&w, TILE_ROWS);
    do /* one tile without holes */
        make_tables(&w, &t, 16, rows);
    while (t.view.n_tiles != 1 || t.tiles[0].n_slots != rows || t.tiles[0].slot[rows - 1] < 0);
    device_create(&w, &t, &g);
    emu_set_options(&(emu_options){.count_banks = true});
    CHECK(device_run(&g, 0, 1, &bad));
    emu_set_options(NULL);
    world_destroy(&w);
    return emu_banks();
}

/* The swizzle leaves no conflict to ldmatrix and cp.async, nor is there one anywhere else.
 * attention_tree.cu's header states these figures. */
static void test_shared_memory_banks(void) {
    static const uint32_t dims[] = {64, 96, 128, 256};
    for (uint32_t i = 0; i < 16; i++) {
        const uint32_t d = dims[i / 4], rows = i % 2 ? 32 : 16;
        const emu_bank_counts b = banks_of(d, rows, i / 2 % 2 ? 64 : 1024);
        printf("  d %3u, %2u rows, %s: %5llu phases, %5llu cycles\n", d, rows,
               i / 2 % 2 ? "4 chunks" : "1 chunk ", (unsigned long long)b.phases,
               (unsigned long long)b.cycles);
        if (b.worst_extra)
            fprintf(stderr, "%s:%d: %llu cycles lost\n", b.worst_file, b.worst_line,
                    (unsigned long long)b.worst_extra);
        /* K and V come in by requests of four phases, and each is read at least once */
        CHECK(b.phases >= 2ull * 2 * 256 * d * 2 / 128);
        CHECK_EQ(b.cycles, b.phases);
        CHECK(emu_mutant_select("attention_swizzle"));
        const emu_bank_counts wrong = banks_of(d, rows, 1024);
        CHECK(wrong.cycles > wrong.phases);
        CHECK(emu_mutant_select(NULL));
    }
}

static void test_what_no_kernel_takes_is_refused(void) {
    CHECK(cop_attention_unsupported(80, 8, 8, 16) != NULL);
    CHECK(cop_attention_unsupported(64, 9, 2, 16) != NULL);
    CHECK(cop_attention_unsupported(64, 0, 0, 16) != NULL);
    CHECK(cop_attention_unsupported(64, 8, 2, 48) != NULL);
    CHECK(cop_attention_unsupported(64, 8, 2, 64) == NULL);
    const cop_attention_args a = {.head_dim = 80, .n_heads = 1, .n_kv_heads = 1, .page_tokens = 16};
    CHECK_EQ(cop_launch_attention_tree(&a, NULL), 1);
    CHECK_EQ(cop_launch_attention_merge(&a, NULL), 1);
    const cop_attention_paged_args p = {.head_dim = 80, .n_heads = 1, .n_kv_heads = 1};
    CHECK_EQ(cop_launch_attention_paged(&p, NULL), 1);
    uint32_t n_blocks = 0;
    CHECK_EQ(cop_attention_blocks(80, &n_blocks), 1);
    CHECK_EQ(cop_attention_blocks(128, &n_blocks), 0);
    CHECK(n_blocks > 0);
}

int main(void) {
    (void)&world_create;
    (void)&grow_world;
    RUN(test_an_empty_segment_gives_zeros);
    RUN(test_a_fresh_fork_sees_its_parent_alone);
    RUN(test_one_token_one_row);
    RUN(test_huge_scores);
    RUN(test_scores_of_minus_infinity);
    RUN(test_a_poisoned_row_beside_healthy_ones);
    RUN(test_more_heads_than_rows);
    RUN(test_shared_memory_banks);
    RUN(test_what_no_kernel_takes_is_refused);
    emu_forget_all();
    return check_report();
}
