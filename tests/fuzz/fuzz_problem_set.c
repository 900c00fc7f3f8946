/* Problem sets and claims on any bytes. Bit 7 of the first byte clear: the rest is a JSONL file,
 * read without a checker (bits 0-1: 0), with "exact" (1) or with "countdown" (2, 3). What was
 * accepted is written and read again the same, and its answers are right. Bit 7 set: the rest is a
 * prompt and, behind the first newline, a claim, graded by countdown; what is right stays right
 * between spaces and is wrong with a number more.
 * Seeds: tests/fuzz/corpus/problem_set, that byte and then a file, or a prompt and a claim.
 */
#include "reason/problem_set.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(int condition) {
    if (!condition)
        abort();
}

static const cop_checker *find(const char *name) {
    const cop_checker *checker;
    require(cop_checker_find(name, &checker) == COP_OK);
    return checker;
}

static cop_problem_set *read_memory(const void *data, size_t bytes, const cop_checker *checker) {
    char path[64];
    cop_problem_set *set = NULL;
    int fd = memfd_create("problems", 0);
    require(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    cop_status status = cop_problem_set_read(path, checker, 0, &set);
    require((status == COP_OK) == (set != NULL));
    require(status == COP_OK || strstr(cop_status_message(), path) != NULL);
    close(fd);
    return set;
}

static int equal(cop_answer_text a, cop_answer_text b) {
    return !a.text == !b.text && a.bytes == b.bytes &&
           (!a.text || memcmp(a.text, b.text, a.bytes) == 0);
}

static void write_entry(const cop_problem_entry *entry, cop_buffer *out) {
    json_t *json = json_object();
    json_object_set_new(json, "id", json_string(entry->id));
    json_object_set_new(json, "prompt", json_stringn(entry->prompt.text, entry->prompt.bytes));
    if (entry->answer.text)
        json_object_set_new(json, "answer", json_stringn(entry->answer.text, entry->answer.bytes));
    char *line = json_dumps(json, JSON_COMPACT);
    require(line != NULL && cop_buffer_printf(out, "%s\n", line) == COP_OK);
    free(line);
    json_decref(json);
}

static void check_set(const void *data, size_t bytes, const cop_checker *checker) {
    cop_problem_set *set = read_memory(data, bytes, checker);
    if (!set)
        return;
    cop_buffer text = {0};
    require(set->count > 0 && strlen(set->sha256) == 64);
    for (uint32_t i = 0; i < set->count; i++) {
        const cop_problem_entry *entry = &set->list[i];
        require(entry->id[0] && entry->prompt.bytes);
        if (checker && entry->answer.text)
            require(cop_checker_grade(checker, entry->prompt, entry->answer, entry->answer) ==
                    COP_GRADE_RIGHT);
        write_entry(entry, &text);
    }
    cop_problem_set *again = read_memory(text.data, text.bytes, checker);
    require(again != NULL && again->count == set->count);
    for (uint32_t i = 0; i < set->count; i++)
        require(strcmp(again->list[i].id, set->list[i].id) == 0 &&
                equal(again->list[i].prompt, set->list[i].prompt) &&
                equal(again->list[i].answer, set->list[i].answer));
    cop_problem_set_destroy(again);
    cop_problem_set_destroy(set);
    cop_buffer_release(&text);
}

static cop_grade grade_between(cop_answer_text prompt, cop_answer_text claim, const char *before,
                               const char *after) {
    cop_buffer text = {0};
    require(cop_buffer_append(&text, before, strlen(before)) == COP_OK &&
            cop_buffer_append(&text, claim.text, claim.bytes) == COP_OK &&
            cop_buffer_append(&text, after, strlen(after)) == COP_OK);
    cop_grade grade = cop_checker_grade(find("countdown"), prompt, (cop_answer_text){0},
                                        (cop_answer_text){text.data, text.bytes});
    cop_buffer_release(&text);
    return grade;
}

static void check_claim(const char *data, size_t bytes) {
    const char *newline = memchr(data, '\n', bytes);
    if (!newline)
        return;
    cop_answer_text prompt = {data, (size_t)(newline - data)};
    cop_answer_text claim = {newline + 1, bytes - prompt.bytes - 1};
    cop_grade grade = cop_checker_grade(find("countdown"), prompt, (cop_answer_text){0}, claim);
    require(grade != COP_GRADE_NONE);
    require(grade_between(prompt, claim, " \n", "\t ") == grade);
    if (grade == COP_GRADE_RIGHT) {
        require(cop_checker_accepts(find("countdown"), prompt, claim) == COP_OK);
        require(cop_checker_accepts(find("countdown"), prompt, (cop_answer_text){0}) == COP_OK);
        require(grade_between(prompt, claim, "", " + 1") == COP_GRADE_WRONG);
        require(grade_between(prompt, claim, "1 ", "") == COP_GRADE_WRONG);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes < 1)
        return 0;
    int kind = data[0] & 3;
    if (data[0] & 0x80)
        check_claim((const char *)data + 1, bytes - 1);
    else
        check_set(data + 1, bytes - 1, kind == 0 ? NULL : find(kind == 1 ? "exact" : "countdown"));
    return 0;
}
