#include "reason/engine.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "kernels/attention.h"
#include "reason/engine_internal.h"

enum { DEFAULT_CHUNK = 1024, DEFAULT_PREFILL_ROWS = 256, MAX_PROBLEMS = 4096 };

static cop_status check_options(cop_engine_options *o) {
    if (o->page_tokens != 16 && o->page_tokens != 32 && o->page_tokens != 64)
        return COP_FAIL(COP_ERR_CONFIG, "page_tokens is %u: use 16, 32 or 64", o->page_tokens);
    if (o->n_pages == 0 || o->max_branches == 0 || o->max_positions == 0)
        return COP_FAIL(COP_ERR_CONFIG, "n_pages, max_branches and max_positions must be positive");
    if (!o->chunk_tokens)
        o->chunk_tokens = DEFAULT_CHUNK;
    if (!o->chunk_tail_tokens)
        o->chunk_tail_tokens = o->chunk_tokens;
    if (o->chunk_tokens % COP_LEAF_TOKENS || o->chunk_tail_tokens % COP_LEAF_TOKENS)
        return COP_FAIL(COP_ERR_CONFIG, "chunk_tokens and chunk_tail_tokens are multiples of %d",
                        COP_LEAF_TOKENS);
    if (!o->max_rows)
        o->max_rows = o->max_branches + DEFAULT_PREFILL_ROWS;
    if (o->max_rows < o->max_branches)
        return COP_FAIL(COP_ERR_CONFIG, "max_rows is %u, fewer than max_branches, %u", o->max_rows,
                        o->max_branches);
    if (!o->max_segments)
        o->max_segments = o->n_pages + 2 * o->max_branches + 64 + cop__engine_prefix_entries(o);
    return COP_OK;
}

static cop_status create_parts(cop_engine *e) {
    const cop_engine_options *o = &e->options;
    const cop_model_shape *shape = cop_model_shape_of(e->model);
    uint32_t smallest =
        o->chunk_tokens < o->chunk_tail_tokens ? o->chunk_tokens : o->chunk_tail_tokens;
    uint64_t pool_tokens = (uint64_t)o->n_pages * o->page_tokens;
    uint64_t view_tokens = o->max_view_tokens ? o->max_view_tokens : 2ull * o->max_positions;
    if (view_tokens > pool_tokens)
        view_tokens = pool_tokens;
    uint64_t partials = (uint64_t)o->max_rows * (view_tokens / smallest + 2);
    if (pool_tokens > UINT32_MAX / 2 || partials > UINT32_MAX / 2)
        return COP_FAIL(COP_ERR_CONFIG, "a pool of %u pages of %u tokens is too large", o->n_pages,
                        o->page_tokens);
    COP_TRY(cop_backend_find(o->backend ? o->backend : "cpu", &e->ops));
    cop_kv_options kv = {.page_tokens = o->page_tokens,
                         .n_pages = o->n_pages,
                         .max_segments = o->max_segments,
                         .max_nodes = 2 * o->max_segments,
                         .chunk_tokens = o->chunk_tokens,
                         .chunk_tail_tokens = o->chunk_tail_tokens,
                         .pages_ahead = e->ops->steps_ahead > 0}; /* it keeps a copy of the table */
    COP_TRY(cop_kv_create(&kv, &e->kv));
    COP_TRY(cop__engine_prefix_create(e));
    /* What the attention kernels take; the same plan on every backend. */
    const uint32_t tile_slots =
        cop_attention_tile_slots(shape->head_dim, shape->n_heads / shape->n_kv_heads);
    cop_plan_options plan = {.group = shape->n_heads / shape->n_kv_heads,
                             .tile_slots = o->tile_slots ? o->tile_slots : tile_slots,
                             .chunk_tokens = o->chunk_tokens,
                             .chunk_tail_tokens = o->chunk_tail_tokens,
                             .max_decode_slots = o->max_branches,
                             .max_prefill_slots = o->max_rows,
                             .max_partials = (uint32_t)partials};
    COP_TRY(cop_plan_create(&plan, e->kv, &e->plan));
    cop_backend_options backend = {.arith = o->arith,
                                   .n_threads = o->n_threads,
                                   .isa = o->isa,
                                   .max_rows = o->max_rows,
                                   .max_samples = o->max_branches,
                                   .max_partials = (uint32_t)partials,
                                   .max_positions = o->max_positions,
                                   .n_pages = o->n_pages,
                                   .page_tokens = o->page_tokens,
                                   .capacity = cop_plan_capacity(e->plan),
                                   .products = o->products,
                                   .device = o->device,
                                   .eager = o->eager,
                                   .time_every = o->time_every};
    COP_TRY(e->ops->create(e->model, &backend, &e->backend));
    e->attention = (cop_attention_shape){.n_heads = shape->n_heads,
                                         .n_kv_heads = shape->n_kv_heads,
                                         .head_dim = shape->head_dim,
                                         .kv_element_bytes = o->arith == COP_ARITH_F32 ? 4 : 2};
    return COP_OK;
}

