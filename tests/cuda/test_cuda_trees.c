/* The CUDA backend over the emulated runtime against the cpu backend in bf16: random trees under
 * all join rules through the engine. Side by side, row by row (twin.h); and alone, where the engine
 * runs ahead, by the tokens that every branch says.
 *
 * Bounds: `fast` products are made in the cpu's order by the emulated cuBLAS, so logits must be
 * equal to the bit. `invariant` ones add in slices of K, and round another way: a difference of at
 * most 2^-7 of the row's largest logit, and the same best token wherever the margin is more than
 * twice the difference. */
#include "ref/random_driver.h"
#include "small_model.h"
#include "twin.h"

enum { BATCH_MAX = 4 };
static random_driver drivers[BATCH_MAX];

typedef struct variant {
    const char *name;
    small_model model;
    cop_products_mode products;
    uint32_t trees[4], n_trees; /* numbers of small ones; together they join under every rule */
    uint32_t batch, page_tokens, max_rows, time_every;
    bool eager;
} variant;

static const variant variants[] = {
    {.name = "fast, pages of 16",
     .model = {2, 64, 2, 1, 64, 96, 320, false, "BF16"},
     .products = COP_PRODUCTS_FAST,
     .trees = {4, 26, 13, 38},
     .n_trees = 4,
     .batch = 1,
     .page_tokens = 16},
    {.name = "fast, Q4_1, pages of 64, four trees at once, few rows",
     .model = {2, 64, 4, 2, 64, 96, 320, true, "Q4_1"},
     .products = COP_PRODUCTS_FAST,
     .trees = {46, 33, 41, 47},
     .n_trees = 4,
     .batch = 4,
     .page_tokens = 64,
     .max_rows = 660},
    {.name = "fast, d = 128, group 4, timed, no graphs",
     .model = {1, 128, 4, 1, 128, 96, 300, false, "F16"},
     .products = COP_PRODUCTS_FAST,
     .trees = {12, 21},
     .n_trees = 2,
     .batch = 2,
     .page_tokens = 32,
     .time_every = 2,
     .eager = true},
    {.name = "fast, d = 256",
     .model = {1, 64, 2, 1, 256, 64, 300, true, "F32"},
     .products = COP_PRODUCTS_FAST,
     .trees = {39, 46},
     .n_trees = 2,
     .batch = 1,
     .page_tokens = 16},
    {.name = "fast, Qwen2: biases, halves",
     .model = {2, 64, 2, 1, 64, 96, 320, true, "Q8_0", "qwen2"},
     .products = COP_PRODUCTS_FAST,
     .trees = {5, 12},
     .n_trees = 2,
     .batch = 1,
     .page_tokens = 16},
    {.name = "fast, Qwen3: norms of heads, halves",
     .model = {2, 64, 4, 2, 64, 96, 320, false, "BF16", "qwen3"},
     .products = COP_PRODUCTS_FAST,
     .trees = {26, 34},
     .n_trees = 2,
     .batch = 2,
     .page_tokens = 64},
    {.name = "invariant, d = 96, group 3, pages of 32",
     .model = {2, 96, 3, 1, 96, 96, 320, true, "Q8_0"},
     .products = COP_PRODUCTS_INVARIANT,
     .trees = {19, 26},
     .n_trees = 2,
     .batch = 2,
     .page_tokens = 32},
};

static cop_engine *make_engine(const cop_model *model, const variant *v, const char *backend) {
    const cop_engine_options options = {
        .backend = backend,
        .arith = COP_ARITH_BF16,
        .n_threads = 1,
        .products = strcmp(backend, "cpu") == 0 ? COP_PRODUCTS_DEFAULT : v->products,
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
    return engine;
}

/* Gives the digest of all tokens. */
static uint64_t run(const variant *v, const char *backend, uint32_t n_trees,
                    random_coverage *coverage) {
    cemu_reset(NULL);
    cop_model *model = small_model_open(&v->model);
    cop_engine *engine = make_engine(model, v, backend);
    uint64_t digest = 0;
    for (uint32_t at = 0; at < n_trees; at += v->batch) {
        cop_driver *list[BATCH_MAX];
        for (uint32_t i = 0; i < v->batch; i++) {
            random_driver_init(&drivers[i], v->trees[at + i], v->model.vocab, coverage);
            list[i] = &drivers[i].driver;
        }
        cop_metrics metrics;
        CHECK_OK(cop_engine_run(engine, list, v->batch, &metrics));
        CHECK_EQ(metrics.kv_pages_leaked, 0);
        CHECK_EQ(metrics.allocations_in_steps, 0);
        for (uint32_t i = 0; i < v->batch; i++)
            digest += random_driver_tokens(&drivers[i]);
    }
    cop_engine_destroy(engine);
    cop_model_close(model);
    for (uint32_t i = 0; i < 4 && cemu_fault_text(i, NULL); i++)
        fprintf(stderr, "%s\n", cemu_fault_text(i, NULL));
    CHECK_EQ(cemu_faults(CEMU_NO_FAULT), 0);
    CHECK_TEXT(cemu_leaks(), "");
    return digest;
}

static void test_trees_beside_the_cpu(void) {
    random_coverage c = {0};
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        const variant *v = &variants[i];
        if (i % 2 == 1 && check_effort(100, 1) < 100)
            continue; /* sanitizers: every second one */
        const uint32_t trees = check_effort(v->n_trees, v->batch) / v->batch * v->batch;
        twin_seen = (twin_report){0};
        twin_bound = v->products == COP_PRODUCTS_FAST ? 0 : 0x1p-7f;
        const uint64_t tokens = run(v, "twin", trees, &c);
        printf("  %s: %" PRIu64 " steps (%" PRIu64 " by graph), %" PRIu64 " rows, %" PRIu64
               " with equal logits, worst difference %.2g of the largest, %" PRIu64 " near ties\n",
               v->name, twin_seen.steps, twin_seen.queued, twin_seen.rows, twin_seen.equal_logits,
               (double)twin_seen.worst, twin_seen.near_ties);
        fflush(stdout);
        CHECK(twin_seen.near_ties * 4 < twin_seen.rows && (v->eager || twin_seen.queued > 0));
        if (v->products != COP_PRODUCTS_FAST)
            continue; /* other bits may sample other tokens, and grow another tree */
        CHECK_EQ(run(v, "cpu", trees, &c), tokens);
        CHECK_EQ(run(v, "cuda", trees, &c), tokens);
    }
    printf("  covered: %" PRIu64 " trees, %" PRIu64 " forks, %" PRIu64 " nested joins, %" PRIu64
           " + %" PRIu64 " stitches, %" PRIu64 " re-prefills, %" PRIu64 " with reuse, %" PRIu64
           " pruned\n",
           c.trees, c.forks, c.nested_joins, c.equal_starts, c.stitches, c.reprefills, c.reuses,
           c.pruned);
    if (check_effort(100, 1) == 100)
        CHECK(c.forks && c.nested_joins && c.equal_starts && c.stitches && c.reprefills &&
              c.reuses && c.pruned);
}

int main(void) {
    RUN(test_trees_beside_the_cpu);
    return check_report();
}
