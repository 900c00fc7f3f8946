/* Device and pinned memory: addresses that are given out once, so that a dead pointer never points
 * at something else; poison; what a pointer is. */
#include "cuda_emulation/world.h"

#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define FORBID(p, bytes) __asan_poison_memory_region(p, bytes)
#define ALLOW(p, bytes) __asan_unpoison_memory_region(p, bytes)
#else
#define FORBID(p, bytes) ((void)(p), (void)(bytes))
#define ALLOW(p, bytes) ((void)(p), (void)(bytes))
#endif

static const size_t PAGE = 4096;
static const size_t RESERVED = size_t{1} << 38;          /* addresses of an arena */
static const size_t QUARANTINE_BYTES = size_t{64} << 20; /* of freed pinned memory, readable */
static const size_t RETIRED = 256;                       /* freed buffers that kernels know of */
static const unsigned char POISON = 0xff;                /* NaN in every float type */

static size_t pages_of(size_t bytes) {
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

/* Fresh pages with a page behind them that nobody may touch; null: no memory. */
static unsigned char *arena_take(cemu_arena &arena, size_t bytes) {
    if (!arena.base) {
        void *base =
            mmap(nullptr, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED)
            return nullptr;
        arena.base = static_cast<unsigned char *>(base);
        arena.reserved = RESERVED;
    }
    if (arena.reserved - arena.used < pages_of(bytes) + PAGE)
        return nullptr;
    unsigned char *p = arena.base + arena.used;
    if (mprotect(p, pages_of(bytes), PROT_READ | PROT_WRITE) != 0)
        return nullptr;
    arena.used += pages_of(bytes) + PAGE;
    return p;
}

static void arena_drop(unsigned char *p, size_t bytes) {
    ALLOW(p, bytes);
    madvise(p, pages_of(bytes), MADV_DONTNEED);
    mprotect(p, pages_of(bytes), PROT_NONE);
}

static void arena_end(cemu_arena &arena) {
    if (arena.base) {
        ALLOW(arena.base, arena.used);
        munmap(arena.base, arena.reserved);
    }
    arena = cemu_arena{};
}

void cemu_guard(cemu_world &world, bool open) {
    if (!world.options.guard)
        return;
    for (const auto &entry : world.blocks) {
        const cemu_block &block = entry.second;
        if (block.place == CEMU_DEVICE && !block.freed)
            mprotect(block.base, pages_of(block.bytes), open ? PROT_READ | PROT_WRITE : PROT_NONE);
    }
}

void cemu_memory_reset(cemu_world &world) {
    cemu_drop_queues(world);
    for (uintptr_t base : world.retired)
        emu_unregister(reinterpret_cast<void *>(base));
    for (const auto &entry : world.blocks)
        if (!entry.second.freed && (entry.second.place == CEMU_DEVICE || entry.second.mapped))
            emu_unregister(entry.second.base);
    arena_end(world.device);
    arena_end(world.pinned);
}

cemu_block *cemu_block_at(cemu_world &world, const void *p) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(p);
    auto after = world.blocks.upper_bound(at);
    if (after == world.blocks.begin())
        return nullptr;
    cemu_block &block = (--after)->second;
    return at - reinterpret_cast<uintptr_t>(block.base) < block.bytes ? &block : nullptr;
}

std::string cemu_where(cemu_world &world, const void *p) {
    char text[64];
    const cemu_block *block = cemu_block_at(world, p);
    if (!block) {
        snprintf(text, sizeof text, "%p", p);
        return text;
    }
    const size_t at = static_cast<size_t>(static_cast<const unsigned char *>(p) - block->base);
    snprintf(text, sizeof text, " + %zu of %zu", at, block->bytes);
    return block->name + text;
}

static bool inside(const cemu_block &block, const void *p, size_t bytes) {
    const size_t at = static_cast<size_t>(static_cast<const unsigned char *>(p) - block.base);
    return bytes <= block.bytes - at;
}

