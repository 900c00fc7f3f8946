/* Live problems in a KV pool that is too small: whoever is not pruned says the same tokens, claims
 * the same answer and stops for the same reason as in a roomy one, and nothing is lost. Budgets are
 * set so that none binds across branches: what hangs on who is faster is no promise. */
#include "live_world.h"

#include "reason/rules/dynasor.h"
#include "reason/rules/policy.h"
#include "reason/rules/samples.h"

enum { PROBLEMS = 6, AT_ONCE = 4, SCRIPTS = 4 };

typedef enum rule_kind { NO_RULE, DEADLINE, PROBES, VOTE } rule_kind;

typedef struct set { /* problems of one kind */
    const char *name;
    const cop_model *model;
    cop_live_options options;
    cop_token_ids prompt[PROBLEMS], spawn[PROBLEMS];
    uint32_t max_positions;
    rule_kind rule;
} set;

typedef struct told {
    uint64_t ids, paths, answer, heard;
    uint32_t n_ids, n_paths, generated, forks, refused, given, ended, cancelled, ill_formed;
    cop_stop stop;
    double logprob_sum;
} told;

typedef struct desk {
    cop_problem_queue queue;
    cop_live *live[PROBLEMS];
    cop_rule *rules[PROBLEMS];
    uint64_t heard[PROBLEMS];
    uint32_t next;
} desk;

typedef struct seen { /* over all runs */
    uint64_t parked, recomputed, again, shed, runs;
} seen;

/* Each branch's events in their order, whatever others say between them. */
static void hear(void *context, const cop_live_event *event) {
    uint64_t h = live_world_hash(event->kind, event->path, strlen(event->path));
    h = cop_rng_fold(h, event->sample);
    h = live_world_hash(h, event->text ? event->text : "", event->text ? event->bytes : 0);
    *(uint64_t *)context += cop_rng_fold(h, (uint64_t)event->forced << 8 | (uint64_t)event->stop);
}

static cop_driver *desk_next(cop_problem_queue *queue) {
    desk *d = (desk *)queue;
    return d->next < PROBLEMS ? cop_live_driver(d->live[d->next++]) : NULL;
}

static told tell(const cop_live *live, uint32_t n_samples, uint64_t heard) {
    told t = {.n_paths = cop_live_path_count(live), .heard = heard};
    for (uint32_t i = 0; i < n_samples; i++) {
        cop_live_sample s = cop_live_sample_read(live, i);
        t.ids = live_world_hash(t.ids, s.ids, s.n_ids * sizeof *s.ids);
        t.answer =
            live_world_hash(t.answer, s.answer ? s.answer : "", s.answer ? s.answer_bytes : 0);
        t.n_ids += s.n_ids;
        t.generated += s.generated;
        t.forks += s.forks;
        t.refused += s.forks_refused;
        t.given += s.given;
        t.ended += s.paths_ended;
        t.cancelled += s.paths_cancelled;
        t.ill_formed += s.ill_formed_tags;
        t.stop = t.stop * 16 + s.stop;
        t.logprob_sum += s.logprob_sum;
    }
    for (uint32_t i = 0; i < t.n_paths; i++) { /* in any order of the blocks */
        cop_live_path p = cop_live_path_read(live, i);
        uint64_t h = live_world_hash(p.sample, p.path, strlen(p.path));
        h = live_world_hash(h, p.ids, p.n_ids * sizeof *p.ids);
        t.paths += cop_rng_fold(h, p.stop);
    }
    return t;
}

/* Rules that decide of each path by what it says alone. NULL: none. */
static cop_rule *make_rule(rule_kind kind, uint32_t n_samples) {
    static const cop_rule_limits limits = {.max_branches = 64, .max_tokens = 2000};
    cop_rule *rule = NULL;
    if (kind == DEADLINE)
        CHECK_OK(cop_policy_create(
            &limits, &(cop_policy_options){.deadline_tokens = 33, .keep_partial = true}, &rule));
    if (kind == PROBES)
        CHECK_OK(cop_dynasor_create(&limits,
                                    &(cop_dynasor_options){.mode = COP_DYNASOR_CLIENT,
                                                           .k = 2,
                                                           .chunk = 12,
                                                           .suffix = " So {",
                                                           .probe_tokens = 5},
                                    &rule));
    if (kind == VOTE)
        CHECK_OK(cop_samples_create(
            &limits, &(cop_samples_options){.kind = COP_SAMPLES_SELF_CONSISTENCY, .n = n_samples},
            &rule));
    return rule;
}

