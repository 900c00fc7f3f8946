/* STEP against tests/ref/rules/step.py, and its scorer's file. */
#include <math.h>
#include <unistd.h>

#include "reason/rules/step.h"
#include "rules_trace.h"

enum { H = 4, INNER = 3, BRANCHES_MAX = 8 };

typedef struct weights {
    float first[INNER][H], first_bias[INNER], last[INNER], last_bias;
} weights;

static float quarter(rules_random *r, uint32_t n) {
    return ((float)rules_below(r, 2 * n + 1) - (float)n) / 4;
}

/* A safetensors image of the weights; `header` instead of the right one where it is given. */
static size_t make_file(const weights *w, const char *header, uint8_t image[1024]) {
    if (!header)
        header = "{\"net.0.weight\":{\"dtype\":\"F32\",\"shape\":[3,4],\"data_offsets\":[0,48]},"
                 "\"net.0.bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[48,60]},"
                 "\"net.2.weight\":{\"dtype\":\"F32\",\"shape\":[1,3],\"data_offsets\":[60,72]},"
                 "\"net.2.bias\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[72,76]}}";
    size_t length = strlen(header);
    memset(image, 0, 8);
    image[0] = (uint8_t)length;
    image[1] = (uint8_t)(length >> 8);
    memcpy(image + 8, header, length);
    memcpy(image + 8 + length, w, sizeof *w);
    return 8 + length + sizeof *w;
}

static cop_status load(const weights *w, const char *header, uint32_t hidden, cop_mlp **out) {
    uint8_t image[1024];
    cop_safetensors *file = NULL;
    CHECK_OK(cop_safetensors_open_memory(image, make_file(w, header, image), &file));
    cop_status status = cop_mlp_from(file, hidden, out);
    cop_safetensors_close(file);
    return status;
}

typedef struct world {
    cop_rule *rule;
    float states[5][H];
    bool live[BRANCHES_MAX], wants[BRANCHES_MAX];
    uint32_t n;
    rules_line *line;
} world;

static void take_victim(world *w, rules_random *r) {
    static const char *const partial[] = {"", "1", "2"};
    uint32_t victim = cop_rule_victim(w->rule);
    if (victim == COP_RULE_NONE) {
        rules_put(w->line, "v-");
        return;
    }
    CHECK(w->live[victim]);
    w->live[victim] = false;
    rules_put(w->line, "v%u", victim);
    const char *answer = RULES_PICK(r, partial);
    CHECK_OK(cop_rule_partial(w->rule, victim, answer, strlen(answer)));
}

static void speak(world *w, rules_random *r, uint32_t event, uint32_t n_live) {
    static const char *const texts[] = {"a", "a", "\n\n", "x\n\ny", "\n", " \n\n"};
    static const char *const answers[] = {"", "1", "2", "2"};
    uint32_t id = 0;
    for (uint32_t at = rules_below(r, n_live); !w->live[id] || at-- > 0; id++)
        continue;
    if (event == 2 && rules_below(r, 3) == 0) {
        const char *answer = RULES_PICK(r, answers);
        CHECK_OK(cop_rule_end(w->rule, id, COP_RULE_END_OWN, answer, strlen(answer)));
        w->live[id] = false;
        return;
    }
    CHECK_EQ(cop_rule_wants_hidden(w->rule, id), w->wants[id]);
    if (w->wants[id])
        CHECK_OK(cop_rule_hidden(w->rule, id, w->states[rules_below(r, 5)]));
    const char *text = RULES_PICK(r, texts);
    CHECK_OK(cop_rule_token_add(
        w->rule, &(cop_rule_token){.branch = id, .text = text, .bytes = strlen(text)}));
    w->wants[id] = strstr(text, "\n\n") != NULL;
}

static void trace(rules_random *r, rules_line *line) {
    world w = {.line = line};
    weights v;
    for (uint32_t j = 0; j < INNER; j++) {
        for (uint32_t i = 0; i < H; i++)
            v.first[j][i] = quarter(r, 6);
    }
    for (uint32_t j = 0; j < INNER; j++)
        v.first_bias[j] = quarter(r, 4);
    for (uint32_t j = 0; j < INNER; j++)
        v.last[j] = quarter(r, 6);
    v.last_bias = quarter(r, 4);
    for (uint32_t s = 0; s < 5; s++) {
        for (uint32_t i = 0; i < H; i++)
            w.states[s][i] = quarter(r, 8);
    }
    cop_mlp *mlp = NULL;
    CHECK_OK(load(&v, NULL, H, &mlp));
    cop_step_options o = {.mlp = mlp, .step_text = "\n\n", .pruned_votes = rules_below(r, 2)};
    CHECK_OK(cop_step_create(&(cop_rule_limits){.max_branches = BRANCHES_MAX}, &o, &w.rule));
    uint64_t before = cop_memory_count();
    uint32_t events = 20 + rules_below(r, 120), id;
    for (uint32_t e = 0; e < events; e++) {
        uint32_t event = rules_below(r, 10), n_live = 0;
        for (uint32_t i = 0; i < w.n; i++)
            n_live += w.live[i];
        if ((event == 0 && w.n < BRANCHES_MAX) || w.n == 0) {
            CHECK_OK(cop_rule_open(w.rule, 0, &id));
            w.live[w.n++] = true;
        } else if (event == 1) {
            take_victim(&w, r);
        } else if (n_live > 0) {
            speak(&w, r, event, n_live);
        }
    }
    for (uint32_t i = 0; i < w.n; i++) {
        double score = cop_rule_score(w.rule, i);
        if (isnan(score))
            rules_put(line, "none");
        else
            rules_put(line, "%.9f", score);
    }
    const char *text;
    size_t bytes;
    bool found = cop_rule_answer(w.rule, &text, &bytes);
    rules_put(line, "=%.*s", found ? (int)bytes : 4, found ? text : "none");
    CHECK_EQ(cop_memory_count(), before);
    cop_rule_destroy(w.rule);
    cop_mlp_destroy(mlp);
}

