/* Texts in what vLLM and SGLang answer: a file of one JSON value, or of one a line.
 *
 * Taken are completions ("choices": [{"text"}]), chat completions ("choices": [{"message":
 * {"content"}}], "reasoning_content" or "reasoning" before it), SGLang's own ({"text",
 * "meta_info"}), lists of any, and lines of batch files ("response": {"body": ..}). Where a server
 * has taken the reasoning out of its tags, the dialect's root tags are put around it again.
 */
#pragma once

#include <stdbool.h>

#include "base/memory.h"
#include "base/status.h"
#include "reason/dialect.h"

/* Called for each text, in order. `which` is "" for a file's only one, else "-2", "-2-1": answer
 * and choice, from 1 and from 0. */
typedef cop_status cop_response_text(void *context, const char *which, const char *text,
                                     size_t bytes);

/* Whether a file of this name holds answers: it ends in .json or .jsonl. */
bool cop_response_name(const char *path);
cop_status cop_response_texts(const cop_dialect *dialect, const char *path, const cop_buffer *file,
                              cop_response_text *text, void *context);
