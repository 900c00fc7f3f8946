#include <string.h>

#include "reason/controller_internal.h"

/* ---- how it begins ---- */

static cop_status put(cop_controller *c, size_t *at, const char *text, size_t bytes) {
    if (bytes > c->prompt_bytes - *at)
        return COP_FAIL(COP_ERR_CONTEXT,
                        "rule %s: a prompt has more than %zu bytes, too many for a context of %u "
                        "tokens",
                        cop_rule_name(c->options.rule), c->prompt_bytes, c->options.max_positions);
    memcpy(c->prompt_text + *at, text, bytes);
    *at += bytes;
    return COP_OK;
}

static cop_status put_text(cop_controller *c, size_t *at, const char *text) {
    return text ? put(c, at, text, strlen(text)) : COP_OK;
}

static cop_status encode(cop_controller *c, const cop_decision *run) {
    size_t bytes = 0;
    COP_TRY(put_text(c, &bytes, c->options.before));
    COP_TRY(put(c, &bytes, run->text, run->bytes));
    COP_TRY(put_text(c, &bytes, c->options.after));
    COP_TRY(put_text(c, &bytes, run->partial));
    c->scratch.count = 0;
    return cop_encoder_encode(c->encoder, c->prompt_text, bytes, (cop_encode_options){0},
                              &c->scratch);
}

cop_status cop__call_prepare(cop_controller *c, cop__place *place) {
    cop__call *call = &c->calls[c->next];
    COP_TRY(encode(c, &call->run));
    const size_t n = c->scratch.count;
    if (n == 0 || n >= c->options.max_positions)
        return COP_FAIL(COP_ERR_CONTEXT,
                        "rule %s: the prompt of call %s has %zu tokens; 1 to %u can be answered",
                        cop_rule_name(c->options.rule), call->name, n,
                        c->options.max_positions - 1);
    COP_TRY(cop_rule_open(c->options.rule, call->run.tag, &call->branch));
    memcpy(place->prompt, c->scratch.data, n * sizeof *place->prompt);
    call->n_prompt = (uint32_t)n;
    const uint32_t own = call->run.max_tokens, most = c->options.max_tokens;
    call->limit = own && own < most ? own : most;
    call->ids = place->ids;
    call->text = place->text;
    place->call = c->next++;
    c->n_running++;
    return COP_OK;
}

cop_status cop__call_feed(cop_controller *c, cop_engine *engine, cop__place *place) {
    const cop__call *call = &c->calls[place->call];
    const uint32_t room = cop_engine_max_positions(engine) - call->n_prompt;
    cop_engine_expect(engine, place->branch,
                      call->n_prompt + (call->limit < room ? call->limit : room));
    return cop_engine_feed(engine, place->branch, place->prompt, call->n_prompt, COP_FEED_PROMPT);
}

cop_status cop__call_begin(cop_controller *c, cop_engine *engine, cop__place *place) {
    const cop__call *call = &c->calls[place->call];
    cop_engine_set_data(engine, place->branch, (uint32_t)(place - c->places));
    cop_engine_stream(engine, place->branch, call->number);
    cop__controller_hear(c, COP_LIVE_FORK, call);
    return cop__call_feed(c, engine, place);
}

/* ---- how it ends ---- */

static cop_status keep(cop_controller *c, cop__call *call) {
    if (call->n_said > c->max_log_ids - c->n_log_ids ||
        call->bytes > c->max_log_bytes - c->log_bytes)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "rule %s: its calls said more than %zu bytes: give it more "
                        "(max_text_bytes)",
                        cop_rule_name(c->options.rule), c->max_log_bytes);
    int32_t *ids = c->log_ids + c->n_log_ids;
    char *text = c->log_text + c->log_bytes;
    memcpy(ids, call->ids, call->n_said * sizeof *ids);
    memcpy(text, call->text, call->bytes);
    call->ids = ids;
    call->text = text;
    c->n_log_ids += call->n_said;
    c->log_bytes += call->bytes;
    return COP_OK;
}

cop_status cop__call_close(cop_controller *c, cop__place *place, cop_stop stop) {
    cop__call *call = &c->calls[place->call];
    cop_rule *rule = c->options.rule;
    call->stop = stop;
    place->call = COP__CALL_NONE;
    c->n_running--;
    cop__controller_hear(c, COP_LIVE_END, call);
    const cop_status kept = keep(c, call);
    if (kept != COP_OK)
        call->n_said = 0, call->bytes = 0;
    if (!cop_rule_is_live(rule, call->branch))
        return kept;
    const cop_rule_end_kind how = stop == COP_STOP_END      ? COP_RULE_END_OWN
                                  : stop == COP_STOP_LENGTH ? COP_RULE_END_LENGTH
                                                            : COP_RULE_END_CUT;
    const cop_status told = cop_rule_end(rule, call->branch, how, call->text,
                                         how == COP_RULE_END_CUT ? 0 : call->bytes);
    return kept == COP_OK ? told : kept;
}

