/* What the engine does for many contexts and many problems: spawned children, and a queue that
 * keeps several problems running. */
#include "base/memory.h"
#include "check.h"
#include "reason/driver_live.h"

typedef struct world {
    cop_model *model;
    cop_engine *engine;
} world;

static world open_world(uint32_t max_branches) {
    world w;
    cop_engine_options options = {.arith = COP_ARITH_BF16,
                                  .n_threads = 1,
                                  .page_tokens = 16,
                                  .n_pages = 1000,
                                  .max_branches = max_branches,
                                  .max_positions = 1024,
                                  .seed = 3};
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &w.model));
    CHECK_OK(cop_engine_create(w.model, &options, &w.engine));
    return w;
}

static void close_world(world *w) {
    cop_engine_destroy(w->engine);
    cop_model_close(w->model);
}

static void check_clean(const cop_metrics *m) {
    CHECK_EQ(m->kv_pages_leaked, 0);
    CHECK_EQ(m->allocations_in_steps, 0);
    CHECK_EQ(m->kv_first_bytes, m->kv_min_bytes);
    CHECK_EQ(m->kv_first_bytes, m->kv_predicted_first_bytes);
    CHECK_EQ(m->kv_load_bytes, m->kv_predicted_load_bytes);
    CHECK_EQ(m->failed_rows, 0);
}

/* ---- spawned children ---- */

enum { SPAWNED = 3, SPAWN_TOKENS = 24, SPAWN_PROMPT = 37 };

typedef enum opening { OPEN_SPAWN, OPEN_FORK, OPEN_NONE } opening;

/* Opens children while the parent stands at position 50; each is fed another prompt, the last in
 * two spans, and decodes greedily. OPEN_NONE: a problem whose root is fed child `alone`'s prompt,
 * and decodes itself. */
typedef struct spawner {
    cop_driver driver;
    int32_t prompt[50], own[SPAWNED][SPAWN_PROMPT];
    opening opening;
    uint32_t alone;
    cop_branch root, children[SPAWNED];
    int32_t said[SPAWNED][SPAWN_TOKENS];
    float logprob[SPAWNED][SPAWN_TOKENS];
    uint32_t n_said[SPAWNED], joined, parent_position;
} spawner;

static cop_status spawner_start(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    spawner *s = (spawner *)driver;
    bool spawn = s->opening == OPEN_SPAWN;
    COP_TRY(cop_engine_root(engine, problem, &s->root));
    if (s->opening == OPEN_NONE) {
        cop_engine_set_data(engine, s->root, s->alone);
        return cop_engine_feed(engine, s->root, s->own[s->alone], SPAWN_PROMPT, COP_FEED_PROMPT);
    }
    COP_TRY(cop_engine_feed(engine, s->root, s->prompt, 50, COP_FEED_PROMPT));
    COP_TRY((spawn ? cop_engine_spawn : cop_engine_fork)(engine, s->root, SPAWNED, s->children));
    for (uint32_t i = 0; i < SPAWNED; i++) {
        cop_branch_info info = cop_engine_branch(engine, s->children[i]);
        uint32_t from = spawn ? 0 : 50, first = i + 1 < SPAWNED ? SPAWN_PROMPT : 16;
        CHECK_EQ(info.next_position, from);
        CHECK_EQ(info.index, i);
        CHECK_EQ(info.depth, 1);
        CHECK_EQ(info.parent, s->root);
        CHECK_EQ(cop_engine_child(engine, s->root, i), s->children[i]);
        cop_engine_set_data(engine, s->children[i], i);
        COP_TRY(cop_engine_feed(engine, s->children[i], s->own[i], first, COP_FEED_SPAWN));
        COP_TRY(cop_engine_feed(engine, s->children[i], s->own[i] + first, SPAWN_PROMPT - first,
                                COP_FEED_HEADER));
        CHECK_EQ(cop_engine_branch(engine, s->children[i]).next_position, from + SPAWN_PROMPT);
    }
    return COP_OK;
}

static void no_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                       cop_sample_request *request) {
    (void)driver, (void)engine, (void)branch, (void)request; /* greedy */
}

static cop_status spawner_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                                const cop_sample *sample) {
    spawner *s = (spawner *)driver;
    uint32_t i = cop_engine_branch(engine, branch).data, n = s->n_said[i]++;
    s->said[i][n] = sample->token;
    s->logprob[i][n] = sample->logprob;
    cop_engine_generated(engine, branch, 1);
    if (s->n_said[i] == SPAWN_TOKENS)
        return cop_engine_end(engine, branch, COP_END_DONE);
    return cop_engine_feed(engine, branch, &s->said[i][n], 1, COP_FEED_DECODE);
}

