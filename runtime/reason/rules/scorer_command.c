#include "reason/rules/scorer_command.h"

#include <jansson.h>
#include <math.h>

#include "base/line_program.h"
#include "config/json.h"

struct cop_scorer_command {
    cop_line_program *program;
    cop_scorer_failure on_failure;
    uint32_t failures;
    bool broken;
    cop_buffer line, reply;
};

cop_status cop_scorer_command_start(const cop_scorer_command_options *options,
                                    cop_scorer_command **out) {
    *out = NULL;
    if (!options->command || !options->command[0])
        return COP_FAIL(COP_ERR_CONFIG, "a scorer needs a command");
    if (options->timeout_ms == 0)
        return COP_FAIL(COP_ERR_CONFIG, "a scorer needs a timeout_ms of at least 1");
    cop_scorer_command *scorer = cop_calloc(1, sizeof *scorer);
    if (!scorer)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a scorer");
    scorer->on_failure = options->on_failure;
    cop_status status =
        cop_line_program_start(options->command, options->timeout_ms, &scorer->program);
    if (status != COP_OK) {
        cop_free(scorer);
        return status;
    }
    *out = scorer;
    return COP_OK;
}

void cop_scorer_command_stop(cop_scorer_command *scorer) {
    if (!scorer)
        return;
    cop_line_program_stop(scorer->program);
    cop_buffer_release(&scorer->line);
    cop_buffer_release(&scorer->reply);
    cop_free(scorer);
}

static cop_status parse(const cop_buffer *reply, double *score) {
    json_t *value =
        json_loadb(reply->bytes ? reply->data : "", reply->bytes, JSON_DECODE_ANY, NULL);
    const json_t *number = json_is_object(value) ? json_object_get(value, "score") : value;
    bool good = json_is_number(number);
    *score = good ? json_number_value(number) : (double)NAN;
    json_decref(value);
    if (!good)
        return COP_FAIL(COP_ERR_FORMAT,
                        "the scorer answered \"%.80s\"; a number or {\"score\": number} was "
                        "expected",
                        reply->bytes ? reply->data : "");
    return COP_OK;
}

static cop_status ask(cop_scorer_command *s, const cop_scorer_question *q, double *score) {
    s->line.bytes = 0;
    COP_TRY(cop_buffer_printf(&s->line, "{\"branch\": %u, \"tokens\": %u, \"answer\": ", q->branch,
                              q->tokens));
    COP_TRY(cop_json_append_string(&s->line, q->answer, q->answer_bytes));
    COP_TRY(cop_buffer_printf(&s->line, ", \"text\": "));
    COP_TRY(cop_json_append_string(&s->line, q->text, q->text_bytes));
    COP_TRY(cop_buffer_append(&s->line, "}", 1));
    COP_TRY(cop_line_program_ask(s->program, s->line.data, s->line.bytes, &s->reply));
    return parse(&s->reply, score);
}

cop_status cop_scorer_command_ask(cop_scorer_command *scorer, const cop_scorer_question *question,
                                  double *score) {
    *score = (double)NAN;
    if (scorer->broken)
        return COP_OK;
    cop_status status = ask(scorer, question, score);
    if (status == COP_OK)
        return COP_OK;
    scorer->failures++;
    if (scorer->on_failure == COP_SCORER_ENDS_RUN)
        return cop_status_prefix(status, "the scorer, asked about branch %u", question->branch);
    scorer->broken = true;
    return COP_OK;
}

uint32_t cop_scorer_command_failures(const cop_scorer_command *scorer) {
    return scorer->failures;
}
