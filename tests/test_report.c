/* Reports, and the arrows of traces, on a made-up result folder. `test_report FOLDER` keeps the
 * folder, to look at the report that it holds. */
#include "check.h"
#include "page.h"
#include "trace.h"

#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure/report.h"
#include "measure/results.h"
#include "measure/results_file.h"

/* A made-up run: a root that forks `width` children twice, the first child forking again inside the
 * first block; branches decode one token a step. */
typedef struct fake {
    cop_timeline *timeline;
    cop_metrics metrics;
    uint64_t now, step_ns;
    uint32_t serial, pages;
    bool reprefill;
} fake;

static void note(fake *f, cop_event_kind kind, uint32_t branch, uint32_t other, uint64_t value) {
    cop_timeline_add(
        f->timeline,
        (cop_event){
            .t_ns = f->now, .kind = kind, .branch = branch, .other = other, .value = value});
}

static void steps(fake *f, uint32_t n, uint32_t rows, cop_term term) {
    for (uint32_t i = 0; i < n; i++) {
        uint64_t ns = f->step_ns + rows * f->step_ns / 12;
        cop_timeline_add(f->timeline, (cop_event){.t_ns = f->now,
                                                  .duration_ns = ns,
                                                  .kind = COP_EVENT_STEP,
                                                  .branch = UINT32_MAX,
                                                  .other = rows,
                                                  .value = rows});
        f->now += ns;
        f->metrics.term_ns[term] += ns * 92 / 100;
        f->metrics.term_ns[COP_TERM_SAMPLING] += ns * 5 / 100;
        f->metrics.term_ns[COP_TERM_HOST] += ns * 26 / 1000;
        f->metrics.steps_forward++;
        f->metrics.rows += rows;
        f->metrics.kv_tiles += 1 + rows / 8;
        f->metrics.kv_min_bytes += (300 + f->now / f->step_ns) * 23040;
        f->metrics.kv_first_bytes = f->metrics.kv_min_bytes;
        f->metrics.kv_load_bytes += (300 + f->now / f->step_ns) * 23040 * (1 + rows / 8);
        f->metrics.kv_predicted_load_bytes = f->metrics.kv_load_bytes;
        f->metrics.kv_predicted_first_bytes = f->metrics.kv_first_bytes;
        if (i % 8 == 0) {
            f->pages += rows;
            note(f, COP_EVENT_PAGES, UINT32_MAX, 0, f->pages);
        }
        if (f->pages > f->metrics.kv_pages_peak)
            f->metrics.kv_pages_peak = f->pages;
    }
    f->metrics.tokens_total += (uint64_t)n * rows;
    f->metrics.tokens_critical_path += n;
    f->metrics.tokens_longest_thread += n;
}

static void block(fake *f, uint32_t parent, uint32_t width, uint32_t length, uint32_t depth,
                  uint32_t outside) {
    uint32_t first = f->serial;
    f->serial += width;
    for (uint32_t i = 0; i < width; i++) {
        char label[32];
        const char *above = cop_timeline_label_of(f->timeline, parent);
        snprintf(label, sizeof label, depth ? "%.20s.%u" : "%.0s%u", above, i + 1);
        cop_timeline_label(f->timeline, first + i, label);
        note(f, COP_EVENT_BRANCH_BEGIN, first + i, parent, 0);
        note(f, COP_EVENT_FORK, parent, first + i, 0);
    }
    note(f, COP_EVENT_WAIT_BEGIN, parent, 0, 0);
    f->metrics.forks++;
    f->metrics.branches += width;
    for (uint32_t live = width; live > 0; live--) {
        steps(f, live == width ? length : length / 4, live + outside,
              live > 1 ? COP_TERM_DECODE : COP_TERM_STRAGGLER);
        if (depth == 0 && live == width && width > 2)
            block(f, first, 3, length / 3, 1, live - 1);
        /* The first child, which forked, ends last. */
        note(f, COP_EVENT_BRANCH_END, first + live - 1, COP_END_DONE, length + 17 * live);
    }
    for (uint32_t i = 0; i < width; i++)
        note(f, COP_EVENT_JOIN, parent, first + i, 0);
    if (f->reprefill) {
        f->metrics.term_ns[COP_TERM_JOIN] += 20 * f->step_ns;
        f->metrics.tokens_reprefilled += width * length;
        f->now += 20 * f->step_ns;
    }
    f->metrics.joins++;
    note(f, COP_EVENT_WAIT_END, parent, 0, 0);
}

