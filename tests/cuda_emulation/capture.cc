/* Captures: what they record, what they refuse, and how they end.
 *
 * A refused call gives the error that CUDA documents and leaves the capture invalid; it must still
 * be ended in the stream where it began, and then gives an error and no graph. */
#include "cuda_emulation/world.h"

#include <algorithm>

void cemu_invalidate(cemu_world &world, cemu_capture &capture, const char *why) {
    cemu_complain(world, CEMU_CAPTURE, "%s; %s captures", why, capture.origin->name.c_str());
    capture.invalid = true;
}

int cemu_refuse_unsafe(cemu_world &world) {
    int error = 0;
    for (const cemu_capture_ref &capture : world.captures)
        if (capture->mode != cudaStreamCaptureModeRelaxed) {
            cemu_invalidate(world, *capture, "not while a capture is open that is not relaxed");
            error = cudaErrorStreamCaptureUnsupported;
        }
    return error;
}

int cemu_refuse_device_wide(cemu_world &world) {
    for (const cemu_capture_ref &capture : world.captures)
        cemu_invalidate(world, *capture, "a wait for the whole device");
    return world.captures.empty() ? 0 : cudaErrorStreamCaptureUnsupported;
}

int cemu_refuse_captured(cemu_world &world, CUstream_st *stream) {
    if (stream->capture) {
        if (stream->capture->invalid)
            return cudaErrorStreamCaptureInvalidated;
        cemu_invalidate(world, *stream->capture, "a capturing stream runs nothing to wait for");
        return cudaErrorStreamCaptureUnsupported;
    }
    const int implicit = cemu_refuse_implicit(world, stream);
    return implicit ? implicit : cemu_refuse_unsafe(world);
}

int cemu_refuse_captured(cemu_world &world, CUevent_st *event) {
    if (!event->capture)
        return 0;
    if (!event->capture->over)
        cemu_invalidate(world, *event->capture, "a captured event is never done");
    else
        cemu_complain(world, CEMU_CAPTURE, "%s was last recorded in a capture",
                      event->name.c_str());
    return cudaErrorCapturedEvent;
}

int cemu_refuse_implicit(cemu_world &world, const CUstream_st *stream) {
    if (stream != world.slots[0])
        return 0;
    int error = 0;
    for (const cemu_capture_ref &capture : world.captures)
        for (const CUstream_st *member : capture->streams)
            if (member->blocking && !error) {
                cemu_invalidate(world, *capture, "the legacy stream would wait for the capture");
                error = cudaErrorStreamCaptureImplicit;
            }
    return error;
}

int cemu_capture_action(cemu_world &world, CUstream_st *stream, cemu_action action) {
    cemu_capture &capture = *stream->capture;
    if (capture.invalid)
        return cudaErrorStreamCaptureInvalidated;
    if (action.pageable) {
        cemu_invalidate(world, capture, "a copy of pageable memory");
        return cudaErrorStreamCaptureUnsupported;
    }
    cemu_node node;
    node.action = std::move(action);
    node.after = stream->tips;
    stream->tips = {static_cast<uint32_t>(capture.nodes.size())};
    capture.nodes.push_back(std::move(node));
    return 0;
}

int cemu_capture_record(cemu_world &world, CUstream_st *stream, CUevent_st *event, bool external) {
    if (stream->capture->invalid)
        return cudaErrorStreamCaptureInvalidated;
    if (external) {
        cemu_action action;
        action.kind = CEMU_RECORD;
        action.event = event;
        return cemu_capture_action(world, stream, std::move(action));
    }
    event->capture = stream->capture;
    event->tips = stream->tips;
    event->point = nullptr;
    return 0;
}

static int join(cemu_world &world, CUstream_st *stream, const CUevent_st *event) {
    const cemu_capture_ref &capture = event->capture;
    if (!stream->capture) {
        if (stream == world.slots[0]) {
            cemu_invalidate(world, *capture, "the legacy stream cannot capture");
            return cudaErrorStreamCaptureImplicit;
        }
        stream->capture = capture;
        stream->tips = event->tips;
        capture->streams.push_back(stream);
        return 0;
    }
    for (uint32_t tip : event->tips)
        if (std::find(stream->tips.begin(), stream->tips.end(), tip) == stream->tips.end())
            stream->tips.push_back(tip);
    return 0;
}

int cemu_capture_wait(cemu_world &world, CUstream_st *stream, CUevent_st *event, bool external) {
    if (stream->capture && stream->capture->invalid)
        return cudaErrorStreamCaptureInvalidated;
    if (external) {
        cemu_complain(world, CEMU_UNSUPPORTED, "a graph that waits for an external event");
        return cudaErrorNotSupported;
    }
    if (!event->capture) {
        cemu_invalidate(world, *stream->capture, "a wait for what was recorded outside of it");
        return cudaErrorStreamCaptureIsolation;
    }
    if (event->capture->over) {
        cemu_complain(world, CEMU_CAPTURE, "%s was last recorded in a capture",
                      event->name.c_str());
        return cudaErrorCapturedEvent;
    }
    if (event->capture->invalid)
        return cudaErrorStreamCaptureInvalidated;
    if (stream->capture && stream->capture != event->capture) {
        cemu_invalidate(world, *stream->capture, "a wait for another capture");
        cemu_invalidate(world, *event->capture, "another capture would wait for it");
        return cudaErrorStreamCaptureMerge;
    }
    return join(world, stream, event);
}

