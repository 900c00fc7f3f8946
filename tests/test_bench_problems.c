/* Problem sets in a sweep: cells that give the same tokens whatever runs
 * beside them, lines and answers that can be read again, runs that are interrupted and resumed. The
 * model is the small one that ships with the repository. */
#include "sweep_world.h"

enum { PROBLEMS = 12 };

static void check_accuracy(const json_t *record, uint32_t n) {
    const json_t *accuracy = member(record, "accuracy");
    json_int_t right = count_of(accuracy, "right"), wrong = count_of(accuracy, "wrong");
    CHECK_EQ(right + wrong + count_of(accuracy, "none") + count_of(accuracy, "ungraded"), n);
    CHECK(number(accuracy, "share") == (double)right / n);
    CHECK(number(accuracy, "low") <= number(accuracy, "share"));
    CHECK(number(accuracy, "high") >= number(accuracy, "share"));
    CHECK_TEXT(text(accuracy, "interval"), "Wilson, 95 %");
    CHECK(number(record, "wrong_claims") == (double)wrong / n);
    json_int_t graded[2] = {0, 0};
    const json_t *grades = member(member(record, "each"), "grade");
    for (size_t i = 0; i < json_array_size(grades); i++) {
        const char *grade = json_string_value(json_array_get(grades, i));
        graded[0] += strcmp(grade, "right") == 0;
        graded[1] += strcmp(grade, "wrong") == 0;
    }
    CHECK_EQ(graded[0], right);
    CHECK_EQ(graded[1], wrong);
}

/* By every paper's measure, each once: "| `tokens.total`, .. |". */
static void check_measures_are_defined(const json_t *reasoning) {
    cop_buffer page = {0};
    const char *group, *name;
    json_t *figures, *value;
    CHECK_OK(cop__file_read("bench/METRICS.md", &page, NULL));
    const char *from = strstr(page.data, "## One run, every paper's measure");
    CHECK(from);
    json_object_foreach((json_t *)reasoning, group, figures) {
        json_object_foreach(figures, name, value) {
            char quoted[96];
            size_t bytes = strlen(name);
            snprintf(quoted, sizeof quoted, "`%s.%s`", group, name);
            if ((bytes < 4 || strcmp(name + bytes - 4, "_why") != 0) && !strstr(from, quoted)) {
                fprintf(stderr, "bench/METRICS.md does not define %s\n", quoted);
                exit(1);
            }
        }
    }
    cop_buffer_release(&page);
}

static void check_means(const json_t *record, uint32_t n) {
    static const char *const columns[] = {"id",         "grade", "longest", "tokens",
                                          "latency_ms", "forks", "paths",   "stop"};
    const json_t *each = member(record, "each");
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        CHECK_EQ(json_array_size(member(each, columns[i])), n);
    double tokens = 0, longest = 0, latency = 0, forks = 0;
    for (uint32_t i = 0; i < n; i++) {
        tokens += json_number_value(json_array_get(member(each, "tokens"), i));
        longest += json_number_value(json_array_get(member(each, "longest"), i));
        latency += json_number_value(json_array_get(member(each, "latency_ms"), i));
        forks += json_number_value(json_array_get(member(each, "forks"), i));
        CHECK(json_number_value(json_array_get(member(each, "latency_ms"), i)) > 0);
    }
    CHECK(fabs(number(record, "tokens_mean") - tokens / n) < 1e-9);
    CHECK(fabs(number(record, "longest_mean") - longest / n) < 1e-9);
    CHECK(fabs(number(record, "blocks_mean") - forks / n) < 1e-9);
    /* The traces' own figures are those that the engine counts where it works. */
    const json_t *traced = member(member(record, "reasoning"), "tokens");
    CHECK(fabs(number(traced, "total") - tokens / n) < 1e-9);
    CHECK(fabs(number(traced, "longest_thread") - longest / n) < 1e-9);
    check_measures_are_defined(member(record, "reasoning"));
    const json_t *times = member(record, "latency_ms");
    CHECK(fabs(number(times, "mean") - latency / n) < 1e-6);
    CHECK(number(times, "p50") <= number(times, "p95"));
    CHECK(number(record, "longest_max") >= number(record, "longest_mean"));
    CHECK(number(record, "problems_per_s") > 0 && number(record, "wall_per_problem_ms") > 0);
    json_int_t stopped = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)member(record, "stops"), key, value) {
        stopped += json_integer_value(value);
    }
    CHECK_EQ(stopped, n);
}

