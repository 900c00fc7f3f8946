/* Registered buffers: bounds, alignment, counts, and loads. */
#include "emulate/world.h"

#include <sys/mman.h>

#include <algorithm>

size_t emu_bitmap_bytes(const emu_buffer *buffer) {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(buffer->base) & ~63ull;
    const uintptr_t end = reinterpret_cast<uintptr_t>(buffer->base) + buffer->bytes;
    return (end - begin + 63) / 64 * 8;
}

static uint64_t *bitmap_make(const emu_buffer *buffer) {
    void *memory = mmap(nullptr, emu_bitmap_bytes(buffer), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<uint64_t *>(memory);
}

static void bitmap_clear(const emu_buffer *buffer, uint64_t *bits) {
    const size_t bytes = emu_bitmap_bytes(buffer);
    if (!bits)
        return;
    if (bytes < 1 << 18 || madvise(bits, bytes, MADV_DONTNEED) != 0)
        memset(bits, 0, bytes);
}

static void sum(emu_buffer_counts *to, const emu_buffer_counts &from) {
    to->load_bytes += from.load_bytes;
    to->store_bytes += from.store_bytes;
    to->first_load_bytes += from.first_load_bytes;
    to->first_store_bytes += from.first_store_bytes;
    to->loads += from.loads;
    to->stores += from.stores;
    to->atomics += from.atomics;
}

static void buffer_free(emu_world &world, emu_buffer *buffer) {
    sum(&world.former[buffer->name], buffer->counts);
    const size_t bytes = emu_bitmap_bytes(buffer);
    if (buffer->loaded)
        munmap(buffer->loaded, bytes);
    if (buffer->stored)
        munmap(buffer->stored, bytes);
    if (buffer->atomic)
        munmap(buffer->atomic, bytes);
    if (buffer->written)
        munmap(buffer->written, bytes);
    if (buffer->owned)
        free(buffer->base);
    delete buffer;
}

/* The first buffer that ends after p. */
static std::vector<emu_buffer *>::iterator first_after(emu_world &world, const void *p) {
    return std::upper_bound(
        world.buffers.begin(), world.buffers.end(), reinterpret_cast<uintptr_t>(p),
        [](uintptr_t at, const emu_buffer *buffer) {
            return at < reinterpret_cast<uintptr_t>(buffer->base) + buffer->bytes;
        });
}

static bool add(const void *p, size_t bytes, const char *name, emu_kind kind, bool owned) {
    emu_world &world = emu_here();
    unsigned char *base = static_cast<unsigned char *>(const_cast<void *>(p));
    if (!p || bytes == 0) {
        emu_complain(world, EMU_BAD_BUFFER, "buffer %s is empty", name);
        return false;
    }
    auto at = first_after(world, p);
    if (at != world.buffers.end() && (*at)->base < base + bytes) {
        emu_complain(world, EMU_BAD_BUFFER, "buffer %s (%zu bytes) overlaps %s", name, bytes,
                     (*at)->name.c_str());
        return false;
    }
    emu_buffer *buffer = new emu_buffer{};
    buffer->base = base;
    buffer->bytes = bytes;
    buffer->name = name;
    buffer->kind = kind;
    buffer->owned = owned;
    world.former[name]; /* so that emu_counts knows the name */
    world.buffers.insert(at, buffer);
    world.recent = nullptr;
    return true;
}

static bool remove_at(const void *p, bool owned) {
    emu_world &world = emu_here();
    auto at = first_after(world, p);
    if (!p || at == world.buffers.end() || (*at)->base != p || (owned && !(*at)->owned))
        return false;
    buffer_free(world, *at);
    world.buffers.erase(at);
    world.recent = nullptr;
    return true;
}

bool emu_register(const void *p, size_t bytes, const char *name, emu_kind kind) {
    return add(p, bytes, name, kind, false);
}

void emu_unregister(const void *p) {
    remove_at(p, false);
}

void emu_retire(const void *p) {
    emu_world &world = emu_here();
    auto at = first_after(world, p);
    if (p && at != world.buffers.end() && (*at)->base == p)
        (*at)->retired = true;
    world.recent = nullptr;
}

void emu_rename(const void *p, const char *name) {
    emu_world &world = emu_here();
    auto at = first_after(world, p);
    if (!p || at == world.buffers.end() || (*at)->base != p)
        return;
    sum(&world.former[(*at)->name], (*at)->counts);
    (*at)->counts = emu_buffer_counts{};
    (*at)->name = name;
    world.former[name];
}

void *emu_alloc(size_t bytes, const char *name, emu_kind kind) {
    void *p = nullptr;
    if (posix_memalign(&p, 256, bytes ? bytes : 1) != 0)
        return nullptr;
    if (!add(p, bytes, name, kind, true)) {
        free(p);
        return nullptr;
    }
    memset(p, 0xff, bytes);
    return p;
}

void emu_free(void *p) {
    remove_at(p, true);
}

void emu_poison(void) {
    for (emu_buffer *buffer : emu_here().buffers)
        if (buffer->kind == EMU_WORKSPACE)
            memset(buffer->base, 0xff, buffer->bytes);
}

void emu_forget_all(void) {
    emu_world &world = emu_here();
    for (emu_buffer *buffer : world.buffers)
        buffer_free(world, buffer);
    world.buffers.clear();
    world.recent = nullptr;
}

void emu_launch_begin_memory(emu_world &world) {
    world.changed.clear();
    for (emu_buffer *buffer : world.buffers)
        if (buffer->touched) {
            bitmap_clear(buffer, buffer->loaded);
            bitmap_clear(buffer, buffer->stored);
            bitmap_clear(buffer, buffer->atomic);
            buffer->touched = false;
            buffer->touched_begin = buffer->touched_end = nullptr;
        }
}

static void outside(emu_world &world, const void *p, uint32_t bytes, const char *doing,
                    const char *file, int line) {
    const unsigned char *at = static_cast<const unsigned char *>(p);
    auto after = first_after(world, p);
    if (after != world.buffers.end() && (*after)->base <= at)
        emu_fault(EMU_OUT_OF_BOUNDS, file, line,
                  "%s of %u bytes at offset %zu crosses the end of buffer %s (%zu bytes)", doing,
                  bytes, static_cast<size_t>(at - (*after)->base), (*after)->name.c_str(),
                  (*after)->bytes);
    const size_t near = 1 << 20;
    const emu_buffer *below = after == world.buffers.begin() ? nullptr : *(after - 1);
    const size_t past =
        below ? static_cast<size_t>(at - below->base) - below->bytes : static_cast<size_t>(-1);
    const size_t ahead = after == world.buffers.end() ? static_cast<size_t>(-1)
                                                      : static_cast<size_t>((*after)->base - at);
    if (past <= ahead && past < near)
        emu_fault(EMU_OUT_OF_BOUNDS, file, line,
                  "%s of %u bytes, %zu bytes past the end of buffer %s (%zu bytes)", doing, bytes,
                  past, below->name.c_str(), below->bytes);
    if (ahead < near)
        emu_fault(EMU_OUT_OF_BOUNDS, file, line, "%s of %u bytes, %zu bytes before buffer %s",
                  doing, bytes, ahead, (*after)->name.c_str());
    emu_fault(EMU_OUT_OF_BOUNDS, file, line, "%s of %u bytes at %p, in no registered buffer", doing,
              bytes, p);
}

emu_buffer *emu_find(const void *p, uint32_t bytes, const char *doing, const char *file, int line) {
    emu_world &world = emu_here();
    const uintptr_t at = reinterpret_cast<uintptr_t>(p);
    emu_buffer *buffer = world.recent;
    if (!buffer || at - reinterpret_cast<uintptr_t>(buffer->base) >= buffer->bytes) {
        auto after = first_after(world, p);
        buffer = after == world.buffers.end() ? nullptr : *after;
        if (!buffer || reinterpret_cast<uintptr_t>(buffer->base) > at)
            outside(world, p, bytes, doing, file, line);
        if (buffer->retired)
            emu_fault(EMU_FREED, file, line, "%s of %u bytes at offset %zu of buffer %s", doing,
                      bytes, static_cast<size_t>(at - reinterpret_cast<uintptr_t>(buffer->base)),
                      buffer->name.c_str());
        world.recent = buffer;
    }
    if (at - reinterpret_cast<uintptr_t>(buffer->base) + bytes > buffer->bytes)
        outside(world, p, bytes, doing, file, line);
    return buffer;
}

/* How many of these bytes are new to the bitmap. They lie within 64 bytes of one another. */
static uint32_t mark(const emu_buffer *buffer, uint64_t *&bits, const unsigned char *p,
                     uint32_t bytes) {
    if (!bits && !(bits = bitmap_make(buffer)))
        return 0;
    const uintptr_t begin = reinterpret_cast<uintptr_t>(buffer->base) & ~63ull;
    const uintptr_t at = reinterpret_cast<uintptr_t>(p) - begin;
    const uint64_t mask = ((1ull << bytes) - 1) << at % 64;
    uint64_t &word = bits[at / 64];
    const uint64_t fresh = mask & ~word;
    word |= mask;
    return static_cast<uint32_t>(__builtin_popcountll(fresh));
}

static void touch(emu_buffer *buffer, const unsigned char *p, uint32_t bytes) {
    buffer->touched = true;
    if (!buffer->touched_begin || p < buffer->touched_begin)
        buffer->touched_begin = p;
    if (p + bytes > buffer->touched_end)
        buffer->touched_end = p + bytes;
}

void emu_touch(emu_buffer *buffer, const unsigned char *p, uint32_t bytes, emu_access access) {
    touch(buffer, p, bytes);
    if (access == EMU_READ) {
        buffer->counts.loads++;
        buffer->counts.load_bytes += bytes;
        buffer->counts.first_load_bytes += mark(buffer, buffer->loaded, p, bytes);
    } else {
        buffer->counts.stores++;
        buffer->counts.store_bytes += bytes;
        buffer->counts.first_store_bytes += mark(buffer, buffer->stored, p, bytes);
        if (buffer->written)
            mark(buffer, buffer->written, p, bytes);
    }
}

void emu_touch_atomic(emu_buffer *buffer, const unsigned char *p, uint32_t bytes) {
    touch(buffer, p, bytes);
    buffer->counts.atomics++;
    mark(buffer, buffer->atomic, p, bytes);
    if (buffer->written)
        mark(buffer, buffer->written, p, bytes);
}

bool emu_counts(const char *name, emu_buffer_counts *counts) {
    emu_world &world = emu_here();
    auto former = world.former.find(name);
    if (former == world.former.end())
        return false;
    *counts = former->second;
    for (const emu_buffer *buffer : world.buffers)
        if (buffer->name == name)
            sum(counts, buffer->counts);
    return true;
}

/* What the first-level cache may show: lines that came in before the launch's first store. The
 * block's own stores update it. */
static void read_l1(emu_world &world, emu_block *block, unsigned char *out, const unsigned char *p,
                    uint32_t bytes) {
    emu_read_l2(block, out, p, bytes);
    if (world.options.coherent_l1)
        return;
    const emu_origin *origin = world.changed.find(world.changed.line_of(p));
    const emu_latest *own = block->own.find(block->own.line_of(p));
    const uint32_t at = reinterpret_cast<uintptr_t>(p) % EMU_LINE;
    for (uint32_t i = 0; origin && i < bytes; i++) {
        const uint32_t writer = origin->writer[at + i];
        if (writer && writer != block->id + 1 && !(own && own->entry[at + i]))
            out[i] = origin->before[at + i];
    }
}

static void check_constant(emu_world &world, emu_block *block, const emu_buffer *buffer,
                           const unsigned char *p, uint32_t bytes, const char *file, int line) {
    const emu_origin *origin = world.changed.find(world.changed.line_of(p));
    const emu_latest *own = block->own.find(block->own.line_of(p));
    const uint32_t at = reinterpret_cast<uintptr_t>(p) % EMU_LINE;
    for (uint32_t i = 0; i < bytes; i++)
        if ((origin && origin->writer[at + i]) || (own && own->entry[at + i]))
            emu_fault(EMU_READ_ONLY, file, line,
                      "cop_ld_nc at offset %zu of buffer %s, which this launch wrote",
                      static_cast<size_t>(p - buffer->base), buffer->name.c_str());
}

void emu_load(void *out, const void *p, uint32_t bytes, emu_load_path path, const char *file,
              int line) {
    emu_world &world = emu_here();
    if (world.options.switch_at_access)
        emu_yield("a load", file, line);
    const unsigned char *at = static_cast<const unsigned char *>(p);
    emu_buffer *buffer = emu_find(p, bytes, "load", file, line);
    if (reinterpret_cast<uintptr_t>(p) % bytes)
        emu_fault(EMU_MISALIGNED, file, line, "load of %u bytes at offset %zu of buffer %s", bytes,
                  static_cast<size_t>(at - buffer->base), buffer->name.c_str());
    emu_touch(buffer, at, bytes, EMU_READ);
    emu_block *block = emu_running()->owner;
    if (path == EMU_LOAD_CONSTANT)
        check_constant(world, block, buffer, at, bytes, file, line);
    if (path == EMU_LOAD_L2)
        emu_read_l2(block, static_cast<unsigned char *>(out), at, bytes);
    else
        read_l1(world, block, static_cast<unsigned char *>(out), at, bytes);
}
