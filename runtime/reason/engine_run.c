/* Runs of the engine: from the first step to the last, and the calibration of the step's cost. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "reason/engine_internal.h"

static void release_all(cop_engine *engine) {
    while (engine->newest != COP_BRANCH_NONE)
        cop__engine_forget(engine, engine->newest);
}

/* Takes the queue's next problem into a free place; *more is false when there is none left. It
 * begins once it is admitted. */
static void take_next(cop_engine *engine, cop_problem_queue *queue, uint32_t place, bool *more) {
    cop__engine_enter(engine, COP_TERM_HOST);
    cop_driver *driver = queue->next(queue);
    *more = driver != NULL;
    engine->problems[place] = (cop_problem){.driver = driver, .root = COP_BRANCH_NONE};
}

static cop_status begin_problem(cop_engine *engine, uint32_t place, uint32_t *number) {
    cop_problem *problem = &engine->problems[place];
    if (!cop__engine_admits(engine, problem->driver->prompt_tokens))
        return COP_OK;
    problem->admitted = true;
    if (!problem->begun_before) {
        problem->result.number = (*number)++;
        problem->result.begin_ns = cop_clock_ns() - engine->begin_ns;
    }
    return problem->driver->start(problem->driver, engine, place);
}

/* Takes leave of the problem that ended in this place and begins others, until one stays, one has
 * to wait, or the queue is empty. */
static cop_status refill(cop_engine *engine, cop_problem_queue *queue, uint32_t place,
                         uint32_t *number, bool *more) {
    cop_problem *problem = &engine->problems[place];
    for (;;) {
        if (problem->driver && problem->ended) {
            cop_driver *driver = problem->driver;
            problem->driver = NULL;
            if (queue->ended)
                queue->ended(queue, driver, &problem->result);
            *more = true; /* what has ended may go on */
        }
        if (!problem->driver && *more)
            take_next(engine, queue, place, more);
        if (!problem->driver || problem->admitted)
            return COP_OK;
        COP_TRY(begin_problem(engine, place, number));
        if (!problem->ended)
            return COP_OK;
    }
}

static cop_status run_steps(cop_engine *engine, cop_problem_queue *queue) {
    uint32_t number = 0, running = 0;
    bool more = true;
    for (uint32_t p = 0; p < engine->n_problems; p++)
        engine->problems[p] = (cop_problem){.root = COP_BRANCH_NONE};
    do {
        running = 0;
        for (uint32_t p = 0; p < engine->n_problems; p++) {
            COP_TRY(refill(engine, queue, p, &number, &more));
            running += engine->problems[p].driver != NULL;
        }
        if (running > 0)
            COP_TRY(cop__engine_step(engine));
    } while (running > 0);
    return COP_OK;
}

static void take_counters(cop_engine *engine, const cop_backend_counters *before) {
    cop_metrics *m = engine->metrics;
    cop_backend_counters now;
    engine->ops->counters(engine->backend, &now);
    m->kv_load_bytes = now.kv_load_bytes - before->kv_load_bytes;
    m->kv_first_bytes = now.kv_first_bytes - before->kv_first_bytes;
    m->kv_append_bytes = now.kv_append_bytes - before->kv_append_bytes;
    m->kv_partial_bytes = now.partial_bytes - before->partial_bytes;
    m->weight_bytes = now.weight_bytes - before->weight_bytes;
    for (int op = 0; op < COP_OP_COUNT; op++)
        m->op_ns[op] = now.op_ns[op] - before->op_ns[op];
    m->timed_steps = now.timed_steps - before->timed_steps;
    m->upload_bytes = now.upload_bytes - before->upload_bytes;
    m->upload_steps = now.upload_steps - before->upload_steps;
    m->waits = now.waits - before->waits;
    m->device_allocations = now.allocations - before->allocations;
    m->launches = now.launches - before->launches;
    m->graph_launches = now.graph_launches - before->graph_launches;
    m->captures = now.captures - before->captures;
    m->device_idle_ns = now.device_idle_ns - before->device_idle_ns;
    m->single_row_ns = engine->single_ns;
    m->single_row_bytes = engine->single_bytes;
    m->decode_weight_gbps =
        engine->single_ns ? (double)engine->single_bytes / (double)engine->single_ns : NAN;
}

