/* A GPU as its makers and others describe it (configs/gpus/<name>.json), for modelled times and for
 * shares of a described bandwidth. Described, not measured: a result that used one names it.
 *
 * `assumed` in the file says which figures no public source states, and why they were taken.
 */
#pragma once

#include "base/status.h"
#include "kernels/cost_plans.h"

enum { COP_GPU_NAME_BYTES = 64 };

typedef struct cop_gpu_figures {
    char name[COP_GPU_NAME_BYTES];
    uint32_t compute_capability; /* 90 for 9.0 */
    uint32_t processors, blocks_per_processor;
    uint64_t memory_bytes, l2_bytes;
    double dram_bytes_per_s;     /* described */
    double bf16_mma_flops_per_s; /* dense, f32 accumulation */
    cop_gpu_model model;
} cop_gpu_figures;

cop_status cop_gpu_figures_load(const char *path, cop_gpu_figures *out);
