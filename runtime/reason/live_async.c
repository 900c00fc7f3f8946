/* Dialects whose parent goes on beside its paths and joins them one by one: a tag that forks, one
 * that joins, one that waits for all. Only a sample's own thread forks. Each path is a block of its
 * own, of one path, and its number is that of the forks before it, from 1. */
#include "reason/live_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALL UINT32_MAX

bool cop__live_is_async(const cop_live *live) {
    return cop__live_forks(live) && live->options.dialect->join == COP_JOIN_ASYNC;
}

cop_status cop__live_async_create(cop_live *live) {
    const cop_live_options *o = &live->options;
    const cop_join_policy *p = &o->join_policy;
    if (!cop__live_is_async(live))
        return COP_OK;
    if (p->quorum || p->success_only || p->deadline_tokens || p->keep_partial)
        return COP_FAIL(COP_ERR_CONFIG,
                        "dialect %s joins its paths one by one: it has no block that a join policy "
                        "could end",
                        o->dialect->name);
    if (o->rule && !o->rule_over_samples)
        return COP_FAIL(COP_ERR_CONFIG,
                        "dialect %s joins its paths one by one: no prune rule runs over them; let "
                        "it run over the samples",
                        o->dialect->name);
    live->async_text = cop_arena_calloc(live->arena, live->encode_bytes + 1, 1);
    live->async_list = cop_arena_calloc(live->arena, o->max_branches, sizeof *live->async_list);
    live->async_branches =
        cop_arena_calloc(live->arena, o->max_branches, sizeof *live->async_branches);
    return live->async_text && live->async_list && live->async_branches
               ? COP_OK
               : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u paths", o->max_branches);
}

/* ---- tags ---- */

static void act_up_to(cop_live_record *record, size_t end) {
    record->async.acted = record->async.open[0] = record->async.open[1] = end;
}

static bool later(size_t end, const cop_live_record *record) {
    return end > record->bytes;
}

/* The first match at or after *open that ends behind the text that was acted on; false: none, and
 * *open is where one may begin yet. */
static bool find(cop_pattern *pattern, const cop_live_record *record, size_t bytes, size_t *open,
                 cop_span *match) {
    size_t behind;
    for (size_t *from = open;
         pattern && cop_pattern_find(pattern, record->text, bytes, from, match); from = &behind) {
        behind = match->begin + match->bytes;
        if (later(behind, record))
            return true;
    }
    return false;
}

/* What the parent's text, with the token's behind it, calls for: of several tags the first. */
static void find_tag(cop_live *live, cop_live_record *record, size_t bytes) {
    const cop_dialect *d = live->options.dialect;
    cop_live_async *a = &record->async;
    cop_span match;
    a->found = COP_FOUND_NONE;
    a->end = SIZE_MAX;
    a->tokens = 0;
    cop_pattern *const patterns[] = {d->async.fork, d->async.join};
    for (int i = 0; i < 2; i++) {
        if (!find(patterns[i], record, bytes, &a->open[i], &match) ||
            match.begin + match.bytes >= a->end)
            continue;
        cop_span tokens;
        a->found = i ? COP_FOUND_JOIN : COP_FOUND_FORK;
        a->end = match.begin + match.bytes;
        cop_pattern_named(patterns[i], "n", &a->found_id);
        cop_pattern_named(patterns[i], "item", &a->found_item);
        if (cop_pattern_named(patterns[i], "tokens", &tokens))
            a->tokens = strtoul(record->text + tokens.begin, NULL, 10);
    }
    if (d->async.sync.bytes == 0)
        return;
    size_t back = record->bytes - a->acted;
    back = back < d->async.sync.bytes - 1 ? back : d->async.sync.bytes - 1;
    const char *from = record->text + record->bytes - back;
    const char *at = cop__live_find_text(from, bytes - (record->bytes - back), &d->async.sync);
    if (at && (size_t)(at - record->text) + d->async.sync.bytes < a->end) {
        a->found = COP_FOUND_SYNC;
        a->end = (size_t)(at - record->text) + d->async.sync.bytes;
    }
}

