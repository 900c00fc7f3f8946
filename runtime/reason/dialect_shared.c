/* Dialects whose paths see each other's tokens: the keys of "shared" and "inject_every". */
#include <string.h>

#include "reason/dialect_internal.h"

static cop_status load_workers(const cop_json *object, cop_shared_rules *s) {
    cop_json list;
    COP_TRY(cop_json_array(object, "workers", COP_JSON_OPTIONAL, &list));
    if (!list.value)
        return COP_OK;
    const size_t n = cop_json_count(&list);
    if (n < 1 || n > COP_SHARED_WORKERS_MAX)
        return cop_json_fail(object, "workers", "has %zu workers; give 1 to %d", n,
                             COP_SHARED_WORKERS_MAX);
    for (size_t i = 0; i < n; i++) {
        cop_json one = cop_json_at(&list, i), worker;
        COP_TRY(cop_json_object(&one, NULL, COP_JSON_REQUIRED, &worker));
        COP_TRY(cop_json_only(&worker, cop_dialect_keys("shared.workers[]")));
        COP_TRY(cop_json_text(&worker, "begin", COP_JSON_REQUIRED, &s->workers[i].begin));
        COP_TRY(cop__dialect_text(&worker, "begin", &s->workers[i].begin));
        s->workers[i].step_begin = "";
        COP_TRY(cop__dialect_text(&worker, "step_begin", &s->workers[i].step_begin));
        if (strstr(s->workers[i].begin, "{item}") || strstr(s->workers[i].step_begin, "{item}"))
            return cop_json_fail(&list, NULL, "has \"{item}\": workers have no items; use {n}");
    }
    s->n_workers = (uint32_t)n;
    return COP_OK;
}

static cop_status load_forbidden(const cop_json *object, cop_shared_rules *s) {
    cop_json list;
    COP_TRY(cop_json_array(object, "forbidden", COP_JSON_OPTIONAL, &list));
    if (cop_json_count(&list) > COP_SHARED_FORBIDDEN_MAX)
        return cop_json_fail(object, "forbidden", "has %zu texts; give at most %d",
                             cop_json_count(&list), COP_SHARED_FORBIDDEN_MAX);
    for (size_t i = 0; i < cop_json_count(&list); i++) {
        cop_json item = cop_json_at(&list, i);
        COP_TRY(cop_json_text(&item, NULL, COP_JSON_REQUIRED, &s->forbidden[i]));
        s->n_forbidden++;
    }
    return cop_json_bool(object, "forbid_ends", COP_JSON_OPTIONAL, &s->forbids_ends);
}

static cop_status load_steps(const cop_json *object, cop_shared_rules *s) {
    const char *token = "";
    COP_TRY(cop__dialect_text(object, "step_token", &token));
    s->step_token = (cop_tag){token, (uint32_t)strlen(token)};
    COP_TRY(cop__dialect_pattern(object, "step_end", COP_JSON_OPTIONAL, &s->step_end));
    COP_TRY(cop__dialect_pattern(object, "finished", COP_JSON_OPTIONAL, &s->finished));
    if (!s->step_end != !s->step_token.bytes)
        return cop_json_fail(object, "step_end",
                             "goes with \"step_token\", a text that its last token holds: give "
                             "both or neither");
    if (s->finished && !s->step_end)
        return cop_json_fail(object, "finished",
                             "is looked for where a step ends: give \"step_end\" too");
    return COP_OK;
}

