/* What every token of a recorded tree attends to, and where it stands, under one way to join: as a
 * matrix, from the trajectory itself. It knows no segments, no pages and no plan.
 *
 * An entry is a computation of a token's keys and values. A token has one in its branch, and one
 * more for each join that computed it again.
 */
#pragma once

#include "reason/trajectory.h"

enum { JOINS_NAIVE_MAX = 512 };

typedef struct joins_naive_rule {
    const char *name;
    bool keep, again; /* the branches' entries stay in view, or are computed again; or neither */
    bool seen;        /* again: with the paths before in view */
    bool equal, max;  /* again: from one position; the text behind at 1 + the largest */
    bool reversed;    /* the last path first */
} joins_naive_rule;

typedef struct joins_naive {
    uint32_t n, n_tokens;
    int32_t id[JOINS_NAIVE_MAX], position[JOINS_NAIVE_MAX];
    uint8_t sees[JOINS_NAIVE_MAX][JOINS_NAIVE_MAX];
    uint32_t entry_of[JOINS_NAIVE_MAX]; /* of each token in the order of the text, in its branch */
    bool full;                          /* there was no room for an entry: the rest is void */
} joins_naive;

void joins_naive_lay(joins_naive *world, const joins_naive_rule *rule,
                     const cop_trajectory *trajectory);

/* The same where the paths of a block see each other while they are said: where token j stands for
 * token i, negative where i does not see it. What a path is given at its begin is said in one step,
 * then each path says a token a step; no path holds a block. */
typedef struct joins_views {
    uint32_t n, n_tokens;
    int32_t id[JOINS_NAIVE_MAX], at[JOINS_NAIVE_MAX][JOINS_NAIVE_MAX];
    uint32_t entry_of[JOINS_NAIVE_MAX];
    bool full;
} joins_views;

void joins_naive_share(joins_views *world, const cop_trajectory *trajectory);
