/* The fold of attention over the leaves of one item, for a block of 128 threads.
 *
 * A block holds up to 64 query rows (32 at d = 256) as fragments in registers and brings one leaf
 * (64 tokens of K and V) after another to shared memory. W warps share a group of 16 rows: each
 * scores 64 / W of the leaf's keys and owns d / W columns of the output; maxima, probabilities and
 * partial sums go through shared memory. W = 1 (wide, d <= 128), 2 (wide, d = 256), 4 (narrow), and
 * the order of every sum is the same for all three, so the bits are.
 *
 * Stages     d <= 128: K and V of two leaves; leaf i + 1 comes in while leaf i is folded, one
 *            barrier a leaf. d = 256: one K and one V; V comes in under the scores, the next K
 *            under the values. Q passes through a stage that is still empty.
 * Leaves     Warp 0 walks two leaves ahead and leaves descriptors in a ring of four.
 * Swizzle    16-byte chunk c of token t lies at c ^ (t & 7), at d = 96 at c ^ (t / 2 & 3).
 * Bits       fold_reference.h's, as long as mma adds in the order of k (the emulation does).
 */
#pragma once

#include "kernels/attention_walk.cuh"

COP_MUTANT_DECLARE(attention_early_refill, "a stage is refilled before its readers met");
COP_MUTANT_DECLARE(attention_lax_wait, "the newest copies are not waited for");
COP_MUTANT_DECLARE(attention_tail, "one token past the segment's end is loaded");
COP_MUTANT_DECLARE(attention_swizzle, "V is read without the swizzle");
COP_MUTANT_DECLARE(attention_factor, "the factor as ex2(fma(m, c, -m' c))");
COP_MUTANT_DECLARE(attention_guard, "a maximum of -inf is subtracted");
COP_MUTANT_DECLARE(attention_eager_skip, "a warp skips a leaf that one of its rows does not see");
COP_MUTANT_DECLARE(attention_sum_order, "warps that share rows add their sums in another order");
COP_MUTANT_DECLARE(attention_exchange, "probabilities are read before all warps wrote them");
COP_MUTANT_DECLARE(attention_zero_page, "every page is the leaf's first");
COP_MUTANT_DECLARE(attention_narrow_offset, "pool offsets of 32 bits");

/* ---- copies to shared memory ---- */

/* K (which = 0) or V of a leaf; zeros beyond its tokens, since 0 x NaN is NaN. */
template <int D>
COP_DEVICE void cop__copy_leaf(const cop__attention_io &io, uint32_t place, uint32_t which,
                               uint32_t to) {
    const cop__leaf *leaf = &cop__board_of<D>()->ring[place % COP__RING];
    const uint32_t tokens = cop_lds(&leaf->tokens) +
                            (COP_MUTANT(attention_tail) && cop_lds(&leaf->tokens) % 64 ? 1 : 0);
    const uint32_t within = (1u << io.page_shift) - 1, me = cop__me<D>();
    const uint32_t kv_head = cop_lds(&cop__board_of<D>()->job.kv_head);
    COP_UNROLL
    for (uint32_t x = 0; x < COP__LEAF * (D / 8); x += COP__BLOCK) {
        const uint32_t i = x + me;
        const uint32_t token = i / (D / 8), chunk = i % (D / 8);
        const bool there = token < tokens;
        uint64_t at = 0;
        if (there) {
            const uint64_t page =
                cop_lds(&leaf->page[COP_MUTANT(attention_zero_page) ? 0 : token >> io.page_shift]);
            at = (page * 2 + which) * io.n_kv_heads + kv_head;
            at = (at << io.page_shift) + (token & within);
            at = at * D + chunk * 8;
            if (COP_MUTANT(attention_narrow_offset))
                at = static_cast<uint32_t>(at);
        }
        cop_cp_async16(cop_shared_as<unsigned char>(to + cop__swizzled<D>(token, chunk)),
                       io.pool + at, there ? 16 : 0);
    }
}

template <int D> COP_DEVICE void cop__copy_stage(const cop__attention_io &io, uint32_t i) {
    if (cop_lds(&cop__board_of<D>()->ring[i % COP__RING].tokens) != 0) {
        cop__copy_leaf<D>(io, i, 0, cop__shared<D>::k(i));
        cop__copy_leaf<D>(io, i, 1, cop__shared<D>::v(i));
    }
    cop_cp_async_commit();
}