cop_status cop_engine_run_queue(cop_engine *engine, cop_problem_queue *queue, uint32_t at_once,
                                cop_metrics *metrics) {
    _Static_assert(sizeof metrics->op_ns / sizeof metrics->op_ns[0] == COP_OP_COUNT,
                   "metrics.h counts the operations of backend.h");
    if (at_once == 0 || at_once > engine->max_problems)
        return COP_FAIL(COP_ERR_NO_ROOM, "%u problems at once: this engine takes 1 to %u", at_once,
                        engine->max_problems);
    *metrics = (cop_metrics){0};
    engine->n_problems = at_once;
    engine->metrics = metrics;
    engine->next_serial = 0;
    engine->last_end_ns = 0;
    engine->last_count.known = false;
    memset(engine->injected_ns, 0, sizeof engine->injected_ns);
    engine->single_ns = engine->single_bytes = 0;
    engine->pure_steps = engine->pure_ns = engine->pure_load_bytes = 0;
    cop_kv_peak_reset(engine->kv);
    memset(engine->segment_step, 0, engine->max_segments * sizeof *engine->segment_step);
    cop_backend_counters before;
    engine->ops->counters(engine->backend, &before);
    cop_plan_stats plan_before = cop_plan_stats_read(engine->plan);
    const uint64_t evicted = engine->store ? cop_prefix_stats_read(engine->store).evicted : 0;
    uint64_t allocations = cop_memory_count();
    engine->begin_ns = engine->mark_ns = cop_clock_ns();
    engine->term = COP_TERM_COUNT;
    cop_status status = run_steps(engine, queue);
    cop__engine_enter(engine, COP_TERM_COUNT);
    metrics->allocations_in_steps = cop_memory_count() - allocations;
    cop__engine_drain(engine);
    release_all(engine);
    cop__engine_prefix_finish(engine);
    metrics->wall_ns = cop_clock_ns() - engine->begin_ns;
    take_counters(engine, &before);
    cop_plan_stats plan_after = cop_plan_stats_read(engine->plan);
    metrics->plan_steps_unchanged = plan_after.steps_unchanged - plan_before.steps_unchanged;
    metrics->plan_rebuilds = plan_after.rebuilds - plan_before.rebuilds;
    cop_kv_stats stats = cop_kv_stats_read(engine->kv);
    metrics->kv_pages_total = stats.pages_total;
    metrics->kv_pages_peak = stats.pages_peak;
    metrics->kv_pages_leaked = stats.pages_held;
    if (engine->store) {
        const cop_prefix_stats kept = cop_prefix_stats_read(engine->store);
        metrics->kv_pages_leaked -= kept.tokens / engine->options.page_tokens;
        metrics->prefix_evicted = kept.evicted - evicted;
    }
    return status;
}

typedef struct driver_list {
    cop_problem_queue queue;
    cop_driver *const *drivers;
    uint32_t n, at;
} driver_list;

static cop_driver *next_of_list(cop_problem_queue *queue) {
    driver_list *list = (driver_list *)queue;
    return list->at < list->n ? list->drivers[list->at++] : NULL;
}

cop_status cop_engine_run(cop_engine *engine, cop_driver *const *drivers, uint32_t n,
                          cop_metrics *metrics) {
    driver_list list = {.queue = {.next = next_of_list}, .drivers = drivers, .n = n};
    return cop_engine_run_queue(engine, &list.queue, n, metrics);
}

/* Decodes placeholder tokens in `n` branches for a few steps. */
typedef struct calibration_driver {
    cop_driver driver;
    int32_t prompt[128];
    uint32_t n_branches, n_tokens;
    int32_t token;
    cop_branch *children;
} calibration_driver;

