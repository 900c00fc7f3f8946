/* Trajectory -> JSON, in the key order of the format's description. */
#include "reason/trajectory.h"

#include <string.h>

typedef struct writer {
    const cop_trajectory *trajectory;
    cop_trajectory_write_options options;
    bool counts; /* the pieces' counts are a tokenizer's */
} writer;

/* Both take the reference to `value` and fail on NULL, as jansson's _new functions do. */
static bool set(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}

static bool set_ids(json_t *object, const cop_piece *piece) {
    json_t *ids = json_array();
    for (uint32_t i = 0; ids && i < piece->n; i++) {
        if (json_array_append_new(ids, json_integer(piece->ids[i])) != 0) {
            json_decref(ids);
            return false;
        }
    }
    return set(object, "ids", ids);
}

static bool fill_plain(const writer *w, const cop_piece *piece, json_t *object) {
    cop_token_origin origin = w->trajectory->origin;
    bool real_ids = piece->ids && (origin == COP_TOKENS_RECORDED || origin == COP_TOKENS_TEXT);
    if (piece->text && !w->options.counts_only &&
        !set(object, "text", json_stringn(piece->text, piece->bytes)))
        return false;
    if (w->counts && !set(object, "n", json_integer(piece->n)))
        return false;
    if (w->options.ids && !w->options.counts_only && real_ids && !set_ids(object, piece))
        return false;
    if (piece->forced == COP_FORCED_NOT)
        return true;
    return set(object, "forced",
               json_string(piece->forced == COP_FORCED_BRANCH ? "branch" : "join"));
}

static json_t *stream_json(const writer *w, const cop_stream *stream);

static json_t *piece_json(const writer *w, const cop_piece *piece) {
    json_t *object = json_object();
    if (!object)
        return NULL;
    bool filled;
    if (piece->block) {
        json_t *block = json_array();
        filled = block != NULL;
        for (uint32_t p = 0; filled && p < piece->block->n_paths; p++)
            filled = json_array_append_new(block, stream_json(w, &piece->block->paths[p])) == 0;
        filled = set(object, "block", block) && filled;
    } else {
        filled = fill_plain(w, piece, object);
    }
    if (filled)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *stream_json(const writer *w, const cop_stream *stream) {
    json_t *array = json_array();
    for (uint32_t i = 0; array && i < stream->n_pieces; i++) {
        if (json_array_append_new(array, piece_json(w, &stream->pieces[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

json_t *cop_trajectory_to_json(const cop_trajectory *trajectory,
                               cop_trajectory_write_options options) {
    writer w = {trajectory, options,
                trajectory->n_tokens > 0 && trajectory->origin != COP_TOKENS_PRETOKENS};
    if (options.counts_only && !w.counts)
        return NULL;
    json_t *object = json_object();
    bool filled =
        object && set(object, "v", json_integer(1)) &&
        set(object, "id", json_string(trajectory->id)) &&
        set(object, "dialect", json_string(trajectory->dialect)) &&
        (trajectory->source[0] == '\0' || set(object, "source", json_string(trajectory->source))) &&
        set(object, "blocks", json_integer(trajectory->blocks)) &&
        set(object, "paths", json_integer(trajectory->paths)) &&
        set(object, "depth", json_integer(trajectory->depth));
    if (filled && w.counts)
        filled = set(object, "tokens", json_integer((json_int_t)trajectory->n_tokens));
    if (filled && w.counts && trajectory->tokenizer)
        filled = set(object, "tokenizer", json_string(trajectory->tokenizer));
    if (filled && trajectory->prompt.n_pieces)
        filled = set(object, "prompt", stream_json(&w, &trajectory->prompt));
    filled = filled && set(object, "stream", stream_json(&w, &trajectory->stream));
    if (filled)
        return object;
    json_decref(object);
    return NULL;
}
