/* Dialects whose messages a program makes (message_program.h): calls and how they end, what the
 * program answers at an end of the parent's call, at a join and at a path's end. */
#include <string.h>

#include "reason/live_internal.h"

/* How a call ended: the child's, or the parent's. */
typedef struct call_end {
    const char *name;
    cop_stop stop;
    int32_t token; /* of an end of text, else -1 */
} call_end;

bool cop__live_has_program(const cop_live *live) {
    return cop__live_forks(live) && live->options.dialect->program;
}

cop_status cop__live_program_create(const cop_live *live) {
    const cop_live_options *o = &live->options;
    if (o->dialect)
        COP_TRY(cop_dialect_check_program(o->dialect, o->program != NULL));
    if (cop__live_has_program(live) && (o->rule || o->prune.window))
        return COP_FAIL(COP_ERR_UNSUPPORTED,
                        "dialect %s takes text back that was said, and a rule cannot forget it: "
                        "use it without a rule",
                        o->dialect->name);
    return COP_OK;
}

/* The prompt's text as the program reads it, without a BOS. */
cop_status cop__live_program_reset(cop_live *live) {
    const cop_live_options *o = &live->options;
    live->prompt_text.bytes = 0;
    for (uint32_t i = 0; i < o->n_prompt; i++) {
        cop_text text = cop_tokenizer_bytes(o->tokenizer, o->prompt[i]);
        if (i > 0 || o->prompt[i] != cop_tokenizer_bos(o->tokenizer))
            COP_TRY(cop_buffer_append(&live->prompt_text, text.data, text.bytes));
    }
    return COP_OK;
}

/* ---- asking ---- */

static cop_status count_tokens(void *context, const char *text, size_t bytes, uint32_t *n) {
    cop_live *live = context;
    if (bytes > live->encode_bytes)
        return COP_FAIL(COP_ERR_NO_ROOM, "a text of %zu bytes to count; at most %zu can be", bytes,
                        live->encode_bytes);
    COP_TRY(cop__live_rewrite_encode(live, (cop_message_text){text, bytes}, false));
    *n = (uint32_t)live->scratch.count;
    return COP_OK;
}

static cop_status ask(cop_live *live, const cop_live_record *parent, cop_message_question *q,
                      cop_message_answer *answer) {
    q->prompt = (cop_message_text){live->prompt_text.data, live->prompt_text.bytes};
    q->text = (cop_message_text){parent->text, parent->turn_begin};
    q->said =
        (cop_message_text){parent->text + parent->turn_begin, parent->bytes - parent->turn_begin};
    q->turn = parent->turn;
    q->attempt = parent->attempt;
    cop_status status =
        cop_message_program_ask(live->options.program, q, count_tokens, live, answer);
    return status == COP_OK
               ? COP_OK
               : cop_status_prefix(status, "sample %u, turn %u",
                                   live->options.first_sample + parent->sample, parent->turn);
}

/* What the branch says next is drawn anew: numbers of its own for each attempt. */
static void draw_from(const cop_live *live, cop_engine *engine, const cop_live_record *record) {
    uint32_t index = record->n_path ? record->path[record->n_path - 1] - 1
                                    : live->options.first_sample + record->sample;
    cop_engine_stream(engine, record->branch, index + (record->attempt << 20));
}

void cop__live_program_restart(const cop_live *live, cop_engine *engine,
                               const cop_live_record *record) {
    if (cop__live_has_program(live))
        draw_from(live, engine, record);
}

/* What was said since the branch was given its text is taken back. */
static cop_status say_again(cop_live *live, cop_engine *engine, cop_live_record *record) {
    record->attempt++;
    record->stopped = false;
    cop__live_cut_ids(live, record, record->turn_ids);
    draw_from(live, engine, record);
    return cop__live_go_on(live, engine, record, record->n_ids);
}

/* ---- the parent ---- */

static cop_status finish(cop_live *live, cop_engine *engine, cop_live_record *record,
                         const call_end *end) {
    if (end->token >= 0)
        record->ids[record->n_ids++] = end->token; /* counts as an id, but is no text */
    return cop__live_finish_sample(live, engine, record->sample, end->stop);
}

static cop_status refuse(cop_live *live, cop_engine *engine, cop_live_record *record, bool many,
                         const call_end *end) {
    const cop_dialect *d = live->options.dialect;
    cop_refusal how = many && d->many_set ? d->on_too_many : d->refused;
    cop__live_count_refused(live, record);
    if (how == COP_REFUSAL_DECODES_ON) /* there is nothing behind an end of text */
        return finish(live, engine, record, end);
    return cop__live_finish_sample(live, engine, record->sample, COP_STOP_REFUSED);
}

/* The program's text is the parent's from now on; `end`: how the run ends, with `over`, or where
 * there is no room for the text. */
