#include "check.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/rng.h"
#include "model/gguf.h"
#include "model/tokenizer_internal.h"
#include "tests/ref/gguf_writer.h"

static const char *const all_pres[] = {"smollm", "gpt-2", "llama-bpe", "qwen2"};

/* A vocabulary of all bytes (ids 0 to 255 in the order of bytes) and what a test adds. */
enum { VOCAB_MAX = 1024 };
typedef struct vocab {
    const char *tokens[VOCAB_MAX];
    int32_t types[VOCAB_MAX];
    const char *merges[VOCAB_MAX];
    size_t n_tokens, n_merges;
    char letters[256][3];
} vocab;

static void vocab_letters(vocab *v) {
    unsigned other = 256;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool printable = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
        unsigned code = printable ? byte : other++;
        char *letter = v->letters[byte];
        letter[0] = (char)(code < 128 ? code : 0xC0 + code / 64);
        letter[1] = (char)(code < 128 ? 0 : 0x80 + code % 64);
        letter[2] = 0;
    }
}

static void add_token(vocab *v, const char *text, int32_t type) {
    CHECK(v->n_tokens < VOCAB_MAX);
    v->tokens[v->n_tokens] = text;
    v->types[v->n_tokens++] = type;
}

static void add_merge(vocab *v, const char *line, const char *made) {
    v->merges[v->n_merges++] = line;
    if (made)
        add_token(v, made, 1);
}

static void vocab_init(vocab *v) {
    memset(v, 0, sizeof *v);
    vocab_letters(v);
    for (int byte = 0; byte < 256; byte++)
        add_token(v, v->letters[byte], 1);
}

static void write_vocab(gguf_writer *w, const vocab *v, const char *pre) {
    gguf_writer_tokenizer(w, &(gguf_writer_vocabulary){.pre = pre,
                                                       .tokens = v->tokens,
                                                       .types = v->types,
                                                       .n_tokens = v->n_tokens,
                                                       .merges = v->merges,
                                                       .n_merges = v->n_merges,
                                                       .bos = -1,
                                                       .eos = -1});
}

static cop_status create_from(const gguf_writer *w, cop_tokenizer **out) {
    gguf_image image = gguf_writer_finish(w);
    cop_gguf *gguf = NULL;
    *out = NULL;
    cop_status status = cop_gguf_open_memory(image.data, image.bytes, &gguf);
    if (status == COP_OK)
        status = cop_tokenizer_create(gguf, out);
    /* The tokenizer must not lean on the file once it is made. */
    cop_gguf_close(gguf);
    memset(image.data, 0xEE, image.bytes);
    gguf_image_release(&image);
    return status;
}

static cop_tokenizer *create(const vocab *v, const char *pre) {
    gguf_writer w = {0};
    cop_tokenizer *tokenizer = NULL;
    write_vocab(&w, v, pre);
    CHECK_OK(create_from(&w, &tokenizer));
    gguf_writer_release(&w);
    return tokenizer;
}

static void check_ids(const cop_tokenizer *t, const char *text, cop_encode_options options,
                      const int32_t *want, size_t n) {
    cop_token_ids ids = {0};
    CHECK_OK(cop_tokenizer_encode(t, text, strlen(text), options, &ids));
    CHECK_EQ(ids.count, n);
    for (size_t i = 0; i < n; i++)
        CHECK_EQ(ids.data[i], want[i]);
    cop_token_ids_release(&ids);
}

#define IDS(t, text, options, ...)                                                                 \
    check_ids((t), (text), (cop_encode_options)options, (const int32_t[]){__VA_ARGS__},            \
              sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))
#define NONE                                                                                       \
    { 0 }

static bool decodes_to(const cop_tokenizer *t, const cop_token_ids *ids, const char *text,
                       size_t bytes) {
    size_t at = 0;
    for (size_t i = 0; i < ids->count; i++) {
        cop_text piece = cop_tokenizer_bytes(t, ids->data[i]);
        if (piece.bytes > bytes - at || memcmp(piece.data, text + at, piece.bytes) != 0)
            return false;
        at += piece.bytes;
    }
    return at == bytes;
}