static void run(const set *s, cop_pressure pressure, uint32_t pages, uint32_t at_once,
                told out[PROBLEMS], cop_metrics *m) {
    cop_engine_options options = {.arith = COP_ARITH_F32,
                                  .n_threads = 1,
                                  .page_tokens = 16,
                                  .n_pages = pages,
                                  .max_branches = 400,
                                  .max_positions = s->max_positions,
                                  .max_segments = 4000,
                                  .pressure = pressure,
                                  .seed = 1};
    cop_engine *engine;
    desk d = {.queue = {.next = desk_next}};
    CHECK_OK(cop_engine_create(s->model, &options, &engine));
    for (uint32_t i = 0; i < PROBLEMS; i++) {
        cop_live_options o = s->options;
        o.prompt = s->prompt[i].data;
        o.n_prompt = (uint32_t)s->prompt[i].count;
        o.spawn = s->spawn[i].data;
        o.n_spawn = (uint32_t)s->spawn[i].count;
        o.problem_key = i;
        o.listener = hear;
        o.listener_context = &d.heard[i];
        o.rule = d.rules[i] = make_rule(s->rule, o.n_samples);
        o.rule_over_samples = s->rule == VOTE;
        CHECK_OK(cop_live_create(&o, &d.live[i]));
    }
    CHECK_OK(cop_engine_run_queue(engine, &d.queue, at_once, m));
    CHECK_EQ(m->kv_pages_leaked, 0);
    CHECK_EQ(m->allocations_in_steps, 0);
    CHECK_EQ(m->failed_rows, 0);
    CHECK(m->kv_pages_peak <= pages);
    for (uint32_t i = 0; i < PROBLEMS; i++) {
        out[i] = tell(d.live[i], s->options.n_samples, d.heard[i]);
        cop_live_destroy(d.live[i]);
        cop_rule_destroy(d.rules[i]);
    }
    cop_engine_destroy(engine);
}

static void check_same(const set *s, const told *a, const told *b, uint32_t pages) {
    for (uint32_t i = 0; i < PROBLEMS; i++) {
        bool same = a[i].ids == b[i].ids && a[i].paths == b[i].paths && a[i].n_ids == b[i].n_ids &&
                    a[i].answer == b[i].answer && a[i].stop == b[i].stop;
        if (!same)
            fprintf(stderr, "%s, problem %u, %u pages: %u ids, not %u\n", s->name, i, pages,
                    b[i].n_ids, a[i].n_ids);
        CHECK(same);
        CHECK_EQ(b[i].n_paths, a[i].n_paths);
        CHECK_EQ(b[i].generated, a[i].generated);
        CHECK_EQ(b[i].forks, a[i].forks);
        CHECK_EQ(b[i].refused, a[i].refused);
        CHECK_EQ(b[i].given, a[i].given);
        CHECK_EQ(b[i].ended, a[i].ended);
        CHECK_EQ(b[i].cancelled, a[i].cancelled);
        CHECK_EQ(b[i].ill_formed, a[i].ill_formed);
        CHECK(fabs(b[i].logprob_sum - a[i].logprob_sum) < 1e-9 * (1 + fabs(a[i].logprob_sum)));
        CHECK(b[i].heard == a[i].heard);
    }
}

static void work(const set *s, const uint32_t *percents, uint32_t n_percents, bool forks,
                 seen *sum) {
    told plain[PROBLEMS], tight[PROBLEMS];
    cop_metrics roomy, m;
    run(s, COP_PRESSURE_FAIL, 3000, AT_ONCE, plain, &roomy);
    for (uint32_t i = 0; i < PROBLEMS; i++)
        CHECK(!forks || plain[i].n_paths > 0);
    uint64_t least = roomy.view_pages_longest;
    const uint64_t most = roomy.kv_pages_peak;
    if (s->rule != NO_RULE) { /* which forgets whole problems only: what one needs alone */
        run(s, COP_PRESSURE_FAIL, 3000, 1, tight, &m);
        check_same(s, plain, tight, 3000);
        least = m.kv_pages_peak;
    }
    CHECK(least < most);
    for (uint32_t i = 0; i < n_percents; i++) {
        const uint32_t pages = (uint32_t)(least + (most - least) * percents[i] / 100);
        for (cop_pressure p = COP_PRESSURE_QUEUE; p <= COP_PRESSURE_RECOMPUTE; p++) {
            run(s, p, pages, AT_ONCE, tight, &m);
            check_same(s, plain, tight, pages);
            CHECK_EQ(m.tokens_total, roomy.tokens_total);
            CHECK_EQ(m.tokens_longest_thread, roomy.tokens_longest_thread);
            sum->parked += m.branches_parked;
            sum->recomputed += m.tokens_recomputed;
            sum->again += m.branches > roomy.branches;
            sum->runs++;
        }
    }
    run(s, COP_PRESSURE_PRUNE_LOWEST, (uint32_t)(least + (most - least) * 30 / 100), AT_ONCE, tight,
        &m);
    CHECK(m.branches_shed <= m.prunes);
    sum->shed += m.branches_shed;
    for (uint32_t i = 0; i < PROBLEMS; i++)
        CHECK(tight[i].n_ids > 0 && tight[i].stop != COP_STOP_NONE);
}

