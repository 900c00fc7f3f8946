/* One self-contained HTML file from a result folder: no network, no scripts from elsewhere.
 * Plain words on what was measured and on what, tables, where the time went (stacked bars), KV
 * bytes, a timeline with one track a branch and the KV page curve, as inline SVG. Random weights,
 * placeholder ids, extrapolated positions, modelled and virtual figures are said where they are
 * shown. */
#pragma once

#include "base/status.h"

cop_status cop_report_write(const char *folder, const char *html_path);
