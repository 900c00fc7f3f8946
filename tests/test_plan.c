/* The plan against the naive normal form, against its own rebuild and against the rules that its
 * tables must keep, over random trees. By hand: test_plan_rules.c. */
#include "check.h"

#include "base/memory.h"
#include "kv/kv.h"
#include "kv/plan.h"
#include "ref/plan_naive.h"
#include "ref/tree_generator.h"

enum { TRACES = 10000, SPANS = 1 << 16 };

static cop_plan_span spans[3][SPANS];
static naive_part parts[1 << 12];

/* What a failing trace says about itself, so that it can be run again alone. */
static uint64_t at_trace, at_batch;

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: trace %" PRIu64 ", batch %" PRIu64 ": %s\n", __FILE__,         \
                    __LINE__, at_trace, at_batch, #condition);                                     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static uint32_t pick(uint64_t seed, uint32_t salt, uint32_t bound) {
    uint64_t x = (seed * 64 + salt + 1) * 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    return (uint32_t)((x ^ x >> 27) * 0x94d049bb133111ebull >> 33) % bound;
}

static uint32_t entry_tokens(const cop_plan_tables *t, const cop_walk_entry *e) {
    return e->tokens == COP_TO_END ? t->segments[e->segment].tokens - e->first : e->tokens;
}

/* Tokens that the tiles of decode slots (or, with `prefill`, all tiles) load. */
static uint64_t loads(const cop_plan_tables *t, uint32_t n_decode, bool prefill) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < t->n_items; i++) {
        const cop_item *item = &t->items[i];
        const cop_tile *tile = &t->tiles[item->tile];
        if (!prefill && t->slots[tile->slot[tile->n_slots - 1]].row >= (int32_t)n_decode)
            continue;
        for (uint32_t e = 0; e < item->n_entries; e++)
            total += entry_tokens(t, &t->entries[item->first_entry + e]);
    }
    return total;
}

static size_t naive_spans(const tree_trace *trace, const tree_replay *replay, const tree_batch *b,
                          const tree_replay_options *o, cop_plan_span *out) {
    size_t n = 0;
    for (uint32_t row = 0; row < b->n_rows; row++) {
        const tree_view *view = &trace->views[b->view[row]];
        for (uint32_t i = 0; i < view->count; i++) {
            const uint32_t handle = trace->paths[view->first + i];
            parts[i] = (naive_part){tree_replay_segment(replay, handle),
                                    tree_replay_tokens(replay, handle)};
        }
        EXPECT(parts[view->count - 1].segment == b->segment[row]);
        parts[view->count - 1].tokens = b->offset[row] + 1;
        n += plan_naive_row((int32_t)row, parts, view->count, o->chunk_tokens, o->chunk_tail_tokens,
                            out + n, SPANS - n);
    }
    return n;
}

static bool same_spans(const cop_plan_span *a, size_t n_a, const cop_plan_span *b, size_t n_b) {
    for (size_t i = 0; i < n_a && i < n_b; i++)
        if (a[i].row != b[i].row || a[i].segment != b[i].segment || a[i].first != b[i].first ||
            a[i].tokens != b[i].tokens || a[i].chunk != b[i].chunk) {
            fprintf(stderr,
                    "span %zu: row %d segment %u tokens %u + %u chunk %u, expected row %d segment "
                    "%u tokens %u + %u chunk %u\n",
                    i, a[i].row, a[i].segment, a[i].first, a[i].tokens, a[i].chunk, b[i].row,
                    b[i].segment, b[i].first, b[i].tokens, b[i].chunk);
            return false;
        }
    if (n_a != n_b)
        fprintf(stderr, "%zu spans, expected %zu\n", n_a, n_b);
    return n_a == n_b;
}

static uint64_t used_slots(const cop_tile *tile) {
    uint64_t used = 0;
    for (uint32_t i = 0; i < tile->n_slots; i++)
        if (tile->slot[i] != COP_SLOT_HOLE)
            used |= 1ull << i;
    return used;
}

