/* Join policies against tests/ref/rules/policy.py, and several rules as one. */
#include "reason/rules/deepconf.h"
#include "reason/rules/dynasor.h"
#include "reason/rules/policy.h"
#include "reason/rules/rule_set.h"
#include "rules_trace.h"

enum { BRANCHES_MAX = 10 };

typedef struct world {
    cop_rule *rule;
    bool live[BRANCHES_MAX];
    uint32_t said[BRANCHES_MAX];
    uint32_t n;
    bool stopped, in_set;
    cop_policy_options options;
    rules_line *line;
} world;

static void obey(world *w, uint64_t now) {
    const cop_decision *d;
    uint32_t n;
    CHECK_OK(cop_rule_decide(w->rule, now, &d, &n));
    bool tokens = w->options.deadline_tokens > 0;
    for (uint32_t i = 0; i < n; i++) {
        if (d[i].kind == COP_DECIDE_STOP) {
            CHECK_EQ(d[i].reason, COP_REASON_BUDGET);
            rules_put(w->line, "B%d", d[i].keep_partial);
            w->stopped = true;
            continue;
        }
        CHECK_EQ(d[i].kind, COP_DECIDE_PRUNE);
        CHECK_EQ(d[i].keep_partial, w->options.keep_partial);
        uint32_t id = d[i].branch;
        CHECK(w->live[id]);
        w->live[id] = false;
        bool own = tokens && w->said[id] >= w->options.deadline_tokens;
        rules_put(w->line, "%c%u@%u",
                  d[i].reason == COP_REASON_QUORUM ? 'q'
                  : own                            ? 't'
                                                   : 'd',
                  id, w->said[id]);
    }
}

static cop_policy_options pick_options(rules_random *r) {
    static const double ratios[] = {0.1, 0.5, 0.75, 1.0};
    cop_policy_options o = {0};
    o.budget_tokens = rules_below(r, 3) == 0 ? 20 + rules_below(r, 150) : 0;
    o.budget_probes = rules_below(r, 2) == 1 && o.budget_tokens > 0;
    o.quorum = rules_below(r, 2) ? 1 + rules_below(r, 3) : 0;
    o.quorum_ratio = !o.quorum && rules_below(r, 2) ? RULES_PICK(r, ratios) : 0;
    o.success_only = rules_below(r, 2) == 1 && (o.quorum || o.quorum_ratio > 0);
    o.deadline_tokens = rules_below(r, 3) == 0 ? 3 + rules_below(r, 17) : 0;
    bool none = !o.budget_tokens && !o.quorum && o.quorum_ratio == 0 && !o.deadline_tokens;
    bool timed = rules_below(r, 3) == 0;
    o.deadline_ns = timed || none ? 5 + rules_below(r, 60) : 0;
    o.keep_partial = rules_below(r, 2);
    return o;
}

static uint32_t pick_live(world *w, rules_random *r, uint32_t n_live) {
    uint32_t id = 0;
    for (uint32_t at = rules_below(r, n_live); !w->live[id] || at-- > 0; id++)
        continue;
    return id;
}

static void happen(world *w, rules_random *r, uint32_t event, uint32_t n_live) {
    static const cop_rule_end_kind ends[] = {COP_RULE_END_OWN, COP_RULE_END_SUCCESS,
                                             COP_RULE_END_LENGTH, COP_RULE_END_CUT};
    uint32_t id;
    if ((event == 0 && w->n < BRANCHES_MAX) || w->n == 0) {
        CHECK_OK(cop_rule_open(w->rule, rules_below(r, 3), &id));
        CHECK_EQ(id, w->n);
        w->live[w->n++] = true;
    } else if (event == 1) {
        id = pick_live(w, r, n_live);
        CHECK_OK(cop_rule_end(w->rule, id, RULES_PICK(r, ends), "", 0));
        w->live[id] = false;
    } else if (event == 2) {
        /* An answer of a probe that nobody waits for any more costs all the same. */
        uint32_t said = rules_below(r, 4), ended = 0;
        while (ended < w->n && w->live[ended])
            ended++;
        if (ended < w->n)
            CHECK_OK(cop_rule_probe(w->rule, ended, "", 0, 1, said));
        else
            CHECK_STATUS(cop_rule_probe(w->rule, 0, "", 0, 1, said), COP_ERR_USAGE);
    } else {
        id = pick_live(w, r, n_live);
        w->said[id]++;
        CHECK_OK(cop_rule_token_add(w->rule, &(cop_rule_token){.branch = id, .text = ""}));
    }
}

static void run_trace(rules_random *r, rules_line *line, bool in_set) {
    world w = {.line = line, .options = pick_options(r)};
    const cop_rule_limits limits = {.max_branches = BRANCHES_MAX};
    CHECK_OK(cop_policy_create(&limits, &w.options, &w.rule));
    if (in_set) { /* beside another policy that never acts */
        cop_rule *rules[2] = {w.rule};
        CHECK_OK(cop_policy_create(&limits, &(cop_policy_options){.budget_tokens = 1u << 20},
                                   &rules[1]));
        CHECK_OK(cop_rule_set_create(&limits, rules, 2, &w.rule));
    }
    uint64_t before = cop_memory_count(), now = rules_below(r, 1000), spent = 0;
    uint32_t events = 30 + rules_below(r, 150);
    for (uint32_t e = 0; e < events && !w.stopped; e++) {
        now += rules_below(r, 3);
        uint32_t event = rules_below(r, 12), n_live = 0;
        for (uint32_t i = 0; i < w.n; i++)
            n_live += w.live[i];
        if (n_live == 0 && w.n > 0 && !(event == 0 && w.n < BRANCHES_MAX))
            continue;
        happen(&w, r, event, n_live);
        obey(&w, now);
    }
    for (uint32_t i = 0; i < w.n; i++)
        spent += w.said[i];
    rules_put(line, "spent %" PRIu64, spent);
    CHECK_EQ(cop_rule_stats_of(w.rule).tokens, spent);
    CHECK_EQ(cop_memory_count(), before);
    cop_rule_destroy(w.rule);
}