static bool find_close(const cop_live *live, const cop_live_record *record, size_t bytes,
                       size_t *end) {
    const cop_tag *close = &live->options.dialect->close[COP_EL_PATH];
    size_t back = record->bytes - record->header_bytes;
    back = back < close->bytes - 1 ? back : close->bytes - 1;
    const size_t from = record->bytes - back;
    const char *at = cop__live_find_text(record->text + from, bytes - from, close);
    if (at)
        *end = (size_t)(at - record->text) + close->bytes;
    return at != NULL;
}

cop_status cop__live_async_find(cop_live *live, cop_live_record *record, cop_text text,
                                size_t *kept, cop_live_action *action) {
    size_t end;
    *kept = text.bytes;
    if (text.bytes + 1 > record->max_bytes - record->bytes)
        return COP_FAIL(COP_ERR_NO_ROOM, "a branch's text is longer than %zu bytes",
                        record->max_bytes);
    memcpy(record->text + record->bytes, text.data, text.bytes); /* where it will be appended */
    record->text[record->bytes + text.bytes] = '\0';             /* numbers end there */
    if (record->n_path > 0) {
        if (find_close(live, record, record->bytes + text.bytes, &end)) {
            *kept = end - record->bytes;
            *action = COP_ACT_PATH_END;
        }
        return COP_OK;
    }
    find_tag(live, record, record->bytes + text.bytes);
    if (record->async.found == COP_FOUND_NONE)
        return COP_OK;
    *kept = record->async.end - record->bytes;
    act_up_to(record, record->async.end);
    *action = COP_ACT_ASYNC;
    return COP_OK;
}

/* ---- paths ---- */

static bool is_path_of(const cop_live *live, const cop_live_record *parent, uint32_t i) {
    return !live->records[i].withdrawn && live->records[i].n_path == 1 &&
           &live->records[live->records[i].parent] == parent;
}

static uint32_t count(const cop_live *live, const cop_live_record *parent, cop_async_state from,
                      cop_async_state to) {
    uint32_t n = 0;
    for (uint32_t i = live->options.n_samples; i < live->n_records; i++)
        n += is_path_of(live, parent, i) && live->records[i].async.state >= from &&
             live->records[i].async.state <= to;
    return n;
}

/* The newest path of that id; UINT32_MAX: there is none. */
static uint32_t find_path(const cop_live *live, const cop_live_record *parent, cop_span id) {
    for (uint32_t i = live->n_records; i-- > live->options.n_samples;) {
        const cop_span *own = &live->records[i].async.id;
        if (is_path_of(live, parent, i) && own->bytes == id.bytes &&
            memcmp(parent->text + own->begin, parent->text + id.begin, id.bytes) == 0)
            return i;
    }
    return UINT32_MAX;
}

/* A pattern with {n} and {item} filled in, encoded into `scratch`. */
static cop_status encode_filled(cop_live *live, const char *pattern, const char *n, size_t n_bytes,
                                const char *item, size_t item_bytes) {
    size_t bytes;
    COP_TRY(cop_dialect_header(pattern, n, n_bytes, item, item_bytes, live->async_text,
                               live->encode_bytes, &bytes));
    return cop__live_encode(live, live->async_text, bytes, false);
}

static cop_status encode_header(cop_live *live, const cop_live_record *record) {
    const cop_live_record *parent = &live->records[record->parent];
    const cop_span id = record->async.id, item = record->async.item;
    return encode_filled(live, live->options.dialect->branch_prompt,
                         id.bytes ? parent->text + id.begin : record->path_text,
                         id.bytes ? id.bytes : strlen(record->path_text), parent->text + item.begin,
                         item.bytes);
}

