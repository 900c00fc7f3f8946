/* Parents that go on beside their paths, under scripted decoding: joins before and after a worker's
 * end, in any order, ids that are wrong, workers that nobody joins, limits, and a full pool. */
#include "live_world.h"
#include "reason/live_tracer.h"

typedef struct outcome {
    live_text text;
    cop_live_sample sample; /* its pointers are gone */
    cop_metrics metrics;
    live_text paths[12];
    cop_stop stops[12];
    uint32_t n_paths;
} outcome;

static outcome run(const world *w, cop_script *script, uint32_t n, cop_live_options options) {
    static outcome o;
    options.script = script;
    options.n_script = n;
    const cop_dialect *d = options.dialect ? options.dialect : cop_dialect_of(w->dialect);
    cop_live_tracer *tracer;
    cop_trace_figures f;
    CHECK_OK(cop_live_tracer_create(&(cop_live_tracer_options){d, 24, false}, &tracer));
    cop_live_tracer_reset(tracer, 4, 2);
    options.listener = cop_live_tracer_hear;
    options.listener_context = tracer;
    cop_live *live = live_world_run(w, &options, &o.metrics);
    /* What the engine counted and the trace say the same of every chain. */
    CHECK(cop_live_tracer_measure(tracer, true, &f));
    CHECK_EQ(f.total, o.metrics.tokens_total);
    if (cop_live_sample_read(live, 0).stop != COP_STOP_PATH) { /* or the engine has the wait too */
        CHECK_EQ(f.longest_thread, o.metrics.tokens_longest_thread);
        CHECK_EQ(f.critical_path, o.metrics.tokens_critical_path);
        CHECK_EQ(f.longest_generated, o.metrics.tokens_critical_path_async);
    }
    cop_live_tracer_destroy(tracer);
    o.text = live_world_read(live);
    o.sample = cop_live_sample_read(live, 0);
    o.n_paths = cop_live_path_count(live);
    for (uint32_t i = 0; i < o.n_paths && i < 12; i++) {
        o.paths[i] = live_world_path(live, i);
        o.stops[i] = cop_live_path_read(live, i).stop;
    }
    cop_live_destroy(live);
    return o;
}

#define SAY(path, text) live_world_say(&w, path, text)
#define COUNT(script) (uint32_t)(sizeof script / sizeof script[0])
#define RESULT(n, text) "\n<RESULT-" n ">" text "</RESULT-" n ">\n"

static void test_a_worker_is_joined_before_and_after_its_end(void) {
    world w = live_world_open("async-message", 64, 4096);
    for (int late = 0; late < 2; late++) {
        const char *thread = late ? "<FORK-1>add</FORK-1>and much more text to think of<JOIN-1>so$"
                                  : "<FORK-1>add</FORK-1><JOIN-1>so$";
        cop_script script[] = {SAY("", thread), SAY("1", "a while<RETURN>42</RETURN>")};
        outcome o = run(&w, script, 2, (cop_live_options){0});
        CHECK_TEXT(o.text.text,
                   late ? "<FORK-1>add</FORK-1>and much more text to think of<JOIN-1>" RESULT(
                              "1", "42") "so"
                        : "<FORK-1>add</FORK-1><JOIN-1>" RESULT("1", "42") "so");
        CHECK_TEXT(o.paths[0].text, "<TASK-1>add</TASK-1>\na while<RETURN>42</RETURN>");
        CHECK_EQ(o.sample.stop, COP_STOP_END);
        CHECK_EQ(o.metrics.joins, 1);
        CHECK_EQ(o.sample.forks, 1);
        /* The chain: until the fork's tag, the worker, and what follows the join; or the thread's
         * own, whichever is longer. The end of text counts. */
        const uint32_t fork = 20, worker = 27 - 1, before = late ? 66 - 16 : 28;
        const uint32_t through = fork + worker > before ? fork + worker : before;
        if (!late)
            CHECK_EQ(o.metrics.tokens_critical_path_async, through + 3);
        else
            CHECK_EQ(o.metrics.tokens_critical_path_async, o.sample.generated - worker);
    }
    live_world_close(&w);
}

