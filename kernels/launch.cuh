/* The one place where kernels start: the seam between nvcc and the emulation.
 *
 *   int error = cop_launch(rmsnorm_kernel, grid, threads, shared_bytes, stream, arguments...);
 *   int error = cop_launch((fold_kernel<128, true>), ...);     parentheses: the name has a comma
 *
 * A macro, so that the emulation knows the kernel's name. The error is a cudaError_t as an integer
 * (0: queued), from the launch itself; faults of a running kernel come out of a later call, as CUDA
 * has it, except in the emulation, which runs the kernel at once and gives 719 (launch failure).
 * Dynamic shared memory above 48 KB is asked for here. Arguments go by value, 4 KB at most.
 */
#pragma once

#include "kernels/device.cuh"

typedef void *cop_stream; /* a cudaStream_t, so that kernels.h stays free of CUDA */

#define cop_launch(kernel, ...) cop__launch(#kernel, kernel, __VA_ARGS__)

/* The blocks of this shape that one device holds at once: the grid of a kernel that draws items. */
#define cop_resident_blocks(kernel, threads, shared_bytes, blocks)                                 \
    cop__resident_blocks(kernel, threads, shared_bytes, blocks)

#ifdef COP_EMULATE

template <typename... P, typename... A>
static inline int cop__launch(const char *name, void (*kernel)(P...), dim3 grid, uint32_t threads,
                              size_t shared_bytes, cop_stream stream, A... arguments) {
    static_assert((0 + ... + sizeof(P)) <= 4096, "arguments take 4 KB at most");
    return emu_submit(new emu_closure<P...>(name, kernel, {static_cast<P>(arguments)...}), grid,
                      threads, shared_bytes, stream);
}

template <typename... P>
static inline int cop__resident_blocks(void (*)(P...), uint32_t threads, size_t shared_bytes,
                                       uint32_t *blocks) {
    return emu_resident_blocks(threads, shared_bytes, blocks);
}

#else

template <typename... P>
static inline cudaError_t cop__allow_shared(void (*kernel)(P...), size_t shared_bytes) {
    if (shared_bytes <= 48 * 1024)
        return cudaSuccess;
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                cudaFuncAttributeMaxDynamicSharedMemorySize,
                                static_cast<int>(shared_bytes));
}

template <typename... P, typename... A>
static inline int cop__launch(const char *, void (*kernel)(P...), dim3 grid, uint32_t threads,
                              size_t shared_bytes, cop_stream stream, A... arguments) {
    cudaError_t error = cop__allow_shared(kernel, shared_bytes);
    if (error != cudaSuccess)
        return static_cast<int>(error);
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = static_cast<cudaStream_t>(stream);
    return static_cast<int>(cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...));
}

template <typename... P>
static inline int cop__resident_blocks(void (*kernel)(P...), uint32_t threads, size_t shared_bytes,
                                       uint32_t *blocks) {
    int device = 0, processors = 0, resident = 0;
    cudaError_t error = cop__allow_shared(kernel, shared_bytes);
    if (error == cudaSuccess)
        error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess)
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
            &resident, reinterpret_cast<const void *>(kernel), static_cast<int>(threads),
            shared_bytes);
    *blocks = static_cast<uint32_t>(processors * resident);
    return static_cast<int>(error);
}

#endif
