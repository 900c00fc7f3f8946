/* advance, patch, copy_pages: what keeps the device's tables and pages up to date.
 * Computes  advance:    lengths of open segments, positions of their rows, keys and script places
 * of their orders move on; the layers' tickets and the rows' failure marks become 0 patch:
 * table[index ..] = words, for each record copy_pages: the first tokens of a page to another one,
 * in every layer Units     words of 4 bytes; pages; tokens Launch    advance: one thread an entry,
 * block 256. patch: one warp a record, block 128. copy_pages: grid (copies, 2 h_kv, layers), block
 * 128; 16 bytes of dynamic shared memory, the others none Cost      cop_cost_advance,
 * cop_cost_patch, cop_cost_copy_pages Needs     copy_pages: d a multiple of 8, 16-byte aligned
 * pool, 65535 layers and heads at most Edges     a record that leaves its table or the words:
 * skipped, and named in `bad` Source    own; why a captured copy cannot do it: CUDA programming
 * guide, graph memcpy nodes Ladder    registers on sm_80 / 90 / 100 / 120; no spill anywhere
 *           advance 12 / 12 / 12 / 12, patch 16 / 20 / 32 / 38, copy_pages 22 / 20 / 32 / 26
 *           On paper only: patch with a thread a word that finds its record by bisection:
 *           log2(records) dependent loads before each store; here one 16-byte load by one lane
 *           and four shuffles
 * Bound     latency of one launch
 */
#include "kernels/step.cuh"

COP_MUTANT_DECLARE(advance_position, "positions do not move");
COP_MUTANT_DECLARE(advance_order, "keys of the draws do not move");
COP_MUTANT_DECLARE(advance_script, "places in the script do not move");
COP_MUTANT_DECLARE(advance_filler, "an entry of no tokens moves by one");
COP_MUTANT_DECLARE(advance_marks, "failure marks of the last step stay");
COP_MUTANT_DECLARE(patch_tail, "the last word of a record is not written");
COP_MUTANT_DECLARE(patch_unchecked, "a record may leave its table by one word");
COP_MUTANT_DECLARE(copy_tail, "one token too few is copied");
COP_MUTANT_DECLARE(copy_32_bits, "offsets of copied pages in 32 bits");

