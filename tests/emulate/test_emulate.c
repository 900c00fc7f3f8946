/* The emulation itself: fragments against the PTX ISA's tables, collectives, the examples under
 * every schedule, and the counts. What it must catch: test_emulate_bugs.c. */
#include <math.h>
#include <sys/mman.h>

#include "check.h"
#include "emulate/emulate.h"
#include "emulate/examples.h"
#include "kv/fold_reference.h"

static uint64_t state = 1;

static uint32_t random_bits(void) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(state >> 33);
}

static float random_float(void) {
    return ((float)(random_bits() % 4096) - 2048.0f) / 1024.0f;
}

static uint16_t random_bf16(void) {
    return cop_bf16_from_f32(random_float() * 1.37f);
}

static void run_ok(int error) {
    if (error != 0)
        fprintf(stderr, "error %d: %s\n", error, emu_report()->text);
    CHECK_EQ(error, 0);
}

static void start(void) {
    emu_forget_all();
    emu_set_options(NULL);
    emu_reset_counts();
}

static void test_ldmatrix_gives_the_fragments_of_the_isa(void) {
    start();
    uint16_t *m = emu_alloc(512, "m", EMU_INPUT);
    uint32_t *plain = emu_alloc(512, "plain", EMU_OUTPUT);
    uint32_t *transposed = emu_alloc(512, "transposed", EMU_OUTPUT);
    for (uint32_t i = 0; i < 256; i++)
        m[i] = (uint16_t)(0x100 * (i / 16) + i % 16); /* row, column */
    run_ok(example_launch_fragments(m, plain, transposed, NULL));
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t lane = 0; lane < 32; lane++) {
            const uint32_t r = 8 * (i % 2), c = 8 * (i / 2); /* the corner of matrix i */
            const uint32_t g = lane / 4, t = lane % 4;
            const uint32_t row = 0x100 * (r + g) + c + 2 * t;
            CHECK_EQ(plain[32 * i + lane], row | (row + 1) << 16);
            const uint32_t column = 0x100 * (r + 2 * t) + c + g;
            CHECK_EQ(transposed[32 * i + lane], column | (column + 0x100) << 16);
        }
}

/* One warp, fragments made by hand after the tables of mma.m16n8k16; sums in the order of k. */
static void test_mma_is_sixteen_fused_steps_in_order(void) {
    start();
    uint16_t *a = emu_alloc(512, "a", EMU_INPUT), *b = emu_alloc(256, "b", EMU_INPUT);
    float *c = emu_alloc(512, "c", EMU_OUTPUT), expected[128];
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < 256; i++)
            a[i] = random_bf16();
        for (uint32_t i = 0; i < 128; i++) {
            b[i] = random_bf16();
            expected[i] = c[i] = random_float();
        }
        for (uint32_t m = 0; m < 16; m++)
            for (uint32_t n = 0; n < 8; n++)
                for (uint32_t k = 0; k < 16; k++)
                    expected[8 * m + n] =
                        fmaf(cop_f32_from_bf16(a[16 * m + k]), cop_f32_from_bf16(b[8 * k + n]),
                             expected[8 * m + n]);
        run_ok(example_launch_mma(a, b, c, NULL));
        CHECK(memcmp(c, expected, sizeof expected) == 0);
    }
    CHECK_EQ(emu_mma_count(), 20);
}

