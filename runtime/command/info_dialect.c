#include "command/info_dialect.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/paths.h"
#include "reason/dialect.h"

static json_t *reasons_of(const cop_dialect_file *file) {
    json_t *reasons = json_array();
    for (uint32_t i = 0; i < cop_dialect_reason_count(file); i++)
        json_array_append_new(reasons, json_string(cop_dialect_reason(file, i)));
    return reasons;
}

cop_status cop_info_dialect(const char *name, json_t **out) {
    cop_dialect_file *file = NULL;
    COP_TRY(cop_dialect_describe(name, &file));
    json_t *one = json_object();
    const char *key;
    json_t *value;
    json_object_set_new(one, "name", json_string(cop_dialect_of(file)->name));
    json_object_set_new(one, "supported", json_boolean(cop_dialect_reason_count(file) == 0));
    if (cop_dialect_reason_count(file) > 0)
        json_object_set_new(one, "unsupported_because", reasons_of(file));
    json_object_foreach((json_t *)cop_dialect_json(file), key, value) {
        if (!json_object_get(one, key))
            json_object_set_new(one, key, json_deep_copy(value));
    }
    cop_dialect_close(file);
    *out = one;
    return COP_OK;
}

static int is_dialect(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return dot && dot != entry->d_name && strcmp(dot, ".json") == 0 &&
           strcmp(entry->d_name, "schema.json") != 0;
}

/* By name, not by file name: "npr" before "npr-corrected". */
static int by_name(const struct dirent **a, const struct dirent **b) {
    size_t one = strlen((*a)->d_name) - 5, other = strlen((*b)->d_name) - 5;
    int order = strncmp((*a)->d_name, (*b)->d_name, one < other ? one : other);
    return order ? order : (int)one - (int)other;
}

/* Tags are no HTML, and a bar ends no cell. */
static cop_status add_cell_text(const char *text, cop_buffer *out) {
    for (; *text; text++) {
        const char *escaped = *text == '<' ? "&lt;" : *text == '|' ? "&#124;" : NULL;
        COP_TRY(cop_buffer_append(out, escaped ? escaped : text, escaped ? strlen(escaped) : 1));
    }
    return COP_OK;
}

static cop_status add_row(const char *path, cop_buffer *out) {
    cop_dialect_file *file = NULL;
    COP_TRY(cop_dialect_describe(path, &file));
    const cop_dialect *d = cop_dialect_of(file);
    uint32_t reasons = cop_dialect_reason_count(file);
    const json_t *positions = json_object_get(cop_dialect_json(file), "positions");
    cop_status status = cop_buffer_printf(out, "| `%s` | %s | %s | %s | ", d->name,
                                          reasons ? "**no**" : "yes", cop_join_rule_name(d->join),
                                          positions ? json_string_value(positions) : "next");
    for (uint32_t i = 0; i < reasons && status == COP_OK; i++) {
        status = cop_buffer_printf(out, "%s", i ? "; " : "");
        if (status == COP_OK)
            status = add_cell_text(cop_dialect_reason(file, i), out);
    }
    if (status == COP_OK && !reasons)
        status = add_cell_text(d->source, out);
    if (status == COP_OK)
        status = cop_buffer_printf(out, " |\n");
    cop_dialect_close(file);
    return status;
}

cop_status cop_info_dialects(cop_buffer *out) {
    char root[COP_PATH_BYTES], folder[COP_PATH_BYTES + 32];
    struct dirent **entries = NULL;
    COP_TRY(cop_root_folder(root));
    snprintf(folder, sizeof folder, "%s/configs/dialects", root);
    int n = scandir(folder, &entries, is_dialect, by_name);
    if (n < 0)
        return COP_FAIL(COP_ERR_IO, "%s: the folder of dialects cannot be read: %s", folder,
                        strerror(errno));
    cop_status status =
        cop_buffer_printf(out, "| dialect | runs | join | positions | from; or why it does not run "
                               "|\n| --- | --- | --- | --- | --- |\n");
    for (int i = 0; i < n; i++) {
        char path[COP_PATH_BYTES + 320];
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (status == COP_OK)
            status = add_row(path, out);
        free(entries[i]);
    }
    free(entries);
    return status;
}
