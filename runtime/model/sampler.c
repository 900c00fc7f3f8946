#include "model/sampler.h"

#include <math.h>
#include <string.h>

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS, LANES = 8, SCAN = 32 };

static const double MASS_ONE = 0x1p40;

typedef struct sampler {
    uint32_t vocab;
    uint64_t *digits; /* [DIGITS] */
    float *x;         /* biased and penalised logits; no -0, so that equal logits have equal keys */
    float *w;         /* exp((x - max) / temperature) */
    uint32_t *key;    /* of x: unsigned order is the order of the logits */
    uint32_t *ids;    /* kept tokens, rising */
} sampler;

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

cop_status cop_sampler_check(const cop_sample_request *request, uint32_t vocab) {
    const cop_sample_request *q = request;
    if (!(q->temperature >= 0.0f) || isinf(q->temperature))
        return COP_FAIL(COP_ERR_USAGE, "temperature %g: use 0 (greedy) or a positive number",
                        (double)q->temperature);
    if (!(q->top_p >= 0.0f && q->top_p <= 1.0f))
        return COP_FAIL(COP_ERR_USAGE, "top_p %g: use 0 to 1 (1 is off)", (double)q->top_p);
    if (!(q->min_p >= 0.0f && q->min_p <= 1.0f))
        return COP_FAIL(COP_ERR_USAGE, "min_p %g: use 0 (off) to 1", (double)q->min_p);
    if (q->forced >= 0 && (uint32_t)q->forced >= vocab)
        return COP_FAIL(COP_ERR_USAGE, "forced token %d: the vocabulary ends at %u", q->forced,
                        vocab - 1);
    if (!(q->repetition_penalty >= 0.0f) || isinf(q->repetition_penalty))
        return COP_FAIL(COP_ERR_USAGE, "repetition penalty %g: use a positive number (1 is off)",
                        (double)q->repetition_penalty);
    if (cop_sampler_penalises(q) && !q->seen)
        return COP_FAIL(COP_ERR_USAGE, "repetition penalty %g without the tokens that it is for",
                        (double)q->repetition_penalty);
    for (uint32_t i = 0; i < q->n_bias; i++) {
        if (q->bias[i].token < 0 || (uint32_t)q->bias[i].token >= vocab)
            return COP_FAIL(COP_ERR_USAGE, "logit bias of token %d: use 0 to %u", q->bias[i].token,
                            vocab - 1);
        if (isnan(q->bias[i].bias) || q->bias[i].bias == INFINITY)
            return COP_FAIL(COP_ERR_USAGE, "logit bias of token %d is %g: use a number or -inf",
                            q->bias[i].token, (double)q->bias[i].bias);
    }
    return COP_OK;
}

size_t cop_sampler_scratch_bytes(uint32_t vocab) {
    return DIGITS * sizeof(uint64_t) + 4 * (size_t)vocab * sizeof(uint32_t);
}

static sampler sampler_over(void *scratch, uint32_t vocab) {
    sampler s = {.vocab = vocab, .digits = scratch};
    s.x = (float *)(s.digits + DIGITS);
    s.w = s.x + vocab;
    s.key = (uint32_t *)(s.w + vocab);
    s.ids = s.key + vocab;
    return s;
}

/* exp(x) for x <= 0, and 0 below -87: Cody and Waite's reduction and the Cephes polynomial, in
 * additions and multiplications only, so that every machine has the same bits and plain SSE2 makes
 * vectors of it. Choices are masks for the same reason. Error below 2 ulp. */
static inline float exp_negative(float x) {
    const float magic = 0x1.8p23f;
    const float shifted = x * 1.44269504f + magic;
    const float n = shifted - magic;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = (y * (r * r) + r) + 1.0f;
    const uint32_t scaled = bits_of(y) + (bits_of(shifted) << 23);
    return float_of(scaled & (bits_of(x) > 0xc2ae0000u ? 0u : ~0u));
}

/* False where a quotient is infinite: a penalty below 1 on a huge logit. */
static bool penalise(sampler *s, const cop_sample_request *request) {
    const float penalty = request->repetition_penalty;
    for (uint32_t first = 0; first < s->vocab; first += 32) {
        uint32_t word = request->seen[first / 32];
        for (uint32_t i = first; word && i < s->vocab; i++, word >>= 1) {
            if (!(word & 1))
                continue;
            float *x = &s->x[i];
            *x = *x > 0.0f ? *x / penalty : *x * penalty;
            if (*x == INFINITY)
                return false;
            *x += 0.0f;
        }
    }
    return true;
}

