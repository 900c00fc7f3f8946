#include "measure/results.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/sha256.h"
#include "measure/results_file.h"
#include "measure/results_lines.h"
#include "measure/results_manifest.h"

struct cop_results {
    char *folder, *lines_path;
    int fd;         /* results.jsonl, for appending; locked against a second writer */
    uint64_t bytes; /* its length: what a failed append is cut back to */
    json_t *done;   /* "cell/repeat" -> anything */
    json_t *traced; /* cells whose trace must stay: its first measurement is on disk */
    char *note;
};

static char *copy_text(const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = cop_calloc(bytes, 1);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

static cop_status open_lines(cop_results *r) {
    r->fd = open(r->lines_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (r->fd < 0)
        return COP_FAIL(COP_ERR_IO, "cannot open %s: %s", r->lines_path, strerror(errno));
    if (flock(r->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return COP_FAIL(COP_ERR_IO, "another run is writing to %s: let it end first",
                        r->lines_path);
    return COP_OK;
}

/* Cuts a torn line off and notes which cells are done. */
static cop_status take_up(cop_results *r, const cop_buffer *lines) {
    cop__scan scan;
    COP_TRY(cop__results_scan(r->lines_path, lines->data, lines->bytes, NULL, NULL, &scan));
    r->done = scan.seen;
    r->bytes = scan.whole_bytes;
    const char *key;
    json_t *ignored;
    json_object_foreach(r->done, key, ignored) {
        char cell[COP_LINE_KEY_BYTES];
        snprintf(cell, sizeof cell, "%.*s", (int)strcspn(key, "/"), key);
        json_object_set_new(r->traced, cell, json_true());
    }
    if (scan.torn_bytes == 0)
        return COP_OK;
    if (ftruncate(r->fd, (off_t)scan.whole_bytes) != 0 || fsync(r->fd) != 0)
        return COP_FAIL(COP_ERR_IO, "cannot cut the torn last line off %s: %s", r->lines_path,
                        strerror(errno));
    char note[160];
    snprintf(note, sizeof note,
             "results.jsonl: line %llu was torn; its %llu bytes were cut off and its cell runs "
             "again",
             (unsigned long long)scan.lines + 1, (unsigned long long)scan.torn_bytes);
    r->note = copy_text(note);
    return COP_OK;
}

static cop_status start_or_resume(cop_results *r, const cop_results_options *options,
                                  const char *manifest_path, const cop_buffer *lines,
                                  bool has_manifest) {
    json_t *now = NULL, *then = NULL;
    if (!options->resume && lines->bytes)
        return COP_FAIL(COP_ERR_USAGE,
                        "%s already holds results: resume them, or choose another folder",
                        options->folder);
    if (!has_manifest && lines->bytes)
        return COP_FAIL(COP_ERR_FORMAT,
                        "%s has lines but no manifest.json beside it: what they were measured on "
                        "is not known; choose another folder",
                        r->lines_path);
    cop_status status = cop__manifest_make(options->manifest, &now);
    /* A manifest without any line is what a run left that failed before its first result. */
    if (status == COP_OK && has_manifest && options->resume) {
        status = cop__manifest_read(manifest_path, &then);
        if (status == COP_OK)
            status = cop__manifest_match(manifest_path, then, now);
    } else if (status == COP_OK) {
        status = cop__manifest_write(manifest_path, now);
    }
    if (status == COP_OK)
        status = take_up(r, lines);
    json_decref(now);
    json_decref(then);
    return status;
}

cop_status cop_results_open(const cop_results_options *options, cop_results **out) {
    *out = NULL;
    char manifest_path[COP_FILE_PATH_BYTES], lines_path[COP_FILE_PATH_BYTES];
    COP_TRY(cop__path_join(options->folder, "manifest.json", manifest_path));
    COP_TRY(cop__path_join(options->folder, "results.jsonl", lines_path));
    COP_TRY(cop__folder_make(options->folder));
    cop_results *r = cop_calloc(1, sizeof *r);
    if (!r)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a result folder");
    r->fd = -1;
    r->folder = copy_text(options->folder);
    r->lines_path = copy_text(lines_path);
    r->traced = json_object();
    cop_buffer lines = {0}, manifest = {0};
    bool missing = false;
    cop_status status = r->folder && r->lines_path && r->traced
                            ? open_lines(r)
                            : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a result folder");
    if (status == COP_OK)
        status = cop__file_read(lines_path, &lines, NULL);
    if (status == COP_OK)
        status = cop__file_read(manifest_path, &manifest, &missing);
    if (status == COP_OK)
        status = start_or_resume(r, options, manifest_path, &lines, !missing);
    cop_buffer_release(&lines);
    cop_buffer_release(&manifest);
    if (status != COP_OK) {
        cop_results_close(r);
        return status;
    }
    *out = r;
    return COP_OK;
}

void cop_results_close(cop_results *results) {
    if (!results)
        return;
    if (results->fd >= 0)
        close(results->fd);
    json_decref(results->done);
    json_decref(results->traced);
    cop_free(results->folder);
    cop_free(results->lines_path);
    cop_free(results->note);
    cop_free(results);
}

const char *cop_results_note(const cop_results *results) {
    return results->note ? results->note : "";
}

cop_status cop_results_cell_key(const json_t *identity, char key[COP_CELL_KEY_BYTES]) {
    char *text = json_dumps(identity, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    if (!text)
        return COP_FAIL(COP_ERR_INTERNAL, "a cell's identity cannot be written as JSON");
    char hex[COP_SHA256_HEX_BYTES];
    cop_sha256_of(text, strlen(text), hex);
    free(text);
    memcpy(key, hex, COP_CELL_KEY_BYTES - 1);
    key[COP_CELL_KEY_BYTES - 1] = '\0';
    return COP_OK;
}

bool cop_results_done(const cop_results *results, const char *cell, uint32_t repeat) {
    char key[COP_LINE_KEY_BYTES];
    cop__line_key(cell, repeat, key);
    return json_object_get(results->done, key) != NULL;
}

static cop_status build_line(const char *cell, uint32_t repeat, const json_t *record,
                             const cop_metrics *metrics, json_t **out) {
    static const char *const reserved[] = {"v", "cell", "repeat", "crc"};
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
        if (json_object_get(record, reserved[i]))
            return COP_FAIL(COP_ERR_INTERNAL,
                            "a record may not have a member \"%s\": it is the "
                            "line's own",
                            reserved[i]);
    json_t *line = json_pack("{s:i, s:s, s:I}", "v", COP_RESULTS_SCHEMA, "cell", cell, "repeat",
                             (json_int_t)repeat);
    int failed = !line || json_object_update_missing(line, (json_t *)record);
    if (metrics)
        failed |= json_object_set_new(line, "metrics", cop_metrics_to_json(metrics));
    if (failed) {
        json_decref(line);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the result line of cell %s", cell);
    }
    *out = line;
    return COP_OK;
}

cop_status cop_results_append(cop_results *results, const char *cell, uint32_t repeat,
                              const json_t *record, const cop_metrics *metrics) {
    COP_TRY(cop__cell_check(cell));
    if (cop_results_done(results, cell, repeat))
        return COP_FAIL(COP_ERR_INTERNAL, "cell %s, repeat %u is recorded already", cell, repeat);
    json_t *line = NULL;
    COP_TRY(build_line(cell, repeat, record, metrics, &line));
    cop_buffer text = {0};
    cop_status status = cop__line_write(line, &text);
    if (status == COP_OK) {
        status = cop__file_write(results->fd, results->lines_path, text.data, text.bytes);
        /* A full disk leaves part of a line: take it away, so that the folder stays whole. */
        if (status != COP_OK && ftruncate(results->fd, (off_t)results->bytes) != 0)
            status = cop_status_prefix(status, "a torn line is left behind");
    }
    char key[COP_LINE_KEY_BYTES];
    cop__line_key(cell, repeat, key);
    if (status == COP_OK) {
        results->bytes += text.bytes;
        if (json_object_set_new(results->done, key, json_true()) != 0)
            status = COP_FAIL(COP_ERR_NO_MEMORY, "no memory to note cell %s as done", cell);
    }
    cop_buffer_release(&text);
    json_decref(line);
    return status;
}

cop_status cop_results_trace(cop_results *results, const char *cell, const char *title,
                             const cop_timeline *timeline) {
    COP_TRY(cop__cell_check(cell));
    if (json_object_get(results->traced, cell))
        return COP_OK;
    char name[96], path[COP_FILE_PATH_BYTES];
    snprintf(name, sizeof name, "trace-%s.json", cell);
    COP_TRY(cop__path_join(results->folder, name, path));
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    if (!file)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the trace of cell %s", cell);
    cop_status status = cop_timeline_write(timeline, title, file);
    if (fclose(file) != 0 && status == COP_OK)
        status = COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the trace of cell %s", cell);
    if (status == COP_OK)
        status = cop__file_replace(path, text, bytes);
    free(text);
    if (status == COP_OK && json_object_set_new(results->traced, cell, json_true()) != 0)
        status = COP_FAIL(COP_ERR_NO_MEMORY, "no memory to note the trace of cell %s", cell);
    return status;
}

cop_status cop_results_file(cop_results *results, const char *name, const void *data,
                            size_t bytes) {
    if (!name[0] || name[0] == '.' || strchr(name, '/'))
        return COP_FAIL(COP_ERR_INTERNAL, "\"%.60s\" is no name for a file of %s", name,
                        results->folder);
    char path[COP_FILE_PATH_BYTES];
    COP_TRY(cop__path_join(results->folder, name, path));
    return cop__file_replace(path, data, bytes);
}

cop_status cop_results_read(const char *folder, json_t **manifest, cop_results_visit *each,
                            void *context) {
    char manifest_path[COP_FILE_PATH_BYTES], lines_path[COP_FILE_PATH_BYTES];
    COP_TRY(cop__path_join(folder, "manifest.json", manifest_path));
    COP_TRY(cop__path_join(folder, "results.jsonl", lines_path));
    json_t *read = NULL;
    COP_TRY(cop__manifest_read(manifest_path, &read));
    cop_buffer lines = {0};
    cop__scan scan = {0};
    cop_status status = cop__file_read(lines_path, &lines, NULL);
    if (status == COP_OK)
        status = cop__results_scan(lines_path, lines.data, lines.bytes, each, context, &scan);
    cop_buffer_release(&lines);
    json_decref(scan.seen);
    if (status == COP_OK && manifest)
        *manifest = json_incref(read);
    json_decref(read);
    return status;
}
