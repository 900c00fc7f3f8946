/* A run's tree on stdout while it grows: the thin part between a driver's events and the terminal.
 *
 *   cop_live_tree *tree = NULL;
 *   COP_TRY(cop_live_tree_create(&(cop_live_tree_options){.title = prompt}, &tree));
 *   live_options.listener = cop_live_tree_listen, live_options.listener_context = tree;
 *   ... run ...
 *   status = cop_live_tree_finish(tree);
 *   cop_live_tree_destroy(tree);
 *
 * On a terminal each frame is drawn over the one before, at most 25 a second, and finish puts the
 * whole tree in the last one's place. Where stdout is no terminal (or a dumb one, or one of fewer
 * than 41 columns) only finish prints; what goes to a file holds no escape codes. NO_COLOR
 * turns colours off. Everything happens in the thread that sends the events; no thread, no signal
 * handler. The width is the terminal's when the tree is created.
 *
 * Drawing, and the pace above all, is part of the run's wall clock, and the tree's memory grows as
 * the run goes: measure without it.
 */
#pragma once

#include "reason/driver_live.h"

typedef struct cop_live_tree_options {
    const char *title; /* the problem */
    /* Wait so long at each text of a sample's own thread, and once in each round of tokens that the
     * paths say in turn: a run of 50 ms can then be watched. 0: do not wait. Only on a terminal. */
    uint32_t pace_ms;
} cop_live_tree_options;

typedef struct cop_live_tree cop_live_tree;

cop_status cop_live_tree_create(const cop_live_tree_options *options, cop_live_tree **out);
void cop_live_tree_destroy(cop_live_tree *tree); /* NULL is fine; prints nothing */

/* A cop_live_listener; the context is the tree. What fails is kept for finish. */
void cop_live_tree_listen(void *tree, const cop_live_event *event);

/* Prints the whole tree as it is now, once; after an interrupted run as far as it came. ERR_IO when
 * stdout did not take a frame. */
cop_status cop_live_tree_finish(cop_live_tree *tree);
