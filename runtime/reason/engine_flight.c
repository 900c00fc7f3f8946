/* Steps that are queued, the samples that come back, and running ahead. */
#include <string.h>

#include "base/clock.h"
#include "model/forward.h"
#include "reason/engine_internal.h"

static cop_sample_request request_of(const cop_engine *engine, const cop_branch_record *branch,
                                     uint32_t row, uint32_t position) {
    return (cop_sample_request){
        .row = row,
        .top_p = 1,
        .forced = -1,
        .key = {engine->options.seed, branch->stream, branch->draws_before + position}};
}

static void add_give(cop_flight *flight, const cop_engine *engine, cop_branch id,
                     uint32_t request) {
    flight->gives[flight->n_gives++] = (cop_give){id, engine->branches[id].serial, request,
                                                  engine->row_view[flight->requests[request].row]};
}

/* Requests of decode rows stand at their rows' numbers, then the others by age; the samples are
 * given by age, so that whose end comes first never depends on who else runs. */
static void build_requests(cop_engine *engine, cop_flight *flight) {
    uint32_t n = engine->n_decode;
    flight->n_gives = 0;
    for (cop_branch id = engine->oldest; id != COP_BRANCH_NONE; id = engine->branches[id].newer) {
        cop_branch_record *branch = &engine->branches[id];
        if (branch->state != COP_BRANCH_LIVE || branch->parked)
            continue;
        cop_branch from = branch->heir != COP_BRANCH_NONE ? branch->heir : branch->parent;
        uint32_t row = branch->from_parent ? engine->branches[from].last_row : branch->last_row;
        if (row == COP_ROW_NONE)
            continue;
        uint32_t at = branch->row != COP_ROW_NONE ? branch->row : n++;
        cop_driver *driver = engine->problems[branch->problem].driver;
        flight->requests[at] = request_of(engine, branch, row, branch->next_position);
        driver->request(driver, engine, id, &flight->requests[at]);
        branch->flight = flight->number;
        add_give(flight, engine, id, at);
    }
    flight->n_requests = n;
}

