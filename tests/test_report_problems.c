/* The report of problem sets that were solved live, on made-up lines whose curves and crossings are
 * known by hand. */
#include "check.h"
#include "page.h"

#include <jansson.h>
#include <math.h>

#include "measure/results.h"

static uint32_t cells;

static void begin_folder(void) {
    json_t *manifest = json_pack("{s:s, s:s}", "clock", "wall", "model", "countdown");
    cop_results *results;
    fresh_folder();
    CHECK_OK(
        cop_results_open(&(cop_results_options){.folder = folder, .manifest = manifest}, &results));
    cop_results_close(results);
    json_decref(manifest);
    cells = 0;
}

/* Consumes the record; every line is a cell of its own, as a repeat or a setting makes it. */
static void append_record(json_t *record, uint32_t repeat) {
    json_t *manifest = NULL;
    cop_results *results;
    char cell[16];
    CHECK(record);
    snprintf(cell, sizeof cell, "c%u", cells++);
    CHECK_OK(cop_results_read(folder, &manifest, NULL, NULL));
    CHECK_OK(cop_results_open(
        &(cop_results_options){.folder = folder, .manifest = manifest, .resume = true}, &results));
    CHECK_OK(cop_results_append(results, cell, repeat, record, NULL));
    cop_results_close(results);
    json_decref(manifest);
    json_decref(record);
}

enum { PROBLEMS = 4 };

typedef struct set_run {
    const char *method, *join;
    uint32_t at_once;
    double latency_ms, per_s;
    const char *grade[PROBLEMS];
    int longest[PROBLEMS];
    bool backwards; /* the columns, in the other order */
} set_run;

/* Four problems; the method "alone" never forks. */
static set_run alone(uint32_t at_once, double latency_ms, double per_s) {
    return (set_run){"alone",           "none", at_once,
                     latency_ms,        per_s,  {"right", "right", "none", "right"},
                     {10, 20, 40, 100}, false};
}

static set_run forked(uint32_t at_once, double latency_ms, double per_s) {
    return (set_run){"forked",      "message", at_once,
                     latency_ms,    per_s,     {"right", "wrong", "right", "right"},
                     {8, 8, 16, 8}, true};
}

static json_t *columns_of(const set_run *run) {
    json_t *each = json_pack("{s:[], s:[], s:[]}", "id", "grade", "longest");
    for (int i = 0; i < PROBLEMS; i++) {
        int at = run->backwards ? PROBLEMS - 1 - i : i;
        char id[16];
        snprintf(id, sizeof id, "held-out-%d", at);
        json_array_append_new(json_object_get(each, "id"), json_string(id));
        json_array_append_new(json_object_get(each, "grade"), json_string(run->grade[at]));
        json_array_append_new(json_object_get(each, "longest"), json_integer(run->longest[at]));
    }
    return each;
}

static json_t *record_of(const set_run *run) {
    int right = 0, wrong = 0, ungraded = 0, longest = 0, sum = 0;
    for (int i = 0; i < PROBLEMS; i++) {
        right += strcmp(run->grade[i], "right") == 0;
        wrong += strcmp(run->grade[i], "wrong") == 0;
        ungraded += strcmp(run->grade[i], "ungraded") == 0;
        longest = run->longest[i] > longest ? run->longest[i] : longest;
        sum += run->longest[i];
    }
    int graded = PROBLEMS - ungraded;
    double share = graded ? (double)right / graded : 0;
    char problem[32];
    snprintf(problem, sizeof problem, "countdown x %u", run->at_once);
    json_t *record = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:s, s:s, s:f, s:f, s:f, s:f, s:f}",
        "group", "problems", "problem", problem, "method", run->method, "set", "countdown",
        "dialect", run->method, "join", run->join, "checker", "countdown", "at_once",
        (int)run->at_once, "problems", PROBLEMS, "max_tokens", 2000, "model", "countdown",
        "set_sha256", "ab12cd34ef", "problems_per_s", run->per_s, "wrong_claims",
        (double)wrong / PROBLEMS, "longest_mean", (double)sum / PROBLEMS, "longest_max",
        (double)longest, "tokens_mean", 321.0);
    CHECK(record);
    json_object_set_new(record, "latency_ms",
                        json_pack("{s:f, s:f, s:f}", "mean", run->latency_ms, "p50",
                                  run->latency_ms, "p95", run->latency_ms * 2));
    json_object_set_new(record, "accuracy",
                        json_pack("{s:i, s:i, s:i, s:i, s:o, s:f, s:f, s:s}", "right", right,
                                  "wrong", wrong, "none", graded - right - wrong, "ungraded",
                                  ungraded, "share", graded ? json_real(share) : json_null(), "low",
                                  share * 0.9, "high", share, "interval", "Wilson, 95 %"));
    json_object_set_new(record, "each", columns_of(run));
    json_object_set_new(record, "stops", json_pack("{s:i}", "end", PROBLEMS));
    json_object_set_new(record, "prune", json_pack("{s:i}", "budget_tokens", 300));
    json_object_set_new(record, "join_policy", json_null());
    return record;
}

