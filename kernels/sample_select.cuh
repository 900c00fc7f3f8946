/* Selection over one row of logits by one block: sums and bins of 64 bits, the shortest prefix of
 * the tokens (by falling logit, rising id) that reaches a count or a mass, and the token at which a
 * running sum by rising id crosses a value. For sample.cu alone; model/sampler.h says what a mass
 * is.
 *
 * A pass is one walk of the block over the row, in tiles of 2,048 tokens, a thread four neighbours;
 * nothing but the passes touches the logits. All functions are for all threads of the block to
 * call, but for those of single tokens. Sums are of integers, so no order of threads shows in a
 * result.
 */
#pragma once

#include "kernels/step.cuh"

COP_MUTANT_DECLARE(sample_top_k_boundary, "top-k keeps what is greater than its threshold only");
COP_MUTANT_DECLARE(sample_top_p_short, "top-p stops one token early");
COP_MUTANT_DECLARE(sample_no_carry, "sums of masses lose their carry");
COP_MUTANT_DECLARE(sample_scan_inclusive, "the draw counts a thread's own mass before it");
COP_MUTANT_DECLARE(sample_no_barrier, "digits are read before all threads have counted");
COP_MUTANT_DECLARE(sample_tail, "the last token of the vocabulary is not seen");
COP_MUTANT_DECLARE(sample_bias_once, "only a token's first bias is added");

