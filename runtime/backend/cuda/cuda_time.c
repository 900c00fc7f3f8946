#include "backend/cuda/cuda_internal.h"

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define HAVE_NVTX 1
#endif
#include <cuda_profiler_api.h>

#include "base/memory.h"

/* A timed step runs operation by operation, with an event behind each: an operation's time reaches
 * from the end of the one before it to its own, so it holds what the host took to launch it where
 * the device was the faster one. */
enum { OPS_A_LAYER = 9, OPS_BESIDE = 6 };

cop_status cop__time_create(cop_backend *b) {
    for (uint32_t i = 0; i < COP__RING; i++) {
        COP__CUDA(b, cudaEventCreateWithFlags, &b->flights[i].begin, cudaEventDefault);
        COP__CUDA(b, cudaEventCreateWithFlags, &b->flights[i].done, cudaEventDefault);
    }
    for (uint32_t i = 0; i < COP__STAGES; i++)
        COP__CUDA(b, cudaEventCreateWithFlags, &b->stages[i].done, cudaEventDisableTiming);
    if (b->options.time_every == 0)
        return COP_OK;
    b->op_events_max = OPS_A_LAYER * b->shape.n_layers + OPS_BESIDE;
    b->op_events = cop_calloc(b->op_events_max, sizeof *b->op_events);
    if (!b->op_events)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the events of %u operations",
                        b->op_events_max);
    for (uint32_t i = 0; i < b->op_events_max; i++)
        COP__CUDA(b, cudaEventCreateWithFlags, &b->op_events[i].end, cudaEventDefault);
    return COP_OK;
}

static void destroy_event(cudaEvent_t *event) {
    if (*event)
        cudaEventDestroy(*event);
    *event = NULL;
}

void cop__time_release(cop_backend *b) {
    for (uint32_t i = 0; i < COP__RING; i++) {
        destroy_event(&b->flights[i].begin);
        destroy_event(&b->flights[i].done);
    }
    for (uint32_t i = 0; i < COP__STAGES; i++)
        destroy_event(&b->stages[i].done);
    for (uint32_t i = 0; b->op_events && i < b->op_events_max; i++)
        destroy_event(&b->op_events[i].end);
    cop_free(b->op_events);
    b->op_events = NULL;
}

static cop_status record_op(cop_backend *b, cop_op op) {
    if (b->n_op_events == b->op_events_max)
        return COP_FAIL(COP_ERR_INTERNAL, "a timed step has more than %u operations",
                        b->op_events_max);
    cop__op_event *event = &b->op_events[b->n_op_events++];
    event->op = op;
    COP__CUDA(b, cudaEventRecord, event->end, b->stream);
    return COP_OK;
}

cop_status cop__time_begin(cop_backend *b) {
    if (!b->now.timed)
        return COP_OK;
    b->n_op_events = 0;
    b->op_events_busy = true;
    return record_op(b, COP_OP_COUNT); /* where the first operation begins */
}

cop_status cop__time_op(cop_backend *b, cop_op op) {
    cop__range(NULL);
    return b->now.timed ? record_op(b, op) : COP_OK;
}

static cop_status elapsed_ns(cop_backend *b, cudaEvent_t from, cudaEvent_t to, uint64_t *ns) {
    float ms = 0;
    COP__CUDA(b, cudaEventElapsedTime, &ms, from, to);
    *ns = ms > 0 ? (uint64_t)((double)ms * 1e6) : 0;
    return COP_OK;
}

static cop_status take_op_times(cop_backend *b) {
    for (uint32_t i = 1; i < b->n_op_events; i++) {
        uint64_t ns = 0;
        COP_TRY(elapsed_ns(b, b->op_events[i - 1].end, b->op_events[i].end, &ns));
        b->counters.op_ns[b->op_events[i].op] += ns;
    }
    b->op_events_busy = false;
    return COP_OK;
}

/* The step before it is in the ring still: a slot is used again only when the next one is done. */
static cop_status retire(cop_backend *b, cop__flight *flight) {
    const cop__flight *before = &b->flights[(flight->number - 1) % COP__RING];
    if (flight->number > 1 && before->number == flight->number - 1) {
        uint64_t ns = 0;
        COP_TRY(elapsed_ns(b, before->done, flight->begin, &ns));
        b->counters.device_idle_ns += ns;
    }
    if (flight->timed)
        COP_TRY(take_op_times(b));
    flight->retired = true;
    b->completed = flight->number;
    return COP_OK;
}

cop_status cop__flight_wait(cop_backend *b, cop__flight *flight) {
    COP__CUDA(b, cudaEventSynchronize, flight->done);
    b->counters.waits++;
    for (uint64_t n = b->completed + 1; n <= flight->number; n++)
        COP_TRY(retire(b, &b->flights[n % COP__RING])); /* one stream: those before it are done */
    return COP_OK;
}

void cop__range(const char *name) {
#ifdef HAVE_NVTX
    if (name)
        nvtxRangePushA(name);
    else
        nvtxRangePop();
#else
    (void)name;
#endif
}

cop_status cop__cuda_profile(cop_backend *b, bool on) {
    if (on)
        COP__CUDA(b, cudaProfilerStart);
    else
        COP__CUDA(b, cudaProfilerStop);
    return COP_OK;
}
