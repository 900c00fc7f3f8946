/* A dialect's keys, each read once into its field. */
#include <string.h>

#include "reason/dialect_internal.h"
#include "reason/parser.h"

const char *const cop__dialect_elements[COP_EL_COUNT + 1] = {"root", "block", "plan", "item",
                                                             "path", "join",  NULL};
static const char *const join_names[] = {"none",   "reprefill", "stitch", "message",
                                         "shared", "async",     NULL};
static const char *const position_names[] = {"next",     "equal_start_max", "block_relative",
                                             "disjoint", "predicted_gap",   NULL};
static const char *const reuse_names[] = {"none", "longest_prefix", NULL};
static const char *const path_end_names[] = {"joins", "ends_run", "ends_run_after_merge", NULL};
static const char *const refusal_names[] = {"decodes_on", "ends_run", "ends_branch", NULL};

/* Every key of every object: what cop_dialect_keys tells, and what is accepted. */
static const struct {
    const char *object;
    const char *const keys[64];
} known[] = {
    {"",
     {"name",
      "source",
      "supported",
      "unsupported_because",
      "notes",
      "join",
      "positions",
      "reuse",
      "path_end",
      "refused",
      "tags",
      "prompt",
      "ask_paths",
      "branch_prompt",
      "join_prompt",
      "spawn_prompt",
      "reply",
      "success",
      "answer_after",
      "nested",
      "max_paths",
      "max_depth",
      "max_blocks",
      "max_path_tokens",
      "trigger",
      "paths_from",
      "paths",
      "items",
      "on_zero_items",
      "on_too_many",
      "after_plan",
      "after_path",
      "path_close_outside",
      "after_fork",
      "joined_header",
      "path_close",
      "join_prompt_cut",
      "context",
      "join_end",
      "last_block",
      "path_limit",
      "max_steps",
      "budget",
      "stage_sampling",
      "penalty_shared",
      "join_policy",
      "single_tokens",
      "program",
      "stop_texts",
      "shared",
      "replace_on_stop",
      "max_turn_tokens",
      "inject_every",
      "pad_to",
      "segment_embedding",
      "start_offset",
      "async"}},
    {"tags", {"root", "block", "plan", "item", "path", "join"}},
    {"tags.*", {"open", "close"}},
    {"tags.join", {"open", "close", "outside"}},
    {"reply", {"from", "otherwise"}},
    {"trigger", {"on", "also", "anywhere", "on_end"}},
    {"items", {"pattern", "search", "duplicates"}},
    {"after_plan", {"drop"}},
    {"after_path", {"keep", "drop"}},
    {"joined_header", {"first", "other"}},
    {"budget", {"charge", "fork_charge", "checked", "last", "margin", "fork_margin"}},
    {"stage_sampling", {"main", "path", "join"}},
    {"stage_sampling.*", {"temperature", "top_p", "top_k", "repetition_penalty"}},
    {"join_policy", {"quorum", "quorum_ratio", "success_only", "deadline_tokens", "losers"}},
    {"program", {"recipe", "paths"}},
    {"replace_on_stop[]", {"text", "by"}},
    {"inject_every", {"tokens", "text"}},
    {"async",
     {"fork", "join", "sync", "view", "insert", "capacity", "over_capacity", "error", "error_text",
      "no_reply", "at_end", "gap_unit"}},
    {"shared",
     {"others_header", "own_header", "workers", "step_token", "step_end", "finished", "forbidden",
      "forbid_ends", "joined_tail", "finish_tokens"}},
    {"shared.workers[]", {"begin", "step_begin"}},
};

const char *const *cop_dialect_keys(const char *object) {
    size_t bytes = strlen(object);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strlen(known[i].object) == bytes && memcmp(known[i].object, object, bytes) == 0)
            return known[i].keys;
    return NULL;
}

const char *cop_element_name(cop_element element) {
    return (unsigned)element < COP_EL_COUNT ? cop__dialect_elements[element] : "unknown";
}

