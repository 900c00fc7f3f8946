#include "measure/tree_shapes.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/memory.h"
#include "config/json.h"

struct cop_shape_file {
    cop_arena *arena;
    cop_tree_shape *shapes;
    cop_shape_mix *mixes;
    uint32_t n_shapes, n_mixes;
};

static const uint32_t head_dims[] = {64, 96, 128, 256};

static cop_status need(cop_shape_file *file, size_t n, size_t size, void *out) {
    void *p = cop_arena_calloc(file->arena, n ? n : 1, size);
    if (!p)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for %zu elements of a shape file", n);
    memcpy(out, &p, sizeof p);
    return COP_OK;
}

static cop_status read_source(cop_shape_file *file, const cop_json *object, const char **out) {
    const char *text = NULL;
    COP_TRY(cop_json_text(object, "source", COP_JSON_REQUIRED, &text));
    *out = cop_arena_strndup(file->arena, text, strlen(text));
    return *out ? COP_OK : COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a source's name");
}

static cop_status read_numbers(const cop_json *object, const char *key, uint32_t min, uint32_t max,
                               uint32_t *out, uint32_t capacity, uint32_t *n) {
    cop_json list;
    COP_TRY(cop_json_array(object, key, COP_JSON_REQUIRED, &list));
    const size_t count = cop_json_count(&list);
    if (count == 0 || count > capacity)
        return cop_json_fail(object, key, "holds %zu numbers; 1 to %u are accepted", count,
                             capacity);
    for (size_t i = 0; i < count; i++) {
        const cop_json item = cop_json_at(&list, i);
        COP_TRY(cop_json_u32(&item, NULL, min, max, COP_JSON_REQUIRED, &out[i]));
    }
    *n = (uint32_t)count;
    return COP_OK;
}

static cop_status read_heads(const cop_json *object, cop_tree_shape *shape) {
    cop_json list;
    COP_TRY(cop_json_u32(object, "head_dim", 1, 65536, COP_JSON_REQUIRED, &shape->head_dim));
    bool known = false;
    for (size_t i = 0; i < sizeof head_dims / sizeof head_dims[0]; i++)
        known |= shape->head_dim == head_dims[i];
    if (!known)
        return cop_json_fail(object, "head_dim",
                             "is %u, a head size that no kernel has; use 64, 96, 128 or 256",
                             shape->head_dim);
    COP_TRY(cop_json_array(object, "heads", COP_JSON_REQUIRED, &list));
    const size_t count = cop_json_count(&list);
    if (count == 0 || count > COP_SHAPE_HEAD_PAIRS_MAX)
        return cop_json_fail(object, "heads", "holds %zu pairs; 1 to %d are accepted", count,
                             COP_SHAPE_HEAD_PAIRS_MAX);
    for (size_t i = 0; i < count; i++) {
        const cop_json pair = cop_json_at(&list, i);
        if (cop_json_count(&pair) != 2)
            return cop_json_fail(&pair, NULL, "must be [query heads, KV heads]");
        for (size_t k = 0; k < 2; k++) {
            const cop_json head = cop_json_at(&pair, k);
            COP_TRY(cop_json_u32(&head, NULL, 1, COP_SHAPE_HEADS_MAX, COP_JSON_REQUIRED,
                                 &shape->heads[i][k]));
        }
        if (shape->heads[i][0] % shape->heads[i][1] != 0)
            return cop_json_fail(&pair, NULL, "has %u query heads, not a multiple of %u KV heads",
                                 shape->heads[i][0], shape->heads[i][1]);
    }
    shape->n_heads = (uint32_t)count;
    return COP_OK;
}

