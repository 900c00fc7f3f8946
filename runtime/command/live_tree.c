#include "command/live_tree.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "command/options.h"
#include "reason/tree_view.h"

enum {
    FALLBACK_COLUMNS = 100,
    FALLBACK_ROWS = 30,
    COLUMNS_MIN = 40,
    COLUMNS_MAX = 140, /* beyond it a row's tokens stand too far from its text */
    ROWS_MIN = 4,
    FRAME_NS = 40 * 1000 * 1000,
};

struct cop_live_tree {
    cop_tree_view *view;
    cop_buffer frame, output;
    bool live;     /* frames are drawn while the run goes on */
    uint32_t rows; /* of the frame on the terminal; the cursor stands below it */
    uint64_t drawn_ns, pace_ns;
    uint64_t *spoke; /* who has said a token in this round of the paths */
    size_t n_spoke, spoke_capacity;
    cop_status status;
};

static bool is_set(const char *name) {
    const char *value = getenv(name);
    return value && value[0];
}

static cop_status set_up(const cop_live_tree_options *options, cop_live_tree *tree) {
    struct winsize size = {0};
    const char *kind = getenv("TERM");
    bool terminal = isatty(STDOUT_FILENO) && !(kind && strcmp(kind, "dumb") == 0);
    if (!terminal || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
        size = (struct winsize){0};
    uint32_t columns = size.ws_col ? size.ws_col : FALLBACK_COLUMNS;
    uint32_t rows = size.ws_row ? size.ws_row : FALLBACK_ROWS;
    if (terminal) /* "erase to the end" in a full row would take its last character */
        columns--;
    tree->live = terminal && columns >= COLUMNS_MIN && rows > ROWS_MIN;
    tree->pace_ns = tree->live ? (uint64_t)options->pace_ms * 1000000 : 0;
    if (columns < COLUMNS_MIN)
        columns = COLUMNS_MIN;
    if (columns > COLUMNS_MAX)
        columns = COLUMNS_MAX;
    /* The last row stays free: the cursor waits there, and a full screen would scroll. */
    return cop_tree_view_create(
        &(cop_tree_view_options){.width = columns,
                                 .height = rows > ROWS_MIN ? rows - 1 : ROWS_MIN,
                                 .colour = terminal && !is_set("NO_COLOR"),
                                 .title = options->title},
        &tree->view);
}

cop_status cop_live_tree_create(const cop_live_tree_options *options, cop_live_tree **out) {
    *out = NULL;
    cop_live_tree *tree = cop_calloc(1, sizeof *tree);
    if (!tree)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the tree in the terminal");
    cop_status status = set_up(options, tree);
    if (status != COP_OK) {
        cop_live_tree_destroy(tree);
        return status;
    }
    *out = tree;
    return COP_OK;
}

void cop_live_tree_destroy(cop_live_tree *tree) {
    if (!tree)
        return;
    cop_tree_view_destroy(tree->view);
    cop_buffer_release(&tree->frame);
    cop_buffer_release(&tree->output);
    cop_free(tree->spoke);
    cop_free(tree);
}

/* The frame's rows over those of the one before. Each row clears what is left of the old one and
 * the end clears the old rows below; a terminal that knows synchronised updates shows it all at
 * once. */
static cop_status overwrite(cop_live_tree *tree, uint32_t rows) {
    cop_buffer *out = &tree->output;
    COP_TRY(cop_buffer_printf(out, "\033[?2026h"));
    if (tree->rows)
        COP_TRY(cop_buffer_printf(out, "\033[%uA\r", tree->rows));
    for (size_t at = 0; at < tree->frame.bytes;) {
        const char *row = tree->frame.data + at;
        const char *newline = memchr(row, '\n', tree->frame.bytes - at);
        size_t bytes = newline ? (size_t)(newline - row) : tree->frame.bytes - at;
        COP_TRY(cop_buffer_append(out, row, bytes));
        COP_TRY(cop_buffer_append(out, "\033[K\n", 4));
        at += bytes + 1;
    }
    tree->rows = rows;
    return cop_buffer_printf(out, "\033[J\033[?2026l");
}

static cop_status draw(cop_live_tree *tree, bool all) {
    uint32_t rows;
    tree->frame.bytes = tree->output.bytes = 0;
    COP_TRY(cop_tree_view_frame(tree->view, all, &tree->frame, &rows));
    if (!tree->live)
        return cop_command_output(&tree->frame);
    COP_TRY(overwrite(tree, rows));
    tree->drawn_ns = cop_clock_ns();
    return cop_command_output(&tree->output);
}

/* Whether a path's token opens a new round: its path has spoken in this one already. Paths are told
 * apart by a hash; a collision only waits once more. */
static bool opens_round(cop_live_tree *tree, const cop_live_event *event) {
    uint64_t hash = 14695981039346656037u ^ event->sample;
    for (const char *at = event->path; *at; at++)
        hash = (hash ^ (uint8_t)*at) * 1099511628211u;
    bool again = false;
    for (size_t i = 0; i < tree->n_spoke && !again; i++)
        again = tree->spoke[i] == hash;
    if (again)
        tree->n_spoke = 0;
    cop_status status =
        cop_grow(&tree->spoke, &tree->spoke_capacity, tree->n_spoke + 1, sizeof *tree->spoke);
    if (status == COP_OK)
        tree->spoke[tree->n_spoke++] = hash;
    else
        tree->status = status;
    return again;
}

static bool must_wait(cop_live_tree *tree, const cop_live_event *event) {
    if (!tree->pace_ns || event->kind != COP_LIVE_TEXT)
        return false;
    if (!event->path || !event->path[0])
        return true;
    return !event->forced && opens_round(tree, event);
}

void cop_live_tree_listen(void *context, const cop_live_event *event) {
    cop_live_tree *tree = context;
    if (tree->status != COP_OK)
        return;
    bool wait = must_wait(tree, event);
    cop_tree_view_event(tree->view, event);
    if (tree->live && tree->status == COP_OK && cop_clock_ns() - tree->drawn_ns >= FRAME_NS)
        tree->status = draw(tree, false);
    if (wait) { /* a signal ends it early: the run is being interrupted */
        struct timespec pace = {.tv_sec = (time_t)(tree->pace_ns / 1000000000),
                                .tv_nsec = (long)(tree->pace_ns % 1000000000)};
        nanosleep(&pace, NULL);
    }
}

cop_status cop_live_tree_finish(cop_live_tree *tree) {
    COP_TRY(tree->status);
    return draw(tree, true);
}
