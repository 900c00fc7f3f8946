#include "reason/message_program.h"

#include <string.h>

#include "base/line_program.h"
#include "config/json.h"

enum { COUNTS_MAX = 64, RESERVED_BYTES = 1 << 18, CHILDREN_MAX = 4096 };

struct cop_message_program {
    cop_line_program *program;
    cop_program_failure on_failure;
    uint32_t failures;
    bool broken;
    cop_buffer line, reply;
    json_t *answer; /* the last one: texts borrow from it */
};

static const char *const events[] = {"fork", "path", "join"};

cop_status cop_program_failure_parse(const char *name, cop_program_failure *out) {
    static const char *const names[] = {"ends-run", "goes-on"};
    for (int i = 0; i < 2; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (cop_program_failure)i;
            return COP_OK;
        }
    }
    return COP_FAIL(COP_ERR_USAGE, "failure of a program \"%.40s\": use ends-run or goes-on", name);
}

cop_status cop_message_program_start(const cop_message_program_options *options,
                                     cop_message_program **out) {
    *out = NULL;
    if (!options->command || !options->command[0])
        return COP_FAIL(COP_ERR_CONFIG, "a program for messages needs a command");
    if (options->timeout_ms == 0)
        return COP_FAIL(COP_ERR_CONFIG, "a program for messages needs a timeout of at least 1 ms");
    cop_message_program *p = cop_calloc(1, sizeof *p);
    if (!p)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a program");
    p->on_failure = options->on_failure;
    /* Texts of usual length are asked about without taking memory. */
    cop_status status = cop_grow(&p->line.data, &p->line.capacity, RESERVED_BYTES, 1);
    if (status == COP_OK)
        status = cop_grow(&p->reply.data, &p->reply.capacity, RESERVED_BYTES, 1);
    if (status == COP_OK)
        status = cop_line_program_start(options->command, options->timeout_ms, &p->program);
    if (status != COP_OK)
        cop_message_program_stop(p);
    else
        *out = p;
    return status;
}

void cop_message_program_stop(cop_message_program *p) {
    if (!p)
        return;
    if (p->program)
        cop_line_program_stop(p->program);
    json_decref(p->answer);
    cop_buffer_release(&p->line);
    cop_buffer_release(&p->reply);
    cop_free(p);
}

/* ---- the question ---- */

static cop_status add_text(cop_buffer *line, const char *key, cop_message_text text) {
    COP_TRY(cop_buffer_printf(line, ", \"%s\": ", key));
    return cop_json_append_string(line, text.data ? text.data : "", text.bytes);
}

/* The child's text and end, without the brace that opens it. */
static cop_status add_child(cop_buffer *line, const cop_message_child *child) {
    COP_TRY(cop_buffer_printf(line, "\"end\": \"%s\"", child->end));
    COP_TRY(add_text(line, "text", child->text));
    return cop_buffer_append(line, "}", 1);
}

static cop_status write_question(cop_buffer *line, const cop_message_question *q) {
    line->bytes = 0;
    COP_TRY(cop_buffer_printf(line, "{\"event\": \"%s\", \"turn\": %u, \"attempt\": %u",
                              events[q->event], q->turn, q->attempt));
    if (q->event == COP_MESSAGE_FORK)
        COP_TRY(cop_buffer_printf(line, ", \"end\": \"%s\"", q->end));
    COP_TRY(add_text(line, "prompt", q->prompt));
    COP_TRY(add_text(line, "text", q->text));
    COP_TRY(add_text(line, "said", q->said));
    if (q->event == COP_MESSAGE_PATH) {
        COP_TRY(cop_buffer_printf(line, ", \"path\": {\"number\": %u, \"attempt\": %u, ",
                                  q->children->number, q->children->attempt));
        COP_TRY(add_child(line, q->children));
    }
    if (q->event == COP_MESSAGE_JOIN) {
        COP_TRY(cop_buffer_printf(line, ", \"children\": ["));
        for (uint32_t i = 0; i < q->n_children; i++) {
            COP_TRY(cop_buffer_printf(line, "%s{", i ? ", " : ""));
            COP_TRY(add_child(line, &q->children[i]));
        }
        COP_TRY(cop_buffer_append(line, "]", 1));
    }
    return cop_buffer_append(line, "}", 1);
}

/* ---- the answer ---- */

static cop_message_text text_of(const json_t *value) {
    return value ? (cop_message_text){json_string_value(value), json_string_length(value)}
                 : (cop_message_text){0};
}

static bool only(const json_t *object, const char *one, const char *other) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        if (strcmp(key, one) != 0 && (!other || strcmp(key, other) != 0))
            return false;
    }
    return true;
}

static bool read_children(const json_t *object, cop_message_answer *out) {
    const json_t *list = json_object_get(object, "children");
    const json_t *keep = json_object_get(object, "keep");
    if (!json_is_array(list) || json_array_size(list) == 0 ||
        json_array_size(list) > CHILDREN_MAX || !only(object, "children", "keep") ||
        (keep && !json_is_string(keep)))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *child = json_array_get(list, i);
        const json_t *prompt = json_object_get(child, "prompt");
        if (!json_is_string(prompt) || json_string_length(prompt) == 0 ||
            !only(child, "prompt", NULL))
            return false;
    }
    *out = (cop_message_answer){.act = COP_MESSAGE_CHILDREN,
                                .text = text_of(keep),
                                .n_children = (uint32_t)json_array_size(list)};
    return true;
}