static void test_merges_go_by_rank(void) {
    vocab v;
    vocab_init(&v);
    add_merge(&v, "b c", "bc");   /* 256 */
    add_merge(&v, "a b", "ab");   /* 257 */
    add_merge(&v, "a bc", "abc"); /* 258 */
    add_merge(&v, "Ġ a", "Ġa");   /* 259 */
    add_merge(&v, "a a", "aa");   /* 260 */
    cop_tokenizer *t = create(&v, "gpt-2");
    IDS(t, "abc", NONE, 258);
    IDS(t, "ab", NONE, 257);
    IDS(t, "abab", NONE, 257, 257);
    IDS(t, "ab abc", NONE, 257, ' ', 258);
    IDS(t, "a ad", NONE, 'a', 259, 'd');
    IDS(t, "aaa", NONE, 260, 'a');
    IDS(t, "aaaa", NONE, 260, 260);
    IDS(t, "\xC3\xA9", NONE, 0xC3, 0xA9);
    cop_token_ids ids = {0};
    CHECK_OK(cop_tokenizer_encode(t, "", 0, (cop_encode_options){0}, &ids));
    CHECK_EQ(ids.count, 0);
    CHECK_OK(cop_tokenizer_encode(t, "a\0b", 3, (cop_encode_options){0}, &ids));
    CHECK_EQ(ids.count, 3);
    CHECK_EQ(ids.data[1], 0);
    CHECK_EQ(cop_tokenizer_bytes(t, 0).bytes, 1);
    CHECK_EQ(cop_tokenizer_bytes(t, -1).bytes, 0);
    CHECK_EQ(cop_tokenizer_bytes(t, 99999).bytes, 0);
    CHECK_EQ(cop_tokenizer_vocab(t), 261);
    cop_token_ids_release(&ids);
    cop_tokenizer_destroy(t);
    cop_tokenizer_destroy(NULL);
}

/* The definition, as slowly as it reads: again and again the leftmost pair of lowest rank. */
static size_t merge_naively(const vocab *v, const int32_t (*pairs)[3], const char *word, size_t n,
                            int32_t *out) {
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)word[i];
    for (;;) {
        size_t rank = v->n_merges, at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            for (size_t r = 0; r < rank; r++) {
                if (pairs[r][0] == out[i] && pairs[r][1] == out[i + 1]) {
                    rank = r;
                    at = i;
                }
            }
        }
        if (rank == v->n_merges)
            return n;
        out[at] = pairs[rank][2];
        memmove(out + at + 1, out + at + 2, (n - at - 2) * sizeof *out);
        n--;
    }
}

static void test_heap_equals_the_definition(void) {
    enum { MERGES = 40, WORDS = 200, LENGTH = 60 };
    size_t merged = 0;
    for (uint64_t round = 0; round < 12; round++) {
        vocab v;
        int32_t pairs[MERGES][3];
        static char texts[MERGES][512], lines[MERGES][600];
        cop_rng_key key = {.seed = 7, .stream = round};
        vocab_init(&v);
        for (uint32_t m = 0; m < MERGES; key.position++) {
            /* Left and right among the four letters and what was made before. */
            int32_t side[2];
            for (int s = 0; s < 2; s++) {
                uint32_t pick = cop_rng_below(key, (uint32_t)s, 4 + (uint32_t)(v.n_tokens - 256));
                side[s] = pick < 4 ? "abcd"[pick] : 252 + (int32_t)pick;
            }
            if (strlen(v.tokens[side[0]]) + strlen(v.tokens[side[1]]) > 30)
                continue;
            snprintf(texts[m], sizeof texts[m], "%s%s", v.tokens[side[0]], v.tokens[side[1]]);
            bool fresh = true;
            for (size_t i = 256; i < v.n_tokens; i++)
                fresh = fresh && strcmp(v.tokens[i], texts[m]) != 0;
            if (!fresh)
                continue;
            snprintf(lines[m], sizeof lines[m], "%s %s", v.tokens[side[0]], v.tokens[side[1]]);
            pairs[m][0] = side[0];
            pairs[m][1] = side[1];
            pairs[m][2] = (int32_t)v.n_tokens;
            add_merge(&v, lines[m], texts[m]);
            m++;
        }
        cop_tokenizer *t = create(&v, "gpt-2");
        for (uint32_t w = 0; w < WORDS; w++, key.position++) {
            char word[LENGTH];
            int32_t want[LENGTH];
            size_t n = 1 + cop_rng_below(key, 100, LENGTH);
            for (size_t i = 0; i < n; i++)
                word[i] = "abcd"[cop_rng_below(key, 200 + (uint32_t)i, 4)];
            size_t n_want = merge_naively(&v, (const int32_t(*)[3])pairs, word, n, want);
            cop_token_ids ids = {0};
            CHECK_OK(cop_tokenizer_encode(t, word, n, (cop_encode_options){0}, &ids));
            CHECK_EQ(ids.count, n_want);
            CHECK(memcmp(ids.data, want, n_want * sizeof *want) == 0);
            CHECK(decodes_to(t, &ids, word, n));
            merged += n - n_want;
            cop_token_ids_release(&ids);
        }
        cop_tokenizer_destroy(t);
    }
    printf("  %zu merges\n", merged);
    CHECK(merged > 10000);
}