static void test_scalars_have_the_bits_of_the_reference(void) {
    start();
    float *x = emu_alloc(128, "x", EMU_INPUT), *y = emu_alloc(128, "y", EMU_INPUT);
    float *out = emu_alloc(128 * EXAMPLE_SCALARS, "out", EMU_OUTPUT);
    for (uint32_t i = 0; i < 32; i++) {
        x[i] = fabsf(random_float()) * 30.0f + 0.01f;
        y[i] = random_float();
    }
    x[0] = INFINITY, x[1] = -INFINITY, x[2] = 0.0f, x[3] = 128.5f, x[4] = -126.5f, x[5] = -3.25f;
    run_ok(example_launch_scalars(x, y, out, NULL));
    for (uint32_t i = 2; i < 32; i++) {
        const float expected[EXAMPLE_SCALARS] = {x[i] * y[i],
                                                 x[i] + y[i],
                                                 x[i] - y[i],
                                                 fmaf(x[i], y[i], x[i]),
                                                 x[i] / y[i],
                                                 1.0f / x[i],
                                                 sqrtf(x[i]),
                                                 fmaxf(x[i], y[i]),
                                                 fminf(x[i], y[i]),
                                                 1.0f / sqrtf(x[i]),
                                                 cop_exp2(x[i]),
                                                 log2f(x[i]),
                                                 cop_f32_from_bf16(cop_bf16_from_f32(x[i])),
                                                 cop_f32_from_bf16(cop_bf16_from_f32(x[i])),
                                                 cop_f32_from_bf16(cop_bf16_from_f32(y[i]))};
        for (uint32_t f = 0; f < 15; f++)
            if (expected[f] == expected[f]) /* roots of negative numbers: NaN of any sign */
                CHECK(memcmp(&out[32 * f + i], &expected[f], 4) == 0);
            else
                CHECK(out[32 * f + i] != out[32 * f + i]);
        uint32_t bits;
        memcpy(&bits, &x[i], 4);
        CHECK_EQ(out[32 * 15 + i], __builtin_popcount(bits));
        CHECK_EQ(out[32 * 16 + i], bits ? __builtin_ctz(bits) + 9 : 64);
        CHECK_EQ(out[32 * 17 + i], 1);
    }
    CHECK(out[32 * 10] == INFINITY && out[32 * 10 + 1] == 0.0f);
    CHECK(out[32 * 17] == 0.0f && out[32 * 17 + 1] == 0.0f);
}

static void test_shuffles_and_votes(void) {
    start();
    int32_t *x = emu_alloc(128, "x", EMU_INPUT);
    int32_t *out = emu_alloc(128 * EXAMPLE_COLLECTIVES, "out", EMU_OUTPUT);
    uint32_t positive = 0;
    for (uint32_t i = 0; i < 32; i++) {
        x[i] = (int32_t)(random_bits() % 201) - 100;
        positive |= (uint32_t)(x[i] > 0) << i;
    }
    for (uint32_t variation = 0; variation < EMU_VARIATIONS; variation++) {
        emu_vary(variation);
        run_ok(example_launch_collectives(x, out, NULL));
        for (uint32_t i = 0; i < 32; i++) {
            CHECK_EQ(out[i], x[i ^ 5]);
            CHECK_EQ(out[32 + i], x[7]);
            CHECK_EQ(out[64 + i], x[i + 3 < 32 ? i + 3 : i]);
            CHECK_EQ(out[96 + i], x[i >= 3 ? i - 3 : i]);
            CHECK_EQ((uint32_t)out[128 + i], positive);
            CHECK_EQ(out[160 + i], positive != 0);
            CHECK_EQ(out[192 + i], positive == 0xffffffffu);
        }
    }
}

static void test_block_sums(void) {
    start();
    enum { N = 5000, EACH = 300, BLOCKS = 17 };
    float *x = emu_alloc(N * 4, "x", EMU_INPUT), *out = emu_alloc(BLOCKS * 4, "out", EMU_OUTPUT);
    for (uint32_t i = 0; i < N; i++)
        x[i] = (float)(random_bits() % 100);
    for (uint32_t variation = 0; variation < EMU_VARIATIONS; variation++) {
        emu_vary(variation);
        memset(out, 0xff, BLOCKS * 4);
        run_ok(example_launch_sum(x, out, N, EACH, BLOCKS, NULL));
        for (uint32_t b = 0; b < BLOCKS; b++) {
            float expected = 0.0f; /* small integers: exact in any order */
            for (uint32_t i = b * EACH; i < N && i < (b + 1) * EACH; i++)
                expected += x[i];
            CHECK(out[b] == expected);
        }
    }
    CHECK_EQ(emu_launches("sum_kernel"), EMU_VARIATIONS);
    CHECK_EQ(emu_launches(NULL), EMU_VARIATIONS);
    CHECK_EQ(emu_launches("sum"), 0);
}