/* The same for a step that runs ahead: false if a driver cannot say yet what it will ask. */
static bool build_requests_ahead(cop_engine *engine, cop_flight *flight) {
    flight->n_gives = 0;
    for (cop_branch id = engine->oldest; id != COP_BRANCH_NONE; id = engine->branches[id].newer) {
        cop_branch_record *branch = &engine->branches[id];
        if (branch->row == COP_ROW_NONE)
            continue;
        cop_driver *driver = engine->problems[branch->problem].driver;
        cop_sample_request *request = &flight->requests[branch->row];
        *request = request_of(engine, branch, branch->row, branch->next_position + 1);
        if (!driver->request_ahead || !driver->request_ahead(driver, engine, id, request))
            return false;
        add_give(flight, engine, id, branch->row);
    }
    flight->n_requests = engine->n_decode;
    return true;
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

static cop_flight *flight_begin(cop_engine *engine) {
    cop_flight *flight = &engine->flights[engine->n_flights];
    flight->number = engine->n_queued + 1;
    return flight;
}

static void flight_describe(cop_engine *engine, cop_flight *flight) {
    flight->n_rows = engine->n_rows;
    flight->n_decode = engine->n_decode;
    flight->n_runs = engine->n_runs;
    flight->longest_view = 0;
    for (uint32_t row = 0; row < engine->n_rows; row++)
        if (engine->row_view[row] > flight->longest_view)
            flight->longest_view = engine->row_view[row];
    cop__engine_shares(engine, flight->share);
}

/* Queues the step that was built; on success it is one of the flights. */
static cop_status flight_queue(cop_engine *engine, cop_flight *flight) {
    COP_TRY(cop_plan_step(engine->plan, engine->decode_slot, engine->n_decode, engine->plan_runs,
                          engine->n_runs));
    cop_plan_tables tables = cop_plan_view(engine->plan);
    cop__engine_count_step(engine, &tables);
    flight_describe(engine, flight);
    cop_step step = {.n_rows = engine->n_rows,
                     .n_decode = engine->n_decode,
                     .token = engine->token,
                     .position = engine->position,
                     .key_position = engine->floats ? engine->key_position : NULL,
                     .segment = engine->segment,
                     .offset = engine->offset,
                     .plan = tables};
    cop_backend_counters before, after;
    flight->step = ++engine->n_steps;
    COP_TRY(cop_profile_before(&engine->profile, engine->ops, engine->backend, flight->step));
    engine->ops->counters(engine->backend, &before);
    cop__engine_enter(engine, COP_TERM_COUNT); /* until leave_split */
    cop__engine_range(engine, "step");
    flight->begin_ns = engine->mark_ns;
    delay_forward(engine);
    cop_status status =
        cop_forward_queue(engine->ops, engine->backend, cop_model_shape_of(engine->model), &step,
                          flight->requests, flight->n_requests);
    cop__engine_leave_split(engine, flight->begin_ns, flight->share);
    flight->queue_ns = engine->mark_ns - flight->begin_ns;
    cop__engine_enter(engine, COP_TERM_HOST);
    cop__engine_share_release(engine);
    COP_TRY(status);
    cop_plan_changes_clear(engine->plan);
    engine->ops->counters(engine->backend, &after);
    flight->weight_bytes = after.weight_bytes - before.weight_bytes;
    flight->load_bytes = after.kv_load_bytes - before.kv_load_bytes;
    engine->n_queued++;
    engine->n_flights++;
    if (engine->n_fillers > 0)
        cop__engine_prefix_settle(engine);
    return COP_OK;
}

static cop_status queue_next(cop_engine *engine) {
    cop_flight *flight = flight_begin(engine);
    COP_TRY(cop__engine_relieve(engine));
    COP_TRY(cop__engine_build_rows(engine));
    if (engine->n_rows == 0)
        return COP_FAIL(COP_ERR_INTERNAL, "no branch has a token to run");
    build_requests(engine, flight);
    return flight_queue(engine, flight);
}

/* A further step behind the one that was queued last, where it can be had. */
static cop_status queue_ahead(cop_engine *engine) {
    const cop_flight *before = &engine->flights[engine->n_flights - 1];
    cop_flight *flight = flight_begin(engine);
    if (!cop__engine_build_ahead(engine, before))
        return COP_OK;
    if (!build_requests_ahead(engine, flight)) {
        cop__engine_unbuild_ahead(engine);
        return COP_OK;
    }
    return flight_queue(engine, flight);
}

static cop_status give_sample(cop_engine *engine, const cop_flight *flight, const cop_give *give) {
    cop_branch_record *branch = &engine->branches[give->branch];
    const cop_sample *sample = &engine->samples[give->request];
    /* Ended by a sibling's token of this very step, or taken back. */
    if (branch->state != COP_BRANCH_LIVE || branch->serial != give->serial ||
        branch->flight != flight->number)
        return COP_OK;
    if (sample->failed)
        engine->metrics->failed_rows++;
    branch->from_parent = false;
    branch->heir = COP_BRANCH_NONE;
    branch->again.n = 0;
    const int32_t forced = flight->requests[give->request].forced;
    branch->expected = forced >= 0 ? forced : sample->token;
    /* What runs ahead is this branch's next step; a driver that wants another takes it back. */
    branch->flight = branch->reserved ? flight->number + 1 : 0;
    cop_driver *driver = engine->problems[branch->problem].driver;
    cop_problem_result *result = &engine->problems[branch->problem].result;
    const bool siblings = cop__engine_has_siblings(engine, branch); /* it may be gone afterwards */
    const uint64_t before = engine->metrics->tokens_total;
    COP_TRY(driver->token(driver, engine, give->branch, sample));
    cop__engine_count_seen(engine, result, siblings, give->seen,
                           engine->metrics->tokens_total - before);
    if (branch->serial == give->serial && branch->state == COP_BRANCH_LIVE &&
        branch->n_pending == 0 && !branch->from_parent && branch->flight == 0 && !branch->parked)
        return COP_FAIL(COP_ERR_INTERNAL, "a driver left a branch without a next token");
    return COP_OK;
}

cop_status cop_engine_read_hidden(cop_engine *engine, cop_branch id, float *out) {
    const cop_branch_record *branch = &engine->branches[id];
    if (engine->n_flights > 0 || branch->last_row == COP_ROW_NONE)
        return COP_FAIL(COP_ERR_USAGE, "the hidden state of branch %u is not there any more", id);
    return engine->ops->read_activation(engine->backend, COP_A_H, branch->last_row, out);
}

static void forget_zombies(cop_engine *engine) {
    cop_branch older;
    for (cop_branch id = engine->newest; id != COP_BRANCH_NONE && engine->n_zombies > 0;
         id = older) {
        const cop_branch_record *branch = &engine->branches[id];
        older = branch->older;
        if (branch->state == COP_BRANCH_ZOMBIE && branch->n_pending == 0)
            cop__engine_forget(engine, id);
    }
}

/* Takes the oldest flight off the list; its arrays go to the end, for the next one. */
static cop_flight flight_take(cop_engine *engine) {
    cop_flight oldest = engine->flights[0];
    engine->n_flights--;
    for (uint32_t i = 0; i + 1 < COP_FLIGHTS_MAX; i++)
        engine->flights[i] = engine->flights[i + 1];
    engine->flights[COP_FLIGHTS_MAX - 1] = oldest;
    return oldest;
}

/* Waits for the flight's samples. Where a backend draws them in this very call, that is sampling;
 * where it has queued everything, it is waiting for the step. */
static cop_status wait_samples(cop_engine *engine, const cop_flight *flight) {
    const bool draws = engine->ops->steps_ahead == 0;
    cop__engine_enter(engine, COP_TERM_COUNT);
    cop__engine_range(engine, draws ? NULL : "wait");
    uint64_t begin = engine->mark_ns;
    if (flight->n_requests > 0)
        COP_TRY(engine->ops->samples(engine->backend, flight->n_requests, engine->samples));
    static const double sampling[COP_TERM_COUNT] = {[COP_TERM_SAMPLING] = 1};
    cop__engine_leave_split(engine, begin, draws ? sampling : flight->share);
    const uint64_t end = engine->mark_ns;
    cop__engine_enter(engine, COP_TERM_SAMPLING);
    cop__engine_count_decode(engine, flight, flight->queue_ns + (draws ? 0 : end - begin));
    if (engine->options.timeline) {
        /* Steps do not overlap on the line that shows them: one that ran ahead begins with its
         * forerunner's end. */
        uint64_t from =
            flight->begin_ns > engine->last_end_ns ? flight->begin_ns : engine->last_end_ns;
        cop_event event = {.t_ns = from - engine->begin_ns,
                           .duration_ns = end - from,
                           .kind = COP_EVENT_STEP,
                           .branch = UINT32_MAX,
                           .other = flight->n_decode,
                           .value = flight->n_rows};
        cop_timeline_add(engine->options.timeline, event);
    }
    engine->last_end_ns = end;
    return COP_OK;
}

static cop_status land(cop_engine *engine) {
    const cop_flight flight = flight_take(engine);
    COP_TRY(wait_samples(engine, &flight));
    cop__engine_delay(engine, COP_TERM_SAMPLING);
    cop__engine_enter(engine, COP_TERM_HOST);
    forget_zombies(engine);
    for (uint32_t i = 0; i < flight.n_gives; i++)
        COP_TRY(give_sample(engine, &flight, &flight.gives[i]));
    cop__engine_event(engine, COP_EVENT_PAGES, COP_BRANCH_NONE, 0,
                      cop_kv_stats_read(engine->kv).pages_held);
    return cop_profile_after(&engine->profile, engine->ops, engine->backend, flight.step);
}

cop_status cop__engine_step(cop_engine *engine) {
    cop__engine_enter(engine, COP_TERM_HOST);
    cop__engine_delay(engine, COP_TERM_HOST);
    if (engine->options.interrupt && atomic_load(engine->options.interrupt))
        return COP_FAIL(COP_ERR_INTERRUPTED, "interrupted");
    if (engine->n_flights == 0)
        COP_TRY(queue_next(engine));
    cop__engine_enter(engine, COP_TERM_HOST);
    if (engine->n_flights <= engine->ops->steps_ahead)
        COP_TRY(queue_ahead(engine));
    return land(engine);
}

void cop__engine_drain(cop_engine *engine) {
    while (engine->n_flights > 0) {
        const cop_flight flight = flight_take(engine);
        if (flight.n_requests > 0)
            engine->ops->samples(engine->backend, flight.n_requests, engine->samples);
    }
}
