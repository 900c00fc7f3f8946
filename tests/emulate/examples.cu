/* The kernels of examples.h. */
#include "emulate/examples.h"

#include "kernels/launch.cuh"
#include "kernels/ptx.cuh"

COP_MUTANT_DECLARE(sum_no_barrier, "the first warp reads the partial sums before they are there");
COP_MUTANT_DECLARE(sum_tail, "the tail is off by one");
COP_MUTANT_DECLARE(sum_uninitialised, "one more partial sum is read than was written");
COP_MUTANT_DECLARE(sum_diverged, "half of a warp shuffles");
COP_MUTANT_DECLARE(sum_deadlock, "one warp does not come to the barrier");
COP_MUTANT_DECLARE(sum_two_places, "warps meet at two different barriers");
COP_MUTANT_DECLARE(product_wait, "waits for one group too few");
COP_MUTANT_DECLARE(product_refill, "refills a buffer before its readers are done");
COP_MUTANT_DECLARE(product_no_barrier, "reads what other threads copied without a barrier");
COP_MUTANT_DECLARE(product_tail, "the tail of k is not zero-filled");
COP_MUTANT_DECLARE(product_swizzle, "rows are not swizzled: bank conflicts, the right result");
COP_MUTANT_DECLARE(queue_no_fence, "partials are not published before the count");
COP_MUTANT_DECLARE(queue_no_fences, "nor after it");
COP_MUTANT_DECLARE(queue_plain_load, "partials are read through the first-level cache");
COP_MUTANT_DECLARE(queue_no_barrier, "counts before the other threads have stored");
COP_MUTANT_DECLARE(queue_dirty, "the counter is left as it is");
COP_MUTANT_DECLARE(handover_no_free, "the producer does not wait for a free buffer");
COP_MUTANT_DECLARE(handover_threads, "a named barrier with two counts");

COP_DEVICE float warp_sum(float x) {
    for (uint32_t step = 16; step > 0; step /= 2)
        x = cop_add_rn(x, cop_shfl_xor(x, step));
    return x;
}

COP_KERNEL(128, 4)
sum_kernel(const float *x, float *out, uint32_t n, uint32_t per_block) {
    float *partial = cop_shared_as<float>(0);
    const uint32_t first = cop_block_x() * per_block;
    const uint32_t limit = COP_MUTANT(sum_tail) ? n + 1 : n;
    float sum = 0.0f;
    for (uint32_t i = cop_thread(); i < per_block && first + i < limit; i += cop_threads())
        sum = cop_add_rn(sum, cop_ld_nc(x + first + i));
    if (!COP_MUTANT(sum_diverged) || cop_lane() < 16)
        sum = warp_sum(sum);
    if (cop_lane() == 0)
        cop_sts(partial + cop_warp(), sum);
    if (COP_MUTANT(sum_two_places) && cop_warp() == 3)
        cop_sync_block();
    else if (!COP_MUTANT(sum_no_barrier) && !(COP_MUTANT(sum_deadlock) && cop_warp() == 2))
        cop_sync_block();
    if (COP_MUTANT(sum_deadlock) && cop_warp() == 2)
        cop_sync_named<1>(64);
    if (cop_thread() == 0) {
        const uint32_t warps = cop_threads() / 32 + (COP_MUTANT(sum_uninitialised) ? 1 : 0);
        sum = cop_lds(partial);
        for (uint32_t w = 1; w < warps; w++)
            sum = cop_add_rn(sum, cop_lds(partial + w));
        cop_st(out + cop_block_x(), sum);
    }
}

int example_launch_sum(const float *x, float *out, uint32_t n, uint32_t per_block, uint32_t blocks,
                       void *stream) {
    return cop_launch(sum_kernel, blocks, 128, 64, stream, x, out, n, per_block);
}

enum { SLAB = 32, STAGES = 3, A_BYTES = 64 * SLAB * 2, B_BYTES = SLAB * 64 * 2 };
enum { STAGE_BYTES = A_BYTES + B_BYTES };

