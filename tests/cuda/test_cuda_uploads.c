/* Bytes that steps send at 8 to 4,096 branches that are out of phase: they grow with what happened,
 * not with the branches. Prints the table.
 *
 * Kernels are dropped as they are launched, since the host alone decides what is sent; the first
 * row is run with its kernels too, and must send the same. Every branch says what its script says,
 * so that no result is needed. */
#include "backend/cuda/cuda_internal.h"
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
    uint64_t steps, pages, chunks, bytes, quiet_steps, quiet_bytes, most;
} figures;

/* Pages (where they are not taken ahead) and chunks that the next step's tokens begin. */
static void count_crossings(const world *w, uint64_t *pages, uint64_t *chunks) {
    *pages = *chunks = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        const cop_node_info info = cop_kv_node(w->kv, w->branch[i].node);
        const uint32_t tokens = cop_kv_segments(w->kv)[info.segment].tokens;
        /* A chunk ends with the first leaf of 64 that brings it to 256 tokens. */
        const uint32_t first = (256 - info.chunk_fill + 63) / 64 * 64;
        *chunks += tokens >= first && (tokens - first) % 256 == 0;
        *pages += !w->options.pages_ahead && tokens % w->options.page_tokens == 0;
    }
}

static uint64_t sent(const world *w) {
    cop_backend_counters c;
    w->ops->counters(w->backend, &c);
    return c.upload_bytes;
}

static world *open_world(uint32_t n_branches, uint32_t prompt, bool with_kernels,
                         bool pages_ahead) {
    const world_options options = {
        .ops = cop_backend_module(COP_BACKEND_ABI),
        .backend = {.max_rows = n_branches + 256, .products = COP_PRODUCTS_INVARIANT},
        .model = {1, 64, 1, 1, 64, 64, 64, true, "BF16"},
        .n_branches = n_branches,
        .max_branches = n_branches + 8,
        .prompt_tokens = prompt,
        .page_tokens = 64,
        .n_pages = 6 * n_branches + 64,
        .pages_ahead = pages_ahead,
        .stagger = 200, /* one branch in 64 begins a page at each step, one in 200 a chunk */
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
    return w;
}

static void close_world(world *w) {
    world_close(w);
    CHECK_EQ(cemu_faults(CEMU_NO_FAULT), 0);
    CHECK_TEXT(cemu_leaks(), "");
}

static figures measure(uint32_t n_branches, bool with_kernels, bool pages_ahead, uint32_t n_steps) {
    world *w = open_world(n_branches, 100, with_kernels, pages_ahead);
    figures f = {.steps = n_steps};
    for (uint32_t i = 0; i < n_steps; i++) {
        uint64_t pages, chunks;
        count_crossings(w, &pages, &chunks);
        const uint64_t before = sent(w);
        CHECK_OK(world_step(w));
        const uint64_t bytes = sent(w) - before;
        const bool quiet = pages + chunks == 0;
        f.pages += pages, f.chunks += chunks;
        f.bytes += bytes;
        f.quiet_steps += quiet;
        f.quiet_bytes += quiet ? bytes : 0;
        f.most = bytes > f.most ? bytes : f.most;
    }
    close_world(w);
    return f;
}

/* Of one branch's end and a fork into two others with three tokens each, until all decode again,
 * where nobody crosses anything meanwhile. */
static uint64_t event_bytes(uint32_t n_branches, bool with_kernels) {
    world *w = open_world(n_branches, 40, with_kernels, true);
    const uint64_t before = sent(w);
    world_end(w, 3);
    CHECK_OK(world_fork_beside(w, 2, 3));
    CHECK_OK(world_step(w));
    CHECK_OK(world_step(w));
    const uint64_t bytes = sent(w) - before;
    close_world(w);
    return bytes;
}

static const uint32_t branches[] = {8, 64, 512, 4096};

static void table(bool pages_ahead) {
    enum { STEPS = 50 }; /* within one script */
    const uint32_t n = check_effort(4, 3);
    printf(
        "  counted, kernels dropped; pages of 64 tokens %s, chunks of 256, branches out of phase, "
        "%d steps\n  branches  pages/step  chunks/step  bytes/step  bytes/branch  most in a "
        "step  quiet steps\n",
        pages_ahead ? "taken up to the chunk's end" : "taken one by one", STEPS);
    for (uint32_t i = 0; i < n; i++) {
        const figures f = measure(branches[i], false, pages_ahead, STEPS);
        printf("  %8u  %10.2f  %11.2f  %10.1f  %12.2f  %14" PRIu64 "  %11" PRIu64 "\n", branches[i],
               (double)f.pages / STEPS, (double)f.chunks / STEPS, (double)f.bytes / STEPS,
               (double)f.bytes / STEPS / branches[i], f.most, f.quiet_steps);
        CHECK_EQ(f.quiet_bytes, 0);
        CHECK(f.pages + f.chunks > 0 || branches[i] < 512);
        /* A page is one word; a chunk is a tile's walk of up to 64 branches, an item, partials. */
        CHECK(f.bytes <= 64 * f.pages + 4096 * f.chunks);
    }
}

static void test_bytes_grow_with_events(void) {
    table(false);
    table(true);
}

static void test_an_event_costs_the_same_however_many_others_there_are(void) {
    const uint32_t n = check_effort(4, 3);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t bytes = event_bytes(branches[i], false);
        printf("  one ends, two fork, of %u: %" PRIu64 " bytes\n", branches[i], bytes);
        CHECK(bytes <= 16 << 10);
    }
}

static void test_dropped_kernels_change_nothing(void) {
    const figures with = measure(8, true, false, 50), without = measure(8, false, false, 50);
    CHECK_EQ(with.bytes, without.bytes);
    CHECK_EQ(with.most, without.most);
    CHECK_EQ(event_bytes(8, true), event_bytes(8, false));
}

int main(void) {
    RUN(test_dropped_kernels_change_nothing);
    RUN(test_bytes_grow_with_events);
    RUN(test_an_event_costs_the_same_however_many_others_there_are);
    return check_report();
}
