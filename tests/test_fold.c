/* fold_reference.c: exactly representable inputs first, then its edges, then random inputs against
 * double precision with a stated tolerance. */
#include <math.h>

#include "base/rng.h"
#include "check.h"
#include "kernels/tables.h"
#include "kv/fold_reference.h"
#include "ref/attention_double.h"

enum { MAX_TOKENS = 700, MAX_D = 128 };

static uint64_t draws;

static float uniform(void) {
    const cop_rng_key key = {.seed = 11, .stream = 1, .position = draws++};
    return (float)cop_rng_uniform(key, 0) * 2.0f - 1.0f;
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float scale_of(uint32_t d) {
    return (float)(0x1.71547652b82fep+0 / sqrt(d));
}

/* One row's keys and values, and its attention. */
typedef struct row {
    uint32_t d, tokens;
    bool bf16;
    float c;
    float q[MAX_D], k[MAX_TOKENS][MAX_D], v[MAX_TOKENS][MAX_D];
    float out[MAX_D], lse;
} row;

/* Folds the row's tokens in leaves of 64, cut into chunks of `chunk` leaves, and merges. */
static void attend(row *r, uint32_t chunk) {
    static float o[MAX_TOKENS][MAX_D], m[MAX_TOKENS], l[MAX_TOKENS];
    uint32_t n = 0;
    cop_fold fold;
    for (uint32_t t = 0, leaf = 0; t < r->tokens; t += COP_LEAF_TOKENS, leaf++) {
        if (leaf % chunk == 0)
            cop_fold_reset(&fold, o[n++], r->d, r->c, r->bf16);
        const uint32_t left = r->tokens - t;
        cop_fold_leaf(&fold, r->q, r->k[t], r->v[t], left < 64 ? left : 64, MAX_D, MAX_D);
        m[n - 1] = fold.m;
        l[n - 1] = cop_fold_sum(&fold);
    }
    r->lse = cop_fold_merge(o[0], MAX_D, m, l, n, r->d, r->c, r->out);
}

static void randomise(row *r, uint32_t d, uint32_t tokens, bool bf16, float amplitude) {
    *r = (row){.d = d, .tokens = tokens, .bf16 = bf16, .c = scale_of(d)};
    for (uint32_t i = 0; i < d; i++)
        r->q[i] = uniform() * amplitude;
    for (uint32_t j = 0; j < tokens; j++) {
        for (uint32_t i = 0; i < d; i++) {
            r->k[j][i] = uniform() * 2;
            r->v[j][i] = uniform();
        }
    }
    for (uint32_t i = 0; bf16 && i < d; i++) {
        r->q[i] = cop_f32_from_bf16(cop_bf16_from_f32(r->q[i]));
        for (uint32_t j = 0; j < tokens; j++) {
            r->k[j][i] = cop_f32_from_bf16(cop_bf16_from_f32(r->k[j][i]));
            r->v[j][i] = cop_f32_from_bf16(cop_bf16_from_f32(r->v[j][i]));
        }
    }
}

/* The oracle: the largest error of `out`, and of the plain bf16 implementation if asked for. */
static double error_of(const row *r, double *lse, double *plain_error) {
    static const float *k[MAX_TOKENS], *v[MAX_TOKENS];
    for (uint32_t j = 0; j < r->tokens; j++) {
        k[j] = r->k[j];
        v[j] = r->v[j];
    }
    const ref_view view = {k, v, r->tokens, r->d, 1.0 / sqrt(r->d)};
    double exact[MAX_D], error = 0;
    float plain[MAX_D];
    *lse = ref_attention_double(&view, r->q, exact);
    if (plain_error)
        ref_attention_plain_bf16(&view, r->q, plain);
    for (uint32_t i = 0; i < r->d; i++) {
        const double e = fabs(r->out[i] - exact[i]);
        CHECK(e == e);
        error = fmax(error, e);
        if (plain_error)
            *plain_error = fmax(*plain_error, fabs(plain[i] - exact[i]));
    }
    return error;
}

static void test_exp2_is_within_2_ulp(void) {
    double worst = 0;
    for (uint64_t b = 0; b < 1ull << 32; b += 997) {
        const float x = float_of((uint32_t)b);
        if (!(x >= -126.0f && x < 128.0f))
            continue;
        const double exact = exp2(x), ulp = ldexp(1, ilogb(exact) - 23);
        worst = fmax(worst, fabs(cop_exp2(x) - exact) / ulp);
    }
    printf("  %.3f ulp\n", worst);
    CHECK(worst < 2);
    for (int n = -126; n < 128; n++)
        CHECK(cop_exp2((float)n) == ldexpf(1, n));
}

static void test_exp2_ends(void) {
    CHECK(cop_exp2(-INFINITY) == 0 && !signbit(cop_exp2(-INFINITY)));
    CHECK(cop_exp2(-150) == 0 && cop_exp2(-3e38f) == 0);
    CHECK(cop_exp2(nextafterf(-126, -127)) == 0);
    CHECK(cop_exp2(128) == INFINITY && cop_exp2(3e38f) == INFINITY &&
          cop_exp2(INFINITY) == INFINITY);
    CHECK(isfinite(cop_exp2(nextafterf(128, 0))));
    CHECK(isnan(cop_exp2(NAN)));
    CHECK(cop_exp2(-0.0f) == 1);
}

static void test_bf16_rounds_to_nearest_even(void) {
    for (uint32_t b = 0; b < 65536; b++) {
        const float x = cop_f32_from_bf16((uint16_t)b);
        CHECK(isnan(x) ? isnan(cop_f32_from_bf16(cop_bf16_from_f32(x)))
                       : cop_bf16_from_f32(x) == b);
        if (!isfinite(x))
            continue;
        const uint32_t wide = b << 16;
        CHECK_EQ(cop_bf16_from_f32(float_of(wide | 0x7fff)), b);
        CHECK_EQ(cop_bf16_from_f32(float_of(wide | 0x8000)), b + (b & 1));
        CHECK_EQ(cop_bf16_from_f32(float_of(wide | 0x8001)), b + 1);
    }
    CHECK(isnan(cop_f32_from_bf16(cop_bf16_from_f32(float_of(0x7f800001)))));
    CHECK(isnan(cop_f32_from_bf16(cop_bf16_from_f32(float_of(0xffffffff)))));
}

/* Equal scores and a power of two of keys: every operation is exact, in any arithmetic. */
static void test_equal_scores_give_the_mean(void) {
    static row r;
    for (uint32_t tokens = 1; tokens <= 512; tokens *= 2) {
        r = (row){.d = 16, .tokens = tokens, .bf16 = tokens & 85, .c = scale_of(16)};
        for (uint32_t j = 0; j < tokens; j++) {
            for (uint32_t i = 0; i < 16; i++)
                r.v[j][i] = (float)((j + i) % 4);
        }
        r.q[3] = 1;
        for (uint32_t chunk = 1; chunk <= 8; chunk *= 2) {
            attend(&r, chunk);
            CHECK(r.lse == log2f((float)tokens));
            for (uint32_t i = 0; i < 16; i++) {
                float sum = 0;
                for (uint32_t j = 0; j < tokens; j++)
                    sum += r.v[j][i];
                CHECK(r.out[i] == sum / (float)tokens);
            }
        }
    }
}

static void test_one_key_gives_its_value(void) {
    static row r;
    randomise(&r, 64, 1, false, 3);
    attend(&r, 1);
    CHECK(memcmp(r.out, r.v[0], 64 * sizeof(float)) == 0);
    float s = 0;
    for (uint32_t i = 0; i < 64; i++)
        s = fmaf(r.q[i], r.k[0][i], s);
    CHECK(r.lse == s * r.c);
}

static void test_no_key_gives_zero(void) {
    float o[2][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}}, out[4];
    const float m[2] = {-INFINITY, -INFINITY}, l[2] = {0, 0};
    for (uint32_t n = 0; n <= 2; n++) {
        memset(out, 0xff, sizeof out);
        CHECK(cop_fold_merge(o[0], 4, m, l, n, 4, 1, out) == -INFINITY);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(bits_of(out[i]), 0);
    }
}

