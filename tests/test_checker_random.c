/* The countdown checker on random problems and claims, against evaluators in double precision. */
#include <math.h>
#include <stdbool.h>

#include "base/rng.h"
#include "check.h"
#include "checker_claims.h"

enum { TEXT_BYTES = 512, N_MAX = 6 };

/* Random problems with a solution, from numbers joined two by two: the answer as an expression and
 * as steps, values in plain 64-bit fractions. */
typedef struct part {
    int64_t num, den;
    char text[TEXT_BYTES];
} part;

typedef struct sample {
    uint64_t seed;
    uint32_t draws;
    int n;
    int64_t numbers[N_MAX], target;
    char prompt[TEXT_BYTES], expression[TEXT_BYTES], steps[TEXT_BYTES], stated[TEXT_BYTES];
} sample;

static uint32_t draw(sample *s, uint32_t bound) {
    return cop_rng_below((cop_rng_key){.seed = s->seed, .stream = 4}, s->draws++, bound);
}

static bool compute(char operation, const part *a, const part *b, part *out) {
    int64_t num = 0, den = a->den * b->den;
    switch (operation) {
    case '+':
        num = a->num * b->den + b->num * a->den;
        break;
    case '-':
        num = a->num * b->den - b->num * a->den;
        break;
    case '*':
        num = a->num * b->num;
        break;
    default:
        if (b->num == 0)
            return false;
        num = a->num * b->den * (b->num < 0 ? -1 : 1);
        den = a->den * (b->num < 0 ? -b->num : b->num);
    }
    int64_t x = num < 0 ? -num : num, y = den;
    while (y) {
        int64_t rest = x % y;
        x = y;
        y = rest;
    }
    out->num = num / x;
    out->den = den / x;
    return true;
}

static void spell(const part *value, char out[64]) {
    if (value->den == 1)
        snprintf(out, 64, "%lld", (long long)value->num);
    else
        snprintf(out, 64, "%lld/%lld", (long long)value->num, (long long)value->den);
}

static void append(char text[TEXT_BYTES], const char *more) {
    CHECK(strlen(text) + strlen(more) < TEXT_BYTES);
    strcat(text, more);
}

static void join_two(sample *s, part *parts, int n) {
    int i = (int)draw(s, (uint32_t)n), j = (int)draw(s, (uint32_t)n - 1);
    j += j >= i;
    char operation = "+-*/"[draw(s, 4)], left[64], right[64], result[64], line[256];
    part made = {0};
    while (!compute(operation, &parts[i], &parts[j], &made))
        operation = "+-*"[draw(s, 3)];
    const char *space = draw(s, 2) ? " " : "";
    CHECK(snprintf(made.text, TEXT_BYTES, "(%s%s%c%s%s)", parts[i].text, space, operation, space,
                   parts[j].text) < TEXT_BYTES);
    spell(&parts[i], left);
    spell(&parts[j], right);
    spell(&made, result);
    snprintf(line, sizeof line, "%s%s %c %s", s->steps[0] ? " " : "", left, operation, right);
    append(s->steps, line);
    snprintf(line, sizeof line, "%s %c %s = %s\n", left, operation, right, result);
    append(s->stated, line);
    parts[i] = made;
    parts[j] = parts[n - 1];
}

/* False when the random tree ends at no whole number. */
static bool make_sample(uint64_t seed, sample *s) {
    part parts[N_MAX];
    *s = (sample){.seed = seed};
    s->n = 2 + (int)draw(s, N_MAX - 1);
    for (int i = 0; i < s->n; i++) {
        s->numbers[i] = draw(s, 13);
        parts[i] = (part){s->numbers[i], 1, ""};
        snprintf(parts[i].text, TEXT_BYTES, "%lld", (long long)s->numbers[i]);
    }
    for (int n = s->n; n > 1; n--)
        join_two(s, parts, n);
    if (parts[0].den != 1 || parts[0].num < 0)
        return false;
    s->target = parts[0].num;
    strcpy(s->expression, parts[0].text);
    snprintf(s->prompt, TEXT_BYTES, "T%lld", (long long)s->target);
    for (int i = 0; i < s->n; i++) {
        char word[32];
        snprintf(word, sizeof word, " %lld", (long long)s->numbers[i]);
        append(s->prompt, word);
    }
    return true;
}

/* The value of an expression in double precision; NAN for a malformed one. Counts the numbers. */
typedef struct naive {
    const char *at;
    int seen[64], n;
    bool broken;
} naive;

static double naive_sum(naive *e);

static double naive_atom(naive *e) {
    while (*e->at == ' ')
        e->at++;
    double value = 0;
    if (*e->at == '(') {
        e->at++;
        value = naive_sum(e);
        e->broken |= *e->at++ != ')';
    } else if (*e->at >= '0' && *e->at <= '9') {
        value = (double)strtol(e->at, (char **)&e->at, 10);
        if (value < 64)
            e->seen[(int)value]++;
        e->n++;
    } else {
        e->broken = true;
    }
    while (*e->at == ' ')
        e->at++;
    return value;
}

