#include <math.h>
#include <stdio.h>
#include <string.h>

#include "reason/live_internal.h"

const char *cop__live_find_text(const char *text, size_t bytes, const cop_tag *tag) {
    return tag->bytes ? memmem(text, bytes, tag->text, tag->bytes) : NULL;
}

/* ---- opening ---- */

/* Whether each path's header, which may hold its item's text, fits where headers are made. */
static bool headers_fit(const cop_live *live, const cop_live_record *record, uint32_t items) {
    const cop_dialect *d = live->options.dialect;
    const char *prompt = d->branch_prompt;
    size_t longest = 0, plain = strlen(prompt) + COP_LIVE_PATH_TEXT_BYTES;
    if (d->paths_from == COP_PATHS_FIXED || (!d->items_pattern && !strstr(prompt, "{item}")))
        return true;
    for (uint32_t i = 0; i < items; i++)
        longest = record->items[i].bytes > longest ? record->items[i].bytes : longest;
    return plain + longest < COP_LIVE_HEADER_BYTES;
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
    bool own = d->fork_margin || d->charge != COP_CHARGE_GENERATED;
    if (own && cop__live_is_late(live, engine, record))
        return false;
    uint32_t first;
    bool again;
    return !live->spent && cop__live_find_records(live, record, items, &first, &again) &&
           headers_fit(live, record, items) &&
           (d->program || cop__live_fits(engine, record->branch, COP_LIVE_HEADER_BYTES));
}

void cop__live_begin_path(cop_live *live, uint32_t number, const cop_live_record *parent,
                          uint32_t index, uint32_t block) {
    cop_live_record *record = &live->records[number];
    cop_live_record fresh = {.branch = record->branch,
                             .parent = (uint32_t)(parent - live->records),
                             .sample = parent->sample,
                             .n_path = parent->n_path + 1,
                             .block = block,
                             .parser = cop_parser_fork(&parent->parser, index),
                             .ill_formed_before = parent->parser.ill_formed,
                             .siblings = parent->n_children,
                             .base_ids = parent->base_ids + parent->n_ids,
                             .had_ended = record->had_ended,
                             .end_heard = record->end_heard,
                             .n_muted = record->n_muted,
                             .n_message = record->n_message,
                             .max_ids = record->max_ids,
                             .max_bytes = record->max_bytes,
                             .ids = record->ids,
                             .call = record->call,
                             .text = record->text,
                             .items = record->items,
                             .ring = record->ring,
                             .seen = record->seen};
    fresh.closes_at = fresh.parser.depth;
    memcpy(fresh.path, parent->path, sizeof fresh.path);
    fresh.path[parent->n_path] = index + 1;
    *record = fresh;
    cop__live_penalty_begin(live, record);
    snprintf(record->path_text, sizeof record->path_text, "%.50s%s%u", parent->path_text,
             parent->n_path ? "." : "", index + 1);
    if (record->ring)
        cop_confidence_init(&record->confidence, record->ring, live->options.prune.window);
    live->samples[parent->sample].paths++;
}

/* Where the parent began anew, its block has the records that it had before. */
static void take_records(cop_live *live, cop_live_record *parent, uint32_t items) {
    bool again;
    /* There are enough: cop__live_may_fork has looked. */
    cop__live_find_records(live, parent, items, &parent->first_child, &again);
    uint32_t block = again ? live->records[parent->first_child].block
                           : cop__live_next_block(live, parent->sample);
    for (uint32_t i = 0; i < items; i++) {
        cop_live_record *record = &live->records[parent->first_child + i];
        if (!again) {
            record->had_ended = record->end_heard = false;
            record->n_muted = 0;
            live->n_records++;
        }
        record->branch = COP_BRANCH_NONE;
        cop__live_begin_path(live, parent->first_child + i, parent, i, block);
    }
}

cop_status cop__live_header(const cop_live *live, const cop_live_record *parent, uint32_t index,
                            const char *pattern, char *out, size_t *bytes) {
    const cop_live_record *record = &live->records[parent->first_child + index];
    const cop_dialect *d = live->options.dialect;
    cop_live_item item = {0, 0};
    if (d->paths_from != COP_PATHS_FIXED && !d->shared.n_workers)
        item = parent->items[index];
    const char *text = parent->text + item.begin;
    if (!d->items_pattern) /* else no tag stands behind it */
        item.bytes = cop_dialect_text_end(text, 0, item.bytes);
    /* A number that an expression found is written as it stands there. */
    const char *number = d->items_pattern ? text : record->path_text;
    size_t number_bytes = d->items_pattern ? item.bytes : strlen(record->path_text);
    return cop_dialect_header(pattern, number, number_bytes, text, item.bytes, out,
                              COP_LIVE_HEADER_BYTES, bytes);
}

