/* JSONL -> trajectories. A file is checked as a whole: pieces of one trajectory hold the same kinds
 * of record (all text, all ids, all counts), and the counts in its head are those of its tree. */
#include "reason/trajectory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/json.h"
#include "reason/parser.h"
#include "reason/trajectory_internal.h"

enum { PIECE_TOKENS_MAX = 1 << 24, TRAJECTORY_TOKENS_MAX = 1 << 28, SOURCE_BYTES = 4200 };

typedef struct reader {
    cop_arena *arena;
    cop_trajectory tree;
    uint32_t level;
    uint64_t n_pieces, n_text, n_ids, n_counted, tokens;
} reader;

static const char *const forced_names[] = {"branch", "join", NULL};

static cop_status read_text(reader *r, const cop_json *json, cop_piece *piece) {
    const char *text = NULL;
    COP_TRY(cop_json_text(json, "text", COP_JSON_OPTIONAL, &text));
    if (!text)
        return COP_OK;
    piece->bytes = json_string_length(json_object_get(json->value, "text"));
    piece->text = cop_arena_strndup(r->arena, text, piece->bytes);
    if (!piece->text)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a piece of %zu bytes", piece->bytes);
    r->n_text++;
    return COP_OK;
}

static cop_status read_ids(reader *r, const cop_json *json, cop_piece *piece) {
    cop_json array;
    COP_TRY(cop_json_array(json, "ids", COP_JSON_OPTIONAL, &array));
    if (!array.value)
        return COP_OK;
    size_t n = cop_json_count(&array);
    if (n > PIECE_TOKENS_MAX)
        return cop_json_fail(json, "ids", "holds %zu ids; a piece has at most %d", n,
                             PIECE_TOKENS_MAX);
    int32_t *ids = cop_arena_calloc(r->arena, n ? n : 1, sizeof *ids);
    if (!ids)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %zu ids", n);
    for (size_t i = 0; i < n; i++) {
        cop_json item = cop_json_at(&array, i);
        int64_t id;
        COP_TRY(cop_json_i64(&item, NULL, 0, INT32_MAX, COP_JSON_REQUIRED, &id));
        ids[i] = (int32_t)id;
    }
    if (cop_json_has(json, "n") && piece->n != n)
        return cop_json_fail(json, "n", "is %u and \"ids\" holds %zu", piece->n, n);
    r->n_counted += !cop_json_has(json, "n");
    r->n_ids++;
    piece->ids = ids;
    piece->n = (uint32_t)n;
    return COP_OK;
}

static cop_status read_plain(reader *r, const cop_json *json, cop_piece *piece) {
    uint32_t forced = 0;
    COP_TRY(COP_JSON_ONLY(json, "text", "n", "ids", "forced"));
    COP_TRY(cop_json_u32(json, "n", 0, PIECE_TOKENS_MAX, COP_JSON_OPTIONAL, &piece->n));
    r->n_counted += cop_json_has(json, "n");
    COP_TRY(read_text(r, json, piece));
    COP_TRY(read_ids(r, json, piece));
    if (cop_json_has(json, "forced")) {
        COP_TRY(cop_json_choice(json, "forced", forced_names, COP_JSON_REQUIRED, &forced));
        piece->forced = forced == 0 ? COP_FORCED_BRANCH : COP_FORCED_JOIN;
    }
    if (!piece->text && !piece->ids && !cop_json_has(json, "n"))
        return cop_json_fail(json, NULL, "is a piece without \"text\", \"ids\" or \"n\"");
    r->n_pieces++;
    r->tokens += piece->n;
    if (r->tokens > TRAJECTORY_TOKENS_MAX)
        return cop_json_fail(json, "n", "brings the trajectory over %d tokens",
                             TRAJECTORY_TOKENS_MAX);
    return COP_OK;
}

static cop_status read_stream(reader *r, const cop_json *array, bool is_path, cop_stream *out);

