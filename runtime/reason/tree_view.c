#include "reason/tree_view.h"

#include <stdio.h>
#include <string.h>

#include "reason/tree_text.h"

/* A node is one row: a stretch of a branch's text between its forks. A branch's stretches are
 * siblings; the paths that a stretch forked are its children. Text is stored ready to be drawn:
 * well formed, without controls, runs of white space as one space. A token is a text event that was
 * generated. */
enum { NONE = UINT32_MAX, TOKEN_COLUMNS = 8, MESSAGE_BYTES = 256 };

typedef struct tree_span {
    size_t end;
    bool forced;
} tree_span;

typedef struct tree_node { /* nodes[0] is the root above all samples and is not drawn */
    uint32_t branch, parent, next, child, last_child;
    uint32_t label_columns;  /* of the widest label among its children */
    uint32_t header_columns; /* of the widest header among them; a frame works it out */
    uint64_t tokens;
    cop_buffer text;
    tree_span *spans; /* in order, the last one ends the text */
    size_t n_spans, spans_capacity;
} tree_node;

typedef struct tree_branch {
    uint32_t sample;
    char *path; /* "" is the sample's own thread */
    uint32_t first, tail;
    bool over, forked, success; /* forked: what it says next stands below its block */
    uint32_t block;             /* the one that it forked last */
    cop_stop stop;
    cop_utf8_stream utf8;
} tree_branch;

struct cop_tree_view {
    cop_tree_view_options options;
    char *title; /* as the first row draws it */
    tree_node *nodes;
    size_t n_nodes, nodes_capacity;
    tree_branch *branches;
    size_t n_branches, branches_capacity;
    uint32_t samples, blocks;
    bool any_success; /* before it, a path that ends is not known to have failed */
    cop_status status;
    char message[MESSAGE_BYTES];
};

static tree_branch *find_branch(cop_tree_view *view, uint32_t sample, const char *path) {
    for (size_t i = view->n_branches; i-- > 0;) { /* a later block's path hides its namesake */
        tree_branch *branch = &view->branches[i];
        if (branch->sample == sample && strcmp(branch->path, path) == 0)
            return branch;
    }
    return NULL;
}

/* A row for a branch: after its last one, or the last child of `parent` where it has none yet. */
static cop_status add_node(cop_tree_view *view, uint32_t branch_index, uint32_t parent) {
    COP_TRY(cop_grow(&view->nodes, &view->nodes_capacity, view->n_nodes + 1, sizeof *view->nodes));
    uint32_t index = (uint32_t)view->n_nodes++;
    tree_branch *branch = &view->branches[branch_index];
    uint32_t before = branch->tail;
    if (before != NONE)
        parent = view->nodes[before].parent;
    tree_node *up = &view->nodes[parent];
    view->nodes[index] = (tree_node){
        .branch = branch_index, .parent = parent, .child = NONE, .next = NONE, .last_child = NONE};
    if (before == NONE)
        before = up->last_child;
    if (before == NONE) {
        up->child = index;
    } else {
        view->nodes[index].next = view->nodes[before].next;
        view->nodes[before].next = index;
    }
    if (view->nodes[index].next == NONE)
        up->last_child = index;
    if (branch->tail == NONE)
        branch->first = index;
    branch->tail = index;
    branch->forked = false;
    return COP_OK;
}

static cop_status open_branch(cop_tree_view *view, uint32_t sample, const char *path,
                              uint32_t parent) {
    COP_TRY(cop_grow(&view->branches, &view->branches_capacity, view->n_branches + 1,
                     sizeof *view->branches));
    size_t bytes = strlen(path) + 1;
    char *copy = cop_calloc(bytes, 1);
    if (!copy)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a path of the tree");
    memcpy(copy, path, bytes);
    uint32_t index = (uint32_t)view->n_branches++;
    view->branches[index] =
        (tree_branch){.sample = sample, .path = copy, .first = NONE, .tail = NONE};
    char number[16];
    uint32_t columns =
        (uint32_t)(path[0] ? bytes - 1 : (size_t)snprintf(number, sizeof number, "#%u", sample));
    if (columns > view->options.width / 5) /* deep names keep their end */
        columns = view->options.width / 5;
    if (columns > view->nodes[parent].label_columns)
        view->nodes[parent].label_columns = columns;
    view->samples += !path[0];
    return add_node(view, index, parent);
}

