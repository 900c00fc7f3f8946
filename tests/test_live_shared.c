/* Paths that see each other, live: Hogwild!'s preset as eqimp/hogwild_llm@1a87a99d has it (lines
 * below are generation.py's where no file is named), and the rule with a dialect of tags. */
#include "dialect_edit.h"
#include "live_world.h"

#define HOGWILD_HEADER "\n\n### Work in progress (others)\n\n"
#define HOGWILD_TAIL "<...>\n\n"
#define HOGWILD_LAST                                                                               \
    "\n\nWait, given the limited time, I have to give an answer right now. Considering all my "    \
    "previous attempts, I have to conclude that the final answer is \\boxed{"
#define ALICE "**Alice [1]:** Hi, I'm Alice. Here's how we can"
#define BOB "**Bob [1]:** Hi, I'm Bob."
#define QUESTION "Quick check: am I doing redundant work? (yes/no): "

static world open_workers(const char *dialect) {
    live_world_steps = true;
    world w = live_world_open(dialect, 64, 4096);
    live_world_steps = false;
    return w;
}

/* Byte by byte, but "\n\n" is one token, as is "?\n\n\nX"; '$' is the end. */
static cop_script say(const world *w, const char *path, const char *text) {
    int32_t *ids = cop_calloc(strlen(text) + 1, sizeof *ids);
    uint32_t n = 0;
    for (const char *c = text; *c;) {
        static const char *const units[] = {"?\n\n\nX", "\n\n"};
        uint32_t u = 0;
        while (u < 2 && strncmp(c, units[u], strlen(units[u])) != 0)
            u++;
        if (*c == '$')
            ids[n++] = cop_tokenizer_find_special(w->tokenizer, "<|end|>", 7);
        else
            ids[n++] = u < 2 ? LIVE_WORLD_STEPS + 1 - (int32_t)u : (unsigned char)*c;
        c += u < 2 ? strlen(units[u]) : 1;
    }
    return (cop_script){path, ids, n};
}

static cop_live *run(const world *w, cop_script *script, uint32_t n, cop_live_options options,
                     cop_metrics *m) {
    options.script = script;
    options.n_script = n;
    return live_world_run(w, &options, m);
}

static void repeat(char *out, char c, uint32_t n) {
    memset(out, c, n);
    out[n] = '\0';
}

/* 103-122: a step ends, its text is the history's, and the worker begins the next one. 105-106: an
 * answer in it ends the run with this round; then nothing is asked for once more (139). */
static void test_an_answer_ends_the_run_with_its_round(void) {
    world w = open_workers("hogwild");
    cop_script script[] = {say(&w, "1", " go.\n\nIs \\boxed{5}.\n\nnever"),
                           say(&w, "2", " I wait and say more and more")};
    cop_metrics m;
    cop_live *live = run(&w, script, 2, (cop_live_options){0}, &m);
    const cop_live_sample sample = cop_live_sample_read(live, 0);
    const uint32_t rounds = 4 + 1 + 13 + 1; /* Alice's tokens up to her second step's end */
    char expected[1024];
    snprintf(expected, sizeof expected,
             ALICE " go.\n\n**Alice [2]:** Is \\boxed{5}.\n\n" HOGWILD_HEADER
                   "**Alice [3]:** " HOGWILD_TAIL BOB "%.*s" HOGWILD_TAIL,
             (int)rounds, " I wait and say more and more");
    CHECK_TEXT(live_world_read(live).text, expected);
    CHECK_EQ(sample.stop, COP_STOP_END);
    CHECK_EQ(sample.generated, 2 * rounds);
    CHECK_EQ(m.tokens_total, 2 * rounds);
    CHECK_EQ(m.tokens_reprefilled, 0);
    CHECK_EQ(m.forks, 1);
    /* 75, 91-93: begins run in one step, then a round is one step, whatever a worker is given. */
    CHECK_EQ(m.steps_forward, rounds);
    CHECK_EQ(cop_live_path_count(live), 2);
    CHECK_TEXT(live_world_path(live, 0).text,
               ALICE " go.\n\n**Alice [2]:** Is \\boxed{5}.\n\n**Alice [3]:** ");
    cop_live_destroy(live);
    live_world_close(&w);
}

