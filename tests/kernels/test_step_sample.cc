/* The invariant product and the sampler of step.h on the emulated device: bits against a plain fold
 * in the promised order and against the cpu sampler, bytes against cost.h. */
#include "step_world.h"

/* ---- product ---- */

/* The order that product.cu promises, where a product of two bf16 is exact and added one by one. */
static float product_reference(const uint16_t *x, const uint16_t *w, uint32_t inputs,
                               cop_product_split split) {
    float total = 0;
    for (uint32_t b = 0; b < split.blocks; b++) {
        float block = 0;
        for (uint32_t warp = 0; warp < COP_PRODUCT_WARPS; warp++) {
            float sum = 0;
            const uint32_t begin = (b * COP_PRODUCT_WARPS + warp) * split.slice;
            for (uint32_t k = begin; k < begin + split.slice && k < inputs; k += 32)
                for (uint32_t i = 0; i < 32; i++) {
                    const uint32_t half = i / 16, j = i % 16;
                    const uint32_t at = k + j % 8 / 2 * 8 + 4 * half + j / 8 * 2 + j % 2;
                    if (at < inputs)
                        sum = fmaf(cop_f32_from_bf16(w[at]), cop_f32_from_bf16(x[at]), sum);
                    else
                        sum += 0.0f;
                }
            block = warp == 0 ? sum : block + sum;
        }
        total = b == 0 ? block : total + block;
    }
    return total;
}

static found check_product(uint32_t rows, uint32_t outputs, uint32_t inputs, bool wide,
                           bool picked) {
    random_words random(outputs + inputs); /* rows of all row counts are the same */
    const uint32_t x_stride = inputs + 8, y_stride = outputs + 3;
    const std::vector<uint16_t> w0 = random_bf16(random, (size_t)outputs * inputs, 1.0f);
    const std::vector<uint16_t> x0 = random_bf16(random, (size_t)rows * x_stride, 1.0f);
    std::vector<uint32_t> pick(rows);
    for (uint32_t r = 0; r < rows; r++)
        pick[r] = picked ? (r * 7 + 3) % rows : r;
    const cop_product_split split = cop_product_split_of(outputs, inputs);
    buffer<uint16_t> w(w0, "w"), x(x0, "x"), y16((size_t)rows * y_stride, "y", EMU_OUTPUT);
    buffer<float> y32((size_t)rows * y_stride, "y", EMU_OUTPUT),
        workspace(cop_product_workspace_bytes(rows, outputs, inputs) / 4 + 1, "workspace",
                  EMU_WORKSPACE);
    buffer<uint32_t> counters(split.tiles, "counters", EMU_OUTPUT), chosen(pick, "pick");
    counters.zero();
    cop_product_args args = {};
    args.x = x.p, args.x_rows = picked ? chosen.p : nullptr, args.w = w.p;
    args.y = wide ? (void *)y32.p : y16.p, args.workspace = workspace.p;
    args.counters = counters.p, args.x_stride = x_stride, args.y_stride = y_stride;
    args.n_rows = rows, args.outputs = outputs, args.inputs = inputs, args.y_f32 = wide;
    for (int launch = 0; launch < 2; launch++) { /* the second meets what the first left */
        emu_poison();
        emu_reset_counts();
        EXPECT(cop_launch_product(&args, nullptr) == 0);
        EXPECT(BYTES_ARE(cop_cost_product(&args), "w", "x", "y", "pick", "workspace"));
        for (uint32_t t = 0; t < split.tiles; t++)
            EXPECT(counters.p[t] == 0);
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t n = 0; n < outputs; n++) {
                const uint16_t *row = &x0[(size_t)pick[r] * x_stride];
                const uint16_t *weights = &w0[(size_t)n * inputs];
                const float want = product_reference(row, weights, inputs, split);
                const float got = wide ? y32.p[(size_t)r * y_stride + n]
                                       : cop_f32_from_bf16(y16.p[(size_t)r * y_stride + n]);
                const float expected = wide ? want : cop_f32_from_bf16(cop_bf16_from_f32(want));
                EXPECT(memcmp(&got, &expected, sizeof got) == 0);
                double exact = 0, size = 0;
                for (uint32_t k = 0; k < inputs; k++) {
                    const double term =
                        (double)cop_f32_from_bf16(row[k]) * (double)cop_f32_from_bf16(weights[k]);
                    exact += term, size += fabs(term);
                }
                EXPECT(fabs(want - exact) <= size * 0x1p-20);
            }
        memset(y16.p, 0xff, y16.n * 2), memset(y32.p, 0xff, y32.n * 4);
    }
    return "";
}

