/* Small host programs with one bug each, and the same programs without it. The right ones are clean
 * under every order; each wrong one is caught, most of them whatever the order, by name. */
#include "programs.h"

#include <math.h>

enum { N = 128, BYTES = N * sizeof(float) };

typedef struct program {
    cudaStream_t a, b;
    cudaEvent_t event, other;
    float *host, *result; /* pinned: N values, 1 */
    float *x, *y;         /* on the device: the same */
    cublasHandle_t blas;
    int error; /* the first one; nothing goes on after it */
    bool wrong;
    float first; /* of the ramp whose sum the result should be */
} program;

/* A real program stops at the first error and cleans up. */
#define STEP(call)                                                                                 \
    do {                                                                                           \
        if (!p->error)                                                                             \
            p->error = (int)(call);                                                                \
    } while (0)

static void upload(program *p, cudaStream_t stream) {
    STEP(cudaMemcpyAsync(p->x, p->host, BYTES, cudaMemcpyHostToDevice, stream));
}

static void sum(program *p, cudaStream_t stream) {
    STEP(example_launch_sum(p->x, p->y, N, N, 1, stream));
}

static void download(program *p, cudaStream_t stream) {
    STEP(cudaMemcpyAsync(p->result, p->y, sizeof(float), cudaMemcpyDeviceToHost, stream));
}

static void finish(program *p, cudaStream_t stream) {
    STEP(cudaStreamSynchronize(stream));
}

static void hand_over(program *p, cudaEvent_t event, cudaStream_t from, cudaStream_t to) {
    STEP(cudaEventRecord(event, from));
    STEP(cudaStreamWaitEvent(to, event, 0));
}

/* The programs. */

static void missing_wait(program *p, bool bug) {
    upload(p, p->a);
    STEP(cudaEventRecord(p->event, p->a));
    if (!bug)
        STEP(cudaStreamWaitEvent(p->b, p->event, 0));
    sum(p, p->b);
    download(p, p->b);
    finish(p, p->b);
}

static void recorded_too_early(program *p, bool bug) {
    if (bug)
        hand_over(p, p->event, p->a, p->b);
    upload(p, p->a);
    if (!bug)
        hand_over(p, p->event, p->a, p->b);
    sum(p, p->b);
    download(p, p->b);
    finish(p, p->b);
}

static void recorded_on_the_wrong_stream(program *p, bool bug) {
    upload(p, p->a);
    hand_over(p, p->event, bug ? p->b : p->a, p->b);
    sum(p, p->b);
    download(p, p->b);
    finish(p, p->b);
}

static void waited_for_the_wrong_stream(program *p, bool bug) {
    upload(p, p->a);
    hand_over(p, p->event, p->a, p->b);
    sum(p, p->b);
    download(p, p->b);
    finish(p, bug ? p->a : p->b);
}

static void read_before_the_wait(program *p, bool bug) {
    upload(p, p->a);
    sum(p, p->a);
    download(p, p->a);
    if (!bug)
        finish(p, p->a);
    p->wrong = !(*p->result == p->first * N + N * (N - 1) / 2);
    finish(p, p->a);
}

static void staging_reused_too_early(program *p, bool bug) {
    for (int round = 0; round < 2; round++) {
        p->first = (float)(10 * round);
        ramp(p->host, N, p->first);
        upload(p, p->a);
        sum(p, p->a);
        download(p, p->a);
        if (!bug || round)
            finish(p, p->a);
    }
}

/* Two staging buffers: the event says when the one to be filled again is free. */
static void slot_freed_too_early(program *p, bool bug) {
    const cudaEvent_t events[2] = {p->event, p->other};
    for (int round = 0; round < 4; round++) {
        const int slot = round % 2;
        if (round >= 2)
            STEP(cudaEventSynchronize(events[slot]));
        p->first = (float)(10 * round);
        ramp(p->host + slot * N, N, p->first);
        if (bug)
            STEP(cudaEventRecord(events[slot], p->a));
        STEP(cudaMemcpyAsync(p->x, p->host + slot * N, BYTES, cudaMemcpyHostToDevice, p->a));
        if (!bug)
            STEP(cudaEventRecord(events[slot], p->a));
        sum(p, p->a);
    }
    download(p, p->a);
    finish(p, p->a);
}

