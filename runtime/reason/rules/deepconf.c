#include "reason/rules/deepconf.h"

#include <math.h>
#include <string.h>

#include "reason/rules/rule_internal.h"
#include "reason/rules/vote.h"

typedef struct trace { /* one branch */
    double live_sum;
    int64_t logged_sum; /* of the window, in thousandths: exact */
    double sum;         /* of the first tokens, in order: of a trace that fills no window */
    double lowest;      /* logged group confidence; of full windows */
    bool due;           /* the live rule ends it */
} trace;

typedef struct deepconf {
    cop_rule rule;
    cop_deepconf_options options;
    trace *traces;
    double *live;    /* [max_branches][window] rings */
    int32_t *logged; /* [max_branches][window] rings, or [max_tokens] where traces are kept whole */
    uint32_t n_logged; /* of one branch */
    uint32_t *due;
    uint32_t n_due, warmup_left;
    bool ended; /* a branch ended since the last decide */
    double threshold;
    double *scratch, *scores;
    cop_vote vote;
} deepconf;

static bool keeps_whole(const cop_deepconf_options *o) {
    return o->vote >= COP_DEEPCONF_VOTE_MEAN;
}

static bool is_warmup(const deepconf *d, uint32_t branch) {
    return d->options.mode == COP_DEEPCONF_ONLINE && branch < d->options.warmup;
}

static void deepconf_open(cop_rule *rule, uint32_t branch) {
    deepconf *d = (deepconf *)rule;
    d->traces[branch] = (trace){.lowest = INFINITY};
}

/* The original adds the window up in order, rounded values and all, and rounds the mean. In exact
 * thousandths that is the nearest integer, except half-way between two, where its own rounding
 * errors decide: there, and nowhere else, its sum is repeated. */
static double window_mean(const deepconf *d, uint32_t branch, uint32_t tokens) {
    int64_t sum = d->traces[branch].logged_sum, window = d->options.window;
    int64_t below = sum / window, rest = sum % window;
    if (2 * rest != window)
        return (double)(below + (2 * rest > window)) / 1000;
    const int32_t *ring = d->logged + (size_t)branch * d->n_logged;
    double ordered = 0;
    for (uint32_t i = tokens - (uint32_t)window; i < tokens; i++)
        ordered += ring[i % d->n_logged] / 1000.0;
    return cop_deepconf_round3(ordered / (double)window);
}

static void log_token(deepconf *d, uint32_t branch, const cop_rule_token *token) {
    trace *t = &d->traces[branch];
    uint32_t n = d->rule.branches[branch].tokens, window = d->options.window;
    int32_t *ring = d->logged + (size_t)branch * d->n_logged;
    int32_t value = (int32_t)rint(cop_deepconf_logged(token) * 1000);
    if (n > window)
        t->logged_sum -= ring[(n - 1 - window) % d->n_logged];
    else
        t->sum += value / 1000.0;
    ring[(n - 1) % d->n_logged] = value;
    t->logged_sum += value;
    if (n >= window)
        t->lowest = fmin(t->lowest, window_mean(d, branch, n));
}

static void deepconf_token(cop_rule *rule, const cop_rule_token *token) {
    deepconf *d = (deepconf *)rule;
    trace *t = &d->traces[token->branch];
    uint32_t n = rule->branches[token->branch].tokens, window = d->options.window;
    if (n > rule->limits.max_tokens)
        return; /* the rings would overlap; a driver does not give more than it declared */
    log_token(d, token->branch, token);
    if (d->options.mode == COP_DEEPCONF_OFFLINE || is_warmup(d, token->branch))
        return;
    double value = cop_deepconf_live(token->top_logprob, token->n_top);
    double *ring = d->live + (size_t)token->branch * window;
    if (n > window)
        t->live_sum -= ring[(n - 1) % window];
    ring[(n - 1) % window] = value;
    t->live_sum += value;
    if (n >= window && t->live_sum / window < d->threshold && !t->due) {
        t->due = true;
        d->due[d->n_due++] = token->branch;
    }
}

static double group_confidence(const cop_rule *rule, uint32_t branch) {
    const deepconf *d = (const deepconf *)rule;
    uint32_t n = rule->branches[branch].tokens;
    if (n >= d->options.window)
        return d->traces[branch].lowest;
    return n ? d->traces[branch].sum / n : 0;
}

static void set_threshold(deepconf *d) {
    for (uint32_t i = 0; i < d->options.warmup; i++)
        d->scores[i] = group_confidence(&d->rule, i);
    d->threshold =
        cop_deepconf_percentile(d->scores, d->options.warmup, 100 - d->options.keep_percent);
}

