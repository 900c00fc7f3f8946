/* Rules in live decoding: what they are told and that they are obeyed, on samples and on paths;
 * probes; hidden states. */
#include "live_world.h"
#include "reason/rules/deepconf.h"
#include "reason/rules/dynasor.h"
#include "reason/rules/parallel_probe.h"
#include "reason/rules/policy.h"
#include "reason/rules/rule_internal.h"
#include "reason/rules/samples.h"

#define PLAN3                                                                                      \
    "<Parallel><Goal><Outline>1: a</Outline><Outline>2: b</Outline><Outline>3: c</Outline>"

static cop_dialect plain_dialect(void) {
    cop_dialect plain = {.name = "plain", .join = COP_JOIN_NONE, .prompt = "{problem}"};
    for (int e = 0; e < COP_EL_COUNT; e++)
        plain.open[e].text = plain.close[e].text = "";
    return plain;
}

/* A join policy as a rule does what the driver's own join policy does: text, stops, cost. */
static void test_a_policy_over_paths_equals_the_drivers_own(void) {
    static const struct {
        cop_join_policy own;
        cop_policy_options rule;
    } cases[] = {
        {{.quorum = 1}, {.quorum = 1}},
        {{.quorum = 2, .keep_partial = true}, {.quorum = 2, .keep_partial = true}},
        {{.deadline_tokens = 4}, {.deadline_tokens = 4}},
        {{.deadline_tokens = 4, .keep_partial = true},
         {.deadline_tokens = 4, .keep_partial = true}},
    };
    world w = live_world_open("multiverse", 64, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        live_text texts[2];
        cop_metrics m[2];
        cop_stop stops[2][6]; /* of two blocks */
        for (int by_rule = 0; by_rule < 2; by_rule++) {
            cop_script script[] = {
                live_world_say(&w, "",
                               "Hi" PLAN3 "</Goal>mid.</Conclusion></Parallel>" PLAN3
                               "</Goal>end.</Conclusion></Parallel>$"),
                live_world_say(&w, "1", " longest of all</Path>"),
                live_world_say(&w, "2", " x</Path>"), live_world_say(&w, "3", " middle</Path>")};
            cop_live_options options = {.script = script, .n_script = 4};
            if (by_rule)
                CHECK_OK(cop_policy_create(&(cop_rule_limits){.max_branches = 24}, &cases[i].rule,
                                           &options.rule));
            else
                options.join_policy = cases[i].own;
            cop_live *live = live_world_run(&w, &options, &m[by_rule]);
            texts[by_rule] = live_world_read(live);
            CHECK_EQ(cop_live_path_count(live), 6);
            for (uint32_t p = 0; p < 6; p++)
                stops[by_rule][p] = cop_live_path_read(live, p).stop;
            if (by_rule) {
                cop_rule_stats stats = cop_rule_stats_of(options.rule);
                CHECK_EQ(stats.opened, 6);
                CHECK(stats.pruned > 0 && stats.tokens_pruned > 0);
            }
            cop_live_destroy(live);
            cop_rule_destroy(options.rule);
        }
        CHECK_TEXT(texts[1].text, texts[0].text);
        CHECK(memcmp(stops[0], stops[1], sizeof stops[0]) == 0);
        CHECK_EQ(m[1].tokens_total, m[0].tokens_total);
    }
    live_world_close(&w);
}

/* A ratio is one of the whole block, also when a path ends with its first token. */
static void test_a_ratio_counts_the_whole_block(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_script script[] = {live_world_say(&w, "", "Hi" PLAN3 "</Goal>end.</Conclusion>$"),
                           live_world_say(&w, "1", "$"), live_world_say(&w, "2", " x</Path>"),
                           live_world_say(&w, "3", " middle of it</Path>")};
    cop_live_options options = {.script = script, .n_script = 4};
    CHECK_OK(cop_policy_create(&(cop_rule_limits){.max_branches = 24},
                               &(cop_policy_options){.quorum_ratio = 0.5}, &options.rule));
    cop_metrics m;
    cop_live *live = live_world_run(&w, &options, &m);
    static const cop_stop stops[] = {COP_STOP_END, COP_STOP_END, COP_STOP_CANCELLED};
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(cop_live_path_read(live, i).stop, stops[i]);
    cop_live_destroy(live);
    cop_rule_destroy(options.rule);
    live_world_close(&w);
}

