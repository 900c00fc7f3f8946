#include <string.h>

#include "job/joins_internal.h"

enum {
    T_REPREFILL,
    T_EQUAL,
    T_MASKED,
    T_BOTH,
    T_STITCH,
    T_NEXT,
    T_DROPPED,
    T_STITCH_REVERSED,
    T_REPREFILL_REVERSED,
    T_OTHER,
    T_MESSAGE, /* only where the dialect joins by message */
    T_SHARED,  /* only where no path holds a block */
    N_VARIANTS
};

static const cop__joins_variant variants[N_VARIANTS] = {
    [T_REPREFILL] = {"reprefill", COP__KEYS_COMPUTED, .siblings_seen = true},
    [T_EQUAL] = {"reprefill, equal starts", COP__KEYS_COMPUTED, true, true, true},
    [T_MASKED] = {"reprefill, siblings masked", COP__KEYS_COMPUTED},
    [T_BOTH] = {"reprefill, masked, equal starts", COP__KEYS_COMPUTED, false, true, true},
    [T_STITCH] = {"stitch", COP__KEYS_KEPT, false, true, true},
    [T_NEXT] = {"stitch, next position", COP__KEYS_KEPT, false, true, false},
    [T_DROPPED] = {"paths dropped", COP__KEYS_NONE},
    [T_STITCH_REVERSED] = {"stitch, siblings reversed", COP__KEYS_KEPT, false, true, true, true},
    [T_REPREFILL_REVERSED] = {"reprefill, siblings reversed", COP__KEYS_COMPUTED, true,
                              .reversed = true},
    [T_OTHER] = {"reprefill, other arithmetic", COP__KEYS_COMPUTED, true, .other_arith = true},
    [T_MESSAGE] = {"message", COP__KEYS_REPLIES},
    [T_SHARED] = {"shared", COP__KEYS_LIVE},
};

static const cop_joins_contrast contrasts[] = {
    {"positions",
     "re-prefill, but all paths begin at one position and the text behind them at "
     "1 + the largest: positions alone",
     T_EQUAL, T_REPREFILL, COP_JOINS_AGAINST_REFERENCE},
    {"visibility", "re-prefill, but no path sees another: visibility alone", T_MASKED, T_REPREFILL,
     COP_JOINS_AGAINST_REFERENCE},
    {"positions+visibility", "both of these, computed again", T_BOTH, T_REPREFILL,
     COP_JOINS_AGAINST_REFERENCE},
    {"stitch", "stitch: the branches' own keys and values, nothing computed again", T_STITCH,
     T_REPREFILL, COP_JOINS_AGAINST_REFERENCE},
    {"stitch-next", "stitch, but the text behind the join is numbered by tokens", T_NEXT,
     T_REPREFILL, COP_JOINS_AGAINST_REFERENCE},
    {"dropped", "nothing of the paths is seen: what the join carries at all", T_DROPPED,
     T_REPREFILL, COP_JOINS_AGAINST_REFERENCE},
    {"recomputation",
     "stitch against the same positions and visibility, computed again: "
     "recomputation alone",
     T_STITCH, T_BOTH, COP_JOINS_ALONE},
    {"conclusion-position",
     "stitch-next against stitch: the position of the text behind the join "
     "alone",
     T_NEXT, T_STITCH, COP_JOINS_ALONE},
    {"band-stitch-order", "stitch with its paths in the opposite order: rounding",
     T_STITCH_REVERSED, T_STITCH, COP_JOINS_BAND},
    {"band-reprefill-order",
     "re-prefill with its paths in the opposite order: an equally good "
     "text, and other positions",
     T_REPREFILL_REVERSED, T_REPREFILL, COP_JOINS_BAND},
    {"band-arithmetic", "re-prefill in the other arithmetic", T_OTHER, T_REPREFILL, COP_JOINS_BAND},
    {"message", "only what each path returns, by the dialect of the record", T_MESSAGE, T_REPREFILL,
     COP_JOINS_AGAINST_REFERENCE},
    {"shared",
     "paths that see each other while they are decoded; what follows is numbered by tokens",
     T_SHARED, T_REPREFILL, COP_JOINS_AGAINST_REFERENCE},
};

