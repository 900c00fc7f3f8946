/* embed, norm, activate: the operations on single rows.
 * Computes  embed:    x = embedding[token]
 *           norm:     x += delta; out = x * (1 / sqrt(mean(x^2) + eps)) * weight
 *           activate: out = silu(gate) * up, silu(g) = g / (1 + exp2(-g log2 e))
 * Shapes    x, delta, out [rows, hidden] bf16, weight [hidden] f32; gate_up [rows, 2 ffn] bf16
 * Launch    embed: grid (rows), block 128. norm: grid (rows), block 256, dynamic shared memory
 *           2 hidden + 16 bytes. activate: grid (ceil(ffn / 2048), rows), block 256
 * Cost      cop_cost_embed, cop_cost_norm, cop_cost_activate: every input once, every output once
 * Needs     hidden and ffn multiples of 8; rows 16-byte aligned
 * Edges     a token outside the vocabulary: a row of zeros, marked as failed
 * Bits      those of the cpu backend in bf16 (backend/cpu/ops.h): the sum of squares runs in eight
 *           lanes (index modulo 8) from left to right, then pairwise; exp2 is the project's own
 * Source    Zhang and Sennrich 2019 (RMSNorm); Shazeer 2020 (GLU variants)
 * Ladder    registers on sm_80 / 90 / 100 / 120; no spill anywhere
 *           embed 40 / 40 / 31 / 34, activate 29 / 29 / 29 / 30, norm 64 / 64 / 56 / 56; the norm's
 *           chain not unrolled: the same 64 on sm_80, and a load in every link of the chain
 *           On paper only: a norm whose sum is a tree over 256 threads has 16 dependent operations
 *           at hidden 4096, this one 512 + 3. But its bits are not the cpu's, and a token that
 *           hangs on the last bit would differ between devices. The row stays in shared memory
 *           (2 hidden bytes), so it is loaded once.
 * Bound     norm: the chain of hidden / 8 additions at decode widths, bytes in prefill; the others
 *           bytes
 */
#include "kernels/step.cuh"

COP_MUTANT_DECLARE(embed_no_mark, "a row without a token is not marked");
COP_MUTANT_DECLARE(norm_no_barrier, "the sum begins before the row is staged");
COP_MUTANT_DECLARE(norm_late_factor, "the factor is read before it is there");
COP_MUTANT_DECLARE(norm_tail, "the last eight squares are left out");
COP_MUTANT_DECLARE(norm_add_not_rounded, "the residual is not rounded before the norm");
COP_MUTANT_DECLARE(activate_tail, "the last eight of a row are left out");

