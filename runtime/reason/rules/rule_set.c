#include "reason/rules/rule_set.h"

#include <math.h>

#include "reason/rules/rule_internal.h"

typedef struct set {
    cop_rule rule;
    cop_rule *rules[COP_RULE_SET_MAX];
    uint32_t n;
    uint32_t prober, reader; /* which rule probes, reads hidden states; n: none */
    cop_status failed;       /* of a callback that cannot tell; told at the next decision */
} set;

static void keep(set *s, cop_status status) {
    if (s->failed == COP_OK)
        s->failed = status;
}

static void set_open(cop_rule *rule, uint32_t branch) {
    set *s = (set *)rule;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t id;
        keep(s, cop_rule_open(s->rules[i], rule->branches[branch].group, &id));
    }
}

static void set_token(cop_rule *rule, const cop_rule_token *token) {
    set *s = (set *)rule;
    for (uint32_t i = 0; i < s->n; i++)
        keep(s, cop_rule_token_add(s->rules[i], token));
    rule->branches[token->branch].wants_hidden =
        s->reader < s->n && cop_rule_wants_hidden(s->rules[s->reader], token->branch);
}

static cop_status set_hidden(cop_rule *rule, uint32_t branch, const float *hidden) {
    set *s = (set *)rule;
    return cop_rule_hidden(s->rules[s->reader], branch, hidden);
}

static cop_status set_probe(cop_rule *rule, uint32_t branch, const char *text, size_t bytes) {
    set *s = (set *)rule;
    return cop_rule_probe(s->rules[s->prober], branch, text, bytes, 0, 0);
}

/* Only the rule that knows a warm-up counts one. */
static void count_warmup(set *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->rules[i]->stats.tokens_warmup > 0)
            s->rule.stats.tokens_warmup = s->rules[i]->stats.tokens_warmup;
    }
}

static cop_status set_end(cop_rule *rule, uint32_t branch, const char *text, size_t bytes) {
    set *s = (set *)rule;
    for (uint32_t i = 0; i < s->n; i++)
        COP_TRY(cop_rule_end(s->rules[i], branch, rule->branches[branch].how, text, bytes));
    count_warmup(s);
    return COP_OK;
}

/* The branch has ended by somebody's decision: those that do not know are told. */
static void tell(set *s, uint32_t branch) {
    for (uint32_t i = 0; i < s->n; i++) {
        if (cop__rule_is_live(s->rules[i], branch))
            keep(s, cop_rule_end(s->rules[i], branch, COP_RULE_END_CUT, "", 0));
    }
}

static void set_left(cop_rule *rule, uint32_t branch) {
    tell((set *)rule, branch);
    count_warmup((set *)rule);
}

static void set_partial(cop_rule *rule, uint32_t branch, const char *text, size_t bytes) {
    set *s = (set *)rule;
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->rules[i]->branches[branch].state == RULE_PRUNED)
            keep(s, cop_rule_partial(s->rules[i], branch, text, bytes));
    }
}

static void repeat(set *s, const cop_rule *from, const cop_decision *d) {
    cop_rule *rule = &s->rule;
    if (d->kind != COP_DECIDE_STOP && !cop__rule_is_live(rule, d->branch))
        return;
    switch (d->kind) {
    case COP_DECIDE_PRUNE:
        cop__rule_prune(rule, d->branch, d->reason, d->keep_partial);
        break;
    case COP_DECIDE_FINISH:
        cop__rule_finish(rule, d->branch, d->reason, d->text, d->bytes);
        rule->branches[d->branch].answer = from->branches[d->branch].answer;
        rule->branches[d->branch].has_answer = from->branches[d->branch].has_answer;
        for (uint32_t i = 0; i < s->n; i++) {
            const cop__rule_text *answer = &from->branches[d->branch].answer;
            if (cop__rule_is_live(s->rules[i], d->branch))
                keep(s, cop_rule_end(s->rules[i], d->branch, COP_RULE_END_OWN, answer->data,
                                     answer->bytes));
        }
        break;
    case COP_DECIDE_PROBE:
        cop__rule_ask(rule, d->branch, d);
        break;
    case COP_DECIDE_STOP:
        cop__rule_stop(rule, d->reason, d->keep_partial);
        break;
    case COP_DECIDE_RUN: /* controllers are refused in create */
        break;
    }
}

static cop_status set_decide(cop_rule *rule, uint64_t now_ns) {
    set *s = (set *)rule;
    COP_TRY(s->failed);
    for (uint32_t i = 0; i < s->n && !rule->stopped; i++) {
        const cop_decision *decisions;
        uint32_t n;
        s->rules[i]->stats.tokens_probe = rule->stats.tokens_probe; /* a budget counts all */
        COP_TRY(cop_rule_decide(s->rules[i], now_ns, &decisions, &n));
        for (uint32_t j = 0; j < n && !rule->stopped; j++)
            repeat(s, s->rules[i], &decisions[j]);
    }
    return s->failed;
}

