#include "event_world.h"

#include <stdlib.h>

#include "base/memory.h"

enum {
    LEAVES = 16, /* of one problem */
    OUTER = 4,
    PROMPT_TOKENS = 1200,
    THINK_TOKENS = 300,
    OUTER_TOKENS = 200,
    HEADER_TOKENS = 8,
    JOIN_TOKENS = 4,
    PAGE_TOKENS = 16,
    CHUNK_TOKENS = 1024,
    STRIDE = 37, /* from one cycle's leaf to the next's: mostly another problem */
};

typedef struct branch {
    cop_node node, outer; /* its own segment; what it was forked from */
    uint32_t slot, row;
    uint32_t tokens; /* that it goes back to */
} branch;

struct event_world {
    cop_kv *kv;
    cop_plan *plan;
    uint32_t n_live, cycle;
    branch *branches;             /* live ones by number; the cycle's children come last */
    uint32_t *row_branch, n_rows; /* by row */
    uint32_t *row_slot;

    uint32_t leaf; /* of this cycle */
    cop_node fork; /* sealed; held */
    cop_node done[EVENT_CHILDREN];
    uint32_t n_done;
    uint32_t fresh[EVENT_CHILDREN], n_fresh; /* prefilled in the last step: rows from the next on */
    cop_prefill_run runs[EVENT_CHILDREN];
    uint32_t n_runs;

    cop_segment *device; /* what a copy knows or foresees */
};

const event_kind event_cycle[EVENT_CYCLE] = {EVENT_FORK,   EVENT_PRUNE, EVENT_FINISH,
                                             EVENT_FINISH, EVENT_JOIN,  EVENT_REPLACE};

const char *event_kind_name(event_kind kind) {
    static const char *const name[EVENT_KINDS] = {"none",   "fork", "prune",
                                                  "finish", "join", "replace"};
    return name[kind];
}

static cop_status grow(event_world *w, cop_node parent, uint32_t tokens, bool sealed,
                       cop_node *out) {
    COP_TRY(cop_kv_open(w->kv, parent, out));
    COP_TRY(cop_kv_append(w->kv, *out, tokens));
    if (sealed)
        cop_kv_seal(w->kv, *out);
    return COP_OK;
}

static cop_status row_add(event_world *w, uint32_t b) {
    branch *one = &w->branches[b];
    COP_TRY(cop_plan_slot_add(w->plan, one->node, &one->slot));
    one->row = w->n_rows;
    w->row_branch[w->n_rows] = b;
    w->row_slot[w->n_rows++] = one->slot;
    return COP_OK;
}

static void row_end(event_world *w, uint32_t b) {
    const branch *one = &w->branches[b];
    cop_plan_slot_remove(w->plan, one->slot);
    const uint32_t last = w->row_branch[--w->n_rows];
    w->row_branch[one->row] = last;
    w->row_slot[one->row] = w->branches[last].slot;
    w->branches[last].row = one->row;
}

/* Inner nodes stay held to the end, so that a leaf can be put back. */
static cop_status problem_create(event_world *w, uint32_t first, uint32_t n) {
    cop_node prompt, think, outer = COP_NODE_NONE;
    COP_TRY(grow(w, cop_kv_root(w->kv), PROMPT_TOKENS, true, &prompt));
    COP_TRY(grow(w, prompt, THINK_TOKENS, true, &think));
    for (uint32_t i = 0; i < n; i++) {
        branch *leaf = &w->branches[first + i];
        if (i % (LEAVES / OUTER) == 0)
            COP_TRY(grow(w, think, OUTER_TOKENS, true, &outer));
        *leaf = (branch){.outer = outer, .tokens = 40 + (first + i) * 13 % 160};
        COP_TRY(grow(w, outer, leaf->tokens, false, &leaf->node));
        COP_TRY(row_add(w, first + i));
    }
    return COP_OK;
}

