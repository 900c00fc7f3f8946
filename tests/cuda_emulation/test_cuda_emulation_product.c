/* The stand-in of cublasGemmEx: its bits, its conventions, what it refuses. */
#include "programs.h"

#include <math.h>

#include "cuda_emulation/product.h"

static uint32_t random_state = 1;

static uint32_t next(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}

static float widen(uint16_t bits) {
    const uint32_t word = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &word, sizeof x);
    return x;
}

/* To nearest even, from the definition: the nearer neighbour, of two equally near the even one. */
static uint16_t narrow(float x) {
    uint32_t word;
    memcpy(&word, &x, sizeof word);
    const uint16_t down = (uint16_t)(word >> 16), up = (uint16_t)(down + 1);
    const double below = fabs((double)x - (double)widen(down));
    const double above = fabs((double)widen(up) - (double)x);
    if (below != above)
        return below < above ? down : up;
    return down % 2 ? up : down;
}

/* A normal number of either sign around 1. */
static uint16_t value(void) {
    return (uint16_t)((next() & 0x80ff) | (0x3f00 + (next() % 3 << 7)));
}

typedef struct sizes {
    int m, n, k, lda, ldb, ldc;
    bool ta, tb, f32;
} sizes;

static sizes choose(void) {
    sizes s = {.m = 1 + (int)(next() % 70),
               .n = 1 + (int)(next() % 20),
               .k = (int)(next() % 90),
               .ta = next() % 4 != 0,
               .tb = next() % 4 == 0,
               .f32 = next() % 2};
    const int a_rows = s.ta ? s.k : s.m, b_rows = s.tb ? s.n : s.k;
    s.lda = (a_rows ? a_rows : 1) + (int)(next() % 5);
    s.ldb = (b_rows ? b_rows : 1) + (int)(next() % 5);
    s.ldc = s.m + (int)(next() % 5);
    return s;
}

/* The bits of c[i, j]; between the columns (i past m) those that stood there. */
static uint32_t expected_bits(const sizes *s, const uint16_t *a, const uint16_t *b, int i, int j) {
    if (i >= s->m)
        return s->f32 ? 0xffffffff : 0xffff;
    float sum = 0.0f;
    for (int k = 0; k < s->k; k++)
        sum = fmaf(widen(a[s->ta ? i * s->lda + k : k * s->lda + i]),
                   widen(b[s->tb ? k * s->ldb + j : j * s->ldb + k]), sum);
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    return s->f32 ? bits : narrow(sum);
}

static void expect(const sizes *s, const uint16_t *a, const uint16_t *b, const unsigned char *c) {
    const size_t element = s->f32 ? 4 : 2;
    for (int j = 0; j < s->n; j++)
        for (int i = 0; i < s->ldc && (j + 1 < s->n || i < s->m); i++) {
            uint32_t bits = 0;
            memcpy(&bits, c + ((size_t)j * (size_t)s->ldc + (size_t)i) * element, element);
            CHECK_EQ(bits, expected_bits(s, a, b, i, j));
        }
}

static void test_bits_of_every_instruction_set(void) {
    static const char *const names[] = {"portable", "avx2", "avx512"};
    for (int isa = 0; isa < 3; isa++) {
        if (!cemu_product_select(names[isa])) {
            printf("skipped: no %s here\n", names[isa]);
            continue;
        }
        random_state = 7;
        for (uint32_t run = 0; run < check_effort(300, 60); run++) {
            const sizes s = choose();
            cemu_product p = {.m = s.m,
                              .n = s.n,
                              .k = s.k,
                              .lda = s.lda,
                              .ldb = s.ldb,
                              .ldc = s.ldc,
                              .transpose_a = s.ta,
                              .transpose_b = s.tb,
                              .c_f32 = s.f32};
            const size_t a_bytes = cemu_product_a_bytes(&p), b_bytes = cemu_product_b_bytes(&p);
            const size_t c_bytes = cemu_product_c_bytes(&p);
            uint16_t *a = malloc(a_bytes + 1), *b = malloc(b_bytes + 1);
            unsigned char *c = malloc(c_bytes);
            for (size_t i = 0; i < a_bytes / 2; i++)
                a[i] = value();
            for (size_t i = 0; i < b_bytes / 2; i++)
                b[i] = value();
            memset(c, 0xff, c_bytes);
            p.a = a;
            p.b = b;
            p.c = c;
            CHECK(cemu_product_run(&p));
            expect(&s, a, b, c);
            free(a);
            free(b);
            free(c);
        }
    }
    CHECK(!cemu_product_select("no such set"));
    CHECK(cemu_product_select(NULL));
}

