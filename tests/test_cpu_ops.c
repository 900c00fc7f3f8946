/* The cpu backend: its row operations against backend/arith.h restated plainly, and whole steps of
 * a small random model against double precision, across instruction sets, batches and threads. */
#include <math.h>
#include <unistd.h>

#include "backend/cpu/cpu.h"
#include "base/memory.h"
#include "check.h"
#include "kv/fold_reference.h"
#include "model/forward.h"
#include "ref/forward_double.h"

static const cop_isa isas[] = {COP_ISA_PORTABLE, COP_ISA_AVX2, COP_ISA_AVX512};
enum { ISAS = 3, WIDTH_MAX = 700 };

static float noise(uint64_t seed, uint32_t i, float scale) {
    return scale * (float)(2 * cop_rng_uniform((cop_rng_key){.seed = seed}, i) - 1);
}

static float bf16(float x) {
    return cop_f32_from_bf16(cop_bf16_from_f32(x));
}

static void check_same(const float *got, const float *want, uint32_t n, const char *what) {
    for (uint32_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], sizeof *got) == 0 || (isnan(got[i]) && isnan(want[i])))
            continue;
        fprintf(stderr, "%s: element %u of %u is %.9g, not %.9g\n", what, i, n, got[i], want[i]);
        exit(1);
    }
}

static void expect_norm(const float *x, const float *w, uint32_t n, float eps, float *out) {
    float lane[8] = {0};
    for (uint32_t i = 0; i < n; i++)
        lane[i % 8] = fmaf(x[i], x[i], lane[i % 8]);
    const float ss =
        ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
    const float r = 1.0f / sqrtf(ss / (float)n + eps);
    for (uint32_t i = 0; i < n; i++)
        out[i] = x[i] * r * w[i];
}

static void test_norm_has_the_declared_bits(void) {
    static const uint32_t widths[] = {1, 7, 8, 31, 576, 699};
    for (uint32_t c = 0; c < 6 * ISAS; c++) {
        if (!cop_isa_available(isas[c % ISAS]))
            continue;
        const cop_cpu_ops *ops = cop_cpu_ops_for(isas[c % ISAS]);
        const uint32_t n = widths[c / ISAS];
        float x[WIDTH_MAX], w[WIDTH_MAX], want[WIDTH_MAX], got[WIDTH_MAX];
        for (uint32_t i = 0; i < n; i++)
            x[i] = noise(1, i, 3), w[i] = noise(2, i, 1);
        expect_norm(x, w, n, 1e-5f, want);
        ops->norm(x, w, n, 1e-5f, false, got);
        check_same(got, want, n, "norm");
        ops->norm(x, w, n, 1e-5f, true, got);
        for (uint32_t i = 0; i < n; i++)
            want[i] = bf16(want[i]);
        check_same(got, want, n, "rounded norm");
    }
}

static void test_silu_uses_the_one_exp2(void) {
    static const float special[] = {0.0f,   -0.0f,  1e-30f, -1e-30f,   87.0f,     -87.0f, 88.8f,
                                    -88.8f, 200.0f, -200.f, INFINITY,  -INFINITY, NAN,    -NAN,
                                    3e38f,  -3e38f, 89.0f,  -87.3366f, 103.9f,    -103.9f};
    enum { SPECIAL = sizeof special / sizeof *special };
    float gate[WIDTH_MAX], up[WIDTH_MAX], want[WIDTH_MAX], got[WIDTH_MAX];
    for (uint32_t i = 0; i < WIDTH_MAX; i++) {
        gate[i] = i < SPECIAL ? special[i] : noise(3, i, i % 3 ? 10 : 130);
        up[i] = noise(4, i, 2);
        want[i] = gate[i] / (1.0f + cop_exp2(-gate[i] * 0x1.715476p+0f)) * up[i];
    }
    for (int isa = 0; isa < ISAS; isa++) {
        if (!cop_isa_available(isas[isa]))
            continue;
        const cop_cpu_ops *ops = cop_cpu_ops_for(isas[isa]);
        ops->silu_mul(gate, up, WIDTH_MAX, false, got);
        check_same(got, want, WIDTH_MAX, "silu");
        ops->silu_mul(gate, up, 13, true, got);
        for (uint32_t i = 0; i < 13; i++)
            CHECK((isnan(want[i]) && isnan(got[i])) || got[i] == bf16(want[i]));
    }
    for (uint32_t i = SPECIAL; i < WIDTH_MAX; i++) {
        const double exact = gate[i] / (1 + exp(-(double)gate[i])) * up[i];
        CHECK(fabs(want[i] - exact) <= 4e-7 * fabs(exact) * (1 + fabs(gate[i])) + 1e-36);
    }
}