static void put(cop_token_ids *ids, const int32_t *from, size_t n) {
    CHECK_OK(cop_grow(&ids->data, &ids->capacity, n + 1, sizeof *ids->data));
    memcpy(ids->data, from, n * sizeof *ids->data);
    ids->count = n;
}

static void close_set(set *s) {
    for (uint32_t i = 0; i < PROBLEMS; i++) {
        cop_token_ids_release(&s->prompt[i]);
        cop_token_ids_release(&s->spawn[i]);
    }
}

/* ---- a tiny model whose first words are scripted, and which then speaks freely ---- */

typedef struct kind {
    const char *dialect, *plan, *inner;
    bool nested, reuse, penalty;  /* a factor that is the sample's */
    uint32_t n_samples, deadline; /* paths that pass it are dropped */
    rule_kind rule;
} kind;

static void work_kind(const kind *k, seen *sum) {
    static const uint32_t percents[] = {0, 25, 60, 95};
    world w = live_world_open(k->dialect, 8, 1024);
    cop_dialect dialect = live_world_dialect(&w);
    dialect.max_path_tokens = 50;
    dialect.max_blocks = 0;
    dialect.nested |= k->nested;
    if (k->reuse)
        dialect.reuse = COP_REUSE_LONGEST_PREFIX;
    if (k->penalty) {
        dialect.sampling[COP_STAGE_PATH].penalty = 1.5f;
        dialect.penalty_shared = true;
    }
    bool forks = dialect.join != COP_JOIN_NONE;
    cop_script script[SCRIPTS] = {
        live_world_say(&w, "", k->plan), live_world_say(&w, "1", k->deadline ? "<ok>1<end>" : "ab"),
        live_world_say(&w, "2", k->inner), live_world_say(&w, "3", "one of many words")};
    set s = {.name = k->dialect, .model = w.model, .max_positions = 1024, .rule = k->rule};
    s.options = (cop_live_options){.dialect = &dialect,
                                   .tokenizer = w.tokenizer,
                                   .n_samples = k->n_samples,
                                   .max_tokens = forks ? 600 : 70,
                                   .max_branches = 24,
                                   .join_policy = {.deadline_tokens = k->deadline},
                                   .temperature = 1,
                                   .top_p = 1,
                                   .script = script,
                                   .n_script = forks ? SCRIPTS : 0};
    for (uint32_t i = 0; i < PROBLEMS; i++) {
        int32_t prompt[40];
        for (uint32_t at = 0; at < 40; at++)
            prompt[at] = 'a' + (int32_t)((at * 7 + i * 3) % 26);
        put(&s.prompt[i], prompt, 12 + 5 * i);
        put(&s.spawn[i], prompt, 9);
    }
    work(&s, percents, check_effort(4, 2), forks, sum);
    close_set(&s);
    live_world_free(script, SCRIPTS);
    live_world_close(&w);
}

#define PLAN "So<try>a<try>bc<try>d<fork>"
#define GOALS                                                                                      \
    "Hi<Parallel><Goal><Outline>1: a</Outline><Outline>2: b</Outline><Outline>3: "                 \
    "c</Outline></Goal>"