enum { N_CONTRASTS = sizeof contrasts / sizeof contrasts[0] };
_Static_assert((int)N_VARIANTS <= (int)COP_JOINS_TRACKS &&
                   (int)N_CONTRASTS <= (int)COP_JOINS_CONTRASTS,
               "a table has room for all of them");

/* Why there is no track of the rule; NULL: there is one. */
static const char *why_no_message(const cop_model *model, const cop_trajectory *trajectory,
                                  const cop_dialect *dialect) {
    if (!dialect || dialect->join != COP_JOIN_MESSAGE)
        return "message: the dialect of the record does not say what a path would return";
    if (!trajectory->has_text || !cop_model_tokenizer(model))
        return "message: without the record's text and a tokenizer, what a path returns cannot be "
               "cut out of it";
    return NULL;
}

static const char *why_no_shared(const cop_trajectory *trajectory) {
    return trajectory->depth > 1 ? "shared: a path holds a block, and a path that others see while "
                                   "it is decoded cannot fork"
                                 : NULL;
}

cop__joins_tracks cop__joins_choose(const cop_model *model, const cop_trajectory *trajectory,
                                    const cop_dialect *dialect) {
    const char *const why[] = {why_no_message(model, trajectory, dialect),
                               why_no_shared(trajectory)};
    const bool message = !why[0], shared = !why[1];
    uint32_t number[N_VARIANTS];
    cop__joins_tracks out = {.with_replies = message};
    for (int i = 0; i < 2; i++)
        if (why[i])
            out.omitted[out.n_omitted++] = why[i];
    for (uint32_t t = 0; t < N_VARIANTS; t++) {
        number[t] = UINT32_MAX;
        if ((t == T_MESSAGE && !message) || (t == T_SHARED && !shared))
            continue;
        number[t] = out.n_tracks;
        out.variants[out.n_tracks++] = variants[t];
    }
    for (uint32_t c = 0; c < N_CONTRASTS; c++) {
        cop_joins_contrast *own = &out.contrasts[out.n_contrasts];
        *own = contrasts[c];
        own->track = number[own->track];
        own->base = number[own->base];
        out.n_contrasts += own->track != UINT32_MAX;
    }
    return out;
}

void cop__joins_describe(const cop__joins_tracks *tracks, const cop_model *model,
                         const cop_trajectory *trajectory, const cop_joins_options *options,
                         cop_joins_table *table) {
    static const char *const keys[] = {"kept", "again", "none", "replies", "live"};
    *table = (cop_joins_table){.trajectory = trajectory->id,
                               .dialect = trajectory->dialect,
                               .model = cop_model_name(model),
                               .tokens_from = cop_token_origin_text(trajectory->origin),
                               .random_weights = cop_model_is_random(model),
                               .vocab = cop_model_shape_of(model)->vocab,
                               .n_tracks = tracks->n_tracks,
                               .n_contrasts = tracks->n_contrasts,
                               .n_omitted = tracks->n_omitted};
    for (uint32_t t = 0; t < tracks->n_tracks; t++) {
        const cop__joins_variant *v = &tracks->variants[t];
        const bool none = v->keys == COP__KEYS_NONE || v->keys == COP__KEYS_REPLIES;
        table->tracks[t] = (cop_joins_track){
            .name = v->name,
            .keys = keys[v->keys],
            .siblings = none                        ? "none"
                        : v->siblings_seen          ? "seen"
                        : v->keys == COP__KEYS_LIVE ? "live"
                                                    : "masked",
            .positions = v->after_max     ? "equal starts, 1 + max"
                         : v->paths_equal ? "equal starts, next"
                                          : "next",
            .compute = cop_arith_name(v->other_arith ? options->other : options->arith)};
    }
    memcpy(table->contrasts, tracks->contrasts, tracks->n_contrasts * sizeof *tracks->contrasts);
    memcpy(table->omitted, tracks->omitted, sizeof tracks->omitted);
}