/* Some number in braces that float() takes, up to the first brace that closes (formatting.py:94).
 */
static void test_what_counts_as_an_answer(void) {
    static const struct {
        const char *text;
        bool counts;
    } cases[] = {{"\\boxed{-1_0.5e3}", true}, {"\\boxed{ 7 }", true},
                 {"\\boxed{.5}", true},       {"\\boxed{inf}", true},
                 {"\\boxed{x}", false},       {"\\boxed{}", false},
                 {"\\boxed{1{2}}", false},    {"\\boxed{1} a \\boxed{y}", true},
                 {"\\boxed{1__0}", false},    {"\\boxed {1}", false}};
    world w = open_workers("hogwild");
    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s.\n\n", cases[i].text);
        cop_script script[] = {say(&w, "1", "b"), say(&w, "2", text)};
        cop_metrics m;
        cop_live *live = run(&w, script, 2, (cop_live_options){.max_tokens = 60}, &m);
        const bool early = cop_live_sample_read(live, 0).generated < 120;
        CHECK_EQ(early, cases[i].counts);
        cop_live_destroy(live);
    }
    live_world_close(&w);
}

/* formatting.py:80-85. */
static void test_what_ends_a_step(void) {
    static const struct {
        const char *text;
        uint32_t steps;
    } cases[] = {
        {"a.\n\nb", 2},        {"a\n\nb", 1},      {"a. \n\nb", 2}, {"a.\n\n\n\nb", 2},
        {"a?\n\n\nXb", 2},     {"a;?\n\n\nXb", 2}, {"\n\nb", 1},    {"a\xe2\x80\xa6\n\nb", 2},
        {".\n\n;\n\n!\n\n", 3}};
    world w = open_workers("hogwild");
    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cop_script script[] = {say(&w, "1", cases[i].text), say(&w, "2", "bbbbbbbbbbbb")};
        cop_metrics m;
        cop_live *live = run(&w, script, 2, (cop_live_options){.max_tokens = script[0].n}, &m);
        const live_text text = live_world_path(live, 0);
        uint32_t steps = 0;
        for (const char *at = text.text; (at = strstr(at, "**Alice [")); at++)
            steps++;
        CHECK_EQ(steps, cases[i].steps);
        cop_live_destroy(live);
    }
    live_world_close(&w);
}

/* 112-114: more than 256 tokens were taken in, by both together, since the last question. */
static void test_the_question_is_asked_now_and_then(void) {
    world w = open_workers("hogwild");
    for (uint32_t rounds = 129; rounds <= 130; rounds++) {
        char alice[200], bob[400];
        repeat(alice, 'a', rounds - 2);
        strcat(alice, ".\n\n");
        repeat(bob, 'b', rounds - 2);
        strcat(bob, ".\n\n");
        cop_script script[] = {say(&w, "1", alice), say(&w, "2", bob)};
        cop_metrics m;
        cop_live *live = run(&w, script, 2, (cop_live_options){.max_tokens = rounds}, &m);
        const bool asked = strstr(live_world_path(live, 0).text, "**Alice [2]:** " QUESTION);
        CHECK_EQ(asked, rounds == 130);
        /* Whoever asked first has reset the count for the other. */
        CHECK_EQ(strstr(live_world_path(live, 1).text, "**Bob [2]:** " QUESTION) != NULL,
                 rounds == 129);
        cop_live_destroy(live);
    }
    live_world_close(&w);
}

