/* Joins: the parent's view afterwards, and who still has tokens to run on the old one. */
#include "reason/engine_internal.h"

/* The children go; their parent goes on. */
static void absorb_children(cop_engine *engine, cop_branch parent_id) {
    cop_branch_record *parent = &engine->branches[parent_id];
    cop__engine_settle(engine, parent);
    cop_branch next;
    for (cop_branch id = parent->first_child; id != COP_BRANCH_NONE; id = next) {
        next = engine->branches[id].next_sibling;
        cop__engine_event(engine, COP_EVENT_JOIN, parent_id, engine->branches[id].serial, 0);
        cop__engine_release(engine, id);
    }
    parent->first_child = COP_BRANCH_NONE;
    parent->n_children = 0;
    parent->state = COP_BRANCH_LIVE;
    engine->metrics->joins++;
    cop__engine_event(engine, COP_EVENT_WAIT_END, parent_id, 0, 0);
}

/* It stands where the branch stood, before everything that reads its tokens. */
cop_status cop__engine_hand_over(cop_engine *engine, cop_branch parent_id, cop_branch *out) {
    cop_branch_record *parent = &engine->branches[parent_id];
    if (cop__engine_is_full(engine))
        return cop__engine_too_many(engine);
    cop_branch id = engine->free_ids[--engine->n_free];
    cop_branch_record *heir = &engine->branches[id];
    *heir = *parent;
    heir->state = COP_BRANCH_ZOMBIE;
    heir->parent = heir->first_child = heir->next_sibling = COP_BRANCH_NONE;
    heir->n_children = heir->n_children_live = 0;
    heir->from_parent = false;
    heir->shares = false;
    heir->end = COP_END_DONE;
    heir->serial = engine->next_serial++;
    cop_kv_retain(engine->kv, heir->node);
    parent->n_pending = parent->n_spans = 0;
    parent->again.n = 0;
    cop__engine_list_replace(engine, parent_id, id);
    engine->n_zombies++;
    *out = id;
    return COP_OK;
}

/* A parent whose children all ended at once still has tokens to run on its old segment. */
static cop_status hand_over_pending(cop_engine *engine, cop_branch parent_id) {
    cop_branch heir;
    COP_TRY(cop__engine_hand_over(engine, parent_id, &heir));
    cop__engine_list_append(engine, parent_id);
    return COP_OK;
}

/* The parent goes on under `view`, which the caller holds for it. */
static cop_status reopen(cop_engine *engine, cop_branch parent_id, cop_node view) {
    cop_branch_record *parent = &engine->branches[parent_id];
    cop_node node;
    if (parent->n_pending > 0)
        COP_TRY(hand_over_pending(engine, parent_id));
    COP_TRY(cop_kv_open(engine->kv, view, &node));
    cop_kv_release(engine->kv, parent->node);
    parent->node = node;
    parent->again.n = 0;
    parent->n_fed = parent->fed_tokens = parent->expected_tokens = 0;
    parent->fed_whole = true;
    cop__engine_share_end(engine, parent);
    absorb_children(engine, parent_id);
    return COP_OK;
}

static cop_status stitch(cop_engine *engine, cop_branch parent_id, bool equal_start) {
    cop_branch_record *parent = &engine->branches[parent_id];
    cop_node view = parent->node;
    uint32_t position = parent->next_position;
    cop_kv_retain(engine->kv, view);
    cop_status status = COP_OK;
    for (cop_branch id = parent->first_child; id != COP_BRANCH_NONE && status == COP_OK;
         id = engine->branches[id].next_sibling) {
        const cop_branch_record *child = &engine->branches[id];
        if (child->end != COP_END_DONE || child->node == COP_NODE_NONE)
            continue;
        cop_node longer;
        status = cop_kv_stitch(engine->kv, view, parent->node, &child->node, 1, &longer);
        if (status == COP_OK) {
            cop_kv_release(engine->kv, view);
            view = longer;
            position = child->next_position > position ? child->next_position : position;
        }
    }
    if (status == COP_OK && !equal_start)
        position = cop_kv_view_tokens(engine->kv, view);
    if (status == COP_OK)
        status = reopen(engine, parent_id, view);
    if (status == COP_OK)
        parent->next_position = position;
    cop_kv_release(engine->kv, view);
    return status;
}

cop_status cop_engine_join_stitch(cop_engine *engine, cop_branch parent, bool equal_start) {
    cop_term term = cop__engine_enter(engine, COP_TERM_JOIN);
    cop__engine_delay(engine, COP_TERM_JOIN);
    cop_status status = stitch(engine, parent, equal_start);
    cop__engine_enter(engine, term);
    return status;
}

/* The view without pieces at its end that hold no token: a root that only opens blocks would stand
 * on one more of them after each. */
static cop_node without_empty(const cop_engine *engine, cop_node view) {
    while (view != cop_kv_root(engine->kv) && cop_kv_own_tokens(engine->kv, view) == 0)
        view = cop_kv_node(engine->kv, view).parent;
    return view;
}

cop_status cop_engine_join_anew(cop_engine *engine, cop_branch parent_id) {
    cop_term term = cop__engine_enter(engine, COP_TERM_JOIN);
    cop__engine_delay(engine, COP_TERM_JOIN);
    cop_status status = reopen(engine, parent_id, cop_kv_root(engine->kv));
    if (status == COP_OK) {
        cop_branch_record *parent = &engine->branches[parent_id];
        parent->next_position = parent->begin_position = 0;
        parent->begin = cop_kv_root(engine->kv);
        parent->spawned = true;
    }
    cop__engine_enter(engine, term);
    return status;
}

cop_status cop_engine_join_shared(cop_engine *engine, cop_branch parent_id) {
    cop_term term = cop__engine_enter(engine, COP_TERM_JOIN);
    cop__engine_delay(engine, COP_TERM_JOIN);
    cop_branch_record *parent = &engine->branches[parent_id];
    cop_node view = COP_NODE_NONE;
    cop_status status = cop__engine_share_stitch(engine, parent, &view);
    if (status == COP_OK) {
        const uint32_t tokens = cop_kv_view_tokens(engine->kv, view);
        cop_kv_retain(engine->kv, view);
        status = reopen(engine, parent_id, view);
        if (status == COP_OK)
            parent->next_position = (uint32_t)((int32_t)tokens + parent->share_begin);
        cop_kv_release(engine->kv, view);
    }
    cop__engine_enter(engine, term);
    return status;
}

cop_status cop_engine_join_text(cop_engine *engine, cop_branch parent_id, bool reuse_first) {
    cop_term term = cop__engine_enter(engine, COP_TERM_JOIN);
    cop__engine_delay(engine, COP_TERM_JOIN);
    cop_branch_record *parent = &engine->branches[parent_id];
    cop_node view = without_empty(engine, parent->node);
    uint32_t position = parent->next_position;
    if (reuse_first) {
        const cop_branch_record *first = &engine->branches[parent->first_child];
        if (first->end == COP_END_DONE && first->node != COP_NODE_NONE) {
            view = first->node;
            engine->metrics->tokens_reused += first->next_position - position;
            position = first->next_position;
        }
    }
    cop_kv_retain(engine->kv, view);
    cop_status status = reopen(engine, parent_id, view);
    cop_kv_release(engine->kv, view);
    if (status == COP_OK)
        parent->next_position = position;
    cop__engine_enter(engine, term);
    return status;
}
