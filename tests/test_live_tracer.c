/* The trace of a live sample against what the engine counted where it worked, and the marks of its
 * text, under every join rule, with blocks that nest, paths that are cut, dropped or kept. */
#include "live_world.h"

#include "reason/live_tracer.h"

#define PLAN2 "<Parallel><Goal><Outline>1: a</Outline><Outline>2: b</Outline></Goal>"
#define TRY2 "<try> 14 - 2<try> 3 + 4<fork>"

typedef struct traced {
    cop_live *live;
    cop_live_tracer *tracer;
    cop_trace_figures f;
    cop_metrics m;
} traced;

static traced run(const world *w, const cop_dialect *dialect, cop_script *script, uint32_t n,
                  cop_live_options options) {
    traced t = {0};
    const cop_dialect *d = dialect ? dialect : cop_dialect_of(w->dialect);
    CHECK_OK(cop_live_tracer_create(
        &(cop_live_tracer_options){d, 24, options.join_policy.keep_partial}, &t.tracer));
    options.dialect = d;
    options.script = script;
    options.n_script = n;
    options.listener = cop_live_tracer_hear;
    options.listener_context = t.tracer;
    cop_live_tracer_reset(t.tracer, 4, 2);
    t.live = live_world_run(w, &options, &t.m);
    CHECK(cop_live_tracer_measure(t.tracer, true, &t.f));
    return t;
}

static void release(traced *t) {
    cop_live_destroy(t->live);
    cop_live_tracer_destroy(t->tracer);
}

/* What the engine and the trace both count. */
static void check_engine(const traced *t) {
    CHECK_EQ(t->f.total, t->m.tokens_total);
    CHECK_EQ(t->f.longest_thread, t->m.tokens_longest_thread);
    CHECK_EQ(t->f.critical_path, t->m.tokens_critical_path);
}

static void test_a_stitched_block(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_script script[] = {live_world_say(&w, "", "Hi" PLAN2 "end.</Conclusion></Parallel>$"),
                           live_world_say(&w, "1", " one</Path>"),
                           live_world_say(&w, "2", " and two</Path>")};
    traced t = run(&w, NULL, script, 3, (cop_live_options){0});
    check_engine(&t);
    size_t header = strlen("\n<Path>\n1:"), join = strlen("\n<Conclusion>\n");
    size_t root = strlen("Hi" PLAN2 "end.</Conclusion></Parallel>") + 1;
    size_t one = strlen(" one</Path>"), two = strlen(" and two</Path>");
    CHECK_EQ(t.f.total, root + one + two);
    CHECK_EQ(t.f.longest_generated, root + two);
    CHECK_EQ(t.f.longest_thread, root + two + header + join);
    CHECK_EQ(t.f.position_critical, 4 + root + two + header + join);
    CHECK_EQ(t.f.longest_sequence, 4 + root + one + two + 2 * header + join);
    CHECK_EQ(t.f.longest_sequence_bos_eos, t.f.longest_sequence); /* it said its end of text */
    CHECK_EQ(t.f.in_branches, one + two);
    CHECK(t.f.concurrency == (double)(one + two) / (double)(root + two));

    uint8_t marks[1024];
    cop_marked_figures f;
    cop_live_sample sample = cop_live_sample_read(t.live, 0);
    CHECK(cop_tag_marks(cop_dialect_of(w.dialect), w.tokenizer, &sample, marks));
    cop_marked_measure(marks, sample.n_ids, &f);
    size_t open = strlen("<Path>"), close = strlen("</Path>");
    CHECK_EQ(f.total, sample.n_ids);
    CHECK_EQ(f.blocks, 1);
    CHECK_EQ(f.threads, 2);
    /* Inside: "\n1: one" and "\n2: and two". */
    CHECK_EQ(f.longest_code, f.total - strlen("\n1: one"));
    CHECK_EQ(f.longest_text, f.longest_code - open - close);
    CHECK_EQ(f.in_blocks, f.total - strlen("Hi<Parallel></Parallel>") - 1);
    release(&t);
    live_world_close(&w);
}

