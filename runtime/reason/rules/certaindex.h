/* Certaindex over several paths (Fu et al. 2024, arXiv 2412.20993; hao-ai-lab/Dynasor@0d2f1b9,
 * dynasor/core/entropy.py): every `every` tokens all paths are asked for their answers; when these
 * agree enough, all stop. Two measures:
 *
 *   entropy     item_entropy: -sum p log2 p over the counts of identical texts, in bits, not
 *               normalised; stops at or under `threshold`. The code has the measure and no rule
 *               that stops by it, so the threshold is the user's.
 *   certaindex  1 - H / log n, n the number of paths, as the paper writes it; stops at or over
 *               `threshold`. One path alone has H = 0 and log n = 0: it is taken as certain.
 *
 * All paths count, those that ended with their final answers; pruned ones do not. The answer is
 * majority_voting's: classes by equality with their first member; the winner is the class that
 * first reached the largest count, shown by the member with which it did.
 */
#pragma once

#include "reason/rules/probe_rounds.h"

typedef enum cop_certaindex_measure {
    COP_CERTAINDEX_ENTROPY,
    COP_CERTAINDEX_NORMALISED
} cop_certaindex_measure;

typedef struct cop_certaindex_options {
    cop_probe_options probe;
    cop_certaindex_measure measure;
    double threshold;
} cop_certaindex_options;

cop_status cop_certaindex_create(const cop_rule_limits *limits,
                                 const cop_certaindex_options *options, cop_rule **out);
/* The last round's measure, NaN before the first, and how many there were. */
double cop_certaindex_last(const cop_rule *rule, uint32_t *rounds);