static void test_two_workers_are_joined_in_the_other_order(void) {
    world w = live_world_open("async-message", 64, 4096);
    cop_script script[] = {
        SAY("", "<FORK-1>a</FORK-1>x<FORK-7>b\nc</FORK-7>y<JOIN-7>z<JOIN-1>end$"),
        SAY("1", "<RETURN>one</RETURN>"), SAY("2", "thinks of it<RETURN>two</RETURN>")};
    outcome o = run(&w, script, 3, (cop_live_options){0});
    CHECK_TEXT(o.text.text, "<FORK-1>a</FORK-1>x<FORK-7>b\nc</FORK-7>y<JOIN-7>" RESULT(
                                "7", "two") "z<JOIN-1>" RESULT("1", "one") "end");
    CHECK_TEXT(o.paths[1].text, "<TASK-7>b\nc</TASK-7>\nthinks of it<RETURN>two</RETURN>");
    CHECK_EQ(o.metrics.joins, 2);
    CHECK_EQ(o.metrics.forks, 2);
    live_world_close(&w);
}

/* An unknown id, one that was joined, and one that is repeated. */
static void test_wrong_ids_are_told(void) {
    world w = live_world_open("async-message", 64, 4096);
    cop_script script[] = {
        SAY("", "<JOIN-3>a<FORK-1>q</FORK-1><FORK-1>r</FORK-1>b<JOIN-1><JOIN-1>c$"),
        SAY("1", "<RETURN>v</RETURN>")};
    outcome o = run(&w, script, 2, (cop_live_options){0});
    CHECK_TEXT(o.text.text,
               "<JOIN-3>\n<ERROR-3/>\na<FORK-1>q</FORK-1><FORK-1>r</FORK-1>\n<ERROR-1/>\nb"
               "<JOIN-1>" RESULT("1", "v") "<JOIN-1>\n<ERROR-1/>\nc");
    CHECK_EQ(o.sample.forks_refused, 3);
    CHECK_EQ(o.n_paths, 1);
    cop_dialect d = live_world_dialect(&w);
    d.async.error_text = NULL;
    cop_script quiet[] = {SAY("", "<JOIN-3>a$")};
    o = run(&w, quiet, 1, (cop_live_options){.dialect = &d});
    CHECK_TEXT(o.text.text, "<JOIN-3>a");
    d.async.error_ends_run = true;
    cop_script ends[] = {SAY("", "<JOIN-3>a$")};
    o = run(&w, ends, 1, (cop_live_options){.dialect = &d});
    CHECK_TEXT(o.text.text, "<JOIN-3>");
    CHECK_EQ(o.sample.stop, COP_STOP_REFUSED);
    live_world_close(&w);
}

/* One is never joined and still runs, one has ended: the first is cancelled, and its tokens are
 * cost. */
static void test_the_organizer_ends_early(void) {
    world w = live_world_open("async-message", 64, 4096);
    cop_script script[] = {SAY("", "<FORK-1>a</FORK-1><FORK-2>b</FORK-2>ab$"),
                           SAY("1", "goes on and on and on and on and on and on"),
                           SAY("2", "<RETURN></RETURN>")};
    outcome o = run(&w, script, 3, (cop_live_options){0});
    CHECK_TEXT(o.text.text, "<FORK-1>a</FORK-1><FORK-2>b</FORK-2>ab");
    CHECK_EQ(o.sample.stop, COP_STOP_END);
    CHECK_EQ(o.stops[0], COP_STOP_CANCELLED);
    CHECK_EQ(o.metrics.joins, 0);
    CHECK(o.metrics.prunes > 0 && o.metrics.tokens_pruned > 10);
    CHECK_EQ(o.metrics.tokens_total, o.sample.generated);
    CHECK_EQ(o.metrics.tokens_critical_path_async, strlen(o.text.text) + 1);
    live_world_close(&w);
}

static void test_a_worker_at_its_limit_returns_what_it_has(void) {
    world w = live_world_open("async-message", 64, 4096);
    cop_dialect d = live_world_dialect(&w);
    d.max_path_tokens = 12;
    cop_script script[] = {SAY("", "<FORK-1>a</FORK-1><FORK-2>b</FORK-2><JOIN-1><JOIN-2>.$"),
                           SAY("1", "<RETURN>so far so good"), SAY("2", "nothing of the kind")};
    outcome o = run(&w, script, 3, (cop_live_options){.dialect = &d});
    CHECK_TEXT(o.text.text, "<FORK-1>a</FORK-1><FORK-2>b</FORK-2><JOIN-1>" RESULT(
                                "1", "so f") "<JOIN-2>" RESULT("2", "no result") ".");
    CHECK_EQ(o.stops[0], COP_STOP_LENGTH);
    d.path_end = COP_PATH_END_ENDS_RUN;
    cop_script ends[] = {SAY("", "<FORK-1>a</FORK-1><JOIN-1>.$"), SAY("1", "on and on and on")};
    o = run(&w, ends, 2, (cop_live_options){.dialect = &d});
    CHECK_TEXT(o.text.text, "<FORK-1>a</FORK-1><JOIN-1>");
    CHECK_EQ(o.sample.stop, COP_STOP_PATH);
    live_world_close(&w);
}

