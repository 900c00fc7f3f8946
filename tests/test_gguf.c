#include "model/gguf.h"

#include <math.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <unistd.h>

#include "check.h"
#include "ref/gguf_writer.h"
#include "ref/time_limit.h"

static const char real_path[] = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

static gguf_image small_image(void) {
    gguf_writer w = {0};
    gguf_writer_every_kind(&w);
    gguf_image image = gguf_writer_finish(&w);
    gguf_writer_release(&w);
    return image;
}

static bool text_is(cop_text text, const char *want) {
    return text.bytes == strlen(want) && memcmp(text.data, want, text.bytes) == 0;
}

static void check_integers(const cop_gguf *gguf) {
    static const struct {
        const char *key;
        uint64_t value;
    } good[] = {{"u8", 200},         {"u16", 60000},          {"i16", 30000},
                {"u32", 4000000000}, {"u64", UINT64_MAX - 1}, {"i64", INT64_MAX}};
    static const char *const negative[] = {"i8", "i32"};
    static const char *const other[] = {"f32", "f64", "yes", "text", "texts", "numbers"};
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CHECK_OK(cop_gguf_u64(gguf, good[i].key, &value));
        CHECK(value == good[i].value);
    }
    for (size_t i = 0; i < sizeof negative / sizeof negative[0]; i++) {
        CHECK_STATUS(cop_gguf_u64(gguf, negative[i], &value), COP_ERR_FORMAT);
        CHECK_MESSAGE("must not be negative");
        CHECK_MESSAGE(negative[i]);
    }
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        CHECK_STATUS(cop_gguf_u64(gguf, other[i], &value), COP_ERR_FORMAT);
        CHECK_MESSAGE("an integer was expected");
        CHECK_MESSAGE(other[i]);
    }
    CHECK_STATUS(cop_gguf_u64(gguf, "nothing", &value), COP_ERR_FORMAT);
    CHECK_MESSAGE("key 'nothing' is missing");
}

static void check_other_values(const cop_gguf *gguf) {
    double real = 0;
    bool flag = false;
    cop_text text = {0};
    CHECK_OK(cop_gguf_f64(gguf, "f32", &real));
    CHECK(real == 0.25);
    CHECK_OK(cop_gguf_f64(gguf, "f64", &real));
    CHECK(real == 1e-300);
    CHECK_STATUS(cop_gguf_f64(gguf, "u32", &real), COP_ERR_FORMAT);
    CHECK_STATUS(cop_gguf_f64(gguf, "floats", &real), COP_ERR_FORMAT);
    CHECK_OK(cop_gguf_bool(gguf, "yes", &flag));
    CHECK(flag);
    CHECK_OK(cop_gguf_bool(gguf, "no", &flag));
    CHECK(!flag);
    CHECK_STATUS(cop_gguf_bool(gguf, "u8", &flag), COP_ERR_FORMAT);
    CHECK_OK(cop_gguf_text(gguf, "text", &text));
    CHECK(text_is(text, "Gr\xc3\xbc\xc3\x9f"));
    CHECK_STATUS(cop_gguf_text(gguf, "texts", &text), COP_ERR_FORMAT);
    CHECK_STATUS(cop_gguf_text(gguf, "u8", &text), COP_ERR_FORMAT);
    CHECK(cop_gguf_has(gguf, "text") && !cop_gguf_has(gguf, "tex") && !cop_gguf_has(gguf, "text2"));
    CHECK_EQ(cop_gguf_key_count(gguf), 18);
    CHECK(text_is(cop_gguf_key_name(gguf, 0), "u8"));
    CHECK(text_is(cop_gguf_key_name(gguf, 17), "floats"));
}

