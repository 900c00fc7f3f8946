#include "backend/cpu/attention_kernels.h"

#if defined(__AVX512F__)
#include <immintrin.h>

#define TILE_VECS(rows) 4
typedef __m512 vec;
enum { LANES = 16, ROWS = 6, WIDEN_ROWS = 12 };

static inline vec v_set1(float x) {
    return _mm512_set1_ps(x);
}

static inline vec v_load(const float *x) {
    return _mm512_loadu_ps(x);
}

static inline vec v_load_bf16(const uint16_t *x) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline void v_store(float *x, vec a) {
    _mm512_storeu_ps(x, a);
}

static inline void v_stream(float *x, vec a) { /* x is aligned */
    _mm512_stream_ps(x, a);
}

static inline vec v_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}

static inline vec v_add(vec a, vec b) {
    return _mm512_add_ps(a, b);
}

static inline vec v_mul(vec a, vec b) {
    return _mm512_mul_ps(a, b);
}

static inline vec v_max(vec a, vec b) {
    return _mm512_max_ps(a, b);
}

static inline float v_reduce_max(vec a) {
    return _mm512_reduce_max_ps(a);
}

static inline vec v_whole(vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vec v_rest(vec x, vec whole) {
    return _mm512_sub_ps(x, whole);
}

static inline vec v_scale(vec y, vec whole, vec x) {
    const __mmask16 keep = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(keep, y, whole);
}

static inline vec v_round_bf16(vec x) { /* of a number that is neither NaN nor negative */
    const __m512i bits = _mm512_castps_si512(x);
    const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
    const __m512i half =
        _mm512_mask_blend_epi32(odd, _mm512_set1_epi32(0x7fff), _mm512_set1_epi32(0x8000));
    const __m512i up = _mm512_add_epi32(bits, half);
    return _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32((int)0xffff0000u)));
}

/* Pairs of two blocks of 16 keys stand in one vector; then the four blocks' lanes 0..3 and 4..7. */
static inline void v_leaf_sums(const vec p[4], float f, float l[4]) {
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
    const vec s01 = _mm512_add_ps(_mm512_permutex2var_ps(p[0], even, p[1]),
                                  _mm512_permutex2var_ps(p[0], odd, p[1]));
    const vec s23 = _mm512_add_ps(_mm512_permutex2var_ps(p[2], even, p[3]),
                                  _mm512_permutex2var_ps(p[2], odd, p[3]));
    const vec g =
        _mm512_add_ps(_mm512_shuffle_f32x4(s01, s23, 0x88), _mm512_shuffle_f32x4(s01, s23, 0xdd));
    __m128 sum = _mm_add_ps(_mm512_castps512_ps128(g), _mm512_extractf32x4_ps(g, 1));
    sum = _mm_add_ps(sum, _mm512_extractf32x4_ps(g, 2));
    sum = _mm_add_ps(sum, _mm512_extractf32x4_ps(g, 3));
    _mm_storeu_ps(l, _mm_fmadd_ps(_mm_loadu_ps(l), _mm_set1_ps(f), sum));
}

#include "backend/cpu/attention_body.h"

const cop__attention_kernels cop__attention_avx512 = {.fold = fold, .merge = merge, .put = put};
#endif