/* The sample's last n tokens are those of a plain greedy run over the prompt and the text. */
static void check_tail(const world *w, const cop_live_sample *sample, const char *text,
                       uint32_t n) {
    cop_token_ids ids = {0};
    CHECK_OK(
        cop_tokenizer_encode(w->tokenizer, "Go: ", 4, (cop_encode_options){.no_bos = true}, &ids));
    CHECK_OK(cop_tokenizer_encode(w->tokenizer, text, strlen(text),
                                  (cop_encode_options){.no_bos = true}, &ids));
    cop_dialect_file *plain;
    cop_metrics m;
    CHECK_OK(cop_dialect_load_named(".", "sequential", &plain));
    cop_live *live = live_world_run(w,
                                    &(cop_live_options){.dialect = cop_dialect_of(plain),
                                                        .prompt = ids.data,
                                                        .n_prompt = (uint32_t)ids.count,
                                                        .max_tokens = n},
                                    &m);
    const cop_live_sample again = cop_live_sample_read(live, 0);
    CHECK_EQ(again.n_ids, n);
    CHECK(memcmp(again.ids, sample->ids + sample->n_ids - n, n * sizeof *again.ids) == 0);
    cop_live_destroy(live);
    cop_dialect_close(plain);
    cop_token_ids_release(&ids);
}

/* 139-171: no answer yet: all is encoded and computed once more, and 16 greedy tokens follow. */
static void test_the_finisher(void) {
    world w = open_workers("hogwild");
    cop_script script[] = {say(&w, "1", " go.\n\nand so on"), say(&w, "2", " me too..")};
    cop_metrics m;
    cop_live *live = run(&w, script, 2, (cop_live_options){.max_tokens = 9, .temperature = 5}, &m);
    const cop_live_sample sample = cop_live_sample_read(live, 0);
    static const char text[] =
        ALICE " go.\n\n" HOGWILD_HEADER "**Alice [2]:** and " HOGWILD_TAIL BOB
              " me too.." HOGWILD_TAIL HOGWILD_LAST;
    CHECK(strncmp(live_world_read(live).text, text, sizeof text - 1) == 0);
    CHECK_EQ(sample.generated, 2 * 9 + 16);
    CHECK_EQ(sample.stop, COP_STOP_LIMIT);
    CHECK_EQ(m.tokens_reprefilled, m.tokens_prompt + sizeof text - 1); /* byte by byte */
    check_tail(&w, &sample, text, 16);
    cop_live_destroy(live);
    live_world_close(&w);
}

/* What one worker says reaches the other while both decode; under stitch it does not. */
static void test_workers_see_each_other(void) {
    world w = open_workers("hogwild");
    live_text alone[2];
    for (int i = 0; i < 2; i++) {
        cop_script script[] = {say(&w, "2", i ? "zzzzzzzzzzzzzzzz" : "aaaaaaaaaaaaaaaa")};
        cop_metrics m;
        cop_live *live =
            run(&w, script, 1, (cop_live_options){.max_tokens = 40, .temperature = 1}, &m);
        alone[i] = live_world_path(live, 0);
        CHECK(m.kv_load_bytes > m.kv_first_bytes); /* each loads the other's */
        cop_live_destroy(live);
    }
    CHECK(strcmp(alone[0].text, alone[1].text) != 0);
    live_world_close(&w);
}

/* formatting.py:59-61: '#' and ends are never said, at any temperature. */
static void test_what_workers_may_not_say(void) {
    world w = open_workers("hogwild");
    for (int forbids = 0; forbids < 2; forbids++) {
        cop_dialect d = live_world_dialect(&w);
        d.shared.finished = NULL;
        if (!forbids) {
            d.shared.n_forbidden = 0;
            d.shared.forbids_ends = false;
        }
        cop_metrics m;
        uint32_t said = 0;
        cop_live *live =
            run(&w, NULL, 0,
                (cop_live_options){.dialect = &d, .max_tokens = 600, .temperature = 1000}, &m);
        for (uint32_t p = 0; p < 2; p++) {
            const cop_live_path path = cop_live_path_read(live, p);
            for (uint32_t i = path.n_header; i < path.n_ids; i++)
                said += path.ids[i] == '#' || cop_tokenizer_is_end(w.tokenizer, path.ids[i]);
            said += path.stop == COP_STOP_END;
            if (forbids)
                CHECK_EQ(path.stop, COP_STOP_LENGTH);
        }
        CHECK_EQ(said > 0, !forbids);
        cop_live_destroy(live);
    }
    live_world_close(&w);
}

