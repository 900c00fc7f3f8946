/* The device language: everything that a kernel may say, with two meanings.
 *
 * A kernel source is compiled twice: by nvcc as CUDA, and by the host C++ compiler (-x c++
 * -DCOP_EMULATE) against tests/emulate, where every thread is a fiber whose accesses are checked
 * and counted. So a kernel never dereferences memory, and never names a CUDA builtin: it speaks
 * through the functions below. Local variables and arrays (registers) are plain C++.
 *
 * Rules      Blocks are one-dimensional, a multiple of 32 threads. All shared memory is dynamic.
 *            Warp collectives (shuffles, votes, cop_sync_warp, ldmatrix, mma) want all 32 lanes, at
 *            one place of the source.
 * Memory     A store is for its own block at once, for others after cop_fence_device and then an
 *            atomic (by the storing thread, or by one that met it at a barrier since). What another
 *            block wrote in this launch is read by cop_ld_cg or an atomic alone: cop_ld may show
 *            what stood there when the launch began. cop_ld_nc is for what nobody writes during the
 *            launch.
 * Types      T of 1, 2, 4, 8 or 16 bytes, aligned to its size (uint4, float4, own structs with
 *            alignas); bfloat16 travels as uint16_t, pairs as uint32_t with the first one low.
 * Bits       Arithmetic that other parts repeat bit for bit is written with the cop_*_rn functions:
 *            a plain a * b + c is contracted by ptxas and not by a host compiler.
 * Mutants    COP_MUTANT_DECLARE(name, "what it breaks") at file scope, COP_MUTANT(name) where the
 *            bug would stand: constant false on a device, chosen at run time in the emulation.
 *
 * Inline PTX (cp.async, ldmatrix, mma, ex2, bf16 packing): ptx.cuh. Launches: launch.cuh.
 */
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef COP_EMULATE
#include "emulate/twin.h"
#else
#include <cuda_runtime.h>
#endif

#ifdef COP_EMULATE
#define COP_KERNEL(threads, min_blocks) void
#define COP_DEVICE static inline /* a free function; static: two sources may use one name */
#define COP_METHOD inline        /* a member function */
#define COP_UNROLL
#define COP_MUTANT_DECLARE(name, text) static emu_mutant cop_mutant_##name(#name, text)
#define COP_MUTANT(name) (cop_mutant_##name.on)
/* Where a call stands in the source, for reports and for telling one collective from another. A
 * helper that should be reported at its caller takes COP_SITE too and passes COP_HERE on. */
#define COP_SITE , const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define COP_SITE_ONLY const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define COP_HERE , file, line
#define COP_HERE_ONLY file, line
#else
#define COP_KERNEL(threads, min_blocks) __global__ void __launch_bounds__(threads, min_blocks)
#define COP_DEVICE static __device__ __forceinline__
#define COP_METHOD __device__ __forceinline__
#define COP_UNROLL _Pragma("unroll")
#define COP_MUTANT_DECLARE(name, text) static_assert(true, "")
#define COP_MUTANT(name) false
#define COP_SITE
#define COP_SITE_ONLY
#define COP_HERE
#define COP_HERE_ONLY
#endif

/* Words of a size, so that every access is one instruction whatever the type. */
template <size_t Bytes> struct cop__word;
template <> struct cop__word<1> { typedef uint8_t type; };
template <> struct cop__word<2> { typedef uint16_t type; };
template <> struct cop__word<4> { typedef uint32_t type; };
template <> struct cop__word<8> { typedef uint2 type; };
template <> struct cop__word<16> { typedef uint4 type; };
template <typename T> struct cop__same { /* keeps an argument out of deduction */
    typedef T type;
};

template <typename To, typename From> COP_DEVICE To cop_bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "a cast of bits keeps the size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

/* Where this thread stands. */