static void test_tags_that_straddle_tokens(void) {
    world w = live_world_open("multiverse", 64, 4096);
    /* "h>Z" ends the path and is cut to "h>": as many ids as tokens that were sampled, and one. */
    cop_script script[] = {live_world_say(&w, "", "Hi" PLAN2 "end.</Conclusion></Parallel>$"),
                           live_world_say(&w, "1", "x{6}>"), live_world_say(&w, "2", "x</Pat{5}")};
    traced t = run(&w, NULL, script, 3, (cop_live_options){0});
    CHECK_EQ(t.m.tokens_dropped, 1);
    CHECK_EQ(t.f.total, t.m.tokens_total + 1);
    uint8_t marks[1024];
    uint32_t opened = 0, closed = 0, parts = 0;
    cop_live_sample sample = cop_live_sample_read(t.live, 0);
    CHECK(cop_tag_marks(cop_dialect_of(w.dialect), w.tokenizer, &sample, marks));
    for (uint32_t i = 0; i < sample.n_ids; i++) {
        opened += marks[i] == COP_MARK_THREAD_OPEN;
        closed += marks[i] == COP_MARK_THREAD_CLOSE;
        parts += marks[i] == COP_MARK_PART;
    }
    CHECK(opened == 2 && closed == 2);
    /* "</Path" is one token of path 1's tag. */
    CHECK_EQ(parts, strlen("<Parallel") + strlen("</Parallel") + 2 * strlen("<Path") + 1 +
                        strlen("</Path"));
    release(&t);
    live_world_close(&w);
}

/* A nested block, random children, limits and policies: whatever is cut, both count the same. */
static void test_every_policy_agrees_with_the_engine(void) {
    static const char *const dialects[] = {"multiverse", "threadweaver", "countdown-message",
                                           "countdown-reprefill", "countdown-stitch"};
    uint32_t cancelled = 0, forks = 0, again = 0;
    for (size_t i = 0; i < sizeof dialects / sizeof dialects[0]; i++) {
        world w = live_world_open(dialects[i], 64, 4096);
        for (uint32_t k = 0; k < 36; k++) {
            cop_dialect d = live_world_dialect(&w);
            bool countdown = i >= 2;
            if (d.join == COP_JOIN_REPREFILL && k % 2)
                d.reuse = COP_REUSE_LONGEST_PREFIX;
            if (k % 3 == 1)
                d.max_path_tokens = 9;
            if (i == 1 && k % 4 > 1)
                d.path_end = COP_PATH_END_JOINS;
            const char *plan = i == 1 ? "Go<Parallel><Outlines><Outline>1: a</Outline><Outline>2: "
                                        "b</Outline></Outlines>"
                               : countdown ? "Go" TRY2
                                           : "Go" PLAN2;
            const char *close = countdown ? "d</thr>" : i == 1 ? "d</Thread>" : "done</Path>";
            cop_script script[] = {live_world_say(&w, "", plan), live_world_say(&w, "1", close),
                                   live_world_say(&w, "2", k % 5 ? "" : "$"),
                                   live_world_say(&w, "2", !countdown && k % 5 == 1 ? PLAN2 : "")};
            uint32_t n = k % 7 == 0 ? 4 : 2;
            for (uint32_t s = n; s < 4; s++)
                cop_free((void *)script[s].ids);
            traced t =
                run(&w, &d, script, n,
                    (cop_live_options){.temperature = 1,
                                       .problem_key = k,
                                       .max_tokens = 100 + 7 * k,
                                       .prune.budget_tokens = k % 6 == 5 ? 90 : 0,
                                       .join_policy = {.quorum = k % 4 == 1,
                                                       .deadline_tokens = k % 4 == 2 ? 12 : 0,
                                                       .keep_partial = k % 8 > 4}});
            check_engine(&t);
            cop_live_sample sample = cop_live_sample_read(t.live, 0);
            cancelled += sample.paths_cancelled;
            forks += sample.forks;
            again += t.m.tokens_reprefilled > 0;
            release(&t);
        }
        live_world_close(&w);
    }
    printf("  %u forks, %u paths cancelled, %u runs with tokens computed again\n", forks, cancelled,
           again);
    CHECK(forks > 100 && cancelled > 40 && again > 20);
}

static void test_a_spawned_child_has_its_own_context(void) {
    world w = live_world_open("countdown-message", 64, 4096);
    cop_script script[] = {live_world_say(&w, "", "Hm" TRY2 "<ok> 14$"),
                           live_world_say(&w, "1", " x<no> but<ok> 2 <end>"),
                           live_world_say(&w, "2", " nothing<end>")};
    traced t = run(&w, NULL, script, 3, (cop_live_options){0});
    check_engine(&t);
    CHECK_EQ(t.f.longest_sequence, 4 + cop_live_sample_read(t.live, 0).n_ids);
    CHECK_EQ(t.f.longest_branch, strlen("Hm" TRY2 "<ok> 14") + 1);
    uint8_t marks[1024];
    cop_live_sample sample = cop_live_sample_read(t.live, 0);
    CHECK(!cop_tag_marks(cop_dialect_of(w.dialect), w.tokenizer, &sample, marks));
    CHECK(!cop_dialect_marks_paths(NULL));
    release(&t);
    live_world_close(&w);
}

int main(void) {
    RUN(test_a_stitched_block);
    RUN(test_tags_that_straddle_tokens);
    RUN(test_every_policy_agrees_with_the_engine);
    RUN(test_a_spawned_child_has_its_own_context);
    return check_report();
}
