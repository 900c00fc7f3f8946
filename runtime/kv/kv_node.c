#include "kv/kv_internal.h"

void cop__misuse(cop_kv *kv, const char *what, cop_node node) {
    if (kv->misuse)
        return;
    kv->misuse = what;
    kv->misuse_node = node;
}

static uint32_t hash_slot(const cop_kv *kv, cop_node parent, uint32_t segment) {
    uint64_t x = ((uint64_t)parent << 32 | segment) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(x >> 32) & kv->hash_mask;
}

cop_node cop__node_find(const cop_kv *kv, cop_node parent, uint32_t segment) {
    cop_node node = kv->hash[hash_slot(kv, parent, segment)];
    while (node != COP_NODE_NONE &&
           (kv->nodes[node].parent != parent || kv->nodes[node].segment != segment))
        node = kv->nodes[node].hash_next;
    return node;
}

static void hash_insert(cop_kv *kv, cop_node node) {
    cop_node *head = &kv->hash[hash_slot(kv, kv->nodes[node].parent, kv->nodes[node].segment)];
    kv->nodes[node].hash_next = *head;
    *head = node;
}

static void hash_remove(cop_kv *kv, cop_node node) {
    cop_node *link = &kv->hash[hash_slot(kv, kv->nodes[node].parent, kv->nodes[node].segment)];
    while (*link != node)
        link = &kv->nodes[*link].hash_next;
    *link = kv->nodes[node].hash_next;
}

/* The chunk state after the parent's sealed segment, another one following. */
static void chunk_after(const cop_kv *kv, cop_node parent, uint32_t *chunk, uint32_t *fill) {
    const uint32_t tokens = cop__node_tokens(kv, parent);
    const uint32_t head = cop__chunk_head(kv, kv->nodes[parent].chunk_fill);
    *chunk = kv->nodes[parent].chunk;
    *fill = kv->nodes[parent].chunk_fill;
    if (*fill + tokens < kv->options.chunk_tokens) {
        *fill += tokens;
    } else {
        const uint32_t rest = tokens > head ? tokens - head : 0;
        *chunk += 1 + rest / kv->options.chunk_tokens;
        *fill = rest % kv->options.chunk_tokens;
    }
    if (*fill > 0 && *fill >= kv->options.chunk_tail_tokens) {
        *chunk += 1;
        *fill = 0;
    }
}

static int32_t shift_here(const cop_kv *kv, const cop__node *node) {
    const cop__segment *segment = &kv->segment_state[node->segment];
    return segment->floats ? -(segment->begin + (int32_t)node->view_tokens) : 0;
}

/* Takes a free node and links it as the last child of its parent. */
static cop_node node_create(cop_kv *kv, cop_node parent, uint32_t segment) {
    const cop_node node = kv->free_nodes[--kv->n_free_nodes];
    cop__node *above = &kv->nodes[parent];
    cop__node *n = &kv->nodes[node];
    *n = (cop__node){
        .birth = ++kv->births,
        .parent = parent,
        .first_child = COP_NODE_NONE,
        .last_child = COP_NODE_NONE,
        .next_sibling = COP_NODE_NONE,
        .previous_sibling = above->last_child,
        .segment = segment,
        .depth = above->depth + 1,
        .view_tokens = above->view_tokens + cop__node_tokens(kv, parent),
    };
    chunk_after(kv, parent, &n->chunk, &n->chunk_fill);
    n->shift = shift_here(kv, n);
    if (above->last_child == COP_NODE_NONE)
        above->first_child = node;
    else
        kv->nodes[above->last_child].next_sibling = node;
    above->last_child = node;
    above->children++;
    kv->segment_state[segment].nodes++;
    hash_insert(kv, node);
    return node;
}

static void segment_destroy(cop_kv *kv, uint32_t segment) {
    if (kv->segment_state[segment].open)
        cop__segment_close(kv, segment);
    cop__pool_shrink(kv, segment, 0);
    kv->tokens_held -= kv->segments[segment].tokens;
    kv->segments[segment] = (cop_segment){0};
    kv->free_segments[kv->n_free_segments++] = segment;
}

