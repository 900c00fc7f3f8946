/* The engine under replay: identical work under every rule, counted bytes, time in its own term. */
#include <math.h>

#include "base/memory.h"
#include "check.h"
#include "reason/driver_live.h"
#include "reason/driver_replay.h"

static const char shape_file[] = "configs/models/tiny-2layer.json";
static const char own_file[] = "configs/trajectories/own.jsonl";

typedef struct method {
    const char *name;
    cop_join_rule join;
    cop_reuse reuse;
} method;

static const method methods[] = {
    {"flattened", COP_JOIN_NONE, COP_REUSE_NONE},
    {"reprefill", COP_JOIN_REPREFILL, COP_REUSE_NONE},
    {"reprefill+reuse", COP_JOIN_REPREFILL, COP_REUSE_LONGEST_PREFIX},
    {"stitch", COP_JOIN_STITCH, COP_REUSE_NONE},
};

typedef struct world {
    cop_model *model;
    cop_trajectories *set;
    cop_engine *engine;
} world;

static world open_world(cop_engine_options options, bool calibrate) {
    world w = {0};
    CHECK_OK(cop_model_open_random(shape_file, &w.model));
    CHECK_OK(cop_trajectories_read(own_file, &w.set));
    CHECK_OK(cop_trajectories_tokenize(w.set, NULL, cop_model_shape_of(w.model)->vocab, 3));
    if (!options.page_tokens)
        options.page_tokens = 16;
    if (!options.n_pages)
        options.n_pages = 4000;
    if (!options.max_branches)
        options.max_branches = 64;
    options.n_threads = 1;
    options.max_positions = 8192;
    options.arith = COP_ARITH_BF16;
    CHECK_OK(cop_engine_create(w.model, &options, &w.engine));
    if (calibrate)
        CHECK_OK(cop_engine_calibrate(w.engine));
    return w;
}

static void close_world(world *w) {
    cop_engine_destroy(w->engine);
    cop_trajectories_destroy(w->set);
    cop_model_close(w->model);
}

static cop_status replay(world *w, const cop_trajectory *t, const method *m, cop_metrics *metrics) {
    cop_replay_options options = {.join = m->join, .reuse = m->reuse, .start_token = 1};
    cop_replay *r;
    CHECK_OK(cop_replay_create(t, &options, &r));
    cop_driver *driver = cop_replay_driver(r);
    cop_status status = cop_engine_run(w->engine, &driver, 1, metrics);
    if (status == COP_OK)
        CHECK_OK(cop_replay_check(r));
    cop_replay_destroy(r);
    return status;
}

static uint64_t all_tokens(const cop_stream *s) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->n_pieces; i++) {
        n += s->pieces[i].block ? 0 : s->pieces[i].n;
        for (uint32_t p = 0; s->pieces[i].block && p < s->pieces[i].block->n_paths; p++)
            n += all_tokens(&s->pieces[i].block->paths[p]);
    }
    return n;
}

static uint64_t longest_thread(const cop_stream *s) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->n_pieces; i++) {
        uint64_t most = 0;
        for (uint32_t p = 0; s->pieces[i].block && p < s->pieces[i].block->n_paths; p++) {
            uint64_t path = longest_thread(&s->pieces[i].block->paths[p]);
            most = path > most ? path : most;
        }
        n += s->pieces[i].block ? most : s->pieces[i].n;
    }
    return n;
}

/* Tokens of all paths of all blocks, a nested block's again for each block around it: what
 * re-prefill computes once more. `kept` counts those of first paths, which reuse keeps. */
static uint64_t again(const cop_stream *s, uint64_t *kept) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->n_pieces; i++) {
        const cop_block *block = s->pieces[i].block;
        for (uint32_t p = 0; block && p < block->n_paths; p++) {
            n += all_tokens(&block->paths[p]) + again(&block->paths[p], kept);
            *kept += p == 0 ? all_tokens(&block->paths[p]) : 0;
        }
    }
    return n;
}

static void test_every_rule_does_the_same_work(void) {
    world w = open_world((cop_engine_options){0}, false);
    uint64_t nested = 0;
    for (uint32_t i = 0; i < w.set->count; i++) {
        const cop_trajectory *t = &w.set->list[i];
        nested += t->depth > 1;
        for (size_t k = 0; k < 4; k++) {
            cop_metrics m;
            CHECK_OK(replay(&w, t, &methods[k], &m));
            CHECK_EQ(m.tokens_total + m.tokens_forced, all_tokens(&t->stream));
            CHECK_EQ(m.tokens_longest_thread,
                     k == 0 ? all_tokens(&t->stream) : longest_thread(&t->stream));
            uint64_t kept = 0, twice = again(&t->stream, &kept);
            CHECK_EQ(m.tokens_reprefilled, k == 1 ? twice : k == 2 ? twice - kept : 0);
            CHECK_EQ(m.tokens_reused, k == 2 ? kept : 0);
            CHECK_EQ(m.forks, k == 0 ? 0 : t->blocks);
            CHECK_EQ(m.joins, k == 0 ? 0 : t->blocks);
            CHECK_EQ(m.kv_pages_leaked, 0);
            CHECK_EQ(m.allocations_in_steps, 0);
            CHECK_EQ(m.kv_first_bytes, m.kv_min_bytes);
            CHECK_EQ(m.kv_first_bytes, m.kv_predicted_first_bytes);
            CHECK_EQ(m.kv_load_bytes, m.kv_predicted_load_bytes);
            CHECK_EQ(m.failed_rows, 0);
        }
    }
    CHECK(nested > 0);
    close_world(&w);
}

