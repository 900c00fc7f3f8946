#include "reason/grader.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/line_program.h"
#include "base/memory.h"
#include "reason/checker_internal.h"

enum { DEFAULT_TIMEOUT_MS = 10000, SHOWN_BYTES = 96 };

static const char program_rule[] = "equivalence:";

struct cop_grader {
    const cop_checker *checker; /* NULL: the program is asked */
    char *command;
    cop_line_program *program;
    uint32_t timeout_ms;
    bool skip_failures;
    uint64_t n, failures;
    cop_buffer reply;
};

static cop_status keep_command(cop_grader *grader, const char *command) {
    while (cop__is_space(*command))
        command++;
    if (!*command)
        return COP_FAIL(COP_ERR_USAGE,
                        "equivalence: names no command: give equivalence:\"COMMAND\"");
    grader->command = cop_calloc(strlen(command) + 1, 1);
    if (!grader->command)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a command");
    strcpy(grader->command, command);
    return cop_line_program_start(grader->command, grader->timeout_ms, &grader->program);
}

cop_status cop_grader_create(const cop_grader_options *options, cop_grader **out) {
    *out = NULL;
    cop_grader *grader = cop_calloc(1, sizeof *grader);
    if (!grader)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a grader");
    grader->timeout_ms = options->timeout_ms ? options->timeout_ms : DEFAULT_TIMEOUT_MS;
    grader->skip_failures = options->skip_failures;
    size_t bytes = sizeof program_rule - 1;
    bool asks = strncmp(options->rule, program_rule, bytes) == 0;
    cop_status status = asks ? keep_command(grader, options->rule + bytes)
                             : cop_checker_find(options->rule, &grader->checker);
    if (status == COP_ERR_CONFIG) {
        char known[256]; /* the message is what is being written */
        snprintf(known, sizeof known, "%s", cop_status_message());
        status = COP_FAIL(status, "%s, equivalence:\"COMMAND\"", known);
    }
    if (status != COP_OK) {
        cop_grader_destroy(grader);
        return status;
    }
    *out = grader;
    return COP_OK;
}

void cop_grader_destroy(cop_grader *grader) {
    if (!grader)
        return;
    cop_line_program_stop(grader->program);
    cop_buffer_release(&grader->reply);
    cop_free(grader->command);
    cop_free(grader);
}

const char *cop_grader_name(const cop_grader *grader) {
    return grader->checker ? cop_checker_name(grader->checker) : "equivalence";
}

const cop_checker *cop_grader_checker(const cop_grader *grader) {
    return grader->checker;
}

uint64_t cop_grader_failures(const cop_grader *grader) {
    return grader->failures;
}

cop_answer_text cop_grader_claim(const cop_grader *grader, cop_answer_text text) {
    if (grader->checker)
        return cop_checker_claim(grader->checker, text);
    return text.text ? cop__answer_last_box(text) : text;
}

/* ---- the program ---- */

static cop_status fail_reply(const cop_grader *grader, const char *what) {
    char shown[SHOWN_BYTES];
    size_t used = 0, bytes = grader->reply.bytes;
    for (; used < bytes && used + 1 < sizeof shown; used++) {
        char c = grader->reply.data[used];
        shown[used] = c < 0x20 || c > 0x7e ? '?' : c;
    }
    shown[used] = '\0';
    return COP_FAIL(COP_ERR_FORMAT,
                    "the program \"%.60s\" answered \"%s\" to question %llu: %s; it must answer "
                    "{\"n\": %llu, \"equal\": true, false or null}",
                    grader->command, shown, (unsigned long long)grader->n, what,
                    (unsigned long long)grader->n);
}

