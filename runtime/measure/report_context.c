/* What each generated token attended to, sequential and parallel runs under one another on one
 * axis; and, where answers are known, accuracy against it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure/context_seen.h"
#include "measure/proportion.h"
#include "measure/report_parts.h"
#include "measure/report_problems_plot.h"

enum { ROWS_MAX = 16, ROW_HEIGHT = 62, LEFT = 190, RIGHT = 150, WIDTH = 1040, GROUPS = 5 };

/* ---- distributions ---- */

/* Adds a line's bins; a bin that this version does not know falls into the one that holds its
 * smallest value. */
static void add_bins(cop_context_seen *seen, const json_t *line) {
    const json_t *bins = cop__json_at(line, "metrics.context.seen.bins");
    const json_t *from = json_object_get(bins, "from");
    for (int kind = 0; kind < COP_SEEN_KINDS; kind++) {
        const json_t *column = json_object_get(bins, cop_seen_kind_name((cop_seen_kind)kind));
        for (size_t i = 0; i < json_array_size(from); i++) {
            double view = cop__json_measure(json_array_get(from, i));
            double tokens = cop__json_measure(json_array_get(column, i));
            if (view >= 0 && tokens > 0)
                cop_seen_add(seen, (cop_seen_kind)kind, (uint64_t)view, (uint64_t)tokens);
        }
    }
}

static uint64_t tokens_of(const cop_context_seen *seen) {
    return seen->tokens[COP_SEEN_ALONE] + seen->tokens[COP_SEEN_SIBLINGS];
}

typedef struct seen_rows {
    cop_context_seen seen[ROWS_MAX];
    uint32_t method[ROWS_MAX], n;
    uint32_t from, to;       /* bins that any of them holds something in */
    uint64_t most[ROWS_MAX]; /* tokens of the fullest bin: each row has its own height */
} seen_rows;

static void gather_rows(const cop__section *section, seen_rows *rows) {
    *rows = (seen_rows){.from = COP_SEEN_BINS};
    for (uint32_t m = 0; m < section->n_methods && rows->n < ROWS_MAX; m++) {
        cop_context_seen *seen = &rows->seen[rows->n];
        for (uint32_t p = 0; p < section->n_problems; p++)
            if (cop__section_is_common(section, p))
                add_bins(seen, cop__section_cell(section, p, m)->line);
        if (tokens_of(seen) == 0)
            continue;
        rows->method[rows->n++] = m;
        for (uint32_t bin = 0; bin < COP_SEEN_BINS; bin++) {
            uint64_t here = seen->bins[COP_SEEN_ALONE][bin] + seen->bins[COP_SEEN_SIBLINGS][bin];
            if (!here)
                continue;
            rows->from = bin < rows->from ? bin : rows->from;
            rows->to = bin > rows->to ? bin : rows->to;
            uint64_t *most = &rows->most[rows->n - 1];
            *most = here > *most ? here : *most;
        }
    }
}

static double bin_x(const seen_rows *rows, double view) {
    double from = fmax(1, (double)cop_seen_bin_from(rows->from));
    double to = (double)cop_seen_bin_from(rows->to + 1);
    return LEFT + (WIDTH - LEFT - RIGHT) * log(fmax(view, from) / from) / log(to / from);
}

static void put_bar(cop__html *html, const seen_rows *rows, uint32_t bin, double bottom,
                    double height, const char *fill) {
    double left = bin_x(rows, (double)cop_seen_bin_from(bin));
    double right = bin_x(rows, (double)cop_seen_bin_from(bin + 1));
    if (height > 0)
        cop__html_printf(html, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" %s/>",
                         left, bottom - height, fmax(0.5, right - left - 0.6), height, fill);
}

static void put_row(cop__html *html, const cop__section *section, const seen_rows *rows,
                    uint32_t row) {
    static const char alone[] = "style=\"fill:var(--soft)\"";
    static const char siblings[] = "style=\"fill:var(--decode)\"";
    const cop_context_seen *seen = &rows->seen[row];
    double bottom = (row + 1) * (double)ROW_HEIGHT, room = ROW_HEIGHT - 14;
    char text[COP_NUMBER_BYTES];
    cop__html_printf(html, "<text class=\"end\" x=\"%d\" y=\"%.1f\">", LEFT - 10, bottom - 6);
    cop__html_text_cut(html, section->methods[rows->method[row]], 26);
    cop__html_put(html, "</text>");
    for (uint32_t bin = rows->from; bin <= rows->to; bin++) {
        double unit = room / (double)rows->most[row];
        double low = (double)seen->bins[COP_SEEN_ALONE][bin] * unit;
        double high = (double)seen->bins[COP_SEEN_SIBLINGS][bin] * unit;
        put_bar(html, rows, bin, bottom, low, alone);
        put_bar(html, rows, bin, bottom - low, high, siblings);
    }
    const cop__cell *cell = cop__section_cell(section, 0, rows->method[row]);
    double mean = section->n_problems == 1 && cell
                      ? cell->value[COP_FIG_SEEN_MEAN]
                      : cop__section_mean(section, rows->method[row], COP_FIG_SEEN_MEAN);
    cop__html_printf(html, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
                     LEFT, WIDTH - RIGHT, bottom, bottom);
    if (!isfinite(mean))
        return;
    double x = bin_x(rows, mean);
    cop__html_printf(html,
                     "<path d=\"M%.1f %.1fV%.1f\" style=\"stroke:var(--prune);stroke-width:1.6\"/>"
                     "<text x=\"%d\" y=\"%.1f\">mean <tspan style=\"font-weight:600\">%s</tspan>"
                     "</text>\n",
                     x, bottom, bottom - room, WIDTH - RIGHT + 12, bottom - 6,
                     cop__number(mean, COP_UNIT_COUNT, text));
}

