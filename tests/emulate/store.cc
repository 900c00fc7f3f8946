/* Stores that other blocks see late, atomics, fences, asynchronous copies.
 *
 * A block's stores stand in its log until they are published; its own threads read through the log.
 * A fence orders and does no more: the stores before it reach memory with the next atomic behind
 * it, of this thread or of one that met it at a barrier, which is as late as they may. Publishing
 * an entry writes memory and keeps what stood there when the launch began, for loads by way of the
 * first-level cache. */
#include "emulate/world.h"

#include <algorithm>

static void change(emu_world &world, emu_block *block, unsigned char *to, const unsigned char *data,
                   uint32_t bytes) {
    if (!world.options.coherent_l1 || !world.options.immediate_stores) {
        const uintptr_t line = world.changed.line_of(to);
        bool fresh;
        emu_origin &origin = world.changed.at(line, &fresh);
        const uint32_t at = reinterpret_cast<uintptr_t>(to) % EMU_LINE;
        for (uint32_t i = 0; i < bytes; i++) {
            if (!origin.writer[at + i])
                origin.before[at + i] = to[i];
            origin.writer[at + i] = block->id + 1;
        }
    }
    memcpy(to, data, bytes);
}

static void log_publish(emu_world &world, emu_block *block, uint32_t index) {
    emu_stored &entry = block->log[index];
    emu_latest *latest = block->own.find(block->own.line_of(entry.to));
    const uint32_t at = reinterpret_cast<uintptr_t>(entry.to) % EMU_LINE;
    for (uint32_t i = 0; i < entry.bytes; i++)
        if (latest->entry[at + i] == index + 1)
            latest->entry[at + i] = 0;
    change(world, block, entry.to, entry.data, entry.bytes);
    entry.published = true;
    block->unpublished--;
    block->fenced -= entry.fenced;
}

static void log_tidy(emu_block *block) {
    if (block->unpublished) {
        while (block->log[block->first_unpublished].published)
            block->first_unpublished++;
        return;
    }
    block->log.clear();
    block->own.clear();
    block->first_unpublished = block->exchanged = 0;
    for (emu_warp &warp : block->warps)
        warp.synced = 0;
}

/* What this thread, or one that it met at a barrier, has put behind a fence. */
static void publish_fenced(emu_world &world, emu_block *block, const emu_fiber *fiber) {
    if (!block->fenced)
        return;
    const uint32_t warp = 1u << fiber->thread / EMU_WARP;
    for (uint32_t i = block->first_unpublished; i < block->log.size(); i++) {
        const emu_stored &entry = block->log[i];
        if (!entry.published && entry.fenced &&
            (entry.thread == fiber->thread || entry.seen & warp))
            log_publish(world, block, i);
    }
    log_tidy(block);
}

void emu_publish_all(emu_block *block) {
    emu_world &world = emu_here();
    for (uint32_t i = block->first_unpublished; i < block->log.size(); i++)
        if (!block->log[i].published)
            log_publish(world, block, i);
    log_tidy(block);
}

void emu_publish_overlap(emu_block *block, const unsigned char *p, uint32_t bytes) {
    if (block->own.empty())
        return;
    emu_world &world = emu_here();
    for (uint32_t i = block->first_unpublished; i < block->log.size(); i++) {
        const emu_stored &entry = block->log[i];
        if (!entry.published && entry.to < p + bytes && p < entry.to + entry.bytes)
            log_publish(world, block, i);
    }
    log_tidy(block);
}

void emu_exchange(emu_block *block, uint32_t warps, bool whole_block) {
    const uint32_t from = std::max(block->exchanged, block->first_unpublished);
    for (uint32_t i = from; i < block->log.size(); i++) {
        emu_stored &entry = block->log[i];
        if ((entry.seen | 1u << entry.thread / EMU_WARP) & warps)
            entry.seen |= warps;
    }
    if (whole_block)
        block->exchanged = static_cast<uint32_t>(block->log.size());
}

void emu_exchange_warp(emu_block *block, emu_warp *warp) {
    const uint32_t index = warp->first / EMU_WARP;
    const uint32_t from = std::max({warp->synced, block->exchanged, block->first_unpublished});
    for (uint32_t i = from; i < block->log.size(); i++)
        if (block->log[i].thread / EMU_WARP == index)
            block->log[i].seen |= 1u << index;
    warp->synced = static_cast<uint32_t>(block->log.size());
}

void emu_read_l2(emu_block *block, unsigned char *out, const unsigned char *p, uint32_t bytes) {
    memcpy(out, p, bytes);
    const emu_latest *latest = block->own.find(block->own.line_of(p));
    const uint32_t at = reinterpret_cast<uintptr_t>(p) % EMU_LINE;
    for (uint32_t i = 0; latest && i < bytes; i++)
        if (latest->entry[at + i]) {
            const emu_stored &entry = block->log[latest->entry[at + i] - 1];
            out[i] = entry.data[p + i - entry.to];
        }
}

static emu_buffer *find_writable(void *p, uint32_t bytes, const char *doing, const char *file,
                                 int line) {
    emu_buffer *buffer = emu_find(p, bytes, doing, file, line);
    const size_t offset = static_cast<size_t>(static_cast<unsigned char *>(p) - buffer->base);
    if (reinterpret_cast<uintptr_t>(p) % bytes)
        emu_fault(EMU_MISALIGNED, file, line, "%s of %u bytes at offset %zu of buffer %s", doing,
                  bytes, offset, buffer->name.c_str());
    if (buffer->kind == EMU_INPUT)
        emu_fault(EMU_READ_ONLY, file, line, "%s of %u bytes at offset %zu of input buffer %s",
                  doing, bytes, offset, buffer->name.c_str());
    return buffer;
}