static void check_arrays(const cop_gguf *gguf) {
    static const char *const names[] = {"numbers", "numbers again.", "numbers ..."};
    const cop_text *texts = NULL;
    const int32_t *numbers = NULL;
    size_t count = 0;
    CHECK_OK(cop_gguf_text_array(gguf, "texts", &texts, &count));
    CHECK_EQ(count, 3);
    CHECK(text_is(texts[0], "alpha") && text_is(texts[1], "") && text_is(texts[2], "gamma"));
    CHECK_STATUS(cop_gguf_text_array(gguf, "text", &texts, &count), COP_ERR_FORMAT);
    CHECK_STATUS(cop_gguf_text_array(gguf, "numbers", &texts, &count), COP_ERR_FORMAT);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(cop_gguf_i32_array(gguf, names[i], &numbers, &count));
        CHECK_EQ(count, 3);
        CHECK_EQ((uintptr_t)numbers % sizeof *numbers, 0);
        CHECK(numbers[0] == -1 && numbers[1] == 2 && numbers[2] == INT32_MIN);
    }
    CHECK_STATUS(cop_gguf_i32_array(gguf, "floats", &numbers, &count), COP_ERR_FORMAT);
    CHECK_STATUS(cop_gguf_i32_array(gguf, "i32", &numbers, &count), COP_ERR_FORMAT);
}

static void check_tensors(const cop_gguf *gguf, const gguf_writer *w) {
    static const struct {
        cop_dtype type;
        uint64_t rows, cols, bytes;
    } want[] = {
        {COP_Q4_1, 3, 64, 120}, {COP_Q8_0, 2, 32, 68}, {COP_F32, 1, 5, 20}, {COP_F16, 2, 8, 32}};
    CHECK_EQ(cop_gguf_tensor_count(gguf), 4);
    for (size_t i = 0; i < 4; i++) {
        const cop_tensor *tensor = cop_gguf_tensor(gguf, w->tensors[i].name);
        CHECK(tensor && tensor == cop_gguf_tensor_at(gguf, i));
        CHECK(text_is(cop_gguf_tensor_name(gguf, i), w->tensors[i].name));
        CHECK(tensor->type == want[i].type && tensor->rows == want[i].rows);
        CHECK(tensor->cols == want[i].cols && tensor->bytes == want[i].bytes);
        CHECK(memcmp(tensor->data, w->tensors[i].data, tensor->bytes) == 0);
        CHECK_EQ((uintptr_t)tensor->data % 8, 0);
    }
    CHECK(!cop_gguf_tensor(gguf, "aa") && !cop_gguf_tensor(gguf, "") &&
          !cop_gguf_tensor(gguf, "z"));
}

static void check_small(const cop_gguf *gguf, const gguf_writer *w) {
    check_integers(gguf);
    check_other_values(gguf);
    check_arrays(gguf);
    check_tensors(gguf, w);
}

static void test_values_and_tensors_are_read(void) {
    gguf_writer w = {0};
    gguf_writer_every_kind(&w);
    for (uint32_t version = 2; version <= 3; version++) {
        cop_gguf *gguf;
        w.version = version;
        gguf_image image = gguf_writer_finish(&w);
        CHECK_OK(cop_gguf_open_memory(image.data, image.bytes, &gguf));
        CHECK_EQ(cop_gguf_bytes(gguf), image.bytes);
        CHECK_OK(cop_gguf_check_size(gguf));
        check_small(gguf, &w);
        cop_gguf_close(gguf);
        gguf_image_release(&image);
    }
    gguf_writer_release(&w);
}

static void test_a_mapped_file_gives_the_same(void) {
    char path[] = "/tmp/test_gguf_XXXXXX", hex[65], again[65];
    cop_gguf *gguf, *memory;
    gguf_writer w = {0};
    gguf_writer_every_kind(&w);
    gguf_image image = gguf_writer_finish(&w);
    close(mkstemp(path));
    gguf_image_save(&image, path);
    CHECK_OK(cop_gguf_open(path, &gguf));
    CHECK_TEXT(cop_gguf_source(gguf), path);
    CHECK_EQ(cop_gguf_bytes(gguf), image.bytes);
    check_small(gguf, &w);
    CHECK_OK(cop_gguf_open_memory(image.data, image.bytes, &memory));
    CHECK_OK(cop_gguf_sha256(gguf, hex));
    CHECK_OK(cop_gguf_sha256(memory, again));
    CHECK_TEXT(hex, again);
    /* Growing does no harm; shrinking would. */
    CHECK(truncate(path, (off_t)image.bytes + 1) == 0);
    CHECK_OK(cop_gguf_check_size(gguf));
    CHECK(truncate(path, (off_t)image.bytes - 1) == 0);
    CHECK_STATUS(cop_gguf_check_size(gguf), COP_ERR_IO);
    CHECK_MESSAGE("has shrunk");
    CHECK_MESSAGE(path);
    cop_gguf_close(memory);
    cop_gguf_close(gguf);
    unlink(path);
    gguf_image_release(&image);
    gguf_writer_release(&w);
}