static cop_status read_levels(cop_shape_file *file, const cop_json *object, cop_tree_shape *shape) {
    uint32_t n_tokens = 0, n_nodes = 0;
    COP_TRY(read_numbers(object, "nodes_per_level", 1, COP_SHAPE_NODES_MAX, shape->nodes_per_level,
                         COP_SHAPE_LEVELS_MAX, &shape->n_levels));
    COP_TRY(read_numbers(object, "tokens_per_node", 0, COP_SHAPE_NODE_TOKENS_MAX,
                         shape->tokens_per_node, COP_SHAPE_LEVELS_MAX, &n_tokens));
    if (n_tokens != shape->n_levels)
        return cop_json_fail(object, "tokens_per_node", "has %u levels, nodes_per_level has %u",
                             n_tokens, shape->n_levels);
    for (uint32_t level = 0; level < shape->n_levels; level++) {
        n_nodes += shape->nodes_per_level[level];
        if (n_nodes > COP_SHAPE_NODES_MAX)
            return cop_json_fail(object, "nodes_per_level", "has more than %d nodes in all",
                                 COP_SHAPE_NODES_MAX);
        if (level > 0 && shape->nodes_per_level[level] < shape->nodes_per_level[level - 1])
            return cop_json_fail(object, "nodes_per_level",
                                 "has %u nodes on level %u, fewer than the %u above: some would "
                                 "have no branch",
                                 shape->nodes_per_level[level], level,
                                 shape->nodes_per_level[level - 1]);
    }
    uint32_t *parent, *tokens;
    COP_TRY(need(file, n_nodes, sizeof *parent, &parent));
    COP_TRY(need(file, n_nodes, sizeof *tokens, &tokens));
    for (uint32_t level = 0, first = 0, above = 0; level < shape->n_levels; level++) {
        const uint32_t n = shape->nodes_per_level[level];
        for (uint32_t i = 0; i < n; i++) {
            tokens[first + i] = shape->tokens_per_node[level];
            parent[first + i] = COP_COST_ROOT;
            if (level > 0) {
                const uint64_t of = (uint64_t)i * shape->nodes_per_level[level - 1] / n;
                parent[first + i] = above + (uint32_t)of;
            }
        }
        above = first;
        first += n;
    }
    shape->tree = (cop_cost_tree){
        .parent = parent, .tokens = tokens, .n_nodes = n_nodes, .n_levels = shape->n_levels};
    return COP_OK;
}

/* Steps up to a root, at most `most`: with as many as there are nodes it is a cycle. */
static uint32_t depth_of(const int64_t *given, uint32_t node, uint32_t most) {
    uint32_t depth = 0;
    for (int64_t at = given[node]; at >= 0 && depth < most; at = given[at])
        depth++;
    return depth;
}

static cop_status read_parents(const cop_json *object, int64_t *given, uint32_t n,
                               uint32_t *n_levels, uint32_t *depths) {
    cop_json list;
    COP_TRY(cop_json_array(object, "parents", COP_JSON_REQUIRED, &list));
    if (cop_json_count(&list) != n)
        return cop_json_fail(object, "parents", "names %zu nodes, tokens has %u",
                             cop_json_count(&list), n);
    for (uint32_t i = 0; i < n; i++) {
        const cop_json item = cop_json_at(&list, i);
        COP_TRY(cop_json_i64(&item, NULL, -1, (int64_t)n - 1, COP_JSON_REQUIRED, &given[i]));
    }
    *n_levels = 0;
    for (uint32_t i = 0; i < n; i++) {
        /* No deeper than is accepted: a file that lists children first costs no more for it. */
        depths[i] = depth_of(given, i, COP_SHAPE_LEVELS_MAX);
        if (depths[i] < COP_SHAPE_LEVELS_MAX) {
            *n_levels = depths[i] + 1 > *n_levels ? depths[i] + 1 : *n_levels;
            continue;
        }
        if (depth_of(given, i, n) == n)
            return cop_json_fail(object, "parents", "has a cycle above node %u", i);
        return cop_json_fail(object, "parents", "is more than %d levels deep at node %u",
                             COP_SHAPE_LEVELS_MAX, i);
    }
    return COP_OK;
}

