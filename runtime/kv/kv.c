#include "kv/kv.h"

#include "base/memory.h"
#include "kv/kv_internal.h"

#include <string.h>

static cop_status options_check(const cop_kv_options *options) {
    if (options->page_tokens != 16 && options->page_tokens != 32 && options->page_tokens != 64)
        return COP_FAIL(COP_ERR_CONFIG, "page_tokens is %u; it must be 16, 32 or 64",
                        options->page_tokens);
    if (options->n_pages == 0 || options->n_pages > INT32_MAX / options->page_tokens)
        return COP_FAIL(COP_ERR_CONFIG, "n_pages is %u; a pool holds 1 to 2^31 tokens",
                        options->n_pages);
    if (options->max_segments == 0 || options->max_segments > INT32_MAX)
        return COP_FAIL(COP_ERR_CONFIG, "max_segments is %u; it must be 1 to 2^31 - 1",
                        options->max_segments);
    if (options->max_nodes < 2 || options->max_nodes > INT32_MAX / 2)
        return COP_FAIL(COP_ERR_CONFIG, "max_nodes is %u; it must be 2 (the root is one) to 2^30",
                        options->max_nodes);
    if (options->chunk_tokens == 0 || options->chunk_tokens % COP_LEAF_TOKENS != 0 ||
        options->chunk_tokens > INT32_MAX)
        return COP_FAIL(COP_ERR_CONFIG, "chunk_tokens is %u; it must be a multiple of %d",
                        options->chunk_tokens, COP_LEAF_TOKENS);
    if (options->chunk_tail_tokens % COP_LEAF_TOKENS != 0)
        return COP_FAIL(COP_ERR_CONFIG, "chunk_tail_tokens is %u; it must be a multiple of %d",
                        options->chunk_tail_tokens, COP_LEAF_TOKENS);
    return COP_OK;
}

static uint32_t max3(uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t ab = a > b ? a : b;
    return ab > c ? ab : c;
}

static cop_status tables_create(cop_kv *kv) {
    const cop_kv_options *o = &kv->options;
    uint32_t buckets = 2;
    while (buckets < o->max_nodes)
        buckets *= 2;
    kv->hash_mask = buckets - 1;
    kv->segments = cop_calloc(o->max_segments, sizeof *kv->segments);
    kv->segment_state = cop_calloc(o->max_segments, sizeof *kv->segment_state);
    kv->segments_ahead = cop_calloc(o->max_segments, sizeof *kv->segments_ahead);
    kv->free_segments = cop_calloc(o->max_segments, sizeof *kv->free_segments);
    kv->nodes = cop_calloc(o->max_nodes, sizeof *kv->nodes);
    kv->free_nodes = cop_calloc(o->max_nodes, sizeof *kv->free_nodes);
    kv->path = cop_calloc(o->max_nodes, sizeof *kv->path);
    kv->hash = cop_calloc(buckets, sizeof *kv->hash);
    kv->scratch = cop_calloc(max3(o->n_pages, o->max_nodes, o->max_segments), sizeof *kv->scratch);
    if (!kv->segments || !kv->segment_state || !kv->segments_ahead || !kv->free_segments ||
        !kv->nodes || !kv->free_nodes || !kv->path || !kv->hash || !kv->scratch)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u segments and %u view nodes",
                        o->max_segments, o->max_nodes);
    return COP_OK;
}

cop_status cop_kv_create(const cop_kv_options *options, cop_kv **out) {
    *out = NULL;
    COP_TRY(options_check(options));
    cop_kv *kv = cop_calloc(1, sizeof *kv);
    if (!kv)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the KV bookkeeping");
    kv->options = *options;
    cop_status status = tables_create(kv);
    if (status == COP_OK)
        status = cop__pool_create(kv);
    if (status == COP_OK)
        status = cop__changes_create(kv);
    if (status != COP_OK) {
        cop_kv_destroy(kv);
        return status;
    }

    memset(kv->hash, 0xff, ((size_t)kv->hash_mask + 1) * sizeof *kv->hash);
    for (uint32_t i = 0; i < options->max_segments; i++) {
        kv->free_segments[i] = options->max_segments - 1 - i;
        kv->segment_state[i].size_class = COP__CLASS_NONE;
    }
    kv->n_free_segments = options->max_segments;
    for (uint32_t i = 0; i + 1 < options->max_nodes; i++)
        kv->free_nodes[i] = options->max_nodes - 1 - i;
    kv->n_free_nodes = options->max_nodes - 1;
    kv->nodes[0] = (cop__node){
        .birth = ++kv->births,
        .parent = COP_NODE_NONE,
        .first_child = COP_NODE_NONE,
        .last_child = COP_NODE_NONE,
        .next_sibling = COP_NODE_NONE,
        .previous_sibling = COP_NODE_NONE,
        .segment = COP_SEGMENT_NONE,
    };
    *out = kv;
    return COP_OK;
}

void cop_kv_destroy(cop_kv *kv) {
    if (!kv)
        return;
    cop__pool_destroy(kv);
    cop__changes_destroy(kv);
    cop_free(kv->segments);
    cop_free(kv->segment_state);
    cop_free(kv->segments_ahead);
    cop_free(kv->free_segments);
    cop_free(kv->nodes);
    cop_free(kv->free_nodes);
    cop_free(kv->path);
    cop_free(kv->hash);
    cop_free(kv->scratch);
    cop_free(kv);
}

cop_node cop_kv_root(const cop_kv *kv) {
    (void)kv;
    return 0;
}