static void check_record(const json_t *record, uint32_t n, const char *join) {
    CHECK_TEXT(text(record, "group"), "problems");
    CHECK_TEXT(text(record, "set"), "cd");
    CHECK_TEXT(text(record, "join"), join);
    CHECK_TEXT(text(record, "checker"), "countdown");
    CHECK_TEXT(text(record, "arithmetic"), "f32");
    CHECK_TEXT(text(record, "tokens_from"), "decoded live");
    CHECK(json_is_false(member(record, "random_weights")));
    CHECK(json_is_false(member(record, "extrapolated")));
    CHECK_EQ(count_of(record, "problems"), n);
    CHECK_EQ(strlen(text(record, "set_sha256")), 64);
    CHECK(strlen(text(record, "model")) > 0 && strlen(text(record, "dialect")) > 0);
    CHECK(json_is_array(member(record, "notes")));
    CHECK(number(record, "temperature") == 0);
    CHECK(number(record, "well_formed") >= 0 && number(record, "well_formed") <= 1);
    CHECK(number(record, "forked") >= 0 && number(record, "forked") <= 1);
    (void)count_of(record, "ask_paths");
    (void)count_of(record, "max_blocks");
    (void)number(record, "tokens_pruned_mean");
    (void)number(record, "paths_cancelled_mean");
    check_accuracy(record, n);
    check_means(record, n);
}

static bool same_columns(const json_t *a, const json_t *b) {
    static const char *const columns[] = {"id",    "grade", "longest", "tokens",
                                          "forks", "paths", "stop"};
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        if (!json_equal((json_t *)member(member(a, "each"), columns[i]),
                        (json_t *)member(member(b, "each"), columns[i])))
            return false;
    }
    return true;
}

static void check_answers(const char *key, const json_t *record) {
    char name[64];
    snprintf(name, sizeof name, "out/answers-%s.jsonl", key);
    json_t *lines = read_jsonl(name);
    const json_t *each = member(record, "each");
    uint32_t n = 0;
    for (; n < json_array_size(lines); n++) {
        const json_t *line = json_array_get(lines, n);
        CHECK_TEXT(text(line, "id"), json_string_value(json_array_get(member(each, "id"), n)));
        CHECK_TEXT(text(line, "grade"),
                   json_string_value(json_array_get(member(each, "grade"), n)));
        CHECK_EQ(count_of(line, "longest"),
                 json_integer_value(json_array_get(member(each, "longest"), n)));
        CHECK(strlen(text(line, "prompt")) > 0 && strlen(text(line, "reference")) > 0);
        (void)text(line, "stop");
        CHECK(count_of(line, "tokens") > 0 && count_of(line, "forks") >= 0);
        const json_t *answer = member(line, "answer");
        CHECK(json_is_null(answer) == (strcmp(text(line, "grade"), "none") == 0));
        if (json_is_string(answer)) {
            CHECK(strstr(text(line, "text"), json_string_value(answer)));
            const cop_checker *checker;
            CHECK_OK(cop_checker_find("countdown", &checker));
            cop_answer_text prompt = {text(line, "prompt"), strlen(text(line, "prompt"))};
            cop_answer_text claimed = {json_string_value(answer), json_string_length(answer)};
            CHECK_TEXT(cop_grade_name(cop_checker_grade(checker, prompt, prompt, claimed)),
                       text(line, "grade"));
        }
    }
    CHECK_EQ(n, json_array_size(member(each, "id")));
    json_decref(lines);
}

