/* What a device with memory of its own was sent and told, and where the timed steps' time went. */
#include "measure/report_parts.h"

static const cop__report_column counts[] = {{COP_FIG_UPLOAD_STEP, "uploaded<br>/ pass"},
                                            {COP_FIG_UPLOAD_STEPS, "passes with<br>an upload"},
                                            {COP_FIG_STEPS, "forward<br>passes"},
                                            {COP_FIG_WAITS_STEP, "waits<br>/ pass"},
                                            {COP_FIG_GRAPHS_STEP, "graph launches<br>/ pass"},
                                            {COP_FIG_LAUNCHES_STEP, "other launches<br>/ pass"},
                                            {COP_FIG_CAPTURES, "captures"},
                                            {COP_FIG_DEVICE_ALLOCATIONS, "allocations"},
                                            {COP_FIG_IDLE_STEP, "idle<br>/ pass"}};

static const cop__report_column operations[] = {{COP_FIG_TIMED_STEPS, "timed<br>steps"},
                                                {COP_FIG_OP_EMBED, "embed"},
                                                {COP_FIG_OP_NORM, "norm"},
                                                {COP_FIG_OP_PRODUCT, "product"},
                                                {COP_FIG_OP_APPEND, "append"},
                                                {COP_FIG_OP_ATTENTION, "attention"},
                                                {COP_FIG_OP_ACT, "act"},
                                                {COP_FIG_OP_LOGITS, "logits"},
                                                {COP_FIG_OP_SAMPLE, "sample"}};

void cop__report_columns(cop__html *html, const cop__section *section,
                         const cop__report_column *columns, size_t n) {
    cop__html_put(html, "<div class=\"scroll\"><table><thead><tr><th>method</th>");
    for (size_t i = 0; i < n; i++)
        cop__html_heading(html, columns[i].title, columns[i].figure);
    cop__html_put(html, "</tr></thead><tbody>\n");
    for (uint32_t m = 0; m < section->n_methods; m++) {
        cop__html_put(html, "<tr><th>");
        cop__html_text_cut(html, section->methods[m], 40);
        cop__html_put(html, "</th>");
        for (size_t i = 0; i < n; i++)
            cop__html_cell(html, cop__section_mean(section, m, columns[i].figure),
                           cop__figure_info_of(columns[i].figure)->unit);
        cop__html_put(html, "</tr>\n");
    }
    cop__html_put(html, "</tbody></table></div>\n");
}

static bool has_timed_steps(const cop__section *section) {
    for (uint32_t m = 0; m < section->n_methods; m++)
        if (cop__section_mean(section, m, COP_FIG_TIMED_STEPS) > 0)
            return true;
    return false;
}

void cop__report_device(cop__html *html, const cop__section *section) {
    if (!cop__section_has_device(section))
        return;
    cop__html_put(html, "<h3>The device: what it was sent and told</h3>\n");
    cop__report_columns(html, section, counts, sizeof counts / sizeof counts[0]);
    cop__html_put(html, "<p class=\"small soft\">Averages over the forward passes. A pass without "
                        "a fork, join, prune or end uploads nothing, waits once and, where graphs "
                        "are captured, is one launch.</p>\n");
    if (!has_timed_steps(section))
        return;
    cop__report_columns(html, section, operations, sizeof operations / sizeof operations[0]);
    cop__html_put(html,
                  "<p class=\"small soft\">Time by operation, of the timed steps alone: these "
                  "are launched one by one between events, so their sum is more than what "
                  "as many other steps take; what they are read for is the shares.</p>\n");
}
