#include "backend/cpu/attention_internal.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* One leaf of an entry, as the walk of an item comes to it. */
typedef struct leaf_place {
    const cop_walk_entry *entry;
    uint32_t first;  /* token of the segment */
    uint32_t tokens; /* the most that a slot sees */
} leaf_place;

typedef struct leaf_walk {
    const cop_plan_tables *tables;
    const cop__attention_worker *worker;
    const cop_walk_entry *entry, *end;
    uint32_t first, last; /* what is left of the entry */
} leaf_walk;

/* Element offset of the K tile of (layer, page, head); the V tile follows it. */
static size_t tile_offset(const cop_cpu_attention *a, uint32_t layer, uint32_t page,
                          uint32_t head) {
    return layer * a->layer_elements +
           ((size_t)head * a->options.n_pages + page) * 2 * a->tile_elements;
}

void cop_cpu_attention_store(cop_cpu_attention *a, uint32_t layer, uint32_t page, uint32_t token,
                             const float *k, const float *v) {
    const uint32_t d = a->options.head_dim, page_tokens = a->options.page_tokens;
    for (uint32_t head = 0; head < a->options.n_kv_heads; head++) {
        const size_t at = tile_offset(a, layer, page, head);
        const float *key = k + (size_t)head * d, *value = v + (size_t)head * d;
        if (a->options.bf16) {
            uint16_t *tile = (uint16_t *)a->pool.start + at;
            for (uint32_t i = 0; i < d; i++)
                tile[(size_t)i * page_tokens + token] = cop_bf16_from_f32(key[i]);
            for (uint32_t i = 0; i < d; i++)
                tile[a->tile_elements + (size_t)token * d + i] = cop_bf16_from_f32(value[i]);
        } else {
            float *tile = (float *)a->pool.start + at;
            for (uint32_t i = 0; i < d; i++)
                tile[(size_t)i * page_tokens + token] = key[i];
            memcpy(tile + a->tile_elements + (size_t)token * d, value, d * sizeof *value);
        }
    }
    a->counters.append_bytes += 2ull * a->options.n_kv_heads * d * a->element_bytes;
}

/* Where the entry ends in its segment: loads stop at the segment's length. */
static uint32_t entry_end(const cop_plan_tables *tables, const cop_walk_entry *entry) {
    const uint32_t tokens = tables->segments[entry->segment].tokens;
    if (entry->first >= tokens || entry->tokens >= tokens - entry->first)
        return tokens;
    return entry->first + entry->tokens;
}

/* Where the part of the entry that tile slot `slot` sees ends; at most entry->first if nowhere. */
static uint32_t visible_end(const cop_plan_tables *tables, const cop_walk_entry *entry,
                            uint32_t slot) {
    if (!(entry->mask >> slot & 1))
        return 0;
    const uint32_t end = entry_end(tables, entry);
    if (entry->limits == COP_LIMITS_NONE)
        return end;
    const int32_t limit = tables->limits[entry->limits + (int32_t)slot];
    return limit <= 0 ? 0 : (uint32_t)limit < end ? (uint32_t)limit : end;
}

static bool walk_next(leaf_walk *walk, leaf_place *place) {
    while (walk->first >= walk->last) {
        if (walk->entry + 1 >= walk->end)
            return false;
        walk->entry++;
        walk->first = walk->entry->first;
        walk->last = 0;
        for (uint32_t i = 0; i < walk->worker->n_slots; i++) {
            const uint32_t end = visible_end(walk->tables, walk->entry, walk->worker->slot[i]);
            walk->last = end > walk->last ? end : walk->last;
        }
    }
    const uint32_t left = walk->last - walk->first;
    place->entry = walk->entry;
    place->first = walk->first;
    place->tokens = left < COP_LEAF_TOKENS ? left : COP_LEAF_TOKENS;
    walk->first += COP_LEAF_TOKENS;
    return true;
}

