/* The emulated runtime: what a correct program sees, under every order. */
#include "programs.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 128 };

/* sum of first .. first + N - 1, exact in f32 */
static float sum_of_ramp(float first) {
    return first * N + (float)(N * (N - 1) / 2);
}

static void test_memory_is_poisoned_and_counted(void) {
    start(0);
    unsigned char *host = pinned_bytes(64);
    CHECK(host[0] == 0xff && host[63] == 0xff);
    float *device = device_bytes(1000);
    CHECK_EQ((uintptr_t)device % 256, 0);
    size_t free_bytes, total;
    NEED(cudaMemGetInfo(&free_bytes, &total));
    CHECK_EQ(total, 1 << 30);
    CHECK_EQ(free_bytes, total - 1000);
    CHECK_EQ(cemu_get_live().device_allocations, 1);
    CHECK_EQ(cemu_get_live().host_allocations, 1);
    CHECK_EQ(cemu_get_counts().allocations, 2);
    NEED(cudaFree(NULL));
    NEED(cudaFree(device));
    NEED(cudaFreeHost(host));
    CHECK_CLEAN();
    void *p;
    GIVES(cudaMalloc(&p, ((size_t)1 << 30) + 1), cudaErrorMemoryAllocation);
    CHECK(p == NULL);
    GIVES(cudaGetLastError(), cudaErrorMemoryAllocation);
    GIVES(cudaGetLastError(), cudaSuccess);
    CHECK_CLEAN();
    cemu_steady_begin();
    NEED(cudaMalloc(&p, 8));
    cudaEvent_t event = make_event(cudaEventDefault);
    CHECK_EQ(cemu_faults(CEMU_STEADY), 2);
    cemu_steady_end();
    NEED(cudaEventDestroy(event));
    NEED(cudaFree(p));
    CHECK_EQ(cemu_faults(CEMU_NO_FAULT), 2);
}

static void test_a_step_through_a_stream(void) {
    for (uint32_t i = 0; i < CEMU_VARIATIONS; i++) {
        start(i);
        cudaStream_t stream = make_stream();
        float *host = pinned_bytes(N * sizeof *host), *result = pinned_bytes(sizeof *result);
        float *x = device_bytes(N * sizeof *x), *y = device_bytes(sizeof *y);
        for (int round = 0; round < 3; round++) {
            ramp(host, N, (float)round);
            NEED(cudaMemcpyAsync(x, host, N * sizeof *x, cudaMemcpyHostToDevice, stream));
            NEED(example_launch_sum(x, y, N, N, 1, stream));
            NEED(cudaMemcpyAsync(result, y, sizeof *y, cudaMemcpyDeviceToHost, stream));
            CHECK(isnan(*result)); /* whatever ran: the host has not waited */
            NEED(cudaStreamSynchronize(stream));
            CHECK(*result == sum_of_ramp((float)round));
        }
        const cemu_counts counts = cemu_get_counts();
        CHECK_EQ(counts.uploads, 3);
        CHECK_EQ(counts.upload_bytes, 3 * N * 4);
        CHECK_EQ(counts.download_bytes, 12);
        CHECK_EQ(counts.kernel_launches, 3);
        CHECK_EQ(counts.legacy_operations, 0);
        CHECK_EQ(counts.waits, 3);
        CHECK_EQ(cemu_calls("cudaMemcpyAsync"), 6);
        NEED(cudaFree(x));
        NEED(cudaFree(y));
        NEED(cudaFreeHost(host));
        NEED(cudaFreeHost(result));
        NEED(cudaStreamDestroy(stream));
        CHECK_CLEAN();
    }
}

