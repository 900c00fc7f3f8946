/* The kernels besides attention, each on a few sizes, against double precision or, where they only
 * move values, exactly. Outputs are NaN before a launch. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check_device.h"
#include "kernels/step.h"

/* Error over its bound; a NaN makes it NaN, which no comparison passes. */
static double ratio(double is, double expected, double bound) {
    return fabs(is - expected) / bound;
}

static double worse(double worst, double x) {
    return isnan(worst) || x <= worst ? worst : x; /* once NaN, always NaN */
}

static uint16_t *random_bf16(values *random, size_t n, float amplitude) {
    uint16_t *x = host_take(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = to_bf16(amplitude * next_uniform(random));
    return x;
}

static float *random_f32(values *random, size_t n, float amplitude) {
    float *x = host_take(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = amplitude * next_uniform(random);
    return x;
}

static void check_advance(void) {
    cop_segment segments[3] = {{0, 5}, {1, 64}, {2, 0}};
    const cop_open_segment open[3] = {{0, 1, 1, 0}, {2, 3, -1, 1}, {1, 0, 0, 1}};
    int32_t position[2] = {10, 20};
    cop_sample_order orders[2] = {{.position = UINT32_MAX, .forced = COP_FORCED_SCRIPT},
                                  {.position = 7, .forced = 5}};
    uint32_t marks[3] = {1, 1, 1}, tickets[2] = {7, 9}, rows[2] = {1, 1};
    const uint32_t row_segment[2] = {0, 2};
    const cop_advance_args args = {.segments = device_put(segments, sizeof segments),
                                   .open = device_put(open, sizeof open),
                                   .position = device_put(position, sizeof position),
                                   .orders = device_put(orders, sizeof orders),
                                   .tickets = device_put(tickets, sizeof tickets),
                                   .row_failed = device_put(rows, sizeof rows),
                                   .segment_failed = device_put(marks, sizeof marks),
                                   .row_segment = device_put(row_segment, sizeof row_segment),
                                   .n_open = 3,
                                   .n_tickets = 2,
                                   .n_rows = 2};
    device_expect(cop_launch_advance(&args, NULL), "advance");
    device_get(segments, args.segments, sizeof segments);
    device_get(position, args.position, sizeof position);
    device_get(orders, args.orders, sizeof orders);
    device_get(tickets, args.tickets, sizeof tickets);
    device_get(rows, args.row_failed, sizeof rows);
    device_get(marks, args.segment_failed, sizeof marks);
    report_case(segments[0].tokens == 6 && segments[1].tokens == 64 && segments[2].tokens == 3 &&
                    position[0] == 10 && position[1] == 21 && tickets[0] == 0 && tickets[1] == 0 &&
                    rows[0] == 0 && rows[1] == 0 && marks[0] == 0 && marks[1] == 1 &&
                    marks[2] == 0 && orders[0].position == 1ull + UINT32_MAX &&
                    orders[0].forced == COP_FORCED_SCRIPT - 1 && orders[1].position == 10 &&
                    orders[1].forced == 5,
                "advance 3 segments, 2 rows, 2 orders");
    device_release();
}

static void check_patch(void) {
    uint32_t a[40], b[8], bad = 0;
    for (uint32_t i = 0; i < 40; i++)
        a[i] = 1000 + i;
    memset(b, 0, sizeof b);
    const uint32_t words[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const cop_patch_record records[] = {{0, 30, 10, 0}, {1, 2, 2, 10}, {0, 0, 1, 5}};
    cop_patch_args args = {.records = device_put(records, sizeof records),
                           .words = device_put(words, sizeof words),
                           .bad = device_put(&bad, sizeof bad),
                           .n_tables = 2,
                           .n_records = 3,
                           .n_words = 12};
    args.tables[0] = (cop_patch_table){device_put(a, sizeof a), 40};
    args.tables[1] = (cop_patch_table){device_put(b, sizeof b), 8};
    device_expect(cop_launch_patch(&args, NULL), "patch");
    device_get(a, args.tables[0].words, sizeof a);
    device_get(b, args.tables[1].words, sizeof b);
    device_get(&bad, args.bad, sizeof bad);
    bool ok = bad == 0 && a[0] == 6 && b[2] == 11 && b[3] == 12 && b[4] == 0 && b[1] == 0;
    for (uint32_t i = 1; i < 40; i++)
        ok &= a[i] == (i < 30 ? 1000 + i : i - 29);
    report_case(ok, "patch  2 tables, 3 records");
    device_release();
}

static void check_embed(values *random) {
    enum { VOCAB = 50, HIDDEN = 192, ROWS = 5 };
    uint16_t *table = random_bf16(random, VOCAB * HIDDEN, 1), x[ROWS * HIDDEN];
    const int32_t token[ROWS] = {0, 49, 7, -1, 50};
    const uint32_t row_segment[ROWS] = {0, 1, 2, 3, 4};
    uint32_t rows[ROWS] = {0}, marks[ROWS] = {0};
    const cop_embed_args args = {.embedding = device_put(table, VOCAB * HIDDEN * sizeof *table),
                                 .token = device_put(token, sizeof token),
                                 .row_segment = device_put(row_segment, sizeof row_segment),
                                 .x = device_take(sizeof x),
                                 .row_failed = device_put(rows, sizeof rows),
                                 .segment_failed = device_put(marks, sizeof marks),
                                 .n_rows = ROWS,
                                 .hidden = HIDDEN,
                                 .vocab = VOCAB};
    device_expect(cop_launch_embed(&args, NULL), "embed");
    device_get(x, args.x, sizeof x);
    device_get(rows, args.row_failed, sizeof rows);
    device_get(marks, args.segment_failed, sizeof marks);
    bool ok = true;
    for (uint32_t r = 0; r < ROWS; r++) {
        ok &= (rows[r] != 0) == (r > 2) && (marks[r] != 0) == (r > 2);
        for (uint32_t i = 0; i < HIDDEN; i++)
            ok &= x[r * HIDDEN + i] == (r > 2 ? 0 : table[token[r] * HIDDEN + (int32_t)i]);
    }
    report_case(ok, "embed  %d rows of %d, two tokens outside the vocabulary", ROWS, HIDDEN);
    free(table);
    device_release();
}

static void check_norm(values *random, uint32_t hidden, bool with_delta) {
    enum { ROWS = 3 };
    const size_t n = (size_t)ROWS * hidden;
    uint16_t *x = random_bf16(random, n, 3), *delta = random_bf16(random, n, 3);
    uint16_t *sum = host_take(n, sizeof *sum), *out = host_take(n, sizeof *out);
    float *weight = random_f32(random, hidden, 2);
    const cop_norm_args args = {.x = device_put(x, n * sizeof *x),
                                .delta = with_delta ? device_put(delta, n * sizeof *delta) : NULL,
                                .weight = device_put(weight, hidden * sizeof *weight),
                                .out = device_take(n * sizeof *out),
                                .eps = 1e-5f,
                                .n_rows = ROWS,
                                .hidden = hidden};
    device_expect(cop_launch_norm(&args, NULL), "norm");
    device_get(sum, args.x, n * sizeof *sum);
    device_get(out, args.out, n * sizeof *out);
    double worst = 0;
    bool exact = true;
    for (uint32_t r = 0; r < ROWS; r++) {
        double squares = 0;
        for (uint32_t i = 0; i < hidden; i++) {
            const size_t at = (size_t)r * hidden + i;
            const float added =
                with_delta ? from_bf16(x[at]) + from_bf16(delta[at]) : from_bf16(x[at]);
            exact &= sum[at] == to_bf16(added);
            squares += (double)from_bf16(sum[at]) * from_bf16(sum[at]);
        }
        const double factor = 1 / sqrt(squares / hidden + 1e-5f);
        for (uint32_t i = 0; i < hidden; i++) {
            const size_t at = (size_t)r * hidden + i;
            const double is = from_bf16(sum[at]) * factor * weight[i];
            worst = worse(worst, ratio(from_bf16(out[at]), is, 0x1.1p-8 * fabs(is) + 1e-30));
        }
    }
    report_case(exact && worst <= 1, "norm   %d rows of %u%s, error %.2f", ROWS, hidden,
                with_delta ? " with a residual" : "", worst);
    free(x);
    free(delta);
    free(sum);
    free(out);
    free(weight);
    device_release();
}

static void check_activate(values *random, uint32_t ffn) {
    enum { ROWS = 3 };
    const size_t n = (size_t)ROWS * ffn;
    uint16_t *gate_up = random_bf16(random, 2 * n, 12), *out = host_take(n, sizeof *out);
    const cop_activate_args args = {.gate_up = device_put(gate_up, 2 * n * sizeof *gate_up),
                                    .out = device_take(n * sizeof *out),
                                    .n_rows = ROWS,
                                    .ffn = ffn};
    device_expect(cop_launch_activate(&args, NULL), "activate");
    device_get(out, args.out, n * sizeof *out);
    double worst = 0;
    for (uint32_t r = 0; r < ROWS; r++) {
        for (uint32_t i = 0; i < ffn; i++) {
            const double gate = from_bf16(gate_up[(size_t)r * 2 * ffn + i]);
            const double up = from_bf16(gate_up[((size_t)r * 2 + 1) * ffn + i]);
            const double is = gate / (1 + exp(-gate)) * up;
            worst = worse(
                worst, ratio(from_bf16(out[(size_t)r * ffn + i]), is, 0x1.1p-8 * fabs(is) + 1e-30));
        }
    }
    report_case(worst <= 1, "activate %d rows of %u, error %.2f", ROWS, ffn, worst);
    free(gate_up);
    free(out);
    device_release();
}

enum { APPEND_ROWS = 4, APPEND_PAGES = 8, APPEND_PAGE_TOKENS = 16, APPEND_POSITIONS = 40 };

typedef struct append_world {
    uint32_t d, n_heads, n_kv_heads, rope, width;
    bool with_norms, with_bias;
    uint16_t *qkv;
    float *cosine, *sine, *bias, *q_norm, *k_norm;
} append_world;

/* What one head of row r becomes. */
static void append_expect(const append_world *w, uint32_t row, uint32_t head, int32_t position,
                          double *out) {
    const uint32_t d = w->d;
    double x[256], squares = 0;
    for (uint32_t i = 0; i < d; i++) {
        x[i] = from_bf16(w->qkv[(size_t)row * w->width + head * d + i]);
        x[i] += w->with_bias ? w->bias[head * d + i] : 0;
        squares += x[i] * x[i];
    }
    const bool rotates = head < w->n_heads + w->n_kv_heads;
    const float *norm = head < w->n_heads ? w->q_norm : w->k_norm;
    for (uint32_t i = 0; i < d && rotates && w->with_norms; i++)
        x[i] *= norm[i] / sqrt(squares / d + 1e-6f);
    for (uint32_t i = 0; i < d / 2; i++) {
        const uint32_t a = w->rope == COP_ROPE_HALVES ? i : 2 * i;
        const uint32_t b = w->rope == COP_ROPE_HALVES ? i + d / 2 : 2 * i + 1;
        const double c = rotates ? w->cosine[(uint32_t)position * (d / 2) + i] : 1;
        const double s = rotates ? w->sine[(uint32_t)position * (d / 2) + i] : 0;
        out[a] = x[a] * c - x[b] * s;
        out[b] = x[b] * c + x[a] * s;
    }
}

static double head_error(const uint16_t *is, const double *expected, uint32_t d, bool zero) {
    double worst = 0, largest = 0;
    for (uint32_t i = 0; i < d; i++)
        largest = fmax(largest, fabs(expected[i]));
    for (uint32_t i = 0; i < d; i++) /* three values are rounded on the way: bias, norm, rotation */
        worst = worse(worst, zero ? (is[i] == 0 ? 0 : NAN)
                                  : ratio(from_bf16(is[i]), expected[i], 4 * 0x1p-9 * largest));
    return worst;
}

static void append_world_fill(append_world *w, values *random) {
    w->width = (w->n_heads + 2 * w->n_kv_heads) * w->d;
    w->qkv = random_bf16(random, (size_t)APPEND_ROWS * w->width, 2);
    w->qkv[2 * w->width + 1] = 0x7f80; /* row 2 has an infinite query */
    w->bias = random_f32(random, w->width, 0.5f);
    w->q_norm = random_f32(random, w->d, 2);
    w->k_norm = random_f32(random, w->d, 2);
    w->cosine = host_take((size_t)APPEND_POSITIONS * w->d / 2, sizeof *w->cosine);
    w->sine = host_take((size_t)APPEND_POSITIONS * w->d / 2, sizeof *w->sine);
    for (uint32_t p = 0; p < APPEND_POSITIONS; p++) {
        for (uint32_t i = 0; i < w->d / 2; i++) {
            const double angle = p * pow(10000, -2.0 * i / w->d);
            w->cosine[p * (w->d / 2) + i] = (float)cos(angle);
            w->sine[p * (w->d / 2) + i] = (float)sin(angle);
        }
    }
}

static void append_world_free(append_world *w) {
    free(w->qkv);
    free(w->bias);
    free(w->q_norm);
    free(w->k_norm);
    free(w->cosine);
    free(w->sine);
}

static void check_append(append_world w, values *random) {
    const cop_segment segments[APPEND_ROWS] = {{0, 33}, {3, 1}, {4, 5}, {5, 40}};
    const uint32_t table[APPEND_PAGES] = {6, 1, 4, 3, 0, 7, 2, 5};
    const uint32_t row_segment[APPEND_ROWS] = {0, 1, 2, 3};
    const uint32_t row_offset[APPEND_ROWS] = {COP_AT_END, 0, 4, 17};
    const uint32_t at[APPEND_ROWS] = {32, 0, 4, 17};
    const int32_t position[APPEND_ROWS] = {32, 0, 39, 17};
    uint32_t rows[APPEND_ROWS] = {0}, marks[APPEND_ROWS] = {0};
    append_world_fill(&w, random);
    const size_t pool_n = (size_t)APPEND_PAGES * 2 * w.n_kv_heads * APPEND_PAGE_TOKENS * w.d;
    const size_t q_n = (size_t)APPEND_ROWS * w.n_heads * w.d,
                 angles = (size_t)APPEND_POSITIONS * w.d / 2;
    const cop_append_args args = {
        .qkv = device_put(w.qkv, (size_t)APPEND_ROWS * w.width * sizeof *w.qkv),
        .query = device_take(q_n * sizeof(uint16_t)),
        .pool = device_take(pool_n * sizeof(uint16_t)),
        .segments = device_put(segments, sizeof segments),
        .page_table = device_put(table, sizeof table),
        .row_segment = device_put(row_segment, sizeof row_segment),
        .row_offset = device_put(row_offset, sizeof row_offset),
        .position = device_put(position, sizeof position),
        .cosine = device_put(w.cosine, angles * sizeof(float)),
        .sine = device_put(w.sine, angles * sizeof(float)),
        .bias = w.with_bias ? device_put(w.bias, w.width * sizeof(float)) : NULL,
        .q_norm = w.with_norms ? device_put(w.q_norm, w.d * sizeof(float)) : NULL,
        .k_norm = w.with_norms ? device_put(w.k_norm, w.d * sizeof(float)) : NULL,
        .row_failed = device_put(rows, sizeof rows),
        .segment_failed = device_put(marks, sizeof marks),
        .eps = 1e-6f,
        .n_rows = APPEND_ROWS,
        .n_heads = w.n_heads,
        .n_kv_heads = w.n_kv_heads,
        .head_dim = w.d,
        .page_tokens = APPEND_PAGE_TOKENS,
        .rope = w.rope,
    };
    device_expect(cop_launch_append(&args, NULL), "append");
    uint16_t *query = host_take(q_n, sizeof *query), *pool = host_take(pool_n, sizeof *pool);
    device_get(query, args.query, q_n * sizeof *query);
    device_get(pool, args.pool, pool_n * sizeof *pool);
    device_get(rows, args.row_failed, sizeof rows);
    device_get(marks, args.segment_failed, sizeof marks);
    double worst = 0;
    bool marked = true;
    size_t written = 0;
    for (uint32_t r = 0; r < APPEND_ROWS; r++) {
        const bool zero = r == 2;
        marked &= (rows[r] != 0) == zero && (marks[r] != 0) == zero;
        const uint32_t page = table[segments[r].page_table_offset + at[r] / APPEND_PAGE_TOKENS];
        for (uint32_t h = 0; h < w.n_heads + 2 * w.n_kv_heads; h++) {
            double expected[256];
            append_expect(&w, r, h, position[r], expected);
            const uint32_t kv = h < w.n_heads ? 0 : (h - w.n_heads) % w.n_kv_heads;
            const uint32_t is_v = h >= w.n_heads + w.n_kv_heads;
            const uint16_t *is =
                h < w.n_heads ? query + ((size_t)r * w.n_heads + h) * w.d
                              : pool + cop_pool_offset(page, is_v, kv, at[r] % APPEND_PAGE_TOKENS,
                                                       w.n_kv_heads, APPEND_PAGE_TOKENS, w.d);
            worst = worse(worst, head_error(is, expected, w.d, zero));
        }
    }
    for (size_t i = 0; i < pool_n; i++)
        written += pool[i] != 0xffff;
    const bool nowhere_else = written == (size_t)APPEND_ROWS * 2 * w.n_kv_heads * w.d;
    report_case(worst <= 1 && marked && nowhere_else,
                "append %d rows, d %u, heads %u/%u, %s%s%s, error %.2f%s%s", APPEND_ROWS, w.d,
                w.n_heads, w.n_kv_heads, w.rope == COP_ROPE_HALVES ? "halves" : "neighbours",
                w.with_bias ? ", bias" : "", w.with_norms ? ", norms" : "", worst,
                marked ? "" : ", wrong marks", nowhere_else ? "" : ", stores elsewhere");
    free(query);
    free(pool);
    append_world_free(&w);
    device_release();
}

static void check_copy_pages(values *random) {
    enum { PAGES = 6, TOKENS = 32, D = 64, HEADS = 2, LAYERS = 2 };
    const size_t layer = (size_t)PAGES * 2 * HEADS * TOKENS * D;
    uint16_t *pool = random_bf16(random, layer * LAYERS, 1);
    uint16_t *is = host_take(layer * LAYERS, sizeof *is);
    const cop_page_copy copies[] = {{0, 3, 32}, {2, 5, 7}};
    const cop_copy_pages_args args = {.pool = device_put(pool, layer * LAYERS * sizeof *pool),
                                      .layer_elements = layer,
                                      .copies = device_put(copies, sizeof copies),
                                      .n_copies = 2,
                                      .n_layers = LAYERS,
                                      .n_kv_heads = HEADS,
                                      .head_dim = D,
                                      .page_tokens = TOKENS};
    device_expect(cop_launch_copy_pages(&args, NULL), "copy_pages");
    device_get(is, args.pool, layer * LAYERS * sizeof *is);
    for (uint32_t l = 0; l < LAYERS; l++)
        for (uint32_t c = 0; c < 2; c++)
            for (uint32_t k = 0; k < 2 * HEADS; k++)
                memcpy(
                    pool + l * layer +
                        cop_pool_offset(copies[c].to, k / HEADS, k % HEADS, 0, HEADS, TOKENS, D),
                    pool + l * layer +
                        cop_pool_offset(copies[c].from, k / HEADS, k % HEADS, 0, HEADS, TOKENS, D),
                    copies[c].tokens * D * sizeof *pool);
    report_case(memcmp(is, pool, layer * LAYERS * sizeof *is) == 0,
                "copy_pages 2 copies, %d layers", LAYERS);
    free(pool);
    free(is);
    device_release();
}

/* Against double, and each row alone: its bits may not depend on the other rows. */
static void check_product(values *random, uint32_t n_rows, uint32_t outputs, uint32_t inputs) {
    uint16_t *x = random_bf16(random, (size_t)n_rows * inputs, 1);
    uint16_t *w = random_bf16(random, (size_t)outputs * inputs, 1);
    const size_t n = (size_t)n_rows * outputs;
    float *y = host_take(n, sizeof *y), *alone = host_take(outputs, sizeof *alone);
    const cop_product_split split = cop_product_split_of(outputs, inputs);
    uint32_t picked = n_rows - 1;
    cop_product_args args = {.x = device_put(x, (size_t)n_rows * inputs * sizeof *x),
                             .w = device_put(w, (size_t)outputs * inputs * sizeof *w),
                             .y = device_take(n * sizeof *y),
                             .workspace =
                                 device_take(cop_product_workspace_bytes(n_rows, outputs, inputs)),
                             .counters = device_put(NULL, split.tiles * sizeof(uint32_t)),
                             .x_stride = inputs,
                             .y_stride = outputs,
                             .n_rows = n_rows,
                             .outputs = outputs,
                             .inputs = inputs,
                             .y_f32 = 1};
    device_expect(cop_launch_product(&args, NULL), "product");
    device_get(y, args.y, n * sizeof *y);
    double worst = 0;
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t o = 0; o < outputs; o++) {
            double sum = 0, magnitude = 0;
            for (uint32_t i = 0; i < inputs; i++) {
                const double p = (double)from_bf16(x[(size_t)r * inputs + i]) *
                                 from_bf16(w[(size_t)o * inputs + i]);
                sum += p;
                magnitude += fabs(p);
            }
            /* Tensor cores may drop low bits of aligned sums: 2^-20 of the magnitudes. */
            worst = worse(worst, ratio(y[(size_t)r * outputs + o], sum, 0x1p-20 * magnitude));
        }
    }
    args.x_rows = device_put(&picked, sizeof picked);
    args.n_rows = 1;
    device_expect(cop_launch_product(&args, NULL), "product of one row");
    device_get(alone, args.y, outputs * sizeof *alone);
    const bool same = memcmp(alone, y + (size_t)picked * outputs, outputs * sizeof *alone) == 0;
    report_case(worst <= 1 && same, "product %u rows, %u x %u, error %.2f%s", n_rows, outputs,
                inputs, worst, same ? "" : ", a row alone has other bits");
    free(x);
    free(w);
    free(y);
    free(alone);
    device_release();
}

typedef struct sample_world {
    uint32_t vocab, n;
    float *logits;
    cop_sample_order *orders;
    cop_sample_result *results;
} sample_world;

static void sample_run(sample_world *w) {
    const cop_sample_args args = {
        .logits = device_put(w->logits, w->vocab * sizeof(float)),
        .orders = device_put(w->orders, w->n * sizeof *w->orders),
        .bias = device_take(16),
        .row_failed = device_put(NULL, 16),
        .segment_failed = device_put(NULL, 16),
        .row_segment = device_put(NULL, 16),
        .results = device_take(w->n * sizeof *w->results),
        .logits_stride = w->vocab,
        .n_orders = w->n,
        .vocab = w->vocab,
    };
    device_expect(cop_launch_sample(&args, NULL), "sample");
    device_get(w->results, args.results, w->n * sizeof *w->results);
    device_release();
}

/* Greedy takes the best; draws from the best four have their frequencies (each within five standard
 * deviations) and nothing else is drawn. */
static void check_sample(values *random) {
    enum { VOCAB = 1000, DRAWS = 400, BEST = 4 };
    sample_world w = {.vocab = VOCAB, .n = DRAWS + 1};
    w.logits = random_f32(random, VOCAB, 3);
    w.orders = host_take(w.n, sizeof *w.orders);
    w.results = host_take(w.n, sizeof *w.results);
    static const uint32_t best[BEST] = {999, 0, 517, 3};
    static const float value[BEST] = {6, 5.5f, 5, 4.5f};
    double total = 0, four = 0;
    for (uint32_t i = 0; i < BEST; i++)
        w.logits[best[i]] = value[i];
    for (uint32_t i = 0; i < VOCAB; i++)
        total += exp(w.logits[i]);
    for (uint32_t i = 0; i < BEST; i++)
        four += exp(value[i]);
    for (uint32_t i = 0; i < w.n; i++)
        w.orders[i] = (cop_sample_order){.seed = 5,
                                         .stream = 1,
                                         .position = i,
                                         .temperature = i ? 1.0f : 0.0f,
                                         .top_k = i ? BEST : 0,
                                         .top_p = 1,
                                         .forced = -1,
                                         .row = -1,
                                         .next_row = -1};
    sample_run(&w);
    const cop_sample_result *greedy = &w.results[0];
    bool ok = greedy->token == 999 && !greedy->failed && greedy->n_top == COP_SAMPLE_TOP;
    ok &= fabs(greedy->logsumexp - log(total)) <= 1e-4;
    ok &= fabs(greedy->logprob - (6 - log(total))) <= 1e-4;
    uint32_t drawn[BEST] = {0}, others = 0;
    for (uint32_t i = 0; i < BEST; i++)
        ok &= greedy->top_token[i] == (int32_t)best[i];
    for (uint32_t i = 1; i < w.n; i++) {
        uint32_t k = 0;
        while (k < BEST && w.results[i].token != (int32_t)best[k])
            k++;
        if (k < BEST)
            drawn[k]++;
        others += k == BEST;
    }
    double worst = 0;
    for (uint32_t i = 0; i < BEST; i++) {
        const double p = exp(value[i]) / four;
        worst = worse(worst, ratio(drawn[i], p * DRAWS, sqrt(p * (1 - p) * DRAWS)));
    }
    report_case(ok && others == 0 && worst <= 5,
                "sample greedy of %d, %d draws of the best %d: %.1f standard deviations", VOCAB,
                DRAWS, BEST, worst);
    free(w.logits);
    free(w.orders);
    free(w.results);
}

void check_step_kernels(void) {
    values random = {.state = 11};
    check_advance();
    check_patch();
    check_embed(&random);
    check_norm(&random, 576, true);
    check_norm(&random, 2048, false);
    check_activate(&random, 1536);
    check_activate(&random, 8);
    static const uint32_t dims[] = {64, 96, 128, 256};
    for (uint32_t i = 0; i < 4; i++) {
        const append_world w = {.d = dims[i],
                                .n_heads = 3 * (1 + i % 2),
                                .n_kv_heads = 1 + i % 2,
                                .rope = i % 2 ? COP_ROPE_HALVES : COP_ROPE_NEIGHBOURS,
                                .with_norms = i > 1,
                                .with_bias = true};
        check_append(w, &random);
    }
    static const append_world families[] = {
        {.d = 64, .n_heads = 9, .n_kv_heads = 3, .rope = COP_ROPE_NEIGHBOURS},
        {.d = 64, .n_heads = 14, .n_kv_heads = 2, .rope = COP_ROPE_HALVES, .with_bias = true},
        {.d = 128, .n_heads = 16, .n_kv_heads = 8, .rope = COP_ROPE_HALVES, .with_norms = true},
    };
    for (uint32_t i = 0; i < sizeof families / sizeof *families; i++)
        check_append(families[i], &random);
    check_copy_pages(&random);
    check_product(&random, 1, 96, 576);
    check_product(&random, 17, 100, 512);
    check_product(&random, 64, 32, 1536);
    check_sample(&random);
}
