/* Recorded text -> trajectory. The parser finds and checks the tags in one pass; the tree is then
 * built from their places, so every piece is a range of the text and all of them, in flattened
 * order, are the text. */
#include "reason/trajectory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "reason/parser.h"
#include "reason/trajectory_internal.h"

enum { BRANCH_PROMPT_BYTES = 1024, ITEM_MARK_BYTES = 6 /* "{item}" */ };

typedef struct mark { /* a tag's place, without the newline before it */
    cop_element element;
    bool closing;
    size_t start, end;
} mark;

typedef struct builder {
    const cop_dialect *dialect;
    const char *text; /* in the arena */
    size_t bytes;
    size_t at; /* what lies before is in pieces */
    mark *marks;
    size_t n_marks, capacity, next;
    cop_arena *arena;
    uint32_t numbers[COP_PARSER_DEPTH_MAX]; /* of the path in each open block */
    uint32_t level;                         /* open blocks */
    cop_trajectory tree;
} builder;

static bool next_is(const builder *b, cop_element element, bool closing) {
    return b->next < b->n_marks && b->marks[b->next].element == element &&
           b->marks[b->next].closing == closing;
}

/* Where the next tag's piece begins: at the newline before it if there is one to take. */
static size_t next_start(const builder *b) {
    if (b->next == b->n_marks)
        return b->bytes;
    size_t start = b->marks[b->next].start;
    /* Where the parent is given text before its paths, none of it is a path's own. */
    if (b->dialect->after_fork && next_is(b, COP_EL_PATH, false))
        return start;
    return cop_dialect_text_end(b->text, b->at, start);
}

static cop_status add_until(builder *b, cop__piece_list *list, size_t end, cop_forced forced) {
    if (end == b->at)
        return COP_OK;
    cop_piece piece = {.text = b->text + b->at, .bytes = end - b->at, .forced = forced};
    b->at = end;
    return cop__piece_list_add(list, piece);
}

static cop_status add_tag(builder *b, cop__piece_list *list, cop_forced forced) {
    COP_TRY(add_until(b, list, next_start(b), COP_FORCED_NOT));
    return add_until(b, list, b->marks[b->next++].end, forced);
}

/* Whether a prompt may give the next tag: a path's header opens the path, a join's text may open
 * the join, close it and close the block. */
static bool next_is_given(const builder *b, cop_element element) {
    if (next_is(b, element, false))
        return true;
    return element == COP_EL_JOIN &&
           (next_is(b, COP_EL_JOIN, true) || next_is(b, COP_EL_BLOCK, true));
}

/* The text at b->at begins with `prompt`, whose end cuts no tag, and the only tags inside are those
 * that it may give. Takes it as a piece. */
static cop_status add_prompt(builder *b, cop__piece_list *list, const char *prompt,
                             cop_element element, cop_forced forced, bool *added) {
    size_t bytes = strlen(prompt), end = b->at + bytes, next = b->next;
    *added = false;
    if (bytes == 0 || bytes > b->bytes - b->at || memcmp(b->text + b->at, prompt, bytes) != 0)
        return COP_OK;
    while (next_is_given(b, element) && b->marks[b->next].end <= end)
        b->next++;
    if (b->next < b->n_marks && b->marks[b->next].start < end) {
        b->next = next;
        return COP_OK;
    }
    *added = true;
    return add_until(b, list, end, forced);
}

static cop_status build_block(builder *b, cop_piece *out);

/* What follows a block: the text that a join inserts, as far as the record agrees with it. */
static cop_status add_join(builder *b, cop__piece_list *list) {
    bool added;
    COP_TRY(add_prompt(b, list, b->dialect->join_prompt, COP_EL_JOIN, COP_FORCED_JOIN, &added));
    if (!added && next_is(b, COP_EL_JOIN, false))
        return add_tag(b, list, COP_FORCED_JOIN);
    return COP_OK;
}

/* The text before a block's first path; what the dialect gives there as a piece of its own. */
static cop_status add_before_paths(builder *b, cop__piece_list *list) {
    const char *given = b->dialect->after_fork;
    size_t start = next_start(b), bytes = given ? strlen(given) : 0;
    if (bytes == 0 || start - b->at < bytes || memcmp(b->text + start - bytes, given, bytes) != 0)
        return add_until(b, list, start, COP_FORCED_NOT);
    COP_TRY(add_until(b, list, start - bytes, COP_FORCED_NOT));
    return add_until(b, list, start, COP_FORCED_BRANCH);
}

