/* The normal form of one row straight from its view, leaf by leaf, with the chunk rule as plan.h
 * states it. Knows nothing of tiles, tries or the kv.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kv/plan.h"

typedef struct naive_part { /* one segment of the view, as much of it as the row sees */
    uint32_t segment, tokens;
} naive_part;

/* Writes up to `capacity` spans of the row; returns how many there are. */
size_t plan_naive_row(int32_t row, const naive_part *parts, size_t n_parts, uint32_t chunk_tokens,
                      uint32_t chunk_tail_tokens, cop_plan_span *out, size_t capacity);