static void test_rotary_turns_pairs(void) {
    cop_rotary rotary;
    CHECK_OK(cop_rotary_create(300, 16, 10000.0, 2, &rotary));
    CHECK(rotary.cosine[0] == 1.0f && rotary.sine[0] == 0.0f);
    for (int isa = 0; isa < ISAS; isa++) {
        if (!cop_isa_available(isas[isa]))
            continue;
        for (uint32_t position = 0; position < 300; position += 23) {
            float heads[3 * 16], before[3 * 16], want[3 * 16];
            const float *c = rotary.cosine + position * 8, *s = rotary.sine + position * 8;
            for (uint32_t i = 0; i < 48; i++)
                heads[i] = before[i] = noise(5, i, 1);
            cop_cpu_ops_for(isas[isa])->rotate(heads, 3, 16, c, s);
            for (uint32_t i = 0; i < 24; i++) {
                const float a = before[2 * i], b = before[2 * i + 1];
                want[2 * i] = a * c[i % 8] - b * s[i % 8];
                want[2 * i + 1] = b * c[i % 8] + a * s[i % 8];
                const double angle = position * pow(10000.0, -2.0 * (i % 8) / 16);
                CHECK(fabs(heads[2 * i] - (a * cos(angle) - b * sin(angle))) < 1e-6);
                CHECK(fabs(heads[2 * i + 1] - (a * sin(angle) + b * cos(angle))) < 1e-6);
            }
            check_same(heads, want, 48, "rotate");
        }
    }
    cop_rotary_release(&rotary);
}

typedef struct heads_case {
    uint32_t n_heads, n_kv_heads, head_dim;
    bool bias, norms, halves, round;
} heads_case;

/* One head as arith.h has it: bias, norm, rotation of its pairs, rounding in between. */
static void expect_head(const heads_case *c, const float *bias, const float *norm,
                        const float *cosine, const float *sine, float *head) {
    const uint32_t d = c->head_dim;
    for (uint32_t i = 0; c->bias && i < d; i++)
        head[i] = c->round ? bf16(head[i] + bias[i]) : head[i] + bias[i];
    float out[256];
    if (norm && c->norms) {
        expect_norm(head, norm, d, 1e-6f, out);
        for (uint32_t i = 0; i < d; i++)
            head[i] = c->round ? bf16(out[i]) : out[i];
    }
    for (uint32_t i = 0; norm && i < d / 2; i++) {
        const uint32_t x = c->halves ? i : 2 * i, y = c->halves ? i + d / 2 : 2 * i + 1;
        const float a = head[x], b = head[y];
        head[x] = a * cosine[i] - b * sine[i];
        head[y] = b * cosine[i] + a * sine[i];
    }
}

