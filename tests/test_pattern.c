/* A text that grows is searched as if it were searched anew each time, and looked at once. */
#include "reason/pattern.h"

#include "base/rng.h"
#include "check.h"

enum { TEXT = 60, BYTES = 4000 };

static const char *const expressions[] = {
    "<f(?<n>[ab]+)>", "a+b",      "ab|abab|b<", "(?<=a)b+>",         "<f(?=>)", "a(?!b)",
    "(?s)<.*?>",      "\\bab\\b", "^a?<f",      "(?<q>[ab])f\\k<q>", "b$",      "<(?<n>a*)(?:f|>b)",
};

static void check_grown(const char *expression, const char *text, uint64_t seed) {
    cop_pattern *pattern;
    CHECK_OK(cop_pattern_create(expression, &pattern));
    size_t open = 0;
    for (size_t bytes = 0; bytes <= TEXT; bytes++) {
        if (cop_rng_below((cop_rng_key){seed, 1, bytes}, 0, 3) == 0)
            continue; /* several bytes at once */
        size_t from = 0;
        cop_span whole, grown;
        const bool found = cop_pattern_find(pattern, text, bytes, &from, &whole);
        const bool same = cop_pattern_find(pattern, text, bytes, &open, &grown) == found &&
                          (!found || (whole.begin == grown.begin && whole.bytes == grown.bytes));
        if (!same)
            fprintf(stderr, "%s in \"%.*s\" from %zu\n", expression, (int)bytes, text, open);
        CHECK(same);
        CHECK(open <= bytes);
    }
    cop_pattern_destroy(pattern);
}

static void test_a_growing_text_is_searched_as_a_whole_one(void) {
    const uint32_t n = check_effort(2000, 100);
    for (uint32_t t = 0; t < n; t++) {
        char text[TEXT];
        for (size_t i = 0; i < TEXT; i++)
            text[i] = "aabbf<> "[cop_rng_below((cop_rng_key){t, 0, i}, 0, 8)];
        for (size_t e = 0; e < sizeof expressions / sizeof expressions[0]; e++)
            check_grown(expressions[e], text, t);
    }
}

static void test_it_is_looked_at_once(void) {
    static char text[BYTES];
    cop_pattern *pattern;
    cop_span match;
    size_t open = 0, looked_at = 0;
    CHECK_OK(cop_pattern_create("<FORK-(?<n>[0-9]+)>(?<item>[^<]*)</FORK-\\k<n>>", &pattern));
    for (size_t bytes = 1; bytes <= BYTES; bytes++) {
        text[bytes - 1] = bytes % 50 == 0 ? '<' : 'x';
        looked_at += bytes - open;
        CHECK(!cop_pattern_find(pattern, text, bytes, &open, &match));
        CHECK_EQ(open, bytes % 50 == 0 ? bytes - 1 : bytes);
    }
    CHECK_EQ(looked_at, BYTES + (BYTES - 1) / 50);
    cop_pattern_destroy(pattern);
}

int main(void) {
    RUN(test_a_growing_text_is_searched_as_a_whole_one);
    RUN(test_it_is_looked_at_once);
    return check_report();
}
