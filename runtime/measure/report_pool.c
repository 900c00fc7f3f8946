/* What the KV pool did beyond holding pages: who gave way when it was full, what the prefix store
 * saved and what filling it cost. */
#include "measure/report_parts.h"

static const cop__report_column pressure[] = {{COP_FIG_PARKED, "branches that<br>gave way"},
                                              {COP_FIG_SHED, "ended<br>for room"},
                                              {COP_FIG_RECOMPUTED, "tokens computed<br>once more"},
                                              {COP_FIG_PAGES_PEAK, "peak<br>pages"},
                                              {COP_FIG_PAGES_TOTAL, "pages of<br>the pool"}};

static const cop__report_column prefixes[] = {{COP_FIG_PROMPT, "prompt<br>tokens"},
                                              {COP_FIG_PREFIX_REUSED, "of these,<br>found"},
                                              {COP_FIG_PREFIX_LOOKUPS, "blocks<br>asked for"},
                                              {COP_FIG_PREFIX_HITS, "blocks<br>found"},
                                              {COP_FIG_PREFIX_EVICTED, "blocks<br>given up"},
                                              {COP_FIG_PREFIX_FILL_TOKENS, "filling,<br>tokens"},
                                              {COP_FIG_PREFIX_FILL_MS, "filling,<br>wall clock"}};

void cop__report_pool(cop__html *html, const cop__section *section) {
    if (cop__section_has_pressure(section)) {
        cop__html_put(html, "<h3>A full KV pool</h3>\n");
        cop__report_columns(html, section, pressure, sizeof pressure / sizeof pressure[0]);
    }
    if (cop__section_has_prefixes(section)) {
        cop__html_put(html, "<h3>The prefix store</h3>\n");
        cop__report_columns(html, section, prefixes, sizeof prefixes / sizeof prefixes[0]);
        cop__html_put(html,
                      "<p class=\"small soft\">Filling is the discarded pass ahead of a warm cell: "
                      "its tokens and its time stand in no other table, so a fair cost adds "
                      "them. A cold cell begins with an empty store.</p>\n");
    }
}