static void check_heads(const heads_case *c) {
    enum { WIDTH = 20 * 128 };
    const uint32_t d = c->head_dim, turned = c->n_heads + c->n_kv_heads;
    const uint32_t heads = turned + c->n_kv_heads, width = heads * d;
    float in[WIDTH], bias[WIDTH], q_norm[128], k_norm[128], cosine[64], sine[64];
    float want[WIDTH], got[WIDTH];
    CHECK(width <= WIDTH);
    for (uint32_t i = 0; i < width; i++)
        in[i] = bf16(noise(6, i, 3)), bias[i] = bf16(noise(7, i, 1));
    for (uint32_t i = 0; i < d; i++)
        q_norm[i] = noise(8, i, 2), k_norm[i] = noise(9, i, 2);
    for (uint32_t i = 0; i < d / 2; i++)
        cosine[i] = noise(10, i, 1), sine[i] = noise(11, i, 1);
    memcpy(want, in, sizeof want);
    for (uint32_t h = 0; h < heads; h++) /* V has a bias, and neither norm nor rotation */
        expect_head(c, bias + h * d,
                    h < c->n_heads ? q_norm
                    : h < turned   ? k_norm
                                   : NULL,
                    cosine, sine, want + h * d);
    const cop_cpu_heads run = {.n_heads = c->n_heads,
                               .n_kv_heads = c->n_kv_heads,
                               .head_dim = d,
                               .bias = c->bias ? bias : NULL,
                               .q_norm = c->norms ? q_norm : NULL,
                               .k_norm = c->norms ? k_norm : NULL,
                               .eps = 1e-6f,
                               .rope_halves = c->halves,
                               .round = c->round};
    for (int isa = 0; isa < ISAS; isa++) {
        if (!cop_isa_available(isas[isa]))
            continue;
        memcpy(got, in, sizeof got);
        cop_cpu_heads_run(cop_cpu_ops_for(isas[isa]), &run, cosine, sine, got);
        check_same(got, want, width, "Q, K and V before attention");
    }
}

static void test_heads_have_the_declared_bits(void) {
    static const uint32_t sizes[][3] = {{4, 2, 16}, {3, 1, 48}, {14, 2, 64}, {8, 4, 128}};
    for (uint32_t i = 0; i < 16 * sizeof sizes / sizeof sizes[0]; i++) {
        const uint32_t *size = sizes[i / 16];
        check_heads(&(heads_case){size[0], size[1], size[2], i & 1, i & 2, i & 4, i & 8});
    }
}

static void test_finite_sees_every_element(void) {
    float x[67] = {0};
    for (int isa = 0; isa < ISAS; isa++) {
        if (!cop_isa_available(isas[isa]))
            continue;
        const cop_cpu_ops *ops = cop_cpu_ops_for(isas[isa]);
        CHECK(ops->finite(x, 67));
        for (uint32_t i = 0; i < 67; i++) {
            x[i] = i % 2 ? NAN : -INFINITY;
            CHECK(!ops->finite(x, 67));
            CHECK(ops->finite(x, i));
            x[i] = 3.4e38f;
            CHECK(ops->finite(x, 67));
        }
        memset(x, 0, sizeof x);
    }
}

/* A small model: 2 layers, 4 query heads on 2 KV heads of 16. */
static cop_model *open_family(cop_model_family family, const char *dtype) {
    char path[] = "/tmp/coppice-shape-XXXXXX";
    const int file = mkstemp(path);
    CHECK(file >= 0);
    FILE *out = fdopen(file, "w");
    CHECK(out);
    fprintf(
        out,
        "{\"name\": \"tiny\", \"family\": \"%s\", \"n_layers\": 2, \"hidden\": 64, \"n_heads\": 4, "
        "\"n_kv_heads\": 2, \"head_dim\": 16, \"ffn\": 96, \"vocab\": 100, \"context\": 256, "
        "\"rope_theta\": 10000.0, \"rms_eps\": 1e-5, \"tied\": true, \"dtype\": \"%s\", "
        "\"seed\": 11}",
        cop_model_family_name(family), dtype);
    fclose(out);
    cop_model *model;
    CHECK_OK(cop_model_open_random(path, &model));
    unlink(path);
    return model;
}

static cop_model *open_model(const char *dtype) {
    return open_family(COP_FAMILY_LLAMA, dtype);
}

