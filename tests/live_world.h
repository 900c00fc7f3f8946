/* A world for tests of live decoding: a tiny model with random weights over a tokenizer of bytes,
 * whose output is scripted through logit biases, so that tags are found in sampled tokens, whole
 * ones and ones that straddle tokens.
 *
 *   world w = live_world_open("multiverse", 64, 4096);
 *   cop_script script[] = {live_world_say(&w, "", "Hi ..$"), live_world_say(&w, "1", "
 * one</Path>")}; cop_live *live = live_world_run(&w, &(cop_live_options){.script = script,
 * .n_script = 2}, &metrics);
 *
 * Every run must leave no page behind, allocate nothing and load what its plan says.
 */
#pragma once

#include <math.h>
#include <unistd.h>

#include "base/memory.h"
#include "check.h"
#include "reason/driver_live.h"
#include "ref/gguf_writer.h"

enum { LIVE_WORLD_VOCAB = 400 };

/* Bytes as in test_tokenizer's vocabulary, and longer tokens that no merge makes: only a script
 * says them. Printable ASCII stands for itself; newline and space are GPT-2's letters for them. */
static const char *const live_world_extra[] = {
    "</Goal",
    "l>\u010a<Pa",
    ">\u010a<Path>",
    "></",
    ">XY",
    "h>Z",
    "</Path",
    "</Thread>",
    "</Outlines>",
    /* 9: */ "<tr",
    "y>\u01201",
    "4<try>3",
    "<fo",
    "rk>YZ",
    "<en",
    "d>Q", /* 16: many at once */
    "<try><try><try><try><try><try><try><try><try><try><try><try><try><try><try><try>"};
enum { LIVE_WORLD_EXTRA = sizeof live_world_extra / sizeof live_world_extra[0] };

/* Set before a world is opened: the tags of the field's systems are control tokens of it, as in the
 * models that were trained for them. */
static bool live_world_tags;
static const char *const live_world_tag_texts[] = {
    "<Parallel>", "</Parallel>", "<Outlines>",   "</Outlines>",   "<Outline>",   "</Outline>",
    "<Thread>",   "</Thread>",   "<Conclusion>", "</Conclusion>", "<Goal>",      "</Goal>",
    "<Path>",     "</Path>",     "<Summary>",    "</Summary>",    "<guideline>", "</guideline>",
    "<plan>",     "</plan>",     "<step>",       "</step>",       "<takeaway>",  "</takeaway>",
    "<think>",    "</think>"};
enum { LIVE_WORLD_TAGS = sizeof live_world_tag_texts / sizeof live_world_tag_texts[0] };

/* The same for tokens that hold the end of a paragraph: ids LIVE_WORLD_STEPS and the next. */
static bool live_world_steps;
enum { LIVE_WORLD_STEPS = 256 + LIVE_WORLD_EXTRA };

typedef struct world {
    cop_model *model;
    const cop_tokenizer *tokenizer;
    cop_dialect_file *dialect;
    cop_engine *engine;
} world;

static inline bool live_world_is_tag(const char *text) {
    for (uint32_t i = 0; i < LIVE_WORLD_TAGS; i++)
        if (strcmp(live_world_tag_texts[i], text) == 0)
            return true;
    return false;
}

