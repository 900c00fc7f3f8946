#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure/report_parts.h"

static double max_mean(const cop__section *section, cop__figure figure) {
    double max = 0;
    for (uint32_t m = 0; m < section->n_methods; m++) {
        double mean = cop__section_mean(section, m, figure);
        max = isfinite(mean) && mean > max ? mean : max;
    }
    return max;
}

/* Marks that need a word beside the figure they belong to. */
static void put_marks(cop__html *html, const cop__cell *cell) {
    if (cell->extrapolated)
        cop__html_put(html, " <abbr title=\"positions beyond the model's context\">†</abbr>");
    if (cop__cell_has_placeholders(cell))
        cop__html_put(html, " <abbr title=\"placeholder ids\">‡</abbr>");
    if (cell->invalid)
        cop__html_put(html,
                      " <abbr title=\"a row held a value that is not finite\">invalid</abbr>");
}

/* `cell` gives the marks, and may be NULL. */
static void put_method(cop__html *html, const cop__section *section, uint32_t m,
                       const cop__cell *cell) {
    cop__html_put(html, "<tr><th>");
    cop__html_text_cut(html, section->methods[m], 40);
    if (cell)
        put_marks(html, cell);
    if ((int)m == section->control)
        cop__html_put(html, "<br><span class=\"soft small\">(control)</span>");
    cop__html_put(html, "</th>");
}

void cop__report_summary(cop__html *html, const cop__section *section) {
    static const struct {
        cop__figure figure;
        const char *title;
    } plain[] = {{COP_FIG_TOTAL, "generated"},
                 {COP_FIG_FORCED, "forced"},
                 {COP_FIG_REPREFILLED, "computed<br>again"},
                 {COP_FIG_STEPS, "forward<br>passes"},
                 {COP_FIG_BRANCHES, "branches"},
                 {COP_FIG_KV_RATIO, "KV loads<br>/ min"},
                 {COP_FIG_PAGES_PEAK, "peak<br>pages"}};
    enum { N_PLAIN = sizeof plain / sizeof plain[0] };
    cop__html_printf(html,
                     "<div class=\"scroll\"><table><caption>Means over %u problem%s; ratios are "
                     "means of the per-problem ratios. Headings link to their definitions."
                     "</caption><thead><tr><th>method</th>",
                     section->n_common, section->n_common == 1 ? "" : "s");
    cop__html_heading(html, "wall clock", COP_FIG_WALL);
    cop__html_heading(html, "wall clock,<br>to control", COP_FIG_WALL);
    cop__html_heading(html, "critical path,<br>tokens", COP_FIG_CRITICAL);
    cop__html_heading(html, "critical path,<br>to control", COP_FIG_CRITICAL);
    for (int i = 0; i < N_PLAIN; i++)
        cop__html_heading(html, plain[i].title, plain[i].figure);
    cop__html_put(html, "</tr></thead><tbody>\n");
    cop__unit unit = cop__time_unit(max_mean(section, COP_FIG_WALL));
    for (uint32_t m = 0; m < section->n_methods; m++) {
        put_method(html, section, m, NULL);
        cop__html_cell(html, cop__section_mean(section, m, COP_FIG_WALL), unit);
        cop__html_cell(html, cop__section_ratio(section, m, COP_FIG_WALL), COP_UNIT_RATIO);
        cop__html_cell(html, cop__section_mean(section, m, COP_FIG_CRITICAL), COP_UNIT_COUNT);
        cop__html_cell(html, cop__section_ratio(section, m, COP_FIG_CRITICAL), COP_UNIT_RATIO);
        for (int i = 0; i < N_PLAIN; i++)
            cop__html_cell(html, cop__section_mean(section, m, plain[i].figure),
                           cop__figure_info_of(plain[i].figure)->unit);
        cop__html_put(html, "</tr>\n");
    }
    cop__html_put(html, "</tbody></table></div>\n");
}

