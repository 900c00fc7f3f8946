#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dialect_edit.h"
#include "reason/parser.h"

/* The same with everything a message join has, and with tags left out that may be. */
static const char message[] =
    "{\"name\": \"x\", \"source\": \"a test\", \"join\": \"message\", \"prompt\": "
    "\"<q{k}>{problem}\","
    " \"ask_paths\": 5, \"spawn_prompt\": \"<s>{problem}\", \"branch_prompt\": \"<p>{item}\","
    " \"reply\": {\"from\": [\"<no>\", \"<ok>\"], \"otherwise\": \"<no>\"}, \"join_prompt\": "
    "\"</b>\","
    " \"success\": \"<ok>\", \"answer_after\": \"<ok>\", \"refused\": \"ends_run\","
    " \"max_path_tokens\": 7, \"tags\": {\"block\": {\"close\": \"</b>\"}, \"plan\": {\"close\": "
    "\"</l>\"},"
    " \"item\": {\"open\": \"<i>\"}, \"path\": {\"open\": \"<p>\", \"close\": \"</p>\"}}}";

static cop_status load_changed(const char *from, const char *to, cop_dialect_file **file) {
    return load_edited(dialect_good, from, to, file);
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
    CHECK_EQ(d->path_end, COP_PATH_END_JOINS);
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
    CHECK_MESSAGE("groupthink, hogwild, multiverse-engine,");
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
    fputs(dialect_good, out);
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
    CHECK_OK(load_changed(
        " \"positions\": \"equal_start_max\", \"nested\": true, \"max_depth\": 3,", "", &file));
    const cop_dialect *d = cop_dialect_of(file);
    CHECK_EQ(d->positions, COP_POSITIONS_NEXT);
    CHECK_EQ(d->reuse, COP_REUSE_NONE);
    CHECK_EQ(d->path_end, COP_PATH_END_JOINS);
    CHECK(!d->nested);
    CHECK_EQ(d->max_depth + d->max_paths + d->max_blocks, 0);
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
        {"\"max_depth\": 3", "\"max_depth\": 1", "is 1, and \"nested\" is true"},
        {"\"max_depth\": 3", "\"max_depth\": 3.0", "\"max_depth\""},
        {"\"block\"", "\"blok\"", "tags.blok"},
        {"\"open\": \"<b>\"", "\"opens\": \"<b>\"", "tags.block.opens"},
        {", \"close\": \"</b>\"", "", "\"tags.block.close\" is missing"},
        {"\"</b>\"", "\"</i>\"", "'</i>' for two tags"},
        {"\"</b>\"", "\"<i>>\"", "'<i>>': '<i>' inside it is complete first"},
        {"\"</b>\"", "\"\\n</b>\"", "holds a newline"},
        {"\"<i>\"", "\"\\n<i>\"", "holds a newline"},
        {"\"<i>\", \"close\": \"</i>\"", "\"\\n\"", "begins with a newline: give 1 to 63"},
        {"\"<i>\", \"close\": \"</i>\"", "\"\\n-\\n\"", "holds a newline"},
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

static void test_a_message_dialect_has_all_that_it_needs(void) {
    cop_dialect_file *file;
    CHECK_OK(load_edited(message, "message", "message", &file));
    const cop_dialect *d = cop_dialect_of(file);
    CHECK_EQ(d->join, COP_JOIN_MESSAGE);
    CHECK_TEXT(cop_join_rule_name(d->join), "message");
    CHECK_TEXT(d->spawn_prompt, "<s>{problem}");
    CHECK_EQ(d->n_reply_from, 2);
    CHECK_TEXT(d->reply_from[0].text, "<no>");
    CHECK_TEXT(d->reply_from[1].text, "<ok>");
    CHECK_EQ(d->reply_from[1].bytes, 4);
    CHECK_TEXT(d->reply_otherwise, "<no>");
    CHECK_TEXT(d->success.text, "<ok>");
    CHECK_EQ(d->answer_after.bytes, 4);
    CHECK_EQ(d->ask_paths, 5);
    CHECK_EQ(d->refused, COP_REFUSAL_ENDS_RUN);
    CHECK_EQ(d->max_path_tokens, 7);
    CHECK_EQ(d->open[COP_EL_BLOCK].bytes + d->open[COP_EL_PLAN].bytes, 0);
    CHECK_EQ(d->close[COP_EL_ITEM].bytes, 0);
    CHECK_TEXT(d->open[COP_EL_BLOCK].text, "");
    cop_dialect_close(file);
    /* Optional: none of these is what makes it a message join. */
    CHECK_OK(
        load_edited(message, "\"success\": \"<ok>\", \"answer_after\": \"<ok>\", ", "", &file));
    CHECK_EQ(cop_dialect_of(file)->success.bytes + cop_dialect_of(file)->answer_after.bytes, 0);
    cop_dialect_close(file);
    CHECK_OK(load_edited(message, "\"prompt\": \"<q{k}>{problem}\", \"ask_paths\": 5,", "", &file));
    CHECK_TEXT(cop_dialect_of(file)->prompt, "{problem}");
    CHECK_EQ(cop_dialect_of(file)->ask_paths, 0);
    cop_dialect_close(file);
}

/* One edit of `message` each, and what is said of it. */
static const struct {
    const char *from, *to, *message;
} message_cases[] = {
    {"\"block\": {\"close\": \"</b>\"}, ", "", "\"tags\" lacks \"block\""},
    {"{\"close\": \"</b>\"}", "{}", "\"tags.block.close\" is missing"},
    {"{\"close\": \"</b>\"}", "{\"open\": \"<b>\"}", "\"tags.block.close\" is missing"},
    {"{\"close\": \"</b>\"}", "{\"close\": \"\"}", "\"tags.block.close\" is empty"},
    {"{\"close\": \"</l>\"}", "{\"open\": \"<l>\"}", "\"tags.plan.close\" is missing"},
    {"\"plan\": {\"close\": \"</l>\"}, ", "", "\"tags\" has items without \"close\" and no plan"},
    {"{\"open\": \"<i>\"}", "{\"close\": \"<i>\"}", "\"tags.item.open\" is missing"},
    {"{\"open\": \"<i>\"}", "{\"open\": \"\\n\"}", "\"tags.item.open\" begins with a newline"},
    {"{\"open\": \"<i>\"}", "{\"open\": \"\\n-\\n\"}", "\"tags.item.open\" holds a newline"},
    {"\"max_path_tokens\": 7", "\"max_path_tokens\": 7, \"join_policy\": {\"deadline_tokens\": 7}",
     "never falls due"},
    {"\"item\": {\"open\": \"<i>\"}, ", "", "\"tags\" lacks \"item\""},
    {", \"path\": {\"open\": \"<p>\", \"close\": \"</p>\"}", "", "\"tags\" lacks \"path\""},
    {", \"close\": \"</p>\"}", "}", "\"tags.path.close\" is missing"},
    {"\"block\": {\"close\": \"</b>\"}", "\"block\": 5", "\"tags.block\""},
    {"{\"open\": \"<i>\"}", "{\"open\": \"<i>\", \"shut\": \"x\"}", "\"tags.item.shut\" is not"},
    {"\"spawn_prompt\": \"<s>{problem}\", ", "", "\"spawn_prompt\" is needed for \"message\""},
    {"\"<s>{problem}\"", "\"\"", "\"spawn_prompt\" is needed for \"message\""},
    {"\"<s>{problem}\"", "1", "\"spawn_prompt\""},
    {"\"prompt\": \"<q{k}>{problem}\", \"ask_paths\": 5, \"spawn_prompt\": \"<s>",
     "\"spawn_prompt\": \"<s{k}>", "\"spawn_prompt\" holds {k}"},
    {"\"reply\": {\"from\": [\"<no>\", \"<ok>\"], \"otherwise\": \"<no>\"}, ", "",
     "\"reply\" is needed for \"message\""},
    {"[\"<no>\", \"<ok>\"]", "[]", "\"reply\" is needed for \"message\""},
    {"[\"<no>\", \"<ok>\"]", "[\"1\", \"2\", \"3\", \"4\", \"5\"]",
     "\"reply.from\" has 5 texts; give at most 4"},
    {"[\"<no>\", \"<ok>\"]", "[\"<no>\", \"\"]", "reply.from[1]"},
    {"[\"<no>\", \"<ok>\"]", "[7]", "reply.from[0]"},
    {"[\"<no>\", \"<ok>\"]", "\"<no>\"", "\"reply.from\""},
    {"\"from\": [\"<no>\", \"<ok>\"], ", "", "\"reply.from\" is missing"},
    {"\"otherwise\": \"<no>\"", "\"otherwise\": \"\"", "\"reply.otherwise\" is empty"},
    {", \"otherwise\": \"<no>\"", "", "\"reply.otherwise\" is missing"},
    {"\"otherwise\": \"<no>\"", "\"otherwise\": \"<no>\", \"else\": 1", "\"reply.else\" is not"},
    {"\"ask_paths\": 5,", "", "\"ask_paths\" goes with {k} in \"prompt\""},
    {"<q{k}>", "<q>", "\"ask_paths\" goes with {k} in \"prompt\""},
    {"\"prompt\": \"<q{k}>{problem}\",", "", "\"ask_paths\" goes with {k} in \"prompt\""},
    {"\"ask_paths\": 5", "\"ask_paths\": 0", "\"ask_paths\""},
    {"\"ask_paths\": 5", "\"ask_paths\": 65536", "\"ask_paths\""},
    {"\"ask_paths\": 5", "\"ask_paths\": \"5\"", "\"ask_paths\""},
    {"<q{k}>{problem}", "<q{k}>{problem", "\"prompt\" must hold {problem}"},
    {"\"<q{k}>{problem}\"", "[]", "\"prompt\""},
    {"<p>{item}", "<p>", "\"branch_prompt\" must hold {n}"},
    {"<p>{item}", "<i>{item}", "\"branch_prompt\" must hold the path's opening tag '<p>'"},
    {"\"branch_prompt\": \"<p>{item}\",", "", "\"branch_prompt\" must hold the path's opening"},
    {"\"join\": \"message\"", "\"join\": \"message\", \"positions\": \"equal_start_max\"",
     "\"positions\" must be \"next\" for \"message\""},
    {"\"join\": \"message\"", "\"join\": \"message\", \"reuse\": \"longest_prefix\"",
     "\"reuse\" is for \"join\": \"reprefill\" only"},
    {"\"join\": \"message\"", "\"join\": \"reprefill\"", "\"reply\" is for \"join\": \"message\""},
    {"\"join\": \"message\"", "\"join\": \"stitch\"", "\"reply\" is for \"join\": \"message\""},
    {"\"ends_run\"", "\"ends\"", "\"refused\" is"},
    {"\"ends_run\"", "true", "\"refused\" is"},
    {"\"success\": \"<ok>\"", "\"success\": 1", "\"success\" is"},
    {"\"success\": \"<ok>\"", "\"success\": \"\"", "\"success\" is empty"},
    {"\"success\": \"<ok>\"", "\"success\": \"a\\nb\"", "\"success\" holds a newline"},
    {"\"answer_after\": \"<ok>\"", "\"answer_after\": [\"<ok>\"]", "\"answer_after\" is"},
    {"\"answer_after\": \"<ok>\"", "\"answer_after\": \"\"", "\"answer_after\" is empty"},
    {"\"max_path_tokens\": 7", "\"max_path_tokens\": -1", "\"max_path_tokens\""},
    {"\"max_path_tokens\": 7", "\"max_path_tokens\": 7, \"path_end\": \"ends\"", "\"path_end\""},
};

static void test_what_a_message_dialect_cannot_mean_is_refused(void) {
    for (size_t i = 0; i < sizeof message_cases / sizeof message_cases[0]; i++) {
        cop_dialect_file *file = NULL;
        CHECK_STATUS(load_edited(message, message_cases[i].from, message_cases[i].to, &file),
                     COP_ERR_CONFIG);
        CHECK_MESSAGE(message_cases[i].message);
        CHECK(file == NULL);
    }
    static const char *const alone[] = {"spawn_prompt", "reply"};
    for (int i = 0; i < 2; i++) { /* each by itself in another join's file */
        char text[128], expected[64];
        cop_dialect_file *file = NULL;
        snprintf(text, sizeof text, "\"nested\": true, \"%s\": %s,", alone[i],
                 i ? "{\"from\": [\"a\"], \"otherwise\": \"b\"}" : "\"a\"");
        snprintf(expected, sizeof expected, "\"%s\" is for \"join\": \"message\" only", alone[i]);
        CHECK_STATUS(load_changed("\"nested\": true,", text, &file), COP_ERR_CONFIG);
        CHECK_MESSAGE(expected);
    }
}

static void test_a_sequential_dialect_names_nothing_of_forks(void) {
    static const char *const keys[] = {
        "\"branch_prompt\": \"a\"", "\"join_prompt\": \"a\"", "\"spawn_prompt\": \"a\"",
        "\"reply\": {\"from\": [\"a\"], \"otherwise\": \"b\"}", "\"success\": \"a\"",
        "\"ask_paths\": 2, \"prompt\": \"{k}{problem}\"",
        /* Empty or not: what has no meaning is left out. */
        "\"join_prompt\": \"\""};
    static const char plain[] =
        "{\"name\": \"x\", \"source\": \"a test\", \"join\": \"none\", \"answer_after\": \"=\"}";
    cop_dialect_file *file;
    CHECK_OK(load_edited(plain, "none", "none", &file));
    CHECK_TEXT(cop_dialect_of(file)->answer_after.text, "=");
    CHECK_TEXT(cop_dialect_of(file)->reply_otherwise, "");
    CHECK_TEXT(cop_dialect_of(file)->spawn_prompt, "");
    cop_dialect_close(file);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char text[160], key[32];
        snprintf(text, sizeof text, "\"none\", %s", keys[i]);
        snprintf(key, sizeof key, "%.*s", (int)(strchr(keys[i], ':') - keys[i]), keys[i]);
        CHECK_STATUS(load_edited(plain, "\"none\"", text, &file), COP_ERR_CONFIG);
        CHECK_MESSAGE(key);
        CHECK_MESSAGE("must be left out when \"join\" is \"none\"");
    }
    CHECK_STATUS(load_edited(plain, "\"none\"",
                             "\"none\", \"tags\": {\"item\": {\"open\": \"<i>\"}}", &file),
                 COP_ERR_CONFIG);
    CHECK_MESSAGE("must not have \"item\"");
    CHECK_STATUS(
        load_edited(plain, "\"none\"", "\"none\", \"positions\": \"equal_start_max\"", &file),
        COP_ERR_CONFIG);
    CHECK_MESSAGE("\"positions\" must be \"next\"");
}

