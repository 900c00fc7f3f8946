/* sample: logits to tokens, one block a request.
 * Computes  biases, temperature, top-k, top-p, min-p, draw: the order, the filters, the masses and
 *           the generator of model/sampler.h; the 20 best log-probabilities
 * Shapes    logits [.., vocab] f32; one cop_sample_result a request goes back
 * Launch    grid (requests), block 512, dynamic shared memory 31,200 bytes
 * Cost      cop_cost_sample: passes over the row's logits
 * Needs     logits 16-byte aligned, their row stride a multiple of 4; vocab at most 2^22
 * Edges     a logit that is not finite, no finite logit after the biases, a failed row: failed
 * Bits      Token, top_token, n_top, failed: those of the cpu sampler, always: an own exp, and
 *           masses in integers (the best token's is 2^40), so that sums have no order.
 *           logsumexp and what derives from it: weights are summed in double in another order, and
 *           the log is another one, so the last bit of an f32 may differ.
 * Source    Salmon et al. 2011 (Philox4x32-10); Fu et al. 2025 (confidence); Alabi et al. 2012
 *           (radix selection)
 * Ladder    v1 1,024 threads: 64 registers, 28 bytes spilled on sm_80, 24 on sm_90 (rejected)
 *           v2 this one, 512 threads: registers 80 / 83 / 78 / 80 on sm_80 / 90 / 100 / 120, no
 *              spill; passes over the row: greedy 2, temperature 3, top-k 50 6, top-p 7
 *           On paper only: radix descents for the 20 best too: 6, 7, 11, 12 passes. Here the
 *           20th best of the threads' own maxima bounds the 20 best from below, so that one pass
 *           collects the few candidates, with the log-sum. top-k up to 20 reads its threshold
 *           from them. Rows of many equal logits overflow the list, and take the descent.
 * Bound     the passes: one multiprocessor reads the row from L2; shared atomics where many
 *           tokens share a digit
 */
#include "kernels/sample_select.cuh"

COP_MUTANT_DECLARE(sample_flag_unset, "a row that is not finite is sampled");
COP_MUTANT_DECLARE(sample_tie_order, "of equal logits the higher id wins");
COP_MUTANT_DECLARE(sample_script, "the script is read one place too far");
COP_MUTANT_DECLARE(sample_list_full, "a full list of candidates is taken for a whole one");

