/* Live drivers in a queue: a few of them serve many problems, each reset for the next one, and each
 * problem is as if it had run alone in a driver of its own. */
#include "live_world.h"

enum { PROBLEMS = 20, AT_ONCE_MAX = 7 };

typedef struct told { /* what a problem leaves */
    char text[2048], paths[8][1024];
    uint32_t n_paths, generated, ended;
    cop_stop stop;
    double logprob_sum;
    cop_problem_result result;
} told;

typedef struct desk {
    cop_problem_queue queue;
    cop_live *live[AT_ONCE_MAX];
    uint32_t problem[AT_ONCE_MAX]; /* that a driver works on; UINT32_MAX: none */
    int32_t prompt[AT_ONCE_MAX][3], spawn[AT_ONCE_MAX][2];
    uint32_t n_live, at;
    uint64_t allocations; /* by resets */
    told *told;           /* [PROBLEMS] */
} desk;

/* Problems ten apart are the same text under another key. */
static uint32_t prompt_tokens(uint32_t n) {
    return 1 + n % 10 % 3;
}

static uint32_t spawn_tokens(uint32_t n) {
    return 1 + n % 2;
}

static void give_problem(uint32_t n, int32_t prompt[3], int32_t spawn[2]) {
    prompt[0] = 'a' + (int32_t)(n % 10);
    prompt[1] = prompt[2] = ':';
    spawn[0] = spawn[1] = 'A' + (int32_t)(n % 10);
}

static cop_driver *desk_next(cop_problem_queue *queue) {
    desk *d = (desk *)queue;
    uint32_t i = 0;
    if (d->at == PROBLEMS)
        return NULL;
    while (d->problem[i] != UINT32_MAX)
        i++;
    CHECK(i < d->n_live);
    uint32_t n = d->problem[i] = d->at++;
    uint64_t before = cop_memory_count();
    give_problem(n, d->prompt[i], d->spawn[i]);
    CHECK_OK(cop_live_reset(d->live[i], d->prompt[i], prompt_tokens(n), d->spawn[i],
                            spawn_tokens(n), n));
    d->allocations += cop_memory_count() - before;
    return cop_live_driver(d->live[i]);
}

static void copy_text(char *out, size_t room, const char *text, size_t bytes) {
    CHECK(bytes < room);
    memcpy(out, text, bytes);
    out[bytes] = '\0';
}

static void desk_ended(cop_problem_queue *queue, cop_driver *driver,
                       const cop_problem_result *result) {
    desk *d = (desk *)queue;
    uint32_t i = 0;
    while (cop_live_driver(d->live[i]) != driver)
        i++;
    told *t = &d->told[d->problem[i]];
    cop_live_sample sample = cop_live_sample_read(d->live[i], 0);
    copy_text(t->text, sizeof t->text, sample.text, sample.bytes);
    t->generated = sample.generated;
    t->stop = sample.stop;
    t->logprob_sum = sample.logprob_sum;
    t->n_paths = cop_live_path_count(d->live[i]);
    t->result = *result;
    t->ended++;
    for (uint32_t p = 0; p < t->n_paths; p++) {
        cop_live_path path = cop_live_path_read(d->live[i], p);
        copy_text(t->paths[p], sizeof t->paths[p], path.text, path.bytes);
    }
    d->problem[i] = UINT32_MAX;
}

enum { SCRIPTS = 3 };

static cop_live *open_live(const world *w, const cop_dialect *dialect, const cop_script *script,
                           cop_join_policy policy, cop_live_options options) {
    options.dialect = dialect;
    options.script = script;
    options.n_script = SCRIPTS;
    options.max_tokens = 80;
    options.max_branches = 8;
    options.temperature = 1;
    options.join_policy = policy;
    return live_world_create(w, &options);
}

/* Each problem in a driver of its own that was never reset, in a run of its own. */
static void check_fresh(const world *w, const cop_dialect *dialect, const cop_script *script,
                        cop_join_policy policy, const told *t) {
    for (uint32_t n = 0; n < PROBLEMS; n++, t++) {
        int32_t prompt[3], spawn[2];
        cop_metrics m;
        give_problem(n, prompt, spawn);
        cop_live_options options = {.prompt = prompt,
                                    .n_prompt = prompt_tokens(n),
                                    .spawn = spawn,
                                    .n_spawn = spawn_tokens(n),
                                    .problem_key = n};
        cop_live *live = open_live(w, dialect, script, policy, options);
        live_world_step(w, live, &m);
        CHECK_TEXT(live_world_read(live).text, t->text);
        CHECK_EQ(m.tokens_total, t->result.tokens_total);
        CHECK_EQ(m.tokens_longest_thread, t->result.tokens_longest_thread);
        CHECK_EQ(m.tokens_critical_path, t->result.tokens_critical_path);
        cop_live_destroy(live);
    }
}

/* The first words are scripted, what follows is drawn: blocks of different lengths, so that
 * problems begin and end while others stand inside theirs. */
