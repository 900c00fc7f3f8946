#include "reason/trajectory.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "base/rng.h"
#include "reason/trajectory_internal.h"

/* GPT-2's pre-tokenizer: what a byte-level BPE would split before merging. */
static const char pretoken_pattern[] = "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+"
                                       "| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const char *cop_token_origin_text(cop_token_origin origin) {
    switch (origin) {
    case COP_TOKENS_NONE:
        return "not tokenised";
    case COP_TOKENS_RECORDED:
        return "recorded token ids";
    case COP_TOKENS_TEXT:
        return "recorded text";
    case COP_TOKENS_COUNTS:
        return "token counts only";
    case COP_TOKENS_PRETOKENS:
        return "recorded text, one placeholder a pre-token (no tokenizer)";
    }
    return "unknown";
}

cop_status cop_trajectories_create(cop_trajectories **out) {
    *out = NULL;
    cop_trajectories *set = cop_calloc(1, sizeof *set);
    if (!set)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for trajectories");
    cop_status status = cop_arena_create(&set->arena);
    if (status != COP_OK) {
        cop_free(set);
        return status;
    }
    *out = set;
    return COP_OK;
}

void cop_trajectories_destroy(cop_trajectories *set) {
    if (!set)
        return;
    cop_arena_destroy(set->arena);
    cop_free(set);
}

cop_status cop__trajectories_add(cop_trajectories *set, const cop_trajectory *trajectory) {
    for (uint32_t i = 0; i < set->count; i++)
        if (strcmp(set->list[i].id, trajectory->id) == 0)
            return COP_FAIL(COP_ERR_FORMAT,
                            "a trajectory named '%.128s' is there already; give each its own id "
                            "(import takes it from the file's name)",
                            trajectory->id);
    /* Room doubles whenever the count is a power of two, so the count alone tells the room. */
    if ((set->count & (set->count - 1)) == 0) {
        size_t room = set->count ? 2 * (size_t)set->count : 1;
        cop_trajectory *list = cop_arena_calloc(set->arena, room, sizeof *list);
        if (!list)
            return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %zu trajectories", room);
        if (set->count)
            memcpy(list, set->list, set->count * sizeof *list);
        set->list = list;
    }
    set->list[set->count++] = *trajectory;
    return COP_OK;
}

/* Length of the valid UTF-8 character at `text`, 0 when there is none. */
static size_t character_bytes(const unsigned char *text, size_t bytes) {
    unsigned lead = text[0];
    if (lead < 0x80)
        return lead != 0;
    size_t need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || bytes < need)
        return 0;
    for (size_t i = 1; i < need; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    unsigned second = text[1];
    bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
    bool outside = (lead == 0xed && second >= 0xa0) || (lead == 0xf4 && second >= 0x90);
    return overlong || outside ? 0 : need;
}

size_t cop__text_fault(const char *text, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        size_t step = character_bytes((const unsigned char *)text + at, bytes - at);
        if (step == 0)
            return at;
        at += step;
    }
    return bytes;
}

cop_status cop__piece_list_add(cop__piece_list *list, cop_piece piece) {
    COP_TRY(cop_grow(&list->pieces, &list->capacity, list->count + 1, sizeof piece));
    list->pieces[list->count++] = piece;
    return COP_OK;
}

cop_status cop__piece_list_finish(const cop__piece_list *list, cop_arena *arena, cop_stream *out) {
    *out = (cop_stream){0};
    if (list->count == 0)
        return COP_OK;
    out->pieces = cop_arena_calloc(arena, list->count, sizeof *out->pieces);
    if (!out->pieces)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %zu pieces", list->count);
    memcpy(out->pieces, list->pieces, list->count * sizeof *out->pieces);
    out->n_pieces = (uint32_t)list->count;
    return COP_OK;
}

