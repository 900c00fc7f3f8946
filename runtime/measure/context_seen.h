/* context.seen: for each generated token, how many tokens it attended to: those that the row saw
 * from which it was sampled, that row's own token included. What context rot is about: a method
 * that splits its work lets its branches see less.
 *
 * Kept apart for tokens of branches that run ALONE (no branch of the run has a sibling above or
 * beside it) and those that have SIBLINGS, at any depth. Fixed bins, exact sums: plain data that is
 * added to without allocating.
 */
#pragma once

#include <stdint.h>

typedef enum cop_seen_kind { COP_SEEN_ALONE, COP_SEEN_SIBLINGS, COP_SEEN_KINDS } cop_seen_kind;
const char *cop_seen_kind_name(cop_seen_kind kind); /* "alone", "siblings" */

/* Below 8 a bin each, then four to a doubling, up to 2^24 - 1; the last one holds all above. */
enum { COP_SEEN_BINS = 8 + 4 * 21 };

typedef struct cop_context_seen {
    uint64_t bins[COP_SEEN_KINDS][COP_SEEN_BINS];
    uint64_t tokens[COP_SEEN_KINDS], sum[COP_SEEN_KINDS], max;
} cop_context_seen;

void cop_seen_add(cop_context_seen *seen, cop_seen_kind kind, uint64_t view, uint64_t tokens);
void cop_seen_merge(cop_context_seen *into, const cop_context_seen *more);

uint32_t cop_seen_bin(uint64_t view);
uint64_t
cop_seen_bin_from(uint32_t bin); /* the smallest value in it; bin = COP_SEEN_BINS: the end */

/* Of both kinds. Inside a bin values are taken as spread evenly, so it is exact below 8 and within
 * an eighth above. NaN: no token. 0 <= share <= 1. */
double cop_seen_percentile(const cop_context_seen *seen, double share);
