/* Controllers where something runs out: the KV pool, what a rule can hold, what it can go on from.
 */
#include "controller_world.h"
#include "reason/rules/skeleton.h"

/* ---- pressure, the prefix store, and several problems at once ---- */

enum { PROBLEMS = 4 };

typedef struct digest { /* of all that the problems said */
    uint64_t said, heard[PROBLEMS];
    double logprobs;
} digest;

/* Each call's events in their order, whatever others say between them. */
static void hear(void *context, const cop_live_event *event) {
    uint64_t h =
        cop_rng_fold(live_world_hash(event->kind, event->path, strlen(event->path)), event->block);
    h = live_world_hash(h, event->text ? event->text : "", event->text ? event->bytes : 0);
    *(uint64_t *)context += cop_rng_fold(h, event->stop);
}

typedef struct pool_case {
    cop_pressure pressure;
    uint32_t pages, prefix_block, at_once, n;
    const char *backend; /* NULL: cpu */
} pool_case;

static digest run_pool(const world *w, const pool_case *p, cop_metrics *m, uint64_t *longest) {
    static const char *const inputs[PROBLEMS] = {"first", "second", "third one", "4"};
    cop_engine *engine = make_engine(w->model, (cop_engine_options){.backend = p->backend,
                                                                    .pressure = p->pressure,
                                                                    .n_pages = p->pages,
                                                                    .prefix_block = p->prefix_block,
                                                                    .max_branches = 40});
    digest out = {0};
    cop_rule *rules[PROBLEMS];
    cop_controller *c[PROBLEMS];
    char before[200];
    memset(before, 'p', sizeof before);
    before[150] = '\0';
    for (uint32_t i = 0; i < p->n; i++) {
        rules[i] = votes_rule();
        c[i] = make(w, rules[i],
                    (cop_controller_options){.input = inputs[i],
                                             .input_bytes = strlen(inputs[i]),
                                             .problem_key = i,
                                             .before = before,
                                             .max_at_once = p->at_once,
                                             .listener = hear,
                                             .listener_context = &out.heard[i]});
    }
    run_all(engine, c, p->n, m);
    for (uint32_t i = 0; i < p->n; i++) {
        const cop_live_sample sample = cop_controller_read(c[i]);
        CHECK_EQ(sample.stop, COP_STOP_END);
        for (uint32_t k = 0; k < cop_controller_call_count(c[i]); k++) {
            const cop_controller_call call = cop_controller_call_read(c[i], k);
            const uint64_t tokens = call.n_prompt + call.path.n_ids - 1; /* the last is not fed */
            *longest = tokens > *longest ? tokens : *longest;
            out.said = live_world_hash(out.said, call.path.ids, call.path.n_ids * sizeof(int32_t));
        }
        out.said = live_world_hash(out.said, sample.text, sample.bytes);
        out.logprobs += sample.logprob_sum;
        CHECK_EQ(cop_rule_stats_of(rules[i]).tokens, sample.generated);
        cop_controller_destroy(c[i]);
        cop_rule_destroy(rules[i]);
    }
    cop_engine_destroy(engine);
    return out;
}

static void test_a_small_pool_changes_no_token(void) {
    world w = live_world_open("threadweaver-rl", 8, POSITIONS);
    cop_metrics m;
    uint64_t longest = 0, parked = 0, prefixed = 0, ahead = 0;
    const digest free_run =
        run_pool(&w, &(pool_case){COP_PRESSURE_FAIL, 2000, 0, 8, PROBLEMS}, &m, &longest);
    const uint64_t total = m.tokens_total, thread = m.tokens_longest_thread;
    const uint32_t exact = (uint32_t)((longest + 15) / 16);
    static const cop_pressure policies[] = {COP_PRESSURE_QUEUE, COP_PRESSURE_RECOMPUTE,
                                            COP_PRESSURE_FAIL};
    for (uint32_t i = 0; i < 24; i++) {
        const pool_case p = {.pressure = policies[i % 3],
                             .pages = i % 3 == 2 ? 2000 : exact + (i / 6) * 7,
                             .prefix_block = i % 2 ? 64 : 0,
                             .at_once = i % 5 ? 8 : 3,
                             .n = PROBLEMS,
                             .backend = i % 4 < 2 ? "cpu" : "cpu_ahead"};
        uint64_t same = 0;
        const digest tight = run_pool(&w, &p, &m, &same);
        CHECK_EQ(same, longest);
        CHECK_EQ(tight.said, free_run.said);
        CHECK(tight.logprobs == free_run.logprobs);
        CHECK(memcmp(tight.heard, free_run.heard, sizeof tight.heard) == 0);
        CHECK_EQ(m.tokens_total, total);
        CHECK_EQ(m.tokens_longest_thread, thread);
        CHECK(m.kv_pages_peak <= p.pages);
        ahead += m.rows_taken_back;
        parked += m.branches_parked;
        prefixed += m.prefix_hits;
        if (p.pressure == COP_PRESSURE_FAIL && p.prefix_block)
            CHECK(m.prefix_hits > 50 && m.tokens_prefix_reused == 64 * m.prefix_hits);
        if (p.pressure == COP_PRESSURE_FAIL)
            CHECK_EQ(m.branches_parked, 0);
    }
    CHECK(parked > 100 && prefixed > 200 && ahead > 100);
    live_world_close(&w);
}

