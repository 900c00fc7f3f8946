#include "reason/problem_set.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/sha256.h"

enum { LINE_BYTES_MAX = 16 * 1024 * 1024, CHUNK_BYTES = 64 * 1024, SHOWN_BYTES = 160 };

typedef struct owned_set {
    cop_problem_set set; /* what the caller sees stands first */
    size_t capacity;
    cop_arena *arena;
} owned_set;

/* A file line by line and its hash on the way: no more of it is held than the line at hand. */
typedef struct reader {
    FILE *file;
    const char *path;
    cop_sha256 sha;
    cop_buffer line;
    uint64_t number; /* of the line, from 1 */
    size_t at, have;
    char chunk[CHUNK_BYTES];
} reader;

static const char *shown(const char *text, char out[SHOWN_BYTES]) {
    size_t used = 0;
    for (; text[used] && used + 1 < SHOWN_BYTES; used++)
        out[used] = text[used] < 0x20 || text[used] > 0x7e ? '?' : text[used];
    out[used] = '\0';
    return out;
}

/* at == have afterwards: the file's end. */
static cop_status fill(reader *r) {
    if (r->at < r->have)
        return COP_OK;
    r->at = 0;
    r->have = fread(r->chunk, 1, sizeof r->chunk, r->file);
    if (ferror(r->file))
        return COP_FAIL(COP_ERR_IO, "%s: cannot be read: %s", r->path, strerror(errno));
    cop_sha256_add(&r->sha, r->chunk, r->have);
    return COP_OK;
}

/* *found is false at the end of the file; a last line needs no newline. */
static cop_status next_line(reader *r, bool *found) {
    r->line.bytes = 0;
    COP_TRY(fill(r));
    *found = r->at < r->have;
    if (!*found)
        return COP_OK;
    r->number++;
    while (r->at < r->have) {
        const char *begin = r->chunk + r->at;
        const char *newline = memchr(begin, '\n', r->have - r->at);
        size_t bytes = newline ? (size_t)(newline - begin) : r->have - r->at;
        if (r->line.bytes + bytes > LINE_BYTES_MAX)
            return COP_FAIL(COP_ERR_FORMAT,
                            "the line has more than %d bytes; a problem set holds one problem a "
                            "line",
                            LINE_BYTES_MAX);
        COP_TRY(cop_buffer_append(&r->line, begin, bytes));
        r->at += bytes + (newline != NULL);
        if (newline)
            return COP_OK;
        COP_TRY(fill(r));
    }
    return COP_OK;
}

static cop_status check_keys(json_t *object) {
    static const char *const known[] = {"id", "prompt", "answer", "meta"};
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        bool is_known = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            is_known |= strcmp(key, known[i]) == 0;
        char text[SHOWN_BYTES];
        if (!is_known)
            return COP_FAIL(COP_ERR_FORMAT,
                            "\"%s\" is not a known key; known are: id, prompt, answer, meta; put "
                            "notes under \"meta\"",
                            shown(key, text));
    }
    return COP_OK;
}

static cop_status keep_text(owned_set *owned, const json_t *object, const char *key,
                            cop_answer_text *out) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value))
        return COP_FAIL(COP_ERR_FORMAT, "\"%s\" is %s; give a text", key,
                        value ? "not a text" : "missing");
    out->bytes = json_string_length(value);
    out->text = cop_arena_strndup(owned->arena, json_string_value(value), out->bytes);
    if (!out->text)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for \"%s\" of %zu bytes", key, out->bytes);
    return COP_OK;
}

static cop_status read_entry(owned_set *owned, json_t *object, const cop_checker *checker,
                             cop_problem_entry *out) {
    cop_answer_text id;
    const json_t *answer = json_object_get(object, "answer");
    COP_TRY(check_keys(object));
    COP_TRY(keep_text(owned, object, "id", &id));
    COP_TRY(keep_text(owned, object, "prompt", &out->prompt));
    if (answer && !json_is_null(answer))
        COP_TRY(keep_text(owned, object, "answer", &out->answer));
    if (id.bytes == 0 || out->prompt.bytes == 0)
        return COP_FAIL(COP_ERR_FORMAT, "\"%s\" is empty; give a text that is not",
                        id.bytes == 0 ? "id" : "prompt");
    if (strlen(id.text) != id.bytes)
        return COP_FAIL(COP_ERR_FORMAT, "\"id\" holds the character 0; leave it out");
    out->id = id.text;
    return cop_checker_accepts(checker, out->prompt, out->answer);
}