/* Finds the leaf's tiles in the pool. */
static void find_leaf(const cop_cpu_attention *a, uint32_t layer, uint32_t head,
                      const cop_plan_tables *tables, const leaf_place *place, cop__leaf *leaf) {
    const uint32_t page_tokens = a->options.page_tokens, d = a->options.head_dim;
    const uint32_t *pages =
        tables->page_table + tables->segments[place->entry->segment].page_table_offset;
    leaf->tokens = place->tokens;
    leaf->k_stride = page_tokens;
    leaf->bf16 = a->options.bf16;
    for (uint32_t g = 0; g < COP__LEAF_GROUPS; g++) {
        const uint32_t at = g * COP__GROUP_TOKENS;
        if (at >= place->tokens) { /* nobody sees it and its page may not exist */
            leaf->k[g] = leaf->k[0];
            leaf->v[g] = leaf->v[0];
            continue;
        }
        const uint32_t token = place->first + at, within = token % page_tokens;
        const uint32_t page = pages[token / page_tokens];
        const size_t tile = tile_offset(a, layer, page, head);
        __builtin_prefetch(&a->loaded[(size_t)head * a->options.n_pages + page], 1);
        const char *k = (const char *)a->pool.start + tile * a->element_bytes;
        leaf->k[g] = k + (size_t)within * a->element_bytes;
        leaf->v[g] = k + (a->tile_elements + (size_t)within * d) * a->element_bytes;
    }
}

/* A tile is about to load the leaf's K and V, for all its rows at once. */
static void count_load(cop_cpu_attention *a, uint32_t head, const cop_plan_tables *tables,
                       const leaf_place *place, cop_cpu_attention_counters *counters) {
    const uint32_t page_tokens = a->options.page_tokens;
    const uint64_t token_bytes = 2ull * a->options.head_dim * a->element_bytes;
    const uint32_t *pages =
        tables->page_table + tables->segments[place->entry->segment].page_table_offset;
    for (uint32_t at = 0; at < place->tokens; at += page_tokens) {
        const uint32_t page = pages[(place->first + at) / page_tokens];
        const uint32_t left = place->tokens - at, n = left < page_tokens ? left : page_tokens;
        const uint64_t mask = n == 64 ? UINT64_MAX : (1ull << n) - 1;
        const uint64_t before = atomic_fetch_or_explicit(
            &a->loaded[(size_t)head * a->options.n_pages + page], mask, memory_order_relaxed);
        counters->load_bytes += n * token_bytes;
        counters->first_bytes += (uint64_t)__builtin_popcountll(mask & ~before) * token_bytes;
    }
}

/* The K and V tiles of a page are one run of memory; a leaf has 1, 2 or 4 of them. */
static void hint_next(const cop_cpu_attention *a, cop__leaf *leaf, const cop__leaf *next) {
    const uint32_t groups = a->options.page_tokens / COP__GROUP_TOKENS;
    for (uint32_t x = 0; a->options.bf16 && x < COP__LEAF_GROUPS; x++)
        leaf->next[x] = (const char *)next->k[x / groups * groups] +
                        (size_t)(x % groups) * 64 * a->options.head_dim;
}

