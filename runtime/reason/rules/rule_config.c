#include "reason/rules/rule_config.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/paths.h"
#include "reason/rules/certaindex.h"
#include "reason/rules/deepconf.h"
#include "reason/rules/dynasor.h"
#include "reason/rules/parallel_probe.h"
#include "reason/rules/policy.h"
#include "reason/rules/rule_config_internal.h"
#include "reason/rules/step.h"

/* ---- kinds ---- */

static cop_status read_deepconf(cop_rule_config *config, const cop_json *o,
                                const cop_rule_limits *limits, const cop_rule_context *context,
                                cop_rule **out) {
    static const char *const modes[] = {"online", "offline", NULL};
    static const char *const votes[] = {
#define VOTE_NAME(name, word) word,
        COP_DEEPCONF_VOTES(VOTE_NAME)
#undef VOTE_NAME
            NULL};
    (void)config, (void)context;
    cop_deepconf_options options = {.window = COP_DEEPCONF_DEFAULT_WINDOW};
    uint32_t mode = 0, vote = 0;
    COP_TRY(COP__CONFIG_ONLY(o, "mode", "window", "warmup", "budget", "keep_percent", "consensus",
                             "vote"));
    COP_TRY(cop_json_choice(o, "mode", modes, COP_JSON_REQUIRED, &mode));
    COP_TRY(cop_json_choice(o, "vote", votes, COP_JSON_REQUIRED, &vote));
    COP_TRY(cop_json_u32(o, "window", 1, 1u << 20, COP_JSON_OPTIONAL, &options.window));
    COP_TRY(cop_json_u32(o, "budget", 1, 1u << 20, COP_JSON_OPTIONAL, &options.budget));
    COP_TRY(cop_json_f64(o, "consensus", 0, 1, COP_JSON_OPTIONAL, &options.consensus));
    options.mode = (cop_deepconf_mode)mode;
    options.vote = (cop_deepconf_vote)vote;
    if (options.mode == COP_DEEPCONF_ONLINE) {
        options.warmup = COP_DEEPCONF_DEFAULT_WARMUP;
        COP_TRY(cop_json_u32(o, "warmup", 1, 1u << 20, COP_JSON_OPTIONAL, &options.warmup));
        COP_TRY(cop_json_f64(o, "keep_percent", 0, 100, COP_JSON_REQUIRED, &options.keep_percent));
    } else if (cop_json_has(o, "warmup") || cop_json_has(o, "keep_percent")) {
        return cop_json_fail(o, "mode",
                             "is offline, where nothing is stopped: warmup and "
                             "keep_percent contradict it");
    }
    return out ? cop_deepconf_create(limits, &options, out) : COP_OK;
}

static cop_status read_probe(const cop_json *o, bool every, cop_probe_options *out) {
    cop_json probe;
    double temperature = -1, top_p = 0;
    *out = (cop_probe_options){.probe_tokens = 20, .boxed = true};
    COP_TRY(cop_json_object(o, "probe", COP_JSON_REQUIRED, &probe));
    COP_TRY(COP_JSON_ONLY(&probe, "text", "tokens", "temperature", "top_p", "boxed",
                          every ? "every" : "text"));
    COP_TRY(cop_json_text(&probe, "text", COP_JSON_REQUIRED, &out->suffix));
    COP_TRY(cop_json_u32(&probe, "tokens", 1, 4096, COP_JSON_OPTIONAL, &out->probe_tokens));
    COP_TRY(cop_json_f64(&probe, "temperature", 0, 10, COP_JSON_OPTIONAL, &temperature));
    COP_TRY(cop_json_f64(&probe, "top_p", 0, 1, COP_JSON_OPTIONAL, &top_p));
    COP_TRY(cop_json_bool(&probe, "boxed", COP_JSON_OPTIONAL, &out->boxed));
    if (every)
        COP_TRY(
            cop_json_u32(&probe, "every", 1, COP__CONFIG_TOKENS, COP_JSON_REQUIRED, &out->every));
    out->temperature = (float)temperature;
    out->top_p = (float)top_p;
    return COP_OK;
}

