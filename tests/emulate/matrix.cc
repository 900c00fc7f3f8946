/* ldmatrix and mma.sync m16n8k16, after the fragment tables of the PTX ISA (see kernels/ptx.cuh).
 */
#include "emulate/collective.h"

#include <cmath>
#ifdef __x86_64__
#include <immintrin.h>
#endif

struct matrices {
    uint32_t *r;
    uint32_t n;
    bool transposed;
    const unsigned char *row;
};

static void run_ldmatrix(emu_warp *warp) {
    const matrices *first = static_cast<matrices *>(warp->arguments[0]);
    for (uint32_t i = 0; i < first->n; i++) {
        uint16_t m[8][8];
        for (uint32_t r = 0; r < 8; r++)
            memcpy(m[r], static_cast<matrices *>(warp->arguments[8 * i + r])->row, sizeof m[r]);
        for (uint32_t lane = 0; lane < EMU_WARP; lane++) {
            const uint32_t g = lane / 4, t = lane % 4;
            const uint32_t low = first->transposed ? m[2 * t][g] : m[g][2 * t];
            const uint32_t high = first->transposed ? m[2 * t + 1][g] : m[g][2 * t + 1];
            static_cast<matrices *>(warp->arguments[lane])->r[i] = low | high << 16;
        }
    }
}

/* Eight rows of 16 bytes a matrix, each matrix a phase of its own. */
static void count_ldmatrix(emu_warp *warp) {
    const matrices *first = static_cast<matrices *>(warp->arguments[0]);
    uint32_t at[EMU_WARP];
    for (uint32_t lane = 0; lane < EMU_WARP; lane++)
        at[lane] = static_cast<uint32_t>(static_cast<matrices *>(warp->arguments[lane])->row -
                                         warp->owner->shared);
    emu_bank_request(emu_here(), at, 0xffffffffu >> (32 - 8 * first->n), 16, warp->site);
}

static void run_ldmatrix_counted(emu_warp *warp) {
    count_ldmatrix(warp);
    if (!emu_here().options.no_arithmetic)
        run_ldmatrix(warp);
}

void emu_ldmatrix(uint32_t *r, uint32_t n, bool transposed, const void *row, const char *file,
                  int line) {
    const emu_options &options = emu_here().options;
    if (emu_now->thread % EMU_WARP < 8 * n) { /* the other lanes' addresses are not read */
        const uint64_t at =
            reinterpret_cast<uintptr_t>(row) - reinterpret_cast<uintptr_t>(emu_now->shared);
        if (at % 16 || at + 16 > emu_now->shared_bytes)
            emu_shared_fault(row, 16, EMU_READ, file, line);
        if (options.check_uninitialised || options.switch_at_access)
            emu_shared_watch_row(row, 16, EMU_READ, file, line);
    }
    if (options.no_arithmetic && !options.count_banks) {
        memset(r, 0, n * sizeof *r);
        return;
    }
    matrices own = {r, n, transposed, static_cast<const unsigned char *>(row)};
    if (options.no_arithmetic)
        memset(r, 0, n * sizeof *r);
    emu_collective(options.count_banks ? run_ldmatrix_counted : run_ldmatrix,
                   transposed ? "ldmatrix.trans" : "ldmatrix", &own, file, line);
}

struct product {
    float *c;
    const uint32_t *a;
    uint32_t b[2];
};

struct tiles {
    alignas(32) float a[16][16], b[16][8], c[16][8];
};

static inline float value_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void gather(const emu_warp *warp, tiles *to) {
    for (uint32_t lane = 0; lane < EMU_WARP; lane++) {
        const product *own = static_cast<product *>(warp->arguments[lane]);
        const uint32_t g = lane / 4, t = 2 * (lane % 4);
        for (uint32_t i = 0; i < 4; i++) {
            float *pair = &to->a[g + 8 * (i & 1)][t + 8 * (i >> 1)];
            pair[0] = value_of(own->a[i] << 16);
            pair[1] = value_of(own->a[i] & 0xffff0000u);
        }
        for (uint32_t i = 0; i < 2; i++) {
            to->b[t + 8 * i][g] = value_of(own->b[i] << 16);
            to->b[t + 8 * i + 1][g] = value_of(own->b[i] & 0xffff0000u);
        }
        memcpy(&to->c[g][t], own->c, 2 * sizeof(float));
        memcpy(&to->c[g + 8][t], own->c + 2, 2 * sizeof(float));
    }
}

static void scatter(const emu_warp *warp, const tiles *from) {
    for (uint32_t lane = 0; lane < EMU_WARP; lane++) {
        float *c = static_cast<product *>(warp->arguments[lane])->c;
        const uint32_t g = lane / 4, t = 2 * (lane % 4);
        memcpy(c, &from->c[g][t], 2 * sizeof(float));
        memcpy(c + 2, &from->c[g + 8][t], 2 * sizeof(float));
    }
}

static void multiply_portable(tiles *x) {
    for (uint32_t m = 0; m < 16; m++)
        for (uint32_t n = 0; n < 8; n++)
            for (uint32_t k = 0; k < 16; k++)
                x->c[m][n] = fmaf(x->a[m][k], x->b[k][n], x->c[m][n]);
}

#ifdef __x86_64__
/* Eight columns at once; each element is still its own chain over k = 0 .. 15. */
__attribute__((target("avx2,fma"))) static void multiply_avx2(tiles *x) {
    for (uint32_t m = 0; m < 16; m += 8) {
        __m256 c[8];
        for (uint32_t i = 0; i < 8; i++)
            c[i] = _mm256_load_ps(x->c[m + i]);
        for (uint32_t k = 0; k < 16; k++) {
            const __m256 b = _mm256_load_ps(x->b[k]);
            for (uint32_t i = 0; i < 8; i++)
                c[i] = _mm256_fmadd_ps(_mm256_broadcast_ss(&x->a[m + i][k]), b, c[i]);
        }
        for (uint32_t i = 0; i < 8; i++)
            _mm256_store_ps(x->c[m + i], c[i]);
    }
}
#endif

static void run_mma(emu_warp *warp) {
    tiles x;
    gather(warp, &x);
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        multiply_avx2(&x);
    else
#endif
        multiply_portable(&x);
    scatter(warp, &x);
    emu_here().products++;
}

void emu_mma_bf16(float *c, const uint32_t *a, uint32_t b0, uint32_t b1, const char *file,
                  int line) {
    if (emu_here().options.no_arithmetic)
        return;
    product own = {c, a, {b0, b1}};
    emu_collective(run_mma, "mma", &own, file, line);
}
