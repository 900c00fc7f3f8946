#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "model/tokenizer_internal.h"

/* Long texts are cut in messages. */
static int shown(size_t bytes) {
    return (int)(bytes < 48 ? bytes : 48);
}

/* Multiply and fold, as wyhash does; good enough behind a key that no file can know. */
static uint64_t mix(uint64_t a, uint64_t b) {
    __uint128_t product = (__uint128_t)(a ^ UINT64_C(0x9E3779B97F4A7C15)) * (b | 1);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_text(uint64_t key, const char *text, size_t bytes) {
    uint64_t hash = mix(key, bytes + 1);
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t word = 0;
        memcpy(&word, text + at, bytes - at < 8 ? bytes - at : 8);
        hash = mix(hash ^ word, key);
    }
    return mix(hash, key);
}

static uint64_t random_key(void) {
    uint64_t key;
    if (getrandom(&key, sizeof key, GRND_NONBLOCK) != sizeof key)
        key = cop_clock_ns();
    return key | 1;
}

static size_t table_size(size_t count) {
    size_t size = 16;
    while (size < count * 2)
        size *= 2;
    return size;
}

static cop_status no_memory(void) {
    return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the tokenizer's tables");
}

int32_t cop__text_find(const cop_tokenizer *tokenizer, const char *text, size_t bytes) {
    const cop__text_index *index = &tokenizer->index;
    size_t at = hash_text(index->key, text, bytes) & index->mask;
    for (uint32_t slot; (slot = index->slots[at]) != 0; at = (at + 1) & index->mask) {
        const cop_text *other = &tokenizer->text[slot - 1];
        if (other->bytes == bytes && memcmp(other->data, text, bytes) == 0)
            return (int32_t)(slot - 1);
    }
    return -1;
}

const cop__merge *cop__merge_find(const cop__merge_map *map, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = mix(pair, map->key) & map->mask;
    for (; map->slots[at].merged >= 0; at = (at + 1) & map->mask) {
        if (map->slots[at].pair == pair)
            return &map->slots[at];
    }
    return NULL;
}

static cop_status load_kinds(cop_tokenizer *tokenizer, const cop_gguf *gguf) {
    tokenizer->kind = cop_arena_calloc(tokenizer->arena, tokenizer->n_tokens, 1);
    tokenizer->ends = cop_arena_calloc(tokenizer->arena, tokenizer->n_tokens, sizeof(bool));
    if (!tokenizer->kind || !tokenizer->ends)
        return no_memory();
    memset(tokenizer->kind, COP__TOKEN_NORMAL, tokenizer->n_tokens);
    if (!cop_gguf_has(gguf, "tokenizer.ggml.token_type"))
        return COP_OK;
    const int32_t *kinds = NULL;
    size_t count = 0;
    COP_TRY(cop_gguf_i32_array(gguf, "tokenizer.ggml.token_type", &kinds, &count));
    if (count != tokenizer->n_tokens)
        return COP_FAIL(COP_ERR_FORMAT,
                        "tokenizer.ggml.token_type has %zu elements, tokenizer.ggml.tokens %u",
                        count, tokenizer->n_tokens);
    for (size_t i = 0; i < count; i++) {
        int32_t kind;
        memcpy(&kind, kinds + i, sizeof kind);
        if (kind < COP__TOKEN_NORMAL || kind > COP__TOKEN_BYTE)
            return COP_FAIL(COP_ERR_FORMAT,
                            "tokenizer.ggml.token_type[%zu] is %d; it goes from %d to %d", i, kind,
                            COP__TOKEN_NORMAL, COP__TOKEN_BYTE);
        tokenizer->kind[i] = (uint8_t)kind;
    }
    return COP_OK;
}

