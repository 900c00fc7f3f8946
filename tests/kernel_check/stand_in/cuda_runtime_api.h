/* The few calls of the CUDA runtime that kernel_check makes, over the emulated device. The program
 * is built against this header or against CUDA's own; nothing in it knows which.
 *
 * With COPPICE_MUTANT in the environment the kernels run with that mutant, so that a test can show
 * that wrong kernels fail; there is no memory to be had under a name that no kernel declares.
 */
#pragma once

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "emulate/emulate.h"

typedef int cudaError_t;
enum { cudaSuccess = 0, cudaErrorMemoryAllocation = 2, cudaErrorLaunchFailure = 719 };
typedef enum cudaMemcpyKind {
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2
} cudaMemcpyKind;

static inline cudaError_t cudaMalloc(void **p, size_t bytes) {
    if (!emu_mutant_select(getenv("COPPICE_MUTANT")))
        return cudaErrorMemoryAllocation;
    *p = emu_alloc(bytes, "device", EMU_OUTPUT);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
static inline cudaError_t cudaFree(void *p) {
    emu_free(p);
    return cudaSuccess;
}
static inline cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes,
                                     cudaMemcpyKind kind) {
    (void)kind;
    memcpy(to, from, bytes);
    return cudaSuccess;
}
static inline cudaError_t cudaMemset(void *p, int value, size_t bytes) {
    memset(p, value, bytes);
    return cudaSuccess;
}
/* A launch has run to its end when it returns: what it left is what the report says. */
static inline cudaError_t cudaDeviceSynchronize(void) {
    return emu_report()->error == EMU_OK ? cudaSuccess : cudaErrorLaunchFailure;
}
static inline const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorLaunchFailure ? emu_report()->text : "an error of the emulated device";
}
