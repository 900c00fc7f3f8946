/* Join policies and limits, for samples and for the paths of blocks alike (a group is a block, or
 * all samples together): a budget of tokens, a quorum of finished branches, deadlines. Any of them
 * with any dialect, controller or other rule.
 *
 *   budget_tokens    tokens of all branches together; when they are spent, all stop. With
 *                    budget_probes what probes were answered with counts too.
 *   quorum           so many finished branches of a group end the rest of it: 1 is the first
 *                    finisher; with success_only, a race: the first one that found what was asked
 *                    for. A branch finishes by its own end; a limit on tokens or a cut is none.
 *   quorum_ratio     the same once finished >= ratio * opened (ParaThinker).
 *   deadline_tokens  a branch that has said so many is ended.
 *   deadline_ns      a group is ended so long after the first decision that saw it.
 *   keep_partial     what is ended that way keeps its text; else it is dropped.
 *
 * In one decision: deadlines of branches, then groups in the order in which they fell due, then the
 * budget.
 */
#pragma once

#include "reason/rules/rule.h"

typedef struct cop_policy_options {
    uint64_t budget_tokens; /* 0: none, as for the others */
    bool budget_probes;
    uint32_t quorum;
    double quorum_ratio;
    bool success_only;
    uint32_t deadline_tokens;
    uint64_t deadline_ns;
    bool keep_partial;
} cop_policy_options;

cop_status cop_policy_create(const cop_rule_limits *limits, const cop_policy_options *options,
                             cop_rule **out);
