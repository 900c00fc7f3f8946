/* Blocks whose paths see each other while they decode, on random trees, against a dense model in
 * double precision in which every token meets every other one where its own view has it. The layout
 * is laid once more here, from the paths' lists of tokens: no segment, no page, no plan. */
#include <math.h>

#include "base/rng.h"
#include "check.h"
#include "model/model.h"
#include "reason/driver_replay.h"
#include "reason/engine.h"
#include "ref/forward_double.h"

/* f32 against double; another layout lies thousands of times further away. Seen: 9e-6. */
#define TOLERANCE 1e-4

enum { ENTRIES = 230, AGENTS = 40, LIST = 230, HEADER = 3, ROWS = 400 };

typedef struct place { /* a token of a view, and where that has it */
    uint32_t entry;
    int32_t position;
} place;

typedef struct list {
    place at[LIST];
    uint32_t n;
} list;

typedef struct agent {
    bool used, path, live; /* path: of a shared block; else a stream */
    cop_branch branch;
    uint32_t parent, first_child, n_children, said, limit, inherited, pending;
    bool shares;
    list view; /* a stream's view; a path's own open text */
    int32_t next;
    int32_t ids[LIST + 16];
    uint32_t n_ids, last;
    int32_t others[HEADER], own[HEADER];
    uint32_t others_entry[HEADER], own_entry[HEADER], n_others, n_own;
} agent;

typedef struct row { /* a sample, and the token whose row it came from */
    uint32_t entry;
    cop_sample sample;
    int32_t forced;
} row;

typedef struct world {
    cop_driver driver;
    uint64_t key;
    uint32_t draws, vocab;
    agent agents[AGENTS];
    uint32_t n_agents, n_entries, n_rows;
    int32_t id[ENTRIES], at[ENTRIES][ENTRIES];
    row rows[ROWS];
    uint32_t shared_blocks, moves, pruned, headers, nested, widest;
    int32_t wrong; /* test of the test: positions are taken one off */
} world;

static uint32_t draw(world *w, uint32_t n) {
    return cop_rng_below((cop_rng_key){7, w->key, w->draws++}, 0, n);
}

static uint32_t add_entry(world *w, int32_t id) {
    CHECK(w->n_entries < ENTRIES);
    const uint32_t e = w->n_entries++;
    w->id[e] = id;
    for (uint32_t i = 0; i < ENTRIES; i++)
        w->at[e][i] = -1;
    return e;
}

static void put(list *l, uint32_t entry, int32_t position) {
    CHECK(l->n < LIST);
    l->at[l->n++] = (place){entry, position};
}

/* ---- the layout ---- */

static void meet(world *w, uint32_t entry, const list *view, int32_t *next) {
    for (uint32_t i = 0; i < view->n; i++)
        w->at[entry][view->at[i].entry] = next ? (*next)++ : view->at[i].position;
}

static void meet_header(world *w, uint32_t entry, const uint32_t *header, uint32_t n,
                        int32_t *next) {
    for (uint32_t i = 0; i < n; i++)
        w->at[entry][header[i]] = (*next)++;
}

/* The tokens that the paths of a block were fed run now. */
static void settle_block(world *w, const agent *s) {
    for (uint32_t c = 0; c < s->n_children; c++) {
        agent *own = &w->agents[s->first_child + c];
        for (uint32_t i = own->view.n - own->pending; i < own->view.n; i++) {
            const uint32_t e = own->view.at[i].entry;
            int32_t next = s->next;
            meet(w, e, &s->view, NULL);
            meet_header(w, e, s->others_entry, s->n_others, &next);
            for (uint32_t o = 0; o < s->n_children; o++)
                if (o != c)
                    meet(w, e, &w->agents[s->first_child + o].view, &next);
            meet_header(w, e, s->own_entry, s->n_own, &next);
            for (uint32_t j = 0; j <= i; j++)
                w->at[e][own->view.at[j].entry] = next++ + (j == i ? w->wrong : 0);
        }
        own->pending = 0;
    }
}

