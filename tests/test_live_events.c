/* What the live driver tells while it runs and what is read from it afterwards: events in order,
 * paths, answers, resets, and the confidence rule on paths. */
#include "live_world.h"

#define TRY2 "<try> 14 - 2<try> 3 + 4<fork>"

/* ---- events ---- */

enum { EVENTS_MAX = 8192, PATHS_MAX = 32 };

/* Copies: what an event points to is borrowed. */
typedef struct heard {
    cop_live_event_kind kind;
    uint32_t sample, block;
    char path[32], text[96];
    size_t bytes;
    bool forced, success;
    cop_stop stop;
} heard;

typedef struct ear {
    heard list[EVENTS_MAX];
    uint32_t count;
} ear;

static void hear(void *context, const cop_live_event *event) {
    ear *e = context;
    CHECK(e->count < EVENTS_MAX);
    heard *h = &e->list[e->count++];
    *h = (heard){event->kind,  event->sample, event->block,   "",         "",
                 event->bytes, event->forced, event->success, event->stop};
    CHECK(strlen(event->path) < sizeof h->path && event->bytes < sizeof h->text);
    snprintf(h->path, sizeof h->path, "%s", event->path);
    CHECK_EQ(event->kind == COP_LIVE_TEXT, event->text != NULL);
    if (event->bytes > 0)
        memcpy(h->text, event->text, event->bytes);
}

static cop_live *listen(const world *w, ear *e, cop_live_options options, cop_metrics *m) {
    e->count = 0;
    options.listener = hear;
    options.listener_context = e;
    return live_world_run(w, &options, m);
}

/* "2+text" given, "2:text" said, "[2" fork, "2]end" end ("!" on success), "2>" join, "/end" stop;
 * pieces of one voice in a row are one. */
static void render(const ear *e, char *out, size_t room) {
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < e->count; i++) {
        const heard *h = &e->list[i], *before = i ? h - 1 : NULL;
        bool on = before && before->kind == COP_LIVE_TEXT && before->forced == h->forced &&
                  before->bytes > 0 && h->bytes > 0 && strcmp(before->path, h->path) == 0;
        const char *part = i && !on ? " " : "";
        if (h->kind == COP_LIVE_TEXT && !on)
            used += (size_t)snprintf(out + used, room - used, "%s%s%c%s", part, h->path,
                                     h->forced ? '+' : ':', h->text);
        else if (h->kind == COP_LIVE_TEXT)
            used += (size_t)snprintf(out + used, room - used, "%s", h->text);
        else if (h->kind == COP_LIVE_FORK)
            used += (size_t)snprintf(out + used, room - used, "%s[%s", part, h->path);
        else if (h->kind == COP_LIVE_END)
            used += (size_t)snprintf(out + used, room - used, "%s%s]%s%s", part, h->path,
                                     cop_stop_name(h->stop), h->success ? "!" : "");
        else if (h->kind == COP_LIVE_JOIN)
            used += (size_t)snprintf(out + used, room - used, "%s%s>", part, h->path);
        else
            used +=
                (size_t)snprintf(out + used, room - used, "%s/%s", part, cop_stop_name(h->stop));
        CHECK(used < room);
    }
}

static void check_events(const world *w, cop_script *script, uint32_t n, cop_live_options options,
                         const char *expected) {
    static ear e;
    char text[4096];
    cop_metrics m;
    options.script = script;
    options.n_script = n;
    cop_live *live = listen(w, &e, options, &m);
    render(&e, text, sizeof text);
    CHECK_TEXT(text, expected);
    cop_live_destroy(live);
}