static void target_written_too_early(program *p, bool bug) {
    upload(p, p->a);
    sum(p, p->a);
    if (!bug)
        *p->result = 0.0f;
    download(p, p->a);
    if (bug)
        *p->result = 0.0f;
    finish(p, p->a);
}

static void memset_in_the_wrong_stream(program *p, bool bug) {
    p->first = 0;
    for (uint32_t i = 0; i < N; i++)
        p->host[i] = (float)i;
    upload(p, p->a);
    finish(p, p->a);
    if (bug) /* the legacy stream, which p->a does not follow; and it does not wait */
        STEP(cudaMemset(p->x + N / 2, 0, BYTES / 2));
    else
        STEP(cudaMemsetAsync(p->x + N / 2, 0, BYTES / 2, p->a));
    sum(p, p->a);
    download(p, p->a);
    finish(p, p->a);
    p->wrong = !(*p->result == (float)((N / 2) * (N / 2 - 1) / 2));
    STEP(cudaDeviceSynchronize());
}

static void upload_after_the_launch(program *p, bool bug) {
    if (!bug)
        upload(p, p->a);
    sum(p, p->a);
    if (bug)
        upload(p, p->a);
    download(p, p->a);
    finish(p, p->a);
}

static void end_capture(program *p, cudaGraphExec_t *exec) {
    cudaGraph_t graph = NULL;
    STEP(cudaStreamEndCapture(p->a, &graph));
    STEP(cudaGraphInstantiate(exec, graph, 0));
    if (graph)
        STEP(cudaGraphDestroy(graph));
}

static void capture(program *p, cudaGraphExec_t *exec, float *x, float *host) {
    STEP(cudaStreamBeginCapture(p->a, cudaStreamCaptureModeThreadLocal));
    STEP(cudaMemcpyAsync(x, host, BYTES, cudaMemcpyHostToDevice, p->a));
    STEP(example_launch_sum(x, p->y, N, N, 1, p->a));
    download(p, p->a);
    end_capture(p, exec);
}

static void replay(program *p, cudaGraphExec_t exec) {
    STEP(cudaGraphLaunch(exec, p->a));
    finish(p, p->a);
    if (exec)
        (void)cudaGraphExecDestroy(exec);
}

static void graph_outlives_its_buffer(program *p, bool bug) {
    cudaGraphExec_t exec = NULL;
    float *x = NULL;
    STEP(cudaMalloc((void **)&x, BYTES));
    capture(p, &exec, x, p->host);
    if (bug) {
        (void)cudaFree(x);
        STEP(cudaMalloc((void **)&x, BYTES)); /* as large; not the same */
    }
    replay(p, exec);
    (void)cudaFree(x);
}

static void graph_outlives_its_staging(program *p, bool bug) {
    cudaGraphExec_t exec = NULL;
    float *host = NULL;
    STEP(cudaMallocHost((void **)&host, BYTES));
    capture(p, &exec, p->x, host);
    if (host)
        ramp(host, N, p->first);
    if (bug)
        (void)cudaFreeHost(host);
    replay(p, exec);
    if (!bug)
        (void)cudaFreeHost(host);
}

static void graph_destroyed_while_it_runs(program *p, bool bug) {
    cudaGraphExec_t exec = NULL;
    capture(p, &exec, p->x, p->host);
    STEP(cudaGraphLaunch(exec, p->a));
    if (bug)
        (void)cudaGraphExecDestroy(exec);
    finish(p, p->a);
    if (!bug)
        (void)cudaGraphExecDestroy(exec);
}

static void staging_changed_under_a_graph(program *p, bool bug) {
    cudaGraphExec_t exec = NULL;
    capture(p, &exec, p->x, p->host);
    for (int round = 0; round < 2; round++) {
        p->first = (float)(7 * round);
        ramp(p->host, N, p->first);
        STEP(cudaGraphLaunch(exec, p->a));
        if (!bug || round)
            finish(p, p->a);
    }
    (void)cudaGraphExecDestroy(exec);
}

