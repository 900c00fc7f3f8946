/* The tiny model that forks, through the whole runtime, against the PyTorch evaluator's tokens:
 * every form, 200 held-out problems, f32, greedy (bench/countdown/fixtures). */
#include <jansson.h>
#include <string.h>

#include "check.h"
#include "model/model.h"
#include "reason/driver_live.h"

enum { PROBLEMS = 200, MAX_TOKENS = 2000, MAX_PATHS = 24, AT_ONCE = 32 };

static const char model_path[] = "bench/countdown/countdown.gguf";

typedef struct form {
    const char *fixture, *dialect;
} form;

static const form forms[] = {{"message", "countdown-message"},
                             {"seq", "countdown-sequential"},
                             {"reprefill", "countdown-reprefill"},
                             {"stitch", "countdown-stitch"}};

typedef struct line { /* of a fixture, and what ours is made of */
    json_t *object;
    cop_token_ids prompt, spawn;
} line;

typedef struct run {
    cop_problem_queue queue;
    const cop_dialect *dialect;
    const cop_tokenizer *tokenizer;
    line *lines;
    uint32_t n, next;
    cop_live *lives[AT_ONCE];
    uint32_t of[AT_ONCE]; /* the line that each works on */
    bool busy[AT_ONCE];
    uint32_t differ, compared;
    uint64_t tokens;
} run;

static void encode(const run *r, const char *pattern, const char *problem, uint32_t k,
                   cop_token_ids *ids) {
    cop_buffer text = {0};
    CHECK_OK(cop_dialect_fill(r->dialect, pattern, problem, strlen(problem), k, &text));
    CHECK_OK(cop_tokenizer_encode(r->tokenizer, text.data, text.bytes,
                                  (cop_encode_options){.no_bos = true}, ids));
    cop_buffer_release(&text);
}

/* The fixture's prompt begins with the dialect's tags; the problem's own text follows them. */
static void read_lines(run *r, const char *name) {
    char path[128], text[1 << 16];
    snprintf(path, sizeof path, "bench/countdown/fixtures/%s.jsonl", name);
    FILE *fixtures = fopen(path, "r"), *problems = fopen("bench/countdown/problems-200.jsonl", "r");
    CHECK(fixtures && problems);
    r->lines = cop_calloc(PROBLEMS, sizeof *r->lines);
    while (r->n < PROBLEMS && fgets(text, sizeof text, problems)) {
        line *l = &r->lines[r->n];
        json_t *problem = json_loads(text, 0, NULL);
        CHECK(problem && fgets(text, sizeof text, fixtures));
        CHECK((l->object = json_loads(text, 0, NULL)) != NULL);
        CHECK_TEXT(json_string_value(json_object_get(l->object, "id")),
                   json_string_value(json_object_get(problem, "id")));
        const char *prompt = json_string_value(json_object_get(problem, "prompt"));
        uint32_t k = (uint32_t)json_integer_value(json_object_get(l->object, "k"));
        encode(r, r->dialect->prompt, prompt, k, &l->prompt);
        if (r->dialect->join == COP_JOIN_MESSAGE)
            encode(r, r->dialect->spawn_prompt, prompt, k, &l->spawn);
        json_decref(problem);
        r->n++;
    }
    CHECK_EQ(r->n, PROBLEMS);
    fclose(fixtures);
    fclose(problems);
}

static uint32_t put(int32_t *out, uint32_t n, const json_t *ids) {
    for (size_t i = 0; i < json_array_size(ids); i++)
        out[n++] = (int32_t)json_integer_value(json_array_get(ids, i));
    return n;
}

/* What the sample's ids must be: turns, between them each block's threads (not for messages, where
 * the inserted ids are the replies) and what the join inserts. */
static uint32_t flatten(const run *r, const json_t *object, int32_t thr, int32_t *out) {
    const json_t *turns = json_object_get(object, "turns");
    const json_t *threads = json_object_get(object, "threads");
    uint32_t n = 0;
    for (size_t t = 0; t < json_array_size(turns); t++) {
        const json_t *turn = json_array_get(turns, t), *block = json_array_get(threads, t);
        n = put(out, n, json_array_get(turn, 0));
        for (size_t i = 0; r->dialect->join != COP_JOIN_MESSAGE && i < json_array_size(block);
             i++) {
            out[n++] = thr;
            n = put(out, n, json_array_get(json_array_get(block, i), 0));
            n = put(out, n, json_array_get(json_array_get(block, i), 1));
        }
        n = put(out, n, json_array_get(turn, 1));
    }
    return n;
}

static bool paths_equal(const cop_live *live, const json_t *threads, int32_t thr) {
    uint32_t at = 0;
    int32_t ids[512];
    for (size_t b = 0; b < json_array_size(threads); b++) {
        const json_t *block = json_array_get(threads, b);
        for (size_t i = 0; i < json_array_size(block); i++, at++) {
            if (at >= cop_live_path_count(live))
                return false;
            cop_live_path path = cop_live_path_read(live, at);
            uint32_t n = put(ids, 1, json_array_get(json_array_get(block, i), 0));
            ids[0] = thr;
            bool same = path.n_header == n && path.block == b && path.index == i &&
                        path.stop == COP_STOP_END;
            n = put(ids, n, json_array_get(json_array_get(block, i), 1));
            if (!same || path.n_ids != n || memcmp(path.ids, ids, n * sizeof *ids) != 0)
                return false;
        }
    }
    return at == cop_live_path_count(live);
}

