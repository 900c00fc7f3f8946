/* A sweep's keys for the device and its "problems" section: what is read, and what is refused
 * before a model is opened. */
#include "bench_folder.h"

#include <math.h>

#include "job/job_problems.h"

static const char whole_members[] =
    "\"first\": 12, \"checker\": \"countdown\", \"max_tokens\": 500, \"max_paths\": 24, "
    "\"at_once\": [1, 8]";

static void test_a_config_is_read(void) {
    cop_bench_config *config;
    fresh_folder();
    CHECK_OK(load_set(
        NULL, whole_members,
        "{\"name\": \"s\", \"dialect\": \"countdown-sequential\", \"max_tokens\": 100},"
        "{\"name\": \"m\", \"dialect\": \"countdown-message\", \"ask_paths\": 3, \"max_blocks\": 2,"
        " \"prune\": {\"budget_tokens\": 400, \"window\": 16, \"warmup\": 5},"
        " \"join_policy\": {\"quorum\": 2, \"finisher\": \"success\", \"losers\": "
        "\"keep_partial\", \"deadline_tokens\": 50}}",
        &config));
    const cop_problems_job *job = &config->problems[0];
    CHECK_EQ(config->n_problems, 1);
    CHECK_TEXT(job->name, "cd");
    CHECK_EQ(job->first, 12);
    CHECK_EQ(job->n_at_once, 2);
    CHECK_EQ(job->at_once[1], 8);
    CHECK(job->temperature == 0 && job->top_p == 1);
    CHECK_EQ(job->methods[0].max_tokens, 100);
    CHECK(!cop__problem_rules_look_across(&job->methods[0]));
    const cop_problems_method *m = &job->methods[1];
    CHECK_EQ(m->ask_paths, 3);
    CHECK_EQ(m->max_blocks, 2);
    CHECK_EQ(m->prune.budget_tokens, 400);
    CHECK_EQ(m->n_warmup, 5);
    CHECK(m->keep_percent == 90 && isinf(m->prune.threshold));
    CHECK_EQ(m->join_policy.quorum, 2);
    CHECK(m->join_policy.success_only && m->join_policy.keep_partial);
    CHECK_EQ(m->join_policy.deadline_tokens, 50);
    CHECK(cop__problem_rules_look_across(m));
    cop_buffer list = {0};
    CHECK_OK(cop_bench_config_list(config, &list));
    uint32_t lines = 0;
    for (size_t i = 0; i < list.bytes; i++)
        lines += list.data[i] == '\n';
    CHECK_EQ(lines, 4); /* two methods at two numbers */
    CHECK(strstr(list.data, "cd") && strstr(list.data, "8 at once"));
    cop_buffer_release(&list);
    json_t *resolved = cop_bench_config_resolved(config);
    json_t *hashes = json_object_get(resolved, "problem_sets_sha256");
    CHECK_EQ(json_array_size(hashes), 1);
    CHECK_EQ(strlen(json_string_value(json_array_get(hashes, 0))), 64);
    json_decref(resolved);
    cop_bench_config_destroy(config);
}

static void test_a_dialect_file_stands_beside_the_config(void) {
    cop_bench_config *config;
    fresh_folder();
    write_file("mine.json", "{\"name\": \"mine\", \"source\": \"test\", \"join\": \"none\"}");
    CHECK_OK(
        load_set(NULL, whole_members, "{\"name\": \"s\", \"dialect\": \"mine.json\"}", &config));
    CHECK(strstr(config->problems[0].methods[0].dialect, folder));
    cop_bench_config_destroy(config);
}

static void refuse_members(const char *members, const char *message) {
    cop_bench_config *config = NULL;
    CHECK_STATUS(load_set(NULL, members, ONE_METHOD, &config), COP_ERR_CONFIG);
    CHECK_MESSAGE(message);
    CHECK_MESSAGE("sweep.json");
}

