/* Result folders: what is written can be read, resumed after any cut, and never silently changed.
 */
#include "check.h"

#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32.h"
#include "measure/ceilings.h"
#include "measure/environment.h"
#include "measure/results.h"
#include "measure/results_file.h"

static char folder[64];

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static void fresh_folder(void) {
    if (folder[0])
        nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    /* Every line is flushed to disk: in memory where that costs nothing. */
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/coppice_results_XXXXXX", base);
    CHECK(mkdtemp(folder));
}

static const char *path_of(const char *name) {
    static char path[COP_FILE_PATH_BYTES];
    CHECK_OK(cop__path_join(folder, name, path));
    return path;
}

static cop_buffer read_file(const char *name) {
    cop_buffer data = {0};
    CHECK_OK(cop__file_read(path_of(name), &data, NULL));
    return data;
}

static void write_file(const char *name, const char *data, size_t bytes) {
    FILE *file = fopen(path_of(name), "w");
    CHECK(file && fwrite(data, 1, bytes, file) == bytes && fclose(file) == 0);
}

static json_t *manifest_of(double temperature) {
    return json_pack("{s:s, s:{s:s, s:b}, s:{s:f, s:[i,i]}, s:[s]}", "arithmetic", "native-a8",
                     "model", "name", "m", "random", 1, "config", "temperature", temperature,
                     "seeds", 1, 2, "argv", "coppice");
}

static cop_status open_folder(double temperature, bool resume, cop_results **out) {
    json_t *manifest = manifest_of(temperature);
    cop_status status = cop_results_open(
        &(cop_results_options){.folder = folder, .manifest = manifest, .resume = resume}, out);
    json_decref(manifest);
    return status;
}

static cop_metrics metrics_of(uint64_t i) {
    cop_metrics m = {.wall_ns = 1000000007 + i, .tokens_total = 100 + i, .solo_ns = 4e8};
    m.tax_ns = NAN;
    m.decode_weight_gbps = NAN;
    for (int term = 0; term < COP_TERM_COUNT; term++)
        m.term_ns[term] = 142000000;
    return m;
}

static void append(cop_results *results, const char *cell, uint32_t repeat, const char *method) {
    json_t *record = json_pack("{s:s, s:s}", "problem", "5", "method", method);
    cop_metrics metrics = metrics_of(repeat);
    CHECK_OK(cop_results_append(results, cell, repeat, record, &metrics));
    json_decref(record);
}

/* Three lines: a/0, a/1, b/0. */
static void fill_folder(void) {
    cop_results *results;
    fresh_folder();
    CHECK_OK(open_folder(0.7, false, &results));
    append(results, "a", 0, "flattened");
    append(results, "a", 1, "flattened");
    append(results, "b", 0, "stitch");
    cop_results_close(results);
}

static cop_status count_line(void *context, const json_t *line) {
    CHECK(json_is_object(line));
    (*(uint32_t *)context)++;
    return COP_OK;
}

static cop_status read_count(uint32_t *count) {
    *count = 0;
    json_t *manifest = NULL;
    cop_status status = cop_results_read(folder, &manifest, count_line, count);
    json_decref(manifest);
    return status;
}

static void test_crc32_of_the_standard(void) {
    CHECK_EQ(cop_crc32(0, "123456789", 9), 0xCBF43926u);
    CHECK_EQ(cop_crc32(cop_crc32(0, "1234", 4), "56789", 5), 0xCBF43926u);
    CHECK_EQ(cop_crc32(0, "", 0), 0);
}

static void test_a_folder_is_written_and_read(void) {
    uint32_t count;
    fill_folder();
    CHECK_OK(read_count(&count));
    CHECK_EQ(count, 3);
    cop_results *results;
    CHECK_STATUS(open_folder(0.7, false, &results), COP_ERR_USAGE);
    CHECK_MESSAGE("already holds results");
    CHECK_OK(open_folder(0.7, true, &results));
    CHECK_TEXT(cop_results_note(results), "");
    CHECK(cop_results_done(results, "a", 0) && cop_results_done(results, "a", 1));
    CHECK(cop_results_done(results, "b", 0) && !cop_results_done(results, "b", 1));
    CHECK(!cop_results_done(results, "c", 0));
    json_t *record = json_object();
    CHECK_STATUS(cop_results_append(results, "a", 1, record, NULL), COP_ERR_INTERNAL);
    CHECK_STATUS(cop_results_append(results, "../a", 0, record, NULL), COP_ERR_FORMAT);
    json_object_set_new(record, "crc", json_string("0"));
    CHECK_STATUS(cop_results_append(results, "c", 0, record, NULL), COP_ERR_INTERNAL);
    json_decref(record);
    append(results, "b", 1, "stitch");
    cop_results *second = NULL;
    CHECK_STATUS(open_folder(0.7, true, &second), COP_ERR_IO);
    CHECK_MESSAGE("another run is writing");
    cop_results_close(results);
    CHECK_OK(read_count(&count));
    CHECK_EQ(count, 4);
}

