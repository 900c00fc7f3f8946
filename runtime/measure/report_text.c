/* The words of a report: what was measured, on what, what to be careful about. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure/report_parts.h"

static bool any_cell(const cop__report *report, bool (*is)(const cop__cell *cell)) {
    for (size_t i = 0; i < report->n_sections; i++) {
        const cop__section *section = report->sections[i];
        for (uint32_t p = 0; p < section->n_problems; p++)
            for (uint32_t m = 0; m < section->n_methods; m++) {
                const cop__cell *cell = cop__section_cell(section, p, m);
                if (cell && is(cell))
                    return true;
            }
    }
    return false;
}

static bool is_random(const cop__cell *cell) {
    return cell->random;
}

static bool is_extrapolated(const cop__cell *cell) {
    return cell->extrapolated;
}

static bool has_placeholders(const cop__cell *cell) {
    return cop__cell_has_placeholders(cell);
}

static bool is_invalid(const cop__cell *cell) {
    return cell->invalid;
}

static bool is_leaking(const cop__cell *cell) {
    return cell->value[COP_FIG_PAGES_LEAKED] > 0 || cell->value[COP_FIG_ALLOCATIONS] > 0 ||
           cell->value[COP_FIG_DEVICE_ALLOCATIONS] > 0;
}

static bool is_drifting(const cop__cell *cell) {
    return fabs(cell->value[COP_FIG_REMAINDER_SHARE]) > 0.01;
}

static bool is_mispredicted(const cop__cell *cell) {
    const double *v = cell->value;
    return (isfinite(v[COP_FIG_KV_PREDICTED]) && isfinite(v[COP_FIG_KV_LOAD]) &&
            v[COP_FIG_KV_PREDICTED] != v[COP_FIG_KV_LOAD]) ||
           (isfinite(v[COP_FIG_KV_PREDICTED_FIRST]) && isfinite(v[COP_FIG_KV_FIRST]) &&
            v[COP_FIG_KV_PREDICTED_FIRST] != v[COP_FIG_KV_FIRST]);
}

static const struct {
    bool (*is)(const cop__cell *cell);
    const char *text;
} warnings[] = {
    {is_extrapolated,
     "<b>Extrapolated positions.</b> Some problems are longer than the model's context when "
     "flattened. Their times and bytes stand; what the model computes there is not meaningful. "
     "They are marked †."},
    {has_placeholders,
     "<b>Placeholder ids.</b> Some problems were run with ids drawn at random, since only token "
     "counts were kept or the model has no tokenizer. Shapes, times and bytes are those of the "
     "recorded tree; the text is not. They are marked ‡."},
    {is_invalid,
     "<b>Invalid cells.</b> Rows held values that are not finite; those cells must not be used. "
     "They are marked invalid."},
    {is_leaking, "<b>A promise was broken:</b> pages were held after the end, or memory was "
                 "allocated inside the step loop. See the table of all figures."},
    {is_drifting, "<b>The timers miss more than 1 %</b> of the wall clock of some cells: see "
                  "<code>time.remainder_share</code> in the table of every cell."},
    {is_mispredicted, "<b>Counted KV bytes differ from the plan's prediction</b> in some cells: "
                      "see <code>kv.predicted_load_bytes</code>."},
};

static bool model_is_random(const cop__report *report) {
    return json_is_true(cop__json_at(report->manifest, "model.random")) ||
           json_is_true(cop__json_at(report->manifest, "model.random_weights")) ||
           json_is_true(cop__json_at(report->manifest, "random")) || any_cell(report, is_random);
}

static bool any_clock(const cop__report *report, const char *clock) {
    for (size_t i = 0; i < report->n_sections; i++)
        if (strcmp(report->sections[i]->clock, clock) == 0)
            return true;
    return false;
}

static bool any_measured(const cop__report *report) {
    return any_clock(report, "wall");
}

static void put_warnings(cop__html *html, const cop__report *report) {
    if (model_is_random(report))
        cop__html_printf(html,
                         "<p class=\"warn\"><b>RANDOM WEIGHTS.</b> The model's shape is real, its "
                         "weights are random numbers: texts, answers and log-probabilities mean "
                         "nothing. %s do, since they depend on the shape alone.</p>\n",
                         any_measured(report) ? "Times, passes and bytes" : "Passes and bytes");
    if (any_clock(report, "virtual"))
        cop__html_put(html, "<p class=\"warn\"><b>VIRTUAL CLOCK.</b> No time under a method named "
                            "<i>virtual</i> was measured: a cost model of the described device "
                            "advanced the clock.</p>\n");
    if (any_clock(report, "emulated"))
        cop__html_put(html, "<p class=\"warn\"><b>EMULATED DEVICE.</b> A program on the host stood "
                            "in for the device of every method named <i>emulated</i>. Tokens, "
                            "bytes and counts are what the device's code does; its times mean "
                            "nothing.</p>\n");
    if (json_is_true(cop__json_at(report->manifest, "environment.coppice.sanitized")))
        cop__html_put(html, "<p class=\"warn\"><b>Sanitized build.</b> Times are not "
                            "representative.</p>\n");
    for (size_t i = 0; i < sizeof warnings / sizeof warnings[0]; i++)
        if (any_cell(report, warnings[i].is))
            cop__html_printf(html, "<p class=\"warn\">%s</p>\n", warnings[i].text);
}

static const char *first_of(const cop__report *report, const char *const paths[]) {
    for (; *paths; paths++) {
        const char *text = cop__json_text_at(report, report->manifest, *paths, "");
        if (*text && strcmp(text, "0") != 0) /* 0 stands for a default that comes later */
            return text;
    }
    return "";
}