int cemu_check_device(cemu_world &world, const void *p, size_t bytes, const char *doing) {
    const cemu_block *block = cemu_block_at(world, p);
    if (!block || (block->place != CEMU_DEVICE && !block->mapped)) {
        cemu_complain(world, CEMU_BAD_POINTER, "%s %zu bytes at %s, not device memory", doing,
                      bytes, cemu_where(world, p).c_str());
        return cudaErrorInvalidValue;
    }
    if (block->freed) {
        cemu_complain(world, CEMU_USE_AFTER_FREE, "%s %zu bytes at %s, freed", doing, bytes,
                      cemu_where(world, p).c_str());
        return cudaErrorInvalidValue;
    }
    if (!inside(*block, p, bytes)) {
        cemu_complain(world, CEMU_OUT_OF_RANGE, "%s %zu bytes at %s", doing, bytes,
                      cemu_where(world, p).c_str());
        return cudaErrorInvalidValue;
    }
    return 0;
}

int cemu_check_host(cemu_world &world, const void *p, size_t bytes, const char *doing,
                    bool *pageable) {
    const cemu_block *block = cemu_block_at(world, p);
    *pageable = block == nullptr;
    if (!block) {
        const cemu_block *behind = nullptr;
        auto next = world.blocks.upper_bound(reinterpret_cast<uintptr_t>(p));
        if (next != world.blocks.end())
            behind = &next->second;
        if (!p || (behind && static_cast<const unsigned char *>(p) + bytes > behind->base)) {
            cemu_complain(world, CEMU_OUT_OF_RANGE, "%s %zu bytes at %p: null, or partly in %s",
                          doing, bytes, p, behind ? behind->name.c_str() : "nothing");
            return cudaErrorInvalidValue;
        }
        return 0;
    }
    if (block->place == CEMU_DEVICE) {
        cemu_complain(world, CEMU_BAD_POINTER, "%s %zu bytes at %s, not host memory", doing, bytes,
                      cemu_where(world, p).c_str());
        return cudaErrorInvalidValue;
    }
    if (block->freed || !inside(*block, p, bytes)) {
        cemu_complain(world, block->freed ? CEMU_USE_AFTER_FREE : CEMU_OUT_OF_RANGE,
                      "%s %zu bytes at %s%s", doing, bytes, cemu_where(world, p).c_str(),
                      block->freed ? ", freed" : "");
        return cudaErrorInvalidValue;
    }
    return 0;
}

static cemu_block *add(cemu_world &world, unsigned char *base, size_t bytes, cemu_place place,
                       bool mapped) {
    static const char *const kinds[] = {"device memory ", "pinned memory ", "registered memory "};
    cemu_block block = {};
    block.base = base;
    block.bytes = bytes;
    block.place = place;
    block.mapped = mapped;
    block.name = kinds[place] + std::to_string(world.blocks_made++);
    if (place == CEMU_DEVICE || mapped) {
        if (!emu_register(base, bytes, block.name.c_str(), EMU_OUTPUT))
            return nullptr;
        emu_remember_written(base);
    }
    return &(world.blocks[reinterpret_cast<uintptr_t>(base)] = block);
}

static int take(cemu_world &world, void **p, size_t bytes, cemu_place place, bool mapped) {
    const bool device = place == CEMU_DEVICE;
    if (!p) {
        cemu_complain(world, CEMU_BAD_CALL, "no place for the pointer");
        return cudaErrorInvalidValue;
    }
    *p = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    const size_t room = device ? world.options.device_bytes - world.device_bytes
                               : world.options.host_bytes - world.host_bytes;
    unsigned char *base =
        bytes > room ? nullptr : arena_take(device ? world.device : world.pinned, bytes);
    if (!base)
        return cudaErrorMemoryAllocation;
    memset(base, POISON, bytes);
    if (!add(world, base, bytes, place, mapped)) {
        arena_drop(base, bytes);
        return cudaErrorMemoryAllocation;
    }
    (device ? world.device_bytes : world.host_bytes) += bytes;
    if (device && world.options.guard)
        mprotect(base, pages_of(bytes), PROT_NONE);
    world.counts.allocations++;
    *p = base;
    return cudaSuccess;
}

static bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    const uintptr_t x = reinterpret_cast<uintptr_t>(a), y = reinterpret_cast<uintptr_t>(b);
    return x < y + b_bytes && y < x + a_bytes;
}

