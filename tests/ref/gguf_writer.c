#include "ref/gguf_writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

typedef struct bytes {
    uint8_t *data;
    size_t bytes, capacity;
} bytes;

static void *must(void *pointer) {
    if (!pointer) {
        fputs("gguf_writer: out of memory\n", stderr);
        abort();
    }
    return pointer;
}

static void put(bytes *to, const void *data, size_t n) {
    if (to->bytes + n > to->capacity) {
        to->capacity = 2 * (to->bytes + n) + 64;
        to->data = must(realloc(to->data, to->capacity));
    }
    if (n > 0)
        memcpy(to->data + to->bytes, data, n);
    to->bytes += n;
}

static void put_u32(bytes *to, uint32_t value) {
    for (int i = 0; i < 4; i++)
        put(to, &(uint8_t){(uint8_t)(value >> (8 * i))}, 1);
}

static void put_u64(bytes *to, uint64_t value) {
    for (int i = 0; i < 8; i++)
        put(to, &(uint8_t){(uint8_t)(value >> (8 * i))}, 1);
}

static void put_text(bytes *to, const char *text, size_t n) {
    put_u64(to, n);
    put(to, text, n);
}

static ptrdiff_t key_index(const gguf_writer *w, const char *key) {
    for (size_t i = 0; i < w->n_keys; i++)
        if (strcmp(w->keys[i].name, key) == 0)
            return (ptrdiff_t)i;
    return -1;
}

void gguf_writer_raw(gguf_writer *w, const char *key, uint32_t type, const void *value, size_t n) {
    ptrdiff_t index = key_index(w, key);
    if (index < 0) {
        index = (ptrdiff_t)w->n_keys++;
        w->keys = must(realloc(w->keys, w->n_keys * sizeof *w->keys));
        w->keys[index] = (gguf_writer_key){.name = must(strdup(key)), .name_bytes = strlen(key)};
    }
    gguf_writer_key *entry = &w->keys[index];
    free(entry->value);
    entry->type = type;
    entry->bytes = n;
    entry->value = must(malloc(n + 1));
    if (n > 0)
        memcpy(entry->value, value, n);
}

#define SCALAR(name, kind, type)                                                                   \
    void gguf_writer_##name(gguf_writer *w, const char *key, kind value) {                         \
        gguf_writer_raw(w, key, type, &value, sizeof value);                                       \
    }
SCALAR(u8, uint8_t, 0)
SCALAR(i8, int8_t, 1)
SCALAR(u16, uint16_t, 2)
SCALAR(i16, int16_t, 3)
SCALAR(u32, uint32_t, 4)
SCALAR(i32, int32_t, 5)
SCALAR(f32, float, 6)
SCALAR(bool, bool, 7)
SCALAR(u64, uint64_t, 10)
SCALAR(i64, int64_t, 11)
SCALAR(f64, double, 12)
#undef SCALAR

void gguf_writer_text(gguf_writer *w, const char *key, const char *value) {
    bytes b = {0};
    put_text(&b, value, strlen(value));
    gguf_writer_raw(w, key, 8, b.data, b.bytes);
    free(b.data);
}

void gguf_writer_text_array(gguf_writer *w, const char *key, const char *const *values, size_t n) {
    bytes b = {0};
    put_u32(&b, 8);
    put_u64(&b, n);
    for (size_t i = 0; i < n; i++)
        put_text(&b, values[i], strlen(values[i]));
    gguf_writer_raw(w, key, 9, b.data, b.bytes);
    free(b.data);
}

static void number_array(gguf_writer *w, const char *key, uint32_t type, const void *values,
                         size_t n) {
    bytes b = {0};
    put_u32(&b, type);
    put_u64(&b, n);
    put(&b, values, n * 4);
    gguf_writer_raw(w, key, 9, b.data, b.bytes);
    free(b.data);
}

void gguf_writer_i32_array(gguf_writer *w, const char *key, const int32_t *values, size_t n) {
    number_array(w, key, 5, values, n);
}

void gguf_writer_f32_array(gguf_writer *w, const char *key, const float *values, size_t n) {
    number_array(w, key, 6, values, n);
}

gguf_writer_key *gguf_writer_find_key(gguf_writer *w, const char *key) {
    ptrdiff_t index = key_index(w, key);
    return must(index < 0 ? NULL : &w->keys[index]);
}

