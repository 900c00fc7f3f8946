#include "reason/driver_live.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "reason/live_internal.h"

static const char *const stop_names[] = {"none",      "end",    "length", "confidence",
                                         "cancelled", "failed", "path",   "refused"};

const char *cop_stop_name(cop_stop stop) {
    return stop_names[stop];
}

bool cop__live_forks(const cop_live *live) {
    return live->options.dialect && live->options.dialect->join != COP_JOIN_NONE &&
           live->options.tokenizer;
}

/* ---- life ---- */

static cop_status encode_fixed(cop_live *live, const char *text, size_t bytes, int32_t **out,
                               uint32_t *n) {
    cop_token_ids ids = {0};
    cop_status status = cop_tokenizer_encode(live->options.tokenizer, text, bytes,
                                             (cop_encode_options){.no_bos = true}, &ids);
    if (status == COP_OK) {
        *out = cop_arena_calloc(live->arena, ids.count + 1, sizeof **out);
        if (!*out)
            status = COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a dialect's text");
        else if (ids.count > 0)
            memcpy(*out, ids.data, ids.count * sizeof **out);
        *n = (uint32_t)ids.count;
    }
    cop_token_ids_release(&ids);
    return status == COP_OK
               ? COP_OK
               : cop_status_prefix(status, "dialect %s, the text \"%.40s\" that it adds",
                                   live->options.dialect->name, text);
}

static cop_status create_record(cop_live *live, cop_live_record *record) {
    const cop_live_options *o = &live->options;
    record->ids = cop_arena_calloc(live->arena, live->max_ids + 1, sizeof *record->ids);
    record->text = cop_arena_calloc(live->arena, live->max_bytes, 1);
    if (o->prune.window)
        record->ring = cop_arena_calloc(live->arena, o->prune.window, sizeof *record->ring);
    if (cop__live_forks(live))
        record->items = cop_arena_calloc(live->arena, o->max_branches, sizeof *record->items);
    bool whole = record->ids && record->text && (record->ring || !o->prune.window) &&
                 (record->items || !cop__live_forks(live));
    return whole ? COP_OK
                 : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u branches of %u tokens",
                            o->max_branches, live->max_ids);
}

static cop_status create_dialect(cop_live *live) {
    const cop_live_options *o = &live->options;
    const cop_dialect *d = o->dialect;
    bool replies = d->join == COP_JOIN_MESSAGE; /* of any length that a path can have */
    live->encode_bytes = replies && live->max_bytes > COP_LIVE_ENCODE_BYTES ? live->max_bytes
                                                                            : COP_LIVE_ENCODE_BYTES;
    COP_TRY(cop_encoder_create(o->tokenizer, live->encode_bytes, &live->encoder));
    COP_TRY(cop_grow(&live->scratch.data, &live->scratch.capacity, 2 * live->encode_bytes,
                     sizeof *live->scratch.data));
    COP_TRY(
        encode_fixed(live, d->join_prompt, strlen(d->join_prompt), &live->join_ids, &live->n_join));
    COP_TRY(encode_fixed(live, d->close[COP_EL_PATH].text, d->close[COP_EL_PATH].bytes,
                         &live->close_ids, &live->n_close));
    if (d->join == COP_JOIN_STITCH && live->n_join == 0)
        return COP_FAIL(COP_ERR_CONFIG,
                        "dialect %s stitches but has no join_prompt: the next token needs a row",
                        d->name);
    if (o->join_policy.success_only && d->success.bytes == 0)
        return COP_FAIL(COP_ERR_CONFIG,
                        "dialect %s names no \"success\": its paths cannot say that they found "
                        "anything; let any finished path count",
                        d->name);
    return COP_OK;
}

static cop_status create_parts(cop_live *live) {
    cop_live_options *o = &live->options;
    COP_TRY(cop_arena_create(&live->arena));
    if (o->max_branches < o->n_samples)
        o->max_branches = o->n_samples;
    /* A sample's ids hold its paths' too, and their headers and join texts. */
    live->max_ids =
        o->max_tokens + (cop__live_forks(live) ? 64 * o->max_branches : 0) + COP_LIVE_SPARE_IDS;
    live->max_bytes = (size_t)live->max_ids * 16 + 4 * COP_LIVE_SPARE_BYTES;
    live->records = cop_arena_calloc(live->arena, o->max_branches, sizeof *live->records);
    live->samples = cop_arena_calloc(live->arena, o->n_samples, sizeof *live->samples);
    live->children =
        cop_arena_calloc(live->arena, 2 * (size_t)o->max_branches, sizeof *live->children);
    if (!live->records || !live->samples || !live->children)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the samples");
    for (uint32_t i = 0; i < o->max_branches; i++)
        COP_TRY(create_record(live, &live->records[i]));
    if (cop__live_forks(live))
        COP_TRY(create_dialect(live));
    return o->rule ? cop__live_rule_create(live) : COP_OK;
}