static cop_status tables_create(event_world *w, uint32_t tile_slots) {
    const uint32_t n = w->n_live, problems = (n + LEAVES - 1) / LEAVES;
    const cop_kv_options kv = {
        .page_tokens = PAGE_TOKENS,
        .n_pages = problems * 160 + n * 72 + 2000,
        .max_segments = 2 * n + 200,
        .max_nodes = 2 * n + 200,
        .chunk_tokens = CHUNK_TOKENS,
        .chunk_tail_tokens = CHUNK_TOKENS,
        .pages_ahead = true,
    };
    COP_TRY(cop_kv_create(&kv, &w->kv));
    const cop_plan_options plan = {
        .group = 4,
        .tile_slots = tile_slots,
        .chunk_tokens = CHUNK_TOKENS,
        .chunk_tail_tokens = CHUNK_TOKENS,
        .max_decode_slots = n + EVENT_CHILDREN,
        .max_prefill_slots = 64,
    };
    COP_TRY(cop_plan_create(&plan, w->kv, &w->plan));
    const uint32_t rows = n + EVENT_CHILDREN;
    w->branches = cop_calloc(rows, sizeof *w->branches);
    w->row_branch = cop_calloc(rows, sizeof *w->row_branch);
    w->row_slot = cop_calloc(rows, sizeof *w->row_slot);
    w->device = cop_calloc(kv.max_segments, sizeof *w->device);
    if (!w->branches || !w->row_branch || !w->row_slot || !w->device)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a world of %u branches", n);
    return COP_OK;
}

static cop_status fill(event_world *w) {
    for (uint32_t first = 0; first < w->n_live; first += LEAVES)
        COP_TRY(problem_create(w, first, w->n_live - first < LEAVES ? w->n_live - first : LEAVES));
    COP_TRY(event_world_step(w, EVENT_NONE));
    COP_TRY(cop_plan_rebuild(w->plan));
    event_world_bytes(w); /* everything, once */
    return event_world_settle(w);
}

cop_status event_world_create(uint32_t n_live, uint32_t tile_slots, event_world **out) {
    event_world *w = cop_calloc(1, sizeof *w);
    if (!w)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a world");
    w->n_live = n_live;
    cop_status status = tables_create(w, tile_slots);
    if (status == COP_OK)
        status = fill(w);
    if (status != COP_OK) {
        event_world_destroy(w);
        w = NULL;
    }
    *out = w;
    return status;
}

void event_world_destroy(event_world *w) {
    if (!w)
        return;
    cop_plan_destroy(w->plan);
    cop_kv_destroy(w->kv);
    cop_free(w->branches);
    cop_free(w->row_branch);
    cop_free(w->row_slot);
    cop_free(w->device);
    cop_free(w);
}

/* A branch whose first tokens are rows of this step and which decodes from the next on. */
static cop_status prefill(event_world *w, uint32_t b, cop_node parent, uint32_t tokens) {
    branch *one = &w->branches[b];
    COP_TRY(grow(w, parent, tokens, false, &one->node));
    w->runs[w->n_runs++] = (cop_prefill_run){.node = one->node, .tokens = tokens};
    w->fresh[w->n_fresh++] = b;
    return COP_OK;
}

static cop_status fork_leaf(event_world *w) {
    w->leaf = w->cycle++ * STRIDE % w->n_live;
    w->fork = w->branches[w->leaf].node;
    w->n_done = 0;
    cop_kv_seal(w->kv, w->fork);
    row_end(w, w->leaf);
    for (uint32_t i = 0; i < EVENT_CHILDREN; i++)
        COP_TRY(prefill(w, w->n_live + i, w->fork, HEADER_TOKENS));
    return COP_OK;
}

static void prune(event_world *w) {
    const uint32_t b = w->n_live + EVENT_CHILDREN - 1;
    row_end(w, b);
    cop_kv_release(w->kv, w->branches[b].node);
}

static void finish(event_world *w) {
    const uint32_t b = w->n_live + w->n_done;
    cop_kv_seal(w->kv, w->branches[b].node);
    row_end(w, b);
    w->done[w->n_done++] = w->branches[b].node;
}

static cop_status join(event_world *w) {
    cop_node view;
    finish(w);
    COP_TRY(cop_kv_stitch(w->kv, w->fork, w->fork, w->done, w->n_done, &view));
    COP_TRY(prefill(w, w->leaf, view, JOIN_TOKENS));
    cop_kv_release(w->kv, view);
    for (uint32_t i = 0; i < w->n_done; i++)
        cop_kv_release(w->kv, w->done[i]);
    cop_kv_release(w->kv, w->fork);
    return COP_OK;
}