static void put_ticks(cop__html *html, const seen_rows *rows) {
    double bottom = rows->n * (double)ROW_HEIGHT, free_from = 0;
    char text[COP_NUMBER_BYTES];
    for (double tick = 1; tick < 1e8; tick *= 10)
        for (int lead = 1; lead <= 5; lead += lead == 1 ? 1 : 3) {
            double value = tick * lead;
            if (value < (double)cop_seen_bin_from(rows->from) ||
                value > (double)cop_seen_bin_from(rows->to + 1))
                continue;
            double x = bin_x(rows, value);
            cop__tick(value, COP_UNIT_COUNT, text);
            double half = 3.4 * (double)cop__text_width(text);
            if (x - half < free_from)
                continue;
            free_from = x + half + 6;
            cop__html_printf(html, "<text class=\"soft mid\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", x,
                             bottom + 16, text);
        }
    cop__html_printf(html,
                     "<text class=\"soft mid\" x=\"%.1f\" y=\"%.1f\">tokens that a generated token "
                     "attended to (logarithmic)</text>\n",
                     (LEFT + WIDTH - RIGHT) / 2.0, bottom + 34);
}

void cop__report_context(cop__html *html, const cop__section *section) {
    seen_rows *rows = cop_calloc(1, sizeof *rows);
    if (!rows) {
        html->status = COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a plot");
        return;
    }
    gather_rows(section, rows);
    if (rows->n > 0) {
        cop__html_put(
            html, "<h3>What each token saw</h3>\n<p class=\"small soft\">Share of the generated "
                  "tokens by how many tokens each attended to: its prompt, what was generated "
                  "and what was given before it. Each row's fullest bin has its whole height.</p>\n"
                  "<ul class=\"legend\"><li><i style=\"background:var(--soft)\"></i>branches "
                  "that run alone</li><li><i style=\"background:var(--decode)\"></i>branches "
                  "beside siblings</li><li><i style=\"background:var(--prune);width:3px\"></i>"
                  "mean</li></ul>\n");
        cop__html_printf(
            html,
            "<svg viewBox=\"0 0 %d %d\" role=\"img\"><title>Tokens attended to by each "
            "generated token, one row a method</title>\n",
            WIDTH, (int)rows->n * ROW_HEIGHT + 42);
        for (uint32_t i = 0; i < rows->n; i++)
            put_row(html, section, rows, i);
        put_ticks(html, rows);
        cop__html_put(html, "</svg>\n");
    }
    cop_free(rows);
}

/* ---- accuracy against it ---- */

typedef struct seen_group {
    uint32_t right, graded;
    double sum; /* of the problems' mean contexts */
} seen_group;

static double seen_of(const cop__cell *cell, size_t i) {
    return cop__json_measure(json_array_get(cop__json_at(cell->line, "each.context_seen"), i));
}

