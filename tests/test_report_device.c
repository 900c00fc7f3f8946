/* Reports of runs on a device: what it was sent and told, and times that were not measured. */
#include "page.h"

#include <math.h>

#include "measure/results.h"

/* A run of 200 steps on a device: 20 steps with an upload, graphs but for the first few steps. */
static cop_metrics metrics_of(bool device, uint32_t scale) {
    cop_metrics m = {.wall_ns = 1000000000ull * scale,
                     .ttft_ns = 1000000,
                     .tokens_total = 800,
                     .tokens_longest_thread = 200,
                     .tokens_critical_path = 220,
                     .steps_forward = 200,
                     .rows = 800,
                     .kv_min_bytes = 1000,
                     .kv_load_bytes = 1000,
                     .kv_first_bytes = 1000,
                     .kv_predicted_load_bytes = 1000,
                     .kv_predicted_first_bytes = 1000,
                     .single_row_ns = 1,
                     .decode_weight_gbps = 1500,
                     .timed_steps = device ? 0 : 200};
    m.term_ns[COP_TERM_DECODE] = m.wall_ns;
    for (int op = 0; op < 8; op++)
        m.op_ns[op] = device ? 0 : 1000000;
    if (device) {
        m.upload_bytes = 12800;
        m.upload_steps = 20;
        m.waits = 200;
        m.launches = 600;
        m.graph_launches = 196;
        m.captures = 4;
        m.device_idle_ns = 1400000;
    }
    return m;
}

static const char *const methods[] = {"weave", "single"};

/* One problem under two methods in a setting that `members` describes. */
static void add_section(cop_results *results, const char *members, const cop_metrics *metrics,
                        const char *cells) {
    for (uint32_t m = 0; m < 2; m++) {
        json_error_t error;
        json_t *record = json_loads(members, 0, &error);
        CHECK(record);
        json_object_set_new(record, "group", json_string("replay"));
        json_object_set_new(record, "problem", json_string("p5"));
        json_object_set_new(record, "method", json_string(methods[m]));
        const char key[] = {cells[m], '0', '\0'};
        CHECK_OK(cop_results_append(results, key, 0, record, metrics));
        json_decref(record);
    }
}

static cop_results *open_results(const char *manifest_text) {
    json_error_t error;
    json_t *manifest = json_loads(manifest_text, 0, &error);
    cop_results *results;
    CHECK(manifest);
    fresh_folder();
    CHECK_OK(
        cop_results_open(&(cop_results_options){.folder = folder, .manifest = manifest}, &results));
    json_decref(manifest);
    return results;
}

static const char emulated_line[] = "{\"backend\": \"cuda_emulated\", \"clock\": \"emulated\", "
                                    "\"products\": \"invariant\"}";
static const char gpu_line[] = "{\"backend\": \"cuda\", \"clock\": \"wall\", \"products\": "
                               "\"fast\", \"device\": \"GPU of a test\", \"eager\": true}";

static void test_a_time_of_an_emulated_device_is_labelled_everywhere(void) {
    cop_results *results = open_results(
        "{\"clock\": \"emulated\", \"backend\": \"cuda_emulated\", \"model\": \"tiny\"}");
    const cop_metrics metrics = metrics_of(true, 1);
    add_section(results, emulated_line, &metrics, "ab");
    cop_results_close(results);
    cop_buffer html = write_report();
    CHECK(strstr(html.data, "EMULATED DEVICE") && strstr(html.data, "they mean nothing"));
    CHECK(!strstr(html.data, "measured wall clock") && !strstr(html.data, "measured results"));
    CHECK(strstr(html.data, "<h1>Coppice: emulated results</h1>"));
    CHECK(strstr(html.data, "The clock of this section is <b>emulated</b>"));
    for (int m = 0; m < 2; m++) {
        char labelled[32];
        snprintf(labelled, sizeof labelled, "emulated: %s", methods[m]);
        CHECK(count_of(html.data, labelled) >= 8); /* every table and plot */
        CHECK_EQ(count_of(html.data, methods[m]), count_of(html.data, labelled));
    }
    CHECK(!strstr(html.data, "GB/s</b>")); /* no bandwidth of a time that means nothing */
    check_well_formed(html.data);
    cop_buffer_release(&html);
}

