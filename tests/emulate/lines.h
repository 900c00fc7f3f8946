/* A hash table from 32-byte lines of memory to T: open addressing, no removal, cleared as a whole.
 * Values stay where they are until the table grows; a pointer does not outlive the next `at`. */
#pragma once

#include <cstdint>
#include <vector>

enum { EMU_LINE = 32 };

template <typename T> class emu_lines {
    struct slot {
        uintptr_t line; /* 0: free; no buffer lies there */
        T value;
    };
    std::vector<slot> slots;
    size_t used = 0;

    static size_t hash(uintptr_t line) {
        return static_cast<size_t>((line / EMU_LINE) * 0x9e3779b97f4a7c15ull >> 20);
    }
    slot &probe(uintptr_t line) {
        size_t i = hash(line) & (slots.size() - 1);
        while (slots[i].line && slots[i].line != line)
            i = (i + 1) & (slots.size() - 1);
        return slots[i];
    }
    void grow() {
        std::vector<slot> old;
        old.swap(slots);
        slots.resize(old.empty() ? 64 : old.size() * 2);
        for (slot &s : old)
            if (s.line)
                probe(s.line) = s;
    }

  public:
    bool empty() const {
        return used == 0;
    }
    static uintptr_t line_of(const void *p) {
        return reinterpret_cast<uintptr_t>(p) & ~static_cast<uintptr_t>(EMU_LINE - 1);
    }
    T *find(uintptr_t line) {
        if (used == 0)
            return nullptr;
        slot &s = probe(line);
        return s.line ? &s.value : nullptr;
    }
    /* Found, or made of zeros; `fresh` tells. */
    T &at(uintptr_t line, bool *fresh) {
        if (used * 2 >= slots.size())
            grow();
        slot &s = probe(line);
        *fresh = s.line == 0;
        if (*fresh) {
            s.line = line;
            s.value = T{};
            used++;
        }
        return s.value;
    }
    void clear() {
        if (used == 0)
            return;
        if (slots.size() > 4096)
            std::vector<slot>().swap(slots);
        else
            for (slot &s : slots)
                s.line = 0;
        used = 0;
    }
};
