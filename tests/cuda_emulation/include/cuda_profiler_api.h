/* Stand-in for the profiler's calls: see cuda_runtime_api.h. */
#pragma once

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

CUDA_PROFILER_CALLS(CUDA_DECLARE_CALL)

#ifdef __cplusplus
}
#endif