static void graph_branches_meet_too_late(program *p, bool bug) {
    cudaGraphExec_t exec = NULL;
    STEP(cudaStreamBeginCapture(p->a, cudaStreamCaptureModeThreadLocal));
    hand_over(p, p->event, p->a, p->b);
    upload(p, p->b);
    if (!bug)
        hand_over(p, p->other, p->b, p->a);
    sum(p, p->a);
    download(p, p->a);
    if (bug)
        hand_over(p, p->other, p->b, p->a);
    end_capture(p, &exec);
    replay(p, exec);
}

static void graph_branch_not_joined(program *p, bool bug) {
    cudaGraphExec_t exec = NULL;
    STEP(cudaStreamBeginCapture(p->a, cudaStreamCaptureModeThreadLocal));
    hand_over(p, p->event, p->a, p->b);
    upload(p, p->b);
    if (!bug)
        hand_over(p, p->other, p->b, p->a);
    sum(p, p->a);
    download(p, p->a);
    end_capture(p, &exec);
    replay(p, exec);
}

static void wait_inside_a_capture(program *p, bool bug) {
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    STEP(cudaStreamBeginCapture(p->a, cudaStreamCaptureModeThreadLocal));
    upload(p, p->a);
    sum(p, p->a);
    download(p, p->a);
    const int error = p->error || !bug ? 0 : (int)cudaStreamSynchronize(p->a);
    STEP(cudaStreamEndCapture(p->a, &graph)); /* in any case: the stream is of no use before */
    STEP(error);
    STEP(cudaGraphInstantiate(&exec, graph, 0));
    if (graph)
        STEP(cudaGraphDestroy(graph));
    replay(p, exec);
}

static void allocation_inside_a_capture(program *p, bool bug) {
    cudaGraph_t graph = NULL;
    float *x = NULL;
    if (!bug)
        STEP(cudaMalloc((void **)&x, BYTES));
    STEP(cudaStreamBeginCapture(p->a, cudaStreamCaptureModeGlobal));
    const int error = bug ? (int)cudaMalloc((void **)&x, BYTES) : 0;
    upload(p, p->a);
    STEP(cudaStreamEndCapture(p->a, &graph));
    p->error = error ? error : p->error;
    if (graph)
        STEP(cudaGraphDestroy(graph));
    upload(p, p->a);
    sum(p, p->a);
    download(p, p->a);
    finish(p, p->a);
    (void)cudaFree(x);
}

static void capture_left_open(program *p, bool bug) {
    cudaGraph_t graph = NULL;
    int error = (int)cudaStreamBeginCapture(p->a, cudaStreamCaptureModeThreadLocal);
    cemu_fail_call("cop_launch", 1, 0);
    if (!error)
        error = example_launch_sum(p->x, p->y, N, N, 1, p->a);
    if (!bug)
        (void)cudaStreamEndCapture(p->a, &graph);
    (void)cudaGraphDestroy(graph);
    CHECK(error == cudaErrorLaunchOutOfResources);
    if (bug)
        p->error = error;
    upload(p, p->a);
    sum(p, p->a);
    download(p, p->a);
    finish(p, p->a);
}

static void leak_on_the_way_out(program *p, bool bug) {
    float *one = NULL, *two = NULL;
    cemu_fail_call("cudaMalloc", 2, 0);
    int error = (int)cudaMalloc((void **)&one, BYTES);
    if (!error)
        error = (int)cudaMalloc((void **)&two, BYTES);
    CHECK(error == cudaErrorMemoryAllocation);
    if (!bug)
        STEP(cudaFree(one));
    upload(p, p->a);
    sum(p, p->a);
    download(p, p->a);
    finish(p, p->a);
}

static void freed_twice(program *p, bool bug) {
    void *x = NULL;
    STEP(cudaMalloc(&x, 64));
    STEP(cudaFree(x));
    if (bug)
        STEP(cudaFree(x));
    upload(p, p->a);
    sum(p, p->a);
    download(p, p->a);
    finish(p, p->a);
}