static bool action_uses(const cemu_action &action, const cemu_block &block) {
    const cemu_product &product = action.product;
    switch (action.kind) {
    case CEMU_COPY:
        return overlap(action.to, action.bytes, block.base, block.bytes) ||
               overlap(action.from, action.bytes, block.base, block.bytes);
    case CEMU_FILL:
        return overlap(action.to, action.bytes, block.base, block.bytes);
    case CEMU_PRODUCT:
        return overlap(product.a, cemu_product_a_bytes(&product), block.base, block.bytes) ||
               overlap(product.b, cemu_product_b_bytes(&product), block.base, block.bytes) ||
               overlap(product.c, cemu_product_c_bytes(&product), block.base, block.bytes) ||
               overlap(action.workspace, action.workspace_bytes, block.base, block.bytes);
    default:
        return false; /* what a kernel uses shows when it runs: it meets freed memory then */
    }
}

/* Queued work, or a copy that the host does not know done, that uses the block. */
static void check_unused(cemu_world &world, const cemu_block &block) {
    for (const auto &watch : world.watches)
        if (overlap(watch->host, watch->bytes, block.base, block.bytes)) {
            cemu_complain(world, CEMU_FREED_IN_USE, "%s, which a copy in %s uses",
                          block.name.c_str(), watch->end->stream->name.c_str());
            return;
        }
    for (const auto &stream : world.streams)
        for (const auto &operation : stream->queue)
            for (const cemu_node &node : *operation->nodes)
                if (action_uses(node.action, block)) {
                    cemu_complain(world, CEMU_FREED_IN_USE, "%s, which a queued %s in %s uses",
                                  block.name.c_str(), cemu_action_name(node.action),
                                  stream->name.c_str());
                    return;
                }
}

static void forget_watches(cemu_world &world, const cemu_block &block) {
    auto &watches = world.watches;
    for (size_t i = 0; i < watches.size();)
        if (overlap(watches[i]->host, watches[i]->bytes, block.base, block.bytes))
            watches.erase(watches.begin() + static_cast<std::ptrdiff_t>(i));
        else
            i++;
}

static void release_device(cemu_world &world, cemu_block &block) {
    world.device_bytes -= block.bytes;
    arena_drop(block.base, block.bytes);
    emu_retire(block.base);
    world.retired.push_back(reinterpret_cast<uintptr_t>(block.base));
    if (world.retired.size() > RETIRED) {
        emu_unregister(reinterpret_cast<void *>(world.retired.front()));
        world.retired.pop_front();
    }
}

static void release_pinned(cemu_world &world, cemu_block &block) {
    world.host_bytes -= block.bytes;
    if (block.mapped)
        emu_unregister(block.base);
    memset(block.base, POISON, block.bytes);
    FORBID(block.base, block.bytes);
    world.quarantine.push_back(reinterpret_cast<uintptr_t>(block.base));
    world.quarantine_bytes += block.bytes;
    while (world.quarantine_bytes > QUARANTINE_BYTES) {
        const cemu_block &oldest = world.blocks.at(world.quarantine.front());
        arena_drop(oldest.base, oldest.bytes);
        world.quarantine_bytes -= oldest.bytes;
        world.quarantine.pop_front();
    }
}

static int give_back(cemu_world &world, void *p, cemu_place place) {
    if (!p)
        return cudaSuccess;
    cemu_block *block = cemu_block_at(world, p);
    if (!block || block->base != p || block->place != place) {
        cemu_complain(world, CEMU_BAD_FREE, "%s is no such allocation",
                      cemu_where(world, p).c_str());
        return cudaErrorInvalidValue;
    }
    if (block->freed) {
        cemu_complain(world, CEMU_DOUBLE_FREE, "%s was freed before", block->name.c_str());
        return cudaErrorInvalidValue;
    }
    if (!world.sticky)
        check_unused(world, *block);
    forget_watches(world, *block);
    block->freed = true;
    if (place == CEMU_DEVICE)
        release_device(world, *block);
    else
        release_pinned(world, *block);
    return cudaSuccess;
}

extern "C" cudaError_t cudaMalloc(void **p, size_t bytes) {
    cemu_call call("cudaMalloc", CEMU_UNSAFE | CEMU_NOT_STEADY);
    return call.refused ? call.give() : call.give(take(call.world, p, bytes, CEMU_DEVICE, true));
}

