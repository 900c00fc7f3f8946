#include "ref/plan_naive.h"

size_t plan_naive_row(int32_t row, const naive_part *parts, size_t n_parts, uint32_t chunk_tokens,
                      uint32_t chunk_tail_tokens, cop_plan_span *out, size_t capacity) {
    uint32_t chunk = 0, held = 0;
    size_t n = 0;
    for (size_t i = 0; i < n_parts; i++) {
        uint32_t span_chunk = UINT32_MAX; /* of the span that grows */
        for (uint32_t first = 0; first < parts[i].tokens; first += COP_LEAF_TOKENS) {
            const uint32_t left = parts[i].tokens - first;
            const uint32_t leaf = left < COP_LEAF_TOKENS ? left : COP_LEAF_TOKENS;
            if (span_chunk != chunk) {
                span_chunk = chunk;
                if (n++ < capacity)
                    out[n - 1] = (cop_plan_span){row, parts[i].segment, first, 0, chunk};
            }
            if (n <= capacity)
                out[n - 1].tokens += leaf;
            held += leaf;
            if (held >= chunk_tokens) {
                chunk++;
                held = 0;
            }
        }
        if (i + 1 < n_parts && held > 0 && held >= chunk_tail_tokens) {
            chunk++;
            held = 0;
        }
    }
    return n;
}
