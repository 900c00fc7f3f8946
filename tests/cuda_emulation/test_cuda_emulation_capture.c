/* Captures and graphs: what is refused, with which error, and what becomes of the capture. */
#include "programs.h"

#include <math.h>

enum { N = 128, BYTES = N * sizeof(float) };

typedef struct scene {
    cudaStream_t stream, other, blocking;
    cudaEvent_t event, before; /* `before` is recorded before any capture */
    float *host, *x, *y;
    cublasHandle_t blas;
} scene;

static scene set_up(void) {
    start(0);
    scene s;
    s.stream = make_stream();
    s.other = make_stream();
    NEED(cudaStreamCreateWithFlags(&s.blocking, cudaStreamDefault));
    s.event = make_event(cudaEventDefault);
    s.before = make_event(cudaEventDefault);
    s.host = pinned_bytes(BYTES);
    s.x = device_bytes(BYTES);
    s.y = device_bytes(BYTES);
    ramp(s.host, N, 0);
    NEED(cublasCreate(&s.blas));
    NEED(cudaEventRecord(s.before, s.other));
    NEED(cudaStreamSynchronize(s.other));
    return s;
}

static void tear_down(scene *s) {
    NEED(cublasDestroy(s->blas));
    NEED(cudaStreamDestroy(s->stream));
    NEED(cudaStreamDestroy(s->other));
    NEED(cudaStreamDestroy(s->blocking));
    NEED(cudaEventDestroy(s->event));
    NEED(cudaEventDestroy(s->before));
    NEED(cudaFreeHost(s->host));
    NEED(cudaFree(s->x));
    NEED(cudaFree(s->y));
    CHECK_CLEAN();
}

/* Calls, as an integer error each. */

static int stream_synchronize(scene *s) {
    return (int)cudaStreamSynchronize(s->stream);
}
static int stream_query(scene *s) {
    return (int)cudaStreamQuery(s->stream);
}
static int other_synchronize(scene *s) {
    return (int)cudaStreamSynchronize(s->other);
}
static int device_synchronize(scene *s) {
    (void)s;
    return (int)cudaDeviceSynchronize();
}
static int captured_event_query(scene *s) {
    NEED(cudaEventRecord(s->event, s->stream));
    return (int)cudaEventQuery(s->event);
}
static int captured_event_synchronize(scene *s) {
    NEED(cudaEventRecord(s->event, s->stream));
    return (int)cudaEventSynchronize(s->event);
}
static int event_query(scene *s) {
    return (int)cudaEventQuery(s->before);
}
static int event_synchronize(scene *s) {
    return (int)cudaEventSynchronize(s->before);
}
static int wait_for_an_outer_event(scene *s) {
    return (int)cudaStreamWaitEvent(s->stream, s->before, 0);
}
static int device_malloc(scene *s) {
    (void)s;
    void *p;
    return (int)cudaMalloc(&p, 64);
}
static int device_free(scene *s) {
    return (int)cudaFree(s->y);
}
static int host_alloc(scene *s) {
    (void)s;
    void *p;
    return (int)cudaHostAlloc(&p, 64, cudaHostAllocDefault);
}
static int host_free(scene *s) {
    return (int)cudaFreeHost(s->host);
}
static int host_register(scene *s) {
    (void)s;
    static char bytes[64];
    return (int)cudaHostRegister(bytes, sizeof bytes, cudaHostRegisterDefault);
}
static int blocking_copy(scene *s) {
    return (int)cudaMemcpy(s->x, s->host, BYTES, cudaMemcpyHostToDevice);
}
static int blocking_fill(scene *s) {
    return (int)cudaMemset(s->x, 0, BYTES);
}
static int pageable_upload(scene *s) {
    float pageable[N] = {0};
    return (int)cudaMemcpyAsync(s->x, pageable, BYTES, cudaMemcpyHostToDevice, s->stream);
}
static int pageable_download(scene *s) {
    float pageable[N];
    return (int)cudaMemcpyAsync(pageable, s->x, BYTES, cudaMemcpyDeviceToHost, s->stream);
}
static int begin_again(scene *s) {
    return (int)cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeRelaxed);
}
static int handle_create(scene *s) {
    (void)s;
    cublasHandle_t handle;
    return (int)cublasCreate(&handle);
}

typedef struct refusal {
    int (*call)(scene *s);
    int error, relaxed; /* in the modes Global and ThreadLocal; in Relaxed (0: allowed) */
} refusal;