/* The path's branch is open: it is given what it begins with. */
static cop_status begin_path(cop_live *live, cop_engine *engine, cop_live_record *record) {
    const cop_live_options *o = &live->options;
    const bool spawn = o->dialect->async.spawn;
    record->async.state = COP_ASYNC_RUNNING;
    COP_TRY(encode_header(live, record));
    cop__live_hear(live, COP_LIVE_FORK, record);
    COP_TRY(cop__live_append(live, record, live->scratch.data, (uint32_t)live->scratch.count,
                             COP_LIVE_GIVEN));
    record->n_header = record->turn_ids = record->n_ids;
    record->header_bytes = record->turn_begin = record->bytes;
    cop_engine_set_data(engine, record->branch, (uint32_t)(record - live->records));
    cop__live_expect(live, engine, record, record->n_ids + (spawn ? o->n_spawn : 0));
    if (spawn)
        COP_TRY(cop_engine_feed(engine, record->branch, o->spawn, o->n_spawn, COP_FEED_SPAWN));
    return cop_engine_feed(engine, record->branch, record->ids, record->n_ids, COP_FEED_HEADER);
}

cop_status cop__live_async_restart(cop_live *live, cop_engine *engine, uint32_t number) {
    cop_live_record *record = &live->records[number];
    const cop_live_async kept = record->async;
    cop__live_begin_path(live, number, &live->records[record->parent], record->path[0] - 1,
                         record->block);
    record->async = (cop_live_async){.id = kept.id, .item = kept.item};
    return begin_path(live, engine, record);
}

static cop_status open_path(cop_live *live, cop_engine *engine, cop_live_record *parent) {
    const cop_async *a = &live->options.dialect->async;
    uint32_t number, gap = 0;
    bool again;
    cop__live_find_records(live, parent, 1, &number, &again);
    cop_live_record *record = &live->records[number];
    const uint32_t index = count(live, parent, COP_ASYNC_QUEUED, COP_ASYNC_JOINED);
    const uint32_t running = count(live, parent, COP_ASYNC_RUNNING, COP_ASYNC_RUNNING);
    const uint32_t block = again ? record->block : cop__live_next_block(live, parent->sample);
    if (!again) {
        record->had_ended = record->end_heard = false;
        record->n_muted = 0;
        live->n_records++;
    }
    record->branch = COP_BRANCH_NONE;
    cop__live_begin_path(live, number, parent, index, block);
    record->async = (cop_live_async){
        .state = COP_ASYNC_QUEUED, .id = parent->async.found_id, .item = parent->async.found_item};
    parent->n_forks++;
    live->samples[parent->sample].forks++;
    if (a->capacity && running >= a->capacity)
        return COP_OK; /* it begins when another one has ended */
    if (live->options.dialect->positions == COP_POSITIONS_PREDICTED_GAP)
        gap = (uint32_t)(parent->async.tokens * a->gap_unit);
    if (a->spawn) {
        COP_TRY(cop_engine_spawn_beside(engine, parent->branch, &record->branch));
    } else {
        COP_TRY(cop_engine_fork_beside(engine, parent->branch, gap, &record->branch));
        parent->async.node_ids = parent->n_ids;
        cop__live_expect(live, engine, parent, 0);
    }
    return begin_path(live, engine, record);
}

/* An id that is unknown or repeated: what the dialect does then. */
static cop_status refuse_id(cop_live *live, cop_engine *engine, cop_live_record *parent) {
    const cop_async *a = &live->options.dialect->async;
    const cop_span id = parent->async.found_id;
    const uint32_t first = parent->n_ids;
    cop__live_count_refused(live, parent);
    if (a->error_ends_run)
        return cop__live_finish_sample(live, engine, parent->sample, COP_STOP_REFUSED);
    if (!a->error_text)
        return COP_OK;
    COP_TRY(encode_filled(live, a->error_text, parent->text + id.begin, id.bytes, "", 0));
    const uint32_t n = (uint32_t)live->scratch.count;
    if (!cop__live_fits(engine, parent->branch, n) || n > parent->max_ids - parent->n_ids)
        return cop__live_finish_sample(live, engine, parent->sample, COP_STOP_LENGTH);
    COP_TRY(cop__live_append(live, parent, live->scratch.data, n, COP_LIVE_GIVEN));
    act_up_to(parent, parent->bytes);
    return cop_engine_feed(engine, parent->branch, parent->ids + first, n, COP_FEED_JOIN);
}

