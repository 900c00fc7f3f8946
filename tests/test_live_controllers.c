/* Controllers under live decoding: what each preset asks a model, what it hears and what it answers
 * is what its rule says when it is told the same replies by hand. Replies are scripted over a
 * tokenizer of bytes. */
#include "controller_world.h"
#include "reason/live_tracer.h"
#include "reason/rules/mcts.h"
#include "reason/tree_view.h"

static const char *const presets[] = {"skeleton-of-thought",         "tree-of-thoughts-bfs",
                                      "tree-of-thoughts-bfs-mended", "tree-of-thoughts-dfs",
                                      "tree-of-thoughts-vote",       "mcts-uct"};
enum { PRESETS = sizeof presets / sizeof presets[0] };
/* ---- the rule, told by hand ---- */

typedef struct told {
    char *prompt, *partial, *reply;
    char name[24];
    bool stops;
} told;

typedef struct told_run {
    told *calls;
    uint32_t n, n_rounds;
    uint64_t longest; /* tokens of the longest call of each round, summed */
    live_text answer;
    bool answered;
} told_run;

static const char *const proposals[] = {"4 + 5 (high)\n4 * 5 (certain)", "5 - 4 (low)",
                                        "4 * 5 (certain)\n5 + 5 (medium)", "nothing", ""};
static const char *const steps[] = {"4 * 5", "4 + 5", "5 - 4", "try", "4 * 5"};
static const char *const worths[] = {"it is\nsure", "likely", "so\nimpossible", "hm", "sure"};
static const char *const votes[] = {"The best choice is 2", "best choice is 1", "none",
                                    "The best choice is 2\n"};

/* What the model is made to say to a prompt: the first words of the presets' templates tell which
 * it is. */
static const char *reply_to(const cop_decision *run, cop_rng_key key, uint32_t n) {
    const uint32_t r = cop_rng_below(key, n, 60);
    if (strstr(run->text, "Give only a skeleton"))
        return " Multiply.\n2. Check it.\n3. Say it";
    if (strstr(run->text, "Write point"))
        return r % 2 ? " Four times five." : "\nIt is 20. ";
    if (strstr(run->text, "best?"))
        return votes[r % 4];
    if (strstr(run->text, "impossible.\n"))
        return worths[r % 5];
    if (strstr(run->text, "Propose") || strstr(run->text, "List possible"))
        return proposals[r % 5];
    return steps[r % 5];
}

static char *copy_of(const char *text) {
    char *copy = cop_calloc(strlen(text) + 1, 1);
    strcpy(copy, text);
    return copy;
}

static uint32_t tokens_said(const told *call) { /* and its end, or its stop */
    return (uint32_t)strlen(call->reply) + 1;
}

static told_run tell_rule(const char *name, uint64_t seed) {
    ruled r = open_rule(name);
    told_run out = {.calls = cop_calloc(CALLS_MAX, sizeof *out.calls)};
    cop_rule_reset(r.rule);
    CHECK_OK(cop_rule_input(r.rule, controller_problem, strlen(controller_problem)));
    for (;;) {
        const cop_decision *d;
        uint32_t n, first = out.n, longest = 0;
        CHECK_OK(cop_rule_decide(r.rule, 0, &d, &n));
        CHECK(n > 0);
        if (d[0].kind == COP_DECIDE_STOP)
            break;
        out.n_rounds++;
        for (uint32_t i = 0; i < n; i++) {
            told *call = &out.calls[out.n++];
            uint32_t branch;
            CHECK_EQ(d[i].kind, COP_DECIDE_RUN);
            CHECK_OK(cop_rule_open(r.rule, d[i].tag, &branch));
            CHECK_EQ(branch, first + i);
            *call = (told){.prompt = copy_of(d[i].text),
                           .partial = copy_of(d[i].partial ? d[i].partial : ""),
                           .stops = d[i].stop != NULL,
                           .reply = copy_of(reply_to(&d[i], (cop_rng_key){seed, 0, 0}, out.n))};
            snprintf(call->name, sizeof call->name, "%u.%u", out.n_rounds, i + 1);
            longest = tokens_said(call) > longest ? tokens_said(call) : longest;
        }
        out.longest += longest;
        for (uint32_t i = first; i < out.n; i++)
            CHECK_OK(cop_rule_end(r.rule, i, COP_RULE_END_OWN, out.calls[i].reply,
                                  strlen(out.calls[i].reply)));
    }
    const char *answer = "";
    size_t bytes = 0;
    out.answered = cop_rule_answer(r.rule, &answer, &bytes);
    out.answer = live_world_text(answer, bytes);
    close_rule(&r);
    return out;
}

