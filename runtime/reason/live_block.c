#include <stdio.h>
#include <string.h>

#include "reason/live_internal.h"

static const char *find_text(const char *text, size_t bytes, const cop_tag *tag) {
    return tag->bytes ? memmem(text, bytes, tag->text, tag->bytes) : NULL;
}

/* ---- opening ---- */

/* Whether each path's header, which may hold its item's text, fits where headers are made. */
static bool headers_fit(const cop_live *live, const cop_live_record *record, uint32_t items) {
    const char *prompt = live->options.dialect->branch_prompt;
    size_t longest = 0, plain = strlen(prompt) + COP_LIVE_PATH_TEXT_BYTES;
    for (uint32_t i = 0; i < items; i++)
        longest = record->items[i].bytes > longest ? record->items[i].bytes : longest;
    return !strstr(prompt, "{item}") || plain + longest < COP_LIVE_HEADER_BYTES;
}

bool cop__live_may_fork(const cop_live *live, const cop_engine *engine,
                        const cop_live_record *record, uint32_t items) {
    const cop_dialect *d = live->options.dialect;
    const cop_live_sample *sample = &live->samples[record->sample];
    uint32_t max_blocks = live->options.max_blocks ? live->options.max_blocks : d->max_blocks;
    if (!cop__live_forks(live) || items == 0 || record->n_path + 1 >= COP_LIVE_DEPTH_MAX)
        return false;
    if ((record->n_path > 0 && !d->nested) || (d->max_depth && record->n_path >= d->max_depth))
        return false;
    if ((d->max_paths && items > d->max_paths) || (max_blocks && sample->forks >= max_blocks))
        return false;
    return !live->spent && items <= live->options.max_branches - live->n_records &&
           headers_fit(live, record, items) &&
           cop__live_fits(engine, record->branch, COP_LIVE_HEADER_BYTES);
}

static void begin_record(cop_live *live, cop_live_record *parent, cop_branch branch,
                         uint32_t index) {
    cop_live_record *record = &live->records[live->n_records];
    cop_live_record fresh = {.branch = branch,
                             .parent = (uint32_t)(parent - live->records),
                             .sample = parent->sample,
                             .n_path = parent->n_path + 1,
                             .block = live->samples[parent->sample].forks - 1,
                             .parser = cop_parser_fork(&parent->parser, index),
                             .ill_formed_before = parent->parser.ill_formed,
                             .ids = record->ids,
                             .text = record->text,
                             .items = record->items,
                             .ring = record->ring};
    fresh.closes_at = fresh.parser.depth;
    memcpy(fresh.path, parent->path, sizeof fresh.path);
    fresh.path[parent->n_path] = index + 1;
    *record = fresh;
    snprintf(record->path_text, sizeof record->path_text, "%.50s%s%u", parent->path_text,
             parent->n_path ? "." : "", index + 1);
    if (record->ring)
        cop_confidence_init(&record->confidence, record->ring, live->options.prune.window);
    live->n_records++;
    live->samples[parent->sample].paths++;
}

static cop_status open_path(cop_live *live, cop_engine *engine, const cop_live_record *parent,
                            uint32_t index) {
    cop_live_record *record = &live->records[parent->first_child + index];
    const cop_dialect *d = live->options.dialect;
    const cop_live_item *item = &parent->items[index];
    char header[COP_LIVE_HEADER_BYTES];
    size_t bytes;
    COP_TRY(cop_dialect_branch_prompt(d, record->path, record->n_path, parent->text + item->begin,
                                      item->bytes, header, sizeof header, &bytes));
    COP_TRY(cop__live_encode(live, header, bytes, false));
    cop__live_hear(live, COP_LIVE_FORK, record);
    COP_TRY(cop__live_append(live, record, live->scratch.data, (uint32_t)live->scratch.count,
                             COP_LIVE_GIVEN));
    record->n_header = record->n_ids;
    record->header_bytes = record->turn_begin = record->bytes;
    if (d->join == COP_JOIN_MESSAGE)
        COP_TRY(cop_engine_feed(engine, record->branch, live->options.spawn, live->options.n_spawn,
                                COP_FEED_SPAWN));
    return cop_engine_feed(engine, record->branch, record->ids, record->n_ids, COP_FEED_HEADER);
}

