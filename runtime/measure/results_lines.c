#include "measure/results_lines.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32.h"

static const char crc_member[] = ",\"crc\":\"";
enum { CRC_DIGITS = 8, CRC_TAIL_BYTES = sizeof crc_member - 1 + CRC_DIGITS + 2 /* "} */ };

cop_status cop__cell_check(const char *cell) {
    size_t bytes = strspn(cell, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    if (bytes == 0 || bytes > 64 || cell[bytes])
        return COP_FAIL(COP_ERR_FORMAT,
                        "\"%.80s\" is no cell key: 1 to 64 letters, digits, \"-\" or \"_\"", cell);
    return COP_OK;
}

void cop__line_key(const char *cell, uint32_t repeat, char key[COP_LINE_KEY_BYTES]) {
    snprintf(key, COP_LINE_KEY_BYTES, "%.64s/%u", cell, repeat);
}

cop_status cop__line_write(const json_t *line, cop_buffer *out) {
    char *text = json_dumps(line, JSON_COMPACT);
    if (!text)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a result line");
    size_t bytes = strlen(text);
    uint32_t crc = cop_crc32(0, text, bytes);
    cop_status status =
        cop_buffer_printf(out, "%.*s%s%08x\"}\n", (int)bytes - 1, text, crc_member, crc);
    free(text);
    return status;
}

/* The line without its newline. */
static cop_status check_crc(const char *text, size_t bytes) {
    const char *tail = text + bytes - CRC_TAIL_BYTES;
    if (bytes <= CRC_TAIL_BYTES || memcmp(tail, crc_member, sizeof crc_member - 1) != 0 ||
        memcmp(text + bytes - 2, "\"}", 2) != 0)
        return COP_FAIL(COP_ERR_FORMAT, "the line does not end in its checksum \"crc\"");
    char expected[CRC_DIGITS + 1];
    uint32_t crc = cop_crc32(cop_crc32(0, text, (size_t)(tail - text)), "}", 1);
    snprintf(expected, sizeof expected, "%08x", crc);
    const char *stored = tail + sizeof crc_member - 1;
    if (memcmp(stored, expected, CRC_DIGITS) != 0)
        return COP_FAIL(COP_ERR_FORMAT,
                        "the checksum of the line is %s, but \"crc\" says %.8s: the line was "
                        "changed after it was written; restore it or delete it",
                        expected, stored);
    return COP_OK;
}

static cop_status parse_line(const char *text, size_t bytes, json_t **out, const char **cell,
                             uint32_t *repeat) {
    COP_TRY(check_crc(text, bytes));
    json_error_t error;
    json_t *line = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!line)
        return COP_FAIL(COP_ERR_FORMAT, "%s at column %d", error.text, error.column);
    const json_t *index = json_object_get(line, "repeat");
    *cell = json_string_value(json_object_get(line, "cell"));
    cop_status status = COP_OK;
    if (!*cell)
        status = COP_FAIL(COP_ERR_FORMAT, "the line has no \"cell\"");
    else if (!json_is_integer(index) || json_integer_value(index) < 0 ||
             json_integer_value(index) > UINT32_MAX)
        status = COP_FAIL(COP_ERR_FORMAT, "\"repeat\" must be a count from 0");
    else
        status = cop__cell_check(*cell);
    if (status != COP_OK) {
        json_decref(line);
        return status;
    }
    *repeat = (uint32_t)json_integer_value(index);
    *out = line;
    return COP_OK;
}

/* Notes the line as seen; *again tells that the same bytes stood there before. `seen` maps the key
 * to [line number, checksum]. */
static cop_status note_line(json_t *seen, const char *cell, uint32_t repeat, uint64_t number,
                            uint32_t crc, bool *again) {
    char key[COP_LINE_KEY_BYTES];
    cop__line_key(cell, repeat, key);
    const json_t *before = json_object_get(seen, key);
    *again = before != NULL;
    if (before && json_integer_value(json_array_get(before, 1)) != (json_int_t)crc)
        return COP_FAIL(COP_ERR_MISMATCH,
                        "cell %s, repeat %u already stands in line %" JSON_INTEGER_FORMAT
                        " with another result: keep one of the two",
                        cell, repeat, json_integer_value(json_array_get(before, 0)));
    if (!before &&
        json_object_set_new(seen, key, json_pack("[I,I]", (json_int_t)number, (json_int_t)crc)))
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the index of the results");
    return COP_OK;
}

static cop_status take_line(const char *text, size_t bytes, uint64_t number, json_t *seen,
                            cop_status (*each)(void *, const json_t *), void *context) {
    json_t *line = NULL;
    const char *cell = NULL;
    uint32_t repeat = 0;
    COP_TRY(parse_line(text, bytes, &line, &cell, &repeat));
    bool again = false;
    cop_status status = note_line(seen, cell, repeat, number, cop_crc32(0, text, bytes), &again);
    if (status == COP_OK && each && !again)
        status = each(context, line);
    json_decref(line);
    return status;
}

cop_status cop__results_scan(const char *path, const char *data, size_t bytes,
                             cop_status (*each)(void *context, const json_t *line), void *context,
                             cop__scan *out) {
    *out = (cop__scan){.seen = json_object()};
    if (!out->seen)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the index of the results");
    while (out->whole_bytes < bytes) {
        const char *text = data + out->whole_bytes;
        size_t left = bytes - out->whole_bytes;
        const char *end = memchr(text, '\n', left);
        bool last = !end || (size_t)(end - text) + 1 == left;
        if (!end || (last && memchr(text, '\0', left))) {
            out->torn_bytes = left;
            break;
        }
        cop_status status =
            take_line(text, (size_t)(end - text), out->lines + 1, out->seen, each, context);
        if (status != COP_OK) {
            json_decref(out->seen);
            out->seen = NULL;
            return cop_status_prefix(status, "%s:%llu", path, (unsigned long long)out->lines + 1);
        }
        out->lines++;
        out->whole_bytes += (size_t)(end - text) + 1;
    }
    return COP_OK;
}
