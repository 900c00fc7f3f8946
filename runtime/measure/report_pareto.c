/* Accuracy against what it costs (tokens, latency, device time), with the front of the methods that
 * nothing beats; and every paper's measure of the same runs in one table. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "measure/answer_stats.h"
#include "measure/metrics_reasoning.h"
#include "measure/report_parts.h"
#include "measure/report_problems_plot.h"

enum { COSTS = 3 };

static const struct {
    cop__set_figure figure;
    const char *axis, *title;
} costs[COSTS] = {
    {COP_SET_TOKENS, "generated tokens a problem", "generated<br>tokens"},
    {COP_SET_LATENCY, "mean latency of a problem", "latency"},
    {COP_SET_WALL_EACH, "device time a problem (one device)", "device time"},
};

typedef struct cost_points {
    double cost[COP_METHODS_MAX], gain[COP_METHODS_MAX];
    bool front[COP_METHODS_MAX];
    uint32_t n;
} cost_points;

static cost_points points_of(const cop__section *run, int which) {
    cost_points points = {.n = run->n_methods};
    for (uint32_t m = 0; m < run->n_methods; m++) {
        const cop__cell *cell = cop__section_cell(run, 0, m);
        points.cost[m] = cell ? cell->set_value[costs[which].figure] : NAN;
        points.gain[m] = cell ? cell->set_value[COP_SET_ACCURACY] : NAN;
    }
    cop_pareto_front(points.cost, points.gain, points.n, points.front);
    return points;
}

/* The front as a step line: up to a point's cost, nothing better than the one before is had. */
static void put_front(cop__html *html, const cop__plot *plot, const cost_points *points) {
    double at = -INFINITY;
    bool any = false;
    for (;;) {
        uint32_t next = points->n;
        for (uint32_t m = 0; m < points->n; m++)
            if (points->front[m] && points->cost[m] > at &&
                (next == points->n || points->cost[m] < points->cost[next]))
                next = m;
        if (next == points->n)
            break;
        at = points->cost[next];
        if (any)
            cop__html_printf(html, "H%.1fV%.1f", cop__plot_x(plot, at),
                             cop__plot_y(plot, points->gain[next]));
        else
            cop__html_printf(html,
                             "<path fill=\"none\" stroke=\"var(--soft)\" "
                             "stroke-dasharray=\"4 3\" d=\"M%.1f %.1f",
                             cop__plot_x(plot, at), cop__plot_y(plot, points->gain[next]));
        any = true;
    }
    if (any)
        cop__html_printf(html, "H%.1f\"/>\n", plot->left + plot->width);
}

static void put_plot(cop__html *html, const cop__section *run, int which) {
    cost_points points = points_of(run, which);
    double least = INFINITY, most = 0;
    char text[COP_NUMBER_BYTES], other[COP_NUMBER_BYTES];
    for (uint32_t m = 0; m < points.n; m++)
        if (isfinite(points.cost[m]) && isfinite(points.gain[m])) {
            least = fmin(least, points.cost[m]);
            most = fmax(most, points.cost[m]);
        }
    if (!(most > 0))
        return;
    cop__unit unit = cop__set_figure_info(costs[which].figure)->unit;
    unit = unit == COP_UNIT_MS ? cop__time_unit(most) : unit;
    cop__plot plot = {.left = 46,
                      .top = 30,
                      .width = 282,
                      .height = 230,
                      .full_width = 340,
                      .bottom = 42,
                      .x = cop__axis_around(least, most, unit, costs[which].axis),
                      .y = {.to = 1, .unit = COP_UNIT_SHARE, .title = "accuracy"}};
    /* Three stand side by side; where there is no room they wrap. */
    cop__plot_begin(html, &plot, costs[which].axis);
    put_front(html, &plot, &points);
    for (uint32_t m = 0; m < points.n; m++) {
        if (!isfinite(points.cost[m]) || !isfinite(points.gain[m]))
            continue;
        cop__html_printf(html, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%s\" fill=\"var(--bg)\" ",
                         cop__plot_x(&plot, points.cost[m]), cop__plot_y(&plot, points.gain[m]),
                         points.front[m] ? "5.5" : "3.4");
        cop__plot_stroke(html, run, m);
        cop__html_put(html, "><title>");
        cop__html_text_cut(html, run->methods[m], 40);
        cop__html_printf(html, ": %s at %s%s</title></circle>\n",
                         cop__number(points.gain[m], COP_UNIT_SHARE, text),
                         cop__number(points.cost[m], unit, other),
                         points.front[m] ? ", on the front" : "");
    }
    cop__plot_end(html);
}

