/* The "problems" section of a sweep's config. Whatever can be refused without the model is refused
 * here: a checker or dialect that does not exist, rules that a dialect cannot follow. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "config/paths.h"
#include "job/bench_config.h"
#include "reason/checker.h"

enum { AT_ONCE_LIMIT = 256, PATHS_LIMIT = 4096, SAMPLES_LIMIT = 1024, TOKENS_LIMIT = 1 << 20 };

static cop_status read_at_once(const cop_json *object, cop_problems_job *out) {
    cop_json list;
    COP_TRY(cop_json_array(object, "at_once", COP_JSON_REQUIRED, &list));
    size_t n = cop_json_count(&list);
    if (n == 0 || n > COP_AT_ONCE_MAX)
        return cop_json_fail(object, "at_once", "takes 1 to %d numbers, here are %zu",
                             COP_AT_ONCE_MAX, n);
    for (size_t i = 0; i < n; i++) {
        cop_json item = cop_json_at(&list, i);
        uint32_t number = 0;
        COP_TRY(cop_json_u32(&item, NULL, 1, AT_ONCE_LIMIT, COP_JSON_REQUIRED, &number));
        for (size_t k = 0; k < i; k++) {
            if (out->at_once[k] == number)
                return cop_json_fail(&item, NULL, "%u is named twice", number);
        }
        out->at_once[out->n_at_once++] = number;
    }
    return COP_OK;
}

static cop_status read_prune(const cop_json *method, uint32_t first, cop_problems_method *out) {
    cop_json prune;
    out->prune.threshold = -INFINITY;
    out->keep_percent = 90;
    COP_TRY(cop_json_object(method, "prune", COP_JSON_OPTIONAL, &prune));
    if (!prune.value)
        return COP_OK;
    COP_TRY(COP_JSON_ONLY(&prune, "budget_tokens", "window", "warmup", "keep_percent"));
    COP_TRY(cop_json_u64(&prune, "budget_tokens", 0, 1u << 30, COP_JSON_OPTIONAL,
                         &out->prune.budget_tokens));
    COP_TRY(cop_json_u32(&prune, "window", 1, TOKENS_LIMIT, COP_JSON_OPTIONAL, &out->prune.window));
    if (!out->prune.window &&
        (cop_json_has(&prune, "warmup") || cop_json_has(&prune, "keep_percent")))
        return cop_json_fail(&prune, "window", "warmup and keep_percent need a confidence window");
    if (!out->prune.window && !out->prune.budget_tokens)
        return cop_json_fail(method, "prune", "names no rule: give budget_tokens or window");
    if (!out->prune.window)
        return COP_OK;
    COP_TRY(cop_json_u32(&prune, "warmup", 1, UINT32_MAX, COP_JSON_REQUIRED, &out->n_warmup));
    COP_TRY(
        cop_json_f64(&prune, "keep_percent", 0.001, 100, COP_JSON_OPTIONAL, &out->keep_percent));
    if (first && out->n_warmup >= first)
        return cop_json_fail(&prune, "warmup",
                             "%u warm-up problems of %u leave none for the rule: take fewer",
                             out->n_warmup, first);
    return COP_OK;
}

static cop_status read_join_policy(const cop_json *method, const cop_dialect *dialect,
                                   cop_problems_method *out) {
    cop_join_policy *policy = &out->join_policy;
    cop_json object;
    COP_TRY(cop_json_object(method, "join_policy", COP_JSON_OPTIONAL, &object));
    if (!object.value)
        return COP_OK;
    COP_TRY(COP_JSON_ONLY(&object, "quorum", "finisher", "deadline_tokens", "losers"));
    if (dialect->join == COP_JOIN_NONE)
        return cop_json_fail(method, "join_policy", "dialect %s never forks, so nothing joins",
                             dialect->name);
    uint32_t finisher = 0, losers = 0;
    COP_TRY(cop_json_u32(&object, "quorum", 0, PATHS_LIMIT, COP_JSON_OPTIONAL, &policy->quorum));
    COP_TRY(cop_json_u32(&object, "deadline_tokens", 0, TOKENS_LIMIT, COP_JSON_OPTIONAL,
                         &policy->deadline_tokens));
    COP_TRY(cop_json_choice(&object, "finisher", (const char *const[]){"any", "success", NULL},
                            COP_JSON_OPTIONAL, &finisher));
    COP_TRY(cop_json_choice(&object, "losers", (const char *const[]){"drop", "keep_partial", NULL},
                            COP_JSON_OPTIONAL, &losers));
    policy->success_only = finisher == 1;
    policy->keep_partial = losers == 1;
    if (policy->success_only && !policy->quorum)
        return cop_json_fail(&object, "finisher", "says what a quorum counts: give \"quorum\" too");
    if (!policy->quorum && !policy->deadline_tokens)
        return cop_json_fail(method, "join_policy",
                             "names no rule: give quorum or deadline_tokens");
    if (policy->success_only && dialect->success.bytes == 0)
        return cop_json_fail(&object, "finisher",
                             "dialect %s names no \"success\": its paths cannot be told apart, "
                             "use \"any\"",
                             dialect->name);
    return COP_OK;
}

static cop_status read_dialect(cop_bench_config *c, const char *path, const cop_json *method,
                               cop_problems_method *out, cop_dialect_file **file) {
    COP_TRY(
        cop__bench_named_or_beside(c, path, method, "dialect", COP_JSON_REQUIRED, &out->dialect));
    if (cop_dialect_open(out->dialect, file) != COP_OK)
        return cop_json_fail(method, "dialect", "%s", cop_status_message());
    return COP_OK;
}

/* What a dialect would pass over in silence, and the results then name. */
static cop_status check_dialect(const cop_json *method, const cop_dialect *dialect,
                                const cop_problems_method *what) {
    if (what->ask_paths && !dialect->ask_paths)
        return cop_json_fail(method, "ask_paths",
                             "dialect %s does not say {k} in its prompt, so nothing can be asked "
                             "for: leave it out",
                             dialect->name);
    if (cop_dialect_check_program(dialect, what->program != NULL) != COP_OK)
        return cop_json_fail(method, dialect->program ? "dialect" : "program", "%s",
                             cop_status_message());
    if (dialect->program && (what->prune.window || what->n_warmup))
        return cop_json_fail(method, "prune",
                             "dialect %s takes text back that was said, and a rule cannot forget "
                             "it: leave it out",
                             dialect->name);
    if (what->max_blocks && dialect->join == COP_JOIN_NONE)
        return cop_json_fail(method, "max_blocks", "dialect %s never forks: leave it out",
                             dialect->name);
    return COP_OK;
}

