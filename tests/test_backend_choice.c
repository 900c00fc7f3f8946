/* What may be said of a backend, the profiler's steps, and what a backend's times are called. */
#include "backend/choice.h"
#include "check.h"

/* A table that notes what was asked of its profiler: "+" on, "-" off. */
static char calls[64];
static cop_status fail_with;

static cop_status note_profile(cop_backend *backend, bool on) {
    (void)backend;
    strcat(calls, on ? "+" : "-");
    return fail_with;
}

static const cop_backend_ops fake = {.name = "fake", .profile = note_profile};

static void test_clocks_are_told_apart(void) {
    CHECK_TEXT(cop_backend_clock(&cop_backend_cpu), "wall");
    CHECK_TEXT(cop_backend_clock(&(cop_backend_ops){.name = "cuda"}), "wall");
    CHECK_TEXT(cop_backend_clock(&(cop_backend_ops){.name = "sim", .virtual_clock = true}),
               "virtual");
    CHECK_TEXT(cop_backend_clock(&(cop_backend_ops){.name = "cuda_emulated"}), "emulated");
    CHECK_TEXT(
        cop_backend_clock(&(cop_backend_ops){.name = "cuda_emulated", .virtual_clock = true}),
        "emulated");
    CHECK_TEXT(cop_backend_clock(&(cop_backend_ops){.name = "emulated"}), "wall");
}

static void test_steps_are_two_numbers(void) {
    static const char *const bad[] = {
        "",      "3",    "3-",           "-3",    "0-3",
        "3-2",   "a-b",  "3-4 ",         " 3-4",  "3--4",
        "3-4-5", "+3-4", "3-+",          "3 - 4", "3,4",
        "1e3-2", "0-0",  "3-4294967296", "1-x",   "18446744073709551616-18446744073709551617"};
    uint32_t first = 7, last = 7;
    CHECK_OK(cop_profile_steps_parse("3-4", &first, &last));
    CHECK(first == 3 && last == 4);
    CHECK_OK(cop_profile_steps_parse("1-4294967295", &first, &last));
    CHECK(first == 1 && last == UINT32_MAX);
    CHECK_OK(cop_profile_steps_parse("5-5", &first, &last));
    CHECK(first == 5 && last == 5);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_STATUS(cop_profile_steps_parse(bad[i], &first, &last), COP_ERR_USAGE);
        CHECK_MESSAGE("A-B");
        CHECK(first == 0 && last == 0);
    }
}

/* Steps in the order in which an engine begins and ends them, `ahead` of them begun before the
 * first has ended. */
static const char *run_steps(uint32_t first, uint32_t last, uint32_t n, uint32_t ahead) {
    cop_profile profile = {.first = first, .last = last};
    calls[0] = '\0';
    for (uint32_t step = 1; step <= n + ahead; step++) {
        if (step <= n) {
            CHECK_OK(cop_profile_before(&profile, &fake, NULL, step));
            strcat(calls, step < 10 ? (char[]){(char)('0' + step), 0} : "x");
        }
        if (step > ahead)
            CHECK_OK(cop_profile_after(&profile, &fake, NULL, step - ahead));
    }
    return calls;
}

static void test_the_profiler_runs_for_its_steps_alone(void) {
    CHECK_TEXT(run_steps(0, 0, 4, 0), "1234");
    CHECK_TEXT(run_steps(1, 1, 4, 0), "+1-234");
    CHECK_TEXT(run_steps(2, 3, 4, 0), "1+23-4");
    CHECK_TEXT(run_steps(4, 9, 4, 0), "123+4");
    CHECK_TEXT(run_steps(7, 9, 4, 0), "1234");
    /* With a step begun ahead, the last step's end comes after the next one's begin. */
    CHECK_TEXT(run_steps(2, 3, 5, 1), "1+234-5");
    cop_profile profile = {.first = 1, .last = 2};
    calls[0] = '\0';
    fail_with = COP_ERR_INTERNAL;
    CHECK_STATUS(cop_profile_before(&profile, &fake, NULL, 1), COP_ERR_INTERNAL);
    fail_with = COP_OK;
    CHECK_OK(cop_profile_after(&profile, &fake, NULL, 2));
    CHECK_TEXT(calls, "+"); /* what never started is not stopped */
}

static void refuse(cop_backend_choice choice, const char *word) {
    const cop_backend_ops *ops;
    CHECK_STATUS(cop_backend_choice_find(&choice, &ops), COP_ERR_USAGE);
    CHECK_MESSAGE(word);
    CHECK_MESSAGE("cpu");
}

static void test_what_a_backend_would_pass_over_is_refused(void) {
    const cop_backend_ops *ops = NULL;
    CHECK_OK(cop_backend_choice_find(&(cop_backend_choice){0}, &ops));
    CHECK(ops == &cop_backend_cpu);
    CHECK_OK(cop_backend_choice_find(
        &(cop_backend_choice){.name = "cpu", .products = COP_PRODUCTS_INVARIANT}, &ops));
    refuse((cop_backend_choice){.device = 1}, "device 1");
    refuse((cop_backend_choice){.name = "cpu", .eager = true}, "eager");
    refuse((cop_backend_choice){.time_every = 8}, "time_every 8");
    refuse((cop_backend_choice){.profile_first = 2, .profile_last = 3}, "2-3");
    CHECK_STATUS(cop_backend_choice_find(&(cop_backend_choice){.name = "nosuch"}, &ops),
                 COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("libcoppice_nosuch.so");
    CHECK_STATUS(cop_backend_choice_find(&(cop_backend_choice){.name = "../x"}, &ops),
                 COP_ERR_USAGE);
}

int main(void) {
    RUN(test_clocks_are_told_apart);
    RUN(test_steps_are_two_numbers);
    RUN(test_the_profiler_runs_for_its_steps_alone);
    RUN(test_what_a_backend_would_pass_over_is_refused);
    return check_report();
}
