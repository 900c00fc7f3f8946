/* The calls of the CUDA runtime and of cuBLAS that Coppice makes, with their types, once.
 *
 * The stand-ins' headers beside this file declare what is listed here; check_types.c compiles the
 * same lists against the real headers and compares every type. A call that is not listed here does
 * not compile against the stand-ins: it is added here first, and to the emulation behind it.
 *
 *   X(result, name, (parameters))
 */
#pragma once

/* clang-format off */
#define CUDA_RUNTIME_CALLS(X)                                                                      \
    X(cudaError_t, cudaGetDeviceCount, (int *count))                                               \
    X(cudaError_t, cudaSetDevice, (int device))                                                    \
    X(cudaError_t, cudaGetDevice, (int *device))                                                   \
    X(cudaError_t, cudaGetDeviceProperties, (struct cudaDeviceProp *properties, int device))       \
    X(cudaError_t, cudaDeviceGetAttribute, (int *value, enum cudaDeviceAttr attribute, int device))\
    X(cudaError_t, cudaDriverGetVersion, (int *version))                                           \
    X(cudaError_t, cudaRuntimeGetVersion, (int *version))                                          \
    X(cudaError_t, cudaDeviceSynchronize, (void))                                                  \
    X(cudaError_t, cudaGetLastError, (void))                                                       \
    X(cudaError_t, cudaPeekAtLastError, (void))                                                    \
    X(const char *, cudaGetErrorName, (cudaError_t error))                                         \
    X(const char *, cudaGetErrorString, (cudaError_t error))                                       \
    X(cudaError_t, cudaMalloc, (void **p, size_t bytes))                                           \
    X(cudaError_t, cudaFree, (void *p))                                                            \
    X(cudaError_t, cudaMallocHost, (void **p, size_t bytes))                                       \
    X(cudaError_t, cudaHostAlloc, (void **p, size_t bytes, unsigned int flags))                    \
    X(cudaError_t, cudaFreeHost, (void *p))                                                        \
    X(cudaError_t, cudaHostRegister, (void *p, size_t bytes, unsigned int flags))                  \
    X(cudaError_t, cudaHostUnregister, (void *p))                                                  \
    X(cudaError_t, cudaMemGetInfo, (size_t *free_bytes, size_t *total_bytes))                      \
    X(cudaError_t, cudaMemcpy,                                                                     \
      (void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind))                        \
    X(cudaError_t, cudaMemcpyAsync,                                                                \
      (void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream))   \
    X(cudaError_t, cudaMemset, (void *p, int value, size_t bytes))                                 \
    X(cudaError_t, cudaMemsetAsync, (void *p, int value, size_t bytes, cudaStream_t stream))       \
    X(cudaError_t, cudaStreamCreateWithFlags, (cudaStream_t *stream, unsigned int flags))          \
    X(cudaError_t, cudaStreamDestroy, (cudaStream_t stream))                                       \
    X(cudaError_t, cudaStreamSynchronize, (cudaStream_t stream))                                   \
    X(cudaError_t, cudaStreamQuery, (cudaStream_t stream))                                         \
    X(cudaError_t, cudaStreamWaitEvent,                                                            \
      (cudaStream_t stream, cudaEvent_t event, unsigned int flags))                                \
    X(cudaError_t, cudaEventCreateWithFlags, (cudaEvent_t *event, unsigned int flags))             \
    X(cudaError_t, cudaEventDestroy, (cudaEvent_t event))                                          \
    X(cudaError_t, cudaEventRecord, (cudaEvent_t event, cudaStream_t stream))                      \
    X(cudaError_t, cudaEventRecordWithFlags,                                                       \
      (cudaEvent_t event, cudaStream_t stream, unsigned int flags))                                \
    X(cudaError_t, cudaEventQuery, (cudaEvent_t event))                                            \
    X(cudaError_t, cudaEventSynchronize, (cudaEvent_t event))                                      \
    X(cudaError_t, cudaEventElapsedTime, (float *ms, cudaEvent_t start, cudaEvent_t end))          \
    X(cudaError_t, cudaStreamBeginCapture, (cudaStream_t stream, enum cudaStreamCaptureMode mode)) \
    X(cudaError_t, cudaStreamEndCapture, (cudaStream_t stream, cudaGraph_t *graph))                \
    X(cudaError_t, cudaStreamIsCapturing,                                                          \
      (cudaStream_t stream, enum cudaStreamCaptureStatus *status))                                 \
    X(cudaError_t, cudaGraphInstantiate,                                                           \
      (cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags))                        \
    X(cudaError_t, cudaGraphUpload, (cudaGraphExec_t exec, cudaStream_t stream))                   \
    X(cudaError_t, cudaGraphLaunch, (cudaGraphExec_t exec, cudaStream_t stream))                   \
    X(cudaError_t, cudaGraphDestroy, (cudaGraph_t graph))                                          \
    X(cudaError_t, cudaGraphExecDestroy, (cudaGraphExec_t exec))                                   \
    X(cudaError_t, cudaGraphGetNodes,                                                              \
      (cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n_nodes))

#define CUDA_PROFILER_CALLS(X)                                                                     \
    X(cudaError_t, cudaProfilerStart, (void))                                                      \
    X(cudaError_t, cudaProfilerStop, (void))

#define CUBLAS_CALLS(X)                                                                            \
    X(cublasStatus_t, cublasCreate_v2, (cublasHandle_t *handle))                                   \
    X(cublasStatus_t, cublasDestroy_v2, (cublasHandle_t handle))                                   \
    X(cublasStatus_t, cublasSetStream_v2, (cublasHandle_t handle, cudaStream_t stream))            \
    X(cublasStatus_t, cublasSetWorkspace_v2,                                                       \
      (cublasHandle_t handle, void *workspace, size_t bytes))                                      \
    X(cublasStatus_t, cublasSetMathMode, (cublasHandle_t handle, cublasMath_t mode))               \
    X(cublasStatus_t, cublasGetVersion_v2, (cublasHandle_t handle, int *version))                  \
    X(cublasStatus_t, cublasGemmEx,                                                                \
      (cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,    \
       int k, const void *alpha, const void *a, cudaDataType a_type, int lda, const void *b,       \
       cudaDataType b_type, int ldb, const void *beta, void *c, cudaDataType c_type, int ldc,      \
       cublasComputeType_t compute_type, cublasGemmAlgo_t algorithm))                              \
    X(const char *, cublasGetStatusString, (cublasStatus_t status))                                \
    X(const char *, cublasGetStatusName, (cublasStatus_t status))

/* The names by which callers know the calls that carry a version. */
#define CUBLAS_VERSIONED_CALLS(X)                                                                  \
    X(cublasCreate)                                                                                \
    X(cublasDestroy)                                                                               \
    X(cublasSetStream)                                                                             \
    X(cublasSetWorkspace)                                                                          \
    X(cublasGetVersion)
/* clang-format on */
