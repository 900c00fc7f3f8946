#include "reason/live_tracer.h"

#include <string.h>

#include "base/memory.h"

enum { PATH_BYTES = 64, EVENTS_A_BRANCH = 16 };
#define NOBODY UINT32_MAX

typedef struct traced_path { /* at 0 the sample's own thread */
    char path[PATH_BYTES];
    uint32_t parent, branch; /* branch: its number in the trace */
    uint32_t held;           /* tokens that it holds beyond its fork */
    bool ended, joined, dropped, said_end;
} traced_path;

struct cop_live_tracer {
    cop_live_tracer_options options;
    cop_trace trace;
    traced_path *paths;
    uint32_t n_paths, max_paths, last; /* last: the one that spoke last */
    uint32_t n_spawn;
};

cop_status cop_live_tracer_create(const cop_live_tracer_options *options, cop_live_tracer **out) {
    *out = NULL;
    cop_live_tracer *tracer = cop_calloc(1, sizeof *tracer);
    if (!tracer)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory to trace a sample");
    tracer->options = *options;
    tracer->max_paths = options->max_paths + 1;
    tracer->paths = cop_calloc(tracer->max_paths, sizeof *tracer->paths);
    cop_status status =
        tracer->paths ? cop_trace_create(tracer->max_paths,
                                         EVENTS_A_BRANCH * (tracer->max_paths + 1), &tracer->trace)
                      : COP_FAIL(COP_ERR_NO_MEMORY, "no memory to trace a sample");
    if (status != COP_OK) {
        cop_live_tracer_destroy(tracer);
        return status;
    }
    cop_live_tracer_reset(tracer, 0, 0);
    *out = tracer;
    return COP_OK;
}

void cop_live_tracer_destroy(cop_live_tracer *tracer) {
    if (!tracer)
        return;
    cop_trace_release(&tracer->trace);
    cop_free(tracer->paths);
    cop_free(tracer);
}

void cop_live_tracer_reset(cop_live_tracer *tracer, uint32_t n_prompt, uint32_t n_spawn) {
    cop_trace_reset(&tracer->trace);
    tracer->paths[0] = (traced_path){.parent = NOBODY};
    tracer->n_paths = 1;
    tracer->last = 0;
    tracer->n_spawn = n_spawn;
    cop_trace_tokens(&tracer->trace, 0, COP_ROLE_PROMPT, n_prompt);
}

static cop_join_rule join_of(const cop_live_tracer *tracer) {
    if (tracer->options.spawns)
        return COP_JOIN_MESSAGE;
    return tracer->options.dialect ? tracer->options.dialect->join : COP_JOIN_NONE;
}

/* The newest path of that name: an older one's block has been joined. */
static traced_path *find_path(cop_live_tracer *tracer, const char *path) {
    if (strcmp(tracer->paths[tracer->last].path, path) == 0 && !tracer->paths[tracer->last].ended)
        return &tracer->paths[tracer->last];
    for (uint32_t i = tracer->n_paths; i-- > 0;)
        if (strcmp(tracer->paths[i].path, path) == 0) {
            tracer->last = i;
            return &tracer->paths[i];
        }
    return NULL;
}

/* `own_prompt`: what it begins with where it sees nothing else. */
static void open_path(cop_live_tracer *tracer, const char *path, uint32_t own_prompt) {
    char parent_name[PATH_BYTES] = "";
    const char *dot = strrchr(path, '.');
    if (dot && (size_t)(dot - path) < sizeof parent_name)
        memcpy(parent_name, path, (size_t)(dot - path));
    const traced_path *parent = find_path(tracer, parent_name);
    bool spawn = own_prompt > 0 || join_of(tracer) == COP_JOIN_MESSAGE;
    if (!parent || tracer->n_paths == tracer->max_paths || strlen(path) >= PATH_BYTES) {
        tracer->trace.overflow = true;
        return;
    }
    uint32_t branch = cop_trace_fork(&tracer->trace, parent->branch, spawn);
    traced_path *opened = &tracer->paths[tracer->n_paths++];
    *opened = (traced_path){.parent = (uint32_t)(parent - tracer->paths), .branch = branch};
    strcpy(opened->path, path);
    if (spawn && branch != NOBODY)
        cop_trace_tokens(&tracer->trace, branch, COP_ROLE_PROMPT,
                         own_prompt ? own_prompt : tracer->n_spawn);
}

static void end_path(cop_live_tracer *tracer, traced_path *path);

/* Children of a block that is not joined any more: what they took, their parent waited for. */
static void close_children(cop_live_tracer *tracer, traced_path *path) {
    uint32_t self = (uint32_t)(path - tracer->paths);
    bool keeps = tracer->options.keep_partial && join_of(tracer) != COP_JOIN_STITCH;
    for (uint32_t i = self + 1; i < tracer->n_paths; i++) {
        traced_path *child = &tracer->paths[i];
        if (child->parent != self || child->joined)
            continue;
        end_path(tracer, child);
        cop_trace_join(&tracer->trace, path->branch, child->branch, 0);
        child->joined = true;
        path->held += keeps && !child->dropped ? child->held : 0;
    }
}

static void end_path(cop_live_tracer *tracer, traced_path *path) {
    if (path->ended)
        return;
    close_children(tracer, path);
    cop_trace_end(&tracer->trace, path->branch, path->said_end);
    path->ended = true;
}

/* With reuse, the first child's text stays as it was computed, unless nothing else would be given;
 * the rest of a re-prefilled block is computed again. */
