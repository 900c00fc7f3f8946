/* The driver that replays a trajectory: every join rule is forced through the same recorded tokens.
 *
 *   flattened   one branch decodes everything, tags, headers and join text included (the iso-token
 *               control; it holds tags that a sequential model would not write)
 *   reprefill   paths are branches; at the join their text is prefilled again, causally
 *   stitch      paths are branches; at the join their segments enter the parent's view; all paths
 * of a block start at one position and the text after it at 1 + the largest
 *   shared      paths see each other's tokens while they are said (engine_share.c); all of them
 * stand before what follows, which has the next position. Paths must not hold blocks
 *
 * Decode rows compute logits and sample; then the recorded token is taken. A driver replays once.
 */
#pragma once

#include "reason/dialect.h"
#include "reason/engine.h"
#include "reason/trajectory.h"

typedef struct cop_replay_options {
    cop_join_rule join;  /* COP_JOIN_NONE: flattened */
    cop_reuse reuse;     /* reprefill only */
    int32_t start_token; /* stands for a prompt that is empty; counted as one prompt token */
} cop_replay_options;

typedef struct cop_replay cop_replay;

cop_status cop_replay_create(const cop_trajectory *trajectory, const cop_replay_options *options,
                             cop_replay **out);
void cop_replay_destroy(cop_replay *replay);
cop_driver *cop_replay_driver(cop_replay *replay);

/* After the run: did every recorded token run exactly once as generated or forced? ERR_MISMATCH
 * names the first one that did not. */
cop_status cop_replay_check(const cop_replay *replay);

typedef struct cop_replay_stats {
    uint64_t tokens;    /* of the stream */
    double logprob_sum; /* natural log, of the generated tokens, at temperature 1 */
    uint64_t logprob_count;
} cop_replay_stats;
cop_replay_stats cop_replay_stats_read(const cop_replay *replay);

/* Largest number of branches alive at once, prompt and waiting parents included: what
 * an engine must be sized for. */
uint32_t cop_trajectory_branches(const cop_trajectory *trajectory);
