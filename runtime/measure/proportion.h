/* How far a share of right answers may be trusted: the Wilson score interval (E. B. Wilson,
 * "Probable inference, the law of succession, and statistical inference", JASA 22, 1927).
 *
 * The interval holds every true share p for which the observed one lies within z standard errors,
 * the error taken at p: |right / n - p| <= z sqrt(p (1 - p) / n). It stays inside 0 .. 1, and has a
 * width also where all answers are right or none is. Pure functions; any thread may call them.
 */
#pragma once

#include <stdint.h>

/* z of a two-sided 95 % interval: the 97.5 % point of the normal distribution. */
#define COP_PROPORTION_Z95 1.959963984540054

/* z is finite and >= 0. Both ends are NaN where there is no share: n = 0, or right > n. */
void cop_proportion_wilson(uint64_t right, uint64_t n, double z, double *low, double *high);
