/* Queues of work, and who runs when. */
#include "cuda_emulation/world.h"

enum { PENDING_MAX = 4096, POLLS = 4 };

void cemu_streams_start(cemu_world &world) {
    auto legacy = std::make_unique<CUstream_st>();
    legacy->name = "the legacy stream";
    world.slots[0] = legacy.get();
    world.streams.push_back(std::move(legacy));
}

CUstream_st *cemu_stream_at(cemu_world &world, cudaStream_t handle) {
    if (!handle || handle == cudaStreamLegacy)
        return world.streams[0].get();
    if (handle == cudaStreamPerThread) {
        cemu_complain(world, CEMU_UNSUPPORTED, "cudaStreamPerThread");
        return nullptr;
    }
    for (CUstream_st *stream : world.slots)
        if (stream == handle && stream->alive)
            return stream;
    for (const auto &stream : world.streams)
        if (stream.get() == handle) {
            cemu_complain(world, CEMU_BAD_HANDLE, "%s is destroyed", handle->name.c_str());
            return nullptr;
        }
    cemu_complain(world, CEMU_BAD_HANDLE, "%p is no stream", static_cast<void *>(handle));
    return nullptr;
}

/* Queueing. */

static void add_partial(const cemu_world &world, cemu_point &to, const cemu_point_ref &point) {
    if (world.known.at[point->stream->slot] >= point->number)
        return; /* the host knows its whole operation */
    for (const cemu_point_ref &other : to.partial)
        if (other == point)
            return;
    to.partial.push_back(point);
}

static void follow(const cemu_world &world, cemu_point &to, const cemu_point_ref &point) {
    to.clock.join(point->clock);
    for (const cemu_point_ref &partial : point->partial)
        add_partial(world, to, partial);
    if (point->nodes)
        add_partial(world, to, point);
}

static void order_behind(const cemu_world &world, cemu_operation &operation,
                         const cemu_point_ref &point) {
    if (!point)
        return;
    follow(world, *operation.end, point);
    if (!point->done)
        operation.after.push_back(point);
    else if (point->time_ns > operation.start_ns)
        operation.start_ns = point->time_ns;
}

/* The legacy stream follows all blocking streams, and they follow it. */
static void order_implicitly(cemu_world &world, cemu_operation &operation,
                             const CUstream_st *stream) {
    if (stream != world.slots[0]) {
        if (stream->blocking)
            order_behind(world, operation, world.slots[0]->last);
        return;
    }
    for (const CUstream_st *other : world.slots)
        if (other && other != stream && other->blocking)
            order_behind(world, operation, other->last);
}

static void prepare_records(cemu_operation &operation) {
    for (size_t i = 0; i < operation.nodes->size(); i++) {
        const cemu_action &action = (*operation.nodes)[i].action;
        if (action.kind != CEMU_RECORD)
            continue;
        cemu_point_ref point = operation.end;
        if (operation.graph) {
            point = std::make_shared<cemu_point>(*operation.end);
            point->clock.at[point->stream->slot]--;
            point->nodes = operation.nodes;
            point->node = static_cast<uint32_t>(i);
            operation.runs[i].record = point;
        }
        action.event->point = point;
        action.event->capture = nullptr;
    }
}

/* Whether some node does not directly follow the one before it. */
static bool has_branches(const std::vector<cemu_node> &nodes) {
    for (uint32_t i = 1; i < nodes.size(); i++) {
        bool follows = false;
        for (uint32_t before : nodes[i].after)
            follows |= before == i - 1;
        if (!follows)
            return true;
    }
    return false;
}

