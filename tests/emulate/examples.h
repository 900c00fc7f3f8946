/* Small kernels with the shapes that the real ones have, for the emulation's own tests: a block's
 * sum, a staged matrix product, a queue with a merge by the last arriver, raw fragments. Each holds
 * mutants. They compile as CUDA too, which proves the device language's other half.
 *
 * Every launcher gives 0 or a cudaError_t; pointers are device pointers.
 */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* out[b] = the sum of the b-th run of `per_block` values of x[n], n <= blocks * per_block. */
int example_launch_sum(const float *x, float *out, uint32_t n, uint32_t per_block, uint32_t blocks,
                       void *stream);

/* c [64, 64] f32 = a [64, k] b [k, 64], bf16; k a multiple of 8. */
int example_launch_product(const uint16_t *a, const uint16_t *b, float *c, uint32_t k,
                           void *stream);

typedef struct example_queue {
    const float *x;     /* [items, parts, 128] */
    float *partials;    /* [items, parts, 128] */
    float *out;         /* [items, 128]: sums over the parts, in order */
    uint32_t *counters; /* [items], zero before and after */
    uint32_t *ticket;   /* zero before; the last block to leave zeroes it */
    uint32_t *left;     /* the same */
    uint32_t items, parts;
} example_queue;
int example_launch_queue(const example_queue *queue, void *stream);

/* One warp. m [16, 16] 16-bit elements; plain[i], transposed[i] [32] the registers of ldmatrix x4
 * on its four 8 x 8 blocks (0, 0), (8, 0), (0, 8), (8, 8). */
int example_launch_fragments(const uint16_t *m, uint32_t *plain, uint32_t *transposed,
                             void *stream);
/* One warp. c [16, 8] = a [16, 16] b [16, 8] + c, fragments by hand. */
int example_launch_mma(const uint16_t *a, const uint16_t *b, float *c, void *stream);

/* One warp and the scalar functions: out[i] [32] per function, in the order of the source. */
enum { EXAMPLE_SCALARS = 18 };
int example_launch_scalars(const float *x, const float *y, float *out, void *stream);
/* out[i] [32]: shuffles xor 5, from lane 7, down 3, up 3; ballot, any, all of x > 0. */
enum { EXAMPLE_COLLECTIVES = 7 };
int example_launch_collectives(const int32_t *x, int32_t *out, void *stream);

/* Two warps produce through named barriers, two consume; out [rounds, 64] = 2 x [rounds, 64]. */
int example_launch_handover(const float *x, float *out, uint32_t rounds, void *stream);

/* Single accesses, for the counts: which of them, see the source. */
int example_launch_accesses(float *buffer, uint32_t how, void *stream);
/* Stores that every thread makes at a stride of 4-byte words in shared memory. */
int example_launch_strided(float *out, uint32_t stride, void *stream);

#ifdef __cplusplus
}
#endif
