/* Prompts and headers with their placeholders filled in. */
#include <stdio.h>
#include <string.h>

#include "reason/dialect.h"
#include "reason/parser.h"

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

bool cop_dialect_spawns(const cop_dialect *d) {
    return (d->join == COP_JOIN_MESSAGE && !d->program) ||
           (d->join == COP_JOIN_ASYNC && d->async.spawn);
}

uint32_t cop_dialect_calls(const cop_dialect *d) {
    enum { USUAL_PATHS = 8 };
    bool shared = d->charge == COP_CHARGE_GENERATED ||
                  (d->charge == COP_CHARGE_ALL_TOKENS && !d->charge_each_step);
    if (d->join == COP_JOIN_NONE || (shared && !d->program)) /* a program's texts come on top */
        return 1;
    if (d->shared.n_workers) /* steps end within pages, and all may be computed once more */
        return 1 + 2 * d->shared.n_workers;
    return 1 + (d->paths ? d->paths : d->max_paths ? d->max_paths : USUAL_PATHS);
}

size_t cop_dialect_text_end(const char *text, size_t begin, size_t tag) {
    return tag > begin && text[tag - 1] == '\n' ? tag - 1 : tag;
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

cop_status cop_dialect_header(const char *pattern, const char *number, size_t number_bytes,
                              const char *item, size_t item_bytes, char *out, size_t capacity,
                              size_t *bytes) {
    *bytes = 0;
    if (capacity == 0)
        return COP_FAIL(COP_ERR_NO_ROOM, "a branch prompt needs more than 0 bytes");
    out[0] = '\0';
    const char *at = pattern;
    cop_mark mark;
    for (; (mark = cop_dialect_mark(at)).bytes; at = mark.at + mark.bytes) {
        COP_TRY(append(out, capacity, bytes, at, (size_t)(mark.at - at)));
        COP_TRY(append(out, capacity, bytes, mark.number ? number : item,
                       mark.number ? number_bytes : item_bytes));
    }
    return append(out, capacity, bytes, at, strlen(at));
}

cop_status cop_dialect_branch_prompt(const cop_dialect *dialect, const uint32_t *path,
                                     uint32_t n_path, const char *item, size_t item_bytes,
                                     char *out, size_t capacity, size_t *bytes) {
    char number[COP_PARSER_DEPTH_MAX * 12];
    size_t used = 0;
    for (uint32_t i = 0; i < n_path; i++)
        used += (size_t)snprintf(number + used, sizeof number - used, i ? ".%u" : "%u", path[i]);
    return cop_dialect_header(dialect->branch_prompt, number, used, item, item_bytes, out, capacity,
                              bytes);
}
