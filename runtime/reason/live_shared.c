/* Paths that see each other's tokens while they decode, and dialects whose paths are workers: they
 * open with the prompt's end, say steps instead of tags, and go on until one of them finishes.
 *
 * A step that ends moves to the common history: its text goes behind what the sample holds, its KV
 * before the block, and the worker begins its next step with the token that ended this one, which
 * has not run yet. All workers say one token a step of the engine, so that a run's last round is
 * that of all of them. Source: eqimp/hogwild_llm@1a87a99d:generation.py:81-122. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "reason/live_internal.h"

struct cop__live_shared { /* of one sample */
    uint64_t taken_in;    /* tokens since the last one that was injected behind */
    bool finished;        /* a step matched: this round is the last */
    cop_token_ids call;   /* prompt and joined text, encoded anew */
};

static cop_status forbid(cop_live *live) {
    const cop_live_options *o = &live->options;
    const cop_shared_rules *s = &o->dialect->shared;
    const uint32_t vocab = s->forbids_ends ? cop_tokenizer_vocab(o->tokenizer) : 0;
    uint32_t ends = 0;
    for (uint32_t id = 0; id < vocab; id++)
        ends += cop_tokenizer_is_end(o->tokenizer, (int32_t)id);
    live->forbidden =
        cop_arena_calloc(live->arena, s->n_forbidden + ends + 1, sizeof *live->forbidden);
    if (!live->forbidden)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a dialect's forbidden tokens");
    for (uint32_t id = 0; id < vocab; id++)
        if (cop_tokenizer_is_end(o->tokenizer, (int32_t)id) ||
            (int32_t)id == cop_tokenizer_bos(o->tokenizer))
            live->forbidden[live->n_forbidden++] = (cop_logit_bias){(int32_t)id, -INFINITY};
    for (uint32_t i = 0; i < s->n_forbidden; i++) {
        int32_t *ids;
        uint32_t n;
        COP_TRY(cop__live_encode_fixed(live, s->forbidden[i], strlen(s->forbidden[i]), &ids, &n));
        bool known = n != 1;
        for (uint32_t k = 0; k < live->n_forbidden && !known; k++)
            known = live->forbidden[k].token == ids[0];
        if (!known)
            live->forbidden[live->n_forbidden++] = (cop_logit_bias){ids[0], -INFINITY};
    }
    return COP_OK;
}

cop_status cop__live_shared_create(cop_live *live) {
    const cop_live_options *o = &live->options;
    const cop_dialect *d = o->dialect;
    const cop_shared_rules *s = &d->shared;
    if (d->join != COP_JOIN_SHARED)
        return COP_OK;
    if (o->rule && cop_rule_needs_of(o->rule).probes)
        return COP_FAIL(COP_ERR_CONFIG,
                        "rule %s probes its branches, and a probe forks: a path that others see "
                        "while it decodes (dialect %s) cannot",
                        cop_rule_name(o->rule), d->name);
    COP_TRY(cop__live_encode_fixed(live, s->others_header, strlen(s->others_header),
                                   &live->others_ids, &live->n_others));
    COP_TRY(cop__live_encode_fixed(live, s->own_header, strlen(s->own_header), &live->own_ids,
                                   &live->n_own));
    if (!s->n_workers)
        return COP_OK;
    if (o->n_samples * (uint64_t)(1 + s->n_workers) > o->max_branches)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "dialect %s has %u workers a sample: %u branches are not enough for %u "
                        "samples",
                        d->name, s->n_workers, o->max_branches, o->n_samples);
    COP_TRY(cop__live_encode_fixed(live, s->joined_tail, strlen(s->joined_tail), &live->tail_ids,
                                   &live->n_tail));
    live->shared = cop_arena_calloc(live->arena, o->n_samples, sizeof *live->shared);
    return live->shared ? forbid(live) : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the samples");
}

cop_status cop__live_shared_reset(cop_live *live) {
    if (!live->shared || !live->options.dialect->context_text)
        return COP_OK;
    for (uint32_t i = 0; i < live->options.n_samples; i++) {
        cop_token_ids *call = &live->shared[i].call;
        COP_TRY(cop_grow(&call->data, &call->capacity, live->again.capacity, sizeof *call->data));
    }
    return COP_OK;
}

