#include "reason/prune.h"

#include <math.h>
#include <stdlib.h>

double cop_token_confidence(const cop_sample *sample) {
    double sum = 0;
    for (uint32_t i = 0; i < sample->n_top; i++)
        sum += sample->top_logprob[i];
    return sample->n_top ? -sum / sample->n_top : NAN;
}

void cop_confidence_init(cop_confidence *confidence, double *ring, uint32_t window) {
    *confidence = (cop_confidence){.ring = ring, .window = window, .lowest = INFINITY};
}

void cop_confidence_add(cop_confidence *c, double value) {
    uint32_t at = (uint32_t)(c->n % c->window);
    if (c->n >= c->window)
        c->sum -= c->ring[at];
    c->ring[at] = value;
    c->sum += value;
    c->n++;
    if (at + 1 == c->window) { /* once a turn the sum is taken afresh: rounding cannot pile up */
        c->sum = 0;
        for (uint32_t i = 0; i < c->window; i++)
            c->sum += c->ring[i];
    }
    if (c->n >= c->window)
        c->lowest = fmin(c->lowest, c->sum / c->window);
}

double cop_confidence_lowest(const cop_confidence *c) {
    if (c->n >= c->window)
        return c->lowest;
    return c->n ? c->sum / (double)c->n : NAN;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double cop_confidence_threshold(double *lowest, uint32_t n, double keep_percent) {
    qsort(lowest, n, sizeof *lowest, by_value);
    double at = (100 - keep_percent) / 100 * (n - 1);
    uint32_t below = (uint32_t)at;
    if (below + 1 >= n)
        return lowest[n - 1];
    return lowest[below] + (at - below) * (lowest[below + 1] - lowest[below]);
}
