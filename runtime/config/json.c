#include "config/json.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

enum { PATH_BYTES = 256, MESSAGE_BYTES = 512, DEPTH_MAX = 32 };

/* Keys come from the file: one line of printable text is what may reach a message. */
static void append_printable(char *text, size_t *used, size_t bytes, const char *from) {
    for (; *from && *used + 1 < bytes; from++)
        text[(*used)++] = (unsigned char)*from < 0x20 || *from == 0x7f ? '?' : *from;
    text[*used] = '\0';
}

static const char *source_of(const cop_json *json) {
    while (json->parent)
        json = json->parent;
    return json->source ? json->source : "JSON";
}

/* "cells[2].model.layers"; "" at the root. */
static void path_of(const cop_json *json, const char *key, char text[PATH_BYTES]) {
    const cop_json *chain[DEPTH_MAX];
    int depth = 0;
    for (const cop_json *j = json; j->parent && depth < DEPTH_MAX; j = j->parent)
        chain[depth++] = j;
    size_t used = 0;
    text[0] = '\0';
    while (depth-- > 0) {
        char index[32];
        snprintf(index, sizeof index, "[%zu]", chain[depth]->index);
        if (chain[depth]->key && used > 0)
            append_printable(text, &used, PATH_BYTES, ".");
        append_printable(text, &used, PATH_BYTES, chain[depth]->key ? chain[depth]->key : index);
    }
    if (key && used > 0)
        append_printable(text, &used, PATH_BYTES, ".");
    if (key)
        append_printable(text, &used, PATH_BYTES, key);
}

cop_status cop_json_fail(const cop_json *object, const char *key, const char *format, ...) {
    char path[PATH_BYTES], message[MESSAGE_BYTES];
    path_of(object, key, path);
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (path[0] == '\0')
        return COP_FAIL(COP_ERR_CONFIG, "%s: %s", source_of(object), message);
    return COP_FAIL(COP_ERR_CONFIG, "%s: \"%s\" %s", source_of(object), path, message);
}

static const char *kind_of(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number with a fraction or exponent";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static cop_status adopt(json_t *value, const json_error_t *error, const char *source,
                        cop_json *root) {
    if (!value)
        return COP_FAIL(COP_ERR_CONFIG, "%s: line %d, column %d: not valid JSON: %s", source,
                        error->line, error->column, error->text);
    root->value = value;
    size_t bytes = strlen(source) + 1;
    root->source = cop_calloc(bytes, 1);
    cop_status status = COP_OK;
    if (!root->source)
        status = COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory for its name", source);
    else if (memcpy(root->source, source, bytes), !json_is_object(value))
        status = COP_FAIL(COP_ERR_CONFIG, "%s: must hold an object {..}, and holds %s", source,
                          kind_of(value));
    if (status != COP_OK)
        cop_json_release(root);
    return status;
}

