/* DeepConf against tests/ref/rules/deepconf.py on 1,000 random traces, and what it refuses. */
#include <math.h>

#include "reason/rules/deepconf.h"
#include "rules_trace.h"

enum { LENGTH_MAX = 60, BRANCHES_MAX = 16 };

typedef struct sampled {
    float top[20];
    bool in_top;
    double logprob;
} sampled;

typedef struct branch {
    uint32_t length, id;
    const char *answer;
    sampled tokens[LENGTH_MAX];
    char state; /* l(ive), e(nded), p(runed) */
    uint32_t said;
    bool opened;
} branch;

static void make_branch(rules_random *r, uint32_t n_top, branch *b) {
    static const char *const answers[] = {"", "7", "7", "12", "x"};
    *b = (branch){.state = 'l'};
    b->length = rules_below(r, 60);
    b->answer = RULES_PICK(r, answers);
    uint32_t level = rules_below(r, 24);
    bool flat = rules_below(r, 4) == 0;
    for (uint32_t t = 0; t < b->length; t++) {
        sampled *s = &b->tokens[t];
        double at = -(double)rules_below(r, 8 + level) / 64;
        for (uint32_t j = 0; j < n_top; j++) {
            s->top[j] = (float)at;
            at -= rules_below(r, 4 + level) / 64.0;
        }
        s->in_top = rules_below(r, 4) != 0;
        s->logprob = s->in_top ? s->top[rules_below(r, n_top)] : at - rules_below(r, 64) / 64.0;
        for (uint32_t j = 0; j < n_top && flat; j++)
            s->top[j] = -0.5f;
        s->in_top |= flat;
    }
}

typedef struct world {
    cop_rule *rule;
    branch branches[BRANCHES_MAX];
    uint32_t n, n_top;
    bool stopped, online, told;
    rules_line *line;
} world;

static void obey(world *w) {
    const cop_decision *d;
    uint32_t n;
    if (w->online && !w->told && !isnan(cop_deepconf_threshold(w->rule))) {
        rules_put(w->line, "t%016" PRIx64, rules_bits(cop_deepconf_threshold(w->rule)));
        w->told = true;
    }
    CHECK_OK(cop_rule_decide(w->rule, 0, &d, &n));
    for (uint32_t i = 0; i < n; i++) {
        if (d[i].kind == COP_DECIDE_STOP) {
            CHECK_EQ(d[i].reason, COP_REASON_CONSENSUS);
            rules_put(w->line, "S");
            w->stopped = true;
            for (uint32_t j = 0; j < w->n; j++)
                w->branches[j].state = w->branches[j].state == 'l' ? 'p' : w->branches[j].state;
            continue;
        }
        CHECK_EQ(d[i].kind, COP_DECIDE_PRUNE);
        CHECK_EQ(d[i].reason, COP_REASON_CONFIDENCE);
        w->branches[d[i].branch].state = 'p';
        rules_put(w->line, "p%u@%u", d[i].branch, w->branches[d[i].branch].said);
    }
}

static void say(world *w, branch *b) {
    const sampled *s = &b->tokens[b->said++];
    CHECK_OK(cop_rule_token_add(w->rule, &(cop_rule_token){.branch = b->id,
                                                           .top_logprob = s->top,
                                                           .n_top = w->n_top,
                                                           .in_top = s->in_top,
                                                           .logprob = s->logprob}));
    if (b->said < b->length) /* an end is told before anything is decided */
        obey(w);
}

static void run(world *w, uint32_t first, uint32_t last) {
    for (uint32_t j = first; j < last; j++) {
        CHECK_OK(cop_rule_open(w->rule, 0, &w->branches[j].id));
        CHECK_EQ(w->branches[j].id, j);
        w->branches[j].opened = true;
    }
    for (uint32_t t = 0; t <= LENGTH_MAX && !w->stopped; t++) {
        for (uint32_t j = first; j < last && !w->stopped; j++) {
            branch *b = &w->branches[j];
            if (b->state == 'l' && b->said < b->length)
                say(w, b);
            if (b->state == 'l' && b->said == b->length) {
                b->state = 'e';
                CHECK_OK(cop_rule_end(w->rule, j, COP_RULE_END_OWN, b->answer, strlen(b->answer)));
                obey(w);
            }
        }
    }
}

