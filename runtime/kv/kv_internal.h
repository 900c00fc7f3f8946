/* What the files of the KV bookkeeping share; the plan reads it too, nobody else does.
 *
 * kv.c         create, append, retract, seal, reading
 * kv_node.c    the trie of views: open, stitch, release
 * kv_pool.c    pages, and the contiguous range of page_table[] that each segment's pages stand in
 * kv_ahead.c   pages that open segments take ahead of need
 * kv_changes.c what changed since the last clear
 * kv_check.c   recounts everything
 *
 * A node lives while `holders + children` > 0; a segment while a node stands on it. `birth` numbers
 * nodes in order of creation, never repeats and is 0 while the index is free: it orders siblings
 * and tells a node from a later one with the same index.
 *
 * Page-table ranges come in size classes of 1, 2, 4, .. pages. A segment moves to the class that
 * fits when it grows out of its range, and down once it fills a quarter or less, so a range of
 * class k >= 2 always belongs to a segment with more than 2^(k-2) pages. Hence at most
 * n_pages / (2^(k-2) + 1) of them live at once (n_pages for classes 0 and 1), nor more than
 * max_segments: with so many set aside for each class, a range can never run out before the pages
 * do. The table's length is the sum over the classes, below 4 n_pages log2(n_pages) entries.
 */
#pragma once

#include "kv/kv.h"

enum { COP__CLASSES_MAX = 33, COP__CLASS_NONE = COP__CLASSES_MAX };

/* A view may not be longer: COP_TO_END and sums over a view stay representable. */
#define COP__VIEW_TOKENS_MAX (UINT32_MAX - 1)

typedef struct cop__node {
    uint64_t birth;
    cop_node parent, first_child, last_child, next_sibling, previous_sibling;
    cop_node hash_next;
    uint32_t segment;
    uint32_t holders, children;
    uint32_t depth, view_tokens, chunk, chunk_fill;
    int32_t shift; /* of a query that meets the segment here */
} cop__node;

typedef struct cop__segment {
    uint32_t nodes;           /* that stand on it; 0: free */
    uint32_t pages;           /* those ahead of its tokens included */
    uint32_t ahead, ahead_at; /* pages ahead; place in segments_ahead while there are any */
    uint32_t size_class;      /* COP__CLASS_NONE while it has no page */
    bool open;
    bool floats;   /* it counts as standing where a view has it: */
    int32_t begin; /* at this position, in a view that begins with it */
} cop__segment;

/* Both lists are sets: an element that says it stands at `at` does so only if the list agrees, so
 * clearing is a matter of the lengths. */
typedef struct cop__kv_changes {
    uint32_t *segments, n_segments;
    uint32_t *segment_at; /* [segment] its place in segments */
    cop_table_range *ranges;
    uint32_t *range_segment, n_ranges; /* whose pages a range lists */
    uint32_t *range_at;                /* [segment] */
    uint64_t cleared;                  /* the version when the lists were last cleared */
    bool all;
} cop__kv_changes;

struct cop_kv {
    cop_kv_options options;
    cop__kv_changes changes;
    uint64_t version; /* counts every change, here and in the tables of plans on this kv */

    cop_segment *segments; /* [max_segments] what backends read */
    cop__segment *segment_state;
    uint32_t *free_segments, n_free_segments;

    uint32_t *free_pages, n_free_pages, pages_peak;
    uint32_t n_open;                            /* segments */
    uint32_t *segments_ahead, n_segments_ahead; /* those that hold pages ahead */
    uint32_t n_pages_ahead;
    uint64_t given_back;
    uint32_t *page_table, page_table_capacity;
    uint32_t n_classes;
    uint32_t class_base[COP__CLASSES_MAX];  /* first entry of a class in page_table */
    uint32_t class_count[COP__CLASSES_MAX]; /* ranges of a class */
    uint32_t *class_free[COP__CLASSES_MAX]; /* stacks of free ranges, as page-table offsets */
    uint32_t class_n_free[COP__CLASSES_MAX];
    uint32_t *class_free_storage;

    cop__node *nodes; /* [max_nodes], 0 is the root */
    cop_node *free_nodes;
    uint32_t n_free_nodes;
    cop_node *hash; /* (parent, segment) -> node, chained */
    uint32_t hash_mask;
    uint64_t births;
    cop_node *path; /* scratch of stitch, [max_nodes] */