static void put_problem_row(cop__html *html, const cop__section *section, uint32_t p,
                            cop__unit unit) {
    const cop__cell *any = NULL;
    for (uint32_t m = 0; m < section->n_methods && !any; m++)
        any = cop__section_cell(section, p, m);
    cop__html_put(html, "<tr><th>");
    cop__html_text_cut(html, section->problems[p], 48);
    put_marks(html, any);
    cop__html_put(html, "</th>");
    cop__html_cell(html, any->value[COP_FIG_TOTAL], COP_UNIT_COUNT);
    for (uint32_t m = 0; m < section->n_methods; m++) {
        const cop__cell *cell = cop__section_cell(section, p, m);
        const cop__cell *control =
            section->control < 0 ? NULL : cop__section_cell(section, p, (uint32_t)section->control);
        cop__html_cell(html, cell ? cell->value[COP_FIG_WALL] : NAN, unit);
        if ((int)m != section->control)
            cop__html_cell(
                html,
                cell && control ? cell->value[COP_FIG_WALL] / control->value[COP_FIG_WALL] : NAN,
                COP_UNIT_RATIO);
    }
    cop__html_put(html, "</tr>\n");
}

static void put_footnotes(cop__html *html, const cop__section *section) {
    bool extrapolated = false, placeholders = false;
    for (uint32_t p = 0; p < section->n_problems; p++)
        for (uint32_t m = 0; m < section->n_methods; m++) {
            const cop__cell *cell = cop__section_cell(section, p, m);
            extrapolated |= cell && cell->extrapolated;
            placeholders |= cell && cop__cell_has_placeholders(cell);
        }
    if (!extrapolated && !placeholders)
        return;
    cop__html_printf(html, "<p class=\"small soft\">%s%s</p>\n",
                     extrapolated ? "† positions beyond the model's context (extrapolated). " : "",
                     placeholders
                         ? "‡ placeholder ids stand for tokens that were not kept, or that "
                           "a model without a tokenizer cannot encode."
                         : "");
}

void cop__report_problems(cop__html *html, const cop__section *section) {
    double max = 0;
    for (uint32_t p = 0; p < section->n_problems; p++)
        for (uint32_t m = 0; m < section->n_methods; m++) {
            const cop__cell *cell = cop__section_cell(section, p, m);
            if (cell && cell->value[COP_FIG_WALL] > max)
                max = cell->value[COP_FIG_WALL];
        }
    cop__unit unit = cop__time_unit(max);
    cop__html_put(html, "<h3>Wall clock by problem</h3>\n<div class=\"scroll\"><table><thead><tr>"
                        "<th>problem</th>");
    cop__html_heading(html, "tokens", COP_FIG_TOTAL);
    for (uint32_t m = 0; m < section->n_methods; m++) {
        cop__html_put(html, "<th class=\"n\">");
        cop__html_text_cut(html, section->methods[m], 28);
        cop__html_put(html, (int)m == section->control ? "</th>"
                                                       : "</th><th class=\"n\">to control</th>");
    }
    cop__html_put(html, "</tr></thead><tbody>\n");
    for (uint32_t p = 0; p < section->n_problems; p++)
        put_problem_row(html, section, p, unit);
    cop__html_printf(html, "</tbody><tfoot><tr><th>mean of %u</th>", section->n_common);
    cop__html_cell(html, cop__section_mean(section, 0, COP_FIG_TOTAL), COP_UNIT_COUNT);
    for (uint32_t m = 0; m < section->n_methods; m++) {
        cop__html_cell(html, cop__section_mean(section, m, COP_FIG_WALL), unit);
        if ((int)m != section->control)
            cop__html_cell(html, cop__section_ratio(section, m, COP_FIG_WALL), COP_UNIT_RATIO);
    }
    cop__html_put(html, "</tr></tfoot></table></div>\n");
    put_footnotes(html, section);
    if (section->left_out)
        cop__html_printf(html,
                         "<p class=\"warn\">%u result lines are left out: a report shows at most "
                         "%d problems and %d methods in one section.</p>\n",
                         section->left_out, COP_PROBLEMS_MAX, COP_METHODS_MAX);
}

