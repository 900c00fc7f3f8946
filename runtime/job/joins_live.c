#include "base/memory.h"
#include "job/joins_internal.h"
#include "model/forward.h"

/* Ids of the path's text, and how many of them are given at its begin. */
static const cop__joins_op *text_of(const cop__joins_tree *tree, const cop__joins_op *block,
                                    uint32_t p, uint32_t *given) {
    const cop__joins_stream *stream = &tree->streams[block->first_path + p];
    const cop_stream *recorded = &block->block->paths[p];
    *given = 0;
    if (recorded->n_pieces > 0 && recorded->pieces[0].forced == COP_FORCED_BRANCH)
        *given = recorded->pieces[0].n;
    return stream->n_ops ? &tree->ops[stream->first_op] : NULL;
}

/* How many tokens path p takes in the block's step number `step`. */
static uint32_t tokens_in_step(const cop__joins_tree *tree, const cop__joins_op *block, uint32_t p,
                               uint32_t step, uint32_t *first) {
    uint32_t given;
    const cop__joins_op *text = text_of(tree, block, p, &given);
    const uint32_t n = text ? text->end - text->begin : 0;
    *first = step == 0 ? 0 : given + step - 1;
    if (step == 0)
        return given;
    return *first < n ? 1 : 0;
}

uint32_t cop__joins_live_rows(const cop__joins_tree *tree) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < tree->n_ops; i++) {
        const cop__joins_op *op = &tree->ops[i];
        uint32_t given = 0, first;
        for (uint32_t p = 0; p < op->n_paths; p++)
            given += tokens_in_step(tree, op, p, 0, &first);
        given = given > op->n_paths ? given : op->n_paths;
        most = given > most ? given : most;
    }
    return most;
}

/* Scratch of one block. */
typedef struct live {
    cop__joins_lane *lane;
    const cop__joins_cursor *parent;
    cop__joins_cursor *paths;
    uint32_t stride, n_paths;
    int32_t begin;                            /* position of token 0 of a view */
    cop_node *below, *tail;                   /* [n_paths] */
    cop_node *view;                           /* [n_paths] */
    cop_prefill_run *runs;                    /* [n_paths] */
    int32_t *token, *position, *key_position; /* [max_rows] */
    uint32_t *segment, *offset;
} live;

static cop_status live_create(live *l) {
    const uint32_t rows = l->lane->max_rows, n = l->n_paths;
    l->below = cop_calloc(n, sizeof *l->below);
    l->tail = cop_calloc(n, sizeof *l->tail);
    l->view = cop_calloc(n, sizeof *l->view);
    l->runs = cop_calloc(n, sizeof *l->runs);
    l->token = cop_calloc(rows, sizeof *l->token);
    l->position = cop_calloc(rows, sizeof *l->position);
    l->key_position = cop_calloc(rows, sizeof *l->key_position);
    l->segment = cop_calloc(rows, sizeof *l->segment);
    l->offset = cop_calloc(rows, sizeof *l->offset);
    if (!l->below || !l->tail || !l->view || !l->runs || !l->token || !l->position ||
        !l->key_position || !l->segment || !l->offset)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a block of %u paths", n);
    for (uint32_t p = 0; p < n; p++)
        l->view[p] = COP_NODE_NONE;
    return COP_OK;
}

static void live_release(live *l) {
    void *const owned[] = {l->below,    l->tail,         l->view,    l->runs,  l->token,
                           l->position, l->key_position, l->segment, l->offset};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        cop_free(owned[i]);
}

static cop_node node_of(const live *l, uint32_t p) {
    return l->paths[(size_t)p * l->stride].node;
}

/* The others in order, then its own. */
static cop_status make_view(live *l, uint32_t own) {
    uint32_t n = 0;
    for (uint32_t p = 0; p < l->n_paths; p++)
        if (p != own)
            l->below[n] = l->parent->node, l->tail[n++] = node_of(l, p);
    l->below[n] = l->parent->node, l->tail[n++] = node_of(l, own);
    return cop_kv_overlay(l->lane->kv, l->parent->node, l->below, l->tail, n, &l->view[own]);
}

static void add_rows(live *l, uint32_t p, const int32_t *token, uint32_t first, uint32_t n,
                     uint32_t row) {
    const cop_node_info view = cop_kv_node(l->lane->kv, l->view[p]);
    for (uint32_t i = 0; i < n; i++) {
        l->token[row + i] = token[i];
        l->key_position[row + i] = (int32_t)(first + i);
        l->position[row + i] = l->begin + (int32_t)(view.view_tokens + first + i);
        l->segment[row + i] = view.segment;
        l->offset[row + i] = first + i;
    }
}

