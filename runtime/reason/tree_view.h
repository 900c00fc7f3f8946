/* A sample's tree as text, while it grows: fed with the events of driver_live.h, drawn into a
 * buffer. It neither prints nor knows the terminal; the command writes its frames.
 *
 *   ● T75 14 13 9 2
 *   ├ <try> 14 + 13<try> 14 - 13 ..<fork>
 *   │  1 ✗ <thr> 14 + 13 27T75 27 9 2 .. <no>            81
 *   │  2 ✓ <thr> 14 - 13 1T75 9 2 1 .. <ok> ..           40
 *   │  3 · <thr> 14 * ..                                 12   (still running)
 *   ├ <join><ok> ..
 *
 * One row a path and one a stretch of the sample's own text; a row shows the head and the tail of a
 * text that is longer than the width ("…" between), its state and its tokens. Rows above the height
 * scroll away: a frame holds at most `height` rows and says how many came before.
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