/* {"8": 11, "7": 3} as "8 (11), 7 (3), ..": what was answered how often. */
static void put_votes(cop__html *html, const json_t *votes) {
    enum { SHOWN = 6, TEXT = 40 };
    size_t shown = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)votes, key, value) {
        if (shown++ == SHOWN) {
            cop__html_printf(html, ", %zu more", json_object_size(votes) - SHOWN);
            break;
        }
        cop__html_put(html, shown > 1 ? ", " : "");
        cop__html_text_cut(html, *key ? key : "(none)", TEXT);
        if (json_is_integer(value)) {
            cop__html_printf(html, " (%" JSON_INTEGER_FORMAT ")", json_integer_value(value));
        } else {
            char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(4));
            cop__html_put(html, ": ");
            cop__html_text_cut(html, text ? text : "–", TEXT);
            free(text);
        }
    }
}

/* {"majority", "votes", "without_answer", "rule"}, a plain count of answers, or any JSON. */
static void put_answers(cop__html *html, const json_t *answers) {
    const json_t *votes = json_object_get(answers, "votes");
    const json_t *none = json_object_get(answers, "without_answer");
    const char *majority = json_string_value(json_object_get(answers, "majority"));
    const char *rule = json_string_value(json_object_get(answers, "rule"));
    cop__html_put(html, answers ? "<td>" : "<td class=\"na\">–</td>");
    if (!answers)
        return;
    if (json_is_object(votes)) {
        cop__html_put(html, majority ? "majority <b>" : "no majority");
        cop__html_text_cut(html, majority ? majority : "", 40);
        cop__html_put(html, majority ? "</b>" : "");
        if (json_object_size(votes)) {
            cop__html_put(html, " of ");
            put_votes(html, votes);
        }
        if (json_integer_value(none) > 0)
            cop__html_printf(html, "; %" JSON_INTEGER_FORMAT " without an answer",
                             json_integer_value(none));
        if (rule) {
            cop__html_put(html, " <span class=\"soft\">(");
            cop__html_text_cut(html, rule, 60);
            cop__html_put(html, "; not graded)</span>");
        }
    } else if (json_is_object(answers)) {
        put_votes(html, answers);
    } else {
        char *text = json_dumps(answers, JSON_COMPACT | JSON_ENCODE_ANY);
        cop__html_text_cut(html, text ? text : "–", 120);
        free(text);
    }
    cop__html_put(html, "</td>");
}

static void put_sample_row(cop__html *html, const cop__section *section, uint32_t p, uint32_t m,
                           cop__unit unit) {
    static const cop__figure plain[] = {COP_FIG_TOTAL,     COP_FIG_KEPT,    COP_FIG_PRUNES,
                                        COP_FIG_STEPS,     COP_FIG_KV_LOAD, COP_FIG_KV_RATIO,
                                        COP_FIG_PAGES_PEAK};
    const cop__cell *cell = cop__section_cell(section, p, m);
    if (!cell)
        return;
    const cop__cell *control =
        section->control < 0 ? NULL : cop__section_cell(section, p, (uint32_t)section->control);
    put_method(html, section, m, cell);
    if (section->n_problems > 1) {
        cop__html_put(html, "<td>");
        cop__html_text_cut(html, section->problems[p], 40);
        cop__html_put(html, "</td>");
    }
    double work = control ? cell->value[COP_FIG_TOTAL] - control->value[COP_FIG_TOTAL] : NAN;
    cop__html_put(html, !isfinite(work) ? "<td class=\"na\">–</td>"
                        : work == 0     ? "<td>yes</td>"
                                        : "<td><b>no</b></td>");
    cop__html_cell(html, cell->value[COP_FIG_WALL], unit);
    cop__html_cell(html, control ? cell->value[COP_FIG_WALL] / control->value[COP_FIG_WALL] : NAN,
                   COP_UNIT_RATIO);
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        cop__html_cell(html, cell->value[plain[i]], cop__figure_info_of(plain[i])->unit);
    const json_t *answers = json_object_get(cell->line, "answers");
    put_answers(html, answers ? answers : json_object_get(cell->line, "answer"));
    cop__html_put(html, "</tr>\n");
}