/* Copies the vocabulary, so that the tokenizer outlives the file, and indexes it. */
static cop_status load_texts(cop_tokenizer *tokenizer, const cop_gguf *gguf) {
    const cop_text *texts = NULL;
    size_t count = 0, total = 0;
    COP_TRY(cop_gguf_text_array(gguf, "tokenizer.ggml.tokens", &texts, &count));
    if (count == 0 || count > INT32_MAX / 2)
        return COP_FAIL(COP_ERR_FORMAT, "tokenizer.ggml.tokens has %zu elements", count);
    for (size_t i = 0; i < count; i++)
        total += texts[i].bytes;
    size_t size = table_size(count);
    char *blob = cop_arena_calloc(tokenizer->arena, total + 1, 1);
    tokenizer->n_tokens = (uint32_t)count;
    tokenizer->text = cop_arena_calloc(tokenizer->arena, count, sizeof *tokenizer->text);
    tokenizer->index = (cop__text_index){cop_arena_calloc(tokenizer->arena, size, sizeof(uint32_t)),
                                         size - 1, random_key()};
    if (!blob || !tokenizer->text || !tokenizer->index.slots)
        return no_memory();
    for (size_t i = 0; i < count; i++) {
        const cop_text *text = &texts[i];
        int32_t same = cop__text_find(tokenizer, text->data, text->bytes);
        if (same >= 0)
            return COP_FAIL(COP_ERR_FORMAT, "tokenizer.ggml.tokens[%zu] repeats token %d, \"%.*s\"",
                            i, same, shown(text->bytes), text->data);
        if (text->bytes)
            memcpy(blob, text->data, text->bytes);
        tokenizer->text[i] = (cop_text){blob, text->bytes};
        blob += text->bytes;
        size_t at = hash_text(tokenizer->index.key, text->data, text->bytes) & (size - 1);
        while (tokenizer->index.slots[at])
            at = (at + 1) & (size - 1);
        tokenizer->index.slots[at] = (uint32_t)i + 1;
    }
    return COP_OK;
}

/* The byte-level alphabet: printable bytes stand for themselves, the others for 256, 257, ..
 * (Radford et al. 2019, bytes_to_unicode). */
static void load_alphabet(cop_tokenizer *tokenizer, int16_t byte_of[COP__BYTE_LEVEL_CODES]) {
    memset(byte_of, 0xFF, COP__BYTE_LEVEL_CODES * sizeof *byte_of);
    unsigned other = 256;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
        unsigned code = printable ? byte : other++;
        byte_of[code] = (int16_t)byte;
        char *text = tokenizer->byte_text[byte];
        if (code < 0x80) {
            text[0] = (char)code;
            tokenizer->byte_text_bytes[byte] = 1;
        } else {
            text[0] = (char)(0xC0 | code >> 6);
            text[1] = (char)(0x80 | (code & 0x3F));
            tokenizer->byte_text_bytes[byte] = 2;
        }
        tokenizer->byte_token[byte] =
            cop__text_find(tokenizer, text, tokenizer->byte_text_bytes[byte]);
    }
}

static bool is_verbatim(uint8_t kind) {
    return kind == COP__TOKEN_CONTROL || kind == COP__TOKEN_USER_DEFINED ||
           kind == COP__TOKEN_UNKNOWN;
}

/* Writes what the token stands for to out, at most as long as its text. A text with a character
 * outside the alphabet stands for itself, as the ByteLevel decoder of the tokenizers library has
 * it. */
static cop_status decode_text(const cop_tokenizer *tokenizer, uint32_t id, const int16_t *byte_of,
                              char *out, size_t *bytes) {
    const cop_text *text = &tokenizer->text[id];
    bool verbatim = is_verbatim(tokenizer->kind[id]);
    *bytes = 0;
    for (size_t at = 0, step; at < text->bytes; at += step) {
        step = cop__utf8_character(text->data + at, text->bytes - at);
        if (step == 0)
            return COP_FAIL(COP_ERR_FORMAT, "tokenizer.ggml.tokens[%u] is not UTF-8 at byte %zu",
                            id, at);
        uint32_t code = cop__utf8_code(text->data + at, step);
        verbatim = verbatim || code >= COP__BYTE_LEVEL_CODES || byte_of[code] < 0;
        if (!verbatim)
            out[(*bytes)++] = (char)byte_of[code];
    }
    if (verbatim && text->bytes)
        memcpy(out, text->data, text->bytes);
    if (verbatim)
        *bytes = text->bytes;
    return COP_OK;
}