static void test_bad_sets_are_refused(void) {
    fresh_folder();
    refuse_members("\"max_tokens\": 9, \"at_once\": [1]", "checker");
    refuse_members("\"checker\": \"magic\", \"max_tokens\": 9, \"at_once\": [1]", "magic");
    refuse_members("\"checker\": 3, \"max_tokens\": 9, \"at_once\": [1]", "checker");
    refuse_members("\"checker\": \"exact\", \"at_once\": [1]", "max_tokens");
    refuse_members("\"checker\": \"exact\", \"max_tokens\": 0, \"at_once\": [1]", "max_tokens");
    refuse_members("\"checker\": \"exact\", \"max_tokens\": \"9\", \"at_once\": [1]", "max_tokens");
    refuse_members("\"checker\": \"exact\", \"max_tokens\": 9", "at_once");
    refuse_members("\"checker\": \"exact\", \"max_tokens\": 9, \"at_once\": 4", "at_once");
    refuse_members("\"checker\": \"exact\", \"max_tokens\": 9, \"at_once\": []", "1 to 16");
    refuse_members("\"checker\": \"exact\", \"max_tokens\": 9, \"at_once\": [0]", "at_once");
    refuse_members("\"checker\": \"exact\", \"max_tokens\": 9, \"at_once\": [257]", "256");
    refuse_members("\"checker\": \"exact\", \"max_tokens\": 9, \"at_once\": [2, 2]", "twice");
    refuse_members("\"checker\": \"exact\", \"max_tokens\": 9, \"at_once\": [1], \"first\": -1",
                   "first");
    refuse_members("\"checker\": \"exact\", \"max_tokens\": 9, \"at_once\": [1], \"top_p\": 2",
                   "top_p");
    refuse_members("\"checker\": \"exact\", \"max_tokens\": 9, \"at_once\": [1], \"chat\": true",
                   "chat");
    cop_bench_config *config = NULL;
    CHECK_STATUS(load_text("{\"name\": \"t\", \"model\": \"m\", \"problems\": {}}", &config),
                 COP_ERR_CONFIG);
    CHECK_STATUS(load_text("{\"name\": \"t\", \"model\": \"m\", \"problems\": []}", &config),
                 COP_ERR_CONFIG);
    CHECK_MESSAGE("nothing to run");
    char text[2048];
    snprintf(text, sizeof text,
             "{\"name\": \"t\", \"model\": \"m\", \"problems\": [{\"name\": \"a\", \"set\": \"s\", "
             "%s, \"methods\": [%s]}, {\"name\": \"a\", \"set\": \"s\", %s, \"methods\": [%s]}]}",
             whole_members, ONE_METHOD, whole_members, ONE_METHOD);
    CHECK_STATUS(load_text(text, &config), COP_ERR_CONFIG);
    CHECK_MESSAGE("two problem sets");
}

static void refuse_method(const char *members, const char *message) {
    char method[1024];
    cop_bench_config *config = NULL;
    snprintf(method, sizeof method, "{\"name\": \"m\", %s}", members);
    CHECK_STATUS(load_set(NULL, whole_members, method, &config), COP_ERR_CONFIG);
    CHECK_MESSAGE(message);
}

#define MESSAGE "\"dialect\": \"countdown-message\""