cop_status cop__live_fork(cop_live *live, cop_engine *engine, cop_live_record *parent,
                          uint32_t items) {
    parent->first_child = live->n_records;
    parent->n_children = items;
    parent->n_finished = 0;
    live->samples[parent->sample].forks++;
    if (live->options.dialect->join == COP_JOIN_MESSAGE)
        COP_TRY(cop_engine_spawn(engine, parent->branch, items, live->children));
    else
        COP_TRY(cop_engine_fork(engine, parent->branch, items, live->children));
    for (uint32_t i = 0; i < items; i++) {
        cop_engine_set_data(engine, live->children[i], live->n_records);
        begin_record(live, parent, live->children[i], i);
    }
    for (uint32_t i = 0; i < items; i++)
        COP_TRY(open_path(live, engine, parent, i));
    return COP_OK;
}

/* ---- ending ---- */

bool cop__live_says_success(const cop_live *live, const cop_live_record *record) {
    const cop_dialect *d = live->options.dialect;
    return d && find_text(record->text + record->header_bytes, record->bytes - record->header_bytes,
                          &d->success);
}

static void mark_ended(cop_live *live, cop_live_record *record, cop_stop stop);

void cop__live_mark_below(cop_live *live, const cop_live_record *record, cop_stop stop) {
    for (uint32_t i = 0; i < record->n_children; i++) {
        cop_live_record *child = &live->records[record->first_child + i];
        if (child->stop == COP_STOP_NONE)
            mark_ended(live, child, stop);
    }
}

static void mark_ended(cop_live *live, cop_live_record *record, cop_stop stop) {
    cop_live_sample *sample = &live->samples[record->sample];
    cop__live_mark_below(live, record, COP_STOP_CANCELLED);
    record->stop = stop;
    sample->ill_formed_tags += record->parser.ill_formed - record->ill_formed_before;
    if (stop == COP_STOP_CANCELLED || stop == COP_STOP_CONFIDENCE)
        sample->paths_cancelled++;
    cop__live_rule_ended(live, record, stop);
    cop__live_hear(live, COP_LIVE_END, record);
}

/* The dialect's closing tag, which the path did not say. */
static cop_status close_path(cop_live *live, cop_engine *engine, cop_live_record *record) {
    uint32_t first = record->n_ids;
    if (!cop__live_fits(engine, record->branch, live->n_close))
        return COP_OK;
    COP_TRY(cop__live_append(live, record, live->close_ids, live->n_close, COP_LIVE_GIVEN));
    return cop_engine_feed(engine, record->branch, record->ids + first, live->n_close,
                           COP_FEED_JOIN);
}

cop_status cop__live_cancel_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                                 cop_stop stop) {
    if (!live->options.join_policy.keep_partial) {
        mark_ended(live, record, stop);
        record->dropped = true;
        return cop_engine_end(engine, record->branch,
                              stop == COP_STOP_CONFIDENCE ? COP_END_PRUNED : COP_END_CANCELLED);
    }
    /* One that waits for its own block, or for a probe, has no row to go on from. */
    if (record->n_children == 0 && !cop__live_rule_waits(live, record))
        COP_TRY(close_path(live, engine, record));
    mark_ended(live, record, stop);
    if (live->options.dialect->join != COP_JOIN_STITCH) /* there only what has KV can stay */
        COP_TRY(cop__live_gather(live, record));
    return cop_engine_end(engine, record->branch, COP_END_DONE);
}

/* Cancels what still runs of the parent's block, but for one. */
static cop_status cancel_siblings(cop_live *live, cop_engine *engine, const cop_live_record *parent,
                                  const cop_live_record *kept) {
    for (uint32_t i = 0; i < parent->n_children; i++) {
        cop_live_record *child = &live->records[parent->first_child + i];
        if (child != kept && child->stop == COP_STOP_NONE)
            COP_TRY(cop__live_cancel_path(live, engine, child, COP_STOP_CANCELLED));
    }
    return COP_OK;
}

cop_status cop__live_cancel_paths(cop_live *live, cop_engine *engine) {
    uint32_t n = live->n_records;
    for (uint32_t i = 0; i < n; i++) {
        cop_live_record *record = &live->records[i];
        if (record->n_path == 1 && record->stop == COP_STOP_NONE)
            COP_TRY(cop__live_cancel_path(live, engine, record, COP_STOP_CANCELLED));
    }
    return COP_OK;
}

