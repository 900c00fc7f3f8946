#include "base/mapping.h"

#include <stdint.h>
#include <sys/mman.h>

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#endif

static const size_t HUGE_PAGE_BYTES = (size_t)2 << 20;

bool cop_mapping_create(size_t bytes, cop_mapping *out) {
    *out = (cop_mapping){0};
    if (bytes > PTRDIFF_MAX - 2 * HUGE_PAGE_BYTES)
        return false;
    /* Two red zones of at least 64 bytes, whatever the alignment takes. */
    const size_t whole_bytes = bytes + HUGE_PAGE_BYTES + 64;
    char *whole = mmap(NULL, whole_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (whole == MAP_FAILED)
        return false;
    const size_t before = HUGE_PAGE_BYTES - (uintptr_t)whole % HUGE_PAGE_BYTES;
    char *start = whole + before;
    if (bytes >= HUGE_PAGE_BYTES)
        (void)madvise(start, bytes, MADV_HUGEPAGE); /* only a hint: small pages work too */
    ASAN_POISON_MEMORY_REGION(whole, before);
    ASAN_POISON_MEMORY_REGION(start + bytes, whole_bytes - before - bytes);
    *out = (cop_mapping){start, whole, bytes, whole_bytes};
    return true;
}

void cop_mapping_destroy(cop_mapping *mapping) {
    if (!mapping->whole)
        return;
    ASAN_UNPOISON_MEMORY_REGION(mapping->whole, mapping->whole_bytes);
    munmap(mapping->whole, mapping->whole_bytes);
    *mapping = (cop_mapping){0};
}
