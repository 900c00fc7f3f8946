/* Probes of all branches in rounds: every branch is asked after each `every` tokens of its own, and
 * a round is complete when each branch that still runs has answered. One that ended gives its final
 * answer from the round after its last probe on. Shared by the rules that compare branches.
 *
 * Lock-step decoding makes the rounds simultaneous; a branch that is ahead waits for nothing: it is
 * asked again once the round is over.
 */
#pragma once

#include "reason/rules/rule_internal.h"

typedef struct cop_probe_options {
    uint32_t every;
    const char *suffix; /* copied */
    uint32_t probe_tokens;
    float temperature, top_p;
    bool boxed; /* the suffix opens a brace: the answer ends before the one that closes it */
} cop_probe_options;

typedef struct cop__rounds {
    cop_probe_options options;
    uint32_t round;         /* the one that is being gathered, from 0 */
    uint32_t waiting;       /* live branches that have not answered in it */
    cop__rule_text *latest; /* [max_branches] */
    uint8_t *state;         /* [max_branches] bits below */
    uint32_t *due;
    uint32_t n_due;
} cop__rounds;

enum {
    COP__ROUND_FRESH = 1,    /* has answered in this round */
    COP__ROUND_FINISHED = 2, /* `latest` is its final answer */
    COP__ROUND_LATER = 4,    /* ended after it answered: final from the next round on */
    COP__ROUND_DUE = 8,
};

cop_status cop__rounds_create(cop_rule *rule, const cop_probe_options *options, cop__rounds *out);
void cop__rounds_reset(cop__rounds *rounds);
void cop__rounds_open(cop__rounds *rounds, cop_rule *rule, uint32_t branch);
void cop__rounds_token(cop__rounds *rounds, cop_rule *rule, uint32_t branch);
void cop__rounds_probe(cop__rounds *rounds, uint32_t branch, const char *text, size_t bytes);
void cop__rounds_end(cop__rounds *rounds, cop_rule *rule, uint32_t branch);
void cop__rounds_left(cop__rounds *rounds, uint32_t branch);
/* Asks whoever is due. */
void cop__rounds_ask(cop__rounds *rounds, cop_rule *rule);
static inline bool cop__rounds_complete(const cop__rounds *rounds, const cop_rule *rule) {
    return rounds->waiting == 0 && rule->n_branches > 0;
}
void cop__rounds_next(cop__rounds *rounds, cop_rule *rule);