/* The branch of a path that was opened; a sample's own thread opens with its first event. */
static cop_status branch_of(cop_tree_view *view, uint32_t sample, const char *path,
                            tree_branch **out) {
    *out = find_branch(view, sample, path);
    if (!*out && !path[0]) {
        COP_TRY(open_branch(view, sample, "", 0));
        *out = &view->branches[view->n_branches - 1];
    }
    return *out ? COP_OK
                : COP_FAIL(COP_ERR_INTERNAL,
                           "the tree view heard of path \"%.32s\" of sample %u, which no fork "
                           "opened: send FORK first",
                           path, sample);
}

static cop_status add_text(cop_tree_view *view, tree_branch *branch, const cop_live_event *event) {
    if (branch->forked)
        COP_TRY(add_node(view, (uint32_t)(branch - view->branches), NONE));
    tree_node *node = &view->nodes[branch->tail];
    node->tokens += !event->forced;
    COP_TRY(cop__drawable_append(&node->text, &branch->utf8, event->text, event->bytes, false));
    if (node->n_spans && node->spans[node->n_spans - 1].forced == event->forced) {
        node->spans[node->n_spans - 1].end = node->text.bytes;
        return COP_OK;
    }
    COP_TRY(cop_grow(&node->spans, &node->spans_capacity, node->n_spans + 1, sizeof *node->spans));
    node->spans[node->n_spans++] = (tree_span){node->text.bytes, event->forced};
    return COP_OK;
}

/* What is left of a character that its stretch or its branch never completed. */
static cop_status flush_text(cop_tree_view *view, tree_branch *branch) {
    tree_node *node = &view->nodes[branch->tail];
    COP_TRY(cop__drawable_append(&node->text, &branch->utf8, NULL, 0, true));
    if (node->n_spans)
        node->spans[node->n_spans - 1].end = node->text.bytes;
    return COP_OK;
}

static cop_status fork_path(cop_tree_view *view, const cop_live_event *event) {
    const char *dot = strrchr(event->path, '.');
    char *parent_path = cop_calloc(dot ? (size_t)(dot - event->path) + 1 : 1, 1);
    if (!parent_path)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a path of the tree");
    memcpy(parent_path, event->path, dot ? (size_t)(dot - event->path) : 0);
    tree_branch *parent;
    cop_status status = branch_of(view, event->sample, parent_path, &parent);
    if (status == COP_OK && parent->forked && parent->block != event->block)
        status = add_node(view, (uint32_t)(parent - view->branches), NONE);
    if (status == COP_OK && !parent->forked)
        status = flush_text(view, parent);
    if (status == COP_OK) {
        parent->forked = true;
        parent->block = event->block;
        status = open_branch(view, event->sample, event->path, parent->tail);
    }
    const tree_branch *opened = &view->branches[view->n_branches - 1];
    if (status == COP_OK) /* a block is counted with the first path of its row */
        view->blocks += view->nodes[view->nodes[opened->first].parent].child == opened->first;
    cop_free(parent_path);
    return status;
}

static cop_status take_event(cop_tree_view *view, const cop_live_event *event) {
    const char *path = event->path ? event->path : "";
    if (event->kind == COP_LIVE_FORK && path[0])
        return fork_path(view, event);
    tree_branch *branch;
    COP_TRY(branch_of(view, event->sample, event->kind == COP_LIVE_STOP ? "" : path, &branch));
    switch (event->kind) {
    case COP_LIVE_TEXT:
        return add_text(view, branch, event);
    case COP_LIVE_END:
    case COP_LIVE_STOP:
        branch->over = true;
        branch->success = event->kind == COP_LIVE_END && event->success;
        branch->stop = event->stop;
        view->any_success |= branch->success;
        return flush_text(view, branch);
    case COP_LIVE_JOIN: /* its next text begins a row below the block */
    case COP_LIVE_FORK:
        break;
    }
    return COP_OK;
}

void cop_tree_view_event(cop_tree_view *view, const cop_live_event *event) {
    if (view->status != COP_OK)
        return;
    view->status = take_event(view, event);
    if (view->status != COP_OK)
        snprintf(view->message, sizeof view->message, "%s", cop_status_message());
}

