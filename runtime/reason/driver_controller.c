#include "reason/driver_controller.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "reason/controller_internal.h"

/* ---- what the rule decides ---- */

cop_status cop__controller_spoil(cop_controller *c, cop_status status) {
    if (status == COP_OK || status == COP_ERR_NO_MEMORY || status == COP_ERR_INTERNAL)
        return status;
    if (c->error == COP_OK) {
        c->error = status;
        snprintf(c->message, sizeof c->message, "%s", cop_status_message());
    }
    c->over = true;
    if (c->stop == COP_STOP_NONE)
        c->stop = COP_STOP_RULE;
    return COP_OK;
}

static void stand_in_line(cop_controller *c, const cop_decision *run, uint32_t index) {
    cop__call *call = &c->calls[c->n_calls];
    *call = (cop__call){
        .run = *run, .number = c->n_calls++, .round = c->n_rounds - 1, .index = index, .text = ""};
    snprintf(call->path, sizeof call->path, "%u", index + 1);
    snprintf(call->name, sizeof call->name, "%u.%s", c->n_rounds, call->path);
}

static cop_status take(cop_controller *c, const cop_decision *decisions, uint32_t n) {
    uint32_t runs = 0;
    for (uint32_t i = 0; i < n; i++) {
        const cop_decision *d = &decisions[i];
        if (d->kind == COP_DECIDE_STOP) {
            c->over = true;
            c->stop = COP_STOP_END;
            return COP_OK;
        }
        if (d->kind != COP_DECIDE_RUN)
            return COP_FAIL(COP_ERR_INTERNAL, "rule %s decides what no controller may",
                            cop_rule_name(c->options.rule));
        if (c->n_calls == c->max_calls)
            return COP_FAIL(COP_ERR_NO_ROOM, "rule %s: more than %u calls",
                            cop_rule_name(c->options.rule), c->max_calls);
        c->n_rounds += runs == 0;
        stand_in_line(c, d, runs++);
    }
    return COP_OK;
}

cop_status cop__controller_decide(cop_controller *c) {
    const cop_decision *decisions;
    uint32_t n;
    if (c->over)
        return COP_OK;
    cop_status status = cop_rule_decide(c->options.rule, cop_clock_ns(), &decisions, &n);
    if (status == COP_OK)
        status = take(c, decisions, n);
    return cop__controller_spoil(c, status);
}

/* ---- rounds ---- */

void cop__controller_hear(const cop_controller *c, cop_live_event_kind kind,
                          const cop__call *call) {
    if (!c->options.listener)
        return;
    const cop_live_event event = {.kind = kind,
                                  .path = call ? call->path : "",
                                  .block = call ? call->round : c->open_round,
                                  .own_prompt = call ? call->n_prompt : 0,
                                  .stop = call ? call->stop : c->stop};
    c->options.listener(c->options.listener_context, &event);
}

static cop_status finish(cop_controller *c, cop_engine *engine) {
    cop__controller_hear(c, COP_LIVE_STOP, NULL);
    if (c->stop == COP_STOP_FAILED)
        return cop_engine_end(engine, c->root, COP_END_FAILED);
    return cop_engine_end_text(engine, c->root);
}

/* The root is live: nothing runs. */
static cop_status open_round(cop_controller *c, cop_engine *engine) {
    uint32_t n = c->n_calls - c->next;
    n = n < c->options.max_at_once ? n : c->options.max_at_once;
    if (!c->over && n == 0)
        return COP_FAIL(COP_ERR_INTERNAL, "rule %s neither asks for a call nor stops",
                        cop_rule_name(c->options.rule));
    if (!c->over)
        c->open_round = c->calls[c->next].round;
    const uint32_t first = c->next;
    for (uint32_t i = 0; i < n && !c->over; i++)
        COP_TRY(cop__controller_spoil(c, cop__call_prepare(c, &c->places[i])));
    if (c->over) {
        c->next = first; /* those that were prepared have no branch */
        return finish(c, engine);
    }
    COP_TRY(cop_engine_spawn(engine, c->root, n, c->branches));
    for (uint32_t i = 0; i < n; i++) {
        c->places[i].branch = c->branches[i];
        cop_engine_set_data(engine, c->branches[i], i);
    }
    for (uint32_t i = 0; i < n; i++)
        COP_TRY(cop__call_begin(c, engine, &c->places[i]));
    return COP_OK;
}

static cop_status start(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    cop_controller *c = (cop_controller *)driver;
    COP_TRY(cop_engine_root(engine, problem, &c->root));
    cop_engine_set_data(engine, c->root, UINT32_MAX);
    COP_TRY(cop__controller_decide(c));
    return open_round(c, engine);
}

