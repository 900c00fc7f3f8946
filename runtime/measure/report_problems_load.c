/* Latency and throughput of a problem set against the number of problems at once, and where forking
 * stops paying. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure/report_parts.h"
#include "measure/report_problems_plot.h"

typedef struct set_loads {
    const cop__section *section;
    uint32_t problem[COP_PROBLEMS_MAX]; /* runs in the order of their problems at once */
    double at_once[COP_PROBLEMS_MAX];
    uint32_t n;
} set_loads;

uint32_t cop__section_at_once(const cop__section *section, uint32_t problem) {
    for (uint32_t m = 0; m < section->n_methods; m++) {
        const cop__cell *cell = cop__section_cell(section, problem, m);
        if (cell)
            return cell->at_once;
    }
    return 0;
}

/* Runs that do not say how many problems ran at once have no place on the axis. */
static void order_loads(set_loads *load, const cop__section *section) {
    load->section = section;
    load->n = 0;
    for (uint32_t p = 0; p < section->n_problems; p++) {
        double at_once = cop__section_at_once(section, p);
        uint32_t i = load->n;
        if (at_once == 0)
            continue;
        for (; i > 0 && load->at_once[i - 1] > at_once; i--) {
            load->at_once[i] = load->at_once[i - 1];
            load->problem[i] = load->problem[i - 1];
        }
        load->at_once[i] = at_once;
        load->problem[i] = p;
        load->n++;
    }
}

static double value_at(const set_loads *load, uint32_t i, uint32_t method, cop__set_figure figure) {
    const cop__cell *cell = cop__section_cell(load->section, load->problem[i], method);
    double value = cell ? cell->set_value[figure] : NAN;
    return isfinite(value) && value > 0 ? value : NAN;
}

static void put_points(cop__html *html, const cop__plot *plot, const set_loads *load,
                       uint32_t method, cop__set_figure figure, cop__unit unit) {
    char text[COP_NUMBER_BYTES];
    bool any = false;
    for (uint32_t i = 0; i < load->n; i++) {
        double value = value_at(load, i, method, figure);
        if (!isfinite(value))
            continue;
        cop__html_printf(html, "%s%.1f %.1f", any ? "L" : "<path fill=\"none\" d=\"M",
                         cop__plot_x(plot, load->at_once[i]), cop__plot_y(plot, value));
        any = true;
    }
    if (!any)
        return;
    cop__html_put(html, "\" ");
    cop__plot_stroke(html, load->section, method);
    cop__html_put(html, "/>\n");
    for (uint32_t i = 0; i < load->n; i++) {
        double value = value_at(load, i, method, figure);
        if (!isfinite(value))
            continue;
        cop__html_printf(html, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\" fill=\"var(--bg)\" ",
                         cop__plot_x(plot, load->at_once[i]), cop__plot_y(plot, value));
        cop__plot_stroke(html, load->section, method);
        cop__html_put(html, "><title>");
        cop__html_text_cut(html, load->section->methods[method], 40);
        cop__html_printf(html, ", %.0f at once: %s</title></circle>\n", load->at_once[i],
                         cop__number(value, unit, text));
    }
}

static void put_plot(cop__html *html, const set_loads *load, cop__set_figure figure,
                     const char *axis, const char *title) {
    double least = INFINITY, most = 0;
    for (uint32_t i = 0; i < load->n; i++)
        for (uint32_t m = 0; m < load->section->n_methods; m++) {
            double value = value_at(load, i, m, figure);
            if (isfinite(value)) {
                least = fmin(least, value);
                most = fmax(most, value);
            }
        }
    if (most == 0)
        return;
    cop__unit unit = cop__set_figure_info(figure)->unit;
    unit = unit == COP_UNIT_MS ? cop__time_unit(most) : unit;
    cop__plot plot = {.left = 58,
                      .top = 30,
                      .width = 452,
                      .height = 270,
                      .full_width = 520,
                      .bottom = 42,
                      .x = {.from = load->at_once[0],
                            .to = load->at_once[load->n - 1],
                            .log = true,
                            .title = "problems at once",
                            .marks = load->at_once,
                            .n_marks = load->n},
                      .y = cop__axis_around(least, most, unit, axis)};
    cop__plot_begin(html, &plot, title);
    for (uint32_t m = 0; m < load->section->n_methods; m++)
        put_points(html, &plot, load, m, figure, unit);
    cop__plot_end(html);
}

/* Below 0 where forking pays: the logarithm of what it costs over what the control costs. */
static double excess(const set_loads *load, uint32_t i, uint32_t method, cop__set_figure figure) {
    double mine = value_at(load, i, method, figure);
    double control = value_at(load, i, (uint32_t)load->section->control, figure);
    return figure == COP_SET_RATE ? log(control / mine) : log(mine / control);
}

typedef struct set_crossing {
    double at, most;  /* problems at once: of the first change, and the most compared */
    uint32_t changes; /* from paying to not paying or back */
    bool pays_first, any;
} set_crossing;