static void check_tiles(const cop_plan_tables *t, uint32_t tile_slots) {
    static uint32_t times[4096];
    memset(times, 0, sizeof times);
    EXPECT(t->n_slots <= 4096);
    for (uint32_t i = 0; i < t->n_tiles; i++) {
        const cop_tile *tile = &t->tiles[i];
        EXPECT(tile->n_slots <= tile_slots);
        EXPECT(tile->n_slots == 0 || tile->slot[tile->n_slots - 1] != COP_SLOT_HOLE);
        for (uint32_t j = 0; j < COP_TILE_SLOTS_MAX; j++) {
            EXPECT(j < tile->n_slots || tile->slot[j] == COP_SLOT_HOLE);
            EXPECT(tile->slot[j] < (int32_t)t->n_slots);
            if (tile->slot[j] != COP_SLOT_HOLE)
                EXPECT(++times[tile->slot[j]] == 1);
        }
    }
    for (uint32_t s = 0; s < t->n_slots; s++)
        EXPECT(t->slots[s].row < 0 || times[s] == 1);
}

static uint32_t number_depth_first(const cop_kv *kv, cop_node node, uint32_t *number, uint32_t n) {
    number[node] = n++;
    for (cop_node child = cop_kv_first_child(kv, node); child != COP_NODE_NONE;
         child = cop_kv_next_sibling(kv, child))
        n = number_depth_first(kv, child, number, n);
    return n;
}

/* Entries in depth-first order, each (node, chunk) once a tile; items once, longest first. */
static void check_items(const cop_plan_tables *t, const cop_kv *kv, bool sorted) {
    static uint32_t depth_first[1 << 16];
    uint32_t bucket_before = 64;
    number_depth_first(kv, cop_kv_root(kv), depth_first, 0);
    for (uint32_t i = 0; i < t->n_items; i++) {
        const cop_item *item = &t->items[i];
        EXPECT(item->tile < t->n_tiles && item->n_entries > 0);
        const uint64_t used = used_slots(&t->tiles[item->tile]);
        uint64_t tokens = 0, seen = 0;
        for (uint32_t e = 0; e < item->n_entries; e++) {
            const cop_walk_entry *entry = &t->entries[item->first_entry + e];
            EXPECT(entry->first % COP_LEAF_TOKENS == 0);
            EXPECT(entry->mask != 0 && (entry->mask & ~used) == 0);
            EXPECT(entry->q_shift == 0);
            const uint32_t length = t->segments[entry->segment].tokens;
            EXPECT(entry->first < length && entry_tokens(t, entry) <= length - entry->first);
            EXPECT(cop_kv_node(kv, entry->node).segment == entry->segment);
            EXPECT(e == 0 || depth_first[entry[-1].node] < depth_first[entry->node]);
            tokens += entry_tokens(t, entry);
            seen |= entry->mask;
        }
        for (uint32_t other = 0; other < i; other++)
            EXPECT(t->items[other].tile != item->tile || t->items[other].chunk != item->chunk);
        /* A slot has an item exactly if it has the chunk. */
        for (uint64_t left = used; left; left &= left - 1) {
            const uint32_t index = (uint32_t)__builtin_ctzll(left);
            const cop_slot *slot = &t->slots[t->tiles[item->tile].slot[index]];
            EXPECT((seen >> index & 1) == (item->chunk < slot->n_partials));
        }
        const uint32_t bucket = tokens ? 63 - (uint32_t)__builtin_clzll(tokens) : 0;
        EXPECT(!sorted || bucket <= bucket_before);
        bucket_before = bucket;
    }
}

