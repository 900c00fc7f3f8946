/* A cell's line of results and its answers, from the outcomes of its run. A mean over nothing is
 * null, with the reason beside it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "job/job_problems.h"
#include "measure/proportion.h"

enum { GRADE_COUNT = COP_GRADE_UNGRADED + 1 };

static double latency_ms(const cop__problem_outcome *outcome) {
    return (double)(outcome->end_ns - outcome->begin_ns) / 1e6;
}

typedef struct totals {
    uint32_t grades[GRADE_COUNT];
    uint32_t n, graded, well_formed, forked;
    uint64_t forks, paths, cancelled, tokens, longest, longest_max;
} totals;

static totals add_up(const cop__problem_cell *cell) {
    totals t = {.n = cell->set->count};
    for (uint32_t i = 0; i < t.n; i++) {
        const cop__problem_outcome *o = &cell->outcomes[i];
        t.grades[o->grade]++;
        t.well_formed += o->well_formed;
        t.forked += o->forks > 0;
        t.forks += o->forks;
        t.paths += o->paths;
        t.cancelled += o->cancelled;
        t.tokens += o->tokens;
        t.longest += o->longest;
        t.longest_max = o->longest > t.longest_max ? o->longest : t.longest_max;
    }
    t.graded = t.n - t.grades[COP_GRADE_UNGRADED];
    return t;
}

static json_t *accuracy_of(const totals *t) {
    json_t *out =
        json_pack("{s:i, s:i, s:i, s:i, s:s}", "right", (int)t->grades[COP_GRADE_RIGHT], "wrong",
                  (int)t->grades[COP_GRADE_WRONG], "none", (int)t->grades[COP_GRADE_NONE],
                  "ungraded", (int)t->grades[COP_GRADE_UNGRADED], "interval", "Wilson, 95 %");
    if (!out)
        return NULL;
    if (t->graded == 0) {
        json_object_update_new(out, json_pack("{s:n, s:n, s:n, s:s}", "share", "low", "high",
                                              "share_why", "the checker could judge no problem"));
        return out;
    }
    double low, high;
    cop_proportion_wilson(t->grades[COP_GRADE_RIGHT], t->graded, COP_PROPORTION_Z95, &low, &high);
    json_object_update_new(out, json_pack("{s:f, s:f, s:f}", "share",
                                          (double)t->grades[COP_GRADE_RIGHT] / t->graded, "low",
                                          low, "high", high));
    return out;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const double *sorted, uint32_t n, double share) {
    double at = share * (n - 1);
    uint32_t below = (uint32_t)at;
    double next = below + 1 < n ? sorted[below + 1] : sorted[below];
    return sorted[below] + (at - below) * (next - sorted[below]);
}

static json_t *latency_of(const cop__problem_cell *cell) {
    uint32_t n = cell->set->count;
    double *sorted = cop_calloc(n, sizeof *sorted), sum = 0;
    if (!sorted)
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        sum += sorted[i] = latency_ms(&cell->outcomes[i]);
    qsort(sorted, n, sizeof *sorted, by_size);
    json_t *out = json_pack("{s:f, s:f, s:f}", "mean", sum / n, "p50", percentile(sorted, n, 0.5),
                            "p95", percentile(sorted, n, 0.95));
    cop_free(sorted);
    return out;
}

static json_t *stops_of(const cop__problem_cell *cell) {
    json_t *stops = json_object();
    for (uint32_t i = 0; i < cell->set->count; i++) {
        const char *name = cop_stop_name(cell->outcomes[i].stop);
        json_int_t so_far = json_integer_value(json_object_get(stops, name));
        json_object_set_new(stops, name, json_integer(so_far + 1));
    }
    return stops;
}

static json_t *prune_of(const cop__problem_cell *cell) {
    const cop_problems_method *method = cell->method;
    const cop_prune_options *prune = &method->prune;
    if (!prune->budget_tokens && !prune->window)
        return json_null();
    json_t *out =
        json_pack("{s:I, s:i, s:i, s:n, s:n}", "budget_tokens", (json_int_t)prune->budget_tokens,
                  "window", (int)prune->window, "warmup", prune->window ? (int)method->n_warmup : 0,
                  "keep_percent", "threshold");
    if (out && prune->window)
        json_object_set_new(out, "keep_percent", json_real(method->keep_percent));
    if (out && isfinite(cell->threshold))
        json_object_set_new(out, "threshold", json_real(cell->threshold));
    return out;
}

static json_t *policy_of(const cop_join_policy *policy) {
    if (!policy->quorum && !policy->deadline_tokens)
        return json_null();
    return json_pack("{s:i, s:b, s:i, s:b}", "quorum", (int)policy->quorum, "success_only",
                     (int)policy->success_only, "deadline_tokens", (int)policy->deadline_tokens,
                     "keep_partial", (int)policy->keep_partial);
}

static json_t *notes_of(const cop__problem_cell *cell, const cop__problem_reference *reference) {
    json_t *notes = json_array();
    const cop_problems_method *method = cell->method;
    if (cop__problem_rules_look_across(method))
        json_array_append_new(notes, json_string("its rules look across paths: tokens are not "
                                                 "held against another number at once"));
    else if (cop__problem_may_be_shed(cell))
        json_array_append_new(notes, json_string("a full pool may end its paths: tokens are not "
                                                 "held against another number at once"));
    else if (reference->at_once && reference->at_once != cell->at_once)
        json_array_append_new(notes, json_sprintf("every problem gave the same tokens as with %u "
                                                  "at once",
                                                  reference->at_once));
    if (cell->n_failed > 0)
        json_array_append_new(notes,
                              json_sprintf("%u problems were ended where the controller could "
                                           "not go on; the first: %s",
                                           cell->n_failed, cell->failed));
    if (method->prune.window)
        json_array_append_new(notes, json_sprintf("the first %u problems ran whole and set the "
                                                  "threshold; they count as the others do",
                                                  method->n_warmup));
    if (method->prune.window && !isfinite(cell->threshold))
        json_array_append_new(notes, json_string("no warm-up problem had a confidence: the rule "
                                                 "never acted"));
    if (method->prune.window && method->prune.window != COP_DEEPCONF_WINDOW)
        json_array_append_new(notes,
                              json_sprintf("confidence window %u: not DeepConf's preset (%d)",
                                           method->prune.window, COP_DEEPCONF_WINDOW));
    return notes;
}

static int add_columns(const cop__problem_cell *cell, json_t *record) {
    json_t *id = json_array(), *grade = json_array(), *longest = json_array();
    json_t *tokens = json_array(), *latency = json_array(), *forks = json_array();
    json_t *paths = json_array(), *stop = json_array(), *seen = json_array();
    int failed = 0;
    for (uint32_t i = 0; i < cell->set->count; i++) {
        const cop__problem_outcome *o = &cell->outcomes[i];
        failed |= json_array_append_new(id, json_string(cell->set->list[i].id));
        failed |= json_array_append_new(grade, json_string(cop_grade_name(o->grade)));
        failed |= json_array_append_new(longest, json_integer((json_int_t)o->longest));
        failed |= json_array_append_new(tokens, json_integer((json_int_t)o->tokens));
        failed |= json_array_append_new(latency, json_real(latency_ms(o)));
        failed |= json_array_append_new(forks, json_integer(o->forks));
        failed |= json_array_append_new(paths, json_integer(o->paths));
        failed |= json_array_append_new(stop, json_string(cop_stop_name(o->stop)));
        failed |= json_array_append_new(
            seen, o->tokens ? json_real((double)o->seen_sum / (double)o->tokens) : json_null());
    }
    json_t *each = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id", id, "grade",
                             grade, "longest", longest, "tokens", tokens, "latency_ms", latency,
                             "forks", forks, "paths", paths, "stop", stop, "context_seen", seen);
    return failed | json_object_set_new(record, "each", each);
}

/* What was run, and under which rules. */
static json_t *describe(const cop__problem_cell *cell, const cop__problem_reference *reference) {
    const cop_problems_method *method = cell->method;
    const cop_dialect *dialect = cell->prompts->dialect;
    const cop_job *job = cell->job;
    /* "none" marks the method that the others are set against, which a controller is not. */
    bool extrapolated = cell->positions > cop_model_shape_of(job->model)->context;
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:i, s:i, s:s, s:s, s:b, s:s, s:s, s:b, s:i, s:f, "
        "s:i, s:s, s:o, s:o, s:o, s:o}",
        "group", "problems", "problem", cell->problem, "method", method->name, "set",
        cell->what->name, "at_once", (int)cell->at_once, "dialect", dialect->name, "join",
        method->runs_prompts ? "calls" : cop_join_rule_name(dialect->join), "ask_paths",
        (int)(method->ask_paths ? method->ask_paths : dialect->ask_paths), "max_blocks",
        (int)(method->max_blocks ? method->max_blocks : dialect->max_blocks), "checker",
        cop_checker_name(cell->checker), "model", cop_model_name(job->model), "random_weights",
        (int)cop_model_is_random(job->model), "arithmetic", cop_arith_name(job->options.arith),
        "tokens_from", "decoded live", "extrapolated", (int)extrapolated, "problems",
        (int)cell->set->count, "temperature", (double)cell->what->temperature, "max_tokens",
        (int)cop__problem_max_tokens(cell), "set_sha256", cell->set->sha256, "stops",
        stops_of(cell), "notes", notes_of(cell, reference), "prune", prune_of(cell), "join_policy",
        policy_of(&method->join_policy));
}