static void product_expected(const uint16_t *a, const uint16_t *b, float *c, uint32_t k) {
    for (uint32_t m = 0; m < 64; m++)
        for (uint32_t n = 0; n < 64; n++) {
            float sum = 0.0f;
            for (uint32_t i = 0; i < k; i++)
                sum = fmaf(cop_f32_from_bf16(a[m * k + i]), cop_f32_from_bf16(b[i * 64 + n]), sum);
            for (uint32_t i = k; i % 32 != 0; i++)
                sum += 0.0f; /* zero-filled: -0 becomes 0 */
            c[64 * m + n] = sum;
        }
}

static void test_a_staged_product_equals_the_double_loop(void) {
    const uint32_t ks[] = {8, 32, 40, 96, 200};
    static float expected[4096];
    for (uint32_t i = 0; i < sizeof ks / sizeof ks[0]; i++) {
        const uint32_t k = ks[i];
        start();
        uint16_t *a = emu_alloc(64 * k * 2, "a", EMU_INPUT);
        uint16_t *b = emu_alloc(64 * k * 2, "b", EMU_INPUT);
        float *c = emu_alloc(sizeof expected, "c", EMU_OUTPUT);
        for (uint32_t j = 0; j < 64 * k; j++) {
            a[j] = random_bf16();
            b[j] = random_bf16();
        }
        product_expected(a, b, expected, k);
        for (uint32_t variation = 0; variation < EMU_VARIATIONS; variation++) {
            emu_vary(variation);
            memset(c, 0xff, sizeof expected);
            run_ok(example_launch_product(a, b, c, k, NULL));
            CHECK(memcmp(c, expected, sizeof expected) == 0);
        }
        emu_buffer_counts counts;
        CHECK(emu_counts("a", &counts));
        CHECK_EQ(counts.load_bytes, EMU_VARIATIONS * 64 * k * 2);
        CHECK_EQ(counts.first_load_bytes, EMU_VARIATIONS * 64 * k * 2);
        CHECK(emu_counts("c", &counts));
        CHECK_EQ(counts.first_store_bytes, EMU_VARIATIONS * sizeof expected);
        CHECK_EQ(counts.load_bytes, 0);
    }
}

static example_queue queue_make(uint32_t items, uint32_t parts) {
    example_queue queue = {.items = items, .parts = parts};
    float *x = emu_alloc((size_t)items * parts * 512, "x", EMU_INPUT);
    for (uint32_t i = 0; i < items * parts * 128; i++)
        x[i] = random_float();
    queue.x = x;
    queue.partials = emu_alloc((size_t)items * parts * 512, "partials", EMU_WORKSPACE);
    queue.out = emu_alloc((size_t)items * 512, "out", EMU_OUTPUT);
    queue.counters = emu_alloc(items * 4, "counters", EMU_OUTPUT);
    queue.ticket = emu_alloc(4, "ticket", EMU_OUTPUT);
    queue.left = emu_alloc(4, "left", EMU_OUTPUT);
    memset(queue.counters, 0, items * 4);
    *queue.ticket = *queue.left = 0;
    return queue;
}

static void test_a_queue_merged_by_the_last_arriver(void) {
    start();
    example_queue queue = queue_make(5, 4);
    for (uint32_t variation = 0; variation < EMU_VARIATIONS; variation++) {
        emu_options options = emu_get_options();
        options.resident_blocks = 1 + variation % 7;
        emu_set_options(&options);
        emu_vary(variation);
        emu_poison();
        memset(queue.out, 0xff, queue.items * 512);
        run_ok(example_launch_queue(&queue, NULL));
        for (uint32_t i = 0; i < queue.items * 128; i++) {
            float expected = 0.0f;
            for (uint32_t part = 0; part < queue.parts; part++)
                expected += 2.0f * queue.x[(i / 128 * queue.parts + part) * 128 + i % 128];
            CHECK(queue.out[i] == expected);
        }
        for (uint32_t i = 0; i < queue.items; i++)
            CHECK_EQ(queue.counters[i], 0);
        CHECK_EQ(*queue.ticket, 0);
    }
    emu_buffer_counts counts;
    CHECK(emu_counts("counters", &counts));
    CHECK_EQ(counts.atomics, EMU_VARIATIONS * queue.items * queue.parts);
}