/* Sets up the rows of the slots that take part in the item. */
static void begin_item(const cop_cpu_attention *a, const cop_plan_tables *tables,
                       const cop_item *item, uint32_t head, const float *q, size_t q_stride,
                       cop__attention_worker *w) {
    const uint32_t d = a->options.head_dim;
    const cop_tile *tile = &tables->tiles[item->tile];
    uint64_t mask = 0;
    for (uint32_t e = 0; e < item->n_entries; e++)
        mask |= tables->entries[item->first_entry + e].mask;
    w->n_slots = 0;
    w->listed = NULL;
    for (uint32_t s = 0; s < tile->n_slots; s++) {
        const int32_t slot = tile->slot[s];
        if (!(mask >> s & 1) || slot == COP_SLOT_HOLE || tables->slots[slot].row < 0)
            continue;
        for (uint32_t g = 0; g < a->group; g++) {
            const size_t r = (size_t)w->n_slots * a->group + g;
            w->rows[r] = (cop__row){.m = -INFINITY, .o = w->o + r * d};
            w->rows[r].q =
                q + (size_t)tables->slots[slot].row * q_stride + ((size_t)head * a->group + g) * d;
        }
        w->raw[w->n_slots] = w->rows[(size_t)w->n_slots * a->group].q;
        w->angle[w->n_slots] = -1;
        w->slot[w->n_slots] = s;
        w->plan_slot[w->n_slots++] = (uint32_t)slot;
    }
    memset(w->o, 0, (size_t)w->n_slots * a->group * d * sizeof *w->o);
}

static uint32_t list_visible(const cop_cpu_attention *a, const cop_plan_tables *tables,
                             const leaf_place *place, cop__attention_worker *w) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->n_slots; i++) {
        const uint32_t end = visible_end(tables, place->entry, w->slot[i]);
        if (end <= place->first)
            continue;
        const uint32_t left = end - place->first;
        for (uint32_t g = 0; g < a->group; g++) {
            cop__row *row = &w->rows[(size_t)i * a->group + g];
            row->tokens = left < COP_LEAF_TOKENS ? left : COP_LEAF_TOKENS;
            w->visible[n++] = row;
        }
    }
    return n;
}

/* Rotates the queries of the slots that see the entry to where it has them. */
static void turn_queries(const cop_cpu_attention *a, const cop_plan_tables *tables,
                         const cop_walk_entry *entry, cop__attention_worker *w) {
    const uint32_t d = a->options.head_dim;
    const cop_rotary *rotary = a->turn.rotary;
    for (uint32_t i = 0; i < w->n_slots; i++) {
        if (!(entry->mask >> w->slot[i] & 1))
            continue;
        const int32_t row = tables->slots[w->plan_slot[i]].row;
        const int32_t angle = a->turn.position[row] + entry->q_shift;
        if (w->angle[i] == angle)
            continue;
        w->angle[i] = angle;
        float *to = w->turned + (size_t)i * a->group * d;
        memcpy(to, w->raw[i], (size_t)a->group * d * sizeof *to);
        a->turn.rotate(to, a->group, d, rotary->cosine + (size_t)angle * rotary->half,
                       rotary->sine + (size_t)angle * rotary->half);
        if (a->turn.round)
            a->turn.round(to, a->group * d);
        for (uint32_t g = 0; g < a->group; g++)
            w->rows[(size_t)i * a->group + g].q = to + (size_t)g * d;
    }
}

static void fold_leaf(const cop_cpu_attention *a, const cop_plan_tables *tables,
                      const leaf_place *place, cop__leaf *leaf, cop__attention_worker *w) {
    if (a->turns)
        turn_queries(a, tables, place->entry, w);
    const bool whole = place->tokens == COP_LEAF_TOKENS && place->entry->limits == COP_LIMITS_NONE;
    if (!whole || w->listed != place->entry) {
        w->n_listed = list_visible(a, tables, place, w);
        w->listed = whole ? place->entry : NULL;
    }
    leaf->scratch = &w->fold;
    a->kernels->fold(leaf, w->visible, w->n_listed, &a->fold);
}

static void finish_row(const cop_cpu_attention *a, const float *o, const cop__partial *partial,
                       uint32_t n, float *out) {
    a->kernels->merge(o, partial, n, &a->fold, out);
    for (uint32_t i = 0; a->options.round_output && i < a->fold.d; i++)
        out[i] = cop_f32_from_bf16(cop_bf16_from_f32(out[i]));
}

/* Index of a row's first partial. */
static size_t partial_of(const cop_cpu_attention *a, const cop_slot *slot, uint32_t query_head) {
    return (size_t)slot->first_partial * a->options.n_heads + (size_t)query_head * slot->n_partials;
}

