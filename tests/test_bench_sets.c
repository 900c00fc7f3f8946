/* Problem sets that cannot be run, or not as another one was: named, and the folder they leave. */
#include "sweep_world.h"

static cop_status run_set(const char *set, const char *members, const char *methods) {
    cop_bench_config *config;
    write_file("set.jsonl", set);
    CHECK_OK(load_set("set.jsonl", members, methods, &config));
    heard h = hear();
    cop_status status = run_config(config, &h, false);
    CHECK_EQ(json_array_size(h.records), status == COP_OK ? 1 : 0);
    json_decref(h.records);
    cop_bench_config_destroy(config);
    return status;
}

static void test_problems_that_cannot_be_run_are_named(void) {
    static const char members[] = "\"checker\": \"exact\", \"max_tokens\": 9, \"at_once\": [2]";
    fresh_folder();
    /* Letters are not in this vocabulary. */
    CHECK_STATUS(run_set("{\"id\": \"good\", \"prompt\": \"T33 18 15 9 8\", \"answer\": \"1\"}\n"
                         "{\"id\": \"odd\", \"prompt\": \"make 33\", \"answer\": \"1\"}\n",
                         members, ONE_METHOD),
                 COP_ERR_FORMAT);
    CHECK_MESSAGE("problem odd");
    fresh_folder();
    CHECK_STATUS(run_set("{\"id\": \"a\", \"prompt\": \"T33 18 15 9 8\", \"answer\": \"1\"}\n"
                         "{\"id\": \"b\", \"prompt\": \"T33 18 15 9 8\", \"answer\": \"1\"}\n",
                         members,
                         "{\"name\": \"m\", \"dialect\": \"countdown-message\", \"prune\": "
                         "{\"window\": 4, \"warmup\": 2}}"),
                 COP_ERR_CONFIG);
    CHECK_MESSAGE("2 warm-up problems of 2");
    fresh_folder();
    CHECK_STATUS(
        run_set("{\"id\": \"a\", \"prompt\": \"T33\"}\n{\"id\": 3}\n", members, ONE_METHOD),
        COP_ERR_FORMAT);
    CHECK_MESSAGE("set.jsonl:2");
    fresh_folder();
    CHECK_STATUS(run_set("{\"id\": \"a\", \"prompt\": \"T33 18 15 9 8\"}\n", members, ONE_METHOD),
                 COP_ERR_CONFIG);
    CHECK_MESSAGE("2 problems at once, and only 1 to run");
    /* Its prompt can be encoded, the text that it inserts cannot. */
    fresh_folder();
    CHECK_STATUS(run_set("{\"id\": \"a\", \"prompt\": \"T33 18 15 9 8\"}\n"
                         "{\"id\": \"b\", \"prompt\": \"T33 18 15 9 8\"}\n",
                         members, "{\"name\": \"m\", \"dialect\": \"multiverse\"}"),
                 COP_ERR_FORMAT);
    CHECK_MESSAGE("dialect multiverse, its branch_prompt");
}

/* The dialect's name and the prompts stay; what the runtime does with them does not. */
static void test_another_dialect_of_the_same_name_is_another_cell(void) {
    static const char members[] = "\"checker\": \"exact\", \"max_tokens\": 9, \"at_once\": [1]";
    static const char text[] =
        "{\"name\": \"mine\", \"source\": \"a test\", \"join\": \"reprefill\", \"prompt\": "
        "\"<tw><k{k}>{problem}\", \"ask_paths\": 2, \"tags\": {\"block\": {\"close\": \"<join>\"}, "
        "\"plan\": {\"close\": \"<fork>\"}, \"item\": {\"open\": \"<try>\"}, \"path\": {\"open\": "
        "\"<thr>\", \"close\": \"<end>\"}}, \"branch_prompt\": \"<thr>{item}\", \"join_prompt\": "
        "\"<join>\", \"answer_after\": \"%s\", \"max_path_tokens\": %u}";
    static const struct {
        const char *after;
        unsigned longest, cells; /* that run: what stands there is not run again */
    } turns[] = {{"<ok>", 128, 1}, {"<ok>", 128, 0}, {"<ok>", 20, 1}, {"<no>", 20, 1}};
    fresh_folder();
    write_file("set.jsonl", "{\"id\": \"a\", \"prompt\": \"T33 18 15 9 8\"}\n");
    for (size_t i = 0; i < sizeof turns / sizeof turns[0]; i++) {
        char dialect[1024];
        cop_bench_config *config;
        snprintf(dialect, sizeof dialect, text, turns[i].after, turns[i].longest);
        write_file("mine.json", dialect);
        CHECK_OK(load_set("set.jsonl", members, "{\"name\": \"m\", \"dialect\": \"mine.json\"}",
                          &config));
        heard h = hear();
        CHECK_OK(run_config(config, &h, i > 0));
        CHECK_EQ(json_array_size(h.records), turns[i].cells);
        json_decref(h.records);
        cop_bench_config_destroy(config);
    }
}

