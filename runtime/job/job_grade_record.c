#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "job/job_grade_internal.h"
#include "model/tokenizer.h"

enum { GRADE_COUNT = COP_GRADE_UNGRADED + 1, COSTS = 3, METHODS_MAX = 256 };

/* Model text may hold bytes that are no UTF-8, but what was read from JSON cannot. */
static json_t *text_or_null(cop_answer_text text) {
    return text.text ? json_stringn(text.text, text.bytes) : json_null();
}

json_t *cop__grade_answer_line(const cop__graded_method *method,
                               const cop__prediction *prediction) {
    return json_pack("{s:s, s:s, s:i, s:s, s:o}", "method", method->name, "id",
                     method->problems[prediction->problem].id, "sample", (int)prediction->sample,
                     "grade", cop_grade_name(prediction->grade), "claimed",
                     text_or_null(prediction->claimed));
}

/* ---- one problem's samples ---- */

/* What stands between two problems: first .. end - 1 of a method's predictions. */
typedef struct problem_span {
    const cop__prediction *list;
    uint32_t n;
} problem_span;

static bool next_span(const cop__graded_method *method, uint32_t *at, problem_span *out) {
    if (*at >= method->count)
        return false;
    *out = (problem_span){method->list + *at, 0};
    while (*at < method->count && method->list[*at].problem == out->list[0].problem) {
        out->n++;
        ++*at;
    }
    return true;
}

static uint32_t count_grade(problem_span span, cop_grade grade) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < span.n; i++)
        count += span.list[i].grade == grade;
    return count;
}

/* ---- a method ---- */

typedef struct summary {
    const cop__graded_method *method;
    cop__grade_run *run;
    uint32_t n; /* problems with a prediction */
    problem_span *spans;
    double *value; /* [n] scratch: one figure of each problem */
    uint32_t fewest, most;
    uint64_t grades[GRADE_COUNT];
    cop_bootstrap avg;
    double cost[COSTS];
} summary;

static void set_real(json_t *object, const char *name, double value, const char *why) {
    char why_name[64];
    if (isfinite(value)) {
        json_object_set_new(object, name, json_real(value));
        return;
    }
    snprintf(why_name, sizeof why_name, "%s_why", name);
    json_object_set_new(object, name, json_null());
    json_object_set_new(object, why_name, json_string(why));
}

static cop_status bootstrap(const summary *s, cop_bootstrap *out) {
    return cop_bootstrap_mean(s->value, s->n, s->run->job->replicates, 0.95, s->run->job->seed,
                              out);
}

static json_t *interval_json(const cop_bootstrap *b, const char *why) {
    json_t *out = json_object();
    set_real(out, "share", b->mean, why);
    set_real(out, "low", b->low, why);
    set_real(out, "high", b->high, why);
    json_object_set_new(out, "problems", json_integer(b->used));
    return out;
}

static cop_status average(summary *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t graded = s->spans[i].n - count_grade(s->spans[i], COP_GRADE_UNGRADED);
        s->value[i] = graded ? (double)count_grade(s->spans[i], COP_GRADE_RIGHT) / graded : NAN;
    }
    return bootstrap(s, &s->avg);
}

static cop_status pass_at(summary *s, uint32_t k, json_t **out) {
    cop_bootstrap b;
    for (uint32_t i = 0; i < s->n; i++)
        s->value[i] = cop_pass_at_k(s->spans[i].n - count_grade(s->spans[i], COP_GRADE_UNGRADED),
                                    count_grade(s->spans[i], COP_GRADE_RIGHT), k, s->run->job->few);
    COP_TRY(bootstrap(s, &b));
    *out = interval_json(&b, "no problem has k graded samples");
    json_object_set_new(*out, "k", json_integer(k));
    json_object_set_new(*out, "few",
                        json_string(s->run->job->few == COP_FEW_NPR ? "npr" : "left out"));
    return COP_OK;
}

/* What a problem's samples vote for; what is ungraded has no vote, as it is no sample. */
static cop_status voters_of(const summary *s, problem_span span, cop_vote_sample *voters,
                            uint32_t *n) {
    cop_answer_text *claims = cop_calloc(span.n, sizeof *claims);
    uint32_t *classes = cop_calloc(span.n, sizeof *classes), n_classes;
    *n = 0;
    for (uint32_t i = 0; claims && i < span.n; i++)
        if (span.list[i].grade != COP_GRADE_UNGRADED) {
            claims[*n] = span.list[i].claimed;
            voters[(*n)++] =
                (cop_vote_sample){.weight = 1, .right = span.list[i].grade == COP_GRADE_RIGHT};
        }
    cop_status status = claims && classes
                            ? cop_grader_classes(s->run->grader, claims, *n, classes, &n_classes)
                            : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a vote");
    for (uint32_t i = 0; status == COP_OK && i < *n; i++)
        voters[i].answer = classes[i];
    cop_free(claims);
    cop_free(classes);
    return status;
}