static void warmup_ended(deepconf *d, uint32_t branch) {
    if (!is_warmup(d, branch))
        return;
    d->rule.stats.tokens_warmup += d->rule.branches[branch].tokens;
    if (--d->warmup_left == 0)
        set_threshold(d);
}

static cop_status deepconf_end(cop_rule *rule, uint32_t branch, const char *text, size_t bytes) {
    (void)text, (void)bytes;
    deepconf *d = (deepconf *)rule;
    d->ended = true;
    warmup_ended(d, branch);
    return COP_OK;
}

static void deepconf_left(cop_rule *rule, uint32_t branch) {
    warmup_ended((deepconf *)rule, branch);
}

static bool votes(const deepconf *d, uint32_t branch) {
    const cop__rule_branch *b = &d->rule.branches[branch];
    if (b->state != RULE_ENDED || !b->has_answer)
        return false;
    return d->options.mode == COP_DEEPCONF_OFFLINE ||
           !(group_confidence(&d->rule, branch) < d->threshold);
}

static double score_of(deepconf *d, cop_deepconf_vote kind, uint32_t branch) {
    if (kind == COP_DEEPCONF_VOTE_WEIGHTED)
        return group_confidence(&d->rule, branch);
    if (kind == COP_DEEPCONF_VOTE_TOP10_TAIL)
        kind = COP_DEEPCONF_VOTE_TAIL;
    if (kind == COP_DEEPCONF_VOTE_TOP10_BOTTOM_WINDOW)
        kind = COP_DEEPCONF_VOTE_BOTTOM_WINDOW;
    return cop_deepconf_trace_score(kind, d->logged + (size_t)branch * d->n_logged,
                                    d->rule.branches[branch].tokens, d->options.window, d->scratch);
}

/* The score that a filtered vote asks for: numpy.percentile(scores, 90). */
static double filter(deepconf *d) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->rule.n_branches; i++) {
        if (votes(d, i))
            d->scores[n++] = score_of(d, d->options.vote, i);
    }
    return n ? cop_deepconf_percentile(d->scores, n, (1 - 0.1) * 100) : 0;
}

static const cop_vote_class *count_votes(deepconf *d, cop_deepconf_vote kind) {
    bool majority = kind == COP_DEEPCONF_VOTE_MAJORITY, positive = majority;
    double least = kind >= COP_DEEPCONF_VOTE_TOP10_TAIL ? filter(d) : -INFINITY;
    cop_vote_reset(&d->vote);
    for (uint32_t i = 0; i < d->rule.n_branches; i++) {
        if (!votes(d, i))
            continue;
        double weight = majority ? 1 : score_of(d, kind, i);
        if (weight >= least) {
            cop_vote_add(&d->vote, &d->rule.branches[i].answer, weight);
            positive |= weight > 0;
        }
    }
    if (!positive && kind != COP_DEEPCONF_VOTE_WEIGHTED) /* the original reports no such vote */
        return NULL;
    return majority ? cop_vote_by_count(&d->vote) : cop_vote_by_weight(&d->vote);
}

static bool deepconf_answer(cop_rule *rule, const char **text, size_t *bytes) {
    deepconf *d = (deepconf *)rule;
    const cop_vote_class *winner = count_votes(d, d->options.vote);
    if (!winner)
        return false;
    *text = winner->text->data;
    *bytes = winner->text->bytes;
    return true;
}

static cop_status deepconf_decide(cop_rule *rule, uint64_t now_ns) {
    (void)now_ns;
    deepconf *d = (deepconf *)rule;
    for (uint32_t i = 0; i < d->n_due; i++) {
        if (cop__rule_is_live(rule, d->due[i]))
            cop__rule_prune(rule, d->due[i], COP_REASON_CONFIDENCE, false);
    }
    d->n_due = 0;
    if (!d->ended || d->options.consensus <= 0 || d->warmup_left > 0)
        return COP_OK;
    d->ended = false;
    const cop_vote_class *best = count_votes(d, COP_DEEPCONF_VOTE_WEIGHTED);
    if (best && best->weight >= d->options.consensus * cop_vote_weight(&d->vote))
        cop__rule_stop(rule, COP_REASON_CONSENSUS, false);
    return COP_OK;
}

static uint32_t deepconf_may_open(const cop_rule *rule) {
    const deepconf *d = (const deepconf *)rule;
    const cop_deepconf_options *o = &d->options;
    uint32_t all = o->budget ? o->budget : rule->limits.max_branches;
    if (o->mode == COP_DEEPCONF_ONLINE && d->warmup_left > 0)
        all = o->warmup;
    return all > rule->n_branches ? all - rule->n_branches : 0;
}

