#include "reason/problem_set.h"

#include <stdbool.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/sha256.h"
#include "check.h"

static const cop_checker *checker_of(const char *name) {
    const cop_checker *checker = NULL;
    if (name)
        CHECK_OK(cop_checker_find(name, &checker));
    return checker;
}

typedef struct asked {
    const char *checker;
    uint32_t first;
} asked;

/* *hash is the file's, from elsewhere. */
static cop_status read_bytes(const char *text, size_t bytes, asked how, cop_problem_set **out,
                             char hash[COP_SHA256_HEX_BYTES]) {
    char path[64];
    int fd = memfd_create("problems", 0);
    CHECK(fd >= 0 && write(fd, text, bytes) == (ssize_t)bytes);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    cop_sha256_of(text, bytes, hash);
    cop_status status = cop_problem_set_read(path, checker_of(how.checker), how.first, out);
    CHECK((status == COP_OK) == (*out != NULL));
    close(fd);
    return status;
}

static cop_problem_set *read_good(const char *text, asked how) {
    char hash[COP_SHA256_HEX_BYTES];
    cop_problem_set *set = NULL;
    CHECK_OK(read_bytes(text, strlen(text), how, &set, hash));
    CHECK_TEXT(set->sha256, hash);
    return set;
}

static void test_shipped_sets(void) {
    static const struct {
        const char *path;
        uint32_t count;
    } rows[] = {{"bench/countdown/problems-1000.jsonl", 1000},
                {"bench/countdown/problems-200.jsonl", 200}};
    const cop_checker *countdown = checker_of("countdown");
    for (size_t i = 0; i < 2; i++) {
        cop_problem_set *set;
        char hash[COP_SHA256_HEX_BYTES];
        CHECK_OK(cop_problem_set_read(rows[i].path, countdown, 0, &set));
        CHECK_EQ(set->count, rows[i].count);
        CHECK_OK(cop_sha256_of_file(rows[i].path, hash));
        CHECK_TEXT(set->sha256, hash);
        CHECK_TEXT(set->list[0].id, "countdown-0000");
        for (uint32_t k = 0; k < set->count; k++) {
            const cop_problem_entry *entry = &set->list[k];
            cop_answer_text none = {0}, other = set->list[(k + 1) % set->count].answer;
            CHECK_EQ(cop_checker_grade(countdown, entry->prompt, none, entry->answer),
                     COP_GRADE_RIGHT);
            CHECK_EQ(cop_checker_grade(countdown, entry->prompt, none, other), COP_GRADE_WRONG);
            CHECK_OK(cop_checker_accepts(countdown, entry->prompt, none));
        }
        cop_problem_set_destroy(set);
    }
}

/* The hash is of the whole file, which is longer than what the reader takes at once. */
static void test_first(void) {
    const char *path = "bench/countdown/problems-1000.jsonl";
    cop_problem_set *some, *all;
    CHECK_OK(cop_problem_set_read(path, NULL, 7, &some));
    CHECK_OK(cop_problem_set_read(path, NULL, 1000, &all));
    CHECK_EQ(some->count, 7);
    CHECK_EQ(all->count, 1000);
    CHECK_TEXT(some->sha256, all->sha256);
    for (uint32_t i = 0; i < 7; i++)
        CHECK_TEXT(some->list[i].id, all->list[i].id);
    cop_problem_set_destroy(some);
    cop_problem_set_destroy(all);
    CHECK_STATUS(cop_problem_set_read(path, NULL, 1001, &all), COP_ERR_FORMAT);
    CHECK_MESSAGE("holds 1000 problems and the first 1001 are wanted; ask for at most 1000");
    CHECK(all == NULL);
}

static void test_fields(void) {
    cop_problem_set *set = read_good("{\"id\": \"a\", \"prompt\": \"p\\u00e9\\u0000q\"}\n"
                                     "{\"answer\": null, \"prompt\": \"p\", \"id\": \"b\"}\r\n"
                                     "  {\"id\": \"A\", \"prompt\": \"p\", \"answer\": \"\", "
                                     "\"meta\": {\"note\": [1, {\"x\": null}]}}",
                                     (asked){NULL, 0});
    CHECK_EQ(set->count, 3);
    CHECK_EQ(set->list[0].prompt.bytes, 5);
    CHECK(memcmp(set->list[0].prompt.text, "p\xc3\xa9\0q", 6) == 0);
    CHECK(set->list[0].answer.text == NULL && set->list[1].answer.text == NULL);
    CHECK(set->list[2].answer.text != NULL);
    CHECK_EQ(set->list[2].answer.bytes, 0);
    CHECK_TEXT(set->list[1].id, "b");
    cop_problem_set_destroy(set);
    set = read_good("{\"id\": \"a\", \"prompt\": \"2 + 2?\", \"answer\": \"4\"}\n",
                    (asked){"exact", 1});
    CHECK_TEXT(set->list[0].answer.text, "4");
    cop_problem_set_destroy(set);
    cop_problem_set_destroy(NULL);
}

