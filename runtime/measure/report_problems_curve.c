/* Two pictures of problem sets, and the sentences that they are drawn for: how accurate a method is
 * under a limit of its longest path, and up to how many problems at once forking pays. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure/report_parts.h"
#include "measure/report_problems_plot.h"

/* Where right answers lie on the axis of the longest path; `share` is what each adds to the
 * accuracy: the curve at a limit is the sum up to it, its end the accuracy. */
typedef struct right_point {
    double tokens, share;
} right_point;

typedef struct step_curve {
    right_point *points;
    uint32_t n;
    double end;     /* the accuracy that it ends at */
    double mean;    /* of the longest paths of all problems */
    double longest; /* the largest of them, right or not */
} step_curve;

static int by_tokens(const void *a, const void *b) {
    double apart = ((const right_point *)a)->tokens - ((const right_point *)b)->tokens;
    return apart < 0 ? -1 : apart > 0;
}

static bool is_grade(const json_t *grades, size_t i, const char *name) {
    const char *grade = json_string_value(json_array_get(grades, i));
    return grade && strcmp(grade, name) == 0;
}

/* Adds one repeat's right answers, each weighing as much as it does in the mean over repeats. */
static void add_repeat(step_curve *curve, const json_t *line, uint32_t repeats) {
    const json_t *grades = cop__json_at(line, "each.grade");
    const json_t *longest = cop__json_at(line, "each.longest");
    size_t graded = 0, n = json_array_size(grades);
    for (size_t i = 0; i < n; i++)
        graded += json_is_string(json_array_get(grades, i)) && !is_grade(grades, i, "ungraded");
    for (size_t i = 0; i < n; i++) {
        double tokens = cop__json_measure(json_array_get(longest, i));
        if (!(tokens > 0))
            continue;
        curve->longest = fmax(curve->longest, tokens);
        if (is_grade(grades, i, "right"))
            curve->points[curve->n++] = (right_point){tokens, 1.0 / ((double)graded * repeats)};
    }
}

/* Empty where the lines lack the columns, or there is no memory for them. */
static step_curve curve_of(const cop__report *report, const cop__cell *cell) {
    step_curve curve = {.mean = NAN};
    size_t most = 0;
    for (const cop__repeat *r = cell ? cell->first : NULL; r; r = r->next)
        most += json_array_size(cop__json_at(r->line, "each.grade"));
    curve.points = most ? cop_arena_calloc(report->arena, most, sizeof *curve.points) : NULL;
    if (!curve.points)
        return curve;
    for (const cop__repeat *r = cell->first; r; r = r->next)
        add_repeat(&curve, r->line, cell->repeats);
    if (curve.n)
        qsort(curve.points, curve.n, sizeof *curve.points, by_tokens);
    for (uint32_t i = 0; i < curve.n; i++)
        curve.end += curve.points[i].share;
    curve.mean = cell->set_value[COP_SET_LONGEST];
    return curve;
}

static double curve_at(const step_curve *curve, double tokens) {
    double share = 0;
    for (uint32_t i = 0; i < curve->n && curve->points[i].tokens <= tokens; i++)
        share += curve->points[i].share;
    return share;
}

/* The smallest limit with this accuracy; NaN when there is none. */
static double curve_reaches(const step_curve *curve, double share) {
    double sum = 0;
    for (uint32_t i = 0; i < curve->n; i++)
        if ((sum += curve->points[i].share) >= share - 1e-9)
            return curve->points[i].tokens;
    return NAN;
}

static void put_curve(cop__html *html, const cop__plot *plot, const cop__section *section,
                      const step_curve *curve, uint32_t method) {
    double share = 0;
    char text[COP_NUMBER_BYTES], other[COP_NUMBER_BYTES];
    cop__html_printf(html, "<path fill=\"none\" d=\"M%.1f %.1f",
                     cop__plot_x(plot, curve->points[0].tokens), cop__plot_y(plot, 0));
    for (uint32_t i = 0; i < curve->n; i++) {
        share += curve->points[i].share;
        if (i + 1 < curve->n && curve->points[i + 1].tokens == curve->points[i].tokens)
            continue;
        cop__html_printf(html, "H%.1fV%.1f", cop__plot_x(plot, curve->points[i].tokens),
                         cop__plot_y(plot, share));
    }
    cop__html_printf(html, "H%.1f\" ", plot->left + plot->width);
    cop__plot_stroke(html, section, method);
    cop__html_put(html, "/>");
    if (!(curve->mean >= plot->x.from && curve->mean <= plot->x.to))
        return;
    share = curve_at(curve, curve->mean);
    cop__html_printf(html, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\" fill=\"var(--bg)\" ",
                     cop__plot_x(plot, curve->mean), cop__plot_y(plot, share));
    cop__plot_stroke(html, section, method);
    cop__html_put(html, "><title>");
    cop__html_text_cut(html, section->methods[method], 40);
    cop__html_printf(html, ": mean longest path %s tokens; right within it: %s</title></circle>\n",
                     cop__number(curve->mean, COP_UNIT_COUNT, text),
                     cop__number(share, COP_UNIT_SHARE, other));
}

/* The forking method that the sentence is about: the most accurate one, the shorter of equals. */
static uint32_t best_forking(const cop__section *section, const step_curve *curves) {
    uint32_t best = UINT32_MAX;
    for (uint32_t m = 0; m < section->n_methods; m++) {
        if ((int)m == section->control || !curves[m].n || !isfinite(curves[m].mean))
            continue;
        double ahead = best == UINT32_MAX ? 1 : curves[m].end - curves[best].end;
        if (ahead > 1e-9 || (ahead > -1e-9 && curves[m].mean < curves[best].mean))
            best = m;
    }
    return best;
}

