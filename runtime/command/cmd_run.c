#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command/command.h"
#include "command/job_line.h"
#include "config/paths.h"
#include "model/chat.h"

enum { PROMPT_BYTES_MAX = 16 << 20, RUN_BRANCHES = 65 };

typedef struct run_line {
    cop_job_line shared;
    const char *prompt, *prompt_file, *dialect;
    uint32_t max_tokens, top_k;
    double temperature, top_p, min_p;
    bool chat, json;
} run_line;

static cop_status read_prompt(const run_line *line, cop_buffer *out) {
    if (!line->prompt == !line->prompt_file)
        return COP_FAIL(COP_ERR_USAGE, "give the prompt with --prompt or with --prompt-file");
    if (line->prompt)
        return cop_buffer_append(out, line->prompt, strlen(line->prompt));
    FILE *file = fopen(line->prompt_file, "rb");
    if (!file)
        return COP_FAIL(COP_ERR_IO, "%s: %s", line->prompt_file, strerror(errno));
    char block[65536];
    size_t bytes;
    cop_status status = COP_OK;
    while (status == COP_OK && (bytes = fread(block, 1, sizeof block, file)) > 0) {
        status = cop_buffer_append(out, block, bytes);
        if (status == COP_OK && out->bytes > PROMPT_BYTES_MAX)
            status = COP_FAIL(COP_ERR_CONTEXT, "%s is larger than %d MiB", line->prompt_file,
                              PROMPT_BYTES_MAX >> 20);
    }
    if (status == COP_OK && ferror(file))
        status = COP_FAIL(COP_ERR_IO, "%s: %s", line->prompt_file, strerror(errno));
    fclose(file);
    return status;
}

static cop_status encode_prompt(const run_line *line, const cop_model *model, cop_token_ids *ids) {
    const cop_tokenizer *tokenizer = cop_model_tokenizer(model);
    if (!tokenizer)
        return COP_FAIL(COP_ERR_UNSUPPORTED, "random weights have no tokenizer, so no prompt can "
                                             "be read: use `replay` or `bench` with --random");
    cop_buffer text = {0}, wrapped = {0};
    char root[COP_PATH_BYTES];
    cop_status status = read_prompt(line, &text);
    if (status == COP_OK && line->chat)
        status = cop_root_folder(root);
    if (status == COP_OK && line->chat)
        status = cop_chat_apply(root, tokenizer, text.data ? text.data : "", text.bytes, &wrapped);
    const cop_buffer *use = line->chat ? &wrapped : &text;
    if (status == COP_OK)
        status = cop_tokenizer_encode(tokenizer, use->data ? use->data : "", use->bytes,
                                      (cop_encode_options){0}, ids);
    if (status == COP_OK && ids->count == 0)
        status = COP_FAIL(COP_ERR_USAGE, "the prompt is empty: give at least one token");
    cop_buffer_release(&text);
    cop_buffer_release(&wrapped);
    return status;
}

/* Text as it is said, whole characters only; a path's text is not mixed into its siblings': with
 * several branches at once each line says whose it is. */
typedef struct stream_state {
    cop_utf8_stream utf8;
    bool any_path;
} stream_state;

static void stream_text(void *context, uint32_t sample, const char *path, const char *text,
                        size_t bytes) {
    stream_state *state = context;
    (void)sample;
    char out[3 * 256 + COP_UTF8_SLACK];
    if (path[0]) { /* paths run at once: their text comes with the result */
        if (!state->any_path)
            fputs(" [branches run] ", stdout);
        state->any_path = true;
        fflush(stdout);
        return;
    }
    for (size_t at = 0; at < bytes; at += 256) {
        size_t n = bytes - at < 256 ? bytes - at : 256;
        fwrite(out, 1, cop_utf8_stream_push(&state->utf8, text + at, n, false, out), stdout);
    }
    fflush(stdout);
}

