/* Chrome traces from events: any label, branches that come and go. */
#include "check.h"

#include <jansson.h>

#include "trace.h"

static const char hostile[] = "</script><script>alert(1)</script>&\"'<b>";

static void test_labels_and_titles_may_be_anything(void) {
    cop_timeline *timeline;
    CHECK_OK(cop_timeline_create(16, &timeline));
    cop_timeline_label(timeline, 0, "a\"b\\c\n\xff\xc3\xa9\xc3");
    cop_timeline_label(timeline, 1, "0123456789012345678901234567890123");
    cop_timeline_label(timeline, 2, "012345678901234567890123456789\xc3\xa9");
    cop_timeline_label(timeline, 99, "beyond");
    CHECK_TEXT(cop_timeline_label_of(timeline, 1), "0123456789012345678901234567890");
    CHECK_TEXT(cop_timeline_label_of(timeline, 2), "012345678901234567890123456789");
    CHECK_TEXT(cop_timeline_label_of(timeline, 99), "");
    for (uint32_t b = 0; b < 3; b++)
        cop_timeline_add(timeline, (cop_event){.kind = COP_EVENT_BRANCH_BEGIN,
                                               .branch = b,
                                               .other = UINT32_MAX,
                                               .t_ns = 1234567890123456789u + b});
    json_t *trace = trace_of(timeline, hostile);
    const json_t *name = json_object_get(
        json_object_get(json_array_get(json_object_get(trace, "traceEvents"), 0), "args"), "name");
    CHECK_TEXT(json_string_value(name), "a\"b\\c\n\xEF\xBF\xBD\xc3\xa9\xEF\xBF\xBD");
    CHECK_TEXT(json_string_value(json_object_get(json_object_get(trace, "otherData"), "title")),
               hostile);
    json_decref(trace);
    cop_timeline_destroy(timeline);
}

/* A branch index may be used again: each life has a track of its own. */
static void test_a_reused_branch_index_gets_a_new_track(void) {
    cop_timeline *timeline;
    CHECK_OK(cop_timeline_create(32, &timeline));
    const cop_event events[] = {
        {.t_ns = 0, .kind = COP_EVENT_BRANCH_BEGIN, .branch = 0, .other = UINT32_MAX},
        {.t_ns = 10, .kind = COP_EVENT_FORK, .branch = 0, .other = 1},
        {.t_ns = 10, .kind = COP_EVENT_BRANCH_BEGIN, .branch = 1, .other = 0},
        {.t_ns = 20, .kind = COP_EVENT_BRANCH_END, .branch = 1, .value = 5},
        {.t_ns = 25, .kind = COP_EVENT_JOIN, .branch = 0, .other = 1},
        {.t_ns = 30, .kind = COP_EVENT_FORK, .branch = 0, .other = 1},
        {.t_ns = 30, .kind = COP_EVENT_BRANCH_BEGIN, .branch = 1, .other = 0},
        {.t_ns = 40, .kind = COP_EVENT_BRANCH_END, .branch = 1, .value = 6},
        {.t_ns = 45, .kind = COP_EVENT_JOIN, .branch = 0, .other = 1},
        {.t_ns = 50, .kind = COP_EVENT_BRANCH_END, .branch = 0},
    };
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        cop_timeline_add(timeline, events[i]);
    json_t *trace = trace_of(timeline, "t");
    const json_t *list = json_object_get(trace, "traceEvents");
    double tids[8], at = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *e = json_array_get(list, i);
        const char *phase = json_string_value(json_object_get(e, "ph"));
        if (*phase == 's' || *phase == 'f') {
            CHECK(at < 8);
            tids[(int)at++] = number(e, "tid");
        }
    }
    static const double expected[] = {1, 2, 2, 1, 1, 3, 3, 1};
    CHECK_EQ(at, 8);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(tids[i], expected[i]);
    json_decref(trace);
    cop_timeline_destroy(timeline);
}

int main(void) {
    RUN(test_labels_and_titles_may_be_anything);
    RUN(test_a_reused_branch_index_gets_a_new_track);
    return check_report();
}