void gguf_writer_remove_key(gguf_writer *w, const char *key) {
    gguf_writer_key *entry = gguf_writer_find_key(w, key);
    free(entry->name);
    free(entry->value);
    w->n_keys--;
    memmove(entry, entry + 1, (size_t)(w->keys + w->n_keys - entry) * sizeof *entry);
}

void gguf_writer_matrix(gguf_writer *w, const char *name, cop_dtype type, uint64_t rows,
                        uint64_t cols, const float *values) {
    size_t count = (size_t)((rows ? rows : 1) * cols);
    gguf_writer_tensor tensor = {.name = must(strdup(name)),
                                 .name_bytes = strlen(name),
                                 .n_dims = rows ? 2 : 1,
                                 .dims = {cols, rows},
                                 .type = type};
    tensor.bytes = count / cop_dtype_block_values(type) * cop_dtype_block_bytes(type);
    tensor.data = must(calloc(tensor.bytes + 1, 1));
    if (values)
        cop_dtype_narrow(type, values, count, tensor.data);
    w->tensors = must(realloc(w->tensors, (w->n_tensors + 1) * sizeof *w->tensors));
    w->tensors[w->n_tensors++] = tensor;
}

gguf_writer_tensor *gguf_writer_find_tensor(gguf_writer *w, const char *name) {
    for (size_t i = 0; i < w->n_tensors; i++)
        if (strcmp(w->tensors[i].name, name) == 0)
            return &w->tensors[i];
    return must(NULL);
}

void gguf_writer_remove_tensor(gguf_writer *w, const char *name) {
    gguf_writer_tensor *entry = gguf_writer_find_tensor(w, name);
    free(entry->name);
    free(entry->data);
    w->n_tensors--;
    memmove(entry, entry + 1, (size_t)(w->tensors + w->n_tensors - entry) * sizeof *entry);
}

void gguf_writer_every_kind(gguf_writer *w) {
    static const char *const texts[] = {"alpha", "", "gamma"};
    static const int32_t numbers[] = {-1, 2, INT32_MIN};
    static const float floats[] = {0.5f, -2};
    float values[192];
    for (int i = 0; i < 192; i++)
        values[i] = (float)(i % 32 - 16);
    gguf_writer_u8(w, "u8", 200);
    gguf_writer_i8(w, "i8", -100);
    gguf_writer_u16(w, "u16", 60000);
    gguf_writer_i16(w, "i16", 30000);
    gguf_writer_u32(w, "u32", 4000000000u);
    gguf_writer_i32(w, "i32", -7);
    gguf_writer_u64(w, "u64", UINT64_MAX - 1);
    gguf_writer_i64(w, "i64", INT64_MAX);
    gguf_writer_f32(w, "f32", 0.25f);
    gguf_writer_f64(w, "f64", 1e-300);
    gguf_writer_bool(w, "yes", true);
    gguf_writer_bool(w, "no", false);
    gguf_writer_text(w, "text", "Gr\xc3\xbc\xc3\x9f");
    gguf_writer_text_array(w, "texts", texts, 3);
    gguf_writer_i32_array(w, "numbers", numbers, 3);
    gguf_writer_i32_array(w, "numbers again.", numbers, 3); /* 3 bytes on: another alignment */
    gguf_writer_i32_array(w, "numbers ...", numbers, 3);
    gguf_writer_f32_array(w, "floats", floats, 2);
    gguf_writer_matrix(w, "a", COP_Q4_1, 3, 64, values);
    gguf_writer_matrix(w, "b", COP_Q8_0, 2, 32, values);
    gguf_writer_matrix(w, "vector", COP_F32, 0, 5, values);
    gguf_writer_matrix(w, "last", COP_F16, 2, 8, values);
}

static void random_matrix(gguf_writer *w, const char *name, cop_dtype type, uint64_t rows,
                          uint64_t cols, uint64_t seed) {
    size_t count = (size_t)((rows ? rows : 1) * cols);
    float *values = must(malloc(count * sizeof *values));
    const bool bias = strstr(name, ".bias") != NULL;
    float mean = rows || bias ? 0.0f : 1.0f;
    float reach = rows ? 1.0f / sqrtf((float)cols) : bias ? 0.5f : 0.25f;
    cop_rng_key key = {seed, w->n_tensors, 0};
    for (size_t i = 0; i < count; i++) {
        key.position = i;
        values[i] = mean + reach * (float)(2 * cop_rng_uniform(key, 0) - 1);
    }
    gguf_writer_matrix(w, name, type, rows, cols, values);
    free(values);
}

