/* Which tokens run in the next step, and in which rows. */
#include <string.h>

#include "reason/engine_internal.h"

static cop_term term_of(const cop_engine *engine, const cop_branch_record *branch, cop_feed feed) {
    switch (feed) {
    case COP_FEED_PROMPT:
    case COP_FEED_RESUME:
        return COP_TERM_PREFILL;
    case COP_FEED_HEADER:
    case COP_FEED_SPAWN:
        return COP_TERM_FORK;
    case COP_FEED_JOIN:
    case COP_FEED_AGAIN:
        return COP_TERM_JOIN;
    case COP_FEED_DECODE:
        break;
    }
    if (branch->parent == COP_BRANCH_NONE || branch->state != COP_BRANCH_LIVE)
        return COP_TERM_DECODE;
    const cop_branch_record *parent = &engine->branches[branch->parent];
    bool last = parent->n_children >= 2 && parent->n_children_live == 1 &&
                parent->state == COP_BRANCH_WAITING;
    return last ? COP_TERM_STRAGGLER : COP_TERM_DECODE;
}

static bool decodes(const cop_branch_record *branch) {
    return branch->state == COP_BRANCH_LIVE && branch->n_pending == 1 &&
           branch->spans[0].feed == COP_FEED_DECODE;
}

/* Children that are sampled from their parent's last row need that row in this step. A step that
 * ran ahead has computed it already, for the parent's own next token: it runs once more. */
static void run_again(cop_branch_record *parent) {
    if (parent->n_pending > 0 || parent->again.n == 0)
        return;
    parent->spans[0] = parent->again;
    parent->n_spans = parent->n_pending = 1;
}

/* Paths of a shared block are chosen together (engine_share.c). */
static bool in_shared_block(const cop_engine *engine, const cop_branch_record *branch) {
    if (branch->state == COP_BRANCH_ZOMBIE)
        return branch->shared;
    return branch->parent != COP_BRANCH_NONE && engine->branches[branch->parent].shares;
}

/* One pass over the branches, oldest first: drains go into the runs at once, as long as there is
 * room; the others that have something to run are listed as candidates.
 *
 * Drains are rows that others of the same problem may read before anything else of that problem
 * runs: the last tokens of parents and of finished children. They come first; a problem whose own
 * do not all fit into this step runs nothing else in it. */
static uint32_t sort_out(cop_engine *engine, uint32_t *room) {
    uint32_t n = 0;
    for (uint32_t p = 0; p < engine->n_problems; p++) {
        engine->problems[p].blocked = false;
        engine->problems[p].share_pending = 0;
    }
    for (cop_branch id = engine->oldest; id != COP_BRANCH_NONE; id = engine->branches[id].newer) {
        cop_branch_record *branch = &engine->branches[id];
        branch->last_row = COP_ROW_NONE;
        if (branch->from_parent && !branch->parked)
            run_again(
                &engine->branches[branch->heir != COP_BRANCH_NONE ? branch->heir : branch->parent]);
    }
    cop__engine_prefix_drain(engine, room);
    for (cop_branch id = engine->oldest; id != COP_BRANCH_NONE; id = engine->branches[id].newer) {
        const cop_branch_record *branch = &engine->branches[id];
        if (branch->n_pending == 0 || branch->problem == COP_PROBLEM_NONE)
            continue;
        if (in_shared_block(engine, branch)) {
            if (branch->state == COP_BRANCH_ZOMBIE)
                engine->problems[branch->problem].share_pending += branch->n_pending;
            continue;
        }
        if (branch->state == COP_BRANCH_LIVE) {
            if (branch->row == COP_ROW_NONE || !decodes(branch))
                engine->candidates[n++] = id;
            continue;
        }
        uint32_t tokens = branch->n_pending < *room ? branch->n_pending : *room;
        if (tokens < branch->n_pending)
            engine->problems[branch->problem].blocked = true;
        if (tokens > 0)
            engine->runs[engine->n_runs++] = (cop_run){id, tokens};
        *room -= tokens;
    }
    return n;
}

/* Rows of the last step stay where they are; those that sit this one out are filled from the end.
 */