/* The tile slot of row r, or COP__NO_SLOT. */
template <int D> COP_DEVICE uint32_t cop__slot_of(uint32_t r) {
    const cop__job job = cop__job_of<D>();
    if (r >= job.n_rows)
        return COP__NO_SLOT;
    const uint32_t slot = r / job.heads;
    return cop_lds(&cop__board_of<D>()->row[slot]) >= 0 ? slot : COP__NO_SLOT;
}

/* Each row once, whole groups of 16, zeros where nobody takes part. */
template <int D> COP_DEVICE void cop__copy_query(const cop__attention_io &io) {
    const cop__job job = cop__job_of<D>();
    const uint32_t rows = (job.n_rows + 15) / 16 * 16;
    for (uint32_t i = cop__me<D>(); i < rows * (D / 8); i += COP__BLOCK) {
        const uint32_t r = i / (D / 8), chunk = i % (D / 8);
        const uint32_t slot = cop__slot_of<D>(r);
        uint64_t at = 0;
        if (slot != COP__NO_SLOT)
            at = static_cast<uint64_t>(cop_lds(&cop__board_of<D>()->row[slot])) * io.q_stride +
                 static_cast<uint64_t>(job.head + r % job.heads) * D + chunk * 8;
        cop_cp_async16(
            cop_shared_as<unsigned char>(cop__shared<D>::query + cop__swizzled<D>(r, chunk)),
            io.q + at, slot != COP__NO_SLOT ? 16 : 0);
    }
}

/* ---- the fold ---- */

/* One thread's share of its warp's 16 rows: rows g and g + 8, g = lane / 4. */
template <int D, int W> struct cop__fold {
    /* Q stays in registers, but for the wide tile at d = 256: it would spill, and reads Q for each
     * leaf again. */
    static constexpr bool keeps_query = D <= 128 || W == 4;
    uint32_t q[keeps_query ? D / 16 : 1][4];
    float o[D / 8 / W][4];
    float m[2], l[2];
    uint32_t slot[2]; /* tile slots of the two rows */
    uint32_t me;      /* cop__me */
    COP_METHOD uint32_t lane() const {
        return me & 31;
    }
    COP_METHOD uint32_t group() const { /* which 16 rows */
        return me / 32 / W;
    }
    COP_METHOD uint32_t part() const { /* which share of them */
        return me / 32 % W;
    }
};

template <int D, int W> COP_DEVICE void cop__fold_reset(cop__fold<D, W> &f) {
    f.me = cop__me<D>();
    const uint32_t r = f.group() * 16 + f.lane() / 4;
    COP_UNROLL
    for (int h = 0; h < 2; h++) {
        f.m[h] = -INFINITY;
        f.l[h] = 0.0f;
        f.slot[h] = cop__slot_of<D>(r + 8 * h);
    }
    COP_UNROLL
    for (int n = 0; n < D / 8 / W; n++) {
        COP_UNROLL
        for (int x = 0; x < 4; x++)
            f.o[n][x] = 0.0f;
    }
}

template <int D, int W>
COP_DEVICE void cop__load_query(const cop__fold<D, W> &f, uint32_t k, uint32_t (&q)[4]) {
    const uint32_t lane = f.lane(), row = f.group() * 16 + (lane & 15);
    cop_ldmatrix_x4(q, cop_shared_as<unsigned char>(cop__shared<D>::query +
                                                    cop__swizzled<D>(row, 2 * k + (lane >> 4))));
}

/* s = q k^T for the warp's 64 / W keys. */
template <int D, int W>
COP_DEVICE void cop__scores(const cop__fold<D, W> &f, uint32_t k_at, float (&s)[8 / W][4]) {
    const uint32_t lane = f.lane();
    const uint32_t key = f.part() * (64 / W) + (lane >> 4) * 8 + (lane & 7);
    COP_UNROLL
    for (int n = 0; n < 8 / W; n++) {
        COP_UNROLL
        for (int x = 0; x < 4; x++)
            s[n][x] = 0.0f;
    }
    COP_UNROLL
    for (int k = 0; k < D / 16; k++) {
        uint32_t q[4];
        if constexpr (cop__fold<D, W>::keeps_query) {
            COP_UNROLL
            for (int x = 0; x < 4; x++)
                q[x] = f.q[k][x];
        } else {
            cop__load_query(f, k, q);
        }
        COP_UNROLL
        for (int n = 0; n < 8 / W; n += 2) {
            uint32_t b[4];
            cop_ldmatrix_x4(b, cop_shared_as<unsigned char>(
                                   k_at + cop__swizzled<D>(key + 8 * n, 2 * k + (lane >> 3 & 1))));
            cop_mma_bf16(s[n], q, b[0], b[1]);
            cop_mma_bf16(s[n + 1], q, b[2], b[3]);
        }
    }
}

