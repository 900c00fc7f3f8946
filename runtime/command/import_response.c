#include "command/import_response.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

typedef struct reader {
    const cop_dialect *dialect;
    const char *path;
    size_t line; /* 0: the file is one value */
    uint32_t answers, number;
    cop_response_text *text;
    void *context;
} reader;

bool cop_response_name(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot && (strcmp(dot, ".json") == 0 || strcmp(dot, ".jsonl") == 0);
}

static cop_status fail(const reader *r, const char *what) {
    if (r->line)
        return COP_FAIL(COP_ERR_FORMAT, "%s:%zu: %s", r->path, r->line, what);
    return COP_FAIL(COP_ERR_FORMAT, "%s: %s", r->path, what);
}

static const char no_text[] =
    "holds no text of an answer: expected \"choices\" with \"text\" or \"message.content\", or "
    "\"text\" with \"meta_info\"";

static cop_status append(cop_buffer *out, const json_t *text) {
    return cop_buffer_append(out, json_string_value(text), json_string_length(text));
}

/* The text of one choice. */
static cop_status text_of(const reader *r, const json_t *choice, cop_buffer *out) {
    const json_t *message = json_object_get(choice, "message");
    const json_t *text = json_object_get(choice, "text");
    const json_t *content = json_object_get(message, "content");
    const json_t *reasoning = json_object_get(message, "reasoning_content");
    if (!json_is_string(reasoning))
        reasoning = json_object_get(message, "reasoning");
    if (json_is_string(text))
        return append(out, text);
    if (!json_is_string(content) && !json_is_string(reasoning))
        return fail(r, no_text);
    if (json_is_string(reasoning)) {
        const cop_tag *open = &r->dialect->open[COP_EL_ROOT],
                      *close = &r->dialect->close[COP_EL_ROOT];
        COP_TRY(cop_buffer_append(out, open->text, open->bytes));
        COP_TRY(append(out, reasoning));
        COP_TRY(cop_buffer_append(out, close->text, close->bytes));
    }
    return json_is_string(content) ? append(out, content) : COP_OK;
}

static cop_status take(reader *r, const json_t *choice, uint32_t index, uint32_t choices) {
    char which[48] = "";
    size_t used = 0;
    cop_buffer text = {0};
    if (r->answers > 1)
        used = (size_t)snprintf(which, sizeof which, "-%u", r->number);
    if (choices > 1)
        snprintf(which + used, sizeof which - used, "-%u", index);
    cop_status status = text_of(r, choice, &text);
    if (status == COP_OK)
        status = r->text(r->context, which, text.data ? text.data : "", text.bytes);
    cop_buffer_release(&text);
    return status;
}

static cop_status take_answer(reader *r, const json_t *answer) {
    const json_t *body = json_object_get(json_object_get(answer, "response"), "body");
    const json_t *choices = json_object_get(body ? body : answer, "choices");
    r->number++;
    if (json_is_string(json_object_get(answer, "text")))
        return take(r, answer, 0, 1);
    size_t n = json_array_size(choices);
    if (n == 0)
        return fail(r, no_text);
    for (size_t i = 0; i < n; i++)
        COP_TRY(take(r, json_array_get(choices, i), (uint32_t)i, (uint32_t)n));
    return COP_OK;
}

static cop_status take_value(reader *r, const json_t *value) {
    if (!json_is_array(value))
        return take_answer(r, value);
    for (size_t i = 0; i < json_array_size(value); i++)
        COP_TRY(take_answer(r, json_array_get(value, i)));
    return COP_OK;
}

static cop_status read_line(reader *r, const char *begin, size_t bytes) {
    json_error_t error;
    json_t *value = json_loadb(begin, bytes, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
    if (!value)
        return fail(r, error.text);
    cop_status status = take_value(r, value);
    json_decref(value);
    return status;
}

static cop_status read_lines(reader *r, const cop_buffer *file) {
    for (size_t at = 0; at < file->bytes;) {
        const char *begin = file->data + at, *newline = memchr(begin, '\n', file->bytes - at);
        size_t bytes = newline ? (size_t)(newline - begin) : file->bytes - at;
        at += bytes + 1;
        r->line++;
        COP_TRY(read_line(r, begin, bytes));
    }
    return COP_OK;
}

static uint32_t lines_of(const cop_buffer *file) {
    uint32_t lines = 0;
    for (size_t i = 0; i < file->bytes; i++)
        lines += file->data[i] == '\n';
    return lines + (file->bytes > 0 && file->data[file->bytes - 1] != '\n');
}

cop_status cop_response_texts(const cop_dialect *dialect, const char *path, const cop_buffer *file,
                              cop_response_text *text, void *context) {
    json_error_t error;
    reader r = {.dialect = dialect, .path = path, .text = text, .context = context};
    if (file->bytes == 0)
        return COP_FAIL(COP_ERR_FORMAT, "%s: is empty", path);
    json_t *whole =
        json_loadb(file->data, file->bytes, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
    if (!whole) {
        r.answers = lines_of(file);
        return read_lines(&r, file);
    }
    r.answers = json_is_array(whole) ? (uint32_t)json_array_size(whole) : 1;
    cop_status status = r.answers ? take_value(&r, whole) : fail(&r, no_text);
    json_decref(whole);
    return status;
}
