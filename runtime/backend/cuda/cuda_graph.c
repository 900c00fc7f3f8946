#include "backend/cuda/cuda_internal.h"

/* 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, ..: at most half of the rows of a launch fill it up, a third
 * from 16 on. The last one is what the backend was created for. */
void cop__buckets_init(cop_backend *b) {
    const uint32_t most = b->options.max_rows;
    uint32_t rows = 1;
    for (b->n_buckets = 0; rows < most; b->n_buckets++) {
        b->buckets[b->n_buckets].rows = rows;
        const bool power = (rows & (rows - 1)) == 0;
        rows += rows < 16 ? rows : power ? rows / 2 : rows / 3;
    }
    b->buckets[b->n_buckets++].rows = most;
}

cop__bucket *cop__bucket_of(cop_backend *b, uint32_t rows) {
    uint32_t i = 0;
    while (b->buckets[i].rows < rows)
        i++;
    return &b->buckets[i];
}

void cop__buckets_release(cop_backend *b) {
    for (uint32_t i = 0; i < b->n_buckets; i++) {
        if (b->buckets[i].exec)
            cudaGraphExecDestroy(b->buckets[i].exec);
        b->buckets[i].exec = NULL;
    }
}

static cop_status launch(cop_backend *b, const cop__bucket *bucket) {
    if (COP_CUDA_MUTANT(wrong_bucket) && bucket > b->buckets && bucket[-1].exec)
        bucket--;
    COP__CUDA(b, cudaGraphLaunch, bucket->exec, b->stream);
    b->counters.graph_launches++;
    return COP_OK;
}

cop_status cop__graph_begin(cop_backend *b) {
    if (b->now.mode == COP__GRAPH)
        return launch(b, b->now.bucket);
    if (b->now.mode == COP__CAPTURE) {
        COP__CUDA(b, cudaStreamBeginCapture, b->stream, cudaStreamCaptureModeThreadLocal);
        b->now.capturing = true;
    }
    return cop__cuda_advance(b);
}

cop_status cop__graph_end(cop_backend *b) {
    if (!b->now.capturing)
        return COP_OK;
    cop__bucket *bucket = b->now.bucket;
    cudaGraph_t graph = NULL;
    b->now.capturing = false;
    COP__CUDA(b, cudaStreamEndCapture, b->stream, &graph);
    const cudaError_t error = cudaGraphInstantiate(&bucket->exec, graph, 0);
    const cudaError_t gone = cudaGraphDestroy(graph);
    if (error != cudaSuccess) {
        bucket->exec = NULL;
        return cop__cuda_fail(b, "cudaGraphInstantiate", error);
    }
    if (gone != cudaSuccess)
        return cop__cuda_fail(b, "cudaGraphDestroy", gone);
    b->counters.captures++;
    return launch(b, bucket);
}

void cop__graph_abandon(cop_backend *b) {
    if (!b->now.capturing || COP_CUDA_MUTANT(capture_left_open))
        return;
    cudaGraph_t graph = NULL;
    b->now.capturing = false;
    if (cudaStreamEndCapture(b->stream, &graph) == cudaSuccess && graph)
        cudaGraphDestroy(graph);
}
