/* Counts everything again, from the nodes up, and compares with what is kept. */
#include "kv/kv_internal.h"

#include <string.h>

static cop_status check_children(const cop_kv *kv, cop_node node) {
    const cop__node *n = &kv->nodes[node];
    uint32_t children = 0;
    cop_node previous = COP_NODE_NONE;
    for (cop_node child = n->first_child; child != COP_NODE_NONE;
         child = kv->nodes[child].next_sibling) {
        if (!cop__node_live(kv, child) || kv->nodes[child].parent != node ||
            kv->nodes[child].previous_sibling != previous || children >= kv->options.max_nodes)
            return COP_FAIL(COP_ERR_INTERNAL, "kv: the child list of node %u is broken at %u", node,
                            child);
        if (previous != COP_NODE_NONE && kv->nodes[previous].birth >= kv->nodes[child].birth)
            return COP_FAIL(COP_ERR_INTERNAL, "kv: children of node %u are out of order", node);
        previous = child;
        children++;
    }
    if (children != n->children || n->last_child != previous)
        return COP_FAIL(COP_ERR_INTERNAL, "kv: node %u counts %u children and has %u", node,
                        n->children, children);
    return COP_OK;
}

static cop_status check_node(const cop_kv *kv, cop_node node) {
    const cop__node *n = &kv->nodes[node];
    COP_TRY(check_children(kv, node));
    if (node == 0)
        return COP_OK;
    if (n->holders + n->children == 0)
        return COP_FAIL(COP_ERR_INTERNAL, "kv: node %u is live and nobody holds it", node);
    if (n->segment >= kv->options.max_segments || !cop__node_live(kv, n->parent))
        return COP_FAIL(COP_ERR_INTERNAL, "kv: node %u stands on nothing", node);
    if (!cop__node_sealed(kv, n->parent))
        return COP_FAIL(COP_ERR_INTERNAL, "kv: node %u has the open parent %u", node, n->parent);
    if (n->depth != kv->nodes[n->parent].depth + 1 ||
        n->view_tokens != cop_kv_view_tokens(kv, n->parent))
        return COP_FAIL(COP_ERR_INTERNAL, "kv: node %u disagrees with its parent's length", node);
    if (cop__node_find(kv, n->parent, n->segment) != node)
        return COP_FAIL(COP_ERR_INTERNAL, "kv: node %u is not found under its parent", node);
    if (kv->segment_state[n->segment].open && n->children)
        return COP_FAIL(COP_ERR_INTERNAL, "kv: the open node %u has children", node);
    return COP_OK;
}

static cop_status check_nodes(const cop_kv *kv) {
    uint32_t live = 0;
    memset(kv->scratch, 0, kv->options.max_segments * sizeof *kv->scratch);
    for (cop_node node = 0; node < kv->options.max_nodes; node++) {
        if (!cop__node_live(kv, node))
            continue;
        COP_TRY(check_node(kv, node));
        live++;
        if (node != 0)
            kv->scratch[kv->nodes[node].segment]++;
    }
    if (live + kv->n_free_nodes != kv->options.max_nodes)
        return COP_FAIL(COP_ERR_INTERNAL, "kv: %u live and %u free nodes of %u", live,
                        kv->n_free_nodes, kv->options.max_nodes);
    for (uint32_t s = 0; s < kv->options.max_segments; s++) {
        if (kv->scratch[s] != kv->segment_state[s].nodes)
            return COP_FAIL(COP_ERR_INTERNAL, "kv: %u nodes stand on segment %u, which counts %u",
                            kv->scratch[s], s, kv->segment_state[s].nodes);
        if (kv->segment_state[s].open && kv->segment_state[s].nodes != 1)
            return COP_FAIL(COP_ERR_INTERNAL, "kv: segment %u is open under %u nodes", s,
                            kv->segment_state[s].nodes);
    }
    return COP_OK;
}

/* Two segments on one range would share pages: check_pages finds them. */
static cop_status check_range(const cop_kv *kv, uint32_t s) {
    const cop__segment *state = &kv->segment_state[s];
    if (state->pages - state->ahead != cop__pages_for(kv, kv->segments[s].tokens) ||
        (state->ahead && !state->open))
        return COP_FAIL(COP_ERR_INTERNAL, "kv: segment %u has %u tokens on %u pages", s,
                        kv->segments[s].tokens, state->pages);
    if (state->pages == 0) {
        if (state->size_class != COP__CLASS_NONE)
            return COP_FAIL(COP_ERR_INTERNAL, "kv: segment %u has a range and no page", s);
        return COP_OK;
    }
    const uint32_t k = state->size_class;
    const uint32_t at = kv->segments[s].page_table_offset - kv->class_base[k];
    if (k >= kv->n_classes || state->pages > 1u << k || at % (1u << k) != 0 ||
        at >> k >= kv->class_count[k])
        return COP_FAIL(COP_ERR_INTERNAL, "kv: segment %u lies outside its size class %u", s, k);
    return COP_OK;
}

