/* What happens when the pool is full: who gives way, who comes back, who may start.
 *
 * Before each step there is a page for every branch that runs, so that the tokens sampled in it can
 * be fed. While there is not, branches give way, the last in depth-first order first. One that runs
 * gives way cheaply: its own tokens leave the pool, the view it stands on stays, and it comes back
 * when there is room. Where only the first branch of all still runs, subtrees that wait for their
 * children, ended branches that wait for their join, and those that gave way but still stand on
 * what they had joined, begin anew, the youngest first. So the
 * first branch always gets on (wound-wait: Rosenkrantz et al. 1978), and a run completes in any
 * pool that holds its longest view. A branch without tokens yet takes nobody's pages: it waits. */
#include <string.h>

#include "reason/engine_internal.h"

enum { YIELDS_MAX = 16 };

static const char *const names[] = {"fail", "queue", "recompute", "prune-lowest"};

const char *cop_pressure_name(cop_pressure pressure) {
    return names[pressure];
}

cop_status cop_pressure_parse(const char *name, cop_pressure *out) {
    for (int i = 0; i <= COP_PRESSURE_PRUNE_LOWEST; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (cop_pressure)i;
            return COP_OK;
        }
    }
    return COP_FAIL(COP_ERR_USAGE,
                    "policy \"%.40s\" for a full KV pool: use fail, queue, recompute or "
                    "prune-lowest",
                    name);
}

void cop__engine_fed(cop_branch_record *branch, const int32_t *ids, uint32_t n) {
    cop_fed_span *last = branch->n_fed ? &branch->fed[branch->n_fed - 1] : NULL;
    branch->fed_tokens += n;
    if (last && last->ids + last->n == ids)
        last->n += n;
    else if (branch->n_fed < COP_SPANS_MAX)
        branch->fed[branch->n_fed++] = (cop_fed_span){.ids = ids, .n = n, .feed = COP_FEED_RESUME};
    else
        branch->fed_whole = false;
}

void cop__engine_unfed(cop_branch_record *branch, uint32_t n) {
    branch->fed_tokens -= n;
    while (n > 0 && branch->n_fed > 0) {
        cop_fed_span *last = &branch->fed[branch->n_fed - 1];
        const uint32_t cut = last->n < n ? last->n : n;
        last->n -= cut;
        n -= cut;
        branch->n_fed -= last->n == 0;
    }
}

static uint32_t pages_for(const cop_engine *engine, uint64_t tokens) {
    return (uint32_t)((tokens + engine->options.page_tokens - 1) / engine->options.page_tokens);
}

static uint32_t pages_free(const cop_engine *engine) {
    return cop_kv_stats_read(engine->kv).pages_free;
}

static bool runs(const cop_branch_record *branch) {
    return branch->state == COP_BRANCH_LIVE && !branch->parked;
}

/* Pages that the running branches were promised and do not hold yet. */
static uint64_t promised(const cop_engine *engine, const cop_branch_record *but) {
    uint64_t pages = 0;
    for (cop_branch id = engine->oldest; id != COP_BRANCH_NONE; id = engine->branches[id].newer) {
        const cop_branch_record *b = &engine->branches[id];
        if (runs(b) && b != but && b->expected_tokens > b->fed_tokens)
            pages += pages_for(engine, b->expected_tokens) - pages_for(engine, b->fed_tokens);
    }
    return pages;
}

static bool another_runs(const cop_engine *engine, const cop_branch_record *but) {
    for (cop_branch id = engine->oldest; id != COP_BRANCH_NONE; id = engine->branches[id].newer)
        if (runs(&engine->branches[id]) && &engine->branches[id] != but)
            return true;
    return false;
}

/* Whether a branch that holds nothing yet may start with `now` tokens. */
static bool may_start(const cop_engine *engine, const cop_branch_record *branch, uint32_t now) {
    if (!another_runs(engine, branch))
        return true;
    const uint64_t free = pages_free(engine);
    if (engine->options.pressure != COP_PRESSURE_QUEUE)
        return free >= pages_for(engine, now);
    uint64_t expected = branch && branch->expected_tokens ? branch->expected_tokens
                                                          : (uint64_t)engine->options.max_positions;
    if (expected < now)
        expected = now;
    return free >= promised(engine, branch) + pages_for(engine, expected);
}