static cop_status create_arrays(cop_engine *e) {
    const cop_engine_options *o = &e->options;
    e->max_segments = o->max_segments;
    e->seen = cop_calloc(cop_cost_scratch_words(o->max_segments, o->n_pages), sizeof *e->seen);
    e->segment_step = cop_calloc(o->max_segments, sizeof *e->segment_step);
    e->segment_tokens = cop_calloc(o->max_segments, sizeof *e->segment_tokens);
    e->max_fillers = cop__engine_prefix_fillers(o);
    const uint32_t records = o->max_branches + e->max_fillers;
    e->branches = cop_calloc(records, sizeof *e->branches);
    e->free_ids = cop_calloc(records, sizeof *e->free_ids);
    e->fillers = cop_calloc(e->max_fillers + 1, sizeof *e->fillers);
    e->oldest = e->newest = COP_BRANCH_NONE;
    e->max_problems = o->max_branches < MAX_PROBLEMS ? o->max_branches : MAX_PROBLEMS;
    e->problems = cop_calloc(e->max_problems, sizeof *e->problems);
    e->token = cop_calloc(o->max_rows, sizeof *e->token);
    e->position = cop_calloc(o->max_rows, sizeof *e->position);
    e->key_position = cop_calloc(o->max_rows, sizeof *e->key_position);
    e->segment = cop_calloc(o->max_rows, sizeof *e->segment);
    e->offset = cop_calloc(o->max_rows, sizeof *e->offset);
    e->row_term = cop_calloc(o->max_rows, sizeof *e->row_term);
    e->row_view = cop_calloc(o->max_rows, sizeof *e->row_view);
    e->decode_slot = cop_calloc(o->max_branches, sizeof *e->decode_slot);
    e->decode_branch = cop_calloc(o->max_branches, sizeof *e->decode_branch);
    e->candidates = cop_calloc(o->max_branches, sizeof *e->candidates);
    e->share_below = cop_calloc(records + 2, sizeof *e->share_below);
    e->share_tail = cop_calloc(records + 2, sizeof *e->share_tail);
    e->runs = cop_calloc(records, sizeof *e->runs);
    e->plan_runs = cop_calloc(records, sizeof *e->plan_runs);
    bool flights = true;
    for (uint32_t i = 0; i < COP_FLIGHTS_MAX; i++) {
        cop_flight *f = &e->flights[i];
        f->requests = cop_calloc(o->max_branches, sizeof *f->requests);
        f->gives = cop_calloc(o->max_branches, sizeof *f->gives);
        flights = flights && f->requests && f->gives;
    }
    e->samples = cop_calloc(o->max_branches, sizeof *e->samples);
    bool whole = flights && e->seen && e->branches && e->free_ids && e->problems && e->token &&
                 e->position && e->key_position && e->share_below && e->share_tail && e->segment &&
                 e->offset && e->row_term && e->row_view && e->decode_slot && e->decode_branch &&
                 e->candidates && e->fillers && e->runs && e->plan_runs && e->samples &&
                 e->segment_step && e->segment_tokens;
    if (!whole)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the engine's tables");
    while (e->n_free < records) /* a stack: the first taken is branch 0 */
        e->free_ids[e->n_free] = records - 1 - e->n_free, e->n_free++;
    return COP_OK;
}

cop_status cop_engine_create(const cop_model *model, const cop_engine_options *options,
                             cop_engine **out) {
    cop_engine *e = cop_calloc(1, sizeof *e);
    if (!e)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the engine");
    e->options = *options;
    e->model = model;
    e->profile = (cop_profile){.first = options->profile_first, .last = options->profile_last};
    cop_status status = check_options(&e->options);
    if (status == COP_OK)
        status = create_parts(e);
    if (status == COP_OK)
        status = create_arrays(e);
    if (status != COP_OK) {
        cop_engine_destroy(e);
        return status;
    }
    *out = e;
    return COP_OK;
}

