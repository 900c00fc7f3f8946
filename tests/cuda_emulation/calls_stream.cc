/* The calls of streams, events and copies. */
#include "cuda_emulation/world.h"

/* Streams. */

static bool slot_is_free(const cemu_world &world, uint32_t slot) {
    const CUstream_st *stream = world.slots[slot];
    return !stream || (!stream->alive && stream->queue.empty() &&
                       world.known.at[slot] >= world.slot_numbers[slot]);
}

extern "C" cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags) {
    cemu_call call("cudaStreamCreateWithFlags", CEMU_NOT_STEADY);
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    if (!stream || flags & ~1u) {
        cemu_complain(world, CEMU_BAD_CALL, "flags 0x%x", flags);
        return call.give(cudaErrorInvalidValue);
    }
    uint32_t slot = 1;
    while (slot < CEMU_SLOTS && !slot_is_free(world, slot))
        slot++;
    if (slot == CEMU_SLOTS) {
        cemu_complain(world, CEMU_UNSUPPORTED, "more than %d streams at a time", CEMU_SLOTS - 1);
        return call.give(cudaErrorMemoryAllocation);
    }
    auto made = std::make_unique<CUstream_st>();
    made->name = "stream " + std::to_string(world.streams.size());
    made->slot = slot;
    made->blocking = !(flags & cudaStreamNonBlocking);
    world.slots[slot] = *stream = made.get();
    world.streams.push_back(std::move(made));
    world.counts.creations++;
    return call.give();
}

extern "C" cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    cemu_call call("cudaStreamDestroy", CEMU_RELEASES | CEMU_NOT_STEADY);
    if (call.refused)
        return call.give();
    CUstream_st *at = cemu_stream_at(call.world, stream);
    if (!at || at == call.world.slots[0]) {
        if (at)
            cemu_complain(call.world, CEMU_BAD_HANDLE, "the legacy stream is not the program's");
        return call.give(cudaErrorInvalidResourceHandle);
    }
    cemu_capture_leave(call.world, at);
    at->alive = false; /* its work goes on */
    return call.give();
}

/* The host waits for the point, which no capture forbids. */
static void wait_for(cemu_world &world, const cemu_point_ref &point) {
    world.counts.waits++;
    cemu_force(world, point);
    cemu_learn(world, point);
}

extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    cemu_call call("cudaStreamSynchronize", CEMU_WAITS);
    if (call.refused)
        return call.give();
    CUstream_st *at = cemu_stream_at(call.world, stream);
    if (!at)
        return call.give(cudaErrorInvalidResourceHandle);
    const int refusal = cemu_refuse_captured(call.world, at);
    if (refusal)
        return call.give(refusal);
    wait_for(call.world, at->last);
    return call.give();
}

extern "C" cudaError_t cudaStreamQuery(cudaStream_t stream) {
    cemu_call call("cudaStreamQuery", CEMU_PLAIN);
    if (call.refused)
        return call.give();
    CUstream_st *at = cemu_stream_at(call.world, stream);
    if (!at)
        return call.give(cudaErrorInvalidResourceHandle);
    const int refusal = cemu_refuse_captured(call.world, at);
    if (refusal)
        return call.give(refusal);
    return call.give(cemu_poll_stream(call.world, at) ? cudaSuccess : cudaErrorNotReady);
}

extern "C" cudaError_t cudaDeviceSynchronize(void) {
    cemu_call call("cudaDeviceSynchronize", CEMU_WAITS);
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    const int refusal = cemu_refuse_device_wide(world);
    if (refusal)
        return call.give(refusal);
    world.counts.waits++;
    for (const CUstream_st *stream : world.slots)
        if (stream)
            cemu_force(world, stream->last);
    for (const CUstream_st *stream : world.slots)
        if (stream)
            cemu_learn(world, stream->last);
    return call.give();
}

/* Events. */

