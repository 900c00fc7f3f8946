#include "reason/dialect.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/json.h"
#include "config/paths.h"
#include "reason/parser.h"

enum { PROMPT_BYTES_MAX = 512, NAME_BYTES_MAX = 64, FILE_PATH_BYTES = 4096 };

struct cop_dialect_file {
    cop_json root; /* the strings of `dialect` borrow from it */
    cop_dialect dialect;
};

static const char *const element_names[] = {"root", "block", "plan", "item", "path", "join", NULL};
static const char *const join_names[] = {"none", "reprefill", "stitch", "message", NULL};
static const char *const position_names[] = {"next", "equal_start_max", NULL};
static const char *const reuse_names[] = {"none", "longest_prefix", NULL};
static const char *const path_end_names[] = {"joins", "ends_run", NULL};
static const char *const refusal_names[] = {"decodes_on", "ends_run", NULL};

const char *cop_element_name(cop_element element) {
    return (unsigned)element < COP_EL_COUNT ? element_names[element] : "unknown";
}

const char *cop_join_rule_name(cop_join_rule rule) {
    return (unsigned)rule <= COP_JOIN_MESSAGE ? join_names[rule] : "unknown";
}

static cop_status check_tag(const cop_json *object, const char *key, cop_tag *tag) {
    size_t bytes = strlen(tag->text);
    if (bytes > COP_TAG_BYTES_MAX)
        return cop_json_fail(object, key, "has %zu bytes; a tag has at most %d", bytes,
                             COP_TAG_BYTES_MAX);
    if (strchr(tag->text, '\n'))
        return cop_json_fail(object, key,
                             "holds a newline; leave it out: the newline before a tag is taken "
                             "with the tag");
    tag->bytes = (uint32_t)bytes;
    return COP_OK;
}

static cop_status load_tag(const cop_json *object, const char *key, cop_json_presence presence,
                           cop_tag *tag) {
    *tag = (cop_tag){"", 0};
    COP_TRY(cop_json_text(object, key, presence, &tag->text));
    return check_tag(object, key, tag);
}

/* Implied tags: see the head of dialect.h. */
static bool may_lack(cop_element element, bool closing) {
    return closing ? element == COP_EL_ITEM : element == COP_EL_BLOCK || element == COP_EL_PLAN;
}

static cop_status load_tags(const cop_json *root, cop_dialect *dialect) {
    cop_json tags;
    for (int e = 0; e < COP_EL_COUNT; e++)
        dialect->open[e] = dialect->close[e] = (cop_tag){"", 0};
    COP_TRY(cop_json_object(root, "tags", COP_JSON_OPTIONAL, &tags));
    if (!tags.value)
        return COP_OK;
    COP_TRY(cop_json_only(&tags, element_names));
    for (int e = 0; e < COP_EL_COUNT; e++) {
        cop_json element;
        COP_TRY(cop_json_object(&tags, element_names[e], COP_JSON_OPTIONAL, &element));
        if (!element.value)
            continue;
        COP_TRY(COP_JSON_ONLY(&element, "open", "close"));
        for (int closing = 0; closing < 2; closing++)
            COP_TRY(
                load_tag(&element, closing ? "close" : "open",
                         may_lack((cop_element)e, closing) ? COP_JSON_OPTIONAL : COP_JSON_REQUIRED,
                         closing ? &dialect->close[e] : &dialect->open[e]));
    }
    return COP_OK;
}

/* Unlike cop_json_text, "" is a value here: a dialect may insert nothing. */
static cop_status load_prompt(const cop_json *root, const char *key, const char **out) {
    *out = "";
    json_t *value = json_object_get(root->value, key);
    if (!value || (json_is_string(value) && json_string_length(value) == 0))
        return COP_OK;
    COP_TRY(cop_json_text(root, key, COP_JSON_REQUIRED, out));
    if (strlen(*out) > PROMPT_BYTES_MAX)
        return cop_json_fail(root, key, "has %zu bytes; give at most %d", strlen(*out),
                             PROMPT_BYTES_MAX);
    return COP_OK;
}

/* A tag is found at the byte that completes it. So one that holds another before its own end could
 * never be found: the inner one is complete first. */
