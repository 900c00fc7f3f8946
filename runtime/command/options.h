/* Strict long options, --help, the error line and the output of a verb.
 *
 *   const char *model = NULL; uint32_t top = 20;
 *   const cop_option options[] = {
 *       {"model", COP_OPTION_TEXT, &model, "FILE", "a GGUF model", .required = true},
 *       {"top", COP_OPTION_U32, &top, "K", "how many logits (20)", .min = 1, .max = 100},
 *   };
 *   const cop_command_line line = {"score", "--model FILE --input F.jsonl", "Scores texts.",
 *                                  options, sizeof options / sizeof options[0]};
 *   cop_operands operands;
 *   cop_status status = cop_options_parse(&line, argc, argv, &operands);
 *   if (status != COP_OK) return cop_command_fail("score", status);
 *   if (operands.help) return 0;
 *
 * An option is "--name value" or "--name=value"; a flag takes no value; "--" ends the options. An
 * unknown option, one given twice, a missing or an empty number, one out of its range, and an
 * operand that nobody takes are ERR_USAGE, naming it. Values borrow from argv. Defaults are what
 * the variables hold before.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

typedef enum cop_option_kind {
    COP_OPTION_FLAG, /* bool *: set to true */
    COP_OPTION_TEXT, /* const char ** */
    COP_OPTION_U32,  /* uint32_t * */
    COP_OPTION_U64,  /* uint64_t * */
    COP_OPTION_F64,  /* double *: finite */
} cop_option_kind;

typedef struct cop_option {
    const char *name; /* without the dashes */
    cop_option_kind kind;
    void *out;
    const char *value; /* what --help calls the value, "N"; NULL for a flag */
    const char *help;  /* says the default as well */
    bool required;
    uint64_t min, max;   /* U32 and U64, inclusive; max = 0: no limit */
    double low, high;    /* F64, inclusive; low = high = 0: no limit */
    const char *choices; /* TEXT: "f32|bf16": one of these; NULL: anything */
    bool *given;         /* set to true when the option stands on the line; may be NULL */
} cop_option;

typedef struct cop_command_line {
    const char *verb;
    const char *usage; /* what follows the verb in the first line of --help */
    const char *about; /* some sentences, lines broken by hand */
    const cop_option *options;
    size_t n_options;
    const char *operand; /* what --help calls an operand; NULL: none is taken */
    size_t operands_min, operands_max;
} cop_command_line;

typedef struct cop_operands {
    char **items; /* [count], in argv, which is reordered */
    size_t count;
    bool help; /* --help was given and has been printed: return 0 */
} cop_operands;

cop_status cop_options_parse(const cop_command_line *line, int argc, char **argv,
                             cop_operands *out);

/* Prints "coppice: <verb>: <message>" on stderr and returns the status's exit code. A message of
 * several lines is printed as one. */
int cop_command_fail(const char *verb, cop_status status);

/* Writes the whole buffer to stdout and flushes it; ERR_IO when not every byte was taken. */
cop_status cop_command_output(const cop_buffer *output);