static cop_status take_text(cop_live *live, cop_engine *engine, cop_live_record *record,
                            const cop_message_answer *answer, const call_end *end) {
    bool fits = true, over = answer->act == COP_MESSAGE_END;
    uint32_t same;
    if (over && !answer->has_text)
        return finish(live, engine, record, end);
    record->attempt = 0;
    record->turn++;
    if (!over) {
        draw_from(live, engine, record);
        COP_TRY(cop__live_go_on_behind(live, engine, record, 0, answer->text, &fits));
        record->turn_begin = record->bytes;
        record->turn_ids = record->n_ids;
    } else if (cop__live_rewrite_fits(live, engine, record, 0, 0, answer->text.bytes)) {
        COP_TRY(cop__live_rewrite_encode(live, answer->text, false));
        fits = live->scratch.count + COP_LIVE_SPARE_IDS < record->max_ids;
        if (fits)
            COP_TRY(cop__live_take_scratch(live, record, 0, &same));
        record->turn_begin = 0;
    } else {
        fits = false;
    }
    if (!fits)
        return cop__live_finish_sample(live, engine, record->sample, COP_STOP_LENGTH);
    return over ? finish(live, engine, record, end) : COP_OK;
}

/* Each child's whole prompt, encoded into its record; the records are the block's. */
static cop_status encode_prompts(cop_live *live, const cop_live_record *parent) {
    bool own = live->options.dialect->join == COP_JOIN_MESSAGE;
    for (uint32_t i = 0; i < parent->n_children; i++) {
        cop_live_record *child = &live->records[parent->first_child + i];
        COP_TRY(cop__live_rewrite_encode(live, cop_message_program_prompt(live->options.program, i),
                                         own));
        memcpy(child->ids, live->scratch.data, live->scratch.count * sizeof *child->ids);
        child->n_message = (uint32_t)live->scratch.count;
    }
    return COP_OK;
}

static bool prompts_fit(cop_live *live, const cop_engine *engine, uint32_t n, cop_status *status) {
    const cop_live_record *any = &live->records[live->options.max_branches - 1];
    for (uint32_t i = 0; i < n; i++) {
        cop_message_text prompt = cop_message_program_prompt(live->options.program, i);
        if (prompt.bytes > live->encode_bytes)
            return false;
        *status = cop__live_rewrite_encode(live, prompt, true);
        uint64_t most = cop_engine_max_positions(engine), ids = live->scratch.count;
        if (*status != COP_OK || live->options.n_prompt + ids >= most ||
            ids + COP_LIVE_SPARE_IDS >= any->max_ids ||
            prompt.bytes + COP_LIVE_SPARE_BYTES >= any->max_bytes)
            return false;
    }
    return true;
}

static uint32_t common(const cop_live_record *parent, const int32_t *ids, uint32_t n,
                       uint32_t most) {
    uint32_t i = 0;
    while (i < n && i < most && parent->ids[i] == ids[i])
        i++;
    return i;
}

/* What of the parent's KV its children go on from, or surely stays; the rest is taken back. */
cop_status cop__live_program_fork(cop_live *live, cop_engine *engine, cop_live_record *parent) {
    bool own = live->options.dialect->join == COP_JOIN_MESSAGE;
    uint32_t keep = cop__live_ids_fed(engine, parent);
    if (live->keep_bytes > 0) {
        COP_TRY(cop__live_rewrite_encode(live, (cop_message_text){live->keep, live->keep_bytes},
                                         false));
        keep = common(parent, live->scratch.data, (uint32_t)live->scratch.count, keep);
    }
    COP_TRY(encode_prompts(live, parent));
    for (uint32_t i = 0; i < parent->n_children && !own; i++) {
        const cop_live_record *child = &live->records[parent->first_child + i];
        keep = common(parent, child->ids, child->n_message - 1, keep);
    }
    COP_TRY(cop_engine_rewind(engine, parent->branch, parent->origin + keep));
    keep = cop__live_ids_fed(engine, parent);
    for (uint32_t i = 0; i < parent->n_children && !own; i++) {
        cop_live_record *child = &live->records[parent->first_child + i];
        child->n_message -= keep;
        memmove(child->ids, child->ids + keep, child->n_message * sizeof *child->ids);
    }
    return COP_OK;
}

cop_status cop__live_program_open(cop_live *live, cop_engine *engine, cop_live_record *record) {
    bool own = live->options.dialect->join == COP_JOIN_MESSAGE;
    record->origin = cop_engine_branch(engine, record->branch).next_position;
    cop__live_hear(live, COP_LIVE_FORK, record);
    COP_TRY(cop__live_append(live, record, record->ids, record->n_message, COP_LIVE_GIVEN));
    record->n_header = record->turn_ids = record->n_ids;
    record->header_bytes = record->turn_begin = record->call_begin = record->bytes;
    cop__live_expect(live, engine, record, record->n_ids);
    return cop_engine_feed(engine, record->branch, record->ids, record->n_ids,
                           own ? COP_FEED_SPAWN : COP_FEED_HEADER);
}