#ifdef COP_EMULATE
COP_DEVICE uint32_t cop_thread() {
    return emu_now->thread;
}
COP_DEVICE uint32_t cop_threads() {
    return emu_now->threads;
}
COP_DEVICE uint32_t cop_block_x() {
    return emu_now->block[0];
}
COP_DEVICE uint32_t cop_block_y() {
    return emu_now->block[1];
}
COP_DEVICE uint32_t cop_block_z() {
    return emu_now->block[2];
}
COP_DEVICE uint32_t cop_grid_x() {
    return emu_now->grid[0];
}
COP_DEVICE uint32_t cop_grid_y() {
    return emu_now->grid[1];
}
COP_DEVICE uint32_t cop_grid_z() {
    return emu_now->grid[2];
}
#else
COP_DEVICE uint32_t cop_thread() {
    return threadIdx.x;
}
COP_DEVICE uint32_t cop_threads() {
    return blockDim.x;
}
COP_DEVICE uint32_t cop_block_x() {
    return blockIdx.x;
}
COP_DEVICE uint32_t cop_block_y() {
    return blockIdx.y;
}
COP_DEVICE uint32_t cop_block_z() {
    return blockIdx.z;
}
COP_DEVICE uint32_t cop_grid_x() {
    return gridDim.x;
}
COP_DEVICE uint32_t cop_grid_y() {
    return gridDim.y;
}
COP_DEVICE uint32_t cop_grid_z() {
    return gridDim.z;
}
#endif
COP_DEVICE uint32_t cop_lane() {
    return cop_thread() & 31u;
}
COP_DEVICE uint32_t cop_warp() {
    return cop_thread() >> 5;
}

/* Shared memory. */

/* The block's dynamic shared memory, aligned to 128 bytes. Poisoned (0xff, NaN) in the emulation
 * when a block starts. */
COP_DEVICE unsigned char *cop_shared() {
#ifdef COP_EMULATE
    return emu_now->shared;
#else
    extern __shared__ __align__(128) unsigned char cop__shared_bytes[];
    return cop__shared_bytes;
#endif
}

/* The address of element `index` of an array of T that starts at a byte offset. */
template <typename T> COP_DEVICE T *cop_shared_as(uint32_t byte_offset, uint32_t index = 0) {
    return reinterpret_cast<T *>(cop_shared() + byte_offset) + index;
}

template <typename T> COP_DEVICE T cop_lds(const T *p COP_SITE) {
    typedef typename cop__word<sizeof(T)>::type word;
#ifdef COP_EMULATE
    word w;
    memcpy(&w, emu_shared_at(p, sizeof(T), EMU_READ COP_HERE), sizeof w);
    return cop_bit_cast<T>(w);
#else
    return cop_bit_cast<T>(*reinterpret_cast<const word *>(p));
#endif
}

template <typename T> COP_DEVICE void cop_sts(T *p, typename cop__same<T>::type value COP_SITE) {
    typedef typename cop__word<sizeof(T)>::type word;
#ifdef COP_EMULATE
    static_assert(sizeof(word) == sizeof(T), "");
    memcpy(emu_shared_at(p, sizeof(T), EMU_WRITE COP_HERE), &value, sizeof value);
#else
    *reinterpret_cast<word *>(p) = cop_bit_cast<word>(value);
#endif
}

/* Atomics on shared memory give the old value. */
COP_DEVICE uint32_t cop_shared_add(uint32_t *p, uint32_t value COP_SITE) {
#ifdef COP_EMULATE
    return emu_shared_atomic(EMU_ADD, p, value COP_HERE);
#else
    return atomicAdd(p, value);
#endif
}
COP_DEVICE uint32_t cop_shared_max(uint32_t *p, uint32_t value COP_SITE) {
#ifdef COP_EMULATE
    return emu_shared_atomic(EMU_MAX, p, value COP_HERE);
#else
    return atomicMax(p, value);
#endif
}

/* Global memory. */

/* May be served by L1. */
template <typename T> COP_DEVICE T cop_ld(const T *p COP_SITE) {
    typedef typename cop__word<sizeof(T)>::type word;
#ifdef COP_EMULATE
    word w;
    emu_load(&w, p, sizeof w, EMU_LOAD_PLAIN COP_HERE);
    return cop_bit_cast<T>(w);
#else
    return cop_bit_cast<T>(*reinterpret_cast<const word *>(p));
#endif
}

/* From L2, past L1: for what other blocks write in this launch. */
template <typename T> COP_DEVICE T cop_ld_cg(const T *p COP_SITE) {
    typedef typename cop__word<sizeof(T)>::type word;
#ifdef COP_EMULATE
    word w;
    emu_load(&w, p, sizeof w, EMU_LOAD_L2 COP_HERE);
    return cop_bit_cast<T>(w);
#else
    return cop_bit_cast<T>(__ldcg(reinterpret_cast<const word *>(p)));
#endif
}

/* Through the read-only path: nobody writes it during the launch. */
template <typename T> COP_DEVICE T cop_ld_nc(const T *p COP_SITE) {
    typedef typename cop__word<sizeof(T)>::type word;
#ifdef COP_EMULATE
    word w;
    emu_load(&w, p, sizeof w, EMU_LOAD_CONSTANT COP_HERE);
    return cop_bit_cast<T>(w);
#else
    return cop_bit_cast<T>(__ldg(reinterpret_cast<const word *>(p)));
#endif
}

