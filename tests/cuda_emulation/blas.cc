/* cuBLAS: handles, and the one product that the program makes. */
#include "cuda_emulation/world.h"

static cublasContext *handle_at(cemu_world &world, cublasHandle_t handle) {
    for (const auto &one : world.handles)
        if (one.get() == handle) {
            if (one->alive)
                return handle;
            cemu_complain(world, CEMU_BAD_HANDLE, "%s is destroyed", one->name.c_str());
            return nullptr;
        }
    cemu_complain(world, CEMU_BAD_HANDLE, "%p is no handle", static_cast<void *>(handle));
    return nullptr;
}

extern "C" cublasStatus_t cublasCreate_v2(cublasHandle_t *handle) {
    cemu_call call("cublasCreate", CEMU_UNSAFE | CEMU_NOT_STEADY);
    if (handle)
        *handle = nullptr;
    if (call.refused)
        return call.give_blas();
    if (!handle)
        return CUBLAS_STATUS_INVALID_VALUE;
    auto made = std::make_unique<cublasContext>();
    made->name = "cuBLAS handle " + std::to_string(call.world.handles.size());
    made->stream = call.world.slots[0];
    *handle = made.get();
    call.world.handles.push_back(std::move(made));
    call.world.counts.creations++;
    return call.give_blas();
}

extern "C" cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
    cemu_call call("cublasDestroy", CEMU_UNSAFE | CEMU_RELEASES | CEMU_NOT_STEADY);
    if (call.refused)
        return call.give_blas();
    cublasContext *at = handle_at(call.world, handle);
    if (!at)
        return call.give_blas(CUBLAS_STATUS_NOT_INITIALIZED);
    at->alive = false;
    return call.give_blas();
}

extern "C" cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
    cemu_call call("cublasSetStream", CEMU_PLAIN);
    if (call.refused)
        return call.give_blas();
    cublasContext *at = handle_at(call.world, handle);
    CUstream_st *to = cemu_stream_at(call.world, stream);
    if (!at || !to)
        return at ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_NOT_INITIALIZED;
    at->stream = to;
    at->workspace = nullptr; /* back to cuBLAS's own, as documented */
    at->workspace_bytes = 0;
    return call.give_blas();
}

extern "C" cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace,
                                                size_t bytes) {
    cemu_call call("cublasSetWorkspace", CEMU_PLAIN);
    if (call.refused)
        return call.give_blas();
    cublasContext *at = handle_at(call.world, handle);
    if (!at)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (bytes) {
        if (cemu_check_device(call.world, workspace, bytes, "a workspace of"))
            return CUBLAS_STATUS_INVALID_VALUE;
        if (reinterpret_cast<uintptr_t>(workspace) % 256) {
            cemu_complain(call.world, CEMU_BAD_CALL, "a workspace that is not aligned to 256");
            return CUBLAS_STATUS_INVALID_VALUE;
        }
    }
    at->workspace = workspace;
    at->workspace_bytes = bytes;
    return call.give_blas();
}

extern "C" cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
    cemu_call call("cublasSetMathMode", CEMU_PLAIN);
    if (call.refused)
        return call.give_blas();
    if (!handle_at(call.world, handle))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    const int base = static_cast<int>(mode) & ~16;
    if (base != CUBLAS_DEFAULT_MATH && base != CUBLAS_PEDANTIC_MATH &&
        base != CUBLAS_TF32_TENSOR_OP_MATH) {
        cemu_complain(call.world, CEMU_BAD_CALL, "math mode %d", static_cast<int>(mode));
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    return call.give_blas();
}

extern "C" cublasStatus_t cublasGetVersion_v2(cublasHandle_t handle, int *version) {
    cemu_call call("cublasGetVersion", CEMU_PLAIN);
    if (call.refused)
        return call.give_blas();
    if (!handle_at(call.world, handle) || !version)
        return CUBLAS_STATUS_INVALID_VALUE;
    *version = CUBLAS_VER_MAJOR * 10000;
    return call.give_blas();
}

static bool supported(cemu_world &world, float alpha, float beta, cudaDataType a_type,
                      cudaDataType b_type, cudaDataType c_type, cublasComputeType_t compute,
                      cublasGemmAlgo_t algorithm) {
    const bool types = a_type == CUDA_R_16BF && b_type == CUDA_R_16BF &&
                       (c_type == CUDA_R_16BF || c_type == CUDA_R_32F);
    const bool how =
        (compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_PEDANTIC) &&
        (algorithm == CUBLAS_GEMM_DEFAULT || algorithm == CUBLAS_GEMM_DEFAULT_TENSOR_OP);
    if (types && how && alpha == 1.0f && beta == 0.0f)
        return true;
    cemu_complain(world, CEMU_UNSUPPORTED,
                  "a product of types %d x %d -> %d, compute type %d, algorithm %d, alpha %g, beta "
                  "%g",
                  static_cast<int>(a_type), static_cast<int>(b_type), static_cast<int>(c_type),
                  static_cast<int>(compute), static_cast<int>(algorithm),
                  static_cast<double>(alpha), static_cast<double>(beta));
    return false;
}

