/* Answers as they stand at the end of a solution: the last box, a plain number, a letter. */
#include <ctype.h>
#include <string.h>

#include "reason/checker_internal.h"

enum { DIGITS_MAX = 30 }; /* so that no product of two of them wraps before it is looked at */

cop_answer_text cop__answer_trim(cop_answer_text text) {
    while (text.bytes && cop__is_space(text.text[0])) {
        text.text++;
        text.bytes--;
    }
    while (text.bytes && cop__is_space(text.text[text.bytes - 1]))
        text.bytes--;
    return text;
}

static bool is_one_of(char c, const char *set) {
    return c && strchr(set, c);
}

static bool starts_with(cop_answer_text text, const char *word) {
    size_t bytes = strlen(word);
    return text.bytes >= bytes && memcmp(text.text, word, bytes) == 0;
}

static cop_answer_text after(cop_answer_text text, size_t bytes) {
    return (cop_answer_text){text.text + bytes, text.bytes - bytes};
}

/* What stands between the brace that `text` begins with and its partner; false without one. */
static bool in_braces(cop_answer_text text, cop_answer_text *inside, cop_answer_text *rest) {
    size_t depth = 1;
    if (!text.bytes || text.text[0] != '{')
        return false;
    for (size_t i = 1; i < text.bytes; i++) {
        if (text.text[i] == '\\') {
            i++; /* "\{" is no brace */
            continue;
        }
        depth += text.text[i] == '{';
        if (text.text[i] == '}' && --depth == 0) {
            *inside = (cop_answer_text){text.text + 1, i - 1};
            *rest = after(text, i + 1);
            return true;
        }
    }
    return false;
}

cop_answer_text cop__answer_last_box(cop_answer_text text) {
    static const char *const names[] = {"\\boxed", "\\fbox"};
    cop_answer_text found = {0}, inside, rest;
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.text[i] != '\\')
            continue;
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            cop_answer_text here = after(text, i);
            if (!starts_with(here, names[k]))
                continue;
            here = after(here, strlen(names[k]));
            while (here.bytes && cop__is_space(here.text[0]))
                here = after(here, 1);
            if (in_braces(here, &inside, &rest))
                found = inside;
        }
    }
    return found;
}

/* Takes off what only surrounds an answer: white space, "$", a box or a text around the whole. */
cop_answer_text cop__answer_bare(cop_answer_text text) {
    static const char *const wraps[] = {"\\boxed", "\\fbox", "\\text", "\\textbf", "\\mathrm"};
    for (bool changed = true; changed;) {
        changed = false;
        text = cop__answer_trim(text);
        if (text.bytes >= 2 && text.text[0] == '$' && text.text[text.bytes - 1] == '$') {
            text = (cop_answer_text){text.text + 1, text.bytes - 2};
            changed = true;
        }
        for (size_t i = 0; i < sizeof wraps / sizeof wraps[0] && !changed; i++) {
            cop_answer_text inside, rest, body;
            if (!starts_with(text, wraps[i]))
                continue;
            body = after(text, strlen(wraps[i]));
            if (in_braces(body, &inside, &rest) && cop__answer_trim(rest).bytes == 0) {
                text = inside;
                changed = true;
            }
        }
    }
    return text;
}

/* ---- numbers ---- */

/* The separators that people put between thousands; 0 when none stands here. */
static size_t separator_bytes(cop_answer_text text) {
    static const char *const known[] = {"{,}", "\\,", ","};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (starts_with(text, known[i]))
            return strlen(known[i]);
    return 0;
}

static bool is_digit(cop_answer_text text) {
    return text.bytes && text.text[0] >= '0' && text.text[0] <= '9';
}

static bool add_digit(cop_answer_text *text, cop_wide *value, int *digits) {
    *digits += *digits > 0 || text->text[0] != '0'; /* zeros in front are free */
    if (*digits > DIGITS_MAX)
        return false;
    *value = *value * 10 + (text->text[0] - '0');
    *text = after(*text, 1);
    return true;
}

/* Digits, in groups of three once there is a separator: "1,234" is a number and "1,2" is a list. */
static bool read_whole(cop_answer_text *text, cop_wide *value, int *digits, size_t *seen) {
    size_t group = 0;
    bool grouped = false;
    while (is_digit(*text)) {
        if (!add_digit(text, value, digits))
            return false;
        group++;
        ++*seen;
        size_t separator = is_digit(*text) ? 0 : separator_bytes(*text);
        if (separator == 0 || !is_digit(after(*text, separator)))
            continue;
        if (grouped ? group != 3 : group > 3)
            return false;
        grouped = true;
        group = 0;
        *text = after(*text, separator);
    }
    return !grouped || group == 3;
}

