/* The parser on any bytes, cut anywhere. The first byte chooses the dialect (byte & 3) and strict
 * mode (bit 2), the second one seeds the cuts, the rest is text. Whole and cut text must give the
 * same events and leave the same state; forks and joins of whatever is open must keep it sound.
 * Seeds: tests/fuzz/corpus/parser, a byte pair and then text in the dialect's tags.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "reason/parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define TAG(text)                                                                                  \
    { text, sizeof(text) - 1 }

static const cop_dialect dialects[4] = {
    {.name = "short",
     .open = {TAG("<r>"), TAG("<b>"), TAG("<g>"), TAG("<i>"), TAG("<p>"), TAG("<j>")},
     .close = {TAG("</r>"), TAG("</b>"), TAG("</g>"), TAG("</i>"), TAG("</p>"), TAG("</j>")},
     .branch_prompt = "\n<p>{n}:",
     .join_prompt = "\n<j>",
     .nested = true},
    {.name = "flat",
     .open = {TAG("<Think>"), TAG("<Parallel>"), TAG("<Outlines>"), TAG("<Outline>"),
              TAG("<Thread>"), TAG("")},
     .close = {TAG("</Think>"), TAG("</Parallel>"), TAG("</Outlines>"), TAG("</Outline>"),
               TAG("</Thread>"), TAG("")},
     .branch_prompt = "\n<Thread>\n{n}:",
     .join_prompt = "",
     .max_paths = 3,
     .max_depth = 1},
    /* No root, no plan, tags that begin and end alike. */
    {.name = "alike",
     .open = {TAG(""), TAG("[["), TAG(""), TAG("[i"), TAG("x[p"), TAG("[p")},
     .close = {TAG(""), TAG("]]"), TAG(""), TAG("i]"), TAG("p]"), TAG("xp]")},
     .branch_prompt = "{n}x[p{n}",
     .join_prompt = "[p",
     .nested = true},
    {.name = "none",
     .open = {TAG(""), TAG(""), TAG(""), TAG(""), TAG(""), TAG("")},
     .close = {TAG(""), TAG(""), TAG(""), TAG(""), TAG(""), TAG("")},
     .branch_prompt = "",
     .join_prompt = ""},
};

static void require(int condition) {
    if (!condition)
        abort();
}

static void check_state(const cop_parser *parser) {
    uint32_t blocks = 0;
    for (int i = 0; i < parser->n_open; i++)
        blocks += parser->open[i] == COP_EL_BLOCK;
    require(parser->n_open <= COP_PARSER_OPEN_MAX);
    require(blocks == parser->depth && blocks <= COP_PARSER_DEPTH_MAX);
    require(parser->n_tail <= COP_TAG_BYTES_MAX);
    for (int d = 0; parser->strict && d < parser->depth; d++)
        require(parser->dialect->open[COP_EL_ITEM].bytes == 0 ||
                parser->paths[d] <= parser->items[d]);
}

/* Follows `text` in pieces of at most `most` bytes; the events as one hash, 0 after an error. */
static uint64_t follow(cop_parser *parser, const char *text, size_t bytes, size_t most,
                       uint64_t seed) {
    uint64_t hash = 1;
    for (size_t at = 0; at < bytes;) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t piece = 1 + (size_t)(seed >> 33) % most, used = 0;
        piece = piece < bytes - at ? piece : bytes - at;
        bool found;
        cop_tag_event e;
        if (cop_parser_feed(parser, text + at, piece, &used, &found, &e) != COP_OK) {
            require(parser->strict);
            return 0;
        }
        require(used > 0 && used <= piece && (found || used == piece));
        at += used;
        if (!found)
            continue;
        const cop_tag *tag =
            e.closing ? &parser->dialect->close[e.element] : &parser->dialect->open[e.element];
        require(e.end == parser->fed && e.tag_bytes == tag->bytes && e.depth == parser->depth);
        /* A tag may have begun in what was fed before this text. */
        require(at < tag->bytes || memcmp(text + at - tag->bytes, tag->text, tag->bytes) == 0);
        check_state(parser);
        const uint64_t words[] = {e.element, e.closing, e.end, e.depth, e.items, e.paths};
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
            hash = hash * 1099511628211u + words[i] + 1;
    }
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes < 2)
        return 0;
    const char *text = (const char *)data + 2;
    cop_parser whole, cut;
    cop_parser_init(&whole, &dialects[data[0] & 3], data[0] & 4);
    cop_parser_init(&cut, &dialects[data[0] & 3], data[0] & 4);
    uint64_t hash = follow(&whole, text, bytes - 2, SIZE_MAX >> 1, 0);
    require(hash == follow(&cut, text, bytes - 2, 7, data[1]));
    require(whole.fed == cut.fed && whole.ill_formed == cut.ill_formed && whole.line == cut.line);
    require(whole.n_open == cut.n_open && memcmp(whole.open, cut.open, whole.n_open) == 0);
    if (hash == 0)
        return 0;
    require(whole.n_tail == cut.n_tail && memcmp(whole.tail, cut.tail, whole.n_tail) == 0);
    require((cop_parser_end(&whole) == COP_OK) == (whole.n_open == 0 || !whole.strict));
    cop_parser child = cop_parser_fork(&whole, data[1]);
    require(child.strict == whole.strict && child.depth >= whole.depth);
    cop_parser_join(&whole, data[1]);
    /* They stand where no plan has closed, and claim paths that no item lists. */
    whole.strict = child.strict = false;
    check_state(&whole);
    check_state(&child);
    follow(&child, text, bytes - 2, 5, data[1]);
    return 0;
}