static void append_run(set_run run) {
    append_record(record_of(&run), 0);
}

static void check_page(const char *html) {
    check_well_formed(html);
    CHECK(!strstr(html, "nan") && !strstr(html, "inf\"") && !strstr(html, ">inf"));
    CHECK(!strstr(html, "http") && !strstr(html, "<script") && !strstr(html, "src="));
    CHECK_EQ(count_of(html, "<svg "), count_of(html, "</svg>"));
}

static void check_has(const char *html, const char *part) {
    if (strstr(html, part))
        return;
    fprintf(stderr, "the report lacks \"%s\"\n", part);
    exit(1);
}

static void test_accuracy_is_set_against_the_longest_path(void) {
    begin_folder();
    append_run(forked(1, 50, 20));
    append_run(alone(1, 100, 10));
    cop_buffer html = write_report();
    static const char *const parts[] = {
        "Problems solved live: countdown",
        "countdown · 4 problems · ab12cd34 (SHA-256)",
        "With 1 problem at once.",
        "Wilson, 95 %",
        /* Mean longest paths are 10 and 42.5. */
        "<td class=\"n\">75.0 %</td><td class=\"n\">67.5 to 75.0 %</td><td class=\"n\">25.0 %</td>",
        "<td class=\"n\">16</td><td class=\"n\">0.235 ×</td><td class=\"n\">50.00 ms</td>",
        "forked: mean longest path 10 tokens; right within it: 50.0 %",
        "alone: mean longest path 42.50 tokens; right within it: 50.0 %",
        "<b>forked</b> is right on <b>75.0 %</b> of the problems with <b>10 tokens</b>",
        "<b>alone</b> is right on <b>25.0 %</b>, 50.0 points less",
        "<b>alone</b> needs a limit of <b>100 tokens</b>, 10.00 × that mean",
        "differ most: 2 of 2",
        "<tr><th>held-out-1</th><td><b>right</b> <span class=\"soft\">20</span></td><td>wrong "
        "<span class=\"soft\">8</span></td></tr>",
        "<tr><th>held-out-2</th><td>none <span class=\"soft\">40</span></td><td><b>right</b> "
        "<span class=\"soft\">16</span></td></tr>",
        "budget_tokens: 300",
        "id=\"set.accuracy.share\"",
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        check_has(html.data, parts[i]);
    /* The control stands first although its line came second; one number at once has no plot. */
    CHECK(strstr(html.data, "<tr><th>alone<br>") < strstr(html.data, "<tr><th>forked</th>"));
    CHECK(!strstr(html.data, "Many problems at once") && !strstr(html.data, "<b>never"));
    CHECK(!strstr(html.data, "held-out-0") && !strstr(html.data, "held-out-3"));
    check_page(html.data);
    cop_buffer_release(&html);
}

/* The steps of a curve, read back from its path: pixels of tokens and of shares. */
static void test_a_curve_has_its_steps_where_answers_are(void) {
    begin_folder();
    append_run(alone(1, 100, 10));
    cop_buffer html = write_report();
    const char *plot = strstr(html.data, "Accuracy under a limit");
    CHECK(plot);
    const char *at = strstr(plot, "<path fill=\"none\" d=\"M");
    CHECK(at);
    at = strchr(at, 'M') + 1;
    double x, y, bottom;
    int used;
    CHECK(sscanf(at, "%lf %lf%n", &x, &bottom, &used) == 2);
    at += used;
    static const double tokens[] = {10, 20, 100}, shares[] = {0.25, 0.5, 0.75};
    double first = x, pixels[3];
    for (int i = 0; i < 3; i++) {
        CHECK(sscanf(at, "H%lfV%lf%n", &pixels[i], &y, &used) == 2);
        at += used;
        CHECK(fabs((bottom - y) / 320 - shares[i]) < 0.001);
    }
    CHECK(fabs(pixels[0] - first) < 0.11);
    double decade = (pixels[2] - pixels[0]) / log10(tokens[2] / tokens[0]);
    CHECK(fabs(pixels[1] - pixels[0] - decade * log10(2)) < 0.3);
    /* The axis ends a factor of 1.12 behind the longest path. */
    CHECK(sscanf(at, "H%lf", &x) == 1 && fabs(x - pixels[2] - decade * log10(1.12)) < 0.3);
    CHECK(*at == 'H' && strchr(at, '"') && !memchr(at, 'V', (size_t)(strchr(at, '"') - at)));
    cop_buffer_release(&html);
}

static void test_a_limit_that_never_suffices_is_said(void) {
    begin_folder();
    set_run perfect = forked(1, 50, 20);
    perfect.grade[1] = "right";
    append_run(alone(1, 100, 10));
    append_run(perfect);
    cop_buffer html = write_report();
    check_has(html.data, "its limit of 2,000 tokens: <b>never, within its limit</b>, where it ends "
                         "at 75.0 %");
    check_page(html.data);
    cop_buffer_release(&html);
}

static void test_crossings_lie_between_measured_counts(void) {
    begin_folder();
    /* Out of order. Latency: half of the control's at 1 and 4, twice at 16: the logarithms meet in
     * the middle of 4 and 16. Throughput: always more, 2 x to 1.1 x. */
    append_run(forked(16, 800, 44));
    append_run(alone(16, 400, 40));
    append_run(alone(4, 200, 20));
    append_run(alone(1, 100, 10));
    append_run(forked(1, 50, 20));
    append_run(forked(4, 100, 30));
    set_run slow = forked(1, 150, 5), quick = forked(4, 180, 5);
    slow.method = quick.method = "slow";
    append_run(slow);
    append_run(quick);
    cop_buffer html = write_report();
    check_has(html.data, "Many problems at once");
    check_has(html.data, "<b>forked</b>: in latency, forking stops paying at about <b>8.0 problems "
                         "at once</b>; in throughput, forking <b>never</b> stops paying up to 16");
    /* Excess log2(1.5) at 1 and log2(0.9) at 4: 0.585 / 0.737 of two doublings. */
    check_has(html.data, "<b>slow</b>: in latency, forking does not pay from the start, but does "
                         "from about <b>3.0 problems at once</b> on; in throughput, forking does "
                         "not pay <b>from the start</b>, nor with up to 4");
    /* The table is of the smallest number that all three have. */
    check_has(html.data, "With 1 problem at once.");
    CHECK_EQ(count_of(html.data, "<tr><td class=\"n\">16</td>"), 2);
    CHECK(strstr(html.data, "<tr><td class=\"n\">1</td>") <
          strstr(html.data, "<tr><td class=\"n\">4</td>"));
    check_page(html.data);
    cop_buffer_release(&html);
}

static void test_the_table_is_of_a_run_that_all_methods_have(void) {
    begin_folder();
    append_run(alone(1, 100, 10));
    append_run(alone(4, 200, 20));
    append_run(alone(2, 150, 15));
    append_run(forked(4, 100, 30));
    append_run(forked(2, 75, 25));
    cop_buffer html = write_report();
    check_has(html.data, "With 2 problems at once.");
    check_has(html.data, "as one run, with 2 problems at once");
    check_page(html.data);
    cop_buffer_release(&html);
}

static void test_repeats_are_averaged(void) {
    begin_folder();
    set_run first = alone(1, 100, 10), second = alone(1, 300, 30);
    second.grade[3] = "none";
    append_record(record_of(&first), 0);
    append_record(record_of(&second), 1);
    append_run(forked(1, 50, 20));
    cop_buffer html = write_report();
    /* 0.75 and 0.5; 200 ms; the curve ends at their mean and reaches a half at 20 tokens. */
    check_has(html.data, "<td class=\"n\">62.5 %</td>");
    check_has(html.data, "<td class=\"n\">200.0 ms</td>");
    check_has(html.data, "alone <tspan style=\"font-weight:600\">62.5 %</tspan>");
    check_has(html.data, "Figures are means of 1 to 2 repeats.");
    check_page(html.data);
    cop_buffer_release(&html);
}

static void test_ungraded_answers_are_not_wrong(void) {
    begin_folder();
    set_run open = alone(1, 100, 10), none = forked(1, 50, 20);
    open.grade[2] = "ungraded";
    for (int i = 0; i < PROBLEMS; i++)
        none.grade[i] = "ungraded";
    append_run(open);
    append_run(none);
    cop_buffer html = write_report();
    check_has(html.data, "<td class=\"n\">100.0 %</td>");
    check_has(html.data, "<b>alone</b> 1 of 4; <b>forked</b> 4 of 4");
    check_has(html.data, "alone <tspan style=\"font-weight:600\">100.0 %</tspan>");
    check_has(html.data, "<tr><th>forked</th><td class=\"n na\">–</td>");
    CHECK(!strstr(html.data, "forked <tspan"));
    CHECK(!strstr(html.data, "differ most"));
    check_page(html.data);
    cop_buffer_release(&html);
}

/* Fourteen problems that one of four methods alone has right, but for the last: two have it. */
static void test_the_most_different_problems_come_first(void) {
    enum { METHODS = 4, MANY = 14 };
    static const char *const names[METHODS] = {"alone", "a", "b", "c"};
    begin_folder();
    for (int m = 0; m < METHODS; m++) {
        set_run one = m ? forked(1, 50, 20) : alone(1, 100, 10);
        one.method = names[m];
        json_t *record = record_of(&one), *each = json_object_get(record, "each");
        json_array_clear(json_object_get(each, "id"));
        json_array_clear(json_object_get(each, "grade"));
        for (int i = 0; i < MANY; i++) {
            bool right = i % METHODS == m || (i == MANY - 1 && m == 0);
            json_array_append_new(json_object_get(each, "id"), json_integer(700 + i));
            json_array_append_new(json_object_get(each, "grade"),
                                  json_string(right ? "right" : "wrong"));
        }
        append_record(record, 0);
    }
    cop_buffer html = write_report();
    check_has(html.data, "differ most: 10 of 14");
    const char *last = strstr(html.data, "<tr><th>713</th>");
    const char *first = strstr(html.data, "<tr><th>700</th>");
    CHECK(last && first && last < first && first < strstr(html.data, "<tr><th>708</th>"));
    CHECK(!strstr(html.data, "<tr><th>709</th>"));
    check_page(html.data);
    cop_buffer_release(&html);
}

/* Two sets under one name, or two lengths of one, never share a table. */
static void test_sets_keep_apart(void) {
    begin_folder();
    set_run one = alone(1, 100, 10);
    json_t *other = record_of(&one), *shorter = record_of(&one);
    append_run(one);
    json_object_set_new(other, "set_sha256", json_string("99ffee00"));
    json_object_set_new(shorter, "problems", json_integer(3));
    append_record(other, 0);
    append_record(shorter, 0);
    cop_buffer html = write_report();
    CHECK_EQ(count_of(html.data, "<h2>Problems solved live"), 3);
    CHECK_EQ(count_of(html.data, "id=\"set.accuracy.share\""), 1);
    check_has(html.data, "99ffee00 (SHA-256)");
    check_page(html.data);
    cop_buffer_release(&html);
}

static void test_more_methods_than_colours(void) {
    begin_folder();
    for (int i = 0; i < 33; i++) {
        char name[48];
        set_run run = i ? forked(1 + i % 2, 50 + i, 20) : alone(1, 100, 10);
        snprintf(name, sizeof name, i ? "forked in the way with number %d" : "alone", i);
        run.method = name;
        append_record(record_of(&run), 0);
    }
    cop_buffer html = write_report();
    CHECK(strstr(html.data, "stroke-dasharray=\"7 3\"") &&
          strstr(html.data, "stroke-dasharray=\"9 3 2 3\""));
    check_has(html.data, "1 result lines are left out");
    check_page(html.data);
    cop_buffer_release(&html);
}

/* Replaces what stands at "a" or "a.b". */
static void replace(json_t *record, const char *outer, const char *inner, json_t *value) {
    json_t *object = inner ? json_object_get(record, outer) : record;
    json_object_set_new(object, inner ? inner : outer, value);
}

static json_t *odd_value(int kind) {
    switch (kind) {
    case 0:
        return json_null();
    case 1:
        return json_integer(-1);
    case 2:
        return json_real(1e308);
    case 3:
        return json_string(hostile);
    case 4:
        return json_pack("[i, n, s, f, {}, i]", -5, hostile, 1e308, 7);
    case 5:
        return json_pack("{s:s, s:i}", hostile, hostile, "share", -3);
    default:
        return json_pack("[s, s]", "right", hostile);
    }
}

/* Every member of one method's line in turn holds something else. */
static void test_odd_members_do_no_harm(void) {
    set_run good = alone(1, 100, 10), bad = forked(1, 50, 20), more = alone(4, 100, 10);
    json_t *record = record_of(&bad), *value, *part;
    const char *outer, *inner;
    uint32_t pages = 0;
    json_object_foreach(record, outer, value) {
        for (int kind = 0; kind < 7; kind++) {
            begin_folder();
            append_run(good);
            append_run(more);
            json_t *copy = json_deep_copy(record);
            replace(copy, outer, NULL, odd_value(kind));
            append_record(copy, 0);
            json_object_foreach(value, inner, part) {
                copy = json_deep_copy(record);
                replace(copy, outer, inner, odd_value(kind));
                append_record(copy, 0);
            }
            cop_buffer html = write_report();
            check_page(html.data);
            cop_buffer_release(&html);
            pages++;
        }
    }
    CHECK(pages > 100);
    json_decref(record);
    begin_folder();
    append_record(json_pack("{s:s}", "group", "problems"), 0);
    cop_buffer html = write_report();
    check_has(html.data, "No line tells which problems were right");
    check_page(html.data);
    cop_buffer_release(&html);
}

static void test_hostile_names_are_escaped(void) {
    begin_folder();
    for (uint32_t at_once = 1; at_once <= 2; at_once++) {
        set_run one = alone(at_once, 100, 10), two = forked(at_once, 50, 20);
        one.method = hostile;
        two.method = "</svg>'\"&";
        two.grade[0] = "<i>";
        append_run(one);
        json_t *record = record_of(&two);
        json_object_set_new(record, "set", json_string("countdown"));
        json_object_set_new(record, "checker", json_string(hostile));
        json_array_set_new(json_object_get(json_object_get(record, "each"), "id"), 2,
                           json_string("</td>"));
        append_record(record, 0);
    }
    cop_buffer html = write_report();
    CHECK(!strstr(html.data, "<i>") && !strstr(html.data, "<b>\""));
    check_has(html.data, "&lt;/svg&gt;&#39;&quot;&amp;");
    check_page(html.data);
    cop_buffer_release(&html);
}

int main(void) {
    RUN(test_accuracy_is_set_against_the_longest_path);
    RUN(test_a_curve_has_its_steps_where_answers_are);
    RUN(test_a_limit_that_never_suffices_is_said);
    RUN(test_crossings_lie_between_measured_counts);
    RUN(test_the_table_is_of_a_run_that_all_methods_have);
    RUN(test_repeats_are_averaged);
    RUN(test_ungraded_answers_are_not_wrong);
    RUN(test_the_most_different_problems_come_first);
    RUN(test_sets_keep_apart);
    RUN(test_more_methods_than_colours);
    RUN(test_hostile_names_are_escaped);
    RUN(test_odd_members_do_no_harm);
    remove_folder();
    return check_report();
}