void cop__report_samples(cop__html *html, const cop__section *section) {
    double max = 0;
    for (uint32_t p = 0; p < section->n_problems; p++)
        for (uint32_t m = 0; m < section->n_methods; m++) {
            const cop__cell *cell = cop__section_cell(section, p, m);
            max = cell && cell->value[COP_FIG_WALL] > max ? cell->value[COP_FIG_WALL] : max;
        }
    cop__html_put(html, "<div class=\"scroll\"><table><thead><tr><th>way</th>");
    cop__html_put(html, section->n_problems > 1 ? "<th>problem</th>" : "");
    cop__html_put(html, "<th>same work as<br>the control</th>");
    cop__html_heading(html, "wall clock", COP_FIG_WALL);
    cop__html_heading(html, "to control", COP_FIG_WALL);
    cop__html_heading(html, "generated", COP_FIG_TOTAL);
    cop__html_heading(html, "kept", COP_FIG_KEPT);
    cop__html_heading(html, "pruned<br>branches", COP_FIG_PRUNES);
    cop__html_heading(html, "forward<br>passes", COP_FIG_STEPS);
    cop__html_heading(html, "KV loads", COP_FIG_KV_LOAD);
    cop__html_heading(html, "loads /<br>min", COP_FIG_KV_RATIO);
    cop__html_heading(html, "peak<br>pages", COP_FIG_PAGES_PEAK);
    cop__html_put(html, "<th class=\"wide\">answers</th></tr></thead><tbody>\n");
    for (uint32_t p = 0; p < section->n_problems; p++)
        for (uint32_t m = 0; m < section->n_methods; m++)
            put_sample_row(html, section, p, m, cop__time_unit(max));
    cop__html_put(html,
                  "</tbody></table></div>\n<p class=\"small soft\">Rows that do the same work "
                  "generated the same number of tokens; a row that pruned did less, so its "
                  "time is not comparable as a speed.</p>\n");
}

void cop__report_kv_table(cop__html *html, const cop__section *section) {
    static const struct {
        cop__figure figure;
        const char *title;
    } columns[] = {{COP_FIG_KV_FIRST, "first<br>touches"},
                   {COP_FIG_KV_LOAD, "loads"},
                   {COP_FIG_KV_MIN, "minimum"},
                   {COP_FIG_KV_RATIO, "loads / min"},
                   {COP_FIG_KV_TILES, "tiles"},
                   {COP_FIG_KV_TILES_STEP, "tiles / pass"},
                   {COP_FIG_KV_PREDICTED, "loads,<br>predicted"},
                   {COP_FIG_PAGES_PEAK, "peak<br>pages"},
                   {COP_FIG_PAGES_TOTAL, "pool<br>pages"},
                   {COP_FIG_PAGES_LEAKED, "leaked"}};
    enum { N_COLUMNS = sizeof columns / sizeof columns[0] };
    cop__html_put(html, "<div class=\"scroll\"><table><thead><tr><th>method</th>");
    for (int i = 0; i < N_COLUMNS; i++)
        cop__html_heading(html, columns[i].title, columns[i].figure);
    cop__html_put(html, "</tr></thead><tbody>\n");
    for (uint32_t m = 0; m < section->n_methods; m++) {
        put_method(html, section, m, NULL);
        for (int i = 0; i < N_COLUMNS; i++)
            cop__html_cell(html, cop__section_mean(section, m, columns[i].figure),
                           cop__figure_info_of(columns[i].figure)->unit);
        cop__html_put(html, "</tr>\n");
    }
    cop__html_put(html, "</tbody></table></div>\n<p class=\"small soft\">Bytes of all layers and "
                        "heads, summed over the passes and counted where they are loaded. A tile "
                        "loads what its rows see once, so loads / minimum has to be read beside "
                        "the number of tiles: first touches equal the minimum even when nothing is "
                        "shared.</p>\n");
}