/* A rule that only watches changes nothing: the same bits with and without it. */
static void test_a_rule_that_watches_changes_nothing(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_dialect plain = plain_dialect();
    int32_t ids[2][40];
    for (int ruled = 0; ruled < 2; ruled++) {
        cop_live_options options = {
            .dialect = &plain, .n_samples = 3, .max_tokens = 40, .temperature = 1};
        if (ruled)
            CHECK_OK(cop_samples_create(&(cop_rule_limits){.max_branches = 3, .max_tokens = 40},
                                        &(cop_samples_options){.kind = COP_SAMPLES_BEST_OF, .n = 3},
                                        &options.rule));
        cop_metrics m;
        cop_live *live = live_world_run(&w, &options, &m);
        cop_live_sample sample = cop_live_sample_read(live, 2);
        CHECK(sample.n_ids <= 40);
        memset(ids[ruled], 0, sizeof ids[ruled]);
        memcpy(ids[ruled], sample.ids, sample.n_ids * sizeof *sample.ids);
        if (ruled) { /* the mean log-probability is the one that the driver knows */
            double mean = sample.logprob_sum / sample.generated;
            CHECK(fabs(cop_rule_score(options.rule, 2) - mean) < 1e-9);
        }
        cop_live_destroy(live);
        cop_rule_destroy(options.rule);
    }
    CHECK(memcmp(ids[0], ids[1], sizeof ids[0]) == 0);
    live_world_close(&w);
}

static void test_a_budget_stops_all_samples(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_dialect plain = plain_dialect();
    cop_script script[] = {live_world_say(&w, "", "a text that does not end soon, nor ever$")};
    cop_live_options options = {
        .dialect = &plain, .n_samples = 4, .max_tokens = 40, .script = script, .n_script = 1};
    CHECK_OK(cop_policy_create(&(cop_rule_limits){.max_branches = 4},
                               &(cop_policy_options){.budget_tokens = 22}, &options.rule));
    cop_metrics m;
    cop_live *live = live_world_run(&w, &options, &m);
    uint32_t generated = 0;
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(cop_live_sample_read(live, i).stop, COP_STOP_CANCELLED);
        generated += cop_live_sample_read(live, i).generated;
    }
    CHECK_EQ(generated, 22);
    CHECK_EQ(cop_rule_stats_of(options.rule).tokens_pruned, 22);
    cop_live_destroy(live);
    cop_rule_destroy(options.rule);
    live_world_close(&w);
}

/* DeepConf in two waves: warm-up first, more than it lets run is refused. */
static void test_deepconf_runs_in_waves(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_dialect plain = plain_dialect();
    cop_rule *rule;
    CHECK_OK(cop_deepconf_create(&(cop_rule_limits){.max_branches = 12, .max_tokens = 60},
                                 &(cop_deepconf_options){.window = 4,
                                                         .warmup = 4,
                                                         .budget = 12,
                                                         .keep_percent = 10,
                                                         .vote = COP_DEEPCONF_VOTE_MAJORITY},
                                 &rule));
    cop_live_options options = {.dialect = &plain,
                                .tokenizer = w.tokenizer,
                                .prompt = live_world_prompt,
                                .n_prompt = 4,
                                .n_samples = 12,
                                .max_tokens = 60,
                                .max_branches = 24,
                                .temperature = 1,
                                .top_p = 1,
                                .rule = rule};
    cop_live *refused = NULL;
    CHECK_STATUS(cop_live_create(&options, &refused), COP_ERR_USAGE);
    CHECK_MESSAGE("lets 4 samples run now, and 12 were asked for");
    cop_metrics m;
    options.n_samples = 4;
    cop_live *live = live_world_run(&w, &options, &m);
    cop_live_destroy(live);
    CHECK(!isnan(cop_deepconf_threshold(rule)));
    CHECK_EQ(cop_rule_may_open(rule), 8);
    options.n_samples = 8;
    options.first_sample = 4;
    live = live_world_run(&w, &options, &m);
    uint32_t pruned = 0;
    for (uint32_t i = 0; i < 8; i++) {
        cop_live_sample sample = cop_live_sample_read(live, i);
        pruned += sample.stop == COP_STOP_CONFIDENCE;
        CHECK(sample.stop != COP_STOP_CONFIDENCE || sample.generated >= 4); /* a full window */
        CHECK(cop_rule_score(rule, 4 + i) > 0);
    }
    CHECK(pruned > 0);
    CHECK_EQ(cop_rule_stats_of(rule).pruned, pruned);
    cop_live_destroy(live);
    cop_rule_destroy(rule);
    live_world_close(&w);
}

