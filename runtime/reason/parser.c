#include "reason/parser.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NUMBER_NONE, NUMBER_BEFORE, NUMBER_DIGITS, NUMBER_DOT };
enum { NUMBER_CEILING = 1000000, COUNT_MAX = UINT16_MAX };
enum { PROBLEM_BYTES = 320 };

void cop_parser_init(cop_parser *parser, const cop_dialect *dialect, bool strict) {
    *parser = (cop_parser){.dialect = dialect, .strict = strict, .line = 1};
}

static bool implies_block(const cop_dialect *dialect) {
    return dialect->open[COP_EL_BLOCK].bytes == 0;
}

static bool implies_plan(const cop_dialect *dialect) {
    return dialect->open[COP_EL_PLAN].bytes == 0 && dialect->close[COP_EL_PLAN].bytes > 0;
}

/* What an element begins with in the text: an implied one with its plan or its first item. */
static const char *open_text(const cop_parser *parser, cop_element element) {
    if (element == COP_EL_BLOCK && parser->dialect->open[element].bytes == 0)
        element = COP_EL_PLAN;
    if (element == COP_EL_PLAN && parser->dialect->open[element].bytes == 0)
        element = COP_EL_ITEM;
    return parser->dialect->open[element].text;
}

/* And what it ends with: an item without a closing tag ends with its plan. */
static const char *close_text(const cop_parser *parser, cop_element element) {
    if (element == COP_EL_ITEM && parser->dialect->close[element].bytes == 0)
        element = COP_EL_PLAN;
    if (element == COP_EL_BLOCK && parser->dialect->close[element].bytes == 0)
        element = COP_EL_JOIN;
    return parser->dialect->close[element].text;
}

/* COP_EL_COUNT: nothing is open. */
static cop_element innermost(const cop_parser *parser) {
    return parser->n_open ? (cop_element)parser->open[parser->n_open - 1] : COP_EL_COUNT;
}

/* "<Goal> (line 4, byte 120) is open" */
static void describe_innermost(const cop_parser *parser, char *text, size_t bytes) {
    if (parser->n_open == 0) {
        snprintf(text, bytes, "nothing is open");
        return;
    }
    unsigned i = parser->n_open - 1u;
    snprintf(text, bytes, "%s (line %" PRIu64 ", byte %" PRIu64 ") is open",
             open_text(parser, (cop_element)parser->open[i]), parser->opened_line[i],
             parser->opened_at[i]);
}

/* Strict mode fails at the tag that ends at the byte fed last; lenient mode counts it. */
static cop_status refuse(cop_parser *parser, uint32_t tag_bytes, const char *problem) {
    if (!parser->strict) {
        parser->ill_formed++;
        return COP_OK;
    }
    return COP_FAIL(COP_ERR_FORMAT, "line %" PRIu64 ", byte %" PRIu64 ": %s", parser->line,
                    parser->fed - tag_bytes, problem);
}

/* Where equal numbers are dropped, an item may be without its path. */
static bool each_has_path(const cop_parser *parser) {
    return parser->dialect->duplicates != COP_DUPLICATES_DROP;
}

static bool path_may_stand(const cop_parser *parser) {
    if (innermost(parser) != COP_EL_BLOCK)
        return false;
    unsigned d = parser->depth - 1u;
    if (parser->joined >> d & 1 || parser->paths[d] == COUNT_MAX)
        return false;
    if (parser->dialect->max_paths && parser->paths[d] >= parser->dialect->max_paths)
        return false;
    return parser->dialect->open[COP_EL_ITEM].bytes == 0 || parser->paths[d] < parser->items[d];
}

static bool block_may_stand(const cop_parser *parser) {
    cop_element in = innermost(parser);
    bool fits = parser->depth < COP_PARSER_DEPTH_MAX &&
                (parser->dialect->max_depth == 0 || parser->depth < parser->dialect->max_depth);
    return fits && (in == COP_EL_COUNT || in == COP_EL_ROOT ||
                    (in == COP_EL_PATH && parser->dialect->nested));
}

