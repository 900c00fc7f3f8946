/* Qwen2 and Qwen3 against Hugging Face's models in float32, on the files that the gguf package
 * wrote of them (tests/ref/family_fixtures.py). */
#include <jansson.h>
#include <math.h>

#include "backend/cpu/isa.h"
#include "score_runner.h"

#define FIXTURES "tests/ref/fixtures/families.jsonl"

enum { GREEDY = 24, VOCAB = 160, PROMPTS = 4, PROMPT_MAX = 100 };

static const char *const names[] = {"qwen2", "qwen3"};
enum { FAMILIES = 2 };

typedef struct prompt {
    uint32_t n;
    int32_t ids[PROMPT_MAX + GREEDY]; /* the prompt, then the greedy continuation */
    double logits[VOCAB], spread;     /* of the prompt's last position */
    double nll, margin;
} prompt;

static prompt prompts[FAMILIES][PROMPTS];

static double number(const json_t *line, const char *key) {
    const json_t *value = json_object_get(line, key);
    CHECK(json_is_number(value));
    return json_number_value(value);
}

static void read_prompt(const json_t *line, prompt *p) {
    const json_t *ids = json_object_get(line, "ids"), *greedy = json_object_get(line, "greedy");
    const json_t *logits = json_object_get(line, "logits");
    p->n = (uint32_t)json_array_size(ids);
    CHECK(p->n >= 1 && p->n <= PROMPT_MAX);
    CHECK_EQ(json_array_size(greedy), GREEDY);
    CHECK_EQ(json_array_size(logits), VOCAB);
    for (uint32_t i = 0; i < p->n + GREEDY; i++)
        p->ids[i] = (int32_t)json_integer_value(i < p->n ? json_array_get(ids, i)
                                                         : json_array_get(greedy, i - p->n));
    for (uint32_t i = 0; i < VOCAB; i++) {
        p->logits[i] = json_number_value(json_array_get(logits, i));
        p->spread = fmax(p->spread, fabs(p->logits[i]));
    }
    p->nll = number(line, "nll");
    p->margin = number(line, "margin");
}

static void read_fixtures(void) {
    int count[FAMILIES] = {0};
    FILE *file = fopen(FIXTURES, "r");
    CHECK(file);
    char *text = NULL;
    size_t capacity = 0;
    for (ssize_t n; (n = getline(&text, &capacity, file)) > 0;) {
        json_t *line = json_loadb(text, (size_t)n, 0, NULL);
        CHECK(line);
        int f = 0;
        while (strcmp(names[f], json_string_value(json_object_get(line, "family"))) != 0)
            CHECK(++f < FAMILIES);
        CHECK(count[f] < PROMPTS);
        read_prompt(line, &prompts[f][count[f]++]);
        json_decref(line);
    }
    CHECK(count[0] == PROMPTS && count[1] == PROMPTS);
    free(text);
    fclose(file);
}

static cop_model *open_fixture(int family) {
    char path[64];
    cop_model *model;
    snprintf(path, sizeof path, "tests/ref/fixtures/%s.gguf", names[family]);
    CHECK_OK(cop_model_open(path, &model));
    const cop_model_shape *s = cop_model_shape_of(model);
    CHECK_TEXT(cop_model_family_name(s->family), names[family]);
    CHECK(s->rope_halves && s->qkv_bias == (family == 0) && s->head_norms == (family == 1));
    CHECK(s->head_dim == (family == 0 ? 16 : 32) && s->n_heads == 4 && s->hidden == 64);
    CHECK(s->vocab == VOCAB && s->tied == (family == 0) && s->rope_theta == 1e6);
    return model;
}

/* Logits of the last position of the prompt, as a share of their spread. */
static double logits_error(runner *r, const prompt *p, uint32_t request) {
    double worst = 0;
    CHECK_OK(cop_backend_cpu.read_logits(r->backend, request, r->logits));
    for (uint32_t i = 0; i < VOCAB; i++)
        worst = fmax(worst, fabs((double)r->logits[i] - p->logits[i]));
    return worst / p->spread;
}

