#include "reason/live_internal.h"

#include <string.h>

bool cop__live_in_join(const cop_live_record *record) {
    const cop_parser *parser = &record->parser;
    return parser->n_open > 0 && parser->open[parser->n_open - 1] == COP_EL_JOIN;
}

static cop_stage stage_of(const cop_live_record *record) {
    return cop__live_in_join(record) ? COP_STAGE_JOIN
           : record->n_path > 0      ? COP_STAGE_PATH
                                     : COP_STAGE_MAIN;
}

/* A dialect may sample its stages in ways of their own. */
static void set_stage(const cop_live *live, const cop_live_record *record,
                      cop_sample_request *request) {
    const cop_dialect *d = live->options.dialect;
    cop_stage stage = stage_of(record);
    if (!cop__live_forks(live) || !d->stage_set[stage])
        return;
    const cop_stage_sampling *own = &d->sampling[stage];
    if (own->temperature >= 0)
        request->temperature = own->temperature;
    if (own->top_p >= 0)
        request->top_p = own->top_p;
    if (own->top_k >= 0)
        request->top_k = (uint32_t)own->top_k;
}

/* The request for the branch's token number `said`, from 0. */
static void fill_request(cop_live *live, cop_live_record *record, uint32_t said,
                         cop_sample_request *request) {
    const cop_live_options *o = &live->options;
    request->temperature = o->temperature;
    request->top_k = o->top_k;
    request->top_p = o->top_p;
    request->min_p = o->min_p;
    set_stage(live, record, request);
    cop__live_penalty_request(live, record, stage_of(record), request);
    if (cop__live_is_worker(live, record)) {
        request->bias = live->forbidden;
        request->n_bias = live->n_forbidden;
    }
    for (uint32_t i = 0; i < o->n_script; i++) {
        const cop_script *script = &o->script[i];
        if (strcmp(script->path, record->path_text) == 0 && said < script->n) {
            /* Two steps may be out at once. */
            cop_logit_bias *bias = &record->bias[said % 2];
            *bias = (cop_logit_bias){script->ids[said], 1e6f};
            request->bias = bias;
            request->n_bias = 1;
        }
    }
}

void cop__live_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                       cop_sample_request *request) {
    cop_live *live = (cop_live *)driver;
    cop_live_record *record = &live->records[cop_engine_branch(engine, branch).data];
    fill_request(live, record, record->n_said, request);
}

/* What a branch is asked for does not hang on its last token; a tag in it takes the guess back. */
bool cop__live_request_ahead(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                             cop_sample_request *request) {
    cop_live *live = (cop_live *)driver;
    cop_live_record *record = &live->records[cop_engine_branch(engine, branch).data];
    /* But for tags between stages that are sampled in ways of their own. */
    const cop_dialect *d = live->options.dialect;
    if (cop__live_penalises(live))
        return false;
    if (cop__live_forks(live) && (d->stage_set[COP_STAGE_JOIN] || d->stage_set[COP_STAGE_MAIN] ||
                                  (d->stage_set[COP_STAGE_PATH] && d->nested)))
        return false;
    fill_request(live, record, record->n_said + 1, request);
    return true;
}

/* Cancels every sample that still runs, but for `kept`; `kept` ends last. */
static cop_status cancel_others(cop_live *live, cop_engine *engine, uint32_t kept) {
    for (uint32_t i = 0; i < live->options.n_samples; i++) {
        if (i != kept && live->samples[i].stop == COP_STOP_NONE)
            COP_TRY(cop__live_end_sample(live, engine, i, COP_STOP_CANCELLED));
    }
    return COP_OK;
}

cop_status cop__live_finish_sample(cop_live *live, cop_engine *engine, uint32_t sample,
                                   cop_stop stop) {
    if (live->options.prune.first_finisher && stop == COP_STOP_END) {
        live->samples[sample].stop = stop;
        COP_TRY(cancel_others(live, engine, sample));
    }
    return cop__live_end_sample(live, engine, sample, stop);
}

/* ---- a token ---- */

typedef struct live_token {
    cop_live_action action;
    size_t kept; /* bytes of the token that count: up to the tag on which the engine must act */
    uint32_t items;
} live_token;

