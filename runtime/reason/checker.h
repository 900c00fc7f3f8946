/* Checkers: is an answer right? Each is a pure function of the problem's prompt, the reference
 * answer and the answer claimed; none ever guesses: what it cannot judge is UNGRADED, never wrong.
 *
 *   exact      the claimed text equals the reference, after trimming white space at both ends
 *   boxed      both are plain numbers ("1,234", "-0.5", "3/4", "\frac{3}{4}"), with or without a
 * box around them, and equal as exact fractions. A claim that is no plain number
 *              ("\sqrt{4}") cannot be judged: grader.h knows programs that can
 *   choice     both are one letter, A to J: "B", "(b)", "B) 42", in a box or not
 *   countdown  the prompt holds the target and then the numbers ("T75 14 13 9 2", or any text in
 *              which the whole numbers are: target, numbers). The answer must use each number
 *              exactly once and reach the target, in exact rational arithmetic: either as steps
 *              ("14 - 2 12 + 13 ..": operand operator operand, results become operands; "= result"
 *              after a step is allowed and must be right), or as one expression with parentheses.
 *              The reference is not looked at: many answers are right.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef enum cop_grade {
    COP_GRADE_RIGHT,
    COP_GRADE_WRONG,
    COP_GRADE_NONE,     /* nothing was claimed */
    COP_GRADE_UNGRADED, /* there is no checker, or it cannot judge this problem */
} cop_grade;
const char *cop_grade_name(cop_grade grade); /* "right", "wrong", "none", "ungraded" */

typedef struct cop_answer_text {
    const char *text;
    size_t bytes;
} cop_answer_text;

typedef struct cop_checker cop_checker;

/* By name; an unknown one is ERR_CONFIG and lists the known. The result is static. */
cop_status cop_checker_find(const char *name, const cop_checker **out);
const char *cop_checker_name(const cop_checker *checker);

/* What a whole solution claims, a part of `text`; text NULL when it claims nothing. boxed: its last
 * box; choice: that, or what "the answer is" says, or a last line that is a letter; exact and
 * countdown, which have no mark of their own: all of it. */
cop_answer_text cop_checker_claim(const cop_checker *checker, cop_answer_text text);
bool cop_checker_has_mark(const cop_checker *checker);

/* Whether two claims are the same answer, for votes and for rules that stop when answers agree:
 * boxed compares numbers, choice letters; what is neither, and all else, by trimmed text. */
bool cop_checker_same(const cop_checker *checker, cop_answer_text a, cop_answer_text b);

/* `claimed` with text NULL: NONE. Reads nothing outside the three texts and never allocates. */
cop_grade cop_checker_grade(const cop_checker *checker, cop_answer_text prompt,
                            cop_answer_text reference, cop_answer_text claimed);

/* Whether the problem itself makes sense to the checker: ERR_FORMAT says what is wrong ("5 numbers
 * need ..", "the reference answer does not reach the target"). */
cop_status cop_checker_accepts(const cop_checker *checker, cop_answer_text prompt,
                               cop_answer_text reference);
