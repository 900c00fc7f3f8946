/* What a dialect cannot mean, and what it may not ask of this runtime. */
#include <string.h>

#include "reason/dialect_internal.h"

/* A tag is found at the byte that completes it. So one that holds another before its own end could
 * never be found: the inner one is complete first. */
static cop_status check_tags(const cop_json *root, const cop_dialect *dialect) {
    enum { ALL = 2 * COP_EL_COUNT + COP_TRIGGER_TEXTS_MAX };
    const cop_tag *tags[ALL];
    for (int e = 0; e < COP_EL_COUNT; e++) {
        tags[2 * e] = &dialect->open[e];
        tags[2 * e + 1] = &dialect->close[e];
    }
    for (int i = 0; i < COP_TRIGGER_TEXTS_MAX; i++)
        tags[2 * COP_EL_COUNT + i] = &dialect->plan_ends[i];
    for (int i = 0; i < ALL; i++) {
        for (int j = 0; j < ALL; j++) {
            if (i == j || tags[i]->bytes == 0 || tags[j]->bytes == 0)
                continue;
            if (strcmp(tags[i]->text, tags[j]->text) == 0)
                return cop_json_fail(root, "tags", "uses '%s' for two tags; each needs its own",
                                     tags[i]->text);
            const char *inside = strstr(tags[i]->text, tags[j]->text);
            if (inside && inside + tags[j]->bytes < tags[i]->text + tags[i]->bytes)
                return cop_json_fail(root, "tags",
                                     "can never give '%s': '%s' inside it is complete first; "
                                     "change one of them",
                                     tags[i]->text, tags[j]->text);
        }
    }
    return COP_OK;
}

static cop_status check_asking(const cop_json *root, const cop_dialect *dialect) {
    if (!strstr(dialect->prompt, "{problem}"))
        return cop_json_fail(root, "prompt", "must hold {problem}, in whose place its text stands");
    if (!strstr(dialect->prompt, "{k}") != !dialect->ask_paths)
        return cop_json_fail(root, "ask_paths",
                             "goes with {k} in \"prompt\", the number of paths asked for: give "
                             "both or neither");
    return COP_OK;
}

static cop_status check_sequential(const cop_json *root, const cop_dialect *dialect) {
    static const char *const forking[] = {"branch_prompt",   "join_prompt",
                                          "spawn_prompt",    "reply",
                                          "ask_paths",       "success",
                                          "trigger",         "paths_from",
                                          "paths",           "items",
                                          "after_plan",      "after_path",
                                          "after_fork",      "path_close",
                                          "joined_header",   "join_end",
                                          "last_block",      "join_prompt_cut",
                                          "path_limit",      "join_policy",
                                          "max_path_tokens", "path_close_outside",
                                          "stage_sampling",  "penalty_shared",
                                          "program",         "stop_texts",
                                          "replace_on_stop", "max_turn_tokens"};
    for (int e = COP_EL_BLOCK; e < COP_EL_COUNT; e++)
        if (dialect->open[e].bytes || dialect->close[e].bytes)
            return cop_json_fail(root, "tags", "must not have \"%s\" when \"join\" is \"none\"",
                                 cop__dialect_elements[e]);
    for (size_t i = 0; i < sizeof forking / sizeof forking[0]; i++)
        if (cop_json_has(root, forking[i]))
            return cop_json_fail(root, forking[i], "must be left out when \"join\" is \"none\"");
    if (dialect->positions != COP_POSITIONS_NEXT)
        return cop_json_fail(root, "positions", "must be \"next\" when \"join\" is \"none\"");
    return COP_OK;
}

