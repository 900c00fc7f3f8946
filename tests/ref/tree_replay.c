#include "ref/tree_generator.h"

#include <stdlib.h>
#include <string.h>

struct tree_replay {
    const tree_trace *trace;
    tree_replay_options options;
    cop_kv_options kv_options;
    cop_plan_options plan_options;
    cop_kv *kv;
    cop_plan *plan, *twin; /* twin: with_rebuilt */
    cop_node *node;        /* [view] */
    uint32_t *segment;     /* [view] */
    uint32_t *slot, *twin_slot;
    tree_coverage coverage;
    uint64_t unchanged;
    uint32_t next_op;

    const tree_op *step; /* being cut into batches */
    uint32_t step_rows, done_rows;
    uint32_t *id, *view, *offset, *row_segment, *decode_slot, *twin_decode_slot;
    int32_t *token, *position;
    cop_prefill_run *runs;
    uint32_t *last_token;  /* the trace token that stands at token_first[view] + offset now */
    uint32_t *token_first; /* [view] */
    uint32_t *token_room;  /* [view] most tokens that its segment ever has */
};

static void *must(void *pointer) {
    if (!pointer) {
        fprintf(stderr, "tree replay: out of memory\n");
        exit(1);
    }
    return pointer;
}

static void ok(cop_status status, const char *what) {
    if (status == COP_OK)
        return;
    fprintf(stderr, "tree replay: %s: %s: %s\n", what, cop_status_name(status),
            cop_status_message());
    exit(1);
}

/* Room for the most tokens that each view's segment ever has. */
static void layout_tokens(tree_replay *r) {
    const tree_trace *t = r->trace;
    uint32_t *now = must(calloc(t->n_views + 1, sizeof *now)), total = 0;
    for (uint32_t i = 0; i < t->n_ops; i++) {
        const tree_op *op = &t->ops[i];
        if (op->kind == TREE_APPEND)
            now[op->view] += op->count;
        else if (op->kind == TREE_RETRACT)
            now[op->view] -= op->count;
        else
            continue;
        if (now[op->view] > r->token_room[op->view])
            r->token_room[op->view] = now[op->view];
    }
    for (uint32_t v = 0; v < t->n_views; v++) {
        r->token_first[v] = total;
        total += r->token_room[v];
    }
    r->last_token = must(calloc(total + 1, sizeof *r->last_token));
    free(now);
}

static void derive_options(tree_replay *r) {
    const tree_trace *t = r->trace;
    uint32_t segments = 0;
    for (uint32_t v = 0; v < t->n_views; v++)
        segments += !t->views[v].stitched;
    r->kv_options = (cop_kv_options){
        .page_tokens = r->options.page_tokens,
        .n_pages = t->n_tokens / r->options.page_tokens + segments + 1,
        .max_segments = segments,
        .max_nodes = t->max_nodes + 1,
        .chunk_tokens = r->options.chunk_tokens,
        .chunk_tail_tokens = r->options.chunk_tail_tokens,
        .pages_ahead = r->options.pages_ahead,
    };
    r->plan_options = (cop_plan_options){
        .group = r->options.group,
        .tile_slots = r->options.tile_slots,
        .chunk_tokens = r->options.chunk_tokens,
        .chunk_tail_tokens = r->options.chunk_tail_tokens,
        .max_decode_slots = t->options.max_branches + 4,
        .max_prefill_slots = t->max_prefill + (r->options.decode_by_prefill ? t->max_decode : 0),
    };
}