static void test_a_manifest_says_what_was_measured_on_what(void) {
    setenv("HOME", "/home/somebody", 1);
    fresh_folder();
    json_t *manifest = json_pack("{s:s, s:s, s:s}", "command_line",
                                 "coppice bench /home/somebody/x --m=/home/somebody", "other",
                                 "/home/somebodyelse/x", "mounted", "/mnt/home/somebody/x");
    cop_results *results;
    CHECK_OK(
        cop_results_open(&(cop_results_options){.folder = folder, .manifest = manifest}, &results));
    cop_results_close(results);
    json_decref(manifest);
    uint32_t count = 0;
    CHECK_OK(cop_results_read(folder, &manifest, count_line, &count));
    CHECK_EQ(count, 0);
    CHECK_TEXT(json_string_value(json_object_get(manifest, "command_line")),
               "coppice bench ~/x --m=~");
    CHECK_TEXT(json_string_value(json_object_get(manifest, "other")), "/home/somebodyelse/x");
    CHECK_TEXT(json_string_value(json_object_get(manifest, "mounted")), "/mnt/home/somebody/x");
    CHECK_EQ(json_integer_value(json_object_get(manifest, "schema")), COP_RESULTS_SCHEMA);
    const json_t *environment = json_object_get(manifest, "environment");
    CHECK(json_string_length(json_object_get(manifest, "started_utc")) == 20);
    CHECK(json_is_string(json_object_get(json_object_get(environment, "coppice"), "compiler")));
    CHECK(json_integer_value(json_object_get(json_object_get(environment, "cpu"), "threads")) > 0);
    CHECK(json_is_string(json_object_get(json_object_get(environment, "system"), "kernel")));
    char host[256], *text = json_dumps(environment, JSON_COMPACT);
    CHECK(gethostname(host, sizeof host) == 0);
    CHECK(strlen(host) < 6 || !strstr(text, host));
    free(text);
    json_decref(manifest);
}

/* Cuts the last line at every byte: the folder must read as two lines and resume to three. */
static void test_a_torn_last_line_is_cut_off(void) {
    fill_folder();
    cop_buffer whole = read_file("results.jsonl");
    size_t last = whole.bytes - 1;
    while (whole.data[last - 1] != '\n')
        last--;
    for (size_t bytes = last; bytes < whole.bytes; bytes++) {
        uint32_t count;
        write_file("results.jsonl", whole.data, bytes);
        CHECK_OK(read_count(&count));
        CHECK_EQ(count, 2);
        cop_results *results;
        CHECK_OK(open_folder(0.7, true, &results));
        CHECK(!cop_results_done(results, "b", 0) && cop_results_done(results, "a", 1));
        CHECK_EQ(strstr(cop_results_note(results), "line 3 was torn") != NULL, bytes > last);
        append(results, "b", 0, "stitch");
        cop_results_close(results);
        cop_buffer again = read_file("results.jsonl");
        CHECK_EQ(again.bytes, whole.bytes);
        CHECK(memcmp(again.data, whole.data, whole.bytes) == 0);
        cop_buffer_release(&again);
    }
    /* A file system that lost the data may leave zeros where the line was. */
    memset(whole.data + last + 5, 0, 20);
    write_file("results.jsonl", whole.data, whole.bytes);
    uint32_t count;
    CHECK_OK(read_count(&count));
    CHECK_EQ(count, 2);
    cop_buffer_release(&whole);
}

/* Every byte of the file but the newlines, changed: an error that names its line, or (a changed
 * newline at the end) a torn line. Never three lines. */