static bool may_open(const cop_parser *parser, cop_element element) {
    cop_element in = innermost(parser);
    unsigned d = parser->depth ? parser->depth - 1u : 0;
    switch (element) {
    case COP_EL_ROOT:
        return in == COP_EL_COUNT && !(parser->strict && (parser->root_seen || parser->block_seen));
    case COP_EL_BLOCK:
        return block_may_stand(parser);
    case COP_EL_PLAN:
        return in == COP_EL_BLOCK && parser->items[d] == 0 && parser->paths[d] == 0;
    case COP_EL_ITEM:
        return in == (parser->dialect->close[COP_EL_PLAN].bytes ? COP_EL_PLAN : COP_EL_BLOCK) &&
               parser->items[d] < COUNT_MAX && parser->paths[d] == 0;
    case COP_EL_PATH:
        return path_may_stand(parser);
    case COP_EL_JOIN:
        if (parser->dialect->join_outside)
            return parser->block_closed && in != COP_EL_BLOCK;
        return in == COP_EL_BLOCK && parser->paths[d] > 0 && !(parser->joined >> d & 1) &&
               !(parser->strict && parser->paths[d] < parser->items[d] && each_has_path(parser));
    case COP_EL_COUNT:
        break;
    }
    return false;
}

/* Says why `element` may not open here: only for strict mode, where a person reads it. */
static void explain_path(const cop_parser *parser, char *text, size_t bytes) {
    const cop_dialect *dialect = parser->dialect;
    const char *path = open_text(parser, COP_EL_PATH), *item = open_text(parser, COP_EL_ITEM);
    unsigned d = parser->depth - 1u, i = parser->n_open - 1u;
    if (parser->joined >> d & 1)
        snprintf(text, bytes, "%s after the %s of its block: move it before that", path,
                 open_text(parser, COP_EL_JOIN));
    else if (dialect->max_paths && parser->paths[d] >= dialect->max_paths)
        snprintf(text, bytes, "%s is path %u, and the dialect '%.64s' allows %u in a block", path,
                 parser->paths[d] + 1u, dialect->name, dialect->max_paths);
    else
        snprintf(text, bytes,
                 "%s without an %s: the %s of line %" PRIu64 " lists %u and this is path %u; add "
                 "the missing %s to its plan, or remove the path",
                 path, item, open_text(parser, COP_EL_BLOCK), parser->opened_line[i],
                 parser->items[d], parser->paths[d] + 1u, item);
}

static void explain_block(const cop_parser *parser, char *text, size_t bytes) {
    const cop_dialect *dialect = parser->dialect;
    const char *block = open_text(parser, COP_EL_BLOCK);
    char open[PROBLEM_BYTES / 2];
    describe_innermost(parser, open, sizeof open);
    if (innermost(parser) == COP_EL_PATH && !dialect->nested)
        snprintf(text, bytes, "%s inside a path: the dialect '%.64s' does not nest blocks; %s",
                 block, dialect->name, open);
    else if (parser->depth >= COP_PARSER_DEPTH_MAX ||
             (dialect->max_depth && parser->depth >= dialect->max_depth))
        snprintf(text, bytes, "%s opens depth %u, and at most %u is allowed", block,
                 parser->depth + 1u,
                 dialect->max_depth ? dialect->max_depth : (unsigned)COP_PARSER_DEPTH_MAX);
    else
        snprintf(text, bytes, "%s cannot stand here: %s; close that first", block, open);
}

static void explain_open(const cop_parser *parser, cop_element element, char *text, size_t bytes) {
    const char *tag = open_text(parser, element);
    unsigned d = parser->depth ? parser->depth - 1u : 0;
    char open[PROBLEM_BYTES / 2];
    describe_innermost(parser, open, sizeof open);
    const cop_element first = /* what an implied block begins with */
        parser->dialect->open[COP_EL_PLAN].bytes ? COP_EL_PLAN : COP_EL_ITEM;
    if (element == COP_EL_BLOCK ||
        (element == first && implies_block(parser->dialect) && innermost(parser) == COP_EL_PATH))
        explain_block(parser, text, bytes);
    else if (element == COP_EL_PATH && innermost(parser) == COP_EL_BLOCK)
        explain_path(parser, text, bytes);
    else if (element == COP_EL_JOIN && innermost(parser) == COP_EL_BLOCK &&
             !(parser->joined >> d & 1))
        snprintf(text, bytes, "%s after %u paths of %u listed: each listed one needs its %s", tag,
                 parser->paths[d], parser->items[d], open_text(parser, COP_EL_PATH));
    else if (element == COP_EL_ROOT && parser->n_open == 0)
        snprintf(text, bytes, "%s after %s: a transcript has one, before its first block", tag,
                 parser->root_seen ? "an earlier one" : "a block");
    else if (element == COP_EL_ITEM && innermost(parser) == COP_EL_BLOCK &&
             implies_plan(parser->dialect))
        snprintf(text, bytes, "%s after the %s of its block: move it before that", tag,
                 close_text(parser, COP_EL_PLAN));
    else if (element == COP_EL_ITEM && innermost(parser) == COP_EL_BLOCK)
        snprintf(text, bytes, "%s stands outside the block's %s; put it inside", tag,
                 open_text(parser, COP_EL_PLAN));
    else if (innermost(parser) == COP_EL_BLOCK)
        snprintf(text, bytes, "%s cannot stand here: its block has had a %s or paths already", tag,
                 element == COP_EL_JOIN ? "conclusion" : "plan");
    else
        snprintf(text, bytes, "%s cannot stand here: %s; close that first, or remove the tag", tag,
                 open);
}