extern "C" cudaError_t cudaFree(void *p) {
    cemu_call call("cudaFree", CEMU_UNSAFE | CEMU_RELEASES | CEMU_NOT_STEADY);
    return call.refused ? call.give() : call.give(give_back(call.world, p, CEMU_DEVICE));
}

extern "C" cudaError_t cudaMallocHost(void **p, size_t bytes) {
    cemu_call call("cudaMallocHost", CEMU_UNSAFE | CEMU_NOT_STEADY);
    return call.refused ? call.give() : call.give(take(call.world, p, bytes, CEMU_PINNED, false));
}

extern "C" cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned int flags) {
    cemu_call call("cudaHostAlloc", CEMU_UNSAFE | CEMU_NOT_STEADY);
    if (call.refused)
        return call.give();
    if (flags & ~7u) {
        cemu_complain(call.world, CEMU_BAD_CALL, "unknown flags 0x%x", flags);
        return call.give(cudaErrorInvalidValue);
    }
    const bool mapped = flags & cudaHostAllocMapped;
    return call.give(take(call.world, p, bytes, CEMU_PINNED, mapped));
}

extern "C" cudaError_t cudaFreeHost(void *p) {
    cemu_call call("cudaFreeHost", CEMU_UNSAFE | CEMU_RELEASES | CEMU_NOT_STEADY);
    return call.refused ? call.give() : call.give(give_back(call.world, p, CEMU_PINNED));
}

extern "C" cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned int flags) {
    cemu_call call("cudaHostRegister", CEMU_UNSAFE | CEMU_NOT_STEADY);
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    if (!p || bytes == 0 || flags & ~0xfu) {
        cemu_complain(world, CEMU_BAD_CALL, "%zu bytes at %p, flags 0x%x", bytes, p, flags);
        return call.give(cudaErrorInvalidValue);
    }
    for (const auto &entry : world.blocks)
        if (overlap(entry.second.base, entry.second.bytes, p, bytes)) {
            cemu_complain(world, CEMU_BAD_CALL, "%zu bytes at %p overlap %s", bytes, p,
                          entry.second.name.c_str());
            return call.give(cudaErrorHostMemoryAlreadyRegistered);
        }
    if (bytes > world.options.host_bytes - world.host_bytes ||
        !add(world, static_cast<unsigned char *>(p), bytes, CEMU_REGISTERED,
             flags & cudaHostRegisterMapped))
        return call.give(cudaErrorMemoryAllocation);
    world.host_bytes += bytes;
    world.counts.allocations++;
    return call.give();
}

extern "C" cudaError_t cudaHostUnregister(void *p) {
    cemu_call call("cudaHostUnregister", CEMU_UNSAFE | CEMU_RELEASES | CEMU_NOT_STEADY);
    if (call.refused)
        return call.give();
    cemu_world &world = call.world;
    const cemu_block *block = cemu_block_at(world, p);
    if (!block || block->base != p || block->place != CEMU_REGISTERED) {
        cemu_complain(world, CEMU_BAD_FREE, "%s is not registered", cemu_where(world, p).c_str());
        return call.give(cudaErrorHostMemoryNotRegistered);
    }
    if (!world.sticky)
        check_unused(world, *block);
    forget_watches(world, *block);
    if (block->mapped)
        emu_unregister(block->base);
    world.host_bytes -= block->bytes;
    world.blocks.erase(reinterpret_cast<uintptr_t>(p));
    return call.give();
}

extern "C" cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    cemu_call call("cudaMemGetInfo", CEMU_PLAIN);
    if (call.refused)
        return call.give();
    if (!free_bytes || !total_bytes)
        return call.give(cudaErrorInvalidValue);
    *total_bytes = call.world.options.device_bytes;
    *free_bytes = call.world.options.device_bytes - call.world.device_bytes;
    return call.give();
}

void cemu_name(const void *p, const char *name) {
    cemu_world &world = cemu_here();
    cemu_block *block = cemu_block_at(world, p);
    if (!block || block->freed)
        return;
    block->name = name;
    if (block->place == CEMU_DEVICE || block->mapped)
        emu_rename(block->base, name);
}

size_t cemu_written(const void *p, size_t bytes) {
    return emu_written(p, bytes);
}
