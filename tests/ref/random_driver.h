/* A driver that grows a random tree: prompt, samples, forks inside forks, pruned branches, joins of
 * every rule. Every decision is a pure function of (problem key, branch path, tokens said), never
 * of the batch, and every token is sampled and fed back, so that one wrong bit anywhere ends in
 * other tokens. It keeps a digest of all sampled rows (tokens, log-probabilities, log-sum-exp, bit
 * for bit) that does not depend on the order in which branches are visited.
 */
#pragma once

#include "reason/engine.h"

enum { RANDOM_BRANCHES_MAX = 140, RANDOM_TOKENS_MAX = 1024 };

typedef struct random_coverage {
    uint64_t trees, forks, nested_joins, stitches, equal_starts, reprefills, reuses, pruned,
        headers, no_headers, long_segments, long_prompts, all_pruned;
} random_coverage;

typedef struct random_branch {
    cop_branch branch;
    uint64_t path; /* hash */
    uint32_t depth, said, limit;
    uint32_t parent, n_header; /* record of the branch it was forked from; UINT32_MAX: the root */
    uint64_t digest, rows;     /* with all below it */
    uint32_t child[4], n_children, blocks; /* records */
    bool runs;                             /* neither waits for a block nor has ended */
    int32_t ids[RANDOM_TOKENS_MAX];
    uint32_t n_ids;
} random_branch;

typedef struct random_driver {
    cop_driver driver;
    uint64_t key;
    uint32_t vocab;
    uint32_t n_shared;   /* tokens that the prompt begins with; 0 unless set after init */
    uint64_t shared_key; /* drivers of one key share them, as far as the shorter goes */
    random_branch branches[RANDOM_BRANCHES_MAX];
    uint32_t n_branches;
    uint32_t free[RANDOM_BRANCHES_MAX], n_free; /* records of branches that began anew */
    int32_t prompt[512];
    uint32_t n_prompt;
    uint64_t digest, rows, restarts;
    random_coverage *coverage;
} random_driver;

void random_driver_init(random_driver *driver, uint64_t key, uint32_t vocab,
                        random_coverage *coverage);
/* Of the tokens that each branch says, whatever the order in which branches were opened. */
uint64_t random_driver_tokens(const random_driver *driver);
