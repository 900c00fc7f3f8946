#include "job/joins.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "job/joins_internal.h"

typedef struct place { /* of a stream, for every track alike */
    uint32_t join;     /* the last one in view; 0: none */
    uint32_t after;    /* tokens since it */
    uint32_t depth;
} place;

typedef struct run {
    const cop_joins_options *options;
    cop_joins_table *table;
    cop__joins_tree tree;
    cop__joins_lane lanes[COP_JOINS_LANES];
    cop__joins_cursor *at; /* [n_streams, COP_JOINS_TRACKS] */
    place *places;         /* [n_streams] */
    cop_node *tails;       /* [widest], scratch of a stitch */
    float *logits;         /* [COP_JOINS_TRACKS, COP_JOINS_ROWS, vocab] */
    cop__joins_tracks tracks;
    uint32_t vocab;
    bool dry;
} run;

static cop__joins_lane *lane_of(run *r, uint32_t track) {
    return &r->lanes[r->tracks.variants[track].other_arith];
}

static cop__joins_cursor *cursor_of(run *r, uint32_t stream, uint32_t track) {
    return &r->at[(size_t)stream * COP_JOINS_TRACKS + track];
}

static void let_go(run *r, uint32_t track, cop__joins_cursor *cursor) {
    if (cursor->node != COP_NODE_NONE)
        cop_kv_release(lane_of(r, track)->kv, cursor->node);
    cursor->node = COP_NODE_NONE;
}

/* `to` is not in use. */
static void copy_cursor(run *r, uint32_t track, const cop__joins_cursor *from,
                        cop__joins_cursor *to) {
    cop_kv_retain(lane_of(r, track)->kv, from->node);
    *to = *from;
}

/* The first track that stands where `track` does, on the same lane: one pass serves both. */
static uint32_t twin_of(run *r, uint32_t stream, uint32_t track) {
    const cop__joins_cursor *mine = cursor_of(r, stream, track);
    for (uint32_t t = 0; t < track; t++) {
        const cop__joins_cursor *other = cursor_of(r, stream, t);
        if (lane_of(r, t) == lane_of(r, track) && other->node == mine->node &&
            other->position == mine->position)
            return t;
    }
    return track;
}

static float *logits_of(run *r, uint32_t track, uint32_t row) {
    return r->logits + ((size_t)track * COP_JOINS_ROWS + row) * r->vocab;
}

/* What a path that joins by message was sent is not in the record; what paths that see each other
 * have in view is not what the others have. */
static bool has_figures(const run *r, uint32_t track, const cop_joins_token *token) {
    const cop__joins_keys keys = r->tracks.variants[track].keys;
    return (keys != COP__KEYS_REPLIES && keys != COP__KEYS_LIVE) || token->depth == 0;
}

static void record_row(run *r, const uint32_t *twin, const cop_joins_token *token, uint32_t row) {
    cop_joins_table *table = r->table;
    const size_t i = table->n_tokens++;
    double lse[COP_JOINS_TRACKS];
    table->tokens[i] = *token;
    for (uint32_t t = 0; t < r->tracks.n_tracks; t++) {
        const float *logits = logits_of(r, twin[t], row);
        lse[t] = twin[t] == t ? cop_joins_logsumexp(logits, r->vocab) : lse[twin[t]];
        const bool has = has_figures(r, t, token);
        table->logprobs[i * r->tracks.n_tracks + t] =
            has && token->next >= 0 ? logits[token->next] - lse[t] : NAN;
        if (has && r->options->listener)
            r->options->listener(r->options->context, t, token->token, logits);
    }
    for (uint32_t c = 0; c < r->tracks.n_contrasts; c++) {
        const uint32_t base = r->tracks.contrasts[c].base, other = r->tracks.contrasts[c].track;
        table->rows[i * r->tracks.n_contrasts + c] =
            cop_joins_compare(logits_of(r, twin[base], row), lse[base],
                              logits_of(r, twin[other], row), lse[other], r->vocab);
        if (!has_figures(r, other, token))
            table->rows[i * r->tracks.n_contrasts + c] = (cop_joins_row){NAN, NAN, false};
    }
}