/* ---- sample ---- */

struct sample_case {
    uint32_t vocab;
    float temperature;
    uint32_t top_k;
    float top_p, min_p;
    int32_t forced;
    uint32_t
        kind; /* of logits: 0 normal, 1 few levels (ties), 2 all equal, 3 steep, 4 heavy tail */
    uint32_t n_bias;
};

static std::vector<float> sample_logits(const sample_case &c, uint32_t row) {
    random_words random(c.vocab + row * 977 + c.kind);
    std::vector<float> v(c.vocab);
    for (uint32_t i = 0; i < c.vocab; i++) {
        const float x = random.normal() * 3.0f;
        v[i] = c.kind == 0   ? x
               : c.kind == 1 ? floorf(x)
               : c.kind == 2 ? -0.0f
               : c.kind == 3 ? x * 20.0f
                             : x * 0.05f;
    }
    return v;
}

static bool near(float got, float want) { /* one unit in the last place of the log-sum */
    return got == want || fabsf(got - want) <= 4e-6f * (1.0f + fabsf(want));
}

static found same_sample(const cop_sample_result &got, const cop_sample &want) {
    EXPECT(got.failed == want.failed);
    EXPECT(got.token == want.token);
    EXPECT(got.n_top == want.n_top);
    EXPECT(near(got.logprob, want.logprob) && near(got.forced_logprob, want.forced_logprob));
    EXPECT(near(got.logsumexp, want.logsumexp));
    double sum = 0;
    for (uint32_t i = 0; i < COP_SAMPLE_TOP; i++) {
        EXPECT(got.top_token[i] == (i < want.n_top ? want.top_token[i] : -1));
        EXPECT(near(got.top_logprob[i], i < want.n_top ? want.top_logprob[i] : 0.0f));
        sum += i < want.n_top ? (double)want.top_logprob[i] : 0.0;
    }
    EXPECT(near(got.confidence, want.n_top ? (float)(-sum / want.n_top) : 0.0f));
    return "";
}

static bool scripted; /* the forced token stands in a script */

