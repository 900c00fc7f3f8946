#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "model/forward.h"
#include "reason/engine_internal.h"

static cop_term term_of(const cop_engine *engine, const cop_branch_record *branch, cop_feed feed) {
    switch (feed) {
    case COP_FEED_PROMPT:
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
    bool last = parent->n_children >= 2 && parent->n_children_live == 1;
    return last ? COP_TERM_STRAGGLER : COP_TERM_DECODE;
}

static bool decodes(const cop_branch_record *branch) {
    return branch->state == COP_BRANCH_LIVE && branch->n_pending == 1 &&
           branch->spans[0].feed == COP_FEED_DECODE;
}

/* Rows that others of the same problem may read before anything else of that problem runs: the last
 * tokens of parents and of finished children. They come first; a problem whose own do not all fit
 * into this step runs nothing else in it. */
static void pick_drains(cop_engine *engine, uint32_t *room) {
    for (uint32_t p = 0; p < engine->n_problems; p++)
        engine->problems[p].blocked = false;
    for (uint32_t i = 0; i < engine->n_order; i++) {
        cop_branch id = engine->order[i];
        const cop_branch_record *branch = &engine->branches[id];
        if (branch->n_pending == 0 || branch->state == COP_BRANCH_LIVE)
            continue;
        uint32_t tokens = branch->n_pending < *room ? branch->n_pending : *room;
        if (tokens < branch->n_pending)
            engine->problems[branch->problem].blocked = true;
        if (tokens > 0)
            engine->runs[engine->n_runs++] = (cop_run){id, tokens};
        *room -= tokens;
    }
}

static cop_status pick_decodes(cop_engine *engine, uint32_t *room) {
    for (uint32_t i = 0; i<engine->n_order && * room> 0; i++) {
        cop_branch id = engine->order[i];
        cop_branch_record *branch = &engine->branches[id];
        if (!decodes(branch) || engine->problems[branch->problem].blocked)
            continue;
        if (branch->slot == UINT32_MAX)
            COP_TRY(cop_plan_slot_add(engine->plan, branch->node, &branch->slot));
        engine->decode_slot[engine->n_decode] = branch->slot;
        engine->decode_branch[engine->n_decode++] = id;
        *room -= 1;
    }
    return COP_OK;
}

static void pick_prefills(cop_engine *engine, uint32_t *room) {
    for (uint32_t i = 0; i<engine->n_order && * room> 0; i++) {
        cop_branch id = engine->order[i];
        const cop_branch_record *branch = &engine->branches[id];
        if (branch->state != COP_BRANCH_LIVE || branch->n_pending == 0 || decodes(branch) ||
            engine->problems[branch->problem].blocked)
            continue;
        uint32_t tokens = branch->n_pending < *room ? branch->n_pending : *room;
        engine->runs[engine->n_runs++] = (cop_run){id, tokens};
        *room -= tokens;
    }
}

/* Moves the first `tokens` fed tokens of the branch into rows. */
static void fill_rows(cop_engine *engine, cop_branch id, uint32_t tokens) {
    cop_branch_record *branch = &engine->branches[id];
    cop_node_info node = cop_kv_node(engine->kv, branch->node);
    uint32_t row = engine->n_rows;
    while (tokens > 0) {
        cop_span *span = &branch->spans[0];
        uint32_t n = span->n < tokens ? span->n : tokens;
        cop_term term = term_of(engine, branch, span->feed);
        for (uint32_t i = 0; i < n; i++, row++) {
            engine->token[row] = span->ids[i];
            engine->position[row] = (int32_t)(span->position + i);
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
    branch->last_row = branch->n_pending == 0 ? row - 1 : UINT32_MAX;
}

static cop_status build_rows(cop_engine *engine) {
    uint32_t room = engine->options.max_rows;
    engine->n_rows = engine->n_decode = engine->n_runs = 0;
    for (uint32_t i = 0; i < engine->n_order; i++)
        engine->branches[engine->order[i]].last_row = UINT32_MAX;
    pick_drains(engine, &room);
    COP_TRY(pick_decodes(engine, &room));
    pick_prefills(engine, &room);
    for (uint32_t i = 0; i < engine->n_decode; i++)
        fill_rows(engine, engine->decode_branch[i], 1);
    for (uint32_t i = 0; i < engine->n_runs; i++) {
        const cop_run *run = &engine->runs[i];
        const cop_branch_record *branch = &engine->branches[run->branch];
        engine->plan_runs[i] = (cop_prefill_run){.node = branch->node,
                                                 .first = branch->spans[0].offset,
                                                 .tokens = run->tokens,
                                                 .row = (int32_t)engine->n_rows};
        fill_rows(engine, run->branch, run->tokens);
    }
    return COP_OK;
}

static void add_request(cop_engine *engine, cop_branch id, uint32_t row) {
    const cop_branch_record *branch = &engine->branches[id];
    cop_sample_request request = {
        .row = row,
        .top_p = 1,
        .forced = -1,
        .key = {engine->options.seed, branch->stream, branch->next_position}};
    cop_driver *driver = engine->problems[branch->problem].driver;
    driver->request(driver, engine, id, &request);
    engine->requests[engine->n_requests] = request;
    engine->request_branch[engine->n_requests] = id;
    engine->request_serial[engine->n_requests++] = branch->serial;
}

static void build_requests(cop_engine *engine) {
    engine->n_requests = 0;
    for (uint32_t i = 0; i < engine->n_order; i++) {
        cop_branch id = engine->order[i];
        const cop_branch_record *branch = &engine->branches[id];
        if (branch->state != COP_BRANCH_LIVE)
            continue;
        uint32_t row =
            branch->from_parent ? engine->branches[branch->parent].last_row : branch->last_row;
        if (row != UINT32_MAX)
            add_request(engine, id, row);
    }
}

/* Unique KV tokens that a view sees, added to those of the step so far: straight from the views, so
 * that what the plan makes tiles load can be held against it. */
static uint64_t count_view(cop_engine *engine, cop_node node, uint32_t own_tokens) {
    uint32_t step = (uint32_t)engine->metrics->steps_forward + 1;
    uint64_t fresh = 0;
    for (bool own = true;; own = false) {
        cop_node_info info = cop_kv_node(engine->kv, node);
        if (info.segment == COP_SEGMENT_NONE)
            return fresh;
        uint32_t segment = info.segment;
        uint32_t tokens = own ? own_tokens : cop_kv_segments(engine->kv)[segment].tokens;
        if (engine->segment_step[segment] != step) {
            engine->segment_step[segment] = step;
            engine->segment_tokens[segment] = 0;
        }
        if (tokens > engine->segment_tokens[segment]) {
            fresh += tokens - engine->segment_tokens[segment];
            engine->segment_tokens[segment] = tokens;
        }
        node = info.parent;
    }
}

static uint64_t count_unique_tokens(cop_engine *engine) {
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < engine->n_decode; i++) {
        cop_node node = engine->branches[engine->decode_branch[i]].node;
        uint32_t segment = cop_kv_node(engine->kv, node).segment;
        tokens += count_view(engine, node, cop_kv_segments(engine->kv)[segment].tokens);
    }
    for (uint32_t i = 0; i < engine->n_runs; i++) {
        const cop_prefill_run *run = &engine->plan_runs[i];
        tokens += count_view(engine, run->node, run->first + run->tokens);
    }
    return tokens;
}

static void count_step(cop_engine *engine, const cop_plan_tables *tables) {
    cop_metrics *m = engine->metrics;
    uint64_t layers = cop_model_shape_of(engine->model)->n_layers;
    cop_attention_cost cost;
    cop_cost_attention(tables, engine->max_segments, &engine->attention, engine->seen, &cost);
    const cop_attention_shape *a = &engine->attention;
    m->kv_min_bytes += count_unique_tokens(engine) * 2 * a->n_kv_heads * a->head_dim *
                       a->kv_element_bytes * layers;
    m->kv_predicted_load_bytes += cost.kv_load_bytes * layers;
    m->kv_predicted_first_bytes += cost.kv_first_bytes * layers;
    m->kv_tiles += tables->n_tiles;
    m->steps_forward++;
    m->rows += engine->n_rows;
    if (engine->n_decode > m->branches_live_peak)
        m->branches_live_peak = engine->n_decode;
}

/* The modelled split of a pure decode step: what its longest row would have cost alone, and the
 * rest. */
static void split_decode(cop_engine *engine, uint64_t ns, uint64_t load_bytes) {
    if (engine->n_runs > 0 || engine->n_decode == 0)
        return;
    engine->pure_steps++;
    engine->pure_ns += ns;
    engine->pure_load_bytes += load_bytes;
    double solo = (double)ns;
    if (engine->n_decode > 1) {
        uint64_t longest = 0;
        for (uint32_t row = 0; row < engine->n_rows; row++)
            longest = engine->row_view[row] > longest ? engine->row_view[row] : longest;
        const cop_attention_shape *a = &engine->attention;
        double token_bytes = 2.0 * a->n_kv_heads * a->head_dim * a->kv_element_bytes *
                             cop_model_shape_of(engine->model)->n_layers;
        const cop_step_model *model = &engine->model_of_steps;
        solo = model->n == 0
                   ? NAN
                   : (double)ns * cop__step_model_ns(model, 1, (double)longest * token_bytes) /
                         cop__step_model_ns(model, engine->n_decode, (double)load_bytes);
        if (solo > (double)ns)
            solo = (double)ns;
    }
    engine->metrics->solo_ns += solo;
    engine->metrics->tax_ns += (double)ns - solo;
}

static void delay_forward(cop_engine *engine) {
    uint8_t term = engine->row_term[0];
    for (uint32_t row = 1; row < engine->n_rows; row++) {
        if (engine->row_term[row] != term)
            return;
    }
    if (term == COP_TERM_PREFILL || term == COP_TERM_DECODE || term == COP_TERM_STRAGGLER)
        cop__engine_delay(engine, (cop_term)term);
}

static cop_status run_forward(cop_engine *engine, const cop_plan_tables *tables) {
    cop_step step = {.n_rows = engine->n_rows,
                     .n_decode = engine->n_decode,
                     .token = engine->token,
                     .position = engine->position,
                     .segment = engine->segment,
                     .offset = engine->offset,
                     .plan = *tables};
    cop_backend_counters before, after;
    engine->ops->counters(engine->backend, &before);
    cop__engine_enter(engine, COP_TERM_COUNT); /* until leave_split */
    cop__engine_range(engine, "step");
    uint64_t begin = engine->mark_ns, sample_ns = 0;
    delay_forward(engine);
    cop_status status =
        cop_forward(engine->ops, engine->backend, cop_model_shape_of(engine->model), &step,
                    engine->requests, engine->n_requests, engine->samples, &sample_ns);
    cop__engine_leave_split(engine, begin, sample_ns);
    COP_TRY(status);
    cop_plan_changes_clear(engine->plan);
    uint64_t ns = engine->mark_ns - begin;
    engine->ops->counters(engine->backend, &after);
    if (engine->n_decode == 1 && engine->n_runs == 0) {
        engine->single_ns += ns;
        engine->single_bytes += after.weight_bytes - before.weight_bytes;
    }
    split_decode(engine, ns - sample_ns, after.kv_load_bytes - before.kv_load_bytes);
    if (engine->options.timeline) {
        cop_event event = {.t_ns = begin - engine->begin_ns,
                           .duration_ns = ns,
                           .kind = COP_EVENT_STEP,
                           .branch = UINT32_MAX,
                           .other = engine->n_decode,
                           .value = engine->n_rows};
        cop_timeline_add(engine->options.timeline, event);
    }
    return COP_OK;
}

static void forget_zombies(cop_engine *engine) {
    for (uint32_t i = engine->n_order; i-- > 0;) {
        cop_branch id = engine->order[i];
        const cop_branch_record *branch = &engine->branches[id];
        if (branch->state == COP_BRANCH_ZOMBIE && branch->n_pending == 0)
            cop__engine_forget(engine, id);
    }
}

static cop_status give_samples(cop_engine *engine) {
    for (uint32_t i = 0; i < engine->n_requests; i++) {
        cop_branch id = engine->request_branch[i];
        cop_branch_record *branch = &engine->branches[id];
        if (branch->state != COP_BRANCH_LIVE || branch->serial != engine->request_serial[i])
            continue; /* ended by a sibling's token of this very step */
        if (engine->samples[i].failed)
            engine->metrics->failed_rows++;
        branch->from_parent = false;
        cop_driver *driver = engine->problems[branch->problem].driver;
        COP_TRY(driver->token(driver, engine, id, &engine->samples[i]));
        if (branch->serial == engine->request_serial[i] && branch->state == COP_BRANCH_LIVE &&
            branch->n_pending == 0)
            return COP_FAIL(COP_ERR_INTERNAL, "a driver left a branch without a next token");
    }
    return COP_OK;
}

cop_status cop__engine_step(cop_engine *engine) {
    cop__engine_enter(engine, COP_TERM_HOST);
    cop__engine_delay(engine, COP_TERM_HOST);
    if (engine->options.interrupt && atomic_load(engine->options.interrupt))
        return COP_FAIL(COP_ERR_INTERRUPTED, "interrupted");
    COP_TRY(cop_profile_before(&engine->profile, engine->ops, engine->backend, ++engine->n_steps));
    COP_TRY(build_rows(engine));
    if (engine->n_rows == 0)
        return COP_FAIL(COP_ERR_INTERNAL, "no branch has a token to run");
    build_requests(engine);
    COP_TRY(cop_plan_step(engine->plan, engine->decode_slot, engine->n_decode, engine->plan_runs,
                          engine->n_runs));
    cop_plan_tables tables = cop_plan_view(engine->plan);
    count_step(engine, &tables);
    COP_TRY(run_forward(engine, &tables));
    cop__engine_enter(engine, COP_TERM_SAMPLING);
    cop__engine_delay(engine, COP_TERM_SAMPLING);
    cop__engine_enter(engine, COP_TERM_HOST);
    forget_zombies(engine);
    COP_TRY(give_samples(engine));
    cop__engine_event(engine, COP_EVENT_PAGES, COP_BRANCH_NONE, 0,
                      cop_kv_stats_read(engine->kv).pages_held);
    return cop_profile_after(&engine->profile, engine->ops, engine->backend, engine->n_steps);
}