static void test_bad_methods_are_refused(void) {
    fresh_folder();
    refuse_method("\"max_tokens\": 9", "dialect");
    refuse_method("\"dialect\": \"nosuch\"", "nosuch");
    refuse_method("\"dialect\": \"./nosuch.json\"", "nosuch.json");
    refuse_method(MESSAGE ", \"at_once\": [1]", "at_once");
    refuse_method(MESSAGE ", \"ask_paths\": 1.5", "ask_paths");
    refuse_method("\"dialect\": \"countdown-sequential\", \"ask_paths\": 5", "does not say {k}");
    refuse_method("\"dialect\": \"multiverse\", \"ask_paths\": 5", "does not say {k}");
    refuse_method("\"dialect\": \"countdown-sequential\", \"max_blocks\": 2", "never forks");
    refuse_method(MESSAGE ", \"prune\": {}", "names no rule");
    refuse_method(MESSAGE ", \"prune\": {\"first_finisher\": true}", "first_finisher");
    refuse_method(MESSAGE ", \"prune\": {\"warmup\": 3, \"budget_tokens\": 9}", "window");
    refuse_method(MESSAGE ", \"prune\": {\"window\": 16}", "warmup");
    refuse_method(MESSAGE ", \"prune\": {\"window\": 16, \"warmup\": 0}", "warmup");
    refuse_method(MESSAGE ", \"prune\": {\"window\": 16, \"warmup\": 12}", "of 12");
    refuse_method(MESSAGE ", \"prune\": {\"window\": 16, \"warmup\": 2, \"keep_percent\": 0}",
                  "keep_percent");
    refuse_method(MESSAGE ", \"join_policy\": {}", "names no rule");
    refuse_method(MESSAGE ", \"join_policy\": {\"finisher\": \"success\", \"deadline_tokens\": 9}",
                  "quorum");
    refuse_method(MESSAGE ", \"join_policy\": {\"quorum\": 1, \"finisher\": \"best\"}", "finisher");
    refuse_method(MESSAGE ", \"join_policy\": {\"quorum\": 1, \"losers\": \"keep\"}", "losers");
    refuse_method("\"dialect\": \"countdown-sequential\", \"join_policy\": {\"quorum\": 1}",
                  "never forks");
    refuse_method("\"dialect\": \"multiverse\", \"join_policy\": {\"quorum\": 1, \"finisher\": "
                  "\"success\"}",
                  "no \"success\"");
    cop_bench_config *config = NULL;
    CHECK_STATUS(load_set(NULL, whole_members, "", &config), COP_ERR_CONFIG);
    CHECK_MESSAGE("methods");
    char twice[256];
    snprintf(twice, sizeof twice, "%s, %s", ONE_METHOD, ONE_METHOD);
    CHECK_STATUS(load_set(NULL, whole_members, twice, &config), COP_ERR_CONFIG);
    CHECK_MESSAGE("two methods");
}

static void test_where_it_is_computed_is_read(void) {
    static const char tail[] = "\"samples\": [{\"name\": \"s\", \"prompt\": \"x\", \"n\": 1, "
                               "\"max_tokens\": 1}]}";
    static const struct {
        const char *members;
        const char *name; /* NULL: not given */
        cop_backend_choice on;
        cop_arith arith;
    } good[] = {
        {"", NULL, {0}, COP_ARITH_NATIVE_A8},
        {"\"backend\": \"cpu\",", "cpu", {0}, COP_ARITH_NATIVE_A8},
        {"\"backend\": \"cuda\", \"products\": \"fast\", \"device\": 7, \"eager\": true, "
         "\"time_every\": 16,",
         "cuda",
         {.products = COP_PRODUCTS_FAST, .device = 7, .eager = true, .time_every = 16},
         COP_ARITH_BF16},
        {"\"backend\": \"cuda\", \"compute\": \"f32\", \"products\": \"invariant\",",
         "cuda",
         {.products = COP_PRODUCTS_INVARIANT},
         COP_ARITH_F32},
    };
    static const char *const bad[][2] = {
        {"\"backend\": 1,", "backend"},
        {"\"backend\": \"\",", "backend"},
        {"\"products\": \"quick\",", "fast"},
        {"\"products\": true,", "products"},
        {"\"device\": 1024,", "device"},
        {"\"device\": \"0\",", "device"},
        {"\"eager\": 0,", "eager"},
        {"\"time_every\": -1,", "time_every"},
        {"\"profile_steps\": \"1-2\",", "profile_steps"},
    };
    char text[512];
    cop_bench_config *config = NULL;
    fresh_folder();
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        snprintf(text, sizeof text, "{\"name\": \"t\", \"random\": \"m\", %s %s", good[i].members,
                 tail);
        CHECK_OK(load_text(text, &config));
        const cop_job_options *job = cop_bench_config_job(config);
        CHECK(good[i].name ? strcmp(job->on.name, good[i].name) == 0 : !job->on.name);
        CHECK_EQ(job->on.products, good[i].on.products);
        CHECK_EQ(job->on.device, good[i].on.device);
        CHECK_EQ(job->on.eager, good[i].on.eager);
        CHECK_EQ(job->on.time_every, good[i].on.time_every);
        CHECK_EQ(job->arith, good[i].arith);
        CHECK_EQ(cop_bench_config_names(config, "compute"), i == 3);
        json_t *resolved = cop_bench_config_resolved(config);
        CHECK_TEXT(json_string_value(json_object_get(resolved, "backend")),
                   good[i].name ? good[i].name : "cpu");
        CHECK_EQ(json_integer_value(json_object_get(resolved, "time_every")),
                 good[i].on.time_every);
        CHECK(json_is_string(json_object_get(resolved, "products")));
        json_decref(resolved);
        cop_bench_config_destroy(config);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "{\"name\": \"t\", \"random\": \"m\", %s %s", bad[i][0], tail);
        CHECK_STATUS(load_text(text, &config), COP_ERR_CONFIG);
        CHECK_MESSAGE(bad[i][1]);
        CHECK_MESSAGE("sweep.json");
    }
}