template <typename T> COP_DEVICE void cop_st(T *p, typename cop__same<T>::type value COP_SITE) {
    typedef typename cop__word<sizeof(T)>::type word;
#ifdef COP_EMULATE
    static_assert(sizeof(word) == sizeof(T), "");
    emu_store(p, &value, sizeof value COP_HERE);
#else
    *reinterpret_cast<word *>(p) = cop_bit_cast<word>(value);
#endif
}

/* Relaxed atomics on global memory, at device scope; they give the old value. Order comes from
 * cop_fence_device on both sides. */
COP_DEVICE uint32_t cop_atomic_add(uint32_t *p, uint32_t value COP_SITE) {
#ifdef COP_EMULATE
    return emu_atomic(EMU_ADD, p, value COP_HERE);
#else
    return atomicAdd(p, value);
#endif
}
COP_DEVICE uint32_t cop_atomic_exch(uint32_t *p, uint32_t value COP_SITE) {
#ifdef COP_EMULATE
    return emu_atomic(EMU_EXCHANGE, p, value COP_HERE);
#else
    return atomicExch(p, value);
#endif
}
COP_DEVICE uint32_t cop_atomic_max(uint32_t *p, uint32_t value COP_SITE) {
#ifdef COP_EMULATE
    return emu_atomic(EMU_MAX, p, value COP_HERE);
#else
    return atomicMax(p, value);
#endif
}
COP_DEVICE uint32_t cop_atomic_or(uint32_t *p, uint32_t value COP_SITE) {
#ifdef COP_EMULATE
    return emu_atomic(EMU_OR, p, value COP_HERE);
#else
    return atomicOr(p, value);
#endif
}

/* Orders this thread's stores, and those of threads it met at a barrier, before the atomics that it
 * makes next: whoever sees such an atomic sees the stores. */
COP_DEVICE void cop_fence_device(COP_SITE_ONLY) {
#ifdef COP_EMULATE
    emu_fence(COP_HERE_ONLY);
#else
    __threadfence();
#endif
}

/* Barriers and warp collectives (named barriers: ptx.cuh). */

COP_DEVICE void cop_sync_block(COP_SITE_ONLY) {
#ifdef COP_EMULATE
    emu_sync_block(COP_HERE_ONLY);
#else
    __syncthreads();
#endif
}

COP_DEVICE void cop_sync_warp(COP_SITE_ONLY) {
#ifdef COP_EMULATE
    emu_sync_warp(COP_HERE_ONLY);
#else
    __syncwarp();
#endif
}

#ifndef COP_EMULATE
#define COP__SHUFFLE(mode, intrinsic, value, argument) (intrinsic(0xffffffffu, value, argument))
#else
#define COP__SHUFFLE(mode, intrinsic, value, argument)                                             \
    emu_shuffle(mode, value, static_cast<uint32_t>(argument) COP_HERE)
#endif

/* T of 4 bytes: float, int32_t, uint32_t. */
template <typename T> COP_DEVICE T cop_shfl_xor(T value, uint32_t lane_mask COP_SITE) {
    const uint32_t bits = cop_bit_cast<uint32_t>(value);
    return cop_bit_cast<T>(COP__SHUFFLE(EMU_SHUFFLE_XOR, __shfl_xor_sync, bits, lane_mask));
}
template <typename T> COP_DEVICE T cop_shfl(T value, uint32_t from_lane COP_SITE) {
    const uint32_t bits = cop_bit_cast<uint32_t>(value);
    return cop_bit_cast<T>(COP__SHUFFLE(EMU_SHUFFLE_INDEX, __shfl_sync, bits, from_lane));
}
/* From lane + delta; lanes without one keep their own value. */
template <typename T> COP_DEVICE T cop_shfl_down(T value, uint32_t delta COP_SITE) {
    const uint32_t bits = cop_bit_cast<uint32_t>(value);
    return cop_bit_cast<T>(COP__SHUFFLE(EMU_SHUFFLE_DOWN, __shfl_down_sync, bits, delta));
}
template <typename T> COP_DEVICE T cop_shfl_up(T value, uint32_t delta COP_SITE) {
    const uint32_t bits = cop_bit_cast<uint32_t>(value);
    return cop_bit_cast<T>(COP__SHUFFLE(EMU_SHUFFLE_UP, __shfl_up_sync, bits, delta));
}

