/* The cpu backend's attention against fold_reference.c, row by row and bit by bit, over random
 * small worlds. The planner here is naive and shares no code with plan.c: it only obeys plan.h. */
#include <math.h>

#include "backend/cpu/attention.h"
#include "base/memory.h"
#include "base/rng.h"
#include "check.h"
#include "kernels/cost.h"
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
    coverage[ODD_GROUP] += 6 % (w->n_heads / w->n_kv_heads) != 0;
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

/* Tokens that tiles load, from the views alone: each trie node of a tile once, up to what is seen
 * of it by a slot with a row. */
static uint64_t expected_loads(const world *w, const tables *t) {
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < t->view.n_tiles; i++) {
        const cop_tile *tile = &t->tiles[i];
        for (uint32_t s = 0; s < tile->n_slots; s++) {
            const view *v = tile->slot[s] == COP_SLOT_HOLE ? NULL : &w->views[tile->slot[s]];
            for (uint32_t x = 0; v && v->row >= 0 && x < v->n; x++) {
                uint32_t covered_by_others = 0;
                for (uint32_t e = 0; e < s; e++) {
                    const view *o =
                        tile->slot[e] == COP_SLOT_HOLE ? NULL : &w->views[tile->slot[e]];
                    if (!o || o->row < 0 || o->n <= x ||
                        memcmp(o->segment, v->segment, (x + 1) * sizeof v->segment[0]))
                        continue;
                    const uint32_t seen = seen_tokens(w, o, x);
                    covered_by_others = seen > covered_by_others ? seen : covered_by_others;
                }
                const uint32_t seen = seen_tokens(w, v, x);
                tokens += seen > covered_by_others ? seen - covered_by_others : 0;
            }
        }
    }
    return tokens;
}

static uint64_t unique_tokens(const world *w) {
    uint64_t tokens = 0;
    for (uint32_t s = 0; s < w->n_segments; s++) {
        uint32_t most = 0;
        for (uint32_t i = 0; i < w->n_views; i++) {
            const view *v = &w->views[i];
            for (uint32_t x = 0; v->row >= 0 && x < v->n; x++) {
                if (v->segment[x] == s && seen_tokens(w, v, x) > most)
                    most = seen_tokens(w, v, x);
            }
        }
        tokens += most;
    }
    return tokens;
}

static void fill_pool(cop_cpu_attention *attention, const world *w, const tables *t,
                      uint32_t layer) {
    const uint32_t row = w->n_kv_heads * w->d, page_tokens = t->view.page_tokens;
    float *poison = malloc(row * sizeof *poison);
    CHECK(poison);
    for (uint32_t i = 0; i < row; i++)
        poison[i] = NAN; /* what lies past a segment's end must not matter */
    for (uint32_t page = 0; page < t->n_pages; page++) {
        for (uint32_t token = 0; token < page_tokens; token++)
            cop_cpu_attention_store(attention, layer, page, token, poison, poison);
    }
    for (uint32_t s = 0; s < w->n_segments; s++) {
        for (uint32_t i = 0; i < w->tokens[s]; i++) {
            const uint32_t page = t->page_table[t->segments[s].page_table_offset + i / page_tokens];
            cop_cpu_attention_store(attention, layer, page, i % page_tokens,
                                    w->k[s] + (size_t)i * row, w->v[s] + (size_t)i * row);
        }
    }
    free(poison);
}