/* Between two measured counts the excess is taken as straight in log2 of the count. */
static set_crossing crossing_of(const set_loads *load, uint32_t method, cop__set_figure figure) {
    set_crossing out = {.at = NAN};
    double before = NAN, before_at = NAN;
    for (uint32_t i = 0; i < load->n; i++) {
        double now = excess(load, i, method, figure);
        if (!isfinite(now))
            continue;
        if (!out.any)
            out.pays_first = now < 0;
        else if ((before < 0) != (now < 0) && out.changes++ == 0)
            out.at = exp2(log2(before_at) +
                          before / (before - now) * (log2(load->at_once[i]) - log2(before_at)));
        out.any = true;
        out.most = load->at_once[i];
        before = now;
        before_at = load->at_once[i];
    }
    return out;
}

static void put_crossing(cop__html *html, const set_crossing *cross) {
    char text[32];
    snprintf(text, sizeof text, "%.*f", cross->at < 99.95, cross->at);
    if (!cross->any)
        cop__html_put(html, "not measured beside the control");
    else if (cross->changes == 0 && cross->pays_first)
        cop__html_printf(html, "forking <b>never</b> stops paying up to %.0f problems at once",
                         cross->most);
    else if (cross->changes == 0)
        cop__html_printf(html,
                         "forking does not pay <b>from the start</b>, nor with up to %.0f problems "
                         "at once",
                         cross->most);
    else if (cross->pays_first)
        cop__html_printf(html, "forking stops paying at about <b>%s problems at once</b>", text);
    else
        cop__html_printf(html,
                         "forking does not pay from the start, but does from about <b>%s problems "
                         "at once</b> on",
                         text);
    if (cross->changes > 1)
        cop__html_printf(html, " (the first of %u crossings, so the two lie close together)",
                         cross->changes);
}

static void put_crossings(cop__html *html, const set_loads *load) {
    const cop__section *section = load->section;
    if (section->control < 0 || section->n_methods < 2)
        return;
    cop__html_put(html, "<p>Against ");
    cop__html_text_cut(html, section->methods[section->control], 40);
    cop__html_put(html, ", with as many problems at once, whatever the accuracy:</p>\n<ul>\n");
    for (uint32_t m = 0; m < section->n_methods; m++) {
        if ((int)m == section->control)
            continue;
        set_crossing latency = crossing_of(load, m, COP_SET_LATENCY);
        set_crossing rate = crossing_of(load, m, COP_SET_RATE);
        cop__html_put(html, "<li><b>");
        cop__html_text_cut(html, section->methods[m], 40);
        cop__html_put(html, "</b>: in latency, ");
        put_crossing(html, &latency);
        cop__html_put(html, "; in throughput, ");
        put_crossing(html, &rate);
        cop__html_put(html, ".</li>\n");
    }
    cop__html_put(html, "</ul>\n");
}

static void put_load_table(cop__html *html, const set_loads *load) {
    static const struct {
        cop__set_figure figure;
        const char *title;
    } columns[] = {{COP_SET_ACCURACY, "accuracy"},  {COP_SET_LATENCY, "latency,<br>mean"},
                   {COP_SET_LATENCY_P50, "median"}, {COP_SET_LATENCY_P95, "95th<br>percentile"},
                   {COP_SET_RATE, "problems / s"},  {COP_SET_WALL_EACH, "wall clock<br>/ problem"}};
    enum { N_COLUMNS = sizeof columns / sizeof columns[0] };
    cop__html_put(html, "<details><summary>These figures as a table</summary><div class=\"scroll\">"
                        "<table><thead><tr><th class=\"n\">at once</th><th>method</th>");
    for (int i = 0; i < N_COLUMNS; i++)
        cop__report_set_heading(html, columns[i].title, columns[i].figure);
    cop__html_put(html, "</tr></thead><tbody>\n");
    for (uint32_t i = 0; i < load->n; i++)
        for (uint32_t m = 0; m < load->section->n_methods; m++) {
            const cop__cell *cell = cop__section_cell(load->section, load->problem[i], m);
            if (!cell)
                continue;
            cop__html_printf(html, "<tr><td class=\"n\">%.0f</td><td>", load->at_once[i]);
            cop__html_text_cut(html, load->section->methods[m], 40);
            cop__html_put(html, "</td>");
            for (int c = 0; c < N_COLUMNS; c++)
                cop__html_cell(html, cell->set_value[columns[c].figure],
                               cop__set_figure_info(columns[c].figure)->unit);
            cop__html_put(html, "</tr>\n");
        }
    cop__html_put(html, "</tbody></table></div></details>\n");
}

void cop__report_set_load(cop__html *html, const cop__section *section) {
    set_loads load;
    order_loads(&load, section);
    if (load.n < 2 || load.at_once[0] == load.at_once[load.n - 1])
        return;
    cop__html_put(html, "<h3>Many problems at once</h3>\n<p class=\"small soft\">Latency is that "
                        "of one problem, from its begin to its end, among as many others. "
                        "Throughput counts solved and unsolved problems alike.</p>\n");
    cop__plot_legend(html, section);
    cop__html_put(html, "<div style=\"display:flex;flex-wrap:wrap;gap:8px 24px\">\n");
    put_plot(html, &load, COP_SET_LATENCY, "mean latency of a problem",
             "Mean latency of a problem against the number of problems at once");
    put_plot(html, &load, COP_SET_RATE, "problems per second",
             "Problems per second against the number of problems at once");
    cop__html_put(html, "</div>\n");
    put_crossings(html, &load);
    put_load_table(html, &load);
}
