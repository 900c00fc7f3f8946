#include "ref/kv_naive.h"

#include <stdlib.h>
#include <string.h>

static void *must(void *pointer) {
    if (!pointer)
        abort();
    return pointer;
}

kv_naive *kv_naive_create(uint32_t page_tokens, uint32_t n_pages, uint32_t max_segments,
                          uint32_t max_nodes, uint32_t chunk_tokens, uint32_t chunk_tail_tokens) {
    kv_naive *kv = must(calloc(1, sizeof *kv));
    kv->page_tokens = page_tokens;
    kv->n_pages = n_pages;
    kv->max_segments = max_segments;
    kv->max_nodes = max_nodes;
    kv->chunk_tokens = chunk_tokens;
    kv->chunk_tail_tokens = chunk_tail_tokens;
    kv->live_nodes = must(calloc(max_nodes, sizeof *kv->live_nodes));
    kv->live_segments = must(calloc(max_segments, sizeof *kv->live_segments));
    kv->nodes = must(calloc(16, sizeof *kv->nodes));
    kv->nodes_capacity = 16;
    kv->nodes[0] = (naive_node){.live = true};
    kv->n_nodes = 1;
    return kv;
}

void kv_naive_destroy(kv_naive *kv) {
    if (!kv)
        return;
    for (size_t i = 0; i < kv->n_segments; i++)
        free(kv->segments[i].ids);
    free(kv->segments);
    free(kv->nodes);
    free(kv->live_nodes);
    free(kv->live_segments);
    free(kv);
}

static uint32_t add_node(kv_naive *kv, uint32_t parent, uint32_t segment) {
    if (kv->n_nodes == kv->nodes_capacity) {
        kv->nodes_capacity *= 2;
        kv->nodes = must(realloc(kv->nodes, kv->nodes_capacity * sizeof *kv->nodes));
    }
    kv->nodes[kv->n_nodes] = (naive_node){.parent = parent, .segment = segment, .live = true};
    kv->live_nodes[kv->n_live_nodes++] = (uint32_t)kv->n_nodes;
    return (uint32_t)kv->n_nodes++;
}

static naive_segment *segment_of(const kv_naive *kv, uint32_t node) {
    return &kv->segments[kv->nodes[node].segment];
}

naive_result kv_naive_open(kv_naive *kv, uint32_t parent, uint32_t *out) {
    if (kv->n_live_nodes + 1 >= kv->max_nodes || kv->n_live_segments >= kv->max_segments)
        return NAIVE_NO_ROOM;
    if (kv->n_segments == kv->segments_capacity) {
        kv->segments_capacity = kv->segments_capacity ? 2 * kv->segments_capacity : 16;
        kv->segments = must(realloc(kv->segments, kv->segments_capacity * sizeof *kv->segments));
    }
    kv->segments[kv->n_segments] = (naive_segment){.open = true, .live = true};
    kv->live_segments[kv->n_live_segments++] = (uint32_t)kv->n_segments;
    *out = add_node(kv, parent, (uint32_t)kv->n_segments++);
    kv->nodes[*out].holders = 1;
    return NAIVE_OK;
}

static uint32_t pages_of(const kv_naive *kv, uint32_t tokens) {
    return tokens / kv->page_tokens + (tokens % kv->page_tokens != 0);
}

uint32_t kv_naive_pages(const kv_naive *kv) {
    uint32_t pages = 0;
    for (size_t i = 0; i < kv->n_live_segments; i++)
        pages += pages_of(kv, kv->segments[kv->live_segments[i]].tokens);
    return pages;
}

uint64_t kv_naive_tokens(const kv_naive *kv) {
    uint64_t tokens = 0;
    for (size_t i = 0; i < kv->n_live_segments; i++)
        tokens += kv->segments[kv->live_segments[i]].tokens;
    return tokens;
}

naive_result kv_naive_append(kv_naive *kv, uint32_t node, const uint32_t *ids, uint32_t n) {
    naive_segment *segment = segment_of(kv, node);
    const uint32_t more = pages_of(kv, segment->tokens + n) - pages_of(kv, segment->tokens);
    if (kv_naive_pages(kv) + more > kv->n_pages)
        return NAIVE_NO_PAGES;
    if (segment->tokens + n > segment->capacity) {
        segment->capacity = 2 * (segment->tokens + n);
        segment->ids = must(realloc(segment->ids, segment->capacity * sizeof *segment->ids));
    }
    if (n)
        memcpy(segment->ids + segment->tokens, ids, n * sizeof *ids);
    segment->tokens += n;
    return NAIVE_OK;
}

void kv_naive_retract(kv_naive *kv, uint32_t node, uint32_t n) {
    segment_of(kv, node)->tokens -= n;
}

void kv_naive_seal(kv_naive *kv, uint32_t node) {
    if (node)
        segment_of(kv, node)->open = false;
}

bool kv_naive_sealed(const kv_naive *kv, uint32_t node) {
    return node == 0 || !segment_of(kv, node)->open;
}

