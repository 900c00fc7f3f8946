#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdio.h>
#include <string.h>

#include "model/tokenizer_internal.h"

/* Character classes are written out where libraries disagree. White space is Unicode's property
 * (PCRE2's \s adds U+180E). Letters and numbers are those of PCRE2 plus what Unicode 15 and 16
 * added, so that PCRE2 10.40 to 10.46 agree with one another and with the tokenizers library
 * (Oniguruma, Unicode 16); its Digits step follows Unicode 17. */
#define SPACE                                                                                      \
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"   \
    "\\x{3000}"
#define LETTER                                                                                     \
    "\\p{L}\\x{1c89}-\\x{1c8a}\\x{a7cb}-\\x{a7cd}\\x{a7da}-\\x{a7dc}\\x{105c0}-\\x{105f3}"         \
    "\\x{10d4a}-\\x{10d65}\\x{10d6f}-\\x{10d85}\\x{10ec2}-\\x{10ec4}\\x{1123f}-\\x{11240}"         \
    "\\x{11380}-\\x{11389}\\x{1138b}\\x{1138e}\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}"           \
    "\\x{113d3}\\x{11bc0}-\\x{11be0}\\x{11f02}\\x{11f04}-\\x{11f10}\\x{11f12}-\\x{11f33}"          \
    "\\x{1342f}\\x{13441}-\\x{13446}\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}"                    \
    "\\x{16d40}-\\x{16d6c}\\x{18cff}\\x{1b132}\\x{1b155}\\x{1df25}-\\x{1df2a}"                     \
    "\\x{1e030}-\\x{1e06d}\\x{1e4d0}-\\x{1e4eb}\\x{1e5d0}-\\x{1e5ed}\\x{1e5f0}\\x{2b739}"          \
    "\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"
#define NUMBER                                                                                     \
    "\\p{N}\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}"   \
    "\\x{16130}-\\x{16139}\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}"         \
    "\\x{1e4f0}-\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}"
#define DIGIT NUMBER "\\x{11de0}-\\x{11de9}\\x{16ff4}-\\x{16ff6}"

#define CONTRACTION "'s|'t|'re|'ve|'m|'ll|'d"

/* "Language models are unsupervised multitask learners" (2019), as every byte-level BPE has it. */
#define PATTERN_GPT2                                                                               \
    CONTRACTION "| ?[" LETTER "]+| ?[" NUMBER "]+| ?[^" SPACE LETTER NUMBER "]+"                   \
                "|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"

/* Each digit on its own first, then GPT-2's on what lies between: in one expression, a digit ends
 * the text as far as the look-ahead is concerned, and takes no space in front. */
#define PATTERN_DIGITS                                                                             \
    CONTRACTION "| ?[" LETTER "]+|[" DIGIT "]| ?[^" SPACE LETTER DIGIT "]+"                        \
                "|[" SPACE "]+(?![^" SPACE DIGIT "])|[" SPACE "]+"

#define PATTERN_LLAMA3(numbers)                                                                    \
    "(?i:" CONTRACTION ")|[^\\r\\n" LETTER NUMBER "]?[" LETTER "]+|[" NUMBER "]" numbers           \
    "| ?[^" SPACE LETTER NUMBER "]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+"                                \
    "|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"

typedef struct pre_rule {
    const char *pattern;
    bool takes_whole;
    const char *names; /* llama.cpp's, each between blanks; the first is the one that we print */
} pre_rule;

static const pre_rule rules[] = {
    {PATTERN_DIGITS, false,
     " smollm starcoder refact command-r codeshell exaone minerva-7b mellum2 "},
    {PATTERN_GPT2, false,
     " gpt-2 phi-2 mpt olmo jais trillion jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 "
     "mellum modern-bert exaone4 granite-docling "},
    {PATTERN_LLAMA3("{1,3}"), true,
     " llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano "},
    {PATTERN_LLAMA3("{1,3}"), false, " dbrx smaug-bpe chatglm-bpe glm4 "},
    {PATTERN_LLAMA3(""), false,
     " qwen2 deepseek-r1-qwen stablelm2 megrez hunyuan kormo f2llmv2 solar-open grok-2 "},
};

enum { RULE_COUNT = sizeof rules / sizeof rules[0] };