static void test_producers_hand_over_through_named_barriers(void) {
    start();
    enum { ROUNDS = 6 };
    float *x = emu_alloc(ROUNDS * 256, "x", EMU_INPUT);
    float *out = emu_alloc(ROUNDS * 256, "out", EMU_OUTPUT);
    for (uint32_t i = 0; i < ROUNDS * 64; i++)
        x[i] = random_float();
    for (uint32_t variation = 0; variation < EMU_VARIATIONS; variation++) {
        emu_vary(variation);
        memset(out, 0xff, ROUNDS * 256);
        run_ok(example_launch_handover(x, out, ROUNDS, NULL));
        for (uint32_t i = 0; i < ROUNDS * 64; i++)
            CHECK(out[i] == 2.0f * x[i]);
    }
}

/* The same bits with a switch at every access, and with the memory model's strictness off. */
static void test_options_do_not_change_a_correct_kernel(void) {
    start();
    example_queue queue = queue_make(3, 3);
    float first[3 * 128];
    for (uint32_t i = 0; i < 4; i++) {
        emu_options options = {.schedule = EMU_RANDOM, .seed = 9 + i};
        options.switch_at_access = i == 1;
        options.immediate_stores = options.coherent_l1 = i == 2;
        options.check_uninitialised = options.count_banks = i == 3;
        emu_set_options(&options);
        run_ok(example_launch_queue(&queue, NULL));
        if (i == 0)
            memcpy(first, queue.out, sizeof first);
        CHECK(memcmp(first, queue.out, sizeof first) == 0);
    }
}

static void test_loads_and_stores_are_counted_and_first_touches_apart(void) {
    start();
    float *buffer = emu_alloc(512, "buffer", EMU_OUTPUT);
    memset(buffer, 0, 512);
    emu_buffer_counts counts;
    for (uint32_t i = 1; i <= 2; i++) { /* first touches begin anew with every launch */
        run_ok(example_launch_accesses(buffer, 0, NULL));
        CHECK(emu_counts("buffer", &counts));
        CHECK_EQ(counts.load_bytes, i * (2 * 128 + 16));
        CHECK_EQ(counts.first_load_bytes, i * (128 + 16));
        CHECK_EQ(counts.loads, i * 65);
        CHECK_EQ(counts.store_bytes, i * 128);
        CHECK_EQ(counts.first_store_bytes, i * 128);
    }
    run_ok(example_launch_accesses(buffer, 1, NULL));
    CHECK(emu_counts("buffer", &counts));
    CHECK_EQ(counts.store_bytes, 2 * 128 + 512);
    run_ok(example_launch_accesses(buffer, 7, NULL));
    CHECK(emu_counts("buffer", &counts));
    CHECK_EQ(counts.atomics, 64);
    CHECK(((uint32_t *)buffer)[1] == 0xffffffffu || buffer[1] != 0.0f);
    emu_free(buffer); /* counts outlive the buffer */
    CHECK(emu_counts("buffer", &counts));
    CHECK_EQ(counts.store_bytes, 2 * 128 + 512);
    CHECK(!emu_counts("no such buffer", &counts));
    emu_reset_counts();
    CHECK(emu_counts("buffer", &counts));
    CHECK_EQ(counts.store_bytes, 0);
}

