/* How many tokens each generated token attended to: the bins, and what the engine counts under each
 * join rule, against views written down by hand. */
#include "live_world.h"

#include "measure/results.h"

#define PLAN2 "<Parallel><Goal><Outline>1: a</Outline><Outline>2: b</Outline></Goal>"
#define TRY2 "<try> 14 - 2<try> 3 + 4<fork>"

static void test_bins_are_in_order_and_hold_their_values(void) {
    CHECK_EQ(cop_seen_bin_from(0), 0);
    for (uint32_t bin = 0; bin + 1 < COP_SEEN_BINS; bin++) {
        uint64_t from = cop_seen_bin_from(bin), next = cop_seen_bin_from(bin + 1);
        CHECK(from < next && next - from <= (from < 8 ? 1 : from / 4));
        CHECK_EQ(cop_seen_bin(from), bin);
        CHECK_EQ(cop_seen_bin(next - 1), bin);
    }
    CHECK_EQ(cop_seen_bin_from(COP_SEEN_BINS), 1u << 24);
    CHECK_EQ(cop_seen_bin(UINT64_MAX), COP_SEEN_BINS - 1);
}

static void test_percentiles_and_sums(void) {
    cop_context_seen seen = {0}, more = {0};
    CHECK(isnan(cop_seen_percentile(&seen, 0.5)));
    for (uint64_t i = 1; i <= 7; i++)
        cop_seen_add(&seen, COP_SEEN_ALONE, i, 1);
    CHECK(cop_seen_percentile(&seen, 0.5) == 4 && cop_seen_percentile(&seen, 1) == 7);
    for (uint64_t i = 0; i < 1000; i++)
        cop_seen_add(&more, COP_SEEN_SIBLINGS, 1000 + i, 2);
    cop_seen_merge(&seen, &more);
    CHECK_EQ(seen.tokens[COP_SEEN_SIBLINGS], 2000);
    CHECK_EQ(seen.sum[COP_SEEN_SIBLINGS], 2 * (1000 * 1000 + 999 * 500));
    CHECK_EQ(seen.max, 1999);
    CHECK(fabs(cop_seen_percentile(&seen, 0.5) / 1500 - 1) < 0.01);
    CHECK(cop_seen_percentile(&seen, 1) == 1999);
    cop_seen_add(&seen, COP_SEEN_ALONE, 1u << 30, 0);
    CHECK_EQ(seen.max, 1999);
}

/* The sum of first, first + 1, .. of n numbers. */
static uint64_t climb(uint64_t first, uint64_t n) {
    return n * first + n * (n - 1) / 2;
}

static void run(const world *w, cop_script *script, uint32_t n, cop_metrics *m) {
    cop_live *live = live_world_run(w, &(cop_live_options){.script = script, .n_script = n}, m);
    CHECK_EQ(m->seen.tokens[COP_SEEN_ALONE] + m->seen.tokens[COP_SEEN_SIBLINGS], m->tokens_total);
    cop_live_destroy(live);
}

static void check_seen(const cop_metrics *m, uint64_t alone, uint64_t siblings, uint64_t most) {
    CHECK_EQ(m->seen.sum[COP_SEEN_ALONE], alone);
    CHECK_EQ(m->seen.sum[COP_SEEN_SIBLINGS], siblings);
    CHECK_EQ(m->seen.max, most);
}

static void test_one_sequence_sees_all_before(void) {
    world w = live_world_open("sequential", 8, 4096);
    cop_script script[] = {live_world_say(&w, "", "twelve bytes$")};
    cop_metrics m;
    run(&w, script, 1, &m);
    check_seen(&m, climb(4, 13), 0, 4 + 12);
    live_world_close(&w);
}

/* Said by the root before the fork, by each path behind its header, and after the join. */
static void test_a_stitched_block_sees_all_paths_afterwards(void) {
    world w = live_world_open("multiverse", 64, 4096);
    cop_script script[] = {live_world_say(&w, "", "Hi" PLAN2 "end$"),
                           live_world_say(&w, "1", " one</Path>"),
                           live_world_say(&w, "2", " and two</Path>")};
    cop_metrics m;
    run(&w, script, 3, &m);
    uint64_t before = 4 + strlen("Hi" PLAN2), header = strlen("\n<Path>\n1:");
    uint64_t one = strlen(" one</Path>"), two = strlen(" and two</Path>");
    uint64_t joined = before + 2 * header + one + two + strlen("\n<Conclusion>\n");
    check_seen(&m, climb(4, before - 4) + climb(joined, 4),
               climb(before + header, one) + climb(before + header, two), joined + 3);
    live_world_close(&w);
}

