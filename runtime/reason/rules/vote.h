/* Votes over answers: classes in the order in which they were first met, each with its weight and
 * its count. The winner is the largest, and of equals the first met: what Python's Counter and max
 * over a dict do, which is what the originals use; the papers leave ties open.
 *
 * Two answers are one class when their texts are equal, or when `same` says so of the newcomer and
 * a class's first member, tried in order. Texts are borrowed until reset. Nothing is allocated
 * after create.
 */
#pragma once

#include "reason/rules/rule_internal.h"

typedef struct cop_vote_class {
    const cop__rule_text *text; /* its first member */
    double weight;
    uint32_t count;
} cop_vote_class;

typedef struct cop_vote {
    const cop_rule *rule; /* whose equality counts; texts alone when NULL */
    cop_vote_class *classes;
    uint32_t n, capacity;
    uint32_t *table; /* [table_mask + 1] class + 1, by hash; 0: empty */
    uint32_t table_mask;
    uint32_t votes;
} cop_vote;

cop_status cop_vote_create(cop_rule *owner, uint32_t capacity, bool texts_alone, cop_vote *out);
void cop_vote_reset(cop_vote *vote);
/* At most `capacity` votes. Gives the class. */
uint32_t cop_vote_add(cop_vote *vote, const cop__rule_text *text, double weight);
const cop_vote_class *cop_vote_by_count(const cop_vote *vote); /* NULL: no vote */
const cop_vote_class *cop_vote_by_weight(const cop_vote *vote);
double cop_vote_weight(const cop_vote *vote); /* of all */
/* Entropy of the classes' shares in bits; 0 for no vote. */
double cop_vote_entropy(const cop_vote *vote);