static void join_paths(cop_live_tracer *tracer, traced_path *path) {
    const cop_dialect *dialect = tracer->options.dialect;
    uint32_t self = (uint32_t)(path - tracer->paths), again = 0, first = NOBODY, whole = 0;
    cop_join_rule rule = join_of(tracer);
    for (uint32_t i = self + 1; i < tracer->n_paths; i++) {
        const traced_path *child = &tracer->paths[i];
        if (child->parent != self || child->joined)
            continue;
        first = first == NOBODY ? i : first;
        whole += child->dropped ? 0 : child->held;
    }
    for (uint32_t i = self + 1; i < tracer->n_paths; i++) {
        traced_path *child = &tracer->paths[i];
        if (child->parent != self || child->joined)
            continue;
        bool kept = rule == COP_JOIN_STITCH ||
                    (rule == COP_JOIN_REPREFILL && dialect->reuse == COP_REUSE_LONGEST_PREFIX &&
                     i == first && (child->held < whole || dialect->join_prompt[0]));
        uint32_t held = child->dropped ? 0 : child->held;
        cop_trace_join(&tracer->trace, path->branch, child->branch, kept ? held : 0);
        again += kept ? 0 : held;
        child->joined = true;
    }
    if (rule == COP_JOIN_REPREFILL)
        cop_trace_tokens(&tracer->trace, path->branch, COP_ROLE_AGAIN, again);
    path->held += rule == COP_JOIN_MESSAGE ? 0 : whole;
}

void cop_live_tracer_hear(void *context, const cop_live_event *event) {
    cop_live_tracer *tracer = context;
    traced_path *path = event->kind == COP_LIVE_FORK ? NULL : find_path(tracer, event->path);
    if (event->kind == COP_LIVE_FORK) {
        open_path(tracer, event->path, event->own_prompt);
        return;
    }
    if (!path) {
        tracer->trace.overflow = true;
        return;
    }
    switch (event->kind) {
    case COP_LIVE_TEXT:
        cop_trace_tokens(&tracer->trace, path->branch,
                         event->forced ? COP_ROLE_FORCED : COP_ROLE_SAID, 1);
        path->said_end = event->bytes == 0 && !event->forced;
        path->held += !path->said_end; /* an end of text is no part of what is joined */
        break;
    case COP_LIVE_END:
        path->dropped = !tracer->options.keep_partial &&
                        (event->stop == COP_STOP_CANCELLED || event->stop == COP_STOP_CONFIDENCE);
        end_path(tracer, path);
        break;
    case COP_LIVE_JOIN:
        join_paths(tracer, path);
        break;
    default: /* STOP: of the sample, whoever said so */
        end_path(tracer, &tracer->paths[0]);
        break;
    }
}

bool cop_live_tracer_measure(cop_live_tracer *tracer, bool has_bos, cop_trace_figures *out) {
    return cop_trace_measure(&tracer->trace, has_bos, out);
}

/* ---- marks ---- */

bool cop_dialect_marks_paths(const cop_dialect *d) {
    return d && (d->join == COP_JOIN_REPREFILL || d->join == COP_JOIN_STITCH) &&
           d->open[COP_EL_BLOCK].bytes && d->close[COP_EL_BLOCK].bytes &&
           d->open[COP_EL_PATH].bytes && d->close[COP_EL_PATH].bytes;
}

typedef struct found_tag {
    size_t begin, end; /* bytes; begin == SIZE_MAX: there is none */
    cop_tag_mark mark;
} found_tag;

/* The first tag at or after `from`; of two at one place the longer. */
static found_tag next_tag(const cop_dialect *d, const char *text, size_t bytes, size_t from) {
    const struct {
        const cop_tag *tag;
        cop_tag_mark mark;
    } tags[] = {{&d->open[COP_EL_BLOCK], COP_MARK_BLOCK_OPEN},
                {&d->close[COP_EL_BLOCK], COP_MARK_BLOCK_CLOSE},
                {&d->open[COP_EL_PATH], COP_MARK_THREAD_OPEN},
                {&d->close[COP_EL_PATH], COP_MARK_THREAD_CLOSE}};
    found_tag found = {SIZE_MAX, SIZE_MAX, COP_MARK_TEXT};
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        const char *at = memmem(text + from, bytes - from, tags[i].tag->text, tags[i].tag->bytes);
        if (!at)
            continue;
        size_t begin = (size_t)(at - text), end = begin + tags[i].tag->bytes;
        if (begin < found.begin || (begin == found.begin && end > found.end))
            found = (found_tag){begin, end, tags[i].mark};
    }
    return found;
}

bool cop_tag_marks(const cop_dialect *dialect, const cop_tokenizer *tokenizer,
                   const cop_live_sample *sample, uint8_t *marks) {
    if (!cop_dialect_marks_paths(dialect) || !tokenizer)
        return false;
    size_t at = 0;
    found_tag tag = next_tag(dialect, sample->text, sample->bytes, 0);
    for (uint32_t i = 0; i < sample->n_ids; i++) {
        bool end = i + 1 == sample->n_ids && cop_tokenizer_is_end(tokenizer, sample->ids[i]);
        size_t begin = at;
        at += end ? 0 : cop_tokenizer_bytes(tokenizer, sample->ids[i]).bytes;
        marks[i] = COP_MARK_TEXT;
        if (tag.begin < at && tag.end > begin)
            marks[i] = tag.end <= at ? (uint8_t)tag.mark : COP_MARK_PART;
        while (tag.end <= at)
            tag = next_tag(dialect, sample->text, sample->bytes, tag.end);
    }
    return true;
}
