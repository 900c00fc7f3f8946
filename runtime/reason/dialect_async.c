/* The keys of dialects whose parent goes on beside its paths, and what they cannot mean. */
#include <string.h>

#include "reason/dialect_internal.h"

static const char *const view_names[] = {"parent", "empty", NULL};
static const char *const insert_names[] = {"message", "reprefill", "stitch", NULL};
static const char *const over_names[] = {"refused", "waits", NULL};
static const char *const error_names[] = {"decodes_on", "ends_run", NULL};
static const char *const end_names[] = {"cancels", "awaits", NULL};

cop_status cop__dialect_load_async(const cop_json *root, cop_dialect *d) {
    cop_json json;
    cop_async *a = &d->async;
    uint32_t view = 0, insert = 0, over = 0, error = 0, end = 0;
    a->no_reply = "";
    a->gap_unit = 1;
    a->sync = (cop_tag){"", 0};
    COP_TRY(cop_json_object(root, "async", COP_JSON_OPTIONAL, &json));
    if (!json.value)
        return COP_OK;
    COP_TRY(cop_json_only(&json, cop_dialect_keys("async")));
    COP_TRY(cop__dialect_pattern(&json, "fork", COP_JSON_REQUIRED, &a->fork));
    COP_TRY(cop__dialect_pattern(&json, "join", COP_JSON_OPTIONAL, &a->join));
    COP_TRY(cop__dialect_tag(&json, "sync", COP_JSON_OPTIONAL, &a->sync));
    COP_TRY(cop_json_choice(&json, "view", view_names, COP_JSON_REQUIRED, &view));
    COP_TRY(cop_json_choice(&json, "insert", insert_names, COP_JSON_REQUIRED, &insert));
    COP_TRY(cop_json_u32(&json, "capacity", 1, UINT16_MAX, COP_JSON_OPTIONAL, &a->capacity));
    COP_TRY(cop_json_choice(&json, "over_capacity", over_names, COP_JSON_OPTIONAL, &over));
    COP_TRY(cop_json_choice(&json, "error", error_names, COP_JSON_OPTIONAL, &error));
    COP_TRY(cop__dialect_text(&json, "error_text", &a->error_text));
    COP_TRY(cop__dialect_text(&json, "no_reply", &a->no_reply));
    COP_TRY(cop_json_choice(&json, "at_end", end_names, COP_JSON_OPTIONAL, &end));
    COP_TRY(cop_json_u32(&json, "gap_unit", 1, UINT16_MAX, COP_JSON_OPTIONAL, &a->gap_unit));
    a->spawn = view == 1;
    a->insert = (cop_insert)insert;
    a->queues = over == 1;
    a->error_ends_run = error == 1;
    a->end_awaits = end == 1;
    return COP_OK;
}

