/* Blocks of the live driver: what each join gives its parent, the rules that end paths early, forks
 * that are refused, and runs whose text, ids and KV must agree whatever was cancelled. */
#include "live_world.h"

#define TRY2 "<try> 14 - 2<try> 3 + 4<fork>"

static cop_live *run(const world *w, const cop_dialect *dialect, cop_script *script, uint32_t n,
                     cop_live_options options, cop_metrics *m) {
    options.dialect = dialect;
    options.script = script;
    options.n_script = n;
    return live_world_run(w, &options, m);
}

static void check_text(const cop_live *live, const char *expected) {
    CHECK_TEXT(live_world_read(live).text, expected);
}

static void check_path(const cop_live *live, uint32_t i, const char *text, cop_stop stop) {
    CHECK_TEXT(live_world_path(live, i).text, text);
    CHECK_EQ(cop_live_path_read(live, i).stop, stop);
}

/* ---- message ---- */

static void test_replies_begin_at_the_first_of_their_texts(void) {
    world w = live_world_open("countdown-message", 64, 4096);
    cop_dialect d = live_world_dialect(&w);
    cop_metrics m;
    for (int order = 0; order < 2; order++) { /* the first in the text, not in the dialect */
        if (order)
            d.reply_from[0] = (cop_tag){"<ok>", 4}, d.reply_from[1] = (cop_tag){"<no>", 4};
        cop_script script[] = {live_world_say(&w, "", "Hm" TRY2 "<ok> 14$"),
                               live_world_say(&w, "1", " x<no> but<ok> 2 <end>"),
                               live_world_say(&w, "2", " nothing<end>")};
        cop_live *live = run(&w, &d, script, 3, (cop_live_options){0}, &m);
        check_text(live, "Hm" TRY2 "<no> but<ok> 2 <no><join><ok> 14");
        CHECK_EQ(cop_live_path_count(live), 2);
        check_path(live, 0, "<thr> 14 - 2 x<no> but<ok> 2 <end>", COP_STOP_END);
        check_path(live, 1, "<thr> 3 + 4 nothing<end>", COP_STOP_END);
        CHECK(cop_live_path_read(live, 0).success && !cop_live_path_read(live, 1).success);
        CHECK_EQ(cop_live_path_read(live, 0).n_header, strlen("<thr> 14 - 2"));
        CHECK_EQ(m.tokens_prompt, 4 + 2 * 2);
        CHECK_EQ(m.tokens_reprefilled, 0);
        /* Headers, replies and the join are given; all else was generated. */
        CHECK_EQ(m.tokens_forced, strlen("<thr> 14 - 2<thr> 3 + 4<no> but<ok> 2 <no><join>"));
        CHECK_EQ(m.tokens_total,
                 strlen("Hm" TRY2 "<ok> 14") + 1 + strlen(" x<no> but<ok> 2 <end> nothing<end>"));
        CHECK_EQ(m.joins, 1);
        cop_live_destroy(live);
    }
    live_world_close(&w);
}

/* Unscripted children, drawn at random: the parent's earlier text must not reach them. */
static cop_live *children_of(const world *w, const cop_dialect *d, const char *text, float heat,
                             cop_metrics *m) {
    cop_script script[] = {live_world_say(w, "", text)};
    return run(w, d, script, 1,
               (cop_live_options){.temperature = heat, .max_tokens = 120, .problem_key = 3}, m);
}

static bool same_paths(const cop_live *a, const cop_live *b) {
    CHECK(cop_live_path_count(a) >= 2 && cop_live_path_count(b) >= 2);
    bool same = true;
    for (uint32_t i = 0; i < 2; i++) {
        cop_live_path x = cop_live_path_read(a, i), y = cop_live_path_read(b, i);
        CHECK(x.n_ids >= x.n_header + 20);
        same &= x.n_ids == y.n_ids && memcmp(x.ids, y.ids, x.n_ids * sizeof *x.ids) == 0;
    }
    return same;
}

