#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command/command.h"
#include "command/job_line.h"
#include "command/run_controller.h"
#include "config/paths.h"
#include "job/job_rule.h"
#include "model/chat.h"

enum { PROMPT_BYTES_MAX = 16 << 20, RUN_BRANCHES = 65 };

typedef struct run_line {
    cop_job_line shared;
    const char *prompt, *prompt_file, *dialect, *rule, *program, *program_failure;
    uint32_t max_tokens, top_k, ask_paths, samples;
    double temperature, top_p, min_p;
    uint32_t pace_ms, program_timeout_ms;
    bool chat, json, tree;
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

/* The prompt's ids, and those that a spawned child begins with where the dialect spawns. */
typedef struct run_prompt {
    cop_buffer problem, input, text, spawn_text; /* input: before a chat format is put around it */
    cop_token_ids ids, spawn;
} run_prompt;

static void release_prompt(run_prompt *prompt) {
    cop_buffer_release(&prompt->problem);
    cop_buffer_release(&prompt->input);
    cop_buffer_release(&prompt->text);
    cop_buffer_release(&prompt->spawn_text);
    cop_token_ids_release(&prompt->ids);
    cop_token_ids_release(&prompt->spawn);
}

static cop_status encode(const cop_tokenizer *tokenizer, const cop_buffer *text, bool no_bos,
                         cop_token_ids *ids) {
    return cop_tokenizer_encode(tokenizer, text->data ? text->data : "", text->bytes,
                                (cop_encode_options){.no_bos = no_bos}, ids);
}

static cop_status wrap_in_chat(const cop_tokenizer *tokenizer, cop_buffer *text) {
    char root[COP_PATH_BYTES];
    cop_buffer wrapped = {0};
    cop_status status = cop_root_folder(root);
    if (status == COP_OK)
        status =
            cop_chat_apply(root, tokenizer, text->data ? text->data : "", text->bytes, &wrapped);
    cop_buffer_release(text);
    *text = wrapped;
    return status;
}

static cop_status fill(const cop_dialect *dialect, const char *pattern, const cop_buffer *problem,
                       uint32_t paths, cop_buffer *out) {
    return cop_dialect_fill(dialect, pattern, problem->data ? problem->data : "", problem->bytes,
                            paths, out);
}

static cop_status make_prompt(const run_line *line, const cop_model *model,
                              const cop_dialect *dialect, run_prompt *out) {
    const cop_tokenizer *tokenizer = cop_model_tokenizer(model);
    if (!tokenizer)
        return COP_FAIL(COP_ERR_UNSUPPORTED, "random weights have no tokenizer, so no prompt can "
                                             "be read: use `replay` or `bench` with --random");
    if (line->ask_paths && (!dialect || !dialect->ask_paths))
        return COP_FAIL(COP_ERR_USAGE, "--ask-paths needs a dialect whose prompt says {k}");
    COP_TRY(read_prompt(line, &out->problem));
    if (dialect)
        COP_TRY(fill(dialect, dialect->prompt, &out->problem, line->ask_paths, &out->input));
    else
        COP_TRY(cop_buffer_append(&out->input, out->problem.data ? out->problem.data : "",
                                  out->problem.bytes));
    COP_TRY(
        cop_buffer_append(&out->text, out->input.data ? out->input.data : "", out->input.bytes));
    if (line->chat)
        COP_TRY(wrap_in_chat(tokenizer, &out->text));
    COP_TRY(encode(tokenizer, &out->text, false, &out->ids));
    if (out->ids.count == 0)
        return COP_FAIL(COP_ERR_USAGE, "the prompt is empty: give at least one token");
    if (dialect && dialect->spawn_prompt && dialect->spawn_prompt[0]) {
        COP_TRY(
            fill(dialect, dialect->spawn_prompt, &out->problem, line->ask_paths, &out->spawn_text));
        COP_TRY(encode(tokenizer, &out->spawn_text, false, &out->spawn));
    }
    return COP_OK;
}

/* What makes the dialect's messages, if it needs that. */
static cop_status open_program(const run_line *line, const cop_dialect *dialect,
                               cop_message_program **out) {
    const bool needs = dialect && dialect->program;
    cop_message_program_options options = {.command = line->program,
                                           .timeout_ms = line->program_timeout_ms};
    if (!line->program && line->program_failure)
        return COP_FAIL(COP_ERR_USAGE, "--program-failure goes with --program");
    if (line->program && !dialect)
        return COP_FAIL(COP_ERR_USAGE, "--program makes a dialect's messages: name it, --dialect");
    if (dialect)
        COP_TRY(cop_dialect_check_program(dialect, line->program != NULL));
    if (needs && line->rule)
        return COP_FAIL(COP_ERR_USAGE,
                        "dialect %s takes text back that was said, and a rule "
                        "cannot forget it: leave out --rule",
                        dialect->name);
    if (line->program_failure)
        COP_TRY(cop_program_failure_parse(line->program_failure, &options.on_failure));
    return needs ? cop_message_program_start(&options, out) : COP_OK;
}

/* The samples of a prompt, in as many runs of the engine as their rule asks for. */
typedef struct run_waves {
    cop_live_options options; /* of all samples */
    cop_run_wave *list;       /* [options.n_samples] */
    uint32_t n_list, n_run;
} run_waves;

static void drop_waves(run_waves *waves) {
    for (uint32_t i = 0; i < waves->n_list; i++)
        cop_live_destroy(waves->list[i].live);
    waves->n_list = waves->n_run = 0;
}

static cop_status run_wave(run_waves *waves, cop_engine *engine, uint32_t n, cop_metrics *sum) {
    cop_live_options options = waves->options;
    cop_metrics metrics;
    options.first_sample = waves->n_run;
    options.n_samples = n;
    cop_run_wave *wave = &waves->list[waves->n_list];
    COP_TRY(cop_live_create(&options, &wave->live));
    cop_driver *driver = cop_live_driver(wave->live);
    wave->n = n;
    waves->n_list++;
    waves->n_run += n;
    const cop_status status = cop_engine_run(engine, &driver, 1, &metrics);
    if (sum->steps_forward == 0)
        *sum = metrics;
    else
        cop_metrics_add(sum, &metrics);
    return status;
}

static cop_status run_samples(run_waves *waves, cop_engine *engine, cop_metrics *sum) {
    cop_rule *rule = waves->options.rule;
    const bool counted =
        rule && (waves->options.rule_over_samples || waves->options.dialect == NULL);
    if (rule)
        cop_rule_reset(rule);
    while (waves->n_run < waves->options.n_samples) {
        const uint32_t left = waves->options.n_samples - waves->n_run;
        const uint32_t may = counted ? cop_rule_may_open(rule) : left;
        if (may == 0) /* it has stopped all, or runs no more than it has */
            break;
        COP_TRY(run_wave(waves, engine, may < left ? may : left, sum));
    }
    return COP_OK;
}

/* The same work ahead of it, unheard, so that the prefix store is warm. */
static cop_status fill_store(run_waves *waves, cop_engine *engine, cop_metrics *fill) {
    const run_waves heard = *waves;
    waves->options.listener = NULL;
    const cop_status status = run_samples(waves, engine, fill);
    drop_waves(waves);
    waves->options = heard.options;
    return status;
}

static cop_job_size size_of(const run_line *line, const cop_dialect *dialect, uint64_t whole,
                            uint64_t positions) {
    const bool forks = dialect && dialect->join != COP_JOIN_NONE;
    const uint32_t n = line->samples;
    uint64_t calls = forks ? 1 + cop_dialect_calls(dialect) : 1; /* and once more, computed again */
    return (cop_job_size){.tokens = n * (forks ? calls * whole + RUN_BRANCHES * 64 : whole),
                          .segments = n * (forks ? 4 * RUN_BRANCHES : 4),
                          .branches = forks ? 2 * RUN_BRANCHES * n : n + 2,
                          .positions = (uint32_t)positions,
                          .what = "the prompt and its answer"};
}

/* Over the samples where there are several, over the paths of the one where its dialect forks. */
static cop_status open_rule(const run_line *line, const cop_job *job, bool forks,
                            cop_job_rule *out) {
    const cop_model *model = cop_job_model(job);
    const bool paths = forks && line->samples == 1;
    const cop_job_rule_limits limits = {.max_branches = paths ? RUN_BRANCHES : line->samples,
                                        .max_tokens = line->max_tokens,
                                        .model = model,
                                        .runs_prompts = line->samples == 1 && !forks};
    return line->rule ? cop_job_rule_open(line->rule, &limits, out) : COP_OK;
}

static cop_status find_failed(const run_waves *waves) {
    for (uint32_t i = 0; i < waves->n_list; i++) {
        for (uint32_t k = 0; k < waves->list[i].n; k++) {
            const cop_live_sample sample = cop_live_sample_read(waves->list[i].live, k);
            if (sample.stop == COP_STOP_FAILED)
                return COP_FAIL(COP_ERR_NONFINITE,
                                "the model gave values that are not finite after "
                                "%u tokens: check its weights with info --model",
                                sample.generated);
        }
    }
    return COP_OK;
}

static cop_status run_and_print(cop_job *job, cop_engine *engine, run_waves *waves,
                                const cop_token_ids *prompt, const cop_job_rule *rule,
                                cop_run_output *output) {
    cop_metrics metrics = {0}, fill = {0};
    if (cop_job_prefix_begin(job, engine))
        COP_TRY(fill_store(waves, engine, &fill));
    cop_status status = run_samples(waves, engine, &metrics);
    cop_job_prefix_charge(&fill, &metrics);
    bool partial = status == COP_ERR_INTERRUPTED && waves->n_list > 0 &&
                   cop_live_gather(waves->list[waves->n_list - 1].live) == COP_OK;
    if (status == COP_OK && waves->n_list == 0)
        return COP_FAIL(COP_ERR_CONFIG, "rule %s lets no sample run",
                        cop_rule_config_name(rule->config));
    if (status == COP_OK || partial) {
        const cop_run_result result = {.prompt = prompt,
                                       .waves = waves->list,
                                       .n_waves = waves->n_list,
                                       .many = waves->options.n_samples > 1,
                                       .rule = rule->rule ? rule : NULL,
                                       .metrics = &metrics};
        cop_status printed = cop_run_output_finish(output, job, &result);
        status = status == COP_OK ? printed : status;
    }
    return status == COP_OK ? find_failed(waves) : status;
}

static cop_status decode_samples(const run_line *line, cop_job *job, const cop_dialect *dialect,
                                 const run_prompt *given, cop_message_program *program,
                                 const cop_job_rule *rule, cop_run_output *output) {
    const cop_token_ids *prompt = &given->ids;
    const uint32_t context = cop_model_shape_of(cop_job_model(job))->context;
    const bool extrapolate = line->shared.allow_extrapolation;
    uint64_t whole = prompt->count + (uint64_t)line->max_tokens;
    if (whole > context && !extrapolate)
        whole = context; /* decoding stops there, and says "length" */
    const bool forks = dialect && dialect->join != COP_JOIN_NONE;
    /* Headers and join texts are fed on top of max_tokens. */
    uint64_t positions = whole + (forks ? 64 * RUN_BRANCHES : 0);
    if (positions > context && !extrapolate)
        positions = context;
    cop_job_size size = size_of(line, dialect, whole, positions);
    if (rule->rule)
        cop_job_rule_size(rule, size.branches, size.tokens, &size);
    run_waves waves = {.list = cop_calloc(line->samples, sizeof *waves.list)};
    if (!waves.list)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the samples");
    cop_engine *engine = NULL;
    cop_status status = cop_job_engine(job, &size, NULL, &engine);
    waves.options = (cop_live_options){
        .dialect = dialect,
        .tokenizer = cop_model_tokenizer(cop_job_model(job)),
        .prompt = prompt->data,
        .n_prompt = (uint32_t)prompt->count,
        .spawn = given->spawn.data,
        .n_spawn = (uint32_t)given->spawn.count,
        .n_samples = line->samples,
        .max_tokens = line->max_tokens,
        .max_branches = forks ? (RUN_BRANCHES - 1) * line->samples : 1,
        .temperature = (float)line->temperature,
        .top_p = (float)line->top_p,
        .min_p = (float)line->min_p,
        .top_k = line->top_k,
        .program = program,
        .rule = rule->rule,
        .rule_over_samples = line->samples > 1,
        .listener = line->json || line->samples > 1 ? NULL : cop_run_output_listen,
        .listener_context = output};
    if (status == COP_OK)
        status = run_and_print(job, engine, &waves, prompt, rule, output);
    drop_waves(&waves);
    cop_free(waves.list);
    cop_engine_destroy(engine);
    return status;
}

static cop_status decode_calls(const run_line *line, cop_job *job, const run_prompt *given,
                               const cop_job_rule *rule, cop_run_output *output) {
    const cop_run_controller what = {.rule = rule,
                                     .prompt = &given->ids,
                                     .input = given->input.data ? given->input.data : "",
                                     .input_bytes = given->input.bytes,
                                     .chat = line->chat,
                                     .extrapolate = line->shared.allow_extrapolation,
                                     .max_tokens = line->max_tokens,
                                     .temperature = (float)line->temperature,
                                     .top_p = (float)line->top_p,
                                     .min_p = (float)line->min_p,
                                     .top_k = line->top_k};
    return cop_run_controller_decode(job, &what, output);
}

static cop_status decode(const run_line *line, cop_job *job, const cop_dialect *dialect,
                         const run_prompt *given, cop_message_program *program) {
    const uint32_t context = cop_model_shape_of(cop_job_model(job))->context;
    if (given->ids.count >= context && !line->shared.allow_extrapolation)
        return COP_FAIL(COP_ERR_CONTEXT,
                        "the prompt has %zu tokens, the model's context is %u: shorten the prompt, "
                        "or pass --allow-extrapolation",
                        given->ids.count, context);
    cop_run_output output = {.json = line->json};
    cop_job_rule rule = {0};
    cop_status status = open_rule(line, job, dialect && dialect->join != COP_JOIN_NONE, &rule);
    if (status == COP_OK && line->tree)
        status = cop_live_tree_create(
            &(cop_live_tree_options){.title = line->prompt ? line->prompt : line->prompt_file,
                                     .pace_ms = line->pace_ms},
            &output.tree);
    if (status == COP_OK && rule.rule && cop_rule_needs_of(rule.rule).runs_prompts)
        status = decode_calls(line, job, given, &rule, &output);
    else if (status == COP_OK)
        status = decode_samples(line, job, dialect, given, program, &rule, &output);
    cop_live_tree_destroy(output.tree);
    cop_job_rule_close(&rule);
    return status;
}

static cop_status run(const run_line *line) {
    cop_job_options options;
    cop_job *job = NULL;
    cop_dialect_file *dialect = NULL;
    run_prompt prompt = {0};
    cop_message_program *program = NULL;
    if (line->tree && line->json)
        return COP_FAIL(COP_ERR_USAGE, "--tree and --json are two forms of output: give one");
    if (line->pace_ms && !line->tree)
        return COP_FAIL(COP_ERR_USAGE, "--pace is for --tree");
    if (line->tree && line->samples > 1)
        return COP_FAIL(COP_ERR_USAGE, "--tree draws one sample: leave out --samples");
    COP_TRY(cop_job_line_read(&line->shared, &options));
    if (line->dialect) /* before a model is read */
        COP_TRY(cop_dialect_open(line->dialect, &dialect));
    const cop_dialect *rules = dialect ? cop_dialect_of(dialect) : NULL;
    cop_status status = open_program(line, rules, &program);
    if (status == COP_OK)
        status = cop_job_create(&options, &job);
    if (status == COP_OK)
        status = make_prompt(line, cop_job_model(job), rules, &prompt);
    if (status == COP_OK)
        status = decode(line, job, rules, &prompt, program);
    cop_message_program_stop(program);
    release_prompt(&prompt);
    cop_dialect_close(dialect);
    cop_job_destroy(job);
    return status;
}

int cop_command_run(int argc, char **argv) {
    run_line line = {.shared = COP_JOB_LINE_DEFAULT,
                     .max_tokens = 256,
                     .samples = 1,
                     .top_p = 1,
                     .program_timeout_ms = COP_PROGRAM_TIMEOUT_MS};
    const cop_option options[] = {
        COP_JOB_LINE_OPTIONS(line.shared),
        {"prompt", COP_OPTION_TEXT, &line.prompt, "TEXT", "the prompt"},
        {"prompt-file", COP_OPTION_TEXT, &line.prompt_file, "FILE", "or a file that holds it"},
        {"max-tokens", COP_OPTION_U32, &line.max_tokens, "N",
         "generated tokens of a sample, all its branches together (256)", .min = 1,
         .max = 1u << 20},
        {"temperature", COP_OPTION_F64, &line.temperature, "X", "0 is greedy (0)", .low = 0,
         .high = 100},
        {"top-k", COP_OPTION_U32, &line.top_k, "N", "0 is off (0)", .max = 1u << 20},
        {"top-p", COP_OPTION_F64, &line.top_p, "X", "1 is off (1)", .low = 0.001, .high = 1},
        {"min-p", COP_OPTION_F64, &line.min_p, "X", "0 is off (0)", .low = 0, .high = 1},
        {"chat", COP_OPTION_FLAG, &line.chat, NULL,
         "wrap the prompt in the model's chat format (configs/chat/)"},
        {"dialect", COP_OPTION_TEXT, &line.dialect, "NAME",
         "fork and join as this dialect says: a name in configs/dialects/, or a file"},
        {"program", COP_OPTION_TEXT, &line.program, "COMMAND",
         "makes the dialect's messages, where its file says so (bench/recipes/*.py)"},
        {"program-timeout", COP_OPTION_U32, &line.program_timeout_ms, "MS",
         "what it may take for one answer (10000)", .min = 1, .max = 86400000},
        {"program-failure", COP_OPTION_TEXT, &line.program_failure, "RULE",
         "where it fails: ends-run, or goes-on, which refuses what it is asked from then on "
         "(ends-run)"},
        {"ask-paths", COP_OPTION_U32, &line.ask_paths, "K",
         "paths that the prompt asks for, where the dialect's prompt says so", .min = 1, .max = 64},
        {"samples", COP_OPTION_U32, &line.samples, "N",
         "answers to the prompt, side by side on its shared prefix (1)", .min = 1, .max = 256},
        {"rule", COP_OPTION_TEXT, &line.rule, "NAME",
         "who is pruned, over the samples or over one sample's paths; or a controller, which runs "
         "prompts of its own: a name in configs/rules/, or a file"},
        {"tree", COP_OPTION_FLAG, &line.tree, NULL,
         "draw the tree of branches while it grows; the finished one where stdout is no terminal"},
        {"pace", COP_OPTION_U32, &line.pace_ms, "MS",
         "with --tree on a terminal: wait so long a token, to watch a fast run (0)", .max = 10000},
        {"json", COP_OPTION_FLAG, &line.json, NULL,
         "print one object: ids, text, answer, paths, stop, metrics, .."},
    };
    const cop_command_line command = {
        "run", "--model FILE --prompt TEXT [options]",
        "Decodes one prompt. Text streams as it is said; with --json one object comes at the\n"
        "end. `ids` ends with the end-of-text token when the model said it; `text` leaves it\n"
        "out. `stop` is end, length, path, refused or failed. Ctrl-C ends with what there is;\n"
        "`stop` is none then and `status` \"partial\".",
        options, sizeof options / sizeof options[0]};
    cop_operands operands;
    cop_status status = cop_options_parse(&command, argc, argv, &operands);
    if (status == COP_OK && operands.help)
        return 0;
    if (status == COP_OK)
        status = run(&line);
    return status == COP_OK ? 0 : cop_command_fail("run", status);
}