const char *cop_join_rule_name(cop_join_rule rule) {
    return (unsigned)rule <= COP_JOIN_ASYNC ? join_names[rule] : "unknown";
}

/* `line`: it may begin with a newline, and then stands at the beginning of a line. */
static cop_status load_tag(const cop_json *object, const char *key, cop_json_presence presence,
                           bool line, cop_tag *tag) {
    *tag = (cop_tag){"", 0};
    COP_TRY(cop_json_text(object, key, presence, &tag->text));
    const size_t bytes = strlen(tag->text);
    line = line && tag->text[0] == '\n';
    if (bytes > COP_TAG_BYTES_MAX)
        return cop_json_fail(object, key, "has %zu bytes; a tag has at most %d", bytes,
                             COP_TAG_BYTES_MAX);
    if (strchr(tag->text + line, '\n'))
        return cop_json_fail(object, key,
                             "holds a newline; leave it out: the newline before a tag is taken "
                             "with the tag");
    if (line && bytes == 1)
        return cop_json_fail(object, key, "begins with a newline: give 1 to %d bytes behind it",
                             COP_TAG_BYTES_MAX - 1);
    tag->bytes = (uint32_t)bytes;
    return COP_OK;
}

cop_status cop__dialect_tag(const cop_json *object, const char *key, cop_json_presence presence,
                            cop_tag *tag) {
    return load_tag(object, key, presence, false, tag);
}

/* Implied tags: see the head of dialect.h. */
static bool may_lack(cop_element element, bool closing) {
    return closing ? element == COP_EL_ITEM || element == COP_EL_BLOCK
                   : element == COP_EL_BLOCK || element == COP_EL_PLAN;
}

static cop_status load_tags(const cop_json *root, cop_dialect *dialect) {
    cop_json tags;
    for (int e = 0; e < COP_EL_COUNT; e++)
        dialect->open[e] = dialect->close[e] = (cop_tag){"", 0};
    COP_TRY(cop_json_object(root, "tags", COP_JSON_OPTIONAL, &tags));
    if (!tags.value)
        return COP_OK;
    COP_TRY(cop_json_only(&tags, cop_dialect_keys("tags")));
    for (int e = 0; e < COP_EL_COUNT; e++) {
        cop_json element;
        COP_TRY(cop_json_object(&tags, cop__dialect_elements[e], COP_JSON_OPTIONAL, &element));
        if (!element.value)
            continue;
        COP_TRY(
            cop_json_only(&element, cop_dialect_keys(e == COP_EL_JOIN ? "tags.join" : "tags.*")));
        if (e == COP_EL_JOIN)
            COP_TRY(cop_json_bool(&element, "outside", COP_JSON_OPTIONAL, &dialect->join_outside));
        /* What opens an item that nothing closes may be a line's beginning ("\n- "). */
        const bool line = e == COP_EL_ITEM && !json_object_get(element.value, "close");
        for (int closing = 0; closing < 2; closing++)
            COP_TRY(
                load_tag(&element, closing ? "close" : "open",
                         may_lack((cop_element)e, closing) ? COP_JSON_OPTIONAL : COP_JSON_REQUIRED,
                         line, closing ? &dialect->close[e] : &dialect->open[e]));
    }
    return COP_OK;
}

cop_status cop__dialect_text(const cop_json *object, const char *key, const char **out) {
    json_t *value = json_object_get(object->value, key);
    if (!value)
        return COP_OK;
    if (json_is_string(value) && json_string_length(value) == 0) {
        *out = "";
        return COP_OK;
    }
    COP_TRY(cop_json_text(object, key, COP_JSON_REQUIRED, out));
    if (strlen(*out) > COP_DIALECT_TEXT_MAX)
        return cop_json_fail(object, key, "has %zu bytes; give at most %d", strlen(*out),
                             COP_DIALECT_TEXT_MAX);
    return COP_OK;
}

