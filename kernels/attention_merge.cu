/* attention_merge: the partials of every row, merged by a launch of its own.
 *
 * Computes   what the last arriver of attention_tree computes, in the same order: an oracle for it,
 *            bit for bit, and the second launch of whoever wants the merge apart. Rows of one chunk
 *            and rows that see nothing were written by the launch before, and are left alone.
 * Shapes     partial_o [partial, heads, d] f32, partial_ml [partial, heads, 2] f32,
 *            out [rows, heads, d] bf16, lse [rows, heads] f32 in base 2 or NULL
 * Launch     grid args.n_slots, block 128: a warp takes one query head of the slot after another
 * Cost       reads (d + 2) * 4 bytes for each partial and head, writes 2 d for each row and head
 * Needs      d in {64, 96, 128, 256}
 * Source     FlashInfer (MLSys'25), section 2.2: the merge of two attention states, made n-ary so
 *            that its order is that of the index
 * Ladder     v1 one warp a (row, head), float2 a lane, weights through shared memory: 48 to 64
 *            registers, no spills on sm_80 to sm_120, 16 KB (weights of 512 partials a warp).
 *            Bound by memory.
 */
#include "kernels/attention_merge.cuh"
#include "kernels/launch.cuh"

template <int D>
COP_KERNEL(COP__BLOCK, 8)
attention_merge_kernel(cop__attention_io io, const cop_slot *slots) {
    const cop_slot *slot = slots + cop_block_x();
    const int32_t row = cop_ld_nc(&slot->row);
    const uint32_t n = cop_ld_nc(&slot->n_partials);
    if (row < 0 || n < 2)
        return;
    cop__weight *scratch = cop_shared_as<cop__weight>(0, cop_warp() * COP__WEIGHTS);
    for (uint32_t head = cop_warp(); head < io.n_heads; head += COP__BLOCK / 32)
        cop__merge_row<D>(io, row, head, cop_ld_nc(&slot->first_partial), n, 0, scratch);
}

template <int D> static int launch(const cop_attention_args *args, void *stream) {
    const size_t scratch = COP__BLOCK / 32 * COP__WEIGHTS * sizeof(cop__weight);
    return cop_launch(attention_merge_kernel<D>, dim3(args->n_slots), COP__BLOCK, scratch, stream,
                      cop__attention_io_of(args), args->slots);
}

extern "C" int cop_launch_attention_merge(const cop_attention_args *args, void *stream) {
    if (cop_attention_unsupported(args->head_dim, args->n_heads, args->n_kv_heads,
                                  args->page_tokens))
        return 1;
    if (args->n_slots == 0)
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
