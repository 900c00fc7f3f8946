#include "ref/penalty_batches.h"

#include <stdio.h>
#include <string.h>

#include "check.h"

enum { NODES = 80, ROWS = 64, CHILDREN = 5, TEXT = 8192 };
static const float PENALTY = 1.02f;

typedef struct node {
    const cop_script *script; /* NULL: none, so it must not be opened */
    int parent, children[CHILDREN], n_children, ended;
    uint32_t said, plans, left; /* plans listed; tokens until `act` */
    enum { NOTHING, FORKS, ENDS } act;
    char text[TEXT];
    size_t bytes;
} node;

typedef struct request { /* Req: a node's, from its opening or its join on */
    int node;
    bool out; /* it has sampled something */
    int32_t last;
} request;

typedef struct penalizer { /* orchestrator and penalizer: both are set or unset together */
    bool required, prepared;
    float factor[ROWS];
    bool counted[ROWS][26];
} penalizer;

typedef struct batch {
    request rows[ROWS];
    uint32_t n;
    penalizer p;
} batch;

typedef struct engine {
    const cop_tokenizer *tokenizer;
    const cop_script *scripts;
    uint32_t n_scripts;
    node nodes[NODES];
    int n_nodes;
    float shared; /* sampling_params.repetition_penalty */
    batch running;
    int32_t plan, guideline_end, step_end, end;
    penalty_batches_seen seen;
} engine;

static int32_t id_of(const engine *e, const char *text) {
    int32_t id = cop_tokenizer_find_special(e->tokenizer, text, strlen(text));
    CHECK(id >= 0);
    return id;
}

static void add_text(node *n, const char *text, size_t bytes) {
    CHECK(n->bytes + bytes < TEXT);
    memcpy(n->text + n->bytes, text, bytes);
    n->bytes += bytes;
}

static int open_node(engine *e, int parent, const char *path) {
    CHECK(e->n_nodes < NODES);
    node *n = &e->nodes[e->n_nodes];
    *n = (node){.parent = parent};
    for (uint32_t i = 0; i < e->n_scripts; i++)
        if (strcmp(e->scripts[i].path, path) == 0)
            n->script = &e->scripts[i];
    CHECK(n->script != NULL);
    return e->n_nodes++;
}

/* ---- the penalizer ---- */

static void prepare(const engine *e, batch *b) {
    if (b->p.prepared)
        return;
    b->p.prepared = true;
    memset(b->p.counted, 0, sizeof b->p.counted);
    for (uint32_t i = 0; i < b->n; i++)
        b->p.factor[i] = e->shared;
}

static void make_penalizer(const engine *e, batch *b) {
    b->p = (penalizer){.required = e->shared != 1.0f};
    if (b->p.required)
        prepare(e, b);
}

/* The requests are filtered before the penalizer looks at them. */
static void filter(engine *e, batch *b, const bool *keep) {
    uint32_t kept = 0, before = b->n;
    for (uint32_t i = 0; i < before; i++)
        kept += keep[i];
    if (kept == 0) {
        b->n = 0;
        return;
    }
    if (kept == before)
        return;
    bool required = b->p.required && e->shared != 1.0f;
    e->seen.torn_down += b->p.required && !required;
    kept = 0;
    for (uint32_t i = 0; i < before; i++) {
        if (!keep[i])
            continue;
        b->rows[kept] = b->rows[i];
        b->p.factor[kept] = b->p.factor[i];
        memmove(b->p.counted[kept], b->p.counted[i], sizeof b->p.counted[i]);
        kept++;
    }
    b->n = kept;
    b->p.required = required;
    b->p.prepared &= required;
}

static void merge(engine *e, batch *into, batch *from) {
    if (from->n == 0)
        return;
    if (into->p.required || from->p.required) {
        e->seen.renewed += !from->p.prepared;
        e->seen.kept += !into->p.prepared;
        into->p.required = true;
        prepare(e, into);
        prepare(e, from);
    }
    for (uint32_t i = 0; i < from->n; i++) {
        CHECK(into->n < ROWS);
        into->p.factor[into->n] = from->p.factor[i];
        memcpy(into->p.counted[into->n], from->p.counted[i], sizeof from->p.counted[i]);
        into->rows[into->n++] = from->rows[i];
    }
}

static void cumulate(batch *b) {
    for (uint32_t i = 0; b->p.prepared && i < b->n; i++)
        if (b->rows[i].out && b->rows[i].last >= 'a' && b->rows[i].last <= 'z')
            b->p.counted[i][b->rows[i].last - 'a'] = b->p.factor[i] != 1.0f;
}

