#include "kernels/cost_plans.h"

#include <stdbool.h>
#include <string.h>

enum { TILE_ROWS = 64, UNSHARED_TOKENS = 2048 };

static uint64_t token_bytes(const cop_attention_shape *shape) { /* of one KV head */
    return 2ull * shape->head_dim * shape->kv_element_bytes;
}

static uint64_t row_bytes(const cop_attention_shape *shape) { /* Q or O of one row, all heads */
    return (uint64_t)shape->n_heads * shape->head_dim * shape->kv_element_bytes;
}

static uint64_t partial_bytes(const cop_attention_shape *shape) { /* written, then read */
    return 2ull * shape->n_heads * (shape->head_dim + 2) * sizeof(float);
}

static double largest(double a, double b) {
    return a > b ? a : b;
}

uint64_t cop_cost_all_bytes(const cop_attention_cost *bytes) {
    return bytes->kv_load_bytes + bytes->partial_bytes + bytes->query_bytes + bytes->output_bytes;
}

uint64_t cop_cost_minimum_bytes(const cop_cost_tree *tree, const cop_attention_shape *shape) {
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < tree->n_nodes; i++)
        tokens += tree->tokens[i];
    return tokens * token_bytes(shape) * shape->n_kv_heads;
}

double cop_cost_bound_seconds(const cop_cost_tree *tree, const cop_attention_shape *shape,
                              const cop_gpu_model *gpu) {
    const uint64_t rows = 2 * tree->n_rows * row_bytes(shape);
    return (double)(cop_cost_minimum_bytes(tree, shape) + rows) / gpu->dram_bytes_per_s;
}

/* Shell sort, longest first: no allocation, no recursion, and counts move with their tokens. */
static void sort_items(const cop_cost_items *items) {
    static const uint32_t gaps[] = {86961, 33936, 13776, 4592, 1968, 861, 336,
                                    112,   48,    21,    7,    3,    1};
    for (uint32_t g = 0; g < sizeof gaps / sizeof gaps[0]; g++) {
        const uint32_t gap = gaps[g];
        for (uint32_t i = gap; i < items->n; i++) {
            const uint64_t tokens = items->tokens[i];
            const uint32_t count = items->count ? items->count[i] : 0;
            uint32_t at = i;
            for (; at >= gap && items->tokens[at - gap] < tokens; at -= gap) {
                items->tokens[at] = items->tokens[at - gap];
                if (items->count)
                    items->count[at] = items->count[at - gap];
            }
            items->tokens[at] = tokens;
            if (items->count)
                items->count[at] = count;
        }
    }
}

/* The block that is idle first stands at blocks[0]; puts it where its new time belongs. */
static void heap_sink(double *blocks, uint32_t n, double seconds) {
    uint32_t at = 0;
    for (uint32_t child = 1; child < n; child = 2 * at + 1) {
        child += child + 1 < n && blocks[child + 1] < blocks[child];
        if (blocks[child] >= seconds)
            break;
        blocks[at] = blocks[child];
        at = child;
    }
    blocks[at] = seconds;
}

double cop_cost_makespan_seconds(const cop_cost_items *items, const cop_attention_shape *shape,
                                 const cop_gpu_model *gpu) {
    double last = 0;
    memset(items->blocks, 0, gpu->resident_blocks * sizeof *items->blocks);
    sort_items(items);
    for (uint32_t i = 0; i < items->n; i++) {
        const double draw =
            (double)(items->tokens[i] * token_bytes(shape)) / gpu->block_bytes_per_s;
        const uint64_t count = (items->count ? items->count[i] : 1ull) * shape->n_kv_heads;
        for (uint64_t k = 0; k < count; k++) {
            const double seconds = items->blocks[0] + draw + gpu->item_s;
            heap_sink(items->blocks, gpu->resident_blocks, seconds);
            last = largest(last, seconds);
        }
    }
    return last;
}

