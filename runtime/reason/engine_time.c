#include "reason/engine_internal.h"

#include <time.h>

#include "base/clock.h"

/* Profilers see the terms, and the steps between them, under the names of results and traces. */
void cop__engine_range(cop_engine *engine, const char *name) {
    if (!engine->ops->range)
        return;
    if (engine->in_range)
        engine->ops->range(NULL);
    if (name)
        engine->ops->range(name);
    engine->in_range = name != NULL;
}

/* COP_TERM_COUNT stands for no term: time in it is part of the remainder. */
cop_term cop__engine_enter(cop_engine *engine, cop_term term) {
    uint64_t now = cop_clock_ns();
    cop_term left = engine->term;
    if (left != COP_TERM_COUNT)
        engine->metrics->term_ns[left] += now - engine->mark_ns;
    engine->mark_ns = now;
    engine->term = term;
    cop__engine_range(engine, term == COP_TERM_COUNT ? NULL : cop_term_name(term));
    return left;
}

/* What each term has of the step being built, in proportion to what its rows cost (products and
 * attention, in flops). */
void cop__engine_shares(const cop_engine *engine, double share[COP_TERM_COUNT]) {
    const cop_model_shape *shape = cop_model_shape_of(engine->model);
    double width = (double)shape->head_dim * (shape->n_heads * 2 + shape->n_kv_heads * 2);
    double product_flops = 2.0 * shape->hidden * (width + 3.0 * shape->ffn);
    double key_flops = 4.0 * shape->head_dim * shape->n_heads;
    double total = 0;
    for (uint32_t term = 0; term < COP_TERM_COUNT; term++)
        share[term] = 0;
    for (uint32_t row = 0; row < engine->n_rows; row++) {
        double cost = product_flops + key_flops * (double)engine->row_view[row];
        share[engine->row_term[row]] += cost;
        total += cost;
    }
    for (uint32_t term = 0; term < COP_TERM_COUNT; term++)
        share[term] /= total;
}

void cop__engine_leave_split(cop_engine *engine, uint64_t begin_ns,
                             const double share[COP_TERM_COUNT]) {
    uint64_t now = cop_clock_ns();
    uint64_t spent = now - begin_ns, left = spent;
    uint32_t kinds = 0, last = COP_TERM_DECODE;
    engine->mark_ns = now;
    engine->term = COP_TERM_COUNT;
    cop__engine_range(engine, NULL);
    for (uint32_t term = 0; term < COP_TERM_COUNT; term++) {
        if (share[term] > 0) {
            kinds++;
            last = term;
        }
    }
    for (uint32_t term = 0; term < last; term++) {
        uint64_t part = (uint64_t)((double)spent * share[term]);
        engine->metrics->term_ns[term] += part;
        left -= part;
    }
    engine->metrics->term_ns[last] += left;
    if (kinds > 1)
        engine->metrics->mixed_ns += spent;
}

void cop__engine_delay(cop_engine *engine, cop_term term) {
    uint64_t ns = engine->options.inject_ns[term];
    if (ns == 0)
        return;
    struct timespec span = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    uint64_t begin = cop_clock_ns();
    nanosleep(&span, NULL);
    engine->injected_ns[term] += cop_clock_ns() - begin;
}

uint64_t cop_engine_injected_ns(const cop_engine *engine, cop_term term) {
    return engine->injected_ns[term];
}

/* Time of a decode step with `rows` rows that load `load_bytes` of KV: the measured time at that
 * row count (linear between the measured counts), corrected for KV bytes at the measured rate. */
double cop__step_model_ns(const cop_step_model *model, double rows, double load_bytes) {
    uint32_t i = 0;
    while (i + 2 < model->n && model->rows[i + 1] < rows)
        i++;
    uint32_t j = model->n > 1 ? i + 1 : i;
    double span = (double)model->rows[j] - model->rows[i];
    double at = span > 0 ? (rows - model->rows[i]) / span : 0;
    double ns = model->ns[i] + at * (model->ns[j] - model->ns[i]);
    double bytes = model->load_bytes[i] + at * (model->load_bytes[j] - model->load_bytes[i]);
    ns += model->ns_per_byte * (load_bytes - bytes);
    return ns > 1 ? ns : 1;
}

void cop__engine_event(cop_engine *engine, cop_event_kind kind, cop_branch branch, uint32_t other,
                       uint64_t value) {
    const bool cut = kind == COP_EVENT_BRANCH_END && other != COP_END_DONE;
    if (cut && engine->ops->range) { /* a mark: it lies inside the range of the running term */
        engine->ops->range("prune");
        engine->ops->range(NULL);
    }
    if (!engine->options.timeline)
        return;
    cop_event event = {.t_ns = cop_clock_ns() - engine->begin_ns,
                       .kind = kind,
                       .branch =
                           branch == COP_BRANCH_NONE ? branch : engine->branches[branch].serial,
                       .other = other,
                       .value = value};
    if (branch != COP_BRANCH_NONE)
        event.problem = engine->branches[branch].problem;
    cop_timeline_add(engine->options.timeline, event);
}