/* One walk over a trajectory's pieces, in flattened order. */
typedef struct walk {
    cop_arena *arena;
    const cop_tokenizer *tokenizer;
    uint32_t vocab;
    uint64_t seed, id_stream; /* of the trajectory */
    uint64_t order;           /* of the piece */
    cop_token_origin origin;
    uint64_t n_tokens;
    pcre2_code *pattern;
    pcre2_match_data *match;
    cop_token_ids scratch;
} walk;

static cop_status count_pretokens(const walk *w, const cop_piece *piece, uint32_t *count) {
    *count = 0;
    for (size_t at = 0; at < piece->bytes;) {
        int found =
            pcre2_match(w->pattern, (PCRE2_SPTR)piece->text, piece->bytes, at, 0, w->match, NULL);
        if (found < 0)
            return COP_FAIL(COP_ERR_INTERNAL, "pre-tokens: PCRE2 gave %d at byte %zu", found, at);
        at = pcre2_get_ovector_pointer(w->match)[1];
        ++*count;
    }
    return COP_OK;
}

static cop_status draw_id(const walk *w, uint32_t position, int32_t *out) {
    uint32_t bound = w->vocab;
    if (w->tokenizer && cop_tokenizer_vocab(w->tokenizer) < bound)
        bound = cop_tokenizer_vocab(w->tokenizer);
    cop_rng_key key = {w->seed, cop_rng_fold(w->id_stream, w->order), position};
    uint32_t id = 0;
    for (uint32_t draw = 0; draw < 16; draw++) {
        id = cop_rng_below(key, draw, bound);
        if (!w->tokenizer || !cop_tokenizer_is_special(w->tokenizer, (int32_t)id)) {
            *out = (int32_t)id;
            return COP_OK;
        }
    }
    for (uint32_t i = 0; i < bound; i++) {
        *out = (int32_t)((id + i) % bound);
        if (!cop_tokenizer_is_special(w->tokenizer, *out))
            return COP_OK;
    }
    return COP_FAIL(COP_ERR_FORMAT, "the vocabulary of %u tokens has no ordinary one", bound);
}

static cop_status check_ids(const walk *w, const cop_piece *piece) {
    for (uint32_t i = 0; i < piece->n; i++)
        if (piece->ids[i] < 0 || (uint32_t)piece->ids[i] >= w->vocab)
            return COP_FAIL(COP_ERR_MISMATCH,
                            "token %u of piece %llu has id %d, and the model's vocabulary is %u: "
                            "the trajectory was recorded with another tokenizer",
                            i, (unsigned long long)w->order, piece->ids[i], w->vocab);
    return COP_OK;
}

/* ids == NULL: room for n of them, to be drawn. */
static cop_status set_ids(const walk *w, cop_piece *piece, const int32_t *ids, size_t n) {
    if (n > UINT32_MAX / 2)
        return COP_FAIL(COP_ERR_FORMAT, "piece %llu has %zu tokens", (unsigned long long)w->order,
                        n);
    int32_t *copy = cop_arena_calloc(w->arena, n ? n : 1, sizeof *copy);
    if (!copy)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %zu tokens", n);
    for (size_t i = 0; i < n; i++) {
        if (ids)
            copy[i] = ids[i];
        else
            COP_TRY(draw_id(w, (uint32_t)i, &copy[i]));
    }
    piece->ids = copy;
    piece->n = (uint32_t)n;
    return COP_OK;
}