/* A row with one chunk is final here; another one's chunk becomes a partial. */
static void end_item(cop_cpu_attention *a, const cop_plan_tables *tables, const cop_item *item,
                     uint32_t head, float *out, size_t out_stride, cop__attention_worker *w) {
    const uint32_t d = a->options.head_dim;
    for (uint32_t r = 0; r < w->n_slots * a->group; r++) {
        const cop_slot *slot = &tables->slots[w->plan_slot[r / a->group]];
        const uint32_t query_head = head * a->group + r % a->group;
        const cop__row *row = &w->rows[r];
        const cop__partial partial = {row->m, (row->l[0] + row->l[1]) + (row->l[2] + row->l[3])};
        if (slot->n_partials <= 1) {
            float *to = out + (size_t)slot->row * out_stride + (size_t)query_head * d;
            finish_row(a, row->o, &partial, 1, to);
            continue;
        }
        const size_t at = partial_of(a, slot, query_head) + item->chunk;
        a->kernels->put(row->o, d, (float *)a->partial_o.start + at * d);
        a->partials[at] = partial;
        w->counters.partial_bytes += (d + 2) * sizeof(float);
    }
    /* Stores past the caches are ordered by a fence alone, not by the barrier before the merge. */
    atomic_thread_fence(memory_order_seq_cst);
}

static void merge_row(cop_cpu_attention *a, const cop_slot *slot, uint32_t query_head, float *out,
                      size_t out_stride, cop__attention_worker *w) {
    const uint32_t d = a->options.head_dim;
    const size_t at = partial_of(a, slot, query_head);
    finish_row(a, (float *)a->partial_o.start + at * d, a->partials + at, slot->n_partials,
               out + (size_t)slot->row * out_stride + (size_t)query_head * d);
    w->counters.partial_bytes += (uint64_t)slot->n_partials * (d + 2) * sizeof(float);
}

/* Work of a launch: an item for one KV head. The number after the last is no work. */
typedef struct launch {
    cop_cpu_attention *attention;
    uint32_t layer;
    const cop_plan_tables *tables;
    const float *q;
    float *out;
    size_t q_stride, out_stride;
    uint64_t n_work;
    _Atomic uint64_t ticket;
} launch;

/* The first leaf of the work that this thread does next: only a hint, so limits do not matter. */
static bool find_first_leaf(const launch *run, uint64_t work, cop__leaf *leaf) {
    const uint32_t n_kv_heads = run->attention->options.n_kv_heads;
    if (work >= run->n_work)
        return false;
    const cop_item *item = &run->tables->items[work / n_kv_heads];
    if (item->n_entries == 0)
        return false;
    const cop_walk_entry *entry = &run->tables->entries[item->first_entry];
    const uint32_t end = entry_end(run->tables, entry);
    if (end <= entry->first)
        return false;
    const uint32_t left = end - entry->first;
    const leaf_place place = {entry, entry->first, left < COP_LEAF_TOKENS ? left : COP_LEAF_TOKENS};
    find_leaf(run->attention, run->layer, (uint32_t)(work % n_kv_heads), run->tables, &place, leaf);
    return true;
}

/* Runs one work and returns the next, which it draws when it comes to its last leaf: early enough
 * to fetch that one's first leaf, too late to keep it from an idle thread. */
