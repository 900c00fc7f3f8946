#include "check.h"
#include "model/gguf.h"
#include "ref/gguf_writer.h"
#include "ref/time_limit.h"

/* A change to the file of every kind: to the writer's parts, or to bytes of the image. */
typedef struct damage {
    void (*parts)(gguf_writer *w);
    size_t at; /* or bytes there.. */
    uint64_t value;
    uint32_t width; /* ..replaced by this */
    cop_status status;
    const char *message;
} damage;

static void long_key(gguf_writer *w) {
    char *name = calloc(65537, 1);
    memset(name, 'k', 65536);
    gguf_writer_u8(w, name, 1);
    free(name);
}
static void empty_key(gguf_writer *w) {
    gguf_writer_u8(w, "", 1);
}
static void nul_in_key(gguf_writer *w) {
    gguf_writer_find_key(w, "text")->name[1] = '\0';
}
static void duplicate_key(gguf_writer *w) {
    memcpy(gguf_writer_find_key(w, "u16")->name, "i16", 3);
}
static void unknown_value_type(gguf_writer *w) {
    gguf_writer_find_key(w, "u32")->type = 13;
}
static void array_as_scalar_of_no_type(gguf_writer *w) {
    gguf_writer_find_key(w, "u32")->type = UINT32_MAX;
}
static void boolean_of_two(gguf_writer *w) {
    gguf_writer_find_key(w, "yes")->value[0] = 2;
}
static void patch_array(gguf_writer *w, const char *key, uint32_t type, uint64_t count) {
    gguf_writer_key *entry = gguf_writer_find_key(w, key);
    memcpy(entry->value, &type, 4);
    memcpy(entry->value + 4, &count, 8);
}
static void array_of_arrays(gguf_writer *w) {
    patch_array(w, "numbers", 9, 3);
}
static void array_of_unknown(gguf_writer *w) {
    patch_array(w, "numbers", 77, 3);
}
static void array_count_minus_one(gguf_writer *w) {
    patch_array(w, "numbers", 5, UINT64_MAX);
}
static void array_count_wraps(gguf_writer *w) {
    patch_array(w, "numbers", 5, (UINT64_C(1) << 62) + 3);
}
static void array_count_wraps_u64(gguf_writer *w) {
    patch_array(w, "numbers", 10, UINT64_C(1) << 61);
}
static void text_array_count_minus_one(gguf_writer *w) {
    patch_array(w, "texts", 8, UINT64_MAX);
}
static void text_array_count_wraps_the_table(gguf_writer *w) {
    patch_array(w, "texts", 8, (UINT64_C(1) << 60) + 3);
}
static void text_array_count_of_the_file(gguf_writer *w) {
    patch_array(w, "texts", 8, 400);
}
static void text_in_array_wraps(gguf_writer *w) {
    memset(gguf_writer_find_key(w, "texts")->value + 12, 0xff, 8);
}
static void text_length_minus_one(gguf_writer *w) {
    memset(gguf_writer_find_key(w, "text")->value, 0xff, 8);
}
static void text_length_wraps_to_small(gguf_writer *w) { /* at + length == a byte seen before */
    uint64_t length = UINT64_MAX - 100;
    memcpy(gguf_writer_find_key(w, "text")->value, &length, 8);
}
static void text_length_of_the_file(gguf_writer *w) {
    uint64_t length = 2000;
    memcpy(gguf_writer_find_key(w, "text")->value, &length, 8);
}
static void alignment_as_text(gguf_writer *w) {
    gguf_writer_text(w, "general.alignment", "32");
}
static void rename_tensor(gguf_writer *w, const char *from, const char *to) {
    gguf_writer_tensor *tensor = gguf_writer_find_tensor(w, from);
    free(tensor->name);
    tensor->name = strdup(to);
    tensor->name_bytes = strlen(to);
}
static void duplicate_tensor(gguf_writer *w) {
    rename_tensor(w, "b", "vector");
}
static void empty_tensor_name(gguf_writer *w) {
    rename_tensor(w, "b", "");
}
static void long_tensor_name(gguf_writer *w) {
    rename_tensor(w, "b", "a23456789 123456789 123456789 123456789 123456789 123456789 12345");
}
static void nul_in_tensor_name(gguf_writer *w) {
    gguf_writer_find_tensor(w, "vector")->name[3] = '\0';
}
static void no_dimensions(gguf_writer *w) {
    gguf_writer_find_tensor(w, "a")->n_dims = 0;
}
static void five_dimensions(gguf_writer *w) {
    gguf_writer_tensor *tensor = gguf_writer_find_tensor(w, "a");
    tensor->n_dims = 5;
    tensor->dims[2] = tensor->dims[3] = tensor->dims[4] = 1;
}
static void dimension_zero(gguf_writer *w) {
    gguf_writer_find_tensor(w, "a")->dims[1] = 0;
}
static void dimension_negative(gguf_writer *w) {
    gguf_writer_find_tensor(w, "vector")->dims[0] = (uint64_t)-5;
}
static void four_dimensions(gguf_writer *w, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    gguf_writer_tensor *tensor = gguf_writer_find_tensor(w, "a");
    tensor->n_dims = 4;
    tensor->dims[0] = a, tensor->dims[1] = b, tensor->dims[2] = c, tensor->dims[3] = d;
}
static void rows_wrap_to_zero(gguf_writer *w) {
    four_dimensions(w, 32, UINT64_C(1) << 32, UINT64_C(1) << 32, 1);
}
static void rows_wrap_to_three(gguf_writer *w) { /* 3 * 0xaaaa..ab == 1 mod 2^64 */
    four_dimensions(w, 64, 9, UINT64_C(0x2aaaaaaaaaaaaaab), 2 * 2);
}
static void bytes_wrap_to_zero(gguf_writer *w) { /* 2^60 blocks of 20 bytes + .. */
    four_dimensions(w, UINT64_C(1) << 61, UINT64_C(1) << 10, 1, 1);
}
static void
row_bytes_wrap(gguf_writer *w) { /* of one row: (2^63 - 32) / 32 * 20 fits, F32 * 4 not */
    gguf_writer_find_tensor(w, "vector")->dims[0] = (UINT64_C(1) << 62) + 5;
}
static void half_a_block(gguf_writer *w) {
    gguf_writer_find_tensor(w, "a")->dims[0] = 48;
}
static void type_q4_k(gguf_writer *w) {
    gguf_writer_find_tensor(w, "a")->type = 12;
}
static void type_unknown(gguf_writer *w) {
    gguf_writer_find_tensor(w, "a")->type = 4711;
}
static void type_after_the_last(gguf_writer *w) {
    gguf_writer_find_tensor(w, "a")->type = 31;
}
static void one_row_more(gguf_writer *w) {
    gguf_writer_find_tensor(w, "last")->dims[1] = 3;
}
static void offset_unaligned(gguf_writer *w) {
    gguf_writer_find_tensor(w, "last")->offset_shift = -16;
}
static void offset_overlaps(gguf_writer *w) {
    gguf_writer_find_tensor(w, "b")->offset_shift = -32;
}
static void offset_equal(gguf_writer *w) {
    gguf_writer_find_tensor(w, "b")->offset_shift = -128;
}
static void offset_leaves_a_hole(gguf_writer *w) {
    gguf_writer_tensor *last = gguf_writer_find_tensor(w, "last");
    last->dims[1] = 1; /* so that it still fits */
    gguf_writer_find_tensor(w, "vector")->dims[0] = 1;
    gguf_writer_find_tensor(w, "b")->dims[1] = 1;
}
static void offset_outside(gguf_writer *w) {
    gguf_writer_find_tensor(w, "last")->offset_shift = 32;
}
static void offset_minus_64(gguf_writer *w) { /* offset + bytes wraps to below the end */
    gguf_writer_find_tensor(w, "last")->offset_shift = -256 - 64;
}