enum { BRANCHES = 9, TOKENS = 20, VOCAB = 100, HIDDEN = 64, PAGE = 16, PAGES = 2 * BRANCHES };

/* Branches that share nothing: branch i has segment i, two pages, one tile and one slot. */
typedef struct world {
    cop_segment segments[BRANCHES];
    uint32_t page_table[PAGES];
    cop_tile tiles[BRANCHES];
    cop_walk_entry entries[BRANCHES];
    cop_item items[BRANCHES];
    cop_slot slots[BRANCHES];
    int32_t token[BRANCHES], position[BRANCHES];
    uint32_t segment[BRANCHES], offset[BRANCHES];
} world;

static int32_t token_at(uint32_t branch, uint32_t t) {
    return (int32_t)((branch * 31 + t * 17 + branch * t) % VOCAB);
}

/* The step that appends token t of branches first .. first + n - 1, one row each. */
static cop_step step_of(world *w, uint32_t first, uint32_t n, uint32_t t) {
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t branch = first + i;
        w->segments[branch] = (cop_segment){.page_table_offset = 2 * branch, .tokens = t + 1};
        w->page_table[2 * branch] = PAGES - 1 - 2 * branch;
        w->page_table[2 * branch + 1] = PAGES - 2 - 2 * branch;
        memset(&w->tiles[i], 0xff, sizeof w->tiles[i]);
        w->tiles[i].slot[0] = (int32_t)i;
        w->tiles[i].n_slots = 1;
        w->entries[i] = (cop_walk_entry){
            .segment = branch, .tokens = COP_TO_END, .mask = 1, .limits = COP_LIMITS_NONE};
        w->items[i] = (cop_item){.tile = i, .first_entry = i, .n_entries = 1};
        w->slots[i] = (cop_slot){.row = (int32_t)i, .first_partial = i, .n_partials = 1};
        w->token[i] = token_at(branch, t);
        w->position[i] = (int32_t)t;
        w->segment[i] = branch;
        w->offset[i] = t;
    }
    return (cop_step){.n_rows = n,
                      .token = w->token,
                      .position = w->position,
                      .segment = w->segment,
                      .offset = w->offset,
                      .plan = {.segments = w->segments,
                               .page_table = w->page_table,
                               .tiles = w->tiles,
                               .entries = w->entries,
                               .items = w->items,
                               .slots = w->slots,
                               .n_tiles = n,
                               .n_items = n,
                               .n_slots = n,
                               .n_partials = n,
                               .page_tokens = PAGE,
                               .epoch = t}};
}

static cop_backend *open_backend(const cop_model *model, cop_arith arith, const char *isa,
                                 uint32_t threads) {
    cop_backend *backend;
    CHECK_OK(cop_backend_cpu.create(model,
                                    &(cop_backend_options){.arith = arith,
                                                           .isa = isa,
                                                           .n_threads = threads,
                                                           .max_rows = BRANCHES,
                                                           .max_samples = BRANCHES + 1,
                                                           .max_partials = 2 * BRANCHES,
                                                           .max_positions = 64,
                                                           .n_pages = PAGES,
                                                           .page_tokens = PAGE},
                                    &backend));
    return backend;
}

/* Decodes all tokens of n branches in one batch; logits [n, VOCAB] of the last step. */
static void decode(const cop_model *model, cop_backend *backend, uint32_t first, uint32_t n,
                   float *logits) {
    world w;
    cop_sample_request requests[BRANCHES];
    cop_sample samples[BRANCHES];
    for (uint32_t i = 0; i < n; i++)
        requests[i] = (cop_sample_request){.row = n - 1 - i, .top_p = 1, .forced = -1};
    for (uint32_t t = 0; t < TOKENS; t++) {
        const cop_step step = step_of(&w, first, n, t);
        const uint64_t allocated = cop_memory_count();
        CHECK_OK(cop_forward(&cop_backend_cpu, backend, cop_model_shape_of(model), &step, requests,
                             n, samples));
        CHECK_EQ(cop_memory_count(), allocated);
    }
    for (uint32_t i = 0; i < n; i++) {
        float *row = logits + (n - 1 - i) * VOCAB;
        CHECK_OK(cop_backend_cpu.read_logits(backend, i, row));
        CHECK(!samples[i].failed);
        for (uint32_t v = 0; v < VOCAB; v++)
            CHECK(row[v] <= row[samples[i].token]);
    }
}