/* Where the items of the open plan stand in the branch's text, for branch_prompt's {item}. */
static void note_item(const cop_live *live, cop_live_record *record, const cop_tag_event *event,
                      size_t at) {
    bool item = event->element == COP_EL_ITEM;
    size_t tag = record->bytes + at - event->tag_bytes;
    uint32_t n = record->n_items, max = live->options.max_branches;
    if ((item || event->element == COP_EL_PLAN) && n > 0 && record->items[n - 1].bytes == SIZE_MAX)
        record->items[n - 1].bytes = tag - record->items[n - 1].begin;
    if (item && !event->closing) {
        n = event->items - 1; /* more than `max` are counted: their fork is refused */
        if (n < max)
            record->items[n++] = (cop_live_item){record->bytes + at, SIZE_MAX};
        record->n_items = n < max ? n : max;
    }
}

/* What one tag calls for. */
static cop_status take_tag(cop_live *live, const cop_engine *engine, cop_live_record *record,
                           const cop_tag_event *event, uint32_t depth, const char *text, size_t at,
                           live_token *out) {
    const cop_dialect *d = live->options.dialect;
    bool plan_ends = event->element == COP_EL_PLAN && event->closing;
    bool path_ends = event->element == COP_EL_PATH && event->closing;
    bool block_begins = event->element == COP_EL_BLOCK && !event->closing;
    bool main_thread = record->n_path == 0;
    if (event->stray) {
        if (path_ends && main_thread && d->stray_path_ends_run)
            out->action = COP_ACT_STRAY;
        if (path_ends && !main_thread && d->trigger_anywhere)
            out->action = COP_ACT_PATH_END;
        if (!plan_ends || !d->trigger_anywhere || !(main_thread || d->nested))
            return COP_OK;
    } else if (cop__live_forks(live) && !d->items_pattern) {
        note_item(live, record, event, at);
    }
    if (d->trigger == COP_TRIGGER_BLOCK_OPEN ? block_begins && !event->stray : plan_ends)
        return cop__live_consider(live, engine, record, text, at, event->items, &out->action,
                                  &out->items);
    if (path_ends && !main_thread && depth == record->closes_at)
        out->action = COP_ACT_PATH_END;
    if (event->element == COP_EL_JOIN && event->closing && main_thread &&
        cop__live_is_last_block(live, &live->samples[record->sample]))
        out->action = COP_ACT_LIMIT;
    return COP_OK;
}

static cop_status find_action(cop_live *live, const cop_engine *engine, cop_live_record *record,
                              cop_text text, live_token *out) {
    size_t at = 0;
    if (cop__live_is_async(live))
        return cop__live_async_find(live, record, text, &out->kept, &out->action);
    while (at < text.bytes && out->action == COP_ACT_NONE) {
        size_t used;
        bool found;
        cop_tag_event event;
        uint32_t depth = record->parser.depth;
        COP_TRY(cop_parser_feed(&record->parser, text.data + at, text.bytes - at, &used, &found,
                                &event));
        at += used;
        if (found)
            COP_TRY(take_tag(live, engine, record, &event, depth, text.data, at, out));
    }
    out->kept = at;
    return COP_OK;
}

/* Whether the branch's own memory holds another token and what ends it. */
static bool has_room(const cop_live_record *record) {
    return record->max_ids - record->n_ids >= COP_LIVE_SPARE_IDS &&
           record->max_bytes - record->bytes >= COP_LIVE_SPARE_BYTES;
}

/* Takes the token's text; a token that ran past a tag's end is cut there and encoded again. */
static cop_status take_text(cop_live *live, cop_engine *engine, cop_live_record *record,
                            int32_t token, live_token *out) {
    if (!live->options.tokenizer || !live->options.dialect)
        return cop__live_append(live, record, &token, 1, COP_LIVE_SAID);
    cop_text text = cop_tokenizer_bytes(live->options.tokenizer, token);
    COP_TRY(find_action(live, engine, record, text, out));
    if (out->kept == text.bytes)
        return cop__live_append(live, record, &token, 1, COP_LIVE_SAID);
    COP_TRY(cop__live_encode(live, text.data, out->kept, true));
    cop_engine_metrics(engine)->tokens_dropped++;
    return cop__live_append(live, record, live->scratch.data, (uint32_t)live->scratch.count,
                            COP_LIVE_SAID);
}

