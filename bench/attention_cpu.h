/* The cpu backend's attention over the trees of a shape file, really timed.
 *
 * One KV head with its query heads: heads are symmetric, and a pool with all of them would not fit
 * most machines. A case is made when it is asked for and freed when it was timed, since pools are
 * large. The plan is the planner's widest tiling at the default chunk rule, in bf16.
 */
#pragma once

#include <stdint.h>

#include "backend/cpu/isa.h"
#include "base/status.h"
#include "gbench_shim.h"
#include "measure/tree_shapes.h"

typedef struct cop_cpu_bench_options {
    cop_isa isa;
    uint32_t n_threads;
    double min_time_s;
} cop_cpu_bench_options;

typedef struct cop_cpu_bench_result {
    cop_gbench_result time;
    uint64_t kv_first_bytes, kv_load_bytes, partial_bytes; /* counted at the load, one iteration */
    uint64_t flops;
    uint32_t group, items;
} cop_cpu_bench_result;

/* The shape's first head configuration. */
cop_status cop_cpu_bench_shape(const cop_tree_shape *shape, const cop_cpu_bench_options *options,
                               cop_cpu_bench_result *out);
