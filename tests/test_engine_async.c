/* A parent that goes on beside its children: random forks, spawns, waits and joins against a naive
 * model, which knows for each branch what its view holds, as one sequence of tokens. */
#include <string.h>

#include "base/memory.h"
#include "check.h"
#include "reason/engine_internal.h"

enum { AGENTS = 40, SEQUENCE = 4000, PROMPT = 21, HEADER = 12, ROOT_TOKENS = 60 };

typedef enum agent_state { AGENT_NONE, AGENT_RUNS, AGENT_ENDED, AGENT_JOINED } agent_state;

typedef struct agent {
    agent_state state;
    cop_branch branch;
    int32_t sequence[SEQUENCE];  /* what its view holds */
    bool said[SEQUENCE];         /* these were sampled */
    uint32_t n, begin, position; /* begin: of its own tokens */
    uint32_t n_said, length, thread_at_fork;
} agent;

/* Agent 0 is the root. What it does after its token k hangs on k alone. */
typedef struct organizer {
    cop_driver driver;
    uint64_t seed;
    agent agents[AGENTS];
    uint32_t n_agents, awaits; /* UINT32_MAX: all; 0: nothing */
    uint32_t n_waits, n_ready, n_joins, restarts;
    bool text_only, ends_early, delays; /* delays: workers take three times as long */
    uint64_t chain;
} organizer;

static uint32_t draw(const organizer *o, uint32_t at, uint32_t what, uint32_t below) {
    return cop_rng_below((cop_rng_key){o->seed, at, what}, 0, below);
}

static void hold(agent *a, int32_t token, bool said) {
    CHECK(a->n < SEQUENCE);
    a->said[a->n] = said;
    a->sequence[a->n++] = token;
    a->position++;
}

static cop_status give(cop_engine *engine, agent *a, const int32_t *ids, uint32_t n,
                       cop_feed feed) {
    const uint32_t first = a->n;
    for (uint32_t i = 0; i < n; i++)
        hold(a, ids[i], false);
    return cop_engine_feed(engine, a->branch, a->sequence + first, n, feed);
}

static void check_agent(const cop_engine *engine, const organizer *o, const agent *a) {
    const cop_branch_info info = cop_engine_branch(engine, a->branch);
    const cop_branch_record *record = &engine->branches[a->branch];
    CHECK_EQ(info.next_position, a->position);
    if (record->parked || record->node == COP_NODE_NONE)
        return;
    const uint32_t held = cop_kv_view_tokens(engine->kv, record->node) - record->reserved;
    CHECK_EQ(held, a->n);
    uint32_t open = 0, live = 0;
    for (uint32_t i = 1; a == o->agents && i < o->n_agents; i++) {
        open += o->agents[i].state == AGENT_RUNS || o->agents[i].state == AGENT_ENDED;
        live += o->agents[i].state == AGENT_RUNS;
    }
    CHECK_EQ(info.n_children, open);
    CHECK_EQ(info.n_children_live, live);
}

static void check_all(const cop_engine *engine, const organizer *o) {
    CHECK_OK(cop_kv_check(engine->kv));
    for (uint32_t i = 0; i < o->n_agents; i++)
        if (o->agents[i].state == AGENT_RUNS || (i > 0 && o->agents[i].state == AGENT_ENDED))
            check_agent(engine, o, &o->agents[i]);
}

static cop_status begin(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    organizer *o = (organizer *)driver;
    int32_t prompt[PROMPT];
    memset(o->agents, 0, sizeof o->agents);
    o->n_agents = 1;
    o->awaits = o->n_joins = 0;
    o->chain = 0;
    o->agents[0].state = AGENT_RUNS;
    COP_TRY(cop_engine_root(engine, problem, &o->agents[0].branch));
    for (uint32_t i = 0; i < PROMPT; i++)
        prompt[i] = (int32_t)(3 + i);
    cop_engine_set_data(engine, o->agents[0].branch, 0);
    return give(engine, &o->agents[0], prompt, PROMPT, COP_FEED_PROMPT);
}