cop_status cop_tree_view_create(const cop_tree_view_options *options, cop_tree_view **out) {
    *out = NULL;
    if (options->width < 40 || options->height < 4)
        return COP_FAIL(COP_ERR_CONFIG,
                        "a tree of %u columns and %u rows cannot be read: give at least 40 and 4",
                        options->width, options->height);
    cop_tree_view *view = cop_calloc(1, sizeof *view);
    if (!view)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a view of the tree");
    view->options = *options;
    view->options.title = NULL; /* the caller's, and only needed here */
    const char *title = options->title ? options->title : "";
    cop_buffer text = {0};
    cop_utf8_stream utf8 = {0};
    cop_status status = cop__drawable_append(&text, &utf8, title, strlen(title), true);
    view->title = text.data;
    if (status == COP_OK)
        status = cop_grow(&view->nodes, &view->nodes_capacity, 1, sizeof *view->nodes);
    if (status != COP_OK) {
        cop_tree_view_destroy(view);
        return status;
    }
    view->nodes[view->n_nodes++] = (tree_node){
        .branch = NONE, .parent = NONE, .next = NONE, .child = NONE, .last_child = NONE};
    *out = view;
    return COP_OK;
}

void cop_tree_view_destroy(cop_tree_view *view) {
    if (!view)
        return;
    for (size_t i = 0; i < view->n_nodes; i++) {
        cop_buffer_release(&view->nodes[i].text);
        cop_free(view->nodes[i].spans);
    }
    for (size_t i = 0; i < view->n_branches; i++)
        cop_free(view->branches[i].path);
    cop_free(view->nodes);
    cop_free(view->branches);
    cop_free(view->title);
    cop_free(view);
}

static void put_slice(cop__row *r, const tree_node *node, size_t from, size_t to, bool faint) {
    const char *text = node->text.data;
    size_t span = 0;
    while (from < to) {
        while (span + 1 < node->n_spans && node->spans[span].end <= from)
            span++;
        size_t n = cop__text_tag(text + from, to - from);
        cop__style look = n ? COP__TAG : COP__PLAIN;
        if (!n) {
            size_t end = from + 1;
            while (end < to && !cop__text_tag(text + end, to - end) &&
                   (end < node->spans[span].end || span + 1 == node->n_spans))
                end++;
            n = end - from;
        }
        cop__row_put(r, faint || node->spans[span].forced ? COP__FAINT : look, text + from, n);
        from += n;
    }
}

/* text[from, to) in at most `room` columns, its middle left out when it is longer. */
static void put_middle_out(cop__row *r, const tree_node *node, size_t from, size_t to,
                           uint32_t room, bool faint) {
    const char *text = node->text.data;
    if (cop__text_columns(text, from, to, room) <= room) {
        put_slice(r, node, from, to, faint);
        return;
    }
    size_t end = cop__text_head(text, from, to, (room - 3) / 3);
    room -= 3 + cop__text_columns(text, from, end, room);
    put_slice(r, node, from, end, faint);
    cop__row_text(r, COP__FAINT, end > from ? " … " : "… ");
    put_slice(r, node, cop__text_tail(text, end, to, room), to, faint);
}

/* A path's header is what it was given before it spoke. All of a block's may repeat their problem;
 * what tells one from another is its last tag and what follows, in at most a third of the width:
 * text[from, end) is shown. Returns its columns, the dots for what is left out included. */
static uint32_t header_of(const cop_tree_view *view, uint32_t index, size_t *from, size_t *end) {
    const tree_node *node = &view->nodes[index];
    const tree_branch *branch = &view->branches[node->branch];
    *from = *end = 0;
    if (!branch->path[0] || branch->first != index || !node->n_spans || !node->spans[0].forced)
        return 0;
    const char *text = node->text.data;
    *end = node->spans[0].end;
    for (size_t at = *end; at-- > 0 && *from == 0;) {
        if (cop__text_tag(text + at, *end - at))
            *from = at;
    }
    uint32_t third = view->options.width / 3;
    if (cop__text_columns(text, *from, *end, third) > third)
        *from = cop__text_tail(text, *from, *end, third);
    return cop__text_columns(text, *from, *end, third) + (*from > 0);
}

static void measure_headers(cop_tree_view *view) {
    for (size_t i = 1; i < view->n_nodes; i++) {
        size_t from, end;
        uint32_t columns = header_of(view, (uint32_t)i, &from, &end);
        tree_node *parent = &view->nodes[view->nodes[i].parent];
        if (columns > parent->header_columns)
            parent->header_columns = columns;
    }
}

