/* The keys that only some systems need: each is read here, and absent means the ordinary thing. */
#include <string.h>

#include "reason/dialect_internal.h"

static const char *const trigger_names[] = {"plan_close", "block_open", "end_of_text", "prompt_end",
                                            NULL};
static const char *const paths_from_names[] = {"outlines", "fixed", "message", NULL};
static const char *const search_names[] = {"plan", "turn", "turn_plan", NULL};
static const char *const duplicate_names[] = {"keep", "drop", "last_wins", NULL};
static const char *const context_names[] = {"tokens", "text", NULL};
static const char *const charge_names[] = {
    "generated", "all_tokens", "critical_path_position", "own_times_siblings", "each_branch", NULL};
static const char *const checked_names[] = {"each_token", "each_step", NULL};
static const char *const loser_names[] = {"drop", "keep_partial", NULL};

/* The child object at `key`, whose keys are those of `cop_dialect_keys(key)`. */
static cop_status child_of(const cop_json *root, const char *key, cop_json *child) {
    COP_TRY(cop_json_object(root, key, COP_JSON_OPTIONAL, child));
    return child->value ? cop_json_only(child, cop_dialect_keys(key)) : COP_OK;
}

/* One of two words; *second says whether it is the other one. */
static cop_status choose(const cop_json *root, const char *key, const char *one, const char *other,
                         bool *second) {
    const char *const names[] = {one, other, NULL};
    uint32_t chosen = *second;
    COP_TRY(cop_json_choice(root, key, names, COP_JSON_OPTIONAL, &chosen));
    *second = chosen == 1;
    return COP_OK;
}

cop_status cop__dialect_texts(const cop_json *object, const char *key, cop_tag *texts, uint32_t max,
                              uint32_t *n) {
    cop_json list;
    COP_TRY(cop_json_array(object, key, COP_JSON_OPTIONAL, &list));
    if (cop_json_count(&list) > max)
        return cop_json_fail(object, key, "has %zu texts; give at most %u", cop_json_count(&list),
                             max);
    for (size_t i = 0; i < cop_json_count(&list); i++) {
        cop_json item = cop_json_at(&list, i);
        COP_TRY(cop__dialect_tag(&item, NULL, COP_JSON_REQUIRED, &texts[i]));
        *n = (uint32_t)i + 1;
    }
    return COP_OK;
}

static cop_status load_trigger(const cop_json *root, cop_dialect *d) {
    cop_json trigger;
    uint32_t on = 0, from = 0;
    COP_TRY(child_of(root, "trigger", &trigger));
    if (trigger.value) {
        COP_TRY(cop_json_choice(&trigger, "on", trigger_names, COP_JSON_OPTIONAL, &on));
        bool end = on == COP_TRIGGER_END_OF_TEXT;
        COP_TRY(cop__dialect_texts(&trigger, "also", end ? d->last_line : d->plan_ends,
                                   COP_TRIGGER_TEXTS_MAX, end ? &d->n_last_line : &d->n_plan_ends));
        COP_TRY(cop_json_bool(&trigger, "anywhere", COP_JSON_OPTIONAL, &d->trigger_anywhere));
        COP_TRY(cop_json_bool(&trigger, "on_end", COP_JSON_OPTIONAL, &d->trigger_on_end));
    }
    COP_TRY(cop_json_choice(root, "paths_from", paths_from_names, COP_JSON_OPTIONAL, &from));
    d->trigger = (cop_trigger)on;
    d->paths_from = (cop_paths_from)from;
    return cop_json_u32(root, "paths", 1, UINT16_MAX, COP_JSON_OPTIONAL, &d->paths);
}

cop_status cop__dialect_pattern(const cop_json *object, const char *key, cop_json_presence presence,
                                cop_pattern **out) {
    const char *pattern = NULL;
    COP_TRY(cop_json_text(object, key, presence, &pattern));
    if (!pattern)
        return COP_OK;
    if (strlen(pattern) > COP_DIALECT_TEXT_MAX)
        return cop_json_fail(object, key, "has %zu bytes; give at most %d", strlen(pattern),
                             COP_DIALECT_TEXT_MAX);
    if (cop_pattern_create(pattern, out) != COP_OK) {
        char why[256];
        strncpy(why, cop_status_message(), sizeof why - 1);
        why[sizeof why - 1] = '\0';
        return cop_json_fail(object, key, "%s", why);
    }
    return COP_OK;
}

