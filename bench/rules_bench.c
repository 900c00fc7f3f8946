/* Host time that rules and controllers take for their decisions, with 512 live branches.
 *
 * A step is what a driver does between two forward passes: each branch's token is told and a
 * decision asked for after each, as driver_live does. Probes are answered at once. Outside the
 * timing: making the tokens. Scoring hidden states is a model's work, not a decision's: STEP's
 * network is timed by itself, for one state. Controllers that run prompts have one step a round of
 * calls: all 512 end and the next round is decided.
 *
 *   rules_bench [branches] [steps]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/rng.h"
#include "reason/rules/certaindex.h"
#include "reason/rules/deepconf.h"
#include "reason/rules/dynasor.h"
#include "reason/rules/mcts.h"
#include "reason/rules/parallel_probe.h"
#include "reason/rules/policy.h"
#include "reason/rules/rule_set.h"
#include "reason/rules/samples.h"
#include "reason/rules/skeleton.h"
#include "reason/rules/step.h"
#include "reason/rules/thoughts.h"

static uint32_t n_branches = 512, n_steps = 3000;

/* CPU time of the thread: what other processes take is not a rule's. */
static uint64_t cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void must(cop_status status) {
    if (status != COP_OK) {
        fprintf(stderr, "%s\n", cop_status_message());
        exit(cop_status_exit_code(status));
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_row(const char *name, double *us, uint32_t n, const cop_rule *rule) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += us[i];
    qsort(us, n, sizeof *us, by_value);
    cop_rule_stats stats = cop_rule_stats_of(rule);
    printf("%-28s %8u %10.2f %10.2f %10.2f %10.2f %10llu %8u\n", name, n, sum / n, us[n / 2],
           us[(uint64_t)n * 99 / 100], us[n - 1], (unsigned long long)stats.probes_asked,
           stats.pruned);
}

/* What a step is told: tokens of 512 branches, made before the clock runs. */
typedef struct tokens {
    cop_rule_token *items;
    float (*top)[20];
} tokens;

static void make_tokens(tokens *t, uint32_t step) {
    static const char *const texts[] = {"a", " the", ".\n\n", "7"};
    for (uint32_t i = 0; i < n_branches; i++) {
        float at = -0.05f;
        for (uint32_t j = 0; j < 20; j++) {
            const cop_rng_key key = {1, i, step};
            at -= (float)(cop_rng_below(key, j, 64)) / 32;
            t->top[i][j] = at;
        }
        const char *text = texts[step % 97 == i % 97 ? 2 : (i + step) % 2];
        t->items[i] = (cop_rule_token){.branch = i,
                                       .token = (int32_t)step,
                                       .text = text,
                                       .bytes = strlen(text),
                                       .logprob = t->top[i][0],
                                       .top_logprob = t->top[i],
                                       .n_top = 20,
                                       .in_top = (i + step) % 3 != 0};
    }
}

/* True once all are stopped. */
static bool obey(cop_rule *rule, uint64_t now, bool *live, uint32_t step) {
    const cop_decision *d;
    uint32_t n;
    must(cop_rule_decide(rule, now, &d, &n));
    for (uint32_t i = 0; i < n; i++) {
        char text[16];
        if (d[i].kind == COP_DECIDE_STOP)
            return true;
        if (d[i].kind == COP_DECIDE_PROBE) {
            int bytes = snprintf(text, sizeof text, "%u} ..", (d[i].branch * 7 + step) % 13);
            must(cop_rule_probe(rule, d[i].branch, text, (size_t)bytes, 30, 20));
        } else {
            live[d[i].branch] = false;
        }
    }
    return false;
}

static void bench_rule(const char *name, cop_rule *rule, uint32_t warmup) {
    tokens t = {calloc(n_branches, sizeof *t.items), calloc(n_branches, sizeof *t.top)};
    bool *live = calloc(n_branches, sizeof *live);
    double *us = calloc(n_steps, sizeof *us);
    uint32_t id, steps = 0;
    for (uint32_t i = 0; i < warmup; i++) {
        must(cop_rule_open(rule, 0, &id));
        make_tokens(&t, 0);
        must(cop_rule_token_add(rule, &t.items[id]));
        must(cop_rule_end(rule, id, COP_RULE_END_OWN, "1", 1));
    }
    for (uint32_t i = warmup; i < n_branches; i++) {
        must(cop_rule_open(rule, i % 16, &id));
        live[id] = true;
    }
    uint64_t before = cop_memory_count();
    for (bool over = false; steps < n_steps && !over; steps++) {
        make_tokens(&t, steps);
        uint64_t begin = cpu_ns();
        for (uint32_t i = 0; i < n_branches && !over; i++) {
            if (!live[i])
                continue;
            must(cop_rule_token_add(rule, &t.items[i]));
            over = obey(rule, begin, live, steps);
        }
        us[steps] = (double)(cpu_ns() - begin) / 1e3;
    }
    if (cop_memory_count() != before)
        fprintf(stderr, "%s allocated\n", name);
    print_row(name, us, steps, rule);
    cop_rule_destroy(rule);
    free(t.items);
    free(t.top);
    free(live);
    free(us);
}

/* A controller's rounds of calls, each call answered with one of the texts. */
static void bench_calls(const char *name, cop_rule *rule, const char *const *texts,
                        uint32_t n_texts) {
    enum { ROUNDS = 4096 };
    double *us = calloc(ROUNDS, sizeof *us);
    uint32_t *ids = calloc(1u << 20, sizeof *ids);
    uint32_t rounds = 0, calls = 0, most = 0;
    uint64_t before = cop_memory_count();
    for (bool over = false; !over && rounds < ROUNDS; rounds++) {
        const cop_decision *d;
        uint32_t n, first = calls;
        uint64_t begin = cpu_ns();
        must(cop_rule_decide(rule, 0, &d, &n));
        for (uint32_t i = 0; i < n; i++) {
            if (d[i].kind == COP_DECIDE_STOP)
                over = true;
            else
                must(cop_rule_open(rule, d[i].tag, &ids[calls++]));
        }
        us[rounds] = (double)(cpu_ns() - begin) / 1e3;
        most = calls - first > most ? calls - first : most;
        for (uint32_t i = first; i < calls; i++) {
            const char *text = texts[(i * 2654435761u >> 8) % n_texts];
            must(cop_rule_end(rule, ids[i], COP_RULE_END_OWN, text, strlen(text)));
        }
    }
    if (cop_memory_count() != before)
        fprintf(stderr, "%s allocated\n", name);
    char label[64];
    snprintf(label, sizeof label, "%s (%u calls)", name, most);
    print_row(label, us, rounds, rule);
    cop_rule_destroy(rule);
    free(us);
    free(ids);
}

static const cop_rule_limits *limits(void) {
    static cop_rule_limits l;
    l = (cop_rule_limits){.max_branches = n_branches, .max_tokens = n_steps + 1};
    return &l;
}

static const cop_probe_options probe = {
    .every = 64, .suffix = cop_dynasor_suffix, .probe_tokens = 20, .boxed = true};

static void bench_prune_rules(void) {
    cop_rule *rule, *pair[2];
    must(cop_deepconf_create(limits(),
                             &(cop_deepconf_options){.window = COP_DEEPCONF_DEFAULT_WINDOW,
                                                     .warmup = 16,
                                                     .keep_percent = 90},
                             &rule));
    bench_rule("deepconf online", rule, 16);
    must(cop_deepconf_create(limits(),
                             &(cop_deepconf_options){.mode = COP_DEEPCONF_OFFLINE,
                                                     .window = COP_DEEPCONF_DEFAULT_WINDOW,
                                                     .vote = COP_DEEPCONF_VOTE_BOTTOM_WINDOW},
                             &rule));
    bench_rule("deepconf offline", rule, 0);
    must(cop_dynasor_create(
        limits(),
        &(cop_dynasor_options){
            .k = 8, .chunk = 64, .suffix = cop_dynasor_suffix, .probe_tokens = 20},
        &rule));
    bench_rule("dynasor client, mild", rule, 0);
    must(cop_dynasor_create(limits(),
                            &(cop_dynasor_options){.mode = COP_DYNASOR_SERVER,
                                                   .agree = true,
                                                   .k = 2,
                                                   .chunk = 32,
                                                   .suffix = cop_dynasor_suffix,
                                                   .probe_tokens = 20},
                            &rule));
    bench_rule("dynasor server, mended", rule, 0);
    must(cop_certaindex_create(limits(),
                               &(cop_certaindex_options){.probe = probe,
                                                         .measure = COP_CERTAINDEX_NORMALISED,
                                                         .threshold = 0.99},
                               &rule));
    bench_rule("certaindex over paths", rule, 0);
    must(cop_parallel_probe_create(
        limits(),
        &(cop_parallel_probe_options){
            .probe = probe, .patience = 40, .prune_patience = 60, .warmup = 15, .max_steps = 100},
        &rule));
    bench_rule("parallel-probe", rule, 0);
    must(cop_policy_create(
        limits(),
        &(cop_policy_options){.budget_tokens = 1ull << 40, .quorum = 3, .deadline_ns = 1ull << 60},
        &rule));
    bench_rule("policy", rule, 0);
    must(cop_deepconf_create(limits(),
                             &(cop_deepconf_options){.window = COP_DEEPCONF_DEFAULT_WINDOW,
                                                     .warmup = 16,
                                                     .keep_percent = 90},
                             &pair[0]));
    must(cop_policy_create(limits(), &(cop_policy_options){.budget_tokens = 1ull << 40}, &pair[1]));
    must(cop_rule_set_create(limits(), pair, 2, &rule));
    bench_rule("set of deepconf and policy", rule, 16);
    must(cop_samples_create(
        limits(), &(cop_samples_options){.kind = COP_SAMPLES_SELF_CONSISTENCY, .n = n_branches},
        &rule));
    bench_rule("self-consistency", rule, 0);
    must(cop_samples_create(limits(),
                            &(cop_samples_options){.kind = COP_SAMPLES_BEST_OF,
                                                   .n = n_branches,
                                                   .scorer = COP_SCORER_GROUP_CONFIDENCE,
                                                   .window = COP_DEEPCONF_DEFAULT_WINDOW},
                            &rule));
    bench_rule("best-of-n, group confidence", rule, 0);
}

/* A safetensors image of STEP's shape, all values 1 / 1024. */
static cop_mlp *make_mlp(uint32_t hidden) {
    uint64_t sizes[4] = {512ull * hidden, 512, 512, 1}, at = 0;
    char header[512];
    int n = snprintf(header, sizeof header, "{");
    static const char *const names[] = {"net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"};
    for (int i = 0; i < 4; i++) {
        char shape[32];
        if (i == 0)
            snprintf(shape, sizeof shape, "[512,%u]", hidden);
        else
            snprintf(shape, sizeof shape, i == 2 ? "[1,512]" : i == 1 ? "[512]" : "[1]");
        n += snprintf(header + n, sizeof header - (size_t)n,
                      "%s\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%llu,%llu]}",
                      i ? "," : "", names[i], shape, (unsigned long long)at * 4,
                      (unsigned long long)(at + sizes[i]) * 4);
        at += sizes[i];
    }
    n += snprintf(header + n, sizeof header - (size_t)n, "}");
    uint8_t *image = calloc(8 + (size_t)n + at * 4, 1);
    uint64_t length = (uint64_t)n;
    memcpy(image, &length, 8);
    memcpy(image + 8, header, (size_t)n);
    for (uint64_t i = 0; i < at; i++)
        memcpy(image + 8 + n + 4 * i, &(float){1.0f / 1024}, 4);
    cop_safetensors *file;
    cop_mlp *mlp;
    must(cop_safetensors_open_memory(image, 8 + (size_t)n + at * 4, &file));
    must(cop_mlp_from(file, hidden, &mlp));
    cop_safetensors_close(file);
    free(image);
    return mlp;
}

static void bench_step(uint32_t hidden) {
    cop_mlp *mlp = make_mlp(hidden);
    cop_rule *rule;
    must(cop_step_create(limits(), &(cop_step_options){.mlp = mlp, .step_text = "\n\n"}, &rule));
    bench_rule("step, without its network", rule, 0);
    must(cop_step_create(limits(), &(cop_step_options){.mlp = mlp, .step_text = "\n\n"}, &rule));
    uint32_t id;
    for (uint32_t i = 0; i < n_branches; i++)
        must(cop_rule_open(rule, 0, &id));
    double *us = calloc(n_branches, sizeof *us);
    for (uint32_t i = 0; i < n_branches; i++) {
        uint64_t begin = cpu_ns();
        cop_rule_victim(rule);
        us[i] = (double)(cpu_ns() - begin) / 1e3;
    }
    print_row("step, a victim", us, n_branches, rule);
    float *state = calloc(hidden, sizeof *state), *scratch = calloc(512, sizeof *scratch);
    for (uint32_t i = 0; i < 50; i++) {
        uint64_t begin = cpu_ns();
        state[i] = (float)cop_mlp_score(mlp, state, scratch);
        us[i] = (double)(cpu_ns() - begin) / 1e3;
    }
    print_row("step's network, one state", us, 50, rule);
    cop_rule_destroy(rule);
    cop_mlp_destroy(mlp);
    free(us);
    free(state);
    free(scratch);
}

static void bench_controllers(void) {
    static const char *const outlines[] = {
        "1. One\n2. Two\n3. Three\n4. Four\n5. Five\n6. Six\n7. Seven\n8. Eight\n9. Nine\n10. Ten"};
    static const char *const thoughts[] = {"a\n", "b\n", "c\n", "d d d\n", "sure", "likely"};
    const cop_rule_limits many = {.max_branches = 1u << 16};
    cop_rule *rule;
    must(cop_skeleton_create(&many,
                             &(cop_skeleton_options){.request = "Why?",
                                                     .outline_prompt = "{request}",
                                                     .point_prompt = "{request} {outline} {point}",
                                                     .max_text_bytes = 1 << 20},
                             &rule));
    bench_calls("skeleton", rule, outlines, 1);
    cop_thoughts_options o = {.input = "1 2 3 4",
                              .generate_prompt = "{input} {state}",
                              .evaluate_prompt = "{state}",
                              .steps = 4,
                              .n_generate = n_branches / 8,
                              .n_evaluate = 1,
                              .n_select = 8,
                              .values = {{"likely", 1}, {"sure", 20}},
                              .n_values = 2,
                              .max_states = n_branches * 2,
                              .max_text_bytes = 1 << 24};
    must(cop_thoughts_create(&many, &o, &rule));
    bench_calls("thoughts, breadth first", rule, thoughts, 6);
    o.search = COP_THOUGHTS_DFS;
    o.max_visited = o.max_depth = 100;
    o.max_states = 4096;
    o.n_generate = 8;
    o.n_select = 3;
    static const char *const proposals[] = {"a (high)\nb (low)\nc (certain)", "likely\nsure",
                                            "x (medium)\ny (low)"};
    must(cop_thoughts_create(&many, &o, &rule));
    bench_calls("thoughts, depth first", rule, proposals, 3);
    must(cop_mcts_create(&many,
                         &(cop_mcts_options){.input = "1 2 3 4",
                                             .generate_prompt = "{input} {state}",
                                             .evaluate_prompt = "{state}",
                                             .iterations = 1000,
                                             .n_expand = 16,
                                             .n_evaluate = 1,
                                             .max_depth = 8,
                                             .c = sqrt(2),
                                             .values = {{"likely", 0.5}, {"sure", 1}},
                                             .n_values = 2,
                                             .max_text_bytes = 1 << 24},
                         &rule));
    bench_calls("mcts", rule, thoughts, 6);
}

int main(int argc, char **argv) {
    if (argc > 1)
        n_branches = (uint32_t)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        n_steps = (uint32_t)strtoul(argv[2], NULL, 10);
    if (n_branches < 32 || n_branches > 4096 || n_steps == 0 || n_steps > 100000) {
        fprintf(stderr, "rules_bench [branches, 32 to 4096] [steps, 1 to 100000]\n");
        return 2;
    }
    printf("decisions of a step with %u live branches, us of CPU time; the goal is 100\n",
           n_branches);
    printf("%-28s %8s %10s %10s %10s %10s %10s %8s\n", "rule", "steps", "mean", "median", "p99",
           "max", "probes", "pruned");
    bench_prune_rules();
    bench_step(4096);
    bench_controllers();
    return 0;
}
