#include "measure/report_problems_plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LABEL_GAP = 16, NAME_MAX_WIDTH = 26 };

cop__axis cop__axis_around(double least, double most, cop__unit unit, const char *title) {
    cop__axis axis = {.from = 0, .to = most > 0 ? most * 1.06 : 1, .unit = unit, .title = title};
    if (least > 0 && most > 6 * least) {
        axis.log = true;
        axis.from = least / 1.12;
        axis.to = most * 1.12;
    }
    return axis;
}

static double share_of(const cop__axis *axis, double value) {
    if (axis->log)
        return log(fmax(value, axis->from) / axis->from) / log(axis->to / axis->from);
    return (value - axis->from) / (axis->to - axis->from);
}

double cop__plot_x(const cop__plot *plot, double value) {
    return plot->left + plot->width * share_of(&plot->x, value);
}

double cop__plot_y(const cop__plot *plot, double value) {
    return plot->top + plot->height * (1 - share_of(&plot->y, value));
}

/* Up to `max` round numbers inside the axis: 1, 2, 5 x 10^k on a logarithmic one, powers of ten
 * alone when those would be too many. */
static uint32_t ticks_of(const cop__axis *axis, double *ticks, uint32_t max) {
    static const double leads[] = {1, 2, 5};
    uint32_t n = 0;
    if (axis->marks) {
        for (; n < axis->n_marks && n < max; n++)
            ticks[n] = axis->marks[n];
        return n;
    }
    if (!axis->log) {
        double step = cop__tick_step(axis->to - axis->from, 5);
        for (double i = ceil(axis->from / step); i * step <= axis->to * 1.0001 && n < max; i++)
            ticks[n++] = i * step;
        return n;
    }
    bool tens = log10(axis->to / axis->from) > 3.5;
    for (double power = floor(log10(axis->from)); power <= log10(axis->to); power++)
        for (int lead = 0; lead < (tens ? 1 : 3); lead++) {
            double tick = pow(10, power) * leads[lead];
            if (tick >= axis->from && tick <= axis->to && n < max)
                ticks[n++] = tick;
        }
    return n;
}