static void test_rows_have_the_same_bits_alone_and_together(void) {
    static const char *const dtypes[] = {"Q4_1", "BF16"};
    for (int i = 0; i < 2 * COP_FAMILY_COUNT; i++) {
        cop_model *model = open_family((cop_model_family)(i / 2), dtypes[i % 2]);
        for (int arith = 0; arith < COP_ARITH_COUNT; arith++) {
            float want[BRANCHES * VOCAB], got[BRANCHES * VOCAB];
            cop_backend *backend = open_backend(model, (cop_arith)arith, "portable", 1);
            decode(model, backend, 0, BRANCHES, want);
            for (uint32_t branch = 0; branch < BRANCHES; branch += 4) {
                decode(model, backend, branch, 1, got);
                check_same(got, want + branch * VOCAB, VOCAB, cop_arith_name((cop_arith)arith));
            }
            cop_backend_cpu.destroy(backend);
            for (int isa = 0; isa < ISAS; isa++) {
                if (!cop_isa_available(isas[isa]))
                    continue;
                backend = open_backend(model, (cop_arith)arith, cop_isa_name(isas[isa]), 2);
                decode(model, backend, 0, BRANCHES, got);
                check_same(got, want, BRANCHES * VOCAB, cop_arith_name((cop_arith)arith));
                decode(model, backend, 3, 2, got);
                check_same(got, want + 3 * VOCAB, 2 * VOCAB, cop_arith_name((cop_arith)arith));
                cop_backend_cpu.destroy(backend);
            }
        }
        cop_model_close(model);
    }
}

static void check_vector(const cop_model *model, cop_weight weight, cop_arith arith,
                         const float *got) {
    const cop_tensor *tensor = cop_model_tensor(model, weight, 1);
    CHECK(!tensor == !got);
    if (!tensor)
        return;
    float want[WIDTH_MAX];
    cop_dtype_widen(tensor->type, tensor->data, tensor->cols, want);
    for (uint32_t i = 0; arith == COP_ARITH_BF16 && i < tensor->cols; i++)
        want[i] = bf16(want[i]);
    check_same(got, want, (uint32_t)tensor->cols, "a norm or a bias as loaded");
}

/* Norms and biases are weights: rounded in bf16, as they are elsewhere. */
static void test_norms_and_biases_are_loaded_as_weights(void) {
    for (int i = 0; i < COP_FAMILY_COUNT * COP_ARITH_COUNT; i++) {
        const cop_arith arith = (cop_arith)(i % COP_ARITH_COUNT);
        cop_model *model = open_family((cop_model_family)(i / COP_ARITH_COUNT), "BF16");
        cop_backend *backend = open_backend(model, arith, NULL, 1);
        const cop_cpu_layer *layer = &backend->layers[1];
        const float *bias = layer->heads.bias; /* 4 heads of 16, then 2, then 2 */
        check_vector(model, COP_W_NORM_ATTN, arith, layer->norm_attn);
        check_vector(model, COP_W_NORM_FFN, arith, layer->norm_ffn);
        check_vector(model, COP_W_Q_BIAS, arith, bias);
        check_vector(model, COP_W_K_BIAS, arith, bias ? bias + 64 : NULL);
        check_vector(model, COP_W_V_BIAS, arith, bias ? bias + 96 : NULL);
        check_vector(model, COP_W_Q_NORM, arith, layer->heads.q_norm);
        check_vector(model, COP_W_K_NORM, arith, layer->heads.k_norm);
        cop_backend_cpu.destroy(backend);
        cop_model_close(model);
    }
}

