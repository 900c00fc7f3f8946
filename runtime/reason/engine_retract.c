/* Tokens taken back from a branch: the last ones before it forks, or all behind a position. */
#include "reason/engine_internal.h"

static void forget_row(cop_branch_record *branch) {
    branch->again.n = 0;
    branch->last_row = COP_ROW_NONE;
}

cop_status cop_engine_retract(cop_engine *engine, cop_branch id, uint32_t n) {
    cop_branch_record *branch = &engine->branches[id];
    if (n == 0)
        return COP_OK;
    cop__engine_take_back(engine, branch);
    COP_TRY(cop__engine_unpark(engine, id));
    const uint32_t tokens = cop_kv_own_tokens(engine->kv, branch->node);
    if (branch->n_pending > 0 || n > tokens)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%u tokens cannot be taken back: the branch has %u of its own, %u of them "
                        "not yet run",
                        n, tokens, branch->n_pending);
    COP_TRY(cop_kv_retract(engine->kv, branch->node, n));
    cop__engine_unfed(branch, n);
    forget_row(branch);
    branch->next_position -= n;
    return COP_OK;
}

/* The branch stands on `base`, a node above its own, with nothing of its own. */
static cop_status stand_on(cop_engine *engine, cop_branch id, cop_node base) {
    cop_branch_record *branch = &engine->branches[id];
    cop_node node;
    COP_TRY(cop_kv_open(engine->kv, base, &node));
    cop_kv_release(engine->kv, branch->node);
    branch->node = node;
    branch->n_spans = branch->n_pending = branch->n_fed = branch->fed_tokens = 0;
    branch->expected_tokens = 0;
    branch->fed_whole = true;
    branch->next_position = cop_kv_view_tokens(engine->kv, base);
    return COP_OK;
}

cop_status cop_engine_rewind(cop_engine *engine, cop_branch id, uint32_t position) {
    cop_branch_record *branch = &engine->branches[id];
    if (branch->next_position <= position)
        return COP_OK;
    COP_TRY(cop__engine_unpark(engine, id));
    cop__engine_leave_plan(engine, branch);
    if (branch->n_pending > 0)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "a branch with %u tokens that have not yet run cannot be taken back to "
                        "position %u",
                        branch->n_pending, position);
    const cop_node begin =
        branch->spawned ? cop_kv_root(engine->kv) : engine->branches[branch->parent].node;
    if (cop_kv_node(engine->kv, branch->node).view_tokens <= position) {
        COP_TRY(cop_engine_retract(engine, id, branch->next_position - position));
    } else { /* what is sealed is kept as a whole, or not at all */
        cop_node node = branch->node;
        while (node != begin && cop_kv_node(engine->kv, node).view_tokens > position)
            node = cop_kv_node(engine->kv, node).parent;
        if (node != begin)
            node = cop_kv_node(engine->kv, node).parent;
        COP_TRY(stand_on(engine, id, node));
        forget_row(branch);
    }
    const uint32_t first = branch->spawned ? 0 : engine->branches[branch->parent].next_position;
    branch->from_parent = !branch->spawned && branch->next_position == first;
    return COP_OK;
}
