/* Transcripts for tests: random ones in any forking dialect's tags, whose counts are known from
 * their making, and recorded ones where they can be had. */
#pragma once

#include <stdio.h>
#include <unistd.h>

#include "base/memory.h"
#include "check.h"
#include "reason/dialect.h"
#include "reason/parser.h"
#include "reason/trajectory.h"

typedef struct transcript {
    const cop_dialect *dialect;
    bool exact; /* headers and joins as the runtime inserts them; else they vary */
    uint32_t depth_max;
    uint64_t state;
    uint32_t blocks, paths, depth; /* what was made */
    uint32_t level, numbers[COP_PARSER_DEPTH_MAX];
    cop_buffer text;
} transcript;

static inline uint32_t transcript_random(transcript *t, uint32_t bound) {
    t->state = t->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(t->state >> 33) % bound;
}

static inline void transcript_put(transcript *t, const char *text) {
    CHECK_OK(cop_buffer_append(&t->text, text, strlen(text)));
}

/* Text full of what looks like tags, and never is one. */
static inline void transcript_text(transcript *t, uint32_t most) {
    static const char *const parts[] = {"so x = 1 ",
                                        "<",
                                        "<<",
                                        "a < b",
                                        "<P",
                                        "</P",
                                        "<Parallel ",
                                        "</Path ",
                                        "\n",
                                        "\n\n",
                                        "<Outlines >",
                                        "\xc3\xa9t\xc3\xa9 ",
                                        "\xe2\x88\x9e\n",
                                        "<Path\n",
                                        "{n}",
                                        "\xf0\x9f\x8c\xb3"};
    for (uint32_t n = transcript_random(t, most + 1); n > 0; n--)
        transcript_put(t, parts[transcript_random(t, sizeof parts / sizeof parts[0])]);
}

static inline void transcript_tag(transcript *t, cop_tag tag) {
    if (t->exact || transcript_random(t, 4))
        transcript_put(t, "\n");
    transcript_put(t, tag.text);
}

static inline void transcript_number(transcript *t, const char *before) {
    transcript_put(t, before);
    for (uint32_t i = 0; i < t->level; i++)
        CHECK_OK(cop_buffer_printf(&t->text, i ? ".%u" : "%u", t->numbers[i]));
    transcript_put(t, ":");
}

static inline void transcript_block(transcript *t);

static inline void transcript_stream(transcript *t, uint32_t blocks) {
    transcript_text(t, 3);
    while (blocks-- > 0) {
        transcript_block(t);
        transcript_text(t, 3);
    }
}

static inline void transcript_path(transcript *t) {
    const cop_dialect *d = t->dialect;
    bool numbered = t->exact || transcript_random(t, 3);
    if (t->exact) {
        char prompt[1024];
        CHECK_OK(cop_dialect_branch_prompt(d, t->numbers, t->level, "", 0, prompt, sizeof prompt,
                                           &(size_t){0}));
        transcript_put(t, prompt);
    } else {
        transcript_tag(t, d->open[COP_EL_PATH]);
        if (numbered)
            transcript_number(t, transcript_random(t, 2) ? "\n" : " ");
    }
    transcript_put(t, " ");
    bool deeper = d->nested && t->level < t->depth_max && transcript_random(t, 3) == 0;
    transcript_stream(t, deeper ? 1 + transcript_random(t, 2) : 0);
    transcript_tag(t, d->close[COP_EL_PATH]);
    t->paths++;
}

static inline void transcript_block(transcript *t) {
    const cop_dialect *d = t->dialect;
    uint32_t n = 1 + transcript_random(t, 4);
    t->blocks++;
    t->level++;
    t->depth = t->level > t->depth ? t->level : t->depth;
    transcript_tag(t, d->open[COP_EL_BLOCK]);
    transcript_tag(t, d->open[COP_EL_PLAN]);
    for (uint32_t i = 0; i < n; i++) {
        t->numbers[t->level - 1] = i + 1;
        transcript_tag(t, d->open[COP_EL_ITEM]);
        if (t->exact || transcript_random(t, 3))
            transcript_number(t, "\n");
        transcript_text(t, 2);
        transcript_tag(t, d->close[COP_EL_ITEM]);
    }
    transcript_tag(t, d->close[COP_EL_PLAN]);
    for (uint32_t i = 0; i < n; i++) {
        if (!t->exact)
            transcript_text(t, 1);
        t->numbers[t->level - 1] = i + 1;
        transcript_path(t);
    }
    if (t->exact)
        transcript_put(t, d->join_prompt);
    else if (d->open[COP_EL_JOIN].bytes && transcript_random(t, 4))
        transcript_tag(t, d->open[COP_EL_JOIN]);
    else
        n = 0;
    if (n && d->open[COP_EL_JOIN].bytes) {
        transcript_text(t, 2);
        transcript_tag(t, d->close[COP_EL_JOIN]);
    }
    transcript_tag(t, d->close[COP_EL_BLOCK]);
    t->level--;
}