static uint64_t run_work(launch *run, uint64_t work, cop__attention_worker *w) {
    cop_cpu_attention *a = run->attention;
    const cop_plan_tables *tables = run->tables;
    const uint32_t head = (uint32_t)(work % a->options.n_kv_heads);
    const cop_item *item = &tables->items[work / a->options.n_kv_heads];
    if (item->n_entries == 0)
        return atomic_fetch_add(&run->ticket, 1);
    begin_item(a, tables, item, head, run->q, run->q_stride, w);
    leaf_walk walk = {.tables = tables, .worker = w};
    walk.entry = tables->entries + item->first_entry;
    walk.end = walk.entry + item->n_entries;
    walk.entry--; /* the first step comes to the first entry */
    leaf_place place[2];
    cop__leaf leaf[2] = {0};
    bool more = walk_next(&walk, &place[0]);
    uint64_t following = more ? 0 : atomic_fetch_add(&run->ticket, 1);
    if (more)
        find_leaf(a, run->layer, head, tables, &place[0], &leaf[0]);
    for (uint32_t now = 0; more; now ^= 1) {
        const uint32_t then = now ^ 1;
        bool known = more = walk_next(&walk, &place[then]);
        if (more)
            find_leaf(a, run->layer, head, tables, &place[then], &leaf[then]);
        else {
            following = atomic_fetch_add(&run->ticket, 1);
            known = find_first_leaf(run, following, &leaf[then]);
        }
        hint_next(a, &leaf[now], known ? &leaf[then] : &leaf[now]);
        count_load(a, head, tables, &place[now], &w->counters);
        fold_leaf(a, tables, &place[now], &leaf[now], w);
    }
    end_item(a, tables, item, head, run->out, run->out_stride, w);
    return following;
}

void cop_cpu_attention_set_turn(cop_cpu_attention *a, const cop_cpu_attention_turn *turn) {
    a->turns = turn != NULL;
    if (turn)
        a->turn = *turn;
}

static cop_status check_angles(const cop_cpu_attention *a, const cop_plan_tables *tables,
                               const cop_item *item, const cop_walk_entry *entry) {
    const cop_tile *tile = &tables->tiles[item->tile];
    for (uint64_t left = entry->mask; left; left &= left - 1) {
        const int32_t slot = tile->slot[__builtin_ctzll(left)];
        const int32_t row = slot == COP_SLOT_HOLE ? -1 : tables->slots[slot].row;
        const int64_t angle = row < 0 ? 0 : (int64_t)a->turn.position[row] + entry->q_shift;
        if (angle < 0 || angle >= a->turn.rotary->n_positions)
            return COP_FAIL(COP_ERR_CONTEXT,
                            "row %d meets segment %u at position %lld, outside the %u positions of "
                            "this run",
                            row, entry->segment, (long long)angle, a->turn.rotary->n_positions);
    }
    return COP_OK;
}

/* Checks the tables against what was created, and forgets which tokens their last launch loaded. */
static cop_status begin_launch(cop_cpu_attention *a, const cop_plan_tables *tables) {
    const cop_cpu_attention_options *o = &a->options;
    if (tables->page_tokens != o->page_tokens)
        return COP_FAIL(COP_ERR_MISMATCH, "the plan has pages of %u tokens, the pool of %u",
                        tables->page_tokens, o->page_tokens);
    for (uint32_t s = 0; s < tables->n_slots; s++) {
        const cop_slot *slot = &tables->slots[s];
        if (slot->row >= 0 && (uint32_t)slot->row >= o->max_rows)
            return COP_FAIL(COP_ERR_NO_ROOM, "slot %u has row %d: attention was made for %u rows",
                            s, slot->row, o->max_rows);
        if (slot->row >= 0 && slot->n_partials > 1 &&
            (uint64_t)slot->first_partial + slot->n_partials > o->max_partials)
            return COP_FAIL(
                COP_ERR_NO_ROOM, "slot %u has partials %u to %u: attention was made for %u", s,
                slot->first_partial, slot->first_partial + slot->n_partials - 1, o->max_partials);
    }
    for (uint32_t i = 0; i < tables->n_items; i++) {
        for (uint32_t e = 0; e < tables->items[i].n_entries; e++) {
            const cop_walk_entry *entry = &tables->entries[tables->items[i].first_entry + e];
            if (entry->q_shift != 0 && !a->turns)
                return COP_FAIL(COP_ERR_UNSUPPORTED,
                                "an entry of segment %u rotates the query by %d: queries were "
                                "rotated already",
                                entry->segment, entry->q_shift);
            if (a->turns)
                COP_TRY(check_angles(a, tables, &tables->items[i], entry));
            const uint32_t *pages =
                tables->page_table + tables->segments[entry->segment].page_table_offset;
            const uint32_t end = entry_end(tables, entry);
            for (uint32_t t = entry->first; t < end; t += o->page_tokens) {
                const uint32_t page = pages[t / o->page_tokens];
                if (page >= o->n_pages)
                    return COP_FAIL(COP_ERR_INTERNAL, "segment %u lies on page %u of %u",
                                    entry->segment, page, o->n_pages);
                for (uint32_t head = 0; head < o->n_kv_heads; head++)
                    atomic_store_explicit(&a->loaded[(size_t)head * o->n_pages + page], 0,
                                          memory_order_relaxed);
            }
        }
    }
    return COP_OK;
}