static void check_partials(const cop_plan_tables *t, uint32_t max_partials) {
    static uint8_t taken[1 << 20];
    EXPECT(t->n_partials <= sizeof taken && t->n_partials <= max_partials);
    memset(taken, 0, t->n_partials);
    uint64_t wanted = 0;
    for (uint32_t s = 0; s < t->n_slots; s++) {
        if (t->slots[s].row < 0 || t->slots[s].n_partials < 2)
            continue;
        wanted += t->slots[s].n_partials;
        for (uint32_t i = 0; i < t->slots[s].n_partials; i++) {
            EXPECT(t->slots[s].first_partial + i < t->n_partials);
            EXPECT(!taken[t->slots[s].first_partial + i]);
            taken[t->slots[s].first_partial + i] = 1;
        }
    }
    EXPECT(wanted > 0 || t->n_partials == 0);
    EXPECT(t->n_partials <= 2 * wanted + 64);
}

/* A hash of every table that the plan owns, to see whether a step left them alone. */
static uint64_t hash_tables(const cop_plan_tables *t) {
    uint64_t h = 14695981039346656037ull;
    const struct {
        const void *data;
        size_t bytes;
    } part[] = {{t->tiles, t->n_tiles * sizeof *t->tiles},
                {t->items, t->n_items * sizeof *t->items},
                {t->slots, t->n_slots * sizeof *t->slots},
                {&t->n_tiles, sizeof t->n_tiles},
                {&t->n_partials, sizeof t->n_partials}};
    for (size_t p = 0; p < sizeof part / sizeof *part; p++)
        for (size_t i = 0; i < part[p].bytes; i++)
            h = (h ^ ((const uint8_t *)part[p].data)[i]) * 1099511628211ull;
    for (uint32_t i = 0; i < t->n_items; i++) {
        const uint8_t *entries = (const uint8_t *)&t->entries[t->items[i].first_entry];
        for (size_t j = 0; j < t->items[i].n_entries * sizeof *t->entries; j++)
            h = (h ^ entries[j]) * 1099511628211ull;
    }
    return h;
}

static uint32_t view_tokens(const tree_trace *trace, const tree_replay *replay, uint32_t view,
                            uint32_t first, uint32_t count) {
    uint32_t tokens = 0;
    for (uint32_t i = first; i < count; i++)
        tokens += tree_replay_tokens(replay, trace->paths[trace->views[view].first + i]);
    return tokens;
}

static uint32_t depth_first_rows(const tree_replay *replay, const tree_batch *b, cop_node node,
                                 uint32_t *order, uint32_t n) {
    for (uint32_t row = 0; row < b->n_decode; row++)
        if (tree_replay_node(replay, b->view[row]) == node)
            order[n++] = row;
    const cop_kv *kv = tree_replay_kv(replay);
    for (cop_node child = cop_kv_first_child(kv, node); child != COP_NODE_NONE;
         child = cop_kv_next_sibling(kv, child))
        n = depth_first_rows(replay, b, child, order, n);
    return n;
}

/* The least loads of decode tiles that are runs of the depth-first order, by trying every end of
 * every tile. UINT64_MAX where it is not asked: some slot sits out, or not this batch. */
static uint64_t naive_best_loads(const tree_trace *trace, const tree_replay *replay,
                                 const tree_batch *b, uint32_t tile_slots) {
    enum { ROWS = 128 };
    uint32_t order[ROWS], unused = 0;
    uint64_t cost[ROWS + 1] = {0};
    const uint32_t n = b->n_decode;
    for (uint32_t t = 0; t < b->plan.n_tiles; t++)
        for (uint32_t i = 0; i < b->plan.tiles[t].n_slots; i++)
            unused +=
                b->plan.tiles[t].slot[i] >= 0 && b->plan.slots[b->plan.tiles[t].slot[i]].row < 0;
    if (unused || n > ROWS || at_batch % 4)
        return UINT64_MAX;
    EXPECT(depth_first_rows(replay, b, cop_kv_root(tree_replay_kv(replay)), order, 0) == n);
    for (uint32_t end = 1; end <= n; end++) {
        uint64_t tile = 0;
        cost[end] = UINT64_MAX;
        /* Grows the tile backwards: a slot adds what it does not share with the one after it. */
        for (uint32_t start = end; start-- > 0 && end - start <= tile_slots;) {
            const uint32_t view = b->view[order[start]], count = trace->views[view].count;
            uint32_t shared = 0;
            cop_node at = tree_replay_node(replay, view);
            for (uint32_t d = count; start + 1 < end && d > 0; d--) {
                cop_node other = tree_replay_node(replay, b->view[order[start + 1]]);
                while (cop_kv_node(tree_replay_kv(replay), other).depth > d)
                    other = cop_kv_node(tree_replay_kv(replay), other).parent;
                if (other == at) {
                    shared = d;
                    break;
                }
                at = cop_kv_node(tree_replay_kv(replay), at).parent;
            }
            tile += view_tokens(trace, replay, view, shared, count);
            if (cost[start] + tile < cost[end])
                cost[end] = cost[start] + tile;
        }
    }
    return cost[n];
}