static bool may_fork(const cop_live *live, const cop_engine *engine,
                     const cop_live_record *parent) {
    const cop_dialect *d = live->options.dialect;
    const uint32_t most = live->options.max_blocks ? live->options.max_blocks : d->max_blocks;
    const uint64_t gap =
        d->positions == COP_POSITIONS_PREDICTED_GAP ? parent->async.tokens * d->async.gap_unit : 0;
    uint32_t first;
    bool again;
    if (d->async.capacity && !d->async.queues &&
        count(live, parent, COP_ASYNC_RUNNING, COP_ASYNC_RUNNING) >= d->async.capacity)
        return false;
    if ((most && live->samples[parent->sample].forks >= most) || live->spent ||
        parent->async.tokens > UINT32_MAX)
        return false;
    return cop__live_find_records(live, parent, 1, &first, &again) &&
           strlen(d->branch_prompt) + parent->async.found_item.bytes + COP_LIVE_HEADER_BYTES <
               live->encode_bytes &&
           parent->async.found_item.bytes + COP_LIVE_HEADER_BYTES < live->records[first].max_ids &&
           cop__live_fits(engine, parent->branch,
                          gap + parent->async.found_item.bytes + COP_LIVE_HEADER_BYTES);
}

static cop_status take_fork(cop_live *live, cop_engine *engine, cop_live_record *parent) {
    if (parent->async.found_id.bytes &&
        find_path(live, parent, parent->async.found_id) != UINT32_MAX)
        return refuse_id(live, engine, parent);
    if (may_fork(live, engine, parent))
        return open_path(live, engine, parent);
    cop__live_count_refused(live, parent);
    return live->options.dialect->refused == COP_REFUSAL_ENDS_RUN
               ? cop__live_finish_sample(live, engine, parent->sample, COP_STOP_REFUSED)
               : COP_OK;
}

/* ---- ends ---- */

/* A place is free: the next path that waits for one begins. */
static cop_status begin_queued(cop_live *live, cop_engine *engine, cop_live_record *parent) {
    const uint32_t most = live->options.dialect->async.capacity;
    bool ready;
    if (!most || count(live, parent, COP_ASYNC_RUNNING, COP_ASYNC_RUNNING) >= most)
        return COP_OK;
    for (uint32_t i = live->options.n_samples; i < live->n_records; i++) {
        cop_live_record *record = &live->records[i];
        if (!is_path_of(live, parent, i) || record->async.state != COP_ASYNC_QUEUED)
            continue;
        COP_TRY(cop_engine_spawn_beside(engine, parent->branch, &record->branch));
        COP_TRY(begin_path(live, engine, record));
        return parent->async.awaits == i + 1
                   ? cop_engine_wait(engine, parent->branch, record->branch, &ready)
                   : COP_OK;
    }
    return COP_OK;
}

cop_status cop__live_async_ended(cop_live *live, cop_engine *engine, cop_live_record *record) {
    cop_live_record *parent = &live->records[record->parent];
    record->async.state = COP_ASYNC_ENDED;
    if (live->samples[parent->sample].stop != COP_STOP_NONE)
        return COP_OK;
    return begin_queued(live, engine, parent);
}

cop_status cop__live_async_cancel(cop_live *live, cop_engine *engine, cop_live_record *parent,
                                  cop_stop stop) {
    parent->async.awaits = 0;
    for (uint32_t i = live->options.n_samples; i < live->n_records; i++) {
        cop_live_record *record = &live->records[i];
        if (is_path_of(live, parent, i) && record->stop == COP_STOP_NONE)
            COP_TRY(cop__live_drop_path(live, engine, record, stop));
    }
    return COP_OK;
}

/* ---- joins ---- */

/* What stands between the path's tags; what the dialect says where it returned nothing. */
static const char *reply_of(const cop_live *live, const cop_live_record *record, size_t *length) {
    const cop_dialect *d = live->options.dialect;
    const char *text = record->text, *end = text + record->bytes;
    const cop_tag *open = &d->open[COP_EL_PATH], *close = &d->close[COP_EL_PATH];
    const char *from = record->dropped ? NULL : cop__live_find_text(text, record->bytes, open);
    *length = strlen(d->async.no_reply);
    if (!from)
        return d->async.no_reply;
    from += open->bytes;
    if ((size_t)(end - from) >= close->bytes &&
        memcmp(end - close->bytes, close->text, close->bytes) == 0)
        end -= close->bytes;
    *length = (size_t)(end - from);
    return from;
}

