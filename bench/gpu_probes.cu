/* What the kernels take from the hardware and no emulation can show. One line a probe; exit code 1
 * if one does not hold. Build: nvcc -std=c++17 -O3 -I. -arch=native bench/gpu_probes.cu
 *
 *   layouts  ldmatrix and mma put elements where ptx.cuh says (integers: exact)
 *   masked   an mma whose A row is zero leaves that row's accumulator alone, bit for bit but for
 *            the sign of a zero, which stores undo: an unseen leaf is a no-op
 *   place    a row's bits do not depend on its place in the tile or on the other rows
 *   order    16 products at once against one at a time: how a tensor core rounds (not judged)
 *   merge    last arrivers under contention: every sum complete, every counter back at zero
 *
 * wgmma and cuBLAS are not probed: nothing canonical uses them.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/launch.cuh"
#include "kernels/ptx.cuh"

enum { TILE_A = 16 * 16, TILE_B = 16 * 8, TILE_C = 16 * 8 };

struct tile {
    uint16_t a[TILE_A], b[TILE_B]; /* row-major, b is [k][n] */
    float c[TILE_C];
};

/* One warp, one tile: A through ldmatrix, B through ldmatrix.trans, as the kernels load them. */
__global__ void mma_kernel(const tile *in, float *out) {
    __shared__ __align__(16) uint16_t a[TILE_A], b[TILE_B];
    const tile &t = in[blockIdx.x];
    for (int i = threadIdx.x; i < TILE_A; i += 32)
        a[i] = t.a[i];
    for (int i = threadIdx.x; i < TILE_B; i += 32)
        b[i] = t.b[i];
    __syncwarp();
    const int lane = threadIdx.x, g = lane / 4, k = lane % 4;
    uint32_t fa[4], fb[2];
    cop_ldmatrix_x4(fa, a + (lane % 16) * 16 + (lane / 16) * 8);
    cop_ldmatrix_x2_trans(fb, b + (lane % 16) * 8);
    float c[4] = {t.c[g * 8 + 2 * k], t.c[g * 8 + 2 * k + 1], t.c[(g + 8) * 8 + 2 * k],
                  t.c[(g + 8) * 8 + 2 * k + 1]};
    cop_mma_bf16(c, fa, fb[0], fb[1]);
    float *o = out + blockIdx.x * TILE_C;
    o[g * 8 + 2 * k] = c[0];
    o[g * 8 + 2 * k + 1] = c[1];
    o[(g + 8) * 8 + 2 * k] = c[2];
    o[(g + 8) * 8 + 2 * k + 1] = c[3];
}

/* Each group of `parts` blocks adds up its partials; the last arriver sums them in index order. */
__global__ void arrive_kernel(float *partial, uint32_t *counter, float *sum, uint32_t groups,
                              uint32_t parts) {
    const uint32_t group = blockIdx.x % groups, part = blockIdx.x / groups;
    __shared__ bool last;
    for (uint32_t i = threadIdx.x; i < 128; i += blockDim.x)
        partial[(group * parts + part) * 128 + i] = float(part + 1) * float(i + 1);
    __syncthreads();
    if (threadIdx.x == 0) {
        cop_fence_device();
        last = cop_atomic_add(&counter[group], 1u) == parts - 1;
        cop_fence_device();
    }
    __syncthreads();
    if (!last)
        return;
    for (uint32_t i = threadIdx.x; i < 128; i += blockDim.x) {
        float total = 0;
        for (uint32_t p = 0; p < parts; p++)
            total += cop_ld_cg(&partial[(group * parts + p) * 128 + i]);
        sum[group * 128 + i] = total;
    }
    if (threadIdx.x == 0)
        counter[group] = 0;
}

static int failed;