#define GOOD "{\"id\":\"a\",\"prompt\":\"T3 1 2\",\"answer\":\"1 + 2\"}\n"

static void test_refused(void) {
    static const struct {
        const char *text, *checker, *message;
    } rows[] = {
        {"", NULL, ": holds no problem"},
        {"\n" GOOD, NULL, ":1: the line is empty"},
        {GOOD "\n", NULL, ":2: the line is empty"},
        {GOOD "  \n", NULL, ":2: column"},
        {GOOD "{\"id\":\"b\",", NULL, ":2: column"},
        {GOOD "{\"id\":\"b\",\"prompt\":\"p\"} x\n", NULL, ":2: column"},
        {GOOD "{\"id\":\"b\",\"prompt\":\"\x01\"}\n", NULL, ":2: column"},
        {GOOD "{\"id\":\"b\",\"prompt\":\"\xff\"}\n", NULL, ":2: column"},
        {GOOD "[1]\n", NULL, ":2: the line is not an object"},
        {GOOD "3\n", NULL, ":2: column"},
        {GOOD "{}\n", NULL, ":2: \"id\" is missing"},
        {"{\"prompt\":\"p\"}\n", NULL, ":1: \"id\" is missing"},
        {"{\"id\":\"a\"}\n", NULL, ":1: \"prompt\" is missing"},
        {"{\"id\":7,\"prompt\":\"p\"}\n", NULL, ":1: \"id\" is not a text"},
        {"{\"id\":\"a\",\"prompt\":null}\n", NULL, ":1: \"prompt\" is not a text"},
        {"{\"id\":\"a\",\"prompt\":\"p\",\"answer\":4}\n", NULL, ":1: \"answer\" is not a text"},
        {"{\"id\":\"\",\"prompt\":\"p\"}\n", NULL, ":1: \"id\" is empty"},
        {"{\"id\":\"a\",\"prompt\":\"\"}\n", NULL, ":1: \"prompt\" is empty"},
        {"{\"id\":\"a\\u0000\",\"prompt\":\"p\"}\n", NULL, "holds the character 0"},
        {"{\"id\":\"a\",\"id\":\"a\",\"prompt\":\"p\"}\n", NULL, "duplicate"},
        {"{\"id\":\"a\",\"prompt\":\"p\",\"no\\nte\":1}\n", NULL, "\"no?te\" is not a known key"},
        {"{\"id\":\"a\",\"prompt\":\"p\",\"note\":1}\n", NULL, "put notes under \"meta\""},
        {GOOD GOOD, NULL, ":2: the id \"a\" stands already in line 1"},
        {GOOD "{\"id\":\"b\",\"prompt\":\"p\"}\n{\"id\":\"b\",\"prompt\":\"p\"}\n" GOOD, NULL,
         ":3: the id \"b\" stands already in line 2"},
        {GOOD "{\"id\":\"b\",\"prompt\":\"p\"}\n" GOOD "{\"id\":\"b\",\"prompt\":\"p\"}\n", NULL,
         ":3: the id \"a\" stands already in line 1"},
        {GOOD "{\"id\":\"b\",\"prompt\":\"p\"}\n", "countdown", ":2: the prompt \"p\" has too few"},
        {GOOD "{\"id\":\"b\",\"prompt\":\"T99 1 1 1 1\"}\n", "countdown",
         ":2: the prompt \"T99 1 1 1 1\": no way to make 99 of these numbers"},
        {GOOD "{\"id\":\"b\",\"prompt\":\"T3 1 2\",\"answer\":\"1 + 1\"}\n", "countdown",
         ":2: the reference answer \"1 + 1\""},
        {GOOD "{\"id\":\"b\",\"prompt\":\"p\",\"answer\":\" \"}\n", "exact", ":2: the reference"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char hash[COP_SHA256_HEX_BYTES];
        cop_problem_set *set = NULL;
        CHECK_STATUS(
            read_bytes(rows[i].text, strlen(rows[i].text), (asked){rows[i].checker, 0}, &set, hash),
            COP_ERR_FORMAT);
        CHECK_MESSAGE(rows[i].message);
        CHECK_MESSAGE("/proc/self/fd/");
    }
}

static void test_files_that_cannot_be_read(void) {
    cop_problem_set *set;
    CHECK_STATUS(cop_problem_set_read("/nonexistent/x.jsonl", NULL, 0, &set), COP_ERR_IO);
    CHECK_MESSAGE("/nonexistent/x.jsonl: cannot be opened");
    CHECK_STATUS(cop_problem_set_read("bench", NULL, 0, &set), COP_ERR_IO);
    CHECK_MESSAGE("bench: cannot be read");
    CHECK(set == NULL);
}

/* A file cut anywhere is refused, unless it ends with a whole problem. */
static void test_cut_at_every_byte(void) {
    static const char text[] =
        GOOD "{\"id\":\"b\",\"prompt\":\"T33 18 15 9 8\",\"answer\":null,\"meta\":[{}]}\n";
    for (size_t bytes = 0; bytes < sizeof text; bytes++) {
        char hash[COP_SHA256_HEX_BYTES];
        cop_problem_set *set = NULL;
        bool whole = bytes && (text[bytes - 1] == '\n' || text[bytes] == '\n');
        if (bytes == sizeof text - 1)
            whole = true;
        CHECK_STATUS(read_bytes(text, bytes, (asked){"countdown", 0}, &set, hash),
                     whole ? COP_OK : COP_ERR_FORMAT);
        CHECK(!set || strcmp(set->sha256, hash) == 0);
        cop_problem_set_destroy(set);
    }
}

/* Lines that end before, at and after the reader's chunks; a line of the greatest length. */
static void test_long_lines(void) {
    enum { LINE_BYTES_MAX = 16 << 20, MORE = 64 };
    static const char head[] = "{\"id\":\"a\",\"prompt\":\"", tail[] = "\"}";
    char *text = malloc(LINE_BYTES_MAX + MORE), hash[COP_SHA256_HEX_BYTES];
    CHECK(text != NULL);
    size_t frame = sizeof head + sizeof tail - 2;
    static const size_t lines[] = {65535, 65536, 65537, 131071, LINE_BYTES_MAX, LINE_BYTES_MAX + 1};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        cop_problem_set *set = NULL;
        size_t prompt = lines[i] - frame;
        memset(text, 'x', lines[i]);
        memcpy(text, head, sizeof head - 1);
        memcpy(text + lines[i] - sizeof tail + 1, tail, sizeof tail - 1);
        text[lines[i]] = '\n';
        cop_status status = read_bytes(text, lines[i] + 1, (asked){NULL, 0}, &set, hash);
        CHECK_STATUS(status, lines[i] > LINE_BYTES_MAX ? COP_ERR_FORMAT : COP_OK);
        if (set)
            CHECK(set->list[0].prompt.bytes == prompt && strcmp(set->sha256, hash) == 0);
        else
            CHECK_MESSAGE(":1: the line has more than 16777216 bytes");
        cop_problem_set_destroy(set);
    }
    free(text);
}