typedef struct totals {
    tree_coverage coverage;
    uint64_t batches, rows, spans, rebuilds, rewritten;
    double worst_ratio;
    double load_sum, rebuilt_sum;
    uint64_t best_checked, epoch;
} totals;

static void check_batch(const tree_trace *trace, const tree_replay *replay, const tree_batch *b,
                        const tree_replay_options *o, totals *sum) {
    const size_t naive = naive_spans(trace, replay, b, o, spans[0]);
    const size_t incremental = cop_plan_normalise(&b->plan, spans[1], SPANS);
    EXPECT(naive < SPANS);
    EXPECT(same_spans(spans[1], incremental, spans[0], naive));
    check_tiles(&b->plan, o->tile_slots);
    check_items(&b->plan, tree_replay_kv(replay), b->plan.epoch != sum->epoch);
    check_partials(&b->plan, (1 << 20) - 1);
    if (cop_plan_check(tree_replay_plan(replay)) != COP_OK) {
        fprintf(stderr, "%s\n", cop_status_message());
        EXPECT(!"plan check");
    }
    sum->epoch = b->plan.epoch;
    sum->spans += naive;
    sum->rows += b->n_rows;
    sum->batches++;
    if (!o->with_rebuilt)
        return;
    const size_t rebuilt = cop_plan_normalise(&b->rebuilt, spans[2], SPANS);
    EXPECT(same_spans(spans[2], rebuilt, spans[0], naive));
    check_tiles(&b->rebuilt, o->tile_slots);
    check_items(&b->rebuilt, tree_replay_kv(replay), true);
    const uint64_t mine = loads(&b->plan, b->n_decode, false);
    const uint64_t best = loads(&b->rebuilt, b->n_decode, false);
    const uint64_t naive_best = naive_best_loads(trace, replay, b, o->tile_slots);
    EXPECT(naive_best == UINT64_MAX || naive_best == best);
    sum->best_checked += naive_best != UINT64_MAX;
    EXPECT(4 * mine <= 5 * best);
    EXPECT(loads(&b->plan, b->n_decode, true) - mine ==
           loads(&b->rebuilt, b->n_decode, true) - best);
    if (best && (double)mine / (double)best > sum->worst_ratio)
        sum->worst_ratio = (double)mine / (double)best;
    sum->load_sum += (double)mine;
    sum->rebuilt_sum += (double)best;
}

static tree_options trace_options(uint64_t seed) {
    const uint32_t busy = pick(seed, 0, 4);
    return (tree_options){
        .seed = seed,
        .max_steps = 20 + pick(seed, 1, 30),
        .max_branches = busy == 3 ? 48 : 6 + pick(seed, 2, 12),
        .max_prompt = pick(seed, 3, 3) ? 60 : 400,
        .max_header = pick(seed, 4, 4) ? 8 : 150,
        .max_prefill = pick(seed, 5, 2) ? 64 : 200,
        .max_tokens = 4000,
        .vocab = 1000,
        .fork = 30,
        .finish = 80,
        .prune = 4 + pick(seed, 6, 15),
        .retract = 10,
        .sit_out = pick(seed, 7, 3) ? 0 : 10,
    };
}

