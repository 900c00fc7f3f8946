#include "reason/tree_text.h"

#include <string.h>

enum { SNAP_BYTES = 16, TAG_BYTES = 32 };

typedef struct range {
    uint32_t first, last;
} range;

static bool in_ranges(const range *ranges, size_t n, uint32_t code) {
    for (size_t i = 0; i < n; i++) {
        if (code >= ranges[i].first && code <= ranges[i].last)
            return true;
    }
    return false;
}
#define IN(ranges, code) in_ranges((ranges), sizeof(ranges) / sizeof((ranges)[0]), (code))

/* Two columns in a terminal. Where terminals differ a character is counted as the wider one: a row
 * may end early, never late. */
static const range wide[] = {
    {0x1100, 0x115F},   {0x231A, 0x231B},   {0x2329, 0x232A},   {0x23E9, 0x23F3},
    {0x25FD, 0x25FE},   {0x2614, 0x2615},   {0x2648, 0x2653},   {0x267F, 0x267F},
    {0x2693, 0x2693},   {0x26A1, 0x26A1},   {0x26AA, 0x26AB},   {0x26BD, 0x26BE},
    {0x26C4, 0x26C5},   {0x26CE, 0x26CE},   {0x26D4, 0x26D4},   {0x26EA, 0x26EA},
    {0x26F2, 0x26FD},   {0x2705, 0x2705},   {0x270A, 0x270B},   {0x2728, 0x2728},
    {0x274C, 0x274E},   {0x2753, 0x2757},   {0x2795, 0x2797},   {0x27B0, 0x27B0},
    {0x27BF, 0x27BF},   {0x2B1B, 0x2B1C},   {0x2B50, 0x2B55},   {0x2E80, 0x303E},
    {0x3041, 0xA4CF},   {0xA960, 0xA97C},   {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},
    {0xFE10, 0xFE19},   {0xFE30, 0xFE6F},   {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},
    {0x16FE0, 0x18DFF}, {0x1AFF0, 0x1B2FF}, {0x1F000, 0x1FAFF}, {0x20000, 0x3FFFD},
};
static const range accents[] = {
    /* drawn over the character before them */
    {0x0300, 0x036F}, {0x1AB0, 0x1AFF}, {0x1DC0, 0x1DFF}, {0x20D0, 0x20FF}, {0xFE20, 0xFE2F},
};
static const range controls[] = {
    /* those that would move the cursor or turn the row's direction */
    {0x00, 0x1F},     {0x7F, 0x9F},     {0x061C, 0x061C},
    {0x200E, 0x200F}, {0x202A, 0x202E}, {0x2066, 0x2069},
};
static const range unseen[] = {
    /* no columns in one terminal, one or two in the next: left out */
    {0x00AD, 0x00AD}, {0x200B, 0x200D}, {0x2060, 0x2065}, {0x206A, 0x206F},
    {0xFE00, 0xFE0F}, {0xFEFF, 0xFEFF}, {0xFFF9, 0xFFFB}, {0xE0000, 0xE0FFF},
};

/* The character at the front of well-formed text: its bytes, and its code. */
static size_t character(const char *text, uint32_t *code) {
    uint8_t lead = (uint8_t)text[0];
    size_t n = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    *code = n == 1 ? lead : lead & (0xFFu >> (n + 1));
    for (size_t i = 1; i < n; i++)
        *code = *code << 6 | ((uint8_t)text[i] & 0x3Fu);
    return n;
}

static uint32_t code_columns(uint32_t code) {
    return code < 0x300 ? 1 : IN(accents, code) ? 0 : IN(wide, code) ? 2 : 1;
}

static bool is_white(uint32_t code) {
    return code == ' ' || (code >= '\t' && code <= '\r') || code == 0x85 || code == 0x2028 ||
           code == 0x2029;
}

/* Appends well-formed text as it may be drawn. */
static cop_status append_drawable(cop_buffer *out, const char *text, size_t bytes) {
    for (size_t at = 0, n; at < bytes; at += n) {
        uint32_t code;
        n = character(text + at, &code);
        if (is_white(code)) {
            bool again = out->bytes == 0 || out->data[out->bytes - 1] == ' ';
            COP_TRY(cop_buffer_append(out, " ", again ? 0 : 1));
        } else if (IN(controls, code)) {
            COP_TRY(cop_buffer_append(out, "\uFFFD", 3));
        } else if (code < 0xAD || !IN(unseen, code)) {
            COP_TRY(cop_buffer_append(out, text + at, n));
        }
    }
    return COP_OK;
}