static void test_alignments(void) {
    static const uint64_t good[] = {8, 16, 64, 4096, 1 << 20}, bad[] = {0, 1, 4, 24, 1 << 21};
    for (int i = 0; i < 10; i++) {
        gguf_writer w = {0};
        cop_gguf *gguf;
        w.alignment = i < 5 ? good[i] : 32;
        gguf_writer_every_kind(&w);
        gguf_writer_u32(&w, "general.alignment", (uint32_t)(i < 5 ? good[i] : bad[i - 5]));
        gguf_image image = gguf_writer_finish(&w);
        if (i < 5) {
            CHECK_OK(cop_gguf_open_memory(image.data, image.bytes, &gguf));
            check_tensors(gguf, &w);
            cop_gguf_close(gguf);
        } else {
            CHECK_STATUS(cop_gguf_open_memory(image.data, image.bytes, &gguf), COP_ERR_FORMAT);
            CHECK_MESSAGE("general.alignment");
            CHECK_MESSAGE("power of two");
            CHECK(gguf == NULL);
        }
        gguf_image_release(&image);
        gguf_writer_release(&w);
    }
}

/* Each prefix in a block of its own size, so that a sanitizer sees one byte read too many. */
static void test_every_prefix_is_refused(void) {
    gguf_image image = small_image();
    cop_gguf *gguf;
    double slowest = 0;
    for (size_t bytes = 0; bytes < image.bytes; bytes++) {
        uint8_t *prefix = malloc(bytes + 1);
        memcpy(prefix, image.data, bytes);
        prefix = realloc(prefix, bytes ? bytes : 1);
        double begin = cpu_seconds();
        cop_status status = cop_gguf_open_memory(prefix, bytes, &gguf);
        slowest = fmax(slowest, cpu_seconds() - begin);
        CHECK_STATUS(status, COP_ERR_FORMAT);
        CHECK_MESSAGE("truncated");
        free(prefix);
    }
    CHECK(slowest < time_limit_s);
    CHECK_OK(cop_gguf_open_memory(image.data, image.bytes, &gguf));
    cop_gguf_close(gguf);
    gguf_image_release(&image);
}

static void test_prefixes_of_a_mapped_file_are_refused(void) {
    char path[] = "/tmp/test_gguf_XXXXXX";
    gguf_image image = small_image();
    cop_gguf *gguf;
    close(mkstemp(path));
    gguf_image_save(&image, path);
    for (size_t bytes = image.bytes; bytes-- > 0;) {
        CHECK(truncate(path, (off_t)bytes) == 0);
        CHECK_STATUS(cop_gguf_open(path, &gguf), COP_ERR_FORMAT);
        CHECK_MESSAGE(path);
        CHECK_MESSAGE(bytes ? "truncated" : "empty");
    }
    unlink(path);
    gguf_image_release(&image);
}

static void test_files_that_cannot_be_mapped(void) {
    char path[] = "/tmp/test_gguf_dir_XXXXXX", pipe_path[64];
    cop_gguf *gguf;
    CHECK(mkdtemp(path));
    CHECK_STATUS(cop_gguf_open(path, &gguf), COP_ERR_IO);
    CHECK_MESSAGE("not a regular file");
    snprintf(pipe_path, sizeof pipe_path, "%s/pipe", path);
    CHECK_STATUS(cop_gguf_open(pipe_path, &gguf), COP_ERR_IO);
    CHECK_MESSAGE("No such file");
    CHECK(mkfifo(pipe_path, 0600) == 0); /* must not wait for a writer */
    CHECK_STATUS(cop_gguf_open(pipe_path, &gguf), COP_ERR_IO);
    CHECK_MESSAGE("not a regular file");
    unlink(pipe_path);
    rmdir(path);
    uint64_t words[4] = {0};
    CHECK_STATUS(cop_gguf_open_memory((char *)words + 1, 24, &gguf), COP_ERR_USAGE);
    cop_gguf_close(NULL);
}