static cop_script *scripts_of(const world *w, const told_run *t) {
    cop_script *scripts = cop_calloc(t->n, sizeof *scripts);
    for (uint32_t i = 0; i < t->n; i++) {
        char said[256];
        snprintf(said, sizeof said, "%s%s", t->calls[i].reply, t->calls[i].stops ? "\n" : "$");
        scripts[i] = live_world_say(w, t->calls[i].name, said);
    }
    return scripts;
}

static void release_told(told_run *t, cop_script *scripts) {
    for (uint32_t i = 0; i < t->n; i++) {
        cop_free(t->calls[i].prompt);
        cop_free(t->calls[i].partial);
        cop_free(t->calls[i].reply);
    }
    live_world_free(scripts, t->n);
    cop_free(scripts);
    cop_free(t->calls);
}

static uint32_t tokens_of(const world *w, const char *text) {
    cop_token_ids ids = {0};
    CHECK_OK(cop_tokenizer_encode(w->tokenizer, text, strlen(text), (cop_encode_options){0}, &ids));
    uint32_t n = (uint32_t)ids.count;
    cop_token_ids_release(&ids);
    return n;
}

static void check_call(const world *w, const told *expected, const cop_controller_call *call) {
    char whole[4096];
    CHECK_TEXT(call->prompt, expected->prompt);
    CHECK_EQ(call->prompt_bytes, strlen(expected->prompt));
    CHECK_TEXT(call->partial, expected->partial);
    snprintf(whole, sizeof whole, "%s%s", expected->prompt, expected->partial);
    CHECK_EQ(call->n_prompt, tokens_of(w, whole));
    check_bytes(call->path.text, call->path.bytes, expected->reply);
    CHECK_EQ(call->path.n_ids, tokens_said(expected));
    CHECK_EQ(call->path.stop, COP_STOP_END);
}

/* Each preset at three widths: the calls, the answer, and what is counted of them. */
static void test_presets_run_as_their_rules_say(void) {
    world w = live_world_open("threadweaver-rl", 8, POSITIONS);
    static const char *const backends[] = {"cpu", "cpu_ahead"};
    cop_engine *engines[2];
    for (uint32_t i = 0; i < 2; i++)
        engines[i] = make_engine(w.model, (cop_engine_options){.backend = backends[i]});
    uint32_t answered = 0;
    for (uint32_t p = 0; p < PRESETS; p++) {
        told_run t = tell_rule(presets[p], p);
        cop_script *scripts = scripts_of(&w, &t);
        ruled r = open_rule(presets[p]);
        static const uint32_t widths[] = {64, 3, 1};
        for (uint32_t v = 0; v < 3; v++) {
            cop_live_tracer *tracer;
            CHECK_OK(cop_live_tracer_create(
                &(cop_live_tracer_options){.max_paths = CALLS_MAX, .spawns = true}, &tracer));
            cop_controller *c = make(&w, r.rule,
                                     (cop_controller_options){.max_at_once = widths[v],
                                                              .script = scripts,
                                                              .n_script = t.n,
                                                              .listener = cop_live_tracer_hear,
                                                              .listener_context = tracer});
            cop_metrics m;
            run_all(engines[v % 2], &c, 1, &m);
            CHECK_EQ(cop_controller_call_count(c), t.n);
            uint64_t said = 0, prompts = 0;
            for (uint32_t i = 0; i < t.n; i++) {
                cop_controller_call call = cop_controller_call_read(c, i);
                check_call(&w, &t.calls[i], &call);
                said += call.path.n_ids;
                prompts += call.n_prompt;
            }
            cop_live_sample sample = cop_controller_read(c);
            CHECK_EQ(sample.stop, COP_STOP_END);
            check_bytes(sample.text, sample.bytes, t.answer.text);
            CHECK_EQ(sample.paths, t.n);
            CHECK_EQ(sample.steps, t.n_rounds);
            CHECK_EQ(sample.generated, said);
            CHECK_EQ(m.tokens_total, said);
            CHECK_EQ(m.tokens_prompt, prompts);
            CHECK_EQ(m.tokens_longest_thread, t.longest);
            CHECK_EQ(m.branches, 1 + t.n);
            CHECK_EQ(m.prunes, 0);
            CHECK(m.branches_live_peak <= widths[v]);
            CHECK_EQ(cop_rule_stats_of(r.rule).tokens, said);
            CHECK_EQ(cop_rule_stats_of(r.rule).ended, t.n);
            cop_trace_figures figures;
            CHECK(cop_live_tracer_measure(tracer, false, &figures));
            CHECK_EQ(figures.total, said);
            CHECK_EQ(figures.longest_thread, m.tokens_longest_thread);
            CHECK_EQ(figures.critical_path, m.tokens_critical_path);
            cop_controller_destroy(c);
            cop_live_tracer_destroy(tracer);
        }
        answered += t.answered && t.answer.text[0];
        close_rule(&r);
        release_told(&t, scripts);
    }
    CHECK_EQ(answered, PRESETS);
    cop_engine_destroy(engines[0]);
    cop_engine_destroy(engines[1]);
    live_world_close(&w);
}

