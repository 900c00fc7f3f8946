/* Monte-Carlo tree search over thoughts with UCT: Kocsis & Szepesvari 2006 (Bandit based
 * Monte-Carlo planning, ECML) for the choice, Browne et al. 2012 (A survey of Monte Carlo tree
 * search methods, section 3) for the four steps. No language-model system is its original.
 *
 * Each of `iterations`:
 *   select      from the root, while the node is expanded and below max_depth: the child with the
 *               largest Q / N + c * sqrt(ln N_parent / N); children without a visit first, of
 * equals the first; expand      a node that was visited before, or the root: n_expand calls propose
 * its children; equal texts are one child, empty ones none; the first child is simulated; simulate
 * n_evaluate calls say what the node is worth: the mean of `values` by their last lines, a word
 * that is none of them counting as 0. A node is asked once; back up     N and Q of the node and of
 * all above it. The answer follows the most visited child (of equals the first) down from the root.
 */
#pragma once

#include "reason/rules/rule.h"
#include "reason/rules/thoughts.h"

typedef struct cop_mcts_options { /* texts are copied */
    const char *input, *generate_prompt, *evaluate_prompt;
    const char *stop;
    uint32_t iterations, n_expand, n_evaluate, max_depth;
    double c; /* sqrt(2) for worths in 0 .. 1 */
    cop_thought_value values[COP_THOUGHTS_VALUES];
    uint32_t n_values;
    uint32_t max_tokens;
    float temperature;
    size_t max_text_bytes;
} cop_mcts_options;

cop_status cop_mcts_create(const cop_rule_limits *limits, const cop_mcts_options *options,
                           cop_rule **out);
cop_status cop_mcts_input(cop_rule *rule, const char *input);
uint32_t cop_mcts_nodes(const cop_rule *rule);
