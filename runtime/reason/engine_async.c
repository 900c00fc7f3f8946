/* Children beside which their parent goes on, and that are joined one by one. */
#include "reason/engine_internal.h"

bool cop__engine_awaits(const cop_branch_record *parent, cop_branch child) {
    return parent->state == COP_BRANCH_WAITING &&
           (parent->awaits == COP_BRANCH_NONE || parent->awaits == child);
}

bool cop__engine_wakes(const cop_branch_record *parent, cop_branch child) {
    if (parent->beside && parent->awaits != COP_BRANCH_NONE)
        return cop__engine_awaits(parent, child);
    return parent->state == COP_BRANCH_WAITING && parent->n_children_live == 0;
}

void cop__engine_drop_heir(cop_engine *engine, cop_branch_record *branch) {
    if (branch->from_parent && branch->heir != COP_BRANCH_NONE)
        cop__engine_forget(engine, branch->heir);
    branch->heir = COP_BRANCH_NONE;
}

static cop_status check_parent(const cop_branch_record *parent) {
    const bool lives = parent->state == COP_BRANCH_LIVE || parent->state == COP_BRANCH_WAITING;
    if (!lives || parent->shared || (parent->first_child != COP_BRANCH_NONE && !parent->beside))
        return COP_FAIL(COP_ERR_INTERNAL, "a child beside a branch that has ended or forked");
    return COP_OK;
}

/* The last of its siblings. */
static cop_status add_child(cop_engine *engine, cop_branch parent_id, cop_node view, bool spawn,
                            cop_branch *out) {
    cop_branch_record *parent = &engine->branches[parent_id];
    COP_TRY(cop__engine_child(engine, parent_id, view, spawn, parent->n_beside, out));
    parent->beside = true;
    parent->n_beside++;
    engine->metrics->forks++;
    cop_branch *link = &parent->first_child;
    while (*link != COP_BRANCH_NONE)
        link = &engine->branches[*link].next_sibling;
    *link = *out;
    return COP_OK;
}

/* The parent goes on in a new segment under `view`. What it still has to run on the old one is
 * taken over, and `sampled` says that its next token comes from there. */
static cop_status go_on_under(cop_engine *engine, cop_branch id, cop_node view, bool sampled) {
    cop_branch_record *parent = &engine->branches[id];
    cop_node node;
    COP_TRY(cop_kv_open(engine->kv, view, &node));
    if (parent->n_pending > 0 || (sampled && parent->again.n > 0)) {
        cop_branch heir;
        cop_status status = cop__engine_hand_over(engine, id, &heir);
        if (status != COP_OK) {
            cop_kv_release(engine->kv, node);
            return status;
        }
        cop__engine_list_insert(engine, id, heir);
        cop_branch_record *record = &engine->branches[heir];
        if (record->n_pending == 0) { /* run ahead, for the old segment: once more */
            record->spans[0] = record->again;
            record->n_spans = record->n_pending = 1;
        }
        parent->heir = sampled ? heir : COP_BRANCH_NONE;
        parent->from_parent = sampled;
    }
    cop_kv_release(engine->kv, parent->node);
    parent->node = node;
    parent->again.n = 0;
    parent->n_fed = parent->fed_tokens = parent->expected_tokens = 0;
    parent->fed_whole = true;
    return COP_OK;
}

static cop_status fork_beside(cop_engine *engine, cop_branch id, uint32_t gap, cop_branch *out) {
    cop_branch_record *parent = &engine->branches[id];
    COP_TRY(check_parent(parent));
    if (parent->state != COP_BRANCH_LIVE)
        return COP_FAIL(COP_ERR_INTERNAL, "a fork beside a branch that waits");
    if (gap > engine->options.max_positions - parent->next_position)
        return COP_FAIL(COP_ERR_CONTEXT,
                        "a gap of %u positions at position %u goes past %u positions", gap,
                        parent->next_position, engine->options.max_positions);
    COP_TRY(cop__engine_unpark(engine, id));
    cop__engine_leave_plan(engine, parent);
    cop_node view = parent->node;
    if (cop_kv_own_tokens(engine->kv, view) ==
        0) { /* it has gone on already, and said nothing since */
        COP_TRY(add_child(engine, id, cop_kv_node(engine->kv, view).parent, false, out));
    } else {
        cop_kv_seal(engine->kv, view);
        COP_TRY(add_child(engine, id, view, false, out));
        COP_TRY(go_on_under(engine, id, view, true));
    }
    parent->next_position += gap;
    return COP_OK;
}

cop_status cop_engine_fork_beside(cop_engine *engine, cop_branch parent, uint32_t gap,
                                  cop_branch *out) {
    cop_term term = cop__engine_enter(engine, COP_TERM_FORK);
    cop__engine_delay(engine, COP_TERM_FORK);
    cop_status status = fork_beside(engine, parent, gap, out);
    cop__engine_enter(engine, term);
    return status;
}