/* Where the block begins and ends: at tags of its own, else with what is in it (parser.h). */
static cop_status check_implied(const cop_json *root, const cop_dialect *d) {
    bool listed = d->paths_from == COP_PATHS_OUTLINES;
    bool begins = d->open[COP_EL_BLOCK].bytes || d->open[COP_EL_PLAN].bytes;
    bool block = begins || json_object_get(json_object_get(root->value, "tags"), "block");
    if ((listed && !d->open[COP_EL_ITEM].bytes) || !d->open[COP_EL_PATH].bytes || !block)
        return cop_json_fail(root, "tags",
                             "lacks \"%s\": a dialect that forks needs block, item and path",
                             listed && !d->open[COP_EL_ITEM].bytes ? "item"
                             : !d->open[COP_EL_PATH].bytes         ? "path"
                                                                   : "block");
    bool concluded = d->close[COP_EL_JOIN].bytes && !d->join_outside;
    if (!d->close[COP_EL_BLOCK].bytes &&
        (d->open[COP_EL_BLOCK].bytes || !d->open[COP_EL_PLAN].bytes || !concluded))
        return cop_json_fail(
            root, "tags.block.close",
            "is missing, and no tags.join.close ends the block in its place: give the "
            "text that ends it, which may stand in \"join_prompt\"");
    if (d->open[COP_EL_PLAN].bytes && !d->close[COP_EL_PLAN].bytes)
        return cop_json_fail(root, "tags.plan.close", "is missing: the paths open there");
    if (listed && !d->close[COP_EL_ITEM].bytes && !d->close[COP_EL_PLAN].bytes)
        return cop_json_fail(root, "tags",
                             "has items without \"close\" and no plan that ends the "
                             "last one: give either its \"close\"");
    if (d->join_outside && !d->close[COP_EL_BLOCK].bytes)
        return cop_json_fail(root, "tags.join.outside",
                             "needs the block's \"close\", behind which the conclusion stands");
    return COP_OK;
}

static cop_status check_trigger(const cop_json *root, const cop_dialect *d) {
    bool fixed = d->paths_from == COP_PATHS_FIXED, open = d->trigger == COP_TRIGGER_BLOCK_OPEN;
    if (fixed != open)
        return cop_json_fail(root, "paths_from",
                             "is \"fixed\" exactly where \"trigger.on\" is \"block_open\": no "
                             "item is known there");
    if (fixed != (d->paths > 0))
        return cop_json_fail(root, "paths",
                             "goes with \"paths_from\": \"fixed\": give both or "
                             "neither");
    if (fixed && (d->items_pattern || d->open[COP_EL_ITEM].bytes || d->open[COP_EL_PLAN].bytes))
        return cop_json_fail(root, d->items_pattern ? "items" : "tags",
                             "must not name a plan or items where \"paths_from\" is \"fixed\"");
    if (fixed && !d->open[COP_EL_BLOCK].bytes)
        return cop_json_fail(root, "tags.block.open", "is missing: the paths open there");
    if (fixed && (d->trigger_anywhere || d->trigger_on_end || d->n_plan_ends))
        return cop_json_fail(root, "trigger",
                             "has \"also\", \"anywhere\" or \"on_end\", which are "
                             "for plans");
    if (d->n_plan_ends && !d->close[COP_EL_PLAN].bytes)
        return cop_json_fail(root, "trigger.also", "needs \"tags.plan.close\"");
    if ((d->trigger_anywhere || d->trigger_on_end) && !d->items_pattern)
        return cop_json_fail(root, d->trigger_on_end ? "trigger.on_end" : "trigger.anywhere",
                             "needs \"items.pattern\": there may be no plan to count them in");
    if (fixed && d->max_paths && d->paths > d->max_paths)
        return cop_json_fail(root, "max_paths", "is %u, and \"paths\" is %u: no block could open",
                             d->max_paths, d->paths);
    return COP_OK;
}

