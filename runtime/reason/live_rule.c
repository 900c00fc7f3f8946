#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "reason/live_internal.h"
#include "reason/rules/probe_text.h"

/* Engine branches carry the number of their record; a probe's carries its record's and this bit. */
enum { PROBE_BIT = 1 << 30 };

typedef struct probe { /* of a record; one at a time */
    bool wanted, out;
    bool at_start;  /* beside its sample, which does not wait for it */
    uint32_t first; /* the record's ids from here on are fed when the probe is over */
    uint32_t n_said;
    int32_t *ids; /* [probe_tokens] */
    char *text;
    size_t bytes;
    float temperature, top_p;
    cop_logit_bias bias; /* of a script */
} probe;

struct cop__live_rule {
    cop_rule *rule;
    cop_rule_needs needs;
    cop_driver inner;    /* what the driver does without a rule */
    uint32_t *branch_of; /* [max_branches] of a record; COP_RULE_NONE: it has none */
    uint32_t *record_of; /* [max rule branches] */
    uint32_t max_rule_branches;
    probe *probes; /* [max_branches] by record */
    size_t probe_bytes;
    int32_t *suffix;
    uint32_t n_suffix;
    float *hidden;
    cop_decision *pending; /* decided while a token was taken; obeyed after it */
    uint32_t n_pending, max_pending;
    uint32_t n_extra;
    cop_status failed; /* where a callback cannot tell */
};

static bool over_paths(const cop_live *live) {
    return cop__live_forks(live) && !live->options.rule_over_samples;
}

static bool covers(const cop_live *live, const cop_live_record *record) {
    return over_paths(live) == (record->n_path > 0);
}

/* Whose token it is to the rule; NULL: nobody's. */
static cop_live_record *speaker(cop_live *live, cop_live_record *record) {
    if (covers(live, record))
        return record;
    bool counts = record->n_path > 0 && !over_paths(live) && !live->rule->needs.hidden;
    return counts ? &live->records[record->sample] : NULL;
}

static uint32_t number_of(const cop_live *live, const cop_live_record *record) {
    return (uint32_t)(record - live->records);
}

static bool is_over(const cop_live *live, const cop_live_record *record) {
    return record->n_path > 0 ? record->stop != COP_STOP_NONE ||
                                    live->samples[record->sample].stop != COP_STOP_NONE
                              : live->samples[record->sample].stop != COP_STOP_NONE;
}

bool cop__live_rule_waits(const cop_live *live, const cop_live_record *record) {
    if (!live->rule || !live->rule->probes)
        return false;
    const probe *p = &live->rule->probes[number_of(live, record)];
    return p->out && !p->at_start;
}

/* ---- what the text claims ---- */

/* What the caller finds in it; or the dialect's answer, else what stands in the last box, else
 * nothing. */
static void claim(const cop_live *live, const cop_live_record *record, const char **answer,
                  size_t *bytes) {
    static const char box[] = "\\boxed{";
    *answer = "";
    *bytes = 0;
    if (live->options.claim) {
        if (!live->options.claim(live->options.claim_context, record->text, record->bytes, answer,
                                 bytes))
            *bytes = 0;
        return;
    }
    if (record->n_path == 0) {
        cop_live_sample sample = cop_live_sample_read(live, record->sample);
        if (sample.answer) {
            *answer = sample.answer;
            *bytes = sample.answer_bytes;
            return;
        }
    }
    for (size_t at = record->bytes; at-- > 0;) {
        if (record->bytes - at < sizeof box || memcmp(record->text + at, box, sizeof box - 1) != 0)
            continue;
        *answer = record->text + at + sizeof box - 1;
        *bytes = cop_probe_boxed(*answer, record->bytes - at - (sizeof box - 1));
        return;
    }
}

static void keep(cop__live_rule *r, cop_status status) {
    if (r->failed == COP_OK)
        r->failed = status;
}

