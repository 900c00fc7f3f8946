/* Blocks whose paths see each other's tokens while they decode.
 *
 * The view of path i is: what stood before the block and the paths' text that has been moved there
 * since; the others' header; the other paths' open text, in order; its own header; its own text.
 * Every one of these floats (cop_kv_float): its keys are rotated from position 0 on, once, and a
 * path meets it where it stands in that path's view. So nothing is computed again when the others
 * grow or when a path's text moves to the history. Source: Hogwild! Inference (Rodionov et al.
 * 2025, arXiv 2504.06261, section 3;
 * eqimp/hogwild_llm@1a87a99d:shared_cache/combined_cache.py:137-152).
 *
 * Such views are made when the rows of a step are chosen and released once it is queued. All that
 * the paths of a block were fed runs in one step, or nothing of it: a row would see keys that are
 * not there yet. Headers are computed alone, as the original's cache blocks are
 * (generation.py:63-72): they see nothing but themselves.
 */
#include "reason/engine_internal.h"

cop_node cop__engine_view(const cop_branch_record *branch) {
    return branch->view != COP_NODE_NONE ? branch->view : branch->node;
}

static cop_node block_begin(const cop_engine *engine, const cop_branch_record *child) {
    return cop_kv_node(engine->kv, child->node).parent;
}

/* A segment of n tokens that sees nothing but itself; `out` is held for the block. */
static cop_status header_create(cop_engine *engine, cop_branch parent_id, const int32_t *ids,
                                uint32_t n, cop_node *out) {
    *out = COP_NODE_NONE;
    if (n == 0)
        return COP_OK;
    cop_branch id;
    COP_TRY(cop__engine_branch_new(engine, engine->branches[parent_id].problem, parent_id,
                                   cop_kv_root(engine->kv), &id));
    cop_branch_record *block = &engine->branches[id];
    engine->metrics->branches--; /* it says nothing of its own */
    block->shared = block->spawned = true;
    block->depth = engine->branches[parent_id].depth + 1;
    block->fed_whole = false; /* it never gives way */
    const cop_status status = cop_engine_feed(engine, id, ids, n, COP_FEED_HEADER);
    if (status != COP_OK) {
        cop__engine_forget(engine, id);
        return status;
    }
    block->share_begin = engine->branches[parent_id].share_begin;
    cop_kv_float(engine->kv, block->node, block->share_begin);
    cop_kv_seal(engine->kv, block->node);
    cop_kv_retain(engine->kv, block->node);
    *out = block->node;
    block->parent = COP_BRANCH_NONE;
    block->state = COP_BRANCH_ZOMBIE;
    block->end = COP_END_DONE;
    engine->n_zombies++;
    return COP_OK;
}

cop_status cop_engine_share(cop_engine *engine, cop_branch parent_id,
                            const cop_shared_headers *headers) {
    cop_branch_record *parent = &engine->branches[parent_id];
    if (parent->state != COP_BRANCH_WAITING || parent->shares)
        return COP_FAIL(COP_ERR_INTERNAL, "branch %u has no block to share", parent_id);
    if (engine->ops->steps_ahead > 0)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "backend %s does not rotate queries for each segment that they see, which "
                        "branches that see each other need; use backend cpu",
                        engine->ops->name);
    parent->shares = true;
    engine->n_shares++;
    parent->share_begin =
        (int32_t)parent->next_position - (int32_t)cop_kv_view_tokens(engine->kv, parent->node);
    parent->share_base = parent->node;
    parent->share_others = parent->share_own = COP_NODE_NONE;
    cop_kv_retain(engine->kv, parent->share_base);
    for (cop_branch id = parent->first_child; id != COP_BRANCH_NONE;
         id = engine->branches[id].next_sibling) {
        cop_branch_record *child = &engine->branches[id];
        if (child->fed_tokens > 0 || child->spawned)
            return COP_FAIL(COP_ERR_INTERNAL, "branch %u began before its block was shared", id);
        child->shared = true;
        child->draws_before = child->next_position;
        child->next_position = 0;
        child->fed_whole = false; /* the others read its tokens: it cannot give way */
        child->share_begin = parent->share_begin;
        cop_kv_float(engine->kv, child->node, child->share_begin);
    }
    if (!headers)
        return COP_OK;
    COP_TRY(header_create(engine, parent_id, headers->others, headers->n_others,
                          &parent->share_others));
    return header_create(engine, parent_id, headers->own, headers->n_own, &parent->share_own);
}

