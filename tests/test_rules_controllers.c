/* Controllers that run prompts, against tests/ref/rules/controllers.py: the calls that they make,
 * in order, and their answers. Calls that are out together are answered in any order. */
#include <math.h>

#include "reason/rules/mcts.h"
#include "reason/rules/skeleton.h"
#include "reason/rules/thoughts.h"
#include "rules_trace.h"

enum { CALLS_MAX = 600 };

static const char *const outlines[] = {" Dumplings.\n2. Noodles.\n3. Soup",
                                       " A\n2.B\n2. C\n10. D\n",
                                       "",
                                       "\n\n",
                                       " x",
                                       "no",
                                       " 3",
                                       " A 2. B\n3.\n4. ",
                                       " one\n\n2.\tTwo 22. three\n3.\n\nfour",
                                       "1. 1. 1.\n12.5 kg\n5.\n",
                                       NULL};
static const char *const points[] = {" yes. ", "", "\nlong\ntext\n", "ok", NULL};
static const char *const states[] = {"a\n", "b\n", "a\n", "c left\n", "x\ny\n", "", NULL};
static const char *const proposed[] = {"a\nb", "b\nb\nc", "", "one", "a\n", NULL};
static const char *const values[] = {"maybe\nsure", "sure",     "likely", "impossible",
                                     "so\nlikely",  "likely\n", "",       "sure\nmaybe",
                                     NULL};
static const char *const votes[] = {"The best choice is 2",
                                    "best choice is 12 ok",
                                    "none",
                                    "best choice is x\nbest choice is 1",
                                    "best choice is 3 best choice is ",
                                    "best choice is 10",
                                    NULL};
static const char *const dfs_lines[] = {"Abc (certain)\nxyz (low)\nfoo",
                                        "abc (low)\nabc (high)",
                                        "",
                                        "q (medium) w (high)\nr (low)!",
                                        "(low)",
                                        " (low)\nz (certain)",
                                        NULL};
static const char *const status_lines[] = {"sure\nmaybe",        "impossible\nsure", "likely",
                                           "maybe\nimpossible ", "likely\nlikely",   NULL};
static const cop_thought_value words[] = {{"impossible", 0.001}, {"likely", 1}, {"sure", 20}};

typedef struct world {
    cop_rule *rule;
    rules_random *r;
    rules_line *line;
    uint32_t calls;
    bool reversed, proposing;
} world;

static const char *draw(world *w, const char *const *from) {
    uint32_t n = 0;
    while (from[n])
        n++;
    return from[rules_below(w->r, n)];
}

static const char *const *replies_to(const world *w, const char *prompt, size_t bytes) {
    switch (prompt[0]) {
    case 'P':
        return bytes > 4 && memcmp(prompt, "Plan:", 5) == 0 ? outlines : dfs_lines;
    case 'W':
        return points;
    case 'G':
        return w->proposing ? proposed : states;
    case 'V':
        return votes;
    case 'S':
        return status_lines;
    default:
        return values;
    }
}

static uint64_t hash_call(const cop_decision *d) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < d->bytes; i++)
        hash = (hash ^ (uint8_t)d->text[i]) * 0x100000001b3u;
    hash = (hash ^ '|') * 0x100000001b3u;
    for (const char *c = d->partial ? d->partial : ""; *c; c++)
        hash = (hash ^ (uint8_t)*c) * 0x100000001b3u;
    return hash;
}

