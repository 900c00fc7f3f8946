/* What a profiler sees of a run: named ranges that nest, the steps that were asked for. The engine
 * runs on cpu, whose table is replaced by a copy with hooks. */
#include "backend/choice.h"
#include "check.h"
#include "reason/driver_live.h"
#include "reason/driver_replay.h"
#include "reason/engine_internal.h"

typedef struct seen {
    int depth, deepest;
    const char *open[8];
    uint64_t count[9]; /* by names[] */
    uint32_t on, off;
    uint64_t first_step, last_step; /* "step" ranges begun when the profiler started, stopped */
} seen;

static const char *const names[] = {"prefill",  "decode", "straggler", "fork", "join",
                                    "sampling", "host",   "step",      "prune"};
enum { N_NAMES = sizeof names / sizeof names[0], STEP = 7, PRUNE = 8 };

static seen now; /* a hook is given no context */

static void note_range(const char *name) {
    if (!name) {
        CHECK(now.depth > 0);
        now.depth--;
        return;
    }
    int known = 0;
    while (known < N_NAMES && strcmp(names[known], name) != 0)
        known++;
    CHECK(known < N_NAMES);
    now.count[known]++;
    CHECK(now.depth < 2);
    CHECK(now.depth == 0 || known == PRUNE); /* terms and steps follow one another */
    now.open[now.depth++] = name;
    now.deepest = now.depth > now.deepest ? now.depth : now.deepest;
}

static cop_status note_profile(cop_backend *backend, bool on) {
    CHECK(backend != NULL);
    CHECK_EQ(now.on, now.off + !on);
    *(on ? &now.on : &now.off) += 1;
    *(on ? &now.first_step : &now.last_step) = now.count[STEP];
    return COP_OK;
}

typedef struct world {
    cop_backend_ops hooked;
    cop_model *model;
    cop_trajectories *set;
    cop_engine *engine;
} world;

static void open_world(world *w, uint32_t first, uint32_t last) {
    w->hooked = cop_backend_cpu;
    w->hooked.range = note_range;
    w->hooked.profile = note_profile;
    CHECK_OK(cop_model_open_random("configs/models/tiny-2layer.json", &w->model));
    CHECK_OK(cop_trajectories_read("configs/trajectories/own.jsonl", &w->set));
    CHECK_OK(cop_trajectories_tokenize(w->set, NULL, cop_model_shape_of(w->model)->vocab, 3));
    cop_engine_options options = {.arith = COP_ARITH_F32,
                                  .n_threads = 1,
                                  .page_tokens = 16,
                                  .n_pages = 2000,
                                  .max_branches = 32,
                                  .max_positions = 4096,
                                  .profile_first = first,
                                  .profile_last = last};
    CHECK_OK(cop_engine_create(w->model, &options, &w->engine));
    w->engine->ops = &w->hooked;
    now = (seen){0};
}

static void close_world(world *w) {
    cop_engine_destroy(w->engine);
    cop_trajectories_destroy(w->set);
    cop_model_close(w->model);
}

static cop_metrics run_replay(world *w, uint32_t index) {
    cop_replay *replay;
    cop_metrics metrics;
    cop_replay_options options = {.join = COP_JOIN_STITCH, .start_token = 1};
    CHECK_OK(cop_replay_create(&w->set->list[index], &options, &replay));
    cop_driver *driver = cop_replay_driver(replay);
    CHECK_OK(cop_engine_run(w->engine, &driver, 1, &metrics));
    cop_replay_destroy(replay);
    return metrics;
}

static void test_ranges_nest_and_bear_the_terms_names(void) {
    world w;
    open_world(&w, 0, 0);
    cop_metrics metrics = run_replay(&w, 0);
    CHECK_EQ(now.depth, 0);
    CHECK_EQ(now.count[STEP], metrics.steps_forward);
    CHECK_EQ(now.count[COP_TERM_FORK], metrics.forks + 1); /* the prompt's one continuation */
    CHECK_EQ(now.count[COP_TERM_JOIN], metrics.joins);
    CHECK(now.count[COP_TERM_HOST] > metrics.steps_forward);
    CHECK_EQ(now.count[COP_TERM_SAMPLING], metrics.steps_forward);
    CHECK_EQ(now.count[PRUNE], 0);
    CHECK(metrics.forks > 0 && metrics.joins > 0);
    CHECK_EQ(now.on, 0);
    close_world(&w);
}

/* The first to finish ends its siblings. */
static void test_a_pruned_branch_leaves_a_mark(void) {
    world w;
    open_world(&w, 0, 0);
    static const int32_t prompt[] = {1, 2, 3, 4};
    cop_live_options options = {.prompt = prompt,
                                .n_prompt = 4,
                                .n_samples = 5,
                                .max_tokens = 12,
                                .temperature = 1,
                                .top_p = 1,
                                .prune = {.budget_tokens = 20}};
    cop_live *live;
    cop_metrics metrics;
    CHECK_OK(cop_live_create(&options, &live));
    cop_driver *driver = cop_live_driver(live);
    CHECK_OK(cop_engine_run(w.engine, &driver, 1, &metrics));
    cop_live_destroy(live);
    CHECK(metrics.prunes > 0);
    CHECK_EQ(now.count[PRUNE], metrics.prunes);
    CHECK_EQ(now.depth, 0);
    CHECK_EQ(now.deepest, 2);
    close_world(&w);
}

static void test_the_steps_asked_for_are_profiled(void) {
    world w;
    open_world(&w, 10, 14);
    CHECK_OK(cop_engine_calibrate(w.engine)); /* its steps do not count */
    CHECK(now.count[STEP] > 14);
    CHECK_EQ(now.on, 0);
    now = (seen){0};
    run_replay(&w, 0);
    CHECK_EQ(now.on, 1);
    CHECK_EQ(now.off, 1);
    CHECK_EQ(now.first_step, 9);
    CHECK_EQ(now.last_step, 14);
    run_replay(&w, 1);
    CHECK_EQ(now.on, 1);
    close_world(&w);
    CHECK_EQ(now.off, 1);
}

/* Steps are counted over the runs of one engine; what is still on at its end is stopped there. */
static void test_the_count_goes_on_in_the_next_run(void) {
    world w;
    open_world(&w, 0, 0);
    uint64_t steps = run_replay(&w, 0).steps_forward;
    close_world(&w);
    open_world(&w, (uint32_t)steps + 3, UINT32_MAX);
    run_replay(&w, 0);
    CHECK_EQ(now.on, 0);
    run_replay(&w, 0);
    CHECK_EQ(now.on, 1);
    CHECK_EQ(now.first_step, steps + 2);
    CHECK_EQ(now.off, 0);
    close_world(&w);
    CHECK_EQ(now.off, 1);
}

int main(void) {
    RUN(test_ranges_nest_and_bear_the_terms_names);
    RUN(test_a_pruned_branch_leaves_a_mark);
    RUN(test_the_steps_asked_for_are_profiled);
    RUN(test_the_count_goes_on_in_the_next_run);
    return check_report();
}