namespace {

enum { THREADS = 512, WARPS = THREADS / 32, EACH = 4, TILE = THREADS * EACH };
enum { BINS = 2048, FLAGS = 8192 };
constexpr uint32_t LISTED = 512, TOP = COP_SAMPLE_TOP;
enum { VOCAB_MAX = 1 << 22 }; /* BINS tiles */

enum { /* shared memory in bytes */
       LOW_AT = 0,
       HIGH_AT = LOW_AT + BINS * 4,
       FLAGS_AT = HIGH_AT + BINS * 4, /* a byte: some token of this hash has a bias */
       MAXIMA_AT = FLAGS_AT + FLAGS,
       KEYS_AT = MAXIMA_AT + THREADS * 4,
       IDS_AT = KEYS_AT + LISTED * 4,
       WARP_LOW_AT = IDS_AT + LISTED * 4,
       WARP_HIGH_AT = WARP_LOW_AT + WARPS * 4,
       TOP_KEY_AT = WARP_HIGH_AT + WARPS * 4,
       TOP_ID_AT = TOP_KEY_AT + 32 * 4,
       ORDER_AT = TOP_ID_AT + 32 * 4,
       NOTES_AT = ORDER_AT + sizeof(cop_sample_order),
       SHARED_BYTES = NOTES_AT + 32
};
static_assert(sizeof(cop_sample_order) == 64, "read as four 16-byte words");

enum { NOTE_BAD, NOTE_COUNT, NOTE_FOUND, NOTE_LOW, NOTE_HIGH, NOTE_OWN_LOW, NOTE_OWN_HIGH };

COP_DEVICE uint32_t *word_at(uint32_t offset, uint32_t i) {
    return cop_shared_as<uint32_t>(offset, i);
}
COP_DEVICE void note(uint32_t i, uint32_t value) {
    cop_sts(word_at(NOTES_AT, i), value);
}
COP_DEVICE uint32_t noted(uint32_t i) {
    return cop_lds(word_at(NOTES_AT, i));
}
COP_DEVICE uint64_t wide(uint32_t low, uint32_t high) {
    return static_cast<uint64_t>(high) << 32 | low;
}
COP_DEVICE uint32_t low_of(uint64_t x) {
    return static_cast<uint32_t>(x);
}
COP_DEVICE uint32_t high_of(uint64_t x) {
    return static_cast<uint32_t>(x >> 32);
}

/* Unsigned order of keys is the order of the logits; there is no -0. */
COP_DEVICE uint32_t key_of(float x) {
    const uint32_t bits = cop_bit_cast<uint32_t>(x);
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}
COP_DEVICE float value_of(uint32_t key) {
    return cop_bit_cast<float>(key ^ (key >> 31 ? 0x80000000u : 0xffffffffu));
}

/* ---- the row ---- */

struct row_of {
    const float *logits;
    const cop_sample_bias *bias;
    uint32_t n_bias, vocab;
};

COP_DEVICE float biased(const row_of &row, uint32_t id, float logit) {
    float x = cop_add_rn(logit, 0.0f);
    if (row.n_bias == 0 || !cop_lds(cop_shared_as<const uint8_t>(FLAGS_AT, id % FLAGS)))
        return x;
    for (uint32_t i = 0; i < row.n_bias; i++) {
        if (cop_ld_nc(&row.bias[i].token) != static_cast<int32_t>(id))
            continue;
        x = cop_add_rn(cop_add_rn(x, cop_ld_nc(&row.bias[i].bias)), 0.0f);
        if (COP_MUTANT(sample_bias_once))
            break;
    }
    return x;
}

/* f(id, raw logit) for the tokens of this thread in one tile, by rising id. */
template <typename F> COP_DEVICE void each_of_tile(const row_of &row, uint32_t tile, F f) {
    const uint32_t first = tile * TILE + cop_thread() * EACH;
    const uint32_t end = row.vocab - (COP_MUTANT(sample_tail) ? 1 : 0);
    if (first + EACH <= end) {
        const float4 v = cop_ld_nc(reinterpret_cast<const float4 *>(row.logits + first));
        f(first, v.x);
        f(first + 1, v.y);
        f(first + 2, v.z);
        f(first + 3, v.w);
        return;
    }
    for (uint32_t id = first; id < end; id++)
        f(id, cop_ld_nc(row.logits + id));
}

COP_DEVICE uint32_t tiles_of(const row_of &row) {
    return (row.vocab + TILE - 1) / TILE;
}

template <typename F> COP_DEVICE void each(const row_of &row, F f) { /* f(id, biased logit) */
    for (uint32_t tile = 0; tile < tiles_of(row); tile++)
        each_of_tile(row, tile, [&](uint32_t id, float logit) { f(id, biased(row, id, logit)); });
}

/* ---- sums of the block ---- */

COP_DEVICE uint64_t warp_scan(uint64_t x) { /* inclusive */
    for (uint32_t step = 1; step < 32; step *= 2) {
        const uint32_t low = cop_shfl_up(low_of(x), step), high = cop_shfl_up(high_of(x), step);
        if (cop_lane() >= step)
            x += wide(low, high);
    }
    return x;
}

/* The sum of the lower threads; all threads call it. */
COP_DEVICE uint64_t block_scan(uint64_t own, uint64_t *total) {
    const uint64_t inclusive = warp_scan(own);
    if (cop_lane() == 31) {
        cop_sts(word_at(WARP_LOW_AT, cop_warp()), low_of(inclusive));
        cop_sts(word_at(WARP_HIGH_AT, cop_warp()), high_of(inclusive));
    }
    cop_sync_block();
    uint64_t before = 0, sum = 0;
    for (uint32_t w = 0; w < WARPS; w++) {
        if (w == cop_warp())
            before = sum;
        sum += wide(cop_lds(word_at(WARP_LOW_AT, w)), cop_lds(word_at(WARP_HIGH_AT, w)));
    }
    cop_sync_block();
    *total = sum;
    return before + inclusive - own;
}

COP_DEVICE double block_sum(double x) { /* a tree: the same in every launch */
    for (uint32_t step = 1; step < 32; step *= 2) {
        const uint64_t bits = cop_bit_cast<uint64_t>(x);
        x += cop_bit_cast<double>(
            wide(cop_shfl_xor(low_of(bits), step), cop_shfl_xor(high_of(bits), step)));
    }
    if (cop_lane() == 0) {
        cop_sts(word_at(WARP_LOW_AT, cop_warp()), low_of(cop_bit_cast<uint64_t>(x)));
        cop_sts(word_at(WARP_HIGH_AT, cop_warp()), high_of(cop_bit_cast<uint64_t>(x)));
    }
    cop_sync_block();
    double sum = 0;
    for (uint32_t w = 0; w < WARPS; w++)
        sum += cop_bit_cast<double>(
            wide(cop_lds(word_at(WARP_LOW_AT, w)), cop_lds(word_at(WARP_HIGH_AT, w))));
    cop_sync_block();
    return sum;
}

/* Bins of 64 bits, in two words each: a low word that overflows says so to the one that made it. */
COP_DEVICE void bins_clear() {
    for (uint32_t i = cop_thread(); i < 2 * BINS; i += THREADS)
        cop_sts(word_at(LOW_AT, i), 0u);
    cop_sync_block();
}
COP_DEVICE void bins_add(uint32_t bin, uint64_t x) {
    const uint32_t old = cop_shared_add(word_at(LOW_AT, bin), low_of(x));
    const uint32_t carry = old + low_of(x) < old && !COP_MUTANT(sample_no_carry) ? 1u : 0u;
    if (high_of(x) + carry)
        cop_shared_add(word_at(HIGH_AT, bin), high_of(x) + carry);
}
COP_DEVICE uint64_t bin(uint32_t i) {
    return wide(cop_lds(word_at(LOW_AT, i)), cop_lds(word_at(HIGH_AT, i)));
}

/* Walks the bins (from the last one down, or up) to the first whose sum with those before it
 * exceeds `left`; what is then left of it, and the bin's own sum. All threads call it; `left` is
 * below the total. */
struct crossing {
    uint32_t bin;
    uint64_t left, own;
};
COP_DEVICE crossing bins_cross(uint64_t left, bool down) {
    const uint32_t each_thread = BINS / THREADS, first = cop_thread() * each_thread;
    uint64_t own = 0, total;
    for (uint32_t i = 0; i < each_thread; i++)
        own += bin(down ? BINS - 1 - (first + i) : first + i);
    uint64_t before = block_scan(own, &total);
    if (before <= left && left < before + own) {
        for (uint32_t i = first;; i++) {
            const uint64_t here = bin(down ? BINS - 1 - i : i);
            if (left < before + here) {
                note(NOTE_FOUND, down ? BINS - 1 - i : i);
                note(NOTE_LOW, low_of(left - before));
                note(NOTE_HIGH, high_of(left - before));
                note(NOTE_OWN_LOW, low_of(here));
                note(NOTE_OWN_HIGH, high_of(here));
                break;
            }
            before += here;
        }
    }
    cop_sync_block();
    const crossing found = {noted(NOTE_FOUND), wide(noted(NOTE_LOW), noted(NOTE_HIGH)),
                            wide(noted(NOTE_OWN_LOW), noted(NOTE_OWN_HIGH))};
    cop_sync_block();
    return found;
}

/* ---- kept tokens: a prefix by (falling key, rising id) ---- */

struct kept_prefix {
    uint32_t key, last; /* of the tokens with this key those up to `last` */
};
COP_DEVICE bool keeps(const kept_prefix &kept, uint32_t id, uint32_t key) {
    return key > kept.key || (key == kept.key && id <= kept.last);
}

struct weigher {
    float max, temperature, floor;
    COP_METHOD float weight(float x) const {
        const float y = cop_sub_rn(x, max);
        return cop_exp_negative(temperature == 1.0f ? y : cop_div_rn(y, temperature));
    }
    COP_METHOD uint64_t mass(float x) const { /* exact: a scale by a power of two, rounded down */
        return static_cast<uint64_t>(cop_mul_rn(weight(x), 0x1p40f));
    }
};

/* High 64 bits of a product. */
COP_DEVICE uint64_t mul_high(uint64_t a, uint64_t b) {
    const uint64_t al = low_of(a), ah = high_of(a), bl = low_of(b), bh = high_of(b);
    const uint64_t middle = ah * bl + high_of(al * bl);
    const uint64_t other = al * bh + low_of(middle);
    return ah * bh + high_of(middle) + high_of(other);
}

/* The token, by rising id, at which the sum of measure(id, x) first exceeds `left`, or with
 * `scaled` that share (of 2^64) of the whole. One pass, and one tile again. */
template <typename M>
COP_DEVICE uint32_t locate(const row_of &row, uint64_t left, bool scaled, M measure) {
    bins_clear();
    for (uint32_t tile = 0; tile < tiles_of(row); tile++) {
        uint64_t sum = 0;
        each_of_tile(row, tile,
                     [&](uint32_t id, float logit) { sum += measure(id, biased(row, id, logit)); });
        sum = warp_scan(sum);
        if (cop_lane() == 31 && sum)
            bins_add(tile, sum);
    }
    cop_sync_block();
    if (scaled) {
        uint64_t own = 0, total;
        for (uint32_t i = cop_thread(); i < BINS; i += THREADS)
            own += bin(i);
        block_scan(own, &total);
        left = mul_high(left, total);
    }
    const crossing found = bins_cross(left, false);
    uint64_t own = 0, total;
    each_of_tile(row, found.bin,
                 [&](uint32_t id, float logit) { own += measure(id, biased(row, id, logit)); });
    uint64_t before = block_scan(own, &total);
    if (COP_MUTANT(sample_scan_inclusive) && before >= own)
        before -= own;
    if (before <= found.left && found.left < before + own)
        each_of_tile(row, found.bin, [&](uint32_t id, float logit) {
            const uint64_t here = measure(id, biased(row, id, logit));
            if (before <= found.left && found.left < before + here)
                note(NOTE_FOUND, id);
            before += here;
        });
    cop_sync_block();
    const uint32_t id = noted(NOTE_FOUND);
    cop_sync_block();
    return id;
}

/* Of the kept tokens the shortest prefix whose total, of masses or of tokens, reaches the target
 * (at least 1, at most the total): a radix descent over 11, 11 and 10 bits of the key. Tokens whose
 * key is below floor_key, or weight below w.floor, are known not to be in it. */
template <bool ByMass>
COP_DEVICE kept_prefix shorten(const row_of &row, const weigher &w, kept_prefix kept,
                               uint32_t floor_key, uint64_t target) {
    uint32_t prefix = 0, known = 0;
    crossing found = {0, target - 1, 0};
    for (uint32_t level = 0; level < 3; level++) {
        const uint32_t shift = level == 0 ? 21 : level == 1 ? 10 : 0;
        const uint32_t digits = level == 2 ? 0x3ffu : 0x7ffu;
        bins_clear();
        each(row, [&](uint32_t id, float x) {
            const uint32_t key = key_of(x);
            if (key < floor_key || (key & known) != prefix || !keeps(kept, id, key) ||
                (ByMass && w.weight(x) < w.floor))
                return;
            const uint64_t amount = ByMass ? w.mass(x) : 1;
            if (amount)
                bins_add(key >> shift & digits, amount);
        });
        if (!COP_MUTANT(sample_no_barrier))
            cop_sync_block();
        found = bins_cross(found.left, true);
        prefix |= found.bin << shift;
        known |= digits << shift;
    }
    uint64_t unit = ByMass ? w.mass(value_of(prefix)) : 1;
    unit = unit ? unit : 1;
    uint64_t ties = found.left / unit; /* of the key, before the last one that is kept */
    const uint64_t all = found.own / unit;
    if (ByMass && COP_MUTANT(sample_top_p_short))
        ties = ties > 0 ? ties - 1 : ties;
    if (!ByMass && COP_MUTANT(sample_top_k_boundary))
        return {prefix + 1, 0xffffffffu};
    if (ByMass && COP_MUTANT(sample_top_p_short) && ties == 0)
        return {prefix + 1, 0xffffffffu};
    if (ties + 1 == all)
        return {prefix, prefix == kept.key ? kept.last : 0xffffffffu};
    const kept_prefix before = kept;
    return {prefix, locate(row, ties, false, [&](uint32_t id, float x) -> uint64_t {
                return key_of(x) == prefix && keeps(before, id, prefix) ? 1 : 0;
            })};
}

} // namespace
