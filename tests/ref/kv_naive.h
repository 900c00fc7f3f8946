/* The KV bookkeeping as plainly as it can be said, for tests: a node is a struct that is never
 * reused, a segment is the list of its token ids, what lives is found by marking from the holders,
 * and pages are only a count. Shares no code with runtime/kv. Slow, and meant to be.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum naive_result { NAIVE_OK, NAIVE_NO_PAGES, NAIVE_NO_ROOM } naive_result;

typedef struct naive_segment {
    uint32_t *ids;
    uint32_t tokens, capacity;
    bool open, live;
} naive_segment;

typedef struct naive_node {
    uint32_t parent, segment; /* indices; node 0 is the root */
    uint32_t holders;
    bool live;
} naive_node;

typedef struct kv_naive {
    uint32_t page_tokens, n_pages, max_segments, max_nodes, chunk_tokens, chunk_tail_tokens;
    naive_node *nodes;
    naive_segment *segments;
    size_t n_nodes, nodes_capacity, n_segments, segments_capacity;
    uint32_t *live_nodes, *live_segments; /* in order of creation, the root not among them */
    size_t n_live_nodes, n_live_segments;
} kv_naive;

kv_naive *kv_naive_create(uint32_t page_tokens, uint32_t n_pages, uint32_t max_segments,
                          uint32_t max_nodes, uint32_t chunk_tokens, uint32_t chunk_tail_tokens);
void kv_naive_destroy(kv_naive *kv);

naive_result kv_naive_open(kv_naive *kv, uint32_t parent, uint32_t *out);
naive_result kv_naive_append(kv_naive *kv, uint32_t node, const uint32_t *ids, uint32_t n);
void kv_naive_retract(kv_naive *kv, uint32_t node, uint32_t n);
void kv_naive_seal(kv_naive *kv, uint32_t node);
naive_result kv_naive_stitch(kv_naive *kv, uint32_t base, uint32_t below, const uint32_t *tail,
                             uint32_t n_tails, uint32_t *out);
void kv_naive_retain(kv_naive *kv, uint32_t node);
void kv_naive_release(kv_naive *kv, uint32_t node);

uint32_t kv_naive_pages(const kv_naive *kv);
uint64_t kv_naive_tokens(const kv_naive *kv);
bool kv_naive_sealed(const kv_naive *kv, uint32_t node);
/* The nodes from below the root down to `node`; the caller frees *out. */
uint32_t kv_naive_view(const kv_naive *kv, uint32_t node, uint32_t **out);
/* The children of `node` in order of creation; the caller frees *out. */
uint32_t kv_naive_children(const kv_naive *kv, uint32_t node, uint32_t **out);
/* Leaf by leaf through everything above `node`, whose segment follows. */
void kv_naive_chunk_state(const kv_naive *kv, uint32_t node, uint32_t *chunk, uint32_t *fill);