static cop_status load_bytes(cop_tokenizer *tokenizer) {
    int16_t byte_of[COP__BYTE_LEVEL_CODES];
    load_alphabet(tokenizer, byte_of);
    size_t total = 0;
    for (uint32_t i = 0; i < tokenizer->n_tokens; i++)
        total += tokenizer->text[i].bytes;
    char *blob = cop_arena_calloc(tokenizer->arena, total + 1, 1);
    tokenizer->bytes =
        cop_arena_calloc(tokenizer->arena, tokenizer->n_tokens, sizeof *tokenizer->bytes);
    if (!blob || !tokenizer->bytes)
        return no_memory();
    for (uint32_t i = 0; i < tokenizer->n_tokens; i++) {
        size_t bytes = 0;
        COP_TRY(decode_text(tokenizer, i, byte_of, blob, &bytes));
        tokenizer->bytes[i] = (cop_text){blob, bytes};
        blob += bytes;
    }
    return COP_OK;
}

static cop_status load_specials(cop_tokenizer *tokenizer) {
    uint32_t count = 0, user = 0;
    for (uint32_t i = 0; i < tokenizer->n_tokens; i++) {
        count += is_verbatim(tokenizer->kind[i]);
        user += tokenizer->kind[i] == COP__TOKEN_USER_DEFINED;
    }
    tokenizer->specials.items = cop_arena_calloc(tokenizer->arena, count + 1, sizeof(cop__special));
    tokenizer->user_defined.items =
        cop_arena_calloc(tokenizer->arena, user + 1, sizeof(cop__special));
    if (!tokenizer->specials.items || !tokenizer->user_defined.items)
        return no_memory();
    for (uint32_t i = 0; i < tokenizer->n_tokens; i++) {
        const cop_text text = tokenizer->bytes[i];
        if (!is_verbatim(tokenizer->kind[i]))
            continue;
        if (text.bytes == 0 || text.bytes > COP__SPECIAL_BYTES_MAX)
            return COP_FAIL(COP_ERR_FORMAT,
                            "tokenizer.ggml.tokens[%u], a special token, has %zu bytes; it may "
                            "have 1 to %d",
                            i, text.bytes, COP__SPECIAL_BYTES_MAX);
        cop__special special = {text, (int32_t)i};
        tokenizer->specials.items[tokenizer->specials.count++] = special;
        if (tokenizer->kind[i] == COP__TOKEN_USER_DEFINED)
            tokenizer->user_defined.items[tokenizer->user_defined.count++] = special;
    }
    cop__special_sort(&tokenizer->specials);
    cop__special_sort(&tokenizer->user_defined);
    return COP_OK;
}

/* "left right": the ids of both and of what they make together. */
static cop_status parse_merge(const cop_tokenizer *tokenizer, size_t rank, cop_text line,
                              cop_buffer *joined, int32_t *left, int32_t *right, int32_t *merged) {
    /* A byte-level text holds no blank, so the only one separates; the search starts behind the
     * first byte, as llama.cpp's does. */
    const char *blank = line.bytes > 2 ? memchr(line.data + 1, ' ', line.bytes - 2) : NULL;
    if (!blank)
        return COP_FAIL(COP_ERR_FORMAT,
                        "tokenizer.ggml.merges[%zu] is \"%.*s\", not two tokens with a blank "
                        "between",
                        rank, shown(line.bytes), line.data);
    size_t left_bytes = (size_t)(blank - line.data), right_bytes = line.bytes - left_bytes - 1;
    joined->bytes = 0;
    COP_TRY(cop_buffer_append(joined, line.data, left_bytes));
    COP_TRY(cop_buffer_append(joined, blank + 1, right_bytes));
    *left = cop__text_find(tokenizer, line.data, left_bytes);
    *right = cop__text_find(tokenizer, blank + 1, right_bytes);
    *merged = cop__text_find(tokenizer, joined->data, joined->bytes);
    if (*left < 0 || *right < 0 || *merged < 0) {
        cop_text missing = *left < 0    ? (cop_text){line.data, left_bytes}
                           : *right < 0 ? (cop_text){blank + 1, right_bytes}
                                        : (cop_text){joined->data, joined->bytes};
        return COP_FAIL(COP_ERR_FORMAT,
                        "tokenizer.ggml.merges[%zu] needs the token \"%.*s\", which is not in the "
                        "vocabulary",
                        rank, shown(missing.bytes), missing.data);
    }
    return COP_OK;
}

