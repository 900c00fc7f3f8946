/* What a step is worth: KV bytes straight from the views, so that what the plan makes tiles load
 * can be held against them, and the modelled split of decode time. */
#include <math.h>

#include "reason/engine_internal.h"

/* Unique KV tokens that a view sees, added to those of the step so far. */
static uint64_t count_view(cop_engine *engine, cop_node node, uint32_t own_tokens) {
    uint32_t step = (uint32_t)engine->metrics->steps_forward + 1;
    uint64_t fresh = 0;
    for (bool own = true;; own = false) {
        cop_node_info info = cop_kv_node(engine->kv, node);
        if (info.segment == COP_SEGMENT_NONE)
            return fresh;
        uint32_t segment = info.segment;
        uint32_t tokens = own ? own_tokens : cop_kv_segments(engine->kv)[segment].tokens;
        if (engine->segment_step[segment] != step) {
            engine->segment_step[segment] = step;
            engine->segment_tokens[segment] = 0;
        }
        if (tokens > engine->segment_tokens[segment]) {
            fresh += tokens - engine->segment_tokens[segment];
            engine->segment_tokens[segment] = tokens;
        }
        node = info.parent;
    }
}

static uint64_t count_unique_tokens(cop_engine *engine) {
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < engine->n_decode; i++) {
        cop_node node = engine->branches[engine->decode_branch[i]].node;
        uint32_t segment = cop_kv_node(engine->kv, node).segment;
        tokens += count_view(engine, node, cop_kv_segments(engine->kv)[segment].tokens);
    }
    for (uint32_t i = 0; i < engine->n_runs; i++) {
        const cop_prefill_run *run = &engine->plan_runs[i];
        tokens += count_view(engine, run->node, run->first + run->tokens);
    }
    return tokens;
}

/* Counts a step from its plan and its views, or from the step before where only lengths grew. */
static void count_tokens(cop_engine *engine, const cop_plan_tables *tables) {
    cop_step_count *c = &engine->last_count;
    uint64_t view_sum = 0;
    for (uint32_t row = 0; row < engine->n_rows; row++)
        view_sum += engine->row_view[row];
    const uint64_t grown = view_sum - c->view_sum; /* or less, modulo 2^64 */
    c->view_sum = view_sum;
    if (c->known && c->epoch == tables->epoch && engine->n_runs == 0) {
        c->unique += grown;
        c->load_tokens += grown;
        c->first_tokens += grown;
        return;
    }
    const cop_attention_shape *a = &engine->attention;
    const uint64_t token_bytes = 2ull * a->n_kv_heads * a->head_dim * a->kv_element_bytes;
    cop_attention_cost cost;
    cop_cost_attention(tables, engine->max_segments, a, engine->seen, &cost);
    c->unique = count_unique_tokens(engine);
    c->load_tokens = cost.kv_load_bytes / token_bytes;
    c->first_tokens = cost.kv_first_bytes / token_bytes;
    c->epoch = tables->epoch;
    c->known = engine->n_runs == 0;
}

void cop__engine_count_step(cop_engine *engine, const cop_plan_tables *tables) {
    cop_metrics *m = engine->metrics;
    const cop_attention_shape *a = &engine->attention;
    const uint64_t token_bytes = 2ull * a->n_kv_heads * a->head_dim * a->kv_element_bytes *
                                 cop_model_shape_of(engine->model)->n_layers;
    count_tokens(engine, tables);
    m->kv_min_bytes += engine->last_count.unique * token_bytes;
    m->kv_predicted_load_bytes += engine->last_count.load_tokens * token_bytes;
    m->kv_predicted_first_bytes += engine->last_count.first_tokens * token_bytes;
    m->kv_tiles += tables->n_tiles;
    m->steps_forward++;
    m->rows += engine->n_rows;
    if (engine->n_decode > m->branches_live_peak)
        m->branches_live_peak = engine->n_decode;
}

/* Whether the branch, or one that it stands on, was opened beside others. */
bool cop__engine_has_siblings(const cop_engine *engine, const cop_branch_record *branch) {
    for (cop_branch id = branch->parent; id != COP_BRANCH_NONE; id = engine->branches[id].parent)
        if (engine->branches[id].n_children > 1 || engine->branches[id].beside)
            return true;
    return false;
}

void cop__engine_count_seen(cop_engine *engine, cop_problem_result *result, bool siblings,
                            uint64_t view, uint64_t n) {
    if (n == 0)
        return;
    cop_seen_add(&engine->metrics->seen, siblings ? COP_SEEN_SIBLINGS : COP_SEEN_ALONE, view, n);
    result->seen_sum += view * n;
    result->seen_max = view > result->seen_max ? view : result->seen_max;
}

/* The modelled split of a pure decode step: what its longest row would have cost alone, and the
 * rest. */
static void split_decode(cop_engine *engine, const cop_flight *flight, uint64_t ns) {
    if (flight->n_runs > 0 || flight->n_decode == 0)
        return;
    engine->pure_steps++;
    engine->pure_ns += ns;
    engine->pure_load_bytes += flight->load_bytes;
    double solo = (double)ns;
    if (flight->n_decode > 1) {
        const cop_attention_shape *a = &engine->attention;
        double token_bytes = 2.0 * a->n_kv_heads * a->head_dim * a->kv_element_bytes *
                             cop_model_shape_of(engine->model)->n_layers;
        const cop_step_model *model = &engine->model_of_steps;
        solo = model->n == 0
                   ? NAN
                   : (double)ns *
                         cop__step_model_ns(model, 1, (double)flight->longest_view * token_bytes) /
                         cop__step_model_ns(model, flight->n_decode, (double)flight->load_bytes);
        if (solo > (double)ns)
            solo = (double)ns;
    }
    engine->metrics->solo_ns += solo;
    engine->metrics->tax_ns += (double)ns - solo;
}

void cop__engine_count_decode(cop_engine *engine, const cop_flight *flight, uint64_t ns) {
    if (flight->n_decode == 1 && flight->n_runs == 0) {
        engine->single_ns += ns;
        engine->single_bytes += flight->weight_bytes;
    }
    split_decode(engine, flight, ns);
}
