/* STEP (2601.09093; Supercomputing-System-AI-Lab/STEP@8ef9d1e): a small network scores the hidden
 * state at the end of every step; when the KV pool is full, and only then, the branch with the
 * lowest score is given up.
 *
 * A step ends at a token whose own text holds "\n\n" (vllm/config/STEP.py); the hidden state is the
 * last layer's, after the final norm, where that token is the input (v1/engine/core.py 346-400): it
 * is there one forward pass after the token was sampled. A branch's score is the mean of its step
 * scores. Branches are ordered by falling score, of equals the older first; one that has no score
 * yet counts as 0, so fresh ones go first (v1/core/sched/scheduler.py 232, 303-308, 740-792). There
 * is no threshold, no least length and no recomputation.
 *
 * The vote (STEP/tests/benchmark_eval.py 146-184) weighs answers by the final mean; branches
 * without a score do not vote; pruned ones do, if their text so far holds an answer
 * (cop_rule_partial): `pruned_votes` is the original's behaviour.
 */
#pragma once

#include "reason/rules/mlp.h"
#include "reason/rules/rule.h"

typedef struct cop_step_options {
    const cop_mlp *mlp;    /* borrowed while the rule lives */
    const char *step_text; /* copied; "\n\n" */
    bool pruned_votes;
} cop_step_options;

cop_status cop_step_create(const cop_rule_limits *limits, const cop_step_options *options,
                           cop_rule **out);