static void test_a_changed_byte_is_found(void) {
    fill_folder();
    cop_buffer whole = read_file("results.jsonl");
    uint32_t line = 1, count;
    for (size_t i = 0; i < whole.bytes; i++) {
        char before = whole.data[i];
        whole.data[i] ^= 1;
        write_file("results.jsonl", whole.data, whole.bytes);
        whole.data[i] = before;
        char where[32];
        snprintf(where, sizeof where, "results.jsonl:%u: ", line);
        if (i + 1 == whole.bytes) {
            CHECK_OK(read_count(&count));
            CHECK_EQ(count, 2);
        } else {
            CHECK_STATUS(read_count(&count), COP_ERR_FORMAT);
            CHECK_MESSAGE(where);
            CHECK_EQ(count, line - 1);
        }
        line += before == '\n';
    }
    cop_results *results;
    whole.data[10] ^= 1;
    write_file("results.jsonl", whole.data, whole.bytes);
    CHECK_STATUS(open_folder(0.7, true, &results), COP_ERR_FORMAT);
    CHECK_MESSAGE("results.jsonl:1: ");
    cop_buffer_release(&whole);
}

static void test_a_repeated_line_counts_once(void) {
    fill_folder();
    cop_buffer whole = read_file("results.jsonl");
    size_t first = (size_t)(strchr(whole.data, '\n') - whole.data) + 1;
    char *copy = strndup(whole.data, first);
    CHECK_OK(cop_buffer_append(&whole, copy, first));
    write_file("results.jsonl", whole.data, whole.bytes);
    uint32_t count;
    CHECK_OK(read_count(&count));
    CHECK_EQ(count, 3);
    free(copy);
    cop_buffer_release(&whole);
    /* The same cell and repeat with another result: one of the two must go. */
    cop_results *results;
    fill_folder();
    cop_buffer one = read_file("results.jsonl");
    fresh_folder();
    CHECK_OK(open_folder(0.7, false, &results));
    append(results, "a", 1, "another");
    cop_results_close(results);
    cop_buffer two = read_file("results.jsonl");
    CHECK_OK(cop_buffer_append(&one, two.data, two.bytes));
    write_file("results.jsonl", one.data, one.bytes);
    CHECK_STATUS(read_count(&count), COP_ERR_MISMATCH);
    CHECK_MESSAGE("results.jsonl:4: cell a, repeat 1 already stands in line 2");
    cop_buffer_release(&one);
    cop_buffer_release(&two);
}

static void test_another_manifest_is_refused_by_name(void) {
    cop_results *results;
    fill_folder();
    CHECK_STATUS(open_folder(0.8, true, &results), COP_ERR_MISMATCH);
    CHECK_MESSAGE("\"config.temperature\" is 0.7 there and 0.8 in");
    json_t *manifest = manifest_of(0.7);
    cop_results_options options = {.folder = folder, .manifest = manifest, .resume = true};
    json_object_set_new(manifest, "argv", json_string("another start"));
    CHECK_OK(cop_results_open(&options, &results));
    cop_results_close(results);
    json_array_set_new(json_object_get(json_object_get(manifest, "config"), "seeds"), 1,
                       json_integer(3));
    CHECK_STATUS(cop_results_open(&options, &results), COP_ERR_MISMATCH);
    CHECK_MESSAGE("\"config.seeds[1]\" is 2 there and 3");
    json_decref(manifest);
    options.manifest = manifest = manifest_of(0.7);
    json_object_set_new(manifest, "extra", json_true());
    CHECK_STATUS(cop_results_open(&options, &results), COP_ERR_MISMATCH);
    CHECK_MESSAGE("\"extra\" is missing there and true");
    json_decref(manifest);

    /* Another build's results: the environment is compared as far as it decides the figures. */
    json_error_t error;
    json_t *then = json_load_file(path_of("manifest.json"), 0, &error);
    json_t *build = json_object_get(json_object_get(then, "environment"), "coppice");
    json_object_set_new(build, "commit", json_string("of long ago"));
    CHECK_EQ(json_dump_file(then, path_of("manifest.json"), JSON_INDENT(1)), 0);
    json_decref(then);
    CHECK_STATUS(open_folder(0.7, true, &results), COP_ERR_MISMATCH);
    CHECK_MESSAGE("\"environment.coppice.commit\" is \"of long ago\"");

    CHECK_EQ(remove(path_of("manifest.json")), 0);
    CHECK_STATUS(open_folder(0.7, true, &results), COP_ERR_FORMAT);
    CHECK_MESSAGE("no manifest.json");
    write_file("manifest.json", "{\"a\": 1, \"a\": 2}", 16);
    CHECK_STATUS(open_folder(0.7, true, &results), COP_ERR_FORMAT);
    CHECK_MESSAGE("manifest.json:1:");
}

