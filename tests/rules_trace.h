/* Random traces and the comparison with fixtures, for tests of rules: the C side of
 * tests/ref/rules/common.py, which says how fixtures are made.
 *
 *   static void trace(rules_random *r, rules_line *line) { ... rules_put(line, "p%u", b); ... }
 *   rules_check_fixture("deepconf", 1, trace);
 */
#pragma once

#include <stdarg.h>

#include "base/memory.h"
#include "check.h"
#include "reason/rules/rule.h"

typedef struct rules_random {
    uint64_t state;
} rules_random;

static inline uint64_t rules_next(rules_random *r) {
    r->state += 0x9e3779b97f4a7c15u;
    uint64_t z = r->state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint32_t rules_below(rules_random *r, uint32_t n) {
    return (uint32_t)(rules_next(r) % n);
}

#define RULES_PICK(r, items) ((items)[rules_below((r), sizeof(items) / sizeof((items)[0]))])

typedef struct rules_line {
    char text[1 << 18];
    size_t bytes;
} rules_line;

/* Words are set apart by spaces. */
static inline void __attribute__((format(printf, 2, 3)))
rules_put(rules_line *line, const char *format, ...) {
    if (line->bytes > 0)
        line->text[line->bytes++] = ' ';
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line->text + line->bytes, sizeof line->text - line->bytes, format, arguments);
    va_end(arguments);
    CHECK(n >= 0 && line->bytes + (size_t)n + 2 < sizeof line->text);
    line->bytes += (size_t)n;
}

static inline uint64_t rules_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

enum { RULES_TRACES = 1000 };

static inline void rules_check_fixture(const char *name, uint32_t rule,
                                       void (*trace)(rules_random *, rules_line *)) {
    static rules_line line;
    char path[256];
    snprintf(path, sizeof path, "tests/ref/fixtures/rules/%s.txt", name);
    FILE *file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "%s: not there; run the test from the repository's root\n", path);
        exit(1);
    }
    uint32_t n = check_effort(RULES_TRACES, 100);
    for (uint32_t i = 0; i < n; i++) {
        unsigned long long expected;
        CHECK(fscanf(file, "%llx", &expected) == 1);
        rules_random r = {((uint64_t)rule << 32) + i};
        line.bytes = 0;
        trace(&r, &line);
        uint64_t hash = 0xcbf29ce484222325u;
        for (size_t b = 0; b < line.bytes; b++)
            hash = (hash ^ (uint8_t)line.text[b]) * 0x100000001b3u;
        if (hash != expected) {
            fprintf(stderr,
                    "%s, trace %u: decided\n%.*s\nwhich is not what tests/ref/rules/%s.py "
                    "--show %u prints\n",
                    name, i, (int)line.bytes, line.text, name, i);
            exit(1);
        }
    }
    fclose(file);
}
