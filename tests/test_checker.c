/* The checkers on written-out cases; what random ones show is in test_checker_random.c. */
#include "reason/checker.h"

#include <stdbool.h>
#include <time.h>

#include "check.h"
#include "checker_claims.h"

static void test_names(void) {
    const cop_checker *checker;
    CHECK_OK(cop_checker_find("exact", &checker));
    CHECK_TEXT(cop_checker_name(checker), "exact");
    CHECK_TEXT(cop_checker_name(countdown()), "countdown");
    CHECK_STATUS(cop_checker_find("countdow\n", &checker), COP_ERR_CONFIG);
    CHECK(checker == NULL);
    CHECK_MESSAGE("\"countdow?\"");
    CHECK_MESSAGE("exact, boxed, choice, countdown");
    CHECK_TEXT(cop_grade_name(COP_GRADE_RIGHT), "right");
    CHECK_TEXT(cop_grade_name(COP_GRADE_WRONG), "wrong");
    CHECK_TEXT(cop_grade_name(COP_GRADE_NONE), "none");
    CHECK_TEXT(cop_grade_name(COP_GRADE_UNGRADED), "ungraded");
}

static void test_exact(void) {
    static const struct {
        const char *reference, *claim;
        cop_grade grade;
    } rows[] = {
        {"42", "42", COP_GRADE_RIGHT},
        {" 42\n", "\t42 \r\n", COP_GRADE_RIGHT},
        {"4 2", "4 2", COP_GRADE_RIGHT},
        {"4 2", "4  2", COP_GRADE_WRONG},
        {"42", "42.", COP_GRADE_WRONG},
        {"42", "4", COP_GRADE_WRONG},
        {"42", "", COP_GRADE_WRONG},
        {"Yes", "yes", COP_GRADE_WRONG},
        {NULL, "42", COP_GRADE_UNGRADED},
        {" \n", "42", COP_GRADE_UNGRADED},
        {"\xc3\xa9", "\xc3\xa9", COP_GRADE_RIGHT},
    };
    const cop_checker *exact;
    CHECK_OK(cop_checker_find("exact", &exact));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_EQ(grade_bytes(exact, "p", rows[i].reference, rows[i].claim, strlen(rows[i].claim)),
                 rows[i].grade);
    CHECK_EQ(grade_bytes(exact, "p", "4", "4\0", 2), COP_GRADE_WRONG);
    cop_answer_text prompt = {"p", 1}, none = {0};
    CHECK_OK(cop_checker_accepts(exact, prompt, none));
    CHECK_OK(cop_checker_accepts(exact, prompt, (cop_answer_text){"42", 2}));
    CHECK_STATUS(cop_checker_accepts(exact, prompt, (cop_answer_text){"  ", 2}), COP_ERR_FORMAT);
    CHECK_MESSAGE("leave it out");
}

static void test_nothing_claimed_and_nobody_to_judge(void) {
    cop_answer_text prompt = {"T3 1 2", 6}, none = {0}, claim = {"1 + 2", 5};
    CHECK_EQ(cop_checker_grade(countdown(), prompt, none, none), COP_GRADE_NONE);
    CHECK_EQ(cop_checker_grade(NULL, prompt, none, none), COP_GRADE_NONE);
    CHECK_EQ(cop_checker_grade(NULL, prompt, none, claim), COP_GRADE_UNGRADED);
    CHECK_EQ(cop_checker_grade(countdown(), none, none, claim), COP_GRADE_UNGRADED);
    CHECK_EQ(cop_checker_grade(countdown(), prompt, (cop_answer_text){"9", 1}, claim),
             COP_GRADE_RIGHT); /* the reference is not looked at */
    CHECK_OK(cop_checker_accepts(NULL, none, none));
    CHECK_TEXT(cop_checker_name(NULL), "none");
}

#define BIG "999999999999999999"
#define SIXTEEN "T136 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"