static void test_prompts_have_a_limit(void) {
    static const char *const keys[] = {"prompt", "spawn_prompt", "branch_prompt", "join_prompt"};
    static const char *const texts[] = {"<q{k}>", "<s>", "<p>", "\"</b>"};
    for (int i = 0; i < 4; i++) {
        char longer[600], expected[64];
        memset(longer, 'x', 520);
        snprintf(longer + 520, sizeof longer - 520, "%s", texts[i][0] == '"' ? "" : texts[i]);
        if (i == 3)
            memmove(longer + 1, longer, 520), longer[0] = '"', longer[521] = '\0';
        cop_dialect_file *file;
        CHECK_STATUS(load_edited(message, texts[i], longer, &file), COP_ERR_CONFIG);
        snprintf(expected, sizeof expected, "\"%s\" has 5", keys[i]);
        CHECK_MESSAGE(expected);
        CHECK_MESSAGE("give at most 512");
    }
}

static void check_fill(const char *pattern, const char *problem, uint32_t paths,
                       const char *expected) {
    cop_dialect d = {.ask_paths = 5};
    cop_buffer out = {0};
    CHECK_OK(cop_buffer_append(&out, "!", 1)); /* appended to what is there */
    CHECK_OK(cop_dialect_fill(&d, pattern, problem, strlen(problem), paths, &out));
    CHECK_EQ(out.bytes, 1 + strlen(expected));
    CHECK(memcmp(out.data + 1, expected, strlen(expected)) == 0);
    cop_buffer_release(&out);
}

