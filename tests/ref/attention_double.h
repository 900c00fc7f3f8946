/* Attention of one row in double precision, straight from the row's view: no leaves, no chunks, no
 * tables. The third oracle beside fold_reference.c and the emulated kernels, and the one that knows
 * nothing of how any of them works.
 *
 * A view is a list of pointers to its tokens' K and V, d floats each, in order. The plain bf16
 * implementation is the yardstick of a bf16 result's error (FlashAttention-3, section 4): scores,
 * probabilities and output each rounded to bf16, sums in f32.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct ref_view {
    const float *const *k, *const *v;
    size_t tokens;
    uint32_t d;
    double scale;
} ref_view;

/* out [d]; returns lse in base 2, -infinity for no token (out = 0). */
double ref_attention_double(const ref_view *view, const float *q, double *out);

void ref_attention_plain_bf16(const ref_view *view, const float *q, float *out);