tree_replay *tree_replay_create(const tree_trace *trace, const tree_replay_options *options) {
    tree_replay *r = must(calloc(1, sizeof *r));
    r->trace = trace;
    r->options = *options;
    derive_options(r);
    ok(cop_kv_create(&r->kv_options, &r->kv), "kv");
    ok(cop_plan_create(&r->plan_options, r->kv, &r->plan), "plan");
    if (options->with_rebuilt)
        ok(cop_plan_create(&r->plan_options, r->kv, &r->twin), "plan");
    const uint32_t views = trace->n_views + 1, rows = trace->max_decode + trace->max_prefill + 1;
    r->node = must(calloc(views, sizeof *r->node));
    r->segment = must(calloc(views, sizeof *r->segment));
    r->slot = must(calloc(views, sizeof *r->slot));
    r->twin_slot = must(calloc(views, sizeof *r->twin_slot));
    r->token_first = must(calloc(views, sizeof *r->token_first));
    r->token_room = must(calloc(views, sizeof *r->token_room));
    r->id = must(calloc(rows, sizeof *r->id));
    r->view = must(calloc(rows, sizeof *r->view));
    r->offset = must(calloc(rows, sizeof *r->offset));
    r->row_segment = must(calloc(rows, sizeof *r->row_segment));
    r->decode_slot = must(calloc(rows, sizeof *r->decode_slot));
    r->twin_decode_slot = must(calloc(rows, sizeof *r->twin_decode_slot));
    r->token = must(calloc(rows, sizeof *r->token));
    r->position = must(calloc(rows, sizeof *r->position));
    r->runs = must(calloc(rows, sizeof *r->runs));
    layout_tokens(r);
    return r;
}

void tree_replay_destroy(tree_replay *r) {
    if (!r)
        return;
    cop_plan_destroy(r->plan);
    cop_plan_destroy(r->twin);
    cop_kv_destroy(r->kv);
    free(r->node);
    free(r->segment);
    free(r->slot);
    free(r->twin_slot);
    free(r->token_first);
    free(r->token_room);
    free(r->last_token);
    free(r->id);
    free(r->view);
    free(r->offset);
    free(r->row_segment);
    free(r->decode_slot);
    free(r->twin_decode_slot);
    free(r->token);
    free(r->position);
    free(r->runs);
    free(r);
}

cop_node tree_replay_node(const tree_replay *r, uint32_t view) {
    return r->node[view];
}

uint32_t tree_replay_segment(const tree_replay *r, uint32_t view) {
    return r->segment[view];
}

uint32_t tree_replay_tokens(const tree_replay *r, uint32_t view) {
    return cop_kv_segments(r->kv)[r->segment[view]].tokens;
}

static void do_append(tree_replay *r, const tree_op *op) {
    const uint32_t at = r->token_first[op->view] + tree_replay_tokens(r, op->view);
    ok(cop_kv_append(r->kv, r->node[op->view], op->count), "append");
    for (uint32_t i = 0; i < op->count; i++)
        r->last_token[at + i] = op->first + i;
}

static void do_stitch(tree_replay *r, const tree_op *op) {
    cop_node *tail = must(calloc(op->count + 1, sizeof *tail));
    for (uint32_t i = 0; i < op->count; i++)
        tail[i] = r->node[r->trace->list[op->first + i]];
    ok(cop_kv_stitch(r->kv, r->node[op->parent], r->node[op->below], tail, op->count,
                     &r->node[op->view]),
       "stitch");
    free(tail);
}

static void do_op(tree_replay *r, const tree_op *op) {
    const cop_node parent = op->parent == TREE_ROOT ? cop_kv_root(r->kv) : r->node[op->parent];
    switch (op->kind) {
    case TREE_OPEN:
        ok(cop_kv_open(r->kv, parent, &r->node[op->view]), "open");
        r->segment[op->view] = cop_kv_node(r->kv, r->node[op->view]).segment;
        break;
    case TREE_APPEND:
        do_append(r, op);
        break;
    case TREE_RETRACT:
        ok(cop_kv_retract(r->kv, r->node[op->view], op->count), "retract");
        break;
    case TREE_SEAL:
        cop_kv_seal(r->kv, r->node[op->view]);
        break;
    case TREE_STITCH:
        do_stitch(r, op);
        break;
    case TREE_RELEASE:
        cop_kv_release(r->kv, r->node[op->view]);
        break;
    case TREE_START:
        ok(cop_plan_slot_add(r->plan, r->node[op->view], &r->slot[op->view]), "slot");
        if (r->twin)
            ok(cop_plan_slot_add(r->twin, r->node[op->view], &r->twin_slot[op->view]), "slot");
        break;
    case TREE_STOP:
        cop_plan_slot_remove(r->plan, r->slot[op->view]);
        if (r->twin)
            cop_plan_slot_remove(r->twin, r->twin_slot[op->view]);
        break;
    case TREE_STEP:
        r->step = op;
        r->done_rows = 0;
        r->step_rows = op->count;
        for (uint32_t i = 0; i < op->n_runs; i++)
            r->step_rows += r->trace->runs[op->first_run + i].tokens;
        break;
    }
}