static void test_events_of_a_block_come_in_order(void) {
    static const char *const joins[] = {"countdown-reprefill", "countdown-stitch",
                                        "countdown-message"};
    for (int i = 0; i < 3; i++) {
        world w = live_world_open(joins[i], 64, 4096);
        /* Path 1 is given before path 2, and a step asks them in that order. */
        cop_script script[] = {live_world_say(&w, "", "So<try>a<try>b<fork>z$"),
                               live_world_say(&w, "1", "{14}{15}"),
                               live_world_say(&w, "2", "<ok>$")};
        char expected[400]; /* replies and the join's text are given as one */
        snprintf(expected, sizeof expected,
                 ":So<try>a<try>b<fork> [1 1+<thr>a [2 2+<thr>b 1:<en 2:< 1:d> 1]end 2:ok> 2: "
                 "2+<end> 2]end! > +%s<join> :z : /end",
                 i == 2 ? "<no><ok>" : "");
        check_events(&w, script, 3, (cop_live_options){0}, expected);
        live_world_close(&w);
    }
}

static void test_events_of_ends_that_nothing_said(void) {
    world w = live_world_open("countdown-reprefill", 64, 4096);
    cop_script first[] = {live_world_say(&w, "", "<try>a<try>b<fork>z$"),
                          live_world_say(&w, "1", "x<end>"), live_world_say(&w, "2", "y and y")};
    /* Path 2 was not asked again when path 1 ended. */
    check_events(&w, first, 3,
                 (cop_live_options){.join_policy = {.quorum = 1, .keep_partial = true}},
                 ":<try>a<try>b<fork> [1 1+<thr>a [2 2+<thr>b 1:x 2:y 1:< 2:  1:e 2:a 1:n 2:n 1:d "
                 "2:d 1:> 1]end 2+<end> 2]cancelled > +<join> :z : /end");
    cop_script cut[] = {live_world_say(&w, "", "<try>a<fork>"), live_world_say(&w, "1", "xy")};
    check_events(&w, cut, 2, (cop_live_options){.max_tokens = 14},
                 ":<try>a<fork> [1 1+<thr>a 1:xy 1]length /length");
    cop_script refused[] = {live_world_say(&w, "", "<try>a<fork>")};
    check_events(&w, refused, 1, (cop_live_options){.max_branches = 1}, ":<try>a<fork> /refused");
    live_world_close(&w);
}

/* What was told about one branch so far. */
typedef struct told {
    char path[32], text[8192];
    size_t bytes;
    uint32_t sample, given; /* forced tokens before the first said one */
    uint32_t first, n, ended;
    bool over, said, waiting;
} told;

typedef struct story {
    told branch[3 + PATHS_MAX]; /* samples, then paths as they were opened */
    uint32_t n_samples, n;
    uint32_t said;
} story;

static told *find_told(story *s, const heard *h) {
    for (uint32_t i = s->n; i-- > 0;)
        if (s->branch[i].sample == h->sample && strcmp(s->branch[i].path, h->path) == 0)
            return &s->branch[i];
    CHECK(!"a branch that was never opened");
    return NULL;
}

static told *parent_of(story *s, const heard *h) {
    heard above = *h;
    char *dot = strrchr(above.path, '.');
    *(dot ? dot : above.path) = '\0';
    return find_told(s, &above);
}

static void tell_fork(story *s, const cop_live *live, const heard *h) {
    told *parent = parent_of(s, h), *path = &s->branch[s->n];
    cop_live_path read = cop_live_path_read(live, s->n - s->n_samples);
    CHECK(!parent->over && s->n < 3 + PATHS_MAX);
    if (!parent->waiting)
        parent->first = s->n, parent->n = parent->ended = 0;
    parent->waiting = true;
    CHECK_EQ(read.index, parent->n);
    CHECK_EQ(read.sample, h->sample);
    CHECK_EQ(read.block, h->block);
    CHECK_TEXT(read.path, h->path);
    parent->n++;
    *path = (told){.sample = h->sample};
    snprintf(path->path, sizeof path->path, "%s", h->path);
    s->n++;
}

