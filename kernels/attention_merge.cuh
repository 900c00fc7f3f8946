/* The end of a row: one chunk is final at once, several leave partials that are merged in the order
 * of their index, whoever does it and when.
 *
 *   m* = max m_i;  w_i = 2^((m_i - m*) c);  L = fma chain l_i w_i;  O = fma chain o_i w_i
 *   out = O (1 / L) + 0;  lse = m* c + log2 L;  nothing seen: out = 0, lse = -inf
 *
 * A rescale by 0 leaves -0, which a leaf of another row would turn into +0: hence the + 0.
 * Each partial is read once: o by the lanes that own its columns, (m, l) by one lane, which leaves
 * its weight in shared memory (rows of more chunks than that holds read (m, l) twice).
 */
#pragma once

#include "kernels/attention_fold.cuh"

COP_MUTANT_DECLARE(attention_no_fence, "the counter is raised before the partials are published");
COP_MUTANT_DECLARE(attention_plain_partials, "partials are read through L1");
COP_MUTANT_DECLARE(attention_dirty_counter, "a counter is not cleared");
COP_MUTANT_DECLARE(attention_counter_head, "KV heads of a slot share a counter");
COP_MUTANT_DECLARE(attention_merge_order, "partials are merged as they arrived");
COP_MUTANT_DECLARE(attention_minus_zero, "-0 is stored");
COP_MUTANT_DECLARE(attention_late_merge, "the block merges without meeting after its counters");

/* ---- the host's side ---- */

static inline uint32_t cop__page_shift(uint32_t page_tokens) {
    return page_tokens == 16 ? 4 : page_tokens == 32 ? 5 : 6;
}

/* What the arguments of all attention launches have in common, under the same names. */
template <typename Args>
static inline cop__attention_io cop__attention_common(const Args *args, uint32_t parts) {
    cop__attention_io io = {};
    io.page_table = args->page_table;
    io.pool = args->pool;
    io.q = args->q;
    io.out = args->out;
    io.lse = args->lse;
    io.partial_o = args->partial_o;
    io.partial_ml = args->partial_ml;
    io.q_stride = args->q_stride;
    io.out_stride = args->out_stride;
    io.page_shift = cop__page_shift(args->page_tokens);
    io.n_heads = args->n_heads;
    io.n_kv_heads = args->n_kv_heads;
    io.parts = parts;
    io.c = args->scale_log2;
    return io;
}

static inline cop__attention_io cop__attention_io_of(const cop_attention_args *args) {
    cop__attention_io io = cop__attention_common(
        args, cop_attention_parts(args->head_dim, args->n_heads / args->n_kv_heads));
    io.segments = args->segments;
    io.entries = args->entries;
    io.limits = args->limits;
    return io;
}

/* ---- arithmetic ---- */

COP_DEVICE float cop__plus_zero(float x) {
    return COP_MUTANT(attention_minus_zero) ? x : cop_add_rn(x, 0.0f);
}

COP_DEVICE float cop__merge_lse(float m, float total, float c) {
    return total == 0.0f ? -INFINITY : cop_add_rn(cop_mul_rn(m, c), cop_log2(total));
}

COP_DEVICE float cop__reciprocal(float total) {
    return total == 0.0f ? 0.0f : cop_div_rn(1.0f, total);
}

COP_DEVICE uint64_t cop__output_at(const cop__attention_io &io, int32_t row, uint32_t head,
                                   uint32_t d) {
    return static_cast<uint64_t>(row) * io.out_stride + static_cast<uint64_t>(head) * d;
}

COP_DEVICE uint64_t cop__partial_at(const cop__attention_io &io, uint32_t partial, uint32_t head) {
    return static_cast<uint64_t>(partial) * io.n_heads + head;
}

/* ---- the rows of an item ---- */

