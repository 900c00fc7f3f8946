/* Controllers under live decoding: what each preset asks a model, what it hears and what it answers
 * is what its rule says when it is told the same replies by hand. Replies are scripted over a
 * tokenizer of bytes. */
#include "live_world.h"
#include "reason/driver_controller.h"
#include "reason/live_tracer.h"
#include "reason/rules/mcts.h"
#include "reason/rules/rule_config.h"
#include "reason/rules/skeleton.h"
#include "reason/rules/thoughts.h"
#include "reason/tree_view.h"

enum { CALLS_MAX = 2048, TOKENS = 60, POSITIONS = 4096 };

static const char *const presets[] = {"skeleton-of-thought",         "tree-of-thoughts-bfs",
                                      "tree-of-thoughts-bfs-mended", "tree-of-thoughts-dfs",
                                      "tree-of-thoughts-vote",       "mcts-uct"};
enum { PRESETS = sizeof presets / sizeof presets[0] };
static const char problem[] = "Use 4 and 5 to reach 20.";

typedef struct ruled {
    cop_rule_config *config;
    cop_rule *rule;
} ruled;

static ruled open_rule(const char *name) {
    ruled r;
    CHECK_OK(cop_rule_config_load_named(".", name, &r.config));
    CHECK_OK(cop_rule_config_create(
        r.config, &(cop_rule_limits){.max_branches = CALLS_MAX, .max_tokens = TOKENS},
        &(cop_rule_context){0}, &r.rule));
    return r;
}

static void close_rule(ruled *r) {
    cop_rule_destroy(r->rule);
    cop_rule_config_close(r->config);
}

static cop_engine *make_engine(const cop_model *model, cop_engine_options options) {
    options.arith = COP_ARITH_F32;
    options.n_threads = 1;
    options.page_tokens = 16;
    options.max_branches = options.max_branches ? options.max_branches : 200;
    options.n_pages = options.n_pages ? options.n_pages : 8000;
    options.max_positions = POSITIONS;
    options.seed = 1;
    cop_engine *engine;
    CHECK_OK(cop_engine_create(model, &options, &engine));
    return engine;
}

static cop_controller *make(const world *w, cop_rule *rule, cop_controller_options options) {
    options.rule = rule;
    options.tokenizer = w->tokenizer;
    if (!options.input)
        options.input = problem, options.input_bytes = strlen(problem);
    options.max_at_once = options.max_at_once ? options.max_at_once : 64;
    options.max_tokens = options.max_tokens ? options.max_tokens : TOKENS;
    options.max_positions = options.max_positions ? options.max_positions : POSITIONS;
    options.top_p = 1;
    cop_controller *controller;
    CHECK_OK(cop_controller_create(&options, &controller));
    return controller;
}

static void run_all(cop_engine *engine, cop_controller *const *controllers, uint32_t n,
                    cop_metrics *m) {
    cop_driver *drivers[8];
    for (uint32_t i = 0; i < n; i++)
        drivers[i] = cop_controller_driver(controllers[i]);
    CHECK_OK(cop_engine_run(engine, drivers, n, m));
    CHECK_EQ(m->kv_pages_leaked, 0);
    CHECK_EQ(m->allocations_in_steps, 0);
    CHECK_EQ(m->kv_load_bytes, m->kv_predicted_load_bytes);
    CHECK_EQ(m->kv_first_bytes, m->kv_min_bytes);
    CHECK_EQ(m->failed_rows, 0);
}

static void check_bytes(const char *text, size_t bytes, const char *expected) {
    live_text copy = live_world_text(text, bytes);
    CHECK_TEXT(copy.text, expected);
}

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
    CHECK_OK(cop_rule_input(r.rule, problem, strlen(problem)));
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
    cop_engine *engine = make_engine(w.model, (cop_engine_options){0});
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
            run_all(engine, &c, 1, &m);
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
    cop_engine_destroy(engine);
    live_world_close(&w);
}

int main(void) {
    RUN(test_presets_run_as_their_rules_say);
    return 0;
}