static void tell_text(story *s, told *branch, const heard *h) {
    CHECK(!branch->waiting);
    branch->given += h->forced && !branch->said;
    branch->said |= !h->forced;
    s->said += !h->forced;
    CHECK(branch->bytes + h->bytes < sizeof branch->text);
    memcpy(branch->text + branch->bytes, h->text, h->bytes);
    branch->bytes += h->bytes;
}

static void tell_end(story *s, const cop_live *live, told *branch, const heard *h) {
    cop_live_path read = cop_live_path_read(live, (uint32_t)(branch - s->branch) - s->n_samples);
    parent_of(s, h)->ended++;
    branch->over = true;
    CHECK(h->stop != COP_STOP_NONE);
    CHECK_EQ(read.stop, h->stop);
    CHECK_EQ(read.success, h->success);
    CHECK_EQ(read.block, h->block);
    CHECK(read.bytes >= branch->bytes && memcmp(read.text, branch->text, branch->bytes) == 0);
    if (branch->waiting) /* the texts of its own paths may have joined it */
        CHECK_EQ(branch->ended, branch->n);
    else
        CHECK_EQ(read.bytes, branch->bytes);
    if (branch->said)
        CHECK_EQ(branch->given, read.n_header);
}

static void tell_join(story *s, const cop_live *live, told *branch, bool quiet, bool keep) {
    CHECK(branch->waiting);
    CHECK_EQ(branch->ended, branch->n);
    for (uint32_t i = branch->first; quiet && i < branch->first + branch->n; i++) {
        cop_live_path read = cop_live_path_read(live, i - s->n_samples);
        bool cancelled = read.stop == COP_STOP_CANCELLED || read.stop == COP_STOP_CONFIDENCE;
        if (cancelled && !keep)
            continue;
        CHECK(branch->bytes + read.bytes < sizeof branch->text);
        memcpy(branch->text + branch->bytes, read.text, read.bytes);
        branch->bytes += read.bytes;
    }
    branch->waiting = false;
}

static void tell_stop(const cop_live *live, told *branch, const heard *h) {
    cop_live_sample read = cop_live_sample_read(live, h->sample);
    CHECK_EQ(branch->path[0], 0);
    CHECK_EQ(read.stop, h->stop);
    CHECK(read.bytes >= branch->bytes && memcmp(read.text, branch->text, branch->bytes) == 0);
    CHECK_EQ(branch->ended, branch->n);
    if (!branch->waiting)
        CHECK_EQ(read.bytes, branch->bytes);
    branch->over = true;
}

/* The order that a listener may count on, and that what it heard is what is read afterwards. */
static void check_story(const cop_live *live, const ear *e, uint32_t n_samples, cop_join_rule join,
                        bool keep, uint32_t *ends) {
    static story s;
    memset(&s, 0, sizeof s);
    s.n_samples = s.n = n_samples;
    for (uint32_t i = 0; i < n_samples; i++)
        s.branch[i].sample = i;
    for (uint32_t i = 0; i < e->count; i++) {
        const heard *h = &e->list[i];
        if (h->kind == COP_LIVE_FORK) {
            tell_fork(&s, live, h);
            CHECK(i + 1 < e->count && h[1].kind == COP_LIVE_TEXT && h[1].forced);
            CHECK_TEXT(h[1].path, h->path);
            continue;
        }
        told *branch = find_told(&s, h);
        CHECK(!branch->over);
        if (h->kind == COP_LIVE_TEXT)
            tell_text(&s, branch, h);
        else if (h->kind == COP_LIVE_END)
            tell_end(&s, live, branch, h), ends[h->stop]++;
        else if (h->kind == COP_LIVE_JOIN)
            tell_join(&s, live, branch, join != COP_JOIN_MESSAGE, keep);
        else
            tell_stop(live, branch, h);
    }
    CHECK_EQ(s.n, n_samples + cop_live_path_count(live));
    uint32_t generated = 0;
    for (uint32_t i = 0; i < s.n; i++)
        CHECK(s.branch[i].over);
    for (uint32_t i = 0; i < n_samples; i++)
        generated += cop_live_sample_read(live, i).generated;
    CHECK_EQ(s.said, generated);
}

