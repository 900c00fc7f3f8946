/* Random small worlds for the attention tests: segments, views over them, what fold_reference.c
 * makes of each row, and tables for any tiling, page size and order of pages.
 *
 * The planner here is naive and shares no code with plan.c: it only obeys plan.h. Each tile walks
 * the trie of its slots' views; tiles are any slots in any order, with holes; entries are split and
 * left open at random; pages are shuffled. `coverage` counts what the worlds contained, and the
 * test fails for a class that none did. Included by one test, after which it belongs to it.
 */
#pragma once

#include <math.h>

#include "base/rng.h"
#include "check.h"
#include "kernels/tables.h"
#include "kv/fold_reference.h"

enum {
    MAX_SEGMENTS = 24,
    MAX_VIEW = 12,
    MAX_SLOTS = 40,
    MAX_TILES = 4 * MAX_SLOTS, /* some hold nothing but holes */
    MAX_PAGES = 1024,
    MAX_ENTRIES = 8192,
    MAX_ITEMS = 1024,
    MAX_LIMITS = 65536,
    N_LAYERS = 2,
};

static uint64_t draws;

static uint32_t below(uint32_t bound) {
    return cop_rng_below((cop_rng_key){.seed = 3, .stream = 1, .position = draws++}, 0, bound);
}

static float uniform(void) {
    return (float)cop_rng_uniform((cop_rng_key){.seed = 3, .stream = 2, .position = draws++}, 0) *
               2.0f -
           1.0f;
}

/* What a query token sees: segments in order, the last one perhaps only up to a limit. */
typedef struct view {
    uint32_t segment[MAX_VIEW], n;
    uint32_t limit; /* tokens of the last segment */
    int32_t row;    /* -1: not in this step */
    uint32_t n_chunks;
} view;

typedef struct world {
    uint32_t n_heads, n_kv_heads, d, chunk_tokens, chunk_tail_tokens;
    bool bf16;
    uint32_t tokens[MAX_SEGMENTS], n_segments;
    float *k[MAX_SEGMENTS], *v[MAX_SEGMENTS]; /* [token][kv_head][d] */
    view views[MAX_SLOTS];
    uint32_t n_views, n_rows;
    float *q, *expected; /* [row][head][d] */
} world;

/* Tables of one tiling and page size. */
typedef struct tables {
    cop_segment segments[MAX_SEGMENTS];
    uint32_t page_table[MAX_PAGES];
    cop_tile tiles[MAX_TILES];
    cop_walk_entry entries[MAX_ENTRIES];
    int32_t limits[MAX_LIMITS];
    cop_item items[MAX_ITEMS];
    cop_slot slots[MAX_SLOTS];
    cop_plan_tables view;
    uint32_t n_entries, n_limits, n_pages;
    cop_walk_entry pending[MAX_ENTRIES]; /* entries of one tile, in the order of the walk */
    uint32_t pending_chunk[MAX_ENTRIES], n_pending;
} tables;

/* What the random worlds contained. */
typedef enum covered {
    SHARED_SEGMENT,
    JOINED_TWICE, /* a segment under two prefixes of one tile */
    EMPTY_SEGMENT,
    PARTIAL_PAGE,
    CHUNK_INSIDE_SEGMENT,
    CHUNK_AT_SEGMENT_END,
    MANY_CHUNKS,
    CAUSAL_LIMIT,
    HOLE,
    ABSENT_SLOT,
    EMPTY_VIEW,
    OPEN_ENTRY,
    SPLIT_ENTRY,
    FAR_PAGE,
    WIDE_TILE,
    ODD_GROUP,
    N_COVERED,
} covered;
static uint32_t coverage[N_COVERED];
static const char *const covered_name[N_COVERED] = {"shared segment",
                                                    "segment under two prefixes",
                                                    "empty segment",
                                                    "partial page",
                                                    "chunk inside a segment",
                                                    "chunk at a segment's end",
                                                    "three chunks or more",
                                                    "causal limit",
                                                    "hole",
                                                    "slot without a row",
                                                    "empty view",
                                                    "open entry",
                                                    "split entry",
                                                    "page table offset beyond the first page",
                                                    "more than one block of rows",
                                                    "group that divides no tile"};

static float *random_values(size_t n, bool bf16, float amplitude) {
    float *x = malloc((n ? n : 1) * sizeof *x);
    CHECK(x);
    for (size_t i = 0; i < n; i++) {
        x[i] = uniform() * amplitude;
        if (bf16)
            x[i] = cop_f32_from_bf16(cop_bf16_from_f32(x[i]));
    }
    return x;
}

/* The tokens that view v sees of its i-th segment. */
static uint32_t seen_tokens(const world *w, const view *v, uint32_t i) {
    const uint32_t tokens = w->tokens[v->segment[i]];
    return i + 1 == v->n && v->limit < tokens ? v->limit : tokens;
}