cop_status cop_live_reset(cop_live *live, const int32_t *prompt, uint32_t n_prompt,
                          const int32_t *spawn, uint32_t n_spawn, uint64_t problem_key) {
    cop_live_options *o = &live->options;
    if (n_prompt == 0)
        return COP_FAIL(COP_ERR_USAGE, "the prompt is empty: give at least one token");
    if (cop__live_forks(live) && o->dialect->join == COP_JOIN_MESSAGE && n_spawn == 0)
        return COP_FAIL(COP_ERR_USAGE, "dialect %s spawns: its spawn_prompt is needed",
                        o->dialect->name);
    o->prompt = prompt;
    o->n_prompt = n_prompt;
    o->spawn = spawn;
    o->n_spawn = n_spawn;
    live->driver.problem_key = o->problem_key = problem_key;
    live->n_records = 0;
    live->generated = 0;
    live->spent = false;
    memset(live->samples, 0, o->n_samples * sizeof *live->samples);
    return cop__live_rule_reset(live);
}

static const cop_driver live_ops;

cop_status cop_live_create(const cop_live_options *options, cop_live **out) {
    if (options->n_samples == 0 || options->max_tokens == 0)
        return COP_FAIL(COP_ERR_USAGE, "at least one sample of at least one token is needed");
    cop_live *live = cop_calloc(1, sizeof *live);
    if (!live)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory to decode");
    live->driver = live_ops;
    live->options = *options;
    cop_status status = create_parts(live);
    if (status == COP_OK)
        status = cop_live_reset(live, options->prompt, options->n_prompt, options->spawn,
                                options->n_spawn, options->problem_key);
    if (status != COP_OK) {
        cop_live_destroy(live);
        return status;
    }
    *out = live;
    return COP_OK;
}

void cop_live_destroy(cop_live *live) {
    if (!live)
        return;
    cop_encoder_destroy(live->encoder);
    cop_token_ids_release(&live->scratch);
    cop_arena_destroy(live->arena);
    cop_free(live);
}

cop_driver *cop_live_driver(cop_live *live) {
    return &live->driver;
}

/* ---- reading ---- */

/* The last answer of the text that the sample itself has said since its last join. */
static void find_answer(const cop_live *live, const cop_live_record *record, cop_live_sample *out) {
    const cop_dialect *d = live->options.dialect;
    if (!d || d->answer_after.bytes == 0 || out->stop != COP_STOP_END)
        return;
    const char *at = record->text + record->turn_begin, *end = record->text + record->bytes, *found;
    while ((found = memmem(at, (size_t)(end - at), d->answer_after.text, d->answer_after.bytes))) {
        at = found + d->answer_after.bytes;
        out->answer = at;
        out->answer_bytes = (size_t)(end - at);
    }
}

static double lowest_of_paths(const cop_live *live, uint32_t sample) {
    double lowest = NAN;
    for (uint32_t i = 0; i < live->n_records; i++) {
        const cop_live_record *record = &live->records[i];
        bool counts = record->sample == sample && cop__live_forks(live) == (record->n_path > 0);
        if (counts)
            lowest = fmin(lowest, cop_confidence_lowest(&record->confidence));
    }
    return lowest;
}

cop_live_sample cop_live_sample_read(const cop_live *live, uint32_t i) {
    const cop_live_record *record = &live->records[i];
    cop_live_sample out = live->samples[i];
    out.lowest_confidence = live->options.prune.window ? lowest_of_paths(live, i) : NAN;
    if (i >= live->n_records) /* the run ended before it began */
        return out;
    out.ids = record->ids;
    out.n_ids = record->n_ids;
    out.text = record->text;
    out.bytes = record->bytes;
    out.ill_formed_tags += record->parser.ill_formed;
    find_answer(live, record, &out);
    return out;
}

