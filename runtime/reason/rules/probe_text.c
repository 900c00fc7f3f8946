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

static bool begins(const char *text, size_t bytes, const char *word) {
    size_t n = strlen(word);
    for (size_t i = 0; i < n; i++) {
        char c = i < bytes ? text[i] : 0;
        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != word[i])
            return false;
    }
    return true;
}

bool cop_probe_certain(const char *text, size_t bytes) {
    static const char *const words[] = {"wait", "hold", "but", "okay", "no", "hmm"};
    for (size_t at = 0; at < bytes; at++) {
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
            if (begins(text + at, bytes - at, words[i]))
                return false;
        }
    }
    return true;
}
