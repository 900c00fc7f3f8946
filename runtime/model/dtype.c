#include "model/gguf.h"

#include <math.h>
#include <string.h>

/* Blocks, as ggml-common.h lays them out: a half-precision scale d, for Q4_1 a half-precision
 * minimum m, then the quants. Four-bit value i is the low nibble of byte i, value i + 16 the high
 * one. Widened: Q8_0 d * q; Q4_0 d * (q - 8); Q4_1 d * q + m, each operation rounded to f32. */
static const struct {
    uint32_t type;
    const char *name;
    uint32_t block_values, block_bytes;
} table[] = {
    {COP_F32, "F32", 1, 4},
    {COP_F16, "F16", 1, 2},
    {COP_BF16, "BF16", 1, 2},
    {COP_Q8_0, "Q8_0", COP_BLOCK_VALUES, 2 + COP_BLOCK_VALUES},
    {COP_Q4_0, "Q4_0", COP_BLOCK_VALUES, 2 + COP_BLOCK_VALUES / 2},
    {COP_Q4_1, "Q4_1", COP_BLOCK_VALUES, 4 + COP_BLOCK_VALUES / 2},
};
enum { TYPES = sizeof table / sizeof table[0], HALF_BLOCK = COP_BLOCK_VALUES / 2 };

static int find(uint32_t type) {
    for (int i = 0; i < TYPES; i++)
        if (table[i].type == type)
            return i;
    return -1;
}

bool cop_dtype_known(uint32_t type) {
    return find(type) >= 0;
}

const char *cop_dtype_name(cop_dtype type) {
    int i = find((uint32_t)type);
    return i < 0 ? "unknown" : table[i].name;
}

uint32_t cop_dtype_block_values(cop_dtype type) {
    int i = find((uint32_t)type);
    return i < 0 ? 0 : table[i].block_values;
}

