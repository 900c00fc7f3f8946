#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "reason/dialect.h"
#include "reason/parser.h"

static const char good[] =
    "{\"name\": \"x\", \"source\": \"a test\", \"join\": \"stitch\","
    " \"positions\": \"equal_start_max\", \"nested\": true, \"max_depth\": 3,"
    " \"branch_prompt\": \"\\n<p>{n}:\", \"join_prompt\": \"\\n<j>\","
    " \"tags\": {\"block\": {\"open\": \"<b>\", \"close\": \"</b>\"},"
    " \"item\": {\"open\": \"<i>\", \"close\": \"</i>\"},"
    " \"path\": {\"open\": \"<p>\", \"close\": \"</p>\"},"
    " \"join\": {\"open\": \"<j>\", \"close\": \"</j>\"}}}";

/* Writes `good` with its first `from` replaced by `to`, and loads it. */
static cop_status load_changed(const char *from, const char *to, cop_dialect_file **file) {
    char path[] = "/tmp/coppice-dialect-XXXXXX", text[4096];
    const char *at = strstr(good, from);
    CHECK(at != NULL);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    cop_status status = cop_dialect_load(path, file);
    if (status != COP_OK)
        CHECK_MESSAGE(path);
    unlink(path);
    return status;
}

static void test_the_committed_dialects_say_what_their_systems_do(void) {
    cop_dialect_file *file;
    CHECK_OK(cop_dialect_load_named(".", "multiverse", &file));
    const cop_dialect *d = cop_dialect_of(file);
    CHECK_TEXT(d->name, "multiverse");
    CHECK_EQ(d->join, COP_JOIN_STITCH);
    CHECK_EQ(d->positions, COP_POSITIONS_EQUAL_START_MAX);
    CHECK(d->nested);
    CHECK_TEXT(d->open[COP_EL_PLAN].text, "<Goal>");
    CHECK_EQ(d->open[COP_EL_PLAN].bytes, 6);
    CHECK_TEXT(d->branch_prompt, "\n<Path>\n{n}:");
    CHECK_TEXT(d->join_prompt, "\n<Conclusion>\n");
    cop_dialect_close(file);

    CHECK_OK(cop_dialect_load_named(".", "threadweaver", &file));
    d = cop_dialect_of(file);
    CHECK_EQ(d->join, COP_JOIN_REPREFILL);
    CHECK_EQ(d->positions, COP_POSITIONS_NEXT);
    CHECK_EQ(d->path_end, COP_PATH_END_ENDS_RUN);
    CHECK(!d->nested);
    CHECK_EQ(d->max_depth, 1);
    CHECK_TEXT(d->open[COP_EL_PATH].text, "<Thread>");
    CHECK_TEXT(d->join_prompt, "");
    CHECK_EQ(d->open[COP_EL_JOIN].bytes, 0);
    CHECK_TEXT(d->open[COP_EL_JOIN].text, "");
    cop_dialect_close(file);

    CHECK_OK(cop_dialect_load_named(".", "sequential", &file));
    d = cop_dialect_of(file);
    CHECK_EQ(d->join, COP_JOIN_NONE);
    for (int e = 0; e < COP_EL_COUNT; e++)
        CHECK_EQ(d->open[e].bytes + d->close[e].bytes, 0);
    cop_dialect_close(file);
}

static void test_an_unknown_name_lists_the_known_ones(void) {
    cop_dialect_file *file;
    CHECK_STATUS(cop_dialect_load_named(".", "multivers", &file), COP_ERR_CONFIG);
    CHECK_MESSAGE("'multivers'");
    CHECK_MESSAGE("multiverse, sequential, threadweaver");
    CHECK(file == NULL);
    CHECK_STATUS(cop_dialect_load_named(".", "../models/x", &file), COP_ERR_CONFIG);
    CHECK_STATUS(cop_dialect_load_named(".", "", &file), COP_ERR_CONFIG);
    CHECK_STATUS(cop_dialect_load_named("/nowhere", "multiverse", &file), COP_ERR_IO);
    CHECK_MESSAGE("/nowhere/configs/dialects");
    CHECK_STATUS(cop_dialect_load("/nowhere/x.json", &file), COP_ERR_IO);
    CHECK_MESSAGE("/nowhere/x.json");
}

static void test_a_file_named_otherwise_is_refused(void) {
    char root[] = "/tmp/coppice-root-XXXXXX", path[256];
    CHECK(mkdtemp(root) != NULL);
    const char *const folders[] = {"/configs", "/configs/dialects"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s%s", root, folders[i]);
        CHECK_EQ(mkdir(path, 0700), 0);
    }
    snprintf(path, sizeof path, "%s/configs/dialects/y.json", root);
    FILE *out = fopen(path, "w");
    CHECK(out != NULL);
    fputs(good, out);
    fclose(out);
    cop_dialect_file *file;
    CHECK_STATUS(cop_dialect_load_named(root, "y", &file), COP_ERR_CONFIG);
    CHECK_MESSAGE("is 'x'; the file is named y");
    CHECK(file == NULL);
    unlink(path);
    for (int i = 1; i >= 0; i--) {
        snprintf(path, sizeof path, "%s%s", root, folders[i]);
        rmdir(path);
    }
    rmdir(root);
}