static void settle(world *w) {
    for (uint32_t a = 0; a < w->n_agents; a++)
        if (w->agents[a].shares)
            settle_block(w, &w->agents[a]);
}

static void move_text(agent *s, agent *p) {
    for (uint32_t i = 0; i < p->view.n; i++)
        put(&s->view, p->view.at[i].entry, s->next++);
    p->view.n = 0;
}

/* ---- the driver ---- */

static agent *agent_of(world *w, const cop_engine *engine, cop_branch branch) {
    return &w->agents[cop_engine_branch(engine, branch).data];
}

static cop_status feed(world *w, cop_engine *engine, agent *a, const int32_t *ids, uint32_t n,
                       cop_feed kind) {
    const uint32_t first = a->n_ids;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t e = add_entry(w, ids[i]);
        CHECK(a->n_ids < LIST + 16);
        a->ids[a->n_ids++] = ids[i];
        if (a->path) {
            put(&a->view, e, 0);
            a->pending++;
        } else {
            put(&a->view, e, a->next);
            a->next++;
            meet(w, e, &a->view, NULL);
        }
        a->last = e;
    }
    return cop_engine_feed(engine, a->branch, a->ids + first, n, kind);
}

static cop_status feed_random(world *w, cop_engine *engine, agent *a, uint32_t n, cop_feed kind) {
    int32_t ids[16];
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (int32_t)draw(w, w->vocab);
    return feed(w, engine, a, ids, n, kind);
}

static uint32_t header_entries(world *w, int32_t *ids, uint32_t *entries) {
    const uint32_t n = draw(w, HEADER + 1);
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (int32_t)draw(w, w->vocab);
        entries[i] = add_entry(w, ids[i]);
        for (uint32_t j = 0; j <= i; j++)
            w->at[entries[i]][entries[j]] = (int32_t)j;
    }
    w->headers += n > 0;
    return n;
}

static cop_status open_block(world *w, cop_engine *engine, agent *s, bool shared) {
    const uint32_t n = 1 + draw(w, shared ? 4 : 2);
    cop_branch children[4];
    COP_TRY(cop_engine_fork(engine, s->branch, n, children));
    s->first_child = w->n_agents;
    s->n_children = n;
    w->n_agents += n;
    w->widest = n > w->widest ? n : w->widest;
    CHECK(w->n_agents <= AGENTS);
    for (uint32_t i = 0; i < n; i++) {
        agent *c = &w->agents[s->first_child + i];
        *c = (agent){.used = true,
                     .path = shared,
                     .live = true,
                     .branch = children[i],
                     .parent = (uint32_t)(s - w->agents),
                     .limit = 1 + draw(w, 9),
                     .inherited = s->view.n,
                     .last = s->last};
        if (!shared) {
            c->view = s->view;
            c->next = s->next;
        }
        cop_engine_set_data(engine, children[i], s->first_child + i);
    }
    if (shared) {
        s->n_others = header_entries(w, s->others, s->others_entry);
        s->n_own = header_entries(w, s->own, s->own_entry);
        s->shares = true;
        w->shared_blocks++;
        w->nested += s->parent != UINT32_MAX;
        const cop_shared_headers headers = {s->others, s->own, s->n_others, s->n_own};
        COP_TRY(cop_engine_share(engine, s->branch, &headers));
    }
    for (uint32_t i = 0; i < n; i++)
        COP_TRY(
            feed_random(w, engine, &w->agents[s->first_child + i], draw(w, 3), COP_FEED_HEADER));
    return COP_OK;
}

static cop_status world_start(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    world *w = (world *)driver;
    agent *root = &w->agents[w->n_agents++];
    *root = (agent){.used = true, .live = true, .parent = UINT32_MAX, .limit = 8};
    COP_TRY(cop_engine_root(engine, problem, &root->branch));
    cop_engine_set_data(engine, root->branch, 0);
    return feed_random(w, engine, root, 1 + draw(w, 9), COP_FEED_PROMPT);
}