static cop_status take_children(cop_live *live, cop_engine *engine, cop_live_record *record,
                                const cop_message_answer *answer, const call_end *end) {
    const cop_dialect *d = live->options.dialect;
    uint32_t n = answer->n_children;
    cop_status status = COP_OK;
    bool fits = cop__live_may_fork(live, engine, record, n) &&
                prompts_fit(live, engine, n, &status) && answer->text.bytes <= live->encode_bytes;
    COP_TRY(status);
    if (!fits)
        return refuse(live, engine, record, d->max_paths && n > d->max_paths, end);
    live->keep = answer->text.data;
    live->keep_bytes = answer->text.bytes;
    return cop__live_fork(live, engine, record, n);
}

/* Whether the last line, a newline at its end left out, holds one of the dialect's texts. */
static bool triggers(const cop_live *live, const cop_live_record *record) {
    const cop_dialect *d = live->options.dialect;
    size_t end = record->bytes, begin;
    end -= end > 0 && record->text[end - 1] == '\n';
    for (begin = end; begin > 0 && record->text[begin - 1] != '\n';)
        begin--;
    for (uint32_t i = 0; i < d->n_last_line; i++)
        if (cop__live_find_text(record->text + begin, end - begin, &d->last_line[i]))
            return true;
    return d->n_last_line == 0;
}

static cop_status end_turn(cop_live *live, cop_engine *engine, cop_live_record *record,
                           const call_end *end) {
    cop_message_question q = {.event = COP_MESSAGE_FORK, .end = end->name};
    cop_message_answer answer;
    if (!triggers(live, record))
        return finish(live, engine, record, end);
    COP_TRY(ask(live, record, &q, &answer));
    switch (answer.act) {
    case COP_MESSAGE_CHILDREN:
        return take_children(live, engine, record, &answer, end);
    case COP_MESSAGE_AGAIN:
        return say_again(live, engine, record);
    case COP_MESSAGE_TEXT:
    case COP_MESSAGE_END:
        return take_text(live, engine, record, &answer, end);
    case COP_MESSAGE_REFUSE:
    case COP_MESSAGE_STAYS:
        break;
    }
    return refuse(live, engine, record, false, end);
}

/* ---- a path ---- */

static cop_message_text said_by(const cop_live_record *path) {
    return path->dropped ? (cop_message_text){0}
                         : (cop_message_text){path->text + path->header_bytes,
                                              path->bytes - path->header_bytes};
}

static cop_status end_path(cop_live *live, cop_engine *engine, cop_live_record *record,
                           const call_end *end) {
    const cop_live_record *parent = &live->records[record->parent];
    cop_message_child child = {.text = said_by(record),
                               .end = end->name,
                               .number = record->path[record->n_path - 1],
                               .attempt = record->attempt};
    cop_message_question q = {.event = COP_MESSAGE_PATH, .children = &child, .n_children = 1};
    cop_message_answer answer = {.act = COP_MESSAGE_STAYS};
    uint32_t same;
    if (live->options.dialect->asks_paths)
        COP_TRY(ask(live, parent, &q, &answer));
    if (answer.act == COP_MESSAGE_AGAIN)
        return say_again(live, engine, record);
    if (answer.act == COP_MESSAGE_TEXT) {
        bool fits =
            cop__live_rewrite_fits(live, engine, record, record->n_header, 0, answer.text.bytes);
        if (fits)
            COP_TRY(cop__live_rewrite_encode(live, answer.text, false));
        if (!fits || live->scratch.count + record->n_header + COP_LIVE_SPARE_IDS >= record->max_ids)
            return COP_FAIL(COP_ERR_NO_ROOM,
                            "the program's text for path %s has %zu bytes, more than a path holds",
                            record->path_text, answer.text.bytes);
        COP_TRY(cop__live_take_scratch(live, record, record->n_header, &same));
    }
    return cop__live_end_path(live, engine, record, true, end->stop);
}

static const char *end_of(const cop_live_record *path) {
    if (path->stop == COP_STOP_LENGTH)
        return "length";
    if (path->dropped || path->stop != COP_STOP_END)
        return "cancelled";
    return path->stopped ? "stop" : "own";
}