static void test_a_spawned_child_sees_its_own_context_alone(void) {
    static const char *const joins[] = {"countdown-message", "countdown-reprefill"};
    for (int i = 0; i < 2; i++) {
        world w = live_world_open(joins[i], 64, 4096);
        cop_dialect d = live_world_dialect(&w);
        cop_metrics m;
        d.max_path_tokens = 20;
        for (float heat = 0; heat <= 1; heat++) {
            cop_live *a = children_of(&w, &d, "So" TRY2, heat, &m);
            cop_live *b = children_of(&w, &d, "Something else, then:" TRY2, heat, &m);
            CHECK_EQ(same_paths(a, b), i == 0);
            cop_live_destroy(a);
            cop_live_destroy(b);
        }
        live_world_close(&w);
    }
}

static void test_a_spawned_child_is_a_fresh_problem(void) {
    world w = live_world_open("countdown-message", 64, 4096);
    cop_dialect d = live_world_dialect(&w), plain = {.name = "plain", .prompt = "{problem}"};
    for (int e = 0; e < COP_EL_COUNT; e++)
        plain.open[e].text = plain.close[e].text = "";
    cop_metrics m;
    d.max_path_tokens = 20;
    cop_live *live = children_of(&w, &d, "So" TRY2, 0, &m);
    for (uint32_t i = 0; i < 2; i++) {
        cop_live_path path = cop_live_path_read(live, i);
        int32_t prompt[64];
        memcpy(prompt, live_world_spawn, sizeof live_world_spawn);
        memcpy(prompt + 2, path.ids, path.n_header * sizeof *prompt);
        cop_live_options options = {
            .prompt = prompt, .n_prompt = 2 + path.n_header, .max_tokens = 20};
        cop_live *fresh = run(&w, &plain, NULL, 0, options, &m);
        cop_live_sample sample = cop_live_sample_read(fresh, 0);
        CHECK_EQ(sample.n_ids, 20);
        CHECK(memcmp(sample.ids, path.ids + path.n_header, 20 * sizeof *prompt) == 0);
        cop_live_destroy(fresh);
    }
    cop_live_destroy(live);
    live_world_close(&w);
}

/* A child's own context is not the parent's: only what it returns must fit there. */
static void test_children_may_be_longer_than_their_parent_has_room(void) {
    world w = live_world_open("countdown-message", 64, 640);
    cop_dialect d = live_world_dialect(&w);
    cop_metrics m;
    d.max_path_tokens = 300;
    char text[301];
    memset(text, 'x', 300);
    text[300] = '\0';
    cop_script script[] = {live_world_say(&w, "", TRY2 "<ok>$"), live_world_say(&w, "1", text),
                           live_world_say(&w, "2", text)};
    cop_live *live = run(&w, &d, script, 3, (cop_live_options){.max_tokens = 1000}, &m);
    check_text(live, TRY2 "<no><no><join><ok>");
    CHECK_EQ(cop_live_sample_read(live, 0).stop, COP_STOP_END);
    CHECK_EQ(cop_live_path_read(live, 1).stop, COP_STOP_LENGTH);
    cop_live_destroy(live);
    live_world_close(&w);
}

/* The same with children that fill the context itself: they end, the parent goes on. */
static void test_a_child_that_fills_its_context_ends_alone(void) {
    world w = live_world_open("countdown-message", 64, 560);
    cop_dialect d = live_world_dialect(&w);
    cop_metrics m;
    d.max_path_tokens = 0;
    cop_script script[] = {live_world_say(&w, "", "<try>a<fork><ok>1$")};
    char text[700];
    memset(text, 'x', 699);
    text[699] = '\0';
    cop_script more[] = {script[0], live_world_say(&w, "1", text)};
    cop_live *live = run(&w, &d, more, 2, (cop_live_options){.max_tokens = 1000}, &m);
    check_text(live, "<try>a<fork><no><join><ok>1");
    CHECK_EQ(cop_live_path_read(live, 0).stop, COP_STOP_LENGTH);
    CHECK_EQ(cop_live_path_read(live, 0).n_ids + 2, 560 + 1); /* its last one has no place */
    cop_live_destroy(live);
    live_world_close(&w);
}

/* ---- items and headers ---- */

