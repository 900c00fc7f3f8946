#include <math.h>
#include <string.h>

#include "reason/rules/mcts.h"
#include "reason/rules/rule_config_internal.h"
#include "reason/rules/samples.h"
#include "reason/rules/skeleton.h"
#include "reason/rules/thoughts.h"

static cop_status read_command(const cop_json *o, cop_scorer_command_options *out) {
    static const char *const failures[] = {"end", "go-on", NULL};
    uint32_t failure = 0;
    out->timeout_ms = 60000;
    COP_TRY(cop_json_text(o, "command", COP_JSON_REQUIRED, &out->command));
    COP_TRY(cop_json_u32(o, "timeout_ms", 1, 86400000, COP_JSON_OPTIONAL, &out->timeout_ms));
    COP_TRY(cop_json_choice(o, "on_failure", failures, COP_JSON_REQUIRED, &failure));
    out->on_failure = (cop_scorer_failure)failure;
    return COP_OK;
}

/* A scorer's keys depend on its kind. */
static cop_status read_scorer(cop_rule_config *config, const cop_json *o, uint32_t hidden,
                              bool load, cop_samples_options *out) {
    static const char *const scorers[] = {"mean-logprob", "group-confidence", "mlp", "command",
                                          NULL};
    cop_json scorer;
    uint32_t kind;
    COP_TRY(cop_json_object(o, "scorer", COP_JSON_REQUIRED, &scorer));
    COP_TRY(cop_json_choice(&scorer, "kind", scorers, COP_JSON_REQUIRED, &kind));
    out->scorer = (cop_scorer_kind)kind;
    switch (out->scorer) {
    case COP_SCORER_MEAN_LOGPROB:
        return COP_JSON_ONLY(&scorer, "kind");
    case COP_SCORER_GROUP_CONFIDENCE:
        COP_TRY(COP_JSON_ONLY(&scorer, "kind", "window"));
        return cop_json_u32(&scorer, "window", 1, 1u << 20, COP_JSON_REQUIRED, &out->window);
    case COP_SCORER_MLP:
        out->step_text = "\n\n";
        COP_TRY(COP_JSON_ONLY(&scorer, "kind", "file", "step_text"));
        COP_TRY(cop_json_text(&scorer, "step_text", COP_JSON_OPTIONAL, &out->step_text));
        return cop__config_scorer(config, &scorer, "file", hidden, load, &out->mlp);
    case COP_SCORER_COMMAND:
        break;
    }
    COP_TRY(COP_JSON_ONLY(&scorer, "kind", "command", "timeout_ms", "on_failure"));
    return read_command(&scorer, &out->command);
}

cop_status cop__config_samples(cop_rule_config *config, const cop_json *o,
                               const cop_rule_limits *limits, const cop_rule_context *context,
                               cop_rule **out) {
    static const char *const kinds[] = {"sequential", "self-consistency", "best-of-n", NULL};
    cop_samples_options options = {.n = 1};
    uint32_t kind;
    COP_TRY(cop_json_choice(o, "rule", kinds, COP_JSON_REQUIRED, &kind));
    options.kind = (cop_samples_kind)kind;
    if (options.kind == COP_SAMPLES_BEST_OF) {
        COP_TRY(COP__CONFIG_ONLY(o, "n", "scorer"));
        COP_TRY(read_scorer(config, o, out ? context->hidden : 0, out != NULL, &options));
    } else {
        COP_TRY(COP__CONFIG_ONLY(o, "n"));
    }
    COP_TRY(
        cop_json_u32(o, "n", 1, 1u << 20,
                     options.kind == COP_SAMPLES_SEQUENTIAL ? COP_JSON_OPTIONAL : COP_JSON_REQUIRED,
                     &options.n));
    return out ? cop_samples_create(limits, &options, out) : COP_OK;
}

static cop_status read_temperature(const cop_json *o, float *out) {
    double temperature = -1;
    COP_TRY(cop_json_f64(o, "temperature", 0, 10, COP_JSON_OPTIONAL, &temperature));
    *out = (float)temperature;
    return COP_OK;
}

static cop_status read_text_bytes(const cop_json *o, size_t *out) {
    uint64_t bytes = 1u << 20;
    COP_TRY(cop_json_u64(o, "max_text_bytes", 1, COP__CONFIG_BYTES, COP_JSON_OPTIONAL, &bytes));
    *out = (size_t)bytes;
    return COP_OK;
}