void kv_naive_retain(kv_naive *kv, uint32_t node) {
    if (node)
        kv->nodes[node].holders++;
}

void kv_naive_release(kv_naive *kv, uint32_t node) {
    if (node == 0)
        return;
    kv->nodes[node].holders--;
    for (size_t i = 0; i < kv->n_live_nodes; i++)
        kv->nodes[kv->live_nodes[i]].live = false;
    for (size_t i = 0; i < kv->n_live_segments; i++)
        kv->segments[kv->live_segments[i]].live = false;
    for (size_t i = 0; i < kv->n_live_nodes; i++) {
        uint32_t at = kv->live_nodes[i];
        if (kv->nodes[at].holders == 0)
            continue;
        for (; at != 0; at = kv->nodes[at].parent) {
            kv->nodes[at].live = true;
            segment_of(kv, at)->live = true;
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < kv->n_live_nodes; i++)
        if (kv->nodes[kv->live_nodes[i]].live)
            kv->live_nodes[kept++] = kv->live_nodes[i];
    kv->n_live_nodes = kept;
    kept = 0;
    for (size_t i = 0; i < kv->n_live_segments; i++)
        if (kv->segments[kv->live_segments[i]].live)
            kv->live_segments[kept++] = kv->live_segments[i];
    kv->n_live_segments = kept;
}

uint32_t kv_naive_view(const kv_naive *kv, uint32_t node, uint32_t **out) {
    uint32_t depth = 0;
    for (uint32_t at = node; at != 0; at = kv->nodes[at].parent)
        depth++;
    *out = must(calloc(depth + 1, sizeof **out));
    for (uint32_t i = depth; i-- > 0; node = kv->nodes[node].parent)
        (*out)[i] = node;
    return depth;
}

uint32_t kv_naive_children(const kv_naive *kv, uint32_t node, uint32_t **out) {
    uint32_t n = 0;
    *out = must(calloc(kv->n_live_nodes + 1, sizeof **out));
    for (size_t i = 0; i < kv->n_live_nodes; i++)
        if (kv->nodes[kv->live_nodes[i]].parent == node)
            (*out)[n++] = kv->live_nodes[i];
    return n;
}

/* Follows the segments of the wished view; with `create` makes what is missing. Returns how many
 * nodes were or would be made. */
static uint32_t follow(kv_naive *kv, uint32_t base, const uint32_t *segments, uint32_t n,
                       bool create, uint32_t *end) {
    uint32_t made = 0;
    uint32_t at = base;
    bool exists = true;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t next = 0;
        for (size_t j = 0; exists && j < kv->n_live_nodes; j++) {
            const naive_node *node = &kv->nodes[kv->live_nodes[j]];
            if (node->parent == at && node->segment == segments[i])
                next = kv->live_nodes[j];
        }
        if (next == 0) {
            made++;
            if (create)
                next = add_node(kv, at, segments[i]);
            else
                exists = false;
        }
        at = next;
    }
    *end = at;
    return made;
}

naive_result kv_naive_stitch(kv_naive *kv, uint32_t base, uint32_t below, const uint32_t *tail,
                             uint32_t n_tails, uint32_t *out) {
    uint32_t *wished = NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_tails; i++) {
        uint32_t *view;
        const uint32_t depth = kv_naive_view(kv, tail[i], &view);
        uint32_t from = 0;
        while (below != 0 && from < depth && view[from] != below)
            from++;
        from += below != 0;
        for (; from < depth; from++) {
            if (segment_of(kv, view[from])->tokens == 0)
                continue;
            wished = must(realloc(wished, (n + 1) * sizeof *wished));
            wished[n++] = kv->nodes[view[from]].segment;
        }
        free(view);
    }
    naive_result result = NAIVE_OK;
    uint32_t end;
    if (kv->n_live_nodes + 1 + follow(kv, base, wished, n, false, &end) > kv->max_nodes) {
        result = NAIVE_NO_ROOM;
    } else {
        follow(kv, base, wished, n, true, out);
        kv_naive_retain(kv, *out);
    }
    free(wished);
    return result;
}

void kv_naive_chunk_state(const kv_naive *kv, uint32_t node, uint32_t *chunk, uint32_t *fill) {
    uint32_t *view;
    const uint32_t depth = kv_naive_view(kv, node, &view);
    *chunk = *fill = 0;
    for (uint32_t i = 0; i + 1 < depth; i++) {
        const uint32_t tokens = segment_of(kv, view[i])->tokens;
        for (uint32_t first = 0; first < tokens; first += 64) {
            *fill += tokens - first < 64 ? tokens - first : 64;
            if (*fill >= kv->chunk_tokens) {
                *chunk += 1;
                *fill = 0;
            }
        }
        if (*fill > 0 && *fill >= kv->chunk_tail_tokens) {
            *chunk += 1;
            *fill = 0;
        }
    }
    free(view);
}