/* One byte of the file after the other takes values that hurt; whatever is accepted can be read. */
static void test_any_byte_may_lie(void) {
    static const uint8_t values[] = {0, 1, 2, 9, 0x7f, 0x80, 0xff};
    gguf_image image = small_image();
    uint8_t *copy = malloc(image.bytes);
    size_t accepted = 0, refused = 0;
    for (size_t at = 0; at < image.data_at; at++) {
        for (size_t v = 0; v < sizeof values; v++) {
            cop_gguf *gguf;
            memcpy(copy, image.data, image.bytes);
            copy[at] = values[v];
            if (cop_gguf_open_memory(copy, image.bytes, &gguf) != COP_OK) {
                refused++;
                continue;
            }
            accepted++;
            for (size_t i = 0; i < cop_gguf_tensor_count(gguf); i++) {
                const cop_tensor *tensor = cop_gguf_tensor_at(gguf, i);
                cop_dtype_count_nonfinite(tensor->type, tensor->data, tensor->rows * tensor->cols);
            }
            cop_gguf_close(gguf);
        }
    }
    CHECK(accepted > 100 && refused > 100);
    free(copy);
    gguf_image_release(&image);
}

/* Names that differ in their last byte only, so that each comparison is as long as it can be. */
static gguf_image crowded_image(uint32_t n_keys, uint32_t n_tensors) {
    gguf_image image = {0};
    image.data = malloc(24 + (size_t)n_keys * 64 + (size_t)n_tensors * 96 + 64);
    uint8_t *at = image.data;
    const uint64_t counts[2] = {n_tensors, n_keys}, bytes = 30, one = 1;
    const uint32_t version = 3, u8 = 0, f32 = 0, dims = 1;
#define PUT(pointer, n) (memcpy(at, (pointer), (n)), at += (n))
    PUT("GGUF", 4), PUT(&version, 4), PUT(counts, 16);
    for (uint32_t i = 0; i < n_keys; i++) {
        char name[64];
        snprintf(name, sizeof name, "the.same.start.of.it.%09u", i * 7919 % n_keys);
        PUT(&bytes, 8), PUT(name, 30), PUT(&u8, 4), PUT("", 1);
    }
    for (uint32_t i = 0; i < n_tensors; i++) {
        char name[64];
        uint64_t offset = (uint64_t)i * 32;
        snprintf(name, sizeof name, "the.same.start.of.it.%09u", i * 7919 % n_tensors);
        PUT(&bytes, 8), PUT(name, 30), PUT(&dims, 4), PUT(&one, 8), PUT(&f32, 4), PUT(&offset, 8);
    }
#undef PUT
    size_t header = ((size_t)(at - image.data) + 31) / 32 * 32;
    image.bytes = header + (size_t)n_tensors * 32;
    image.data = realloc(image.data, image.bytes);
    memset(image.data + header, 0, image.bytes - header);
    return image;
}

static void test_crowds_are_sorted_not_searched(void) {
    gguf_image image = crowded_image(16384, 65536);
    cop_gguf *gguf;
    double begin = cpu_seconds();
    CHECK_OK(cop_gguf_open_memory(image.data, image.bytes, &gguf));
    CHECK(cpu_seconds() - begin < time_limit_s * 2); /* a valid file of 8 MB, not a hostile one */
    begin = cpu_seconds();
    for (uint32_t i = 0; i < 65536; i++) {
        char name[64];
        snprintf(name, sizeof name, "the.same.start.of.it.%09u", i);
        CHECK(cop_gguf_tensor(gguf, name));
        CHECK_EQ(cop_gguf_has(gguf, name), i < 16384);
    }
    CHECK(cpu_seconds() - begin < time_limit_s * 2);
    cop_gguf_close(gguf);
    gguf_image_release(&image);
}

/* A file of empty texts: in the file each takes 8 bytes, in the table 16. */
static gguf_image empty_texts_image(uint64_t texts) {
    gguf_image image = {.bytes = 24 + 8 + 1 + 4 + 12 + texts * 8};
    const uint64_t counts[2] = {0, 1}, one = 1;
    const uint32_t version = 3, array = 9, text = 8;
    image.data = calloc(image.bytes, 1);
    memcpy(image.data, "GGUF", 4);
    memcpy(image.data + 4, &version, 4);
    memcpy(image.data + 8, counts, 16);
    memcpy(image.data + 24, &one, 8);
    image.data[32] = 'k';
    memcpy(image.data + 33, &array, 4);
    memcpy(image.data + 37, &text, 4);
    memcpy(image.data + 41, &texts, 8);
    return image;
}

