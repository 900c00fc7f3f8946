/* What `coppice info` tells of dialects. */
#pragma once

#include <jansson.h>

#include "base/memory.h"
#include "base/status.h"

/* One dialect as its file has it, "supported" and why not among the first; the caller's. */
cop_status cop_info_dialect(const char *name, json_t **out);

/* Every dialect of configs/dialects as a table in Markdown: the one of its README. */
cop_status cop_info_dialects(cop_buffer *out);