static void test_items_that_straddle_tokens_head_their_paths(void) {
    world w = live_world_open("countdown-reprefill", 64, 4096);
    cop_metrics m;
    /* "<tr" "y> 1" .. "4<try>3" .. "<fo" "rk>YZ": "YZ" is dropped; "<en" "d>Q": "Q" is. */
    cop_script script[] = {live_world_say(&w, "", "{9}{10}{11} + {12}{13}ok$"),
                           live_world_say(&w, "1", " one{14}{15}"),
                           live_world_say(&w, "2", " two<end>")};
    cop_live *live = run(&w, NULL, script, 3, (cop_live_options){0}, &m);
    check_text(live, "<try> 14<try>3 + <fork><thr> 14 one<end><thr>3 +  two<end><join>ok");
    CHECK_EQ(m.tokens_dropped, 2);
    CHECK_EQ(cop_live_path_read(live, 1).n_header, strlen("<thr>3 + "));
    cop_live_destroy(live);
    live_world_close(&w);
}

static void test_an_empty_item_and_a_second_block(void) {
    world w = live_world_open("countdown-reprefill", 64, 4096);
    cop_metrics m;
    cop_script script[] = {live_world_say(&w, "", "<try><fork>..<try>b<try><fork>$"),
                           live_world_say(&w, "1", "1<end>"), live_world_say(&w, "2", "2<end>")};
    cop_live *live = run(&w, NULL, script, 3, (cop_live_options){0}, &m);
    check_text(live,
               "<try><fork><thr>1<end><join>..<try>b<try><fork><thr>b1<end><thr>2<end><join>");
    CHECK_EQ(cop_live_path_count(live), 3);
    for (uint32_t i = 0; i < 3; i++) {
        cop_live_path path = cop_live_path_read(live, i);
        CHECK_EQ(path.block, i > 0);
        CHECK_EQ(path.index, i == 2);
        CHECK_EQ(path.sample, 0);
        CHECK_TEXT(path.path, i == 2 ? "2" : "1");
        CHECK_EQ(path.n_header, i == 1 ? 6 : 5);
        CHECK_EQ(path.n_ids, path.bytes);
    }
    CHECK_EQ(cop_live_sample_read(live, 0).paths, 3);
    CHECK_EQ(cop_live_sample_read(live, 0).forks, 2);
    cop_live_destroy(live);
    live_world_close(&w);
}

static void test_refused_forks_end_the_run_or_decode_on(void) {
    world w = live_world_open("countdown-reprefill", 64, 4096);
    cop_dialect d = live_world_dialect(&w);
    cop_metrics m;
    char item[600] = "";
    memset(item, 'i', sizeof item - 1);
    char long_item[700];
    snprintf(long_item, sizeof long_item, "<try>%s<fork>on$", item);
    const struct {
        const char *text, *ends, *decodes_on;
        uint32_t max_paths, max_blocks, max_branches, forks;
    } cases[] = {
        {"<fork>on$", "<fork>on", "<fork>on", 0, 0, 24, 0}, /* closes nothing: no fork at all */
        {"<try>a<try>b<fork>on$", "<try>a<try>b<fork>", "<try>a<try>b<fork>on", 1, 0, 24, 0},
        {"<try>a<try>b<fork>on$", "<try>a<try>b<fork>", "<try>a<try>b<fork>on", 0, 0, 2, 0},
        {"<try>a<fork>on<try>a<fork>on$", "<try>a<fork><thr>a1<end><join>on<try>a<fork>",
         "<try>a<fork><thr>a1<end><join>on<try>a<fork>on", 0, 1, 24, 1},
        {long_item, NULL, NULL, 0, 0, 24, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int on = 0; on < 2; on++) {
            d.refused = on ? COP_REFUSAL_DECODES_ON : COP_REFUSAL_ENDS_RUN;
            d.max_paths = cases[i].max_paths;
            d.max_blocks = i % 2 ? cases[i].max_blocks : 3;
            cop_live_options options = {.max_branches = cases[i].max_branches,
                                        .max_blocks = cases[i].max_blocks,
                                        .max_tokens = 700};
            cop_script script[] = {live_world_say(&w, "", cases[i].text),
                                   live_world_say(&w, "1", "1<end>"),
                                   live_world_say(&w, "2", "2<end>")};
            cop_live *live = run(&w, &d, script, 3, options, &m);
            const char *expected = on ? cases[i].decodes_on : cases[i].ends;
            char whole[700];
            snprintf(whole, sizeof whole, "<try>%s<fork>%s", item, on ? "on" : "");
            check_text(live, expected ? expected : whole);
            cop_live_sample sample = cop_live_sample_read(live, 0);
            CHECK_EQ(sample.stop, on || i == 0 ? COP_STOP_END : COP_STOP_REFUSED);
            CHECK_EQ(sample.forks_refused, i > 0);
            CHECK_EQ(sample.ill_formed_tags, i == 0);
            CHECK_EQ(sample.forks, cases[i].forks);
            CHECK_EQ(m.forks, cases[i].forks);
            cop_live_destroy(live);
        }
    }
    CHECK_TEXT(cop_stop_name(COP_STOP_REFUSED), "refused");
    live_world_close(&w);
}