static uint32_t draw(uint64_t *state, uint32_t bound) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % bound;
}

/* Scripts of blocks in blocks under every rule that ends something early. No token is cut here: so
 * each one is heard once. */
static void test_random_runs_tell_what_they_leave(void) {
    static const char *const joins[] = {"countdown-reprefill", "countdown-stitch",
                                        "countdown-message"};
    static const char *const starts[] = {"<try>a<try>b<fork>so<try>c<fork>$", "x<try>a<fork>",
                                         "<try>a<try>b<try>c<fork>$", "<ok>$", "<fork><try>$"};
    static const char *const paths[] = {"x<end>",      "<ok>7<end>", "a longer one<end>",
                                        "$",           "",           "y<try>c<try>d<fork>z<end>",
                                        "<try><fork>", "<end>"};
    static const char *const names[] = {"1", "2", "3", "1.1", "2.1", "2.2"};
    uint32_t ends[COP_STOP_REFUSED + 1] = {0};
    for (uint32_t j = 0; j < 3; j++) {
        world w = live_world_open(joins[j], 96, 4096);
        cop_dialect d = live_world_dialect(&w);
        for (uint64_t seed = 0; seed < check_effort(60, 15); seed++) {
            static ear e;
            uint64_t state = seed * 31 + j;
            cop_metrics m;
            cop_script script[7] = {live_world_say(&w, "", starts[draw(&state, 5)])};
            for (uint32_t i = 0; i < 6; i++)
                script[i + 1] = live_world_say(&w, names[i], paths[draw(&state, 8)]);
            d.nested = draw(&state, 2);
            d.max_depth = 0;
            d.max_path_tokens = draw(&state, 2) ? 0 : 20;
            d.refused = draw(&state, 2) ? COP_REFUSAL_ENDS_RUN : COP_REFUSAL_DECODES_ON;
            d.path_end = draw(&state, 4) ? COP_PATH_END_JOINS : COP_PATH_END_ENDS_RUN;
            cop_live_options o = {.dialect = &d, .script = script, .n_script = 7};
            o.n_samples = 1 + draw(&state, 3);
            o.max_tokens = 60 + draw(&state, 100);
            o.prune.budget_tokens = draw(&state, 3) ? 0 : 50 + draw(&state, 100);
            o.prune.first_finisher = draw(&state, 3) == 0;
            o.prune.window = draw(&state, 3) ? 0 : 12;
            o.prune.threshold = draw(&state, 2) ? INFINITY : -INFINITY;
            o.join_policy = (cop_join_policy){.quorum = draw(&state, 3),
                                              .success_only = draw(&state, 3) == 0,
                                              .deadline_tokens = draw(&state, 3) ? 0 : 15,
                                              .keep_partial = draw(&state, 2)};
            cop_live *live = listen(&w, &e, o, &m);
            check_story(live, &e, o.n_samples, d.join, o.join_policy.keep_partial, ends);
            cop_live_destroy(live);
        }
        live_world_close(&w);
    }
    uint32_t runs = 3 * check_effort(60, 15); /* each way of ending is met often enough */
    CHECK(ends[COP_STOP_END] > runs / 4 && ends[COP_STOP_CANCELLED] > runs / 4);
    CHECK(ends[COP_STOP_LENGTH] > runs / 36 && ends[COP_STOP_CONFIDENCE] > runs / 36);
}

/* ---- what is read ---- */