static void test_cell_keys_ignore_the_order_of_members(void) {
    char a[COP_CELL_KEY_BYTES], b[COP_CELL_KEY_BYTES];
    json_t *one = json_pack("{s:i, s:s}", "n", 1, "m", "x");
    json_t *two = json_pack("{s:s, s:i}", "m", "x", "n", 1);
    CHECK_OK(cop_results_cell_key(one, a));
    CHECK_OK(cop_results_cell_key(two, b));
    CHECK_TEXT(a, b);
    /* printf '%s' '{"m":"x","n":1}' | sha256sum */
    CHECK_TEXT(a, "f50c9c07bb3b8f66");
    json_object_set_new(two, "n", json_integer(2));
    CHECK_OK(cop_results_cell_key(two, b));
    CHECK(strcmp(a, b) != 0);
    json_decref(one);
    json_decref(two);
}

static void test_nan_becomes_null_with_a_reason(void) {
    cop_metrics m = metrics_of(0);
    json_t *json = cop_metrics_to_json(&m);
    const json_t *machine = json_object_get(json, "machine"), *time = json_object_get(json, "time");
    const json_t *modelled = json_object_get(time, "modelled");
    CHECK(json_is_null(json_object_get(machine, "decode_weight_gbps")));
    CHECK(json_is_string(json_object_get(machine, "decode_weight_gbps_why")));
    CHECK(json_is_null(json_object_get(modelled, "tax_ms")));
    CHECK(json_is_string(json_object_get(modelled, "tax_ms_why")));
    CHECK(json_is_null(json_object_get(modelled, "tax_share")));
    CHECK(json_is_null(json_object_get(time, "ttft_ms")));
    CHECK(json_is_null(json_object_get(json_object_get(json, "kv"), "load_over_min")));
    CHECK(json_is_true(json_object_get(json, "valid")));
    double wall = json_real_value(json_object_get(time, "wall_ms"));
    CHECK(wall == 1000000007 / 1e6);
    double remainder = json_real_value(json_object_get(time, "remainder_ms"));
    CHECK(fabs(remainder - (1000000007 - 7 * 142000000) / 1e6) < 1e-9);
    json_decref(json);
    m.failed_rows = 2;
    m.term_ns[0] = 2000000000; /* terms that overlap: a negative remainder must show */
    json = cop_metrics_to_json(&m);
    CHECK(json_is_false(json_object_get(json, "valid")));
    time = json_object_get(json, "time");
    CHECK(json_real_value(json_object_get(time, "remainder_ms")) < -1e3);
    json_decref(json);
    memset(&m, 0, sizeof m);
    json = cop_metrics_to_json(&m);
    CHECK(json_is_null(json_object_get(json_object_get(json, "ratio"), "acceleration_code")));
    json_decref(json);
}

static void test_what_a_device_did_is_told_by_the_step(void) {
    cop_metrics m = metrics_of(0), more = metrics_of(0);
    json_t *json = cop_metrics_to_json(&m);
    const json_t *ops = json_object_get(json_object_get(json, "machine"), "op_ms");
    CHECK(json_is_null(json_object_get(ops, "attention"))); /* no step was timed, none is 0 */
    CHECK(json_is_string(json_object_get(ops, "attention_why")));
    CHECK(json_is_null(json_object_get(json_object_get(json, "device"), "waits_per_step")));
    json_decref(json);
    m.steps_forward = 8, m.timed_steps = 2, m.op_ns[4] = 5000000;
    m.upload_bytes = 100, m.upload_steps = 1, m.waits = 8, m.device_allocations = 3;
    m.launches = 20, m.graph_launches = 6, m.captures = 2, m.device_idle_ns = 16000;
    more = m;
    cop_metrics_add(&m, &more);
    json = cop_metrics_to_json(&m);
    const json_t *device = json_object_get(json, "device");
    ops = json_object_get(json_object_get(json, "machine"), "op_ms");
    CHECK(json_number_value(json_object_get(ops, "attention")) == 10);
    CHECK_EQ(json_integer_value(json_object_get(device, "upload_bytes")), 200);
    CHECK(json_number_value(json_object_get(device, "upload_bytes_per_step")) == 12.5);
    CHECK_EQ(json_integer_value(json_object_get(device, "upload_steps")), 2);
    CHECK(json_number_value(json_object_get(device, "waits_per_step")) == 1);
    CHECK_EQ(json_integer_value(json_object_get(device, "allocations")), 6);
    CHECK(json_number_value(json_object_get(device, "launches_per_step")) == 2.5);
    CHECK(json_number_value(json_object_get(device, "graph_launches_per_step")) == 0.75);
    CHECK_EQ(json_integer_value(json_object_get(device, "captures")), 4);
    CHECK(json_number_value(json_object_get(device, "idle_us_per_step")) == 2);
    CHECK_EQ(json_integer_value(json_object_get(json_object_get(json, "machine"), "timed_steps")),
             4);
    json_decref(json);
}

