#include <math.h>

#include "backend/backend.h"
#include "measure/results.h"

static const char *const op_names[] = {"embed",     "norm", "product", "append",
                                       "attention", "act",  "logits",  "sample"};
_Static_assert(sizeof op_names / sizeof op_names[0] == COP_OP_COUNT, "one name an operation");
_Static_assert(sizeof((cop_metrics *)0)->op_ns / sizeof(uint64_t) == COP_OP_COUNT,
               "one time an operation");

/* JSON has no NaN, and json_real gives NULL for one, which loses the key: write null and say why.
 */
static int set_null(json_t *object, const char *name, const char *why) {
    char why_name[64];
    snprintf(why_name, sizeof why_name, "%s_why", name);
    return json_object_set_new(object, name, json_null()) |
           json_object_set_new(object, why_name, json_string(why));
}

static int set_real(json_t *object, const char *name, double value, const char *why) {
    return isfinite(value) ? json_object_set_new(object, name, json_real(value))
                           : set_null(object, name, why);
}

static int set_count(json_t *object, const char *name, uint64_t value) {
    return value <= INT64_MAX ? json_object_set_new(object, name, json_integer((json_int_t)value))
                              : set_null(object, name, "beyond 2^63 - 1");
}

static int set_ms(json_t *object, const char *name, uint64_t ns) {
    return json_object_set_new(object, name, json_real((double)ns / 1e6));
}

static double ratio(double part, double whole) {
    return whole == 0 ? NAN : part / whole;
}

/* Each group is made, filled and handed over; a failed set anywhere leaves `failed` set. */
static json_t *time_group(const cop_metrics *m, int *failed) {
    json_t *group = json_object(), *terms = json_object(), *modelled = json_object();
    uint64_t sum = 0;
    for (int term = 0; term < COP_TERM_COUNT; term++) {
        sum += m->term_ns[term];
        *failed |= set_ms(terms, cop_term_name((cop_term)term), m->term_ns[term]);
    }
    /* Terms that overlap would make it negative: that must show, not wrap. */
    double remainder_ns = (double)((int64_t)m->wall_ns - (int64_t)sum);
    *failed |= set_ms(group, "wall_ms", m->wall_ns);
    *failed |= json_object_set_new(group, "terms_ms", terms);
    *failed |= set_real(group, "remainder_ms", remainder_ns / 1e6, "no time was taken");
    *failed |= set_real(group, "remainder_share", ratio(remainder_ns, (double)m->wall_ns),
                        "no time was taken");
    *failed |= set_ms(group, "mixed_ms", m->mixed_ns);
    *failed |= set_real(group, "mixed_share", ratio((double)m->mixed_ns, (double)m->wall_ns),
                        "no time was taken");
    *failed |= set_real(modelled, "solo_ms", m->solo_ns / 1e6, "the cost function was not fitted");
    *failed |= set_real(modelled, "tax_ms", m->tax_ns / 1e6, "the cost function was not fitted");
    *failed |= set_real(modelled, "tax_share", ratio(m->tax_ns, m->solo_ns + m->tax_ns),
                        "no modelled decode time");
    *failed |= json_object_set_new(group, "modelled", modelled);
    bool none = m->tokens_total == 0 || m->ttft_ns == 0;
    *failed |= none ? set_null(group, "ttft_ms", "no token was generated")
                    : set_ms(group, "ttft_ms", m->ttft_ns);
    bool tpot = !none && m->tokens_total > 1 && m->wall_ns >= m->ttft_ns;
    *failed |= set_real(
        group, "tpot_ms",
        tpot ? (double)(m->wall_ns - m->ttft_ns) / 1e6 / (double)(m->tokens_total - 1) : NAN,
        "fewer than two tokens were generated");
    *failed |=
        set_real(group, "tokens_per_s", ratio((double)m->tokens_total, (double)m->wall_ns / 1e9),
                 "no time was taken");
    return group;
}

static json_t *tokens_group(const cop_metrics *m, int *failed) {
    json_t *group = json_object();
    *failed |= set_count(group, "prompt", m->tokens_prompt);
    *failed |= set_count(group, "total", m->tokens_total);
    *failed |= set_count(group, "forced", m->tokens_forced);
    *failed |= set_count(group, "longest_thread", m->tokens_longest_thread);
    *failed |= set_count(group, "critical_path", m->tokens_critical_path);
    *failed |= set_count(group, "critical_path_async", m->tokens_critical_path_async);
    *failed |= set_count(group, "reprefilled", m->tokens_reprefilled);
    *failed |= set_count(group, "reused", m->tokens_reused);
    *failed |= set_count(group, "prefix_reused", m->tokens_prefix_reused);
    *failed |= set_count(group, "pruned", m->tokens_pruned);
    *failed |= set_count(group, "dropped", m->tokens_dropped);
    *failed |= m->tokens_pruned <= m->tokens_total
                   ? set_count(group, "kept", m->tokens_total - m->tokens_pruned)
                   : set_null(group, "kept", "more tokens pruned than generated");
    return group;
}

