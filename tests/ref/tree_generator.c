#include "ref/tree_generator.h"

#include <stdlib.h>
#include <string.h>

enum { CHILDREN_MAX = 6, FAMILY_NONE = -1 };

typedef enum branch_state { GONE, RUNNING, WAITING, DONE } branch_state;

typedef struct branch {
    branch_state state;
    uint32_t view;              /* the one handle that the branch holds */
    int family;                 /* its siblings', FAMILY_NONE for a problem */
    uint32_t appended, stepped; /* tokens of its segment; of these, those that had a row */
    uint32_t start;             /* position of its segment */
    uint32_t joins;             /* inside it */
    bool started;               /* has a slot */
} branch;

typedef struct fork_family { /* one fork */
    uint32_t parent;         /* branch */
    uint32_t child[CHILDREN_MAX], n;
    bool open;
} fork_family;

typedef struct generator {
    tree_trace *trace;
    uint64_t state;
    branch *branches;
    fork_family *families;
    uint32_t n_branches, n_families;
    uint32_t *segment_tokens; /* [view] */
    uint32_t capacity;        /* of branches, families, views */
} generator;

static void *must(void *pointer) {
    if (!pointer) {
        fprintf(stderr, "tree generator: out of memory\n");
        exit(1);
    }
    return pointer;
}

static uint64_t next_random(generator *g) {
    uint64_t x = g->state += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static uint32_t below(generator *g, uint32_t bound) {
    return bound ? (uint32_t)(next_random(g) % bound) : 0;
}

static bool chance(generator *g, uint32_t percent) {
    return below(g, 100) < percent;
}

static void reserve(void *array, uint32_t count, size_t size) {
    /* Grows at powers of two, so that no capacity has to be kept. */
    if (count & (count - 1))
        return;
    void *old;
    memcpy(&old, array, sizeof old);
    old = must(realloc(old, (size_t)(count ? 2 * count : 1) * size));
    memcpy(array, &old, sizeof old);
}

static tree_op *emit(generator *g, tree_op op) {
    tree_trace *t = g->trace;
    reserve(&t->ops, t->n_ops, sizeof *t->ops);
    t->ops[t->n_ops] = op;
    return &t->ops[t->n_ops++];
}

static void push_path(generator *g, uint32_t view) {
    tree_trace *t = g->trace;
    reserve(&t->paths, t->n_paths, sizeof *t->paths);
    t->paths[t->n_paths++] = view;
}

static void push_list(generator *g, uint32_t view) {
    tree_trace *t = g->trace;
    reserve(&t->list, t->n_list, sizeof *t->list);
    t->list[t->n_list++] = view;
}

static uint32_t add_view(generator *g, tree_view view) {
    tree_trace *t = g->trace;
    reserve(&t->views, t->n_views, sizeof *t->views);
    reserve(&g->segment_tokens, t->n_views, sizeof *g->segment_tokens);
    t->views[t->n_views] = view;
    g->segment_tokens[t->n_views] = 0;
    return t->n_views++;
}

static uint32_t open_view(generator *g, uint32_t parent, uint32_t start) {
    tree_trace *t = g->trace;
    const uint32_t first = t->n_paths;
    const uint32_t above = parent == TREE_ROOT ? 0 : t->views[parent].count;
    for (uint32_t i = 0; i < above; i++)
        push_path(g, t->paths[t->views[parent].first + i]);
    const uint32_t view = add_view(g, (tree_view){first, above + 1, start, false});
    push_path(g, view);
    t->max_nodes++;
    emit(g, (tree_op){.kind = TREE_OPEN, .view = view, .parent = parent});
    return view;
}

/* A view's segments in order, empty ones left out where they are stitched in. */
static uint32_t stitch_view(generator *g, uint32_t base, uint32_t from, const uint32_t *tail,
                            uint32_t n_tails) {
    tree_trace *t = g->trace;
    const uint32_t first = t->n_paths;
    for (uint32_t i = 0; i < t->views[base].count; i++)
        push_path(g, t->paths[t->views[base].first + i]);
    const uint32_t skip = t->views[from].count;
    const uint32_t first_tail = t->n_list;
    for (uint32_t i = 0; i < n_tails; i++) {
        push_list(g, tail[i]);
        for (uint32_t j = skip; j < t->views[tail[i]].count; j++) {
            const uint32_t segment = t->paths[t->views[tail[i]].first + j];
            if (g->segment_tokens[segment])
                push_path(g, segment);
        }
    }
    const uint32_t view = add_view(g, (tree_view){first, t->n_paths - first, 0, true});
    t->max_nodes += t->views[view].count;
    emit(g, (tree_op){.kind = TREE_STITCH,
                      .view = view,
                      .parent = base,
                      .below = from,
                      .first = first_tail,
                      .count = n_tails});
    return view;
}

static void append(generator *g, branch *b, uint32_t count) {
    tree_trace *t = g->trace;
    const uint32_t first = t->n_tokens;
    for (uint32_t i = 0; i < count; i++) {
        reserve(&t->tokens, t->n_tokens, sizeof *t->tokens);
        t->tokens[t->n_tokens++] = (int32_t)below(g, t->options.vocab);
    }
    t->coverage.seen[TREE_MANY_LEAVES] += g->segment_tokens[b->view] <= COP_LEAF_TOKENS &&
                                          g->segment_tokens[b->view] + count > COP_LEAF_TOKENS;
    b->appended += count;
    g->segment_tokens[b->view] += count;
    emit(g, (tree_op){.kind = TREE_APPEND, .view = b->view, .first = first, .count = count});
}

static uint32_t add_branch(generator *g, uint32_t parent_view, uint32_t start, int family) {
    reserve(&g->branches, g->n_branches, sizeof *g->branches);
    g->branches[g->n_branches] = (branch){
        .state = RUNNING,
        .view = open_view(g, parent_view, start),
        .family = family,
        .start = start,
    };
    return g->n_branches++;
}

static uint32_t end_position(const branch *b) {
    return b->start + b->appended;
}

static uint32_t running(const generator *g) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n_branches; i++)
        n += g->branches[i].state == RUNNING;
    return n;
}