json_t *cop__problem_record(const cop__problem_cell *cell,
                            const cop__problem_reference *reference) {
    json_t *record = describe(cell, reference);
    if (cell->method->program)
        json_object_set_new(record, "program", json_string(cell->method->program));
    totals t = add_up(cell);
    double n = t.n, wall_ns = (double)cell->metrics.wall_ns;
    json_t *figures = json_pack(
        "{s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:f, s:o, s:f, s:f}", "accuracy",
        accuracy_of(&t), "well_formed", t.well_formed / n, "forked", t.forked / n, "blocks_mean",
        (double)t.forks / n, "paths_mean", (double)t.paths / n, "paths_cancelled_mean",
        (double)t.cancelled / n, "tokens_mean", (double)t.tokens / n, "longest_mean",
        (double)t.longest / n, "longest_max", (json_int_t)t.longest_max, "tokens_pruned_mean",
        (double)cell->metrics.tokens_pruned / n, "latency_ms", latency_of(cell), "problems_per_s",
        n * 1e9 / wall_ns, "wall_per_problem_ms", wall_ns / 1e6 / n);
    json_t *wrong =
        t.graded ? json_real((double)t.grades[COP_GRADE_WRONG] / t.graded) : json_null();
    int failed = !record || !figures || json_object_set_new(figures, "wrong_claims", wrong);
    if (!failed && t.graded == 0)
        failed = json_object_set_new(figures, "wrong_claims_why",
                                     json_string("the checker could judge no problem"));
    if (!failed)
        failed = json_object_update(record, figures) | add_columns(cell, record) |
                 cop__problem_reasoning(cell, record);
    if (!failed && cell->rule_identity)
        failed = json_object_set_new(
            record, "rule", cop_job_rule_record(cell->rule_identity, &cell->rule, NULL, 0));
    if (!failed && cell->method->runs_prompts)
        failed = json_object_set_new(json_object_get(record, "rule"), "calls_at_once",
                                     json_integer(cop__problem_calls_at_once(cell)));
    if (!failed && cell->samples)
        failed = json_object_set_new(record, "samples", cop__problem_samples_record(cell));
    json_decref(figures);
    if (!failed)
        return record;
    json_decref(record);
    return NULL;
}