static void test_tokens_do_not_depend_on_what_runs_beside(void) {
    cop_bench_config *config;
    fresh_folder();
    load_shipped(MEMBERS("12", "240", "[1, 3, 12]"),
                 "{\"name\": \"seq\", \"dialect\": \"countdown-sequential\", \"max_tokens\": 50},"
                 "{\"name\": \"msg\", \"dialect\": \"countdown-message\", \"ask_paths\": 2, "
                 "\"max_blocks\": 1}",
                 &config);
    heard h = hear();
    CHECK_OK(run_config(config, &h, false));
    CHECK_EQ(json_array_size(h.records), 6);
    CHECK_EQ(h.allocations, 0);
    CHECK_EQ(h.cells, 6);
    CHECK_EQ(h.total, 6);
    CHECK_EQ(h.steps, 6 * PROBLEMS);
    for (size_t i = 0; i < 6; i++) {
        const json_t *record = json_array_get(h.records, i);
        check_record(record, PROBLEMS, i < 3 ? "none" : "message");
        CHECK(json_is_null(member(record, "prune")) && json_is_null(member(record, "join_policy")));
        CHECK(same_columns(record, json_array_get(h.records, i < 3 ? 0 : 3)));
        CHECK_EQ(json_array_size(member(record, "notes")), i % 3 != 0);
    }
    const json_t *last = json_array_get(h.records, 5);
    CHECK_TEXT(text(last, "problem"), "cd x 12");
    CHECK_EQ(count_of(last, "at_once"), 12);
    CHECK_EQ(count_of(last, "ask_paths"), 2);
    CHECK(number(last, "forked") == 1 && number(last, "paths_mean") > 1);
    CHECK(number(member(last, "accuracy"), "right") > 0);
    CHECK(number(json_array_get(h.records, 0), "forked") == 0);
    json_t *lines = read_lines();
    CHECK_EQ(json_array_size(lines), 6);
    for (size_t i = 0; i < 6; i++) {
        const json_t *line = json_array_get(lines, i);
        CHECK(json_is_object(member(line, "metrics")));
        check_answers(text(line, "cell"), line);
    }
    json_decref(lines);
    json_decref(h.records);
    cop_bench_config_destroy(config);
}

static void test_joins_that_keep_the_text_run_as_well(void) {
    cop_bench_config *config;
    fresh_folder();
    load_shipped(MEMBERS("2", "300", "[2]"),
                 "{\"name\": \"tw\", \"dialect\": \"countdown-reprefill\", \"ask_paths\": 2, "
                 "\"max_blocks\": 1},"
                 "{\"name\": \"mv\", \"dialect\": \"countdown-stitch\", \"ask_paths\": 2, "
                 "\"max_blocks\": 1}",
                 &config);
    heard h = hear();
    CHECK_OK(run_config(config, &h, false));
    CHECK_EQ(json_array_size(h.records), 2);
    CHECK_EQ(h.allocations, 0);
    check_record(json_array_get(h.records, 0), 2, "reprefill");
    check_record(json_array_get(h.records, 1), 2, "stitch");
    CHECK(number(json_array_get(h.records, 1), "paths_mean") > 1);
    json_decref(h.records);
    cop_bench_config_destroy(config);
}

static void test_rules_are_applied_and_recorded(void) {
    cop_bench_config *config;
    fresh_folder();
    load_shipped(MEMBERS("5", "300", "[4]"),
                 "{\"name\": \"first\", \"dialect\": \"countdown-message\", \"max_blocks\": 1, "
                 "\"join_policy\": {\"quorum\": 1, \"finisher\": \"any\"}},"
                 "{\"name\": \"budget\", \"dialect\": \"countdown-message\", \"max_blocks\": 1, "
                 "\"prune\": {\"budget_tokens\": 120}},"
                 "{\"name\": \"sure\", \"dialect\": \"countdown-message\", \"max_blocks\": 1, "
                 "\"prune\": {\"window\": 8, \"warmup\": 3, \"keep_percent\": 10}}",
                 &config);
    heard h = hear();
    CHECK_OK(run_config(config, &h, false));
    CHECK_EQ(h.allocations, 0);
    const json_t *first = json_array_get(h.records, 0), *budget = json_array_get(h.records, 1);
    const json_t *sure = json_array_get(h.records, 2);
    for (size_t i = 0; i < 3; i++) {
        check_record(json_array_get(h.records, i), 5, "message");
        CHECK_EQ(h.steps, 15);
    }
    const json_t *policy = member(first, "join_policy");
    CHECK_EQ(count_of(policy, "quorum"), 1);
    CHECK(json_is_false(member(policy, "success_only")));
    CHECK(json_is_false(member(policy, "keep_partial")));
    CHECK_EQ(count_of(policy, "deadline_tokens"), 0);
    CHECK(number(first, "paths_cancelled_mean") > 0 && number(first, "tokens_pruned_mean") > 0);
    CHECK(strstr(json_string_value(json_array_get(member(first, "notes"), 0)), "not held against"));
    CHECK_EQ(count_of(member(budget, "prune"), "budget_tokens"), 120);
    CHECK(json_is_null(member(member(budget, "prune"), "threshold")));
    CHECK(number(budget, "tokens_mean") < number(sure, "tokens_mean"));
    CHECK_EQ(count_of(member(sure, "prune"), "warmup"), 3);
    CHECK(number(member(sure, "prune"), "keep_percent") == 10);
    CHECK(number(member(sure, "prune"), "threshold") > 0);
    CHECK(number(sure, "paths_cancelled_mean") > 0);
    json_decref(h.records);
    cop_bench_config_destroy(config);
}