void cop__live_shared_destroy(cop_live *live) {
    for (uint32_t i = 0; live->shared && i < live->options.n_samples; i++)
        cop_token_ids_release(&live->shared[i].call);
}

bool cop__live_is_worker(const cop_live *live, const cop_live_record *record) {
    return live->shared && record->n_path > 0;
}

bool cop__live_path_fits(const cop_live *live, const cop_engine *engine,
                         const cop_live_record *record, uint32_t tokens) {
    if (!cop__live_forks(live) || live->options.dialect->join != COP_JOIN_SHARED ||
        record->n_path == 0)
        return cop__live_fits(engine, record->branch, tokens);
    const cop_live_record *parent = &live->records[record->parent];
    const uint64_t more = (uint64_t)parent->n_children * (tokens + live->n_close);
    return cop_engine_share_view_tokens(engine, parent->branch) + more <=
           cop_engine_max_positions(engine);
}

cop_status cop__live_share(cop_live *live, cop_engine *engine, const cop_live_record *parent) {
    const cop_shared_headers headers = {live->others_ids, live->own_ids, live->n_others,
                                        live->n_own};
    return cop_engine_share(engine, parent->branch, &headers);
}

cop_status cop__live_shared_begin(cop_live *live, cop_engine *engine, cop_live_record *sample) {
    const uint32_t n = live->options.dialect->shared.n_workers;
    live->shared[sample->sample].taken_in = 0;
    live->shared[sample->sample].finished = false;
    COP_TRY(cop__live_fork(live, engine, sample, n));
    for (uint32_t i = 0; i < n; i++)
        live->records[sample->first_child + i].step = 1;
    return COP_OK;
}

/* ---- a token ---- */

static cop_span step_of(const cop_live_record *record) {
    return (cop_span){record->step_bytes, record->bytes - record->step_bytes};
}

static bool matches(cop_pattern *pattern, const char *text, size_t bytes) {
    size_t at = 0;
    cop_span group;
    return pattern && cop_pattern_next(pattern, text, bytes, &at, &group);
}

static bool step_ends(const cop_live *live, const cop_live_record *record, int32_t token) {
    const cop_shared_rules *s = &live->options.dialect->shared;
    const cop_text text = cop_tokenizer_bytes(live->options.tokenizer, token);
    if (!s->step_end || !cop__live_find_text(text.data, text.bytes, &s->step_token))
        return false;
    const cop_span step = step_of(record);
    return matches(s->step_end, record->text + step.begin, step.bytes);
}

/* Number, question and all that the next step begins with, behind the token that ended the last. */
static cop_status begin_step(cop_live *live, cop_live_record *record) {
    const cop_shared_rules *s = &live->options.dialect->shared;
    const cop_live_record *parent = &live->records[record->parent];
    cop__live_shared *state = &live->shared[record->sample];
    const uint32_t index = (uint32_t)(record - live->records) - parent->first_child;
    char text[2 * COP_LIVE_HEADER_BYTES + COP_LIVE_SPARE_BYTES], number[16];
    size_t bytes;
    int n = snprintf(number, sizeof number, "%u", ++record->step);
    COP_TRY(cop_dialect_header(s->workers[index].step_begin, number, (size_t)n, "", 0, text,
                               sizeof text / 2, &bytes));
    if (s->inject_tokens && state->taken_in > s->inject_tokens) {
        const size_t more = strlen(s->inject);
        memcpy(text + bytes, s->inject, more);
        bytes += more;
        state->taken_in = 0;
    }
    COP_TRY(cop__live_encode(live, text, bytes, false));
    return cop__live_append(live, record, live->scratch.data, (uint32_t)live->scratch.count,
                            COP_LIVE_GIVEN);
}

/* The step that ended goes to the history; its last token, the one before `first + 1`, begins what
 * the worker holds from now on. */
