/* The parts of a run of joins: the recorded tree as operations, and lanes that compute. */
#pragma once

#include "job/joins.h"
#include "kv/kv.h"
#include "kv/plan.h"

enum { COP_JOINS_ROWS = 32, COP_JOINS_LANES = 2 };

/* joins_tracks.c: what the tracks differ in. */
typedef enum cop__joins_keys {
    COP__KEYS_KEPT,     /* of the branches */
    COP__KEYS_COMPUTED, /* again, at the join */
    COP__KEYS_NONE,     /* the paths are out of view */
    COP__KEYS_REPLIES,  /* out of view but for what they return, which is computed behind the
                           parent's */
    COP__KEYS_LIVE,     /* of paths that saw each other while they were decoded (joins_live.c) */
} cop__joins_keys;

typedef struct cop__joins_variant {
    const char *name;
    cop__joins_keys keys;
    bool siblings_seen; /* computed again with the paths before it in view */
    bool paths_equal;   /* computed again from one position, for every path */
    bool after_max;     /* the text after the join at 1 + the largest position, else counted on */
    bool reversed;      /* the paths in the opposite order */
    bool other_arith;
} cop__joins_variant;

typedef struct cop__joins_tracks { /* those of one tree, and the contrasts between them */
    cop__joins_variant variants[COP_JOINS_TRACKS];
    cop_joins_contrast contrasts[COP_JOINS_CONTRASTS];
    uint32_t n_tracks, n_contrasts;
    bool with_replies;
    const char *omitted[COP_JOINS_OMITTED]; /* rules that are left out, and why */
    uint32_t n_omitted;
} cop__joins_tracks;
cop__joins_tracks cop__joins_choose(const cop_model *model, const cop_trajectory *trajectory,
                                    const cop_dialect *dialect);
/* The table's head: what was compared, under which names. */
void cop__joins_describe(const cop__joins_tracks *tracks, const cop_model *model,
                         const cop_trajectory *trajectory, const cop_joins_options *options,
                         cop_joins_table *table);

/* joins_tree.c: stream 0 is the prompt and the main text. */
typedef struct cop__joins_op { /* tokens [begin, end) of the flat text; of a block, all its paths */
    uint32_t begin, end;
    uint32_t first_path, n_paths; /* streams, where n_paths > 0 */
    const cop_block *block;
    uint32_t reply_begin, reply_end; /* of `replies`: what its paths return */
} cop__joins_op;

typedef struct cop__joins_stream {
    uint32_t first_op, n_ops;
} cop__joins_stream;

typedef struct cop__joins_tree {
    int32_t *token;
    cop__joins_op *ops;
    cop__joins_stream *streams;
    cop_token_ids replies; /* empty unless cop__joins_replies was called */
    uint32_t n_tokens, n_ops, n_streams, n_blocks, widest, depth;
} cop__joins_tree;

cop_status cop__joins_tree_create(const cop_trajectory *trajectory, cop__joins_tree *out);
void cop__joins_tree_release(cop__joins_tree *tree);

/* joins_reply.c: finds the replies of every block; the trajectory holds its text. */
cop_status cop__joins_replies(cop__joins_tree *tree, const cop_dialect *dialect,
                              const cop_tokenizer *tokenizer);

/* joins_lane.c: a backend of one arithmetic with its KV. Without a backend (a dry run, which tells
 * how many pages it takes) it keeps the books alone. */
typedef struct cop__joins_cursor {
    cop_node node; /* held; COP_NODE_NONE: not in use */
    uint32_t position;
} cop__joins_cursor;

typedef struct cop__joins_lane {
    const cop_model_shape *shape;
    cop_kv *kv;
    cop_plan *plan;
    cop_backend *backend; /* NULL: a dry run */
    uint64_t token_bytes; /* of K and V, all layers */
    uint64_t rows;        /* computed so far */
    uint32_t max_rows;
} cop__joins_lane;

typedef struct cop__joins_size {
    uint32_t pages, segments, nodes, positions;
    uint32_t rows; /* of a step; at least COP_JOINS_ROWS */
} cop__joins_size;

cop_status cop__joins_lane_create(const cop_model *model, cop_arith arith,
                                  const cop_joins_options *options, const cop__joins_size *size,
                                  bool dry, cop__joins_lane *out);
void cop__joins_lane_release(cop__joins_lane *lane);

/* Opens a segment behind the cursor's view, and stands on it. Close it before another stands. */
cop_status cop__joins_open(cop__joins_lane *lane, cop__joins_cursor *cursor);
/* Computes `n` <= COP_JOINS_ROWS more tokens of it; the logits of the first n_logits rows
 * into [n_logits, vocab]. */
cop_status cop__joins_extend(cop__joins_lane *lane, cop__joins_cursor *cursor, const int32_t *token,
                             uint32_t n, float *logits, uint32_t n_logits);
void cop__joins_close(cop__joins_lane *lane, cop__joins_cursor *cursor);

/* joins_live.c: a block whose paths see each other while they are decoded: what is forced at their
 * begins in one step, then a token of each a step. Path p's cursor is paths[p * stride]; it lets go
 * of what it stands on. No path holds a block. */
cop_status cop__joins_live_block(cop__joins_lane *lane, const cop__joins_tree *tree,
                                 const cop__joins_op *op, const cop__joins_cursor *parent,
                                 cop__joins_cursor *paths, uint32_t stride);
/* The paths' keys behind the cursor's; the text that follows is numbered by tokens. */
cop_status cop__joins_live_join(cop__joins_lane *lane, cop__joins_cursor *paths, uint32_t stride,
                                uint32_t n_paths, cop__joins_cursor *cursor);
uint32_t cop__joins_live_rows(const cop__joins_tree *tree); /* the most of one step */