/* A running branch, or UINT32_MAX; with `child` one that was forked, where there is any. */
static uint32_t pick_running(generator *g, bool child) {
    uint32_t seen = 0, picked = UINT32_MAX;
    for (uint32_t i = 0; i < g->n_branches; i++)
        if (g->branches[i].state == RUNNING && (!child || g->branches[i].family != FAMILY_NONE) &&
            below(g, ++seen) == 0)
            picked = i;
    return picked == UINT32_MAX && child ? pick_running(g, false) : picked;
}

static void stop(generator *g, branch *b) {
    if (b->started)
        emit(g, (tree_op){.kind = TREE_STOP, .view = b->view});
    b->started = false;
}

static void release(generator *g, uint32_t view) {
    emit(g, (tree_op){.kind = TREE_RELEASE, .view = view});
}

static bool all_stepped(const branch *b) {
    return b->appended == b->stepped;
}

static void fork_branch(generator *g, uint32_t at) {
    tree_trace *t = g->trace;
    const uint32_t n = 2 + below(g, CHILDREN_MAX - 1);
    if (running(g) + n - 1 > t->options.max_branches || !all_stepped(&g->branches[at]))
        return;
    stop(g, &g->branches[at]);
    emit(g, (tree_op){.kind = TREE_SEAL, .view = g->branches[at].view});
    g->branches[at].state = WAITING;
    reserve(&g->families, g->n_families, sizeof *g->families);
    fork_family *f = &g->families[g->n_families];
    *f = (fork_family){.parent = at, .n = n, .open = true};
    const bool headers = chance(g, 60);
    for (uint32_t i = 0; i < n; i++) {
        f->child[i] =
            add_branch(g, g->branches[at].view, end_position(&g->branches[at]), (int)g->n_families);
        if (headers && chance(g, 80))
            append(g, &g->branches[f->child[i]], 1 + below(g, t->options.max_header));
    }
    g->n_families++;
    t->coverage.seen[TREE_FORKS]++;
}

