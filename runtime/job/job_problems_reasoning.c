/* What a cell's line says of the papers' measures: bench/METRICS.md, "One run, every paper's
 * measure". Each figure is one value a problem, and the mean of those over the problems. */
#include <math.h>

#include "job/job_problems.h"

static double over(double part, double whole) {
    return whole > 0 ? part / whole : NAN;
}

static double or_none(bool known, double value) {
    return known ? value : NAN;
}

/* X(group, name, whether the outcome has it, its value, why a problem may lack it) */
#define REASONING_MAP(X)                                                                           \
    X(tokens, total, o->traced, o->trace.total, no_trace)                                          \
    X(tokens, longest_thread, o->traced, o->trace.longest_thread, no_trace)                        \
    X(tokens, critical_path, o->traced, o->trace.critical_path, no_trace)                          \
    X(tokens, longest_generated, o->traced, o->trace.longest_generated, no_trace)                  \
    X(tokens, critical_path_async, o->traced, o->trace.longest_generated, no_trace)                \
    X(tokens, position_critical, o->traced, o->trace.position_critical, no_trace)                  \
    X(tokens, longest_sequence, o->traced, o->trace.longest_sequence, no_trace)                    \
    X(tokens, longest_sequence_bos_eos, o->traced, o->trace.longest_sequence_bos_eos, no_trace)    \
    X(tokens, longest_branch, o->traced, o->trace.longest_branch, no_trace)                        \
    X(tokens, in_branches, o->traced, o->trace.in_branches, no_trace)                              \
    X(tokens, marked_total, o->marked, o->marks.total, no_marks)                                   \
    X(tokens, longest_thread_code, o->marked, o->marks.longest_code, no_marks)                     \
    X(tokens, longest_thread_filter, o->marked, o->marks.longest_text, no_marks)                   \
    X(ratio, acceleration_marked, o->marked,                                                       \
      1 - over((double)o->marks.longest_code, (double)o->marks.total), no_marks)                   \
    X(ratio, self_parallelism, o->marked,                                                          \
      over((double)o->marks.total, (double)o->marks.longest_code), no_marks)                       \
    X(ratio, parallel_threadweaver, o->marked,                                                     \
      over((double)o->marks.in_blocks, (double)o->marks.total), no_marks)                          \
    X(ratio, efficiency_gain_words, o->marked, o->gain_words, no_marks)                            \
    X(ratio, multiverse_parallel, o->traced,                                                       \
      over((double)o->trace.total, (double)o->trace.longest_generated), no_trace)                  \
    X(ratio, npr_parallel_tokens, o->traced,                                                       \
      over((double)o->trace.in_branches, (double)o->trace.total), no_trace)                        \
    X(ratio, async_concurrency, o->traced, o->trace.concurrency, no_trace)                         \
    X(rate, npr_parallel_solutions, true, o->forks > 0, no_trace)

typedef enum reasoning_figure {
#define REASONING_ENUM(group, name, known, value, why) FIGURE_##name,
    REASONING_MAP(REASONING_ENUM)
#undef REASONING_ENUM
        FIGURES,
} reasoning_figure;

static const char no_trace[] =
    "no token was generated, more happened than was kept, or there are several "
    "samples";
static const char no_marks[] = "the dialect marks no paths in one text";

static const struct {
    const char *group, *name, *why;
} figures[] = {
#define REASONING_NAME(group, name, known, value, why) {#group, #name, why},
    REASONING_MAP(REASONING_NAME)
#undef REASONING_NAME
};

static double value_of(const cop__problem_outcome *o, reasoning_figure figure) {
    switch (figure) {
#define REASONING_VALUE(group, name, known, value, why)                                            \
    case FIGURE_##name:                                                                            \
        return or_none(known, (double)(value));
        REASONING_MAP(REASONING_VALUE)
#undef REASONING_VALUE
    case FIGURES:
        break;
    }
    return NAN;
}

static json_t *mean_of(const cop__problem_cell *cell, reasoning_figure figure) {
    double sum = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < cell->set->count; i++) {
        double value = value_of(&cell->outcomes[i], figure);
        if (!isfinite(value))
            continue;
        sum += value;
        n++;
    }
    return n ? json_real(sum / n) : json_null();
}

static json_t *column_of(const cop__problem_cell *cell, reasoning_figure figure) {
    json_t *column = json_array();
    int failed = 0;
    for (uint32_t i = 0; i < cell->set->count; i++) {
        double value = value_of(&cell->outcomes[i], figure);
        failed |= json_array_append_new(column, isfinite(value) ? json_integer((json_int_t)value)
                                                                : json_null());
    }
    if (!failed)
        return column;
    json_decref(column);
    return NULL;
}

int cop__problem_reasoning(const cop__problem_cell *cell, json_t *record) {
    json_t *out = json_pack("{s:{}, s:{}, s:{}}", "tokens", "ratio", "rate");
    json_t *each = json_object_get(record, "each");
    int failed = 0;
    for (int f = 0; f < FIGURES; f++) {
        json_t *group = json_object_get(out, figures[f].group);
        json_t *mean = mean_of(cell, (reasoning_figure)f);
        char why[64];
        snprintf(why, sizeof why, "%s_why", figures[f].name);
        if (json_is_null(mean))
            failed |= json_object_set_new(group, why, json_string(figures[f].why));
        failed |= json_object_set_new(group, figures[f].name, mean);
    }
    failed |=
        json_object_set_new(each, "longest_generated", column_of(cell, FIGURE_longest_generated));
    failed |= json_object_set_new(each, "longest_thread_code",
                                  column_of(cell, FIGURE_longest_thread_code));
    return failed | json_object_set_new(record, "reasoning", out);
}