/* The child's text goes behind what stands before the block. */
static cop_status move_to_base(cop_engine *engine, cop_branch_record *parent,
                               const cop_branch_record *child) {
    const cop_node below = block_begin(engine, child);
    cop_node base;
    COP_TRY(cop_kv_overlay(engine->kv, parent->share_base, &below, &child->node, 1, &base));
    cop_kv_release(engine->kv, parent->share_base);
    parent->share_base = base;
    return COP_OK;
}

cop_status cop_engine_share_move(cop_engine *engine, cop_branch id) {
    cop_branch_record *child = &engine->branches[id];
    if (!child->shared || child->state != COP_BRANCH_LIVE || child->n_pending > 0)
        return COP_FAIL(COP_ERR_INTERNAL,
                        "branch %u has no text that could move to the history: it is not in a "
                        "shared block, or %u of its tokens have not run",
                        id, child->n_pending);
    cop_branch_record *parent = &engine->branches[child->parent];
    cop_kv_seal(engine->kv, child->node);
    COP_TRY(move_to_base(engine, parent, child));
    cop_node node;
    COP_TRY(cop_kv_open(engine->kv, parent->share_base, &node));
    cop_kv_float(engine->kv, node, child->share_begin);
    cop_kv_release(engine->kv, child->node);
    child->node = node;
    child->n_fed = child->fed_tokens = 0;
    child->draws_before += child->next_position;
    child->next_position = 0;
    child->last_row = COP_ROW_NONE;
    return COP_OK;
}

uint32_t cop_engine_share_view_tokens(const cop_engine *engine, cop_branch parent_id) {
    const cop_branch_record *parent = &engine->branches[parent_id];
    uint64_t tokens = cop_kv_view_tokens(engine->kv, parent->share_base);
    const cop_node headers[] = {parent->share_others, parent->share_own};
    for (int i = 0; i < 2; i++)
        if (headers[i] != COP_NODE_NONE)
            tokens += cop_kv_view_tokens(engine->kv, headers[i]);
    for (cop_branch id = parent->first_child; id != COP_BRANCH_NONE;
         id = engine->branches[id].next_sibling) {
        const cop_node node = engine->branches[id].node;
        if (node != COP_NODE_NONE)
            tokens += cop_kv_own_tokens(engine->kv, node);
    }
    return tokens < UINT32_MAX ? (uint32_t)tokens : UINT32_MAX;
}

void cop__engine_share_end(cop_engine *engine, cop_branch_record *parent) {
    if (!parent->shares)
        return;
    parent->shares = false;
    engine->n_shares--;
    cop_kv_release(engine->kv, parent->share_base);
    cop_kv_release(engine->kv, parent->share_others);
    cop_kv_release(engine->kv, parent->share_own);
}

/* ---- the views of one step ---- */

static void tail_add(cop_engine *engine, uint32_t *n, cop_node below, cop_node tail) {
    if (tail == COP_NODE_NONE)
        return;
    engine->share_below[*n] = below;
    engine->share_tail[(*n)++] = tail;
}

static cop_status make_view(cop_engine *engine, const cop_branch_record *parent, cop_branch own) {
    cop_branch_record *branch = &engine->branches[own];
    const cop_node root = cop_kv_root(engine->kv);
    uint32_t n = 0;
    tail_add(engine, &n, root, parent->share_others);
    for (cop_branch id = parent->first_child; id != COP_BRANCH_NONE;
         id = engine->branches[id].next_sibling) {
        const cop_branch_record *child = &engine->branches[id];
        if (id != own && child->node != COP_NODE_NONE)
            tail_add(engine, &n, block_begin(engine, child), child->node);
    }
    tail_add(engine, &n, root, parent->share_own);
    tail_add(engine, &n, block_begin(engine, branch), branch->node);
    return cop_kv_overlay(engine->kv, parent->share_base, engine->share_below, engine->share_tail,
                          n, &branch->view);
}