static cop_status read_nodes(cop_shape_file *file, const cop_json *object, cop_tree_shape *shape) {
    cop_json list;
    uint32_t n = 0;
    COP_TRY(cop_json_array(object, "tokens", COP_JSON_REQUIRED, &list));
    if (cop_json_count(&list) == 0 || cop_json_count(&list) > COP_SHAPE_NODES_MAX)
        return cop_json_fail(object, "tokens", "holds %zu numbers; 1 to %d are accepted",
                             cop_json_count(&list), COP_SHAPE_NODES_MAX);
    n = (uint32_t)cop_json_count(&list);
    uint32_t *parent, *tokens, *read, *depths, *place;
    int64_t *given;
    COP_TRY(need(file, n, sizeof *parent, &parent));
    COP_TRY(need(file, n, sizeof *tokens, &tokens));
    COP_TRY(need(file, n, sizeof *read, &read));
    COP_TRY(need(file, n, sizeof *depths, &depths));
    COP_TRY(need(file, n, sizeof *place, &place));
    COP_TRY(need(file, n, sizeof *given, &given));
    COP_TRY(read_numbers(object, "tokens", 0, COP_SHAPE_NODE_TOKENS_MAX, read, n, &n));
    uint32_t n_levels = 0;
    COP_TRY(read_parents(object, given, n, &n_levels, depths));
    uint32_t at = 0;
    for (uint32_t level = 0; level < n_levels; level++) {
        for (uint32_t i = 0; i < n; i++) {
            if (depths[i] != level)
                continue;
            parent[at] = level == 0 ? COP_COST_ROOT : place[given[i]];
            tokens[at] = read[i];
            place[i] = at++;
        }
    }
    shape->tree =
        (cop_cost_tree){.parent = parent, .tokens = tokens, .n_nodes = n, .n_levels = n_levels};
    return COP_OK;
}

/* Rows below each node, and what the whole tree holds. */
static cop_status count_rows(cop_shape_file *file, const cop_json *object, cop_tree_shape *shape) {
    cop_cost_tree *tree = &shape->tree;
    uint32_t *rows;
    COP_TRY(need(file, tree->n_nodes, sizeof *rows, &rows));
    for (uint32_t i = tree->n_nodes; i-- > 0;) { /* children stand behind their parents */
        if (rows[i] == 0) {
            rows[i] = 1;
            tree->n_rows++;
        }
        if (tree->parent[i] != COP_COST_ROOT)
            rows[tree->parent[i]] += rows[i];
        shape->unique_tokens += tree->tokens[i];
        shape->unshared_tokens += (uint64_t)rows[i] * tree->tokens[i];
    }
    tree->rows = rows;
    if (shape->unique_tokens > COP_SHAPE_TOKENS_MAX)
        return cop_json_fail(object, NULL, "holds %llu KV tokens; at most %llu are accepted",
                             (unsigned long long)shape->unique_tokens,
                             (unsigned long long)COP_SHAPE_TOKENS_MAX);
    return COP_OK;
}

static cop_status check_count(const cop_json *object, const char *key, uint64_t is) {
    uint64_t given = is;
    COP_TRY(cop_json_u64(object, key, 0, INT64_MAX, COP_JSON_OPTIONAL, &given));
    if (given != is)
        return cop_json_fail(object, key, "says %llu, the tree has %llu", (unsigned long long)given,
                             (unsigned long long)is);
    return COP_OK;
}

static cop_status check_claims(const cop_json *object, const cop_tree_shape *shape) {
    COP_TRY(check_count(object, "branches", shape->tree.n_rows));
    COP_TRY(check_count(object, "kv_tokens_unique", shape->unique_tokens));
    COP_TRY(check_count(object, "kv_tokens_unshared", shape->unshared_tokens));
    const double is =
        shape->unique_tokens ? (double)shape->unshared_tokens / (double)shape->unique_tokens : 1.0;
    double given = is;
    COP_TRY(cop_json_f64(object, "sharing", 0, 1e12, COP_JSON_OPTIONAL, &given));
    if (fabs(given - is) > 0.0051) /* two decimals are published */
        return cop_json_fail(object, "sharing", "says %.2f, the tree has %.2f", given, is);
    return COP_OK;
}