void cop__live_rule_ended(cop_live *live, cop_live_record *record, cop_stop stop) {
    cop__live_rule *r = live->rule;
    if (!r || !covers(live, record))
        return;
    uint32_t number = number_of(live, record), branch = r->branch_of[number];
    if (branch == COP_RULE_NONE)
        return;
    if (cop_rule_is_live(r->rule, branch)) {
        const char *answer = "";
        size_t bytes = 0;
        cop_rule_end_kind how = COP_RULE_END_CUT;
        if (stop == COP_STOP_END)
            how = record->n_path > 0 && cop__live_says_success(live, record) ? COP_RULE_END_SUCCESS
                                                                             : COP_RULE_END_OWN;
        if (stop == COP_STOP_LENGTH)
            how = COP_RULE_END_LENGTH;
        if (how != COP_RULE_END_CUT)
            claim(live, record, &answer, &bytes);
        keep(r, cop_rule_end(r->rule, branch, how, answer, bytes));
    }
    if (r->probes && r->probes[number].out) { /* nobody waits for it any more, but it has cost */
        probe *p = &r->probes[number];
        if (!p->at_start) {
            p->out = false;
            keep(r, cop_rule_probe(r->rule, branch, "", 0, r->n_suffix, p->n_said));
        }
    }
}

/* ---- obeying ---- */

static cop_status finish(cop_live *live, cop_engine *engine, cop_live_record *record,
                         const cop_decision *d) {
    uint32_t first = record->n_ids;
    COP_TRY(cop__live_encode(live, d->text, d->bytes, false));
    uint32_t room = live->max_ids - record->n_ids;
    uint32_t n = (uint32_t)live->scratch.count < room ? (uint32_t)live->scratch.count : room;
    COP_TRY(cop__live_append(live, record, live->scratch.data, n, COP_LIVE_GIVEN));
    if (record->n_path == 0)
        return cop__live_end_sample(live, engine, record->sample, COP_STOP_END);
    if (!cop__live_rule_waits(live, record) && cop__live_fits(engine, record->branch, n))
        COP_TRY(cop_engine_feed(engine, record->branch, record->ids + first, n, COP_FEED_JOIN));
    return cop__live_end_path(live, engine, record, true, COP_STOP_END);
}

static cop_status prune(cop_live *live, cop_engine *engine, cop_live_record *record,
                        const cop_decision *d) {
    cop_stop stop = d->reason == COP_REASON_CONFIDENCE ? COP_STOP_CONFIDENCE : COP_STOP_CANCELLED;
    const char *answer;
    size_t bytes;
    claim(live, record, &answer, &bytes);
    COP_TRY(cop_rule_partial(live->rule->rule, d->branch, answer, bytes));
    if (record->n_path == 0)
        return cop__live_end_sample(live, engine, record->sample, stop);
    bool kept = live->policy.keep_partial;
    live->policy.keep_partial = d->keep_partial;
    cop_status status = cop__live_cancel_path(live, engine, record, stop);
    live->policy.keep_partial = kept;
    return status;
}

static cop_status stop_all(cop_live *live, cop_engine *engine, bool keep_partial) {
    live->spent = true; /* no further fork */
    if (over_paths(live)) {
        bool kept = live->policy.keep_partial;
        live->policy.keep_partial = keep_partial;
        cop_status status = cop__live_cancel_paths(live, engine);
        live->policy.keep_partial = kept;
        return status;
    }
    for (uint32_t i = 0; i < live->options.n_samples; i++) {
        if (live->samples[i].stop == COP_STOP_NONE)
            COP_TRY(cop__live_end_sample(live, engine, i, COP_STOP_CANCELLED));
    }
    return COP_OK;
}

static cop_status apply(cop_live *live, cop_engine *engine, const cop_decision *d) {
    cop__live_rule *r = live->rule;
    if (d->kind == COP_DECIDE_STOP)
        return stop_all(live, engine, d->keep_partial);
    uint32_t number = r->record_of[d->branch];
    cop_live_record *record = &live->records[number];
    if (d->kind == COP_DECIDE_PROBE) {
        r->probes[number].wanted = true;
        r->probes[number].temperature = d->temperature;
        r->probes[number].top_p = d->top_p;
        return COP_OK;
    }
    if (is_over(live, record))
        return COP_OK;
    return d->kind == COP_DECIDE_FINISH ? finish(live, engine, record, d)
                                        : prune(live, engine, record, d);
}

