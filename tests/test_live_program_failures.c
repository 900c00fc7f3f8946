/* Programs that die, hang, or answer what nobody can mean, and those whose pool is too small. */
#include "program_world.h"

static cop_status run_failing(const world *w, const char *command, uint32_t timeout_ms,
                              cop_program_failure on_failure, cop_live_sample *sample,
                              uint32_t *failures) {
    cop_metrics m;
    cop_script script[] = {live_world_say(w, "", "one$never"), live_world_say(w, "1", "x$")};
    cop_live_options options = {
        .script = script, .n_script = 2, .program = start(command, timeout_ms, on_failure)};
    cop_live *live = live_world_create(w, &options);
    cop_driver *driver = cop_live_driver(live);
    cop_status status = cop_engine_run(w->engine, &driver, 1, &m);
    CHECK_EQ(m.kv_pages_leaked, 0);
    *sample = cop_live_sample_read(live, 0);
    *failures = cop_message_program_failures(options.program);
    cop_live_destroy(live);
    cop_message_program_stop(options.program);
    live_world_free(script, 2);
    return status;
}

#define FORKS "read x; echo '{\"children\": [{\"prompt\": \"p\"}]}'; "

static void test_programs_that_fail(void) {
    static const struct {
        const char *command, *message;
        cop_status status;
    } cases[] = {
        {"true", "asked about a fork", COP_ERR_IO},
        {"exec >&-; sleep 60", "asked about a fork", COP_ERR_IO},
        {"sleep 60", "asked about a fork", COP_ERR_IO},
        {"cat", "it answered", COP_ERR_FORMAT},
        {"read x; echo; echo; sleep 60", "", COP_ERR_FORMAT},
        {"yes | tr -d '\\n'", "more than a mebibyte", COP_ERR_FORMAT},
        {FORKS "exit 3", "asked about a path", COP_ERR_IO},
        {FORKS "read x; echo '{}'; read x; echo '{\"again\": true}'", "asked about a join",
         COP_ERR_FORMAT},
        {"while read x; do echo '{\"count\": \"a\"}'; done", "more than 64 counts", COP_ERR_FORMAT},
    };
    world w = open_any("\"any\"", "\"any\"");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cop_live_sample sample;
        uint32_t failures;
        uint32_t timeout = strstr(cases[i].command, "sleep") ? 100 : 20000;
        cop_status status =
            run_failing(&w, cases[i].command, timeout, COP_PROGRAM_ENDS_RUN, &sample, &failures);
        CHECK_STATUS(status, cases[i].status);
        CHECK_MESSAGE("sample 0, turn 0: the program that makes messages");
        CHECK_MESSAGE(cases[i].message);
        CHECK_EQ(failures, 1);
        /* Or everything is refused from then on. */
        CHECK_OK(
            run_failing(&w, cases[i].command, timeout, COP_PROGRAM_GOES_ON, &sample, &failures));
        CHECK_EQ(sample.stop, COP_STOP_REFUSED);
        CHECK_EQ(failures, 1);
    }
    live_world_close(&w);
}

/* An answer to the question at a fork that nobody can mean. */
static void test_hostile_answers(void) {
    static const char *const answers[] = {"",
                                          "[]",
                                          "1",
                                          "null",
                                          "{",
                                          "{}",
                                          "{\"children\": []}",
                                          "{\"children\": {}}",
                                          "{\"children\": [1]}",
                                          "{\"children\": [{}]}",
                                          "{\"children\": [{\"prompt\": \"\"}]}",
                                          "{\"children\": [{\"prompt\": 1}]}",
                                          "{\"children\": [{\"prompt\": \"a\", \"x\": 1}]}",
                                          "{\"children\": [{\"prompt\": \"a\"}], \"text\": \"b\"}",
                                          "{\"children\": [{\"prompt\": \"a\"}], \"keep\": 1}",
                                          "{\"text\": 1}",
                                          "{\"text\": \"a\", \"end\": false}",
                                          "{\"text\": \"a\", \"again\": true}",
                                          "{\"end\": 1}",
                                          "{\"again\": false}",
                                          "{\"again\": \"yes\"}",
                                          "{\"refuse\": true}",
                                          "{\"refuse\": \"a\", \"x\": 1}",
                                          "{\"count\": 1}",
                                          "{\"count\": \"a\", \"end\": true}",
                                          "{\"text\": \"\xff\"}",
                                          "{\"x\": 1}"};
    world w = open_any("\"any\"", "\"any\"");
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        char command[256];
        cop_live_sample sample;
        uint32_t failures;
        snprintf(command, sizeof command, "read x; echo '%s'", answers[i]);
        CHECK_STATUS(run_failing(&w, command, 20000, COP_PROGRAM_ENDS_RUN, &sample, &failures),
                     COP_ERR_FORMAT);
        CHECK_MESSAGE("it answered \"");
        CHECK_MESSAGE("was expected");
    }
    live_world_close(&w);
}

