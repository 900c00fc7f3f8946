#include "check_device.h"

#include <cuda_runtime_api.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUFFERS_MAX = 256 };

static void *buffers[BUFFERS_MAX];
static uint32_t n_buffers;
int cases_run, cases_failed;

static void need(cudaError_t error, const char *what) {
    if (error == cudaSuccess)
        return;
    printf("FAILED %s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

void *device_take(size_t bytes) {
    if (n_buffers == BUFFERS_MAX)
        need((cudaError_t)1, "more buffers than a case may hold");
    void *p = NULL;
    need(cudaMalloc(&p, bytes ? bytes : 16), "cudaMalloc");
    buffers[n_buffers++] = p;
    device_fill(p, 0xff, bytes ? bytes : 16);
    return p;
}

void *device_put(const void *from, size_t bytes) {
    void *p = device_take(bytes);
    if (from)
        need(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice), "cudaMemcpy to the device");
    else
        device_fill(p, 0, bytes);
    return p;
}

void device_get(void *to, const void *from, size_t bytes) {
    need(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy from the device");
}

void device_fill(void *p, int value, size_t bytes) {
    need(cudaMemset(p, value, bytes), "cudaMemset");
}

void device_expect(int error, const char *what) {
    need((cudaError_t)error, what);
    need(cudaDeviceSynchronize(), what);
}

void device_release(void) {
    while (n_buffers > 0)
        need(cudaFree(buffers[--n_buffers]), "cudaFree");
}

void report_case(bool ok, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs(ok ? "ok     " : "FAILED ", stdout);
    vprintf(format, args);
    putchar('\n');
    fflush(stdout);
    va_end(args);
    cases_run++;
    cases_failed += !ok;
}

void *host_take(size_t count, size_t size) {
    void *p = calloc(count ? count : 1, size);
    if (!p) {
        puts("FAILED no host memory");
        exit(1);
    }
    return p;
}