static void deepconf_reset(cop_rule *rule) {
    deepconf *d = (deepconf *)rule;
    d->n_due = 0;
    d->ended = false;
    d->threshold = d->options.mode == COP_DEEPCONF_ONLINE ? (double)NAN : -INFINITY;
    d->warmup_left = d->options.mode == COP_DEEPCONF_ONLINE ? d->options.warmup : 0;
}

static const cop__rule_ops deepconf_ops = {.name = "deepconf",
                                           .open = deepconf_open,
                                           .token = deepconf_token,
                                           .end = deepconf_end,
                                           .decide = deepconf_decide,
                                           .may_open = deepconf_may_open,
                                           .answer = deepconf_answer,
                                           .score = group_confidence,
                                           .left = deepconf_left,
                                           .reset = deepconf_reset};

static cop_status check_options(const cop_rule_limits *limits, const cop_deepconf_options *o) {
    bool online = o->mode == COP_DEEPCONF_ONLINE;
    if (o->window == 0)
        return COP_FAIL(COP_ERR_CONFIG, "deepconf: a window of 0 tokens; the original's is %d",
                        COP_DEEPCONF_DEFAULT_WINDOW);
    if (online && !(o->keep_percent > 0 && o->keep_percent <= 100))
        return COP_FAIL(COP_ERR_CONFIG,
                        "deepconf: keep_percent is %g; it is above 0 and at most "
                        "100 (90: high, 10: low)",
                        o->keep_percent);
    if (online && (o->warmup == 0 || o->warmup > limits->max_branches))
        return COP_FAIL(COP_ERR_CONFIG,
                        "deepconf: %u warm-up branches; online it needs 1 to the %u that can run",
                        o->warmup, limits->max_branches);
    if (online && o->budget && o->budget < o->warmup)
        return COP_FAIL(COP_ERR_CONFIG,
                        "deepconf: a budget of %u branches contradicts %u warm-up branches",
                        o->budget, o->warmup);
    if (o->budget > limits->max_branches)
        return COP_FAIL(COP_ERR_CONFIG, "deepconf: a budget of %u branches; %u can run", o->budget,
                        limits->max_branches);
    if (!(o->consensus >= 0 && o->consensus <= 1))
        return COP_FAIL(COP_ERR_CONFIG, "deepconf: consensus is %g; it is a share, 0 (off) to 1",
                        o->consensus);
    if (keeps_whole(o) && limits->max_tokens == 0)
        return COP_FAIL(COP_ERR_CONFIG,
                        "deepconf: this vote looks at whole traces: a limit on tokens is needed");
    return COP_OK;
}

cop_status cop_deepconf_create(const cop_rule_limits *limits, const cop_deepconf_options *options,
                               cop_rule **out) {
    COP_TRY(check_options(limits, options));
    deepconf *d = NULL;
    COP_TRY(cop__rule_create(&deepconf_ops, sizeof *d, limits, 1, &d));
    d->options = *options;
    if (d->rule.limits.max_tokens == 0)
        d->rule.limits.max_tokens = UINT32_MAX;
    uint32_t branches = limits->max_branches, window = options->window;
    d->n_logged = keeps_whole(options) && limits->max_tokens > window ? limits->max_tokens : window;
    cop_status status = COP_OK;
    size_t n = (size_t)branches * d->n_logged;
    d->traces = cop__rule_calloc(&d->rule, branches, sizeof *d->traces, &status);
    d->logged = cop__rule_calloc(&d->rule, n, sizeof *d->logged, &status);
    if (options->mode == COP_DEEPCONF_ONLINE)
        d->live = cop__rule_calloc(&d->rule, (size_t)branches * window, sizeof *d->live, &status);
    d->due = cop__rule_calloc(&d->rule, branches, sizeof *d->due, &status);
    d->scores = cop__rule_calloc(&d->rule, branches, sizeof *d->scores, &status);
    d->scratch = cop__rule_calloc(&d->rule, d->n_logged, sizeof *d->scratch, &status);
    if (status == COP_OK)
        status = cop_vote_create(&d->rule, branches, true, &d->vote);
    if (status != COP_OK) {
        cop_rule_destroy(&d->rule);
        return status;
    }
    d->rule.needs.top_logprobs = true;
    deepconf_reset(&d->rule);
    *out = &d->rule;
    return COP_OK;
}

double cop_deepconf_threshold(const cop_rule *rule) {
    return ((const deepconf *)rule)->threshold;
}
