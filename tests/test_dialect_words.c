/* The words that only some systems need: what this runtime does not do, contradictions, and the
 * schema, which knows the keys that the loader knows. */
#include "dialect_edit.h"

#include <jansson.h>

/* One edit of a whole file each: a word for what this runtime does not do needs "supported": false.
 */
static void test_a_word_that_is_not_run_makes_a_file_unsupported(void) {
    static const char *const words[][2] = {
        {"\"equal_start_max\"", "\"disjoint\""},
        {"\"equal_start_max\"", "\"predicted_gap\""}, /* is for async */
        {"\"nested\": true", "\"nested\": true, \"pad_to\": 16"},
        {"\"nested\": true", "\"nested\": true, \"segment_embedding\": \"t\""},
        {"\"nested\": true", "\"nested\": true, \"start_offset\": -1"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        char text[1024];
        cop_dialect_file *file;
        CHECK_STATUS(load_edited(dialect_good, words[i][0], words[i][1], &file), COP_ERR_CONFIG);
        CHECK_MESSAGE("asks for what this runtime does not do: say \"supported\": false");
        const char *at = strstr(dialect_good, words[i][0]);
        CHECK(at != NULL);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - dialect_good), dialect_good, words[i][1],
                 at + strlen(words[i][0]));
        CHECK_STATUS(load_edited(text, "\"a test\"",
                                 "\"a test\", \"supported\": false, \"unsupported_because\": "
                                 "[\"why not\"]",
                                 &file),
                     COP_ERR_CONFIG);
        CHECK_MESSAGE("dialect x is not supported: why not");
    }
    cop_dialect_file *file;
    CHECK_OK(load_edited(dialect_good, "\"nested\": true",
                         "\"nested\": true, \"stage_sampling\": {\"path\": "
                         "{\"repetition_penalty\": 1.0, \"temperature\": 0.5}}",
                         &file));
    CHECK(cop_dialect_of(file)->sampling[COP_STAGE_PATH].temperature == 0.5f);
    CHECK(cop_dialect_of(file)->sampling[COP_STAGE_PATH].top_p < 0);
    CHECK(!cop_dialect_of(file)->stage_set[COP_STAGE_MAIN]);
    CHECK(cop_dialect_of(file)->sampling[COP_STAGE_PATH].penalty == 0); /* 1 is none */
    cop_dialect_close(file);
}

/* A whole re-prefill dialect for edits of what only such a one may say. */
static const char again[] =
    "{\"name\": \"x\", \"source\": \"a test\", \"join\": \"reprefill\", \"max_paths\": 4,"
    " \"branch_prompt\": \"<p>{n}:\", \"tags\": {\"block\": {\"open\": \"<b>\", \"close\": "
    "\"</b>\"}, \"plan\": {\"open\": \"<g>\", \"close\": \"</g>\"}, \"item\": {\"open\": "
    "\"<i>\", \"close\": \"</i>\"}, \"path\": {\"open\": \"<p>\", \"close\": \"</p>\"}}}";