static void test_bank_conflicts_follow_the_32_bank_rule(void) {
    start();
    float *out = emu_alloc(128, "out", EMU_OUTPUT);
    emu_options options = {.count_banks = true};
    emu_set_options(&options);
    /* A stride of s words: gcd(s, 32) lanes fall on one bank. Two requests, a store and a load. */
    const struct {
        uint32_t stride, cycles;
    } cases[] = {{1, 1}, {2, 2}, {3, 1}, {4, 4}, {8, 8}, {16, 16}, {32, 32}, {33, 1}};
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        emu_reset_counts();
        run_ok(example_launch_strided(out, cases[i].stride, NULL));
        const emu_bank_counts banks = emu_banks();
        CHECK_EQ(banks.requests, 2);
        CHECK_EQ(banks.phases, 2);
        CHECK_EQ(banks.cycles, 2 * cases[i].cycles);
    }
    emu_reset_counts();
    run_ok(
        example_launch_strided(out, 0, NULL)); /* 16 bytes a lane: four phases, none in conflict */
    CHECK_EQ(emu_banks().phases, 8);
    CHECK_EQ(emu_banks().cycles, 8);
}

static void test_a_swizzle_shows_in_the_banks(void) {
    start();
    enum { K = 64 };
    uint16_t *a = emu_alloc(64 * K * 2, "a", EMU_INPUT), *b = emu_alloc(64 * K * 2, "b", EMU_INPUT);
    float *c = emu_alloc(16384, "c", EMU_OUTPUT);
    memset(a, 0, 64 * K * 2);
    memset(b, 0, 64 * K * 2);
    emu_options options = {.count_banks = true};
    emu_set_options(&options);
    run_ok(example_launch_product(a, b, c, K, NULL));
    CHECK(emu_banks().requests > 0);
    CHECK_EQ(emu_banks().cycles, emu_banks().phases);
    CHECK(emu_mutant_select("product_swizzle"));
    emu_reset_counts();
    run_ok(example_launch_product(a, b, c, K, NULL));
    emu_mutant_select(NULL);
    CHECK(emu_banks().cycles > 2 * emu_banks().phases);
    CHECK(emu_banks().worst_file && strstr(emu_banks().worst_file, "examples.cu"));
}

static void test_counting_without_arithmetic_counts_the_same(void) {
    start();
    enum { K = 200 };
    uint16_t *a = emu_alloc(64 * K * 2, "a", EMU_INPUT), *b = emu_alloc(64 * K * 2, "b", EMU_INPUT);
    float *c = emu_alloc(16384, "c", EMU_OUTPUT);
    emu_buffer_counts with, without;
    run_ok(example_launch_product(a, b, c, K, NULL));
    CHECK(emu_counts("b", &with));
    const uint64_t switches = emu_switches();
    emu_reset_counts();
    emu_options options = {.no_arithmetic = true};
    emu_set_options(&options);
    run_ok(example_launch_product(a, b, c, K, NULL));
    CHECK(emu_counts("b", &without));
    CHECK(memcmp(&with, &without, sizeof with) == 0);
    CHECK_EQ(emu_mma_count(), 0);
    CHECK(emu_switches() * 2 < switches);
}

/* A buffer of 16 GB that is mostly a reservation: offsets beyond 2^32 are like any other. */
static void test_huge_buffers_cost_what_is_touched(void) {
    start();
    const size_t bytes = (size_t)1 << 34;
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED)
        SKIP("no address space for 16 GB");
    CHECK(emu_register(p, bytes, "pool", EMU_OUTPUT));
    run_ok(example_launch_accesses((float *)(p + bytes - 512), 1, NULL));
    run_ok(example_launch_accesses((float *)(p + ((size_t)5 << 30)), 1, NULL));
    CHECK(((float *)(p + bytes - 512))[127] == 4.0f);
    emu_buffer_counts counts;
    CHECK(emu_counts("pool", &counts));
    CHECK_EQ(counts.first_store_bytes, 1024);
    emu_forget_all();
    munmap(p, bytes);
}

static int hold(void *user, void *stream, emu_work *work) {
    CHECK(stream == (void *)7);
    CHECK_TEXT(emu_work_name(work), "sum_kernel");
    *(emu_work **)user = work;
    return 0;
}

