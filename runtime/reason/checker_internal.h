/* What the checkers are made of. Countdown: a problem's numbers, exact fractions, and what can be
 * wrong with a claim. Answers at the end of a solution: boxes, plain numbers, letters. Everything
 * is a plain value; nothing here allocates. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reason/checker.h"

enum {
    COP_COUNTDOWN_NUMBERS_MIN = 2,
    COP_COUNTDOWN_NUMBERS_MAX = 16,
    COP_COUNTDOWN_SEARCH_MAX = 6,
};

typedef __int128 cop_wide;

/* What is wrong with a claim, in the words that follow "the answer". */
#define COP_FAULT_MAP(X)                                                                           \
    X(NONE, "is right")                                                                            \
    X(SYNTAX, "is neither steps nor one expression")                                               \
    X(NUMBER, "uses a number that is not given, or no longer there")                               \
    X(ZERO, "divides by zero")                                                                     \
    X(OVERFLOW, "passes through numbers beyond 127 bits")                                          \
    X(RESULT, "states a result that is not the right one")                                         \
    X(UNUSED, "leaves numbers unused")                                                             \
    X(TARGET, "does not reach the target")

typedef enum cop_fault {
#define COP_FAULT_ENUM(name, text) COP_FAULT_##name,
    COP_FAULT_MAP(COP_FAULT_ENUM)
#undef COP_FAULT_ENUM
} cop_fault;

/* In lowest terms, den > 0; num is never the one value that has no negative. */
typedef struct cop_rational {
    cop_wide num, den;
} cop_rational;

typedef struct cop_puzzle {
    cop_rational target;
    cop_rational numbers[COP_COUNTDOWN_NUMBERS_MAX];
    uint32_t n;
} cop_puzzle;

static inline bool cop__rational_same(cop_rational a, cop_rational b) {
    return a.num == b.num && a.den == b.den;
}

/* White space of every locale: ASCII's. */
static inline bool cop__is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* a operation b, for + - * and / (any other character); COP_FAULT_ZERO, COP_FAULT_OVERFLOW. */
cop_fault cop__rational_apply(char operation, cop_rational a, cop_rational b, cop_rational *out);

/* NULL, or what is wrong with the prompt ("has too few numbers"); *n_found is how many numbers were
 * read until then. */
const char *cop__countdown_read(cop_answer_text prompt, cop_puzzle *out, size_t *n_found);

cop_fault cop__countdown_check(const cop_puzzle *given, cop_answer_text claimed);
/* The words that follow "the answer". */
const char *cop__countdown_fault(cop_fault failed);

/* Whether no answer can be right, by exhaustive search; false where that would take too long: for
 * more than COP_COUNTDOWN_SEARCH_MAX numbers, or when values pass 127 bits on the way. Needs about
 * 100 KB of stack. */
bool cop__countdown_impossible(const cop_puzzle *given);

/* ---- checker_answer.c ---- */

enum { COP_CHOICE_LAST = 'J' };

cop_answer_text cop__answer_trim(cop_answer_text text);
/* The inside of the last whole \boxed{..} or \fbox{..}; text NULL without one. */
cop_answer_text cop__answer_last_box(cop_answer_text text);
/* Without the white space, "$", box or \text{} around the whole of it. */
cop_answer_text cop__answer_bare(cop_answer_text text);
/* A whole number, a decimal or a fraction, exactly ("1,234", "-0.5", "3/4", "\frac{3}{4}"); false
 * for anything else, and for more digits than can be compared. */
bool cop__answer_number(cop_answer_text text, cop_rational *out);
/* 'A' to COP_CHOICE_LAST, or 0. */
char cop__answer_letter(cop_answer_text text);
/* The last box, else what "the answer is" says, else a last line that is a letter. */
cop_answer_text cop__answer_choice_claim(cop_answer_text text);
