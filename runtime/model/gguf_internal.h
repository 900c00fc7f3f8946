/* What lies behind a cop_gguf, shared by the parser, the lookups and nobody else.
 *
 * Entries stand in the file's order; *_sorted are their indices by name (bytes, then length), so
 * that a lookup and the search for duplicates cost n log n whatever the file's author chose.
 */
#pragma once

#include "model/gguf.h"

typedef enum cop__gguf_type { /* numbered as gguf_metadata_value_type */
                              COP__GGUF_U8 = 0,
                              COP__GGUF_I8 = 1,
                              COP__GGUF_U16 = 2,
                              COP__GGUF_I16 = 3,
                              COP__GGUF_U32 = 4,
                              COP__GGUF_I32 = 5,
                              COP__GGUF_F32 = 6,
                              COP__GGUF_BOOL = 7,
                              COP__GGUF_TEXT = 8,
                              COP__GGUF_ARRAY = 9,
                              COP__GGUF_U64 = 10,
                              COP__GGUF_I64 = 11,
                              COP__GGUF_F64 = 12,
} cop__gguf_type;

/* Limits of our own. The largest public models have some hundred keys and some thousand tensors;
 * with these, and tables bounded by the file's size, what is allocated stays below the file's size
 * + 16 MB whatever the counts say. */
enum {
    COP__GGUF_KEYS_MAX = 16 * 1024,
    COP__GGUF_TENSORS_MAX = 64 * 1024,
    COP__GGUF_TEXTS_MAX = 4 * 1024 * 1024,
    COP__GGUF_TABLE_SLACK_BYTES = 4 * 1024 * 1024,
    COP__GGUF_KEY_BYTES_MAX = 65535, /* both by the specification */
    COP__GGUF_NAME_BYTES_MAX = 64,
    COP__GGUF_ALIGNMENT_MIN = 8,
    COP__GGUF_ALIGNMENT_MAX = 1024 * 1024,
    COP__GGUF_ALIGNMENT_DEFAULT = 32,
};

typedef struct cop__gguf_key {
    cop_text name;
    cop__gguf_type type; /* of the value, or of an array's items; never ARRAY */
    bool array;
    uint64_t count;      /* items of an array, bytes of a text, else 1 */
    const uint8_t *data; /* little endian, unaligned; not for arrays of texts */
    void *table;         /* owned: cop_text[count], or int32_t[count] where data is not aligned */
} cop__gguf_key;

typedef struct cop__gguf_tensor {
    cop_text name;
    cop_tensor tensor;
    uint64_t offset; /* in the data section */
} cop__gguf_tensor;

struct cop_gguf {
    char *source;
    const uint8_t *data;
    uint64_t bytes;
    int descriptor; /* -1 when it is the caller's memory */
    uint64_t alignment;
    cop__gguf_key *keys;
    uint32_t *keys_sorted;
    size_t n_keys;
    cop__gguf_tensor *tensors;
    uint32_t *tensors_sorted;
    size_t n_tensors;
};

/* Fills keys and tensors from data; the caller closes the gguf on failure. */
cop_status cop__gguf_parse(cop_gguf *gguf);

/* Index of the entry of that name, or -1. */
ptrdiff_t cop__gguf_find_key(const cop_gguf *gguf, const char *name);
ptrdiff_t cop__gguf_find_tensor(const cop_gguf *gguf, const char *name);

/* A name from the file, cut and made printable, for a message. */
enum { COP__GGUF_SHOWN_BYTES = 80 };
typedef struct cop__gguf_shown {
    char text[COP__GGUF_SHOWN_BYTES];
} cop__gguf_shown;
cop__gguf_shown cop__gguf_show(cop_text name);

uint64_t cop__gguf_load(const uint8_t *from, uint32_t bytes); /* little endian */