cop_status cop_engine_spawn_beside(cop_engine *engine, cop_branch parent, cop_branch *out) {
    cop_term term = cop__engine_enter(engine, COP_TERM_FORK);
    cop__engine_delay(engine, COP_TERM_FORK);
    cop_status status = check_parent(&engine->branches[parent]);
    if (status == COP_OK)
        status = add_child(engine, parent, cop_kv_root(engine->kv), true, out);
    cop__engine_enter(engine, term);
    return status;
}

static bool has_ended(const cop_engine *engine, cop_branch child) {
    return engine->branches[child].state == COP_BRANCH_ENDED;
}

cop_status cop_engine_wait(cop_engine *engine, cop_branch id, cop_branch child, bool *ready) {
    cop_branch_record *parent = &engine->branches[id];
    COP_TRY(check_parent(parent));
    if (child != COP_BRANCH_NONE && engine->branches[child].parent != id)
        return COP_FAIL(COP_ERR_INTERNAL, "a branch waits for another one's child");
    *ready = child == COP_BRANCH_NONE ? parent->n_children_live == 0 : has_ended(engine, child);
    if (*ready)
        return COP_OK;
    parent->awaits = child;
    if (parent->state == COP_BRANCH_WAITING)
        return COP_OK;
    COP_TRY(cop__engine_unpark(engine, id));
    cop__engine_leave_plan(engine, parent);
    parent->state = COP_BRANCH_WAITING;
    cop__engine_event(engine, COP_EVENT_WAIT_BEGIN, id, 0, 0);
    return COP_OK;
}

static void absorb(cop_engine *engine, cop_branch parent_id, cop_branch id) {
    cop_branch_record *parent = &engine->branches[parent_id], *child = &engine->branches[id];
    cop_branch *link = &parent->first_child;
    while (*link != id)
        link = &engine->branches[*link].next_sibling;
    *link = child->next_sibling;
    cop__engine_lengthen(parent, child);
    parent->below += child->generated + child->below;
    parent->n_children--;
    engine->metrics->joins++;
    cop__engine_event(engine, COP_EVENT_JOIN, parent_id, child->serial, 0);
    cop__engine_release(engine, id);
}

/* The parent's view followed by the children's own segments, which the caller holds then. */
static cop_status stitch(cop_engine *engine, const cop_join_beside *join, cop_node *view,
                         uint32_t *position) {
    for (uint32_t i = 0; i < join->n; i++) {
        const cop_branch_record *child = &engine->branches[join->children[i]];
        cop_node longer;
        if (child->end != COP_END_DONE || child->node == COP_NODE_NONE)
            continue;
        COP_TRY(cop_kv_stitch(engine->kv, *view, child->begin, &child->node, 1, &longer));
        cop_kv_release(engine->kv, *view);
        *view = longer;
        if (join->behind && child->next_position > *position)
            *position = child->next_position;
    }
    return COP_OK;
}

static cop_status join_stitched(cop_engine *engine, cop_branch id, const cop_join_beside *join) {
    cop_branch_record *parent = &engine->branches[id];
    COP_TRY(cop__engine_unpark(engine, id));
    cop__engine_leave_plan(engine, parent);
    cop_kv_seal(engine->kv, parent->node);
    cop_node view = parent->node;
    if (cop_kv_own_tokens(engine->kv, view) == 0)
        view = cop_kv_node(engine->kv, view).parent;
    uint32_t position = parent->next_position;
    cop_kv_retain(engine->kv, view);
    cop_status status = stitch(engine, join, &view, &position);
    if (status == COP_OK)
        status = go_on_under(engine, id, view, false);
    cop_kv_release(engine->kv, view);
    if (status == COP_OK)
        parent->next_position = position;
    return status;
}

static cop_status join_beside(cop_engine *engine, cop_branch id, const cop_join_beside *join) {
    cop_branch_record *parent = &engine->branches[id];
    COP_TRY(check_parent(parent));
    for (uint32_t i = 0; i < join->n; i++)
        if (engine->branches[join->children[i]].parent != id ||
            !has_ended(engine, join->children[i]))
            return COP_FAIL(COP_ERR_INTERNAL, "a join of a child that has not ended");
    if (join->stitch)
        COP_TRY(join_stitched(engine, id, join));
    for (uint32_t i = 0; i < join->n; i++)
        absorb(engine, id, join->children[i]);
    if (parent->state == COP_BRANCH_WAITING) {
        parent->state = COP_BRANCH_LIVE;
        cop__engine_event(engine, COP_EVENT_WAIT_END, id, 0, 0);
    }
    parent->awaits = COP_BRANCH_NONE;
    return COP_OK;
}

cop_status cop_engine_join_beside(cop_engine *engine, cop_branch parent,
                                  const cop_join_beside *join) {
    cop_term term = cop__engine_enter(engine, COP_TERM_JOIN);
    cop__engine_delay(engine, COP_TERM_JOIN);
    cop_status status = join_beside(engine, parent, join);
    cop__engine_enter(engine, term);
    return status;
}