static cop_status read_dynasor(cop_rule_config *config, const cop_json *o,
                               const cop_rule_limits *limits, const cop_rule_context *context,
                               cop_rule **out) {
    static const char *const modes[] = {"client", "server", NULL};
    (void)config, (void)context;
    cop_dynasor_options options = {0};
    cop_probe_options probe;
    uint32_t mode;
    COP_TRY(COP__CONFIG_ONLY(o, "mode", "k", "chunk", "agree", "heeds_end", "probe"));
    COP_TRY(cop_json_choice(o, "mode", modes, COP_JSON_REQUIRED, &mode));
    COP_TRY(cop_json_u32(o, "k", 1, 1024, COP_JSON_REQUIRED, &options.k));
    COP_TRY(cop_json_u32(o, "chunk", 1, COP__CONFIG_TOKENS, COP_JSON_REQUIRED, &options.chunk));
    COP_TRY(cop_json_bool(o, "agree", COP_JSON_OPTIONAL, &options.agree));
    COP_TRY(cop_json_bool(o, "heeds_end", COP_JSON_OPTIONAL, &options.heeds_end));
    COP_TRY(read_probe(o, false, &probe));
    if (!probe.boxed)
        return cop_json_fail(o, "probe",
                             "is not boxed: this rule reads answers up to the brace "
                             "that closes the one its text opens");
    options.mode = (cop_dynasor_mode)mode;
    options.suffix = probe.suffix;
    options.probe_tokens = probe.probe_tokens;
    options.temperature = probe.temperature;
    options.top_p = probe.top_p;
    return out ? cop_dynasor_create(limits, &options, out) : COP_OK;
}

static cop_status read_certaindex(cop_rule_config *config, const cop_json *o,
                                  const cop_rule_limits *limits, const cop_rule_context *context,
                                  cop_rule **out) {
    static const char *const measures[] = {"entropy", "normalised", NULL};
    (void)config, (void)context;
    cop_certaindex_options options = {0};
    uint32_t measure;
    COP_TRY(COP__CONFIG_ONLY(o, "measure", "threshold", "probe"));
    COP_TRY(cop_json_choice(o, "measure", measures, COP_JSON_REQUIRED, &measure));
    COP_TRY(cop_json_f64(o, "threshold", 0, 64, COP_JSON_REQUIRED, &options.threshold));
    COP_TRY(read_probe(o, true, &options.probe));
    options.measure = (cop_certaindex_measure)measure;
    return out ? cop_certaindex_create(limits, &options, out) : COP_OK;
}

static cop_status read_parallel_probe(cop_rule_config *config, const cop_json *o,
                                      const cop_rule_limits *limits,
                                      const cop_rule_context *context, cop_rule **out) {
    (void)config, (void)context;
    cop_parallel_probe_options p = {0};
    COP_TRY(COP__CONFIG_ONLY(o, "patience", "prune_patience", "warmup", "max_steps", "pruned_votes",
                             "probe"));
    COP_TRY(cop_json_u32(o, "patience", 1, 1u << 20, COP_JSON_REQUIRED, &p.patience));
    COP_TRY(cop_json_u32(o, "prune_patience", 1, 1u << 20, COP_JSON_REQUIRED, &p.prune_patience));
    COP_TRY(cop_json_u32(o, "warmup", 0, 1u << 20, COP_JSON_REQUIRED, &p.warmup));
    COP_TRY(cop_json_u32(o, "max_steps", 1, 1u << 20, COP_JSON_REQUIRED, &p.max_steps));
    COP_TRY(cop_json_bool(o, "pruned_votes", COP_JSON_OPTIONAL, &p.pruned_votes));
    COP_TRY(read_probe(o, true, &p.probe));
    return out ? cop_parallel_probe_create(limits, &p, out) : COP_OK;
}

cop_status cop__config_scorer(cop_rule_config *config, const cop_json *object, const char *key,
                              uint32_t hidden, bool load, const cop_mlp **out) {
    const char *file;
    char path[COP_PATH_BYTES];
    *out = NULL;
    COP_TRY(cop_json_text(object, key, COP_JSON_REQUIRED, &file));
    if (!load)
        return COP_OK;
    COP_TRY(cop_path_beside(config->root.source, file, path));
    if (config->n_scorers == COP_RULE_SET_MAX)
        return cop_json_fail(object, key, "is one scorer too many; at most %d", COP_RULE_SET_MAX);
    COP_TRY(cop_mlp_load(path, hidden, &config->scorers[config->n_scorers]));
    *out = config->scorers[config->n_scorers++];
    return COP_OK;
}