static void test_prune_lowest_takes_replies_and_goes_on(void) {
    world w = live_world_open("threadweaver-rl", 8, POSITIONS);
    cop_metrics m;
    uint64_t longest = 0;
    const pool_case p = {COP_PRESSURE_PRUNE_LOWEST, 120, 0, 8, PROBLEMS};
    const digest one = run_pool(&w, &p, &m, &longest);
    CHECK(m.branches_shed > 0);
    CHECK_EQ(m.prunes, m.branches_shed);
    const digest again = run_pool(&w, &p, &m, &longest);
    CHECK_EQ(one.said, again.said);
    /* A round's last call stays: with one at a time nothing can go, and nothing does. */
    pool_case single = {COP_PRESSURE_PRUNE_LOWEST, 60, 0, 1, PROBLEMS};
    const digest kept = run_pool(&w, &single, &m, &longest);
    CHECK(m.branches_shed == 0 && m.branches_parked > 0);
    single.pages = 2000;
    CHECK_EQ(run_pool(&w, &single, &m, &longest).said, kept.said);
    live_world_close(&w);
}

/* Dozens of rounds leave nothing behind that the next ones would run out of. */
static void test_rounds_do_not_pile_up(void) {
    world w = live_world_open("threadweaver-rl", 8, POSITIONS);
    ruled r = open_rule("mcts-uct");
    cop_engine *engine = make_engine(
        w.model, (cop_engine_options){.n_pages = 300, .max_branches = 6, .max_segments = 12});
    cop_controller *c =
        make(&w, r.rule, (cop_controller_options){.max_at_once = 4, .max_tokens = 4});
    cop_metrics m;
    run_all(engine, &c, 1, &m);
    CHECK(cop_controller_read(c).steps > 30);
    CHECK_EQ(m.joins, cop_controller_read(c).steps);
    cop_controller_destroy(c);
    cop_engine_destroy(engine);
    close_rule(&r);
    live_world_close(&w);
}

/* ---- what a rule cannot go on from ---- */

static cop_rule *failing_rule(uint32_t kind) {
    cop_rule *rule = NULL;
    const cop_rule_limits few = {.max_branches = 4, .max_tokens = TOKENS};
    if (kind <= 1)
        CHECK_OK(cop_skeleton_create(kind ? &few : &limits,
                                     &(cop_skeleton_options){.outline_prompt = "Plan {request}",
                                                             .point_prompt = "Write {point}",
                                                             .no_points_fails = true,
                                                             .temperature = -1,
                                                             .max_text_bytes = 4096},
                                     &rule));
    else if (kind == 2)
        CHECK_OK(cop_thoughts_create(&limits,
                                     &(cop_thoughts_options){.search = COP_THOUGHTS_BFS,
                                                             .generate_prompt = "Go",
                                                             .evaluate_prompt = "Good? {state}",
                                                             .sample_select = true,
                                                             .steps = 1,
                                                             .n_generate = 2,
                                                             .n_evaluate = 1,
                                                             .n_select = 1,
                                                             .values = {{"sure", 1}},
                                                             .n_values = 1,
                                                             .temperature = -1,
                                                             .max_states = 8,
                                                             .max_text_bytes = 4096},
                                     &rule));
    else
        CHECK_OK(
            cop_skeleton_create(&limits,
                                &(cop_skeleton_options){.outline_prompt = "Plan {request}",
                                                        .point_prompt = "Write {point}",
                                                        .temperature = -1,
                                                        .max_text_bytes = kind == 3 ? 90 : 104},
                                &rule));
    return rule;
}