static void test_a_thousand_traces(void) {
    rules_check_fixture("step", 5, trace);
}

#define TENSOR(name, shape, from, to)                                                              \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

static void test_wrong_scorers_are_named(void) {
    weights w = {.last_bias = 1};
    cop_mlp *mlp = NULL;
    CHECK_STATUS(load(&w, NULL, 5, &mlp), COP_ERR_MISMATCH);
    CHECK_MESSAGE("hidden states of width 4, but the model's have 5");
    CHECK_STATUS(
        load(&w,
             "{" TENSOR("net.0.weight", "[3,4]", 0, 48) "," TENSOR("net.0.bias", "[7]", 48, 76) "}",
             4, &mlp),
        COP_ERR_MISMATCH);
    CHECK_MESSAGE("'net.0.bias' has 1 dimensions, 7 by 1; this scorer needs 3 by 1");
    CHECK_STATUS(
        load(&w,
             "{" TENSOR("net.0.weight", "[3,4]", 0, 48) "," TENSOR(
                 "net.0.bias", "[3]", 48, 60) "," TENSOR("net.2.weight", "[2,2]", 60, 76) "}",
             4, &mlp),
        COP_ERR_MISMATCH);
    CHECK_STATUS(
        load(&w,
             "{" TENSOR("net.0.weight", "[3,4]", 0, 48) "," TENSOR(
                 "net.0.bias", "[3]", 48, 60) "," TENSOR("net.2.weight", "[1,3]", 60,
                                                         72) "," TENSOR("other", "[1]", 72, 76) "}",
             4, &mlp),
        COP_ERR_FORMAT);
    CHECK_MESSAGE("'net.2.bias' is missing");
    CHECK_STATUS(load(&w, "{" TENSOR("net.0.weight", "[19]", 0, 76) "}", 4, &mlp), COP_ERR_FORMAT);
    w.last[1] = NAN;
    CHECK_STATUS(load(&w, NULL, 4, &mlp), COP_ERR_NONFINITE);
    CHECK_MESSAGE("value 1 of tensor 'net.2.weight'");
    CHECK(!mlp);
    CHECK_STATUS(cop_mlp_load("/nowhere/step.safetensors", 4, &mlp), COP_ERR_IO);
}

static void test_states_that_are_not_finite(void) {
    weights w = {.last_bias = 1, .first = {{1}}};
    cop_mlp *mlp = NULL;
    cop_rule *rule = NULL;
    uint32_t id;
    CHECK_OK(load(&w, NULL, 0, &mlp));
    CHECK_STATUS(cop_step_create(&(cop_rule_limits){.max_branches = 1},
                                 &(cop_step_options){.mlp = mlp, .step_text = ""}, &rule),
                 COP_ERR_CONFIG);
    CHECK_STATUS(cop_step_create(&(cop_rule_limits){.max_branches = 1},
                                 &(cop_step_options){.step_text = "x"}, &rule),
                 COP_ERR_CONFIG);
    CHECK_OK(cop_step_create(&(cop_rule_limits){.max_branches = 1},
                             &(cop_step_options){.mlp = mlp, .step_text = "."}, &rule));
    CHECK_EQ(cop_rule_needs_of(rule).hidden, 4);
    CHECK_OK(cop_rule_open(rule, 0, &id));
    CHECK_OK(cop_rule_token_add(rule, &(cop_rule_token){.branch = id, .text = "a.", .bytes = 2}));
    CHECK_STATUS(cop_rule_hidden(rule, id, (float[]){NAN, 0, 0, 0}), COP_ERR_NONFINITE);
    CHECK(isnan(cop_rule_score(rule, id)));
    cop_rule_destroy(rule);
    cop_mlp_destroy(mlp);
}

int main(void) {
    RUN(test_a_thousand_traces);
    RUN(test_wrong_scorers_are_named);
    RUN(test_states_that_are_not_finite);
    return check_report();
}
