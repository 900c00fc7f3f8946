/* Controllers that draw independent samples of one prompt and choose among their answers. They
 * prune nothing; join policies and prune rules stand beside them in a set.
 *
 *   sequential        one sample: the baseline of everything
 *   self-consistency  (Wang et al. 2022, arXiv 2203.11171) n samples, the answer that most of them
 *                     gave; the paper leaves ties open, here the answer first given wins, in the
 *                     order of the samples. No answer is no vote.
 *   best-of-n         the answer of the sample with the highest score; of equals the first. A
 *                     sample without a score or an answer is not chosen. Scorers, none of which is
 *                     an original's:
 *       mean-logprob      mean log-probability of its tokens
 *       group-confidence  the lowest mean confidence of any `window` tokens in a row (prune.h)
 *       mlp               mean of STEP's scores at step ends (step.h)
 *       command           a program of the user's (scorer_command.h), asked when a sample ends
 */
#pragma once

#include "reason/rules/mlp.h"
#include "reason/rules/rule.h"
#include "reason/rules/scorer_command.h"

typedef enum cop_samples_kind {
    COP_SAMPLES_SEQUENTIAL,
    COP_SAMPLES_SELF_CONSISTENCY,
    COP_SAMPLES_BEST_OF
} cop_samples_kind;

typedef enum cop_scorer_kind {
    COP_SCORER_MEAN_LOGPROB,
    COP_SCORER_GROUP_CONFIDENCE,
    COP_SCORER_MLP,
    COP_SCORER_COMMAND
} cop_scorer_kind;

typedef struct cop_samples_options {
    cop_samples_kind kind;
    uint32_t n; /* 1 for sequential */
    cop_scorer_kind scorer;
    uint32_t window;       /* GROUP_CONFIDENCE */
    const cop_mlp *mlp;    /* MLP; borrowed */
    const char *step_text; /* MLP; copied */
    cop_scorer_command_options command;
    size_t max_text_bytes; /* COMMAND: of one sample; 0: 16 for each token that it may have */
} cop_samples_options;

cop_status cop_samples_create(const cop_rule_limits *limits, const cop_samples_options *options,
                              cop_rule **out);