static const char *family_name(const cop_model_shape *s) {
    static const char *const names[COP_FAMILY_COUNT] = {"llama", "qwen2", "qwen3"};
    return names[s->family];
}

static void family_u32(gguf_writer *w, const cop_model_shape *s, const char *rest, uint32_t value) {
    char key[64];
    snprintf(key, sizeof key, "%s.%s", family_name(s), rest);
    gguf_writer_u32(w, key, value);
}

static void family_f32(gguf_writer *w, const cop_model_shape *s, const char *rest, double value) {
    char key[64];
    snprintf(key, sizeof key, "%s.%s", family_name(s), rest);
    gguf_writer_f32(w, key, (float)value);
}

static void model_metadata(gguf_writer *w, const cop_model_shape *s) {
    gguf_writer_text(w, "general.architecture", family_name(s));
    gguf_writer_text(w, "general.name", "tiny");
    gguf_writer_u32(w, "general.quantization_version", 2);
    family_u32(w, s, "block_count", s->n_layers);
    family_u32(w, s, "context_length", s->context);
    family_u32(w, s, "embedding_length", s->hidden);
    family_u32(w, s, "feed_forward_length", s->ffn);
    family_u32(w, s, "attention.head_count", s->n_heads);
    family_u32(w, s, "attention.head_count_kv", s->n_kv_heads);
    if (s->head_dim * s->n_heads != s->hidden) {
        family_u32(w, s, "attention.key_length", s->head_dim);
        family_u32(w, s, "attention.value_length", s->head_dim);
    }
    family_u32(w, s, "rope.dimension_count", s->head_dim);
    family_f32(w, s, "rope.freq_base", s->rope_theta);
    family_f32(w, s, "attention.layer_norm_rms_epsilon", s->rms_eps);
    family_u32(w, s, "vocab_size", s->vocab);
}

void gguf_writer_llama(gguf_writer *w, const gguf_writer_model *model) {
    const cop_model_shape *s = &model->shape;
    const uint32_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    const uint64_t seed = model->seed;
    model_metadata(w, s);
    random_matrix(w, "token_embd.weight", model->embedding_dtype, s->vocab, s->hidden, seed);
    for (uint32_t layer = 0; layer < s->n_layers; layer++) {
        const struct {
            const char *role;
            uint32_t rows, cols;
            bool wanted;
        } parts[] = {
            {"attn_norm.weight", 0, s->hidden, true},
            {"attn_q.weight", q, s->hidden, true},
            {"attn_k.weight", kv, s->hidden, true},
            {"attn_v.weight", kv, s->hidden, true},
            {"attn_output.weight", s->hidden, q, true},
            {"ffn_norm.weight", 0, s->hidden, true},
            {"ffn_gate.weight", s->ffn, s->hidden, true},
            {"ffn_up.weight", s->ffn, s->hidden, true},
            {"ffn_down.weight", s->hidden, s->ffn, true},
            {"attn_q.bias", 0, q, s->family == COP_FAMILY_QWEN2},
            {"attn_k.bias", 0, kv, s->family == COP_FAMILY_QWEN2},
            {"attn_v.bias", 0, kv, s->family == COP_FAMILY_QWEN2},
            {"attn_q_norm.weight", 0, s->head_dim, s->family == COP_FAMILY_QWEN3},
            {"attn_k_norm.weight", 0, s->head_dim, s->family == COP_FAMILY_QWEN3},
        };
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%u.%s", layer, parts[i].role);
            if (parts[i].wanted)
                random_matrix(w, name, parts[i].rows ? model->dtype : COP_F32, parts[i].rows,
                              parts[i].cols, seed);
        }
    }
    random_matrix(w, "output_norm.weight", COP_F32, 0, s->hidden, seed);
    if (!s->tied)
        random_matrix(w, "output.weight", model->embedding_dtype, s->vocab, s->hidden, seed);
}

