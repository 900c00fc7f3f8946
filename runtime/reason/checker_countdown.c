/* Countdown's rules, where data sets differ: intermediate results may be negative or fractions, and
 * of any size that exact fractions of 127 bits hold (a claim that passes them is wrong). Operators
 * are + - * / or the signs for minus, times and division, each between two operands: no sign stands
 * in front of a number of the problem. Numbers are written plainly, without leading zeros or a
 * decimal point.
 *
 * Steps are read first, then one expression. No text is right in both readings with different
 * numbers: stated results left out, of n numbers an expression names n and steps name 2 (n - 1),
 * which differ from n = 3 on, and for n = 2 the two readings are one. For this to hold, an operand
 * that is not among the numbers must be recognisable as a result: a negative one is written "-3", a
 * fraction "1/3" without spaces; whole numbers may not be written as fractions.
 */
#include "reason/checker_internal.h"

#include <string.h>

enum { DIGITS_MAX = 18 };

static const cop_wide wide_max = (cop_wide)(~(unsigned __int128)0 >> 1);

#define COP_FAULT_TRY(expression)                                                                  \
    do {                                                                                           \
        cop_fault fault_try = (expression);                                                        \
        if (fault_try != COP_FAULT_NONE)                                                           \
            return fault_try;                                                                      \
    } while (0)

typedef struct cursor {
    const char *at, *end;
} cursor;

static unsigned __int128 divisor_of(cop_wide a, cop_wide b) {
    unsigned __int128 x = (unsigned __int128)(a < 0 ? -a : a);
    unsigned __int128 y = (unsigned __int128)(b < 0 ? -b : b);
    while (y > UINT64_MAX || (y && x > UINT64_MAX)) {
        unsigned __int128 rest = x % y;
        x = y;
        y = rest;
    }
    if (y == 0)
        return x;
    uint64_t small_x = (uint64_t)x, small_y = (uint64_t)y;
    while (small_y) {
        uint64_t rest = small_x % small_y;
        small_x = small_y;
        small_y = rest;
    }
    return small_x;
}

static cop_rational whole(cop_wide value) {
    return (cop_rational){value, 1};
}

static cop_fault multiply(cop_rational a, cop_rational b, cop_rational *out) {
    cop_wide across = (cop_wide)divisor_of(a.num, b.den), down = (cop_wide)divisor_of(b.num, a.den);
    if (__builtin_mul_overflow(a.num / across, b.num / down, &out->num) ||
        __builtin_mul_overflow(a.den / down, b.den / across, &out->den) || out->num < -wide_max)
        return COP_FAULT_OVERFLOW;
    return COP_FAULT_NONE;
}

static cop_fault add(cop_rational a, cop_rational b, cop_rational *out) {
    cop_wide shared = (cop_wide)divisor_of(a.den, b.den), left, right, num, den;
    if (__builtin_mul_overflow(a.num, b.den / shared, &left) ||
        __builtin_mul_overflow(b.num, a.den / shared, &right) ||
        __builtin_add_overflow(left, right, &num) ||
        __builtin_mul_overflow(a.den, b.den / shared, &den) || num < -wide_max)
        return COP_FAULT_OVERFLOW;
    cop_wide divisor = (cop_wide)divisor_of(num, den);
    *out = (cop_rational){num / divisor, den / divisor};
    return COP_FAULT_NONE;
}

