#include "reason/driver_live.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "reason/parser.h"

enum { PATH_DEPTH_MAX = 16, PATH_TEXT_BYTES = 64, HEADER_BYTES = 512, ENCODE_BYTES = 1024 };

static const char *const stop_names[] = {"none",      "end",    "length", "confidence",
                                         "cancelled", "failed", "path"};

const char *cop_stop_name(cop_stop stop) {
    return stop_names[stop];
}

typedef struct live_record { /* one branch, kept after it ended */
    cop_branch branch;
    uint32_t parent; /* record, or UINT32_MAX for a sample */
    uint32_t sample;
    uint32_t path[PATH_DEPTH_MAX], n_path; /* path numbers from 1, outermost first */
    char path_text[PATH_TEXT_BYTES];
    cop_parser parser;
    int32_t *ids; /* [max_ids] */
    uint32_t n_ids;
    char *text;
    size_t bytes;
    uint32_t n_said;                  /* sampled tokens, for the script */
    uint32_t first_child, n_children; /* records of the open block's paths, in a row */
    cop_logit_bias bias;
} live_record;

typedef struct live_sample {
    cop_live_sample out;
    cop_confidence confidence;
} live_sample;

struct cop_live {
    cop_driver driver;
    cop_live_options options;
    cop_arena *arena;
    live_record *records;
    uint32_t n_records;
    live_sample *samples;
    cop_branch *children; /* scratch of a fork */
    cop_branch root;
    uint32_t max_ids; /* one more is kept free for an end token */
    size_t max_bytes;
    uint64_t generated;
    int32_t *join_ids, *close_ids; /* the dialect's join text and path close, encoded */
    uint32_t n_join, n_close;
    cop_encoder *encoder; /* for headers and cut tokens, with its own memory */
    cop_token_ids scratch;
};

static bool forks(const cop_live *live) {
    return live->options.dialect && live->options.dialect->join != COP_JOIN_NONE &&
           live->options.tokenizer;
}

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
    return status;
}

static cop_status create_parts(cop_live *live) {
    cop_live_options *o = &live->options;
    COP_TRY(cop_arena_create(&live->arena));
    if (o->max_branches < o->n_samples)
        o->max_branches = o->n_samples;
    /* A sample's ids hold its paths' too, and their headers and join texts. */
    live->max_ids = o->max_tokens + (forks(live) ? 64 * o->max_branches : 0) + 64;
    live->max_bytes = (size_t)live->max_ids * 16;
    live->records = cop_arena_calloc(live->arena, o->max_branches, sizeof *live->records);
    live->samples = cop_arena_calloc(live->arena, o->n_samples, sizeof *live->samples);
    live->children = cop_arena_calloc(live->arena, o->max_branches, sizeof *live->children);
    int32_t *prompt = cop_arena_calloc(live->arena, o->n_prompt, sizeof *prompt);
    if (!live->records || !live->samples || !live->children || !prompt)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the samples");
    memcpy(prompt, o->prompt, o->n_prompt * sizeof *prompt);
    o->prompt = prompt;
    for (uint32_t i = 0; i < o->max_branches; i++) {
        live_record *record = &live->records[i];
        record->ids = cop_arena_calloc(live->arena, live->max_ids + 1, sizeof *record->ids);
        record->text = cop_arena_calloc(live->arena, live->max_bytes, 1);
        if (!record->ids || !record->text)
            return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u branches of %u tokens",
                            o->max_branches, live->max_ids);
    }
    for (uint32_t i = 0; i < o->n_samples; i++) {
        live->samples[i].out.lowest_confidence = NAN;
        if (o->prune.window == 0)
            continue;
        double *ring = cop_arena_calloc(live->arena, o->prune.window, sizeof *ring);
        if (!ring)
            return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a confidence window");
        cop_confidence_init(&live->samples[i].confidence, ring, o->prune.window);
    }
    if (!forks(live))
        return COP_OK;
    COP_TRY(cop_encoder_create(o->tokenizer, ENCODE_BYTES, &live->encoder));
    COP_TRY(cop_grow(&live->scratch.data, &live->scratch.capacity, 2 * ENCODE_BYTES,
                     sizeof *live->scratch.data));
    const cop_dialect *d = o->dialect;
    COP_TRY(
        encode_fixed(live, d->join_prompt, strlen(d->join_prompt), &live->join_ids, &live->n_join));
    COP_TRY(encode_fixed(live, d->close[COP_EL_PATH].text, d->close[COP_EL_PATH].bytes,
                         &live->close_ids, &live->n_close));
    if (d->join == COP_JOIN_STITCH && live->n_join == 0)
        return COP_FAIL(COP_ERR_CONFIG,
                        "dialect %s stitches but has no join_prompt: the next token needs a row",
                        d->name);
    return COP_OK;
}