/* One word of 256 kB: a quadratic merge would take many minutes, a quadratic split too. */
static void test_long_words_are_not_quadratic(void) {
    enum { BYTES = 1 << 18 };
    vocab v;
    vocab_init(&v);
    add_merge(&v, "a b", "ab");
    add_merge(&v, "ab ab", "abab");
    add_merge(&v, "abab abab", "abababab");
    char *text = malloc(BYTES);
    CHECK(text);
    for (size_t pre = 0; pre < 4; pre++) {
        cop_tokenizer *t = create(&v, all_pres[pre]);
        for (int shape = 0; shape < 3; shape++) {
            for (size_t i = 0; i < BYTES; i++)
                text[i] = shape == 0 ? "ab"[i % 2] : shape == 1 ? ' ' : "\n "[i % 2];
            text[BYTES - 1] = 'b';
            cop_token_ids ids = {0};
            uint64_t begin = cop_clock_ns();
            CHECK_OK(cop_tokenizer_encode(t, text, BYTES, (cop_encode_options){0}, &ids));
            CHECK(cop_clock_ns() - begin < UINT64_C(20000000000));
            CHECK(shape != 0 || ids.count == BYTES / 8);
            CHECK(decodes_to(t, &ids, text, BYTES));
            cop_token_ids_release(&ids);
        }
        cop_tokenizer_destroy(t);
    }
    free(text);
}

static void test_special_tokens(void) {
    vocab v;
    vocab_init(&v);
    add_token(&v, "<|a|>", 3);      /* 256 */
    add_token(&v, "<|a|>b", 3);     /* 257: longer, same beginning */
    add_token(&v, "|>c", 3);        /* 258: begins inside the others */
    add_token(&v, "<u>", 4);        /* 259: user-defined */
    add_token(&v, "<|im_end|>", 3); /* 260 */
    add_token(&v, "éé", 3);         /* 261: its own text, not bytes of the alphabet */
    add_merge(&v, "< |", "<|");     /* 262 */
    cop_tokenizer *t = create(&v, "smollm");
    IDS(t, "<|a|>", NONE, 256);
    IDS(t, "x<|a|>b<|a|>c", NONE, 'x', 257, 256, 'c');
    IDS(t, "|>c|>", NONE, 258, '|', '>');
    IDS(t, "<|a|>c", NONE, 256, 'c');
    IDS(t, "<|a|<u>", NONE, 262, 'a', '|', 259);
    IDS(t, "<|a|", NONE, 262, 'a', '|');
    IDS(t, "éé\xC3", NONE, 261, 0xC3);
    IDS(t, "<|a|>", {.plain = true}, 262, 'a', '|', '>');
    IDS(t, "<u><|a|>", {.plain = true}, 259, 262, 'a', '|', '>');
    CHECK_EQ(cop_tokenizer_find_special(t, "<|a|>b", 6), 257);
    CHECK_EQ(cop_tokenizer_find_special(t, "<|a|>bc", 7), -1);
    CHECK_EQ(cop_tokenizer_find_special(t, "<|a", 3), -1);
    CHECK_EQ(cop_tokenizer_find_special(t, "a", 1), -1);
    CHECK(cop_tokenizer_is_special(t, 256) && cop_tokenizer_is_special(t, 259));
    CHECK(!cop_tokenizer_is_special(t, 'a') && !cop_tokenizer_is_special(t, -5));
    CHECK(cop_tokenizer_is_end(t, 260) && !cop_tokenizer_is_end(t, 256));
    CHECK_EQ(cop_tokenizer_bytes(t, 261).bytes, 4);
    CHECK_EQ(cop_tokenizer_bos(t), -1);
    CHECK_EQ(cop_tokenizer_eos(t), -1);
    cop_tokenizer_destroy(t);
}