cemu_point_ref cemu_queue(cemu_world &world, CUstream_st *stream, cemu_nodes nodes, bool graph,
                          const std::vector<cemu_point_ref> &after) {
    auto operation = std::make_unique<cemu_operation>();
    operation->nodes = std::move(nodes);
    operation->runs.resize(operation->nodes->size());
    operation->left = operation->nodes->size();
    operation->graph = graph;
    operation->branches = graph && has_branches(*operation->nodes);
    operation->queued_ns = world.now_ns;
    operation->end = std::make_shared<cemu_point>();
    cemu_point &end = *operation->end;
    end.stream = stream;
    end.number = ++world.slot_numbers[stream->slot];
    end.clock = world.known;
    if (stream->last)
        follow(world, end, stream->last);
    for (const cemu_point_ref &point : after)
        order_behind(world, *operation, point);
    order_implicitly(world, *operation, stream);
    end.clock.at[stream->slot] = end.number;
    stream->last = operation->end;
    prepare_records(*operation);
    cemu_watch_operation(world, *operation);
    const cemu_point_ref result = operation->end;
    stream->queue.push_back(std::move(operation));
    world.pending++;
    world.counts.legacy_operations += stream == world.slots[0];
    if (world.pending > PENDING_MAX)
        cemu_run_ready(world, PENDING_MAX / 2);
    return result;
}

int cemu_submit(cemu_world &world, CUstream_st *stream, cemu_action action, cemu_point_ref *point) {
    if (world.sticky)
        return world.sticky;
    if (stream->capture)
        return cemu_capture_action(world, stream, std::move(action));
    const int refusal = cemu_refuse_implicit(world, stream);
    if (refusal)
        return refusal;
    auto nodes = std::make_shared<std::vector<cemu_node>>(1);
    nodes->front().action = std::move(action);
    const cemu_point_ref end = cemu_queue(world, stream, std::move(nodes), false, {});
    if (point)
        *point = end;
    return 0;
}

void cemu_drop_queues(cemu_world &world) {
    for (const auto &stream : world.streams) {
        for (const auto &operation : stream->queue) {
            operation->end->done = true;
            for (const auto &run : operation->runs)
                if (run.record)
                    run.record->done = true;
        }
        stream->queue.clear();
    }
    world.watches.clear();
    world.accesses.clear();
    world.pending = 0;
}

/* Running. */

static bool is_ready(const CUstream_st *stream) {
    if (!stream || stream->queue.empty())
        return false;
    const cemu_operation &head = *stream->queue.front();
    if (!head.begun)
        for (const cemu_point_ref &point : head.after)
            if (!point->done)
                return false;
    return true;
}

static void begin(CUstream_st *stream, cemu_operation &operation) {
    uint64_t start = operation.start_ns;
    start = start > operation.queued_ns ? start : operation.queued_ns;
    start = start > stream->end_ns ? start : stream->end_ns;
    for (const cemu_point_ref &point : operation.after)
        start = start > point->time_ns ? start : point->time_ns;
    operation.start_ns = start;
    operation.begun = true;
    operation.after.clear();
}

static void finish(cemu_world &world, CUstream_st *stream) {
    const cemu_operation &operation = *stream->queue.front();
    uint64_t end = operation.start_ns;
    for (const auto &run : operation.runs)
        end = end > run.end_ns ? end : run.end_ns;
    stream->end_ns = operation.end->time_ns = end;
    operation.end->done = true;
    stream->queue.pop_front();
    world.pending--;
}

static bool node_is_ready(const cemu_operation &operation, uint32_t node) {
    if (operation.runs[node].done)
        return false;
    for (uint32_t before : (*operation.nodes)[node].after)
        if (!operation.runs[before].done)
            return false;
    return true;
}

/* The first ready one, or the last, or some other: nodes that no edge orders come in any order. */
static uint32_t choose_node(cemu_world &world, const cemu_operation &operation) {
    const uint32_t n = static_cast<uint32_t>(operation.runs.size());
    if (!operation.branches)
        return n - static_cast<uint32_t>(operation.left);
    std::vector<uint32_t> ready;
    for (uint32_t node = 0; node < n; node++)
        if (node_is_ready(operation, node))
            ready.push_back(node);
    if (world.options.order == CEMU_LATE)
        return ready.front();
    return world.options.order == CEMU_OTHERS_FIRST ? ready.back()
                                                    : ready[cemu_random(world) % ready.size()];
}

