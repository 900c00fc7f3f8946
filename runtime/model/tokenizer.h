/* Byte-level BPE tokenizer from a GGUF's metadata (tokenizer.ggml.*): encode, decode, special
 * tokens.
 *
 * Pre-tokenizers ("tokenizer.ggml.pre": smollm, gpt-2, llama-bpe, qwen2, and their aliases in
 * llama.cpp) are regular expressions run by PCRE2; merges are applied by rank. Text of special
 * tokens (token_type control, unknown or user-defined) is found before pre-tokenization: leftmost
 * first, then longest. BOS and EOS are added only where add_bos_token and add_eos_token say so;
 * normalisers (Qwen2's NFC) are not part of GGUF and are not applied.
 * Immutable once created; encode may be called from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"
#include "model/gguf.h"

typedef struct cop_tokenizer cop_tokenizer;

cop_status cop_tokenizer_create(const cop_gguf *gguf, cop_tokenizer **out);
void cop_tokenizer_destroy(cop_tokenizer *tokenizer);

typedef struct cop_token_ids { /* zero-initialise; grows; release with cop_token_ids_release */
    int32_t *data;
    size_t count, capacity;
} cop_token_ids;
void cop_token_ids_release(cop_token_ids *ids);

typedef struct cop_encode_options {
    bool plain;  /* text of control tokens is ordinary text; user-defined ones are still matched */
    bool no_bos; /* leave out the BOS and the EOS that the model's metadata asks for */
    bool
        drop_unknown; /* leave out bytes that no token stands for, as the tokenizers library does */
} cop_encode_options;

/* Appends the ids of text (any bytes). A byte that is not part of valid UTF-8 is a piece of its own
 * and keeps its value, so decoding gives the same bytes again. ERR_FORMAT, naming the byte offset,
 * when the vocabulary cannot express the text; nothing is appended then. */
cop_status cop_tokenizer_encode(const cop_tokenizer *tokenizer, const char *text, size_t bytes,
                                cop_encode_options options, cop_token_ids *ids);

/* The same with working memory of one's own, taken once: texts of at most `max_bytes` are encoded
 * without an allocation, as long as `ids` has room. One thread at a time. */
typedef struct cop_encoder cop_encoder;
cop_status cop_encoder_create(const cop_tokenizer *tokenizer, size_t max_bytes, cop_encoder **out);
void cop_encoder_destroy(cop_encoder *encoder); /* NULL is fine */
cop_status cop_encoder_encode(cop_encoder *encoder, const char *text, size_t bytes,
                              cop_encode_options options, cop_token_ids *ids);

uint32_t cop_tokenizer_vocab(const cop_tokenizer *tokenizer);
int32_t cop_tokenizer_bos(const cop_tokenizer *tokenizer); /* -1: none */
int32_t cop_tokenizer_eos(const cop_tokenizer *tokenizer);
bool cop_tokenizer_is_end(const cop_tokenizer *tokenizer,
                          int32_t id); /* eos, eot, <|im_end|>, .. */
bool cop_tokenizer_is_special(const cop_tokenizer *tokenizer, int32_t id);
/* The id of a special token's exact text, -1 when there is none. */
int32_t cop_tokenizer_find_special(const cop_tokenizer *tokenizer, const char *text, size_t bytes);

/* The raw bytes of one token (a special token gives its text). Borrowed; may split a character. */
cop_text cop_tokenizer_bytes(const cop_tokenizer *tokenizer, int32_t id);

/* Streaming decode: bytes of a UTF-8 character that is split over tokens are held back until it is
 * whole; bytes that can never become valid come out as U+FFFD. Never allocates. */
typedef struct cop_utf8_stream {
    uint8_t held[4];
    uint8_t n_held;
} cop_utf8_stream;
enum { COP_UTF8_SLACK = 16 };
/* Writes at most 3 * bytes + COP_UTF8_SLACK bytes of valid UTF-8 to out; returns how many. With
 * bytes = 0 and flush, what is held comes out as U+FFFD. */
size_t cop_utf8_stream_push(cop_utf8_stream *stream, const char *data, size_t bytes, bool flush,
                            char *out);

/* The chat format of the model as data: configs/chat/<name>.json is applied by the command. */