static const cop_driver live_ops;

cop_status cop_live_create(const cop_live_options *options, cop_live **out) {
    if (options->n_prompt == 0)
        return COP_FAIL(COP_ERR_USAGE, "the prompt is empty: give at least one token");
    if (options->n_samples == 0 || options->max_tokens == 0)
        return COP_FAIL(COP_ERR_USAGE, "at least one sample of at least one token is needed");
    cop_live *live = cop_calloc(1, sizeof *live);
    if (!live)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory to decode");
    live->driver = live_ops;
    live->driver.problem_key = options->problem_key;
    live->options = *options;
    cop_status status = create_parts(live);
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

cop_live_sample cop_live_sample_read(const cop_live *live, uint32_t i) {
    const live_sample *sample = &live->samples[i];
    const live_record *record = &live->records[i];
    cop_live_sample out = sample->out;
    out.ids = record->ids;
    out.n_ids = record->n_ids;
    out.text = record->text;
    out.bytes = record->bytes;
    out.ill_formed_tags = record->parser.ill_formed;
    if (live->options.prune.window)
        out.lowest_confidence = cop_confidence_lowest(&sample->confidence);
    return out;
}

static cop_status append(cop_live *live, live_record *record, const int32_t *ids, uint32_t n) {
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
        if (live->options.listener)
            live->options.listener(live->options.listener_context, record->sample,
                                   record->path_text, text.data, text.bytes);
    }
    return COP_OK;
}

static cop_status live_start(cop_driver *driver, cop_engine *engine, uint32_t problem) {
    cop_live *live = (cop_live *)driver;
    const cop_live_options *o = &live->options;
    COP_TRY(cop_engine_root(engine, problem, &live->root));
    cop_engine_set_data(engine, live->root, UINT32_MAX);
    COP_TRY(cop_engine_feed(engine, live->root, o->prompt, o->n_prompt, COP_FEED_PROMPT));
    COP_TRY(cop_engine_fork(engine, live->root, o->n_samples, live->children));
    for (uint32_t i = 0; i < o->n_samples; i++) {
        live_record *record = &live->records[live->n_records++];
        record->branch = live->children[i];
        record->parent = UINT32_MAX;
        record->sample = i;
        if (o->dialect)
            cop_parser_init(&record->parser, o->dialect, false);
        cop_engine_set_data(engine, record->branch, i);
        cop_engine_stream(engine, record->branch, o->first_sample + i);
    }
    return COP_OK;
}

static void live_request(cop_driver *driver, const cop_engine *engine, cop_branch branch,
                         cop_sample_request *request) {
    cop_live *live = (cop_live *)driver;
    const cop_live_options *o = &live->options;
    live_record *record = &live->records[cop_engine_branch(engine, branch).data];
    request->temperature = o->temperature;
    request->top_k = o->top_k;
    request->top_p = o->top_p;
    request->min_p = o->min_p;
    for (uint32_t i = 0; i < o->n_script; i++) {
        const cop_script *script = &o->script[i];
        if (strcmp(script->path, record->path_text) == 0 && record->n_said < script->n) {
            record->bias = (cop_logit_bias){script->ids[record->n_said], 1e6f};
            request->bias = &record->bias;
            request->n_bias = 1;
        }
    }
}

/* Text of paths that are still open goes behind their parent's, so that nothing said is lost. */
static cop_status gather_open(cop_live *live, live_record *record) {
    uint32_t n = record->n_children;
    record->n_children = 0;
    for (uint32_t i = 0; i < n; i++) {
        live_record *child = &live->records[record->first_child + i];
        COP_TRY(gather_open(live, child));
        COP_TRY(append(live, record, child->ids, child->n_ids));
    }
    return COP_OK;
}

cop_status cop_live_gather(cop_live *live) {
    live->options.listener = NULL;
    for (uint32_t i = 0; i < live->options.n_samples && i < live->n_records; i++)
        COP_TRY(gather_open(live, &live->records[i]));
    return COP_OK;
}