static void run(world *w) {
    static const char *replies[CALLS_MAX];
    static uint32_t ids[CALLS_MAX];
    uint64_t before = cop_memory_count();
    for (bool over = false; !over;) {
        const cop_decision *d;
        uint32_t n;
        CHECK_OK(cop_rule_decide(w->rule, 0, &d, &n));
        CHECK(n > 0);
        uint32_t first = w->calls;
        for (uint32_t i = 0; i < n; i++) {
            if (d[i].kind == COP_DECIDE_STOP) {
                CHECK_EQ(d[i].reason, COP_REASON_DONE);
                over = true;
                continue;
            }
            CHECK_EQ(d[i].kind, COP_DECIDE_RUN);
            CHECK(strlen(d[i].text) == d[i].bytes && w->calls < CALLS_MAX);
            rules_put(w->line, "%016" PRIx64, hash_call(&d[i]));
            replies[w->calls] = draw(w, replies_to(w, d[i].text, d[i].bytes));
            CHECK_OK(cop_rule_open(w->rule, d[i].tag, &ids[w->calls]));
            w->calls++;
        }
        for (uint32_t i = first; i < w->calls; i++) {
            uint32_t at = w->reversed ? w->calls - 1 - (i - first) : i;
            CHECK_OK(
                cop_rule_end(w->rule, ids[at], COP_RULE_END_OWN, replies[at], strlen(replies[at])));
            if (i + 1 < w->calls) { /* nothing is decided before all have answered */
                CHECK_OK(cop_rule_decide(w->rule, 0, &d, &n));
                CHECK_EQ(n, 0);
            }
        }
    }
    CHECK_EQ(cop_memory_count(), before);
}

static const cop_rule_limits limits = {.max_branches = CALLS_MAX};

static void make_skeleton(world *w) {
    cop_skeleton_options o = {.request = "Why?", .max_text_bytes = 1 << 16, .temperature = -1};
    o.max_points = rules_below(w->r, 2) ? 1 + rules_below(w->r, 4) : 0;
    o.joiner = rules_below(w->r, 2) ? "\n\n" : "\n";
    o.outline_prompt =
        rules_below(w->r, 2) ? "Plan: {request}" : "Plan: {request}[ROLESWITCHING assistant:] 1.";
    o.point_prompt =
        "{request}/{outline}/{point}/{x}[ROLESWITCHING assistant:]{point}. {point_outline}";
    CHECK_OK(cop_skeleton_create(&limits, &o, &w->rule));
}

static cop_thoughts_options thoughts_options(void) {
    cop_thoughts_options o = {.input = "in\n1 2",
                              .n_values = 3,
                              .max_states = 2000,
                              .max_text_bytes = 1 << 20,
                              .stop = "\n"};
    memcpy(o.values, words, sizeof words);
    return o;
}

static void make_bfs(world *w) {
    cop_thoughts_options o = thoughts_options();
    o.propose = w->proposing = rules_below(w->r, 2);
    o.vote = rules_below(w->r, 3) == 0;
    o.vote_whole_number = o.duplicates_share = rules_below(w->r, 2);
    o.steps = 1 + rules_below(w->r, 3);
    o.n_generate = o.propose ? 1 : 1 + rules_below(w->r, 3);
    o.n_evaluate = 1 + rules_below(w->r, 3);
    o.n_select = 1 + rules_below(w->r, 3);
    o.generate_prompt = "G {input} {state}";
    o.evaluate_prompt = o.vote ? "V {choices}" : "E {last_line}";
    CHECK_OK(cop_thoughts_create(&limits, &o, &w->rule));
}

static void make_dfs(world *w) {
    cop_thoughts_options o = thoughts_options();
    o.search = COP_THOUGHTS_DFS;
    o.n_generate = 1 + rules_below(w->r, 3);
    o.n_evaluate = 1 + rules_below(w->r, 2);
    o.n_select = 1 + rules_below(w->r, 3);
    o.max_visited = 1 + rules_below(w->r, 12);
    o.max_depth = 1 + rules_below(w->r, 4);
    o.prune = rules_below(w->r, 2);
    o.prune_word = "impossible";
    o.generate_prompt = "P {state}";
    o.evaluate_prompt = "S {state}";
    CHECK_OK(cop_thoughts_create(&limits, &o, &w->rule));
}

static void make_mcts(world *w) {
    static const double cs[] = {1.4142135623730951, 0.5, 0};
    cop_mcts_options o = {.generate_prompt = "G {state}",
                          .evaluate_prompt = "E {state}",
                          .values = {{"likely", 0.5}, {"sure", 1}},
                          .n_values = 2,
                          .max_text_bytes = 1 << 16};
    o.iterations = 1 + rules_below(w->r, 20);
    o.n_expand = 1 + rules_below(w->r, 3);
    o.n_evaluate = 1 + rules_below(w->r, 2);
    o.max_depth = 1 + rules_below(w->r, 3);
    o.c = RULES_PICK(w->r, cs);
    CHECK_OK(cop_mcts_create(&limits, &o, &w->rule));
}