/* ---- one preset by hand ---- */

/* sot/schedulers/outline_batch_scheduler.py: the outline begins with the partial answer; a call a
 * point, whose partial answer is "{point}. {point_outline}"; parts joined by newlines, each partial
 * answer before its stripped reply. */
static void test_skeleton_of_thought_by_hand(void) {
    world w = live_world_open("threadweaver-rl", 8, POSITIONS);
    ruled r = open_rule("skeleton-of-thought");
    cop_script script[] = {live_world_say(&w, "1.1", " Heat.\n2. Light. \n2. Again\nno$"),
                           live_world_say(&w, "2.1", " It is hot.\n$"),
                           live_world_say(&w, "2.2", "So bright$")};
    cop_controller *c = make(&w, r.rule,
                             (cop_controller_options){.input = "Why?",
                                                      .input_bytes = 4,
                                                      .script = script,
                                                      .n_script = 3,
                                                      .before = "<u>",
                                                      .after = "</u><a>"});
    cop_metrics m;
    cop_engine *engine = make_engine(w.model, (cop_engine_options){0});
    run_all(engine, &c, 1, &m);
    CHECK_EQ(cop_controller_call_count(c), 3);
    const cop_controller_call outline = cop_controller_call_read(c, 0);
    static const char asked[] =
        "Give only a skeleton of the answer to the question below: a numbered list (1., 2., 3.) of "
        "3 to 10 points, each of 3 to 5 words, and nothing else.\n\nQuestion:\nWhy?\n\nSkeleton:\n";
    CHECK_TEXT(outline.prompt, asked);
    CHECK_TEXT(outline.partial, "1.");
    CHECK_EQ(outline.n_prompt, strlen("<u></u><a>1.") + strlen(asked)); /* a byte, a token */
    CHECK_EQ(outline.path.block, 0);
    for (uint32_t i = 1; i < 3; i++) {
        const cop_controller_call point = cop_controller_call_read(c, i);
        char prompt[512];
        snprintf(prompt, sizeof prompt,
                 "The question is\n\nWhy?\n\nand the skeleton of its answer\n\n1. Heat.\n2. Light. "
                 "\n2. Again\nno\n\nWrite point %u in one or two short sentences. Write no other "
                 "point.\n",
                 i);
        CHECK_TEXT(point.prompt, prompt);
        CHECK_TEXT(point.partial, i == 1 ? "1. Heat." : "2. Light. ");
        CHECK_EQ(point.path.block, 1);
        CHECK_EQ(point.path.index, i - 1);
        CHECK_TEXT(point.path.path, i == 1 ? "1" : "2");
    }
    const cop_live_sample sample = cop_controller_read(c);
    check_bytes(sample.text, sample.bytes, "1. Heat. It is hot.\n2. Light.  So bright");
    CHECK_EQ(sample.forks, 1);
    CHECK_EQ(m.forks, 1);
    CHECK_EQ(m.joins, 2);
    cop_controller_destroy(c);
    cop_engine_destroy(engine);
    live_world_free(script, 3);
    close_rule(&r);
    live_world_close(&w);
}