static void open_element(cop_parser *parser, cop_element element, uint32_t tag_bytes) {
    unsigned d = parser->depth ? parser->depth - 1u : 0;
    parser->opened_at[parser->n_open] = parser->fed - tag_bytes;
    parser->opened_line[parser->n_open] = parser->line;
    parser->open[parser->n_open++] = (uint8_t)element;
    if (element == COP_EL_BLOCK) {
        parser->items[parser->depth] = parser->paths[parser->depth] = 0;
        parser->joined &= ~(1u << parser->depth);
        parser->depth++;
        parser->block_seen = true;
    } else if (element == COP_EL_ITEM) {
        parser->items[d]++;
    } else if (element == COP_EL_PATH) {
        parser->paths[d]++;
    } else if (element == COP_EL_JOIN && !parser->dialect->join_outside) {
        parser->joined |= 1u << d;
    } else if (element == COP_EL_ROOT) {
        parser->root_seen = true;
    }
    parser->number_state =
        element == COP_EL_ITEM || element == COP_EL_PATH ? NUMBER_BEFORE : NUMBER_NONE;
}

/* What is wrong with closing the innermost element, which is `element`; "" when nothing is. */
static void explain_close(const cop_parser *parser, cop_element element, char *text, size_t bytes) {
    text[0] = '\0';
    if (!parser->strict || element != COP_EL_BLOCK)
        return;
    unsigned d = parser->depth - 1u;
    uint64_t line = parser->opened_line[parser->n_open - 1];
    const char *block = open_text(parser, COP_EL_BLOCK);
    if (parser->paths[d] == 0)
        snprintf(text, bytes, "the %s of line %" PRIu64 " has no %s; add its paths, or remove it",
                 block, line, open_text(parser, COP_EL_PATH));
    else if (parser->dialect->open[COP_EL_ITEM].bytes && parser->paths[d] != parser->items[d] &&
             each_has_path(parser))
        snprintf(text, bytes,
                 "the %s of line %" PRIu64 " lists %u %s and has %u %s: each listed one needs its "
                 "path",
                 block, line, parser->items[d], open_text(parser, COP_EL_ITEM), parser->paths[d],
                 open_text(parser, COP_EL_PATH));
}

static void close_element(cop_parser *parser, cop_element element) {
    parser->n_open--;
    if (element == COP_EL_BLOCK)
        parser->depth--;
    parser->number_state = NUMBER_NONE;
    if (element == COP_EL_JOIN && parser->dialect->close[COP_EL_BLOCK].bytes == 0)
        close_element(parser, COP_EL_BLOCK);
}

/* Opens and closes what the dialect has no tags for and the tag that was found implies. */
static void imply(cop_parser *parser, cop_element element, bool closing) {
    const cop_dialect *d = parser->dialect;
    bool next_item = element == COP_EL_ITEM && !closing;
    bool plan_ends = element == COP_EL_PLAN && closing;
    if ((next_item || plan_ends) && innermost(parser) == COP_EL_ITEM &&
        d->close[COP_EL_ITEM].bytes == 0)
        close_element(parser, COP_EL_ITEM);
    bool next_plan = element == COP_EL_PLAN && !closing;
    if (implies_block(d) && (d->open[COP_EL_PLAN].bytes ? next_plan : next_item) &&
        block_may_stand(parser))
        open_element(parser, COP_EL_BLOCK, d->open[element].bytes);
    if (next_item && implies_plan(d) && may_open(parser, COP_EL_PLAN))
        open_element(parser, COP_EL_PLAN, d->open[COP_EL_ITEM].bytes);
}

/* What opens an item and is never closed ("- ") is text, but where a plan that says where it begins
 * is open. */