/* Tokens begin .. begin + n - 1 of an operation under every track; the first n_rows are compared.
 */
static cop_status walk_rows(run *r, uint32_t stream, const cop__joins_op *op, uint32_t begin,
                            uint32_t n, uint32_t n_rows, const uint32_t *twin) {
    place *here = &r->places[stream];
    for (uint32_t t = 0; t < r->tracks.n_tracks; t++)
        if (twin[t] == t)
            COP_TRY(cop__joins_extend(lane_of(r, t), cursor_of(r, stream, t), r->tree.token + begin,
                                      n, logits_of(r, t, 0), n_rows));
    for (uint32_t i = 0; i < n; i++) {
        here->after++;
        if (i >= n_rows || r->dry)
            continue;
        const uint32_t at = begin + i;
        const cop_joins_token token = {.token = at,
                                       .join = here->join,
                                       .after = here->after,
                                       .depth = here->depth,
                                       .id = r->tree.token[at],
                                       .next = at + 1 < op->end ? r->tree.token[at + 1] : -1};
        record_row(r, twin, &token, i);
    }
    return COP_OK;
}

/* How many of the next n rows are compared. */
static uint32_t rows_compared(const run *r, const place *here, uint32_t n) {
    const uint32_t most = r->options->after_max;
    if (here->join == 0 || (most && here->after >= most))
        return 0;
    return most && most - here->after < n ? most - here->after : n;
}

static cop_status check_interrupt(const run *r) {
    if (r->options->interrupt && atomic_load(r->options->interrupt))
        return COP_FAIL(COP_ERR_INTERRUPTED, "interrupted");
    return COP_OK;
}

static cop_status walk_text(run *r, uint32_t stream, const cop__joins_op *op) {
    uint32_t twin[COP_JOINS_TRACKS];
    for (uint32_t t = 0; t < r->tracks.n_tracks; t++)
        twin[t] = twin_of(r, stream, t);
    for (uint32_t t = 0; t < r->tracks.n_tracks; t++)
        if (twin[t] == t)
            COP_TRY(cop__joins_open(lane_of(r, t), cursor_of(r, stream, t)));
    for (uint32_t at = op->begin, n; at < op->end; at += n) {
        COP_TRY(check_interrupt(r));
        n = op->end - at < COP_JOINS_ROWS ? op->end - at : COP_JOINS_ROWS;
        COP_TRY(walk_rows(r, stream, op, at, n, rows_compared(r, &r->places[stream], n), twin));
    }
    for (uint32_t t = 0; t < r->tracks.n_tracks; t++) {
        cop__joins_cursor *cursor = cursor_of(r, stream, t);
        if (twin[t] == t) {
            cop__joins_close(lane_of(r, t), cursor);
        } else {
            let_go(r, t, cursor);
            copy_cursor(r, t, cursor_of(r, stream, twin[t]), cursor);
        }
    }
    return COP_OK;
}

/* Puts the paths' views, which stand on their cursors, behind the cursor's own, and lets go. */
static cop_status stitch(run *r, uint32_t track, const cop__joins_op *op,
                         cop__joins_cursor *cursor) {
    cop_kv *kv = lane_of(r, track)->kv;
    cop_node joined = COP_NODE_NONE;
    for (uint32_t i = 0; i < op->n_paths; i++) {
        const uint32_t p = r->tracks.variants[track].reversed ? op->n_paths - 1 - i : i;
        r->tails[i] = cursor_of(r, op->first_path + p, track)->node;
    }
    COP_TRY(cop_kv_stitch(kv, cursor->node, cursor->node, r->tails, op->n_paths, &joined));
    cop_kv_release(kv, cursor->node);
    cursor->node = joined;
    for (uint32_t p = 0; p < op->n_paths; p++)
        let_go(r, track, cursor_of(r, op->first_path + p, track));
    return COP_OK;
}