static void test_an_event_orders_two_streams(void) {
    for (uint32_t i = 0; i < CEMU_VARIATIONS; i++) {
        start(i);
        cudaStream_t a = make_stream(), b = make_stream();
        cudaEvent_t uploaded = make_event(cudaEventDisableTiming);
        float *host = pinned_bytes(N * sizeof *host), *result = pinned_bytes(sizeof *result);
        float *x = device_bytes(N * sizeof *x), *y = device_bytes(sizeof *y);
        ramp(host, N, 5);
        NEED(cudaMemcpyAsync(x, host, N * sizeof *x, cudaMemcpyHostToDevice, a));
        NEED(cudaEventRecord(uploaded, a));
        NEED(cudaStreamWaitEvent(b, uploaded, 0));
        NEED(cudaEventDestroy(uploaded)); /* the wait keeps what it waits for */
        NEED(example_launch_sum(x, y, N, N, 1, b));
        NEED(cudaMemcpyAsync(result, y, sizeof *y, cudaMemcpyDeviceToHost, b));
        NEED(cudaStreamSynchronize(b));
        CHECK(*result == sum_of_ramp(5));
        NEED(cudaStreamDestroy(a));
        NEED(cudaStreamDestroy(b));
        NEED(cudaFree(x));
        NEED(cudaFree(y));
        NEED(cudaFreeHost(host));
        NEED(cudaFreeHost(result));
        CHECK_CLEAN();
    }
}

static void test_a_graph_replays_what_it_saw(void) {
    for (uint32_t i = 0; i < CEMU_VARIATIONS; i++) {
        start(i);
        cudaStream_t stream = make_stream();
        float *host = pinned_bytes(N * sizeof *host), *result = pinned_bytes(sizeof *result);
        float *x = device_bytes(N * sizeof *x), *y = device_bytes(sizeof *y);
        NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        NEED(cudaMemcpyAsync(x, host, N * sizeof *x, cudaMemcpyHostToDevice, stream));
        NEED(example_launch_sum(x, y, N, N, 1, stream));
        NEED(cudaMemcpyAsync(result, y, sizeof *y, cudaMemcpyDeviceToHost, stream));
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        NEED(cudaStreamEndCapture(stream, &graph));
        size_t n_nodes = 0;
        NEED(cudaGraphGetNodes(graph, NULL, &n_nodes));
        CHECK_EQ(n_nodes, 3);
        NEED(cudaGraphInstantiate(&exec, graph, 0));
        NEED(cudaGraphDestroy(graph));
        NEED(cudaGraphUpload(exec, stream));
        for (int round = 0; round < 3; round++) {
            ramp(host, N, (float)round);
            cemu_steady_begin();
            NEED(cudaGraphLaunch(exec, stream));
            NEED(cudaStreamSynchronize(stream));
            cemu_steady_end();
            CHECK(*result == sum_of_ramp((float)round));
        }
        const cemu_counts counts = cemu_get_counts();
        CHECK_EQ(counts.graph_launches, 3);
        CHECK_EQ(counts.graph_nodes, 9);
        CHECK_EQ(counts.kernel_launches, 0);
        CHECK_EQ(counts.uploads, 3);
        CHECK_EQ(counts.waits, 3);
        NEED(cudaGraphExecDestroy(exec));
        NEED(cudaFree(x));
        NEED(cudaFree(y));
        NEED(cudaFreeHost(host));
        NEED(cudaFreeHost(result));
        NEED(cudaStreamDestroy(stream));
        CHECK_CLEAN();
    }
}

static void test_work_waits_until_something_forces_it(void) {
    const cemu_options late = {.order = CEMU_LATE}, eager = {.order = CEMU_EAGER};
    for (int i = 0; i < 2; i++) {
        cemu_reset(i ? &eager : &late);
        cudaStream_t a = make_stream(), b = make_stream();
        unsigned char *x = device_bytes(8);
        for (int n = 0; n < 4; n++)
            NEED(cudaMemsetAsync(x + 2 * n, n, 2, n % 2 ? a : b));
        CHECK_EQ(cemu_get_counts().operations, i ? 4 : 0);
        CHECK_EQ(cemu_run_some(1), !i);
        CHECK_EQ(cemu_run_some(9), i ? 0 : 3);
        NEED(cudaMemsetAsync(x, 5, 2, a));
        NEED(cudaMemsetAsync(x + 2, 6, 2, b));
        NEED(cudaStreamSynchronize(b));
        CHECK_EQ(cemu_get_counts().operations, i ? 6 : 5); /* late: nobody waits for the first */
        uint64_t calls = 0;
        CHECK_TEXT(cemu_call_at(0, &calls), "cudaStreamCreateWithFlags");
        CHECK_EQ(calls, 2);
        CHECK_TEXT(cemu_call_at(3, NULL), "cudaStreamSynchronize");
        CHECK(cemu_call_at(4, NULL) == NULL);
        CHECK_EQ(cemu_calls("cudaMemsetAsync"), 6);
        CHECK_EQ(cemu_get_counts().calls, 10);
    }
}