static cop_rule *make_dynasor(bool client, uint32_t k, uint32_t chunk) {
    cop_rule *rule;
    CHECK_OK(cop_dynasor_create(
        &(cop_rule_limits){.max_branches = 24, .max_tokens = 400},
        &(cop_dynasor_options){.mode = client ? COP_DYNASOR_CLIENT : COP_DYNASOR_SERVER,
                               .k = k,
                               .chunk = chunk,
                               .agree = !client,
                               .heeds_end = !client,
                               .suffix = " So {",
                               .probe_tokens = 5},
        &rule));
    return rule;
}

/* Probes answer beside the text, which goes on as if nothing had been asked; what they say ends it
 * when it is certain. The client's lag: its second equal answer, asked at 4 tokens, counts at 8. */
static void test_probes_end_a_sample(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_dialect plain = plain_dialect();
    for (int client = 0; client < 2; client++) {
        cop_script script[] = {live_world_say(&w, "", "one two three four five six seven$"),
                               live_world_say(&w, "?", "42} .")};
        cop_live_options options = {.dialect = &plain,
                                    .n_samples = 2,
                                    .script = script,
                                    .n_script = 2,
                                    .rule = make_dynasor(client, 2, 4)};
        cop_metrics m;
        cop_live *live = live_world_run(&w, &options, &m);
        for (uint32_t i = 0; i < 2; i++) {
            cop_live_sample sample = cop_live_sample_read(live, i);
            live_text text = live_world_text(sample.text, sample.bytes);
            CHECK_TEXT(text.text,
                       client ? "one two \n\n...</think>\n Oh, I have got the answer to the whole "
                                "problem\n**Final Answer:**\n\\[\n \\boxed{42}\n\\]"
                              : "one two  So {42} \\]");
            CHECK_EQ(sample.stop, COP_STOP_END);
            CHECK_EQ(sample.generated, 8);
        }
        cop_rule_stats stats = cop_rule_stats_of(options.rule);
        CHECK_EQ(stats.tokens, 16);
        CHECK_EQ(stats.probes_asked, 4);
        CHECK_EQ(stats.tokens_probe, 4 * 5);
        CHECK_EQ(stats.tokens_given, 4 * 5);
        CHECK_EQ(m.tokens_total, 16 + 20); /* probes cost */
        const char *answer;
        size_t bytes;
        CHECK(cop_rule_answer(options.rule, &answer, &bytes) && bytes == 2 && answer[0] == '4');
        cop_live_destroy(live);
        cop_rule_destroy(options.rule);
    }
    live_world_close(&w);
}

/* A probe that is never sure leaves the text as it would have been, up to rounding of another
 * segmentation: the scripted text is whole. */
static void test_probes_leave_the_text_alone(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_dialect plain = plain_dialect();
    cop_script script[] = {live_world_say(&w, "", "one two three four five six seven$"),
                           live_world_say(&w, "?", "hm wait")};
    cop_live_options options = {.dialect = &plain,
                                .n_samples = 3,
                                .script = script,
                                .n_script = 2,
                                .rule = make_dynasor(true, 2, 4)};
    cop_metrics m;
    cop_live *live = live_world_run(&w, &options, &m);
    for (uint32_t i = 0; i < 3; i++) {
        cop_live_sample sample = cop_live_sample_read(live, i);
        CHECK_TEXT(live_world_text(sample.text, sample.bytes).text,
                   "one two three four five six seven");
        CHECK_EQ(sample.stop, COP_STOP_END);
    }
    /* At 0, 4, .. 32 of 33 characters and an end. */
    CHECK_EQ(cop_rule_stats_of(options.rule).probes_asked, 3 * 9);
    CHECK_EQ(cop_rule_stats_of(options.rule).tokens_probe, 3 * 9 * 5);
    CHECK_EQ(m.tokens_reprefilled, 3 * 8); /* the first one stands beside its sample */
    cop_live_destroy(live);
    cop_rule_destroy(options.rule);
    live_world_close(&w);
}