static void test_measured_and_emulated_rows_share_no_table(void) {
    cop_results *results =
        open_results("{\"clock\": \"wall\", \"backend\": \"cuda\", \"model\": \"tiny\", "
                     "\"device\": \"GPU of a test\", \"products\": \"fast\", \"eager\": true}");
    const cop_metrics metrics = metrics_of(true, 1);
    add_section(results, gpu_line, &metrics, "ab");
    add_section(results, emulated_line, &metrics, "cd");
    cop_results_close(results);
    cop_buffer html = write_report();
    CHECK_EQ(count_of(html.data, "Recorded reasoning, replayed"), 2);
    CHECK(strstr(html.data, "on <b>GPU of a test</b>, backend <b>cuda</b> with <b>fast</b>"));
    CHECK(strstr(html.data, "<b>eager</b>"));
    CHECK(strstr(html.data, "fast products · eager · wall"));
    CHECK(strstr(html.data, "except where a method"));
    CHECK(strstr(html.data, "EMULATED DEVICE") && !strstr(html.data, "VIRTUAL CLOCK"));
    CHECK(count_of(html.data, "weave") > count_of(html.data, "emulated: weave"));
    CHECK(count_of(html.data, "emulated: weave") >= 6);
    CHECK_EQ(count_of(html.data, "1,500.00 GB/s</b>"), 1);
    CHECK(strstr(html.data, "<code>bench/gpu.sh</code>"));
    check_well_formed(html.data);
    cop_buffer_release(&html);
}

static void test_what_a_device_was_sent_is_told_by_the_step(void) {
    cop_results *results = open_results("{\"clock\": \"wall\", \"model\": \"tiny\"}");
    cop_metrics metrics = metrics_of(true, 1);
    metrics.timed_steps = 8;
    metrics.op_ns[4] = 3200000;
    add_section(results, gpu_line, &metrics, "ab");
    cop_results_close(results);
    cop_buffer html = write_report();
    CHECK(strstr(html.data, "The device: what it was sent and told"));
    CHECK(strstr(html.data, "<td class=\"n\">64 B</td><td class=\"n\">20</td>"
                            "<td class=\"n\">200</td><td class=\"n\">1</td>"
                            "<td class=\"n\">0.98</td><td class=\"n\">3</td>"
                            "<td class=\"n\">4</td><td class=\"n\">0</td>"
                            "<td class=\"n\">7.00 µs</td>"));
    CHECK(strstr(html.data, "Time by operation"));
    CHECK(strstr(html.data, "<td class=\"n\">3.20 ms</td>"));
    CHECK(!strstr(html.data, "A promise was broken"));
    check_well_formed(html.data);
    cop_buffer_release(&html);
    /* An allocation inside the step loop breaks a promise there too. */
    results = open_results("{\"clock\": \"wall\", \"model\": \"tiny\"}");
    metrics.device_allocations = 1;
    metrics.timed_steps = 0;
    add_section(results, gpu_line, &metrics, "ab");
    cop_results_close(results);
    html = write_report();
    CHECK(strstr(html.data, "A promise was broken"));
    CHECK(!strstr(html.data, "Time by operation"));
    cop_buffer_release(&html);
}

static void test_without_a_device_nothing_is_said_of_one(void) {
    cop_results *results = open_results("{\"clock\": \"wall\", \"model\": \"tiny\"}");
    const cop_metrics metrics = metrics_of(false, 1);
    add_section(results, "{\"backend\": \"cpu\", \"clock\": \"wall\"}", &metrics, "ab");
    cop_results_close(results);
    cop_buffer html = write_report();
    CHECK(!strstr(html.data, "The device: what"));
    CHECK_EQ(count_of(html.data, "device.waits_per_step"), 2); /* its definition alone */
    CHECK(strstr(html.data, "coppice info --measure"));
    cop_buffer_release(&html);
}

static void test_a_virtual_clock_is_named_too(void) {
    cop_results *results = open_results("{\"clock\": \"virtual\", \"model\": \"tiny\"}");
    const cop_metrics metrics = metrics_of(false, 1);
    add_section(results, "{}", &metrics, "ab"); /* what a line does not say, the manifest does */
    cop_results_close(results);
    cop_buffer html = write_report();
    CHECK(strstr(html.data, "VIRTUAL CLOCK") && strstr(html.data, "Times are <b>virtual</b>"));
    CHECK_EQ(count_of(html.data, "weave"), count_of(html.data, "virtual: weave"));
    cop_buffer_release(&html);
}

int main(void) {
    RUN(test_a_time_of_an_emulated_device_is_labelled_everywhere);
    RUN(test_measured_and_emulated_rows_share_no_table);
    RUN(test_what_a_device_was_sent_is_told_by_the_step);
    RUN(test_without_a_device_nothing_is_said_of_one);
    RUN(test_a_virtual_clock_is_named_too);
    remove_folder();
    return check_report();
}