static void set_row(tree_replay *r, uint32_t row, uint32_t unit, uint32_t view, uint32_t offset) {
    r->id[row] = r->step->first_row + unit;
    r->view[row] = view;
    r->offset[row] = offset;
    r->row_segment[row] = r->segment[view];
    r->token[row] = r->trace->tokens[r->last_token[r->token_first[view] + offset]];
    r->position[row] = (int32_t)(r->trace->views[view].start + offset);
}

/* The rows done_rows .. + n of the step, counted through its runs and then its decode rows. */
static void fill_batch(tree_replay *r, uint32_t n, tree_batch *batch) {
    const tree_op *op = r->step;
    const uint32_t from = r->done_rows, to = from + n;
    uint32_t prefill = 0;
    for (uint32_t i = 0; i < op->n_runs; i++)
        prefill += r->trace->runs[op->first_run + i].tokens;
    uint32_t n_decode = 0, row = 0;
    for (uint32_t unit = from > prefill ? from : prefill; unit < to; unit++) {
        if (r->options.decode_by_prefill)
            break;
        const uint32_t view = r->trace->list[op->first + unit - prefill];
        set_row(r, row++, unit, view, tree_replay_tokens(r, view) - 1);
        r->decode_slot[n_decode] = r->slot[view];
        r->twin_decode_slot[n_decode++] = r->twin_slot[view];
    }
    batch->n_decode = n_decode;
    batch->n_runs = 0;
    for (uint32_t i = 0, unit = 0; i < op->n_runs; i++) {
        const tree_run *run = &r->trace->runs[op->first_run + i];
        const uint32_t first_row = row;
        uint32_t first = run->first;
        for (uint32_t t = 0; t < run->tokens; t++, unit++) {
            if (unit < from || unit >= to)
                continue;
            if (row == first_row)
                first = run->first + t;
            set_row(r, row++, unit, run->view, run->first + t);
        }
        if (row > first_row)
            r->runs[batch->n_runs++] =
                (cop_prefill_run){r->node[run->view], first, row - first_row, (int32_t)first_row};
    }
    for (uint32_t unit = from > prefill ? from : prefill; r->options.decode_by_prefill && unit < to;
         unit++) {
        const uint32_t view = r->trace->list[op->first + unit - prefill];
        const uint32_t last = tree_replay_tokens(r, view) - 1;
        r->runs[batch->n_runs++] = (cop_prefill_run){r->node[view], last, 1, (int32_t)row};
        set_row(r, row++, unit, view, last);
    }
    batch->n_rows = row;
}

static void cover_rows(tree_replay *r, const tree_batch *b) {
    uint64_t *seen = r->coverage.seen;
    for (uint32_t row = 0; row < b->n_rows; row++) {
        const tree_view *view = &r->trace->views[b->view[row]];
        seen[TREE_PARTIAL_PAGES] +=
            tree_replay_tokens(r, b->view[row]) % r->options.page_tokens != 0;
        for (uint32_t i = 0; i + 1 < view->count; i++)
            seen[TREE_EMPTY_SEGMENTS] +=
                tree_replay_tokens(r, r->trace->paths[view->first + i]) == 0;
    }
    seen[TREE_SEVERAL_TILES] += b->n_decode > r->options.tile_slots;
    seen[TREE_MIXED_STEPS] += b->n_decode > 0 && b->n_runs > 0;
    const uint64_t unchanged = cop_plan_stats_read(r->plan).steps_unchanged;
    seen[TREE_STEADY_STEPS] += unchanged - r->unchanged;
    r->unchanged = unchanged;
}

