/* A result folder: manifest.json (immutable) + results.jsonl (append-only) + timelines.
 *
 *   manifest.json     schema version, command line, resolved config, seed, model (name, sha256,
 *                     random or not, arithmetic), environment (commit, compiler, flags, CPU,
 * caches, kernel, libraries), clock "wall" or "virtual", UTC start results.jsonl     one
 * self-contained line a cell and repeat: {"v": 1, "cell": key, "repeat": i, "problem": ..,
 * "method": .., "metrics": {..}, .., "crc": "xxxxxxxx"}; flushed to disk after each line. NaN is
 * null, with "<name>_why". The checksum is that of the line's bytes without the member "crc".
 *   trace-<cell>.json Chrome traces
 *   answers-<cell>.jsonl  what each problem of a set was answered, a line each
 *
 * Opening an existing folder resumes it: complete lines with a good checksum count as done, a torn
 * last line is cut off (and reported), a manifest of another config or model is an error that names
 * the difference; nothing is ever overwritten. The schema is described in results/README.md.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "measure/metrics.h"
#include "measure/timeline.h"

enum { COP_RESULTS_SCHEMA = 1 };

typedef struct cop_results cop_results;

typedef struct cop_results_options {
    const char *folder; /* made when it does not exist */
    json_t *manifest;   /* borrowed: config, model, arithmetic, method list, ..; the environment is
                           added */
    bool resume;        /* false: a folder that already holds results is an error */
} cop_results_options;

cop_status cop_results_open(const cop_results_options *options, cop_results **out);
void cop_results_close(cop_results *results);
/* What opening had to repair (a torn last line), for the command to print; "" when nothing. */
const char *cop_results_note(const cop_results *results);

/* Cell keys are short hex hashes of a JSON value (canonical: sorted keys, compact). */
enum { COP_CELL_KEY_BYTES = 17 };
cop_status cop_results_cell_key(const json_t *identity, char key[COP_CELL_KEY_BYTES]);
bool cop_results_done(const cop_results *results, const char *cell, uint32_t repeat);

/* Appends one line and flushes it to disk. `record` (borrowed) holds what identifies and describes
 * the cell; metrics are added under "metrics", unless NULL. */
cop_status cop_results_append(cop_results *results, const char *cell, uint32_t repeat,
                              const json_t *record, const cop_metrics *metrics);
/* The trace of a cell's first measurement; later calls for the same cell change nothing. */
cop_status cop_results_trace(cop_results *results, const char *cell, const char *title,
                             const cop_timeline *timeline);

/* A file of its own beside them ("answers-<cell>.jsonl"), whole or not at all; one that is there
 * already is replaced. `name` is no path. */
cop_status cop_results_file(cop_results *results, const char *name, const void *data, size_t bytes);

/* metrics <-> JSON object with the names of bench/METRICS.md: {"time": {"wall_ms": .., "terms_ms":
 * {..}, "remainder_ms", "remainder_share", ..}, "tokens": {..}, "steps": {..}, "kv": {..}, ..}. */
json_t *cop_metrics_to_json(const cop_metrics *metrics);

/* Reading, for the report and for compare: calls `each` for every complete line, in order. */
typedef cop_status cop_results_visit(void *context, const json_t *line);
cop_status cop_results_read(const char *folder, json_t **manifest, cop_results_visit *each,
                            void *context);