static cop_status read_shape(cop_shape_file *file, const cop_json *object, cop_tree_shape *shape) {
    COP_TRY(COP_JSON_ONLY(object, "source", "nodes_per_level", "tokens_per_node", "parents",
                          "tokens", "heads", "head_dim", "branches", "kv_tokens_unique",
                          "kv_tokens_unshared", "sharing"));
    const bool by_level =
        cop_json_has(object, "nodes_per_level") || cop_json_has(object, "tokens_per_node");
    const bool by_node = cop_json_has(object, "parents") || cop_json_has(object, "tokens");
    if (by_level == by_node)
        return cop_json_fail(object, NULL,
                             "needs either nodes_per_level and tokens_per_node, or parents and "
                             "tokens");
    COP_TRY(read_source(file, object, &shape->source));
    COP_TRY(read_heads(object, shape));
    COP_TRY(by_level ? read_levels(file, object, shape) : read_nodes(file, object, shape));
    COP_TRY(count_rows(file, object, shape));
    return check_claims(object, shape);
}

static cop_status read_mix(cop_shape_file *file, const cop_json *object, cop_shape_mix *mix) {
    cop_json list;
    COP_TRY(COP_JSON_ONLY(object, "source", "kv_q"));
    COP_TRY(read_source(file, object, &mix->source));
    COP_TRY(cop_json_array(object, "kv_q", COP_JSON_REQUIRED, &list));
    const size_t n = cop_json_count(&list);
    if (n == 0 || n > COP_SHAPE_LEVELS_MAX)
        return cop_json_fail(object, "kv_q", "holds %zu parts; 1 to %d are accepted", n,
                             COP_SHAPE_LEVELS_MAX);
    cop_shape_requests *parts;
    COP_TRY(need(file, n, sizeof *parts, &parts));
    for (size_t i = 0; i < n; i++) {
        const cop_json part = cop_json_at(&list, i);
        if (cop_json_count(&part) != 3)
            return cop_json_fail(&part, NULL, "must be [requests, KV tokens, query rows]");
        const cop_json count = cop_json_at(&part, 0), kv = cop_json_at(&part, 1),
                       q = cop_json_at(&part, 2);
        COP_TRY(cop_json_u32(&count, NULL, 1, COP_SHAPE_REQUESTS_MAX, COP_JSON_REQUIRED,
                             &parts[i].requests));
        COP_TRY(cop_json_u32(&kv, NULL, 1, COP_SHAPE_NODE_TOKENS_MAX, COP_JSON_REQUIRED,
                             &parts[i].kv_tokens));
        COP_TRY(
            cop_json_u32(&q, NULL, 1, parts[i].kv_tokens, COP_JSON_REQUIRED, &parts[i].query_rows));
    }
    mix->parts = parts;
    mix->n_parts = (uint32_t)n;
    return COP_OK;
}

static cop_status read_imbalance(cop_shape_file *file, const cop_json *object, cop_shape_mix *mix) {
    uint32_t tokens[COP_SHAPE_LEVELS_MAX], n = 0;
    COP_TRY(COP_JSON_ONLY(object, "source", "kv_tokens"));
    COP_TRY(read_source(file, object, &mix->source));
    COP_TRY(read_numbers(object, "kv_tokens", 1, COP_SHAPE_NODE_TOKENS_MAX, tokens,
                         COP_SHAPE_LEVELS_MAX, &n));
    cop_shape_requests *parts;
    COP_TRY(need(file, n, sizeof *parts, &parts));
    for (uint32_t i = 0; i < n; i++)
        parts[i] = (cop_shape_requests){.requests = 1, .kv_tokens = tokens[i], .query_rows = 1};
    mix->parts = parts;
    mix->n_parts = n;
    return COP_OK;
}