static tree_replay_options replay_options(uint64_t seed) {
    const uint32_t page[] = {16, 32, 64}, chunk[] = {64, 128, 192, 1024};
    const uint32_t width[] = {1, 2, 3, 5, 8, 21, 64};
    return (tree_replay_options){
        .page_tokens = page[pick(seed, 10, 3)],
        .chunk_tokens = chunk[pick(seed, 11, 4)],
        .chunk_tail_tokens = 64 * pick(seed, 12, 4),
        .group = 3,
        .tile_slots = width[pick(seed, 13, 7)],
        .with_rebuilt = true,
        .drop_prefill_first = pick(seed, 14, 2),
    };
}

static void run_trace(uint64_t seed, const tree_replay_options *o, totals *sum) {
    const tree_options options = trace_options(seed);
    tree_trace *trace = tree_trace_create(&options);
    tree_replay *replay = tree_replay_create(trace, o);
    const uint64_t allocations = cop_memory_count();
    uint64_t epoch = 0, hash = 0, unchanged = 0;
    tree_batch batch;
    at_trace = seed;
    for (at_batch = 0; tree_replay_next(replay, &batch); at_batch++) {
        check_batch(trace, replay, &batch, o, sum);
        const uint64_t now = hash_tables(&batch.plan);
        const cop_plan_stats stats = cop_plan_stats_read(tree_replay_plan(replay));
        EXPECT(stats.steps == at_batch + 1);
        EXPECT((stats.steps_unchanged > unchanged) == (batch.plan.epoch == epoch));
        EXPECT(batch.plan.epoch != epoch || now == hash);
        epoch = batch.plan.epoch;
        hash = now;
        unchanged = stats.steps_unchanged;
    }
    EXPECT(cop_memory_count() == allocations);
    EXPECT(cop_kv_check(tree_replay_kv(replay)) == COP_OK);
    EXPECT(cop_kv_stats_read(tree_replay_kv(replay)).pages_held == 0);
    sum->rebuilds += cop_plan_stats_read(tree_replay_plan(replay)).rebuilds;
    sum->rewritten += cop_plan_stats_read(tree_replay_plan(replay)).tiles_rewritten;
    tree_coverage_add(&sum->coverage, &trace->coverage);
    tree_coverage_add(&sum->coverage, tree_replay_coverage(replay));
    tree_replay_destroy(replay);
    tree_trace_destroy(trace);
}

static void test_incremental_equals_rebuilt_equals_naive(void) {
    const uint32_t traces = check_effort(TRACES, 300);
    totals sum = {0};
    for (uint64_t seed = 0; seed < traces; seed++) {
        const tree_replay_options o = replay_options(seed);
        run_trace(seed, &o, &sum);
    }
    printf("  %u traces, %" PRIu64 " batches, %" PRIu64 " rows, %" PRIu64 " spans; %" PRIu64
           " tiles rewritten, %" PRIu64 " automatic rebuilds; loads %.4f x rebuilt, worst %.4f\n",
           traces, sum.batches, sum.rows, sum.spans, sum.rewritten, sum.rebuilds,
           sum.load_sum / sum.rebuilt_sum, sum.worst_ratio);
    tree_coverage_print(&sum.coverage, stdout);
    const char *missing = tree_coverage_missing(&sum.coverage, 0);
    if (missing)
        fprintf(stderr, "not covered: %s\n", missing);
    CHECK(!missing);
    CHECK(sum.best_checked > 3ull * traces);
    CHECK(sum.rebuilds > 10 && sum.worst_ratio > 1.05);
}

/* One trace, replayed whole, cut into small batches, row by row, through prefill tiles: each row
 * sees the same tokens in the same chunks. Segments are named by handle, since replays differ. */
