#include "reason/rules/parallel_probe.h"

#include "reason/rules/vote.h"

typedef struct parallel_probe {
    cop_rule rule;
    cop_parallel_probe_options options;
    cop__rounds rounds;
    uint32_t *off; /* [max_branches] steps in a row off the winner */
    cop_vote vote;
    uint32_t stable;
    cop__rule_text winner; /* of the step before */
    bool has_winner;
} parallel_probe;

static bool is_pruned(const cop_rule *rule, uint32_t branch) {
    return rule->branches[branch].state == RULE_PRUNED;
}

static bool is_finished(const parallel_probe *p, uint32_t branch) {
    return p->rounds.state[branch] & COP__ROUND_FINISHED;
}

static bool differs(const cop__rule_text *a, const cop__rule_text *b) {
    return a->hash != b->hash || a->bytes != b->bytes;
}

/* NULL: nobody votes. */
static const cop__rule_text *find_winner(parallel_probe *p) {
    cop_vote_reset(&p->vote);
    for (uint32_t i = 0; i < p->rule.n_branches; i++) {
        if (p->options.pruned_votes || !is_pruned(&p->rule, i))
            cop_vote_add(&p->vote, &p->rounds.latest[i], 1);
    }
    const cop_vote_class *best = cop_vote_by_count(&p->vote);
    return best ? best->text : NULL;
}

static void prune_outliers(parallel_probe *p, const cop__rule_text *winner) {
    cop_rule *rule = &p->rule;
    for (uint32_t i = 0; i < rule->n_branches; i++) {
        if (is_pruned(rule, i) || is_finished(p, i))
            continue;
        p->off[i] = differs(&p->rounds.latest[i], winner) ? p->off[i] + 1 : 0;
        /* One that ended since its probe can be pruned no more: its answer is final next. */
        if (p->off[i] >= p->options.prune_patience && cop__rule_is_live(rule, i))
            cop__rule_prune(rule, i, COP_REASON_OUTLIER, false);
    }
}

static uint32_t count(const parallel_probe *p, bool finished) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->rule.n_branches; i++)
        n += !is_pruned(&p->rule, i) && (finished || !is_finished(p, i));
    return n;
}

/* One step; true when it was the last. */
static bool step(parallel_probe *p) {
    uint32_t number = p->rounds.round - 1;
    bool votes_on = p->options.pruned_votes;
    const cop__rule_text *winner = find_winner(p);
    if (!winner)
        return true;
    if (number >= p->options.warmup && count(p, !votes_on) > 1)
        prune_outliers(p, winner);
    p->stable = p->has_winner && !differs(winner, &p->winner) ? p->stable + 1 : 0;
    p->winner = *winner;
    p->has_winner = true;
    return p->stable >= p->options.patience || count(p, false) == 0 ||
           number + 1 >= p->options.max_steps;
}

static cop_status probe_decide(cop_rule *rule, uint64_t now_ns) {
    (void)now_ns;
    parallel_probe *p = (parallel_probe *)rule;
    while (!rule->stopped && cop__rounds_complete(&p->rounds, rule)) {
        if (p->rounds.round > 0 && step(p)) {
            cop__rule_stop(rule,
                           p->stable >= p->options.patience ? COP_REASON_CONSENSUS
                           : count(p, false) == 0           ? COP_REASON_DONE
                                                            : COP_REASON_STEPS,
                           false);
            return COP_OK;
        }
        cop__rounds_next(&p->rounds, rule);
    }
    cop__rounds_ask(&p->rounds, rule);
    return COP_OK;
}

static void probe_open(cop_rule *rule, uint32_t branch) {
    parallel_probe *p = (parallel_probe *)rule;
    p->off[branch] = 0;
    cop__rounds_open(&p->rounds, rule, branch);
}

static void probe_token(cop_rule *rule, const cop_rule_token *token) {
    cop__rounds_token(&((parallel_probe *)rule)->rounds, rule, token->branch);
}

static cop_status probe_probe(cop_rule *rule, uint32_t branch, const char *text, size_t bytes) {
    cop__rounds_probe(&((parallel_probe *)rule)->rounds, branch, text, bytes);
    return COP_OK;
}

static cop_status probe_end(cop_rule *rule, uint32_t branch, const char *text, size_t bytes) {
    (void)text, (void)bytes;
    cop__rounds_end(&((parallel_probe *)rule)->rounds, rule, branch);
    return COP_OK;
}

static void probe_left(cop_rule *rule, uint32_t branch) {
    cop__rounds_left(&((parallel_probe *)rule)->rounds, branch);
}

static bool probe_answer(cop_rule *rule, const char **text, size_t *bytes) {
    parallel_probe *p = (parallel_probe *)rule;
    *text = p->winner.data;
    *bytes = p->winner.bytes;
    return p->has_winner;
}

static void probe_reset(cop_rule *rule) {
    parallel_probe *p = (parallel_probe *)rule;
    p->stable = 0;
    p->has_winner = false;
    cop__rounds_reset(&p->rounds);
}

static const cop__rule_ops probe_ops = {.name = "parallel-probe",
                                        .open = probe_open,
                                        .token = probe_token,
                                        .probe = probe_probe,
                                        .end = probe_end,
                                        .decide = probe_decide,
                                        .left = probe_left,
                                        .answer = probe_answer,
                                        .reset = probe_reset};

cop_status cop_parallel_probe_create(const cop_rule_limits *limits,
                                     const cop_parallel_probe_options *options, cop_rule **out) {
    if (options->patience == 0 || options->prune_patience == 0 || options->max_steps == 0)
        return COP_FAIL(COP_ERR_CONFIG,
                        "parallel-probe: patience %u, prune_patience %u, max_steps %u: each is at "
                        "least 1",
                        options->patience, options->prune_patience, options->max_steps);
    if (options->warmup >= options->max_steps)
        return COP_FAIL(COP_ERR_CONFIG,
                        "parallel-probe: a warm-up of %u steps contradicts max_steps %u: nothing "
                        "would ever be pruned",
                        options->warmup, options->max_steps);
    parallel_probe *p = NULL;
    COP_TRY(cop__rule_create(&probe_ops, sizeof *p, limits, 2, &p));
    p->options = *options;
    cop_status status = cop__rounds_create(&p->rule, &options->probe, &p->rounds);
    if (status == COP_OK)
        p->off = cop__rule_calloc(&p->rule, limits->max_branches, sizeof *p->off, &status);
    if (status == COP_OK)
        status = cop_vote_create(&p->rule, limits->max_branches, true, &p->vote);
    if (status != COP_OK) {
        cop_rule_destroy(&p->rule);
        return status;
    }
    p->options.probe = p->rounds.options;
    *out = &p->rule;
    return COP_OK;
}
