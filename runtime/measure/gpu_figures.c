#include "measure/gpu_figures.h"

#include <stdio.h>

#include "config/json.h"

/* Every figure must have a source or be named as assumed: neither list may be missing. */
static cop_status read_notes(const cop_json *root) {
    cop_json sources, assumed;
    COP_TRY(cop_json_array(root, "sources", COP_JSON_REQUIRED, &sources));
    if (cop_json_count(&sources) == 0)
        return cop_json_fail(root, "sources", "is empty; name where the figures come from");
    COP_TRY(cop_json_array(root, "assumed", COP_JSON_REQUIRED, &assumed));
    for (size_t i = 0; i < cop_json_count(&sources) + cop_json_count(&assumed); i++) {
        const size_t n = cop_json_count(&sources);
        const cop_json note = i < n ? cop_json_at(&sources, i) : cop_json_at(&assumed, i - n);
        const char *text = NULL;
        COP_TRY(cop_json_text(&note, NULL, COP_JSON_REQUIRED, &text));
    }
    return COP_OK;
}

static cop_status read_rates(const cop_json *root, cop_gpu_figures *gpu) {
    cop_gpu_model *model = &gpu->model;
    const struct {
        const char *key;
        double min, max;
        double *out;
    } rates[] = {
        {"dram_bytes_per_s", 1e9, 1e15, &gpu->dram_bytes_per_s},
        {"dram_reached_bytes_per_s", 1e9, 1e15, &model->dram_bytes_per_s},
        {"bf16_mma_flops_per_s", 1e9, 1e18, &gpu->bf16_mma_flops_per_s},
        {"l2_bytes_per_s", 1e9, 1e15, &model->l2_bytes_per_s},
        {"block_bytes_per_s", 1e6, 1e15, &model->block_bytes_per_s},
        {"item_s", 0, 1, &model->item_s},
        {"launch_s", 0, 1, &model->launch_s},
    };
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++)
        COP_TRY(cop_json_f64(root, rates[i].key, rates[i].min, rates[i].max, COP_JSON_REQUIRED,
                             rates[i].out));
    if (model->dram_bytes_per_s > gpu->dram_bytes_per_s)
        return cop_json_fail(root, "dram_reached_bytes_per_s", "is more than dram_bytes_per_s");
    return COP_OK;
}

static cop_status read_root(const cop_json *root, cop_gpu_figures *gpu) {
    const char *name = NULL;
    COP_TRY(COP_JSON_ONLY(root, "name", "compute_capability", "processors", "blocks_per_processor",
                          "memory_bytes", "l2_bytes", "dram_bytes_per_s",
                          "dram_reached_bytes_per_s", "bf16_mma_flops_per_s", "l2_bytes_per_s",
                          "block_bytes_per_s", "item_s", "launch_s", "sources", "assumed"));
    COP_TRY(cop_json_text(root, "name", COP_JSON_REQUIRED, &name));
    snprintf(gpu->name, sizeof gpu->name, "%s", name);
    COP_TRY(cop_json_u32(root, "compute_capability", 80, 999, COP_JSON_REQUIRED,
                         &gpu->compute_capability));
    COP_TRY(cop_json_u32(root, "processors", 1, 4096, COP_JSON_REQUIRED, &gpu->processors));
    COP_TRY(cop_json_u32(root, "blocks_per_processor", 1, 32, COP_JSON_REQUIRED,
                         &gpu->blocks_per_processor));
    COP_TRY(
        cop_json_u64(root, "memory_bytes", 1, INT64_MAX, COP_JSON_REQUIRED, &gpu->memory_bytes));
    COP_TRY(cop_json_u64(root, "l2_bytes", 1, INT64_MAX, COP_JSON_REQUIRED, &gpu->l2_bytes));
    COP_TRY(read_rates(root, gpu));
    gpu->model.resident_blocks = gpu->processors * gpu->blocks_per_processor;
    return read_notes(root);
}

cop_status cop_gpu_figures_load(const char *path, cop_gpu_figures *out) {
    cop_json root;
    *out = (cop_gpu_figures){0};
    cop_status status = cop_json_load(path, &root);
    if (status == COP_OK)
        status = read_root(&root, out);
    cop_json_release(&root);
    return status;
}
