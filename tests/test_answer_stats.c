/* pass@k, maj@k, the bootstrap and the Pareto front against counting by hand. */
#include "check.h"

#include <math.h>

#include "base/rng.h"
#include "measure/answer_stats.h"

static bool close_to(double a, double b) {
    return fabs(a - b) <= 1e-12 * fmax(1, fabs(b));
}

/* Every set of k of n, as bits; the first c samples are right. */
static double pass_by_counting(uint32_t n, uint32_t c, uint32_t k) {
    uint32_t sets = 0, hits = 0;
    for (uint32_t bits = 0; bits < 1u << n; bits++) {
        if ((uint32_t)__builtin_popcount(bits) != k)
            continue;
        sets++;
        hits += (bits & ((1u << c) - 1)) != 0;
    }
    return (double)hits / sets;
}

static void test_pass_at_k_counts_sets(void) {
    for (uint32_t n = 1; n <= 12; n++)
        for (uint32_t c = 0; c <= n; c++)
            for (uint32_t k = 1; k <= n; k++)
                CHECK(
                    close_to(cop_pass_at_k(n, c, k, COP_FEW_LEFT_OUT), pass_by_counting(n, c, k)));
    CHECK(close_to(cop_pass_at_k(1000, 1, 100, COP_FEW_LEFT_OUT), 0.1));
    double large = cop_pass_at_k(100000, 50000, 50000, COP_FEW_LEFT_OUT);
    CHECK(large == 1); /* the factorials would have overflowed */
}

static void test_fewer_samples_than_k_is_a_case_of_its_own(void) {
    CHECK(isnan(cop_pass_at_k(3, 3, 4, COP_FEW_LEFT_OUT)));
    CHECK(cop_pass_at_k(3, 3, 4, COP_FEW_NPR) == 1 && cop_pass_at_k(3, 2, 4, COP_FEW_NPR) == 0);
    CHECK(isnan(cop_pass_at_k(0, 0, 1, COP_FEW_NPR)) && isnan(cop_pass_at_k(2, 3, 1, COP_FEW_NPR)));
    CHECK(isnan(cop_pass_at_k(2, 1, 0, COP_FEW_NPR)));
}

static void test_ties_follow_their_rule(void) {
    double votes[8];
    uint32_t winner;
    /* b a a b c, and one without an answer; a is right. */
    const cop_vote_sample samples[] = {{1, 1, false}, {0, 1, true},  {COP_CLASS_NONE, 1, false},
                                       {0, 1, true},  {1, 1, false}, {2, 1, false}};
    CHECK(cop_majority(samples, 6, COP_TIE_FIRST, votes, &winner) == 0 && winner == 1);
    CHECK(cop_majority(samples, 6, COP_TIE_SHARE, votes, &winner) == 0.5 && winner == 1);
    CHECK(cop_majority(samples, 6, COP_TIE_NONE, votes, &winner) == 0 && winner == COP_CLASS_NONE);
    CHECK(cop_majority(samples, 4, COP_TIE_NONE, votes, &winner) == 1 && winner == 0);
    CHECK(cop_majority(samples + 2, 1, COP_TIE_SHARE, votes, &winner) == 0);
    CHECK_EQ(winner, COP_CLASS_NONE);
    CHECK(cop_majority(samples, 0, COP_TIE_SHARE, votes, NULL) == 0);
    /* Weights decide, and what weighs nothing does not vote. */
    const cop_vote_sample weighed[] = {
        {0, 0.4, false}, {1, 1, true}, {0, 0.5, false}, {2, 0, true}, {2, NAN, true}};
    CHECK(cop_majority(weighed, 5, COP_TIE_FIRST, votes, &winner) == 1 && winner == 1);
}

/* The vote, the other way round: for each class a count, ties by the first appearance. */
static double vote_by_counting(const cop_vote_sample *s, const uint32_t *at, uint32_t k,
                               cop_tie tie) {
    uint32_t count[16] = {0}, order[16], n = 0, most = 0, equals = 0, right = 0;
    bool is_right[16] = {false};
    for (uint32_t i = 0; i < k; i++) {
        uint32_t class = s[at[i]].answer;
        if (class == COP_CLASS_NONE)
            continue;
        if (count[class]++ == 0) {
            order[n++] = class;
            is_right[class] = s[at[i]].right;
        }
        most = count[class] > most ? count[class] : most;
    }
    int first = -1;
    for (uint32_t i = 0; i < n; i++) {
        if (count[order[i]] != most)
            continue;
        equals++;
        right += is_right[order[i]];
        first = first < 0 ? (int)order[i] : first;
    }
    if (first < 0 || (tie == COP_TIE_NONE && equals > 1))
        return 0;
    return tie == COP_TIE_SHARE ? (double)right / equals : is_right[first];
}

static double majority_by_counting(const cop_vote_sample *s, uint32_t n, uint32_t k, cop_tie tie) {
    double sum = 0;
    uint32_t sets = 0;
    for (uint32_t bits = 0; bits < 1u << n; bits++) {
        uint32_t at[16], found = 0;
        if ((uint32_t)__builtin_popcount(bits) != k)
            continue;
        for (uint32_t i = 0; i < n; i++)
            if (bits >> i & 1)
                at[found++] = i;
        sum += vote_by_counting(s, at, k, tie);
        sets++;
    }
    return sum / sets;
}

