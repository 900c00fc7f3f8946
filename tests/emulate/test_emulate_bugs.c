/* Seeded bugs: each must be caught under at least one of the schedules, eager or lazy, by a named
 * error or by a result that differs; and the report must say where. */
#include "check.h"
#include "emulate/emulate.h"
#include "emulate/examples.h"
#include "kv/fold_reference.h"

enum { N = 1100, EACH = 128, BLOCKS = 9, K = 200, ITEMS = 4, PARTS = 5, ROUNDS = 6 };

typedef struct world {
    float *x, *out;
    uint16_t *a, *b;
    example_queue queue;
} world;

static float *filled(uint32_t n, const char *name) {
    float *x = emu_alloc(n * sizeof *x, name, EMU_INPUT);
    for (uint32_t i = 0; i < n; i++)
        x[i] = (float)(i * 7919u % 613u) - 300.0f;
    return x;
}

static void world_make(world *w) {
    emu_forget_all();
    emu_set_options(NULL);
    *w = (world){.x = filled(N, "x"), .out = emu_alloc(16384, "out", EMU_OUTPUT)};
    w->a = emu_alloc(64 * K * 2, "a", EMU_INPUT);
    w->b = emu_alloc(64 * K * 2, "b", EMU_INPUT);
    for (uint32_t i = 0; i < 64 * K; i++) {
        w->a[i] = cop_bf16_from_f32((float)(i * 31u % 61u) - 30.0f);
        w->b[i] = cop_bf16_from_f32((float)(i * 17u % 53u) - 26.0f);
    }
    w->queue =
        (example_queue){.x = filled(ITEMS * PARTS * 128, "queue.x"),
                        .items = ITEMS,
                        .parts = PARTS,
                        .partials = emu_alloc(ITEMS * PARTS * 512, "partials", EMU_WORKSPACE),
                        .out = w->out,
                        .counters = emu_alloc(ITEMS * 4, "counters", EMU_OUTPUT),
                        .ticket = emu_alloc(4, "ticket", EMU_OUTPUT),
                        .left = emu_alloc(4, "left", EMU_OUTPUT)};
}

typedef bool run_function(world *w);

static bool run_sum(world *w) {
    return example_launch_sum(w->x, w->out, N, EACH, BLOCKS, NULL) == 0;
}

static bool run_product(world *w) {
    return example_launch_product(w->a, w->b, w->out, K, NULL) == 0;
}

static bool run_handover(world *w) {
    return example_launch_handover(w->x, w->out, ROUNDS, NULL) == 0;
}

/* Twice on the same counters, as steps of a model would. */
static bool run_queue(world *w) {
    memset(w->queue.counters, 0, ITEMS * 4);
    *w->queue.ticket = *w->queue.left = 0;
    emu_poison();
    if (example_launch_queue(&w->queue, NULL) != 0)
        return false;
    emu_poison();
    memset(w->out, 0xff, 16384);
    return example_launch_queue(&w->queue, NULL) == 0;
}

static unsigned char expected[16384];

/* A bit for each variation that catches the mutant; `error` the named error of the last one, 0 for
 * a wrong result. Byte-wise comparison: a NaN differs. */
static uint32_t hunt(const char *mutant, run_function *run, emu_options options, emu_error *error) {
    world w;
    world_make(&w);
    memset(w.out, 0xff, sizeof expected);
    CHECK(emu_mutant_select(NULL));
    CHECK(run(&w));
    memcpy(expected, w.out, sizeof expected);
    CHECK(emu_mutant_select(mutant));
    uint32_t caught = 0;
    *error = EMU_OK;
    for (uint32_t i = 0; i < EMU_VARIATIONS; i++) {
        emu_set_options(&options);
        emu_vary(i);
        memset(w.out, 0xff, sizeof expected);
        if (!run(&w)) {
            caught |= 1u << i;
            *error = emu_report()->error;
            CHECK(*error != EMU_OK && emu_report()->text[0]);
        } else if (memcmp(expected, w.out, sizeof expected) != 0) {
            caught |= 1u << i;
        }
    }
    emu_mutant_select(NULL);
    emu_set_options(NULL);
    for (uint32_t i = 0; i < EMU_VARIATIONS; i++) { /* nothing of a faulted launch is left */
        emu_vary(i);
        memset(w.out, 0xff, sizeof expected);
        CHECK(run(&w));
        CHECK(memcmp(expected, w.out, sizeof expected) == 0);
    }
    printf("  %-20s caught by 0x%03x of the variations%s%s\n", mutant, caught, *error ? ": " : "",
           *error ? emu_error_name(*error) : "");
    return caught;
}