/* Paths are probed where the dialect forks; one that is sure ends, and its block joins. */
static void test_probes_of_paths(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_script script[] = {
        live_world_say(&w, "", "Hi" PLAN3 "</Goal>end.</Conclusion></Parallel>$"),
        live_world_say(&w, "1", " one that goes on and on</Path>"),
        live_world_say(&w, "2", " x</Path>"),
        live_world_say(&w, "3", " another that goes on</Path>"), live_world_say(&w, "?", "7}...")};
    cop_live_options options = {.script = script, .n_script = 5, .rule = make_dynasor(false, 2, 6)};
    cop_metrics m;
    cop_live *live = live_world_run(&w, &options, &m);
    CHECK_TEXT(live_world_read(live).text,
               "Hi" PLAN3
               "</Goal>\n<Path>\n1: one that go So {7} \\]\n<Path>\n2: x</Path>\n<Path>\n"
               "3: another tha So {7} \\]\n<Conclusion>\nend.</Conclusion></Parallel>");
    CHECK_EQ(cop_live_path_read(live, 0).stop, COP_STOP_END);
    CHECK_EQ(cop_rule_stats_of(options.rule).finished, 2);
    CHECK_EQ(m.joins, 1 + cop_rule_stats_of(options.rule).probes_asked);
    cop_live_destroy(live);
    cop_rule_destroy(options.rule);
    live_world_close(&w);
}

static void test_consensus_over_samples(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_dialect plain = plain_dialect();
    cop_script script[] = {live_world_say(&w, "", "one two three four five six seven$"),
                           live_world_say(&w, "?", "7}...")};
    cop_live_options options = {.dialect = &plain, .n_samples = 3, .script = script, .n_script = 2};
    CHECK_OK(cop_parallel_probe_create(
        &(cop_rule_limits){.max_branches = 3},
        &(cop_parallel_probe_options){
            .probe = {.every = 3, .suffix = "So {", .probe_tokens = 3, .boxed = true},
            .patience = 2,
            .prune_patience = 2,
            .warmup = 1,
            .max_steps = 9},
        &options.rule));
    cop_metrics m;
    cop_live *live = live_world_run(&w, &options, &m);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(cop_live_sample_read(live, i).stop, COP_STOP_CANCELLED);
        CHECK_EQ(cop_live_sample_read(live, i).generated, 12); /* 4 rounds: 3 equal winners */
    }
    const char *answer;
    size_t bytes;
    CHECK(cop_rule_answer(options.rule, &answer, &bytes) && bytes == 1 && answer[0] == '7');
    cop_live_destroy(live);
    cop_rule_destroy(options.rule);
    live_world_close(&w);
}

/* A rule of the test's own, that reads hidden states: what they say of the next token is what was
 * sampled from them, for logits are their products with the embedding. */
typedef struct reader {
    cop_rule rule;
    float hidden[32];
    bool has;
    const cop_tensor *embed;
    uint32_t checked;
} reader;

static void reader_token(cop_rule *rule, const cop_rule_token *token) {
    reader *r = (reader *)rule;
    if (r->has) {
        double logit[2] = {0};
        for (int j = 0; j < 2; j++) {
            const float *row = (const float *)r->embed->data + token->top_token[j * 5] * 32;
            for (int i = 0; i < 32; i++)
                logit[j] += (double)row[i] * r->hidden[i];
        }
        double said = (double)token->top_logprob[0] - token->top_logprob[5];
        CHECK(fabs(logit[0] - logit[1] - said) < 1e-3);
        r->checked++;
    }
    r->has = false;
    rule->branches[token->branch].wants_hidden = rule->branches[token->branch].tokens % 3 == 0;
}

static cop_status reader_hidden(cop_rule *rule, uint32_t branch, const float *hidden) {
    reader *r = (reader *)rule;
    (void)branch;
    memcpy(r->hidden, hidden, sizeof r->hidden);
    r->has = true;
    return COP_OK;
}