static void test_time_is_partitioned(void) {
    world w = open_world((cop_engine_options){0}, true);
    for (size_t k = 0; k < 4; k++) {
        /* Time that no term counts is there in every run; that of an interrupt is not. */
        double rest = INFINITY, tax = INFINITY;
        for (int attempt = 0; attempt < 8 && (rest > 0.01 || tax > 0.05); attempt++) {
            cop_metrics m;
            CHECK_OK(replay(&w, &w.set->list[0], &methods[k], &m));
            uint64_t sum = 0;
            for (int term = 0; term < COP_TERM_COUNT; term++)
                sum += m.term_ns[term];
            CHECK(sum <= m.wall_ns && m.solo_ns > 0 && (k == 0 || m.tax_ns >= 0));
            rest = fmin(rest, (double)(m.wall_ns - sum) / (double)m.wall_ns);
            tax = k == 0 ? fmin(tax, fabs(m.tax_ns) / m.solo_ns) : 0;
        }
        CHECK(rest <= 0.01);
        CHECK(tax <= 0.05); /* one branch: nothing to share a step with */
    }
    close_world(&w);
}

/* Runs with and without a delay in one term. The machine may be busy, which adds to either, so each
 * counts by the shortest of a few, and then beside a longer delay: that a term holds at least its
 * delays is certain in every run. */
static double delay_error(cop_term term, uint64_t delay_ns) {
    double error = INFINITY, own = INFINITY, beside = INFINITY;
    for (int attempt = 0; attempt < 20 && error > 0.05; attempt++) {
        cop_engine_options options = {0};
        cop_metrics plain, slow;
        world w = open_world(options, false);
        CHECK_OK(replay(&w, &w.set->list[0], &methods[3], &plain));
        close_world(&w);
        options.inject_ns[term] = attempt < 6 ? delay_ns : 4 * delay_ns;
        w = open_world(options, false);
        CHECK_OK(replay(&w, &w.set->list[0], &methods[3], &slow));
        uint64_t injected = cop_engine_injected_ns(w.engine, term);
        close_world(&w);
        CHECK(injected >= delay_ns);
        CHECK(slow.term_ns[term] >= injected);
        own = fmin(own, (double)plain.term_ns[term]);
        beside = fmin(beside, (double)(slow.term_ns[term] - injected));
        error = fabs(beside - own) / (double)injected;
    }
    return error;
}

/* A delay that is put into one term shows in that term, within 5 %. */
static void test_injected_delays_appear_in_their_own_term(void) {
    static const struct {
        cop_term term;
        uint64_t ns; /* once a step in some terms, once a block or a run in others */
    } delays[] = {
        {COP_TERM_PREFILL, 400000000}, {COP_TERM_DECODE, 5000000}, {COP_TERM_STRAGGLER, 5000000},
        {COP_TERM_FORK, 100000000},    {COP_TERM_JOIN, 200000000}, {COP_TERM_SAMPLING, 2000000},
        {COP_TERM_HOST, 2000000},
    };
    for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++) {
        double error = delay_error(delays[i].term, delays[i].ns);
        printf("  %-10s within %.1f %%\n", cop_term_name(delays[i].term), 100 * error);
        CHECK(error <= 0.05);
    }
}

static void test_a_full_pool_is_a_named_error(void) {
    world w = open_world((cop_engine_options){.n_pages = 20}, false);
    cop_metrics m;
    for (size_t k = 0; k < 4; k++) {
        CHECK_STATUS(replay(&w, &w.set->list[0], &methods[k], &m), COP_ERR_NO_PAGES);
        CHECK_MESSAGE("page");
        CHECK_EQ(m.kv_pages_leaked, 0);
    }
    /* The engine is as good as new: short work still runs. */
    cop_live_options options = {.prompt = (const int32_t[]){1, 2, 3},
                                .n_prompt = 3,
                                .n_samples = 2,
                                .max_tokens = 20,
                                .temperature = 1,
                                .top_p = 1};
    cop_live *live;
    CHECK_OK(cop_live_create(&options, &live));
    cop_driver *driver = cop_live_driver(live);
    CHECK_OK(cop_engine_run(w.engine, &driver, 1, &m));
    CHECK_EQ(m.tokens_total, 40);
    cop_live_destroy(live);
    close_world(&w);
}