static void test_without_a_reference_nothing_is_graded(void) {
    fresh_folder();
    CHECK_OK(run_set("{\"id\": \"a\", \"prompt\": \"T21 17 16 8 3\"}\n",
                     "\"checker\": \"exact\", \"max_tokens\": 400, \"at_once\": [1]",
                     "{\"name\": \"m\", \"dialect\": \"countdown-message\"}"));
    json_t *lines = read_lines();
    const json_t *line = json_array_get(lines, 0), *accuracy = member(line, "accuracy");
    if (count_of(accuracy, "ungraded") == 1) {
        CHECK(json_is_null(member(accuracy, "share")) && json_is_null(member(accuracy, "low")));
        CHECK(strlen(text(accuracy, "share_why")) > 0);
        CHECK(json_is_null(member(line, "wrong_claims")));
    } else {
        CHECK_EQ(count_of(accuracy, "none"), 1);
    }
    json_decref(lines);
}

static void test_a_sweep_runs_its_problem_sets(void) {
    cop_bench_config *config;
    fresh_folder();
    load_shipped(MEMBERS("2", "20", "[2]"), TWO_METHODS, &config);
    heard h = hear();
    CHECK_OK(run_sweep(config, &h));
    CHECK_EQ(json_array_size(h.records), 2);
    json_t *manifest = NULL, *lines = json_array();
    CHECK_OK(cop_results_read(path_of("out"), &manifest, take_line, lines));
    CHECK_EQ(json_array_size(lines), 2);
    const json_t *hashes = member(member(manifest, "config"), "problem_sets_sha256");
    CHECK_TEXT(json_string_value(json_array_get(hashes, 0)),
               text(json_array_get(lines, 0), "set_sha256"));
    json_decref(manifest);
    json_decref(lines);
    json_decref(h.records);
    cop_bench_config_destroy(config);
}

static void test_a_model_without_words_is_refused(void) {
    cop_job_options options;
    cop_job_options_default(&options);
    options.random = "configs/models/tiny-2layer.json";
    cop_job *job;
    CHECK_OK(cop_job_create(&options, &job));
    const cop_problems_method method = {.name = "s", .dialect = "countdown-sequential"};
    cop_problems_job problems = {.name = "cd",
                                 .set = SHIPPED_SET,
                                 .first = 2,
                                 .checker = "countdown",
                                 .max_tokens = 9,
                                 .methods = &method,
                                 .n_methods = 1,
                                 .at_once = {1},
                                 .n_at_once = 1,
                                 .repeats = 1};
    CHECK_STATUS(cop_job_problems(job, &problems), COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("no tokenizer");
    problems.at_once[0] = 0;
    CHECK_STATUS(cop_job_problems(job, &problems), COP_ERR_CONFIG);
    problems.at_once[0] = 300;
    CHECK_STATUS(cop_job_problems(job, &problems), COP_ERR_CONFIG);
    CHECK_MESSAGE("1 to 256");
    cop_job_destroy(job);
}

static void test_files_of_a_result_folder_have_plain_names(void) {
    fresh_folder();
    json_t *manifest = json_pack("{s:s}", "name", "t");
    cop_results *results;
    CHECK_OK(
        cop_results_open(&(cop_results_options){.folder = folder, .manifest = manifest}, &results));
    CHECK_OK(cop_results_file(results, "answers-1.jsonl", "x\n", 2));
    CHECK_EQ(access(path_of("answers-1.jsonl"), R_OK), 0);
    CHECK_STATUS(cop_results_file(results, "../x", "x\n", 2), COP_ERR_INTERNAL);
    CHECK_STATUS(cop_results_file(results, "", "x\n", 2), COP_ERR_INTERNAL);
    cop_results_close(results);
    json_decref(manifest);
}

int main(void) {
    RUN(test_problems_that_cannot_be_run_are_named);
    RUN(test_another_dialect_of_the_same_name_is_another_cell);
    RUN(test_without_a_reference_nothing_is_graded);
    RUN(test_a_sweep_runs_its_problem_sets);
    RUN(test_a_model_without_words_is_refused);
    RUN(test_files_of_a_result_folder_have_plain_names);
    drop_folder();
    return check_report();
}
