/* Tokens taken back from a branch that is about to fork. */
#include "reason/engine_internal.h"

cop_status cop_engine_retract(cop_engine *engine, cop_branch id, uint32_t n) {
    cop_branch_record *branch = &engine->branches[id];
    if (n == 0)
        return COP_OK;
    cop__engine_take_back(engine, branch);
    COP_TRY(cop__engine_unpark(engine, id));
    uint32_t own = cop_kv_node(engine->kv, branch->node).segment;
    uint32_t tokens = cop_kv_segments(engine->kv)[own].tokens;
    if (branch->n_pending > 0 || n > tokens)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%u tokens cannot be taken back: the branch has %u of its own, %u of them "
                        "not yet run",
                        n, tokens, branch->n_pending);
    COP_TRY(cop_kv_retract(engine->kv, branch->node, n));
    cop__engine_unfed(branch, n);
    branch->again.n = 0;
    branch->last_row = COP_ROW_NONE;
    branch->next_position -= n;
    return COP_OK;
}
