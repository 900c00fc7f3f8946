/* attention_tree: all rows of a step over an arbitrary DAG of KV segments, in one launch a layer.
 *
 * Computes   o = softmax(q k^T * scale) v ; lse in base 2, over what each row's view holds
 * Shapes     q, out [rows, heads, d] bf16; pool [page][K|V][kv_head][token][d] bf16; lse [rows,
 *            heads] f32 or NULL; partials f32 [partial, heads, d] and [partial, heads, 2]
 * How        An item is a tile of neighbouring slots and a chunk of their views; for each KV head
 *            a block walks the union of the segments that the tile's slots see and folds leaf after
 *            leaf (attention_fold.cuh). Narrow tiles (up to 16 rows) share their rows among four
 *            warps, wide ones (up to 64, at d = 256 up to 32) give 16 rows to a warp (two at 256).
 *            Rows of several chunks leave partials; the block that brings a slot's last one merges
 *            them in the order of their index (attention_merge.cuh).
 *
 * Launch     grid SMs x resident blocks (or as given), block 128; blocks draw items by a ticket,
 *            longest first, KV heads innermost. Shared memory 37,648 / 54,032 / 70,416 / 90,128
 *            bytes at d = 64 / 96 / 128 / 256: K and V of two leaves (one at 256, and Q), what
 *            warps tell one another, the tile's slots, four leaf descriptors.
 * Cost       cop_cost_attention, byte for byte as counted by the emulation. Heads in parts (more
 *            query heads to a KV head than a tile has rows) load K and V once for each part.
 * Needs      d in {64, 96, 128, 256}; pages of 16, 32, 64 tokens; 16-byte aligned rows and tables;
 *            tiles of at most cop_attention_tile_slots slots; q_shift = 0
 * Edges      no key: out = 0, lse = -inf (rows of no item: cop__clear_blind_rows); K and V beyond a
 *            segment's tokens are zeros, never what the page holds; offsets have 64 bits
 * Source     FlashAttention-2 (2023), section 3; FlashInfer (MLSys'25), sections 2 and 3; Milakov
 *            and Gimelshein (2018) for the fold
 *
 * Registers  ptxas of CUDA 13.0, no spills; resident blocks by registers and shared memory:
 *
 *              d     sm_80     sm_90     sm_100    sm_120
 *              64    164, 3    167, 3    167, 3    227, 2
 *              96    199, 2    207, 2    249, 2    250, 1
 *              128   246, 2    251, 2    255, 2    255, 1
 *              256   246, 1    254, 2    252, 2    247, 1
 *
 * Banks      no conflict anywhere in shared memory, as counted by the emulation (32 banks of four
 *            bytes). Cycles of all requests, each equal to its phases, for one KV head and 256
 *            tokens, by a narrow tile of 16 rows / a wide one of 32; in one chunk, then in four
 *            that are merged:
 *
 *              d     one chunk        four chunks
 *              64    2,501 / 2,329    3,929 /  4,137
 *              96    3,133 / 3,241    4,729 /  5,289
 *              128   3,765 / 4,153    5,529 /  6,441
 *              256   6,289 / 9,329    8,713 / 11,849
 *
 * Bound      by memory in decode: a tile of M rows does M flops for each byte of KV, and 16 to 64
 *            rows lie below every listed device's ridge. Prefill tiles are bound by mma.sync.
 *
 * Ladder     v1 every thread walks the entries, state in registers: at d = 64 / 96 / 128 / 256 on
 *               sm_90 128 / 168 / 255 / 255 registers and 148 / 188 / 0 / 356 spilled bytes
 *            v2 warp 0 walks, its state in shared memory: 36 / 92 / 0 / 200 bytes
 *            v3 the item's numbers in shared memory as well: d = 128 fits everywhere but sm_120
 *            v4 held to 3 / 2 / 2 / 2 blocks instead of 4 / 3 / 2 / 2, the wide tile of d = 256
 *               reads Q from shared memory for each leaf (90 KB instead of 74: one block on sm_80,
 *               not two): 0 / 0 / 0 / 0, on sm_120 24 / 0 / 12 / 0
 *            v5 lanes by cop__me where V is read, two blocks at d = 64 on sm_120: no spills
 *            Tried and left: copy loops not unrolled (nothing gained), the two classes as functions
 *            of their own (spills move into them), one class alone (208 registers at d = 128, none
 *            spilled: the two together cost 43). A ticket drawn an item ahead would hide the atomic
 *            and keep a long item from an idle block.
 */