static cop_status open_worker(organizer *o, cop_engine *engine, uint32_t number) {
    agent *root = o->agents, *a = &o->agents[number];
    int32_t header[HEADER];
    const bool spawn = draw(o, number, 1, 2);
    const uint32_t gap = o->text_only || spawn ? 0 : draw(o, number, 2, 20);
    const uint32_t n = 1 + draw(o, number, 3, HEADER);
    *a = (agent){.state = AGENT_RUNS, .length = 1 + draw(o, number, 4, 20)};
    a->length *= o->delays ? 3 : 1;
    a->thread_at_fork = (uint32_t)o->chain;
    if (!spawn) {
        memcpy(a->sequence, root->sequence, root->n * sizeof *a->sequence);
        a->n = a->begin = root->n;
        a->position = root->position;
    }
    o->n_agents = number + 1;
    COP_TRY(spawn ? cop_engine_spawn_beside(engine, root->branch, &a->branch)
                  : cop_engine_fork_beside(engine, root->branch, gap, &a->branch));
    root->position += gap;
    cop_engine_set_data(engine, a->branch, number);
    for (uint32_t i = 0; i < n; i++)
        header[i] = (int32_t)(5 + (number * 7 + i * 3) % 90);
    return give(engine, a, header, n, spawn ? COP_FEED_SPAWN : COP_FEED_HEADER);
}

static bool stitched(const organizer *o, const agent *a) {
    return !o->text_only && draw(o, (uint32_t)(a - o->agents), 5, 2);
}

/* Joins are of one kind each: text, or stitched ones together. */
static cop_status join(organizer *o, cop_engine *engine, const uint32_t *numbers, uint32_t n) {
    static const int32_t behind[] = {7, 8};
    agent *root = o->agents;
    int32_t text[SEQUENCE];
    uint32_t n_text = 0;
    for (uint32_t i = 0; i < n; i++) {
        agent *a = &o->agents[numbers[i]];
        const bool stitch = stitched(o, a);
        const cop_join_beside one = {&a->branch, 1, stitch, false};
        COP_TRY(cop_engine_join_beside(engine, root->branch, &one));
        for (uint32_t t = a->begin; t < a->n; t++) {
            if (stitch)
                root->sequence[root->n++] = a->sequence[t];
            else
                text[n_text++] = a->sequence[t];
        }
        const uint64_t through = a->thread_at_fork + (uint64_t)a->n_said;
        o->chain = through > o->chain ? through : o->chain;
        a->state = AGENT_JOINED;
        o->n_joins++;
    }
    COP_TRY(give(engine, root, text, n_text, COP_FEED_AGAIN));
    return give(engine, root, behind, 2, COP_FEED_JOIN);
}

static uint32_t list_open(const organizer *o, uint32_t *numbers) {
    uint32_t n = 0;
    for (uint32_t i = 1; i < o->n_agents; i++)
        if (o->agents[i].state == AGENT_RUNS || o->agents[i].state == AGENT_ENDED)
            numbers[n++] = i;
    return n;
}

static cop_status joined(cop_driver *driver, cop_engine *engine, cop_branch parent) {
    organizer *o = (organizer *)driver;
    uint32_t numbers[AGENTS], n;
    CHECK_EQ(parent, o->agents[0].branch);
    CHECK(o->awaits > 0);
    n = list_open(o, numbers);
    if (o->awaits != UINT32_MAX)
        numbers[0] = o->awaits, n = 1;
    for (uint32_t i = 0; i < n; i++)
        CHECK_EQ(o->agents[numbers[i]].state, AGENT_ENDED);
    o->awaits = 0;
    return join(o, engine, numbers, n);
}

static cop_status wait_for(organizer *o, cop_engine *engine, uint32_t number) {
    uint32_t numbers[AGENTS];
    bool ready;
    const uint32_t n = list_open(o, numbers);
    COP_TRY(cop_engine_wait(engine, o->agents[0].branch,
                            number ? o->agents[number].branch : COP_BRANCH_NONE, &ready));
    *(ready ? &o->n_ready : &o->n_waits) += 1;
    if (ready)
        return number ? join(o, engine, &number, 1) : join(o, engine, numbers, n);
    o->awaits = number ? number : UINT32_MAX;
    return COP_OK;
}

static cop_status root_acts(organizer *o, cop_engine *engine) {
    const uint32_t k = o->agents[0].n_said, what = draw(o, k, 6, 10);
    uint32_t numbers[AGENTS];
    const uint32_t n = list_open(o, numbers);
    if (what < 4 && o->n_agents + 1 < AGENTS) {
        COP_TRY(open_worker(o, engine, o->n_agents));
        if (what == 0) /* two by one token */
            COP_TRY(open_worker(o, engine, o->n_agents));
    } else if (what < 6 && n > 0) {
        return wait_for(o, engine, numbers[draw(o, k, 7, n)]);
    } else if (what == 6 && n > 0) {
        return wait_for(o, engine, 0);
    }
    return COP_OK;
}

