/* The rules that compare branches in rounds of probes, Parallel-Probe and Certaindex over paths,
 * against tests/ref/rules/parallel_probe.py and certaindex.py. */
#include <math.h>

#include "reason/rules/certaindex.h"
#include "reason/rules/parallel_probe.h"
#include "rules_trace.h"

enum { BRANCHES_MAX = 10, PROBES_MAX = 4 * 28 };

typedef struct branch {
    uint32_t length, said, used;
    const char *probes[PROBES_MAX]; /* the last one is the final answer */
    uint32_t n_probes;
    bool over;
} branch;

typedef struct world {
    cop_rule *rule;
    branch branches[BRANCHES_MAX];
    uint32_t n, every;
    uint32_t probes;
    cop_rule_reason stopped; /* NONE: it runs */
    rules_line *line;
    void (*heard)(struct world *w); /* after each decide */
    uint32_t rounds;
} world;

static const cop_probe_options probe = {
    .suffix = "So: {", .probe_tokens = 7, .temperature = 0.5f, .boxed = true};

static void make_matrix(rules_random *r, world *w) {
    static const char *const answers[] = {"1", "2", "30", ""};
    w->n = 1 + rules_below(r, 10);
    w->every = 1 + rules_below(r, 4);
    uint32_t favourite = rules_below(r, 4), stubborn = 1 + rules_below(r, 8);
    uint32_t longest = 4 + rules_below(r, 24);
    for (uint32_t i = 0; i < w->n; i++) {
        branch *b = &w->branches[i];
        b->length = 1 + rules_below(r, w->every * longest);
        uint32_t own = rules_below(r, 3) ? favourite : rules_below(r, 4);
        b->n_probes = (b->length - 1) / w->every + 1;
        for (uint32_t j = 0; j < b->n_probes; j++)
            b->probes[j] = answers[rules_below(r, stubborn + 1) ? own : rules_below(r, 4)];
    }
}

static void answer(world *w, uint32_t id) {
    branch *b = &w->branches[id];
    char text[16];
    CHECK(b->used + 1 < b->n_probes);
    int n = snprintf(text, sizeof text, "%s} ..", b->probes[b->used++]);
    w->probes++;
    CHECK_OK(cop_rule_probe(w->rule, id, text, (size_t)n, 3, 5));
}

static void obey(world *w) {
    const cop_decision *d;
    uint32_t n = 1;
    while (n > 0 && !w->stopped) {
        CHECK_OK(cop_rule_decide(w->rule, 0, &d, &n));
        if (w->heard)
            w->heard(w);
        cop_decision all[2 * BRANCHES_MAX + 8];
        CHECK(n <= sizeof all / sizeof all[0]);
        memcpy(all, d, n * sizeof *d);
        for (uint32_t i = 0; i < n; i++) {
            if (all[i].kind == COP_DECIDE_PRUNE) {
                CHECK_EQ(all[i].reason, COP_REASON_OUTLIER);
                rules_put(w->line, "p%u@%u", all[i].branch, w->branches[all[i].branch].said);
                w->branches[all[i].branch].over = true;
            } else if (all[i].kind == COP_DECIDE_STOP) {
                CHECK(i + 1 == n);
                w->stopped = all[i].reason;
            } else {
                CHECK_EQ(all[i].kind, COP_DECIDE_PROBE);
                CHECK(all[i].bytes == 5 && memcmp(all[i].text, "So: {", 5) == 0);
                answer(w, all[i].branch);
            }
        }
    }
}

static void run(world *w) {
    uint32_t id;
    for (uint32_t i = 0; i < w->n; i++)
        CHECK_OK(cop_rule_open(w->rule, 0, &id));
    uint64_t before = cop_memory_count();
    for (uint32_t t = 0; !w->stopped; t++) {
        CHECK(t < 4 * PROBES_MAX);
        for (uint32_t i = 0; i < w->n && !w->stopped; i++) {
            branch *b = &w->branches[i];
            if (b->over)
                continue;
            CHECK_OK(cop_rule_token_add(w->rule, &(cop_rule_token){.branch = i, .text = "x"}));
            if (++b->said == b->length) {
                const char *final = b->probes[b->n_probes - 1];
                CHECK_OK(cop_rule_end(w->rule, i, COP_RULE_END_OWN, final, strlen(final)));
                b->over = true;
            }
            obey(w);
        }
    }
    CHECK_EQ(cop_memory_count(), before);
    CHECK_EQ(cop_rule_may_open(w->rule), 0);
}

