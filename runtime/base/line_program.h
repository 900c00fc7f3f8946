/* A program of the user's that is asked line by line: one line in on its stdin, one line out on its
 * stdout, in that order; what it writes to stderr goes to ours.
 *
 * It is started by /bin/sh -c in a process group of its own, and stopped with it. Whatever it does,
 * nobody waits longer than the timeout for a line: a program that ended, hangs, closes its output
 * or answers without end is a named error, and is stopped at once, so that a late line can never be
 * taken for the answer to a later question. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"

typedef struct cop_line_program cop_line_program;

enum { COP_LINE_PROGRAM_BYTES_MAX = 1 << 20 }; /* of a reply */

cop_status cop_line_program_start(const char *command, uint32_t timeout_ms, cop_line_program **out);
/* Closes its input, gives it a moment to end by itself, then kills it. NULL is fine. */
void cop_line_program_stop(cop_line_program *program);

/* `line` holds no newline; the reply replaces what `reply` holds and holds none either. */
cop_status cop_line_program_ask(cop_line_program *program, const char *line, size_t bytes,
                                cop_buffer *reply);
/* It was stopped by a failure: every further question fails. */
bool cop_line_program_is_stopped(const cop_line_program *program);