static cop_status load_reply(const cop_json *root, cop_dialect *dialect) {
    cop_json reply, from;
    dialect->reply_otherwise = "";
    COP_TRY(cop_json_object(root, "reply", COP_JSON_OPTIONAL, &reply));
    if (!reply.value)
        return COP_OK;
    COP_TRY(cop_json_only(&reply, cop_dialect_keys("reply")));
    COP_TRY(cop_json_text(&reply, "otherwise", COP_JSON_REQUIRED, &dialect->reply_otherwise));
    COP_TRY(cop_json_array(&reply, "from", COP_JSON_REQUIRED, &from));
    if (cop_json_count(&from) > COP_REPLY_TAGS_MAX)
        return cop_json_fail(&reply, "from", "has %zu texts; give at most %d",
                             cop_json_count(&from), COP_REPLY_TAGS_MAX);
    for (size_t i = 0; i < cop_json_count(&from); i++) {
        cop_json item = cop_json_at(&from, i);
        COP_TRY(cop__dialect_tag(&item, NULL, COP_JSON_REQUIRED, &dialect->reply_from[i]));
        dialect->n_reply_from++;
    }
    return COP_OK;
}

static cop_status load_prompts(const cop_json *root, cop_dialect *dialect) {
    dialect->prompt = dialect->branch_prompt = dialect->join_prompt = dialect->spawn_prompt = "";
    COP_TRY(cop__dialect_text(root, "prompt", &dialect->prompt));
    COP_TRY(cop__dialect_text(root, "branch_prompt", &dialect->branch_prompt));
    COP_TRY(cop__dialect_text(root, "join_prompt", &dialect->join_prompt));
    COP_TRY(cop__dialect_text(root, "spawn_prompt", &dialect->spawn_prompt));
    if (!dialect->prompt[0])
        dialect->prompt = "{problem}";
    COP_TRY(cop_json_u32(root, "ask_paths", 1, UINT16_MAX, COP_JSON_OPTIONAL, &dialect->ask_paths));
    COP_TRY(cop__dialect_tag(root, "success", COP_JSON_OPTIONAL, &dialect->success));
    COP_TRY(cop__dialect_tag(root, "answer_after", COP_JSON_OPTIONAL, &dialect->answer_after));
    return load_reply(root, dialect);
}

static cop_status load_rules(const cop_json *root, cop_dialect *dialect) {
    uint32_t join = 0, positions = 0, reuse = 0, path_end = 0, refused = 0;
    COP_TRY(cop_json_choice(root, "join", join_names, COP_JSON_REQUIRED, &join));
    COP_TRY(cop_json_choice(root, "positions", position_names, COP_JSON_OPTIONAL, &positions));
    COP_TRY(cop_json_choice(root, "reuse", reuse_names, COP_JSON_OPTIONAL, &reuse));
    COP_TRY(cop_json_choice(root, "path_end", path_end_names, COP_JSON_OPTIONAL, &path_end));
    COP_TRY(cop_json_choice(root, "refused", refusal_names, COP_JSON_OPTIONAL, &refused));
    dialect->refused = (cop_refusal)refused;
    dialect->join = (cop_join_rule)join;
    dialect->positions = (cop_position_rule)positions;
    dialect->reuse = (cop_reuse)reuse;
    dialect->path_end = (cop_path_end)path_end;
    uint32_t zero = refused, many = refused;
    COP_TRY(cop_json_choice(root, "on_zero_items", refusal_names, COP_JSON_OPTIONAL, &zero));
    COP_TRY(cop_json_choice(root, "on_too_many", refusal_names, COP_JSON_OPTIONAL, &many));
    dialect->on_zero_items = (cop_refusal)zero;
    dialect->on_too_many = (cop_refusal)many;
    dialect->zero_set = cop_json_has(root, "on_zero_items");
    dialect->many_set = cop_json_has(root, "on_too_many");
    return COP_OK;
}

