/* A pool that is too small: under every policy but `fail` the runs complete, nothing is lost, and
 * whoever is not pruned says the same tokens. */
#include "base/memory.h"
#include "check.h"
#include "ref/random_driver.h"

enum { BATCH_MAX = 12 };

static random_driver drivers[BATCH_MAX];
static const char *const backends[] = {"cpu", "cpu_ahead"};

static cop_engine *make_engine(const cop_model *model, const char *backend, cop_pressure pressure,
                               uint32_t n_pages) {
    cop_engine_options options = {.backend = backend,
                                  .arith = COP_ARITH_F32,
                                  .n_threads = 1,
                                  .page_tokens = 16,
                                  .n_pages = n_pages,
                                  .chunk_tokens = 128,
                                  .chunk_tail_tokens = 64,
                                  .max_branches = 1400,
                                  .max_positions = 4096,
                                  .max_segments = 6000,
                                  .pressure = pressure,
                                  .seed = 7};
    cop_engine *engine;
    CHECK_OK(cop_engine_create(model, &options, &engine));
    return engine;
}

static cop_status run(cop_engine *engine, const cop_model *model, uint32_t first, uint32_t n,
                      cop_metrics *metrics) {
    static random_coverage coverage;
    cop_driver *list[BATCH_MAX];
    for (uint32_t i = 0; i < n; i++) {
        random_driver_init(&drivers[i], first + i, cop_model_shape_of(model)->vocab, &coverage);
        list[i] = &drivers[i].driver;
    }
    return cop_engine_run(engine, list, n, metrics);
}

/* Sizes of pools between what the longest view needs and what all needed at once. */
static uint32_t pool_size(const cop_metrics *roomy, uint32_t percent) {
    const uint64_t least = roomy->view_pages_longest, most = roomy->kv_pages_peak;
    return (uint32_t)(least + (most - least) * percent / 100);
}

static void test_the_same_tokens_in_any_pool(void) {
    static const cop_pressure policies[] = {COP_PRESSURE_QUEUE, COP_PRESSURE_RECOMPUTE};
    static const uint32_t percents[] = {0, 15, 60, 95};
    const uint32_t trees = check_effort(120, 24);
    uint64_t parked[2] = {0}, recomputed[2] = {0}, back = 0;
    cop_model *model;
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &model));
    cop_engine *roomy = make_engine(model, "cpu", COP_PRESSURE_FAIL, 8000);
    for (uint32_t at = 0, n, turn = 0; at < trees; at += n, turn++) {
        uint64_t digests[BATCH_MAX];
        cop_metrics plain, m;
        n = turn % 4 == 0 ? 1 : 1 + cop_rng_below((cop_rng_key){6, at, 0}, 0, BATCH_MAX);
        n = n > trees - at ? trees - at : n;
        CHECK_OK(run(roomy, model, at, n, &plain));
        for (uint32_t i = 0; i < n; i++)
            digests[i] = drivers[i].digest;
        const uint32_t pages = pool_size(&plain, percents[turn % 4]);
        for (uint32_t p = 0; p < 2; p++) {
            cop_engine *tight = make_engine(model, backends[(turn + p) % 2], policies[p], pages);
            CHECK_OK(run(tight, model, at, n, &m));
            for (uint32_t i = 0; i < n; i++)
                CHECK(drivers[i].digest == digests[i]);
            CHECK_EQ(m.kv_pages_leaked, 0);
            CHECK_EQ(m.allocations_in_steps, 0);
            CHECK_EQ(m.tokens_total, plain.tokens_total);
            CHECK_EQ(m.tokens_longest_thread, plain.tokens_longest_thread);
            CHECK(m.kv_pages_peak <= pages);
            parked[p] += m.branches_parked;
            recomputed[p] += m.tokens_recomputed;
            back += m.rows_taken_back;
            cop_engine_destroy(tight);
        }
    }
    printf("  queue: %" PRIu64 " had to wait, %" PRIu64 " tokens again; recompute: %" PRIu64
           " gave way or waited, %" PRIu64 " tokens again\n",
           parked[0], recomputed[0], parked[1], recomputed[1]);
    CHECK(parked[0] > 0 && parked[1] > 0 && recomputed[1] > 0 && back > 0);
    cop_engine_destroy(roomy);
    cop_model_close(model);
}

/* What no policy can help: a view that is longer than the pool. */
static void test_a_pool_below_the_longest_view(void) {
    cop_model *model;
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &model));
    cop_engine *roomy = make_engine(model, "cpu", COP_PRESSURE_FAIL, 8000);
    cop_metrics plain, m;
    uint32_t failed = 0;
    for (uint32_t tree = 0; tree < 16; tree++) {
        CHECK_OK(run(roomy, model, tree, 1, &plain));
        const uint32_t pages = (uint32_t)plain.view_pages_longest - 1;
        for (cop_pressure p = COP_PRESSURE_FAIL; p <= COP_PRESSURE_RECOMPUTE && pages; p++) {
            cop_engine *tight = make_engine(model, backends[tree % 2], p, pages);
            CHECK_STATUS(run(tight, model, tree, 1, &m), COP_ERR_NO_PAGES);
            CHECK_EQ(m.kv_pages_leaked, 0);
            failed++;
            cop_engine_destroy(tight);
        }
    }
    CHECK(failed >= 40);
    cop_engine_destroy(roomy);
    cop_model_close(model);
}

static void test_prune_lowest_completes(void) {
    const uint32_t trees = check_effort(60, 16);
    cop_model *model;
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &model));
    cop_engine *roomy = make_engine(model, "cpu", COP_PRESSURE_FAIL, 8000);
    uint64_t shed = 0;
    for (uint32_t at = 0, n; at < trees; at += n) {
        cop_metrics plain, m;
        n = trees - at < 6 ? trees - at : 6;
        CHECK_OK(run(roomy, model, at, n, &plain));
        cop_engine *tight = make_engine(model, backends[at / 6 % 2], COP_PRESSURE_PRUNE_LOWEST,
                                        pool_size(&plain, 40));
        CHECK_OK(run(tight, model, at, n, &m));
        CHECK_EQ(m.kv_pages_leaked, 0);
        CHECK(m.branches_shed <= m.prunes);
        shed += m.branches_shed;
        cop_engine_destroy(tight);
    }
    printf("  %" PRIu64 " branches shed\n", shed);
    CHECK(shed > 0);
    cop_engine_destroy(roomy);
    cop_model_close(model);
}

static void test_names(void) {
    cop_pressure p;
    for (int i = 0; i <= COP_PRESSURE_PRUNE_LOWEST; i++) {
        CHECK_OK(cop_pressure_parse(cop_pressure_name((cop_pressure)i), &p));
        CHECK_EQ(p, i);
    }
    CHECK_STATUS(cop_pressure_parse("swap", &p), COP_ERR_USAGE);
    CHECK(strstr(cop_status_message(), "swap"));
}

int main(void) {
    RUN(test_the_same_tokens_in_any_pool);
    RUN(test_a_pool_below_the_longest_view);
    RUN(test_prune_lowest_completes);
    RUN(test_names);
    return check_report();
}