static void put_table(cop__html *html, const cop__section *run) {
    cost_points points[COSTS];
    double most = 0;
    char text[COP_NUMBER_BYTES];
    for (int which = 0; which < COSTS; which++)
        points[which] = points_of(run, which);
    for (uint32_t m = 0; m < run->n_methods; m++)
        most = isfinite(points[1].cost[m]) ? fmax(most, points[1].cost[m]) : most;
    cop__html_put(html, "<div class=\"scroll\"><table><caption>Bold: on the front of accuracy "
                        "against that cost; no other method is at least as good in both and better "
                        "in one.</caption><thead><tr><th>method</th>");
    cop__report_set_heading(html, "accuracy", COP_SET_ACCURACY);
    for (int which = 0; which < COSTS; which++)
        cop__report_set_heading(html, costs[which].title, costs[which].figure);
    cop__html_put(html, "</tr></thead><tbody>\n");
    for (uint32_t m = 0; m < run->n_methods; m++) {
        cop__html_put(html, "<tr><th>");
        cop__html_text_cut(html, run->methods[m], 40);
        cop__html_put(html, "</th>");
        cop__html_cell(html, points[0].gain[m], COP_UNIT_SHARE);
        for (int which = 0; which < COSTS; which++) {
            cop__unit unit = which ? cop__time_unit(most) : COP_UNIT_COUNT;
            bool front = points[which].front[m];
            cop__html_printf(html, "<td class=\"n\">%s%s%s</td>", front ? "<b>" : "",
                             cop__number(points[which].cost[m], unit, text), front ? "</b>" : "");
        }
        cop__html_put(html, "</tr>\n");
    }
    cop__html_put(html, "</tbody></table></div>\n");
}

void cop__report_set_pareto(cop__html *html, const cop__section *run) {
    cost_points points = points_of(run, 0);
    uint32_t n = 0;
    for (uint32_t m = 0; m < points.n; m++)
        n += isfinite(points.gain[m]);
    if (n < 2)
        return;
    cop__html_put(html, "<h3>Accuracy against cost</h3>\n");
    cop__plot_legend(html, run);
    cop__html_put(html, "<div style=\"display:grid;grid-template-columns:repeat(auto-fit,"
                        "minmax(300px,1fr));gap:8px 16px\">\n");
    for (int which = 0; which < COSTS; which++)
        put_plot(html, run, which);
    cop__html_put(html, "</div>\n");
    put_table(html, run);
}

/* ---- every paper's measure ---- */

typedef enum set_ratio { RATIO_NONE, RATIO_README, RATIO_SPEEDUP, RATIO_PASTA } set_ratio;

static const struct {
    const char *path, *source;
    cop__unit unit;
    set_ratio against; /* the control's column over the method's own */
} measures[] = {
    {"tokens.total", "all generated tokens", COP_UNIT_COUNT, RATIO_NONE},
    {"tokens.longest_thread", "generated and given tokens of the longest chain", COP_UNIT_COUNT, 0},
    {"tokens.longest_thread_code", "ThreadWeaver's reward code", COP_UNIT_COUNT, 0},
    {"tokens.longest_thread_filter", "ThreadWeaver's data filter", COP_UNIT_COUNT, 0},
    {"tokens.longest_generated", "APR's paper; Multiverse", COP_UNIT_COUNT, 0},
    {"tokens.longest_sequence_bos_eos", "APR's code", COP_UNIT_COUNT, 0},
    {"tokens.position_critical", "Multiverse's and NPR's engines", COP_UNIT_COUNT, 0},
    {"tokens.longest_branch", "Parallel-Probe", COP_UNIT_COUNT, 0},
    {"tokens.critical_path", "prompt, given and re-prefilled tokens included", COP_UNIT_COUNT, 0},
    {"ratio.acceleration_marked", "ThreadWeaver's reward code", COP_UNIT_SHARE, 0},
    {"ratio.self_parallelism", "ThreadWeaver's paper, 6.3.2", COP_UNIT_RATIO, 0},
    {"ratio.acceleration_readme", "ThreadWeaver's README", COP_UNIT_RATIO, RATIO_README},
    {"ratio.speedup_baseline", "ThreadWeaver's paper, 6.2", COP_UNIT_RATIO, RATIO_SPEEDUP},
    {"ratio.pasta_theoretical", "PASTA, by a secondary source", COP_UNIT_RATIO, RATIO_PASTA},
    {"ratio.multiverse_parallel", "Multiverse", COP_UNIT_RATIO, 0},
    {"ratio.parallel_threadweaver", "ThreadWeaver's parallel_ratio", COP_UNIT_SHARE, 0},
    {"ratio.npr_parallel_tokens", "NPR, survey", COP_UNIT_SHARE, 0},
    {"ratio.efficiency_gain_words", "Parallel-R1's reward", COP_UNIT_SHARE, 0},
    {"ratio.async_concurrency", "AsyncThink, a reconstruction", COP_UNIT_COUNT, 0},
    {"rate.npr_parallel_solutions", "NPR, ThreadWeaver, Parallel-R1", COP_UNIT_SHARE, 0},
};
enum { N_MEASURES = sizeof measures / sizeof measures[0] };

