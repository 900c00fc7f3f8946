/* The arithmetic of fold_reference.h over a leaf and a block of rows, for any vector width.
 *
 * Included once by each attention_<isa>.c, after it defined: vec, LANES (of a vector), ROWS (of a
 * register tile), TILE_VECS(rows) (vectors of keys or of d of a tile of so many rows), WIDEN_ROWS
 * (up to so many, every tile widens bf16 for itself) and the v_ primitives. Scores: vectors run
 * over keys, one fma chain over i for each (row, key). Values: vectors run over d, one fma chain
 * over j for each (row, d). Between the two the softmax runs over the 64 keys of a row; the factors
 * of all rows are one vector call.
 *
 * A key that a row does not see has the score -inf, hence p = 0, and adds 0 * v to o. That changes
 * nothing but perhaps the sign of a zero, which the merge's sum from +0 erases: it is a no-op.
 */
#include <math.h>
#include <string.h>

#include "backend/cpu/attention_kernels.h"
#include "kv/fold_reference.h"

#define TILE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
/* Measured against the other hints: into the nearest cache is best, or as good. */
#define FETCH_LINE(address) __builtin_prefetch((address), 0, 3)

enum { TILE_VECS_MAX = 4 };
enum { GROUP_VECS = COP__GROUP_TOKENS / LANES, LEAF_VECS = COP_LEAF_TOKENS / LANES };
_Static_assert(COP__BLOCK_ROWS % ROWS == 0 && COP__BLOCK_ROWS % LANES == 0, "whole tiles");

/* Where a tile reads K and V: the pool's pages, or the leaf widened to f32 in the scratch. */
typedef enum source { POOL_BF16, POOL_F32, SCRATCH } source;

/* What a tile does besides: fetches the next leaf, or widens this one for the tiles after it. */
typedef enum extra { NOTHING, FETCH, WIDEN } extra;

/* cop_exp2, of n vectors in step: the chain is long, and a machine does not look far enough ahead
 * to overlap one after the other. v_whole is the nearest integer in a form of the vector's own,
 * v_rest what is left of x; v_scale multiplies by 2 to the integer and flushes below 2^-126. */
TILE void exp2_all(vec *x, const int n) {
    vec whole[LEAF_VECS], r[LEAF_VECS];
    vec y[LEAF_VECS];
    UNROLL for (int i = 0; i < n; i++) {
        whole[i] = v_whole(x[i]);
    }
    UNROLL for (int i = 0; i < n; i++) {
        r[i] = v_rest(x[i], whole[i]);
    }
    UNROLL for (int i = 0; i < n; i++) {
        y[i] = v_fma(v_set1(0x1.41fbbap-13f), r[i], v_set1(0x1.5f3e52p-10f));
    }
    UNROLL for (int i = 0; i < n; i++) {
        y[i] = v_fma(y[i], r[i], v_set1(0x1.3b2d4cp-7f));
    }
    UNROLL for (int i = 0; i < n; i++) {
        y[i] = v_fma(y[i], r[i], v_set1(0x1.c6aee8p-5f));
    }
    UNROLL for (int i = 0; i < n; i++) {
        y[i] = v_fma(y[i], r[i], v_set1(0x1.ebfbdcp-3f));
    }
    UNROLL for (int i = 0; i < n; i++) {
        y[i] = v_fma(y[i], r[i], v_set1(0x1.62e430p-1f));
    }
    UNROLL for (int i = 0; i < n; i++) {
        y[i] = v_fma(y[i], r[i], v_set1(1.0f));
    }
    UNROLL for (int i = 0; i < n; i++) {
        x[i] = v_scale(y[i], whole[i], x[i]);
    }
}

TILE vec load_element(const void *base, size_t index, const source from) {
    return from == POOL_BF16 ? v_load_bf16((const uint16_t *)base + index)
                             : v_load((const float *)base + index);
}

