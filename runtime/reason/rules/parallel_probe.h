/* Parallel-Probe (2602.03845; zhengkid/Parallel-Probe@aaa4c72, evaluation/method.py): probes of all
 * branches in rounds, a stop by consensus, and outliers pruned.
 *
 * Round 0 is one probe of every branch; step s = 0, 1, .. is round s + 1. In each step:
 *   1. the winner is the most common latest answer (text; ties: the answer first met in branch
 *      order) of the branches that were not pruned; one that ended votes with its final answer;
 *   2. from step `warmup` on, while more than one branch was not pruned: a branch that runs and is
 *      not of the winner's opinion grows older by one, else it is young again; at `prune_patience`
 *      it is pruned (the original then looks for the winner again, which is the same: only votes
 *      for others left);
 *   3. the winner of the step before once more: `stable` grows by one, else 0; at `patience` all
 *      stop. They also stop when none runs, and after max_steps.
 * The answer is the last step's winner; an empty one is an opinion like any other.
 *
 * `pruned_votes` is the original's other class (ParallelESTPruning): a pruned branch keeps voting
 * with its last answer, and pruning needs more than one branch that runs. The original charges no
 * tokens for probes; the statistics here do. Its probe's text is not published, so the presets use
 * Dynasor's and say so.
 */
#pragma once

#include "reason/rules/probe_rounds.h"
#include "reason/rules/rule.h"

typedef struct cop_parallel_probe_options {
    cop_probe_options probe;
    uint32_t patience, prune_patience, warmup, max_steps;
    bool pruned_votes;
} cop_parallel_probe_options;

cop_status cop_parallel_probe_create(const cop_rule_limits *limits,
                                     const cop_parallel_probe_options *options, cop_rule **out);