static const struct {
    const char *add, *message;
} contradictions[] = {
    {"\"supported\": false", "\"unsupported_because\" is needed"},
    {"\"unsupported_because\": [\"a\"]", "\"unsupported_because\" goes with \"supported\": false"},
    {"\"notes\": [1]", "\"notes[0]\""},
    {"\"trigger\": {\"on\": \"block_open\"}", "\"paths_from\" is \"fixed\" exactly where"},
    {"\"paths_from\": \"fixed\", \"paths\": 2", "\"paths_from\" is \"fixed\" exactly where"},
    {"\"paths\": 2", "\"paths\" goes with \"paths_from\": \"fixed\""},
    {"\"paths_from\": \"fixed\", \"trigger\": {\"on\": \"block_open\"}", "\"paths\" goes with"},
    {"\"paths_from\": \"fixed\", \"trigger\": {\"on\": \"block_open\"}, \"paths\": 2",
     "\"tags\" must not name a plan or items"},
    {"\"trigger\": {\"anywhere\": true}", "\"trigger.anywhere\" needs \"items.pattern\""},
    {"\"trigger\": {\"on_end\": true}", "\"trigger.on_end\" needs \"items.pattern\""},
    {"\"trigger\": {\"also\": [\"</p>\"]}", "'</p>' for two tags"},
    {"\"trigger\": {\"also\": [\"1\", \"2\", \"3\", \"4\", \"5\"]}", "give at most 4"},
    {"\"trigger\": {\"on\": \"never\"}", "\"trigger.on\""},
    {"\"items\": {}", "\"items.pattern\" is missing"},
    {"\"items\": {\"pattern\": \"<i>([0-9]+\"}", "is no regular expression: "},
    {"\"items\": {\"pattern\": \"<i>[0-9]+\"}", "\"items.pattern\" has no group"},
    {"\"items\": {\"pattern\": \"<i>(a)\", \"duplicates\": \"first\"}", "keep, drop, last_wins"},
    {"\"after_plan\": {\"drop\": 2}", "\"after_plan.drop\""},
    {"\"after_path\": {\"keep\": 1}", "\"after_path\" is for \"stitch\""},
    {"\"joined_header\": {\"first\": \"a\"}", "\"joined_header.other\" is missing"},
    {"\"joined_header\": {\"first\": \"a\", \"other\": \"b\"}, \"reuse\": \"longest_prefix\"",
     "\"reuse\" cannot keep a path"},
    {"\"context\": \"text\", \"nested\": true", "\"context\" \"text\" is for"},
    {"\"join_prompt_cut\": \"a\"", "\"join_prompt_cut\" goes with"},
    {"\"join_end\": \"closes_join\"", "\"join_end\" \"closes_join\" needs"},
    {"\"last_block\": \"ends_run\"", "\"last_block\" needs \"max_blocks\""},
    {"\"path_limit\": \"cuts_after\"", "\"path_limit\" needs \"max_path_tokens\""},
    {"\"max_depth\": 2", "\"max_depth\" is 2, and \"nested\" is not true"},
    {"\"budget\": {\"checked\": \"each_step\"}", "\"each_step\" goes with"},
    {"\"budget\": {\"charge\": \"tokens\"}", "\"budget.charge\""},
    {"\"budget\": {\"last\": \"dropped\"}", "goes with \"charge\": \"own_times_siblings\""},
    {"\"budget\": {\"margin\": -1}", "\"budget.margin\""},
    {"\"stage_sampling\": {\"plan\": {}}", "stage_sampling.plan"},
    {"\"stage_sampling\": {\"path\": {\"temperature\": -1}}", "stage_sampling.path.temperature"},
    {"\"join_policy\": {\"quorum\": 5}", "\"join_policy.quorum\" is 5, and \"max_paths\" is 4"},
    {"\"join_policy\": {\"quorum\": 1, \"quorum_ratio\": 0.5}", "say the same thing twice"},
    {"\"join_policy\": {\"success_only\": true}", "needs \"success\""},
    {"\"join_policy\": {\"losers\": \"keep\"}", "drop, keep_partial"},
    {"\"penalty_shared\": true", "\"penalty_shared\" goes with a \"repetition_penalty\""},
    {"\"penalty_shared\": true, \"stage_sampling\": {\"path\": {\"repetition_penalty\": 1.1}, "
     "\"main\": {\"repetition_penalty\": 1.1}}",
     "in no other stage"},
    {"\"stage_sampling\": {\"path\": {\"repetition_penalty\": 0}}", "repetition_penalty"},
    {"\"single_tokens\": [7]", "single_tokens[0]"},
    {"\"on_zero_items\": \"ends\"", "\"on_zero_items\""},
};

static void test_contradictions_are_named(void) {
    cop_dialect_file *file;
    CHECK_OK(load_edited(again, "a test", "a test", &file));
    cop_dialect_close(file);
    for (size_t i = 0; i < sizeof contradictions / sizeof contradictions[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, "{%s, ", contradictions[i].add);
        CHECK_STATUS(load_edited(again, "{", text, &file), COP_ERR_CONFIG);
        CHECK_MESSAGE(contradictions[i].message);
        CHECK(file == NULL);
    }
}

