/* Grading texts in tests of the countdown checker. Each text lies in memory of its own that ends
 * where it ends, and grading is seen to allocate nothing.
 */
#pragma once

#include "base/memory.h"
#include "check.h"
#include "reason/checker.h"

static inline const cop_checker *countdown(void) {
    const cop_checker *checker;
    CHECK_OK(cop_checker_find("countdown", &checker));
    return checker;
}

/* A copy that ends where its text ends, so that the sanitizer sees a read beyond it. */
static inline cop_answer_text exactly(const char *text, size_t bytes) {
    char *copy = malloc(bytes ? bytes : 1);
    CHECK(copy != NULL);
    memcpy(copy, text, bytes);
    return (cop_answer_text){copy, bytes};
}

static inline cop_grade grade_bytes(const cop_checker *checker, const char *prompt,
                                    const char *reference, const char *claim, size_t bytes) {
    cop_answer_text p = exactly(prompt, strlen(prompt)), c = exactly(claim, bytes), r = {0};
    if (reference)
        r = exactly(reference, strlen(reference));
    uint64_t before = cop_memory_count();
    cop_grade grade = cop_checker_grade(checker, p, r, c);
    CHECK_EQ(cop_memory_count(), before);
    free((char *)p.text);
    free((char *)r.text);
    free((char *)c.text);
    return grade;
}

static inline cop_grade grade(const char *prompt, const char *claim) {
    return grade_bytes(countdown(), prompt, NULL, claim, strlen(claim));
}

static inline void check_grade(const char *prompt, const char *claim, cop_grade expected) {
    cop_grade actual = grade(prompt, claim);
    if (actual != expected) {
        fprintf(stderr, "\"%s\" for \"%s\" is %s, not %s\n", claim, prompt, cop_grade_name(actual),
                cop_grade_name(expected));
        exit(1);
    }
}

static inline cop_status accepts(const char *prompt, const char *reference) {
    cop_answer_text p = exactly(prompt, strlen(prompt)), r = {0};
    if (reference)
        r = exactly(reference, strlen(reference));
    cop_status status = cop_checker_accepts(countdown(), p, r);
    free((char *)p.text);
    free((char *)r.text);
    return status;
}