static cop_status fill_merges(cop_tokenizer *tokenizer, const cop_text *lines, size_t count,
                              cop_buffer *joined) {
    cop__merge_map *map = &tokenizer->merges;
    for (size_t rank = 0; rank < count; rank++) {
        int32_t left = -1, right = -1, merged = -1;
        COP_TRY(parse_merge(tokenizer, rank, lines[rank], joined, &left, &right, &merged));
        /* A pair that comes again keeps its first rank. */
        if (cop__merge_find(map, left, right))
            continue;
        uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
        size_t at = mix(pair, map->key) & map->mask;
        while (map->slots[at].merged >= 0)
            at = (at + 1) & map->mask;
        map->slots[at] = (cop__merge){pair, (uint32_t)rank, merged};
    }
    return COP_OK;
}

static cop_status load_merges(cop_tokenizer *tokenizer, const cop_gguf *gguf) {
    const cop_text *lines = NULL;
    size_t count = 0;
    COP_TRY(cop_gguf_text_array(gguf, "tokenizer.ggml.merges", &lines, &count));
    if (count > INT32_MAX)
        return COP_FAIL(COP_ERR_FORMAT, "tokenizer.ggml.merges has %zu elements", count);
    size_t size = table_size(count);
    tokenizer->merges = (cop__merge_map){
        cop_arena_calloc(tokenizer->arena, size, sizeof(cop__merge)), size - 1, random_key()};
    if (!tokenizer->merges.slots)
        return no_memory();
    for (size_t i = 0; i < size; i++)
        tokenizer->merges.slots[i].merged = -1;
    cop_buffer joined = {0};
    cop_status status = fill_merges(tokenizer, lines, count, &joined);
    cop_buffer_release(&joined);
    return status;
}

/* An id by key, -1 when there is none; it must be one of the vocabulary's. */
static cop_status load_id(const cop_tokenizer *tokenizer, const cop_gguf *gguf, const char *key,
                          int32_t *out) {
    *out = -1;
    if (!cop_gguf_has(gguf, key))
        return COP_OK;
    uint64_t id = 0;
    COP_TRY(cop_gguf_u64(gguf, key, &id));
    if (id >= tokenizer->n_tokens)
        return COP_FAIL(COP_ERR_FORMAT, "%s is %llu, but the vocabulary has %u tokens", key,
                        (unsigned long long)id, tokenizer->n_tokens);
    *out = (int32_t)id;
    return COP_OK;
}

static cop_status load_flag(const cop_gguf *gguf, const char *key, int32_t id, const char *id_key,
                            bool *out) {
    if (cop_gguf_has(gguf, key))
        COP_TRY(cop_gguf_bool(gguf, key, out));
    if (*out && id < 0)
        return COP_FAIL(COP_ERR_FORMAT, "%s is set, but %s is missing", key, id_key);
    return COP_OK;
}