/* ---- answers ---- */

/* Bytes of a model may be no valid UTF-8, which JSON cannot hold: U+FFFD stands for those. */
static json_t *clean_text(const char *text, size_t bytes) {
    char *clean = cop_calloc(3 * bytes + 2 * COP_UTF8_SLACK, 1);
    if (!clean)
        return NULL;
    cop_utf8_stream stream = {0};
    size_t n = cop_utf8_stream_push(&stream, text, bytes, true, clean);
    json_t *out = json_stringn(clean, n);
    cop_free(clean);
    return out;
}

static json_t *text_or_null(cop_answer_text text) {
    return text.text ? json_stringn(text.text, text.bytes) : json_null();
}

static cop_status text_of(const cop__problem_cell *cell, uint32_t i, cop_buffer *out) {
    const cop__problem_outcome *o = &cell->outcomes[i];
    const cop__problem_sample sample = {
        .n_ids = o->n_ids, .first_id = o->first_id, .text_bytes = o->text_bytes};
    out->bytes = 0;
    if (cell->method->runs_prompts || cell->samples)
        return cop_buffer_append(out, cell->texts.data + o->first_byte, o->text_bytes);
    return cop__problem_samples_text(cell, &sample, cell->set->list[i].id, out);
}

static cop_status put_line(json_t *line, const char *id, cop_buffer *out) {
    char *dumped = line ? json_dumps(line, JSON_COMPACT) : NULL;
    json_decref(line);
    if (!dumped)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the answer to problem %s", id);
    cop_status status = cop_buffer_append(out, dumped, strlen(dumped));
    free(dumped);
    return status == COP_OK ? cop_buffer_append(out, "\n", 1) : status;
}