static void world_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                          cop_sample_request *request) {
    world *w = (world *)driver;
    (void)engine, (void)branch;
    settle(w);
    request->temperature = 1;
    request->forced = (int32_t)draw(w, w->vocab);
}

static cop_status end_agent(world *w, cop_engine *engine, agent *a, cop_branch_end how) {
    a->live = false;
    if (how != COP_END_DONE) {
        a->view.n = a->pending = 0;
        w->pruned++;
    }
    return cop_engine_end(engine, a->branch, how);
}

static cop_status path_token(world *w, cop_engine *engine, agent *a, int32_t id) {
    agent *s = &w->agents[a->parent];
    const bool alone = cop_engine_branch(engine, s->branch).n_children_live == 1;
    if (a->said >= a->limit) {
        if (draw(w, 3))
            COP_TRY(feed(w, engine, a, &id, 1, COP_FEED_DECODE));
        return end_agent(w, engine, a, COP_END_DONE);
    }
    if (!alone && draw(w, 12) == 0)
        return end_agent(w, engine, a, COP_END_PRUNED);
    if (a->view.n > 0 && draw(w, 4) == 0) {
        CHECK_EQ(a->pending, 0);
        COP_TRY(cop_engine_share_move(engine, a->branch));
        move_text(s, a);
        w->moves++;
        COP_TRY(feed(w, engine, a, &id, 1, COP_FEED_DECODE));
        return feed_random(w, engine, a, draw(w, 4), COP_FEED_HEADER);
    }
    return feed(w, engine, a, &id, 1, COP_FEED_DECODE);
}

static cop_status world_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                              const cop_sample *sample) {
    world *w = (world *)driver;
    agent *a = agent_of(w, engine, branch);
    CHECK(w->n_rows < ROWS && sample->n_top == COP_TOP_LOGPROBS && !sample->failed);
    w->rows[w->n_rows++] = (row){.entry = a->last, .sample = *sample};
    cop_engine_generated(engine, branch, 1);
    a->said++;
    const int32_t id = sample->token;
    if (a->path)
        return path_token(w, engine, a, id);
    COP_TRY(feed(w, engine, a, &id, 1, COP_FEED_DECODE));
    const bool room = w->n_agents + 4 <= AGENTS && w->n_entries + 90 < ENTRIES;
    if (a->said % 3 == 2 && room)
        return open_block(w, engine, a, a->parent != UINT32_MAX || draw(w, 3) != 0);
    return a->said >= a->limit ? end_agent(w, engine, a, COP_END_DONE) : COP_OK;
}

static cop_status join_streams(world *w, cop_engine *engine, agent *s) {
    COP_TRY(cop_engine_join_stitch(engine, s->branch, true));
    const list before = s->view;
    for (uint32_t c = 0; c < s->n_children; c++) {
        const agent *child = &w->agents[s->first_child + c];
        for (uint32_t i = before.n; i < child->view.n; i++)
            put(&s->view, child->view.at[i].entry, child->view.at[i].position);
        s->next = child->next > s->next ? child->next : s->next;
    }
    return COP_OK;
}

static cop_status world_joined(cop_driver *driver, cop_engine *engine, cop_branch branch) {
    world *w = (world *)driver;
    agent *s = agent_of(w, engine, branch);
    if (!s->shares) {
        COP_TRY(join_streams(w, engine, s));
    } else {
        settle_block(w, s);
        s->shares = false;
        for (uint32_t c = 0; c < s->n_children; c++)
            move_text(s, &w->agents[s->first_child + c]);
        COP_TRY(cop_engine_join_shared(engine, branch));
    }
    s->n_children = 0;
    return feed_random(w, engine, s, 1 + draw(w, 3), COP_FEED_JOIN);
}