/* Fills x and key; false when the row cannot be sampled. */
static bool load_row(sampler *s, const float *logits, const cop_sample_request *request) {
    const uint32_t n = s->vocab;
    float *x_row = s->x;
    uint32_t *key = s->key, bad = 0;
    for (uint32_t i = 0; i < n; i++) {
        bad |= (bits_of(logits[i]) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
        x_row[i] = logits[i] + 0.0f;
    }
    if (bad)
        return false;
    for (uint32_t i = 0; i < request->n_bias; i++) {
        float *x = &x_row[request->bias[i].token];
        *x += request->bias[i].bias;
        if (isnan(*x) || *x == INFINITY)
            return false;
        *x += 0.0f;
    }
    if (cop_sampler_penalises(request) && !penalise(s, request))
        return false;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t bits = bits_of(x_row[i]);
        key[i] = bits ^ ((bits >> 31 ? ~0u : 0u) | 0x80000000u);
    }
    return true;
}

/* The n best tokens, best first. Blocks without a key above the worst so far are passed over; with
 * ids rising, a strictly greater key is what makes the lower id win a tie. */
static uint32_t best_tokens(const sampler *s, int32_t *token, uint32_t most) {
    uint32_t n = 0;
    int32_t worst = INT32_MIN;
    for (uint32_t first = 0; first < s->vocab; first += SCAN) {
        const uint32_t last = s->vocab - first < SCAN ? s->vocab : first + SCAN;
        uint32_t any = n < most;
        for (uint32_t i = first; i < last; i++)
            any |= (int32_t)(s->key[i] ^ 0x80000000u) > worst ? 1u : 0u;
        for (uint32_t i = first; any && i < last; i++) {
            if (n == most && s->key[i] <= s->key[token[n - 1]])
                continue;
            uint32_t at = n < most ? n++ : n - 1;
            for (; at > 0 && s->key[i] > s->key[token[at - 1]]; at--)
                token[at] = token[at - 1];
            token[at] = (int32_t)i;
        }
        if (n == most)
            worst = (int32_t)(s->key[token[n - 1]] ^ 0x80000000u);
    }
    return n;
}

static void weigh_row(const float *restrict x, float *restrict w, uint32_t n, float max,
                      float temperature) {
    if (temperature == 1.0f) {
        for (uint32_t i = 0; i < n; i++)
            w[i] = exp_negative(x[i] - max);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        w[i] = exp_negative((x[i] - max) / temperature);
}

/* Fills w for a temperature and adds it up in lanes of double. */
static double weigh(sampler *s, float max, float temperature) {
    const float *w = s->w;
    weigh_row(s->x, s->w, s->vocab, max, temperature);
    double lane[LANES] = {0}, sum = 0;
    uint32_t i = 0;
    for (; i + LANES <= s->vocab; i += LANES)
        for (uint32_t l = 0; l < LANES; l++)
            lane[l] += (double)w[i + l];
    for (; i < s->vocab; i++)
        lane[i % LANES] += (double)w[i];
    for (uint32_t l = 0; l < LANES; l++)
        sum += lane[l];
    return sum;
}

static uint64_t mass_of(const sampler *s, uint32_t id) {
    return (uint64_t)((double)s->w[id] * MASS_ONE);
}

static uint64_t mass_of_all(const sampler *s) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s->vocab; i++)
        sum += mass_of(s, i);
    return sum;
}

static uint64_t mass_of_kept(const sampler *s, uint32_t count) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += mass_of(s, s->ids[i]);
    return sum;
}

/* Keeps of ids[count] the shortest prefix by (falling key, rising id) whose total, of masses or of
 * tokens, reaches the target; returns how many. A radix descent, so that time is bounded by the
 * count whatever the logits: 11, 11 and 10 bits of the key. */
static uint32_t keep_best(sampler *s, uint32_t count, uint64_t target, bool by_mass) {
    uint32_t prefix = 0, known = 0;
    for (int shift = 32 - DIGIT_BITS, bits = DIGIT_BITS;;) {
        const uint32_t digit_mask = (1u << bits) - 1;
        memset(s->digits, 0, DIGITS * sizeof *s->digits);
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t key = s->key[s->ids[i]];
            if ((key & known) == prefix)
                s->digits[key >> shift & digit_mask] += by_mass ? mass_of(s, s->ids[i]) : 1;
        }
        uint32_t digit = digit_mask;
        for (; digit > 0 && s->digits[digit] < target; digit--)
            target -= s->digits[digit];
        prefix |= digit << shift;
        known |= digit_mask << shift;
        if (shift == 0)
            break;
        bits = shift < DIGIT_BITS ? shift : DIGIT_BITS;
        shift -= bits;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t id = s->ids[i], key = s->key[id];
        if (key < prefix || (key == prefix && target == 0))
            continue;
        if (key == prefix) {
            const uint64_t part = by_mass ? mass_of(s, id) : 1;
            target -= part < target ? part : target;
        }
        s->ids[kept++] = id;
    }
    return kept;
}