static const refusal refusals[] = {
    {stream_synchronize, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
    {stream_query, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
    {other_synchronize, cudaErrorStreamCaptureUnsupported, 0},
    {device_synchronize, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
    {captured_event_query, cudaErrorStreamCaptureUnsupported, cudaErrorCapturedEvent},
    {captured_event_synchronize, cudaErrorStreamCaptureUnsupported, cudaErrorCapturedEvent},
    {event_query, cudaErrorStreamCaptureUnsupported, 0},
    {event_synchronize, cudaErrorStreamCaptureUnsupported, 0},
    {wait_for_an_outer_event, cudaErrorStreamCaptureIsolation, cudaErrorStreamCaptureIsolation},
    {device_malloc, cudaErrorStreamCaptureUnsupported, 0},
    {device_free, cudaErrorStreamCaptureUnsupported, 0},
    {host_alloc, cudaErrorStreamCaptureUnsupported, 0},
    {host_free, cudaErrorStreamCaptureUnsupported, 0},
    {host_register, cudaErrorStreamCaptureUnsupported, 0},
    {blocking_copy, cudaErrorStreamCaptureUnsupported, 0},
    {blocking_fill, cudaErrorStreamCaptureUnsupported, 0},
    {pageable_upload, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
    {pageable_download, cudaErrorStreamCaptureUnsupported, cudaErrorStreamCaptureUnsupported},
    {begin_again, cudaErrorIllegalState, cudaErrorIllegalState},
    {handle_create, CUBLAS_STATUS_EXECUTION_FAILED, 0},
};
enum { REFUSALS = sizeof refusals / sizeof refusals[0] };

static void one_refusal(const refusal *r, enum cudaStreamCaptureMode mode) {
    scene s = set_up();
    cudaGraph_t graph;
    enum cudaStreamCaptureStatus status;
    NEED(cudaStreamBeginCapture(s.stream, mode));
    NEED(cudaMemcpyAsync(s.x, s.host, BYTES, cudaMemcpyHostToDevice, s.stream));
    GIVES(r->call(&s), r->error);
    CHECK_EQ(cemu_faults(CEMU_CAPTURE), 1);
    NEED(cudaStreamIsCapturing(s.stream, &status));
    CHECK_EQ(status, cudaStreamCaptureStatusInvalidated);
    GIVES(example_launch_sum(s.x, s.y, N, N, 1, s.stream), cudaErrorStreamCaptureInvalidated);
    graph = (cudaGraph_t)&s;
    GIVES(cudaStreamEndCapture(s.stream, &graph), cudaErrorStreamCaptureInvalidated);
    CHECK(graph == NULL);
    NEED(cudaStreamIsCapturing(s.stream, &status));
    CHECK_EQ(status, cudaStreamCaptureStatusNone);
    NEED(cudaStreamSynchronize(s.stream)); /* of use again; nothing that was captured ran */
    CHECK_EQ(cemu_get_counts().operations, 1);
    cemu_clear_faults();
    tear_down(&s);
}

static void one_permission(const refusal *r) {
    scene s = set_up();
    cudaGraph_t graph;
    NEED(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeRelaxed));
    NEED(r->call(&s));
    NEED(cudaStreamEndCapture(s.stream, &graph));
    CHECK(graph != NULL);
    CHECK_EQ(cemu_faults(CEMU_NO_FAULT), 0);
    cemu_reset(NULL);
}

static void test_what_a_capture_refuses(void) {
    for (uint32_t i = 0; i < REFUSALS; i++) {
        one_refusal(&refusals[i], cudaStreamCaptureModeGlobal);
        one_refusal(&refusals[i], cudaStreamCaptureModeThreadLocal);
        if (refusals[i].relaxed == 0) {
            one_permission(&refusals[i]);
        } else {
            const refusal relaxed = {refusals[i].call, refusals[i].relaxed, 0};
            one_refusal(&relaxed, cudaStreamCaptureModeRelaxed);
        }
    }
}

static void test_the_legacy_stream_and_captures(void) {
    scene s = set_up();
    cudaGraph_t graph;
    enum cudaStreamCaptureStatus status;
    GIVES(cudaStreamBeginCapture(NULL, cudaStreamCaptureModeRelaxed),
          cudaErrorStreamCaptureUnsupported);
    NEED(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeRelaxed));
    NEED(cudaMemsetAsync(s.y, 0, BYTES, NULL)); /* no blocking stream captures */
    NEED(cudaStreamIsCapturing(NULL, &status));
    CHECK_EQ(status, cudaStreamCaptureStatusNone);
    NEED(cudaStreamEndCapture(s.stream, &graph));
    NEED(cudaStreamSynchronize(NULL));
    NEED(cudaGraphDestroy(graph));
    NEED(cudaStreamBeginCapture(s.blocking, cudaStreamCaptureModeRelaxed));
    GIVES(cudaStreamIsCapturing(NULL, &status), cudaErrorStreamCaptureImplicit);
    NEED(cudaStreamIsCapturing(s.blocking, &status));
    CHECK_EQ(status, cudaStreamCaptureStatusActive); /* asking did no harm */
    GIVES(cudaMemsetAsync(s.y, 0, BYTES, NULL), cudaErrorStreamCaptureImplicit);
    GIVES(cudaStreamEndCapture(s.blocking, &graph), cudaErrorStreamCaptureInvalidated);
    cemu_clear_faults();
    tear_down(&s);
}

static void test_streams_join_and_must_be_joined(void) {
    scene s = set_up();
    cudaGraph_t graph;
    enum cudaStreamCaptureStatus status;
    NEED(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeGlobal));
    NEED(cudaEventRecord(s.event, s.stream));
    NEED(cudaStreamWaitEvent(s.other, s.event, 0)); /* which makes it a part of the capture */
    NEED(cudaStreamIsCapturing(s.other, &status));
    CHECK_EQ(status, cudaStreamCaptureStatusActive);
    NEED(cudaMemsetAsync(s.x, 0, BYTES, s.other));
    GIVES(cudaStreamEndCapture(s.other, &graph), cudaErrorStreamCaptureUnmatched);
    GIVES(cudaStreamEndCapture(s.stream, &graph), cudaErrorStreamCaptureInvalidated);
    NEED(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeGlobal));
    NEED(cudaEventRecord(s.event, s.stream));
    NEED(cudaStreamWaitEvent(s.other, s.event, 0));
    NEED(cudaMemsetAsync(s.x, 0, BYTES, s.other));
    GIVES(cudaStreamEndCapture(s.stream, &graph), cudaErrorStreamCaptureUnjoined);
    CHECK(graph == NULL);
    NEED(cudaStreamIsCapturing(s.other, &status));
    CHECK_EQ(status, cudaStreamCaptureStatusNone);
    /* The event's last record was in a capture that is over. */
    GIVES(cudaEventQuery(s.event), cudaErrorCapturedEvent);
    GIVES(cudaStreamWaitEvent(s.stream, s.event, 0), cudaErrorCapturedEvent);
    NEED(cudaEventRecord(s.event, s.other));
    NEED(cudaEventSynchronize(s.event));
    /* A stream that joined and did nothing needs no way back. */
    NEED(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeGlobal));
    NEED(cudaMemsetAsync(s.x, 0, BYTES, s.stream));
    NEED(cudaEventRecord(s.event, s.stream));
    NEED(cudaStreamWaitEvent(s.other, s.event, 0));
    NEED(cudaStreamEndCapture(s.stream, &graph));
    NEED(cudaGraphDestroy(graph));
    cemu_clear_faults();
    tear_down(&s);
}