static void test_hidden_states_are_those_of_the_token(void) {
    static const cop__rule_ops ops = {
        .name = "reader", .token = reader_token, .hidden = reader_hidden};
    world w = live_world_open("multiverse", 64, 4096);
    cop_dialect plain = plain_dialect();
    reader *r = NULL;
    CHECK_OK(cop__rule_create(&ops, sizeof *r, &(cop_rule_limits){.max_branches = 1}, 1, &r));
    r->rule.needs.hidden = 32;
    r->embed = cop_model_tensor(w.model, COP_W_OUTPUT, 0);
    CHECK_EQ(r->embed->type, COP_F32);
    cop_live_options options = {.dialect = &plain, .max_tokens = 60, .temperature = 1};
    options.rule = &r->rule;
    cop_metrics m;
    cop_live *live = live_world_run(&w, &options, &m);
    uint32_t n = cop_live_sample_read(live, 0).generated;
    CHECK(r->checked >= 3 && r->checked == (n - 1) / 3);
    CHECK_EQ(cop_rule_stats_of(&r->rule).hidden_states, r->checked);
    cop_live_destroy(live);
    cop_rule_destroy(&r->rule);
    live_world_close(&w);
}

/* Over samples of a dialect that forks: what paths say is their sample's, and samples are ended. */
static void test_rules_over_samples_that_fork(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_dialect d = live_world_dialect(&w);
    d.answer_after = (cop_tag){"Answer:", 7};
    for (int cut = 0; cut < 2; cut++) {
        cop_script script[] = {
            live_world_say(&w, "", "Hi" PLAN3 "</Goal>end.</Conclusion></Parallel> Answer:12$"),
            live_world_say(&w, "1", " one</Path>"), live_world_say(&w, "2", " x</Path>"),
            live_world_say(&w, "3", " three</Path>")};
        cop_live_options options = {.dialect = &d,
                                    .n_samples = 2,
                                    .script = script,
                                    .n_script = 4,
                                    .rule_over_samples = true};
        uint64_t budget = 2 * strlen("Hi" PLAN3 "</Goal>") + 13; /* within the paths */
        if (cut)
            CHECK_OK(cop_policy_create(&(cop_rule_limits){.max_branches = 24},
                                       &(cop_policy_options){.budget_tokens = budget},
                                       &options.rule));
        else
            CHECK_OK(cop_samples_create(
                &(cop_rule_limits){.max_branches = 24},
                &(cop_samples_options){.kind = COP_SAMPLES_SELF_CONSISTENCY, .n = 2},
                &options.rule));
        cop_metrics m;
        cop_live *live = live_world_run(&w, &options, &m);
        uint32_t generated = 0;
        for (uint32_t i = 0; i < 2; i++) {
            cop_live_sample sample = cop_live_sample_read(live, i);
            CHECK_EQ(sample.stop, cut ? COP_STOP_CANCELLED : COP_STOP_END);
            generated += sample.generated;
        }
        cop_rule_stats stats = cop_rule_stats_of(options.rule);
        CHECK_EQ(stats.opened, 2);
        CHECK_EQ(stats.tokens, generated);
        const char *text;
        size_t bytes;
        if (cut)
            CHECK_EQ(generated, budget);
        else
            CHECK(cop_rule_answer(options.rule, &text, &bytes) && bytes == 2 &&
                  memcmp(text, "12", 2) == 0);
        cop_live_destroy(live);
        cop_rule_destroy(options.rule);
    }
    live_world_close(&w);
}

/* Where the dialect names no answer, the last box is one. */
static void test_boxes_are_answers(void) {
    static const char text[] = "x \\boxed{1} no: \\boxed{1{2}} yes}";
    world w = live_world_open("multiverse", 64, 4096);
    cop_dialect plain = plain_dialect();
    int32_t ids[sizeof text];
    for (size_t i = 0; i + 1 < sizeof text; i++)
        ids[i] = (unsigned char)text[i];
    ids[sizeof text - 1] = cop_tokenizer_find_special(w.tokenizer, "<|end|>", 7);
    cop_script script = {"", ids, sizeof text};
    cop_live_options options = {.dialect = &plain, .script = &script, .n_script = 1};
    CHECK_OK(cop_samples_create(&(cop_rule_limits){.max_branches = 1},
                                &(cop_samples_options){.kind = COP_SAMPLES_SEQUENTIAL, .n = 1},
                                &options.rule));
    cop_metrics m;
    cop_live *live = live_world_create(&w, &options);
    live_world_step(&w, live, &m);
    const char *answer;
    size_t bytes;
    CHECK(cop_rule_answer(options.rule, &answer, &bytes) && bytes == 4 &&
          memcmp(answer, "1{2}", 4) == 0);
    cop_live_destroy(live);
    cop_rule_destroy(options.rule);
    live_world_close(&w);
}

