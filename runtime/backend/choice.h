/* What a command line or a config says of where the work is computed, and the profiler's steps.
 *
 * An option that the chosen backend would pass over in silence is refused, so that a result never
 * names a setting that had no effect. Steps under the profiler count from 1; the caller numbers
 * them, because a step may be begun before the one ahead of it has given its samples.
 */
#pragma once

#include "backend/backend.h"

typedef struct cop_backend_choice {
    const char *name; /* NULL: cpu */
    cop_products_mode products;
    uint32_t device;
    bool eager;
    uint32_t time_every;
    uint32_t profile_first, profile_last; /* 0, 0: none */
} cop_backend_choice;

const char *cop_backend_choice_name(const cop_backend_choice *choice);
/* Finds the backend and holds the other options against it. */
cop_status cop_backend_choice_find(const cop_backend_choice *choice, const cop_backend_ops **out);

/* "A-B" with 1 <= A <= B. */
cop_status cop_profile_steps_parse(const char *text, uint32_t *first, uint32_t *last);

typedef struct cop_profile {
    uint32_t first, last; /* 0, 0: none */
    bool on;
} cop_profile;

/* Starts the profiler before its first step, and stops it after its last. */
cop_status cop_profile_before(cop_profile *profile, const cop_backend_ops *ops,
                              cop_backend *backend, uint64_t step);
cop_status cop_profile_after(cop_profile *profile, const cop_backend_ops *ops, cop_backend *backend,
                             uint64_t step);
