/* The page of `coppice joins`: for each trajectory a plot of the divergence behind the joins and
 * the tables beside it. */
#include <math.h>
#include <stdio.h>

#include "measure/joins_table.h"
#include "measure/report_html.h"
#include "measure/report_problems_plot.h"
#include "measure/results_file.h"

enum { BINS_MAX = 33 };

/* Mean divergence of a contrast over tokens at a distance of 1, 2, 3-4, 5-8, .. behind a join. */
typedef struct curve {
    double kl[BINS_MAX], at[BINS_MAX];
    uint32_t tokens[BINS_MAX];
} curve;

static uint32_t bin_of(uint32_t after) {
    uint32_t bin = 0;
    while (after > 1u << bin && bin + 1 < BINS_MAX)
        bin++;
    return bin;
}

static curve curve_of(const cop_joins_table *table, uint32_t contrast) {
    curve c = {0};
    for (uint32_t i = 0; i < table->n_tokens; i++) {
        const uint32_t bin = bin_of(table->tokens[i].after);
        const double kl = table->rows[(size_t)i * table->n_contrasts + contrast].kl;
        if (isnan(kl))
            continue;
        c.kl[bin] += kl;
        c.at[bin] += table->tokens[i].after;
        c.tokens[bin]++;
    }
    for (uint32_t b = 0; b < BINS_MAX; b++) {
        c.kl[b] /= c.tokens[b] ? c.tokens[b] : 1;
        c.at[b] /= c.tokens[b] ? c.tokens[b] : 1;
    }
    return c;
}

/* The contrasts as the methods of a section, for the plot's colours and labels. */
static cop__section section_of(const cop_joins_table *table) {
    cop__section section = {.control = -1};
    for (uint32_t c = 0; c < table->n_contrasts; c++)
        section.methods[section.n_methods++] = table->contrasts[c].name;
    return section;
}

static void put_curve(cop__html *html, const cop__plot *plot, const cop__section *section,
                      uint32_t contrast, const curve *c) {
    char text[COP_NUMBER_BYTES];
    bool any = false;
    for (uint32_t b = 0; b < BINS_MAX; b++)
        if (c->tokens[b]) {
            cop__html_printf(html, "%s%.1f %.1f", any ? "L" : "<path fill=\"none\" d=\"M",
                             cop__plot_x(plot, c->at[b]), cop__plot_y(plot, c->kl[b]));
            any = true;
        }
    if (!any)
        return;
    cop__html_put(html, "\" ");
    cop__plot_stroke(html, section, contrast);
    cop__html_put(html, "/>\n");
    for (uint32_t b = 0; b < BINS_MAX; b++)
        if (c->tokens[b]) {
            cop__html_printf(html, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\" fill=\"var(--bg)\" ",
                             cop__plot_x(plot, c->at[b]), cop__plot_y(plot, c->kl[b]));
            cop__plot_stroke(html, section, contrast);
            cop__html_printf(html,
                             "><title>%s, %s tokens behind the join: %.3g nats (%u "
                             "tokens)</title></circle>\n",
                             section->methods[contrast],
                             cop__number(c->at[b], COP_UNIT_COUNT, text), c->kl[b], c->tokens[b]);
        }
}