/* The legacy stream and the blocking ones follow one another without events; others do not. */
static void test_the_legacy_stream_orders_blocking_streams(void) {
    uint32_t races = 0;
    for (uint32_t i = 0; i < 2 * CEMU_VARIATIONS; i++) {
        const bool blocking = i % 2;
        start(i / 2);
        cudaStream_t stream;
        NEED(cudaStreamCreateWithFlags(&stream,
                                       blocking ? cudaStreamDefault : cudaStreamNonBlocking));
        float *host = pinned_bytes(N * sizeof *host), *result = pinned_bytes(sizeof *result);
        float *x = device_bytes(N * sizeof *x), *y = device_bytes(sizeof *y);
        ramp(host, N, 1);
        NEED(cudaMemcpyAsync(x, host, N * sizeof *x, cudaMemcpyHostToDevice, stream));
        NEED(example_launch_sum(x, y, N, N, 1, NULL));
        NEED(cudaMemcpyAsync(result, y, sizeof *y, cudaMemcpyDeviceToHost, stream));
        NEED(cudaStreamSynchronize(stream));
        CHECK(!blocking || *result == sum_of_ramp(1));
        CHECK(cemu_faults(CEMU_RACE) == 0 || !blocking);
        NEED(cudaDeviceSynchronize());
        races += cemu_faults(CEMU_RACE) > 0;
        CHECK_EQ(cemu_get_counts().legacy_operations, 1);
        cemu_reset(NULL);
    }
    CHECK_EQ(races, CEMU_VARIATIONS);
}

/* A copy inside the device returns before it is done, an upload of pageable memory when it has been
 * staged: what they write is there for streams that follow, not for others. */
static void test_what_blocking_copies_wait_for(void) {
    for (uint32_t i = 0; i < CEMU_VARIATIONS; i++) {
        start(i);
        float values[4] = {1, 2, 3, 4}, *x = device_bytes(sizeof values);
        float *y = device_bytes(sizeof values), *host = pinned_bytes(sizeof values);
        NEED(cudaMemcpy(x, values, sizeof values, cudaMemcpyHostToDevice));
        NEED(cudaMemcpy(y, x, sizeof values, cudaMemcpyDeviceToDevice));
        CHECK_EQ(cemu_get_counts().waits, 0);
        NEED(cudaMemcpy(host, y, sizeof values, cudaMemcpyDeviceToHost));
        CHECK(host[3] == 4.0f);
        NEED(cudaMemcpy(x, host, sizeof values, cudaMemcpyHostToDevice));
        host[0] = 9.0f; /* it has been read: it is pinned */
        CHECK_EQ(cemu_get_counts().waits, 2);
        NEED(cudaFree(x));
        NEED(cudaFree(y));
        NEED(cudaFreeHost(host));
        CHECK_CLEAN();
    }
}

/* What a stream is idle for, and what overlaps, comes from when calls were made: not from when the
 * operations happened to run. */
