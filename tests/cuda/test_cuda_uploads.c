/* Bytes that steps send at 8 to 4,096 branches that are out of phase: they grow with what happened,
 * not with the branches. Prints the table.
 *
 * Kernels are dropped as they are launched, since the host alone decides what is sent; the first
 * row is run with its kernels too, and must send the same. Every branch says what its script says,
 * so that no result is needed. */
#include "backend/cuda/cuda_internal.h"
#include "base/clock.h"
#include "cuda_emulation/cuda_emulation.h"
#include "decode_world.h"
#include "emulate/emulate.h"

cop_status __real_cop_backend_find(const char *name, const cop_backend_ops **out);
cop_status __wrap_cop_backend_find(const char *name, const cop_backend_ops **out);
cop_status __wrap_cop_backend_find(const char *name, const cop_backend_ops **out) {
    return __real_cop_backend_find(name, out);
}
const cop_backend_ops *cop_backend_module(uint32_t abi);

static int drop(void *user, void *stream, emu_work *work) {
    (void)user, (void)stream;
    emu_work_free(work);
    return 0;
}

typedef struct figures {
    uint64_t steps, events, bytes, quiet_steps, quiet_bytes, most;
    uint64_t event_bytes; /* of a fork of two and an end, beyond a quiet step's */
    double host_us;
} figures;

/* Pages and chunks that the next step's tokens begin. */
static uint64_t crossings(const world *w) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        const cop_node_info info = cop_kv_node(w->kv, w->branch[i].node);
        const uint32_t tokens = cop_kv_segments(w->kv)[info.segment].tokens;
        n += tokens % w->options.page_tokens == 0;
        n += (info.chunk_fill + tokens) % 256 == 0;
    }
    return n;
}

static uint64_t sent(const world *w) {
    cop_backend_counters c;
    w->ops->counters(w->backend, &c);
    return c.upload_bytes;
}

static figures measure(uint32_t n_branches, bool with_kernels, uint32_t n_steps) {
    const uint32_t rows = n_branches + 64;
    const world_options options = {
        .ops = cop_backend_module(COP_BACKEND_ABI),
        .backend = {.max_rows = rows, .products = COP_PRODUCTS_INVARIANT},
        .model = {1, 64, 1, 1, 64, 64, 64, true, "BF16"},
        .n_branches = n_branches,
        .max_branches = n_branches + 8,
        .prompt_tokens = 40,
        .page_tokens = 64,
        .n_pages = 4 * n_branches + 64,
        .stagger = 64, /* one branch in 64 begins a page at each step */
        .forced = true,
        .hints = true};
    cemu_reset(&(cemu_options){.device_bytes = 4ull << 30, .allow_unwritten_copies = true});
    world *w = world_prepare(&options);
    CHECK_OK(world_create_backend(w));
    CHECK_EQ(cudaMemset(w->backend->results, 0, options.max_branches * sizeof(cop_sample_result)),
             cudaSuccess);
    CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
    if (!with_kernels)
        emu_set_stream_hook(drop, NULL);
    CHECK_OK(world_prompt(w));
    CHECK_OK(world_fork(w, n_branches));
    for (uint32_t i = 0; i < 3; i++)
        CHECK_OK(world_step(w));
    figures f = {.steps = n_steps};
    const uint64_t begin = cop_clock_ns();
    for (uint32_t i = 0; i < n_steps; i++) {
        /* A script lasts for 63 tokens: sent ahead as one more event. */
        const uint64_t before = sent(w), events = crossings(w);
        CHECK_OK(world_step(w));
        const uint64_t bytes = sent(w) - before;
        f.events += events;
        f.bytes += bytes;
        f.quiet_steps += events == 0;
        f.quiet_bytes += events == 0 ? bytes : 0;
        f.most = bytes > f.most ? bytes : f.most;
    }
    f.host_us = (double)(cop_clock_ns() - begin) / 1e3 / n_steps;
    const uint64_t before = sent(w);
    world_end(w, 3);
    CHECK_OK(world_fork_beside(w, 2, 3));
    CHECK_OK(world_step(w));
    CHECK_OK(world_step(w));
    f.event_bytes = sent(w) - before;
    world_close(w);
    CHECK_EQ(cemu_faults(CEMU_NO_FAULT), 0);
    CHECK_TEXT(cemu_leaks(), "");
    return f;
}

static void test_bytes_grow_with_events(void) {
    enum { STEPS = 50 }; /* within one script */
    static const uint32_t branches[] = {8, 64, 512, 4096};
    const uint32_t n = check_effort(4, 3);
    printf("  counted; kernels dropped; pages of 64 tokens, branches out of phase, %d steps\n"
           "  branches  events/step  bytes/step  bytes/event  most in a step  fork+end, bytes\n",
           STEPS);
    for (uint32_t i = 0; i < n; i++) {
        const figures f = measure(branches[i], false, STEPS);
        const double per_event = f.events ? (double)f.bytes / (double)f.events : 0;
        printf("  %8u  %11.2f  %10.1f  %11.1f  %14" PRIu64 "  %15" PRIu64 "\n", branches[i],
               (double)f.events / STEPS, (double)f.bytes / STEPS, per_event, f.most, f.event_bytes);
        CHECK_EQ(f.quiet_bytes, 0);
        CHECK((f.events > 0 || branches[i] < 64) && per_event <= 64);
    }
}

static void test_dropped_kernels_change_nothing(void) {
    const figures with = measure(8, true, 50), without = measure(8, false, 50);
    CHECK_EQ(with.bytes, without.bytes);
    CHECK_EQ(with.most, without.most);
    CHECK_EQ(with.event_bytes, without.event_bytes);
}

int main(void) {
    RUN(test_dropped_kernels_change_nothing);
    RUN(test_bytes_grow_with_events);
    return check_report();
}