static void test_a_spawned_path_sees_its_message_alone(void) {
    world w = live_world_open("countdown-message", 64, 4096);
    cop_script script[] = {live_world_say(&w, "", "Hm" TRY2 "<ok> 14$"),
                           live_world_say(&w, "1", " x<no> but<end>"),
                           live_world_say(&w, "2", " nothing<end>")};
    cop_metrics m;
    run(&w, script, 3, &m);
    uint64_t before = 4 + strlen("Hm" TRY2);
    uint64_t first = 2 + strlen("<thr> 14 - 2"), second = 2 + strlen("<thr> 3 + 4");
    uint64_t joined = before + strlen("<no> but<no><join>");
    check_seen(&m, climb(4, before - 4) + climb(joined, strlen("<ok> 14") + 1),
               climb(first, strlen(" x<no> but<end>")) + climb(second, strlen(" nothing<end>")),
               joined + strlen("<ok> 14"));
    live_world_close(&w);
}

/* A block of one path has no siblings; inside a path that has, it has them too. */
static void test_what_stands_beside_siblings_is_inherited(void) {
    world w = live_world_open("multiverse", 64, 4096);
    const char one[] = "<Parallel><Goal><Outline>1: a</Outline></Goal>";
    const char inner[] = "<Parallel><Goal><Outline>1.1: a</Outline></Goal>";
    cop_metrics m;
    cop_script alone[] = {
        live_world_say(&w, "", "Hi<Parallel><Goal><Outline>1: a</Outline></Goal>$"),
        live_world_say(&w, "1", " one</Path>")};
    run(&w, alone, 2, &m);
    CHECK_EQ(m.forks, 1);
    CHECK_EQ(m.seen.tokens[COP_SEEN_SIBLINGS], 0);
    CHECK_EQ(m.seen.tokens[COP_SEEN_ALONE], 2 + strlen(one) + strlen(" one</Path>") + 1);
    char path[256];
    snprintf(path, sizeof path, "%sx</Conclusion></Parallel></Path>", inner);
    cop_script nested[] = {live_world_say(&w, "", "Hi" PLAN2 "$"), live_world_say(&w, "1", path),
                           live_world_say(&w, "1.1", "deep</Path>"),
                           live_world_say(&w, "2", "b</Path>")};
    run(&w, nested, 4, &m);
    CHECK_EQ(m.forks, 2);
    CHECK_EQ(m.seen.tokens[COP_SEEN_ALONE], strlen("Hi" PLAN2) + 1);
    CHECK_EQ(m.seen.tokens[COP_SEEN_SIBLINGS], strlen(path) + strlen("deep</Path>b</Path>"));
    live_world_close(&w);
}

static void test_several_samples_are_siblings(void) {
    world w = live_world_open("sequential", 8, 4096);
    cop_metrics m;
    cop_live *live = live_world_run(&w, &(cop_live_options){.n_samples = 3, .max_tokens = 5}, &m);
    check_seen(&m, 0, 3 * climb(4, 5), 8);
    cop_live_destroy(live);
    live_world_close(&w);
}

static void test_the_line_says_it(void) {
    cop_metrics m = {0};
    json_t *json = cop_metrics_to_json(&m);
    const json_t *seen = json_object_get(json_object_get(json, "context"), "seen");
    CHECK(json_is_null(json_object_get(seen, "mean")) &&
          json_is_string(json_object_get(seen, "mean_why")));
    json_decref(json);
    cop_seen_add(&m.seen, COP_SEEN_ALONE, 3, 2);
    cop_seen_add(&m.seen, COP_SEEN_SIBLINGS, 9, 2);
    json = cop_metrics_to_json(&m);
    seen = json_object_get(json_object_get(json, "context"), "seen");
    CHECK(json_real_value(json_object_get(seen, "mean")) == 6);
    CHECK_EQ(json_integer_value(json_object_get(seen, "max")), 9);
    char *bins = json_dumps(json_object_get(seen, "bins"), JSON_COMPACT);
    CHECK_TEXT(bins, "{\"from\":[3,8],\"alone\":[2,0],\"siblings\":[0,2]}");
    free(bins);
    json_decref(json);
}

int main(void) {
    RUN(test_bins_are_in_order_and_hold_their_values);
    RUN(test_percentiles_and_sums);
    RUN(test_one_sequence_sees_all_before);
    RUN(test_a_stitched_block_sees_all_paths_afterwards);
    RUN(test_a_spawned_path_sees_its_message_alone);
    RUN(test_what_stands_beside_siblings_is_inherited);
    RUN(test_several_samples_are_siblings);
    RUN(test_the_line_says_it);
    return check_report();
}