static cop_status spawner_joined(cop_driver *driver, cop_engine *engine, cop_branch parent) {
    spawner *s = (spawner *)driver;
    s->joined++;
    COP_TRY(cop_engine_join_text(engine, parent, false));
    s->parent_position = cop_engine_branch(engine, parent).next_position;
    return cop_engine_end(engine, parent, COP_END_DONE);
}

static spawner run_spawner(world *w, opening how, int32_t first, cop_metrics *m) {
    spawner s = {.driver = {.problem_key = 9,
                            .start = spawner_start,
                            .request = no_request,
                            .token = spawner_token,
                            .joined = spawner_joined},
                 .opening = how,
                 .alone = how == OPEN_NONE ? (uint32_t)first : 0};
    for (int32_t i = 0; i < 50; i++)
        s.prompt[i] = first + i;
    for (int32_t i = 0; i < SPAWNED * SPAWN_PROMPT; i++)
        s.own[i / SPAWN_PROMPT][i % SPAWN_PROMPT] = (i * 7 + i / SPAWN_PROMPT * 31) % 300;
    cop_driver *driver = &s.driver;
    CHECK_OK(cop_engine_run(w->engine, &driver, 1, m));
    check_clean(m);
    return s;
}

static void test_a_spawned_child_decodes_as_a_fresh_problem(void) {
    world w = open_world(64);
    cop_metrics m;
    spawner s = run_spawner(&w, OPEN_SPAWN, 3, &m), other = run_spawner(&w, OPEN_SPAWN, 100, &m);
    CHECK_EQ(s.joined, 1);
    CHECK_EQ(s.parent_position, 50); /* the parent goes on where it stood */
    CHECK_EQ(m.tokens_prompt, 50 + SPAWNED * SPAWN_PROMPT - (SPAWN_PROMPT - 16));
    CHECK_EQ(m.tokens_forced, SPAWN_PROMPT - 16);
    CHECK_EQ(m.tokens_total, SPAWNED * SPAWN_TOKENS);
    CHECK_EQ(m.forks, 1);
    CHECK_EQ(m.joins, 1);
    CHECK_EQ(m.tokens_longest_thread, SPAWN_TOKENS + SPAWN_PROMPT - 16);
    CHECK_EQ(m.tokens_critical_path, 50 + SPAWN_PROMPT + SPAWN_TOKENS);
    /* What its parent was fed does not reach it; a forked child sees that. */
    CHECK(memcmp(s.said, other.said, sizeof s.said) == 0);
    CHECK(memcmp(s.logprob, other.logprob, sizeof s.logprob) == 0);
    spawner a = run_spawner(&w, OPEN_FORK, 3, &m), b = run_spawner(&w, OPEN_FORK, 100, &m);
    CHECK(memcmp(a.logprob, b.logprob, sizeof a.logprob) != 0);
    CHECK(memcmp(a.logprob, s.logprob, sizeof a.logprob) != 0);
    for (uint32_t i = 0; i < SPAWNED; i++) {
        spawner fresh = run_spawner(&w, OPEN_NONE, (int32_t)i, &m);
        CHECK_EQ(fresh.n_said[i], SPAWN_TOKENS);
        CHECK(memcmp(fresh.said[i], s.said[i], sizeof s.said[i]) == 0);
        CHECK(memcmp(fresh.logprob[i], s.logprob[i], sizeof s.logprob[i]) == 0);
    }
    close_world(&w);
}

/* ---- a queue of problems ---- */

enum { QUEUE = 20, QUEUE_TOKENS = 40 };

typedef enum fault { FAULT_NONE, FAULT_START, FAULT_TOKEN, FAULT_JOINED } fault;

/* Problem i decodes i % 7 * 5 + 3 tokens of each of its samples; some end as soon as they start. */
typedef struct queued {
    cop_driver driver; /* passes on to the live one */
    cop_live *live;
    bool ends_at_once;
    fault fault;
    uint32_t tokens, seen, n_ended;
    int32_t prompt[30];
    cop_problem_result result;
} queued;

typedef struct problem_list {
    cop_problem_queue queue;
    queued problem[QUEUE];
    uint32_t n, at, running, running_peak, after_last;
    uint64_t last_begin_ns;
} problem_list;

static cop_status queued_start(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    queued *q = (queued *)driver;
    cop_branch root;
    if (!q->ends_at_once && q->fault != FAULT_START)
        return cop_live_driver(q->live)->start(cop_live_driver(q->live), engine, problem);
    COP_TRY(cop_engine_root(engine, problem, &root));
    COP_TRY(cop_engine_feed(engine, root, q->prompt, 30, COP_FEED_PROMPT));
    if (q->fault == FAULT_START)
        return COP_FAIL(COP_ERR_MISMATCH, "a fault in a start");
    return cop_engine_end(engine, root, COP_END_DONE);
}