cop_status cop_json_load(const char *path, cop_json *root) {
    *root = (cop_json){0};
    FILE *file = fopen(path, "rb");
    if (!file)
        return COP_FAIL(COP_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    json_error_t error;
    errno = 0;
    json_t *value = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
    int failed = ferror(file), why = errno;
    fclose(file);
    if (failed) {
        json_decref(value);
        return COP_FAIL(COP_ERR_IO, "%s: cannot be read: %s", path, strerror(why));
    }
    return adopt(value, &error, path, root);
}

cop_status cop_json_parse(const char *text, size_t bytes, const char *source, cop_json *root) {
    *root = (cop_json){0};
    json_error_t error;
    json_t *value = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    return adopt(value, &error, source, root);
}

void cop_json_release(cop_json *root) {
    json_decref(root->value);
    cop_free(root->source);
    *root = (cop_json){0};
}

cop_status cop_json_only(const cop_json *object, const char *const known[]) {
    const char *key;
    json_t *value;
    json_object_foreach(object->value, key, value) {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (known[i])
            continue;
        char list[PATH_BYTES * 2];
        size_t used = 0;
        list[0] = '\0';
        for (i = 0; known[i]; i++) {
            append_printable(list, &used, sizeof list, i ? ", " : "");
            append_printable(list, &used, sizeof list, known[i]);
        }
        return cop_json_fail(object, key, "is not a known key; known are: %s", list);
    }
    return COP_OK;
}

bool cop_json_has(const cop_json *object, const char *key) {
    return json_object_get(object->value, key) != NULL;
}

/* *out is NULL when an optional key is missing. */
static cop_status find(const cop_json *object, const char *key, cop_json_presence presence,
                       const char *what, json_t **out) {
    *out = key ? json_object_get(object->value, key) : object->value;
    if (!*out && presence == COP_JSON_REQUIRED)
        return cop_json_fail(object, key, "is missing; give %s", what);
    return COP_OK;
}

cop_status cop_json_i64(const cop_json *object, const char *key, int64_t min, int64_t max,
                        cop_json_presence presence, int64_t *out) {
    char what[96];
    snprintf(what, sizeof what, "an integer from %lld to %lld", (long long)min, (long long)max);
    json_t *value;
    COP_TRY(find(object, key, presence, what, &value));
    if (!value)
        return COP_OK;
    if (!json_is_integer(value))
        return cop_json_fail(object, key, "is %s; give %s", kind_of(value), what);
    json_int_t number = json_integer_value(value);
    if (number < min || number > max)
        return cop_json_fail(object, key, "is %lld; give %s", (long long)number, what);
    *out = number;
    return COP_OK;
}

cop_status cop_json_u64(const cop_json *object, const char *key, uint64_t min, uint64_t max,
                        cop_json_presence presence, uint64_t *out) {
    int64_t low = min > INT64_MAX ? INT64_MAX : (int64_t)min;
    int64_t high = max > INT64_MAX ? INT64_MAX : (int64_t)max;
    int64_t number = 0;
    if (presence == COP_JSON_REQUIRED ||
        (key ? cop_json_has(object, key) : object->value != NULL)) {
        COP_TRY(cop_json_i64(object, key, low, high, presence, &number));
        *out = (uint64_t)number;
    }
    return COP_OK;
}

cop_status cop_json_u32(const cop_json *object, const char *key, uint32_t min, uint32_t max,
                        cop_json_presence presence, uint32_t *out) {
    int64_t number = -1;
    COP_TRY(cop_json_i64(object, key, min, max, presence, &number));
    if (number >= 0)
        *out = (uint32_t)number;
    return COP_OK;
}

cop_status cop_json_f64(const cop_json *object, const char *key, double min, double max,
                        cop_json_presence presence, double *out) {
    char what[96];
    snprintf(what, sizeof what, "a number from %g to %g", min, max);
    json_t *value;
    COP_TRY(find(object, key, presence, what, &value));
    if (!value)
        return COP_OK;
    if (!json_is_number(value))
        return cop_json_fail(object, key, "is %s; give %s", kind_of(value), what);
    double number = json_number_value(value);
    if (!(number >= min && number <= max))
        return cop_json_fail(object, key, "is %g; give %s", number, what);
    *out = number;
    return COP_OK;
}

cop_status cop_json_bool(const cop_json *object, const char *key, cop_json_presence presence,
                         bool *out) {
    json_t *value;
    COP_TRY(find(object, key, presence, "true or false", &value));
    if (!value)
        return COP_OK;
    if (!json_is_boolean(value))
        return cop_json_fail(object, key, "is %s; give true or false", kind_of(value));
    *out = json_is_true(value);
    return COP_OK;
}

cop_status cop_json_text(const cop_json *object, const char *key, cop_json_presence presence,
                         const char **out) {
    json_t *value;
    COP_TRY(find(object, key, presence, "a string that is not empty", &value));
    if (!value)
        return COP_OK;
    if (!json_is_string(value) || json_string_length(value) == 0)
        return cop_json_fail(object, key, "is %s; give a string that is not empty",
                             json_is_string(value) ? "empty" : kind_of(value));
    *out = json_string_value(value);
    return COP_OK;
}

cop_status cop_json_choice(const cop_json *object, const char *key, const char *const names[],
                           cop_json_presence presence, uint32_t *out) {
    char what[PATH_BYTES] = "one of: ";
    size_t used = strlen(what);
    for (size_t i = 0; names[i]; i++) {
        append_printable(what, &used, sizeof what, i ? ", " : "");
        append_printable(what, &used, sizeof what, names[i]);
    }
    json_t *value;
    COP_TRY(find(object, key, presence, what, &value));
    if (!value)
        return COP_OK;
    if (!json_is_string(value))
        return cop_json_fail(object, key, "is %s; give %s", kind_of(value), what);
    for (uint32_t i = 0; names[i]; i++) {
        if (strcmp(names[i], json_string_value(value)) == 0) {
            *out = i;
            return COP_OK;
        }
    }
    char shown[64];
    used = 0;
    append_printable(shown, &used, sizeof shown, json_string_value(value));
    return cop_json_fail(object, key, "is '%s'; give %s", shown, what);
}

static cop_status child_of(const cop_json *object, const char *key, cop_json_presence presence,
                           json_type type, cop_json *child) {
    const char *what = type == JSON_OBJECT ? "an object {..}" : "an array [..]";
    json_t *value;
    COP_TRY(find(object, key, presence, what, &value));
    if (value && json_typeof(value) != type)
        return cop_json_fail(object, key, "is %s; give %s", kind_of(value), what);
    if (key)
        *child = (cop_json){.value = value, .parent = object, .key = key};
    else if (child != object)
        *child = (cop_json){value, object->parent, object->key, object->index, NULL};
    return COP_OK;
}

cop_status cop_json_object(const cop_json *object, const char *key, cop_json_presence presence,
                           cop_json *child) {
    return child_of(object, key, presence, JSON_OBJECT, child);
}

cop_status cop_json_array(const cop_json *object, const char *key, cop_json_presence presence,
                          cop_json *child) {
    return child_of(object, key, presence, JSON_ARRAY, child);
}

size_t cop_json_count(const cop_json *array) {
    return json_array_size(array->value);
}

cop_json cop_json_at(const cop_json *array, size_t index) {
    return (cop_json){json_array_get(array->value, index), array, NULL, index, NULL};
}