static uint64_t hash_rows(uint64_t seed, const tree_trace *trace, const tree_replay_options *o,
                          uint64_t *by_row) {
    tree_replay *replay = tree_replay_create(trace, o);
    tree_batch b;
    uint64_t rows = 0;
    totals sum = {0};
    at_trace = seed;
    for (at_batch = 0; tree_replay_next(replay, &b); at_batch++) {
        check_batch(trace, replay, &b, o, &sum);
        EXPECT(o->max_rows == 0 || b.n_rows <= o->max_rows);
        for (uint32_t row = 0; row < b.n_rows; row++) {
            EXPECT(b.id[row] < trace->n_rows && by_row[b.id[row]] == 0);
            uint64_t h = 1 + (uint64_t)b.token[row] * 31 + (uint64_t)b.position[row] * 1000003 +
                         b.offset[row] * 7919ull + b.view[row];
            const tree_view *view = &trace->views[b.view[row]];
            for (uint32_t i = 0; i + 1 < view->count; i++)
                h = h * 1099511628211ull +
                    tree_replay_tokens(replay, trace->paths[view->first + i]);
            by_row[b.id[row]] = h;
            rows++;
        }
    }
    tree_replay_destroy(replay);
    return rows;
}

static void test_replays_of_a_trace_have_the_same_rows(void) {
    for (uint64_t seed = 5000; seed < 5060; seed++) {
        tree_options options = trace_options(seed);
        tree_trace *trace = tree_trace_create(&options);
        uint64_t *rows[4];
        for (uint32_t i = 0; i < 4; i++) {
            const tree_replay_options o = {
                .page_tokens = 16u << i % 3,
                .chunk_tokens = 128,
                .chunk_tail_tokens = 64,
                .group = 1,
                .tile_slots = 1 + 5 * i,
                .max_rows = i == 1   ? 1
                            : i == 2 ? 7
                                     : 0,
                .decode_by_prefill = i == 3,
            };
            rows[i] = calloc(trace->n_rows + 1, sizeof *rows[i]);
            CHECK_EQ(hash_rows(seed, trace, &o, rows[i]), trace->n_rows);
            CHECK(memcmp(rows[i], rows[0], trace->n_rows * sizeof *rows[i]) == 0);
        }
        for (uint32_t i = 0; i < 4; i++)
            free(rows[i]);
        tree_trace_destroy(trace);
    }
}

typedef struct small {
    cop_kv *kv;
    cop_plan *plan;
} small;

static void small_end(small w) {
    cop_plan_destroy(w.plan);
    cop_kv_destroy(w.kv);
}

static cop_node grown(small w, cop_node parent, uint32_t tokens, bool sealed) {
    cop_node node;
    CHECK_OK(cop_kv_open(w.kv, parent, &node));
    CHECK_OK(cop_kv_append(w.kv, node, tokens));
    if (sealed)
        cop_kv_seal(w.kv, node);
    return node;
}

/* Forty slots that share no tile on one deep view: their walks do not fit at once, half of them do,
 * and go on fitting while slots come and go. */