/* What a path's own limits and its confidence say once its token is taken. */
static cop_status limit_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                             bool doubtful) {
    const cop_live_options *o = &live->options;
    uint32_t longest = o->dialect->max_path_tokens, deadline = live->policy.deadline_tokens;
    if (doubtful)
        return cop__live_cancel_path(live, engine, record, COP_STOP_CONFIDENCE);
    if (longest && record->n_said >= longest && !o->dialect->limit_cuts_after)
        return cop__live_end_path(live, engine, record, false, COP_STOP_LENGTH);
    if (deadline && record->n_said >= deadline)
        return cop__live_cancel_path(live, engine, record, COP_STOP_CANCELLED);
    return COP_OK;
}

/* Whether the budget is a branch's own, so that what it ends is that branch. */
static bool counts_alone(const cop_live *live) {
    const cop_dialect *d = live->options.dialect;
    return cop__live_forks(live) &&
           (d->charge == COP_CHARGE_POSITION || d->charge == COP_CHARGE_OWN_TIMES_SIBLINGS ||
            d->charge == COP_CHARGE_EACH_BRANCH || d->charge_each_step);
}

/* The token is text; what it calls for beyond that is done once it is fed. */
static cop_status act_on(cop_live *live, cop_engine *engine, cop_live_record *record,
                         const live_token *token, bool doubtful) {
    const cop_dialect *d = live->options.dialect;
    cop_live_pending *pending = &record->pending;
    switch (token->action) {
    case COP_ACT_PATH_END:
        *pending = (cop_live_pending){COP_ACT_PATH_END, d->path_keep, d->path_drop, 0};
        if (pending->keep + pending->drop > 0)
            return COP_OK;
        pending->action = COP_ACT_NONE;
        return cop__live_end_path(live, engine, record, true, COP_STOP_END);
    case COP_ACT_FORK:
        if (doubtful)
            break;
        *pending = (cop_live_pending){COP_ACT_FORK, 0, d->plan_drop, token->items};
        if (pending->drop > 0)
            return COP_OK;
        pending->action = COP_ACT_NONE;
        return cop__live_fork(live, engine, record, token->items);
    case COP_ACT_BRANCH_END:
        return cop__live_end_path(live, engine, record, false, COP_STOP_END);
    case COP_ACT_ASYNC:
        return cop__live_async_act(live, engine, record);
    case COP_ACT_NONE:
    case COP_ACT_REFUSED:
    case COP_ACT_LIMIT:
    case COP_ACT_STRAY:
        break;
    }
    return record->n_path > 0 ? limit_path(live, engine, record, doubtful) : COP_OK;
}

static cop_status act(cop_live *live, cop_engine *engine, cop_live_record *record, uint32_t first,
                      const live_token *token, bool doubtful) {
    const cop_live_options *o = &live->options;
    const cop_dialect *d = o->dialect;
    if (cop__live_is_concluded(live, record))
        return cop__live_finish_sample(live, engine, record->sample, COP_STOP_LIMIT);
    bool path_end = token->action == COP_ACT_PATH_END;
    bool main_ends = token->action == COP_ACT_BRANCH_END && record->n_path == 0;
    /* Whose KV is not read again is not fed: a path's end, unless it is stitched or reused. */
    if (path_end && !cop__live_stitches(d) && d->reuse == COP_REUSE_NONE)
        return cop__live_end_path(live, engine, record, true, COP_STOP_END);
    if (token->action == COP_ACT_REFUSED || main_ends)
        return cop__live_finish_sample(live, engine, record->sample, COP_STOP_REFUSED);
    if (token->action == COP_ACT_LIMIT)
        return cop__live_finish_sample(live, engine, record->sample, COP_STOP_LIMIT);
    if (token->action == COP_ACT_STRAY)
        return cop__live_finish_sample(live, engine, record->sample, COP_STOP_PATH);
    bool full = !cop__live_path_fits(live, engine, record, 1);
    bool room = has_room(record), alone = record->n_path > 0 && counts_alone(live);
    bool spent = cop__live_is_spent(live, engine, record, record->n_ids - first, d ? d->margin : 0);
    bool over = full || !room || (spent && !path_end);
    /* What its calls hold is encoded again: the last token may become another one. */
    bool again = token->action == COP_ACT_FORK && d->context_text;
    record->kept_ids = again ? first : record->n_ids;
    if (!again && (!over || (alone && !full)))
        COP_TRY(cop__live_rule_feed(live, engine, record, first,
                                    token->action == COP_ACT_NONE && !doubtful));
    if (path_end && !over)
        return act_on(live, engine, record, token, doubtful);
    if (path_end)
        return cop__live_end_path(live, engine, record, true, COP_STOP_END);
    /* A spawned path has a context of its own: that it is full is not the sample's end. */
    bool spawned = record->n_path > 0 && cop_dialect_spawns(d);
    if ((alone && over) ||
        (full && spawned && live->samples[record->sample].generated < o->max_tokens))
        return cop__live_end_path(live, engine, record, false, COP_STOP_LENGTH);
    if (over)
        return cop__live_finish_sample(live, engine, record->sample, COP_STOP_LENGTH);
    return act_on(live, engine, record, token, doubtful);
}