namespace {

enum { EMBED_THREADS = 128, THREADS = 256 };

COP_KERNEL(EMBED_THREADS, 8)
embed_kernel(const cop_embed_args a) {
    const uint32_t row = cop_block_x();
    uint32_t *token_at = cop_shared_as<uint32_t>(0);
    if (cop_thread() == 0)
        cop_sts(token_at, static_cast<uint32_t>(cop_ld_nc(a.token + row)));
    cop_sync_block();
    const uint32_t token = cop_lds(token_at); /* a negative one is a large one */
    uint4 *to = reinterpret_cast<uint4 *>(a.x + static_cast<uint64_t>(row) * a.hidden);
    const uint4 *from =
        reinterpret_cast<const uint4 *>(a.embedding + static_cast<uint64_t>(token) * a.hidden);
    for (uint32_t i = cop_thread(); i < a.hidden / 8; i += EMBED_THREADS)
        cop_st(to + i, token < a.vocab ? cop_ld_nc(from + i) : make_uint4(0, 0, 0, 0));
    if (token >= a.vocab && cop_thread() == 0 && !COP_MUTANT(embed_no_mark)) {
        cop_st(a.row_failed + row, 1u);
        cop_st(a.segment_failed + cop_ld_nc(a.row_segment + row), 1u);
    }
}

/* x (+ delta) of the block's row to shared memory, and back to x. */
COP_DEVICE void stage_row(const cop_norm_args &a, uint4 *staged) {
    const uint64_t row = static_cast<uint64_t>(cop_block_x()) * a.hidden;
    uint4 *x_row = reinterpret_cast<uint4 *>(a.x + row);
    for (uint32_t i = cop_thread(); i < a.hidden / 8; i += THREADS) {
        uint4 words = cop_ld(x_row + i);
        if (a.delta) {
            float x[8], delta[8];
            cop_unpack8(words, x);
            cop_unpack8(cop_ld_nc(reinterpret_cast<const uint4 *>(a.delta + row) + i), delta);
            COP_UNROLL
            for (int j = 0; j < 8; j++)
                x[j] = cop_add_rn(x[j], delta[j]);
            if (COP_MUTANT(norm_add_not_rounded))
                x[0] = cop_mul_rn(x[0], 1.001f);
            words = cop_pack8(x);
            cop_st(x_row + i, words);
        }
        cop_sts(staged + i, words);
    }
}

/* By one warp: lanes 8 and up repeat what lanes 0 to 7 do, so that the shuffles are whole. */
COP_DEVICE float sum_of_squares(const uint16_t *staged, uint32_t n) {
    float sum = 0.0f;
    const uint32_t end = COP_MUTANT(norm_tail) ? n - 8 : n;
#ifndef COP_EMULATE
#pragma unroll 8
#endif
    for (uint32_t i = cop_lane() % 8; i < end; i += 8) {
        const float x = cop_bf16_value(cop_lds(staged + i));
        sum = cop_fma_rn(x, x, sum);
    }
    return cop_sum8(sum);
}

COP_KERNEL(THREADS, 4)
norm_kernel(const cop_norm_args a) {
    float *factor = cop_shared_as<float>(0);
    uint4 *staged = cop_shared_as<uint4>(16);
    stage_row(a, staged);
    if (!COP_MUTANT(norm_no_barrier))
        cop_sync_block();
    if (cop_warp() == 0) {
        const float sum = sum_of_squares(reinterpret_cast<const uint16_t *>(staged), a.hidden);
        if (cop_lane() == 0)
            cop_sts(factor, cop_rms_factor(sum, a.hidden, a.eps));
    }
    if (!COP_MUTANT(norm_late_factor))
        cop_sync_block();
    const float r = cop_lds(factor);
    const uint64_t row = static_cast<uint64_t>(cop_block_x()) * a.hidden;
    for (uint32_t i = cop_thread(); i < a.hidden / 8; i += THREADS) {
        float x[8];
        cop_unpack8(cop_lds(staged + i), x);
        const float4 *weights = reinterpret_cast<const float4 *>(a.weight) + 2 * i;
        const float4 u = cop_ld_nc(weights), v = cop_ld_nc(weights + 1);
        const float w[8] = {u.x, u.y, u.z, u.w, v.x, v.y, v.z, v.w};
        COP_UNROLL
        for (int j = 0; j < 8; j++)
            x[j] = cop_mul_rn(cop_mul_rn(x[j], r), w[j]);
        cop_st(reinterpret_cast<uint4 *>(a.out + row) + i, cop_pack8(x));
    }
}

COP_DEVICE float silu_mul(float gate, float up) {
    const float log2_e = 0x1.715476p+0f;
    const float e = cop_exp2_fixed(cop_mul_rn(-gate, log2_e));
    return cop_mul_rn(cop_div_rn(gate, cop_add_rn(1.0f, e)), up);
}

COP_KERNEL(THREADS, 4)
activate_kernel(const cop_activate_args a) {
    const uint32_t i = cop_block_x() * THREADS + cop_thread();
    if (i >= a.ffn / 8 - (COP_MUTANT(activate_tail) ? 1 : 0))
        return;
    const uint64_t row = cop_block_y();
    const uint4 *from = reinterpret_cast<const uint4 *>(a.gate_up + row * 2 * a.ffn);
    float gate[8], up[8];
    cop_unpack8(cop_ld_nc(from + i), gate);
    cop_unpack8(cop_ld_nc(from + a.ffn / 8 + i), up);
    COP_UNROLL
    for (int j = 0; j < 8; j++)
        gate[j] = silu_mul(gate[j], up[j]);
    cop_st(reinterpret_cast<uint4 *>(a.out + row * a.ffn) + i, cop_pack8(gate));
}

} // namespace

extern "C" int cop_launch_embed(const cop_embed_args *args, void *stream) {
    if (args->hidden == 0 || args->hidden % 8 != 0)
        return 1;
    if (args->n_rows == 0)
        return 0;
    return cop_launch(embed_kernel, args->n_rows, EMBED_THREADS, 16, stream, *args);
}

extern "C" int cop_launch_norm(const cop_norm_args *args, void *stream) {
    if (args->hidden == 0 || args->hidden % 8 != 0)
        return 1;
    if (args->n_rows == 0)
        return 0;
    return cop_launch(norm_kernel, args->n_rows, THREADS, 16 + args->hidden * 2u, stream, *args);
}

extern "C" int cop_launch_activate(const cop_activate_args *args, void *stream) {
    if (args->ffn == 0 || args->ffn % 8 != 0 || args->n_rows > 65535)
        return 1;
    if (args->n_rows == 0)
        return 0;
    const dim3 grid((args->ffn / 8 + THREADS - 1) / THREADS, args->n_rows);
    return cop_launch(activate_kernel, grid, THREADS, 0, stream, *args);
}
