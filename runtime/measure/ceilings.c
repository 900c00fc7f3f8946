#include "measure/ceilings.h"

#include <omp.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/clock.h"
#include "base/mapping.h"

enum {
    BYTES_MIN = 128 << 20,
    BYTES_MAX = 512 << 20,
    PASSES_MIN = 3,
    PASS_BUDGET_NS = 500000000, /* for each of the two, so that both end in time on any machine */
    SLICES = 8,  /* a pass reads one: short enough to run undisturbed, and long out of the cache */
    CHAINS = 12, /* enough to cover the latency of an FMA on two ports; the unrolling below */
    ROUNDS = 1 << 16,
};

typedef uint64_t lanes __attribute__((vector_size(64)));

/* Eight independent sums, so that the loads and not the additions are waited for. */
static uint64_t read_all(const lanes *data, size_t count) {
    lanes sum[8] = {0};
    for (size_t i = 0; i + 8 <= count; i += 8)
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++)
            sum[k] ^= data[i + k];
    lanes all = {0};
    for (int k = 0; k < 8; k++)
        all ^= sum[k];
    uint64_t folded = 0;
    for (int k = 0; k < 8; k++)
        folded ^= all[k];
    return folded;
}

static size_t buffer_bytes(void) {
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE), pages = sysconf(_SC_AVPHYS_PAGES);
    size_t bytes = cache > 0 ? 4 * (size_t)cache : 0, page = (size_t)sysconf(_SC_PAGESIZE);
    bytes = bytes < BYTES_MIN ? BYTES_MIN : bytes > BYTES_MAX ? BYTES_MAX : bytes;
    size_t room = pages > 0 ? (size_t)pages * page / 2 : bytes;
    return bytes < room ? bytes : room / 65536 * 65536;
}

static cop_status measure_reads(int threads, double *gbps) {
    size_t bytes = buffer_bytes(), count = bytes / sizeof(lanes);
    cop_mapping memory;
    if (bytes == 0 || !cop_mapping_create(bytes, &memory))
        return COP_FAIL(COP_ERR_NO_MEMORY, "no memory for a buffer of %zu bytes to read", bytes);
    lanes *data = memory.start;
    uint64_t folded = 0, begin = cop_clock_ns(), best = UINT64_MAX;
    for (int pass = -1; pass < PASSES_MIN || cop_clock_ns() - begin < PASS_BUDGET_NS; pass++) {
        uint64_t start = cop_clock_ns();
#pragma omp parallel num_threads(threads) reduction(^ : folded)
        {
            size_t me = (size_t)omp_get_thread_num(), n = (size_t)omp_get_num_threads();
            size_t slice = pass < 0 ? count : count / SLICES;
            size_t from = pass < 0 ? 0 : (size_t)pass % SLICES * slice;
            size_t first = from + slice * me / n, last = from + slice * (me + 1) / n;
            if (pass < 0) /* the first touch decides where a page lies */
                for (size_t i = first; i < last; i++)
                    data[i] = (lanes){i, i + 1, i + 2, i + 3, i + 4, i + 5, i + 6, i + 7};
            folded ^= read_all(data + first, last - first);
        }
        uint64_t ns = cop_clock_ns() - start;
        if (pass >= 0 && ns < best)
            best = ns;
        if (cop_clock_ns() - begin > 2 * (uint64_t)PASS_BUDGET_NS && best != UINT64_MAX)
            break;
    }
    /* Reads whose result nobody wants could be left out. */
    *(volatile uint64_t *)data = folded;
    cop_mapping_destroy(&memory);
    *gbps = (double)(count / SLICES * sizeof(lanes)) / (double)best;
    return COP_OK;
}

typedef float fma_chain(uint32_t rounds);

/* Each returns a value that depends on every chain, so that none can be left out. */
static float fma_portable(uint32_t rounds) {
    float sum[4 * CHAINS], total = 0;
    for (int k = 0; k < 4 * CHAINS; k++)
        sum[k] = (float)k;
    for (uint32_t i = 0; i < rounds; i++)
        for (int k = 0; k < 4 * CHAINS; k++)
            sum[k] = sum[k] * 0.999f + 0.001f; /* a fused one is a library call on old x86 */
    for (int k = 0; k < 4 * CHAINS; k++)
        total += sum[k];
    return total;
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static float fma_avx2(uint32_t rounds) {
    __m256 sum[CHAINS], scale = _mm256_set1_ps(0.999f), add = _mm256_set1_ps(0.001f);
    for (int k = 0; k < CHAINS; k++)
        sum[k] = _mm256_set1_ps((float)k);
    for (uint32_t i = 0; i < rounds; i++)
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++)
            sum[k] = _mm256_fmadd_ps(sum[k], scale, add);
    for (int k = 1; k < CHAINS; k++)
        sum[0] = _mm256_add_ps(sum[0], sum[k]);
    return _mm256_cvtss_f32(sum[0]);
}

__attribute__((target("avx512f"))) static float fma_avx512(uint32_t rounds) {
    __m512 sum[CHAINS], scale = _mm512_set1_ps(0.999f), add = _mm512_set1_ps(0.001f);
    for (int k = 0; k < CHAINS; k++)
        sum[k] = _mm512_set1_ps((float)k);
    for (uint32_t i = 0; i < rounds; i++)
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++)
            sum[k] = _mm512_fmadd_ps(sum[k], scale, add);
    for (int k = 1; k < CHAINS; k++)
        sum[0] = _mm512_add_ps(sum[0], sum[k]);
    return _mm512_cvtss_f32(sum[0]);
}
#endif

/* How many floats one round of one chain works on. */
static fma_chain *choose_chain(uint32_t *width) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) {
        *width = 16;
        return fma_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        *width = 8;
        return fma_avx2;
    }
#endif
    *width = 4;
    return fma_portable;
}

/* Threads share no register, so each keeps the best of its own short rounds and the bests add up:
 * a thread that had to wait for its core does not spoil the others' figures. */
static void measure_fma(int threads, double *gflops) {
    uint32_t width;
    fma_chain *chain = choose_chain(&width);
    double rate = 0; /* rounds a nanosecond, of all threads */
    float total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total, rate)
    {
        uint64_t begin = cop_clock_ns(), best = UINT64_MAX;
        for (int pass = 0; pass < PASSES_MIN || cop_clock_ns() - begin < PASS_BUDGET_NS; pass++) {
            uint64_t start = cop_clock_ns();
            total += chain(ROUNDS);
            uint64_t ns = cop_clock_ns() - start;
            best = ns < best ? ns : best;
        }
        rate += (double)ROUNDS / (double)best;
    }
    volatile float kept = total;
    (void)kept;
    *gflops = 2.0 * CHAINS * width * rate;
}

cop_status cop_ceilings_measure(uint32_t threads, double *read_gbps, double *fma_gflops) {
    int n = threads ? (int)threads : omp_get_num_procs();
    COP_TRY(measure_reads(n, read_gbps));
    measure_fma(n, fma_gflops);
    return COP_OK;
}
