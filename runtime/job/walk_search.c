#include "job/walk_search.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "job/shape_plan.h"

const uint32_t cop_walk_rules[][2] = {
    {1024, 1024}, {256, 128},  {256, 256},  {512, 128},  {512, 256},   {512, 512},
    {1024, 128},  {1024, 256}, {1024, 512}, {2048, 128}, {2048, 256},  {2048, 512},
    {2048, 1024}, {4096, 128}, {4096, 256}, {4096, 512}, {4096, 1024}, {0, 0}};

enum { PAGE_TOKENS = 64, WIDTHS_MAX = 10 };

typedef struct width { /* the planner's items at one tile width, by chunk */
    cop_shape_plan *plan;
    uint64_t *tokens; /* [n_items] each item's loads, chunk by chunk */
    uint32_t *first;  /* [n_chunks + 1] */
    uint64_t *seen;   /* scratch of cop_cost_attention */
    uint32_t n_items, n_chunks;
} width;

struct cop_walk_search {
    const cop_cost_tree *tree;
    uint32_t chunk_tokens, chunk_tail_tokens;
    width widths[COP_TILE_SLOTS_MAX + 1]; /* by tile slots; made when first asked for */
    double *blocks;                       /* [n_blocks] scratch */
    uint64_t *picked; /* [picked_capacity] scratch: tokens of the items chosen */
    size_t blocks_capacity, picked_capacity;
};

cop_status cop_walk_search_create(const cop_cost_tree *tree, uint32_t chunk_tokens,
                                  uint32_t chunk_tail_tokens, cop_walk_search **out) {
    *out = cop_calloc(1, sizeof **out);
    if (!*out)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a search of plans");
    (*out)->tree = tree;
    (*out)->chunk_tokens = chunk_tokens;
    (*out)->chunk_tail_tokens = chunk_tail_tokens;
    return COP_OK;
}

void cop_walk_search_destroy(cop_walk_search *search) {
    if (!search)
        return;
    for (uint32_t i = 0; i <= COP_TILE_SLOTS_MAX; i++) {
        cop_shape_plan_destroy(search->widths[i].plan);
        cop_free(search->widths[i].tokens);
        cop_free(search->widths[i].first);
        cop_free(search->widths[i].seen);
    }
    cop_free(search->blocks);
    cop_free(search->picked);
    cop_free(search);
}

/* Counting sort of the items' loads by chunk. */
static cop_status sort_by_chunk(width *w, const cop_plan_tables *tables) {
    w->n_items = tables->n_items;
    for (uint32_t i = 0; i < tables->n_items; i++)
        w->n_chunks =
            tables->items[i].chunk >= w->n_chunks ? tables->items[i].chunk + 1 : w->n_chunks;
    uint64_t *loads = cop_calloc(tables->n_items + 1ull, sizeof *loads);
    w->tokens = cop_calloc(tables->n_items + 1ull, sizeof *w->tokens);
    w->first = cop_calloc(w->n_chunks + 2ull, sizeof *w->first);
    if (!loads || !w->tokens || !w->first) {
        cop_free(loads);
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %u items", tables->n_items);
    }
    cop_cost_item_tokens(tables, loads);
    for (uint32_t i = 0; i < tables->n_items; i++)
        w->first[tables->items[i].chunk + 2]++;
    for (uint32_t c = 0; c < w->n_chunks; c++)
        w->first[c + 2] += w->first[c + 1];
    for (uint32_t i = 0; i < tables->n_items; i++)
        w->tokens[w->first[tables->items[i].chunk + 1]++] = loads[i];
    cop_free(loads);
    return COP_OK;
}

static cop_status width_make(cop_walk_search *search, uint32_t tile_slots) {
    width *w = &search->widths[tile_slots];
    if (w->seen)
        return COP_OK;
    const cop_shape_plan_options options = {.page_tokens = PAGE_TOKENS,
                                            .chunk_tokens = search->chunk_tokens,
                                            .chunk_tail_tokens = search->chunk_tail_tokens,
                                            .group = 1,
                                            .tile_slots = tile_slots};
    COP_TRY(cop_shape_plan_create(search->tree, &options, &w->plan));
    const cop_plan_tables tables = cop_shape_plan_tables(w->plan);
    COP_TRY(sort_by_chunk(w, &tables));
    const uint64_t words =
        cop_cost_scratch_words(cop_shape_plan_segments(w->plan), cop_shape_plan_pages(w->plan));
    w->seen = cop_calloc(words, sizeof *w->seen);
    return w->seen
               ? COP_OK
               : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %llu words", (unsigned long long)words);
}

/* Chunk c of a width costs the L2 its loads and the blocks its makespan. */
typedef struct chunk_cost {
    double load_s, span_s;
} chunk_cost;

static double span_of(const cop_walk_search *search, const uint64_t *tokens, uint32_t n,
                      const cop_walk_question *q) {
    memcpy(search->picked, tokens, n * sizeof *tokens); /* the makespan sorts in place */
    const cop_cost_items items = {.tokens = search->picked, .n = n, .blocks = search->blocks};
    return cop_cost_makespan_seconds(&items, &q->shape, &q->gpu);
}

static chunk_cost cost_of_chunk(const cop_walk_search *search, const width *w, uint32_t c,
                                const cop_walk_question *q) {
    const uint64_t *tokens = w->tokens + w->first[c];
    const uint32_t n = w->first[c + 1] - w->first[c];
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += tokens[i];
    const double bytes =
        (double)(sum * 2 * q->shape.head_dim * q->shape.kv_element_bytes * q->shape.n_kv_heads);
    return (chunk_cost){bytes / q->gpu.l2_bytes_per_s, span_of(search, tokens, n, q)};
}