uint32_t cop_live_path_count(const cop_live *live) {
    uint32_t samples = live->options.n_samples;
    return live->n_records > samples ? live->n_records - samples : 0;
}

cop_live_path cop_live_path_read(const cop_live *live, uint32_t i) {
    const cop_live_record *record = &live->records[live->options.n_samples + i];
    return (cop_live_path){.sample = record->sample,
                           .block = record->block,
                           .index = record->path[record->n_path - 1] - 1,
                           .path = record->path_text,
                           .ids = record->ids,
                           .n_ids = record->n_ids,
                           .n_header = record->n_header,
                           .text = record->text,
                           .bytes = record->bytes,
                           .success = cop__live_says_success(live, record),
                           .stop = record->stop};
}

cop_status cop_live_gather(cop_live *live) {
    for (uint32_t i = 0; i < live->options.n_samples && i < live->n_records; i++)
        COP_TRY(cop__live_gather(live, &live->records[i]));
    return COP_OK;
}

/* ---- text ---- */

void cop__live_hear(const cop_live *live, cop_live_event_kind kind, const cop_live_record *record) {
    if (!live->options.listener)
        return;
    cop_live_event event = {.kind = kind,
                            .sample = record->sample,
                            .path = record->path_text,
                            .block = record->block,
                            .stop = record->stop};
    if (kind == COP_LIVE_TEXT)
        event.text = "";
    if (kind == COP_LIVE_END)
        event.success = cop__live_says_success(live, record);
    if (kind == COP_LIVE_STOP)
        event.stop = live->samples[record->sample].stop;
    live->options.listener(live->options.listener_context, &event);
}

cop_status cop__live_append(cop_live *live, cop_live_record *record, const int32_t *ids, uint32_t n,
                            cop_live_voice voice) {
    if (n > live->max_ids - record->n_ids)
        return COP_FAIL(COP_ERR_NO_ROOM, "a branch holds more than %u tokens", live->max_ids);
    for (uint32_t i = 0; i < n; i++) {
        record->ids[record->n_ids++] = ids[i];
        if (!live->options.tokenizer)
            continue;
        cop_text text = cop_tokenizer_bytes(live->options.tokenizer, ids[i]);
        if (text.bytes > live->max_bytes - record->bytes)
            return COP_FAIL(COP_ERR_NO_ROOM, "a branch's text is longer than %zu bytes",
                            live->max_bytes);
        memcpy(record->text + record->bytes, text.data, text.bytes);
        record->bytes += text.bytes;
        if (!live->options.listener || voice == COP_LIVE_QUIET)
            continue;
        cop_live_event event = {.kind = COP_LIVE_TEXT,
                                .sample = record->sample,
                                .path = record->path_text,
                                .block = record->block,
                                .text = text.data,
                                .bytes = text.bytes,
                                .forced = voice == COP_LIVE_GIVEN};
        live->options.listener(live->options.listener_context, &event);
    }
    return COP_OK;
}

cop_status cop__live_encode(cop_live *live, const char *text, size_t bytes, bool plain) {
    live->scratch.count = 0;
    if (bytes > live->encode_bytes)
        return COP_FAIL(COP_ERR_NO_ROOM,
                        "a header or reply has %zu bytes; at most %zu can be given", bytes,
                        live->encode_bytes);
    return cop_encoder_encode(live->encoder, text, bytes,
                              (cop_encode_options){.plain = plain, .no_bos = true}, &live->scratch);
}

bool cop__live_fits(const cop_engine *engine, cop_branch branch, uint64_t tokens) {
    uint64_t next = cop_engine_branch(engine, branch).next_position;
    return next + tokens <= cop_engine_max_positions(engine);
}

/* ---- samples ---- */

static cop_status live_start(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    cop_live *live = (cop_live *)driver;
    const cop_live_options *o = &live->options;
    COP_TRY(cop_engine_root(engine, problem, &live->root));
    cop_engine_set_data(engine, live->root, UINT32_MAX);
    COP_TRY(cop_engine_feed(engine, live->root, o->prompt, o->n_prompt, COP_FEED_PROMPT));
    COP_TRY(cop_engine_fork(engine, live->root, o->n_samples + cop__live_rule_extra(live),
                            live->children));
    for (uint32_t i = 0; i < o->n_samples; i++) {
        cop_live_record *record = &live->records[live->n_records++];
        *record = (cop_live_record){.branch = live->children[i],
                                    .parent = UINT32_MAX,
                                    .sample = i,
                                    .ids = record->ids,
                                    .text = record->text,
                                    .items = record->items,
                                    .ring = record->ring};
        if (record->ring)
            cop_confidence_init(&record->confidence, record->ring, o->prune.window);
        if (o->dialect)
            cop_parser_init(&record->parser, o->dialect, false);
        cop_engine_set_data(engine, record->branch, i);
        cop_engine_stream(engine, record->branch, o->first_sample + i);
    }
    return COP_OK;
}

