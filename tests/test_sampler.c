/* The sampler against a brute-force one in double precision that sorts everything, and against the
 * frequencies that its probabilities promise. */
#include <math.h>

#include "base/memory.h"
#include "check.h"
#include "model/sampler.h"

enum { VOCAB_MAX = 5000 };

typedef struct world {
    float logits[VOCAB_MAX];
    void *scratch;
} world;

static world *new_world(void) {
    world *w = cop_calloc(1, sizeof *w);
    CHECK(w);
    w->scratch = cop_calloc(1, cop_sampler_scratch_bytes(VOCAB_MAX));
    CHECK(w->scratch);
    return w;
}

static void free_world(world *w) {
    cop_free(w->scratch);
    cop_free(w);
}

static double uniform(uint64_t seed, uint32_t draw) {
    return cop_rng_uniform((cop_rng_key){.seed = seed, .stream = 77}, draw);
}

/* Shapes of distributions: 0 bell, 1 one dominant, 2 many exact ties, 3 flat, 4 wide. */
static void fill_logits(world *w, uint32_t vocab, uint64_t seed) {
    for (uint32_t i = 0; i < vocab; i++) {
        const double a = uniform(seed, 2 * i), b = uniform(seed, 2 * i + 1);
        const double bell = sqrt(-2 * log(a + 1e-18)) * cos(6.283185307 * b);
        switch (seed % 5) {
        case 0:
            w->logits[i] = (float)(3 * bell);
            break;
        case 1:
            w->logits[i] = (float)(bell + (i == vocab / 3 ? 12 : 0));
            break;
        case 2:
            w->logits[i] = (float)floor(2 * bell);
            break;
        case 3:
            w->logits[i] = -0.0f;
            break;
        default:
            w->logits[i] = (float)(40 * bell);
        }
    }
}

typedef struct ranked {
    double logit; /* biased */
    double weight;
    uint32_t id;
} ranked;

