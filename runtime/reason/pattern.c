#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/memory.h"
#include "reason/pattern.h"

enum { MATCH_LIMIT = 1000000, DEPTH_LIMIT = 10000, HEAP_LIMIT_KIB = 4096 };

struct cop_pattern {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    uint32_t groups;
};

cop_status cop_pattern_create(const char *expression, cop_pattern **out) {
    int fault = 0;
    PCRE2_SIZE at = 0;
    *out = NULL;
    cop_pattern *pattern = cop_calloc(1, sizeof *pattern);
    if (!pattern)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for an expression");
    pattern->code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                                  PCRE2_NEVER_BACKSLASH_C, &fault, &at, NULL);
    if (!pattern->code) {
        PCRE2_UCHAR text[128] = "";
        pcre2_get_error_message(fault, text, sizeof text);
        cop_pattern_destroy(pattern);
        return COP_FAIL(COP_ERR_CONFIG, "is no regular expression: %s, at byte %zu", (char *)text,
                        (size_t)at);
    }
    pcre2_pattern_info(pattern->code, PCRE2_INFO_CAPTURECOUNT, &pattern->groups);
    pattern->match = pcre2_match_data_create_from_pattern(pattern->code, NULL);
    pattern->limits = pcre2_match_context_create(NULL);
    if (!pattern->match || !pattern->limits) {
        cop_pattern_destroy(pattern);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for an expression");
    }
    pcre2_set_match_limit(pattern->limits, MATCH_LIMIT);
    pcre2_set_depth_limit(pattern->limits, DEPTH_LIMIT);
    pcre2_set_heap_limit(pattern->limits, HEAP_LIMIT_KIB);
    *out = pattern;
    return COP_OK;
}

void cop_pattern_destroy(cop_pattern *pattern) {
    if (!pattern)
        return;
    pcre2_match_context_free(pattern->limits);
    pcre2_match_data_free(pattern->match);
    pcre2_code_free(pattern->code);
    cop_free(pattern);
}

uint32_t cop_pattern_groups(const cop_pattern *pattern) {
    return pattern->groups;
}

bool cop_pattern_next(cop_pattern *pattern, const char *text, size_t bytes, size_t *at,
                      cop_span *group) {
    if (*at > bytes)
        return false;
    int n = pcre2_match(pattern->code, (PCRE2_SPTR)text, bytes, *at, 0, pattern->match,
                        pattern->limits);
    if (n < 1)
        return false;
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(pattern->match);
    bool took_part = n > 1 && ends[2] != PCRE2_UNSET;
    *group = took_part ? (cop_span){ends[2], ends[3] - ends[2]} : (cop_span){ends[1], 0};
    /* \K in a look-ahead can put a match's end before its begin; going on must always go on. */
    *at = ends[1] > *at ? ends[1] : *at + 1;
    return true;
}

bool cop_pattern_has(const cop_pattern *pattern, const char *name) {
    return pcre2_substring_number_from_name(pattern->code, (PCRE2_SPTR)name) > 0;
}

bool cop_pattern_find(cop_pattern *pattern, const char *text, size_t bytes, size_t *from,
                      cop_span *match) {
    if (*from > bytes)
        return false;
    const int n = pcre2_match(pattern->code, (PCRE2_SPTR)text, bytes, *from, PCRE2_PARTIAL_SOFT,
                              pattern->match, pattern->limits);
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(pattern->match);
    if (n == PCRE2_ERROR_NOMATCH)
        *from = bytes;
    if (n == PCRE2_ERROR_PARTIAL && ends[0] > *from)
        *from = ends[0];
    if (n < 1)
        return false;
    *match = (cop_span){ends[0], ends[1] > ends[0] ? ends[1] - ends[0] : 0};
    return match->bytes > 0;
}

bool cop_pattern_named(const cop_pattern *pattern, const char *name, cop_span *group) {
    const int number = pcre2_substring_number_from_name(pattern->code, (PCRE2_SPTR)name);
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(pattern->match);
    *group = (cop_span){0, 0};
    if (number < 1 || ends[2 * number] == PCRE2_UNSET || ends[2 * number + 1] < ends[2 * number])
        return false;
    *group = (cop_span){ends[2 * number], ends[2 * number + 1] - ends[2 * number]};
    return true;
}