static double naive_product(naive *e) {
    double value = naive_atom(e);
    while (!e->broken && (*e->at == '*' || *e->at == '/')) {
        char operation = *e->at++;
        double next = naive_atom(e);
        e->broken |= operation == '/' && fabs(next) < 1e-9;
        value = operation == '*' ? value * next : value / next;
    }
    return value;
}

static double naive_sum(naive *e) {
    double value = naive_product(e);
    while (!e->broken && (*e->at == '+' || *e->at == '-')) {
        char operation = *e->at++;
        double next = naive_product(e);
        value += operation == '+' ? next : -next;
    }
    return value;
}

static bool naive_is_right(const sample *s, const char *expression) {
    naive e = {.at = expression};
    double value = naive_sum(&e);
    if (e.broken || *e.at || e.n != s->n || fabs(value - (double)s->target) > 1e-7)
        return false;
    for (int i = 0; i < s->n; i++)
        e.seen[s->numbers[i]]--;
    for (int i = 0; i < 64; i++) {
        if (e.seen[i] != 0)
            return false;
    }
    return true;
}

static void test_random_answers_are_right(void) {
    uint32_t cases = check_effort(20000, 1000), right = 0, fractions = 0, negatives = 0;
    for (uint64_t seed = 0; seed < cases; seed++) {
        sample s;
        if (!make_sample(seed, &s))
            continue;
        CHECK(naive_is_right(&s, s.expression));
        check_grade(s.prompt, s.expression, COP_GRADE_RIGHT);
        check_grade(s.prompt, s.steps, COP_GRADE_RIGHT);
        check_grade(s.prompt, s.stated, COP_GRADE_RIGHT);
        CHECK_OK(accepts(s.prompt, s.steps));
        right++;
        fractions += strstr(s.stated, "/1") || strstr(s.stated, "/2") || strstr(s.stated, "/3");
        negatives += strstr(s.stated, "= -") != NULL;
    }
    CHECK(right > cases / 5 && fractions > right / 50 && negatives > right / 20);
}

/* One operator, number or parenthesis changed: right only where the naive evaluator says so. */
static void test_random_expressions_against_doubles(void) {
    uint32_t cases = check_effort(20000, 1000), seen[2] = {0};
    for (uint64_t seed = 0; seed < cases; seed++) {
        sample s;
        if (!make_sample(seed, &s))
            continue;
        for (int change = 0; change < 12; change++) {
            char text[TEXT_BYTES];
            strcpy(text, s.expression);
            size_t bytes = strlen(text);
            for (uint32_t edits = 1 + draw(&s, 2); edits; edits--) {
                char *at = &text[draw(&s, (uint32_t)bytes)];
                if (strchr("+-*/", *at))
                    *at = "+-*/"[draw(&s, 4)];
                else if (*at >= '1' && *at <= '9' && (at == text || at[-1] < '0' || at[-1] > '9'))
                    *at = (char)('1' + draw(&s, 9));
                else if (*at == '(' || *at == ')')
                    *at = " ()"[draw(&s, 3)];
            }
            bool right = naive_is_right(&s, text);
            check_grade(s.prompt, text, right ? COP_GRADE_RIGHT : COP_GRADE_WRONG);
            seen[right]++;
        }
    }
    CHECK(seen[0] > cases / 2 && seen[1] > cases / 20);
}

static void check_cut_and_extended(const char *prompt, const char *answer) {
    static const char *const more[] = {" + 0", " 0", "+", " x", ")", "(", " =", ".", "1", "/1"};
    char text[TEXT_BYTES * 2];
    for (size_t bytes = 0; bytes < strlen(answer); bytes++)
        CHECK_EQ(grade_bytes(countdown(), prompt, NULL, answer, bytes), COP_GRADE_WRONG);
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        snprintf(text, sizeof text, "%s%s", answer, more[i]);
        check_grade(prompt, text, COP_GRADE_WRONG);
    }
}

