#include "job/plan_compare.h"

#include <math.h>

#include "base/memory.h"

static cop_status compare_others(const cop_tree_shape *shape, const cop_gpu_model *gpu,
                                 cop_plan_compare *c) {
    const uint32_t groups = cop_cost_segment_groups(&shape->tree);
    cop_cost_scratch scratch = {
        .items = {.tokens = cop_calloc(groups, sizeof(uint64_t)),
                  .count = cop_calloc(groups, sizeof(uint32_t)),
                  .blocks = cop_calloc(gpu->resident_blocks, sizeof(double))},
        .parts = cop_calloc(shape->tree.n_nodes, sizeof(uint32_t)),
    };
    cop_status status = COP_OK;
    if (!scratch.items.tokens || !scratch.items.count || !scratch.items.blocks || !scratch.parts)
        status =
            COP_FAIL(COP_ERR_NO_MEMORY, "no memory for the plans of %u nodes", shape->tree.n_nodes);
    c->segment.seconds = c->levels.seconds = INFINITY;
    for (uint32_t chunk = 256; status == COP_OK && chunk <= 2048; chunk *= 2) {
        cop_plan_cost segment, levels;
        cop_cost_segment_plan(&shape->tree, &c->heads, gpu, chunk, &scratch, &segment);
        cop_cost_level_plan(&segment, &shape->tree, gpu, &levels);
        if (segment.seconds < c->segment.seconds) {
            c->segment = segment;
            c->segment_chunk_tokens = chunk;
        }
        if (levels.seconds < c->levels.seconds) {
            c->levels = levels;
            c->levels_chunk_tokens = chunk;
        }
    }
    if (status == COP_OK)
        cop_cost_unshared_plan(&shape->tree, &c->heads, gpu, scratch.parts, &c->unshared);
    cop_free(scratch.items.tokens);
    cop_free(scratch.items.count);
    cop_free(scratch.items.blocks);
    cop_free(scratch.parts);
    return status;
}

/* All head configurations under one chunk rule, so that its tables are made once. */
static cop_status try_rule(const cop_tree_shape *shape, const cop_gpu_model *gpu, bool one_width,
                           uint32_t rule, cop_plan_compare *out) {
    cop_walk_search *search;
    COP_TRY(cop_walk_search_create(&shape->tree, cop_walk_rules[rule][0], cop_walk_rules[rule][1],
                                   &search));
    cop_status status = COP_OK;
    for (uint32_t h = 0; status == COP_OK && h < shape->n_heads; h++) {
        const cop_walk_question question = {
            .shape = out[h].heads, .gpu = *gpu, .one_width = one_width};
        cop_walk_choice choice;
        status = cop_walk_search_best(search, &question, &choice);
        if (status != COP_OK)
            break;
        if (rule == 0)
            out[h].walk = out[h].walk_best = choice;
        if (choice.cost.seconds < out[h].walk_best.cost.seconds)
            out[h].walk_best = choice;
    }
    cop_walk_search_destroy(search);
    return status;
}

cop_status cop_plan_compare_shape(const cop_tree_shape *shape, const cop_gpu_model *gpu,
                                  uint32_t kv_element_bytes, bool one_width,
                                  cop_plan_compare *out) {
    for (uint32_t h = 0; h < shape->n_heads; h++) {
        out[h] = (cop_plan_compare){.heads = {.n_heads = shape->heads[h][0],
                                              .n_kv_heads = shape->heads[h][1],
                                              .head_dim = shape->head_dim,
                                              .kv_element_bytes = kv_element_bytes}};
        out[h].minimum_bytes = cop_cost_minimum_bytes(&shape->tree, &out[h].heads);
        out[h].bound_s = cop_cost_bound_seconds(&shape->tree, &out[h].heads, gpu);
        COP_TRY(compare_others(shape, gpu, &out[h]));
    }
    for (uint32_t rule = 0; cop_walk_rules[rule][0]; rule++)
        COP_TRY(try_rule(shape, gpu, one_width, rule, out));
    return COP_OK;
}

static double larger(double a, double b) {
    return a > b ? a : b;
}

void cop_plan_means_add(cop_plan_means *means, const cop_plan_compare *one, double min_bound_s) {
    if (one->bound_s < min_bound_s)
        return;
    const double walk = one->walk.cost.seconds, best = one->walk_best.cost.seconds;
    const double segment = one->segment.seconds, levels = one->levels.seconds,
                 unshared = one->unshared.seconds;
    const double other = fmin(segment, fmin(levels, unshared));
    means->walk += log(walk / one->bound_s);
    means->walk_best += log(best / one->bound_s);
    means->segment += log(segment / one->bound_s);
    means->levels += log(levels / one->bound_s);
    means->unshared += log(unshared / one->bound_s);
    means->worst_walk = larger(means->worst_walk, walk / one->bound_s);
    means->worst_walk_best = larger(means->worst_walk_best, best / one->bound_s);
    means->worst_against_others = larger(means->worst_against_others, best / other);
    means->cases++;
}

cop_plan_means cop_plan_means_read(const cop_plan_means *sums) {
    cop_plan_means means = *sums;
    const double n = sums->cases ? sums->cases : 1;
    means.walk = exp(sums->walk / n);
    means.walk_best = exp(sums->walk_best / n);
    means.segment = exp(sums->segment / n);
    means.levels = exp(sums->levels / n);
    means.unshared = exp(sums->unshared / n);
    return means;
}
