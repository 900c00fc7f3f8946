/* What the paths of a block return under a dialect that joins by message: cut out of the recorded
 * text as live decoding cuts it, from the first reply text to before the path's closing tag. */
#include <string.h>

#include "job/joins_internal.h"

/* The path's text without its header, which is what the branch was given. */
static cop_status path_text(const cop_stream *path, cop_buffer *out) {
    for (uint32_t i = 0; i < path->n_pieces; i++) {
        const cop_piece *piece = &path->pieces[i];
        if (!piece->block && (i > 0 || piece->forced != COP_FORCED_BRANCH))
            COP_TRY(cop_buffer_append(out, piece->text, piece->bytes));
    }
    return cop_buffer_append(out, "", 0);
}

static const char *find(const char *text, size_t bytes, const cop_tag *tag) {
    return bytes ? memmem(text, bytes, tag->text, tag->bytes) : NULL;
}

static void cut_reply(const cop_dialect *dialect, const char *text, size_t bytes,
                      const char **reply, size_t *length) {
    const cop_tag *close = &dialect->close[COP_EL_PATH];
    const char *end = close->bytes ? find(text, bytes, close) : NULL, *from = NULL;
    bytes = end ? (size_t)(end - text) : bytes; /* what stands behind it is no part of the path */
    for (uint32_t i = 0; i < dialect->n_reply_from; i++) {
        const char *found = find(text, bytes, &dialect->reply_from[i]);
        if (found && (!from || found < from))
            from = found;
    }
    *reply = from ? from : dialect->reply_otherwise;
    *length = from ? bytes - (size_t)(from - text) : strlen(dialect->reply_otherwise);
}

cop_status cop__joins_replies(cop__joins_tree *tree, const cop_dialect *dialect,
                              const cop_tokenizer *tokenizer) {
    cop_status status = COP_OK;
    for (uint32_t i = 0; status == COP_OK && i < tree->n_ops; i++) {
        cop__joins_op *op = &tree->ops[i];
        op->reply_begin = (uint32_t)tree->replies.count;
        for (uint32_t p = 0; status == COP_OK && p < op->n_paths; p++) {
            cop_buffer text = {0};
            const char *reply = "";
            size_t length = 0;
            status = path_text(&op->block->paths[p], &text);
            if (status == COP_OK) {
                cut_reply(dialect, text.data, text.bytes, &reply, &length);
                status = cop_tokenizer_encode(tokenizer, reply, length,
                                              (cop_encode_options){.no_bos = true}, &tree->replies);
            }
            cop_buffer_release(&text);
        }
        op->reply_end = (uint32_t)tree->replies.count;
    }
    return status;
}
