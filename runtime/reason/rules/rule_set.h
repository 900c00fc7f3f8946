/* Several rules as one: each is told everything and each decides; what one decides the others are
 * told. A branch may be opened when all allow it; the first that has an answer gives it, and so
 * with scores and victims. Two rules that both probe, or both read hidden states, contradict each
 * other and are refused.
 *
 * Statistics: tokens and branches are the set's own, probes those of the rule that asked.
 */
#pragma once

#include "reason/rules/rule.h"

enum { COP_RULE_SET_MAX = 8 };

/* Takes the rules over on success: they are destroyed with the set. All have the set's limits. */
cop_status cop_rule_set_create(const cop_rule_limits *limits, cop_rule *const *rules, uint32_t n,
                               cop_rule **out);