static cop_status end_sample(cop_live *live, cop_engine *engine, uint32_t sample, cop_stop stop) {
    live->samples[sample].out.stop = stop;
    cop_live_listener *listener = live->options.listener;
    live->options.listener = NULL; /* the paths' text was heard when it was said */
    cop_status gathered = gather_open(live, &live->records[sample]);
    live->options.listener = listener;
    COP_TRY(gathered);
    cop_branch_end how = stop == COP_STOP_CONFIDENCE  ? COP_END_PRUNED
                         : stop == COP_STOP_CANCELLED ? COP_END_CANCELLED
                         : stop == COP_STOP_FAILED    ? COP_END_FAILED
                                                      : COP_END_DONE;
    return cop_engine_end(engine, live->records[sample].branch, how);
}

/* Cancels every sample that still runs, but for `kept`; `kept` ends last. */
static cop_status cancel_others(cop_live *live, cop_engine *engine, uint32_t kept) {
    for (uint32_t i = 0; i < live->options.n_samples; i++) {
        if (i != kept && live->samples[i].out.stop == COP_STOP_NONE)
            COP_TRY(end_sample(live, engine, i, COP_STOP_CANCELLED));
    }
    return COP_OK;
}

static cop_status finish_sample(cop_live *live, cop_engine *engine, uint32_t sample,
                                cop_stop stop) {
    if (live->options.prune.first_finisher && stop == COP_STOP_END) {
        live->samples[sample].out.stop = stop;
        COP_TRY(cancel_others(live, engine, sample));
    }
    return end_sample(live, engine, sample, stop);
}

static cop_status end_path(cop_live *live, cop_engine *engine, live_record *record, bool closed) {
    const cop_dialect *d = live->options.dialect;
    if (!closed) {
        if (d->path_end == COP_PATH_END_ENDS_RUN)
            return end_sample(live, engine, record->sample, COP_STOP_PATH);
        uint32_t first = record->n_ids;
        COP_TRY(append(live, record, live->close_ids, live->n_close));
        COP_TRY(cop_engine_feed(engine, record->branch, record->ids + first, live->n_close,
                                COP_FEED_JOIN));
    }
    return cop_engine_end(engine, record->branch, COP_END_DONE);
}

static bool fits(const cop_engine *engine, cop_branch branch, uint64_t tokens) {
    uint64_t next = cop_engine_branch(engine, branch).next_position;
    return next + tokens <= cop_engine_max_positions(engine);
}

static bool may_fork(const cop_live *live, const cop_engine *engine, const live_record *record,
                     const cop_tag_event *event) {
    const cop_dialect *d = live->options.dialect;
    const cop_live_sample *sample = &live->samples[record->sample].out;
    if (!forks(live) || event->items == 0 || record->n_path + 1 >= PATH_DEPTH_MAX)
        return false;
    if ((record->n_path > 0 && !d->nested) || (d->max_depth && record->n_path >= d->max_depth))
        return false;
    if ((d->max_paths && event->items > d->max_paths) ||
        (d->max_blocks && sample->forks >= d->max_blocks))
        return false;
    return event->items <= live->options.max_branches - live->n_records &&
           fits(engine, record->branch, HEADER_BYTES);
}

static cop_status open_path(cop_live *live, cop_engine *engine, live_record *parent,
                            cop_branch branch, uint32_t index) {
    uint32_t id = live->n_records++;
    live_record *record = &live->records[id];
    record->branch = branch;
    record->parent = (uint32_t)(parent - live->records);
    record->sample = parent->sample;
    record->n_path = parent->n_path + 1;
    memcpy(record->path, parent->path, sizeof record->path);
    record->path[parent->n_path] = index + 1;
    snprintf(record->path_text, sizeof record->path_text, "%.50s%s%u", parent->path_text,
             parent->n_path ? "." : "", index + 1);
    record->parser = cop_parser_fork(&parent->parser, index);
    cop_engine_set_data(engine, branch, id);
    char header[HEADER_BYTES];
    COP_TRY(cop_dialect_branch_prompt(live->options.dialect, record->path, record->n_path, header,
                                      sizeof header));
    live->scratch.count = 0;
    COP_TRY(cop_encoder_encode(live->encoder, header, strlen(header),
                               (cop_encode_options){.no_bos = true}, &live->scratch));
    COP_TRY(append(live, record, live->scratch.data, (uint32_t)live->scratch.count));
    return cop_engine_feed(engine, branch, record->ids, record->n_ids, COP_FEED_HEADER);
}