/* Words for blocks, which such a dialect has none of. */
static cop_status check_foreign(const cop_json *root, const cop_dialect *d) {
    static const char *const foreign[] = {
        "reuse",      "ask_paths",  "reply",         "trigger",           "paths_from",
        "paths",      "items",      "on_zero_items", "on_too_many",       "after_plan",
        "after_path", "after_fork", "joined_header", "join_prompt_cut",   "context",
        "join_end",   "last_block", "join_policy",   "path_limit",        "max_steps",
        "max_paths",  "max_depth",  "nested",        "path_close_outside"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        if (cop_json_has(root, foreign[i]))
            return cop_json_fail(root, foreign[i],
                                 "is for blocks, which \"join\": \"async\" does not have");
    for (int e = 0; e < COP_EL_COUNT; e++)
        if (e != COP_EL_PATH && (d->open[e].bytes || d->close[e].bytes))
            return cop_json_fail(root, "tags",
                                 "must hold \"path\" alone where \"join\" is "
                                 "\"async\": the others are in \"async\"");
    if (d->path_end == COP_PATH_END_ENDS_RUN_AFTER_MERGE)
        return cop_json_fail(root, "path_end", "\"ends_run_after_merge\" is for blocks");
    if (d->refused == COP_REFUSAL_ENDS_BRANCH)
        return cop_json_fail(root, "refused", "\"ends_branch\" is for paths that fork");
    if (d->charge != COP_CHARGE_GENERATED || d->margin || d->fork_margin)
        return cop_json_fail(root, "budget", "must be left out where \"join\" is \"async\"");
    return COP_OK;
}

/* Whether a text says something besides what stands for its placeholders. */
static bool says_something(const char *text) {
    cop_mark mark;
    for (; (mark = cop_dialect_mark(text)).bytes; text = mark.at + mark.bytes)
        if (mark.at > text)
            return true;
    return *text != '\0';
}

static bool holds(const char *text, const char *what) {
    return strstr(text, what) != NULL;
}

static cop_status check_tags(const cop_json *root, const cop_dialect *d) {
    const cop_async *a = &d->async;
    if (!a->join && !a->sync.bytes)
        return cop_json_fail(root, "async", "needs \"join\" or \"sync\": how a path is joined");
    if (a->join && (!cop_pattern_has(a->join, "n") || !cop_pattern_has(a->fork, "n")))
        return cop_json_fail(root, "async.join",
                             "needs a group (?<n>..), the path's id, here and in \"fork\"");
    if (holds(d->branch_prompt, "{item}") && !cop_pattern_has(a->fork, "item"))
        return cop_json_fail(root, "async.fork",
                             "needs a group (?<item>..): \"branch_prompt\" holds {item}");
    if (d->open[COP_EL_PATH].bytes == 0)
        return cop_json_fail(root, "tags", "lacks \"path\": how a path says that it has ended");
    return COP_OK;
}

cop_status cop__dialect_check_async(const cop_json *root, const cop_dialect *d) {
    const cop_async *a = &d->async;
    if (!a->fork)
        return cop_json_fail(root, "async", "is needed for \"join\": \"async\"");
    COP_TRY(check_foreign(root, d));
    COP_TRY(check_tags(root, d));
    if (!says_something(d->branch_prompt))
        return cop_json_fail(root, "branch_prompt", "must say something: a path begins with it");
    if (!says_something(d->join_prompt))
        return cop_json_fail(root, "join_prompt",
                             "must say something: the parent goes on from its last token");
    if (holds(d->join_prompt, "{item}") != (a->insert == COP_INSERT_MESSAGE))
        return cop_json_fail(root, "join_prompt",
                             "holds {item}, what the path returns, exactly where \"async.insert\" "
                             "is \"message\"");
    if (a->insert != COP_INSERT_MESSAGE && cop_dialect_mark(d->join_prompt).bytes)
        return cop_json_fail(root, "join_prompt", "holds {n}: that is for \"message\"");
    if (a->spawn != (d->spawn_prompt[0] != '\0'))
        return cop_json_fail(root, "spawn_prompt",
                             "goes with \"async.view\": \"empty\": what a path's own context "
                             "begins with");
    if (holds(d->spawn_prompt, "{k}"))
        return cop_json_fail(root, "spawn_prompt", "holds {k}, which \"async\" does not have");
    if (a->spawn && a->insert == COP_INSERT_STITCH)
        return cop_json_fail(root, "async.insert",
                             "\"stitch\" needs \"view\": \"parent\": keys of another context stand "
                             "at its positions");
    if (a->queues && (!a->spawn || !a->capacity))
        return cop_json_fail(root, "async.over_capacity",
                             "\"waits\" needs \"capacity\" and \"view\": \"empty\": a view of the "
                             "parent is that of its fork");
    const bool gap = d->positions == COP_POSITIONS_PREDICTED_GAP;
    if (d->positions == COP_POSITIONS_EQUAL_START_MAX)
        return cop_json_fail(root, "positions",
                             "must be \"next\" or \"predicted_gap\" for "
                             "\"async\"");
    if (gap && (a->spawn || !cop_pattern_has(a->fork, "tokens")))
        return cop_json_fail(root, "positions",
                             "\"predicted_gap\" needs a group (?<tokens>..) in \"async.fork\", and "
                             "\"view\": \"parent\"");
    if (a->error_text && !says_something(a->error_text))
        return cop_json_fail(root, "async.error_text", "must say something, or be left out");
    return COP_OK;
}