static void test_the_pool_is_read(void) {
    static const char tail[] = "\"samples\": [{\"name\": \"s\", \"prompt\": \"x\", \"n\": 1, "
                               "\"max_tokens\": 1}]}";
    static const struct {
        const char *members;
        cop_pressure policy;
        uint32_t block;
        bool warm;
    } good[] = {
        {"", COP_PRESSURE_FAIL, 0, false},
        {"\"kv_policy\": \"fail\",", COP_PRESSURE_FAIL, 0, false},
        {"\"kv_policy\": \"queue\",", COP_PRESSURE_QUEUE, 0, false},
        {"\"kv_policy\": \"recompute\",", COP_PRESSURE_RECOMPUTE, 0, false},
        {"\"kv_policy\": \"prune-lowest\",", COP_PRESSURE_PRUNE_LOWEST, 0, false},
        {"\"prefix\": {\"block\": 256, \"state\": \"cold\"},", COP_PRESSURE_FAIL, 256, false},
        {"\"prefix\": {\"block\": 64, \"state\": \"warm\"},", COP_PRESSURE_FAIL, 64, true},
        {"\"prefix\": {\"block\": 192, \"state\": \"warm\"}, \"chunk_tokens\": 192,",
         COP_PRESSURE_FAIL, 192, true},
    };
    static const char *const bad[][2] = {
        {"\"kv_policy\": \"swap\",", "prune-lowest"},
        {"\"kv_policy\": true,", "kv_policy"},
        {"\"prefix\": 256,", "prefix"},
        {"\"prefix\": {},", "block"},
        {"\"prefix\": {\"block\": 256},", "state"}, /* neither is what one means */
        {"\"prefix\": {\"state\": \"warm\"},", "block"},
        {"\"prefix\": {\"block\": 256, \"state\": \"hot\"},", "warm"},
        {"\"prefix\": {\"block\": 0, \"state\": \"cold\"},", "block"},
        {"\"prefix\": {\"block\": 100, \"state\": \"cold\"},", "multiple of 64"},
        {"\"prefix\": {\"block\": 192, \"state\": \"cold\"},", "divides chunk_tokens, 1024"},
        {"\"prefix\": {\"block\": 64, \"state\": \"cold\"}, \"chunk_tail_tokens\": 512,",
         "chunk_tail_tokens"},
        {"\"prefix\": {\"block\": 64, \"state\": \"cold\", \"pages\": 1},", "pages"},
    };
    char text[512];
    cop_bench_config *config = NULL;
    fresh_folder();
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        snprintf(text, sizeof text, "{\"name\": \"t\", \"random\": \"m\", %s %s", good[i].members,
                 tail);
        CHECK_OK(load_text(text, &config));
        const cop_job_options *job = cop_bench_config_job(config);
        CHECK_EQ(job->kv_policy, good[i].policy);
        CHECK_EQ(job->prefix_block, good[i].block);
        CHECK_EQ(job->prefix_warm, good[i].warm);
        cop_bench_config_destroy(config);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "{\"name\": \"t\", \"random\": \"m\", %s %s", bad[i][0], tail);
        CHECK_STATUS(load_text(text, &config), COP_ERR_CONFIG);
        CHECK_MESSAGE(bad[i][1]);
    }
}