static cop_status obey(cop_live *live, cop_engine *engine) {
    cop__live_rule *r = live->rule;
    COP_TRY(r->failed);
    for (uint32_t i = 0; i < r->n_pending; i++)
        COP_TRY(apply(live, engine, &r->pending[i]));
    r->n_pending = 0;
    const cop_decision *decisions;
    uint32_t n;
    COP_TRY(cop_rule_decide(r->rule, cop_clock_ns(), &decisions, &n));
    for (uint32_t i = 0; i < n; i++)
        COP_TRY(apply(live, engine, &decisions[i]));
    return r->failed;
}

cop_status cop_live_prune_victim(cop_live *live, cop_engine *engine, bool *pruned) {
    *pruned = false;
    if (!live->rule)
        return COP_OK;
    cop_decision d = {.kind = COP_DECIDE_PRUNE, .reason = COP_REASON_PRESSURE};
    d.branch = cop_rule_victim(live->rule->rule);
    d.keep_partial = live->policy.keep_partial;
    if (d.branch == COP_RULE_NONE)
        return COP_OK;
    *pruned = true;
    return apply(live, engine, &d);
}

/* ---- probes ---- */

/* The rule is told that there is no room for its probe: an empty answer that cost nothing. */
static cop_status no_probe(cop_live *live, uint32_t number) {
    return cop_rule_probe(live->rule->rule, live->rule->branch_of[number], "", 0, 0, 0);
}

cop_status cop__live_rule_feed(cop_live *live, cop_engine *engine, cop_live_record *record,
                               uint32_t first, bool plain) {
    cop__live_rule *r = live->rule;
    uint32_t n = record->n_ids - first, number = number_of(live, record);
    const cop_live_options *o = &live->options;
    bool limited =
        record->n_path > 0 &&
        ((o->dialect->max_path_tokens && record->n_said >= o->dialect->max_path_tokens) ||
         (live->policy.deadline_tokens && record->n_said >= live->policy.deadline_tokens));
    if (!r || !r->probes || !plain || limited || !covers(live, record))
        return cop_engine_feed(engine, record->branch, record->ids + first, n, COP_FEED_DECODE);
    /* Decided now, because a probe is asked before the token is fed; the rest is obeyed after. */
    const cop_decision *decisions;
    uint32_t n_decisions;
    COP_TRY(cop_rule_decide(r->rule, cop_clock_ns(), &decisions, &n_decisions));
    for (uint32_t i = 0; i < n_decisions; i++) {
        if (decisions[i].kind == COP_DECIDE_PROBE)
            COP_TRY(apply(live, engine, &decisions[i]));
        else
            r->pending[r->n_pending++] = decisions[i];
    }
    probe *p = &r->probes[number];
    bool fits =
        cop__live_fits(engine, record->branch, (uint64_t)n + r->n_suffix + r->needs.probe_tokens);
    if (p->wanted && !fits) {
        p->wanted = false;
        COP_TRY(no_probe(live, number));
    }
    if (!p->wanted || p->out)
        return cop_engine_feed(engine, record->branch, record->ids + first, n, COP_FEED_DECODE);
    cop_branch child;
    p->wanted = p->at_start = false;
    p->out = true;
    p->first = first;
    p->n_said = 0;
    p->bytes = 0;
    COP_TRY(cop_engine_fork(engine, record->branch, 1, &child));
    cop_engine_set_data(engine, child, PROBE_BIT | number);
    cop_engine_expect(engine, child, n + r->n_suffix + r->needs.probe_tokens);
    COP_TRY(cop_engine_feed(engine, child, record->ids + first, n, COP_FEED_HEADER));
    return cop_engine_feed(engine, child, r->suffix, r->n_suffix, COP_FEED_HEADER);
}

static cop_status answer_probe(cop_live *live, uint32_t number) {
    cop__live_rule *r = live->rule;
    probe *p = &r->probes[number];
    p->out = false;
    return cop_rule_probe(r->rule, r->branch_of[number], p->text, p->bytes, r->n_suffix, p->n_said);
}