/* ---- what it says ---- */

static void fill_request(cop_controller *c, cop__place *place, uint32_t said,
                         cop_sample_request *request) {
    const cop_controller_options *o = &c->options;
    const cop__call *call = &c->calls[place->call];
    request->temperature = call->run.temperature < 0 ? o->temperature : call->run.temperature;
    request->top_k = o->top_k;
    request->top_p = o->top_p;
    request->min_p = o->min_p;
    for (uint32_t i = 0; i < o->n_script; i++) {
        if (strcmp(o->script[i].path, call->name) != 0 || said >= o->script[i].n)
            continue;
        cop_logit_bias *bias = &place->bias[said % 2]; /* two steps may be out at once */
        *bias = (cop_logit_bias){o->script[i].ids[said], 1e6f};
        request->bias = bias;
        request->n_bias = 1;
    }
}

static cop__place *place_of(cop_controller *c, const cop_engine *engine, cop_branch branch) {
    return &c->places[cop_engine_branch(engine, branch).data];
}

void cop__call_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                       cop_sample_request *request) {
    cop_controller *c = (cop_controller *)driver;
    cop__place *place = place_of(c, engine, branch);
    fill_request(c, place, c->calls[place->call].n_said, request);
}

bool cop__call_request_ahead(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                             cop_sample_request *request) {
    cop_controller *c = (cop_controller *)driver;
    cop__place *place = place_of(c, engine, branch);
    fill_request(c, place, c->calls[place->call].n_said + 1, request);
    return true;
}

static cop_status tell(cop_controller *c, cop__call *call, const cop_sample *sampled,
                       cop_text text) {
    if (call->n_said <= call->n_told)
        return COP_OK;
    call->n_told++;
    return cop_rule_token_add(c->options.rule, &(cop_rule_token){.branch = call->branch,
                                                                 .token = sampled->token,
                                                                 .text = text.data,
                                                                 .bytes = text.bytes,
                                                                 .logprob = sampled->logprob});
}

static void say(const cop_controller *c, cop__call *call, cop_text text) {
    if (!c->options.listener || call->n_heard++ < call->n_muted)
        return;
    const cop_live_event event = {.kind = COP_LIVE_TEXT,
                                  .path = call->path,
                                  .block = call->round,
                                  .text = text.data,
                                  .bytes = text.bytes};
    c->options.listener(c->options.listener_context, &event);
}

/* Cuts the text before its stop, which the last `added` bytes may have completed. */
static bool cut_at_stop(cop__call *call, size_t added) {
    const char *stop = call->run.stop;
    const size_t bytes = stop ? strlen(stop) : 0;
    if (bytes == 0)
        return false;
    const size_t again = bytes - 1, before = call->bytes - added;
    const size_t from = before > again ? before - again : 0;
    const char *found = memmem(call->text + from, call->bytes - from, stop, bytes);
    if (found)
        call->bytes = (size_t)(found - call->text);
    return found != NULL;
}

/* NONE: it goes on. */
static cop_stop take_text(cop_controller *c, const cop_engine *engine, cop__place *place,
                          cop_text text) {
    cop__call *call = &c->calls[place->call];
    if (text.bytes > c->text_bytes - call->bytes)
        return COP_STOP_LENGTH;
    memcpy(place->text + call->bytes, text.data, text.bytes);
    call->bytes += text.bytes;
    if (cut_at_stop(call, text.bytes))
        return COP_STOP_END;
    const bool full =
        cop_engine_branch(engine, place->branch).next_position == cop_engine_max_positions(engine);
    return call->n_said == call->limit || full ? COP_STOP_LENGTH : COP_STOP_NONE;
}

cop_status cop__call_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                           const cop_sample *sampled) {
    cop_controller *c = (cop_controller *)driver;
    cop__place *place = place_of(c, engine, branch);
    cop__call *call = &c->calls[place->call];
    cop_stop stop = COP_STOP_FAILED;
    if (!sampled->failed) {
        const bool end = cop_tokenizer_is_end(c->options.tokenizer, sampled->token);
        const cop_text text =
            end ? (cop_text){"", 0} : cop_tokenizer_bytes(c->options.tokenizer, sampled->token);
        cop_engine_generated(engine, branch, 1);
        c->generated++;
        place->ids[call->n_said++] = sampled->token;
        call->logprob_sum += sampled->logprob;
        COP_TRY(tell(c, call, sampled, text));
        say(c, call, text);
        stop = end ? COP_STOP_END : take_text(c, engine, place, text);
    }
    if (stop == COP_STOP_NONE)
        return cop_engine_feed(engine, branch, &place->ids[call->n_said - 1], 1, COP_FEED_DECODE);
    if (stop == COP_STOP_FAILED) {
        c->over = true;
        c->stop = stop;
    }
    COP_TRY(cop__controller_spoil(c, cop__call_close(c, place, stop)));
    COP_TRY(cop__controller_decide(c));
    return cop__controller_go_on(c, engine, place, call);
}