static void test_scripted_problems_in_any_pool(void) {
    static const kind kinds[] = {
        {.dialect = "countdown-message", .plan = PLAN, .inner = "2", .n_samples = 1},
        {.dialect = "countdown-reprefill", .plan = PLAN, .inner = "2", .n_samples = 2},
        {.dialect = "countdown-stitch", .plan = PLAN, .inner = "2", .n_samples = 1},
        {.dialect = "countdown-stitch",
         .plan = PLAN,
         .inner = "x<try>e<try>f<fork>",
         .nested = true,
         .n_samples = 1},
        {.dialect = "countdown-reprefill",
         .plan = PLAN,
         .inner = "x<try>e<try>f<fork>",
         .nested = true,
         .reuse = true,
         .n_samples = 2},
        {.dialect = "countdown-message",
         .plan = PLAN,
         .inner = "x<try>e<try>f<fork>",
         .nested = true,
         .n_samples = 3},
        {.dialect = "countdown-stitch",
         .plan = PLAN "ok$",
         .inner = "2",
         .n_samples = 1,
         .deadline = 45},
        {.dialect = "multiverse", .plan = GOALS, .inner = "2", .n_samples = 2},
        {.dialect = "sequential", .plan = "", .inner = "", .n_samples = 5},
        {.dialect = "countdown-stitch",
         .plan = PLAN,
         .inner = "2",
         .n_samples = 2,
         .penalty = true},
        {.dialect = "countdown-stitch", .plan = PLAN, .inner = "2", .n_samples = 1, .rule = PROBES},
        {.dialect = "countdown-stitch",
         .plan = PLAN,
         .inner = "x<try>e<try>f<fork>",
         .nested = true,
         .n_samples = 2,
         .rule = DEADLINE},
        {.dialect = "countdown-message", .plan = PLAN, .inner = "2", .n_samples = 3, .rule = VOTE},
    };
    seen sum = {0};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        work_kind(&kinds[i], &sum);
    printf("  %" PRIu64 " runs: %" PRIu64 " gave way or waited, %" PRIu64 " tokens again, %" PRIu64
           " runs opened branches again, %" PRIu64 " shed\n",
           sum.runs, sum.parked, sum.recomputed, sum.again, sum.shed);
    CHECK(sum.parked > 0 && sum.recomputed > 0 && sum.again > 0 && sum.shed > 0);
}

/* ---- the model in the box ---- */

static void fill(const set *s, const char *pattern, const char *problem, cop_token_ids *ids) {
    cop_buffer text = {0};
    CHECK_OK(cop_dialect_fill(s->options.dialect, pattern, problem, strlen(problem), 3, &text));
    CHECK_OK(cop_tokenizer_encode(s->options.tokenizer, text.data, text.bytes,
                                  (cop_encode_options){.no_bos = true}, ids));
    cop_buffer_release(&text);
}

static void test_the_countdown_model_in_any_pool(void) {
    static const char *const dialects[] = {"countdown-message", "countdown-reprefill",
                                           "countdown-stitch"};
    static const char *const problems[PROBLEMS] = {"T33 18 15 9 8",  "T21 17 16 8 3",
                                                   "T98 17 17 14 8", "T24 12 6 4 2",
                                                   "T50 20 15 10 5", "T77 19 11 7 3"};
    static const uint32_t percents[] = {0, 50};
    cop_model *model;
    seen sum = {0};
    CHECK_OK(cop_model_open("bench/countdown/countdown.gguf", &model));
    for (int k = 0; k < 3; k++) {
        cop_dialect_file *file;
        CHECK_OK(cop_dialect_load_named(".", dialects[k], &file));
        const cop_dialect *dialect = cop_dialect_of(file);
        set s = {.name = dialects[k], .model = model, .max_positions = 2048};
        s.options = (cop_live_options){.dialect = dialect,
                                       .tokenizer = cop_model_tokenizer(model),
                                       .n_samples = 1,
                                       .max_tokens = 2000,
                                       .max_branches = 64,
                                       .top_p = 1};
        for (uint32_t i = 0; i < PROBLEMS; i++) {
            fill(&s, dialect->prompt, problems[i], &s.prompt[i]);
            if (dialect->join == COP_JOIN_MESSAGE)
                fill(&s, dialect->spawn_prompt, problems[i], &s.spawn[i]);
        }
        work(&s, percents, check_effort(2, 1), true, &sum);
        close_set(&s);
        cop_dialect_close(file);
    }
    printf("  %" PRIu64 " runs: %" PRIu64 " gave way or waited, %" PRIu64 " tokens again, %" PRIu64
           " shed\n",
           sum.runs, sum.parked, sum.recomputed, sum.shed);
    CHECK(sum.parked > 0 && sum.recomputed > 0);
    cop_model_close(model);
}

int main(void) {
    RUN(test_scripted_problems_in_any_pool);
    RUN(test_the_countdown_model_in_any_pool);
    return check_report();
}
