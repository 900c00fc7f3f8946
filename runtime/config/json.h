/* Strict reading of JSON configs: typed getters with ranges, and errors that name the file, the key
 * and what would be accepted. Duplicate keys are refused by the parser, unknown ones by
 * cop_json_only, which every reader of an object calls once.
 *
 *   cop_json root;
 *   uint32_t layers, seed = 1;
 *   COP_TRY(cop_json_load("configs/x.json", &root));
 *   cop_status status = COP_JSON_ONLY(&root, "layers", "seed");
 *   if (status == COP_OK)
 *       status = cop_json_u32(&root, "layers", 1, 1000, COP_JSON_REQUIRED, &layers);
 *   if (status == COP_OK)
 *       status = cop_json_u32(&root, "seed", 0, UINT32_MAX, COP_JSON_OPTIONAL, &seed);
 *   cop_json_release(&root);
 *
 * A cop_json is a value and where it stands. Only a root owns anything; children from
 * cop_json_object, _array and _at borrow from the value that they came from, which must stay where
 * it is in memory. `key` is a key of an object; NULL means the value itself (an array's item).
 * A missing optional key leaves *out as it was. `null` counts as a wrong kind, not as missing.
 * Failures are ERR_CONFIG; ERR_IO when the file cannot be read.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

typedef struct cop_json {
    json_t *value; /* a root's is owned by it; NULL when an optional child is missing */
    const struct cop_json *parent; /* NULL at a root */
    const char *key;               /* in the parent; NULL in an array */
    size_t index;                  /* in the parent when that is an array */
    char *source;                  /* a root's file name, owned */
} cop_json;

typedef enum cop_json_presence { COP_JSON_REQUIRED, COP_JSON_OPTIONAL } cop_json_presence;

/* The root must be an object. Zero-initialised by both, so that a failed root may be released. */
cop_status cop_json_load(const char *path, cop_json *root);
/* `source` stands in messages, for example "runs.jsonl:17". */
cop_status cop_json_parse(const char *text, size_t bytes, const char *source, cop_json *root);
void cop_json_release(cop_json *root);

/* Fails on any key of the object that is not in `known` (ends with NULL), and names them all. */
cop_status cop_json_only(const cop_json *object, const char *const known[]);
#define COP_JSON_ONLY(object, ...) cop_json_only((object), (const char *const[]){__VA_ARGS__, NULL})

bool cop_json_has(const cop_json *object, const char *key);

/* Integers must be written as integers (3.0 is refused); bounds are inclusive. */
cop_status cop_json_u32(const cop_json *object, const char *key, uint32_t min, uint32_t max,
                        cop_json_presence presence, uint32_t *out);
cop_status cop_json_u64(const cop_json *object, const char *key, uint64_t min, uint64_t max,
                        cop_json_presence presence, uint64_t *out); /* JSON's reach: 2^63 - 1 */
cop_status cop_json_i64(const cop_json *object, const char *key, int64_t min, int64_t max,
                        cop_json_presence presence, int64_t *out);
cop_status cop_json_f64(const cop_json *object, const char *key, double min, double max,
                        cop_json_presence presence, double *out); /* integers are accepted */
cop_status cop_json_bool(const cop_json *object, const char *key, cop_json_presence presence,
                         bool *out);
/* Borrowed from the document, never empty. */
cop_status cop_json_text(const cop_json *object, const char *key, cop_json_presence presence,
                         const char **out);
/* One of `names` (ends with NULL); *out is its index. */
cop_status cop_json_choice(const cop_json *object, const char *key, const char *const names[],
                           cop_json_presence presence, uint32_t *out);

/* Children. A missing optional one has value NULL; an array's count is then 0. */
cop_status cop_json_object(const cop_json *object, const char *key, cop_json_presence presence,
                           cop_json *child);
cop_status cop_json_array(const cop_json *object, const char *key, cop_json_presence presence,
                          cop_json *child);
size_t cop_json_count(const cop_json *array);
cop_json cop_json_at(const cop_json *array, size_t index); /* index < count */

/* For checks of one's own: fails with "<file>: <path of key>: <message>". */
cop_status cop_json_fail(const cop_json *object, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));

/* A JSON string of any bytes, for lines that programs read: what is no UTF-8 is written as U+FFFD,
 * a byte at a time. */
cop_status cop_json_append_string(cop_buffer *out, const char *text, size_t bytes);