/* s[r][keys of the groups] = q_r . k, for n_rows rows and n_groups groups from `group`. */
TILE void score_tile(const cop__leaf *leaf, cop__row *const *rows, float *s, uint32_t d,
                     uint32_t group, const int n_rows, const int n_groups, const source from,
                     const extra also) {
    vec acc[ROWS][TILE_VECS_MAX];
    const float *q[ROWS];
    const void *tile[COP__LEAF_GROUPS];
    UNROLL for (int r = 0; r < n_rows; r++) {
        q[r] = rows[r]->q;
        UNROLL for (int x = 0; x < n_groups * GROUP_VECS; x++) {
            acc[r][x] = v_set1(0.0f);
        }
    }
    UNROLL for (int g = 0; g < n_groups; g++) {
        tile[g] = leaf->k[group + g];
    }
    float *wide = leaf->scratch->wide + group * COP__GROUP_TOKENS;
    const float *scratch = wide;
    const size_t stride = leaf->k_stride;
    const char *next0 = leaf->next[0], *next1 = leaf->next[1];
    _Pragma("GCC unroll 2") for (uint32_t i = 0; i < d; i++) {
        if (also == FETCH) {
            FETCH_LINE(next0 + (size_t)i * 64);
            FETCH_LINE(next1 + (size_t)i * 64);
        }
        vec k[TILE_VECS_MAX];
        UNROLL for (int x = 0; x < n_groups * GROUP_VECS; x++) {
            k[x] = from == SCRATCH ? v_load(scratch + (size_t)i * COP_LEAF_TOKENS + x * LANES)
                                   : load_element(tile[x / GROUP_VECS],
                                                  i * stride + x % GROUP_VECS * LANES, from);
        }
        if (also == WIDEN) {
            UNROLL for (int x = 0; x < n_groups * GROUP_VECS; x++) {
                v_store(wide + (size_t)i * COP_LEAF_TOKENS + x * LANES, k[x]);
            }
        }
        UNROLL for (int r = 0; r < n_rows; r++) {
            const vec x = v_set1(q[r][i]);
            UNROLL for (int y = 0; y < n_groups * GROUP_VECS; y++) {
                acc[r][y] = v_fma(x, k[y], acc[r][y]);
            }
        }
    }
    UNROLL for (int r = 0; r < n_rows; r++) {
        UNROLL for (int x = 0; x < n_groups * GROUP_VECS; x++) {
            v_store(s + r * COP_LEAF_TOKENS + group * COP__GROUP_TOKENS + x * LANES, acc[r][x]);
        }
    }
}

/* o_r[col ..] = o_r[col ..] * f_r, then the chain over the leaf's keys of p_r[j] * v[j]. */
TILE void value_tile(const cop__leaf *leaf, cop__row *const *rows, const float *p,
                     const float *factor, uint32_t d, uint32_t col, const int n_rows,
                     const int n_vecs, const source from, const extra also) {
    vec acc[ROWS][TILE_VECS_MAX];
    UNROLL for (int r = 0; r < n_rows; r++) {
        const vec f = v_set1(factor[r]);
        UNROLL for (int x = 0; x < n_vecs; x++) {
            acc[r][x] = v_mul(v_load(rows[r]->o + col + x * LANES), f);
        }
    }
    /* The scratch is one run of tokens; the pool has a pointer for each group of them. */
    const uint32_t run = from == SCRATCH ? COP_LEAF_TOKENS : COP__GROUP_TOKENS;
    for (uint32_t first = 0; first < leaf->tokens; first += run) {
        const uint32_t group = first / COP__GROUP_TOKENS;
        const void *v = from == SCRATCH ? leaf->scratch->wide : leaf->v[group];
        const char *next = leaf->next[2 + group / 2] + (size_t)(group % 2) * 32 * d;
        float *wide = leaf->scratch->wide + (size_t)first * d;
        const uint32_t left = leaf->tokens - first, n = left < run ? left : run;
        size_t at = col;
        _Pragma("GCC unroll 2") for (uint32_t j = 0; j < n; j++, at += d) {
            if (also == FETCH) {
                UNROLL for (int x = 0; x < n_vecs * LANES; x += 32) {
                    FETCH_LINE(next + 2 * (at + x));
                }
            }
            vec value[TILE_VECS_MAX];
            UNROLL for (int x = 0; x < n_vecs; x++) {
                value[x] = load_element(v, at + x * LANES, from);
            }
            if (also == WIDEN) {
                UNROLL for (int x = 0; x < n_vecs; x++) {
                    v_store(wide + at + x * LANES, value[x]);
                }
            }
            UNROLL for (int r = 0; r < n_rows; r++) {
                const vec x = v_set1(p[r * COP_LEAF_TOKENS + first + j]);
                UNROLL for (int y = 0; y < n_vecs; y++) {
                    acc[r][y] = v_fma(x, value[y], acc[r][y]);
                }
            }
        }
    }
    UNROLL for (int r = 0; r < n_rows; r++) {
        UNROLL for (int x = 0; x < n_vecs; x++) {
            v_store(rows[r]->o + col + x * LANES, acc[r][x]);
        }
    }
}

