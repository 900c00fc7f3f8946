/* Calls and operations that fail on purpose, and a small engine that must survive each of them. */
#include "programs.h"

#include <math.h>

enum { N = 128, BYTES = N * sizeof(float) };

/* An engine as the backend is one: made in one go, stepped by graph launches, destroyed in any
 * state. `leaky` forgets its graph where it did not become an executable one. */
typedef struct engine {
    cudaStream_t stream, copies;
    cudaEvent_t copied, stepped;
    float *host, *result, *x, *y;
    cublasHandle_t blas;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    bool leaky;
} engine;

#define TRY(call)                                                                                  \
    do {                                                                                           \
        const int try_error = (int)(call);                                                         \
        if (try_error)                                                                             \
            return try_error;                                                                      \
    } while (0)

static int record_step(engine *e) {
    static const float one = 1.0f, zero = 0.0f;
    TRY(example_launch_sum(e->x, e->y, N, N, 1, e->stream));
    TRY(cublasGemmEx(e->blas, CUBLAS_OP_T, CUBLAS_OP_N, 1, 1, N, &one, e->x, CUDA_R_16BF, N, e->x,
                     CUDA_R_16BF, N, &zero, e->y + 1, CUDA_R_32F, 1, CUBLAS_COMPUTE_32F,
                     CUBLAS_GEMM_DEFAULT));
    return (int)cudaMemcpyAsync(e->result, e->y, sizeof(float), cudaMemcpyDeviceToHost, e->stream);
}

static int capture_step(engine *e) {
    TRY(cudaStreamBeginCapture(e->stream, cudaStreamCaptureModeThreadLocal));
    const int error = record_step(e);
    const int ended = (int)cudaStreamEndCapture(e->stream, &e->graph);
    TRY(error);
    TRY(ended);
    TRY(cudaGraphInstantiate(&e->exec, e->graph, 0));
    return (int)cudaGraphUpload(e->exec, e->stream);
}

static int engine_create(engine *e) {
    int devices;
    TRY(cudaGetDeviceCount(&devices));
    TRY(cudaSetDevice(0));
    struct cudaDeviceProp properties;
    TRY(cudaGetDeviceProperties(&properties, 0));
    TRY(cudaStreamCreateWithFlags(&e->stream, cudaStreamNonBlocking));
    TRY(cudaStreamCreateWithFlags(&e->copies, cudaStreamNonBlocking));
    TRY(cudaEventCreateWithFlags(&e->copied, cudaEventDisableTiming));
    TRY(cudaEventCreateWithFlags(&e->stepped, cudaEventDefault));
    TRY(cudaHostAlloc((void **)&e->host, BYTES, cudaHostAllocDefault));
    TRY(cudaMallocHost((void **)&e->result, sizeof(float)));
    TRY(cudaMalloc((void **)&e->x, BYTES));
    TRY(cudaMalloc((void **)&e->y, BYTES));
    TRY(cublasCreate(&e->blas));
    TRY(cublasSetStream(e->blas, e->stream));
    TRY(cublasSetWorkspace(e->blas, e->y, BYTES / 2)); /* replaced at once: a real one is larger */
    TRY(cublasSetWorkspace(e->blas, (char *)e->y + 256, 256));
    return capture_step(e);
}

static int engine_step(engine *e, float first) {
    ramp(e->host, N, first);
    TRY(cudaMemcpyAsync(e->x, e->host, BYTES, cudaMemcpyHostToDevice, e->copies));
    TRY(cudaEventRecord(e->copied, e->copies));
    TRY(cudaStreamWaitEvent(e->stream, e->copied, 0));
    TRY(cudaGraphLaunch(e->exec, e->stream));
    TRY(cudaEventRecord(e->stepped, e->stream));
    return (int)cudaEventSynchronize(e->stepped);
}

static void engine_destroy(engine *e) {
    if (e->stream)
        (void)cudaStreamSynchronize(e->stream);
    if (e->copies)
        (void)cudaStreamSynchronize(e->copies);
    if (e->exec)
        (void)cudaGraphExecDestroy(e->exec);
    if (e->graph && !(e->leaky && !e->exec))
        (void)cudaGraphDestroy(e->graph);
    if (e->blas)
        (void)cublasDestroy(e->blas);
    (void)cudaFree(e->x);
    (void)cudaFree(e->y);
    (void)cudaFreeHost(e->host);
    (void)cudaFreeHost(e->result);
    if (e->copied)
        (void)cudaEventDestroy(e->copied);
    if (e->stepped)
        (void)cudaEventDestroy(e->stepped);
    if (e->stream)
        (void)cudaStreamDestroy(e->stream);
    if (e->copies)
        (void)cudaStreamDestroy(e->copies);
}

/* The first error of a whole run. */
static int run(bool leaky) {
    engine e = {.leaky = leaky};
    int error = engine_create(&e);
    for (int step = 0; !error && step < 2; step++) {
        error = engine_step(&e, (float)step);
        if (!error)
            CHECK(*e.result == (float)(step * N + N * (N - 1) / 2));
    }
    engine_destroy(&e);
    return error;
}

