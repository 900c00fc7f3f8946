#include "reason/driver_live.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "reason/live_internal.h"

static const char *const stop_names[] = {"none",   "end",  "length",  "confidence", "cancelled",
                                         "failed", "path", "refused", "limit",      "rule"};

const char *cop_stop_name(cop_stop stop) {
    return stop_names[stop];
}

bool cop__live_forks(const cop_live *live) {
    return live->options.dialect && live->options.dialect->join != COP_JOIN_NONE &&
           live->options.tokenizer;
}

/* ---- life ---- */

cop_status cop__live_encode_fixed(cop_live *live, const char *text, size_t bytes, int32_t **out,
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

/* Ids and bytes of a branch in which `calls` whole budgets may come together. */
static uint32_t ids_of(const cop_live_options *o, uint32_t calls) {
    bool forks = o->dialect && o->dialect->join != COP_JOIN_NONE && o->tokenizer;
    uint64_t given = forks ? 64 * (uint64_t)o->max_branches : 0;
    uint64_t ids = (uint64_t)o->max_tokens * calls + given + COP_LIVE_SPARE_IDS;
    return ids < UINT32_MAX / 32 ? (uint32_t)ids : UINT32_MAX / 32;
}

static size_t bytes_of(uint32_t ids) {
    return (size_t)ids * 16 + 4 * COP_LIVE_SPARE_BYTES;
}

static cop_status create_record(cop_live *live, cop_live_record *record) {
    const cop_live_options *o = &live->options;
    bool joins = record < live->records + o->n_samples || !o->dialect || o->dialect->nested ||
                 cop__live_has_program(live);
    record->max_ids = joins ? live->max_ids : ids_of(o, 1);
    record->max_bytes = bytes_of(record->max_ids);
    record->ids = cop_arena_calloc(live->arena, record->max_ids + 1, sizeof *record->ids);
    record->text = cop_arena_calloc(live->arena, record->max_bytes, 1);
    if (o->prune.window)
        record->ring = cop_arena_calloc(live->arena, o->prune.window, sizeof *record->ring);
    if (cop__live_forks(live))
        record->items = cop_arena_calloc(live->arena, o->max_branches, sizeof *record->items);
    bool calls = cop__live_forks(live) && o->dialect->context_text;
    if (calls)
        record->call = cop_arena_calloc(live->arena, COP_LIVE_CALL_IDS, sizeof *record->call);
    bool whole = record->ids && record->text && (record->ring || !o->prune.window) &&
                 (record->items || !cop__live_forks(live)) && (record->call || !calls);
    return whole ? COP_OK
                 : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u branches of %u tokens",
                            o->max_branches, live->max_ids);
}

static cop_status check_dialect(const cop_live *live) {
    const cop_dialect *d = live->options.dialect;
    if (d->join == COP_JOIN_STITCH && live->n_join == 0)
        return COP_FAIL(COP_ERR_CONFIG,
                        "dialect %s stitches but has no join_prompt: the next token needs a row",
                        d->name);
    if (live->policy.success_only && d->success.bytes == 0)
        return COP_FAIL(COP_ERR_CONFIG,
                        "dialect %s names no \"success\": its paths cannot say that they found "
                        "anything; let any finished path count",
                        d->name);
    for (uint32_t i = 0; i < d->n_single_tokens; i++) {
        int32_t *ids;
        uint32_t n;
        COP_TRY(cop__live_encode_fixed((cop_live *)live, d->single_tokens[i].text,
                                       d->single_tokens[i].bytes, &ids, &n));
        if (n != 1)
            return COP_FAIL(COP_ERR_CONFIG,
                            "dialect %s needs '%s' to be one token, and this model's tokenizer "
                            "makes %u of it: use a model that was trained for it",
                            d->name, d->single_tokens[i].text, n);
    }
    return COP_OK;
}