static const char *graded_as(const cop__cell *cell, size_t i) {
    const char *grade =
        json_string_value(json_array_get(cop__json_at(cell->line, "each.grade"), i));
    return grade && strcmp(grade, "ungraded") != 0 ? grade : NULL;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Equal parts of all methods' problems together; edges[i] is where part i ends. */
static uint32_t find_edges(const cop__section *run, double edges[GROUPS]) {
    size_t n = 0, most = 0;
    for (uint32_t m = 0; m < run->n_methods; m++) {
        const cop__cell *cell = cop__section_cell(run, 0, m);
        most += cell ? json_array_size(cop__json_at(cell->line, "each.context_seen")) : 0;
    }
    double *all = most ? cop_calloc(most, sizeof *all) : NULL;
    for (uint32_t m = 0; all && m < run->n_methods; m++) {
        const cop__cell *cell = cop__section_cell(run, 0, m);
        size_t count = cell ? json_array_size(cop__json_at(cell->line, "each.context_seen")) : 0;
        for (size_t i = 0; i < count; i++)
            if (seen_of(cell, i) > 0 && graded_as(cell, i))
                all[n++] = seen_of(cell, i);
    }
    if (n)
        qsort(all, n, sizeof *all, by_size);
    uint32_t groups = n >= 10 * GROUPS ? GROUPS : n >= 20 ? 2 : n > 0;
    for (uint32_t g = 0; g < groups; g++)
        edges[g] = all[(size_t)((double)n * (g + 1) / groups + 0.5) - 1];
    cop_free(all);
    return groups;
}

static void fill_groups(const cop__cell *cell, const double *edges, uint32_t n_groups,
                        seen_group *groups) {
    size_t count = cell ? json_array_size(cop__json_at(cell->line, "each.context_seen")) : 0;
    for (size_t i = 0; i < count; i++) {
        double seen = seen_of(cell, i);
        const char *grade = graded_as(cell, i);
        uint32_t g = 0;
        if (!(seen > 0) || !grade)
            continue;
        while (g + 1 < n_groups && seen > edges[g])
            g++;
        groups[g].graded++;
        groups[g].right += strcmp(grade, "right") == 0;
        groups[g].sum += seen;
    }
}

static void put_points(cop__html *html, const cop__plot *plot, const cop__section *run, uint32_t m,
                       const seen_group *groups, uint32_t n) {
    bool any = false;
    char a[COP_NUMBER_BYTES], b[COP_NUMBER_BYTES];
    for (uint32_t g = 0; g < n; g++)
        if (groups[g].graded) {
            cop__html_printf(html, "%s%.1f %.1f", any ? "L" : "<path fill=\"none\" d=\"M",
                             cop__plot_x(plot, groups[g].sum / groups[g].graded),
                             cop__plot_y(plot, (double)groups[g].right / groups[g].graded));
            any = true;
        }
    if (!any)
        return;
    cop__html_put(html, "\" ");
    cop__plot_stroke(html, run, m);
    cop__html_put(html, "/>\n");
    for (uint32_t g = 0; g < n; g++) {
        if (!groups[g].graded)
            continue;
        double low, high, x = cop__plot_x(plot, groups[g].sum / groups[g].graded);
        double share = (double)groups[g].right / groups[g].graded;
        cop_proportion_wilson(groups[g].right, groups[g].graded, COP_PROPORTION_Z95, &low, &high);
        cop__html_printf(html, "<path fill=\"none\" opacity=\".55\" d=\"M%.1f %.1fV%.1f\" ", x,
                         cop__plot_y(plot, low), cop__plot_y(plot, high));
        cop__plot_stroke(html, run, m);
        cop__html_printf(html, "/><circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.4\" fill=\"var(--bg)\" ", x,
                         cop__plot_y(plot, share));
        cop__plot_stroke(html, run, m);
        cop__html_put(html, "><title>");
        cop__html_text_cut(html, run->methods[m], 40);
        cop__html_printf(html, ": %u problems, context %s, right %s</title></circle>\n",
                         groups[g].graded,
                         cop__number(groups[g].sum / groups[g].graded, COP_UNIT_COUNT, a),
                         cop__number(share, COP_UNIT_SHARE, b));
    }
}

void cop__report_set_context(cop__html *html, const cop__section *run) {
    seen_group groups[COP_METHODS_MAX][GROUPS] = {0};
    double edges[GROUPS], least = INFINITY, most = 0;
    uint32_t n = find_edges(run, edges);
    for (uint32_t m = 0; m < run->n_methods; m++) {
        fill_groups(cop__section_cell(run, 0, m), edges, n, groups[m]);
        for (uint32_t g = 0; g < n; g++)
            if (groups[m][g].graded) {
                least = fmin(least, groups[m][g].sum / groups[m][g].graded);
                most = fmax(most, groups[m][g].sum / groups[m][g].graded);
            }
    }
    if (!(most > 0))
        return;
    cop__plot plot = {.left = 52,
                      .top = 30,
                      .width = 960,
                      .height = 260,
                      .full_width = 1040,
                      .bottom = 42,
                      .x = cop__axis_around(least, most, COP_UNIT_COUNT,
                                            "tokens that a problem's generated tokens attended to, "
                                            "mean"),
                      .y = {.to = 1, .unit = COP_UNIT_SHARE, .title = "right"}};
    cop__html_printf(html,
                     "<h3>Accuracy against what the tokens saw</h3>\n<p class=\"small soft\">Each "
                     "problem has the mean of what its generated tokens attended to; the problems "
                     "of all methods together are cut into %u part%s of one size by it. Bars: "
                     "Wilson, 95 %%. Problems that need longer answers have longer contexts as "
                     "well: this shows what goes together, not what causes what.</p>\n",
                     n, n == 1 ? "" : "s");
    cop__plot_legend(html, run);
    cop__plot_begin(html, &plot, "Share of right answers against the mean context of a problem");
    for (uint32_t m = 0; m < run->n_methods; m++)
        put_points(html, &plot, run, m, groups[m], n);
    cop__plot_end(html);
}