static void test_the_pool_of_workers_has_an_end(void) {
    world w = live_world_open("async-message", 64, 4096);
    cop_dialect d = live_world_dialect(&w);
    static const char thread[] = "<FORK-1>a</FORK-1><FORK-2>b</FORK-2><JOIN-2>x<JOIN-1>.$";
    for (int waits = 0; waits < 2; waits++) {
        d.async.capacity = 1;
        d.async.queues = waits;
        cop_script script[] = {SAY("", thread),
                               SAY("1", "this takes longer than all<RETURN>1</RETURN>"),
                               SAY("2", "<RETURN>2</RETURN>")};
        outcome o = run(&w, script, 3, (cop_live_options){.dialect = &d});
        CHECK_TEXT(o.text.text, waits ? "<FORK-1>a</FORK-1><FORK-2>b</FORK-2><JOIN-2>" RESULT(
                                            "2", "2") "x<JOIN-1>" RESULT("1", "1") "."
                                      : "<FORK-1>a</FORK-1><FORK-2>b</FORK-2><JOIN-2>\n<ERROR-2/>\n"
                                        "x<JOIN-1>" RESULT("1", "1") ".");
        CHECK_EQ(o.n_paths, 1u + (uint32_t)waits);
        CHECK_EQ(o.sample.forks_refused, waits ? 0 : 2);
    }
    /* One that waits is given up with its parent. */
    d.async.capacity = 1;
    d.async.queues = true;
    cop_script early[] = {SAY("", "<FORK-1>a</FORK-1><FORK-2>b</FORK-2>.$"),
                          SAY("1", "on and on and on and on and on and on and on and on")};
    outcome o = run(&w, early, 2, (cop_live_options){.dialect = &d});
    CHECK_EQ(o.stops[1], COP_STOP_CANCELLED);
    CHECK_TEXT(o.paths[1].text, "");
    live_world_close(&w);
}

/* ---- promises ---- */

#define PROMISES "<promise topic=\"p\" tokens=\"2\"/>in between<promise topic=\"q\" tokens=3/>, "

static void test_promises_are_kept_at_the_sync(void) {
    world w = live_world_open("async-stitch-gap", 64, 4096);
    cop_script script[] = {SAY("", PROMISES "and<sync/>so$"), SAY("1", "one</async>"),
                           SAY("2", "two and more</async>")};
    outcome o = run(&w, script, 3, (cop_live_options){0});
    CHECK_TEXT(o.text.text, PROMISES "and<sync/><async>one</async><async>two and more</async>\nso");
    CHECK_EQ(o.sample.stop, COP_STOP_END);
    CHECK_EQ(o.metrics.tokens_reprefilled, 0);
    CHECK_EQ(o.metrics.joins, 2);
    /* An end of text waits for what was promised. */
    cop_script end[] = {SAY("", PROMISES ".$"), SAY("1", "one</async>"),
                        SAY("2", "two and much more than that</async>")};
    o = run(&w, end, 3, (cop_live_options){0});
    CHECK_TEXT(o.text.text,
               PROMISES ".<async>one</async><async>two and much more than that</async>");
    CHECK_EQ(o.sample.stop, COP_STOP_END);
    /* A sync without promises is text. */
    cop_script none[] = {SAY("", "<sync/>x$")};
    o = run(&w, none, 1, (cop_live_options){0});
    CHECK_TEXT(o.text.text, "<sync/>x");
    live_world_close(&w);
}

/* A gap moves what follows: the context ends so much sooner. */
static void test_the_gap_is_that_of_the_promise(void) {
    for (uint32_t tens = 1; tens < 5; tens += 3) {
        world w = live_world_open("async-stitch-gap", 64, 1024);
        char thread[96];
        snprintf(thread, sizeof thread, "<promise topic=\"p\" tokens=%u/>", tens);
        cop_script script[] = {SAY("", thread), SAY("1", "</async>")};
        outcome o = run(&w, script, 2, (cop_live_options){.max_tokens = 2000});
        CHECK_EQ(o.sample.stop, COP_STOP_LENGTH);
        /* The last token is sampled at the last position, and not fed. */
        CHECK_EQ(o.sample.n_ids, 1024 - 4 - 10 * tens + 1);
        live_world_close(&w);
    }
}

/* ---- the same tokens whatever else happens ---- */

typedef struct told {
    live_text text, paths[4];
    uint64_t parked;
    uint32_t least, most; /* pages */
} told;