void gguf_writer_tokenizer(gguf_writer *w, const gguf_writer_vocabulary *v) {
    gguf_writer_text(w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_text(w, "tokenizer.ggml.pre", v->pre);
    gguf_writer_text_array(w, "tokenizer.ggml.tokens", v->tokens, v->n_tokens);
    gguf_writer_i32_array(w, "tokenizer.ggml.token_type", v->types, v->n_tokens);
    gguf_writer_text_array(w, "tokenizer.ggml.merges", v->merges, v->n_merges);
    gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", false);
    if (v->bos >= 0)
        gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)v->bos);
    if (v->eos >= 0)
        gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)v->eos);
}

/* GPT-2's bytes_to_unicode: printable Latin-1 stands for itself, the others follow from 256. */
static void byte_letter(unsigned byte, char out[8]) {
    unsigned code = byte;
    if (!((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)) {
        code = 256;
        for (unsigned b = 0; b < byte; b++)
            code += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
    }
    if (code < 128)
        snprintf(out, 8, "%c", (int)code);
    else
        snprintf(out, 8, "%c%c", (int)(0xc0 | code >> 6), (int)(0x80 | (code & 63)));
}

void gguf_writer_byte_tokenizer(gguf_writer *w, const char *pre, uint32_t vocab) {
    char(*texts)[16] = must(calloc(vocab, sizeof *texts));
    const char **tokens = must(calloc(vocab, sizeof *tokens));
    int32_t *types = must(calloc(vocab, sizeof *types));
    for (uint32_t i = 0; i < vocab; i++) {
        if (i < 256)
            byte_letter(i, texts[i]);
        else
            snprintf(texts[i], sizeof texts[i], "<|%u|>", i - 256);
        tokens[i] = texts[i];
        types[i] = i < 256 ? 1 : 3;
    }
    gguf_writer_tokenizer(w, &(gguf_writer_vocabulary){.pre = pre,
                                                       .tokens = tokens,
                                                       .types = types,
                                                       .n_tokens = vocab,
                                                       .bos = -1,
                                                       .eos = 256});
    free(texts);
    free(tokens);
    free(types);
}

gguf_image gguf_writer_finish(const gguf_writer *w) {
    bytes b = {0};
    uint64_t alignment = w->alignment ? w->alignment : 32, offset = 0;
    put(&b, "GGUF", 4);
    put_u32(&b, w->version ? w->version : 3);
    put_u64(&b, w->n_tensors);
    put_u64(&b, w->n_keys);
    for (size_t i = 0; i < w->n_keys; i++) {
        put_text(&b, w->keys[i].name, w->keys[i].name_bytes);
        put_u32(&b, w->keys[i].type);
        put(&b, w->keys[i].value, w->keys[i].bytes);
    }
    gguf_image image = {.tensors_at = b.bytes};
    for (size_t i = 0; i < w->n_tensors; i++) {
        const gguf_writer_tensor *t = &w->tensors[i];
        put_text(&b, t->name, t->name_bytes);
        put_u32(&b, t->n_dims);
        for (uint32_t d = 0; d < t->n_dims && d < 8; d++)
            put_u64(&b, t->dims[d]);
        put_u32(&b, t->type);
        put_u64(&b, offset + (uint64_t)t->offset_shift);
        offset = (offset + t->bytes + alignment - 1) / alignment * alignment;
    }
    for (size_t i = 0; i < w->n_tensors; i++) { /* the last tensor is not padded */
        while (b.bytes % alignment != 0)
            put(&b, "", 1);
        if (i == 0)
            image.data_at = b.bytes;
        put(&b, w->tensors[i].data, w->tensors[i].bytes);
    }
    image.data = b.data;
    image.bytes = b.bytes;
    return image;
}

void gguf_writer_release(gguf_writer *w) {
    for (size_t i = 0; i < w->n_keys; i++) {
        free(w->keys[i].name);
        free(w->keys[i].value);
    }
    for (size_t i = 0; i < w->n_tensors; i++) {
        free(w->tensors[i].name);
        free(w->tensors[i].data);
    }
    free(w->keys);
    free(w->tensors);
    *w = (gguf_writer){0};
}

void gguf_image_release(gguf_image *image) {
    free(image->data);
    *image = (gguf_image){0};
}

void gguf_image_save(const gguf_image *image, const char *path) {
    FILE *file = must(fopen(path, "wb"));
    if (fwrite(image->data, 1, image->bytes, file) != image->bytes || fclose(file) != 0)
        must(NULL);
}