static cop_status compute_block(run *r, uint32_t track, const cop__joins_op *op,
                                cop__joins_cursor *cursor);

/* token[begin .. end) behind the cursor; nothing is compared. */
static cop_status compute_text(run *r, uint32_t track, const int32_t *token, uint32_t begin,
                               uint32_t end, cop__joins_cursor *cursor) {
    cop__joins_lane *lane = lane_of(r, track);
    if (begin == end)
        return COP_OK;
    COP_TRY(cop__joins_open(lane, cursor));
    for (uint32_t at = begin, n; at < end; at += n) {
        COP_TRY(check_interrupt(r));
        n = end - at < COP_JOINS_ROWS ? end - at : COP_JOINS_ROWS;
        COP_TRY(cop__joins_extend(lane, cursor, token + at, n, NULL, 0));
    }
    cop__joins_close(lane, cursor);
    if (!r->dry)
        r->table->tracks[track].tokens_recomputed += end - begin;
    return COP_OK;
}

/* A stream's tokens again, behind the cursor; nothing is compared. */
static cop_status compute_stream(run *r, uint32_t track, uint32_t stream,
                                 cop__joins_cursor *cursor) {
    const cop__joins_stream *s = &r->tree.streams[stream];
    for (uint32_t i = 0; i < s->n_ops; i++) {
        const cop__joins_op *op = &r->tree.ops[s->first_op + i];
        if (op->n_paths > 0) {
            COP_TRY(compute_block(r, track, op, cursor));
            continue;
        }
        COP_TRY(compute_text(r, track, r->tree.token, op->begin, op->end, cursor));
    }
    return COP_OK;
}

/* One path after the other: each in the view of those before it, or all in the cursor's own and
 * then stitched. Their cursors are not in use. */
static cop_status compute_block(run *r, uint32_t track, const cop__joins_op *op,
                                cop__joins_cursor *cursor) {
    const cop__joins_variant *v = &r->tracks.variants[track];
    const uint32_t start = cursor->position;
    uint32_t next = start, most = start;
    for (uint32_t i = 0; i < op->n_paths; i++) {
        const uint32_t p = op->first_path + (v->reversed ? op->n_paths - 1 - i : i);
        cop__joins_cursor *path = v->siblings_seen ? cursor : cursor_of(r, p, track);
        if (!v->siblings_seen)
            copy_cursor(r, track, cursor, path);
        path->position = v->paths_equal ? start : next;
        COP_TRY(compute_stream(r, track, p, path));
        next = path->position;
        most = next > most ? next : most;
    }
    if (!v->siblings_seen)
        COP_TRY(stitch(r, track, op, cursor));
    cursor->position = v->after_max ? most : next;
    return COP_OK;
}

/* The paths have ended: what the parent's cursor sees from here on, and where it stands. */
static cop_status join_track(run *r, uint32_t track, const cop__joins_op *op,
                             cop__joins_cursor *cursor) {
    const cop__joins_variant *v = &r->tracks.variants[track];
    if (v->keys == COP__KEYS_LIVE) {
        COP_TRY(cop__joins_live_join(lane_of(r, track), cursor_of(r, op->first_path, track),
                                     COP_JOINS_TRACKS, op->n_paths, cursor));
        return COP_OK;
    }
    if (v->keys == COP__KEYS_KEPT) {
        uint32_t most = cursor->position;
        for (uint32_t p = 0; p < op->n_paths; p++) {
            const uint32_t end = cursor_of(r, op->first_path + p, track)->position;
            most = end > most ? end : most;
        }
        COP_TRY(stitch(r, track, op, cursor));
        cursor->position = v->after_max ? most : cursor->position + (op->end - op->begin);
        return COP_OK;
    }
    for (uint32_t p = 0; p < op->n_paths; p++)
        let_go(r, track, cursor_of(r, op->first_path + p, track));
    if (v->keys == COP__KEYS_REPLIES)
        return compute_text(r, track, r->tree.replies.data, op->reply_begin, op->reply_end, cursor);
    return v->keys == COP__KEYS_COMPUTED ? compute_block(r, track, op, cursor) : COP_OK;
}