static float scale_of(const world *w) {
    return (float)(0x1.71547652b82fep+0 / sqrt(w->d));
}

/* Chunk state of plan.h after one more leaf; `ends` says whether it ends its segment. */
static bool chunk_cut(const world *w, uint32_t *fill, uint32_t tokens, bool ends) {
    *fill += tokens;
    if (*fill >= w->chunk_tokens || (ends && *fill >= w->chunk_tail_tokens)) {
        *fill = 0;
        return true;
    }
    return false;
}

/* One row by fold_reference.c. Sets the view's number of chunks. */
static void expect_row(const world *w, view *v, uint32_t head, float *out) {
    enum { MAX_CHUNKS = 64 };
    static float o[MAX_CHUNKS][256], m[MAX_CHUNKS], l[MAX_CHUNKS];
    const uint32_t kv_head = head / (w->n_heads / w->n_kv_heads), d = w->d;
    const float *q = w->q + ((size_t)v->row * w->n_heads + head) * d;
    uint32_t n = 0, fill = 0;
    bool open = false;
    cop_fold fold;
    for (uint32_t i = 0; i < v->n; i++) {
        const uint32_t seen = seen_tokens(w, v, i);
        for (uint32_t t = 0; t < seen; t += 64) {
            const uint32_t tokens = seen - t < 64 ? seen - t : 64;
            if (!open) {
                CHECK(n < MAX_CHUNKS);
                cop_fold_reset(&fold, o[n], d, scale_of(w), w->bf16);
            }
            const size_t at = ((size_t)t * w->n_kv_heads + kv_head) * d;
            cop_fold_leaf(&fold, q, w->k[v->segment[i]] + at, w->v[v->segment[i]] + at, tokens,
                          w->n_kv_heads * d, w->n_kv_heads * d);
            m[n] = fold.m;
            l[n] = cop_fold_sum(&fold);
            open = !chunk_cut(w, &fill, tokens, t + tokens == w->tokens[v->segment[i]]);
            n += !open;
        }
    }
    n += open;
    v->n_chunks = n;
    cop_fold_merge(o[0], 256, m, l, n, d, scale_of(w), out);
    for (uint32_t i = 0; w->bf16 && i < d; i++)
        out[i] = cop_f32_from_bf16(cop_bf16_from_f32(out[i]));
}

static void grow_views(world *w) {
    w->n_views = 1 + below(below(4) == 0 ? MAX_SLOTS : 8);
    for (uint32_t s = 0; s < w->n_views; s++) {
        view *v = &w->views[s];
        *v = (view){.limit = UINT32_MAX};
        if (s > 0 && below(8)) { /* a prefix of another view: a fork of an ancestor */
            const view *parent = &w->views[below(s)];
            v->n = below(parent->n + 1);
            memcpy(v->segment, parent->segment, sizeof v->segment);
        }
        const uint32_t more = below(8) ? 1 + below(3) : 0;
        for (uint32_t i = 0; i < more && v->n < MAX_VIEW; i++)
            v->segment[v->n++] = below(w->n_segments);
        for (uint32_t i = 0; i + 1 < v->n; i++) { /* a view holds a segment once */
            for (uint32_t j = i + 1; j < v->n; j++) {
                if (v->segment[i] == v->segment[j])
                    v->n = j;
            }
        }
        if (v->n && below(3) == 0)
            v->limit = below(w->tokens[v->segment[v->n - 1]] + 1);
        v->row = below(6) == 0 ? -1 : (int32_t)w->n_rows++;
    }
}

/* Queries and what they must give, once the views are grown. `rows`: of a tile whose ratio of heads
 * counts as odd. */
static void fill_world(world *w, uint32_t rows) {
    const size_t n = (size_t)w->n_rows * w->n_heads * w->d;
    w->q = random_values(n, w->bf16, 2.0f);
    w->expected = random_values(n, false, 1.0f);
    for (uint32_t s = 0; s < w->n_views; s++) {
        view *v = &w->views[s];
        for (uint32_t h = 0; v->row >= 0 && h < w->n_heads; h++)
            expect_row(w, v, h, w->expected + ((size_t)v->row * w->n_heads + h) * w->d);
        coverage[MANY_CHUNKS] += v->row >= 0 && v->n_chunks > 2;
        coverage[EMPTY_VIEW] += v->row >= 0 && v->n_chunks == 0;
        coverage[ABSENT_SLOT] += v->row < 0;
        coverage[CAUSAL_LIMIT] += v->row >= 0 && v->limit < UINT32_MAX;
    }
    coverage[ODD_GROUP] += rows % (w->n_heads / w->n_kv_heads) != 0;
}