static void put_end(world *w, bool longest) {
    const char *text;
    size_t bytes;
    bool found = cop_rule_answer(w->rule, &text, &bytes);
    uint64_t cost = 0, most = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        cost += w->branches[i].said;
        most = w->branches[i].said > most ? w->branches[i].said : most;
    }
    rules_put(w->line, "%s=%.*s", cop_rule_reason_name(w->stopped), found ? (int)bytes : 4,
              found ? text : "none");
    rules_put(w->line, "cost %" PRIu64, cost);
    if (longest)
        rules_put(w->line, "longest %" PRIu64, most);
    cop_rule_stats stats = cop_rule_stats_of(w->rule);
    CHECK_EQ(stats.tokens, cost);
    CHECK_EQ(stats.tokens_probe, 5 * w->probes);
    CHECK_EQ(stats.probes_asked, w->probes);
}

static void probe_trace(rules_random *r, rules_line *line) {
    static world w;
    w = (world){.line = line};
    make_matrix(r, &w);
    cop_parallel_probe_options o = {.probe = probe};
    o.probe.every = w.every;
    o.patience = 1 + rules_below(r, 10);
    o.prune_patience = 1 + rules_below(r, 4);
    o.max_steps = 2 + rules_below(r, 24);
    o.warmup = rules_below(r, o.max_steps) / 3;
    o.pruned_votes = rules_below(r, 2);
    CHECK_OK(
        cop_parallel_probe_create(&(cop_rule_limits){.max_branches = BRANCHES_MAX}, &o, &w.rule));
    run(&w);
    put_end(&w, true);
    cop_rule_destroy(w.rule);
}

static bool nearly_as_long(void *context, const char *a, size_t a_bytes, const char *b,
                           size_t b_bytes) {
    (void)context, (void)a, (void)b;
    return a_bytes <= b_bytes + 1 && b_bytes <= a_bytes + 1;
}

static void put_measure(world *w) {
    uint32_t rounds;
    double last = cop_certaindex_last(w->rule, &rounds);
    CHECK(rounds - w->rounds <= 1);
    if (rounds > w->rounds)
        rules_put(w->line, "%.9f", fabs(last));
    w->rounds = rounds;
}

static void certaindex_trace(rules_random *r, rules_line *line) {
    static const double normalised[] = {1, 0.5, 0.25, 0.8}, bits[] = {0, 1, 1.5, 0.3};
    static world w;
    w = (world){.line = line, .heard = put_measure};
    make_matrix(r, &w);
    cop_certaindex_options o = {.probe = probe};
    o.probe.every = w.every;
    bool index = rules_below(r, 2);
    o.measure = index ? COP_CERTAINDEX_NORMALISED : COP_CERTAINDEX_ENTROPY;
    o.threshold = index ? RULES_PICK(r, normalised) : RULES_PICK(r, bits);
    bool loose = rules_below(r, 2);
    CHECK_OK(cop_certaindex_create(
        &(cop_rule_limits){.max_branches = BRANCHES_MAX, .same = loose ? nearly_as_long : NULL}, &o,
        &w.rule));
    run(&w);
    put_end(&w, false);
    cop_rule_destroy(w.rule);
}

static void test_parallel_probe(void) {
    rules_check_fixture("parallel_probe", 3, probe_trace);
}

static void test_certaindex(void) {
    rules_check_fixture("certaindex", 4, certaindex_trace);
}