static cop_status pick_decodes(cop_engine *engine, uint32_t n_candidates, uint32_t *room) {
    for (uint32_t row = engine->n_decode; row-- > 0;) {
        const cop_branch_record *branch = &engine->branches[engine->decode_branch[row]];
        if (!decodes(branch) || engine->problems[branch->problem].blocked)
            cop__engine_row_remove(engine, row);
    }
    while (engine->n_decode > *room)
        cop__engine_row_remove(engine, engine->n_decode - 1);
    for (uint32_t i = 0; i < n_candidates && engine->n_decode < *room; i++) {
        cop_branch id = engine->candidates[i];
        cop_branch_record *branch = &engine->branches[id];
        if (!decodes(branch) || engine->problems[branch->problem].blocked)
            continue;
        if (branch->slot == UINT32_MAX)
            COP_TRY(cop_plan_slot_add(engine->plan, branch->node, &branch->slot));
        branch->row = engine->n_decode++;
        engine->decode_slot[branch->row] = branch->slot;
        engine->decode_branch[branch->row] = id;
    }
    *room -= engine->n_decode;
    return COP_OK;
}

static void pick_prefills(cop_engine *engine, uint32_t n_candidates, uint32_t *room) {
    for (uint32_t i = 0; i<n_candidates && * room> 0; i++) {
        cop_branch id = engine->candidates[i];
        const cop_branch_record *branch = &engine->branches[id];
        if (decodes(branch) || engine->problems[branch->problem].blocked)
            continue;
        uint32_t tokens = branch->n_pending < *room ? branch->n_pending : *room;
        engine->runs[engine->n_runs++] = (cop_run){id, tokens};
        *room -= tokens;
    }
}

/* Pages of what a view stands on: its own segments above `node`, that one apart, below `until`. */
static uint64_t pages_above(const cop_engine *engine, cop_node node, cop_node until) {
    const uint32_t page = engine->options.page_tokens;
    uint64_t pages = 0;
    for (node = cop_kv_node(engine->kv, node).parent; node != until;
         node = cop_kv_node(engine->kv, node).parent) {
        pages += (cop_kv_own_tokens(engine->kv, node) + page - 1) / page;
    }
    return pages;
}

/* A branch does not see what those that wait for it hold since it began, or at all where it was
 * spawned, but needs it in the pool. */
static uint64_t pages_beside(const cop_engine *engine, const cop_branch_record *branch) {
    const uint32_t page = engine->options.page_tokens;
    uint64_t pages = 0;
    if (branch->state == COP_BRANCH_ZOMBIE) /* nobody waits for it */
        return 0;
    for (; branch->parent != COP_BRANCH_NONE; branch = &engine->branches[branch->parent]) {
        const cop_branch_record *parent = &engine->branches[branch->parent];
        const cop_node node = parent->node;
        if (node == branch->begin || (!branch->spawned && !parent->beside))
            continue;
        pages += (cop_kv_own_tokens(engine->kv, node) + page - 1) / page +
                 pages_above(engine, node, branch->begin);
    }
    return pages;
}

/* The most tokens that a row has seen, and the most pages that it needed, with those of branches
 * that wait for it: the least pool that could hold this run. Views are walked where they may have
 * more pages than any before. */
static void note_view(cop_engine *engine, const cop_branch_record *branch, uint64_t tokens,
                      uint32_t own) {
    cop_metrics *m = engine->metrics;
    const uint32_t page = engine->options.page_tokens;
    if (tokens > m->view_tokens_longest)
        m->view_tokens_longest = tokens;
    const uint64_t beside = pages_beside(engine, branch);
    if (tokens / page + cop_kv_node(engine->kv, cop__engine_view(branch)).depth + beside <=
        m->view_pages_longest)
        return;
    const uint64_t pages = (own + page - 1) / page +
                           pages_above(engine, cop__engine_view(branch), cop_kv_root(engine->kv)) +
                           beside;
    if (pages > m->view_pages_longest)
        m->view_pages_longest = pages;
}

/* Moves the first `tokens` fed tokens of the branch into rows. */
static void fill_rows(cop_engine *engine, cop_branch id, uint32_t tokens) {
    cop_branch_record *branch = &engine->branches[id];
    cop_node_info node = cop_kv_node(engine->kv, cop__engine_view(branch));
    uint32_t row = engine->n_rows;
    while (tokens > 0) {
        cop_fed_span *span = &branch->spans[0];
        uint32_t n = span->n < tokens ? span->n : tokens;
        cop_term term = term_of(engine, branch, span->feed);
        for (uint32_t i = 0; i < n; i++, row++) {
            engine->token[row] = span->ids[i];
            engine->key_position[row] = (int32_t)(span->position + i);
            engine->position[row] =
                branch->shared
                    ? branch->share_begin + (int32_t)(node.view_tokens + span->offset + i)
                    : engine->key_position[row];
            engine->floats = engine->floats || branch->shared;
            engine->segment[row] = node.segment;
            engine->offset[row] = span->offset + i;
            engine->row_term[row] = (uint8_t)term;
            engine->row_view[row] = node.view_tokens + span->offset + i + 1;
        }
        span->ids += n;
        span->n -= n;
        span->offset += n;
        span->position += n;
        if (span->n == 0)
            memmove(branch->spans, branch->spans + 1, --branch->n_spans * sizeof *branch->spans);
        branch->n_pending -= n;
        tokens -= n;
    }
    engine->n_rows = row;
    note_view(engine, branch, engine->row_view[row - 1], engine->offset[row - 1] + 1);
    branch->last_row = branch->n_pending == 0 ? row - 1 : COP_ROW_NONE;
}