static void test_an_empty_partial_changes_no_bit(void) {
    static row r;
    randomise(&r, 32, 40, false, 2);
    attend(&r, 1);
    float o[3][32], m[3] = {-INFINITY, 0, -INFINITY}, l[3] = {0}, out[32];
    memset(o, 0, sizeof o);
    cop_fold fold;
    cop_fold_reset(&fold, o[1], 32, r.c, false);
    cop_fold_leaf(&fold, r.q, r.k[0], r.v[0], 40, MAX_D, MAX_D);
    m[1] = fold.m;
    l[1] = cop_fold_sum(&fold);
    CHECK(cop_fold_merge(o[0], 32, m, l, 3, 32, r.c, out) == r.lse);
    CHECK(memcmp(out, r.out, sizeof out) == 0);
}

/* Scores of -inf: a leaf of them is a no-op, a row of them has no key. */
static void test_all_minus_infinity(void) {
    static row r, alone;
    randomise(&alone, 16, 64, false, 1);
    alone.q[0] = 1;
    randomise(&r, 16, 128, false, 1);
    memcpy(r.q, alone.q, sizeof r.q);
    for (uint32_t j = 0; j < 64; j++) {
        r.k[j][0] = -INFINITY;
        memcpy(r.k[64 + j], alone.k[j], sizeof r.k[0]);
        memcpy(r.v[64 + j], alone.v[j], sizeof r.v[0]);
    }
    attend(&alone, 1);
    for (uint32_t chunk = 1; chunk <= 2; chunk++) {
        attend(&r, chunk);
        CHECK(r.lse == alone.lse);
        CHECK(memcmp(r.out, alone.out, 16 * sizeof(float)) == 0);
    }
    r.tokens = 50;
    attend(&r, 1);
    CHECK(r.lse == -INFINITY);
    for (uint32_t i = 0; i < 16; i++)
        CHECK_EQ(bits_of(r.out[i]), 0);
}