static void need(cudaError_t error, const char *what) {
    if (error == cudaSuccess)
        return;
    printf("FAILED %s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

static void report(bool ok, const char *name, const char *detail) {
    printf("%s %-8s %s\n", ok ? "ok    " : "FAILED", name, detail);
    failed += !ok;
}

template <typename T> static T *on_device(size_t n) {
    void *p = nullptr;
    need(cudaMalloc(&p, n * sizeof(T)), "cudaMalloc");
    need(cudaMemset(p, 0, n * sizeof(T)), "cudaMemset");
    return static_cast<T *>(p);
}

template <typename T> static void fetch(T *to, const T *from, size_t n) {
    need(cudaMemcpy(to, from, n * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
}

static uint16_t bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float value(uint16_t bits) {
    const uint32_t word = static_cast<uint32_t>(bits) << 16;
    float x;
    memcpy(&x, &word, sizeof x);
    return x;
}

static uint32_t next_random(uint32_t &state) {
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static float uniform(uint32_t &state) {
    return static_cast<float>(next_random(state)) * 0x1p-23f - 1.0f;
}

static void fill(tile &t, uint32_t &state, bool integers) {
    for (uint16_t &x : t.a)
        x = bf16(integers ? static_cast<float>(next_random(state) % 17) - 8 : uniform(state));
    for (uint16_t &x : t.b)
        x = bf16(integers ? static_cast<float>(next_random(state) % 17) - 8 : uniform(state));
    for (float &x : t.c)
        x = integers ? static_cast<float>(next_random(state) % 17) : uniform(state);
}

static void run(const tile *tiles, float *out, int n) {
    tile *in = on_device<tile>(n);
    float *results = on_device<float>(n * TILE_C);
    need(cudaMemcpy(in, tiles, n * sizeof *in, cudaMemcpyHostToDevice), "cudaMemcpy");
    mma_kernel<<<n, 32>>>(in, results);
    need(cudaGetLastError(), "mma_kernel");
    need(cudaDeviceSynchronize(), "mma_kernel");
    fetch(out, results, n * TILE_C);
    need(cudaFree(in), "cudaFree");
    need(cudaFree(results), "cudaFree");
}

static void probe_layouts(tile *tiles, float *out, int n, uint32_t &state) {
    bool ok = true;
    for (int i = 0; i < n; i++)
        fill(tiles[i], state, true);
    run(tiles, out, n);
    for (int i = 0; i < n; i++) {
        for (int r = 0; r < 16; r++) {
            for (int c = 0; c < 8; c++) {
                float sum = tiles[i].c[r * 8 + c];
                for (int k = 0; k < 16; k++)
                    sum += value(tiles[i].a[r * 16 + k]) * value(tiles[i].b[k * 8 + c]);
                ok &= out[i * TILE_C + r * 8 + c] == sum;
            }
        }
    }
    report(ok, "layouts", "ldmatrix and mma fragments, integers");
}

static void probe_masked(tile *tiles, float *out, int n, uint32_t &state) {
    static const uint32_t special[] = {0x80000000u, 0x00000001u, 0x807fffffu,
                                       0x00000000u, 0x7f7fffffu, 0x33800001u};
    bool ok = true, zero = true;
    for (int i = 0; i < n; i++) {
        fill(tiles[i], state, false);
        for (int r = 0; r < 16; r += 2) {
            for (int k = 0; k < 16; k++)
                tiles[i].a[r * 16 + k] = 0;
            memcpy(&tiles[i].c[r * 8], special, sizeof special);
        }
    }
    run(tiles, out, n);
    for (int i = 0; i < n; i++) {
        for (int r = 0; r < 16; r += 2) {
            for (int c = 0; c < 8; c++) {
                const float &was = tiles[i].c[r * 8 + c], &is = out[i * TILE_C + r * 8 + c];
                if (was ==
                    0) /* the sign of zero may change: stores add +0, so it does not matter */
                    zero &= is == 0;
                else
                    ok &= memcmp(&was, &is, sizeof is) == 0;
            }
        }
    }
    report(ok && zero, "masked", "a row of zeros leaves its accumulator's bits alone");
}

static void probe_place(tile *tiles, float *out, int n, uint32_t &state) {
    bool ok = true;
    fill(tiles[0], state, false);
    for (int i = 1; i < n; i++) { /* rows turned by i, every second tile among other mates */
        fill(tiles[i], state, false);
        memcpy(tiles[i].b, tiles[0].b, sizeof tiles[0].b);
        for (int r = 0; r < 16; r++) {
            if (i % 2 && r != i % 16)
                continue;
            const int from = (r + i) % 16;
            memcpy(&tiles[i].a[r * 16], &tiles[0].a[from * 16], 32);
            memcpy(&tiles[i].c[r * 8], &tiles[0].c[from * 8], 32);
        }
    }
    run(tiles, out, n);
    for (int i = 1; i < n; i++)
        for (int r = 0; r < 16; r++)
            if (!(i % 2) || r == i % 16)
                ok &= memcmp(&out[i * TILE_C + r * 8], &out[(r + i) % 16 * 8], 32) == 0;
    report(ok, "place", "a row's bits do not depend on its place or its mates");
}

static void probe_order(tile *tiles, float *out, int n, uint32_t &state) {
    int equal = 0, all = 0;
    for (int i = 0; i < n; i++)
        fill(tiles[i], state, false);
    run(tiles, out, n);
    for (int i = 0; i < n; i++) {
        for (int r = 0; r < 16; r++) {
            for (int c = 0; c < 8; c++, all++) {
                float sum = tiles[i].c[r * 8 + c];
                for (int k = 0; k < 16; k++)
                    sum = __builtin_fmaf(value(tiles[i].a[r * 16 + k]),
                                         value(tiles[i].b[k * 8 + c]), sum);
                equal += out[i * TILE_C + r * 8 + c] == sum;
            }
        }
    }
    char text[96];
    snprintf(text, sizeof text, "%.1f %% of results equal a chain of fused multiply-adds",
             100.0 * equal / all);
    report(true, "order", text);
}

static void probe_merge() {
    constexpr uint32_t groups = 64, parts = 96, rounds = 50;
    float *partial = on_device<float>(size_t(groups) * parts * 128),
          *sums = on_device<float>(groups * 128);
    uint32_t *counters = on_device<uint32_t>(groups);
    static float sum[groups * 128];
    uint32_t counter[groups];
    bool ok = true;
    for (uint32_t round = 0; round < rounds; round++) {
        need(cudaMemset(partial, 0xff, size_t(groups) * parts * 128 * sizeof *partial), "memset");
        need(cudaMemset(sums, 0xff, groups * 128 * sizeof *sums), "memset");
        arrive_kernel<<<groups * parts, 128>>>(partial, counters, sums, groups, parts);
        need(cudaGetLastError(), "arrive_kernel");
        need(cudaDeviceSynchronize(), "arrive_kernel");
        fetch(sum, sums, groups * 128);
        fetch(counter, counters, groups);
        for (uint32_t g = 0; g < groups; g++) {
            ok &= counter[g] == 0;
            for (uint32_t i = 0; i < 128; i++)
                ok &= sum[g * 128 + i] == float(parts * (parts + 1) / 2) * float(i + 1);
        }
    }
    report(ok, "merge", "64 sums of 96 parts, 50 rounds, last arrivers");
}

int main() {
    enum { TILES = 512 };
    cudaDeviceProp device;
    need(cudaGetDeviceProperties(&device, 0), "a GPU");
    printf("%s, compute capability %d.%d, %d processors\n", device.name, device.major, device.minor,
           device.multiProcessorCount);
    static tile tiles[TILES];
    static float out[TILES * TILE_C];
    uint32_t state = 1;
    probe_layouts(tiles, out, TILES, state);
    probe_masked(tiles, out, TILES, state);
    probe_place(tiles, out, TILES, state);
    probe_order(tiles, out, TILES, state);
    probe_merge();
    return failed != 0;
}
