/* append: a step's Q, K and V from the fused product's row to where attention reads them.
 * Computes  bias, norm of each head, rotary embedding (the first two where a model has them), then
 *           Q -> query, K and V -> the page and token of the row's segment
 * Shapes    qkv [rows, (h + 2 h_kv) d] bf16 or f32; query [rows, h, d] bf16;
 *           pool [page, 2, h_kv, page_tokens, d] bf16; cosine, sine [positions, d / 2] f32
 * Units     offsets in elements, 64 bits wide
 * Launch    grid (rows), block 256, dynamic shared memory 32 + 4 d bytes, and with norms
 *           4 (h + h_kv) (d + 9) more
 * Cost      cop_cost_append: every input once, every output once
 * Needs     d a multiple of 16, at most 256; 16-byte aligned
 * Edges     a row that is not finite (or failed before): zeros for Q, K and V, and it is marked;
 *           row_offset COP_AT_END: the segment's last token
 * Bits      those of the cpu backend (cop_cpu_heads_run of backend/cpu/ops.h), with bias, head
 * norms and either pairing; a pair (a, b) becomes (a cos - b sin, b cos + a sin), each product
 *           rounded
 * Source    Su et al. 2021 (RoFormer), section 3.4.2; pool layout after FlashInfer (MLSys'25), 3.1
 * Ladder    registers on sm_80 / 90 / 100 / 120, bf16 (f32) input; no spill anywhere
 *           v1 this one: 54 / 56 / 60 / 60 (56 / 56 / 64 / 64), with norms 54 / 56 / 64 / 64
 *              (56 / 56 / 64 / 64); four blocks a multiprocessor asked for or one: the same
 *           On paper only: a warp a head, angles from global memory for each head: 4 d (h + h_kv)
 *           bytes of angles a row for 4 d here. Values staged until the whole row is known to be
 *           finite: 2 d (h + 2 h_kv) bytes of shared memory more. Here they are stored at once, and
 *           the same threads store zeros over them in the rare row that fails.
 * Bound     latency at decode widths, bytes in prefill
 */
#include "kernels/step.cuh"

COP_MUTANT_DECLARE(append_pair_swapped, "the two elements of a rotary pair change places");
COP_MUTANT_DECLARE(append_wrong_page, "the page is looked up one token too far");
COP_MUTANT_DECLARE(append_flag_unset, "a row that is not finite is not marked");
COP_MUTANT_DECLARE(append_poison, "a row that is not finite stays in the pool");
COP_MUTANT_DECLARE(append_bias_unrounded, "a value with its bias is not rounded to bf16");
COP_MUTANT_DECLARE(append_bias_of_v, "V goes without its bias");
COP_MUTANT_DECLARE(append_head_norm_of_k, "K's heads take the norm of Q");
COP_MUTANT_DECLARE(append_head_factors, "every head is divided by the first one's length");
COP_MUTANT_DECLARE(append_halves_ignored, "halves are turned as neighbours");
COP_MUTANT_DECLARE(append_32_bits, "element offsets of the pool in 32 bits");
COP_MUTANT_DECLARE(append_no_barrier, "angles are read before they are staged");

