/* Branches under one prompt that decode side by side, driven straight through a backend's table: by
 * the step or one step ahead, sampled or with forced tokens. Branches end and fork on request. Two
 * worlds with the same options do the same, whatever the backend: their digests say so.
 * Included by the tests of the CUDA backend. */
#pragma once

#include <math.h>

#include "backend/backend.h"
#include "base/memory.h"
#include "check.h"
#include "kv/kv.h"
#include "kv/plan.h"
#include "model/forward.h"
#include "small_model.h"

enum { WORLD_BRANCHES_MAX = 4608, WORLD_ROWS_MAX = 6144, WORLD_SCRIPT = 512 };

typedef struct world_options {
    const cop_backend_ops *ops;
    cop_backend_options backend; /* max_rows, products, eager, time_every; the rest is filled in */
    small_model model;
    uint32_t n_branches, prompt_tokens, page_tokens, n_pages;
    uint32_t max_branches; /* 0: n_branches and 8 more */
    bool pages_ahead;
    uint32_t stagger; /* branch i begins with 1 + i % stagger tokens of its own */
    float temperature, top_p;
    bool forced, hints, biased;
    bool fed; /* a token is given by the script, whatever was sampled */
    bool ahead;
    bool miss_turns; /* for cuda_checks.h: after an end the backend misses a turn of the plan */
    void (*before_take)(void); /* called before the samples of a step are taken; or NULL */
} world_options;

typedef struct world_branch {
    uint32_t id;
    cop_node node;
    uint32_t slot;
    uint32_t next_position;
    uint32_t said;
    uint32_t own;  /* tokens that run in the next step, beside the others' decode rows; then 0 */
    int32_t token; /* to be fed next, or COP_TOKEN_SAMPLED */
    int32_t script[WORLD_SCRIPT];
} world_branch;

typedef struct world {
    world_options options;
    cop_model *model;
    const cop_model_shape *shape;
    cop_kv *kv;
    cop_plan *plan;
    const cop_backend_ops *ops;
    cop_backend *backend;
    cop_node root;
    world_branch *branch; /* row i decodes branch[i] */
    uint32_t n, next_id, n_untaken, untaken_n[3];
    /* Of two steps, and of one that is refused. */
    uint32_t untaken_id[3][WORLD_BRANCHES_MAX], untaken_at[3][WORLD_BRANCHES_MAX];
    int32_t token[WORLD_ROWS_MAX], position[WORLD_ROWS_MAX];
    uint32_t segment[WORLD_ROWS_MAX], offset[WORLD_ROWS_MAX], decode_slot[WORLD_BRANCHES_MAX];
    cop_prefill_run runs[WORLD_BRANCHES_MAX];
    cop_sample_request requests[2][WORLD_BRANCHES_MAX]; /* of the step, of the one before */
    cop_sample samples[WORLD_BRANCHES_MAX];
    cop_logit_bias bias[2];
    uint64_t tokens_digest, bits_digest, steps, failed;
} world;

static int32_t world_made_up(const world *w, uint32_t id, uint32_t at) {
    return (int32_t)(cop_rng_fold(cop_rng_fold(31, id), at) % w->shape->vocab);
}

static cop_status world_create_backend(world *w) {
    const world_options *o = &w->options;
    cop_backend_options b = o->backend;
    b.arith = COP_ARITH_BF16;
    b.n_threads = 1;
    b.max_samples = o->max_branches;
    b.max_partials = 64 * b.max_rows;
    b.max_positions = 8192;
    b.n_pages = o->n_pages;
    b.page_tokens = o->page_tokens;
    b.capacity = cop_plan_capacity(w->plan);
    return w->ops->create(w->model, &b, &w->backend);
}