/* `bad`: 0 none, 1 NaN, 2 inf, 3 a failed row, 4 a failed segment, 5 every token banned. */
static found check_sample(const sample_case &c, uint32_t n, uint32_t bad) {
    const uint32_t stride = (c.vocab + 3) / 4 * 4, bad_row = n / 2;
    std::vector<float> all((size_t)n * stride, NAN);
    std::vector<cop_sample_bias> biases;
    std::vector<cop_logit_bias> host_bias;
    for (uint32_t i = 0; i < c.n_bias; i++) { /* some tokens twice, one banned */
        const int32_t token = (int32_t)((i / 2 * 5u + 1) % c.vocab);
        const float bias = i == 3 ? -INFINITY : 0.37f * (float)(i + 1);
        biases.push_back({token, bias});
        host_bias.push_back({token, bias});
    }
    biases.push_back({0, 0.0f});
    std::vector<cop_sample_order> order(n);
    std::vector<cop_sample> want(n);
    std::vector<uint64_t> scratch(cop_sampler_scratch_bytes(c.vocab) / 8 + 1);
    for (uint32_t i = 0; i < n; i++) {
        std::vector<float> logits = sample_logits(c, i);
        if ((bad == 1 || bad == 2) && i == bad_row)
            logits[c.vocab - 1] = bad == 1 ? NAN : -INFINITY;
        if (bad == 5 && i == bad_row)
            logits.assign(c.vocab, -3e38f);
        memcpy(&all[(size_t)i * stride], logits.data(), c.vocab * 4);
        cop_sample_order &o = order[i];
        o = {};
        o.seed = 11, o.stream = cop_rng_fold(5, i), o.position = 1000 + ((uint64_t)i << 33);
        o.logits_row = i, o.temperature = c.temperature, o.top_k = c.top_k, o.top_p = c.top_p;
        o.min_p = c.min_p, o.forced = c.forced, o.n_bias = c.n_bias;
        o.row = (int32_t)i, o.next_row = (int32_t)(n - 1 - i);
        if (scripted && c.forced >= 0)
            o.forced = COP_FORCED_SCRIPT - (int32_t)i;
        cop_sample_request q = {};
        q.temperature = c.temperature, q.top_k = c.top_k, q.top_p = c.top_p, q.min_p = c.min_p;
        q.key = {o.seed, o.stream, o.position}, q.forced = c.forced;
        q.bias = host_bias.data(), q.n_bias = c.n_bias;
        if (cop_sampler_check(&q, c.vocab) != COP_OK)
            return cop_status_message();
        cop_sampler_run(logits.data(), c.vocab, &q, scratch.data(), &want[i]);
        if ((bad == 3 || bad == 4) && i == bad_row)
            want[i] = {}, want[i].token = -1, want[i].failed = true;
    }
    std::vector<uint32_t> flags(n, 0), broken(n, 0), row_segment(n);
    for (uint32_t i = 0; i < n; i++)
        row_segment[i] = n - 1 - i;
    flags[bad_row] = bad == 3;
    broken[row_segment[bad_row]] = bad == 4;
    buffer<float> logits(all, "logits");
    buffer<cop_sample_order> orders(order, "orders");
    buffer<cop_sample_bias> bias(biases, "bias");
    buffer<uint32_t> f(flags, "flags"), b(broken, "flags"), rs(row_segment, "flags");
    buffer<cop_sample_result> results(n, "results", EMU_OUTPUT);
    buffer<int32_t> next(n, "next", EMU_OUTPUT);
    std::vector<int32_t> lines(n + 1, c.forced);
    lines[n] = (int32_t)c.vocab / 2;
    buffer<int32_t> script(lines, "script");
    cop_sample_args args = {};
    args.logits = logits.p, args.orders = orders.p, args.bias = bias.p, args.row_failed = f.p;
    args.script = scripted ? script.p : nullptr;
    args.segment_failed = b.p, args.row_segment = rs.p, args.results = results.p;
    args.next_token = next.p, args.logits_stride = stride, args.n_orders = n, args.vocab = c.vocab;
    emu_reset_counts();
    EXPECT(cop_launch_sample(&args, nullptr) == 0);
    for (uint32_t i = 0; i < n; i++) {
        TRY(same_sample(results.p[i], want[i]));
        EXPECT(next.p[n - 1 - i] == (c.forced >= 0 && !want[i].failed ? c.forced : want[i].token));
    }
    if (bad == 0 && c.kind == 0 && !want[0].failed) { /* no ties: the passes are known */
        cop_launch_cost cost = {};
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t token = (uint32_t)want[i].token;
            const cop_sample_cost shape = {c.vocab, 0, &token, c.temperature > 0 ? 1u : 0u};
            const cop_launch_cost one = cop_cost_sample(&shape, &order[i]);
            cost.load_bytes += one.load_bytes, cost.store_bytes += one.store_bytes;
        }
        cost.load_bytes += scripted && c.forced >= 0 ? n * 4 : 0; /* the places, once each */
        EXPECT(BYTES_ARE(cost, "logits", "results", "script"));
    }
    return "";
}

/* ---- small enough for every schedule and mutant ---- */

static found check_all_product() {
    TRY(check_product(3, 40, 2056, true, false));
    TRY(check_product(9, 33, 200, false, true));
    return "";
}

static found check_scripted(const sample_case &c, uint32_t n, uint32_t bad) {
    scripted = true;
    const found f = check_sample(c, n, bad);
    scripted = false;
    return f;
}

