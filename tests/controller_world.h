/* A world for tests of controllers: live_world.h's, with rules and the driver that runs their
 * prompts. Every run must leave no page behind, allocate nothing and load what its plan says.
 */
#pragma once

#include "live_world.h"
#include "reason/driver_controller.h"
#include "reason/rules/rule_config.h"
#include "reason/rules/thoughts.h"

enum { CALLS_MAX = 2048, TOKENS = 60, POSITIONS = 4096 };

static const char controller_problem[] = "Use 4 and 5 to reach 20.";

typedef struct ruled {
    cop_rule_config *config;
    cop_rule *rule;
} ruled;

static inline ruled open_rule(const char *name) {
    ruled r;
    CHECK_OK(cop_rule_config_load_named(".", name, &r.config));
    CHECK_OK(cop_rule_config_create(
        r.config, &(cop_rule_limits){.max_branches = CALLS_MAX, .max_tokens = TOKENS},
        &(cop_rule_context){0}, &r.rule));
    return r;
}

static inline void close_rule(ruled *r) {
    cop_rule_destroy(r->rule);
    cop_rule_config_close(r->config);
}

static inline cop_engine *make_engine(const cop_model *model, cop_engine_options options) {
    options.arith = COP_ARITH_F32;
    options.n_threads = 1;
    options.page_tokens = 16;
    options.max_branches = options.max_branches ? options.max_branches : 200;
    options.n_pages = options.n_pages ? options.n_pages : 8000;
    options.max_positions = POSITIONS;
    options.seed = 1;
    cop_engine *engine;
    CHECK_OK(cop_engine_create(model, &options, &engine));
    return engine;
}

static inline cop_controller *make(const world *w, cop_rule *rule, cop_controller_options options) {
    options.rule = rule;
    options.tokenizer = w->tokenizer;
    if (!options.input)
        options.input = controller_problem, options.input_bytes = strlen(controller_problem);
    options.max_at_once = options.max_at_once ? options.max_at_once : 64;
    options.max_tokens = options.max_tokens ? options.max_tokens : TOKENS;
    options.max_positions = options.max_positions ? options.max_positions : POSITIONS;
    options.top_p = 1;
    cop_controller *controller;
    CHECK_OK(cop_controller_create(&options, &controller));
    return controller;
}

static inline void run_all(cop_engine *engine, cop_controller *const *controllers, uint32_t n,
                           cop_metrics *m) {
    cop_driver *drivers[8];
    for (uint32_t i = 0; i < n; i++)
        drivers[i] = cop_controller_driver(controllers[i]);
    CHECK_OK(cop_engine_run(engine, drivers, n, m));
    CHECK_EQ(m->kv_pages_leaked, 0);
    CHECK_EQ(m->allocations_in_steps, 0);
    CHECK_EQ(m->kv_load_bytes, m->kv_predicted_load_bytes);
    CHECK_EQ(m->kv_first_bytes, m->kv_min_bytes);
    CHECK_EQ(m->failed_rows, 0);
}

static inline void check_bytes(const char *text, size_t bytes, const char *expected) {
    live_text copy = live_world_text(text, bytes);
    CHECK_TEXT(copy.text, expected);
}

static const cop_rule_limits limits = {.max_branches = 64, .max_tokens = TOKENS};

static inline cop_rule *votes_rule(void) {
    cop_rule *rule;
    CHECK_OK(cop_thoughts_create(&limits,
                                 &(cop_thoughts_options){.search = COP_THOUGHTS_BFS,
                                                         .generate_prompt = "Go {input}{state}",
                                                         .evaluate_prompt = "Which? {choices}",
                                                         .vote = true,
                                                         .steps = 2,
                                                         .n_generate = 5,
                                                         .n_evaluate = 3,
                                                         .n_select = 2,
                                                         .temperature = 0.8f,
                                                         .max_tokens = 17,
                                                         .max_states = 32,
                                                         .max_text_bytes = 1 << 16},
                                 &rule));
    return rule;
}