/* More items than a driver has branches are counted and refused, and nothing is written for them.
 */
static void test_a_flood_of_items_is_refused(void) {
    world w = live_world_open("countdown-message", 64, 4096);
    cop_dialect d = live_world_dialect(&w);
    d.refused = COP_REFUSAL_DECODES_ON;
    cop_metrics m;
    char text[3000] = "";
    for (int i = 0; i < 600; i++)
        strcat(text, "{16}");
    strcat(text, "<fork>on$");
    cop_script script[] = {live_world_say(&w, "", text)};
    cop_live_options options = {.max_tokens = 4000, .max_branches = 2};
    cop_live *live = run(&w, &d, script, 1, options, &m);
    cop_live_sample sample = cop_live_sample_read(live, 0);
    CHECK_EQ(sample.forks_refused, 1);
    CHECK_EQ(sample.bytes, 600 * 80 + strlen("<fork>on"));
    CHECK_EQ(sample.stop, COP_STOP_END);
    cop_live_destroy(live);
    live_world_close(&w);
}

/* ---- limits of paths ---- */

static void test_a_path_ends_at_its_limit_as_its_dialect_says(void) {
    world w = live_world_open("countdown-stitch", 64, 4096);
    cop_dialect d = live_world_dialect(&w);
    d.max_path_tokens = 7;
    cop_metrics m;
    for (int ends = 0; ends < 2; ends++) {
        d.path_end = ends ? COP_PATH_END_ENDS_RUN : COP_PATH_END_JOINS;
        cop_script script[] = {live_world_say(&w, "", TRY2 "c$"),
                               live_world_say(&w, "1", "12<end>"), /* exactly seven */
                               live_world_say(&w, "2", "1234567<end>")};
        cop_live *live = run(&w, &d, script, 3, (cop_live_options){0}, &m);
        check_text(live, ends ? TRY2 "<thr> 14 - 212<end><thr> 3 + 41234567"
                              : TRY2 "<thr> 14 - 212<end><thr> 3 + 41234567<end><join>c");
        CHECK_EQ(cop_live_sample_read(live, 0).stop, ends ? COP_STOP_PATH : COP_STOP_END);
        CHECK_EQ(cop_live_path_read(live, 0).stop, COP_STOP_END);
        CHECK_EQ(cop_live_path_read(live, 1).stop, COP_STOP_LENGTH);
        CHECK_EQ(cop_live_sample_read(live, 0).paths_cancelled, 0);
        cop_live_destroy(live);
    }
    live_world_close(&w);
}

/* ---- join policies ---- */

typedef struct policy_case {
    cop_join_policy policy;
    const char *text[3];    /* what the paths say after their headers */
    const char *message;    /* what the parent is given, */
    const char *partial[3]; /* and what the paths are known by, "" where dropped */
    cop_stop stop[3];
    uint32_t said; /* by all paths */
} policy_case;