static void test_mutated_answers_are_wrong(void) {
    uint32_t cases = check_effort(2000, 200);
    for (uint64_t seed = 0; seed < cases; seed++) {
        sample s;
        char text[TEXT_BYTES * 2];
        if (!make_sample(seed, &s))
            continue;
        check_cut_and_extended(s.prompt, s.expression);
        check_cut_and_extended(s.prompt, s.steps);
        for (int shift = -1; shift <= 1; shift += 2) { /* another target */
            if (s.target + shift < 0)
                continue;
            snprintf(text, sizeof text, "T%lld%s", (long long)s.target + shift,
                     strchr(s.prompt, ' '));
            check_grade(text, s.expression, COP_GRADE_WRONG);
            check_grade(text, s.steps, COP_GRADE_WRONG);
        }
        snprintf(text, sizeof text, "%s 1", s.prompt); /* one number more to use */
        check_grade(text, s.expression, COP_GRADE_WRONG);
        check_grade(text, s.steps, COP_GRADE_WRONG);
        *strrchr(strcpy(text, s.prompt), ' ') =
            '\0'; /* one number less: the last is from nowhere */
        if (s.n > 2) {
            check_grade(text, s.expression, COP_GRADE_WRONG);
            check_grade(text, s.steps, COP_GRADE_WRONG);
        }
        size_t bytes = strlen(s.stated); /* each stated result, one more */
        for (size_t i = 0; i < bytes; i++) {
            if (s.stated[i] != '\n')
                continue;
            memcpy(text, s.stated, bytes + 1);
            text[i - 1] = (char)(text[i - 1] == '9' ? '8' : text[i - 1] + 1);
            check_grade(s.prompt, text, COP_GRADE_WRONG);
        }
    }
}

/* Every order of joining two numbers, in double precision. */
static bool naive_reaches(const double *values, int n, double target) {
    if (n == 1)
        return fabs(values[0] - target) < 1e-7;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double rest[N_MAX], a = values[i], b = values[j];
            if (i == j)
                continue;
            int m = 1;
            for (int k = 0; k < n; k++) {
                if (k != i && k != j)
                    rest[m++] = values[k];
            }
            for (int operation = i < j ? 0 : 2; operation < 4; operation++) {
                if (operation == 3 && fabs(b) < 1e-9)
                    continue;
                rest[0] = operation == 0   ? a + b
                          : operation == 1 ? a * b
                          : operation == 2 ? a - b
                                           : a / b;
                if (naive_reaches(rest, m, target))
                    return true;
            }
        }
    return false;
}

static void check_search(uint64_t seed, int n, uint32_t numbers_to, uint32_t target_to,
                         uint32_t seen[2]) {
    sample s = {.seed = seed};
    double values[N_MAX];
    uint32_t target = draw(&s, target_to);
    snprintf(s.prompt, TEXT_BYTES, "T%u", target);
    for (int i = 0; i < n; i++) {
        char word[32];
        values[i] = draw(&s, numbers_to);
        snprintf(word, sizeof word, " %.0f", values[i]);
        append(s.prompt, word);
    }
    bool possible = naive_reaches(values, n, target);
    if ((accepts(s.prompt, NULL) == COP_OK) != possible) {
        fprintf(stderr, "%s is %s\n", s.prompt, possible ? "possible" : "impossible");
        exit(1);
    }
    seen[possible]++;
}

static void test_search_against_every_order_in_doubles(void) {
    static const struct {
        int n;
        uint32_t cases, numbers_to, target_to;
    } rows[] = {
        {2, 400, 8, 12}, {3, 1000, 10, 40}, {4, 1000, 12, 120}, {5, 40, 12, 2000}, {6, 3, 4, 3000}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t seen[2] = {0}, cases = check_effort(rows[i].cases, 1);
        for (uint32_t k = 0; k < cases; k++)
            check_search(1000 * i + k, rows[i].n, rows[i].numbers_to, rows[i].target_to, seen);
        CHECK(cases < 20 || (seen[0] && seen[1]));
    }
}

static void test_solvable_problems_are_found(void) {
    uint32_t cases = check_effort(1500, 100);
    for (uint64_t seed = 0; seed < cases; seed++) {
        sample s;
        if (make_sample(seed, &s))
            CHECK_OK(accepts(s.prompt, NULL));
    }
}

static void test_any_bytes(void) {
    static const char alphabet[] = "0123456789    +-*/()=,;\n\0x\xc3\x97\xe2\x88\x92";
    uint32_t cases = check_effort(200000, 20000);
    for (uint32_t k = 0; k < cases; k++) {
        sample s = {.seed = k};
        char claim[24], prompt[24];
        uint32_t bytes = draw(&s, sizeof claim);
        for (uint32_t i = 0; i < bytes; i++)
            claim[i] = alphabet[draw(&s, sizeof alphabet - 1)];
        for (uint32_t i = 0; i < sizeof prompt - 1; i++)
            prompt[i] = "01234 "[draw(&s, 6)];
        prompt[sizeof prompt - 1] = '\0';
        cop_grade any = grade_bytes(countdown(), prompt, NULL, claim, bytes);
        CHECK(any != COP_GRADE_NONE);
    }
}

int main(void) {
    RUN(test_random_answers_are_right);
    RUN(test_random_expressions_against_doubles);
    RUN(test_mutated_answers_are_wrong);
    RUN(test_search_against_every_order_in_doubles);
    RUN(test_solvable_problems_are_found);
    RUN(test_any_bytes);
    return check_report();
}