/* The scores of whole traces, of the tokens that were said. */
static void put_scores(const world *w, const branch *b, uint32_t window) {
    int32_t thousandths[LENGTH_MAX];
    double scratch[LENGTH_MAX];
    for (uint32_t t = 0; t < b->said; t++) {
        const sampled *s = &b->tokens[t];
        cop_rule_token token = {
            .top_logprob = s->top, .n_top = w->n_top, .in_top = s->in_top, .logprob = s->logprob};
        thousandths[t] = (int32_t)rint(cop_deepconf_logged(&token) * 1000);
    }
    for (int kind = COP_DEEPCONF_VOTE_MEAN; kind <= COP_DEEPCONF_VOTE_MIN_WINDOW; kind++)
        rules_put(w->line, "%016" PRIx64,
                  rules_bits(cop_deepconf_trace_score((cop_deepconf_vote)kind, thousandths, b->said,
                                                      window, scratch)));
}

static void trace(rules_random *r, rules_line *line) {
    static world w;
    static const double keeps[] = {90, 10, 50, 75, 33}, consensus[] = {0, 0, 0.95, 0.6};
    cop_deepconf_options o = {.mode =
                                  rules_below(r, 5) ? COP_DEEPCONF_ONLINE : COP_DEEPCONF_OFFLINE};
    o.window = 1 + rules_below(r, 12);
    o.warmup = 1 + rules_below(r, 6);
    w = (world){.line = line, .n = o.warmup + rules_below(r, 8)};
    o.keep_percent = RULES_PICK(r, keeps);
    o.vote = (cop_deepconf_vote)rules_below(r, 8);
    o.consensus = RULES_PICK(r, consensus);
    w.n_top = rules_below(r, 4) ? 20 : 5;
    w.online = o.mode == COP_DEEPCONF_ONLINE;
    for (uint32_t j = 0; j < w.n; j++)
        make_branch(r, w.n_top, &w.branches[j]);
    CHECK_OK(cop_deepconf_create(
        &(cop_rule_limits){.max_branches = BRANCHES_MAX, .max_tokens = LENGTH_MAX}, &o, &w.rule));
    uint64_t before = cop_memory_count();
    uint32_t first = w.online ? o.warmup : w.n;
    if (w.online)
        CHECK_EQ(cop_rule_may_open(w.rule), o.warmup);
    run(&w, 0, first);
    if (!w.stopped && first < w.n)
        run(&w, first, w.n);
    uint64_t tokens = 0, pruned = 0, warmup = 0;
    for (uint32_t j = 0; j < w.n; j++) {
        const branch *b = &w.branches[j];
        if (!b->opened)
            continue;
        rules_put(line, "%c%u:%016" PRIx64, b->state, b->said,
                  rules_bits(cop_rule_score(w.rule, j)));
        put_scores(&w, b, o.window);
        tokens += b->said;
        pruned += b->state == 'p' ? b->said : 0;
        warmup += w.online && j < o.warmup ? b->said : 0;
    }
    const char *text;
    size_t bytes;
    bool found = cop_rule_answer(w.rule, &text, &bytes);
    rules_put(line, "=%.*s", found ? (int)bytes : 4, found ? text : "none");
    cop_rule_stats stats = cop_rule_stats_of(w.rule);
    CHECK_EQ(stats.tokens, tokens);
    CHECK_EQ(stats.tokens_pruned, pruned);
    CHECK_EQ(stats.tokens_warmup, warmup);
    CHECK_EQ(cop_memory_count(), before);
    cop_rule_destroy(w.rule);
}