static bool is_text(const cop_parser *parser, cop_element element, bool closing) {
    const cop_dialect *d = parser->dialect;
    const cop_element in = innermost(parser);
    return element == COP_EL_ITEM && !closing && d->close[COP_EL_ITEM].bytes == 0 &&
           d->open[COP_EL_PLAN].bytes > 0 && in != COP_EL_PLAN && in != COP_EL_ITEM;
}

/* A tag is complete. *accepted is false where lenient mode passes over it. */
static cop_status take_tag(cop_parser *parser, cop_element element, bool closing,
                           uint32_t tag_bytes, bool *accepted) {
    char problem[PROBLEM_BYTES * 2], open[PROBLEM_BYTES / 2];
    *accepted = false;
    if (is_text(parser, element, closing))
        return COP_OK;
    imply(parser, element, closing);
    if (!closing) {
        if (!may_open(parser, element)) {
            if (parser->strict)
                explain_open(parser, element, problem, sizeof problem);
            return refuse(parser, tag_bytes, problem);
        }
        open_element(parser, element, tag_bytes);
    } else {
        if (innermost(parser) != element) {
            describe_innermost(parser, open, sizeof open);
            snprintf(problem, sizeof problem, "%s closes nothing: %s; remove it, or add its %s",
                     parser->dialect->close[element].text, open, open_text(parser, element));
            return refuse(parser, tag_bytes, problem);
        }
        explain_close(parser, element, problem, sizeof problem);
        if (problem[0])
            return refuse(parser, tag_bytes, problem);
        close_element(parser, element);
    }
    *accepted = true;
    return COP_OK;
}

/* The longest tag that ends at the byte fed last; its length, or 0. */
static uint32_t find_tag(const cop_parser *parser, cop_element *element, bool *closing) {
    const char *end = parser->tail + parser->n_tail;
    uint32_t longest = 0;
    for (int i = 0; i < 2 * COP_EL_COUNT; i++) {
        const cop_tag *tag = i % 2 ? &parser->dialect->close[i / 2] : &parser->dialect->open[i / 2];
        uint32_t bytes = tag->bytes;
        if (bytes <= longest || bytes > parser->n_tail || tag->text[bytes - 1] != end[-1] ||
            memcmp(end - bytes, tag->text, bytes) != 0)
            continue;
        longest = bytes;
        *element = (cop_element)(i / 2);
        *closing = i % 2 != 0;
    }
    for (uint32_t i = 0; i < parser->dialect->n_plan_ends; i++) {
        const cop_tag *tag = &parser->dialect->plan_ends[i];
        if (tag->bytes <= longest || tag->bytes > parser->n_tail ||
            memcmp(end - tag->bytes, tag->text, tag->bytes) != 0)
            continue;
        longest = tag->bytes;
        *element = COP_EL_PLAN;
        *closing = true;
    }
    return longest;
}

static void push_tail(cop_parser *parser, char byte) {
    if (parser->n_tail == COP_TAG_BYTES_MAX)
        memmove(parser->tail, parser->tail + 1, --parser->n_tail);
    parser->tail[parser->n_tail++] = byte;
}

/* Follows "2.1:" behind an item's or path's tag. Text that is not digits, dots and then a colon is
 * no number; nested numbers may start anew, so only the last component must be right. */
static cop_status check_number(cop_parser *parser, char byte) {
    bool digit = byte >= '0' && byte <= '9';
    if (parser->number_state == NUMBER_BEFORE && (byte == ' ' || byte == '\n' || byte == '\r'))
        return COP_OK;
    if (digit) {
        if (parser->number_state != NUMBER_DIGITS)
            parser->number = 0;
        if (parser->number < NUMBER_CEILING)
            parser->number = parser->number * 10 + (uint32_t)(byte - '0');
        parser->number_state = NUMBER_DIGITS;
        return COP_OK;
    }
    bool within = parser->number_state == NUMBER_DIGITS;
    parser->number_state = within && byte == '.' ? NUMBER_DOT : NUMBER_NONE;
    if (!within || byte != ':')
        return COP_OK;
    cop_element element = innermost(parser);
    unsigned d = parser->depth - 1u;
    uint32_t expected = element == COP_EL_ITEM ? parser->items[d] : parser->paths[d];
    if (parser->number == expected)
        return COP_OK;
    return COP_FAIL(COP_ERR_FORMAT,
                    "line %" PRIu64 ", byte %" PRIu64 ": %s is numbered %u and is number %u of its "
                    "block; number them in order, from 1",
                    parser->line, parser->fed - 1, open_text(parser, element), parser->number,
                    expected);
}

