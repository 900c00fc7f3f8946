#include "ref/metrics_naive.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct edge {
    int from, to;
} edge;

static uint64_t most(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static int find_event(const naive_event *events, int n, char kind, int branch, int other) {
    for (int i = 0; i < n; i++)
        if (events[i].kind == kind && events[i].branch == branch &&
            (other < 0 || events[i].other == other))
            return i;
    return -1;
}

/* Every event waits for the one before it in its branch; a branch's first for its fork; a join for
 * its child's end. */
static int list_edges(const naive_event *events, int n, edge *edges) {
    int count = 0;
    for (int i = 0; i < n; i++) {
        int before = -1;
        for (int k = 0; k < i; k++)
            if (events[k].branch == events[i].branch)
                before = k;
        for (int k = 0; k < n && before < 0; k++)
            if ((events[k].kind == 'f' || events[k].kind == 's') &&
                events[k].other == events[i].branch)
                before = k;
        if (before >= 0)
            edges[count++] = (edge){before, i};
        if (events[i].kind == 'j')
            edges[count++] = (edge){find_event(events, n, 'e', events[i].other, -1), i};
    }
    return count;
}

/* Each event's longest way from the begin, over tokens whose role is in `roles`, itself included.
 */
static void longest_ways(const naive_event *events, int n, const edge *edges, int n_edges,
                         const char *roles, uint64_t *way) {
    for (int i = 0; i < n; i++)
        way[i] = events[i].kind == 't' && strchr(roles, events[i].role) ? 1 : 0;
    for (bool grew = true; grew;) {
        grew = false;
        for (int i = n_edges - 1; i >= 0; i--) { /* against the order of time */
            const naive_event *to = &events[edges[i].to];
            uint64_t here =
                way[edges[i].from] + (to->kind == 't' && strchr(roles, to->role) ? 1 : 0);
            if (here > way[edges[i].to]) {
                way[edges[i].to] = here;
                grew = true;
            }
        }
    }
}

static int last_of(const naive_event *events, int n, int branch) {
    int last = -1;
    for (int i = 0; i < n; i++)
        if (events[i].branch == branch)
            last = i;
    return last;
}

/* The tokens that each branch holds, as lists of event numbers. */
static void hold_sequences(const naive_event *events, int n, int n_branches, bool has_bos,
                           naive_figures *out) {
    int **held = calloc((size_t)n_branches, sizeof *held);
    int *length = calloc((size_t)n_branches, sizeof *length);
    int *first = calloc((size_t)n_branches, sizeof *first); /* what it began with */
    bool *eos = calloc((size_t)n_branches, sizeof *eos);
    for (int b = 0; b < n_branches; b++)
        held[b] = calloc((size_t)n * 4 + 1, sizeof **held);
    for (int i = 0; i < n; i++) {
        const naive_event *e = &events[i];
        int b = e->branch, o = e->other;
        if (e->kind == 't' && e->role != 'r')
            held[b][length[b]++] = i;
        if (e->kind == 'f') {
            memcpy(held[o], held[b], (size_t)length[b] * sizeof **held);
            length[o] = first[o] = length[b];
        }
        for (int k = first[o]; e->kind == 'j' && e->role == 'h' && k < length[o]; k++)
            held[b][length[b]++] = held[o][k];
        eos[b] |= e->kind == 'e' && e->role == 'e';
    }
    for (int b = 0; b < n_branches; b++) {
        out->longest_sequence = most(out->longest_sequence, (uint64_t)length[b]);
        out->longest_sequence_bos_eos =
            most(out->longest_sequence_bos_eos,
                 (uint64_t)length[b] + (has_bos ? 0 : 1) + (eos[b] ? 0 : 1));
        free(held[b]);
    }
    free(held);
    free(length);
    free(first);
    free(eos);
}

static void count_tokens(const naive_event *events, int n, int n_branches, naive_figures *out) {
    for (int b = 0; b < n_branches; b++) {
        uint64_t own = 0;
        for (int i = 0; i < n; i++) {
            if (events[i].kind != 't' || events[i].branch != b)
                continue;
            bool said = events[i].role == 's' || events[i].role == 'g';
            out->total += said || events[i].role == 'r';
            own += said;
        }
        out->longest_branch = most(out->longest_branch, own);
        out->in_branches += b > 0 ? own : 0;
    }
}

void naive_measure(const naive_event *events, int n, int n_branches, bool has_bos,
                   naive_figures *out) {
    edge *edges = calloc((size_t)n * 2 + 1, sizeof *edges);
    uint64_t *way = calloc((size_t)n + 1, sizeof *way), prompt = 0, active = 0;
    int n_edges = list_edges(events, n, edges), root = last_of(events, n, 0);
    memset(out, 0, sizeof *out);
    out->concurrency = NAN;
    count_tokens(events, n, n_branches, out);
    hold_sequences(events, n, n_branches, has_bos, out);
    for (int i = 0; i < n; i++)
        prompt += events[i].kind == 't' && events[i].role == 'p' && events[i].branch == 0;
    if (root >= 0) {
        longest_ways(events, n, edges, n_edges, "s", way);
        out->longest_text = way[root];
        longest_ways(events, n, edges, n_edges, "sgf", way);
        out->longest_thread = way[root];
        longest_ways(events, n, edges, n_edges, "psgfa", way);
        out->critical_path = way[root];
        longest_ways(events, n, edges, n_edges, "sg", way);
        out->longest_generated = way[root];
        for (int i = 0; i < n; i++) /* each token is made at the tick that its way counts */
            active += events[i].kind == 't' && strchr("sg", events[i].role) &&
                      events[i].branch > 0 && way[i] <= way[root];
        if (way[root] > 0)
            out->concurrency = (double)active / (double)way[root];
    }
    out->position_critical = prompt + out->longest_thread;
    free(edges);
    free(way);
}

/* ---- marked sequences ---- */

/* Where the unit that begins at `at` ends: a tag with its parts, or one token. */
static size_t unit_end(const char *tokens, size_t at) {
    while (tokens[at] == '.')
        at++;
    return tokens[at] ? at + 1 : at;
}

static char unit_kind(const char *tokens, size_t at) {
    size_t end = unit_end(tokens, at);
    return tokens[end - 1] == '.' ? 'x' : tokens[end - 1];
}

/* The first unit of that kind at or after `at`; the end of the text when there is none. */
static size_t find_unit(const char *tokens, size_t at, char kind) {
    while (tokens[at] && unit_kind(tokens, at) != kind)
        at = unit_end(tokens, at);
    return at;
}

/* Behind the block that `at` stands in. */
static size_t measure_block(const char *tokens, size_t at, naive_marked *out) {
    uint64_t text = 0, tags = 0, longest = 0, longest_tagged = 0, inside = 0;
    while (tokens[at] && unit_kind(tokens, at) != 'p') {
        size_t end = unit_end(tokens, at);
        if (unit_kind(tokens, at) != 'T') {
            text += end - at;
            at = end;
            continue;
        }
        size_t close = find_unit(tokens, end, 't'), behind = close;
        if (tokens[close])
            behind = unit_end(tokens, close);
        uint64_t own_tags = (end - at) + (behind - close), own = close - end;
        tags += own_tags;
        inside += own;
        longest = most(longest, own);
        longest_tagged = most(longest_tagged, own + own_tags);
        out->threads++;
        at = behind;
    }
    out->longest_code += text + tags + longest;
    out->longest_text += text + longest_tagged;
    out->in_blocks += text + tags + inside;
    return at;
}

void naive_measure_marked(const char *tokens, naive_marked *out) {
    memset(out, 0, sizeof *out);
    out->total = strlen(tokens);
    for (size_t at = 0; tokens[at];) {
        size_t open = find_unit(tokens, at, 'P'), end = open;
        if (tokens[open]) {
            end = unit_end(tokens, open);
            out->blocks++;
        }
        out->longest_code += end - at;
        out->longest_text += end - at;
        at = tokens[open] ? measure_block(tokens, end, out) : end;
        if (tokens[at]) { /* its closing tag */
            end = unit_end(tokens, at);
            out->longest_code += end - at;
            out->longest_text += end - at;
            at = end;
        }
    }
}
