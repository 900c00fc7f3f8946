/* The "grid" of a sweep's replay: axes as lists of numbers. */
#include "base/memory.h"
#include "job/bench_config.h"

enum { PREFIX_LIMIT = 1 << 20, TOKENS_LIMIT = 1 << 16 };

static cop_status read_axis(const cop_json *object, const char *key, uint32_t limit, uint32_t *out,
                            uint32_t *n) {
    cop_json list;
    COP_TRY(cop_json_array(object, key, COP_JSON_REQUIRED, &list));
    const size_t count = cop_json_count(&list);
    if (count == 0 || count > COP_GRID_AXIS_MAX)
        return cop_json_fail(object, key, "takes 1 to %d numbers, here are %zu", COP_GRID_AXIS_MAX,
                             count);
    for (*n = 0; *n < count; (*n)++) {
        cop_json item = cop_json_at(&list, *n);
        COP_TRY(cop_json_u32(&item, NULL, 1, limit, COP_JSON_REQUIRED, &out[*n]));
        for (uint32_t k = 0; k < *n; k++) {
            if (out[k] == out[*n])
                return cop_json_fail(&item, NULL, "%u is named twice", out[k]);
        }
    }
    return COP_OK;
}

cop_status cop__bench_grid_read(cop_bench_config *c, const cop_json *object,
                                const cop_tree_grid **out) {
    cop_tree_grid *grid = cop_arena_calloc(c->arena, 1, sizeof *grid);
    if (!grid)
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a config");
    COP_TRY(COP_JSON_ONLY(object, "prefix_tokens", "branches", "branch_tokens"));
    COP_TRY(read_axis(object, "prefix_tokens", PREFIX_LIMIT, grid->prefix, &grid->n_prefix));
    COP_TRY(
        read_axis(object, "branches", COP_GRID_BRANCHES_MAX, grid->branches, &grid->n_branches));
    COP_TRY(cop_json_u32(object, "branch_tokens", 1, TOKENS_LIMIT, COP_JSON_REQUIRED,
                         &grid->branch_tokens));
    *out = grid;
    return COP_OK;
}