static int32_t choose(const batch *b, uint32_t row) {
    for (int i = 0; i < 26; i++)
        if (!b->p.prepared || !b->p.counted[row][i])
            return 'a' + i;
    return 'a';
}

/* ---- requests ---- */

static void take(engine *e, node *n, int32_t token) {
    bool dropped = n->act != NOTHING && n->left == 1;
    cop_text text = cop_tokenizer_bytes(e->tokenizer, token);
    if (!dropped && token != e->end)
        add_text(n, text.data, text.bytes);
    n->said++;
    if (n->act != NOTHING) {
        n->left--;
    } else if (token == e->guideline_end) {
        n->act = FORKS, n->left = 1;
    } else if (token == e->step_end) {
        n->act = ENDS, n->left = 2;
    }
    n->plans += n->act == NOTHING && token == e->plan;
}

static void fork_node(engine *e, int at, batch *fresh) {
    node *n = &e->nodes[at];
    const char *path = n->script->path;
    add_text(n, "\n", 1);
    CHECK(n->plans <= CHILDREN);
    n->n_children = n->ended = 0;
    for (uint32_t i = 0; i < n->plans; i++) {
        char name[64], header[80];
        snprintf(name, sizeof name, "%s%s%u", path, path[0] ? "." : "", i + 1);
        int child = open_node(e, at, name);
        add_text(&e->nodes[child], header,
                 (size_t)snprintf(header, sizeof header, "<step>\n%s:", name));
        n->children[n->n_children++] = child;
        fresh->rows[fresh->n++] = (request){.node = child};
    }
    n->plans = 0;
    n->act = NOTHING;
}

static void join_node(engine *e, int at, batch *fresh) {
    node *n = &e->nodes[at];
    for (int i = 0; i < n->n_children; i++)
        add_text(n, e->nodes[n->children[i]].text, e->nodes[n->children[i]].bytes);
    add_text(n, "<takeaway>\n", 11);
    fresh->rows[fresh->n++] = (request){.node = at};
}

/* One decoding step and what the scheduler does before the next one; false at the answer's end. */
static bool step(engine *e) {
    batch *b = &e->running;
    static batch fresh;
    bool keep[ROWS], forked = false, joined = false;
    int forks[ROWS], n_forks = 0;
    fresh = (batch){0};
    for (uint32_t i = 0; i < b->n; i++) {
        node *n = &e->nodes[b->rows[i].node];
        CHECK(n->said < n->script->n);
        int32_t token = n->script->ids[n->said];
        if (token == '~')
            token = choose(b, i);
        b->rows[i].out = true;
        b->rows[i].last = token;
        take(e, n, token);
        if (token == e->end)
            return false;
    }
    for (uint32_t i = 0; i < b->n; i++) {
        const node *n = &e->nodes[b->rows[i].node];
        bool leaves = n->act != NOTHING && n->left == 0;
        keep[i] = !leaves;
        if (leaves && n->act == FORKS)
            forks[n_forks++] = b->rows[i].node;
        if (leaves && n->act == ENDS) {
            node *parent = &e->nodes[n->parent];
            if (++parent->ended == parent->n_children) {
                join_node(e, n->parent, &fresh);
                joined = true;
            }
        }
    }
    for (int i = 0; i < n_forks; i++) {
        e->shared = PENALTY;
        fork_node(e, forks[i], &fresh);
        forked = true;
    }
    filter(e, b, keep);
    if (joined)
        e->shared = 1;
    e->seen.split_merges += forked && joined;
    if (fresh.n > 0) {
        make_penalizer(e, &fresh);
        merge(e, &fresh, b);
        *b = fresh;
    }
    cumulate(b);
    return true;
}

penalty_batches_seen penalty_batches_run(const cop_tokenizer *tokenizer, const cop_script *script,
                                         uint32_t n, char *out, size_t capacity) {
    static engine e;
    e = (engine){.tokenizer = tokenizer, .scripts = script, .n_scripts = n, .shared = 1};
    e.plan = id_of(&e, "<plan>");
    e.guideline_end = id_of(&e, "</guideline>");
    e.step_end = id_of(&e, "</step>");
    e.end = id_of(&e, "<|end|>");
    e.running.rows[e.running.n++] = (request){.node = open_node(&e, -1, "")};
    make_penalizer(&e, &e.running);
    while (step(&e)) {
    }
    const node *root = &e.nodes[0];
    CHECK(root->bytes < capacity);
    memcpy(out, root->text, root->bytes);
    out[root->bytes] = '\0';
    return e.seen;
}