static void world_run(world *w, cop_engine *engine, uint64_t key, uint32_t vocab, int32_t wrong,
                      cop_metrics *metrics) {
    memset(w, 0, sizeof *w);
    w->driver = (cop_driver){.start = world_start,
                             .request = world_request,
                             .token = world_token,
                             .joined = world_joined};
    w->key = w->driver.problem_key = key;
    w->vocab = vocab;
    w->wrong = wrong;
    cop_driver *drivers[] = {&w->driver};
    CHECK_OK(cop_engine_run(engine, drivers, 1, metrics));
    CHECK_EQ(metrics->kv_pages_leaked, 0);
}

static double compare(const world *w, const cop_model *model) {
    const uint32_t n = w->n_entries;
    int32_t *at = malloc((size_t)n * n * sizeof *at);
    double *logits = malloc((size_t)n * w->vocab * sizeof *logits), worst = 0;
    CHECK(at && logits);
    for (uint32_t i = 0; i < n; i++)
        memcpy(at + (size_t)i * n, w->at[i], n * sizeof *at);
    forward_double_views(model, w->id, at, n, logits);
    for (uint32_t r = 0; r < w->n_rows; r++) {
        const double *expected = logits + (size_t)w->rows[r].entry * w->vocab;
        const cop_sample *s = &w->rows[r].sample;
        double sum = 0;
        for (uint32_t i = 0; i < w->vocab; i++)
            sum += exp(expected[i]);
        for (uint32_t i = 0; i < s->n_top; i++)
            worst = fmax(worst, fabs(s->top_logprob[i] - (expected[s->top_token[i]] - log(sum))));
        worst = fmax(worst, fabs(s->logsumexp - log(sum)));
    }
    free(at);
    free(logits);
    return worst;
}

static cop_engine *open_engine(const cop_model *model, cop_engine_options options) {
    cop_engine *engine;
    if (!options.page_tokens)
        options.page_tokens = 16;
    if (!options.n_pages)
        options.n_pages = 400;
    if (!options.max_branches)
        options.max_branches = 32;
    if (!options.n_threads)
        options.n_threads = 1;
    options.max_positions = 4096;
    CHECK_OK(cop_engine_create(model, &options, &engine));
    return engine;
}

static const char *const models[] = {"configs/models/tiny-2layer.json",
                                     "configs/models/tiny-qwen2.json",
                                     "configs/models/tiny-qwen3.json"};

static void test_shared_blocks_agree_with_a_dense_model(void) {
    world *w = malloc(sizeof *w);
    CHECK(w);
    uint32_t rows = 0, blocks = 0, moves = 0, pruned = 0, headers = 0, nested = 0, widest = 0;
    double worst = 0, least_wrong = INFINITY;
    for (uint32_t m = 0; m < 3; m++) {
        cop_model *model = NULL;
        CHECK_OK(cop_model_open_random(models[m], &model));
        const uint32_t vocab = cop_model_shape_of(model)->vocab;
        cop_engine *engine = open_engine(model, (cop_engine_options){.chunk_tokens = m ? 64 : 0,
                                                                     .page_tokens = 16u << m,
                                                                     .max_rows = m == 2 ? 40 : 0});
        for (uint32_t i = 0; i < check_effort(12, 3); i++) {
            cop_metrics metrics;
            world_run(w, engine, 100 * m + i, vocab, 0, &metrics);
            if (w->shared_blocks == 0)
                continue;
            const double apart = compare(w, model);
            if (!(apart <= TOLERANCE)) {
                fprintf(stderr, "%s, tree %u: %g from the oracle\n", models[m], i, apart);
                exit(1);
            }
            worst = fmax(worst, apart);
            rows += w->n_rows, blocks += w->shared_blocks, moves += w->moves;
            pruned += w->pruned, headers += w->headers, nested += w->nested;
            widest = w->widest > widest ? w->widest : widest;
        }
        world_run(w, engine, 100 * m, vocab, 1, &(cop_metrics){0});
        least_wrong = fmin(least_wrong, compare(w, model));
        cop_engine_destroy(engine);
        cop_model_close(model);
    }
    free(w);
    printf("  %u rows of %u shared blocks, %u of them in a path; up to %u paths, %u moves, %u "
           "pruned, %u headers; %.2g from the oracle, %.2g with queries one off\n",
           rows, blocks, nested, widest, moves, pruned, headers, worst, least_wrong);
    CHECK(moves && pruned && headers && nested && widest > 2 && least_wrong > 10 * TOLERANCE);
}

