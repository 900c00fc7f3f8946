/* What attention.c asks of an instruction set: fold one leaf into rows, and merge.
 *
 * attention_{portable,avx2,avx512}.c each define a vector type and its primitives and include
 * attention_body.h, which holds the arithmetic once. Every primitive is a correctly rounded f32
 * operation on each lane, and vectors run over keys or over d, never along a sum: so the three give
 * the bits of fold_reference.c. Internal to the cpu backend; any thread, no state.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernels/tables.h"

enum {
    COP__GROUP_TOKENS = 16, /* the smallest page: a leaf is four groups, each in one page */
    COP__LEAF_GROUPS = COP_LEAF_TOKENS / COP__GROUP_TOKENS,
    COP__BLOCK_ROWS = 96, /* rows whose probabilities are held at once; a multiple of every tile */
    COP__HEAD_DIM_MAX = 256,
};

/* One query head of one slot within an item: the fold's state. */
typedef struct cop__row {
    const float *q;
    float *o; /* [d] */
    float m, l[4];
    uint32_t tokens; /* keys of the current leaf that this row sees: a prefix */
} cop__row;

/* Scratch of one thread. */
typedef struct cop__fold_scratch {
    _Alignas(64) float p[COP__BLOCK_ROWS * COP_LEAF_TOKENS];
    /* K of a leaf, then V: the same lines, so that they are still in the first-level cache. */
    _Alignas(64) float wide[COP__HEAD_DIM_MAX * COP_LEAF_TOKENS];
    _Alignas(64) float base[COP__BLOCK_ROWS], factor[COP__BLOCK_ROWS];
} cop__fold_scratch;

/* K is [d][k_stride] and V [token][d] within a group. A group that nobody sees may repeat another
 * one: its scores are masked. `next` is the leaf that follows (bf16 pools only), to be fetched
 * meanwhile: its K and V as four runs of d cache lines. */
typedef struct cop__leaf {
    const void *k[COP__LEAF_GROUPS], *v[COP__LEAF_GROUPS];
    uint32_t k_stride;
    uint32_t tokens; /* the most that a row sees */
    bool bf16;
    const char *next[COP__LEAF_GROUPS];
    cop__fold_scratch *scratch;
} cop__leaf;

typedef struct cop__fold_options {
    uint32_t d;
    float c;
    bool round_p;
} cop__fold_options;

/* What a partial holds besides o. */
typedef struct cop__partial {
    float m, l;
} cop__partial;

typedef struct cop__attention_kernels {
    /* Folds the leaf into n_rows rows, each with tokens > 0. */
    void (*fold)(const cop__leaf *leaf, cop__row *const *rows, uint32_t n_rows,
                 const cop__fold_options *options);
    /* cop_fold_merge of partials that stand one after the other, without lse. */
    void (*merge)(const float *o, const cop__partial *partial, uint32_t n,
                  const cop__fold_options *options, float *out);
    /* Stores a row's o as a partial, past the caches: it is read once, at the end. */
    void (*put)(const float *o, uint32_t d, float *out);
} cop__attention_kernels;

extern const cop__attention_kernels cop__attention_portable;
#if defined(__x86_64__)
extern const cop__attention_kernels cop__attention_avx2;
extern const cop__attention_kernels cop__attention_avx512;
#endif
