/* Strict reader of shape files: the trees of KV segments that kernels are checked and timed on.
 *
 *   {"about": "..",
 *    "shapes": [{"source": "PAT", "head_dim": 128, "heads": [[32, 8]],
 *                "nodes_per_level": [1, 10], "tokens_per_node": [4096, 416]},
 *               {"source": "own", "head_dim": 64, "heads": [[9, 3]],
 *                "parents": [-1, 0, 0, 2], "tokens": [100, 7, 0, 64]}],
 *    "mixes": [{"source": "..", "kv_q": [[requests, KV tokens, query rows]]}],
 *    "imbalance": {"source": "..", "kv_tokens": [4641, 45118]}}
 *
 * A tree is given by levels (children spread evenly over the level above) or node by node
 * (`parents` names indices, in any order, -1 for a root). One query row a leaf. heads = [query,
 * KV]. `branches`, `kv_tokens_unique`, `kv_tokens_unshared` and `sharing` may be given and must
 * then be right. Only `shapes` is required. Anything else (an unknown key, a cycle, a count that is
 * negative or beyond the limits below, a head size that no kernel has) is a named COP_ERR_CONFIG.
 *
 * The file owns all memory; shapes and mixes are borrowed from it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/cost_plans.h"

enum {
    COP_SHAPE_LEVELS_MAX = 64,
    COP_SHAPE_NODES_MAX = 1 << 17,
    COP_SHAPE_NODE_TOKENS_MAX = 1 << 24,
    COP_SHAPE_HEADS_MAX = 1024,
    COP_SHAPE_HEAD_PAIRS_MAX = 16,
    COP_SHAPE_REQUESTS_MAX = 1 << 16,
};
#define COP_SHAPE_TOKENS_MAX (1ull << 31) /* unique tokens of a shape */

typedef struct cop_tree_shape {
    const char *source;
    cop_cost_tree tree; /* parents before children, siblings in the order given */
    uint32_t head_dim;
    uint32_t heads[COP_SHAPE_HEAD_PAIRS_MAX][2]; /* query heads, KV heads */
    uint32_t n_heads;
    uint64_t unique_tokens, unshared_tokens;
    uint32_t n_levels; /* 0: given node by node */
    uint32_t nodes_per_level[COP_SHAPE_LEVELS_MAX], tokens_per_node[COP_SHAPE_LEVELS_MAX];
} cop_tree_shape;

typedef struct cop_shape_requests {
    uint32_t requests, kv_tokens, query_rows; /* each request's last query_rows tokens ask */
} cop_shape_requests;

typedef struct cop_shape_mix {
    const char *source;
    const cop_shape_requests *parts;
    uint32_t n_parts;
} cop_shape_mix;

typedef struct cop_shape_file cop_shape_file;

cop_status cop_shape_file_load(const char *path, cop_shape_file **out);
/* `source` stands in messages. */
cop_status cop_shape_file_parse(const char *text, size_t bytes, const char *source,
                                cop_shape_file **out);
void cop_shape_file_destroy(cop_shape_file *file); /* NULL is fine */

uint32_t cop_shape_file_count(const cop_shape_file *file);
const cop_tree_shape *cop_shape_file_shape(const cop_shape_file *file, uint32_t i);
uint32_t cop_shape_file_mix_count(const cop_shape_file *file);
const cop_shape_mix *cop_shape_file_mix(const cop_shape_file *file, uint32_t i);

/* A copy of the shape with every length divided by n, rounded up: an empty segment stays empty, no
 * other becomes so. Its arrays belong to `file`. */
cop_status cop_tree_shape_shrink(cop_shape_file *file, const cop_tree_shape *shape, uint32_t n,
                                 cop_tree_shape *out);
