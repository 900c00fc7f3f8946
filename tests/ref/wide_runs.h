/* Runs of the wide driver in a roomy pool and in one of 60 percent of what it needed there: they
 * complete under every policy that lets branches wait, and nothing is lost. */
#pragma once

#include "check.h"
#include "ref/wide_driver.h"

typedef struct wide_runs {
    const cop_model *model;
    const char *backend; /* of the tight runs */
    cop_arith arith;
    cop_products_mode products;
    uint32_t words;
} wide_runs;

static inline cop_metrics wide_run(const wide_runs *w, const char *backend, cop_pressure pressure,
                                   uint32_t pages, wide_driver *d) {
    const cop_engine_options options = {.backend = backend,
                                        .arith = w->arith,
                                        .n_threads = 1,
                                        .products = w->products,
                                        .page_tokens = 16,
                                        .n_pages = pages,
                                        .chunk_tokens = 128,
                                        .chunk_tail_tokens = 64,
                                        .max_branches = 2 * WIDE_BRANCHES,
                                        .max_positions = 4096,
                                        .max_segments = 16000,
                                        .pressure = pressure,
                                        .seed = 7};
    cop_engine *engine;
    cop_metrics m;
    cop_driver *list[] = {&d->driver};
    wide_driver_init(d, 3, cop_model_shape_of(w->model)->vocab, w->words);
    CHECK_OK(cop_engine_create(w->model, &options, &engine));
    CHECK_OK(cop_engine_run(engine, list, 1, &m));
    cop_engine_destroy(engine);
    CHECK_EQ(m.kv_pages_leaked, 0);
    CHECK_EQ(m.allocations_in_steps, 0);
    CHECK_EQ(m.failed_rows, 0);
    CHECK_EQ(d->n_open, 0);
    CHECK(m.kv_pages_peak <= pages);
    return m;
}

static inline void wide_check(const wide_runs *w) {
    static wide_driver d;
    const cop_metrics roomy = wide_run(w, w->backend, COP_PRESSURE_FAIL, 8000, &d);
    const uint64_t digest = wide_driver_digest(&d);
    const uint32_t pages = (uint32_t)(roomy.kv_pages_peak * 60 / 100);
    printf("  %u branches at once, %u levels; %" PRIu64 " tokens, %" PRIu64 " pages, the longest "
           "view %" PRIu64 "; %u pruned, %u joined by text, %u stitched\n",
           d.n_open_most, d.levels, roomy.tokens_total, roomy.kv_pages_peak,
           roomy.view_pages_longest, d.pruned, d.texts, d.stitches);
    fflush(stdout);
    CHECK(d.n_open_most >= 1024 && d.levels == WIDE_LEVELS);
    CHECK(d.pruned > 0 && d.texts > 0 && d.stitches > 0 && roomy.view_pages_longest <= pages);
    for (cop_pressure p = COP_PRESSURE_QUEUE; p <= COP_PRESSURE_PRUNE_LOWEST; p++) {
        const cop_metrics m = wide_run(w, w->backend, p, pages, &d);
        printf("  %s: %" PRIu64 " gave way or waited, %" PRIu64 " tokens again, %u began anew, "
               "%u shed, %" PRIu64 " steps\n",
               cop_pressure_name(p), m.branches_parked, m.tokens_recomputed, d.restarts, d.shed,
               m.steps_forward);
        fflush(stdout);
        if (p == COP_PRESSURE_PRUNE_LOWEST) {
            CHECK(d.shed > 0 && m.branches_shed == d.shed);
            continue;
        }
        CHECK(m.branches_parked > 0);
        CHECK(wide_driver_digest(&d) == digest);
        CHECK_EQ(m.tokens_total, roomy.tokens_total);
        CHECK_EQ(m.tokens_longest_thread, roomy.tokens_longest_thread);
    }
}