/* 16-byte chunks are swizzled so that eight rows of a column lie in different banks. */
COP_DEVICE unsigned char *a_chunk(uint32_t stage, uint32_t row, uint32_t chunk) {
    const uint32_t at = COP_MUTANT(product_swizzle) ? chunk : chunk ^ (row >> 1 & 3);
    return cop_shared() + stage * STAGE_BYTES + row * SLAB * 2 + at * 16;
}
COP_DEVICE unsigned char *b_chunk(uint32_t stage, uint32_t row, uint32_t chunk) {
    const uint32_t at = COP_MUTANT(product_swizzle) ? chunk : chunk ^ (row & 7);
    return cop_shared() + stage * STAGE_BYTES + A_BYTES + row * 128 + at * 16;
}

/* One slab of both; rows of b and chunks of a beyond k become zeros. */
COP_DEVICE void load_slab(const uint16_t *a, const uint16_t *b, uint32_t k, uint32_t slab) {
    const uint32_t stage = slab % STAGES, first = slab * SLAB;
    for (uint32_t i = cop_thread(); first < k && i < 64 * SLAB / 8; i += cop_threads()) {
        const uint32_t row = i / 4, chunk = i % 4, column = first + 8 * chunk;
        const bool inside = column < k || COP_MUTANT(product_tail);
        cop_cp_async16(a_chunk(stage, row, chunk),
                       a + static_cast<uint64_t>(row) * k + (inside ? column : 0), inside ? 16 : 0);
    }
    for (uint32_t i = cop_thread(); first < k && i < SLAB * 64 / 8; i += cop_threads()) {
        const uint32_t row = i / 8, chunk = i % 8;
        const bool inside = first + row < k || COP_MUTANT(product_tail);
        cop_cp_async16(b_chunk(stage, row, chunk),
                       b + static_cast<uint64_t>(inside ? first + row : 0) * 64 + 8 * chunk,
                       inside ? 16 : 0);
    }
    cop_cp_async_commit();
}

COP_DEVICE void multiply_slab(float (&c)[8][4], uint32_t stage) {
    const uint32_t lane = cop_lane(), row = 16 * cop_warp() + lane % 16;
    COP_UNROLL
    for (uint32_t k16 = 0; k16 < SLAB / 16; k16++) {
        uint32_t a[4];
        cop_ldmatrix_x4(a, a_chunk(stage, row, 2 * k16 + lane / 16));
        COP_UNROLL
        for (uint32_t n16 = 0; n16 < 4; n16++) {
            uint32_t b[4];
            cop_ldmatrix_x4_trans(b, b_chunk(stage, 16 * k16 + lane % 16, 2 * n16 + lane / 16));
            cop_mma_bf16(c[2 * n16], a, b[0], b[1]);
            cop_mma_bf16(c[2 * n16 + 1], a, b[2], b[3]);
        }
    }
}

COP_KERNEL(128, 2)
product_kernel(const uint16_t *a, const uint16_t *b, float *c, uint32_t k) {
    float sum[8][4] = {};
    const uint32_t slabs = (k + SLAB - 1) / SLAB;
    for (uint32_t slab = 0; slab + 1 < STAGES; slab++)
        load_slab(a, b, k, slab);
    for (uint32_t slab = 0; slab < slabs; slab++) {
        if (COP_MUTANT(product_wait))
            cop_cp_async_wait<STAGES - 1>();
        else
            cop_cp_async_wait<STAGES - 2>();
        if (COP_MUTANT(product_refill))
            load_slab(a, b, k, slab + STAGES - 1);
        if (!COP_MUTANT(product_no_barrier))
            cop_sync_block();
        if (!COP_MUTANT(product_refill))
            load_slab(a, b, k, slab + STAGES - 1);
        multiply_slab(sum, slab % STAGES);
    }
    const uint32_t row = 16 * cop_warp() + cop_lane() / 4, column = 2 * (cop_lane() % 4);
    for (uint32_t n8 = 0; n8 < 8; n8++) {
        float *to = c + row * 64 + n8 * 8 + column;
        cop_st(reinterpret_cast<float2 *>(to), make_float2(sum[n8][0], sum[n8][1]));
        cop_st(reinterpret_cast<float2 *>(to + 8 * 64), make_float2(sum[n8][2], sum[n8][3]));
    }
}