static void check_bytes(const world *w, const tables *t, const cop_cpu_attention_counters *got) {
    const cop_attention_shape shape = {.n_heads = w->n_heads,
                                       .n_kv_heads = w->n_kv_heads,
                                       .head_dim = w->d,
                                       .kv_element_bytes = w->bf16 ? 2 : 4};
    uint64_t *seen = malloc(cop_cost_scratch_words(w->n_segments, t->n_pages) * sizeof *seen);
    CHECK(seen);
    cop_attention_cost cost;
    cop_cost_attention(&t->view, w->n_segments, &shape, seen, &cost);
    free(seen);
    const uint64_t token = 2ull * w->n_kv_heads * w->d * shape.kv_element_bytes;
    uint64_t keys = 0, partials = 0;
    for (uint32_t s = 0; s < w->n_views; s++) {
        const view *v = &w->views[s];
        for (uint32_t x = 0; v->row >= 0 && x < v->n; x++)
            keys += seen_tokens(w, v, x);
        partials += v->row >= 0 && v->n_chunks > 1 ? 2 * v->n_chunks : 0;
    }
    CHECK_EQ(cost.kv_load_bytes, expected_loads(w, t) * token);
    CHECK_EQ(cost.kv_first_bytes, unique_tokens(w) * token);
    CHECK_EQ(cost.partial_bytes, partials * w->n_heads * (w->d + 2) * 4);
    CHECK_EQ(cost.flops, 4 * keys * w->n_heads * w->d);
    CHECK_EQ(cost.output_bytes, (uint64_t)w->n_rows * w->n_heads * w->d * shape.kv_element_bytes);
    CHECK_EQ(got->load_bytes, cost.kv_load_bytes);
    CHECK_EQ(got->first_bytes, cost.kv_first_bytes);
    CHECK_EQ(got->partial_bytes, cost.partial_bytes);
}

static void run_and_compare(cop_cpu_attention *attention, const world *w, const tables *t,
                            uint32_t layer, const char *what) {
    const size_t stride = (size_t)w->n_heads * w->d, n = w->n_rows * (stride + 3);
    float *q = malloc((n + 1) * sizeof *q), *out = malloc((n + 1) * sizeof *out);
    CHECK(q && out);
    for (size_t i = 0; i <= n; i++)
        out[i] = NAN; /* every element of every row is written */
    for (uint32_t r = 0; r < w->n_rows; r++)
        memcpy(q + r * (stride + 3), w->q + r * stride, stride * sizeof *q);
    cop_cpu_attention_counters before, after;
    cop_cpu_attention_counters_read(attention, &before);
    const uint64_t allocations = cop_memory_count();
    CHECK_OK(cop_cpu_attention_run(attention, layer, &t->view, q, (uint32_t)stride + 3, out,
                                   (uint32_t)stride + 3));
    CHECK_EQ(cop_memory_count(), allocations);
    cop_cpu_attention_counters_read(attention, &after);
    for (uint32_t r = 0; r < w->n_rows; r++) {
        const float *a = out + r * (stride + 3), *b = w->expected + r * stride;
        for (size_t i = 0; i < stride; i++) {
            if (memcmp(&a[i], &b[i], sizeof *a) == 0)
                continue;
            fprintf(
                stderr,
                "%s: d %u, %u/%u heads, %s, page %u: row %u head %zu element %zu is %a, not %a\n",
                what, w->d, w->n_heads, w->n_kv_heads, w->bf16 ? "bf16" : "f32",
                t->view.page_tokens, r, i / w->d, i % w->d, a[i], b[i]);
            exit(1);
        }
        for (size_t i = stride; i < stride + 3; i++)
            CHECK(isnan(a[i])); /* nothing else is */
    }
    after.load_bytes -= before.load_bytes;
    after.first_bytes -= before.first_bytes;
    after.partial_bytes -= before.partial_bytes;
    check_bytes(w, t, &after);
    free(q);
    free(out);
}

static cop_cpu_attention_options options_of(const world *w, const tables *t, cop_isa isa,
                                            uint32_t n_threads) {
    return (cop_cpu_attention_options){.n_layers = N_LAYERS,
                                       .n_heads = w->n_heads,
                                       .n_kv_heads = w->n_kv_heads,
                                       .head_dim = w->d,
                                       .n_pages = t->n_pages + 1,
                                       .page_tokens = t->view.page_tokens,
                                       .max_rows = w->n_rows + 1,
                                       .max_partials = t->view.n_partials + 1,
                                       .bf16 = w->bf16,
                                       .round_output = w->bf16,
                                       .n_threads = n_threads,
                                       .isa = isa};
}

