/* Which bytes of a buffer were ever written, and which the last launch touched: for a stand-in of
 * the runtime, which must tell what kernels did to memory. */
#include "emulate/world.h"

#include <sys/mman.h>

#include <algorithm>

static uintptr_t origin_of(const emu_buffer *buffer) { /* of the bitmaps */
    return reinterpret_cast<uintptr_t>(buffer->base) & ~63ull;
}

static emu_buffer *buffer_at(const void *p) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(p);
    const std::vector<emu_buffer *> &buffers = emu_here().buffers;
    const auto found = std::upper_bound(
        buffers.begin(), buffers.end(), at, [](uintptr_t address, const emu_buffer *buffer) {
            return address < reinterpret_cast<uintptr_t>(buffer->base) + buffer->bytes;
        });
    const bool inside = found != buffers.end() && reinterpret_cast<uintptr_t>((*found)->base) <= at;
    return inside ? *found : nullptr;
}

bool emu_remember_written(const void *p) {
    emu_buffer *buffer = buffer_at(p);
    if (!buffer || buffer->written)
        return buffer != nullptr;
    void *bits = mmap(nullptr, emu_bitmap_bytes(buffer), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (bits != MAP_FAILED)
        buffer->written = static_cast<uint64_t *>(bits);
    return bits != MAP_FAILED;
}

static uint64_t mask_of(uint64_t word, uint64_t begin, uint64_t end) {
    uint64_t mask = ~0ull;
    if (word == begin / 64)
        mask &= ~0ull << begin % 64;
    if (word == (end - 1) / 64)
        mask &= ~0ull >> (63 - (end - 1) % 64);
    return mask;
}

void emu_mark_written(const void *p, size_t bytes) {
    const emu_buffer *buffer = buffer_at(p);
    if (!buffer || !buffer->written || bytes == 0)
        return;
    const uint64_t begin = reinterpret_cast<uintptr_t>(p) - origin_of(buffer), end = begin + bytes;
    for (uint64_t word = begin / 64; word <= (end - 1) / 64; word++)
        buffer->written[word] |= mask_of(word, begin, end);
}

size_t emu_written(const void *p, size_t bytes) {
    const emu_buffer *buffer = buffer_at(p);
    if (!buffer || !buffer->written || bytes == 0)
        return bytes;
    const uint64_t begin = reinterpret_cast<uintptr_t>(p) - origin_of(buffer), end = begin + bytes;
    for (uint64_t word = begin / 64; word <= (end - 1) / 64; word++) {
        const uint64_t missing = mask_of(word, begin, end) & ~buffer->written[word];
        if (missing)
            return word * 64 + static_cast<uint64_t>(__builtin_ctzll(missing)) - begin;
    }
    return bytes;
}

/* Joins the bits of a word to the runs before it: a run ends where its kind of access does. */
struct run_visitor {
    emu_touched_visit *visit;
    void *user;
    uintptr_t begin = 0, end = 0;
    bool written = false;

    void flush() {
        if (end > begin)
            visit(user, reinterpret_cast<const void *>(begin), end - begin, written);
        begin = end = 0;
    }
    void add(uintptr_t at, uint64_t bits, bool write) {
        while (bits) {
            const uint32_t skip = static_cast<uint32_t>(__builtin_ctzll(bits));
            const uint64_t rest = ~(bits >> skip);
            const uint32_t n = rest ? static_cast<uint32_t>(__builtin_ctzll(rest)) : 64;
            if (end != at + skip || written != write) {
                flush();
                begin = at + skip;
                written = write;
            }
            end = at + skip + n;
            bits = skip + n >= 64 ? 0 : bits & ~0ull << (skip + n);
        }
    }
};

static uint64_t word_of(const uint64_t *bits, size_t i) {
    return bits ? bits[i] : 0;
}

void emu_touched(emu_touched_visit *visit, void *user) {
    for (const emu_buffer *buffer : emu_here().buffers) {
        if (!buffer->touched)
            continue;
        const uintptr_t origin = origin_of(buffer);
        const size_t first = (reinterpret_cast<uintptr_t>(buffer->touched_begin) - origin) / 64;
        const size_t last = (reinterpret_cast<uintptr_t>(buffer->touched_end) - 1 - origin) / 64;
        run_visitor writes{visit, user}, reads{visit, user};
        for (size_t i = first; i <= last; i++)
            writes.add(origin + i * 64, word_of(buffer->stored, i) | word_of(buffer->atomic, i),
                       true);
        writes.flush();
        for (size_t i = first; i <= last; i++)
            reads.add(origin + i * 64,
                      word_of(buffer->loaded, i) & ~word_of(buffer->stored, i) &
                          ~word_of(buffer->atomic, i),
                      false);
        reads.flush();
    }
}
