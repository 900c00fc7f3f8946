/* The constants and the members of CUDA's types that Coppice uses, once: the stand-ins' headers
 * declare them, check_types.c compares them with the real ones. Errors carry the text that the
 * stand-in of cudaGetErrorString gives. */
#pragma once

/* clang-format off */
#define CUDA_ERRORS(X)                                                                             \
    X(cudaSuccess, 0, "no error")                                                                  \
    X(cudaErrorInvalidValue, 1, "invalid argument")                                                \
    X(cudaErrorMemoryAllocation, 2, "out of memory")                                               \
    X(cudaErrorInitializationError, 3, "the runtime did not start")                                \
    X(cudaErrorCudartUnloading, 4, "the runtime is being unloaded")                                \
    X(cudaErrorProfilerDisabled, 5, "the profiler is disabled")                                    \
    X(cudaErrorInvalidConfiguration, 9, "invalid launch configuration")                            \
    X(cudaErrorInvalidMemcpyDirection, 21, "invalid direction of a copy")                          \
    X(cudaErrorStubLibrary, 34, "the driver is a stub library")                                    \
    X(cudaErrorInsufficientDriver, 35, "no driver, or one older than the runtime")                 \
    X(cudaErrorDevicesUnavailable, 46, "the devices are busy or unavailable")                      \
    X(cudaErrorInvalidDeviceFunction, 98, "invalid device function")                               \
    X(cudaErrorNoDevice, 100, "no CUDA device")                                                    \
    X(cudaErrorInvalidDevice, 101, "invalid device number")                                        \
    X(cudaErrorInvalidKernelImage, 200, "invalid kernel image")                                    \
    X(cudaErrorNoKernelImageForDevice, 209, "no kernel image for this device")                     \
    X(cudaErrorECCUncorrectable, 214, "uncorrectable ECC error")                                   \
    X(cudaErrorUnsupportedPtxVersion, 222, "PTX made by a newer toolkit than the driver knows")    \
    X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")                              \
    X(cudaErrorIllegalState, 401, "the resource is in no state for this operation")                \
    X(cudaErrorNotReady, 600, "not ready yet")                                                     \
    X(cudaErrorIllegalAddress, 700, "illegal memory access")                                       \
    X(cudaErrorLaunchOutOfResources, 701, "too many resources asked for a launch")                 \
    X(cudaErrorLaunchTimeout, 702, "the launch timed out")                                         \
    X(cudaErrorContextIsDestroyed, 709, "the context is destroyed")                                \
    X(cudaErrorHostMemoryAlreadyRegistered, 712, "the host memory is registered already")          \
    X(cudaErrorHostMemoryNotRegistered, 713, "the host memory is not registered")                  \
    X(cudaErrorMisalignedAddress, 716, "misaligned address")                                       \
    X(cudaErrorLaunchFailure, 719, "unspecified launch failure")                                   \
    X(cudaErrorNotPermitted, 800, "not permitted")                                                 \
    X(cudaErrorNotSupported, 801, "not supported")                                                 \
    X(cudaErrorSystemNotReady, 802, "the system is not ready")                                     \
    X(cudaErrorSystemDriverMismatch, 803, "driver and runtime do not fit")                         \
    X(cudaErrorStreamCaptureUnsupported, 900, "not permitted while a stream captures")             \
    X(cudaErrorStreamCaptureInvalidated, 901, "an earlier error has invalidated the capture")      \
    X(cudaErrorStreamCaptureMerge, 902, "it would merge two captures")                             \
    X(cudaErrorStreamCaptureUnmatched, 903, "the capture did not begin in this stream")            \
    X(cudaErrorStreamCaptureUnjoined, 904, "a stream of the capture was not joined")               \
    X(cudaErrorStreamCaptureIsolation, 905, "a dependency would cross the capture's boundary")     \
    X(cudaErrorStreamCaptureImplicit, 906, "the legacy stream would depend on a capture")          \
    X(cudaErrorCapturedEvent, 907, "the event was last recorded in a capture")                     \
    X(cudaErrorStreamCaptureWrongThread, 908, "the capture began in another thread")               \
    X(cudaErrorGraphExecUpdateFailure, 910, "the executable graph was not updated")                \
    X(cudaErrorUnknown, 999, "unknown error")

#define CUDA_COPY_KINDS(X)                                                                         \
    X(cudaMemcpyHostToHost, 0)                                                                     \
    X(cudaMemcpyHostToDevice, 1)                                                                   \
    X(cudaMemcpyDeviceToHost, 2)                                                                   \
    X(cudaMemcpyDeviceToDevice, 3)                                                                 \
    X(cudaMemcpyDefault, 4)

#define CUDA_CAPTURE_STATUS(X)                                                                     \
    X(cudaStreamCaptureStatusNone, 0)                                                              \
    X(cudaStreamCaptureStatusActive, 1)                                                            \
    X(cudaStreamCaptureStatusInvalidated, 2)

