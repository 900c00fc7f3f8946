/* Graphs: what a capture gave, made executable, launched with the addresses that it saw. */
#include "cuda_emulation/world.h"

template <typename T>
static T *find(cemu_world &world, const std::vector<std::unique_ptr<T>> &all, T *handle,
               const char *what) {
    for (const auto &one : all)
        if (one.get() == handle) {
            if (one->alive)
                return handle;
            cemu_complain(world, CEMU_BAD_HANDLE, "%s is destroyed", one->name.c_str());
            return nullptr;
        }
    cemu_complain(world, CEMU_BAD_HANDLE, "%p is no %s", static_cast<void *>(handle), what);
    return nullptr;
}

extern "C" cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                            unsigned long long flags) {
    cemu_call call("cudaGraphInstantiate", CEMU_NOT_STEADY);
    if (exec)
        *exec = nullptr;
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    CUgraph_st *at = find(world, world.graphs, graph, "graph");
    if (!at || !exec)
        return call.give(cudaErrorInvalidValue);
    if (flags & ~static_cast<unsigned long long>(cudaGraphInstantiateFlagUseNodePriority)) {
        cemu_complain(world, CEMU_UNSUPPORTED, "flags 0x%llx", flags);
        return call.give(cudaErrorInvalidValue);
    }
    auto made = std::make_unique<CUgraphExec_st>();
    made->name = "executable graph " + std::to_string(world.execs.size());
    made->nodes = at->nodes;
    *exec = made.get();
    world.execs.push_back(std::move(made));
    world.counts.creations++;
    return call.give();
}

extern "C" cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    cemu_call call("cudaGraphDestroy", CEMU_RELEASES | CEMU_NOT_STEADY);
    if (call.refused)
        return call.give();
    CUgraph_st *at = find(call.world, call.world.graphs, graph, "graph");
    if (!at)
        return call.give(cudaErrorInvalidValue);
    at->alive = false;
    at->nodes = nullptr;
    at->handles.clear();
    return call.give();
}

extern "C" cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    cemu_call call("cudaGraphExecDestroy", CEMU_RELEASES | CEMU_NOT_STEADY);
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    CUgraphExec_st *at = find(world, world.execs, exec, "executable graph");
    if (!at)
        return call.give(cudaErrorInvalidValue);
    if (at->last && !at->last->done && !world.sticky)
        cemu_complain(world, CEMU_FREED_IN_USE, "a launch of %s has not ended", at->name.c_str());
    at->alive = false;
    at->nodes = nullptr;
    return call.give();
}

extern "C" cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes,
                                         size_t *n_nodes) {
    cemu_call call("cudaGraphGetNodes", CEMU_PLAIN);
    if (call.refused)
        return call.give();
    const CUgraph_st *at = find(call.world, call.world.graphs, graph, "graph");
    if (!at || !n_nodes)
        return call.give(cudaErrorInvalidValue);
    for (size_t i = 0; nodes && i < *n_nodes; i++)
        nodes[i] = i < at->handles.size() ? at->handles[i].get() : nullptr;
    if (!nodes || *n_nodes > at->handles.size())
        *n_nodes = at->handles.size();
    return call.give();
}

/* Refuses a stream that captures: graphs inside graphs are not emulated. */
static int prepare(cemu_world &world, CUgraphExec_st *exec, CUstream_st *stream) {
    if (!exec)
        return cudaErrorInvalidValue;
    if (!stream)
        return cudaErrorInvalidResourceHandle;
    if (stream->capture) {
        cemu_complain(world, CEMU_UNSUPPORTED, "a graph inside a captured graph");
        stream->capture->invalid = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    const int refusal = cemu_refuse_implicit(world, stream);
    if (refusal)
        return refusal;
    for (const cemu_node &node : *exec->nodes)
        if (node.action.kind == CEMU_RECORD && !node.action.event->alive) {
            cemu_complain(world, CEMU_BAD_HANDLE, "%s of %s is destroyed",
                          node.action.event->name.c_str(), exec->name.c_str());
            return cudaErrorInvalidValue;
        }
    return 0;
}

extern "C" cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream) {
    cemu_call call("cudaGraphUpload", CEMU_PLAIN);
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    CUgraphExec_st *what = find(world, world.execs, exec, "executable graph");
    CUstream_st *at = cemu_stream_at(world, stream);
    const int error = prepare(world, what, at);
    if (error)
        return call.give(error);
    what->last =
        cemu_queue(world, at, std::make_shared<std::vector<cemu_node>>(), false, {what->last});
    return call.give();
}

extern "C" cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    cemu_call call("cudaGraphLaunch", CEMU_PLAIN);
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    CUgraphExec_st *what = find(world, world.execs, exec, "executable graph");
    CUstream_st *at = cemu_stream_at(world, stream);
    const int error = prepare(world, what, at);
    if (error)
        return call.give(error);
    world.counts.graph_launches++;
    world.counts.graph_nodes += what->nodes->size();
    for (const cemu_node &node : *what->nodes)
        cemu_count_action(world, node.action);
    what->last = cemu_queue(world, at, what->nodes, true, {what->last});
    return call.give();
}
