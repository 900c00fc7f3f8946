/* A GGUF file, mapped and checked. The file is hostile until cop_gguf_open has returned: every
 * count, length, offset, type and shape is checked against the file before it is used, and every
 * tensor's bytes are known to lie inside the mapping. Nothing is copied: strings and tensor data
 * borrow from the mapping and live until cop_gguf_close. A file that shrinks while it is mapped is
 * found by cop_gguf_check_size, which callers run before long reads.
 *
 * Format: GGUF v2 and v3, little endian (ggml, docs/gguf.md). Read-only after opening: any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum cop_dtype { /* numbered as ggml_type */
                         COP_F32 = 0,
                         COP_F16 = 1,
                         COP_Q4_0 = 2,
                         COP_Q4_1 = 3,
                         COP_Q8_0 = 8,
                         COP_BF16 = 30,
} cop_dtype;

enum { COP_BLOCK_VALUES = 32 }; /* values in a block of Q4_0, Q4_1 and Q8_0, along K */

const char *cop_dtype_name(cop_dtype type); /* "F32", "Q4_1", .. */
bool cop_dtype_known(uint32_t type);
uint32_t cop_dtype_block_values(cop_dtype type); /* 1 or 32 */
uint32_t cop_dtype_block_bytes(cop_dtype type);

/* Widens `count` values (a multiple of the block) to f32, exactly as the format defines them. */
void cop_dtype_widen(cop_dtype type, const void *data, size_t count, float *out);
/* The other way, a multiple of the block too, of finite values: floats to nearest even, blocks by
 * their extremes. The same bytes on every machine. */
void cop_dtype_narrow(cop_dtype type, const float *values, size_t count, void *out);
/* How many of `count` stored values are NaN or infinite once widened: legal, and worth a report. */
uint64_t cop_dtype_count_nonfinite(cop_dtype type, const void *data, size_t count);

/* A matrix [rows, cols], row-major as stored: rows = outputs, cols = inputs (K). Vectors: rows = 1.
 */
typedef struct cop_tensor {
    cop_dtype type;
    uint64_t rows, cols;
    const void *data; /* borrowed */
    uint64_t bytes;
} cop_tensor;

typedef struct cop_text { /* borrowed bytes, not NUL-terminated */
    const char *data;
    size_t bytes;
} cop_text;

typedef struct cop_gguf cop_gguf;

cop_status cop_gguf_open(const char *path, cop_gguf **out);
cop_status cop_gguf_open_memory(const void *data, size_t bytes, cop_gguf **out); /* for fuzzing */
void cop_gguf_close(cop_gguf *gguf);
cop_status cop_gguf_check_size(const cop_gguf *gguf); /* COP_ERR_IO once the file has shrunk */
const char *cop_gguf_source(const cop_gguf *gguf);    /* the path, for messages */
/* Hex SHA-256 of the whole file; read again, not through the mapping. Slow. */
cop_status cop_gguf_sha256(const cop_gguf *gguf, char hex[65]);

/* Metadata by key. The _u64, _f64, _bool and _text forms fail with ERR_FORMAT, naming the key, when
 * it is missing or of another kind; integers of every width are accepted, negative ones refused. */
bool cop_gguf_has(const cop_gguf *gguf, const char *key);
size_t cop_gguf_key_count(const cop_gguf *gguf);
cop_text cop_gguf_key_name(const cop_gguf *gguf, size_t index); /* in the file's order */
cop_status cop_gguf_u64(const cop_gguf *gguf, const char *key, uint64_t *out);
cop_status cop_gguf_f64(const cop_gguf *gguf, const char *key, double *out);
cop_status cop_gguf_bool(const cop_gguf *gguf, const char *key, bool *out);
cop_status cop_gguf_text(const cop_gguf *gguf, const char *key, cop_text *out);

/* Arrays. Text arrays come as offsets resolved once into a table owned by the gguf. */
cop_status cop_gguf_text_array(const cop_gguf *gguf, const char *key, const cop_text **out,
                               size_t *count);
cop_status cop_gguf_i32_array(const cop_gguf *gguf, const char *key, const int32_t **out,
                              size_t *count);

size_t cop_gguf_tensor_count(const cop_gguf *gguf);
/* In the file's order; index < count. */
cop_text cop_gguf_tensor_name(const cop_gguf *gguf, size_t index);
const cop_tensor *cop_gguf_tensor_at(const cop_gguf *gguf, size_t index);
/* NULL when there is none of that name. */
const cop_tensor *cop_gguf_tensor(const cop_gguf *gguf, const char *name);
uint64_t cop_gguf_bytes(const cop_gguf *gguf);