/* A job's paths are those of its dialect that forks; else its one sample is all that a rule sees.
 */
static cop_status read_rule(cop_bench_config *c, const char *path, const cop_json *method,
                            const cop_dialect *dialect, const cop_problems_job *job,
                            cop_problems_method *out) {
    const bool forks = dialect->join != COP_JOIN_NONE, samples = out->n_samples > 0;
    const uint32_t paths = job->max_paths ? job->max_paths : COP_PROBLEM_PATHS_DEFAULT;
    const cop_job_rule_limits limits = {.max_branches = samples ? out->n_samples
                                                        : forks ? paths
                                                                : 1,
                                        .max_tokens =
                                            out->max_tokens ? out->max_tokens : job->max_tokens,
                                        .runs_prompts = !forks && !samples};
    COP_TRY(cop__bench_rule_read(c, path, method, &limits, &out->rule));
    if (out->rule)
        COP_TRY(cop_job_rule_runs_prompts(out->rule, &out->runs_prompts));
    if (samples && !out->rule)
        return cop_json_fail(method, "samples",
                             "needs a \"rule\" that says which answer counts, such as "
                             "\"self-consistency\"");
    if (samples && (out->prune.window || out->prune.budget_tokens))
        return cop_json_fail(method, "prune", "goes with one sample: let the \"rule\" prune");
    if (!out->rule || !forks)
        return COP_OK;
    if (dialect->program)
        return cop_json_fail(method, "rule",
                             "dialect %s takes text back that was said, and a rule cannot forget "
                             "it: leave it out",
                             dialect->name);
    cop_job_rule rule = {0};
    cop_status status = cop_job_rule_open(out->rule, &limits, &rule);
    if (status == COP_OK && !samples && cop_rule_may_open(rule.rule) < limits.max_branches)
        status = cop_json_fail(method, "rule",
                               "%s counts whole samples, and the paths of dialect %s are opened by "
                               "the model: use it for \"samples\"",
                               cop_rule_config_name(rule.config), dialect->name);
    cop_job_rule_close(&rule);
    return status;
}