int example_launch_product(const uint16_t *a, const uint16_t *b, float *c, uint32_t k,
                           void *stream) {
    return cop_launch(product_kernel, 1, 128, STAGES * STAGE_BYTES, stream, a, b, c, k);
}

/* Whether this block's part completes the item. All threads have stored, then one publishes. */
COP_DEVICE bool arrives_last(const example_queue &queue, uint32_t item) {
    if (!COP_MUTANT(queue_no_barrier))
        cop_sync_block();
    if (cop_thread() == 0) {
        if (!COP_MUTANT(queue_no_fence) && !COP_MUTANT(queue_no_fences))
            cop_fence_device();
        const uint32_t before = cop_atomic_add(queue.counters + item, 1);
        if (!COP_MUTANT(queue_no_fences))
            cop_fence_device();
        cop_sts(cop_shared_as<uint32_t>(0, 1), before + 1 == queue.parts ? 1u : 0u);
    }
    cop_sync_block();
    return cop_lds(cop_shared_as<uint32_t>(0, 1)) != 0;
}

COP_DEVICE void merge(const example_queue &queue, uint32_t item) {
    const uint64_t at = static_cast<uint64_t>(item) * queue.parts * 128 + cop_thread();
    float sum = 0.0f;
    for (uint32_t part = 0; part < queue.parts; part++) {
        const float *p = queue.partials + at + 128 * part;
        sum = cop_add_rn(sum, COP_MUTANT(queue_plain_load) ? cop_ld(p) : cop_ld_cg(p));
    }
    cop_st(queue.out + item * 128 + cop_thread(), sum);
    if (cop_thread() == 0 && !COP_MUTANT(queue_dirty))
        cop_st(queue.counters + item, 0);
}

COP_KERNEL(128, 4) queue_kernel(example_queue queue) {
    uint32_t *drawn = cop_shared_as<uint32_t>(0);
    for (;;) {
        if (cop_thread() == 0)
            cop_sts(drawn, cop_atomic_add(queue.ticket, 1));
        cop_sync_block();
        const uint32_t work = cop_lds(drawn);
        if (work >= queue.items * queue.parts)
            break;
        const uint32_t item = work / queue.parts;
        const uint64_t at = static_cast<uint64_t>(work) * 128 + cop_thread();
        cop_st(queue.partials + at, cop_mul_rn(2.0f, cop_ld_nc(queue.x + at)));
        if (arrives_last(queue, item))
            merge(queue, item);
        cop_sync_block();
    }
    if (cop_thread() == 0 && cop_atomic_add(queue.left, 1) + 1 == cop_grid_x()) {
        cop_atomic_exch(queue.ticket, 0);
        cop_atomic_exch(queue.left, 0);
    }
}

int example_launch_queue(const example_queue *queue, void *stream) {
    uint32_t blocks = 0;
    const int error = cop_resident_blocks(queue_kernel, 128, 64, &blocks);
    return error ? error : cop_launch(queue_kernel, blocks, 128, 64, stream, *queue);
}

COP_KERNEL(32, 1)
fragments_kernel(const uint16_t *m, uint32_t *plain, uint32_t *transposed) {
    const uint32_t lane = cop_lane();
    uint16_t *tile = cop_shared_as<uint16_t>(0);
    const uint4 chunk = cop_ld(reinterpret_cast<const uint4 *>(m) + lane);
    cop_sts(reinterpret_cast<uint4 *>(tile) + lane, chunk);
    cop_sync_warp();
    uint32_t r[4], t[4];
    const uint16_t *row = tile + lane % 16 * 16 + lane / 16 * 8;
    cop_ldmatrix_x4(r, row);
    cop_ldmatrix_x4_trans(t, row);
    COP_UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        cop_st(plain + 32 * i + lane, r[i]);
        cop_st(transposed + 32 * i + lane, t[i]);
    }
}

int example_launch_fragments(const uint16_t *m, uint32_t *plain, uint32_t *transposed,
                             void *stream) {
    return cop_launch(fragments_kernel, 1, 32, 512, stream, m, plain, transposed);
}