cop_status cop__config_skeleton(cop_rule_config *config, const cop_json *o,
                                const cop_rule_limits *limits, const cop_rule_context *context,
                                cop_rule **out) {
    (void)config;
    cop_skeleton_options s = {.joiner = "\n"};
    COP_TRY(COP__CONFIG_ONLY(o, "outline_prompt", "point_prompt", "joiner", "max_points",
                             "no_points_fails", "outline_tokens", "point_tokens", "temperature",
                             "max_text_bytes"));
    COP_TRY(cop_json_text(o, "outline_prompt", COP_JSON_REQUIRED, &s.outline_prompt));
    COP_TRY(cop_json_text(o, "point_prompt", COP_JSON_REQUIRED, &s.point_prompt));
    COP_TRY(cop_json_text(o, "joiner", COP_JSON_OPTIONAL, &s.joiner));
    COP_TRY(cop_json_u32(o, "max_points", 1, 1u << 20, COP_JSON_OPTIONAL, &s.max_points));
    COP_TRY(cop_json_bool(o, "no_points_fails", COP_JSON_REQUIRED, &s.no_points_fails));
    COP_TRY(cop_json_u32(o, "outline_tokens", 1, COP__CONFIG_TOKENS, COP_JSON_OPTIONAL,
                         &s.outline_tokens));
    COP_TRY(
        cop_json_u32(o, "point_tokens", 1, COP__CONFIG_TOKENS, COP_JSON_OPTIONAL, &s.point_tokens));
    COP_TRY(read_temperature(o, &s.temperature));
    COP_TRY(read_text_bytes(o, &s.max_text_bytes));
    if (!out)
        return COP_OK;
    s.request = context->input;
    return cop_skeleton_create(limits, &s, out);
}

static cop_status read_values(const cop_json *o, cop_json_presence presence,
                              cop_thought_value values[COP_THOUGHTS_VALUES], uint32_t *n) {
    cop_json list;
    const char *word;
    json_t *worth;
    *n = 0;
    COP_TRY(cop_json_object(o, "values", presence, &list));
    json_object_foreach(list.value, word, worth) {
        if (*n == COP_THOUGHTS_VALUES)
            return cop_json_fail(o, "values", "has more than %d words", COP_THOUGHTS_VALUES);
        if (!json_is_number(worth) || !isfinite(json_number_value(worth)))
            return cop_json_fail(&list, word, "is not a number");
        values[(*n)++] = (cop_thought_value){word, json_number_value(worth)};
    }
    return COP_OK;
}

static cop_status read_thoughts_limits(const cop_json *o, cop_thoughts_options *t) {
    const uint32_t most = 1u << 20;
    COP_TRY(cop_json_u32(o, "steps", 1, most, COP_JSON_OPTIONAL, &t->steps));
    COP_TRY(cop_json_u32(o, "n_generate", 1, most, COP_JSON_REQUIRED, &t->n_generate));
    COP_TRY(cop_json_u32(o, "n_evaluate", 1, most, COP_JSON_REQUIRED, &t->n_evaluate));
    COP_TRY(cop_json_u32(o, "n_select", 1, most, COP_JSON_REQUIRED, &t->n_select));
    COP_TRY(cop_json_u32(o, "max_visited", 1, most, COP_JSON_OPTIONAL, &t->max_visited));
    COP_TRY(cop_json_u32(o, "max_depth", 1, most, COP_JSON_OPTIONAL, &t->max_depth));
    COP_TRY(cop_json_u32(o, "max_states", 2, most, COP_JSON_OPTIONAL, &t->max_states));
    COP_TRY(
        cop_json_u32(o, "max_tokens", 1, COP__CONFIG_TOKENS, COP_JSON_OPTIONAL, &t->max_tokens));
    return cop_json_u64(o, "seed", 0, INT64_MAX, COP_JSON_OPTIONAL, &t->seed);
}