/* A whole dialect whose parent goes on, and edits of it that contradict each other. */
static const char beside[] =
    "{\"name\": \"x\", \"source\": \"a test\", \"join\": \"async\", \"branch_prompt\": "
    "\"<t>{item}\","
    " \"join_prompt\": \"<r>{item}\", \"spawn_prompt\": \"{problem}\", \"tags\": {\"path\": "
    "{\"open\": \"<p>\", \"close\": \"</p>\"}}, \"async\": {\"fork\": "
    "\"<f(?<n>.)>(?<item>.)</f>\", \"join\": \"<j(?<n>.)>\", \"view\": \"empty\", \"insert\": "
    "\"message\"}}";

static const struct {
    const char *find, *with, *message;
} beside_edits[] = {
    {"(?<item>.)", "(.)", "needs a group (?<item>..)"},
    {"<j(?<n>.)>", "<j(.)>", "needs a group (?<n>..)"},
    {"\"join\": \"<j(?<n>.)>\", ", "", "needs \"join\" or \"sync\""},
    {"<f(?<n>.)>", "<f(?<n>.>", "is no regular expression"},
    {"\"empty\"", "\"parent\"", "\"spawn_prompt\" goes with"},
    {"\"empty\"", "\"none\"", "parent, empty"},
    {"\"message\"}", "\"stitch\"}", "holds {item}, what the path returns, exactly where"},
    {"<r>{item}", "{item}", "\"join_prompt\" must say something"},
    {"<t>{item}", "{item}", "\"branch_prompt\" must say something"},
    {"\"view\"", "\"over_capacity\": \"waits\", \"view\"", "\"waits\" needs \"capacity\""},
    {"\"view\"", "\"capacity\": 0, \"view\"", "async.capacity"},
    {"\"view\"", "\"eror\": 1, \"view\"", "async.eror"},
    {"\"view\"", "\"error_text\": \"{n}\", \"view\"", "must say something, or be left out"},
    {"\"join\": \"async\"", "\"join\": \"async\", \"positions\": \"predicted_gap\"",
     "needs a group (?<tokens>..)"},
    {"\"join\": \"async\"", "\"join\": \"async\", \"positions\": \"equal_start_max\"",
     "must be \"next\" or \"predicted_gap\""},
    {"\"join\": \"async\"", "\"join\": \"async\", \"nested\": true", "is for blocks"},
    {"\"join\": \"async\"", "\"join\": \"async\", \"path_end\": \"ends_run_after_merge\"",
     "is for blocks"},
    {"\"join\": \"async\"", "\"join\": \"async\", \"budget\": {\"margin\": 3}",
     "\"budget\" must be left out"},
    {"\"path\": {", "\"join\": {\"open\": \"<x>\", \"close\": \"</x>\"}, \"path\": {",
     "must hold \"path\" alone"},
    {"\"tags\": {\"path\": {\"open\": \"<p>\", \"close\": \"</p>\"}}, ", "", "lacks \"path\""},
    {"\"join\": \"async\"", "\"join\": \"reprefill\"", "is for \"join\": \"async\" only"},
};

static void test_what_a_parent_that_goes_on_cannot_mean(void) {
    cop_dialect_file *file;
    CHECK_OK(load_edited(beside, "a test", "a test", &file));
    CHECK(cop_dialect_spawns(cop_dialect_of(file)));
    cop_dialect_close(file);
    for (size_t i = 0; i < sizeof beside_edits / sizeof beside_edits[0]; i++) {
        CHECK_STATUS(load_edited(beside, beside_edits[i].find, beside_edits[i].with, &file),
                     COP_ERR_CONFIG);
        CHECK_MESSAGE(beside_edits[i].message);
        CHECK(file == NULL);
    }
    CHECK_STATUS(load_edited(dialect_good, "\"nested\": true",
                             "\"nested\": true, \"async\": {\"fork\": \"a\", \"view\": \"parent\", "
                             "\"insert\": \"stitch\"}",
                             &file),
                 COP_ERR_CONFIG);
    CHECK_MESSAGE("is for \"join\": \"async\" only");
}

