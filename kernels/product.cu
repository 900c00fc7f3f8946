/* product: a skinny matrix product whose rows do not know of one another (the invariant mode).
 * Computes  y[r][n] = sum over k of x[r][k] w[n][k], fp32 accumulation
 * Shapes    x [rows, inputs] bf16, 1 to 64 rows; w [outputs, inputs] bf16; y [rows, outputs] bf16
 *           or f32
 * Launch    grid (tiles of 32 outputs, blocks of K), block 128, dynamic shared memory
 *           576 * rows8 + 16 bytes (rows8: the row tiles' 8, 16, 32 or 64 rows)
 * Cost      cop_cost_product: weights once; x once for each tile of outputs; partials written and
 *           read where K is cut
 * Needs     inputs a multiple of 8; rows of x and w 16-byte aligned
 * Edges     inputs that end inside a slice and outputs that end inside a tile: zeros take part
 * Bits      The cut of K is a function of (outputs, inputs) alone. A warp sums one slice: for each
 *           32 inputs two m16n8k16 steps; step s = 0, 1 takes of the eight inputs 8t .. 8t + 7 of
 *           lane t the four from 4s on (position 2t + i is input 8t + 4s + i, position 2t + 8 + i
 *           is 8t + 4s + 2 + i). Weights are the 16 x 16 operand and rows the columns of the other
 *           one, so a row is a column of its own at every row count. Four slices are added in index
 *           order, then the blocks' partials in index order, whoever comes last.
 * Source    last-arriver reduction: CUDA samples, threadFenceReduction; batch invariance: He et al.
 *           2025 (Thinking Machines)
 * Ladder    registers at 8 / 16 / 32 / 64 rows on sm_80 and on sm_90; no spill anywhere
 *           v1 32 inputs in flight a lane:  55 / 64 / 86 / 138 and 55 / 68 / 92 / 146
 *           v2 128 inputs:                  52 / 64 / 92 / 148 and 52 / 71 / 100 / 166
 *           v3 this one, 64 inputs:         52 / 68 / 94 / 150 and 52 / 78 / 100 / 160
 *              (sm_100 and sm_120: 92 / 108 / 128 / 192); v1 to v3 give the same bits, and the
 *              choice waits for a measurement
 *           On paper only: 16 outputs a warp instead of 32 loads 4 bytes of x for each byte of
 *           weights at 64 rows, here 2 (0.25 at 8 rows). Rows as the 16-row operand: half of the
 *           tensor work is padding at 8 rows or fewer. K is permuted inside each 32 so that a lane
 *           loads 16 bytes of a row and nothing passes through shared memory but the sums.
 * Bound     bytes of weights up to 16 rows, L2 traffic of x above
 */
#include "kernels/step.cuh"

COP_MUTANT_DECLARE(product_slice_tail, "the last inputs of a slice are left out");
COP_MUTANT_DECLARE(product_no_sum_barrier, "slices are added before they are there");
COP_MUTANT_DECLARE(product_arrival_order, "partials are added from the last arriver's on");
COP_MUTANT_DECLARE(product_dirty, "the counter is left as it is");
COP_MUTANT_DECLARE(product_no_fence, "partials are counted without being published");
COP_MUTANT_DECLARE(product_early_count, "a block counts before all its threads have stored");