static void world_create(world *w) {
    static const uint32_t dims[] = {16, 32, 48, 64, 80, 96, 128, 256};
    static const uint32_t rules[][2] = {{64, 64}, {128, 64}, {192, 128}, {1024, 1024}};
    *w = (world){.bf16 = below(2), .n_kv_heads = 1 + below(3)};
    w->d = dims[below(below(4) ? 4 : 8)];
    w->n_heads = w->n_kv_heads * (1 + below(below(8) ? 5 : 9));
    const uint32_t rule = below(4);
    w->chunk_tokens = rules[rule][0];
    w->chunk_tail_tokens = rules[rule][1];
    w->n_segments = 2 + below(10);
    const float amplitude = below(6) ? 1.0f : 30.0f;
    for (uint32_t s = 0; s < w->n_segments; s++) {
        w->tokens[s] = below(8) ? 1 + below(below(3) ? 90 : 300) : 0;
        if (below(5) == 0)
            w->tokens[s] = w->tokens[s] / 64 * 64;
        const size_t n = (size_t)w->tokens[s] * w->n_kv_heads * w->d;
        w->k[s] = random_values(n, w->bf16, amplitude);
        w->v[s] = random_values(n, w->bf16, 1.0f);
        coverage[EMPTY_SEGMENT] += w->tokens[s] == 0;
    }
    grow_views(w);
    fill_world(w, 6);
}

static void world_destroy(world *w) {
    for (uint32_t s = 0; s < w->n_segments; s++) {
        free(w->k[s]);
        free(w->v[s]);
    }
    free(w->q);
    free(w->expected);
}

/* Segments on shuffled pages, their tables at scattered offsets. */
static void place_pages(const world *w, tables *t, uint32_t page_tokens) {
    for (uint32_t p = 0; p < MAX_PAGES; p++)
        t->page_table[p] = UINT32_MAX; /* reading past a segment's pages is an error */
    uint32_t order[MAX_SEGMENTS], offset = below(5);
    for (uint32_t s = 0; s < w->n_segments; s++) {
        const uint32_t x = below(s + 1);
        order[s] = order[x];
        order[x] = s;
    }
    t->n_pages = 0;
    for (uint32_t i = 0; i < w->n_segments; i++) {
        const uint32_t s = order[i], pages = (w->tokens[s] + page_tokens - 1) / page_tokens;
        t->segments[s] = (cop_segment){.page_table_offset = offset, .tokens = w->tokens[s]};
        coverage[PARTIAL_PAGE] += w->tokens[s] % page_tokens != 0;
        coverage[FAR_PAGE] += offset > 1;
        CHECK(offset + pages + 5 < MAX_PAGES);
        for (uint32_t p = 0; p < pages; p++) { /* inside out */
            const uint32_t other = t->n_pages ? below(t->n_pages + 1) : 0;
            t->page_table[offset + p] = t->n_pages++;
            for (uint32_t x = 0; x < offset + p; x++) {
                if (t->page_table[x] == other) {
                    t->page_table[x] = t->page_table[offset + p];
                    t->page_table[offset + p] = other;
                    break;
                }
            }
        }
        offset += pages + below(4);
    }
}

static void add_entry(const world *w, tables *t, const cop_tile *tile, uint32_t segment,
                      uint32_t first, uint32_t tokens, uint32_t chunk, uint64_t mask) {
    cop_walk_entry entry = {.segment = segment, .first = first, .tokens = tokens, .mask = mask};
    entry.limits = COP_LIMITS_NONE;
    if (first + tokens == w->tokens[segment] && below(2)) {
        entry.tokens = below(2) ? COP_TO_END : tokens + below(100);
        coverage[OPEN_ENTRY]++;
    }
    bool limited = false;
    CHECK(t->n_limits + 64 <= MAX_LIMITS);
    for (uint32_t s = 0; s < tile->n_slots; s++) {
        int32_t limit = -7; /* never read where the mask has no bit */
        if (mask >> s & 1) {
            const view *v = &w->views[tile->slot[s]];
            limit = (int32_t)w->tokens[segment];
            if (v->segment[v->n - 1] == segment && v->limit < (uint32_t)limit) {
                limit = (int32_t)v->limit;
                limited = true;
            }
        }
        t->limits[t->n_limits + s] = limit;
    }
    if (limited) {
        entry.limits = (int32_t)t->n_limits;
        t->n_limits += tile->n_slots;
    }
    coverage[SHARED_SEGMENT] += __builtin_popcountll(mask) > 1;
    for (uint32_t i = 0; i < t->n_pending; i++)
        coverage[JOINED_TWICE] += t->pending[i].segment == segment && t->pending[i].first == first;
    CHECK(t->n_pending < MAX_ENTRIES);
    t->pending_chunk[t->n_pending] = chunk;
    t->pending[t->n_pending++] = entry;
}

