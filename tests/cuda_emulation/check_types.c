/* Compares the lists that declare the stand-ins with the headers of an installed CUDA toolkit:
 * types at compile time, the names behind cuBLAS's macros when run. Compiled without the stand-ins'
 * folder on the include path. COPPICE_WRONG_TYPE makes a comparison that must not compile, so that
 * a test can show that these can fail. */
#include <cublas_v2.h>
#include <cuda_profiler_api.h>
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

#include "cuda_emulation/include/cuda_calls.h"
#include "cuda_emulation/include/cuda_values.h"

#define SAME(a, b) __builtin_types_compatible_p(a, b)

#define CHECK_CALL(result, name, parameters)                                                       \
    _Static_assert(SAME(__typeof__(&name), result(*) parameters), "the type of " #name);
CUDA_RUNTIME_CALLS(CHECK_CALL)
CUDA_PROFILER_CALLS(CHECK_CALL)
CUBLAS_CALLS(CHECK_CALL)
#ifdef COPPICE_WRONG_TYPE
CHECK_CALL(cudaError_t, cudaMalloc, (void *p, size_t bytes))
#endif

#define CHECK_VALUE(name, value, ...)                                                              \
    _Static_assert((long long)(name) == (value), "the value of " #name);
CUDA_ERRORS(CHECK_VALUE)
CUDA_COPY_KINDS(CHECK_VALUE)
CUDA_CAPTURE_STATUS(CHECK_VALUE)
CUDA_CAPTURE_MODES(CHECK_VALUE)
CUDA_INSTANTIATE_FLAGS(CHECK_VALUE)
CUDA_ATTRIBUTES(CHECK_VALUE)
CUDA_ATTRIBUTES_ALONE(CHECK_VALUE)
CUDA_FLAGS(CHECK_VALUE)
CUDA_DATA_TYPES(CHECK_VALUE)
CUBLAS_STATUS(CHECK_VALUE)
CUBLAS_OPERATIONS(CHECK_VALUE)
CUBLAS_MATH_MODES(CHECK_VALUE)
CUBLAS_COMPUTE_TYPES(CHECK_VALUE)
CUBLAS_ALGORITHMS(CHECK_VALUE)

#define CHECK_MEMBER(type, name)                                                                   \
    _Static_assert(SAME(__typeof__(((struct cudaDeviceProp *)0)->name), type), "member " #name);
CUDA_PROPERTIES(CHECK_MEMBER)

/* Each enumeration goes by the name that the calls' types give it, each handle by its struct. */
_Static_assert(SAME(cudaError_t, enum cudaError), "cudaError_t");
_Static_assert(SAME(cudaDataType, enum cudaDataType_t), "cudaDataType");
_Static_assert(SAME(cudaStream_t, struct CUstream_st *), "cudaStream_t");
_Static_assert(SAME(cudaEvent_t, struct CUevent_st *), "cudaEvent_t");
_Static_assert(SAME(cudaGraph_t, struct CUgraph_st *), "cudaGraph_t");
_Static_assert(SAME(cudaGraphNode_t, struct CUgraphNode_st *), "cudaGraphNode_t");
_Static_assert(SAME(cudaGraphExec_t, struct CUgraphExec_st *), "cudaGraphExec_t");
_Static_assert(SAME(cublasHandle_t, struct cublasContext *), "cublasHandle_t");
_Static_assert(SAME(__typeof__(cudaStreamLegacy), cudaStream_t), "cudaStreamLegacy");
_Static_assert(CUDART_VERSION / 1000 == 13, "CUDART_VERSION");
_Static_assert(CUBLAS_VER_MAJOR == 13, "CUBLAS_VER_MAJOR");
_Static_assert(sizeof((struct cudaDeviceProp *)0)->name == 256, "the name's size");

#define TEXT_OF(name) #name
#define EXPANDED(name) TEXT_OF(name)
#define CHECK_NAME(name) wrong += expect(EXPANDED(name), #name "_v2");

static int expect(const char *actual, const char *expected) {
    if (strcmp(actual, expected) == 0)
        return 0;
    fprintf(stderr, "%s is %s in the toolkit's header\n", expected, actual);
    return 1;
}

int main(void) {
    int wrong = 0;
    CUBLAS_VERSIONED_CALLS(CHECK_NAME)
    wrong += cudaStreamLegacy != (cudaStream_t)1 || cudaStreamPerThread != (cudaStream_t)2;
    printf("the stand-ins are typed as CUDA %d.%d\n", CUDART_VERSION / 1000,
           CUDART_VERSION % 1000 / 10);
    return wrong != 0;
}