static void trace(rules_random *r, rules_line *line) {
    run_trace(r, line, false);
}

static void trace_in_set(rules_random *r, rules_line *line) {
    run_trace(r, line, true);
}

static void test_a_thousand_traces(void) {
    rules_check_fixture("policy", 6, trace);
}

static void test_the_same_within_a_set(void) {
    rules_check_fixture("policy", 6, trace_in_set);
}

static void test_contradictions_are_named(void) {
    static const struct {
        cop_policy_options options;
        const char *message;
    } cases[] = {
        {{.keep_partial = true}, "it limits nothing"},
        {{.quorum = 2, .quorum_ratio = 0.5}, "contradict"},
        {{.quorum_ratio = 1.5}, "at most 1"},
        {{.budget_tokens = 5, .success_only = true}, "there is none"},
        {{.quorum = 1, .budget_probes = true}, "there is none"},
        {{.budget_tokens = 5, .deadline_tokens = 6}, "can never be reached"},
        {{.quorum = 11}, "10 branches can run"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cop_rule *rule = NULL;
        CHECK_STATUS(cop_policy_create(&(cop_rule_limits){.max_branches = BRANCHES_MAX},
                                       &cases[i].options, &rule),
                     COP_ERR_CONFIG);
        CHECK_MESSAGE(cases[i].message);
        CHECK(!rule);
    }
}

/* DeepConf stops a branch and a quorum the rest: each hears of the other's decisions. */
static void test_rules_hear_of_each_other(void) {
    const cop_rule_limits limits = {.max_branches = 4};
    cop_rule *rules[2], *set = NULL;
    CHECK_OK(cop_deepconf_create(
        &limits, &(cop_deepconf_options){.window = 1, .warmup = 1, .keep_percent = 90}, &rules[0]));
    CHECK_OK(cop_policy_create(&limits, &(cop_policy_options){.quorum = 2}, &rules[1]));
    CHECK_OK(cop_rule_set_create(&limits, rules, 2, &set));
    CHECK(cop_rule_needs_of(set).top_logprobs);
    CHECK_EQ(cop_rule_may_open(set), 1);
    uint32_t id, n;
    const cop_decision *d;
    const float high = -8, low = -1;
    CHECK_OK(cop_rule_open(set, 0, &id));
    CHECK_OK(cop_rule_token_add(
        set, &(cop_rule_token){.branch = 0, .top_logprob = &high, .n_top = 1, .in_top = true}));
    CHECK_OK(cop_rule_end(set, 0, COP_RULE_END_OWN, "7", 1));
    CHECK_EQ(cop_rule_may_open(set), 3);
    for (uint32_t i = 1; i < 4; i++)
        CHECK_OK(cop_rule_open(set, 0, &id));
    CHECK_OK(cop_rule_token_add(
        set, &(cop_rule_token){.branch = 1, .top_logprob = &low, .n_top = 1, .in_top = true}));
    CHECK_OK(cop_rule_decide(set, 0, &d, &n));
    CHECK_EQ(n, 1);
    CHECK(d->kind == COP_DECIDE_PRUNE && d->reason == COP_REASON_CONFIDENCE && d->branch == 1);
    CHECK_OK(cop_rule_end(set, 2, COP_RULE_END_OWN, "8", 1));
    CHECK_OK(cop_rule_decide(set, 0, &d, &n));
    CHECK_EQ(n, 1);
    CHECK(d->kind == COP_DECIDE_PRUNE && d->reason == COP_REASON_QUORUM && d->branch == 3);
    const char *text;
    size_t bytes;
    CHECK(cop_rule_answer(set, &text, &bytes) && bytes == 1 && text[0] == '7');
    CHECK(cop_rule_score(set, 0) == 8);
    CHECK_EQ(cop_rule_stats_of(set).pruned, 2);
    CHECK_EQ(cop_rule_stats_of(set).tokens_warmup, 1);
    cop_rule_reset(set);
    CHECK_EQ(cop_rule_may_open(set), 1);
    cop_rule_destroy(set);
}

static void test_what_cannot_be_combined(void) {
    const cop_rule_limits limits = {.max_branches = 4};
    cop_rule *rules[2], *set = NULL;
    cop_dynasor_options o = {.k = 1, .chunk = 1, .suffix = "?", .probe_tokens = 1};
    CHECK_OK(cop_dynasor_create(&limits, &o, &rules[0]));
    CHECK_OK(cop_dynasor_create(&limits, &o, &rules[1]));
    CHECK_STATUS(cop_rule_set_create(&limits, rules, 2, &set), COP_ERR_CONFIG);
    CHECK_MESSAGE("both ask probes");
    CHECK_STATUS(cop_rule_set_create(&limits, rules, 0, &set), COP_ERR_CONFIG);
    CHECK_STATUS(cop_rule_set_create(&(cop_rule_limits){.max_branches = 5}, rules, 1, &set),
                 COP_ERR_CONFIG);
    cop_rule_destroy(rules[0]);
    cop_rule_destroy(rules[1]);
}

int main(void) {
    RUN(test_a_thousand_traces);
    RUN(test_the_same_within_a_set);
    RUN(test_contradictions_are_named);
    RUN(test_rules_hear_of_each_other);
    RUN(test_what_cannot_be_combined);
    return check_report();
}
