/* The parts of the tokenizer, for its own files alone.
 *
 * tokenizer_load.c     metadata -> the tables below, hostile until checked
 * tokenizer_pre.c      the pre-tokenizers: one anchored regular expression each, run by PCRE2
 * tokenizer_bpe.c      merging one piece by rank, with a heap over a linked list
 * tokenizer_special.c  the text of special tokens, leftmost first and then longest
 * utf8_stream.c        UTF-8 forwards: validity, and characters that are split over tokens
 * tokenizer.c          the door
 *
 * Everything in cop_tokenizer is constant once it is loaded; what a call needs to write to lives in
 * its cop__encode_work. Hash tables are keyed at random, so that no file can make them degenerate;
 * nothing that can be seen depends on the key.
 */
#pragma once

#include "model/tokenizer.h"

enum {
    COP__BYTE_LEVEL_CODES = 324,  /* code points of the byte-level alphabet are below this */
    COP__SPECIAL_BYTES_MAX = 1024 /* longest text of a special token: bounds the matching */
};

typedef enum cop__token_kind { /* tokenizer.ggml.token_type */
                               COP__TOKEN_NORMAL = 1,
                               COP__TOKEN_UNKNOWN = 2,
                               COP__TOKEN_CONTROL = 3,
                               COP__TOKEN_USER_DEFINED = 4,
                               COP__TOKEN_UNUSED = 5,
                               COP__TOKEN_BYTE = 6,
} cop__token_kind;

typedef struct cop__text_index { /* text -> id, open addressing; a slot is id + 1, 0 is free */
    uint32_t *slots;
    size_t mask;
    uint64_t key;
} cop__text_index;

typedef struct cop__merge { /* pair = left id << 32 | right id */
    uint64_t pair;
    uint32_t rank;
    int32_t merged; /* -1: the slot is free */
} cop__merge;

typedef struct cop__merge_map {
    cop__merge *slots;
    size_t mask;
    uint64_t key;
} cop__merge_map;

typedef struct cop__special {
    cop_text text;
    int32_t id;
} cop__special;

typedef struct cop__special_set { /* sorted by text */
    cop__special *items;
    uint32_t count;
    bool starts[256]; /* some text begins with this byte */
} cop__special_set;

typedef struct cop__pre cop__pre;

struct cop_tokenizer {
    cop_arena *arena; /* owns every table */
    uint32_t n_tokens;
    cop_text *text;  /* [n_tokens] as in the vocabulary, in the byte-level alphabet */
    cop_text *bytes; /* [n_tokens] what the token stands for */
    uint8_t *kind;   /* [n_tokens] cop__token_kind */
    bool *ends;      /* [n_tokens] stops generation */
    cop__text_index index;
    cop__merge_map merges;
    cop__special_set specials;     /* control, unknown and user-defined */
    cop__special_set user_defined; /* what is matched even when specials are plain text */
    int32_t byte_token[256];       /* -1: the vocabulary lacks it */
    char byte_text[256][2];        /* the byte in the byte-level alphabet */
    uint8_t byte_text_bytes[256];
    int32_t bos, eos;
    bool add_bos, add_eos;
    cop__pre *pre;
};

typedef struct cop__symbol {
    int32_t id; /* -1: merged away */
    int32_t previous, next;
} cop__symbol;

typedef struct cop__candidate {
    uint32_t rank;
    int32_t left;
    int32_t left_id, right_id; /* as they were: a stale candidate no longer agrees */
    int32_t merged;
} cop__candidate;

typedef struct cop__encode_work { /* one call's; zero-initialise */
    cop__symbol *symbols;
    size_t symbol_capacity;
    cop__candidate *heap;
    size_t heap_count, heap_capacity;
    char *piece_text;
    size_t piece_capacity;
    void *match; /* cop__pre_match */
    bool drop_unknown;
} cop__encode_work;

/* tokenizer_load.c */
cop_status cop__tokenizer_load(cop_tokenizer *tokenizer, const cop_gguf *gguf);
int32_t cop__text_find(const cop_tokenizer *tokenizer, const char *text, size_t bytes);
/* NULL when the pair does not merge. */
const cop__merge *cop__merge_find(const cop__merge_map *map, int32_t left, int32_t right);

/* tokenizer_pre.c */
cop_status cop__pre_create(const char *name, size_t name_bytes, cop__pre **out);
void cop__pre_destroy(cop__pre *pre);
/* A piece that is a token as it stands is taken whole, whatever the merges say. */
bool cop__pre_takes_whole(const cop__pre *pre);
/* State of one encode call of at most `bytes` bytes of text; NULL without memory. */
void *cop__pre_match_create(size_t bytes);
void cop__pre_match_destroy(void *match);
/* The piece at `at` of valid UTF-8 text [0, bytes) ends before *end. */
cop_status cop__pre_next(const cop__pre *pre, void *match, const char *text, size_t bytes,
                         size_t at, size_t *end);

/* tokenizer_bpe.c: appends the ids of one piece, which stands at byte `offset` of the text. */
cop_status cop__bpe_encode(const cop_tokenizer *tokenizer, cop__encode_work *work,
                           const char *piece, size_t bytes, size_t offset, cop_token_ids *ids);
cop_status cop__ids_push(cop_token_ids *ids, int32_t id);

/* tokenizer_special.c */
void cop__special_sort(cop__special_set *set);
const cop__special *cop__special_find(const cop__special_set *set, const char *text, size_t bytes);
/* The first special token at or after *at; *at becomes where it begins. NULL: none, *at = bytes. */
const cop__special *cop__special_next(const cop__special_set *set, const char *text, size_t bytes,
                                      size_t *at);

/* utf8_stream.c: bytes of the well-formed character at the front, 0 when there is none. */
size_t cop__utf8_character(const char *text, size_t bytes);
/* The code point of a well-formed character of that many bytes. */
uint32_t cop__utf8_code(const char *text, size_t bytes);
