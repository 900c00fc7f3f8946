/* Branches that end, by themselves or with what they stand on, and those that begin anew. */
#include "base/clock.h"
#include "reason/engine_internal.h"

/* Gives the record back; its view goes with it. */
void cop__engine_forget(cop_engine *engine, cop_branch id) {
    cop_branch_record *branch = &engine->branches[id];
    cop__engine_leave_plan(engine, branch);
    cop_kv_release(engine->kv, branch->view);
    cop_kv_release(engine->kv, branch->node);
    cop__engine_share_end(engine, branch);
    engine->n_zombies -= branch->state == COP_BRANCH_ZOMBIE;
    engine->n_parked -= branch->parked;
    branch->state = COP_BRANCH_FREE;
    engine->free_ids[engine->n_free++] = id;
    cop__engine_list_remove(engine, id);
}

/* A branch that others do not read any more may go at once; one whose fed tokens must still run
 * (others see them) goes when they have. */
void cop__engine_release(cop_engine *engine, cop_branch id) {
    cop_branch_record *branch = &engine->branches[id];
    cop__engine_leave_plan(engine, branch);
    if (branch->n_pending > 0 && branch->end == COP_END_DONE) {
        branch->state = COP_BRANCH_ZOMBIE;
        engine->n_zombies++;
    } else {
        cop__engine_forget(engine, id);
    }
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* The longest path into a branch now runs through its slowest child. */
static void add_longest_child(const cop_engine *engine, cop_branch_record *branch) {
    uint64_t thread = 0, critical = 0;
    for (cop_branch id = branch->first_child; id != COP_BRANCH_NONE;
         id = engine->branches[id].next_sibling) {
        const cop_branch_record *child = &engine->branches[id];
        thread = larger(thread, larger(child->thread_tokens, child->thread_before));
        critical = larger(critical, larger(child->critical_tokens, child->critical_before));
    }
    branch->thread_tokens += thread;
    branch->critical_tokens += critical;
}

/* The same for a branch that ends while blocks below it are open, innermost first. */
void cop__engine_settle(const cop_engine *engine, cop_branch_record *branch) {
    for (cop_branch id = branch->first_child; id != COP_BRANCH_NONE;
         id = engine->branches[id].next_sibling) {
        cop__engine_settle(engine, &engine->branches[id]);
        branch->below += engine->branches[id].generated + engine->branches[id].below;
    }
    add_longest_child(engine, branch);
}

static void end_children(cop_engine *engine, cop_branch id, cop_branch_end how) {
    cop_branch_record *branch = &engine->branches[id];
    cop_branch next;
    for (cop_branch child = branch->first_child; child != COP_BRANCH_NONE; child = next) {
        cop_branch_record *record = &engine->branches[child];
        next = record->next_sibling;
        end_children(engine, child, how);
        if (record->state != COP_BRANCH_ENDED) {
            record->end = how;
            cop__engine_event(engine, COP_EVENT_BRANCH_END, child, how, record->generated);
        }
        record->n_pending = record->n_spans = 0; /* whoever would have read them ends too */
        cop__engine_release(engine, child);
    }
    branch->first_child = COP_BRANCH_NONE;
    branch->n_children = branch->n_children_live = 0;
}

/* Ends all below a branch that begins anew; what was said will be said again. */
static void drop_below(cop_engine *engine, cop_branch id) {
    cop_branch_record *branch = &engine->branches[id];
    cop__engine_settle(engine, branch);
    end_children(engine, id, COP_END_CANCELLED);
    const uint64_t said = branch->generated + branch->below;
    engine->metrics->tokens_total -= said;
    engine->metrics->tokens_recomputed += said;
    engine->problems[branch->problem].result.tokens_total -= said;
}

void cop__engine_withdraw(cop_engine *engine, cop_branch root) {
    cop_problem *problem = &engine->problems[engine->branches[root].problem];
    drop_below(engine, root);
    cop__engine_forget(engine, root);
    problem->root = COP_BRANCH_NONE;
    problem->admitted = false;
    problem->begun_before = true;
}

bool cop__engine_strip(cop_engine *engine, cop_branch id) {
    cop_branch_record *branch = &engine->branches[id];
    cop_branch_record *parent = &engine->branches[branch->parent];
    cop_node node;
    /* A spawned child began at position 0 with an empty view. */
    const bool spawned = branch->spawned;
    cop_node above = spawned ? cop_kv_root(engine->kv) : parent->node;
    if (cop_kv_open(engine->kv, above, &node) != COP_OK)
        return false;
    if (branch->state == COP_BRANCH_ENDED)
        parent->n_children_live++;
    drop_below(engine, id);
    cop_kv_release(engine->kv, branch->node);
    branch->node = node;
    branch->state = COP_BRANCH_LIVE;
    branch->end = COP_END_DONE;
    branch->from_parent = !spawned;
    branch->n_spans = branch->n_pending = branch->n_fed = branch->fed_tokens = 0;
    branch->ran_tokens = 0;
    branch->fed_whole = true;
    branch->again.n = 0;
    branch->next_position = spawned ? 0 : parent->next_position;
    branch->generated = branch->below = branch->thread_tokens = branch->critical_tokens = 0;
    return true;
}

static void end_problem(cop_engine *engine, cop_problem *problem, const cop_branch_record *root) {
    problem->result.tokens_longest_thread = root->thread_tokens;
    problem->result.tokens_critical_path = root->critical_tokens;
    problem->result.end_ns = cop_clock_ns() - engine->begin_ns;
    engine->metrics->tokens_longest_thread += root->thread_tokens;
    engine->metrics->tokens_critical_path += root->critical_tokens;
    problem->ended = true;
    /* What was still to run for others of this problem has no reader any more, and its ids are the
     * driver's, which may take up another problem now. */
    cop_branch older;
    for (cop_branch id = engine->newest; id != COP_BRANCH_NONE && engine->n_zombies > 0;
         id = older) {
        const cop_branch_record *branch = &engine->branches[id];
        older = branch->older;
        if (branch->state == COP_BRANCH_ZOMBIE && branch->problem == root->problem)
            cop__engine_forget(engine, id);
    }
}

/* `keeps`: its KV stays for the join. */
static cop_status end_branch(cop_engine *engine, cop_branch id, cop_branch_end how, bool keeps) {
    cop_branch_record *branch = &engine->branches[id];
    if (branch->state != COP_BRANCH_LIVE && branch->state != COP_BRANCH_WAITING)
        return COP_FAIL(COP_ERR_INTERNAL, "a branch was ended twice");
    if (keeps && branch->parent != COP_BRANCH_NONE)
        COP_TRY(cop__engine_unpark(engine, id));
    cop__engine_settle(engine, branch);
    end_children(engine, id, COP_END_CANCELLED);
    branch->end = how;
    branch->from_parent = false;
    cop__engine_leave_plan(engine, branch);
    cop__engine_event(engine, COP_EVENT_BRANCH_END, id, how, branch->generated);
    if (how == COP_END_PRUNED || how == COP_END_CANCELLED) {
        engine->metrics->prunes++;
        engine->metrics->tokens_pruned += branch->generated + branch->below;
    }
    cop_problem *problem = &engine->problems[branch->problem];
    cop_branch parent_id = branch->parent;
    if (parent_id == COP_BRANCH_NONE) {
        end_problem(engine, problem, branch);
        branch->n_pending = branch->n_spans = 0; /* nobody reads them any more */
        cop__engine_release(engine, id);
        return COP_OK;
    }
    cop_kv_seal(engine->kv, branch->node);
    branch->state = COP_BRANCH_ENDED;
    if (!keeps) {
        engine->n_parked -= branch->parked;
        branch->parked = false;
        /* Its pages are free now, and what it was fed last need not run; the record stays for the
         * join. */
        cop_kv_release(engine->kv, branch->node);
        branch->node = COP_NODE_NONE;
        branch->n_pending = branch->n_spans = 0;
    }
    cop_branch_record *parent = &engine->branches[parent_id];
    if (--parent->n_children_live > 0)
        return COP_OK;
    return problem->driver->joined(problem->driver, engine, parent_id);
}

cop_status cop_engine_end(cop_engine *engine, cop_branch branch, cop_branch_end how) {
    return end_branch(engine, branch, how, how == COP_END_DONE);
}

cop_status cop_engine_end_text(cop_engine *engine, cop_branch branch) {
    return end_branch(engine, branch, COP_END_DONE, false);
}

/* As it is right after its spawn, in the block that it had stood in before. */
static void begin_child(cop_engine *engine, cop_branch id, uint32_t index, cop_node node) {
    cop_branch_record *child = &engine->branches[id];
    const cop_branch_record *parent = &engine->branches[child->parent];
    const cop_branch_record before = *child;
    *child = cop__engine_blank(before.problem, before.parent, engine->next_serial++, node);
    child->index = index;
    child->depth = before.depth;
    child->older = before.older;
    child->newer = before.newer;
    child->stream = cop_rng_fold(parent->stream, index);
    child->spawned = true;
    child->next_sibling = before.next_sibling;
    child->data = before.data;
    child->thread_before = larger(before.thread_before, before.thread_tokens);
    child->critical_before = larger(before.critical_before, before.critical_tokens);
}

cop_status cop_engine_spawn_next(cop_engine *engine, cop_branch id, uint32_t index) {
    cop_branch_record *child = &engine->branches[id];
    if (child->state != COP_BRANCH_LIVE || !child->spawned || child->parked)
        return COP_FAIL(COP_ERR_INTERNAL, "a branch that was not spawned, has ended or gave way "
                                          "is no place for the next");
    cop_node node;
    COP_TRY(cop_kv_open(engine->kv, cop_kv_root(engine->kv), &node));
    cop_term term = cop__engine_enter(engine, COP_TERM_FORK);
    cop__engine_leave_plan(engine, child);
    cop__engine_event(engine, COP_EVENT_BRANCH_END, id, COP_END_DONE, child->generated);
    engine->branches[child->parent].below += child->generated + child->below;
    cop_kv_release(engine->kv, child->node);
    begin_child(engine, id, index, node);
    cop__engine_list_remove(engine, id);
    cop__engine_list_append(engine, id);
    engine->metrics->branches++;
    cop__engine_say_begun(engine, id);
    cop__engine_enter(engine, term);
    return COP_OK;
}
