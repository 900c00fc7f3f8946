#include <math.h>
#include <stdint.h>

#include "base/rng.h"
#include "check.h"
#include "model/gguf.h"

static const cop_dtype types[] = {COP_F32, COP_F16, COP_BF16, COP_Q8_0, COP_Q4_0, COP_Q4_1};
enum { TYPES = sizeof types / sizeof types[0], N = COP_BLOCK_VALUES };

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* IEEE 754's definition of binary16, in double precision. */
static double half_value(uint16_t half) {
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double sign = half & 0x8000 ? -1 : 1;
    if (exponent == 31)
        return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24));
}

static void test_names_and_blocks(void) {
    static const char *const names[] = {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"};
    static const uint32_t values[] = {1, 1, 1, 32, 32, 32}, bytes[] = {4, 2, 2, 34, 18, 20};
    static const uint32_t numbers[] = {0, 1, 30, 8, 2, 3};
    uint32_t known = 0;
    for (int i = 0; i < TYPES; i++) {
        CHECK_EQ(types[i], numbers[i]);
        CHECK_TEXT(cop_dtype_name(types[i]), names[i]);
        CHECK_EQ(cop_dtype_block_values(types[i]), values[i]);
        CHECK_EQ(cop_dtype_block_bytes(types[i]), bytes[i]);
    }
    for (uint32_t i = 0; i < 1000; i++)
        known += cop_dtype_known(i);
    CHECK_EQ(known, TYPES);
    CHECK(!cop_dtype_known(UINT32_MAX));
}

static void test_every_half_widens_exactly(void) {
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t half = (uint16_t)i, brain = (uint16_t)i;
        float value;
        cop_dtype_widen(COP_F16, &half, 1, &value);
        double want = half_value(half);
        CHECK(isnan(want) ? isnan(value) : (double)value == want);
        CHECK_EQ(signbit(value) != 0, i >> 15);
        cop_dtype_widen(COP_BF16, &brain, 1, &value);
        CHECK_EQ(bits_of(value), i << 16);
        /* And comes back as it was. */
        cop_dtype_widen(COP_F16, &half, 1, &value);
        if (isnan(want))
            continue;
        uint16_t again;
        cop_dtype_narrow(COP_F16, &value, 1, &again);
        CHECK_EQ(again, half);
    }
}

/* Between each two neighbouring halves: just below the middle, the middle (to even), just above. */
static void test_halves_round_to_nearest_even(void) {
    for (uint32_t i = 0; i < 0x7c00; i++) {
        double low = half_value((uint16_t)i);
        double high = i == 0x7bff ? 65536 : half_value((uint16_t)(i + 1));
        float middle = (float)((low + high) / 2); /* exact: 12 bits */
        float values[6] = {nextafterf(middle, 0), middle, nextafterf(middle, INFINITY)};
        uint16_t got[6];
        for (int k = 0; k < 3; k++)
            values[3 + k] = -values[k];
        cop_dtype_narrow(COP_F16, values, 6, got);
        CHECK_EQ(got[0], i);
        CHECK_EQ(got[1], i + (i & 1));
        CHECK_EQ(got[2], i + 1);
        for (int k = 0; k < 3; k++)
            CHECK_EQ(got[3 + k], got[k] | 0x8000);
    }
    float big[2] = {1e30f, -INFINITY};
    uint16_t got[2];
    cop_dtype_narrow(COP_F16, big, 2, got);
    CHECK_EQ(got[0], 0x7c00);
    CHECK_EQ(got[1], 0xfc00);
}

static void test_bf16_rounds_to_nearest_even(void) {
    static const uint32_t in[] = {0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001, 0x7f7fffff};
    static const uint16_t out[] = {0x3f80, 0x3f82, 0x3f80, 0x3f81, 0x7f80};
    for (int i = 0; i < 5; i++) {
        float value;
        uint16_t got;
        memcpy(&value, &in[i], sizeof value);
        cop_dtype_narrow(COP_BF16, &value, 1, &got);
        CHECK_EQ(got, out[i]);
    }
}

static void test_infinities_and_nans_narrow_to_themselves(void) {
    static const cop_dtype halves[] = {COP_F16, COP_BF16};
    const float in[3] = {INFINITY, -INFINITY, NAN};
    for (int i = 0; i < 2; i++) {
        uint16_t stored[3];
        float out[3];
        cop_dtype_narrow(halves[i], in, 3, stored);
        cop_dtype_widen(halves[i], stored, 3, out);
        CHECK(out[0] == INFINITY && out[1] == -INFINITY && isnan(out[2]));
    }
}

static void test_f32_is_copied(void) {
    float in[3] = {1.5f, -0.0f, INFINITY}, out[3];
    cop_dtype_widen(COP_F32, in, 3, out);
    CHECK(memcmp(in, out, sizeof in) == 0);
    cop_dtype_narrow(COP_F32, in, 3, out);
    CHECK(memcmp(in, out, sizeof in) == 0);
}

