/* A trace as a plot needs it: tracks in drawing order, waits, arrows and the KV page curve. Times
 * in microseconds. The numbers come from a file: sizes are bounded here, values are checked when
 * they are read, and text (labels) borrows from the trace's JSON. */
#pragma once

#include <jansson.h>

#include "measure/report_data.h"
#include "measure/report_html.h"

enum {
    COP_TRACKS_MAX = 400,
    COP_FLOWS_MAX = 1000,
    COP_WAITS_MAX = 1000,
    COP_PAGES_MAX = 200000,
};

typedef enum cop__track_end {
    COP_TRACK_DONE,
    COP_TRACK_PRUNED,
    COP_TRACK_CANCELLED,
    COP_TRACK_FAILED,
} cop__track_end;

typedef struct cop__track {
    double tid, parent, begin, end, tokens;
    const char *label;
    cop__track_end how;
    int up, row; /* index of the parent's track or -1; row from the top */
} cop__track;

typedef struct cop__wait {
    double tid, begin, end;
} cop__wait;

typedef struct cop__flow {
    double id, from_tid, from, to_tid, to; /* NaN tid: that end is missing */
    bool join;
} cop__flow;

typedef struct cop__point {
    double t, pages;
} cop__point;

typedef struct cop__trace {
    json_t *root;
    const cop__cell *cell;
    cop__track tracks[COP_TRACKS_MAX];
    cop__flow flows[COP_FLOWS_MAX];
    cop__wait waits[COP_WAITS_MAX];
    cop__point pages[COP_PAGES_MAX];
    uint32_t n_tracks, n_flows, n_waits, n_pages, tracks_left_out;
    double end, pages_peak, lost;
} cop__trace;

/* A caption and one SVG; the time axis goes to `end`. */
void cop__track_draw(cop__html *html, const cop__trace *trace, double end);