static void test_deep_views_fill_the_entries(void) {
    enum { DEPTH = 400, SLOTS = 40 };
    small w;
    CHECK_OK(cop_kv_create(&(cop_kv_options){.page_tokens = 16,
                                             .n_pages = 600,
                                             .max_segments = 600,
                                             .max_nodes = DEPTH + SLOTS + 2,
                                             .chunk_tokens = 128,
                                             .chunk_tail_tokens = 64},
                           &w.kv));
    CHECK_OK(cop_plan_create(&(cop_plan_options){.group = 4,
                                                 .tile_slots = 1,
                                                 .chunk_tokens = 128,
                                                 .chunk_tail_tokens = 64,
                                                 .max_decode_slots = SLOTS},
                             w.kv, &w.plan));
    cop_node deep = cop_kv_root(w.kv);
    for (uint32_t i = 0; i < DEPTH; i++)
        deep = grown(w, deep, 1 + i % 7, true);
    cop_node node[SLOTS];
    uint32_t slot[SLOTS];
    for (uint32_t i = 0; i < SLOTS; i++) {
        node[i] = grown(w, deep, 1 + i, false);
        CHECK_OK(cop_plan_slot_add(w.plan, node[i], &slot[i]));
    }
    CHECK_STATUS(cop_plan_step(w.plan, slot, SLOTS, NULL, 0), COP_ERR_NO_ROOM);
    CHECK_MESSAGE("entries");
    CHECK_EQ(cop_plan_view(w.plan).n_items, 0);
    CHECK_STATUS(cop_plan_step(w.plan, slot, SLOTS, NULL, 0), COP_ERR_NO_ROOM);
    for (uint32_t i = SLOTS / 2; i < SLOTS; i++)
        cop_plan_slot_remove(w.plan, slot[i]);
    for (uint32_t turn = 0; turn < 60; turn++) {
        const uint32_t i = turn * 7 % (SLOTS / 2), other = SLOTS / 2 + turn % (SLOTS / 2);
        cop_plan_slot_remove(w.plan, slot[i]);
        const cop_node swapped = node[i];
        node[i] = node[other];
        node[other] = swapped;
        CHECK_OK(cop_kv_append(w.kv, node[i], 30)); /* so that walks differ in length */
        CHECK_OK(cop_plan_slot_add(w.plan, node[i], &slot[i]));
        CHECK_OK(cop_plan_step(w.plan, slot, SLOTS / 2, NULL, 0));
        const cop_plan_tables t = cop_plan_view(w.plan);
        const size_t n = cop_plan_normalise(&t, spans[0], SPANS);
        uint32_t tokens[SLOTS] = {0};
        for (size_t j = 0; j < n; j++)
            tokens[spans[0][j].row] += spans[0][j].tokens;
        for (uint32_t j = 0; j < SLOTS / 2; j++)
            CHECK_EQ(tokens[j], cop_kv_view_tokens(w.kv, node[j]));
        at_trace = 0;
        at_batch = turn;
        check_tiles(&t, 1);
        check_items(&t, w.kv, true);
        check_partials(&t, 1 << 19);
    }
    small_end(w);
}

/* Slots come and go for long on many tiles: the walks' storage is moved together now and then, and
 * loads stay near the best. */
static void test_a_long_run_of_forks_and_prunes(void) {
    totals sum = {0};
    const tree_options options = {.seed = 77,
                                  .max_steps = 1500,
                                  .max_branches = 60,
                                  .max_prompt = 300,
                                  .max_header = 40,
                                  .max_prefill = 128,
                                  .max_tokens = 60000,
                                  .vocab = 1000,
                                  .fork = 60,
                                  .finish = 60,
                                  .prune = 35,
                                  .retract = 5,
                                  .sit_out = 1};
    const tree_replay_options o = {.page_tokens = 16,
                                   .chunk_tokens = 128,
                                   .chunk_tail_tokens = 64,
                                   .group = 8,
                                   .tile_slots = 4,
                                   .with_rebuilt = true};
    tree_trace *trace = tree_trace_create(&options);
    tree_replay *replay = tree_replay_create(trace, &o);
    tree_batch batch;
    at_trace = options.seed;
    for (at_batch = 0; tree_replay_next(replay, &batch); at_batch++)
        check_batch(trace, replay, &batch, &o, &sum);
    printf("  %" PRIu64 " batches, %" PRIu64 " rows; %" PRIu64
           " automatic rebuilds, loads %.4f x rebuilt, worst %.4f\n",
           sum.batches, sum.rows, cop_plan_stats_read(tree_replay_plan(replay)).rebuilds,
           sum.load_sum / sum.rebuilt_sum, sum.worst_ratio);
    tree_replay_destroy(replay);
    tree_trace_destroy(trace);
}

int main(void) {
    RUN(test_deep_views_fill_the_entries);
    RUN(test_replays_of_a_trace_have_the_same_rows);
    RUN(test_a_long_run_of_forks_and_prunes);
    RUN(test_incremental_equals_rebuilt_equals_naive);
    return check_report();
}