static cop_status read_method(cop_bench_config *c, const char *path, const cop_json *method,
                              const cop_problems_job *job, cop_problems_method *out) {
    COP_TRY(COP_JSON_ONLY(method, "name", "dialect", "ask_paths", "max_blocks", "max_tokens",
                          "prune", "join_policy", "rule", "chat", "program", "samples"));
    COP_TRY(cop_json_text(method, "name", COP_JSON_REQUIRED, &out->name));
    COP_TRY(cop__bench_keep_text(c, out->name, &out->name));
    COP_TRY(cop_json_u32(method, "ask_paths", 0, PATHS_LIMIT, COP_JSON_OPTIONAL, &out->ask_paths));
    COP_TRY(
        cop_json_u32(method, "max_blocks", 0, PATHS_LIMIT, COP_JSON_OPTIONAL, &out->max_blocks));
    COP_TRY(
        cop_json_u32(method, "max_tokens", 0, TOKENS_LIMIT, COP_JSON_OPTIONAL, &out->max_tokens));
    COP_TRY(cop_json_bool(method, "chat", COP_JSON_OPTIONAL, &out->chat));
    COP_TRY(read_prune(method, job->first, out));
    COP_TRY(cop_json_text(method, "program", COP_JSON_OPTIONAL, &out->program));
    if (out->program)
        COP_TRY(cop__bench_keep_text(c, out->program, &out->program));
    COP_TRY(cop_json_u32(method, "samples", 2, SAMPLES_LIMIT, COP_JSON_OPTIONAL, &out->n_samples));
    cop_dialect_file *file = NULL;
    COP_TRY(read_dialect(c, path, method, out, &file));
    cop_status status = check_dialect(method, cop_dialect_of(file), out);
    if (status == COP_OK)
        status = read_join_policy(method, cop_dialect_of(file), out);
    if (status == COP_OK)
        status = read_rule(c, path, method, cop_dialect_of(file), job, out);
    cop_dialect_close(file);
    return status;
}

static cop_status read_methods(cop_bench_config *c, const char *path, const cop_json *object,
                               cop_problems_job *out) {
    cop_json list;
    COP_TRY(cop_json_array(object, "methods", COP_JSON_REQUIRED, &list));
    out->n_methods = (uint32_t)cop_json_count(&list);
    if (out->n_methods == 0)
        return cop_json_fail(object, "methods", "is empty: name at least one method");
    cop_problems_method *methods = cop_arena_calloc(c->arena, out->n_methods, sizeof *methods);
    if (!methods)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a config");
    for (uint32_t i = 0; i < out->n_methods; i++) {
        cop_json item = cop_json_at(&list, i);
        COP_TRY(read_method(c, path, &item, out, &methods[i]));
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(methods[k].name, methods[i].name) == 0)
                return cop_json_fail(&item, "name", "\"%s\" names two methods", methods[i].name);
        }
    }
    out->methods = methods;
    return COP_OK;
}

cop_status cop__bench_problems_read(cop_bench_config *c, const char *path, const cop_json *object,
                                    cop_problems_job *out) {
    COP_TRY(COP_JSON_ONLY(object, "name", "set", "first", "checker", "max_tokens", "max_paths",
                          "at_once", "temperature", "top_k", "top_p", "min_p", "methods"));
    COP_TRY(cop_json_text(object, "name", COP_JSON_REQUIRED, &out->name));
    COP_TRY(cop__bench_keep_text(c, out->name, &out->name));
    COP_TRY(cop__bench_keep_path(c, path, object, "set", COP_JSON_REQUIRED, &out->set));
    COP_TRY(cop_json_u32(object, "first", 0, 1u << 24, COP_JSON_OPTIONAL, &out->first));
    COP_TRY(cop_json_text(object, "checker", COP_JSON_REQUIRED, &out->checker));
    COP_TRY(cop__bench_keep_text(c, out->checker, &out->checker));
    const cop_checker *checker;
    if (cop_checker_find(out->checker, &checker) != COP_OK)
        return cop_json_fail(object, "checker", "%s", cop_status_message());
    COP_TRY(
        cop_json_u32(object, "max_tokens", 1, TOKENS_LIMIT, COP_JSON_REQUIRED, &out->max_tokens));
    COP_TRY(cop_json_u32(object, "max_paths", 0, PATHS_LIMIT, COP_JSON_OPTIONAL, &out->max_paths));
    COP_TRY(read_at_once(object, out));
    double temperature = 0, top_p = 1, min_p = 0;
    COP_TRY(cop_json_f64(object, "temperature", 0, 100, COP_JSON_OPTIONAL, &temperature));
    COP_TRY(cop_json_u32(object, "top_k", 0, 1u << 20, COP_JSON_OPTIONAL, &out->top_k));
    COP_TRY(cop_json_f64(object, "top_p", 0.001, 1, COP_JSON_OPTIONAL, &top_p));
    COP_TRY(cop_json_f64(object, "min_p", 0, 1, COP_JSON_OPTIONAL, &min_p));
    out->temperature = (float)temperature;
    out->top_p = (float)top_p;
    out->min_p = (float)min_p;
    return read_methods(c, path, object, out);
}

cop_status cop__bench_problems_list(const cop_problems_job *problems, uint32_t repeats,
                                    cop_buffer *out) {
    for (uint32_t m = 0; m < problems->n_methods; m++) {
        for (uint32_t i = 0; i < problems->n_at_once; i++)
            COP_TRY(cop_buffer_printf(out, "problems %-24s %-28s %3u at once x %u\n",
                                      problems->name, problems->methods[m].name,
                                      problems->at_once[i], repeats));
    }
    return COP_OK;
}
