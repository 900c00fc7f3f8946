#include "reason/dialect.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/paths.h"
#include "reason/dialect_internal.h"

enum { NAME_BYTES_MAX = 64, FILE_PATH_BYTES = 4096 };

static cop_status load_any(const char *path, cop_dialect_file **out) {
    *out = NULL;
    cop_dialect_file *file = cop_calloc(1, sizeof *file);
    if (!file)
        return COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory for a dialect", path);
    cop_status status = cop_json_load(path, &file->root);
    if (status == COP_OK)
        status = cop__dialect_load(file);
    if (status == COP_OK)
        *out = file;
    else
        cop_dialect_close(file);
    return status;
}

void cop_dialect_close(cop_dialect_file *file) {
    if (!file)
        return;
    cop_pattern_destroy(file->dialect.items_pattern);
    cop_pattern_destroy(file->dialect.shared.step_end);
    cop_pattern_destroy(file->dialect.shared.finished);
    cop_json_release(&file->root);
    cop_free(file);
}

const cop_dialect *cop_dialect_of(const cop_dialect_file *file) {
    return &file->dialect;
}

static bool is_name(const char *name) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t bytes = strlen(name);
    return bytes > 0 && bytes <= NAME_BYTES_MAX && strspn(name, allowed) == bytes &&
           strcmp(name, "schema") != 0;
}

static int is_preset(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return dot && dot != entry->d_name && strcmp(dot, ".json") == 0 &&
           strcmp(entry->d_name, "schema.json") != 0;
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

static cop_status load_named(const char *root, const char *name, cop_dialect_file **out) {
    char folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES + NAME_BYTES_MAX + 8];
    *out = NULL;
    int used = snprintf(folder, sizeof folder, "%s/configs/dialects", root);
    if (used < 0 || (size_t)used >= sizeof folder)
        return COP_FAIL(COP_ERR_IO, "%.64s..: the path is longer than %d bytes", root,
                        FILE_PATH_BYTES);
    if (!is_name(name))
        return fail_unknown(folder, name);
    snprintf(path, sizeof path, "%s/%s.json", folder, name);
    FILE *probe = fopen(path, "rb");
    if (!probe && errno == ENOENT)
        return fail_unknown(folder, name);
    if (probe)
        fclose(probe);
    COP_TRY(load_any(path, out));
    if (strcmp((*out)->dialect.name, name) != 0) {
        cop_status status = cop_json_fail(&(*out)->root, "name", "is '%.64s'; the file is named %s",
                                          (*out)->dialect.name, name);
        cop_dialect_close(*out);
        *out = NULL;
        return status;
    }
    return COP_OK;
}

/* Whatever is run is supported; its reasons say why it is not. */
static cop_status refuse_unsupported(cop_dialect_file **file) {
    char reasons[400] = "";
    size_t used = 0;
    if (!(*file)->unsupported)
        return COP_OK;
    for (uint32_t i = 0; i < (*file)->n_reasons && used + 4 < sizeof reasons; i++)
        used += (size_t)snprintf(reasons + used, sizeof reasons - used, "%s%s", i ? "; " : "",
                                 (*file)->reasons[i]);
    cop_status status = COP_FAIL(COP_ERR_CONFIG, "%.200s: dialect %.64s is not supported: %s",
                                 (*file)->root.source, (*file)->dialect.name, reasons);
    cop_dialect_close(*file);
    *file = NULL;
    return status;
}

cop_status cop_dialect_load(const char *path, cop_dialect_file **out) {
    COP_TRY(load_any(path, out));
    return refuse_unsupported(out);
}

cop_status cop_dialect_describe(const char *name, cop_dialect_file **out) {
    char root[COP_PATH_BYTES];
    size_t bytes = strlen(name);
    if (strchr(name, '/') || (bytes > 5 && strcmp(name + bytes - 5, ".json") == 0))
        return load_any(name, out);
    *out = NULL;
    COP_TRY(cop_root_folder(root));
    return load_named(root, name, out);
}

cop_status cop_dialect_open(const char *name, cop_dialect_file **out) {
    COP_TRY(cop_dialect_describe(name, out));
    return refuse_unsupported(out);
}

cop_status cop_dialect_check_name(const char *name) {
    char root[COP_PATH_BYTES], path[COP_PATH_BYTES + NAME_BYTES_MAX + 32];
    cop_dialect_file *file = NULL;
    if (!is_name(name) || cop_root_folder(root) != COP_OK)
        return COP_OK;
    snprintf(path, sizeof path, "%s/configs/dialects/%s.json", root, name);
    if (access(path, R_OK) != 0)
        return COP_OK;
    COP_TRY(cop_dialect_open(name, &file));
    cop_dialect_close(file);
    return COP_OK;
}

uint32_t cop_dialect_reason_count(const cop_dialect_file *file) {
    return file->n_reasons;
}

const char *cop_dialect_reason(const cop_dialect_file *file, uint32_t i) {
    return file->reasons[i];
}

const json_t *cop_dialect_json(const cop_dialect_file *file) {
    return file->root.value;
}

cop_status cop_dialect_load_named(const char *root, const char *name, cop_dialect_file **out) {
    COP_TRY(load_named(root, name, out));
    return refuse_unsupported(out);
}