static const damage damages[] = {
    {NULL, 0, 0x46554746, 4, COP_ERR_FORMAT, "not a GGUF file"},
    {NULL, 0, 0x47475546, 4, COP_ERR_UNSUPPORTED, "big-endian"},
    {NULL, 4, 0x03000000, 4, COP_ERR_UNSUPPORTED, "big-endian"},
    {NULL, 4, 0, 4, COP_ERR_UNSUPPORTED, "GGUF version 0"},
    {NULL, 4, 1, 4, COP_ERR_UNSUPPORTED, "GGUF version 1"},
    {NULL, 4, 4, 4, COP_ERR_UNSUPPORTED, "GGUF version 4"},
    {NULL, 8, UINT64_MAX, 8, COP_ERR_FORMAT, "count of tensors at byte 8 is -1"},
    {NULL, 8, 65537, 8, COP_ERR_FORMAT, "count of tensors at byte 8 is 65537"},
    {NULL, 8, 65536, 8, COP_ERR_FORMAT, "65536 tensors cannot fit"},
    {NULL, 8, 5, 8, COP_ERR_FORMAT, ""},
    {NULL, 16, UINT64_MAX, 8, COP_ERR_FORMAT, "count of keys at byte 16 is -1"},
    {NULL, 16, 16385, 8, COP_ERR_FORMAT, "count of keys at byte 16 is 16385"},
    {NULL, 16, 16384, 8, COP_ERR_FORMAT, "16384 keys cannot fit"},
    {NULL, 16, 19, 8, COP_ERR_FORMAT, ""},
    {NULL, 24, UINT64_MAX, 8, COP_ERR_FORMAT, "truncated"},
    {long_key, .status = COP_ERR_FORMAT, .message = "has 65536 bytes"},
    {empty_key, .status = COP_ERR_FORMAT, .message = "has 0 bytes"},
    {nul_in_key, .status = COP_ERR_FORMAT, .message = "'t?xt', holds a NUL byte"},
    {duplicate_key, .status = COP_ERR_FORMAT, .message = "key 'i16' stands there twice"},
    {unknown_value_type, .status = COP_ERR_FORMAT, .message = "key 'u32': value type 13"},
    {array_as_scalar_of_no_type, .status = COP_ERR_FORMAT, .message = "does not exist"},
    {boolean_of_two, .status = COP_ERR_FORMAT, .message = "'yes': a boolean is 2"},
    {array_of_arrays, .status = COP_ERR_UNSUPPORTED, .message = "'numbers': an array of arrays"},
    {array_of_unknown, .status = COP_ERR_FORMAT,
     .message = "an array of an unknown type (type 77)"},
    {array_count_minus_one, .status = COP_ERR_FORMAT, .message = "passes the end of the file"},
    {array_count_wraps, .status = COP_ERR_FORMAT, .message = "passes the end of the file"},
    {array_count_wraps_u64, .status = COP_ERR_FORMAT, .message = "passes the end of the file"},
    {text_array_count_minus_one, .status = COP_ERR_FORMAT,
     .message = "texts at byte 304 passes the end"},
    {text_array_count_wraps_the_table, .status = COP_ERR_FORMAT,
     .message = "texts at byte 304 passes the end"},
    {text_array_count_of_the_file, .status = COP_ERR_FORMAT,
     .message = "texts at byte 304 passes the end"},
    {text_in_array_wraps, .status = COP_ERR_FORMAT, .message = "a text of an array"},
    {text_length_minus_one, .status = COP_ERR_FORMAT, .message = "truncated"},
    {text_length_wraps_to_small, .status = COP_ERR_FORMAT, .message = "truncated"},
    {text_length_of_the_file, .status = COP_ERR_FORMAT, .message = "truncated"},
    {alignment_as_text, .status = COP_ERR_FORMAT, .message = "general.alignment' is a text"},
    {duplicate_tensor, .status = COP_ERR_FORMAT, .message = "tensor 'vector' stands there twice"},
    {empty_tensor_name, .status = COP_ERR_FORMAT, .message = "has 0 bytes"},
    {long_tensor_name, .status = COP_ERR_FORMAT, .message = "has 65 bytes"},
    {nul_in_tensor_name, .status = COP_ERR_FORMAT, .message = "'vec?or', holds a NUL byte"},
    {no_dimensions, .status = COP_ERR_FORMAT, .message = "tensor 'a': 0 dimensions"},
    {five_dimensions, .status = COP_ERR_FORMAT, .message = "tensor 'a': 5 dimensions"},
    {dimension_zero, .status = COP_ERR_FORMAT, .message = "'a': dimension 1 is 0"},
    {dimension_negative, .status = COP_ERR_FORMAT, .message = "'vector': dimension 0 is -5"},
    {rows_wrap_to_zero, .status = COP_ERR_FORMAT, .message = "passes 2^64"},
    {rows_wrap_to_three, .status = COP_ERR_FORMAT, .message = "passes 2^64"},
    {bytes_wrap_to_zero, .status = COP_ERR_FORMAT, .message = "passes 2^64"},
    {row_bytes_wrap, .status = COP_ERR_FORMAT, .message = "passes 2^64"},
    {half_a_block, .status = COP_ERR_FORMAT, .message = "rows of 48 Q4_1 values"},
    {type_q4_k, .status = COP_ERR_UNSUPPORTED, .message = "'a': values of type Q4_K (12)"},
    {type_unknown, .status = COP_ERR_UNSUPPORTED, .message = "'a': values of type unknown (4711)"},
    {type_after_the_last, .status = COP_ERR_UNSUPPORTED, .message = "type unknown (31)"},
    {one_row_more, .status = COP_ERR_FORMAT, .message = "tensor 'last': 48 bytes at offset 256"},
    {offset_unaligned, .status = COP_ERR_FORMAT, .message = "not a multiple of the alignment"},
    {offset_overlaps, .status = COP_ERR_FORMAT, .message = "tensor 'b': offset 96 overlaps"},
    {offset_equal, .status = COP_ERR_FORMAT, .message = "overlaps the tensor before it"},
    {offset_leaves_a_hole, .status = COP_ERR_FORMAT, .message = "leaves a hole before it"},
    {offset_outside, .status = COP_ERR_FORMAT, .message = "truncated or damaged"},
    {offset_minus_64, .status = COP_ERR_FORMAT, .message = "at offset 18446744073709551552"},
};

static void test_damaged_files_are_refused(void) {
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        const damage *d = &damages[i];
        cop_gguf *gguf = NULL;
        gguf_writer w = {0};
        gguf_writer_every_kind(&w);
        if (d->parts)
            d->parts(&w);
        gguf_image image = gguf_writer_finish(&w);
        memcpy(image.data + d->at, &d->value, d->width);
        double begin = cpu_seconds();
        cop_status status = cop_gguf_open_memory(image.data, image.bytes, &gguf);
        CHECK(cpu_seconds() - begin < time_limit_s);
        if (status != d->status)
            fprintf(stderr, "damage %zu (\"%s\")\n", i, d->message);
        CHECK_STATUS(status, d->status);
        CHECK_MESSAGE(d->message);
        CHECK_MESSAGE("GGUF in memory: ");
        CHECK(!strchr(cop_status_message(), '\n') && gguf == NULL);
        gguf_image_release(&image);
        gguf_writer_release(&w);
    }
}

int main(void) {
    RUN(test_damaged_files_are_refused);
    return check_report();
}
