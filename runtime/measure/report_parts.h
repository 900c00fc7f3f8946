/* The parts of a report, in the order in which they stand. */
#pragma once

#include "measure/report_data.h"
#include "measure/report_html.h"

/* report_text.c: what was measured on what, warnings, findings; definitions and provenance. */
void cop__report_headline(cop__html *html, const cop__report *report);
void cop__report_section_words(cop__html *html, const cop__section *section);
void cop__report_bandwidth(cop__html *html, const cop__report *report, const cop__section *section);
void cop__report_definitions(cop__html *html);
void cop__report_provenance(cop__html *html, const cop__report *report);

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

/* report_timeline.c: timelines of some problems, on one scale for all methods of a problem. */
void cop__report_timelines(cop__html *html, const cop__report *report, const cop__section *section,
                           uint32_t max_problems);