/* Whether a further problem may begin. */
bool cop__engine_admits(const cop_engine *engine, uint32_t prompt_tokens) {
    return engine->options.pressure == COP_PRESSURE_FAIL ||
           may_start(engine, NULL, prompt_tokens ? prompt_tokens : 1);
}

static void park(cop_engine *engine, cop_branch_record *branch) {
    cop__engine_leave_plan(engine, branch);
    branch->ran_tokens = branch->fed_tokens - branch->n_pending;
    branch->n_pending = branch->n_spans = 0;
    branch->again.n = 0;
    cop_kv_retract(engine->kv, branch->node, branch->fed_tokens);
    branch->parked = true;
    engine->n_parked++;
    engine->metrics->branches_parked++;
}

/* The youngest branch that can give way for another one. */
static cop_branch_record *victim(cop_engine *engine, const cop_branch_record *but) {
    for (cop_branch id = engine->newest; id != COP_BRANCH_NONE; id = engine->branches[id].older) {
        cop_branch_record *b = &engine->branches[id];
        if (runs(b) && b != but && b->fed_tokens > 0 && b->fed_whole)
            return b;
    }
    return NULL;
}

static bool stands_above(const cop_engine *engine, cop_branch id, cop_branch below) {
    while (below != COP_BRANCH_NONE && below != id)
        below = engine->branches[below].parent;
    return below == id;
}

/* Depth-first order: ancestors first, then by birth. */
static bool comes_before(const cop_engine *engine, cop_branch a, cop_branch b) {
    const cop_branch_record *all = engine->branches;
    cop_branch x = a, y = b;
    while (all[x].depth > all[y].depth)
        x = all[x].parent;
    while (all[y].depth > all[x].depth)
        y = all[y].parent;
    if (x == y)
        return all[a].depth < all[b].depth;
    while (all[x].parent != all[y].parent) {
        x = all[x].parent;
        y = all[y].parent;
    }
    return all[x].serial < all[y].serial;
}

/* Whether it stands on tokens of its own that were sealed, as a branch does that has joined: what
 * gives way leaves them in the pool. */
static bool stands_on_own(const cop_engine *engine, const cop_branch_record *branch) {
    if (branch->parent == COP_BRANCH_NONE)
        return false;
    const cop_node begin =
        branch->spawned ? cop_kv_root(engine->kv) : engine->branches[branch->parent].node;
    return cop_kv_node(engine->kv, branch->node).parent != begin;
}

/* The youngest branch of that state that holds pages and can begin anew: one that comes after
 * `but`, or, with `any`, one that `but` does not stand on. */
static cop_branch restartable(cop_engine *engine, cop_branch_state state, cop_branch but,
                              bool any) {
    for (cop_branch id = engine->newest; id != COP_BRANCH_NONE; id = engine->branches[id].older) {
        const cop_branch_record *b = &engine->branches[id];
        if (b->state != state || b->problem == COP_PROBLEM_NONE || b->node == COP_NODE_NONE ||
            b->shared || b->shares || stands_above(engine, id, but) ||
            (state == COP_BRANCH_LIVE && (!b->parked || !stands_on_own(engine, b))) ||
            (any ? b->yielded >= YIELDS_MAX : comes_before(engine, id, but)))
            continue;
        cop_driver *driver = engine->problems[b->problem].driver;
        if (driver->restart && driver->restart(driver, engine, id, true))
            return id;
    }
    return COP_BRANCH_NONE;
}

/* Begins a subtree anew. One that comes before `but` yields its place with it, and does so a few
 * times at most: it happens where `but` fits nowhere beside it, as a branch may that will be
 * pruned. False: there is none. */