static void put_node_text(const cop_tree_view *view, cop__row *r, uint32_t index, uint32_t until,
                          bool faint) {
    const tree_node *node = &view->nodes[index];
    uint32_t header = view->nodes[node->parent].header_columns, start = r->columns;
    size_t from, at;
    if (node->text.bytes == 0)
        return;
    if (header_of(view, index, &from, &at)) {
        if (from > 0)
            cop__row_text(r, COP__FAINT, "…");
        put_slice(r, node, from, at, faint);
        cop__row_pad(r, start + header + 2); /* the siblings' own words begin in one column */
        at += node->text.data[at] == ' ';
    }
    if (at < node->text.bytes && r->columns + 8 < until)
        put_middle_out(r, node, at, node->text.bytes, until - r->columns, faint);
}

static void put_tokens(cop__row *r, uint64_t tokens) {
    char number[24];
    int n = snprintf(number, sizeof number, "%llu", (unsigned long long)tokens);
    cop__row_pad(r, r->width - (uint32_t)n);
    cop__row_text(r, COP__FAINT, number);
}

/* The lines from the root to a node. A tree deeper than a quarter of the width hides its outer
 * levels: the innermost ones tell siblings apart. */
static void put_lines(const cop_tree_view *view, cop__row *r, uint32_t index) {
    uint32_t levels = view->options.width / 8, depth = 0, chain[64];
    uint32_t keep = levels < 64 ? levels : 64;
    for (uint32_t at = index; at != 0 && depth <= keep; at = view->nodes[at].parent) {
        if (depth < keep)
            chain[depth] = at;
        depth++;
    }
    if (depth > keep)
        cop__row_text(r, COP__FAINT, "… ");
    for (uint32_t i = depth < keep ? depth : keep; i-- > 0;) {
        const tree_node *node = &view->nodes[chain[i]];
        bool more = node->next != NONE || node->parent == 0; /* below the samples is the last row */
        cop__row_text(r, COP__FAINT, i == 0 ? (more ? "├ " : "└ ") : (more ? "│ " : "  "));
    }
}

typedef struct mark {
    const char *sign;
    cop__style look;
    const char *word; /* why it stopped, where that is unusual */
} mark;

static mark mark_of(const cop_tree_view *view, const tree_branch *branch, bool last) {
    if (!last)
        return (mark){" ", COP__PLAIN, NULL};
    if (!branch->over)
        return (mark){"›", COP__TAG, NULL};
    if (branch->success)
        return (mark){"✓", COP__GOOD, NULL};
    if (branch->stop != COP_STOP_END && branch->stop != COP_STOP_PATH)
        return (mark){"○", COP__STOPPED, cop_stop_name(branch->stop)};
    return (mark){view->any_success && branch->path[0] ? "✗" : "•", COP__FAINT, NULL};
}

static cop_status draw_node(const cop_tree_view *view, cop__row *r, uint32_t index,
                            uint32_t *rows) {
    const tree_node *node = &view->nodes[index];
    const tree_branch *branch = &view->branches[node->branch];
    bool own = !branch->path[0];
    mark sign = mark_of(view, branch, branch->tail == index);
    put_lines(view, r, index);
    if (!own || view->samples > 1) {
        char number[16];
        snprintf(number, sizeof number, "#%u", branch->sample);
        const char *label = own ? number : branch->path;
        uint32_t room = view->nodes[node->parent].label_columns, bytes = (uint32_t)strlen(label);
        uint32_t skip = bytes > room ? bytes - room : 0;
        cop__row_pad(r, r->columns + room - (bytes - skip));
        if (skip)
            cop__row_text(r, COP__FAINT, "…");
        cop__row_text(r, branch->over ? COP__FAINT : COP__BOLD, label + skip + (skip > 0));
        cop__row_text(r, COP__PLAIN, " ");
        cop__row_text(r, sign.look, sign.sign);
        cop__row_text(r, COP__PLAIN, " ");
    }
    uint32_t until = r->width - TOKEN_COLUMNS;
    if (sign.word && !own)
        until -= (uint32_t)strlen(sign.word) + 2;
    bool faint = !own && branch->over && !branch->success && view->any_success;
    r->width = until;
    put_node_text(view, r, index, until, faint);
    r->width = view->options.width;
    if (sign.word && !own) {
        cop__row_text(r, COP__PLAIN, "  ");
        cop__row_text(r, COP__STOPPED, sign.word);
    }
    put_tokens(r, node->tokens);
    return cop__row_end(r, rows);
}

static uint32_t next_node(const cop_tree_view *view, uint32_t index) {
    if (view->nodes[index].child != NONE)
        return view->nodes[index].child;
    while (index != 0 && view->nodes[index].next == NONE)
        index = view->nodes[index].parent;
    return index == 0 ? NONE : view->nodes[index].next;
}