/* Path 1 says its last token first in each step; the others then have said one token less. */
static const policy_case policy_cases[] = {
    {{.quorum = 1},
     {"1<end>", "2 and more<end>", "<ok>3 and<end>"},
     "<no><no><no>",
     {"1<end>", "2 and", "<ok>3"},
     {COP_STOP_END, COP_STOP_CANCELLED, COP_STOP_CANCELLED},
     6 + 5 + 5},
    {{.quorum = 2},
     {"1 and more, and more<end>", "2<end>", "33<end>"},
     "<no><no><no>",
     {"1 and m", "2<end>", "33<end>"}, /* heard first, path 1 is one token further */
     {COP_STOP_CANCELLED, COP_STOP_END, COP_STOP_END},
     7 + 6 + 7},
    {{.quorum = 1, .success_only = true},
     {"<no><end>", "<ok>2<end>", "3 says nothing for a while<end>"},
     "<no><ok>2<no>",
     {"<no><end>", "<ok>2<end>", "3 says no"},
     {COP_STOP_END, COP_STOP_END, COP_STOP_CANCELLED},
     9 + 10 + 9},
    {{.quorum = 3, .success_only = true}, /* never reached: all are awaited */
     {"<no><end>", "<ok>2<end>", "3<end>"},
     "<no><ok>2<no>",
     {"<no><end>", "<ok>2<end>", "3<end>"},
     {COP_STOP_END, COP_STOP_END, COP_STOP_END},
     9 + 10 + 6},
    {{.deadline_tokens = 6},
     {"1<end>", "2 and more<end>", "<ok>3 and more<end>"},
     "<no><no><no>",
     {"1<end>", "2 and ", "<ok>3 "},
     {COP_STOP_END, COP_STOP_CANCELLED, COP_STOP_CANCELLED},
     18},
};

#define TRY3 "<try>a<try>b<try>c<fork>"

static void check_policy(const world *w, cop_join_rule join, policy_case c, bool keep, bool reuse) {
    static const char *const items[] = {"a", "b", "c"};
    cop_dialect d = live_world_dialect(w);
    d.reuse = reuse ? COP_REUSE_LONGEST_PREFIX : COP_REUSE_NONE;
    c.policy.keep_partial = keep;
    cop_metrics m;
    cop_script script[4] = {live_world_say(w, "", TRY3)};
    for (uint32_t i = 0; i < 3; i++)
        script[i + 1] = live_world_say(w, (const char *[]){"1", "2", "3"}[i], c.text[i]);
    uint32_t own = (uint32_t)strlen(TRY3), concluded = 12;
    cop_live_options options = {.join_policy = c.policy, .max_tokens = own + c.said + concluded};
    cop_live *live = run(w, &d, script, 4, options, &m);
    char text[400] = TRY3, path[100];
    uint32_t cancelled = 0;
    for (uint32_t i = 0; i < 3; i++) {
        bool ended = c.stop[i] == COP_STOP_END;
        cancelled += !ended;
        snprintf(path, sizeof path, "<thr>%s%s%s", items[i], c.partial[i],
                 ended || !keep ? "" : "<end>");
        check_path(live, i, path, c.stop[i]);
        if (join != COP_JOIN_MESSAGE && (ended || keep))
            strcat(text, path);
    }
    if (join == COP_JOIN_MESSAGE)
        strcat(text, c.message);
    strcat(text, "<join>");
    cop_live_sample sample = cop_live_sample_read(live, 0);
    CHECK_EQ(sample.paths, 3);
    CHECK_EQ(sample.paths_cancelled, cancelled);
    CHECK_EQ(sample.stop, COP_STOP_LENGTH);
    CHECK_EQ(m.tokens_total, own + c.said + concluded);
    CHECK_EQ(m.prunes, keep ? 0 : cancelled);
    CHECK_EQ(sample.n_ids, strlen(text) + concluded); /* every byte is a token here */
    CHECK(strncmp(sample.text, text, strlen(text)) == 0);
    if (join != COP_JOIN_STITCH)
        live_world_check_text_join(w, live, concluded);
    cop_live_destroy(live);
}

