/* A repetition penalty on what a branch itself has said since it was opened or last joined.
 *
 * By stage, as a dialect's other sampling: each branch for itself. Or `penalty_shared`, as where
 * the requests of one answer share the object that holds their parameters:
 * bigai-nlco/Native-Parallel-Reasoner@e148ad5d, in its sglang/srt managers/schedule_batch.py:1614,
 * 1625, managers/scheduler.py:1475,1613, sampling/penaltylib/orchestrator.py:57-99. One factor is
 * the answer's: a fork sets it to the paths', a join to 1. A row takes it when it is opened or
 * joined, and counts what it says from then on. When a row leaves while the factor is 1, all the
 * answer's rows stop to count and what they counted is gone, so an inner join ends the penalty of
 * steps that still run; the next fork begins it for all of them anew, the joined ones too, with the
 * token that each said last. Forks, ends and joins of one step count together, in that order: paths
 * that open in the step of a join have the factor 1.
 *
 * It is said here of an answer alone in its engine; there, rows of other answers keep the counting
 * up. */
#include <string.h>

#include "reason/live_internal.h"

typedef struct shared_factor {  /* of a sample */
    float factor;               /* 0: none */
    bool on;                    /* rows are penalised */
    bool forked, ended, joined; /* since it was last looked at */
} shared_factor;

struct cop__live_penalty {
    uint32_t vocab, words;
    shared_factor *shared; /* [n_samples] NULL: by stage */
};

bool cop__live_penalises(const cop_live *live) {
    return live->penalty != NULL;
}

static bool asks(const cop_live *live) {
    const cop_dialect *d = live->options.dialect;
    if (!cop__live_forks(live))
        return false;
    for (int i = 0; i < COP_STAGE_COUNT; i++)
        if (d->sampling[i].penalty > 0)
            return true;
    return false;
}

cop_status cop__live_penalty_create(cop_live *live) {
    const cop_live_options *o = &live->options;
    if (!asks(live))
        return COP_OK;
    cop__live_penalty *p = cop_arena_calloc(live->arena, 1, sizeof *p);
    if (p) {
        p->vocab = cop_tokenizer_vocab(o->tokenizer);
        p->words = (p->vocab + 31) / 32;
        if (o->dialect->penalty_shared)
            p->shared = cop_arena_calloc(live->arena, o->n_samples, sizeof *p->shared);
    }
    bool whole = p && (p->shared || !o->dialect->penalty_shared);
    for (uint32_t i = 0; whole && i < o->max_branches; i++) {
        live->records[i].seen.words = cop_arena_calloc(live->arena, p->words, sizeof(uint32_t));
        whole = live->records[i].seen.words != NULL;
    }
    live->penalty = p;
    return whole ? COP_OK
                 : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for what %u branches have said",
                            o->max_branches);
}

static void add(const cop_live *live, cop_live_record *record, int32_t token) {
    if ((uint32_t)token < live->penalty->vocab)
        record->seen.words[token / 32] |= 1u << token % 32;
}

static void forget(const cop_live *live, cop_live_record *record) {
    memset(record->seen.words, 0, live->penalty->words * sizeof *record->seen.words);
}

static shared_factor *factor_of(const cop_live *live, const cop_live_record *record) {
    return live->penalty->shared ? &live->penalty->shared[record->sample] : NULL;
}

void cop__live_penalty_begin(cop_live *live, cop_live_record *record) {
    if (!live->penalty)
        return;
    forget(live, record);
    record->seen.fresh = true;
    shared_factor *s = factor_of(live, record);
    if (s && record->n_path == 0)
        *s = (shared_factor){.factor = 0};
    else if (s)
        s->forked = true;
}

void cop__live_penalty_ended(cop_live *live, const cop_live_record *record) {
    if (live->penalty && live->penalty->shared)
        factor_of(live, record)->ended = true;
}

void cop__live_penalty_joined(cop_live *live, cop_live_record *parent) {
    if (!live->penalty)
        return;
    forget(live, parent);
    parent->seen.fresh = true;
    if (live->penalty->shared)
        factor_of(live, parent)->joined = true;
}

void cop__live_penalty_said(cop_live *live, cop_live_record *record, int32_t token) {
    if (!live->penalty)
        return;
    record->seen.last = token;
    add(live, record, token);
}

static bool is_row(const cop_live_record *record, uint32_t sample) {
    return record->sample == sample && record->stop == COP_STOP_NONE && !record->withdrawn &&
           record->n_children == 0;
}

/* Rows that were opened or joined take the factor; where it comes back, the others do. */
static void renew(cop_live *live, shared_factor *s, uint32_t sample) {
    bool again = s->factor > 0 && !s->on, others = false;
    for (uint32_t i = 0; i < live->n_records; i++) {
        cop_live_record *record = &live->records[i];
        if (!is_row(record, sample))
            continue;
        bool fresh = record->seen.fresh;
        if (fresh || again)
            record->seen.factor = s->factor;
        if (again && !fresh) {
            forget(live, record);
            add(live, record, record->seen.last);
        }
        record->seen.fresh = false;
        others |= !fresh;
    }
    s->on = s->factor > 0 || (s->on && others);
}

/* What the step before did, in the order in which the original looks at it. */
static void settle(cop_live *live, shared_factor *s, uint32_t sample) {
    if (s->forked)
        s->factor = live->options.dialect->sampling[COP_STAGE_PATH].penalty;
    if (s->ended && s->factor == 0)
        s->on = false;
    if (s->joined)
        s->factor = 0;
    if (s->forked || s->joined)
        renew(live, s, sample);
    s->forked = s->ended = s->joined = false;
}

void cop__live_penalty_request(cop_live *live, cop_live_record *record, cop_stage stage,
                               cop_sample_request *request) {
    if (!live->penalty)
        return;
    shared_factor *s = factor_of(live, record);
    if (s)
        settle(live, s, record->sample);
    request->seen = record->seen.words;
    request->repetition_penalty = !s      ? live->options.dialect->sampling[stage].penalty
                                  : s->on ? record->seen.factor
                                          : 0;
}