static cop_status read_step(cop_rule_config *config, const cop_json *o,
                            const cop_rule_limits *limits, const cop_rule_context *context,
                            cop_rule **out) {
    cop_step_options options = {.step_text = "\n\n"};
    COP_TRY(COP__CONFIG_ONLY(o, "scorer", "step_text", "pruned_votes"));
    COP_TRY(cop_json_text(o, "step_text", COP_JSON_OPTIONAL, &options.step_text));
    COP_TRY(cop_json_bool(o, "pruned_votes", COP_JSON_REQUIRED, &options.pruned_votes));
    COP_TRY(cop__config_scorer(config, o, "scorer", out ? context->hidden : 0, out != NULL,
                               &options.mlp));
    return out ? cop_step_create(limits, &options, out) : COP_OK;
}

static cop_status read_policy(cop_rule_config *config, const cop_json *o,
                              const cop_rule_limits *limits, const cop_rule_context *context,
                              cop_rule **out) {
    static const char *const losers[] = {"drop", "keep_partial", NULL};
    (void)config, (void)context;
    cop_policy_options p = {0};
    uint32_t keep = 0, ms = 0;
    COP_TRY(COP__CONFIG_ONLY(o, "budget_tokens", "budget_probes", "quorum", "quorum_ratio",
                             "success_only", "deadline_tokens", "deadline_ms", "losers"));
    COP_TRY(cop_json_u64(o, "budget_tokens", 1, 1ull << 40, COP_JSON_OPTIONAL, &p.budget_tokens));
    COP_TRY(cop_json_bool(o, "budget_probes", COP_JSON_OPTIONAL, &p.budget_probes));
    COP_TRY(cop_json_u32(o, "quorum", 1, 1u << 20, COP_JSON_OPTIONAL, &p.quorum));
    COP_TRY(cop_json_f64(o, "quorum_ratio", 0, 1, COP_JSON_OPTIONAL, &p.quorum_ratio));
    COP_TRY(cop_json_bool(o, "success_only", COP_JSON_OPTIONAL, &p.success_only));
    COP_TRY(cop_json_u32(o, "deadline_tokens", 1, COP__CONFIG_TOKENS, COP_JSON_OPTIONAL,
                         &p.deadline_tokens));
    COP_TRY(cop_json_u32(o, "deadline_ms", 1, UINT32_MAX, COP_JSON_OPTIONAL, &ms));
    COP_TRY(cop_json_choice(o, "losers", losers, COP_JSON_REQUIRED, &keep));
    p.deadline_ns = (uint64_t)ms * 1000000u;
    p.keep_partial = keep == 1;
    return out ? cop_policy_create(limits, &p, out) : COP_OK;
}

static cop__rule_reader read_set;

