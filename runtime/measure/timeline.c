#include "measure/timeline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { LABEL_BYTES = 32, LABELS_MAX = 65536 };

struct cop_timeline {
    cop_event *events;
    uint32_t count, capacity;
    uint64_t lost;
    char (*labels)[LABEL_BYTES];
    uint32_t n_labels;
};

cop_status cop_timeline_create(uint32_t capacity, cop_timeline **out) {
    *out = NULL;
    cop_timeline *timeline = cop_calloc(1, sizeof *timeline);
    if (timeline) {
        timeline->capacity = capacity;
        timeline->n_labels = capacity < LABELS_MAX ? capacity : LABELS_MAX;
        timeline->events = cop_calloc(capacity, sizeof *timeline->events);
        timeline->labels = cop_calloc(timeline->n_labels, sizeof *timeline->labels);
    }
    if (!timeline || !timeline->events || !timeline->labels) {
        cop_timeline_destroy(timeline);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a timeline of %u events", capacity);
    }
    *out = timeline;
    return COP_OK;
}

void cop_timeline_destroy(cop_timeline *timeline) {
    if (!timeline)
        return;
    cop_free(timeline->events);
    cop_free(timeline->labels);
    cop_free(timeline);
}

void cop_timeline_reset(cop_timeline *timeline) {
    timeline->count = 0;
    timeline->lost = 0;
    memset(timeline->labels, 0, (size_t)timeline->n_labels * sizeof *timeline->labels);
}

void cop_timeline_add(cop_timeline *timeline, cop_event event) {
    if (!timeline)
        return;
    if (timeline->count < timeline->capacity)
        timeline->events[timeline->count++] = event;
    else
        timeline->lost++;
}

const cop_event *cop_timeline_events(const cop_timeline *timeline, uint32_t *count,
                                     uint64_t *lost) {
    if (count)
        *count = timeline->count;
    if (lost)
        *lost = timeline->lost;
    return timeline->events;
}

void cop_timeline_label(cop_timeline *timeline, uint32_t branch, const char *label) {
    if (!timeline || branch >= timeline->n_labels)
        return;
    size_t bytes = strnlen(label, LABEL_BYTES - 1);
    /* A character that the cut would split goes as a whole. */
    if (label[bytes])
        while (bytes && ((unsigned char)label[bytes] & 0xC0) == 0x80)
            bytes--;
    memset(timeline->labels[branch], 0, LABEL_BYTES);
    memcpy(timeline->labels[branch], label, bytes);
}

const char *cop_timeline_label_of(const cop_timeline *timeline, uint32_t branch) {
    return branch < timeline->n_labels ? timeline->labels[branch] : "";
}

/* One branch from its beginning to its end. Branch indices may be used again after a branch has
 * ended, so a track belongs to a life, not to an index. */
typedef struct life {
    uint32_t problem, branch, begin_event, track;
    uint32_t parent; /* branch index, UINT32_MAX for none */
    bool ended;
    cop_branch_end end;
    uint64_t begin_ns, end_ns, tokens;
} life;

typedef struct trace_writer {
    const cop_timeline *timeline;
    FILE *file;
    life *lives; /* sorted by problem, branch, begin_event */
    uint32_t n_lives;
    uint64_t last_ns;
    uint32_t flows, flows_lost;
    bool comma;
} trace_writer;

static int life_order(const void *left, const void *right) {
    const life *a = left, *b = right;
    if (a->problem != b->problem)
        return a->problem < b->problem ? -1 : 1;
    if (a->branch != b->branch)
        return a->branch < b->branch ? -1 : 1;
    return a->begin_event < b->begin_event ? -1 : a->begin_event > b->begin_event;
}

