#include "check.h"

#include "model/tokenizer.h"

/* Pushes text in pieces of `step` bytes and checks what comes out. */
static void check_stream(const char *text, size_t bytes, size_t step, const char *want) {
    cop_utf8_stream stream = {0};
    char out[256];
    size_t n = 0;
    for (size_t at = 0; at < bytes; at += step) {
        size_t part = bytes - at < step ? bytes - at : step;
        size_t got = cop_utf8_stream_push(&stream, text + at, part, false, out + n);
        CHECK(got <= 3 * part + COP_UTF8_SLACK);
        n += got;
    }
    n += cop_utf8_stream_push(&stream, NULL, 0, true, out + n);
    out[n] = 0;
    CHECK_TEXT(out, want);
    CHECK_EQ(stream.n_held, 0);
}

static void test_stream_holds_back_split_characters(void) {
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},
        {"é漢😀", "é漢😀"},
        {"a\xFF"
         "b",
         "a\uFFFDb"},
        {"\xE2\x82", "\uFFFD"}, /* cut at the end: one for the whole beginning */
        {"\xE2\x82"
         "a",
         "\uFFFD"
         "a"},
        {"\xE2\x82\xE2\x82\xAC", "\uFFFD€"},
        {"\xF0\x9F\x98", "\uFFFD"},
        {"\xC0\xAF", "\uFFFD\uFFFD"}, /* overlong */
        {"\xE0\x80\xAF", "\uFFFD\uFFFD\uFFFD"},
        {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"}, /* a surrogate */
        {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
        {"\xF0\x9F\xF0\x9F\x98\x80", "\uFFFD😀"},
        {"\x80\xBF", "\uFFFD\uFFFD"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t step = 1; step <= 5; step++)
            check_stream(cases[i].in, strlen(cases[i].in), step, cases[i].out);
    }
    cop_utf8_stream stream = {0};
    char out[32];
    CHECK_EQ(cop_utf8_stream_push(&stream, "\xF0\x9F\x98", 3, false, out), 0);
    CHECK_EQ(cop_utf8_stream_push(&stream, "\x80", 1, false, out), 4);
}

int main(void) {
    RUN(test_stream_holds_back_split_characters);
    return check_report();
}