/* Prompt and recorded continuation as one prefill: that every position's greedy choice is the
 * recorded token proves the continuation, by induction. */
static double check_prefill(runner *r, const prompt *p, bool exact) {
    cop_node node;
    double nll = 0;
    const uint32_t n = p->n + GREEDY - 1;
    CHECK_OK(cop_kv_open(r->kv, cop_kv_root(r->kv), &node));
    runner_rows(r, node, p->ids, n + 1, 0, n, NULL);
    const double error = logits_error(r, p, p->n - 1);
    for (uint32_t at = 0; exact && at < n; at++) {
        if (at + 1 < p->n)
            nll -= (double)r->sample[at].forced_logprob;
        else
            CHECK_EQ(r->sample[at].token, p->ids[at + 1]);
    }
    CHECK(!exact || fabs(nll - p->nll) <= 1e-4 * p->n);
    cop_kv_release(r->kv, node);
    return error;
}

/* The prompt as prefill, then one decode row a step. */
static void check_decoding(runner *r, const prompt *p) {
    cop_node node;
    uint32_t slot;
    CHECK_OK(cop_kv_open(r->kv, cop_kv_root(r->kv), &node));
    runner_rows(r, node, p->ids, p->n, 0, p->n, NULL);
    int32_t next = r->sample[p->n - 1].token;
    CHECK_OK(cop_plan_slot_add(r->plan, node, &slot));
    for (uint32_t i = 0; i < GREEDY; i++) {
        CHECK_EQ(next, p->ids[p->n + i]);
        runner_rows(r, node, p->ids, p->n + GREEDY, p->n + i, 1, &slot);
        next = r->sample[0].token;
    }
    cop_plan_slot_remove(r->plan, slot);
    cop_kv_release(r->kv, node);
}

static void test_logits_and_greedy_tokens_equal_the_reference(void) {
    for (int f = 0; f < FAMILIES; f++) {
        cop_model *model = open_fixture(f);
        for (int isa = COP_ISA_PORTABLE; isa <= COP_ISA_AVX512; isa++) {
            if (!cop_isa_available((cop_isa)isa))
                continue;
            runner *r = calloc(1, sizeof *r);
            CHECK(r);
            runner_create(r, model, COP_ARITH_F32, cop_isa_name((cop_isa)isa));
            double worst = 0;
            for (int i = 0; i < PROMPTS; i++) {
                CHECK(prompts[f][i].margin > 1e-4 * prompts[f][i].spread);
                worst = fmax(worst, check_prefill(r, &prompts[f][i], true));
                check_decoding(r, &prompts[f][i]);
            }
            printf("  %s, %s: largest difference of a logit %.2g of the largest\n", names[f],
                   cop_isa_name((cop_isa)isa), worst);
            CHECK(worst <= 1e-5);
            runner_release(r);
            free(r);
        }
        cop_model_close(model);
    }
}

/* Beside f32, which leaves nothing out, the other arithmetics are off by their rounding alone. */
static void test_rounded_arithmetics_stay_near(void) {
    static const double bound[COP_ARITH_COUNT] = {1e-5, 0.05, 0.05, 0.05};
    for (int f = 0; f < FAMILIES; f++) {
        cop_model *model = open_fixture(f);
        for (int a = 0; a < COP_ARITH_COUNT; a++) {
            runner *r = calloc(1, sizeof *r);
            CHECK(r);
            runner_create(r, model, (cop_arith)a, NULL);
            double worst = 0;
            for (int i = 0; i < PROMPTS; i++)
                worst = fmax(worst, check_prefill(r, &prompts[f][i], false));
            printf("  %s, %s: %.2g\n", names[f], cop_arith_name((cop_arith)a), worst);
            CHECK(worst <= bound[a]);
            runner_release(r);
            free(r);
        }
        cop_model_close(model);
    }
}

int main(void) {
    read_fixtures();
    RUN(test_logits_and_greedy_tokens_equal_the_reference);
    RUN(test_rounded_arithmetics_stay_near);
    return check_report();
}