void cop_engine_destroy(cop_engine *e) {
    if (!e)
        return;
    void *arrays[] = {e->seen,         e->branches,       e->problems,      e->token,
                      e->position,     e->segment,        e->offset,        e->row_term,
                      e->row_view,     e->decode_slot,    e->decode_branch, e->candidates,
                      e->fillers,      e->runs,           e->plan_runs,     e->samples,
                      e->segment_step, e->segment_tokens, e->free_ids,      e->key_position,
                      e->share_below,  e->share_tail};
    for (uint32_t i = 0; i < COP_FLIGHTS_MAX; i++) {
        cop_free(e->flights[i].requests);
        cop_free(e->flights[i].gives);
    }
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        cop_free(arrays[i]);
    if (e->profile.on) /* its steps were more than the runs had */
        e->ops->profile(e->backend, false);
    if (e->backend)
        e->ops->destroy(e->backend);
    cop_plan_destroy(e->plan);
    cop_prefix_store_destroy(e->store);
    cop_kv_destroy(e->kv);
    cop_free(e);
}

const cop_backend *cop_engine_backend(const cop_engine *engine, const cop_backend_ops **ops) {
    *ops = engine->ops;
    return engine->backend;
}

static void label_branch(cop_engine *engine, const cop_branch_record *branch) {
    if (!engine->options.timeline)
        return;
    char label[32] = "root";
    if (branch->parent != COP_BRANCH_NONE) {
        const cop_branch_record *parent = &engine->branches[branch->parent];
        const char *above = cop_timeline_label_of(engine->options.timeline, parent->serial);
        if (branch->depth == 1)
            snprintf(label, sizeof label, "%u", branch->index + 1);
        else
            snprintf(label, sizeof label, "%.20s.%u", above, branch->index + 1);
    }
    cop_timeline_label(engine->options.timeline, branch->serial, label);
}

/* Records that fillers may take are not the branches'. */
bool cop__engine_is_full(const cop_engine *engine) {
    return engine->n_free + engine->n_fillers <= engine->max_fillers;
}

cop_status cop__engine_too_many(const cop_engine *engine) {
    return COP_FAIL(COP_ERR_NO_ROOM, "more than %u branches at once: raise max_branches",
                    engine->options.max_branches);
}

void cop__engine_list_append(cop_engine *engine, cop_branch id) {
    cop_branch_record *branch = &engine->branches[id];
    branch->older = engine->newest;
    branch->newer = COP_BRANCH_NONE;
    *(engine->newest == COP_BRANCH_NONE ? &engine->oldest
                                        : &engine->branches[engine->newest].newer) = id;
    engine->newest = id;
}

void cop__engine_list_remove(cop_engine *engine, cop_branch id) {
    const cop_branch_record *branch = &engine->branches[id];
    *(branch->older == COP_BRANCH_NONE ? &engine->oldest : &engine->branches[branch->older].newer) =
        branch->newer;
    *(branch->newer == COP_BRANCH_NONE ? &engine->newest : &engine->branches[branch->newer].older) =
        branch->older;
}

/* Right behind `before`. */
void cop__engine_list_insert(cop_engine *engine, cop_branch id, cop_branch before) {
    cop_branch_record *branch = &engine->branches[id];
    branch->older = before;
    branch->newer = engine->branches[before].newer;
    engine->branches[before].newer = id;
    *(branch->newer == COP_BRANCH_NONE ? &engine->newest : &engine->branches[branch->newer].older) =
        id;
}

/* `with`, which stands in no list, takes the place of `old`. */
void cop__engine_list_replace(cop_engine *engine, cop_branch old, cop_branch with) {
    cop_branch_record *to = &engine->branches[with];
    to->older = engine->branches[old].older;
    to->newer = engine->branches[old].newer;
    *(to->older == COP_BRANCH_NONE ? &engine->oldest : &engine->branches[to->older].newer) = with;
    *(to->newer == COP_BRANCH_NONE ? &engine->newest : &engine->branches[to->newer].older) = with;
}

