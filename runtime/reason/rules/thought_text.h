/* What the calls of a tree of thoughts say, as princeton-nlp/tree-of-thought-llm@ab40034 reads it.
 * Pure functions over ASCII. */
#pragma once

#include "reason/rules/prompt_pool.h"

typedef struct cop_thought_value { /* a word that a value call may end with, and its worth */
    const char *word;
    double value;
} cop_thought_value;

/* src/tot/tasks/game24.py value_outputs_unwrap: the last line equal to which word; n: none. */
uint32_t cop_thought_word(cop__text text, const cop_thought_value *values, uint32_t n);

/* src/tot/tasks/text.py vote_outputs_unwrap: .*best choice is .*(\d+).* matched greedily over all
 * lines, so the group holds the text's last digit alone and choices above 9 are misread. Mended:
 * the whole first number after the phrase's last occurrence that has one. Choices count from 1; 0:
 * none. */
uint32_t cop_thought_vote(cop__text text, bool mended);

/* scripts/crosswords/search_crosswords-dfs.ipynb parse_line: "thought (certain)"; the weight of
 * certain, high, medium, low, and the thought before it. False: no such line. */
bool cop_thought_proposal(cop__text line, cop__text *thought, double *weight);

/* The next line of the text from *at on; false behind the last. "a\n" has two, the second empty. */
bool cop_thought_line(cop__text text, size_t *at, cop__text *line);