/* A worker that ends stays in view; the others go on, and its text is joined. One that a policy
 * drops is gone from the text and from the views. */
static void test_a_worker_ends(void) {
    world w = open_workers("hogwild");
    for (int quorum = 0; quorum < 2; quorum++) {
        cop_dialect d = live_world_dialect(&w);
        d.shared.forbids_ends = false;
        cop_script script[] = {say(&w, "1", " end$"), say(&w, "2", " and I go on ")};
        cop_metrics m;
        cop_live *live =
            run(&w, script, 2,
                (cop_live_options){
                    .dialect = &d, .max_tokens = 12, .join_policy.quorum = quorum ? 1 : 0},
                &m);
        const live_text text = live_world_read(live);
        CHECK(strstr(text.text, ALICE " end" HOGWILD_TAIL) != NULL);
        CHECK_EQ(strstr(text.text, BOB " and I go on" HOGWILD_TAIL) != NULL, !quorum);
        CHECK_EQ(cop_live_sample_read(live, 0).paths_cancelled, quorum);
        CHECK_EQ(cop_live_path_read(live, 0).stop, COP_STOP_END);
        CHECK_EQ(m.tokens_total, (quorum ? 5 + 4 : 5 + 12) + 16);
        cop_live_destroy(live);
    }
    live_world_close(&w);
}

/* Samples beside each other do not see each other, and each is what it is alone. */
static void test_samples_are_apart(void) {
    world w = open_workers("hogwild");
    cop_live_options options = {.max_tokens = 30, .temperature = 1, .n_samples = 3};
    cop_metrics m;
    cop_live *all = run(&w, NULL, 0, options, &m);
    for (uint32_t i = 0; i < 3; i++) {
        options.n_samples = 1;
        options.first_sample = i;
        cop_live *alone = run(&w, NULL, 0, options, &m);
        const cop_live_sample a = cop_live_sample_read(all, i), b = cop_live_sample_read(alone, 0);
        CHECK_EQ(a.n_ids, b.n_ids);
        CHECK(memcmp(a.ids, b.ids, a.n_ids * sizeof *a.ids) == 0);
        cop_live_destroy(alone);
    }
    cop_live_destroy(all);
    live_world_close(&w);
}

/* ---- a dialect of tags ---- */

static char edited[8192];

static cop_dialect_file *multiverse_shared(void) {
    FILE *file = fopen("configs/dialects/multiverse.json", "rb");
    cop_dialect_file *out;
    char text[8192];
    CHECK(file != NULL);
    const size_t bytes = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[bytes] = '\0';
    static const char *const edits[][2] = {{"\"stitch\"", "\"shared\""},
                                           {"\"equal_start_max\"", "\"block_relative\""},
                                           {"\"nested\": true", "\"nested\": false"}};
    for (int i = 0; i < 3; i++) {
        char *at = strstr(text, edits[i][0]);
        CHECK(at != NULL);
        snprintf(edited, sizeof edited, "%.*s%s%s", (int)(at - text), text, edits[i][1],
                 at + strlen(edits[i][0]));
        strcpy(text, edited);
    }
    CHECK_OK(load_edited(text, "\"max_depth\": 0", "\"max_depth\": 1", &out));
    return out;
}

#define GOAL "<Parallel>\n<Goal>\n<Outline>1: a</Outline>\n<Outline>2: b</Outline>\n</Goal>"