static void test_bos_and_eos_are_added_only_when_asked(void) {
    vocab v;
    vocab_init(&v);
    add_token(&v, "<s>", 3);
    add_token(&v, "<end>", 3);
    for (int bits = 0; bits < 4; bits++) {
        gguf_writer w = {0};
        cop_tokenizer *t = NULL;
        write_vocab(&w, &v, "llama-bpe");
        gguf_writer_u32(&w, "tokenizer.ggml.bos_token_id", 256);
        gguf_writer_u32(&w, "tokenizer.ggml.eos_token_id", 257);
        if (bits & 1)
            gguf_writer_bool(&w, "tokenizer.ggml.add_bos_token", true);
        if (bits & 2)
            gguf_writer_bool(&w, "tokenizer.ggml.add_eos_token", true);
        CHECK_OK(create_from(&w, &t));
        cop_token_ids ids = {0};
        CHECK_OK(cop_tokenizer_encode(t, "a", 1, (cop_encode_options){0}, &ids));
        CHECK_EQ(ids.count, (size_t)(1 + (bits & 1) + (bits >> 1)));
        CHECK_EQ(ids.data[0], bits & 1 ? 256 : 'a');
        CHECK_EQ(ids.data[ids.count - 1], bits & 2 ? 257 : 'a');
        IDS(t, "a", {.no_bos = true}, 'a');
        CHECK_EQ(cop_tokenizer_bos(t), 256);
        CHECK_EQ(cop_tokenizer_eos(t), 257);
        CHECK(cop_tokenizer_is_end(t, 257));
        cop_token_ids_release(&ids);
        cop_tokenizer_destroy(t);
        gguf_writer_release(&w);
    }
}

static void test_whole_pieces_before_merges(void) {
    vocab v;
    vocab_init(&v);
    add_token(&v, "Ġhello", 1); /* 256: no merge makes it */
    add_merge(&v, "l l", "ll");
    cop_tokenizer *t = create(&v, "llama-bpe");
    IDS(t, " hello", NONE, 256);
    IDS(t, "hello", NONE, 'h', 'e', 257, 'o');
    cop_tokenizer_destroy(t);
    t = create(&v, "dbrx"); /* the same expression, merges alone */
    IDS(t, " hello", NONE, ' ', 'h', 'e', 257, 'o');
    cop_tokenizer_destroy(t);
}

static void test_any_bytes_survive(void) {
    vocab v;
    vocab_init(&v);
    add_merge(&v, "Ã ©", "Ã©");
    add_merge(&v, "a b", "ab");
    add_token(&v, "<|x|>", 3);
    for (size_t pre = 0; pre < 4; pre++) {
        cop_tokenizer *t = create(&v, all_pres[pre]);
        /* A stray byte is a piece of its own, and text goes on behind it. */
        IDS(t,
            "ab\xFF"
            "ab",
            NONE, 257, 0xFF, 257);
        IDS(t, "\xE2\x82", NONE, 0xE2, 0x82);
        IDS(t, "\xED\xA0\x80", NONE, 0xED, 0xA0, 0x80);
        cop_rng_key key = {.seed = 11, .stream = pre};
        for (uint32_t round = 0; round < 400; round++, key.position++) {
            char text[64];
            size_t n = cop_rng_below(key, 0, sizeof text);
            for (size_t i = 0; i < n; i++) {
                uint32_t pick = cop_rng_below(key, 1 + (uint32_t)i, 512);
                text[i] = pick < 256 ? (char)pick : "ab \n\t'sé7<|x|>"[pick % 14];
            }
            cop_token_ids ids = {0};
            CHECK_OK(cop_tokenizer_encode(t, text, n, (cop_encode_options){0}, &ids));
            CHECK(decodes_to(t, &ids, text, n));
            cop_token_ids_release(&ids);
        }
        cop_tokenizer_destroy(t);
    }
}

static void test_bytes_without_a_token(void) {
    vocab v;
    vocab_init(&v);
    v.tokens[4] = "filler"; /* no token stands for byte 4 */
    add_merge(&v, "a b", "ab");
    add_token(&v, "<|x|>", 3);
    cop_tokenizer *t = create(&v, "smollm");
    cop_token_ids ids = {0};
    CHECK_OK(cop_tokenizer_encode(t, "ab", 2, (cop_encode_options){0}, &ids));
    CHECK_STATUS(cop_tokenizer_encode(t, "ab <|x|>cd\x04", 11, (cop_encode_options){0}, &ids),
                 COP_ERR_FORMAT);
    CHECK_MESSAGE("0x04 at offset 10");
    CHECK_EQ(ids.count, 1);
    CHECK_EQ(ids.data[0], 256);
    cop_token_ids_release(&ids);
    IDS(t,
        "a\x04"
        "b",
        {.drop_unknown = true}, 'a', 'b');
    IDS(t, ".\x04.", {.drop_unknown = true}, '.', '.');
    cop_tokenizer_destroy(t);
}