static void test_a_branch_that_runs_ahead(void) {
    cop_rule *rule = NULL;
    cop_certaindex_options o = {
        .probe = probe, .measure = COP_CERTAINDEX_NORMALISED, .threshold = 1};
    o.probe.every = 1;
    CHECK_OK(cop_certaindex_create(&(cop_rule_limits){.max_branches = 2}, &o, &rule));
    uint32_t id, n;
    const cop_decision *d;
    CHECK_OK(cop_rule_open(rule, 0, &id));
    CHECK_OK(cop_rule_open(rule, 0, &id));
    const cop_rule_token token = {.branch = 0, .text = "x", .bytes = 1};
    CHECK_OK(cop_rule_token_add(rule, &token));
    CHECK_OK(cop_rule_decide(rule, 0, &d, &n));
    CHECK_EQ(n, 1);
    CHECK_OK(cop_rule_probe(rule, 0, "1}", 2, 1, 1));
    CHECK_OK(cop_rule_token_add(rule, &token)); /* another one, and its end, within the round */
    CHECK_OK(cop_rule_end(rule, 0, COP_RULE_END_OWN, "2", 1));
    CHECK_OK(cop_rule_decide(rule, 0, &d, &n));
    CHECK_EQ(n, 0);
    CHECK_OK(cop_rule_token_add(rule, &(cop_rule_token){.branch = 1, .text = "x", .bytes = 1}));
    CHECK_OK(cop_rule_decide(rule, 0, &d, &n));
    CHECK_OK(cop_rule_probe(rule, 1, "2}", 2, 1, 1));
    CHECK_OK(cop_rule_decide(rule, 0, &d, &n)); /* 1 against 2: the final answer counts next time */
    CHECK_EQ(n, 0);
    CHECK_OK(cop_rule_token_add(rule, &(cop_rule_token){.branch = 1, .text = "x", .bytes = 1}));
    CHECK_OK(cop_rule_decide(rule, 0, &d, &n));
    CHECK_EQ(d->kind, COP_DECIDE_PROBE);
    CHECK_OK(cop_rule_probe(rule, 1, "2}", 2, 1, 1));
    CHECK_OK(cop_rule_decide(rule, 0, &d, &n));
    CHECK_EQ(n, 1);
    CHECK_EQ(d->kind, COP_DECIDE_STOP);
    CHECK_EQ(d->reason, COP_REASON_CERTAIN);
    cop_rule_destroy(rule);
}

static void test_contradictions_are_named(void) {
    cop_rule *rule = NULL;
    const cop_rule_limits limits = {.max_branches = 2};
    cop_parallel_probe_options o = {
        .probe = probe, .patience = 1, .prune_patience = 1, .warmup = 5, .max_steps = 5};
    CHECK_STATUS(cop_parallel_probe_create(&limits, &o, &rule), COP_ERR_CONFIG);
    CHECK_MESSAGE("contradicts max_steps 5");
    o.warmup = 1;
    CHECK_STATUS(cop_parallel_probe_create(&limits, &o, &rule),
                 COP_ERR_CONFIG); /* every 0 tokens */
    o.probe.every = 1;
    o.probe.suffix = "";
    CHECK_STATUS(cop_parallel_probe_create(&limits, &o, &rule), COP_ERR_CONFIG);
    o.patience = 0;
    CHECK_STATUS(cop_parallel_probe_create(&limits, &o, &rule), COP_ERR_CONFIG);
    cop_certaindex_options c = {
        .probe = probe, .measure = COP_CERTAINDEX_NORMALISED, .threshold = 1.5};
    c.probe.every = 1;
    CHECK_STATUS(cop_certaindex_create(&limits, &c, &rule), COP_ERR_CONFIG);
    CHECK_MESSAGE("the index is 0 to 1");
    c.threshold = NAN;
    CHECK_STATUS(cop_certaindex_create(&limits, &c, &rule), COP_ERR_CONFIG);
}

int main(void) {
    RUN(test_parallel_probe);
    RUN(test_certaindex);
    RUN(test_a_branch_that_runs_ahead);
    RUN(test_contradictions_are_named);
    return check_report();
}