/* Largest error relative to the spread of the logits: rounding for f32, bf16's eight bits of K and
 * V, activations or weights for the others. */
static void check_against_double(cop_model_family family) {
    static const double tolerance[COP_ARITH_COUNT] = {2e-6, 0.05, 0.02, 0.06};
    cop_model *model = open_family(family, "Q8_0");
    double exact[VOCAB];
    for (int arith = 0; arith < COP_ARITH_COUNT; arith++) {
        cop_backend *backend = open_backend(model, (cop_arith)arith, NULL, 2);
        float logits[BRANCHES * VOCAB];
        decode(model, backend, 0, BRANCHES, logits);
        for (uint32_t branch = 0; branch < BRANCHES; branch += 3) {
            double worst = 0, spread = 0;
            int32_t ids[TOKENS];
            for (uint32_t t = 0; t < TOKENS; t++)
                ids[t] = token_at(branch, t);
            forward_double(model, ids, TOKENS, exact);
            for (uint32_t v = 0; v < VOCAB; v++) {
                worst = fmax(worst, fabs(logits[branch * VOCAB + v] - exact[v]));
                spread = fmax(spread, fabs(exact[v]));
            }
            CHECK(worst <= tolerance[arith] * spread);
            CHECK(arith == COP_ARITH_F32 || worst > 1e-6 * spread); /* it is another arithmetic */
        }
        cop_backend_cpu.destroy(backend);
    }
    cop_model_close(model);
}

static cop_status begin_step(cop_backend *b, const cop_step *step,
                             const cop_sample_request *requests, uint32_t n) {
    bool queued;
    return cop_backend_cpu.step_begin(b, step, requests, n, &queued);
}

static void test_steps_agree_with_double(void) {
    for (int family = 0; family < COP_FAMILY_COUNT; family++)
        check_against_double((cop_model_family)family);
}

static void run_poisoned(const cop_model *model, cop_backend *b, const cop_step *step,
                         uint32_t bad_row, const cop_sample_request *requests, uint32_t n,
                         cop_sample *out) {
    const cop_backend_ops *ops = &cop_backend_cpu;
    bool queued = true;
    CHECK_OK(ops->step_begin(b, step, requests, n, &queued));
    CHECK(!queued);
    CHECK_OK(ops->embed(b));
    cop_cpu_row(b, COP_A_X, bad_row)[5] = NAN;
    for (uint32_t layer = 0; layer < cop_model_shape_of(model)->n_layers; layer++) {
        CHECK_OK(ops->norm(b, COP_N_ATTN, layer, layer > 0));
        CHECK_OK(ops->product(b, COP_P_QKV, layer));
        CHECK_OK(ops->append(b, layer));
        CHECK_OK(ops->attention(b, layer));
        CHECK_OK(ops->product(b, COP_P_O, layer));
        CHECK_OK(ops->norm(b, COP_N_FFN, layer, true));
        CHECK_OK(ops->product(b, COP_P_GATE_UP, layer));
        CHECK_OK(ops->activate(b));
        CHECK_OK(ops->product(b, COP_P_DOWN, layer));
    }
    CHECK_OK(ops->norm(b, COP_N_FINAL, 0, true));
    CHECK_OK(ops->logits(b));
    CHECK_OK(ops->step_end(b));
    CHECK_OK(ops->samples(b, n, out));
}