CUevent_st *cemu_event_at(cemu_world &world, cudaEvent_t handle) {
    for (const auto &event : world.events)
        if (event.get() == handle) {
            if (event->alive)
                return handle;
            cemu_complain(world, CEMU_BAD_HANDLE, "%s is destroyed", event->name.c_str());
            return nullptr;
        }
    cemu_complain(world, CEMU_BAD_HANDLE, "%p is no event", static_cast<void *>(handle));
    return nullptr;
}

extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags) {
    cemu_call call("cudaEventCreateWithFlags", CEMU_NOT_STEADY);
    if (call.refused)
        return call.give();
    if (!event || flags & ~3u) {
        cemu_complain(call.world, CEMU_BAD_CALL, "flags 0x%x", flags);
        return call.give(cudaErrorInvalidValue);
    }
    auto made = std::make_unique<CUevent_st>();
    made->name = "event " + std::to_string(call.world.events.size());
    made->timing = !(flags & cudaEventDisableTiming);
    *event = made.get();
    call.world.events.push_back(std::move(made));
    call.world.counts.creations++;
    return call.give();
}

extern "C" cudaError_t cudaEventDestroy(cudaEvent_t event) {
    cemu_call call("cudaEventDestroy", CEMU_RELEASES | CEMU_NOT_STEADY);
    if (call.refused)
        return call.give();
    CUevent_st *at = cemu_event_at(call.world, event);
    if (!at)
        return call.give(cudaErrorInvalidResourceHandle);
    at->alive = false;
    return call.give();
}

static cudaError_t record(cemu_call &call, cudaEvent_t event, cudaStream_t stream,
                          unsigned int flags) {
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    CUstream_st *at = cemu_stream_at(world, stream);
    CUevent_st *what = cemu_event_at(world, event);
    if (!at || !what)
        return call.give(cudaErrorInvalidResourceHandle);
    if (flags & ~1u || (flags && !at->capture)) {
        cemu_complain(world, CEMU_BAD_CALL, "flags 0x%x; external events are for captures", flags);
        return call.give(cudaErrorInvalidValue);
    }
    if (at->capture)
        return call.give(cemu_capture_record(world, at, what, flags != 0));
    cemu_action action;
    action.kind = CEMU_RECORD;
    action.event = what;
    return call.give(cemu_submit(world, at, std::move(action)));
}

extern "C" cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    cemu_call call("cudaEventRecord", CEMU_PLAIN);
    return record(call, event, stream, cudaEventRecordDefault);
}

extern "C" cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream,
                                                unsigned int flags) {
    cemu_call call("cudaEventRecordWithFlags", CEMU_PLAIN);
    return record(call, event, stream, flags);
}

extern "C" cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event,
                                           unsigned int flags) {
    cemu_call call("cudaStreamWaitEvent", CEMU_PLAIN);
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    CUstream_st *at = cemu_stream_at(world, stream);
    CUevent_st *what = cemu_event_at(world, event);
    if (!at || !what)
        return call.give(cudaErrorInvalidResourceHandle);
    if (flags & ~1u || (flags && !at->capture)) {
        cemu_complain(world, CEMU_BAD_CALL, "flags 0x%x; external events are for captures", flags);
        return call.give(cudaErrorInvalidValue);
    }
    if (at->capture || what->capture)
        return call.give(cemu_capture_wait(world, at, what, flags != 0));
    const int refusal = cemu_refuse_implicit(world, at);
    if (refusal)
        return call.give(refusal);
    if (what->point)
        cemu_queue(world, at, std::make_shared<std::vector<cemu_node>>(), false, {what->point});
    return call.give();
}

extern "C" cudaError_t cudaEventQuery(cudaEvent_t event) {
    cemu_call call("cudaEventQuery", CEMU_UNSAFE);
    if (call.refused)
        return call.give();
    CUevent_st *at = cemu_event_at(call.world, event);
    if (!at)
        return call.give(cudaErrorInvalidResourceHandle);
    const int refusal = cemu_refuse_captured(call.world, at);
    if (refusal)
        return call.give(refusal);
    return call.give(cemu_poll_event(call.world, at) ? cudaSuccess : cudaErrorNotReady);
}

extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    cemu_call call("cudaEventSynchronize", CEMU_UNSAFE | CEMU_WAITS);
    if (call.refused)
        return call.give();
    CUevent_st *at = cemu_event_at(call.world, event);
    if (!at)
        return call.give(cudaErrorInvalidResourceHandle);
    const int refusal = cemu_refuse_captured(call.world, at);
    if (refusal)
        return call.give(refusal);
    wait_for(call.world, at->point);
    return call.give();
}

extern "C" cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
    cemu_call call("cudaEventElapsedTime", CEMU_PLAIN);
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    CUevent_st *events[2] = {cemu_event_at(world, start), cemu_event_at(world, end)};
    if (!events[0] || !events[1])
        return call.give(cudaErrorInvalidResourceHandle);
    for (CUevent_st *event : events) {
        const int refusal = cemu_refuse_captured(world, event);
        if (refusal)
            return call.give(refusal);
        if (!event->timing || !event->point) {
            cemu_complain(world, CEMU_BAD_CALL, "%s %s", event->name.c_str(),
                          event->timing ? "was never recorded" : "keeps no times");
            return call.give(cudaErrorInvalidResourceHandle);
        }
    }
    for (const CUevent_st *event : events)
        if (!event->point->done) {
            cemu_complain(world, CEMU_NOT_READY, "%s is not done", event->name.c_str());
            return call.give(cudaErrorNotReady);
        }
    if (!ms)
        return call.give(cudaErrorInvalidValue);
    for (const CUevent_st *event : events)
        cemu_learn(world, event->point);
    const double from = static_cast<double>(events[0]->point->time_ns);
    *ms = static_cast<float>((static_cast<double>(events[1]->point->time_ns) - from) * 1e-6);
    return call.give();
}

/* Copies. */

static bool is_device(cemu_world &world, const void *p) {
    const cemu_block *block = cemu_block_at(world, p);
    return block && block->place == CEMU_DEVICE;
}

/* Checks both ends and fills in the action; a pageable source is read now. */
static int prepare_copy(cemu_world &world, cemu_action &action, cudaMemcpyKind kind) {
    if (kind == cudaMemcpyDefault)
        kind =
            is_device(world, action.to)
                ? is_device(world, action.from) ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice
                : cudaMemcpyDeviceToHost;
    action.kind = CEMU_COPY;
    const char *reads = "reads", *writes = "writes";
    bool pageable = false;
    int error = 0;
    switch (kind) {
    case cudaMemcpyHostToDevice:
        action.way = CEMU_UP;
        error = cemu_check_host(world, action.from, action.bytes, reads, &pageable);
        error = error ? error : cemu_check_device(world, action.to, action.bytes, writes);
        break;
    case cudaMemcpyDeviceToHost:
        action.way = CEMU_DOWN;
        error = cemu_check_device(world, action.from, action.bytes, reads);
        error = error ? error : cemu_check_host(world, action.to, action.bytes, writes, &pageable);
        break;
    case cudaMemcpyDeviceToDevice:
        action.way = CEMU_ACROSS;
        error = cemu_check_device(world, action.from, action.bytes, reads);
        error = error ? error : cemu_check_device(world, action.to, action.bytes, writes);
        break;
    default:
        cemu_complain(world, CEMU_UNSUPPORTED, "a copy of kind %d", static_cast<int>(kind));
        return cudaErrorInvalidMemcpyDirection;
    }
    action.pageable = pageable;
    return error;
}

static void stage(cemu_action &action) {
    const unsigned char *from = static_cast<const unsigned char *>(action.from);
    action.staged = std::make_shared<std::vector<unsigned char>>(from, from + action.bytes);
}