static void node_destroy(cop_kv *kv, cop_node node) {
    cop__node *n = &kv->nodes[node];
    cop__node *above = &kv->nodes[n->parent];
    hash_remove(kv, node);
    if (n->previous_sibling == COP_NODE_NONE)
        above->first_child = n->next_sibling;
    else
        kv->nodes[n->previous_sibling].next_sibling = n->next_sibling;
    if (n->next_sibling == COP_NODE_NONE)
        above->last_child = n->previous_sibling;
    else
        kv->nodes[n->next_sibling].previous_sibling = n->previous_sibling;
    above->children--;
    n->birth = 0;
    kv->free_nodes[kv->n_free_nodes++] = node;
    if (--kv->segment_state[n->segment].nodes == 0)
        segment_destroy(kv, n->segment);
}

cop_status cop_kv_open(cop_kv *kv, cop_node parent, cop_node *out) {
    if (!cop__node_live(kv, parent))
        return COP_FAIL(COP_ERR_INTERNAL, "kv open: parent node %u does not exist", parent);
    if (!cop__node_sealed(kv, parent))
        return COP_FAIL(COP_ERR_INTERNAL, "kv open: parent node %u is open; seal it first", parent);
    if (kv->n_free_nodes == 0)
        return COP_FAIL(COP_ERR_NO_ROOM, "all %u view nodes are in use; raise max_nodes",
                        kv->options.max_nodes);
    if (kv->n_free_segments == 0)
        return COP_FAIL(COP_ERR_NO_ROOM, "all %u segments are in use; raise max_segments",
                        kv->options.max_segments);
    const uint32_t segment = kv->free_segments[--kv->n_free_segments];
    kv->segments[segment] = (cop_segment){0};
    cop__change_segment(kv, segment);
    kv->segment_state[segment] = (cop__segment){.size_class = COP__CLASS_NONE, .open = true};
    kv->n_open++;
    const cop_node node = node_create(kv, parent, segment);
    kv->nodes[node].holders = 1;
    *out = node;
    return COP_OK;
}

void cop_kv_retain(cop_kv *kv, cop_node node) {
    if (!cop__node_live(kv, node))
        cop__misuse(kv, "retain of a node that does not exist", node);
    else if (node != 0)
        kv->nodes[node].holders++;
}

void cop_kv_release(cop_kv *kv, cop_node node) {
    if (node == COP_NODE_NONE || node == 0)
        return;
    if (!cop__node_live(kv, node) || kv->nodes[node].holders == 0) {
        cop__misuse(kv, "release of a node that nobody holds", node);
        return;
    }
    kv->nodes[node].holders--;
    while (node != 0 && kv->nodes[node].holders == 0 && kv->nodes[node].children == 0) {
        const cop_node parent = kv->nodes[node].parent;
        node_destroy(kv, node);
        node = parent;
    }
}

uint32_t cop_kv_references(const cop_kv *kv, cop_node node) {
    return kv->nodes[node].holders + kv->nodes[node].children;
}

/* What a view is continued with: the segments between below[i * step] and tail[i]. */
typedef struct tails {
    const cop_node *below, *tail;
    uint32_t n, step;
    bool overlay; /* tails may be open, and what floats takes its place in the new view */
} tails;

static cop_node below_of(const tails *t, uint32_t i) {
    return t->below[i * t->step];
}

/* The nodes from below `below` down to `tail` into kv->path; returns their number. */
static uint32_t path_between(cop_kv *kv, cop_node below, cop_node tail) {
    const uint32_t n = kv->nodes[tail].depth - kv->nodes[below].depth;
    for (uint32_t i = n; i-- > 0; tail = kv->nodes[tail].parent)
        kv->path[i] = tail;
    return n;
}