static void test_prompts_are_filled_and_other_braces_stay(void) {
    check_fill("<a><k{k}>{problem}.", "T9 1", 0, "<a><k5>T9 1.");
    check_fill("<a><k{k}>{problem}", "T9 1", 12, "<a><k12>T9 1");
    check_fill("{problem}{problem}{k}{k}", "ab", 3, "abab33");
    check_fill("", "ab", 0, "");
    check_fill("plain", "ab", 0, "plain");
    check_fill("{problem}", "", 0, "");
    check_fill("{problem}", "{k}{problem}{", 0, "{k}{problem}{"); /* what is put in is text */
    check_fill("{{problem}}", "p", 0, "{p}");
    check_fill("{{k}}{", "p", 1, "{1}{");
    check_fill("{", "p", 0, "{");
    check_fill("{}{ k}{k }{K}{n}{item}", "p", 0, "{}{ k}{k }{K}{n}{item}");
    check_fill("{problem", "p", 0, "{problem");
    check_fill("{k", "p", 0, "{k");
    check_fill("{problems}{proble{problem}", "p", 0, "{problems}{problep");
    check_fill("{problem}}", "p", 0, "p}");
    cop_dialect d = {.ask_paths = 5};
    cop_buffer out = {0};
    CHECK_OK(cop_dialect_fill(&d, "<{problem}>", "a\0b", 3, 0, &out)); /* by its length */
    CHECK_EQ(out.bytes, 5);
    CHECK(memcmp(out.data, "<a\0b>", 5) == 0);
    cop_buffer_release(&out);
}