static const float one = 1.0f, zero = 0.0f;

typedef struct operands {
    cublasHandle_t handle;
    cudaStream_t stream;
    uint16_t *w, *x; /* w [N, K], x [ROWS, K] */
    float *y;        /* [ROWS, N] */
} operands;

enum { ROWS = 3, OUT = 40, IN = 24 };

static cublasStatus_t product(const operands *o) {
    return cublasGemmEx(o->handle, CUBLAS_OP_T, CUBLAS_OP_N, OUT, ROWS, IN, &one, o->w, CUDA_R_16BF,
                        IN, o->x, CUDA_R_16BF, IN, &zero, o->y, CUDA_R_32F, OUT, CUBLAS_COMPUTE_32F,
                        CUBLAS_GEMM_DEFAULT);
}

static operands make(void) {
    operands o;
    o.stream = make_stream();
    NEED(cublasCreate(&o.handle));
    NEED(cublasSetStream(o.handle, o.stream));
    NEED(cublasSetMathMode(o.handle, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));
    o.w = device_bytes(OUT * IN * 2);
    o.x = device_bytes(ROWS * IN * 2);
    o.y = device_bytes(ROWS * OUT * 4);
    return o;
}

static void drop(operands *o) {
    NEED(cublasDestroy(o->handle));
    NEED(cudaFree(o->w));
    NEED(cudaFree(o->x));
    NEED(cudaFree(o->y));
    NEED(cudaStreamDestroy(o->stream));
}

static void test_rows_times_weights_in_a_stream(void) {
    for (uint32_t i = 0; i < CEMU_VARIATIONS; i++) {
        start(i);
        operands o = make();
        uint16_t *host = pinned_bytes((OUT + ROWS) * IN * 2);
        float *y = pinned_bytes(ROWS * OUT * 4);
        for (int j = 0; j < (OUT + ROWS) * IN; j++)
            host[j] = value();
        NEED(cudaMemcpyAsync(o.w, host, OUT * IN * 2, cudaMemcpyHostToDevice, o.stream));
        NEED(
            cudaMemcpyAsync(o.x, host + OUT * IN, ROWS * IN * 2, cudaMemcpyHostToDevice, o.stream));
        NEED(product(&o));
        NEED(cudaMemcpyAsync(y, o.y, ROWS * OUT * 4, cudaMemcpyDeviceToHost, o.stream));
        NEED(cudaStreamSynchronize(o.stream));
        for (int r = 0; r < ROWS; r++)
            for (int n = 0; n < OUT; n++) {
                float sum = 0.0f;
                for (int k = 0; k < IN; k++)
                    sum = fmaf(widen(host[n * IN + k]), widen(host[(OUT + r) * IN + k]), sum);
                CHECK(memcmp(&sum, &y[r * OUT + n], 4) == 0);
            }
        CHECK_EQ(cemu_get_counts().products, 1);
        NEED(cudaFreeHost(host));
        NEED(cudaFreeHost(y));
        drop(&o);
        CHECK_CLEAN();
    }
}

static void test_a_captured_product_wants_a_workspace(void) {
    for (int set = 0; set < 2; set++) {
        start(0);
        operands o = make();
        void *workspace = device_bytes(4096);
        NEED(cublasSetWorkspace(o.handle, workspace, 4096));
        if (!set)
            NEED(cublasSetStream(o.handle, o.stream)); /* which drops the workspace */
        cudaGraph_t graph;
        NEED(cudaStreamBeginCapture(o.stream, cudaStreamCaptureModeGlobal));
        NEED(product(&o));
        NEED(cudaStreamEndCapture(o.stream, &graph));
        CHECK_EQ(cemu_faults(CEMU_CAPTURE), !set);
        CHECK_EQ(cemu_faults(CEMU_NO_FAULT), !set);
        cemu_clear_faults();
        NEED(cudaGraphDestroy(graph));
        NEED(cudaFree(workspace));
        drop(&o);
        CHECK_CLEAN();
    }
}