uint32_t cop_dtype_block_bytes(cop_dtype type) {
    int i = find((uint32_t)type);
    return i < 0 ? 0 : table[i].block_bytes;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static uint16_t load16(const uint8_t *from) {
    return (uint16_t)(from[0] | from[1] << 8);
}

static void store16(uint8_t *to, uint16_t value) {
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

static float widen_f16(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = half & 0x7fffu;
    if (rest >= 0x7c00u) /* infinity and NaN, the payload kept */
        return float_of(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    if (rest < 0x0400u) /* zero and subnormals: a multiple of 2^-24, exact in f32 */
        return float_of(sign | bits_of((float)rest * 0x1p-24f));
    return float_of(sign | ((rest << 13) + ((127u - 15u) << 23)));
}

/* To nearest, ties to even; what overflows is an infinity. */
static uint16_t narrow_f16(float value) {
    uint32_t bits = bits_of(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    uint32_t rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u)
        return sign | 0x7e00u;
    if (rest >= 0x477ff000u) /* 65520, half way between the largest finite value and 2^16 */
        return sign | 0x7c00u;
    if (rest < 0x38800000u) /* below 2^-14: adding 2^-1 makes the sum's last bit worth 2^-24 */
        return sign | (uint16_t)(bits_of(float_of(rest) + 0.5f) - 0x3f000000u);
    return sign | (uint16_t)((rest - ((127u - 15u) << 23) + 0xfffu + (rest >> 13 & 1u)) >> 13);
}

static uint16_t narrow_bf16(float value) {
    uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static void widen_q8_0(const uint8_t *block, float *out) {
    float d = widen_f16(load16(block));
    for (int i = 0; i < COP_BLOCK_VALUES; i++)
        out[i] = d * (float)(int8_t)block[2 + i];
}

static void widen_q4_0(const uint8_t *block, float *out) {
    float d = widen_f16(load16(block));
    for (int i = 0; i < HALF_BLOCK; i++) {
        out[i] = d * (float)((block[2 + i] & 15) - 8);
        out[i + HALF_BLOCK] = d * (float)((block[2 + i] >> 4) - 8);
    }
}

static void widen_q4_1(const uint8_t *block, float *out) {
    float d = widen_f16(load16(block)), m = widen_f16(load16(block + 2));
    for (int i = 0; i < HALF_BLOCK; i++) {
        out[i] = d * (float)(block[4 + i] & 15) + m;
        out[i + HALF_BLOCK] = d * (float)(block[4 + i] >> 4) + m;
    }
}

void cop_dtype_widen(cop_dtype type, const void *data, size_t count, float *out) {
    const uint8_t *from = data;
    size_t blocks = count / COP_BLOCK_VALUES;
    switch (type) {
    case COP_F32:
        if (count > 0)
            memcpy(out, data, count * sizeof *out);
        break;
    case COP_F16:
        for (size_t i = 0; i < count; i++)
            out[i] = widen_f16(load16(from + 2 * i));
        break;
    case COP_BF16:
        for (size_t i = 0; i < count; i++)
            out[i] = float_of((uint32_t)load16(from + 2 * i) << 16);
        break;
    case COP_Q8_0:
        for (size_t i = 0; i < blocks; i++)
            widen_q8_0(from + i * (2 + COP_BLOCK_VALUES), out + i * COP_BLOCK_VALUES);
        break;
    case COP_Q4_0:
        for (size_t i = 0; i < blocks; i++)
            widen_q4_0(from + i * (2 + HALF_BLOCK), out + i * COP_BLOCK_VALUES);
        break;
    case COP_Q4_1:
        for (size_t i = 0; i < blocks; i++)
            widen_q4_1(from + i * (4 + HALF_BLOCK), out + i * COP_BLOCK_VALUES);
        break;
    }
}

/* x / d rounded to nearest, half up, into 0 .. top. */
static uint8_t quant(float x, float inverse, float top) {
    float q = x * inverse + 0.5f;
    return (uint8_t)(q > 0 ? (q < top ? q : top) : 0);
}

static float inverse_of(float d) {
    return fabsf(d) >= 0x1p-126f ? 1 / d : 0; /* 0 for a block of equal values */
}

static void narrow_q8_0(const float *x, uint8_t *block) {
    float largest = 0;
    for (int i = 0; i < COP_BLOCK_VALUES; i++)
        largest = fmaxf(largest, fabsf(x[i]));
    float d = largest / 127, inverse = inverse_of(d);
    store16(block, narrow_f16(d));
    for (int i = 0; i < COP_BLOCK_VALUES; i++)
        block[2 + i] = (uint8_t)((int)quant(x[i] + largest, inverse, 254) - 127);
}

static void narrow_q4_0(const float *x, uint8_t *block) {
    float extreme = 0; /* the value of the largest magnitude maps to -8 */
    for (int i = 0; i < COP_BLOCK_VALUES; i++)
        extreme = fabsf(x[i]) > fabsf(extreme) ? x[i] : extreme;
    float d = extreme / -8, inverse = inverse_of(d);
    store16(block, narrow_f16(d));
    for (int i = 0; i < HALF_BLOCK; i++)
        block[2 + i] = (uint8_t)(quant(x[i] + 8 * d, inverse, 15) |
                                 quant(x[i + HALF_BLOCK] + 8 * d, inverse, 15) << 4);
}

static void narrow_q4_1(const float *x, uint8_t *block) {
    float low = x[0], high = x[0];
    for (int i = 1; i < COP_BLOCK_VALUES; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    float d = (high - low) / 15, inverse = inverse_of(d);
    store16(block, narrow_f16(d));
    store16(block + 2, narrow_f16(low));
    for (int i = 0; i < HALF_BLOCK; i++)
        block[4 + i] = (uint8_t)(quant(x[i] - low, inverse, 15) |
                                 quant(x[i + HALF_BLOCK] - low, inverse, 15) << 4);
}

void cop_dtype_narrow(cop_dtype type, const float *values, size_t count, void *out) {
    uint8_t *to = out;
    size_t blocks = count / COP_BLOCK_VALUES;
    switch (type) {
    case COP_F32:
        if (count > 0)
            memcpy(out, values, count * sizeof *values);
        break;
    case COP_F16:
        for (size_t i = 0; i < count; i++)
            store16(to + 2 * i, narrow_f16(values[i]));
        break;
    case COP_BF16:
        for (size_t i = 0; i < count; i++)
            store16(to + 2 * i, narrow_bf16(values[i]));
        break;
    case COP_Q8_0:
        for (size_t i = 0; i < blocks; i++)
            narrow_q8_0(values + i * COP_BLOCK_VALUES, to + i * (2 + COP_BLOCK_VALUES));
        break;
    case COP_Q4_0:
        for (size_t i = 0; i < blocks; i++)
            narrow_q4_0(values + i * COP_BLOCK_VALUES, to + i * (2 + HALF_BLOCK));
        break;
    case COP_Q4_1:
        for (size_t i = 0; i < blocks; i++)
            narrow_q4_1(values + i * COP_BLOCK_VALUES, to + i * (4 + HALF_BLOCK));
        break;
    }
}

static bool f16_is_finite(const uint8_t *from) {
    return (load16(from) & 0x7c00u) != 0x7c00u;
}

/* A block's quants are integers, so its values are finite exactly when d (and m) are: a half times
 * a quant never overflows f32, and an infinity times 0 is a NaN. */
uint64_t cop_dtype_count_nonfinite(cop_dtype type, const void *data, size_t count) {
    const uint8_t *from = data;
    uint32_t bytes = cop_dtype_block_bytes(type), values = cop_dtype_block_values(type);
    uint64_t found = 0;
    for (size_t i = 0; values > 0 && i < count / values; i++, from += bytes) {
        bool finite = true;
        if (type == COP_F32)
            finite = (load16(from + 2) & 0x7f80u) != 0x7f80u;
        else if (type == COP_BF16)
            finite = (load16(from) & 0x7f80u) != 0x7f80u;
        else
            finite = f16_is_finite(from) && (type != COP_Q4_1 || f16_is_finite(from + 2));
        found += finite ? 0 : values;
    }
    return found;
}
