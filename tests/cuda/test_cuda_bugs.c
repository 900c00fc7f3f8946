/* Failures and seeded bugs of the CUDA backend's host code, over the emulated runtime: every call
 * that can fail does, once, and must end in a named error with everything given back; every mutant
 * of cuda_internal.h must be found by the checks. A check that fails ends its process, so each
 * mutant has a process of its own. */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cuda_checks.h"

/* ---- calls that fail ---- */

static const small_model smallest = {1, 64, 1, 1, 64, 64, 64, true, "F32"};

/* A short life: create, a prompt, eager, captured and launched steps, one ahead, a fork, the end.
 */
static cop_status short_run(const world_options *options) {
    world *w = world_prepare(options);
    cop_status status = world_start(w);
    for (uint32_t i = 0; status == COP_OK && i < 4; i++)
        status = world_step(w);
    if (status == COP_OK)
        status = world_fork_beside(w, 1, 2);
    if (status == COP_OK)
        status = world_step(w);
    if (status == COP_OK)
        status = world_settle(w);
    if (status != COP_OK && w->backend) { /* it refuses to go on, and names the first failure */
        char first[COP__MESSAGE_BYTES];
        snprintf(first, sizeof first, "%s", cop_status_message());
        CHECK(world_step(w) != COP_OK);
        if (status == COP_ERR_DEVICE)
            CHECK(strstr(cop_status_message(), first) != NULL);
        cop_status_fail(status, "%s", first);
    }
    world_close(w);
    return status;
}

static world_options short_options(void) {
    world_options o = options_of(1);
    o.model = smallest, o.prompt_tokens = 3, o.stagger = 1, o.ahead = true;
    o.n_pages = 8, o.max_branches = 2, o.backend.max_rows = 3;
    return o;
}

/* "cublasCreate_v2" is cublasCreate to its caller. */
static bool names_call(const char *message, const char *call) {
    const size_t n = strlen(call);
    const size_t plain = n > 3 && strcmp(call + n - 3, "_v2") == 0 ? n - 3 : n;
    char name[80];
    snprintf(name, sizeof name, "%.*s", (int)plain, call);
    return strstr(message, name) != NULL;
}

/* Releases go on after a failure, and these are answered in another way. */
static bool may_fail_quietly(const char *call) {
    static const char *const quiet[] = {
        "cudaFree",          "cudaFreeHost",         "cudaEventDestroy", "cudaGraphExecDestroy",
        "cudaStreamDestroy", "cublasDestroy",        "cudaHostRegister", "cudaDriverGetVersion",
        "cudaGraphDestroy",  "cudaStreamSynchronize"};
    for (size_t i = 0; i < sizeof quiet / sizeof *quiet; i++)
        if (strcmp(call, quiet[i]) == 0)
            return true;
    return false;
}

/* The n-th call of a short run fails; false when the run has no n-th call. */
static bool fail_once(const world_options *options, uint64_t n, uint32_t *named) {
    cemu_reset(NULL);
    cemu_fail_call(NULL, n, 0);
    const cop_status status = short_run(options);
    const char *call = cemu_failed();
    if (!call)
        return false;
    if (status == COP_OK) {
        if (!may_fail_quietly(call))
            fprintf(stderr, "call %llu, %s, fails and nobody notices\n", (unsigned long long)n,
                    call);
        CHECK(may_fail_quietly(call));
    } else {
        CHECK_EQ(cop_status_exit_code(status), 2);
        if (!names_call(cop_status_message(), call))
            fprintf(stderr, "call %llu, %s: \"%s\"\n", (unsigned long long)n, call,
                    cop_status_message());
        CHECK(names_call(cop_status_message(), call));
        ++*named;
    }
    no_faults();
    CHECK_TEXT(cemu_leaks(), "");
    return true;
}

