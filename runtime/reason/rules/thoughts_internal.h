/* What breadth-first and depth-first search share. */
#pragma once

#include "reason/rules/thoughts.h"

typedef struct thought { /* a state */
    cop__text text;
    double value;
    uint32_t parent;                 /* DFS */
    uint32_t depth, children, tried; /* DFS: proposals, tried ones, */
    uint32_t first, kept;            /* .. where they stand, and how many were visited; BFS: the
                                        first candidate of this text */
    uint32_t calls;                  /* BFS: the value calls' first number; NONE: none */
} thought;

typedef struct known { /* a value prompt that was asked */
    cop__text prompt;
    double value;
    uint32_t counts[COP_THOUGHTS_VALUES];
} known;

typedef struct call { /* a branch that runs, by its tag */
    uint32_t of;      /* state, known prompt, or nothing */
    cop__text reply;
} call;

typedef struct thoughts {
    cop_rule rule;
    cop_thoughts_options options;
    cop__prompts pool;
    size_t kept; /* of the pool: the options' texts */
    cop__text input;
    thought *frontier, *states; /* BFS: of this step and of the next; DFS: states all visited */
    uint32_t n_frontier, n_states;
    known *known;
    uint32_t n_known;
    uint32_t *state_table, *known_table; /* numbers + 1 by text */
    uint32_t state_mask, known_mask;
    call *calls; /* [max_branches] by tag */
    uint32_t n_calls, calls_left, first_call;
    uint32_t step, visited;
    uint32_t current; /* DFS */
    cop__text *proposals;
    double *weights;
    uint32_t n_proposals;
    uint32_t stage;
    cop_status failed; /* of a callback that cannot tell */
} thoughts;

enum { THOUGHTS_BEGIN, THOUGHTS_GENERATE, THOUGHTS_EVALUATE, THOUGHTS_OVER };

cop_status cop__thoughts_bfs(thoughts *t);
cop_status cop__thoughts_dfs(thoughts *t);
cop_status cop__thoughts_prompt(thoughts *t, cop__text template, cop__text state, cop__text choices,
                                cop__text *out);
cop_status cop__thoughts_call(thoughts *t, cop__text prompt, uint32_t of, bool stops);