/* A rule of the test's own that gives up its youngest, and a driver that asks it at its 9th token.
 */
static uint32_t youngest(const cop_rule *rule) {
    for (uint32_t i = rule->n_branches; i-- > 0;) {
        if (cop__rule_is_live(rule, i))
            return i;
    }
    return COP_RULE_NONE;
}

static cop_status (*taken)(cop_driver *, cop_engine *, cop_branch, const cop_sample *);
static cop_live *under_pressure;
static uint32_t n_taken, n_pruned;

static cop_status take_and_press(cop_driver *driver, cop_engine *engine, cop_branch branch,
                                 const cop_sample *sample) {
    bool pruned = false;
    COP_TRY(taken(driver, engine, branch, sample));
    if (++n_taken == 9)
        COP_TRY(cop_live_prune_victim(under_pressure, engine, &pruned));
    n_pruned += pruned;
    return COP_OK;
}

static void test_a_victim_is_given_up(void) {
    static const cop__rule_ops ops = {.name = "youngest", .victim = youngest};
    world w = live_world_open("multiverse", 64, 4096);
    cop_dialect plain = plain_dialect();
    cop_script script[] = {live_world_say(&w, "", "a text of some length$")};
    cop_live_options options = {.dialect = &plain, .n_samples = 3, .script = script, .n_script = 1};
    CHECK_OK(cop__rule_create(&ops, sizeof(cop_rule), &(cop_rule_limits){.max_branches = 3}, 1,
                              &options.rule));
    cop_metrics m;
    under_pressure = live_world_create(&w, &options);
    cop_driver *driver = cop_live_driver(under_pressure);
    taken = driver->token;
    driver->token = take_and_press;
    live_world_step(&w, under_pressure, &m);
    CHECK_EQ(n_pruned, 1);
    CHECK_EQ(cop_live_sample_read(under_pressure, 0).stop, COP_STOP_END);
    CHECK_EQ(cop_live_sample_read(under_pressure, 2).stop, COP_STOP_CANCELLED);
    CHECK_EQ(cop_live_sample_read(under_pressure, 2).generated, 3);
    CHECK_EQ(cop_rule_stats_of(options.rule).tokens_pruned, 3);
    live_world_free(script, 1);
    cop_live_destroy(under_pressure);
    cop_rule_destroy(options.rule);
    live_world_close(&w);
}

static void test_what_cannot_run_live_is_refused(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_dialect plain = plain_dialect();
    cop_live_options options = {.dialect = &plain,
                                .tokenizer = w.tokenizer,
                                .prompt = live_world_prompt,
                                .n_prompt = 4,
                                .n_samples = 1,
                                .max_tokens = 10,
                                .top_p = 1};
    cop_live *live = NULL;
    CHECK_OK(cop_dynasor_create(
        &(cop_rule_limits){.max_branches = 4},
        &(cop_dynasor_options){
            .mode = COP_DYNASOR_SERVER, .k = 1, .chunk = 4, .suffix = "?", .probe_tokens = 4},
        &options.rule));
    CHECK_STATUS(cop_live_create(&options, &live), COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("past the model's end of text");
    cop_rule_destroy(options.rule);
    options.rule = make_dynasor(true, 1, 4);
    options.tokenizer = NULL;
    CHECK_STATUS(cop_live_create(&options, &live), COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("no tokenizer");
    cop_rule_destroy(options.rule);
    CHECK(!live);
    live_world_close(&w);
}

int main(void) {
    RUN(test_a_policy_over_paths_equals_the_drivers_own);
    RUN(test_a_ratio_counts_the_whole_block);
    RUN(test_a_rule_that_watches_changes_nothing);
    RUN(test_a_budget_stops_all_samples);
    RUN(test_deepconf_runs_in_waves);
    RUN(test_probes_end_a_sample);
    RUN(test_probes_leave_the_text_alone);
    RUN(test_probes_of_paths);
    RUN(test_consensus_over_samples);
    RUN(test_hidden_states_are_those_of_the_token);
    RUN(test_rules_over_samples_that_fork);
    RUN(test_boxes_are_answers);
    RUN(test_a_victim_is_given_up);
    RUN(test_what_cannot_run_live_is_refused);
    return check_report();
}
