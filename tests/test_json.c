#include "config/json.h"

#include <unistd.h>

#include "check.h"

static cop_json parse(const char *text) {
    cop_json root;
    CHECK_OK(cop_json_parse(text, strlen(text), "x.json", &root));
    return root;
}

static void check_refused(const char *text, const char *message) {
    cop_json root;
    CHECK_STATUS(cop_json_parse(text, strlen(text), "x.json", &root), COP_ERR_CONFIG);
    CHECK_MESSAGE("x.json: ");
    CHECK_MESSAGE(message);
    cop_json_release(&root);
}

static void test_what_is_no_object_is_refused(void) {
    check_refused("", "line 1");
    check_refused("{\"a\": 1,\n \"b\": }", "line 2, column");
    check_refused("[1]", "must hold an object {..}, and holds an array");
    check_refused("{\"a\": 1, \"a\": 2}", "duplicate");
    check_refused("{\"a\": {\"b\": 1, \"b\": 1}}", "duplicate");
    check_refused("{\"a\": 1} x", "not valid JSON");
    check_refused("{\"a\": \"\xff\"}", "not valid JSON");
    check_refused("{\"a\": 99999999999999999999}", "not valid JSON");
    check_refused("{\"a\": NaN}", "not valid JSON");
    static char deep[5 * 2500 + 1];
    for (int i = 0; i < 2500; i++)
        memcpy(deep + 5 * i, "{\"a\":", 5);
    check_refused(deep, "maximum parsing depth");
}

static void test_files(void) {
    char path[] = "/tmp/test_json_XXXXXX";
    cop_json root;
    uint32_t value = 0;
    int descriptor = mkstemp(path);
    CHECK(descriptor >= 0 && write(descriptor, "{\"n\": 7}", 8) == 8);
    close(descriptor);
    CHECK_OK(cop_json_load(path, &root));
    CHECK_OK(cop_json_u32(&root, "n", 0, 10, COP_JSON_REQUIRED, &value));
    CHECK_EQ(value, 7);
    CHECK_STATUS(cop_json_u32(&root, "n", 0, 6, COP_JSON_REQUIRED, &value), COP_ERR_CONFIG);
    CHECK_MESSAGE(path);
    cop_json_release(&root);
    unlink(path);
    CHECK_STATUS(cop_json_load(path, &root), COP_ERR_IO);
    CHECK_MESSAGE(path);
    cop_json_release(&root);
    CHECK_STATUS(cop_json_load("/tmp", &root), COP_ERR_IO);
    CHECK_MESSAGE("/tmp: cannot be read");
    cop_json_release(&root);
}

static void test_unknown_keys_are_named(void) {
    cop_json root = parse("{\"alpha\": 1, \"bet\\na\": 2}");
    CHECK_OK(COP_JSON_ONLY(&root, "bet\na", "alpha", "gamma"));
    CHECK_STATUS(COP_JSON_ONLY(&root, "alpha", "gamma"), COP_ERR_CONFIG);
    CHECK_TEXT(cop_status_message(),
               "x.json: \"bet?a\" is not a known key; known are: alpha, gamma");
    CHECK(cop_json_has(&root, "alpha") && !cop_json_has(&root, "gamma"));
    cop_json_release(&root);
}

