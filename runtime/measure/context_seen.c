#include "measure/context_seen.h"

#include <math.h>

enum { EXACT = 8, EXACT_LOG2 = 3, PER_DOUBLING = 4 };

const char *cop_seen_kind_name(cop_seen_kind kind) {
    static const char *const names[] = {"alone", "siblings"};
    return names[kind];
}

uint32_t cop_seen_bin(uint64_t view) {
    if (view < EXACT)
        return (uint32_t)view;
    uint32_t log2 = 63 - (uint32_t)__builtin_clzll(view);
    uint32_t bin = EXACT + (log2 - EXACT_LOG2) * PER_DOUBLING +
                   ((uint32_t)(view >> (log2 - 2)) & (PER_DOUBLING - 1));
    return bin < COP_SEEN_BINS ? bin : COP_SEEN_BINS - 1;
}

uint64_t cop_seen_bin_from(uint32_t bin) {
    if (bin < EXACT)
        return bin;
    uint32_t log2 = EXACT_LOG2 + (bin - EXACT) / PER_DOUBLING, part = (bin - EXACT) % PER_DOUBLING;
    return (uint64_t)(PER_DOUBLING + part) << (log2 - 2);
}

void cop_seen_add(cop_context_seen *seen, cop_seen_kind kind, uint64_t view, uint64_t tokens) {
    seen->bins[kind][cop_seen_bin(view)] += tokens;
    seen->tokens[kind] += tokens;
    seen->sum[kind] += view * tokens;
    seen->max = tokens && view > seen->max ? view : seen->max;
}

void cop_seen_merge(cop_context_seen *into, const cop_context_seen *more) {
    for (int kind = 0; kind < COP_SEEN_KINDS; kind++) {
        for (int bin = 0; bin < COP_SEEN_BINS; bin++)
            into->bins[kind][bin] += more->bins[kind][bin];
        into->tokens[kind] += more->tokens[kind];
        into->sum[kind] += more->sum[kind];
    }
    into->max = more->max > into->max ? more->max : into->max;
}

double cop_seen_percentile(const cop_context_seen *seen, double share) {
    double all = (double)(seen->tokens[COP_SEEN_ALONE] + seen->tokens[COP_SEEN_SIBLINGS]);
    double wanted = share * all, before = 0;
    if (all == 0)
        return NAN;
    for (uint32_t bin = 0; bin < COP_SEEN_BINS; bin++) {
        double here =
            (double)(seen->bins[COP_SEEN_ALONE][bin] + seen->bins[COP_SEEN_SIBLINGS][bin]);
        if (here > 0 && before + here >= wanted) {
            double from = (double)cop_seen_bin_from(bin);
            double last = (double)cop_seen_bin_from(bin + 1) - 1;
            last = last > (double)seen->max ? (double)seen->max : last;
            return from + (last - from) * (wanted - before) / here;
        }
        before += here;
    }
    return (double)seen->max;
}