static cop_status create_dialect(cop_live *live) {
    const cop_live_options *o = &live->options;
    const cop_dialect *d = o->dialect;
    bool replies = d->join == COP_JOIN_MESSAGE || d->join == COP_JOIN_ASYNC ||
                   d->program; /* of any length that a path can have */
    live->encode_bytes = replies && live->max_bytes > COP_LIVE_ENCODE_BYTES ? live->max_bytes
                                                                            : COP_LIVE_ENCODE_BYTES;
    COP_TRY(cop_encoder_create(o->tokenizer, live->encode_bytes, &live->encoder));
    COP_TRY(cop_grow(&live->scratch.data, &live->scratch.capacity, 2 * live->encode_bytes,
                     sizeof *live->scratch.data));
    const char *close = d->path_close ? d->path_close : d->close[COP_EL_PATH].text;
    const char *cut = d->join_prompt_cut ? d->join_prompt_cut : "";
    const char *given = d->after_fork ? d->after_fork : "";
    COP_TRY(cop__live_encode_fixed(live, d->join_prompt, strlen(d->join_prompt), &live->join_ids,
                                   &live->n_join));
    COP_TRY(cop__live_encode_fixed(live, close, strlen(close), &live->close_ids, &live->n_close));
    COP_TRY(cop__live_encode_fixed(live, cut, strlen(cut), &live->join_cut_ids, &live->n_join_cut));
    COP_TRY(cop__live_encode_fixed(live, given, strlen(given), &live->after_fork_ids,
                                   &live->n_after_fork));
    COP_TRY(cop__live_encode_fixed(live, d->close[COP_EL_JOIN].text, d->close[COP_EL_JOIN].bytes,
                                   &live->join_close_ids, &live->n_join_close));
    const cop_join_policy *p = &o->join_policy;
    bool own = p->quorum || p->success_only || p->deadline_tokens || p->keep_partial;
    live->policy = own ? *p : d->join_policy;
    live->quorum_ratio = own ? 0 : d->quorum_ratio;
    COP_TRY(cop__live_shared_create(live));
    return check_dialect(live);
}

static cop_status create_parts(cop_live *live) {
    cop_live_options *o = &live->options;
    COP_TRY(cop__live_program_create(live));
    COP_TRY(cop_arena_create(&live->arena));
    if (o->max_branches < o->n_samples)
        o->max_branches = o->n_samples;
    /* A sample's ids hold its paths' too, and their headers and join texts. */
    live->max_ids = ids_of(o, cop__live_forks(live) ? cop_dialect_calls(o->dialect) : 1);
    live->max_bytes = bytes_of(live->max_ids);
    live->records = cop_arena_calloc(live->arena, o->max_branches, sizeof *live->records);
    live->samples = cop_arena_calloc(live->arena, o->n_samples, sizeof *live->samples);
    live->children =
        cop_arena_calloc(live->arena, 2 * (size_t)o->max_branches, sizeof *live->children);
    live->asked = cop_arena_calloc(live->arena, o->max_branches, sizeof *live->asked);
    if (!live->records || !live->samples || !live->children || !live->asked)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the samples");
    for (uint32_t i = 0; i < o->max_branches; i++)
        COP_TRY(create_record(live, &live->records[i]));
    if (cop__live_forks(live))
        COP_TRY(create_dialect(live));
    COP_TRY(cop__live_async_create(live));
    COP_TRY(cop__live_penalty_create(live));
    return o->rule ? cop__live_rule_create(live) : COP_OK;
}

