/* coppice import: transcripts -> trajectories. Every file is parsed, and tokenised where a model is
 * given, before one byte is written; the output appears by a rename, whole or not at all. */
#include "command/command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command/import_response.h"
#include "command/options.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "reason/dialect.h"
#include "reason/trajectory.h"

enum { PATH_BYTES = 4096, NAME_BYTES = 256 };

static const size_t file_bytes_max = (size_t)1 << 30;

typedef struct request {
    const char *dialect, *out, *model, *format;
    char **files;
    size_t n_files;
    bool counts_only, ids, force;
} request;

static cop_status read_file(const char *path, cop_buffer *text) {
    char chunk[65536];
    size_t bytes;
    FILE *file = fopen(path, "rb");
    if (!file)
        return COP_FAIL(COP_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    cop_status status = COP_OK;
    while (status == COP_OK && (bytes = fread(chunk, 1, sizeof chunk, file)) > 0) {
        status = cop_buffer_append(text, chunk, bytes);
        if (status == COP_OK && text->bytes > file_bytes_max)
            status = COP_FAIL(COP_ERR_FORMAT, "%s: is longer than %zu bytes", path, file_bytes_max);
    }
    if (status == COP_OK && ferror(file))
        status = COP_FAIL(COP_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
    fclose(file);
    return status;
}

/* "a/b/5.xml": source "5.xml", id "5". A name that is only an extension is kept whole. */
static cop_status name_of(const char *path, char id[NAME_BYTES], const char **source) {
    const char *slash = strrchr(path, '/');
    *source = slash ? slash + 1 : path;
    const char *dot = strrchr(*source, '.');
    size_t bytes = dot && dot != *source ? (size_t)(dot - *source) : strlen(*source);
    if (bytes == 0 || bytes >= NAME_BYTES)
        return COP_FAIL(COP_ERR_USAGE, "%s: gives no file name to take the id from", path);
    memcpy(id, *source, bytes);
    id[bytes] = '\0';
    return COP_OK;
}

typedef struct parsing {
    const cop_dialect *dialect;
    const char *id, *source;
    cop_trajectories *set;
} parsing;

static cop_status parse_text(void *context, const char *which, const char *text, size_t bytes) {
    const parsing *p = context;
    char id[NAME_BYTES + 64];
    snprintf(id, sizeof id, "%s%s", p->id, which);
    cop_status status = cop_trajectory_parse(p->dialect, id, p->source, text, bytes, p->set);
    return status == COP_OK || !which[0] ? status
                                         : cop_status_prefix(status, "answer %s", which + 1);
}

static cop_status parse_file(const cop_dialect *dialect, const char *path, const char *format,
                             cop_trajectories *set) {
    char id[NAME_BYTES];
    const char *source;
    cop_buffer text = {0};
    COP_TRY(name_of(path, id, &source));
    parsing p = {dialect, id, source, set};
    bool answers = format ? strcmp(format, "response") == 0 : cop_response_name(path);
    cop_status status = read_file(path, &text);
    if (status == COP_OK && answers)
        status = cop_response_texts(dialect, path, &text, parse_text, &p);
    else if (status == COP_OK)
        status = parse_text(&p, "", text.data ? text.data : "", text.bytes);
    if (status != COP_OK && !strstr(cop_status_message(), path))
        status = cop_status_prefix(status, "%s", path);
    cop_buffer_release(&text);
    return status;
}

static cop_status count_tokens(const char *path, cop_trajectories *set) {
    cop_gguf *gguf = NULL;
    cop_tokenizer *tokenizer = NULL;
    cop_status status = cop_gguf_open(path, &gguf);
    if (status == COP_OK)
        status = cop_tokenizer_create(gguf, &tokenizer);
    if (status == COP_OK)
        status = cop_trajectories_tokenize(set, tokenizer, cop_tokenizer_vocab(tokenizer), 0);
    if (status == COP_OK) {
        /* What the counts were made with: the file's name says more than its metadata does. */
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        name = cop_arena_strndup(set->arena, name, strlen(name));
        if (!name)
            status = COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the tokenizer's name");
        for (uint32_t i = 0; name && i < set->count; i++)
            set->list[i].tokenizer = name;
    }
    cop_tokenizer_destroy(tokenizer);
    cop_gguf_close(gguf);
    return status;
}

static cop_status render(const request *r, const cop_trajectories *set, cop_buffer *out) {
    cop_trajectory_write_options options = {.counts_only = r->counts_only, .ids = r->ids};
    cop_status status = COP_OK;
    for (uint32_t i = 0; status == COP_OK && i < set->count; i++) {
        json_t *json = cop_trajectory_to_json(&set->list[i], options);
        char *line = json ? json_dumps(json, JSON_COMPACT) : NULL;
        status = line ? cop_buffer_printf(out, "%s\n", line)
                      : COP_FAIL(COP_ERR_INTERNAL, "trajectory '%s' cannot be written as JSON",
                                 set->list[i].id);
        free(line);
        json_decref(json);
    }
    return status;
}

static cop_status render_table(const cop_trajectories *set, bool counted, cop_buffer *out) {
    uint64_t blocks = 0, paths = 0, tokens = 0;
    uint32_t depth = 0;
    int width = (int)strlen("total");
    for (uint32_t i = 0; i < set->count; i++)
        if ((int)strlen(set->list[i].id) > width)
            width = (int)strlen(set->list[i].id);
    COP_TRY(cop_buffer_printf(out, "%-*s %8s %8s %8s %10s\n", width, "id", "blocks", "paths",
                              "depth", "tokens"));
    for (uint32_t i = 0; i < set->count; i++) {
        const cop_trajectory *t = &set->list[i];
        char count[32] = "-";
        if (counted)
            snprintf(count, sizeof count, "%llu", (unsigned long long)t->n_tokens);
        COP_TRY(cop_buffer_printf(out, "%-*s %8u %8u %8u %10s\n", width, t->id, t->blocks, t->paths,
                                  t->depth, count));
        blocks += t->blocks;
        paths += t->paths;
        tokens += t->n_tokens;
        depth = t->depth > depth ? t->depth : depth;
    }
    char count[32] = "-";
    if (counted)
        snprintf(count, sizeof count, "%llu", (unsigned long long)tokens);
    return cop_buffer_printf(out, "%-*s %8llu %8llu %8u %10s\n", width, "total",
                             (unsigned long long)blocks, (unsigned long long)paths, depth, count);
}

/* Before any work: the output may be made, and is none of the inputs. */
static cop_status check_out(const request *r) {
    struct stat out, in;
    if (strlen(r->out) + 32 > PATH_BYTES)
        return COP_FAIL(COP_ERR_USAGE, "--out is longer than %d bytes", PATH_BYTES - 32);
    if (lstat(r->out, &out) != 0)
        return COP_OK;
    if (!r->force)
        return COP_FAIL(COP_ERR_USAGE, "%s: exists already; give --force to replace it", r->out);
    if (!S_ISREG(out.st_mode))
        return COP_FAIL(COP_ERR_USAGE, "%s: is not a regular file; give --out another name",
                        r->out);
    for (size_t i = 0; i < r->n_files; i++)
        if (stat(r->files[i], &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
            return COP_FAIL(COP_ERR_USAGE, "%s: is an input as well; give --out another name",
                            r->out);
    return COP_OK;
}

static cop_status write_out(const request *r, const cop_buffer *text) {
    char temporary[PATH_BYTES];
    snprintf(temporary, sizeof temporary, "%s.tmp.%ld", r->out, (long)getpid());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return COP_FAIL(COP_ERR_IO, "%s: cannot be created: %s", r->out, strerror(errno));
    cop_status status = COP_OK;
    for (size_t at = 0; status == COP_OK && at < text->bytes;) {
        ssize_t n = write(fd, text->data + at, text->bytes - at);
        if (n >= 0)
            at += (size_t)n;
        else if (errno != EINTR)
            status = COP_FAIL(COP_ERR_IO, "%s: cannot be written: %s", r->out, strerror(errno));
    }
    if (close(fd) != 0 && status == COP_OK)
        status = COP_FAIL(COP_ERR_IO, "%s: cannot be written: %s", r->out, strerror(errno));
    /* link, unlike rename, refuses a name that was taken in the meantime. */
    int failed = 0;
    if (status == COP_OK && r->force)
        failed = rename(temporary, r->out);
    else if (status == COP_OK)
        failed = link(temporary, r->out);
    if (failed)
        status = COP_FAIL(COP_ERR_IO, "%s: cannot be put in place: %s", r->out, strerror(errno));
    if (status != COP_OK || !r->force)
        unlink(temporary);
    return status;
}

static cop_status import_all(const request *r, const cop_dialect *dialect, cop_trajectories *set,
                             cop_buffer *lines, cop_buffer *table) {
    for (size_t i = 0; i < r->n_files; i++)
        COP_TRY(parse_file(dialect, r->files[i], r->format, set));
    if (r->model)
        COP_TRY(count_tokens(r->model, set));
    COP_TRY(render(r, set, lines));
    COP_TRY(render_table(set, r->model != NULL, table));
    COP_TRY(write_out(r, lines));
    return cop_command_output(table);
}

static cop_status import(const request *r) {
    cop_dialect_file *dialect = NULL;
    cop_trajectories *set = NULL;
    cop_buffer lines = {0}, table = {0};
    if ((r->counts_only || r->ids) && !r->model)
        return COP_FAIL(COP_ERR_USAGE, "--%s needs --model FILE: its tokenizer gives them",
                        r->ids ? "ids" : "counts-only");
    if (r->counts_only && r->ids)
        return COP_FAIL(COP_ERR_USAGE, "--counts-only leaves the ids out; give one of the two");
    COP_TRY(check_out(r));
    cop_status status = cop_dialect_open(r->dialect, &dialect);
    if (status == COP_OK)
        status = cop_trajectories_create(&set);
    if (status == COP_OK)
        status = import_all(r, cop_dialect_of(dialect), set, &lines, &table);
    cop_buffer_release(&lines);
    cop_buffer_release(&table);
    cop_trajectories_destroy(set);
    cop_dialect_close(dialect);
    return status;
}

int cop_command_import(int argc, char **argv) {
    request r = {0};
    const cop_option options[] = {
        {"out", COP_OPTION_TEXT, &r.out, "T.jsonl", "where the trajectories go, one a line",
         .required = true},
        {"model", COP_OPTION_TEXT, &r.model, "FILE",
         "a GGUF model: its tokenizer counts each piece's tokens"},
        {"format", COP_OPTION_TEXT, &r.format, "FORMAT",
         "what the files hold (response for .json and .jsonl, else text)",
         .choices = "text|response"},
        {"ids", COP_OPTION_FLAG, &r.ids, NULL, "write the token ids as well (with --model)"},
        {"counts-only", COP_OPTION_FLAG, &r.counts_only, NULL,
         "write token counts and no text (with --model)"},
        {"force", COP_OPTION_FLAG, &r.force, NULL, "replace T.jsonl if it exists"},
    };
    const cop_command_line line = {
        .verb = "import",
        .usage = "DIALECT FILE.. --out T.jsonl [--format text|response]\n"
                 "                      [--model FILE [--ids | --counts-only]] [--force]",
        .about =
            "Turns recorded transcripts into trajectories that `coppice replay` takes.\n"
            "DIALECT is a name in configs/dialects (multiverse, threadweaver-rl, ..: coppice info\n"
            "--dialects) or the path of a .json file; each FILE is one transcript in that "
            "dialect's\n"
            "tags, and its name without the extension becomes the trajectory's id. Or it is what "
            "a\n"
            "vLLM or SGLang server answered, as JSON or one a line: completions, chat completions\n"
            "(reasoning goes back into the root's tags), SGLang's own, batch files; ids then end "
            "in\n"
            "-ANSWER-CHOICE where there are several. The text before the root's tag (<Think>) is\n"
            "the prompt; without one, the text before the first block.\n"
            "A table goes to stdout. One bad file, and nothing is written.",
        .options = options,
        .n_options = sizeof options / sizeof options[0],
        .operand = "DIALECT FILE..",
        .operands_min = 2,
        .operands_max = SIZE_MAX,
    };
    cop_operands operands;
    cop_status status = cop_options_parse(&line, argc, argv, &operands);
    if (status == COP_OK && operands.help)
        return 0;
    if (status == COP_OK) {
        r.dialect = operands.items[0];
        r.files = operands.items + 1;
        r.n_files = operands.count - 1;
        status = import(&r);
    }
    return status == COP_OK ? 0 : cop_command_fail("import", status);
}