/* Unseen keys score -inf. Gives the maxima of the thread's two rows over the warp's keys. */
template <int W>
COP_DEVICE void cop__mask_scores(float (&s)[8 / W][4], const uint32_t (&seen)[2], uint32_t part,
                                 uint32_t lane, float (&most)[2]) {
    const uint32_t key = part * (64 / W) + 2 * (lane & 3);
    most[0] = most[1] = -INFINITY;
    COP_UNROLL
    for (int n = 0; n < 8 / W; n++) {
        COP_UNROLL
        for (int x = 0; x < 4; x++) {
            if (key + 8 * n + (x & 1) >= seen[x >> 1])
                s[n][x] = -INFINITY;
            most[x >> 1] = cop_max(most[x >> 1], s[n][x]);
        }
    }
    COP_UNROLL
    for (int h = 0; h < 2; h++) {
        most[h] = cop_max(most[h], cop_shfl_xor(most[h], 1));
        most[h] = cop_max(most[h], cop_shfl_xor(most[h], 2));
    }
}

/* The maximum that is subtracted: an empty row's -inf would give (-inf) - (-inf). */
COP_DEVICE float cop__base(float m) {
    return m == -INFINITY && !COP_MUTANT(attention_guard) ? 0.0f : m;
}

/* The new maxima, the factors of what was summed before, and the probabilities in place of s. */
template <int D, int W>
COP_DEVICE void cop__probabilities(cop__fold<D, W> &f, float c, const float (&most)[2],
                                   float (&s)[8 / W][4], float (&factor)[2]) {
    float shift[2];
    COP_UNROLL
    for (int h = 0; h < 2; h++) {
        const float m = cop_max(f.m[h], most[h]), base = cop__base(m);
        shift[h] = -cop_mul_rn(base, c);
        factor[h] = cop_ex2(cop_mul_rn(cop_sub_rn(f.m[h], base), c));
        if (COP_MUTANT(attention_factor))
            factor[h] = cop_ex2(cop_fma_rn(f.m[h], c, shift[h]));
        f.m[h] = m;
    }
    COP_UNROLL
    for (int n = 0; n < 8 / W; n++) {
        COP_UNROLL
        for (int x = 0; x < 4; x++)
            s[n][x] = cop_ex2(cop_fma_rn(s[n][x], c, shift[x >> 1]));
    }
}

/* The lane's sums over keys 16 b + {2t, 2t + 1, 2t + 8, 2t + 9} of both rows. */
template <int N> COP_DEVICE void cop__block_sums(const float (&p)[N][4], int b, float (&g)[2]) {
    COP_UNROLL
    for (int h = 0; h < 2; h++)
        g[h] = cop_add_rn(cop_add_rn(p[2 * b][2 * h], p[2 * b][2 * h + 1]),
                          cop_add_rn(p[2 * b + 1][2 * h], p[2 * b + 1][2 * h + 1]));
}

/* The accumulator's layout is the A operand's: two n8 tiles of P make the fragment of 16 keys. */
template <int N> COP_DEVICE void cop__pack(const float (&p)[N][4], int b, uint32_t (&a)[4]) {
    a[0] = cop_bf16_pack(p[2 * b][0], p[2 * b][1]);
    a[1] = cop_bf16_pack(p[2 * b][2], p[2 * b][3]);
    a[2] = cop_bf16_pack(p[2 * b + 1][0], p[2 * b + 1][1]);
    a[3] = cop_bf16_pack(p[2 * b + 1][2], p[2 * b + 1][3]);
}

/* l = l f + (((g0 + g1) + g2) + g3), o = o f. */
template <int D, int W>
COP_DEVICE void cop__rescale(cop__fold<D, W> &f, const float (&factor)[2], const float (&g)[4][2]) {
    COP_UNROLL
    for (int h = 0; h < 2; h++) {
        float sum = cop_add_rn(cop_add_rn(cop_add_rn(g[0][h], g[1][h]), g[2][h]), g[3][h]);
        if (W > 1 && COP_MUTANT(attention_sum_order))
            sum = cop_add_rn(cop_add_rn(g[0][h], g[1][h]), cop_add_rn(g[2][h], g[3][h]));
        f.l[h] = cop_fma_rn(f.l[h], factor[h], sum);
    }
    COP_UNROLL
    for (int n = 0; n < D / 8 / W; n++) {
        COP_UNROLL
        for (int x = 0; x < 4; x++)
            f.o[n][x] = cop_mul_rn(f.o[n][x], factor[x >> 1]);
    }
}