static cop_status token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                        const cop_sample *sample) {
    organizer *o = (organizer *)driver;
    const uint32_t number = cop_engine_branch(engine, branch).data;
    agent *a = &o->agents[number];
    check_all(engine, o);
    cop_engine_generated(engine, branch, 1);
    a->n_said++;
    o->chain += number == 0;
    if (number > 0 && a->n_said >= a->length) {
        hold(a, sample->token, true);
        COP_TRY(cop_engine_feed(engine, branch, &a->sequence[a->n - 1], 1, COP_FEED_DECODE));
        a->state = AGENT_ENDED;
        return stitched(o, a) ? cop_engine_end(engine, branch, COP_END_DONE)
                              : cop_engine_end_text(engine, branch);
    }
    if (number == 0 && a->n_said >= (o->ends_early ? ROOT_TOKENS / 2 : ROOT_TOKENS)) {
        a->state = AGENT_ENDED;
        return cop_engine_end(engine, branch, COP_END_DONE);
    }
    hold(a, sample->token, true);
    COP_TRY(cop_engine_feed(engine, branch, &a->sequence[a->n - 1], 1, COP_FEED_DECODE));
    return number == 0 ? root_acts(o, engine) : COP_OK;
}

static void request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                    cop_sample_request *out) {
    (void)driver, (void)engine, (void)branch;
    out->temperature = 1;
}

static bool request_ahead(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                          cop_sample_request *out) {
    request(driver, engine, branch, out);
    return true;
}

static bool restart(cop_driver *driver, cop_engine *engine, cop_branch branch, bool ask) {
    organizer *o = (organizer *)driver;
    const uint32_t number = cop_engine_branch(engine, branch).data;
    agent *a = &o->agents[number];
    if (ask)
        return true;
    o->restarts++;
    if (number == 0)
        return true; /* start does the rest */
    a->position -= a->n - a->begin;
    const uint32_t header = 1 + draw(o, number, 3, HEADER);
    const bool spawned = draw(o, number, 1, 2);
    a->state = AGENT_RUNS;
    a->n_said = 0;
    a->n = a->begin + header;
    a->position += header;
    return cop_engine_feed(engine, branch, a->sequence + a->begin, header,
                           spawned ? COP_FEED_SPAWN : COP_FEED_HEADER) == COP_OK;
}

static organizer *make(uint64_t seed, bool text_only) {
    organizer *o = cop_calloc(1, sizeof *o);
    o->driver = (cop_driver){.problem_key = seed,
                             .start = begin,
                             .request = request,
                             .request_ahead = request_ahead,
                             .token = token,
                             .joined = joined,
                             .restart = restart};
    o->seed = seed;
    o->text_only = text_only;
    return o;
}

static cop_engine *make_engine(const cop_model *model, const char *backend, cop_pressure pressure,
                               uint32_t n_pages) {
    cop_engine_options options = {.backend = backend,
                                  .arith = COP_ARITH_F32,
                                  .n_threads = 1,
                                  .page_tokens = 16,
                                  .n_pages = n_pages,
                                  .max_branches = 120,
                                  .max_positions = 4096,
                                  .max_segments = 2000,
                                  .pressure = pressure,
                                  .seed = 7};
    cop_engine *engine;
    CHECK_OK(cop_engine_create(model, &options, &engine));
    return engine;
}

static cop_metrics run(cop_engine *engine, organizer **list, uint32_t n) {
    cop_driver *drivers[4];
    cop_metrics m;
    for (uint32_t i = 0; i < n; i++)
        drivers[i] = &list[i]->driver;
    CHECK_OK(cop_engine_run(engine, drivers, n, &m));
    CHECK_EQ(m.kv_pages_leaked, 0);
    CHECK_EQ(m.allocations_in_steps, 0);
    CHECK_EQ(m.kv_first_bytes, m.kv_min_bytes);
    CHECK_EQ(m.kv_load_bytes, m.kv_predicted_load_bytes);
    CHECK_OK(cop_kv_check(engine->kv));
    for (cop_branch id = 0; id < 120; id++)
        CHECK_EQ(engine->branches[id].state, COP_BRANCH_FREE);
    return m;
}

