/* Texts of a controller: prompts and states of one problem, in memory that is taken once. What is
 * made stays until reset. Templates hold names in braces, which are replaced in one pass; what
 * replaces them is not looked at again, and a brace that begins no known name stays. */
#pragma once

#include "reason/rules/rule_internal.h"

typedef struct cop__prompts {
    cop_rule *rule; /* whose name stands in messages */
    char *data;
    size_t used, capacity;
} cop__prompts;

typedef struct cop__text {
    const char *data;
    size_t bytes;
} cop__text;

typedef struct cop__slot {
    const char *name; /* "{request}" */
    cop__text value;
} cop__slot;

cop_status cop__prompts_create(cop_rule *rule, size_t capacity, cop__prompts *out);
cop_status cop__prompts_join(cop__prompts *pool, const cop__text *parts, uint32_t n,
                             cop__text *out);
cop_status cop__prompts_fill(cop__prompts *pool, cop__text template, const cop__slot *slots,
                             uint32_t n, cop__text *out);
/* ends in a NUL, which is not counted */
cop_status cop__prompts_copy(cop__prompts *pool, const char *data, size_t bytes, cop__text *out);
static inline cop__text cop__text_of(const char *string) {
    return (cop__text){string, __builtin_strlen(string)};
}
bool cop__text_equal(cop__text a, cop__text b);
/* Without ASCII white space at both ends. */
cop__text cop__text_strip(cop__text text);
bool cop__is_space(char c);
