/* The instructions that C++ has no word for, each with its host twin beside it. The only file with
 * inline assembly; needs sm_80 or newer.
 *
 * Copies     cp.async moves 16 bytes from global to shared memory behind the thread's back. Groups
 *            belong to a thread: cop_cp_async_commit closes one, cop_cp_async_wait<N> waits until
 *            at most the N newest are under way. The data is then there for the thread itself; for
 *            others after a barrier.
 * Fragments  Lane l = 4 g + t (g = l / 4, t = l % 4); a pair is two bf16 in a register, low first.
 *            A 16 x 16  a0 (g, 2t..)  a1 (g + 8, 2t..)  a2 (g, 2t + 8..)  a3 (g + 8, 2t + 8..)
 *            B 16 x 8   b0 (rows 2t, 2t + 1; column g)  b1 (rows 2t + 8, 2t + 9; column g)
 *            C 16 x 8   c0, c1 (g, 2t..)  c2, c3 (g + 8, 2t..)
 *            ldmatrix takes the row addresses of matrix i from lanes 8 i .. 8 i + 7; register i
 *            of lane l holds (row g; columns 2t, 2t + 1) of it, transposed (rows 2t, 2t + 1;
 *            column g).
 * Bits       The twin of mma adds k = 0 .. 15 in order, each by one fused multiply-add: the order
 *            of the reference fold. A tensor core rounds in its own way.
 */
#pragma once

#include "kernels/device.cuh"

#ifndef COP_EMULATE
COP_DEVICE uint32_t cop__shared_address(const void *p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

/* Named barriers: ids 1 .. 15 (0 is cop_sync_block), immediates; threads a multiple of 32. */

template <int Id> COP_DEVICE void cop_sync_named(uint32_t threads COP_SITE) {
    static_assert(Id >= 1 && Id < 16, "a named barrier is one of 1 .. 15");
#ifdef COP_EMULATE
    emu_sync_named(Id, threads COP_HERE);
#else
    asm volatile("bar.sync %0, %1;" ::"n"(Id), "r"(threads) : "memory");
#endif
}

/* Counts this warp without waiting: a producer that hands over. */
template <int Id> COP_DEVICE void cop_arrive_named(uint32_t threads COP_SITE) {
    static_assert(Id >= 1 && Id < 16, "a named barrier is one of 1 .. 15");
#ifdef COP_EMULATE
    emu_arrive_named(Id, threads COP_HERE);
#else
    asm volatile("bar.arrive %0, %1;" ::"n"(Id), "r"(threads) : "memory");
#endif
}

/* Asynchronous copies. */

/* 16 bytes, of which the first `bytes` are read and the rest become zero. Both addresses are
 * multiples of 16; with bytes = 0 nothing is read. Past L1. */
COP_DEVICE void cop_cp_async16(void *shared, const void *global, uint32_t bytes COP_SITE) {
#ifdef COP_EMULATE
    emu_copy_async(shared, global, bytes COP_HERE);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(cop__shared_address(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(bytes)
                 : "memory");
#endif
}

COP_DEVICE void cop_cp_async_commit(COP_SITE_ONLY) {
#ifdef COP_EMULATE
    emu_copy_commit(COP_HERE_ONLY);
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int Newest> COP_DEVICE void cop_cp_async_wait(COP_SITE_ONLY) {
#ifdef COP_EMULATE
    emu_copy_wait(Newest COP_HERE);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(Newest) : "memory");
#endif
}

/* Also for copies that were never committed. */
COP_DEVICE void cop_cp_async_wait_all(COP_SITE_ONLY) {
#ifdef COP_EMULATE
    emu_copy_wait_all(COP_HERE_ONLY);
#else
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

/* 8 x 8 matrices of 16-bit elements from shared memory. */

COP_DEVICE void cop_ldmatrix_x1(uint32_t (&r)[1], const void *row COP_SITE) {
#ifdef COP_EMULATE
    emu_ldmatrix(r, 1, false, row COP_HERE);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(cop__shared_address(row)));
#endif
}

COP_DEVICE void cop_ldmatrix_x2(uint32_t (&r)[2], const void *row COP_SITE) {
#ifdef COP_EMULATE
    emu_ldmatrix(r, 2, false, row COP_HERE);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(cop__shared_address(row)));
#endif
}

COP_DEVICE void cop_ldmatrix_x4(uint32_t (&r)[4], const void *row COP_SITE) {
#ifdef COP_EMULATE
    emu_ldmatrix(r, 4, false, row COP_HERE);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(cop__shared_address(row)));
#endif
}

