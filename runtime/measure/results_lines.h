/* The lines of results.jsonl: made with a checksum, read with the rules of results.h.
 *
 * A line is compact JSON whose last member is "crc"; the checksum is that of the same bytes with
 * that member taken out. Every reader goes through cop__results_scan, so resuming and reporting
 * agree on which lines count: a last line without its newline, or one that holds NUL bytes (what a
 * file system leaves where it lost data), is torn; any other damage is an error that names the
 * line; a line that stands twice, byte for byte, counts once.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

enum { COP_LINE_KEY_BYTES = 96 };

/* Cells become file names: letters, digits, "-", "_", at most 64. */
cop_status cop__cell_check(const char *cell);
void cop__line_key(const char *cell, uint32_t repeat, char key[COP_LINE_KEY_BYTES]);

/* Appends the line and its newline; `line` must have no member "crc". */
cop_status cop__line_write(const json_t *line, cop_buffer *out);

typedef struct cop__scan {
    uint64_t whole_bytes; /* up to here the file is sound */
    uint64_t torn_bytes;  /* what follows; 0: nothing */
    uint64_t lines;       /* whole ones, repeated ones included */
    json_t *seen;         /* new reference: cop__line_key -> line number; NULL on failure */
} cop__scan;

/* `each` may be NULL. `data` is the file's whole content, `path` stands in messages. */
cop_status cop__results_scan(const char *path, const char *data, size_t bytes,
                             cop_status (*each)(void *context, const json_t *line), void *context,
                             cop__scan *out);
