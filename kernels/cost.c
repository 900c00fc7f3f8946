#include "kernels/cost.h"

#include <stdbool.h>
#include <string.h>

#include "kernels/attention.h"

/* `seen` is for each segment where its leaves stand, then one word a leaf: the tokens loaded. A
 * segment gets its place when an entry first names it, since those that nobody names may be stale.
 */
#define UNPLACED UINT64_MAX

uint64_t cop_cost_scratch_words(uint32_t max_segments, uint32_t n_pages) {
    return (uint64_t)max_segments + n_pages;
}

static bool takes_part(const cop_plan_tables *tables, const cop_tile *tile, uint32_t s) {
    return tile->slot[s] != COP_SLOT_HOLE && tables->slots[tile->slot[s]].row >= 0;
}

/* Tokens of the entry that tile slot s sees: a prefix of the entry. */
static uint64_t visible_tokens(const cop_plan_tables *tables, const cop_walk_entry *entry,
                               uint32_t s) {
    const int64_t first = entry->first, length = tables->segments[entry->segment].tokens;
    int64_t end = length;
    if (entry->tokens != COP_TO_END && first + (int64_t)entry->tokens < end)
        end = first + (int64_t)entry->tokens;
    if (entry->limits != COP_LIMITS_NONE && tables->limits[entry->limits + (int32_t)s] < end)
        end = tables->limits[entry->limits + (int32_t)s];
    return end > first ? (uint64_t)(end - first) : 0;
}

typedef struct load_marks {
    uint64_t *seen;
    uint64_t used; /* words of it */
} load_marks;

static uint64_t *place_segment(const cop_plan_tables *tables, uint32_t segment, load_marks *marks) {
    if (marks->seen[segment] == UNPLACED) {
        const uint64_t leaves =
            ((uint64_t)tables->segments[segment].tokens + COP_LEAF_TOKENS - 1) / COP_LEAF_TOKENS;
        marks->seen[segment] = marks->used;
        memset(marks->seen + marks->used, 0, leaves * sizeof *marks->seen);
        marks->used += leaves;
    }
    return marks->seen + marks->seen[segment];
}

/* Marks tokens first .. first + tokens - 1 of a segment; returns how many were not marked yet. */
static uint64_t mark_tokens(uint64_t *leaves, uint32_t first, uint64_t tokens) {
    uint64_t fresh = 0;
    for (uint64_t leaf = first / COP_LEAF_TOKENS; tokens > 0; leaf++) {
        const uint64_t n = tokens < COP_LEAF_TOKENS ? tokens : COP_LEAF_TOKENS;
        const uint64_t mask = n == COP_LEAF_TOKENS ? UINT64_MAX : (1ull << n) - 1;
        fresh += (uint64_t)__builtin_popcountll(mask & ~leaves[leaf]);
        leaves[leaf] |= mask;
        tokens -= n;
    }
    return fresh;
}

/* Figures of one item in tokens and rows; the caller turns them into bytes and flops. */
typedef struct item_sums {
    uint64_t loads, firsts, seen, queries, partials;
} item_sums;

static void add_item(const cop_plan_tables *tables, const cop_item *item, load_marks *marks,
                     item_sums *sums) {
    const cop_tile *tile = &tables->tiles[item->tile];
    uint64_t participants = 0;
    for (uint32_t e = 0; e < item->n_entries; e++) {
        const cop_walk_entry *entry = &tables->entries[item->first_entry + e];
        uint64_t most = 0;
        for (uint32_t s = 0; s < tile->n_slots; s++) {
            if (!(entry->mask >> s & 1) || !takes_part(tables, tile, s))
                continue;
            const uint64_t tokens = visible_tokens(tables, entry, s);
            most = tokens > most ? tokens : most;
            sums->seen += tokens;
            participants |= 1ull << s;
        }
        sums->loads += most;
        sums->firsts +=
            mark_tokens(place_segment(tables, entry->segment, marks), entry->first, most);
    }
    for (uint32_t s = 0; s < tile->n_slots; s++) {
        if (!(participants >> s & 1))
            continue;
        sums->queries++;
        sums->partials += tables->slots[tile->slot[s]].n_partials > 1;
    }
}

void cop_cost_attention(const cop_plan_tables *tables, uint32_t max_segments,
                        const cop_attention_shape *shape, uint64_t *seen, cop_attention_cost *out) {
    load_marks marks = {.seen = seen, .used = max_segments};
    for (uint32_t s = 0; s < max_segments; s++)
        seen[s] = UNPLACED;
    item_sums sums = {0};
    for (uint32_t i = 0; i < tables->n_items; i++)
        add_item(tables, &tables->items[i], &marks, &sums);
    uint64_t rows = 0, again = 0;
    for (uint32_t s = 0; s < tables->n_slots; s++) {
        const uint32_t n = tables->slots[s].n_partials;
        if (tables->slots[s].row < 0)
            continue;
        rows++;
        if (n > 1)
            sums.partials += n; /* the merge reads what items wrote */
        if (shape->kernel_parts && n > COP_ATTENTION_MERGE_CHUNKS)
            again += n - COP_ATTENTION_MERGE_CHUNKS;
    }
    const uint64_t head_bytes = (uint64_t)shape->head_dim * shape->kv_element_bytes;
    const uint64_t token_bytes = 2 * head_bytes * shape->n_kv_heads;
    const uint32_t parts = shape->kernel_parts ? shape->kernel_parts : 1;
    *out = (cop_attention_cost){
        .kv_load_bytes = sums.loads * token_bytes * parts,
        .kv_first_bytes = sums.firsts * token_bytes,
        /* An entry loads as far as one of its slots sees: nothing is loaded that nobody sees. */
        .partial_bytes =
            (sums.partials * (shape->head_dim + 2) + again * 2) * shape->n_heads * sizeof(float),
        .query_bytes = sums.queries * shape->n_heads * head_bytes, /* once an item */
        .output_bytes = rows * shape->n_heads * head_bytes,
        .flops = 4ull * shape->head_dim * shape->n_heads * sums.seen,
        .items = tables->n_items * shape->n_kv_heads * parts,
    };
}

