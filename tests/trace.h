/* Reads a timeline back as the Chrome trace that it writes. */
#pragma once

#include <jansson.h>

#include "check.h"
#include "measure/timeline.h"

static inline json_t *trace_of(const cop_timeline *timeline, const char *title) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    CHECK(file);
    CHECK_OK(cop_timeline_write(timeline, title, file));
    CHECK(fclose(file) == 0);
    json_error_t error;
    json_t *trace = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!trace)
        fprintf(stderr, "%s at %d: %.200s\n", error.text, error.position, text + error.position);
    CHECK(trace);
    free(text);
    return trace;
}

static inline double number(const json_t *event, const char *key) {
    const json_t *value = json_object_get(event, key);
    CHECK(json_is_number(value));
    return json_number_value(value);
}