/* The request for the branch's token number `said`, from 0. */
static void fill_request(cop_live *live, cop_live_record *record, uint32_t said,
                         cop_sample_request *request) {
    const cop_live_options *o = &live->options;
    request->temperature = o->temperature;
    request->top_k = o->top_k;
    request->top_p = o->top_p;
    request->min_p = o->min_p;
    for (uint32_t i = 0; i < o->n_script; i++) {
        const cop_script *script = &o->script[i];
        if (strcmp(script->path, record->path_text) == 0 && said < script->n) {
            /* Two steps may be out at once. */
            cop_logit_bias *bias = &record->bias[said % 2];
            *bias = (cop_logit_bias){script->ids[said], 1e6f};
            request->bias = bias;
            request->n_bias = 1;
        }
    }
}

static void live_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                         cop_sample_request *request) {
    cop_live *live = (cop_live *)driver;
    cop_live_record *record = &live->records[cop_engine_branch(engine, branch).data];
    fill_request(live, record, record->n_said, request);
}

/* What a branch is asked for does not hang on its last token; a tag in it takes the guess back. */
static bool live_request_ahead(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                               cop_sample_request *request) {
    cop_live *live = (cop_live *)driver;
    cop_live_record *record = &live->records[cop_engine_branch(engine, branch).data];
    fill_request(live, record, record->n_said + 1, request);
    return true;
}

cop_status cop__live_end_sample(cop_live *live, cop_engine *engine, uint32_t sample,
                                cop_stop stop) {
    cop_live_record *record = &live->records[sample];
    live->samples[sample].stop = stop;
    /* Of the paths that were open, the limit ended all alike; anything else cancelled them. */
    cop__live_mark_below(live, record,
                         stop == COP_STOP_LENGTH ? COP_STOP_LENGTH : COP_STOP_CANCELLED);
    COP_TRY(cop__live_gather(live, record));
    cop__live_rule_ended(live, record, stop);
    cop__live_hear(live, COP_LIVE_STOP, record);
    cop_branch_end how = stop == COP_STOP_CONFIDENCE  ? COP_END_PRUNED
                         : stop == COP_STOP_CANCELLED ? COP_END_CANCELLED
                         : stop == COP_STOP_FAILED    ? COP_END_FAILED
                                                      : COP_END_DONE;
    return cop_engine_end(engine, record->branch, how);
}

/* Cancels every sample that still runs, but for `kept`; `kept` ends last. */
static cop_status cancel_others(cop_live *live, cop_engine *engine, uint32_t kept) {
    for (uint32_t i = 0; i < live->options.n_samples; i++) {
        if (i != kept && live->samples[i].stop == COP_STOP_NONE)
            COP_TRY(cop__live_end_sample(live, engine, i, COP_STOP_CANCELLED));
    }
    return COP_OK;
}

static cop_status finish_sample(cop_live *live, cop_engine *engine, uint32_t sample,
                                cop_stop stop) {
    if (live->options.prune.first_finisher && stop == COP_STOP_END) {
        live->samples[sample].stop = stop;
        COP_TRY(cancel_others(live, engine, sample));
    }
    return cop__live_end_sample(live, engine, sample, stop);
}

/* ---- a token ---- */

/* What a token calls for. */
typedef enum live_action { ACT_NONE, ACT_FORK, ACT_REFUSED, ACT_PATH_END } live_action;

typedef struct live_token {
    live_action action;
    size_t kept; /* bytes of the token that count: up to the tag on which the engine must act */
    uint32_t items;
} live_token;