static void test_tables_are_bounded_by_the_file(void) {
    cop_gguf *gguf;
    gguf_image image = empty_texts_image(500000); /* 4 MB, and a table of 8 */
    CHECK_OK(cop_gguf_open_memory(image.data, image.bytes, &gguf));
    cop_gguf_close(gguf);
    gguf_image_release(&image);
    image = empty_texts_image(600000);
    CHECK_STATUS(cop_gguf_open_memory(image.data, image.bytes, &gguf), COP_ERR_FORMAT);
    CHECK_MESSAGE("a table larger than the file");
    gguf_image_release(&image);
    image = empty_texts_image(4 * 1024 * 1024 + 1);
    double begin = cpu_seconds();
    CHECK_STATUS(cop_gguf_open_memory(image.data, image.bytes, &gguf), COP_ERR_FORMAT);
    CHECK_MESSAGE("passes the limit");
    CHECK(cpu_seconds() - begin < time_limit_s);
    gguf_image_release(&image);
}

/* Counts and lengths that are as large as they may be: the last byte of the file is the last byte
 * of an array, the smallest keys fill it, names have the lengths that the format allows. */
static void test_limits_are_reached(void) {
    static const float two[] = {1, 2};
    const int32_t *numbers = NULL;
    cop_gguf *gguf;
    size_t count = 0;
    for (int form = 0; form < 4; form++) {
        gguf_writer w = {0};
        char *name = calloc(65536, 1);
        memset(name, 'n', 65535);
        if (form == 0)
            gguf_writer_i32_array(&w, "numbers", (const int32_t[]){4, 5}, 2);
        if (form == 1)
            for (int i = 0; i < 20; i++)
                gguf_writer_u8(&w, (const char[]){(char)('a' + i), 0}, 1);
        if (form == 2)
            gguf_writer_u8(&w, name, 1);
        if (form == 3)
            gguf_writer_matrix(&w, name + 65535 - 64, COP_F32, 0, 2, two);
        gguf_image image = gguf_writer_finish(&w);
        CHECK_OK(cop_gguf_open_memory(image.data, image.bytes, &gguf));
        if (form == 0) {
            CHECK_OK(cop_gguf_i32_array(gguf, "numbers", &numbers, &count));
            CHECK(count == 2 && numbers[1] == 5);
        }
        CHECK_EQ(cop_gguf_key_count(gguf), form == 1 ? 20 : form < 3);
        CHECK(form != 2 || cop_gguf_has(gguf, name));
        CHECK(form != 3 || cop_gguf_tensor(gguf, name + 65535 - 64));
        cop_gguf_close(gguf);
        gguf_image_release(&image);
        gguf_writer_release(&w);
        free(name);
    }
}

/* What the process grows by while it opens the file, mapping included. */
static long growth_kb(const char *path, uint64_t *file_bytes) {
    int channel[2];
    CHECK(pipe(channel) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct rusage before, after;
        struct stat info;
        cop_gguf *gguf;
        getrusage(RUSAGE_SELF, &before);
        cop_gguf_open(path, &gguf);
        getrusage(RUSAGE_SELF, &after);
        long reply[2] = {after.ru_maxrss - before.ru_maxrss,
                         stat(path, &info) == 0 ? (long)info.st_size : 0};
        _exit(write(channel[1], reply, sizeof reply) != sizeof reply);
    }
    long reply[2] = {0};
    int status;
    CHECK(read(channel[0], reply, sizeof reply) == sizeof reply);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(channel[0]);
    close(channel[1]);
    *file_bytes = (uint64_t)reply[1];
    return reply[0];
}

static void test_memory_is_bounded_by_the_file(void) {
    if (SANITIZED)
        SKIP("a sanitizer's memory is not the loader's");
    for (int i = 0; i < 3; i++) {
        char path[] = "/tmp/test_gguf_XXXXXX";
        uint64_t bytes;
        gguf_image image = i == 0   ? crowded_image(16384, 65536)
                           : i == 1 ? empty_texts_image(500000)
                                    : empty_texts_image(2000000);
        close(mkstemp(path));
        gguf_image_save(&image, path);
        gguf_image_release(&image);
        long kb = growth_kb(path, &bytes);
        unlink(path);
        CHECK((uint64_t)kb * 1024 < 2 * bytes + (16 << 20));
    }
}