static void test_an_unseen_leaf_changes_nothing(void) {
    static row r;
    randomise(&r, 16, 64, false, 1);
    float o[16], before[16];
    cop_fold fold;
    cop_fold_reset(&fold, o, 16, r.c, false);
    cop_fold_leaf(&fold, r.q, r.k[0], r.v[0], 64, MAX_D, MAX_D);
    const cop_fold kept = fold;
    memcpy(before, o, sizeof o);
    cop_fold_leaf(&fold, r.q, NULL, NULL, 0, MAX_D, MAX_D);
    CHECK(memcmp(before, o, sizeof o) == 0);
    CHECK(fold.m == kept.m && memcmp(fold.l, kept.l, sizeof fold.l) == 0);
}

/* A rescale by 0 leaves -0, and values of -0 add nothing else: no output may show it. */
static void test_no_negative_zero(void) {
    static row r;
    r = (row){.d = 16, .tokens = 65, .c = scale_of(16)};
    r.q[0] = 1;
    for (uint32_t j = 0; j < 65; j++) {
        r.k[j][0] = j == 64 ? 4000.0f : 0.0f;
        for (uint32_t i = 0; i < 16; i++)
            r.v[j][i] = j == 64 ? -0.0f : -1.0f;
    }
    for (uint32_t chunk = 1; chunk <= 2; chunk++) {
        attend(&r, chunk);
        for (uint32_t i = 0; i < 16; i++)
            CHECK_EQ(bits_of(r.out[i]), 0);
    }
    r = (row){.d = 16, .tokens = 3, .c = scale_of(16)};
    r.v[1][5] = -0x1p-149f; /* a third of it rounds to -0 */
    attend(&r, 1);
    CHECK_EQ(bits_of(r.out[5]), 0);
}

static void test_a_huge_score_takes_all(void) {
    static row r;
    randomise(&r, 16, 300, false, 0);
    r.q[0] = 1e18f;
    for (uint32_t j = 0; j < 300; j++)
        r.k[j][0] = j == 123 ? 1e-10f : -1e-10f * (float)(j % 7);
    for (uint32_t chunk = 1; chunk <= 5; chunk += 2) {
        attend(&r, chunk);
        for (uint32_t i = 0; i < 16; i++)
            CHECK(fabsf(r.out[i] - r.v[123][i]) <= 0x1p-22f);
        CHECK(fabsf(r.lse - 1e8f * r.c) <= 16.0f);
    }
}

