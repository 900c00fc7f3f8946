/* Programs that are asked line by line, and the graders that ask them: right answers, and every way
 * in which a program can fail. */
#include "check.h"

#include <time.h>
#include <unistd.h>

#include "base/line_program.h"
#include "reason/grader.h"

static cop_answer_text text_of(const char *text) {
    return (cop_answer_text){text, text ? strlen(text) : 0};
}

/* ---- line programs ---- */

static cop_line_program *start(const char *command, uint32_t timeout_ms) {
    cop_line_program *program;
    CHECK_OK(cop_line_program_start(command, timeout_ms, &program));
    return program;
}

static void test_a_program_answers_line_by_line(void) {
    cop_line_program *program = start("cat", 10000);
    cop_buffer reply = {0};
    for (int i = 0; i < 100; i++) {
        char line[32];
        snprintf(line, sizeof line, "line %d", i);
        CHECK_OK(cop_line_program_ask(program, line, strlen(line), &reply));
        CHECK_TEXT(reply.data, line);
    }
    CHECK_OK(cop_line_program_ask(program, "", 0, &reply));
    CHECK_EQ(reply.bytes, 0);
    /* More than every pipe between us holds: it must be sent while the answer is read. */
    size_t bytes = 900000;
    char *large = malloc(bytes);
    memset(large, 'x', bytes);
    CHECK_OK(cop_line_program_ask(program, large, bytes, &reply));
    CHECK(reply.bytes == bytes && memcmp(reply.data, large, bytes) == 0);
    CHECK_STATUS(cop_line_program_ask(program, "a\nb", 3, &reply), COP_ERR_INTERNAL);
    free(large);
    cop_buffer_release(&reply);
    CHECK(!cop_line_program_is_stopped(program));
    cop_line_program_stop(program);
    cop_line_program_stop(NULL);
}

static void fails(const char *command, uint32_t timeout_ms, cop_status status, const char *words) {
    cop_line_program *program = start(command, timeout_ms);
    cop_buffer reply = {0};
    CHECK_STATUS(cop_line_program_ask(program, "x", 1, &reply), status);
    CHECK_MESSAGE(words);
    CHECK(cop_line_program_is_stopped(program));
    CHECK_STATUS(cop_line_program_ask(program, "x", 1, &reply), COP_ERR_IO);
    CHECK_MESSAGE("stopped");
    cop_buffer_release(&reply);
    cop_line_program_stop(program);
}

static void test_every_failure_has_a_name(void) {
    fails("exit 3", 10000, COP_ERR_IO, "exit code 3");
    fails("kill -9 $$", 10000, COP_ERR_IO, "signal 9");
    fails("nonexistent-program-of-nobody 2>/dev/null", 10000, COP_ERR_IO, "exit code 127");
    fails("exec >&-; sleep 600", 10000, COP_ERR_IO, "closed its input or output");
    fails("sleep 600", 50, COP_ERR_IO, "no line within 50 ms");
    fails("printf unfinished; sleep 600", 50, COP_ERR_IO, "no line within 50 ms");
    fails("tr '\\0' x </dev/zero", 10000, COP_ERR_FORMAT, "mebibyte");
    cop_line_program *program;
    CHECK_STATUS(cop_line_program_start("", 10, &program), COP_ERR_USAGE);
    CHECK_STATUS(cop_line_program_start("cat", 0, &program), COP_ERR_USAGE);
}

/* The second line of the first answer would be taken for the answer to the second question. */
static void test_two_lines_are_no_answer(void) {
    cop_line_program *program = start("while read x; do printf '1\\n2\\n'; done", 10000);
    cop_buffer reply = {0};
    cop_status status = cop_line_program_ask(program, "x", 1, &reply);
    CHECK_OK(status);
    CHECK_TEXT(reply.data, "1");
    for (int i = 0; i < 50 && status == COP_OK; i++) /* the 2 may come with the next reading */
        status = cop_line_program_ask(program, "x", 1, &reply);
    CHECK_EQ(status, COP_ERR_FORMAT);
    CHECK_MESSAGE("more than one line");
    cop_buffer_release(&reply);
    cop_line_program_stop(program);
}

