/* A trajectory: one recorded problem, its tree with the tokens (or only their counts) of every
 * branch.
 *
 * A stream is a list of pieces; a piece is text or a block; a block is a list of paths, each a
 * stream. Text was cut once, at tag boundaries, when it was imported, and every join rule replays
 * the same pieces; a separating newline belongs to the tag that follows it.
 *
 * JSONL, one trajectory a line:
 *   {"v": 1, "id": "5", "dialect": "multiverse", "source": "5.xml", "blocks": 3, "paths": 6,
 *    "depth": 1, "tokens": 3952 | absent, "tokenizer": name | absent,
 *    "prompt": [PIECE, ..], "stream": [PIECE, ..]}
 *   PIECE  {"text": "..", "n": 12, "ids": [..], "forced": "branch" | "join"}   each but one
 * optional
 *          {"block": [[PIECE, ..], [PIECE, ..]]}
 * "forced" pieces are prefilled under fork rules and decoded when flattened: a path's header
 * ("\n<Path>\n1:"), what the parent is given before a block, and the join's text
 * ("\n<Conclusion>"). Counts only: "n" without "text" and "ids". Unknown keys are errors; so are
 * counts that disagree with the tree.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/memory.h"
#include "base/status.h"
#include "model/tokenizer.h"
#include "reason/dialect.h"

typedef enum cop_forced { COP_FORCED_NOT, COP_FORCED_BRANCH, COP_FORCED_JOIN } cop_forced;

typedef struct cop_block cop_block;

typedef struct cop_piece {
    const cop_block *block; /* not NULL: a block, and nothing else is set */
    const char *text;       /* NULL when only counts are recorded */
    size_t bytes;
    const int32_t *ids; /* NULL until tokenised */
    uint32_t n;         /* tokens; 0 until known */
    cop_forced forced;
} cop_piece;

typedef struct cop_stream {
    cop_piece *pieces;
    uint32_t n_pieces;
} cop_stream;

struct cop_block {
    cop_stream *paths;
    uint32_t n_paths;
};

typedef enum cop_token_origin { /* what the ids of a replay are; every table says so */
                                COP_TOKENS_NONE,     /* not yet known */
                                COP_TOKENS_RECORDED, /* "ids" of the file */
                                COP_TOKENS_TEXT,   /* the text, tokenised with the model's tokenizer
                                                    */
                                COP_TOKENS_COUNTS, /* counts only: placeholder ids */
                                COP_TOKENS_PRETOKENS, /* no tokenizer: one placeholder id a
                                                         pre-token of the text */
} cop_token_origin;
const char *cop_token_origin_text(cop_token_origin origin); /* "token counts only", .. */

typedef struct cop_trajectory {
    const char *id, *dialect, *source;
    uint32_t blocks, paths, depth; /* nested ones included; depth = most blocks open at once */
    cop_stream prompt, stream;
    cop_token_origin origin;
    uint64_t n_tokens; /* of prompt and stream together, once known */
    bool has_text;
    const char *tokenizer; /* of the recorded counts and ids; NULL: none recorded */
} cop_trajectory;

typedef struct cop_trajectories { /* owns everything it points to, through one arena */
    cop_arena *arena;
    cop_trajectory *list;
    uint32_t count;
} cop_trajectories;

void cop_trajectories_destroy(cop_trajectories *set);

/* Reads a JSONL file; an error names file, line and key. */
cop_status cop_trajectories_read(const char *path, cop_trajectories **out);
/* The same of text in memory; `source` stands for the file in messages. */
cop_status cop_trajectories_read_text(const char *text, size_t bytes, const char *source,
                                      cop_trajectories **out);

/* Parses recorded text with a dialect's tags (strict). The prompt is the text before the root's
 * opening tag, in which tags are ordinary text, or, where the text has none, before the first
 * block. On failure `into` is as it was; messages say line and byte, the caller adds the file.
 * Pieces: a tag with the newline before it; the text between tags. A path begins with the recorded
 * bytes that equal branch_prompt, or, where they differ, with its tag alone; so does a join with
 * join_prompt. Text between two paths stays with the earlier one, behind its closing tag. */
cop_status cop_trajectory_parse(const cop_dialect *dialect, const char *id, const char *source,
                                const char *text, size_t bytes, cop_trajectories *into);
cop_status cop_trajectories_create(cop_trajectories **out); /* empty, for _parse */

/* Gives every piece its ids: recorded ones as they are (checked against `vocab`), else the text
 * tokenised (pieces apart, no BOS), else placeholder ids drawn from (seed, trajectory id, order of
 * the piece), never special ones, from 0 .. vocab-1. tokenizer may be NULL: text then counts as the
 * file recorded it, else one id a pre-token. ERR_MISMATCH on an id that is not in the vocabulary.
 */
cop_status cop_trajectories_tokenize(cop_trajectories *set, const cop_tokenizer *tokenizer,
                                     uint32_t vocab, uint64_t seed);

typedef struct cop_trajectory_write_options {
    bool counts_only; /* no text, no ids: "n" alone */
    bool ids;         /* write ids where known */
} cop_trajectory_write_options;
/* The caller's to release; NULL when memory is short, or for counts_only when no tokenizer's counts
 * are known. Placeholder ids and pre-token counts are never written. */
json_t *cop_trajectory_to_json(const cop_trajectory *trajectory,
                               cop_trajectory_write_options options);