static cop_status calibration_start(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    calibration_driver *self = (calibration_driver *)driver;
    cop_branch root;
    COP_TRY(cop_engine_root(engine, problem, &root));
    COP_TRY(cop_engine_feed(engine, root, self->prompt, 128, COP_FEED_PROMPT));
    return cop_engine_fork(engine, root, self->n_branches, self->children);
}

static void calibration_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                                cop_sample_request *request) {
    (void)engine, (void)branch;
    request->forced = ((calibration_driver *)driver)->token;
}

static bool calibration_ahead(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                              cop_sample_request *request) {
    calibration_request(driver, engine, branch, request);
    return true;
}

static cop_status calibration_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                                    const cop_sample *sample) {
    (void)sample;
    calibration_driver *self = (calibration_driver *)driver;
    cop_engine_generated(engine, branch, 1);
    if (cop_engine_branch(engine, branch).generated >= self->n_tokens)
        return cop_engine_end(engine, branch, COP_END_DONE);
    return cop_engine_feed(engine, branch, &self->token, 1, COP_FEED_DECODE);
}

static cop_status calibration_joined(cop_driver *driver, cop_engine *engine, cop_branch parent) {
    (void)driver;
    return cop_engine_end(engine, parent, COP_END_DONE);
}

cop_status cop_engine_calibrate(cop_engine *engine) {
    enum { TOKENS = 9 };
    cop_timeline *timeline = engine->options.timeline;
    cop_step_model *model = &engine->model_of_steps;
    uint32_t limit = engine->options.max_branches - 1;
    cop_branch *children = cop_calloc(engine->options.max_branches, sizeof *children);
    if (!children)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory to calibrate");
    uint64_t inject[COP_TERM_COUNT];
    memcpy(inject, engine->options.inject_ns, sizeof inject);
    memset(engine->options.inject_ns, 0, sizeof inject);
    engine->options.timeline = NULL;
    const cop_profile profile = engine->profile;
    const uint64_t n_steps = engine->n_steps;
    engine->profile = (cop_profile){0};
    model->n = 0;
    cop_status status = COP_OK;
    uint32_t count = 0;
    double attention_ns = 0, load_bytes = 0;
    for (uint32_t n = 1; n <= limit && count < COP_CALIBRATION_MAX && status == COP_OK; n *= 2) {
        uint64_t pages = 128 / engine->options.page_tokens + n;
        if (pages > engine->options.n_pages || 128 + TOKENS > engine->options.max_positions)
            break;
        calibration_driver driver = {.driver = {.start = calibration_start,
                                                .request = calibration_request,
                                                .request_ahead = calibration_ahead,
                                                .token = calibration_token,
                                                .joined = calibration_joined},
                                     .n_branches = n,
                                     .n_tokens = TOKENS,
                                     .children = children};
        cop_driver *list[] = {&driver.driver};
        cop_metrics metrics;
        status = cop_engine_run(engine, list, 1, &metrics);
        double steps = engine->pure_steps ? (double)engine->pure_steps : 1;
        model->rows[count] = n;
        model->ns[count] = (double)engine->pure_ns / steps;
        model->load_bytes[count] = (double)engine->pure_load_bytes / steps;
        if (metrics.timed_steps > 0) /* of the timed steps, for all of them */
            attention_ns += (double)metrics.op_ns[COP_OP_ATTENTION] *
                            (double)metrics.steps_forward / (double)metrics.timed_steps;
        load_bytes += (double)metrics.kv_load_bytes;
        count++;
    }
    model->ns_per_byte = load_bytes > 0 ? attention_ns / load_bytes : 0;
    model->n = status == COP_OK ? count : 0;
    engine->options.timeline = timeline;
    engine->profile = profile;
    engine->n_steps = n_steps;
    memcpy(engine->options.inject_ns, inject, sizeof inject);
    cop_free(children);
    return status;
}
