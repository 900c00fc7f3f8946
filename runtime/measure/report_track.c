#include "measure/report_track.h"

#include <math.h>
#include <stdio.h>

enum {
    WIDTH = 1040,
    RIGHT = 66, /* room for the token count of a branch that ends last */
    CURVE_GAP = 26,
    CURVE_HEIGHT = 62,
    AXIS_HEIGHT = 24,
    BINS = 700,
    LABEL_MAX = 16,
};

typedef struct plot {
    cop__html *html;
    const cop__trace *trace;
    double left, scale, pitch, bar; /* pixels; scale in pixels for each microsecond */
    double tracks_height;
} plot;

static double x_of(const plot *p, double t) {
    return p->left + t * p->scale;
}

static double y_of(const plot *p, const cop__track *track) {
    return 6 + (track->row + 0.5) * p->pitch;
}

static const cop__track *track_of(const cop__trace *trace, double tid) {
    for (uint32_t i = 0; i < trace->n_tracks; i++)
        if (trace->tracks[i].tid == tid)
            return &trace->tracks[i];
    return NULL;
}

static bool waits(const cop__trace *trace, double tid) {
    for (uint32_t i = 0; i < trace->n_waits; i++)
        if (trace->waits[i].tid == tid)
            return true;
    return false;
}