static told *work(const world *w, uint32_t at_once, cop_join_policy policy, cop_metrics *m) {
    cop_dialect dialect = live_world_dialect(w);
    dialect.max_path_tokens = 14;
    dialect.max_blocks = 1;
    cop_script script[SCRIPTS] = {live_world_say(w, "", "So<try>a<try>bc<try>d<fork>"),
                                  live_world_say(w, "1", "<ok>1<end>"),
                                  live_world_say(w, "2", "2")};
    desk d = {.queue = {desk_next, desk_ended}, .n_live = at_once};
    d.told = cop_calloc(PROBLEMS, sizeof *d.told);
    for (uint32_t i = 0; i < at_once; i++) {
        d.problem[i] = UINT32_MAX;
        d.live[i] = open_live(w, &dialect, script, policy, (cop_live_options){0});
    }
    CHECK_OK(cop_engine_run_queue(w->engine, &d.queue, at_once, m));
    CHECK_EQ(m->kv_pages_leaked, 0);
    CHECK_EQ(m->allocations_in_steps, 0);
    CHECK_EQ(d.allocations, 0);
    CHECK_EQ(m->kv_first_bytes, m->kv_min_bytes);
    CHECK_EQ(m->kv_load_bytes, m->kv_predicted_load_bytes);
    for (uint32_t i = 0; i < at_once; i++)
        cop_live_destroy(d.live[i]);
    if (at_once == 1)
        check_fresh(w, &dialect, script, policy, d.told);
    live_world_free(script, SCRIPTS);
    return d.told;
}

static void check_told(const told *a, const told *b, const cop_metrics *m) {
    uint64_t total = 0, longest = 0, critical = 0, taken = 0;
    for (uint32_t n = 0; n < PROBLEMS; n++, a++, b++) {
        CHECK_EQ(b->ended, 1);
        CHECK_EQ(b->result.number, n);
        CHECK_TEXT(b->text, a->text);
        CHECK_EQ(b->stop, a->stop);
        CHECK_EQ(b->generated, a->generated);
        CHECK(b->logprob_sum == a->logprob_sum);
        CHECK_EQ(b->n_paths, a->n_paths);
        for (uint32_t p = 0; p < a->n_paths; p++)
            CHECK_TEXT(b->paths[p], a->paths[p]);
        CHECK_EQ(b->result.tokens_total, b->generated);
        CHECK_EQ(b->result.tokens_total, a->result.tokens_total);
        CHECK_EQ(b->result.tokens_longest_thread, a->result.tokens_longest_thread);
        CHECK_EQ(b->result.tokens_critical_path, a->result.tokens_critical_path);
        CHECK(b->result.begin_ns <= b->result.end_ns && b->result.end_ns <= m->wall_ns);
        total += b->result.tokens_total;
        longest += b->result.tokens_longest_thread;
        critical += b->result.tokens_critical_path;
        taken += b->n_paths;
    }
    CHECK_EQ(m->tokens_total, total);
    CHECK_EQ(m->tokens_longest_thread, longest);
    CHECK_EQ(m->tokens_critical_path, critical);
    CHECK_EQ(taken, 3 * PROBLEMS);
}

static void test_forking_problems_side_by_side_are_as_alone(void) {
    static const char *const joins[] = {"countdown-message", "countdown-reprefill",
                                        "countdown-stitch"};
    static const cop_join_policy policies[] = {
        {0}, {.quorum = 1}, {.deadline_tokens = 9, .keep_partial = true}};
    for (int j = 0; j < 3; j++) {
        world w = live_world_open(joins[j], 64, 4096);
        for (int k = 0; k < 3; k++) {
            cop_metrics m, alone;
            told *one = work(&w, 1, policies[k], &alone);
            check_told(one, one, &alone);
            CHECK(strcmp(one[0].text, one[10].text) != 0);
            for (uint32_t at_once = 2; at_once <= AT_ONCE_MAX; at_once += k ? 3 : 1) {
                told *many = work(&w, at_once, policies[k], &m);
                check_told(one, many, &m);
                CHECK(m.steps_forward < alone.steps_forward);
                cop_free(many);
            }
            cop_free(one);
        }
        live_world_close(&w);
    }
}

typedef struct serial_queue {
    cop_problem_queue queue;
    cop_driver **next;
    uint32_t left;
} serial_queue;

static cop_driver *serial_next(cop_problem_queue *queue) {
    serial_queue *s = (serial_queue *)queue;
    return s->left-- > 0 ? *s->next++ : NULL;
}

/* The limit ends a problem with the token that ends its last path: what the path was fed is still
 * to be computed for a join that nobody reads. It must not run beside the next problem. */
static void test_what_an_ended_problem_left_to_run_is_dropped(void) {
    world w = live_world_open("countdown-stitch", 64, 4096);
    cop_script script[] = {live_world_say(&w, "", "<try>a<fork>"),
                           live_world_say(&w, "1", "x<end>")};
    cop_live_options options = {.script = script, .n_script = 2, .max_tokens = 12 + 6};
    cop_live *live[3];
    cop_driver *drivers[3];
    cop_metrics one, m;
    for (int i = 0; i < 3; i++) {
        live[i] = live_world_create(&w, &options);
        drivers[i] = cop_live_driver(live[i]);
    }
    live_world_step(&w, live[0], &one);
    CHECK_EQ(cop_live_sample_read(live[0], 0).stop, COP_STOP_LENGTH);
    CHECK_TEXT(live_world_read(live[0]).text, "<try>a<fork><thr>ax<end><join>");
    CHECK_OK(cop_live_reset(live[0], live_world_prompt, 4, NULL, 0, 0));
    serial_queue serial = {{serial_next, NULL}, drivers, 3};
    CHECK_OK(cop_engine_run_queue(w.engine, &serial.queue, 1, &m));
    CHECK_EQ(m.rows, 3 * one.rows);
    CHECK_EQ(m.kv_load_bytes, 3 * one.kv_load_bytes);
    CHECK_EQ(m.kv_pages_leaked, 0);
    for (int i = 0; i < 3; i++)
        cop_live_destroy(live[i]);
    live_world_free(script, 2);
    live_world_close(&w);
}

int main(void) {
    RUN(test_what_an_ended_problem_left_to_run_is_dropped);
    RUN(test_forking_problems_side_by_side_are_as_alone);
    return check_report();
}