/* Gone, or dead and not yet collected by whoever collects orphans here. */
static bool is_dead(long pid) {
    char path[64], state = 'Z';
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return true;
    bool read = fscanf(file, "%*d (%*[^)]) %c", &state) == 1;
    fclose(file);
    return !read || state == 'Z' || state == 'X';
}

/* What the shell has started does not live on, whether the shell does (it hangs) or not (it ends,
 * and its child holds the output open). */
static void test_the_whole_group_is_stopped(void) {
    static const char *const ends[] = {"sleep 600", "exit 1"};
    for (int i = 0; i < 2; i++) {
        char command[128];
        cop_buffer reply = {0};
        snprintf(command, sizeof command, "read x; sleep 600 & echo $!; read x; %s", ends[i]);
        cop_line_program *program = start(command, 2000);
        CHECK_OK(cop_line_program_ask(program, "x", 1, &reply));
        long child = strtol(reply.data, NULL, 10);
        CHECK(child > 1 && !is_dead(child));
        CHECK_STATUS(cop_line_program_ask(program, "x", 1, &reply), COP_ERR_IO);
        CHECK_MESSAGE("no line within");
        for (int k = 0; k < 1000 && !is_dead(child); k++)
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        CHECK(is_dead(child));
        cop_buffer_release(&reply);
        cop_line_program_stop(program);
    }
}

/* ---- graders ---- */

/* Judges by text, knows its question's number, and cannot judge what holds a question mark. */
#define PROGRAM                                                                                    \
    "equivalence:python3 -uc '\n"                                                                  \
    "import json, sys\n"                                                                           \
    "for line in sys.stdin:\n"                                                                     \
    "    q = json.loads(line)\n"                                                                   \
    "    c = q[\"claimed\"]\n"                                                                     \
    "    assert c != \"die\"\n"                                                                    \
    "    e = None if c == \"?\" else c.lower() == q[\"reference\"].lower()\n"                      \
    "    print(json.dumps({\"n\": q[\"n\"], \"equal\": e, \"why\": q[\"prompt\"]}))\n' "           \
    "2>/dev/null"

static cop_grader *grader_of(const char *rule, bool skip) {
    cop_grader *grader;
    CHECK_OK(cop_grader_create(&(cop_grader_options){rule, 20000, skip}, &grader));
    return grader;
}

static const char *grade(cop_grader *grader, const char *reference, const char *claimed) {
    cop_grade out;
    CHECK_OK(cop_grader_grade(grader, text_of("p"), text_of(reference), text_of(claimed), &out));
    return cop_grade_name(out);
}

static bool have_python(void) {
    return system("python3 -c 'import json' >/dev/null 2>&1") == 0;
}

static void test_a_program_judges(void) {
    if (!have_python())
        SKIP("no python3");
    cop_grader *grader = grader_of(PROGRAM, false);
    bool same;
    CHECK_TEXT(cop_grader_name(grader), "equivalence");
    CHECK(cop_grader_checker(grader) == NULL);
    CHECK_TEXT(grade(grader, "a", "A"), "right");
    CHECK_TEXT(grade(grader, "a", "b"), "wrong");
    CHECK_TEXT(grade(grader, "a", "?"), "ungraded");
    CHECK_TEXT(grade(grader, "a", NULL), "none");
    CHECK_TEXT(grade(grader, NULL, "a"), "ungraded");
    CHECK_TEXT(grade(grader, "a", "\xff"), "ungraded"); /* no JSON can hold it */
    CHECK_OK(cop_grader_same(grader, text_of("x"), text_of("X"), &same));
    CHECK(same);
    CHECK_OK(cop_grader_same(grader, text_of("x"), text_of("?"), &same));
    CHECK(!same);
    CHECK(cop_grader_claim(grader, text_of("so \\boxed{7}")).bytes == 1);
    CHECK(!cop_grader_claim(grader, text_of("no box")).text);
    CHECK_EQ(cop_grader_failures(grader), 0);
    cop_grader_destroy(grader);
}