cop_branch_record cop__engine_blank(uint32_t problem, cop_branch parent, uint32_t serial,
                                    cop_node node) {
    return (cop_branch_record){.state = COP_BRANCH_LIVE,
                               .problem = problem,
                               .parent = parent,
                               .serial = serial,
                               .node = node,
                               .view = COP_NODE_NONE,
                               .heir = COP_BRANCH_NONE,
                               .awaits = COP_BRANCH_NONE,
                               .begin = COP_NODE_NONE,
                               .slot = UINT32_MAX,
                               .row = COP_ROW_NONE,
                               .last_row = COP_ROW_NONE,
                               .fed_whole = true,
                               .first_child = COP_BRANCH_NONE,
                               .next_sibling = COP_BRANCH_NONE};
}

cop_status cop__engine_branch_new(cop_engine *engine, uint32_t problem, cop_branch parent,
                                  cop_node view, cop_branch *out) {
    cop_node node;
    if (cop__engine_is_full(engine))
        return cop__engine_too_many(engine);
    COP_TRY(cop_kv_open(engine->kv, view, &node));
    cop_branch id = engine->free_ids[--engine->n_free];
    cop_branch_record *branch = &engine->branches[id];
    *branch = cop__engine_blank(problem, parent, engine->next_serial++, node);
    branch->begin = view;
    cop__engine_list_append(engine, id);
    engine->metrics->branches++;
    *out = id;
    return COP_OK;
}

cop_status cop_engine_root(cop_engine *engine, uint32_t problem, cop_branch *out) {
    COP_TRY(cop__engine_branch_new(engine, problem, COP_BRANCH_NONE, cop_kv_root(engine->kv), out));
    cop_branch_record *root = &engine->branches[*out];
    root->stream = cop_rng_fold(0, engine->problems[problem].driver->problem_key);
    engine->problems[problem].root = *out;
    label_branch(engine, root);
    cop__engine_event(engine, COP_EVENT_BRANCH_BEGIN, *out, UINT32_MAX, 0);
    return COP_OK;
}

static cop_status pool_full(const cop_engine *engine, const cop_branch_record *branch, uint32_t n) {
    cop_kv_stats stats = cop_kv_stats_read(engine->kv);
    return COP_FAIL(
        COP_ERR_NO_PAGES,
        "the KV pool is full: problem %u, position %u, %u more tokens, %u of %u pages of "
        "%u tokens free; raise the pool (--pages, or \"pages\" in a config) or run less "
        "at once",
        branch->problem, branch->next_position, n, stats.pages_free, stats.pages_total,
        engine->options.page_tokens);
}

/* The queued step that runs ahead has computed this very token. */
static void confirm_ahead(cop_branch_record *branch, const int32_t *ids, uint32_t offset) {
    branch->reserved = false;
    cop__engine_fed(branch, ids, 1);
    branch->again = (cop_fed_span){ids, 1, offset, branch->next_position, COP_FEED_DECODE};
    branch->next_position++;
    branch->from_parent = false;
}

void cop__engine_take_back(cop_engine *engine, cop_branch_record *branch) {
    if (!branch->reserved)
        return;
    branch->reserved = false;
    branch->flight = 0;
    /* The token is the last one of an open segment, so this cannot fail. */
    cop_kv_retract(engine->kv, branch->node, 1);
    engine->metrics->rows_taken_back++;
}