/* The fresh leaf decodes its first token in this step. */
static cop_status replace(event_world *w) {
    branch *leaf = &w->branches[w->leaf];
    row_end(w, w->leaf);
    cop_kv_release(w->kv, leaf->node);
    COP_TRY(grow(w, leaf->outer, leaf->tokens, false, &leaf->node));
    return row_add(w, w->leaf);
}

static cop_status happen(event_world *w, event_kind kind) {
    switch (kind) {
    case EVENT_FORK:
        return fork_leaf(w);
    case EVENT_JOIN:
        return join(w);
    case EVENT_REPLACE:
        return replace(w);
    case EVENT_PRUNE:
        prune(w);
        return COP_OK;
    case EVENT_FINISH:
        finish(w);
        return COP_OK;
    default:
        return COP_OK;
    }
}

cop_status event_world_step(event_world *w, event_kind kind) {
    cop_plan_changes_clear(w->plan);
    for (uint32_t i = 0; i < w->n_fresh; i++)
        COP_TRY(row_add(w, w->fresh[i]));
    w->n_fresh = w->n_runs = 0;
    COP_TRY(happen(w, kind));
    for (uint32_t row = 0; row < w->n_rows; row++)
        COP_TRY(cop_kv_append(w->kv, w->branches[w->row_branch[row]].node, 1));
    for (uint32_t i = 0, row = w->n_rows; i < w->n_runs; row += w->runs[i++].tokens)
        w->runs[i].row = (int32_t)row;
    return cop_plan_step(w->plan, w->row_slot, w->n_rows, w->runs, w->n_runs);
}

event_bytes event_world_bytes(event_world *w) {
    static const uint32_t words[COP_TABLE_COUNT] = {
        [COP_TABLE_PAGE_TABLE] = 1,
        [COP_TABLE_TILES] = sizeof(cop_tile) / 4,
        [COP_TABLE_ENTRIES] = sizeof(cop_walk_entry) / 4,
        [COP_TABLE_LIMITS] = 1,
        [COP_TABLE_ITEMS] = sizeof(cop_item) / 4,
        [COP_TABLE_SLOTS] = sizeof(cop_slot) / 4,
    };
    const cop_plan_tables t = cop_plan_view(w->plan);
    const cop_table_changes *c = &t.changes;
    event_bytes sum = {.records = c->n_kv + c->n_plan};
    for (uint32_t i = 0; i < c->n_kv; i++)
        sum.words += c->kv[i].n;
    for (uint32_t i = 0; i < c->n_plan; i++)
        sum.words += c->plan[i].n * words[c->plan[i].table];
    for (uint32_t row = 0; row < w->n_rows; row++)
        w->device[cop_kv_node(w->kv, w->branches[w->row_branch[row]].node).segment].tokens++;
    for (uint32_t i = 0; i < c->n_segments; i++) {
        cop_segment *mine = &w->device[c->segments[i]];
        const cop_segment *now = &t.segments[c->segments[i]];
        if (mine->tokens == now->tokens && mine->page_table_offset == now->page_table_offset)
            continue;
        *mine = *now;
        sum.records++;
        sum.words += sizeof *now / 4;
    }
    return sum;
}

cop_status event_world_settle(event_world *w) {
    for (uint32_t b = 0; b < w->n_live; b++) {
        const cop_node_info info = cop_kv_node(w->kv, w->branches[b].node);
        const uint32_t now = cop_kv_segments(w->kv)[info.segment].tokens;
        COP_TRY(cop_kv_retract(w->kv, w->branches[b].node, now - w->branches[b].tokens));
    }
    for (uint32_t i = 0; i < 2; i++) {
        COP_TRY(event_world_step(w, EVENT_NONE));
        event_world_bytes(w);
    }
    return COP_OK;
}

cop_status event_world_check(event_world *w) {
    COP_TRY(cop_kv_check(w->kv));
    return cop_plan_check(w->plan);
}

cop_plan_stats event_world_stats(const event_world *w) {
    return cop_plan_stats_read(w->plan);
}
