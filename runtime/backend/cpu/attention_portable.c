#include <math.h>
#include <string.h>

#include "backend/cpu/attention_kernels.h"
#include "kv/fold_reference.h"

/* Vectors of four in plain C: the compiler turns the loops into whatever the machine has. fmaf is
 * exact on every machine, and slow where there is no such instruction. */
typedef struct vec {
    float x[4];
} vec;
enum {
    LANES = 4,
    ROWS = 2,
    SCORE_GROUPS = 1,
    VALUE_VECS = 4,
    SOFTMAX_ROWS = 1,
    WIDEN_ROWS = INT32_MAX
};

#define EACH for (int i = 0; i < LANES; i++)

static inline vec v_set1(float x) {
    return (vec){{x, x, x, x}};
}

static inline vec v_load(const float *x) {
    vec a;
    memcpy(a.x, x, sizeof a.x);
    return a;
}

static inline vec v_load_bf16(const uint16_t *x) {
    vec a;
    EACH a.x[i] = cop_f32_from_bf16(x[i]);
    return a;
}

static inline void v_store(float *x, vec a) {
    memcpy(x, a.x, sizeof a.x);
}

static inline vec v_fma(vec a, vec b, vec c) {
    EACH c.x[i] = fmaf(a.x[i], b.x[i], c.x[i]);
    return c;
}

static inline vec v_add(vec a, vec b) {
    EACH a.x[i] += b.x[i];
    return a;
}

static inline vec v_sub(vec a, vec b) {
    EACH a.x[i] -= b.x[i];
    return a;
}

static inline vec v_mul(vec a, vec b) {
    EACH a.x[i] *= b.x[i];
    return a;
}

static inline vec v_max(vec a, vec b) {
    EACH a.x[i] = a.x[i] > b.x[i] ? a.x[i] : b.x[i];
    return a;
}

static inline vec v_min(vec a, vec b) { /* b where one is NaN */
    EACH a.x[i] = a.x[i] < b.x[i] ? a.x[i] : b.x[i];
    return a;
}

static inline float v_reduce_max(vec a) {
    float most = a.x[0];
    EACH most = a.x[i] > most ? a.x[i] : most;
    return most;
}

/* y with the low bits of `shifted` added to its exponent; 0 where x is below the bound. */
static inline vec v_scale(vec y, vec shifted, vec x, float bound) {
    uint32_t a[LANES], n[LANES];
    memcpy(a, y.x, sizeof a);
    memcpy(n, shifted.x, sizeof n);
    EACH a[i] = x.x[i] < bound ? 0 : a[i] + (n[i] << 23);
    memcpy(y.x, a, sizeof a);
    return y;
}

static inline vec v_round_bf16(vec x) {
    EACH x.x[i] = cop_f32_from_bf16(cop_bf16_from_f32(x.x[i]));
    return x;
}

static inline void v_leaf_sums(const vec p[16], float f, float l[4]) {
    for (int t = 0; t < 4; t++) {
        float g[4];
        for (int b = 0; b < 4; b++) {
            const vec low = p[4 * b + t / 2], high = p[4 * b + 2 + t / 2];
            const int at = t % 2 * 2;
            g[b] = (low.x[at] + low.x[at + 1]) + (high.x[at] + high.x[at + 1]);
        }
        l[t] = fmaf(l[t], f, ((g[0] + g[1]) + g[2]) + g[3]);
    }
}

#include "backend/cpu/attention_body.h"

const cop__attention_kernels cop__attention_portable = {.fold = fold, .merge = merge};
