#include "reason/live_internal.h"

#include <stdio.h>
#include <string.h>

/* ---- joining ---- */

/* What a child returns: from its first reply text to before its closing tag. */
static const char *reply_of(const cop_live *live, const cop_live_record *child, size_t *length) {
    const cop_dialect *d = live->options.dialect;
    const char *text = child->text + child->header_bytes, *from = NULL;
    size_t bytes = child->bytes - child->header_bytes;
    const cop_tag *close = &d->close[COP_EL_PATH];
    bool cancelled = child->stop == COP_STOP_CANCELLED || child->stop == COP_STOP_CONFIDENCE;
    if (close->bytes && bytes >= close->bytes &&
        memcmp(text + bytes - close->bytes, close->text, close->bytes) == 0)
        bytes -= close->bytes;
    for (uint32_t i = 0; i < d->n_reply_from && !cancelled; i++) {
        const char *found = cop__live_find_text(text, bytes, &d->reply_from[i]);
        if (found && (!from || found < from))
            from = found;
    }
    *length = from ? bytes - (size_t)(from - text) : strlen(d->reply_otherwise);
    return from ? from : d->reply_otherwise;
}

static cop_status append_reply(cop_live *live, cop_live_record *parent,
                               const cop_live_record *child) {
    size_t bytes;
    const char *reply = reply_of(live, child, &bytes);
    COP_TRY(cop__live_encode(live, reply, bytes, false));
    return cop__live_append(live, parent, live->scratch.data, (uint32_t)live->scratch.count,
                            COP_LIVE_GIVEN);
}

/* Under `last_wins`, whose text stands for path `index`: the last to end of its number. */
static const cop_live_record *stands_for(const cop_live *live, const cop_live_record *parent,
                                         uint32_t index) {
    const cop_live_record *best = &live->records[parent->first_child + index];
    if (live->options.dialect->duplicates != COP_DUPLICATES_LAST_WINS)
        return best;
    const cop_live_item *own = &parent->items[index];
    for (uint32_t i = 0; i < parent->n_children; i++) {
        const cop_live_record *other = &live->records[parent->first_child + i];
        const cop_live_item *item = &parent->items[i];
        if (item->bytes == own->bytes && other->ended_order > best->ended_order &&
            memcmp(parent->text + item->begin, parent->text + own->begin, own->bytes) == 0)
            best = other;
    }
    return best;
}

/* As much of the ids as the parent has room for, where the dialect cuts its text anyway. */
static cop_status append_clipped(cop_live *live, cop_live_record *parent, const int32_t *ids,
                                 uint32_t n, cop_live_voice voice) {
    if (live->options.dialect->charge_each_step) {
        uint32_t room = parent->max_ids - parent->n_ids, fits = 0;
        size_t bytes = 0, left = parent->max_bytes - parent->bytes;
        for (; fits < n && fits < room; fits++) {
            bytes += cop_tokenizer_bytes(live->options.tokenizer, ids[fits]).bytes;
            if (bytes > left)
                break;
        }
        n = fits;
    }
    return cop__live_append(live, parent, ids, n, voice);
}

/* A path's text with the header that the joined text has. */
static cop_status append_path(cop_live *live, cop_live_record *parent, uint32_t index, bool first) {
    const cop_dialect *d = live->options.dialect;
    const cop_live_record *child = stands_for(live, parent, index);
    char header[COP_LIVE_HEADER_BYTES];
    size_t bytes;
    if (!d->joined_first)
        return append_clipped(live, parent, child->ids, child->n_ids, COP_LIVE_QUIET);
    COP_TRY(cop__live_header(live, parent, index, first ? d->joined_first : d->joined_other, header,
                             &bytes));
    COP_TRY(cop__live_encode(live, header, bytes, false));
    COP_TRY(append_clipped(live, parent, live->scratch.data, (uint32_t)live->scratch.count,
                           COP_LIVE_QUIET));
    return append_clipped(live, parent, child->ids + child->n_header,
                          child->n_ids - child->n_header, COP_LIVE_QUIET);
}