static void test_times_do_not_depend_on_the_order(void) {
    uint64_t expected_now = 0;
    float expected[3] = {0};
    for (uint32_t i = 0; i < CEMU_VARIATIONS; i++) {
        start(i);
        cudaStream_t stream = make_stream();
        cudaEvent_t events[4];
        for (int e = 0; e < 4; e++)
            events[e] = make_event(cudaEventDefault);
        float *host = pinned_bytes(N * sizeof *host), *x = device_bytes(N * sizeof *x);
        float *y = device_bytes(sizeof *y);
        ramp(host, N, 1);
        NEED(cudaEventRecord(events[0], stream));
        NEED(cudaMemcpyAsync(x, host, N * sizeof *x, cudaMemcpyHostToDevice, stream));
        NEED(cudaEventRecord(events[1], stream));
        NEED(cudaStreamSynchronize(stream));
        cemu_spend_ns(1000000); /* the device is idle meanwhile */
        NEED(cudaEventRecord(events[2], stream));
        NEED(example_launch_sum(x, y, N, N, 1, stream));
        NEED(cudaEventRecord(events[3], stream));
        float ms[3];
        NEED(cudaEventSynchronize(events[3]));
        for (int e = 0; e < 3; e++)
            NEED(cudaEventElapsedTime(&ms[e], events[e], events[e + 1]));
        CHECK(ms[0] > 0.001f && ms[1] > 1.0f && ms[1] < 1.1f && ms[2] > 0.001f && ms[2] < 0.1f);
        if (i == 0) {
            memcpy(expected, ms, sizeof ms);
            expected_now = cemu_now_ns();
        }
        CHECK(memcmp(expected, ms, sizeof ms) == 0);
        CHECK_EQ(cemu_now_ns(), expected_now);
        /* Another stream that waits for this one starts no earlier than it ends. */
        cudaStream_t other = make_stream();
        for (int copy = 0; copy < 20; copy++) /* longer than the calls that queue it */
            NEED(cudaMemcpyAsync(x, host, N * sizeof *x, cudaMemcpyHostToDevice, stream));
        NEED(cudaEventRecord(events[0], stream));
        NEED(cudaStreamWaitEvent(other, events[0], 0));
        NEED(cudaEventRecord(events[1], other));
        NEED(cudaEventRecord(events[2], stream));
        NEED(cudaDeviceSynchronize());
        NEED(cudaEventElapsedTime(&ms[0], events[0], events[1]));
        CHECK(ms[0] >= 0.0f);
        cemu_reset(NULL);
    }
}

static void test_who_asks_often_enough_gets_there(void) {
    for (uint32_t i = 0; i < CEMU_VARIATIONS; i++) {
        start(i);
        cudaStream_t stream = make_stream();
        cudaEvent_t event = make_event(cudaEventDisableTiming);
        float *host = pinned_bytes(4 * sizeof *host), *x = device_bytes(4 * sizeof *x);
        NEED(cudaEventQuery(event)); /* never recorded */
        NEED(cudaMemsetAsync(x, 0, 4 * sizeof *x, stream));
        NEED(cudaMemcpyAsync(host, x, 4 * sizeof *x, cudaMemcpyDeviceToHost, stream));
        NEED(cudaEventRecord(event, stream));
        uint32_t asked = 0;
        while (cudaEventQuery(event) == cudaErrorNotReady)
            CHECK(++asked < 100);
        CHECK(host[3] == 0.0f); /* to have asked is to have waited */
        NEED(cudaMemsetAsync(x, 0xff, 4 * sizeof *x, stream));
        NEED(cudaMemcpyAsync(host, x, 4 * sizeof *x, cudaMemcpyDeviceToHost, stream));
        while (cudaStreamQuery(stream) == cudaErrorNotReady)
            CHECK(++asked < 100);
        CHECK(isnan(host[3]));
        CHECK_EQ(cemu_get_counts().waits, 0);
        CHECK(cemu_get_counts().queries >= 3);
        CHECK_EQ(cemu_faults(CEMU_NO_FAULT), 0);
        cemu_reset(NULL);
    }
}