cop_status cop__live_end_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                              bool closed, cop_stop stop) {
    const cop_join_policy *policy = &live->options.join_policy;
    if (!closed) {
        if (live->options.dialect->path_end == COP_PATH_END_ENDS_RUN) {
            mark_ended(live, record, stop);
            return cop__live_end_sample(live, engine, record->sample, COP_STOP_PATH);
        }
        COP_TRY(close_path(live, engine, record));
    }
    cop_live_record *parent = &live->records[record->parent];
    mark_ended(live, record, stop);
    if (!policy->success_only || cop__live_says_success(live, record))
        parent->n_finished++;
    if (policy->quorum && parent->n_finished >= policy->quorum)
        COP_TRY(cancel_siblings(live, engine, parent, record));
    return cop_engine_end(engine, record->branch, COP_END_DONE);
}

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
        const char *found = find_text(text, bytes, &d->reply_from[i]);
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

static cop_status append_children(cop_live *live, cop_live_record *parent) {
    bool message = live->options.dialect->join == COP_JOIN_MESSAGE;
    for (uint32_t i = 0; i < parent->n_children; i++) {
        const cop_live_record *child = &live->records[parent->first_child + i];
        if (message)
            COP_TRY(append_reply(live, parent, child));
        else if (!child->dropped)
            COP_TRY(cop__live_append(live, parent, child->ids, child->n_ids, COP_LIVE_QUIET));
    }
    return COP_OK;
}

/* Whether the children's text, or what they return, and what the join adds still fit, in positions
 * and in memory. */
static cop_status join_fits(cop_live *live, const cop_engine *engine, const cop_live_record *parent,
                            bool *fits) {
    uint64_t ids = live->n_join, text = strlen(live->options.dialect->join_prompt);
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
        text += bytes;
    }
    *fits = cop__live_fits(engine, parent->branch, ids) && ids <= live->max_ids - parent->n_ids &&
            text <= live->max_bytes - parent->bytes;
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

cop_status cop__live_joined(cop_driver *driver, cop_engine *engine, cop_branch branch) {
    cop_live *live = (cop_live *)driver;
    uint32_t id = cop_engine_branch(engine, branch).data;
    if (id == UINT32_MAX)
        return cop_engine_end(engine, branch, COP_END_DONE);
    cop_live_record *parent = &live->records[id];
    const cop_dialect *d = live->options.dialect;
    bool fits;
    COP_TRY(join_fits(live, engine, parent, &fits));
    if (!fits)
        return cop__live_end_sample(live, engine, parent->sample, COP_STOP_LENGTH);
    uint32_t first = parent->n_ids, paths = parent->n_children;
    cop__live_hear(live, COP_LIVE_JOIN, parent);
    COP_TRY(append_children(live, parent));
    uint32_t kept = reused_ids(live, engine, parent, parent->n_ids - first);
    parent->n_children = 0;
    cop_parser_join(&parent->parser, paths);
    if (d->join == COP_JOIN_STITCH)
        COP_TRY(
            cop_engine_join_stitch(engine, branch, d->positions == COP_POSITIONS_EQUAL_START_MAX));
    else
        COP_TRY(cop_engine_join_text(engine, branch, kept > 0));
    uint32_t text = parent->n_ids;
    COP_TRY(cop__live_append(live, parent, live->join_ids, live->n_join, COP_LIVE_GIVEN));
    parent->turn_begin = parent->bytes;
    if (d->join == COP_JOIN_REPREFILL)
        COP_TRY(cop_engine_feed(engine, branch, parent->ids + first + kept, text - first - kept,
                                COP_FEED_AGAIN));
    uint32_t from = d->join == COP_JOIN_MESSAGE ? first : text;
    COP_TRY(
        cop_engine_feed(engine, branch, parent->ids + from, parent->n_ids - from, COP_FEED_JOIN));
    bool nothing = d->join != COP_JOIN_STITCH && parent->n_ids == first;
    if (nothing) /* every path was dropped and the dialect adds nothing: no row to go on from */
        return cop__live_end_sample(live, engine, parent->sample, COP_STOP_CANCELLED);
    return COP_OK;
}

cop_status cop__live_gather(cop_live *live, cop_live_record *record) {
    uint32_t n = record->n_children;
    for (uint32_t i = 0; i < n; i++) {
        cop_live_record *child = &live->records[record->first_child + i];
        COP_TRY(cop__live_gather(live, child));
        bool fits = child->n_ids <= live->max_ids - record->n_ids &&
                    child->bytes <= live->max_bytes - record->bytes;
        if (!child->dropped && fits)
            COP_TRY(cop__live_append(live, record, child->ids, child->n_ids, COP_LIVE_QUIET));
    }
    record->n_children = 0;
    return COP_OK;
}