static cop_status load_limits(const cop_json *root, cop_dialect *dialect) {
    COP_TRY(cop_json_bool(root, "nested", COP_JSON_OPTIONAL, &dialect->nested));
    COP_TRY(cop_json_u32(root, "max_paths", 0, UINT16_MAX, COP_JSON_OPTIONAL, &dialect->max_paths));
    COP_TRY(cop_json_u32(root, "max_depth", 0, COP_PARSER_DEPTH_MAX, COP_JSON_OPTIONAL,
                         &dialect->max_depth));
    COP_TRY(
        cop_json_u32(root, "max_blocks", 0, UINT32_MAX, COP_JSON_OPTIONAL, &dialect->max_blocks));
    COP_TRY(cop_json_u32(root, "max_steps", 0, UINT32_MAX, COP_JSON_OPTIONAL, &dialect->max_steps));
    return cop_json_u32(root, "max_path_tokens", 0, UINT32_MAX, COP_JSON_OPTIONAL,
                        &dialect->max_path_tokens);
}

/* "supported" and the reasons, which go together. */
static cop_status load_support(const cop_json *root, cop_dialect_file *file) {
    bool supported = true;
    cop_json list;
    COP_TRY(cop_json_bool(root, "supported", COP_JSON_OPTIONAL, &supported));
    COP_TRY(cop_json_array(root, "unsupported_because", COP_JSON_OPTIONAL, &list));
    file->unsupported = !supported;
    if (supported && list.value)
        return cop_json_fail(root, "unsupported_because",
                             "goes with \"supported\": false; leave it out");
    if (!supported && cop_json_count(&list) == 0)
        return cop_json_fail(root, "unsupported_because",
                             "is needed for \"supported\": false: say what stands in the way");
    if (cop_json_count(&list) > COP_DIALECT_REASONS_MAX)
        return cop_json_fail(root, "unsupported_because", "has %zu reasons; give at most %d",
                             cop_json_count(&list), COP_DIALECT_REASONS_MAX);
    for (size_t i = 0; i < cop_json_count(&list); i++) {
        cop_json reason = cop_json_at(&list, i);
        COP_TRY(cop_json_text(&reason, NULL, COP_JSON_REQUIRED, &file->reasons[i]));
        file->n_reasons++;
    }
    COP_TRY(cop_json_array(root, "notes", COP_JSON_OPTIONAL, &list));
    for (size_t i = 0; i < cop_json_count(&list); i++) {
        cop_json note = cop_json_at(&list, i);
        const char *text;
        COP_TRY(cop_json_text(&note, NULL, COP_JSON_REQUIRED, &text));
    }
    return COP_OK;
}

cop_status cop__dialect_load(cop_dialect_file *file) {
    const cop_json *root = &file->root;
    cop_dialect *dialect = &file->dialect;
    COP_TRY(cop_json_only(root, cop_dialect_keys("")));
    COP_TRY(cop_json_text(root, "name", COP_JSON_REQUIRED, &dialect->name));
    COP_TRY(cop_json_text(root, "source", COP_JSON_REQUIRED, &dialect->source));
    COP_TRY(load_support(root, file));
    COP_TRY(load_rules(root, dialect));
    COP_TRY(load_prompts(root, dialect));
    COP_TRY(load_limits(root, dialect));
    COP_TRY(load_tags(root, dialect));
    COP_TRY(cop__dialect_load_more(root, dialect));
    COP_TRY(cop__dialect_load_async(root, dialect));
    COP_TRY(cop__dialect_load_program(root, dialect));
    COP_TRY(cop__dialect_load_shared(root, dialect));
    const char *lacks = cop__dialect_lacks(root, dialect);
    if (lacks && !file->unsupported)
        return cop_json_fail(root, lacks,
                             "asks for what this runtime does not do: say \"supported\": false and "
                             "\"unsupported_because\"");
    /* What is not run need not be whole. */
    return file->unsupported ? COP_OK : cop__dialect_check(root, dialect);
}