/* What does not fit is refused, or ends the sample for its length; nothing is cut in silence. */
static void test_answers_that_do_not_fit(void) {
    world w = open_any("\"refused\"", "\"max_paths\": 2, \"refused\"");
    cop_live_sample sample;
    uint32_t failures;
    static const struct {
        const char *answer;
        cop_stop stop;
    } cases[] = {
        {"{\"children\": [{\"prompt\": \"a\"}, {\"prompt\": \"b\"}, {\"prompt\": \"c\"}]}",
         COP_STOP_REFUSED},
        {"{\"children\": [{\"prompt\": \"'$(printf %05000d 1)'\"}]}", COP_STOP_REFUSED},
        {"{\"children\": [{\"prompt\": \"'$(printf %0500000d 1)'\"}]}", COP_STOP_REFUSED},
        {"{\"text\": \"'$(printf %05000d 1)'\"}", COP_STOP_LENGTH},
        {"{\"text\": \"'$(printf %0500000d 1)'\"}", COP_STOP_LENGTH},
        {"{\"text\": \"'$(printf %0500000d 1)'\", \"end\": true}", COP_STOP_LENGTH},
        {"{\"end\": true}", COP_STOP_END},
        {"{\"refuse\": \"no\"}", COP_STOP_REFUSED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char command[256];
        snprintf(command, sizeof command, "read x; echo '%s'", cases[i].answer);
        CHECK_OK(run_failing(&w, command, 20000, COP_PROGRAM_ENDS_RUN, &sample, &failures));
        CHECK_EQ(sample.stop, cases[i].stop);
        CHECK_EQ(sample.forks, 0);
        CHECK_EQ(failures, 0);
    }
    CHECK_STATUS(run_failing(&w, FORKS "read x; echo '{\"text\": \"'$(printf %0500000d 1)'\"}'",
                             20000, COP_PROGRAM_ENDS_RUN, &sample, &failures),
                 COP_ERR_NO_ROOM);
    CHECK_MESSAGE("path 1 has 500000 bytes");
    live_world_close(&w);
}

static void test_a_program_and_its_dialect_go_together(void) {
    world w = open_any("\"any\"", "\"any\"");
    cop_live *live = NULL;
    cop_message_program *program = start("cat", 1000, COP_PROGRAM_ENDS_RUN);
    cop_live_options options = {.dialect = cop_dialect_of(w.dialect),
                                .tokenizer = w.tokenizer,
                                .prompt = live_world_prompt,
                                .n_prompt = 4,
                                .n_samples = 1,
                                .max_tokens = 10,
                                .max_branches = 4};
    CHECK_STATUS(cop_live_create(&options, &live), COP_ERR_USAGE);
    CHECK_MESSAGE("the messages of dialect any are made by a program");
    CHECK_MESSAGE("make-it --so");
    options.program = program;
    options.prune.window = 4;
    CHECK_STATUS(cop_live_create(&options, &live), COP_ERR_UNSUPPORTED);
    cop_dialect_file *plain;
    CHECK_OK(cop_dialect_load_named(".", "multiverse", &plain));
    options.prune.window = 0;
    options.dialect = cop_dialect_of(plain);
    CHECK_STATUS(cop_live_create(&options, &live), COP_ERR_USAGE);
    CHECK_MESSAGE("takes no program");
    CHECK(live == NULL);
    cop_dialect_close(plain);
    cop_message_program_stop(program);
    CHECK_STATUS(cop_message_program_start(&(cop_message_program_options){"cat", 0, 0}, &program),
                 COP_ERR_CONFIG);
    CHECK_STATUS(cop_message_program_start(&(cop_message_program_options){"", 1, 0}, &program),
                 COP_ERR_CONFIG);
    cop_program_failure failure;
    CHECK_OK(cop_program_failure_parse("goes-on", &failure));
    CHECK_EQ(failure, COP_PROGRAM_GOES_ON);
    CHECK_STATUS(cop_program_failure_parse("goes", &failure), COP_ERR_USAGE);
    live_world_close(&w);
}

/* ---- a pool that is too small ---- */

enum { PROBLEMS = 6 };

typedef struct desk {
    cop_problem_queue queue;
    cop_live *live[PROBLEMS];
    uint32_t next;
    uint64_t longest_view;
} desk;

static cop_driver *desk_next(cop_problem_queue *queue) {
    desk *d = (desk *)queue;
    return d->next < PROBLEMS ? cop_live_driver(d->live[d->next++]) : NULL;
}

static void desk_ended(cop_problem_queue *queue, cop_driver *driver,
                       const cop_problem_result *result) {
    desk *d = (desk *)queue;
    (void)driver;
    if (result->seen_max > d->longest_view)
        d->longest_view = result->seen_max;
}

typedef struct told {
    live_text text;
    uint32_t generated, given, paths, forks;
    cop_stop stop;
} told;

/* Returns the longest view. */
static uint64_t run_in_pool(const world *w, const char *command, cop_pressure pressure,
                            uint32_t pages, told out[PROBLEMS], cop_metrics *m) {
    cop_engine *engine = live_world_engine(w, (cop_engine_options){.n_pages = pages,
                                                                   .max_branches = 100,
                                                                   .max_positions = 1200,
                                                                   .max_segments = 2000,
                                                                   .pressure = pressure});
    desk d = {.queue = {.next = desk_next, .ended = desk_ended}};
    cop_message_program *program = start(command, 20000, COP_PROGRAM_ENDS_RUN);
    for (uint32_t i = 0; i < PROBLEMS; i++)
        d.live[i] = live_world_create(
            w, &(cop_live_options){
                   .problem_key = i, .temperature = 1, .max_tokens = 300, .program = program});
    CHECK_OK(cop_engine_run_queue(engine, &d.queue, PROBLEMS, m));
    CHECK_EQ(m->kv_pages_leaked, 0);
    CHECK_EQ(m->allocations_in_steps, 0);
    for (uint32_t i = 0; i < PROBLEMS; i++) {
        cop_live_sample s = cop_live_sample_read(d.live[i], 0);
        out[i] = (told){live_world_read(d.live[i]), s.generated, s.given, s.paths, s.forks, s.stop};
        cop_live_destroy(d.live[i]);
    }
    cop_message_program_stop(program);
    cop_engine_destroy(engine);
    return d.longest_view;
}

static void test_a_small_pool_changes_no_token(void) {
    static const char command[] = ANSWERS
        "'{\"fork0.0\": {\"children\": [{\"prompt\": \"@ one\"}, {\"prompt\": \"% two\"}, "
        "{\"prompt\": \"three\"}]}, \"path0.2.0\": {\"again\": true}, \"join0\": {\"text\": "
        "\"@[]\"}, \"fork1.0\": {\"text\": \"%, so\"}, \"fork2.0\": {\"again\": true}, "
        "\"fork2.1\": {\"children\": [{\"prompt\": \"%!\"}, {\"prompt\": \"@?\"}]}, "
        "\"join2\": {\"text\": \"begin\"}, \"fork3.0\": {\"end\": true}}'";
    uint64_t parked = 0, recomputed = 0;
    for (int join = 0; join < 2; join++) {
        world w = open_any("\"reprefill\", ", "\"reprefill\", \"max_turn_tokens\": 10, ");
        cop_dialect *d = (cop_dialect *)cop_dialect_of(w.dialect);
        d->join = join ? COP_JOIN_MESSAGE : COP_JOIN_REPREFILL;
        told roomy[PROBLEMS], tight[PROBLEMS];
        cop_metrics m;
        uint64_t longest = run_in_pool(&w, command, COP_PRESSURE_FAIL, 400, roomy, &m);
        for (uint32_t i = 0; i < PROBLEMS; i++) {
            CHECK_EQ(roomy[i].forks, 2);
            CHECK_EQ(roomy[i].paths, 5);
            CHECK(roomy[i].generated > 90 && roomy[i].generated <= 10 * 12);
            CHECK(i == 0 || strcmp(roomy[i].text.text, roomy[0].text.text) != 0);
        }
        /* The prompt and each stretch of a thread begin on pages of their own, and a parent's stay
         * beside those of a child in a context of its own. */
        uint32_t peak = (uint32_t)m.kv_pages_peak, least = (uint32_t)(longest / 16) + 6;
        for (int policy = COP_PRESSURE_QUEUE; policy <= COP_PRESSURE_RECOMPUTE; policy++) {
            for (uint32_t pages = peak; pages >= least; pages -= 2) {
                run_in_pool(&w, command, (cop_pressure)policy, pages, tight, &m);
                parked += m.branches_parked;
                recomputed += m.tokens_recomputed;
                for (uint32_t i = 0; i < PROBLEMS; i++) {
                    CHECK_TEXT(tight[i].text.text, roomy[i].text.text);
                    CHECK_EQ(tight[i].generated, roomy[i].generated);
                    CHECK_EQ(tight[i].given, roomy[i].given);
                    CHECK_EQ(tight[i].paths, roomy[i].paths);
                    CHECK_EQ(tight[i].stop, roomy[i].stop);
                }
            }
        }
        live_world_close(&w);
    }
    CHECK(parked > 100);
    CHECK(recomputed > 100);
}

int main(void) {
    RUN(test_programs_that_fail);
    RUN(test_hostile_answers);
    RUN(test_answers_that_do_not_fit);
    RUN(test_a_program_and_its_dialect_go_together);
    RUN(test_a_small_pool_changes_no_token);
    return check_report();
}
