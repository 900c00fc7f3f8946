/* Chat formats as data: configs/chat/<name>.json, {"name", "source", "needs": ["<|im_start|>", ..],
 * "system_open", "system_close", "system", "user_open", "user_close", "assistant_open"}. `system`
 * is the text used when none is given; "" leaves the system turn out. */
#pragma once

#include "base/memory.h"
#include "base/status.h"
#include "model/tokenizer.h"

/* Wraps a user's message in the first format (by name of the file) whose special tokens the
 * tokenizer has; ERR_UNSUPPORTED, naming the formats, when there is none. Appends to `out`. `root`
 * holds configs/. */
cop_status cop_chat_apply(const char *root, const cop_tokenizer *tokenizer, const char *message,
                          size_t bytes, cop_buffer *out);
/* What it puts before a message and behind it, up to where the answer begins; appends to both. */
cop_status cop_chat_frame(const char *root, const cop_tokenizer *tokenizer, cop_buffer *before,
                          cop_buffer *after);