static void test_a_header_takes_its_items_text_as_it_is(void) {
    cop_dialect d = {.branch_prompt = "<t{n}>{item}|{item}{"};
    const uint32_t path[] = {3, 1};
    char out[64];
    size_t bytes;
    CHECK_OK(cop_dialect_branch_prompt(&d, path, 2, " a{n}bc", 6, out, sizeof out, &bytes));
    CHECK_TEXT(out, "<t3.1> a{n}b| a{n}b{");
    CHECK_EQ(bytes, strlen(out));
    for (size_t room = 0; room <= strlen("<t3.1> a{n}b| a{n}b{"); room++)
        CHECK_STATUS(cop_dialect_branch_prompt(&d, path, 2, " a{n}bc", 6, out, room, &bytes),
                     COP_ERR_NO_ROOM);
    CHECK_OK(cop_dialect_branch_prompt(&d, path, 1, "", 0, out, sizeof out, &bytes));
    CHECK_TEXT(out, "<t3>|{");
    cop_mark mark = cop_dialect_mark("{x}{item}{n}");
    CHECK(!mark.number);
    CHECK_EQ(mark.bytes, 6);
    mark = cop_dialect_mark(mark.at + mark.bytes);
    CHECK(mark.number);
    CHECK_EQ(mark.bytes, 3);
    CHECK_EQ(cop_dialect_mark(mark.at + mark.bytes).bytes, 0);
}