/* A whole dialect whose messages a program makes, and what it cannot mean. */
static const char programmed[] =
    "{\"name\": \"x\", \"source\": \"a test\", \"join\": \"message\", "
    "\"program\": {\"recipe\": \"make it\"}, \"paths_from\": \"message\", "
    "\"trigger\": {\"on\": \"end_of_text\", \"also\": [\"<c>\"]}, "
    "\"replace_on_stop\": [{\"text\": \"a\", \"by\": \"b\"}], \"stop_texts\": [\"d\"]}";

static void test_what_goes_with_a_program(void) {
    static const char *const cases[][3] = {
        {"\"program\": {\"recipe\": \"make it\"}, ", "", "\"program\""},
        {"\"end_of_text\", \"also\": [\"<c>\"]", "\"plan_close\"", "give all three"},
        {"\"paths_from\": \"message\", ", "", "give all three"},
        {"\"also\"", "\"anywhere\": true, \"also\"", "are for plans"},
        {"\"message\", \"program\"", "\"stitch\", \"program\"", "\"join\" must be \"message\""},
        {"\"program\":", "\"positions\": \"equal_start_max\", \"program\":", "must be \"next\""},
        {"\"program\":", "\"nested\": true, \"program\":", "\"nested\" must be left out"},
        {"\"program\":", "\"branch_prompt\": \"x\", \"program\":", "must be left out"},
        {"\"program\":",
         "\"tags\": {\"root\": {\"open\": \"<r>\", \"close\": \"</r>\"}}, \"program\":",
         "\"tags\" must be left out"},
        {"\"program\":", "\"stage_sampling\": {\"join\": {\"top_k\": 1}}, \"program\":",
         "has no meaning"},
        {"\"program\":",
         "\"stage_sampling\": {\"main\": {\"repetition_penalty\": 1.1}}, \"program\":",
         "cannot forget"},
        {"\"recipe\": \"make it\"", "", "recipe"},
        {"\"recipe\"", "\"command\": \"rm\", \"recipe\"", "command"},
        {", \"by\": \"b\"", "", "by"},
        {"[\"d\"]", "[\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\"]", "at most 8"},
        {"[\"d\"]", "[\"\\n\"]", "newline"},
    };
    static const char *const alone[] = {"\"trigger\": {\"on\": \"end_of_text\"}",
                                        "\"paths_from\": \"message\"",
                                        "\"replace_on_stop\": [{\"text\": \"a\", \"by\": \"b\"}]",
                                        "\"stop_texts\": [\"a\"]", "\"max_turn_tokens\": 3"};
    cop_dialect_file *file;
    CHECK_OK(load_edited(programmed, "{", "{", &file));
    const cop_dialect *d = cop_dialect_of(file);
    CHECK(d->program && !d->asks_paths);
    CHECK_EQ(d->n_stop_texts, 2);
    CHECK(!d->stop_texts[0].by);
    CHECK_TEXT(d->stop_texts[1].by, "b");
    CHECK_EQ(d->n_last_line, 1);
    CHECK_EQ(d->n_plan_ends, 0);
    cop_dialect_close(file);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_STATUS(load_edited(programmed, cases[i][0], cases[i][1], &file), COP_ERR_CONFIG);
        CHECK_MESSAGE(cases[i][2]);
    }
    for (size_t i = 0; i < sizeof alone / sizeof alone[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "\"nested\": true, %s", alone[i]);
        CHECK_STATUS(load_edited(dialect_good, "\"nested\": true", text, &file), COP_ERR_CONFIG);
        CHECK_MESSAGE("goes with \"program\"");
    }
}

