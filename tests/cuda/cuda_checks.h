/* Checks of the CUDA backend over the emulated runtime that end the process when they fail: what a
 * steady step sends, what a run with events gives, what the device's tables hold. Shared by the
 * tests and by the hunt for seeded bugs. */
#pragma once

#include "backend/cuda/cuda_internal.h"
#include "cuda_emulation/cuda_emulation.h"
#include "decode_world.h"

cop_status __real_cop_backend_find(const char *name, const cop_backend_ops **out);
cop_status __wrap_cop_backend_find(const char *name, const cop_backend_ops **out);
cop_status __wrap_cop_backend_find(const char *name, const cop_backend_ops **out) {
    return __real_cop_backend_find(name, out);
}
const cop_backend_ops *cop_backend_module(uint32_t abi);

static const small_model tiny = {2, 64, 2, 1, 64, 96, 320, false, "BF16"};

static inline world_options options_of(uint32_t n_branches) {
    return (world_options){.ops = cop_backend_module(COP_BACKEND_ABI),
                           .model = tiny,
                           .n_branches = n_branches,
                           .prompt_tokens = 20,
                           .page_tokens = 64,
                           .stagger = 5};
}

static void no_faults(void) {
    for (uint32_t i = 0; i < 4 && cemu_fault_text(i, NULL); i++)
        fprintf(stderr, "%s\n", cemu_fault_text(i, NULL));
    CHECK_EQ(cemu_faults(CEMU_NO_FAULT), 0);
}

static void close_clean(world *w) {
    world_close(w);
    no_faults();
    CHECK_TEXT(cemu_leaks(), "");
}

/* The mirror is what the device holds, word for word, wherever the host knows it. */
static void mirror_is_true(world *w) {
    const cop_backend *b = w->backend;
    CHECK_OK(world_settle(w));
    uint32_t *words = malloc(b->table_bytes);
    CHECK(words);
    CHECK_EQ(cudaStreamSynchronize(b->stream), cudaSuccess);
    CHECK_EQ(cudaMemcpy(words, b->device_tables, b->table_bytes, cudaMemcpyDeviceToHost),
             cudaSuccess);
    for (uint32_t t = 0; t < COP__T_COUNT; t++) {
        const cop__table *table = &b->tables[t];
        const uint32_t *is = words + (table->device - b->device_tables);
        for (uint32_t i = 0; i < table->n_words; i++)
            if (is[i] != table->mirror[i]) {
                fprintf(stderr, "table %u word %u: the device has %u, its mirror %u\n", t, i, is[i],
                        table->mirror[i]);
                exit(1);
            }
    }
    uint32_t bad = 1; /* of a patch that would have left its table */
    CHECK_EQ(cudaMemcpy(&bad, b->bad, sizeof bad, cudaMemcpyDeviceToHost), cudaSuccess);
    CHECK_EQ(bad, 0);
    free(words);
}

/* ---- a steady step ---- */

static inline void steady(world_options options, uint32_t n_steps) {
    cemu_reset(NULL);
    world *w = world_open(&options);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_OK(world_step(w));
    cop_backend_counters before, after;
    w->ops->counters(w->backend, &before);
    const cemu_counts counts = cemu_get_counts();
    const uint64_t taken = cop_memory_count();
    cemu_steady_begin();
    for (uint32_t i = 0; i < n_steps; i++)
        CHECK_OK(world_step(w));
    cemu_steady_end();
    const cemu_counts now = cemu_get_counts();
    w->ops->counters(w->backend, &after);
    CHECK_EQ(after.upload_bytes - before.upload_bytes, 0);
    CHECK_EQ(after.upload_steps - before.upload_steps, 0);
    CHECK_EQ(after.allocations - before.allocations, 0);
    CHECK_EQ(after.waits - before.waits, n_steps);
    CHECK_EQ(after.graph_launches - before.graph_launches, n_steps);
    CHECK_EQ(after.launches - before.launches, 0);
    CHECK_EQ(after.captures, 1);
    CHECK_EQ(now.upload_bytes - counts.upload_bytes, 0);
    CHECK_EQ(now.uploads - counts.uploads, 0);
    CHECK_EQ(now.allocations - counts.allocations, 0);
    CHECK_EQ(now.creations - counts.creations, 0);
    CHECK_EQ(now.waits - counts.waits, n_steps);
    CHECK_EQ(now.kernel_launches - counts.kernel_launches, 0);
    CHECK_EQ(now.products - counts.products, 0);
    CHECK_EQ(now.graph_launches - counts.graph_launches, n_steps);
    CHECK_EQ(now.downloads - counts.downloads, n_steps);
    CHECK_EQ(now.download_bytes - counts.download_bytes,
             n_steps * w->n * sizeof(cop_sample_result));
    CHECK_EQ(cop_memory_count() - taken, 0);
    mirror_is_true(w);
    close_clean(w);
}

/* ---- digests ---- */

typedef struct run_result {
    uint64_t tokens, bits, graph_launches, captures, uploads, waits, steps, idle_ns, op_ns, timed;
} run_result;

/* Steps with events: branches end, others fork, the number of rows goes up and down. */
static run_result run(world_options options, uint32_t n_steps) {
    world *w = world_open(&options);
    for (uint32_t i = 0; i < n_steps; i++) {
        CHECK_OK(world_step(w));
        const uint32_t what = i % 16;
        if (what == 5 && w->n > 1) {
            CHECK_OK(world_settle(w));
            world_end(w, i % w->n);
        } else if (what == 9 && w->n + 2 <= w->options.max_branches) {
            CHECK_OK(world_fork_beside(w, 2, i % 3 ? 1 : 3));
        } else if (what == 13 && w->n + 1 <= w->options.max_branches) {
            CHECK_OK(world_fork(w, 1));
        } else if (what == 15 && w->n > 2) {
            CHECK_OK(world_settle(w));
            world_end(w, 0);
            world_end(w, w->n - 1);
            if (w->options.miss_turns)
                CHECK_OK(world_miss_turn(w));
        }
    }
    if (w->ops != &cop_backend_cpu)
        mirror_is_true(w);
    CHECK_OK(world_settle(w));
    cop_backend_counters c;
    w->ops->counters(w->backend, &c);
    const run_result r = {.tokens = w->tokens_digest,
                          .bits = w->bits_digest,
                          .graph_launches = c.graph_launches,
                          .captures = c.captures,
                          .uploads = c.upload_steps,
                          .waits = c.waits,
                          .steps = c.steps,
                          .idle_ns = c.device_idle_ns,
                          .timed = c.timed_steps};
    run_result out = r;
    for (int op = 0; op < COP_OP_COUNT; op++)
        out.op_ns += c.op_ns[op];
    CHECK_EQ(w->failed, 0);
    if (w->ops == &cop_backend_cpu)
        world_close(w);
    else
        close_clean(w);
    return out;
}

static inline run_result run_cuda(world_options options, uint32_t n_steps) {
    cemu_reset(NULL);
    return run(options, n_steps);
}
