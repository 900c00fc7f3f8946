#include "measure/metrics_reasoning.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* ---- traces ---- */

cop_status cop_trace_create(uint32_t max_branches, uint32_t max_events, cop_trace *out) {
    *out = (cop_trace){.max_branches = max_branches, .max_events = max_events};
    out->events = cop_calloc(max_events, sizeof *out->events);
    out->branches = cop_calloc(max_branches, sizeof *out->branches);
    out->open = cop_calloc(max_branches, sizeof *out->open);
    if (!out->events || !out->branches || !out->open) {
        cop_trace_release(out);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a trace of %u branches", max_branches);
    }
    cop_trace_reset(out);
    return COP_OK;
}

void cop_trace_release(cop_trace *trace) {
    cop_free(trace->events);
    cop_free(trace->branches);
    cop_free(trace->open);
    *trace = (cop_trace){0};
}

void cop_trace_reset(cop_trace *trace) {
    trace->n_events = 0;
    trace->n_branches = 1;
    trace->open[0] = UINT32_MAX;
    trace->overflow = false;
}

static cop_trace_event *add_event(cop_trace *trace, cop_trace_kind kind, uint32_t branch) {
    if (trace->n_events == trace->max_events || branch >= trace->n_branches) {
        trace->overflow = true;
        return NULL;
    }
    trace->open[branch] = UINT32_MAX;
    cop_trace_event *event = &trace->events[trace->n_events++];
    *event = (cop_trace_event){.kind = kind, .branch = branch};
    return event;
}

void cop_trace_tokens(cop_trace *trace, uint32_t branch, cop_token_role role, uint32_t n) {
    if (n == 0)
        return;
    uint32_t at = branch < trace->n_branches ? trace->open[branch] : UINT32_MAX;
    if (at != UINT32_MAX && trace->events[at].role == role &&
        trace->events[at].n <= UINT32_MAX - n) {
        trace->events[at].n += n;
        return;
    }
    cop_trace_event *event = add_event(trace, COP_TRACE_TOKENS, branch);
    if (!event)
        return;
    event->role = role;
    event->n = n;
    trace->open[branch] = trace->n_events - 1;
}

uint32_t cop_trace_fork(cop_trace *trace, uint32_t parent, bool spawn) {
    if (trace->n_branches == trace->max_branches) {
        trace->overflow = true;
        return UINT32_MAX;
    }
    cop_trace_event *event = add_event(trace, spawn ? COP_TRACE_SPAWN : COP_TRACE_FORK, parent);
    if (!event)
        return UINT32_MAX;
    event->other = trace->n_branches++;
    trace->open[event->other] = UINT32_MAX;
    return event->other;
}

void cop_trace_join(cop_trace *trace, uint32_t branch, uint32_t child, uint32_t held) {
    cop_trace_event *event = add_event(trace, COP_TRACE_JOIN, branch);
    if (!event)
        return;
    event->other = child;
    event->n = held;
}

void cop_trace_end(cop_trace *trace, uint32_t branch, bool end_of_text) {
    cop_trace_event *event = add_event(trace, COP_TRACE_END, branch);
    if (event)
        event->n = end_of_text;
}

static void take_tokens(cop_trace_branch *branch, cop_token_role role, uint64_t n,
                        cop_trace_figures *out) {
    bool generated = role == COP_ROLE_SAID || role == COP_ROLE_TAG;
    if (generated || role == COP_ROLE_PROBE)
        out->total += n;
    if (role == COP_ROLE_PROBE)
        return;
    branch->text += role == COP_ROLE_SAID ? n : 0;
    branch->generated += generated ? n : 0;
    branch->own += generated ? n : 0;
    branch->thread += generated || role == COP_ROLE_FORCED ? n : 0;
    branch->all += n;
    branch->sequence += n;
    out->in_branches += generated && branch->depth > 0 ? n : 0;
}

static void open_branch(const cop_trace_branch *parent, bool spawn, cop_trace_branch *child) {
    *child = *parent;
    child->depth++;
    child->own = 0;
    child->ended = false;
    if (spawn)
        child->sequence = 0;
}

static void join_branch(cop_trace_branch *branch, const cop_trace_branch *child, uint64_t held) {
    branch->text = larger(branch->text, child->text);
    branch->generated = larger(branch->generated, child->generated);
    branch->thread = larger(branch->thread, child->thread);
    branch->all = larger(branch->all, child->all);
    branch->sequence += held;
}