cop_status cop__engine_share_stitch(cop_engine *engine, cop_branch_record *parent, cop_node *view) {
    /* What a path was fed last may still have to run, and sees what it would have seen. */
    for (cop_branch id = parent->first_child; id != COP_BRANCH_NONE;
         id = engine->branches[id].next_sibling)
        if (engine->branches[id].n_pending > 0)
            COP_TRY(make_view(engine, parent, id));
    for (cop_branch id = parent->first_child; id != COP_BRANCH_NONE;
         id = engine->branches[id].next_sibling) {
        cop_branch_record *child = &engine->branches[id];
        if (child->end == COP_END_DONE && child->node != COP_NODE_NONE)
            COP_TRY(move_to_base(engine, parent, child));
        if (child->view == COP_NODE_NONE)
            continue;
        cop_kv_release(engine->kv, child->node);
        child->node = child->view;
        child->view = COP_NODE_NONE;
    }
    *view = parent->share_base;
    return COP_OK;
}

static cop_status too_many_rows(const cop_engine *engine, uint64_t pending) {
    return COP_FAIL(COP_ERR_NO_ROOM,
                    "%llu tokens of branches that see each other must run in one step, which has "
                    "%u rows: raise max_rows",
                    (unsigned long long)pending, engine->options.max_rows);
}

cop_status cop__engine_share_drain(cop_engine *engine, uint32_t *room) {
    bool any = false;
    for (uint32_t p = 0; p < engine->n_problems; p++) {
        cop_problem *problem = &engine->problems[p];
        if (problem->share_pending > engine->options.max_rows)
            return too_many_rows(engine, problem->share_pending);
        if (problem->share_pending == 0)
            continue;
        problem->blocked = problem->blocked || problem->share_pending > *room;
        if (problem->blocked)
            continue;
        *room -= (uint32_t)problem->share_pending;
        any = true;
    }
    for (cop_branch id = any ? engine->oldest : COP_BRANCH_NONE; id != COP_BRANCH_NONE;
         id = engine->branches[id].newer) {
        const cop_branch_record *b = &engine->branches[id];
        if (b->shared && b->state == COP_BRANCH_ZOMBIE && b->n_pending > 0 &&
            !engine->problems[b->problem].blocked)
            engine->runs[engine->n_runs++] = (cop_run){id, b->n_pending};
    }
    return COP_OK;
}

static cop_status block_rows(cop_engine *engine, const cop_branch_record *parent, uint32_t *room) {
    uint64_t pending = 0;
    for (cop_branch id = parent->first_child; id != COP_BRANCH_NONE;
         id = engine->branches[id].next_sibling)
        pending += engine->branches[id].n_pending;
    if (pending > engine->options.max_rows)
        return too_many_rows(engine, pending);
    if (pending > *room) {
        engine->problems[parent->problem].blocked = true;
        return COP_OK;
    }
    *room -= (uint32_t)pending;
    for (cop_branch id = parent->first_child; id != COP_BRANCH_NONE;
         id = engine->branches[id].next_sibling) {
        if (engine->branches[id].n_pending == 0)
            continue;
        COP_TRY(make_view(engine, parent, id));
        engine->runs[engine->n_runs++] = (cop_run){id, engine->branches[id].n_pending};
    }
    return COP_OK;
}

cop_status cop__engine_share_rows(cop_engine *engine, uint32_t *room) {
    uint32_t left = engine->n_shares;
    for (cop_branch id = engine->oldest; left > 0 && id != COP_BRANCH_NONE;
         id = engine->branches[id].newer) {
        const cop_branch_record *parent = &engine->branches[id];
        left -= parent->shares;
        if (parent->shares && parent->state == COP_BRANCH_WAITING &&
            !engine->problems[parent->problem].blocked)
            COP_TRY(block_rows(engine, parent, room));
    }
    return COP_OK;
}

void cop__engine_share_release(cop_engine *engine) {
    for (uint32_t i = 0; i < engine->n_runs; i++) {
        cop_branch_record *branch = &engine->branches[engine->runs[i].branch];
        cop_kv_release(engine->kv, branch->view);
        branch->view = COP_NODE_NONE;
    }
}