static void test_many_problems(void) {
    enum { N = 30000, LINE = 64 };
    uint32_t count = check_effort(N, 2000);
    char *text = malloc((size_t)(count + 1) * LINE), *at = text, hash[COP_SHA256_HEX_BYTES];
    CHECK(text != NULL);
    for (uint32_t i = 0; i < count; i++)
        at += snprintf(at, LINE, "{\"id\":\"%u\",\"prompt\":\"p%u\"}\n", i, i);
    cop_problem_set *set = NULL;
    clock_t begin = clock();
    CHECK_OK(read_bytes(text, (size_t)(at - text), (asked){NULL, 0}, &set, hash));
    CHECK(clock() - begin < 5 * CLOCKS_PER_SEC);
    CHECK_EQ(set->count, count);
    for (uint32_t i = 0; i < count; i++)
        CHECK_EQ(strtol(set->list[i].id, NULL, 10), i);
    cop_problem_set_destroy(set);
    at += snprintf(at, LINE, "{\"id\":\"%u\",\"prompt\":\"p\"}\n", count / 2);
    set = NULL;
    CHECK_STATUS(read_bytes(text, (size_t)(at - text), (asked){NULL, 0}, &set, hash),
                 COP_ERR_FORMAT);
    char expected[64];
    snprintf(expected, sizeof expected, ":%u: the id \"%u\" stands already in line %u", count + 1,
             count / 2, count / 2 + 1);
    CHECK_MESSAGE(expected);
    free(text);
}

static void test_deep_nesting_is_refused(void) {
    enum { DEPTH = 100000 };
    static const char head[] = "{\"id\":\"a\",\"prompt\":\"p\",\"meta\":";
    char *text = malloc(DEPTH + sizeof head), hash[COP_SHA256_HEX_BYTES];
    CHECK(text != NULL);
    memcpy(text, head, sizeof head - 1);
    memset(text + sizeof head - 1, '[', DEPTH);
    cop_problem_set *set = NULL;
    CHECK_STATUS(read_bytes(text, DEPTH + sizeof head - 1, (asked){NULL, 0}, &set, hash),
                 COP_ERR_FORMAT);
    CHECK_MESSAGE(":1: column");
    free(text);
}

int main(void) {
    RUN(test_shipped_sets);
    RUN(test_first);
    RUN(test_fields);
    RUN(test_refused);
    RUN(test_files_that_cannot_be_read);
    RUN(test_cut_at_every_byte);
    RUN(test_long_lines);
    RUN(test_many_problems);
    RUN(test_deep_nesting_is_refused);
    return check_report();
}
