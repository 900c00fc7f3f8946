/* The backend as a module: found by name beside the program, with the program's runtime behind it.
 */
#include <string.h>
#include <unistd.h>

#include "cuda/small_model.h"
#include "ref/random_driver.h"

static const small_model tiny = {2, 64, 2, 1, 64, 96, 320, false, "Q4_1"};

static const cop_engine_options common = {.arith = COP_ARITH_BF16,
                                          .n_threads = 1,
                                          .page_tokens = 16,
                                          .n_pages = 1000,
                                          .chunk_tokens = 128,
                                          .chunk_tail_tokens = 64,
                                          .max_branches = 160,
                                          .max_positions = 4096,
                                          .seed = 7};

static random_driver driver;

/* Tokens that a tree's branches say; the log-probabilities' last bits may differ. */
static uint64_t tokens_of(const char *backend, uint64_t tree) {
    cop_model *model = small_model_open(&tiny);
    cop_engine_options options = common;
    options.backend = backend;
    cop_engine *engine;
    CHECK_OK(cop_engine_create(model, &options, &engine));
    random_coverage coverage = {0};
    random_driver_init(&driver, tree, tiny.vocab, &coverage);
    cop_driver *list[] = {&driver.driver};
    cop_metrics metrics;
    CHECK_OK(cop_engine_run(engine, list, 1, &metrics));
    CHECK_EQ(metrics.allocations_in_steps, 0); /* counted by the program, in the module too */
    const uint64_t digest = random_driver_tokens(&driver);
    cop_engine_destroy(engine);
    cop_model_close(model);
    return digest;
}

static void test_the_module_runs_as_cpu_does(void) {
    static const uint64_t trees[] = {26, 13, 38}; /* small ones, of three join rules */
    const uint32_t n = check_effort(3, 1);
    for (uint32_t i = 0; i < n; i++)
        CHECK_EQ(tokens_of("cuda_emulated", trees[i]), tokens_of("cpu", trees[i]));
}

static void test_its_messages_are_the_programs(void) {
    const cop_backend_ops *ops;
    CHECK_OK(cop_backend_find("cuda_emulated", &ops));
    CHECK_TEXT(ops->name, "cuda_emulated");
    CHECK_TEXT(cop_backend_clock(ops), "emulated");
    cop_model *model = small_model_open(&tiny);
    cop_engine_options options = common;
    options.backend = "cuda_emulated", options.arith = COP_ARITH_F32;
    cop_engine *engine;
    CHECK_STATUS(cop_engine_create(model, &options, &engine), COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("--compute bf16");
    cop_model_close(model);
}

static bool there_is(const char *file) {
    char path[4096];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
    CHECK(n > 0);
    path[n] = '\0';
    strcpy(strrchr(path, '/') + 1, file);
    return access(path, F_OK) == 0;
}

/* Built by nvcc, on a machine without a driver: one sentence, and the exit code for what a user can
 * mend. With a driver it must simply run. */
static void test_without_a_driver_it_says_what_is_missing(void) {
    if (!there_is("libcoppice_cuda.so"))
        SKIP("built without the CUDA toolkit");
    const cop_backend_ops *ops;
    CHECK_OK(cop_backend_find("cuda", &ops));
    char text[2048];
    if (ops->probe(text, sizeof text)) {
        CHECK(strstr(text, "device 0: ") != NULL);
        return;
    }
    cop_model *model = small_model_open(&tiny);
    cop_engine_options options = common;
    options.backend = "cuda";
    cop_engine *engine;
    const cop_status status = cop_engine_create(model, &options, &engine);
    CHECK_EQ(status, COP_ERR_UNSUPPORTED);
    CHECK_EQ(cop_status_exit_code(status), 2);
    CHECK_MESSAGE("driver");
    CHECK_MESSAGE("or use backend cpu");
    CHECK(strstr(text, cop_status_message()) != NULL);
    cop_model_close(model);
}

int main(void) {
    RUN(test_the_module_runs_as_cpu_does);
    RUN(test_its_messages_are_the_programs);
    RUN(test_without_a_driver_it_says_what_is_missing);
    return check_report();
}