static cop_status tails_validate(const cop_kv *kv, cop_node base, const tails *t) {
    if (!cop__node_live(kv, base) || !cop__node_sealed(kv, base))
        return COP_FAIL(COP_ERR_INTERNAL, "kv stitch: base node %u is not a sealed node", base);
    for (uint32_t i = 0; i < t->n; i++) {
        const cop_node below = below_of(t, i), tail = t->tail[i];
        if (!cop__node_live(kv, below))
            return COP_FAIL(COP_ERR_INTERNAL, "kv stitch: node %u does not exist", below);
        if (!cop__node_live(kv, tail) || (!t->overlay && !cop__node_sealed(kv, tail)))
            return COP_FAIL(COP_ERR_INTERNAL, "kv stitch: tail %u, node %u, is not a sealed node",
                            i, tail);
        cop_node node = tail;
        while (kv->nodes[node].depth > kv->nodes[below].depth)
            node = kv->nodes[node].parent;
        if (node != below)
            return COP_FAIL(COP_ERR_INTERNAL, "kv stitch: node %u is no ancestor of tail %u", below,
                            i);
    }
    return COP_OK;
}

static cop_status append_tails(cop_kv *kv, cop_node base, const tails *t, cop_node *out) {
    COP_TRY(tails_validate(kv, base, t));
    /* Counts what is missing first, so that a failure changes nothing. A view that is missing one
     * node misses all that follow. */
    cop_node end = base;
    uint32_t missing = 0;
    uint64_t tokens = cop_kv_view_tokens(kv, base);
    for (uint32_t i = 0; i < t->n; i++) {
        const uint32_t n = path_between(kv, below_of(t, i), t->tail[i]);
        for (uint32_t j = 0; j < n; j++) {
            const uint32_t segment = kv->nodes[kv->path[j]].segment;
            tokens += kv->segments[segment].tokens;
            if (kv->segments[segment].tokens == 0)
                continue;
            const cop_node next = missing ? COP_NODE_NONE : cop__node_find(kv, end, segment);
            if (next == COP_NODE_NONE)
                missing++;
            else
                end = next;
        }
    }
    if (missing > kv->n_free_nodes)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "a stitch needs %u view nodes, %u of %u are free; raise "
                        "max_nodes",
                        missing, kv->n_free_nodes, kv->options.max_nodes);
    if (tokens > COP__VIEW_TOKENS_MAX)
        return COP_FAIL(COP_ERR_NO_ROOM, "a stitched view would hold more than 2^32 tokens");

    end = base;
    for (uint32_t i = 0; i < t->n; i++) {
        const uint32_t n = path_between(kv, below_of(t, i), t->tail[i]);
        for (uint32_t j = 0; j < n; j++) {
            const uint32_t segment = kv->nodes[kv->path[j]].segment;
            if (kv->segments[segment].tokens == 0)
                continue;
            const cop_node next = cop__node_find(kv, end, segment);
            end = next == COP_NODE_NONE ? node_create(kv, end, segment) : next;
            if (next == COP_NODE_NONE && !t->overlay)
                kv->nodes[end].shift = kv->nodes[kv->path[j]].shift;
        }
    }
    cop_kv_retain(kv, end);
    *out = end;
    return COP_OK;
}

cop_status cop_kv_stitch(cop_kv *kv, cop_node base, cop_node below, const cop_node *tail,
                         uint32_t n_tails, cop_node *out) {
    const tails t = {.below = &below, .tail = tail, .n = n_tails};
    return append_tails(kv, base, &t, out);
}

cop_status cop_kv_overlay(cop_kv *kv, cop_node base, const cop_node *below, const cop_node *tail,
                          uint32_t n_tails, cop_node *out) {
    const tails t = {.below = below, .tail = tail, .n = n_tails, .step = 1, .overlay = true};
    return append_tails(kv, base, &t, out);
}

void cop_kv_float(cop_kv *kv, cop_node node, int32_t begin_position) {
    cop__node *n = &kv->nodes[node];
    kv->segment_state[n->segment].floats = true;
    kv->segment_state[n->segment].begin = begin_position;
    n->shift = shift_here(kv, n);
}

int32_t cop_kv_shift(const cop_kv *kv, cop_node node) {
    return kv->nodes[node].shift;
}