cop_status cop__config_thoughts(cop_rule_config *config, const cop_json *o,
                                const cop_rule_limits *limits, const cop_rule_context *context,
                                cop_rule **out) {
    static const char *const searches[] = {"bfs", "dfs", NULL};
    (void)config;
    cop_thoughts_options t = {.max_states = 4096};
    uint32_t search;
    COP_TRY(COP__CONFIG_ONLY(o, "search", "generate_prompt", "evaluate_prompt", "stop", "propose",
                             "vote", "sample_select", "steps", "n_generate", "n_evaluate",
                             "n_select", "values", "duplicates_share", "vote_whole_number",
                             "zero_sum_uniform", "max_visited", "max_depth", "prune", "prune_word",
                             "seed", "max_tokens", "temperature", "max_states", "max_text_bytes"));
    COP_TRY(cop_json_choice(o, "search", searches, COP_JSON_REQUIRED, &search));
    t.search = (cop_thoughts_search)search;
    COP_TRY(cop_json_text(o, "generate_prompt", COP_JSON_REQUIRED, &t.generate_prompt));
    COP_TRY(cop_json_text(o, "evaluate_prompt", COP_JSON_REQUIRED, &t.evaluate_prompt));
    COP_TRY(cop_json_text(o, "stop", COP_JSON_OPTIONAL, &t.stop));
    COP_TRY(cop_json_bool(o, "propose", COP_JSON_OPTIONAL, &t.propose));
    COP_TRY(cop_json_bool(o, "vote", COP_JSON_OPTIONAL, &t.vote));
    COP_TRY(cop_json_bool(o, "sample_select", COP_JSON_OPTIONAL, &t.sample_select));
    COP_TRY(cop_json_bool(o, "duplicates_share", COP_JSON_OPTIONAL, &t.duplicates_share));
    COP_TRY(cop_json_bool(o, "vote_whole_number", COP_JSON_OPTIONAL, &t.vote_whole_number));
    COP_TRY(cop_json_bool(o, "zero_sum_uniform", COP_JSON_OPTIONAL, &t.zero_sum_uniform));
    COP_TRY(cop_json_bool(o, "prune", COP_JSON_OPTIONAL, &t.prune));
    COP_TRY(cop_json_text(o, "prune_word", COP_JSON_OPTIONAL, &t.prune_word));
    COP_TRY(read_thoughts_limits(o, &t));
    COP_TRY(read_values(o, COP_JSON_OPTIONAL, t.values, &t.n_values));
    COP_TRY(read_temperature(o, &t.temperature));
    COP_TRY(read_text_bytes(o, &t.max_text_bytes));
    if (!out)
        return COP_OK;
    t.input = context->input;
    return cop_thoughts_create(limits, &t, out);
}

cop_status cop__config_mcts(cop_rule_config *config, const cop_json *o,
                            const cop_rule_limits *limits, const cop_rule_context *context,
                            cop_rule **out) {
    const uint32_t most = 1u << 20;
    (void)config;
    cop_mcts_options m = {.c = sqrt(2)};
    COP_TRY(COP__CONFIG_ONLY(o, "generate_prompt", "evaluate_prompt", "stop", "iterations",
                             "n_expand", "n_evaluate", "max_depth", "c", "values", "max_tokens",
                             "temperature", "max_text_bytes"));
    COP_TRY(cop_json_text(o, "generate_prompt", COP_JSON_REQUIRED, &m.generate_prompt));
    COP_TRY(cop_json_text(o, "evaluate_prompt", COP_JSON_REQUIRED, &m.evaluate_prompt));
    COP_TRY(cop_json_text(o, "stop", COP_JSON_OPTIONAL, &m.stop));
    COP_TRY(cop_json_u32(o, "iterations", 1, most, COP_JSON_REQUIRED, &m.iterations));
    COP_TRY(cop_json_u32(o, "n_expand", 1, most, COP_JSON_REQUIRED, &m.n_expand));
    COP_TRY(cop_json_u32(o, "n_evaluate", 1, most, COP_JSON_REQUIRED, &m.n_evaluate));
    COP_TRY(cop_json_u32(o, "max_depth", 1, most, COP_JSON_REQUIRED, &m.max_depth));
    COP_TRY(cop_json_f64(o, "c", 0, 1000, COP_JSON_OPTIONAL, &m.c));
    COP_TRY(read_values(o, COP_JSON_REQUIRED, m.values, &m.n_values));
    COP_TRY(cop_json_u32(o, "max_tokens", 1, COP__CONFIG_TOKENS, COP_JSON_OPTIONAL, &m.max_tokens));
    COP_TRY(read_temperature(o, &m.temperature));
    COP_TRY(read_text_bytes(o, &m.max_text_bytes));
    if (!out)
        return COP_OK;
    m.input = context->input;
    return cop_mcts_create(limits, &m, out);
}