    uint64_t tokens_held;
    uint32_t *scratch;  /* of cop_kv_check */
    const char *misuse; /* the first call that broke the contract, for cop_kv_check */
    cop_node misuse_node;
};

static inline uint32_t cop__pages_for(const cop_kv *kv, uint64_t tokens) {
    return (uint32_t)((tokens + kv->options.page_tokens - 1) / kv->options.page_tokens);
}

static inline bool cop__node_live(const cop_kv *kv, cop_node node) {
    return node < kv->options.max_nodes && kv->nodes[node].birth != 0;
}

static inline bool cop__node_sealed(const cop_kv *kv, cop_node node) {
    return node == 0 || !kv->segment_state[kv->nodes[node].segment].open;
}

static inline uint32_t cop__node_tokens(const cop_kv *kv, cop_node node) {
    return node == 0 ? 0 : kv->segments[kv->nodes[node].segment].tokens;
}

/* The chunk rule in closed form. Offsets of a segment that starts with `fill` tokens in chunk
 * `chunk`: its first `cop__chunk_head` tokens belong to `chunk`, then each C tokens to the next. */
static inline uint32_t cop__chunk_head(const cop_kv *kv, uint32_t fill) {
    const uint32_t missing = kv->options.chunk_tokens - fill;
    return (missing + COP_LEAF_TOKENS - 1) / COP_LEAF_TOKENS * COP_LEAF_TOKENS;
}

/* Chunk of the token at `offset` of the node's segment. */
static inline uint32_t cop__chunk_of(const cop_kv *kv, cop_node node, uint32_t offset) {
    const cop__node *n = &kv->nodes[node];
    const uint32_t head = cop__chunk_head(kv, n->chunk_fill);
    return offset < head ? n->chunk : n->chunk + 1 + (offset - head) / kv->options.chunk_tokens;
}

/* Tokens that the node's segment may have while its last one stays in the chunk that it is in with
 * so many; without any, in its first. */
static inline uint64_t cop__chunk_room(const cop_kv *kv, cop_node node, uint32_t tokens) {
    const uint32_t head = cop__chunk_head(kv, kv->nodes[node].chunk_fill);
    const uint64_t chunk = kv->options.chunk_tokens;
    return tokens <= head ? head : head + (tokens - head + chunk - 1) / chunk * chunk;
}

/* Chunks of the view that ends with the first `tokens` tokens of the node's segment. */
static inline uint32_t cop__chunks_of_view(const cop_kv *kv, cop_node node, uint32_t tokens) {
    const cop__node *n = &kv->nodes[node];
    return tokens ? cop__chunk_of(kv, node, tokens - 1) + 1 : n->chunk + (n->chunk_fill > 0);
}

/* An open segment will not grow any more. */
void cop__segment_close(cop_kv *kv, uint32_t segment);

cop_status cop__pool_create(cop_kv *kv);
void cop__pool_destroy(cop_kv *kv);
/* Gives the segment pages up to `pages`, which are free. Cannot fail. */
void cop__pool_grow(cop_kv *kv, uint32_t segment, uint32_t pages);
void cop__pool_shrink(cop_kv *kv, uint32_t segment, uint32_t pages);

/* Makes room for so many pages of the segment, for which there are enough; `most`: what it may take
 * ahead as well. */
void cop__ahead_grow(cop_kv *kv, uint32_t segment, uint32_t pages, uint32_t most);
/* The segment needs so many of its pages and may keep up to `most`. */
void cop__ahead_keep(cop_kv *kv, uint32_t segment, uint32_t pages, uint32_t most);

cop_status cop__changes_create(cop_kv *kv);
void cop__changes_destroy(cop_kv *kv);
void cop__change_segment(cop_kv *kv, uint32_t segment); /* its offset or length */
/* Of the segment's words in the page table, n from the one of page `first` on were written. */
void cop__change_pages(cop_kv *kv, uint32_t segment, uint32_t first, uint32_t n);
/* Its words from that of page `pages` on are nobody's any more; called while it stands there. */
void cop__change_pages_end(cop_kv *kv, uint32_t segment, uint32_t pages);

/* The node over `segment` under `parent`, or COP_NODE_NONE. */
cop_node cop__node_find(const cop_kv *kv, cop_node parent, uint32_t segment);

void cop__misuse(cop_kv *kv, const char *what, cop_node node);