TILE void score_rows(const cop__leaf *leaf, cop__row *const *rows, float *s, uint32_t d,
                     const int n_rows, const source from, const extra also) {
    /* The next leaf is fetched once, beside the first groups. */
    const extra rest = also == FETCH ? NOTHING : also;
    const uint32_t groups = (leaf->tokens + COP__GROUP_TOKENS - 1) / COP__GROUP_TOKENS;
    const uint32_t at_once = TILE_VECS(n_rows) / GROUP_VECS;
    uint32_t group = 0;
    if (groups >= at_once) {
        score_tile(leaf, rows, s, d, 0, n_rows, (int)at_once, from, also);
        group = at_once;
    }
    for (; at_once < COP__LEAF_GROUPS && group + at_once <= groups; group += at_once)
        score_tile(leaf, rows, s, d, group, n_rows, (int)at_once, from, rest);
    for (; at_once > 1 && group < groups; group++)
        score_tile(leaf, rows, s, d, group, n_rows, 1, from, rest);
}

TILE void value_rows(const cop__leaf *leaf, cop__row *const *rows, const float *p,
                     const float *factor, uint32_t d, const int n_rows, const source from,
                     const extra also) {
    const uint32_t wide = TILE_VECS(n_rows) * LANES;
    uint32_t col = 0;
    for (; col + wide <= d; col += wide)
        value_tile(leaf, rows, p, factor, d, col, n_rows, TILE_VECS(n_rows), from, also);
    for (; col < d; col += LANES)
        value_tile(leaf, rows, p, factor, d, col, n_rows, 1, from, also);
}

/* One function for each (source, extra), since a register tile needs both and its rows constant. */
typedef void score_function(const cop__leaf *leaf, cop__row *const *rows, float *s, uint32_t d,
                            uint32_t n_rows);
typedef void value_function(const cop__leaf *leaf, cop__row *const *rows, const float *p,
                            const float *factor, uint32_t d, uint32_t n_rows);

#define CASE_ROWS(n, call)                                                                         \
    case n: {                                                                                      \
        enum { N = (n) <= ROWS ? (n) : ROWS };                                                     \
        if ((n) <= ROWS)                                                                           \
            call;                                                                                  \
    } break;
#define SWITCH_ROWS(n, call)                                                                       \
    switch (n) {                                                                                   \
        CASE_ROWS(1, call)                                                                         \
        CASE_ROWS(2, call)                                                                         \
        CASE_ROWS(3, call)                                                                         \
        CASE_ROWS(4, call)                                                                         \
        CASE_ROWS(5, call)                                                                         \
        CASE_ROWS(6, call)                                                                         \
    }
#define DEFINE_ROWS(name, from, also)                                                              \
    static void score_##name(const cop__leaf *leaf, cop__row *const *rows, float *s, uint32_t d,   \
                             uint32_t n_rows) {                                                    \
        SWITCH_ROWS(n_rows, score_rows(leaf, rows, s, d, N, from, also))                           \
    }                                                                                              \
    static void value_##name(const cop__leaf *leaf, cop__row *const *rows, const float *p,         \
                             const float *factor, uint32_t d, uint32_t n_rows) {                   \
        SWITCH_ROWS(n_rows, value_rows(leaf, rows, p, factor, d, N, from, also))                   \
    }
DEFINE_ROWS(bf16, POOL_BF16, NOTHING)
DEFINE_ROWS(bf16_fetch, POOL_BF16, FETCH)
DEFINE_ROWS(bf16_widen, POOL_BF16, WIDEN)
DEFINE_ROWS(f32, POOL_F32, NOTHING)
DEFINE_ROWS(scratch, SCRATCH, NOTHING)