/* Continues the parent on a stitched view; positions go on after the longest child. Now and then
 * another branch goes on from a child's own view, so that one segment stands under two prefixes. */
static void join_by_stitch(generator *g, fork_family *f, const uint32_t *done, uint32_t n_done) {
    tree_trace *t = g->trace;
    uint32_t tail[CHILDREN_MAX], start = end_position(&g->branches[f->parent]), joins = 0;
    for (uint32_t i = 0; i < n_done; i++) {
        const branch *child = &g->branches[done[i]];
        tail[i] = child->view;
        start = end_position(child) > start ? end_position(child) : start;
        joins += child->joins;
    }
    const uint32_t old = g->branches[f->parent].view;
    const uint32_t joined = stitch_view(g, old, old, tail, n_done);
    if (n_done > 1 && chance(g, 40) && running(g) + 2 < t->options.max_branches)
        add_branch(g, tail[1], end_position(&g->branches[done[1]]), FAMILY_NONE);
    branch *parent = &g->branches[f->parent];
    parent->view = open_view(g, joined, start);
    parent->start = start;
    parent->joins += 1 + joins;
    release(g, joined);
    release(g, old);
    t->coverage.seen[TREE_STITCHES]++;
    t->coverage.seen[TREE_NESTED_JOINS] += joins > 0;
}

/* The children's text, or a message, is prefilled after the parent's. */
static void join_by_prefill(generator *g, fork_family *f) {
    const uint32_t old = g->branches[f->parent].view;
    branch *parent = &g->branches[f->parent];
    const uint32_t start = end_position(parent);
    parent->view = open_view(g, old, start);
    parent->start = start;
    release(g, old);
    g->trace->coverage.seen[TREE_REPREFILLS]++;
}

static void join_if_complete(generator *g, int index) {
    if (index == FAMILY_NONE || !g->families[index].open)
        return;
    fork_family *f = &g->families[index];
    uint32_t done[CHILDREN_MAX], n_done = 0;
    for (uint32_t i = 0; i < f->n; i++) {
        const branch *child = &g->branches[f->child[i]];
        if (child->state == RUNNING || child->state == WAITING)
            return;
        if (child->state == DONE)
            done[n_done++] = f->child[i];
    }
    f->open = false;
    const bool stitch = n_done > 0 && chance(g, 75);
    if (stitch)
        join_by_stitch(g, f, done, n_done);
    else
        join_by_prefill(g, f);
    branch *parent = &g->branches[f->parent];
    parent->state = RUNNING;
    parent->appended = parent->stepped = 0;
    if (!stitch || chance(g, 50))
        append(g, parent, 1 + below(g, g->trace->options.max_header));
    for (uint32_t i = 0; i < n_done; i++) {
        release(g, g->branches[done[i]].view);
        g->branches[done[i]].state = GONE;
    }
}

static void finish_branch(generator *g, uint32_t at) {
    branch *b = &g->branches[at];
    if (!all_stepped(b))
        return;
    stop(g, b);
    emit(g, (tree_op){.kind = TREE_SEAL, .view = b->view});
    if (b->family == FAMILY_NONE) {
        release(g, b->view);
        b->state = GONE;
        return;
    }
    b->state = DONE;
    join_if_complete(g, b->family);
}

static void prune_branch(generator *g, uint32_t at) {
    branch *b = &g->branches[at];
    stop(g, b);
    release(g, b->view);
    b->state = GONE;
    g->trace->coverage.seen[TREE_PRUNED]++;
    join_if_complete(g, b->family);
}