static void test_every_row_is_the_fold_of_its_own_view(void) {
    static const uint32_t widths[] = {1, 2, 3, 5, 16, 64};
    static world w;
    tables *t = malloc(sizeof *t);
    CHECK(t);
    const char *wanted = getenv("COP_TEST_WORLDS");
    const uint32_t n_worlds = wanted ? (uint32_t)atoi(wanted) : 60;
    for (uint32_t i = 0; i < n_worlds; i++) {
        world_create(&w);
        for (int isa = COP_ISA_PORTABLE; isa <= COP_ISA_AVX512; isa++) {
            if (!cop_isa_available((cop_isa)isa))
                continue;
            for (uint32_t pass = 0; pass < 3; pass++) {
                make_tables(&w, t, 16u << (i + pass) % 3, widths[below(6)]);
                const cop_cpu_attention_options options =
                    options_of(&w, t, (cop_isa)isa, 1 + (i + pass) % 3);
                cop_cpu_attention *attention;
                CHECK_OK(cop_cpu_attention_create(&options, &attention));
                fill_pool(attention, &w, t, pass % N_LAYERS);
                run_and_compare(attention, &w, t, pass % N_LAYERS, cop_isa_name((cop_isa)isa));
                if (pass == 0) /* nothing of a launch is left over */
                    run_and_compare(attention, &w, t, 0, "second launch");
                cop_cpu_attention_destroy(attention);
            }
        }
        world_destroy(&w);
    }
    free(t);
    for (int c = 0; c < N_COVERED; c++) {
        printf("  %6u %s\n", coverage[c], covered_name[c]);
        CHECK(coverage[c] > 0);
    }
}

static void expect_small(world *w) {
    for (uint32_t h = 0; h < 2; h++)
        expect_row(w, &w->views[0], h, w->expected + h * w->d);
}

/* One branch, one segment: what the tests below need of a world. */
static void small_world(world *w, tables *t, uint32_t d, uint32_t tokens) {
    *w = (world){.n_heads = 2, .n_kv_heads = 1, .d = d, .bf16 = true, .n_segments = 1};
    w->chunk_tokens = w->chunk_tail_tokens = 64;
    w->tokens[0] = tokens;
    w->k[0] = random_values((size_t)tokens * d, true, 1.0f);
    w->v[0] = random_values((size_t)tokens * d, true, 1.0f);
    w->views[0] = (view){.n = 1, .limit = UINT32_MAX};
    w->n_views = w->n_rows = 1;
    w->q = random_values(2 * d, true, 2.0f);
    w->expected = random_values(2 * d, true, 2.0f);
    expect_small(w);
    make_tables(w, t, 64, 1);
}

/* Pages whose element offsets lie 2^31 and 2^32 apart and up to 2^33; the pool is mapped and never
 * touched elsewhere. */
static void test_offsets_past_32_bits(void) {
    static const uint32_t pages[] = {3, (1u << 18) + 3, (1u << 19) + 3, (1u << 20) - 1};
    static world w;
    tables *t = malloc(sizeof *t);
    CHECK(t);
    small_world(&w, t, 64, 250);
    memcpy(t->page_table + t->segments[0].page_table_offset, pages, sizeof pages);
    cop_cpu_attention_options options = options_of(&w, t, COP_ISA_PORTABLE, 1);
    options.n_pages = 1u << 20;
    options.n_layers = 1;
    CHECK_OK(cop_isa_choose(NULL, &options.isa));
    cop_cpu_attention *attention;
    CHECK_OK(cop_cpu_attention_create(&options, &attention));
    for (uint32_t i = 0; i < w.tokens[0]; i++)
        cop_cpu_attention_store(attention, 0, pages[i / 64], i % 64, w.k[0] + (size_t)i * w.d,
                                w.v[0] + (size_t)i * w.d);
    run_and_compare(attention, &w, t, 0, "far pages");
    cop_cpu_attention_destroy(attention);
    world_destroy(&w);
    free(t);
}

