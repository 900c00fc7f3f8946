/* The prefix store: cold or warm, roomy or short of pages, the bits are those without one; hits are
 * those that a plain search over all earlier prompts finds. */
#include "base/memory.h"
#include "check.h"
#include "ref/random_driver.h"

enum { PROBLEMS = 40, BLOCK = 64, SHARED_KINDS = 4 };

static random_driver drivers[PROBLEMS];

typedef struct world {
    cop_model *model;
    cop_engine *engine;
} world;

static void open_engine(world *w, const char *backend, uint32_t block, uint32_t n_pages,
                        uint32_t max_rows) {
    cop_engine_options options = {.backend = backend,
                                  .arith = COP_ARITH_BF16,
                                  .n_threads = 1,
                                  .page_tokens = 16,
                                  .n_pages = n_pages,
                                  .chunk_tokens = 128,
                                  .max_branches = 700,
                                  .max_rows = max_rows,
                                  .max_positions = 4096,
                                  .prefix_block = block,
                                  .seed = 3};
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &w->model));
    CHECK_OK(cop_engine_create(w->model, &options, &w->engine));
}

static void close_engine(world *w) {
    cop_engine_destroy(w->engine);
    cop_model_close(w->model);
}

/* Prompts of one kind share their first tokens, as far as each is long. */
static void draw_problems(const world *w, uint32_t n, random_coverage *coverage) {
    for (uint32_t i = 0; i < n; i++) {
        const cop_rng_key key = {41, i, 0};
        random_driver_init(&drivers[i], 900 + i, cop_model_shape_of(w->model)->vocab, coverage);
        drivers[i].shared_key = 70 + cop_rng_below(key, 0, SHARED_KINDS);
        drivers[i].n_shared = cop_rng_below(key, 1, 200);
    }
}

typedef struct list {
    cop_problem_queue queue;
    uint32_t at, n;
} list;

static cop_driver *next_problem(cop_problem_queue *queue) {
    list *l = (list *)queue;
    return l->at < l->n ? &drivers[l->at++].driver : NULL;
}

static cop_status run(world *w, uint32_t n, uint32_t at_once, cop_metrics *metrics) {
    static random_coverage coverage;
    list l = {.queue = {.next = next_problem}, .n = n};
    draw_problems(w, n, &coverage);
    return cop_engine_run_queue(w->engine, &l.queue, at_once, metrics);
}

/* Whole blocks of prompt i that some prompt before it (all of them, when warm) begins with too. */
static uint32_t blocks_found(uint32_t i, uint32_t n, bool warm) {
    uint32_t best = 0;
    for (uint32_t k = 0; k < (warm ? n : i); k++) {
        uint32_t same = 0;
        while (same < drivers[i].n_prompt && same < drivers[k].n_prompt &&
               drivers[i].prompt[same] == drivers[k].prompt[same])
            same++;
        /* The last token of a prompt is never in a block. */
        const uint32_t most = (drivers[k].n_prompt - 1) / BLOCK;
        const uint32_t blocks = same / BLOCK < most ? same / BLOCK : most;
        best = blocks > best ? blocks : best;
    }
    const uint32_t own = (drivers[i].n_prompt - 1) / BLOCK;
    return best < own ? best : own;
}

static void check_hits(const cop_metrics *m, uint32_t n, bool warm) {
    uint64_t hits = 0, lookups = 0;
    for (uint32_t i = 0; i < n; i++) {
        hits += blocks_found(i, n, warm);
        lookups += (drivers[i].n_prompt - 1) / BLOCK;
    }
    CHECK_EQ(m->prefix_lookups, lookups);
    CHECK_EQ(m->prefix_hits, hits);
    CHECK_EQ(m->tokens_prefix_reused, hits * BLOCK);
    CHECK(hits > 0);
}