/* One line a sample; what the rule made of all of them stands in each. */
static cop_status write_samples(const cop__problem_cell *cell, uint32_t i, cop_buffer *text,
                                cop_buffer *out) {
    const cop_problem_entry *problem = &cell->set->list[i];
    const cop__problem_outcome *o = &cell->outcomes[i];
    const cop__problem_sample *list = cell->samples + (size_t)i * cop__problem_n_samples(cell);
    for (uint32_t k = 0; k < o->n_samples; k++) {
        const cop__problem_sample *s = &list[k];
        COP_TRY(cop__problem_samples_text(cell, s, problem->id, text));
        const char *bytes = text->data ? text->data : "";
        const char *chosen = cell->texts.data ? cell->texts.data + o->first_byte : "";
        json_t *answer =
            s->claimed ? clean_text(bytes + s->answer_at, s->answer_bytes) : json_null();
        COP_TRY(put_line(
            json_pack("{s:s, s:i, s:o, s:o, s:o, s:s, s:s, s:i, s:o, s:s, s:o}", "id", problem->id,
                      "sample", (int)k, "prompt", text_or_null(problem->prompt), "reference",
                      text_or_null(problem->answer), "answer", answer, "grade",
                      cop_grade_name(s->grade), "stop", cop_stop_name(s->stop), "tokens",
                      (int)s->generated, "rule_answer",
                      o->claimed ? clean_text(chosen, o->answer_bytes) : json_null(), "rule_grade",
                      cop_grade_name(o->grade), "text", clean_text(bytes, text->bytes)),
            problem->id, out));
    }
    return COP_OK;
}

static cop_status write_answer(const cop__problem_cell *cell, uint32_t i, cop_buffer *text,
                               cop_buffer *out) {
    const cop_problem_entry *problem = &cell->set->list[i];
    const cop__problem_outcome *o = &cell->outcomes[i];
    COP_TRY(text_of(cell, i, text));
    const char *bytes = text->data ? text->data : "";
    json_t *answer = o->claimed ? clean_text(bytes + o->answer_at, o->answer_bytes) : json_null();
    json_t *line = json_pack(
        "{s:s, s:o, s:o, s:o, s:s, s:s, s:I, s:I, s:i, s:i, s:b, s:o}", "id", problem->id, "prompt",
        text_or_null(problem->prompt), "reference", text_or_null(problem->answer), "answer", answer,
        "grade", cop_grade_name(o->grade), "stop", cop_stop_name(o->stop), "longest",
        (json_int_t)o->longest, "tokens", (json_int_t)o->tokens, "forks", (int)o->forks, "paths",
        (int)o->paths, "well_formed", (int)o->well_formed, "text", clean_text(bytes, text->bytes));
    return put_line(line, problem->id, out);
}

cop_status cop__problem_answers(const cop__problem_cell *cell, cop_buffer *out) {
    cop_buffer text = {0};
    cop_status status = COP_OK;
    for (uint32_t i = 0; i < cell->set->count && status == COP_OK; i++)
        status =
            cell->samples ? write_samples(cell, i, &text, out) : write_answer(cell, i, &text, out);
    cop_buffer_release(&text);
    return status;
}