static cop_status joined(cop_driver *driver, cop_engine *engine, cop_branch root) {
    cop_controller *c = (cop_controller *)driver;
    COP_TRY(cop_engine_join_text(engine, root, false));
    cop__controller_hear(c, COP_LIVE_JOIN, NULL);
    return open_round(c, engine);
}

/* What still runs has nothing to say any more. */
static cop_status cancel_others(cop_controller *c, cop_engine *engine) {
    for (uint32_t i = 0; i < c->options.max_at_once; i++) {
        cop__place *place = &c->places[i];
        if (place->call == COP__CALL_NONE)
            continue;
        COP_TRY(cop__controller_spoil(c, cop__call_close(c, place, COP_STOP_CANCELLED)));
        COP_TRY(cop_engine_end(engine, place->branch, COP_END_CANCELLED));
    }
    return COP_OK;
}

static cop_status end_branch(cop_engine *engine, cop_branch branch, cop_stop stop) {
    if (stop == COP_STOP_END || stop == COP_STOP_LENGTH)
        return cop_engine_end_text(engine, branch);
    return cop_engine_end(engine, branch,
                          stop == COP_STOP_FAILED ? COP_END_FAILED : COP_END_CANCELLED);
}

cop_status cop__controller_go_on(cop_controller *c, cop_engine *engine, cop__place *place,
                                 const cop__call *ended) {
    const cop__call *next = &c->calls[c->next];
    const bool waits =
        !c->over && c->next < c->n_calls && (next->round == c->open_round || c->n_running > 0);
    if (waits && ended->stop != COP_STOP_CANCELLED)
        COP_TRY(cop__controller_spoil(c, cop__call_prepare(c, place)));
    if (c->over && place->call == COP__CALL_NONE)
        COP_TRY(cancel_others(c, engine));
    if (place->call == COP__CALL_NONE)
        return end_branch(engine, place->branch, ended->stop);
    COP_TRY(cop_engine_spawn_next(engine, place->branch, next->index));
    return cop__call_begin(c, engine, place);
}

/* ---- life ---- */

static const cop_driver controller_ops = {.start = start,
                                          .request = cop__call_request,
                                          .request_ahead = cop__call_request_ahead,
                                          .token = cop__call_token,
                                          .joined = joined,
                                          .shed = cop__controller_shed,
                                          .restart = cop__controller_restart};

static cop_status create_places(cop_controller *c) {
    const cop_controller_options *o = &c->options;
    c->text_bytes = (size_t)o->max_tokens * COP__CALL_TOKEN_BYTES + COP__CALL_SPARE_BYTES;
    c->branches = cop_arena_calloc(c->arena, o->max_at_once, sizeof *c->branches);
    c->places = cop_arena_calloc(c->arena, o->max_at_once, sizeof *c->places);
    bool whole = c->branches && c->places;
    for (uint32_t i = 0; i < o->max_at_once && whole; i++) {
        cop__place *place = &c->places[i];
        place->prompt = cop_arena_calloc(c->arena, o->max_positions, sizeof *place->prompt);
        place->ids = cop_arena_calloc(c->arena, o->max_tokens, sizeof *place->ids);
        place->text = cop_arena_calloc(c->arena, c->text_bytes, 1);
        whole = place->prompt && place->ids && place->text;
    }
    return whole ? COP_OK
                 : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u calls at once of %u tokens",
                            o->max_at_once, o->max_tokens);
}

/* A rule's memory holds every reply, so what holds as many bytes holds what all calls said. */
static cop_status create_log(cop_controller *c, size_t text_bytes) {
    c->max_calls = cop_rule_max_branches(c->options.rule);
    c->max_log_bytes = text_bytes;
    c->max_log_ids = text_bytes + c->max_calls; /* an end of text has no byte */
    c->calls = cop_calloc(c->max_calls + 1, sizeof *c->calls);
    c->log_text = cop_calloc(c->max_log_bytes + 1, 1);
    c->log_ids = cop_calloc(c->max_log_ids, sizeof *c->log_ids);
    return c->calls && c->log_text && c->log_ids
               ? COP_OK
               : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for what %u calls say", c->max_calls);
}