static void test_captures_do_not_merge(void) {
    scene s = set_up();
    cudaGraph_t graph;
    NEED(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeGlobal));
    NEED(cudaStreamBeginCapture(s.other, cudaStreamCaptureModeGlobal));
    NEED(cudaEventRecord(s.event, s.stream));
    GIVES(cudaStreamWaitEvent(s.other, s.event, 0), cudaErrorStreamCaptureMerge);
    GIVES(cudaStreamEndCapture(s.stream, &graph), cudaErrorStreamCaptureInvalidated);
    GIVES(cudaStreamEndCapture(s.other, &graph), cudaErrorStreamCaptureInvalidated);
    GIVES(cudaStreamEndCapture(s.other, &graph), cudaErrorIllegalState);
    cemu_clear_faults();
    tear_down(&s);
}

static void test_a_capturing_stream_destroyed(void) {
    scene s = set_up();
    cudaStream_t stream = make_stream();
    NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    CHECK_EQ(cemu_get_live().captures, 1);
    NEED(cudaStreamDestroy(stream));
    CHECK_EQ(cemu_get_live().captures, 0);
    CHECK_EQ(cemu_faults(CEMU_CAPTURE), 1);
    cemu_clear_faults();
    tear_down(&s);
}

/* x = 0; then x's halves in two branches; then the sum: nodes in any order that the edges allow. */
static void test_a_forked_graph_runs_in_every_order(void) {
    for (uint32_t i = 0; i < CEMU_VARIATIONS; i++) {
        scene s = set_up();
        cemu_vary(i);
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        float *sum = pinned_bytes(sizeof *sum);
        NEED(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal));
        NEED(cudaMemsetAsync(s.x, 0xff, BYTES, s.stream));
        NEED(cudaEventRecord(s.event, s.stream));
        NEED(cudaStreamWaitEvent(s.other, s.event, 0));
        NEED(cudaMemcpyAsync(s.x, s.host, BYTES / 2, cudaMemcpyHostToDevice, s.stream));
        NEED(cudaMemcpyAsync(s.x + N / 2, s.host + N / 2, BYTES / 2, cudaMemcpyHostToDevice,
                             s.other));
        NEED(cudaEventRecord(s.event, s.other));
        NEED(cudaStreamWaitEvent(s.stream, s.event, 0));
        NEED(example_launch_sum(s.x, s.y, N, N, 1, s.stream));
        NEED(cudaMemcpyAsync(sum, s.y, sizeof *sum, cudaMemcpyDeviceToHost, s.stream));
        NEED(cudaStreamEndCapture(s.stream, &graph));
        size_t n_nodes = 8;
        cudaGraphNode_t nodes[8];
        NEED(cudaGraphGetNodes(graph, nodes, &n_nodes));
        CHECK_EQ(n_nodes, 5);
        CHECK(nodes[4] != NULL && nodes[5] == NULL);
        NEED(cudaGraphInstantiate(&exec, graph, 0));
        for (int launch = 0; launch < 3; launch++) {
            NEED(cudaGraphLaunch(exec, launch % 2 ? s.other : s.stream)); /* one after another */
            NEED(cudaStreamSynchronize(launch % 2 ? s.other : s.stream));
            CHECK(*sum == N * (N - 1) / 2);
        }
        NEED(cudaGraphDestroy(graph));
        NEED(cudaGraphExecDestroy(exec));
        NEED(cudaFreeHost(sum));
        tear_down(&s);
    }
}

