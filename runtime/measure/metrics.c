#include "measure/metrics.h"

static const char *const names[] = {
#define COP_TERM_NAME(name, key, text) key,
    COP_TERM_MAP(COP_TERM_NAME)
#undef COP_TERM_NAME
};

static const char *const texts[] = {
#define COP_TERM_TEXT(name, key, text) text,
    COP_TERM_MAP(COP_TERM_TEXT)
#undef COP_TERM_TEXT
};

const char *cop_term_name(cop_term term) {
    return names[term];
}

const char *cop_term_text(cop_term term) {
    return texts[term];
}
