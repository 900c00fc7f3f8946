/* What the rules' own files share: the part that every rule has, and the table of functions that
 * makes the difference. Nothing outside this folder and its tests includes it.
 */
#pragma once

#include "base/memory.h"
#include "reason/rules/rule.h"

typedef struct cop__rule_text {
    uint64_t hash;
    uint32_t bytes;
    char data[COP_RULE_TEXT_BYTES];
} cop__rule_text;

void cop__rule_text_set(cop__rule_text *text, const char *data, size_t bytes);
uint64_t cop__rule_hash(const char *data, size_t bytes); /* FNV-1a, 64 bits */

typedef enum cop__rule_state { RULE_LIVE, RULE_ENDED, RULE_PRUNED } cop__rule_state;

typedef struct cop__rule_branch {
    cop__rule_state state;
    cop_rule_end_kind how; /* ENDED */
    bool probing;          /* a probe was asked for and not answered */
    bool wants_hidden;
    uint32_t group;
    uint32_t tokens;
    cop__rule_text answer;
    bool has_answer; /* it ended with one that is not empty */
} cop__rule_branch;

typedef struct cop__rule_ops {
    const char *name;
    void (*open)(cop_rule *rule, uint32_t branch);
    void (*token)(cop_rule *rule, const cop_rule_token *token);
    cop_status (*hidden)(cop_rule *rule, uint32_t branch, const float *hidden);
    cop_status (*probe)(cop_rule *rule, uint32_t branch, const char *text, size_t bytes);
    cop_status (*end)(cop_rule *rule, uint32_t branch, const char *text, size_t bytes);
    cop_status (*decide)(cop_rule *rule, uint64_t now_ns);
    uint32_t (*victim)(const cop_rule *rule);
    uint32_t (*may_open)(const cop_rule *rule);
    bool (*answer)(cop_rule *rule, const char **text, size_t *bytes);
    bool (*chooses)(const cop_rule *rule); /* NULL: where there is an `answer` */
    double (*score)(const cop_rule *rule, uint32_t branch);
    void (*left)(cop_rule *rule, uint32_t branch); /* pruned: by itself, a victim or a stop */
    void (*partial)(cop_rule *rule, uint32_t branch, const char *text, size_t bytes);
    cop_status (*input)(cop_rule *rule, const char *text, size_t bytes); /* controllers have it */
    void (*reset)(cop_rule *rule);
    void (*destroy)(cop_rule *rule);
} cop__rule_ops;

struct cop_rule { /* first in every rule's own struct */
    const cop__rule_ops *ops;
    cop_arena *arena;
    cop_rule_limits limits;
    cop_rule_needs needs;
    cop__rule_branch *branches; /* [max_branches] */
    uint32_t n_branches;
    cop_decision *decisions; /* [max_decisions] */
    uint32_t n_decisions, max_decisions;
    bool stopped;
    cop_rule_stats stats;
};

/* Begins a rule: `bytes` for its own struct, whose first member is a cop_rule. `per_branch`
 * decisions can be given for each branch at one time. */
cop_status cop__rule_create(const cop__rule_ops *ops, size_t bytes, const cop_rule_limits *limits,
                            uint32_t per_branch, void *out);
/* Zeroed, from the rule's arena; NULL sets *status. */
void *cop__rule_calloc(cop_rule *rule, size_t count, size_t size, cop_status *status);

static inline bool cop__rule_is_live(const cop_rule *rule, uint32_t branch) {
    return rule->branches[branch].state == RULE_LIVE;
}
bool cop__rule_equal(const cop_rule *rule, const cop__rule_text *a, const cop__rule_text *b);

/* Decisions. The branch must be live; STOP ends all that are. */
void cop__rule_prune(cop_rule *rule, uint32_t branch, cop_rule_reason reason, bool keep_partial);
void cop__rule_finish(cop_rule *rule, uint32_t branch, cop_rule_reason reason, const char *text,
                      size_t bytes);
void cop__rule_ask(cop_rule *rule, uint32_t branch, const cop_decision *probe);
void cop__rule_stop(cop_rule *rule, cop_rule_reason reason, bool keep_partial);
cop_status cop__rule_run(cop_rule *rule, const cop_decision *run);