static cop_status add_pieces(builder *b, cop__piece_list *list, bool is_path) {
    while (b->next < b->n_marks) {
        if (next_is(b, COP_EL_PATH, false)) {
            cop_piece block;
            COP_TRY(add_before_paths(b, list));
            COP_TRY(build_block(b, &block));
            COP_TRY(cop__piece_list_add(list, block));
            COP_TRY(add_join(b, list));
        } else if (is_path && next_is(b, COP_EL_PATH, true)) {
            COP_TRY(add_tag(b, list, COP_FORCED_NOT));
            /* The token behind a path's end is its own where the original keeps one. */
            if (b->dialect->path_keep && b->at < b->bytes && b->text[b->at] == '\n' &&
                (b->next == b->n_marks || b->marks[b->next].start > b->at))
                COP_TRY(add_until(b, list, b->at + 1, COP_FORCED_NOT));
            /* Text between two paths belongs to none of them; the earlier one keeps it. */
            if (next_is(b, COP_EL_PATH, false))
                COP_TRY(add_until(b, list, next_start(b), COP_FORCED_NOT));
            return COP_OK;
        } else {
            COP_TRY(add_tag(b, list, COP_FORCED_NOT));
        }
    }
    return add_until(b, list, b->bytes, COP_FORCED_NOT);
}

/* The text of item `index` of the block whose first path is mark `path`: its plan stands right
 * before that. Empty where the block lists fewer. */
static const char *find_item(const builder *b, size_t path, uint32_t index, size_t *bytes) {
    size_t first = path;
    while (first > 0 && (b->marks[first - 1].element == COP_EL_ITEM ||
                         b->marks[first - 1].element == COP_EL_PLAN))
        first--;
    for (size_t i = first; i < path; i++) {
        const mark *tag = &b->marks[i];
        if (tag->element != COP_EL_ITEM || tag->closing || index-- > 0)
            continue;
        *bytes = cop_dialect_text_end(b->text, tag->end, b->marks[i + 1].start) - tag->end;
        return b->text + tag->end;
    }
    *bytes = 0;
    return "";
}

/* The digits and dots behind the next tag: a number that is the system's own. 0: none. */
static size_t recorded_number(const builder *b, char *out, size_t capacity) {
    size_t at = b->marks[b->next].end, n = 0;
    while (at < b->bytes && (b->text[at] == '\n' || b->text[at] == ' '))
        at++;
    while (at + n < b->bytes && n < capacity &&
           (b->text[at + n] == '.' || (b->text[at + n] >= '0' && b->text[at + n] <= '9')))
        n++;
    memcpy(out, b->text + at, n);
    return n;
}

/* The path's header, in one of the forms that the dialect writes; its tag alone where the record
 * has it otherwise. */
static cop_status add_header(builder *b, cop__piece_list *list, uint32_t index, const char *item,
                             size_t item_bytes) {
    const cop_dialect *d = b->dialect;
    const char *const forms[] = {d->branch_prompt, index ? d->joined_other : d->joined_first};
    cop_status status = COP_OK;
    bool added = false;
    for (int i = 0; i < 2 && status == COP_OK && !added; i++) {
        if (!forms[i])
            continue;
        /* However long the item is: nothing was refused here, as live decoding might have. */
        size_t capacity = BRANCH_PROMPT_BYTES + strlen(forms[i]) / ITEM_MARK_BYTES * item_bytes,
               bytes;
        char number[COP_PARSER_DEPTH_MAX * 12];
        size_t used = 0;
        char *prompt = cop_calloc(capacity, 1);
        if (!prompt)
            return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a path's header");
        size_t recorded = d->items_pattern ? recorded_number(b, number, sizeof number) : 0;
        for (uint32_t level = 0; recorded == 0 && level < b->level; level++)
            used += (size_t)snprintf(number + used, sizeof number - used, level ? ".%u" : "%u",
                                     b->numbers[level]);
        used = recorded ? recorded : used;
        status =
            cop_dialect_header(forms[i], number, used, item, item_bytes, prompt, capacity, &bytes);
        if (status == COP_OK)
            status = add_prompt(b, list, prompt, COP_EL_PATH, COP_FORCED_BRANCH, &added);
        cop_free(prompt);
    }
    return status != COP_OK || added ? status : add_tag(b, list, COP_FORCED_BRANCH);
}

static cop_status build_path(builder *b, uint32_t index, const char *item, size_t item_bytes,
                             cop_stream *out) {
    cop__piece_list list = {0};
    cop_status status = add_header(b, &list, index, item, item_bytes);
    if (status == COP_OK)
        status = add_pieces(b, &list, true);
    if (status == COP_OK)
        status = cop__piece_list_finish(&list, b->arena, out);
    cop_free(list.pieces);
    return status;
}

static cop_status build_block(builder *b, cop_piece *out) {
    cop_block *block = cop_arena_calloc(b->arena, 1, sizeof *block);
    cop_stream *paths = NULL;
    size_t capacity = 0;
    uint32_t n = 0;
    cop_status status = COP_OK;
    if (!block)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a block");
    size_t first = b->next;
    b->level++;
    if (b->level > b->tree.depth)
        b->tree.depth = b->level;
    while (status == COP_OK && next_is(b, COP_EL_PATH, false)) {
        b->numbers[b->level - 1] = n + 1;
        status = cop_grow(&paths, &capacity, n + 1u, sizeof *paths);
        size_t item_bytes;
        const char *item = find_item(b, first, n, &item_bytes);
        if (status == COP_OK)
            status = build_path(b, n, item, item_bytes, &paths[n]);
        n += status == COP_OK;
    }
    b->level--;
    block->n_paths = n;
    block->paths = cop_arena_calloc(b->arena, n, sizeof *block->paths);
    if (status == COP_OK && !block->paths)
        status = COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u paths", n);
    if (status == COP_OK)
        memcpy(block->paths, paths, n * sizeof *paths);
    cop_free(paths);
    b->tree.blocks++;
    b->tree.paths += n;
    *out = (cop_piece){.block = block};
    return status;
}

