#include "reason/rules/vote.h"

#include <math.h>
#include <string.h>

cop_status cop_vote_create(cop_rule *owner, uint32_t capacity, bool texts_alone, cop_vote *out) {
    cop_status status = COP_OK;
    uint32_t size = 4;
    while (size < 2 * capacity)
        size *= 2;
    *out = (cop_vote){.rule = texts_alone ? NULL : owner, .capacity = capacity};
    out->classes = cop__rule_calloc(owner, capacity, sizeof *out->classes, &status);
    out->table = cop__rule_calloc(owner, size, sizeof *out->table, &status);
    out->table_mask = size - 1;
    return status;
}

void cop_vote_reset(cop_vote *vote) {
    vote->n = vote->votes = 0;
    memset(vote->table, 0, (vote->table_mask + 1) * sizeof *vote->table);
}

static bool text_equal(const cop__rule_text *a, const cop__rule_text *b) {
    return a->hash == b->hash && a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0;
}

static uint32_t find(cop_vote *vote, const cop__rule_text *text, uint32_t **slot) {
    uint32_t at = (uint32_t)text->hash & vote->table_mask;
    for (; vote->table[at]; at = (at + 1) & vote->table_mask) {
        if (text_equal(vote->classes[vote->table[at] - 1].text, text))
            return vote->table[at] - 1;
    }
    *slot = &vote->table[at];
    if (vote->rule && vote->rule->limits.same) {
        for (uint32_t i = 0; i < vote->n; i++) {
            if (cop__rule_equal(vote->rule, text, vote->classes[i].text))
                return i;
        }
    }
    return COP_RULE_NONE;
}

uint32_t cop_vote_add(cop_vote *vote, const cop__rule_text *text, double weight) {
    uint32_t *slot = NULL;
    uint32_t found = find(vote, text, &slot);
    if (found == COP_RULE_NONE) {
        found = vote->n++;
        vote->classes[found] = (cop_vote_class){.text = text};
        *slot = found + 1;
    }
    vote->classes[found].weight += weight;
    vote->classes[found].count++;
    vote->votes++;
    return found;
}

const cop_vote_class *cop_vote_by_count(const cop_vote *vote) {
    const cop_vote_class *best = NULL;
    for (uint32_t i = 0; i < vote->n; i++) {
        if (!best || vote->classes[i].count > best->count)
            best = &vote->classes[i];
    }
    return best;
}

const cop_vote_class *cop_vote_by_weight(const cop_vote *vote) {
    const cop_vote_class *best = NULL;
    for (uint32_t i = 0; i < vote->n; i++) {
        if (!best || vote->classes[i].weight > best->weight)
            best = &vote->classes[i];
    }
    return best;
}

double cop_vote_weight(const cop_vote *vote) {
    double sum = 0;
    for (uint32_t i = 0; i < vote->n; i++)
        sum += vote->classes[i].weight;
    return sum;
}

double cop_vote_entropy(const cop_vote *vote) {
    double entropy = 0;
    for (uint32_t i = 0; i < vote->n; i++) {
        double share = vote->classes[i].count / (double)vote->votes;
        entropy += -share * (log(share) / log(2)); /* as the original divides */
    }
    return entropy;
}