static cop_status read_file(cop_shape_file *file, const cop_json *root) {
    cop_json shapes, mixes, imbalance;
    const char *about = NULL;
    COP_TRY(COP_JSON_ONLY(root, "about", "shapes", "mixes", "imbalance"));
    COP_TRY(cop_json_text(root, "about", COP_JSON_OPTIONAL, &about));
    COP_TRY(cop_json_array(root, "shapes", COP_JSON_REQUIRED, &shapes));
    if (cop_json_count(&shapes) == 0)
        return cop_json_fail(root, "shapes", "is empty; give one shape or more");
    COP_TRY(need(file, cop_json_count(&shapes), sizeof *file->shapes, &file->shapes));
    for (size_t i = 0; i < cop_json_count(&shapes); i++) {
        const cop_json shape = cop_json_at(&shapes, i);
        COP_TRY(read_shape(file, &shape, &file->shapes[file->n_shapes]));
        file->n_shapes++;
    }
    COP_TRY(cop_json_array(root, "mixes", COP_JSON_OPTIONAL, &mixes));
    COP_TRY(need(file, cop_json_count(&mixes) + 1, sizeof *file->mixes, &file->mixes));
    for (size_t i = 0; i < cop_json_count(&mixes); i++) {
        const cop_json mix = cop_json_at(&mixes, i);
        COP_TRY(read_mix(file, &mix, &file->mixes[file->n_mixes++]));
    }
    COP_TRY(cop_json_object(root, "imbalance", COP_JSON_OPTIONAL, &imbalance));
    if (imbalance.value)
        COP_TRY(read_imbalance(file, &imbalance, &file->mixes[file->n_mixes++]));
    return COP_OK;
}

static cop_status create_from(cop_json *root, cop_status status, cop_shape_file **out) {
    cop_shape_file *file = NULL;
    *out = NULL;
    if (status != COP_OK)
        goto done;
    file = cop_calloc(1, sizeof *file);
    if (!file) {
        status = COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a shape file");
        goto done;
    }
    status = cop_arena_create(&file->arena);
    if (status == COP_OK)
        status = read_file(file, root);
done:
    if (status == COP_OK)
        *out = file;
    else
        cop_shape_file_destroy(file);
    cop_json_release(root);
    return status;
}

cop_status cop_shape_file_load(const char *path, cop_shape_file **out) {
    cop_json root;
    const cop_status status = cop_json_load(path, &root);
    return create_from(&root, status, out);
}

cop_status cop_shape_file_parse(const char *text, size_t bytes, const char *source,
                                cop_shape_file **out) {
    cop_json root;
    const cop_status status = cop_json_parse(text, bytes, source, &root);
    return create_from(&root, status, out);
}

void cop_shape_file_destroy(cop_shape_file *file) {
    if (!file)
        return;
    cop_arena_destroy(file->arena);
    cop_free(file);
}

uint32_t cop_shape_file_count(const cop_shape_file *file) {
    return file->n_shapes;
}

const cop_tree_shape *cop_shape_file_shape(const cop_shape_file *file, uint32_t i) {
    return &file->shapes[i];
}

uint32_t cop_shape_file_mix_count(const cop_shape_file *file) {
    return file->n_mixes;
}

const cop_shape_mix *cop_shape_file_mix(const cop_shape_file *file, uint32_t i) {
    return &file->mixes[i];
}

cop_status cop_tree_shape_shrink(cop_shape_file *file, const cop_tree_shape *shape, uint32_t n,
                                 cop_tree_shape *out) {
    uint32_t *tokens;
    *out = *shape;
    COP_TRY(need(file, shape->tree.n_nodes, sizeof *tokens, &tokens));
    out->unique_tokens = out->unshared_tokens = 0;
    for (uint32_t i = 0; i < shape->tree.n_nodes; i++) {
        tokens[i] = (uint32_t)(((uint64_t)shape->tree.tokens[i] + n - 1) / n);
        out->unique_tokens += tokens[i];
        out->unshared_tokens += (uint64_t)tokens[i] * shape->tree.rows[i];
    }
    for (uint32_t level = 0; level < shape->n_levels; level++)
        out->tokens_per_node[level] =
            (uint32_t)(((uint64_t)shape->tokens_per_node[level] + n - 1) / n);
    out->tree.tokens = tokens;
    return COP_OK;
}