static void put_x_ticks(cop__html *html, const cop__plot *plot) {
    enum { MAX = 40 };
    double ticks[MAX], bottom = plot->top + plot->height, free_from = 0;
    char text[COP_NUMBER_BYTES];
    uint32_t n = ticks_of(&plot->x, ticks, MAX);
    for (uint32_t i = 0; i < n; i++) {
        double x = cop__plot_x(plot, ticks[i]);
        cop__html_printf(html,
                         "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
                         x, x, plot->top, bottom);
        cop__tick(ticks[i], plot->x.unit, text);
        double half = 3.4 * (double)cop__text_width(text);
        if (x - half < free_from)
            continue;
        free_from = x + half + 6;
        cop__html_printf(html, "<text class=\"soft mid\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", x,
                         bottom + 16, text);
    }
    cop__html_printf(html, "<text class=\"soft mid\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                     plot->left + plot->width / 2, bottom + 34, plot->x.title);
}

static void put_y_ticks(cop__html *html, const cop__plot *plot) {
    enum { MAX = 40 };
    double ticks[MAX];
    char text[COP_NUMBER_BYTES];
    uint32_t n = ticks_of(&plot->y, ticks, MAX);
    for (uint32_t i = 0; i < n; i++) {
        double y = cop__plot_y(plot, ticks[i]);
        cop__html_printf(html,
                         "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                         "<text class=\"soft end\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                         plot->left, plot->left + plot->width, y, y, plot->left - 7, y + 4,
                         cop__tick(ticks[i], plot->y.unit, text));
    }
    cop__html_printf(html, "<text class=\"soft\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", 4.0,
                     plot->top - 12, plot->y.title);
}

void cop__plot_begin(cop__html *html, const cop__plot *plot, const char *title) {
    double bottom = plot->top + plot->height;
    cop__html_printf(html,
                     "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" style=\"flex:1 1 420px;"
                     "min-width:0\"><title>%s</title>\n",
                     plot->full_width, bottom + plot->bottom, title);
    put_x_ticks(html, plot);
    put_y_ticks(html, plot);
    cop__html_printf(html,
                     "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
                     plot->left, plot->left + plot->width, bottom, bottom);
}

void cop__plot_end(cop__html *html) {
    cop__html_put(html, "</svg>\n");
}

void cop__plot_stroke(cop__html *html, const cop__section *section, uint32_t method) {
    static const char *const colours[] = {"fg",        "decode",   "prune", "kv",
                                          "straggler", "sampling", "join",  "prefill"};
    static const char *const dashes[] = {"", "7 3", "2 3", "9 3 2 3"};
    enum { COLOURS = sizeof colours / sizeof colours[0] };
    uint32_t at = method + (section->control < 0);
    /* The control's colour is its own: later rounds go without it. */
    uint32_t round = at < COLOURS ? 0 : 1 + (at - COLOURS) / (COLOURS - 1);
    uint32_t colour = round ? 1 + (at - COLOURS) % (COLOURS - 1) : at;
    cop__html_printf(html, "style=\"stroke:var(--%s)\" stroke-width=\"%s\"", colours[colour],
                     colour ? "1.8" : "2.2");
    if (round)
        cop__html_printf(html, " stroke-dasharray=\"%s\"", dashes[1 + (round - 1) % 3]);
}

void cop__plot_legend(cop__html *html, const cop__section *section) {
    cop__html_put(html, "<ul class=\"legend\">");
    for (uint32_t m = 0; m < section->n_methods; m++) {
        cop__html_put(html, "<li><svg width=\"26\" height=\"10\" viewBox=\"0 0 26 10\" "
                            "style=\"width:26px\" aria-hidden=\"true\"><line x1=\"0\" x2=\"26\" "
                            "y1=\"5\" y2=\"5\" ");
        cop__plot_stroke(html, section, m);
        cop__html_put(html, "/></svg>");
        cop__html_text_cut(html, section->methods[m], 40);
        cop__html_put(html, "</li>");
    }
    cop__html_put(html, "</ul>\n");
}

static int by_height(const void *a, const void *b) {
    const cop__end_label *one = a, *other = b;
    double apart = one->y - other->y;
    return apart < 0 ? -1 : apart > 0 ? 1 : one->method < other->method ? -1 : 1;
}

/* Pushes them down until they stand apart, then those that left the plot up again. */
static void spread(cop__end_label *labels, uint32_t n, double top, double bottom) {
    for (uint32_t i = 0; i < n; i++)
        labels[i].place = fmax(labels[i].y, i ? labels[i - 1].place + LABEL_GAP : top);
    for (uint32_t i = n; i-- > 0;)
        labels[i].place =
            fmin(labels[i].place, i + 1 < n ? labels[i + 1].place - LABEL_GAP : bottom);
}

void cop__plot_end_labels(cop__html *html, const cop__plot *plot, const cop__section *section,
                          cop__end_label *labels, uint32_t n, cop__unit unit) {
    double right = plot->left + plot->width;
    char text[COP_NUMBER_BYTES];
    qsort(labels, n, sizeof *labels, by_height);
    spread(labels, n, plot->top, plot->top + plot->height);
    for (uint32_t i = 0; i < n; i++) {
        cop__html_printf(html, "<path d=\"M%.1f %.1fL%.1f %.1fH%.1f\" fill=\"none\" ", right,
                         labels[i].y, right + 14, labels[i].place, right + 22);
        cop__plot_stroke(html, section, labels[i].method);
        cop__html_printf(html, "/><text x=\"%.1f\" y=\"%.1f\">", right + 28, labels[i].place + 4);
        cop__html_text_cut(html, section->methods[labels[i].method], NAME_MAX_WIDTH);
        cop__html_printf(html, " <tspan style=\"font-weight:600\">%s</tspan></text>\n",
                         cop__number(labels[i].value, unit, text));
    }
}