static void fail_all(world_options options, uint32_t step) {
    uint64_t n = 1;
    uint32_t named = 0;
    while (fail_once(&options, n, &named))
        n += step;
    printf("  %llu calls, %u of the failures end the run by name\n", (unsigned long long)(n - 1),
           named);
    CHECK(named > 40 / step);
}

static void test_every_failing_call(void) {
    const uint32_t step = check_effort(100, 1) < 100 ? 7 : 1;
    world_options o = short_options();
    fail_all(o, step);
    o.model.dtype = "BF16", o.backend.products = COP_PRODUCTS_INVARIANT, o.backend.time_every = 2;
    fail_all(o, step);
}

/* A fault on the device comes out of a later call, and stays. */
static void test_every_failing_operation(void) {
    const world_options o = short_options();
    const uint32_t step = check_effort(100, 1) < 100 ? 7 : 1;
    uint64_t n = 1;
    for (;; n += step) {
        cemu_reset(NULL);
        cemu_fail_operation(n, 0);
        const cop_status status = short_run(&o);
        if (!cemu_failed())
            break;
        CHECK(status != COP_OK);
        CHECK_EQ(cop_status_exit_code(status), 2);
        CHECK(strstr(cop_status_message(), "cuda") || strstr(cop_status_message(), "cublas"));
        CHECK_TEXT(cemu_leaks(), "");
    }
    printf("  %llu operations\n", (unsigned long long)(n - 1));
    CHECK(n > 50);
}

