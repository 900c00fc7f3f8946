#include <string.h>

#include "job/joins_internal.h"

typedef struct counts {
    uint64_t tokens, ops, streams;
    uint32_t blocks, widest;
} counts;

static void count_stream(const cop_stream *stream, counts *c) {
    c->streams++;
    c->ops += stream->n_pieces;
    for (uint32_t i = 0; i < stream->n_pieces; i++) {
        const cop_piece *piece = &stream->pieces[i];
        if (!piece->block) {
            c->tokens += piece->n;
            continue;
        }
        c->blocks++;
        c->widest = piece->block->n_paths > c->widest ? piece->block->n_paths : c->widest;
        for (uint32_t p = 0; p < piece->block->n_paths; p++)
            count_stream(&piece->block->paths[p], c);
    }
}

static void compile(cop__joins_tree *tree, uint32_t self, const cop_stream *const *parts,
                    uint32_t n_parts);

static void compile_block(cop__joins_tree *tree, cop__joins_op *op, const cop_block *block) {
    *op = (cop__joins_op){.begin = tree->n_tokens,
                          .first_path = tree->n_streams,
                          .n_paths = block->n_paths,
                          .block = block};
    tree->n_streams += block->n_paths;
    for (uint32_t p = 0; p < block->n_paths; p++) {
        const cop_stream *path = &block->paths[p];
        compile(tree, op->first_path + p, &path, 1);
    }
    op->end = tree->n_tokens;
}

/* A stream of one or two parts, one after the other. Text that nothing but tags divides is one
 * operation. */
static void compile(cop__joins_tree *tree, uint32_t self, const cop_stream *const *parts,
                    uint32_t n_parts) {
    cop__joins_stream *stream = &tree->streams[self];
    uint32_t room = 0;
    for (uint32_t k = 0; k < n_parts; k++)
        room += parts[k]->n_pieces;
    stream->first_op = tree->n_ops; /* paths' operations lie behind the stream's own */
    tree->n_ops += room;
    cop__joins_op *last = NULL;
    for (uint32_t k = 0; k < n_parts; k++)
        for (uint32_t i = 0; i < parts[k]->n_pieces; i++) {
            const cop_piece *piece = &parts[k]->pieces[i];
            if (piece->block) {
                last = &tree->ops[stream->first_op + stream->n_ops++];
                compile_block(tree, last, piece->block);
            } else if (piece->n > 0) {
                if (!last || last->n_paths > 0) {
                    last = &tree->ops[stream->first_op + stream->n_ops++];
                    last->begin = tree->n_tokens;
                }
                memcpy(tree->token + tree->n_tokens, piece->ids, piece->n * sizeof *tree->token);
                tree->n_tokens += piece->n;
                last->end = tree->n_tokens;
            }
        }
}

cop_status cop__joins_tree_create(const cop_trajectory *trajectory, cop__joins_tree *out) {
    counts c = {0};
    *out = (cop__joins_tree){0};
    count_stream(&trajectory->prompt, &c);
    count_stream(&trajectory->stream, &c);
    if (c.tokens > INT32_MAX || c.ops > INT32_MAX)
        return COP_FAIL(COP_ERR_UNSUPPORTED, "trajectory \"%s\" is too long", trajectory->id);
    if (c.blocks == 0)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "trajectory \"%s\" has no block: nothing is joined in it", trajectory->id);
    out->token = cop_calloc(c.tokens + 1, sizeof *out->token);
    out->ops = cop_calloc(c.ops + 1, sizeof *out->ops);
    out->streams = cop_calloc(c.streams, sizeof *out->streams);
    if (!out->token || !out->ops || !out->streams)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for trajectory \"%s\"", trajectory->id);
    out->n_blocks = c.blocks;
    out->widest = c.widest;
    out->depth = trajectory->depth;
    out->n_streams = 1;
    const cop_stream *parts[] = {&trajectory->prompt, &trajectory->stream};
    compile(out, 0, parts, 2);
    return COP_OK;
}

void cop__joins_tree_release(cop__joins_tree *tree) {
    cop_free(tree->token);
    cop_free(tree->ops);
    cop_free(tree->streams);
    cop_token_ids_release(&tree->replies);
}