static bool read_text(const json_t *object, cop_message_answer *out) {
    const json_t *text = json_object_get(object, "text"), *end = json_object_get(object, "end");
    if ((text && !json_is_string(text)) || (end && !json_is_true(end)) ||
        !only(object, "text", "end"))
        return false;
    *out = (cop_message_answer){.act = end ? COP_MESSAGE_END : COP_MESSAGE_TEXT,
                                .has_text = text != NULL,
                                .text = text_of(text)};
    return true;
}

static bool read_answer(const json_t *object, cop_message_answer *out) {
    if (!json_is_object(object))
        return false;
    if (json_object_get(object, "children"))
        return read_children(object, out);
    if (json_object_get(object, "text") || json_object_get(object, "end"))
        return read_text(object, out);
    *out = (cop_message_answer){.act = COP_MESSAGE_STAYS};
    if (json_object_get(object, "again")) {
        out->act = COP_MESSAGE_AGAIN;
        return json_is_true(json_object_get(object, "again")) && only(object, "again", NULL);
    }
    if (json_object_get(object, "refuse")) {
        out->act = COP_MESSAGE_REFUSE;
        return json_is_string(json_object_get(object, "refuse")) && only(object, "refuse", NULL);
    }
    return json_object_size(object) == 0;
}

static bool may_answer(cop_message_event event, cop_message_act act) {
    if (event == COP_MESSAGE_FORK)
        return act != COP_MESSAGE_STAYS;
    if (event == COP_MESSAGE_PATH)
        return act == COP_MESSAGE_TEXT || act == COP_MESSAGE_AGAIN || act == COP_MESSAGE_STAYS;
    return act == COP_MESSAGE_TEXT || act == COP_MESSAGE_END || act == COP_MESSAGE_REFUSE;
}

static cop_status fail_answer(const cop_message_program *p, const char *expected) {
    return COP_FAIL(COP_ERR_FORMAT, "it answered \"%.80s\"; %s was expected",
                    p->reply.bytes ? p->reply.data : "", expected);
}

static cop_status ask_line(cop_message_program *p) {
    COP_TRY(cop_line_program_ask(p->program, p->line.data, p->line.bytes, &p->reply));
    json_decref(p->answer);
    p->answer =
        json_loadb(p->reply.bytes ? p->reply.data : "", p->reply.bytes, JSON_ALLOW_NUL, NULL);
    return COP_OK;
}

static cop_status answer_count(cop_message_program *p, const json_t *text, cop_message_count *count,
                               void *context) {
    uint32_t n;
    if (!json_is_string(text) || !only(p->answer, "count", NULL))
        return fail_answer(p, "{\"count\": text}");
    COP_TRY(count(context, json_string_value(text), json_string_length(text), &n));
    p->line.bytes = 0;
    COP_TRY(cop_buffer_printf(&p->line, "{\"event\": \"count\", \"tokens\": %u}", n));
    return ask_line(p);
}

static cop_status ask(cop_message_program *p, const cop_message_question *question,
                      cop_message_count *count, void *context, cop_message_answer *answer) {
    static const char *const expected[] = {"one of children, text, end, again, refuse and count",
                                           "{}, or one of text, again and count",
                                           "one of text, end, refuse and count"};
    const json_t *text;
    COP_TRY(write_question(&p->line, question));
    COP_TRY(ask_line(p));
    for (int i = 0; (text = json_object_get(p->answer, "count")); i++) {
        if (i == COUNTS_MAX)
            return COP_FAIL(COP_ERR_FORMAT, "it asked for more than %d counts", COUNTS_MAX);
        COP_TRY(answer_count(p, text, count, context));
    }
    if (!read_answer(p->answer, answer) || !may_answer(question->event, answer->act))
        return fail_answer(p, expected[question->event]);
    bool lone_end =
        question->event == COP_MESSAGE_PATH && answer->act == COP_MESSAGE_TEXT && !answer->has_text;
    return lone_end ? fail_answer(p, expected[question->event]) : COP_OK;
}

cop_status cop_message_program_ask(cop_message_program *p, const cop_message_question *question,
                                   cop_message_count *count, void *context,
                                   cop_message_answer *answer) {
    const bool path = question->event == COP_MESSAGE_PATH;
    *answer = (cop_message_answer){.act = path ? COP_MESSAGE_STAYS : COP_MESSAGE_REFUSE};
    if (p->broken)
        return COP_OK;
    cop_status status = ask(p, question, count, context, answer);
    if (status == COP_OK)
        return COP_OK;
    p->failures++;
    if (p->on_failure == COP_PROGRAM_ENDS_RUN)
        return cop_status_prefix(status, "the program that makes messages, asked about a %s",
                                 events[question->event]);
    p->broken = true;
    *answer = (cop_message_answer){.act = path ? COP_MESSAGE_STAYS : COP_MESSAGE_REFUSE};
    return COP_OK;
}

cop_message_text cop_message_program_prompt(const cop_message_program *p, uint32_t i) {
    const json_t *child = json_array_get(json_object_get(p->answer, "children"), i);
    return text_of(json_object_get(child, "prompt"));
}

uint32_t cop_message_program_failures(const cop_message_program *p) {
    return p->failures;
}