static cop_live *sample(world *w, uint32_t first, uint32_t n, cop_prune_options prune,
                        cop_metrics *m) {
    static const int32_t prompt[50] = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17};
    cop_live_options options = {.prompt = prompt,
                                .n_prompt = 50,
                                .n_samples = n,
                                .first_sample = first,
                                .max_tokens = 60,
                                .temperature = 1,
                                .top_p = 0.95f,
                                .prune = prune};
    cop_live *live;
    CHECK_OK(cop_live_create(&options, &live));
    cop_driver *driver = cop_live_driver(live);
    CHECK_OK(cop_engine_run(w->engine, &driver, 1, m));
    CHECK_EQ(m->kv_pages_leaked, 0);
    CHECK_EQ(m->allocations_in_steps, 0);
    return live;
}

static void test_a_sample_alone_equals_itself_among_siblings(void) {
    world w = open_world((cop_engine_options){0}, false);
    cop_metrics m;
    cop_live *together = sample(&w, 0, 16, (cop_prune_options){0}, &m);
    CHECK_EQ(m.tokens_total, 16 * 60);
    for (uint32_t i = 0; i < 16; i++) {
        cop_live *alone = sample(&w, i, 1, (cop_prune_options){0}, &m);
        cop_live_sample a = cop_live_sample_read(alone, 0), b = cop_live_sample_read(together, i);
        CHECK_EQ(a.n_ids, b.n_ids);
        CHECK(memcmp(a.ids, b.ids, a.n_ids * sizeof *a.ids) == 0);
        if (i > 0) {
            cop_live_sample other = cop_live_sample_read(together, i - 1);
            CHECK(memcmp(other.ids, b.ids, b.n_ids * sizeof *b.ids) != 0);
        }
        cop_live_destroy(alone);
    }
    cop_live_destroy(together);
    close_world(&w);
}

static void test_prune_rules_stop_samples_and_free_pages(void) {
    world w = open_world((cop_engine_options){0}, false);
    cop_metrics whole, m;
    cop_live *live = sample(&w, 0, 8, (cop_prune_options){0}, &whole);
    cop_live_destroy(live);
    /* Budget: everything ends when the samples together have generated so much. */
    live = sample(&w, 0, 8, (cop_prune_options){.budget_tokens = 100}, &m);
    CHECK_EQ(m.tokens_total, 100);
    CHECK_EQ(m.prunes, 8);
    CHECK(m.kv_pages_peak < whole.kv_pages_peak);
    for (uint32_t i = 0; i < 8; i++)
        CHECK_EQ(cop_live_sample_read(live, i).stop, COP_STOP_CANCELLED);
    cop_live_destroy(live);
    /* Confidence: observe first, then stop those below the threshold; the others are untouched. */
    live = sample(&w, 0, 8, (cop_prune_options){.window = 16, .threshold = -INFINITY}, &m);
    CHECK_EQ(m.prunes, 0);
    double lowest[8], sorted[8];
    cop_live_sample before[8];
    for (uint32_t i = 0; i < 8; i++) {
        before[i] = cop_live_sample_read(live, i);
        sorted[i] = lowest[i] = before[i].lowest_confidence;
    }
    double threshold = cop_confidence_threshold(sorted, 8, 50);
    cop_live *pruned =
        sample(&w, 0, 8, (cop_prune_options){.window = 16, .threshold = threshold}, &m);
    uint64_t stopped = 0;
    for (uint32_t i = 0; i < 8; i++) {
        cop_live_sample after = cop_live_sample_read(pruned, i);
        bool below = lowest[i] < threshold;
        stopped += below;
        CHECK_EQ(after.stop == COP_STOP_CONFIDENCE, below);
        CHECK(memcmp(after.ids, before[i].ids, after.n_ids * sizeof *after.ids) == 0);
        CHECK(below ? after.n_ids < before[i].n_ids : after.n_ids == before[i].n_ids);
    }
    CHECK(stopped > 0 && stopped < 8);
    CHECK_EQ(m.prunes, stopped);
    cop_live_destroy(live);
    cop_live_destroy(pruned);
    close_world(&w);
}

static void test_long_input_is_a_context_error(void) {
    world w = open_world((cop_engine_options){0}, false);
    int32_t *prompt = cop_calloc(9000, sizeof *prompt);
    cop_live_options options = {
        .prompt = prompt, .n_prompt = 9000, .n_samples = 1, .max_tokens = 1, .top_p = 1};
    cop_live *live;
    CHECK_OK(cop_live_create(&options, &live));
    cop_driver *driver = cop_live_driver(live);
    cop_metrics m;
    CHECK_STATUS(cop_engine_run(w.engine, &driver, 1, &m), COP_ERR_CONTEXT);
    CHECK_EQ(m.kv_pages_leaked, 0);
    cop_live_destroy(live);
    cop_free(prompt);
    close_world(&w);
}

int main(void) {
    RUN(test_every_rule_does_the_same_work);
    RUN(test_time_is_partitioned);
    RUN(test_injected_delays_appear_in_their_own_term);
    RUN(test_a_full_pool_is_a_named_error);
    RUN(test_a_sample_alone_equals_itself_among_siblings);
    RUN(test_prune_rules_stop_samples_and_free_pages);
    RUN(test_long_input_is_a_context_error);
    return check_report();
}
