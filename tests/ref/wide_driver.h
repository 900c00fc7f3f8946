/* A driver that is wide: samples that split in two at every one of eight levels, so that more than
 * 1,024 branches are alive at once. Each says a few tokens first; random ones are pruned, and a
 * block joins by text or by stitching, at random. What a branch says hangs on its place in the tree
 * and the seed alone, so that the digest is that of any pool, unless branches are shed.
 */
#pragma once

#include "reason/engine.h"

enum {
    WIDE_SAMPLES = 5,
    WIDE_LEVELS = 8,
    WIDE_OF_SAMPLE = (2 << WIDE_LEVELS) - 1,
    WIDE_BRANCHES = WIDE_SAMPLES * WIDE_OF_SAMPLE, /* 2,555, of which 1,280 are leaves */
    WIDE_TOKENS = 24,                              /* of one branch, given ones included */
    WIDE_PROMPT = 40
};

typedef struct wide_branch {
    cop_branch branch;
    uint32_t level, said, n_ids;
    bool runs, open, pruned;
    uint64_t digest; /* of all that it sampled */
    int32_t ids[WIDE_TOKENS];
} wide_branch;

typedef struct wide_driver {
    cop_driver driver;
    uint64_t key;
    uint32_t vocab, words; /* that a branch says before its block, at most; 1 to 6 */
    /* A sample's branches lie in a row like a heap: i's are 2i + 1 and 2i + 2. */
    wide_branch branches[WIDE_BRANCHES];
    int32_t prompt[WIDE_PROMPT];
    uint32_t n_open, n_open_most; /* branches that have not ended */
    uint32_t levels, texts, stitches, pruned, shed, restarts;
} wide_driver;

void wide_driver_init(wide_driver *driver, uint64_t key, uint32_t vocab, uint32_t words);
/* Of all tokens and log-probabilities, and of who was pruned. */
uint64_t wide_driver_digest(const wide_driver *driver);