static void trace_in(rules_random *r, rules_line *line, bool reversed) {
    world w = {.r = r, .line = line, .reversed = reversed};
    uint32_t kind = rules_below(r, 4);
    void (*const make[])(world *) = {make_skeleton, make_bfs, make_dfs, make_mcts};
    make[kind](&w);
    CHECK(cop_rule_needs_of(w.rule).runs_prompts);
    run(&w);
    if (kind == 1 || kind == 2)
        rules_put(line, "visited %u", cop_thoughts_visited(w.rule));
    const char *text;
    size_t bytes;
    bool found = cop_rule_answer(w.rule, &text, &bytes);
    rules_put(line, "calls %u =%.*s", w.calls, found ? (int)bytes : 4, found ? text : "none");
    cop_rule_destroy(w.rule);
}

static void trace(rules_random *r, rules_line *line) {
    trace_in(r, line, false);
}

static void trace_reversed(rules_random *r, rules_line *line) {
    trace_in(r, line, true);
}

static void test_a_thousand_traces(void) {
    rules_check_fixture("controllers", 7, trace);
}

static void test_the_order_of_answers_does_not_matter(void) {
    rules_check_fixture("controllers", 7, trace_reversed);
}

/* A rule that draws: shares as its worths say, and the original's division by 0. */
static void test_drawn_selection(void) {
    uint32_t firsts = 0;
    for (uint32_t seed = 0; seed < 400; seed++) {
        cop_thoughts_options o = thoughts_options();
        o.generate_prompt = "G {state}";
        o.evaluate_prompt = "E {state}";
        o.steps = o.n_evaluate = o.n_select = 1;
        o.n_generate = 2;
        o.sample_select = true;
        o.seed = seed;
        o.values[0] = (cop_thought_value){"three", 3};
        o.values[1] = (cop_thought_value){"one", 1};
        o.n_values = 2;
        cop_rule *rule;
        CHECK_OK(cop_thoughts_create(&limits, &o, &rule));
        const char *const said[] = {"a", "b", "three", "one"};
        const cop_decision *d;
        uint32_t n, id, k = 0;
        for (int round = 0; round < 2; round++) {
            CHECK_OK(cop_rule_decide(rule, 0, &d, &n));
            CHECK_EQ(n, 2);
            for (uint32_t i = 0; i < 2; i++, k++) {
                CHECK_OK(cop_rule_open(rule, d[i].tag, &id));
                CHECK_OK(cop_rule_end(rule, id, COP_RULE_END_OWN, said[k], strlen(said[k])));
            }
        }
        CHECK_OK(cop_rule_decide(rule, 0, &d, &n));
        const char *text;
        size_t bytes;
        CHECK(cop_rule_answer(rule, &text, &bytes) && bytes == 1);
        firsts += text[0] == 'a';
        cop_rule_destroy(rule);
    }
    CHECK(firsts > 260 && firsts < 340); /* three in four */
}

static void test_nothing_to_draw_from(void) {
    for (int mended = 0; mended < 2; mended++) {
        cop_thoughts_options o = thoughts_options();
        o.generate_prompt = "G";
        o.evaluate_prompt = "E {state}";
        o.steps = o.n_generate = o.n_evaluate = o.n_select = 1;
        o.sample_select = true;
        o.zero_sum_uniform = mended;
        cop_rule *rule;
        const cop_decision *d;
        uint32_t n, id;
        CHECK_OK(cop_thoughts_create(&limits, &o, &rule));
        for (int round = 0; round < 2; round++) {
            CHECK_OK(cop_rule_decide(rule, 0, &d, &n));
            CHECK_OK(cop_rule_open(rule, d->tag, &id));
            CHECK_OK(cop_rule_end(rule, id, COP_RULE_END_OWN, "x", 1));
        }
        cop_status status = cop_rule_decide(rule, 0, &d, &n);
        CHECK_EQ(status, mended ? COP_OK : COP_ERR_NONFINITE);
        if (!mended)
            CHECK_MESSAGE("worth 0");
        cop_rule_destroy(rule);
    }
}