cop_status cop_live_reset(cop_live *live, const int32_t *prompt, uint32_t n_prompt,
                          const int32_t *spawn, uint32_t n_spawn, uint64_t problem_key) {
    cop_live_options *o = &live->options;
    if (n_prompt == 0)
        return COP_FAIL(COP_ERR_USAGE, "the prompt is empty: give at least one token");
    if (cop__live_forks(live) && cop_dialect_spawns(o->dialect) && n_spawn == 0)
        return COP_FAIL(COP_ERR_USAGE, "dialect %s spawns: its spawn_prompt is needed",
                        o->dialect->name);
    o->prompt = prompt;
    o->n_prompt = n_prompt;
    o->spawn = spawn;
    o->n_spawn = n_spawn;
    live->driver.problem_key = o->problem_key = problem_key;
    live->driver.prompt_tokens = n_prompt;
    if (cop__live_forks(live) && o->dialect->context_text)
        COP_TRY(cop__live_retext_reset(live));
    if (cop__live_has_program(live))
        COP_TRY(cop__live_program_reset(live));
    COP_TRY(cop__live_shared_reset(live));
    live->n_records = live->n_ended = 0;
    live->generated = 0;
    live->spent = false;
    memset(live->samples, 0, o->n_samples * sizeof *live->samples);
    return cop__live_rule_reset(live);
}

void cop_live_wave(cop_live *live, uint32_t first_sample, uint32_t n_samples) {
    live->options.first_sample = first_sample;
    live->options.n_samples = n_samples;
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
    if (options->wave)
        cop_live_wave(live, options->first_sample, options->wave);
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
    cop__live_shared_destroy(live);
    cop_encoder_destroy(live->encoder);
    cop_token_ids_release(&live->scratch);
    cop_token_ids_release(&live->again);
    cop_buffer_release(&live->prompt_text);
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
        bool counts = record->sample == sample && !record->withdrawn &&
                      cop__live_forks(live) == (record->n_path > 0);
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
    for (uint32_t r = 0; r < live->n_records; r++)
        if (live->records[r].sample == i && !live->records[r].withdrawn)
            out.logprob_sum += live->records[r].logprob_sum;
    find_answer(live, record, &out);
    return out;
}

uint32_t cop_live_path_count(const cop_live *live) {
    uint32_t n = 0;
    for (uint32_t i = live->options.n_samples; i < live->n_records; i++)
        n += !live->records[i].withdrawn;
    return n;
}