/* Limits that contradict each other, or a rule. */
static cop_status check_limits(const cop_json *root, const cop_dialect *d) {
    if (d->last_block_ends_run && !d->max_blocks)
        return cop_json_fail(root, "last_block", "needs \"max_blocks\": which one is the last");
    if (d->limit_cuts_after && !d->max_path_tokens)
        return cop_json_fail(root, "path_limit", "needs \"max_path_tokens\", which is the limit");
    if (d->limit_cuts_after && d->join != COP_JOIN_REPREFILL)
        return cop_json_fail(root, "path_limit",
                             "\"cuts_after\" is for \"reprefill\": what was cut is in the KV");
    if (d->max_depth > 1 && !d->nested)
        return cop_json_fail(root, "max_depth", "is %u, and \"nested\" is not true: give 1 or 0",
                             d->max_depth);
    if (d->max_depth == 1 && d->nested)
        return cop_json_fail(root, "max_depth",
                             "is 1, and \"nested\" is true: give 0 or more than 1");
    if (d->max_path_tokens && d->join_policy.deadline_tokens >= d->max_path_tokens)
        return cop_json_fail(root, "join_policy.deadline_tokens",
                             "is %u and never falls due: \"max_path_tokens\" is %u",
                             d->join_policy.deadline_tokens, d->max_path_tokens);
    if (d->join_policy.quorum && d->quorum_ratio > 0)
        return cop_json_fail(root, "join_policy.quorum_ratio",
                             "and \"quorum\" say the same thing twice: give one");
    if (d->join_policy.quorum && d->max_paths && d->join_policy.quorum > d->max_paths)
        return cop_json_fail(root, "join_policy.quorum", "is %u, and \"max_paths\" is %u",
                             d->join_policy.quorum, d->max_paths);
    if (d->join_policy.success_only && !d->success.bytes)
        return cop_json_fail(root, "join_policy.success_only",
                             "needs \"success\": what a path says that found something");
    if (d->last_dropped && d->charge != COP_CHARGE_OWN_TIMES_SIBLINGS)
        return cop_json_fail(root, "budget.last",
                             "\"dropped\" goes with \"charge\": \"own_times_siblings\"");
    if (d->charge_each_step && d->charge != COP_CHARGE_ALL_TOKENS)
        return cop_json_fail(root, "budget.checked",
                             "\"each_step\" goes with \"charge\": \"all_tokens\"");
    if (d->charge_each_step && d->join != COP_JOIN_REPREFILL)
        return cop_json_fail(root, "budget.checked",
                             "\"each_step\" is for \"reprefill\", whose text can be cut");
    return COP_OK;
}

/* A shared penalty is set by forks and taken away by joins: a stage has none of its own. */
static cop_status check_penalty(const cop_json *root, const cop_dialect *d) {
    bool paths = d->sampling[COP_STAGE_PATH].penalty > 0;
    bool others =
        d->sampling[COP_STAGE_MAIN].penalty > 0 || d->sampling[COP_STAGE_JOIN].penalty > 0;
    if (d->penalty_shared && (!paths || others))
        return cop_json_fail(root, "penalty_shared",
                             "goes with a \"repetition_penalty\" in \"stage_sampling.path\" and in "
                             "no other stage");
    return COP_OK;
}

static cop_status check_joined(const cop_json *root, const cop_dialect *d) {
    bool text = d->join == COP_JOIN_REPREFILL;
    if (d->joined_first && !text)
        return cop_json_fail(root, "joined_header",
                             "is for \"reprefill\": other joins keep what was decoded");
    if (d->joined_first && d->reuse != COP_REUSE_NONE)
        return cop_json_fail(root, "reuse",
                             "cannot keep a path whose \"joined_header\" is another");
    if (d->duplicates == COP_DUPLICATES_LAST_WINS && !text)
        return cop_json_fail(root, "items.duplicates", "\"last_wins\" is for \"reprefill\"");
    if (d->context_text && (!text || d->reuse != COP_REUSE_NONE || d->nested))
        return cop_json_fail(root, "context",
                             "\"text\" is for \"reprefill\" without \"reuse\" or \"nested\"");
    if (d->join_prompt_cut && d->path_end != COP_PATH_END_ENDS_RUN_AFTER_MERGE)
        return cop_json_fail(root, "join_prompt_cut",
                             "goes with \"path_end\": \"ends_run_after_merge\"");
    if (d->path_keep + d->path_drop > 0 && d->join != COP_JOIN_STITCH)
        return cop_json_fail(root, "after_path",
                             "is for \"stitch\": elsewhere a path's last token is not computed");
    if (d->end_closes_join && !d->close[COP_EL_JOIN].bytes)
        return cop_json_fail(root, "join_end", "\"closes_join\" needs \"tags.join\"");
    return COP_OK;
}

static cop_status check_message(const cop_json *root, const cop_dialect *d) {
    bool message = d->join == COP_JOIN_MESSAGE;
    if (message && !d->spawn_prompt[0])
        return cop_json_fail(root, "spawn_prompt",
                             "is needed for \"message\": what a child's own context begins with");
    if (strstr(d->spawn_prompt, "{k}") && !d->ask_paths)
        return cop_json_fail(root, "spawn_prompt",
                             "holds {k}, the number of paths asked for: give \"ask_paths\" and {k} "
                             "in \"prompt\" as well");
    if (message && (d->n_reply_from == 0 || !d->reply_otherwise[0]))
        return cop_json_fail(root, "reply",
                             "is needed for \"message\": {\"from\": [texts], \"otherwise\": text}");
    if (!message && (cop_json_has(root, "spawn_prompt") || cop_json_has(root, "reply")))
        return cop_json_fail(root, cop_json_has(root, "reply") ? "reply" : "spawn_prompt",
                             "is for \"join\": \"message\" only; leave it out");
    if (message && d->positions != COP_POSITIONS_NEXT)
        return cop_json_fail(root, "positions",
                             "must be \"next\" for \"message\": replies are ordinary text");
    return COP_OK;
}

