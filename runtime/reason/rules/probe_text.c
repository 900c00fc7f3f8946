#include "reason/rules/probe_text.h"

#include <string.h>

size_t cop_probe_boxed(const char *text, size_t bytes) {
    size_t open = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '{')
            open++;
        if (text[i] == '}' && open-- == 0)
            return i;
    }
    return 0;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool begins(const char *text, size_t bytes, const char *word) {
    for (size_t i = 0; word[i]; i++)
        if (i >= bytes || lower(text[i]) != word[i])
            return false;
    return true;
}

/* Every branch's probe is looked through in the same step, so most letters must cost one look. */
bool cop_probe_certain(const char *text, size_t bytes) {
    static const char *const words[] = {"wait", "hold", "but", "okay", "no", "hmm"};
    static const bool starts[256] = {
        ['w'] = true, ['h'] = true, ['b'] = true, ['o'] = true, ['n'] = true,
        ['W'] = true, ['H'] = true, ['B'] = true, ['O'] = true, ['N'] = true};
    for (size_t at = 0; at < bytes; at++) {
        if (!starts[(unsigned char)text[at]])
            continue;
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
            if (begins(text + at, bytes - at, words[i]))
                return false;
    }
    return true;
}