/* Where the items of the open plan stand in the branch's text, for branch_prompt's {item}. */
static void note_item(const cop_live *live, cop_live_record *record, const cop_tag_event *event,
                      size_t at) {
    bool item = event->element == COP_EL_ITEM;
    size_t tag = record->bytes + at - event->tag_bytes;
    uint32_t n = record->n_items, max = live->options.max_branches;
    if ((item || event->element == COP_EL_PLAN) && n > 0 && record->items[n - 1].bytes == SIZE_MAX)
        record->items[n - 1].bytes = tag - record->items[n - 1].begin;
    if (item && !event->closing) {
        n = event->items - 1; /* more than `max` are counted: their fork is refused */
        if (n < max)
            record->items[n++] = (cop_live_item){record->bytes + at, SIZE_MAX};
        record->n_items = n < max ? n : max;
    }
}

static cop_status find_action(cop_live *live, const cop_engine *engine, cop_live_record *record,
                              cop_text text, live_token *out) {
    size_t at = 0;
    while (at < text.bytes && out->action == ACT_NONE) {
        size_t used;
        bool found;
        cop_tag_event event;
        uint32_t depth = record->parser.depth;
        COP_TRY(cop_parser_feed(&record->parser, text.data + at, text.bytes - at, &used, &found,
                                &event));
        at += used;
        if (!found)
            continue;
        if (cop__live_forks(live))
            note_item(live, record, &event, at);
        if (event.element == COP_EL_PLAN && event.closing) {
            out->items = event.items;
            if (cop__live_may_fork(live, engine, record, event.items)) {
                out->action = ACT_FORK;
            } else {
                live->samples[record->sample].forks_refused++;
                if (live->options.dialect->refused == COP_REFUSAL_ENDS_RUN)
                    out->action = ACT_REFUSED;
            }
        }
        if (event.element == COP_EL_PATH && event.closing && record->n_path > 0 &&
            depth == record->closes_at)
            out->action = ACT_PATH_END;
    }
    out->kept = at;
    return COP_OK;
}

/* Whether the branch's own memory holds another token and what ends it. */
static bool has_room(const cop_live *live, const cop_live_record *record) {
    return live->max_ids - record->n_ids >= COP_LIVE_SPARE_IDS &&
           live->max_bytes - record->bytes >= COP_LIVE_SPARE_BYTES;
}

/* Takes the token's text; a token that ran past a tag's end is cut there and encoded again. */
static cop_status take_text(cop_live *live, cop_engine *engine, cop_live_record *record,
                            int32_t token, live_token *out) {
    if (!live->options.tokenizer || !live->options.dialect)
        return cop__live_append(live, record, &token, 1, COP_LIVE_SAID);
    cop_text text = cop_tokenizer_bytes(live->options.tokenizer, token);
    COP_TRY(find_action(live, engine, record, text, out));
    if (out->kept == text.bytes)
        return cop__live_append(live, record, &token, 1, COP_LIVE_SAID);
    COP_TRY(cop__live_encode(live, text.data, out->kept, true));
    cop_engine_metrics(engine)->tokens_dropped++;
    return cop__live_append(live, record, live->scratch.data, (uint32_t)live->scratch.count,
                            COP_LIVE_SAID);
}

/* What a path's own limits and its confidence say once its token is taken. */
static cop_status limit_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                             bool doubtful) {
    const cop_live_options *o = &live->options;
    uint32_t longest = o->dialect->max_path_tokens, deadline = o->join_policy.deadline_tokens;
    if (doubtful)
        return cop__live_cancel_path(live, engine, record, COP_STOP_CONFIDENCE);
    if (longest && record->n_said >= longest)
        return cop__live_end_path(live, engine, record, false, COP_STOP_LENGTH);
    if (deadline && record->n_said >= deadline)
        return cop__live_cancel_path(live, engine, record, COP_STOP_CANCELLED);
    return COP_OK;
}