static void begin(fake *f, cop_timeline *timeline, uint64_t step_ns) {
    *f = (fake){.timeline = timeline, .step_ns = step_ns, .serial = 1};
    f->metrics.solo_ns = NAN;
    f->metrics.tax_ns = NAN;
    f->metrics.decode_weight_gbps = 21.4;
    f->metrics.tokens_prompt = 180;
    f->metrics.branches = 1;
    f->metrics.kv_pages_total = 4096;
    f->metrics.branches_live_peak = 5;
    cop_timeline_reset(timeline);
    cop_timeline_label(timeline, 0, "root");
    note(f, COP_EVENT_BRANCH_BEGIN, 0, UINT32_MAX, 0);
    f->now += 40 * step_ns;
    f->metrics.term_ns[COP_TERM_PREFILL] = f->now;
    f->metrics.ttft_ns = f->now + step_ns;
}

static void finish(fake *f) {
    note(f, COP_EVENT_BRANCH_END, 0, COP_END_DONE, f->metrics.tokens_total);
    note(f, COP_EVENT_PAGES, UINT32_MAX, 0, 0);
    f->metrics.wall_ns = f->now;
    double decode =
        (double)(f->metrics.term_ns[COP_TERM_DECODE] + f->metrics.term_ns[COP_TERM_STRAGGLER]);
    f->metrics.solo_ns = decode * 0.8;
    f->metrics.tax_ns = decode * 0.2;
}

static void run_replay(fake *f, cop_timeline *timeline, const char *method, uint32_t size) {
    begin(f, timeline, 9000000);
    f->reprefill = strcmp(method, "reprefill") == 0;
    if (strcmp(method, "flattened") == 0) {
        steps(f, size * 13, 1, COP_TERM_DECODE);
    } else {
        f->metrics.term_ns[COP_TERM_FORK] = 3 * f->step_ns;
        f->now += 3 * f->step_ns;
        steps(f, size / 2, 1, COP_TERM_DECODE);
        block(f, 0, 4, size, 0, 0);
        steps(f, size / 3, 1, COP_TERM_DECODE);
        block(f, 0, 2, size / 2, 0, 0);
        steps(f, size / 3, 1, COP_TERM_DECODE);
        f->metrics.tokens_forced = size * 13 - f->metrics.tokens_total; /* the work is the same */
    }
    finish(f);
}

static void run_samples(fake *f, cop_timeline *timeline, const char *method, uint32_t n) {
    begin(f, timeline, 9000000);
    bool prune = strstr(method, "pruned") != NULL, serial = strcmp(method, "serial") == 0;
    for (uint32_t i = 1; i <= n; i++) {
        char label[32];
        snprintf(label, sizeof label, "%u", i);
        cop_timeline_label(timeline, i, label);
        if (serial && i > 1) {
            steps(f, 60, 1, COP_TERM_DECODE);
            note(f, COP_EVENT_BRANCH_END, i - 1, COP_END_DONE, 60);
        }
        note(f, COP_EVENT_BRANCH_BEGIN, i, serial ? UINT32_MAX : 0, 0);
        if (!serial)
            note(f, COP_EVENT_FORK, 0, i, 0);
    }
    if (!serial)
        note(f, COP_EVENT_WAIT_BEGIN, 0, 0, 0);
    for (uint32_t live = n; !serial && live > 0; live -= 4) {
        steps(f, prune ? 10 : 15, live, COP_TERM_DECODE);
        for (uint32_t i = live; i > live - 4; i--) {
            bool pruned = prune && i > 4;
            note(f, COP_EVENT_BRANCH_END, i, pruned ? COP_END_PRUNED : COP_END_DONE, 60);
            f->metrics.prunes += pruned;
            f->metrics.tokens_pruned += pruned ? 20 : 0;
            f->pages -= pruned ? 2 : 0;
        }
    }
    if (serial) {
        steps(f, 60, 1, COP_TERM_DECODE);
        note(f, COP_EVENT_BRANCH_END, n, COP_END_DONE, 60);
    }
    f->metrics.tokens_total = prune ? 460 : n * 60;
    finish(f);
}

static void record_cell(cop_results *results, const json_t *record, const cop_metrics *metrics,
                        const cop_timeline *timeline) {
    char key[COP_CELL_KEY_BYTES];
    CHECK_OK(cop_results_cell_key(record, key));
    CHECK_OK(cop_results_trace(results, key, "a trace", timeline));
    CHECK_OK(cop_results_append(results, key, 0, record, metrics));
}