cop_fault cop__rational_apply(char operation, cop_rational a, cop_rational b, cop_rational *out) {
    switch (operation) {
    case '+':
        return add(a, b, out);
    case '-':
        return add(a, (cop_rational){-b.num, b.den}, out);
    case '*':
        return multiply(a, b, out);
    default:
        if (b.num == 0)
            return COP_FAULT_ZERO;
        return multiply(
            a, b.num < 0 ? (cop_rational){-b.den, -b.num} : (cop_rational){b.den, b.num}, out);
    }
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static void skip_space(cursor *c) {
    while (c->at < c->end && cop__is_space(*c->at))
        c->at++;
}

static bool take(cursor *c, char wanted) {
    bool there = c->at < c->end && *c->at == wanted;
    c->at += there;
    return there;
}

static bool take_operator(cursor *c, char *out) {
    static const struct {
        const char *text;
        char operation;
    } spellings[] = {
        {"+", '+'},      {"-", '-'},      {"*", '*'},      {"/", '/'},
        {"\u2212", '-'}, {"\u00d7", '*'}, {"\u00f7", '/'},
    };
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        size_t bytes = strlen(spellings[i].text);
        if ((size_t)(c->end - c->at) < bytes || memcmp(c->at, spellings[i].text, bytes) != 0)
            continue;
        *out = spellings[i].operation;
        c->at += bytes;
        return true;
    }
    return false;
}

static cop_fault take_digits(cursor *c, cop_wide *out) {
    const char *begin = c->at;
    *out = 0;
    for (; c->at < c->end && is_digit(*c->at); c->at++) {
        if (__builtin_mul_overflow(*out, 10, out) ||
            __builtin_add_overflow(*out, *c->at - '0', out))
            return COP_FAULT_OVERFLOW;
    }
    bool padded = c->at - begin > 1 && *begin == '0';
    return c->at == begin || padded ? COP_FAULT_SYNTAX : COP_FAULT_NONE;
}

/* A number of the problem, or a result as the header of this file spells it. */
static cop_fault take_value(cursor *c, cop_rational *out) {
    cop_wide num, den;
    cursor ahead = *c;
    char sign = '+';
    if (take_operator(&ahead, &sign) && sign == '-' && ahead.at < ahead.end && is_digit(*ahead.at))
        *c = ahead;
    else
        sign = '+';
    COP_FAULT_TRY(take_digits(c, &num));
    if (sign == '-' && num == 0)
        return COP_FAULT_SYNTAX;
    *out = whole(sign == '-' ? -num : num);
    ahead = *c;
    if (!take(&ahead, '/') || ahead.at == ahead.end || !is_digit(*ahead.at))
        return COP_FAULT_NONE;
    COP_FAULT_TRY(take_digits(&ahead, &den));
    if (den == 0 || num % den == 0)
        return COP_FAULT_NONE;
    *c = ahead;
    return cop__rational_apply('/', *out, whole(den), out);
}

static bool pool_has(const cop_puzzle *pool, cop_rational value) {
    for (uint32_t i = 0; i < pool->n; i++) {
        if (cop__rational_same(pool->numbers[i], value))
            return true;
    }
    return false;
}

static cop_fault pool_take(cop_puzzle *pool, cop_rational value) {
    for (uint32_t i = 0; i < pool->n; i++) {
        if (!cop__rational_same(pool->numbers[i], value))
            continue;
        pool->numbers[i] = pool->numbers[--pool->n];
        return COP_FAULT_NONE;
    }
    return COP_FAULT_NUMBER;
}

/* "1/3 + 4" adds to the result 1/3; "1/3 4 + 2" divides and goes on: the first operand of a step is
 * a fraction where an operator follows and there is such a result. */
static cop_fault take_left(cursor *c, const cop_puzzle *pool, cop_rational *out) {
    cursor begin = *c;
    char operation;
    COP_FAULT_TRY(take_value(c, out));
    if (out->den == 1)
        return COP_FAULT_NONE;
    cursor ahead = *c;
    skip_space(&ahead);
    if (pool_has(pool, *out) && take_operator(&ahead, &operation))
        return COP_FAULT_NONE;
    bool negative = !is_digit(*begin.at);
    *c = begin;
    if (negative)
        take_operator(c, &operation);
    cop_wide num;
    COP_FAULT_TRY(take_digits(c, &num));
    *out = whole(negative ? -num : num);
    return COP_FAULT_NONE;
}