/* Bits hang on what a row sees alone: not on threads, page size, tiles or who else runs. */
static void test_shared_blocks_have_the_same_bits_everywhere(void) {
    static const cop_engine_options others[] = {
        {.n_threads = 2}, {.page_tokens = 64}, {.tile_slots = 1}, {.isa = "portable"}};
    cop_model *model = NULL;
    CHECK_OK(cop_model_open_random(models[2], &model));
    const uint32_t vocab = cop_model_shape_of(model)->vocab;
    world *a = malloc(sizeof *a), *b = malloc(sizeof *b);
    CHECK(a && b);
    for (uint32_t arith = 0; arith < 2; arith++) {
        cop_engine_options options = {.arith = arith ? COP_ARITH_BF16 : COP_ARITH_F32};
        cop_engine *engine = open_engine(model, options);
        cop_metrics metrics;
        for (uint32_t i = 0; i < check_effort(8, 2); i++) {
            world_run(a, engine, 500 + i, vocab, 0, &metrics);
            for (uint32_t o = 0; o < sizeof others / sizeof *others; o++) {
                options = others[o];
                options.arith = arith ? COP_ARITH_BF16 : COP_ARITH_F32;
                cop_engine *other = open_engine(model, options);
                world_run(b, other, 500 + i, vocab, 0, &metrics);
                CHECK_EQ(a->n_rows, b->n_rows);
                CHECK(memcmp(a->rows, b->rows, a->n_rows * sizeof *a->rows) == 0);
                cop_engine_destroy(other);
            }
        }
        cop_engine_destroy(engine);
    }
    free(a);
    free(b);
    cop_model_close(model);
}

/* A shared block's paths never give way: in a pool that holds them they complete under every
 * policy; where it does not, the run ends with the pool's error and holds nothing. */
static void test_shared_blocks_in_small_pools(void) {
    cop_model *model = NULL;
    CHECK_OK(cop_model_open_random(models[0], &model));
    const uint32_t vocab = cop_model_shape_of(model)->vocab;
    world *a = malloc(sizeof *a), *b = malloc(sizeof *b);
    CHECK(a && b);
    cop_engine *engine = open_engine(model, (cop_engine_options){0});
    for (uint32_t i = 0; i < check_effort(6, 2); i++) {
        cop_metrics metrics, same;
        world_run(a, engine, 900 + i, vocab, 0, &metrics);
        for (int p = COP_PRESSURE_FAIL; p <= COP_PRESSURE_PRUNE_LOWEST; p++) {
            if (p == COP_PRESSURE_QUEUE) /* it starts streams later, and these draw in turn */
                continue;
            cop_engine *small = open_engine(
                model, (cop_engine_options){.pressure = (cop_pressure)p,
                                            .n_pages = (uint32_t)metrics.kv_pages_peak + 32});
            world_run(b, small, 900 + i, vocab, 0, &same);
            CHECK_EQ(a->n_rows, b->n_rows);
            CHECK(memcmp(a->rows, b->rows, a->n_rows * sizeof *a->rows) == 0);
            cop_engine_destroy(small);
        }
        cop_engine *none = open_engine(
            model, (cop_engine_options){.pressure = COP_PRESSURE_RECOMPUTE, .n_pages = 2});
        memset(b, 0, sizeof *b);
        b->driver = a->driver;
        b->key = b->driver.problem_key = 900 + i;
        b->vocab = vocab;
        cop_driver *drivers[] = {&b->driver};
        CHECK_STATUS(cop_engine_run(none, drivers, 1, &same), COP_ERR_NO_PAGES);
        CHECK_EQ(same.kv_pages_leaked, 0);
        cop_engine_destroy(none);
    }
    cop_engine_destroy(engine);
    free(a);
    free(b);
    cop_model_close(model);
}