cop_launch_cost cop_cost_embed(const cop_embed_args *a) {
    const uint64_t values = (uint64_t)a->n_rows * a->hidden;
    return (cop_launch_cost){.load_bytes = values * 2 + a->n_rows * 4ull,
                             .store_bytes = values * 2};
}

cop_launch_cost cop_cost_norm(const cop_norm_args *a) {
    const uint64_t values = (uint64_t)a->n_rows * a->hidden;
    return (cop_launch_cost){.load_bytes = values * (a->delta ? 8 : 6),
                             .store_bytes = values * (a->delta ? 4 : 2),
                             .flops = values * (a->delta ? 5 : 4)};
}

cop_launch_cost cop_cost_activate(const cop_activate_args *a) {
    const uint64_t values = (uint64_t)a->n_rows * a->ffn;
    return (cop_launch_cost){
        .load_bytes = values * 4, .store_bytes = values * 2, .flops = values * 5};
}

cop_launch_cost cop_cost_append(const cop_append_args *a) {
    const uint64_t d = a->head_dim, rows = a->n_rows, turned = (a->n_heads + a->n_kv_heads) * d;
    const uint64_t width = turned + a->n_kv_heads * d;
    /* Where the row goes, its position (for each quarter of its angles), its angles, its values. */
    uint64_t loads = 24 + d + 4 * d + width * (a->qkv_f32 ? 4 : 2);
    if (a->bias)
        loads += width * 4;
    if (a->q_norm)
        loads += turned * 4;
    return (cop_launch_cost){.load_bytes = rows * loads,
                             .store_bytes = rows * width * 2,
                             .flops = rows * turned * (a->q_norm ? 7 : 3)};
}

cop_launch_cost cop_cost_product(const cop_product_args *a) {
    const cop_product_split split = cop_product_split_of(a->outputs, a->inputs);
    const uint64_t rows = a->n_rows, weights = (uint64_t)a->outputs * a->inputs;
    cop_launch_cost cost = {.load_bytes = weights * 2 + split.tiles * rows * a->inputs * 2,
                            .store_bytes = rows * a->outputs * (a->y_f32 ? 4 : 2),
                            .flops = 2 * rows * weights};
    if (a->x_rows) /* by the four lanes of each warp that read a row */
        cost.load_bytes += (uint64_t)split.tiles * split.blocks * COP_PRODUCT_WARPS * rows * 4 * 4;
    const uint64_t partials = cop_product_workspace_bytes(a->n_rows, a->outputs, a->inputs);
    cost.load_bytes += partials;
    cost.store_bytes += partials;
    return cost;
}

cop_launch_cost cop_cost_advance(const cop_advance_args *a, const cop_advance_moves *m) {
    return (cop_launch_cost){
        .load_bytes = a->n_rows * 4ull + a->n_open * sizeof(cop_open_segment) + m->segments * 4ull +
                      m->positions * 4ull + m->orders * 12ull,
        .store_bytes = a->n_tickets * 4ull + a->n_rows * 8ull + m->segments * 4ull +
                       m->positions * 4ull + m->orders * 8ull + m->scripts * 4ull};
}

cop_launch_cost cop_cost_patch(const cop_patch_args *a, uint64_t n_words) {
    return (cop_launch_cost){.load_bytes = a->n_records * sizeof(cop_patch_record) + n_words * 4,
                             .store_bytes = n_words * 4};
}

cop_launch_cost cop_cost_copy_pages(const cop_copy_pages_args *a, uint64_t n_tokens) {
    const uint64_t heads = 2ull * a->n_kv_heads * a->n_layers;
    const uint64_t bytes = heads * n_tokens * a->head_dim * 2;
    return (cop_launch_cost){.load_bytes = bytes + heads * a->n_copies * sizeof(cop_page_copy),
                             .store_bytes = bytes};
}

cop_launch_cost cop_cost_sample(const cop_sample_cost *c, const cop_sample_order *o) {
    enum { TILE = 2048, QUAD = 4, LISTED_TOP = COP_SAMPLE_TOP };
    uint64_t passes = 2 + (c->list_full ? 4 : 0) + c->n_located;
    uint64_t again = 1 + (o->forced != COP_FORCED_NONE); /* logits of the token, the forced one */
    if (o->temperature > 0) {
        passes += o->top_k > LISTED_TOP && o->top_k < c->vocab ? 3 : 0;
        passes += o->top_p < 1 ? 4 : 0;
    }
    for (uint32_t i = 0; i < c->n_located; i++) { /* its tile, then the four of its thread */
        const uint32_t tile = c->located[i] / TILE * TILE, quad = c->located[i] / QUAD * QUAD;
        again += c->vocab - tile < TILE ? c->vocab - tile : TILE;
        again += c->vocab - quad < QUAD ? c->vocab - quad : QUAD;
    }
    return (cop_launch_cost){.load_bytes = (passes * c->vocab + again) * 4,
                             .store_bytes = sizeof(cop_sample_result)};
}
