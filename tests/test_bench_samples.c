/* Methods of a sweep that draw several samples of each problem: votes, waves, and rules that only
 * prune, held against the samples' own lines. */
#include "sweep_world.h"

#include "job/job_grade.h"
#include "reason/checker.h"

enum { PROBLEMS = 5, SAMPLES = 16 };

static void hear_samples(void *context, const json_t *record, const cop_metrics *metrics) {
    (void)context;
    CHECK_EQ(metrics->allocations_in_steps, 0);
    const json_t *tokens = json_object_get(json_object_get(record, "each"), "tokens");
    uint64_t sum = 0;
    for (size_t i = 0; i < json_array_size(tokens); i++)
        sum += (uint64_t)json_integer_value(json_array_get(tokens, i));
    CHECK_EQ(metrics->tokens_total, sum);
}

/* Runs the methods over the first problems, one and three at once: the lines of the results. */
static json_t *run(const char *methods) {
    cop_bench_config *config;
    CHECK_OK(load_set(NULL,
                      "\"first\": 5, \"checker\": \"countdown\", \"max_tokens\": 400, "
                      "\"max_paths\": 12, \"at_once\": [1, 3], \"temperature\": 1",
                      methods, &config));
    char out[COP_FILE_PATH_BYTES];
    snprintf(out, sizeof out, "%s", path_of("out"));
    const cop_bench_run sweep = {.folder = out, .listener = hear_samples};
    CHECK_OK(cop_bench_run_config(config, &sweep));
    cop_bench_config_destroy(config);
    return read_jsonl("out/results.jsonl");
}

static json_t *answers_of(const json_t *record) {
    char name[96];
    snprintf(name, sizeof name, "out/answers-%s.jsonl",
             json_string_value(json_object_get(record, "cell")));
    return read_jsonl(name);
}

static const char *text_at(const json_t *line, const char *key) {
    return json_string_value(json_object_get(line, key));
}

static uint32_t first_of(const json_t *lines, size_t at) {
    return (uint32_t)(at - (size_t)json_integer_value(
                               json_object_get(json_array_get(lines, at), "sample")));
}

static bool same(const json_t *a, const json_t *b) {
    const char *x = text_at(a, "answer"), *y = text_at(b, "answer");
    return x && y && strcmp(x, y) == 0;
}

/* What a majority of the problem's samples answers; of equals the first. NULL: none. */
static const char *majority(const json_t *lines, size_t first, size_t n) {
    const char *best = NULL;
    uint32_t most = 0;
    for (size_t i = first; i < first + n; i++) {
        uint32_t votes = 0;
        for (size_t k = first; k < first + n; k++)
            votes += same(json_array_get(lines, i), json_array_get(lines, k));
        if (votes > most) {
            most = votes;
            best = text_at(json_array_get(lines, i), "answer");
        }
    }
    return best;
}

/* Every line again: figures of the record, and what the rule answered. */
static void check(const json_t *record, const json_t *lines, bool votes) {
    double average = 0;
    uint32_t passed = 0, right = 0, problems = 0;
    const size_t n_lines = json_array_size(lines);
    for (size_t at = 0, n; at < n_lines; at += n, problems++) {
        const json_t *line = json_array_get(lines, at);
        uint32_t own = 0;
        CHECK_EQ(first_of(lines, at), at);
        for (n = 0; at + n < n_lines && first_of(lines, at + n) == at; n++)
            own += strcmp(text_at(json_array_get(lines, at + n), "grade"), "right") == 0;
        average += (double)own / (double)n;
        passed += own > 0;
        right += strcmp(text_at(line, "rule_grade"), "right") == 0;
        const char *wanted = majority(lines, at, n), *given = text_at(line, "rule_answer");
        if (votes) {
            CHECK_EQ(wanted != NULL, given != NULL);
            CHECK(!wanted || strcmp(wanted, given) == 0);
        }
    }
    const json_t *samples = json_object_get(record, "samples");
    CHECK_EQ(problems, PROBLEMS);
    CHECK_EQ(json_integer_value(json_object_get(samples, "each")), SAMPLES);
    CHECK_EQ(json_integer_value(json_object_get(samples, "run")), n_lines);
    CHECK(fabs(json_number_value(json_object_get(samples, "avg_at_n")) - average / PROBLEMS) <
          1e-12);
    CHECK(json_number_value(json_object_get(samples, "pass_at_n")) == (double)passed / PROBLEMS);
    CHECK_EQ(json_integer_value(json_object_get(json_object_get(record, "accuracy"), "right")),
             right);
}

static const json_t *record_of(const json_t *records, size_t i) {
    const json_t *record = json_array_get(records, i);
    CHECK(record != NULL);
    return record;
}