void cop__report_details(cop__html *html, const cop__report *report, const cop__section *section) {
    (void)report;
    cop__html_printf(html,
                     "<details><summary>All figures, means over %u %s%s</summary><div "
                     "class=\"scroll\"><table><thead><tr><th>figure</th>",
                     section->n_common, cop__section_noun(section),
                     section->n_common == 1 ? "" : "s");
    for (uint32_t m = 0; m < section->n_methods; m++) {
        cop__html_put(html, "<th class=\"n\">");
        cop__html_text_cut(html, section->methods[m], 28);
        cop__html_put(html, "</th>");
    }
    cop__html_put(html, "</tr></thead><tbody>\n");
    const bool device = cop__section_has_device(section);
    for (int f = 0; f < COP_FIG_COUNT; f++) {
        if (!device && f >= COP_FIG_DEVICE_FIRST && f <= COP_FIG_DEVICE_LAST)
            continue;
        const cop__figure_info *info = cop__figure_info_of((cop__figure)f);
        cop__html_printf(html, "<tr><td><a href=\"#%s\"><code>%s</code></a></td>", info->name,
                         info->name);
        for (uint32_t m = 0; m < section->n_methods; m++)
            cop__html_cell(html, cop__section_mean(section, m, (cop__figure)f), info->unit);
        cop__html_put(html, "</tr>\n");
    }
    cop__html_put(html, "</tbody></table></div></details>\n");
}

static void put_notes(cop__html *html, const json_t *line) {
    const json_t *notes = json_object_get(line, "notes");
    cop__html_put(html, "<td>");
    for (size_t i = 0; i < json_array_size(notes) && i < 8; i++) {
        const char *note = json_string_value(json_array_get(notes, i));
        cop__html_put(html, i ? "; " : "");
        cop__html_text_cut(html, note ? note : "", 200);
    }
    if (json_is_string(notes))
        cop__html_text_cut(html, json_string_value(notes), 200);
    cop__html_put(html, "</td>");
}

void cop__report_cells(cop__html *html, const cop__section *section) {
    cop__html_put(html, "<details><summary>Every cell</summary><div class=\"scroll\"><table><thead>"
                        "<tr><th>problem</th><th>method</th><th>cell</th><th "
                        "class=\"n\">repeats</th><th>tokens from</th><th>extrapolated</th>");
    cop__html_heading(html, "wall clock", COP_FIG_WALL);
    cop__html_heading(html, "generated", COP_FIG_TOTAL);
    cop__html_heading(html, "remainder", COP_FIG_REMAINDER_SHARE);
    cop__html_put(html, "<th class=\"wide\">notes</th></tr></thead><tbody>\n");
    for (uint32_t p = 0; p < section->n_problems; p++)
        for (uint32_t m = 0; m < section->n_methods; m++) {
            const cop__cell *cell = cop__section_cell(section, p, m);
            if (!cell)
                continue;
            cop__html_put(html, "<tr><td>");
            cop__html_text_cut(html, cell->problem, 48);
            cop__html_put(html, "</td><td>");
            cop__html_text_cut(html, cell->method, 40);
            cop__html_put(html, "</td><td><code>");
            cop__html_text_cut(html, cell->key, 64);
            cop__html_printf(html, "</code></td><td class=\"n\">%u</td><td>", cell->repeats);
            cop__html_text_cut(html, *cell->tokens_from ? cell->tokens_from : "–", 40);
            cop__html_printf(html, "</td><td>%s</td>", cell->extrapolated ? "yes" : "no");
            cop__html_cell(html, cell->value[COP_FIG_WALL], COP_UNIT_MS);
            cop__html_cell(html, cell->value[COP_FIG_TOTAL], COP_UNIT_COUNT);
            cop__html_cell(html, cell->value[COP_FIG_REMAINDER_SHARE], COP_UNIT_SHARE);
            put_notes(html, cell->line);
            cop__html_put(html, "</tr>\n");
        }
    cop__html_put(html, "</tbody></table></div></details>\n");
}
