/* Skeleton-of-Thought (Ning et al. 2023, arXiv 2307.15337; imagination-research/sot@54f506f,
 * sot/schedulers/outline_batch_scheduler.py L71-147): one call for an outline, one prompt for each
 * of its points, the texts put together. No call follows the join.
 *
 * Points are what the original's expression (\d+)\.\s?([\s\S]+?)(?=\n|\n*$) finds in the outline
 * (its beginning, which the prompt gives, included): digits, a point, one white space at most, text
 * up to the line's end. A number that came before is dropped. "3 to 10 points" is only asked for in
 * the prompt; max_points limits them where it is set. Of digits and white space the ASCII ones
 * count. An outline without points gives an empty answer; the original's batch scheduler then fails
 * (it names a time that was never set), which no_points_fails repeats.
 *
 * Templates: {request}, {outline}, {point}, {point_outline}; what follows
 * "[ROLESWITCHING assistant:]" begins the answer's turn.
 */
#pragma once

#include "reason/rules/rule.h"

typedef struct cop_skeleton_options { /* texts are copied */
    const char *request, *outline_prompt, *point_prompt;
    const char *joiner;  /* "\n" in the batch scheduler, "\n\n" in the sequential one */
    uint32_t max_points; /* 0: none */
    bool no_points_fails;
    uint32_t outline_tokens, point_tokens; /* 0: the run's own limit */
    float temperature;                     /* < 0: the run's own */
    size_t max_text_bytes;
} cop_skeleton_options;

cop_status cop_skeleton_create(const cop_rule_limits *limits, const cop_skeleton_options *options,
                               cop_rule **out);
/* Another request, after a reset. */
cop_status cop_skeleton_request(cop_rule *rule, const char *request);