static void test_a_failed_question_ends_or_is_ungraded(void) {
    if (!have_python())
        SKIP("no python3");
    cop_grade out;
    cop_grader *grader = grader_of(PROGRAM, false);
    CHECK_STATUS(cop_grader_grade(grader, text_of("p"), text_of("a"), text_of("die"), &out),
                 COP_ERR_IO);
    CHECK_MESSAGE("exit code 1");
    cop_grader_destroy(grader);
    grader = grader_of(PROGRAM, true);
    CHECK_TEXT(grade(grader, "a", "die"), "ungraded");
    CHECK_TEXT(grade(grader, "a", "A"), "right"); /* a new one answers */
    CHECK_EQ(cop_grader_failures(grader), 1);
    cop_grader_destroy(grader);
}

static void test_nonsense_is_named(void) {
    static const struct {
        const char *reply, *words;
    } cases[] = {
        {"yes", "no JSON object"},
        {"[1]", "no JSON object"},
        {"{\"n\": 2, \"equal\": true}", "not the question's"},
        {"{\"equal\": true}", "not the question's"},
        {"{\"n\": 1}", "missing or something else"},
        {"{\"n\": 1, \"equal\": \"true\"}", "missing or something else"},
        {"{\"n\": 1, \"n\": 1, \"equal\": true}", "no JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char rule[128];
        cop_grade out;
        snprintf(rule, sizeof rule, "equivalence:read x; echo '%s'", cases[i].reply);
        cop_grader *grader = grader_of(rule, false);
        CHECK_STATUS(cop_grader_grade(grader, text_of("p"), text_of("a"), text_of("b"), &out),
                     COP_ERR_FORMAT);
        CHECK_MESSAGE(cases[i].words);
        cop_grader_destroy(grader);
    }
    cop_grader *grader;
    CHECK_STATUS(cop_grader_create(&(cop_grader_options){.rule = "equivalence: "}, &grader),
                 COP_ERR_USAGE);
    CHECK_STATUS(cop_grader_create(&(cop_grader_options){.rule = "exactly"}, &grader),
                 COP_ERR_CONFIG);
    CHECK_MESSAGE("equivalence:\"COMMAND\"");
    CHECK_MESSAGE("\"exactly\"");
    CHECK(grader == NULL);
}

static void test_classes_are_those_of_the_first(void) {
    static const char *const said[] = {"1/2", NULL, "0.5", "x", "3", "x ", "\\frac{1}{2}", "3.0"};
    static const uint32_t expected[] = {0, UINT32_MAX, 0, 1, 2, 1, 0, 2};
    cop_answer_text answers[8];
    uint32_t classes[8], n;
    for (int i = 0; i < 8; i++)
        answers[i] = text_of(said[i]);
    cop_grader *grader = grader_of("boxed", false);
    CHECK_OK(cop_grader_classes(grader, answers, 8, classes, &n));
    CHECK_EQ(n, 3);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(classes[i], expected[i]);
    CHECK_OK(cop_grader_classes(grader, answers, 0, classes, &n));
    CHECK_EQ(n, 0);
    cop_grader_destroy(grader);
}

int main(void) {
    RUN(test_a_program_answers_line_by_line);
    RUN(test_every_failure_has_a_name);
    RUN(test_two_lines_are_no_answer);
    RUN(test_the_whole_group_is_stopped);
    RUN(test_a_program_judges);
    RUN(test_a_failed_question_ends_or_is_ungraded);
    RUN(test_nonsense_is_named);
    RUN(test_classes_are_those_of_the_first);
    return check_report();
}