enum { ALL = (1u << EMU_VARIATIONS) - 1, EAGER = 0x555, LAZY = 0xaaa };

static void must_fail(const char *mutant, run_function *run, emu_error error, const char *part) {
    emu_error found;
    CHECK_EQ(hunt(mutant, run, (emu_options){0}, &found), ALL);
    CHECK_TEXT(emu_error_name(found), emu_error_name(error));
    /* The report of the fault itself: hunt ends with clean runs, so provoke it once more. */
    world w;
    world_make(&w);
    emu_mutant_select(mutant);
    CHECK(!run(&w));
    if (!strstr(emu_report()->text, part) || !strstr(emu_report()->text, "examples.cu"))
        fprintf(stderr, "report: %s\n", emu_report()->text);
    CHECK(strstr(emu_report()->text, part) && strstr(emu_report()->text, "examples.cu"));
    emu_mutant_select(NULL);
}

static uint32_t must_differ(const char *mutant, run_function *run) {
    emu_error found;
    const uint32_t caught = hunt(mutant, run, (emu_options){0}, &found);
    CHECK(caught != 0);
    CHECK_EQ(found, EMU_OK);
    return caught;
}

static void test_a_dropped_barrier(void) {
    must_differ("sum_no_barrier", run_sum);
    must_differ("product_no_barrier", run_product);
    must_differ("queue_no_barrier", run_queue);
    emu_error found; /* a producer that runs ahead fills the barrier with its own second arrival */
    CHECK(hunt("handover_no_free", run_handover, (emu_options){0}, &found) != 0);
}

/* The fence after the count is no substitute, though it comes a moment later. */
static void test_a_dropped_fence(void) {
    must_differ("queue_no_fence", run_queue);
    CHECK_EQ(must_differ("queue_no_fences", run_queue), ALL);
}

static void test_a_load_through_l1_is_seen_at_once(void) {
    CHECK_EQ(must_differ("queue_plain_load", run_queue), ALL);
}

static void test_a_wait_for_the_wrong_group_needs_lazy_copies(void) {
    const uint32_t caught = must_differ("product_wait", run_product);
    CHECK_EQ(caught & LAZY, LAZY);
    CHECK_EQ(caught & EAGER, 0);
}

static void test_an_early_refill_needs_eager_copies(void) {
    const uint32_t caught = must_differ("product_refill", run_product);
    CHECK(caught & EAGER);
}

static void test_a_dirty_counter(void) {
    emu_error found;
    CHECK(hunt("queue_dirty", run_queue, (emu_options){0}, &found) != 0);
}

static void test_tails(void) {
    must_fail("sum_tail", run_sum, EMU_OUT_OF_BOUNDS, "past the end of buffer x (4400 bytes)");
    emu_error found;
    CHECK_EQ(hunt("product_tail", run_product, (emu_options){0}, &found), ALL);
    CHECK_EQ(found, EMU_OUT_OF_BOUNDS);
}

static void test_uninitialised_shared_memory(void) {
    CHECK_EQ(must_differ("sum_uninitialised", run_sum), ALL); /* a NaN shows */
    emu_error found;
    CHECK_EQ(hunt("sum_uninitialised", run_sum, (emu_options){.check_uninitialised = true}, &found),
             ALL);
    CHECK_EQ(found, EMU_UNINITIALISED);
}

static void test_divergence(void) {
    emu_error found;
    CHECK_EQ(hunt("sum_diverged", run_sum, (emu_options){0}, &found), ALL);
    CHECK(found == EMU_DIVERGED || found == EMU_DEADLOCK);
    must_fail("sum_two_places", run_sum, EMU_DIVERGED, "barrier");
}

static void test_a_deadlock_says_who_waits_where(void) {
    must_fail("sum_deadlock", run_sum, EMU_DEADLOCK, "wait for the block's barrier at ");
    must_fail("handover_threads", run_handover, EMU_BAD_BARRIER, "is asked for");
}