/* maj@k of every k at once, since finding the classes may ask a program. values[k * n + problem].
 */
static cop_status vote_all(const summary *s, const uint32_t *k, uint32_t n_k, double *values,
                           bool *exact) {
    cop_vote_sample *voters = cop_calloc(s->most, sizeof *voters);
    cop_status status =
        voters ? COP_OK : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u votes", s->most);
    for (uint32_t i = 0; i < s->n && status == COP_OK; i++) {
        uint32_t n;
        status = voters_of(s, s->spans[i], voters, &n);
        for (uint32_t q = 0; q < n_k && status == COP_OK; q++) {
            cop_majority_at_k one;
            status = cop_majority_at_k_of(voters, n, k[q], s->run->job->tie, s->run->job->seed,
                                          s->spans[i].list[0].problem, &one);
            exact[q] &= one.exact || !isfinite(one.share);
            values[(size_t)q * s->n + i] = one.share;
        }
    }
    cop_free(voters);
    return status;
}

static cop_status votes_json(summary *s, const uint32_t *k, uint32_t n_k, json_t *list) {
    bool exact[COP_GRADE_K_MAX];
    double *values = cop_calloc((size_t)n_k * s->n + 1, sizeof *values);
    if (!values)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the votes of %u problems", s->n);
    for (uint32_t q = 0; q < n_k; q++)
        exact[q] = true;
    cop_status status = vote_all(s, k, n_k, values, exact);
    for (uint32_t q = 0; q < n_k && status == COP_OK; q++) {
        cop_bootstrap b;
        memcpy(s->value, values + (size_t)q * s->n, s->n * sizeof *values);
        status = bootstrap(s, &b);
        json_t *one = interval_json(&b, "no problem has k graded samples");
        json_object_set_new(one, "k", json_integer(k[q]));
        json_object_set_new(one, "tie", json_string(cop_tie_name(s->run->job->tie)));
        json_object_set_new(one, "subsets", json_string(exact[q] ? "all" : "drawn"));
        json_array_append_new(list, one);
    }
    cop_free(values);
    return status;
}

/* The share of problems' samples that say yes, each problem with the mean of its own. */
static cop_status rate(summary *s, bool parallel, json_t **out) {
    cop_bootstrap b;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t known = 0, yes = 0;
        for (uint32_t k = 0; k < s->spans[i].n; k++) {
            const cop__prediction *one = &s->spans[i].list[k];
            cop__known is = parallel ? one->parallel : one->well_formed;
            known += is != COP_UNKNOWN;
            yes += is == COP_YES;
        }
        s->value[i] = known ? (double)yes / known : NAN;
    }
    COP_TRY(bootstrap(s, &b));
    *out = interval_json(&b, "no prediction says so; give texts and --dialect");
    return COP_OK;
}

static double mean_cost(const summary *s, int which) {
    double sum = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        double own = 0;
        for (uint32_t k = 0; k < s->spans[i].n; k++) {
            const cop__prediction *one = &s->spans[i].list[k];
            own += which == 0 ? one->tokens : which == 1 ? one->latency_ms : one->device_s;
        }
        sum += own / s->spans[i].n;
    }
    return sum / s->n;
}

static cop_status summary_begin(cop__grade_run *run, const cop__graded_method *method, summary *s) {
    *s = (summary){.method = method, .run = run, .fewest = UINT32_MAX};
    s->spans = cop_arena_calloc(run->arena, method->count, sizeof *s->spans);
    s->value = cop_arena_calloc(run->arena, method->count, sizeof *s->value);
    if (!s->spans || !s->value)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the figures of %s", method->name);
    for (uint32_t at = 0; next_span(method, &at, &s->spans[s->n]); s->n++) {
        s->fewest = s->spans[s->n].n < s->fewest ? s->spans[s->n].n : s->fewest;
        s->most = s->spans[s->n].n > s->most ? s->spans[s->n].n : s->most;
    }
    for (uint32_t i = 0; i < method->count; i++)
        s->grades[method->list[i].grade]++;
    for (int which = 0; which < COSTS; which++)
        s->cost[which] = mean_cost(s, which);
    return average(s);
}