static void queued_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                           cop_sample_request *request) {
    cop_driver *live = cop_live_driver(((queued *)driver)->live);
    live->request(live, engine, branch, request);
}

static cop_status queued_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                               const cop_sample *sample) {
    queued *q = (queued *)driver;
    cop_driver *live = cop_live_driver(q->live);
    if (q->fault == FAULT_TOKEN && ++q->seen == 9)
        return COP_FAIL(COP_ERR_MISMATCH, "a fault in a token");
    return live->token(live, engine, branch, sample);
}

static cop_status queued_joined(cop_driver *driver, cop_engine *engine, cop_branch parent) {
    queued *q = (queued *)driver;
    cop_driver *live = cop_live_driver(q->live);
    if (q->fault == FAULT_JOINED)
        return COP_FAIL(COP_ERR_MISMATCH, "a fault in a join");
    return live->joined(live, engine, parent);
}

static cop_driver *queue_next(cop_problem_queue *queue) {
    problem_list *list = (problem_list *)queue;
    if (list->at == list->n) {
        list->after_last++;
        return NULL;
    }
    if (++list->running > list->running_peak)
        list->running_peak = list->running;
    return &list->problem[list->at++].driver;
}

static void queue_ended(cop_problem_queue *queue, cop_driver *driver,
                        const cop_problem_result *result) {
    problem_list *list = (problem_list *)queue;
    queued *q = (queued *)driver;
    q->result = *result;
    q->n_ended++;
    list->running--;
}

static problem_list *open_list(uint32_t n) {
    problem_list *list = cop_calloc(1, sizeof *list);
    list->queue = (cop_problem_queue){queue_next, queue_ended};
    list->n = n;
    for (uint32_t i = 0; i < n; i++) {
        queued *q = &list->problem[i];
        q->driver = (cop_driver){.problem_key = 100 + i,
                                 .start = queued_start,
                                 .request = queued_request,
                                 .token = queued_token,
                                 .joined = queued_joined};
        q->ends_at_once = i % 6 == 5;
        q->tokens = i % 7 * 5 + 3;
        for (int32_t k = 0; k < 30; k++)
            q->prompt[k] = k * 3;
        cop_live_options options = {.prompt = q->prompt,
                                    .n_prompt = 30,
                                    .n_samples = 1 + i % 3,
                                    .max_tokens = q->tokens,
                                    .problem_key = 100 + i,
                                    .temperature = 1,
                                    .top_p = 1};
        CHECK_OK(cop_live_create(&options, &q->live));
    }
    return list;
}

static void close_list(problem_list *list) {
    for (uint32_t i = 0; i < list->n; i++)
        cop_live_destroy(list->problem[i].live);
    cop_free(list);
}

static void check_results(const problem_list *list, uint32_t at_once, const cop_metrics *m) {
    uint64_t total = 0, longest = 0, critical = 0, begin_ns = 0, end_ns = 0;
    for (uint32_t i = 0; i < list->n; i++) {
        const queued *q = &list->problem[i];
        const cop_problem_result *r = &q->result;
        CHECK_EQ(q->n_ended, 1);
        CHECK_EQ(r->number, i);
        CHECK(begin_ns <= r->begin_ns && r->begin_ns <= r->end_ns && r->end_ns <= m->wall_ns);
        if (at_once == 1)
            CHECK(r->begin_ns >= end_ns);
        begin_ns = r->begin_ns;
        end_ns = r->end_ns;
        CHECK_EQ(r->tokens_total, q->ends_at_once ? 0 : q->tokens * (1 + i % 3));
        CHECK_EQ(r->tokens_longest_thread, q->ends_at_once ? 0 : q->tokens);
        CHECK_EQ(r->tokens_critical_path, 30 + r->tokens_longest_thread);
        total += r->tokens_total;
        longest += r->tokens_longest_thread;
        critical += r->tokens_critical_path;
    }
    CHECK_EQ(m->tokens_total, total);
    CHECK_EQ(m->tokens_longest_thread, longest);
    CHECK_EQ(m->tokens_critical_path, critical);
    CHECK_EQ(m->tokens_prompt, 30 * list->n);
    CHECK_EQ(list->running, 0);
    CHECK_EQ(list->running_peak, at_once < list->n ? at_once : list->n);
    /* Who said NULL is asked again only when a problem has ended, which may go on. */
    CHECK(list->after_last >= 1 && list->after_last <= list->n + 1);
}