/* Pageable memory: an upload has read it when the call returns, a download has filled it. */
static void test_pageable_copies(void) {
    for (uint32_t i = 0; i < CEMU_VARIATIONS; i++) {
        start(i);
        cudaStream_t stream = make_stream();
        float pageable[4] = {1, 2, 3, 4}, *x = device_bytes(sizeof pageable);
        NEED(cudaMemcpyAsync(x, pageable, sizeof pageable, cudaMemcpyHostToDevice, stream));
        memset(pageable, 0, sizeof pageable);
        NEED(cudaMemcpyAsync(pageable, x, sizeof pageable, cudaMemcpyDeviceToHost, stream));
        CHECK(pageable[3] == 4.0f);
        CHECK_EQ(cemu_get_counts().pageable_copies, 2);
        CHECK_EQ(cemu_get_counts().waits, 1);
        NEED(cudaMemcpy(x, pageable + 1, 8, cudaMemcpyDefault));
        NEED(cudaMemcpy(pageable, x, 8, cudaMemcpyDefault));
        CHECK(pageable[0] == 2.0f && pageable[1] == 3.0f);
        CHECK_EQ(cemu_get_counts().pageable_copies, 2); /* those that are asynchronous */
        NEED(cudaFree(x));
        NEED(cudaStreamDestroy(stream));
        CHECK_CLEAN();
    }
}

static void test_registered_memory(void) {
    start(0);
    float *host = malloc(N * sizeof *host), *x = device_bytes(N * sizeof *x);
    NEED(cudaHostRegister(host, N * sizeof *host, cudaHostRegisterReadOnly));
    GIVES(cudaHostRegister(host + 4, 4, cudaHostRegisterDefault),
          cudaErrorHostMemoryAlreadyRegistered);
    CHECK_EQ(cemu_faults(CEMU_BAD_CALL), 1);
    cudaStream_t stream = make_stream();
    ramp(host, N, 0);
    NEED(cudaMemcpyAsync(x, host, N * sizeof *x, cudaMemcpyHostToDevice, stream));
    CHECK_EQ(cemu_get_counts().pageable_copies, 0);
    host[3] = 0.5f;
    NEED(cudaStreamSynchronize(stream));
    CHECK_EQ(cemu_faults(CEMU_SOURCE_CHANGED), 1);
    GIVES(cudaMemcpyAsync(x, host + 1, N * sizeof *x, cudaMemcpyHostToDevice, stream),
          cudaErrorInvalidValue);
    CHECK_EQ(cemu_faults(CEMU_OUT_OF_RANGE), 1);
    cemu_clear_faults();
    CHECK_EQ(cemu_get_live().host_registrations, 1);
    NEED(cudaHostUnregister(host));
    GIVES(cudaHostUnregister(host), cudaErrorHostMemoryNotRegistered);
    CHECK_EQ(cemu_faults(CEMU_BAD_FREE), 1);
    cemu_clear_faults();
    free(host);
    NEED(cudaFree(x));
    NEED(cudaStreamDestroy(stream));
    CHECK_CLEAN();
}