namespace {

/* ---- the best 20 ---- */

COP_DEVICE bool better(uint32_t key, uint32_t id, uint32_t other_key, uint32_t other_id) {
    return key > other_key || (key == other_key && (id < other_id) != COP_MUTANT(sample_tie_order));
}

/* The n-th best of the threads' maxima: at least n tokens have it or more. 0 where too few have. */
COP_DEVICE uint32_t floor_of(uint32_t n) {
    if (n > THREADS)
        return 0;
    const uint32_t own = cop_lds(word_at(MAXIMA_AT, cop_thread()));
    uint32_t rank = 0;
    for (uint32_t t = 0; t < THREADS; t++) {
        const uint32_t other = cop_lds(word_at(MAXIMA_AT, t));
        rank += other > own || (other == own && t < cop_thread()) ? 1 : 0;
    }
    if (rank == n - 1)
        note(NOTE_FOUND, own);
    cop_sync_block();
    const uint32_t key = noted(NOTE_FOUND);
    cop_sync_block();
    return key;
}

COP_DEVICE void list(uint32_t id, uint32_t key) {
    const uint32_t at = cop_shared_add(word_at(NOTES_AT, NOTE_COUNT), 1u);
    if (at < LISTED) {
        cop_sts(word_at(KEYS_AT, at), key);
        cop_sts(word_at(IDS_AT, at), id);
    }
}

/* Ranks what is listed (n tokens, at most LISTED) and writes the best. */
COP_DEVICE void rank_listed(uint32_t n) {
    for (uint32_t i = cop_thread(); i < n; i += THREADS) {
        const uint32_t key = cop_lds(word_at(KEYS_AT, i)), id = cop_lds(word_at(IDS_AT, i));
        uint32_t rank = 0;
        for (uint32_t j = 0; j < n; j++)
            rank +=
                j != i && better(cop_lds(word_at(KEYS_AT, j)), cop_lds(word_at(IDS_AT, j)), key, id)
                    ? 1
                    : 0;
        if (rank < TOP) {
            cop_sts(word_at(TOP_KEY_AT, rank), key);
            cop_sts(word_at(TOP_ID_AT, rank), id);
        }
    }
    cop_sync_block();
}

/* Fills the best tokens; returns the sum of exp(x - max). */
COP_DEVICE double find_best(const row_of &row, float max) {
    const uint32_t most = row.vocab < TOP ? row.vocab : TOP, floor_key = floor_of(TOP);
    const weigher w = {max, 1.0f, 0.0f};
    double sum = 0;
    each(row, [&](uint32_t id, float x) {
        sum += static_cast<double>(w.weight(x));
        const uint32_t key = key_of(x);
        if (key >= floor_key)
            list(id, key);
    });
    sum = block_sum(sum);
    uint32_t n = noted(NOTE_COUNT);
    if (n > LISTED && !COP_MUTANT(sample_list_full)) {
        const kept_prefix all = {0, 0xffffffffu};
        const kept_prefix kept = shorten<false>(row, w, all, floor_key, most);
        if (cop_thread() == 0)
            note(NOTE_COUNT, 0u);
        cop_sync_block();
        each(row, [&](uint32_t id, float x) {
            if (keeps(kept, id, key_of(x)))
                list(id, key_of(x));
        });
        cop_sync_block();
        n = most;
    }
    rank_listed(n < LISTED ? n : LISTED);
    return sum;
}

/* ---- the draw: model/sampler.h, base/rng.h ---- */

COP_DEVICE uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

COP_DEVICE uint64_t uniform_bits(const cop_sample_order &o) { /* the first two words of draw 0 */
    const uint64_t k = mix(o.seed + 0x9e3779b97f4a7c15u) ^ mix(o.stream);
    uint32_t k0 = low_of(k), k1 = high_of(k);
    uint32_t c0 = low_of(o.position), c1 = high_of(o.position), c2 = 0;
    uint32_t c3 = low_of(mix(o.stream ^ 0x6a09e667f3bcc909u));
    for (int round = 0; round < 10; round++) {
        const uint64_t a = static_cast<uint64_t>(0xD2511F53u) * c0;
        const uint64_t b = static_cast<uint64_t>(0xCD9E8D57u) * c2;
        const uint32_t n0 = high_of(b) ^ c1 ^ k0, n2 = high_of(a) ^ c3 ^ k1;
        c1 = low_of(b);
        c3 = low_of(a);
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return wide(c1, c0);
}

COP_DEVICE uint64_t target_of(float top_p, uint64_t total) {
    const double target = ceil(static_cast<double>(top_p) * static_cast<double>(total));
    if (target < 1.0)
        return 1;
    return target >= static_cast<double>(total) ? total : static_cast<uint64_t>(target);
}

COP_DEVICE kept_prefix filter(const row_of &row, weigher w, const cop_sample_order &o) {
    kept_prefix kept = {0, 0xffffffffu};
    const bool top_k = o.top_k > 0 && o.top_k < row.vocab;
    if (top_k && o.top_k <= TOP) {
        kept.key = cop_lds(word_at(TOP_KEY_AT, o.top_k - 1));
        kept.last = cop_lds(word_at(TOP_ID_AT, o.top_k - 1));
        if (COP_MUTANT(sample_top_k_boundary))
            kept.key++;
    } else if (top_k) {
        kept = shorten<false>(row, w, kept, floor_of(o.top_k), o.top_k);
    }
    if (o.top_p < 1.0f) {
        uint64_t own = 0, total;
        each(row, [&](uint32_t id, float x) {
            if (keeps(kept, id, key_of(x)))
                own += w.mass(x);
        });
        block_scan(own, &total);
        const uint64_t target = target_of(o.top_p, total);
        /* Tokens lighter than (1 - p) / (2 vocab) of the whole together weigh less than what the
         * nucleus leaves out, so they are not in it: most of a vocabulary needs no ordering. */
        w.floor =
            static_cast<float>(static_cast<double>(total - target) / 0x1p40 / row.vocab * 0.5);
        kept = shorten<true>(row, w, kept, 0, target);
    }
    return kept;
}

COP_DEVICE uint32_t draw(const row_of &row, float max, const cop_sample_order &o) {
    const weigher w = {max, o.temperature, 0.0f};
    const kept_prefix kept = filter(row, w, o);
    return locate(row, uniform_bits(o), true, [&](uint32_t id, float x) -> uint64_t {
        return keeps(kept, id, key_of(x)) && w.weight(x) >= o.min_p ? w.mass(x) : 0;
    });
}

/* ---- one request ---- */

COP_DEVICE cop_sample_order read_order(const cop_sample_args &a) {
    if (cop_thread() < sizeof(cop_sample_order) / 16)
        cop_sts(
            cop_shared_as<uint4>(ORDER_AT, cop_thread()),
            cop_ld_nc(reinterpret_cast<const uint4 *>(a.orders + cop_block_x()) + cop_thread()));
    for (uint32_t i = cop_thread(); i < FLAGS / 4; i += THREADS)
        cop_sts(word_at(FLAGS_AT, i), 0u);
    if (cop_thread() == 0) {
        note(NOTE_BAD, 0u);
        note(NOTE_COUNT, 0u);
    }
    cop_sync_block();
    uint32_t words[sizeof(cop_sample_order) / 4];
    COP_UNROLL
    for (uint32_t i = 0; i < sizeof words / 4; i++)
        words[i] = cop_lds(word_at(ORDER_AT, i));
    cop_sample_order o;
    memcpy(&o, words, sizeof o);
    return o;
}

/* The greatest key of the row, in all threads; 0 when it cannot be sampled. */
COP_DEVICE uint32_t find_max(const row_of &row, bool failed) {
    uint32_t own = 0;
    bool bad = failed;
    if (!failed)
        for (uint32_t tile = 0; tile < tiles_of(row); tile++)
            each_of_tile(row, tile, [&](uint32_t id, float logit) {
                const float x = biased(row, id, logit);
                bad = bad || !cop_is_finite(logit) ||
                      (!cop_is_finite(x) && cop_bit_cast<uint32_t>(x) != 0xff800000u);
                own = key_of(x) > own ? key_of(x) : own;
            });
    cop_sts(word_at(MAXIMA_AT, cop_thread()), own);
    if (bad && !COP_MUTANT(sample_flag_unset))
        note(NOTE_BAD, 1u);
    cop_sync_block();
    uint32_t best = 0;
    for (uint32_t t = cop_lane(); t < THREADS; t += 32) {
        const uint32_t other = cop_lds(word_at(MAXIMA_AT, t));
        best = other > best ? other : best;
    }
    for (uint32_t step = 1; step < 32; step *= 2) {
        const uint32_t other = cop_shfl_xor(best, step);
        best = other > best ? other : best;
    }
    return noted(NOTE_BAD) || best <= key_of(-INFINITY) ? 0 : best;
}

struct verdict {
    bool failed;
    uint32_t token;
    double logsumexp;
};

COP_DEVICE float logprob_of(const row_of &row, const verdict &v, uint32_t id) {
    const float x = biased(row, id, cop_ld_nc(row.logits + id));
    return static_cast<float>(static_cast<double>(x) - v.logsumexp);
}

COP_DEVICE int32_t forced_token(const cop_sample_args &a, const cop_sample_order &o) {
    if (o.forced > COP_FORCED_SCRIPT)
        return o.forced;
    return cop_ld_nc(a.script + (COP_FORCED_SCRIPT - o.forced) +
                     (COP_MUTANT(sample_script) ? 1 : 0));
}

COP_DEVICE void write_result(const cop_sample_args &a, const row_of &row, const cop_sample_order &o,
                             const verdict &v) {
    cop_sample_result *to = a.results + cop_block_x();
    const uint32_t most = row.vocab < TOP ? row.vocab : TOP, n = v.failed ? 0 : most;
    if (cop_thread() < TOP) {
        const uint32_t i = cop_thread();
        float logprob = 0.0f;
        int32_t token = -1;
        if (i < n) {
            token = static_cast<int32_t>(cop_lds(word_at(TOP_ID_AT, i)));
            logprob = static_cast<float>(
                static_cast<double>(value_of(cop_lds(word_at(TOP_KEY_AT, i)))) - v.logsumexp);
        }
        cop_st(&to->top_token[i], token);
        cop_st(&to->top_logprob[i], logprob);
    }
    if (cop_thread() != 0)
        return;
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += static_cast<double>(static_cast<float>(
            static_cast<double>(value_of(cop_lds(word_at(TOP_KEY_AT, i)))) - v.logsumexp));
    const int32_t token = v.failed ? -1 : static_cast<int32_t>(v.token);
    const int32_t forced = v.failed ? -1 : forced_token(a, o);
    cop_st(&to->token, token);
    cop_st(&to->logprob, v.failed ? 0.0f : logprob_of(row, v, v.token));
    cop_st(&to->forced_logprob,
           forced >= 0 ? logprob_of(row, v, static_cast<uint32_t>(forced)) : 0.0f);
    cop_st(&to->logsumexp, static_cast<float>(v.logsumexp));
    cop_st(&to->confidence, n ? static_cast<float>(-sum / n) : 0.0f);
    cop_st(&to->failed, v.failed ? 1u : 0u);
    cop_st(&to->n_top, n);
    if (a.next_token && o.next_row >= 0)
        cop_st(a.next_token + o.next_row, forced >= 0 ? forced : token);
}

COP_DEVICE bool row_failed(const cop_sample_args &a, const cop_sample_order &o) {
    return o.row >= 0 && (cop_ld_nc(a.row_failed + o.row) ||
                          cop_ld_nc(a.segment_failed + cop_ld_nc(a.row_segment + o.row)));
}

COP_KERNEL(THREADS, 1)
sample_kernel(const cop_sample_args a) {
    const cop_sample_order o = read_order(a);
    const row_of row = {a.logits + o.logits_row * a.logits_stride, a.bias + o.first_bias, o.n_bias,
                        a.vocab};
    for (uint32_t i = cop_thread(); i < o.n_bias; i += THREADS)
        cop_sts(cop_shared_as<uint8_t>(
                    FLAGS_AT, static_cast<uint32_t>(cop_ld_nc(&row.bias[i].token)) % FLAGS),
                1);
    cop_sync_block();
    const uint32_t best = find_max(row, row_failed(a, o));
    cop_sync_block();
    verdict v = {best == 0, 0, 0.0};
    if (best != 0) {
        const float max = value_of(best);
        v.logsumexp = static_cast<double>(max) + log(find_best(row, max));
        v.token = cop_lds(word_at(TOP_ID_AT, 0));
        if (o.temperature > 0.0f)
            v.token = draw(row, max, o);
    }
    write_result(a, row, o, v);
}

} // namespace

extern "C" int cop_launch_sample(const cop_sample_args *args, void *stream) {
    if (args->vocab == 0 || args->vocab > VOCAB_MAX || args->logits_stride % 4 != 0)
        return 1;
    if (args->n_orders == 0)
        return 0;
    return cop_launch(sample_kernel, args->n_orders, THREADS, SHARED_BYTES, stream, *args);
}