static void put_bold(cop__html *html, const cop__section *section, uint32_t method) {
    cop__html_put(html, "<b>");
    cop__html_text_cut(html, section->methods[method], 40);
    cop__html_put(html, "</b>");
}

static void put_reach(cop__html *html, const cop__section *section, const step_curve *control,
                      const step_curve *best) {
    double reach = curve_reaches(control, best->end);
    const cop__cell *cell = cop__section_cell(section, 0, (uint32_t)section->control);
    const json_t *limit = cell ? json_object_get(cell->line, "max_tokens") : NULL;
    char a[COP_NUMBER_BYTES], b[COP_NUMBER_BYTES];
    cop__html_printf(html, " To be right on %s of the problems, ",
                     cop__number(best->end, COP_UNIT_SHARE, a));
    cop__number(control->end, COP_UNIT_SHARE, b);
    put_bold(html, section, (uint32_t)section->control);
    if (isfinite(reach))
        cop__html_printf(html, " needs a limit of <b>%s tokens</b>, %s that mean.</p>\n",
                         cop__number(reach, COP_UNIT_COUNT, a),
                         cop__number(reach / best->mean, COP_UNIT_RATIO, b));
    else if (json_is_number(limit) && json_number_value(limit) > 0)
        cop__html_printf(html,
                         " would need more than its limit of %s tokens: <b>never, within its "
                         "limit</b>, where it ends at %s.</p>\n",
                         cop__number(json_number_value(limit), COP_UNIT_COUNT, a), b);
    else
        cop__html_printf(html,
                         " would need more than it was given: <b>never, within its limit</b>, "
                         "where it ends at %s.</p>\n",
                         b);
}

static void put_curve_words(cop__html *html, const cop__section *section,
                            const step_curve *curves) {
    uint32_t m = best_forking(section, curves);
    if (section->control < 0 || m == UINT32_MAX || !curves[section->control].n)
        return;
    const step_curve *control = &curves[section->control], *best = &curves[m];
    double there = curve_at(control, best->mean);
    char a[COP_NUMBER_BYTES], b[COP_NUMBER_BYTES], c[COP_NUMBER_BYTES], d[COP_NUMBER_BYTES];
    cop__html_put(html, "<p>");
    put_bold(html, section, m);
    cop__html_printf(html,
                     " is right on <b>%s</b> of the problems with <b>%s tokens</b> on the "
                     "longest path in the mean. With at most that many, ",
                     cop__number(best->end, COP_UNIT_SHARE, a),
                     cop__number(best->mean, COP_UNIT_COUNT, b));
    put_bold(html, section, (uint32_t)section->control);
    cop__html_printf(html,
                     " is right on <b>%s</b>, %.1f points %s (under the same limit on every "
                     "single problem, ",
                     cop__number(there, COP_UNIT_SHARE, c), 100 * fabs(best->end - there),
                     best->end >= there ? "less" : "more");
    cop__html_text_cut(html, section->methods[m], 40);
    cop__html_printf(html, " on %s).", cop__number(curve_at(best, best->mean), COP_UNIT_SHARE, d));
    put_reach(html, section, control, best);
}

static cop__plot curve_plot(const cop__section *section, const step_curve *curves) {
    double least = INFINITY, most = 0;
    size_t widest = 8;
    uint32_t shown = 0;
    for (uint32_t m = 0; m < section->n_methods; m++) {
        if (!curves[m].n)
            continue;
        size_t width = cop__text_width(section->methods[m]);
        least = fmin(least, curves[m].points[0].tokens);
        most = fmax(most, curves[m].longest);
        widest = width > widest ? width : widest;
        shown++;
    }
    widest = widest > 26 ? 26 : widest;
    double labels = 96 + 6.6 * (double)widest;
    cop__plot plot = {
        .left = 52,
        .top = 30,
        .width = 1040 - 52 - labels,
        .height = fmax(320, 16.0 * shown),
        .full_width = 1040,
        .bottom = 42,
        .x = cop__axis_around(least, most, COP_UNIT_COUNT, "limit of the longest path, tokens"),
        .y = {.to = 1, .unit = COP_UNIT_SHARE, .title = "right within the limit"}};
    if (plot.x.log)
        plot.x.title = "limit of the longest path, tokens (logarithmic)";
    return plot;
}

void cop__report_set_curve(cop__html *html, const cop__report *report,
                           const cop__section *section) {
    step_curve curves[COP_METHODS_MAX];
    cop__end_label labels[COP_METHODS_MAX];
    uint32_t n = 0;
    for (uint32_t m = 0; m < section->n_methods; m++)
        curves[m] = curve_of(report, cop__section_cell(section, 0, m));
    cop__plot plot = curve_plot(section, curves);
    cop__html_put(html, "<h3>Accuracy against the longest path</h3>\n");
    for (uint32_t m = 0; m < section->n_methods; m++)
        if (curves[m].n)
            labels[n++] = (cop__end_label){m, cop__plot_y(&plot, curves[m].end), curves[m].end, 0};
    if (!n) {
        cop__html_put(html, "<p class=\"soft\">No line tells which problems were right and how "
                            "long their longest paths were.</p>\n");
        return;
    }
    cop__html_put(html, "<p class=\"small soft\">Share of the problems that are right <em>and</em> "
                        "whose longest path is no longer than the limit, computed from every "
                        "problem. The circle marks a method's mean longest path.</p>\n");
    cop__plot_begin(html, &plot, "Accuracy under a limit of the longest path, one curve a method");
    for (uint32_t m = 0; m < section->n_methods; m++)
        if (curves[m].n)
            put_curve(html, &plot, section, &curves[m], m);
    cop__plot_end_labels(html, &plot, section, labels, n, COP_UNIT_SHARE);
    cop__plot_end(html);
    put_curve_words(html, section, curves);
}
