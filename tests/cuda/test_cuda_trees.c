/* The CUDA backend over the emulated runtime against the cpu backend in bf16: random trees under
 * all join rules through the engine, row by row. */
#include "ref/random_driver.h"
#include "small_model.h"
#include "twin.h"

enum { BATCH_MAX = 8 };
static uint32_t n_trees = 24;
static random_driver drivers[BATCH_MAX];

typedef struct variant {
    const char *name;
    small_model model;
    cop_products_mode products;
    bool eager;
    uint32_t page_tokens, batch, max_rows;
    uint32_t time_every;
} variant;

static void run(const variant *v, uint32_t first, uint32_t n) {
    cemu_reset(NULL);
    cop_model *model = small_model_open(&v->model);
    cop_engine_options options = {.backend = "twin",
                                  .arith = COP_ARITH_BF16,
                                  .n_threads = 1,
                                  .products = v->products,
                                  .eager = v->eager,
                                  .time_every = v->time_every,
                                  .page_tokens = v->page_tokens,
                                  .n_pages = 4000 / v->page_tokens * 16,
                                  .chunk_tokens = 128,
                                  .chunk_tail_tokens = 64,
                                  .max_branches = v->batch * 160,
                                  .max_rows = v->max_rows,
                                  .max_positions = 4096,
                                  .seed = 7};
    cop_engine *engine;
    CHECK_OK(cop_engine_create(model, &options, &engine));
    random_coverage coverage = {0};
    for (uint32_t at = first; at < first + n; at += v->batch) {
        cop_driver *list[BATCH_MAX];
        for (uint32_t i = 0; i < v->batch; i++) {
            random_driver_init(&drivers[i], at + i, v->model.vocab, &coverage);
            list[i] = &drivers[i].driver;
        }
        cop_metrics metrics;
        CHECK_OK(cop_engine_run(engine, list, v->batch, &metrics));
        CHECK_EQ(metrics.kv_pages_leaked, 0);
        CHECK_EQ(metrics.allocations_in_steps, 0);
    }
    cop_engine_destroy(engine);
    cop_model_close(model);
    for (uint32_t i = 0; i < 4 && cemu_fault_text(i, NULL); i++)
        fprintf(stderr, "%s\n", cemu_fault_text(i, NULL));
    CHECK_EQ(cemu_faults(CEMU_NO_FAULT), 0);
    CHECK_TEXT(cemu_leaks(), "");
}

static void test_trees(void) {
    static const variant variants[] = {
        {"fast", {2, 64, 2, 1, 64, 96, 320, false, "BF16"}, COP_PRODUCTS_FAST, false, 16, 1, 0, 0},
    };
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        twin_seen = (twin_report){0};
        run(&variants[i], 0, n_trees);
        printf("  %s: %" PRIu64 " steps (%" PRIu64 " by graph), %" PRIu64 " rows, %" PRIu64
               " with equal logits, worst %.2g, %" PRIu64 " near ties\n",
               variants[i].name, twin_seen.steps, twin_seen.queued, twin_seen.rows,
               twin_seen.equal_logits, (double)twin_seen.worst, twin_seen.near_ties);
    }
}

int main(void) {
    n_trees = check_effort(n_trees, 4);
    RUN(test_trees);
    return check_report();
}