/* Writes the warp's rows: to the output, or to the partial of this chunk. */
template <int D, int W>
COP_DEVICE void cop__fold_finish(const cop__attention_io &io, const cop__fold<D, W> &f) {
    const cop__job job = cop__job_of<D>();
    const cop__board *board = cop__board_of<D>();
    const uint32_t lane = f.lane(), pair = 2 * (lane & 3);
    COP_UNROLL
    for (int h = 0; h < 2; h++) {
        float sum = cop_add_rn(f.l[h], cop_shfl_xor(f.l[h], 1));
        sum = cop_add_rn(sum, cop_shfl_xor(sum, 2));
        const uint32_t slot = f.slot[h];
        if (slot == COP__NO_SLOT)
            continue;
        const uint32_t head = job.head + (f.group() * 16 + lane / 4 + 8 * h) % job.heads;
        const int32_t row = cop_lds(&board->row[slot]);
        const bool speaks = f.part() == 0 && pair == 0;
        const uint32_t column = f.part() * (D / W) + pair;
        if (cop_lds(&board->n_partials[slot]) == 1) {
            const float inverse = cop__reciprocal(sum);
            uint32_t *to =
                reinterpret_cast<uint32_t *>(io.out + cop__output_at(io, row, head, D) + column);
            COP_UNROLL
            for (int n = 0; n < D / 8 / W; n++)
                cop_st(to + 4 * n,
                       cop_bf16_pack(cop__plus_zero(cop_mul_rn(f.o[n][2 * h], inverse)),
                                     cop__plus_zero(cop_mul_rn(f.o[n][2 * h + 1], inverse))));
            if (io.lse && speaks)
                cop_st(io.lse + static_cast<uint64_t>(row) * io.n_heads + head,
                       cop__merge_lse(f.m[h], sum, io.c));
        } else {
            const uint64_t at =
                cop__partial_at(io, cop_lds(&board->first_partial[slot]) + job.chunk, head);
            float2 *to = reinterpret_cast<float2 *>(io.partial_o + at * D + column);
            COP_UNROLL
            for (int n = 0; n < D / 8 / W; n++)
                cop_st(to + 4 * n,
                       {cop__plus_zero(f.o[n][2 * h]), cop__plus_zero(f.o[n][2 * h + 1])});
            if (speaks)
                cop_st(reinterpret_cast<float2 *>(io.partial_ml) + at, {f.m[h], sum});
        }
    }
}

/* ---- the merge of one row, by one warp ---- */

struct alignas(8) cop__weight {
    float w, l;
};
constexpr uint32_t COP__WEIGHTS = COP_ATTENTION_MERGE_CHUNKS; /* of a warp's scratch */

/* What other blocks wrote in this launch is past L1; a launch of its own may read either way. */
template <typename T> COP_DEVICE T cop__load_partial(const T *p) {
    return COP_MUTANT(attention_plain_partials) ? cop_ld(p) : cop_ld_cg(p);
}

COP_DEVICE float cop__warp_max(float x) {
    COP_UNROLL
    for (uint32_t step = 16; step > 0; step >>= 1)
        x = cop_max(x, cop_shfl_xor(x, step));
    return x;
}