/* Kernels may use pinned memory that was allocated for it, and no other. */
static void test_mapped_memory(void) {
    for (int mapped = 0; mapped < 2; mapped++) {
        start(0);
        float *host, *y = device_bytes(sizeof *y), sum;
        NEED(cudaHostAlloc((void **)&host, N * sizeof *host,
                           mapped ? cudaHostAllocMapped : cudaHostAllocDefault));
        ramp(host, N, 0);
        NEED(example_launch_sum(host, y, N, N, 1, NULL));
        if (mapped) {
            NEED(cudaMemcpy(&sum, y, sizeof sum, cudaMemcpyDeviceToHost));
            CHECK(sum == sum_of_ramp(0));
            CHECK_EQ(cemu_faults(CEMU_NO_FAULT), 0);
        } else {
            GIVES(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
            CHECK_EQ(cemu_faults(CEMU_KERNEL), 1);
        }
        cemu_reset(NULL);
    }
}

static void test_names_and_written_bytes(void) {
    start(0);
    float *x = device_bytes(N * sizeof *x), *y = device_bytes(4 * sizeof *y);
    cemu_name(x, "inputs");
    cemu_name(y, "sums");
    CHECK_EQ(cemu_written(x, N * sizeof *x), 0);
    NEED(cudaMemset(x, 0, N * sizeof *x - 1));
    emu_reset_counts();
    NEED(example_launch_sum(x, y, N, N, 1, NULL));
    NEED(cudaDeviceSynchronize());
    CHECK_EQ(cemu_written(x, N * sizeof *x), N * sizeof *x - 1);
    CHECK_EQ(cemu_written(y, 4 * sizeof *y), 4);
    CHECK_EQ(cemu_written(y + 1, 4), 0);
    emu_buffer_counts counts;
    CHECK(emu_counts("inputs", &counts));
    CHECK_EQ(counts.load_bytes, N * sizeof *x);
    CHECK(emu_counts("sums", &counts));
    CHECK_EQ(counts.store_bytes, 4);
    float out[4];
    NEED(cudaMemcpy(out, y, sizeof out, cudaMemcpyDeviceToHost));
    CHECK_EQ(cemu_faults(CEMU_UNWRITTEN), 1);
    CHECK(strstr(cemu_fault_text(0, NULL), "sums + 4 of 16") != NULL);
    NEED(cudaMemcpy(y + 1, y, 4, cudaMemcpyDeviceToDevice));
    NEED(cudaMemcpy(out, y, 8, cudaMemcpyDeviceToHost));
    CHECK_EQ(cemu_faults(CEMU_UNWRITTEN), 1);
    CHECK(strstr(cemu_leaks(), "inputs (512 bytes); sums (16 bytes)") != NULL);
    NEED(cudaMemcpy(y, x + N - 4, 16, cudaMemcpyDeviceToDevice)); /* its last byte is nobody's */
    NEED(cudaMemcpy(out, y, 16, cudaMemcpyDeviceToHost));
    CHECK_EQ(cemu_faults(CEMU_UNWRITTEN), 2);
    cemu_options options = {.allow_unwritten_copies = true};
    cemu_reset(&options);
    y = device_bytes(4 * sizeof *y);
    NEED(cudaMemcpy(out, y, sizeof out, cudaMemcpyDeviceToHost));
    CHECK(isnan(out[0]));
    CHECK_EQ(cemu_faults(CEMU_NO_FAULT), 0);
}

static void test_handles_are_checked(void) {
    start(0);
    cudaStream_t stream = make_stream();
    NEED(cudaStreamDestroy(stream));
    GIVES(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
    GIVES(cudaStreamDestroy(stream), cudaErrorInvalidResourceHandle);
    GIVES(cudaStreamSynchronize((cudaStream_t)&stream), cudaErrorInvalidResourceHandle);
    cudaEvent_t event = make_event(cudaEventDisableTiming), timed = make_event(cudaEventDefault);
    float ms;
    GIVES(cudaEventElapsedTime(&ms, timed, timed), cudaErrorInvalidResourceHandle);
    NEED(cudaEventRecord(event, NULL));
    NEED(cudaEventRecord(timed, NULL));
    NEED(cudaDeviceSynchronize());
    GIVES(cudaEventElapsedTime(&ms, event, timed), cudaErrorInvalidResourceHandle);
    CHECK_EQ(cemu_faults(CEMU_BAD_CALL), 2);
    NEED(cudaEventDestroy(event));
    NEED(cudaEventDestroy(timed));
    GIVES(cudaEventDestroy(timed), cudaErrorInvalidResourceHandle);
    CHECK_EQ(cemu_faults(CEMU_BAD_HANDLE), 4);
    CHECK_EQ(cemu_faults(CEMU_NO_FAULT), 6);
    char local[8];
    void *x = device_bytes(8);
    GIVES(cudaMemcpy(x, local, 8, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    GIVES(cudaMemcpy(local, local, 8, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    CHECK_EQ(cemu_faults(CEMU_BAD_POINTER), 2);
    GIVES(cudaFree((char *)x + 1), cudaErrorInvalidValue);
    GIVES(cudaFreeHost(x), cudaErrorInvalidValue);
    CHECK_EQ(cemu_faults(CEMU_BAD_FREE), 2);
    NEED(cudaFree(x));
    cemu_clear_faults();
    CHECK_CLEAN();
}

/* More streams than there are slots, one after another, each with work that nobody waits for. */
static void test_slots_of_streams_are_used_again(void) {
    for (uint32_t i = 0; i < 6; i++) {
        start(i);
        void *x = device_bytes(4);
        for (int n = 0; n < 200; n++) {
            cudaStream_t stream = make_stream();
            NEED(cudaMemsetAsync(x, n, 4, stream));
            if (n % 8 == 7)
                NEED(cudaDeviceSynchronize());
            else
                NEED(cudaStreamSynchronize(stream));
            NEED(cudaStreamDestroy(stream));
        }
        CHECK_EQ(cemu_get_counts().operations, 200);
        NEED(cudaFree(x));
        CHECK_CLEAN();
    }
}

static void test_the_device_is_described(void) {
    const cemu_options options = {.processors = 132, .major = 8, .minor = 6, .device_bytes = 4096};
    cemu_reset(&options);
    struct cudaDeviceProp properties;
    int value;
    NEED(cudaGetDeviceProperties(&properties, 0));
    CHECK_EQ(properties.multiProcessorCount, 132);
    CHECK_EQ(properties.major * 10 + properties.minor, 86);
    CHECK_EQ(properties.totalGlobalMem, 4096);
    NEED(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0));
    CHECK_EQ(value, 132);
    GIVES(cudaGetDeviceProperties(&properties, 1), cudaErrorInvalidDevice);
    GIVES(cudaSetDevice(1), cudaErrorInvalidDevice);
    GIVES(cudaDeviceGetAttribute(&value, (enum cudaDeviceAttr)9999, 0), cudaErrorInvalidValue);
    CHECK_EQ(cemu_faults(CEMU_BAD_CALL), 3);
    CHECK_TEXT(cudaGetErrorName(cudaErrorNoDevice), "cudaErrorNoDevice");
    CHECK_TEXT(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
    CHECK_TEXT(cudaGetErrorName((cudaError_t)12345), "unrecognized error code");
    NEED(cudaProfilerStart());
    NEED(cudaProfilerStop());
    CHECK_EQ(cemu_get_counts().profiler_starts + cemu_get_counts().profiler_stops, 2);
}

static void *call_from_elsewhere(void *result) {
    *(int *)result = (int)cudaDeviceSynchronize();
    return NULL;
}

static void test_a_second_host_thread_is_refused(void) {
    start(0);
    pthread_t thread;
    int result = 0;
    CHECK(pthread_create(&thread, NULL, call_from_elsewhere, &result) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQ(result, cudaErrorUnknown);
    CHECK_EQ(cemu_faults(CEMU_THREAD), 1);
}

/* With the guard a host that follows a device pointer gets what it would get: the end. */
static void test_the_guard(void) {
    const cemu_options options = {.guard = true};
    cemu_reset(&options);
    float *x = device_bytes(N * sizeof *x), *y = device_bytes(sizeof *y), sum, values[N];
    ramp(values, N, 2);
    NEED(cudaMemcpy(x, values, sizeof values, cudaMemcpyHostToDevice));
    NEED(example_launch_sum(x, y, N, N, 1, NULL));
    NEED(cudaMemcpy(&sum, y, sizeof sum, cudaMemcpyDeviceToHost));
    CHECK(sum == sum_of_ramp(2));
    fflush(stdout);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        volatile float *followed = x;
        _exit(followed[1] == 3.0f ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    NEED(cudaFree(x));
    NEED(cudaFree(y));
    CHECK_CLEAN();
}

int main(void) {
    RUN(test_memory_is_poisoned_and_counted);
    RUN(test_a_step_through_a_stream);
    RUN(test_an_event_orders_two_streams);
    RUN(test_a_graph_replays_what_it_saw);
    RUN(test_work_waits_until_something_forces_it);
    RUN(test_the_legacy_stream_orders_blocking_streams);
    RUN(test_what_blocking_copies_wait_for);
    RUN(test_times_do_not_depend_on_the_order);
    RUN(test_who_asks_often_enough_gets_there);
    RUN(test_pageable_copies);
    RUN(test_registered_memory);
    RUN(test_mapped_memory);
    RUN(test_names_and_written_bytes);
    RUN(test_handles_are_checked);
    RUN(test_slots_of_streams_are_used_again);
    RUN(test_the_device_is_described);
    RUN(test_a_second_host_thread_is_refused);
    RUN(test_the_guard);
    cemu_reset(NULL);
    return check_report();
}