static void test_majority_at_k_is_the_mean_over_sets(void) {
    uint32_t ties = 0;
    for (uint32_t i = 0; i < check_effort(1000, 100); i++) {
        cop_rng_key key = {3, 0, i};
        uint32_t n = 1 + cop_rng_below(key, 0, 10), classes = 1 + cop_rng_below(key, 1, 4);
        cop_vote_sample s[16];
        bool right[4];
        for (uint32_t c = 0; c < 4; c++)
            right[c] = cop_rng_below(key, 10 + c, 2);
        for (uint32_t k = 0; k < n; k++) {
            uint32_t class = cop_rng_below(key, 20 + k, classes + 1);
            s[k] = (cop_vote_sample){class == classes ? COP_CLASS_NONE : class, 1,
                                     class < classes && right[class]};
        }
        uint32_t k = 1 + cop_rng_below(key, 2, n);
        double share[3];
        for (int tie = 0; tie < 3; tie++) {
            cop_majority_at_k out;
            CHECK_OK(cop_majority_at_k_of(s, n, k, (cop_tie)tie, 1, i, &out));
            CHECK(out.exact && close_to(out.share, majority_by_counting(s, n, k, (cop_tie)tie)));
            share[tie] = out.share;
        }
        ties += share[0] != share[1] && share[1] != share[2];
        cop_majority_at_k one;
        CHECK_OK(cop_majority_at_k_of(s, n, 1, COP_TIE_FIRST, 1, i, &one));
        double mean = 0;
        for (uint32_t q = 0; q < n; q++)
            mean += s[q].right;
        CHECK(close_to(one.share, mean / n)); /* maj@1 is avg */
    }
    CHECK(ties > 5);
}

static void test_many_sets_are_drawn(void) {
    cop_vote_sample s[64];
    for (uint32_t i = 0; i < 64; i++)
        s[i] = (cop_vote_sample){i % 4 == 0, 1, i % 4 == 0}; /* one in four says the right one */
    cop_majority_at_k a, b, other;
    CHECK_OK(cop_majority_at_k_of(s, 64, 5, COP_TIE_FIRST, 1, 2, &a));
    CHECK_OK(cop_majority_at_k_of(s, 64, 5, COP_TIE_FIRST, 1, 2, &b));
    CHECK_OK(cop_majority_at_k_of(s, 64, 5, COP_TIE_FIRST, 2, 2, &other));
    CHECK(!a.exact && a.subsets == COP_MAJORITY_DRAWS && a.share == b.share);
    CHECK(a.share != other.share);
    /* Three or more of five: hypergeometric, 0.0949; four standard errors are 0.026. */
    CHECK(fabs(a.share - 0.0949) < 0.026 && fabs(other.share - 0.0949) < 0.026);
    CHECK_OK(cop_majority_at_k_of(s, 4, 5, COP_TIE_FIRST, 1, 2, &a));
    CHECK(isnan(a.share) && a.subsets == 0);
    CHECK_STATUS(cop_majority_at_k_of(s, COP_MAJORITY_SAMPLES_MAX + 1, 1, COP_TIE_FIRST, 1, 2, &a),
                 COP_ERR_NO_ROOM);
}

static void test_the_bootstrap_draws_problems(void) {
    double value[100];
    for (int i = 0; i < 100; i++)
        value[i] = i < 30;
    cop_bootstrap a, b, other;
    CHECK_OK(cop_bootstrap_mean(value, 100, 2000, 0.95, 1, &a));
    CHECK_OK(cop_bootstrap_mean(value, 100, 2000, 0.95, 1, &b));
    CHECK_OK(cop_bootstrap_mean(value, 100, 2000, 0.95, 2, &other));
    CHECK(close_to(a.mean, 0.3) && a.used == 100 && a.low == b.low && a.high == b.high);
    /* The binomial's 2.5 % and 97.5 % points are 0.21 and 0.39. */
    CHECK(fabs(a.low - 0.21) <= 0.011 && fabs(a.high - 0.39) <= 0.011);
    CHECK(fabs(other.low - 0.21) <= 0.011 && fabs(other.high - 0.39) <= 0.011);
    /* Wider when the same 100 answers are of 10 problems that are right or wrong as a whole. */
    double clustered[10];
    for (int i = 0; i < 10; i++)
        clustered[i] = i < 3;
    CHECK_OK(cop_bootstrap_mean(clustered, 10, 2000, 0.95, 1, &b));
    CHECK(close_to(b.mean, 0.3) && b.high - b.low > 2.5 * (a.high - a.low));
    value[0] = NAN;
    CHECK_OK(cop_bootstrap_mean(value, 100, 100, 0.95, 1, &a));
    CHECK(a.used == 99 && close_to(a.mean, 29.0 / 99));
    CHECK_OK(cop_bootstrap_mean(value, 1, 100, 0.95, 1, &a));
    CHECK(a.used == 0 && isnan(a.mean) && isnan(a.low));
    CHECK_OK(cop_bootstrap_mean(value, 0, 100, 0.95, 1, &a));
    CHECK(isnan(a.mean));
    CHECK_OK(cop_bootstrap_mean(value + 1, 1, 100, 0.95, 1, &a));
    CHECK(a.mean == 1 && a.low == 1 && a.high == 1);
}

static void test_the_front_is_what_nothing_beats(void) {
    const double cost[] = {1, 2, 2, 3, 4, NAN, 1}, gain[] = {0.5, 0.7, 0.6, 0.7, 0.9, 1, 0.5};
    bool front[7];
    cop_pareto_front(cost, gain, 7, front);
    static const bool expected[] = {true, true, false, false, true, false, true}; /* equals both */
    for (int i = 0; i < 7; i++)
        CHECK_EQ(front[i], expected[i]);
}

int main(void) {
    RUN(test_pass_at_k_counts_sets);
    RUN(test_fewer_samples_than_k_is_a_case_of_its_own);
    RUN(test_ties_follow_their_rule);
    RUN(test_majority_at_k_is_the_mean_over_sets);
    RUN(test_many_sets_are_drawn);
    RUN(test_the_bootstrap_draws_problems);
    RUN(test_the_front_is_what_nothing_beats);
    return check_report();
}