/* Digits with or without a point, from the front of the text. */
static bool read_decimal(cop_answer_text *text, cop_rational *out) {
    cop_wide value = 0, scale = 1;
    int digits = 0;
    size_t seen = 0;
    if (!read_whole(text, &value, &digits, &seen))
        return false;
    if (text->bytes && text->text[0] == '.') {
        *text = after(*text, 1);
        for (int places = 0; is_digit(*text); places++, seen++) {
            if (places >= DIGITS_MAX || !add_digit(text, &value, &digits))
                return false;
            scale *= 10;
        }
    }
    return seen > 0 && cop__rational_apply('/', (cop_rational){value, 1}, (cop_rational){scale, 1},
                                           out) == COP_FAULT_NONE;
}

static bool read_sign(cop_answer_text *text) {
    static const char minus[] = "\xE2\x88\x92"; /* U+2212 */
    if (starts_with(*text, minus)) {
        *text = cop__answer_trim(after(*text, sizeof minus - 1));
        return true;
    }
    if (!text->bytes || (text->text[0] != '-' && text->text[0] != '+'))
        return false;
    bool negative = text->text[0] == '-';
    *text = cop__answer_trim(after(*text, 1));
    return negative;
}

static bool read_part(cop_answer_text text, cop_rational *out) {
    text = cop__answer_trim(text);
    bool negative = read_sign(&text);
    if (!read_decimal(&text, out) || cop__answer_trim(text).bytes)
        return false;
    out->num = negative ? -out->num : out->num;
    return true;
}

static bool divide(cop_rational above, cop_rational below, cop_rational *out) {
    return cop__rational_apply('/', above, below, out) == COP_FAULT_NONE;
}

/* "\frac{a}{b}", with the whole text behind it. */
static bool read_fraction(cop_answer_text text, cop_rational *out) {
    static const char *const names[] = {"\\frac", "\\dfrac", "\\tfrac"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        cop_answer_text above, below, rest;
        cop_rational a, b;
        if (!starts_with(text, names[i]))
            continue;
        if (!in_braces(cop__answer_trim(after(text, strlen(names[i]))), &above, &rest) ||
            !in_braces(cop__answer_trim(rest), &below, &rest) || cop__answer_trim(rest).bytes)
            return false;
        return read_part(above, &a) && read_part(below, &b) && divide(a, b, out);
    }
    return false;
}

bool cop__answer_number(cop_answer_text text, cop_rational *out) {
    text = cop__answer_bare(text);
    bool negative = read_sign(&text);
    cop_rational below;
    bool read = read_fraction(text, out);
    if (!read && read_decimal(&text, out)) {
        text = cop__answer_trim(text);
        read = text.bytes == 0;
        if (!read && text.text[0] == '/')
            read = read_part(after(text, 1), &below) && divide(*out, below, out);
    }
    if (read && negative)
        out->num = -out->num;
    return read;
}

/* ---- letters ---- */

/* "B", "(b)", "B.", "B) 42": the letter, in capitals; 0 for anything else. Only letters that stand
 * before further text with a mark count, or "A train" would be a choice. */
char cop__answer_letter(cop_answer_text text) {
    text = cop__answer_bare(text);
    bool open = text.bytes && text.text[0] == '(';
    text = open ? cop__answer_trim(after(text, 1)) : text;
    if (!text.bytes || !isalpha((unsigned char)text.text[0]))
        return 0;
    char letter = (char)toupper((unsigned char)text.text[0]);
    text = after(text, 1);
    if (letter > COP_CHOICE_LAST)
        return 0;
    if (open)
        return text.bytes && text.text[0] == ')' ? letter : 0;
    return text.bytes == 0 || is_one_of(text.text[0], ").:") ? letter : 0;
}

static bool same_word(const char *text, const char *word) {
    for (; *word; text++, word++)
        if (tolower((unsigned char)*text) != *word)
            return false;
    return true;
}

/* What follows the last "answer is" or "answer:", up to the end of its line. */
static cop_answer_text after_answer(cop_answer_text text) {
    static const char *const marks[] = {"answer is", "answer:"};
    cop_answer_text found = {0};
    for (size_t i = 0; i < text.bytes; i++) {
        for (size_t k = 0; k < sizeof marks / sizeof marks[0]; k++) {
            size_t bytes = strlen(marks[k]);
            if (text.bytes - i >= bytes && same_word(text.text + i, marks[k]))
                found = after(text, i + bytes);
        }
    }
    while (found.bytes && (cop__is_space(found.text[0]) || is_one_of(found.text[0], "*:")))
        found = after(found, 1);
    const char *end = found.bytes ? memchr(found.text, '\n', found.bytes) : NULL;
    if (end)
        found.bytes = (size_t)(end - found.text);
    while (found.bytes && is_one_of(found.text[found.bytes - 1], "*. "))
        found.bytes--;
    return found;
}

cop_answer_text cop__answer_choice_claim(cop_answer_text text) {
    cop_answer_text box = cop__answer_last_box(text), said = after_answer(text);
    if (box.text)
        return box;
    if (said.text && cop__answer_letter(said))
        return said;
    text = cop__answer_trim(text);
    size_t line = text.bytes;
    while (line > 0 && text.text[line - 1] != '\n')
        line--;
    said = after(text, line);
    return cop__answer_letter(said) ? said : (cop_answer_text){0};
}