static void test_paths_are_read_in_the_order_in_which_they_were_opened(void) {
    world w = live_world_open("countdown-reprefill", 64, 4096);
    cop_dialect d = live_world_dialect(&w);
    d.nested = true;
    d.max_depth = 0;
    cop_metrics m;
    /* An item that says `success` makes no path successful: only what it says itself does. */
    cop_script script[] = {live_world_say(&w, "", "<try><ok><try>b<fork>.<try>c<fork>$"),
                           live_world_say(&w, "1", "1<end>"),
                           live_world_say(&w, "2", "<try>d<fork><ok><end>"),
                           live_world_say(&w, "2.1", "in<end>")};
    cop_live_options options = {.dialect = &d, .script = script, .n_script = 4, .n_samples = 2};
    cop_live *live = live_world_run(&w, &options, &m);
    static const struct {
        const char *path, *text;
        uint32_t block, index, n_header;
        bool success;
    } expected[] = {{"1", "<thr><ok>1<end>", 0, 0, 9, false},
                    {"2", "<thr>b<try>d<fork><thr>din<end><join><ok><end>", 0, 1, 6, true},
                    {"2.1", "<thr>din<end>", 1, 0, 6, false},
                    {"1", "<thr>c1<end>", 2, 0, 6, false}};
    CHECK_EQ(cop_live_path_count(live), 2 * 4);
    for (uint32_t i = 0; i < 8; i++) {
        /* Both samples take the same steps: a block of one, then that of the other. */
        static const uint32_t order[] = {0, 1, 0, 1, 2, 2, 3, 3};
        cop_live_path path = cop_live_path_read(live, i);
        uint32_t k = order[i];
        CHECK_EQ(path.sample, i < 4 ? i / 2 : i % 2);
        CHECK_TEXT(path.path, expected[k].path);
        CHECK_TEXT(live_world_path(live, i).text, expected[k].text);
        CHECK_EQ(path.block, expected[k].block);
        CHECK_EQ(path.index, expected[k].index);
        CHECK_EQ(path.n_header, expected[k].n_header);
        CHECK_EQ(path.success, expected[k].success);
        CHECK_EQ(path.stop, COP_STOP_END);
        CHECK_EQ(path.n_ids, path.bytes);
        for (uint32_t b = 0; b < path.n_ids; b++)
            CHECK_EQ(path.ids[b], (unsigned char)path.text[b]);
    }
    CHECK_EQ(cop_live_sample_read(live, 1).paths, 4);
    cop_live_destroy(live);
    live_world_close(&w);
}

static void test_an_answer_is_the_threads_own_last_one(void) {
    static const struct {
        const char *dialect, *text, *answer; /* NULL: nothing is claimed */
        uint32_t max_tokens;
    } cases[] = {
        {"countdown-reprefill", "<ok>A<ok> 14 - 2$", " 14 - 2", 0},
        {"countdown-reprefill", "<ok>$", "", 0},
        {"countdown-reprefill", "<ok><ok>$", "", 0},
        {"countdown-reprefill", "<ok<ok>x<ok$", "x<ok", 0},
        {"countdown-reprefill", "nothing$", NULL, 0},
        {"countdown-reprefill", "<ok>A", NULL, 5}, /* the limit: it did not end by itself */
        {"countdown-reprefill", "<ok>A$", "A", 6},
        {"countdown-reprefill", "<ok>A<try>a<fork>$", NULL, 0}, /* before the join; a path's own */
        {"countdown-reprefill", "<try>a<fork><ok>B$", "B", 0},
        {"countdown-reprefill", "<try>a<fork>no$", NULL, 0},
        {"countdown-reprefill", "<try>a<fork><ok>B<try>a<fork>$", NULL, 0},
        {"countdown-message", "<try>a<fork>$", NULL, 0}, /* a reply holds one */
        {"countdown-message", "<ok>A<try>a<fork>x<ok>B$", "B", 0},
        {"countdown-stitch", "<ok>A<try>a<fork>x<ok>B$", "B", 0},
        {"countdown-stitch", "<try>a<fork>x$", NULL, 0},
        {"countdown-reprefill", "<ok>A<try>a<try>b<fork>", NULL, 0}, /* refused below */
        {"countdown-sequential", "<try>a<fork><ok>A<join><ok>B$", "B", 0},
        {"multiverse", "<ok>A$", NULL, 0}, /* it names no answer */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        world w = live_world_open(cases[i].dialect, 64, 4096);
        cop_metrics m;
        cop_script script[] = {live_world_say(&w, "", cases[i].text),
                               live_world_say(&w, "1", "<ok>P<end>")};
        cop_live_options options = {.script = script,
                                    .n_script = 2,
                                    .max_branches = strstr(cases[i].text, "b<fork>") ? 2 : 9,
                                    .max_tokens = cases[i].max_tokens};
        cop_live *live = live_world_run(&w, &options, &m);
        cop_live_sample sample = cop_live_sample_read(live, 0);
        CHECK_EQ(sample.answer != NULL, cases[i].answer != NULL);
        if (sample.answer)
            CHECK_TEXT(live_world_text(sample.answer, sample.answer_bytes).text, cases[i].answer);
        cop_live_destroy(live);
        live_world_close(&w);
    }
}