static bool restart_one(cop_engine *engine, cop_branch but, bool may_any) {
    cop_branch id = COP_BRANCH_NONE;
    static const cop_branch_state states[] = {COP_BRANCH_WAITING, COP_BRANCH_ENDED,
                                              COP_BRANCH_LIVE};
    for (uint32_t i = 0; i < 3 * (1 + (uint32_t)may_any) && id == COP_BRANCH_NONE; i++)
        id = restartable(engine, states[i % 3], but, i >= 3);
    if (id == COP_BRANCH_NONE)
        return false;
    cop_branch_record *branch = &engine->branches[id];
    cop_driver *driver = engine->problems[branch->problem].driver;
    if (branch->depth == 0) { /* a whole problem: it is admitted once more later */
        cop__engine_withdraw(engine, id);
        return driver->restart(driver, engine, id, false);
    }
    const uint32_t before = pages_free(engine);
    if (!cop__engine_strip(engine, id))
        return false;
    engine->n_parked += !branch->parked;
    branch->parked = true;
    branch->stripped_pages = pages_free(engine) - before;
    if (comes_before(engine, id, but)) {
        branch->yielded++;
        cop__engine_renumber(engine, id);
    }
    engine->metrics->branches_parked++;
    return driver->restart(driver, engine, id, false);
}

static cop_status take(cop_engine *engine, const cop_branch_record *branch, uint32_t n) {
    cop_status status = cop_kv_append(engine->kv, branch->node, n);
    if (status == COP_ERR_NO_PAGES && engine->store) {
        cop_prefix_evict(engine->store, pages_for(engine, n) + 1);
        status = cop_kv_append(engine->kv, branch->node, n);
    }
    return status;
}

/* The first one in depth-first order of all branches that run or gave way, or of the latter alone.
 */
static cop_branch find_first(const cop_engine *engine, bool parked) {
    cop_branch first = COP_BRANCH_NONE;
    for (cop_branch id = engine->oldest; id != COP_BRANCH_NONE; id = engine->branches[id].newer) {
        const cop_branch_record *b = &engine->branches[id];
        if (b->state == COP_BRANCH_LIVE && (b->parked || !parked) &&
            (first == COP_BRANCH_NONE || comes_before(engine, id, first)))
            first = id;
    }
    return first;
}

/* The same, until it fits or nobody is left who gives way. */
static cop_status take_from_others(cop_engine *engine, cop_branch id, uint32_t n, bool any) {
    const cop_branch_record *branch = &engine->branches[id];
    cop_status status = take(engine, branch, n);
    while (status == COP_ERR_NO_PAGES && engine->options.pressure != COP_PRESSURE_FAIL) {
        cop_branch_record *other = victim(engine, branch);
        if (other)
            park(engine, other);
        else if (!restart_one(engine, id, any))
            break;
        status = cop_kv_append(engine->kv, branch->node, n);
    }
    return status;
}

cop_status cop__engine_take_pages(cop_engine *engine, cop_branch id, uint32_t n, bool *parked) {
    cop_branch_record *branch = &engine->branches[id];
    *parked = branch->parked;
    if (branch->parked)
        return COP_OK;
    if (engine->options.pressure != COP_PRESSURE_FAIL && branch->fed_tokens == 0 &&
        !branch->shared && !may_start(engine, branch, n)) {
        park(engine, branch);
        *parked = true;
        return COP_OK;
    }
    cop_status status = take(engine, branch, n);
    if (status != COP_ERR_NO_PAGES || engine->options.pressure == COP_PRESSURE_FAIL)
        return status;
    /* Only the first of all may take the place of those before it: whoever else lacks a page waits.
     */
    const bool first = find_first(engine, false) == id;
    status = take_from_others(engine, id, n, first);
    if (status != COP_ERR_NO_PAGES || first || !branch->fed_whole)
        return status;
    park(engine, branch);
    *parked = true;
    return COP_OK;
}

static void resume(cop_engine *engine, cop_branch_record *branch) {
    uint32_t offset = 0;
    for (uint32_t i = 0; i < branch->n_fed; i++) {
        branch->spans[i] = branch->fed[i];
        branch->spans[i].offset = offset;
        branch->spans[i].position = branch->next_position - branch->fed_tokens + offset;
        offset += branch->fed[i].n;
    }
    branch->n_spans = branch->n_fed;
    branch->n_pending = branch->fed_tokens;
    branch->parked = false;
    branch->stripped_pages = 0;
    engine->n_parked--;
    engine->metrics->tokens_recomputed += branch->ran_tokens;
    branch->ran_tokens = 0;
}