static void test_shared_paths_of_a_dialect_with_tags(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_dialect_close(w.dialect);
    w.dialect = multiverse_shared();
    live_text free_text[2];
    for (int i = 0; i < 2; i++) {
        cop_script script[] = {live_world_say(&w, "", GOAL "so</Conclusion></Parallel>e$"),
                               live_world_say(&w, "1", i ? " one</Path>" : " two and</Path>")};
        cop_metrics m;
        cop_live *live = run(&w, script, 2, (cop_live_options){.max_tokens = 170}, &m);
        free_text[i] = live_world_path(live, 1);
        CHECK_EQ(m.tokens_reprefilled, 0);
        CHECK_EQ(m.joins, cop_live_sample_read(live, 0).forks > 0 && m.joins);
        cop_live_destroy(live);
    }
    CHECK(strcmp(free_text[0].text, free_text[1].text) != 0);
    cop_script script[] = {live_world_say(&w, "", GOAL "so</Conclusion></Parallel>e$"),
                           live_world_say(&w, "1", " one</Path>"),
                           live_world_say(&w, "2", " two and more</Path>")};
    cop_metrics m;
    cop_live *live = run(&w, script, 3, (cop_live_options){0}, &m);
    CHECK_TEXT(live_world_read(live).text,
               GOAL "\n<Path>\n1: one</Path>\n<Path>\n2: two and more</Path>\n<Conclusion>\nso"
                    "</Conclusion></Parallel>e");
    CHECK_EQ(cop_live_sample_read(live, 0).stop, COP_STOP_END);
    CHECK_EQ(m.joins, 1);
    cop_live_destroy(live);
    live_world_close(&w);
}

/* A path's own tokens say nothing of how long its view is: where the paths together reach the last
 * position, the sample ends there, and the run does not fail. */
static void test_paths_together_reach_the_last_position(void) {
    for (uint32_t positions = 600; positions < 606; positions++) {
        world w = live_world_open("multiverse", 64, positions);
        cop_dialect_close(w.dialect);
        w.dialect = multiverse_shared();
        cop_script script[] = {live_world_say(&w, "", GOAL)};
        cop_metrics m;
        cop_live *live = run(&w, script, 1, (cop_live_options){.max_tokens = 2000}, &m);
        CHECK_EQ(cop_live_sample_read(live, 0).forks, 1);
        CHECK_EQ(cop_live_sample_read(live, 0).stop, COP_STOP_LENGTH);
        CHECK(m.view_tokens_longest <= positions && m.view_tokens_longest + 40 > positions);
        cop_live_destroy(live);
        live_world_close(&w);
    }
}

/* ---- small pools ---- */

static void use_pool(world *w, uint32_t pages, cop_pressure pressure) {
    cop_engine_destroy(w->engine);
    w->engine = live_world_engine(w, (cop_engine_options){.n_pages = pages,
                                                          .max_branches = 64,
                                                          .max_positions = 4096,
                                                          .max_segments = 600,
                                                          .pressure = pressure});
}

/* A sample that has joined its workers does not begin anew by itself: it would do so without them.
 */
static void test_samples_of_workers_in_small_pools(void) {
    world w = open_workers("hogwild");
    cop_dialect d = live_world_dialect(&w);
    d.context_text = false;
    d.shared.finish_tokens = 0;                        /* as long a last part as each worker's, */
    d.shared.others_header = d.shared.own_header = ""; /* and no headers that leave it room */
    cop_live_options options = {.dialect = &d, .max_tokens = 60, .temperature = 1, .n_samples = 3};
    cop_metrics m;
    cop_live *all = run(&w, NULL, 0, options, &m);
    uint32_t whole = 0;
    for (uint32_t pages = 30; pages <= m.kv_pages_peak; pages++) {
        cop_metrics small;
        use_pool(&w, pages, COP_PRESSURE_RECOMPUTE);
        cop_live *live = live_world_create(&w, &options);
        cop_driver *driver = cop_live_driver(live);
        const cop_status status = cop_engine_run(w.engine, &driver, 1, &small);
        CHECK_EQ(small.kv_pages_leaked, 0);
        if (status != COP_OK)
            CHECK_EQ(status, COP_ERR_NO_PAGES);
        for (uint32_t i = 0; i < 3 && status == COP_OK; i++) {
            const cop_live_sample a = cop_live_sample_read(all, i),
                                  b = cop_live_sample_read(live, i);
            CHECK_EQ(a.n_ids, b.n_ids);
            CHECK(memcmp(a.ids, b.ids, a.n_ids * sizeof *a.ids) == 0);
        }
        whole += status == COP_OK;
        cop_live_destroy(live);
    }
    CHECK(whole > 2);
    cop_live_destroy(all);
    live_world_close(&w);
}