static void test_a_stream_hook_runs_work_later(void) {
    start();
    float *x = emu_alloc(128 * 4, "x", EMU_INPUT), *out = emu_alloc(4, "out", EMU_OUTPUT);
    emu_work *held = NULL;
    emu_set_stream_hook(hold, &held);
    CHECK_EQ(example_launch_sum(x, out, 128, 128, 1, (void *)7), 0);
    emu_set_stream_hook(NULL, NULL);
    CHECK(held != NULL && out[0] != out[0]);
    for (uint32_t i = 0; i < 128; i++)
        x[i] = 1.0f;
    CHECK_EQ(emu_work_blocks(held), 1);
    CHECK_EQ(emu_work_run(held), 0);
    CHECK(out[0] == 128.0f);
    for (uint32_t i = 0; i < 128; i++)
        x[i] = 2.0f;
    CHECK_EQ(emu_work_run(held), 0); /* again, with the arguments that it had */
    emu_work_free(held);
    CHECK(out[0] == 256.0f);
    CHECK_EQ(emu_launches("sum_kernel"), 2);
}

static void test_a_freed_buffer_is_named_when_a_kernel_meets_it(void) {
    start();
    float *kept = emu_alloc(144, "kept", EMU_OUTPUT), *freed = emu_alloc(144, "freed", EMU_OUTPUT);
    emu_retire(freed);
    run_ok(example_launch_accesses(kept, 0, NULL));
    CHECK_EQ(example_launch_accesses(freed, 0, NULL), 719);
    CHECK_EQ(emu_report()->error, EMU_FREED);
    CHECK(strstr(emu_report()->text, "freed memory: ") &&
          strstr(emu_report()->text, "buffer freed"));
    emu_unregister(freed);
    CHECK_EQ(example_launch_accesses(freed, 0, NULL), 719);
    CHECK_EQ(emu_report()->error, EMU_OUT_OF_BOUNDS);
}

static void test_bytes_ever_written_are_remembered(void) {
    start();
    /* Not at a multiple of 64 bytes, so that words of bits and the buffer begin apart. */
    unsigned char *memory = aligned_alloc(64, 512);
    float *x = (float *)(void *)(memory + 16);
    CHECK(emu_register(x, 300, "x", EMU_OUTPUT));
    CHECK_EQ(emu_written(x, 300), 300); /* it does not remember yet */
    CHECK(emu_remember_written(x) && emu_remember_written(x));
    CHECK_EQ(emu_written(x, 300), 0);
    CHECK_EQ(emu_written(x, 0), 0);
    memset(x, 0, 300);
    run_ok(example_launch_accesses(x, 0, NULL)); /* 32 floats */
    CHECK_EQ(emu_written(x, 300), 128);
    CHECK_EQ(emu_written((unsigned char *)x + 5, 123), 123);
    emu_mark_written((unsigned char *)x + 130, 100);
    CHECK_EQ(emu_written(x, 300), 128);
    CHECK_EQ(emu_written((unsigned char *)x + 130, 170), 100);
    emu_mark_written((unsigned char *)x + 128, 2);
    CHECK_EQ(emu_written(x, 300), 230);
    run_ok(example_launch_accesses(x + 60, 7, NULL)); /* two atomics */
    CHECK_EQ(emu_written(x + 60, 60), 8);
    CHECK(!emu_remember_written(memory));
    emu_forget_all();
    free(memory);
}

typedef struct touched_list {
    uint32_t n;
    struct {
        const float *begin;
        size_t bytes;
        bool written;
    } runs[8];
} touched_list;

static void list_run(void *user, const void *begin, size_t bytes, bool written) {
    touched_list *list = user;
    CHECK(list->n < 8);
    list->runs[list->n].begin = begin;
    list->runs[list->n].bytes = bytes;
    list->runs[list->n++].written = written;
}