COP_DEVICE uint32_t load_pair(const uint16_t *low, const uint16_t *high) {
    return cop_ld(low) | static_cast<uint32_t>(cop_ld(high)) << 16;
}

COP_KERNEL(32, 1) mma_kernel(const uint16_t *a, const uint16_t *b, float *c) {
    const uint32_t g = cop_lane() / 4, t = 2 * (cop_lane() % 4);
    uint32_t ra[4], rb[2];
    float rc[4];
    COP_UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        const uint16_t *at = a + (g + 8 * (i % 2)) * 16 + t + 8 * (i / 2);
        ra[i] = load_pair(at, at + 1);
        rc[i] = cop_ld(c + (g + 8 * (i / 2)) * 8 + t + i % 2);
    }
    COP_UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        const uint16_t *at = b + (t + 8 * i) * 8 + g;
        rb[i] = load_pair(at, at + 8);
    }
    cop_mma_bf16(rc, ra, rb[0], rb[1]);
    COP_UNROLL
    for (uint32_t i = 0; i < 4; i++)
        cop_st(c + (g + 8 * (i / 2)) * 8 + t + i % 2, rc[i]);
}

int example_launch_mma(const uint16_t *a, const uint16_t *b, float *c, void *stream) {
    return cop_launch(mma_kernel, 1, 32, 0, stream, a, b, c);
}

COP_KERNEL(32, 1) scalars_kernel(const float *px, const float *py, float *out) {
    const float x = cop_ld(px + cop_lane()), y = cop_ld(py + cop_lane());
    const uint32_t pair = cop_bf16_pack(x, y);
    const float values[EXAMPLE_SCALARS] = {
        cop_mul_rn(x, y),
        cop_add_rn(x, y),
        cop_sub_rn(x, y),
        cop_fma_rn(x, y, x),
        cop_div_rn(x, y),
        cop_rcp_rn(x),
        cop_sqrt_rn(x),
        cop_max(x, y),
        cop_min(x, y),
        cop_rsqrt_rn(x),
        cop_ex2(x),
        cop_log2(x),
        cop_bf16_value(cop_bf16_round(x)),
        cop_bf16_low(pair),
        cop_bf16_high(pair),
        static_cast<float>(cop_popcount(cop_bit_cast<uint32_t>(x))),
        static_cast<float>(cop_lowest_bit64(static_cast<uint64_t>(cop_bit_cast<uint32_t>(x)) << 9)),
        cop_is_finite(x) ? 1.0f : 0.0f};
    COP_UNROLL
    for (uint32_t i = 0; i < EXAMPLE_SCALARS; i++)
        cop_st(out + 32 * i + cop_lane(), values[i]);
}

int example_launch_scalars(const float *x, const float *y, float *out, void *stream) {
    return cop_launch(scalars_kernel, 1, 32, 0, stream, x, y, out);
}

COP_KERNEL(32, 1) collectives_kernel(const int32_t *px, int32_t *out) {
    const int32_t x = cop_ld(px + cop_lane());
    const int32_t values[EXAMPLE_COLLECTIVES] = {cop_shfl_xor(x, 5),
                                                 cop_shfl(x, 7),
                                                 cop_shfl_down(x, 3),
                                                 cop_shfl_up(x, 3),
                                                 static_cast<int32_t>(cop_ballot(x > 0)),
                                                 cop_any(x > 0) ? 1 : 0,
                                                 cop_all(x > 0) ? 1 : 0};
    COP_UNROLL
    for (uint32_t i = 0; i < EXAMPLE_COLLECTIVES; i++)
        cop_st(out + 32 * i + cop_lane(), values[i]);
}

int example_launch_collectives(const int32_t *x, int32_t *out, void *stream) {
    return cop_launch(collectives_kernel, 1, 32, 0, stream, x, out);
}