/* Where a problem of the control's line stands in another's; SIZE_MAX: nowhere. Sets keep their
 * order, so the same place is tried first. */
static size_t place_of(const json_t *ids, const json_t *id, size_t guess) {
    if (json_equal(json_array_get(ids, guess), id))
        return guess;
    for (size_t i = 0; i < json_array_size(ids); i++)
        if (json_equal(json_array_get(ids, i), id))
            return i;
    return SIZE_MAX;
}

static double against_control(const cop__report *report, const cop__section *run, uint32_t m,
                              set_ratio which) {
    const cop__cell *control =
        run->control < 0 ? NULL : cop__section_cell(run, 0, (uint32_t)run->control);
    const cop__cell *cell = cop__section_cell(run, 0, m);
    if (!control || !cell)
        return NAN;
    const char *above = which == RATIO_SPEEDUP ? "each.longest" : "each.tokens";
    const char *below = which == RATIO_PASTA ? "each.longest_generated" : "each.longest";
    const json_t *ids = cop__json_at(control->line, "each.id");
    const json_t *own_ids = cop__json_at(cell->line, "each.id");
    size_t n = json_array_size(ids);
    double *base = cop_arena_calloc(report->arena, n + 1, sizeof *base);
    double *own = cop_arena_calloc(report->arena, n + 1, sizeof *own);
    uint32_t used = 0;
    if (!base || !own)
        return NAN;
    for (size_t i = 0; i < n; i++) {
        size_t at = place_of(own_ids, json_array_get(ids, i), i);
        base[i] = cop__json_measure(json_array_get(cop__json_at(control->line, above), i));
        own[i] = at == SIZE_MAX
                     ? NAN
                     : cop__json_measure(json_array_get(cop__json_at(cell->line, below), at));
    }
    return cop_speedup_baseline(base, own, (uint32_t)n, &used);
}

static double measure_of(const cop__report *report, const cop__section *run, uint32_t m, int i) {
    const cop__cell *cell = cop__section_cell(run, 0, m);
    if (measures[i].against != RATIO_NONE)
        return against_control(report, run, m, measures[i].against);
    return cell ? cop__json_measure(
                      cop__json_at(json_object_get(cell->line, "reasoning"), measures[i].path))
                : NAN;
}

static bool has_measures(const cop__section *run) {
    for (uint32_t m = 0; m < run->n_methods; m++) {
        const cop__cell *cell = cop__section_cell(run, 0, m);
        if (cell && json_object_get(cell->line, "reasoning"))
            return true;
    }
    return false;
}

void cop__report_set_measures(cop__html *html, const cop__report *report, const cop__section *run) {
    if (!has_measures(run))
        return;
    cop__html_put(html,
                  "<details><summary>The same runs by every paper's measure</summary>"
                  "<div class=\"scroll\"><table><caption>One value a problem, mean over the "
                  "problems. A dash: the method has no such figure (bench/METRICS.md).</caption>"
                  "<thead><tr><th>measure</th>");
    for (uint32_t m = 0; m < run->n_methods; m++) {
        cop__html_put(html, "<th class=\"n\">");
        cop__html_text_cut(html, run->methods[m], 28);
        cop__html_put(html, "</th>");
    }
    cop__html_put(html, "</tr></thead><tbody>\n");
    for (int i = 0; i < N_MEASURES; i++) {
        cop__html_printf(html,
                         "<tr><th><code>%s</code><br><span class=\"soft small\" "
                         "style=\"font-weight:400\">%s</span></th>",
                         measures[i].path, measures[i].source);
        for (uint32_t m = 0; m < run->n_methods; m++)
            cop__html_cell(html, measure_of(report, run, m, i), measures[i].unit);
        cop__html_put(html, "</tr>\n");
    }
    cop__html_put(html, "</tbody></table></div></details>\n");
}