/* Everything but the backend. */
static world *world_prepare(const world_options *options) {
    world *w = calloc(1, sizeof *w);
    CHECK(w);
    w->options = *options;
    world_options *o = &w->options;
    o->max_branches = o->max_branches ? o->max_branches : o->n_branches + 8;
    o->backend.max_rows = o->backend.max_rows ? o->backend.max_rows : o->max_branches + 64;
    o->n_pages = o->n_pages ? o->n_pages : 1024;
    CHECK(o->max_branches <= WORLD_BRANCHES_MAX && o->backend.max_rows <= WORLD_ROWS_MAX);
    w->ops = o->ops;
    w->model = small_model_open(&o->model);
    w->shape = cop_model_shape_of(w->model);
    w->branch = calloc(o->max_branches, sizeof *w->branch);
    CHECK(w->branch);
    w->bias[0] = (cop_logit_bias){3, 1.5f};
    w->bias[1] = (cop_logit_bias){(int32_t)w->shape->vocab - 1, -INFINITY};
    const cop_kv_options kv = {.page_tokens = o->page_tokens,
                               .n_pages = o->n_pages,
                               .max_segments = 2 * o->max_branches + 8,
                               .max_nodes = 4 * o->max_branches + 16,
                               .chunk_tokens = 256,
                               .chunk_tail_tokens = 256,
                               .pages_ahead = o->pages_ahead};
    CHECK_OK(cop_kv_create(&kv, &w->kv));
    const cop_plan_options plan = {.group = w->shape->n_heads / w->shape->n_kv_heads,
                                   .chunk_tokens = 256,
                                   .chunk_tail_tokens = 256,
                                   .max_decode_slots = o->max_branches,
                                   .max_prefill_slots = o->backend.max_rows,
                                   .max_partials = 64 * o->backend.max_rows};
    CHECK_OK(cop_plan_create(&plan, w->kv, &w->plan));
    return w;
}

static void world_close(world *w) {
    w->ops->destroy(w->backend);
    cop_plan_destroy(w->plan);
    cop_kv_destroy(w->kv);
    cop_model_close(w->model);
    free(w->branch);
    free(w);
}

static void world_request(world *w, world_branch *b, uint32_t row, cop_sample_request *q) {
    const world_options *o = &w->options;
    *q = (cop_sample_request){.row = row,
                              .temperature = o->temperature,
                              .top_p = o->top_p > 0 ? o->top_p : 1,
                              .key = {5, b->id, b->next_position},
                              .forced = -1};
    if (o->biased && b->id % 3 == 0)
        q->bias = w->bias, q->n_bias = 2;
    if (!o->forced)
        return;
    CHECK(b->said + 1 < WORLD_SCRIPT);
    q->forced = b->script[b->said];
    if (o->hints)
        q->forced_next = b->script + b->said + 1, q->n_forced_next = WORLD_SCRIPT - b->said - 1;
}

/* One pass through the backend; its samples are taken later. */
static cop_status world_forward(world *w, uint32_t n_rows, uint32_t n_decode, uint32_t n_runs,
                                uint32_t n_requests) {
    COP_TRY(cop_plan_step(w->plan, w->decode_slot, n_decode, w->runs, n_runs));
    const cop_step step = {.n_rows = n_rows,
                           .n_decode = n_decode,
                           .token = w->token,
                           .position = w->position,
                           .segment = w->segment,
                           .offset = w->offset,
                           .plan = cop_plan_view(w->plan)};
    COP_TRY(cop_forward_queue(w->ops, w->backend, w->shape, &step, w->requests[w->steps % 2],
                              n_requests));
    cop_plan_changes_clear(w->plan);
    w->steps++;
    return COP_OK;
}

static void world_digest(world *w, uint32_t id, uint32_t said, const cop_sample *s) {
    uint64_t h = cop_rng_fold(cop_rng_fold(id, said), (uint64_t)s->token);
    w->tokens_digest += h;
    uint32_t bits;
    const float values[] = {s->logprob, s->forced_logprob, s->logsumexp};
    for (uint32_t i = 0; i < 3; i++) {
        memcpy(&bits, &values[i], 4);
        h = cop_rng_fold(h, bits);
    }
    for (uint32_t i = 0; i < s->n_top; i++) {
        memcpy(&bits, &s->top_logprob[i], 4);
        h = cop_rng_fold(h, (uint64_t)bits << 32 | (uint32_t)s->top_token[i]);
    }
    w->bits_digest += h;
    w->failed += s->failed;
}