cop_status cop__live_open_path(cop_live *live, cop_engine *engine, const cop_live_record *parent,
                               uint32_t index) {
    cop_live_record *record = &live->records[parent->first_child + index];
    const cop_dialect *d = live->options.dialect;
    char header[COP_LIVE_HEADER_BYTES];
    size_t bytes;
    if (d->program)
        return cop__live_program_open(live, engine, record);
    const char *prompt = d->shared.n_workers ? d->shared.workers[index].begin : d->branch_prompt;
    COP_TRY(cop__live_header(live, parent, index, prompt, header, &bytes));
    COP_TRY(cop__live_encode(live, header, bytes, false));
    cop__live_hear(live, COP_LIVE_FORK, record);
    COP_TRY(cop__live_append(live, record, live->scratch.data, (uint32_t)live->scratch.count,
                             COP_LIVE_GIVEN));
    record->n_header = record->turn_ids = record->n_ids;
    record->header_bytes = record->turn_begin = record->bytes;
    if (d->context_text && !d->shared.n_workers)
        return cop__live_retext_path(live, engine, record, parent);
    bool spawned = d->join == COP_JOIN_MESSAGE;
    cop__live_expect(live, engine, record, record->n_ids + (spawned ? live->options.n_spawn : 0));
    if (spawned)
        COP_TRY(cop_engine_feed(engine, record->branch, live->options.spawn, live->options.n_spawn,
                                COP_FEED_SPAWN));
    return cop_engine_feed(engine, record->branch, record->ids, record->n_ids, COP_FEED_HEADER);
}

/* What stands between the plan and the first path is the parent's own. */
static cop_status give_after_fork(cop_live *live, cop_engine *engine, cop_live_record *parent) {
    uint32_t first = parent->n_ids;
    if (live->n_after_fork == 0)
        return COP_OK;
    COP_TRY(
        cop__live_append(live, parent, live->after_fork_ids, live->n_after_fork, COP_LIVE_GIVEN));
    return cop_engine_feed(engine, parent->branch, parent->ids + first, live->n_after_fork,
                           COP_FEED_HEADER);
}

static uint32_t quorum_of(const cop_live *live, uint32_t paths) {
    if (live->quorum_ratio > 0)
        return (uint32_t)ceil(live->quorum_ratio * paths - 1e-9);
    return live->policy.quorum;
}

cop_status cop__live_fork(cop_live *live, cop_engine *engine, cop_live_record *parent,
                          uint32_t items) {
    const cop_dialect *d = live->options.dialect;
    parent->n_children = items;
    parent->n_finished = 0;
    parent->quorum = quorum_of(live, items);
    parent->n_forks++;
    live->samples[parent->sample].forks++;
    COP_TRY(give_after_fork(live, engine, parent));
    take_records(live, parent, items);
    if (d->context_text && !d->shared.n_workers)
        COP_TRY(cop__live_retext_fork(live, engine, parent));
    if (d->program)
        COP_TRY(cop__live_program_fork(live, engine, parent));
    if (d->join == COP_JOIN_MESSAGE)
        COP_TRY(cop_engine_spawn(engine, parent->branch, items, live->children));
    else
        COP_TRY(cop_engine_fork(engine, parent->branch, items, live->children));
    if (d->join == COP_JOIN_SHARED)
        COP_TRY(cop__live_share(live, engine, parent));
    for (uint32_t i = 0; i < items; i++) {
        live->records[parent->first_child + i].branch = live->children[i];
        cop_engine_set_data(engine, live->children[i], parent->first_child + i);
    }
    for (uint32_t i = 0; i < items; i++)
        COP_TRY(cop__live_open_path(live, engine, parent, i));
    return COP_OK;
}

/* ---- ending ---- */

bool cop__live_says_success(const cop_live *live, const cop_live_record *record) {
    const cop_dialect *d = live->options.dialect;
    return d && cop__live_find_text(record->text + record->header_bytes,
                                    record->bytes - record->header_bytes, &d->success);
}

void cop__live_mark_below(cop_live *live, const cop_live_record *record, cop_stop stop) {
    for (uint32_t i = 0; i < record->n_children; i++) {
        cop_live_record *child = &live->records[record->first_child + i];
        if (child->stop == COP_STOP_NONE)
            cop__live_mark_ended(live, child, stop);
    }
}