/* Three problems under three methods, and one prompt sampled in three ways. */
static void fill_folder(const char *problem, const char *method) {
    static const char *const methods[] = {"stitch", "flattened", "reprefill"};
    static const char *const ways[] = {"serial", "forked", "forked+pruned"};
    cop_results *results;
    cop_timeline *timeline;
    fake f;
    json_t *manifest =
        json_pack("{s:s, s:{s:s, s:b, s:s}, s:s, s:s, s:s, s:{s:f}}", "arithmetic", "native-a8",
                  "model", "name", "SmolLM2-135M-Instruct", "random", 0, "sha256", "b179c952",
                  "clock", "wall", "isa", "avx512", "command_line",
                  "coppice bench configs/quick.json", "ceilings", "read_gbps", 40.0);
    CHECK_OK(
        cop_results_open(&(cop_results_options){.folder = folder, .manifest = manifest}, &results));
    json_decref(manifest);
    CHECK_OK(cop_timeline_create(20000, &timeline));
    for (uint32_t p = 0; p < 3; p++)
        for (uint32_t m = 0; m < 3; m++) {
            char name[16];
            snprintf(name, sizeof name, "%u", 5 + p);
            run_replay(&f, timeline, methods[m], 60 + 25 * p);
            json_t *record =
                json_pack("{s:s, s:s, s:s, s:s, s:b, s:[s]}", "problem", p == 2 ? problem : name,
                          "method", m == 0 ? method : methods[m], "group", "replay", "tokens_from",
                          p == 1 ? "token counts only" : "recorded ids", "extrapolated", p == 2,
                          "notes", p == 2 ? hostile : "");
            record_cell(results, record, &f.metrics, timeline);
            json_decref(record);
        }
    for (uint32_t m = 0; m < 3; m++) {
        run_samples(&f, timeline, ways[m], 16);
        json_t *record =
            json_pack("{s:s, s:s, s:s, s:{s:i, s:i, s:i}}", "problem", "Janet's ducks", "method",
                      ways[m], "group", "samples", "answers", "18", 9, "26", 3, hostile, 4);
        record_cell(results, record, &f.metrics, timeline);
        json_decref(record);
    }
    cop_timeline_destroy(timeline);
    cop_results_close(results);
}

