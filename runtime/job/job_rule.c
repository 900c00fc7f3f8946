#include "job/job_rule.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/sha256.h"
#include "config/paths.h"

static bool is_file(const char *name) {
    const size_t bytes = strlen(name);
    return bytes > 5 && strcmp(name + bytes - 5, ".json") == 0;
}

static cop_status hash_file(const char *root, const char *name, char hash[65]) {
    char path[COP_PATH_BYTES + 128];
    if (is_file(name))
        return cop_sha256_of_file(name, hash);
    snprintf(path, sizeof path, "%s/configs/rules/%s.json", root, name);
    return cop_sha256_of_file(path, hash);
}

/* What the driver would refuse as well, but only when an engine is there. */
static cop_status check_needs(const char *name, const cop_rule *rule, const cop_model *model) {
    const cop_rule_needs needs = cop_rule_needs_of(rule);
    if (needs.ignores_end)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "rule %s goes on past the model's end of text, which live decoding cannot: "
                        "use its mended form (heeds_end)",
                        name);
    if (!needs.probes || !model)
        return COP_OK;
    if (!cop_model_tokenizer(model))
        return COP_FAIL(COP_ERR_UNSUPPORTED, "rule %s asks probes in text, and %s has no tokenizer",
                        name, cop_model_name(model));
    cop_token_ids ids = {0};
    const cop_status status =
        cop_tokenizer_encode(cop_model_tokenizer(model), needs.probe_text, strlen(needs.probe_text),
                             (cop_encode_options){.no_bos = true}, &ids);
    cop_token_ids_release(&ids);
    return status == COP_OK ? COP_OK : cop_status_prefix(status, "rule %s, its probe", name);
}

static bool same_by_checker(void *context, const char *a, size_t a_bytes, const char *b,
                            size_t b_bytes) {
    return cop_checker_same(context, (cop_answer_text){a, a_bytes}, (cop_answer_text){b, b_bytes});
}

cop_status cop_job_rule_open(const char *name, const cop_job_rule_limits *limits,
                             cop_job_rule *out) {
    char root[COP_PATH_BYTES];
    COP_TRY(cop_root_folder(root));
    COP_TRY(cop_rule_config_load_named(root, name, &out->config));
    COP_TRY(hash_file(root, name, out->sha256));
    const bool runs_prompts = cop_rule_config_runs_prompts(out->config);
    if (runs_prompts && !limits->runs_prompts)
        return COP_FAIL(
            COP_ERR_UNSUPPORTED,
            "rule %s is a controller: its prompts are branches of their own, so it "
            "stands neither over samples nor over what a dialect forks: use it with "
            "`run --prompt` alone, or for \"problems\" under a dialect that never forks",
            cop_rule_config_name(out->config));
    const cop_rule_limits of_rule = {.max_branches =
                                         runs_prompts ? COP_CONTROLLER_CALLS : limits->max_branches,
                                     .max_tokens = limits->max_tokens,
                                     .same = limits->checker ? same_by_checker : NULL,
                                     .same_context = (void *)limits->checker};
    const cop_model *model = limits->model;
    const cop_rule_context context = {.hidden = model ? cop_model_shape_of(model)->hidden : 0};
    COP_TRY(cop_rule_config_create(out->config, &of_rule, &context, &out->rule));
    return check_needs(cop_rule_config_name(out->config), out->rule, model);
}

cop_status cop_job_rule_runs_prompts(const char *name, bool *out) {
    char root[COP_PATH_BYTES];
    cop_rule_config *config;
    COP_TRY(cop_root_folder(root));
    COP_TRY(cop_rule_config_load_named(root, name, &config));
    *out = cop_rule_config_runs_prompts(config);
    cop_rule_config_close(config);
    return COP_OK;
}

void cop_job_rule_close(cop_job_rule *rule) {
    cop_rule_destroy(rule->rule);
    cop_rule_config_close(rule->config);
    *rule = (cop_job_rule){0};
}