/* What stands if no item comes to a row or a chunk: zeros, or an empty partial. */
static void clear_slot(cop_cpu_attention *a, const cop_slot *slot, float *out, size_t out_stride) {
    if (slot->row < 0)
        return;
    const size_t n_heads = a->options.n_heads;
    if (slot->n_partials <= 1) {
        memset(out + (size_t)slot->row * out_stride, 0,
               n_heads * a->options.head_dim * sizeof *out);
        return;
    }
    const size_t at = slot->first_partial * n_heads;
    for (size_t i = 0; i < slot->n_partials * n_heads; i++) {
        a->partials[at + i] = (cop__partial){.m = -INFINITY};
    }
}

cop_status cop_cpu_attention_run(cop_cpu_attention *a, uint32_t layer,
                                 const cop_plan_tables *tables, const float *q, uint32_t q_stride,
                                 float *out, uint32_t out_stride) {
    if (layer >= a->options.n_layers)
        return COP_FAIL(COP_ERR_INTERNAL, "layer %u of %u", layer, a->options.n_layers);
    COP_TRY(begin_launch(a, tables));
    const uint32_t n_heads = a->options.n_heads;
    const uint64_t n_rows = (uint64_t)tables->n_slots * n_heads;
    launch run = {.attention = a,
                  .layer = layer,
                  .tables = tables,
                  .q = q,
                  .out = out,
                  .q_stride = q_stride,
                  .out_stride = out_stride,
                  .n_work = (uint64_t)tables->n_items * a->options.n_kv_heads};
#pragma omp parallel num_threads((int)a->options.n_threads)
    {
        cop__attention_worker *w = a->workers[omp_get_thread_num()];
#pragma omp for schedule(static)
        for (uint32_t s = 0; s < tables->n_slots; s++)
            clear_slot(a, &tables->slots[s], out, out_stride);
        for (uint64_t work = atomic_fetch_add(&run.ticket, 1); work < run.n_work;)
            work = run_work(&run, work, w);
#pragma omp barrier
#pragma omp for schedule(dynamic, 8)
        for (uint64_t i = 0; i < n_rows; i++) {
            const cop_slot *slot = &tables->slots[i / n_heads];
            if (slot->row >= 0 && slot->n_partials > 1)
                merge_row(a, slot, (uint32_t)(i % n_heads), out, out_stride, w);
        }
    }
    for (uint32_t t = 0; t < a->options.n_threads; t++) {
        cop_cpu_attention_counters *c = &a->workers[t]->counters;
        a->counters.load_bytes += c->load_bytes;
        a->counters.first_bytes += c->first_bytes;
        a->counters.partial_bytes += c->partial_bytes;
        memset(c, 0, sizeof *c);
    }
    return COP_OK;
}

void cop_cpu_attention_counters_read(const cop_cpu_attention *a, cop_cpu_attention_counters *out) {
    *out = a->counters;
}