cop_status cop__engine_build_rows(cop_engine *engine) {
    uint32_t room = engine->options.max_rows;
    engine->n_rows = engine->n_runs = 0;
    engine->floats = false;
    uint32_t n_candidates = sort_out(engine, &room);
    COP_TRY(cop__engine_share_drain(engine, &room));
    COP_TRY(cop__engine_share_rows(engine, &room));
    COP_TRY(pick_decodes(engine, n_candidates, &room));
    pick_prefills(engine, n_candidates, &room);
    for (uint32_t row = 0; row < engine->n_decode; row++)
        fill_rows(engine, engine->decode_branch[row], 1);
    for (uint32_t i = 0; i < engine->n_runs; i++) {
        const cop_run *run = &engine->runs[i];
        const cop_branch_record *branch = &engine->branches[run->branch];
        engine->plan_runs[i] = (cop_prefill_run){.node = cop__engine_view(branch),
                                                 .first = branch->spans[0].offset,
                                                 .tokens = run->tokens,
                                                 .row = (int32_t)engine->n_rows};
        fill_rows(engine, run->branch, run->tokens);
    }
    return COP_OK;
}

/* Whether the step that was queued last can be followed by one more token of every row: it held
 * decode rows alone, all of them still decode, and nothing else waits. */
static bool ahead_possible(const cop_engine *engine, const cop_flight *before) {
    if (before->n_runs > 0 || before->n_decode != engine->n_decode || engine->n_decode == 0 ||
        before->n_requests != before->n_decode || !cop__engine_has_spare_pages(engine))
        return false;
    for (cop_branch id = engine->oldest; id != COP_BRANCH_NONE; id = engine->branches[id].newer) {
        const cop_branch_record *branch = &engine->branches[id];
        if (branch->n_pending > 0 || branch->from_parent)
            return false;
        if (branch->state == COP_BRANCH_LIVE && branch->flight != before->number)
            return false;
    }
    for (uint32_t row = 0; row < engine->n_decode; row++) {
        const cop_branch_record *branch = &engine->branches[engine->decode_branch[row]];
        if (branch->reserved || branch->flight != before->number ||
            before->requests[row].row != row ||
            branch->next_position >= engine->options.max_positions)
            return false;
    }
    return true;
}

bool cop__engine_build_ahead(cop_engine *engine, const cop_flight *before) {
    if (!ahead_possible(engine, before))
        return false;
    engine->n_rows = engine->n_runs = 0;
    for (uint32_t row = 0; row < engine->n_decode; row++) {
        cop_branch_record *branch = &engine->branches[engine->decode_branch[row]];
        cop_node_info node = cop_kv_node(engine->kv, branch->node);
        uint32_t offset = cop_kv_segments(engine->kv)[node.segment].tokens;
        if (cop_kv_append(engine->kv, branch->node, 1) != COP_OK) {
            cop__engine_unbuild_ahead(engine);
            return false;
        }
        branch->reserved = true;
        engine->token[row] = COP_TOKEN_SAMPLED;
        engine->position[row] = (int32_t)branch->next_position;
        engine->segment[row] = node.segment;
        engine->offset[row] = offset;
        engine->row_term[row] = (uint8_t)term_of(engine, branch, COP_FEED_DECODE);
        engine->row_view[row] = node.view_tokens + offset + 1;
        branch->last_row = row;
        engine->n_rows++;
    }
    return true;
}

/* Gives back what was appended for rows that will not run. */
void cop__engine_unbuild_ahead(cop_engine *engine) {
    for (uint32_t row = 0; row < engine->n_rows; row++) {
        cop_branch_record *branch = &engine->branches[engine->decode_branch[row]];
        branch->reserved = false;
        cop_kv_retract(engine->kv, branch->node, 1);
    }
    engine->n_rows = 0;
}