COP_DEVICE uint32_t cop_ballot(bool predicate COP_SITE) {
#ifdef COP_EMULATE
    return emu_ballot(predicate COP_HERE);
#else
    return __ballot_sync(0xffffffffu, predicate);
#endif
}
COP_DEVICE bool cop_any(bool predicate COP_SITE) {
#ifdef COP_EMULATE
    return emu_ballot(predicate COP_HERE) != 0;
#else
    return __any_sync(0xffffffffu, predicate) != 0;
#endif
}
COP_DEVICE bool cop_all(bool predicate COP_SITE) {
#ifdef COP_EMULATE
    return emu_ballot(predicate COP_HERE) == 0xffffffffu;
#else
    return __all_sync(0xffffffffu, predicate) != 0;
#endif
}

/* Counting and testing bits. */

COP_DEVICE uint32_t cop_popcount(uint32_t bits) {
#ifdef COP_EMULATE
    return static_cast<uint32_t>(__builtin_popcount(bits));
#else
    return static_cast<uint32_t>(__popc(bits));
#endif
}
COP_DEVICE uint32_t cop_popcount64(uint64_t bits) {
#ifdef COP_EMULATE
    return static_cast<uint32_t>(__builtin_popcountll(bits));
#else
    return static_cast<uint32_t>(__popcll(bits));
#endif
}
/* The lowest bit that is set; 64 where there is none. */
COP_DEVICE uint32_t cop_lowest_bit64(uint64_t bits) {
#ifdef COP_EMULATE
    return bits ? static_cast<uint32_t>(__builtin_ctzll(bits)) : 64u;
#else
    return bits ? static_cast<uint32_t>(__ffsll(static_cast<long long>(bits))) - 1u : 64u;
#endif
}
/* Not infinite, not NaN. */
COP_DEVICE bool cop_is_finite(float x) {
    return (cop_bit_cast<uint32_t>(x) & 0x7f800000u) != 0x7f800000u;
}

/* Arithmetic in f32, each rounded once to nearest even, never contracted. */

#ifdef COP_EMULATE
COP_DEVICE float cop_mul_rn(float a, float b) {
    return a * b;
}
COP_DEVICE float cop_add_rn(float a, float b) {
    return a + b;
}
COP_DEVICE float cop_sub_rn(float a, float b) {
    return a - b;
}
COP_DEVICE float cop_fma_rn(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}
COP_DEVICE float cop_div_rn(float a, float b) {
    return a / b;
}
COP_DEVICE float cop_rcp_rn(float x) {
    return 1.0f / x;
}
COP_DEVICE float cop_sqrt_rn(float x) {
    return __builtin_sqrtf(x);
}
/* As PTX has it: a NaN loses against a number, and -0 against +0. */
COP_DEVICE float cop_max(float a, float b) {
    if (a == b)
        return cop_bit_cast<float>(cop_bit_cast<uint32_t>(a) & cop_bit_cast<uint32_t>(b));
    return a > b || b != b ? a : b;
}
COP_DEVICE float cop_min(float a, float b) {
    if (a == b)
        return cop_bit_cast<float>(cop_bit_cast<uint32_t>(a) | cop_bit_cast<uint32_t>(b));
    return a < b || b != b ? a : b;
}
#else
COP_DEVICE float cop_mul_rn(float a, float b) {
    return __fmul_rn(a, b);
}
COP_DEVICE float cop_add_rn(float a, float b) {
    return __fadd_rn(a, b);
}
COP_DEVICE float cop_sub_rn(float a, float b) {
    return __fsub_rn(a, b);
}
COP_DEVICE float cop_fma_rn(float a, float b, float c) {
    return __fmaf_rn(a, b, c);
}
COP_DEVICE float cop_div_rn(float a, float b) {
    return __fdiv_rn(a, b);
}
COP_DEVICE float cop_rcp_rn(float x) {
    return __frcp_rn(x);
}
COP_DEVICE float cop_sqrt_rn(float x) {
    return __fsqrt_rn(x);
}
COP_DEVICE float cop_max(float a, float b) {
    return fmaxf(a, b);
}
COP_DEVICE float cop_min(float a, float b) {
    return fminf(a, b);
}
#endif
/* 1 / sqrt(x) in two rounded operations: the same bits on every device, unlike rsqrt.approx. */
COP_DEVICE float cop_rsqrt_rn(float x) {
    return cop_rcp_rn(cop_sqrt_rn(x));
}
