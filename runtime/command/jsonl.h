/* JSON lines in: a whole file or stdin, one object a line.
 *
 * A line is read with jansson, NUL characters allowed and doubled keys refused; a line that is
 * empty, not JSON or not an object is ERR_FORMAT, "FILE:LINE: what". An empty last line is none.
 * Keys that nobody asks for are let through: data files carry notes.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/memory.h"
#include "base/status.h"
#include "model/tokenizer.h"

typedef struct cop_jsonl {
    const char *name; /* for messages */
    cop_buffer text;
    size_t at;
    size_t line; /* number of the last line that was read, from 1 */
} cop_jsonl;

/* "-" is stdin. Zero-initialise; release with cop_jsonl_close, whatever open said. */
cop_status cop_jsonl_open(const char *path, cop_jsonl *out);
void cop_jsonl_close(cop_jsonl *file);

/* The next line's object, NULL at the end; the caller owns it. */
cop_status cop_jsonl_next(cop_jsonl *file, json_t **out);

/* Puts "FILE:LINE: " in front of the message. */
cop_status cop_jsonl_fail(const cop_jsonl *file, cop_status status);

/* The token ids of an array under "ids": whole numbers below `vocab`. */
cop_status cop_jsonl_ids(const json_t *object, uint32_t vocab, cop_token_ids *ids);
/* The text under "text". Borrowed from the object; may hold NUL. */
cop_status cop_jsonl_text(const json_t *object, const char **text, size_t *bytes);