cop_status cop_engine_feed(cop_engine *engine, cop_branch id, const int32_t *ids, uint32_t n,
                           cop_feed feed) {
    cop_branch_record *branch = &engine->branches[id];
    if (n == 0)
        return COP_OK;
    if (branch->reserved && n == 1 && feed == COP_FEED_DECODE && ids[0] == branch->expected) {
        confirm_ahead(branch, ids, cop_kv_own_tokens(engine->kv, branch->node) - 1);
        return COP_OK;
    }
    cop__engine_take_back(engine, branch);
    branch->flight = 0; /* what ran ahead was confirmed, and is not its last token any more */
    branch->again.n = 0;
    if (branch->n_spans == COP_SPANS_MAX)
        return COP_FAIL(COP_ERR_INTERNAL, "a branch was fed more than %d spans", COP_SPANS_MAX);
    if (n > engine->options.max_positions - branch->next_position)
        return COP_FAIL(
            COP_ERR_CONTEXT,
            "%u tokens at position %u go past %u positions: shorten the input, or allow "
            "extrapolation",
            n, branch->next_position, engine->options.max_positions);
    uint32_t vocab = cop_model_shape_of(engine->model)->vocab;
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= vocab)
            return COP_FAIL(COP_ERR_FORMAT, "token id %d is outside the vocabulary of %u", ids[i],
                            vocab);
    }
    if (engine->store && feed == COP_FEED_PROMPT && !branch->parked &&
        (branch->parent == COP_BRANCH_NONE || branch->spawned) &&
        cop_kv_view_tokens(engine->kv, branch->node) == 0)
        COP_TRY(cop__engine_prefix_take(engine, branch, &ids, &n));
    const uint32_t offset = cop_kv_own_tokens(engine->kv, branch->node);
    bool parked;
    cop_status status = cop__engine_take_pages(engine, id, n, &parked);
    if (status == COP_ERR_NO_PAGES)
        return pool_full(engine, branch, n);
    COP_TRY(status);
    cop__engine_fed(branch, ids, n);
    if (!branch->fed_whole && parked)
        return COP_FAIL(COP_ERR_INTERNAL, "a waiting branch was fed from more than %d places",
                        COP_SPANS_MAX);
    if (!parked) {
        branch->spans[branch->n_spans++] =
            (cop_fed_span){ids, n, offset, branch->next_position, feed};
        branch->n_pending += n;
    }
    branch->next_position += n;
    branch->from_parent = false;
    cop_metrics *m = engine->metrics;
    if (feed == COP_FEED_PROMPT || feed == COP_FEED_SPAWN)
        m->tokens_prompt += n;
    else if (feed == COP_FEED_AGAIN)
        m->tokens_reprefilled += n;
    else if (feed != COP_FEED_DECODE)
        m->tokens_forced += n;
    if (feed == COP_FEED_HEADER || feed == COP_FEED_JOIN)
        branch->thread_tokens += n;
    if (feed != COP_FEED_DECODE)
        branch->critical_tokens += n;
    return COP_OK;
}

void cop_engine_generated(cop_engine *engine, cop_branch id, uint32_t n) {
    cop_branch_record *branch = &engine->branches[id];
    branch->generated += n;
    branch->thread_tokens += n;
    branch->critical_tokens += n;
    branch->chain_tokens += n;
    engine->metrics->tokens_total += n;
    engine->problems[branch->problem].result.tokens_total += n;
    if (engine->metrics->ttft_ns == 0)
        engine->metrics->ttft_ns = cop_clock_ns() - engine->begin_ns;
}

void cop_engine_stream(cop_engine *engine, cop_branch id, uint32_t index) {
    cop_branch_record *branch = &engine->branches[id];
    branch->stream = cop_rng_fold(engine->branches[branch->parent].stream, index);
}

void cop__engine_row_remove(cop_engine *engine, uint32_t row) {
    uint32_t last = --engine->n_decode;
    engine->branches[engine->decode_branch[row]].row = COP_ROW_NONE;
    if (row == last)
        return;
    engine->decode_branch[row] = engine->decode_branch[last];
    engine->decode_slot[row] = engine->decode_slot[last];
    engine->branches[engine->decode_branch[row]].row = row;
}

/* The branch does not decode any more, on this node at least. */
void cop__engine_leave_plan(cop_engine *engine, cop_branch_record *branch) {
    cop__engine_take_back(engine, branch);
    branch->flight = 0;
    if (branch->row != COP_ROW_NONE)
        cop__engine_row_remove(engine, branch->row);
    if (branch->slot != UINT32_MAX)
        cop_plan_slot_remove(engine->plan, branch->slot);
    branch->slot = UINT32_MAX;
}

void cop__engine_say_begun(cop_engine *engine, cop_branch id) {
    const cop_branch_record *child = &engine->branches[id];
    label_branch(engine, child);
    cop__engine_event(engine, COP_EVENT_BRANCH_BEGIN, id, engine->branches[child->parent].serial,
                      0);
    cop__engine_event(engine, COP_EVENT_FORK, child->parent, child->serial, 0);
}

cop_status cop__engine_child(cop_engine *engine, cop_branch parent_id, cop_node view, bool spawn,
                             uint32_t index, cop_branch *out) {
    cop_branch_record *parent = &engine->branches[parent_id];
    COP_TRY(cop__engine_branch_new(engine, parent->problem, parent_id, view, out));
    cop_branch_record *child = &engine->branches[*out];
    child->index = index;
    child->depth = parent->depth + 1;
    child->stream = cop_rng_fold(parent->stream, index);
    child->next_position = child->begin_position = spawn ? 0 : parent->next_position;
    child->from_parent = !spawn;
    child->spawned = spawn;
    child->parent_thread = parent->thread_tokens;
    child->parent_critical = parent->critical_tokens;
    child->parent_chain = parent->chain_tokens;
    parent->n_children++;
    parent->n_children_live++;
    cop__engine_say_begun(engine, *out);
    return COP_OK;
}