/* o += p v for 16 keys and the warp's d / W columns. */
template <int D, int W>
COP_DEVICE void cop__values(cop__fold<D, W> &f, uint32_t v_at, int b, const uint32_t (&p)[4]) {
    constexpr int tiles = D / 8 / W;
    const uint32_t lane = cop__me<D>() & 31, token = b * 16 + (lane & 15);
    const uint32_t column = f.part() * tiles + (lane >> 4);
    COP_UNROLL
    for (int n = 0; n + 1 < tiles; n += 2) {
        uint32_t v[4];
        uint32_t at = cop__swizzled<D>(token, column + n);
        if (COP_MUTANT(attention_swizzle))
            at = token * (D * 2) + (column + n) * 16;
        cop_ldmatrix_x4_trans(v, cop_shared_as<unsigned char>(v_at + at));
        cop_mma_bf16(f.o[n], p, v[0], v[1]);
        cop_mma_bf16(f.o[n + 1], p, v[2], v[3]);
    }
    if (tiles % 2) {
        uint32_t v[2];
        cop_ldmatrix_x2_trans(v, cop_shared_as<unsigned char>(
                                     v_at + cop__swizzled<D>(token, f.part() * tiles + tiles - 1)));
        cop_mma_bf16(f.o[tiles - 1], p, v[0], v[1]);
    }
}

/* ---- what W > 1 warps tell one another ---- */

template <int D> COP_DEVICE uint32_t cop__exchange_of(uint32_t group) {
    return cop__shared<D>::stages + group * cop__shared<D>::exchange_bytes;
}

template <int D, int W>
COP_DEVICE void cop__tell_maxima(const cop__fold<D, W> &f, const float (&most)[2]) {
    float *to = cop_shared_as<float>(cop__exchange_of<D>(f.group()) + cop__shared<D>::maxima);
    const uint32_t lane = f.lane();
    if ((lane & 3) == 0) {
        cop_sts(to + f.part() * 16 + lane / 4, most[0]);
        cop_sts(to + f.part() * 16 + lane / 4 + 8, most[1]);
    }
}

template <int D, int W>
COP_DEVICE void cop__hear_maxima(const cop__fold<D, W> &f, float (&most)[2]) {
    const float *from =
        cop_shared_as<float>(cop__exchange_of<D>(f.group()) + cop__shared<D>::maxima);
    COP_UNROLL
    for (int part = 0; part < W; part++) {
        COP_UNROLL
        for (int h = 0; h < 2; h++)
            most[h] = cop_max(most[h], cop_lds(from + part * 16 + f.lane() / 4 + 8 * h));
    }
}

template <int D, int W>
COP_DEVICE void cop__tell_probabilities(const cop__fold<D, W> &f, const float (&p)[8 / W][4]) {
    const uint32_t at = cop__exchange_of<D>(f.group()), lane = f.lane();
    COP_UNROLL
    for (int b = 0; b < 4 / W; b++) {
        const uint32_t index = (f.part() * (4 / W) + b) * 32 + lane;
        uint32_t a[4];
        float g[2];
        cop__pack(p, b, a);
        cop__block_sums(p, b, g);
        cop_sts(cop_shared_as<uint4>(at, index), make_uint4(a[0], a[1], a[2], a[3]));
        cop_sts(cop_shared_as<float2>(at + cop__shared<D>::sums, index), {g[0], g[1]});
    }
}

/* ---- a leaf ---- */

/* Scores of the leaf in stage place, masked, and their maxima; they are told where W > 1. */
template <int D, int W>
COP_DEVICE void cop__leaf_scores(const cop__fold<D, W> &f, uint32_t place,
                                 const uint32_t (&seen)[2], float (&s)[8 / W][4],
                                 float (&most)[2]) {
    cop__scores<D, W>(f, cop__shared<D>::k(place), s);
    cop__mask_scores<W>(s, seen, f.part(), f.lane(), most);
    if (W > 1)
        cop__tell_maxima(f, most);
}

