#include "measure/report.h"

#include <stdio.h>
#include <string.h>

#include "measure/report_parts.h"
#include "measure/results_file.h"

enum { SECTIONS_WITH_TIMELINES = 4, PROBLEMS_WITH_TIMELINES = 2 };

static void put_section(cop__html *html, const cop__report *report, const cop__section *section,
                        bool timelines) {
    bool samples = strcmp(section->group, "samples") == 0;
    cop__report_section_words(html, section);
    cop__report_clock(html, section);
    if (samples)
        cop__report_samples(html, section);
    else
        cop__report_summary(html, section);
    cop__report_time_bars(html, section);
    cop__report_bandwidth(html, report, section);
    cop__report_context(html, section);
    if (!samples)
        cop__report_problems(html, section);
    cop__html_put(html, "<h3>Keys and values: bytes read and pages held</h3>\n");
    cop__report_kv_table(html, section);
    cop__report_kv_bars(html, section);
    cop__report_pool(html, section);
    cop__report_device(html, section);
    if (timelines)
        cop__report_timelines(html, report, section, PROBLEMS_WITH_TIMELINES);
    cop__report_details(html, report, section);
    cop__report_cells(html, section);
}

/* Time and bytes of a set are shown for one run: a mean over runs with different numbers of
 * problems at once would be a figure of none of them. */
static void put_set_section(cop__html *html, const cop__report *report,
                            const cop__section *section) {
    cop__section run = cop__section_only(section, cop__report_set_run(section));
    cop__report_set_words(html, report, section);
    cop__report_clock(html, section);
    cop__report_set_answers(html, report, &run);
    cop__report_set_curve(html, report, &run);
    cop__report_set_pareto(html, &run);
    cop__report_set_load(html, section);
    cop__report_context(html, &run);
    cop__report_set_context(html, &run);
    cop__report_set_differing(html, report, &run);
    cop__report_set_methods(html, &run);
    cop__report_set_measures(html, report, &run);
    if (cop__section_at_once(&run, 0))
        cop__html_printf(html,
                         "<p>What follows is about the whole set as one run, with %u problem%s at "
                         "once.</p>\n",
                         cop__section_at_once(&run, 0),
                         cop__section_at_once(&run, 0) == 1 ? "" : "s");
    cop__report_time_bars(html, &run);
    cop__report_bandwidth(html, report, &run);
    cop__html_put(html, "<h3>Keys and values: bytes read and pages held</h3>\n");
    cop__report_kv_table(html, &run);
    cop__report_kv_bars(html, &run);
    cop__report_pool(html, &run);
    cop__report_device(html, &run);
    cop__report_details(html, report, &run);
    cop__report_cells(html, section);
}

cop_status cop_report_write(const char *folder, const char *html_path) {
    cop__report report;
    COP_TRY(cop__report_load(folder, &report));
    cop__html html = {0};
    cop__html_begin(&html, cop__json_text_at(&report, report.manifest, "title", "Coppice results"));
    cop__report_headline(&html, &report);
    bool sets = false;
    for (size_t i = 0; i < report.n_sections; i++) {
        bool set = cop__section_is_set(report.sections[i]);
        if (set)
            put_set_section(&html, &report, report.sections[i]);
        else
            put_section(&html, &report, report.sections[i], i < SECTIONS_WITH_TIMELINES);
        sets |= set;
    }
    cop__report_definitions(&html);
    if (sets)
        cop__report_set_definitions(&html);
    cop__report_provenance(&html, &report);
    cop__html_end(&html);
    cop_status status = html.status;
    if (status == COP_OK)
        status = cop__file_replace(html_path, html.out.data, html.out.bytes);
    cop_buffer_release(&html.out);
    cop__report_release(&report);
    return status;
}
