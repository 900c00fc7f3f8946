/* What the parts of kernel_check share: device buffers, the line that a case prints, random values.
 *
 * kernel_check knows the CUDA runtime alone. A buffer is freed by device_release, all at once,
 * after a case. An error of the runtime ends the program (exit code 1): after a fault a device is
 * no use.
 */
#pragma once

#include "measure/tree_shapes.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *device_take(size_t bytes);                  /* filled with 0xff: NaN in every float type */
void *device_put(const void *from, size_t bytes); /* a copy; from NULL: zeros */
void device_get(void *to, const void *from, size_t bytes);
void device_fill(void *p, int value, size_t bytes);
void device_expect(int error, const char *what); /* of a launch: waits for it, too */
void device_release(void);

/* Prints one line and counts. `detail` says what was compared. */
void report_case(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern int cases_run, cases_failed;

typedef struct values { /* a reproducible stream */
    uint64_t state;
} values;
static inline uint32_t next_bits(values *v) {
    v->state = v->state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(v->state >> 32);
}
static inline float next_uniform(values *v) { /* -1 .. 1 */
    return (float)(next_bits(v) >> 8) * 0x1p-23f - 1.0f;
}

static inline float from_bf16(uint16_t bits) {
    const uint32_t word = (uint32_t)bits << 16;
    float x;
    __builtin_memcpy(&x, &word, sizeof x);
    return x;
}
static inline uint16_t to_bf16(float x) { /* to nearest even; no NaN comes here */
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Memory of the host: ends the program where there is none. */
void *host_take(size_t count, size_t size);

/* The parts. */
void check_attention(const cop_tree_shape *shape, uint32_t head_pair, uint32_t page_tokens,
                     uint32_t chunk_tokens, uint32_t max_kv_heads);
void check_step_kernels(void);
