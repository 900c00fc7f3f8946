#include "model/tokenizer.h"

#include "model/tokenizer_internal.h"

cop_status cop_tokenizer_create(const cop_gguf *gguf, cop_tokenizer **out) {
    *out = NULL;
    cop_tokenizer *tokenizer = cop_calloc(1, sizeof *tokenizer);
    if (!tokenizer)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a tokenizer");
    cop_status status = cop_arena_create(&tokenizer->arena);
    if (status == COP_OK)
        status = cop__tokenizer_load(tokenizer, gguf);
    if (status != COP_OK) {
        cop_tokenizer_destroy(tokenizer);
        return status;
    }
    *out = tokenizer;
    return COP_OK;
}

void cop_tokenizer_destroy(cop_tokenizer *tokenizer) {
    if (!tokenizer)
        return;
    cop__pre_destroy(tokenizer->pre);
    cop_arena_destroy(tokenizer->arena);
    cop_free(tokenizer);
}

void cop_token_ids_release(cop_token_ids *ids) {
    cop_free(ids->data);
    *ids = (cop_token_ids){0};
}

/* Bytes of valid UTF-8 at the front. */
static size_t valid_prefix(const char *text, size_t bytes) {
    size_t at = 0;
    for (size_t step; at < bytes && (step = cop__utf8_character(text + at, bytes - at)) > 0;)
        at += step;
    return at;
}

/* Text without special tokens that stands at `offset` of the whole. */
static cop_status encode_plain(const cop_tokenizer *tokenizer, cop__encode_work *work,
                               const char *text, size_t bytes, size_t offset, cop_token_ids *ids) {
    for (size_t at = 0; at < bytes;) {
        size_t run = valid_prefix(text + at, bytes - at);
        for (size_t piece = 0, end; piece < run; piece = end) {
            COP_TRY(cop__pre_next(tokenizer->pre, work->match, text + at, run, piece, &end));
            COP_TRY(cop__bpe_encode(tokenizer, work, text + at + piece, end - piece,
                                    offset + at + piece, ids));
        }
        at += run;
        if (at < bytes) {
            COP_TRY(cop__bpe_encode(tokenizer, work, text + at, 1, offset + at, ids));
            at++;
        }
    }
    return COP_OK;
}

static cop_status encode_all(const cop_tokenizer *tokenizer, cop__encode_work *work,
                             const char *text, size_t bytes, cop_encode_options options,
                             cop_token_ids *ids) {
    const cop__special_set *set = options.plain ? &tokenizer->user_defined : &tokenizer->specials;
    if (tokenizer->add_bos && !options.no_bos)
        COP_TRY(cop__ids_push(ids, tokenizer->bos));
    for (size_t at = 0; at < bytes;) {
        size_t next = at;
        const cop__special *special = cop__special_next(set, text, bytes, &next);
        COP_TRY(encode_plain(tokenizer, work, text + at, next - at, at, ids));
        if (special)
            COP_TRY(cop__ids_push(ids, special->id));
        at = next + (special ? special->text.bytes : 0);
    }
    if (tokenizer->add_eos && !options.no_bos)
        COP_TRY(cop__ids_push(ids, tokenizer->eos));
    return COP_OK;
}

struct cop_encoder {
    const cop_tokenizer *tokenizer;
    cop__encode_work work;
};