/* The vertical axis is logarithmic, and 0 lies on its floor: at most 17 powers of ten below. */
static void put_plot(cop__html *html, const cop_joins_table *table) {
    const cop__section section = section_of(table);
    double marks[16], least = INFINITY, most = 0, last = 1;
    uint32_t n_marks = 0;
    for (uint32_t c = 0; c < table->n_contrasts; c++) {
        const curve points = curve_of(table, c);
        for (uint32_t b = 0; b < BINS_MAX; b++) {
            if (points.tokens[b] && points.kl[b] > 0)
                least = fmin(least, points.kl[b]);
            if (points.tokens[b]) {
                most = fmax(most, points.kl[b]);
                last = fmax(last, points.at[b]);
            }
        }
    }
    if (!(most > 0))
        return;
    const double top = pow(10, ceil(log10(most) + 0.01));
    const double floor_y = pow(10, fmax(floor(log10(least)), log10(top) - 16) - 1);
    for (double mark = 1; mark <= last * 1.01 && n_marks < 16; mark *= 2)
        marks[n_marks++] = mark;
    cop__plot plot = {.left = 70,
                      .top = 30,
                      .width = 700,
                      .height = 400,
                      .full_width = 1040,
                      .bottom = 46,
                      .x = {.from = 0.9,
                            .to = fmax(last * 1.1, 2),
                            .log = true,
                            .title = "tokens behind the join (means of 1, 2, 3–4, 5–8, ..)",
                            .marks = marks,
                            .n_marks = n_marks},
                      .y = {.from = floor_y,
                            .to = top,
                            .log = true,
                            .unit = COP_UNIT_SMALL,
                            .title = "mean KL divergence, nats; 0 lies on the floor"}};
    cop__plot_begin(html, &plot, "KL divergence by the distance behind the join");
    cop__end_label labels[COP_JOINS_CONTRASTS];
    uint32_t n_labels = 0;
    for (uint32_t c = 0; c < table->n_contrasts; c++) {
        const curve points = curve_of(table, c);
        put_curve(html, &plot, &section, c, &points);
        for (uint32_t b = BINS_MAX; b-- > 0;)
            if (points.tokens[b]) {
                labels[n_labels++] = (cop__end_label){
                    .method = c, .y = cop__plot_y(&plot, points.kl[b]), .value = points.kl[b]};
                break;
            }
    }
    cop__plot_end_labels(html, &plot, &section, labels, n_labels, COP_UNIT_SMALL);
    cop__plot_end(html);
}

static void put_small(cop__html *html, double value) {
    cop__html_cell(html, value, COP_UNIT_SMALL);
}

static void put_contrasts(cop__html *html, const cop_joins_table *table) {
    static const char *const titles[] = {"Against re-prefill", "One difference alone",
                                         "No difference in method: what is noise"};
    cop__html_put(html,
                  "<div class=\"scroll\"><table><thead><tr><th>contrast</th><th>what differs</th>"
                  "<th class=\"n\">KL mean</th><th class=\"n\">median</th><th class=\"n\">max</th>"
                  "<th class=\"n\">largest logit difference</th><th class=\"n\">same top token</th>"
                  "<th class=\"n\">log-prob. change</th></tr></thead>\n");
    for (cop_joins_kind kind = COP_JOINS_AGAINST_REFERENCE; kind <= COP_JOINS_BAND; kind++) {
        cop__html_printf(html, "<tbody><tr><th colspan=\"8\">%s</th></tr>\n", titles[kind]);
        for (uint32_t c = 0; c < table->n_contrasts; c++) {
            cop_joins_summary s;
            if (table->contrasts[c].kind != kind)
                continue;
            if (html->status == COP_OK)
                html->status = cop_joins_summarise(table, c, &s);
            if (html->status != COP_OK)
                return;
            cop__html_printf(html,
                             "<tr><td style=\"white-space:nowrap\"><code>%s</code></td><td>%s</td>",
                             table->contrasts[c].name, table->contrasts[c].what);
            put_small(html, s.kl_mean);
            put_small(html, s.kl_p50);
            put_small(html, s.kl_max);
            put_small(html, s.logit_diff_max);
            cop__html_cell(html, s.same_top_share, COP_UNIT_SHARE);
            put_small(html, s.logprob_change);
            cop__html_put(html, "</tr>\n");
        }
        cop__html_put(html, "</tbody>\n");
    }
    cop__html_put(html, "</table></div>\n");
}