static cop_status probe_said(cop_live *live, cop_engine *engine, cop_branch branch,
                             const cop_sample *sampled) {
    cop__live_rule *r = live->rule;
    uint32_t number = cop_engine_branch(engine, branch).data & ~(uint32_t)PROBE_BIT;
    probe *p = &r->probes[number];
    bool end = sampled->failed || cop_tokenizer_is_end(live->options.tokenizer, sampled->token);
    if (!sampled->failed) {
        cop_engine_generated(engine, branch, 1);
        p->ids[p->n_said++] = sampled->token;
    }
    if (!end) {
        cop_text text = cop_tokenizer_bytes(live->options.tokenizer, sampled->token);
        size_t room = r->probe_bytes - p->bytes, n = text.bytes < room ? text.bytes : room;
        memcpy(p->text + p->bytes, text.data, n);
        p->bytes += n;
    }
    if (!end && p->n_said < r->needs.probe_tokens)
        return cop_engine_feed(engine, branch, &p->ids[p->n_said - 1], 1, COP_FEED_DECODE);
    COP_TRY(cop_engine_end(engine, branch, COP_END_CANCELLED));
    if (!p->at_start)
        return COP_OK; /* its record is joined when the engine says so */
    COP_TRY(answer_probe(live, number));
    return obey(live, engine);
}

static bool is_probe(uint32_t data) {
    return data >> 30 == 1;
}

/* ---- the driver's callbacks, with a rule around them ---- */

static cop_status open_branch(cop_live *live, const cop_live_record *record) {
    cop__live_rule *r = live->rule;
    uint32_t number = number_of(live, record), branch;
    /* A group is a block; its first path names it, for a parent may have several in a row. */
    uint32_t group = record->n_path > 0 ? live->records[record->parent].first_child : 0;
    COP_TRY(cop_rule_open(r->rule, group, &branch));
    if (branch >= r->max_rule_branches)
        return COP_FAIL(COP_ERR_NO_ROOM, "rule %s has seen more than %u branches",
                        cop_rule_name(r->rule), r->max_rule_branches);
    r->branch_of[number] = branch;
    r->record_of[branch] = number;
    return COP_OK;
}

/* All paths of a block at the first token of any: a rule that counts them knows how many there are.
 */
static cop_status open_block(cop_live *live, const cop_live_record *record) {
    if (record->n_path == 0)
        return open_branch(live, record);
    const cop_live_record *parent = &live->records[record->parent];
    for (uint32_t i = 0; i < parent->n_children; i++)
        COP_TRY(open_branch(live, &live->records[parent->first_child + i]));
    return COP_OK;
}

static cop_status rule_start(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    cop_live *live = (cop_live *)driver;
    cop__live_rule *r = live->rule;
    uint32_t n = live->options.n_samples;
    r->n_extra = 0;
    if (r->needs.probes_at_start && !over_paths(live))
        r->n_extra = n;
    COP_TRY(r->inner.start(driver, engine, problem));
    if (over_paths(live))
        return COP_OK;
    for (uint32_t i = 0; i < n; i++)
        COP_TRY(open_branch(live, &live->records[i]));
    COP_TRY(obey(live, engine));
    for (uint32_t i = 0; i < r->n_extra; i++) {
        probe *p = &r->probes[i];
        cop_branch child = live->children[n + i];
        p->out = p->at_start = true;
        p->wanted = false;
        p->n_said = 0;
        p->bytes = 0;
        cop_engine_set_data(engine, child, PROBE_BIT | i);
        cop_engine_expect(engine, child, r->n_suffix + r->needs.probe_tokens);
        COP_TRY(cop_engine_feed(engine, child, r->suffix, r->n_suffix, COP_FEED_HEADER));
    }
    return COP_OK;
}

static void rule_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                         cop_sample_request *request) {
    cop_live *live = (cop_live *)driver;
    uint32_t data = cop_engine_branch(engine, branch).data;
    if (!is_probe(data)) {
        live->rule->inner.request(driver, engine, branch, request);
        return;
    }
    probe *p = &live->rule->probes[data & ~(uint32_t)PROBE_BIT];
    const cop_live_options *o = &live->options;
    request->temperature = p->temperature < 0 ? o->temperature : p->temperature;
    request->top_p = p->top_p > 0 ? p->top_p : o->top_p;
    request->top_k = o->top_k;
    request->min_p = o->min_p;
    for (uint32_t i = 0; i < o->n_script; i++) {
        if (strcmp(o->script[i].path, "?") == 0 && p->n_said < o->script[i].n) {
            p->bias = (cop_logit_bias){o->script[i].ids[p->n_said], 1e6f};
            request->bias = &p->bias;
            request->n_bias = 1;
        }
    }
}