/* Launches of one executable graph follow one another, whatever their streams. */
static void test_launches_of_one_graph_are_ordered(void) {
    for (uint32_t i = 0; i < CEMU_VARIATIONS; i++) {
        scene s = set_up();
        cemu_vary(i);
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        NEED(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal));
        NEED(cudaMemcpyAsync(s.y, s.x, BYTES, cudaMemcpyDeviceToDevice, s.stream));
        NEED(cudaMemsetAsync(s.x, 0, BYTES, s.stream));
        NEED(cudaStreamEndCapture(s.stream, &graph));
        NEED(cudaGraphInstantiate(&exec, graph, 0));
        NEED(cudaGraphDestroy(graph));
        NEED(cudaMemcpyAsync(s.x, s.host, BYTES, cudaMemcpyHostToDevice, s.stream));
        NEED(cudaGraphLaunch(exec, s.stream));
        NEED(cudaGraphLaunch(exec, s.other));
        float *out = pinned_bytes(BYTES);
        NEED(cudaMemcpyAsync(out, s.y, BYTES, cudaMemcpyDeviceToHost, s.other));
        NEED(cudaStreamSynchronize(s.other));
        CHECK(out[N - 1] == 0.0f); /* the second launch saw what the first one left */
        NEED(cudaGraphExecDestroy(exec));
        NEED(cudaFreeHost(out));
        tear_down(&s);
    }
}