static void test_integers(void) {
    cop_json root = parse("{\"a\": 5, \"neg\": -5, \"real\": 5.0, \"text\": \"5\", \"null\": null,"
                          " \"zero\": 0, \"big\": 9223372036854775807}");
    const cop_json_presence need = COP_JSON_REQUIRED;
    uint32_t u32 = 77;
    uint64_t u64 = 77;
    int64_t i64 = 77;
    CHECK_OK(cop_json_u32(&root, "a", 5, 5, need, &u32));
    CHECK_EQ(u32, 5);
    CHECK_OK(cop_json_u32(&root, "zero", 0, 5, need, &u32));
    CHECK_EQ(u32, 0);
    CHECK_OK(cop_json_u32(&root, "a", 0, 9, need, &u32));
    CHECK_OK(cop_json_u64(&root, "big", 0, UINT64_MAX, need, &u64));
    CHECK(u64 == INT64_MAX);
    CHECK_OK(cop_json_i64(&root, "neg", -5, -5, need, &i64));
    CHECK_EQ(i64, -5);
    CHECK_STATUS(cop_json_u32(&root, "a", 6, 9, need, &u32), COP_ERR_CONFIG);
    CHECK_TEXT(cop_status_message(), "x.json: \"a\" is 5; give an integer from 6 to 9");
    CHECK_STATUS(cop_json_u32(&root, "a", 0, 4, need, &u32), COP_ERR_CONFIG);
    CHECK_STATUS(cop_json_u32(&root, "neg", 0, 4, need, &u32), COP_ERR_CONFIG);
    CHECK_STATUS(cop_json_u64(&root, "neg", 0, UINT64_MAX, need, &u64), COP_ERR_CONFIG);
    CHECK_STATUS(cop_json_u32(&root, "big", 0, UINT32_MAX, need, &u32), COP_ERR_CONFIG);
    CHECK_STATUS(cop_json_u32(&root, "real", 0, 9, need, &u32), COP_ERR_CONFIG);
    CHECK_MESSAGE("\"real\" is a number with a fraction");
    CHECK_STATUS(cop_json_u32(&root, "text", 0, 9, need, &u32), COP_ERR_CONFIG);
    CHECK_MESSAGE("is a string; give an integer from 0 to 9");
    CHECK_STATUS(cop_json_u32(&root, "null", 0, 9, COP_JSON_OPTIONAL, &u32), COP_ERR_CONFIG);
    CHECK_MESSAGE("\"null\" is null");
    CHECK_STATUS(cop_json_u32(&root, "gone", 0, 9, need, &u32), COP_ERR_CONFIG);
    CHECK_MESSAGE("\"gone\" is missing; give an integer from 0 to 9");
    CHECK_STATUS(cop_json_u64(&root, "gone", 0, 9, need, &u64), COP_ERR_CONFIG);
    CHECK_EQ(u32, 5);
    u64 = UINT64_MAX;
    CHECK_OK(cop_json_u32(&root, "gone", 0, 9, COP_JSON_OPTIONAL, &u32));
    CHECK_OK(cop_json_u64(&root, "gone", 0, 9, COP_JSON_OPTIONAL, &u64));
    CHECK_OK(cop_json_i64(&root, "gone", 0, 9, COP_JSON_OPTIONAL, &i64));
    CHECK(u32 == 5 && u64 == UINT64_MAX && i64 == -5);
    cop_json_release(&root);
}

static void test_numbers_booleans_texts_choices(void) {
    static const char *const names[] = {"red", "green", NULL};
    cop_json root = parse("{\"half\": 0.5, \"two\": 2, \"yes\": true, \"text\": \"green\","
                          " \"empty\": \"\", \"odd\": \"b\\tc\"}");
    const cop_json_presence need = COP_JSON_REQUIRED;
    double real = 7;
    bool flag = false;
    const char *text = "kept";
    uint32_t choice = 9;
    CHECK_OK(cop_json_f64(&root, "half", 0.5, 0.5, need, &real));
    CHECK(real == 0.5);
    CHECK_OK(cop_json_f64(&root, "two", 0, 3, need, &real));
    CHECK(real == 2);
    CHECK_STATUS(cop_json_f64(&root, "half", 0.6, 3, need, &real), COP_ERR_CONFIG);
    CHECK_TEXT(cop_status_message(), "x.json: \"half\" is 0.5; give a number from 0.6 to 3");
    CHECK_STATUS(cop_json_f64(&root, "half", 0, 0.4, need, &real), COP_ERR_CONFIG);
    CHECK_STATUS(cop_json_f64(&root, "yes", 0, 3, need, &real), COP_ERR_CONFIG);
    CHECK_OK(cop_json_f64(&root, "gone", 0, 3, COP_JSON_OPTIONAL, &real));
    CHECK(real == 2);
    CHECK_OK(cop_json_bool(&root, "yes", need, &flag));
    CHECK(flag);
    CHECK_STATUS(cop_json_bool(&root, "two", need, &flag), COP_ERR_CONFIG);
    CHECK_MESSAGE("\"two\" is an integer; give true or false");
    CHECK_STATUS(cop_json_bool(&root, "gone", need, &flag), COP_ERR_CONFIG);
    CHECK_OK(cop_json_bool(&root, "gone", COP_JSON_OPTIONAL, &flag));
    CHECK_OK(cop_json_text(&root, "gone", COP_JSON_OPTIONAL, &text));
    CHECK_TEXT(text, "kept");
    CHECK_OK(cop_json_text(&root, "text", need, &text));
    CHECK_TEXT(text, "green");
    CHECK_STATUS(cop_json_text(&root, "empty", need, &text), COP_ERR_CONFIG);
    CHECK_MESSAGE("\"empty\" is empty");
    CHECK_STATUS(cop_json_text(&root, "two", need, &text), COP_ERR_CONFIG);
    CHECK_OK(cop_json_choice(&root, "text", names, need, &choice));
    CHECK_EQ(choice, 1);
    CHECK_STATUS(cop_json_choice(&root, "odd", names, need, &choice), COP_ERR_CONFIG);
    CHECK_TEXT(cop_status_message(), "x.json: \"odd\" is 'b?c'; give one of: red, green");
    CHECK_STATUS(cop_json_choice(&root, "two", names, need, &choice), COP_ERR_CONFIG);
    CHECK_OK(cop_json_choice(&root, "gone", names, COP_JSON_OPTIONAL, &choice));
    CHECK_EQ(choice, 1);
    cop_json_release(&root);
}

