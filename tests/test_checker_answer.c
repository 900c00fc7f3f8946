/* Answers at the end of a solution: boxes, plain numbers, letters; what is claimed, and what is the
 * same. */
#include "check.h"

#include "base/rng.h"
#include "reason/checker_internal.h"

static cop_answer_text text_of(const char *text) {
    return (cop_answer_text){text, text ? strlen(text) : 0};
}

static const cop_checker *checker_of(const char *name) {
    const cop_checker *checker;
    CHECK_OK(cop_checker_find(name, &checker));
    return checker;
}

static const char *grade_of(const char *checker, const char *reference, const char *claimed) {
    return cop_grade_name(
        cop_checker_grade(checker_of(checker), text_of("?"), text_of(reference), text_of(claimed)));
}

static const char *claim_of(const char *checker, const char *text) {
    static char out[256];
    cop_answer_text claim = cop_checker_claim(checker_of(checker), text_of(text));
    CHECK(claim.bytes < sizeof out);
    snprintf(out, sizeof out, "%.*s", (int)claim.bytes, claim.text ? claim.text : "");
    return claim.text ? out : "(none)";
}

static void test_numbers_are_compared_exactly(void) {
    static const struct {
        const char *reference, *claimed, *grade;
    } cases[] = {
        {"2", "2", "right"},
        {"2", "2.000", "right"},
        {"2", "\\boxed{2}", "right"},
        {"2", " $\\boxed{ 2 }$ ", "right"},
        {"2", "\\text{2}", "right"},
        {"2", "002", "right"},
        {"2", "+2", "right"},
        {"-2",
         "\xE2\x88\x92"
         "2",
         "right"},
        {"-2", "- 2", "right"},
        {"0", "-0", "right"},
        {"1000", "1,000", "right"},
        {"1000000", "1{,}000{,}000", "right"},
        {"1000", "1\\,000", "right"},
        {"0.5", "\\frac{1}{2}", "right"},
        {"-0.5", "-\\dfrac{1}{2}", "right"},
        {"-0.5", "\\tfrac{-2}{4}", "right"},
        {"0.5", "1/2", "right"},
        {"0.5", ".5", "right"},
        {"5", "5.", "right"},
        {"\\frac{22}{7}", "44 / 14", "right"},
        {"0.1", "0.10000000000000000000000001", "wrong"}, /* as doubles they are equal */
        {"2", "3", "wrong"},
        {"2", "-2", "wrong"},
        {"0.333", "1/3", "wrong"},
        {"2", NULL, "none"},
        {"2", "", "ungraded"},
        {"2", "\\sqrt{4}", "ungraded"},
        {"2", "two", "ungraded"},
        {"2", "1,2", "ungraded"},
        {"12", "1,2", "ungraded"},
        {"1000", "10,00", "ungraded"},
        {"1000", "1,0000", "ungraded"},
        {"1000000", "1000,000", "ungraded"},
        {"100000", "1,00,000", "ungraded"},
        {"2", "2 apples", "ungraded"},
        {"2", "1/0", "ungraded"},
        {"2", "1 2", "ungraded"},
        {"2", "1.2.3", "ungraded"},
        {"2", "-", "ungraded"},
        {"2", "\\frac{2}", "ungraded"},
        {"2", "\\frac{2}{1}x", "ungraded"},
        {"2", "1234567890123456789012345678901", "ungraded"}, /* 31 digits */
        {"x", "2", "ungraded"},
        {NULL, "2", "ungraded"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        CHECK_TEXT(grade_of("boxed", cases[i].reference, cases[i].claimed), cases[i].grade);
    const cop_checker *boxed = checker_of("boxed");
    CHECK_OK(cop_checker_accepts(boxed, text_of("?"), text_of("3/4")));
    CHECK_OK(cop_checker_accepts(boxed, text_of("?"), text_of(NULL)));
    CHECK_STATUS(cop_checker_accepts(boxed, text_of("?"), text_of("x^2")), COP_ERR_FORMAT);
    CHECK_MESSAGE("equivalence");
}

static void test_the_last_whole_box_is_claimed(void) {
    CHECK_TEXT(claim_of("boxed", "a \\boxed{1} b \\boxed{2} c"), "2");
    CHECK_TEXT(claim_of("boxed", "\\boxed{\\frac{1}{2}}."), "\\frac{1}{2}");
    CHECK_TEXT(claim_of("boxed", "\\boxed {7}"), "7");
    CHECK_TEXT(claim_of("boxed", "\\fbox{7}"), "7");
    CHECK_TEXT(claim_of("boxed", "\\boxed{1} \\boxed{2"), "1"); /* the last is cut off */
    CHECK_TEXT(claim_of("boxed", "\\boxed{\\{1\\}}"), "\\{1\\}");
    CHECK_TEXT(claim_of("boxed", "\\boxed 7"), "(none)");
    CHECK_TEXT(claim_of("boxed", "42"), "(none)");
    CHECK_TEXT(claim_of("boxed", ""), "(none)");
    CHECK_TEXT(claim_of("boxed", "\\"), "(none)");
    CHECK_TEXT(claim_of("exact", "all of it"), "all of it");
    CHECK_TEXT(claim_of("countdown", "1 + 2"), "1 + 2");
    CHECK(!cop_checker_has_mark(checker_of("exact")) && cop_checker_has_mark(checker_of("boxed")));
    CHECK(!cop_checker_claim(checker_of("exact"), (cop_answer_text){0}).text);
}

static void test_letters(void) {
    static const struct {
        const char *reference, *claimed, *grade;
    } cases[] = {
        {"B", "B", "right"},
        {"B", "b", "right"},
        {"(B)", "\\boxed{\\text{B}}", "right"},
        {"B", "(B) 42", "right"},
        {"B", "B) 42", "right"},
        {"B", "B. because", "right"},
        {"B", "C", "wrong"},
        {"B", "B and C", "ungraded"}, /* a word, or two answers */
        {"B", "Because", "ungraded"},
        {"B", "(B", "ungraded"},
        {"B", "Z", "ungraded"},
        {"B", "42", "ungraded"},
        {"B", NULL, "none"},
        {"42", "B", "ungraded"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        CHECK_TEXT(grade_of("choice", cases[i].reference, cases[i].claimed), cases[i].grade);
    CHECK_STATUS(cop_checker_accepts(checker_of("choice"), text_of("?"), text_of("K")),
                 COP_ERR_FORMAT);
    CHECK_TEXT(claim_of("choice", "Is it A? The answer is **(C)**.\nDone."), "(C)");
    CHECK_TEXT(claim_of("choice", "ANSWER: b"), "b");
    CHECK_TEXT(claim_of("choice", "the answer is B. No, the answer is D."), "D");
    CHECK_TEXT(claim_of("choice", "the answer is B, \\boxed{A}"), "A");
    CHECK_TEXT(claim_of("choice", "So\nD\n"), "D");
    CHECK_TEXT(claim_of("choice", "the answer is unclear\nA dog"), "(none)");
    CHECK_TEXT(claim_of("choice", ""), "(none)");
}

static void test_same_answers(void) {
    const cop_checker *boxed = checker_of("boxed"), *choice = checker_of("choice");
    CHECK(cop_checker_same(boxed, text_of("0.5"), text_of("\\frac12")) == false);
    CHECK(cop_checker_same(boxed, text_of("0.5"), text_of("\\frac{1}{2}")));
    CHECK(cop_checker_same(boxed, text_of("\\boxed{x+1}"), text_of("x+1")));
    CHECK(!cop_checker_same(boxed, text_of("x+1"), text_of("1")));
    CHECK(cop_checker_same(choice, text_of("(B)"), text_of("b")));
    CHECK(!cop_checker_same(choice, text_of("B"), text_of("no")));
    CHECK(cop_checker_same(checker_of("exact"), text_of(" a "), text_of("a")));
    CHECK(cop_checker_same(NULL, text_of(""), text_of(" ")));
}

/* Random numbers in random spellings are read as what they are, and random bytes do no harm (the
 * sanitizers watch): a number is read only if every byte of it can be part of one. */
static void test_random_spellings(void) {
    enum { SPELLINGS = 6 };
    uint32_t covered[SPELLINGS] = {0}, numbers = 0;
    for (uint32_t i = 0; i < check_effort(20000, 2000); i++) {
        cop_rng_key key = {7, 1, i};
        long long value = (long long)cop_rng_below(key, 0, 2000000) - 1000000;
        long long factor = 1 + cop_rng_below(key, 1, 9), size = value < 0 ? -value : value;
        uint32_t spelling = cop_rng_below(key, 2, SPELLINGS);
        const char *sign = value < 0 ? "-" : "";
        char text[128];
        if (spelling == 0)
            snprintf(text, sizeof text, "%lld", value);
        else if (spelling == 1 && size >= 1000 && size < 1000000)
            snprintf(text, sizeof text, "%s%lld,%03lld", sign, size / 1000, size % 1000);
        else if (spelling == 2)
            snprintf(text, sizeof text, "%s%lld.000", sign, size);
        else if (spelling == 3)
            snprintf(text, sizeof text, "%lld/%lld", value * factor, factor);
        else if (spelling == 4)
            snprintf(text, sizeof text, "%s\\frac{%lld}{%lld}", sign, size * factor, factor);
        else
            snprintf(text, sizeof text, "$ %s %lld $", sign, size);
        covered[spelling]++;
        cop_rational read;
        CHECK(cop__answer_number(text_of(text), &read));
        CHECK(read.den == 1 && read.num == value);
    }
    for (uint32_t i = 0; i < check_effort(200000, 20000); i++) {
        static const char alphabet[] = "0123456789.,/-+ \\{}$frac boxedtxB()";
        char *text = malloc(12); /* no byte behind the text may be read */
        cop_rng_key key = {7, 2, i};
        size_t bytes = cop_rng_below(key, 0, 12);
        for (size_t k = 0; k < bytes; k++)
            text[k] = alphabet[cop_rng_below(key, (uint32_t)k + 1, sizeof alphabet - 1)];
        char *exact = realloc(text, bytes ? bytes : 1);
        cop_answer_text made = {exact, bytes};
        cop_rational read;
        if (cop__answer_number(made, &read)) {
            CHECK(read.den > 0);
            numbers++;
        }
        cop_checker_claim(checker_of("boxed"), made);
        cop_checker_claim(checker_of("choice"), made);
        cop__answer_letter(made);
        free(exact);
    }
    for (int k = 0; k < SPELLINGS; k++)
        CHECK(covered[k] > 50);
    CHECK(numbers > 100);
}

int main(void) {
    RUN(test_numbers_are_compared_exactly);
    RUN(test_the_last_whole_box_is_claimed);
    RUN(test_letters);
    RUN(test_same_answers);
    RUN(test_random_spellings);
    return check_report();
}