COP_DEVICE void cop_ldmatrix_x1_trans(uint32_t (&r)[1], const void *row COP_SITE) {
#ifdef COP_EMULATE
    emu_ldmatrix(r, 1, true, row COP_HERE);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(cop__shared_address(row)));
#endif
}

COP_DEVICE void cop_ldmatrix_x2_trans(uint32_t (&r)[2], const void *row COP_SITE) {
#ifdef COP_EMULATE
    emu_ldmatrix(r, 2, true, row COP_HERE);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(cop__shared_address(row)));
#endif
}

COP_DEVICE void cop_ldmatrix_x4_trans(uint32_t (&r)[4], const void *row COP_SITE) {
#ifdef COP_EMULATE
    emu_ldmatrix(r, 4, true, row COP_HERE);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(cop__shared_address(row)));
#endif
}

/* c += a b: m16n8k16, bf16 with f32 accumulation. */

COP_DEVICE void cop_mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                             uint32_t b1 COP_SITE) {
#ifdef COP_EMULATE
    emu_mma_bf16(c, a, b0, b1 COP_HERE);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

/* bf16: to nearest even, NaN becomes 0x7fff. */

COP_DEVICE uint16_t cop_bf16_round(float x) {
#ifdef COP_EMULATE
    const uint32_t bits = cop_bit_cast<uint32_t>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
#else
    uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
#endif
}

COP_DEVICE uint32_t cop_bf16_pack(float low, float high) {
#ifdef COP_EMULATE
    return static_cast<uint32_t>(cop_bf16_round(low)) | static_cast<uint32_t>(cop_bf16_round(high))
                                                            << 16;
#else
    uint32_t bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
#endif
}

COP_DEVICE float cop_bf16_value(uint16_t bits) {
    return cop_bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}
COP_DEVICE float cop_bf16_low(uint32_t pair) {
    return cop_bit_cast<float>(pair << 16);
}
COP_DEVICE float cop_bf16_high(uint32_t pair) {
    return cop_bit_cast<float>(pair & 0xffff0000u);
}

/* Approximate functions: fast on a device, fixed on the host. */

/* 2^x; 2^-inf = 0, 2^0 = 1 exactly. The twin is the project's own exp2 (kv/fold_reference.h), bit
 * for bit: x = n + r with n the nearest integer, 2^r by a polynomial, n added to the exponent. */
COP_DEVICE float cop_ex2(float x) {
#ifdef COP_EMULATE
    const float magic = 0x1.8p23f;
    const float clamped = x > 128.0f ? 128.0f : x;
    const float shifted = clamped + magic;
    const float r = clamped - (shifted - magic);
    float y = 0x1.41fbbap-13f;
    y = __builtin_fmaf(y, r, 0x1.5f3e52p-10f);
    y = __builtin_fmaf(y, r, 0x1.3b2d4cp-7f);
    y = __builtin_fmaf(y, r, 0x1.c6aee8p-5f);
    y = __builtin_fmaf(y, r, 0x1.ebfbdcp-3f);
    y = __builtin_fmaf(y, r, 0x1.62e430p-1f);
    y = __builtin_fmaf(y, r, 1.0f);
    if (x < -126.0f)
        return 0.0f;
    return x != x ? x
                  : cop_bit_cast<float>(cop_bit_cast<uint32_t>(y) +
                                        (cop_bit_cast<uint32_t>(shifted) << 23));
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

COP_DEVICE float cop_log2(float x) {
#ifdef COP_EMULATE
    return __builtin_log2f(x);
#else
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}