static void check_same_tokens(const problem_list *a, const problem_list *b, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; !a->problem[i].ends_at_once && k < 1 + i % 3; k++) {
            cop_live_sample x = cop_live_sample_read(a->problem[i].live, k);
            cop_live_sample y = cop_live_sample_read(b->problem[i].live, k);
            CHECK_EQ(x.n_ids, a->problem[i].tokens);
            CHECK_EQ(x.n_ids, y.n_ids);
            CHECK(memcmp(x.ids, y.ids, x.n_ids * sizeof *x.ids) == 0);
            CHECK(x.logprob_sum == y.logprob_sum);
        }
    }
}

static void test_a_queue_gives_each_problem_its_own_tokens(void) {
    world w = open_world(64);
    cop_metrics m, alone;
    problem_list *one = open_list(QUEUE);
    CHECK_OK(cop_engine_run_queue(w.engine, &one->queue, 1, &alone));
    check_clean(&alone);
    check_results(one, 1, &alone);
    /* The same prompt everywhere: the problem's own key makes the difference. */
    CHECK(memcmp(cop_live_sample_read(one->problem[6].live, 0).ids,
                 cop_live_sample_read(one->problem[13].live, 0).ids, 33 * sizeof(int32_t)) != 0);
    for (uint32_t at_once = 2; at_once <= 7; at_once++) {
        problem_list *many = open_list(QUEUE);
        CHECK_OK(cop_engine_run_queue(w.engine, &many->queue, at_once, &m));
        check_clean(&m);
        check_results(many, at_once, &m);
        check_same_tokens(one, many, QUEUE);
        CHECK(m.steps_forward < alone.steps_forward);
        CHECK_EQ(m.kv_append_bytes, alone.kv_append_bytes);
        close_list(many);
    }
    close_list(one);
    close_world(&w);
}

static void test_a_queue_that_is_empty_or_short(void) {
    world w = open_world(40);
    cop_metrics m;
    for (uint32_t n = 0; n < 4; n++) {
        problem_list *list = open_list(n);
        CHECK_OK(cop_engine_run_queue(w.engine, &list->queue, 5, &m));
        check_clean(&m);
        check_results(list, 5, &m);
        CHECK_EQ(m.steps_forward > 0, n > 0);
        close_list(list);
    }
    problem_list *list = open_list(QUEUE); /* none takes a step; nobody listens */
    for (uint32_t i = 0; i < QUEUE; i++)
        list->problem[i].ends_at_once = true;
    list->queue.ended = NULL;
    CHECK_OK(cop_engine_run_queue(w.engine, &list->queue, 3, &m));
    check_clean(&m);
    CHECK_EQ(list->at, QUEUE);
    CHECK_EQ(m.steps_forward, 0);
    CHECK_EQ(m.branches, QUEUE);
    list->at = 0;
    CHECK_STATUS(cop_engine_run_queue(w.engine, &list->queue, 0, &m), COP_ERR_NO_ROOM);
    CHECK_STATUS(cop_engine_run_queue(w.engine, &list->queue, 41, &m), COP_ERR_NO_ROOM);
    CHECK_MESSAGE("this engine takes 1 to 40");
    CHECK_EQ(list->at, 0);
    close_list(list);
    close_world(&w);
}

static void test_an_error_in_the_middle_releases_everything(void) {
    world w = open_world(64);
    cop_metrics m;
    problem_list *good = open_list(QUEUE);
    CHECK_OK(cop_engine_run_queue(w.engine, &good->queue, 3, &m));
    for (fault f = FAULT_START; f <= FAULT_JOINED; f++) {
        problem_list *list = open_list(QUEUE);
        list->problem[8].fault = f; /* among others that run */
        CHECK_STATUS(cop_engine_run_queue(w.engine, &list->queue, 3, &m), COP_ERR_MISMATCH);
        CHECK_MESSAGE("a fault in a");
        CHECK_EQ(m.kv_pages_leaked, 0);
        CHECK_EQ(m.allocations_in_steps, 0);
        CHECK(m.tokens_total > 0 && m.wall_ns > 0);
        CHECK_EQ(list->problem[8].n_ended, 0);
        CHECK_EQ(list->problem[0].n_ended, 1);
        CHECK_EQ(list->problem[QUEUE - 1].n_ended, 0);
        close_list(list);
        list = open_list(QUEUE); /* the engine is as good as new */
        CHECK_OK(cop_engine_run_queue(w.engine, &list->queue, 3, &m));
        check_clean(&m);
        check_same_tokens(good, list, QUEUE);
        close_list(list);
    }
    close_list(good);
    close_world(&w);
}

int main(void) {
    RUN(test_a_spawned_child_decodes_as_a_fresh_problem);
    RUN(test_a_queue_gives_each_problem_its_own_tokens);
    RUN(test_a_queue_that_is_empty_or_short);
    RUN(test_an_error_in_the_middle_releases_everything);
    return check_report();
}