cop_status cop__dialect_load_shared(const cop_json *root, cop_dialect *d) {
    cop_shared_rules *s = &d->shared;
    cop_json object, inject;
    s->others_header = s->own_header = s->joined_tail = s->inject = "";
    s->step_token = (cop_tag){"", 0};
    COP_TRY(cop_json_object(root, "inject_every", COP_JSON_OPTIONAL, &inject));
    if (inject.value) {
        COP_TRY(cop_json_only(&inject, cop_dialect_keys("inject_every")));
        COP_TRY(
            cop_json_u32(&inject, "tokens", 1, UINT32_MAX, COP_JSON_REQUIRED, &s->inject_tokens));
        COP_TRY(cop_json_text(&inject, "text", COP_JSON_REQUIRED, &s->inject));
        COP_TRY(cop__dialect_text(&inject, "text", &s->inject));
    }
    COP_TRY(cop_json_object(root, "shared", COP_JSON_OPTIONAL, &object));
    if (!object.value)
        return COP_OK;
    COP_TRY(cop_json_only(&object, cop_dialect_keys("shared")));
    COP_TRY(cop__dialect_text(&object, "others_header", &s->others_header));
    COP_TRY(cop__dialect_text(&object, "own_header", &s->own_header));
    COP_TRY(load_workers(&object, s));
    COP_TRY(load_steps(&object, s));
    COP_TRY(load_forbidden(&object, s));
    COP_TRY(cop__dialect_text(&object, "joined_tail", &s->joined_tail));
    return cop_json_u32(&object, "finish_tokens", 1, UINT32_MAX, COP_JSON_OPTIONAL,
                        &s->finish_tokens);
}

/* Workers take the place of tags, so nothing that is about tags goes with them. */
static cop_status check_workers(const cop_json *root, const cop_dialect *d) {
    static const char *const others[] = {
        "tags",       "branch_prompt", "paths",           "paths_from",    "items",
        "after_plan", "after_path",    "after_fork",      "joined_header", "path_close",
        "join_end",   "last_block",    "max_blocks",      "max_steps",     "max_depth",
        "max_paths",  "path_limit",    "join_prompt_cut", "spawn_prompt",  "reply"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (cop_json_has(root, others[i]))
            return cop_json_fail(root, others[i],
                                 "must be left out where there are \"shared.workers\"");
    if (d->charge != COP_CHARGE_EACH_BRANCH)
        return cop_json_fail(root, "budget.charge",
                             "must be \"each_branch\" where there are \"shared.workers\"");
    if (d->shared.finish_tokens && !d->join_prompt[0])
        return cop_json_fail(root, "shared.finish_tokens",
                             "needs a \"join_prompt\": without one the run ends with the workers");
    return COP_OK;
}

static cop_status check_without_workers(const cop_json *root, const cop_dialect *d) {
    static const char *const of_workers[] = {"step_token",   "step_end",    "finished",
                                             "forbidden",    "forbid_ends", "joined_tail",
                                             "finish_tokens"};
    json_t *object = json_object_get(root->value, "shared");
    for (size_t i = 0; i < sizeof of_workers / sizeof of_workers[0]; i++)
        if (json_object_get(object, of_workers[i]))
            return cop_json_fail(root, "shared", "has \"%s\", which is for \"workers\"",
                                 of_workers[i]);
    if (d->context_text)
        return cop_json_fail(root, "context", "\"text\" is for \"reprefill\" and for workers");
    if (!d->join_prompt[0])
        return cop_json_fail(root, "join_prompt",
                             "is needed for \"shared\": the next token needs a row");
    return COP_OK;
}

cop_status cop__dialect_check_shared(const cop_json *root, const cop_dialect *d) {
    if (d->charge == COP_CHARGE_EACH_BRANCH && !d->shared.n_workers)
        return cop_json_fail(root, "budget.charge", "\"each_branch\" is for \"shared.workers\"");
    if (d->join != COP_JOIN_SHARED)
        return COP_OK;
    if (d->charge == COP_CHARGE_POSITION)
        return cop_json_fail(root, "budget.charge",
                             "must not be \"critical_path_position\" for \"shared\": a path's "
                             "position hangs on what the others say");
    if (d->nested)
        return cop_json_fail(root, "nested",
                             "must not be true for \"shared\": a path that others see while it "
                             "decodes cannot fork");
    if (d->positions != COP_POSITIONS_BLOCK_RELATIVE)
        return cop_json_fail(root, "positions",
                             "must be \"block_relative\" for \"shared\": each part of a view "
                             "stands where that view has it");
    return d->shared.n_workers ? check_workers(root, d) : check_without_workers(root, d);
}