static int by_rank(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static double biased_logit(const world *w, const cop_sample_request *q, uint32_t id) {
    float x = w->logits[id]; /* f32, as the sampler adds */
    for (uint32_t i = 0; i < q->n_bias; i++)
        if ((uint32_t)q->bias[i].token == id)
            x += q->bias[i].bias;
    if (q->repetition_penalty != 0 && q->seen[id / 32] >> id % 32 & 1) {
        const double penalised = x > 0 ? (double)x / (double)q->repetition_penalty
                                       : (double)x * (double)q->repetition_penalty;
        x = (float)penalised;
    }
    return x;
}

/* How far a decision may be from its boundary before f32 weights and double ones must agree. */
static const double DOUBT = 1e-5;

/* The tokens that the filters keep, best first. *doubtful: a boundary is too near to call. */
static uint32_t brute_keep(const world *w, uint32_t vocab, const cop_sample_request *q, ranked *all,
                           bool *doubtful) {
    *doubtful = false;
    for (uint32_t i = 0; i < vocab; i++)
        all[i] = (ranked){.logit = biased_logit(w, q, i), .id = i};
    qsort(all, vocab, sizeof *all, by_rank);
    uint32_t kept = q->top_k > 0 && q->top_k < vocab ? q->top_k : vocab;
    double total = 0, sum = 0;
    for (uint32_t i = 0; i < kept; i++) {
        all[i].weight = exp((all[i].logit - all[0].logit) / q->temperature);
        total += all[i].weight;
    }
    if (q->top_p < 1.0f) {
        uint32_t n = 0;
        for (; n < kept && (n == 0 || sum < q->top_p * total); n++) {
            sum += all[n].weight;
            *doubtful = *doubtful || fabs(sum / total - q->top_p) < DOUBT;
        }
        kept = n;
    }
    uint32_t n = 0;
    for (; n < kept && all[n].weight >= q->min_p; n++)
        *doubtful = *doubtful || (all[n].weight < 1 && fabs(all[n].weight - q->min_p) < DOUBT);
    return n;
}

static int by_id(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    return x->id < y->id ? -1 : 1;
}

/* The interval of [0, 1) in which the walk by rising id gives `token`; false when it is not kept.
 */
static bool interval_of(ranked *kept, uint32_t n, int32_t token, double *low, double *high) {
    double total = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        total += kept[i].weight;
    qsort(kept, n, sizeof *kept, by_id);
    for (uint32_t i = 0; i < n; i++) {
        *low = sum / total;
        sum += kept[i].weight;
        *high = sum / total;
        if (kept[i].id == (uint32_t)token)
            return true;
    }
    return false;
}

static bool agrees(double got, double expected) {
    return got == expected || fabs(got - expected) < 1e-6 * (1 + fabs(expected));
}

static void check_report_of(const world *w, uint32_t vocab, const cop_sample_request *q,
                            const cop_sample *s) {
    ranked *all = cop_calloc(vocab, sizeof *all);
    CHECK(all);
    double sum = 0;
    for (uint32_t i = 0; i < vocab; i++)
        all[i] = (ranked){.logit = biased_logit(w, q, i), .id = i};
    qsort(all, vocab, sizeof *all, by_rank);
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp(all[i].logit - all[0].logit);
    const double lse = all[0].logit + log(sum);
    CHECK(!s->failed);
    CHECK(agrees(s->logsumexp, lse));
    CHECK_EQ(s->n_top, vocab < COP_TOP_LOGPROBS ? vocab : COP_TOP_LOGPROBS);
    for (uint32_t i = 0; i < s->n_top; i++) {
        CHECK_EQ(s->top_token[i], all[i].id);
        CHECK(agrees(s->top_logprob[i], all[i].logit - lse));
    }
    CHECK(agrees(s->logprob, biased_logit(w, q, (uint32_t)s->token) - lse));
    CHECK(agrees(s->forced_logprob,
                 q->forced < 0 ? 0 : biased_logit(w, q, (uint32_t)q->forced) - lse));
    cop_free(all);
}

/* A third of the tokens, the bits behind the vocabulary too: nobody may read those. */
static const uint32_t *seen_of(uint64_t seed) {
    static uint32_t seen[(VOCAB_MAX + 31) / 32];
    for (uint32_t i = 0; i < sizeof seen / sizeof seen[0] * 32; i++) {
        const uint32_t bit = 1u << i % 32;
        seen[i / 32] = uniform(seed + 9000, i) < 0.33 ? seen[i / 32] | bit : seen[i / 32] & ~bit;
    }
    return seen;
}

static cop_sample_request request_of(uint64_t seed, uint32_t vocab, cop_logit_bias *bias) {
    static const float penalties[] = {0.0f, 1.02f, 1.0f, 1.5f, 0.7f};
    static const float temperatures[] = {1.0f, 0.7f, 1.6f, 0.05f, 30.0f};
    static const float top_ps[] = {1.0f, 0.9f, 0.5f, 0.99f, 0.0f, 1e-3f};
    static const float min_ps[] = {0.0f, 0.0f, 0.05f, 0.3f, 1.0f};
    static const uint32_t top_ks[] = {0, 0, 1, 5, 40, 700, 100000};
    bias[0] = (cop_logit_bias){.token = (int32_t)(seed % vocab), .bias = 6.0f};
    bias[1] = (cop_logit_bias){.token = (int32_t)(seed * 7 % vocab), .bias = -INFINITY};
    bias[2] = (cop_logit_bias){.token = (int32_t)(seed % vocab), .bias = -1.5f};
    return (cop_sample_request){
        .temperature = temperatures[seed / 2 % 5],
        .top_p = top_ps[seed / 3 % 6],
        .min_p = min_ps[seed / 5 % 5],
        .top_k = top_ks[seed / 7 % 7],
        .key = {.seed = seed, .stream = 5, .position = seed * 3},
        .forced = seed % 3 ? (int32_t)(seed * 5 % vocab) : -1,
        .bias = bias,
        .n_bias = vocab > 3 && seed % 4 == 0 ? 3 : 0,
        .repetition_penalty = penalties[seed / 13 % 5],
        .seen = seen_of(seed),
    };
}

static void test_samples_equal_brute_force(void) {
    static const uint32_t vocabs[] = {1, 7, 19, 20, 33, 257, 1000};
    world *w = new_world();
    ranked *all = cop_calloc(VOCAB_MAX, sizeof *all);
    CHECK(all);
    uint32_t compared = 0, doubtful_count = 0;
    for (uint64_t seed = 0; seed < 2100; seed++) {
        const uint32_t vocab = vocabs[seed / 11 % 7];
        cop_logit_bias bias[3];
        const cop_sample_request q = request_of(seed, vocab, bias);
        cop_sample s;
        fill_logits(w, vocab, seed);
        cop_sampler_run(w->logits, vocab, &q, w->scratch, &s);
        check_report_of(w, vocab, &q, &s);
        bool doubtful;
        const uint32_t n = brute_keep(w, vocab, &q, all, &doubtful);
        doubtful_count += doubtful;
        if (doubtful)
            continue;
        uint32_t word[4];
        cop_rng_draw4(q.key, 0, word);
        const double u = ((double)word[0] + word[1] * 0x1p-32) * 0x1p-32;
        double low, high;
        CHECK(interval_of(all, n, s.token, &low, &high));
        CHECK(u > low - DOUBT && u < high + DOUBT);
        compared++;
    }
    CHECK(compared > 1500);
    CHECK(doubtful_count < 300);
    cop_free(all);
    free_world(w);
}

/* Pearson's statistic over draws at many positions, for filters that keep few tokens. */
static void test_frequencies_follow_probabilities(void) {
    enum { DRAWS = 20000, VOCAB = 50 };
    world *w = new_world();
    ranked all[VOCAB];
    for (uint64_t seed = 0; seed < 4; seed++) {
        for (uint32_t i = 0; i < VOCAB; i++)
            w->logits[i] = (float)(2 * uniform(seed + 100, i));
        cop_sample_request q = {.temperature = seed == 1 ? 0.5f : 1.0f,
                                .top_p = seed == 2 ? 0.8f : 1.0f,
                                .min_p = seed == 3 ? 0.4f : 0.0f,
                                .forced = -1};
        uint32_t count[VOCAB] = {0};
        for (uint32_t i = 0; i < DRAWS; i++) {
            cop_sample s;
            q.key = (cop_rng_key){.seed = 3, .stream = seed, .position = i};
            cop_sampler_run(w->logits, VOCAB, &q, w->scratch, &s);
            count[s.token]++;
        }
        bool doubtful;
        const uint32_t n = brute_keep(w, VOCAB, &q, all, &doubtful);
        double total = 0, statistic = 0, seen = 0;
        for (uint32_t i = 0; i < n; i++)
            total += all[i].weight;
        for (uint32_t i = 0; i < n; i++) {
            const double expected = DRAWS * all[i].weight / total;
            statistic += pow(count[all[i].id] - expected, 2) / expected;
            seen += count[all[i].id];
        }
        CHECK(seen == DRAWS);
        /* Mean n - 1, variance 2 (n - 1): six deviations either way. Too small would be as wrong.
         */
        CHECK(fabs(statistic - (n - 1)) < 6 * sqrt(2.0 * (n - 1)));
    }
    free_world(w);
}

static void test_greedy_takes_the_lowest_id_of_a_tie(void) {
    world *w = new_world();
    cop_sample s;
    const cop_sample_request q = {.top_p = 1, .forced = -1};
    for (uint32_t i = 0; i < 100; i++)
        w->logits[i] = i % 10 == 4 ? 2.5f : (float)(i % 3);
    cop_sampler_run(w->logits, 100, &q, w->scratch, &s);
    CHECK_EQ(s.token, 4);
    for (uint32_t i = 0; i < 10; i++)
        CHECK_EQ(s.top_token[i], 10 * i + 4);
    for (uint32_t i = 0; i < 100; i++)
        w->logits[i] = i == 40 ? 0.0f : -0.0f; /* equal numbers, unequal bits */
    cop_sampler_run(w->logits, 100, &q, w->scratch, &s);
    CHECK_EQ(s.token, 0);
    for (uint32_t i = 0; i < COP_TOP_LOGPROBS; i++)
        CHECK_EQ(s.top_token[i], i);
    free_world(w);
}

/* Positive logits are divided and the others multiplied, after the biases; 0 stays, and a tie that
 * the penalty makes falls to the lower id. */
static void test_a_penalty_moves_what_was_seen(void) {
    world *w = new_world();
    const float logits[6] = {2.04f, 2.01f, -1.0f, 0.0f, -3.0f, 2.0f};
    memcpy(w->logits, logits, sizeof logits);
    uint32_t seen = 0;
    cop_sample s;
    const cop_logit_bias bias = {.token = 4, .bias = 5.5f};
    cop_sample_request q = {.top_p = 1, .forced = -1, .repetition_penalty = 1.02f, .seen = &seen};
    cop_sampler_run(w->logits, 6, &q, w->scratch, &s);
    CHECK_EQ(s.token, 0);
    seen = 1u << 0;
    cop_sampler_run(w->logits, 6, &q, w->scratch, &s);
    CHECK_EQ(s.token, 1);
    seen = 1u << 0 | 1u << 1;
    cop_sampler_run(w->logits, 6, &q, w->scratch, &s);
    CHECK_EQ(s.token, 0); /* 2.04 / 1.02 and 2 are one number */
    CHECK_EQ(s.top_token[1], 5);
    CHECK(s.top_logprob[0] == s.top_logprob[1]);
    seen = 1u << 2 | 1u << 3;
    q.forced = 2;
    cop_sampler_run(w->logits, 6, &q, w->scratch, &s);
    CHECK(agrees(s.forced_logprob, -1.0 * (double)1.02f - s.logsumexp));
    q.forced = 3;
    cop_sampler_run(w->logits, 6, &q, w->scratch, &s);
    CHECK(agrees(s.forced_logprob, -(double)s.logsumexp));
    /* -3 + 5.5 is positive when the penalty comes. */
    seen = 1u << 4;
    q.forced = 4, q.bias = &bias, q.n_bias = 1;
    cop_sampler_run(w->logits, 6, &q, w->scratch, &s);
    CHECK_EQ(s.token, 4);
    CHECK(agrees(s.logprob, 2.5 / (double)1.02f - s.logsumexp));
    q.repetition_penalty = 1e-30f, w->logits[4] = 3e38f;
    cop_sampler_run(w->logits, 6, &q, w->scratch, &s);
    CHECK(s.failed);
    free_world(w);
}

static void test_rows_that_cannot_be_sampled_fail(void) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    world *w = new_world();
    cop_sample s;
    cop_sample_request q = {.temperature = 1, .top_p = 1, .forced = -1};
    for (uint32_t position = 0; position < 99; position += 7) {
        for (int b = 0; b < 3; b++) {
            memset(w->logits, 0, sizeof w->logits);
            w->logits[position] = bad[b];
            cop_sampler_run(w->logits, 99, &q, w->scratch, &s);
            CHECK(s.failed);
            CHECK_EQ(s.token, -1);
            CHECK_EQ(s.n_top, 0);
        }
    }
    memset(w->logits, 0, sizeof w->logits);
    const cop_logit_bias ban[2] = {{.token = 0, .bias = -INFINITY},
                                   {.token = 1, .bias = -INFINITY}};
    q.bias = ban, q.n_bias = 2;
    cop_sampler_run(w->logits, 2, &q, w->scratch, &s);
    CHECK(s.failed);
    cop_sampler_run(w->logits, 3, &q, w->scratch, &s);
    CHECK(!s.failed);
    CHECK_EQ(s.token, 2);
    CHECK(s.logprob == 0.0f);
    const cop_logit_bias huge[2] = {{.token = 0, .bias = 3e38f}, {.token = 0, .bias = 3e38f}};
    q.bias = huge;
    cop_sampler_run(w->logits, 3, &q, w->scratch, &s);
    CHECK(s.failed);
    free_world(w);
}

