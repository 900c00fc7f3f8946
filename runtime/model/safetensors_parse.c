#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/safetensors_internal.h"

/* So many tensors need 12 MB at most while their table grows. */
enum { NAME_MAX_BYTES = 1024, TYPE_MAX_BYTES = 16, TENSORS_MAX = 65536 };

typedef struct reader { /* of the header; `at` never passes `end` */
    cop_safetensors *file;
    const uint8_t *at, *end;
} reader;

static uint64_t where(const reader *r) {
    return (uint64_t)(r->at - r->file->data);
}

static cop_status bad(const reader *r, const char *what) {
    return COP_FAIL(COP_ERR_FORMAT, "%s: the header at byte %" PRIu64 ": %s", r->file->source,
                    where(r), what);
}

static void skip_space(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
}

/* Whether the next thing is `c`, which is then behind. */
static bool next_is(reader *r, char c) {
    skip_space(r);
    if (r->at == r->end || *r->at != (uint8_t)c)
        return false;
    r->at++;
    return true;
}

static cop_status expect(reader *r, char c, const char *what) {
    return next_is(r, c) ? COP_OK : bad(r, what);
}

/* Bytes of the UTF-8 character at `s`; 0: not one. Overlong forms, surrogates and what lies beyond
 * Unicode are none. */
static size_t utf8_length(const uint8_t *s, size_t left) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    if (n <= 1)
        return n;
    if (n > left)
        return 0;
    uint32_t code = s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (s[i] >> 6 != 2)
            return 0;
        code = code << 6 | (s[i] & 0x3fu);
    }
    return code >= least[n] && code <= 0x10ffff && code >> 11 != 0x1b ? n : 0;
}

/* A string; `escapes` says whether it may hold any, which are then left as they are. */
static cop_status take_text(reader *r, bool escapes, cop_text *out) {
    COP_TRY(expect(r, '"', "a string was expected"));
    const uint8_t *from = r->at;
    while (r->at < r->end && *r->at != '"') {
        if (*r->at < 0x20)
            return bad(r, "a control character in a string");
        if (*r->at == '\\') {
            if (!escapes)
                return bad(r, "an escape in a name; names are read as they stand");
            if (++r->at == r->end || *r->at < 0x20 || *r->at >= 0x80)
                return bad(r, "a broken escape in a string");
            r->at++;
            continue;
        }
        size_t n = utf8_length(r->at, (size_t)(r->end - r->at));
        if (n == 0)
            return bad(r, "a string is not UTF-8");
        r->at += n;
    }
    *out = (cop_text){(const char *)from, (size_t)(r->at - from)};
    return expect(r, '"', "a string does not end");
}

static cop_status take_number(reader *r, uint64_t *out) {
    skip_space(r);
    const uint8_t *from = r->at;
    uint64_t value = 0;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
        uint64_t digit = *r->at - '0';
        if (value > ((uint64_t)INT64_MAX - digit) / 10)
            return bad(r, "a number is larger than 2^63 - 1");
        value = value * 10 + digit;
        r->at++;
    }
    if (r->at == from)
        return bad(r, "a number that is not negative was expected");
    if (r->at - from > 1 && *from == '0')
        return bad(r, "a number begins with 0");
    if (r->at < r->end && (*r->at == '.' || *r->at == 'e' || *r->at == 'E'))
        return bad(r, "a number is not whole");
    *out = value;
    return COP_OK;
}

static cop_status take_numbers(reader *r, uint64_t *out, uint32_t max, uint32_t *n) {
    COP_TRY(expect(r, '[', "a list of numbers was expected"));
    *n = 0;
    if (next_is(r, ']'))
        return COP_OK;
    do {
        if (*n == max)
            return bad(r, "a list of numbers is too long");
        COP_TRY(take_number(r, &out[(*n)++]));
    } while (next_is(r, ','));
    return expect(r, ']', "a list of numbers does not end");
}

static bool text_is(cop_text text, const char *word) {
    return text.bytes == strlen(word) && memcmp(text.data, word, text.bytes) == 0;
}