cop_status cop__live_program_joined(cop_live *live, cop_engine *engine, cop_live_record *parent) {
    cop_message_question q = {.event = COP_MESSAGE_JOIN, .n_children = parent->n_children};
    cop_message_answer answer;
    const call_end end = {"own", COP_STOP_END, -1};
    for (uint32_t i = 0; i < parent->n_children; i++) {
        const cop_live_record *child = &live->records[parent->first_child + i];
        live->asked[i] = (cop_message_child){.text = said_by(child), .end = end_of(child)};
    }
    q.children = live->asked;
    cop__live_hear(live, COP_LIVE_JOIN, parent);
    COP_TRY(ask(live, parent, &q, &answer));
    parent->stopped = false;
    if (answer.act == COP_MESSAGE_REFUSE) {
        cop__live_count_refused(live, parent);
        return cop__live_finish_sample(live, engine, parent->sample, COP_STOP_REFUSED);
    }
    parent->n_children = 0;
    live->samples[parent->sample].steps += parent->n_path == 0;
    COP_TRY(cop_engine_join_text(engine, parent->branch, false));
    return take_text(live, engine, parent, &answer, &end);
}

/* ---- a token ---- */

static cop_status end_call(cop_live *live, cop_engine *engine, cop_live_record *record,
                           const call_end *end) {
    return record->n_path > 0 ? end_path(live, engine, record, end)
                              : end_turn(live, engine, record, end);
}

/* The stop text that stands first in what the call said, complete with its last token. */
static const cop_stop_text *find_stop(const cop_live *live, const cop_live_record *record,
                                      size_t token_bytes, size_t *at) {
    const cop_dialect *d = live->options.dialect;
    const cop_stop_text *first = NULL;
    for (uint32_t i = 0; i < d->n_stop_texts; i++) {
        const cop_tag *text = &d->stop_texts[i].text;
        size_t from = record->bytes - token_bytes;
        from = from > text->bytes ? from - text->bytes + 1 : 0;
        if (from < record->call_begin)
            from = record->call_begin;
        const char *found = cop__live_find_text(record->text + from, record->bytes - from, text);
        if (found && (!first || (size_t)(found - record->text) < *at)) {
            *at = (size_t)(found - record->text);
            first = &d->stop_texts[i];
        }
    }
    return first;
}

static cop_status take_stop(cop_live *live, cop_engine *engine, cop_live_record *record,
                            const cop_stop_text *stop, size_t at) {
    COP_TRY(cop__live_cut_text(live, record, at));
    if (!stop->by) {
        record->stopped = true;
        return end_call(live, engine, record, &(call_end){"stop", COP_STOP_END, -1});
    }
    size_t by = strlen(stop->by), begin = record->n_path ? record->header_bytes : 0;
    bool fits = record->bytes + by + COP_LIVE_SPARE_BYTES < record->max_bytes;
    if (fits) {
        memcpy(record->text + record->bytes, stop->by, by);
        cop_message_text text = {record->text + begin, record->bytes + by - begin};
        COP_TRY(cop__live_go_on_behind(live, engine, record, record->n_path ? record->n_header : 0,
                                       text, &fits));
    }
    return fits ? COP_OK
                : end_call(live, engine, record, &(call_end){"length", COP_STOP_LENGTH, -1});
}

/* Whether the call is over for its length: its own limit, the path's, or the room there is. */
static bool is_over(const cop_live *live, const cop_engine *engine, const cop_live_record *record) {
    const cop_dialect *d = live->options.dialect;
    if (d->max_turn_tokens && record->n_said - record->call_said >= d->max_turn_tokens)
        return true;
    if (record->n_path > 0 && d->max_path_tokens && record->n_said >= d->max_path_tokens)
        return true;
    return record->max_ids - record->n_ids < COP_LIVE_SPARE_IDS ||
           record->max_bytes - record->bytes < COP_LIVE_SPARE_BYTES ||
           !cop__live_fits(engine, record->branch, 1);
}

cop_status cop__live_program_token(cop_live *live, cop_engine *engine, cop_live_record *record,
                                   int32_t token, bool end) {
    size_t before = record->bytes, at = 0;
    uint32_t deadline = live->policy.deadline_tokens;
    if (end) {
        cop__live_hear(live, COP_LIVE_TEXT, record); /* a token without text */
        return end_call(live, engine, record, &(call_end){"own", COP_STOP_END, token});
    }
    COP_TRY(cop__live_append(live, record, &token, 1, COP_LIVE_SAID));
    const cop_stop_text *stop = find_stop(live, record, record->bytes - before, &at);
    if (stop)
        return take_stop(live, engine, record, stop, at);
    if (is_over(live, engine, record))
        return end_call(live, engine, record, &(call_end){"length", COP_STOP_LENGTH, -1});
    COP_TRY(cop_engine_feed(engine, record->branch, record->ids + record->n_ids - 1, 1,
                            COP_FEED_DECODE));
    if (record->n_path > 0 && deadline && record->n_said >= deadline)
        return cop__live_cancel_path(live, engine, record, COP_STOP_CANCELLED);
    return COP_OK;
}