static bool sized(cemu_world &world, const cemu_product &p) {
    const int a_rows = p.transpose_a ? p.k : p.m, b_rows = p.transpose_b ? p.n : p.k;
    if (p.m >= 0 && p.n >= 0 && p.k >= 0 && p.lda >= (a_rows > 1 ? a_rows : 1) &&
        p.ldb >= (b_rows > 1 ? b_rows : 1) && p.ldc >= (p.m > 1 ? p.m : 1))
        return true;
    cemu_complain(world, CEMU_BAD_CALL, "m %d, n %d, k %d, leading dimensions %d, %d, %d", p.m, p.n,
                  p.k, p.lda, p.ldb, p.ldc);
    return false;
}

static bool placed(cemu_world &world, const cemu_product &p) {
    const size_t a = cemu_product_a_bytes(&p), b = cemu_product_b_bytes(&p);
    const size_t c = cemu_product_c_bytes(&p);
    if ((reinterpret_cast<uintptr_t>(p.a) | reinterpret_cast<uintptr_t>(p.b)) % 2 ||
        reinterpret_cast<uintptr_t>(p.c) % (p.c_f32 ? 4 : 2)) {
        cemu_complain(world, CEMU_BAD_CALL, "an operand is not aligned to its elements");
        return false;
    }
    return (!a || !cemu_check_device(world, p.a, a, "reads")) &&
           (!b || !cemu_check_device(world, p.b, b, "reads")) &&
           (!c || !cemu_check_device(world, p.c, c, "writes"));
}

static cublasStatus_t submit(cemu_call &call, cublasContext *handle, const cemu_product &product) {
    cemu_world &world = call.world;
    CUstream_st *stream = handle->stream;
    if (!stream->alive) {
        cemu_complain(world, CEMU_BAD_HANDLE, "%s of %s is destroyed", stream->name.c_str(),
                      handle->name.c_str());
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    if (stream->capture && !handle->workspace_bytes)
        cemu_complain(world, CEMU_CAPTURE,
                      "without a workspace of the program's own the graph would allocate one (and "
                      "cublasSetStream drops the one that was set)");
    cemu_action action;
    action.kind = CEMU_PRODUCT;
    action.product = product;
    action.workspace = handle->workspace;
    action.workspace_bytes = handle->workspace_bytes;
    if (!stream->capture)
        world.counts.products++;
    call.error = cemu_submit(world, stream, std::move(action));
    return call.give_blas();
}

extern "C" cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa,
                                       cublasOperation_t transb, int m, int n, int k,
                                       const void *alpha, const void *a, cudaDataType a_type,
                                       int lda, const void *b, cudaDataType b_type, int ldb,
                                       const void *beta, void *c, cudaDataType c_type, int ldc,
                                       cublasComputeType_t compute_type,
                                       cublasGemmAlgo_t algorithm) {
    cemu_call call("cublasGemmEx", CEMU_PLAIN);
    if (call.refused)
        return call.give_blas();
    cemu_world &world = call.world;
    cublasContext *at = handle_at(world, handle);
    if (!at)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!alpha || !beta) {
        cemu_complain(world, CEMU_BAD_CALL, "alpha or beta is null");
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    float scales[2];
    memcpy(&scales[0], alpha, sizeof scales[0]);
    memcpy(&scales[1], beta, sizeof scales[1]);
    if (!supported(world, scales[0], scales[1], a_type, b_type, c_type, compute_type, algorithm))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    cemu_product product = {};
    product.a = static_cast<const uint16_t *>(a);
    product.b = static_cast<const uint16_t *>(b);
    product.c = c;
    product.m = m;
    product.n = n;
    product.k = k;
    product.lda = lda;
    product.ldb = ldb;
    product.ldc = ldc;
    product.transpose_a = transa != CUBLAS_OP_N;
    product.transpose_b = transb != CUBLAS_OP_N;
    product.c_f32 = c_type == CUDA_R_32F;
    if (!sized(world, product))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (m == 0 || n == 0)
        return call.give_blas();
    if (!placed(world, product))
        return CUBLAS_STATUS_INVALID_VALUE;
    return submit(call, at, product);
}

extern "C" const char *cublasGetStatusName(cublasStatus_t status) {
    switch (status) {
#define CEMU_NAME(name, value, text)                                                               \
    case name:                                                                                     \
        return #name;
        CUBLAS_STATUS(CEMU_NAME)
#undef CEMU_NAME
    }
    return "unknown status";
}

extern "C" const char *cublasGetStatusString(cublasStatus_t status) {
    switch (status) {
#define CEMU_TEXT(name, value, text)                                                               \
    case name:                                                                                     \
        return text;
        CUBLAS_STATUS(CEMU_TEXT)
#undef CEMU_TEXT
    }
    return "unknown status";
}
