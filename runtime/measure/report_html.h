/* Building blocks of a report: escaped text, numbers with units, and the page's frame.
 *
 * Text from results (problem and method names, notes, labels) goes through cop__html_text only;
 * cop__html_printf is for markup and for numbers formatted here. The first failure sticks in
 * `status` and turns what follows into nothing, so callers check once, at the end.
 */
#pragma once

#include <stdbool.h>

#include "base/memory.h"
#include "measure/report_data.h"

typedef struct cop__html {
    cop_buffer out;
    cop_status status;
} cop__html;

void cop__html_put(cop__html *html, const char *markup);
void cop__html_printf(cop__html *html, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cop__html_text(cop__html *html, const char *text);
/* At most `max` characters, an ellipsis for the rest. */
void cop__html_text_cut(cop__html *html, const char *text, size_t max);
size_t cop__text_width(const char *text); /* characters, not bytes */

enum { COP_NUMBER_BYTES = 64 };
/* "1,234", "12.34 s", "1.25 GB", "0.81 ×"; "–" for what is not a finite number. */
const char *cop__number(double value, cop__unit unit, char text[COP_NUMBER_BYTES]);
/* The same for the ticks of an axis: without zeros behind the point, and 0 without a unit. */
const char *cop__tick(double value, cop__unit unit, char text[COP_NUMBER_BYTES]);
/* One unit of time for a whole table or plot: seconds from 2 s on. */
cop__unit cop__time_unit(double max_ms);

/* <td> with a number, and <th> that links to the definition of a figure. */
void cop__html_cell(cop__html *html, double value, cop__unit unit);
void cop__html_heading(cop__html *html, const char *title, cop__figure figure);

/* Tick distance 1, 2 or 5 x 10^k for about `wanted` ticks up to max. */
double cop__tick_step(double max, int wanted);

void cop__html_begin(cop__html *html, const char *title);
void cop__html_end(cop__html *html);