/* Nothing runs ahead of a hidden state that is to be read, nor of a token that a probe may hold. */
static bool rule_request_ahead(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                               cop_sample_request *request) {
    cop_live *live = (cop_live *)driver;
    if (live->rule->needs.hidden || live->rule->needs.probes)
        return false;
    return live->rule->inner.request_ahead(driver, engine, branch, request);
}

static cop_status tell_token(cop_live *live, cop_engine *engine, cop_live_record *record,
                             const cop_sample *sampled) {
    cop__live_rule *r = live->rule;
    uint32_t number = number_of(live, record);
    if (r->branch_of[number] == COP_RULE_NONE)
        COP_TRY(open_block(live, record));
    uint32_t branch = r->branch_of[number];
    if (!cop_rule_is_live(r->rule, branch))
        return COP_OK;
    if (cop_rule_wants_hidden(r->rule, branch)) { /* of the token before, whose row this was */
        COP_TRY(cop_engine_read_hidden(engine, record->branch, r->hidden));
        COP_TRY(cop_rule_hidden(r->rule, branch, r->hidden));
    }
    const cop_tokenizer *tokenizer = live->options.tokenizer;
    cop_text text = {"", 0};
    if (tokenizer && !cop_tokenizer_is_end(tokenizer, sampled->token))
        text = cop_tokenizer_bytes(tokenizer, sampled->token);
    cop_rule_token token = {.branch = branch,
                            .token = sampled->token,
                            .text = text.data,
                            .bytes = text.bytes,
                            .logprob = sampled->logprob,
                            .top_logprob = sampled->top_logprob,
                            .top_token = sampled->top_token,
                            .n_top = sampled->n_top};
    for (uint32_t i = 0; i < sampled->n_top && !token.in_top; i++)
        token.in_top = sampled->top_token[i] == sampled->token;
    return cop_rule_token_add(r->rule, &token);
}

static cop_status rule_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                             const cop_sample *sampled) {
    cop_live *live = (cop_live *)driver;
    uint32_t data = cop_engine_branch(engine, branch).data;
    if (is_probe(data))
        return probe_said(live, engine, branch, sampled);
    cop_live_record *told = speaker(live, &live->records[data]);
    if (told && !sampled->failed)
        COP_TRY(tell_token(live, engine, told, sampled));
    COP_TRY(live->rule->inner.token(driver, engine, branch, sampled));
    return obey(live, engine);
}

/* A probe is over: the record goes on with the token that it had said before. */
static cop_status rule_joined(cop_driver *driver, cop_engine *engine, cop_branch branch) {
    cop_live *live = (cop_live *)driver;
    uint32_t data = cop_engine_branch(engine, branch).data;
    if (data == UINT32_MAX || !cop__live_rule_waits(live, &live->records[data]))
        return live->rule->inner.joined(driver, engine, branch);
    cop_live_record *record = &live->records[data];
    uint32_t first = live->rule->probes[data].first;
    COP_TRY(cop_engine_join_text(engine, branch, false));
    cop__live_expect(live, engine, record, record->n_ids - first);
    COP_TRY(cop_engine_feed(engine, branch, record->ids + first, record->n_ids - first,
                            COP_FEED_AGAIN)); /* the probe had it computed for itself */
    COP_TRY(answer_probe(live, data));
    return obey(live, engine);
}

/* ---- life ---- */

uint32_t cop__live_rule_extra(const cop_live *live) {
    return live->rule ? live->rule->n_extra : 0;
}

cop_status cop__live_rule_reset(cop_live *live) {
    cop__live_rule *r = live->rule;
    if (!r)
        return COP_OK;
    uint32_t may = cop_rule_may_open(r->rule), n = live->options.n_samples;
    if (!over_paths(live) && may < n)
        return COP_FAIL(COP_ERR_USAGE,
                        "rule %s lets %u samples run now, and %u were asked for: run them in waves",
                        cop_rule_name(r->rule), may, n);
    if (over_paths(live) && may < r->max_rule_branches && may != UINT32_MAX)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "rule %s counts whole samples; the paths of dialect %s are opened by the "
                        "model: set it over samples",
                        cop_rule_name(r->rule), live->options.dialect->name);
    for (uint32_t i = 0; i < live->options.max_branches; i++) {
        r->branch_of[i] = COP_RULE_NONE;
        if (r->probes)
            r->probes[i].wanted = r->probes[i].out = false;
    }
    r->n_pending = 0;
    r->failed = COP_OK;
    return COP_OK;
}