/* Takes the samples of the oldest step: each branch that still waits for its token has it. */
static cop_status world_take(world *w) {
    const uint32_t n = w->untaken_n[0];
    if (w->options.before_take)
        w->options.before_take();
    COP_TRY(w->ops->samples(w->backend, n, w->samples));
    for (uint32_t i = 0; i < n; i++) {
        world_digest(w, w->untaken_id[0][i], w->untaken_at[0][i], &w->samples[i]);
        CHECK(!w->samples[i].failed);
        for (uint32_t k = 0; k < w->n; k++) {
            world_branch *b = &w->branch[(i + k) % w->n];
            if (b->id != w->untaken_id[0][i])
                continue;
            const uint32_t at = w->untaken_at[0][i];
            if (b->said == at + 1 && !w->options.fed) /* no later token was asked for */
                b->token = w->options.forced ? b->script[at] : w->samples[i].token;
            break;
        }
    }
    w->n_untaken--;
    memcpy(w->untaken_id[0], w->untaken_id[1], sizeof w->untaken_id[0]);
    memcpy(w->untaken_at[0], w->untaken_at[1], sizeof w->untaken_at[0]);
    w->untaken_n[0] = w->untaken_n[1];
    return COP_OK;
}

static void world_untaken(world *w, world_branch *b, uint32_t i) {
    w->untaken_id[w->n_untaken][i] = b->id;
    w->untaken_at[w->n_untaken][i] = b->said;
    b->token = w->options.fed ? b->script[b->said] : COP_TOKEN_SAMPLED;
    b->said++;
}

/* Rows of a run of tokens of a node. */
static void world_run_rows(world *w, cop_node node, uint32_t id, uint32_t first, uint32_t n,
                           uint32_t position, uint32_t row) {
    const uint32_t segment = cop_kv_node(w->kv, node).segment;
    for (uint32_t i = 0; i < n; i++) {
        w->token[row + i] = world_made_up(w, 1000 + id, first + i);
        w->position[row + i] = (int32_t)(position + first + i);
        w->segment[row + i] = segment;
        w->offset[row + i] = first + i;
    }
}

static cop_status world_prompt(world *w) {
    const world_options *o = &w->options;
    COP_TRY(cop_kv_open(w->kv, cop_kv_root(w->kv), &w->root));
    for (uint32_t first = 0; first < o->prompt_tokens;) {
        const uint32_t left = o->prompt_tokens - first, most = o->backend.max_rows;
        const uint32_t n = left < most ? left : most;
        COP_TRY(cop_kv_append(w->kv, w->root, n));
        world_run_rows(w, w->root, 0, first, n, 0, 0);
        w->runs[0] = (cop_prefill_run){w->root, first, n, 0};
        COP_TRY(world_forward(w, n, 0, 1, 0));
        first += n;
    }
    cop_kv_seal(w->kv, w->root);
    return COP_OK;
}

static cop_status world_fork(world *w, uint32_t n_new);

static cop_status world_start(world *w) {
    COP_TRY(world_create_backend(w));
    COP_TRY(world_prompt(w));
    return world_fork(w, w->options.n_branches);
}

static inline world *world_open(const world_options *options) {
    world *w = world_prepare(options);
    CHECK_OK(world_start(w));
    return w;
}

/* Opens branches below the prompt, each with some tokens of its own, in as few steps as rows allow;
 * those that decode already wait meanwhile. */
static cop_status world_fork(world *w, uint32_t n_new) {
    const world_options *o = &w->options;
    while (w->n_untaken > 0)
        COP_TRY(world_take(w));
    for (uint32_t done = 0; done < n_new;) {
        uint32_t rows = 0, n = 0;
        for (; done < n_new; done++, n++) {
            const uint32_t own = 1 + (o->stagger ? w->next_id % o->stagger : 0);
            if (rows + own > o->backend.max_rows)
                break;
            CHECK(w->n < o->max_branches);
            world_branch *b = &w->branch[w->n++];
            *b = (world_branch){.id = w->next_id++, .slot = UINT32_MAX};
            for (uint32_t i = 0; i < WORLD_SCRIPT; i++)
                b->script[i] = world_made_up(w, b->id, i);
            COP_TRY(cop_kv_open(w->kv, w->root, &b->node));
            COP_TRY(cop_kv_append(w->kv, b->node, own));
            world_run_rows(w, b->node, b->id, 0, own, o->prompt_tokens, rows);
            w->runs[n] = (cop_prefill_run){b->node, 0, own, (int32_t)rows};
            rows += own;
            b->next_position = o->prompt_tokens + own;
            world_request(w, b, rows - 1, &w->requests[w->steps % 2][n]);
            world_untaken(w, b, n);
        }
        CHECK(n > 0);
        COP_TRY(world_forward(w, rows, 0, n, n));
        w->untaken_n[w->n_untaken++] = n;
        COP_TRY(world_take(w));
    }
    return COP_OK;
}

