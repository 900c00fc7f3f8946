/* The f32 arithmetic against Hugging Face's Llama in float32 on the same dequantised weights
 * (tests/ref/logits_fixtures.py), and the score command. */
#include "check.h"

#include <jansson.h>
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ref/gguf_writer.h"
#include "score_runner.h"

#define MODEL "models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define FIXTURES "tests/ref/fixtures/logits.jsonl"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED 1
#endif
#endif

enum { GREEDY = 48 };

#ifdef IS_SANITIZED
enum { PROMPTS = 3 }; /* the shortest; a forward pass is slow there */
#else
enum { PROMPTS = 12 };
#endif

static double number(const json_t *line, const char *key) {
    const json_t *value = json_object_get(line, key);
    CHECK(json_is_number(value));
    return json_number_value(value);
}

typedef struct prompt {
    int32_t ids[RUNNER_POSITIONS]; /* the prompt, then the greedy continuation */
    uint32_t n;                    /* of the prompt */
} prompt;

static void read_prompt(const json_t *line, prompt *p) {
    const json_t *ids = json_object_get(line, "ids"), *greedy = json_object_get(line, "greedy");
    p->n = (uint32_t)json_array_size(ids);
    CHECK(p->n >= 5 && p->n + GREEDY <= RUNNER_POSITIONS);
    CHECK_EQ(json_array_size(greedy), GREEDY);
    for (uint32_t i = 0; i < p->n; i++)
        p->ids[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    for (uint32_t i = 0; i < GREEDY; i++)
        p->ids[p->n + i] = (int32_t)json_integer_value(json_array_get(greedy, i));
}

/* The last position of the prompt; returns the largest difference of a logit. */
static double compare_logits(runner *r, const json_t *line, uint32_t request) {
    const json_t *top = json_object_get(line, "top");
    double largest = 0, sum = 0;
    CHECK_OK(cop_backend_cpu.read_logits(r->backend, request, r->logits));
    CHECK_EQ(json_array_size(top), 50);
    for (size_t i = 0; i < 50; i++) {
        const json_t *pair = json_array_get(top, i);
        json_int_t id = json_integer_value(json_array_get(pair, 0));
        double want = json_number_value(json_array_get(pair, 1));
        CHECK(id >= 0 && id < (json_int_t)r->shape->vocab);
        largest = fmax(largest, fabs((double)r->logits[id] - want));
    }
    double max = json_number_value(json_array_get(json_array_get(top, 0), 1));
    for (uint32_t i = 0; i < r->shape->vocab; i++)
        sum += exp((double)r->logits[i] - max);
    return fmax(largest, fabs(max + log(sum) - number(line, "logsumexp")));
}

/* The whole sequence, prompt and recorded continuation, in runs of rows: that each position's
 * greedy choice is the recorded token proves the continuation, by induction. */
static void check_prompt(runner *r, const json_t *line, double *largest, double *largest_nll) {
    prompt p;
    read_prompt(line, &p);
    CHECK(number(line, "margin") > 2e-3);
    cop_node node;
    double nll = 0;
    uint32_t n = p.n + GREEDY - 1;
    CHECK_OK(cop_kv_open(r->kv, cop_kv_root(r->kv), &node));
    for (uint32_t first = 0, rows; first < n; first += rows) {
        rows = n - first < RUNNER_ROWS ? n - first : RUNNER_ROWS;
        runner_rows(r, node, p.ids, n + 1, first, rows, NULL);
        for (uint32_t at = first; at < first + rows; at++) {
            if (at + 1 < p.n)
                nll -= (double)r->sample[at - first].forced_logprob;
            else
                CHECK_EQ(r->sample[at - first].token, p.ids[at + 1]);
            if (at + 1 == p.n)
                *largest = fmax(*largest, compare_logits(r, line, at - first));
        }
    }
    cop_kv_release(r->kv, node);
    *largest_nll = fmax(*largest_nll, fabs(nll - number(line, "nll")) / p.n);
}

/* The same by decoding for real, one row a step. */
static void check_decoding(runner *r, const json_t *line) {
    prompt p;
    read_prompt(line, &p);
    cop_node node;
    uint32_t slot;
    CHECK_OK(cop_kv_open(r->kv, cop_kv_root(r->kv), &node));
    runner_rows(r, node, p.ids, p.n, 0, p.n, NULL);
    int32_t next = r->sample[p.n - 1].token;
    CHECK_OK(cop_plan_slot_add(r->plan, node, &slot));
    for (uint32_t i = 0; i < GREEDY; i++) {
        CHECK_EQ(next, p.ids[p.n + i]);
        runner_rows(r, node, p.ids, p.n + GREEDY, p.n + i, 1, &slot);
        next = r->sample[0].token;
    }
    cop_plan_slot_remove(r->plan, slot);
    cop_kv_release(r->kv, node);
}

static void test_logits_and_greedy_tokens_equal_the_reference(void) {
    if (access(MODEL, R_OK) != 0)
        SKIP(MODEL " is not there");
    cop_model *model = NULL;
    runner *r = calloc(1, sizeof *r);
    CHECK(r);
    CHECK_OK(cop_model_open(MODEL, &model));
    runner_create(r, model, COP_ARITH_F32, NULL);
    FILE *file = fopen(FIXTURES, "r");
    CHECK(file);
    char *text = NULL;
    size_t capacity = 0;
    double largest = 0, largest_nll = 0;
    int prompts = 0;
    for (ssize_t n; prompts < PROMPTS && (n = getline(&text, &capacity, file)) > 0; prompts++) {
        json_t *line = json_loadb(text, (size_t)n, 0, NULL);
        CHECK(line);
        check_prompt(r, line, &largest, &largest_nll);
        if (prompts == 1)
            check_decoding(r, line);
        json_decref(line);
    }
    printf("  %d prompts: largest difference of a logit %.3g, of nll a token %.3g\n", prompts,
           largest, largest_nll);
    CHECK_EQ(prompts, PROMPTS);
    CHECK(largest <= 1e-3);
    CHECK(largest_nll <= 1e-4);
    free(text);
    fclose(file);
    runner_release(r);
    free(r);
    cop_model_close(model);
}

/* Runs `coppice score` with `input` on stdin; returns its exit code. */
static int run_score(const char *arguments, const char *input, char *out, size_t out_bytes) {
    char line[1024], path[] = "/tmp/coppice-test-XXXXXX";
    int descriptor = mkstemp(path);
    CHECK(descriptor >= 0 && write(descriptor, input, strlen(input)) == (ssize_t)strlen(input));
    close(descriptor);
    snprintf(line, sizeof line, "%s score %s < %s 2>&1", getenv("COPPICE"), arguments, path);
    FILE *pipe = popen(line, "r");
    CHECK(pipe);
    size_t n = fread(out, 1, out_bytes - 1, pipe);
    out[n] = 0;
    int status = pclose(pipe);
    unlink(path);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void make_model(char *path) {
    gguf_writer w = {0};
    gguf_writer_llama(&w, &(gguf_writer_model){.shape = {.n_layers = 2,
                                                         .hidden = 64,
                                                         .n_heads = 4,
                                                         .n_kv_heads = 2,
                                                         .head_dim = 16,
                                                         .ffn = 96,
                                                         .vocab = 300,
                                                         .context = 640,
                                                         .rope_theta = 10000,
                                                         .rms_eps = 1e-5,
                                                         .tied = true},
                                               .dtype = COP_Q4_1,
                                               .seed = 5});
    gguf_writer_byte_tokenizer(&w, "gpt-2", 300);
    gguf_image image = gguf_writer_finish(&w);
    close(mkstemp(path));
    gguf_image_save(&image, path);
    gguf_image_release(&image);
    gguf_writer_release(&w);
}

static void check_score_refuses(const char *model, const char *more, const char *input,
                                const char *part) {
    char arguments[256], out[8192];
    snprintf(arguments, sizeof arguments, "--model %s --input - %s", model, more);
    CHECK_EQ(run_score(arguments, input, out, sizeof out), 2);
    if (!strstr(out, part) || strchr(out, '{') || strchr(out, '\n') != out + strlen(out) - 1) {
        fprintf(stderr, "\"%s\" is not one line with \"%s\"\n", out, part);
        exit(1);
    }
}

static void test_score_command(void) {
    if (!getenv("COPPICE") || !*getenv("COPPICE"))
        SKIP("COPPICE does not name the command");
    static const char *const computes[] = {"f32", "bf16", "native-f32", "native-a8"};
    static char out[65536];
    char model[] = "/tmp/coppice-test-XXXXXX", arguments[256], longer[4096] = "{\"ids\": [1";
    make_model(model);
    for (int c = 0; c < 4; c++) {
        snprintf(arguments, sizeof arguments, "--model %s --input - --top 300 --compute %s", model,
                 computes[c]);
        CHECK_EQ(run_score(arguments,
                           "{\"ids\": [7]}\n{\"ids\": [7, 9]}\n{\"text\": \"\\u0007\\t\"}\n"
                           "{\"text\": \"\"}\n",
                           out, sizeof out),
                 0);
        json_t *line[4];
        char *at = out;
        for (int i = 0; i < 4; i++, at = strchr(at, '\n') + 1) {
            line[i] = json_loadb(at, strcspn(at, "\n"), 0, NULL);
            CHECK(line[i]);
        }
        CHECK_EQ(*at, 0);
        const json_t *top = json_object_get(line[0], "top");
        CHECK_EQ(json_array_size(top), 300);
        double previous = INFINITY, sum = 0, nine = 0;
        for (size_t i = 0; i < 300; i++) {
            const json_t *pair = json_array_get(top, i);
            double logit = json_number_value(json_array_get(pair, 1));
            CHECK(logit <= previous);
            previous = logit;
            sum += exp(logit);
            if (json_integer_value(json_array_get(pair, 0)) == 9)
                nine = logit;
        }
        CHECK(json_is_null(json_object_get(line[0], "nll")));
        CHECK(json_is_string(json_object_get(line[0], "nll_reason")));
        CHECK(fabs(number(line[0], "logsumexp") - log(sum)) < 1e-5);
        CHECK(fabs(number(line[1], "nll") - (log(sum) - nine)) < 1e-5);
        CHECK_EQ(number(line[1], "n"), 2);
        CHECK(json_equal(line[1], line[2])); /* bytes 7 and 9 are tokens 7 and 9 */
        CHECK_EQ(number(line[3], "n"), 0);
        for (int i = 0; i < 4; i++)
            json_decref(line[i]);
    }
    for (int i = 0; i < 640; i++)
        strcat(longer, ",1");
    strcat(longer, "]}\n");
    check_score_refuses(model, "", longer, "stdin:1: 641 tokens, but the model's context is 640");
    check_score_refuses(model, "", "{\"ids\": [1]}\n{\"ids\": [300]}\n",
                        "stdin:2: \"ids\"[0] is 300");
    check_score_refuses(model, "", "{\"ids\": [-1]}\n", "stdin:1: \"ids\"[0] is -1");
    check_score_refuses(model, "", "{\"id\": [1]}\n", "neither \"text\" nor \"ids\"");
    check_score_refuses(model, "--top 301", "{\"ids\": [1]}\n", "--top 301");
    check_score_refuses(model, "--compute f64", "", "--compute takes");
    check_score_refuses("/nonexistent", "", "", "/nonexistent");
    unlink(model);
}

int main(void) {
    RUN(test_logits_and_greedy_tokens_equal_the_reference);
    RUN(test_score_command);
    return check_report();
}