static cop_status join_timed(run *r, uint32_t track, const cop__joins_op *op,
                             cop__joins_cursor *cursor) {
    if (r->dry)
        return join_track(r, track, op, cursor);
    cop_joins_track *out = &r->table->tracks[track];
    const cop__joins_lane *lane = lane_of(r, track);
    cop_backend_counters before, after;
    cop_backend_cpu.counters(lane->backend, &before);
    const uint64_t begin = cop_clock_ns();
    COP_TRY(join_track(r, track, op, cursor));
    out->join_ns += cop_clock_ns() - begin;
    cop_backend_cpu.counters(lane->backend, &after);
    out->kv_written += after.kv_append_bytes - before.kv_append_bytes;
    out->kv_read += after.kv_load_bytes - before.kv_load_bytes;
    return COP_OK;
}

static cop_status walk(run *r, uint32_t stream);

static cop_status walk_block(run *r, uint32_t stream, const cop__joins_op *op) {
    for (uint32_t p = op->first_path; p < op->first_path + op->n_paths; p++) {
        r->places[p] = r->places[stream];
        r->places[p].depth++;
        for (uint32_t t = 0; t < r->tracks.n_tracks; t++)
            copy_cursor(r, t, cursor_of(r, stream, t), cursor_of(r, p, t));
        COP_TRY(walk(r, p));
    }
    for (uint32_t t = 0; t < r->tracks.n_tracks; t++)
        if (r->tracks.variants[t].keys == COP__KEYS_LIVE)
            COP_TRY(cop__joins_live_block(lane_of(r, t), &r->tree, op, cursor_of(r, stream, t),
                                          cursor_of(r, op->first_path, t), COP_JOINS_TRACKS));
    for (uint32_t t = 0; t < r->tracks.n_tracks; t++)
        COP_TRY(join_timed(r, t, op, cursor_of(r, stream, t)));
    r->places[stream].join = ++r->table->joins;
    r->places[stream].after = 0;
    return COP_OK;
}

/* Every track's cursor on the stream stands before its first token; it stands behind its last. */
static cop_status walk(run *r, uint32_t stream) {
    const cop__joins_stream *s = &r->tree.streams[stream];
    for (uint32_t i = 0; i < s->n_ops; i++) {
        const cop__joins_op *op = &r->tree.ops[s->first_op + i];
        COP_TRY(op->n_paths > 0 ? walk_block(r, stream, op) : walk_text(r, stream, op));
    }
    return COP_OK;
}

static cop_status walk_tree(run *r, bool dry) {
    r->dry = dry;
    r->table->joins = 0;
    r->places[0] = (place){0};
    for (size_t i = 0; i < (size_t)r->tree.n_streams * COP_JOINS_TRACKS; i++)
        r->at[i] = (cop__joins_cursor){.node = COP_NODE_NONE};
    for (uint32_t t = 0; t < r->tracks.n_tracks; t++)
        *cursor_of(r, 0, t) = (cop__joins_cursor){.node = cop_kv_root(lane_of(r, t)->kv)};
    COP_TRY(walk(r, 0));
    for (uint32_t t = 0; t < r->tracks.n_tracks; t++) {
        const cop__joins_lane *lane = lane_of(r, t);
        r->table->tracks[t].kv_seen =
            lane->token_bytes * cop_kv_view_tokens(lane->kv, cursor_of(r, 0, t)->node);
        let_go(r, t, cursor_of(r, 0, t));
    }
    return COP_OK;
}