static cop_status end_step(cop_live *live, cop_engine *engine, cop_live_record *record,
                           uint32_t first) {
    cop_live_record *parent = &live->records[record->parent];
    const cop_span step = step_of(record);
    live->shared[record->sample].finished |=
        matches(live->options.dialect->shared.finished, record->text + step.begin, step.bytes);
    COP_TRY(cop__live_append(live, parent, record->ids + record->step_ids,
                             record->n_ids - record->step_ids, COP_LIVE_QUIET));
    record->step_ids = record->n_ids;
    record->step_bytes = record->bytes;
    COP_TRY(cop_engine_share_move(engine, record->branch));
    COP_TRY(begin_step(live, record));
    COP_TRY(cop_engine_feed(engine, record->branch, record->ids + first, 1, COP_FEED_DECODE));
    return cop_engine_feed(engine, record->branch, record->ids + first + 1,
                           record->n_ids - first - 1, COP_FEED_HEADER);
}

/* Whether all workers may take in another token, with what a step's end would add. */
static bool has_room(const cop_live *live, const cop_engine *engine,
                     const cop_live_record *parent) {
    for (uint32_t i = 0; i < parent->n_children; i++) {
        const cop_live_record *worker = &live->records[parent->first_child + i];
        if (worker->max_ids - worker->n_ids < 4 * COP_LIVE_SPARE_IDS ||
            worker->max_bytes - worker->bytes < 4 * COP_LIVE_SPARE_BYTES)
            return false;
    }
    /* The joined text holds every step once more, and its tails. */
    uint64_t ids = parent->n_ids + live->n_others + live->n_join, bytes = parent->bytes;
    for (uint32_t i = 0; i < parent->n_children; i++) {
        const cop_live_record *worker = &live->records[parent->first_child + i];
        ids += worker->n_ids - worker->step_ids + live->n_tail + 2 * COP_LIVE_SPARE_IDS;
        bytes += worker->bytes - worker->step_bytes + 2 * COP_LIVE_SPARE_BYTES;
    }
    const uint32_t view = cop_engine_share_view_tokens(engine, parent->branch);
    return ids < parent->max_ids && bytes < parent->max_bytes &&
           (uint64_t)view + (4 + parent->n_children) * COP_LIVE_SPARE_IDS <
               cop_engine_max_positions(engine);
}

static bool is_last_of_round(const cop_live *live, const cop_live_record *record) {
    const cop_live_record *parent = &live->records[record->parent];
    const cop_live_record *last = &live->records[parent->first_child + parent->n_children - 1];
    for (const cop_live_record *after = record + 1; after <= last; after++)
        if (after->stop == COP_STOP_NONE)
            return false;
    return true;
}

/* Every worker that still runs ends as it is; the last one's end joins them. */
static cop_status end_round(cop_live *live, cop_engine *engine, cop_live_record *parent,
                            cop_stop stop) {
    const bool keeps = !live->options.dialect->context_text;
    uint32_t left = 0;
    for (uint32_t i = 0; i < parent->n_children; i++)
        left += live->records[parent->first_child + i].stop == COP_STOP_NONE;
    for (uint32_t i = 0; i < parent->n_children && left > 0; i++) {
        cop_live_record *worker = &live->records[parent->first_child + i];
        if (worker->stop != COP_STOP_NONE)
            continue;
        left--;
        cop__live_mark_ended(live, worker, stop);
        COP_TRY(keeps ? cop_engine_end(engine, worker->branch, COP_END_DONE)
                      : cop_engine_end_text(engine, worker->branch));
    }
    return COP_OK;
}

/* What a rule or the model itself says of the worker. *ends: it is over. */
static cop_status end_alone(cop_live *live, cop_engine *engine, cop_live_record *record, bool end,
                            bool doubtful, bool *ends) {
    const uint32_t deadline = live->policy.deadline_tokens;
    *ends = true;
    if (end) {
        cop__live_hear(live, COP_LIVE_TEXT, record);
        return cop__live_end_path(live, engine, record, true, COP_STOP_END);
    }
    if (doubtful)
        return cop__live_cancel_path(live, engine, record, COP_STOP_CONFIDENCE);
    if (deadline && record->n_said >= deadline)
        return cop__live_cancel_path(live, engine, record, COP_STOP_CANCELLED);
    *ends = false;
    return COP_OK;
}