static json_t *counts_json(const summary *s) {
    const cop__graded_method *method = s->method;
    json_t *out = json_pack(
        "{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I}", "method", method->name,
        "checker", cop_grader_name(s->run->grader), "problems", (int)s->n, "problems_missing",
        (int)method->missing, "samples", (int)method->count, "samples_fewest", (int)s->fewest,
        "samples_most", (int)s->most, "right", (json_int_t)s->grades[COP_GRADE_RIGHT], "wrong",
        (json_int_t)s->grades[COP_GRADE_WRONG], "none", (json_int_t)s->grades[COP_GRADE_NONE],
        "ungraded", (json_int_t)s->grades[COP_GRADE_UNGRADED], "checker_failures",
        (json_int_t)cop_grader_failures(s->run->grader));
    json_object_set_new(
        out, "bootstrap",
        json_pack("{s:i, s:I, s:f, s:s}", "replicates", (int)s->run->job->replicates, "seed",
                  (json_int_t)s->run->job->seed, "level", 0.95, "clustered_by", "problem"));
    json_object_set_new(out, "avg", interval_json(&s->avg, "no answer could be graded"));
    return out;
}

static cop_status fill_summary(summary *s, json_t *out) {
    const cop_grade_job *job = s->run->job;
    uint32_t own_k[] = {1, s->fewest}, n_own = s->fewest > 1 ? 2 : 1;
    const uint32_t *k = job->n_k ? job->k : own_k, n_k = job->n_k ? job->n_k : n_own;
    json_t *pass = json_array(), *majority = json_array(), *well_formed, *parallel;
    json_object_set_new(out, "pass", pass);
    json_object_set_new(out, "maj", majority);
    for (uint32_t i = 0; i < n_k; i++) {
        json_t *one;
        COP_TRY(pass_at(s, k[i], &one));
        json_array_append_new(pass, one);
    }
    COP_TRY(votes_json(s, k, n_k, majority));
    COP_TRY(rate(s, false, &well_formed));
    json_object_set_new(out, "well_formed", well_formed);
    COP_TRY(rate(s, true, &parallel));
    json_object_set_new(out, "used_parallelism", parallel);
    return COP_OK;
}

/* ---- all methods ---- */

static const char *const cost_names[COSTS] = {"tokens", "latency_ms", "device_s"};

/* Who is on the front of accuracy against each cost, among the methods that say theirs. */
static void fronts_json(const summary *all, uint32_t n, uint32_t m, json_t *out) {
    bool front[METHODS_MAX];
    double cost[METHODS_MAX], gain[METHODS_MAX];
    json_t *pareto = json_object();
    for (int which = 0; which < COSTS; which++) {
        char name[32];
        for (uint32_t i = 0; i < n; i++) {
            cost[i] = all[i].cost[which];
            gain[i] = all[i].avg.mean;
        }
        cop_pareto_front(cost, gain, n, front);
        snprintf(name, sizeof name, "%s_mean", cost_names[which]);
        set_real(out, name, cost[m], "not every prediction says it");
        json_object_set_new(pareto, cost_names[which],
                            isfinite(cost[m]) ? json_boolean(front[m]) : json_null());
    }
    json_object_set_new(out, "pareto", pareto);
}

cop_status cop__grade_summaries(cop__grade_run *run) {
    uint32_t n = (uint32_t)run->n_methods;
    summary *all = cop_arena_calloc(run->arena, n, sizeof *all);
    if (!all)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u summaries", n);
    if (n > METHODS_MAX)
        return COP_FAIL(COP_ERR_NO_ROOM, "%u methods; at most %d stand in one table", n,
                        METHODS_MAX);
    for (uint32_t i = 0; i < n; i++)
        COP_TRY(summary_begin(run, &run->methods[i], &all[i]));
    for (uint32_t i = 0; i < n; i++) {
        json_t *line = counts_json(&all[i]);
        cop_status status = line ? fill_summary(&all[i], line)
                                 : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a summary");
        if (status == COP_OK) {
            fronts_json(all, n, i, line);
            /* The programs' failures are known once all votes are counted. */
            json_object_set_new(line, "checker_failures",
                                json_integer((json_int_t)cop_grader_failures(run->grader)));
            if (run->job->summary)
                run->job->summary(run->job->context, line);
        }
        json_decref(line);
        COP_TRY(status);
    }
    return COP_OK;
}
