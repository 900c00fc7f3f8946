/* What the trajectory's files share: trees are built in the set's arena, by trajectory_parse.c from
 * recorded text and by trajectory_read.c from JSON, and enter the set whole or not at all. */
#pragma once

#include "reason/dialect.h"
#include "reason/trajectory.h"

/* Copies the trajectory's head into the set; its trees are in the arena already. Refuses an id that
 * the set holds. Pointers into set->list end here. */
cop_status cop__trajectories_add(cop_trajectories *set, const cop_trajectory *trajectory);

/* Offset of the first byte that is not part of valid UTF-8, or is a NUL, neither of which JSON text
 * can hold here; `bytes` when there is none. */
size_t cop__text_fault(const char *text, size_t bytes);

/* Pieces of one stream while it grows. Release with cop_free(pieces). */
typedef struct cop__piece_list {
    cop_piece *pieces;
    size_t count, capacity;
} cop__piece_list;
cop_status cop__piece_list_add(cop__piece_list *list, cop_piece piece);
/* trajectory_workers.c: prompt, stream and counts of a text in the arena. */
cop_status cop__trajectory_cut_workers(const cop_dialect *dialect, const char *text, size_t bytes,
                                       cop_arena *arena, cop_trajectory *tree);
cop_status cop__piece_list_finish(const cop__piece_list *list, cop_arena *arena, cop_stream *out);