static void put_tracks(cop__html *html, const cop_joins_table *table) {
    cop__html_put(html, "<div class=\"scroll\"><table><thead><tr><th>track</th><th>keys</th>"
                        "<th>siblings</th><th>positions</th><th>in</th>"
                        "<th class=\"n\">log-prob.</th><th class=\"n\">joins</th>"
                        "<th class=\"n\">again</th><th class=\"n\">KV written</th>"
                        "<th class=\"n\">KV read</th><th class=\"n\">KV in view</th>"
                        "</tr></thead><tbody>\n");
    for (uint32_t t = 0; t < table->n_tracks; t++) {
        const cop_joins_track *track = &table->tracks[t];
        cop__html_printf(
            html,
            "<tr "
            "style=\"white-space:nowrap\"><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td>",
            track->name, track->keys, track->siblings, track->positions, track->compute);
        put_small(html, cop_joins_logprob_mean(table, t));
        cop__html_cell(html, (double)track->join_ns / 1e6, COP_UNIT_MS);
        cop__html_cell(html, (double)track->tokens_recomputed, COP_UNIT_COUNT);
        cop__html_cell(html, (double)track->kv_written, COP_UNIT_BYTES);
        cop__html_cell(html, (double)track->kv_read, COP_UNIT_BYTES);
        cop__html_cell(html, (double)track->kv_seen, COP_UNIT_BYTES);
        cop__html_put(html, "</tr>\n");
    }
    cop__html_put(
        html,
        "</tbody></table></div>\n<p class=\"soft small\">Keys: of the paths, in the view of the "
        "text behind the join: kept as the branches made them, or computed again. Log-prob.: "
        "of the recorded tokens, mean, nats. Joins: time in them. Again: tokens that joins "
        "computed again. KV written and read: by joins. KV in view: of the text's last "
        "token.</p>\n");
}

static void put_table(cop__html *html, const cop_joins_table *table) {
    cop__html_put(html, "<h2>");
    cop__html_text(html, table->trajectory);
    cop__html_put(html, "</h2>\n<p>Dialect ");
    cop__html_text(html, table->dialect);
    cop__html_put(html, "; weights ");
    cop__html_text(html, table->model);
    cop__html_printf(html, "%s; tokens: ", table->random_weights ? " (<b>random</b>)" : "");
    cop__html_text(html, table->tokens_from);
    cop__html_printf(html, ". %u tokens behind %u join%s are compared%s.</p>\n", table->n_tokens,
                     table->joins, table->joins == 1 ? "" : "s",
                     table->extrapolated ? ", <b>past the model's context</b>" : "");
    if (table->n_tokens == 0) {
        cop__html_put(html, "<p>No text follows a join: there is nothing to compare.</p>\n");
        return;
    }
    put_plot(html, table);
    put_contrasts(html, table);
    put_tracks(html, table);
    for (uint32_t i = 0; i < table->n_omitted; i++) {
        cop__html_put(html, "<p class=\"soft\">Left out: ");
        cop__html_text(html, table->omitted[i]);
        cop__html_put(html, "</p>\n");
    }
}

cop_status cop_joins_page(const cop_joins_table *tables, uint32_t n, const char *path) {
    cop__html html = {0};
    cop__html_begin(&html, "Ways to join, on one set of weights");
    cop__html_put(&html, "<h1>Ways to join, on one set of weights</h1>\n<p class=\"warn\">");
    cop__html_text(&html, cop_joins_caution);
    cop__html_put(
        &html,
        "</p>\n<p>The recorded tokens are forced through every track, and the next-token "
        "distributions behind each join are compared row by row: D(base || other), in nats, in "
        "double precision over the whole vocabulary. What is no larger than the bands of the "
        "siblings' order under stitch and of the arithmetic is noise: there, rounding alone "
        "differs. The siblings' order under re-prefill is no rounding, but another text that says "
        "the same: what is no larger than that band is no more than the order does. "
        "Time and bytes are those of joins alone, on the host's cpu, branches run one after the "
        "other; <code>coppice replay</code> times decoding.</p>\n");
    for (uint32_t i = 0; i < n; i++)
        put_table(&html, &tables[i]);
    cop__html_end(&html);
    cop_status status = html.status;
    if (status == COP_OK)
        status = cop__file_replace(path, html.out.data, html.out.bytes);
    cop_buffer_release(&html.out);
    return status;
}