/* Every key of the schema is the loader's, and every one of the loader's stands in the schema. */
static void check_keys(const json_t *schema, const char *object) {
    const char *const *known = cop_dialect_keys(object);
    const json_t *properties = json_object_get(schema, "properties");
    size_t n = 0;
    const char *key;
    json_t *value;
    CHECK(known != NULL);
    CHECK(json_is_false(json_object_get(schema, "additionalProperties")));
    for (; known[n]; n++) {
        if (!json_object_get(properties, known[n]))
            fprintf(stderr, "%s.%s is not in the schema\n", object, known[n]);
        CHECK(json_object_get(properties, known[n]) != NULL);
    }
    CHECK_EQ(json_object_size(properties), n);
    json_object_foreach((json_t *)properties, key, value) {
        if (!json_string_value(json_object_get(value, "description")))
            fprintf(stderr, "%s.%s has no description\n", object, key);
        CHECK(json_string_value(json_object_get(value, "description")) != NULL);
    }
}

/* The words of an "enum" are those that the loader accepts: it names them when it is given others.
 */
static void check_words(const json_t *schema, const char *object, const char *key) {
    const json_t *words =
        json_object_get(json_object_get(json_object_get(schema, "properties"), key), "enum");
    char text[256], list[256] = "";
    size_t used = 0;
    cop_dialect_file *file;
    if (!words)
        return;
    for (size_t i = 0; i < json_array_size(words); i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "",
                                 json_string_value(json_array_get(words, i)));
    bool inner = object[0] != '\0';
    const char *head = strcmp(object, "items") == 0 ? "\"pattern\": \"(a)\", " : "";
    if (inner)
        snprintf(text, sizeof text, "{\"%s\": {%s\"%s\": \"?\"}, ", object, head, key);
    else
        snprintf(text, sizeof text, "{\"%s\": \"?\", ", key);
    if (strcmp(key, "join") == 0) /* it is there already */
        CHECK_STATUS(load_edited(again, "\"reprefill\"", "\"?\"", &file), COP_ERR_CONFIG);
    else
        CHECK_STATUS(load_edited(again, "{", text, &file), COP_ERR_CONFIG);
    CHECK_MESSAGE(list);
}

static void test_the_schema_and_the_loader_know_the_same_keys(void) {
    json_error_t error;
    json_t *schema = json_load_file("configs/dialects/schema.json", JSON_REJECT_DUPLICATES, &error);
    CHECK(schema != NULL);
    CHECK_TEXT(json_string_value(json_object_get(schema, "$schema")),
               "https://json-schema.org/draft/2020-12/schema");
    const json_t *root = json_object_get(schema, "properties");
    check_keys(schema, "");
    static const char *const objects[] = {
        "tags",         "reply",         "trigger", "items",          "after_plan",
        "after_path",   "joined_header", "budget",  "stage_sampling", "join_policy",
        "inject_every", "program",       "shared"};
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++) {
        const json_t *object = json_object_get(root, objects[i]);
        const char *const *known = cop_dialect_keys(objects[i]);
        check_keys(object, objects[i]);
        for (size_t k = 0; known[k]; k++)
            check_words(object, objects[i], known[k]);
    }
    for (size_t k = 0; cop_dialect_keys("")[k]; k++)
        check_words(schema, "", cop_dialect_keys("")[k]);
    const json_t *definitions = json_object_get(schema, "$defs");
    check_keys(json_object_get(definitions, "element"), "tags.*");
    check_keys(json_object_get(definitions, "conclusion"), "tags.join");
    check_keys(json_object_get(definitions, "stage"), "stage_sampling.*");
    check_keys(json_object_get(definitions, "async"), "async");
    check_keys(json_object_get(definitions, "replacement"), "replace_on_stop[]");
    check_keys(json_object_get(definitions, "worker"), "shared.workers[]");
    CHECK(cop_dialect_keys("no such object") == NULL);
    json_decref(schema);
}

int main(void) {
    RUN(test_a_word_that_is_not_run_makes_a_file_unsupported);
    RUN(test_contradictions_are_named);
    RUN(test_what_a_parent_that_goes_on_cannot_mean);
    RUN(test_what_goes_with_a_program);
    RUN(test_the_schema_and_the_loader_know_the_same_keys);
    return check_report();
}