static cop_status walk_piece(walk *w, cop_piece *piece) {
    uint32_t count = piece->n;
    switch (w->origin) {
    case COP_TOKENS_RECORDED:
        break;
    case COP_TOKENS_TEXT:
        /* A BOS belongs to the whole text, not to each piece: the replay adds it where the model
         * asks for one. */
        w->scratch.count = 0;
        COP_TRY(cop_tokenizer_encode(w->tokenizer, piece->text, piece->bytes,
                                     (cop_encode_options){.no_bos = true}, &w->scratch));
        COP_TRY(set_ids(w, piece, w->scratch.data, w->scratch.count));
        break;
    case COP_TOKENS_PRETOKENS:
        COP_TRY(count_pretokens(w, piece, &count));
        COP_TRY(set_ids(w, piece, NULL, count));
        break;
    case COP_TOKENS_COUNTS:
        COP_TRY(set_ids(w, piece, NULL, count));
        break;
    case COP_TOKENS_NONE:
        return COP_FAIL(COP_ERR_INTERNAL, "a walk without an origin");
    }
    COP_TRY(check_ids(w, piece));
    w->n_tokens += piece->n;
    w->order++;
    return COP_OK;
}

static cop_status walk_stream(walk *w, const cop_stream *stream) {
    for (uint32_t i = 0; i < stream->n_pieces; i++) {
        const cop_block *block = stream->pieces[i].block;
        if (!block)
            COP_TRY(walk_piece(w, &stream->pieces[i]));
        for (uint32_t p = 0; block && p < block->n_paths; p++)
            COP_TRY(walk_stream(w, &block->paths[p]));
    }
    return COP_OK;
}

static cop_token_origin origin_of(const cop_trajectory *trajectory,
                                  const cop_tokenizer *tokenizer) {
    if (trajectory->origin == COP_TOKENS_RECORDED)
        return COP_TOKENS_RECORDED;
    if (trajectory->has_text && tokenizer)
        return COP_TOKENS_TEXT;
    /* Counts of a real tokenizer, where a file has them, are nearer the truth than pre-tokens. */
    bool counted = trajectory->n_tokens && trajectory->origin != COP_TOKENS_PRETOKENS;
    return counted ? COP_TOKENS_COUNTS : COP_TOKENS_PRETOKENS;
}

static cop_status tokenize_one(walk *w, cop_trajectory *trajectory) {
    w->origin = origin_of(trajectory, w->tokenizer);
    w->order = w->n_tokens = w->id_stream = 0;
    for (const char *c = trajectory->id; *c; c++)
        w->id_stream = cop_rng_fold(w->id_stream, (unsigned char)*c);
    cop_status status = walk_stream(w, &trajectory->prompt);
    if (status == COP_OK)
        status = walk_stream(w, &trajectory->stream);
    if (status != COP_OK)
        return cop_status_prefix(status, "trajectory '%.128s'", trajectory->id);
    trajectory->origin = w->origin;
    trajectory->n_tokens = w->n_tokens;
    if (w->origin == COP_TOKENS_TEXT)
        trajectory->tokenizer = NULL; /* whatever was recorded counted otherwise */
    return COP_OK;
}

cop_status cop_trajectories_tokenize(cop_trajectories *set, const cop_tokenizer *tokenizer,
                                     uint32_t vocab, uint64_t seed) {
    if (vocab == 0 || vocab > INT32_MAX)
        return COP_FAIL(COP_ERR_CONFIG, "a vocabulary of %u tokens cannot name any", vocab);
    walk w = {.arena = set->arena, .tokenizer = tokenizer, .vocab = vocab, .seed = seed};
    int code;
    PCRE2_SIZE offset;
    w.pattern = pcre2_compile((PCRE2_SPTR)pretoken_pattern, PCRE2_ZERO_TERMINATED,
                              PCRE2_UTF | PCRE2_UCP, &code, &offset, NULL);
    if (w.pattern)
        w.match = pcre2_match_data_create_from_pattern(w.pattern, NULL);
    cop_status status = COP_OK;
    if (!w.match)
        status = COP_FAIL(COP_ERR_NO_MEMORY, "PCRE2 cannot compile the pre-token pattern");
    for (uint32_t i = 0; status == COP_OK && i < set->count; i++)
        status = tokenize_one(&w, &set->list[i]);
    pcre2_match_data_free(w.match);
    pcre2_code_free(w.pattern);
    cop_token_ids_release(&w.scratch);
    return status;
}