static void test_right_claims(void) {
    static const char *const rows[][2] = {
        {"T33 18 15 9 8", "18 + 15 9 - 8 33 * 1"},
        {"T33 18 15 9 8", "18+15 9-8 33*1"},
        {"T33 18 15 9 8", "\n18 + 15 = 33\n9 - 8 = 1\n33 * 1 = 33\n"},
        {"T33 18 15 9 8", "18 + 15=33,9 - 8=1; 33 * 1=33"},
        {"T33 18 15 9 8", "(18 + 15) * (9 - 8)"},
        {"T33 18 15 9 8", "((((18))+15))*(9-(8))"},
        {"T33 18 15 9 8", " (18 + 15) * (9 - 8) = 33 "},
        {"T33 18 15 9 8", "(18 + 15) \xc3\x97 (9 \xe2\x88\x92 8)"},
        {"T33 18 15 9 8", "(18 + 15) \xc3\xb7 (9 - 8)"},
        {"Make 24 of the numbers 8, 8, 3 and 3.", "8 / (3 - 8 / 3)"},
        {"[24]: [8,8,3,3]", "8 / 3 3 - 8/3 8 / 1/3"},
        {"T24 8 8 3 3", "8 / 3 3 - 16/6 8 / 2/6"},
        {"T24 8 8 3 3", "8/3=8/3 3-8/3=1/3 8/1/3=24"},
        {"T20 1 3 2 5 3", "1/3 = 1/3; 1/3 - 2 = -5/3; 5 - -5/3 = 20/3; 20/3 * 3 = 20"},
        {"T20 1 3 2 5 3", "1/3 1/3 - 2 5 - -5/3 20/3 * 3"},
        {"T5 2 6 4 8 6", "2/6 4/8 1/3 + 1/2 = 5/6 5/6 * 6"},
        {"T2 9 7 4", "7 - 9 = -2 4 + -2 = 2"},
        {"T2 9 7 4", "7 - 9 -2 + 4"},
        {"T2 9 7 4", "7 - 9 + 4"},
        {"T0 3 5 2 4 4 6", "3 - 5 2/4 -2 + 1/2 -3/2 * 4 6 + -6"}, /* 2/4 is a step here */
        {"T0 5 5", "5 - 5"},
        {"T0 5 0", "0/5 = 0"},
        {"T12 2 6", "2 * 6"},
        {"T3 6 2", "6/2"},
        {"T7 2 3 1", "2 * 3 + 1"},
        {"T7 2 3 1", "1 + 2 * 3"},
        {"T4 10 4 2", "10 - 4 - 2"},
        {"T3 24 4 2", "24 / 4 / 2"},
        {"T8 10 4 2", "10 - (4 - 2)"},
        {"T12 24 4 2", "24 / (4 / 2)"},
        {SIXTEEN, "1+2+3+4+5+6+7+8+9+10+11+12+13+14+15+16"},
        {"T0 " BIG " " BIG " 0", BIG " * " BIG " * 0"},
        {"T1 " BIG " " BIG, BIG " / " BIG},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_grade(rows[i][0], rows[i][1], COP_GRADE_RIGHT);
}

static void test_wrong_claims(void) {
    static const char *const rows[][2] = {
        {"T33 18 15 9 8", ""},
        {"T33 18 15 9 8", " \n"},
        {"T33 18 15 9 8", "33"},
        {"T33 18 15 9 8", "18 + 15"},                     /* numbers left */
        {"T33 18 15 9 8", "18 + 15 9 - 8"},               /* steps not brought together */
        {"T33 18 15 9 8", "18 + 15 9 - 8 33 * 1 33 * 1"}, /* results used twice */
        {"T33 18 15 9 8", "18 + 15 18 - 8 33 * 1"},       /* a number used twice */
        {"T33 18 15 9 8", "18 + 15 9 - 8 33 * 2"},        /* a number from nowhere */
        {"T33 18 15 9 8", "18 + 15 9 - 8 33 + 1"},        /* another target */
        {"T33 18 15 9 8", "18 + 15 = 34 9 - 8 33 * 1"},   /* a wrong result stated */
        {"T33 18 15 9 8", "18 + 15 9 - 8 33 * 1 = 34"},
        {"T33 18 15 9 8", "(18 + 15) * (9 - 8) = 34"},
        {"T33 18 15 9 8", "(18 + 15) * (9 - 8) = 33 = 33"},
        {"T33 18 15 9 8", "(18 + 15) * (9 - 8) ="},
        {"T33 18 15 9 8", "33 = (18 + 15) * (9 - 8)"},
        {"T33 18 15 9 8", "(18 + 15) (9 - 8)"},
        {"T33 18 15 9 8", "(18 + 15) * (9 - 8"},
        {"T33 18 15 9 8", "(18 + 15) * 9 - 8)"},
        {"T33 18 15 9 8", "18 + 15) * (9 - 8)"},
        {"T33 18 15 9 8", "()(18 + 15) * (9 - 8)"},
        {"T33 18 15 9 8", "(18 + 15) * (9 - 8) * ()"},
        {"T33 18 15 9 8", "(18 + 15) * (9 - 8) *"},
        {"T33 18 15 9 8", "* (18 + 15) * (9 - 8)"},
        {"T33 18 15 9 8", "(18 + 15) ** (9 - 8)"},
        {"T33 18 15 9 8", "(18 + 15) // (9 - 8)"},
        {"T33 18 15 9 8", "(18 + 15) ^ (9 - 8)"},
        {"T33 18 15 9 8", "(18 + 15) x (9 - 8)"},
        {"T33 18 15 9 8", "(18 + 15) * (9 - 8)."},
        {"T33 18 15 9 8", "the answer is (18 + 15) * (9 - 8)"},
        {"T33 18 15 9 8", "(18 + 15) * (9 - 08)"},
        {"T33 18 15 9 8", "(18.0 + 15) * (9 - 8)"},
        {"T33 18 15 9 8", "(1 8 + 15) * (9 - 8)"},
        {"T33 18 15 9 8", "18 + 15 = 33 * (9 - 8) = 33"}, /* steps have no parentheses */
        {"T33 18 15 9 8", "18 + 15 9 - 8 33 * 1,"},
        {"T33 18 15 9 8", "18 + 15, , 9 - 8 33 * 1"},
        {"T33 18 15 9 8", ", 18 + 15 9 - 8 33 * 1"},
        {"T33 18 15 9 8", "18 + 15 9 - 8 33 * 1 +"},
        {"T33 18 15 9 8", "18 + 15 9 - 8 33 * 1 = 33/1"}, /* whole, written as a fraction */
        {"T4 6 2", "6 - 8/4"},                            /* not the number 2 */
        {"T4 6 2", "8/2 = 4"},
        {"T8 3 5", "-3 + 5"},
        {"T2 3 5", "-3 + 5"}, /* a sign is no operation */
        {"T2 3 5", "-(3 - 5)"},
        {"T8 3 5", "+3 + 5"},
        {"T5 0 5", "-0 + 5"},
        {"T0 5 0", "5 / 0"},
        {"T0 5 0", "5/0"},
        {"T0 5 5 5 0", "0 / (5 - 5) + 5"},
        {"T0 5 5 5 0", "5 - 5 0 / 0 0 + 5"},
        {"T1 0 0", "0 / 0"},
        {"T3 10 3", "10 / 3"}, /* no rounding */
        {"T6 1 2 3", "1 + 2 3 * 2"},
        {"T2 2 2", "2 * 1"},
        {SIXTEEN, "1+2+3+4+5+6+7+8+9+10+11+12+13+14+15+16+1"},
        {SIXTEEN, "1+2+3+4+5+6+7+8+9+10+11+12+13+14+15+16+17+18+19"},
        {"T0 " BIG " " BIG " " BIG " 0", BIG " * " BIG " * " BIG " * 0"}, /* beyond 127 bits */
        {"T0 " BIG " " BIG " " BIG " 0", BIG "*" BIG "=340282366920938463463374607431768211456"},
        {"T3 1 2", "1 + 2 = 340282366920938463463374607431768211459"}, /* 2^128 + 3 */
        {"T3 1 2", "1 + 340282366920938463463374607431768211458"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_grade(rows[i][0], rows[i][1], COP_GRADE_WRONG);
    static const char nul[] = "1 + 2\0";
    CHECK_EQ(grade_bytes(countdown(), "T3 1 2", NULL, nul, 5), COP_GRADE_RIGHT);
    CHECK_EQ(grade_bytes(countdown(), "T3 1 2", NULL, nul, 6), COP_GRADE_WRONG);
    CHECK_EQ(grade_bytes(countdown(), "T3 1 2", NULL, "1\0+ 2", 6), COP_GRADE_WRONG);
}

static void test_prompts(void) {
    static const struct {
        const char *prompt, *message; /* NULL: it is a problem */
    } rows[] = {
        {"T3 1 2", NULL},
        {"3\n1\n2", NULL},
        {"Target: 3. Numbers: 1, 2.", NULL},
        {"3 <- (1|2)", NULL},
        {"T3 1 2!", NULL},
        {SIXTEEN, NULL},
        {"", "too few numbers (0 read)"},
        {"make something", "too few numbers (0 read)"},
        {"T3", "too few numbers (1 read)"},
        {"T3 3", "too few numbers (2 read)"},
        {SIXTEEN " 17", "too many numbers (18 read)"},
        {"T3 -1 2", "not a whole one"},
        {"T3 \xe2\x88\x92"
         "1 2",
         "not a whole one"},
        {"T3 1 2.0", "not a whole one"},
        {"T3 1 .5", "not a whole one"},
        {"T3 1 1/2", "not a whole one"},
        {"T3 1 007", "not a whole one"},
        {"T3 1 1e3", "not a whole one"},
        {"T3 1 2nd", "not a whole one"},
        {"T3 1 2_", "not a whole one"},
        {"T3 1 1000000000000000000", "more than 18 digits"},
        {"T3 1 \n2 99999999999999999999999999999999999999999999999999", "\"T3 1 ?2 9999"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool good = rows[i].message == NULL;
        cop_grade expected = good ? COP_GRADE_WRONG : COP_GRADE_UNGRADED;
        check_grade(rows[i].prompt, "1 + 1", expected);
        if (good)
            continue;
        CHECK_STATUS(accepts(rows[i].prompt, NULL), COP_ERR_FORMAT);
        CHECK_MESSAGE(rows[i].message);
        CHECK_STATUS(accepts(rows[i].prompt, "1 + 2"), COP_ERR_FORMAT);
        CHECK_MESSAGE(rows[i].message);
    }
}

static void test_accepts(void) {
    static const struct {
        const char *prompt, *reference, *message;
    } rows[] = {
        {"T3 1 2", "1 + 2", NULL},
        {"T3 1 2", NULL, NULL},
        {"T24 8 8 3 3", NULL, NULL},
        {"T10 1 5 1 5", NULL, NULL},
        {"T24 1 5 5 5", NULL, NULL}, /* 5 (5 - 1/5) */
        {"T0 7 7 3 9", NULL, NULL},
        {"T99 1 1 1 1 1 1 1", NULL, NULL}, /* seven numbers are not searched */
        {"T99 1 1 1 1", NULL, "no way to make 99 of these numbers"},
        {"T24 1 1 1 1 1", NULL, "no way to make 24"},
        {"T99 1 1 1 1 1 1", NULL, "no way to make 99"},
        {"T1 0 0", NULL, "no way to make 1 of"},
        {"T3 1 2", "2 - 1", "does not reach the target: correct it, or leave it out"},
        {"T3 1 2", "three", "neither steps nor one expression"},
        {"T3 1 2", "", "neither steps nor one expression"},
        {"T3 1 2", "1 + 3", "uses a number that is not given"},
        {"T6 1 2 3", "(1 + 2) * 2", "uses a number"},
        {"T6 1 2 3", "1 + 2 = 4 3 + 3", "states a result"},
        {"T6 1 2 3", "1 + 2", "leaves numbers unused"},
        {"T6 1 2 3", "1 * 2 * 3 / 0", "uses a number"},
        {"T6 0 2 3", "2 * 3 / 0", "divides by zero"},
        {"T0 " BIG " " BIG " " BIG " 0", BIG " * " BIG " * " BIG " * 0", "beyond 127 bits"},
        {"T99 1 1 1 1", "1 + 1 1 + 1 2 * 2", "does not reach the target, and no other can be"},
        {"T99 1 1 1 1", "1 + 1 1 + 1 2 * 2", "no way to make 99"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!rows[i].message) {
            CHECK_OK(accepts(rows[i].prompt, rows[i].reference));
            continue;
        }
        CHECK_STATUS(accepts(rows[i].prompt, rows[i].reference), COP_ERR_FORMAT);
        CHECK_MESSAGE(rows[i].message);
        CHECK_MESSAGE("\"T");
    }
}

/* A search that would have to pass 127 bits must not call the problem impossible. */
static void test_huge_numbers_are_not_called_impossible(void) {
    CHECK_OK(accepts("T7 918273645546372819 604857392019485763 777123984561230987 "
                     "123459876501928374 501293847561029381 350192837465019283",
                     NULL));
    CHECK_STATUS(accepts("T5 " BIG " 1", NULL), COP_ERR_FORMAT);
}

enum { LONG_BYTES = 1 << 20 };

static void check_long(const char *prompt, const char *claim, cop_grade expected) {
    clock_t begin = clock();
    CHECK_EQ(grade_bytes(countdown(), prompt, NULL, claim, LONG_BYTES), expected);
    CHECK(clock() - begin < CLOCKS_PER_SEC / 2);
}

static void test_long_claims_in_linear_time(void) {
    static const char middle[] = "1+2";
    char *text = malloc(LONG_BYTES);
    CHECK(text != NULL);
    size_t half = (LONG_BYTES - 3) / 2;
    static const char fills[] = "0919( )+-*/=,;x\n\0\xc3\xff";
    for (size_t i = 0; i < sizeof fills - 1; i++) {
        memset(text, fills[i], LONG_BYTES);
        check_long("T3 1 2", text, COP_GRADE_WRONG);
        memcpy(text, middle, 3);
        check_long("T3 1 2", text,
                   fills[i] == ' ' || fills[i] == '\n' ? COP_GRADE_RIGHT : COP_GRADE_WRONG);
    }
    memset(text, '(', half);
    memcpy(text + half, middle, 3);
    memset(text + half + 3, ')', LONG_BYTES - half - 3);
    text[LONG_BYTES - 1] = ' ';
    check_long("T3 1 2", text, COP_GRADE_RIGHT);
    text[0] = ' ';
    check_long("T3 1 2", text, COP_GRADE_WRONG);
    for (size_t i = 0; i < LONG_BYTES; i++)
        text[i] = "1 + 2 "[i % 6];
    check_long("T3 1 2", text, COP_GRADE_WRONG);
    for (size_t i = 0; i < LONG_BYTES; i++)
        text[i] = "(1+"[i % 3];
    check_long("T3 1 2", text, COP_GRADE_WRONG);
    free(text);
}

int main(void) {
    RUN(test_names);
    RUN(test_exact);
    RUN(test_nothing_claimed_and_nobody_to_judge);
    RUN(test_right_claims);
    RUN(test_wrong_claims);
    RUN(test_prompts);
    RUN(test_accepts);
    RUN(test_huge_numbers_are_not_called_impossible);
    RUN(test_long_claims_in_linear_time);
    return check_report();
}