/* The new maximum of a row, its -inf replaced; unseen keys get the score -inf. */
TILE float row_base(cop__row *row, float *s, float *drop) {
    for (uint32_t j = row->tokens; j < COP_LEAF_TOKENS; j++)
        s[j] = -INFINITY;
    vec top[LEAF_VECS];
    UNROLL for (int x = 0; x < LEAF_VECS; x++) {
        top[x] = v_load(s + x * LANES);
    }
    UNROLL for (int n = LEAF_VECS / 2; n > 0; n /= 2) {
        UNROLL for (int x = 0; x < n; x++) {
            top[x] = v_max(top[x], top[x + n]);
        }
    }
    const float most = v_reduce_max(top[0]);
    const float m = most > row->m ? most : row->m;
    const float base = m == -INFINITY ? 0.0f : m;
    *drop = row->m - base;
    row->m = m;
    return base;
}

/* p from the scores of a row, in place. */
TILE void row_probabilities(float *s, const vec c, float shift) {
    vec p[LEAF_VECS];
    UNROLL for (int x = 0; x < LEAF_VECS; x++) {
        p[x] = v_fma(v_load(s + x * LANES), c, v_set1(shift));
    }
    exp2_all(p, LEAF_VECS);
    UNROLL for (int x = 0; x < LEAF_VECS; x++) {
        v_store(s + x * LANES, p[x]);
    }
}

/* The four lanes of a row's sum, then what P makes of its probabilities. */
TILE void row_sums(cop__row *row, float *s, float factor, const bool round_p) {
    vec p[LEAF_VECS];
    UNROLL for (int x = 0; x < LEAF_VECS; x++) {
        p[x] = v_load(s + x * LANES);
    }
    v_leaf_sums(p, factor, row->l);
    UNROLL for (int x = 0; round_p && x < LEAF_VECS; x++) {
        v_store(s + x * LANES, v_round_bf16(p[x]));
    }
}

/* Passes over the rows, each with a short chain of dependent operations: a machine looks only
 * so far ahead, and one pass with a long chain would leave it waiting. */
static void softmax(cop__row *const *rows, uint32_t n_rows, const cop__fold_options *options,
                    cop__fold_scratch *scratch) {
    float *s = scratch->p, *base = scratch->base, *factor = scratch->factor;
    const vec c = v_set1(options->c);
    for (uint32_t r = 0; r < n_rows; r++)
        base[r] = row_base(rows[r], s + r * COP_LEAF_TOKENS, &factor[r]);
    for (uint32_t r = 0; r < n_rows; r++)
        row_probabilities(s + r * COP_LEAF_TOKENS, c, -(base[r] * options->c));
    for (uint32_t r = 0; r < n_rows; r += LANES) {
        vec f = v_mul(v_load(factor + r), c);
        exp2_all(&f, 1);
        v_store(factor + r, f);
    }
    if (options->round_p) {
        for (uint32_t r = 0; r < n_rows; r++)
            row_sums(rows[r], s + r * COP_LEAF_TOKENS, factor[r], true);
    } else {
        for (uint32_t r = 0; r < n_rows; r++)
            row_sums(rows[r], s + r * COP_LEAF_TOKENS, factor[r], false);
    }
}

/* Fetches part `part` of `parts` of the next leaf: few enough lines not to wait for one another. */
static void fetch_part(const cop__leaf *leaf, uint32_t d, uint32_t part, uint32_t parts) {
    const uint32_t first = d * part / parts, end = d * (part + 1) / parts;
    for (uint32_t x = first; x < end; x++) {
        UNROLL for (int run = 0; run < COP__LEAF_GROUPS; run++) {
            FETCH_LINE(leaf->next[run] + (size_t)x * 64);
        }
    }
}

static void fetch_ahead(const cop__leaf *leaf, uint32_t d) {
    const uint32_t lines = d < 48 ? d : 48;
    for (uint32_t x = 0; x < lines; x++)
        FETCH_LINE(leaf->next[2] + (size_t)x * 64);
}