static void test_children_know_their_place(void) {
    cop_json root = parse("{\"sweep\": {\"cells\": [{\"n\": 1}, {\"n\": 0}], \"ids\": [3, -4]}}");
    cop_json sweep, cells, ids, none, item;
    uint32_t n = 0;
    int64_t id = 0;
    CHECK_OK(cop_json_object(&root, "sweep", COP_JSON_REQUIRED, &sweep));
    CHECK_OK(cop_json_array(&sweep, "cells", COP_JSON_REQUIRED, &cells));
    CHECK_EQ(cop_json_count(&cells), 2);
    item = cop_json_at(&cells, 1);
    CHECK_STATUS(cop_json_u32(&item, "n", 1, 2, COP_JSON_REQUIRED, &n), COP_ERR_CONFIG);
    CHECK_TEXT(cop_status_message(),
               "x.json: \"sweep.cells[1].n\" is 0; give an integer from 1 to 2");
    CHECK_STATUS(COP_JSON_ONLY(&item, "m"), COP_ERR_CONFIG);
    CHECK_MESSAGE("\"sweep.cells[1].n\" is not a known key; known are: m");
    CHECK_STATUS(cop_json_fail(&item, NULL, "is odd"), COP_ERR_CONFIG);
    CHECK_TEXT(cop_status_message(), "x.json: \"sweep.cells[1]\" is odd");
    CHECK_STATUS(cop_json_fail(&root, NULL, "is %d", 3), COP_ERR_CONFIG);
    CHECK_TEXT(cop_status_message(), "x.json: is 3");
    CHECK_OK(cop_json_array(&sweep, "ids", COP_JSON_REQUIRED, &ids));
    item = cop_json_at(&ids, 1);
    CHECK_OK(cop_json_i64(&item, NULL, -9, 9, COP_JSON_REQUIRED, &id));
    CHECK_EQ(id, -4);
    CHECK_STATUS(cop_json_u32(&item, NULL, 0, 9, COP_JSON_REQUIRED, &n), COP_ERR_CONFIG);
    CHECK_MESSAGE("\"sweep.ids[1]\" is -4");
    CHECK_OK(cop_json_array(&sweep, "gone", COP_JSON_OPTIONAL, &none));
    CHECK(!none.value);
    CHECK_EQ(cop_json_count(&none), 0);
    CHECK_OK(cop_json_object(&sweep, "gone", COP_JSON_OPTIONAL, &none));
    CHECK(!none.value && !cop_json_has(&none, "n"));
    CHECK_OK(cop_json_u32(&none, "n", 0, 9, COP_JSON_OPTIONAL, &n));
    CHECK_STATUS(cop_json_object(&root, "gone", COP_JSON_REQUIRED, &none), COP_ERR_CONFIG);
    CHECK_MESSAGE("\"gone\" is missing; give an object");
    CHECK_STATUS(cop_json_array(&root, "sweep", COP_JSON_REQUIRED, &none), COP_ERR_CONFIG);
    CHECK_MESSAGE("\"sweep\" is an object; give an array");
    CHECK_STATUS(cop_json_object(&sweep, "ids", COP_JSON_OPTIONAL, &none), COP_ERR_CONFIG);
    cop_json_release(&root);
}

int main(void) {
    RUN(test_what_is_no_object_is_refused);
    RUN(test_files);
    RUN(test_unknown_keys_are_named);
    RUN(test_integers);
    RUN(test_numbers_booleans_texts_choices);
    RUN(test_children_know_their_place);
    return check_report();
}
