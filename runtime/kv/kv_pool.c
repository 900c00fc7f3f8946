#include "kv/kv_internal.h"

#include "base/memory.h"

#include <string.h>

static uint32_t class_that_fits(uint32_t pages) {
    return pages <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(pages - 1);
}

static uint32_t class_pages_min(uint32_t size_class) {
    return size_class < 2 ? 1 : (1u << (size_class - 2)) + 1;
}

static cop_status size_classes(cop_kv *kv) {
    const uint32_t n_pages = kv->options.n_pages;
    uint64_t entries = 0;
    kv->n_classes = class_that_fits(n_pages) + 1;
    for (uint32_t k = 0; k < kv->n_classes; k++) {
        uint32_t count = n_pages / class_pages_min(k);
        if (count > kv->options.max_segments)
            count = kv->options.max_segments;
        kv->class_base[k] = (uint32_t)entries;
        kv->class_count[k] = count;
        entries += (uint64_t)count << k;
        if (entries > INT32_MAX)
            return COP_FAIL(COP_ERR_CONFIG,
                            "the page table of %u pages and %u segments would need more than 2^31 "
                            "entries; use larger pages or fewer segments",
                            n_pages, kv->options.max_segments);
    }
    kv->page_table_capacity = (uint32_t)entries;
    return COP_OK;
}

cop_status cop__pool_create(cop_kv *kv) {
    COP_TRY(size_classes(kv));
    uint32_t ranges = 0;
    for (uint32_t k = 0; k < kv->n_classes; k++)
        ranges += kv->class_count[k];
    kv->free_pages = cop_calloc(kv->options.n_pages, sizeof *kv->free_pages);
    kv->page_table = cop_calloc(kv->page_table_capacity, sizeof *kv->page_table);
    kv->class_free_storage = cop_calloc(ranges, sizeof *kv->class_free_storage);
    if (!kv->free_pages || !kv->page_table || !kv->class_free_storage)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the page table of %u pages",
                        kv->options.n_pages);

    memset(kv->page_table, 0xff, (size_t)kv->page_table_capacity * sizeof *kv->page_table);
    for (uint32_t i = 0; i < kv->options.n_pages; i++)
        kv->free_pages[i] = kv->options.n_pages - 1 - i;
    kv->n_free_pages = kv->options.n_pages;

    uint32_t *stack = kv->class_free_storage;
    for (uint32_t k = 0; k < kv->n_classes; k++) {
        const uint32_t count = kv->class_count[k];
        kv->class_free[k] = stack;
        kv->class_n_free[k] = count;
        for (uint32_t i = 0; i < count; i++)
            stack[i] = kv->class_base[k] + ((count - 1 - i) << k);
        stack += count;
    }
    return COP_OK;
}

void cop__pool_destroy(cop_kv *kv) {
    cop_free(kv->free_pages);
    cop_free(kv->page_table);
    cop_free(kv->class_free_storage);
}

static void range_release(cop_kv *kv, uint32_t segment) {
    cop__segment *state = &kv->segment_state[segment];
    if (state->size_class == COP__CLASS_NONE)
        return;
    const uint32_t k = state->size_class;
    const uint32_t offset = kv->segments[segment].page_table_offset;
    memset(kv->page_table + offset, 0xff, sizeof *kv->page_table << k);
    kv->class_free[k][kv->class_n_free[k]++] = offset;
    state->size_class = COP__CLASS_NONE;
    kv->segments[segment].page_table_offset = 0;
}

/* Moves the segment's `keep` first page numbers to a range of class k. */
static void range_move(cop_kv *kv, uint32_t segment, uint32_t k, uint32_t keep) {
    const uint32_t fresh = kv->class_free[k][--kv->class_n_free[k]];
    const uint32_t old = kv->segments[segment].page_table_offset;
    if (keep)
        memcpy(kv->page_table + fresh, kv->page_table + old, keep * sizeof *kv->page_table);
    cop__change_pages_end(kv, segment, 0);
    range_release(kv, segment);
    kv->segments[segment].page_table_offset = fresh;
    cop__change_segment(kv, segment);
    cop__change_pages(kv, segment, 0, keep);
    kv->segment_state[segment].size_class = k;
}

void cop__pool_grow(cop_kv *kv, uint32_t segment, uint32_t pages) {
    cop__segment *state = &kv->segment_state[segment];
    if (pages == state->pages)
        return;
    if (state->size_class == COP__CLASS_NONE || pages > 1u << state->size_class)
        range_move(kv, segment, class_that_fits(pages), state->pages);
    uint32_t *table = kv->page_table + kv->segments[segment].page_table_offset;
    cop__change_pages(kv, segment, state->pages, pages - state->pages);
    while (state->pages < pages)
        table[state->pages++] = kv->free_pages[--kv->n_free_pages];
}

void cop__pool_shrink(cop_kv *kv, uint32_t segment, uint32_t pages) {
    cop__segment *state = &kv->segment_state[segment];
    uint32_t *table = kv->page_table + kv->segments[segment].page_table_offset;
    while (state->pages > pages) {
        const uint32_t last = --state->pages;
        kv->free_pages[kv->n_free_pages++] = table[last];
        table[last] = COP_PAGE_NONE;
    }
    cop__change_pages_end(kv, segment, pages);
    if (pages == 0)
        range_release(kv, segment);
    else if (class_that_fits(pages) + 2 <= state->size_class)
        range_move(kv, segment, class_that_fits(pages), pages);
}