static void test_a_report_shows_what_it_must(void) {
    fresh_folder();
    fill_folder("12", "stitch");
    cop_buffer html = write_report();
    static const char *const parts[] = {"12 measurements",
                                        "SmolLM2-135M-Instruct",
                                        "native-a8",
                                        "measured wall clock",
                                        "iso-token control",
                                        "Where the time went",
                                        "modelled",
                                        "KV loads<br>/ min",
                                        "tiles / pass",
                                        "peak<br>pages",
                                        "Timeline: problem",
                                        "Extrapolated positions",
                                        "Placeholder ids",
                                        "forked+pruned",
                                        "How each figure is defined",
                                        "id=\"kv.load_bytes\"",
                                        "(control)",
                                        "waiting for children",
                                        "Perfetto",
                                        "18 (9), 26 (3)",
                                        "<b>21.40 GB/s</b>",
                                        "<b>53.5 %</b> of the 40.00 GB/s",
                                        "measured once"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (!strstr(html.data, parts[i])) {
            fprintf(stderr, "the report lacks \"%s\"\n", parts[i]);
            exit(1);
        }
    CHECK(!strstr(html.data, "RANDOM WEIGHTS") && !strstr(html.data, "VIRTUAL CLOCK"));
    /* Nothing is fetched and nothing runs. */
    CHECK(!strstr(html.data, "http") && !strstr(html.data, "<script") &&
          !strstr(html.data, "src="));
    CHECK(!strstr(html.data, ">nan") && !strstr(html.data, "\"nan") && !strstr(html.data, "inf\""));
    CHECK_EQ(count_of(html.data, "<svg "), count_of(html.data, "</svg>"));
    CHECK_EQ(count_of(html.data, "speedup"), count_of(html.data, "are not speedups"));
    check_well_formed(html.data);
    cop_buffer_release(&html);
}

static void test_hostile_text_is_escaped(void) {
    fresh_folder();
    fill_folder(hostile, hostile);
    cop_buffer html = write_report();
    CHECK(!strstr(html.data, "<script") && !strstr(html.data, "</script") &&
          !strstr(html.data, "<b>\""));
    CHECK(
        strstr(html.data, "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;"));
    check_well_formed(html.data);
    cop_buffer_release(&html);
}

static void append_line(const char *cell, const char *json) {
    json_error_t error;
    json_t *record = json_loads(json, 0, &error), *manifest = NULL;
    CHECK(record);
    CHECK_OK(cop_results_read(folder, &manifest, NULL, NULL));
    cop_results *results;
    CHECK_OK(cop_results_open(
        &(cop_results_options){.folder = folder, .manifest = manifest, .resume = true}, &results));
    CHECK_OK(cop_results_append(results, cell, 0, record, NULL));
    cop_results_close(results);
    json_decref(record);
    json_decref(manifest);
}

static void test_odd_lines_show_dashes(void) {
    static const char *const odd[] = {
        "{}",
        "{\"problem\": 7, \"method\": 3.5, \"metrics\": null, \"notes\": \"one\"}",
        "{\"problem\": \"7\", \"metrics\": {\"time\": {\"wall_ms\": null}, \"tokens\": 4}}",
        ("{\"problem\": \"8\", \"method\": \"m\", \"model\": {\"name\": \"tiny\", \"random\": "
         "true},"
         "\"metrics\": {\"time\": {\"wall_ms\": -5e300, \"terms_ms\": {\"decode\": 1e308}}, "
         "\"kv\": {\"load_bytes\": 1e300, \"pages_leaked\": 1}}}"),
        "{\"group\": \"samples\", \"method\": \"serial\", \"problem\": \"1\", \"answers\": [1, 2]}",
        ("{\"group\": \"samples\", \"method\": \"forked\", \"problem\": \"2\", "
         "\"answers\": {\"votes\": {\"\": {\"a\": 0.5}}, \"without_answer\": 2}}"),
    };
    cop_results *results;
    json_t *manifest = json_pack("{s:s, s:s}", "clock", "virtual", "model", "\x01odd");
    fresh_folder();
    CHECK_OK(
        cop_results_open(&(cop_results_options){.folder = folder, .manifest = manifest}, &results));
    cop_results_close(results);
    json_decref(manifest);
    char path[COP_FILE_PATH_BYTES];
    CHECK_OK(cop__path_join(folder, "report.html", path));
    CHECK_STATUS(cop_report_write(folder, path), COP_ERR_FORMAT);
    CHECK_MESSAGE("no whole result line");
    CHECK(access(path, F_OK) != 0);
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        char cell[8];
        snprintf(cell, sizeof cell, "c%zu", i);
        append_line(cell, odd[i]);
        cop_buffer html = write_report();
        CHECK(strstr(html.data, "VIRTUAL CLOCK") && strstr(html.data, "\xEF\xBF\xBDodd"));
        CHECK(strstr(html.data, "<td class=\"n na\">–</td>"));
        CHECK(!strstr(html.data, "nan"));
        CHECK_EQ(strstr(html.data, "RANDOM WEIGHTS") != NULL, i >= 3);
        CHECK_EQ(strstr(html.data, "promise was broken") != NULL, i >= 3);
        check_well_formed(html.data);
        cop_buffer_release(&html);
    }
}