static cop_status check_forking(const cop_json *root, const cop_dialect *dialect) {
    COP_TRY(cop__dialect_check_shared(root, dialect));
    if (dialect->shared.n_workers) /* it has no tags, and what follows is about them */
        return COP_OK;
    COP_TRY(check_implied(root, dialect));
    COP_TRY(check_trigger(root, dialect));
    COP_TRY(check_limits(root, dialect));
    COP_TRY(check_penalty(root, dialect));
    COP_TRY(check_joined(root, dialect));
    if (!strstr(dialect->branch_prompt, dialect->open[COP_EL_PATH].text))
        return cop_json_fail(root, "branch_prompt",
                             "must hold the path's opening tag '%s': each child is given it",
                             dialect->open[COP_EL_PATH].text);
    if (dialect->paths_from != COP_PATHS_FIXED && !cop_dialect_mark(dialect->branch_prompt).bytes)
        return cop_json_fail(root, "branch_prompt",
                             "must hold {n}, in whose place the path's number stands, or {item}, "
                             "the text of its item");
    if (dialect->join_prompt[0] && dialect->open[COP_EL_JOIN].bytes &&
        !strstr(dialect->join_prompt, dialect->open[COP_EL_JOIN].text))
        return cop_json_fail(root, "join_prompt",
                             "must hold the join's opening tag '%s', or be left out",
                             dialect->open[COP_EL_JOIN].text);
    if (dialect->join == COP_JOIN_REPREFILL && dialect->positions != COP_POSITIONS_NEXT)
        return cop_json_fail(root, "positions",
                             "must be \"next\" for \"reprefill\", which is ordinary causal text");
    return check_message(root, dialect);
}

cop_status cop__dialect_check(const cop_json *root, const cop_dialect *dialect) {
    COP_TRY(check_asking(root, dialect));
    if (dialect->reuse != COP_REUSE_NONE && dialect->join != COP_JOIN_REPREFILL)
        return cop_json_fail(root, "reuse", "is for \"join\": \"reprefill\" only; leave it out");
    COP_TRY(check_tags(root, dialect));
    if (dialect->join == COP_JOIN_ASYNC)
        return cop__dialect_check_async(root, dialect);
    if (cop_json_has(root, "async"))
        return cop_json_fail(root, "async", "is for \"join\": \"async\" only; leave it out");
    if (dialect->join != COP_JOIN_SHARED &&
        (cop_json_has(root, "shared") || dialect->positions == COP_POSITIONS_BLOCK_RELATIVE))
        return cop_json_fail(root, cop_json_has(root, "shared") ? "shared" : "positions",
                             "is for \"join\": \"shared\" only; leave it out");
    if (cop_json_has(root, "inject_every") && !dialect->shared.n_workers)
        return cop_json_fail(root, "inject_every", "is for \"shared.workers\"; leave it out");
    if ((dialect->trigger == COP_TRIGGER_PROMPT_END) != (dialect->shared.n_workers > 0))
        return cop_json_fail(root, "trigger.on",
                             "is \"prompt_end\" exactly where there are \"shared.workers\"");
    if (dialect->join == COP_JOIN_NONE)
        return check_sequential(root, dialect);
    COP_TRY(cop__dialect_check_program(root, dialect));
    return dialect->program ? COP_OK : check_forking(root, dialect);
}

const char *cop__dialect_lacks(const cop_json *root, const cop_dialect *d) {
    static const char *const keys[] = {"pad_to", "segment_embedding", "start_offset"};
    const bool gap = d->positions == COP_POSITIONS_PREDICTED_GAP && d->join == COP_JOIN_ASYNC;
    if (d->positions > COP_POSITIONS_BLOCK_RELATIVE && !gap)
        return "positions";
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (cop_json_has(root, keys[i]))
            return keys[i];
    return NULL;
}