void cop__live_mark_ended(cop_live *live, cop_live_record *record, cop_stop stop) {
    cop_live_sample *sample = &live->samples[record->sample];
    cop__live_mark_below(live, record, COP_STOP_CANCELLED);
    record->stop = stop;
    sample->paths_ended++;
    record->ended_order = ++live->n_ended;
    sample->ill_formed_tags += record->parser.ill_formed - record->ill_formed_before;
    if (stop == COP_STOP_CANCELLED || stop == COP_STOP_CONFIDENCE)
        sample->paths_cancelled++;
    cop__live_rule_ended(live, record, stop);
    cop__live_penalty_ended(live, record);
    if (record->branch != COP_BRANCH_NONE) /* nobody has heard of one that never began */
        cop__live_hear(live, COP_LIVE_END, record);
}

/* The dialect's closing tag, which the path did not say. */
static cop_status close_path(cop_live *live, cop_engine *engine, cop_live_record *record) {
    uint32_t first = record->n_ids;
    if (live->n_close == 0)
        return COP_OK;
    if (!cop__live_fits(engine, record->branch, live->n_close))
        return COP_OK;
    COP_TRY(cop__live_append(live, record, live->close_ids, live->n_close, COP_LIVE_GIVEN));
    return cop_engine_feed(engine, record->branch, record->ids + first, live->n_close,
                           COP_FEED_JOIN);
}

cop_status cop__live_drop_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                               cop_stop stop) {
    cop__live_mark_ended(live, record, stop);
    record->dropped = true;
    if (cop__live_is_async(live))
        COP_TRY(cop__live_async_ended(live, engine, record));
    if (record->branch == COP_BRANCH_NONE) /* it never began */
        return COP_OK;
    return cop_engine_end(engine, record->branch,
                          stop == COP_STOP_CONFIDENCE ? COP_END_PRUNED : COP_END_CANCELLED);
}

cop_status cop__live_cancel_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                                 cop_stop stop) {
    if (!live->policy.keep_partial)
        return cop__live_drop_path(live, engine, record, stop);
    /* One that waits for its own block, or for a probe, has no row to go on from. */
    if (record->n_children == 0 && !cop__live_rule_waits(live, record))
        COP_TRY(close_path(live, engine, record));
    cop__live_mark_ended(live, record, stop);
    if (live->options.dialect->join != COP_JOIN_STITCH) /* there only what has KV can stay */
        COP_TRY(cop__live_gather(live, record));
    return cop__live_end_kept(live, engine, record);
}

/* Cancels what still runs of the parent's block, but for one, and for those that had ended in time
 * and began anew. */
static cop_status cancel_siblings(cop_live *live, cop_engine *engine, const cop_live_record *parent,
                                  const cop_live_record *kept) {
    for (uint32_t i = 0; i < parent->n_children; i++) {
        cop_live_record *child = &live->records[parent->first_child + i];
        if (child != kept && child->stop == COP_STOP_NONE && !child->had_ended)
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

/* A path that ran on past its limit has no more than that of its own; true: its end is gone. */
static bool cut_path(const cop_live *live, cop_live_record *record) {
    const cop_dialect *d = live->options.dialect;
    uint32_t most = record->n_header + d->max_path_tokens;
    bool cut = d->limit_cuts_after && record->n_ids > most;
    while (cut && record->n_ids > most)
        record->bytes -=
            cop_tokenizer_bytes(live->options.tokenizer, record->ids[--record->n_ids]).bytes;
    return cut;
}

cop_status cop__live_end_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                              bool closed, cop_stop stop) {
    cop_path_end rule = live->options.dialect->path_end;
    if (cut_path(live, record)) { /* its text alone is joined: the KV holds what was cut */
        COP_TRY(cop__live_append(live, record, live->close_ids, live->n_close, COP_LIVE_GIVEN));
        closed = true;
    }
    if (!closed) {
        if (rule == COP_PATH_END_ENDS_RUN) {
            cop__live_mark_ended(live, record, stop);
            return cop__live_end_sample(live, engine, record->sample, COP_STOP_PATH);
        }
        record->cut = rule == COP_PATH_END_ENDS_RUN_AFTER_MERGE;
        COP_TRY(close_path(live, engine, record));
    }
    cop_live_record *parent = &live->records[record->parent];
    cop__live_mark_ended(live, record, stop);
    record->counted = !live->policy.success_only || cop__live_says_success(live, record);
    parent->n_finished += record->counted;
    if (parent->quorum && parent->n_finished >= parent->quorum)
        COP_TRY(cancel_siblings(live, engine, parent, record));
    if (cop__live_is_async(live))
        COP_TRY(cop__live_async_ended(live, engine, record));
    return cop__live_end_kept(live, engine, record);
}
