#include "reason/rules/policy.h"

#include "reason/rules/rule_internal.h"

typedef struct group {
    uint32_t opened, finished, live;
    bool due, over;
    uint64_t begin_ns;
} group;

typedef struct policy {
    cop_rule rule;
    cop_policy_options options;
    group *groups;
    uint32_t *due_branches, *due_groups;
    uint32_t n_due_branches, n_due_groups;
    uint32_t *started; /* groups in the order of their first branch; n_timed of them have begun */
    uint32_t n_started, n_timed, n_expired;
} policy;

static void policy_open(cop_rule *rule, uint32_t branch) {
    policy *p = (policy *)rule;
    uint32_t id = rule->branches[branch].group;
    group *g = &p->groups[id];
    if (g->opened == 0)
        p->started[p->n_started++] = id;
    g->opened++;
    g->live++;
}

static void policy_token(cop_rule *rule, const cop_rule_token *token) {
    policy *p = (policy *)rule;
    if (rule->branches[token->branch].tokens == p->options.deadline_tokens)
        p->due_branches[p->n_due_branches++] = token->branch;
}

static bool reached(const policy *p, const group *g) {
    const cop_policy_options *o = &p->options;
    if (o->quorum)
        return g->finished >= o->quorum;
    return o->quorum_ratio > 0 && g->finished >= o->quorum_ratio * g->opened;
}

static cop_status policy_end(cop_rule *rule, uint32_t branch, const char *text, size_t bytes) {
    (void)text, (void)bytes;
    policy *p = (policy *)rule;
    uint32_t id = rule->branches[branch].group;
    group *g = &p->groups[id];
    cop_rule_end_kind how = rule->branches[branch].how;
    g->live--;
    if (how == COP_RULE_END_SUCCESS || (how == COP_RULE_END_OWN && !p->options.success_only))
        g->finished++;
    if (!g->due && !g->over && reached(p, g)) {
        g->due = true;
        p->due_groups[p->n_due_groups++] = id;
    }
    return COP_OK;
}

static void policy_left(cop_rule *rule, uint32_t branch) {
    policy *p = (policy *)rule;
    p->groups[rule->branches[branch].group].live--;
}

static void end_group(policy *p, uint32_t id, cop_rule_reason reason) {
    group *g = &p->groups[id];
    g->due = false;
    g->over = true;
    for (uint32_t i = 0; i < p->rule.n_branches && g->live > 0; i++) {
        if (p->rule.branches[i].group == id && cop__rule_is_live(&p->rule, i))
            cop__rule_prune(&p->rule, i, reason, p->options.keep_partial);
    }
}

static void watch_time(policy *p, uint64_t now_ns) {
    while (p->n_timed < p->n_started)
        p->groups[p->started[p->n_timed++]].begin_ns = now_ns;
    while (p->n_expired < p->n_timed) {
        uint32_t id = p->started[p->n_expired];
        if (now_ns - p->groups[id].begin_ns < p->options.deadline_ns)
            break;
        end_group(p, id, COP_REASON_DEADLINE);
        p->n_expired++;
    }
}

static cop_status policy_decide(cop_rule *rule, uint64_t now_ns) {
    policy *p = (policy *)rule;
    const cop_policy_options *o = &p->options;
    for (uint32_t i = 0; i < p->n_due_branches; i++) {
        if (cop__rule_is_live(rule, p->due_branches[i]))
            cop__rule_prune(rule, p->due_branches[i], COP_REASON_DEADLINE, o->keep_partial);
    }
    p->n_due_branches = 0;
    for (uint32_t i = 0; i < p->n_due_groups; i++)
        end_group(p, p->due_groups[i], COP_REASON_QUORUM);
    p->n_due_groups = 0;
    if (o->deadline_ns)
        watch_time(p, now_ns);
    uint64_t spent = rule->stats.tokens + (o->budget_probes ? rule->stats.tokens_probe : 0);
    if (o->budget_tokens && spent >= o->budget_tokens)
        cop__rule_stop(rule, COP_REASON_BUDGET, o->keep_partial);
    return COP_OK;
}

static void policy_reset(cop_rule *rule) {
    policy *p = (policy *)rule;
    for (uint32_t i = 0; i < p->n_started; i++)
        p->groups[p->started[i]] = (group){0};
    p->n_due_branches = p->n_due_groups = p->n_started = p->n_timed = p->n_expired = 0;
}

static const cop__rule_ops policy_ops = {.name = "policy",
                                         .open = policy_open,
                                         .token = policy_token,
                                         .end = policy_end,
                                         .decide = policy_decide,
                                         .left = policy_left,
                                         .reset = policy_reset};

static cop_status check_options(const cop_policy_options *o) {
    if (!o->budget_tokens && !o->quorum && o->quorum_ratio == 0 && !o->deadline_tokens &&
        !o->deadline_ns)
        return COP_FAIL(COP_ERR_CONFIG, "policy: it limits nothing: give budget_tokens, quorum, "
                                        "quorum_ratio, deadline_tokens or deadline_ms");
    if (o->quorum && o->quorum_ratio != 0)
        return COP_FAIL(COP_ERR_CONFIG,
                        "policy: quorum %u and quorum_ratio %g contradict: give one of them",
                        o->quorum, o->quorum_ratio);
    if (!(o->quorum_ratio >= 0 && o->quorum_ratio <= 1))
        return COP_FAIL(COP_ERR_CONFIG, "policy: quorum_ratio is %g; it is above 0 and at most 1",
                        o->quorum_ratio);
    if (o->success_only && !o->quorum && o->quorum_ratio == 0)
        return COP_FAIL(COP_ERR_CONFIG, "policy: success_only says whom a quorum counts, and there "
                                        "is none");
    if (o->budget_probes && !o->budget_tokens)
        return COP_FAIL(COP_ERR_CONFIG, "policy: budget_probes says what a budget counts, and "
                                        "there is none");
    if (o->budget_tokens && o->deadline_tokens > o->budget_tokens)
        return COP_FAIL(COP_ERR_CONFIG,
                        "policy: deadline_tokens %u can never be reached within budget_tokens %llu",
                        o->deadline_tokens, (unsigned long long)o->budget_tokens);
    return COP_OK;
}

cop_status cop_policy_create(const cop_rule_limits *limits, const cop_policy_options *options,
                             cop_rule **out) {
    COP_TRY(check_options(options));
    if (options->quorum > limits->max_branches)
        return COP_FAIL(COP_ERR_CONFIG, "policy: a quorum of %u, but %u branches can run",
                        options->quorum, limits->max_branches);
    policy *p = NULL;
    COP_TRY(cop__rule_create(&policy_ops, sizeof *p, limits, 1, &p));
    p->options = *options;
    cop_status status = COP_OK;
    uint32_t n = limits->max_branches;
    p->groups = cop__rule_calloc(&p->rule, n, sizeof *p->groups, &status);
    p->due_branches = cop__rule_calloc(&p->rule, n, sizeof *p->due_branches, &status);
    p->due_groups = cop__rule_calloc(&p->rule, n, sizeof *p->due_groups, &status);
    p->started = cop__rule_calloc(&p->rule, n, sizeof *p->started, &status);
    if (status != COP_OK) {
        cop_rule_destroy(&p->rule);
        return status;
    }
    *out = &p->rule;
    return COP_OK;
}