#include "kernels/attention_merge.cuh"
#include "kernels/launch.cuh"

COP_MUTANT_DECLARE(attention_chunk_count, "a slot takes part in a chunk that it does not have");
COP_MUTANT_DECLARE(attention_absent_row, "slots that sit the step out take part");

static_assert(sizeof(cop_walk_entry) == 32 && sizeof(cop_item) == 16 && sizeof(cop_segment) == 8,
              "tables are read in words");

/* Resident blocks that ptxas is held to; sm_120 has shared memory for two of 37 KB. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
#define COP__BLOCKS_64 2
#else
#define COP__BLOCKS_64 3
#endif

/* Warp 0: which slots of the tile take part, and where the walk begins. */
template <int D>
COP_DEVICE void cop__board_set(const cop__attention_io &io, const cop_attention_args &args,
                               const cop_item &item) {
    cop__board *board = cop__board_of<D>();
    const cop_tile *tile = args.tiles + item.tile;
    const uint32_t n_slots = cop_ld_nc(&tile->n_slots);
    uint32_t partials = 0;
    uint64_t present = 0;
    COP_UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        const uint32_t s = 32 * half + cop_lane();
        const int32_t slot = s < n_slots ? cop_ld_nc(&tile->slot[s]) : COP_SLOT_HOLE;
        int32_t row = -1;
        uint32_t n = 0;
        if (slot >= 0) {
            const cop_slot *entry = args.slots + slot;
            row = cop_ld_nc(&entry->row);
            n = cop_ld_nc(&entry->n_partials);
            if (COP_MUTANT(attention_absent_row) && row < 0 && n > item.chunk)
                row = 0;
            if (item.chunk >= n + (COP_MUTANT(attention_chunk_count) ? 1 : 0))
                row = -1;
            cop_sts(&board->slot[s], static_cast<uint32_t>(slot));
            cop_sts(&board->first_partial[s], cop_ld_nc(&entry->first_partial));
            cop_sts(&board->n_partials[s], n);
        }
        cop_sts(&board->row[s], row);
        present |= static_cast<uint64_t>(cop_ballot(row >= 0)) << 32 * half;
        partials |= cop_ballot(row >= 0 && n > 1);
    }
    cop_sts(&board->any_partial, partials);
    cop__walk walk = {};
    walk.present = present;
    walk.entry = item.first_entry;
    walk.end = item.first_entry + item.n_entries;
    walk.limits = COP_LIMITS_NONE;
    cop__walk_begin<D>(io, walk);
}

template <int D, int W> COP_DEVICE void cop__item_run(const cop__attention_io &io) {
    cop__fold<D, W> f;
    cop__fold_leaves<D, W>(io, f);
    cop__fold_finish(io, f);
}

/* Rows that see nothing stand in no item: zeros, by whoever comes to their slot. */
template <int D>
COP_DEVICE void cop__clear_blind_rows(const cop__attention_io &io, const cop_attention_args &args) {
    const uint32_t n_slots = cop_ld_nc(&args.queue->n_slots), warps = COP__BLOCK / 32;
    const uint32_t lane = cop_lane();
    for (uint32_t s = cop_block_x() * warps + cop_warp(); s < n_slots; s += cop_grid_x() * warps) {
        const int32_t row = cop_ld_nc(&args.slots[s].row);
        if (row < 0 || cop_ld_nc(&args.slots[s].n_partials) != 0)
            continue;
        uint4 *to = reinterpret_cast<uint4 *>(io.out + cop__output_at(io, row, 0, D));
        for (uint32_t i = lane; i < io.n_heads * (D / 8); i += 32)
            cop_st(to + i, make_uint4(0, 0, 0, 0));
        for (uint32_t h = lane; io.lse && h < io.n_heads; h += 32)
            cop_st(io.lse + static_cast<uint64_t>(row) * io.n_heads + h, -INFINITY);
    }
}

/* Draws the next item; the block has met when this returns, so that shared memory is free. */
template <int D> COP_DEVICE uint32_t cop__draw(uint32_t *ticket) {
    cop__board *board = cop__board_of<D>();
    if (cop_thread() == 0)
        cop_sts(&board->ticket, cop_atomic_add(ticket, 1));
    cop_sync_block();
    return cop_lds(&board->ticket);
}

