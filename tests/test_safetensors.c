/* The safetensors reader: what it reads, and files that were made to hurt it. */
#include <unistd.h>

#include "base/memory.h"
#include "check.h"
#include "model/safetensors.h"
#include "ref/time_limit.h"

typedef struct image {
    uint8_t *data;
    size_t bytes;
} image;

/* The header as it is, behind its length, and n bytes of data: 0, 1, 2, .. */
static image make(const char *header, size_t n) {
    size_t length = strlen(header);
    image out = {malloc(8 + length + n + 1), 8 + length + n};
    for (size_t i = 0; i < 8; i++)
        out.data[i] = (uint8_t)((uint64_t)length >> (8 * i));
    memcpy(out.data + 8, header, length);
    for (size_t i = 0; i < n; i++)
        out.data[8 + length + i] = (uint8_t)i;
    return out;
}

/* Opens a copy with nothing behind its end, in the time that a hostile file may take. */
static cop_status open_bytes(const uint8_t *data, size_t bytes, cop_safetensors **out,
                             uint8_t **copy) {
    *copy = malloc(bytes ? bytes : 1);
    memcpy(*copy, data, bytes);
    double before = cpu_seconds();
    cop_status status = cop_safetensors_open_memory(*copy, bytes, out);
    CHECK(cpu_seconds() - before < time_limit_s);
    return status;
}

static const char good[] =
    "{\"__metadata__\":{\"format\":\"pt\",\"quote\\\"\":\"\\u00e9\"}, "
    "\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[3,27]},"
    "\"b\":{\"shape\":[3],\"dtype\":\"U8\",\"data_offsets\":[0,3]},"
    "\"none\":{\"dtype\":\"BF16\",\"shape\":[0,7],\"data_offsets\":[27,27]},"
    "\"h\xc3\xa9\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[27,29]}}   ";

