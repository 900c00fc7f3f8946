#include "reason/checker.h"

#include <string.h>

#include "reason/checker_internal.h"

enum { SHOWN_BYTES = 96 };

/* One line of printable ASCII for a message. */
static const char *shown(cop_answer_text text, char out[SHOWN_BYTES]) {
    size_t room = SHOWN_BYTES - sizeof "..", used = text.bytes < room ? text.bytes : room;
    for (size_t i = 0; i < used; i++)
        out[i] = text.text[i] < 0x20 || text.text[i] > 0x7e ? '?' : text.text[i];
    strcpy(out + used, used < text.bytes ? ".." : "");
    return out;
}

static cop_grade countdown_grade(cop_answer_text prompt, cop_answer_text reference,
                                 cop_answer_text claimed) {
    (void)reference;
    cop_puzzle given;
    size_t n_found;
    if (cop__countdown_read(prompt, &given, &n_found))
        return COP_GRADE_UNGRADED;
    return cop__countdown_check(&given, claimed) == COP_FAULT_NONE ? COP_GRADE_RIGHT
                                                                   : COP_GRADE_WRONG;
}

static cop_status countdown_accepts(cop_answer_text prompt, cop_answer_text reference) {
    char problem[SHOWN_BYTES], answer[SHOWN_BYTES];
    cop_puzzle given;
    size_t n_found;
    const char *wrong = cop__countdown_read(prompt, &given, &n_found);
    if (wrong)
        return COP_FAIL(COP_ERR_FORMAT,
                        "the prompt \"%s\" %s (%zu read): countdown takes the target and then %d "
                        "to %d whole numbers",
                        shown(prompt, problem), wrong, n_found, COP_COUNTDOWN_NUMBERS_MIN,
                        COP_COUNTDOWN_NUMBERS_MAX);
    if (!reference.text) {
        if (cop__countdown_impossible(&given))
            return COP_FAIL(COP_ERR_FORMAT,
                            "the prompt \"%s\": no way to make %lld of these numbers, take the "
                            "problem out",
                            shown(prompt, problem), (long long)given.target.num);
        return COP_OK;
    }
    cop_fault failed = cop__countdown_check(&given, reference);
    if (failed == COP_FAULT_NONE)
        return COP_OK;
    if (cop__countdown_impossible(&given))
        return COP_FAIL(COP_ERR_FORMAT,
                        "the reference answer \"%s\" to \"%s\" %s, and no other can be right: no "
                        "way to make %lld of these numbers, take the problem out",
                        shown(reference, answer), shown(prompt, problem),
                        cop__countdown_fault(failed), (long long)given.target.num);
    return COP_FAIL(COP_ERR_FORMAT,
                    "the reference answer \"%s\" to \"%s\" %s: correct it, or leave it out",
                    shown(reference, answer), shown(prompt, problem), cop__countdown_fault(failed));
}

static bool same_text(cop_answer_text a, cop_answer_text b) {
    a = cop__answer_trim(a);
    b = cop__answer_trim(b);
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.text, b.text, a.bytes) == 0);
}

static cop_grade exact_grade(cop_answer_text prompt, cop_answer_text reference,
                             cop_answer_text claimed) {
    (void)prompt;
    if (cop__answer_trim(reference).bytes == 0)
        return COP_GRADE_UNGRADED;
    return same_text(reference, claimed) ? COP_GRADE_RIGHT : COP_GRADE_WRONG;
}

static cop_status exact_accepts(cop_answer_text prompt, cop_answer_text reference) {
    (void)prompt;
    if (reference.text && cop__answer_trim(reference).bytes == 0)
        return COP_FAIL(COP_ERR_FORMAT, "the reference answer is empty: nothing could be compared "
                                        "with it, leave it out");
    return COP_OK;
}

static cop_grade boxed_grade(cop_answer_text prompt, cop_answer_text reference,
                             cop_answer_text claimed) {
    (void)prompt;
    cop_rational right, said;
    if (!reference.text || !cop__answer_number(reference, &right) ||
        !cop__answer_number(claimed, &said))
        return COP_GRADE_UNGRADED;
    return cop__rational_same(right, said) ? COP_GRADE_RIGHT : COP_GRADE_WRONG;
}

