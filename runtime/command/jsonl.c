#include "command/jsonl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static cop_status read_all(FILE *file, const char *name, cop_buffer *out) {
    enum { STEP = 64 * 1024 };
    for (;;) {
        COP_TRY(cop_grow(&out->data, &out->capacity, out->bytes + STEP + 1, 1));
        size_t got = fread(out->data + out->bytes, 1, STEP, file);
        out->bytes += got;
        if (got == 0)
            break;
    }
    if (ferror(file))
        return COP_FAIL(COP_ERR_IO, "cannot read %s: %s", name, strerror(errno));
    out->data[out->bytes] = '\0';
    return COP_OK;
}

cop_status cop_jsonl_open(const char *path, cop_jsonl *out) {
    *out = (cop_jsonl){.name = path};
    if (strcmp(path, "-") == 0) {
        out->name = "stdin";
        return read_all(stdin, out->name, &out->text);
    }
    FILE *file = fopen(path, "rb");
    if (!file)
        return COP_FAIL(COP_ERR_IO, "cannot open %s: %s", path, strerror(errno));
    cop_status status = read_all(file, path, &out->text);
    fclose(file);
    return status;
}

void cop_jsonl_close(cop_jsonl *file) {
    cop_buffer_release(&file->text);
}

cop_status cop_jsonl_fail(const cop_jsonl *file, cop_status status) {
    return cop_status_prefix(status, "%s:%zu", file->name, file->line);
}

cop_status cop_jsonl_next(cop_jsonl *file, json_t **out) {
    *out = NULL;
    if (file->at >= file->text.bytes)
        return COP_OK;
    const char *begin = file->text.data + file->at;
    const char *newline = memchr(begin, '\n', file->text.bytes - file->at);
    size_t bytes = newline ? (size_t)(newline - begin) : file->text.bytes - file->at;
    file->at += bytes + 1;
    file->line++;
    json_error_t error;
    json_t *value = json_loadb(begin, bytes, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
    if (!value)
        return COP_FAIL(COP_ERR_FORMAT, "%s:%zu: %s", file->name, file->line,
                        bytes ? error.text : "the line is empty");
    if (!json_is_object(value)) {
        json_decref(value);
        return COP_FAIL(COP_ERR_FORMAT, "%s:%zu: the line is not an object", file->name,
                        file->line);
    }
    *out = value;
    return COP_OK;
}

cop_status cop_jsonl_text(const json_t *object, const char **text, size_t *bytes) {
    const json_t *value = json_object_get(object, "text");
    if (!json_is_string(value))
        return COP_FAIL(COP_ERR_FORMAT, "\"text\" is %s", value ? "not a string" : "missing");
    *text = json_string_value(value);
    *bytes = json_string_length(value);
    return COP_OK;
}

cop_status cop_jsonl_ids(const json_t *object, uint32_t vocab, cop_token_ids *ids) {
    const json_t *array = json_object_get(object, "ids");
    if (!json_is_array(array))
        return COP_FAIL(COP_ERR_FORMAT, "\"ids\" is %s", array ? "not an array" : "missing");
    size_t count = json_array_size(array);
    ids->count = 0;
    COP_TRY(cop_grow(&ids->data, &ids->capacity, count, sizeof *ids->data));
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_integer(value))
            return COP_FAIL(COP_ERR_FORMAT, "\"ids\"[%zu] is not a whole number", i);
        json_int_t id = json_integer_value(value);
        if (id < 0 || id >= (json_int_t)vocab)
            return COP_FAIL(COP_ERR_FORMAT,
                            "\"ids\"[%zu] is %lld, but the vocabulary has %u tokens", i,
                            (long long)id, vocab);
        ids->data[ids->count++] = (int32_t)id;
    }
    return COP_OK;
}