static void access_must_fail(uint32_t how, emu_kind kind, emu_error error, const char *part) {
    emu_forget_all();
    emu_set_options(NULL);
    float *before = emu_alloc(4096, "before", EMU_INPUT);
    float *memory = aligned_alloc(256, 4096);
    CHECK(before && memory);
    CHECK(emu_register(memory + 64, how == 4 ? 148 : 512, "buffer", kind));
    CHECK_EQ(example_launch_accesses(memory + 64, how, NULL), 719);
    if (emu_report()->error != error || !strstr(emu_report()->text, part))
        fprintf(stderr, "report: %s\n", emu_report()->text);
    CHECK_EQ(emu_report()->error, error);
    CHECK(strstr(emu_report()->text, part) != NULL);
    CHECK(strstr(emu_report()->text, "kernel accesses_kernel, block (0, 0, 0), thread ") != NULL);
    emu_unregister(memory + 64);
    free(memory);
}

static void test_accesses_are_checked(void) {
    access_must_fail(2, EMU_INPUT, EMU_MISALIGNED, "load of 8 bytes at offset 4 of buffer buffer");
    access_must_fail(3, EMU_INPUT, EMU_OUT_OF_BOUNDS, "4 bytes before buffer buffer");
    access_must_fail(4, EMU_INPUT, EMU_OUT_OF_BOUNDS, "at offset 144 crosses the end of buffer");
    access_must_fail(5, EMU_INPUT, EMU_OUT_OF_BOUNDS, "at byte 64 of 64 of shared memory");
    access_must_fail(6, EMU_OUTPUT, EMU_READ_ONLY, "which this launch wrote");
    access_must_fail(1, EMU_INPUT, EMU_READ_ONLY, "of input buffer buffer");
    access_must_fail(7, EMU_INPUT, EMU_READ_ONLY, "atomic of 4 bytes");
    access_must_fail(8, EMU_INPUT, EMU_MISALIGNED, "cp.async from");
    access_must_fail(9, EMU_INPUT, EMU_MISALIGNED, "at byte 8 of 64 of shared memory");
    access_must_fail(10, EMU_INPUT, EMU_OUT_OF_BOUNDS, "in no registered buffer");
    access_must_fail(11, EMU_INPUT, EMU_BAD_BARRIER, "multiple of 32");
}

static void test_launches_and_buffers_are_checked(void) {
    emu_forget_all();
    float *x = emu_alloc(512, "x", EMU_INPUT), *out = emu_alloc(4, "out", EMU_OUTPUT);
    CHECK_EQ(example_launch_sum(x, out, 128, 128, 0, NULL), 9);
    CHECK(strstr(emu_report()->text, "grid (0, 1, 1)") != NULL);
    emu_options options = {.shared_bytes_max = 63};
    emu_set_options(&options);
    CHECK_EQ(example_launch_sum(x, out, 128, 128, 1, NULL), 9);
    emu_set_options(NULL);
    CHECK_EQ(example_launch_sum(x, out, 128, 128, 1, NULL), 0);
    CHECK(!emu_register(x + 4, 8, "inside", EMU_INPUT));
    CHECK(strstr(emu_report()->text, "overlaps x") != NULL);
    CHECK(!emu_register(NULL, 8, "null", EMU_INPUT));
    CHECK(emu_alloc(0, "empty", EMU_INPUT) == NULL);
    emu_free(NULL);
    emu_unregister(out + 100);
    emu_forget_all();
}

int main(void) {
    RUN(test_a_dropped_barrier);
    RUN(test_a_dropped_fence);
    RUN(test_a_load_through_l1_is_seen_at_once);
    RUN(test_a_wait_for_the_wrong_group_needs_lazy_copies);
    RUN(test_an_early_refill_needs_eager_copies);
    RUN(test_a_dirty_counter);
    RUN(test_tails);
    RUN(test_uninitialised_shared_memory);
    RUN(test_divergence);
    RUN(test_a_deadlock_says_who_waits_where);
    RUN(test_accesses_are_checked);
    RUN(test_launches_and_buffers_are_checked);
    emu_forget_all();
    return check_report();
}