/* ---- what the model sees ---- */

/* Unscripted: each call says what a plain run of its prompt says, with the same random numbers. */
static void test_a_call_sees_its_prompt_alone(void) {
    world w = live_world_open("threadweaver-rl", 8, POSITIONS);
    cop_engine *engine = make_engine(w.model, (cop_engine_options){0});
    cop_rule *rule = votes_rule();
    cop_controller *c =
        make(&w, rule,
             (cop_controller_options){
                 .before = "<u>", .after = "<a>", .problem_key = 7, .max_at_once = 4});
    cop_metrics m;
    run_all(engine, &c, 1, &m);
    const uint32_t n = cop_controller_call_count(c);
    CHECK_EQ(n, 5 + 3 + 10 + 3);
    uint32_t differ = 0;
    for (uint32_t i = 0; i < n; i++) {
        const cop_controller_call call = cop_controller_call_read(c, i);
        char text[2048];
        cop_token_ids ids = {0};
        snprintf(text, sizeof text, "<u>%s<a>", call.prompt);
        CHECK_OK(
            cop_tokenizer_encode(w.tokenizer, text, strlen(text), (cop_encode_options){0}, &ids));
        CHECK_EQ(call.n_prompt, ids.count);
        cop_live *live;
        CHECK_OK(cop_live_create(&(cop_live_options){.tokenizer = w.tokenizer,
                                                     .prompt = ids.data,
                                                     .n_prompt = (uint32_t)ids.count,
                                                     .problem_key = 7,
                                                     .n_samples = 1,
                                                     .first_sample = i,
                                                     .max_tokens = 17,
                                                     .temperature = 0.8f,
                                                     .top_p = 1},
                                 &live));
        cop_driver *driver = cop_live_driver(live);
        CHECK_OK(cop_engine_run(engine, &driver, 1, &m));
        const cop_live_sample alone = cop_live_sample_read(live, 0);
        CHECK_EQ(call.path.n_ids, alone.n_ids);
        CHECK(memcmp(call.path.ids, alone.ids, alone.n_ids * sizeof *alone.ids) == 0);
        CHECK_EQ(call.path.stop, alone.stop);
        differ += i > 0 && memcmp(call.path.ids, cop_controller_call_read(c, 0).path.ids,
                                  4 * sizeof(int32_t)) != 0;
        cop_live_destroy(live);
        cop_token_ids_release(&ids);
    }
    CHECK(differ > n / 2); /* they are not all one text */
    cop_controller_destroy(c);
    cop_rule_destroy(rule);
    cop_engine_destroy(engine);
    live_world_close(&w);
}

/* ---- how a call ends ---- */

static cop_rule *steps_rule(const char *stop, uint32_t max_tokens) {
    cop_rule *rule;
    CHECK_OK(cop_mcts_create(&limits,
                             &(cop_mcts_options){.generate_prompt = "Go {state}",
                                                 .evaluate_prompt = "Good? {state}",
                                                 .stop = stop,
                                                 .iterations = 1,
                                                 .n_expand = 2,
                                                 .n_evaluate = 1,
                                                 .max_depth = 2,
                                                 .c = 1,
                                                 .values = {{"sure", 1}},
                                                 .n_values = 1,
                                                 .max_tokens = max_tokens,
                                                 .temperature = -1,
                                                 .max_text_bytes = 4096},
                             &rule));
    return rule;
}