static void finish_branch(const cop_trace_branch *branch, bool has_bos, bool said_end,
                          cop_trace_figures *out) {
    uint64_t whole = branch->sequence + !has_bos + !said_end;
    out->longest_sequence = larger(out->longest_sequence, branch->sequence);
    out->longest_sequence_bos_eos = larger(out->longest_sequence_bos_eos, whole);
    out->longest_branch = larger(out->longest_branch, branch->own);
}

typedef struct trace_walk {
    cop_trace_figures *out;
    bool has_bos;
    uint64_t prompt;       /* the root's */
    uint64_t last, active; /* worker tokens made until `last` on the clock of generated tokens */
} trace_walk;

static void count_active(trace_walk *walk, const cop_trace_branch *branch, uint64_t n) {
    uint64_t end = branch->generated + n < walk->last ? branch->generated + n : walk->last;
    if (branch->depth > 0 && end > branch->generated)
        walk->active += end - branch->generated;
}

static bool take_event(cop_trace *trace, const cop_trace_event *event, uint32_t *known,
                       trace_walk *walk) {
    if (event->branch >= *known || trace->branches[event->branch].ended)
        return false;
    cop_trace_branch *branch = &trace->branches[event->branch], *other;
    switch (event->kind) {
    case COP_TRACE_TOKENS:
        if (event->role == COP_ROLE_SAID || event->role == COP_ROLE_TAG)
            count_active(walk, branch, event->n);
        take_tokens(branch, event->role, event->n, walk->out);
        if (event->branch == 0 && event->role == COP_ROLE_PROMPT)
            walk->prompt += event->n;
        return true;
    case COP_TRACE_FORK:
    case COP_TRACE_SPAWN:
        if (event->other != *known)
            return false;
        open_branch(branch, event->kind == COP_TRACE_SPAWN, &trace->branches[(*known)++]);
        return true;
    case COP_TRACE_JOIN:
        if (event->other >= *known || !trace->branches[event->other].ended)
            return false;
        other = &trace->branches[event->other];
        join_branch(branch, other, event->n);
        return true;
    case COP_TRACE_END:
        branch->ended = true;
        finish_branch(branch, walk->has_bos, event->n, walk->out);
        return true;
    }
    return false;
}

static bool walk_trace(cop_trace *trace, trace_walk *walk) {
    uint32_t known = 1;
    *walk->out = (cop_trace_figures){0};
    walk->prompt = walk->active = 0;
    memset(trace->branches, 0, trace->n_branches * sizeof *trace->branches);
    for (uint32_t i = 0; i < trace->n_events; i++)
        if (!take_event(trace, &trace->events[i], &known, walk))
            return false;
    for (uint32_t i = 0; i < known; i++)
        if (!trace->branches[i].ended)
            finish_branch(&trace->branches[i], walk->has_bos, false, walk->out);
    return true;
}

/* Twice: who was active while the critical path ran is known once its length is. */
bool cop_trace_measure(cop_trace *trace, bool has_bos, cop_trace_figures *out) {
    trace_walk walk = {.out = out, .has_bos = has_bos};
    const cop_trace_branch *root = &trace->branches[0];
    *out = (cop_trace_figures){0};
    if (trace->overflow || !walk_trace(trace, &walk))
        return false;
    walk.last = root->generated;
    walk_trace(trace, &walk);
    out->longest_text = root->text;
    out->longest_generated = root->generated;
    out->longest_thread = root->thread;
    out->critical_path = root->all;
    out->position_critical = walk.prompt + root->thread;
    out->concurrency = walk.last ? (double)walk.active / (double)walk.last : NAN;
    return true;
}

/* ---- marked sequences ---- */

typedef struct marked_state {
    bool block, thread;
    uint64_t thread_tokens, thread_tags; /* of the open thread */
    uint64_t longest, longest_tagged;    /* of the block's threads: inside; with their own tags */
    uint64_t tags, inside;               /* of the block: its threads' tags, its threads' inside */
} marked_state;

static void end_thread(marked_state *s) {
    s->longest = larger(s->longest, s->thread_tokens);
    s->longest_tagged = larger(s->longest_tagged, s->thread_tokens + s->thread_tags);
    s->inside += s->thread_tokens;
    s->tags += s->thread_tags;
    s->thread = false;
    s->thread_tokens = s->thread_tags = 0;
}