/* The branch's last life that began at or before event `at`; its first one when none did. */
static life *life_of(const trace_writer *w, uint32_t problem, uint32_t branch, uint32_t at) {
    uint32_t low = 0, high = w->n_lives;
    const life key = {.problem = problem, .branch = branch, .begin_event = at};
    while (low < high) { /* the first life that lies after the key */
        uint32_t middle = low + (high - low) / 2;
        if (life_order(&w->lives[middle], &key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low > 0 && w->lives[low - 1].problem == problem && w->lives[low - 1].branch == branch)
        return &w->lives[low - 1];
    if (low < w->n_lives && w->lives[low].problem == problem && w->lives[low].branch == branch)
        return &w->lives[low];
    return NULL;
}

static cop_status find_lives(trace_writer *w) {
    const cop_timeline *t = w->timeline;
    w->lives = cop_calloc(t->count, sizeof *w->lives);
    if (!w->lives)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory to write a trace of %u events", t->count);
    for (uint32_t i = 0; i < t->count; i++) {
        const cop_event *e = &t->events[i];
        if (e->t_ns + e->duration_ns > w->last_ns)
            w->last_ns = e->t_ns + e->duration_ns;
        if (e->kind == COP_EVENT_BRANCH_BEGIN) {
            w->lives[w->n_lives] = (life){.problem = e->problem,
                                          .branch = e->branch,
                                          .begin_event = i,
                                          .track = w->n_lives + 1,
                                          .parent = e->other,
                                          .begin_ns = e->t_ns};
            w->n_lives++;
        }
    }
    qsort(w->lives, w->n_lives, sizeof *w->lives, life_order);
    for (uint32_t i = 0; i < w->n_lives; i++)
        w->lives[i].end_ns = w->last_ns;
    for (uint32_t i = 0; i < t->count; i++) {
        const cop_event *e = &t->events[i];
        life *l = e->kind == COP_EVENT_BRANCH_END ? life_of(w, e->problem, e->branch, i) : NULL;
        if (!l || l->ended)
            continue;
        l->ended = true;
        l->end = (cop_branch_end)e->other;
        l->end_ns = e->t_ns > l->begin_ns ? e->t_ns : l->begin_ns;
        l->tokens = e->value;
    }
    return COP_OK;
}

/* Labels may come from a transcript: JSON text, whatever the bytes. */
static void put_text(FILE *file, const char *text) {
    fputc('"', file);
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        int more = *at >= 0xF0 && *at <= 0xF4 ? 3 : *at >= 0xE0 ? 2 : *at >= 0xC2 ? 1 : 0;
        if (*at < 0x20 || *at == 0x7F) {
            fprintf(file, "\\u%04x", *at);
        } else if (*at == '"' || *at == '\\') {
            fprintf(file, "\\%c", *at);
        } else if (*at < 0x80) {
            fputc(*at, file);
        } else {
            bool whole = *at >= 0xC2 && *at <= 0xF4;
            for (int i = 1; i <= more; i++) /* stops at the NUL, which is no continuation */
                whole = whole && (at[i] & 0xC0) == 0x80;
            whole = whole && !(*at == 0xE0 && at[1] < 0xA0) && !(*at == 0xED && at[1] > 0x9F) &&
                    !(*at == 0xF0 && at[1] < 0x90) && !(*at == 0xF4 && at[1] > 0x8F);
            if (!whole) {
                fputs("\\ufffd", file);
                continue;
            }
            fwrite(at, 1, (size_t)more + 1, file);
            at += more;
        }
    }
    fputc('"', file);
}

/* Opens one event; timestamps of Chrome traces are microseconds, with the nanoseconds behind the
 * point. The caller closes the brace. */
static void put_event(trace_writer *w, const char *phase, uint32_t problem, uint32_t track,
                      uint64_t t_ns) {
    fprintf(w->file,
            "%s\n{\"ph\":\"%s\",\"pid\":%" PRIu64 ",\"tid\":%u,\"ts\":%" PRIu64 ".%03" PRIu64,
            w->comma ? "," : "", phase, (uint64_t)problem + 1, track, t_ns / 1000, t_ns % 1000);
    w->comma = true;
}

static void put_duration(trace_writer *w, uint64_t ns) {
    fprintf(w->file, ",\"dur\":%" PRIu64 ".%03" PRIu64, ns / 1000, ns % 1000);
}

static void put_life(trace_writer *w, const life *l) {
    static const char *const ends[] = {"done", "pruned", "cancelled", "failed"};
    char number[16];
    snprintf(number, sizeof number, "%u", l->branch);
    const char *label = cop_timeline_label_of(w->timeline, l->branch);
    label = *label ? label : number;
    put_event(w, "M", l->problem, l->track, 0);
    fputs(",\"name\":\"thread_name\",\"args\":{\"name\":", w->file);
    put_text(w->file, label);
    fputs("}}", w->file);
    put_event(w, "M", l->problem, l->track, 0);
    fprintf(w->file, ",\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":%u}}", l->track);

    const life *parent =
        l->parent == UINT32_MAX ? NULL : life_of(w, l->problem, l->parent, l->begin_event);
    const char *end = !l->ended                                       ? "open"
                      : (unsigned)l->end < sizeof ends / sizeof *ends ? ends[l->end]
                                                                      : "unknown";
    put_event(w, "X", l->problem, l->track, l->begin_ns);
    put_duration(w, l->end_ns - l->begin_ns);
    fputs(",\"cat\":\"branch\",\"name\":", w->file);
    put_text(w->file, label);
    fprintf(w->file,
            ",\"args\":{\"branch\":%u,\"parent_track\":%u,\"tokens\":%" PRIu64 ",\"end\":\"%s\"}}",
            l->branch, parent ? parent->track : 0, l->tokens, end);
}