/* "= value" where it stands; it must be right. */
static cop_fault check_stated(cursor *c, cop_rational value) {
    cop_rational stated;
    skip_space(c);
    if (!take(c, '='))
        return COP_FAULT_NONE;
    skip_space(c);
    COP_FAULT_TRY(take_value(c, &stated));
    return cop__rational_same(stated, value) ? COP_FAULT_NONE : COP_FAULT_RESULT;
}

static cop_fault check_end(const cop_puzzle *pool, cop_rational value) {
    if (pool->n)
        return COP_FAULT_UNUSED;
    return cop__rational_same(value, pool->target) ? COP_FAULT_NONE : COP_FAULT_TARGET;
}

/* operand operator operand ["=" result], again and again; a comma or semicolon may stand between
 * two. Every step makes two of the pool one, so there are at most COP_COUNTDOWN_NUMBERS_MAX - 1. */
static cop_fault check_steps(cop_puzzle pool, cursor c) {
    cop_rational left, right, result;
    do {
        char operation;
        skip_space(&c);
        COP_FAULT_TRY(take_left(&c, &pool, &left));
        skip_space(&c);
        if (!take_operator(&c, &operation))
            return COP_FAULT_SYNTAX;
        skip_space(&c);
        COP_FAULT_TRY(take_value(&c, &right));
        COP_FAULT_TRY(pool_take(&pool, left));
        COP_FAULT_TRY(pool_take(&pool, right));
        COP_FAULT_TRY(cop__rational_apply(operation, left, right, &result));
        COP_FAULT_TRY(check_stated(&c, result));
        pool.numbers[pool.n++] = result;
        skip_space(&c);
    } while (take(&c, ',') || take(&c, ';') || c.at < c.end);
    pool.n--; /* the last result is no number left over */
    return check_end(&pool, result);
}

/* Operators wait for their right operand on one stack with the parentheses; neighbouring
 * parentheses share an entry, so its height is bounded by the numbers, however deep they nest. */
typedef struct shunt {
    cop_rational values[COP_COUNTDOWN_NUMBERS_MAX];
    struct {
        char operation; /* '(' for parentheses */
        size_t opened;
    } waiting[2 * COP_COUNTDOWN_NUMBERS_MAX + 2];
    uint32_t n_values, n_waiting;
} shunt;

static bool is_product(char operation) {
    return operation == '*' || operation == '/';
}

/* Applies what waits on top, down to a parenthesis or, with `before`, to what binds less. */
static cop_fault reduce(shunt *s, char before) {
    while (s->n_waiting) {
        char operation = s->waiting[s->n_waiting - 1].operation;
        if (operation == '(' || (is_product(before) && !is_product(operation)))
            return COP_FAULT_NONE;
        cop_rational *left = &s->values[s->n_values - 2];
        COP_FAULT_TRY(cop__rational_apply(operation, left[0], left[1], left));
        s->n_values--;
        s->n_waiting--;
    }
    return COP_FAULT_NONE;
}

static void open_parenthesis(shunt *s) {
    if (s->n_waiting == 0 || s->waiting[s->n_waiting - 1].operation != '(') {
        s->waiting[s->n_waiting].operation = '(';
        s->waiting[s->n_waiting++].opened = 0;
    }
    s->waiting[s->n_waiting - 1].opened++;
}

static cop_fault close_parenthesis(shunt *s) {
    COP_FAULT_TRY(reduce(s, ')'));
    if (s->n_waiting == 0)
        return COP_FAULT_SYNTAX;
    if (--s->waiting[s->n_waiting - 1].opened == 0)
        s->n_waiting--;
    return COP_FAULT_NONE;
}

/* One operand with the parentheses around it: "((12", "13)". */
static cop_fault shunt_operand(shunt *s, cop_puzzle *pool, cursor *c) {
    cop_wide number;
    for (skip_space(c); take(c, '('); skip_space(c))
        open_parenthesis(s);
    COP_FAULT_TRY(take_digits(c, &number));
    COP_FAULT_TRY(pool_take(pool, whole(number)));
    s->values[s->n_values++] = whole(number);
    for (skip_space(c); take(c, ')'); skip_space(c))
        COP_FAULT_TRY(close_parenthesis(s));
    return COP_FAULT_NONE;
}

