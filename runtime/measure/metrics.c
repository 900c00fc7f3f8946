#include "measure/metrics.h"

#include <math.h>

static const char *const names[] = {
#define COP_TERM_NAME(name, key, text) key,
    COP_TERM_MAP(COP_TERM_NAME)
#undef COP_TERM_NAME
};

static const char *const texts[] = {
#define COP_TERM_TEXT(name, key, text) text,
    COP_TERM_MAP(COP_TERM_TEXT)
#undef COP_TERM_TEXT
};

const char *cop_term_name(cop_term term) {
    return names[term];
}

const char *cop_term_text(cop_term term) {
    return texts[term];
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

bool cop_metrics_counts_loads(const cop_metrics *m) {
    return m->kv_load_bytes > 0 || m->kv_min_bytes == 0;
}

void cop_metrics_add(cop_metrics *a, const cop_metrics *b) {
    a->single_row_ns += b->single_row_ns;
    a->single_row_bytes += b->single_row_bytes;
    a->decode_weight_gbps =
        a->single_row_ns ? (double)a->single_row_bytes / (double)a->single_row_ns : NAN;
    if (a->ttft_ns == 0)
        a->ttft_ns = b->ttft_ns;
    a->wall_ns += b->wall_ns;
    for (int term = 0; term < COP_TERM_COUNT; term++)
        a->term_ns[term] += b->term_ns[term];
    a->mixed_ns += b->mixed_ns;
    a->solo_ns += b->solo_ns;
    a->tax_ns += b->tax_ns;
    a->tokens_prompt += b->tokens_prompt;
    a->tokens_total += b->tokens_total;
    a->tokens_forced += b->tokens_forced;
    a->tokens_longest_thread += b->tokens_longest_thread;
    a->tokens_critical_path += b->tokens_critical_path;
    a->tokens_critical_path_async += b->tokens_critical_path_async;
    a->tokens_reprefilled += b->tokens_reprefilled;
    a->tokens_reused += b->tokens_reused;
    a->tokens_prefix_reused += b->tokens_prefix_reused;
    a->prefix_lookups += b->prefix_lookups;
    a->prefix_hits += b->prefix_hits;
    a->prefix_evicted += b->prefix_evicted;
    a->prefix_fill_tokens += b->prefix_fill_tokens;
    a->prefix_fill_ns += b->prefix_fill_ns;
    a->tokens_pruned += b->tokens_pruned;
    a->tokens_dropped += b->tokens_dropped;
    cop_seen_merge(&a->seen, &b->seen);
    a->steps_forward += b->steps_forward;
    a->rows += b->rows;
    a->branches_parked += b->branches_parked;
    a->branches_shed += b->branches_shed;
    a->tokens_recomputed += b->tokens_recomputed;
    a->rows_taken_back += b->rows_taken_back;
    a->forks += b->forks;
    a->joins += b->joins;
    a->prunes += b->prunes;
    a->branches += b->branches;
    a->branches_live_peak = larger(a->branches_live_peak, b->branches_live_peak);
    a->failed_rows += b->failed_rows;
    a->kv_load_bytes += b->kv_load_bytes;
    a->kv_first_bytes += b->kv_first_bytes;
    a->kv_min_bytes += b->kv_min_bytes;
    a->kv_predicted_load_bytes += b->kv_predicted_load_bytes;
    a->kv_predicted_first_bytes += b->kv_predicted_first_bytes;
    a->kv_append_bytes += b->kv_append_bytes;
    a->kv_partial_bytes += b->kv_partial_bytes;
    a->kv_pages_total = larger(a->kv_pages_total, b->kv_pages_total);
    a->kv_pages_peak = larger(a->kv_pages_peak, b->kv_pages_peak);
    a->kv_pages_leaked += b->kv_pages_leaked;
    a->kv_tiles += b->kv_tiles;
    for (unsigned op = 0; op < sizeof a->op_ns / sizeof a->op_ns[0]; op++)
        a->op_ns[op] += b->op_ns[op];
    a->timed_steps += b->timed_steps;
    a->weight_bytes += b->weight_bytes;
    a->allocations_in_steps += b->allocations_in_steps;
    a->plan_steps_unchanged += b->plan_steps_unchanged;
    a->plan_rebuilds += b->plan_rebuilds;
    a->upload_bytes += b->upload_bytes;
    a->upload_steps += b->upload_steps;
    a->waits += b->waits;
    a->device_allocations += b->device_allocations;
    a->launches += b->launches;
    a->graph_launches += b->graph_launches;
    a->captures += b->captures;
    a->device_idle_ns += b->device_idle_ns;
}