static void check_refused(gguf_writer *w, cop_status expected, const char *part) {
    cop_tokenizer *t = NULL;
    CHECK_STATUS(create_from(w, &t), expected);
    CHECK(!t);
    CHECK_MESSAGE(part);
    gguf_writer_release(w);
}

typedef struct hostile_case {
    cop_status status;
    const char *part; /* of the message */
} hostile_case;

/* Each case breaks one thing: in the vocabulary, before it is written .. */
static const hostile_case hostile_vocabularies[] = {
    {COP_ERR_FORMAT, "tokens[258] repeats token 257, \"ab\""},
    {COP_ERR_FORMAT, "merges[1] needs the token \"zz\""},
    {COP_ERR_FORMAT, "merges[1] needs the token \"zz\""},
    {COP_ERR_FORMAT, "merges[1] needs the token \"ac\""},
    {COP_ERR_FORMAT, "merges[1] is \"ab\""},
    {COP_ERR_FORMAT, "merges[1] is \"a \""},
    {COP_ERR_FORMAT, "merges[1] is \"\""},
    {COP_ERR_FORMAT, "token_type[7] is 0"},
    {COP_ERR_FORMAT, "token_type[7] is 7"},
    {COP_ERR_FORMAT, "token_type[7] is -1"},
    {COP_ERR_FORMAT, "tokens[258], a special token, has 0 bytes"},
    {COP_ERR_FORMAT, "tokens[258], a special token, has 1025 bytes"},
    {COP_ERR_FORMAT, "tokens[258] is not UTF-8 at byte 0"},
};
enum { HOSTILE_VOCABULARIES = sizeof hostile_vocabularies / sizeof hostile_vocabularies[0] };

static void break_vocabulary(vocab *v, int i, const char *long_special) {
    static const char *const merges[] = {"a zz", "zz a", "a c", "ab", "a ", ""};
    static const int32_t types[] = {0, 7, -1};
    const char *const tokens[] = {"", long_special, "\xC3("};
    if (i == 0)
        add_token(v, "ab", 1);
    else if (i <= 6)
        add_merge(v, merges[i - 1], NULL);
    else if (i <= 9)
        v->types[7] = types[i - 7];
    else
        add_token(v, tokens[i - 10], i < 12 ? 3 : 1);
}

/* .. and in the metadata. */
static const hostile_case hostile_keys[] = {
    {COP_ERR_UNSUPPORTED, "\"gpt-9\""},
    {COP_ERR_FORMAT, "bos_token_id is 999"},
    {COP_ERR_FORMAT, "eos_token_id is 258"},
    {COP_ERR_FORMAT, "token_type has 3 elements, tokenizer.ggml.tokens 258"},
    {COP_ERR_FORMAT, "add_bos_token is set, but tokenizer.ggml.bos_token_id is missing"},
    {COP_ERR_FORMAT, "llama.vocab_size is 300, but tokenizer.ggml.tokens has 258"},
    {COP_ERR_UNSUPPORTED, "tokenizer.ggml.model is \"llama\""},
    {COP_ERR_UNSUPPORTED, "tokenizer.ggml.pre is missing"},
    {COP_ERR_FORMAT, "tokenizer.ggml.merges"},
    {COP_ERR_FORMAT, "tokenizer.ggml.tokens"},
};
enum { HOSTILE_KEYS = sizeof hostile_keys / sizeof hostile_keys[0] };

static void break_keys(gguf_writer *w, int i) {
    static const int32_t few_types[3] = {1, 1, 1};
    if (i == 0)
        gguf_writer_text(w, "tokenizer.ggml.pre", "gpt-9");
    if (i == 1)
        gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", 999);
    if (i == 2)
        gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", 258);
    if (i == 3)
        gguf_writer_i32_array(w, "tokenizer.ggml.token_type", few_types, 3);
    if (i == 4)
        gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", true);
    if (i == 5) {
        gguf_writer_text(w, "general.architecture", "llama");
        gguf_writer_u32(w, "llama.vocab_size", 300);
    }
    if (i == 6)
        gguf_writer_text(w, "tokenizer.ggml.model", "llama");
    if (i == 7)
        gguf_writer_remove_key(w, "tokenizer.ggml.pre");
    if (i == 8)
        gguf_writer_remove_key(w, "tokenizer.ggml.merges");
    if (i == 9)
        gguf_writer_remove_key(w, "tokenizer.ggml.tokens");
}