static void close(cemu_world &world, const cemu_capture_ref &capture) {
    for (CUstream_st *stream : capture->streams) {
        stream->capture = nullptr;
        stream->tips.clear();
    }
    capture->over = true;
    world.captures.erase(std::find(world.captures.begin(), world.captures.end(), capture));
}

void cemu_capture_leave(cemu_world &world, CUstream_st *stream) {
    const cemu_capture_ref capture = stream->capture;
    if (!capture)
        return;
    cemu_invalidate(world, *capture, "a capturing stream is destroyed");
    if (capture->origin == stream) {
        close(world, capture);
        return;
    }
    capture->streams.erase(std::find(capture->streams.begin(), capture->streams.end(), stream));
    stream->capture = nullptr;
}

/* A stream of the capture whose last node the origin's next one would not follow; null: none. */
static const CUstream_st *unjoined(const cemu_capture &capture) {
    std::vector<bool> before(capture.nodes.size(), false);
    for (uint32_t tip : capture.origin->tips)
        before[tip] = true;
    for (size_t i = capture.nodes.size(); i-- > 0;)
        if (before[i])
            for (uint32_t from : capture.nodes[i].after)
                before[from] = true;
    for (const CUstream_st *stream : capture.streams)
        for (uint32_t tip : stream->tips)
            if (!before[tip])
                return stream;
    return nullptr;
}

extern "C" cudaError_t cudaStreamBeginCapture(cudaStream_t stream,
                                              enum cudaStreamCaptureMode mode) {
    cemu_call call("cudaStreamBeginCapture", CEMU_PLAIN);
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    CUstream_st *at = cemu_stream_at(world, stream);
    if (!at)
        return call.give(cudaErrorInvalidResourceHandle);
    if (at == world.slots[0]) {
        cemu_complain(world, CEMU_CAPTURE, "the legacy stream cannot capture");
        return call.give(cudaErrorStreamCaptureUnsupported);
    }
    if (at->capture) {
        cemu_invalidate(world, *at->capture, "it captures already");
        return call.give(cudaErrorIllegalState);
    }
    if (static_cast<unsigned>(mode) > cudaStreamCaptureModeRelaxed) {
        cemu_complain(world, CEMU_BAD_CALL, "mode %d", static_cast<int>(mode));
        return call.give(cudaErrorInvalidValue);
    }
    auto capture = std::make_shared<cemu_capture>();
    capture->origin = at;
    capture->mode = mode;
    capture->streams.push_back(at);
    at->capture = capture;
    at->tips.clear();
    world.captures.push_back(std::move(capture));
    return call.give();
}

static CUgraph_st *graph_make(cemu_world &world, cemu_capture &capture) {
    auto graph = std::make_unique<CUgraph_st>();
    graph->name = "graph " + std::to_string(world.graphs.size());
    for (size_t i = 0; i < capture.nodes.size(); i++) {
        graph->handles.push_back(std::make_unique<CUgraphNode_st>());
        graph->handles.back()->index = static_cast<uint32_t>(i);
    }
    graph->nodes = std::make_shared<std::vector<cemu_node>>(std::move(capture.nodes));
    world.counts.creations++;
    world.graphs.push_back(std::move(graph));
    return world.graphs.back().get();
}

extern "C" cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    cemu_call call("cudaStreamEndCapture", CEMU_RELEASES);
    if (graph)
        *graph = nullptr;
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    CUstream_st *at = cemu_stream_at(world, stream);
    if (!at)
        return call.give(cudaErrorInvalidResourceHandle);
    const cemu_capture_ref capture = at->capture;
    if (!capture || !graph) {
        cemu_complain(world, CEMU_CAPTURE, graph ? "the stream does not capture" : "no graph");
        return call.give(graph ? cudaErrorIllegalState : cudaErrorInvalidValue);
    }
    if (capture->origin != at) {
        cemu_invalidate(world, *capture, "ended in a stream where it did not begin");
        return call.give(cudaErrorStreamCaptureUnmatched);
    }
    int error = capture->invalid ? static_cast<int>(cudaErrorStreamCaptureInvalidated) : 0;
    const CUstream_st *loose = error ? nullptr : unjoined(*capture);
    if (loose) {
        cemu_complain(world, CEMU_CAPTURE, "%s was not joined", loose->name.c_str());
        error = cudaErrorStreamCaptureUnjoined;
    }
    close(world, capture);
    if (!error && !call.error)
        *graph = graph_make(world, *capture);
    return call.give(error);
}

extern "C" cudaError_t cudaStreamIsCapturing(cudaStream_t stream,
                                             enum cudaStreamCaptureStatus *status) {
    cemu_call call("cudaStreamIsCapturing", CEMU_PLAIN);
    if (call.refused)
        return call.give();
    CUstream_st *at = cemu_stream_at(call.world, stream);
    if (!at || !status)
        return call.give(at ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle);
    if (at == call.world.slots[0])
        for (const cemu_capture_ref &capture : call.world.captures)
            for (const CUstream_st *member : capture->streams)
                if (member->blocking)
                    return call.give(cudaErrorStreamCaptureImplicit);
    *status = !at->capture           ? cudaStreamCaptureStatusNone
              : at->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                     : cudaStreamCaptureStatusActive;
    return call.give();
}
