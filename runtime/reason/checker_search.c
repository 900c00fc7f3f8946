/* The search for a solution of up to six numbers. A solution is a tree; at its root the numbers are
 * cut in two, of which one side has at most half. Every value that this side can have gives the
 * few values that the other must have, which is then searched for in the same way. Sides of up to
 * three numbers are sets of all their values, so nothing is searched for twice below that. */
#include "reason/checker_internal.h"

#include <string.h>

enum {
    SIDE_MAX = COP_COUNTDOWN_SEARCH_MAX / 2,
    SIDE_VALUES = 108, /* three numbers: 3 first pairs x 6 results x 6 results with the third */
    VALUES_MAX = 6 * 1 + 15 * 6 + 20 * SIDE_VALUES,
    SUBSETS = 1 << COP_COUNTDOWN_SEARCH_MAX,
    WAYS = 6, /* a + b, a - b, b - a, a * b, a / b, b / a */
};

typedef struct search {
    cop_rational values[VALUES_MAX]; /* of all small subsets, each subset's sorted */
    uint32_t n_values;
    struct {
        uint32_t first, count;
    } of[SUBSETS];
    bool unsure; /* a value passed 127 bits and was left out */
} search;

/* Any total order will do. */
static int order(cop_rational a, cop_rational b) {
    if (a.num != b.num)
        return a.num < b.num ? -1 : 1;
    return (a.den > b.den) - (a.den < b.den);
}

/* Where `value` is among the subset's values, or would be. */
static uint32_t place_of(const search *s, uint32_t subset, cop_rational value) {
    uint32_t low = s->of[subset].first, high = low + s->of[subset].count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (order(s->values[middle], value) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool has_value(const search *s, uint32_t subset, cop_rational value) {
    uint32_t at = place_of(s, subset, value);
    return at < s->of[subset].first + s->of[subset].count &&
           cop__rational_same(s->values[at], value);
}

/* Only the subset whose values stand last may grow. */
static void add_value(search *s, uint32_t subset, cop_rational value) {
    if (has_value(s, subset, value))
        return;
    uint32_t at = place_of(s, subset, value);
    memmove(&s->values[at + 1], &s->values[at], (s->n_values - at) * sizeof value);
    s->values[at] = value;
    s->n_values++;
    s->of[subset].count++;
}

static void add_pair(search *s, uint32_t subset, cop_rational a, cop_rational b) {
    static const char operations[] = "+-*/";
    for (int i = 0; i < 8; i++) {
        cop_rational value;
        cop_fault failed =
            cop__rational_apply(operations[i % 4], i < 4 ? a : b, i < 4 ? b : a, &value);
        if (failed == COP_FAULT_NONE)
            add_value(s, subset, value);
        s->unsure |= failed == COP_FAULT_OVERFLOW;
    }
}

static void list_values(search *s, const cop_puzzle *given) {
    for (int size = 1; size <= SIDE_MAX; size++) {
        for (uint32_t subset = 1; subset < 1u << given->n; subset++) {
            if (__builtin_popcount(subset) != size)
                continue;
            s->of[subset].first = s->n_values;
            if (size == 1)
                add_value(s, subset, given->numbers[__builtin_ctz(subset)]);
            for (uint32_t bit = 1; bit < subset && size > 1; bit <<= 1) {
                if (!(subset & bit))
                    continue;
                uint32_t rest = subset ^ bit;
                for (uint32_t i = 0; i < s->of[rest].count; i++)
                    add_pair(s, subset, s->values[s->of[bit].first],
                             s->values[s->of[rest].first + i]);
            }
        }
    }
}

/* What b must be for one of the six ways of a and b to give `target`; false where there is none.
 * A zero a in a product or quotient leads to the target 0 with any b, which the caller knows. */
static bool other_operand(search *s, int way, cop_rational a, cop_rational target,
                          cop_rational *b) {
    cop_fault failed = COP_FAULT_ZERO;
    bool divides = a.num != 0;
    switch (way) {
    case 0: /* a + b */
        failed = cop__rational_apply('-', target, a, b);
        break;
    case 1: /* a - b */
        failed = cop__rational_apply('-', a, target, b);
        break;
    case 2: /* b - a */
        failed = cop__rational_apply('+', target, a, b);
        break;
    case 3: /* a * b */
        failed = cop__rational_apply('/', target, a, b);
        break;
    case 4: /* a / b */
        if (divides)
            failed = cop__rational_apply('/', a, target, b);
        break;
    case 5: /* b / a */
        if (divides)
            failed = cop__rational_apply('*', target, a, b);
        break;
    }
    s->unsure |= failed == COP_FAULT_OVERFLOW;
    return failed == COP_FAULT_NONE;
}

static bool reaches(search *s, uint32_t subset, cop_rational target) {
    int size = __builtin_popcount(subset);
    if (size <= SIDE_MAX)
        return has_value(s, subset, target);
    for (uint32_t side = (subset - 1) & subset; side; side = (side - 1) & subset) {
        if (2 * __builtin_popcount(side) > size)
            continue;
        for (uint32_t i = 0; i < s->of[side].count; i++) {
            cop_rational a = s->values[s->of[side].first + i], b;
            if (a.num == 0 && target.num == 0)
                return true;
            for (int way = 0; way < WAYS; way++) {
                if (other_operand(s, way, a, target, &b) && reaches(s, subset ^ side, b))
                    return true;
            }
        }
    }
    return false;
}

bool cop__countdown_impossible(const cop_puzzle *given) {
    if (given->n > COP_COUNTDOWN_SEARCH_MAX)
        return false;
    search s = {.n_values = 0};
    list_values(&s, given);
    return !reaches(&s, (1u << given->n) - 1, given->target) && !s.unsure;
}
