#include "job/shape_plan.h"

#include "base/memory.h"
#include "kv/kv.h"

struct cop_shape_plan {
    cop_kv *kv;
    cop_plan *plan;
    cop_node *nodes;  /* of each tree node */
    uint32_t *leaves; /* tree node of each row */
    uint32_t *slots;  /* of each row */
    uint32_t n_nodes, n_rows, n_pages;
};

/* Opens the segments, parents first. A node that has a child is sealed before the child opens. */
static cop_status open_segments(cop_shape_plan *p, const cop_cost_tree *tree) {
    for (uint32_t i = 0; i < tree->n_nodes; i++) {
        cop_node parent = cop_kv_root(p->kv);
        if (tree->parent[i] != COP_COST_ROOT) {
            parent = p->nodes[tree->parent[i]];
            if (!cop_kv_node(p->kv, parent).sealed)
                cop_kv_seal(p->kv, parent);
        }
        COP_TRY(cop_kv_open(p->kv, parent, &p->nodes[i]));
        COP_TRY(cop_kv_append(p->kv, p->nodes[i], tree->tokens[i]));
    }
    return COP_OK;
}

static cop_status start_rows(cop_shape_plan *p, const cop_cost_tree *tree) {
    uint32_t row = 0;
    for (uint32_t i = 0; i < tree->n_nodes; i++) {
        if (cop_kv_node(p->kv, p->nodes[i]).sealed)
            continue;
        COP_TRY(cop_plan_slot_add(p->plan, p->nodes[i], &p->slots[row]));
        p->leaves[row++] = i;
    }
    COP_TRY(cop_plan_step(p->plan, p->slots, row, NULL, 0));
    return cop_plan_rebuild(p->plan); /* the best tiling, whatever the order of arrival */
}

/* The plan sets entries aside by the nodes that a pool may hold. Narrow tiles walk a long shared
 * segment once each, so their entries are counted here: a node is in as many tiles as it has rows,
 * or twice what full tiles would be. */
static uint32_t spare_nodes(const cop_cost_tree *tree, const cop_shape_plan_options *options) {
    enum { ENTRIES_A_NODE = 16 };
    const uint64_t slots = options->tile_slots ? options->tile_slots : 1;
    uint64_t entries = 0;
    for (uint32_t i = 0; i < tree->n_nodes; i++) {
        const uint64_t rows = tree->rows[i], full = 2 * (rows / slots + 1);
        entries += (rows < full ? rows : full) * (tree->tokens[i] / options->chunk_tokens + 2);
    }
    return (uint32_t)(entries / ENTRIES_A_NODE);
}

static cop_status fill(cop_shape_plan *p, const cop_cost_tree *tree,
                       const cop_shape_plan_options *options) {
    uint64_t pages = 1;
    for (uint32_t i = 0; i < tree->n_nodes; i++)
        pages += ((uint64_t)tree->tokens[i] + options->page_tokens - 1) / options->page_tokens;
    if (pages > UINT32_MAX / 2)
        return COP_FAIL(COP_ERR_NO_ROOM, "a tree of %llu pages; shrink it",
                        (unsigned long long)pages);
    p->n_pages = (uint32_t)pages;
    p->nodes = cop_calloc(tree->n_nodes, sizeof *p->nodes);
    p->leaves = cop_calloc(tree->n_rows, sizeof *p->leaves);
    p->slots = cop_calloc(tree->n_rows, sizeof *p->slots);
    if (!p->nodes || !p->leaves || !p->slots)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a tree of %u nodes", tree->n_nodes);
    p->n_nodes = tree->n_nodes;
    p->n_rows = tree->n_rows;
    const cop_kv_options kv = {.page_tokens = options->page_tokens,
                               .n_pages = p->n_pages,
                               .max_segments = tree->n_nodes + 1,
                               .max_nodes = tree->n_nodes + 2 + spare_nodes(tree, options),
                               .chunk_tokens = options->chunk_tokens,
                               .chunk_tail_tokens = options->chunk_tail_tokens};
    COP_TRY(cop_kv_create(&kv, &p->kv));
    const cop_plan_options plan = {.group = options->group,
                                   .tile_slots = options->tile_slots,
                                   .chunk_tokens = options->chunk_tokens,
                                   .chunk_tail_tokens = options->chunk_tail_tokens,
                                   .max_decode_slots = tree->n_rows};
    COP_TRY(cop_plan_create(&plan, p->kv, &p->plan));
    COP_TRY(open_segments(p, tree));
    return start_rows(p, tree);
}

cop_status cop_shape_plan_create(const cop_cost_tree *tree, const cop_shape_plan_options *options,
                                 cop_shape_plan **out) {
    *out = NULL;
    cop_shape_plan *p = cop_calloc(1, sizeof *p);
    if (!p)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a plan of a shape");
    const cop_status status = fill(p, tree, options);
    if (status != COP_OK) {
        cop_shape_plan_destroy(p);
        return status;
    }
    *out = p;
    return COP_OK;
}

void cop_shape_plan_destroy(cop_shape_plan *p) {
    if (!p)
        return;
    cop_plan_destroy(p->plan);
    cop_kv_destroy(p->kv);
    cop_free(p->nodes);
    cop_free(p->leaves);
    cop_free(p->slots);
    cop_free(p);
}

cop_plan_tables cop_shape_plan_tables(const cop_shape_plan *p) {
    return cop_plan_view(p->plan);
}

uint32_t cop_shape_plan_pages(const cop_shape_plan *p) {
    return p->n_pages;
}

uint32_t cop_shape_plan_page_table_words(const cop_shape_plan *p) {
    return cop_kv_page_table_capacity(p->kv);
}

uint32_t cop_shape_plan_segments(const cop_shape_plan *p) {
    return p->n_nodes + 1;
}

uint32_t cop_shape_plan_segment_of(const cop_shape_plan *p, uint32_t tree_node) {
    return cop_kv_node(p->kv, p->nodes[tree_node]).segment;
}

uint32_t cop_shape_plan_node_of_row(const cop_shape_plan *p, uint32_t row) {
    return p->leaves[row];
}