void emu_store(void *p, const void *value, uint32_t bytes, const char *file, int line) {
    emu_world &world = emu_here();
    if (world.options.switch_at_access)
        emu_yield("a store", file, line);
    emu_buffer *buffer = find_writable(p, bytes, "store", file, line);
    unsigned char *to = static_cast<unsigned char *>(p);
    emu_touch(buffer, to, bytes, EMU_WRITE);
    emu_fiber *fiber = emu_running();
    emu_block *block = fiber->owner;
    if (world.options.immediate_stores) {
        change(world, block, to, static_cast<const unsigned char *>(value), bytes);
        return;
    }
    emu_stored entry = {};
    entry.to = to;
    memcpy(entry.data, value, bytes);
    entry.thread = fiber->thread;
    entry.bytes = static_cast<uint8_t>(bytes);
    block->log.push_back(entry);
    block->unpublished++;
    bool fresh;
    emu_latest &latest = block->own.at(block->own.line_of(to), &fresh);
    for (uint32_t i = 0; i < bytes; i++)
        latest.entry[reinterpret_cast<uintptr_t>(to) % EMU_LINE + i] =
            static_cast<uint32_t>(block->log.size());
}

static uint32_t combine(emu_atomic_op op, uint32_t old, uint32_t value) {
    switch (op) {
    case EMU_ADD:
        return old + value;
    case EMU_EXCHANGE:
        return value;
    case EMU_MAX:
        return std::max(old, value);
    case EMU_OR:
        return old | value;
    }
    return old;
}

uint32_t emu_atomic(emu_atomic_op op, uint32_t *p, uint32_t value, const char *file, int line) {
    emu_yield("an atomic", file, line);
    emu_buffer *buffer = find_writable(p, 4, "atomic", file, line);
    emu_block *block = emu_running()->owner;
    emu_touch_atomic(buffer, reinterpret_cast<unsigned char *>(p), 4);
    publish_fenced(emu_here(), block, emu_running());
    emu_publish_overlap(block, reinterpret_cast<unsigned char *>(p), 4);
    const uint32_t old = *p, now = combine(op, old, value);
    unsigned char data[4];
    memcpy(data, &now, 4);
    change(emu_here(), block, reinterpret_cast<unsigned char *>(p), data, 4);
    return old;
}

uint32_t emu_shared_atomic(emu_atomic_op op, uint32_t *p, uint32_t value, const char *file,
                           int line) {
    emu_may_switch();
    uint32_t *at = static_cast<uint32_t *>(emu_shared_at(p, 4, EMU_READ, file, line));
    const uint32_t old = *at;
    *at = combine(op, old, value);
    return old;
}

void emu_fence(const char *file, int line) {
    emu_yield("a fence", file, line);
    const emu_fiber *fiber = emu_running();
    emu_block *block = fiber->owner;
    const uint32_t warp = 1u << fiber->thread / EMU_WARP;
    for (uint32_t i = block->first_unpublished; i < block->log.size(); i++) {
        emu_stored &entry = block->log[i];
        if (!entry.published && !entry.fenced &&
            (entry.thread == fiber->thread || entry.seen & warp)) {
            entry.fenced = true;
            block->fenced++;
        }
    }
}

static void copy_now(emu_world &world, emu_block *block, const emu_copy &copy) {
    if (world.options.no_arithmetic)
        return;
    unsigned char data[16] = {};
    if (copy.bytes)
        emu_read_l2(block, data, copy.from, copy.bytes);
    memcpy(copy.to, data, sizeof data);
}

void emu_copy_async(void *shared, const void *global, uint32_t bytes, const char *file, int line) {
    emu_world &world = emu_here();
    if (world.options.switch_at_access)
        emu_yield("a copy", file, line);
    if (bytes > 16)
        emu_fault(EMU_OUT_OF_BOUNDS, file, line, "cp.async of %u bytes: at most 16 are read",
                  bytes);
    unsigned char *to =
        static_cast<unsigned char *>(emu_shared_at(shared, 16, EMU_WRITE, file, line));
    if (reinterpret_cast<uintptr_t>(global) % 16)
        emu_fault(EMU_MISALIGNED, file, line, "cp.async from %p, not a multiple of 16", global);
    const unsigned char *from = static_cast<const unsigned char *>(global);
    if (bytes)
        emu_touch(emu_find(global, bytes, "cp.async", file, line), from, bytes, EMU_READ);
    emu_fiber *fiber = emu_running();
    const emu_copy copy = {to, from, bytes, fiber->group};
    if (world.options.copies == EMU_EAGER || world.options.no_arithmetic)
        copy_now(world, fiber->owner, copy);
    else
        fiber->copies.push_back(copy);
}

void emu_copy_commit(const char *, int) {
    emu_running()->group++;
}

/* Completes every copy of a group below `end`, in the order of their issue. */
static void complete(emu_fiber *fiber, uint32_t end) {
    size_t n = 0;
    while (n < fiber->copies.size() && fiber->copies[n].group < end)
        copy_now(emu_here(), fiber->owner, fiber->copies[n++]);
    fiber->copies.erase(fiber->copies.begin(),
                        fiber->copies.begin() + static_cast<std::ptrdiff_t>(n));
}

void emu_copy_wait(uint32_t newest, const char *, int) {
    emu_fiber *fiber = emu_running();
    if (fiber->group > newest)
        complete(fiber, fiber->group - newest);
}

/* As commit_group and wait_group 0. */
void emu_copy_wait_all(const char *, int) {
    complete(emu_running(), ++emu_running()->group);
}
