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

static cop_answer_text trimmed(cop_answer_text text) {
    while (text.bytes && cop__is_space(text.text[0])) {
        text.text++;
        text.bytes--;
    }
    while (text.bytes && cop__is_space(text.text[text.bytes - 1]))
        text.bytes--;
    return text;
}

static cop_grade exact_grade(cop_answer_text prompt, cop_answer_text reference,
                             cop_answer_text claimed) {
    (void)prompt;
    reference = trimmed(reference);
    claimed = trimmed(claimed);
    if (reference.bytes == 0)
        return COP_GRADE_UNGRADED;
    bool equal = reference.bytes == claimed.bytes &&
                 memcmp(reference.text, claimed.text, claimed.bytes) == 0;
    return equal ? COP_GRADE_RIGHT : COP_GRADE_WRONG;
}

static cop_status exact_accepts(cop_answer_text prompt, cop_answer_text reference) {
    (void)prompt;
    if (reference.text && trimmed(reference).bytes == 0)
        return COP_FAIL(COP_ERR_FORMAT, "the reference answer is empty: nothing could be compared "
                                        "with it, leave it out");
    return COP_OK;
}

struct cop_checker {
    const char *name;
    cop_grade (*grade)(cop_answer_text prompt, cop_answer_text reference, cop_answer_text claimed);
    cop_status (*accepts)(cop_answer_text prompt, cop_answer_text reference);
};

static const cop_checker checkers[] = {
    {"exact", exact_grade, exact_accepts},
    {"countdown", countdown_grade, countdown_accepts},
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
    return COP_FAIL(COP_ERR_CONFIG, "there is no checker \"%s\"; known are: exact, countdown",
                    shown((cop_answer_text){name, strlen(name)}, text));
}

const char *cop_checker_name(const cop_checker *checker) {
    return checker ? checker->name : "none";
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