static cop_status load_ids(cop_tokenizer *tokenizer, const cop_gguf *gguf) {
    static const char *const end_keys[] = {"tokenizer.ggml.eos_token_id",
                                           "tokenizer.ggml.eot_token_id",
                                           "tokenizer.ggml.eom_token_id"};
    static const char *const end_texts[] = {
        "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>",
        "<|eot|>",    "<end_of_turn>", "</s>",       "<EOT>",      "<|endofturn|>"};
    static const char *const other_keys[] = {"tokenizer.ggml.unknown_token_id",
                                             "tokenizer.ggml.padding_token_id"};
    int32_t id;
    for (size_t i = 0; i < sizeof end_keys / sizeof end_keys[0]; i++) {
        COP_TRY(load_id(tokenizer, gguf, end_keys[i], &id));
        if (id >= 0)
            tokenizer->ends[id] = true;
        if (i == 0)
            tokenizer->eos = id;
    }
    for (size_t i = 0; i < sizeof other_keys / sizeof other_keys[0]; i++)
        COP_TRY(load_id(tokenizer, gguf, other_keys[i], &id));
    for (size_t i = 0; i < sizeof end_texts / sizeof end_texts[0]; i++) {
        const cop__special *special =
            cop__special_find(&tokenizer->specials, end_texts[i], strlen(end_texts[i]));
        if (special)
            tokenizer->ends[special->id] = true;
    }
    COP_TRY(load_id(tokenizer, gguf, "tokenizer.ggml.bos_token_id", &tokenizer->bos));
    COP_TRY(load_flag(gguf, "tokenizer.ggml.add_bos_token", tokenizer->bos,
                      "tokenizer.ggml.bos_token_id", &tokenizer->add_bos));
    return load_flag(gguf, "tokenizer.ggml.add_eos_token", tokenizer->eos,
                     "tokenizer.ggml.eos_token_id", &tokenizer->add_eos);
}

/* The vocabulary against the model's own count, which the embedding must have as well. */
static cop_status check_vocabulary(const cop_tokenizer *tokenizer, const cop_gguf *gguf) {
    cop_text architecture;
    char key[96];
    uint64_t vocab = 0;
    if (!cop_gguf_has(gguf, "general.architecture"))
        return COP_OK;
    COP_TRY(cop_gguf_text(gguf, "general.architecture", &architecture));
    snprintf(key, sizeof key, "%.*s.vocab_size", shown(architecture.bytes), architecture.data);
    if (!cop_gguf_has(gguf, key))
        return COP_OK;
    COP_TRY(cop_gguf_u64(gguf, key, &vocab));
    if (vocab != tokenizer->n_tokens)
        return COP_FAIL(COP_ERR_FORMAT, "%s is %llu, but tokenizer.ggml.tokens has %u elements",
                        key, (unsigned long long)vocab, tokenizer->n_tokens);
    return COP_OK;
}

cop_status cop__tokenizer_load(cop_tokenizer *tokenizer, const cop_gguf *gguf) {
    cop_text model, pre;
    COP_TRY(cop_gguf_text(gguf, "tokenizer.ggml.model", &model));
    if (model.bytes != 4 || memcmp(model.data, "gpt2", 4) != 0)
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "tokenizer.ggml.model is \"%.*s\"; only \"gpt2\" (byte-level BPE) is "
                        "supported",
                        shown(model.bytes), model.data);
    if (!cop_gguf_has(gguf, "tokenizer.ggml.pre"))
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "tokenizer.ggml.pre is missing: the file does not say how to split text; "
                        "convert the model again with a recent converter");
    COP_TRY(cop_gguf_text(gguf, "tokenizer.ggml.pre", &pre));
    COP_TRY(cop__pre_create(pre.data, pre.bytes, &tokenizer->pre));
    COP_TRY(load_texts(tokenizer, gguf));
    COP_TRY(check_vocabulary(tokenizer, gguf));
    COP_TRY(load_kinds(tokenizer, gguf));
    COP_TRY(load_bytes(tokenizer));
    COP_TRY(load_specials(tokenizer));
    COP_TRY(load_merges(tokenizer, gguf));
    return load_ids(tokenizer, gguf);
}