static void test_a_draw_depends_on_its_key_alone(void) {
    world *w = new_world();
    fill_logits(w, 1000, 10);
    cop_sample_request q = {
        .temperature = 1, .top_p = 0.95f, .forced = -1, .key = {.seed = 1, .stream = 2}};
    cop_sample first, again;
    uint32_t changed = 0;
    for (uint64_t position = 0; position < 50; position++) {
        q.key.position = position;
        q.forced = -1;
        cop_sampler_run(w->logits, 1000, &q, w->scratch, &first);
        q.forced = 3;
        cop_sampler_run(w->logits, 1000, &q, w->scratch, &again);
        CHECK_EQ(first.token, again.token);
        q.key.stream = 3;
        cop_sampler_run(w->logits, 1000, &q, w->scratch, &again);
        changed += first.token != again.token;
        q.key.stream = 2;
    }
    CHECK(changed > 20);
    free_world(w);
}

static void test_requests_without_meaning_are_refused(void) {
    const cop_sample_request good = {.temperature = 1, .top_p = 0.9f, .forced = -1};
    cop_sample_request q = good;
    CHECK_OK(cop_sampler_check(&q, 10));
    q.temperature = -1;
    CHECK_STATUS(cop_sampler_check(&q, 10), COP_ERR_USAGE);
    q.temperature = NAN;
    CHECK_STATUS(cop_sampler_check(&q, 10), COP_ERR_USAGE);
    CHECK_MESSAGE("temperature");
    q = good;
    q.top_p = 1.5f;
    CHECK_STATUS(cop_sampler_check(&q, 10), COP_ERR_USAGE);
    q = good;
    q.min_p = NAN;
    CHECK_STATUS(cop_sampler_check(&q, 10), COP_ERR_USAGE);
    CHECK_MESSAGE("min_p");
    q = good;
    q.forced = 10;
    CHECK_STATUS(cop_sampler_check(&q, 10), COP_ERR_USAGE);
    CHECK_MESSAGE("forced");
    q = good;
    q.repetition_penalty = -1;
    CHECK_STATUS(cop_sampler_check(&q, 10), COP_ERR_USAGE);
    CHECK_MESSAGE("repetition penalty -1");
    q.repetition_penalty = 1.02f;
    CHECK_STATUS(cop_sampler_check(&q, 10), COP_ERR_USAGE);
    CHECK_MESSAGE("without the tokens");
    q.repetition_penalty = 1;
    CHECK_OK(cop_sampler_check(&q, 10));
    const cop_logit_bias outside = {.token = 10, .bias = 1}, infinite = {.token = 1, .bias = NAN};
    q = good;
    q.bias = &outside, q.n_bias = 1;
    CHECK_STATUS(cop_sampler_check(&q, 10), COP_ERR_USAGE);
    q.bias = &infinite;
    CHECK_STATUS(cop_sampler_check(&q, 10), COP_ERR_USAGE);
}

static void test_nothing_is_allocated(void) {
    world *w = new_world();
    fill_logits(w, VOCAB_MAX, 4);
    const uint64_t before = cop_memory_count();
    cop_sample s;
    cop_sampler_run(
        w->logits, VOCAB_MAX,
        &(cop_sample_request){.temperature = 0.8f, .top_k = 100, .top_p = 0.9f, .forced = 7},
        w->scratch, &s);
    CHECK_EQ(cop_memory_count(), before);
    free_world(w);
}

int main(void) {
    RUN(test_samples_equal_brute_force);
    RUN(test_frequencies_follow_probabilities);
    RUN(test_greedy_takes_the_lowest_id_of_a_tie);
    RUN(test_a_penalty_moves_what_was_seen);
    RUN(test_rows_that_cannot_be_sampled_fail);
    RUN(test_a_draw_depends_on_its_key_alone);
    RUN(test_requests_without_meaning_are_refused);
    RUN(test_nothing_is_allocated);
    return check_report();
}
