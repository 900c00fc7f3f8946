#include <math.h>
#include <string.h>

#include "backend/cpu/attention_kernels.h"
#include "kv/fold_reference.h"

/* Vectors of four in plain C: the compiler turns the loops into whatever the machine has. fmaf is
 * exact on every machine, and slow where there is no such instruction. */
#define TILE_VECS(rows) 4
typedef struct vec {
    float x[4];
} vec;
enum { LANES = 4, ROWS = 2, WIDEN_ROWS = INT32_MAX };

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

static inline void v_stream(float *x, vec a) { /* x is aligned */
    v_store(x, a);
}

static inline vec v_fma(vec a, vec b, vec c) {
    EACH c.x[i] = fmaf(a.x[i], b.x[i], c.x[i]);
    return c;
}

static inline vec v_add(vec a, vec b) {
    EACH a.x[i] += b.x[i];
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

static inline float v_reduce_max(vec a) {
    float most = a.x[0];
    EACH most = a.x[i] > most ? a.x[i] : most;
    return most;
}

/* 1.5 * 2^23 more than the integer, which so stands in the low bits. */
static inline vec v_whole(vec x) {
    EACH x.x[i] = (x.x[i] > 128.0f ? 128.0f : x.x[i]) + 0x1.8p23f;
    return x;
}

static inline vec v_rest(vec x, vec whole) {
    EACH x.x[i] = (x.x[i] > 128.0f ? 128.0f : x.x[i]) - (whole.x[i] - 0x1.8p23f);
    return x;
}

static inline vec v_scale(vec y, vec whole, vec x) {
    uint32_t a[LANES], n[LANES];
    memcpy(a, y.x, sizeof a);
    memcpy(n, whole.x, sizeof n);
    EACH a[i] = x.x[i] < -126.0f ? 0 : a[i] + (n[i] << 23);
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

const cop__attention_kernels cop__attention_portable = {.fold = fold, .merge = merge, .put = put};