static inline void live_world_save(const char *path) {
    gguf_writer w = {0};
    gguf_writer_byte_tokenizer(&w, "gpt-2", 257);
    gguf_writer_release(&w);
    w = (gguf_writer){0};
    static char letters[256][4];
    static const char *tokens[LIVE_WORLD_VOCAB];
    static int32_t types[LIVE_WORLD_VOCAB];
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
    for (uint32_t i = 0; i < LIVE_WORLD_EXTRA; i++) {
        types[n] = live_world_tags && live_world_is_tag(live_world_extra[i]) ? 3 : 1;
        tokens[n++] = live_world_extra[i];
    }
    for (uint32_t i = 0; live_world_tags && i < LIVE_WORLD_TAGS; i++) {
        if (strcmp(live_world_tag_texts[i], "</Thread>") == 0 ||
            strcmp(live_world_tag_texts[i], "</Outlines>") == 0)
            continue; /* among the extra ones */
        types[n] = 3;
        tokens[n++] = live_world_tag_texts[i];
    }
    for (uint32_t i = 0; live_world_steps && i < 2; i++) {
        types[n] = 1;
        tokens[n++] = i ? "?\u010a\u010a\u010aX" : "\u010a\u010a";
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

/* An engine of the world's; the options need sizes and a policy alone. */
static inline cop_engine *live_world_engine(const world *w, cop_engine_options options) {
    cop_engine *engine;
    options.arith = COP_ARITH_F32;
    options.n_threads = 1;
    options.page_tokens = 16;
    options.seed = 1;
    CHECK_OK(cop_engine_create(w->model, &options, &engine));
    return engine;
}

static inline world live_world_open(const char *dialect, uint32_t max_branches,
                                    uint32_t max_positions) {
    world w = {0};
    char path[] = "/tmp/coppice-live-XXXXXX";
    int file = mkstemp(path);
    CHECK(file >= 0);
    close(file);
    live_world_save(path);
    CHECK_OK(cop_model_open(path, &w.model));
    unlink(path);
    w.tokenizer = cop_model_tokenizer(w.model);
    CHECK_OK(cop_dialect_load_named(".", dialect, &w.dialect));
    w.engine = live_world_engine(&w, (cop_engine_options){.n_pages = 2000,
                                                          .max_branches = max_branches,
                                                          .max_positions = max_positions});
    return w;
}

static inline void live_world_close(world *w) {
    cop_engine_destroy(w->engine);
    cop_dialect_close(w->dialect);
    cop_model_close(w->model);
}

/* The world's dialect, to be changed. */
static inline cop_dialect live_world_dialect(const world *w) {
    return *cop_dialect_of(w->dialect);
}

/* A script in text: {..} holds one extra token, everything else goes byte by byte; "$" is the end.
 * Its ids are freed by live_world_free. */
static inline cop_script live_world_say(const world *w, const char *path, const char *text) {
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

/* The same as the tokenizer has it: a tag that is a token is said as one. "$" is the end. */
static inline cop_script live_world_say_tags(const world *w, const char *path, const char *text) {
    cop_token_ids ids = {0};
    size_t bytes = strlen(text);
    int32_t end = cop_tokenizer_find_special(w->tokenizer, "<|end|>", 7);
    int32_t *said = cop_calloc(bytes + 1, sizeof *said);
    uint32_t n = 0;
    for (size_t at = 0; at < bytes;) {
        size_t piece = strcspn(text + at, "$");
        ids.count = 0;
        CHECK_OK(cop_tokenizer_encode(w->tokenizer, text + at, piece,
                                      (cop_encode_options){.no_bos = true}, &ids));
        for (size_t i = 0; i < ids.count; i++)
            said[n++] = ids.data[i];
        at += piece;
        if (at < bytes)
            said[n++] = end, at++;
    }
    cop_token_ids_release(&ids);
    return (cop_script){path, said, n};
}

static inline void live_world_free(cop_script *script, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        cop_free((void *)script[i].ids);
}

static const int32_t live_world_prompt[] = {'G', 'o', ':', ' '}, live_world_spawn[] = {'S', ':'};

static inline cop_live *live_world_create(const world *w, const cop_live_options *given) {
    cop_live_options options = *given;
    if (!options.dialect)
        options.dialect = cop_dialect_of(w->dialect);
    options.tokenizer = w->tokenizer;
    if (!options.prompt)
        options.prompt = live_world_prompt, options.n_prompt = 4;
    if (!options.spawn)
        options.spawn = live_world_spawn, options.n_spawn = 2;
    options.n_samples = options.n_samples ? options.n_samples : 1;
    options.max_tokens = options.max_tokens ? options.max_tokens : 400;
    options.max_branches = options.max_branches ? options.max_branches : 24;
    options.top_p = 1;
    cop_live *live;
    CHECK_OK(cop_live_create(&options, &live));
    return live;
}

static inline void live_world_step(const world *w, cop_live *live, cop_metrics *m) {
    cop_driver *driver = cop_live_driver(live);
    CHECK_OK(cop_engine_run(w->engine, &driver, 1, m));
    CHECK_EQ(m->kv_pages_leaked, 0);
    CHECK_EQ(m->allocations_in_steps, 0);
    CHECK_EQ(m->kv_load_bytes, m->kv_predicted_load_bytes);
    CHECK_EQ(m->kv_first_bytes, m->kv_min_bytes);
    CHECK_EQ(m->failed_rows, 0);
}

/* Runs with defaults for what is 0 in the options, and frees the script. */
static inline cop_live *live_world_run(const world *w, const cop_live_options *options,
                                       cop_metrics *m) {
    cop_live *live = live_world_create(w, options);
    live_world_step(w, live, m);
    live_world_free((cop_script *)options->script, options->n_script);
    return live;
}

static inline uint64_t live_world_hash(uint64_t h, const void *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        h = cop_rng_fold(h, ((const unsigned char *)data)[i]);
    return h;
}

/* Copies of what a driver's life ends with. */
typedef struct live_text {
    char text[8192];
} live_text;

static inline live_text live_world_text(const char *text, size_t bytes) {
    live_text out;
    CHECK(bytes < sizeof out.text);
    memcpy(out.text, text, bytes);
    out.text[bytes] = '\0';
    return out;
}

static inline live_text live_world_read(const cop_live *live) {
    cop_live_sample sample = cop_live_sample_read(live, 0);
    return live_world_text(sample.text, sample.bytes);
}

static inline live_text live_world_path(const cop_live *live, uint32_t i) {
    cop_live_path path = cop_live_path_read(live, i);
    return live_world_text(path.text, path.bytes);
}

/* The last `n` tokens of sample 0 are those that a run without forks gives over all text before
 * them: what a join by text leaves in the KV is what the text says. */
static inline void live_world_check_text_join(const world *w, const cop_live *live, uint32_t n) {
    cop_live_sample sample = cop_live_sample_read(live, 0);
    CHECK(sample.n_ids > n);
    uint32_t before = sample.n_ids - n;
    int32_t *ids = cop_calloc(before + 4, sizeof *ids);
    memcpy(ids, live_world_prompt, sizeof live_world_prompt);
    memcpy(ids + 4, sample.ids, before * sizeof *ids);
    cop_dialect plain = {.name = "plain", .join = COP_JOIN_NONE, .prompt = "{problem}"};
    for (int e = 0; e < COP_EL_COUNT; e++)
        plain.open[e].text = plain.close[e].text = "";
    cop_metrics m;
    cop_live *again = live_world_run(
        w,
        &(cop_live_options){
            .dialect = &plain, .prompt = ids, .n_prompt = before + 4, .max_tokens = n},
        &m);
    cop_live_sample plainly = cop_live_sample_read(again, 0);
    CHECK_EQ(plainly.n_ids, n);
    CHECK(memcmp(plainly.ids, sample.ids + before, n * sizeof *ids) == 0);
    cop_live_destroy(again);
    cop_free(ids);
}
