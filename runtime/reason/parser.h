/* The one parser of every dialect: recorded text and live decoding feed it bytes, it finds tags.
 *
 * A tag is found at the byte that completes it, wherever the pieces fed are cut. State is a small
 * value without pointers to the text: copy it to fork it. Never allocates.
 *
 * Strict mode (import) refuses what a transcript must not hold: a closing tag that closes nothing,
 * a path without an item, an unclosed element at the end, more or fewer paths than items, a block
 * without paths, a second root or conclusion, an item or path number ("2:", nested "1.2:") whose
 * last component is not the element's place in its block, where it is a number at all; but where an
 * expression finds the items, numbers are the system's own, and where equal ones are dropped an
 * item may be without a path. Messages say line and byte offset; the caller adds the file. Lenient
 * mode (live) ignores tags that cannot stand where they are and counts them in `ill_formed`. A
 * block may stand outside everything, in the root or, where the dialect nests, in a path.
 *
 * A block without an opening tag begins with its plan or, where that has none either, with its
 * first item; one without a closing tag ends with its conclusion. A conclusion may stand behind its
 * block
 * (`join_outside`): then it is the next tag.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "reason/dialect.h"

enum { COP_PARSER_DEPTH_MAX = 32, COP_PARSER_OPEN_MAX = 4 * 32, COP_TAG_BYTES_MAX = 64 };

typedef struct cop_tag_event {
    cop_element element;
    bool closing;
    uint64_t end; /* bytes fed so far, up to and including the tag's last */
    uint32_t tag_bytes;
    uint32_t depth; /* blocks open after the event */
    uint32_t items; /* items of the innermost open block so far */
    uint32_t paths; /* paths of it so far */
    bool stray; /* lenient mode, `report_stray`: the tag cannot stand here and was passed over */
} cop_tag_event;

typedef struct cop_parser {
    const cop_dialect *dialect;
    bool strict;
    uint64_t fed;
    uint64_t line; /* of the next byte, from 1 */
    uint32_t ill_formed;
    bool report_stray; /* lenient: tags that were passed over are found as well */
    bool block_closed; /* by the last tag: a conclusion outside may follow */
    bool root_seen, block_seen;
    uint8_t n_open;                            /* open elements, innermost last */
    uint8_t open[COP_PARSER_OPEN_MAX];         /* cop_element */
    uint64_t opened_at[COP_PARSER_OPEN_MAX];   /* offset of each one's tag, */
    uint64_t opened_line[COP_PARSER_OPEN_MAX]; /* and its line: messages name them */
    uint8_t depth;                             /* open blocks */
    uint16_t items[COP_PARSER_DEPTH_MAX], paths[COP_PARSER_DEPTH_MAX]; /* of each open block */
    uint32_t joined;              /* bit d: the open block at depth d has had its conclusion */
    char tail[COP_TAG_BYTES_MAX]; /* the last bytes fed, for tags that straddle pieces */
    uint8_t n_tail;
    uint8_t number_state; /* strict: where in an item's or path's "2.1:" the next byte stands */
    uint32_t number;      /* its last component so far */
} cop_parser;

void cop_parser_init(cop_parser *parser, const cop_dialect *dialect, bool strict);

/* The branch's plan ends here and lists `items`, whatever its tags said: what is open of a block's
 * plan is closed, a block that is open begins anew, and where none is, one is opened. False: none
 * may stand here. */
bool cop_parser_plan(cop_parser *parser, uint32_t items);

/* The parser of a child: as if its parent's text had gone on with branch_prompt of path `index`
 * (from 0), without its item's text, which holds no tags. The parent's own state, which stands
 * where its plan closed, is left as it is. */
cop_parser cop_parser_fork(const cop_parser *parent, uint32_t index);

/* The parent's state after all `n` paths ended and join_prompt was added to its text. `fed` and
 * `line` count the parent's own text: the paths' are not in it. */
void cop_parser_join(cop_parser *parent, uint32_t n);

/* Feeds bytes up to and including the first one that completes a tag; *used says how many were
 * taken and *found whether `event` was filled. Call again with the rest. Of two tags that end at
 * the same byte the longer is found. After an error (strict mode only) the parser is done with. */
cop_status cop_parser_feed(cop_parser *parser, const char *text, size_t bytes, size_t *used,
                           bool *found, cop_tag_event *event);

/* End of text: strict mode refuses open elements, naming the innermost and where it was opened. */
cop_status cop_parser_end(const cop_parser *parser);