cop_live_path cop_live_path_read(const cop_live *live, uint32_t i) {
    const cop_live_record *record = &live->records[live->options.n_samples];
    while (record->withdrawn || i-- > 0)
        record++;
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

void cop__live_hear(const cop_live *live, cop_live_event_kind kind, cop_live_record *record) {
    if (!live->options.listener || cop__live_was_heard(record, kind))
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
    if (kind == COP_LIVE_JOIN)
        event.joined = live->joining;
    if (kind == COP_LIVE_STOP)
        event.stop = live->samples[record->sample].stop;
    live->options.listener(live->options.listener_context, &event);
}

cop_status cop__live_append(cop_live *live, cop_live_record *record, const int32_t *ids, uint32_t n,
                            cop_live_voice voice) {
    if (n > record->max_ids - record->n_ids)
        return COP_FAIL(COP_ERR_NO_ROOM, "a branch holds more than %u tokens", record->max_ids);
    for (uint32_t i = 0; i < n; i++) {
        record->ids[record->n_ids++] = ids[i];
        live->samples[record->sample].given += voice == COP_LIVE_GIVEN;
        record->n_given += voice == COP_LIVE_GIVEN;
        if (!live->options.tokenizer)
            continue;
        cop_text text = cop_tokenizer_bytes(live->options.tokenizer, ids[i]);
        if (text.bytes > record->max_bytes - record->bytes)
            return COP_FAIL(COP_ERR_NO_ROOM, "a branch's text is longer than %zu bytes",
                            record->max_bytes);
        memcpy(record->text + record->bytes, text.data, text.bytes);
        record->bytes += text.bytes;
        if (!live->options.listener || voice == COP_LIVE_QUIET ||
            cop__live_was_heard(record, COP_LIVE_TEXT))
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

void cop__live_begin_sample(cop_live *live, uint32_t sample, cop_branch branch) {
    const cop_live_options *o = &live->options;
    cop_live_record *record = &live->records[sample];
    *record = (cop_live_record){.branch = branch,
                                .parent = UINT32_MAX,
                                .sample = sample,
                                .origin = o->n_prompt,
                                .end_heard = record->end_heard,
                                .n_muted = record->n_muted,
                                .max_ids = record->max_ids,
                                .max_bytes = record->max_bytes,
                                .ids = record->ids,
                                .call = record->call,
                                .text = record->text,
                                .items = record->items,
                                .ring = record->ring,
                                .seen = record->seen};
    cop__live_penalty_begin(live, record);
    if (record->ring)
        cop_confidence_init(&record->confidence, record->ring, o->prune.window);
    if (o->dialect)
        cop_parser_init(&record->parser, o->dialect, false);
    record->parser.report_stray = true;
}

static cop_status live_start(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    cop_live *live = (cop_live *)driver;
    const cop_live_options *o = &live->options;
    COP_TRY(cop_engine_root(engine, problem, &live->root));
    cop_engine_set_data(engine, live->root, UINT32_MAX);
    COP_TRY(cop_engine_feed(engine, live->root, o->prompt, o->n_prompt, COP_FEED_PROMPT));
    COP_TRY(cop_engine_fork(engine, live->root, o->n_samples + cop__live_rule_extra(live),
                            live->children));
    for (uint32_t i = 0; i < o->n_samples; i++) {
        if (i == live->n_records) { /* else the problem begins anew */
            live->records[i].end_heard = false;
            live->records[i].n_muted = 0;
            live->n_records++;
        }
        cop__live_begin_sample(live, i, live->children[i]);
        cop_engine_set_data(engine, live->children[i], i);
        cop_engine_stream(engine, live->children[i], o->first_sample + i);
        cop__live_expect(live, engine, &live->records[i], 0);
    }
    for (uint32_t i = 0; i < o->n_samples && live->shared; i++)
        COP_TRY(cop__live_shared_begin(live, engine, &live->records[i]));
    return COP_OK;
}

/* A budget that is looked at only now and then is passed; what is more is no answer. */
static void cut_response(const cop_live *live, cop_live_record *record) {
    const cop_live_options *o = &live->options;
    if (!cop__live_forks(live) || !o->dialect->charge_each_step)
        return;
    while (record->n_ids > o->max_tokens) {
        size_t bytes = cop_tokenizer_bytes(o->tokenizer, record->ids[--record->n_ids]).bytes;
        record->bytes -= bytes;
    }
}

cop_status cop__live_end_sample(cop_live *live, cop_engine *engine, uint32_t sample,
                                cop_stop stop) {
    cop_live_record *record = &live->records[sample];
    live->samples[sample].stop = stop;
    if (cop__live_is_async(live))
        COP_TRY(cop__live_async_cancel(live, engine, record,
                                       stop == COP_STOP_LENGTH ? stop : COP_STOP_CANCELLED));
    /* Of the paths that were open, the limit ended all alike; anything else cancelled them. */
    cop__live_mark_below(live, record,
                         stop == COP_STOP_LENGTH ? COP_STOP_LENGTH : COP_STOP_CANCELLED);
    COP_TRY(cop__live_gather(live, record));
    cut_response(live, record);
    cop__live_rule_ended(live, record, stop);
    cop__live_hear(live, COP_LIVE_STOP, record);
    cop_branch_end how = stop == COP_STOP_CONFIDENCE  ? COP_END_PRUNED
                         : stop == COP_STOP_CANCELLED ? COP_END_CANCELLED
                         : stop == COP_STOP_FAILED    ? COP_END_FAILED
                                                      : COP_END_DONE;
    if (how == COP_END_DONE) /* nobody reads it any more */
        return cop_engine_end_text(engine, record->branch);
    return cop_engine_end(engine, record->branch, how);
}

static const cop_driver live_ops = {.start = live_start,
                                    .request = cop__live_request,
                                    .request_ahead = cop__live_request_ahead,
                                    .token = cop__live_token,
                                    .joined = cop__live_joined,
                                    .shed = cop__live_shed,
                                    .restart = cop__live_restart};