static cop_status create_parts(cop_controller *c) {
    const cop_controller_options *o = &c->options;
    const cop_rule_needs needs = cop_rule_needs_of(o->rule);
    if (!needs.runs_prompts)
        return COP_FAIL(COP_ERR_USAGE, "rule %s runs no prompts: it stands over samples or paths",
                        cop_rule_name(o->rule));
    if (!o->tokenizer)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "rule %s runs prompts in text, and a random model has no tokenizer",
                        cop_rule_name(o->rule));
    if (o->max_at_once == 0 || o->max_tokens == 0 || o->max_positions < 2)
        return COP_FAIL(COP_ERR_USAGE, "a controller needs at least one call at once, of one token "
                                       "or more, and two positions");
    COP_TRY(cop_arena_create(&c->arena));
    const size_t longest = (size_t)o->max_positions * COP__PROMPT_TOKEN_BYTES;
    c->prompt_bytes = (longest < needs.text_bytes ? longest : needs.text_bytes) +
                      (o->before ? strlen(o->before) : 0) + (o->after ? strlen(o->after) : 0);
    c->prompt_text = cop_arena_calloc(c->arena, c->prompt_bytes + 1, 1);
    if (!c->prompt_text)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for prompts of %zu bytes", c->prompt_bytes);
    COP_TRY(cop_encoder_create(o->tokenizer, c->prompt_bytes, &c->encoder));
    COP_TRY(cop_grow(&c->scratch.data, &c->scratch.capacity, c->prompt_bytes + 8,
                     sizeof *c->scratch.data));
    COP_TRY(create_places(c));
    return create_log(c, needs.text_bytes);
}

cop_status cop_controller_reset(cop_controller *c, const char *input, size_t bytes,
                                uint64_t problem_key) {
    c->driver.problem_key = c->options.problem_key = problem_key;
    c->n_calls = c->next = c->n_running = c->n_rounds = c->open_round = 0;
    c->n_log_ids = c->log_bytes = 0;
    c->generated = 0;
    c->over = false;
    c->stop = COP_STOP_NONE;
    c->error = COP_OK;
    for (uint32_t i = 0; i < c->options.max_at_once; i++)
        c->places[i].call = COP__CALL_NONE;
    cop_rule_reset(c->options.rule);
    return cop__controller_spoil(c, cop_rule_input(c->options.rule, input, bytes));
}

cop_status cop_controller_create(const cop_controller_options *options, cop_controller **out) {
    cop_controller *c = cop_calloc(1, sizeof *c);
    if (!c)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a controller");
    c->driver = controller_ops;
    c->options = *options;
    cop_status status = create_parts(c);
    if (status == COP_OK)
        status =
            cop_controller_reset(c, options->input, options->input_bytes, options->problem_key);
    if (status != COP_OK) {
        cop_controller_destroy(c);
        return status;
    }
    *out = c;
    return COP_OK;
}

void cop_controller_destroy(cop_controller *c) {
    if (!c)
        return;
    cop_encoder_destroy(c->encoder);
    cop_token_ids_release(&c->scratch);
    cop_free(c->calls);
    cop_free(c->log_text);
    cop_free(c->log_ids);
    cop_arena_destroy(c->arena);
    cop_free(c);
}

cop_driver *cop_controller_driver(cop_controller *c) {
    return &c->driver;
}

/* ---- reading ---- */

cop_live_sample cop_controller_read(const cop_controller *c) {
    cop_live_sample out = {.text = "",
                           .stop = c->stop,
                           .generated = (uint32_t)c->generated,
                           .paths = c->next,
                           .steps = c->n_rounds,
                           .lowest_confidence = (double)NAN};
    for (uint32_t i = 0; i < c->next; i++) {
        const cop__call *call = &c->calls[i];
        out.forks += call->index == 1;
        out.paths_ended += call->stop != COP_STOP_NONE;
        out.paths_cancelled += call->stop == COP_STOP_CANCELLED;
        out.logprob_sum += call->logprob_sum;
    }
    if (c->stop == COP_STOP_END && !cop_rule_answer(c->options.rule, &out.text, &out.bytes))
        out.text = "", out.bytes = 0;
    return out;
}

cop_status cop_controller_error(const cop_controller *c, const char **message) {
    *message = c->message;
    return c->error;
}

uint32_t cop_controller_call_count(const cop_controller *c) {
    return c->next;
}

cop_controller_call cop_controller_call_read(const cop_controller *c, uint32_t i) {
    const cop__call *call = &c->calls[i];
    return (cop_controller_call){.path = {.block = call->round,
                                          .index = call->index,
                                          .path = call->path,
                                          .ids = call->ids,
                                          .n_ids = call->n_said,
                                          .text = call->text,
                                          .bytes = call->bytes,
                                          .stop = call->stop},
                                 .prompt = call->run.text,
                                 .partial = call->run.partial ? call->run.partial : "",
                                 .prompt_bytes = call->run.bytes,
                                 .n_prompt = call->n_prompt};
}