bool cop__live_rule_may_forget(const cop_live *live) {
    return !live->rule || live->options.first_sample == 0;
}

cop_status cop__live_rule_forget(cop_live *live) {
    if (live->rule)
        cop_rule_reset(live->rule->rule);
    return cop__live_rule_reset(live);
}

static cop_status refuse(const cop_live *live, const cop_rule_needs *needs, const char *name) {
    if (needs->runs_prompts)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "rule %s is a controller: it runs prompts, and this driver has one", name);
    if (needs->ignores_end)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "rule %s goes on past the model's end of text, which no row is left for "
                        "here: use its mended form (heeds_end)",
                        name);
    if (needs->probes && !live->options.tokenizer)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "rule %s asks probes in text, and a random model has no tokenizer", name);
    return COP_OK;
}

static cop_status create_probes(cop_live *live, cop__live_rule *r) {
    uint32_t n = live->options.max_branches, tokens = r->needs.probe_tokens;
    cop_token_ids ids = {0};
    r->probe_bytes = (size_t)tokens * 32 + 64;
    r->probes = cop_arena_calloc(live->arena, n, sizeof *r->probes);
    for (uint32_t i = 0; i < n && r->probes; i++) {
        r->probes[i].ids = cop_arena_calloc(live->arena, tokens, sizeof(int32_t));
        r->probes[i].text = cop_arena_calloc(live->arena, r->probe_bytes, 1);
        if (!r->probes[i].ids || !r->probes[i].text)
            return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for probes");
    }
    COP_TRY(cop_tokenizer_encode(live->options.tokenizer, r->needs.probe_text,
                                 strlen(r->needs.probe_text), (cop_encode_options){.no_bos = true},
                                 &ids));
    r->suffix = cop_arena_calloc(live->arena, ids.count + 1, sizeof *r->suffix);
    if (r->suffix && ids.count > 0)
        memcpy(r->suffix, ids.data, ids.count * sizeof *r->suffix);
    r->n_suffix = (uint32_t)ids.count;
    cop_token_ids_release(&ids);
    if (!r->probes || !r->suffix)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for probes");
    return COP_OK;
}

/* What ends a branch with a text of its own is encoded while it runs. */
static cop_status create_encoder(cop_live *live) {
    if (live->encoder || !live->options.tokenizer)
        return COP_OK;
    live->encode_bytes = COP_LIVE_ENCODE_BYTES;
    COP_TRY(cop_encoder_create(live->options.tokenizer, live->encode_bytes, &live->encoder));
    return cop_grow(&live->scratch.data, &live->scratch.capacity, 2 * live->encode_bytes,
                    sizeof *live->scratch.data);
}

cop_status cop__live_rule_create(cop_live *live) {
    cop_rule *rule = live->options.rule;
    cop_rule_needs needs = cop_rule_needs_of(rule);
    COP_TRY(refuse(live, &needs, cop_rule_name(rule)));
    cop__live_rule *r = cop_arena_calloc(live->arena, 1, sizeof *r);
    if (!r)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a rule");
    r->rule = rule;
    r->needs = needs;
    r->max_rule_branches = cop_rule_max_branches(rule);
    r->max_pending = 3 * r->max_rule_branches + 8;
    r->branch_of = cop_arena_calloc(live->arena, live->options.max_branches, sizeof(uint32_t));
    r->record_of = cop_arena_calloc(live->arena, r->max_rule_branches, sizeof(uint32_t));
    r->pending = cop_arena_calloc(live->arena, r->max_pending, sizeof *r->pending);
    r->hidden = cop_arena_calloc(live->arena, needs.hidden + 1, sizeof *r->hidden);
    if (!r->branch_of || !r->record_of || !r->pending || !r->hidden)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a rule");
    if (needs.probes)
        COP_TRY(create_probes(live, r));
    COP_TRY(create_encoder(live));
    r->inner = live->driver;
    live->driver.start = rule_start;
    live->driver.request = rule_request;
    live->driver.request_ahead = rule_request_ahead;
    live->driver.token = rule_token;
    live->driver.joined = rule_joined;
    live->rule = r;
    return COP_OK;
}
