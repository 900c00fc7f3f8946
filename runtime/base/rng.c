#include "base/rng.h"

static uint64_t mix(uint64_t z) { /* SplitMix64's finaliser (Steele et al., OOPSLA'14, fig. 16) */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t cop_rng_fold(uint64_t stream, uint64_t word) {
    return mix(stream * 0x9e3779b97f4a7c15u + mix(word + 0x9e3779b97f4a7c15u));
}

void cop_rng_draw4(cop_rng_key key, uint32_t draw, uint32_t out[4]) {
    uint64_t k = mix(key.seed + 0x9e3779b97f4a7c15u) ^ mix(key.stream);
    uint32_t k0 = (uint32_t)k, k1 = (uint32_t)(k >> 32);
    uint32_t c0 = (uint32_t)key.position, c1 = (uint32_t)(key.position >> 32), c2 = draw;
    uint32_t c3 = (uint32_t)mix(key.stream ^ 0x6a09e667f3bcc909u);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

double cop_rng_uniform(cop_rng_key key, uint32_t draw) {
    uint32_t w[4];
    cop_rng_draw4(key, draw, w);
    uint64_t bits = ((uint64_t)w[0] << 32 | w[1]) >> 11;
    return (double)bits * 0x1p-53;
}

uint32_t cop_rng_below(cop_rng_key key, uint32_t draw, uint32_t bound) {
    uint32_t w[4];
    cop_rng_draw4(key, draw, w);
    return (uint32_t)(((uint64_t)w[0] * bound) >> 32);
}