COP_KERNEL(128, 1) handover_kernel(const float *x, float *out, uint32_t rounds) {
    float *buffer = cop_shared_as<float>(0);
    const uint32_t i = cop_thread() % 64;
    const bool produces = cop_warp() < 2;
    for (uint32_t round = 0; round < rounds; round++) {
        if (produces) {
            if (round > 0 && !COP_MUTANT(handover_no_free))
                cop_sync_named<2>(128);
            cop_sts(buffer + i, cop_ld_nc(x + 64 * round + i));
            cop_arrive_named<1>(128);
        } else {
            cop_sync_named<1>(COP_MUTANT(handover_threads) ? 64 : 128);
            const float value = cop_lds(buffer + 63 - i);
            cop_st(out + 64 * round + 63 - i, cop_mul_rn(2.0f, value));
            if (round + 1 < rounds && !COP_MUTANT(handover_no_free))
                cop_arrive_named<2>(128);
        }
    }
}

int example_launch_handover(const float *x, float *out, uint32_t rounds, void *stream) {
    return cop_launch(handover_kernel, 1, 128, 256, stream, x, out, rounds);
}

COP_KERNEL(32, 1) accesses_kernel(float *buffer, uint32_t how) {
    float *own = buffer + cop_lane();
    unsigned char *bytes = reinterpret_cast<unsigned char *>(buffer);
    if (how == 0) { /* twice the same 128 bytes, once 16 more */
        float sum = cop_add_rn(cop_ld(own), cop_ld_cg(own));
        if (cop_lane() == 0)
            sum = cop_add_rn(sum, cop_ld(reinterpret_cast<float4 *>(buffer + 32)).x);
        cop_st(own, sum);
    } else if (how == 1) {
        cop_st(reinterpret_cast<float4 *>(buffer) + cop_lane(), make_float4(1, 2, 3, 4));
    } else if (how == 2) { /* misaligned */
        cop_ld(reinterpret_cast<const float2 *>(bytes + 4));
    } else if (how == 3) { /* before the buffer */
        cop_ld(buffer - 1);
    } else if (how == 4) { /* across its end: a buffer of 36 floats */
        cop_ld(reinterpret_cast<const float4 *>(buffer + 36));
    } else if (how == 5) { /* outside of shared memory: 64 bytes */
        cop_sts(cop_shared_as<float>(0, 16), 0.0f);
    } else if (how == 6) { /* the read-only path to what this launch wrote */
        cop_st(own, 1.0f);
        cop_ld_nc(own);
    } else if (how == 7) {
        cop_atomic_max(reinterpret_cast<uint32_t *>(buffer), cop_lane());
        cop_atomic_or(reinterpret_cast<uint32_t *>(buffer) + 1, 1u << cop_lane());
        cop_shared_add(cop_shared_as<uint32_t>(0), 1);
        cop_shared_max(cop_shared_as<uint32_t>(4), 1);
    } else if (how == 8) { /* a misaligned copy */
        cop_cp_async16(cop_shared(), bytes + 8, 16);
    } else if (how == 9) { /* a misaligned row */
        uint32_t r[1];
        cop_ldmatrix_x1(r, cop_shared() + 8);
    } else if (how == 10) { /* a null pointer */
        cop_st(static_cast<float *>(nullptr), 1.0f);
    } else if (how == 11) { /* a named barrier of no whole warp */
        cop_sync_named<3>(16);
    }
}

int example_launch_accesses(float *buffer, uint32_t how, void *stream) {
    return cop_launch(accesses_kernel, 1, 32, 64, stream, buffer, how);
}

template <typename T> COP_KERNEL(32, 1) strided_kernel(float *out, uint32_t stride) {
    T *words = cop_shared_as<T>(0);
    T value = {};
    cop_sts(words + cop_lane() * stride, value);
    cop_sync_warp();
    const T read = cop_lds(words + cop_lane() * stride);
    cop_st(out + cop_lane(), cop_bit_cast<float>(*reinterpret_cast<const uint32_t *>(&read)));
}

int example_launch_strided(float *out, uint32_t stride, void *stream) {
    if (stride == 0) /* 16 bytes each, side by side */
        return cop_launch((strided_kernel<uint4>), 1, 32, 4096, stream, out, 1u);
    return cop_launch((strided_kernel<uint32_t>), 1, 32, 32 * 33 * 4, stream, out, stride);
}