/* "label: <b>value</b>" as one item of the line under the title; nothing when it is not known. */
static void put_fact(cop__html *html, const char *label, const char *value, const char *unit) {
    if (!*value)
        return;
    cop__html_printf(html, "%s <b>", label);
    cop__html_text_cut(html, value, 120);
    cop__html_printf(html, "</b>%s", unit);
}

static void put_what(cop__html *html, const cop__report *report) {
    cop__html_printf(
        html,
        "<p class=\"lead\">This folder holds %llu %s%s: ", (unsigned long long)report->n_lines,
        any_measured(report) ? "measurement" : "result", report->n_lines == 1 ? "" : "s");
    for (size_t i = 0; i < report->n_sections; i++) {
        const cop__section *section = report->sections[i];
        cop__html_put(html, i ? "; " : "");
        cop__html_printf(html, "%u %s%s by %u method%s (", section->n_problems,
                         cop__section_noun(section), section->n_problems == 1 ? "" : "s",
                         section->n_methods, section->n_methods == 1 ? "" : "s");
        for (uint32_t m = 0; m < section->n_methods && m < 8; m++) {
            cop__html_put(html, m ? ", " : "");
            cop__html_text_cut(html, section->methods[m], 40);
        }
        cop__html_put(html, ")");
    }
    cop__html_put(html, ". ");
}

static void put_machine(cop__html *html, const cop__report *report) {
    const char *backend = first_of(report, (const char *const[]){"backend", NULL});
    const char *device = first_of(report, (const char *const[]){"device", NULL});
    const char *cpu = first_of(report, (const char *const[]){"environment.cpu.model", NULL});
    if (*device && strcmp(backend, "cpu") != 0) {
        put_fact(html, ", on", device, "");
        put_fact(html, ", backend", backend, "");
        put_fact(html, " with", first_of(report, (const char *const[]){"products", NULL}),
                 " products");
        if (json_is_true(cop__json_at(report->manifest, "eager")))
            cop__html_put(html, ", <b>eager</b> (no captured graphs)");
        put_fact(html, ", host", cpu, "");
        return;
    }
    put_fact(html, ", on", cpu, "");
    put_fact(html, " with",
             first_of(report, (const char *const[]){"threads", "config.threads",
                                                    "environment.cpu.threads", NULL}),
             " threads");
    put_fact(html, ", instruction set", first_of(report, (const char *const[]){"isa", NULL}), "");
}

static void put_times(cop__html *html, const cop__report *report) {
    bool other = false;
    for (size_t i = 0; i < report->n_sections; i++)
        other |= !cop__section_is_measured(report->sections[i]);
    cop__html_printf(html, ". Times are <b>%s</b>.</p>\n",
                     !other ? "measured wall clock"
                     : any_measured(report)
                         ? "measured wall clock, except where a method's name says otherwise"
                     : any_clock(report, "emulated") ? "emulated: they mean nothing"
                                                     : "virtual");
}

