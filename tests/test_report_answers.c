/* What a report says of answers and contexts, on made-up lines whose figures are known by hand. */
#include "check.h"
#include "page.h"

#include <jansson.h>

#include "measure/metrics.h"
#include "measure/results.h"

enum { PROBLEMS = 20 };

typedef struct method {
    const char *name, *join;
    uint32_t right;                /* the first so many problems */
    double tokens, longest, chain; /* of each problem */
    double latency_ms, wall_ms;
    double seen;              /* of the first problem; the others one more each */
    uint64_t alone, siblings; /* tokens that saw 40 and 90 */
} method;

static const method sequential = {"alone", "none", 10, 100, 100, 100, 200, 200, 50, 2000, 0};
static const method forked = {"forked", "stitch", 16, 150, 50, 40, 100, 120, 20, 500, 1500};
static const method worse = {"worse", "stitch", 12, 160, 60, 50, 110, 130, 20, 500, 1500};

static json_t *columns_of(const method *m) {
    json_t *each = json_pack("{s:[], s:[], s:[], s:[], s:[], s:[]}", "id", "grade", "longest",
                             "tokens", "longest_generated", "context_seen");
    for (uint32_t i = 0; i < PROBLEMS; i++) {
        json_array_append_new(json_object_get(each, "id"), json_sprintf("p%u", i));
        json_array_append_new(json_object_get(each, "grade"),
                              json_string(i < m->right ? "right" : "wrong"));
        json_array_append_new(json_object_get(each, "longest"), json_real(m->longest));
        json_array_append_new(json_object_get(each, "tokens"), json_real(m->tokens));
        json_array_append_new(json_object_get(each, "longest_generated"), json_real(m->chain));
        json_array_append_new(json_object_get(each, "context_seen"), json_real(m->seen + i));
    }
    return each;
}

static json_t *record_of(const method *m) {
    json_t *record =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:f}", "group", "problems",
                  "problem", "set x 1", "method", m->name, "set", "set", "join", m->join, "at_once",
                  1, "problems", PROBLEMS, "tokens_mean", m->tokens, "longest_mean", m->longest,
                  "wall_per_problem_ms", m->wall_ms);
    CHECK(record);
    json_object_set_new(record, "latency_ms", json_pack("{s:f}", "mean", m->latency_ms));
    json_object_set_new(record, "accuracy",
                        json_pack("{s:f, s:f, s:f, s:s}", "share", (double)m->right / PROBLEMS,
                                  "low", 0.0, "high", 1.0, "interval", "Wilson, 95 %"));
    json_object_set_new(record, "each", columns_of(m));
    json_object_set_new(record, "reasoning",
                        json_pack("{s:{s:f}, s:{s:f}, s:{}}", "tokens", "longest_generated",
                                  m->chain, "ratio", "multiverse_parallel", m->tokens / m->chain,
                                  "rate"));
    return record;
}

static cop_buffer report_of(const method *methods, uint32_t n) {
    json_t *manifest = json_pack("{s:s}", "clock", "wall");
    cop_results *results;
    fresh_folder();
    CHECK_OK(
        cop_results_open(&(cop_results_options){.folder = folder, .manifest = manifest}, &results));
    for (uint32_t i = 0; i < n; i++) {
        cop_metrics m = {.tokens_total = methods[i].alone + methods[i].siblings};
        char cell[16];
        cop_seen_add(&m.seen, COP_SEEN_ALONE, 40, methods[i].alone);
        cop_seen_add(&m.seen, COP_SEEN_SIBLINGS, 90, methods[i].siblings);
        json_t *record = record_of(&methods[i]);
        snprintf(cell, sizeof cell, "c%u", i);
        CHECK_OK(cop_results_append(results, cell, 0, record, &m));
        json_decref(record);
    }
    cop_results_close(results);
    json_decref(manifest);
    cop_buffer html = write_report();
    check_well_formed(html.data);
    CHECK(!strstr(html.data, "nan") && !strstr(html.data, "inf\""));
    return html;
}

static void check_has(const char *html, const char *part) {
    if (strstr(html, part))
        return;
    fprintf(stderr, "the report lacks \"%s\"\n", part);
    exit(1);
}

static const char *part_of(const char *html, const char *heading) {
    const char *at = strstr(html, heading);
    if (!at)
        fprintf(stderr, "the report lacks \"%s\"\n", heading);
    CHECK(at);
    return at;
}

