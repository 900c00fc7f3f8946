/* Assertions that survive release builds, and a main for one test binary.
 *
 *   static void test_fork_opens_a_fresh_page(void) { CHECK(...); CHECK_EQ(a, b); }
 *   int main(void) { RUN(test_fork_opens_a_fresh_page); return check_report(); }
 */
#pragma once

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

static int check_tests, check_failures, check_skips;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: CHECK(%s) failed; last error: %s\n", __FILE__, __LINE__,       \
                    #condition, cop_status_message());                                             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        long long check_a = (long long)(a), check_b = (long long)(b);                              \
        if (check_a != check_b) {                                                                  \
            fprintf(stderr, "%s:%d: %s == %lld, %s == %lld\n", __FILE__, __LINE__, #a, check_a,    \
                    #b, check_b);                                                                  \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_OK(expression)                                                                       \
    do {                                                                                           \
        cop_status check_status = (expression);                                                    \
        if (check_status != COP_OK) {                                                              \
            fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #expression,                \
                    cop_status_name(check_status), cop_status_message());                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_STATUS(expression, expected)                                                         \
    do {                                                                                           \
        cop_status check_status = (expression);                                                    \
        if (check_status != (expected)) {                                                          \
            fprintf(stderr, "%s:%d: %s gave %s, expected %s\n", __FILE__, __LINE__, #expression,   \
                    cop_status_name(check_status), cop_status_name(expected));                     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_TEXT(actual, expected)                                                               \
    do {                                                                                           \
        const char *check_a = (actual), *check_b = (expected);                                     \
        if (strcmp(check_a, check_b) != 0) {                                                       \
            fprintf(stderr, "%s:%d: %s is\n  \"%s\"\nnot\n  \"%s\"\n", __FILE__, __LINE__,         \
                    #actual, check_a, check_b);                                                    \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The message of the last failure holds `part`. */
#define CHECK_MESSAGE(part)                                                                        \
    do {                                                                                           \
        if (!strstr(cop_status_message(), (part))) {                                               \
            fprintf(stderr, "%s:%d: message \"%s\" lacks \"%s\"\n", __FILE__, __LINE__,            \
                    cop_status_message(), (part));                                                 \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define SKIP(why)                                                                                  \
    do {                                                                                           \
        printf("skipped: %s\n", (why));                                                            \
        check_skips++;                                                                             \
        return;                                                                                    \
    } while (0)

#define RUN(test)                                                                                  \
    do {                                                                                           \
        printf("%s\n", #test);                                                                     \
        fflush(stdout);                                                                            \
        test();                                                                                    \
        check_tests++;                                                                             \
    } while (0)

/* `whole` scaled by the effort that the runner asks for (COPPICE_EFFORT in percent), at least
 * `least`: sanitizer builds run a share of the random cases. */
static inline uint32_t check_effort(uint32_t whole, uint32_t least) {
    const char *text = getenv("COPPICE_EFFORT");
    long percent = text ? strtol(text, NULL, 10) : 100;
    if (percent < 1 || percent > 100)
        percent = 100;
    uint32_t n = (uint32_t)((uint64_t)whole * (uint64_t)percent / 100);
    return n < least ? least : n;
}

static inline int check_report(void) {
    printf("%d tests, %d skipped\n", check_tests, check_skips);
    return check_failures != 0;
}
