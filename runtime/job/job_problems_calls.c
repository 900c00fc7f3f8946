/* What is other of a cell whose method is a controller (reason/driver_controller.h). */
#include <stdio.h>
#include <string.h>

#include "job/job_problems.h"

uint32_t cop__problem_calls_at_once(const cop__problem_cell *cell) {
    return cell->what->max_paths ? cell->what->max_paths : COP_CONTROLLER_AT_ONCE;
}

cop_job_size cop__problem_calls_size(const cop__problem_cell *cell) {
    const cop_job_calls calls = {.problems = cell->at_once,
                                 .at_once = cop__problem_calls_at_once(cell),
                                 .input_tokens = cell->prompts->longest_prompt,
                                 .max_tokens = cop__problem_max_tokens(cell),
                                 .extrapolate = cell->job->options.allow_extrapolation,
                                 .model = cell->job->model,
                                 .what = cell->problem};
    return cop_job_calls_size(&calls);
}

cop_status cop__problem_calls_create(const cop__problem_cell *cell, cop_rule *rule,
                                     cop_live_tracer *tracer, cop_controller **out) {
    const cop_problems_job *what = cell->what;
    const cop__problem_prompts *prompts = cell->prompts;
    const cop_controller_options options = {.rule = rule,
                                            .tokenizer = cop_model_tokenizer(cell->job->model),
                                            .before = prompts->before.data,
                                            .after = prompts->after.data,
                                            .input = prompts->inputs.data,
                                            .input_bytes = prompts->input_end[0],
                                            .max_at_once = cop__problem_calls_at_once(cell),
                                            .max_tokens = cop__problem_max_tokens(cell),
                                            .max_positions = cell->positions,
                                            .temperature = what->temperature,
                                            .top_p = what->top_p,
                                            .min_p = what->min_p,
                                            .top_k = what->top_k,
                                            .listener = cop_live_tracer_hear,
                                            .listener_context = tracer};
    return cop_controller_create(&options, out);
}

static cop_status encode_prompt(const cop__problem_cell *cell, const cop_decision *run) {
    const cop_buffer *before = &cell->prompts->before, *after = &cell->prompts->after;
    const char *partial = run->partial ? run->partial : "";
    cop_buffer text = {0};
    cop_token_ids ids = {0};
    cop_status status = cop_buffer_append(&text, before->data, before->bytes);
    if (status == COP_OK)
        status = cop_buffer_append(&text, run->text, run->bytes);
    if (status == COP_OK)
        status = cop_buffer_append(&text, after->data, after->bytes);
    if (status == COP_OK)
        status = cop_buffer_append(&text, partial, strlen(partial));
    if (status == COP_OK)
        status =
            cop_tokenizer_encode(cop_model_tokenizer(cell->job->model), text.data ? text.data : "",
                                 text.bytes, (cop_encode_options){0}, &ids);
    cop_token_ids_release(&ids);
    cop_buffer_release(&text);
    return status;
}

cop_status cop__problem_calls_try(const cop__problem_cell *cell, cop_rule *rule) {
    const cop__problem_prompts *prompts = cell->prompts;
    const cop_decision *decisions;
    uint32_t n;
    cop_rule_reset(rule);
    cop_status status = cop_rule_input(rule, prompts->inputs.data, prompts->input_end[0]);
    if (status == COP_OK)
        status = cop_rule_decide(rule, 0, &decisions, &n);
    for (uint32_t i = 0; status == COP_OK && i < n; i++) {
        if (decisions[i].kind == COP_DECIDE_RUN)
            status = encode_prompt(cell, &decisions[i]);
    }
    return status == COP_OK ? COP_OK
                            : cop_status_prefix(status,
                                                "the first prompt of rule %s, with this "
                                                "model's tokenizer",
                                                cell->method->rule);
}

cop_answer_text cop__problem_calls_claim(const cop__problem_cell *cell,
                                         const cop_live_sample *sample) {
    if (sample->stop != COP_STOP_END || sample->bytes == 0)
        return (cop_answer_text){0};
    return cop__problem_claim_in(cell, sample->text, sample->bytes);
}

cop_status cop__problem_calls_keep(cop__problem_cell *cell, const cop_controller *controller,
                                   const cop_live_sample *sample) {
    const char *message;
    if (cop_controller_error(controller, &message) != COP_OK && cell->n_failed++ == 0)
        snprintf(cell->failed, sizeof cell->failed, "%s", message);
    return cop_buffer_append(&cell->texts, sample->text, sample->bytes);
}
