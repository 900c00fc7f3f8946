/* Live decoding under a dialect: the model's output is scripted through logit biases over a real
 * tokenizer, so tags are found in sampled tokens, whole ones and ones that straddle tokens. */
#include <unistd.h>

#include "base/memory.h"
#include "check.h"
#include "reason/driver_live.h"
#include "ref/gguf_writer.h"

enum { VOCAB_MAX = 400 };

/* Bytes as in test_tokenizer's vocabulary, and longer tokens that no merge makes: only a script
 * says them. Printable ASCII stands for itself; newline is GPT-2's letter for it. */
static const char *const extra[] = {"</Goal", "l>\u010a<Pa", ">\u010a<Path>", "></",        ">XY",
                                    "h>Z",    "</Path",      "</Thread>",     "</Outlines>"};
enum { N_EXTRA = sizeof extra / sizeof extra[0] };

typedef struct world {
    cop_model *model;
    const cop_tokenizer *tokenizer;
    cop_dialect_file *dialect;
    cop_engine *engine;
} world;

static void save_model(const char *path) {
    gguf_writer w = {0};
    gguf_writer_byte_tokenizer(&w, "gpt-2", 257);
    gguf_writer_release(&w);
    w = (gguf_writer){0};
    static char letters[256][4];
    static const char *tokens[VOCAB_MAX];
    static int32_t types[VOCAB_MAX];
    uint32_t n = 0, shifted = 256;
    for (uint32_t byte = 0; byte < 256; byte++) { /* GPT-2's table of letters for bytes */
        bool plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        uint32_t code = plain ? byte : shifted++;
        char *s = letters[byte];
        if (code < 128)
            s[0] = (char)code;
        else
            s[0] = (char)(0xc0 | code >> 6), s[1] = (char)(0x80 | (code & 63));
        types[n] = 1;
        tokens[n++] = s;
    }
    for (uint32_t i = 0; i < N_EXTRA; i++) {
        types[n] = 1;
        tokens[n++] = extra[i];
    }
    types[n] = 3;
    tokens[n++] = "<|end|>";
    gguf_writer_model model = {.shape = {.n_layers = 2,
                                         .hidden = 32,
                                         .n_heads = 2,
                                         .n_kv_heads = 1,
                                         .head_dim = 16,
                                         .ffn = 64,
                                         .vocab = n,
                                         .context = 4096,
                                         .rope_theta = 10000,
                                         .rms_eps = 1e-5,
                                         .tied = true},
                               .dtype = COP_F32,
                               .seed = 5};
    gguf_writer_llama(&w, &model);
    gguf_writer_vocabulary vocabulary = {.pre = "gpt-2",
                                         .tokens = tokens,
                                         .types = types,
                                         .n_tokens = n,
                                         .bos = -1,
                                         .eos = (int32_t)n - 1};
    gguf_writer_tokenizer(&w, &vocabulary);
    gguf_image image = gguf_writer_finish(&w);
    gguf_image_save(&image, path);
    gguf_image_release(&image);
    gguf_writer_release(&w);
}

static world open_world(const char *dialect, uint32_t max_branches) {
    world w = {0};
    char path[] = "/tmp/coppice-live-XXXXXX";
    int file = mkstemp(path);
    CHECK(file >= 0);
    close(file);
    save_model(path);
    CHECK_OK(cop_model_open(path, &w.model));
    unlink(path);
    w.tokenizer = cop_model_tokenizer(w.model);
    CHECK_OK(cop_dialect_load_named(".", dialect, &w.dialect));
    cop_engine_options options = {.arith = COP_ARITH_F32,
                                  .page_tokens = 16,
                                  .n_pages = 2000,
                                  .max_branches = max_branches,
                                  .max_positions = 4096,
                                  .seed = 1};
    CHECK_OK(cop_engine_create(w.model, &options, &w.engine));
    return w;
}

static void close_world(world *w) {
    cop_engine_destroy(w->engine);
    cop_dialect_close(w->dialect);
    cop_model_close(w->model);
}

/* A script in text: {..} holds one extra token, everything else goes byte by byte; "$" is the end.
 */
static cop_script say(const world *w, const char *path, const char *text) {
    int32_t *ids = cop_calloc(strlen(text) + 1, sizeof *ids);
    uint32_t n = 0;
    int32_t end = cop_tokenizer_find_special(w->tokenizer, "<|end|>", 7);
    for (const char *c = text; *c; c++) {
        if (*c == '$') {
            ids[n++] = end;
        } else if (*c == '{') {
            ids[n++] = 256 + (int32_t)strtol(c + 1, NULL, 10);
            c = strchr(c, '}');
        } else {
            ids[n++] = (unsigned char)*c;
        }
    }
    return (cop_script){path, ids, n};
}