#define CUDA_CAPTURE_MODES(X)                                                                      \
    X(cudaStreamCaptureModeGlobal, 0)                                                              \
    X(cudaStreamCaptureModeThreadLocal, 1)                                                         \
    X(cudaStreamCaptureModeRelaxed, 2)

#define CUDA_INSTANTIATE_FLAGS(X)                                                                  \
    X(cudaGraphInstantiateFlagAutoFreeOnLaunch, 1)                                                 \
    X(cudaGraphInstantiateFlagUpload, 2)                                                           \
    X(cudaGraphInstantiateFlagDeviceLaunch, 4)                                                     \
    X(cudaGraphInstantiateFlagUseNodePriority, 8)

/* Attributes that are members of cudaDeviceProp too name the member. */
#define CUDA_ATTRIBUTES(X)                                                                         \
    X(cudaDevAttrMaxThreadsPerBlock, 1, maxThreadsPerBlock)                                        \
    X(cudaDevAttrMaxSharedMemoryPerBlock, 8, sharedMemPerBlock)                                    \
    X(cudaDevAttrTotalConstantMemory, 9, totalConstMem)                                            \
    X(cudaDevAttrWarpSize, 10, warpSize)                                                           \
    X(cudaDevAttrMaxRegistersPerBlock, 12, regsPerBlock)                                           \
    X(cudaDevAttrMultiProcessorCount, 16, multiProcessorCount)                                     \
    X(cudaDevAttrIntegrated, 18, integrated)                                                       \
    X(cudaDevAttrCanMapHostMemory, 19, canMapHostMemory)                                           \
    X(cudaDevAttrConcurrentKernels, 31, concurrentKernels)                                         \
    X(cudaDevAttrEccEnabled, 32, ECCEnabled)                                                       \
    X(cudaDevAttrPciBusId, 33, pciBusID)                                                           \
    X(cudaDevAttrPciDeviceId, 34, pciDeviceID)                                                     \
    X(cudaDevAttrGlobalMemoryBusWidth, 37, memoryBusWidth)                                         \
    X(cudaDevAttrL2CacheSize, 38, l2CacheSize)                                                     \
    X(cudaDevAttrMaxThreadsPerMultiProcessor, 39, maxThreadsPerMultiProcessor)                     \
    X(cudaDevAttrAsyncEngineCount, 40, asyncEngineCount)                                           \
    X(cudaDevAttrUnifiedAddressing, 41, unifiedAddressing)                                         \
    X(cudaDevAttrPciDomainId, 50, pciDomainID)                                                     \
    X(cudaDevAttrComputeCapabilityMajor, 75, major)                                                \
    X(cudaDevAttrComputeCapabilityMinor, 76, minor)                                                \
    X(cudaDevAttrMaxSharedMemoryPerMultiprocessor, 81, sharedMemPerMultiprocessor)                 \
    X(cudaDevAttrMaxRegistersPerMultiprocessor, 82, regsPerMultiprocessor)                         \
    X(cudaDevAttrManagedMemory, 83, managedMemory)                                                 \
    X(cudaDevAttrPageableMemoryAccess, 88, pageableMemoryAccess)                                   \
    X(cudaDevAttrCooperativeLaunch, 95, cooperativeLaunch)                                         \
    X(cudaDevAttrMaxSharedMemoryPerBlockOptin, 97, sharedMemPerBlockOptin)                         \
    X(cudaDevAttrHostRegisterSupported, 99, hostRegisterSupported)                                 \
    X(cudaDevAttrMaxBlocksPerMultiprocessor, 106, maxBlocksPerMultiProcessor)                      \
    X(cudaDevAttrReservedSharedMemoryPerBlock, 111, reservedSharedMemPerBlock)

#define CUDA_ATTRIBUTES_ALONE(X)                                                                   \
    X(cudaDevAttrClockRate, 13)                                                                    \
    X(cudaDevAttrMemoryClockRate, 36)

/* Members of struct cudaDeviceProp; the real one has more. */
#define CUDA_PROPERTIES(X)                                                                         \
    X(size_t, totalGlobalMem)                                                                      \
    X(size_t, sharedMemPerBlock)                                                                   \
    X(int, regsPerBlock)                                                                           \
    X(int, warpSize)                                                                               \
    X(int, maxThreadsPerBlock)                                                                     \
    X(size_t, totalConstMem)                                                                       \
    X(int, major)                                                                                  \
    X(int, minor)                                                                                  \
    X(int, multiProcessorCount)                                                                    \
    X(int, integrated)                                                                             \
    X(int, canMapHostMemory)                                                                       \
    X(int, concurrentKernels)                                                                      \
    X(int, ECCEnabled)                                                                             \
    X(int, pciBusID)                                                                               \
    X(int, pciDeviceID)                                                                            \
    X(int, pciDomainID)                                                                            \
    X(int, asyncEngineCount)                                                                       \
    X(int, unifiedAddressing)                                                                      \
    X(int, memoryBusWidth)                                                                         \
    X(int, l2CacheSize)                                                                            \
    X(int, maxThreadsPerMultiProcessor)                                                            \
    X(size_t, sharedMemPerMultiprocessor)                                                          \
    X(int, regsPerMultiprocessor)                                                                  \
    X(int, managedMemory)                                                                          \
    X(int, pageableMemoryAccess)                                                                   \
    X(int, cooperativeLaunch)                                                                      \
    X(size_t, sharedMemPerBlockOptin)                                                              \
    X(int, hostRegisterSupported)                                                                  \
    X(int, maxBlocksPerMultiProcessor)                                                             \
    X(size_t, reservedSharedMemPerBlock)