/* One whose rule cannot go on with some problems: they are without an answer, and the rest is not
 * touched. A problem of more than so many bytes has no room in this rule. */
static void test_a_controller_is_a_method(void) {
    static const char rule[] =
        "{\"name\": \"%s\", \"source\": \"test\", \"rule\": \"thoughts\", \"search\": \"bfs\", "
        "\"generate_prompt\": \"{input}{state}\", \"evaluate_prompt\": \"{input}{state}\", "
        "\"steps\": 1, \"n_generate\": 2, \"n_evaluate\": 1, \"n_select\": 1, \"values\": "
        "{\"sure\": 1}, \"temperature\": 0.5, \"max_text_bytes\": %d}";
    char text_of_rule[1024];
    cop_bench_config *config;
    fresh_folder();
    snprintf(text_of_rule, sizeof text_of_rule, rule, "tot", 1 << 16);
    write_file("tot.json", text_of_rule);
    snprintf(text_of_rule, sizeof text_of_rule, rule, "small", 1300);
    write_file("small.json", text_of_rule);
    load_shipped(MEMBERS("6", "300", "[1, 4]"),
                 "{\"name\": \"alone\", \"dialect\": \"countdown-sequential\"},"
                 "{\"name\": \"tot\", \"dialect\": \"countdown-sequential\", \"rule\": "
                 "\"tot.json\"},"
                 "{\"name\": \"small\", \"dialect\": \"countdown-sequential\", \"rule\": "
                 "\"small.json\"}",
                 &config);
    heard h = hear();
    CHECK_OK(run_config(config, &h, false)); /* the same tokens with one and four at once */
    CHECK_EQ(h.allocations, 0);
    for (size_t i = 2; i < 6; i++) {
        const json_t *record = json_array_get(h.records, i), *ran = member(record, "rule");
        check_accuracy(record, 6);
        CHECK_EQ(count_of(ran, "calls_at_once"), 8);
        CHECK_TEXT(text(record, "join"), "calls"); /* "none" is the control */
        CHECK(fabs(number(record, "tokens_mean") * 6 - number(ran, "tokens")) < 1e-6);
    }
    const json_t *tot = json_array_get(h.records, 2), *small = json_array_get(h.records, 4);
    CHECK_EQ(count_of(member(tot, "stops"), "end"), 6);
    const json_int_t failed = count_of(member(small, "stops"), "rule");
    CHECK(failed > 0 && failed < 6);
    CHECK_EQ(count_of(member(small, "stops"), "end"), 6 - failed);
    char note[64];
    snprintf(note, sizeof note, "%lld problems were ended where", (long long)failed);
    const char *said = json_string_value(json_array_get(member(small, "notes"), 0));
    CHECK(strstr(said, note) && strstr(said, "max_text_bytes"));
    const json_t *stops = member(member(small, "each"), "stop");
    for (size_t i = 0; i < 6; i++) { /* what went on is what goes on with more room */
        const bool ended = strcmp(json_string_value(json_array_get(stops, i)), "rule") == 0;
        const char *grades[] = {
            "none", json_string_value(json_array_get(member(member(tot, "each"), "grade"), i))};
        CHECK_TEXT(json_string_value(json_array_get(member(member(small, "each"), "grade"), i)),
                   grades[!ended]);
    }
    json_decref(h.records);
    cop_bench_config_destroy(config);
}

