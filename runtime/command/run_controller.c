#include "command/run_controller.h"

#include "config/paths.h"
#include "model/chat.h"

static cop_status find_frame(const cop_job *job, cop_buffer *before, cop_buffer *after) {
    char root[COP_PATH_BYTES];
    COP_TRY(cop_root_folder(root));
    return cop_chat_frame(root, cop_model_tokenizer(cop_job_model(job)), before, after);
}

static cop_status run_once(cop_engine *engine, const cop_controller_options *options,
                           cop_controller **out, cop_metrics *metrics) {
    COP_TRY(cop_controller_create(options, out));
    cop_driver *driver = cop_controller_driver(*out);
    return cop_engine_run(engine, &driver, 1, metrics);
}

static cop_status find_failed(const cop_controller *controller) {
    const char *message;
    const cop_status error = cop_controller_error(controller, &message);
    if (error != COP_OK)
        return COP_FAIL(error, "%s", message);
    const cop_live_sample sample = cop_controller_read(controller);
    if (sample.stop != COP_STOP_FAILED)
        return COP_OK;
    return COP_FAIL(COP_ERR_NONFINITE,
                    "the model gave values that are not finite after %u tokens: check its weights "
                    "with info --model",
                    sample.generated);
}

static cop_status run_and_print(cop_job *job, cop_engine *engine, const cop_run_controller *what,
                                const cop_controller_options *options, cop_run_output *output) {
    cop_metrics metrics = {0}, fill = {0};
    cop_controller *controller = NULL;
    cop_status status = COP_OK;
    if (cop_job_prefix_begin(job, engine)) { /* the same work ahead of it, unheard */
        cop_controller_options unheard = *options;
        unheard.listener = NULL;
        status = run_once(engine, &unheard, &controller, &fill);
        cop_controller_destroy(controller);
        controller = NULL;
    }
    if (status == COP_OK)
        status = run_once(engine, options, &controller, &metrics);
    cop_job_prefix_charge(&fill, &metrics);
    const bool begun = controller && cop_controller_call_count(controller) > 0;
    if (begun && (status == COP_OK || status == COP_ERR_INTERRUPTED)) {
        const cop_run_result result = {.prompt = what->prompt,
                                       .controller = controller,
                                       .rule = what->rule,
                                       .metrics = &metrics};
        const cop_status printed = cop_run_output_finish(output, job, &result);
        status = status == COP_OK ? printed : status;
    }
    if (status == COP_OK)
        status = find_failed(controller);
    if (status == COP_OK && !begun)
        status = COP_FAIL(COP_ERR_CONFIG, "rule %s asks for nothing",
                          cop_rule_config_name(what->rule->config));
    cop_controller_destroy(controller);
    return status;
}

cop_status cop_run_controller_decode(cop_job *job, const cop_run_controller *what,
                                     cop_run_output *output) {
    const cop_job_calls calls = {.problems = 1,
                                 .at_once = COP_CONTROLLER_AT_ONCE,
                                 .input_tokens = (uint32_t)what->prompt->count,
                                 .max_tokens = what->max_tokens,
                                 .extrapolate = what->extrapolate,
                                 .model = cop_job_model(job),
                                 .what = "a controller's calls"};
    const cop_job_size size = cop_job_calls_size(&calls);
    cop_buffer before = {0}, after = {0};
    cop_engine *engine = NULL;
    cop_status status = what->chat ? find_frame(job, &before, &after) : COP_OK;
    if (status == COP_OK)
        status = cop_job_engine(job, &size, NULL, &engine);
    if (status == COP_OK) {
        const cop_controller_options options = {
            .rule = what->rule->rule,
            .tokenizer = cop_model_tokenizer(cop_job_model(job)),
            .before = before.data,
            .after = after.data,
            .input = what->input,
            .input_bytes = what->input_bytes,
            .max_at_once = COP_CONTROLLER_AT_ONCE,
            .max_tokens = what->max_tokens,
            .max_positions = cop_engine_max_positions(engine),
            .temperature = what->temperature,
            .top_p = what->top_p,
            .min_p = what->min_p,
            .top_k = what->top_k,
            .listener = output->json ? NULL : cop_run_output_listen,
            .listener_context = output};
        status = run_and_print(job, engine, what, &options, output);
    }
    cop_engine_destroy(engine);
    cop_buffer_release(&before);
    cop_buffer_release(&after);
    return status;
}