static void test_a_call_ends_at_its_stop_and_its_limits(void) {
    world w = live_world_open("threadweaver-rl", 8, POSITIONS);
    cop_engine *engine = make_engine(w.model, (cop_engine_options){0});
    static const struct {
        const char *stop, *said, *reply;
        uint32_t max_tokens, ids;
        cop_stop how;
    } cases[] = {
        {"<fork>", "ab{12}{13}never", "ab", 0, 4, COP_STOP_END}, /* "<fo" "rk>YZ" */
        {"<fork>", "<fo{12}{13}never", "<fo", 0, 5, COP_STOP_END},
        {"<fork>", "<fork>x", "", 0, 6, COP_STOP_END},
        {"aab", "aaab$", "a", 0, 4, COP_STOP_END},
        {"Z", "a{13}b$", "ark>Y", 0, 2, COP_STOP_END},
        {"<fork>", "ab<for$", "ab<for", 0, 7, COP_STOP_END},
        {"<fork>", "abcdefgh", "abcde", 5, 5, COP_STOP_LENGTH},
        {"e", "abcdefgh", "abcd", 5, 5, COP_STOP_END}, /* the stop comes with the last token */
        {"", "abcd$", "abcd", 0, 5, COP_STOP_END},
        {NULL, "", "", 0, TOKENS, COP_STOP_LENGTH}, /* the run's limit; what it says is free */
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cop_rule *rule = steps_rule(cases[i].stop, cases[i].max_tokens);
        cop_script script[] = {live_world_say(&w, "1.1", cases[i].said),
                               live_world_say(&w, "1.2", "other$"),
                               live_world_say(&w, "2.1", "sure$")};
        /* Free text may hold an end; 'x' all along does not. */
        char free_text[TOKENS + 20];
        memset(free_text, 'x', sizeof free_text);
        free_text[TOKENS + 19] = '\0';
        if (!cases[i].said[0]) {
            live_world_free(script, 1);
            script[0] = live_world_say(&w, "1.1", free_text);
        }
        cop_controller *c =
            make(&w, rule, (cop_controller_options){.script = script, .n_script = 3});
        cop_metrics m;
        run_all(engine, &c, 1, &m);
        const cop_controller_call call = cop_controller_call_read(c, 0);
        if (cases[i].said[0])
            check_bytes(call.path.text, call.path.bytes, cases[i].reply);
        CHECK_EQ(call.path.n_ids, cases[i].ids);
        CHECK_EQ(call.path.stop, cases[i].how);
        CHECK_EQ(cop_controller_read(c).stop, COP_STOP_END);
        cop_controller_destroy(c);
        live_world_free(script, 3);
        cop_rule_destroy(rule);
    }
    cop_engine_destroy(engine);
    live_world_close(&w);
}

static void test_a_call_ends_where_the_context_does(void) {
    world w = live_world_open("threadweaver-rl", 8, POSITIONS);
    cop_engine *engine = live_world_engine(
        &w, (cop_engine_options){.n_pages = 100, .max_branches = 20, .max_positions = 40});
    for (uint32_t long_prompt = 0; long_prompt < 2; long_prompt++) {
        cop_rule *rule = steps_rule(NULL, 0);
        char said[64];
        memset(said, 'x', 63);
        said[63] = '\0';
        cop_script script[] = {live_world_say(&w, "1.1", said), live_world_say(&w, "1.2", "b$"),
                               live_world_say(&w, "2.1", "sure$")};
        char before[64] = "";
        memset(before, 'b', long_prompt ? 38 : 3);
        cop_controller *c =
            make(&w, rule,
                 (cop_controller_options){
                     .script = script, .n_script = 3, .before = before, .max_positions = 40});
        cop_metrics m;
        run_all(engine, &c, 1, &m);
        const char *message;
        const cop_status error = cop_controller_error(c, &message);
        if (long_prompt) { /* 38 + 3 tokens */
            CHECK_EQ(error, COP_ERR_CONTEXT);
            CHECK(strstr(message, "the prompt of call 1.1 has 41 tokens"));
            CHECK_EQ(cop_controller_read(c).stop, COP_STOP_RULE);
            CHECK_EQ(cop_controller_call_count(c), 0);
        } else { /* the last token of 40 positions is sampled, not fed; but the next prompt is long
                  */
            const cop_controller_call call = cop_controller_call_read(c, 0);
            CHECK_EQ(call.n_prompt, 6);
            CHECK_EQ(call.path.n_ids, 40 - 6 + 1);
            CHECK_EQ(call.path.stop, COP_STOP_LENGTH);
            CHECK_EQ(error, COP_ERR_CONTEXT);
            CHECK(strstr(message, "call 2.1"));
        }
        cop_controller_destroy(c);
        live_world_free(script, 3);
        cop_rule_destroy(rule);
    }
    cop_engine_destroy(engine);
    live_world_close(&w);
}