static found check_all_sample() {
    TRY(check_scripted({300, 0.0f, 0, 1.0f, 0.0f, 299, 0, 4}, 2, 0));
    TRY(check_sample({300, 0.0f, 0, 1.0f, 0.0f, 299, 0, 4}, 2, 0));
    TRY(check_sample({5000, 1.0f, 0, 1.0f, 0.0f, -1, 4, 0}, 2, 0));
    TRY(check_sample({700, 0.8f, 40, 0.9f, 0.02f, -1, 1, 5}, 3, 0));
    TRY(check_sample({2100, 0.7f, 7, 1.0f, 0.0f, -1, 1, 0}, 2, 1));
    TRY(check_sample({900, 1.3f, 0, 0.4f, 0.0f, -1, 2, 0}, 2, 0));
    TRY(check_sample({2500, 1.0f, 0, 0.9999f, 0.0f, -1, 4, 0}, 1, 0)); /* a sum near the whole */
    TRY(check_sample({3, 1.0f, 2, 0.99f, 0.0f, 1, 0, 0}, 2, 0));
    return "";
}

/* ---- tests ---- */

static void test_product_under_every_schedule() {
    every_schedule(check_all_product);
}
static void test_sample_under_every_schedule() {
    every_schedule(check_all_sample);
}

static void test_product_shapes() {
    const uint32_t rows[] = {1, 7, 8, 16, 17, 32, 33, 64};
    for (uint32_t r : rows) { /* the reference has no row count: so a row's bits have none */
        expect_none(check_product(r, 50, 328, true, false));
        expect_none(check_product(r, 32, 1032, r % 2 != 0, r > 8));
    }
    expect_none(check_product(1, 1, 8, true, false));
}

static void test_sample_shapes() {
    const uint32_t vocab[] = {1, 2, 19, 20, 21, 511, 2048, 2049, 6144};
    for (uint32_t v : vocab)
        for (uint32_t kind = 0; kind < 5; kind++) {
            const int32_t forced = kind % 2 ? (int32_t)(v - 1) : -1;
            expect_none(check_sample({v, 0.0f, 0, 1.0f, 0.0f, forced, kind, 0}, 1, 0));
            expect_none(check_sample({v, 1.0f, 0, 1.0f, 0.0f, forced, kind, 0}, 2, 0));
            expect_none(check_sample({v, 0.6f, 0, 0.95f, 0.0f, forced, kind, 3}, 2, 0));
            expect_none(check_sample({v, 1.5f, 50, 0.8f, 0.05f, forced, kind, 0}, 2, 0));
            expect_none(check_sample({v, 1.0f, 600, 1.0f, 0.0f, forced, kind, 0}, 1, 0));
            expect_none(check_sample({v, 1.0f, 20, 0.5f, 0.0f, forced, kind, 6}, 1, 0));
            expect_none(check_sample({v, 0.9f, 1, 0.0f, 1.0f, forced, kind, 0}, 1, 0));
        }
    expect_none(check_sample({49152, 0.7f, 0, 0.9f, 0.0f, 5, 0, 40}, 1, 0));
    expect_none(check_sample({151936, 1.0f, 64, 0.9f, 0.01f, -1, 0, 0}, 1, 0));
}

static void test_sample_bad_rows() {
    for (uint32_t bad = 1; bad <= 4; bad++) {
        expect_none(check_sample({777, 1.0f, 0, 0.9f, 0.0f, 3, 0, 2}, 3, bad));
        expect_none(check_scripted({777, 1.0f, 0, 0.9f, 0.0f, 3, 0, 2}, 3, bad));
    }
    /* -3e38 with a bias of -inf on its only token: no finite logit is left. */
    expect_none(check_sample({1, 1.0f, 0, 1.0f, 0.0f, -1, 0, 4}, 3, 5));
}

static void test_every_mutant_is_caught() {
    CHECK_EQ(hunt("product_slice", check_all_product), 1);
    CHECK_EQ(hunt("product_no_sum", check_all_product), 1);
    CHECK_EQ(hunt("product_arrival", check_all_product), 1);
    CHECK_EQ(hunt("product_dirty", check_all_product), 1);
    CHECK_EQ(hunt("product_no_fence", check_all_product), 1);
    CHECK_EQ(hunt("product_early", check_all_product), 1);
    CHECK_EQ(hunt("sample_", check_all_sample), 11);
}

int main() {
    RUN(test_product_under_every_schedule);
    RUN(test_sample_under_every_schedule);
    RUN(test_product_shapes);
    RUN(test_sample_shapes);
    RUN(test_sample_bad_rows);
    RUN(test_every_mutant_is_caught);
    return check_report();
}