void cop__report_headline(cop__html *html, const cop__report *report) {
    bool random = model_is_random(report);
    const char *title = any_measured(report)            ? "Coppice: measured results"
                        : any_clock(report, "emulated") ? "Coppice: emulated results"
                                                        : "Coppice: virtual results";
    cop__html_put(html, "<h1>");
    cop__html_text_cut(html, cop__json_text_at(report, report->manifest, "title", title), 120);
    cop__html_put(html, "</h1>\n<p class=\"soft small\">started ");
    cop__html_text_cut(html, cop__json_text_at(report, report->manifest, "started_utc", "–"), 40);
    cop__html_put(html, ", commit <code>");
    cop__html_text_cut(
        html, cop__json_text_at(report, report->manifest, "environment.coppice.commit", "unknown"),
        12);
    cop__html_put(html, "</code>");
    if (json_is_true(cop__json_at(report->manifest, "environment.coppice.dirty")))
        cop__html_put(html, " with uncommitted changes");
    cop__html_put(html, "</p>\n");
    put_what(html, report);
    put_fact(html, "Model",
             first_of(report, (const char *const[]){"model.name", "model", "config.model", NULL}),
             random ? ", <b>with random weights</b>" : "");
    put_fact(html, ", arithmetic",
             first_of(report, (const char *const[]){"arithmetic", "compute", "config.compute",
                                                    "config.arithmetic", NULL}),
             "");
    put_machine(html, report);
    put_times(html, report);
    put_warnings(html, report);
}

/* Generated and forced tokens agree over the methods on every problem that all completed. */
static bool is_identical_work(const cop__section *section) {
    for (uint32_t p = 0; p < section->n_problems; p++)
        for (uint32_t m = 1; m < section->n_methods && cop__section_is_common(section, p); m++) {
            const double *a = cop__section_cell(section, p, 0)->value;
            const double *b = cop__section_cell(section, p, m)->value;
            if (a[COP_FIG_TOTAL] + a[COP_FIG_FORCED] != b[COP_FIG_TOTAL] + b[COP_FIG_FORCED])
                return false;
        }
    return true;
}

/* "took 0.81 × the wall clock .." for each method but the control. */
static void put_findings(cop__html *html, const cop__section *section) {
    if (!is_identical_work(section))
        cop__html_put(html,
                      "<p class=\"warn\"><b>The work differs.</b> Generated and forced tokens "
                      "do not add up to the same number under every method: read times "
                      "beside tokens.</p>\n");
    cop__html_put(html,
                  is_identical_work(section)
                      ? "<p>Relative to the control, with the same generated + forced tokens: "
                      : "<p>Relative to the control: ");
    bool first = true;
    for (uint32_t m = 0; m < section->n_methods; m++) {
        char wall[COP_NUMBER_BYTES], path[COP_NUMBER_BYTES];
        double ratio = cop__section_ratio(section, m, COP_FIG_WALL);
        if ((int)m == section->control || !isfinite(ratio))
            continue;
        cop__number(ratio, COP_UNIT_RATIO, wall);
        cop__number(cop__section_ratio(section, m, COP_FIG_CRITICAL), COP_UNIT_RATIO, path);
        cop__html_put(html, first ? "<b>" : "; <b>");
        cop__html_text_cut(html, section->methods[m], 40);
        cop__html_printf(html, "</b> took %s the wall clock with %s the critical path in tokens",
                         wall, path);
        first = false;
    }
    cop__html_put(html, first ? "no method completed the same problems.</p>\n" : ".</p>\n");
}

/* Whether figures have a spread is the first thing to know about them. */
static void put_repeats(cop__html *html, const cop__section *section) {
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t p = 0; p < section->n_problems; p++)
        for (uint32_t m = 0; m < section->n_methods; m++) {
            const cop__cell *cell = cop__section_cell(section, p, m);
            if (!cell)
                continue;
            least = cell->repeats < least ? cell->repeats : least;
            most = cell->repeats > most ? cell->repeats : most;
        }
    if (most == 1)
        cop__html_put(html, "<p class=\"soft\">Each cell was measured once, so nothing is known "
                            "about the spread of its times.</p>\n");
    else if (least == most)
        cop__html_printf(html, "<p class=\"soft\">Each cell is the mean of %u repeats.</p>\n",
                         most);
    else
        cop__html_printf(html, "<p class=\"soft\">Cells are means of %u to %u repeats.</p>\n",
                         least, most);
}

void cop__report_clock(cop__html *html, const cop__section *section) {
    if (cop__section_is_measured(section))
        return;
    cop__html_put(html, "<p class=\"warn\">The clock of this section is <b>");
    cop__html_text_cut(html, section->clock, 32);
    cop__html_put(html, "</b>: no time below was measured.</p>\n");
}