static void test_hostile_metadata_is_named(void) {
    static char long_special[COP__SPECIAL_BYTES_MAX + 2];
    memset(long_special, 'x', sizeof long_special - 1);
    for (int i = 0; i < HOSTILE_VOCABULARIES + HOSTILE_KEYS; i++) {
        bool in_keys = i >= HOSTILE_VOCABULARIES;
        const hostile_case *want =
            in_keys ? &hostile_keys[i - HOSTILE_VOCABULARIES] : &hostile_vocabularies[i];
        vocab v;
        gguf_writer w = {0};
        vocab_init(&v);
        add_token(&v, "<s>", 3);
        add_merge(&v, "a b", "ab");
        if (!in_keys)
            break_vocabulary(&v, i, long_special);
        write_vocab(&w, &v, "gpt-2");
        if (in_keys)
            break_keys(&w, i - HOSTILE_VOCABULARIES);
        check_refused(&w, want->status, want->part);
    }
}

static void test_pre_tokenizer_names(void) {
    static const char *const names[] = {"smollm",    "starcoder", "gpt-2",     "phi-2",
                                        "llama-bpe", "llama3",    "llama-v3",  "falcon3",
                                        "smaug-bpe", "qwen2",     "stablelm2", "deepseek-r1-qwen"};
    static const char *const unknown[] = {"", " ", "smol", "smollm ", "gpt-2 phi-2", "SMOLLM"};
    cop__pre *pre = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        CHECK_OK(cop__pre_create(names[i], strlen(names[i]), &pre));
        cop__pre_destroy(pre);
    }
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        CHECK_STATUS(cop__pre_create(unknown[i], strlen(unknown[i]), &pre), COP_ERR_UNSUPPORTED);
        CHECK(!pre);
    }
    CHECK_STATUS(cop__pre_create("smollm\0x", 8, &pre), COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("known are: smollm ");
    CHECK_MESSAGE(" qwen2 ");
}

typedef struct thread_run {
    const cop_tokenizer *tokenizer;
    cop_token_ids ids;
} thread_run;

static const char thread_text[] = "ab'll cab 12345  <|x|>\n\n abc été\xFF  don't";

static void *encode_often(void *context) {
    thread_run *run = context;
    for (int i = 0; i < 300; i++) {
        run->ids.count = 0;
        CHECK_OK(cop_tokenizer_encode(run->tokenizer, thread_text, sizeof thread_text - 1,
                                      (cop_encode_options){0}, &run->ids));
    }
    return NULL;
}

static void test_threads_share_a_tokenizer(void) {
    enum { THREADS = 4 };
    vocab v;
    vocab_init(&v);
    add_merge(&v, "a b", "ab");
    add_merge(&v, "c ab", "cab");
    add_token(&v, "<|x|>", 3);
    cop_tokenizer *t = create(&v, "llama-bpe");
    pthread_t thread[THREADS];
    thread_run run[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) {
        run[i].tokenizer = t;
        CHECK(pthread_create(&thread[i], NULL, encode_often, &run[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(run[i].ids.count, run[0].ids.count);
        CHECK(memcmp(run[i].ids.data, run[0].ids.data, run[0].ids.count * 4) == 0);
        CHECK(decodes_to(t, &run[i].ids, thread_text, sizeof thread_text - 1));
    }
    for (int i = 0; i < THREADS; i++)
        cop_token_ids_release(&run[i].ids);
    cop_tokenizer_destroy(t);
}

int main(void) {
    RUN(test_merges_go_by_rank);
    RUN(test_heap_equals_the_definition);
    RUN(test_long_words_are_not_quadratic);
    RUN(test_special_tokens);
    RUN(test_bos_and_eos_are_added_only_when_asked);
    RUN(test_whole_pieces_before_merges);
    RUN(test_any_bytes_survive);
    RUN(test_bytes_without_a_token);
    RUN(test_hostile_metadata_is_named);
    RUN(test_pre_tokenizer_names);
    RUN(test_threads_share_a_tokenizer);
    return check_report();
}