static cop_status take_type(reader *r, cop_safetensors_type *type, uint64_t *width) {
    static const uint8_t widths[] = {
#define TYPE_WIDTH(name, bytes) bytes,
        COP_SAFETENSORS_TYPES(TYPE_WIDTH)
#undef TYPE_WIDTH
    };
    cop_text text;
    COP_TRY(take_text(r, false, &text));
    for (uint32_t i = 0; i < sizeof widths; i++) {
        if (!text_is(text, cop_safetensors_type_name((cop_safetensors_type)i)))
            continue;
        *type = (cop_safetensors_type)i;
        *width = widths[i];
        return COP_OK;
    }
    return COP_FAIL(COP_ERR_FORMAT, "%s: the header at byte %" PRIu64 ": unknown dtype '%.*s'",
                    r->file->source, where(r),
                    (int)(text.bytes < TYPE_MAX_BYTES ? text.bytes : TYPE_MAX_BYTES), text.data);
}

static cop_status fail_tensor(const reader *r, const cop_safetensors_tensor *t, const char *what) {
    return COP_FAIL(COP_ERR_FORMAT, "%s: tensor '%.*s': %s", r->file->source, (int)t->name.bytes,
                    t->name.data, what);
}

/* Shape, type and offsets against each other and the file. */
static cop_status check_tensor(const reader *r, cop_safetensors_tensor *t, uint64_t width,
                               const uint64_t offsets[2]) {
    uint64_t data_bytes = r->file->bytes - r->file->data_at;
    t->values = 1;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (__builtin_mul_overflow(t->values, t->dims[i], &t->values))
            return fail_tensor(r, t, "the product of its dimensions is larger than 2^64");
    }
    if (offsets[1] < offsets[0])
        return fail_tensor(r, t, "its data ends before it begins");
    if (offsets[1] > data_bytes)
        return fail_tensor(r, t, "its data lies beyond the end of the file: truncated or damaged");
    t->data = r->file->data + r->file->data_at + offsets[0];
    t->bytes = offsets[1] - offsets[0];
    uint64_t need;
    if (__builtin_mul_overflow(t->values, width, &need) || need != t->bytes)
        return fail_tensor(r, t, "its shape and type do not give the bytes that it has");
    return COP_OK;
}

/* {"dtype": .., "shape": .., "data_offsets": ..} in any order, each once. */
static cop_status take_tensor(reader *r, cop_safetensors_tensor *t) {
    uint64_t width = 0, offsets[2] = {0};
    uint32_t seen = 0, n_offsets = 0;
    COP_TRY(expect(r, '{', "a tensor's description was expected"));
    do {
        cop_text key;
        COP_TRY(take_text(r, false, &key));
        uint32_t bit = text_is(key, "dtype")          ? 1
                       : text_is(key, "shape")        ? 2
                       : text_is(key, "data_offsets") ? 4
                                                      : 0;
        if (bit == 0)
            return bad(r, "a key that is not dtype, shape or data_offsets");
        if (seen & bit)
            return bad(r, "a key of a tensor stands twice");
        seen |= bit;
        COP_TRY(expect(r, ':', "a colon was expected"));
        if (bit == 1)
            COP_TRY(take_type(r, &t->type, &width));
        else if (bit == 2)
            COP_TRY(take_numbers(r, t->dims, COP_SAFETENSORS_DIMS, &t->n_dims));
        else
            COP_TRY(take_numbers(r, offsets, 2, &n_offsets));
    } while (next_is(r, ','));
    COP_TRY(expect(r, '}', "a tensor's description does not end"));
    if (seen != 7 || n_offsets != 2)
        return fail_tensor(r, t, "it needs dtype, shape and two data_offsets");
    return check_tensor(r, t, width, offsets);
}

static cop_status skip_metadata(reader *r) {
    COP_TRY(expect(r, '{', "__metadata__ is an object of strings"));
    if (next_is(r, '}'))
        return COP_OK;
    do {
        cop_text text;
        COP_TRY(take_text(r, true, &text));
        COP_TRY(expect(r, ':', "a colon was expected"));
        COP_TRY(take_text(r, true, &text));
    } while (next_is(r, ','));
    return expect(r, '}', "__metadata__ does not end");
}