cop_status cop_encoder_create(const cop_tokenizer *tokenizer, size_t max_bytes, cop_encoder **out) {
    if (max_bytes > INT32_MAX / 2)
        return COP_FAIL(COP_ERR_FORMAT,
                        "a text of %zu bytes is too long; at most %d can be encoded", max_bytes,
                        INT32_MAX / 2);
    cop_encoder *encoder = cop_calloc(1, sizeof *encoder);
    if (!encoder)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory to encode %zu bytes", max_bytes);
    cop__encode_work *work = &encoder->work;
    encoder->tokenizer = tokenizer;
    work->match = cop__pre_match_create(max_bytes);
    cop_status status =
        work->match ? COP_OK
                    : COP_FAIL(COP_ERR_NO_MEMORY, "no memory to encode %zu bytes", max_bytes);
    /* Each symbol starts one pair, and each merge makes two more and removes a symbol. */
    if (status == COP_OK)
        status =
            cop_grow(&work->symbols, &work->symbol_capacity, max_bytes + 1, sizeof *work->symbols);
    if (status == COP_OK)
        status = cop_grow(&work->heap, &work->heap_capacity, 3 * max_bytes + 1, sizeof *work->heap);
    if (status == COP_OK)
        status = cop_grow(&work->piece_text, &work->piece_capacity, 2 * max_bytes + 1, 1);
    if (status != COP_OK) {
        cop_encoder_destroy(encoder);
        return status;
    }
    *out = encoder;
    return COP_OK;
}

static void release_work(cop__encode_work *work) {
    cop__pre_match_destroy(work->match);
    cop_free(work->symbols);
    cop_free(work->heap);
    cop_free(work->piece_text);
}

void cop_encoder_destroy(cop_encoder *encoder) {
    if (!encoder)
        return;
    release_work(&encoder->work);
    cop_free(encoder);
}

static cop_status encode_with(const cop_tokenizer *tokenizer, cop__encode_work *work,
                              const char *text, size_t bytes, cop_encode_options options,
                              cop_token_ids *ids) {
    size_t count = ids->count;
    work->drop_unknown = options.drop_unknown;
    cop_status status = encode_all(tokenizer, work, text, bytes, options, ids);
    if (status != COP_OK)
        ids->count = count;
    return status;
}

cop_status cop_encoder_encode(cop_encoder *encoder, const char *text, size_t bytes,
                              cop_encode_options options, cop_token_ids *ids) {
    return encode_with(encoder->tokenizer, &encoder->work, text, bytes, options, ids);
}

cop_status cop_tokenizer_encode(const cop_tokenizer *tokenizer, const char *text, size_t bytes,
                                cop_encode_options options, cop_token_ids *ids) {
    if (bytes > INT32_MAX / 2)
        return COP_FAIL(COP_ERR_FORMAT,
                        "a text of %zu bytes is too long; at most %d can be encoded", bytes,
                        INT32_MAX / 2);
    cop__encode_work work = {.match = cop__pre_match_create(bytes)};
    cop_status status = work.match
                            ? encode_with(tokenizer, &work, text, bytes, options, ids)
                            : COP_FAIL(COP_ERR_NO_MEMORY, "no memory to encode %zu bytes", bytes);
    release_work(&work);
    return status;
}

static bool is_known(const cop_tokenizer *tokenizer, int32_t id) {
    return id >= 0 && (uint32_t)id < tokenizer->n_tokens;
}

uint32_t cop_tokenizer_vocab(const cop_tokenizer *tokenizer) {
    return tokenizer->n_tokens;
}

int32_t cop_tokenizer_bos(const cop_tokenizer *tokenizer) {
    return tokenizer->bos;
}

int32_t cop_tokenizer_eos(const cop_tokenizer *tokenizer) {
    return tokenizer->eos;
}

bool cop_tokenizer_is_end(const cop_tokenizer *tokenizer, int32_t id) {
    return is_known(tokenizer, id) && tokenizer->ends[id];
}

bool cop_tokenizer_is_special(const cop_tokenizer *tokenizer, int32_t id) {
    return is_known(tokenizer, id) && (tokenizer->kind[id] == COP__TOKEN_CONTROL ||
                                       tokenizer->kind[id] == COP__TOKEN_USER_DEFINED ||
                                       tokenizer->kind[id] == COP__TOKEN_UNKNOWN);
}

int32_t cop_tokenizer_find_special(const cop_tokenizer *tokenizer, const char *text, size_t bytes) {
    const cop__special *special = cop__special_find(&tokenizer->specials, text, bytes);
    return special ? special->id : -1;
}

cop_text cop_tokenizer_bytes(const cop_tokenizer *tokenizer, int32_t id) {
    return is_known(tokenizer, id) ? tokenizer->bytes[id] : (cop_text){"", 0};
}