static void compare(run *r, const cop_live *live, const json_t *object) {
    static int32_t expected[1 << 15];
    int32_t thr = cop_tokenizer_find_special(r->tokenizer, "<thr>", 5);
    cop_live_sample sample = cop_live_sample_read(live, 0);
    uint32_t n = flatten(r, object, thr, expected);
    bool same = sample.n_ids == n && memcmp(sample.ids, expected, n * sizeof *expected) == 0 &&
                paths_equal(live, json_object_get(object, "threads"), thr);
    const char *answer = json_string_value(json_object_get(object, "answer"));
    char claimed[128] = "";
    if (sample.answer) /* " 18 + 15 ..": the space belongs to the first number's token */
        snprintf(claimed, sizeof claimed, "%.*s", (int)sample.answer_bytes - 1, sample.answer + 1);
    same &= strcmp(claimed, answer) == 0;
    r->compared++;
    r->tokens += sample.generated;
    if (!same) {
        r->differ++;
        fprintf(stderr, "%s: %u ids, expected %u; answer '%s', expected '%s'\n",
                json_string_value(json_object_get(object, "id")), sample.n_ids, n, claimed, answer);
    }
}

static cop_driver *next(cop_problem_queue *queue) {
    run *r = (run *)queue;
    if (r->next == check_effort(r->n, 4))
        return NULL;
    uint32_t place = 0;
    while (r->busy[place])
        place++;
    const line *l = &r->lines[r->next];
    r->busy[place] = true;
    r->of[place] = r->next++;
    CHECK_OK(cop_live_reset(r->lives[place], l->prompt.data, (uint32_t)l->prompt.count,
                            l->spawn.data, (uint32_t)l->spawn.count, r->of[place]));
    return cop_live_driver(r->lives[place]);
}

static void ended(cop_problem_queue *queue, cop_driver *driver, const cop_problem_result *result) {
    run *r = (run *)queue;
    uint32_t place = 0;
    while (cop_live_driver(r->lives[place]) != driver)
        place++;
    r->busy[place] = false;
    compare(r, r->lives[place], r->lines[r->of[place]].object);
    cop_live_sample sample = cop_live_sample_read(r->lives[place], 0);
    CHECK_EQ(result->tokens_total, sample.generated);
    CHECK(result->end_ns >= result->begin_ns);
}

static void run_all(run *r, const cop_model *model, uint32_t at_once) {
    cop_engine_options options = {.backend = "cpu",
                                  .arith = COP_ARITH_F32,
                                  .n_threads = 2,
                                  .page_tokens = 32,
                                  .n_pages = at_once * 256,
                                  .max_branches = at_once * (MAX_PATHS + 3),
                                  .max_rows = at_once * (MAX_PATHS + 64),
                                  .max_positions = 2048};
    cop_engine *engine;
    CHECK_OK(cop_engine_create(model, &options, &engine));
    for (uint32_t i = 0; i < at_once; i++) {
        cop_live_options live = {.dialect = r->dialect,
                                 .tokenizer = r->tokenizer,
                                 .prompt = r->lines[0].prompt.data,
                                 .n_prompt = (uint32_t)r->lines[0].prompt.count,
                                 .spawn = r->lines[0].spawn.data,
                                 .n_spawn = (uint32_t)r->lines[0].spawn.count,
                                 .n_samples = 1,
                                 .max_tokens = MAX_TOKENS,
                                 .max_branches = MAX_PATHS,
                                 .top_p = 1};
        CHECK_OK(cop_live_create(&live, &r->lives[i]));
    }
    cop_metrics metrics;
    r->queue = (cop_problem_queue){next, ended};
    CHECK_OK(cop_engine_run_queue(engine, &r->queue, at_once, &metrics));
    CHECK_EQ(metrics.kv_pages_leaked, 0);
    CHECK_EQ(metrics.kv_load_bytes, metrics.kv_predicted_load_bytes);
    CHECK_EQ(metrics.kv_first_bytes, metrics.kv_min_bytes);
    CHECK_EQ(metrics.allocations_in_steps, 0);
    CHECK_EQ(metrics.tokens_total, r->tokens);
    CHECK_EQ(r->compared, check_effort(r->n, 4));
    for (uint32_t i = 0; i < at_once; i++)
        cop_live_destroy(r->lives[i]);
    cop_engine_destroy(engine);
}

static void check_form(const form *f, uint32_t at_once) {
    cop_model *model;
    cop_dialect_file *dialect;
    CHECK_OK(cop_model_open(model_path, &model));
    CHECK_OK(cop_dialect_open(f->dialect, &dialect));
    run r = {.dialect = cop_dialect_of(dialect), .tokenizer = cop_model_tokenizer(model)};
    read_lines(&r, f->fixture);
    run_all(&r, model, at_once);
    CHECK_EQ(r.differ, 0);
    for (uint32_t i = 0; i < r.n; i++) {
        json_decref(r.lines[i].object);
        cop_token_ids_release(&r.lines[i].prompt);
        cop_token_ids_release(&r.lines[i].spawn);
    }
    cop_free(r.lines);
    cop_dialect_close(dialect);
    cop_model_close(model);
}

static void test_message_join_gives_the_evaluators_tokens(void) {
    check_form(&forms[0], AT_ONCE);
}

static void test_sequential_gives_the_evaluators_tokens(void) {
    check_form(&forms[1], AT_ONCE);
}

static void test_reprefill_gives_the_evaluators_tokens(void) {
    check_form(&forms[2], AT_ONCE);
}

static void test_stitch_gives_the_evaluators_tokens(void) {
    check_form(&forms[3], AT_ONCE);
}

int main(void) {
    RUN(test_message_join_gives_the_evaluators_tokens);
    RUN(test_sequential_gives_the_evaluators_tokens);
    RUN(test_reprefill_gives_the_evaluators_tokens);
    RUN(test_stitch_gives_the_evaluators_tokens);
    return check_report();
}
