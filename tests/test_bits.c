/* The promise: a row's bits depend only on its own view. 1,000 random trees, each alone and in
 * batches, under other thread counts, page sizes, tiles, step sizes and instruction sets: equal
 * digests. A twentieth of them again for each other model family. */
#include "backend/cpu/isa.h"
#include "base/memory.h"
#include "check.h"
#include "ref/random_driver.h"

static const char *const shapes[COP_FAMILY_COUNT] = {"configs/models/tiny-2layer.json",
                                                     "configs/models/tiny-qwen2.json",
                                                     "configs/models/tiny-qwen3.json"};
static uint32_t n_trees = 1000;
enum { BATCH_MAX = 32 };

typedef struct variant {
    const char *name;
    uint32_t batch; /* problems at once; 0: random, 2..32 */
    uint32_t threads, page_tokens, tile_slots, max_rows;
    const char *isa;
} variant;

static uint64_t digests[1000];
static random_driver drivers[BATCH_MAX];

static cop_status run_batch(cop_engine *engine, uint32_t first, uint32_t n, uint32_t vocab,
                            random_coverage *coverage, cop_metrics *metrics) {
    cop_driver *list[BATCH_MAX];
    for (uint32_t i = 0; i < n; i++) {
        random_driver_init(&drivers[i], first + i, vocab, coverage);
        list[i] = &drivers[i].driver;
    }
    return cop_engine_run(engine, list, n, metrics);
}

/* Room for `n` trees, or for as many of them as the variant runs at once. */
static cop_engine *make_engine(const cop_model *model, cop_arith arith, const variant *v,
                               uint32_t n) {
    const uint32_t at_once = v->batch == 1 ? 1 : n < BATCH_MAX ? n : BATCH_MAX;
    cop_engine_options options = {.arith = arith,
                                  .n_threads = v->threads,
                                  .isa = v->isa,
                                  .page_tokens = v->page_tokens,
                                  .n_pages = 1000 * at_once < 12000 ? 1000 * at_once : 12000,
                                  .chunk_tokens = 128,
                                  .chunk_tail_tokens = 64,
                                  .tile_slots = v->tile_slots,
                                  .max_branches = at_once == 1 ? 160 : 40 + 80 * at_once,
                                  .max_rows = v->max_rows,
                                  .max_positions = 4096,
                                  .seed = 7};
    cop_engine *engine;
    CHECK_OK(cop_engine_create(model, &options, &engine));
    return engine;
}

static void run_variant(const cop_model *model, cop_arith arith, const variant *v, uint32_t first,
                        uint32_t n, bool reference) {
    cop_engine *engine = make_engine(model, arith, v, n);
    uint32_t vocab = cop_model_shape_of(model)->vocab;
    random_coverage coverage = {0};
    for (uint32_t at = first, size; at < first + n; at += size) {
        size = v->batch ? v->batch : 2 + cop_rng_below((cop_rng_key){11, at, 0}, 0, 31);
        if (size > first + n - at)
            size = first + n - at;
        cop_metrics metrics;
        CHECK_OK(run_batch(engine, at, size, vocab, &coverage, &metrics));
        CHECK_EQ(metrics.kv_pages_leaked, 0);
        CHECK_EQ(metrics.allocations_in_steps, 0);
        CHECK_EQ(metrics.kv_load_bytes, metrics.kv_predicted_load_bytes);
        CHECK_EQ(metrics.kv_first_bytes, metrics.kv_predicted_first_bytes);
        CHECK_EQ(metrics.kv_first_bytes, metrics.kv_min_bytes);
        for (uint32_t i = 0; i < size; i++) {
            if (reference)
                digests[at + i] = drivers[i].digest;
            else if (digests[at + i] != drivers[i].digest) {
                fprintf(stderr, "tree %u, %s, %s, %s: other bits than alone\n", at + i,
                        cop_model_name(model), cop_arith_name(arith), v->name);
                exit(1);
            }
        }
    }
    cop_engine_destroy(engine);
}