static void check_run(const touched_list *list, uint32_t i, const float *begin, size_t bytes,
                      bool written) {
    CHECK(list->runs[i].begin == begin);
    CHECK_EQ(list->runs[i].bytes, bytes);
    CHECK_EQ(list->runs[i].written, written);
}

static void test_what_a_launch_touched(void) {
    start();
    float *other = emu_alloc(64, "other", EMU_OUTPUT), *x = emu_alloc(1024, "x", EMU_OUTPUT);
    memset(x, 0, 1024);
    touched_list list = {0};
    run_ok(example_launch_accesses(other, 0, NULL) == 719 ? 0 : 1); /* it is too small */
    run_ok(example_launch_accesses(x + 4, 0, NULL));
    emu_touched(list_run, &list);
    CHECK_EQ(list.n, 2); /* 32 floats read and written, 4 behind them only read */
    check_run(&list, 0, x + 4, 128, true);
    check_run(&list, 1, x + 36, 16, false);
    list.n = 0;
    run_ok(example_launch_accesses(x + 100, 7, NULL));
    emu_touched(list_run, &list);
    CHECK_EQ(list.n, 1);
    check_run(&list, 0, x + 100, 8, true);
    list.n = 0;
    float *sum = emu_alloc(64, "sum", EMU_OUTPUT);
    run_ok(example_launch_sum(x, sum, 128, 128, 1, NULL));
    emu_touched(list_run, &list);
    CHECK_EQ(list.n, 2);
    check_run(&list, sum < x ? 0 : 1, sum, 4, true);
    check_run(&list, sum < x ? 1 : 0, x, 512, false);
}

static void test_a_buffer_renamed(void) {
    start();
    float *x = emu_alloc(144, "first", EMU_OUTPUT);
    emu_buffer_counts counts;
    run_ok(example_launch_accesses(x, 0, NULL));
    emu_rename(x, "second");
    run_ok(example_launch_accesses(x, 0, NULL));
    CHECK(emu_counts("first", &counts));
    CHECK_EQ(counts.store_bytes, 128);
    CHECK(emu_counts("second", &counts));
    CHECK_EQ(counts.store_bytes, 128);
}

static void test_every_mutant_is_listed_once(void) {
    CHECK(emu_mutants() >= 17);
    for (uint32_t i = 0; i < emu_mutants(); i++) {
        CHECK(emu_mutant_text(i)[0] != 0);
        for (uint32_t j = 0; j < i; j++)
            CHECK(strcmp(emu_mutant_name(i), emu_mutant_name(j)) != 0);
        CHECK(emu_mutant_select(emu_mutant_name(i)));
    }
    CHECK(!emu_mutant_select("no such mutant"));
    CHECK(emu_mutant_select(NULL));
}

int main(void) {
    RUN(test_ldmatrix_gives_the_fragments_of_the_isa);
    RUN(test_mma_is_sixteen_fused_steps_in_order);
    RUN(test_scalars_have_the_bits_of_the_reference);
    RUN(test_shuffles_and_votes);
    RUN(test_block_sums);
    RUN(test_a_staged_product_equals_the_double_loop);
    RUN(test_a_queue_merged_by_the_last_arriver);
    RUN(test_producers_hand_over_through_named_barriers);
    RUN(test_options_do_not_change_a_correct_kernel);
    RUN(test_loads_and_stores_are_counted_and_first_touches_apart);
    RUN(test_bank_conflicts_follow_the_32_bank_rule);
    RUN(test_a_swizzle_shows_in_the_banks);
    RUN(test_counting_without_arithmetic_counts_the_same);
    RUN(test_huge_buffers_cost_what_is_touched);
    RUN(test_a_stream_hook_runs_work_later);
    RUN(test_a_freed_buffer_is_named_when_a_kernel_meets_it);
    RUN(test_bytes_ever_written_are_remembered);
    RUN(test_what_a_launch_touched);
    RUN(test_a_buffer_renamed);
    RUN(test_every_mutant_is_listed_once);
    emu_forget_all();
    return check_report();
}
