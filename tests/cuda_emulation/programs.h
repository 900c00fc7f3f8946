/* What the tests of the emulated runtime share: a small host program's pieces. A piece gives a
 * cudaError_t, so that a program can go on or stop as a real one does. */
#pragma once

#include <cublas_v2.h>
#include <cuda_profiler_api.h>
#include <cuda_runtime_api.h>

#include "check.h"
#include "cuda_emulation/cuda_emulation.h"
#include "emulate/emulate.h"
#include "emulate/examples.h"

/* The call succeeds. */
#define NEED(call)                                                                                 \
    do {                                                                                           \
        const int need_error = (int)(call);                                                        \
        if (need_error) {                                                                          \
            fprintf(stderr, "%s:%d: %s gave %d (%s); %s\n", __FILE__, __LINE__, #call, need_error, \
                    cudaGetErrorName((cudaError_t)need_error), last_fault());                      \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The call gives this error, of either library. */
#define GIVES(call, expected)                                                                      \
    do {                                                                                           \
        const int given = (int)(call);                                                             \
        if (given != (int)(expected)) {                                                            \
            fprintf(stderr, "%s:%d: %s gave %d, not %d; %s\n", __FILE__, __LINE__, #call, given,   \
                    (int)(expected), last_fault());                                                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static inline const char *last_fault(void) {
    const char *text = "no fault";
    for (uint32_t i = 0; cemu_fault_text(i, NULL); i++)
        text = cemu_fault_text(i, NULL);
    return text;
}

/* Nothing went wrong and nothing is left. */
#define CHECK_CLEAN()                                                                              \
    do {                                                                                           \
        if (cemu_faults(CEMU_NO_FAULT) || cemu_leaks()[0]) {                                       \
            fprintf(stderr, "%s:%d: %s; live: %s\n", __FILE__, __LINE__, last_fault(),             \
                    cemu_leaks());                                                                 \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static inline void start(uint32_t variation) {
    cemu_reset(NULL);
    cemu_vary(variation);
    emu_vary(variation % EMU_VARIATIONS);
}

static inline cudaStream_t make_stream(void) {
    cudaStream_t stream;
    NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

static inline cudaEvent_t make_event(unsigned flags) {
    cudaEvent_t event;
    NEED(cudaEventCreateWithFlags(&event, flags));
    return event;
}

static inline void *device_bytes(size_t bytes) {
    void *p;
    NEED(cudaMalloc(&p, bytes));
    return p;
}

static inline void *pinned_bytes(size_t bytes) {
    void *p;
    NEED(cudaMallocHost(&p, bytes));
    return p;
}

static inline void ramp(float *x, uint32_t n, float first) {
    for (uint32_t i = 0; i < n; i++)
        x[i] = first + (float)i;
}
