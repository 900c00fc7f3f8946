#include "reason/rules/rule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "reason/rules/rule_internal.h"

static const char *const reason_names[] = {
#define REASON_NAME(name, word) word,
    COP_RULE_REASONS(REASON_NAME)
#undef REASON_NAME
};

const char *cop_rule_reason_name(cop_rule_reason reason) {
    return reason_names[reason];
}

/* ---- texts ---- */

uint64_t cop__rule_hash(const char *data, size_t bytes) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ (uint8_t)data[i]) * 0x100000001b3u;
    return hash;
}

void cop__rule_text_set(cop__rule_text *text, const char *data, size_t bytes) {
    enum { TAIL = 17 };
    text->hash = cop__rule_hash(data, bytes);
    if (bytes <= sizeof text->data) {
        if (bytes > 0)
            memcpy(text->data, data, bytes);
        text->bytes = (uint32_t)bytes;
        return;
    }
    char tail[TAIL + 1];
    snprintf(tail, sizeof tail, "#%016llx", (unsigned long long)text->hash);
    memcpy(text->data, data, sizeof text->data - TAIL);
    memcpy(text->data + sizeof text->data - TAIL, tail, TAIL);
    text->bytes = sizeof text->data;
}

bool cop__rule_equal(const cop_rule *rule, const cop__rule_text *a, const cop__rule_text *b) {
    if (rule->limits.same)
        return rule->limits.same(rule->limits.same_context, a->data, a->bytes, b->data, b->bytes);
    return a->hash == b->hash && a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0;
}

/* ---- life ---- */

void *cop__rule_calloc(cop_rule *rule, size_t count, size_t size, cop_status *status) {
    void *memory = cop_arena_calloc(rule->arena, count ? count : 1, size);
    if (!memory && *status == COP_OK)
        *status = COP_FAIL(COP_ERR_NO_MEMORY, "rule %s: no memory for %zu times %zu bytes",
                           rule->ops->name, count, size);
    return memory;
}

cop_status cop__rule_create(const cop__rule_ops *ops, size_t bytes, const cop_rule_limits *limits,
                            uint32_t per_branch, void *out) {
    if (limits->max_branches == 0 || limits->max_branches > 1u << 24)
        return COP_FAIL(COP_ERR_USAGE, "rule %s: %u branches; 1 to %u can be ruled", ops->name,
                        limits->max_branches, 1u << 24);
    cop_rule *rule = cop_calloc(1, bytes);
    if (!rule)
        return COP_FAIL(COP_ERR_NO_MEMORY, "rule %s: no memory", ops->name);
    rule->ops = ops;
    rule->limits = *limits;
    rule->max_decisions = per_branch * limits->max_branches + 8;
    cop_status status = cop_arena_create(&rule->arena);
    if (status == COP_OK)
        rule->branches =
            cop__rule_calloc(rule, limits->max_branches, sizeof *rule->branches, &status);
    if (status == COP_OK)
        rule->decisions =
            cop__rule_calloc(rule, rule->max_decisions, sizeof *rule->decisions, &status);
    if (status != COP_OK) {
        cop_arena_destroy(rule->arena);
        cop_free(rule);
        return status;
    }
    memcpy(out, &rule, sizeof rule);
    return COP_OK;
}

void cop_rule_destroy(cop_rule *rule) {
    if (!rule)
        return;
    if (rule->ops->destroy)
        rule->ops->destroy(rule);
    cop_arena_destroy(rule->arena);
    cop_free(rule);
}

void cop_rule_reset(cop_rule *rule) {
    rule->n_branches = rule->n_decisions = 0;
    rule->stopped = false;
    rule->stats = (cop_rule_stats){0};
    if (rule->ops->reset)
        rule->ops->reset(rule);
}

cop_status cop_rule_input(cop_rule *rule, const char *text, size_t bytes) {
    if (!rule->ops->input)
        return COP_FAIL(COP_ERR_USAGE, "rule %s runs no prompts: it takes no problem",
                        rule->ops->name);
    return rule->ops->input(rule, text, bytes);
}

uint32_t cop_rule_max_branches(const cop_rule *rule) {
    return rule->limits.max_branches;
}

const char *cop_rule_name(const cop_rule *rule) {
    return rule->ops->name;
}

cop_rule_needs cop_rule_needs_of(const cop_rule *rule) {
    return rule->needs;
}

cop_rule_stats cop_rule_stats_of(const cop_rule *rule) {
    return rule->stats;
}

