/* A scorer of the user's: a program that is asked for each branch with one line of JSON,
 *   {"branch": 3, "tokens": 812, "answer": "42", "text": "..."}
 * and answers with one line: a number, or an object with a number "score"; larger is better.
 *
 * A program that ended, hangs, or answers anything else is a named error. on_failure says what
 * becomes of it: the run ends with that error, or goes on without scores; the program is then not
 * asked again. Asking takes memory as the texts need it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum cop_scorer_failure {
    COP_SCORER_ENDS_RUN,
    COP_SCORER_GOES_ON,
} cop_scorer_failure;

typedef struct cop_scorer_command_options {
    const char *command; /* for /bin/sh -c */
    uint32_t timeout_ms; /* of one answer */
    cop_scorer_failure on_failure;
} cop_scorer_command_options;

typedef struct cop_scorer_question { /* texts are any bytes; what is not UTF-8 is replaced */
    uint32_t branch, tokens;
    const char *answer, *text;
    size_t answer_bytes, text_bytes;
} cop_scorer_question;

typedef struct cop_scorer_command cop_scorer_command;

cop_status cop_scorer_command_start(const cop_scorer_command_options *options,
                                    cop_scorer_command **out);
void cop_scorer_command_stop(cop_scorer_command *scorer);
/* *score is NaN when the run goes on without one. */
cop_status cop_scorer_command_ask(cop_scorer_command *scorer, const cop_scorer_question *question,
                                  double *score);
uint32_t cop_scorer_command_failures(const cop_scorer_command *scorer);