/* Emits one trie node, seen by the tile slots of `mask`, and the nodes below it. */
static void walk_trie(const world *w, tables *t, const cop_tile *tile, uint64_t mask,
                      uint32_t depth, uint32_t chunk, uint32_t fill) {
    while (mask) {
        uint64_t same = 0;
        uint32_t segment = UINT32_MAX, most = 0;
        for (uint32_t s = 0; s < tile->n_slots; s++) {
            const view *v = mask >> s & 1 ? &w->views[tile->slot[s]] : NULL;
            if (!v || v->n <= depth) {
                mask &= ~(1ull << s);
                continue;
            }
            if (segment == UINT32_MAX)
                segment = v->segment[depth];
            if (segment != v->segment[depth])
                continue;
            same |= 1ull << s;
            const uint32_t seen = seen_tokens(w, v, depth);
            most = seen > most ? seen : most;
        }
        if (!same)
            return;
        uint32_t c = chunk, f = fill, begun = 0;
        for (uint32_t first = 0; first < most; first += 64) {
            const uint32_t left = w->tokens[segment] - first, n = left < 64 ? left : 64;
            const bool cut = chunk_cut(w, &f, n, n == left);
            const bool split = below(6) == 0;
            coverage[CHUNK_INSIDE_SEGMENT] += cut && n < left;
            coverage[CHUNK_AT_SEGMENT_END] += cut && n == left;
            if (cut || split || first + n >= most) {
                uint64_t present = 0; /* a slot is in the mask of what it sees only */
                for (uint32_t s = 0; s < tile->n_slots; s++) {
                    if (same >> s & 1 && seen_tokens(w, &w->views[tile->slot[s]], depth) > begun)
                        present |= 1ull << s;
                }
                coverage[SPLIT_ENTRY] += split && !cut && first + n < most;
                add_entry(w, t, tile, segment, begun, first + n - begun, c, present);
                begun = first + n;
            }
            c += cut;
        }
        walk_trie(w, t, tile, same, depth + 1, c, f);
        mask &= ~same;
    }
}

static void emit_items(tables *t, uint32_t tile) {
    uint32_t last = 0;
    for (uint32_t i = 0; i < t->n_pending; i++)
        last = t->pending_chunk[i] > last ? t->pending_chunk[i] : last;
    for (uint32_t chunk = 0; chunk <= last; chunk++) {
        cop_item item = {.tile = tile, .chunk = chunk, .first_entry = t->n_entries};
        for (uint32_t i = 0; i < t->n_pending; i++) {
            CHECK(t->n_entries < MAX_ENTRIES);
            if (t->pending_chunk[i] == chunk)
                t->entries[t->n_entries++] = t->pending[i];
        }
        item.n_entries = t->n_entries - item.first_entry;
        CHECK(t->view.n_items < MAX_ITEMS);
        t->items[t->view.n_items++] = item;
    }
    t->n_pending = 0;
}

/* A random tiling: any slots in any order, with holes. */
static void make_tables(const world *w, tables *t, uint32_t page_tokens, uint32_t tile_slots) {
    memset(&t->view, 0, sizeof t->view);
    t->n_entries = t->n_limits = t->n_pending = 0;
    place_pages(w, t, page_tokens);
    uint32_t order[MAX_SLOTS], partials = 0;
    for (uint32_t s = 0; s < w->n_views; s++) {
        const uint32_t x = below(s + 1);
        order[s] = order[x];
        order[x] = s;
        t->slots[s] = (cop_slot){.row = w->views[s].row, .n_partials = w->views[s].n_chunks};
        t->slots[s].first_partial = partials;
        partials += w->views[s].n_chunks > 1 ? w->views[s].n_chunks : 0;
    }
    for (uint32_t done = 0; done < w->n_views;) {
        CHECK(t->view.n_tiles < MAX_TILES);
        cop_tile *tile = &t->tiles[t->view.n_tiles];
        tile->n_slots = 0;
        uint64_t mask = 0;
        while (tile->n_slots < tile_slots && done < w->n_views) {
            const bool hole = below(8) == 0;
            coverage[HOLE] += hole;
            tile->slot[tile->n_slots] = hole ? COP_SLOT_HOLE : (int32_t)order[done++];
            mask |= hole ? 0 : 1ull << tile->n_slots;
            tile->n_slots++;
        }
        coverage[WIDE_TILE] += tile->n_slots * (w->n_heads / w->n_kv_heads) > 96;
        walk_trie(w, t, tile, mask, 0, 0, 0);
        emit_items(t, t->view.n_tiles++);
    }
    t->view.segments = t->segments;
    t->view.page_table = t->page_table;
    t->view.tiles = t->tiles;
    t->view.entries = t->entries;
    t->view.limits = t->limits;
    t->view.items = t->items;
    t->view.slots = t->slots;
    t->view.n_slots = w->n_views;
    t->view.n_partials = partials;
    t->view.page_tokens = page_tokens;
}