static void test_reads_what_the_format_has(void) {
    image file = make(good, 29);
    float values[6] = {1.5f, -2, 0, 1e9f, 3, -0.25f};
    memcpy(file.data + file.bytes - 26, values, sizeof values); /* not aligned */
    memcpy(file.data + file.bytes - 2, "\x00\x3c", 2);          /* 1.0 in half precision */
    cop_safetensors *st = NULL;
    uint8_t *copy;
    CHECK_OK(open_bytes(file.data, file.bytes, &st, &copy));
    CHECK_EQ(cop_safetensors_count(st), 4);
    const cop_safetensors_tensor *w = cop_safetensors_find(st, "w");
    CHECK(w && w->n_dims == 2 && w->dims[0] == 2 && w->dims[1] == 3 && w->values == 6);
    float read[6];
    CHECK_OK(cop_safetensors_read(st, w, read));
    CHECK(memcmp(read, values, sizeof values) == 0);
    const cop_safetensors_tensor *h = cop_safetensors_find(st, "h\xc3\xa9");
    CHECK(h && h->n_dims == 0 && h->values == 1);
    CHECK_OK(cop_safetensors_read(st, h, read));
    CHECK(read[0] == 1);
    CHECK(cop_safetensors_find(st, "none")->values == 0);
    CHECK(!cop_safetensors_find(st, "") && !cop_safetensors_find(st, "ww"));
    CHECK_STATUS(cop_safetensors_read(st, cop_safetensors_find(st, "b"), read),
                 COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("is U8");
    for (size_t i = 1; i < 4; i++) /* by name */
        CHECK(memcmp(cop_safetensors_at(st, i - 1)->name.data, cop_safetensors_at(st, i)->name.data,
                     1) < 0);
    cop_safetensors_close(st);
    free(copy);
    free(file.data);
}

static void test_every_truncation(void) {
    image file = make(good, 29);
    for (size_t bytes = 0; bytes < file.bytes; bytes++) {
        cop_safetensors *st = NULL;
        uint8_t *copy;
        cop_status_fail(COP_OK, "%s", "");
        CHECK_STATUS(open_bytes(file.data, bytes, &st, &copy), COP_ERR_FORMAT);
        CHECK(!st && cop_status_message()[0]);
        free(copy);
    }
    free(file.data);
}

/* Every byte of a header replaced by a few others: accepted or named, never more. */
static void test_every_byte_changed(void) {
    static const uint8_t others[] = {0,   '"', '{', '}',  '[',  ']', ',',
                                     '9', '-', '.', 0xff, 0x80, ' '};
    image file = make(good, 29);
    uint32_t accepted = 0, refused = 0;
    for (size_t at = 0; at < file.bytes - 29; at++) {
        for (size_t i = 0; i < sizeof others; i++) {
            cop_safetensors *st = NULL;
            uint8_t *copy, kept = file.data[at];
            file.data[at] = others[i];
            cop_status status = open_bytes(file.data, file.bytes, &st, &copy);
            CHECK(status == COP_OK || status == COP_ERR_FORMAT);
            accepted += status == COP_OK;
            refused += status != COP_OK;
            for (size_t t = 0; st && t < cop_safetensors_count(st); t++) {
                const cop_safetensors_tensor *tensor = cop_safetensors_at(st, t);
                CHECK(tensor->bytes == 0 || (tensor->data >= copy + 8 &&
                                             tensor->data + tensor->bytes <= copy + file.bytes));
            }
            cop_safetensors_close(st);
            free(copy);
            file.data[at] = kept;
        }
    }
    CHECK(accepted > 100 && refused > 2000);
    free(file.data);
}

#define ONE(shape, offsets)                                                                        \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void test_hostile_headers(void) {
    static const struct {
        const char *header;
        size_t data;
        const char *message;
    } cases[] = {
        {ONE("[2]", "[0,8]"), 8, NULL},
        {"[]", 0, "does not begin with a brace"},
        {"{} x", 0, "something follows"},
        {"{}", 4, "the last 4 bytes belong to no tensor"},
        {ONE("[2]", "[0,8]"), 7, "beyond the end of the file"},
        {ONE("[2]", "[0,8]"), 9, "the last 1 bytes belong to no tensor"},
        {ONE("[2]", "[8,0]"), 8, "ends before it begins"},
        {ONE("[2]", "[4,12]"), 12, "a hole before"},
        {ONE("[3]", "[0,8]"), 8, "do not give the bytes"},
        {ONE("[-2]", "[0,8]"), 8, "not negative"},
        {ONE("[2.0]", "[0,8]"), 8, "not whole"},
        {ONE("[2e0]", "[0,8]"), 8, "not whole"},
        {ONE("[02]", "[0,8]"), 8, "begins with 0"},
        {ONE("[9223372036854775808]", "[0,8]"), 8, "larger than 2^63"},
        {ONE("[99999999999999999999999]", "[0,8]"), 8, "larger than 2^63"},
        {ONE("[4294967296,4294967296]", "[0,0]"), 0, "product of its dimensions"}, /* wraps to 0 */
        {ONE("[4611686018427387904]", "[0,0]"), 0, "do not give"}, /* bytes wrap to 0 */
        {ONE("[4611686018427387906]", "[0,8]"), 8, "do not give"}, /* .. and to 8 */
        {ONE("[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, "too long"},
        {ONE("[2]", "[0]"), 8, "two data_offsets"},
        {ONE("[2]", "[0,8,8]"), 8, "too long"},
        {ONE("[[2]]", "[0,8]"), 8, "a number"},
        {ONE("[2,]", "[0,8]"), 8, "a number"},
        {ONE("null", "[0,8]"), 8, "a list of numbers"},
        {"{\"a\":{\"dtype\":\"F33\",\"shape\":[],\"data_offsets\":[0,4]}}", 4,
         "unknown dtype 'F33'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, "it needs dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0, "stands twice"},
        {"{\"a\":{\"dtype\":\"F32\",\"x\":1}}", 0, "not dtype"},
        {"{\"a\":[]}", 0, "description"},
        {"{\"a\\u0062\":{}}", 0, "an escape"},
        {"{\"a\xff\":{}}", 0, "not UTF-8"},
        {"{\"a\xc0\x80\":{}}", 0, "not UTF-8"},     /* overlong */
        {"{\"a\xed\xa0\x80\":{}}", 0, "not UTF-8"}, /* a surrogate */
        {"{\"a\x01\":{}}", 0, "control"},
        {"{\"\":{}}", 0, "empty"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "string was expected"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice"},
        {"{\"__metadata__\":{\"a\":\"\\", 0, "broken escape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         2, "two tensors have this name"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, "overlaps"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        image file = make(cases[i].header, cases[i].data);
        cop_safetensors *st = NULL;
        uint8_t *copy;
        cop_status status = open_bytes(file.data, file.bytes, &st, &copy);
        if (cases[i].message) {
            if (status != COP_ERR_FORMAT)
                fprintf(stderr, "%s\n", cases[i].header);
            CHECK_EQ(status, COP_ERR_FORMAT);
            CHECK_MESSAGE(cases[i].message);
            CHECK(!st);
        } else {
            CHECK_OK(status);
        }
        cop_safetensors_close(st);
        free(copy);
        free(file.data);
    }
}

static void test_header_lengths(void) {
    static const uint64_t lengths[] = {0, 1, 100, UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 63};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        image file = make(ONE("[1]", "[0,4]"), 4);
        for (size_t b = 0; b < 8; b++)
            file.data[b] = (uint8_t)(lengths[i] >> (8 * b));
        cop_safetensors *st = NULL;
        uint8_t *copy;
        CHECK_STATUS(open_bytes(file.data, file.bytes, &st, &copy), COP_ERR_FORMAT);
        CHECK_MESSAGE("the header's length");
        free(copy);
        free(file.data);
    }
}

/* Nesting, and as many tensors as fit into a large header, backwards. */
static void test_large_headers(void) {
    enum { DEEP = 1 << 20, MANY = 65536, TOO_MANY = 65537 };
    char *deep = malloc(DEEP + 1);
    memset(deep, '[', DEEP);
    memcpy(deep, "{\"a\":", 5);
    deep[DEEP] = 0;
    image file = make(deep, 0);
    cop_safetensors *st = NULL;
    uint8_t *copy;
    CHECK_STATUS(open_bytes(file.data, file.bytes, &st, &copy), COP_ERR_FORMAT);
    free(copy);
    free(file.data);
    free(deep);
    char *many = malloc((size_t)TOO_MANY * 96), *at = many;
    at += sprintf(at, "{");
    for (int i = MANY; i-- > 0;)
        at += sprintf(at, "\"%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}%s", i,
                      i, i + 1, i ? "," : "}");
    file = make(many, MANY);
    CHECK_OK(open_bytes(file.data, file.bytes, &st, &copy));
    CHECK_EQ(cop_safetensors_count(st), MANY);
    CHECK(*cop_safetensors_find(st, "12345")->data == (uint8_t)12345);
    cop_safetensors_close(st);
    free(copy);
    free(file.data);
    strcpy(at - 1, ",\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    file = make(many, MANY);
    CHECK_STATUS(open_bytes(file.data, file.bytes, &st, &copy), COP_ERR_FORMAT);
    CHECK_MESSAGE("more than 65536");
    free(copy);
    free(file.data);
    free(many);
}

static void test_files(void) {
    char path[] = "/tmp/coppice-safetensors-XXXXXX";
    int file = mkstemp(path);
    CHECK(file >= 0);
    cop_safetensors *st = NULL;
    CHECK_STATUS(cop_safetensors_open(path, &st), COP_ERR_FORMAT);
    CHECK_MESSAGE("is empty");
    image whole = make(ONE("[2]", "[0,8]"), 8);
    CHECK(write(file, whole.data, whole.bytes) == (ssize_t)whole.bytes);
    CHECK_OK(cop_safetensors_open(path, &st));
    float read[2];
    CHECK_OK(cop_safetensors_read(st, cop_safetensors_find(st, "a"), read));
    CHECK(ftruncate(file, 20) == 0); /* under the mapping */
    CHECK_STATUS(cop_safetensors_read(st, cop_safetensors_find(st, "a"), read), COP_ERR_IO);
    CHECK_MESSAGE("has shrunk");
    cop_safetensors_close(st);
    close(file);
    unlink(path);
    free(whole.data);
    CHECK_STATUS(cop_safetensors_open(path, &st), COP_ERR_IO);
    CHECK_STATUS(cop_safetensors_open("/tmp", &st), COP_ERR_IO);
    CHECK_MESSAGE("not a regular file");
}

int main(void) {
    RUN(test_reads_what_the_format_has);
    RUN(test_every_truncation);
    RUN(test_every_byte_changed);
    RUN(test_hostile_headers);
    RUN(test_header_lengths);
    RUN(test_large_headers);
    RUN(test_files);
    return check_report();
}