static void test_the_real_file(void) {
    cop_gguf *gguf;
    char hex[65];
    cop_text text = {0};
    const cop_text *tokens;
    const int32_t *types;
    size_t count = 0;
    if (access(real_path, R_OK) != 0)
        SKIP("models/SmolLM2-135M-Instruct.Q4_1.gguf is absent");
    double begin = cpu_seconds();
    CHECK_OK(cop_gguf_open(real_path, &gguf));
    printf("  opened in %.2f ms of CPU time\n", (cpu_seconds() - begin) * 1e3);
    CHECK_EQ(cop_gguf_bytes(gguf), 98362432);
    CHECK_EQ(cop_gguf_key_count(gguf), 33);
    CHECK_EQ(cop_gguf_tensor_count(gguf), 272);
    CHECK_OK(cop_gguf_text(gguf, "tokenizer.ggml.pre", &text));
    CHECK(text_is(text, "smollm"));
    CHECK_OK(cop_gguf_text_array(gguf, "tokenizer.ggml.tokens", &tokens, &count));
    CHECK_EQ(count, 49152);
    CHECK(text_is(tokens[1], "<|im_start|>"));
    CHECK_OK(cop_gguf_i32_array(gguf, "tokenizer.ggml.token_type", &types, &count));
    CHECK(count == 49152 && types[0] == 3);
    const cop_tensor *down = cop_gguf_tensor(gguf, "blk.0.ffn_down.weight");
    CHECK(down && down->rows == 576 && down->cols == 1536 && down->type == COP_Q4_1);
    CHECK_EQ(down->bytes, 576 * 48 * 20);
    /* The place that the file's own index gives: 1785664 + 30083328. */
    FILE *file = fopen(real_path, "rb");
    uint8_t bytes[64];
    CHECK(file && fseek(file, 1785664 + 30083328, SEEK_SET) == 0);
    CHECK(fread(bytes, 1, sizeof bytes, file) == sizeof bytes);
    fclose(file);
    CHECK(memcmp(down->data, bytes, sizeof bytes) == 0);
    CHECK_OK(cop_gguf_sha256(gguf, hex));
    CHECK_TEXT(hex, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
    cop_gguf_close(gguf);
}

/* Cut at samples: the start of each tensor and spread over the header. */
static void test_the_real_file_cut_short(void) {
    char path[] = "/tmp/test_gguf_XXXXXX";
    cop_gguf *gguf;
    static uint8_t header[2 << 20];
    FILE *file = fopen(real_path, "rb");
    if (!file)
        SKIP("models/SmolLM2-135M-Instruct.Q4_1.gguf is absent");
    CHECK(fread(header, 1, sizeof header, file) == sizeof header);
    fclose(file);
    int descriptor = mkstemp(path);
    CHECK(write(descriptor, header, sizeof header) == sizeof header);
    for (off_t bytes = 98362431; bytes > 0; bytes -= bytes > 2000000 ? 9637001 : 40009) {
        CHECK(ftruncate(descriptor, bytes) == 0); /* a hole reads as zeros, and costs no space */
        double begin = cpu_seconds();
        CHECK_STATUS(cop_gguf_open(path, &gguf), COP_ERR_FORMAT);
        CHECK(cpu_seconds() - begin < time_limit_s);
        CHECK_MESSAGE("truncated");
    }
    close(descriptor);
    unlink(path);
}

int main(void) {
    RUN(test_values_and_tensors_are_read);
    RUN(test_a_mapped_file_gives_the_same);
    RUN(test_alignments);
    RUN(test_every_prefix_is_refused);
    RUN(test_prefixes_of_a_mapped_file_are_refused);
    RUN(test_files_that_cannot_be_mapped);
    RUN(test_any_byte_may_lie);
    RUN(test_crowds_are_sorted_not_searched);
    RUN(test_tables_are_bounded_by_the_file);
    RUN(test_limits_are_reached);
    RUN(test_memory_is_bounded_by_the_file);
    RUN(test_the_real_file);
    RUN(test_the_real_file_cut_short);
    return check_report();
}