/* ---- what happened ---- */

static cop_status check_live(const cop_rule *rule, uint32_t branch, const char *what) {
    if (branch >= rule->n_branches)
        return COP_FAIL(COP_ERR_USAGE, "rule %s: %s of branch %u, but %u were opened",
                        rule->ops->name, what, branch, rule->n_branches);
    if (rule->branches[branch].state != RULE_LIVE)
        return COP_FAIL(COP_ERR_USAGE, "rule %s: %s of branch %u, which has ended", rule->ops->name,
                        what, branch);
    return COP_OK;
}

bool cop_rule_is_live(const cop_rule *rule, uint32_t branch) {
    return branch < rule->n_branches && cop__rule_is_live(rule, branch);
}

uint32_t cop_rule_may_open(const cop_rule *rule) {
    if (rule->stopped)
        return 0;
    return rule->ops->may_open ? rule->ops->may_open(rule) : UINT32_MAX;
}

cop_status cop_rule_open(cop_rule *rule, uint32_t group, uint32_t *branch) {
    if (rule->n_branches == rule->limits.max_branches)
        return COP_FAIL(COP_ERR_NO_ROOM, "rule %s: more than %u branches", rule->ops->name,
                        rule->limits.max_branches);
    if (group >= rule->limits.max_branches)
        return COP_FAIL(COP_ERR_USAGE, "rule %s: group %u; they are below %u", rule->ops->name,
                        group, rule->limits.max_branches);
    if (cop_rule_may_open(rule) == 0)
        return COP_FAIL(COP_ERR_USAGE, "rule %s: no branch may be opened now", rule->ops->name);
    uint32_t id = rule->n_branches++;
    cop__rule_branch *b = &rule->branches[id];
    b->state = RULE_LIVE;
    b->probing = b->wants_hidden = b->has_answer = false;
    b->group = group;
    b->tokens = 0;
    b->answer.bytes = 0;
    rule->stats.opened++;
    if (rule->ops->open)
        rule->ops->open(rule, id);
    *branch = id;
    return COP_OK;
}

cop_status cop_rule_token_add(cop_rule *rule, const cop_rule_token *token) {
    COP_TRY(check_live(rule, token->branch, "a token"));
    rule->branches[token->branch].tokens++;
    rule->branches[token->branch].wants_hidden = false;
    rule->stats.tokens++;
    if (rule->ops->token)
        rule->ops->token(rule, token);
    return COP_OK;
}

bool cop_rule_wants_hidden(const cop_rule *rule, uint32_t branch) {
    return branch < rule->n_branches && cop__rule_is_live(rule, branch) &&
           rule->branches[branch].wants_hidden;
}

cop_status cop_rule_hidden(cop_rule *rule, uint32_t branch, const float *hidden) {
    COP_TRY(check_live(rule, branch, "a hidden state"));
    if (!rule->branches[branch].wants_hidden)
        return COP_FAIL(COP_ERR_USAGE,
                        "rule %s: a hidden state of branch %u that was not asked for",
                        rule->ops->name, branch);
    rule->branches[branch].wants_hidden = false;
    rule->stats.hidden_states++;
    return rule->ops->hidden(rule, branch, hidden);
}

cop_status cop_rule_probe(cop_rule *rule, uint32_t branch, const char *text, size_t bytes,
                          uint32_t given, uint32_t said) {
    /* One that was out when its branch ended has cost all the same. */
    rule->stats.tokens_probe += said;
    rule->stats.tokens_given += given;
    if (branch < rule->n_branches && !cop__rule_is_live(rule, branch))
        return COP_OK;
    COP_TRY(check_live(rule, branch, "a probe"));
    if (!rule->branches[branch].probing)
        return COP_FAIL(COP_ERR_USAGE, "rule %s: a probe of branch %u that was not asked for",
                        rule->ops->name, branch);
    rule->branches[branch].probing = false;
    rule->stats.probes_answered++;
    return rule->ops->probe(rule, branch, text, bytes);
}

cop_status cop_rule_end(cop_rule *rule, uint32_t branch, cop_rule_end_kind how, const char *answer,
                        size_t bytes) {
    COP_TRY(check_live(rule, branch, "the end"));
    cop__rule_branch *b = &rule->branches[branch];
    b->state = RULE_ENDED;
    b->how = how;
    b->has_answer = bytes > 0;
    cop__rule_text_set(&b->answer, answer, bytes);
    rule->stats.ended++;
    return rule->ops->end ? rule->ops->end(rule, branch, answer, bytes) : COP_OK;
}