static cop_status encode_message(cop_live *live, const cop_live_record *parent,
                                 const cop_live_record *record) {
    size_t bytes;
    const char *reply = reply_of(live, record, &bytes);
    const cop_span id = record->async.id;
    return encode_filled(live, live->options.dialect->join_prompt,
                         id.bytes ? parent->text + id.begin : record->path_text,
                         id.bytes ? id.bytes : strlen(record->path_text), reply, bytes);
}

/* Tokens and bytes that joining the listed paths adds, and whether they fit. */
static cop_status join_fits(cop_live *live, const cop_engine *engine, const cop_live_record *parent,
                            uint32_t n, bool *fits) {
    const cop_dialect *d = live->options.dialect;
    const bool message = d->async.insert == COP_INSERT_MESSAGE;
    uint64_t ids = message ? 0 : live->n_join, bytes = message ? 0 : strlen(d->join_prompt);
    for (uint32_t i = 0; i < n; i++) {
        const cop_live_record *record = &live->records[live->async_list[i]];
        if (message) {
            COP_TRY(encode_message(live, parent, record));
            ids += live->scratch.count;
            bytes += strlen(live->async_text);
        } else if (!record->dropped) {
            ids += record->n_ids;
            bytes += record->bytes;
        }
    }
    *fits = cop__live_fits(engine, parent->branch, ids) &&
            ids + COP_LIVE_SPARE_IDS <= parent->max_ids - parent->n_ids &&
            bytes + COP_LIVE_SPARE_BYTES <= parent->max_bytes - parent->bytes;
    return COP_OK;
}

static cop_status append_joined(cop_live *live, cop_live_record *parent, uint32_t n) {
    const bool message = live->options.dialect->async.insert == COP_INSERT_MESSAGE;
    for (uint32_t i = 0; i < n; i++) {
        cop_live_record *record = &live->records[live->async_list[i]];
        record->async.state = COP_ASYNC_JOINED;
        live->joining = record->path_text;
        cop__live_hear(live, COP_LIVE_JOIN, parent);
        live->joining = NULL;
        if (message) {
            COP_TRY(encode_message(live, parent, record));
            COP_TRY(cop__live_append(live, parent, live->scratch.data,
                                     (uint32_t)live->scratch.count, COP_LIVE_GIVEN));
        } else if (!record->dropped) {
            COP_TRY(cop__live_append(live, parent, record->ids, record->n_ids, COP_LIVE_QUIET));
        }
    }
    return COP_OK;
}

static cop_status engine_joins(cop_live *live, cop_engine *engine, const cop_live_record *parent,
                               uint32_t n) {
    const cop_dialect *d = live->options.dialect;
    uint32_t known = 0;
    for (uint32_t i = 0; i < n; i++) /* one that was given up before it began has no branch */
        if (live->records[live->async_list[i]].branch != COP_BRANCH_NONE)
            live->async_branches[known++] = live->records[live->async_list[i]].branch;
    const cop_join_beside join = {.children = live->async_branches,
                                  .n = known,
                                  .stitch = d->async.insert == COP_INSERT_STITCH,
                                  .behind = d->positions == COP_POSITIONS_NEXT};
    return cop_engine_join_beside(engine, parent->branch, &join);
}

static cop_status finish(cop_live *live, cop_engine *engine, cop_live_record *parent) {
    parent->ids[parent->n_ids++] = parent->async.end_token; /* an id, but no text */
    return cop__live_finish_sample(live, engine, parent->sample, COP_STOP_END);
}

