#include "measure/proportion.h"

#include <math.h>

void cop_proportion_wilson(uint64_t right, uint64_t n, double z, double *low, double *high) {
    *low = *high = NAN;
    if (n == 0 || right > n)
        return;
    double trials = (double)n, share = (double)right / trials, square = z * z / trials;
    double centre = (share + square / 2) / (1 + square);
    double half = z / (1 + square) * sqrt(share * (1 - share) / trials + square / (4 * trials));
    /* The ends that are exact must not carry the rounding of the difference. */
    *low = right == 0 ? 0 : fmax(0, centre - half);
    *high = right == n ? 1 : fmin(1, centre + half);
}