static cop_status load_samples(const char *rule, cop_bench_config **out) {
    char text[512];
    snprintf(text, sizeof text,
             "{\"name\": \"t\", \"random\": \"m\", \"samples\": [{\"name\": \"s\", \"prompt\": "
             "\"x\", \"n\": 4, \"max_tokens\": 9, %s}]}",
             rule);
    return load_text(text, out);
}

static void test_rules_are_read(void) {
    cop_bench_config *config = NULL;
    fresh_folder();
    write_file("mine.json", "{\"name\": \"mine\", \"source\": \"test\", \"rule\": \"deepconf\", "
                            "\"mode\": \"online\", \"warmup\": 4, \"keep_percent\": 10, \"vote\": "
                            "\"majority\"}");
    write_file("five.json", "{\"name\": \"five\", \"source\": \"test\", \"rule\": \"deepconf\", "
                            "\"mode\": \"online\", \"warmup\": 5, \"keep_percent\": 10, \"vote\": "
                            "\"majority\"}");
    CHECK_OK(load_samples("\"rule\": \"mine.json\"", &config));
    CHECK(strstr(config->samples[0].rule, folder));
    cop_bench_config_destroy(config);
    CHECK_OK(load_samples("\"rule\": \"race\"", &config));
    CHECK_TEXT(config->samples[0].rule, "race");
    cop_bench_config_destroy(config);
    static const char *const bad[][2] = {
        {"\"rule\": \"nosuch\"", "no rule 'nosuch'"},
        {"\"rule\": 3", "rule"},
        {"\"rule\": \"five.json\"", "5 warm-up branches"}, /* of four samples */
        {"\"rule\": \"deepconf-high\"", "16 warm-up branches"},
        {"\"rule\": \"mcts-uct\"", "is a controller"},
        {"\"rule\": \"certaindex-server\"", "heeds_end"},
        {"\"rule\": \"race\", \"prune\": {\"budget_tokens\": 3}", "give one"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_STATUS(load_samples(bad[i][0], &config), COP_ERR_CONFIG);
        CHECK_MESSAGE(bad[i][1]);
        CHECK_MESSAGE("samples[0].rule");
    }
    CHECK_OK(load_set(NULL, whole_members,
                      "{\"name\": \"m\", \"dialect\": \"countdown-message\", \"rule\": "
                      "\"quorum-tenth-keep\"}",
                      &config));
    CHECK_TEXT(config->problems[0].methods[0].rule, "quorum-tenth-keep");
    CHECK(cop__problem_rules_look_across(&config->problems[0].methods[0]));
    cop_bench_config_destroy(config);
    refuse_method(MESSAGE ", \"rule\": \"mine.json\"", "counts whole samples");
    refuse_method("\"dialect\": \"countdown-sequential\", \"rule\": \"mine.json\"", "4 warm-up");
    refuse_method(MESSAGE ", \"rule\": \"race\", \"prune\": {\"budget_tokens\": 3}", "give one");
}

static void test_controllers_are_read(void) {
    cop_bench_config *config;
    fresh_folder();
    CHECK_OK(
        load_set(NULL, whole_members,
                 "{\"name\": \"m\", \"dialect\": \"countdown-sequential\", \"rule\": \"mcts-uct\", "
                 "\"chat\": true}, {\"name\": \"n\", \"dialect\": \"countdown-message\"}",
                 &config));
    const cop_problems_method *m = config->problems[0].methods;
    CHECK_TEXT(m[0].rule, "mcts-uct");
    CHECK(m[0].runs_prompts && m[0].chat && !m[1].runs_prompts && !m[1].chat);
    CHECK(!cop__problem_rules_look_across(&m[0])); /* its tokens hang on nothing beside it */
    cop_bench_config_destroy(config);
    refuse_method(MESSAGE ", \"rule\": \"mcts-uct\"", "is a controller");
    refuse_method("\"dialect\": \"countdown-sequential\", \"rule\": \"mcts-uct\", \"prune\": "
                  "{\"budget_tokens\": 3}",
                  "give one");
    refuse_method(MESSAGE ", \"chat\": 1", "chat");
}

static cop_status load_grid(const char *replay, cop_bench_config **out) {
    char text[1024];
    snprintf(text, sizeof text, "{\"name\": \"t\", \"random\": \"m\", \"replay\": [{%s}]}", replay);
    return load_text(text, out);
}

static void test_a_grid_is_read(void) {
    static const char *const bad[][2] = {
        {"\"grid\": {}", "prefix_tokens"},
        {"\"grid\": [1]", "grid"},
        {"\"grid\": {\"prefix_tokens\": [1], \"branches\": [1]}", "branch_tokens"},
        {"\"grid\": {\"prefix_tokens\": [], \"branches\": [1], \"branch_tokens\": 1}", "1 to 16"},
        {"\"grid\": {\"prefix_tokens\": [0], \"branches\": [1], \"branch_tokens\": 1}",
         "prefix_tokens"},
        {"\"grid\": {\"prefix_tokens\": [1], \"branches\": [2, 2], \"branch_tokens\": 1}", "twice"},
        {"\"grid\": {\"prefix_tokens\": [1], \"branches\": [4097], \"branch_tokens\": 1}",
         "branches"},
        {"\"grid\": {\"prefix_tokens\": [1], \"branches\": [1], \"branch_tokens\": 0}",
         "branch_tokens"},
        {"\"grid\": {\"prefix_tokens\": [1], \"branches\": [1], \"branch_tokens\": 1, \"tokens\": "
         "1}",
         "tokens"},
        {"\"grid\": {\"prefix_tokens\": [1], \"branches\": [1], \"branch_tokens\": 1}, "
         "\"trajectories\": \"t\"",
         "leave"},
        {"\"grid\": {\"prefix_tokens\": [1], \"branches\": [1], \"branch_tokens\": 1}, \"ids\": "
         "[\"1x1\"]",
         "leave"},
        {"\"joins\": [\"stitch\"]", "trajectories"},
    };
    cop_bench_config *config = NULL;
    fresh_folder();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_STATUS(load_grid(bad[i][0], &config), COP_ERR_CONFIG);
        CHECK_MESSAGE(bad[i][1]);
    }
    CHECK_OK(load_grid("\"grid\": {\"prefix_tokens\": [100, 33], \"branches\": [1, 5], "
                       "\"branch_tokens\": 7}, \"joins\": [\"flattened\", \"stitch\"]",
                       &config));
    cop_buffer list = {0};
    CHECK_OK(cop_bench_config_list(config, &list));
    CHECK(strstr(list.data, "100x1 ") && strstr(list.data, "33x5 "));
    cop_buffer_release(&list);
    char hash[COP_SHA256_HEX_BYTES];
    cop_trajectories *set;
    CHECK_OK(cop_tree_grid_read(config->replays[0].grid, &set, hash));
    CHECK_EQ(set->count, 4);
    CHECK_TEXT(set->list[3].id, "33x5");
    CHECK_EQ(set->list[3].paths, 5);
    CHECK_EQ(set->list[3].n_tokens, 33 + 1 + 5 * 7);
    cop_trajectories_destroy(set);
    json_t *resolved = cop_bench_config_resolved(config);
    CHECK_TEXT(
        json_string_value(json_array_get(json_object_get(resolved, "trajectories_sha256"), 0)),
        hash);
    json_decref(resolved);
    /* Another grid is another hash, and so other cells. */
    cop_tree_grid other = *config->replays[0].grid;
    other.branch_tokens = 8;
    char other_hash[COP_SHA256_HEX_BYTES];
    CHECK_OK(cop_tree_grid_read(&other, &set, other_hash));
    cop_trajectories_destroy(set);
    CHECK(strcmp(hash, other_hash) != 0);
    cop_bench_config_destroy(config);
}

