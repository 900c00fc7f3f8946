/* A grader: a checker of checker.h, or a program of the user's that judges what no rule here can.
 *
 *   exact | boxed | choice | countdown      checker.h
 *   equivalence:COMMAND                     COMMAND is started by the shell and asked line by line
 *
 * The line protocol. In:  {"n": 7, "prompt": "..", "reference": "..", "claimed": ".."}
 *                   Out: {"n": 7, "equal": true | false | null}   any further key is let through
 * "n" is the number of the question and comes back. null: it cannot judge, the answer is UNGRADED.
 * What the program is not asked: where nothing was claimed (NONE), where there is no reference
 * (UNGRADED). "prompt" is null when two claims are compared with each other. A whole solution
 * claims its last box.
 *
 * A program that ends, hangs or answers anything else is a named error (base/line_program.h), or,
 * with `skip_failures`, leaves the answer UNGRADED, is counted, and is started anew. One thread.
 */
#pragma once

#include <stdint.h>

#include "reason/checker.h"

typedef struct cop_grader cop_grader;

typedef struct cop_grader_options {
    const char *rule;    /* as above */
    uint32_t timeout_ms; /* of one question; 0: 10,000 */
    bool skip_failures;
} cop_grader_options;

cop_status cop_grader_create(const cop_grader_options *options, cop_grader **out);
void cop_grader_destroy(cop_grader *grader);

const char *cop_grader_name(const cop_grader *grader); /* "boxed", "equivalence" */
/* The rule behind it; NULL where a program is asked. */
const cop_checker *cop_grader_checker(const cop_grader *grader);
uint64_t cop_grader_failures(const cop_grader *grader); /* questions left without an answer */

cop_answer_text cop_grader_claim(const cop_grader *grader, cop_answer_text text);

cop_status cop_grader_grade(cop_grader *grader, cop_answer_text prompt, cop_answer_text reference,
                            cop_answer_text claimed, cop_grade *out);

/* Whether two claims are the same answer: for votes, and for rules that stop when answers agree.
 * What a program cannot judge is not the same, unless the texts are. */
cop_status cop_grader_same(cop_grader *grader, cop_answer_text a, cop_answer_text b, bool *out);

/* Sorts n answers into classes of the same answer: each is held against the first of every class so
 * far, in order (as Dynasor's majority vote does), and gets that class's number; one without text
 * is in none, UINT32_MAX. Two tests agree where `same` is no equivalence; the order then decides.
 */
cop_status cop_grader_classes(cop_grader *grader, const cop_answer_text *answers, uint32_t n,
                              uint32_t *class_of, uint32_t *n_classes);
