/* Scripted decoding whose messages a program makes. */
#pragma once

#include "dialect_edit.h"
#include "live_world.h"

typedef struct outcome {
    live_text text;
    cop_live_sample sample; /* its pointers are gone */
    cop_metrics metrics;
    live_text paths[16];
    uint32_t n_paths;
} outcome;

#define COUNT(script) (uint32_t)(sizeof script / sizeof script[0])
#define SAY(path, text) live_world_say(&w, path, text)

static inline cop_message_program *start(const char *command, uint32_t timeout_ms,
                                         cop_program_failure on_failure) {
    cop_message_program *program;
    CHECK_OK(cop_message_program_start(
        &(cop_message_program_options){command, timeout_ms, on_failure}, &program));
    return program;
}

/* Runs the script; a text behind the prompt that goes on must be in the KV as it is written, so its
 * last `plain` tokens are those of a run without forks. */
static inline outcome run_with(const world *w, const char *command, cop_script *script, uint32_t n,
                               cop_live_options options, const char *prompt, uint32_t plain) {
    static outcome o;
    cop_token_ids ids = {0};
    o = (outcome){0};
    options.script = script;
    options.n_script = n;
    options.program = start(command, 20000, COP_PROGRAM_ENDS_RUN);
    if (prompt) {
        CHECK_OK(cop_tokenizer_encode(w->tokenizer, prompt, strlen(prompt),
                                      (cop_encode_options){.no_bos = true}, &ids));
        options.prompt = ids.data;
        options.n_prompt = (uint32_t)ids.count;
    }
    cop_live *live = live_world_run(w, &options, &o.metrics);
    o.text = live_world_read(live);
    o.sample = cop_live_sample_read(live, 0);
    o.n_paths = cop_live_path_count(live);
    for (uint32_t i = 0; i < o.n_paths && i < 16; i++)
        o.paths[i] = live_world_path(live, i);
    if (plain)
        live_world_check_text_join(w, live, plain);
    cop_live_destroy(live);
    cop_message_program_stop(options.program);
    cop_token_ids_release(&ids);
    return o;
}

static const char any[] = "{\"name\": \"any\", \"source\": \"a test\", \"join\": \"reprefill\", "
                          "\"program\": {\"recipe\": \"make-it --so\", \"paths\": true}, "
                          "\"paths_from\": \"message\", \"trigger\": {\"on\": \"end_of_text\"}, "
                          "\"refused\": \"ends_run\"}";
#define ANSWERS "python3 tests/message_answers.py "

static inline world open_any(const char *from, const char *to) {
    world w = live_world_open("sequential", 200, 4096);
    cop_dialect_close(w.dialect);
    CHECK_OK(load_edited(any, from, to, &w.dialect));
    return w;
}
