/* Tree of Thoughts (Yao et al. 2023, arXiv 2305.10601; princeton-nlp/tree-of-thought-llm@ab40034),
 * breadth first (src/tot/methods/bfs.py) and depth first
 * (scripts/crosswords/search_crosswords-dfs.ipynb). What a task asks is data, in templates with
 * {input}, {state} (the thoughts so far), {last_line} (of the state, or of the input) and, for
 * votes, {choices}; a task's own program (Game24's two special prompts, the crossword's board) is
 * not here.
 *
 * BFS, `steps` times, from a frontier that holds one empty state:
 *   generate  sample: n_generate calls for each state, each state + reply; propose: one call for
 *             each, whose every line makes a state + line + "\n";
 *   evaluate  value: n_evaluate calls for each candidate, worth the sum over the words of `values`
 *             of worth * how many replies end with that line; known prompts are not asked again. A
 *             candidate whose text came before in this step is worth 0 (the original's way to avoid
 *             duplicates, which makes a true duplicate lose); duplicates_share gives it the same
 *             worth. vote: n_evaluate calls over all, worth = votes (vote_whole_number mends the
 *             reading of numbers above 9);
 *   select    greedy: the n_select best, of equals the earlier; sample: n_select drawn with
 *             replacement, p = worth / sum. All worth 0 makes the original divide by 0: an error
 *             here as well, unless zero_sum_uniform.
 * The answer is the first of the last frontier. Draws are Coppice's own, by seed: numpy's are not
 * repeated.
 *
 * DFS, from the empty state: n_generate calls propose lines "thought (certain|high|medium|low)",
 * weights 1, 0.5, 0.2, 0.1 summed for each thought (lower case); thoughts in falling order of that,
 * of equals the first met. Each is visited, while fewer than max_visited states were and the depth
 * stays below max_depth, at most n_select children of a state: one call says what is impossible
 * (lines equal to prune_word); where there is none, or prune is off, the child is searched in turn.
 * A state's worth is the sum over its value call's lines of `values`; the answer is the visited
 * state of the largest, of equals the first. (The original asks its crossword for the truth.)
 */
#pragma once

#include "reason/rules/rule.h"
#include "reason/rules/thought_text.h"

typedef enum cop_thoughts_search { COP_THOUGHTS_BFS, COP_THOUGHTS_DFS } cop_thoughts_search;

enum { COP_THOUGHTS_VALUES = 8 };

typedef struct cop_thoughts_options { /* texts are copied */
    cop_thoughts_search search;
    const char *input, *generate_prompt, *evaluate_prompt;
    const char *stop; /* of a generating call; NULL: none */
    bool propose, vote, sample_select;
    uint32_t steps; /* BFS */
    uint32_t n_generate, n_evaluate, n_select;
    cop_thought_value values[COP_THOUGHTS_VALUES];
    uint32_t n_values;
    bool duplicates_share, vote_whole_number, zero_sum_uniform;
    uint32_t max_visited, max_depth; /* DFS */
    bool prune;
    const char *prune_word;
    uint64_t seed;
    uint32_t max_tokens; /* of a call; 0: the run's own limit */
    float temperature;
    uint32_t max_states; /* candidates of one step, or visited states and proposals together */
    size_t max_text_bytes;
} cop_thoughts_options;

cop_status cop_thoughts_create(const cop_rule_limits *limits, const cop_thoughts_options *options,
                               cop_rule **out);
cop_status cop_thoughts_input(cop_rule *rule, const char *input); /* another one, after a reset */
uint32_t cop_thoughts_visited(const cop_rule *rule); /* states valued (BFS) or visited (DFS) */