static cop_status act(cop_live *live, cop_engine *engine, cop_live_record *record, uint32_t first,
                      const live_token *token, bool doubtful) {
    const cop_live_options *o = &live->options;
    cop_live_sample *sample = &live->samples[record->sample];
    bool path_end = token->action == ACT_PATH_END;
    /* Whose KV is not read again is not fed: a path's end, unless it is stitched or reused. */
    if (path_end && o->dialect->join != COP_JOIN_STITCH && o->dialect->reuse == COP_REUSE_NONE)
        return cop__live_end_path(live, engine, record, true, COP_STOP_END);
    if (token->action == ACT_REFUSED)
        return finish_sample(live, engine, record->sample, COP_STOP_REFUSED);
    bool full =
        cop_engine_branch(engine, record->branch).next_position >= cop_engine_max_positions(engine);
    bool over =
        full || !has_room(live, record) || (sample->generated >= o->max_tokens && !path_end);
    if (!over)
        COP_TRY(cop__live_rule_feed(live, engine, record, first,
                                    token->action == ACT_NONE && !doubtful));
    if (path_end)
        return cop__live_end_path(live, engine, record, true, COP_STOP_END);
    /* A spawned path has a context of its own: that it is full is not the sample's end. */
    bool alone = record->n_path > 0 && o->dialect->join == COP_JOIN_MESSAGE;
    if (full && alone && sample->generated < o->max_tokens)
        return cop__live_end_path(live, engine, record, false, COP_STOP_LENGTH);
    if (over)
        return finish_sample(live, engine, record->sample, COP_STOP_LENGTH);
    if (token->action == ACT_FORK && !doubtful)
        return cop__live_fork(live, engine, record, token->items);
    return record->n_path > 0 ? limit_path(live, engine, record, doubtful) : COP_OK;
}

/* Whether the confidence rule ends the branch: a path where the dialect forks, else the sample. */
static bool is_doubtful(const cop_live *live, cop_live_record *record, const cop_sample *sampled) {
    const cop_prune_options *rule = &live->options.prune;
    if (rule->window == 0 || cop__live_forks(live) != (record->n_path > 0))
        return false;
    cop_confidence_add(&record->confidence, cop_token_confidence(sampled));
    return record->confidence.n >= rule->window && record->confidence.lowest < rule->threshold;
}

/* The budget is one problem's. Where nothing forks, it ends the samples; where paths run, it ends
 * them, and what they found is still joined and concluded from. */
static cop_status spend(cop_live *live, cop_engine *engine, uint32_t sample) {
    uint64_t budget = live->options.prune.budget_tokens;
    if (!budget || live->generated < budget || live->spent)
        return COP_OK;
    live->spent = true;
    if (cop__live_forks(live))
        return cop__live_cancel_paths(live, engine);
    bool runs = live->samples[sample].stop == COP_STOP_NONE;
    COP_TRY(cancel_others(live, engine, sample));
    return runs ? cop__live_end_sample(live, engine, sample, COP_STOP_CANCELLED) : COP_OK;
}

static cop_status live_token_taken(cop_driver *driver, cop_engine *engine, cop_branch branch,
                                   const cop_sample *sampled) {
    cop_live *live = (cop_live *)driver;
    cop_live_record *record = &live->records[cop_engine_branch(engine, branch).data];
    cop_live_sample *sample = &live->samples[record->sample];
    if (sampled->failed)
        return cop__live_end_sample(live, engine, record->sample, COP_STOP_FAILED);
    cop_engine_generated(engine, branch, 1);
    record->n_said++;
    live->generated++;
    sample->generated++;
    sample->logprob_sum += sampled->logprob;
    const cop_tokenizer *tokenizer = live->options.tokenizer;
    uint32_t first = record->n_ids;
    live_token token = {.action = ACT_NONE};
    bool end = tokenizer && cop_tokenizer_is_end(tokenizer, sampled->token);
    if (!end)
        COP_TRY(take_text(live, engine, record, sampled->token, &token));
    else
        cop__live_hear(live, COP_LIVE_TEXT, record); /* a token without text */
    if (end && record->n_path == 0)
        record->ids[record->n_ids++] = sampled->token; /* counts as an id, but is no text */
    bool doubtful = is_doubtful(live, record, sampled);
    if (end && record->n_path > 0)
        COP_TRY(cop__live_end_path(live, engine, record, false, COP_STOP_END));
    else if (doubtful && record->n_path == 0)
        COP_TRY(cop__live_end_sample(live, engine, record->sample, COP_STOP_CONFIDENCE));
    else if (end)
        COP_TRY(finish_sample(live, engine, record->sample, COP_STOP_END));
    else
        COP_TRY(act(live, engine, record, first, &token, doubtful));
    /* A path's own end does not wait for the limit, which its sample may have reached with it. */
    if (sample->generated >= live->options.max_tokens && sample->stop == COP_STOP_NONE)
        COP_TRY(finish_sample(live, engine, record->sample, COP_STOP_LENGTH));
    return spend(live, engine, record->sample);
}

static const cop_driver live_ops = {.start = live_start,
                                    .request = live_request,
                                    .request_ahead = live_request_ahead,
                                    .token = live_token_taken,
                                    .joined = cop__live_joined};