/* Beside another problem, which says what it says alone. */
static void test_a_rule_that_cannot_go_on_ends_its_problem_alone(void) {
    static const struct {
        const char *said, *message;
        cop_status status;
        uint32_t calls;
    } cases[] = {{"nothing$", "has no points", COP_ERR_FORMAT, 1},
                 {"1.a\n2.b\n3.c\n4.d$", "more than 3 points", COP_ERR_NO_ROOM, 1},
                 {"x$", "are worth 0", COP_ERR_NONFINITE, 4},
                 {"1.aaaaaaaaaaaaaaaaaaaaaaaaaaaa\n2.b$", "max_text_bytes", COP_ERR_NO_ROOM, 1},
                 {"1.aaaaaaaaaaaaaaaaaaaaaaaaaaaa\n2.b$", "max_text_bytes", COP_ERR_NO_ROOM, 3},
                 {NULL, "max_text_bytes", COP_ERR_NO_ROOM, 0}}; /* the problem itself */
    world w = live_world_open("threadweaver-rl", 8, POSITIONS);
    cop_engine *engine = make_engine(w.model, (cop_engine_options){0});
    cop_rule *beside = votes_rule();
    cop_metrics m;
    uint64_t alone = 0;
    for (uint32_t i = 0; i < 7; i++) {
        const uint32_t kind = i - 1;
        cop_script script[] = {
            live_world_say(&w, "1.1", i && cases[kind].said ? cases[kind].said : "$"),
            live_world_say(&w, "1.2", "y$"), live_world_say(&w, "2.1", "no$"),
            live_world_say(&w, "2.2", "no, and no, and again no$")};
        char input[200] = "Why?";
        if (i == 6)
            memset(input, 'w', 199);
        cop_rule *rule = i ? failing_rule(kind) : NULL;
        cop_controller *c[] = {make(&w, beside, (cop_controller_options){.problem_key = 3}),
                               i ? make(&w, rule,
                                        (cop_controller_options){.input = input,
                                                                 .input_bytes = strlen(input),
                                                                 .script = script,
                                                                 .n_script = 4})
                                 : NULL};
        run_all(engine, c, i ? 2 : 1, &m);
        uint64_t said = 0;
        for (uint32_t k = 0; k < cop_controller_call_count(c[0]); k++) {
            const cop_live_path path = cop_controller_call_read(c[0], k).path;
            said = live_world_hash(said, path.ids, path.n_ids * sizeof *path.ids);
        }
        alone = i ? alone : said;
        CHECK_EQ(said, alone);
        CHECK_EQ(cop_controller_read(c[0]).stop, COP_STOP_END);
        if (i) {
            const char *message;
            CHECK_EQ(cop_controller_error(c[1], &message), cases[kind].status);
            CHECK(strstr(message, cases[kind].message));
            const cop_live_sample sample = cop_controller_read(c[1]);
            CHECK_EQ(sample.stop, COP_STOP_RULE);
            CHECK_TEXT(cop_stop_name(sample.stop), "rule");
            CHECK_EQ(sample.bytes, 0);
            CHECK_EQ(sample.paths, cases[kind].calls);
            CHECK_EQ(sample.paths_ended, cases[kind].calls);
            CHECK_EQ(sample.paths_cancelled, kind == 4); /* the other point was still said */
        }
        /* The next problem of the same driver is no worse for it. */
        if (i == 1) {
            cop_driver *driver = cop_controller_driver(c[1]);
            CHECK_OK(cop_controller_reset(c[1], "Why?", 4, 0));
            CHECK_OK(cop_engine_run(engine, &driver, 1, &m));
            CHECK_EQ(cop_controller_call_count(c[1]), 1);
        }
        cop_controller_destroy(c[0]);
        cop_controller_destroy(c[1]);
        cop_rule_destroy(rule);
        live_world_free(script, 4);
    }
    cop_rule_destroy(beside);
    cop_engine_destroy(engine);
    live_world_close(&w);
}

static void test_what_is_no_controller_is_refused(void) {
    world w = live_world_open("threadweaver-rl", 8, POSITIONS);
    ruled r = open_rule("race");
    cop_controller *c;
    cop_controller_options options = {.rule = r.rule,
                                      .tokenizer = w.tokenizer,
                                      .input = "",
                                      .max_at_once = 1,
                                      .max_tokens = 1,
                                      .max_positions = 9};
    CHECK_STATUS(cop_controller_create(&options, &c), COP_ERR_USAGE);
    CHECK_MESSAGE("runs no prompts");
    close_rule(&r);
    r = open_rule("mcts-uct");
    options.rule = r.rule;
    options.tokenizer = NULL;
    CHECK_STATUS(cop_controller_create(&options, &c), COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("no tokenizer");
    options.tokenizer = w.tokenizer;
    options.max_at_once = 0;
    CHECK_STATUS(cop_controller_create(&options, &c), COP_ERR_USAGE);
    close_rule(&r);
    live_world_close(&w);
}

int main(void) {
    RUN(test_a_small_pool_changes_no_token);
    RUN(test_prune_lowest_takes_replies_and_goes_on);
    RUN(test_rounds_do_not_pile_up);
    RUN(test_a_rule_that_cannot_go_on_ends_its_problem_alone);
    RUN(test_what_is_no_controller_is_refused);
    return check_report();
}