/* Bounds that hold for any tree; the pages are counted by a dry run. */
static cop__joins_size bounds_of(const cop__joins_tree *tree) {
    const uint64_t ops = (uint64_t)tree->n_ops + tree->n_streams + 2;
    const uint64_t tokens = (uint64_t)tree->n_tokens + tree->replies.count;
    return (cop__joins_size){.pages = (uint32_t)(2 * COP_JOINS_TRACKS * (tokens / 16 + ops)),
                             .segments = (uint32_t)(2 * COP_JOINS_TRACKS * ops),
                             .nodes = (uint32_t)(COP_JOINS_TRACKS * ops * (tree->depth + 3) +
                                                 (tree->widest + 1ull) * tree->widest),
                             .rows = cop__joins_live_rows(tree),
                             .positions = (uint32_t)tokens + 1};
}

static cop_status create_lanes(run *r, const cop_model *model, bool dry, cop__joins_size *size) {
    for (uint32_t i = 0; i < COP_JOINS_LANES; i++) {
        const cop_arith arith = i ? r->options->other : r->options->arith;
        cop__joins_size own = *size;
        if (!dry) {
            own.pages = cop_kv_stats_read(r->lanes[i].kv).pages_peak;
            cop__joins_lane_release(&r->lanes[i]);
        }
        COP_TRY(cop__joins_lane_create(model, arith, r->options, &own, dry, &r->lanes[i]));
    }
    return COP_OK;
}

static cop_status take_buffers(run *r) {
    const size_t rows = (size_t)COP_JOINS_TRACKS * COP_JOINS_ROWS;
    r->at = cop_calloc((size_t)r->tree.n_streams * COP_JOINS_TRACKS, sizeof *r->at);
    r->places = cop_calloc(r->tree.n_streams, sizeof *r->places);
    r->tails = cop_calloc(r->tree.widest, sizeof *r->tails);
    r->logits = cop_calloc(rows * r->vocab, sizeof *r->logits);
    if (!r->at || !r->places || !r->tails || !r->logits)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %zu rows of %u logits", rows, r->vocab);
    return COP_OK;
}

static cop_status run_tree(run *r, const cop_model *model, const cop_trajectory *trajectory) {
    const uint32_t context = cop_model_shape_of(model)->context;
    COP_TRY(cop__joins_tree_create(trajectory, &r->tree));
    if (r->tracks.with_replies)
        COP_TRY(cop__joins_replies(&r->tree, r->options->dialect, cop_model_tokenizer(model)));
    if (r->tree.n_tokens > context && !r->options->allow_extrapolation)
        return COP_FAIL(COP_ERR_CONTEXT,
                        "trajectory \"%s\" has %u tokens, the model's context is %u; "
                        "--allow-extrapolation goes past it",
                        trajectory->id, r->tree.n_tokens, context);
    r->table->extrapolated = r->tree.n_tokens > context;
    COP_TRY(take_buffers(r));
    COP_TRY(cop_joins_table_reserve(r->table, r->tree.n_tokens));
    cop__joins_size size = bounds_of(&r->tree);
    COP_TRY(create_lanes(r, model, true, &size));
    COP_TRY(walk_tree(r, true));
    COP_TRY(create_lanes(r, model, false, &size));
    COP_TRY(walk_tree(r, false));
    return cop_model_check(model);
}

cop_status cop_joins_run(const cop_model *model, const cop_trajectory *trajectory,
                         const cop_joins_options *options, cop_joins_table *table) {
    run r = {.options = options,
             .table = table,
             .tracks = cop__joins_choose(model, trajectory, options->dialect),
             .vocab = cop_model_shape_of(model)->vocab};
    cop__joins_describe(&r.tracks, model, trajectory, options, table);
    cop_status status = run_tree(&r, model, trajectory);
    for (uint32_t i = 0; i < COP_JOINS_LANES; i++)
        cop__joins_lane_release(&r.lanes[i]);
    cop__joins_tree_release(&r.tree);
    cop_free(r.at);
    cop_free(r.places);
    cop_free(r.tails);
    cop_free(r.logits);
    return status;
}
