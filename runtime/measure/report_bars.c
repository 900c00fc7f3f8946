/* Horizontal bars: where the time went, and how many KV bytes each method read. */
#include <math.h>
#include <stdio.h>

#include "measure/report_parts.h"

enum { WIDTH = 1040, RIGHT = 118, TEXT_UNITS = 7, GUTTER_MAX = 230, AXIS_HEIGHT = 34 };

static double gutter_of(const cop__section *section) {
    size_t widest = 0;
    for (uint32_t m = 0; m < section->n_methods; m++) {
        size_t width = cop__text_width(section->methods[m]);
        widest = width > widest ? width : widest;
    }
    double gutter = (double)widest * TEXT_UNITS + 18;
    return gutter < 70 ? 70 : gutter > GUTTER_MAX ? GUTTER_MAX : gutter;
}

static void put_method(cop__html *html, const char *method, double gutter, double y) {
    cop__html_printf(html, "<text class=\"end\" x=\"%.1f\" y=\"%.1f\">", gutter - 10, y);
    cop__html_text_cut(html, method, (GUTTER_MAX - 18) / TEXT_UNITS);
    cop__html_put(html, "</text>\n");
}

/* Grid lines and their values under a plot that is `height` high. */
static void put_axis(cop__html *html, double left, double max, double scale, double height,
                     cop__unit unit) {
    double step = cop__tick_step(max, 6);
    char text[COP_NUMBER_BYTES];
    for (int i = 0; i * step <= max * 1.0001; i++) {
        double x = left + i * step * scale;
        cop__html_printf(html,
                         "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"4\" y2=\"%.1f\"/>"
                         "<text class=\"soft mid\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                         x, x, height, x, height + 16, cop__tick(i * step, unit, text));
    }
}

static double or_zero(double value) {
    return isfinite(value) && value > 0 ? value : 0;
}

static double wall_max(const cop__section *section) {
    double max = 0;
    for (uint32_t m = 0; m < section->n_methods; m++) {
        double sum = 0, wall = or_zero(cop__section_mean(section, m, COP_FIG_WALL));
        for (int f = COP_FIG_TERM_FIRST; f <= COP_FIG_TERM_LAST; f++)
            sum += or_zero(cop__section_mean(section, m, (cop__figure)f));
        max = fmax(max, fmax(sum, wall));
    }
    return max;
}

/* The seven terms and the remainder, left to right; a part that is wide enough names its share. */
static void put_terms(cop__html *html, const cop__section *section, uint32_t m, double left,
                      double y, double scale, cop__unit unit) {
    static const bool dark[] = {false, true, false, true, true, false, true, false};
    double x = left, wall = cop__section_mean(section, m, COP_FIG_WALL);
    char text[COP_NUMBER_BYTES], share[COP_NUMBER_BYTES];
    for (int i = 0; i < 8; i++) {
        cop__figure f = (cop__figure)(COP_FIG_TERM_FIRST + i); /* the remainder stands last */
        const cop__figure_info *info = cop__figure_info_of(f);
        double value = or_zero(cop__section_mean(section, m, f)), width = value * scale;
        if (width <= 0)
            continue;
        cop__number(value, unit, text);
        cop__number(value / wall, COP_UNIT_SHARE, share);
        cop__html_printf(html,
                         "<rect class=\"t%d\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"22\">"
                         "<title>%s: %s (%s)</title></rect>",
                         i, x, y, width, info->name, text, share);
        if (width >= 46)
            cop__html_printf(html, "<text class=\"mid in%d\" x=\"%.1f\" y=\"%.1f\">%.0f %%</text>",
                             dark[i], x + width / 2, y + 15.5, 100 * value / wall);
        x += width;
    }
    cop__html_printf(html, "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", x + 8, y + 15.5,
                     cop__number(wall, unit, text));
}

static bool put_modelled(cop__html *html, const cop__section *section, uint32_t m, double left,
                         double y, double scale, cop__unit unit) {
    double solo = cop__section_mean(section, m, COP_FIG_SOLO);
    double tax = cop__section_mean(section, m, COP_FIG_TAX);
    if (!isfinite(solo) || !isfinite(tax) || solo + tax <= 0)
        return false;
    /* The split covers decode + straggler, so it stands under them. */
    double x = left + or_zero(cop__section_mean(section, m, COP_FIG_PREFILL)) * scale;
    char solo_text[COP_NUMBER_BYTES], tax_text[COP_NUMBER_BYTES];
    cop__number(solo, unit, solo_text);
    cop__number(tax, unit, tax_text);
    double solo_width = or_zero(solo) * scale, tax_width = or_zero(tax) * scale;
    cop__html_printf(html,
                     "<rect class=\"solo\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"7\">"
                     "<title>modelled solo: %s</title></rect><rect class=\"tax\" x=\"%.2f\" "
                     "y=\"%.1f\" width=\"%.2f\" height=\"7\"><title>modelled batching tax: "
                     "%s</title></rect><text class=\"soft\" x=\"%.1f\" y=\"%.1f\">modelled: solo "
                     "%s + batching tax %s</text>\n",
                     x, y + 25, solo_width, solo_text, x + solo_width, y + 25, tax_width, tax_text,
                     left, y + 44, solo_text, tax_text);
    return true;
}

static void put_time_legend(cop__html *html) {
    static const char *const names[] = {"prefill", "decode",   "straggler", "fork",
                                        "join",    "sampling", "host",      "remainder"};
    cop__html_put(html, "<ul class=\"legend\">");
    for (int i = 0; i < 8; i++)
        cop__html_printf(html, "<li><i class=\"t%d\"></i><a href=\"#%s\">%s</a></li>", i,
                         cop__figure_info_of((cop__figure)(COP_FIG_TERM_FIRST + i))->name,
                         names[i]);
    cop__html_put(html, "<li><i class=\"solo\"></i><i class=\"tax\"></i>modelled split of decode + "
                        "straggler: solo | batching tax</li></ul>\n");
}

void cop__report_time_bars(cop__html *html, const cop__section *section) {
    double max = wall_max(section);
    cop__html_put(html, "<h3>Where the time went</h3>\n");
    if (max <= 0) {
        cop__html_put(html, "<p class=\"soft\">No wall clock is recorded for problems that every "
                            "method completed.</p>\n");
        return;
    }
    double left = gutter_of(section), scale = (WIDTH - left - RIGHT) / max;
    double row = 58, height = section->n_methods * row + 2;
    cop__html_printf(html,
                     "<p class=\"small soft\">Mean over %u %s%s. Every term is timed; only "
                     "the remainder is a difference. The thin bar below splits decode + straggler "
                     "by the calibrated cost function: it is <b>modelled</b>, not measured.</p>",
                     section->n_common, cop__section_noun(section),
                     section->n_common == 1 ? "" : "s");
    put_time_legend(html);
    cop__html_printf(html,
                     "<svg viewBox=\"0 0 %d %.0f\" role=\"img\"><title>Wall clock by term, one "
                     "bar a method</title>\n",
                     WIDTH, height + AXIS_HEIGHT);
    put_axis(html, left, max, scale, height, cop__time_unit(max));
    for (uint32_t m = 0; m < section->n_methods; m++) {
        double y = m * row + 8;
        put_method(html, section->methods[m], left, y + 15.5);
        if (!isfinite(cop__section_mean(section, m, COP_FIG_WALL)))
            continue;
        put_terms(html, section, m, left, y, scale, cop__time_unit(max));
        if (!put_modelled(html, section, m, left, y, scale, cop__time_unit(max)))
            cop__html_printf(html,
                             "<text class=\"soft\" x=\"%.1f\" y=\"%.1f\">no modelled split</text>",
                             left, y + 44);
    }
    cop__html_put(html, "</svg>\n");
}

void cop__report_kv_bars(cop__html *html, const cop__section *section) {
    static const struct {
        cop__figure figure;
        const char *style, *name;
    } bars[] = {{COP_FIG_KV_MIN, "kmin", "minimum"},
                {COP_FIG_KV_FIRST, "kfirst", "first touches"},
                {COP_FIG_KV_LOAD, "kload", "loads"}};
    double max = 0;
    for (uint32_t m = 0; m < section->n_methods; m++)
        for (int i = 0; i < 3; i++)
            max = fmax(max, or_zero(cop__section_mean(section, m, bars[i].figure)));
    if (max <= 0)
        return;
    double left = gutter_of(section), scale = (WIDTH - left - RIGHT) / max;
    double row = 50, height = section->n_methods * row + 2;
    char text[COP_NUMBER_BYTES];
    cop__html_put(html, "<ul class=\"legend\">");
    for (int i = 0; i < 3; i++)
        cop__html_printf(html, "<li><i class=\"%s\"></i><a href=\"#%s\">%s</a></li>", bars[i].style,
                         cop__figure_info_of(bars[i].figure)->name, bars[i].name);
    cop__html_printf(html,
                     "</ul>\n<svg viewBox=\"0 0 %d %.0f\" role=\"img\"><title>KV bytes, one group "
                     "of bars a method</title>\n",
                     WIDTH, height + AXIS_HEIGHT);
    put_axis(html, left, max, scale, height, COP_UNIT_BYTES);
    for (uint32_t m = 0; m < section->n_methods; m++) {
        double y = m * row + 6;
        put_method(html, section->methods[m], left, y + 23);
        for (int i = 0; i < 3; i++, y += 13) {
            double value = cop__section_mean(section, m, bars[i].figure);
            cop__number(value, COP_UNIT_BYTES, text);
            cop__html_printf(html,
                             "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" "
                             "height=\"11\"><title>%s: %s</title></rect><text class=\"soft\" "
                             "x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                             bars[i].style, left, y, or_zero(value) * scale, bars[i].name, text,
                             left + or_zero(value) * scale + 7, y + 9.5, text);
        }
    }
    cop__html_put(html, "</svg>\n");
}