typedef struct leaf_functions {
    score_function *first_scores, *scores;
    value_function *first_values, *values;
} leaf_functions;

static void fold(const cop__leaf *leaf, cop__row *const *rows, uint32_t n_rows,
                 const cop__fold_options *options) {
    static const leaf_functions few_bf16 = {score_bf16_fetch, score_bf16, value_bf16_fetch,
                                            value_bf16};
    static const leaf_functions many_bf16 = {score_bf16_widen, score_scratch, value_bf16_widen,
                                             value_scratch};
    static const leaf_functions any_f32 = {score_f32, score_f32, value_f32, value_f32};
    const uint32_t d = options->d;
    float *p = leaf->scratch->p, *factor = leaf->scratch->factor;
    const bool many = leaf->bf16 && n_rows > WIDEN_ROWS;
    const leaf_functions *use = many ? &many_bf16 : leaf->bf16 ? &few_bf16 : &any_f32;
    uint32_t part = 0;
    const uint32_t parts = many ? 2 * ((n_rows + ROWS - 1) / ROWS) : 0;
    for (uint32_t first = 0; first < n_rows; first += COP__BLOCK_ROWS) {
        cop__row *const *block = rows + first;
        const uint32_t left = n_rows - first;
        const uint32_t n = left < COP__BLOCK_ROWS ? left : COP__BLOCK_ROWS;
        for (uint32_t r = 0; r < n; r += ROWS) {
            score_function *scores = r || (first && !many) ? use->scores : use->first_scores;
            scores(leaf, block + r, p + r * COP_LEAF_TOKENS, d, n - r < ROWS ? n - r : ROWS);
            if (parts)
                fetch_part(leaf, d, part++, parts);
        }
        if (use == &few_bf16) /* keep the memory busy meanwhile; the value tiles fetch the rest */
            fetch_ahead(leaf, d);
        softmax(block, n, options, leaf->scratch);
        for (uint32_t r = 0; r < n; r += ROWS) {
            value_function *values = r || (first && !many) ? use->values : use->first_values;
            values(leaf, block + r, p + r * COP_LEAF_TOKENS, factor + r, d,
                   n - r < ROWS ? n - r : ROWS);
            if (parts)
                fetch_part(leaf, d, part++, parts);
        }
    }
}

static void put(const float *o, uint32_t d, float *out) {
    for (uint32_t i = 0; i < d; i += LANES)
        v_stream(out + i, v_load(o + i));
}

static void merge(const float *o, const cop__partial *partial, uint32_t n,
                  const cop__fold_options *options, float *out) {
    float top = -INFINITY, total = 0.0f, w[LANES];
    for (uint32_t p = 0; p < n; p++)
        top = partial[p].m > top ? partial[p].m : top;
    const float base = top == -INFINITY ? 0.0f : top;
    for (uint32_t i = 0; i < options->d; i += LANES)
        v_store(out + i, v_set1(0.0f));
    for (uint32_t first = 0; first < n; first += LANES) {
        const uint32_t some = n - first < LANES ? n - first : LANES;
        for (uint32_t x = 0; x < LANES; x++)
            w[x] = x < some ? partial[first + x].m - base : -INFINITY;
        vec weights = v_mul(v_load(w), v_set1(options->c));
        exp2_all(&weights, 1);
        v_store(w, weights);
        for (uint32_t x = 0; x < some; x++)
            total = fmaf(partial[first + x].l, w[x], total);
        for (uint32_t i = 0; i < options->d; i += LANES) {
            vec sum = v_load(out + i);
            for (uint32_t x = 0; x < some; x++) {
                /* A weight of 0 adds nothing, and an empty partial's o was never written. */
                if (w[x] != 0.0f)
                    sum =
                        v_fma(v_load(o + (size_t)(first + x) * options->d + i), v_set1(w[x]), sum);
            }
            v_store(out + i, sum);
        }
    }
    const vec reciprocal = v_set1(total == 0.0f ? 0.0f : 1.0f / total);
    for (uint32_t i = 0; i < options->d; i += LANES)
        v_store(out + i, v_add(v_mul(v_load(out + i), reciprocal), v_set1(0.0f)));
}