static void test_an_external_event_inside_a_graph(void) {
    for (uint32_t i = 0; i < CEMU_VARIATIONS; i++) {
        scene s = set_up();
        cemu_vary(i);
        cudaEvent_t begin = make_event(cudaEventDefault);
        float *out = pinned_bytes(BYTES), *late = pinned_bytes(4), ms;
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        GIVES(cudaEventRecordWithFlags(begin, s.stream, cudaEventRecordExternal),
              cudaErrorInvalidValue); /* outside of a capture */
        cemu_clear_faults();
        NEED(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal));
        NEED(cudaEventRecordWithFlags(begin, s.stream, cudaEventRecordExternal));
        NEED(cudaMemcpyAsync(s.x, s.host, BYTES, cudaMemcpyHostToDevice, s.stream));
        NEED(cudaMemcpyAsync(out, s.x, BYTES, cudaMemcpyDeviceToHost, s.stream));
        NEED(cudaEventRecordWithFlags(s.event, s.stream, cudaEventRecordExternal));
        NEED(example_launch_sum(s.x, s.y, N, N, 1, s.stream));
        NEED(cudaMemcpyAsync(late, s.y, 4, cudaMemcpyDeviceToHost, s.stream));
        NEED(cudaStreamEndCapture(s.stream, &graph));
        NEED(cudaGraphInstantiate(&exec, graph, 0));
        NEED(cudaGraphDestroy(graph));
        NEED(cudaEventSynchronize(s.event)); /* recorded by no launch: nothing to wait for */
        NEED(cudaGraphLaunch(exec, s.stream));
        CHECK(isnan(out[5]));
        NEED(cudaStreamWaitEvent(s.other, s.event, 0));
        if (i % 2) { /* by way of another stream that follows it */
            NEED(cudaEventRecord(s.before, s.other));
            NEED(cudaEventSynchronize(s.before));
        } else {
            NEED(cudaEventSynchronize(s.event));
        }
        CHECK(out[5] == 5.0f && isnan(*late)); /* the middle of the graph, and not its end */
        NEED(cudaMemcpyAsync(s.host, s.x, BYTES, cudaMemcpyDeviceToHost, s.other));
        NEED(cudaStreamSynchronize(s.other));
        CHECK(s.host[7] == 7.0f);
        NEED(cudaEventElapsedTime(&ms, begin, s.event));
        CHECK(ms > 0.0f);
        NEED(cudaStreamSynchronize(s.stream));
        CHECK(*late == N * (N - 1) / 2);
        NEED(cudaGraphExecDestroy(exec));
        NEED(cudaEventDestroy(begin));
        NEED(cudaFreeHost(out));
        NEED(cudaFreeHost(late));
        tear_down(&s);
    }
}

static void test_graph_handles(void) {
    scene s = set_up();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    NEED(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal));
    NEED(cudaEventRecordWithFlags(s.event, s.stream, cudaEventRecordExternal));
    NEED(cudaStreamEndCapture(s.stream, &graph));
    GIVES(cudaGraphInstantiate(&exec, graph, cudaGraphInstantiateFlagDeviceLaunch),
          cudaErrorInvalidValue);
    NEED(cudaGraphInstantiate(&exec, graph, 0));
    NEED(cudaGraphDestroy(graph));
    GIVES(cudaGraphDestroy(graph), cudaErrorInvalidValue);
    GIVES(cudaGraphInstantiate(&exec, graph, 0), cudaErrorInvalidValue);
    CHECK(exec == NULL);
    CHECK_EQ(cemu_faults(CEMU_BAD_HANDLE), 2);
    NEED(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal));
    NEED(cudaEventRecordWithFlags(s.event, s.stream, cudaEventRecordExternal));
    NEED(cudaStreamEndCapture(s.stream, &graph));
    NEED(cudaGraphInstantiate(&exec, graph, 0));
    NEED(cudaGraphDestroy(graph));
    NEED(cudaEventDestroy(s.event));
    GIVES(cudaGraphLaunch(exec, s.stream), cudaErrorInvalidValue); /* it records a dead event */
    CHECK_EQ(cemu_faults(CEMU_BAD_HANDLE), 3);
    s.event = make_event(cudaEventDefault);
    NEED(cudaStreamBeginCapture(s.other, cudaStreamCaptureModeThreadLocal));
    GIVES(cudaGraphLaunch(exec, s.other), cudaErrorStreamCaptureUnsupported);
    CHECK_EQ(cemu_faults(CEMU_UNSUPPORTED), 2);
    GIVES(cudaStreamEndCapture(s.other, &graph), cudaErrorStreamCaptureInvalidated);
    NEED(cudaGraphExecDestroy(exec));
    GIVES(cudaGraphLaunch(exec, s.stream), cudaErrorInvalidValue);
    CHECK_EQ(cemu_get_live().execs, 1); /* the first one, whose handle was lost above */
    cemu_reset(NULL);
}

int main(void) {
    RUN(test_what_a_capture_refuses);
    RUN(test_the_legacy_stream_and_captures);
    RUN(test_streams_join_and_must_be_joined);
    RUN(test_captures_do_not_merge);
    RUN(test_a_capturing_stream_destroyed);
    RUN(test_a_forked_graph_runs_in_every_order);
    RUN(test_launches_of_one_graph_are_ordered);
    RUN(test_an_external_event_inside_a_graph);
    RUN(test_graph_handles);
    cemu_reset(NULL);
    return check_report();
}