static const struct {
    const char *kind;
    cop__rule_reader *read;
    bool runs_prompts;
} kinds[] = {
    {"deepconf", read_deepconf},
    {"dynasor", read_dynasor},
    {"certaindex", read_certaindex},
    {"parallel-probe", read_parallel_probe},
    {"step", read_step},
    {"policy", read_policy},
    {"set", read_set},
    {"sequential", cop__config_samples},
    {"self-consistency", cop__config_samples},
    {"best-of-n", cop__config_samples},
    {"skeleton", cop__config_skeleton, true},
    {"thoughts", cop__config_thoughts, true},
    {"mcts", cop__config_mcts, true},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static cop_status find_kind(const cop_json *object, uint32_t *out) {
    const char *names[KINDS + 1] = {NULL};
    for (uint32_t i = 0; i < KINDS; i++)
        names[i] = kinds[i].kind;
    return cop_json_choice(object, "rule", names, COP_JSON_REQUIRED, out);
}

static cop_status read_set(cop_rule_config *config, const cop_json *o,
                           const cop_rule_limits *limits, const cop_rule_context *context,
                           cop_rule **out) {
    cop_json list;
    cop_rule *rules[COP_RULE_SET_MAX] = {NULL};
    uint32_t n = 0;
    COP_TRY(COP__CONFIG_ONLY(o, "rules"));
    COP_TRY(cop_json_array(o, "rules", COP_JSON_REQUIRED, &list));
    if (cop_json_count(&list) == 0 || cop_json_count(&list) > COP_RULE_SET_MAX)
        return cop_json_fail(o, "rules", "has %zu rules; 1 to %d can be combined",
                             cop_json_count(&list), COP_RULE_SET_MAX);
    cop_status status = COP_OK;
    for (size_t i = 0; i < cop_json_count(&list) && status == COP_OK; i++) {
        cop_json part = cop_json_at(&list, i);
        uint32_t kind;
        status = find_kind(&part, &kind);
        if (status == COP_OK && kinds[kind].read == read_set)
            status = cop_json_fail(&part, "rule", "is a set within a set: list its rules here");
        if (status == COP_OK)
            status = kinds[kind].read(config, &part, limits, context, out ? &rules[n] : NULL);
        n += status == COP_OK;
    }
    if (status == COP_OK && out)
        status = cop_rule_set_create(limits, rules, n, out);
    for (uint32_t i = 0; i < n && out && status != COP_OK; i++)
        cop_rule_destroy(rules[i]);
    return status;
}

/* ---- files ---- */

static cop_status load(cop_rule_config *config, const char *path) {
    COP_TRY(cop_json_load(path, &config->root));
    COP_TRY(cop_json_text(&config->root, "name", COP_JSON_REQUIRED, &config->name));
    COP_TRY(cop_json_text(&config->root, "source", COP_JSON_REQUIRED, &config->source));
    COP_TRY(find_kind(&config->root, &config->kind_index));
    config->kind = kinds[config->kind_index].kind;
    return kinds[config->kind_index].read(config, &config->root, NULL, NULL, NULL);
}

cop_status cop_rule_config_load(const char *path, cop_rule_config **out) {
    *out = NULL;
    cop_rule_config *config = cop_calloc(1, sizeof *config);
    if (!config)
        return COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory to read it", path);
    cop_status status = load(config, path);
    if (status != COP_OK) {
        cop_rule_config_close(config);
        return status;
    }
    *out = config;
    return COP_OK;
}

void cop_rule_config_close(cop_rule_config *config) {
    if (!config)
        return;
    for (uint32_t i = 0; i < config->n_scorers; i++)
        cop_mlp_destroy(config->scorers[i]);
    cop_json_release(&config->root);
    cop_free(config);
}

static int is_preset(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return dot && dot != entry->d_name && strcmp(dot, ".json") == 0;
}

static cop_status fail_unknown(const char *folder, const char *name) {
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_preset, alphasort);
    if (n < 0)
        return COP_FAIL(COP_ERR_IO, "%s: the folder of rules cannot be read: %s", folder,
                        strerror(errno));
    char list[1024] = "";
    for (int i = 0; i < n; i++) {
        size_t used = strlen(list);
        int bytes = (int)(strrchr(entries[i]->d_name, '.') - entries[i]->d_name);
        snprintf(list + used, sizeof list - used, "%s%.*s", used ? ", " : "", bytes,
                 entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return COP_FAIL(COP_ERR_CONFIG, "there is no rule '%.64s'; there are: %s", name, list);
}

cop_status cop_rule_config_load_named(const char *root, const char *name, cop_rule_config **out) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    char folder[COP_PATH_BYTES], path[COP_PATH_BYTES + 80];
    size_t bytes = strlen(name);
    *out = NULL;
    if (bytes > 5 && strcmp(name + bytes - 5, ".json") == 0)
        return cop_rule_config_load(name, out);
    int used = snprintf(folder, sizeof folder, "%s/configs/rules", root);
    if (used < 0 || (size_t)used >= sizeof folder)
        return COP_FAIL(COP_ERR_IO, "%.64s..: the path is too long", root);
    if (bytes == 0 || bytes > 64 || strspn(name, allowed) != bytes)
        return fail_unknown(folder, name);
    snprintf(path, sizeof path, "%s/%s.json", folder, name);
    FILE *probe = fopen(path, "rb");
    if (!probe)
        return fail_unknown(folder, name);
    fclose(probe);
    COP_TRY(cop_rule_config_load(path, out));
    if (strcmp((*out)->name, name) == 0)
        return COP_OK;
    cop_status status = cop_json_fail(&(*out)->root, "name", "is '%.64s'; the file is named %s",
                                      (*out)->name, name);
    cop_rule_config_close(*out);
    *out = NULL;
    return status;
}

const char *cop_rule_config_name(const cop_rule_config *config) {
    return config->name;
}

const char *cop_rule_config_source(const cop_rule_config *config) {
    return config->source;
}

const char *cop_rule_config_kind(const cop_rule_config *config) {
    return config->kind;
}

bool cop_rule_config_runs_prompts(const cop_rule_config *config) {
    return kinds[config->kind_index].runs_prompts;
}

cop_status cop_rule_config_create(cop_rule_config *config, const cop_rule_limits *limits,
                                  const cop_rule_context *context, cop_rule **out) {
    cop_status status = kinds[config->kind_index].read(config, &config->root, limits, context, out);
    return status == COP_OK
               ? COP_OK
               : cop_status_prefix(status, "%s (%s)", config->name, config->root.source);
}