/* ---- resets ---- */

static void check_same_live(const cop_live *a, const cop_live *b, uint32_t n_samples) {
    for (uint32_t i = 0; i < n_samples; i++) {
        cop_live_sample x = cop_live_sample_read(a, i), y = cop_live_sample_read(b, i);
        CHECK_EQ(x.n_ids, y.n_ids);
        CHECK(memcmp(x.ids, y.ids, x.n_ids * sizeof *x.ids) == 0);
        CHECK_EQ(x.bytes, y.bytes);
        CHECK(memcmp(x.text, y.text, x.bytes) == 0);
        CHECK_EQ(x.stop, y.stop);
        CHECK_EQ(x.generated, y.generated);
        CHECK_EQ(x.forks, y.forks);
        CHECK_EQ(x.forks_refused, y.forks_refused);
        CHECK_EQ(x.ill_formed_tags, y.ill_formed_tags);
        CHECK_EQ(x.paths, y.paths);
        CHECK_EQ(x.paths_cancelled, y.paths_cancelled);
        CHECK_EQ(x.answer != NULL, y.answer != NULL);
        CHECK_EQ(x.answer_bytes, y.answer_bytes);
        CHECK(memcmp(&x.lowest_confidence, &y.lowest_confidence, sizeof(double)) == 0);
        CHECK(x.logprob_sum == y.logprob_sum);
    }
    CHECK_EQ(cop_live_path_count(a), cop_live_path_count(b));
    for (uint32_t i = 0; i < cop_live_path_count(a); i++) {
        cop_live_path x = cop_live_path_read(a, i), y = cop_live_path_read(b, i);
        CHECK_EQ(x.sample, y.sample);
        CHECK_EQ(x.block, y.block);
        CHECK_TEXT(x.path, y.path);
        CHECK_EQ(x.n_ids, y.n_ids);
        CHECK_EQ(x.n_header, y.n_header);
        CHECK(memcmp(x.ids, y.ids, x.n_ids * sizeof *x.ids) == 0);
        CHECK_EQ(x.bytes, y.bytes);
        CHECK(memcmp(x.text, y.text, x.bytes) == 0);
        CHECK_EQ(x.success, y.success);
        CHECK_EQ(x.stop, y.stop);
    }
}

/* One driver for all: what a problem left behind, a spent budget, open items, an interrupted run,
 * must not be seen in the next. */
