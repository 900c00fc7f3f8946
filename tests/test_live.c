/* Live decoding under a dialect: tags in sampled tokens, forks that are taken and refused, limits,
 * what is read and heard of a run, and drivers used again. */
#include "live_world.h"

typedef struct outcome {
    char text[4096];
    cop_live_sample sample;
    cop_metrics metrics;
} outcome;

static outcome run(world *w, cop_script *script, uint32_t n, uint32_t max_tokens,
                   uint32_t max_branches) {
    outcome out = {0};
    cop_live_options options = {
        .max_tokens = max_tokens, .max_branches = max_branches, .script = script, .n_script = n};
    cop_live *live = live_world_run(w, &options, &out.metrics);
    out.sample = cop_live_sample_read(live, 0);
    CHECK(out.sample.bytes < sizeof out.text);
    memcpy(out.text, out.sample.text, out.sample.bytes);
    out.sample.text = NULL;
    out.sample.ids = NULL;
    cop_live_destroy(live);
    return out;
}

#define PLAN2 "<Parallel><Goal><Outline>1: a</Outline><Outline>2: b</Outline>"

static void test_multiverse_forks_and_stitches(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_script script[] = {
        live_world_say(&w, "", "Hi" PLAN2 "</Goal>end.</Conclusion></Parallel>$"),
        live_world_say(&w, "1", " one</Path>"), live_world_say(&w, "2", " second</Path>")};
    outcome o = run(&w, script, 3, 400, 40);
    CHECK_TEXT(o.text, "Hi" PLAN2 "</Goal>\n<Path>\n1: one</Path>\n<Path>\n2: second</Path>"
                       "\n<Conclusion>\nend.</Conclusion></Parallel>");
    CHECK_EQ(o.sample.stop, COP_STOP_END);
    CHECK_EQ(o.sample.forks, 1);
    CHECK_EQ(o.metrics.forks, 1);
    CHECK_EQ(o.metrics.joins, 1);
    CHECK_EQ(o.metrics.tokens_reprefilled, 0);
    CHECK_EQ(o.metrics.tokens_dropped, 0);
    /* Longest thread: the parent's own text, and the longer of the two paths with its header. */
    uint64_t parent = strlen("Hi" PLAN2 "</Goal>\n<Conclusion>\nend.</Conclusion></Parallel>") + 1;
    CHECK_EQ(o.metrics.tokens_longest_thread, parent + strlen("\n<Path>\n2: second</Path>"));
    live_world_close(&w);
}

static void test_tags_that_straddle_tokens_cut_them(void) {
    world w = live_world_open("multiverse", 64, 4096);
    /* "</Goal" + ">XY": the tag ends inside the second token; "XY" is dropped. */
    cop_script script[] = {live_world_say(&w, "", "Hi" PLAN2 "{0}{4}ok$"),
                           live_world_say(&w, "1", " one{6}{2}"),
                           live_world_say(&w, "2", " two</Pat{5}")};
    outcome o = run(&w, script, 3, 400, 40);
    CHECK_TEXT(o.text, "Hi" PLAN2 "</Goal>\n<Path>\n1: one</Path>\n<Path>\n2: two</Path>"
                       "\n<Conclusion>\nok");
    CHECK_EQ(o.metrics.tokens_dropped, 3);
    CHECK_EQ(o.metrics.forks, 1);
    live_world_close(&w);
}

static void test_blocks_nest_where_the_dialect_allows(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_script script[] = {
        live_world_say(&w, "", PLAN2 "</Goal>out$"), live_world_say(&w, "1", " x</Path>"),
        live_world_say(&w, "2",
                       "<Parallel><Goal><Outline>2.1: c</Outline><Outline>2.2: d</Outline></Goal>"
                       "in</Conclusion></Parallel></Path>"),
        live_world_say(&w, "2.1", " p</Path>"), live_world_say(&w, "2.2", " q</Path>")};
    outcome o = run(&w, script, 5, 600, 40);
    CHECK_TEXT(o.text,
               PLAN2 "</Goal>\n<Path>\n1: x</Path>\n<Path>\n2:<Parallel><Goal><Outline>2.1: "
                     "c</Outline><Outline>2.2: d</Outline></Goal>\n<Path>\n2.1: p</Path>\n<Path>\n"
                     "2.2: q</Path>\n<Conclusion>\nin</Conclusion></Parallel></Path>\n<Conclusion>"
                     "\nout");
    CHECK_EQ(o.metrics.forks, 2);
    CHECK_EQ(o.metrics.joins, 2);
    live_world_close(&w);
}

#define TW2 "<Parallel><Outlines><Outline>1: a</Outline><Outline>2: b</Outline></Outlines>"

static void test_threadweaver_prefills_again(void) {
    world w = live_world_open("threadweaver", 64, 4096);
    cop_script script[] = {live_world_say(&w, "", TW2 "</Parallel>done$"),
                           live_world_say(&w, "1", " one</Thread>"),
                           live_world_say(&w, "2", " two</Thread>")};
    outcome o = run(&w, script, 3, 400, 40);
    CHECK_TEXT(o.text, TW2 "\n<Thread>\n1: one</Thread>\n<Thread>\n2: two</Thread></Parallel>done");
    CHECK_EQ(o.metrics.tokens_reprefilled,
             strlen("\n<Thread>\n1: one</Thread>\n<Thread>\n2: two</Thread>"));
    live_world_close(&w);
}

