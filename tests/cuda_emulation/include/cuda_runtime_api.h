/* Stand-in for the CUDA runtime's C interface: what Coppice uses of it, typed as CUDA 13 has it
 * (check_types.c), over the emulated device. Tests alone see it; cuda_emulation.h steers it. */
#pragma once

#include <stddef.h>

#include "cuda_calls.h"
#include "cuda_values.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CUDART_VERSION 13000

#define CUDA_DECLARE_VALUE(name, value, ...) name = value,
enum cudaError { CUDA_ERRORS(CUDA_DECLARE_VALUE) };
enum cudaMemcpyKind { CUDA_COPY_KINDS(CUDA_DECLARE_VALUE) };
enum cudaStreamCaptureStatus { CUDA_CAPTURE_STATUS(CUDA_DECLARE_VALUE) };
enum cudaStreamCaptureMode { CUDA_CAPTURE_MODES(CUDA_DECLARE_VALUE) };
enum cudaGraphInstantiateFlags { CUDA_INSTANTIATE_FLAGS(CUDA_DECLARE_VALUE) };
enum cudaDeviceAttr {
    CUDA_ATTRIBUTES(CUDA_DECLARE_VALUE) CUDA_ATTRIBUTES_ALONE(CUDA_DECLARE_VALUE)
};
/* Flags are macros in the real header; as constants they serve the same source. */
enum { CUDA_FLAGS(CUDA_DECLARE_VALUE) };

typedef enum cudaError cudaError_t;
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphNode_st *cudaGraphNode_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;

#define cudaStreamLegacy ((cudaStream_t)0x1)
#define cudaStreamPerThread ((cudaStream_t)0x2)

struct cudaDeviceProp {
    char name[256];
#define CUDA_DECLARE_MEMBER(type, name) type name;
    CUDA_PROPERTIES(CUDA_DECLARE_MEMBER)
#undef CUDA_DECLARE_MEMBER
};

#define CUDA_DECLARE_CALL(result, name, parameters) result name parameters;
CUDA_RUNTIME_CALLS(CUDA_DECLARE_CALL)

#ifdef __cplusplus
}
#endif