/* Calls that somebody cuts said nothing: the controller goes on, and runs out of room by name. */
static void test_cut_calls_and_full_pools(void) {
    cop_skeleton_options o = {.request = "Why?",
                              .outline_prompt = "Plan: {request}",
                              .point_prompt = "{point} {point_outline}",
                              .max_text_bytes = 4096,
                              .no_points_fails = true};
    cop_rule *rule;
    const cop_decision *d;
    uint32_t n, id;
    CHECK_OK(cop_skeleton_create(&limits, &o, &rule));
    CHECK_OK(cop_rule_decide(rule, 0, &d, &n));
    CHECK_OK(cop_rule_open(rule, d->tag, &id));
    CHECK_OK(cop_rule_end(rule, id, COP_RULE_END_CUT, "", 0));
    CHECK_STATUS(cop_rule_decide(rule, 0, &d, &n), COP_ERR_FORMAT);
    CHECK_MESSAGE("has no points");
    CHECK_OK(cop_skeleton_request(rule, "How?"));
    cop_rule_reset(rule);
    CHECK_OK(cop_skeleton_request(rule, "How?"));
    CHECK_OK(cop_rule_decide(rule, 0, &d, &n));
    CHECK(d->bytes == 10 && memcmp(d->text, "Plan: How?", 10) == 0);
    CHECK_OK(cop_rule_open(rule, d->tag, &id));
    static char longer[5000];
    memset(longer, 'x', sizeof longer);
    CHECK_STATUS(cop_rule_end(rule, id, COP_RULE_END_OWN, longer, sizeof longer), COP_ERR_NO_ROOM);
    CHECK_MESSAGE("max_text_bytes");
    cop_rule_destroy(rule);
}

static void test_contradictions_are_named(void) {
    cop_rule *rule;
    cop_skeleton_options s = {.outline_prompt = "x", .point_prompt = "{point}"};
    CHECK_STATUS(cop_skeleton_create(&limits, &s, &rule), COP_ERR_CONFIG);
    s.outline_prompt = "{request}";
    s.max_points = CALLS_MAX;
    s.max_text_bytes = 4096;
    CHECK_STATUS(cop_skeleton_create(&limits, &s, &rule), COP_ERR_CONFIG);
    CHECK_MESSAGE("contradict");
    cop_thoughts_options t = thoughts_options();
    t.generate_prompt = t.evaluate_prompt = "x";
    t.n_generate = t.n_evaluate = t.n_select = 2;
    CHECK_STATUS(cop_thoughts_create(&limits, &t, &rule), COP_ERR_CONFIG);
    CHECK_MESSAGE("0 steps");
    t.steps = 1;
    t.propose = true;
    CHECK_STATUS(cop_thoughts_create(&limits, &t, &rule), COP_ERR_CONFIG);
    CHECK_MESSAGE("n_generate 2 contradicts");
    t.propose = false;
    t.vote = true;
    CHECK_STATUS(cop_thoughts_create(&limits, &t, &rule), COP_ERR_CONFIG);
    t.search = COP_THOUGHTS_DFS;
    t.vote = false;
    CHECK_STATUS(cop_thoughts_create(&limits, &t, &rule), COP_ERR_CONFIG);
    cop_mcts_options m = {.generate_prompt = "x", .evaluate_prompt = "x", .n_values = 1, .c = -1};
    CHECK_STATUS(cop_mcts_create(&limits, &m, &rule), COP_ERR_CONFIG);
}

int main(void) {
    RUN(test_a_thousand_traces);
    RUN(test_the_order_of_answers_does_not_matter);
    RUN(test_drawn_selection);
    RUN(test_nothing_to_draw_from);
    RUN(test_cut_calls_and_full_pools);
    RUN(test_contradictions_are_named);
    return check_report();
}