/* Who keeps data in a product's workspace loses it. */
static void test_a_workspace_is_written(void) {
    start(0);
    operands o = make();
    unsigned char *workspace = device_bytes(4096), bytes[16];
    NEED(cublasSetWorkspace(o.handle, workspace, 4096));
    NEED(cudaMemsetAsync(workspace, 0, 4096, o.stream));
    NEED(product(&o));
    NEED(cudaMemcpyAsync(bytes, workspace, sizeof bytes, cudaMemcpyDeviceToHost, o.stream));
    CHECK(bytes[0] == 0xff && bytes[15] == 0xff);
    NEED(cudaFree(workspace));
    drop(&o);
    CHECK_CLEAN();
}

static void test_what_is_not_computed_is_named(void) {
    start(0);
    operands o = make();
    const float two = 2.0f;
    GIVES(cublasGemmEx(o.handle, CUBLAS_OP_T, CUBLAS_OP_N, OUT, ROWS, IN, &two, o.w, CUDA_R_16BF,
                       IN, o.x, CUDA_R_16BF, IN, &zero, o.y, CUDA_R_32F, OUT, CUBLAS_COMPUTE_32F,
                       CUBLAS_GEMM_DEFAULT),
          CUBLAS_STATUS_NOT_SUPPORTED);
    GIVES(cublasGemmEx(o.handle, CUBLAS_OP_T, CUBLAS_OP_N, OUT, ROWS, IN, &one, o.w, CUDA_R_16F, IN,
                       o.x, CUDA_R_16BF, IN, &zero, o.y, CUDA_R_32F, OUT, CUBLAS_COMPUTE_32F,
                       CUBLAS_GEMM_DEFAULT),
          CUBLAS_STATUS_NOT_SUPPORTED);
    CHECK_EQ(cemu_faults(CEMU_UNSUPPORTED), 2);
    GIVES(cublasGemmEx(o.handle, CUBLAS_OP_T, CUBLAS_OP_N, OUT, ROWS, IN, &one, o.w, CUDA_R_16BF,
                       IN - 1, o.x, CUDA_R_16BF, IN, &zero, o.y, CUDA_R_32F, OUT,
                       CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          CUBLAS_STATUS_INVALID_VALUE);
    CHECK_EQ(cemu_faults(CEMU_BAD_CALL), 1);
    GIVES(cublasGemmEx(o.handle, CUBLAS_OP_T, CUBLAS_OP_N, OUT, ROWS, IN, &one, o.w, CUDA_R_16BF,
                       IN, o.x, CUDA_R_16BF, IN, &zero, o.y + 1, CUDA_R_32F, OUT,
                       CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          CUBLAS_STATUS_INVALID_VALUE);
    CHECK_EQ(cemu_faults(CEMU_OUT_OF_RANGE), 1);
    cemu_clear_faults();
    drop(&o);
    GIVES(product(&o), CUBLAS_STATUS_NOT_INITIALIZED);
    CHECK_EQ(cemu_faults(CEMU_BAD_HANDLE), 1);
    CHECK_TEXT(cublasGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED), "CUBLAS_STATUS_NOT_SUPPORTED");
    CHECK(cublasGetStatusString(CUBLAS_STATUS_ALLOC_FAILED)[0] != 0);
}

int main(void) {
    RUN(test_bits_of_every_instruction_set);
    RUN(test_rows_times_weights_in_a_stream);
    RUN(test_a_captured_product_wants_a_workspace);
    RUN(test_a_workspace_is_written);
    RUN(test_what_is_not_computed_is_named);
    cemu_reset(NULL);
    return check_report();
}
