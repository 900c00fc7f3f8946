/* A product of bfloat16 matrices in the order of the cpu backend: each output is one chain of fused
 * multiply-adds over k ascending from 0 in f32, rounded once to the output's type. Column-major as
 * cuBLAS has it: c[m x n] = op(a)[m x k] op(b)[k x n]. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cemu_product {
    const uint16_t *a, *b;
    void *c;
    int m, n, k;
    int lda, ldb, ldc; /* in elements */
    bool transpose_a, transpose_b;
    bool c_f32; /* else bfloat16 */
} cemu_product;

/* False: no memory. Bits do not depend on the instruction set. */
bool cemu_product_run(const cemu_product *product);
/* Bytes from the first element to behind the last one. */
size_t cemu_product_a_bytes(const cemu_product *product);
size_t cemu_product_b_bytes(const cemu_product *product);
size_t cemu_product_c_bytes(const cemu_product *product);
/* "portable", "avx2", "avx512"; NULL: the widest there is. False: not on this processor. */
bool cemu_product_select(const char *name);

#ifdef __cplusplus
}
#endif