/* A token that the original samples behind a tag before it acts. *taken is false where it turns
 * out to be an ordinary one: a fork that may not be taken after all. */
static cop_status take_pending(cop_live *live, cop_engine *engine, cop_live_record *record,
                               int32_t token, bool end, bool *taken) {
    cop_live_pending *pending = &record->pending;
    uint32_t first = record->n_ids, items = pending->items;
    bool fits = cop__live_path_fits(live, engine, record, 1);
    *taken = true;
    if (pending->action == COP_ACT_FORK && !cop__live_may_fork(live, engine, record, items)) {
        pending->action = COP_ACT_NONE;
        cop__live_count_refused(live, record);
        *taken = false;
        return COP_OK;
    }
    if (end || (pending->keep > 0 && !fits)) {
        pending->keep = pending->drop = 0;
    } else if (pending->keep > 0) {
        pending->keep--;
        COP_TRY(cop__live_append(live, record, &token, 1, COP_LIVE_SAID));
        COP_TRY(cop_engine_feed(engine, record->branch, record->ids + first, 1, COP_FEED_DECODE));
    } else {
        pending->drop--;
        cop_engine_metrics(engine)->tokens_dropped++;
    }
    if (pending->keep + pending->drop > 0)
        return COP_OK;
    cop_live_action action = pending->action;
    pending->action = COP_ACT_NONE;
    return action == COP_ACT_FORK ? cop__live_fork(live, engine, record, items)
                                  : cop__live_end_path(live, engine, record, true, COP_STOP_END);
}

/* An end of text inside a conclusion that the dialect closes: decoding goes on behind it. */
static cop_status close_join(cop_live *live, cop_engine *engine, cop_live_record *record) {
    uint32_t first = record->n_ids;
    cop_text close = {live->options.dialect->close[COP_EL_JOIN].text,
                      live->options.dialect->close[COP_EL_JOIN].bytes};
    live_token token = {.action = COP_ACT_NONE};
    COP_TRY(find_action(live, engine, record, close, &token));
    COP_TRY(
        cop__live_append(live, record, live->join_close_ids, live->n_join_close, COP_LIVE_GIVEN));
    if (token.action == COP_ACT_LIMIT)
        return cop__live_finish_sample(live, engine, record->sample, COP_STOP_LIMIT);
    if (!cop__live_fits(engine, record->branch, live->n_join_close) || !has_room(record))
        return cop__live_finish_sample(live, engine, record->sample, COP_STOP_LENGTH);
    return cop_engine_feed(engine, record->branch, record->ids + first, live->n_join_close,
                           COP_FEED_JOIN);
}

/* Whether the confidence rule ends the branch: a path where the dialect forks, else the sample. */
static bool is_doubtful(const cop_live *live, cop_live_record *record, const cop_sample *sampled) {
    const cop_prune_options *rule = &live->options.prune;
    if (rule->window == 0 || cop__live_forks(live) != (record->n_path > 0))
        return false;
    cop_confidence_add(&record->confidence, cop_token_confidence(sampled));
    return record->confidence.n >= rule->window && record->confidence.lowest < rule->threshold;
}

/* The budget is one problem's. Where nothing forks, it ends the samples; where paths run, it ends
 * them, and what they found is still joined and concluded from. */
static cop_status spend(cop_live *live, cop_engine *engine, uint32_t sample) {
    uint64_t budget = live->options.prune.budget_tokens;
    if (!budget || live->generated < budget || live->spent)
        return COP_OK;
    live->spent = true;
    if (cop__live_forks(live))
        return cop__live_cancel_paths(live, engine);
    bool runs = live->samples[sample].stop == COP_STOP_NONE;
    COP_TRY(cancel_others(live, engine, sample));
    return runs ? cop__live_end_sample(live, engine, sample, COP_STOP_CANCELLED) : COP_OK;
}