static cop_status load_items(const cop_json *root, cop_dialect *d) {
    cop_json items;
    uint32_t search = 0, duplicates = 0;
    COP_TRY(child_of(root, "items", &items));
    if (!items.value)
        return COP_OK;
    COP_TRY(cop__dialect_pattern(&items, "pattern", COP_JSON_REQUIRED, &d->items_pattern));
    COP_TRY(cop_json_choice(&items, "search", search_names, COP_JSON_OPTIONAL, &search));
    COP_TRY(cop_json_choice(&items, "duplicates", duplicate_names, COP_JSON_OPTIONAL, &duplicates));
    d->item_search = (cop_item_search)search;
    d->duplicates = (cop_duplicates)duplicates;
    if (cop_pattern_groups(d->items_pattern) == 0)
        return cop_json_fail(&items, "pattern",
                             "has no group: put the item's number in parentheses");
    return COP_OK;
}

static cop_status load_after(const cop_json *root, cop_dialect *d) {
    cop_json plan, path, header;
    COP_TRY(child_of(root, "after_plan", &plan));
    if (plan.value) /* a second dropped token would have to be computed */
        COP_TRY(cop_json_u32(&plan, "drop", 0, 1, COP_JSON_REQUIRED, &d->plan_drop));
    COP_TRY(child_of(root, "after_path", &path));
    if (path.value) {
        COP_TRY(
            cop_json_u32(&path, "keep", 0, COP_AFTER_TAG_MAX, COP_JSON_OPTIONAL, &d->path_keep));
        COP_TRY(cop_json_u32(&path, "drop", 0, 1, COP_JSON_OPTIONAL, &d->path_drop));
    }
    COP_TRY(choose(root, "path_close_outside", "ignored", "ends_run", &d->stray_path_ends_run));
    COP_TRY(cop__dialect_text(root, "after_fork", &d->after_fork));
    COP_TRY(child_of(root, "joined_header", &header));
    if (header.value) {
        COP_TRY(cop_json_text(&header, "first", COP_JSON_REQUIRED, &d->joined_first));
        COP_TRY(cop_json_text(&header, "other", COP_JSON_REQUIRED, &d->joined_other));
        COP_TRY(cop__dialect_text(&header, "first", &d->joined_first));
        COP_TRY(cop__dialect_text(&header, "other", &d->joined_other));
    }
    COP_TRY(cop__dialect_text(root, "path_close", &d->path_close));
    return cop__dialect_text(root, "join_prompt_cut", &d->join_prompt_cut);
}

static cop_status load_budget(const cop_json *root, cop_dialect *d) {
    cop_json budget;
    uint32_t charge = 0, fork_charge, checked = 0;
    COP_TRY(child_of(root, "budget", &budget));
    if (!budget.value)
        return COP_OK;
    COP_TRY(cop_json_choice(&budget, "charge", charge_names, COP_JSON_OPTIONAL, &charge));
    fork_charge = charge;
    COP_TRY(cop_json_choice(&budget, "fork_charge", charge_names, COP_JSON_OPTIONAL, &fork_charge));
    COP_TRY(choose(&budget, "last", "kept", "dropped", &d->last_dropped));
    COP_TRY(cop_json_choice(&budget, "checked", checked_names, COP_JSON_OPTIONAL, &checked));
    COP_TRY(cop_json_u32(&budget, "margin", 0, UINT16_MAX, COP_JSON_OPTIONAL, &d->margin));
    COP_TRY(
        cop_json_u32(&budget, "fork_margin", 0, UINT16_MAX, COP_JSON_OPTIONAL, &d->fork_margin));
    d->charge = (cop_charge)charge;
    d->fork_charge = (cop_charge)fork_charge;
    d->charge_each_step = checked == 1;
    return COP_OK;
}