static cop_status draw_title(const cop_tree_view *view, cop__row *r, uint32_t *rows) {
    const char *title = view->title ? view->title : "", heading[] = "tokens";
    uint32_t room = r->width - (uint32_t)sizeof heading, bytes = (uint32_t)strlen(title);
    bool whole = cop__text_columns(title, 0, bytes, room) <= room;
    cop__row_put(r, COP__BOLD, title, whole ? bytes : cop__text_head(title, 0, bytes, room - 2));
    if (!whole)
        cop__row_text(r, COP__FAINT, " …");
    cop__row_pad(r, r->width - (uint32_t)sizeof heading + 1);
    cop__row_text(r, COP__FAINT, heading);
    return cop__row_end(r, rows);
}

static void put_count(cop__row *r, uint32_t count, cop__style look, const char *what) {
    char number[16];
    snprintf(number, sizeof number, " %u ", count);
    if (count == 0)
        return;
    cop__row_text(r, COP__FAINT, number);
    cop__row_text(r, look, what);
}

/* The last row: whether it runs, what became of the paths, and the sum of the tokens. */
static cop_status draw_sum(const cop_tree_view *view, cop__row *r, uint32_t *rows) {
    uint32_t paths = 0, found = 0, ended = 0, cut = 0, running = 0, samples_running = 0;
    uint64_t tokens = 0;
    cop_stop stop = COP_STOP_NONE;
    for (size_t i = 0; i < view->n_branches; i++) {
        const tree_branch *b = &view->branches[i];
        if (!b->path[0]) {
            samples_running += !b->over;
            stop = b->stop;
            continue;
        }
        mark sign = mark_of(view, b, true);
        paths++;
        running += !b->over;
        found += b->success;
        cut += sign.word != NULL;
        ended += b->over && !b->success && !sign.word;
    }
    for (size_t i = 1; i < view->n_nodes; i++)
        tokens += view->nodes[i].tokens;
    char text[96];
    r->width -= TOKEN_COLUMNS; /* the sum is never cut */
    cop__row_text(r, COP__FAINT, "└ ");
    bool runs = samples_running > 0 || view->samples == 0;
    if (runs || view->samples == 1)
        cop__row_text(r, runs ? COP__TAG : COP__BOLD, runs ? "running" : cop_stop_name(stop));
    else
        cop__row_text(r, COP__BOLD, "done");
    if (view->samples > 1) {
        snprintf(text, sizeof text, " · %u of %u samples over", view->samples - samples_running,
                 view->samples);
        cop__row_text(r, COP__FAINT, text);
    }
    if (paths) {
        cop__row_text(r, COP__FAINT, " ·");
        put_count(r, found, COP__GOOD, "✓");
        put_count(r, ended, COP__FAINT, view->any_success ? "✗" : "•");
        put_count(r, cut, COP__STOPPED, "○");
        put_count(r, running, COP__TAG, "›");
        snprintf(text, sizeof text, " · %u path%s in %u block%s", paths, paths == 1 ? "" : "s",
                 view->blocks, view->blocks == 1 ? "" : "s");
        if (r->columns + strlen(text) <= r->width) /* a narrow view says what counts */
            cop__row_text(r, COP__FAINT, text);
    }
    r->width = view->options.width;
    put_tokens(r, tokens);
    return cop__row_end(r, rows);
}

cop_status cop_tree_view_frame(cop_tree_view *view, bool all, cop_buffer *out, uint32_t *rows) {
    *rows = 0;
    if (view->status != COP_OK)
        return COP_FAIL(view->status, "%s", view->message);
    cop__row r = {.out = out, .width = view->options.width, .colour = view->options.colour};
    size_t nodes = view->n_nodes - 1, height = view->options.height;
    size_t skip = all || nodes + 2 <= height ? 0 : nodes + 3 - height;
    measure_headers(view);
    COP_TRY(draw_title(view, &r, rows));
    if (skip) {
        char text[48];
        snprintf(text, sizeof text, "│ … %zu rows above", skip);
        cop__row_text(&r, COP__FAINT, text);
        COP_TRY(cop__row_end(&r, rows));
    }
    for (uint32_t at = next_node(view, 0); at != NONE; at = next_node(view, at)) {
        if (skip)
            skip--;
        else
            COP_TRY(draw_node(view, &r, at, rows));
    }
    return draw_sum(view, &r, rows);
}