static void put_time_axis(const plot *p, double end, double height) {
    double step = cop__tick_step(end, 8);
    char text[COP_NUMBER_BYTES];
    for (int i = 0; i * step <= end * 1.0001; i++) {
        double x = x_of(p, i * step);
        cop__tick(i * step / 1e3, cop__time_unit(end / 1e3), text);
        cop__html_printf(p->html,
                         "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"2\" y2=\"%.1f\"/>"
                         "<text class=\"soft mid\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                         x, x, height, x, height + 15, text);
    }
}

static void put_track(const plot *p, const cop__track *track) {
    static const char *const ends[] = {"done", "pruned", "cancelled", "failed"};
    double x = x_of(p, track->begin), y = y_of(p, track), half = p->bar / 2;
    double width = fmax((track->end - track->begin) * p->scale, 1.5);
    char tokens[COP_NUMBER_BYTES];
    cop__number(track->tokens, COP_UNIT_COUNT, tokens);
    if (p->pitch >= 11) {
        cop__html_printf(p->html, "<text class=\"soft end\" x=\"%.1f\" y=\"%.1f\">", p->left - 8,
                         y + 4);
        cop__html_text_cut(p->html, track->label, LABEL_MAX);
        cop__html_put(p->html, "</text>");
    }
    cop__html_printf(p->html,
                     "<rect class=\"%s\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\">"
                     "<title>",
                     track->how == COP_TRACK_DONE ? "bar" : "lost", x, y - half, width, p->bar);
    cop__html_text_cut(p->html, track->label, 64);
    cop__html_printf(p->html, ": %s tokens, %s</title></rect>\n", tokens, ends[track->how]);
    if (track->how == COP_TRACK_PRUNED || track->how == COP_TRACK_FAILED) {
        double arm = fmin(half, 4);
        cop__html_printf(p->html,
                         "<path class=\"cross\" d=\"M%.2f %.2fl%.1f %.1fm0 %.1fl%.1f %.1f"
                         "\"/>\n",
                         x + width - arm, y - arm, 2 * arm, 2 * arm, -2 * arm, -2 * arm, 2 * arm);
    } else if (track->how == COP_TRACK_CANCELLED) {
        cop__html_printf(p->html, "<path class=\"cross\" d=\"M%.2f %.2fv%.1f\"/>\n", x + width,
                         y - half - 1, p->bar + 2);
    }
}

/* Inside a bar that has room, or behind the last branch to end. */
static void put_tokens(const plot *p, const cop__track *track) {
    char text[COP_NUMBER_BYTES];
    double x = x_of(p, track->begin), width = (track->end - track->begin) * p->scale;
    double y = y_of(p, track) + 4;
    if (p->pitch < 15 || !(track->tokens > 0))
        return;
    cop__number(track->tokens, COP_UNIT_COUNT, text);
    if (track->up < 0)
        cop__html_printf(p->html, "<text class=\"soft\" x=\"%.1f\" y=\"%.1f\">%s tok</text>\n",
                         x + width + 7, y, text);
    else if (width >= 66 && !waits(p->trace, track->tid) && track->how == COP_TRACK_DONE)
        cop__html_printf(p->html,
                         "<text class=\"mid in0\" style=\"font-size:10.5px\" x=\"%.1f\" "
                         "y=\"%.1f\">%s tok</text>\n",
                         x + width / 2, y - 0.4, text);
}

static void put_wait(const plot *p, const cop__wait *wait) {
    const cop__track *track = track_of(p->trace, wait->tid);
    if (!track)
        return;
    cop__html_printf(p->html,
                     "<rect class=\"wait\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\">"
                     "<title>waits for its children</title></rect>\n",
                     x_of(p, wait->begin), y_of(p, track) - p->bar / 2,
                     fmax((wait->end - wait->begin) * p->scale, 0.5), p->bar);
}

/* A fork drops from the parent to the child's beginning; a join runs from the child's end along its
 * own row, for as long as it waits for siblings, and rises to the parent. */
static void put_flow(const plot *p, const cop__flow *flow) {
    const cop__track *from = track_of(p->trace, flow->from_tid);
    const cop__track *to = track_of(p->trace, flow->to_tid);
    if (!from || !to || from == to)
        return;
    double x0 = x_of(p, flow->from), x1 = x_of(p, flow->to), half = p->bar / 2;
    double y0 = y_of(p, from), y1 = y_of(p, to);
    y1 += y1 > y0 ? -half : half;
    if (flow->join) {
        cop__html_printf(p->html,
                         "<path class=\"joinline\" d=\"M%.2f %.2fH%.2fV%.2f\" "
                         "marker-end=\"url(#join)\"/>\n",
                         x0, y0, x1, y1);
    } else {
        y0 += y1 > y0 ? half : -half;
        cop__html_printf(p->html,
                         "<path class=\"forkline\" d=\"M%.2f %.2fV%.2fH%.2fV%.2f\" "
                         "marker-end=\"url(#fork)\"/>\n",
                         x0, y0, (y0 + y1) / 2, x1, y1);
    }
}

/* Pages held over time: steps, the highest value of each pixel column. */
static void put_curve(const plot *p, double end, double top) {
    double bins[BINS], last = 0, bottom = top + CURVE_HEIGHT;
    const cop__trace *trace = p->trace;
    double unit = CURVE_HEIGHT / (trace->pages_peak > 0 ? trace->pages_peak : 1);
    char peak[COP_NUMBER_BYTES];
    for (int i = 0; i < BINS; i++)
        bins[i] = -1;
    for (uint32_t i = 0; i < trace->n_pages; i++) {
        int bin = (int)(trace->pages[i].t / end * (BINS - 1));
        bins[bin] = fmax(bins[bin], trace->pages[i].pages);
    }
    cop__number(trace->pages_peak, COP_UNIT_COUNT, peak);
    cop__html_printf(p->html,
                     "<text class=\"soft\" x=\"%.1f\" y=\"%.1f\">KV pages held</text>"
                     "<line class=\"grid\" x1=\"%.1f\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                     "<text class=\"soft end\" x=\"%.1f\" y=\"%.1f\">%s</text>"
                     "<text class=\"soft end\" x=\"%.1f\" y=\"%.1f\">0</text>"
                     "<path class=\"curve\" d=\"M%.2f %.2f",
                     p->left + 4, top - 6, p->left, WIDTH - RIGHT, top, top, p->left - 8, top + 4,
                     peak, p->left - 8, bottom + 1, p->left, bottom);
    for (int i = 0; i < BINS; i++) {
        if (bins[i] < 0 || (bins[i] == last && i > 0))
            continue;
        last = bins[i];
        cop__html_printf(p->html, "H%.1fV%.1f", x_of(p, i * end / (BINS - 1)),
                         bottom - last * unit);
    }
    cop__html_printf(p->html, "H%.1fV%.1fz\"><title>KV pages held, peak %s</title></path>\n",
                     x_of(p, trace->end), bottom, peak);
    cop__html_printf(p->html,
                     "<line class=\"axis\" x1=\"%.1f\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
                     p->left, WIDTH - RIGHT, bottom, bottom);
}

static void put_caption(cop__html *html, const cop__trace *trace) {
    char wall[COP_NUMBER_BYTES];
    cop__number(trace->end / 1e3, cop__time_unit(trace->end / 1e3), wall);
    cop__html_put(html, "<p class=\"small\" style=\"margin:14px 0 0\"><b>");
    cop__html_text_cut(html, trace->cell->method, 40);
    cop__html_printf(html, "</b> <span class=\"soft\">%s, %u branch%s", wall,
                     trace->n_tracks + trace->tracks_left_out,
                     trace->n_tracks + trace->tracks_left_out == 1 ? "" : "es");
    if (trace->tracks_left_out)
        cop__html_printf(html, " (the first %u are drawn)", trace->n_tracks);
    if (trace->lost > 0)
        cop__html_printf(html, "; <b>%.0f events were lost</b>: the timeline is not complete",
                         trace->lost);
    cop__html_put(html, "</span></p>\n");
}

void cop__track_draw(cop__html *html, const cop__trace *trace, double end) {
    size_t widest = 4;
    for (uint32_t i = 0; i < trace->n_tracks; i++) {
        size_t width = cop__text_width(trace->tracks[i].label);
        widest = width > widest ? width : widest;
    }
    widest = widest > LABEL_MAX ? LABEL_MAX : widest;
    plot p = {.html = html, .trace = trace};
    p.left = (double)widest * 6.6 + 18;
    p.left = p.left < 62 ? 62 : p.left;
    p.scale = (WIDTH - RIGHT - p.left) / end;
    p.pitch = trace->n_tracks <= 24 ? 18 : trace->n_tracks <= 70 ? 12 : 6;
    p.bar = p.pitch * 0.66;
    p.tracks_height = 8 + trace->n_tracks * p.pitch;
    double curve = p.tracks_height + CURVE_GAP, height = curve + CURVE_HEIGHT;
    put_caption(html, trace);
    cop__html_printf(html, "<svg viewBox=\"0 0 %d %.0f\" role=\"img\"><title>Timeline of ", WIDTH,
                     height + AXIS_HEIGHT);
    cop__html_text_cut(html, trace->cell->method, 40);
    cop__html_put(html, ": one track a branch, KV pages beneath</title>\n");
    put_time_axis(&p, end, height);
    for (uint32_t i = 0; i < trace->n_flows; i++)
        if (trace->flows[i].join)
            put_flow(&p, &trace->flows[i]);
    for (uint32_t i = 0; i < trace->n_tracks; i++)
        put_track(&p, &trace->tracks[i]);
    for (uint32_t i = 0; i < trace->n_waits; i++)
        put_wait(&p, &trace->waits[i]);
    for (uint32_t i = 0; i < trace->n_flows; i++)
        if (!trace->flows[i].join)
            put_flow(&p, &trace->flows[i]);
    for (uint32_t i = 0; i < trace->n_tracks; i++)
        put_tokens(&p, &trace->tracks[i]);
    put_curve(&p, end, curve);
    cop__html_put(html, "</svg>\n");
}
