#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "job/job_grade_internal.h"
#include "measure/results.h"
#include "measure/results_file.h"
#include "reason/trajectory.h"

enum { SHOWN_BYTES = 80 };

static const char *shown(const char *text, char out[SHOWN_BYTES]) {
    size_t used = 0;
    for (; text[used] && used + 1 < SHOWN_BYTES; used++)
        out[used] = text[used] < 0x20 || text[used] > 0x7e ? '?' : text[used];
    out[used] = '\0';
    return out;
}

static cop_status no_memory(const char *path) {
    return COP_FAIL(COP_ERR_NO_MEMORY, "%s: no memory for its predictions", path);
}

/* ---- lines ---- */

typedef cop_status line_visit(void *context, const json_t *line, uint64_t number);

/* Calls `each` for every object; its failure is given the file and the line. */
static cop_status visit_lines(const char *path, const cop_buffer *text, line_visit *each,
                              void *context) {
    uint64_t number = 0;
    for (size_t at = 0; at < text->bytes;) {
        const char *begin = text->data + at, *newline = memchr(begin, '\n', text->bytes - at);
        size_t bytes = newline ? (size_t)(newline - begin) : text->bytes - at;
        json_error_t error;
        json_t *line = json_loadb(begin, bytes, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
        cop_status status = COP_OK;
        char part[SHOWN_BYTES];
        number++;
        at += bytes + 1;
        if (!line)
            status = COP_FAIL(COP_ERR_FORMAT, "%s",
                              bytes ? shown(error.text, part) : "the line is empty; take it out");
        else if (!json_is_object(line))
            status = COP_FAIL(COP_ERR_FORMAT, "the line is not an object");
        else
            status = each(context, line, number);
        json_decref(line);
        if (status != COP_OK)
            return cop_status_prefix(status, "%s:%llu", path, (unsigned long long)number);
    }
    return COP_OK;
}

static cop_status keep(cop__grade_run *run, const json_t *value, cop_answer_text *out) {
    *out = (cop_answer_text){0};
    if (!json_is_string(value))
        return COP_OK;
    out->bytes = json_string_length(value);
    out->text = cop_arena_strndup(run->arena, json_string_value(value), out->bytes);
    return out->text ? COP_OK : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a text");
}

/* ---- problems ---- */

static int compare_ids(const void *left, const void *right) {
    const cop_problem_entry *a = *(const cop_problem_entry *const *)left;
    const cop_problem_entry *b = *(const cop_problem_entry *const *)right;
    return strcmp(a->id, b->id);
}

static cop_status sort_problems(cop__grade_run *run, cop__graded_method *method) {
    method->by_id = cop_arena_calloc(run->arena, method->n_problems + 1, sizeof *method->by_id);
    if (!method->by_id)
        return no_memory(method->file);
    for (uint32_t i = 0; i < method->n_problems; i++)
        method->by_id[i] = &method->problems[i];
    qsort(method->by_id, method->n_problems, sizeof *method->by_id, compare_ids);
    char part[SHOWN_BYTES];
    for (uint32_t i = 1; i < method->n_problems; i++)
        if (strcmp(method->by_id[i - 1]->id, method->by_id[i]->id) == 0)
            return COP_FAIL(COP_ERR_FORMAT,
                            "%s: problem \"%s\" stands twice: name its data set with --set",
                            method->file, shown(method->by_id[i]->id, part));
    return COP_OK;
}

static const cop_problem_entry *find_problem(const cop__graded_method *method, const char *id) {
    const cop_problem_entry wanted = {.id = id}, *key = &wanted;
    const cop_problem_entry **found =
        bsearch(&key, method->by_id, method->n_problems, sizeof *method->by_id, compare_ids);
    return found ? *found : NULL;
}

/* A cell's own problems, from its answers. */
typedef struct own_problems {
    cop__grade_run *run;
    cop_problem_entry *list;
    size_t count, capacity;
} own_problems;

static cop_status add_own_problem(void *context, const json_t *line, uint64_t number) {
    (void)number;
    own_problems *own = context;
    cop_answer_text id;
    cop_problem_entry entry = {0};
    COP_TRY(keep(own->run, json_object_get(line, "id"), &id));
    COP_TRY(keep(own->run, json_object_get(line, "prompt"), &entry.prompt));
    COP_TRY(keep(own->run, json_object_get(line, "reference"), &entry.answer));
    if (!id.text || !entry.prompt.text)
        return COP_FAIL(COP_ERR_FORMAT, "\"id\" or \"prompt\" is missing");
    entry.id = id.text;
    /* Lines of one problem's samples follow each other. */
    if (json_integer_value(json_object_get(line, "sample")) > 0 && own->count > 0 &&
        strcmp(own->list[own->count - 1].id, entry.id) == 0)
        return COP_OK;
    COP_TRY(cop_checker_accepts(cop_grader_checker(own->run->grader), entry.prompt, entry.answer));
    COP_TRY(cop_grow(&own->list, &own->capacity, own->count + 1, sizeof *own->list));
    own->list[own->count++] = entry;
    return COP_OK;
}

static cop_status find_problems(cop__grade_run *run, cop__graded_method *method,
                                const cop_buffer *text) {
    if (run->set) {
        method->problems = run->set->list;
        method->n_problems = run->set->count;
        return sort_problems(run, method);
    }
    own_problems own = {run, NULL, 0, 0};
    cop_status status = visit_lines(method->file, text, add_own_problem, &own);
    cop_problem_entry *kept =
        status == COP_OK ? cop_arena_calloc(run->arena, own.count + 1, sizeof *kept) : NULL;
    if (status == COP_OK && !kept)
        status = no_memory(method->file);
    if (kept && own.count > 0)
        memcpy(kept, own.list, own.count * sizeof *kept);
    cop_free(own.list);
    COP_TRY(status);
    method->problems = kept;
    method->n_problems = (uint32_t)own.count;
    return sort_problems(run, method);
}

/* ---- predictions ---- */

typedef struct line_reader {
    cop__grade_run *run;
    cop__graded_method *method;
    const json_t *cell; /* the cell's line of results, or NULL */
    bool named;         /* lines say which sample they are, as the first one did */
} line_reader;

static cop_status read_number(const json_t *line, const char *key, double *out) {
    const json_t *value = json_object_get(line, key);
    *out = json_is_number(value) ? json_number_value(value) : NAN;
    if (value && !json_is_null(value) && !(*out >= 0 && *out < 1e15))
        return COP_FAIL(COP_ERR_FORMAT, "\"%s\" is no number from 0 to 1e15", key);
    return COP_OK;
}

static cop__known known_of(const json_t *value) {
    if (json_is_integer(value))
        return json_integer_value(value) > 0 ? COP_YES : COP_NO;
    return json_is_true(value) ? COP_YES : json_is_false(value) ? COP_NO : COP_UNKNOWN;
}

/* The text's blocks, by the dialect's tags: strictly, as import reads them. */
static cop_status judge_blocks(cop__grade_run *run, cop_answer_text text, cop__prediction *out) {
    const cop_dialect *dialect = cop_dialect_of(run->dialect);
    const cop_tag *block = &dialect->open[COP_EL_BLOCK];
    cop_trajectories *parsed;
    COP_TRY(cop_trajectories_create(&parsed));
    cop_status status =
        cop_trajectory_parse(dialect, "prediction", "prediction", text.text, text.bytes, parsed);
    out->well_formed = status == COP_OK ? COP_YES : COP_NO;
    cop_trajectories_destroy(parsed);
    bool used = block->bytes && memmem(text.text, text.bytes, block->text, block->bytes);
    out->parallel = used ? COP_YES : COP_NO;
    return status == COP_ERR_NO_MEMORY ? status : COP_OK;
}

/* What follows the last mark; nothing where it does not stand. */
static cop_answer_text behind(cop_answer_text text, const char *mark) {
    cop_answer_text found = {0};
    size_t bytes = strlen(mark);
    const char *end = text.text + text.bytes, *at = text.text;
    while ((at = memmem(at, (size_t)(end - at), mark, bytes))) {
        at += bytes;
        found = (cop_answer_text){at, (size_t)(end - at)};
    }
    return found;
}

static cop_status read_claim(cop__grade_run *run, const json_t *line, cop__prediction *out) {
    const json_t *answer = json_object_get(line, "answer"), *text = json_object_get(line, "text");
    const char *wrong = answer && !json_is_string(answer) && !json_is_null(answer) ? "answer"
                        : text && !json_is_string(text)                            ? "text"
                                                                                   : NULL;
    if (wrong)
        return COP_FAIL(COP_ERR_FORMAT, "\"%s\" is not a text", wrong);
    if (!answer && !text)
        return COP_FAIL(COP_ERR_FORMAT, "neither \"answer\" nor \"text\": give one (null where "
                                        "nothing was answered)");
    cop_answer_text said;
    bool whole = text && (run->job->from == COP_GRADE_FROM_TEXT || !answer);
    if (run->job->from == COP_GRADE_FROM_TEXT && !text)
        return COP_FAIL(COP_ERR_FORMAT, "\"text\" is missing, and texts are to be graded");
    COP_TRY(keep(run, whole ? text : answer, &said));
    out->claimed = said;
    if (whole && run->job->answer_after)
        said = behind(said, run->job->answer_after);
    if (whole)
        out->claimed = cop_grader_claim(run->grader, said);
    if (!run->dialect || !text)
        return COP_OK;
    said = (cop_answer_text){json_string_value(text), json_string_length(text)};
    return judge_blocks(run, said, out);
}

/* Latency and device time that a cell's line knows and its answers do not. */
static void read_cell_times(const line_reader *reader, uint32_t at, cop__prediction *out) {
    const json_t *each = json_object_get(reader->cell, "each");
    const json_t *latency = json_array_get(json_object_get(each, "latency_ms"), at);
    const json_t *wall = json_object_get(reader->cell, "wall_per_problem_ms");
    if (json_is_number(latency))
        out->latency_ms = json_number_value(latency);
    if (json_is_number(wall)) /* of the one device that the run had */
        out->device_s = json_number_value(wall) / 1e3;
}

static cop_status read_sample(line_reader *reader, const json_t *line, cop__prediction *out) {
    const json_t *sample = json_object_get(line, "sample");
    bool named = sample != NULL;
    if (reader->method->count == 0)
        reader->named = named;
    if (named != reader->named)
        return COP_FAIL(COP_ERR_FORMAT, "some lines say \"sample\" and some do not: all or none");
    if (named && (!json_is_integer(sample) || json_integer_value(sample) < 0 ||
                  json_integer_value(sample) >= UINT32_MAX))
        return COP_FAIL(COP_ERR_FORMAT, "\"sample\" is no whole number from 0");
    out->sample = named ? (uint32_t)json_integer_value(sample) : 0;
    return COP_OK;
}

static cop_status add_prediction(void *context, const json_t *line, uint64_t number) {
    line_reader *reader = context;
    cop__graded_method *method = reader->method;
    cop__prediction one = {.line = number,
                           .well_formed = known_of(json_object_get(line, "well_formed")),
                           .parallel = known_of(json_object_get(line, "forks"))};
    const char *id = json_string_value(json_object_get(line, "id"));
    char part[SHOWN_BYTES];
    if (!id)
        return COP_FAIL(COP_ERR_FORMAT, "\"id\" is missing, or no text");
    const cop_problem_entry *problem = find_problem(method, id);
    if (!problem)
        return COP_FAIL(COP_ERR_FORMAT,
                        "the set holds no problem \"%s\": name the set that was asked",
                        shown(id, part));
    one.problem = (uint32_t)(problem - method->problems);
    COP_TRY(read_sample(reader, line, &one));
    COP_TRY(read_number(line, "tokens", &one.tokens));
    COP_TRY(read_number(line, "latency_ms", &one.latency_ms));
    COP_TRY(read_number(line, "device_s", &one.device_s));
    COP_TRY(read_claim(reader->run, line, &one));
    if (reader->cell)
        read_cell_times(reader, one.problem, &one);
    COP_TRY(cop_grow(&method->list, &method->capacity, (size_t)method->count + 1, sizeof one));
    method->list[method->count++] = one;
    return COP_OK;
}

static int by_problem(const void *left, const void *right) {
    const cop__prediction *a = left, *b = right;
    if (a->problem != b->problem)
        return a->problem < b->problem ? -1 : 1;
    if (a->sample != b->sample)
        return a->sample < b->sample ? -1 : 1;
    return a->line < b->line ? -1 : a->line > b->line;
}

/* By problem and sample, each once, and every problem at least once. */
static cop_status check_predictions(const cop__grade_run *run, cop__graded_method *method) {
    char part[SHOWN_BYTES];
    const cop__prediction *list = method->list;
    uint32_t next = 0;
    if (method->count > 0)
        qsort(method->list, method->count, sizeof *method->list, by_problem);
    for (uint32_t i = 0; i < method->count; i++) {
        bool fresh = i == 0 || list[i].problem != list[i - 1].problem;
        if (!fresh && list[i].sample == list[i - 1].sample)
            return COP_FAIL(
                COP_ERR_FORMAT,
                "%s:%llu: problem \"%s\" has its sample %u already in line %llu: number "
                "them with \"sample\"",
                method->file, (unsigned long long)list[i].line,
                shown(method->problems[list[i].problem].id, part), list[i].sample,
                (unsigned long long)list[i - 1].line);
        if (fresh && !run->job->partial && list[i].problem != next)
            break;
        next += fresh;
    }
    method->missing = method->n_problems - next;
    if (method->missing == 0)
        return COP_OK;
    if (run->job->partial) /* `next` counted the problems that have one */
        return COP_OK;
    return COP_FAIL(COP_ERR_FORMAT,
                    "%s: no prediction for problem \"%s\"; grade what there is with --partial, "
                    "which says how many are missing",
                    method->file, shown(method->problems[next].id, part));
}

static cop_status add_method(cop__grade_run *run, const char *name, const char *file,
                             const json_t *cell) {
    cop_buffer text = {0};
    COP_TRY(cop_grow(&run->methods, &run->capacity, run->n_methods + 1, sizeof *run->methods));
    cop__graded_method *method = &run->methods[run->n_methods++];
    *method = (cop__graded_method){.name = cop_arena_strndup(run->arena, name, strlen(name)),
                                   .file = cop_arena_strndup(run->arena, file, strlen(file))};
    if (!method->name || !method->file)
        return no_memory(file);
    line_reader reader = {run, method, cell, false};
    cop_status status = cop__file_read(file, &text, NULL);
    if (status == COP_OK)
        status = find_problems(run, method, &text);
    if (status == COP_OK)
        status = visit_lines(method->file, &text, add_prediction, &reader);
    cop_buffer_release(&text);
    COP_TRY(status);
    if (method->count == 0)
        return COP_FAIL(COP_ERR_FORMAT, "%s: holds no prediction", method->file);
    return check_predictions(run, method);
}

/* ---- inputs ---- */

typedef struct folder_reader {
    cop__grade_run *run;
    const char *folder;
    size_t found;
} folder_reader;

static cop_status read_cell(void *context, const json_t *line) {
    folder_reader *reader = context;
    const char *group = json_string_value(json_object_get(line, "group"));
    const char *key = json_string_value(json_object_get(line, "cell"));
    const char *method = json_string_value(json_object_get(line, "method"));
    const char *problem = json_string_value(json_object_get(line, "problem"));
    const char *clock = json_string_value(json_object_get(line, "clock"));
    if (!group || strcmp(group, "problems") != 0 || !key || !method || !problem ||
        json_integer_value(json_object_get(line, "repeat")) != 0)
        return COP_OK;
    char file[64], path[COP_FILE_PATH_BYTES], name[256];
    struct stat info;
    snprintf(file, sizeof file, "answers-%.32s.jsonl", key);
    COP_TRY(cop__path_join(reader->folder, file, path));
    if (stat(path, &info) != 0)
        return COP_OK;
    bool wall = !clock || strcmp(clock, "wall") == 0;
    snprintf(name, sizeof name, "%.24s%s%.100s, %.80s", wall ? "" : clock, wall ? "" : ": ", method,
             problem);
    reader->found++;
    return add_method(reader->run, name, path, line);
}

static cop_status read_folder(cop__grade_run *run, const char *folder) {
    folder_reader reader = {run, folder, 0};
    json_t *manifest = NULL;
    cop_status status = cop_results_read(folder, &manifest, read_cell, &reader);
    json_decref(manifest);
    if (status == COP_OK && reader.found == 0)
        status = COP_FAIL(COP_ERR_FORMAT,
                          "%s: holds no answers-<cell>.jsonl of a problem set: nothing to grade",
                          folder);
    return status;
}

cop_status cop__grade_read(cop__grade_run *run, const char *path) {
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return read_folder(run, path);
    if (!run->set)
        return COP_FAIL(COP_ERR_USAGE,
                        "%s: predictions are graded against a data set: name it with --set", path);
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char name[128];
    snprintf(name, sizeof name, "%.120s", base);
    char *dot = strrchr(name, '.');
    if (dot && dot != name)
        *dot = '\0';
    return add_method(run, name, path, NULL);
}