/* The same for any bytes; what is left of a split character waits in the stream. */
cop_status cop__drawable_append(cop_buffer *out, cop_utf8_stream *utf8, const char *text,
                                size_t bytes, bool flush) {
    char whole[3 * 128 + COP_UTF8_SLACK];
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < 128 ? bytes - at : 128;
        size_t got = cop_utf8_stream_push(utf8, text + at, n, false, whole);
        COP_TRY(append_drawable(out, whole, got));
    }
    return flush ? append_drawable(out, whole, cop_utf8_stream_push(utf8, NULL, 0, true, whole))
                 : COP_OK;
}

uint32_t cop__text_columns(const char *text, size_t from, size_t to, uint32_t limit) {
    uint32_t columns = 0, code;
    while (from < to && columns <= limit) {
        from += character(text + from, &code);
        columns += code_columns(code);
    }
    return columns;
}

/* A cut between tags reads best, one between words is the next choice. */
static bool is_break(const char *text, size_t at, bool tags) {
    return tags ? text[at] == '<' || (at > 0 && text[at - 1] == '>') : text[at] == ' ';
}

size_t cop__text_head(const char *text, size_t from, size_t to, uint32_t columns) {
    uint32_t code, used = 0;
    size_t end = from;
    while (end < to) {
        size_t n = character(text + end, &code);
        if ((used += code_columns(code)) > columns)
            break;
        end += n;
    }
    for (int tags = 1; tags >= 0; tags--) {
        for (size_t at = end; at < to && at > from && end - at < SNAP_BYTES; at--) {
            if (is_break(text, at, tags))
                return at;
        }
    }
    return end;
}

size_t cop__text_tail(const char *text, size_t from, size_t to, uint32_t columns) {
    uint32_t code, used = 0;
    size_t start = to;
    while (start > from) {
        size_t at = start - 1;
        while (at > from && ((uint8_t)text[at] & 0xC0) == 0x80)
            at--;
        character(text + at, &code);
        if ((used += code_columns(code)) > columns)
            break;
        start = at;
    }
    for (int tags = 1; tags >= 0; tags--) {
        for (size_t at = start; at > from && at < to && at - start < SNAP_BYTES; at++) {
            if (is_break(text, at, tags))
                return at + (text[at] == ' ');
        }
    }
    return start;
}

size_t cop__text_tag(const char *text, size_t bytes) {
    for (size_t i = 1; text[0] == '<' && i < bytes && i < TAG_BYTES; i++) {
        if (text[i] == '>')
            return i > 1 ? i + 1 : 0;
        if (text[i] == ' ' || text[i] == '<')
            return 0;
    }
    return 0;
}

static void put_style(cop__row *r, cop__style wanted) {
    static const char *const codes[] = {
        [COP__PLAIN] = "\033[0m",  [COP__FAINT] = "\033[0;2m",   [COP__BOLD] = "\033[0;1m",
        [COP__TAG] = "\033[0;36m", [COP__GOOD] = "\033[0;1;32m", [COP__STOPPED] = "\033[0;33m"};
    if (!r->colour || r->now == wanted || r->status != COP_OK)
        return;
    r->status = cop_buffer_append(r->out, codes[wanted], strlen(codes[wanted]));
    r->now = wanted;
}

void cop__row_put(cop__row *r, cop__style wanted, const char *text, size_t bytes) {
    put_style(r, wanted);
    size_t end = 0;
    for (size_t n; end < bytes; end += n) {
        uint32_t code;
        n = character(text + end, &code);
        if (r->columns + code_columns(code) > r->width)
            break;
        r->columns += code_columns(code);
    }
    if (r->status == COP_OK)
        r->status = cop_buffer_append(r->out, text, end);
}

void cop__row_text(cop__row *r, cop__style wanted, const char *text) {
    cop__row_put(r, wanted, text, strlen(text));
}

void cop__row_pad(cop__row *r, uint32_t until) {
    while (r->columns < until && r->columns < r->width && r->status == COP_OK)
        cop__row_put(r, r->now, " ", 1);
}

cop_status cop__row_end(cop__row *r, uint32_t *rows) {
    put_style(r, COP__PLAIN);
    r->columns = 0;
    ++*rows;
    return r->status == COP_OK ? cop_buffer_append(r->out, "\n", 1) : r->status;
}
