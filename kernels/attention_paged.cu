/* attention_paged: each row walks a page table of its own; what rows share is read once for each.
 *
 * Computes   o = softmax(q k^T * scale) v over the tokens of row r's page table, lse in base 2: the
 *            baseline that attention_tree is measured against. A row's query heads of one KV head
 *            are one narrow tile; long rows are split every `chunk_tokens`, and the last of a row's
 *            blocks merges. The arithmetic is the tree's: the same bits on a view of one segment.
 * Shapes     q, out [rows, heads, d] bf16; pool [page][K|V][kv_head][token][d] bf16;
 *            partials f32 [row * max_chunks + chunk][head][d] and [..][2]
 * Launch     grid (rows, KV heads x parts, max_chunks), block 128, shared memory as attention_tree
 * Cost       4 d tokens bytes of KV for each row and KV head, however much the rows share
 * Needs      d in {64, 96, 128, 256}; 16-byte aligned rows; pages of 16, 32 or 64 tokens
 * Edges      no token: out = 0, lse = -inf
 * Source     PagedAttention (SOSP'23), section 4.3; Flash-Decoding (2023) for the split
 * Ladder     v1 the fold of attention_tree with one slot a tile: what differs between the two is
 *            sharing and nothing else. Registers at d = 64 / 96 / 128 / 256: sm_80 96 / 98 / 112 /
 *            176, sm_90 96 / 97 / 114 / 173, sm_100 108 / 136 / 154 / 222, sm_120 110 / 138 / 152 /
 *            219; no spills. Bound by memory.
 */
#include "kernels/attention_merge.cuh"
#include "kernels/launch.cuh"

COP_MUTANT_DECLARE(attention_paged_split, "a split row leaves out the leaf at the cut");

/* The row as a tile of one slot, its chunk as what is left of an entry under way. */
template <int D>
COP_DEVICE void cop__paged_begin(const cop__attention_io &io, uint32_t row, cop_segment table,
                                 uint32_t chunk, uint32_t chunk_tokens, uint32_t max_chunks) {
    cop__board *board = cop__board_of<D>();
    const uint32_t lane = cop_lane();
    const uint32_t n = (table.tokens + chunk_tokens - 1) / chunk_tokens;
    const uint32_t at =
        chunk * chunk_tokens + (COP_MUTANT(attention_paged_split) && chunk > 0 ? COP__LEAF : 0);
    const uint32_t end = (chunk + 1) * chunk_tokens;
    for (uint32_t s = lane; s < COP_TILE_SLOTS_MAX; s += 32)
        cop_sts(&board->row[s], s == 0 ? static_cast<int32_t>(row) : -1);
    if (lane == 0) {
        cop_sts(&board->slot[0], row);
        cop_sts(&board->first_partial[0], row * max_chunks);
        cop_sts(&board->n_partials[0], n == 0 ? 1 : n);
    }
    cop__walk walk = {};
    walk.present = walk.mask = 1;
    walk.at = at;
    walk.last = end < table.tokens ? end : table.tokens;
    walk.table = table.page_table_offset;
    walk.limits = COP_LIMITS_NONE;
    cop__walk_begin<D>(io, walk);
}

template <int D>
COP_KERNEL(COP__BLOCK, D == 64 ? 4 : 2)
attention_paged_kernel(cop__attention_io io, const cop_segment *rows, uint32_t *counters,
                       uint32_t chunk_tokens, uint32_t max_chunks) {
    struct alignas(8) pair {
        uint32_t offset, tokens;
    };
    constexpr uint32_t rows_max = COP_ATTENTION_NARROW_ROWS;
    const uint32_t row = cop_block_x(), chunk = cop_block_z();
    const uint32_t group = io.n_heads / io.n_kv_heads, part = cop_block_y() % io.parts;
    const pair table = cop_ld_nc(reinterpret_cast<const pair *>(rows + row));
    if (chunk > 0 && chunk * chunk_tokens >= table.tokens)
        return;
    if (cop_warp() == 0) {
        cop__job job;
        job.chunk = chunk;
        job.kv_head = cop_block_y() / io.parts;
        job.part = part;
        job.head = job.kv_head * group + part * rows_max;
        job.heads = group - part * rows_max < rows_max ? group - part * rows_max : rows_max;
        job.n_rows = job.heads;
        if (cop_lane() == 0)
            cop__job_set<D>(job);
        cop__paged_begin<D>(io, row, {table.offset, table.tokens}, chunk, chunk_tokens, max_chunks);
    }
    cop_sync_block();
    cop__fold<D, 4> f;
    cop__fold_leaves<D, 4>(io, f);
    cop__fold_finish(io, f);
    if (table.tokens > chunk_tokens)
        cop__arrive<D>(io, counters);
}

template <int D> static int launch(const cop_attention_paged_args *args, void *stream) {
    const cop__attention_io io =
        cop__attention_common(args, cop_attention_paged_parts(args->n_heads / args->n_kv_heads));
    const uint32_t leaves = (args->chunk_tokens + COP__LEAF - 1) / COP__LEAF;
    return cop_launch(attention_paged_kernel<D>,
                      dim3(args->n_rows, args->n_kv_heads * io.parts, args->max_chunks), COP__BLOCK,
                      cop__shared<D>::bytes, stream, io, args->rows, args->counters,
                      leaves * COP__LEAF, args->max_chunks);
}

extern "C" int cop_launch_attention_paged(const cop_attention_paged_args *args, void *stream) {
    if (cop_attention_unsupported(args->head_dim, args->n_heads, args->n_kv_heads,
                                  args->page_tokens) ||
        args->q_stride % 8 || args->out_stride % 8 || args->chunk_tokens == 0 ||
        args->max_chunks == 0)
        return 1;
    const uint64_t leaves = (static_cast<uint64_t>(args->chunk_tokens) + COP__LEAF - 1) / COP__LEAF;
    if (leaves * COP__LEAF * args->max_chunks >
        UINT32_MAX) /* the kernel counts tokens in 32 bits */
        return 1;
    if (args->n_rows == 0)
        return 0;
    switch (args->head_dim) {
    case 64:
        return launch<64>(args, stream);
    case 96:
        return launch<96>(args, stream);
    case 128:
        return launch<128>(args, stream);
    }
    return launch<256>(args, stream);
}