static void copy_from_freed(program *p, bool bug) {
    float *x = NULL;
    upload(p, p->a);
    sum(p, p->a);
    STEP(cudaMalloc((void **)&x, sizeof(float)));
    STEP(cudaMemcpyAsync(x, p->y, sizeof(float), cudaMemcpyDeviceToDevice, p->a));
    finish(p, p->a);
    if (bug)
        STEP(cudaFree(x));
    STEP(cudaMemcpyAsync(p->result, x, sizeof(float), cudaMemcpyDeviceToHost, p->a));
    finish(p, p->a);
    if (!bug)
        STEP(cudaFree(x));
}

static void freed_under_a_kernel(program *p, bool bug) {
    float *x = NULL;
    STEP(cudaMalloc((void **)&x, BYTES));
    STEP(cudaMemcpyAsync(x, p->host, BYTES, cudaMemcpyHostToDevice, p->a));
    finish(p, p->a);
    STEP(example_launch_sum(x, p->y, N, N, 1, p->a));
    if (bug)
        (void)cudaFree(x);
    download(p, p->a);
    finish(p, p->a);
    if (!bug)
        STEP(cudaFree(x));
}

static void staging_freed_under_a_copy(program *p, bool bug) {
    float *host = NULL;
    STEP(cudaMallocHost((void **)&host, BYTES));
    if (host)
        ramp(host, N, p->first);
    STEP(cudaMemcpyAsync(p->x, host, BYTES, cudaMemcpyHostToDevice, p->a));
    if (bug)
        (void)cudaFreeHost(host);
    sum(p, p->a);
    download(p, p->a);
    finish(p, p->a);
    if (!bug)
        STEP(cudaFreeHost(host));
}

static void too_long_a_copy(program *p, bool bug) {
    STEP(cudaMemcpyAsync(p->x, p->host, bug ? 2 * BYTES + 4 : BYTES, cudaMemcpyHostToDevice, p->a));
    sum(p, p->a);
    download(p, p->a);
    finish(p, p->a);
}

static void kernel_past_the_end(program *p, bool bug) {
    upload(p, p->a);
    STEP(example_launch_sum(p->x, p->y, bug ? 2 * N + 1 : N, 2 * N + 1, 1, p->a));
    download(p, p->a);
    finish(p, p->a);
}

static void result_that_nobody_wrote(program *p, bool bug) {
    upload(p, p->a);
    if (!bug)
        sum(p, p->a);
    download(p, p->a);
    finish(p, p->a);
}

static void time_before_the_end(program *p, bool bug) {
    float ms = 0.0f;
    STEP(cudaEventRecord(p->event, p->a));
    upload(p, p->a);
    sum(p, p->a);
    download(p, p->a);
    STEP(cudaEventRecord(p->other, p->a));
    if (!bug)
        finish(p, p->a);
    STEP(cudaEventElapsedTime(&ms, p->event, p->other));
    if (bug)
        (void)cudaStreamSynchronize(p->a);
    p->wrong |= !(ms > 0.0f);
}