static void retract_branch(generator *g, uint32_t at) {
    branch *b = &g->branches[at];
    if (!all_stepped(b) || b->appended == 0)
        return;
    const uint32_t count = 1 + below(g, b->appended < 3 ? b->appended : 3);
    b->appended -= count;
    b->stepped -= count;
    g->segment_tokens[b->view] -= count;
    emit(g, (tree_op){.kind = TREE_RETRACT, .view = b->view, .count = count});
    g->trace->coverage.seen[TREE_RETRACTED]++;
}

/* A prompt is sealed at its end, with its rows still to come: they may share a step with its
 * children's headers. */
static void new_problem(generator *g) {
    tree_trace *t = g->trace;
    const uint32_t prompt = add_branch(g, TREE_ROOT, 0, FAMILY_NONE);
    append(g, &g->branches[prompt], 1 + below(g, t->options.max_prompt));
    const uint32_t samples = chance(g, 50) ? 1 : 2 + below(g, t->options.max_branches / 2);
    /* The prompt's own rows first: a step with room for them all is not certain. */
    branch *b = &g->branches[prompt];
    if (samples > 1 && running(g) + samples <= t->options.max_branches &&
        b->appended <= t->options.max_prefill / 2) {
        emit(g, (tree_op){.kind = TREE_SEAL, .view = b->view});
        const uint32_t view = b->view, start = end_position(b);
        for (uint32_t i = 0; i < samples; i++)
            add_branch(g, view, start, FAMILY_NONE);
        g->branches[prompt].state = DONE; /* holds its view until its rows were stepped */
    }
}

/* The rows of prefilled tokens that had none yet, as far as the step has room. */
static uint32_t step_runs(generator *g, bool *ran) {
    tree_trace *t = g->trace;
    uint32_t rows = 0;
    for (uint32_t i = 0; i < g->n_branches; i++) {
        branch *b = &g->branches[i];
        ran[i] = false;
        if (b->state == GONE || all_stepped(b))
            continue;
        uint32_t take = b->appended - b->stepped;
        if (take > t->options.max_prefill - rows)
            take = t->options.max_prefill - rows;
        ran[i] = true; /* a branch whose tokens wait does not decode */
        if (take == 0)
            continue;
        reserve(&t->runs, t->n_runs, sizeof *t->runs);
        t->runs[t->n_runs++] = (tree_run){b->view, b->stepped, take};
        b->stepped += take;
        rows += take;
        if (b->state == DONE && b->family == FAMILY_NONE && all_stepped(b))
            b->joins = UINT32_MAX; /* a prompt that is complete: released after the step */
    }
    return rows;
}

/* A branch may run only on prefixes whose rows have been in this or an earlier step. */
static bool prefix_stepped(const generator *g, const branch *b) {
    const tree_trace *t = g->trace;
    const tree_view *view = &t->views[b->view];
    for (uint32_t i = 0; i < g->n_branches; i++) {
        const branch *other = &g->branches[i];
        if (other == b || other->state == GONE || all_stepped(other))
            continue;
        for (uint32_t j = 0; j + 1 < view->count; j++)
            if (t->paths[view->first + j] == other->view)
                return false;
    }
    return true;
}

