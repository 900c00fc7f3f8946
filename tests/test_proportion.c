#include "measure/proportion.h"

#include <math.h>

#include "check.h"

static void check_near(double actual, double expected, double tolerance) {
    if (!(fabs(actual - expected) <= tolerance)) {
        fprintf(stderr, "%.17g is not within %g of %.17g\n", actual, tolerance, expected);
        exit(1);
    }
}

/* R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in
 * Medicine 17 (1998), table I, method 3. */
static void test_published_intervals(void) {
    static const struct {
        uint64_t right, n;
        double low, high;
    } rows[] = {
        {81, 263, 0.2553, 0.3662},
        {15, 148, 0.0624, 0.1605},
        {0, 20, 0.0000, 0.1611},
        {1, 29, 0.0061, 0.1718},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double low, high;
        cop_proportion_wilson(rows[i].right, rows[i].n, COP_PROPORTION_Z95, &low, &high);
        check_near(low, rows[i].low, 0.00005);
        check_near(high, rows[i].high, 0.00005);
        cop_proportion_wilson(rows[i].n - rows[i].right, rows[i].n, COP_PROPORTION_Z95, &low,
                              &high);
        check_near(low, 1 - rows[i].high, 0.00005);
        check_near(high, 1 - rows[i].low, 0.00005);
    }
}

/* Each end p solves (share - p)^2 = z^2 p (1 - p) / n, which is what defines it. */
static void test_ends_are_z_errors_away(void) {
    static const uint64_t sizes[] = {1, 2, 7, 100, 1000, 1000000};
    static const double widths[] = {0.5, 1, COP_PROPORTION_Z95, 3.3};
    for (size_t s = 0; s < 6; s++) {
        uint64_t n = sizes[s], step = n > 100 ? n / 37 : 1;
        for (uint64_t right = 0; right <= n; right += step)
            for (size_t w = 0; w < 4; w++) {
                double ends[2], share = (double)right / (double)n, z = widths[w];
                cop_proportion_wilson(right, n, z, &ends[0], &ends[1]);
                CHECK(ends[0] >= 0 && ends[0] <= share && share <= ends[1] && ends[1] <= 1);
                CHECK(ends[0] < ends[1]);
                for (int e = 0; e < 2; e++)
                    check_near((share - ends[e]) * (share - ends[e]),
                               z * z * ends[e] * (1 - ends[e]) / (double)n, 1e-14);
            }
    }
}

static void test_edges_are_exact(void) {
    double low, high;
    for (uint64_t n = 1; n < 2000; n++) {
        cop_proportion_wilson(0, n, COP_PROPORTION_Z95, &low, &high);
        CHECK(low == 0 && high > 0);
        cop_proportion_wilson(n, n, COP_PROPORTION_Z95, &low, &high);
        CHECK(high == 1 && low < 1);
    }
    cop_proportion_wilson(3, 4, 0, &low, &high);
    CHECK(low == 0.75 && high == 0.75);
    cop_proportion_wilson(UINT64_MAX / 2, UINT64_MAX, COP_PROPORTION_Z95, &low, &high);
    CHECK(low < 0.5 + 1e-9 && high > 0.5 - 1e-9 && low <= high);
}

static void test_no_share_is_nan(void) {
    double low = 0, high = 0;
    cop_proportion_wilson(0, 0, COP_PROPORTION_Z95, &low, &high);
    CHECK(isnan(low) && isnan(high));
    low = high = 0;
    cop_proportion_wilson(5, 4, COP_PROPORTION_Z95, &low, &high);
    CHECK(isnan(low) && isnan(high));
}

/* Of repeated samples with a known share, about 95 % of the intervals hold it: exact binomial
 * weights, no sampling. */
static void test_coverage(void) {
    static const double shares[] = {0.1, 0.5, 0.8, 0.95};
    enum { N = 200 };
    for (size_t s = 0; s < 4; s++) {
        double p = shares[s], covered = 0;
        for (uint64_t right = 0; right <= N; right++) {
            double low, high;
            cop_proportion_wilson(right, N, COP_PROPORTION_Z95, &low, &high);
            double weight = lgamma(N + 1.0) - lgamma((double)right + 1) -
                            lgamma(N - (double)right + 1) + (double)right * log(p) +
                            (N - (double)right) * log1p(-p);
            if (low <= p && p <= high)
                covered += exp(weight);
        }
        check_near(covered, 0.95, 0.02);
    }
}

int main(void) {
    RUN(test_published_intervals);
    RUN(test_ends_are_z_errors_away);
    RUN(test_edges_are_exact);
    RUN(test_no_share_is_nan);
    RUN(test_coverage);
    return check_report();
}
