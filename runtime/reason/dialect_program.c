/* Dialects whose messages a program of the user's makes: their keys, and what they cannot mean. The
 * program itself never comes from a file. */
#include <string.h>

#include "reason/dialect_internal.h"

static cop_status load_stops(const cop_json *root, cop_dialect *d) {
    cop_tag texts[COP_STOP_TEXTS_MAX];
    cop_json list;
    uint32_t n = 0;
    COP_TRY(cop__dialect_texts(root, "stop_texts", texts, COP_STOP_TEXTS_MAX, &n));
    for (uint32_t i = 0; i < n; i++)
        d->stop_texts[d->n_stop_texts++] = (cop_stop_text){texts[i], NULL};
    COP_TRY(cop_json_array(root, "replace_on_stop", COP_JSON_OPTIONAL, &list));
    if (cop_json_count(&list) + n > COP_STOP_TEXTS_MAX)
        return cop_json_fail(root, "replace_on_stop",
                             "has %zu texts, \"stop_texts\" %u; give at "
                             "most %d together",
                             cop_json_count(&list), n, COP_STOP_TEXTS_MAX);
    for (size_t i = 0; i < cop_json_count(&list); i++) {
        cop_stop_text *stop = &d->stop_texts[d->n_stop_texts];
        cop_json one = cop_json_at(&list, i), whole;
        COP_TRY(cop_json_object(&one, NULL, COP_JSON_REQUIRED, &whole));
        COP_TRY(cop_json_only(&whole, cop_dialect_keys("replace_on_stop[]")));
        COP_TRY(cop__dialect_tag(&whole, "text", COP_JSON_REQUIRED, &stop->text));
        COP_TRY(cop_json_text(&whole, "by", COP_JSON_REQUIRED, &stop->by));
        COP_TRY(cop__dialect_text(&whole, "by", &stop->by));
        d->n_stop_texts++;
    }
    return COP_OK;
}

cop_status cop__dialect_load_program(const cop_json *root, cop_dialect *d) {
    cop_json program;
    COP_TRY(load_stops(root, d));
    COP_TRY(cop_json_u32(root, "max_turn_tokens", 0, UINT32_MAX, COP_JSON_OPTIONAL,
                         &d->max_turn_tokens));
    COP_TRY(cop_json_object(root, "program", COP_JSON_OPTIONAL, &program));
    if (!program.value)
        return COP_OK;
    d->program = true;
    COP_TRY(cop_json_only(&program, cop_dialect_keys("program")));
    COP_TRY(cop_json_bool(&program, "paths", COP_JSON_OPTIONAL, &d->asks_paths));
    COP_TRY(cop_json_text(&program, "recipe", COP_JSON_REQUIRED, &d->recipe));
    return cop__dialect_text(&program, "recipe", &d->recipe);
}

static cop_status check_without(const cop_json *root, const cop_dialect *d) {
    static const char *const keys[] = {"stop_texts", "replace_on_stop", "max_turn_tokens"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (cop_json_has(root, keys[i]))
            return cop_json_fail(root, keys[i], "goes with \"program\"");
    if (d->trigger == COP_TRIGGER_END_OF_TEXT)
        return cop_json_fail(root, "trigger.on", "\"end_of_text\" goes with \"program\"");
    if (d->paths_from == COP_PATHS_MESSAGE)
        return cop_json_fail(root, "paths_from", "\"message\" goes with \"program\"");
    return COP_OK;
}

cop_status cop__dialect_check_program(const cop_json *root, const cop_dialect *d) {
    static const char *const others[] = {"shared",
                                         "inject_every",
                                         "reuse",
                                         "path_end",
                                         "tags",
                                         "branch_prompt",
                                         "join_prompt",
                                         "reply",
                                         "spawn_prompt",
                                         "nested",
                                         "paths",
                                         "items",
                                         "after_plan",
                                         "after_path",
                                         "after_fork",
                                         "joined_header",
                                         "path_close",
                                         "join_end",
                                         "join_prompt_cut",
                                         "last_block",
                                         "path_limit",
                                         "max_steps",
                                         "budget",
                                         "context",
                                         "ask_paths",
                                         "path_close_outside",
                                         "penalty_shared"};
    if (!d->program)
        return check_without(root, d);
    if (d->trigger != COP_TRIGGER_END_OF_TEXT || d->paths_from != COP_PATHS_MESSAGE)
        return cop_json_fail(root, "program",
                             "goes with \"trigger\": {\"on\": \"end_of_text\"} "
                             "and \"paths_from\": \"message\": give all three");
    if (d->trigger_anywhere || d->trigger_on_end)
        return cop_json_fail(root, "trigger",
                             "has \"anywhere\" or \"on_end\", which are for "
                             "plans: leave them out");
    if (d->join != COP_JOIN_MESSAGE && d->join != COP_JOIN_REPREFILL)
        return cop_json_fail(root, "join",
                             "must be \"message\", children in contexts of their "
                             "own, or \"reprefill\", children that go on behind "
                             "the prompt, where \"program\" makes the messages");
    if (d->positions != COP_POSITIONS_NEXT)
        return cop_json_fail(root, "positions",
                             "must be \"next\" where \"program\" makes the "
                             "messages, which are ordinary text");
    if (d->stage_set[COP_STAGE_JOIN])
        return cop_json_fail(root, "stage_sampling.join",
                             "has no meaning where \"program\" makes "
                             "the messages: use \"main\"");
    for (int i = 0; i < COP_STAGE_COUNT; i++)
        if (d->sampling[i].penalty > 0)
            return cop_json_fail(root, "stage_sampling",
                                 "has a repetition_penalty, which cannot forget the text that "
                                 "\"program\" takes back: leave it out");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (cop_json_has(root, others[i]))
            return cop_json_fail(root, others[i],
                                 "must be left out where \"program\" makes the "
                                 "messages");
    return COP_OK;
}

cop_status cop_dialect_check_program(const cop_dialect *d, bool given) {
    if (d->program && !given)
        return COP_FAIL(COP_ERR_USAGE,
                        "the messages of dialect %.64s are made by a program, which must be given: "
                        "--program, or \"program\" in a config; its file names \"%.200s\"",
                        d->name, d->recipe);
    if (!d->program && given)
        return COP_FAIL(COP_ERR_USAGE,
                        "dialect %.64s takes no program: its messages are in its file; leave the "
                        "program out",
                        d->name);
    return COP_OK;
}