static cop_status print_json(const cop_job *job, const cop_token_ids *prompt,
                             const cop_live_sample *sample, const cop_metrics *metrics) {
    char *text = malloc(3 * sample->bytes + 2 * COP_UTF8_SLACK);
    json_t *ids = json_array();
    if (!text || !ids) {
        free(text);
        json_decref(ids);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the answer");
    }
    cop_utf8_stream utf8 = {0};
    size_t bytes = cop_utf8_stream_push(&utf8, sample->text, sample->bytes, false, text);
    bytes += cop_utf8_stream_push(&utf8, NULL, 0, true, text + bytes);
    for (uint32_t i = 0; i < sample->n_ids; i++)
        json_array_append_new(ids, json_integer(sample->ids[i]));
    json_t *object = json_pack(
        "{s:o, s:o, s:s, s:i, s:s, s:s, s:b, s:i, s:i, s:o}", "ids", ids, "text",
        json_stringn(text, bytes), "stop", cop_stop_name(sample->stop), "prompt_tokens",
        (int)prompt->count, "model", cop_model_name(cop_job_model(job)), "status",
        sample->stop == COP_STOP_NONE ? "partial" : "complete", "random_weights",
        (int)cop_model_is_random(cop_job_model(job)), "forks", (int)sample->forks, "forks_refused",
        (int)sample->forks_refused, "metrics", cop_metrics_to_json(metrics));
    free(text);
    char *line = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!line)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the answer");
    cop_buffer out = {0};
    cop_status status = cop_buffer_printf(&out, "%s\n", line);
    free(line);
    if (status == COP_OK)
        status = cop_command_output(&out);
    cop_buffer_release(&out);
    return status;
}

static void print_summary(const cop_live_sample *sample, const cop_metrics *m,
                          stream_state *state) {
    if (state->any_path) /* the whole text in order, now that every join is done */
        printf("\n----\n%.*s", (int)sample->bytes, sample->text);
    printf("\n");
    fprintf(stderr,
            "[%llu tokens, longest thread %llu, %llu steps, %llu forks, stop: %s, %.1f tokens/s, "
            "first token after %.0f ms]\n",
            (unsigned long long)m->tokens_total, (unsigned long long)m->tokens_longest_thread,
            (unsigned long long)m->steps_forward, (unsigned long long)m->forks,
            cop_stop_name(sample->stop), (double)m->tokens_total / ((double)m->wall_ns / 1e9),
            (double)m->ttft_ns / 1e6);
}

static cop_status decode(const run_line *line, cop_job *job, const cop_dialect *dialect,
                         const cop_token_ids *prompt) {
    const cop_model_shape *shape = cop_model_shape_of(cop_job_model(job));
    bool extrapolate = line->shared.allow_extrapolation;
    if (prompt->count >= shape->context && !extrapolate)
        return COP_FAIL(COP_ERR_CONTEXT,
                        "the prompt has %zu tokens, the model's context is %u: shorten the prompt, "
                        "or pass --allow-extrapolation",
                        prompt->count, shape->context);
    uint64_t whole = prompt->count + (uint64_t)line->max_tokens;
    if (whole > shape->context && !extrapolate)
        whole = shape->context; /* decoding stops there, and says "length" */
    bool forks = dialect && dialect->join != COP_JOIN_NONE;
    /* Headers and join texts are fed on top of max_tokens. */
    uint64_t positions = whole + (forks ? 64 * RUN_BRANCHES : 0);
    if (positions > shape->context && !extrapolate)
        positions = shape->context;
    stream_state state = {0};
    cop_live_options options = {.dialect = dialect,
                                .tokenizer = cop_model_tokenizer(cop_job_model(job)),
                                .prompt = prompt->data,
                                .n_prompt = (uint32_t)prompt->count,
                                .n_samples = 1,
                                .max_tokens = line->max_tokens,
                                .max_branches = forks ? RUN_BRANCHES - 1 : 1,
                                .temperature = (float)line->temperature,
                                .top_p = (float)line->top_p,
                                .min_p = (float)line->min_p,
                                .top_k = line->top_k,
                                .listener = line->json ? NULL : stream_text,
                                .listener_context = &state};
    cop_job_size size = {.tokens = forks ? 2 * whole + RUN_BRANCHES * 64 : whole,
                         .segments = forks ? 4 * RUN_BRANCHES : 4,
                         .branches = forks ? 2 * RUN_BRANCHES : 3,
                         .positions = (uint32_t)positions,
                         .what = "the prompt and its answer"};
    cop_engine *engine = NULL;
    cop_live *live = NULL;
    cop_metrics metrics;
    cop_status status = cop_job_engine(job, &size, NULL, &engine);
    if (status == COP_OK)
        status = cop_live_create(&options, &live);
    if (status == COP_OK) {
        cop_driver *driver = cop_live_driver(live);
        status = cop_engine_run(engine, &driver, 1, &metrics);
        bool partial = status == COP_ERR_INTERRUPTED;
        if (partial && cop_live_gather(live) != COP_OK)
            partial = false;
        cop_live_sample sample = cop_live_sample_read(live, 0);
        if (line->json && (status == COP_OK || partial)) {
            cop_status printed = print_json(job, prompt, &sample, &metrics);
            status = status == COP_OK ? printed : status;
        } else if (status == COP_OK || partial) {
            print_summary(&sample, &metrics, &state);
        }
        if (status == COP_OK && sample.stop == COP_STOP_FAILED)
            status = COP_FAIL(COP_ERR_NONFINITE,
                              "the model gave values that are not finite after "
                              "%u tokens: check its weights with info --model",
                              sample.generated);
    }
    cop_live_destroy(live);
    cop_engine_destroy(engine);
    return status;
}