static void event_used_after_its_end(program *p, bool bug) {
    cudaEvent_t event = NULL;
    STEP(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    upload(p, p->a);
    STEP(cudaEventRecord(event, p->a));
    if (bug)
        STEP(cudaEventDestroy(event));
    STEP(cudaStreamWaitEvent(p->b, event, 0));
    sum(p, p->b);
    download(p, p->b);
    finish(p, p->b);
    if (!bug)
        STEP(cudaEventDestroy(event));
}

static void pageable_in_a_steady_step(program *p, bool bug) {
    float pageable[N];
    ramp(pageable, N, p->first);
    cemu_steady_begin();
    STEP(cudaMemcpyAsync(p->x, bug ? pageable : p->host, BYTES, cudaMemcpyHostToDevice, p->a));
    sum(p, p->a);
    download(p, p->a);
    finish(p, p->a);
    cemu_steady_end();
}

static void multiply(program *p, cudaStream_t stream, void *workspace, float *y) {
    static const float one = 1.0f, zero = 0.0f;
    STEP(cublasSetStream(p->blas, stream));
    STEP(cublasSetWorkspace(p->blas, workspace, 256));
    STEP(cublasGemmEx(p->blas, CUBLAS_OP_T, CUBLAS_OP_N, 1, 1, N, &one, p->x, CUDA_R_16BF, N, p->x,
                      CUDA_R_16BF, N, &zero, y, CUDA_R_32F, 1, CUBLAS_COMPUTE_32F,
                      CUBLAS_GEMM_DEFAULT));
}

static void workspace_shared_by_two_streams(program *p, bool bug) {
    unsigned char *workspaces = NULL;
    STEP(cudaMalloc((void **)&workspaces, 512));
    upload(p, p->a);
    hand_over(p, p->event, p->a, p->b);
    multiply(p, p->a, workspaces, (float *)(void *)(p->x + N));
    multiply(p, p->b, workspaces + (bug ? 0 : 256), (float *)(void *)(p->x + N + 1));
    sum(p, p->a);
    download(p, p->a);
    finish(p, p->b);
    finish(p, p->a);
    (void)cudaFree(workspaces);
}

static void product_in_the_wrong_stream(program *p, bool bug) {
    void *workspace = NULL;
    STEP(cudaMalloc(&workspace, 256));
    upload(p, p->a);
    multiply(p, bug ? p->b : p->a, workspace, p->x + N);
    sum(p, p->a);
    download(p, p->a);
    finish(p, p->a);
    finish(p, p->b);
    (void)cudaFree(workspace);
}

typedef struct host_bug {
    const char *name;
    void (*run)(program *p, bool bug);
    cemu_fault fault; /* CEMU_NO_FAULT: a wrong value, an error or a leak alone */
    bool always;      /* under every order */
} host_bug;

static const host_bug bugs[] = {
    {"a missing event wait", missing_wait, CEMU_RACE, true},
    {"an event recorded too early", recorded_too_early, CEMU_RACE, true},
    {"an event recorded on the wrong stream", recorded_on_the_wrong_stream, CEMU_RACE, true},
    {"a wait for the wrong stream", waited_for_the_wrong_stream, CEMU_NO_FAULT, true},
    {"a result read before the wait", read_before_the_wait, CEMU_NO_FAULT, true},
    {"staging memory reused too early", staging_reused_too_early, CEMU_SOURCE_CHANGED, true},
    {"a slot's event recorded before its copy", slot_freed_too_early, CEMU_SOURCE_CHANGED, true},
    {"a target written too early", target_written_too_early, CEMU_TARGET_CHANGED, true},
    {"a memset in the wrong stream", memset_in_the_wrong_stream, CEMU_RACE, true},
    {"an upload after the launch", upload_after_the_launch, CEMU_NO_FAULT, true},
    {"a graph that outlives its buffer", graph_outlives_its_buffer, CEMU_USE_AFTER_FREE, true},
    {"a graph that outlives its staging", graph_outlives_its_staging, CEMU_USE_AFTER_FREE, true},
    {"a graph destroyed while it runs", graph_destroyed_while_it_runs, CEMU_FREED_IN_USE, false},
    {"staging changed under a graph", staging_changed_under_a_graph, CEMU_SOURCE_CHANGED, true},
    {"branches of a graph that meet too late", graph_branches_meet_too_late, CEMU_RACE, true},
    {"a branch of a graph not joined", graph_branch_not_joined, CEMU_CAPTURE, true},
    {"a wait inside a capture", wait_inside_a_capture, CEMU_CAPTURE, true},
    {"an allocation inside a capture", allocation_inside_a_capture, CEMU_CAPTURE, true},
    {"a capture left open", capture_left_open, CEMU_NO_FAULT, true},
    {"a leak on the way out", leak_on_the_way_out, CEMU_NO_FAULT, true},
    {"a double free", freed_twice, CEMU_DOUBLE_FREE, true},
    {"a copy from freed memory", copy_from_freed, CEMU_USE_AFTER_FREE, true},
    {"memory freed under a kernel", freed_under_a_kernel, CEMU_USE_AFTER_FREE, false},
    {"staging freed under a copy", staging_freed_under_a_copy, CEMU_FREED_IN_USE, true},
    {"too long a copy", too_long_a_copy, CEMU_OUT_OF_RANGE, true},
    {"a kernel past the end of its buffer", kernel_past_the_end, CEMU_KERNEL, true},
    {"a result that nobody wrote", result_that_nobody_wrote, CEMU_UNWRITTEN, true},
    {"a time taken before the end", time_before_the_end, CEMU_NOT_READY, false},
    {"an event used after its end", event_used_after_its_end, CEMU_BAD_HANDLE, true},
    {"pageable memory in a steady step", pageable_in_a_steady_step, CEMU_STEADY, true},
    {"a workspace shared by two streams", workspace_shared_by_two_streams, CEMU_RACE, true},
    {"a product in the wrong stream", product_in_the_wrong_stream, CEMU_RACE, true},
};
enum { BUGS = sizeof bugs / sizeof bugs[0] };

static void program_begin(program *p, uint32_t variation) {
    start(variation);
    *p = (program){.first = 3.0f};
    p->a = make_stream();
    p->b = make_stream();
    p->event = make_event(cudaEventDefault);
    p->other = make_event(cudaEventDefault);
    p->host = pinned_bytes(2 * BYTES);
    p->result = pinned_bytes(sizeof(float));
    p->x = device_bytes(2 * BYTES);
    p->y = device_bytes(sizeof(float));
    NEED(cublasCreate(&p->blas));
    ramp(p->host, 2 * N, p->first);
}

static void program_end(program *p) {
    (void)cudaDeviceSynchronize();
    p->wrong |= !p->error && isnan(*p->result);
    (void)cublasDestroy(p->blas);
    (void)cudaFree(p->x);
    (void)cudaFree(p->y);
    (void)cudaFreeHost(p->host);
    (void)cudaFreeHost(p->result);
    (void)cudaEventDestroy(p->event);
    (void)cudaEventDestroy(p->other);
    (void)cudaStreamDestroy(p->a);
    (void)cudaStreamDestroy(p->b);
}

/* Whether anything was wrong; `*named`: whether by the expected name. */
static bool run(const host_bug *bug, bool with, uint32_t variation, bool *named) {
    program p;
    program_begin(&p, variation);
    bug->run(&p, with);
    const bool whole = p.first * N + N * (N - 1) / 2 == *p.result;
    p.wrong |= !p.error && !whole && bug->run != memset_in_the_wrong_stream;
    program_end(&p);
    *named = bug->fault == CEMU_NO_FAULT || cemu_faults(bug->fault) > 0;
    const bool caught = p.wrong || p.error || cemu_faults(CEMU_NO_FAULT) || cemu_leaks()[0];
    if (caught && !with)
        fprintf(stderr, "variation %u of the right twin of %s: error %d, wrong %d, %s; %s\n",
                variation, bug->name, p.error, p.wrong, last_fault(), cemu_leaks());
    return caught;
}

static void test_every_bug_is_caught_and_its_twin_is_clean(void) {
    for (uint32_t i = 0; i < BUGS; i++) {
        uint32_t caught = 0, named = 0;
        for (uint32_t variation = 0; variation < CEMU_VARIATIONS; variation++) {
            bool by_name;
            CHECK(!run(&bugs[i], false, variation, &by_name));
            const bool found = run(&bugs[i], true, variation, &by_name);
            caught += found;
            named += found && by_name;
        }
        printf("  %-40s caught under %u of %u orders, by name under %u\n", bugs[i].name, caught,
               CEMU_VARIATIONS, named);
        CHECK(caught == CEMU_VARIATIONS || (!bugs[i].always && caught > 0));
        CHECK(named == CEMU_VARIATIONS || (!bugs[i].always && named > 0));
    }
}

int main(void) {
    RUN(test_every_bug_is_caught_and_its_twin_is_clean);
    cemu_reset(NULL);
    return check_report();
}