/* Two blocks each with every position different, so that a swapped nibble or half would show. */
static void test_blocks_widen_as_defined(void) {
    uint8_t q8[2 * 34], q4[2 * 18], q41[2 * 20];
    float out[2 * N];
    for (int b = 0; b < 2; b++) {
        uint16_t d = b ? 0x2e66 : 0xb400, m = b ? 0x3555 : 0xc100; /* 0.1.. , -0.25; 0.33.., -2.5 */
        memcpy(q8 + b * 34, &d, 2);
        memcpy(q4 + b * 18, &d, 2);
        memcpy(q41 + b * 20, &d, 2);
        memcpy(q41 + b * 20 + 2, &m, 2);
        for (int i = 0; i < N; i++)
            q8[b * 34 + 2 + i] = (uint8_t)(i * 8 - 128 + b);
        for (int i = 0; i < N / 2; i++)
            q4[b * 18 + 2 + i] = q41[b * 20 + 4 + i] = (uint8_t)(i | ((15 - i) ^ b) << 4);
    }
    for (int b = 0; b < 2; b++) {
        float d = (float)half_value(b ? 0x2e66 : 0xb400);
        float m = (float)half_value(b ? 0x3555 : 0xc100);
        cop_dtype_widen(COP_Q8_0, q8, 2 * N, out);
        for (int i = 0; i < N; i++)
            CHECK(out[b * N + i] == d * (float)(i * 8 - 128 + b));
        cop_dtype_widen(COP_Q4_0, q4, 2 * N, out);
        for (int i = 0; i < N / 2; i++) {
            CHECK(out[b * N + i] == d * (float)(i - 8));
            CHECK(out[b * N + N / 2 + i] == d * (float)(((15 - i) ^ b) - 8));
        }
        cop_dtype_widen(COP_Q4_1, q41, 2 * N, out);
        for (int i = 0; i < N / 2; i++) {
            CHECK(out[b * N + i] == d * (float)i + m);
            CHECK(out[b * N + N / 2 + i] == d * (float)((15 - i) ^ b) + m);
        }
    }
}

/* Half a step of the block's scale, and the rounding of the scale itself over the largest quant. */
static void test_quantisers_are_close(void) {
    static const double steps[] = {127, 8, 15};
    for (uint32_t round = 0; round < 300; round++) {
        float x[N], low = INFINITY, high = -INFINITY, back[N];
        for (uint32_t i = 0; i < N; i++) {
            cop_rng_key key = {7, round, i};
            x[i] = (float)ldexp(2 * cop_rng_uniform(key, 0) - 1, (int)(round % 10) - 5);
            low = fminf(low, x[i]);
            high = fmaxf(high, x[i]);
        }
        double largest = fmax(fabs((double)low), fabs((double)high));
        for (int t = 3; t < TYPES; t++) {
            uint8_t block[34];
            double range = types[t] == COP_Q4_1 ? (double)(high - low) : largest;
            double step = range / steps[t - 3];
            /* -8 .. 7 does not reach the other end by one step. */
            double reach = types[t] == COP_Q4_0 ? 1.0 : 0.5;
            cop_dtype_narrow(types[t], x, N, block);
            cop_dtype_widen(types[t], block, N, back);
            for (int i = 0; i < N; i++)
                CHECK(fabs((double)back[i] - (double)x[i]) <=
                      reach * step * 1.001 + 2 * ldexp(largest, -11));
        }
    }
}

static void test_a_block_of_equal_values(void) {
    float zeros[N] = {0}, tiny[N], back[N];
    uint8_t block[34];
    for (int i = 0; i < N; i++)
        tiny[i] = 1e-42f;
    for (int t = 3; t < TYPES; t++) {
        cop_dtype_narrow(types[t], zeros, N, block);
        cop_dtype_widen(types[t], block, N, back);
        for (int i = 0; i < N; i++)
            CHECK(back[i] == 0);
        cop_dtype_narrow(types[t], tiny, N, block);
        cop_dtype_widen(types[t], block, N, back);
        for (int i = 0; i < N; i++)
            CHECK(back[i] == 0);
    }
}

static void test_nonfinite_values_are_counted(void) {
    float f32[4] = {1, NAN, -INFINITY, 3e38f};
    CHECK_EQ(cop_dtype_count_nonfinite(COP_F32, f32, 4), 2);
    uint16_t f16[4] = {0x7bff, 0x7c00, 0xfe01, 0x0001};
    CHECK_EQ(cop_dtype_count_nonfinite(COP_F16, f16, 4), 2);
    uint16_t bf16[4] = {0x7f7f, 0x7f80, 0xffc0, 0x7bff};
    CHECK_EQ(cop_dtype_count_nonfinite(COP_BF16, bf16, 4), 2);
    /* Three blocks; the scale of the second is infinite, in Q4_1 the minimum of the third a NaN.
     * What is counted is what widening gives. */
    for (int t = 3; t < TYPES; t++) {
        float x[3 * N], wide[3 * N];
        uint8_t blocks[3 * 34];
        uint32_t bytes = cop_dtype_block_bytes(types[t]);
        for (int i = 0; i < 3 * N; i++)
            x[i] = (float)(i % N - 9);
        cop_dtype_narrow(types[t], x, 3 * N, blocks);
        CHECK_EQ(cop_dtype_count_nonfinite(types[t], blocks, 3 * N), 0);
        blocks[bytes] = 0, blocks[bytes + 1] = 0x7c;
        if (types[t] == COP_Q4_1)
            blocks[2 * bytes + 3] = 0x7e;
        uint64_t want = 0;
        cop_dtype_widen(types[t], blocks, 3 * N, wide);
        for (int i = 0; i < 3 * N; i++)
            want += !isfinite(wide[i]);
        CHECK_EQ(want, types[t] == COP_Q4_1 ? 2 * N : N);
        CHECK_EQ(cop_dtype_count_nonfinite(types[t], blocks, 3 * N), want);
    }
}

int main(void) {
    RUN(test_names_and_blocks);
    RUN(test_every_half_widens_exactly);
    RUN(test_halves_round_to_nearest_even);
    RUN(test_bf16_rounds_to_nearest_even);
    RUN(test_infinities_and_nans_narrow_to_themselves);
    RUN(test_f32_is_copied);
    RUN(test_blocks_widen_as_defined);
    RUN(test_quantisers_are_close);
    RUN(test_a_block_of_equal_values);
    RUN(test_nonfinite_values_are_counted);
    return check_report();
}
