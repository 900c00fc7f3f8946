/* Trees for sweeps over prefix lengths and branches, made from numbers: after a prompt of `prefix`
 * tokens and one generated token comes one fork, each of its branches decodes branch_tokens tokens,
 * and they join. Flattened, such a tree is as many tokens decoded one after another.
 *
 * They are trajectories of token counts alone: what replays them draws placeholder ids.
 */
#pragma once

#include "base/sha256.h"
#include "reason/trajectory.h"

enum { COP_GRID_AXIS_MAX = 16, COP_GRID_BRANCHES_MAX = 4096 };

typedef struct cop_tree_grid {
    uint32_t prefix[COP_GRID_AXIS_MAX], n_prefix;
    uint32_t branches[COP_GRID_AXIS_MAX], n_branches;
    uint32_t branch_tokens;
} cop_tree_grid;

/* One trajectory a prefix and number of branches ("1024x8"), prefix by prefix. The hash names the
 * grid in cell keys, as that of a file names a file of trajectories. */
cop_status cop_tree_grid_read(const cop_tree_grid *grid, cop_trajectories **out,
                              char sha256[COP_SHA256_HEX_BYTES]);