cop_status cop_parser_feed(cop_parser *parser, const char *text, size_t bytes, size_t *used,
                           bool *found, cop_tag_event *event) {
    *found = false;
    for (size_t i = 0; i < bytes; i++) {
        *used = i + 1;
        push_tail(parser, text[i]);
        parser->fed++;
        /* Numbers that an expression finds are the system's own. */
        if (parser->strict && parser->number_state != NUMBER_NONE &&
            !parser->dialect->items_pattern)
            COP_TRY(check_number(parser, text[i]));
        if (text[i] == '\n')
            parser->line++;
        cop_element element = COP_EL_COUNT;
        bool closing = false;
        uint32_t tag_bytes = find_tag(parser, &element, &closing);
        if (tag_bytes == 0)
            continue;
        /* Tags do not overlap: the next one begins behind this one. */
        parser->n_tail = 0;
        COP_TRY(take_tag(parser, element, closing, tag_bytes, found));
        bool stray = !*found;
        if (stray && !parser->report_stray)
            continue;
        if (!stray)
            parser->block_closed = closing && element == COP_EL_BLOCK;
        *found = true;
        unsigned d = parser->depth ? parser->depth - 1u : 0;
        *event = (cop_tag_event){.element = element,
                                 .closing = closing,
                                 .end = parser->fed,
                                 .tag_bytes = tag_bytes,
                                 .depth = parser->depth,
                                 .items = parser->depth ? parser->items[d] : 0,
                                 .paths = parser->depth ? parser->paths[d] : 0,
                                 .stray = stray};
        return COP_OK;
    }
    *used = bytes;
    return COP_OK;
}

cop_status cop_parser_end(const cop_parser *parser) {
    if (!parser->strict || parser->n_open == 0)
        return COP_OK;
    unsigned i = parser->n_open - 1u;
    cop_element element = (cop_element)parser->open[i];
    return COP_FAIL(COP_ERR_FORMAT,
                    "line %" PRIu64 ", byte %" PRIu64 ": %s is never closed; add its %s",
                    parser->opened_line[i], parser->opened_at[i], open_text(parser, element),
                    close_text(parser, element));
}

/* Text that the runtime adds: whatever tags it completes are taken, those that cannot stand are
 * counted, as live decoding counts them. */
static void feed_own(cop_parser *parser, const char *text, size_t bytes) {
    bool strict = parser->strict;
    parser->strict = false;
    for (size_t at = 0; at < bytes;) {
        size_t used = 0;
        bool found;
        cop_tag_event event;
        cop_parser_feed(parser, text + at, bytes - at, &used, &found, &event);
        at += used;
    }
    parser->strict = strict;
    parser->number_state = NUMBER_NONE;
}

bool cop_parser_plan(cop_parser *parser, uint32_t items) {
    cop_element in = innermost(parser);
    while (in == COP_EL_ITEM || in == COP_EL_PLAN || in == COP_EL_JOIN) {
        close_element(parser, in);
        in = innermost(parser);
    }
    if (in != COP_EL_BLOCK) {
        if (!block_may_stand(parser))
            return false;
        open_element(parser, COP_EL_BLOCK, 0);
    }
    unsigned d = parser->depth - 1u;
    parser->items[d] = (uint16_t)(items < COUNT_MAX ? items : COUNT_MAX);
    parser->paths[d] = 0;
    parser->joined &= ~(1u << d);
    parser->block_closed = false;
    return true;
}

cop_parser cop_parser_fork(const cop_parser *parent, uint32_t index) {
    cop_parser child = *parent;
    if (child.depth == 0)
        return child;
    child.paths[child.depth - 1] = (uint16_t)index;
    const char *at = child.dialect->branch_prompt;
    cop_mark mark;
    for (; (mark = cop_dialect_mark(at)).bytes; at = mark.at + mark.bytes) {
        feed_own(&child, at, (size_t)(mark.at - at));
        for (unsigned d = 0; mark.number && d < child.depth; d++) {
            /* The innermost count may not have risen yet: the tag may stand behind the number. */
            uint32_t number = d + 1u == child.depth ? index + 1 : child.paths[d];
            char text[16];
            int n = snprintf(text, sizeof text, d ? ".%u" : "%u", number);
            feed_own(&child, text, (size_t)n);
        }
    }
    feed_own(&child, at, strlen(at));
    return child;
}

void cop_parser_join(cop_parser *parser, uint32_t n) {
    if (parser->depth)
        parser->paths[parser->depth - 1] = (uint16_t)n;
    feed_own(parser, parser->dialect->join_prompt, strlen(parser->dialect->join_prompt));
}
