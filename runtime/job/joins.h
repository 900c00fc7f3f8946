/* One trajectory under every way to join, on the cpu backend: teacher-forced, the rows after each
 * join compared between them (measure/joins_table.h says what is compared).
 *
 * All tracks walk the recorded tree together, so that a row's logits are held for as long as its
 * comparison takes and no longer. Tracks of one arithmetic share a backend and a KV pool; where
 * two stand on the same view at the same position, as all do before the first join, one pass
 * serves both. Branches run one after the other, each token as a row of a prefill: the bits are
 * those of decoding. So the time of joins is measured, and that of decoding is not: `replay` is.
 *
 * A dialect that joins by message says what its paths return, and has one track more. What a path
 * itself was sent is not in a record, so that track has no figures inside paths.
 *
 * Inside its branch a path never sees its siblings, and all paths begin where their parent stands:
 * what the tracks change is what the text behind a join attends to, and where it stands.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "measure/joins_table.h"
#include "reason/trajectory.h"

typedef struct cop_joins_options {
    cop_arith arith, other; /* other: of the band that compares two arithmetics */
    uint32_t n_threads;     /* 0: all that the process may use */
    const char *isa;        /* NULL: the best */
    uint32_t after_max;     /* only so many tokens after each join; 0: all */
    bool allow_extrapolation;
    const cop_dialect *dialect;   /* the trajectory's, where it is known: what paths return if it
                                     joins by message. May be NULL */
    const atomic_bool *interrupt; /* may be NULL */
    /* For oracles: the logits of each row that is compared, as they come. May be NULL. */
    void (*listener)(void *context, uint32_t track, uint32_t token, const float *logits);
    void *context;
} cop_joins_options;

/* The trajectory's pieces have their ids. `table` is the caller's to release, whatever happens; its
 * strings borrow from model and trajectory. ERR_UNSUPPORTED where the trajectory has no join. */
cop_status cop_joins_run(const cop_model *model, const cop_trajectory *trajectory,
                         const cop_joins_options *options, cop_joins_table *table);