static void check_policies(const char *dialect, cop_join_rule join) {
    world w = live_world_open(dialect, 64, 4096);
    for (size_t i = 0; i < sizeof policy_cases / sizeof policy_cases[0]; i++)
        for (int keep = 0; keep < 2; keep++)
            for (int reuse = 0; reuse <= (join == COP_JOIN_REPREFILL); reuse++)
                check_policy(&w, join, policy_cases[i], keep, reuse);
    live_world_close(&w);
}

static void test_join_policies_of_message(void) {
    check_policies("countdown-message", COP_JOIN_MESSAGE);
}

static void test_join_policies_of_reprefill(void) {
    check_policies("countdown-reprefill", COP_JOIN_REPREFILL);
}

static void test_join_policies_of_stitch(void) {
    check_policies("countdown-stitch", COP_JOIN_STITCH);
}

/* ---- prune rules inside a block ---- */

static void test_a_budget_ends_paths_and_not_the_conclusion(void) {
    static const char *const dialects[] = {"countdown-message", "countdown-reprefill",
                                           "countdown-stitch"};
    for (int i = 0; i < 3; i++) {
        world w = live_world_open(dialects[i], 64, 4096);
        cop_metrics m;
        cop_script script[] = {live_world_say(&w, "", TRY2 "so<try>x<fork>no$"),
                               live_world_say(&w, "1", "one and more and more<end>"),
                               live_world_say(&w, "2", "two and more and more<end>")};
        uint32_t before = (uint32_t)strlen(TRY2);
        cop_live_options options = {.prune = {.budget_tokens = before + 9}};
        cop_live *live = run(&w, NULL, script, 3, options, &m);
        check_text(live,
                   i == 0 ? TRY2 "<no><no><join>so<try>x<fork>" : TRY2 "<join>so<try>x<fork>");
        cop_live_sample sample = cop_live_sample_read(live, 0);
        CHECK_EQ(sample.stop, COP_STOP_REFUSED);
        CHECK_EQ(sample.forks, 1);
        CHECK_EQ(sample.paths_cancelled, 2);
        CHECK_EQ(m.tokens_total, before + 9 + strlen("so<try>x<fork>"));
        CHECK_EQ(m.tokens_pruned, 9);
        check_path(live, 0, "<thr> 14 - 2one a", COP_STOP_CANCELLED);
        check_path(live, 1, "<thr> 3 + 4two ", COP_STOP_CANCELLED);
        cop_live_destroy(live);
        live_world_close(&w);
    }
}

static void test_confidence_cancels_paths_when_the_window_is_full(void) {
    world w = live_world_open("countdown-message", 64, 4096);
    cop_metrics m;
    for (int keep = 0; keep < 2; keep++) {
        for (int all = 0; all < 2; all++) {
            cop_script script[] = {
                live_world_say(&w, "", "A long start of its own" TRY2 "so it is$"),
                live_world_say(&w, "1", "<ok>5<end>"), live_world_say(&w, "2", "1<end>")};
            cop_live_options options = {
                .prune = {.window = 8, .threshold = all ? INFINITY : -INFINITY},
                .join_policy = {.keep_partial = keep}};
            cop_live *live = run(&w, NULL, script, 3, options, &m);
            check_text(live, all ? "A long start of its own" TRY2 "<no><no><join>so it is"
                                 : "A long start of its own" TRY2 "<ok>5<no><join>so it is");
            cop_live_sample sample = cop_live_sample_read(live, 0);
            CHECK_EQ(sample.stop, COP_STOP_END);
            CHECK_EQ(sample.paths_cancelled, all);
            check_path(live, 0,
                       all ? keep ? "<thr> 14 - 2<ok>5<en<end>" : "<thr> 14 - 2<ok>5<en"
                           : "<thr> 14 - 2<ok>5<end>",
                       all ? COP_STOP_CONFIDENCE : COP_STOP_END);
            check_path(live, 1, "<thr> 3 + 41<end>", COP_STOP_END); /* its window is never full */
            CHECK(isfinite(sample.lowest_confidence) && sample.lowest_confidence > 0);
            CHECK_EQ(m.prunes, all && !keep);
            cop_live_destroy(live);
        }
    }
    live_world_close(&w);
}