/* Every file of the folder loads under its own name, and none is forgotten here. */
static const struct shipped {
    const char *name;
    cop_join_rule join;
    const char *reason; /* a word of why it is not supported; NULL: it is */
} shipped[] = {{"apr", COP_JOIN_MESSAGE, NULL},
               {"apr-corrected", COP_JOIN_MESSAGE, NULL},
               {"async-message", COP_JOIN_ASYNC, NULL},
               {"async-stitch-gap", COP_JOIN_ASYNC, NULL},
               {"asyncthink", COP_JOIN_ASYNC, "primary source"},
               {"countdown-message", COP_JOIN_MESSAGE, NULL},
               {"countdown-reprefill", COP_JOIN_REPREFILL, NULL},
               {"countdown-sequential", COP_JOIN_NONE, NULL},
               {"countdown-stitch", COP_JOIN_STITCH, NULL},
               {"groupthink", COP_JOIN_SHARED, "positions"},
               {"hogwild", COP_JOIN_SHARED, NULL},
               {"multiverse", COP_JOIN_STITCH, NULL},
               {"multiverse-engine", COP_JOIN_STITCH, NULL},
               {"multiverse-training", COP_JOIN_STITCH, "share a position"},
               {"npr", COP_JOIN_STITCH, NULL},
               {"npr-corrected", COP_JOIN_STITCH, NULL},
               {"parallel-r1", COP_JOIN_REPREFILL, NULL},
               {"parallel-r1-corrected", COP_JOIN_REPREFILL, NULL},
               {"parathinker", COP_JOIN_STITCH, "embedding"},
               {"pasta", COP_JOIN_ASYNC, "<sync/>"},
               {"sequential", COP_JOIN_NONE, NULL},
               {"sprint", COP_JOIN_REPREFILL, NULL},
               {"sprint-corrected", COP_JOIN_REPREFILL, NULL},
               {"threadweaver", COP_JOIN_REPREFILL, NULL},
               {"threadweaver-eval", COP_JOIN_REPREFILL, NULL},
               {"threadweaver-rl", COP_JOIN_REPREFILL, NULL},
               {"threadweaver-rl-recipe", COP_JOIN_REPREFILL, NULL}};
