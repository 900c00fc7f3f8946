/* What the kernels of step.h share: eight bf16 in 16 bytes, and the functions whose bits the host
 * repeats.
 *
 * cop_exp2_fixed is the project's own exp2 operation for operation on every device (ptx.cuh's
 * cop_ex2 is the fast one, approximate on a device); cop_exp_negative is the sampler's exp.
 */
#pragma once

#include "kernels/launch.cuh"
#include "kernels/ptx.cuh"
#include "kernels/step.h"

COP_DEVICE void cop_unpack8(const uint4 &words, float (&v)[8]) {
    const uint32_t w[4] = {words.x, words.y, words.z, words.w};
    COP_UNROLL
    for (int i = 0; i < 4; i++) {
        v[2 * i] = cop_bf16_low(w[i]);
        v[2 * i + 1] = cop_bf16_high(w[i]);
    }
}

COP_DEVICE uint4 cop_pack8(const float (&v)[8]) {
    return make_uint4(cop_bf16_pack(v[0], v[1]), cop_bf16_pack(v[2], v[3]),
                      cop_bf16_pack(v[4], v[5]), cop_bf16_pack(v[6], v[7]));
}

COP_DEVICE float cop_bf16_rounded(float x) {
    return cop_bf16_value(cop_bf16_round(x));
}

/* No element of the eight is infinite or NaN. */
COP_DEVICE bool cop_finite8(const uint4 &words) {
    const uint32_t w[4] = {words.x, words.y, words.z, words.w};
    bool finite = true;
    COP_UNROLL
    for (int i = 0; i < 4; i++)
        finite = finite && (w[i] & 0x7f80u) != 0x7f80u && (w[i] & 0x7f800000u) != 0x7f800000u;
    return finite;
}

/* The sum of eight lanes that hold ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)), in all of them:
 * addition commutes, so the butterfly has one result. */
COP_DEVICE float cop_sum8(float lane COP_SITE) {
    lane = cop_add_rn(lane, cop_shfl_xor(lane, 1u COP_HERE));
    lane = cop_add_rn(lane, cop_shfl_xor(lane, 2u COP_HERE));
    return cop_add_rn(lane, cop_shfl_xor(lane, 4u COP_HERE));
}

COP_DEVICE float cop_rms_factor(float sum_of_squares, uint32_t n, float eps) {
    const float mean = cop_div_rn(sum_of_squares, static_cast<float>(n));
    return cop_div_rn(1.0f, cop_sqrt_rn(cop_add_rn(mean, eps)));
}

COP_DEVICE float cop_exp2_fixed(float x) {
    const float magic = 0x1.8p23f;
    const float clamped = x > 128.0f ? 128.0f : x;
    const float shifted = cop_add_rn(clamped, magic);
    const float r = cop_sub_rn(clamped, cop_sub_rn(shifted, magic));
    float y = 0x1.41fbbap-13f;
    y = cop_fma_rn(y, r, 0x1.5f3e52p-10f);
    y = cop_fma_rn(y, r, 0x1.3b2d4cp-7f);
    y = cop_fma_rn(y, r, 0x1.c6aee8p-5f);
    y = cop_fma_rn(y, r, 0x1.ebfbdcp-3f);
    y = cop_fma_rn(y, r, 0x1.62e430p-1f);
    y = cop_fma_rn(y, r, 1.0f);
    const float scaled =
        cop_bit_cast<float>(cop_bit_cast<uint32_t>(y) + (cop_bit_cast<uint32_t>(shifted) << 23));
    return x != x ? x : x < -126.0f ? 0.0f : scaled;
}

/* exp(x) for x <= 0, and 0 below -87: Cody and Waite's reduction and the Cephes polynomial, each
 * product and sum rounded on its own. */
COP_DEVICE float cop_exp_negative(float x) {
    const float magic = 0x1.8p23f;
    const float shifted = cop_add_rn(cop_mul_rn(x, 1.44269504f), magic);
    const float n = cop_sub_rn(shifted, magic);
    const float r =
        cop_add_rn(cop_sub_rn(x, cop_mul_rn(n, 0.693359375f)), cop_mul_rn(n, 2.12194440e-4f));
    float y = 1.9875691500e-4f;
    y = cop_add_rn(cop_mul_rn(y, r), 1.3981999507e-3f);
    y = cop_add_rn(cop_mul_rn(y, r), 8.3334519073e-3f);
    y = cop_add_rn(cop_mul_rn(y, r), 4.1665795894e-2f);
    y = cop_add_rn(cop_mul_rn(y, r), 1.6666665459e-1f);
    y = cop_add_rn(cop_mul_rn(y, r), 5.0000001201e-1f);
    y = cop_add_rn(cop_add_rn(cop_mul_rn(y, cop_mul_rn(r, r)), r), 1.0f);
    const uint32_t scaled = cop_bit_cast<uint32_t>(y) + (cop_bit_cast<uint32_t>(shifted) << 23);
    return cop_bit_cast<uint32_t>(x) > 0xc2ae0000u ? 0.0f : cop_bit_cast<float>(scaled);
}