static void test_a_block_that_lost_every_path_and_adds_nothing_ends_the_sample(void) {
    world w = live_world_open("countdown-reprefill", 64, 4096);
    cop_metrics m;
    for (int empty = 0; empty < 2; empty++) {
        cop_dialect d = live_world_dialect(&w);
        if (empty)
            d.join_prompt = "";
        for (uint32_t deadline = 1; deadline <= 3; deadline += 2) {
            cop_script script[] = {live_world_say(&w, "", TRY2 "on$"),
                                   live_world_say(&w, "1", "1 and 1<end>"),
                                   live_world_say(&w, "2", "2 and 2<end>")};
            cop_live_options options = {.join_policy = {.deadline_tokens = deadline}};
            cop_live *live = run(&w, &d, script, 3, options, &m);
            check_text(live, empty ? TRY2 : TRY2 "<join>on");
            CHECK_EQ(cop_live_sample_read(live, 0).stop, empty ? COP_STOP_CANCELLED : COP_STOP_END);
            CHECK_EQ(cop_live_sample_read(live, 0).paths_cancelled, 2);
            CHECK_EQ(m.tokens_total, strlen(TRY2) + 2 * deadline + (empty ? 0 : 3));
            cop_live_destroy(live);
        }
    }
    live_world_close(&w);
}

/* What reuse keeps may be all that the join gives: then it is computed again, for a row. */
static void test_reuse_leaves_a_row_to_go_on_from(void) {
    world w = live_world_open("countdown-reprefill", 64, 4096);
    cop_dialect d = live_world_dialect(&w);
    d.join_prompt = "";
    d.reuse = COP_REUSE_LONGEST_PREFIX;
    cop_metrics m;
    for (int keep = 0; keep < 2; keep++) {
        cop_script script[] = {live_world_say(&w, "", TRY2), live_world_say(&w, "1", "1<end>"),
                               live_world_say(&w, "2", "2 and more<end>")};
        cop_live_options options = {.join_policy = {.quorum = 1, .keep_partial = keep},
                                    .max_tokens = (uint32_t)strlen(TRY2) + 6 + 5 + 12};
        cop_live *live = run(&w, &d, script, 3, options, &m);
        cop_live_sample sample = cop_live_sample_read(live, 0);
        CHECK_EQ(sample.stop, COP_STOP_LENGTH);
        CHECK_EQ(m.tokens_reused, keep ? strlen("<thr> 14 - 21<end>") : 0);
        CHECK_EQ(m.tokens_reprefilled,
                 strlen(keep ? "<thr> 3 + 42 and<end>" : "<thr> 14 - 21<end>"));
        live_world_check_text_join(&w, live, 12);
        cop_live_destroy(live);
    }
    live_world_close(&w);
}

/* ---- nested blocks ---- */

#define INNER "<try>c<try>d<fork>"

/* Path 2 waits for a block of its own when path 1 ends as the first finisher. */
static void check_nested(cop_join_rule join, bool keep, bool reuse) {
    world w = live_world_open(join == COP_JOIN_STITCH ? "countdown-stitch" : "countdown-reprefill",
                              64, 4096);
    cop_dialect d = live_world_dialect(&w);
    d.nested = true;
    d.max_depth = 0;
    d.reuse = reuse ? COP_REUSE_LONGEST_PREFIX : COP_REUSE_NONE;
    cop_metrics m;
    /* The waiting path comes first, so that reuse keeps what was computed of it. */
    cop_script script[] = {live_world_say(&w, "", "<try>a<try>b<fork>"),
                           live_world_say(&w, "1", "x" INNER),
                           live_world_say(&w, "1.1", "in and in and in<end>"),
                           live_world_say(&w, "1.2", "up and up and up<end>"),
                           live_world_say(&w, "2", "a path of 26 tokens..<end>")};
    cop_live_options options = {.join_policy = {.quorum = 1, .keep_partial = keep},
                                .max_tokens = 100};
    cop_live *live = run(&w, &d, script, 5, options, &m);
    cop_live_sample sample = cop_live_sample_read(live, 0);
    CHECK_EQ(sample.paths_cancelled, 3);
    CHECK_EQ(cop_live_path_count(live), 4);
    for (uint32_t i = 0; i < 4; i++) {
        cop_live_path path = cop_live_path_read(live, i);
        CHECK_TEXT(path.path, ((const char *[]){"1", "2", "1.1", "1.2"})[i]);
        CHECK_EQ(path.stop, i == 1 ? COP_STOP_END : COP_STOP_CANCELLED);
        CHECK_EQ(path.block, i > 1);
    }
    const char *kept =
        join == COP_JOIN_STITCH ? "<thr>ax" INNER : "<thr>ax" INNER "<thr>cin and<thr>dup and";
    char text[400];
    snprintf(text, sizeof text, "<try>a<try>b<fork>%s<thr>ba path of 26 tokens..<end><join>",
             keep ? kept : "");
    CHECK_EQ(m.tokens_total, 100);
    CHECK(sample.bytes >= strlen(text));
    live_text ours = live_world_text(sample.text, strlen(text));
    CHECK_TEXT(ours.text, text);
    if (join != COP_JOIN_STITCH)
        live_world_check_text_join(&w, live, 100 - 18 - 26 - 19 - 2 * 6);
    cop_live_destroy(live);
    live_world_close(&w);
}