static cop_status load_stages(const cop_json *root, cop_dialect *d) {
    static const char *const names[] = {"main", "path", "join"};
    cop_json stages, stage;
    COP_TRY(child_of(root, "stage_sampling", &stages));
    for (int i = 0; i < COP_STAGE_COUNT; i++)
        d->sampling[i] = (cop_stage_sampling){-1, -1, -1, 0};
    for (int i = 0; stages.value && i < COP_STAGE_COUNT; i++) {
        double temperature = -1, top_p = -1, penalty = 1;
        COP_TRY(cop_json_object(&stages, names[i], COP_JSON_OPTIONAL, &stage));
        if (!stage.value)
            continue;
        COP_TRY(cop_json_only(&stage, cop_dialect_keys("stage_sampling.*")));
        COP_TRY(cop_json_f64(&stage, "temperature", 0, 100, COP_JSON_OPTIONAL, &temperature));
        COP_TRY(cop_json_f64(&stage, "top_p", 0.0001, 1, COP_JSON_OPTIONAL, &top_p));
        COP_TRY(
            cop_json_i64(&stage, "top_k", 0, INT32_MAX, COP_JSON_OPTIONAL, &d->sampling[i].top_k));
        COP_TRY(cop_json_f64(&stage, "repetition_penalty", 0.01, 100, COP_JSON_OPTIONAL, &penalty));
        d->sampling[i].temperature = (float)temperature;
        d->sampling[i].top_p = (float)top_p;
        d->sampling[i].penalty = penalty == 1 ? 0 : (float)penalty;
        d->stage_set[i] = true;
    }
    return cop_json_bool(root, "penalty_shared", COP_JSON_OPTIONAL, &d->penalty_shared);
}

static cop_status load_policy(const cop_json *root, cop_dialect *d) {
    cop_json policy;
    uint32_t losers = 0;
    COP_TRY(child_of(root, "join_policy", &policy));
    if (!policy.value)
        return COP_OK;
    cop_join_policy *p = &d->join_policy;
    COP_TRY(cop_json_u32(&policy, "quorum", 1, UINT16_MAX, COP_JSON_OPTIONAL, &p->quorum));
    COP_TRY(cop_json_f64(&policy, "quorum_ratio", 0.0001, 1, COP_JSON_OPTIONAL, &d->quorum_ratio));
    COP_TRY(cop_json_bool(&policy, "success_only", COP_JSON_OPTIONAL, &p->success_only));
    COP_TRY(cop_json_u32(&policy, "deadline_tokens", 1, UINT32_MAX, COP_JSON_OPTIONAL,
                         &p->deadline_tokens));
    COP_TRY(cop_json_choice(&policy, "losers", loser_names, COP_JSON_OPTIONAL, &losers));
    p->keep_partial = losers == 1;
    return COP_OK;
}

/* Words for what some originals do and this runtime does not: read so that a file can say it. */
static cop_status load_words(const cop_json *root) {
    const char *text;
    uint32_t number;
    int64_t offset;
    COP_TRY(cop_json_u32(root, "pad_to", 1, UINT16_MAX, COP_JSON_OPTIONAL, &number));
    COP_TRY(cop_json_text(root, "segment_embedding", COP_JSON_OPTIONAL, &text));
    return cop_json_i64(root, "start_offset", -64, 64, COP_JSON_OPTIONAL, &offset);
}

cop_status cop__dialect_load_more(const cop_json *root, cop_dialect *d) {
    uint32_t context = 0;
    COP_TRY(load_trigger(root, d));
    COP_TRY(load_items(root, d));
    COP_TRY(load_after(root, d));
    COP_TRY(load_budget(root, d));
    COP_TRY(load_stages(root, d));
    COP_TRY(load_policy(root, d));
    COP_TRY(load_words(root));
    COP_TRY(cop_json_choice(root, "context", context_names, COP_JSON_OPTIONAL, &context));
    d->context_text = context == 1;
    COP_TRY(choose(root, "join_end", "ends_run", "closes_join", &d->end_closes_join));
    COP_TRY(choose(root, "last_block", "decodes_on", "ends_run", &d->last_block_ends_run));
    COP_TRY(choose(root, "path_limit", "stops", "cuts_after", &d->limit_cuts_after));
    return cop__dialect_texts(root, "single_tokens", d->single_tokens, COP_SINGLE_TOKENS_MAX,
                              &d->n_single_tokens);
}
