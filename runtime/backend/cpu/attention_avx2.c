#include "backend/cpu/attention_kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>

#define TILE_VECS(rows) ((rows) <= 2 ? 4 : 2)
typedef __m256 vec;
enum { LANES = 8, ROWS = 6, WIDEN_ROWS = 12 };

static inline vec v_set1(float x) {
    return _mm256_set1_ps(x);
}

static inline vec v_load(const float *x) {
    return _mm256_loadu_ps(x);
}

static inline vec v_load_bf16(const uint16_t *x) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

static inline void v_store(float *x, vec a) {
    _mm256_storeu_ps(x, a);
}

static inline void v_stream(float *x, vec a) { /* x is aligned */
    _mm256_stream_ps(x, a);
}

static inline vec v_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
}

static inline vec v_add(vec a, vec b) {
    return _mm256_add_ps(a, b);
}

static inline vec v_mul(vec a, vec b) {
    return _mm256_mul_ps(a, b);
}

static inline vec v_max(vec a, vec b) {
    return _mm256_max_ps(a, b);
}

static inline float v_reduce_max(vec a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

/* 1.5 * 2^23 more than the integer, which so stands in the low bits. */
static inline vec v_whole(vec x) {
    return _mm256_add_ps(_mm256_min_ps(_mm256_set1_ps(128.0f), x), _mm256_set1_ps(0x1.8p23f));
}

static inline vec v_rest(vec x, vec whole) {
    return _mm256_sub_ps(_mm256_min_ps(_mm256_set1_ps(128.0f), x),
                         _mm256_sub_ps(whole, _mm256_set1_ps(0x1.8p23f)));
}

static inline vec v_scale(vec y, vec whole, vec x) {
    const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(whole), 23);
    const vec scaled = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(y), n));
    return _mm256_and_ps(_mm256_cmp_ps(x, _mm256_set1_ps(-126.0f), _CMP_NLT_UQ), scaled);
}

static inline vec v_round_bf16(vec x) { /* of a number that is neither NaN nor negative */
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    return _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32((int)0xffff0000u)));
}

/* Pairs of keys 0..3 and 8..11 of a block stand in the low half, those of the others in the high.
 */
static inline __m128 block_sums(vec low, vec high) {
    const vec pairs = _mm256_hadd_ps(low, high);
    const __m128 x = _mm256_castps256_ps128(pairs), y = _mm256_extractf128_ps(pairs, 1);
    return _mm_add_ps(_mm_movelh_ps(x, y), _mm_movehl_ps(y, x));
}

static inline void v_leaf_sums(const vec p[8], float f, float l[4]) {
    __m128 sum = _mm_add_ps(block_sums(p[0], p[1]), block_sums(p[2], p[3]));
    sum = _mm_add_ps(sum, block_sums(p[4], p[5]));
    sum = _mm_add_ps(sum, block_sums(p[6], p[7]));
    _mm_storeu_ps(l, _mm_fmadd_ps(_mm_loadu_ps(l), _mm_set1_ps(f), sum));
}

#include "backend/cpu/attention_body.h"

const cop__attention_kernels cop__attention_avx2 = {.fold = fold, .merge = merge, .put = put};
#endif