static void check_reset(const char *dialect, cop_live_options options) {
    world w = live_world_open(dialect, 64, 4096);
    static const int32_t prompts[4][3] = {{'A', 'b', 'c'}, {'1'}, {'x', 'y'}, {'z'}};
    static const int32_t spawns[4][2] = {{'S'}, {'T', ':'}, {'U', '-'}, {'V'}};
    static const uint32_t n_prompt[] = {3, 1, 2, 1}, n_spawn[] = {1, 2, 2, 1};
    cop_script script[] = {live_world_say(&w, "", "<try>a<try>b<fork>"),
                           live_world_say(&w, "2", "<ok>said<end>")};
    cop_metrics m, fresh_metrics;
    options.script = script;
    options.n_script = 2;
    options.n_samples = 2;
    options.temperature = 1;
    options.max_tokens = 120;
    cop_live *live = live_world_create(&w, &options);
    for (uint32_t i = 0; i < 4; i++) {
        cop_live_options alone = options;
        alone.prompt = prompts[i], alone.n_prompt = n_prompt[i];
        alone.spawn = spawns[i], alone.n_spawn = n_spawn[i];
        alone.problem_key = i * 7;
        cop_live *fresh = live_world_create(&w, &alone);
        live_world_step(&w, fresh, &fresh_metrics);
        uint64_t before = cop_memory_count();
        CHECK_OK(cop_live_reset(live, prompts[i], n_prompt[i], spawns[i], n_spawn[i], i * 7));
        CHECK_EQ(cop_live_path_count(live), 0);
        CHECK_EQ(cop_live_sample_read(live, 0).stop, COP_STOP_NONE);
        CHECK_EQ(cop_live_sample_read(live, 1).n_ids, 0);
        live_world_step(&w, live, &m);
        CHECK_EQ(cop_memory_count(), before);
        check_same_live(live, fresh, 2);
        CHECK_EQ(m.tokens_total, fresh_metrics.tokens_total);
        CHECK_EQ(m.tokens_prompt, fresh_metrics.tokens_prompt);
        CHECK_EQ(m.steps_forward, fresh_metrics.steps_forward);
        CHECK_EQ(m.kv_load_bytes, fresh_metrics.kv_load_bytes);
        cop_live_destroy(fresh);
    }
    CHECK_STATUS(cop_live_reset(live, prompts[0], 0, spawns[0], 1, 0), COP_ERR_USAGE);
    CHECK_MESSAGE("the prompt is empty");
    bool spawned = cop_dialect_of(w.dialect)->join == COP_JOIN_MESSAGE;
    CHECK_STATUS(cop_live_reset(live, prompts[0], 1, NULL, 0, 0), spawned ? COP_ERR_USAGE : COP_OK);
    cop_live_destroy(live);
    live_world_free(script, 2);
    live_world_close(&w);
}

static void test_a_reset_driver_is_as_a_fresh_one(void) {
    static const char *const dialects[] = {"countdown-message", "countdown-reprefill",
                                           "countdown-stitch", "countdown-sequential"};
    for (int i = 0; i < 4; i++) {
        check_reset(dialects[i], (cop_live_options){0});
        check_reset(dialects[i],
                    (cop_live_options){.prune = {.budget_tokens = 60}, .max_branches = 5});
        check_reset(dialects[i], (cop_live_options){.prune = {.window = 8, .threshold = 3},
                                                    .join_policy = {.keep_partial = true}});
    }
}

/* A run that failed in the middle leaves nothing that the next one sees. */
static void test_a_driver_may_be_reset_after_a_run_that_failed(void) {
    world w = live_world_open("countdown-reprefill", 6, 4096); /* three samples and their blocks */
    cop_metrics m;
    cop_script script[] = {live_world_say(&w, "", "<try>a<try>b<fork>x$")};
    cop_live_options options = {.script = script, .n_script = 1, .n_samples = 3};
    cop_live *live = live_world_create(&w, &options);
    cop_driver *driver = cop_live_driver(live);
    CHECK_STATUS(cop_engine_run(w.engine, &driver, 1, &m), COP_ERR_NO_ROOM);
    CHECK_MESSAGE("raise max_branches");
    CHECK_EQ(m.kv_pages_leaked, 0);
    CHECK_OK(cop_live_gather(live)); /* as after an interrupt: what was said is there */
    CHECK(cop_live_sample_read(live, 0).bytes >= strlen("<try>a<try>b<fork>"));
    live_world_free(script, 1);
    cop_live_destroy(live);

    options = (cop_live_options){.n_samples = 1, .max_tokens = 30};
    live = live_world_create(&w, &options);
    driver = cop_live_driver(live);
    const int32_t unknown = LIVE_WORLD_VOCAB;
    CHECK_OK(cop_live_reset(live, &unknown, 1, NULL, 0, 0));
    CHECK_STATUS(cop_engine_run(w.engine, &driver, 1, &m), COP_ERR_FORMAT);
    CHECK_EQ(m.kv_pages_leaked, 0);
    cop_live *fresh = live_world_create(&w, &options);
    live_world_step(&w, fresh, &m);
    CHECK_OK(cop_live_reset(live, live_world_prompt, 4, NULL, 0, 0));
    live_world_step(&w, live, &m);
    check_same_live(live, fresh, 1);
    cop_live_destroy(live);
    cop_live_destroy(fresh);
    live_world_close(&w);
}