static cop_status read_block(reader *r, const cop_json *json, cop_piece *piece) {
    cop_json array;
    COP_TRY(COP_JSON_ONLY(json, "block"));
    COP_TRY(cop_json_array(json, "block", COP_JSON_REQUIRED, &array));
    size_t n = cop_json_count(&array);
    if (n == 0 || n > UINT16_MAX)
        return cop_json_fail(json, "block", "has %zu paths; give 1 to %d", n, UINT16_MAX);
    if (r->level == COP_PARSER_DEPTH_MAX)
        return cop_json_fail(json, "block", "is nested deeper than %d", COP_PARSER_DEPTH_MAX);
    cop_block *block = cop_arena_calloc(r->arena, 1, sizeof *block);
    cop_stream *paths = cop_arena_calloc(r->arena, n, sizeof *paths);
    if (!block || !paths)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a block of %zu paths", n);
    *block = (cop_block){paths, (uint32_t)n};
    piece->block = block;
    r->level++;
    if (r->level > r->tree.depth)
        r->tree.depth = r->level;
    r->tree.blocks++;
    r->tree.paths += (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        cop_json path = cop_json_at(&array, i);
        COP_TRY(cop_json_array(&path, NULL, COP_JSON_REQUIRED, &path));
        if (cop_json_count(&path) == 0)
            return cop_json_fail(&path, NULL, "is a path without pieces");
        COP_TRY(read_stream(r, &path, true, &paths[i]));
    }
    r->level--;
    return COP_OK;
}

static bool next_is_block(const cop_json *array, size_t i) {
    if (i + 1 >= cop_json_count(array))
        return false;
    cop_json next = cop_json_at(array, i + 1);
    return json_is_object(next.value) && cop_json_has(&next, "block");
}

static cop_status read_stream(reader *r, const cop_json *array, bool is_path, cop_stream *out) {
    size_t n = cop_json_count(array);
    bool block_seen = false;
    *out = (cop_stream){0};
    if (n == 0)
        return COP_OK;
    if (n > UINT32_MAX / 2)
        return cop_json_fail(array, NULL, "holds %zu pieces", n);
    out->pieces = cop_arena_calloc(r->arena, n, sizeof *out->pieces);
    if (!out->pieces)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %zu pieces", n);
    out->n_pieces = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        cop_json item = cop_json_at(array, i);
        cop_piece *piece = &out->pieces[i];
        COP_TRY(cop_json_object(&item, NULL, COP_JSON_REQUIRED, &item));
        if (cop_json_has(&item, "block")) {
            COP_TRY(read_block(r, &item, piece));
            block_seen = true;
            continue;
        }
        COP_TRY(read_plain(r, &item, piece));
        if (piece->forced == COP_FORCED_BRANCH && !(is_path && i == 0) && !next_is_block(array, i))
            return cop_json_fail(&item, "forced",
                                 "is \"branch\": only a path's first piece is, or the last one "
                                 "before a block");
        if (piece->forced == COP_FORCED_JOIN && !block_seen)
            return cop_json_fail(&item, "forced", "is \"join\" with no block before it");
    }
    return COP_OK;
}

static cop_status check_kinds(const reader *r, const cop_json *root) {
    const struct {
        const char *key;
        uint64_t count;
    } kinds[] = {{"text", r->n_text}, {"ids", r->n_ids}, {"n", r->n_counted}};
    if (r->n_pieces == 0)
        return cop_json_fail(root, "stream", "holds no piece");
    for (size_t i = 0; i < 3; i++)
        if (kinds[i].count && kinds[i].count != r->n_pieces)
            return cop_json_fail(
                root, "stream", "has \"%s\" in %llu of %llu pieces; give it in all or in none",
                kinds[i].key, (unsigned long long)kinds[i].count, (unsigned long long)r->n_pieces);
    return COP_OK;
}

static cop_status check_head(const reader *r, const cop_json *root) {
    const struct {
        const char *key;
        uint32_t value;
    } counts[] = {{"blocks", r->tree.blocks}, {"paths", r->tree.paths}, {"depth", r->tree.depth}};
    for (size_t i = 0; i < 3; i++) {
        uint32_t value = 0;
        COP_TRY(cop_json_u32(root, counts[i].key, 0, UINT32_MAX, COP_JSON_REQUIRED, &value));
        if (value != counts[i].value)
            return cop_json_fail(root, counts[i].key, "is %u and the tree has %u", value,
                                 counts[i].value);
    }
    uint64_t tokens = r->tokens;
    COP_TRY(cop_json_u64(root, "tokens", 1, TRAJECTORY_TOKENS_MAX, COP_JSON_OPTIONAL, &tokens));
    if (tokens != r->tokens)
        return cop_json_fail(root, "tokens", "is %llu and the pieces have %llu",
                             (unsigned long long)tokens, (unsigned long long)r->tokens);
    if (r->n_counted && r->tokens == 0)
        return cop_json_fail(root, "stream", "holds no token");
    return COP_OK;
}