/* How fast one sequence read the weights, and how much of what this machine can read that is. */
void cop__report_bandwidth(cop__html *html, const cop__report *report,
                           const cop__section *section) {
    uint32_t row = section->control < 0 ? 0 : (uint32_t)section->control;
    double gbps = cop__section_mean(section, row, COP_FIG_WEIGHT_GBPS);
    const json_t *ceiling = cop__json_at(report->manifest, "ceilings.read_gbps");
    char read[COP_NUMBER_BYTES], most[COP_NUMBER_BYTES], share[COP_NUMBER_BYTES];
    if (!isfinite(gbps) || !cop__section_is_measured(section))
        return;
    cop__html_put(html, "<p>Decoding one sequence (<b>");
    cop__html_text_cut(html, section->methods[row], 40);
    cop__html_printf(html, "</b>) read the weights at <b>%s</b>",
                     cop__number(gbps, COP_UNIT_GBPS, read));
    if (json_is_number(ceiling) && json_number_value(ceiling) > 0)
        cop__html_printf(
            html,
            ", <b>%s</b> of the %s that this machine was measured to read, with the same "
            "threads, before the run.</p>\n",
            cop__number(gbps / json_number_value(ceiling), COP_UNIT_SHARE, share),
            cop__number(json_number_value(ceiling), COP_UNIT_GBPS, most));
    else
        cop__html_printf(html,
                         ". What the %s can read at most was not measured in this run; <code>%s"
                         "</code> tells it.</p>\n",
                         cop__section_has_device(section) ? "device" : "machine",
                         cop__section_has_device(section) ? "bench/gpu.sh"
                                                          : "coppice info --measure");
}

void cop__report_section_words(cop__html *html, const cop__section *section) {
    bool samples = strcmp(section->group, "samples") == 0;
    cop__html_put(html, "<h2>");
    if (samples)
        cop__html_put(html, "Live samples of one prompt");
    else if (strcmp(section->group, "replay") == 0)
        cop__html_put(html, "Recorded reasoning, replayed");
    else
        cop__html_text_cut(html, section->group, 60);
    cop__html_put(html, "</h2>\n");
    if (*section->setting) {
        cop__html_put(html, "<p class=\"soft small\">");
        cop__html_text_cut(html, section->setting, 200);
        cop__html_put(html, "</p>\n");
    }
    if (samples) {
        cop__html_put(html, "<p>The same prompt sampled several times: one sample after the other "
                            "(serial), side by side from one shared prefix (forked), and forked "
                            "with branches ended early by a prune rule. Random numbers are keyed "
                            "by branch and position, so pruning one sample never changes another."
                            "</p>\n");
        put_repeats(html, section);
        return;
    }
    if (section->control >= 0) {
        cop__html_put(html, "<p>The same recorded tokens are forced under every method, so a "
                            "difference in time is a difference of the method. <b>");
        cop__html_text_cut(html, section->methods[section->control], 40);
        cop__html_put(html, "</b> replays them as one sequence. It is the iso-token control: it "
                            "holds tags that a sequential model would not write, so ratios to it "
                            "are not speedups over sequential reasoning.</p>\n");
        put_findings(html, section);
    }
    put_repeats(html, section);
    if (section->n_common < section->n_problems)
        cop__html_printf(html,
                         "<p class=\"soft\">%u of %u problems were completed by every method; "
                         "means are over those.</p>\n",
                         section->n_common, section->n_problems);
}

void cop__report_definitions(cop__html *html) {
    cop__html_put(html,
                  "<h2>How each figure is defined</h2>\n<p class=\"soft small\">The names are "
                  "those in <code>results.jsonl</code>; <code>bench/METRICS.md</code> gives "
                  "units and sources as well. A dash means that a figure has no meaning in "
                  "that run or was not recorded; the line then says why.</p>\n<div "
                  "class=\"scroll\"><table><thead><tr><th>name</th><th>definition</th></tr>"
                  "</thead><tbody>\n");
    for (int f = 0; f < COP_FIG_COUNT; f++) {
        const cop__figure_info *info = cop__figure_info_of((cop__figure)f);
        cop__html_printf(html, "<tr id=\"%s\"><td><code>%s</code></td><td>%s</td></tr>\n",
                         info->name, info->name, info->text);
    }
    cop__html_put(html, "</tbody></table></div>\n");
}

void cop__report_provenance(cop__html *html, const cop__report *report) {
    cop__html_put(html,
                  "<h2>What it was measured on</h2>\n<details><summary>The whole manifest: "
                  "configuration, model, build, machine</summary><pre class=\"small scroll\">");
    char *text = json_dumps(report->manifest, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    cop__html_text(html, text ? text : "");
    free(text);
    cop__html_put(html, "</pre></details>\n<p class=\"soft small\">Written by <code>coppice report"
                        "</code>. The checksum of every line was verified; a torn last line, if "
                        "there was one, is left out.</p>\n");
}