/* An end of text ends its branch, unless the dialect has something else in mind. */
static cop_status take_end(cop_live *live, cop_engine *engine, cop_live_record *record,
                           int32_t token, bool doubtful) {
    const cop_dialect *d = live->options.dialect;
    bool forks = cop__live_forks(live);
    uint32_t items;
    cop__live_hear(live, COP_LIVE_TEXT, record); /* a token without text */
    if (record->n_path > 0)
        return cop__live_end_path(live, engine, record, false, COP_STOP_END);
    if (forks && d->end_closes_join && cop__live_in_join(record))
        return close_join(live, engine, record);
    if (forks && d->trigger_on_end && cop__live_end_forks(live, engine, record, &items)) {
        record->kept_ids = record->n_ids;
        return cop__live_fork(live, engine, record, items);
    }
    if (forks && !doubtful && cop__live_is_async(live) && cop__live_async_awaits_end(live, record))
        return cop__live_async_end(live, engine, record, token);
    record->ids[record->n_ids++] = token; /* counts as an id, but is no text */
    if (doubtful)
        return cop__live_end_sample(live, engine, record->sample, COP_STOP_CONFIDENCE);
    return cop__live_finish_sample(live, engine, record->sample, COP_STOP_END);
}

/* Whether the path's budget ends with one token more, which the dialect leaves out. */
static bool ends_unheard(cop_live *live, const cop_engine *engine, cop_live_record *record) {
    const cop_dialect *d = live->options.dialect;
    if (record->n_path == 0 || !d->last_dropped)
        return false;
    record->n_ids++;
    bool spent = cop__live_is_spent(live, engine, record, 0, d->margin);
    record->n_ids--;
    return spent;
}

static cop_status take_token(cop_live *live, cop_engine *engine, cop_live_record *record,
                             const cop_sample *sampled, bool end) {
    uint32_t first = record->n_ids;
    live_token token = {.action = COP_ACT_NONE};
    if (ends_unheard(live, engine, record)) {
        cop_engine_metrics(engine)->tokens_dropped++;
        return cop__live_end_path(live, engine, record, false, COP_STOP_LENGTH);
    }
    if (record->pending.action != COP_ACT_NONE) {
        bool taken;
        COP_TRY(take_pending(live, engine, record, sampled->token, end, &taken));
        if (taken)
            return COP_OK;
    }
    if (cop__live_is_worker(live, record))
        return cop__live_worker_token(live, engine, record, sampled->token, end,
                                      is_doubtful(live, record, sampled));
    if (!end)
        COP_TRY(take_text(live, engine, record, sampled->token, &token));
    bool doubtful = is_doubtful(live, record, sampled);
    if (end)
        return take_end(live, engine, record, sampled->token, doubtful);
    if (doubtful && record->n_path == 0)
        return cop__live_end_sample(live, engine, record->sample, COP_STOP_CONFIDENCE);
    return act(live, engine, record, first, &token, doubtful);
}

cop_status cop__live_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                           const cop_sample *sampled) {
    cop_live *live = (cop_live *)driver;
    cop_live_record *record = &live->records[cop_engine_branch(engine, branch).data];
    cop_live_sample *sample = &live->samples[record->sample];
    if (sampled->failed)
        return cop__live_end_sample(live, engine, record->sample, COP_STOP_FAILED);
    cop_engine_generated(engine, branch, 1);
    record->n_said++;
    cop__live_penalty_said(live, record, sampled->token);
    live->generated++;
    sample->generated++;
    record->logprob_sum += sampled->logprob;
    const cop_tokenizer *tokenizer = live->options.tokenizer;
    bool end = tokenizer && cop_tokenizer_is_end(tokenizer, sampled->token);
    COP_TRY(cop__live_has_program(live)
                ? cop__live_program_token(live, engine, record, sampled->token, end)
                : take_token(live, engine, record, sampled, end));
    /* A path's own end does not wait for the limit, which its sample may have reached with it. */
    if (sample->stop == COP_STOP_NONE && !counts_alone(live) &&
        cop__live_is_spent(live, engine, record, 0,
                           live->options.dialect ? live->options.dialect->margin : 0))
        COP_TRY(cop__live_finish_sample(live, engine, record->sample, COP_STOP_LENGTH));
    return spend(live, engine, record->sample);
}
