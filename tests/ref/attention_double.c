#include "ref/attention_double.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REF_LOG2_E 1.4426950408889634

static double dot(const float *a, const float *b, uint32_t d) {
    double sum = 0;
    for (uint32_t i = 0; i < d; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

double ref_attention_double(const ref_view *view, const float *q, double *out) {
    for (uint32_t i = 0; i < view->d; i++)
        out[i] = 0;
    double top = -INFINITY, total = 0;
    for (size_t j = 0; j < view->tokens; j++)
        top = fmax(top, dot(q, view->k[j], view->d) * view->scale);
    if (top == -INFINITY)
        return -INFINITY;
    for (size_t j = 0; j < view->tokens; j++) {
        const double p = exp(dot(q, view->k[j], view->d) * view->scale - top);
        total += p;
        for (uint32_t i = 0; i < view->d; i++)
            out[i] += p * (double)view->v[j][i];
    }
    for (uint32_t i = 0; i < view->d; i++)
        out[i] /= total;
    return top * REF_LOG2_E + log2(total);
}

static float round_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void ref_attention_plain_bf16(const ref_view *view, const float *q, float *out) {
    float *p = calloc(view->tokens + 1, sizeof *p);
    if (!p)
        abort();
    float top = -INFINITY, total = 0;
    for (size_t j = 0; j < view->tokens; j++) {
        float sum = 0;
        for (uint32_t i = 0; i < view->d; i++)
            sum += q[i] * view->k[j][i];
        p[j] = round_bf16(round_bf16(sum) * (float)view->scale);
        top = fmaxf(top, p[j]);
    }
    for (size_t j = 0; j < view->tokens; j++) {
        p[j] = expf(p[j] - top);
        total += p[j];
    }
    for (uint32_t i = 0; i < view->d; i++) {
        float sum = 0;
        for (size_t j = 0; j < view->tokens; j++)
            sum += round_bf16(p[j] / total) * view->v[j][i];
        out[i] = round_bf16(sum);
    }
    free(p);
}