static uint32_t set_victim(const cop_rule *rule) {
    const set *s = (const set *)rule;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t branch = cop_rule_victim(s->rules[i]);
        if (branch != COP_RULE_NONE)
            return branch;
    }
    return COP_RULE_NONE;
}

static uint32_t set_may_open(const cop_rule *rule) {
    const set *s = (const set *)rule;
    uint32_t least = UINT32_MAX;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t may = cop_rule_may_open(s->rules[i]);
        least = may < least ? may : least;
    }
    return least;
}

static bool set_chooses(const cop_rule *rule) {
    const set *s = (const set *)rule;
    for (uint32_t i = 0; i < s->n; i++)
        if (cop_rule_chooses(s->rules[i]))
            return true;
    return false;
}

static bool set_answer(cop_rule *rule, const char **text, size_t *bytes) {
    set *s = (set *)rule;
    for (uint32_t i = 0; i < s->n; i++) {
        if (cop_rule_answer(s->rules[i], text, bytes))
            return true;
    }
    return false;
}

static double set_score(const cop_rule *rule, uint32_t branch) {
    const set *s = (const set *)rule;
    for (uint32_t i = 0; i < s->n; i++) {
        double score = cop_rule_score(s->rules[i], branch);
        if (!isnan(score))
            return score;
    }
    return (double)NAN;
}

static void set_reset(cop_rule *rule) {
    set *s = (set *)rule;
    s->failed = COP_OK;
    for (uint32_t i = 0; i < s->n; i++)
        cop_rule_reset(s->rules[i]);
}

static void set_destroy(cop_rule *rule) {
    set *s = (set *)rule;
    for (uint32_t i = 0; i < s->n; i++)
        cop_rule_destroy(s->rules[i]);
}

static const cop__rule_ops set_ops = {.name = "set",
                                      .open = set_open,
                                      .token = set_token,
                                      .hidden = set_hidden,
                                      .probe = set_probe,
                                      .end = set_end,
                                      .decide = set_decide,
                                      .victim = set_victim,
                                      .may_open = set_may_open,
                                      .chooses = set_chooses,
                                      .answer = set_answer,
                                      .score = set_score,
                                      .left = set_left,
                                      .partial = set_partial,
                                      .reset = set_reset,
                                      .destroy = set_destroy};

/* Who does what only one may do; n when nobody does. */
static cop_status find_only(cop_rule *const *rules, uint32_t n, bool probes, uint32_t *out) {
    *out = n;
    for (uint32_t i = 0; i < n; i++) {
        if (probes ? !rules[i]->needs.probes : !rules[i]->needs.hidden)
            continue;
        if (*out < n)
            return COP_FAIL(COP_ERR_CONFIG, "rules %s and %s both %s: take one of them",
                            rules[*out]->ops->name, rules[i]->ops->name,
                            probes ? "ask probes" : "score hidden states");
        *out = i;
    }
    return COP_OK;
}

cop_status cop_rule_set_create(const cop_rule_limits *limits, cop_rule *const *rules, uint32_t n,
                               cop_rule **out) {
    uint32_t prober, reader;
    if (n == 0 || n > COP_RULE_SET_MAX)
        return COP_FAIL(COP_ERR_CONFIG, "a set of %u rules; 1 to %d can be combined", n,
                        COP_RULE_SET_MAX);
    for (uint32_t i = 0; i < n; i++) {
        if (rules[i]->needs.runs_prompts)
            return COP_FAIL(COP_ERR_CONFIG,
                            "%s opens branches itself: it stands beside a set, not in it",
                            rules[i]->ops->name);
        if (rules[i]->limits.max_branches != limits->max_branches)
            return COP_FAIL(COP_ERR_CONFIG, "rule %s is made for %u branches, the set for %u",
                            rules[i]->ops->name, rules[i]->limits.max_branches,
                            limits->max_branches);
    }
    COP_TRY(find_only(rules, n, true, &prober));
    COP_TRY(find_only(rules, n, false, &reader));
    set *s = NULL;
    COP_TRY(cop__rule_create(&set_ops, sizeof *s, limits, 3, &s));
    s->prober = prober;
    s->reader = reader;
    for (uint32_t i = 0; i < n; i++) {
        const cop_rule_needs *needs = &rules[i]->needs;
        cop_rule_needs *all = &s->rule.needs;
        s->rules[i] = rules[i];
        all->top_logprobs |= needs->top_logprobs;
        all->probes |= needs->probes;
        if (needs->probes) {
            all->probe_text = needs->probe_text;
            all->probe_tokens = needs->probe_tokens;
            all->probe_every = needs->probe_every;
        }
        all->probes_at_start |= needs->probes_at_start;
        all->ignores_end |= needs->ignores_end;
        all->hidden = needs->hidden ? needs->hidden : all->hidden;
    }
    s->n = n;
    *out = &s->rule;
    return COP_OK;
}
