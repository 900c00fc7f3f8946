#include "job/job_problems.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

enum { AT_ONCE_LIMIT = 256 };

typedef struct problems_run {
    cop_job *job;
    const cop_problems_job *what;
    const cop_checker *checker;
    cop_problem_set *set;
    cop__problem_prompts *prompts;      /* [n_methods] */
    cop__problem_reference *references; /* [n_methods] */
    json_t **rules;                     /* [n_methods] what identifies a method's rule, or NULL */
    uint32_t done, total;               /* cells */
} problems_run;

bool cop__problem_rules_look_across(const cop_problems_method *method) {
    return method->join_policy.quorum || method->join_policy.deadline_tokens ||
           method->prune.budget_tokens || method->prune.window ||
           (method->rule && !method->runs_prompts);
}

bool cop__problem_may_be_shed(const cop__problem_cell *cell) {
    return cell->job->options.kv_policy == COP_PRESSURE_PRUNE_LOWEST;
}

cop_status cop__problem_compare(const cop__problem_cell *cell, cop__problem_reference *reference) {
    if (cop__problem_rules_look_across(cell->method))
        return COP_OK;
    for (uint32_t i = 0; i < cell->set->count; i++) {
        uint64_t hash = cell->outcomes[i].hash;
        if (!reference->at_once)
            reference->hash[i] = hash;
        else if (reference->hash[i] != hash)
            return COP_FAIL(COP_ERR_MISMATCH,
                            "%s, %s: problem %s gave other tokens with %u at once than with %u; "
                            "what runs beside a problem must not change it",
                            cell->what->name, cell->method->name, cell->set->list[i].id,
                            cell->at_once, reference->at_once);
    }
    if (!reference->at_once)
        reference->at_once = cell->at_once;
    return COP_OK;
}

/* Everything that decides what is run and what comes out of it. */
static json_t *identity_of(const problems_run *run, uint32_t m, uint32_t at_once,
                           const char *problem) {
    const cop_problems_job *what = run->what;
    const cop_problems_method *method = &what->methods[m];
    const cop_join_policy *policy = &method->join_policy;
    json_t *work = json_pack(
        "{s:s, s:i, s:s, s:s, s:s, s:i, s:i, s:i, s:f, s:i, s:f, s:f}", "set", run->set->sha256,
        "problems", (int)run->set->count, "checker", cop_checker_name(run->checker), "dialect",
        run->prompts[m].dialect->name, "prompts", run->prompts[m].sha256, "at_once", (int)at_once,
        "max_paths", (int)what->max_paths, "max_blocks", (int)method->max_blocks, "temperature",
        (double)what->temperature, "top_k", (int)what->top_k, "top_p", (double)what->top_p, "min_p",
        (double)what->min_p);
    json_t *rules =
        json_pack("{s:i, s:I, s:i, s:i, s:f, s:i, s:b, s:i, s:b}", "max_tokens",
                  (int)(method->max_tokens ? method->max_tokens : what->max_tokens), "budget",
                  (json_int_t)method->prune.budget_tokens, "window", (int)method->prune.window,
                  "warmup", (int)method->n_warmup, "keep_percent", method->keep_percent, "quorum",
                  (int)policy->quorum, "success_only", (int)policy->success_only, "deadline",
                  (int)policy->deadline_tokens, "keep_partial", (int)policy->keep_partial);
    json_object_set_new(work, "rules", rules);
    if (method->rule)
        json_object_set(work, "rule", run->rules[m]);
    if (method->n_samples)
        json_object_set_new(work, "samples", json_integer(method->n_samples));
    if (method->chat)
        json_object_set_new(work, "chat", json_true());
    return cop__job_identity(run->job, "problems", problem, method->name, work);
}