double cop_cost_launch_seconds(const cop_attention_cost *bytes, double makespan_s,
                               const cop_gpu_model *gpu) {
    const uint64_t rest = bytes->partial_bytes + bytes->query_bytes + bytes->output_bytes;
    const double dram = (double)(bytes->kv_first_bytes + rest) / gpu->dram_bytes_per_s;
    const double l2 = (double)(bytes->kv_load_bytes + rest) / gpu->l2_bytes_per_s;
    return largest(largest(dram, l2), makespan_s);
}

static uint32_t tokens_seen(const cop_plan_tables *tables, const cop_tile *tile,
                            const cop_walk_entry *entry, uint32_t s) {
    if (!(entry->mask >> s & 1) || tile->slot[s] == COP_SLOT_HOLE ||
        tables->slots[tile->slot[s]].row < 0)
        return 0;
    uint64_t end = tables->segments[entry->segment].tokens;
    if (entry->tokens != COP_TO_END && (uint64_t)entry->first + entry->tokens < end)
        end = (uint64_t)entry->first + entry->tokens;
    if (entry->limits != COP_LIMITS_NONE) {
        const int32_t limit = tables->limits[entry->limits + (int32_t)s];
        end = limit < 0 ? 0 : (uint64_t)limit < end ? (uint64_t)limit : end;
    }
    return end > entry->first ? (uint32_t)(end - entry->first) : 0;
}

void cop_cost_item_tokens(const cop_plan_tables *tables, uint64_t *tokens) {
    for (uint32_t i = 0; i < tables->n_items; i++) {
        const cop_item *item = &tables->items[i];
        const cop_tile *tile = &tables->tiles[item->tile];
        tokens[i] = 0;
        for (uint32_t e = 0; e < item->n_entries; e++) {
            uint32_t most = 0;
            for (uint32_t s = 0; s < tile->n_slots; s++) {
                const uint32_t seen =
                    tokens_seen(tables, tile, &tables->entries[item->first_entry + e], s);
                most = seen > most ? seen : most;
            }
            tokens[i] += most;
        }
    }
}

uint32_t cop_cost_segment_groups(const cop_cost_tree *tree) {
    return 2 * tree->n_nodes; /* a segment's full chunks, and what is left */
}

/* Partials of all rows when a row has ceil(tokens / chunk) for each segment on its path (or, with
 * `by_view`, for its view): none for a row with a single one. Sums the parts of all rows too. */
typedef struct part_sums {
    uint64_t parts, partials, view_tokens;
    uint64_t longest; /* tokens of the longest view */
} part_sums;

static part_sums count_parts(const cop_cost_tree *tree, uint32_t chunk_tokens, bool by_view,
                             uint32_t *parts) {
    part_sums sums = {0};
    for (uint32_t i = 0; i < tree->n_nodes; i++) {
        const uint32_t above = tree->parent[i] == COP_COST_ROOT ? 0 : parts[tree->parent[i]];
        const uint32_t tokens = tree->tokens[i];
        parts[i] = above + (by_view ? tokens : (tokens + chunk_tokens - 1) / chunk_tokens);
        sums.view_tokens += (uint64_t)tree->rows[i] * tokens;
    }
    /* A leaf is a node that is nobody's parent; parents come first, so going backwards a node is
     * known as an inner one before it is reached. */
    for (uint32_t i = tree->n_nodes; i-- > 0;) {
        const bool inner = parts[i] & 0x80000000u;
        if (tree->parent[i] != COP_COST_ROOT)
            parts[tree->parent[i]] |= 0x80000000u;
        if (inner)
            continue;
        const uint64_t n =
            by_view ? ((uint64_t)parts[i] + chunk_tokens - 1) / chunk_tokens : parts[i];
        sums.longest = parts[i] > sums.longest ? parts[i] : sums.longest;
        sums.parts += n;
        sums.partials += n > 1 ? n : 0;
    }
    return sums;
}