static cop_status check_tags(const cop_json *root, const cop_dialect *dialect) {
    const cop_tag *tags[2 * COP_EL_COUNT];
    for (int e = 0; e < COP_EL_COUNT; e++) {
        tags[2 * e] = &dialect->open[e];
        tags[2 * e + 1] = &dialect->close[e];
    }
    for (int i = 0; i < 2 * COP_EL_COUNT; i++) {
        for (int j = 0; j < 2 * COP_EL_COUNT; j++) {
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

static cop_status check_sequential(const cop_json *root, const cop_dialect *dialect) {
    static const char *const forking[] = {"branch_prompt", "join_prompt", "spawn_prompt",
                                          "reply",         "ask_paths",   "success"};
    for (int e = COP_EL_BLOCK; e < COP_EL_COUNT; e++)
        if (dialect->open[e].bytes || dialect->close[e].bytes)
            return cop_json_fail(root, "tags", "must not have \"%s\" when \"join\" is \"none\"",
                                 element_names[e]);
    for (size_t i = 0; i < sizeof forking / sizeof forking[0]; i++)
        if (cop_json_has(root, forking[i]))
            return cop_json_fail(root, forking[i], "must be left out when \"join\" is \"none\"");
    if (dialect->positions != COP_POSITIONS_NEXT)
        return cop_json_fail(root, "positions", "must be \"next\" when \"join\" is \"none\"");
    return COP_OK;
}

static cop_status check_implied(const cop_json *root, const cop_dialect *d) {
    if (!d->open[COP_EL_ITEM].bytes || !d->open[COP_EL_PATH].bytes ||
        (!d->open[COP_EL_BLOCK].bytes && !d->close[COP_EL_BLOCK].bytes))
        return cop_json_fail(root, "tags",
                             "lacks \"%s\": a dialect that forks needs block, item and path",
                             !d->open[COP_EL_ITEM].bytes   ? "item"
                             : !d->open[COP_EL_PATH].bytes ? "path"
                                                           : "block");
    if (!d->open[COP_EL_BLOCK].bytes && d->open[COP_EL_PLAN].bytes)
        return cop_json_fail(root, "tags",
                             "has a block that begins with its first item, but a "
                             "plan with \"open\": give the block one as well");
    if (!d->close[COP_EL_ITEM].bytes && !d->close[COP_EL_PLAN].bytes)
        return cop_json_fail(root, "tags",
                             "has items without \"close\" and no plan that ends the "
                             "last one: give either its \"close\"");
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
    COP_TRY(check_implied(root, dialect));
    if (!strstr(dialect->branch_prompt, dialect->open[COP_EL_PATH].text))
        return cop_json_fail(root, "branch_prompt",
                             "must hold the path's opening tag '%s': each child is given it",
                             dialect->open[COP_EL_PATH].text);
    if (!cop_dialect_mark(dialect->branch_prompt).bytes)
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

static cop_status load_reply(const cop_json *root, cop_dialect *dialect) {
    cop_json reply, from;
    dialect->reply_otherwise = "";
    COP_TRY(cop_json_object(root, "reply", COP_JSON_OPTIONAL, &reply));
    if (!reply.value)
        return COP_OK;
    COP_TRY(COP_JSON_ONLY(&reply, "from", "otherwise"));
    COP_TRY(cop_json_text(&reply, "otherwise", COP_JSON_REQUIRED, &dialect->reply_otherwise));
    COP_TRY(cop_json_array(&reply, "from", COP_JSON_REQUIRED, &from));
    if (cop_json_count(&from) > COP_REPLY_TAGS_MAX)
        return cop_json_fail(&reply, "from", "has %zu texts; give at most %d",
                             cop_json_count(&from), COP_REPLY_TAGS_MAX);
    for (size_t i = 0; i < cop_json_count(&from); i++) {
        cop_json item = cop_json_at(&from, i);
        COP_TRY(load_tag(&item, NULL, COP_JSON_REQUIRED, &dialect->reply_from[i]));
        dialect->n_reply_from++;
    }
    return COP_OK;
}

static cop_status load_prompts(const cop_json *root, cop_dialect *dialect) {
    COP_TRY(load_prompt(root, "prompt", &dialect->prompt));
    COP_TRY(load_prompt(root, "branch_prompt", &dialect->branch_prompt));
    COP_TRY(load_prompt(root, "join_prompt", &dialect->join_prompt));
    COP_TRY(load_prompt(root, "spawn_prompt", &dialect->spawn_prompt));
    if (!dialect->prompt[0])
        dialect->prompt = "{problem}";
    COP_TRY(cop_json_u32(root, "ask_paths", 1, UINT16_MAX, COP_JSON_OPTIONAL, &dialect->ask_paths));
    if (!strstr(dialect->prompt, "{problem}"))
        return cop_json_fail(root, "prompt", "must hold {problem}, in whose place its text stands");
    if (!strstr(dialect->prompt, "{k}") != !dialect->ask_paths)
        return cop_json_fail(root, "ask_paths",
                             "goes with {k} in \"prompt\", the number of paths asked for: give "
                             "both or neither");
    COP_TRY(load_tag(root, "success", COP_JSON_OPTIONAL, &dialect->success));
    COP_TRY(load_tag(root, "answer_after", COP_JSON_OPTIONAL, &dialect->answer_after));
    return load_reply(root, dialect);
}

static cop_status load(const cop_json *root, cop_dialect *dialect) {
    uint32_t join = 0, positions = 0, reuse = 0, path_end = 0, refused = 0;
    COP_TRY(COP_JSON_ONLY(root, "name", "source", "join", "positions", "reuse", "path_end",
                          "refused", "tags", "prompt", "ask_paths", "branch_prompt", "join_prompt",
                          "spawn_prompt", "reply", "success", "answer_after", "nested", "max_paths",
                          "max_depth", "max_blocks", "max_path_tokens"));
    COP_TRY(cop_json_text(root, "name", COP_JSON_REQUIRED, &dialect->name));
    COP_TRY(cop_json_text(root, "source", COP_JSON_REQUIRED, &dialect->source));
    COP_TRY(cop_json_choice(root, "join", join_names, COP_JSON_REQUIRED, &join));
    COP_TRY(cop_json_choice(root, "positions", position_names, COP_JSON_OPTIONAL, &positions));
    COP_TRY(cop_json_choice(root, "reuse", reuse_names, COP_JSON_OPTIONAL, &reuse));
    COP_TRY(cop_json_choice(root, "path_end", path_end_names, COP_JSON_OPTIONAL, &path_end));
    COP_TRY(cop_json_choice(root, "refused", refusal_names, COP_JSON_OPTIONAL, &refused));
    COP_TRY(load_prompts(root, dialect));
    COP_TRY(cop_json_bool(root, "nested", COP_JSON_OPTIONAL, &dialect->nested));
    COP_TRY(cop_json_u32(root, "max_paths", 0, UINT16_MAX, COP_JSON_OPTIONAL, &dialect->max_paths));
    COP_TRY(cop_json_u32(root, "max_depth", 0, COP_PARSER_DEPTH_MAX, COP_JSON_OPTIONAL,
                         &dialect->max_depth));
    COP_TRY(
        cop_json_u32(root, "max_blocks", 0, UINT32_MAX, COP_JSON_OPTIONAL, &dialect->max_blocks));
    COP_TRY(cop_json_u32(root, "max_path_tokens", 0, UINT32_MAX, COP_JSON_OPTIONAL,
                         &dialect->max_path_tokens));
    COP_TRY(load_tags(root, dialect));
    dialect->refused = (cop_refusal)refused;
    dialect->join = (cop_join_rule)join;
    dialect->positions = (cop_position_rule)positions;
    dialect->reuse = (cop_reuse)reuse;
    dialect->path_end = (cop_path_end)path_end;
    if (dialect->reuse != COP_REUSE_NONE && dialect->join != COP_JOIN_REPREFILL)
        return cop_json_fail(root, "reuse", "is for \"join\": \"reprefill\" only; leave it out");
    COP_TRY(check_tags(root, dialect));
    return dialect->join == COP_JOIN_NONE ? check_sequential(root, dialect)
                                          : check_forking(root, dialect);
}

cop_status cop_dialect_load(const char *path, cop_dialect_file **out) {
    *out = NULL;
    cop_dialect_file *file = cop_calloc(1, sizeof *file);
    if (!file)
        return COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory for a dialect", path);
    cop_status status = cop_json_load(path, &file->root);
    if (status == COP_OK)
        status = load(&file->root, &file->dialect);
    if (status == COP_OK)
        *out = file;
    else
        cop_dialect_close(file);
    return status;
}

cop_status cop_dialect_open(const char *name, cop_dialect_file **out) {
    char root[COP_PATH_BYTES];
    size_t bytes = strlen(name);
    if (strchr(name, '/') || (bytes > 5 && strcmp(name + bytes - 5, ".json") == 0))
        return cop_dialect_load(name, out);
    COP_TRY(cop_root_folder(root));
    return cop_dialect_load_named(root, name, out);
}

void cop_dialect_close(cop_dialect_file *file) {
    if (!file)
        return;
    cop_json_release(&file->root);
    cop_free(file);
}

const cop_dialect *cop_dialect_of(const cop_dialect_file *file) {
    return &file->dialect;
}

static int is_preset(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return dot && dot != entry->d_name && strcmp(dot, ".json") == 0;
}

static cop_status fail_unknown(const char *folder, const char *name) {
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_preset, alphasort);
    if (n < 0)
        return COP_FAIL(COP_ERR_IO, "%s: the folder of dialects cannot be read: %s", folder,
                        strerror(errno));
    char list[512] = "";
    size_t used = 0;
    for (int i = 0; i < n; i++) {
        size_t bytes = strlen(entries[i]->d_name) - strlen(".json");
        if (used + bytes + 3 < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%.*s", used ? ", " : "",
                                     (int)bytes, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return COP_FAIL(COP_ERR_CONFIG, "%s: no dialect '%.64s'; known are: %s", folder, name,
                    used ? list : "none");
}

cop_status cop_dialect_load_named(const char *root, const char *name, cop_dialect_file **out) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    char folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES + NAME_BYTES_MAX + 8];
    *out = NULL;
    int used = snprintf(folder, sizeof folder, "%s/configs/dialects", root);
    if (used < 0 || (size_t)used >= sizeof folder)
        return COP_FAIL(COP_ERR_IO, "%.64s..: the path is longer than %d bytes", root,
                        FILE_PATH_BYTES);
    size_t bytes = strlen(name);
    if (bytes == 0 || bytes > NAME_BYTES_MAX || strspn(name, allowed) != bytes)
        return fail_unknown(folder, name);
    snprintf(path, sizeof path, "%s/%s.json", folder, name);
    FILE *probe = fopen(path, "rb");
    if (!probe && errno == ENOENT)
        return fail_unknown(folder, name);
    if (probe)
        fclose(probe);
    COP_TRY(cop_dialect_load(path, out));
    if (strcmp((*out)->dialect.name, name) != 0) {
        cop_status status = cop_json_fail(&(*out)->root, "name", "is '%.64s'; the file is named %s",
                                          (*out)->dialect.name, name);
        cop_dialect_close(*out);
        *out = NULL;
        return status;
    }
    return COP_OK;
}

cop_status cop_dialect_fill(const cop_dialect *dialect, const char *pattern, const char *problem,
                            size_t bytes, uint32_t paths, cop_buffer *out) {
    static const char problem_mark[] = "{problem}", paths_mark[] = "{k}";
    for (const char *at = pattern; *at;) {
        const char *mark = strchr(at, '{');
        size_t plain = mark ? (size_t)(mark - at) : strlen(at);
        COP_TRY(cop_buffer_append(out, at, plain));
        at += plain;
        if (strncmp(at, problem_mark, sizeof problem_mark - 1) == 0) {
            COP_TRY(cop_buffer_append(out, problem, bytes));
            at += sizeof problem_mark - 1;
        } else if (strncmp(at, paths_mark, sizeof paths_mark - 1) == 0) {
            COP_TRY(cop_buffer_printf(out, "%u", paths ? paths : dialect->ask_paths));
            at += sizeof paths_mark - 1;
        } else if (*at) {
            COP_TRY(cop_buffer_append(out, at++, 1));
        }
    }
    return COP_OK;
}

cop_mark cop_dialect_mark(const char *text) {
    for (const char *at = text; (at = strchr(at, '{')); at++) {
        if (strncmp(at, "{n}", 3) == 0)
            return (cop_mark){at, 3, true};
        if (strncmp(at, "{item}", 6) == 0)
            return (cop_mark){at, 6, false};
    }
    return (cop_mark){0};
}

static cop_status append(char *out, size_t capacity, size_t *used, const char *text, size_t bytes) {
    if (capacity - *used <= bytes)
        return COP_FAIL(COP_ERR_NO_ROOM, "a branch prompt needs more than %zu bytes", capacity);
    memcpy(out + *used, text, bytes);
    *used += bytes;
    out[*used] = '\0';
    return COP_OK;
}

cop_status cop_dialect_branch_prompt(const cop_dialect *dialect, const uint32_t *path,
                                     uint32_t n_path, const char *item, size_t item_bytes,
                                     char *out, size_t capacity, size_t *bytes) {
    *bytes = 0;
    if (capacity == 0)
        return COP_FAIL(COP_ERR_NO_ROOM, "a branch prompt needs more than 0 bytes");
    out[0] = '\0';
    const char *at = dialect->branch_prompt;
    cop_mark mark;
    for (; (mark = cop_dialect_mark(at)).bytes; at = mark.at + mark.bytes) {
        COP_TRY(append(out, capacity, bytes, at, (size_t)(mark.at - at)));
        if (!mark.number)
            COP_TRY(append(out, capacity, bytes, item, item_bytes));
        for (uint32_t i = 0; mark.number && i < n_path; i++) {
            char text[16];
            int n = snprintf(text, sizeof text, i ? ".%u" : "%u", path[i]);
            COP_TRY(append(out, capacity, bytes, text, (size_t)n));
        }
    }
    return append(out, capacity, bytes, at, strlen(at));
}