static void test_cold_and_warm_have_the_bits_of_none(void) {
    static const char *const backends[] = {"cpu", "cpu_ahead"};
    static const uint32_t at_once[] = {7, 60};
    static const uint32_t max_rows[] = {0, 700};
    const uint32_t n = check_effort(PROBLEMS, 20);
    uint64_t digests[PROBLEMS];
    cop_metrics plain, m;
    world w;
    open_engine(&w, "cpu", 0, 4000, 0);
    CHECK_OK(run(&w, n, 4, &plain));
    CHECK_EQ(plain.prefix_lookups, 0);
    for (uint32_t i = 0; i < n; i++)
        digests[i] = drivers[i].digest;
    close_engine(&w);
    for (uint32_t variant = 0; variant < 8; variant++) {
        const uint32_t parallel = at_once[variant / 2 % 2] < n ? at_once[variant / 2 % 2] : n;
        open_engine(&w, backends[variant % 2], BLOCK, 4000, max_rows[variant / 4]);
        for (uint32_t pass = 0; pass < 2; pass++) { /* cold, then warm */
            CHECK_OK(run(&w, n, parallel, &m));
            for (uint32_t i = 0; i < n; i++)
                CHECK(drivers[i].digest == digests[i]);
            CHECK_EQ(m.kv_pages_leaked, 0);
            CHECK_EQ(m.tokens_prompt, plain.tokens_prompt);
            CHECK_EQ(m.tokens_total, plain.tokens_total);
            CHECK_EQ(m.prefix_evicted, 0);
            CHECK_EQ(m.allocations_in_steps, 0);
            CHECK_EQ(m.kv_first_bytes, m.kv_min_bytes);
            check_hits(&m, n, pass == 1);
        }
        cop_engine_prefix_clear(w.engine);
        CHECK_OK(run(&w, n, parallel, &m));
        check_hits(&m, n, false);
        close_engine(&w);
    }
}

/* Steps that hold fewer rows than a prompt has: a block may be out for several of them. */
static void test_blocks_over_several_steps(void) {
    const uint32_t n = 24;
    uint64_t digests[PROBLEMS];
    cop_metrics m;
    world w;
    open_engine(&w, "cpu", 0, 4000, 0);
    CHECK_OK(run(&w, n, n, &m));
    for (uint32_t i = 0; i < n; i++)
        digests[i] = drivers[i].digest;
    close_engine(&w);
    cop_engine_options small = {.arith = COP_ARITH_BF16,
                                .n_threads = 1,
                                .page_tokens = 16,
                                .n_pages = 4000,
                                .chunk_tokens = 128,
                                .max_branches = 300,
                                .max_rows = 301,
                                .max_positions = 4096,
                                .prefix_block = BLOCK,
                                .seed = 3};
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &w.model));
    CHECK_OK(cop_engine_create(w.model, &small, &w.engine));
    CHECK_OK(run(&w, n, n, &m));
    for (uint32_t i = 0; i < n; i++)
        CHECK(drivers[i].digest == digests[i]);
    CHECK_EQ(m.kv_pages_leaked, 0);
    close_engine(&w);
}

/* A pool that cannot keep what it saw gives up the oldest, and nothing else changes. */
static void test_a_short_pool_evicts(void) {
    const uint32_t n = 40;
    cop_metrics plain, m;
    uint64_t digests[PROBLEMS];
    world w;
    open_engine(&w, "cpu", 0, 4000, 0);
    CHECK_OK(run(&w, n, 1, &plain));
    for (uint32_t i = 0; i < n; i++)
        digests[i] = drivers[i].digest;
    close_engine(&w);
    open_engine(&w, "cpu", BLOCK, (uint32_t)plain.kv_pages_peak + 24, 0);
    CHECK_OK(run(&w, n, 1, &m));
    CHECK(m.prefix_evicted > 0 && m.prefix_hits > 0);
    CHECK_EQ(m.kv_pages_leaked, 0);
    for (uint32_t i = 0; i < n; i++)
        CHECK(drivers[i].digest == digests[i]);
    close_engine(&w);
}

static void test_a_block_that_would_move_leaves_is_refused(void) {
    static const uint32_t bad[] = {1, 63, 96, 192, 256};
    cop_model *model;
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &model));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cop_engine *engine = NULL;
        CHECK_STATUS(cop_engine_create(model,
                                       &(cop_engine_options){.page_tokens = 16,
                                                             .n_pages = 10,
                                                             .chunk_tokens = 128,
                                                             .max_branches = 4,
                                                             .max_positions = 64,
                                                             .prefix_block = bad[i]},
                                       &engine),
                     COP_ERR_CONFIG);
        CHECK(strstr(cop_status_message(), "prefix_block"));
    }
    cop_model_close(model);
}

int main(void) {
    RUN(test_cold_and_warm_have_the_bits_of_none);
    RUN(test_blocks_over_several_steps);
    RUN(test_a_short_pool_evicts);
    RUN(test_a_block_that_would_move_leaves_is_refused);
    return check_report();
}