static void test_defaults_are_the_ordinary_things(void) {
    cop_dialect_file *file;
    CHECK_OK(load_changed(" \"positions\": \"equal_start_max\", \"nested\": true,", "", &file));
    const cop_dialect *d = cop_dialect_of(file);
    CHECK_EQ(d->positions, COP_POSITIONS_NEXT);
    CHECK_EQ(d->reuse, COP_REUSE_NONE);
    CHECK_EQ(d->path_end, COP_PATH_END_JOINS);
    CHECK(!d->nested);
    CHECK_EQ(d->max_depth, 3);
    CHECK_EQ(d->max_paths + d->max_blocks, 0);
    CHECK_EQ(d->open[COP_EL_ROOT].bytes, 0);
    cop_dialect_close(file);
    CHECK_OK(load_changed("\"\\n<j>\"", "\"\"", &file));
    CHECK_TEXT(cop_dialect_of(file)->join_prompt, "");
    cop_dialect_close(file);
}

static void test_what_cannot_be_meant_is_refused(void) {
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"\"nested\"", "\"nestd\"", "nestd"},
        {"\"nested\": true", "\"nested\": 1", "\"nested\""},
        {"\"nested\": true", "\"nested\": true, \"nested\": true", "duplicate"},
        {"\"name\": \"x\", ", "", "\"name\" is missing"},
        {"\"a test\"", "\"\"", "\"source\""},
        {"\"stitch\"", "\"sew\"", "none, reprefill, stitch"},
        {"\"stitch\"", "\"none\"", "must not have \"block\""},
        {"\"stitch\"", "\"reprefill\"", "\"positions\" must be \"next\""},
        {"\"nested\": true", "\"reuse\": \"longest_prefix\"", "\"reuse\" is for"},
        {"\"max_depth\": 3", "\"max_depth\": 33", "0 to 32"},
        {"\"max_depth\": 3", "\"max_depth\": 3.0", "\"max_depth\""},
        {"\"block\"", "\"blok\"", "tags.blok"},
        {"\"open\": \"<b>\"", "\"opens\": \"<b>\"", "tags.block.opens"},
        {", \"close\": \"</b>\"", "", "\"tags.block.close\" is missing"},
        {"\"</b>\"", "\"</i>\"", "'</i>' for two tags"},
        {"\"</b>\"", "\"<i>>\"", "'<i>>': '<i>' inside it is complete first"},
        {"\"</b>\"", "\"\\n</b>\"", "holds a newline"},
        {"\"</b>\"", "\"01234567890123456789012345678901234567890123456789012345678901234\"",
         "65 bytes"},
        {"\"item\"", "\"plan\"", "lacks \"item\""},
        {"\\n<p>{n}:", "\\n<q>{n}:", "opening tag '<p>'"},
        {"\\n<p>{n}:", "\\n<p>", "must hold {n}"},
        {"\\n<j>\"", "\\n<k>\"", "opening tag '<j>'"},
        {"\"x\"", "7", "\"name\""},
        {"{", "[{", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cop_dialect_file *file = NULL;
        CHECK_STATUS(load_changed(cases[i].from, cases[i].to, &file), COP_ERR_CONFIG);
        CHECK_MESSAGE(cases[i].message);
        CHECK(file == NULL);
    }
}

static void test_a_tag_may_end_with_another(void) {
    cop_dialect_file *file;
    CHECK_OK(load_changed("\"</b>\"", "\"x</i>\"", &file));
    CHECK_TEXT(cop_dialect_of(file)->close[COP_EL_BLOCK].text, "x</i>");
    cop_dialect_close(file);
}

static void test_names(void) {
    CHECK_TEXT(cop_element_name(COP_EL_ROOT), "root");
    CHECK_TEXT(cop_element_name(COP_EL_JOIN), "join");
    CHECK_TEXT(cop_element_name(COP_EL_COUNT), "unknown");
    CHECK_TEXT(cop_join_rule_name(COP_JOIN_REPREFILL), "reprefill");
}

int main(void) {
    RUN(test_the_committed_dialects_say_what_their_systems_do);
    RUN(test_an_unknown_name_lists_the_known_ones);
    RUN(test_a_file_named_otherwise_is_refused);
    RUN(test_defaults_are_the_ordinary_things);
    RUN(test_what_cannot_be_meant_is_refused);
    RUN(test_a_tag_may_end_with_another);
    RUN(test_names);
    return check_report();
}