/* Opens branches whose own tokens run in the next step, while the others go on. */
static inline cop_status world_fork_beside(world *w, uint32_t n_new, uint32_t own) {
    for (uint32_t i = 0; i < n_new; i++) {
        CHECK(w->n < w->options.max_branches);
        world_branch *b = &w->branch[w->n++];
        *b = (world_branch){.id = w->next_id++, .slot = UINT32_MAX, .own = own};
        for (uint32_t k = 0; k < WORLD_SCRIPT; k++)
            b->script[k] = world_made_up(w, b->id, k);
        COP_TRY(cop_kv_open(w->kv, w->root, &b->node));
        COP_TRY(cop_kv_append(w->kv, b->node, own));
        b->next_position = w->options.prompt_tokens + own;
    }
    return COP_OK;
}

static cop_status world_decode_row(world *w, uint32_t i) {
    world_branch *b = &w->branch[i];
    COP_TRY(cop_kv_append(w->kv, b->node, 1));
    if (b->slot == UINT32_MAX)
        COP_TRY(cop_plan_slot_add(w->plan, b->node, &b->slot));
    const uint32_t segment = cop_kv_node(w->kv, b->node).segment;
    w->decode_slot[i] = b->slot;
    w->token[i] = b->token;
    w->position[i] = (int32_t)b->next_position++;
    w->segment[i] = segment;
    w->offset[i] = cop_kv_segments(w->kv)[segment].tokens - 1;
    return COP_OK;
}

/* One token for every branch. A step ahead: its tokens are those that are still being sampled. A
 * fresh branch of one token of its own keeps its row, so that even it can be ahead. */
static cop_status world_step(world *w) {
    const world_options *o = &w->options;
    uint32_t n_decode = 0, n_runs = 0, rows = 0;
    bool moved = false;
    if (!o->ahead)
        CHECK_EQ(w->n_untaken, 0);
    for (uint32_t i = 0; i < w->n; i++) {
        world_branch *b = &w->branch[i];
        if (b->own == 0) {
            COP_TRY(world_decode_row(w, i));
            n_decode++, rows++;
        } else {
            world_run_rows(w, b->node, b->id, 0, b->own, o->prompt_tokens, rows);
            w->runs[n_runs++] = (cop_prefill_run){b->node, 0, b->own, (int32_t)rows};
            rows += b->own;
            moved = moved || b->own > 1;
            b->own = 0;
        }
        world_request(w, b, rows - 1, &w->requests[w->steps % 2][i]);
    }
    for (uint32_t i = 0; i < w->n; i++)
        world_untaken(w, &w->branch[i], i);
    COP_TRY(world_forward(w, rows, n_decode, n_runs, w->n));
    w->untaken_n[w->n_untaken++] = w->n;
    while (w->n_untaken > (o->ahead && !moved ? 1u : 0u))
        COP_TRY(world_take(w));
    return COP_OK;
}

static inline cop_status world_settle(world *w) { /* nothing is ahead any more */
    while (w->n_untaken > 0)
        COP_TRY(world_take(w));
    return COP_OK;
}

/* Row i's branch ends; the last one takes its row, the others keep theirs. */
static void world_end(world *w, uint32_t i) {
    world_branch *b = &w->branch[i];
    if (b->slot != UINT32_MAX)
        cop_plan_slot_remove(w->plan, b->slot);
    cop_kv_release(w->kv, b->node);
    *b = w->branch[--w->n];
}

/* The plan takes a turn that the backend never hears of. */
static inline cop_status world_miss_turn(world *w) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->n; i++)
        if (w->branch[i].slot != UINT32_MAX)
            w->decode_slot[n++] = w->branch[i].slot;
    COP_TRY(cop_plan_step(w->plan, w->decode_slot, n, NULL, 0));
    cop_plan_changes_clear(w->plan);
    return COP_OK;
}