static cop_status take_entry(reader *r, bool *metadata) {
    cop_text name;
    COP_TRY(take_text(r, false, &name));
    COP_TRY(expect(r, ':', "a colon was expected"));
    if (text_is(name, "__metadata__")) {
        if (*metadata)
            return bad(r, "__metadata__ stands twice");
        *metadata = true;
        return skip_metadata(r);
    }
    if (name.bytes == 0 || name.bytes > NAME_MAX_BYTES)
        return bad(r, "a name is empty or longer than 1024 bytes");
    cop_safetensors *file = r->file;
    if (file->n_tensors == TENSORS_MAX)
        return bad(r, "more than 65536 tensors");
    COP_TRY(cop_grow(&file->tensors, &file->capacity, file->n_tensors + 1, sizeof *file->tensors));
    cop_safetensors_tensor *t = &file->tensors[file->n_tensors];
    *t = (cop_safetensors_tensor){.name = name};
    COP_TRY(take_tensor(r, t));
    file->n_tensors++;
    return COP_OK;
}

static int by_place(const void *a, const void *b) {
    const cop_safetensors_tensor *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}

static int by_name(const void *a, const void *b) {
    const cop_text *x = &((const cop_safetensors_tensor *)a)->name;
    const cop_text *y = &((const cop_safetensors_tensor *)b)->name;
    int order = memcmp(x->data, y->data, x->bytes < y->bytes ? x->bytes : y->bytes);
    return order ? order : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The tensors cover the data from its begin to the file's end. */
static cop_status check_cover(const reader *r) {
    cop_safetensors *file = r->file;
    const uint8_t *at = file->data + file->data_at;
    if (file->n_tensors > 0)
        qsort(file->tensors, file->n_tensors, sizeof *file->tensors, by_place);
    for (size_t i = 0; i < file->n_tensors; i++) {
        const cop_safetensors_tensor *t = &file->tensors[i];
        if (t->data < at)
            return fail_tensor(r, t, "its data overlaps another tensor's");
        if (t->data > at)
            return fail_tensor(r, t, "there is a hole before its data");
        at += t->bytes;
    }
    if (at != file->data + file->bytes)
        return COP_FAIL(COP_ERR_FORMAT, "%s: the last %" PRIu64 " bytes belong to no tensor",
                        file->source, (uint64_t)(file->data + file->bytes - at));
    if (file->n_tensors > 0)
        qsort(file->tensors, file->n_tensors, sizeof *file->tensors, by_name);
    for (size_t i = 1; i < file->n_tensors; i++) {
        if (by_name(&file->tensors[i - 1], &file->tensors[i]) == 0)
            return fail_tensor(r, &file->tensors[i], "two tensors have this name");
    }
    return COP_OK;
}

cop_status cop__safetensors_parse(cop_safetensors *file) {
    if (file->bytes < 8)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: has %" PRIu64 " bytes; a safetensors file has 8 at "
                        "least: it is truncated",
                        file->source, file->bytes);
    uint64_t header = 0;
    for (uint32_t i = 0; i < 8; i++)
        header |= (uint64_t)file->data[i] << (8 * i);
    if (header < 2 || header > file->bytes - 8)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: the header's length, bytes 0 to 7, is %" PRIu64 " and %" PRIu64
                        " bytes follow: not a safetensors file, or truncated",
                        file->source, header, file->bytes - 8);
    file->data_at = 8 + header;
    reader r = {.file = file, .at = file->data + 8, .end = file->data + file->data_at};
    if (*r.at != '{')
        return bad(&r, "it does not begin with a brace: not a safetensors file");
    r.at++;
    bool metadata = false;
    if (!next_is(&r, '}')) {
        do {
            COP_TRY(take_entry(&r, &metadata));
        } while (next_is(&r, ','));
        COP_TRY(expect(&r, '}', "the header's object does not end"));
    }
    skip_space(&r);
    if (r.at != r.end)
        return bad(&r, "something follows the header's object");
    return check_cover(&r);
}