/* The lanes and their order are bits that the kernels repeat: spelled out once more. */
static void test_sums_follow_the_lanes(void) {
    float q[16] = {1}, k[64][16] = {{0}}, v[64][16] = {{0}}, o[16];
    const uint32_t tokens = 57;
    for (uint32_t j = 0; j < tokens; j++)
        k[j][0] = uniform() * 3;
    cop_fold fold;
    cop_fold_reset(&fold, o, 16, 1, false);
    cop_fold_leaf(&fold, q, k[0], v[0], tokens, 16, 16);
    float m = -INFINITY, p[64] = {0};
    for (uint32_t j = 0; j < tokens; j++)
        m = fmaxf(m, k[j][0]);
    for (uint32_t j = 0; j < tokens; j++)
        p[j] = cop_exp2(k[j][0] - m);
    for (uint32_t t = 0; t < 4; t++) {
        float sum = 0;
        for (uint32_t b = 0; b < 64; b += 16) {
            const float low = p[b + 2 * t] + p[b + 2 * t + 1];
            const float high = p[b + 2 * t + 8] + p[b + 2 * t + 9];
            sum = b ? sum + (low + high) : low + high;
        }
        CHECK_EQ(bits_of(fold.l[t]), bits_of(sum));
    }
    CHECK(cop_fold_sum(&fold) == (fold.l[0] + fold.l[1]) + (fold.l[2] + fold.l[3]));
}

static void test_f32_against_double(void) {
    static row r;
    static const uint32_t lengths[] = {2, 17, 63, 64, 65, 130, 448, 700};
    double worst = 0;
    for (uint32_t n = 0; n < 8; n++) {
        for (uint32_t chunk = 1; chunk <= 16; chunk *= 4) {
            double lse;
            randomise(&r, 16u << n % 4, lengths[n], false, n & 1 ? 8.0f : 1.0f);
            attend(&r, chunk);
            worst = fmax(worst, error_of(&r, &lse, NULL));
            CHECK(fabs(r.lse - lse) <= 1e-5 * (1 + fabs(lse)));
        }
    }
    printf("  largest error %.2e of values below 1\n", worst);
    CHECK(worst <= 5e-6);
}

static void test_bf16_against_a_plain_implementation(void) {
    static row r;
    double worst = 0;
    for (uint32_t n = 0; n < 24; n++) {
        randomise(&r, 16u << n % 4, 1 + (n * 97) % MAX_TOKENS, true, n % 3 ? 1.0f : 4.0f);
        attend(&r, 1 + n % 5);
        for (uint32_t i = 0; i < r.d; i++)
            r.out[i] = cop_f32_from_bf16(cop_bf16_from_f32(r.out[i]));
        double lse, plain = 0, largest = 0;
        const double error = error_of(&r, &lse, &plain);
        for (uint32_t i = 0; i < r.d; i++)
            largest = fmax(largest, fabs(r.out[i]));
        const double rounding = largest * 0x1p-8;
        CHECK(error <= 2 * plain + 2 * rounding);
        worst = fmax(worst, error / (plain + rounding));
    }
    printf("  at most %.2f x (a plain bf16 implementation's error + a rounding)\n", worst);
}

int main(void) {
    RUN(test_exp2_is_within_2_ulp);
    RUN(test_exp2_ends);
    RUN(test_bf16_rounds_to_nearest_even);
    RUN(test_equal_scores_give_the_mean);
    RUN(test_one_key_gives_its_value);
    RUN(test_no_key_gives_zero);
    RUN(test_an_empty_partial_changes_no_bit);
    RUN(test_all_minus_infinity);
    RUN(test_an_unseen_leaf_changes_nothing);
    RUN(test_no_negative_zero);
    RUN(test_a_huge_score_takes_all);
    RUN(test_sums_follow_the_lanes);
    RUN(test_f32_against_double);
    RUN(test_bf16_against_a_plain_implementation);
    return check_report();
}