static cop_status replay_run(const cop_trajectory *t, cop_join_rule join, cop_engine *engine,
                             cop_metrics *metrics, double *logprob) {
    cop_replay *r;
    COP_TRY(cop_replay_create(t, &(cop_replay_options){.join = join, .start_token = 1}, &r));
    cop_driver *driver = cop_replay_driver(r);
    const cop_status status = cop_engine_run(engine, &driver, 1, metrics);
    if (status == COP_OK)
        CHECK_OK(cop_replay_check(r));
    *logprob = cop_replay_stats_read(r).logprob_sum;
    cop_replay_destroy(r);
    return status;
}

/* The same recorded tokens as under stitch, each once; what the views hold is what is loaded. */
static void test_recorded_paths_that_see_each_other(void) {
    cop_model *model = NULL;
    cop_trajectories *set = NULL;
    CHECK_OK(cop_model_open_random(models[0], &model));
    CHECK_OK(cop_trajectories_read("configs/trajectories/own.jsonl", &set));
    CHECK_OK(cop_trajectories_tokenize(set, NULL, cop_model_shape_of(model)->vocab, 3));
    cop_engine *engine =
        open_engine(model, (cop_engine_options){.n_pages = 2000, .max_branches = 64});
    uint32_t flat = 0, nested = 0;
    for (uint32_t i = 0; i < set->count; i++) {
        cop_metrics stitch, shared;
        double a, b;
        if (set->list[i].depth > 1) {
            CHECK_STATUS(replay_run(&set->list[i], COP_JOIN_SHARED, engine, &shared, &b),
                         COP_ERR_UNSUPPORTED);
            CHECK_MESSAGE("--id");
            nested++;
            continue;
        }
        CHECK_OK(replay_run(&set->list[i], COP_JOIN_STITCH, engine, &stitch, &a));
        CHECK_OK(replay_run(&set->list[i], COP_JOIN_SHARED, engine, &shared, &b));
        CHECK_EQ(shared.tokens_total, stitch.tokens_total);
        CHECK_EQ(shared.tokens_forced, stitch.tokens_forced);
        CHECK_EQ(shared.tokens_longest_thread, stitch.tokens_longest_thread);
        CHECK_EQ(shared.tokens_reprefilled, 0);
        CHECK_EQ(shared.steps_forward, stitch.steps_forward);
        CHECK_EQ(shared.kv_first_bytes, shared.kv_min_bytes);
        CHECK_EQ(shared.kv_first_bytes, shared.kv_predicted_first_bytes);
        CHECK_EQ(shared.kv_load_bytes, shared.kv_predicted_load_bytes);
        CHECK(shared.kv_load_bytes > stitch.kv_load_bytes && a != b);
        CHECK_EQ(shared.kv_pages_leaked + shared.allocations_in_steps, 0);
        flat++;
    }
    CHECK(flat > 2 && nested > 0);
    cop_engine_destroy(engine);
    cop_trajectories_destroy(set);
    cop_model_close(model);
}

int main(void) {
    RUN(test_recorded_paths_that_see_each_other);
    RUN(test_shared_blocks_agree_with_a_dense_model);
    RUN(test_shared_blocks_have_the_same_bits_everywhere);
    RUN(test_shared_blocks_in_small_pools);
    return check_report();
}