/* Joins the listed paths, and the parent goes on. */
static cop_status join(cop_live *live, cop_engine *engine, cop_live_record *parent, uint32_t n) {
    const cop_dialect *d = live->options.dialect;
    const bool message = d->async.insert == COP_INSERT_MESSAGE;
    const bool stitch = d->async.insert == COP_INSERT_STITCH;
    const uint32_t first = parent->n_ids;
    bool fits;
    parent->async.awaits = 0;
    COP_TRY(join_fits(live, engine, parent, n, &fits));
    if (!fits)
        return cop__live_finish_sample(live, engine, parent->sample, COP_STOP_LENGTH);
    COP_TRY(engine_joins(live, engine, parent, n));
    COP_TRY(append_joined(live, parent, n));
    if (parent->async.ends)
        return finish(live, engine, parent);
    const uint32_t text = parent->n_ids;
    if (!message)
        COP_TRY(cop__live_append(live, parent, live->join_ids, live->n_join, COP_LIVE_GIVEN));
    parent->turn_begin = parent->bytes;
    act_up_to(parent, parent->bytes);
    parent->turn_ids = parent->n_ids;
    if (stitch)
        parent->async.node_ids = text;
    cop__live_expect(live, engine, parent, parent->n_ids - parent->async.node_ids);
    if (d->async.insert == COP_INSERT_REPREFILL)
        COP_TRY(cop_engine_feed(engine, parent->branch, parent->ids + first, text - first,
                                COP_FEED_AGAIN));
    const uint32_t from = message ? first : text;
    return cop_engine_feed(engine, parent->branch, parent->ids + from, parent->n_ids - from,
                           COP_FEED_JOIN);
}

/* What the parent waits for, in order of the forks. */
static uint32_t list_awaited(const cop_live *live, const cop_live_record *parent) {
    uint32_t n = 0;
    for (uint32_t i = live->options.n_samples; i < live->n_records; i++)
        if (is_path_of(live, parent, i) && live->records[i].async.state != COP_ASYNC_JOINED &&
            (parent->async.awaits == ALL || parent->async.awaits == i + 1))
            live->async_list[n++] = i;
    return n;
}

cop_status cop__live_async_joined(cop_live *live, cop_engine *engine, cop_live_record *parent) {
    if (parent->async.awaits == 0) /* its sample is over */
        return COP_OK;
    return join(live, engine, parent, list_awaited(live, parent));
}

/* Waits for one path, by its record, or for all. */
static cop_status wait_for(cop_live *live, cop_engine *engine, cop_live_record *parent,
                           uint32_t awaits) {
    cop_branch child = COP_BRANCH_NONE;
    bool ready;
    parent->async.awaits = awaits;
    if (awaits != ALL) {
        const cop_live_record *record = &live->records[awaits - 1];
        if (record->async.state == COP_ASYNC_ENDED)
            return cop__live_async_joined(live, engine, parent);
        child = record->branch; /* none where it did not begin: then for all, until it does */
    }
    COP_TRY(cop_engine_wait(engine, parent->branch, child, &ready));
    return ready ? cop__live_async_joined(live, engine, parent) : COP_OK;
}

bool cop__live_async_awaits_end(const cop_live *live, const cop_live_record *parent) {
    return live->options.dialect->async.end_awaits &&
           count(live, parent, COP_ASYNC_QUEUED, COP_ASYNC_ENDED) > 0;
}

cop_status cop__live_async_end(cop_live *live, cop_engine *engine, cop_live_record *parent,
                               int32_t token) {
    parent->async.ends = true;
    parent->async.end_token = token;
    return wait_for(live, engine, parent, ALL);
}

cop_status cop__live_async_act(cop_live *live, cop_engine *engine, cop_live_record *parent) {
    if (parent->async.found == COP_FOUND_FORK)
        return take_fork(live, engine, parent);
    if (parent->async.found == COP_FOUND_SYNC)
        return count(live, parent, COP_ASYNC_QUEUED, COP_ASYNC_ENDED) > 0
                   ? wait_for(live, engine, parent, ALL)
                   : COP_OK;
    const uint32_t number = find_path(live, parent, parent->async.found_id);
    if (number == UINT32_MAX || live->records[number].async.state == COP_ASYNC_JOINED)
        return refuse_id(live, engine, parent);
    return wait_for(live, engine, parent, number + 1);
}