static void test_a_cancelled_path_that_waits_takes_its_block_with_it(void) {
    for (int keep = 0; keep < 2; keep++) {
        check_nested(COP_JOIN_REPREFILL, keep, false);
        check_nested(COP_JOIN_REPREFILL, keep, true);
        check_nested(COP_JOIN_STITCH, keep, false);
    }
}

/* A refused block is text, and so are its paths; a block inside one of these is taken, and its
 * paths end where their own tags stand. */
static void test_a_block_inside_a_refused_one(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_dialect d = live_world_dialect(&w);
    d.max_paths = 2;
    cop_metrics m;
#define OUTER                                                                                      \
    "<Parallel><Goal><Outline>1: a</Outline><Outline>2: b</Outline><Outline>3: c</Outline></Goal>" \
    "<Path>1: x</Path><Path>2: <Parallel><Goal><Outline>y</Outline></Goal>"
    cop_script script[] = {live_world_say(&w, "", OUTER "z</Conclusion></Parallel></Path>$"),
                           live_world_say(&w, "1", " in</Path>")};
    cop_live *live = run(&w, &d, script, 2, (cop_live_options){0}, &m);
    check_text(live,
               OUTER "\n<Path>\n1: in</Path>\n<Conclusion>\nz</Conclusion></Parallel></Path>");
    CHECK_EQ(cop_live_sample_read(live, 0).forks, 1);
    CHECK_EQ(cop_live_sample_read(live, 0).forks_refused, 1);
    CHECK_EQ(cop_live_path_read(live, 0).stop, COP_STOP_END);
    cop_live_destroy(live);
    live_world_close(&w);
}

int main(void) {
    RUN(test_replies_begin_at_the_first_of_their_texts);
    RUN(test_a_spawned_child_sees_its_own_context_alone);
    RUN(test_a_spawned_child_is_a_fresh_problem);
    RUN(test_children_may_be_longer_than_their_parent_has_room);
    RUN(test_a_child_that_fills_its_context_ends_alone);
    RUN(test_items_that_straddle_tokens_head_their_paths);
    RUN(test_an_empty_item_and_a_second_block);
    RUN(test_refused_forks_end_the_run_or_decode_on);
    RUN(test_a_flood_of_items_is_refused);
    RUN(test_a_path_ends_at_its_limit_as_its_dialect_says);
    RUN(test_join_policies_of_message);
    RUN(test_join_policies_of_reprefill);
    RUN(test_join_policies_of_stitch);
    RUN(test_a_budget_ends_paths_and_not_the_conclusion);
    RUN(test_confidence_cancels_paths_when_the_window_is_full);
    RUN(test_a_block_that_lost_every_path_and_adds_nothing_ends_the_sample);
    RUN(test_reuse_leaves_a_row_to_go_on_from);
    RUN(test_a_cancelled_path_that_waits_takes_its_block_with_it);
    RUN(test_a_block_inside_a_refused_one);
    return check_report();
}