namespace {

enum { ADVANCE_THREADS = 256, THREADS = 128 };

COP_DEVICE void move_order(cop_sample_order *order, uint32_t tokens) {
    if (!COP_MUTANT(advance_order))
        cop_st(&order->position, cop_ld(&order->position) + tokens);
    const int32_t forced = cop_ld(&order->forced);
    if (forced <= COP_FORCED_SCRIPT && !COP_MUTANT(advance_script))
        cop_st(&order->forced, forced - static_cast<int32_t>(tokens));
}

COP_KERNEL(ADVANCE_THREADS, 4)
advance_kernel(const cop_advance_args a) {
    const uint32_t i = cop_block_x() * ADVANCE_THREADS + cop_thread();
    if (i < a.n_tickets)
        cop_st(a.tickets + i, 0u);
    if (i < a.n_rows && !COP_MUTANT(advance_marks)) {
        cop_st(a.row_failed + i, 0u);
        cop_st(a.segment_failed + cop_ld_nc(a.row_segment + i), 0u);
    }
    if (i >= a.n_open)
        return;
    cop_open_segment open =
        cop_bit_cast<cop_open_segment>(cop_ld_nc(reinterpret_cast<const uint4 *>(a.open) + i));
    if (COP_MUTANT(advance_filler) && open.tokens == 0)
        open.tokens = 1;
    if (open.tokens == 0)
        return;
    uint32_t *tokens = &a.segments[open.segment].tokens;
    cop_st(tokens, cop_ld(tokens) + open.tokens);
    if (open.row >= 0 && !COP_MUTANT(advance_position)) {
        int32_t *position = a.position + open.row;
        cop_st(position, cop_ld(position) + static_cast<int32_t>(open.tokens));
    }
    if (open.order >= 0)
        move_order(a.orders + open.order, open.tokens);
}

COP_KERNEL(THREADS, 8)
patch_kernel(const cop_patch_args a) {
    const uint32_t i = cop_block_x() * (THREADS / 32) + cop_warp();
    if (i >= a.n_records) /* whole warps */
        return;
    uint4 words = make_uint4(0, 0, 0, 0);
    if (cop_lane() == 0)
        words = cop_ld_nc(reinterpret_cast<const uint4 *>(a.records) + i);
    const cop_patch_record r = {cop_shfl(words.x, 0), cop_shfl(words.y, 0), cop_shfl(words.z, 0),
                                cop_shfl(words.w, 0)};
    bool good = r.table < a.n_tables && r.first <= a.n_words && r.n_words <= a.n_words - r.first;
    if (good) {
        const uint32_t size = a.tables[r.table].n_words + (COP_MUTANT(patch_unchecked) ? 1 : 0);
        good = r.index <= size && r.n_words <= size - r.index;
    }
    if (!good) {
        if (cop_lane() == 0)
            cop_atomic_max(a.bad, i + 1);
        return;
    }
    const uint32_t n = r.n_words - (COP_MUTANT(patch_tail) ? 1 : 0);
    uint32_t *to = a.tables[r.table].words + r.index;
    for (uint32_t w = cop_lane(); w < n; w += 32)
        cop_st(to + w, cop_ld_nc(a.words + r.first + w));
}

COP_DEVICE uint64_t head_offset(const cop_copy_pages_args &a, uint32_t page) {
    const uint32_t is_v = cop_block_y() / a.n_kv_heads, head = cop_block_y() % a.n_kv_heads;
    const uint64_t at =
        cop_pool_offset(page, is_v, head, 0, a.n_kv_heads, a.page_tokens, a.head_dim);
    return COP_MUTANT(copy_32_bits) ? static_cast<uint32_t>(at) : at;
}

COP_KERNEL(THREADS, 8)
copy_pages_kernel(const cop_copy_pages_args a) {
    uint32_t *copy = cop_shared_as<uint32_t>(0);
    if (cop_thread() < 3) /* from, to, tokens */
        cop_sts(
            copy + cop_thread(),
            cop_ld_nc(reinterpret_cast<const uint32_t *>(a.copies + cop_block_x()) + cop_thread()));
    cop_sync_block();
    uint16_t *layer = a.pool + cop_block_z() * a.layer_elements;
    const uint4 *from = reinterpret_cast<const uint4 *>(layer + head_offset(a, cop_lds(copy)));
    uint4 *to = reinterpret_cast<uint4 *>(layer + head_offset(a, cop_lds(copy + 1)));
    const uint32_t tokens = cop_lds(copy + 2) - (COP_MUTANT(copy_tail) ? 1 : 0);
    for (uint32_t i = cop_thread(); i < tokens * (a.head_dim / 8); i += THREADS)
        cop_st(to + i, cop_ld(from + i));
}

} // namespace

extern "C" int cop_launch_advance(const cop_advance_args *args, void *stream) {
    uint32_t n = args->n_open > args->n_rows ? args->n_open : args->n_rows;
    n = n > args->n_tickets ? n : args->n_tickets;
    if (n == 0)
        return 0;
    return cop_launch(advance_kernel, (n + ADVANCE_THREADS - 1) / ADVANCE_THREADS, ADVANCE_THREADS,
                      0, stream, *args);
}

extern "C" int cop_launch_patch(const cop_patch_args *args, void *stream) {
    if (args->n_tables > COP_PATCH_TABLES_MAX)
        return 1;
    if (args->n_records == 0)
        return 0;
    const uint32_t warps = THREADS / 32;
    return cop_launch(patch_kernel, (args->n_records + warps - 1) / warps, THREADS, 0, stream,
                      *args);
}

extern "C" int cop_launch_copy_pages(const cop_copy_pages_args *args, void *stream) {
    if (args->head_dim == 0 || args->head_dim % 8 != 0 || args->n_layers > 65535 ||
        args->n_kv_heads == 0 || args->n_kv_heads > 32767)
        return 1;
    if (args->n_copies == 0 || args->n_layers == 0)
        return 0;
    const dim3 grid(args->n_copies, 2 * args->n_kv_heads, args->n_layers);
    return cop_launch(copy_pages_kernel, grid, THREADS, 16, stream, *args);
}
