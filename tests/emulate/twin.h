/* The host side of kernels/device.cuh and kernels/ptx.cuh: what a kernel compiled with COP_EMULATE
 * calls. Tests use emulate.h.
 *
 * `emu_now` is the running CUDA thread, set at every switch. Shared accesses are checked here,
 * inline, since there are so many; all else lives behind calls. A fault leaves the fiber for good:
 * none of these functions returns after one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <tuple>

#include "emulate/emulate.h"

/* CUDA's own types. */

struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline uint2 make_uint2(unsigned x, unsigned y) {
    return {x, y};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}
static inline int2 make_int2(int x, int y) {
    return {x, y};
}
static inline int4 make_int4(int x, int y, int z, int w) {
    return {x, y, z, w};
}
static inline float2 make_float2(float x, float y) {
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

/* The running thread. */

struct emu_lane {
    uint32_t thread, threads;
    uint32_t block[3], grid[3];
    unsigned char *shared;
    uint32_t shared_bytes;
    bool watched; /* shared accesses go the long way: switches, banks, initialised bytes */
};
extern __thread emu_lane *emu_now;

enum emu_access { EMU_READ, EMU_WRITE };
enum emu_load_path { EMU_LOAD_PLAIN, EMU_LOAD_L2, EMU_LOAD_CONSTANT };
enum emu_atomic_op { EMU_ADD, EMU_EXCHANGE, EMU_MAX, EMU_OR };
enum emu_shuffle_mode { EMU_SHUFFLE_XOR, EMU_SHUFFLE_INDEX, EMU_SHUFFLE_DOWN, EMU_SHUFFLE_UP };

[[noreturn]] void emu_shared_fault(const void *p, uint32_t bytes, emu_access access,
                                   const char *file, int line);
void emu_shared_watch(const void *p, uint32_t bytes, emu_access access, const char *file, int line);

/* The checked address; `bytes` is a power of two. */
static inline void *emu_shared_at(const void *p, uint32_t bytes, emu_access access,
                                  const char *file, int line) {
    const emu_lane *now = emu_now;
    const uint64_t at = reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(now->shared);
    if (__builtin_expect(at >= now->shared_bytes || at + bytes > now->shared_bytes ||
                             (at & (bytes - 1)) != 0,
                         0))
        emu_shared_fault(p, bytes, access, file, line);
    if (__builtin_expect(now->watched, 0))
        emu_shared_watch(p, bytes, access, file, line);
    return const_cast<void *>(p);
}

/* Memory. */

void emu_load(void *out, const void *p, uint32_t bytes, emu_load_path path, const char *file,
              int line);
void emu_store(void *p, const void *value, uint32_t bytes, const char *file, int line);
uint32_t emu_atomic(emu_atomic_op op, uint32_t *p, uint32_t value, const char *file, int line);
uint32_t emu_shared_atomic(emu_atomic_op op, uint32_t *p, uint32_t value, const char *file,
                           int line);
void emu_fence(const char *file, int line);

void emu_copy_async(void *shared, const void *global, uint32_t bytes, const char *file, int line);
void emu_copy_commit(const char *file, int line);
void emu_copy_wait(uint32_t newest, const char *file, int line);
void emu_copy_wait_all(const char *file, int line);

/* Barriers and collectives. */

void emu_sync_block(const char *file, int line);
void emu_sync_named(uint32_t id, uint32_t threads, const char *file, int line);
void emu_arrive_named(uint32_t id, uint32_t threads, const char *file, int line);
void emu_sync_warp(const char *file, int line);
uint32_t emu_shuffle(emu_shuffle_mode mode, uint32_t value, uint32_t argument, const char *file,
                     int line);
uint32_t emu_ballot(bool predicate, const char *file, int line);
void emu_ldmatrix(uint32_t *r, uint32_t matrices, bool transposed, const void *row,
                  const char *file, int line);
void emu_mma_bf16(float *c, const uint32_t *a, uint32_t b0, uint32_t b1, const char *file,
                  int line);

/* Launches. */

struct emu_work {
    const char *name;
    dim3 grid;
    uint32_t threads = 0;
    size_t shared_bytes = 0;
    explicit emu_work(const char *kernel) : name(kernel) {}
    virtual ~emu_work() = default;
    virtual void call() = 0;
};

template <typename... P> struct emu_closure : emu_work {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
    emu_closure(const char *kernel_name, void (*function)(P...), std::tuple<P...> values)
        : emu_work(kernel_name), kernel(function), arguments(values) {}
    void call() override {
        std::apply(kernel, arguments);
    }
};

/* Takes the work. 0 or a cudaError_t. */
int emu_submit(emu_work *work, dim3 grid, uint32_t threads, size_t shared_bytes, void *stream);
int emu_resident_blocks(uint32_t threads, size_t shared_bytes, uint32_t *blocks);

/* Mutants. */

struct emu_mutant {
    const char *name, *text;
    bool on;
    emu_mutant *next;
    emu_mutant(const char *name, const char *text);
};