/* A trace is read back from a file, so it may hold anything. */
static void test_a_damaged_trace_does_no_harm(void) {
    static const char *const traces[] = {
        "",
        "{",
        "[]",
        "{\"traceEvents\": 3}",
        "{\"traceEvents\": [3, {}, {\"ph\": 1}]}",
        "{\"traceEvents\": [{\"ph\":\"X\",\"cat\":\"branch\",\"tid\":1,\"ts\":1e300,\"dur\":1}]}",
        "{\"traceEvents\": [{\"ph\":\"X\",\"cat\":\"branch\",\"tid\":1,\"ts\":-1,\"dur\":1}]}",
        "{\"traceEvents\": [{\"ph\":\"X\",\"cat\":\"branch\",\"name\":\"</title><script>\","
        "\"tid\":2,\"ts\":1,\"dur\":5,\"args\":{\"parent_track\":2,\"end\":\"failed\"}},"
        "{\"ph\":\"X\",\"cat\":\"branch\",\"tid\":1,\"ts\":1,\"dur\":5,\"args\":"
        "{\"parent_track\":2}},{\"ph\":\"X\",\"cat\":\"wait\",\"tid\":9,\"ts\":1,\"dur\":5},"
        "{\"ph\":\"s\",\"id\":1,\"tid\":2,\"ts\":3},{\"ph\":\"f\",\"id\":2,\"tid\":1,\"ts\":3},"
        "{\"ph\":\"C\",\"ts\":6,\"args\":{\"pages\":-3}},{\"ph\":\"C\",\"ts\":6,\"args\":"
        "{\"pages\":1e300}}], \"otherData\": {\"lost_events\": 12}}",
    };
    fresh_folder();
    json_t *manifest = json_object(),
           *record = json_pack("{s:s, s:s}", "problem", "1", "method", "stitch");
    cop_results *results;
    CHECK_OK(
        cop_results_open(&(cop_results_options){.folder = folder, .manifest = manifest}, &results));
    CHECK_OK(cop_results_append(results, "cell", 0, record, NULL));
    cop_results_close(results);
    json_decref(manifest);
    json_decref(record);
    char path[COP_FILE_PATH_BYTES];
    CHECK_OK(cop__path_join(folder, "trace-cell.json", path));
    for (size_t i = 0; i < sizeof traces / sizeof traces[0]; i++) {
        CHECK_OK(cop__file_replace(path, traces[i], strlen(traces[i])));
        cop_buffer html = write_report();
        check_well_formed(html.data);
        CHECK(!strstr(html.data, "nan") && !strstr(html.data, "<script"));
        bool last = i + 1 == sizeof traces / sizeof traces[0];
        CHECK_EQ(strstr(html.data, "12 events were lost") != NULL, last);
        CHECK_EQ(strstr(html.data, "No trace lies beside") != NULL, !last);
        cop_buffer_release(&html);
    }
}

/* Does a slice of that track hold the moment? Arrows bind to the slice around their end. */
static bool is_inside(const json_t *events, double tid, double ts) {
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *e = json_array_get(events, i);
        if (strcmp(json_string_value(json_object_get(e, "ph")), "X") == 0 &&
            number(e, "tid") == tid && ts >= number(e, "ts") &&
            ts <= number(e, "ts") + number(e, "dur"))
            return true;
    }
    return false;
}

static void test_flows_pair_up(void) {
    cop_timeline *timeline;
    fake f;
    CHECK_OK(cop_timeline_create(5000, &timeline));
    run_replay(&f, timeline, "stitch", 30);
    json_t *trace = trace_of(timeline, "t");
    const json_t *events = json_object_get(trace, "traceEvents");
    uint32_t starts[64] = {0}, finishes[64] = {0}, tracks = 0;
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *e = json_array_get(events, i);
        const char *phase = json_string_value(json_object_get(e, "ph"));
        if (*phase == 's' || *phase == 'f') {
            size_t id = (size_t)number(e, "id");
            CHECK(id < 64);
            (*phase == 's' ? starts : finishes)[id]++;
            CHECK(is_inside(events, number(e, "tid"), number(e, "ts")));
        }
        tracks +=
            *phase == 'X' && strcmp(json_string_value(json_object_get(e, "cat")), "branch") == 0;
    }
    /* Blocks of 4, 3 (inside it) and 2 children: 9 forks and 9 joins. */
    for (uint32_t id = 0; id < 64; id++) {
        CHECK_EQ(starts[id], id >= 1 && id <= 18);
        CHECK_EQ(finishes[id], id >= 1 && id <= 18);
    }
    CHECK_EQ(tracks, 10);
    CHECK_EQ(number(json_object_get(trace, "otherData"), "flows"), 18);
    CHECK_EQ(number(json_object_get(trace, "otherData"), "flows_without_branch"), 0);
    json_decref(trace);
    cop_timeline_destroy(timeline);
}

static void test_lost_events_are_counted(void) {
    cop_timeline *timeline;
    fake f;
    uint64_t lost = 0;
    uint32_t count = 0;
    CHECK_OK(cop_timeline_create(5000, &timeline));
    run_replay(&f, timeline, "stitch", 30);
    cop_timeline_events(timeline, &count, &lost);
    CHECK_EQ(lost, 0);
    uint32_t all = count;
    cop_timeline_destroy(timeline);
    for (uint32_t capacity = 0; capacity < all; capacity += 7) {
        CHECK_OK(cop_timeline_create(capacity, &timeline));
        run_replay(&f, timeline, "stitch", 30);
        cop_timeline_events(timeline, &count, &lost);
        CHECK_EQ(count, capacity);
        CHECK_EQ(count + lost, all);
        json_t *trace = trace_of(timeline, "t");
        CHECK_EQ(number(json_object_get(trace, "otherData"), "lost_events"), lost);
        json_decref(trace);
        cop_timeline_reset(timeline);
        cop_timeline_events(timeline, &count, &lost);
        CHECK_EQ(count + lost, 0);
        cop_timeline_destroy(timeline);
    }
    cop_timeline_add(NULL, (cop_event){0});
}