/* ---- confidence on paths ---- */

static void check_window(const world *w, uint32_t window, double threshold, bool keep) {
    /* Path 1 ends with its seventh token, path 2 with its twelfth. */
    cop_script script[] = {live_world_say(w, "", "A longer start than any window" TRY2 "so$"),
                           live_world_say(w, "1", "ab<end>"),
                           live_world_say(w, "2", "abcdefg<end>")};
    static const uint32_t whole[] = {7, 12};
    cop_metrics m;
    cop_live_options options = {.script = script,
                                .n_script = 3,
                                .prune = {.window = window, .threshold = threshold},
                                .join_policy = {.keep_partial = keep}};
    cop_live *live = live_world_run(w, &options, &m);
    cop_live_sample sample = cop_live_sample_read(live, 0);
    uint32_t cancelled = 0, said = 0;
    for (uint32_t i = 0; i < 2; i++) {
        cop_live_path path = cop_live_path_read(live, i);
        /* One whose last token fills the window has ended by itself. */
        bool cut = threshold > 0 && window < whole[i];
        uint32_t own = cut ? window : whole[i];
        CHECK_EQ(path.stop, cut ? COP_STOP_CONFIDENCE : COP_STOP_END);
        CHECK_EQ(path.n_ids - path.n_header, own + (cut && keep ? strlen("<end>") : 0));
        cancelled += cut;
        said += own;
    }
    CHECK_EQ(sample.paths_cancelled, cancelled);
    CHECK_EQ(sample.stop, COP_STOP_END); /* its own thread is not judged */
    CHECK_EQ(sample.generated, strlen("A longer start than any window" TRY2 "so") + 1 + said);
    CHECK_EQ(m.prunes, keep ? 0 : cancelled);
    CHECK(isfinite(sample.lowest_confidence));
    cop_live_destroy(live);
}

static void test_confidence_cancels_each_path_with_the_token_that_fills_its_window(void) {
    static const char *const joins[] = {"countdown-message", "countdown-reprefill",
                                        "countdown-stitch"};
    static const uint32_t windows[] = {1, 2, 6, 7, 8, 11, 12, 13};
    for (int j = 0; j < 3; j++) {
        world w = live_world_open(joins[j], 64, 4096);
        for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
            for (int keep = 0; keep < 2; keep++) {
                check_window(&w, windows[i], INFINITY, keep);
                check_window(&w, windows[i], -INFINITY, keep);
            }
        }
        live_world_close(&w);
    }
}

int main(void) {
    RUN(test_events_of_a_block_come_in_order);
    RUN(test_events_of_ends_that_nothing_said);
    RUN(test_random_runs_tell_what_they_leave);
    RUN(test_paths_are_read_in_the_order_in_which_they_were_opened);
    RUN(test_an_answer_is_the_threads_own_last_one);
    RUN(test_a_reset_driver_is_as_a_fresh_one);
    RUN(test_a_driver_may_be_reset_after_a_run_that_failed);
    RUN(test_confidence_cancels_each_path_with_the_token_that_fills_its_window);
    return check_report();
}