/* The mates of a row that went NaN keep their bits, and the row says that it failed. */
static void test_a_failed_row_fails_alone(void) {
    cop_model *model = open_model("Q4_1");
    for (int arith = 0; arith < COP_ARITH_COUNT; arith++) {
        cop_sample good[BRANCHES], bad[BRANCHES];
        cop_sample_request requests[BRANCHES];
        for (uint32_t i = 0; i < BRANCHES; i++)
            requests[i] =
                (cop_sample_request){.row = i, .temperature = 1, .top_p = 1, .forced = -1};
        world w;
        cop_backend *backend = open_backend(model, (cop_arith)arith, NULL, 1);
        const cop_step step = step_of(&w, 0, BRANCHES, 0);
        CHECK_OK(cop_forward(&cop_backend_cpu, backend, cop_model_shape_of(model), &step, requests,
                             BRANCHES, good));
        run_poisoned(model, backend, &step, 4, requests, BRANCHES, bad);
        for (uint32_t i = 0; i < BRANCHES; i++) {
            CHECK_EQ(bad[i].failed, i == 4);
            if (i == 4) {
                CHECK_EQ(bad[i].token, -1);
                continue;
            }
            CHECK_EQ(bad[i].token, good[i].token);
            CHECK(memcmp(bad[i].top_logprob, good[i].top_logprob, sizeof good[i].top_logprob) == 0);
        }
        cop_backend_cpu.destroy(backend);
    }
    cop_model_close(model);
}

/* Several samples of one row share its logits; their keys, biases and temperatures are their own.
 */
static void test_requests_of_one_row(void) {
    cop_model *model = open_model("F32");
    cop_backend *backend = open_backend(model, COP_ARITH_F32, NULL, 2);
    world w;
    const cop_step step = step_of(&w, 0, 3, 0);
    const cop_logit_bias ban = {.token = 17, .bias = 50.0f};
    cop_sample_request requests[BRANCHES + 2];
    cop_sample samples[BRANCHES + 2];
    for (uint32_t i = 0; i < BRANCHES + 2; i++)
        requests[i] = (cop_sample_request){.row = i < 2 ? i : 2,
                                           .temperature = 1,
                                           .top_p = 1,
                                           .forced = 17,
                                           .key = {.seed = i},
                                           .bias = &ban,
                                           .n_bias = i == 5};
    CHECK_OK(cop_forward(&cop_backend_cpu, backend, cop_model_shape_of(model), &step, requests,
                         BRANCHES, samples));
    CHECK_EQ(samples[5].token, 17);
    CHECK(samples[5].forced_logprob > -1e-3f);
    CHECK(memcmp(samples[6].top_logprob, samples[7].top_logprob, sizeof samples[6].top_logprob) ==
          0);
    CHECK(samples[6].forced_logprob != samples[5].forced_logprob);
    float a[VOCAB], b[VOCAB];
    CHECK_OK(cop_backend_cpu.read_logits(backend, 5, a));
    CHECK_OK(cop_backend_cpu.read_logits(backend, 2, b));
    CHECK(memcmp(a, b, sizeof a) == 0);
    CHECK_STATUS(cop_backend_cpu.read_logits(backend, BRANCHES, a), COP_ERR_USAGE);
    CHECK_STATUS(begin_step(backend, &step, requests, BRANCHES + 2), COP_ERR_NO_ROOM);
    requests[1].row = 3;
    CHECK_STATUS(begin_step(backend, &step, requests, 2), COP_ERR_USAGE);
    requests[1].row = 0, requests[1].top_p = 7;
    CHECK_STATUS(begin_step(backend, &step, requests, 2), COP_ERR_USAGE);
    CHECK_MESSAGE("sampling request 1: top_p");
    cop_backend_cpu.destroy(backend);
    cop_model_close(model);
}