/* Runs the command with its errors on stdout; returns the exit code. */
static int run_command(const char *arguments, char *output, size_t bytes) {
    char line[3 * COP_FILE_PATH_BYTES];
    snprintf(line, sizeof line, "%s %s 2>&1", getenv("COPPICE"), arguments);
    FILE *pipe = popen(line, "r");
    CHECK(pipe);
    size_t used = fread(output, 1, bytes - 1, pipe);
    output[used] = '\0';
    while (fread(line, 1, sizeof line, pipe) > 0)
        continue;
    int code = pclose(pipe);
    CHECK(WIFEXITED(code));
    return WEXITSTATUS(code);
}

static void test_the_command_says_what_it_knows(void) {
    char text[16384], line[2 * COP_FILE_PATH_BYTES + 64];
    if (!getenv("COPPICE") || !*getenv("COPPICE"))
        SKIP("COPPICE does not name the command");
    CHECK_EQ(run_command("", text, sizeof text), 2);
    CHECK(strstr(text, "a verb is missing") && strstr(text, "replay"));
    CHECK_EQ(run_command("'no\nsuch'", text, sizeof text), 2);
    CHECK(strstr(text, "there is no verb \"no such\"") && strstr(text, "tokenize"));
    CHECK_EQ(count_of(text, "\n"), 1);
    CHECK_EQ(run_command("--help", text, sizeof text), 0);
    CHECK(strstr(text, "usage: coppice VERB"));
    CHECK_EQ(run_command("--version", text, sizeof text), 0);
    CHECK(strncmp(text, "coppice 0.", 10) == 0);
    CHECK_EQ(run_command("info --json", text, sizeof text), 0);
    json_error_t error;
    json_t *info = json_loads(text, 0, &error);
    const json_t *backends = json_object_get(info, "backends");
    CHECK(json_is_true(json_object_get(json_object_get(backends, "cpu"), "available")));
    CHECK(json_array_size(json_object_get(info, "isa")) > 0);
    json_decref(info);
    CHECK_EQ(run_command("info --random configs/models/tiny-2layer.json", text, sizeof text), 0);
    CHECK(strstr(text, "random_weights: true") && strstr(text, "weights_not_finite: 0"));
    CHECK(strstr(text, "family: llama\n") && strstr(text, "rope_pairs: neighbours\n"));
    CHECK_EQ(run_command("info --model tests/ref/fixtures/qwen2.gguf", text, sizeof text), 0);
    CHECK(strstr(text, "family: qwen2\n") && strstr(text, "rope_pairs: halves\n"));
    CHECK(strstr(text, "qkv_bias: true\n") && strstr(text, "head_norms: false\n"));
    CHECK_EQ(run_command("info --random configs/models/tiny-qwen3.json", text, sizeof text), 0);
    CHECK(strstr(text, "family: qwen3\n") && strstr(text, "rope_pairs: halves\n"));
    CHECK(strstr(text, "qkv_bias: false\n") && strstr(text, "head_norms: true\n"));
    CHECK_EQ(run_command("info > /dev/full", text, sizeof text), 2);
    CHECK_EQ(run_command("report /nonexistent", text, sizeof text), 2);
    CHECK(strstr(text, "/nonexistent/manifest.json"));
    fresh_folder();
    fill_folder("12", "stitch");
    snprintf(line, sizeof line, "report %s --out %s/page.html", folder, folder);
    CHECK_EQ(run_command(line, text, sizeof text), 0);
    CHECK(strstr(text, "/page.html\n"));
}

int main(int argc, char **argv) {
    if (argc == 2) {
        snprintf(folder, sizeof folder, "%s", argv[1]);
        fill_folder("12", "stitch");
        cop_buffer html = write_report();
        cop_buffer_release(&html);
        return 0;
    }
    RUN(test_a_report_shows_what_it_must);
    RUN(test_hostile_text_is_escaped);
    RUN(test_odd_lines_show_dashes);
    RUN(test_a_damaged_trace_does_no_harm);
    RUN(test_flows_pair_up);
    RUN(test_lost_events_are_counted);
    RUN(test_the_command_says_what_it_knows);
    remove_folder();
    return check_report();
}