static cop_status boxed_accepts(cop_answer_text prompt, cop_answer_text reference) {
    (void)prompt;
    char answer[SHOWN_BYTES];
    cop_rational number;
    if (reference.text && !cop__answer_number(reference, &number))
        return COP_FAIL(COP_ERR_FORMAT,
                        "the reference answer \"%s\" is no plain number: compare it with "
                        "\"equivalence:COMMAND\" or \"exact\", or leave it out",
                        shown(reference, answer));
    return COP_OK;
}

static bool boxed_same(cop_answer_text a, cop_answer_text b) {
    cop_rational one, other;
    if (cop__answer_number(a, &one) && cop__answer_number(b, &other))
        return cop__rational_same(one, other);
    return same_text(cop__answer_bare(a), cop__answer_bare(b));
}

static cop_grade choice_grade(cop_answer_text prompt, cop_answer_text reference,
                              cop_answer_text claimed) {
    (void)prompt;
    char right = reference.text ? cop__answer_letter(reference) : 0;
    char said = cop__answer_letter(claimed);
    if (!right || !said)
        return COP_GRADE_UNGRADED;
    return right == said ? COP_GRADE_RIGHT : COP_GRADE_WRONG;
}

static cop_status choice_accepts(cop_answer_text prompt, cop_answer_text reference) {
    (void)prompt;
    char answer[SHOWN_BYTES];
    if (reference.text && !cop__answer_letter(reference))
        return COP_FAIL(COP_ERR_FORMAT,
                        "the reference answer \"%s\" is no letter from A to %c: correct it, or "
                        "leave it out",
                        shown(reference, answer), COP_CHOICE_LAST);
    return COP_OK;
}

static bool choice_same(cop_answer_text a, cop_answer_text b) {
    char one = cop__answer_letter(a), other = cop__answer_letter(b);
    return one && other ? one == other : same_text(a, b);
}

struct cop_checker {
    const char *name;
    cop_grade (*grade)(cop_answer_text prompt, cop_answer_text reference, cop_answer_text claimed);
    cop_status (*accepts)(cop_answer_text prompt, cop_answer_text reference);
    bool (*same)(cop_answer_text a, cop_answer_text b);
    cop_answer_text (*claim)(cop_answer_text text); /* NULL: all of it */
};

static const cop_checker checkers[] = {
    {"exact", exact_grade, exact_accepts, same_text, NULL},
    {"boxed", boxed_grade, boxed_accepts, boxed_same, cop__answer_last_box},
    {"choice", choice_grade, choice_accepts, choice_same, cop__answer_choice_claim},
    {"countdown", countdown_grade, countdown_accepts, same_text, NULL},
};

const char *cop_grade_name(cop_grade grade) {
    static const char *const names[] = {"right", "wrong", "none", "ungraded"};
    return (unsigned)grade < sizeof names / sizeof names[0] ? names[grade] : "unknown";
}

cop_status cop_checker_find(const char *name, const cop_checker **out) {
    *out = NULL;
    for (size_t i = 0; i < sizeof checkers / sizeof checkers[0]; i++) {
        if (strcmp(checkers[i].name, name) == 0)
            *out = &checkers[i];
    }
    if (*out)
        return COP_OK;
    char text[SHOWN_BYTES];
    return COP_FAIL(COP_ERR_CONFIG,
                    "there is no checker \"%s\"; known are: exact, boxed, choice, countdown",
                    shown((cop_answer_text){name, strlen(name)}, text));
}

const char *cop_checker_name(const cop_checker *checker) {
    return checker ? checker->name : "none";
}

cop_answer_text cop_checker_claim(const cop_checker *checker, cop_answer_text text) {
    return text.text && cop_checker_has_mark(checker) ? checker->claim(text) : text;
}

bool cop_checker_has_mark(const cop_checker *checker) {
    return checker && checker->claim;
}

bool cop_checker_same(const cop_checker *checker, cop_answer_text a, cop_answer_text b) {
    return (checker ? checker->same : same_text)(a, b);
}

cop_grade cop_checker_grade(const cop_checker *checker, cop_answer_text prompt,
                            cop_answer_text reference, cop_answer_text claimed) {
    if (!claimed.text)
        return COP_GRADE_NONE;
    return checker ? checker->grade(prompt, reference, claimed) : COP_GRADE_UNGRADED;
}

cop_status cop_checker_accepts(const cop_checker *checker, cop_answer_text prompt,
                               cop_answer_text reference) {
    return checker ? checker->accepts(prompt, reference) : COP_OK;
}