static cop_status read_line(owned_set *owned, const cop_buffer *line, const cop_checker *checker) {
    json_error_t error;
    if (line->bytes == 0)
        return COP_FAIL(COP_ERR_FORMAT, "the line is empty; take it out");
    json_t *object =
        json_loadb(line->data, line->bytes, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
    if (!object) {
        char text[SHOWN_BYTES];
        return COP_FAIL(COP_ERR_FORMAT, "column %d: not valid JSON: %s", error.column,
                        shown(error.text, text));
    }
    cop_status status = COP_OK;
    cop_problem_entry entry = {0};
    if (!json_is_object(object))
        status = COP_FAIL(COP_ERR_FORMAT,
                          "the line is not an object; give {\"id\", \"prompt\", \"answer\"}");
    else if (owned->set.count == UINT32_MAX)
        status = COP_FAIL(COP_ERR_FORMAT, "more than %u problems", UINT32_MAX);
    if (status == COP_OK)
        status = read_entry(owned, object, checker, &entry);
    json_decref(object);
    if (status == COP_OK)
        status = cop_grow(&owned->set.list, &owned->capacity, (size_t)owned->set.count + 1,
                          sizeof entry);
    if (status == COP_OK)
        owned->set.list[owned->set.count++] = entry;
    return status;
}

static int compare_ids(const void *left, const void *right) {
    const cop_problem_entry *a = *(const cop_problem_entry *const *)left;
    const cop_problem_entry *b = *(const cop_problem_entry *const *)right;
    int order = strcmp(a->id, b->id);
    return order ? order : (a > b) - (a < b);
}

/* Names the first line whose id stood before: by sorting, since a hash table could be filled with
 * ids that collide. Every line holds one problem, so a problem's place gives its line. */
static cop_status check_ids(const cop_problem_set *set, const char *path) {
    const cop_problem_entry **sorted = cop_calloc(set->count, sizeof *sorted);
    if (!sorted)
        return COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory to compare %u ids", path, set->count);
    for (uint32_t i = 0; i < set->count; i++)
        sorted[i] = &set->list[i];
    qsort(sorted, set->count, sizeof *sorted, compare_ids);
    const cop_problem_entry *again = NULL, *before = NULL;
    for (uint32_t i = 1; i < set->count; i++) {
        if (strcmp(sorted[i - 1]->id, sorted[i]->id) == 0 && (!again || sorted[i] < again)) {
            again = sorted[i];
            before = sorted[i - 1];
        }
    }
    cop_free(sorted);
    char text[SHOWN_BYTES];
    if (again)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s:%td: the id \"%s\" stands already in line %td; give each problem one "
                        "of its own",
                        path, again - set->list + 1, shown(again->id, text),
                        before - set->list + 1);
    return COP_OK;
}

static cop_status read_lines(reader *r, owned_set *owned, const cop_checker *checker,
                             uint32_t first) {
    bool found = true;
    while (!first || owned->set.count < first) {
        cop_status status = next_line(r, &found);
        if (status == COP_OK && !found)
            break;
        if (status == COP_OK)
            status = read_line(owned, &r->line, checker);
        if (status != COP_OK)
            return status == COP_ERR_IO ? status
                                        : cop_status_prefix(status, "%s:%llu", r->path,
                                                            (unsigned long long)r->number);
    }
    uint32_t count = owned->set.count;
    if (count == 0)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: holds no problem; give one a line, {\"id\", \"prompt\", \"answer\"}",
                        r->path);
    if (count < first)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s: holds %u problems and the first %u are wanted; ask "
                        "for at most %u",
                        r->path, count, first, count);
    return check_ids(&owned->set, r->path);
}

/* The hash names the file, whatever part of it is used. */
static cop_status hash_rest(reader *r, owned_set *owned) {
    do {
        r->at = r->have;
        COP_TRY(fill(r));
    } while (r->have);
    cop_sha256_finish(&r->sha, owned->set.sha256);
    return COP_OK;
}

static cop_status read_file(reader *r, owned_set *owned, const cop_checker *checker,
                            uint32_t first) {
    COP_TRY(cop_arena_create(&owned->arena));
    COP_TRY(read_lines(r, owned, checker, first));
    return hash_rest(r, owned);
}

cop_status cop_problem_set_read(const char *path, const cop_checker *checker, uint32_t first,
                                cop_problem_set **out) {
    *out = NULL;
    FILE *file = fopen(path, "rb");
    if (!file)
        return COP_FAIL(COP_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    cop_status status = COP_OK;
    owned_set *owned = cop_calloc(1, sizeof *owned);
    reader *r = cop_calloc(1, sizeof *r);
    if (!owned || !r) {
        status = COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory to read it", path);
    } else {
        r->file = file;
        r->path = path;
        cop_sha256_begin(&r->sha);
        status = read_file(r, owned, checker, first);
        cop_buffer_release(&r->line);
    }
    fclose(file);
    cop_free(r);
    if (status == COP_OK)
        *out = &owned->set;
    else
        cop_problem_set_destroy((cop_problem_set *)owned);
    return status;
}

void cop_problem_set_destroy(cop_problem_set *set) {
    if (!set)
        return;
    owned_set *owned = (owned_set *)set;
    cop_free(set->list);
    cop_arena_destroy(owned->arena);
    cop_free(owned);
}
