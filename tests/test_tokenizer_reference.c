/* The tokenizer against Hugging Face's (tests/ref/tokenizer_fixtures.py), and its command. */
#include "check.h"

#include <jansson.h>
#include <sys/wait.h>
#include <unistd.h>

#include "model/gguf.h"
#include "model/tokenizer_internal.h"
#include "tests/ref/gguf_writer.h"

#define MODEL "models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define FIXTURES "tests/ref/fixtures/"

static const char *const all_pres[] = {"smollm", "gpt-2", "llama-bpe", "qwen2"};

static bool decodes_to(const cop_tokenizer *t, const cop_token_ids *ids, const char *text,
                       size_t bytes) {
    size_t at = 0;
    for (size_t i = 0; i < ids->count; i++) {
        cop_text piece = cop_tokenizer_bytes(t, ids->data[i]);
        if (piece.bytes > bytes - at || memcmp(piece.data, text + at, piece.bytes) != 0)
            return false;
        at += piece.bytes;
    }
    return at == bytes;
}

/* Calls `visit` on each line of a fixture; returns how many there were. */
typedef void (*visit_line)(const json_t *line, void *context);
static size_t each_line(const char *path, visit_line visit, void *context) {
    FILE *file = fopen(path, "r");
    CHECK(file);
    char *text = NULL;
    size_t capacity = 0, count = 0;
    for (ssize_t n; (n = getline(&text, &capacity, file)) > 0; count++) {
        json_t *line = json_loadb(text, (size_t)n, JSON_ALLOW_NUL, NULL);
        CHECK(line);
        visit(line, context);
        json_decref(line);
    }
    free(text);
    fclose(file);
    return count;
}

static void check_pieces(const json_t *line, void *context) {
    cop__pre *const *pres = context;
    const json_t *text = json_object_get(line, "text"), *want = NULL;
    size_t bytes = json_string_length(text);
    void *match = cop__pre_match_create(bytes);
    CHECK(match);
    for (size_t p = 0; p < 4; p++) {
        const json_t *own = json_object_get(line, all_pres[p]);
        CHECK(own);
        want = json_is_array(own) ? own : want;
        size_t at = 0, count = 0;
        for (size_t end; at < bytes; at = end, count++) {
            CHECK_OK(cop__pre_next(pres[p], match, json_string_value(text), bytes, at, &end));
            CHECK_EQ(end - at, json_integer_value(json_array_get(want, count)));
        }
        CHECK_EQ(count, json_array_size(want));
    }
    cop__pre_match_destroy(match);
}

static void test_pieces_equal_the_reference(void) {
    cop__pre *pres[4];
    for (size_t p = 0; p < 4; p++)
        CHECK_OK(cop__pre_create(all_pres[p], strlen(all_pres[p]), &pres[p]));
    CHECK(each_line(FIXTURES "pieces.jsonl", check_pieces, pres) >= 300);
    for (size_t p = 0; p < 4; p++)
        cop__pre_destroy(pres[p]);
}

typedef struct fixture_run {
    const cop_tokenizer *tokenizer;
    bool plain;
    size_t lossy;
} fixture_run;

static void check_fixture(const json_t *line, void *context) {
    fixture_run *run = context;
    const json_t *text = json_object_get(line, "text"), *want = json_object_get(line, "ids");
    bool lossy = json_is_true(json_object_get(line, "lossy"));
    const char *data = json_string_value(text);
    size_t bytes = json_string_length(text);
    cop_token_ids ids = {0};
    cop_encode_options options = {.plain = run->plain};
    if (lossy) {
        CHECK_STATUS(cop_tokenizer_encode(run->tokenizer, data, bytes, options, &ids),
                     COP_ERR_FORMAT);
        options.drop_unknown = true;
        run->lossy++;
    }
    CHECK_OK(cop_tokenizer_encode(run->tokenizer, data, bytes, options, &ids));
    CHECK_EQ(ids.count, json_array_size(want));
    for (size_t i = 0; i < ids.count; i++)
        CHECK_EQ(ids.data[i], json_integer_value(json_array_get(want, i)));
    CHECK(lossy != decodes_to(run->tokenizer, &ids, data, bytes));
    cop_token_ids_release(&ids);
}

static cop_tokenizer *open_model(void) {
    cop_gguf *gguf = NULL;
    cop_tokenizer *t = NULL;
    if (access(MODEL, R_OK) != 0)
        return NULL;
    CHECK_OK(cop_gguf_open(MODEL, &gguf));
    CHECK_OK(cop_tokenizer_create(gguf, &t));
    cop_gguf_close(gguf);
    return t;
}