static cop_status fork_children(cop_engine *engine, cop_branch parent_id, uint32_t n, bool spawn,
                                cop_branch *out) {
    cop_branch_record *parent = &engine->branches[parent_id];
    if (parent->first_child != COP_BRANCH_NONE)
        return COP_FAIL(COP_ERR_INTERNAL, "a fork beside children that were not joined");
    if (parent->shared)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "a branch that others see while it decodes cannot fork");
    COP_TRY(cop__engine_unpark(engine, parent_id));
    cop__engine_leave_plan(engine, parent);
    cop_kv_seal(engine->kv, parent->node);
    parent->state = COP_BRANCH_WAITING;
    parent->beside = false;
    parent->from_parent = false;
    parent->n_children = parent->n_children_live = 0;
    if (parent->n_fed > 0) { /* a child that begins anew is sampled from its row once more */
        const cop_fed_span *last = &parent->fed[parent->n_fed - 1];
        parent->again = (cop_fed_span){last->ids + last->n - 1, 1, parent->fed_tokens - 1,
                                       parent->next_position - 1, COP_FEED_RESUME};
    }
    parent->first_child = COP_BRANCH_NONE;
    cop_branch *link = &parent->first_child;
    for (uint32_t i = 0; i < n; i++) {
        cop_node view = spawn ? cop_kv_root(engine->kv) : parent->node;
        COP_TRY(cop__engine_child(engine, parent_id, view, spawn, i, &out[i]));
        *link = out[i];
        link = &engine->branches[out[i]].next_sibling;
    }
    if (n > 1 || parent->depth > 0) /* a prompt's one continuation is no fork */
        engine->metrics->forks++;
    cop__engine_event(engine, COP_EVENT_WAIT_BEGIN, parent_id, 0, 0);
    return COP_OK;
}

static cop_status open_block(cop_engine *engine, cop_branch parent, uint32_t n, bool spawn,
                             cop_branch *out) {
    if (n == 0)
        return COP_FAIL(COP_ERR_INTERNAL, "a fork into no branch");
    cop_term term = cop__engine_enter(engine, COP_TERM_FORK);
    cop__engine_delay(engine, COP_TERM_FORK);
    cop_status status = fork_children(engine, parent, n, spawn, out);
    cop__engine_enter(engine, term);
    return status;
}

cop_status cop_engine_fork(cop_engine *engine, cop_branch parent, uint32_t n, cop_branch *out) {
    return open_block(engine, parent, n, false, out);
}

cop_status cop_engine_spawn(cop_engine *engine, cop_branch parent, uint32_t n, cop_branch *out) {
    return open_block(engine, parent, n, true, out);
}

void cop__engine_renumber(cop_engine *engine, cop_branch id) {
    engine->branches[id].serial = engine->next_serial++;
    label_branch(engine, &engine->branches[id]);
}

void cop_engine_expect(cop_engine *engine, cop_branch branch, uint32_t tokens) {
    engine->branches[branch].expected_tokens = tokens;
}

cop_branch_info cop_engine_branch(const cop_engine *engine, cop_branch id) {
    const cop_branch_record *b = &engine->branches[id];
    return (cop_branch_info){.parent = b->parent,
                             .problem = b->problem,
                             .index = b->index,
                             .depth = b->depth,
                             .n_children = b->n_children,
                             .n_children_live = b->n_children_live,
                             .next_position = b->next_position,
                             .generated = b->generated,
                             .data = b->data,
                             .end = b->end};
}

void cop_engine_set_data(cop_engine *engine, cop_branch branch, uint32_t data) {
    engine->branches[branch].data = data;
}

cop_branch cop_engine_child(const cop_engine *engine, cop_branch parent, uint32_t index) {
    cop_branch child = engine->branches[parent].first_child;
    while (index-- > 0 && child != COP_BRANCH_NONE)
        child = engine->branches[child].next_sibling;
    return child;
}

cop_metrics *cop_engine_metrics(cop_engine *engine) {
    return engine->metrics;
}

uint32_t cop_engine_max_positions(const cop_engine *engine) {
    return engine->options.max_positions;
}
