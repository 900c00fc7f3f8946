#include "base/memory.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64, ARENA_BLOCK_BYTES = 64 * 1024 };

static atomic_uint_fast64_t allocations;

void *cop_calloc(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > PTRDIFF_MAX - ALIGNMENT)
        return NULL;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *pointer = aligned_alloc(ALIGNMENT, bytes ? bytes : ALIGNMENT);
    if (!pointer)
        return NULL;
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return memset(pointer, 0, bytes);
}

void cop_free(void *pointer) {
    free(pointer);
}

uint64_t cop_memory_count(void) {
    return atomic_load_explicit(&allocations, memory_order_relaxed);
}

cop_status cop_grow(void *array, size_t *capacity, size_t need, size_t size) {
    if (need <= *capacity)
        return COP_OK;
    size_t grown = *capacity ? *capacity : 16;
    while (grown < need) {
        if (__builtin_mul_overflow(grown, (size_t)2, &grown))
            return COP_FAIL(COP_ERR_NO_MEMORY, "an array of %zu elements cannot be held", need);
    }
    void *old;
    memcpy(&old, array, sizeof old);
    void *fresh = cop_calloc(grown, size);
    if (!fresh)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %zu elements of %zu bytes", grown, size);
    if (old)
        memcpy(fresh, old, *capacity * size);
    cop_free(old);
    memcpy(array, &fresh, sizeof fresh);
    *capacity = grown;
    return COP_OK;
}

typedef struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t bytes;
} arena_block;

enum { BLOCK_HEADER_BYTES = (sizeof(arena_block) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT };

struct cop_arena {
    arena_block *head;
};

cop_status cop_arena_create(cop_arena **out) {
    *out = cop_calloc(1, sizeof **out);
    return *out ? COP_OK : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for an arena");
}

void cop_arena_destroy(cop_arena *arena) {
    if (!arena)
        return;
    for (arena_block *block = arena->head, *next; block; block = next) {
        next = block->next;
        cop_free(block);
    }
    cop_free(arena);
}

void *cop_arena_calloc(cop_arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > PTRDIFF_MAX / 2)
        return NULL;
    bytes = (bytes + 15) / 16 * 16;
    arena_block *block = arena->head;
    if (!block || block->bytes - block->used < bytes) {
        size_t room = bytes > ARENA_BLOCK_BYTES ? bytes : ARENA_BLOCK_BYTES;
        block = cop_calloc(1, BLOCK_HEADER_BYTES + room);
        if (!block)
            return NULL;
        block->bytes = room;
        block->next = arena->head;
        arena->head = block;
    }
    void *pointer = (char *)block + BLOCK_HEADER_BYTES + block->used;
    block->used += bytes;
    return pointer;
}

char *cop_arena_strndup(cop_arena *arena, const char *text, size_t bytes) {
    char *copy = cop_arena_calloc(arena, bytes + 1, 1);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

cop_status cop_buffer_append(cop_buffer *buffer, const void *data, size_t bytes) {
    if (bytes == 0)
        return COP_OK;
    COP_TRY(cop_grow(&buffer->data, &buffer->capacity, buffer->bytes + bytes + 1, 1));
    memcpy(buffer->data + buffer->bytes, data, bytes);
    buffer->bytes += bytes;
    buffer->data[buffer->bytes] = '\0';
    return COP_OK;
}

cop_status cop_buffer_printf(cop_buffer *buffer, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    cop_status status =
        need < 0 ? COP_FAIL(COP_ERR_INTERNAL, "cannot format %s", format)
                 : cop_grow(&buffer->data, &buffer->capacity, buffer->bytes + (size_t)need + 1, 1);
    if (status == COP_OK) {
        vsnprintf(buffer->data + buffer->bytes, (size_t)need + 1, format, again);
        buffer->bytes += (size_t)need;
    }
    va_end(again);
    return status;
}

void cop_buffer_release(cop_buffer *buffer) {
    cop_free(buffer->data);
    *buffer = (cop_buffer){0};
}