/* Macros in the real headers. */
#define CUDA_FLAGS(X)                                                                              \
    X(cudaHostAllocDefault, 0x00)                                                                  \
    X(cudaHostAllocPortable, 0x01)                                                                 \
    X(cudaHostAllocMapped, 0x02)                                                                   \
    X(cudaHostAllocWriteCombined, 0x04)                                                            \
    X(cudaHostRegisterDefault, 0x00)                                                               \
    X(cudaHostRegisterPortable, 0x01)                                                              \
    X(cudaHostRegisterMapped, 0x02)                                                                \
    X(cudaHostRegisterIoMemory, 0x04)                                                              \
    X(cudaHostRegisterReadOnly, 0x08)                                                              \
    X(cudaStreamDefault, 0x00)                                                                     \
    X(cudaStreamNonBlocking, 0x01)                                                                 \
    X(cudaEventDefault, 0x00)                                                                      \
    X(cudaEventBlockingSync, 0x01)                                                                 \
    X(cudaEventDisableTiming, 0x02)                                                                \
    X(cudaEventInterprocess, 0x04)                                                                 \
    X(cudaEventRecordDefault, 0x00)                                                                \
    X(cudaEventRecordExternal, 0x01)                                                               \
    X(cudaEventWaitDefault, 0x00)                                                                  \
    X(cudaEventWaitExternal, 0x01)

#define CUDA_DATA_TYPES(X)                                                                         \
    X(CUDA_R_32F, 0)                                                                               \
    X(CUDA_R_64F, 1)                                                                               \
    X(CUDA_R_16F, 2)                                                                               \
    X(CUDA_R_8I, 3)                                                                                \
    X(CUDA_R_16BF, 14)

#define CUBLAS_STATUS(X)                                                                           \
    X(CUBLAS_STATUS_SUCCESS, 0, "no error")                                                        \
    X(CUBLAS_STATUS_NOT_INITIALIZED, 1, "the handle is not initialised")                           \
    X(CUBLAS_STATUS_ALLOC_FAILED, 3, "an allocation failed")                                       \
    X(CUBLAS_STATUS_INVALID_VALUE, 7, "an argument is invalid")                                    \
    X(CUBLAS_STATUS_ARCH_MISMATCH, 8, "the device cannot do it")                                   \
    X(CUBLAS_STATUS_MAPPING_ERROR, 11, "no access to device memory")                               \
    X(CUBLAS_STATUS_EXECUTION_FAILED, 13, "the operation failed to launch")                        \
    X(CUBLAS_STATUS_INTERNAL_ERROR, 14, "an internal operation failed")                            \
    X(CUBLAS_STATUS_NOT_SUPPORTED, 15, "not supported")                                            \
    X(CUBLAS_STATUS_LICENSE_ERROR, 16, "a licence is missing")

#define CUBLAS_OPERATIONS(X)                                                                       \
    X(CUBLAS_OP_N, 0)                                                                              \
    X(CUBLAS_OP_T, 1)                                                                              \
    X(CUBLAS_OP_C, 2)

#define CUBLAS_MATH_MODES(X)                                                                       \
    X(CUBLAS_DEFAULT_MATH, 0)                                                                      \
    X(CUBLAS_PEDANTIC_MATH, 2)                                                                     \
    X(CUBLAS_TF32_TENSOR_OP_MATH, 3)                                                               \
    X(CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION, 16)

#define CUBLAS_COMPUTE_TYPES(X)                                                                    \
    X(CUBLAS_COMPUTE_16F, 64)                                                                      \
    X(CUBLAS_COMPUTE_32F, 68)                                                                      \
    X(CUBLAS_COMPUTE_32F_PEDANTIC, 69)                                                             \
    X(CUBLAS_COMPUTE_32F_FAST_16BF, 75)                                                            \
    X(CUBLAS_COMPUTE_64F, 70)

#define CUBLAS_ALGORITHMS(X)                                                                       \
    X(CUBLAS_GEMM_DEFAULT, -1)                                                                     \
    X(CUBLAS_GEMM_DEFAULT_TENSOR_OP, 99)
/* clang-format on */