static cop_status read_reply(const cop_grader *grader, cop_grade *out) {
    json_error_t error;
    json_t *reply = json_loadb(grader->reply.data ? grader->reply.data : "", grader->reply.bytes,
                               JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    const json_t *n = json_object_get(reply, "n"), *equal = json_object_get(reply, "equal");
    cop_status status = COP_OK;
    if (!json_is_object(reply))
        status = fail_reply(grader, "that is no JSON object");
    else if (!json_is_integer(n) || json_integer_value(n) != (json_int_t)grader->n)
        status = fail_reply(grader, "\"n\" is not the question's");
    else if (!json_is_boolean(equal) && !json_is_null(equal))
        status = fail_reply(grader, "\"equal\" is missing or something else");
    else
        *out = json_is_null(equal)   ? COP_GRADE_UNGRADED
               : json_is_true(equal) ? COP_GRADE_RIGHT
                                     : COP_GRADE_WRONG;
    json_decref(reply);
    return status;
}

/* JSON holds only UTF-8; where a model's bytes are none, the program cannot be asked. */
static json_t *text_or_null(cop_answer_text text) {
    return text.text ? json_stringn(text.text, text.bytes) : json_null();
}

static cop_status ask(cop_grader *grader, cop_answer_text prompt, cop_answer_text reference,
                      cop_answer_text claimed, cop_grade *out) {
    *out = COP_GRADE_UNGRADED;
    if (!grader->program) /* it could not be started anew */
        return COP_FAIL(COP_ERR_IO, "the program \"%.60s\" does not run", grader->command);
    grader->n++;
    json_t *question = json_pack("{s:I, s:o*, s:o*, s:o*}", "n", (json_int_t)grader->n, "prompt",
                                 text_or_null(prompt), "reference", text_or_null(reference),
                                 "claimed", text_or_null(claimed));
    bool whole = json_object_size(question) == 4;
    char *line = whole ? json_dumps(question, JSON_COMPACT) : NULL;
    json_decref(question);
    if (!whole)
        return COP_OK;
    if (!line)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a question to a program");
    cop_status status = cop_line_program_ask(grader->program, line, strlen(line), &grader->reply);
    free(line);
    return status == COP_OK ? read_reply(grader, out) : status;
}

/* With skip_failures one failure costs one answer: the program is started anew for the next. */
static cop_status ask_or_skip(cop_grader *grader, cop_answer_text prompt, cop_answer_text reference,
                              cop_answer_text claimed, cop_grade *out) {
    cop_status status = ask(grader, prompt, reference, claimed, out);
    if (status == COP_OK || !grader->skip_failures || status == COP_ERR_NO_MEMORY)
        return status;
    grader->failures++;
    *out = COP_GRADE_UNGRADED;
    cop_line_program_stop(grader->program);
    grader->program = NULL;
    return cop_line_program_start(grader->command, grader->timeout_ms, &grader->program);
}

/* ---- asked ---- */

cop_status cop_grader_grade(cop_grader *grader, cop_answer_text prompt, cop_answer_text reference,
                            cop_answer_text claimed, cop_grade *out) {
    if (grader->checker || !claimed.text || !reference.text) {
        *out = cop_checker_grade(grader->checker, prompt, reference, claimed);
        return COP_OK;
    }
    return ask_or_skip(grader, prompt, reference, claimed, out);
}

cop_status cop_grader_same(cop_grader *grader, cop_answer_text a, cop_answer_text b, bool *out) {
    *out = cop_checker_same(grader->checker, a, b);
    if (*out || grader->checker)
        return COP_OK;
    cop_grade grade;
    COP_TRY(ask_or_skip(grader, (cop_answer_text){0}, a, b, &grade));
    *out = grade == COP_GRADE_RIGHT;
    return COP_OK;
}

cop_status cop_grader_classes(cop_grader *grader, const cop_answer_text *answers, uint32_t n,
                              uint32_t *class_of, uint32_t *n_classes) {
    *n_classes = 0;
    for (uint32_t i = 0; i < n; i++) {
        class_of[i] = UINT32_MAX;
        /* The first of a class is the first answer with its number. */
        uint32_t met = 0;
        for (uint32_t k = 0; k < i && answers[i].text && class_of[i] == UINT32_MAX; k++) {
            bool same;
            if (class_of[k] != met)
                continue;
            met++;
            COP_TRY(cop_grader_same(grader, answers[k], answers[i], &same));
            if (same)
                class_of[i] = class_of[k];
        }
        if (answers[i].text && class_of[i] == UINT32_MAX)
            class_of[i] = (*n_classes)++;
    }
    return COP_OK;
}
