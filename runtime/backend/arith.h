/* The declared arithmetics of a run. Every result names the one it was computed with.
 *
 *             weights           activations between ops   KV pool  products
 * f32         widened to f32    f32                       f32      f32 fma chain, K ascending
 * bf16        rounded to bf16   bf16 at the points below  bf16     f32 fma chain, K ascending
 * native-f32  as stored         f32                       bf16     block formula, f32 inputs
 * native-a8   as stored         f32                       bf16     block formula, int8 inputs
 *
 * Norms and biases are weights too: rounded to bf16 in bf16, widened to f32 in the others.
 *
 * bf16 rounding points (where the CUDA backend rounds), each of a value computed in f32: the
 * embedding row; the residual stream after each add; the output of each norm; Q, K, V after the
 * product, after the bias where a model has one, Q and K after the norm of each head where it has
 * one, and Q, K, V once more after the rotary embedding (which leaves V alone); P before PV; the
 * attention output; the outputs of the O, gate, up and down products; silu(gate) * up. Logits are
 * f32. In the native arithmetics Q, K and V are rounded to bf16 once, after the rotary embedding.
 *
 * Product y[n] = sum_k x[k] w[n][k], for every row count, thread count and instruction set:
 *   plain weights (F32, F16, BF16): acc = fma(x[k], w[k], acc), k ascending from 0.
 *   block weights (Q4_0, Q4_1, Q8_0; 32 along K, w = d * q + b, with b = m for Q4_1, -8 d for Q4_0,
 *   0 for Q8_0), for each block in order, f32 inputs:
 *       a = fma chain of x[k] * q[k] over the block from 0;  y = fma(d, a, y);
 *       Q4_1 only: y = fma(m, sx, y), sx = x[0] + x[1] + .. of the block, left to right.
 *       (Q4_0's q is q - 8, exactly.)
 *   int8 inputs (native-a8): dx = max|x| / 127 over the block, xq = round-half-even(x / dx) as
 *       x * (1 / dx); dx = 0 gives zeros. a = sum xq * q, exact in int32; y = fma(d * dx, a, y);
 *       Q4_1 only: y = fma(m * dx, sum xq, y). Plain weights fall back to f32 inputs.
 * Bias: x + b. The norm of a head is the norm below over its head_dim values.
 * Norm: ss = left-to-right sum of x * x in 8 lanes (lane = index mod 8, fma), lanes summed pairwise
 *   ((0+1)+(2+3))+((4+5)+(6+7)); r = 1 / sqrtf(ss / n + eps); y = x * r * w.
 * silu(x) = x / (1 + exp2(-x * log2 e)) with cop_exp2. Attention: fold_reference.h.
 */
#pragma once

#include "base/status.h"

typedef enum cop_arith {
    COP_ARITH_F32,
    COP_ARITH_BF16,
    COP_ARITH_NATIVE_F32,
    COP_ARITH_NATIVE_A8,
} cop_arith;

enum { COP_ARITH_COUNT = 4 };

const char *cop_arith_name(cop_arith arith);
/* "f32", "bf16", "native-f32", "native-a8"; "native" is an alias of "native-a8". */
cop_status cop_arith_parse(const char *name, cop_arith *out);