/* Partials first .. first + n - 1 of one query head. `scratch` is the warp's own, COP__WEIGHTS. */
template <int D>
COP_DEVICE void cop__merge_row(const cop__attention_io &io, int32_t row, uint32_t head,
                               uint32_t first, uint32_t n, uint32_t turn, cop__weight *scratch) {
    constexpr int pairs = (D / 2 + 31) / 32; /* of columns, of a lane */
    const uint32_t lane = cop_lane();
    const float2 *ml = reinterpret_cast<const float2 *>(io.partial_ml);
    float most = -INFINITY, total = 0.0f;
    float2 o[pairs];
    COP_UNROLL
    for (int x = 0; x < pairs; x++)
        o[x] = {0.0f, 0.0f};
    for (uint32_t i = lane; i < n; i += 32) {
        const float2 part = cop__load_partial(ml + cop__partial_at(io, first + i, head));
        if (i < COP__WEIGHTS)
            cop_sts(scratch + i, {part.x, part.y});
        most = cop_max(most, part.x);
    }
    most = cop__warp_max(most);
    const float base = most == -INFINITY ? 0.0f : most;
    for (uint32_t from = 0; from < n; from += COP__WEIGHTS) {
        const uint32_t here = n - from < COP__WEIGHTS ? n - from : COP__WEIGHTS;
        cop_sync_warp();
        for (uint32_t i = lane; i < here; i += 32) {
            cop__weight weight = cop_lds(scratch + i);
            if (from > 0) {
                const float2 again =
                    cop__load_partial(ml + cop__partial_at(io, first + from + i, head));
                weight = {again.x, again.y};
            }
            weight.w = cop_ex2(cop_mul_rn(cop_sub_rn(weight.w, base), io.c));
            cop_sts(scratch + i, weight);
        }
        cop_sync_warp();
        for (uint32_t i = 0; i < here; i++) {
            const uint32_t x = COP_MUTANT(attention_merge_order) ? (i + turn) % here : i;
            const cop__weight weight = cop_lds(scratch + x);
            total = cop_fma_rn(weight.l, weight.w, total);
            const float2 *from_o = reinterpret_cast<const float2 *>(
                io.partial_o + cop__partial_at(io, first + from + x, head) * D);
            COP_UNROLL
            for (int p = 0; p < pairs; p++) {
                if (lane + 32 * p >= D / 2)
                    continue;
                const float2 part = cop__load_partial(from_o + lane + 32 * p);
                o[p].x = cop_fma_rn(part.x, weight.w, o[p].x);
                o[p].y = cop_fma_rn(part.y, weight.w, o[p].y);
            }
        }
    }
    cop_sync_warp(); /* the scratch is free again */
    const float inverse = cop__reciprocal(total);
    uint32_t *to = reinterpret_cast<uint32_t *>(io.out + cop__output_at(io, row, head, D));
    COP_UNROLL
    for (int p = 0; p < pairs; p++)
        if (lane + 32 * p < D / 2)
            cop_st(to + lane + 32 * p, cop_bf16_pack(cop__plus_zero(cop_mul_rn(o[p].x, inverse)),
                                                     cop__plus_zero(cop_mul_rn(o[p].y, inverse))));
    if (io.lse && lane == 0)
        cop_st(io.lse + static_cast<uint64_t>(row) * io.n_heads + head,
               cop__merge_lse(most, total, io.c));
}

/* ---- the last one to arrive merges ---- */

/* The block has written its partials of this chunk: counts them, merges what is complete.
 * `counters` has one word for each slot (of a stride). Holds no barrier at its end. */
template <int D> COP_DEVICE void cop__arrive(const cop__attention_io &io, uint32_t *counters) {
    cop__board *board = cop__board_of<D>();
    const cop__job job = cop__job_of<D>();
    const uint32_t stride = io.n_kv_heads * io.parts;
    if (!COP_MUTANT(attention_no_fence))
        cop_fence_device();
    cop_sync_block(); /* every warp's partials are out, and the stages are free */
    const uint32_t s = cop_thread();
    if (s < COP_TILE_SLOTS_MAX) {
        uint32_t complete = 0;
        if (cop_lds(&board->row[s]) >= 0 && cop_lds(&board->n_partials[s]) > 1) {
            uint32_t *counter =
                counters + static_cast<uint64_t>(cop_lds(&board->slot[s])) * stride +
                (COP_MUTANT(attention_counter_head) ? 0 : job.kv_head * io.parts + job.part);
            complete = cop_atomic_add(counter, 1) + 1 == cop_lds(&board->n_partials[s]);
            if (complete && !COP_MUTANT(attention_dirty_counter))
                cop_atomic_exch(counter, 0);
        }
        cop_sts(&board->complete[s], complete);
    }
    cop_fence_device(); /* whoever saw the last count sees what was published before it */
    if (!COP_MUTANT(attention_late_merge))
        cop_sync_block();
    cop__weight *scratch = cop_shared_as<cop__weight>(0, cop_warp() * COP__WEIGHTS);
    for (uint32_t r = cop_warp(); r < job.n_rows; r += COP__BLOCK / 32) {
        const uint32_t slot = r / job.heads;
        if (cop_lds(&board->complete[slot]))
            cop__merge_row<D>(io, cop_lds(&board->row[slot]), job.head + r % job.heads,
                              cop_lds(&board->first_partial[slot]),
                              cop_lds(&board->n_partials[slot]), job.chunk + 1, scratch);
    }
}