/* Every tree of the grid is replayed; under a fork a branch's tokens take as many steps as one's.
 */
static cop_status check_line(void *context, const json_t *line) {
    const json_t *metrics = json_object_get(line, "metrics");
    const json_t *kv = json_object_get(metrics, "kv"), *tokens = json_object_get(metrics, "tokens");
    unsigned prefix, branches;
    CHECK(sscanf(json_string_value(json_object_get(line, "problem")), "%ux%u", &prefix,
                 &branches) == 2);
    const bool stitch = strcmp(json_string_value(json_object_get(line, "method")), "stitch") == 0;
    CHECK_EQ(json_integer_value(json_object_get(tokens, "prompt")), prefix);
    CHECK_EQ(json_integer_value(json_object_get(tokens, "total")), 1 + 7 * branches);
    CHECK_EQ(json_integer_value(json_object_get(tokens, "longest_thread")),
             1 + 7 * (stitch ? 1 : branches));
    CHECK_EQ(json_integer_value(json_object_get(kv, "first_bytes")),
             json_integer_value(json_object_get(kv, "min_bytes")));
    *(uint32_t *)context += 1;
    return COP_OK;
}

static void test_a_grid_is_replayed(void) {
    const cop_tree_grid grid = {
        .prefix = {40, 9}, .n_prefix = 2, .branches = {1, 6}, .n_branches = 2, .branch_tokens = 7};
    cop_job_options options;
    cop_job *job;
    cop_results *results;
    uint32_t lines = 0;
    fresh_folder();
    cop_job_options_default(&options);
    options.random = "configs/models/tiny-2layer.json";
    options.arith = COP_ARITH_F32;
    options.n_threads = 1;
    CHECK_OK(cop_job_create(&options, &job));
    json_t *manifest = json_pack("{s:s}", "name", "t");
    CHECK_OK(
        cop_results_open(&(cop_results_options){.folder = folder, .manifest = manifest}, &results));
    json_decref(manifest);
    CHECK_OK(
        cop_job_replay(job, &(cop_replay_job){.grid = &grid,
                                              .methods = {COP_METHOD_FLATTENED, COP_METHOD_STITCH},
                                              .n_methods = 2,
                                              .repeats = 1,
                                              .results = results}));
    cop_results_close(results);
    cop_job_destroy(job);
    CHECK_OK(cop_results_read(folder, NULL, check_line, &lines));
    CHECK_EQ(lines, 8);
}

int main(void) {
    RUN(test_a_grid_is_read);
    RUN(test_a_grid_is_replayed);
    RUN(test_where_it_is_computed_is_read);
    RUN(test_the_pool_is_read);
    RUN(test_rules_are_read);
    RUN(test_controllers_are_read);
    RUN(test_a_config_is_read);
    RUN(test_a_dialect_file_stands_beside_the_config);
    RUN(test_bad_sets_are_refused);
    RUN(test_bad_methods_are_refused);
    drop_folder();
    return check_report();
}
