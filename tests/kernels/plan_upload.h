/* A plan's tables on their way to the emulated device. Included by the attention kernels' tests. */
#pragma once

#include "check.h"
#include "emulate/emulate.h"
#include "kernels/tables.h"

static inline void *upload(const void *from, size_t bytes, const char *name) {
    void *p = emu_alloc(bytes ? bytes : 16, name, EMU_INPUT);
    CHECK(p);
    if (bytes)
        memcpy(p, from, bytes);
    return p;
}

/* Entries and limits that the items reach: the tables do not say how long they are. */
static inline uint32_t table_entries(const cop_plan_tables *p, uint32_t *n_limits) {
    uint32_t n = 0;
    *n_limits = 0;
    for (uint32_t i = 0; i < p->n_items; i++) {
        const uint32_t end = p->items[i].first_entry + p->items[i].n_entries;
        n = end > n ? end : n;
        for (uint32_t e = p->items[i].first_entry; e < end; e++) {
            const uint32_t slots = p->tiles[p->items[i].tile].n_slots;
            if (p->entries[e].limits >= 0 && (uint32_t)p->entries[e].limits + slots > *n_limits)
                *n_limits = (uint32_t)p->entries[e].limits + slots;
        }
    }
    return n;
}