static cop_status fork_block(cop_live *live, cop_engine *engine, live_record *parent,
                             uint32_t items) {
    parent->first_child = live->n_records;
    parent->n_children = items;
    live->samples[parent->sample].out.forks++;
    COP_TRY(cop_engine_fork(engine, parent->branch, items, live->children));
    for (uint32_t i = 0; i < items; i++)
        COP_TRY(open_path(live, engine, parent, live->children[i], i));
    return COP_OK;
}

static cop_status live_joined(cop_driver *driver, cop_engine *engine, cop_branch branch) {
    cop_live *live = (cop_live *)driver;
    uint32_t id = cop_engine_branch(engine, branch).data;
    if (id == UINT32_MAX)
        return cop_engine_end(engine, branch, COP_END_DONE);
    live_record *parent = &live->records[id];
    const cop_dialect *d = live->options.dialect;
    uint32_t first = parent->n_ids, kept = 0;
    /* With one path and nothing to add, reuse would leave no row to sample from. */
    bool reuse = d->join == COP_JOIN_REPREFILL && d->reuse == COP_REUSE_LONGEST_PREFIX &&
                 (parent->n_children > 1 || live->n_join > 0);
    uint64_t text_ids = live->n_join;
    for (uint32_t i = 0; i < parent->n_children; i++)
        text_ids += live->records[parent->first_child + i].n_ids;
    if (!fits(engine, branch, text_ids))
        return end_sample(live, engine, parent->sample, COP_STOP_LENGTH);
    cop_live_listener *listener = live->options.listener;
    live->options.listener = NULL; /* the paths' text was heard when it was said */
    cop_status status = COP_OK;
    for (uint32_t i = 0; i < parent->n_children && status == COP_OK; i++) {
        const live_record *child = &live->records[parent->first_child + i];
        status = append(live, parent, child->ids, child->n_ids);
        if (i == 0)
            kept = child->n_ids;
    }
    live->options.listener = listener;
    COP_TRY(status);
    cop_parser_join(&parent->parser, parent->n_children);
    parent->n_children = 0;
    if (d->join == COP_JOIN_STITCH) {
        COP_TRY(
            cop_engine_join_stitch(engine, branch, d->positions == COP_POSITIONS_EQUAL_START_MAX));
    } else {
        COP_TRY(cop_engine_join_text(engine, branch, reuse));
        uint32_t from = first + (reuse ? kept : 0);
        COP_TRY(cop_engine_feed(engine, branch, parent->ids + from, parent->n_ids - from,
                                COP_FEED_AGAIN));
    }
    first = parent->n_ids;
    COP_TRY(append(live, parent, live->join_ids, live->n_join));
    return cop_engine_feed(engine, branch, parent->ids + first, live->n_join, COP_FEED_JOIN);
}

/* What the bytes of a token complete: the first tag on which the engine must act. */
typedef enum live_action { ACT_NONE, ACT_FORK, ACT_PATH_END } live_action;

static cop_status find_action(cop_live *live, const cop_engine *engine, live_record *record,
                              cop_text text, live_action *action, size_t *kept, uint32_t *items) {
    size_t at = 0;
    *action = ACT_NONE;
    while (at < text.bytes) {
        size_t used;
        bool found;
        cop_tag_event event;
        uint32_t depth = record->parser.depth;
        COP_TRY(cop_parser_feed(&record->parser, text.data + at, text.bytes - at, &used, &found,
                                &event));
        at += used;
        if (!found)
            continue;
        if (event.element == COP_EL_PLAN && event.closing) {
            if (may_fork(live, engine, record, &event)) {
                *action = ACT_FORK;
                *items = event.items;
                break;
            }
            live->samples[record->sample].out.forks_refused++;
        }
        if (event.element == COP_EL_PATH && event.closing && record->n_path > 0 &&
            depth == record->n_path) {
            *action = ACT_PATH_END;
            break;
        }
    }
    *kept = at;
    return COP_OK;
}