static void test_the_front_is_marked(void) {
    const method methods[] = {forked, sequential, worse};
    cop_buffer html = report_of(methods, 3);
    const char *front = part_of(html.data, "Accuracy against cost");
    /* In tokens, the sequential method is cheaper and the forked one better; in time it is both. */
    check_has(front, "<tr><th>alone</th><td class=\"n\">50.0 %</td><td class=\"n\"><b>100</b></td>"
                     "<td class=\"n\">200.0 ms</td><td class=\"n\">200.0 ms</td></tr>");
    check_has(front,
              "<tr><th>forked</th><td class=\"n\">80.0 %</td><td class=\"n\"><b>150</b></td>"
              "<td class=\"n\"><b>100.0 ms</b></td><td class=\"n\"><b>120.0 ms</b></td></tr>");
    check_has(front, "<tr><th>worse</th><td class=\"n\">60.0 %</td><td class=\"n\">160</td>");
    check_has(front, "forked: 80.0 % at 150, on the front");
    check_has(front, "worse: 60.0 % at 160</title>");
    cop_buffer_release(&html);
    html = report_of(methods, 1); /* one method has no front */
    CHECK(!strstr(html.data, "Accuracy against cost"));
    cop_buffer_release(&html);
}

static void test_measures_stand_against_the_control(void) {
    const method methods[] = {sequential, forked};
    cop_buffer html = report_of(methods, 2);
    const char *table = part_of(html.data, "by every paper's measure");
    static const struct {
        const char *name, *alone, *forked;
    } rows[] = {{"tokens.longest_generated", "100", "40"},
                {"tokens.longest_thread_code", "–", "–"},
                {"ratio.multiverse_parallel", "1.000 ×", "3.750 ×"},
                {"ratio.acceleration_readme", "1.000 ×", "2.000 ×"},
                {"ratio.speedup_baseline", "1.000 ×", "2.000 ×"},
                {"ratio.pasta_theoretical", "1.000 ×", "2.500 ×"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[64], cells[128];
        bool none = rows[i].alone[0] == '\xE2';
        snprintf(name, sizeof name, "<code>%s</code>", rows[i].name);
        const char *row = part_of(table, name), *end = strstr(row, "</tr>");
        snprintf(cells, sizeof cells, "<td class=\"n%s\">%s</td><td class=\"n%s\">%s</td>",
                 none ? " na" : "", rows[i].alone, none ? " na" : "", rows[i].forked);
        const char *found = strstr(row, cells);
        if (!found || found > end)
            fprintf(stderr, "%s is not \"%s\"\n", rows[i].name, cells);
        CHECK(found && found < end);
    }
    cop_buffer_release(&html);
}

static void test_contexts_are_shown_side_by_side(void) {
    const method methods[] = {forked, sequential};
    cop_buffer html = report_of(methods, 2);
    const char *plot = part_of(html.data, "What each token saw");
    /* All of the control's tokens saw 40; the forked ones 40 a quarter of the time, else 90. */
    check_has(plot, "mean <tspan style=\"font-weight:600\">40</tspan>");
    check_has(plot, "mean <tspan style=\"font-weight:600\">77.50</tspan>");
    const char *end = strstr(plot, "</svg>");
    size_t alone = 0, siblings = 0;
    for (const char *at = plot; (at = strstr(at, "<rect ")) && at < end; at++) {
        const char *fill = strstr(at, "fill:var(--");
        alone += strncmp(fill, "fill:var(--soft)", 16) == 0;
        siblings += strncmp(fill, "fill:var(--decode)", 18) == 0;
    }
    CHECK(alone == 2 && siblings == 1);
    /* 40 problems in two parts: contexts of 20 to 39 are forked's, 50 to 69 the control's. */
    const char *parts = part_of(html.data, "Accuracy against what the tokens saw");
    check_has(parts, "cut into 2 parts of one size");
    check_has(parts, "forked: 20 problems, context 29.50, right 80.0 %");
    check_has(parts, "alone: 20 problems, context 59.50, right 50.0 %");
    cop_buffer_release(&html);
}

/* Lines of before have none of it; odd ones do no harm. */
static void test_lines_without_them_have_no_parts(void) {
    static const char *const odd[] = {
        "null", "[]", "{\"context_seen\": [\"x\", -1, null]}",
        "{\"id\": [1, 1], \"grade\": [2], \"context_seen\": [1e300]}"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        json_t *manifest = json_pack("{s:s}", "clock", "wall"), *record = record_of(&forked);
        cop_results *results;
        json_object_set_new(record, "each", json_loads(odd[i], JSON_DECODE_ANY, NULL));
        json_object_set_new(record, "reasoning", i ? json_integer(3) : json_null());
        fresh_folder();
        CHECK_OK(cop_results_open(&(cop_results_options){.folder = folder, .manifest = manifest},
                                  &results));
        CHECK_OK(cop_results_append(results, "c", 0, record, NULL));
        cop_results_close(results);
        json_decref(manifest);
        json_decref(record);
        cop_buffer html = write_report();
        check_well_formed(html.data);
        CHECK(!strstr(html.data, "What each token saw") && !strstr(html.data, "nan"));
        CHECK(!strstr(html.data, "Accuracy against what the tokens saw"));
        cop_buffer_release(&html);
    }
}

int main(void) {
    RUN(test_the_front_is_marked);
    RUN(test_measures_stand_against_the_control);
    RUN(test_contexts_are_shown_side_by_side);
    RUN(test_lines_without_them_have_no_parts);
    return check_report();
}