static uint32_t keep_all(sampler *s) {
    uint32_t *ids = s->ids;
    const uint32_t n = s->vocab;
    for (uint32_t i = 0; i < n; i++)
        ids[i] = i;
    return n;
}

static uint32_t keep_heavy(sampler *s, float floor) { /* of the whole vocabulary */
    uint32_t kept = 0;
    for (uint32_t first = 0; first < s->vocab; first += SCAN) {
        const uint32_t last = s->vocab - first < SCAN ? s->vocab : first + SCAN;
        uint32_t any = 0; /* weights are not negative: their bits have their order */
        for (uint32_t i = first; i < last; i++)
            any |= (int32_t)bits_of(s->w[i]) >= (int32_t)bits_of(floor) ? 1u : 0u;
        for (uint32_t i = first; any && i < last; i++)
            if (s->w[i] >= floor)
                s->ids[kept++] = i;
    }
    return kept;
}

static uint64_t top_p_target(float top_p, uint64_t total) {
    const double target = ceil((double)top_p * (double)total);
    return target < 1.0 ? 1 : target >= (double)total ? total : (uint64_t)target;
}

/* Applies the filters; ids[] holds what they keep. */
static uint32_t keep_filtered(sampler *s, const cop_sample_request *request) {
    const bool top_k = request->top_k > 0 && request->top_k < s->vocab;
    const bool top_p = request->top_p < 1.0f;
    uint32_t count;
    if (top_k) {
        count = keep_best(s, keep_all(s), request->top_k, false);
    } else if (top_p) {
        /* Tokens lighter than (1 - p) / (2 vocab) of the whole together weigh less than what the
         * nucleus leaves out, so they are not in it: most of a vocabulary needs no ordering. */
        const uint64_t total = mass_of_all(s), target = top_p_target(request->top_p, total);
        const double floor = (double)(total - target) / MASS_ONE / s->vocab * 0.5;
        count = keep_best(s, keep_heavy(s, (float)floor), target, true);
    } else {
        return keep_heavy(s, request->min_p);
    }
    if (top_k && top_p)
        count = keep_best(s, count, top_p_target(request->top_p, mass_of_kept(s, count)), true);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if (s->w[s->ids[i]] >= request->min_p)
            s->ids[kept++] = s->ids[i];
    return kept;
}

static int32_t draw(sampler *s, const cop_sample_request *request) {
    const bool filtered = (request->top_k > 0 && request->top_k < s->vocab) ||
                          request->top_p < 1.0f || request->min_p > 0.0f;
    const uint32_t count = filtered ? keep_filtered(s, request) : s->vocab;
    const uint64_t total = filtered ? mass_of_kept(s, count) : mass_of_all(s);
    uint32_t word[4];
    cop_rng_draw4(request->key, 0, word);
    const uint64_t uniform = (uint64_t)word[0] << 32 | word[1];
    uint64_t left = (uint64_t)((unsigned __int128)uniform * total >> 64);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t id = filtered ? s->ids[i] : i;
        const uint64_t mass = mass_of(s, id);
        if (left < mass)
            return (int32_t)id;
        left -= mass;
    }
    return -1; /* not reached: the best token has mass 2^40 and is always kept */
}

void cop_sampler_run(const float *logits, uint32_t vocab, const cop_sample_request *request,
                     void *scratch, cop_sample *out) {
    *out = (cop_sample){.token = -1, .failed = true};
    sampler s = sampler_over(scratch, vocab);
    if (!load_row(&s, logits, request))
        return;
    out->n_top = best_tokens(&s, out->top_token, COP_TOP_LOGPROBS);
    const float max = s.x[out->top_token[0]];
    if (max == -INFINITY) {
        *out = (cop_sample){.token = -1, .failed = true};
        return;
    }
    out->failed = false;
    const double logsumexp = max + log(weigh(&s, max, 1.0f));
    out->logsumexp = (float)logsumexp;
    for (uint32_t i = 0; i < out->n_top; i++)
        out->top_logprob[i] = (float)(s.x[out->top_token[i]] - logsumexp);
    out->token = out->top_token[0];
    if (request->temperature > 0.0f) {
        if (request->temperature != 1.0f)
            weigh(&s, max, request->temperature);
        out->token = draw(&s, request);
    }
    out->logprob = (float)(s.x[out->token] - logsumexp);
    if (request->forced >= 0)
        out->forced_logprob = (float)(s.x[request->forced] - logsumexp);
}