/* The box's model has no chat format. */
static void test_a_chat_format_is_looked_for(void) {
    cop_bench_config *config;
    fresh_folder();
    load_shipped(MEMBERS("2", "30", "[1]"),
                 "{\"name\": \"m\", \"dialect\": \"countdown-sequential\", \"chat\": true}",
                 &config);
    heard h = hear();
    CHECK_STATUS(run_config(config, &h, false), COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("chat format");
    json_decref(h.records);
    cop_bench_config_destroy(config);
}

static void test_a_difference_is_caught(void) {
    cop_problem_entry list[] = {{.id = "a"}, {.id = "b"}, {.id = "c"}};
    cop_problem_set set = {.list = list, .count = 3};
    cop__problem_outcome outcomes[] = {{.hash = 1}, {.hash = 2}, {.hash = 3}};
    cop_problems_job job = {.name = "cd"};
    cop_problems_method method = {.name = "m"};
    cop__problem_cell cell = {
        .what = &job, .method = &method, .set = &set, .outcomes = outcomes, .at_once = 4};
    uint64_t hash[3];
    cop__problem_reference reference = {.hash = hash};
    CHECK_OK(cop__problem_compare(&cell, &reference));
    CHECK_EQ(reference.at_once, 4);
    cell.at_once = 9;
    CHECK_OK(cop__problem_compare(&cell, &reference));
    CHECK_EQ(reference.at_once, 4);
    outcomes[1].hash = 7;
    CHECK_STATUS(cop__problem_compare(&cell, &reference), COP_ERR_MISMATCH);
    CHECK_MESSAGE("problem b gave other tokens with 9 at once than with 4");
    method.prune.budget_tokens = 10; /* its paths may end at other tokens */
    CHECK_OK(cop__problem_compare(&cell, &reference));
    method.prune.budget_tokens = 0;
    method.join_policy.deadline_tokens = 5;
    CHECK_OK(cop__problem_compare(&cell, &reference));
    method.join_policy.deadline_tokens = 0;
    CHECK_STATUS(cop__problem_compare(&cell, &reference), COP_ERR_MISMATCH);
}

static void test_an_interrupted_run_is_resumed(void) {
    cop_bench_config *config;
    fresh_folder();
    /* At a temperature, so that the random numbers are seen to be the problem's own. */
    load_shipped(MEMBERS("3", "60", "[1, 3]") ", \"temperature\": 8", TWO_METHODS, &config);
    heard h = hear();
    h.interrupt_at = 2;
    CHECK_STATUS(run_config(config, &h, false), COP_ERR_INTERRUPTED);
    json_t *lines = read_lines();
    CHECK_EQ(json_array_size(lines), 2);
    check_answers(text(json_array_get(lines, 1), "cell"), json_array_get(lines, 1));
    json_decref(lines);
    json_decref(h.records);

    h = hear();
    CHECK_OK(run_config(config, &h, true));
    CHECK_EQ(json_array_size(h.records), 2); /* what is there is not run again */
    CHECK_EQ(h.cells, 2);
    CHECK_TEXT(text(json_array_get(h.records, 0), "method"), "msg");
    lines = read_lines();
    CHECK_EQ(json_array_size(lines), 4);
    json_decref(lines);
    json_decref(h.records);

    h = hear();
    CHECK_OK(run_config(config, &h, true));
    CHECK_EQ(h.cells, 0);
    json_decref(h.records);
    h = hear();
    CHECK_STATUS(run_config(config, &h, false), COP_ERR_USAGE);
    json_decref(h.records);
    cop_bench_config_destroy(config);
}

int main(void) {
    RUN(test_a_controller_is_a_method);
    RUN(test_a_chat_format_is_looked_for);
    RUN(test_a_difference_is_caught);
    RUN(test_an_interrupted_run_is_resumed);
    RUN(test_joins_that_keep_the_text_run_as_well);
    RUN(test_rules_are_applied_and_recorded);
    RUN(test_tokens_do_not_depend_on_what_runs_beside);
    drop_folder();
    return check_report();
}
