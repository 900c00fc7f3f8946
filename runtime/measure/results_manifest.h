/* The manifest of a result folder: what was run, on what. Written once, compared on resume. */
#pragma once

#include <jansson.h>

#include "base/status.h"

/* The caller's manifest with "schema", "started_utc" and "environment" added; the user's home in
 * texts becomes "~". New reference. */
cop_status cop__manifest_make(const json_t *given, json_t **out);

cop_status cop__manifest_read(const char *path, json_t **out); /* ERR_FORMAT names the place */
cop_status cop__manifest_write(const char *path, const json_t *manifest);

/* ERR_MISMATCH, naming the first key that differs, unless a run of `now` may be added to one of
 * `then`. "command_line", "argv", "started_utc" and the measured "ceilings" may differ; of the
 * environment the build
 * ("coppice") and the CPU's model must agree, since figures of two builds or machines in one table
 * would be compared silently. */
cop_status cop__manifest_match(const char *path, const json_t *then, const json_t *now);