/* One node of the operation that heads a ready stream. */
static void step(cemu_world &world, CUstream_st *stream) {
    cemu_operation &operation = *stream->queue.front();
    if (!operation.begun)
        begin(stream, operation);
    if (operation.left) {
        const uint32_t node = choose_node(world, operation);
        const char *call = world.call;
        const size_t faults = world.faults.size();
        const int error = cemu_node_run(world, operation, node);
        world.call = call;
        if (error) {
            if (world.faults.size() > faults)
                world.broken = world.faults.back().second;
            cemu_break(world, error);
            return;
        }
        uint64_t start = operation.start_ns;
        for (uint32_t before : (*operation.nodes)[node].after)
            start = start > operation.runs[before].end_ns ? start : operation.runs[before].end_ns;
        cemu_operation::run &run = operation.runs[node];
        run.end_ns = start + cemu_action_ns((*operation.nodes)[node].action);
        run.done = true;
        if (run.record) {
            run.record->done = true;
            run.record->time_ns = run.end_ns;
        }
        operation.left--;
    }
    if (operation.left == 0)
        finish(world, stream);
}

/* Some ready stream other than `but`; null: none. */
static CUstream_st *choose_stream(cemu_world &world, const CUstream_st *but) {
    CUstream_st *ready[CEMU_SLOTS];
    uint32_t n = 0;
    for (CUstream_st *stream : world.slots)
        if (stream != but && is_ready(stream))
            ready[n++] = stream;
    return n ? ready[cemu_random(world) % n] : nullptr;
}

uint32_t cemu_run_ready(cemu_world &world, uint32_t n) {
    uint32_t ran = 0;
    for (; ran < n && !world.sticky; ran++) {
        CUstream_st *stream = choose_stream(world, nullptr);
        if (!stream)
            break;
        step(world, stream);
    }
    return ran;
}

uint32_t cemu_run_some(uint32_t n) {
    return cemu_run_ready(cemu_here(), n);
}

static void run_favourite(cemu_world &world) {
    if (cemu_random(world) % 8 == 0)
        world.favourite = static_cast<uint32_t>(cemu_random(world) % CEMU_SLOTS);
    for (uint32_t i = 0; i < CEMU_SLOTS && !world.slots[world.favourite]; i++)
        world.favourite = (world.favourite + 1) % CEMU_SLOTS;
    CUstream_st *stream = world.slots[world.favourite];
    while (!world.sticky && is_ready(stream))
        step(world, stream);
}

void cemu_tick(cemu_world &world) {
    switch (world.options.order) {
    case CEMU_RANDOM:
        while (cemu_random(world) % 2 && cemu_run_ready(world, 1)) {
        }
        break;
    case CEMU_EAGER:
        cemu_run_ready(world, UINT32_MAX);
        break;
    case CEMU_FAVOUR:
        run_favourite(world);
        break;
    case CEMU_LATE:
    case CEMU_OTHERS_FIRST:
        break;
    }
}

/* What other streams do while one is waited for. */
static void run_others(cemu_world &world, const CUstream_st *forced) {
    CUstream_st *stream;
    if (world.options.order == CEMU_OTHERS_FIRST)
        while (!world.sticky && (stream = choose_stream(world, forced)) != nullptr)
            step(world, stream);
    if (world.options.order == CEMU_RANDOM)
        while (!world.sticky && cemu_random(world) % 2 &&
               (stream = choose_stream(world, forced)) != nullptr)
            step(world, stream);
}

/* One step on the way to the point. What it waits for was queued before it, so this ends. */
static void advance(cemu_world &world, const cemu_point &point) {
    const cemu_operation &head = *point.stream->queue.front();
    if (!head.begun)
        for (const cemu_point_ref &before : head.after)
            if (!before->done) {
                advance(world, *before);
                return;
            }
    step(world, point.stream);
}

void cemu_force(cemu_world &world, const cemu_point_ref &point) {
    while (point && !point->done && !world.sticky) {
        run_others(world, point->stream);
        if (!point->done && !world.sticky)
            advance(world, *point);
    }
}

/* Whether it is done; a program that polls gets there in the end. */
static bool poll(cemu_world &world, const cemu_point_ref &point, uint32_t &polls) {
    world.counts.queries++;
    if (point && !point->done && ++polls % POLLS == 0 && !world.sticky)
        advance(world, *point);
    if (point && !point->done)
        return false;
    polls = 0;
    cemu_learn(world, point);
    return true;
}

bool cemu_poll_stream(cemu_world &world, CUstream_st *stream) {
    return poll(world, stream->last, stream->polls);
}

bool cemu_poll_event(cemu_world &world, CUevent_st *event) {
    return poll(world, event->point, event->polls);
}