static void test_counters_and_description(void) {
    cop_model *model = open_model("Q4_1");
    cop_backend *backend = open_backend(model, COP_ARITH_NATIVE_F32, "portable", 1);
    cop_backend_counters before, after;
    world w;
    const cop_step step = step_of(&w, 0, 2, 0);
    cop_backend_cpu.counters(backend, &before);
    CHECK_OK(
        cop_forward(&cop_backend_cpu, backend, cop_model_shape_of(model), &step, NULL, 0, NULL));
    cop_backend_cpu.counters(backend, &after);
    /* Panels of 32 outputs at 20 bytes a block of 32, and two embedding rows. */
    const uint64_t layer = 64 * 64 + 2 * 32 * 64 + 64 * 64 + 2 * 96 * 64 + 64 * 96;
    const uint64_t row =
        64 / 32 * cop_dtype_block_bytes(cop_model_tensor(model, COP_W_EMBED, 0)->type);
    CHECK_EQ(after.weight_bytes - before.weight_bytes, 2 * layer * 20 / 32 + 2 * row);
    CHECK_EQ(after.kv_append_bytes - before.kv_append_bytes, 2 * 2 * 2 * 32 * 2);
    CHECK(after.op_ns[COP_OP_PRODUCT] > 0 && after.op_ns[COP_OP_ATTENTION] > 0);
    CHECK(strstr(cop_backend_cpu.describe(backend), "portable, 1 thread"));
    cop_backend_cpu.destroy(backend);
    cop_model_close(model);
}

static void test_steps_that_cannot_run_are_refused(void) {
    cop_model *model = open_model("F32");
    cop_backend *backend = open_backend(model, COP_ARITH_F32, NULL, 1);
    world w;
    cop_step step = step_of(&w, 0, 2, 0);
    w.token[1] = VOCAB;
    CHECK_STATUS(begin_step(backend, &step, NULL, 0), COP_ERR_USAGE);
    CHECK_MESSAGE("row 1: token 100");
    w.token[1] = -1;
    CHECK_STATUS(begin_step(backend, &step, NULL, 0), COP_ERR_USAGE);
    w.token[1] = 0, w.position[1] = 64;
    CHECK_STATUS(begin_step(backend, &step, NULL, 0), COP_ERR_CONTEXT);
    w.position[1] = 0, w.offset[1] = 1;
    CHECK_STATUS(begin_step(backend, &step, NULL, 0), COP_ERR_INTERNAL);
    w.offset[1] = 0, step.plan.page_tokens = 32;
    CHECK_STATUS(begin_step(backend, &step, NULL, 0), COP_ERR_MISMATCH);
    step.plan.page_tokens = PAGE, step.n_rows = BRANCHES + 1;
    CHECK_STATUS(begin_step(backend, &step, NULL, 0), COP_ERR_NO_ROOM);
    cop_backend_cpu.destroy(backend);
    cop_backend_cpu.destroy(NULL);
    CHECK_STATUS(cop_backend_cpu.create(model, &(cop_backend_options){.max_rows = 1}, &backend),
                 COP_ERR_CONFIG);
    cop_model_close(model);
}

static void test_backends_are_found_by_name(void) {
    const cop_backend_ops *ops;
    CHECK_OK(cop_backend_find("cpu", &ops));
    CHECK_TEXT(ops->name, "cpu");
    CHECK_STATUS(cop_backend_find("absent", &ops), COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("libcoppice_absent.so");
    CHECK_STATUS(cop_backend_find("../cuda", &ops), COP_ERR_USAGE);
    CHECK_STATUS(cop_backend_find("", &ops), COP_ERR_USAGE);
}

int main(void) {
    RUN(test_norm_has_the_declared_bits);
    RUN(test_silu_uses_the_one_exp2);
    RUN(test_rotary_turns_pairs);
    RUN(test_heads_have_the_declared_bits);
    RUN(test_finite_sees_every_element);
    RUN(test_rows_have_the_same_bits_alone_and_together);
    RUN(test_norms_and_biases_are_loaded_as_weights);
    RUN(test_steps_agree_with_double);
    RUN(test_a_failed_row_fails_alone);
    RUN(test_requests_of_one_row);
    RUN(test_counters_and_description);
    RUN(test_steps_that_cannot_run_are_refused);
    RUN(test_backends_are_found_by_name);
    return check_report();
}