static told tell(const char *dialect, cop_insert insert, const char *slow, cop_pressure pressure,
                 uint32_t n_pages) {
    world w = live_world_open(dialect, 64, 4096);
    cop_engine_destroy(w.engine);
    w.engine = live_world_engine(&w, (cop_engine_options){.n_pages = n_pages,
                                                          .max_branches = 64,
                                                          .max_positions = 1024,
                                                          .max_segments = 400,
                                                          .pressure = pressure});
    cop_dialect d = live_world_dialect(&w);
    bool message = strcmp(dialect, "async-message") == 0;
    if (!message)
        d.async.insert = insert;
    const char *thread = message ? "<FORK-1>a</FORK-1>think<FORK-2>b</FORK-2>of<FORK-3>c</FORK-3>it"
                                   "<JOIN-2>so<JOIN-1><JOIN-3>end of it all$"
                                 : PROMISES "<promise topic=\"r\" tokens=1/>and<sync/>so it is$";
    const char *close = message ? "<RETURN>r</RETURN>" : "</async>";
    char texts[3][400];
    static const char more[] = " that takes much more than a word, and then some, before there "
                               "is anything to tell, as there is in the end of it, which is now";
    snprintf(texts[0], 400, "first%s%s", more, close);
    snprintf(texts[1], 400, "second%s%s", more, close);
    snprintf(texts[2], 400, "third, %s%s%s", slow, more, close);
    cop_script script[] = {SAY("", thread), SAY("1", texts[0]), SAY("2", texts[1]),
                           SAY("3", texts[2])};
    cop_metrics m;
    cop_live_options o = {
        .dialect = &d, .script = script, .n_script = 4, .temperature = 1, .max_tokens = 900};
    cop_live *live = live_world_run(&w, &o, &m);
    static told out;
    out.text = live_world_read(live);
    CHECK_EQ(cop_live_path_count(live), 3);
    for (uint32_t i = 0; i < 3; i++)
        out.paths[i] = live_world_path(live, i);
    CHECK_EQ(cop_live_sample_read(live, 0).stop, COP_STOP_END);
    out.parked = m.branches_parked;
    out.least = (uint32_t)m.view_pages_longest;
    out.most = (uint32_t)m.kv_pages_peak;
    cop_live_destroy(live);
    live_world_close(&w);
    return out;
}

static void test_the_same_tokens_in_a_small_pool(void) {
    uint64_t parked = 0;
    for (int kind = 0; kind < 3; kind++) {
        const char *dialect = kind ? "async-stitch-gap" : "async-message";
        cop_insert insert = kind == 1 ? COP_INSERT_STITCH : COP_INSERT_REPREFILL;
        told roomy = tell(dialect, insert, "", COP_PRESSURE_FAIL, 400);
        for (cop_pressure p = COP_PRESSURE_QUEUE; p <= COP_PRESSURE_RECOMPUTE; p++) {
            for (uint32_t pages = roomy.least; pages < roomy.most; pages++) {
                told tight = tell(dialect, insert, "", p, pages);
                CHECK_TEXT(tight.text.text, roomy.text.text);
                for (int i = 0; i < 3; i++)
                    CHECK_TEXT(tight.paths[i].text, roomy.paths[i].text);
                parked += tight.parked;
            }
        }
    }
    CHECK(parked > 0);
}

static void test_a_slow_worker_changes_no_other_branch(void) {
    for (int kind = 0; kind < 2; kind++) {
        const char *dialect = kind ? "async-stitch-gap" : "async-message";
        told fast = tell(dialect, COP_INSERT_STITCH, "", COP_PRESSURE_FAIL, 400);
        told slow = tell(dialect, COP_INSERT_STITCH, "after a long and slow consideration of it, ",
                         COP_PRESSURE_FAIL, 400);
        for (int i = 0; i < 2; i++)
            CHECK_TEXT(slow.paths[i].text, fast.paths[i].text);
        size_t until =
            (size_t)(strstr(fast.text.text, kind ? "<sync/>" : "<JOIN-3>") - fast.text.text);
        CHECK_EQ(strncmp(fast.text.text, slow.text.text, until), 0);
    }
}

int main(void) {
    RUN(test_a_worker_is_joined_before_and_after_its_end);
    RUN(test_two_workers_are_joined_in_the_other_order);
    RUN(test_wrong_ids_are_told);
    RUN(test_the_organizer_ends_early);
    RUN(test_a_worker_at_its_limit_returns_what_it_has);
    RUN(test_the_pool_of_workers_has_an_end);
    RUN(test_promises_are_kept_at_the_sync);
    RUN(test_the_gap_is_that_of_the_promise);
    RUN(test_the_same_tokens_in_a_small_pool);
    RUN(test_a_slow_worker_changes_no_other_branch);
    return check_report();
}