/* The answers go first: a line in the results says that they are there. */
static cop_status write_answers(const cop__problem_cell *cell, const cop__job_cell *line) {
    if (!line->results || line->repeat > 0)
        return COP_OK;
    char name[64];
    snprintf(name, sizeof name, "answers-%s.jsonl", line->key);
    cop_buffer text = {0};
    cop_status status = cop__problem_answers(cell, &text);
    if (status == COP_OK)
        status = cop_results_file(line->results, name, text.data, text.bytes);
    cop_buffer_release(&text);
    return status;
}

static cop_status run_cell(problems_run *run, uint32_t m, uint32_t at_once, uint32_t repeat) {
    const cop_problems_job *what = run->what;
    char problem[96];
    snprintf(problem, sizeof problem, "%.70s x %u", what->name, at_once);
    cop__job_cell line = {.job = run->job,
                          .problem = problem,
                          .method = what->methods[m].name,
                          .repeat = repeat,
                          .results = what->results,
                          .listener = what->listener,
                          .context = what->context};
    json_t *identity = identity_of(run, m, at_once, problem);
    cop_status status = cop_results_cell_key(identity, line.key);
    json_decref(identity);
    COP_TRY(status);
    uint32_t done = run->done++;
    if (what->results && cop_results_done(what->results, line.key, repeat))
        return COP_OK;
    char text[192];
    snprintf(text, sizeof text, "%s, %.70s", problem, line.method);
    if (what->progress)
        what->progress(what->context, done, run->total, text);
    cop__problem_cell cell = {.job = run->job,
                              .what = what,
                              .method = &what->methods[m],
                              .set = run->set,
                              .checker = run->checker,
                              .prompts = &run->prompts[m],
                              .rule_identity = run->rules[m],
                              .problem = problem,
                              .at_once = at_once,
                              .done = done,
                              .total = run->total};
    status = cop__problem_cell_run(&cell);
    if (status == COP_OK && !cop__problem_may_be_shed(&cell))
        status = cop__problem_compare(&cell, &run->references[m]);
    if (status == COP_OK)
        status = write_answers(&cell, &line);
    if (status == COP_OK) {
        json_t *record = cop__problem_record(&cell, &run->references[m]);
        status = cop__job_finish_cell(&line, record, &cell.metrics, NULL);
        json_decref(record);
    }
    cop__problem_cell_release(&cell);
    return status;
}

static cop_status check_job(const cop_problems_job *what) {
    if (what->n_methods == 0 || what->n_at_once == 0 || what->n_at_once > COP_AT_ONCE_MAX)
        return COP_FAIL(COP_ERR_CONFIG,
                        "%s: problems take at least one method, and 1 to %d numbers at once",
                        what->name, COP_AT_ONCE_MAX);
    for (uint32_t i = 0; i < what->n_at_once; i++) {
        if (what->at_once[i] == 0 || what->at_once[i] > AT_ONCE_LIMIT)
            return COP_FAIL(COP_ERR_CONFIG, "%s: %u problems at once: use 1 to %d", what->name,
                            what->at_once[i], AT_ONCE_LIMIT);
    }
    if (what->max_tokens == 0)
        return COP_FAIL(COP_ERR_CONFIG, "%s: max_tokens is 0: give each problem at least one token",
                        what->name);
    return COP_OK;
}

static cop_status identify_rule(problems_run *run, uint32_t m) {
    const cop__problem_cell cell = {.job = run->job,
                                    .what = run->what,
                                    .method = &run->what->methods[m],
                                    .prompts = &run->prompts[m]};
    cop_job_rule rule = {0};
    if (!cell.method->rule)
        return COP_OK;
    cop_status status = cop__problem_rule_open(&cell, &rule);
    if (status == COP_OK && !(run->rules[m] = cop_job_rule_identity(&rule)))
        status = COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a rule");
    if (status == COP_OK && cell.method->runs_prompts)
        status = cop__problem_calls_try(&cell, rule.rule);
    cop_job_rule_close(&rule);
    return status == COP_OK
               ? COP_OK
               : cop_status_prefix(status, "%s, %s", run->what->name, cell.method->name);
}