static void test_every_call_fails_once(void) {
    static const int errors[] = {0, cudaErrorUnknown, cudaErrorMemoryAllocation,
                                 cudaErrorLaunchFailure};
    for (uint32_t variation = 0; variation < 3; variation++)
        for (uint32_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
            uint64_t n = 1;
            for (bool happened = true; happened; n++) {
                start(variation);
                cemu_fail_call(NULL, n, errors[i]);
                const int error = run(false);
                happened = cemu_failed() != NULL;
                if (cemu_faults(CEMU_NO_FAULT) || cemu_leaks()[0]) {
                    fprintf(stderr, "call %u, %s, fails with %d: %s; %s\n", (unsigned)n,
                            cemu_failed(), errors[i], last_fault(), cemu_leaks());
                    exit(1);
                }
                /* Only what comes after the last step can fail unseen. */
                CHECK(!happened || error != 0 || strstr(cemu_failed(), "Destroy") ||
                      strstr(cemu_failed(), "Free") || strstr(cemu_failed(), "Synchronize"));
                CHECK(happened || error == 0);
            }
            CHECK(n > 40); /* calls that the run makes */
        }
}

static void test_a_leak_on_one_error_path_shows(void) {
    bool found = false;
    for (uint64_t n = 1;; n++) {
        start(0);
        cemu_fail_call(NULL, n, 0);
        (void)run(true);
        const bool leaks = cemu_leaks()[0] != 0;
        CHECK(!leaks || strncmp(cemu_leaks(), "graph ", 6) == 0);
        if (cemu_failed() && strcmp(cemu_failed(), "cudaGraphInstantiate") == 0) {
            CHECK(leaks);
            found = true;
        }
        if (!cemu_failed())
            break;
    }
    CHECK(found);
}

static void test_every_operation_fails_once(void) {
    for (uint32_t variation = 0; variation < CEMU_VARIATIONS; variation++) {
        uint64_t n = 1;
        for (bool happened = true; happened; n++) {
            start(variation);
            cemu_fail_operation(n, cudaErrorIllegalAddress);
            const int error = run(false);
            happened = cemu_failed() != NULL;
            CHECK_CLEAN();
            CHECK_EQ(error, happened ? cudaErrorIllegalAddress : 0);
        }
        CHECK(n > 10);
    }
}

static void test_a_named_call_fails(void) {
    start(0);
    void *p;
    cemu_fail_call("cudaMalloc", 2, cudaErrorNotPermitted);
    NEED(cudaMalloc(&p, 8));
    NEED(cudaFree(p));
    CHECK(cemu_failed() == NULL);
    GIVES(cudaMalloc(&p, 8), cudaErrorNotPermitted);
    CHECK(p == NULL || cemu_get_live().device_allocations == 0);
    CHECK_TEXT(cemu_failed(), "cudaMalloc");
    GIVES(cudaPeekAtLastError(), cudaErrorNotPermitted);
    NEED(cudaMalloc(&p, 8)); /* once */
    cemu_fail_call("cudaFree", 1, 0);
    GIVES(cudaFree(p), cudaErrorUnknown); /* and has freed */
    CHECK_CLEAN();
}

static void test_a_kernel_fault_stays(void) {
    for (uint32_t i = 0; i < CEMU_VARIATIONS; i++) {
        start(i);
        cudaStream_t stream = make_stream();
        float *x = device_bytes(BYTES), *y = device_bytes(4);
        float *host = pinned_bytes(BYTES);
        NEED(cudaMemcpyAsync(x, host, BYTES, cudaMemcpyHostToDevice, stream));
        const int launched = example_launch_sum(x, y, N + 1, N + 1, 1, stream);
        CHECK(launched == 0 || launched == cudaErrorLaunchFailure);
        GIVES(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
        CHECK_EQ(cemu_faults(CEMU_KERNEL), 1);
        CHECK(strstr(cemu_fault_text(0, NULL), "sum_kernel") != NULL);
        CHECK(strstr(cudaGetErrorString(cudaErrorLaunchFailure), "sum_kernel") != NULL);
        GIVES(cudaGetLastError(), cudaErrorLaunchFailure);
        GIVES(cudaGetLastError(), cudaErrorLaunchFailure); /* it stays */
        void *p;
        GIVES(cudaMalloc(&p, 8), cudaErrorLaunchFailure);
        GIVES(cudaFree(x), cudaErrorLaunchFailure);
        GIVES(cudaFree(y), cudaErrorLaunchFailure);
        GIVES(cudaFreeHost(host), cudaErrorLaunchFailure);
        GIVES(cudaStreamDestroy(stream), cudaErrorLaunchFailure);
        CHECK_TEXT(cemu_leaks(), "");
        CHECK_EQ(cemu_faults(CEMU_NO_FAULT), 1);
    }
}

static void test_without_a_driver_or_a_device(void) {
    const cemu_options no_driver = {.no_driver = true}, no_device = {.no_device = true};
    int n = 7;
    cemu_reset(&no_driver);
    GIVES(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
    CHECK_EQ(n, 0);
    NEED(cudaDriverGetVersion(&n));
    CHECK_EQ(n, 0);
    NEED(cudaRuntimeGetVersion(&n));
    CHECK_EQ(n, CUDART_VERSION);
    cublasHandle_t handle;
    GIVES(cublasCreate(&handle), CUBLAS_STATUS_NOT_INITIALIZED);
    cemu_reset(&no_device);
    GIVES(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    CHECK_EQ(n, 0);
    NEED(cudaDriverGetVersion(&n));
    CHECK_EQ(n, CUDART_VERSION);
    void *p;
    GIVES(cudaMalloc(&p, 8), cudaErrorNoDevice);
    CHECK_CLEAN();
}

int main(void) {
    RUN(test_every_call_fails_once);
    RUN(test_a_leak_on_one_error_path_shows);
    RUN(test_every_operation_fails_once);
    RUN(test_a_named_call_fails);
    RUN(test_a_kernel_fault_stays);
    RUN(test_without_a_driver_or_a_device);
    cemu_reset(NULL);
    return check_report();
}