static void end_block(marked_state *s, cop_marked_figures *out) {
    if (s->thread)
        end_thread(s);
    out->longest_code += s->tags + s->longest;
    out->longest_text += s->longest_tagged;
    out->in_blocks += s->tags + s->inside;
    *s = (marked_state){0};
}

/* A tag of n tokens, where it stands: what it is worth there, or text. */
static void take_tag(marked_state *s, cop_tag_mark mark, uint64_t n, cop_marked_figures *out) {
    if (mark == COP_MARK_THREAD_OPEN && s->block && !s->thread) {
        s->thread = true;
        s->thread_tags = n;
        out->threads++;
    } else if (mark == COP_MARK_THREAD_CLOSE && s->thread) {
        s->thread_tags += n;
        end_thread(s);
    } else if (s->thread) {
        s->thread_tokens += n;
    } else if (mark == COP_MARK_BLOCK_CLOSE && s->block) {
        end_block(s, out);
        out->longest_code += n;
        out->longest_text += n;
    } else {
        out->longest_code += n;
        out->longest_text += n;
        out->in_blocks += s->block ? n : 0;
        if (mark == COP_MARK_BLOCK_OPEN && !s->block) {
            s->block = true;
            out->blocks++;
        }
    }
}

void cop_marked_measure(const uint8_t *marks, size_t n, cop_marked_figures *out) {
    marked_state state = {0};
    uint64_t parts = 0;
    *out = (cop_marked_figures){.total = n};
    for (size_t i = 0; i < n; i++) {
        if (marks[i] == COP_MARK_PART) {
            parts++;
            continue;
        }
        take_tag(&state, (cop_tag_mark)marks[i], parts + 1, out);
        parts = 0;
    }
    if (parts)
        take_tag(&state, COP_MARK_TEXT, parts, out);
    if (state.block)
        end_block(&state, out);
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The bytes of the tag that stands here; 0 for none. */
static size_t tag_here(const char *text, size_t bytes, const cop_word_tags *tags,
                       cop_tag_mark *mark) {
    const char *const known[] = {NULL, tags->block_open, tags->block_close, tags->path_open,
                                 tags->path_close};
    for (int i = COP_MARK_BLOCK_OPEN; i <= COP_MARK_THREAD_CLOSE; i++) {
        size_t length = strlen(known[i]);
        if (length && length <= bytes && memcmp(text, known[i], length) == 0) {
            *mark = (cop_tag_mark)i;
            return length;
        }
    }
    return 0;
}

double cop_efficiency_gain_words(const char *text, size_t bytes, const cop_word_tags *tags) {
    uint64_t all = 0, outside = 0, saved = 0, path = 0, longest = 0;
    bool block = false, in_path = false, in_word = false;
    for (size_t at = 0; at < bytes;) {
        cop_tag_mark mark;
        size_t length = tag_here(text + at, bytes - at, tags, &mark);
        if (!length) {
            bool begins = !is_space(text[at]) && !in_word;
            in_word = !is_space(text[at]);
            all += begins;
            outside += begins && !block;
            path += begins && in_path;
            at++;
            continue;
        }
        in_word = false;
        at += length;
        if (in_path && mark != COP_MARK_THREAD_OPEN) {
            longest = larger(longest, path);
            in_path = mark == COP_MARK_BLOCK_OPEN; /* that is text there */
        }
        if (mark == COP_MARK_THREAD_OPEN && block && !in_path) {
            in_path = true;
            path = 0;
        }
        if (mark == COP_MARK_BLOCK_CLOSE && block) {
            saved += longest;
            block = false;
        }
        if (mark == COP_MARK_BLOCK_OPEN && !block) {
            block = true;
            longest = 0;
        }
    }
    longest = larger(longest, in_path ? path : 0);
    uint64_t traversed = outside + saved + (block ? longest : 0);
    return all ? fmax(0, (double)(all - traversed) / (double)all) : NAN;
}

/* ---- ratios ---- */

double cop_speedup_baseline(const double *baseline, const double *own, uint32_t n, uint32_t *used) {
    double sum = 0;
    *used = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!(baseline[i] > 0) || !(own[i] > 0) || isinf(baseline[i]) || isinf(own[i]))
            continue;
        sum += baseline[i] / own[i];
        ++*used;
    }
    return *used ? sum / *used : NAN;
}