cop_status cop__live_worker_token(cop_live *live, cop_engine *engine, cop_live_record *record,
                                  int32_t token, bool end, bool doubtful) {
    const uint32_t first = record->n_ids;
    const bool last = is_last_of_round(live, record);
    cop_live_record *parent = &live->records[record->parent];
    cop__live_shared *state = &live->shared[record->sample];
    bool ends;
    if (!end)
        COP_TRY(cop__live_append(live, record, &token, 1, COP_LIVE_SAID));
    if (!end && step_ends(live, record, token))
        COP_TRY(end_step(live, engine, record, first));
    else if (!end)
        COP_TRY(cop__live_rule_feed(live, engine, record, first, true));
    state->taken_in += record->n_ids - first;
    COP_TRY(end_alone(live, engine, record, end, doubtful, &ends));
    if (!last || parent->n_children == 0 || live->samples[record->sample].stop != COP_STOP_NONE)
        return COP_OK;
    if (state->finished)
        return end_round(live, engine, parent, COP_STOP_END);
    if (record->n_said >= live->options.max_tokens || !has_room(live, engine, parent))
        return end_round(live, engine, parent, COP_STOP_LENGTH);
    return COP_OK;
}

/* ---- the join ---- */

/* The history stands in the sample's text already; behind it, each worker's open step. */
static cop_status append_open_steps(cop_live *live, cop_live_record *sample) {
    COP_TRY(cop__live_append(live, sample, live->others_ids, live->n_others, COP_LIVE_QUIET));
    for (uint32_t i = 0; i < sample->n_children; i++) {
        const cop_live_record *worker = &live->records[sample->first_child + i];
        if (worker->dropped)
            continue;
        COP_TRY(cop__live_append(live, sample, worker->ids + worker->step_ids,
                                 worker->n_ids - worker->step_ids, COP_LIVE_QUIET));
        COP_TRY(cop__live_append(live, sample, live->tail_ids, live->n_tail, COP_LIVE_QUIET));
    }
    return COP_OK;
}

/* All is encoded and computed once more, prompt included, as the original's finisher does
 * (generation.py:126-155). */
static cop_status begin_anew(cop_live *live, cop_engine *engine, const cop_live_record *sample) {
    cop_token_ids *call = &live->shared[sample->sample].call;
    COP_TRY(cop__live_retext_encode(live, sample));
    memcpy(call->data, live->again.data, live->again.count * sizeof *call->data);
    call->count = live->again.count;
    COP_TRY(cop_engine_join_anew(engine, sample->branch));
    cop__live_expect(live, engine, sample, (uint32_t)call->count);
    return cop_engine_feed(engine, sample->branch, call->data, (uint32_t)call->count,
                           COP_FEED_AGAIN);
}

cop_status cop__live_workers_joined(cop_live *live, cop_engine *engine, cop_live_record *sample) {
    const cop_dialect *d = live->options.dialect;
    bool length = false;
    for (uint32_t i = 0; i < sample->n_children; i++)
        length |= live->records[sample->first_child + i].stop == COP_STOP_LENGTH;
    cop__live_hear(live, COP_LIVE_JOIN, sample);
    COP_TRY(append_open_steps(live, sample));
    sample->n_children = 0;
    live->samples[sample->sample].steps++;
    const bool answered = matches(d->shared.finished, sample->text, sample->bytes);
    if (answered || live->n_join == 0)
        return cop__live_finish_sample(live, engine, sample->sample,
                                       length && !answered ? COP_STOP_LENGTH : COP_STOP_END);
    const uint32_t first = sample->n_ids;
    if (!d->context_text)
        COP_TRY(cop_engine_join_shared(engine, sample->branch));
    COP_TRY(cop__live_append(live, sample, live->join_ids, live->n_join, COP_LIVE_GIVEN));
    sample->turn_begin = sample->bytes;
    cop__live_penalty_joined(live, sample);
    sample->turn_ids = sample->n_ids;
    if (d->context_text)
        return begin_anew(live, engine, sample);
    return cop_engine_feed(engine, sample->branch, sample->ids + first, live->n_join,
                           COP_FEED_JOIN);
}

bool cop__live_is_concluded(const cop_live *live, const cop_live_record *record) {
    const uint32_t most = live->shared ? live->options.dialect->shared.finish_tokens : 0;
    return most > 0 && record->n_path == 0 && record->n_said >= most;
}