struct cop__pre {
    pcre2_code *code;
    const pre_rule *rule;
};

typedef struct pre_match {
    pcre2_match_data *data;
    pcre2_match_context *context;
} pre_match;

static const pre_rule *find_rule(const char *name, size_t bytes) {
    char word[64];
    if (bytes == 0 || bytes + 3 > sizeof word || memchr(name, ' ', bytes) ||
        memchr(name, '\0', bytes))
        return NULL;
    snprintf(word, sizeof word, " %.*s ", (int)bytes, name);
    for (size_t i = 0; i < RULE_COUNT; i++) {
        if (strstr(rules[i].names, word))
            return &rules[i];
    }
    return NULL;
}

static cop_status fail_unknown(const char *name, size_t bytes) {
    char known[768] = "";
    for (size_t i = 0; i < RULE_COUNT; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s", rules[i].names + (i > 0));
    }
    return COP_FAIL(
        COP_ERR_UNSUPPORTED,
        "tokenizer.ggml.pre is \"%.*s\", a pre-tokenizer that is not known; known are:%s",
        (int)(bytes < 64 ? bytes : 64), name, known);
}

cop_status cop__pre_create(const char *name, size_t name_bytes, cop__pre **out) {
    *out = NULL;
    const pre_rule *rule = find_rule(name, name_bytes);
    if (!rule)
        return fail_unknown(name, name_bytes);
    cop__pre *pre = cop_calloc(1, sizeof *pre);
    if (!pre)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a pre-tokenizer");
    int error = 0;
    PCRE2_SIZE where = 0;
    pre->rule = rule;
    pre->code = pcre2_compile((PCRE2_SPTR)rule->pattern, PCRE2_ZERO_TERMINATED,
                              PCRE2_UTF | PCRE2_ANCHORED, &error, &where, NULL);
    if (!pre->code) {
        cop__pre_destroy(pre);
        return COP_FAIL(COP_ERR_INTERNAL,
                        "PCRE2 error %d at %zu of the pre-tokenizer; it needs PCRE2 with Unicode",
                        error, (size_t)where);
    }
    /* Without the compiler (a machine that forbids it) PCRE2 interprets: slower, the same pieces.
     */
    (void)pcre2_jit_compile(pre->code, PCRE2_JIT_COMPLETE);
    *out = pre;
    return COP_OK;
}

void cop__pre_destroy(cop__pre *pre) {
    if (!pre)
        return;
    pcre2_code_free(pre->code);
    cop_free(pre);
}

bool cop__pre_takes_whole(const cop__pre *pre) {
    return pre->rule->takes_whole;
}

void cop__pre_match_destroy(void *match) {
    pre_match *own = match;
    if (!own)
        return;
    pcre2_match_data_free(own->data);
    pcre2_match_context_free(own->context);
    cop_free(own);
}

void *cop__pre_match_create(size_t bytes) {
    pre_match *own = cop_calloc(1, sizeof *own);
    if (!own)
        return NULL;
    own->data = pcre2_match_data_create(1, NULL);
    own->context = pcre2_match_context_create(NULL);
    if (!own->data || !own->context) {
        cop__pre_match_destroy(own);
        return NULL;
    }
    /* The expressions give back each character at most once: a match that needs more steps than
     * this is a defect, and must be an error rather than a hang. */
    size_t limit = 8 * (bytes + 1024);
    pcre2_set_match_limit(own->context, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
    return own;
}

cop_status cop__pre_next(const cop__pre *pre, void *match, const char *text, size_t bytes,
                         size_t at, size_t *end) {
    pre_match *own = match;
    uint32_t flags = PCRE2_NO_UTF_CHECK;
    int found = pcre2_match(pre->code, (PCRE2_SPTR)text, bytes, at, flags, own->data, own->context);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found = pcre2_match(pre->code, (PCRE2_SPTR)text, bytes, at, flags | PCRE2_NO_JIT, own->data,
                            own->context);
    if (found < 1)
        return COP_FAIL(COP_ERR_INTERNAL,
                        "PCRE2 error %d in the pre-tokenizer, %zu bytes into a run", found, at);
    *end = pcre2_get_ovector_pointer(own->data)[1];
    return *end > at ? COP_OK : COP_FAIL(COP_ERR_INTERNAL, "the pre-tokenizer found nothing");
}