/* ---- what cannot be meant ---- */

static void test_contradictions_are_named(void) {
    static const char good[] =
        "{\"name\": \"w\", \"source\": \"a test\", \"join\": \"shared\","
        " \"positions\": \"block_relative\", \"trigger\": {\"on\": \"prompt_end\"},"
        " \"budget\": {\"charge\": \"each_branch\"},"
        " \"shared\": {\"workers\": [{\"begin\": \"A:\", \"step_begin\": \"A{n}:\"}],"
        " \"step_token\": \";\", \"step_end\": \";$\"}}";
    static const struct {
        const char *from, *to, *says;
    } cases[] = {
        {"\"block_relative\"", "\"next\"", "positions"},
        {"\"prompt_end\"", "\"plan_close\"", "trigger.on"},
        {"\"each_branch\"", "\"generated\"", "budget.charge"},
        {"\"name\"", "\"nested\": true, \"name\"", "nested"},
        {"\"name\"", "\"branch_prompt\": \"x\", \"name\"", "branch_prompt"},
        {"\"name\"", "\"max_paths\": 2, \"name\"", "max_paths"},
        {"\"step_token\": \";\", ", "", "step_token"},
        {"\"step_token\"", "\"finish_tokens\": 3, \"step_token\"", "finish_tokens"},
        {"\"step_end\": \";$\"", "\"step_end\": \"(\"", "step_end"},
        {"\"workers\": [{\"begin\": \"A:\", \"step_begin\": \"A{n}:\"}]", "\"workers\": []",
         "workers"},
        {"\"begin\": \"A:\"", "\"begin\": \"\"", "begin"},
        {"\"begin\": \"A:\"", "\"begin\": \"{item}\"", "{item}"},
        {"A{n}:", "{item}{n}:", "{item}"},
        {"\"step_token\": \";\", \"step_end\": \";$\"", "\"finished\": \"x\"", "finished"},
        {"\"join\": \"shared\"", "\"join\": \"stitch\"", "shared"},
        {"\"shared\": {", "\"shared\": {\"headers\": 1, ", "headers"},
    };
    cop_dialect_file *file;
    CHECK_OK(load_edited(good, "\"w\"", "\"w\"", &file));
    cop_dialect_close(file);
    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_STATUS(load_edited(good, cases[i].from, cases[i].to, &file), COP_ERR_CONFIG);
        CHECK_MESSAGE(cases[i].says);
    }
}

int main(void) {
    RUN(test_an_answer_ends_the_run_with_its_round);
    RUN(test_what_counts_as_an_answer);
    RUN(test_what_ends_a_step);
    RUN(test_the_question_is_asked_now_and_then);
    RUN(test_the_finisher);
    RUN(test_workers_see_each_other);
    RUN(test_what_workers_may_not_say);
    RUN(test_a_worker_ends);
    RUN(test_samples_are_apart);
    RUN(test_shared_paths_of_a_dialect_with_tags);
    RUN(test_paths_together_reach_the_last_position);
    RUN(test_samples_of_workers_in_small_pools);
    RUN(test_contradictions_are_named);
    return check_report();
}
