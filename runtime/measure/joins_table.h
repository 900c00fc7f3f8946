/* What `coppice joins` found on one trajectory: how far the next-token distributions of one set of
 * weights lie apart under several ways to join.
 *
 * track     one way to join: what the text after a join attends to, and where it stands
 * token     a row after a join: under every track the same token of the recorded text
 * contrast  two tracks that are compared, row by row: a base and another
 *
 * Tracks differ in three things. Positions: the paths of a block and the text after it are numbered
 * in the order of the text, or all paths begin at one number and the text after them at 1 + the
 * largest. Visibility: the keys and values of a path that the text after the join attends to were
 * computed with the paths before it in view, or without. Recomputation: they are those of the
 * branch, or were computed again at the join.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

enum { COP_JOINS_TRACKS = 12, COP_JOINS_CONTRASTS = 16, COP_JOINS_OMITTED = 2 };

typedef struct cop_joins_track {
    const char *name;
    const char *keys, *siblings, *positions; /* the three things, in a word or two */
    const char *compute;                     /* the arithmetic */
    uint64_t join_ns;                        /* spent in joins: forward passes and bookkeeping */
    uint64_t tokens_recomputed;              /* whose keys and values joins computed again */
    uint64_t kv_written, kv_read;            /* bytes, by joins: counted where they are stored and
                                                loaded */
    uint64_t kv_seen;                        /* bytes of KV that the text's last token attends to */
} cop_joins_track;

typedef enum cop_joins_kind {
    COP_JOINS_AGAINST_REFERENCE, /* a join rule, or some of what sets it apart from re-prefill */
    COP_JOINS_ALONE,             /* one difference between two rules, everything else equal */
    COP_JOINS_BAND,              /* no difference in method: what is noise */
} cop_joins_kind;

typedef struct cop_joins_contrast {
    const char *name, *what; /* what: in a sentence */
    uint32_t track, base;
    cop_joins_kind kind;
} cop_joins_contrast;

typedef struct cop_joins_token {
    uint32_t token;   /* its place in the flattened text, the prompt included */
    uint32_t join;    /* the last join before it in its view, from 1 in the order of their ends */
    uint32_t after;   /* tokens since that join, itself included: from 1 */
    uint32_t depth;   /* blocks that are open around it */
    int32_t id, next; /* next: the recorded token that follows in its text; -1: none does */
} cop_joins_token;

typedef struct cop_joins_row { /* one token under one contrast; NaN where a track has no figure */
    double kl;                 /* D(base || other) of the next token, in nats; >= 0 */
    double logit_diff;         /* largest |logit - logit of the base| */
    bool same_top;             /* both find the same token the most likely */
} cop_joins_row;

typedef struct cop_joins_table {
    const char *trajectory, *dialect, *model, *tokens_from; /* borrowed */
    bool random_weights, extrapolated;
    uint32_t vocab, joins;
    cop_joins_track tracks[COP_JOINS_TRACKS];
    cop_joins_contrast contrasts[COP_JOINS_CONTRASTS];
    uint32_t n_tracks, n_contrasts;
    cop_joins_token *tokens;
    double *logprobs;    /* [n_tokens, n_tracks] of `next`; NaN: none */
    cop_joins_row *rows; /* [n_tokens, n_contrasts] */
    uint32_t n_tokens, capacity;
    const char *omitted[COP_JOINS_OMITTED]; /* rules that are left out, and why */
    uint32_t n_omitted;
} cop_joins_table;

cop_status cop_joins_table_reserve(cop_joins_table *table, uint32_t tokens);
void cop_joins_table_release(cop_joins_table *table);

/* Natural log-probability of a token, and the log of the sum of all exponentials, in double. */
double cop_joins_logsumexp(const float *logits, uint32_t vocab);
/* Both rows are [vocab]; each comes with its logsumexp. */
cop_joins_row cop_joins_compare(const float *base, double base_lse, const float *other,
                                double other_lse, uint32_t vocab);

typedef struct cop_joins_summary { /* of one contrast, over the tokens with a figure */
    uint32_t tokens;               /* 0: the rest is NaN */
    double kl_mean, kl_p50, kl_max;
    double logit_diff_max, same_top_share;
    double logprob_change; /* mean of other's minus base's, over tokens that are followed by one */
} cop_joins_summary;
cop_status cop_joins_summarise(const cop_joins_table *table, uint32_t contrast,
                               cop_joins_summary *out);
/* Mean log-probability of the recorded tokens under a track; NaN when none is followed by one. */
double cop_joins_logprob_mean(const cop_joins_table *table, uint32_t track);

/* The sentence that belongs beside these figures wherever they are shown. */
extern const char cop_joins_caution[];

/* One line of JSON a token, a contrast and a track, appended to `out`; bench/METRICS.md names the
 * fields. */
cop_status cop_joins_lines(const cop_joins_table *table, cop_buffer *out);

/* report_joins.c: one page for all tables; no scripts, nothing loaded. */
cop_status cop_joins_page(const cop_joins_table *tables, uint32_t n, const char *path);
