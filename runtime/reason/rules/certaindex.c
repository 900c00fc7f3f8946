#include "reason/rules/certaindex.h"

#include <math.h>

#include "reason/rules/vote.h"

typedef struct certaindex {
    cop_rule rule;
    cop_certaindex_options options;
    cop__rounds rounds;
    cop_vote texts, classes;
    double last;
    uint32_t measured;
    cop__rule_text winner;
    bool has_winner;
} certaindex;

static bool counts(const cop_rule *rule, uint32_t branch) {
    return rule->branches[branch].state != RULE_PRUNED;
}

static void find_winner(certaindex *c) {
    uint32_t most = 0;
    cop_vote_reset(&c->classes);
    for (uint32_t i = 0; i < c->rule.n_branches; i++) {
        if (!counts(&c->rule, i))
            continue;
        uint32_t class = cop_vote_add(&c->classes, &c->rounds.latest[i], 1);
        if (c->classes.classes[class].count > most) {
            most = c->classes.classes[class].count;
            c->winner = c->rounds.latest[i];
            c->has_winner = true;
        }
    }
}

static double measure(certaindex *c) {
    cop_vote_reset(&c->texts);
    for (uint32_t i = 0; i < c->rule.n_branches; i++) {
        if (counts(&c->rule, i))
            cop_vote_add(&c->texts, &c->rounds.latest[i], 1);
    }
    double entropy = cop_vote_entropy(&c->texts);
    if (c->options.measure == COP_CERTAINDEX_ENTROPY)
        return entropy;
    uint32_t n = c->texts.votes;
    return n <= 1 ? 1 : 1 - entropy / (log(n) / log(2));
}

static bool any_runs(const cop_rule *rule) {
    for (uint32_t i = 0; i < rule->n_branches; i++) {
        if (cop__rule_is_live(rule, i))
            return true;
    }
    return false;
}

static cop_status certaindex_decide(cop_rule *rule, uint64_t now_ns) {
    (void)now_ns;
    certaindex *c = (certaindex *)rule;
    while (!rule->stopped && cop__rounds_complete(&c->rounds, rule)) {
        c->last = measure(c);
        c->measured++;
        find_winner(c);
        bool certain = c->options.measure == COP_CERTAINDEX_ENTROPY
                           ? c->last <= c->options.threshold
                           : c->last >= c->options.threshold;
        if (certain || !any_runs(rule)) {
            cop__rule_stop(rule, certain ? COP_REASON_CERTAIN : COP_REASON_DONE, false);
            return COP_OK;
        }
        cop__rounds_next(&c->rounds, rule);
    }
    cop__rounds_ask(&c->rounds, rule);
    return COP_OK;
}

static void certaindex_open(cop_rule *rule, uint32_t branch) {
    cop__rounds_open(&((certaindex *)rule)->rounds, rule, branch);
}

static void certaindex_token(cop_rule *rule, const cop_rule_token *token) {
    cop__rounds_token(&((certaindex *)rule)->rounds, rule, token->branch);
}

static cop_status certaindex_probe(cop_rule *rule, uint32_t branch, const char *text,
                                   size_t bytes) {
    cop__rounds_probe(&((certaindex *)rule)->rounds, branch, text, bytes);
    return COP_OK;
}

static cop_status certaindex_end(cop_rule *rule, uint32_t branch, const char *text, size_t bytes) {
    (void)text, (void)bytes;
    cop__rounds_end(&((certaindex *)rule)->rounds, rule, branch);
    return COP_OK;
}

static void certaindex_left(cop_rule *rule, uint32_t branch) {
    cop__rounds_left(&((certaindex *)rule)->rounds, branch);
}

static bool certaindex_answer(cop_rule *rule, const char **text, size_t *bytes) {
    certaindex *c = (certaindex *)rule;
    *text = c->winner.data;
    *bytes = c->winner.bytes;
    return c->has_winner;
}

static void certaindex_reset(cop_rule *rule) {
    certaindex *c = (certaindex *)rule;
    c->last = (double)NAN;
    c->measured = 0;
    c->has_winner = false;
    cop__rounds_reset(&c->rounds);
}

static const cop__rule_ops certaindex_ops = {.name = "certaindex",
                                             .open = certaindex_open,
                                             .token = certaindex_token,
                                             .probe = certaindex_probe,
                                             .end = certaindex_end,
                                             .decide = certaindex_decide,
                                             .left = certaindex_left,
                                             .answer = certaindex_answer,
                                             .reset = certaindex_reset};

cop_status cop_certaindex_create(const cop_rule_limits *limits,
                                 const cop_certaindex_options *options, cop_rule **out) {
    bool entropy = options->measure == COP_CERTAINDEX_ENTROPY;
    if (!(options->threshold >= 0) || (!entropy && options->threshold > 1))
        return COP_FAIL(COP_ERR_CONFIG, "certaindex: a threshold of %g; %s", options->threshold,
                        entropy ? "an entropy is at least 0 bits" : "the index is 0 to 1");
    certaindex *c = NULL;
    COP_TRY(cop__rule_create(&certaindex_ops, sizeof *c, limits, 2, &c));
    c->options = *options;
    cop_status status = cop__rounds_create(&c->rule, &options->probe, &c->rounds);
    if (status == COP_OK)
        status = cop_vote_create(&c->rule, limits->max_branches, true, &c->texts);
    if (status == COP_OK)
        status = cop_vote_create(&c->rule, limits->max_branches, false, &c->classes);
    if (status != COP_OK) {
        cop_rule_destroy(&c->rule);
        return status;
    }
    c->options.probe = c->rounds.options;
    certaindex_reset(&c->rule);
    *out = &c->rule;
    return COP_OK;
}

double cop_certaindex_last(const cop_rule *rule, uint32_t *rounds) {
    const certaindex *c = (const certaindex *)rule;
    *rounds = c->measured;
    return c->last;
}
