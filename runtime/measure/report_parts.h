/* The parts of a report, in the order in which they stand. */
#pragma once

#include "measure/report_data.h"
#include "measure/report_html.h"

/* report_text.c: what was measured on what, warnings, findings; definitions and provenance. */
void cop__report_headline(cop__html *html, const cop__report *report);
void cop__report_section_words(cop__html *html, const cop__section *section);
void cop__report_clock(cop__html *html, const cop__section *section); /* nothing when measured */
void cop__report_bandwidth(cop__html *html, const cop__report *report, const cop__section *section);
void cop__report_definitions(cop__html *html);
void cop__report_provenance(cop__html *html, const cop__report *report);

/* A problem set that was solved live (group "problems"). A `run` is a section that holds one run of
 * the set alone: cop__section_only of cop__report_set_run, the smallest number of problems at once
 * that every method has.
 *
 * report_problems.c */
uint32_t cop__report_set_run(const cop__section *section);
void cop__report_set_words(cop__html *html, const cop__report *report, const cop__section *section);
void cop__report_set_answers(cop__html *html, const cop__report *report, const cop__section *run);
void cop__report_set_methods(cop__html *html, const cop__section *run);
void cop__report_set_differing(cop__html *html, const cop__report *report, const cop__section *run);
void cop__report_set_definitions(cop__html *html);
void cop__report_set_heading(cop__html *html, const char *title, cop__set_figure figure);

/* report_problems_curve.c: accuracy under a limit of the longest path. */
void cop__report_set_curve(cop__html *html, const cop__report *report, const cop__section *run);

/* report_problems_load.c: latency and throughput by the number of problems at once; nothing when
 * there is but one number. */
void cop__report_set_load(cop__html *html, const cop__section *section);
uint32_t cop__section_at_once(const cop__section *section, uint32_t problem); /* 0: not said */

/* report_context.c: what each generated token attended to, one row a method; and accuracy against
 * it. Nothing where no line says it. */
void cop__report_context(cop__html *html, const cop__section *section);
void cop__report_set_context(cop__html *html, const cop__section *run);

/* report_pareto.c: accuracy against tokens, latency and device time, with the Pareto front; and
 * every paper's measure of the same runs. */
void cop__report_set_pareto(cop__html *html, const cop__section *run);
void cop__report_set_measures(cop__html *html, const cop__report *report, const cop__section *run);

/* report_tables.c */
void cop__report_summary(cop__html *html, const cop__section *section);
void cop__report_problems(cop__html *html, const cop__section *section);
void cop__report_samples(cop__html *html, const cop__section *section);
void cop__report_kv_table(cop__html *html, const cop__section *section);
void cop__report_details(cop__html *html, const cop__report *report, const cop__section *section);
void cop__report_cells(cop__html *html, const cop__section *section);

/* report_bars.c */
void cop__report_time_bars(cop__html *html, const cop__section *section);
void cop__report_kv_bars(cop__html *html, const cop__section *section);

/* report_device.c: what a device with memory of its own was sent and told; nothing without one. */
void cop__report_device(cop__html *html, const cop__section *section);
/* What a full pool and the prefix store did, where they did anything. */
void cop__report_pool(cop__html *html, const cop__section *section);
/* A table of a section's methods with so many figures each. */
typedef struct cop__report_column {
    cop__figure figure;
    const char *title;
} cop__report_column;
void cop__report_columns(cop__html *html, const cop__section *section,
                         const cop__report_column *columns, size_t n);

/* report_timeline.c: timelines of some problems, on one scale for all methods of a problem. */
void cop__report_timelines(cop__html *html, const cop__report *report, const cop__section *section,
                           uint32_t max_problems);
