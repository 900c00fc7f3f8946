/* Which operations touched the same bytes although nothing orders them.
 *
 * Whatever order the operations ran in, two that conflict (one of them writes) must be ordered by
 * their stream, an event, the legacy stream, a graph's edges or the host's waiting. What an
 * operation touched is known: copies, fills and products say so, kernels are watched by the
 * emulation. So a missing wait shows under every order, not only where a value comes out wrong. */
#include "cuda_emulation/world.h"

#include <algorithm>

enum { KEPT_MAX = 4096 }; /* operations that the host has not waited for */

static bool before(const cemu_range &a, const cemu_range &b) {
    return a.begin < b.begin;
}

static void add(std::vector<cemu_range> &ranges, const void *p, size_t bytes) {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(p);
    if (bytes)
        ranges.push_back({begin, begin + bytes});
}

static void visit(void *user, const void *begin, size_t bytes, bool written) {
    cemu_accesses *accesses = static_cast<cemu_accesses *>(user);
    add(written ? accesses->writes : accesses->reads, begin, bytes);
}

static void add_columns(std::vector<cemu_range> &ranges, const void *p, size_t rows, size_t columns,
                        size_t stride, size_t element) {
    const unsigned char *at = static_cast<const unsigned char *>(p);
    if (rows == stride)
        add(ranges, at, rows * columns * element);
    for (size_t column = 0; rows != stride && column < columns; column++)
        add(ranges, at + column * stride * element, rows * element);
}

static void add_product(cemu_accesses &accesses, const cemu_action &action) {
    const cemu_product &p = action.product;
    const size_t m = static_cast<size_t>(p.m), n = static_cast<size_t>(p.n);
    const size_t k = static_cast<size_t>(p.k);
    add_columns(accesses.reads, p.a, p.transpose_a ? k : m, p.transpose_a ? m : k,
                static_cast<size_t>(p.lda), 2);
    add_columns(accesses.reads, p.b, p.transpose_b ? n : k, p.transpose_b ? k : n,
                static_cast<size_t>(p.ldb), 2);
    add_columns(accesses.writes, p.c, m, n, static_cast<size_t>(p.ldc), p.c_f32 ? 4 : 2);
    add(accesses.writes, action.workspace, action.workspace_bytes);
}

static void collect(cemu_accesses &accesses, const cemu_action &action) {
    switch (action.kind) {
    case CEMU_COPY:
        if (!action.staged)
            add(accesses.reads, action.from, action.bytes);
        add(accesses.writes, action.to, action.bytes);
        break;
    case CEMU_FILL:
        add(accesses.writes, action.to, action.bytes);
        break;
    case CEMU_KERNEL_RUN:
        emu_touched(visit, &accesses);
        break;
    case CEMU_PRODUCT:
        add_product(accesses, action);
        break;
    case CEMU_RECORD:
    case CEMU_NOTHING:
        break;
    }
    std::sort(accesses.reads.begin(), accesses.reads.end(), before);
    std::sort(accesses.writes.begin(), accesses.writes.end(), before);
}

/* The first byte that both lists hold; 0: none. The lists ascend. */
static uintptr_t meet(const std::vector<cemu_range> &a, const std::vector<cemu_range> &b) {
    size_t i = 0, j = 0;
    while (i < a.size() && j < b.size()) {
        if (a[i].begin < b[j].end && b[j].begin < a[i].end)
            return std::max(a[i].begin, b[j].begin);
        if (a[i].end < b[j].end)
            i++;
        else
            j++;
    }
    return 0;
}

/* `ancestors`: of the second's node in its graph; empty where each node follows the one before. */
static bool is_ordered(const cemu_accesses &first, const cemu_accesses &second,
                       const std::vector<bool> &ancestors) {
    if (first.end == second.end)
        return ancestors.empty() || ancestors[first.node];
    if (second.end->clock.at[first.end->stream->slot] >= first.end->number)
        return true;
    for (const cemu_point_ref &point : second.end->partial)
        if (point->stream == first.end->stream && point->number == first.end->number &&
            cemu_ancestors(*point->nodes, point->node)[first.node])
            return true;
    return false;
}

static void compare(cemu_world &world, const cemu_accesses &first, const cemu_accesses &second) {
    uintptr_t at = meet(first.writes, second.writes);
    const char *does = "both write";
    if (!at && (at = meet(first.writes, second.reads)) != 0)
        does = "the second reads, the first writes";
    if (!at && (at = meet(first.reads, second.writes)) != 0)
        does = "the second writes, the first reads";
    if (!at)
        return;
    cemu_complain(
        world, CEMU_RACE, "%s in %s and %s in %s: %s %s, and nothing orders them",
        cemu_action_name((*first.nodes)[first.node].action), first.end->stream->name.c_str(),
        cemu_action_name((*second.nodes)[second.node].action), second.end->stream->name.c_str(),
        does, cemu_where(world, reinterpret_cast<void *>(at)).c_str());
}

/* Whether another stream, or another branch of the same graph, could be unordered with it. */
static bool may_race(const cemu_world &world, const cemu_operation &operation) {
    if (operation.branches)
        return true;
    uint32_t used = 0;
    for (uint32_t slot = 0; slot < CEMU_SLOTS; slot++)
        used += world.slots[slot] && (world.slot_numbers[slot] > world.known.at[slot] ||
                                      (slot && world.slots[slot]->alive));
    return used > 1;
}

void cemu_note_accesses(cemu_world &world, const cemu_operation &operation, uint32_t node) {
    if (!may_race(world, operation))
        return;
    auto accesses = std::make_unique<cemu_accesses>();
    accesses->end = operation.end;
    accesses->nodes = operation.nodes;
    accesses->node = node;
    collect(*accesses, (*operation.nodes)[node].action);
    if (accesses->reads.empty() && accesses->writes.empty())
        return;
    std::vector<bool> ancestors;
    if (operation.branches)
        ancestors = cemu_ancestors(*operation.nodes, node);
    for (const auto &earlier : world.accesses)
        if (!is_ordered(*earlier, *accesses, ancestors))
            compare(world, *earlier, *accesses);
    if (world.accesses.size() == KEPT_MAX)
        world.accesses.erase(world.accesses.begin(), world.accesses.begin() + KEPT_MAX / 2);
    world.accesses.push_back(std::move(accesses));
}

/* Whether all that is still to run, and all that is yet to be queued, comes after it. */
static bool is_settled(const cemu_world &world, const cemu_point &end) {
    const uint32_t slot = end.stream->slot;
    if (!end.done || world.known.at[slot] < end.number)
        return false;
    for (const CUstream_st *stream : world.slots)
        if (stream && !stream->queue.empty() &&
            stream->queue.front()->end->clock.at[slot] < end.number)
            return false;
    return true;
}

void cemu_forget_accesses(cemu_world &world) {
    auto &all = world.accesses;
    all.erase(std::remove_if(all.begin(), all.end(),
                             [&world](const std::unique_ptr<cemu_accesses> &accesses) {
                                 return is_settled(world, *accesses->end);
                             }),
              all.end());
}