cop_status cop__engine_unpark(cop_engine *engine, cop_branch id) {
    cop_branch_record *branch = &engine->branches[id];
    if (!branch->parked)
        return COP_OK;
    COP_TRY(take_from_others(engine, id, branch->fed_tokens, true));
    resume(engine, branch);
    return COP_OK;
}

static uint32_t count_running(const cop_engine *engine) {
    uint32_t n = 0;
    for (cop_branch id = engine->oldest; id != COP_BRANCH_NONE; id = engine->branches[id].newer)
        n += runs(&engine->branches[id]);
    return n;
}

static cop_status shed_one(cop_engine *engine, bool *any) {
    *any = false;
    for (uint32_t p = engine->n_problems; p-- > 0 && !*any;) {
        const cop_problem *problem = &engine->problems[p];
        cop_driver *driver = problem->driver;
        if (driver && driver->shed && problem->admitted && !problem->ended)
            COP_TRY(driver->shed(driver, engine, p, any));
    }
    engine->metrics->branches_shed += *any;
    return COP_OK;
}

/* Of those that run, the last one that can give way. */
static cop_branch find_last(const cop_engine *engine, cop_branch but) {
    cop_branch last = COP_BRANCH_NONE;
    for (cop_branch id = engine->oldest; id != COP_BRANCH_NONE; id = engine->branches[id].newer) {
        const cop_branch_record *b = &engine->branches[id];
        if (runs(b) && id != but && b->fed_tokens > 0 && b->fed_whole &&
            (last == COP_BRANCH_NONE || comes_before(engine, last, id)))
            last = id;
    }
    return last;
}

/* A page for every branch that runs, as far as others can be made to give way. */
static cop_status make_room(cop_engine *engine) {
    while (pages_free(engine) < count_running(engine)) {
        bool any = false;
        if (engine->options.pressure == COP_PRESSURE_PRUNE_LOWEST)
            COP_TRY(shed_one(engine, &any));
        if (any)
            continue;
        const cop_branch first = find_first(engine, false), last = find_last(engine, first);
        if (last != COP_BRANCH_NONE)
            park(engine, &engine->branches[last]);
        else if (!restart_one(engine, first, true))
            return COP_OK; /* who wants a page that is not there will hear of it */
    }
    return COP_OK;
}

/* Parked branches come back, the first one first, as long as there is room for their tokens and a
 * page for everybody who runs; the first of all comes back in any case. */
static cop_status unpark_first(cop_engine *engine) {
    while (engine->n_parked > 0) {
        const cop_branch id = find_first(engine, true);
        cop_branch_record *branch = &engine->branches[id];
        const uint32_t running = count_running(engine);
        uint32_t pages = pages_for(engine, branch->fed_tokens + 1);
        if (pages < branch->stripped_pages) /* it would only be in the way again */
            pages = branch->stripped_pages;
        const bool fits = engine->options.pressure == COP_PRESSURE_QUEUE
                              ? may_start(engine, branch, branch->fed_tokens)
                              : pages_free(engine) >= pages + running + 1;
        if (running > 0 && !fits && find_first(engine, false) != id)
            return COP_OK;
        COP_TRY(take_from_others(engine, id, branch->fed_tokens, true));
        resume(engine, branch);
    }
    return COP_OK;
}

cop_status cop__engine_relieve(cop_engine *engine) {
    if (engine->options.pressure == COP_PRESSURE_FAIL)
        return COP_OK;
    if (engine->n_parked > 0)
        COP_TRY(unpark_first(engine));
    return make_room(engine);
}

bool cop__engine_has_spare_pages(const cop_engine *engine) {
    return engine->options.pressure == COP_PRESSURE_FAIL ||
           pages_free(engine) >= 2 * engine->n_decode;
}
