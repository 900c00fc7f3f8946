#include "reason/rules/thought_text.h"

#include <string.h>

uint32_t cop_thought_word(cop__text text, const cop_thought_value *values, uint32_t n) {
    size_t from = text.bytes;
    while (from > 0 && text.data[from - 1] != '\n')
        from--;
    cop__text last = {text.data + from, text.bytes - from};
    uint32_t i = 0;
    while (i < n && !cop__text_equal(last, cop__text_of(values[i].word)))
        i++;
    return i;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

uint32_t cop_thought_vote(cop__text text, bool mended) {
    static const char phrase[] = "best choice is ";
    enum { PHRASE = sizeof phrase - 1 };
    for (size_t begin = text.bytes; begin-- > 0;) {
        if (text.bytes - begin < PHRASE || memcmp(text.data + begin, phrase, PHRASE) != 0)
            continue;
        size_t from = begin + PHRASE, last = text.bytes;
        while (last > from && !is_digit(text.data[last - 1]))
            last--;
        if (last == from)
            continue; /* none behind this one: an earlier phrase may have one */
        if (!mended)
            return (uint32_t)(text.data[last - 1] - '0');
        while (!is_digit(text.data[from]))
            from++;
        uint32_t number = 0;
        for (; from < text.bytes && is_digit(text.data[from]) && number < 1u << 24; from++)
            number = number * 10 + (uint32_t)(text.data[from] - '0');
        return number;
    }
    return 0;
}

bool cop_thought_proposal(cop__text line, cop__text *thought, double *weight) {
    static const cop_thought_value words[] = {
        {" (certain)", 1}, {" (high)", 0.5}, {" (medium)", 0.2}, {" (low)", 0.1}};
    for (size_t at = 1; at < line.bytes; at++) {
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
            size_t n = strlen(words[i].word);
            if (n > line.bytes - at || memcmp(line.data + at, words[i].word, n) != 0)
                continue;
            *thought = (cop__text){line.data, at};
            *weight = words[i].value;
            return true;
        }
    }
    return false;
}

bool cop_thought_line(cop__text text, size_t *at, cop__text *line) {
    if (*at > text.bytes)
        return false;
    size_t end = *at;
    while (end < text.bytes && text.data[end] != '\n')
        end++;
    *line = (cop__text){text.data + *at, end - *at};
    *at = end + 1;
    return true;
}
