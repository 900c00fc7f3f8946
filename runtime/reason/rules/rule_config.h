/* Rules and controllers as data: configs/rules/<name>.json. Every file has "name" (the file's),
 * "source" (repository, commit and place, or the paper) and "rule", the kind; then the kind's own
 * keys, below. Unknown and duplicate keys are errors, and so are values that contradict each other,
 * named when the rule is created for the limits of a run.
 *
 *   deepconf        mode online|offline, window, warmup, budget, keep_percent, consensus, vote
 *   dynasor         mode client|server, k, chunk, agree, heeds_end, probe
 *   certaindex      measure entropy|normalised, threshold, probe (with every)
 *   parallel-probe  patience, prune_patience, warmup, max_steps, pruned_votes, probe (with every)
 *   step            scorer (a file beside the config), step_text, pruned_votes
 *   policy          budget_tokens, budget_probes, quorum, quorum_ratio, success_only,
 *                   deadline_tokens, deadline_ms, losers drop|keep_partial
 *   set             rules: a list of objects of these kinds, without name and source
 *   sequential, self-consistency, best-of-n
 *                   n; scorer {kind mean-logprob|group-confidence|mlp|command, window, file,
 *                   step_text, command, timeout_ms, on_failure end|go-on}
 *   skeleton        outline_prompt, point_prompt, joiner, max_points, no_points_fails,
 *                   outline_tokens, point_tokens, temperature, max_text_bytes
 *   thoughts        search bfs|dfs, generate_prompt, evaluate_prompt, stop, propose, vote,
 *                   sample_select, steps, n_generate, n_evaluate, n_select, values {word: worth},
 *                   duplicates_share, vote_whole_number, zero_sum_uniform, max_visited, max_depth,
 *                   prune, prune_word, seed, max_tokens, temperature, max_states, max_text_bytes
 *   mcts            generate_prompt, evaluate_prompt, stop, iterations, n_expand, n_evaluate,
 *                   max_depth, c, values, max_tokens, temperature, max_text_bytes
 * probe: {text, tokens, temperature, top_p, boxed, every}.
 *
 * A config owns what its rules borrow: destroy the rules first.
 */
#pragma once

#include "reason/rules/rule.h"

typedef struct cop_rule_config cop_rule_config;

cop_status cop_rule_config_load(const char *path, cop_rule_config **out);
/* `name` is a preset in <root>/configs/rules, or a path to a file that ends in .json. */
cop_status cop_rule_config_load_named(const char *root, const char *name, cop_rule_config **out);
void cop_rule_config_close(cop_rule_config *config);
const char *cop_rule_config_name(const cop_rule_config *config);
const char *cop_rule_config_source(const cop_rule_config *config);
const char *cop_rule_config_kind(const cop_rule_config *config); /* "deepconf" */
/* It is a controller: its rule will say so as well (cop_rule_needs). */
bool cop_rule_config_runs_prompts(const cop_rule_config *config);

typedef struct cop_rule_context {
    uint32_t hidden;   /* the model's width; 0: not known, any scorer will do */
    const char *input; /* a controller's problem; NULL: none yet */
} cop_rule_context;

cop_status cop_rule_config_create(cop_rule_config *config, const cop_rule_limits *limits,
                                  const cop_rule_context *context, cop_rule **out);