static cop_status append_children(cop_live *live, cop_live_record *parent) {
    bool message = live->options.dialect->join == COP_JOIN_MESSAGE, first = true;
    for (uint32_t i = 0; i < parent->n_children; i++) {
        const cop_live_record *child = &live->records[parent->first_child + i];
        if (message)
            COP_TRY(append_reply(live, parent, child));
        else if (!child->dropped)
            COP_TRY(append_path(live, parent, i, first));
        first &= !message && child->dropped;
    }
    return COP_OK;
}

/* Whether the children's text, or what they return, and what the join adds still fit, in positions
 * and in memory. */
static cop_status join_fits(cop_live *live, const cop_engine *engine, const cop_live_record *parent,
                            bool *fits) {
    uint64_t longest = 0, ids = live->n_join, text = strlen(live->options.dialect->join_prompt);
    for (uint32_t i = 0; i < parent->n_children; i++) {
        const cop_live_record *child = &live->records[parent->first_child + i];
        size_t bytes = child->dropped ? 0 : child->bytes;
        uint64_t n = child->dropped ? 0 : child->n_ids;
        if (live->options.dialect->join == COP_JOIN_MESSAGE) {
            const char *reply = reply_of(live, child, &bytes);
            COP_TRY(cop__live_encode(live, reply, bytes, false));
            n = live->scratch.count;
        }
        ids += n;
        longest = n > longest ? n : longest;
        text += bytes;
        if (live->options.dialect->joined_first || live->options.dialect->context_text) {
            ids += COP_LIVE_HEADER_BYTES; /* at most, encoded anew */
            text += COP_LIVE_HEADER_BYTES;
        }
    }
    bool side_by_side = live->options.dialect->join == COP_JOIN_STITCH &&
                        live->options.dialect->positions == COP_POSITIONS_EQUAL_START_MAX;
    *fits = cop__live_fits(engine, parent->branch, side_by_side ? longest + live->n_join : ids) &&
            ids <= parent->max_ids - parent->n_ids && text <= parent->max_bytes - parent->bytes;
    return COP_OK;
}

/* With reuse, what of the first path's text was computed there stays, unless that is all that the
 * parent is given: it needs a row to sample from. A path that was cut while it waited for a block
 * of its own holds that block's text, which was not computed. */
static uint32_t reused_ids(const cop_live *live, const cop_engine *engine,
                           const cop_live_record *parent, uint32_t given) {
    const cop_dialect *d = live->options.dialect;
    const cop_live_record *first = &live->records[parent->first_child];
    if (d->join != COP_JOIN_REPREFILL || d->reuse != COP_REUSE_LONGEST_PREFIX || first->dropped)
        return 0;
    uint32_t computed = cop_engine_branch(engine, first->branch).next_position -
                        cop_engine_branch(engine, parent->branch).next_position;
    return computed < given + live->n_join ? computed : 0;
}

/* What ends the run at this join, if anything: a path that was cut, or a limit. */
static cop_stop ends_here(const cop_live *live, const cop_live_record *parent, uint32_t first_child,
                          uint32_t paths, bool fits) {
    const cop_dialect *d = live->options.dialect;
    const cop_live_sample *sample = &live->samples[parent->sample];
    for (uint32_t i = 0; i < paths; i++)
        if (live->records[first_child + i].cut)
            return COP_STOP_PATH;
    if (!fits)
        return COP_STOP_LENGTH;
    if (d->charge_each_step && parent->n_ids >= live->options.max_tokens)
        return COP_STOP_LENGTH;
    bool last = d->last_block_ends_run && !d->open[COP_EL_JOIN].bytes &&
                cop__live_is_last_block(live, sample);
    if (last || (d->max_steps && sample->steps >= d->max_steps))
        return COP_STOP_LIMIT;
    return COP_STOP_NONE;
}

/* Children's text and what the join adds are in the parent's text; what of it the KV lacks is fed.
 */
static cop_status feed_join(cop_live *live, cop_engine *engine, cop_live_record *parent,
                            uint32_t first, uint32_t text, uint32_t kept) {
    const cop_dialect *d = live->options.dialect;
    if (d->context_text)
        return cop__live_retext_join(live, engine, parent);
    bool stays = d->join == COP_JOIN_STITCH || d->join == COP_JOIN_SHARED;
    uint32_t stitched = stays ? text - first : 0;
    cop__live_expect(live, engine, parent, parent->n_ids - first - kept - stitched);
    if (d->join == COP_JOIN_REPREFILL)
        COP_TRY(cop_engine_feed(engine, parent->branch, parent->ids + first + kept,
                                text - first - kept, COP_FEED_AGAIN));
    uint32_t from = d->join == COP_JOIN_MESSAGE ? first : text;
    return cop_engine_feed(engine, parent->branch, parent->ids + from, parent->n_ids - from,
                           COP_FEED_JOIN);
}

