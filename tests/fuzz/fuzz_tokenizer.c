/* The tokenizer on hostile bytes. The first byte chooses:
 *   bit 7 clear: the rest is text for a fixed vocabulary, behind pre-tokenizer (byte & 3). Every
 *                byte has a token, so encoding succeeds and decoding gives the text again.
 *   bit 7 set:   the rest is a GGUF; when it opens and holds a tokenizer, that encodes some text.
 * Seeds: tests/fuzz/corpus/tokenizer, written by tests/ref/tokenizer_corpus.py.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"
#include "model/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { PRES = 4, BYTES_MAX = 64 * 1024 };

static void require(int condition) {
    if (!condition)
        abort();
}

static void put(cop_buffer *out, const void *data, size_t bytes) {
    require(cop_buffer_append(out, data, bytes) == COP_OK);
}

static void put_text(cop_buffer *out, const char *text) {
    uint64_t bytes = strlen(text);
    put(out, &bytes, sizeof bytes);
    put(out, text, bytes);
}

static void put_key(cop_buffer *out, const char *key, uint32_t type) {
    put_text(out, key);
    put(out, &type, sizeof type);
}

static void put_texts(cop_buffer *out, const char *key, const char *const *texts, uint64_t count) {
    uint32_t type = 8;
    put_key(out, key, 9);
    put(out, &type, sizeof type);
    put(out, &count, sizeof count);
    for (uint64_t i = 0; i < count; i++)
        put_text(out, texts[i]);
}

/* All bytes, some merges, some special tokens. */
static cop_tokenizer *create_fixed(const char *pre) {
    static const char *const merges[] = {"a b", "b a", "ab ab", "Ġ a", "Ġ Ġ", "Ġ t", "' s", "1 2"};
    enum { MERGES = sizeof merges / sizeof merges[0], SPECIALS = 3 };
    static const char *const specials[SPECIALS] = {"<|x|>", "<|x|>y", "|>"};
    static const char *const made[MERGES] = {"ab", "ba", "abab", "Ġa", "ĠĠ", "Ġt", "'s", "12"};
    const char *tokens[256 + MERGES + SPECIALS];
    int32_t types[256 + MERGES + SPECIALS];
    char letters[256][3] = {{0}};
    unsigned other = 256;
    for (unsigned byte = 0; byte < 256; byte++) {
        unsigned code = (byte > 32 && byte < 127) || (byte > 160 && byte != 173) ? byte : other++;
        letters[byte][0] = (char)(code < 128 ? code : 0xC0 + code / 64);
        letters[byte][1] = (char)(code < 128 ? 0 : 0x80 + code % 64);
        tokens[byte] = letters[byte];
    }
    memcpy(tokens + 256, made, sizeof made);
    memcpy(tokens + 256 + MERGES, specials, sizeof specials);
    const uint64_t count = 256 + MERGES + SPECIALS;
    for (uint64_t i = 0; i < count; i++)
        types[i] = i < 256 + MERGES ? 1 : 3;
    cop_buffer file = {0};
    const uint32_t version = 3, i32 = 5;
    const uint64_t n_tensors = 0, n_keys = 5;
    put(&file, "GGUF", 4);
    put(&file, &version, 4);
    put(&file, &n_tensors, 8);
    put(&file, &n_keys, 8);
    put_key(&file, "tokenizer.ggml.model", 8);
    put_text(&file, "gpt2");
    put_key(&file, "tokenizer.ggml.pre", 8);
    put_text(&file, pre);
    put_texts(&file, "tokenizer.ggml.tokens", tokens, count);
    put_texts(&file, "tokenizer.ggml.merges", merges, MERGES);
    put_key(&file, "tokenizer.ggml.token_type", 9);
    put(&file, &i32, 4);
    put(&file, &count, 8);
    put(&file, types, sizeof types);
    cop_gguf *gguf = NULL;
    cop_tokenizer *tokenizer = NULL;
    require(cop_gguf_open_memory(file.data, file.bytes, &gguf) == COP_OK);
    require(cop_tokenizer_create(gguf, &tokenizer) == COP_OK);
    cop_gguf_close(gguf);
    cop_buffer_release(&file);
    return tokenizer;
}

/* What the ids decode to must be the text, and the stream of it must be whole UTF-8 of bounded
 * length. */
static void check_round_trip(const cop_tokenizer *tokenizer, const cop_token_ids *ids,
                             const char *text, size_t bytes) {
    cop_utf8_stream stream = {0};
    size_t at = 0;
    for (size_t i = 0; i < ids->count; i++) {
        cop_text piece = cop_tokenizer_bytes(tokenizer, ids->data[i]);
        char out[256];
        require(piece.bytes <= bytes - at && memcmp(piece.data, text + at, piece.bytes) == 0);
        require(3 * piece.bytes + COP_UTF8_SLACK <= sizeof out);
        size_t got = cop_utf8_stream_push(&stream, piece.data, piece.bytes, false, out);
        require(got <= 3 * piece.bytes + COP_UTF8_SLACK && stream.n_held < 4);
        at += piece.bytes;
    }
    require(at == bytes);
}

static void fuzz_text(unsigned mode, const char *text, size_t bytes) {
    static const char *const names[PRES] = {"smollm", "gpt-2", "llama-bpe", "qwen2"};
    static cop_tokenizer *tokenizers[PRES]; /* made once: the fuzzer runs in one thread */
    unsigned which = mode % PRES;
    if (!tokenizers[which])
        tokenizers[which] = create_fixed(names[which]);
    cop_token_ids ids = {0};
    cop_encode_options options = {.plain = mode & 4};
    require(cop_tokenizer_encode(tokenizers[which], text, bytes, options, &ids) == COP_OK);
    check_round_trip(tokenizers[which], &ids, text, bytes);
    cop_token_ids_release(&ids);
}

static void fuzz_file(const uint8_t *data, size_t bytes) {
    static const char text[] = "ab abab <|x|>y 12345 \n\n don't \xFF\xE2\x82 été\0x";
    cop_gguf *gguf = NULL;
    cop_tokenizer *tokenizer = NULL;
    void *file = aligned_alloc(64, (bytes / 64 + 1) * 64);
    require(file != NULL);
    memcpy(file, data, bytes);
    if (cop_gguf_open_memory(file, bytes, &gguf) == COP_OK &&
        cop_tokenizer_create(gguf, &tokenizer) == COP_OK) {
        cop_token_ids ids = {0};
        for (int i = 0; i < 4; i++) {
            cop_encode_options options = {.plain = i & 1, .drop_unknown = i & 2};
            (void)cop_tokenizer_encode(tokenizer, text, sizeof text - 1, options, &ids);
        }
        for (size_t i = 0; i < ids.count; i++)
            require((uint32_t)ids.data[i] < cop_tokenizer_vocab(tokenizer));
        cop_token_ids_release(&ids);
    }
    cop_tokenizer_destroy(tokenizer);
    cop_gguf_close(gguf);
    free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes == 0 || bytes > BYTES_MAX)
        return 0;
    if (data[0] & 0x80)
        fuzz_file(data + 1, bytes - 1);
    else
        fuzz_text(data[0], (const char *)data + 1, bytes - 1);
    return 0;
}