/* The token ran past a tag's end: what counts is its text up to there, encoded again. */
static cop_status append_cut(cop_live *live, cop_engine *engine, live_record *record,
                             const char *text, size_t bytes) {
    live->scratch.count = 0;
    COP_TRY(cop_encoder_encode(live->encoder, text, bytes,
                               (cop_encode_options){.plain = true, .no_bos = true},
                               &live->scratch));
    cop_engine_metrics(engine)->tokens_dropped++;
    return append(live, record, live->scratch.data, (uint32_t)live->scratch.count);
}

static cop_status act(cop_live *live, cop_engine *engine, live_record *record, uint32_t first,
                      live_action action, uint32_t items) {
    live_sample *sample = &live->samples[record->sample];
    const cop_live_options *o = &live->options;
    if (action == ACT_PATH_END && o->dialect->join != COP_JOIN_STITCH &&
        o->dialect->reuse == COP_REUSE_NONE)
        return end_path(live, engine, record, true); /* its KV is not read again */
    bool full =
        cop_engine_branch(engine, record->branch).next_position >= cop_engine_max_positions(engine);
    bool over = full || (sample->out.generated >= o->max_tokens && action != ACT_PATH_END);
    if (!over)
        COP_TRY(cop_engine_feed(engine, record->branch, record->ids + first, record->n_ids - first,
                                COP_FEED_DECODE));
    if (action == ACT_PATH_END)
        return end_path(live, engine, record, true);
    if (over)
        return finish_sample(live, engine, record->sample, COP_STOP_LENGTH);
    return action == ACT_FORK ? fork_block(live, engine, record, items) : COP_OK;
}

/* Confidence and budget; *ended when the sample was stopped. */
static cop_status prune(cop_live *live, cop_engine *engine, uint32_t index,
                        const cop_sample *sampled, bool *ended) {
    const cop_prune_options *rule = &live->options.prune;
    live_sample *sample = &live->samples[index];
    *ended = false;
    if (rule->window) {
        cop_confidence_add(&sample->confidence, cop_token_confidence(sampled));
        if (sample->confidence.n >= rule->window && sample->confidence.lowest < rule->threshold) {
            *ended = true;
            return end_sample(live, engine, index, COP_STOP_CONFIDENCE);
        }
    }
    if (rule->budget_tokens && live->generated >= rule->budget_tokens) {
        *ended = true;
        sample->out.stop = COP_STOP_CANCELLED;
        COP_TRY(cancel_others(live, engine, index));
        return end_sample(live, engine, index, COP_STOP_CANCELLED);
    }
    return COP_OK;
}

static cop_status live_token(cop_driver *driver, cop_engine *engine, cop_branch branch,
                             const cop_sample *sampled) {
    cop_live *live = (cop_live *)driver;
    live_record *record = &live->records[cop_engine_branch(engine, branch).data];
    live_sample *sample = &live->samples[record->sample];
    if (sampled->failed)
        return end_sample(live, engine, record->sample, COP_STOP_FAILED);
    cop_engine_generated(engine, branch, 1);
    record->n_said++;
    live->generated++;
    sample->out.generated++;
    sample->out.logprob_sum += sampled->logprob;
    const cop_tokenizer *tokenizer = live->options.tokenizer;
    uint32_t first = record->n_ids, items = 0;
    live_action action = ACT_NONE;
    bool end = tokenizer && cop_tokenizer_is_end(tokenizer, sampled->token);
    if (tokenizer && live->options.dialect && !end) {
        cop_text text = cop_tokenizer_bytes(tokenizer, sampled->token);
        size_t kept;
        COP_TRY(find_action(live, engine, record, text, &action, &kept, &items));
        if (kept < text.bytes)
            COP_TRY(append_cut(live, engine, record, text.data, kept));
        else
            COP_TRY(append(live, record, &sampled->token, 1));
    } else if (!end) {
        COP_TRY(append(live, record, &sampled->token, 1));
    } else if (record->n_path == 0) {
        record->ids[record->n_ids++] = sampled->token; /* counts as an id, but is no text */
    }
    bool ended;
    COP_TRY(prune(live, engine, record->sample, sampled, &ended));
    if (ended)
        return COP_OK;
    if (end) {
        if (record->n_path > 0)
            return end_path(live, engine, record, false);
        return finish_sample(live, engine, record->sample, COP_STOP_END);
    }
    return act(live, engine, record, first, action, items);
}

static const cop_driver live_ops = {0, live_start, live_request, live_token, live_joined};