static cop_status open_node_check(const cop_kv *kv, cop_node node, const char *what) {
    if (node == 0 || !cop__node_live(kv, node))
        return COP_FAIL(COP_ERR_INTERNAL, "kv %s: node %u does not exist", what, node);
    if (cop__node_sealed(kv, node))
        return COP_FAIL(COP_ERR_INTERNAL, "kv %s: node %u is sealed", what, node);
    return COP_OK;
}

/* Pages that the node's segment may hold with so many tokens, those up to its chunk's end ahead. */
static uint32_t pages_ahead_most(const cop_kv *kv, cop_node node, uint32_t tokens) {
    if (!kv->options.pages_ahead || tokens == 0)
        return 0;
    const uint64_t pages =
        (cop__chunk_room(kv, node, tokens) + kv->options.page_tokens - 1) / kv->options.page_tokens;
    return pages < kv->options.n_pages ? (uint32_t)pages : kv->options.n_pages;
}

cop_status cop_kv_append(cop_kv *kv, cop_node node, uint32_t tokens) {
    COP_TRY(open_node_check(kv, node, "append"));
    const uint32_t segment = kv->nodes[node].segment;
    const uint64_t length = (uint64_t)kv->segments[segment].tokens + tokens;
    const cop__segment *state = &kv->segment_state[segment];
    const uint32_t free = kv->n_free_pages + kv->n_pages_ahead;
    const uint64_t need = (length + kv->options.page_tokens - 1) / kv->options.page_tokens -
                          (state->pages - state->ahead);
    if (need > free)
        return COP_FAIL(COP_ERR_NO_PAGES, "need %llu pages, %u of %u are free",
                        (unsigned long long)need, free, kv->options.n_pages);
    if (kv->nodes[node].view_tokens + length > COP__VIEW_TOKENS_MAX)
        return COP_FAIL(COP_ERR_NO_ROOM, "a view would hold more than 2^32 tokens");
    if (need)
        cop__ahead_grow(kv, segment, cop__pages_for(kv, length),
                        pages_ahead_most(kv, node, (uint32_t)length));
    kv->segments[segment].tokens = (uint32_t)length;
    if (tokens)
        cop__change_segment(kv, segment);
    kv->tokens_held += tokens;
    return COP_OK;
}

cop_status cop_kv_retract(cop_kv *kv, cop_node node, uint32_t tokens) {
    COP_TRY(open_node_check(kv, node, "retract"));
    const uint32_t segment = kv->nodes[node].segment;
    if (tokens > kv->segments[segment].tokens)
        return COP_FAIL(COP_ERR_INTERNAL, "kv retract: %u tokens from a segment of %u", tokens,
                        kv->segments[segment].tokens);
    kv->segments[segment].tokens -= tokens;
    if (tokens)
        cop__change_segment(kv, segment);
    kv->tokens_held -= tokens;
    const uint32_t left = kv->segments[segment].tokens;
    cop__ahead_keep(kv, segment, cop__pages_for(kv, left), pages_ahead_most(kv, node, left));
    return COP_OK;
}

void cop__segment_close(cop_kv *kv, uint32_t segment) {
    const uint32_t pages = cop__pages_for(kv, kv->segments[segment].tokens);
    cop__ahead_keep(kv, segment, pages, pages);
    kv->segment_state[segment].open = false;
    kv->n_open--;
}

void cop_kv_seal(cop_kv *kv, cop_node node) {
    if (!cop__node_live(kv, node))
        cop__misuse(kv, "seal of a node that does not exist", node);
    else if (!cop__node_sealed(kv, node))
        cop__segment_close(kv, kv->nodes[node].segment);
}

cop_node_info cop_kv_node(const cop_kv *kv, cop_node node) {
    const cop__node *n = &kv->nodes[node];
    return (cop_node_info){
        .parent = n->parent,
        .segment = n->segment,
        .depth = n->depth,
        .view_tokens = n->view_tokens,
        .chunk = n->chunk,
        .chunk_fill = n->chunk_fill,
        .sealed = cop__node_sealed(kv, node),
    };
}

uint32_t cop_kv_own_tokens(const cop_kv *kv, cop_node node) {
    return cop__node_tokens(kv, node);
}

uint32_t cop_kv_view_tokens(const cop_kv *kv, cop_node node) {
    return kv->nodes[node].view_tokens + cop__node_tokens(kv, node);
}

const cop_segment *cop_kv_segments(const cop_kv *kv) {
    return kv->segments;
}

const uint32_t *cop_kv_page_table(const cop_kv *kv) {
    return kv->page_table;
}

uint32_t cop_kv_page_table_capacity(const cop_kv *kv) {
    return kv->page_table_capacity;
}

cop_node cop_kv_first_child(const cop_kv *kv, cop_node node) {
    return kv->nodes[node].first_child;
}

cop_node cop_kv_next_sibling(const cop_kv *kv, cop_node node) {
    return kv->nodes[node].next_sibling;
}

cop_kv_stats cop_kv_stats_read(const cop_kv *kv) {
    return (cop_kv_stats){
        .pages_total = kv->options.n_pages,
        .pages_free = kv->n_free_pages + kv->n_pages_ahead,
        .pages_held = kv->options.n_pages - kv->n_free_pages - kv->n_pages_ahead,
        .pages_peak = kv->pages_peak,
        .pages_ahead = kv->n_pages_ahead,
        .given_back = kv->given_back,
        .segments_held = kv->options.max_segments - kv->n_free_segments,
        .nodes_held = kv->options.max_nodes - 1 - kv->n_free_nodes,
        .tokens_held = kv->tokens_held,
    };
}

void cop_kv_peak_reset(cop_kv *kv) {
    kv->pages_peak = kv->options.n_pages - kv->n_free_pages - kv->n_pages_ahead;
}