/* An arrow needs a slice at both of its ends: it leaves and arrives inside the two branches. */
static void put_flow(trace_writer *w, const char *name, const life *from, uint64_t from_ns,
                     const life *to, uint64_t to_ns) {
    w->flows++;
    put_event(w, "s", from->problem, from->track, from_ns);
    fprintf(w->file, ",\"cat\":\"%s\",\"name\":\"%s\",\"id\":%u}", name, name, w->flows);
    put_event(w, "f", to->problem, to->track, to_ns);
    fprintf(w->file, ",\"cat\":\"%s\",\"name\":\"%s\",\"id\":%u,\"bp\":\"e\"}", name, name,
            w->flows);
}

static void put_fork_or_join(trace_writer *w, const cop_event *e, uint32_t at) {
    const life *parent = life_of(w, e->problem, e->branch, at);
    const life *child = life_of(w, e->problem, e->other, at);
    if (child && e->kind == COP_EVENT_FORK && child->ended && child->end_ns < e->t_ns) {
        /* The index is about to be used again: the life that this fork starts comes next. */
        const life *next = child + 1;
        child =
            next < w->lives + w->n_lives && next->problem == e->problem && next->branch == e->other
                ? next
                : NULL;
    }
    if (!parent || !child) {
        w->flows_lost++;
        return;
    }
    if (e->kind == COP_EVENT_FORK) {
        uint64_t begin = child->begin_ns > e->t_ns ? child->begin_ns : e->t_ns;
        put_flow(w, "fork", parent, e->t_ns, child, begin);
    } else {
        uint64_t end = child->end_ns < e->t_ns ? child->end_ns : e->t_ns;
        put_flow(w, "join", child, end > child->begin_ns ? end - 1 : end, parent, e->t_ns);
    }
}

/* The wait that begins at event `at`, until the next end of a wait on that branch. */
static void put_wait(trace_writer *w, uint32_t at) {
    const cop_event *begin = &w->timeline->events[at];
    const life *l = life_of(w, begin->problem, begin->branch, at);
    uint64_t end_ns = l ? l->end_ns : w->last_ns;
    for (uint32_t i = at + 1; i < w->timeline->count; i++) {
        const cop_event *e = &w->timeline->events[i];
        if (e->branch == begin->branch && e->problem == begin->problem &&
            (e->kind == COP_EVENT_WAIT_END || e->kind == COP_EVENT_BRANCH_END)) {
            end_ns = e->t_ns;
            break;
        }
    }
    if (!l || end_ns < begin->t_ns)
        return;
    put_event(w, "X", begin->problem, l->track, begin->t_ns);
    put_duration(w, end_ns - begin->t_ns);
    fputs(",\"cat\":\"wait\",\"name\":\"waits for its children\"}", w->file);
}

static void put_events(trace_writer *w) {
    for (uint32_t i = 0; i < w->n_lives; i++)
        put_life(w, &w->lives[i]);
    bool steps_named = false;
    for (uint32_t i = 0; i < w->timeline->count; i++) {
        const cop_event *e = &w->timeline->events[i];
        switch ((cop_event_kind)e->kind) {
        case COP_EVENT_FORK:
        case COP_EVENT_JOIN:
            put_fork_or_join(w, e, i);
            break;
        case COP_EVENT_WAIT_BEGIN:
            put_wait(w, i);
            break;
        case COP_EVENT_STEP:
            if (!steps_named) {
                put_event(w, "M", e->problem, 0, 0);
                fputs(",\"name\":\"thread_name\",\"args\":{\"name\":\"steps\"}}", w->file);
                steps_named = true;
            }
            put_event(w, "X", e->problem, 0, e->t_ns);
            put_duration(w, e->duration_ns);
            fprintf(w->file,
                    ",\"cat\":\"step\",\"name\":\"step\",\"args\":{\"rows\":%" PRIu64
                    ",\"decode_rows\":%u}}",
                    e->value, e->other);
            break;
        case COP_EVENT_PAGES:
            put_event(w, "C", e->problem, 0, e->t_ns);
            fprintf(w->file, ",\"name\":\"KV pages\",\"args\":{\"pages\":%" PRIu64 "}}", e->value);
            break;
        case COP_EVENT_BRANCH_BEGIN:
        case COP_EVENT_BRANCH_END:
        case COP_EVENT_WAIT_END:
            break;
        }
    }
}

cop_status cop_timeline_write(const cop_timeline *timeline, const char *title, FILE *file) {
    trace_writer w = {.timeline = timeline, .file = file};
    cop_status status = find_lives(&w);
    if (status == COP_OK) {
        fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[", file);
        put_events(&w);
        fputs("\n],\"otherData\":{\"title\":", file);
        put_text(file, title ? title : "");
        fprintf(file,
                ",\"events\":%u,\"lost_events\":%" PRIu64
                ",\"flows\":%u,\"flows_without_branch\":%u}}\n",
                timeline->count, timeline->lost, w.flows, w.flows_lost);
        if (fflush(file) != 0 || ferror(file))
            status = COP_FAIL(COP_ERR_IO, "cannot write the trace \"%s\": %s", title ? title : "",
                              strerror(errno));
    }
    cop_free(w.lives);
    return status;
}
