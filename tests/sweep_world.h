/* Sweeps over problem sets: running a config's set, what is heard of it, and reading it again. */
#pragma once

#include <math.h>

#include "bench_folder.h"
#include "job/job_problems.h"

typedef struct heard {
    json_t *records; /* as they came */
    uint64_t allocations;
    uint32_t cells, steps;        /* progress: of cells, within one */
    atomic_bool interrupt;        /* set when cell number `interrupt_at` begins */
    uint32_t interrupt_at, total; /* 0: never */
} heard;

static inline void hear_record(void *context, const json_t *record, const cop_metrics *metrics) {
    heard *h = context;
    json_array_append_new(h->records, json_deep_copy(record));
    h->allocations += metrics->allocations_in_steps;
    /* The metrics are those of all problems, whatever number of runs it took. */
    const json_t *tokens = json_object_get(json_object_get(record, "each"), "tokens");
    uint64_t sum = 0;
    for (size_t i = 0; i < json_array_size(tokens); i++)
        sum += (uint64_t)json_integer_value(json_array_get(tokens, i));
    CHECK_EQ(metrics->tokens_total, sum);
    const json_t *traced = json_object_get(
        json_object_get(json_object_get(record, "reasoning"), "tokens"), "critical_path");
    CHECK(fabs(json_number_value(traced) * (double)json_array_size(tokens) -
               (double)metrics->tokens_critical_path) < 1e-6);
}

static inline void hear_progress(void *context, uint32_t done, uint32_t total, const char *what) {
    heard *h = context;
    if (strstr(what, " of ")) {
        h->steps++;
        return;
    }
    h->cells++;
    h->total = total;
    if (h->interrupt_at && done == h->interrupt_at)
        atomic_store(&h->interrupt, true);
}

static inline heard hear(void) {
    return (heard){.records = json_array()};
}

static inline void load_shipped(const char *members, const char *methods,
                                cop_bench_config **config) {
    CHECK_OK(load_set(NULL, members, methods, config));
}

/* The config's set as the sweep runs it, but for the manifest, which takes a second to measure. */
static inline cop_status run_config(cop_bench_config *config, heard *h, bool resume) {
    cop_bench_config_job(config)->interrupt = &h->interrupt;
    json_t *manifest = json_pack("{s:s}", "name", "t");
    cop_results *results = NULL;
    cop_job *job = NULL;
    cop_status status = cop_results_open(
        &(cop_results_options){.folder = path_of("out"), .manifest = manifest, .resume = resume},
        &results);
    if (status == COP_OK)
        status = cop_job_create(cop_bench_config_job(config), &job);
    if (status == COP_OK) {
        cop_problems_job problems = config->problems[0];
        problems.repeats = config->repeats;
        problems.results = results;
        problems.listener = hear_record;
        problems.progress = hear_progress;
        problems.context = h;
        status = cop_job_problems(job, &problems);
    }
    cop_job_destroy(job);
    cop_results_close(results);
    json_decref(manifest);
    return status;
}

static inline cop_status run_sweep(cop_bench_config *config, heard *h) {
    char out[COP_FILE_PATH_BYTES];
    snprintf(out, sizeof out, "%s", path_of("out"));
    cop_bench_run run = {
        .folder = out, .listener = hear_record, .progress = hear_progress, .context = h};
    return cop_bench_run_config(config, &run);
}

static inline const json_t *member(const json_t *record, const char *key) {
    json_t *value = json_object_get(record, key);
    if (!value) {
        fprintf(stderr, "the record lacks \"%s\"\n", key);
        exit(1);
    }
    return value;
}

static inline double number(const json_t *record, const char *key) {
    CHECK(json_is_number(member(record, key)));
    return json_number_value(member(record, key));
}

static inline json_int_t count_of(const json_t *record, const char *key) {
    CHECK(json_is_integer(member(record, key)));
    return json_integer_value(member(record, key));
}

static inline const char *text(const json_t *record, const char *key) {
    CHECK(json_is_string(member(record, key)));
    return json_string_value(member(record, key));
}

static inline cop_status take_line(void *context, const json_t *line) {
    json_array_append_new(context, json_deep_copy(line));
    return COP_OK;
}

static inline json_t *read_lines(void) {
    json_t *lines = json_array();
    CHECK_OK(cop_results_read(path_of("out"), NULL, take_line, lines));
    return lines;
}

/* The lines of a file of the folder. */
static inline json_t *read_jsonl(const char *name) {
    cop_buffer text = {0};
    json_t *list = json_array();
    CHECK_OK(cop__file_read(path_of(name), &text, NULL));
    for (const char *at = text.data, *end; at < text.data + text.bytes; at = end + 1) {
        end = memchr(at, '\n', (size_t)(text.data + text.bytes - at));
        CHECK(end != NULL);
        json_t *line = json_loadb(at, (size_t)(end - at), 0, NULL);
        CHECK(line != NULL);
        json_array_append_new(list, line);
    }
    cop_buffer_release(&text);
    return list;
}

#define MEMBERS(first, max_tokens, at_once)                                                        \
    "\"first\": " first ", \"checker\": \"countdown\", \"max_tokens\": " max_tokens                \
    ", \"max_paths\": 8, \"at_once\": " at_once

#define TWO_METHODS                                                                                \
    "{\"name\": \"seq\", \"dialect\": \"countdown-sequential\"},"                                  \
    "{\"name\": \"msg\", \"dialect\": \"countdown-message\", \"max_blocks\": 1}"