/* What both say, as far as a worker got; the root says all of it. */
static void check_same(const organizer *a, const organizer *b) {
    CHECK_EQ(a->n_agents, b->n_agents);
    CHECK_EQ(a->chain, b->chain);
    for (uint32_t i = 0; i < a->n_agents; i++) {
        const agent *x = &a->agents[i], *y = &b->agents[i];
        const uint32_t n = x->n < y->n ? x->n : y->n;
        if (i == 0 || x->state == AGENT_JOINED)
            CHECK_EQ(x->n, y->n);
        CHECK(memcmp(x->sequence, y->sequence, n * sizeof *x->sequence) == 0);
    }
}

static void test_random_operations_in_any_pool(void) {
    static const cop_pressure policies[] = {COP_PRESSURE_QUEUE, COP_PRESSURE_RECOMPUTE};
    const uint32_t problems = check_effort(24, 8);
    uint32_t waits = 0, ready = 0, joins = 0, restarts = 0;
    uint64_t parked = 0;
    cop_model *model;
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &model));
    cop_engine *roomy = make_engine(model, "cpu", COP_PRESSURE_FAIL, 4000);
    cop_engine *ahead = make_engine(model, "cpu_ahead", COP_PRESSURE_FAIL, 4000);
    for (uint32_t p = 0; p < problems; p += 2) {
        organizer *plain[2] = {make(p, p % 4 == 0), make(p + 1, false)};
        plain[1]->ends_early = p % 6 == 0;
        const cop_metrics m = run(roomy, plain, 2);
        CHECK_EQ(m.tokens_critical_path_async, plain[0]->chain + plain[1]->chain);
        CHECK_EQ(m.joins, plain[0]->n_joins + plain[1]->n_joins);
        for (uint32_t turn = 0; turn < 5; turn++) {
            organizer *other[2] = {make(p, p % 4 == 0), make(p + 1, false)};
            other[1]->ends_early = p % 6 == 0;
            const uint32_t least = (uint32_t)m.view_pages_longest, most = (uint32_t)m.kv_pages_peak;
            cop_engine *engine =
                turn == 4 ? ahead
                          : make_engine(model, turn % 2 ? "cpu" : "cpu_ahead", policies[turn / 2],
                                        turn % 2 ? (least + most) / 2 : least + 8);
            const cop_metrics n = run(engine, other, 2);
            check_same(plain[0], other[0]);
            check_same(plain[1], other[1]);
            CHECK_EQ(n.tokens_critical_path_async, m.tokens_critical_path_async);
            CHECK_EQ(n.tokens_longest_thread, m.tokens_longest_thread);
            parked += n.branches_parked;
            restarts += other[0]->restarts + other[1]->restarts;
            cop_free(other[0]), cop_free(other[1]);
            if (engine != ahead)
                cop_engine_destroy(engine);
        }
        for (uint32_t i = 0; i < 2; i++) {
            waits += plain[i]->n_waits, ready += plain[i]->n_ready, joins += plain[i]->n_joins;
            cop_free(plain[i]);
        }
    }
    CHECK(waits > 0 && ready > 0 && joins > 0 && parked > 0 && restarts > 0);
    printf("  %u problems: %u waits, %u ready at once, %u joins, %u gave way, %u began anew\n",
           problems, waits, ready, joins, (uint32_t)parked, restarts);
    cop_engine_destroy(roomy);
    cop_engine_destroy(ahead);
    cop_model_close(model);
}

/* A fresh problem of one sequence says what was said at this place of it. */
typedef struct linear {
    cop_driver driver;
    const int32_t *sequence;
    uint32_t n;
    cop_branch root;
    int32_t said;
} linear;

static cop_status linear_start(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    linear *l = (linear *)driver;
    COP_TRY(cop_engine_root(engine, problem, &l->root));
    return cop_engine_feed(engine, l->root, l->sequence, l->n, COP_FEED_PROMPT);
}

static void greedy(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                   cop_sample_request *out) {
    (void)driver, (void)engine, (void)branch;
    out->temperature = 0;
}

static cop_status linear_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                               const cop_sample *sample) {
    ((linear *)driver)->said = sample->token;
    cop_engine_generated(engine, branch, 1);
    return cop_engine_end(engine, branch, COP_END_DONE);
}

