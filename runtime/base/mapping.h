/* Large memory on huge pages: walks over small ones miss the TLB at every tile. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct cop_mapping {
    void *start; /* aligned to 2 MiB, zeroed when it is first touched; NULL: nothing is mapped */
    void *whole; /* what the system gave: a huge page longer, so that `start` can be aligned */
    size_t bytes, whole_bytes;
} cop_mapping;

/* False when it cannot be had, with *out zeroed. Not counted by cop_memory_count(). Under ASan an
 * access before or behind the bytes is an error, as it is with memory from the heap. */
bool cop_mapping_create(size_t bytes, cop_mapping *out);
void cop_mapping_destroy(cop_mapping *mapping); /* zeroed, it is fine */