static cop_attention_cost bytes_of(const cop_cost_tree *tree, const cop_attention_shape *shape,
                                   const part_sums *sums) {
    return (cop_attention_cost){
        .kv_first_bytes = cop_cost_minimum_bytes(tree, shape),
        .partial_bytes = sums->partials * partial_bytes(shape),
        .query_bytes = sums->parts * row_bytes(shape),
        .output_bytes = tree->n_rows * row_bytes(shape),
        .flops = 4ull * shape->head_dim * shape->n_heads * sums->view_tokens,
    };
}

void cop_cost_segment_plan(const cop_cost_tree *tree, const cop_attention_shape *shape,
                           const cop_gpu_model *gpu, uint32_t chunk_tokens,
                           cop_cost_scratch *scratch, cop_plan_cost *out) {
    const uint32_t group = shape->n_heads / shape->n_kv_heads;
    cop_cost_items *items = &scratch->items;
    uint64_t loads = 0, n_items = 0;
    items->n = 0;
    for (uint32_t i = 0; i < tree->n_nodes; i++) {
        const uint32_t tokens = tree->tokens[i], left = tokens % chunk_tokens;
        const uint32_t tiles =
            (uint32_t)(((uint64_t)tree->rows[i] * group + TILE_ROWS - 1) / TILE_ROWS);
        if (tokens >= chunk_tokens) {
            items->tokens[items->n] = chunk_tokens;
            items->count[items->n++] = tokens / chunk_tokens * tiles;
        }
        if (left > 0) {
            items->tokens[items->n] = left;
            items->count[items->n++] = tiles;
        }
        loads += (uint64_t)tokens * tiles;
        n_items += ((uint64_t)tokens + chunk_tokens - 1) / chunk_tokens * tiles;
    }
    const part_sums sums = count_parts(tree, chunk_tokens, false, scratch->parts);
    *out = (cop_plan_cost){.bytes = bytes_of(tree, shape, &sums), .launches = 1};
    out->bytes.kv_load_bytes = loads * token_bytes(shape) * shape->n_kv_heads;
    out->bytes.items = (uint32_t)(n_items * shape->n_kv_heads);
    out->seconds =
        cop_cost_launch_seconds(&out->bytes, cop_cost_makespan_seconds(items, shape, gpu), gpu);
}

void cop_cost_level_plan(const cop_plan_cost *segment, const cop_cost_tree *tree,
                         const cop_gpu_model *gpu, cop_plan_cost *out) {
    *out = *segment;
    out->launches = 2 * tree->n_levels - 1; /* one level needs no merge, each further one does */
    out->seconds += (out->launches - 1) * gpu->launch_s;
}

void cop_cost_unshared_plan(const cop_cost_tree *tree, const cop_attention_shape *shape,
                            const cop_gpu_model *gpu, uint32_t *parts, cop_plan_cost *out) {
    const part_sums sums = count_parts(tree, UNSHARED_TOKENS, true, parts);
    *out = (cop_plan_cost){.bytes = bytes_of(tree, shape, &sums), .launches = 1};
    cop_attention_cost *bytes = &out->bytes;
    bytes->kv_load_bytes = sums.view_tokens * token_bytes(shape) * shape->n_kv_heads;
    bytes->kv_first_bytes = bytes->kv_load_bytes;
    bytes->items = (uint32_t)(sums.parts * shape->n_kv_heads);
    const uint64_t longest = sums.longest < UNSHARED_TOKENS ? sums.longest : UNSHARED_TOKENS;
    const double item_s =
        (double)(longest * token_bytes(shape)) / gpu->block_bytes_per_s + gpu->item_s;
    const uint64_t rounds = (bytes->items + gpu->resident_blocks - 1ull) / gpu->resident_blocks;
    out->seconds =
        largest((double)cop_cost_all_bytes(bytes) / gpu->dram_bytes_per_s, (double)rounds * item_s);
}