/* Warp 0: the item and the heads behind a ticket, and the board for them. */
template <int D>
COP_DEVICE void cop__work_begin(const cop__attention_io &io, const cop_attention_args &args,
                                uint32_t work) {
    struct alignas(16) words {
        uint32_t word[4];
    };
    constexpr uint32_t rows_max = cop__shared<D>::rows;
    const uint32_t group = io.n_heads / io.n_kv_heads, units = io.n_kv_heads * io.parts;
    const words w = cop_ld_nc(reinterpret_cast<const words *>(args.items + work / units));
    const cop_item item = {w.word[0], w.word[1], w.word[2], w.word[3]};
    cop__job job;
    job.chunk = item.chunk;
    job.kv_head = work % units / io.parts;
    job.part = work % units % io.parts;
    const uint32_t left = group - job.part * rows_max;
    job.head = job.kv_head * group + job.part * rows_max;
    job.heads = left < rows_max ? left : rows_max;
    job.n_rows = cop_ld_nc(&args.tiles[item.tile].n_slots) * job.heads;
    if (cop_lane() == 0)
        cop__job_set<D>(job);
    cop__board_set<D>(io, args, item);
}

template <int D>
COP_KERNEL(COP__BLOCK, D == 64 ? COP__BLOCKS_64 : 2)
attention_tree_kernel(cop__attention_io io, cop_attention_args args) {
    cop__clear_blind_rows<D>(io, args);
    const cop__board *board = cop__board_of<D>();
    for (;;) {
        const uint32_t work = cop__draw<D>(args.ticket);
        if (work >= cop_ld_nc(&args.queue->n_items) * io.n_kv_heads * io.parts)
            return;
        if (cop_warp() == 0)
            cop__work_begin<D>(io, args, work);
        cop_sync_block();
        if (cop_lds(&board->job.n_rows) <= COP_ATTENTION_NARROW_ROWS &&
            !(args.flags & COP_ATTENTION_WIDE_ONLY))
            cop__item_run<D, 4>(io);
        else
            cop__item_run<D, cop__shared<D>::wide>(io);
        if (cop_lds(&board->any_partial) != 0 && !(args.flags & COP_ATTENTION_SEPARATE_MERGE))
            cop__arrive<D>(io, args.counters);
    }
}

template <int D> static int blocks_of(uint32_t *n_blocks) {
    return cop_resident_blocks(attention_tree_kernel<D>, COP__BLOCK, cop__shared<D>::bytes,
                               n_blocks);
}

template <int D> static int launch(const cop_attention_args *args, void *stream) {
    uint32_t n_blocks = args->n_blocks;
    if (n_blocks == 0) {
        const int error = blocks_of<D>(&n_blocks);
        if (error)
            return error;
    }
    return cop_launch(attention_tree_kernel<D>, dim3(n_blocks), COP__BLOCK, cop__shared<D>::bytes,
                      stream, cop__attention_io_of(args), *args);
}

extern "C" const char *cop_attention_unsupported(uint32_t head_dim, uint32_t n_heads,
                                                 uint32_t n_kv_heads, uint32_t page_tokens) {
    if (head_dim != 64 && head_dim != 96 && head_dim != 128 && head_dim != 256)
        return "the attention kernels have head sizes 64, 96, 128 and 256";
    if (n_heads == 0 || n_kv_heads == 0 || n_heads % n_kv_heads != 0)
        return "the query heads must share the KV heads evenly";
    if (page_tokens != 16 && page_tokens != 32 && page_tokens != 64)
        return "the attention kernels have pages of 16, 32 and 64 tokens";
    return nullptr;
}

extern "C" int cop_attention_blocks(uint32_t head_dim, uint32_t *n_blocks) {
    switch (head_dim) {
    case 64:
        return blocks_of<64>(n_blocks);
    case 96:
        return blocks_of<96>(n_blocks);
    case 128:
        return blocks_of<128>(n_blocks);
    case 256:
        return blocks_of<256>(n_blocks);
    }
    return 1;
}

extern "C" int cop_launch_attention_tree(const cop_attention_args *args, void *stream) {
    if (cop_attention_unsupported(args->head_dim, args->n_heads, args->n_kv_heads,
                                  args->page_tokens) ||
        args->q_stride % 8 || args->out_stride % 8)
        return 1;
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