static cop_status read_name(reader *r, const cop_json *root, const char *key,
                            cop_json_presence presence, const char **out) {
    const char *text = NULL;
    COP_TRY(cop_json_text(root, key, presence, &text));
    if (!text)
        return COP_OK;
    *out = cop_arena_strndup(r->arena, text, strlen(text));
    return *out ? COP_OK : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for \"%s\"", key);
}

static cop_status read_trajectory(const cop_json *root, cop_trajectories *set) {
    reader r = {.arena = set->arena};
    uint32_t version;
    cop_json prompt, stream;
    COP_TRY(COP_JSON_ONLY(root, "v", "id", "dialect", "source", "blocks", "paths", "depth",
                          "tokens", "tokenizer", "prompt", "stream"));
    COP_TRY(cop_json_u32(root, "v", 1, 1, COP_JSON_REQUIRED, &version));
    r.tree.source = "";
    COP_TRY(read_name(&r, root, "id", COP_JSON_REQUIRED, &r.tree.id));
    COP_TRY(read_name(&r, root, "dialect", COP_JSON_REQUIRED, &r.tree.dialect));
    COP_TRY(read_name(&r, root, "source", COP_JSON_OPTIONAL, &r.tree.source));
    COP_TRY(read_name(&r, root, "tokenizer", COP_JSON_OPTIONAL, &r.tree.tokenizer));
    COP_TRY(cop_json_array(root, "prompt", COP_JSON_OPTIONAL, &prompt));
    COP_TRY(cop_json_array(root, "stream", COP_JSON_REQUIRED, &stream));
    COP_TRY(read_stream(&r, &prompt, false, &r.tree.prompt));
    if (r.tree.blocks)
        return cop_json_fail(root, "prompt", "holds a block; blocks belong in \"stream\"");
    COP_TRY(read_stream(&r, &stream, false, &r.tree.stream));
    COP_TRY(check_kinds(&r, root));
    COP_TRY(check_head(&r, root));
    r.tree.has_text = r.n_text > 0;
    r.tree.n_tokens = r.tokens;
    r.tree.origin = r.n_ids ? COP_TOKENS_RECORDED : COP_TOKENS_NONE;
    return cop__trajectories_add(set, &r.tree);
}

static cop_status read_line(const char *line, size_t bytes, const char *path, uint64_t number,
                            cop_trajectories *set) {
    char source[SOURCE_BYTES];
    cop_json root;
    snprintf(source, sizeof source, "%s:%llu", path, (unsigned long long)number);
    COP_TRY(cop_json_parse(line, bytes, source, &root));
    cop_status status = read_trajectory(&root, set);
    if (status == COP_ERR_FORMAT || status == COP_ERR_NO_MEMORY)
        status = cop_status_prefix(status, "%s", source);
    cop_json_release(&root);
    return status;
}

static cop_status read_file(FILE *file, const char *path, cop_trajectories *set) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t bytes;
    cop_status status = COP_OK;
    errno = 0;
    for (uint64_t number = 1; status == COP_OK && (bytes = getline(&line, &capacity, file)) >= 0;
         number++) {
        if (strspn(line, " \t\r\n") == (size_t)bytes)
            continue;
        status = read_line(line, (size_t)bytes, path, number, set);
        errno = 0;
    }
    if (status == COP_OK && (ferror(file) || errno == ENOMEM))
        status = COP_FAIL(COP_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
    free(line);
    if (status == COP_OK && set->count == 0)
        status = COP_FAIL(COP_ERR_FORMAT, "%s: holds no trajectory; make one with `coppice import`",
                          path);
    return status;
}

/* Closes the file. */
static cop_status read_set(FILE *file, const char *path, cop_trajectories **out) {
    *out = NULL;
    if (!file)
        return COP_FAIL(COP_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    cop_trajectories *set = NULL;
    cop_status status = cop_trajectories_create(&set);
    if (status == COP_OK)
        status = read_file(file, path, set);
    fclose(file);
    if (status == COP_OK)
        *out = set;
    else
        cop_trajectories_destroy(set);
    return status;
}

cop_status cop_trajectories_read(const char *path, cop_trajectories **out) {
    return read_set(fopen(path, "rb"), path, out);
}

cop_status cop_trajectories_read_text(const char *text, size_t bytes, const char *source,
                                      cop_trajectories **out) {
    return read_set(fmemopen((void *)text, bytes, "rb"), source, out); /* it is only read */
}