typedef struct outcome {
    char text[4096];
    cop_live_sample sample;
    cop_metrics metrics;
} outcome;

static outcome run(world *w, cop_script *script, uint32_t n, uint32_t max_tokens,
                   uint32_t max_branches) {
    static const int32_t prompt[] = {'G', 'o', ':', ' '};
    outcome out = {0};
    cop_live_options options = {.dialect = cop_dialect_of(w->dialect),
                                .tokenizer = w->tokenizer,
                                .prompt = prompt,
                                .n_prompt = 4,
                                .n_samples = 1,
                                .max_tokens = max_tokens,
                                .max_branches = max_branches,
                                .top_p = 1,
                                .script = script,
                                .n_script = n};
    cop_live *live;
    CHECK_OK(cop_live_create(&options, &live));
    cop_driver *driver = cop_live_driver(live);
    CHECK_OK(cop_engine_run(w->engine, &driver, 1, &out.metrics));
    CHECK_EQ(out.metrics.kv_pages_leaked, 0);
    CHECK_EQ(out.metrics.allocations_in_steps, 0);
    CHECK_EQ(out.metrics.kv_load_bytes, out.metrics.kv_predicted_load_bytes);
    out.sample = cop_live_sample_read(live, 0);
    CHECK(out.sample.bytes < sizeof out.text);
    memcpy(out.text, out.sample.text, out.sample.bytes);
    out.sample.text = NULL;
    out.sample.ids = NULL;
    cop_live_destroy(live);
    for (uint32_t i = 0; i < n; i++)
        cop_free((void *)script[i].ids);
    return out;
}

#define PLAN2 "<Parallel><Goal><Outline>1: a</Outline><Outline>2: b</Outline>"

static void test_multiverse_forks_and_stitches(void) {
    world w = open_world("multiverse", 64);
    cop_script script[] = {say(&w, "", "Hi" PLAN2 "</Goal>end.</Conclusion></Parallel>$"),
                           say(&w, "1", " one</Path>"), say(&w, "2", " second</Path>")};
    outcome o = run(&w, script, 3, 400, 40);
    CHECK_TEXT(o.text, "Hi" PLAN2 "</Goal>\n<Path>\n1: one</Path>\n<Path>\n2: second</Path>"
                       "\n<Conclusion>\nend.</Conclusion></Parallel>");
    CHECK_EQ(o.sample.stop, COP_STOP_END);
    CHECK_EQ(o.sample.forks, 1);
    CHECK_EQ(o.metrics.forks, 1);
    CHECK_EQ(o.metrics.joins, 1);
    CHECK_EQ(o.metrics.tokens_reprefilled, 0);
    CHECK_EQ(o.metrics.tokens_dropped, 0);
    /* Longest thread: the parent's own text, and the longer of the two paths with its header. */
    uint64_t parent = strlen("Hi" PLAN2 "</Goal>\n<Conclusion>\nend.</Conclusion></Parallel>") + 1;
    CHECK_EQ(o.metrics.tokens_longest_thread, parent + strlen("\n<Path>\n2: second</Path>"));
    close_world(&w);
}

static void test_tags_that_straddle_tokens_cut_them(void) {
    world w = open_world("multiverse", 64);
    /* "</Goal" + ">XY": the tag ends inside the second token; "XY" is dropped. */
    cop_script script[] = {say(&w, "", "Hi" PLAN2 "{0}{4}ok$"), say(&w, "1", " one{6}{2}"),
                           say(&w, "2", " two</Pat{5}")};
    outcome o = run(&w, script, 3, 400, 40);
    CHECK_TEXT(o.text, "Hi" PLAN2 "</Goal>\n<Path>\n1: one</Path>\n<Path>\n2: two</Path>"
                       "\n<Conclusion>\nok");
    CHECK_EQ(o.metrics.tokens_dropped, 3);
    CHECK_EQ(o.metrics.forks, 1);
    close_world(&w);
}

static void test_blocks_nest_where_the_dialect_allows(void) {
    world w = open_world("multiverse", 64);
    cop_script script[] = {
        say(&w, "", PLAN2 "</Goal>out$"), say(&w, "1", " x</Path>"),
        say(&w, "2",
            "<Parallel><Goal><Outline>2.1: c</Outline><Outline>2.2: d</Outline></Goal>"
            "in</Conclusion></Parallel></Path>"),
        say(&w, "2.1", " p</Path>"), say(&w, "2.2", " q</Path>")};
    outcome o = run(&w, script, 5, 600, 40);
    CHECK_TEXT(o.text,
               PLAN2 "</Goal>\n<Path>\n1: x</Path>\n<Path>\n2:<Parallel><Goal><Outline>2.1: "
                     "c</Outline><Outline>2.2: d</Outline></Goal>\n<Path>\n2.1: p</Path>\n<Path>\n"
                     "2.2: q</Path>\n<Conclusion>\nin</Conclusion></Parallel></Path>\n<Conclusion>"
                     "\nout");
    CHECK_EQ(o.metrics.forks, 2);
    CHECK_EQ(o.metrics.joins, 2);
    close_world(&w);
}

