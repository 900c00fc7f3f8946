/* A dialect: one system's grammar, join rule and position rule, as data
 * (configs/dialects/NAME.json).
 *
 * A dialect names up to six kinds of element; each has an opening and a closing tag (ordinary text,
 * possibly several tokens, possibly straddling tokens). A block holds a plan of items and one path
 * an item, then perhaps a conclusion: multiverse    block <Parallel>  plan <Goal>      item
 * <Outline>  path <Path>    join <Conclusion> threadweaver  block <Parallel>  plan <Outlines>  item
 * <Outline>  path <Thread>  (no join element) Live, the parent forks when the plan closes
 * (`fork_after`); each child is given `branch_prompt` with {n} replaced by its number ("2", nested
 * "2.1"), ends when its path closes, and the parent goes on with `join_prompt`. Recorded text is
 * cut at the same tags. No code knows a system's name.
 *
 * Unknown keys are errors. Immutable once loaded.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef enum cop_element {
    COP_EL_ROOT, /* <Think>: the reasoning as a whole */
    COP_EL_BLOCK,
    COP_EL_PLAN,
    COP_EL_ITEM,
    COP_EL_PATH,
    COP_EL_JOIN,
    COP_EL_COUNT,
} cop_element;

const char *cop_element_name(cop_element element); /* "root", "block", "plan", .. */

typedef enum cop_join_rule {
    COP_JOIN_NONE,      /* plain sequential decoding */
    COP_JOIN_REPREFILL, /* concatenate the children's text, prefill it causally (ThreadWeaver) */
    COP_JOIN_STITCH,    /* the children's segments enter the parent's view (Multiverse) */
} cop_join_rule;

typedef enum cop_position_rule {
    COP_POSITIONS_NEXT,            /* ordinary: the next position of the branch's own view */
    COP_POSITIONS_EQUAL_START_MAX, /* all paths start where the parent stands; after the join: 1 +
                                      max */
} cop_position_rule;

typedef enum cop_reuse { COP_REUSE_NONE, COP_REUSE_LONGEST_PREFIX } cop_reuse; /* reprefill only */

typedef enum cop_path_end { /* what a branch's own end of text, or its limit, does */
                            COP_PATH_END_JOINS, /* the branch counts as finished; its closing tag is
                                                   added */
                            COP_PATH_END_ENDS_RUN, /* the whole problem ends (ThreadWeaver's
                                                      orchestrators) */
} cop_path_end;

typedef struct cop_tag {
    const char *text; /* "" where the dialect has none */
    uint32_t bytes;
} cop_tag;

typedef struct cop_dialect {
    const char *name,
        *source; /* source: the paper or repository path that the data is taken from */
    cop_join_rule join;
    cop_position_rule positions;
    cop_reuse reuse;
    cop_path_end path_end;
    cop_tag open[COP_EL_COUNT], close[COP_EL_COUNT];
    const char *branch_prompt;                 /* "\n<Path>\n{n}:" */
    const char *join_prompt;                   /* "\n<Conclusion>\n"; may be "" */
    bool nested;                               /* a path may hold blocks */
    uint32_t max_paths, max_depth, max_blocks; /* 0: no limit */
} cop_dialect;

typedef struct cop_dialect_file cop_dialect_file; /* owns a dialect's strings */

cop_status cop_dialect_load(const char *path, cop_dialect_file **out);
/* By name: configs/dialects/<name>.json below the folder `root`; an unknown name lists the known.
 */
cop_status cop_dialect_load_named(const char *root, const char *name, cop_dialect_file **out);
/* As a user names it: a file ("x.json", or any path), or a name below cop_root_folder. */
cop_status cop_dialect_open(const char *name, cop_dialect_file **out);
void cop_dialect_close(cop_dialect_file *file);
const cop_dialect *cop_dialect_of(const cop_dialect_file *file);
const char *cop_join_rule_name(cop_join_rule rule); /* "none", "reprefill", "stitch" */