static cop_status go_on(cop_live *live, cop_engine *engine, cop_live_record *parent, bool fits) {
    const cop_dialect *d = live->options.dialect;
    uint32_t first = parent->n_ids, paths = parent->n_children, first_child = parent->first_child;
    cop__live_hear(live, COP_LIVE_JOIN, parent);
    COP_TRY(append_children(live, parent));
    uint32_t kept = reused_ids(live, engine, parent, parent->n_ids - first);
    parent->n_children = 0;
    cop__live_penalty_joined(live, parent);
    live->samples[parent->sample].steps += parent->n_path == 0;
    cop_stop stop = ends_here(live, parent, first_child, paths, fits);
    bool cut = stop == COP_STOP_PATH || (stop == COP_STOP_LENGTH && d->join_prompt_cut);
    if (!cut)
        cop_parser_join(&parent->parser, paths);
    if (d->join == COP_JOIN_STITCH)
        COP_TRY(cop_engine_join_stitch(engine, parent->branch,
                                       d->positions == COP_POSITIONS_EQUAL_START_MAX));
    else if (d->join == COP_JOIN_SHARED)
        COP_TRY(cop_engine_join_shared(engine, parent->branch));
    else
        COP_TRY(cop_engine_join_text(engine, parent->branch, kept > 0));
    uint32_t text = parent->n_ids;
    COP_TRY(append_clipped(live, parent, cut ? live->join_cut_ids : live->join_ids,
                           cut ? live->n_join_cut : live->n_join, COP_LIVE_GIVEN));
    parent->turn_begin = parent->bytes;
    parent->turn_ids = parent->n_ids;
    if (stop != COP_STOP_NONE)
        return cop__live_end_sample(live, engine, parent->sample, stop);
    COP_TRY(feed_join(live, engine, parent, first, text, kept));
    bool nothing =
        d->join != COP_JOIN_STITCH && d->join != COP_JOIN_SHARED && parent->n_ids == first;
    if (nothing) /* every path was dropped and the dialect adds nothing: no row to go on from */
        return cop__live_end_sample(live, engine, parent->sample, COP_STOP_CANCELLED);
    return COP_OK;
}

cop_status cop__live_joined(cop_driver *driver, cop_engine *engine, cop_branch branch) {
    cop_live *live = (cop_live *)driver;
    uint32_t id = cop_engine_branch(engine, branch).data;
    if (id == UINT32_MAX)
        return cop_engine_end(engine, branch, COP_END_DONE);
    cop_live_record *parent = &live->records[id];
    bool fits;
    if (cop__live_is_async(live) && !cop__live_rule_waits(live, parent))
        return cop__live_async_joined(live, engine, parent);
    if (cop__live_has_program(live))
        return cop__live_program_joined(live, engine, parent);
    if (live->shared)
        return cop__live_workers_joined(live, engine, parent);
    COP_TRY(join_fits(live, engine, parent, &fits));
    /* Where the text is cut at its limit, as much is joined as there is room for. */
    if (!fits && !live->options.dialect->charge_each_step)
        return cop__live_end_sample(live, engine, parent->sample, COP_STOP_LENGTH);
    return go_on(live, engine, parent, fits);
}

cop_status cop__live_gather(cop_live *live, cop_live_record *record) {
    for (uint32_t i = 0; i < record->n_children; i++) {
        cop_live_record *child = &live->records[record->first_child + i];
        COP_TRY(cop__live_gather(live, child));
        /* A worker's former steps are there already. */
        const uint32_t n = child->n_ids - child->step_ids;
        bool fits = n <= record->max_ids - record->n_ids &&
                    child->bytes - child->step_bytes <= record->max_bytes - record->bytes;
        if (!child->dropped && fits)
            COP_TRY(
                cop__live_append(live, record, child->ids + child->step_ids, n, COP_LIVE_QUIET));
    }
    record->n_children = 0;
    return COP_OK;
}