static cop_status find_marks(builder *b, size_t from) {
    cop_parser parser;
    cop_parser_init(&parser, b->dialect, true);
    parser.fed = from;
    for (size_t i = 0; i < from; i++)
        parser.line += b->text[i] == '\n';
    for (size_t at = from; at < b->bytes;) {
        cop_tag_event event;
        bool found;
        size_t used = 0;
        COP_TRY(cop_parser_feed(&parser, b->text + at, b->bytes - at, &used, &found, &event));
        at += used;
        if (!found)
            continue;
        COP_TRY(cop_grow(&b->marks, &b->capacity, b->n_marks + 1, sizeof *b->marks));
        b->marks[b->n_marks++] = (mark){event.element, event.closing,
                                        (size_t)event.end - event.tag_bytes, (size_t)event.end};
    }
    return cop_parser_end(&parser);
}

/* The prompt is the text before the root, whatever tags it speaks of; without a root, the text
 * before the first block. */
static cop_status split_prompt(builder *b, cop__piece_list *prompt) {
    const cop_tag *root = &b->dialect->open[COP_EL_ROOT];
    const char *at = root->bytes ? memmem(b->text, b->bytes, root->text, root->bytes) : NULL;
    COP_TRY(find_marks(b, at ? (size_t)(at - b->text) : 0));
    if (b->n_marks == 0)
        return COP_OK;
    return add_until(b, prompt, next_start(b), COP_FORCED_NOT);
}

static cop_status check_text(const char *text, size_t bytes) {
    uint64_t line = 1;
    size_t fault = cop__text_fault(text, bytes);
    for (size_t i = 0; i < fault; i++)
        line += text[i] == '\n';
    if (fault < bytes)
        return COP_FAIL(COP_ERR_FORMAT,
                        "line %" PRIu64 ", byte %zu: 0x%02x is %s, which JSON text cannot hold; "
                        "convert the transcript to UTF-8",
                        line, fault, (unsigned char)text[fault],
                        text[fault] ? "not valid UTF-8" : "a NUL");
    size_t blank = 0;
    while (blank < bytes && strchr(" \t\r\n", text[blank]))
        blank++;
    if (blank == bytes)
        return COP_FAIL(COP_ERR_FORMAT, "the transcript is empty: %zu bytes without text", bytes);
    return COP_OK;
}

static cop_status set_head(builder *b, const char *id, const char *source) {
    const char *const from[] = {id, source, b->dialect->name};
    const char **const to[] = {&b->tree.id, &b->tree.source, &b->tree.dialect};
    for (int i = 0; i < 3; i++) {
        size_t bytes = strlen(from[i]);
        if (bytes == 0 || cop__text_fault(from[i], bytes) < bytes)
            return COP_FAIL(COP_ERR_FORMAT,
                            "'%.128s' names a trajectory and must be UTF-8, not empty; rename the "
                            "file",
                            from[i]);
        *to[i] = cop_arena_strndup(b->arena, from[i], bytes);
        if (!*to[i])
            return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a name");
    }
    return COP_OK;
}

static cop_status build(builder *b, const char *id, const char *source) {
    cop__piece_list prompt = {0}, stream = {0};
    cop_status status = set_head(b, id, source);
    if (status == COP_OK && b->dialect->shared.n_workers)
        return cop__trajectory_cut_workers(b->dialect, b->text, b->bytes, b->arena, &b->tree);
    if (status == COP_OK)
        status = split_prompt(b, &prompt);
    if (status == COP_OK)
        status = add_pieces(b, &stream, false);
    if (status == COP_OK)
        status = cop__piece_list_finish(&prompt, b->arena, &b->tree.prompt);
    if (status == COP_OK)
        status = cop__piece_list_finish(&stream, b->arena, &b->tree.stream);
    cop_free(prompt.pieces);
    cop_free(stream.pieces);
    return status;
}

cop_status cop_trajectory_parse(const cop_dialect *dialect, const char *id, const char *source,
                                const char *text, size_t bytes, cop_trajectories *into) {
    if (dialect->join == COP_JOIN_ASYNC)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "%s: dialect %s joins asynchronously, and a trajectory holds blocks whose "
                        "parent waits for all their paths: the text does not say where its parent "
                        "stood when a path ended; decode with the dialect instead",
                        source, dialect->name);
    COP_TRY(check_text(text, bytes));
    builder b = {.dialect = dialect, .bytes = bytes, .arena = into->arena};
    b.tree.has_text = true;
    b.text = cop_arena_strndup(b.arena, text, bytes);
    if (!b.text)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %zu bytes of text", bytes);
    cop_status status = build(&b, id, source);
    if (status == COP_OK)
        status = cop__trajectories_add(into, &b.tree);
    cop_free(b.marks);
    return status;
}