static void test_ids_equal_the_reference(void) {
    fixture_run run = {.tokenizer = open_model()};
    if (!run.tokenizer)
        SKIP(MODEL " is not there");
    CHECK(each_line(FIXTURES "tokenizer.jsonl", check_fixture, &run) >= 300);
    CHECK(run.lossy >= 5);
    run.plain = true;
    CHECK(each_line(FIXTURES "tokenizer_plain.jsonl", check_fixture, &run) >= 20);
    CHECK(cop_tokenizer_is_end(run.tokenizer, 2) && cop_tokenizer_is_end(run.tokenizer, 0));
    CHECK(!cop_tokenizer_is_end(run.tokenizer, 1));
    CHECK_EQ(cop_tokenizer_vocab(run.tokenizer), 49152);
    cop_tokenizer_destroy((cop_tokenizer *)run.tokenizer);
}

/* Runs the command, if the build has it, with `input` on stdin; returns its exit code. */
static int run_command(const char *arguments, const char *input, char *out, size_t out_bytes) {
    char line[1024];
    char path[] = "/tmp/coppice-test-XXXXXX";
    int descriptor = mkstemp(path);
    CHECK(descriptor >= 0 && write(descriptor, input, strlen(input)) == (ssize_t)strlen(input));
    close(descriptor);
    snprintf(line, sizeof line, "%s %s < %s 2>&1", getenv("COPPICE"), arguments, path);
    FILE *pipe = popen(line, "r");
    CHECK(pipe);
    size_t n = fread(out, 1, out_bytes - 1, pipe);
    out[n] = 0;
    int status = pclose(pipe);
    unlink(path);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_tokenize_command(void) {
    if (!getenv("COPPICE") || !*getenv("COPPICE"))
        SKIP("COPPICE does not name the command");
    gguf_writer w = {0};
    gguf_writer_byte_tokenizer(&w, "smollm", 258);
    gguf_image image = gguf_writer_finish(&w);
    char model[] = "/tmp/coppice-test-XXXXXX", out[4096], arguments[256];
    close(mkstemp(model));
    gguf_image_save(&image, model);
    gguf_image_release(&image);
    gguf_writer_release(&w);

    snprintf(arguments, sizeof arguments, "tokenize --model %s --input -", model);
    const char *texts = "{\"text\": \"ab<|0|>\"}\n{\"text\": \"\\u0000\"}\n{\"text\": \"\"}\n";
    CHECK_EQ(run_command(arguments, texts, out, sizeof out), 0);
    CHECK_TEXT(out, "{\"ids\": [97, 98, 256]}\n{\"ids\": [0]}\n{\"ids\": []}\n");
    CHECK_EQ(run_command(arguments, "{\"text\": \"a\"}\n{\"text\": 5}\n", out, sizeof out), 2);
    CHECK_TEXT(out, "coppice: tokenize: stdin:2: \"text\" is not a string\n");
    CHECK_EQ(run_command(arguments, "{\"text\": \"a\"}\n\n{}\n", out, sizeof out), 2);
    CHECK_TEXT(out, "coppice: tokenize: stdin:2: the line is empty\n");
    snprintf(arguments, sizeof arguments, "tokenize --no-special --model=%s --input=-", model);
    CHECK_EQ(run_command(arguments, "{\"text\": \"<|0|>\"}", out, sizeof out), 0);
    CHECK_TEXT(out, "{\"ids\": [60, 124, 48, 124, 62]}\n");
    snprintf(arguments, sizeof arguments, "tokenize --decode --model %s --input -", model);
    const char *ids = "{\"ids\": [97, 98, 256]}\n{\"ids\": [0, 195]}\n{\"ids\": [195, 169]}\n";
    CHECK_EQ(run_command(arguments, ids, out, sizeof out), 0);
    CHECK_TEXT(out, "{\"text\": \"ab<|0|>\"}\n{\"text\": \"\\u0000\uFFFD\"}\n{\"text\": \"é\"}\n");
    CHECK_EQ(run_command(arguments, "{\"ids\": [1, 258]}\n", out, sizeof out), 2);
    CHECK_TEXT(out, "coppice: tokenize: stdin:1: \"ids\"[1] is 258, but the vocabulary has 258 "
                    "tokens\n");
    snprintf(arguments, sizeof arguments, "tokenize --model %s --input - --fast", model);
    CHECK_EQ(run_command(arguments, "", out, sizeof out), 2);
    CHECK_TEXT(out, "coppice: tokenize: unknown option --fast; see coppice tokenize --help\n");
    unlink(model);
}

int main(void) {
    RUN(test_pieces_equal_the_reference);
    RUN(test_ids_equal_the_reference);
    RUN(test_tokenize_command);
    return check_report();
}
