/* Copies between the host and the device, and what the host may see of them.
 *
 * A copy reads its source when it runs. Until the host has waited for it, the host must not write
 * the source (compared with what it was, when the host has waited) nor look at the target (poisoned
 * when the copy is queued, filled when the host has waited). */
#include "cuda_emulation/world.h"

static const unsigned char POISON = 0xff;

uint64_t cemu_hash(const void *p, size_t bytes) {
    const unsigned char *at = static_cast<const unsigned char *>(p);
    uint64_t lanes[4] = {1, 2, 3, 4};
    size_t i = 0;
    for (; i + 32 <= bytes; i += 32)
        for (int lane = 0; lane < 4; lane++) {
            uint64_t word;
            memcpy(&word, at + i + lane * 8, 8);
            lanes[lane] = (lanes[lane] ^ word) * 0x9e3779b97f4a7c15ull;
            lanes[lane] ^= lanes[lane] >> 29;
        }
    uint64_t hash = bytes;
    for (uint64_t lane : lanes)
        hash = (hash ^ lane) * 0xbf58476d1ce4e5b9ull + (hash >> 31);
    for (; i < bytes; i++)
        hash = (hash ^ at[i]) * 0x94d049bb133111ebull;
    return hash;
}

static bool overlap(const unsigned char *a, size_t a_bytes, const unsigned char *b,
                    size_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

static bool is_watched(const cemu_world &world, const unsigned char *host, size_t bytes,
                       bool by_downloads_alone) {
    for (const auto &watch : world.watches)
        if ((watch->down || !by_downloads_alone) && overlap(watch->host, watch->bytes, host, bytes))
            return true;
    return false;
}

void cemu_watch_operation(cemu_world &world, const cemu_operation &operation) {
    for (size_t i = 0; i < operation.nodes->size(); i++) {
        const cemu_action &action = (*operation.nodes)[i].action;
        if (action.kind != CEMU_COPY || action.way == CEMU_ACROSS || action.pageable ||
            action.bytes == 0)
            continue;
        auto watch = std::make_unique<cemu_watch>();
        watch->end = operation.end;
        watch->node = static_cast<uint32_t>(i);
        watch->down = action.way == CEMU_DOWN;
        watch->bytes = action.bytes;
        watch->host =
            static_cast<unsigned char *>(watch->down ? action.to : const_cast<void *>(action.from));
        /* A source that a queued copy will fill changes rightly; a target that a queued copy will
         * still read must not be poisoned. */
        watch->hashed = !is_watched(world, watch->host, watch->bytes, !watch->down);
        const cemu_block *block = cemu_block_at(world, watch->host);
        if (!block || block->freed)
            continue; /* a stale graph; its run reports it */
        if (watch->hashed && watch->down)
            memset(watch->host, POISON, watch->bytes);
        else if (watch->hashed)
            watch->hash = cemu_hash(watch->host, watch->bytes);
        world.watches.push_back(std::move(watch));
    }
}

static void check_source(cemu_world &world, cemu_watch &watch) {
    if (watch.down || !watch.hashed || cemu_hash(watch.host, watch.bytes) == watch.hash)
        return;
    cemu_complain(world, CEMU_SOURCE_CHANGED,
                  "%zu bytes at %s, read by a copy in %s that the host has not waited for",
                  watch.bytes, cemu_where(world, watch.host).c_str(),
                  watch.end->stream->name.c_str());
}

static void land(cemu_world &world, cemu_watch &watch) {
    if (!watch.down || !watch.ran)
        return;
    size_t same = 0;
    while (watch.hashed && same < watch.bytes && watch.host[same] == POISON)
        same++;
    if (watch.hashed && same < watch.bytes)
        cemu_complain(world, CEMU_TARGET_CHANGED,
                      "%s, filled by a copy in %s that the host has not waited for",
                      cemu_where(world, watch.host + same).c_str(),
                      watch.end->stream->name.c_str());
    memcpy(watch.host, watch.data.data(), watch.bytes);
    watch.ran = false;
}

std::vector<bool> cemu_ancestors(const std::vector<cemu_node> &nodes, uint32_t node) {
    std::vector<bool> before(nodes.size(), false);
    before[node] = true;
    for (uint32_t i = node + 1; i-- > 0;) /* nodes stand behind those that they follow */
        if (before[i])
            for (uint32_t from : nodes[i].after)
                before[from] = true;
    return before;
}

static bool is_known(const cemu_world &world, const cemu_watch &watch, const cemu_point &point) {
    const uint32_t slot = watch.end->stream->slot;
    if (watch.end->done && world.known.at[slot] >= watch.end->number)
        return true;
    const auto follows = [&watch](const cemu_point &at) {
        return at.nodes && at.stream == watch.end->stream && at.number == watch.end->number &&
               cemu_ancestors(*at.nodes, at.node)[watch.node];
    };
    for (const cemu_point_ref &partial : point.partial)
        if (follows(*partial))
            return true;
    return follows(point);
}

void cemu_learn(cemu_world &world, const cemu_point_ref &point) {
    if (!point || !point->done || world.sticky)
        return;
    world.known.join(point->clock);
    world.now_ns = world.now_ns > point->time_ns ? world.now_ns : point->time_ns;
    size_t kept = 0;
    for (size_t i = 0; i < world.watches.size(); i++) {
        std::unique_ptr<cemu_watch> &watch = world.watches[i];
        if (is_known(world, *watch, *point)) {
            check_source(world, *watch);
            land(world, *watch);
        } else {
            if (kept != i)
                world.watches[kept] = std::move(watch);
            kept++;
        }
    }
    world.watches.resize(kept);
    cemu_forget_accesses(world);
}

static cemu_watch *watch_of(cemu_world &world, const cemu_operation &operation, uint32_t node) {
    for (const auto &watch : world.watches)
        if (watch->end == operation.end && watch->node == node)
            return watch.get();
    return nullptr;
}

static int copy_up(cemu_world &world, const cemu_action &action) {
    bool pageable;
    if (!action.staged &&
        cemu_check_host(world, action.from, action.bytes, "a copy reads", &pageable))
        return cudaErrorIllegalAddress;
    if (cemu_check_device(world, action.to, action.bytes, "a copy writes"))
        return cudaErrorIllegalAddress;
    const unsigned char *from = static_cast<const unsigned char *>(action.from);
    for (const auto &other : world.watches)
        if (other->down && other->ran && overlap(other->host, other->bytes, from, action.bytes))
            land(world, *other);
    memcpy(action.to, action.staged ? action.staged->data() : from, action.bytes);
    emu_mark_written(action.to, action.bytes);
    return 0;
}

static int copy_down(cemu_world &world, const cemu_action &action, cemu_watch *watch) {
    bool pageable;
    if (cemu_check_device(world, action.from, action.bytes, "a copy reads") ||
        cemu_check_host(world, action.to, action.bytes, "a copy writes", &pageable))
        return cudaErrorIllegalAddress;
    const size_t written = emu_written(action.from, action.bytes);
    if (written < action.bytes && !world.options.allow_unwritten_copies)
        cemu_complain(
            world, CEMU_UNWRITTEN, "%zu bytes to the host from %s; nobody wrote %s", action.bytes,
            cemu_where(world, action.from).c_str(),
            cemu_where(world, static_cast<const unsigned char *>(action.from) + written).c_str());
    const unsigned char *from = static_cast<const unsigned char *>(action.from);
    if (watch) {
        watch->data.assign(from, from + action.bytes);
        watch->ran = true;
    } else {
        memcpy(action.to, from, action.bytes);
    }
    return 0;
}

static int copy_across(cemu_world &world, const cemu_action &action) {
    if (cemu_check_device(world, action.from, action.bytes, "a copy reads") ||
        cemu_check_device(world, action.to, action.bytes, "a copy writes"))
        return cudaErrorIllegalAddress;
    const unsigned char *from = static_cast<const unsigned char *>(action.from);
    unsigned char *to = static_cast<unsigned char *>(action.to);
    if (overlap(to, action.bytes, from, action.bytes))
        cemu_complain(world, CEMU_BAD_CALL, "a copy of %zu bytes from %s overlaps its target",
                      action.bytes, cemu_where(world, from).c_str());
    const size_t written = emu_written(from, action.bytes);
    memmove(to, from, action.bytes);
    emu_mark_written(to, written);
    return 0;
}

int cemu_copy_run(cemu_world &world, const cemu_operation &operation, uint32_t node) {
    const cemu_action &action = (*operation.nodes)[node].action;
    if (action.bytes == 0)
        return 0;
    if (action.way == CEMU_UP)
        return copy_up(world, action);
    if (action.way == CEMU_DOWN)
        return copy_down(world, action, watch_of(world, operation, node));
    return copy_across(world, action);
}