void cemu_count_action(cemu_world &world, const cemu_action &action) {
    cemu_counts &counts = world.counts;
    if (action.kind == CEMU_FILL) {
        counts.memsets++;
        counts.memset_bytes += action.bytes;
    }
    if (action.kind != CEMU_COPY)
        return;
    const bool up = action.way == CEMU_UP, down = action.way == CEMU_DOWN;
    (up ? counts.uploads : down ? counts.downloads : counts.device_copies)++;
    (up     ? counts.upload_bytes
     : down ? counts.download_bytes
            : counts.device_copy_bytes) += action.bytes;
}

extern "C" cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes,
                                       enum cudaMemcpyKind kind, cudaStream_t stream) {
    cemu_call call("cudaMemcpyAsync", CEMU_PLAIN);
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    CUstream_st *at = cemu_stream_at(world, stream);
    if (!at)
        return call.give(cudaErrorInvalidResourceHandle);
    if (bytes == 0)
        return call.give();
    cemu_action action;
    action.to = to;
    action.from = from;
    action.bytes = bytes;
    const int error = prepare_copy(world, action, kind);
    if (error)
        return call.give(error);
    const bool waits = action.pageable && action.way == CEMU_DOWN;
    if (!at->capture) {
        cemu_count_action(world, action);
        world.counts.pageable_copies += action.pageable;
        if (action.pageable && world.steady)
            cemu_complain(world, CEMU_STEADY, "pageable memory inside a steady step");
        if (action.pageable && action.way == CEMU_UP)
            stage(action);
    }
    cemu_point_ref point;
    const int refusal = cemu_submit(world, at, std::move(action), &point);
    if (!refusal && waits)
        wait_for(world, point);
    return call.give(refusal);
}

extern "C" cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes,
                                  enum cudaMemcpyKind kind) {
    cemu_call call("cudaMemcpy", CEMU_UNSAFE);
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    if (bytes == 0)
        return call.give();
    cemu_action action;
    action.to = to;
    action.from = from;
    action.bytes = bytes;
    const int error = prepare_copy(world, action, kind);
    if (error)
        return call.give(error);
    const int refusal = cemu_refuse_implicit(world, world.slots[0]);
    if (refusal)
        return call.give(refusal);
    cemu_count_action(world, action);
    /* A pageable source has been staged when the call returns, and no more; a copy inside the
     * device does not wait at all. */
    const bool waits = action.way == CEMU_DOWN || (action.way == CEMU_UP && !action.pageable);
    if (action.pageable && action.way == CEMU_UP)
        stage(action);
    cemu_point_ref point;
    const int queued = cemu_submit(world, world.slots[0], std::move(action), &point);
    if (!queued && waits)
        wait_for(world, point);
    return call.give(queued);
}

static cudaError_t fill(cemu_call &call, void *p, int value, size_t bytes, cudaStream_t stream) {
    if (call.refused)
        return call.give();
    CUstream_st *at = cemu_stream_at(call.world, stream);
    if (!at)
        return call.give(cudaErrorInvalidResourceHandle);
    if (bytes == 0)
        return call.give();
    const int error = cemu_check_device(call.world, p, bytes, "writes");
    if (error)
        return call.give(error);
    cemu_action action;
    action.kind = CEMU_FILL;
    action.to = p;
    action.value = value;
    action.bytes = bytes;
    if (!at->capture)
        cemu_count_action(call.world, action);
    return call.give(cemu_submit(call.world, at, std::move(action)));
}

extern "C" cudaError_t cudaMemset(void *p, int value, size_t bytes) {
    cemu_call call("cudaMemset", CEMU_UNSAFE);
    return fill(call, p, value, bytes, nullptr); /* and does not wait */
}

extern "C" cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream) {
    cemu_call call("cudaMemsetAsync", CEMU_PLAIN);
    return fill(call, p, value, bytes, stream);
}