static void test_views_are_what_the_model_says(void) {
    cop_model *model;
    uint32_t checked = 0;
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &model));
    cop_engine *engine = make_engine(model, "cpu", COP_PRESSURE_FAIL, 4000);
    for (uint32_t p = 0; p < check_effort(6, 2); p++) {
        organizer *o = make(100 + p, true);
        o->driver.request = greedy;
        o->driver.request_ahead = NULL;
        run(engine, &o, 1);
        for (uint32_t i = 0; i < o->n_agents; i++) {
            const agent *a = &o->agents[i];
            for (uint32_t t = a->begin; t < a->n; t++) {
                if (!a->said[t] || (t + i) % 5)
                    continue;
                linear l = {
                    .driver = {.start = linear_start, .request = greedy, .token = linear_token},
                    .sequence = a->sequence,
                    .n = t};
                cop_driver *driver = &l.driver;
                cop_metrics m;
                CHECK_OK(cop_engine_run(engine, &driver, 1, &m));
                CHECK_EQ(l.said, a->sequence[t]);
                checked++;
            }
        }
        cop_free(o);
    }
    CHECK(checked > 30);
    cop_engine_destroy(engine);
    cop_model_close(model);
}

/* A worker that takes longer delays the waits for it, and changes nobody else's tokens. */
static void test_a_slow_worker_changes_no_other_branch(void) {
    cop_model *model;
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &model));
    cop_engine *engine = make_engine(model, "cpu", COP_PRESSURE_FAIL, 4000);
    for (uint32_t p = 0; p < 4; p++) {
        organizer *fast = make(200 + p, true), *slow = make(200 + p, true);
        slow->delays = true;
        run(engine, &fast, 1);
        run(engine, &slow, 1);
        uint32_t until = 0; /* the root's tokens before its first join */
        while (until < fast->agents[0].n && (fast->agents[0].said[until] || until < PROMPT))
            until++;
        CHECK(until > PROMPT);
        CHECK(memcmp(fast->agents[0].sequence, slow->agents[0].sequence, until * sizeof(int32_t)) ==
              0);
        for (uint32_t i = 1; i < 3; i++) { /* and each worker begins with what it said before */
            const agent *x = &fast->agents[i], *y = &slow->agents[i];
            if (x->begin <= until)
                CHECK(memcmp(x->sequence, y->sequence, x->n * sizeof(int32_t)) == 0);
        }
        cop_free(fast), cop_free(slow);
    }
    cop_engine_destroy(engine);
    cop_model_close(model);
}

static cop_status misuse_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                               const cop_sample *sample) {
    (void)driver, (void)sample;
    cop_branch child, block[2];
    bool ready;
    COP_TRY(cop_engine_spawn_beside(engine, branch, &child));
    CHECK_STATUS(cop_engine_fork(engine, branch, 2, block), COP_ERR_INTERNAL);
    CHECK_MESSAGE("beside children that were not joined");
    CHECK_STATUS(cop_engine_wait(engine, child, branch, &ready), COP_ERR_INTERNAL);
    const cop_join_beside early = {&child, 1, false, false};
    CHECK_STATUS(cop_engine_join_beside(engine, branch, &early), COP_ERR_INTERNAL);
    CHECK_MESSAGE("has not ended");
    CHECK_STATUS(cop_engine_fork_beside(engine, branch, 5000, &child), COP_ERR_CONTEXT);
    CHECK_MESSAGE("a gap of 5000 positions");
    return cop_engine_end(engine, branch, COP_END_DONE);
}

static void test_what_may_not_be_asked(void) {
    cop_model *model;
    cop_metrics m;
    static const int32_t prompt[] = {1, 2, 3};
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &model));
    cop_engine *engine = make_engine(model, "cpu", COP_PRESSURE_FAIL, 100);
    linear l = {.driver = {.start = linear_start, .request = greedy, .token = misuse_token},
                .sequence = prompt,
                .n = 3};
    cop_driver *driver = &l.driver;
    CHECK_OK(cop_engine_run(engine, &driver, 1, &m));
    CHECK_EQ(m.kv_pages_leaked, 0);
    cop_engine_destroy(engine);
    cop_model_close(model);
}

int main(void) {
    RUN(test_what_may_not_be_asked);
    RUN(test_views_are_what_the_model_says);
    RUN(test_a_slow_worker_changes_no_other_branch);
    RUN(test_random_operations_in_any_pool);
    return check_report();
}