static void cover_tiles(tree_replay *r, const tree_batch *b) {
    uint64_t *seen = r->coverage.seen;
    for (uint32_t t = 0; t < b->plan.n_tiles; t++) {
        const cop_tile *tile = &b->plan.tiles[t];
        uint32_t view = UINT32_MAX;
        for (uint32_t i = 0; i < tile->n_slots; i++) {
            seen[TREE_HOLES] += tile->slot[i] < 0;
            if (tile->slot[i] < 0)
                continue;
            const int32_t row = b->plan.slots[tile->slot[i]].row;
            seen[TREE_SAT_OUT] += row < 0;
            if (row < (int32_t)b->n_decode)
                continue;
            seen[TREE_PREFILL_SHARED] += view != UINT32_MAX && view != b->view[row];
            view = b->view[row];
        }
    }
}

static void cover_entries(tree_replay *r, const tree_batch *b) {
    uint64_t *seen = r->coverage.seen;
    uint32_t *node_of = must(calloc(r->kv_options.max_segments, sizeof *node_of));
    for (uint32_t i = 0; i < b->plan.n_items; i++) {
        const cop_item *item = &b->plan.items[i];
        for (uint32_t e = item->first_entry; e < item->first_entry + item->n_entries; e++) {
            const cop_walk_entry *entry = &b->plan.entries[e];
            const cop_node_info info = cop_kv_node(r->kv, entry->node);
            seen[TREE_CHUNK_INSIDE] += entry->first > 0;
            seen[TREE_CHUNK_AT_END] += entry->first == 0 && item->chunk > 0 && info.chunk_fill == 0;
            seen[TREE_PREFILL_LIMITS] += entry->limits != COP_LIMITS_NONE;
            seen[TREE_TWO_PREFIXES] +=
                node_of[entry->segment] && node_of[entry->segment] != entry->node;
            node_of[entry->segment] = entry->node;
        }
    }
    free(node_of);
}

static void plan_batch(tree_replay *r, tree_batch *b) {
    ok(cop_plan_step(r->plan, r->decode_slot, b->n_decode, r->runs, b->n_runs), "plan step");
    b->plan = cop_plan_view(r->plan);
    if (!r->twin)
        return;
    if (r->options.drop_prefill_first)
        ok(cop_plan_rebuild(r->twin), "plan rebuild");
    ok(cop_plan_step(r->twin, r->twin_decode_slot, b->n_decode, r->runs, b->n_runs), "plan step");
    if (!r->options.drop_prefill_first)
        ok(cop_plan_rebuild(r->twin), "plan rebuild");
    b->rebuilt = cop_plan_view(r->twin);
}

bool tree_replay_next(tree_replay *r, tree_batch *batch) {
    while (!r->step) {
        if (r->next_op == r->trace->n_ops)
            return false;
        do_op(r, &r->trace->ops[r->next_op++]);
    }
    uint32_t n = r->step_rows - r->done_rows;
    if (r->options.max_rows && n > r->options.max_rows)
        n = r->options.max_rows;
    *batch = (tree_batch){
        .id = r->id,
        .view = r->view,
        .offset = r->offset,
        .segment = r->row_segment,
        .token = r->token,
        .position = r->position,
        .decode_slot = r->decode_slot,
        .runs = r->runs,
    };
    fill_batch(r, n, batch);
    plan_batch(r, batch);
    cover_rows(r, batch);
    cover_tiles(r, batch);
    cover_entries(r, batch);
    r->done_rows += n;
    if (r->done_rows == r->step_rows)
        r->step = NULL;
    return true;
}

const cop_kv *tree_replay_kv(const tree_replay *r) {
    return r->kv;
}

cop_kv_options tree_replay_kv_options(const tree_replay *r) {
    return r->kv_options;
}

cop_plan_options tree_replay_plan_options(const tree_replay *r) {
    return r->plan_options;
}

cop_plan *tree_replay_plan(const tree_replay *r) {
    return r->plan;
}

const tree_coverage *tree_replay_coverage(const tree_replay *r) {
    return &r->coverage;
}