#define TW2 "<Parallel><Outlines><Outline>1: a</Outline><Outline>2: b</Outline></Outlines>"

static void test_threadweaver_prefills_again(void) {
    world w = open_world("threadweaver", 64);
    cop_script script[] = {say(&w, "", TW2 "</Parallel>done$"), say(&w, "1", " one</Thread>"),
                           say(&w, "2", " two</Thread>")};
    outcome o = run(&w, script, 3, 400, 40);
    CHECK_TEXT(o.text, TW2 "\n<Thread>\n1: one</Thread>\n<Thread>\n2: two</Thread></Parallel>done");
    CHECK_EQ(o.metrics.tokens_reprefilled,
             strlen("\n<Thread>\n1: one</Thread>\n<Thread>\n2: two</Thread>"));
    close_world(&w);
}

static void test_a_cut_thread_ends_the_run_as_threadweaver_does(void) {
    world w = open_world("threadweaver", 64);
    cop_script script[] = {say(&w, "", TW2 "never"), say(&w, "1", " one$"),
                           say(&w, "2", " a much longer thread</Thread>")};
    outcome o = run(&w, script, 3, 400, 40);
    CHECK_EQ(o.sample.stop, COP_STOP_PATH);
    CHECK_EQ(o.metrics.joins, 0);
    close_world(&w);
}

static void test_a_path_that_ends_without_its_tag_is_closed(void) {
    world w = open_world("multiverse", 64);
    cop_script script[] = {say(&w, "", PLAN2 "</Goal>c$"), say(&w, "1", " one$"),
                           say(&w, "2", " two</Path>")};
    outcome o = run(&w, script, 3, 400, 40);
    CHECK_TEXT(o.text, PLAN2 "</Goal>\n<Path>\n1: one</Path>\n<Path>\n2: two</Path>\n<Conclusion>"
                             "\nc");
    close_world(&w);
}

static void test_a_fork_that_cannot_be_is_refused_and_counted(void) {
    world w = open_world("multiverse", 64);
    cop_script none[] = {say(&w, "", "<Parallel><Goal></Goal>on$")};
    outcome o = run(&w, none, 1, 100, 40);
    CHECK_TEXT(o.text, "<Parallel><Goal></Goal>on");
    CHECK_EQ(o.sample.forks_refused, 1);
    cop_script many[] = {say(&w, "", PLAN2 "</Goal>on$")};
    o = run(&w, many, 1, 200, 2); /* no room for two paths beside the sample */
    CHECK_TEXT(o.text, PLAN2 "</Goal>on");
    CHECK_EQ(o.sample.forks_refused, 1);
    CHECK_EQ(o.metrics.forks, 0);
    close_world(&w);
}

static void test_the_budget_ends_a_run_inside_a_block(void) {
    world w = open_world("multiverse", 64);
    uint32_t before = (uint32_t)strlen(PLAN2 "</Goal>");
    cop_script script[] = {say(&w, "", PLAN2 "</Goal>c$"), say(&w, "1", " one and more and more"),
                           say(&w, "2", " two and more and more")};
    outcome o = run(&w, script, 3, before + 10, 40);
    CHECK_EQ(o.sample.stop, COP_STOP_LENGTH);
    CHECK_EQ(o.metrics.tokens_total, before + 10);
    close_world(&w);
}

static void test_sequential_has_no_tags(void) {
    world w = open_world("sequential", 8);
    cop_script script[] = {say(&w, "", PLAN2 "</Goal>c$")};
    outcome o = run(&w, script, 1, 200, 1);
    CHECK_TEXT(o.text, PLAN2 "</Goal>c");
    CHECK_EQ(o.metrics.forks, 0);
    close_world(&w);
}

int main(void) {
    RUN(test_multiverse_forks_and_stitches);
    RUN(test_tags_that_straddle_tokens_cut_them);
    RUN(test_blocks_nest_where_the_dialect_allows);
    RUN(test_threadweaver_prefills_again);
    RUN(test_a_cut_thread_ends_the_run_as_threadweaver_does);
    RUN(test_a_path_that_ends_without_its_tag_is_closed);
    RUN(test_a_fork_that_cannot_be_is_refused_and_counted);
    RUN(test_the_budget_ends_a_run_inside_a_block);
    RUN(test_sequential_has_no_tags);
    return check_report();
}