/* From probabilities to o and l. */
template <int D, int W>
COP_DEVICE void cop__leaf_values(cop__fold<D, W> &f, uint32_t place, const float (&p)[8 / W][4],
                                 const float (&factor)[2]) {
    const uint32_t v_at = cop__shared<D>::v(place);
    float g[4][2];
    uint32_t a[4];
    if constexpr (W == 1) {
        COP_UNROLL
        for (int b = 0; b < 4; b++)
            cop__block_sums(p, b, g[b]);
        cop__rescale(f, factor, g);
        COP_UNROLL
        for (int b = 0; b < 4; b++) {
            cop__pack(p, b, a);
            cop__values<D, W>(f, v_at, b, a);
        }
    } else {
        const uint32_t at = cop__exchange_of<D>(f.group()), lane = f.lane();
        COP_UNROLL
        for (int b = 0; b < 4; b++) {
            const float2 sum =
                cop_lds(cop_shared_as<float2>(at + cop__shared<D>::sums, b * 32 + lane));
            g[b][0] = sum.x;
            g[b][1] = sum.y;
        }
        cop__rescale(f, factor, g);
        COP_UNROLL
        for (int b = 0; b < 4; b++) {
            const uint4 told = cop_lds(cop_shared_as<uint4>(at, b * 32 + lane));
            a[0] = told.x;
            a[1] = told.y;
            a[2] = told.z;
            a[3] = told.w;
            cop__values<D, W>(f, v_at, b, a);
        }
    }
}

/* Folds the item's leaves into f. The board is set and ring places 0 and 1 are written; the block
 * has met since. On return other warps may still read shared memory. */
template <int D, int W>
COP_DEVICE void cop__fold_leaves(const cop__attention_io &io, cop__fold<D, W> &f) {
    typedef cop__shared<D> shared;
    cop__board *board = cop__board_of<D>();
    cop__fold_reset(f);
    if (cop_lds(&board->ring[0].tokens) == 0)
        return;
    cop__copy_query<D>(io);
    if (shared::two_stages)
        cop__copy_stage<D>(io, 0);
    else
        cop__copy_leaf<D>(io, 0, 0, shared::k(0));
    for (uint32_t i = 0;; i++) {
        const cop__leaf *leaf = &board->ring[i % COP__RING];
        if (cop_lds(&leaf->tokens) == 0)
            break;
        if (shared::two_stages && i > 0 && COP_MUTANT(attention_early_refill))
            cop__copy_stage<D>(io, i + 1);
        if (COP_MUTANT(attention_lax_wait))
            cop_cp_async_wait<1>();
        else
            cop_cp_async_wait_all();
        cop_sync_block();
        if (i == 0) {
            if constexpr (cop__fold<D, W>::keeps_query) {
                COP_UNROLL
                for (int k = 0; k < D / 16; k++)
                    cop__load_query(f, k, f.q[k]);
            }
            if (shared::two_stages)
                cop_sync_block(); /* Q lay in the stage that is filled next */
        }
        if (!shared::two_stages) {
            cop__copy_leaf<D>(io, i, 1, shared::v(i));
            cop_cp_async_commit();
        } else if (i == 0 || !COP_MUTANT(attention_early_refill)) {
            cop__copy_stage<D>(io, i + 1);
        }
        if (cop_warp() == 0)
            cop__walk_next<D>(io, i + 2);

        const uint32_t seen[2] = {cop__tokens_seen(io, leaf, f.slot[0]),
                                  cop__tokens_seen(io, leaf, f.slot[1])};
        const bool looks = COP_MUTANT(attention_eager_skip) ? cop_all(seen[0] > 0 || seen[1] > 0)
                                                            : cop_any(seen[0] > 0 || seen[1] > 0);
        float s[8 / W][4], most[2], factor[2];
        if (looks)
            cop__leaf_scores(f, i, seen, s, most);
        if (W > 1)
            cop_sync_block();
        if (!shared::two_stages) {
            if (cop_lds(&board->ring[(i + 1) % COP__RING].tokens) != 0)
                cop__copy_leaf<D>(io, i + 1, 0, shared::k(i + 1));
            cop_cp_async_commit();
        }
        if (looks) {
            if (W > 1)
                cop__hear_maxima(f, most);
            cop__probabilities(f, io.c, most, s, factor);
            if (W > 1)
                cop__tell_probabilities(f, s);
        }
        if (!shared::two_stages)
            cop_cp_async_wait<1>();
        if (W > 1 && !(shared::two_stages && COP_MUTANT(attention_exchange)))
            cop_sync_block();
        if (looks)
            cop__leaf_values(f, i, s, factor);
    }
}