/* ---- who watches ---- */

static void hear_tree(void *context, const cop_live_event *event) {
    cop_tree_view_event(context, event);
}

static void test_the_tree_and_the_timeline_show_calls_as_branches(void) {
    world w = live_world_open("threadweaver-rl", 8, POSITIONS);
    cop_timeline *timeline;
    CHECK_OK(cop_timeline_create(4096, &timeline));
    cop_engine *engine = make_engine(w.model, (cop_engine_options){.timeline = timeline});
    ruled r = open_rule("skeleton-of-thought");
    cop_script script[] = {live_world_say(&w, "1.1", " Heat.\n2. Light\n3. Sound$"),
                           live_world_say(&w, "2.1", "hot$"), live_world_say(&w, "2.2", "bright$"),
                           live_world_say(&w, "2.3", "loud$")};
    cop_tree_view *view;
    CHECK_OK(cop_tree_view_create(
        &(cop_tree_view_options){.width = 60, .height = 20, .title = "Why?"}, &view));
    cop_controller *c = make(&w, r.rule,
                             (cop_controller_options){.script = script,
                                                      .n_script = 4,
                                                      .max_at_once = 2,
                                                      .listener = hear_tree,
                                                      .listener_context = view});
    cop_metrics m;
    cop_driver *driver = cop_controller_driver(c);
    CHECK_OK(cop_engine_run(engine, &driver, 1, &m)); /* the view itself allocates */
    cop_buffer frame = {0};
    uint32_t rows;
    CHECK_OK(cop_tree_view_frame(view, true, &frame, &rows));
    CHECK_OK(cop_buffer_append(&frame, "", 1));
    CHECK_EQ(rows, 8); /* title, twice the root and its calls, end */
    static const char *const shown[] = {"1 • ",       "Heat.",    "1 • hot",
                                        "2 • bright", "3 • loud", "4 paths in 2 blocks"};
    for (uint32_t i = 0; i < sizeof shown / sizeof shown[0]; i++)
        CHECK(strstr(frame.data, shown[i]));
    uint32_t kinds[16] = {0}, labels = 0;
    uint32_t count;
    uint64_t lost;
    const cop_event *events = cop_timeline_events(timeline, &count, &lost);
    for (uint32_t i = 0; i < count; i++)
        kinds[events[i].kind]++;
    for (uint32_t serial = 0; serial < 5; serial++)
        labels += strcmp(cop_timeline_label_of(timeline, serial), "3") == 0;
    CHECK_EQ(labels, 1);
    CHECK_EQ(kinds[COP_EVENT_BRANCH_BEGIN], 5);
    CHECK_EQ(kinds[COP_EVENT_BRANCH_END], 5);
    CHECK_EQ(kinds[COP_EVENT_FORK], 4);
    CHECK_EQ(m.branches_live_peak, 2);
    cop_buffer_release(&frame);
    cop_tree_view_destroy(view);
    cop_controller_destroy(c);
    live_world_free(script, 4);
    close_rule(&r);
    cop_engine_destroy(engine);
    cop_timeline_destroy(timeline);
    live_world_close(&w);
}

int main(void) {
    RUN(test_presets_run_as_their_rules_say);
    RUN(test_skeleton_of_thought_by_hand);
    RUN(test_a_call_sees_its_prompt_alone);
    RUN(test_a_call_ends_at_its_stop_and_its_limits);
    RUN(test_a_call_ends_where_the_context_does);
    RUN(test_the_tree_and_the_timeline_show_calls_as_branches);
    return check_report();
}