/* Scores of -inf, in whole leaves and among others, and results that underflow to -0. */
static void test_edges_keep_their_bits(void) {
    static world w;
    tables *t = malloc(sizeof *t);
    CHECK(t);
    for (uint32_t edge = 0; edge < 4; edge++) {
        small_world(&w, t, 16, 200);
        w.chunk_tokens = w.chunk_tail_tokens = edge % 2 ? 64 : 1024;
        w.bf16 = edge < 2; /* whose output would round to -0 after the rest was done */
        w.q[0] = w.q[16] = 1;
        for (uint32_t j = 0; j < 200; j++) {
            if (edge < 2 && (j < 128 || j % 3 == 0))
                w.k[0][j * 16] = -INFINITY;
            for (uint32_t i = 0; edge >= 2 && i < 16; i++) {
                w.k[0][j * 16 + i] = 0;
                w.v[0][j * 16 + i] = j == i ? -0x1p-149f : -0.0f;
            }
        }
        expect_small(&w);
        make_tables(&w, t, 64, 1);
        for (int isa = COP_ISA_PORTABLE; isa <= COP_ISA_AVX512; isa++) {
            if (!cop_isa_available((cop_isa)isa))
                continue;
            const cop_cpu_attention_options options = options_of(&w, t, (cop_isa)isa, 1);
            cop_cpu_attention *attention;
            CHECK_OK(cop_cpu_attention_create(&options, &attention));
            fill_pool(attention, &w, t, 0);
            run_and_compare(attention, &w, t, 0, "edges");
            cop_cpu_attention_destroy(attention);
        }
        world_destroy(&w);
    }
    free(t);
}

static void test_what_cannot_run_is_refused(void) {
    static world w;
    tables *t = malloc(sizeof *t);
    CHECK(t);
    small_world(&w, t, 16, 200);
    const cop_cpu_attention_options good = options_of(&w, t, COP_ISA_PORTABLE, 1);
    cop_cpu_attention *attention;
    cop_cpu_attention_options bad = good;
    bad.head_dim = 24;
    CHECK_STATUS(cop_cpu_attention_create(&bad, &attention), COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("head_dim 24");
    CHECK(!attention);
    bad.head_dim = 272;
    CHECK_STATUS(cop_cpu_attention_create(&bad, &attention), COP_ERR_UNSUPPORTED);
    bad = good;
    bad.n_heads = 3;
    bad.n_kv_heads = 2;
    CHECK_STATUS(cop_cpu_attention_create(&bad, &attention), COP_ERR_UNSUPPORTED);
    bad = good;
    bad.page_tokens = 8;
    CHECK_STATUS(cop_cpu_attention_create(&bad, &attention), COP_ERR_CONFIG);
    bad = good;
    bad.n_layers = bad.n_pages = UINT32_MAX;
    CHECK_STATUS(cop_cpu_attention_create(&bad, &attention), COP_ERR_NO_MEMORY);

    float out[2 * 16];
    CHECK_OK(cop_cpu_attention_create(&good, &attention));
    t->view.page_tokens = 32;
    CHECK_STATUS(cop_cpu_attention_run(attention, 0, &t->view, w.q, 32, out, 32), COP_ERR_MISMATCH);
    t->view.page_tokens = 64;
    t->slots[0].row = 9;
    CHECK_STATUS(cop_cpu_attention_run(attention, 0, &t->view, w.q, 32, out, 32), COP_ERR_NO_ROOM);
    t->slots[0].row = 0;
    t->slots[0].first_partial = 9;
    CHECK_STATUS(cop_cpu_attention_run(attention, 0, &t->view, w.q, 32, out, 32), COP_ERR_NO_ROOM);
    t->slots[0].first_partial = 0;
    t->entries[0].q_shift = 5;
    CHECK_STATUS(cop_cpu_attention_run(attention, 0, &t->view, w.q, 32, out, 32),
                 COP_ERR_UNSUPPORTED);
    t->entries[0].q_shift = 0;
    fill_pool(attention, &w, t, 0);
    run_and_compare(attention, &w, t, 0, "after refusals");
    cop_cpu_attention_destroy(attention);
    cop_cpu_attention_destroy(NULL);
    world_destroy(&w);
    free(t);
}

int main(void) {
    RUN(test_what_cannot_run_is_refused);
    RUN(test_offsets_past_32_bits);
    RUN(test_edges_keep_their_bits);
    RUN(test_every_row_is_the_fold_of_its_own_view);
    return check_report();
}
