#include "job/tree_grid.h"

static cop_status put_tree(cop_buffer *out, uint32_t prefix, uint32_t branches, uint32_t tokens) {
    COP_TRY(cop_buffer_printf(
        out,
        "{\"v\":1,\"id\":\"%ux%u\",\"dialect\":\"grid\",\"source\":\"grid\","
        "\"blocks\":1,\"paths\":%u,\"depth\":1,\"prompt\":[{\"n\":%u}],\"stream\":[{\"n\":1},"
        "{\"block\":[",
        prefix, branches, branches, prefix));
    for (uint32_t b = 0; b < branches; b++)
        COP_TRY(cop_buffer_printf(out, "%s[{\"n\":%u}]", b ? "," : "", tokens));
    return cop_buffer_printf(out, "]}]}\n");
}

static cop_status put_all(const cop_tree_grid *grid, cop_buffer *out) {
    for (uint32_t p = 0; p < grid->n_prefix; p++)
        for (uint32_t b = 0; b < grid->n_branches; b++)
            COP_TRY(put_tree(out, grid->prefix[p], grid->branches[b], grid->branch_tokens));
    return COP_OK;
}

cop_status cop_tree_grid_read(const cop_tree_grid *grid, cop_trajectories **out,
                              char sha256[COP_SHA256_HEX_BYTES]) {
    cop_buffer text = {0};
    cop_status status = put_all(grid, &text);
    if (status == COP_OK) {
        cop_sha256_of(text.data, text.bytes, sha256);
        status = cop_trajectories_read_text(text.data, text.bytes, "grid", out);
    }
    cop_buffer_release(&text);
    return status;
}
