/* Google Benchmark behind a C header: it chooses the number of iterations and keeps the times.
 *
 * A case is a function that does one iteration. Bytes and flops of an iteration are the caller's,
 * counted elsewhere; rates are derived here. Prints nothing. One thread at a time.
 */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { COP_GBENCH_TEXT_BYTES = 96 };

typedef struct cop_gbench_case {
    const char *name;
    int (*iterate)(void *user); /* 0, or the case failed and ends */
    void *user;
    uint64_t bytes, flops; /* of one iteration */
} cop_gbench_case;

typedef struct cop_gbench_result {
    double real_ns, cpu_ns; /* of one iteration */
    double bytes_per_s, flops_per_s;
    uint64_t iterations;
    int failed;
} cop_gbench_result;

typedef struct cop_gbench_library {
    char
        build_type[COP_GBENCH_TEXT_BYTES]; /* "release" or "debug", as the library says of itself */
    int cpu_scaling;                       /* 1: enabled, 0: not, -1: unknown */
} cop_gbench_library;

void cop_gbench_describe(cop_gbench_library *out);

/* Runs each case for at least min_time_s; results[i] is cases[i]'s. Gives the number that failed.
 */
uint32_t cop_gbench_run(const cop_gbench_case *cases, uint32_t n_cases, double min_time_s,
                        cop_gbench_result *results);

#ifdef __cplusplus
}
#endif