namespace {

enum { THREADS = COP_PRODUCT_WARPS * 32, OUTPUTS = COP_PRODUCT_OUTPUTS };
enum { SUM_STRIDE = OUTPUTS + 4 }; /* floats: the rows of a fragment lie in different banks */
enum { SUMS_AT = 16 };

COP_DEVICE uint4 load_or_zero(const uint16_t *from, bool there) {
    return there ? cop_ld_nc(reinterpret_cast<const uint4 *>(from)) : make_uint4(0, 0, 0, 0);
}

/* What a lane reads: two halves of two 16-output tiles, and one row for each row tile. */
template <int RowTiles> struct sources {
    const uint16_t *w[4], *x[RowTiles];
    bool has_w[4], has_x[RowTiles];
};

template <int RowTiles>
COP_DEVICE void find_sources(const cop_product_args &a, sources<RowTiles> &s) {
    const uint32_t g = cop_lane() / 4;
    COP_UNROLL
    for (int i = 0; i < 4; i++) {
        const uint32_t output = cop_block_x() * OUTPUTS + g + 8 * static_cast<uint32_t>(i);
        s.has_w[i] = output < a.outputs;
        s.w[i] = a.w + static_cast<uint64_t>(s.has_w[i] ? output : 0) * a.inputs;
    }
    COP_UNROLL
    for (int i = 0; i < RowTiles; i++) {
        const uint32_t row = g + 8 * static_cast<uint32_t>(i);
        s.has_x[i] = row < a.n_rows;
        const uint32_t from = !s.has_x[i] ? 0 : a.x_rows ? cop_ld_nc(a.x_rows + row) : row;
        s.x[i] = a.x + from * a.x_stride;
    }
}

/* The warp's slice. c[o][r]: outputs 16 o + g (+ 8), rows 8 r + 2 t (+ 1). */
template <int RowTiles>
COP_DEVICE void sum_slice(const cop_product_args &a, const cop_product_split &split,
                          float (&c)[2][RowTiles][4]) {
    sources<RowTiles> s;
    find_sources(a, s);
    const uint32_t begin = (cop_block_y() * COP_PRODUCT_WARPS + cop_warp()) * split.slice;
    uint32_t end = begin + split.slice < a.inputs ? begin + split.slice : a.inputs;
    if (COP_MUTANT(product_slice_tail) && end > begin)
        end -= 8;
#ifndef COP_EMULATE
#pragma unroll 2
#endif
    for (uint32_t k = begin; k < end; k += 32) {
        const uint32_t at = k + cop_lane() % 4 * 8;
        uint4 w[4];
        COP_UNROLL
        for (int i = 0; i < 4; i++)
            w[i] = load_or_zero(s.w[i] + at, s.has_w[i] && at < end);
        COP_UNROLL
        for (int r = 0; r < RowTiles; r++) {
            const uint4 x = load_or_zero(s.x[r] + at, s.has_x[r] && at < end);
            COP_UNROLL
            for (int o = 0; o < 2; o++) {
                const uint4 u = w[2 * o], v = w[2 * o + 1];
                const uint32_t first[4] = {u.x, v.x, u.y, v.y}, second[4] = {u.z, v.z, u.w, v.w};
                cop_mma_bf16(c[o][r], first, x.x, x.y);
                cop_mma_bf16(c[o][r], second, x.z, x.w);
            }
        }
    }
}

COP_DEVICE float *sum_at(uint32_t rows, uint32_t warp, uint32_t row, uint32_t output) {
    return cop_shared_as<float>(SUMS_AT, (warp * rows + row) * SUM_STRIDE + output);
}

template <int RowTiles> COP_DEVICE void stage_sums(const float (&c)[2][RowTiles][4]) {
    const uint32_t g = cop_lane() / 4, t = cop_lane() % 4, rows = 8 * RowTiles;
    COP_UNROLL
    for (uint32_t o = 0; o < 2; o++)
        COP_UNROLL
    for (uint32_t r = 0; r < RowTiles; r++)
        COP_UNROLL
    for (uint32_t i = 0; i < 4; i++)
        cop_sts(sum_at(rows, cop_warp(), 8 * r + 2 * t + i % 2, 16 * o + g + i / 2 * 8),
                c[o][r][i]);
}

COP_DEVICE void store_output(const cop_product_args &a, uint32_t row, uint32_t output, float sum) {
    const uint64_t at = row * a.y_stride + output;
    if (a.y_f32)
        cop_st(static_cast<float *>(a.y) + at, sum);
    else
        cop_st(static_cast<uint16_t *>(a.y) + at, cop_bf16_round(sum));
}

/* [tile][block of K][row][output of the tile] */
COP_DEVICE float *partial_at(const cop_product_args &a, uint32_t blocks, uint32_t block,
                             uint32_t i) {
    const uint64_t first = (static_cast<uint64_t>(cop_block_x()) * blocks + block) * a.n_rows;
    return a.workspace + first * OUTPUTS + i;
}

/* True in all threads of the block that came last. */
COP_DEVICE bool arrive_last(const cop_product_args &a, uint32_t blocks) {
    uint32_t *last = cop_shared_as<uint32_t>(0);
    if (!COP_MUTANT(product_early_count))
        cop_sync_block();
    if (cop_thread() == 0) {
        if (!COP_MUTANT(product_no_fence))
            cop_fence_device();
        const bool is_last = cop_atomic_add(a.counters + cop_block_x(), 1u) == blocks - 1;
        if (is_last && !COP_MUTANT(product_dirty))
            cop_atomic_exch(a.counters + cop_block_x(), 0u);
        if (!COP_MUTANT(product_no_fence))
            cop_fence_device();
        cop_sts(last, is_last ? 1u : 0u);
    }
    cop_sync_block();
    return cop_lds(last) != 0;
}

template <int RowTiles>
COP_KERNEL(THREADS, RowTiles > 4 ? 2 : 4)
product_kernel(const cop_product_args a, const cop_product_split split) {
    float c[2][RowTiles][4] = {};
    sum_slice<RowTiles>(a, split, c);
    stage_sums<RowTiles>(c);
    if (!COP_MUTANT(product_no_sum_barrier))
        cop_sync_block();
    const uint32_t rows = 8 * RowTiles, n = a.n_rows * OUTPUTS;
    for (uint32_t i = cop_thread(); i < n; i += THREADS) {
        const uint32_t row = i / OUTPUTS, output = i % OUTPUTS;
        float sum = cop_lds(sum_at(rows, 0, row, output));
        COP_UNROLL
        for (uint32_t w = 1; w < COP_PRODUCT_WARPS; w++)
            sum = cop_add_rn(sum, cop_lds(sum_at(rows, w, row, output)));
        if (split.blocks > 1)
            cop_st(partial_at(a, split.blocks, cop_block_y(), i), sum);
        else if (cop_block_x() * OUTPUTS + output < a.outputs)
            store_output(a, row, cop_block_x() * OUTPUTS + output, sum);
    }
    if (split.blocks == 1 || !arrive_last(a, split.blocks))
        return;
    for (uint32_t i = cop_thread(); i < n; i += THREADS) {
        const uint32_t from = COP_MUTANT(product_arrival_order) ? cop_block_y() : 0;
        float sum = cop_ld_cg(partial_at(a, split.blocks, from, i));
        for (uint32_t b = 1; b < split.blocks; b++)
            sum = cop_add_rn(sum,
                             cop_ld_cg(partial_at(a, split.blocks, (from + b) % split.blocks, i)));
        if (cop_block_x() * OUTPUTS + i % OUTPUTS < a.outputs)
            store_output(a, i / OUTPUTS, cop_block_x() * OUTPUTS + i % OUTPUTS, sum);
    }
}

template <int RowTiles>
int launch(const cop_product_args &a, const cop_product_split &split, void *stream) {
    const size_t shared = SUMS_AT + COP_PRODUCT_WARPS * RowTiles * 8 * SUM_STRIDE * sizeof(float);
    return cop_launch(product_kernel<RowTiles>, dim3(split.tiles, split.blocks), THREADS, shared,
                      stream, a, split);
}

} // namespace

extern "C" int cop_launch_product(const cop_product_args *args, void *stream) {
    const cop_product_args &a = *args;
    if (a.inputs == 0 || a.inputs % 8 != 0 || a.outputs == 0 || a.x_stride % 8 != 0 ||
        a.n_rows > COP_PRODUCT_ROWS_MAX)
        return 1;
    if (a.n_rows == 0)
        return 0;
    const cop_product_split split = cop_product_split_of(a.outputs, a.inputs);
    if (a.n_rows <= 8)
        return launch<1>(a, split, stream);
    if (a.n_rows <= 16)
        return launch<2>(a, split, stream);
    return a.n_rows <= 32 ? launch<4>(a, split, stream) : launch<8>(a, split, stream);
}