static cop_status run(const run_line *line) {
    cop_job_options options;
    cop_job *job = NULL;
    cop_dialect_file *dialect = NULL;
    cop_token_ids prompt = {0};
    COP_TRY(cop_job_line_read(&line->shared, &options));
    COP_TRY(cop_job_create(&options, &job));
    cop_status status = line->dialect ? cop_dialect_open(line->dialect, &dialect) : COP_OK;
    if (status == COP_OK)
        status = encode_prompt(line, cop_job_model(job), &prompt);
    if (status == COP_OK)
        status = decode(line, job, dialect ? cop_dialect_of(dialect) : NULL, &prompt);
    cop_token_ids_release(&prompt);
    cop_dialect_close(dialect);
    cop_job_destroy(job);
    return status;
}

int cop_command_run(int argc, char **argv) {
    run_line line = {.shared = COP_JOB_LINE_DEFAULT, .max_tokens = 256, .top_p = 1};
    const cop_option options[] = {
        COP_JOB_LINE_OPTIONS(line.shared),
        {"prompt", COP_OPTION_TEXT, &line.prompt, "TEXT", "the prompt"},
        {"prompt-file", COP_OPTION_TEXT, &line.prompt_file, "FILE", "or a file that holds it"},
        {"max-tokens", COP_OPTION_U32, &line.max_tokens, "N",
         "generated tokens, all branches together (256)", .min = 1, .max = 1u << 20},
        {"temperature", COP_OPTION_F64, &line.temperature, "X", "0 is greedy (0)", .low = 0,
         .high = 100},
        {"top-k", COP_OPTION_U32, &line.top_k, "N", "0 is off (0)", .max = 1u << 20},
        {"top-p", COP_OPTION_F64, &line.top_p, "X", "1 is off (1)", .low = 0.001, .high = 1},
        {"min-p", COP_OPTION_F64, &line.min_p, "X", "0 is off (0)", .low = 0, .high = 1},
        {"chat", COP_OPTION_FLAG, &line.chat, NULL,
         "wrap the prompt in the model's chat format (configs/chat/)"},
        {"dialect", COP_OPTION_TEXT, &line.dialect, "NAME",
         "fork and join as this dialect says: a name in configs/dialects/, or a file"},
        {"json", COP_OPTION_FLAG, &line.json, NULL,
         "print one object: ids, text, stop, metrics, .."},
    };
    const cop_command_line command = {
        "run", "--model FILE --prompt TEXT [options]",
        "Decodes one prompt. Text streams as it is said; with --json one object comes at the\n"
        "end. `ids` ends with the end-of-text token when the model said it; `text` leaves it\n"
        "out. `stop` is end, length, path or failed. Ctrl-C ends with what there is, marked\n"
        "\"partial\".",
        options, sizeof options / sizeof options[0]};
    cop_operands operands;
    cop_status status = cop_options_parse(&command, argc, argv, &operands);
    if (status == COP_OK && operands.help)
        return 0;
    if (status == COP_OK)
        status = run(&line);
    return status == COP_OK ? 0 : cop_command_fail("run", status);
}