/* Release with cop_buffer_release(&t.text). */
static inline transcript transcript_make(const cop_dialect *dialect, uint64_t seed, bool exact) {
    transcript t = {.dialect = dialect, .exact = exact, .depth_max = 4, .state = seed * 977 + 1};
    transcript_random(&t, 2);
    transcript_text(&t, 2);
    bool root = transcript_random(&t, 4) != 0;
    if (root)
        transcript_put(&t, dialect->open[COP_EL_ROOT].text);
    else
        transcript_put(&t, ".");
    transcript_stream(&t, transcript_random(&t, 4));
    if (root)
        transcript_tag(&t, dialect->close[COP_EL_ROOT]);
    transcript_text(&t, 1);
    return t;
}

static inline const cop_dialect *transcript_dialect(const char *name, cop_dialect_file **file) {
    CHECK_OK(cop_dialect_load_named(".", name, file));
    return cop_dialect_of(*file);
}

/* The published transcripts of Multiverse-32B, which are not part of the repository. */
static const char *const transcript_recorded[] = {
    "1", "2", "4", "5", "7", "9", "10", "12", "13", "14", "15", "16", "18", "19", "21", "23", "24"};
enum { TRANSCRIPT_RECORDED = 17 };

/* False where they are not: set COPPICE_TRANSCRIPTS to their folder. */
static inline bool transcript_path_of(const char *id, char *path, size_t bytes) {
    const char *folder = getenv("COPPICE_TRANSCRIPTS");
    snprintf(path, bytes, "%s/%s.xml", folder ? folder : "../shared/data/traces/multiverse", id);
    FILE *file = fopen(path, "rb");
    if (file)
        fclose(file);
    return file != NULL;
}

static inline void transcript_read(const char *path, cop_buffer *text) {
    char chunk[4096];
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, file)) > 0;)
        CHECK_OK(cop_buffer_append(text, chunk, n));
    fclose(file);
}

static inline cop_trajectories *transcript_parse(const cop_dialect *dialect, const char *text,
                                                 size_t bytes) {
    cop_trajectories *set;
    CHECK_OK(cop_trajectories_create(&set));
    CHECK_OK(cop_trajectory_parse(dialect, "t", "t.xml", text, bytes, set));
    CHECK_EQ(set->count, 1);
    return set;
}

static inline void transcript_flatten(const cop_stream *stream, cop_buffer *out) {
    for (uint32_t i = 0; i < stream->n_pieces; i++) {
        const cop_piece *piece = &stream->pieces[i];
        CHECK(piece->block || piece->bytes > 0);
        if (!piece->block)
            CHECK_OK(cop_buffer_append(out, piece->text, piece->bytes));
        for (uint32_t p = 0; piece->block && p < piece->block->n_paths; p++)
            transcript_flatten(&piece->block->paths[p], out);
    }
}

/* Every piece in flattened order gives the text. */
static inline void transcript_check(const cop_trajectory *t, const char *text, size_t bytes) {
    cop_buffer flat = {0};
    transcript_flatten(&t->prompt, &flat);
    transcript_flatten(&t->stream, &flat);
    CHECK_EQ(flat.bytes, bytes);
    CHECK(memcmp(flat.data, text, bytes) == 0);
    cop_buffer_release(&flat);
}

static inline void transcript_write(const char *text, char path[64]) {
    strcpy(path, "/tmp/coppice-trajectory-XXXXXX");
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static inline char *transcript_dump(const cop_trajectory *t, cop_trajectory_write_options options) {
    json_t *json = cop_trajectory_to_json(t, options);
    CHECK(json != NULL);
    char *text = json_dumps(json, JSON_COMPACT);
    CHECK(text != NULL);
    json_decref(json);
    return text;
}

/* What reading `text` as a file gives. */
static inline cop_trajectories *transcript_reread(const char *text) {
    char path[64];
    cop_trajectories *set;
    transcript_write(text, path);
    CHECK_OK(cop_trajectories_read(path, &set));
    unlink(path);
    return set;
}

/* A small trajectory of counts. */
#define TRANSCRIPT_HEAD "{\"v\":1,\"id\":\"a\",\"dialect\":\"multiverse\","
#define TRANSCRIPT_TREE                                                                            \
    "\"blocks\":1,\"paths\":2,\"depth\":1,\"tokens\":10,\"stream\":[{\"n\":1},{\"block\":[[{"      \
    "\"n\":2,"                                                                                     \
    "\"forced\":\"branch\"}],[{\"n\":3}]]},{\"n\":4,\"forced\":\"join\"}]}"