static cop_status compute(live *l, uint32_t n_runs, uint32_t n_rows) {
    cop__joins_lane *lane = l->lane;
    COP_TRY(cop_plan_step(lane->plan, NULL, 0, l->runs, n_runs));
    const cop_step step = {.n_rows = n_rows,
                           .token = l->token,
                           .position = l->position,
                           .key_position = l->key_position,
                           .segment = l->segment,
                           .offset = l->offset,
                           .plan = cop_plan_view(lane->plan)};
    COP_TRY(cop_forward(&cop_backend_cpu, lane->backend, lane->shape, &step, NULL, 0, NULL));
    cop_plan_changes_clear(lane->plan);
    lane->rows += n_rows;
    return COP_OK;
}

/* One step of the block; *any: a path took a token. */
static cop_status live_step(live *l, const cop__joins_tree *tree, const cop__joins_op *op,
                            uint32_t step, bool *any) {
    uint32_t n_runs = 0, n_rows = 0, first, given;
    *any = false;
    for (uint32_t p = 0; p < l->n_paths; p++) {
        const uint32_t n = tokens_in_step(tree, op, p, step, &first);
        COP_TRY(cop_kv_append(l->lane->kv, node_of(l, p), n));
        *any = *any || n > 0;
    }
    for (uint32_t p = 0; p < l->n_paths && l->lane->backend; p++) {
        const uint32_t n = tokens_in_step(tree, op, p, step, &first);
        if (n == 0)
            continue;
        COP_TRY(make_view(l, p));
        add_rows(l, p, tree->token + text_of(tree, op, p, &given)->begin + first, first, n, n_rows);
        l->runs[n_runs++] = (cop_prefill_run){
            .node = l->view[p], .first = first, .tokens = n, .row = (int32_t)n_rows};
        n_rows += n;
    }
    return n_rows ? compute(l, n_runs, n_rows) : COP_OK;
}

static void release_views(live *l) {
    for (uint32_t p = 0; p < l->n_paths; p++) {
        cop_kv_release(l->lane->kv, l->view[p]);
        l->view[p] = COP_NODE_NONE;
    }
}

static cop_status open_paths(live *l) {
    for (uint32_t p = 0; p < l->n_paths; p++) {
        cop__joins_cursor *path = &l->paths[(size_t)p * l->stride];
        cop_kv_release(l->lane->kv, path->node);
        path->node = COP_NODE_NONE;
        COP_TRY(cop_kv_open(l->lane->kv, l->parent->node, &path->node));
        cop_kv_float(l->lane->kv, path->node, l->begin);
    }
    return COP_OK;
}

cop_status cop__joins_live_block(cop__joins_lane *lane, const cop__joins_tree *tree,
                                 const cop__joins_op *op, const cop__joins_cursor *parent,
                                 cop__joins_cursor *paths, uint32_t stride) {
    live l = {.lane = lane,
              .parent = parent,
              .paths = paths,
              .stride = stride,
              .n_paths = op->n_paths,
              .begin =
                  (int32_t)parent->position - (int32_t)cop_kv_view_tokens(lane->kv, parent->node)};
    cop_status status = live_create(&l);
    if (status == COP_OK)
        status = open_paths(&l);
    bool any = true;
    for (uint32_t step = 0; status == COP_OK && (any || step < 2); step++) {
        status = live_step(&l, tree, op, step, &any);
        release_views(&l);
    }
    for (uint32_t p = 0; p < op->n_paths && status == COP_OK; p++)
        cop_kv_seal(lane->kv, node_of(&l, p));
    live_release(&l);
    return status;
}

cop_status cop__joins_live_join(cop__joins_lane *lane, cop__joins_cursor *paths, uint32_t stride,
                                uint32_t n_paths, cop__joins_cursor *cursor) {
    const cop_node before = cursor->node;
    for (uint32_t p = 0; p < n_paths; p++) {
        cop__joins_cursor *path = &paths[(size_t)p * stride];
        cop_node joined;
        COP_TRY(cop_kv_overlay(lane->kv, cursor->node, &before, &path->node, 1, &joined));
        if (p > 0)
            cop_kv_release(lane->kv, cursor->node);
        cursor->node = joined;
    }
    cursor->position +=
        cop_kv_view_tokens(lane->kv, cursor->node) - cop_kv_view_tokens(lane->kv, before);
    for (uint32_t p = 0; p < n_paths; p++) {
        cop__joins_cursor *path = &paths[(size_t)p * stride];
        cop_kv_release(lane->kv, path->node);
        path->node = COP_NODE_NONE;
    }
    cop_kv_release(lane->kv, before);
    return COP_OK;
}