static void step(generator *g) {
    tree_trace *t = g->trace;
    bool *ran = must(calloc(g->n_branches + 1, sizeof *ran));
    const uint32_t first_run = t->n_runs, prefill = step_runs(g, ran);
    uint32_t *rows = must(calloc(g->n_branches + 1, sizeof *rows)), n = 0;
    for (uint32_t i = 0; i < g->n_branches; i++) {
        branch *b = &g->branches[i];
        if (b->state != RUNNING || ran[i] || !prefix_stepped(g, b))
            continue;
        if (!b->started)
            emit(g, (tree_op){.kind = TREE_START, .view = b->view});
        b->started = true;
        if (chance(g, t->options.sit_out))
            continue;
        append(g, b, 1);
        b->stepped++;
        rows[n++] = b->view;
    }
    const uint32_t turn = n && chance(g, 5) ? below(g, n) : 0;
    const uint32_t first = t->n_list;
    for (uint32_t i = 0; i < n; i++)
        push_list(g, rows[(i + turn) % n]);
    if (n + prefill) {
        emit(g, (tree_op){.kind = TREE_STEP,
                          .first = first,
                          .count = n,
                          .first_run = first_run,
                          .n_runs = t->n_runs - first_run,
                          .first_row = t->n_rows});
        t->n_rows += n + prefill;
        t->n_steps++;
        t->max_decode = n > t->max_decode ? n : t->max_decode;
        t->max_prefill = prefill > t->max_prefill ? prefill : t->max_prefill;
    }
    for (uint32_t i = 0; i < g->n_branches; i++) {
        branch *b = &g->branches[i];
        if (b->state == DONE && b->family == FAMILY_NONE && b->joins == UINT32_MAX) {
            release(g, b->view);
            b->state = GONE;
        }
    }
    free(ran);
    free(rows);
}

static void events(generator *g) {
    const tree_options *o = &g->trace->options;
    if (running(g) == 0 || (chance(g, 3) && running(g) < o->max_branches / 2))
        new_problem(g);
    if (chance(g, o->fork))
        fork_branch(g, pick_running(g, chance(g, 40)));
    if (chance(g, o->finish))
        finish_branch(g, pick_running(g, chance(g, 95)));
    if (chance(g, o->prune) && running(g) > 0)
        prune_branch(g, pick_running(g, chance(g, 50)));
    if (chance(g, o->retract) && running(g) > 0)
        retract_branch(g, pick_running(g, false));
}

tree_trace *tree_trace_create(const tree_options *options) {
    tree_trace *t = must(calloc(1, sizeof *t));
    t->options = *options;
    t->max_nodes = 2;
    generator g = {.trace = t, .state = options->seed * 0x2545f4914f6cdd1dull + 1};
    new_problem(&g);
    while (t->n_steps < options->max_steps && t->n_tokens < options->max_tokens) {
        events(&g);
        /* Most steps follow one another without an event. */
        for (uint32_t n = 1 + below(&g, 4); n-- > 0;)
            step(&g);
    }
    for (uint32_t i = 0; i < g.n_branches; i++) {
        if (g.branches[i].state == GONE)
            continue;
        stop(&g, &g.branches[i]);
        release(&g, g.branches[i].view);
    }
    free(g.branches);
    free(g.families);
    free(g.segment_tokens);
    return t;
}

void tree_trace_destroy(tree_trace *trace) {
    if (!trace)
        return;
    free(trace->ops);
    free(trace->views);
    free(trace->list);
    free(trace->paths);
    free(trace->tokens);
    free(trace->runs);
    free(trace);
}

static const char *const class_text[] = {
#define TREE_COVERAGE_TEXT(name, text) text,
    TREE_COVERAGE_MAP(TREE_COVERAGE_TEXT)
#undef TREE_COVERAGE_TEXT
};

void tree_coverage_add(tree_coverage *total, const tree_coverage *part) {
    for (int i = 0; i < TREE_COVERAGE_COUNT; i++)
        total->seen[i] += part->seen[i];
}

void tree_coverage_print(const tree_coverage *coverage, FILE *out) {
    for (int i = 0; i < TREE_COVERAGE_COUNT; i++)
        fprintf(out, "  %10llu %s\n", (unsigned long long)coverage->seen[i], class_text[i]);
}

const char *tree_coverage_missing(const tree_coverage *coverage, uint32_t except) {
    for (int i = 0; i < TREE_COVERAGE_COUNT; i++)
        if (coverage->seen[i] == 0 && !(except >> i & 1))
            return class_text[i];
    return NULL;
}
