/* A sample's tree as text, while it grows: fed with the events of driver_live.h, drawn into a
 * buffer. It neither prints nor knows the terminal; the command writes its frames.
 *
 *   T33 18 15 9 8                                                    tokens
 *   ├ <try> 18 + 15<try> 18 - 15<try> 18 + 9<fork>                       12
 *   │ ├ 1 ✓ …<thr> 18 + 15  33T33 33 9 8 … <ok> 18 + 15 9 - 8 33 * 1     71
 *   │ ├ 2 › …<thr> 18 - 15  3T33 9 8 3 9 … 20 2 99 . - 5 9 14 4 45 .     76
 *   │ └ 3 ✗ …<thr> 18 + 9   27T33 27 15 … 27 34 20 . . * . / .<no>       67
 *   └ running · 1 ✓ 1 ✗ 1 › · 3 paths in 1 block                        226
 *
 * One row a path and one a stretch of text between a branch's forks; a row shows the head and the
 * tail of a text that is longer than the width ("…" between), its state and its tokens: the TEXT
 * events that were generated. › runs, ✓ said the dialect's `success`, ✗ did not, ○ was stopped, and
 * the row says why. Before any path has succeeded one that ended is a plain •: the dialect may have
 * no word for it. Several samples are numbered "#0", "#1". Rows above the height scroll away: a
 * frame holds at most `height` rows and says how many came before.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "reason/driver_live.h"

typedef struct cop_tree_view cop_tree_view;

typedef struct cop_tree_view_options {
    uint32_t width, height; /* of a frame, in columns and rows; at least 40 and 4 */
    bool colour;            /* ANSI colours */
    const char *title;      /* the problem, shown in the first row */
} cop_tree_view_options;

cop_status cop_tree_view_create(const cop_tree_view_options *options, cop_tree_view **out);
void cop_tree_view_destroy(cop_tree_view *view);

/* Takes an event; a failure (no memory) is kept and reported by the next frame. */
void cop_tree_view_event(cop_tree_view *view, const cop_live_event *event);

/* Appends the rows as they are now, each ended by a newline; *rows says how many. `all` ignores the
 * height: the finished tree. Control characters and bytes that are not UTF-8 are replaced; a row
 * never takes more columns than the width. */
cop_status cop_tree_view_frame(cop_tree_view *view, bool all, cop_buffer *out, uint32_t *rows);