static cop_status check_round_trip(void *context, const json_t *line) {
    const json_t *stored = json_object_get(line, "metrics");
    CHECK(json_equal((json_t *)stored, context));
    return COP_OK;
}

static void test_doubles_survive_the_file(void) {
    cop_metrics m = metrics_of(3);
    m.wall_ns = 123456789012345678;
    m.solo_ns = 0.1 + 0.2;
    m.decode_weight_gbps = 1.0 / 3.0;
    fresh_folder();
    cop_results *results;
    CHECK_OK(open_folder(0.7, false, &results));
    json_t *record = json_object(), *expected = cop_metrics_to_json(&m);
    CHECK_OK(cop_results_append(results, "a", 0, record, &m));
    cop_results_close(results);
    CHECK_OK(cop_results_read(folder, NULL, check_round_trip, expected));
    json_decref(record);
    json_decref(expected);
}

/* Every name in the JSON is explained in bench/METRICS.md, as "`group.name`". */
static void check_documented(const json_t *object, const char *group, const char *text) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        char name[128], quoted[136];
        snprintf(name, sizeof name, "%s%s%s", group, *group ? "." : "", key);
        snprintf(quoted, sizeof quoted, "`%s`", name);
        size_t bytes = strlen(name);
        if (json_is_object(value))
            check_documented(value, name, text);
        else if (bytes > 4 && strcmp(name + bytes - 4, "_why") == 0)
            continue;
        else if (!strstr(text, quoted)) {
            fprintf(stderr, "bench/METRICS.md does not define %s\n", quoted);
            exit(1);
        }
    }
}

static void test_every_metric_is_documented(void) {
    cop_buffer text = {0};
    CHECK_OK(cop__file_read("bench/METRICS.md", &text, NULL));
    cop_metrics m = metrics_of(0);
    json_t *json = cop_metrics_to_json(&m);
    check_documented(json, "", text.data);
    json_decref(json);
    cop_buffer_release(&text);
}

/* A write that stops half way, as on a full disk: the part that was written is taken back. */
static void test_a_failed_write_leaves_the_folder_whole(void) {
    fill_folder();
    cop_results *results;
    CHECK_OK(open_folder(0.7, true, &results));
    cop_buffer before = read_file("results.jsonl"), after;
    struct rlimit old, small;
    CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
    small = old;
    small.rlim_cur = before.bytes + 100;
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    json_t *record = json_object();
    cop_metrics metrics = metrics_of(0);
    cop_status status = cop_results_append(results, "c", 0, record, &metrics);
    CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
    CHECK_STATUS(status, COP_ERR_IO);
    CHECK(!cop_results_done(results, "c", 0));
    after = read_file("results.jsonl");
    CHECK_EQ(after.bytes, before.bytes);
    CHECK_OK(cop_results_append(results, "c", 0, record, &metrics));
    cop_results_close(results);
    uint32_t count;
    CHECK_OK(read_count(&count));
    CHECK_EQ(count, 4);
    json_decref(record);
    cop_buffer_release(&before);
    cop_buffer_release(&after);

    json_t *manifest = manifest_of(0.7);
    cop_results_options options = {.folder = "/dev/null/x", .manifest = manifest};
    CHECK_STATUS(cop_results_open(&options, &results), COP_ERR_IO);
    CHECK_MESSAGE("/dev/null");
    json_decref(manifest);
}

static void test_ceilings_are_plausible(void) {
    double gbps = 0, gflops = 0;
    CHECK_OK(cop_ceilings_measure(1, &gbps, &gflops));
    CHECK(gbps > 0.01 && gbps < 20000);
    CHECK(gflops > 0.01 && gflops < 200000);
}

int main(void) {
    RUN(test_crc32_of_the_standard);
    RUN(test_a_folder_is_written_and_read);
    RUN(test_a_manifest_says_what_was_measured_on_what);
    RUN(test_a_torn_last_line_is_cut_off);
    RUN(test_a_changed_byte_is_found);
    RUN(test_a_repeated_line_counts_once);
    RUN(test_another_manifest_is_refused_by_name);
    RUN(test_cell_keys_ignore_the_order_of_members);
    RUN(test_nan_becomes_null_with_a_reason);
    RUN(test_what_a_device_did_is_told_by_the_step);
    RUN(test_doubles_survive_the_file);
    RUN(test_every_metric_is_documented);
    RUN(test_ceilings_are_plausible);
    RUN(test_a_failed_write_leaves_the_folder_whole);
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return check_report();
}
