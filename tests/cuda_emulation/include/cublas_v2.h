/* Stand-in for cuBLAS: what Coppice uses of it, typed as CUDA 13 has it (check_types.c). A product
 * is computed in the cpu backend's order; see ../README.md. */
#pragma once

#include "cuda_runtime_api.h"
#include "library_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CUBLAS_VER_MAJOR 13

typedef enum { CUBLAS_STATUS(CUDA_DECLARE_VALUE) } cublasStatus_t;
typedef enum { CUBLAS_OPERATIONS(CUDA_DECLARE_VALUE) } cublasOperation_t;
typedef enum { CUBLAS_MATH_MODES(CUDA_DECLARE_VALUE) } cublasMath_t;
typedef enum { CUBLAS_COMPUTE_TYPES(CUDA_DECLARE_VALUE) } cublasComputeType_t;
typedef enum { CUBLAS_ALGORITHMS(CUDA_DECLARE_VALUE) } cublasGemmAlgo_t;
typedef struct cublasContext *cublasHandle_t;

#define cublasCreate cublasCreate_v2
#define cublasDestroy cublasDestroy_v2
#define cublasSetStream cublasSetStream_v2
#define cublasSetWorkspace cublasSetWorkspace_v2
#define cublasGetVersion cublasGetVersion_v2

CUBLAS_CALLS(CUDA_DECLARE_CALL)

#ifdef __cplusplus
}
#endif