static void test_without_driver_or_device(void) {
    const world_options o = short_options();
    char text[2048];
    cemu_reset(&(cemu_options){.no_driver = true});
    CHECK_STATUS(short_run(&o), COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("driver 580.65.06 or later");
    CHECK(!cop_backend_module(COP_BACKEND_ABI)->probe(text, sizeof text));
    CHECK(strstr(text, "driver 580.65.06 or later") != NULL);
    cemu_reset(&(cemu_options){.no_device = true});
    CHECK_STATUS(short_run(&o), COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("finds no device");
    CHECK(!cop_backend_module(COP_BACKEND_ABI)->probe(text, sizeof text));
    cemu_reset(&(cemu_options){.major = 7, .minor = 5});
    CHECK_STATUS(short_run(&o), COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("compute capability 7.5");
    CHECK(!cop_backend_module(COP_BACKEND_ABI)->probe(text, sizeof text));
    cemu_reset(NULL);
    CHECK(cop_backend_module(COP_BACKEND_ABI)->probe(text, sizeof text));
    CHECK(strstr(text, "device 0: ") != NULL);
    CHECK(!cop_backend_module(COP_BACKEND_ABI + 1));
    for (size_t room = 0; room < 60; room++) { /* a text that does not fit is cut */
        text[room] = 'x';
        cop_backend_module(COP_BACKEND_ABI)->probe(text, room);
        CHECK(text[room] == 'x' && (room == 0 || strlen(text) < room));
    }
}

static void expect_refused(world_options o, cop_status status, const char *part) {
    cemu_reset(NULL);
    CHECK_STATUS(short_run(&o), status);
    CHECK_MESSAGE(part);
    no_faults();
    CHECK_TEXT(cemu_leaks(), "");
}

static void test_what_is_refused(void) {
    world_options o = short_options();
    o.model.head_dim = 32, o.model.n_heads = 2;
    expect_refused(o, COP_ERR_UNSUPPORTED, "head sizes 64, 96, 128 and 256");
    o = short_options(), o.backend.device = 1;
    expect_refused(o, COP_ERR_USAGE, "device 1: there is 1");
    o = short_options();
    cemu_reset(&(cemu_options){.device_bytes = 8 << 20});
    CHECK_STATUS(short_run(&o), COP_ERR_NO_MEMORY);
    CHECK_MESSAGE("KV pool");
    CHECK_TEXT(cemu_leaks(), "");
    cop_model *model = small_model_open(&smallest);
    cop_backend *b;
    CHECK_STATUS(cop_backend_module(COP_BACKEND_ABI)
                     ->create(model, &(cop_backend_options){.arith = COP_ARITH_F32}, &b),
                 COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("--compute bf16");
    cop_model_close(model);
}

/* ---- the hunt ---- */

/* A device so fast that whatever is queued is done, and known to be, before the host looks. */
static void everything_is_done(void) {
    CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

/* All of it, small; several orders of the queue where that is what shows a bug. */
static void check_everything(void) {
    world_options o = options_of(3);
    o.n_pages = 24; /* pages come back soon */
    o.prompt_tokens = 70, o.page_tokens = 16, o.stagger = 3;
    o.ahead = true, o.temperature = 1;
    world_options cpu = o;
    cpu.ops = &cop_backend_cpu, cpu.ahead = false;
    const uint64_t tokens = run(cpu, 22).tokens;
    for (uint32_t i = 0; i < 4; i++) {
        cemu_reset(NULL);
        cemu_vary(i);
        CHECK_EQ(run(o, 22).tokens, tokens);
    }
    o.before_take = everything_is_done;
    CHECK_EQ(run_cuda(o, 6).tokens, run(cpu, 6).tokens);
    o.before_take = NULL;
    o.miss_turns = o.pages_ahead = true;
    CHECK_EQ(run_cuda(o, 22).tokens, tokens);
    o.miss_turns = o.pages_ahead = false;
    cpu.fed = o.fed = true; /* given before the samples are taken */
    const uint64_t fed = run(cpu, 14).tokens;
    CHECK_EQ(run_cuda(o, 14).tokens, fed);
    o.fed = false, o.model.dtype = "F32"; /* converted, and many steps in a row without a sample */
    o.prompt_tokens = 300, o.backend.max_rows = 40, o.n_pages = 64;
    for (uint32_t i = 0; i < 3; i++) {
        cemu_reset(NULL);
        cemu_vary(i);
        run(o, 2);
    }
    o = options_of(3);
    o.ahead = true, o.temperature = 1;
    steady(o, 6);
    o.forced = o.hints = true;
    steady(o, 6);
    o = short_options();
    uint32_t named = 0;
    for (uint64_t n = 1; fail_once(&o, n, &named); n += n < 30 ? 1 : 3)
        ;
}

/* Whether a process of its own finds something wrong. */
static bool finds(int mutant) {
    fflush(NULL);
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        const int nowhere = open("/dev/null", O_WRONLY);
        if (mutant >= 0) {
            dup2(nowhere, 1);
            dup2(nowhere, 2);
        }
        alarm(300);
        cop__cuda_mutant = mutant;
        check_everything();
        _exit(0);
    }
    int state;
    CHECK_EQ(waitpid(pid, &state, 0), pid);
    return !WIFEXITED(state) || WEXITSTATUS(state) != 0;
}

static void test_every_seeded_bug_is_caught(void) {
    static const struct {
        const char *name, *text;
    } mutants[] = {
#define NAMED(name, text) {#name, text},
        COP_CUDA_MUTANTS(NAMED)
#undef NAMED
    };
    const char *only = getenv("COPPICE_CUDA_MUTANT");
    const int stride = check_effort(100, 1) < 100 ? 4 : 1; /* sanitizers: a share of them */
    CHECK(!finds(-1));
    for (int m = 0; m < COP__MUTANT_COUNT; m++) {
        if (only ? strcmp(only, mutants[m].name) != 0 : m % stride != 0)
            continue;
        const bool found = finds(m);
        printf("  %-22s %s%s\n", mutants[m].name, mutants[m].text, found ? "" : ": SURVIVES");
        fflush(stdout);
        check_failures += !found;
    }
    CHECK(COP__MUTANT_COUNT >= 12);
}

int main(void) {
    RUN(test_every_seeded_bug_is_caught); /* first: its processes start without threads */
    RUN(test_without_driver_or_device);
    RUN(test_what_is_refused);
    RUN(test_every_failing_call);
    RUN(test_every_failing_operation);
    return check_report();
}