cop_status cop_rule_partial(cop_rule *rule, uint32_t branch, const char *answer, size_t bytes) {
    if (branch >= rule->n_branches || rule->branches[branch].state != RULE_PRUNED)
        return COP_FAIL(COP_ERR_USAGE, "rule %s: branch %u was not pruned", rule->ops->name,
                        branch);
    rule->branches[branch].has_answer = bytes > 0;
    cop__rule_text_set(&rule->branches[branch].answer, answer, bytes);
    if (rule->ops->partial)
        rule->ops->partial(rule, branch, answer, bytes);
    return COP_OK;
}

/* ---- what to do ---- */

cop_status cop_rule_decide(cop_rule *rule, uint64_t now_ns, const cop_decision **out, uint32_t *n) {
    rule->n_decisions = 0;
    cop_status status = COP_OK;
    if (rule->ops->decide && !rule->stopped)
        status = rule->ops->decide(rule, now_ns);
    *out = rule->decisions;
    *n = rule->n_decisions;
    return status;
}

static void leave(cop_rule *rule, uint32_t branch) {
    cop__rule_branch *b = &rule->branches[branch];
    b->state = RULE_PRUNED;
    rule->stats.pruned++;
    rule->stats.tokens_pruned += b->tokens;
    if (rule->ops->left)
        rule->ops->left(rule, branch);
}

uint32_t cop_rule_victim(cop_rule *rule) {
    uint32_t branch = rule->ops->victim ? rule->ops->victim(rule) : COP_RULE_NONE;
    if (branch != COP_RULE_NONE)
        leave(rule, branch);
    return branch;
}

bool cop_rule_chooses(const cop_rule *rule) {
    return rule->ops->chooses ? rule->ops->chooses(rule) : rule->ops->answer != NULL;
}

bool cop_rule_answer(cop_rule *rule, const char **text, size_t *bytes) {
    return rule->ops->answer && rule->ops->answer(rule, text, bytes);
}

double cop_rule_score(const cop_rule *rule, uint32_t branch) {
    return rule->ops->score && branch < rule->n_branches ? rule->ops->score(rule, branch)
                                                         : (double)NAN;
}

static cop_decision *add(cop_rule *rule, cop_decision_kind kind, uint32_t branch,
                         cop_rule_reason reason) {
    cop_decision *d = &rule->decisions[rule->n_decisions++];
    *d = (cop_decision){.kind = kind, .branch = branch, .reason = reason, .temperature = -1};
    return d;
}

void cop__rule_prune(cop_rule *rule, uint32_t branch, cop_rule_reason reason, bool keep_partial) {
    add(rule, COP_DECIDE_PRUNE, branch, reason)->keep_partial = keep_partial;
    leave(rule, branch);
}

void cop__rule_finish(cop_rule *rule, uint32_t branch, cop_rule_reason reason, const char *text,
                      size_t bytes) {
    cop_decision *d = add(rule, COP_DECIDE_FINISH, branch, reason);
    d->text = text;
    d->bytes = bytes;
    rule->branches[branch].state = RULE_ENDED;
    rule->branches[branch].how = COP_RULE_END_OWN;
    rule->stats.finished++;
}

void cop__rule_ask(cop_rule *rule, uint32_t branch, const cop_decision *probe) {
    cop_decision *d = add(rule, COP_DECIDE_PROBE, branch, COP_REASON_NONE);
    *d = *probe;
    d->kind = COP_DECIDE_PROBE;
    d->branch = branch;
    rule->branches[branch].probing = true;
    rule->stats.probes_asked++;
}

void cop__rule_stop(cop_rule *rule, cop_rule_reason reason, bool keep_partial) {
    add(rule, COP_DECIDE_STOP, COP_RULE_NONE, reason)->keep_partial = keep_partial;
    rule->stopped = true;
    for (uint32_t i = 0; i < rule->n_branches; i++) {
        if (cop__rule_is_live(rule, i))
            leave(rule, i);
    }
}

cop_status cop__rule_run(cop_rule *rule, const cop_decision *run) {
    if (rule->n_decisions >= rule->max_decisions)
        return COP_FAIL(COP_ERR_NO_ROOM, "rule %s: more than %u prompts at one time",
                        rule->ops->name, rule->max_decisions);
    cop_decision *d = &rule->decisions[rule->n_decisions++];
    *d = *run;
    d->kind = COP_DECIDE_RUN;
    return COP_OK;
}