static cop_fault check_expression(cop_puzzle pool, cursor c) {
    shunt s = {.n_values = 0};
    char operation;
    COP_FAULT_TRY(shunt_operand(&s, &pool, &c));
    while (take_operator(&c, &operation)) {
        COP_FAULT_TRY(reduce(&s, operation));
        s.waiting[s.n_waiting++].operation = operation;
        COP_FAULT_TRY(shunt_operand(&s, &pool, &c));
    }
    COP_FAULT_TRY(reduce(&s, ')'));
    if (s.n_waiting)
        return COP_FAULT_SYNTAX;
    COP_FAULT_TRY(check_stated(&c, s.values[0]));
    skip_space(&c);
    if (c.at < c.end)
        return COP_FAULT_SYNTAX;
    return check_end(&pool, s.values[0]);
}

cop_fault cop__countdown_check(const cop_puzzle *given, cop_answer_text claimed) {
    cursor c = {claimed.text, claimed.text + claimed.bytes};
    cop_fault steps = check_steps(*given, c);
    if (steps == COP_FAULT_NONE)
        return COP_FAULT_NONE;
    cop_fault expression = check_expression(*given, c);
    bool is_steps = steps != COP_FAULT_SYNTAX && steps != COP_FAULT_NUMBER;
    return expression == COP_FAULT_NONE || (expression != COP_FAULT_SYNTAX && !is_steps)
               ? expression
               : steps;
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Whether the digits begin .. end of a prompt are a whole number written plainly: not a part of
 * "-3", "2.5", "1/2", "007", "1e5" or "2nd". */
static bool is_plain(cop_answer_text prompt, const char *begin, const char *end) {
    const char *first = prompt.text, *last = prompt.text + prompt.bytes;
    static const char minus[] = "\u2212";
    size_t before = (size_t)(begin - first), minus_bytes = sizeof minus - 1;
    if (before && (begin[-1] == '-' || begin[-1] == '.' || begin[-1] == '/'))
        return false;
    if (before >= minus_bytes && memcmp(begin - minus_bytes, minus, minus_bytes) == 0)
        return false;
    if (end < last && is_letter(*end))
        return false;
    return end - begin == 1 || *begin != '0';
}

const char *cop__countdown_read(cop_answer_text prompt, cop_puzzle *out, size_t *n_found) {
    if (!prompt.text)
        prompt = (cop_answer_text){"", 0};
    cursor c = {prompt.text, prompt.text + prompt.bytes};
    *n_found = 0;
    out->n = 0;
    while (c.at < c.end) {
        if (!is_digit(*c.at)) {
            c.at++;
            continue;
        }
        const char *begin = c.at;
        while (c.at < c.end && is_digit(*c.at))
            c.at++;
        if (!is_plain(prompt, begin, c.at))
            return "has a number that is not a whole one, written plainly";
        if (c.at - begin > DIGITS_MAX)
            return "has a number of more than 18 digits";
        cursor digits = {begin, c.at};
        cop_wide value = 0;
        take_digits(&digits, &value);
        if (*n_found == 0)
            out->target = whole(value);
        else if (*n_found <= COP_COUNTDOWN_NUMBERS_MAX)
            out->numbers[out->n++] = whole(value);
        ++*n_found;
    }
    if (*n_found < 1 + COP_COUNTDOWN_NUMBERS_MIN)
        return "has too few numbers";
    return *n_found > 1 + COP_COUNTDOWN_NUMBERS_MAX ? "has too many numbers" : NULL;
}

const char *cop__countdown_fault(cop_fault failed) {
    static const char *const texts[] = {
#define COP_FAULT_TEXT(name, text) text,
        COP_FAULT_MAP(COP_FAULT_TEXT)
#undef COP_FAULT_TEXT
    };
    return texts[failed];
}
