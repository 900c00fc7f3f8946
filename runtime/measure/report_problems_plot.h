/* A plot with two axes as inline SVG: one line a method. A caller fills the plot's place and axes,
 * begins it (which draws grid and ticks), draws lines between cop__plot_x and cop__plot_y, and ends
 * it. A method has one colour and one dash in every plot of a section: the control the colour of
 * text, the others colours that stay apart for colour-blind readers, reused with another dash. */
#pragma once

#include "measure/report_data.h"
#include "measure/report_html.h"

typedef struct cop__axis {
    double from, to; /* from < to; from > 0 where it is logarithmic */
    bool log;
    cop__unit unit;
    const char *title;   /* markup, under the axis or above it */
    const double *marks; /* where its ticks stand; NULL: at round numbers */
    uint32_t n_marks;
} cop__axis;

typedef struct cop__plot {
    double left, top, width, height; /* of the area between the axes */
    double full_width, bottom;       /* of the picture; room under the area */
    cop__axis x, y;
} cop__plot;

/* An axis around these values: from 0, or logarithmic where they lie far apart. */
cop__axis cop__axis_around(double least, double most, cop__unit unit, const char *title);

double cop__plot_x(const cop__plot *plot, double value);
double cop__plot_y(const cop__plot *plot, double value);

void cop__plot_begin(cop__html *html, const cop__plot *plot, const char *title);
void cop__plot_end(cop__html *html);

/* The attributes of a method's line, and a legend with all methods. */
void cop__plot_stroke(cop__html *html, const cop__section *section, uint32_t method);
void cop__plot_legend(cop__html *html, const cop__section *section);

/* A method's name and a number at the right end of its line; those that would lie over one another
 * are moved apart. */
typedef struct cop__end_label {
    uint32_t method;
    double y, value; /* y in pixels */
    double place;    /* where it was put */
} cop__end_label;
void cop__plot_end_labels(cop__html *html, const cop__plot *plot, const cop__section *section,
                          cop__end_label *labels, uint32_t n, cop__unit unit);