enum { SHIPPED = sizeof shipped / sizeof shipped[0] };

static void test_every_shipped_dialect_loads(void) {
    cop_dialect_file *file;
    for (size_t i = 0; i < SHIPPED; i++) {
        if (shipped[i].reason)
            continue;
        CHECK_OK(cop_dialect_load_named(".", shipped[i].name, &file));
        const cop_dialect *d = cop_dialect_of(file);
        CHECK_EQ(d->join, shipped[i].join);
        CHECK_EQ(cop_dialect_reason_count(file), 0);
        CHECK(strstr(d->prompt, "{problem}") != NULL);
        CHECK(d->branch_prompt && d->join_prompt && d->spawn_prompt && d->reply_otherwise);
        if (strncmp(d->name, "countdown", 9) == 0)
            CHECK_TEXT(d->answer_after.text, "<ok>");
        cop_dialect_close(file);
    }
    DIR *folder = opendir("configs/dialects");
    CHECK(folder != NULL);
    for (struct dirent *entry; (entry = readdir(folder));) {
        size_t known = strcmp(entry->d_name, "schema.json") == 0;
        char name[80];
        for (size_t i = 0; i < SHIPPED; i++) {
            snprintf(name, sizeof name, "%s.json", shipped[i].name);
            known += strcmp(name, entry->d_name) == 0;
        }
        CHECK_EQ(known, strstr(entry->d_name, ".json") != NULL);
    }
    closedir(folder);
}

/* What cannot be expressed is described, with its reasons, and opened by nobody who would run it.
 */
static void test_what_is_not_supported_is_described_and_refused(void) {
    cop_dialect_file *file;
    char path[96];
    for (size_t i = 0; i < SHIPPED; i++) {
        if (!shipped[i].reason) {
            CHECK_OK(cop_dialect_check_name(shipped[i].name));
            continue;
        }
        snprintf(path, sizeof path, "configs/dialects/%s.json", shipped[i].name);
        CHECK_STATUS(cop_dialect_load_named(".", shipped[i].name, &file), COP_ERR_CONFIG);
        CHECK(file == NULL);
        CHECK_STATUS(cop_dialect_load(path, &file), COP_ERR_CONFIG);
        CHECK_STATUS(cop_dialect_check_name(shipped[i].name), COP_ERR_CONFIG);
        CHECK_STATUS(cop_dialect_open(path, &file), COP_ERR_CONFIG);
        CHECK_EQ(cop_status_exit_code(COP_ERR_CONFIG), 2);
        CHECK_MESSAGE("is not supported: ");
        CHECK_MESSAGE(shipped[i].name);
        CHECK_OK(cop_dialect_describe(path, &file));
        CHECK_EQ(cop_dialect_of(file)->join, shipped[i].join);
        bool told = false;
        CHECK(cop_dialect_reason_count(file) > 0);
        for (uint32_t r = 0; r < cop_dialect_reason_count(file); r++)
            told |= strstr(cop_dialect_reason(file, r), shipped[i].reason) != NULL;
        CHECK(told);
        cop_dialect_close(file);
    }
    CHECK_OK(cop_dialect_check_name("no-such-dialect"));
    CHECK_OK(cop_dialect_check_name("../x"));
    CHECK_STATUS(cop_dialect_load_named(".", "schema", &file), COP_ERR_CONFIG);
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
    RUN(test_a_message_dialect_has_all_that_it_needs);
    RUN(test_what_a_message_dialect_cannot_mean_is_refused);
    RUN(test_a_sequential_dialect_names_nothing_of_forks);
    RUN(test_prompts_have_a_limit);
    RUN(test_prompts_are_filled_and_other_braces_stay);
    RUN(test_a_header_takes_its_items_text_as_it_is);
    RUN(test_every_shipped_dialect_loads);
    RUN(test_what_is_not_supported_is_described_and_refused);
    RUN(test_names);
    return check_report();
}
