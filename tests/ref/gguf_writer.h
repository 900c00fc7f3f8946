/* Builds small GGUF files in memory, valid ones and, by changing the parts before
 * gguf_writer_finish or the bytes after it, broken ones. Written from the format's description, and
 * independent of the loader.
 *
 *   gguf_writer w = {0};
 *   gguf_writer_llama(&w, &(gguf_writer_model){.shape = {...}, .dtype = COP_Q4_1});
 *   gguf_writer_byte_tokenizer(&w, "gpt-2", 300);
 *   gguf_image image = gguf_writer_finish(&w);
 *   gguf_image_save(&image, path);
 *
 * Setting a key again replaces it. Running out of memory ends the test.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/model.h"

typedef struct gguf_writer_key {
    char *name;
    size_t name_bytes;
    uint32_t type;  /* gguf_metadata_value_type */
    uint8_t *value; /* as it stands in the file */
    size_t bytes;
} gguf_writer_key;

typedef struct gguf_writer_tensor {
    char *name;
    size_t name_bytes;
    uint32_t n_dims;
    uint64_t dims[8]; /* ggml's order: values of a row first */
    uint32_t type;
    uint8_t *data;
    size_t bytes;
    int64_t offset_shift; /* added to the right offset */
} gguf_writer_tensor;

typedef struct gguf_writer { /* zero-initialise */
    gguf_writer_key *keys;
    gguf_writer_tensor *tensors;
    size_t n_keys, n_tensors;
    uint64_t alignment; /* of the data section; 0: 32. The key is the caller's to set. */
    uint32_t version;   /* 0: 3 */
} gguf_writer;

typedef struct gguf_image {
    uint8_t *data; /* malloc */
    size_t bytes;
    size_t tensors_at; /* offset of the first tensor's description */
    size_t data_at;    /* offset of the data section */
} gguf_image;

void gguf_writer_u8(gguf_writer *w, const char *key, uint8_t value);
void gguf_writer_i8(gguf_writer *w, const char *key, int8_t value);
void gguf_writer_u16(gguf_writer *w, const char *key, uint16_t value);
void gguf_writer_i16(gguf_writer *w, const char *key, int16_t value);
void gguf_writer_u32(gguf_writer *w, const char *key, uint32_t value);
void gguf_writer_i32(gguf_writer *w, const char *key, int32_t value);
void gguf_writer_u64(gguf_writer *w, const char *key, uint64_t value);
void gguf_writer_i64(gguf_writer *w, const char *key, int64_t value);
void gguf_writer_f32(gguf_writer *w, const char *key, float value);
void gguf_writer_f64(gguf_writer *w, const char *key, double value);
void gguf_writer_bool(gguf_writer *w, const char *key, bool value);
void gguf_writer_text(gguf_writer *w, const char *key, const char *value);
void gguf_writer_text_array(gguf_writer *w, const char *key, const char *const *values, size_t n);
void gguf_writer_i32_array(gguf_writer *w, const char *key, const int32_t *values, size_t n);
void gguf_writer_f32_array(gguf_writer *w, const char *key, const float *values, size_t n);
/* Any type with any bytes. */
void gguf_writer_raw(gguf_writer *w, const char *key, uint32_t type, const void *value, size_t n);
gguf_writer_key *gguf_writer_find_key(gguf_writer *w, const char *key); /* must exist */
void gguf_writer_remove_key(gguf_writer *w, const char *key);

/* A matrix of `rows` rows (0: a vector); `values` may be NULL for zeros. */
void gguf_writer_matrix(gguf_writer *w, const char *name, cop_dtype type, uint64_t rows,
                        uint64_t cols, const float *values);
gguf_writer_tensor *gguf_writer_find_tensor(gguf_writer *w, const char *name); /* must exist */
void gguf_writer_remove_tensor(gguf_writer *w, const char *name);

/* 18 keys, one of every kind, and four tensors: "a" Q4_1 [3, 64], "b" Q8_0 [2, 32], "vector" F32
 * [5], whose end is no multiple of the alignment, and "last" F16 [2, 8]. Not a model. */
void gguf_writer_every_kind(gguf_writer *w);

/* All metadata and tensors of a small model of the shape's family, Llama where it says nothing,
 * without a tokenizer. Matrices are uniform in +- 1/sqrt(cols), norms around 1, biases around 0;
 * counter-based in the seed. */
typedef struct gguf_writer_model {
    cop_model_shape shape;
    cop_dtype dtype;           /* of the layers' matrices */
    cop_dtype embedding_dtype; /* of embedding and output; 0 is F32 */
    uint64_t seed;
} gguf_writer_model;
void gguf_writer_llama(gguf_writer *w, const gguf_writer_model *model);

typedef struct gguf_writer_vocabulary {
    const char *pre;
    const char *const *tokens;
    const int32_t *types; /* 1 normal, 3 control, 4 user-defined */
    size_t n_tokens;
    const char *const *merges;
    size_t n_merges;
    int32_t bos, eos; /* -1: none */
} gguf_writer_vocabulary;
void gguf_writer_tokenizer(gguf_writer *w, const gguf_writer_vocabulary *vocabulary);
/* One token a byte (ids 0 to 255, in GPT-2's letters), then control tokens "<|0|>", "<|1|>", .. up
 * to vocab, of which the first is the eos. No merges. vocab > 256. */
void gguf_writer_byte_tokenizer(gguf_writer *w, const char *pre, uint32_t vocab);

gguf_image gguf_writer_finish(const gguf_writer *w);
void gguf_writer_release(gguf_writer *w);
void gguf_image_release(gguf_image *image);
void gguf_image_save(const gguf_image *image, const char *path);