/* The candidates: powers of two, and the narrow and wide class of the group. */
static uint32_t widths_of(const cop_walk_question *q, uint32_t widths[WIDTHS_MAX]) {
    const uint32_t group = q->shape.n_heads / q->shape.n_kv_heads;
    const uint32_t rows = q->shape.head_dim > 128 ? 32 : 64;
    const uint32_t wide = rows / group > 0 ? rows / group : 1;
    const uint32_t narrow = 16 / group > 0 ? 16 / group : 1;
    uint32_t n = 0;
    for (uint32_t slots = 1; slots <= wide; slots++) {
        if ((slots & (slots - 1)) == 0 || slots == wide || slots == narrow)
            widths[n++] = slots;
    }
    return n;
}

typedef struct selection {
    const cop_walk_question *q;
    uint32_t widths[WIDTHS_MAX], n_widths, n_chunks;
    chunk_cost *costs;        /* [n_chunks][n_widths] */
    cop_attention_cost fixed; /* bytes that no width changes */
} selection;

/* Takes for each chunk the width with the least loads + weight x makespan (or the width `only`),
 * and keeps the choice if it is the fastest so far. */
static void try_choice(cop_walk_search *search, const selection *s, double weight, int only,
                       cop_walk_choice *best) {
    cop_walk_choice choice = {.chunk_tokens = search->chunk_tokens,
                              .chunk_tail_tokens = search->chunk_tail_tokens,
                              .tile_slots = only >= 0 ? s->widths[only] : 0,
                              .cost = {.bytes = s->fixed, .launches = 1}};
    uint32_t n = 0;
    uint64_t loads = 0;
    for (uint32_t c = 0; c < s->n_chunks; c++) {
        uint32_t pick = only >= 0 ? (uint32_t)only : 0;
        for (uint32_t k = 0; only < 0 && k < s->n_widths; k++) {
            const chunk_cost *is = &s->costs[c * s->n_widths + k];
            const chunk_cost *was = &s->costs[c * s->n_widths + pick];
            if (is->load_s + weight * is->span_s < was->load_s + weight * was->span_s)
                pick = k;
        }
        const width *w = &search->widths[s->widths[pick]];
        for (uint32_t i = w->first[c]; i < w->first[c + 1]; i++) {
            search->picked[n++] = w->tokens[i];
            loads += w->tokens[i];
        }
    }
    const cop_attention_shape *shape = &s->q->shape;
    const cop_cost_items items = {.tokens = search->picked, .n = n, .blocks = search->blocks};
    cop_attention_cost *bytes = &choice.cost.bytes;
    bytes->kv_load_bytes =
        loads * 2 * shape->head_dim * shape->kv_element_bytes * shape->n_kv_heads;
    bytes->items = n * shape->n_kv_heads;
    choice.cost.seconds = cop_cost_launch_seconds(
        bytes, cop_cost_makespan_seconds(&items, shape, &s->q->gpu), &s->q->gpu);
    if (choice.cost.seconds < best->cost.seconds)
        *best = choice;
}

static cop_status make_widths(cop_walk_search *search, selection *s) {
    s->n_widths = widths_of(s->q, s->widths);
    size_t items = 0;
    for (uint32_t k = 0; k < s->n_widths; k++) {
        COP_TRY(width_make(search, s->widths[k]));
        const width *w = &search->widths[s->widths[k]];
        items = w->n_items > items ? w->n_items : items;
        s->n_chunks = w->n_chunks > s->n_chunks ? w->n_chunks : s->n_chunks;
    }
    COP_TRY(cop_grow(&search->picked, &search->picked_capacity, items + 1, sizeof *search->picked));
    COP_TRY(cop_grow(&search->blocks, &search->blocks_capacity, s->q->gpu.resident_blocks,
                     sizeof *search->blocks));
    s->costs = cop_calloc((size_t)s->n_chunks * s->n_widths + 1, sizeof *s->costs);
    if (!s->costs)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the costs of %u chunks", s->n_chunks);
    const width *any = &search->widths[s->widths[0]];
    const cop_plan_tables tables = cop_shape_plan_tables(any->plan);
    cop_cost_attention(&tables, cop_shape_plan_segments(any->plan), &s->q->shape, any->seen,
                       &s->fixed);
    return COP_OK;
}

cop_status cop_walk_search_best(cop_walk_search *search, const cop_walk_question *question,
                                cop_walk_choice *out) {
    static const double weights[] = {0, 0.05, 0.25, 1, 4}; /* few loads against short items */
    selection s = {.q = question};
    const cop_status status = make_widths(search, &s);
    out->cost.seconds = INFINITY;
    if (status == COP_OK) {
        for (uint32_t k = 0; k < s.n_widths; k++)
            try_choice(search, &s, 0, (int)k, out);
        for (uint32_t c = 0; c < s.n_chunks && !question->one_width; c++) {
            for (uint32_t k = 0; k < s.n_widths; k++)
                s.costs[c * s.n_widths + k] =
                    cost_of_chunk(search, &search->widths[s.widths[k]], c, question);
        }
        for (size_t i = 0; i < sizeof weights / sizeof weights[0] && !question->one_width; i++)
            try_choice(search, &s, weights[i], -1, out);
    }
    cop_free(s.costs);
    return status;
}