/* All that can be wrong with the set, the dialects and the prompts is found before the first run.
 */
static cop_status prepare(problems_run *run) {
    const cop_problems_job *what = run->what;
    COP_TRY(check_job(what));
    if (!cop_model_tokenizer(run->job->model))
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "problem set %s: %s has no tokenizer, so it can read no problem; name a "
                        "model file with one",
                        what->name, cop_model_name(run->job->model));
    COP_TRY(cop_checker_find(what->checker, &run->checker));
    COP_TRY(cop_problem_set_read(what->set, run->checker, what->first, &run->set));
    if (run->set->count == 0)
        return COP_FAIL(COP_ERR_CONFIG, "%s holds no problem", what->set);
    for (uint32_t i = 0; i < what->n_at_once; i++) { /* its figures would be of fewer */
        if (what->at_once[i] > run->set->count)
            return COP_FAIL(COP_ERR_CONFIG,
                            "%s: %u problems at once, and only %u to run: take more problems, or "
                            "fewer at once",
                            what->name, what->at_once[i], run->set->count);
    }
    run->prompts = cop_calloc(what->n_methods, sizeof *run->prompts);
    run->references = cop_calloc(what->n_methods, sizeof *run->references);
    run->rules = cop_calloc(what->n_methods, sizeof(json_t *));
    if (!run->prompts || !run->references || !run->rules)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u methods", what->n_methods);
    for (uint32_t m = 0; m < what->n_methods; m++) {
        const cop_problems_method *method = &what->methods[m];
        if (method->prune.window && (method->n_warmup == 0 || method->n_warmup >= run->set->count))
            return COP_FAIL(COP_ERR_CONFIG,
                            "%s, %s: %u warm-up problems of %u: take at least one, and leave some "
                            "for the rule",
                            what->name, method->name, method->n_warmup, run->set->count);
        run->references[m].hash = cop_calloc(run->set->count, sizeof(uint64_t));
        if (!run->references[m].hash)
            return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u problems", run->set->count);
        COP_TRY(cop__problem_prompts_encode(run->job, run->set, method, &run->prompts[m]));
        COP_TRY(identify_rule(run, m));
    }
    return COP_OK;
}

static cop_status run_cells(problems_run *run) {
    const cop_problems_job *what = run->what;
    run->total = what->repeats * what->n_methods * what->n_at_once;
    for (uint32_t repeat = 0; repeat < what->repeats; repeat++) {
        for (uint32_t m = 0; m < what->n_methods; m++) {
            for (uint32_t i = 0; i < what->n_at_once; i++)
                COP_TRY(run_cell(run, m, what->at_once[i], repeat));
        }
    }
    return COP_OK;
}

static void release(problems_run *run) {
    for (uint32_t m = 0; m < run->what->n_methods; m++) {
        if (run->prompts)
            cop__problem_prompts_release(&run->prompts[m]);
        if (run->references)
            cop_free(run->references[m].hash);
        if (run->rules)
            json_decref(run->rules[m]);
    }
    cop_free(run->rules);
    cop_free(run->prompts);
    cop_free(run->references);
    cop_problem_set_destroy(run->set);
}

cop_status cop_job_problems_check(cop_job *job, const cop_problems_job *what) {
    problems_run run = {.job = job, .what = what};
    cop_status status = prepare(&run);
    release(&run);
    return status;
}

cop_status cop_job_problems(cop_job *job, const cop_problems_job *what) {
    problems_run run = {.job = job, .what = what};
    const cop_job_device *device; /* stands in every cell's key, before its engine is made */
    cop_status status = prepare(&run);
    if (status == COP_OK)
        status = cop_job_device_of(job, &device);
    if (status == COP_OK)
        status = run_cells(&run);
    release(&run);
    return status;
}
