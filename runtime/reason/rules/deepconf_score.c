#include "reason/rules/deepconf.h"

#include <math.h>
#include <stdlib.h>

double cop_deepconf_round3(double value) {
    return rint(value * 1000) / 1000;
}

double cop_deepconf_sum(const double *values, size_t n) {
    if (n < 8) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += values[i];
        return sum;
    }
    if (n > 128) {
        size_t half = n / 2;
        half -= half % 8;
        return cop_deepconf_sum(values, half) + cop_deepconf_sum(values + half, n - half);
    }
    double part[8];
    size_t i = 8;
    for (size_t j = 0; j < 8; j++)
        part[j] = values[j];
    for (; i + 8 <= n; i += 8) {
        for (size_t j = 0; j < 8; j++)
            part[j] += values[i + j];
    }
    double sum =
        ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
    for (; i < n; i++)
        sum += values[i];
    return sum;
}

double cop_deepconf_live(const float *top_logprob, uint32_t n_top) {
    double sum = 0;
    for (uint32_t i = 0; i < n_top; i++)
        sum += top_logprob[i];
    return n_top ? -sum / n_top : 0;
}

double cop_deepconf_logged(const cop_rule_token *token) {
    enum { MAX = 32 };
    double values[MAX];
    uint32_t n = token->n_top < MAX - 1 ? token->n_top : MAX - 1;
    for (uint32_t i = 0; i < n; i++)
        values[i] = token->top_logprob[i];
    if (!token->in_top)
        values[n++] = token->logprob;
    return n ? cop_deepconf_round3(-(cop_deepconf_sum(values, n) / n)) : 0;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* numpy's linear interpolation, from whichever neighbour is nearer (numpy lib _lerp). */
double cop_deepconf_percentile(double *values, uint32_t n, double q) {
    qsort(values, n, sizeof *values, by_value);
    double at = (n - 1) * (q / 100);
    uint32_t below = (uint32_t)at;
    if (below + 1 >= n)
        return values[n - 1];
    double low = values[below], high = values[below + 1], t = at - below;
    return t >= 0.5 ? high - (high - low) * (1 - t) : low + (high - low) * t;
}

static double mean_of(const int32_t *thousandths, uint32_t n, double *scratch) {
    for (uint32_t i = 0; i < n; i++)
        scratch[i] = thousandths[i] / 1000.0;
    return cop_deepconf_sum(scratch, n) / n;
}

/* Means of every full window by a running sum, as the original computes them. */
static uint32_t window_means(const int32_t *thousandths, uint32_t n, uint32_t window,
                             double *means) {
    double sum = 0;
    for (uint32_t i = 0; i < window; i++)
        sum += thousandths[i] / 1000.0;
    means[0] = sum / window;
    for (uint32_t i = 1; i + window <= n; i++) {
        sum = sum - thousandths[i - 1] / 1000.0 + thousandths[i + window - 1] / 1000.0;
        means[i] = sum / window;
    }
    return n - window + 1;
}

double cop_deepconf_trace_score(cop_deepconf_vote kind, const int32_t *thousandths, uint32_t n,
                                uint32_t window, double *scratch) {
    if (n == 0)
        return 0;
    if (kind == COP_DEEPCONF_VOTE_MEAN)
        return mean_of(thousandths, n, scratch);
    if (kind == COP_DEEPCONF_VOTE_TAIL) {
        uint32_t tail = n < window ? n : window;
        return mean_of(thousandths + n - tail, tail, scratch);
    }
    if (n < window)
        return mean_of(thousandths, n, scratch);
    uint32_t count = window_means(thousandths, n, window, scratch);
    uint32_t lowest = (uint32_t)(count * 0.1);
    if (kind == COP_DEEPCONF_VOTE_MIN_WINDOW || lowest <= 1) {
        double min = scratch[0];
        for (uint32_t i = 1; i < count; i++)
            min = fmin(min, scratch[i]);
        return min;
    }
    /* The original sums its lowest means in the order in which a partition left them, which numpy
     * does not define; here they are summed by rising value. */
    qsort(scratch, count, sizeof *scratch, by_value);
    return cop_deepconf_sum(scratch, lowest) / lowest;
}