static void test_a_thousand_traces(void) {
    rules_check_fixture("deepconf", 1, trace);
}

/* numpy 1.26: percentile([..16 values..], 10) is the mean of the 2nd and 3rd smallest. */
static void test_the_threshold_of_sixteen(void) {
    double values[16];
    for (uint32_t i = 0; i < 16; i++)
        values[i] = (double)((i * 7) % 16);
    CHECK(cop_deepconf_percentile(values, 16, 10) == 1.5);
    CHECK(cop_deepconf_percentile(values, 16, 90) == 13.5);
    CHECK(cop_deepconf_percentile(values, 1, 90) == 0);
}

static cop_status create(cop_deepconf_options o) {
    cop_rule *rule = NULL;
    cop_status status = cop_deepconf_create(&(cop_rule_limits){.max_branches = 8}, &o, &rule);
    cop_rule_destroy(rule);
    return status;
}

static void test_contradictions_are_named(void) {
    cop_deepconf_options o = {.window = 4, .warmup = 4, .keep_percent = 90};
    CHECK_OK(create(o));
    o.budget = 3;
    CHECK_STATUS(create(o), COP_ERR_CONFIG);
    CHECK_MESSAGE("a budget of 3 branches contradicts 4 warm-up branches");
    o.budget = 9;
    CHECK_STATUS(create(o), COP_ERR_CONFIG);
    o.budget = 0;
    o.warmup = 9;
    CHECK_STATUS(create(o), COP_ERR_CONFIG);
    o.warmup = 4;
    o.keep_percent = NAN;
    CHECK_STATUS(create(o), COP_ERR_CONFIG);
    o.keep_percent = 10;
    o.window = 0;
    CHECK_STATUS(create(o), COP_ERR_CONFIG);
    o.window = 4;
    o.consensus = 1.5;
    CHECK_STATUS(create(o), COP_ERR_CONFIG);
    o.consensus = 0;
    o.vote = COP_DEEPCONF_VOTE_TAIL;
    CHECK_STATUS(create(o), COP_ERR_CONFIG);
    CHECK_MESSAGE("limit on tokens");
}

static void test_what_was_not_opened_cannot_speak(void) {
    cop_rule *rule = NULL;
    uint32_t id;
    CHECK_OK(cop_deepconf_create(
        &(cop_rule_limits){.max_branches = 4},
        &(cop_deepconf_options){.window = 2, .warmup = 1, .keep_percent = 90, .budget = 2}, &rule));
    CHECK_STATUS(cop_rule_token_add(rule, &(cop_rule_token){.branch = 0}), COP_ERR_USAGE);
    CHECK_OK(cop_rule_open(rule, 0, &id));
    CHECK_STATUS(cop_rule_open(rule, 0, &id), COP_ERR_USAGE); /* warm-up is not over */
    CHECK_OK(cop_rule_end(rule, 0, COP_RULE_END_OWN, "1", 1));
    CHECK_STATUS(cop_rule_end(rule, 0, COP_RULE_END_OWN, "1", 1), COP_ERR_USAGE);
    CHECK_MESSAGE("branch 0, which has ended");
    CHECK_OK(cop_rule_open(rule, 0, &id));
    CHECK_EQ(cop_rule_may_open(rule), 0); /* the budget */
    CHECK_STATUS(cop_rule_probe(rule, 1, "", 0, 1, 1), COP_ERR_USAGE);
    CHECK_STATUS(cop_rule_hidden(rule, 1, NULL), COP_ERR_USAGE);
    cop_rule_reset(rule);
    CHECK_EQ(cop_rule_may_open(rule), 1);
    cop_rule_destroy(rule);
}

int main(void) {
    RUN(test_a_thousand_traces);
    RUN(test_the_threshold_of_sixteen);
    RUN(test_contradictions_are_named);
    RUN(test_what_was_not_opened_cannot_speak);
    return check_report();
}
