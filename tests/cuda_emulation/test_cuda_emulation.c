/* The emulated runtime: what a correct program sees, under every order. */
#include "programs.h"

#include <math.h>

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

int main(void) {
    RUN(test_memory_is_poisoned_and_counted);
    RUN(test_a_step_through_a_stream);
    RUN(test_an_event_orders_two_streams);
    RUN(test_a_graph_replays_what_it_saw);
    cemu_reset(NULL);
    return check_report();
}