cop_status cop_job_rule_check(const char *name, const cop_job_rule_limits *limits) {
    cop_job_rule rule = {0};
    const cop_status status = cop_job_rule_open(name, limits, &rule);
    cop_job_rule_close(&rule);
    return status;
}

cop_job_size cop_job_calls_size(const cop_job_calls *calls) {
    enum { TEMPLATE = 1024, REPLIES = 4, PREFILL_ROWS = 2048 };
    const uint64_t context = cop_model_shape_of(calls->model)->context;
    uint64_t call = TEMPLATE + calls->input_tokens + (uint64_t)REPLIES * calls->max_tokens;
    uint64_t longest = 2 * call; /* a few may grow so long; the pool is not made for all of them */
    if (!calls->extrapolate) {
        call = call < context ? call : context;
        longest = longest < context ? longest : context;
    }
    const uint32_t n = calls->problems * calls->at_once;
    return (cop_job_size){.tokens = n * call,
                          .segments = 2 * n + 4 * calls->problems,
                          .branches = n + 2 * calls->problems,
                          .positions = (uint32_t)longest,
                          .rows = n + 2 * calls->problems + PREFILL_ROWS,
                          .what = calls->what};
}

void cop_job_rule_size(const cop_job_rule *rule, uint32_t branches, uint64_t tokens,
                       cop_job_size *size) {
    const cop_rule_needs needs = cop_rule_needs_of(rule->rule);
    if (!needs.probes)
        return;
    /* A token of text has a byte at least. */
    const uint64_t room = strlen(needs.probe_text) + needs.probe_tokens + 1;
    const uint64_t probes = tokens / (needs.probe_every ? needs.probe_every : 1) + 2 * branches;
    size->branches += branches;
    size->tokens += branches * room;
    size->segments += (uint32_t)probes + branches;
    if (size->rows)
        size->rows += branches;
}

void cop_job_rule_add(cop_rule_stats *into, const cop_rule_stats *more) {
    into->tokens += more->tokens;
    into->tokens_pruned += more->tokens_pruned;
    into->tokens_warmup += more->tokens_warmup;
    into->tokens_probe += more->tokens_probe;
    into->tokens_given += more->tokens_given;
    into->probes_asked += more->probes_asked;
    into->probes_answered += more->probes_answered;
    into->hidden_states += more->hidden_states;
    into->opened += more->opened;
    into->ended += more->ended;
    into->pruned += more->pruned;
    into->finished += more->finished;
}

json_t *cop_job_rule_identity(const cop_job_rule *rule) {
    return json_pack("{s:s, s:s, s:s}", "name", cop_rule_config_name(rule->config), "kind",
                     cop_rule_config_kind(rule->config), "sha256", rule->sha256);
}

json_t *cop_job_rule_record(const json_t *identity, const cop_rule_stats *s, const char *answer,
                            size_t answer_bytes) {
    json_t *out = json_copy((json_t *)identity);
    json_t *cost = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:i, s:i}", "tokens",
        (json_int_t)s->tokens, "tokens_pruned", (json_int_t)s->tokens_pruned, "tokens_warmup",
        (json_int_t)s->tokens_warmup, "tokens_probe", (json_int_t)s->tokens_probe, "tokens_given",
        (json_int_t)s->tokens_given, "tokens_cost",
        (json_int_t)(s->tokens + s->tokens_probe + s->tokens_given), "probes_asked",
        (json_int_t)s->probes_asked, "probes_answered", (json_int_t)s->probes_answered,
        "hidden_states", (json_int_t)s->hidden_states, "opened", (int)s->opened, "ended",
        (int)s->ended, "pruned", (int)s->pruned, "finished", (int)s->finished);
    /* Bytes of a model may be no valid UTF-8, which jansson gives no string for. */
    json_t *text = answer ? json_stringn(answer, answer_bytes) : NULL;
    int failed = !out || !cost || json_object_update(out, cost);
    failed |= json_object_set_new(out, "answer", text ? text : json_null());
    json_decref(cost);
    if (!failed)
        return out;
    json_decref(out);
    return NULL;
}