static json_t *ratio_group(const cop_metrics *m, int *failed) {
    json_t *group = json_object();
    double total = (double)m->tokens_total;
    double work = total + (double)(m->tokens_prompt + m->tokens_forced + m->tokens_reprefilled);
    *failed |=
        set_real(group, "acceleration_code", 1 - ratio((double)m->tokens_longest_thread, total),
                 "no token was generated");
    *failed |= set_real(group, "parallelism", ratio(work, (double)m->tokens_critical_path),
                        "no token was generated");
    return group;
}

/* Bins that hold something, from their smallest value; of both kinds. */
static json_t *seen_bins(const cop_context_seen *seen, int *failed) {
    json_t *bins = json_pack("{s:[], s:[], s:[]}", "from", cop_seen_kind_name(COP_SEEN_ALONE),
                             cop_seen_kind_name(COP_SEEN_SIBLINGS));
    for (uint32_t bin = 0; bin < COP_SEEN_BINS; bin++) {
        if (!seen->bins[COP_SEEN_ALONE][bin] && !seen->bins[COP_SEEN_SIBLINGS][bin])
            continue;
        *failed |= json_array_append_new(json_object_get(bins, "from"),
                                         json_integer((json_int_t)cop_seen_bin_from(bin)));
        for (int kind = 0; kind < COP_SEEN_KINDS; kind++)
            *failed |= json_array_append_new(
                json_object_get(bins, cop_seen_kind_name((cop_seen_kind)kind)),
                json_integer((json_int_t)seen->bins[kind][bin]));
    }
    return bins;
}

static json_t *context_group(const cop_metrics *m, int *failed) {
    static const char none[] = "no token was generated";
    const cop_context_seen *seen = &m->seen;
    json_t *group = json_object(), *out = json_object();
    double tokens = (double)(seen->tokens[COP_SEEN_ALONE] + seen->tokens[COP_SEEN_SIBLINGS]);
    double sum = (double)(seen->sum[COP_SEEN_ALONE] + seen->sum[COP_SEEN_SIBLINGS]);
    *failed |= set_real(out, "mean", ratio(sum, tokens), none);
    *failed |= set_real(out, "p50", cop_seen_percentile(seen, 0.5), none);
    *failed |= set_real(out, "p90", cop_seen_percentile(seen, 0.9), none);
    *failed |= set_count(out, "max", seen->max);
    for (int kind = 0; kind < COP_SEEN_KINDS; kind++) {
        json_t *one = json_object();
        *failed |= set_count(one, "tokens", seen->tokens[kind]);
        *failed |= set_real(one, "mean", ratio((double)seen->sum[kind], (double)seen->tokens[kind]),
                            "no such token was generated");
        *failed |= json_object_set_new(out, cop_seen_kind_name((cop_seen_kind)kind), one);
    }
    *failed |= json_object_set_new(out, "bins", seen_bins(seen, failed));
    *failed |= json_object_set_new(group, "seen", out);
    return group;
}

static json_t *steps_group(const cop_metrics *m, int *failed) {
    json_t *group = json_object();
    *failed |= set_count(group, "forward", m->steps_forward);
    *failed |= set_count(group, "rows", m->rows);
    *failed |= set_count(group, "rows_taken_back", m->rows_taken_back);
    *failed |= set_count(group, "branches_parked", m->branches_parked);
    *failed |= set_count(group, "branches_shed", m->branches_shed);
    *failed |= set_count(group, "tokens_recomputed", m->tokens_recomputed);
    *failed |= set_real(group, "rows_mean", ratio((double)m->rows, (double)m->steps_forward),
                        "no step was run");
    *failed |= set_count(group, "failed_rows", m->failed_rows);
    return group;
}

static json_t *branches_group(const cop_metrics *m, int *failed) {
    json_t *group = json_object();
    *failed |= set_count(group, "count", m->branches);
    *failed |= set_count(group, "live_peak", m->branches_live_peak);
    *failed |= set_count(group, "forks", m->forks);
    *failed |= set_count(group, "joins", m->joins);
    *failed |= set_count(group, "prunes", m->prunes);
    return group;
}

/* Bytes at the load: a device's kernels do not count theirs. */
static int set_loaded(json_t *group, const char *name, const cop_metrics *m, uint64_t bytes) {
    return cop_metrics_counts_loads(m) ? set_count(group, name, bytes)
                                       : set_null(group, name, "this backend counts no loads");
}