static void cover(const random_coverage *c) {
    printf("  covered: %" PRIu64 " trees, %" PRIu64 " forks, %" PRIu64 " nested joins, %" PRIu64
           " + %" PRIu64 " stitches, %" PRIu64 " re-prefills, %" PRIu64 " with reuse, %" PRIu64
           " pruned, %" PRIu64 "/%" PRIu64 " with/without header, %" PRIu64
           " long segments, %" PRIu64 " long prompts, %" PRIu64 " joins of nothing\n",
           c->trees, c->forks, c->nested_joins, c->equal_starts, c->stitches, c->reprefills,
           c->reuses, c->pruned, c->headers, c->no_headers, c->long_segments, c->long_prompts,
           c->all_pruned);
    CHECK(c->forks && c->nested_joins && c->equal_starts && c->stitches && c->reprefills);
    CHECK(c->reuses && c->pruned && c->headers && c->no_headers && c->long_segments);
    CHECK(c->long_prompts);
}

static void test_coverage_of_the_generator(void) {
    cop_model *model;
    CHECK_OK(cop_model_open_random(shapes[COP_FAMILY_LLAMA], &model));
    variant v = {"coverage", 1, 1, 16, 0, 0, NULL};
    cop_engine *engine = make_engine(model, COP_ARITH_F32, &v, 1);
    random_coverage coverage = {0};
    for (uint32_t i = 0; i < 60; i++) {
        cop_metrics metrics;
        CHECK_OK(run_batch(engine, i, 1, cop_model_shape_of(model)->vocab, &coverage, &metrics));
    }
    cover(&coverage);
    cop_engine_destroy(engine);
    cop_model_close(model);
}

static void check_views(cop_model_family family, uint32_t trees) {
    static const variant alone = {"alone, one thread, pages of 16", 1, 1, 16, 0, 0, NULL};
    static const variant others[] = {
        {"batches of 2..32, two threads, pages of 32, tiles of 3", 0, 2, 32, 3, 0, NULL},
        {"batches of 32, pages of 64, steps of few rows", 32, 2, 64, 0, 2600, NULL},
        {"alone, two threads, pages of 64, tiles of 1", 1, 2, 64, 1, 160, NULL},
    };
    cop_model *model;
    CHECK_OK(cop_model_open_random(shapes[family], &model));
    CHECK_EQ(cop_model_shape_of(model)->family, family);
    uint32_t quarter = trees / COP_ARITH_COUNT;
    for (int a = 0; a < COP_ARITH_COUNT; a++) {
        uint32_t first = (uint32_t)a * quarter;
        run_variant(model, (cop_arith)a, &alone, first, quarter, true);
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
            run_variant(model, (cop_arith)a, &others[i], first, quarter, false);
    }
    cop_model_close(model);
}

static void test_bits_depend_on_the_view_alone(void) {
    check_views(COP_FAMILY_LLAMA, n_trees);
}

static void test_bits_depend_on_the_view_alone_in_other_families(void) {
    const uint32_t trees = n_trees / 20 > 8 ? n_trees / 20 : 8;
    check_views(COP_FAMILY_QWEN2, trees);
    check_views(COP_FAMILY_QWEN3, trees);
}

/* ASan makes the portable set's call of fmaf for each output minutes long; test_products and
 * test_cpu_ops run that set's code under it. */
#ifdef __SANITIZE_ADDRESS__
enum { FIRST_SET = COP_ISA_AVX2 };
#else
enum { FIRST_SET = COP_ISA_PORTABLE };
#endif

static void check_instruction_sets(cop_model_family family, uint32_t n) {
    static const char *const names[] = {"portable", "avx2", "avx512"};
    cop_model *model;
    CHECK_OK(cop_model_open_random(shapes[family], &model));
    for (int a = 0; a < COP_ARITH_COUNT; a++) {
        for (int i = FIRST_SET; i < 3; i++) {
            if (!cop_isa_available((cop_isa)i)) {
                printf("  this machine cannot run %s\n", names[i]);
                continue;
            }
            variant v = {names[i], 1, 1, 16, 0, 0, names[i]};
            run_variant(model, (cop_arith)a, &v, 0, n, i == FIRST_SET);
        }
    }
    cop_model_close(model);
}

static void test_bits_are_the_same_on_every_instruction_set(void) {
    check_instruction_sets(COP_FAMILY_LLAMA, n_trees / 50 + 1);
    check_instruction_sets(COP_FAMILY_QWEN2, n_trees / 200 + 1);
    check_instruction_sets(COP_FAMILY_QWEN3, n_trees / 200 + 1);
}

int main(void) {
    n_trees = check_effort(n_trees, 40);
    RUN(test_coverage_of_the_generator);
    RUN(test_bits_depend_on_the_view_alone);
    RUN(test_bits_depend_on_the_view_alone_in_other_families);
    RUN(test_bits_are_the_same_on_every_instruction_set);
    return check_report();
}
