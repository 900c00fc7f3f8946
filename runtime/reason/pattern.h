/* A regular expression of a dialect (PCRE2, bytes), with the memory of one match: one thread at a
 * time. Matching gives up, as if nothing matched, where an expression needs unreasonable work. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct cop_pattern cop_pattern;

typedef struct cop_span {
    size_t begin, bytes;
} cop_span;

/* ERR_CONFIG with PCRE2's words and the byte where it fails. */
cop_status cop_pattern_create(const char *expression, cop_pattern **out);
void cop_pattern_destroy(cop_pattern *pattern);
uint32_t cop_pattern_groups(const cop_pattern *pattern);

bool cop_pattern_has(const cop_pattern *pattern, const char *name); /* a group of that name */
/* The first match at or after *from. None: *from moves to the first place where one may begin once
 * more text stands behind this one, so that a text that grows is looked at once, but for what may
 * still become a match (pcre2partial(3), PCRE2_PARTIAL_SOFT). */
bool cop_pattern_find(cop_pattern *pattern, const char *text, size_t bytes, size_t *from,
                      cop_span *match);
/* The group of that name in the last match; false, and empty, where it took no part. */
bool cop_pattern_named(const cop_pattern *pattern, const char *name, cop_span *group);

/* The first match at or after *at: `group` is its group 1 (empty where that did not take part), and
 * *at moves behind it, by one byte at least. */
bool cop_pattern_next(cop_pattern *pattern, const char *text, size_t bytes, size_t *at,
                      cop_span *group);