static json_t *kv_group(const cop_metrics *m, int *failed) {
    json_t *group = json_object();
    double min = (double)m->kv_min_bytes;
    *failed |= set_loaded(group, "load_bytes", m, m->kv_load_bytes);
    *failed |= set_loaded(group, "first_bytes", m, m->kv_first_bytes);
    *failed |= set_count(group, "min_bytes", m->kv_min_bytes);
    const bool counts = cop_metrics_counts_loads(m);
    const char *none = counts ? "no KV byte was needed" : "this backend counts no loads";
    *failed |=
        set_real(group, "load_over_min", counts ? ratio((double)m->kv_load_bytes, min) : NAN, none);
    *failed |= set_real(group, "first_over_min",
                        counts ? ratio((double)m->kv_first_bytes, min) : NAN, none);
    *failed |= set_count(group, "tiles", m->kv_tiles);
    *failed |= set_real(group, "tiles_per_step",
                        ratio((double)m->kv_tiles, (double)m->steps_forward), "no step was run");
    *failed |= set_count(group, "predicted_load_bytes", m->kv_predicted_load_bytes);
    *failed |= set_count(group, "predicted_first_bytes", m->kv_predicted_first_bytes);
    *failed |= set_loaded(group, "append_bytes", m, m->kv_append_bytes);
    *failed |= set_loaded(group, "partial_bytes", m, m->kv_partial_bytes);
    *failed |= set_count(group, "pages_total", m->kv_pages_total);
    *failed |= set_count(group, "prefix_lookups", m->prefix_lookups);
    *failed |= set_count(group, "prefix_hits", m->prefix_hits);
    *failed |= set_count(group, "prefix_evicted", m->prefix_evicted);
    *failed |= set_count(group, "prefix_fill_tokens", m->prefix_fill_tokens);
    *failed |= set_ms(group, "prefix_fill_ms", m->prefix_fill_ns);
    *failed |= set_count(group, "pages_peak", m->kv_pages_peak);
    *failed |= set_count(group, "pages_leaked", m->kv_pages_leaked);
    return group;
}

static json_t *machine_group(const cop_metrics *m, int *failed) {
    json_t *group = json_object(), *ops = json_object();
    for (int op = 0; op < COP_OP_COUNT; op++)
        *failed |= m->timed_steps ? set_ms(ops, op_names[op], m->op_ns[op])
                                  : set_null(ops, op_names[op], "no step was timed");
    *failed |= json_object_set_new(group, "op_ms", ops);
    *failed |= set_count(group, "timed_steps", m->timed_steps);
    *failed |= set_count(group, "weight_bytes", m->weight_bytes);
    *failed |= set_real(group, "decode_weight_gbps", m->decode_weight_gbps,
                        "no step had exactly one decode row");
    *failed |= set_count(group, "allocations_in_steps", m->allocations_in_steps);
    *failed |= set_count(group, "plan_steps_unchanged", m->plan_steps_unchanged);
    *failed |= set_count(group, "plan_rebuilds", m->plan_rebuilds);
    return group;
}

static json_t *device_group(const cop_metrics *m, int *failed) {
    static const char none[] = "no step was run";
    json_t *group = json_object();
    const double steps = (double)m->steps_forward;
    *failed |= set_count(group, "upload_bytes", m->upload_bytes);
    *failed |=
        set_real(group, "upload_bytes_per_step", ratio((double)m->upload_bytes, steps), none);
    *failed |= set_count(group, "upload_steps", m->upload_steps);
    *failed |= set_count(group, "waits", m->waits);
    *failed |= set_real(group, "waits_per_step", ratio((double)m->waits, steps), none);
    *failed |= set_count(group, "allocations", m->device_allocations);
    *failed |= set_count(group, "launches", m->launches);
    *failed |= set_real(group, "launches_per_step", ratio((double)m->launches, steps), none);
    *failed |= set_count(group, "graph_launches", m->graph_launches);
    *failed |=
        set_real(group, "graph_launches_per_step", ratio((double)m->graph_launches, steps), none);
    *failed |= set_count(group, "captures", m->captures);
    *failed |= set_ms(group, "idle_ms", m->device_idle_ns);
    *failed |=
        set_real(group, "idle_us_per_step", ratio((double)m->device_idle_ns / 1e3, steps), none);
    return group;
}

json_t *cop_metrics_to_json(const cop_metrics *metrics) {
    json_t *root = json_object();
    int failed = 0;
    failed |= json_object_set_new(root, "valid", json_boolean(metrics->failed_rows == 0));
    if (metrics->failed_rows)
        failed |= json_object_set_new(root, "valid_why",
                                      json_string("rows held values that are not finite"));
    failed |= json_object_set_new(root, "time", time_group(metrics, &failed));
    failed |= json_object_set_new(root, "tokens", tokens_group(metrics, &failed));
    failed |= json_object_set_new(root, "ratio", ratio_group(metrics, &failed));
    failed |= json_object_set_new(root, "context", context_group(metrics, &failed));
    failed |= json_object_set_new(root, "steps", steps_group(metrics, &failed));
    failed |= json_object_set_new(root, "branches", branches_group(metrics, &failed));
    failed |= json_object_set_new(root, "kv", kv_group(metrics, &failed));
    failed |= json_object_set_new(root, "machine", machine_group(metrics, &failed));
    failed |= json_object_set_new(root, "device", device_group(metrics, &failed));
    if (!failed)
        return root;
    json_decref(root);
    return NULL;
}