namespace {

enum { THREADS = 256, PART = 16 }; /* elements that a thread works on: two 16-byte accesses */

struct row_header { /* in shared memory */
    uint32_t failed, segment, page, token;
    uint32_t bad, pad[3];
};
enum { ANGLES_AT = sizeof(row_header) };

COP_DEVICE uint32_t *header_word(uint32_t i) {
    return cop_shared_as<uint32_t>(0, i);
}

COP_DEVICE uint32_t factors_at(const cop_append_args &a) {
    return ANGLES_AT + a.head_dim * 4;
}
COP_DEVICE uint32_t values_at(const cop_append_args &a) {
    return factors_at(a) + (a.n_heads + a.n_kv_heads + 3) / 4 * 16;
}

/* Where a part's two vectors of eight begin in its head: rotary pairs meet in one thread. */
COP_DEVICE void part_at(const cop_append_args &a, uint32_t part, uint32_t &first,
                        uint32_t &second) {
    first = a.rope == COP_ROPE_HALVES ? part * 8 : part * PART;
    second = a.rope == COP_ROPE_HALVES ? first + a.head_dim / 2 : first + 8;
}

COP_DEVICE void load_floats(const float *from, float (&v)[8]) {
    const float4 low = cop_ld_nc(reinterpret_cast<const float4 *>(from));
    const float4 high = cop_ld_nc(reinterpret_cast<const float4 *>(from) + 1);
    v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
    v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
}

/* Eight values of the row after the bias. */
template <bool Wide>
COP_DEVICE void load_values(const cop_append_args &a, uint32_t at, float (&v)[8]) {
    const uint64_t width = static_cast<uint64_t>(a.n_heads + 2 * a.n_kv_heads) * a.head_dim;
    const uint64_t from = cop_block_x() * width + at;
    if (Wide)
        load_floats(static_cast<const float *>(a.qkv) + from, v);
    else
        cop_unpack8(
            cop_ld_nc(reinterpret_cast<const uint4 *>(static_cast<const uint16_t *>(a.qkv) + from)),
            v);
    if (!a.bias || (COP_MUTANT(append_bias_of_v) && at >= (a.n_heads + a.n_kv_heads) * a.head_dim))
        return;
    float bias[8];
    load_floats(a.bias + at, bias);
    COP_UNROLL
    for (int i = 0; i < 8; i++) {
        v[i] = cop_add_rn(v[i], bias[i]);
        if (!Wide && !COP_MUTANT(append_bias_unrounded))
            v[i] = cop_bf16_rounded(v[i]);
    }
}

/* Sums of squares in eight lanes (index modulo 8), a thread a lane. */
COP_DEVICE void norm_factors(const cop_append_args &a) {
    const uint32_t heads = a.n_heads + a.n_kv_heads, d = a.head_dim;
    for (uint32_t base = 0; base < heads * 8; base += THREADS) {
        const uint32_t i = base + cop_thread(), head = i / 8;
        float sum = 0.0f;
        for (uint32_t j = 0; head < heads && j < d; j += 8) {
            const float x =
                cop_lds(cop_shared_as<const float>(values_at(a), head * (d + 8) + j + i % 8));
            sum = cop_fma_rn(x, x, sum);
        }
        sum = cop_sum8(sum);
        if (head < heads && i % 8 == 0)
            cop_sts(cop_shared_as<float>(factors_at(a), head), cop_rms_factor(sum, d, a.eps));
    }
}

template <bool Wide> COP_DEVICE void stage_values(const cop_append_args &a) {
    const uint32_t vectors = a.head_dim / 8, n = (a.n_heads + a.n_kv_heads) * vectors;
    for (uint32_t i = cop_thread(); i < n; i += THREADS) {
        const uint32_t head = i / vectors, at = i % vectors * 8;
        float v[8];
        load_values<Wide>(a, head * a.head_dim + at, v);
        float4 *to = cop_shared_as<float4>(values_at(a), (head * (a.head_dim + 8) + at) / 4);
        cop_sts(to, make_float4(v[0], v[1], v[2], v[3]));
        cop_sts(to + 1, make_float4(v[4], v[5], v[6], v[7]));
    }
}

template <bool Wide>
COP_DEVICE void normed_values(const cop_append_args &a, uint32_t head, uint32_t at, float (&v)[8]) {
    const float r = cop_lds(
        cop_shared_as<const float>(factors_at(a), COP_MUTANT(append_head_factors) ? 0 : head));
    float weight[8];
    const bool is_q = head < a.n_heads || COP_MUTANT(append_head_norm_of_k);
    load_floats((is_q ? a.q_norm : a.k_norm) + at, weight);
    const float *from = cop_shared_as<const float>(values_at(a), head * (a.head_dim + 8) + at);
    COP_UNROLL
    for (int i = 0; i < 8; i++) {
        v[i] = cop_mul_rn(cop_mul_rn(cop_lds(from + i), r), weight[i]);
        if (!Wide)
            v[i] = cop_bf16_rounded(v[i]);
    }
}

COP_DEVICE void turn(float &x, float &y, float cosine, float sine) {
    const float a = x, b = y;
    x = cop_sub_rn(cop_mul_rn(a, cosine), cop_mul_rn(b, sine));
    y = cop_add_rn(cop_mul_rn(b, cosine), cop_mul_rn(a, sine));
    if (COP_MUTANT(append_pair_swapped)) {
        const float t = x;
        x = y;
        y = t;
    }
}

COP_DEVICE void rotate(const cop_append_args &a, uint32_t part, float (&u)[8], float (&v)[8]) {
    const float *cosine = cop_shared_as<const float>(ANGLES_AT, part * 8);
    const float *sine = cosine + a.head_dim / 2;
    if (a.rope == COP_ROPE_HALVES && !COP_MUTANT(append_halves_ignored)) {
        COP_UNROLL
        for (int i = 0; i < 8; i++)
            turn(u[i], v[i], cop_lds(cosine + i), cop_lds(sine + i));
        return;
    }
    COP_UNROLL
    for (int i = 0; i < 4; i++) {
        turn(u[2 * i], u[2 * i + 1], cop_lds(cosine + i), cop_lds(sine + i));
        turn(v[2 * i], v[2 * i + 1], cop_lds(cosine + 4 + i), cop_lds(sine + 4 + i));
    }
}

COP_DEVICE uint16_t *head_at(const cop_append_args &a, uint32_t head, uint32_t page,
                             uint32_t token) {
    if (head < a.n_heads)
        return a.query + (static_cast<uint64_t>(cop_block_x()) * a.n_heads + head) * a.head_dim;
    const uint32_t kv = head - a.n_heads, is_v = kv >= a.n_kv_heads ? 1u : 0u;
    uint64_t at = cop_pool_offset(page, is_v, kv - is_v * a.n_kv_heads, token, a.n_kv_heads,
                                  a.page_tokens, a.head_dim);
    if (COP_MUTANT(append_32_bits))
        at = static_cast<uint32_t>(at);
    return a.pool + at;
}

/* One part of a head; false when what it stored is not finite. */
template <bool Wide, bool Normed>
COP_DEVICE bool append_part(const cop_append_args &a, uint32_t head, uint32_t part, uint16_t *to) {
    uint32_t first, second;
    float u[8], v[8];
    part_at(a, part, first, second);
    if (Normed && head < a.n_heads + a.n_kv_heads) {
        normed_values<Wide>(a, head, first, u);
        normed_values<Wide>(a, head, second, v);
    } else {
        load_values<Wide>(a, head * a.head_dim + first, u);
        load_values<Wide>(a, head * a.head_dim + second, v);
    }
    if (head < a.n_heads + a.n_kv_heads)
        rotate(a, part, u, v);
    const uint4 low = cop_pack8(u), high = cop_pack8(v);
    cop_st(reinterpret_cast<uint4 *>(to + first), low);
    cop_st(reinterpret_cast<uint4 *>(to + second), high);
    return cop_finite8(low) && cop_finite8(high);
}

COP_DEVICE void read_header(const cop_append_args &a) {
    const uint32_t row = cop_block_x();
    const uint32_t segment = cop_ld_nc(a.row_segment + row);
    const cop_segment s =
        cop_bit_cast<cop_segment>(cop_ld_nc(reinterpret_cast<const uint2 *>(a.segments) + segment));
    uint32_t offset = cop_ld_nc(a.row_offset + row);
    if (offset == COP_AT_END)
        offset = s.tokens - 1;
    const uint32_t at = offset / a.page_tokens + (COP_MUTANT(append_wrong_page) ? 1 : 0);
    cop_sts(header_word(0), cop_ld(a.row_failed + row));
    cop_sts(header_word(1), segment);
    cop_sts(header_word(2), cop_ld_nc(a.page_table + s.page_table_offset + at));
    cop_sts(header_word(3), offset % a.page_tokens);
    cop_sts(header_word(4), 0u);
}

COP_DEVICE void stage_angles(const cop_append_args &a) {
    const uint32_t quarter = a.head_dim / 8; /* float4 of cosines; as many of sines */
    if (cop_thread() >= 2 * quarter)
        return;
    const uint32_t i = cop_thread() % quarter;
    const uint64_t at =
        static_cast<uint64_t>(cop_ld_nc(a.position + cop_block_x())) * (a.head_dim / 2) + i * 4;
    const float *from = cop_thread() < quarter ? a.cosine : a.sine;
    cop_sts(cop_shared_as<float4>(ANGLES_AT, cop_thread()),
            cop_ld_nc(reinterpret_cast<const float4 *>(from + at)));
}

template <bool Wide, bool Normed> COP_KERNEL(THREADS, 4) append_kernel(const cop_append_args a) {
    if (cop_thread() == 0)
        read_header(a);
    stage_angles(a);
    if (Normed)
        stage_values<Wide>(a);
    if (!COP_MUTANT(append_no_barrier))
        cop_sync_block();
    if (Normed) {
        norm_factors(a);
        cop_sync_block();
    }
    const uint32_t parts = a.head_dim / PART, n = (a.n_heads + 2 * a.n_kv_heads) * parts;
    const uint32_t page = cop_lds(header_word(2)), token = cop_lds(header_word(3));
    bool failed = cop_lds(header_word(0)) != 0;
    for (uint32_t i = cop_thread(); !failed && i < n; i += THREADS) {
        const uint32_t head = i / parts;
        if (!append_part<Wide, Normed>(a, head, i % parts, head_at(a, head, page, token)))
            cop_sts(header_word(4), 1u);
    }
    cop_sync_block();
    if (!failed && !cop_lds(header_word(4)))
        return;
    for (uint32_t i = cop_thread(); !COP_MUTANT(append_poison) && i < n; i += THREADS) {
        const uint32_t head = i / parts;
        uint32_t first, second;
        part_at(a, i % parts, first, second);
        uint16_t *to = head_at(a, head, page, token);
        cop_st(reinterpret_cast<uint4 *>(to + first), make_uint4(0, 0, 0, 0));
        cop_st(reinterpret_cast<uint4 *>(to + second), make_uint4(0, 0, 0, 0));
    }
    if (cop_thread() == 0 && !COP_MUTANT(append_flag_unset)) {
        cop_st(a.row_failed + cop_block_x(), 1u);
        cop_st(a.segment_failed + cop_lds(header_word(1)), 1u);
    }
}

} // namespace

extern "C" int cop_launch_append(const cop_append_args *args, void *stream) {
    const cop_append_args &a = *args;
    const uint32_t d = a.head_dim;
    if (d == 0 || d % 16 != 0 || d > 256 || a.page_tokens == 0 || a.n_heads == 0 ||
        a.n_kv_heads == 0 || !a.q_norm != !a.k_norm || a.rope > COP_ROPE_HALVES)
        return 1;
    if (a.n_rows == 0)
        return 0;
    const uint32_t heads = a.n_heads + a.n_kv_heads;
    uint32_t shared = ANGLES_AT + d * 4;
    if (!a.q_norm)
        return a.qkv_f32
                   ? cop_launch((append_kernel<true, false>), a.n_rows, THREADS, shared, stream, a)
                   : cop_launch((append_kernel<false, false>), a.n_rows, THREADS, shared, stream,
                                a);
    shared += (heads + 3) / 4 * 16 + heads * (d + 8) * 4;
    return a.qkv_f32
               ? cop_launch((append_kernel<true, true>), a.n_rows, THREADS, shared, stream, a)
               : cop_launch((append_kernel<false, true>), a.n_rows, THREADS, shared, stream, a);
}
