/* A safetensors file, mapped and checked: 8 bytes of header length, a JSON header, the tensors'
 * bytes (huggingface/safetensors, README "Format"). The file is hostile until open has returned:
 * lengths, offsets, shapes and types are checked against the file before they are used, and the
 * tensors are known to cover the data exactly, without overlap and without holes.
 *
 * The header is read by a parser of its own that accepts just what the format has, in one pass and
 * without recursion, so nothing in it can nest, and memory stays below 16 MB whatever it holds.
 * Nothing is copied: names and data borrow from the mapping and live until close. Data need not be
 * aligned; cop_safetensors_read widens it safely. Immutable once open; any thread.
 *
 * Refused though the format might allow it: escapes in names, more than 8 dimensions, more than
 * 65536 tensors.
 */
#pragma once

#include "base/status.h"
#include "model/gguf.h"

enum { COP_SAFETENSORS_DIMS = 8 };

/* X(name, bytes of one value) */
#define COP_SAFETENSORS_TYPES(X)                                                                   \
    X(F64, 8)                                                                                      \
    X(F32, 4)                                                                                      \
    X(F16, 2)                                                                                      \
    X(BF16, 2)                                                                                     \
    X(I64, 8)                                                                                      \
    X(I32, 4)                                                                                      \
    X(I16, 2)                                                                                      \
    X(I8, 1)                                                                                       \
    X(U64, 8)                                                                                      \
    X(U32, 4)                                                                                      \
    X(U16, 2)                                                                                      \
    X(U8, 1)                                                                                       \
    X(BOOL, 1)                                                                                     \
    X(F8_E4M3, 1)                                                                                  \
    X(F8_E5M2, 1)

typedef enum cop_safetensors_type {
#define COP_SAFETENSORS_ENUM(name, bytes) COP_ST_##name,
    COP_SAFETENSORS_TYPES(COP_SAFETENSORS_ENUM)
#undef COP_SAFETENSORS_ENUM
} cop_safetensors_type;

typedef struct cop_safetensors_tensor {
    cop_text name;
    cop_safetensors_type type;
    uint32_t n_dims;
    uint64_t dims[COP_SAFETENSORS_DIMS];
    uint64_t values; /* the product of the dimensions */
    const uint8_t *data;
    uint64_t bytes;
} cop_safetensors_tensor;

typedef struct cop_safetensors cop_safetensors;

cop_status cop_safetensors_open(const char *path, cop_safetensors **out);
/* For fuzzing; the bytes are borrowed. */
cop_status cop_safetensors_open_memory(const void *data, size_t bytes, cop_safetensors **out);
void cop_safetensors_close(cop_safetensors *file);
cop_status cop_safetensors_check_size(const cop_safetensors *file); /* as cop_gguf_check_size */
const char *cop_safetensors_source(const cop_safetensors *file);

size_t cop_safetensors_count(const cop_safetensors *file);
/* By rising name; index < count. */
const cop_safetensors_tensor *cop_safetensors_at(const cop_safetensors *file, size_t index);
/* NULL when there is none of that name. */
const cop_safetensors_tensor *cop_safetensors_find(const cop_safetensors *file, const char *name);
const char *cop_safetensors_type_name(cop_safetensors_type type);
/* Widens every value; F32, F16 and BF16 alone, the others are ERR_UNSUPPORTED. A file that has
 * shrunk meanwhile is an error, not a fault. */
cop_status cop_safetensors_read(const cop_safetensors *file, const cop_safetensors_tensor *tensor,
                                float *out);
