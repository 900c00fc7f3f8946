/* Allocation that is counted, checked for overflow and, where vectors run over it, aligned.
 *
 * cop_memory_count() is the number of allocations made through this module by the whole process
 * so far: the step loop reads it before and after and reports the difference, which must be 0.
 * All functions may be called from any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Zeroed memory for count elements of size bytes; NULL when it cannot be had or the product wraps.
 * 64-byte aligned. Free with cop_free. */
void *cop_calloc(size_t count, size_t size);
void cop_free(void *pointer); /* NULL is fine */

/* Grows *array (elements of `size` bytes, from cop_calloc or NULL) so that it holds at least
 * `need` elements; *capacity is in elements. New elements are zero. On failure nothing changes. */
cop_status cop_grow(void *array, size_t *capacity, size_t need, size_t size);

uint64_t cop_memory_count(void);

/* A bump arena: everything lives until the arena is destroyed. Not thread-safe. */
typedef struct cop_arena cop_arena;
cop_status cop_arena_create(cop_arena **out);
void cop_arena_destroy(cop_arena *arena);
void *cop_arena_calloc(cop_arena *arena, size_t count, size_t size); /* zeroed; NULL on failure */
char *cop_arena_strndup(cop_arena *arena, const char *text, size_t bytes);

/* A growable byte string, always NUL-terminated when non-empty. Zero-initialise to create. */
typedef struct cop_buffer {
    char *data;
    size_t bytes;
    size_t capacity;
} cop_buffer;
cop_status cop_buffer_append(cop_buffer *buffer, const void *data, size_t bytes);
cop_status cop_buffer_printf(cop_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cop_buffer_release(cop_buffer *buffer);
