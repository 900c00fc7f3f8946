/* A problem set: JSON lines {"id", "prompt", "answer"}, read whole and checked.
 *
 * All three are texts; ids are unique and not empty, prompts not empty, at most 16 MiB a line.
 * "answer" may be left out or null where nothing will be graded. Any other key is let through under
 * "meta" only; everything else is ERR_FORMAT, "FILE:LINE: what, what to do". With a checker, each
 * problem must make sense to it (checker.h), and one with an answer must have a right one.
 */
#pragma once

#include <stdint.h>

#include "reason/checker.h"

typedef struct cop_problem_entry {
    const char *id;
    cop_answer_text prompt, answer; /* answer.text NULL: none is known */
} cop_problem_entry;

typedef struct cop_problem_set {
    cop_problem_entry *list;
    uint32_t count;
    char sha256[65]; /* of the file */
} cop_problem_set;

/* `checker` may be NULL. `first` > 0: only so many from the start; fewer in the file is an error.
 */
cop_status cop_problem_set_read(const char *path, const cop_checker *checker, uint32_t first,
                                cop_problem_set **out);
void cop_problem_set_destroy(cop_problem_set *set);