static void test_votes_over_a_set(void) {
    fresh_folder();
    json_t *records =
        run("{\"name\": \"vote\", \"dialect\": \"countdown-sequential\", \"samples\": 16, "
            "\"rule\": \"self-consistency\"},"
            "{\"name\": \"first\", \"dialect\": \"countdown-sequential\", \"samples\": 16, "
            "\"rule\": \"first-finisher\"},"
            "{\"name\": \"forked\", \"dialect\": \"countdown-stitch\", \"ask_paths\": 2, "
            "\"max_blocks\": 1, \"samples\": 16, \"rule\": \"self-consistency\"}");
    CHECK_EQ(json_array_size(records), 6);
    for (size_t i = 0; i < 6; i++) {
        json_t *lines = answers_of(record_of(records, i));
        check(record_of(records, i), lines, true);
        CHECK_EQ(json_array_size(lines), PROBLEMS * SAMPLES);
        if (i % 2 == 1) { /* whatever runs beside a problem, its samples are the same */
            json_t *alone = answers_of(record_of(records, i - 1));
            CHECK(json_equal(alone, lines));
            json_decref(alone);
        }
        json_decref(lines);
    }
    const json_t *first = record_of(records, 2);
    CHECK(json_number_value(json_object_get(first, "paths_cancelled_mean")) > 1);
    CHECK(json_number_value(json_object_get(first, "tokens_mean")) <
          json_number_value(json_object_get(record_of(records, 0), "tokens_mean")));
    CHECK(json_number_value(json_object_get(record_of(records, 4), "paths_mean")) > SAMPLES);
    json_decref(records);
}

/* DeepConf's warm-up runs first, and the rest under the threshold that it set. */
static void test_waves_over_a_set(void) {
    fresh_folder();
    write_file("dc.json",
               "{\"name\": \"dc\", \"source\": \"a test\", \"rule\": \"deepconf\", \"mode\": "
               "\"online\", \"window\": 8, \"warmup\": 5, \"budget\": 16, \"keep_percent\": 10, "
               "\"vote\": \"majority\"}");
    char method[256];
    snprintf(method, sizeof method,
             "{\"name\": \"dc\", \"dialect\": \"countdown-sequential\", \"samples\": 16, "
             "\"rule\": \"%s\"}",
             path_of("dc.json"));
    json_t *records = run(method);
    json_t *one = answers_of(record_of(records, 0)), *five = answers_of(record_of(records, 1));
    CHECK(json_equal(one, five));
    check(record_of(records, 0), one, false);
    uint32_t pruned[2] = {0};
    for (size_t i = 0; i < json_array_size(one); i++) {
        const json_t *line = json_array_get(one, i);
        const bool later = json_integer_value(json_object_get(line, "sample")) >= 5;
        pruned[later] += strcmp(text_at(line, "stop"), "confidence") == 0;
    }
    CHECK_EQ(pruned[0], 0);
    CHECK(pruned[1] > 0);
    const json_t *rule = json_object_get(record_of(records, 0), "rule");
    CHECK(json_integer_value(json_object_get(rule, "tokens_warmup")) > 0);
    CHECK_EQ(json_integer_value(json_object_get(rule, "pruned")), pruned[1]);
    json_decref(one);
    json_decref(five);
    json_decref(records);
}

static void test_what_samples_cannot_mean(void) {
    static const char *const methods[][2] = {
        {"{\"name\": \"a\", \"dialect\": \"countdown-sequential\", \"samples\": 4}",
         "needs a \"rule\""},
        {"{\"name\": \"a\", \"dialect\": \"countdown-sequential\", \"samples\": 1, \"rule\": "
         "\"race\"}",
         "samples"},
        {"{\"name\": \"a\", \"dialect\": \"countdown-sequential\", \"samples\": 4, \"rule\": "
         "\"self-consistency\"}",
         "16 samples"},
        {"{\"name\": \"a\", \"dialect\": \"countdown-sequential\", \"samples\": 4, \"rule\": "
         "\"skeleton-of-thought\"}",
         "rule"},
        {"{\"name\": \"a\", \"dialect\": \"countdown-sequential\", \"samples\": 4, \"rule\": "
         "\"race\", \"prune\": {\"budget_tokens\": 5}}",
         "prune"}};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        cop_bench_config *config;
        fresh_folder();
        CHECK_STATUS(load_set(NULL,
                              "\"first\": 2, \"checker\": \"countdown\", \"max_tokens\": 50, "
                              "\"at_once\": [1]",
                              methods[i][0], &config),
                     COP_ERR_CONFIG);
        CHECK_MESSAGE(methods[i][1]);
    }
}

int main(void) {
    RUN(test_votes_over_a_set);
    RUN(test_waves_over_a_set);
    RUN(test_what_samples_cannot_mean);
    drop_folder();
    return check_report();
}