static cop_status take_page(const cop_kv *kv, uint32_t page, uint32_t segment) {
    if (page >= kv->options.n_pages)
        return COP_FAIL(COP_ERR_INTERNAL, "kv: segment %u holds page %u of %u", segment, page,
                        kv->options.n_pages);
    if (kv->scratch[page] != 0)
        return COP_FAIL(COP_ERR_INTERNAL, "kv: page %u of segment %u is also held or free", page,
                        segment);
    kv->scratch[page] = 1;
    return COP_OK;
}

static cop_status check_pages(const cop_kv *kv) {
    uint64_t tokens = 0, pages = 0;
    uint32_t live = 0;
    memset(kv->scratch, 0, kv->options.n_pages * sizeof *kv->scratch);
    for (uint32_t s = 0; s < kv->options.max_segments; s++) {
        COP_TRY(check_range(kv, s));
        live += kv->segment_state[s].nodes != 0;
        tokens += kv->segments[s].tokens;
        pages += kv->segment_state[s].pages;
        const uint32_t *table = kv->page_table + kv->segments[s].page_table_offset;
        for (uint32_t i = 0; i < kv->segment_state[s].pages; i++)
            COP_TRY(take_page(kv, table[i], s));
    }
    for (uint32_t i = 0; i < kv->n_free_pages; i++)
        COP_TRY(take_page(kv, kv->free_pages[i], COP_SEGMENT_NONE));
    if (pages + kv->n_free_pages != kv->options.n_pages)
        return COP_FAIL(COP_ERR_INTERNAL, "kv: %llu pages held and %u free of %u",
                        (unsigned long long)pages, kv->n_free_pages, kv->options.n_pages);
    if (tokens != kv->tokens_held)
        return COP_FAIL(COP_ERR_INTERNAL, "kv: %llu tokens held, %llu counted",
                        (unsigned long long)tokens, (unsigned long long)kv->tokens_held);
    if (live + kv->n_free_segments != kv->options.max_segments)
        return COP_FAIL(COP_ERR_INTERNAL, "kv: %u live and %u free segments of %u", live,
                        kv->n_free_segments, kv->options.max_segments);
    return COP_OK;
}

static cop_status check_ranges_free(const cop_kv *kv) {
    uint32_t held[COP__CLASSES_MAX] = {0};
    for (uint32_t s = 0; s < kv->options.max_segments; s++)
        if (kv->segment_state[s].size_class != COP__CLASS_NONE)
            held[kv->segment_state[s].size_class]++;
    for (uint32_t k = 0; k < kv->n_classes; k++)
        if (held[k] + kv->class_n_free[k] != kv->class_count[k])
            return COP_FAIL(COP_ERR_INTERNAL, "kv: %u ranges of %u pages held and %u free of %u",
                            held[k], 1u << k, kv->class_n_free[k], kv->class_count[k]);
    return COP_OK;
}

static cop_status check_ahead(const cop_kv *kv) {
    uint32_t pages = 0, segments = 0, open = 0;
    for (uint32_t s = 0; s < kv->options.max_segments; s++) {
        const cop__segment *state = &kv->segment_state[s];
        pages += state->ahead;
        segments += state->ahead > 0;
        open += state->open;
        if (state->ahead &&
            (state->ahead_at >= kv->n_segments_ahead || kv->segments_ahead[state->ahead_at] != s))
            return COP_FAIL(COP_ERR_INTERNAL, "kv: segment %u holds pages ahead, unlisted", s);
    }
    if (pages != kv->n_pages_ahead || segments != kv->n_segments_ahead || open != kv->n_open)
        return COP_FAIL(COP_ERR_INTERNAL,
                        "kv: %u pages ahead in %u of %u open segments; %u, %u and %u counted",
                        pages, segments, open, kv->n_pages_ahead, kv->n_segments_ahead, kv->n_open);
    return COP_OK;
}

/* Listed words belong to the segment that they are listed for: so no two ranges overlap. */
static cop_status check_changes(const cop_kv *kv) {
    const cop__kv_changes *c = &kv->changes;
    for (uint32_t i = 0; i < c->n_segments; i++)
        if (c->segments[i] >= kv->options.max_segments || c->segment_at[c->segments[i]] != i)
            return COP_FAIL(COP_ERR_INTERNAL, "kv: segment %u is listed twice as changed",
                            c->segments[i]);
    for (uint32_t i = 0; i < c->n_ranges; i++) {
        const uint32_t s = c->range_segment[i];
        const uint32_t begin = kv->segments[s].page_table_offset;
        if (c->range_at[s] != i || c->ranges[i].n == 0 || c->ranges[i].first < begin ||
            c->ranges[i].first + c->ranges[i].n > begin + kv->segment_state[s].pages)
            return COP_FAIL(COP_ERR_INTERNAL,
                            "kv: words %u + %u are listed as changed for segment %u, whose %u "
                            "pages stand at %u",
                            c->ranges[i].first, c->ranges[i].n, s, kv->segment_state[s].pages,
                            begin);
    }
    return COP_OK;
}

cop_status cop_kv_check(const cop_kv *kv) {
    if (kv->misuse)
        return COP_FAIL(COP_ERR_INTERNAL, "kv: %s (node %u)", kv->misuse, kv->misuse_node);
    COP_TRY(check_nodes(kv));
    COP_TRY(check_pages(kv));
    COP_TRY(check_ahead(kv));
    COP_TRY(check_changes(kv));
    return check_ranges_free(kv);
}
