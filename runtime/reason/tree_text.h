/* Text as a terminal may show it: made harmless, measured in columns, cut at words, written row by
 * row. Shared by the files that draw; not an interface of the library.
 *
 * cop__drawable_append takes any bytes and appends well-formed UTF-8 without controls, in which a
 * run of white space is one space; every other function takes such text. A character whose width
 * terminals disagree on is counted as the wider one, so a row may end early but never late. A row
 * never holds more than `width` columns: what does not fit is left out. Its first failure stays in
 * `status`, and the row is silent from then on.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "model/tokenizer.h"

/* Appends bytes as they may be drawn. What is left of a split character waits in the stream, or
 * comes out as U+FFFD with `flush`. */
cop_status cop__drawable_append(cop_buffer *out, cop_utf8_stream *utf8, const char *text,
                                size_t bytes, bool flush);

/* The columns of text[from, to), at most about `limit` + 1: it stops counting there. */
uint32_t cop__text_columns(const char *text, size_t from, size_t to, uint32_t limit);
/* Where the head of text[from, to) ends, and where its tail begins, that takes at most `columns`;
 * between words or tags where one begins near, so that no number is shown in part. */
size_t cop__text_head(const char *text, size_t from, size_t to, uint32_t columns);
size_t cop__text_tail(const char *text, size_t from, size_t to, uint32_t columns);
/* The bytes of a tag "<name>" at the front; 0 when there is none. */
size_t cop__text_tag(const char *text, size_t bytes);

typedef enum cop__style {
    COP__PLAIN,
    COP__FAINT,
    COP__BOLD,
    COP__TAG,
    COP__GOOD,
    COP__STOPPED,
} cop__style;

typedef struct cop__row {
    cop_buffer *out;
    uint32_t width, columns;
    bool colour;
    cop__style now;
    cop_status status;
} cop__row;

void cop__row_put(cop__row *row, cop__style style, const char *text, size_t bytes);
void cop__row_text(cop__row *row, cop__style style, const char *text);
void cop__row_pad(cop__row *row, uint32_t until); /* spaces up to a column */
cop_status cop__row_end(cop__row *row, uint32_t *rows);