static void test_a_cut_thread_may_end_the_run_at_once(void) {
    world w = live_world_open("threadweaver", 64, 4096);
    ((cop_dialect *)cop_dialect_of(w.dialect))->path_end = COP_PATH_END_ENDS_RUN;
    cop_script script[] = {live_world_say(&w, "", TW2 "never"), live_world_say(&w, "1", " one$"),
                           live_world_say(&w, "2", " a much longer thread</Thread>")};
    outcome o = run(&w, script, 3, 400, 40);
    CHECK_EQ(o.sample.stop, COP_STOP_PATH);
    CHECK_EQ(o.metrics.joins, 0);
    live_world_close(&w);
}

static void test_a_path_that_ends_without_its_tag_is_closed(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_script script[] = {live_world_say(&w, "", PLAN2 "</Goal>c$"),
                           live_world_say(&w, "1", " one$"),
                           live_world_say(&w, "2", " two</Path>")};
    outcome o = run(&w, script, 3, 400, 40);
    CHECK_TEXT(o.text, PLAN2 "</Goal>\n<Path>\n1: one</Path>\n<Path>\n2: two</Path>\n<Conclusion>"
                             "\nc");
    live_world_close(&w);
}

static void test_a_fork_that_cannot_be_is_refused_and_counted(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_script none[] = {live_world_say(&w, "", "<Parallel><Goal></Goal>on$")};
    outcome o = run(&w, none, 1, 100, 40);
    CHECK_TEXT(o.text, "<Parallel><Goal></Goal>on");
    CHECK_EQ(o.sample.forks_refused, 1);
    cop_script many[] = {live_world_say(&w, "", PLAN2 "</Goal>on$")};
    o = run(&w, many, 1, 200, 2); /* no room for two paths beside the sample */
    CHECK_TEXT(o.text, PLAN2 "</Goal>on");
    CHECK_EQ(o.sample.forks_refused, 1);
    CHECK_EQ(o.metrics.forks, 0);
    live_world_close(&w);
}

static void test_the_budget_ends_a_run_inside_a_block(void) {
    world w = live_world_open("multiverse", 64, 4096);
    uint32_t before = (uint32_t)strlen(PLAN2 "</Goal>");
    cop_script script[] = {live_world_say(&w, "", PLAN2 "</Goal>c$"),
                           live_world_say(&w, "1", " one and more and more"),
                           live_world_say(&w, "2", " two and more and more")};
    outcome o = run(&w, script, 3, before + 10, 40);
    CHECK_EQ(o.sample.stop, COP_STOP_LENGTH);
    CHECK_EQ(o.metrics.tokens_total, before + 10);
    live_world_close(&w);
}

static void test_sequential_has_no_tags(void) {
    world w = live_world_open("sequential", 8, 4096);
    cop_script script[] = {live_world_say(&w, "", PLAN2 "</Goal>c$")};
    outcome o = run(&w, script, 1, 200, 1);
    CHECK_TEXT(o.text, PLAN2 "</Goal>c");
    CHECK_EQ(o.metrics.forks, 0);
    live_world_close(&w);
}

static void test_options_that_a_dialect_cannot_serve_are_refused(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_live_options options = {.dialect = cop_dialect_of(w.dialect),
                                .tokenizer = w.tokenizer,
                                .prompt = live_world_prompt,
                                .n_prompt = 4,
                                .n_samples = 1,
                                .max_tokens = 9,
                                .max_branches = 9,
                                .join_policy = {.quorum = 1, .success_only = true}};
    cop_live *live = NULL;
    CHECK_STATUS(cop_live_create(&options, &live), COP_ERR_CONFIG);
    CHECK_MESSAGE("names no \"success\"");
    CHECK(live == NULL);
    options.join_policy = (cop_join_policy){0};
    cop_dialect d = live_world_dialect(&w);
    d.join_prompt = "";
    options.dialect = &d;
    CHECK_STATUS(cop_live_create(&options, &live), COP_ERR_CONFIG);
    CHECK_MESSAGE("no join_prompt");
    d.join = COP_JOIN_MESSAGE;
    CHECK_STATUS(cop_live_create(&options, &live), COP_ERR_USAGE);
    CHECK_MESSAGE("spawn_prompt is needed");
    live_world_close(&w);
}

int main(void) {
    RUN(test_multiverse_forks_and_stitches);
    RUN(test_tags_that_straddle_tokens_cut_them);
    RUN(test_blocks_nest_where_the_dialect_allows);
    RUN(test_threadweaver_prefills_again);
    RUN(test_a_cut_thread_may_end_the_run_at_once);
    RUN(test_a_path_that_ends_without_its_tag_is_closed);
    RUN(test_a_fork_that_cannot_be_is_refused_and_counted);
    RUN(test_the_budget_ends_a_run_inside_a_block);
    RUN(test_sequential_has_no_tags);
    RUN(test_options_that_a_dialect_cannot_serve_are_refused);
    return check_report();
}
