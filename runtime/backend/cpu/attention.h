/* The cpu backend's KV pool and the attention that executes a plan over it.
 *
 * Pool layout: for each layer, page and KV head one contiguous tile of K, [head_dim][page_tokens]
 * (vectors run over keys), and one of V, [page_tokens][head_dim] (vectors run over d), so that
 * neither sum of fold_reference.h needs a reduction inside a vector: its order is the same in every
 * instruction set. Elements are f32 for arithmetic f32 and bf16 otherwise.
 *
 * Results are those of fold_reference.h, bit for bit, whatever the tiles, threads and page size.
 * Bytes are counted where leaves are loaded. Nothing is allocated after create.
 */
#pragma once

#include <stdint.h>

#include "backend/cpu/isa.h"
#include "backend/cpu/ops.h"
#include "base/status.h"
#include "kernels/tables.h"

typedef struct cop_cpu_attention_options {
    uint32_t n_layers, n_heads, n_kv_heads, head_dim; /* head_dim a multiple of 16, at most 256 */
    uint32_t n_pages, page_tokens;
    uint32_t max_rows;     /* query rows (tokens) of a step */
    uint32_t max_partials; /* for each query head */
    bool bf16;             /* element type of the pool; rounds P and the output too */
    bool round_output;     /* the output is rounded to bf16 (arithmetic bf16 only) */
    uint32_t n_threads;
    cop_isa isa;
} cop_cpu_attention_options;

typedef struct cop_cpu_attention cop_cpu_attention;

typedef struct cop_cpu_attention_counters {
    uint64_t load_bytes;    /* K and V bytes loaded, each leaf of an entry once */
    uint64_t first_bytes;   /* of these, the first load of each token in its launch */
    uint64_t partial_bytes; /* partials written and read */
    uint64_t append_bytes;
} cop_cpu_attention_counters;

cop_status cop_cpu_attention_create(const cop_cpu_attention_options *options,
                                    cop_cpu_attention **out);
void cop_cpu_attention_destroy(cop_cpu_attention *attention);

/* Stores one token's K and V, [n_kv_heads, head_dim] f32 each (already rounded where bf16 rounds; a
 * bf16 pool rounds them again, which changes nothing then), at a page and a token within it. */
void cop_cpu_attention_store(cop_cpu_attention *attention, uint32_t layer, uint32_t page,
                             uint32_t token, const float *k, const float *v);

/* Queries come as they are before the rotary embedding, and are rotated by their row's position
 * plus the entry's q_shift when a walk comes to it: once, so that rounding to bf16 (`round`, NULL:
 * none) happens once as well, and a shift of 0 gives the bits of a query that was rotated before.
 */
typedef struct cop_cpu_attention_turn {
    void (*rotate)(float *heads, uint32_t n_heads, uint32_t head_dim, const float *cosine,
                   const float *sine); /* ops.h */
    void (*round)(float *x, uint32_t n);
    const cop_rotary *rotary;
    const int32_t *position; /* [rows] */
} cop_cpu_attention_turn;

/* For the launches from now on; NULL: queries are rotated already, and a q_shift is refused. */
void cop_cpu_attention_set_turn(cop_cpu_attention *attention, const cop_cpu_attention_turn *turn);

/* One launch: every row of the plan. q row r is q + r * q_stride, [n_heads, head_dim] f32; out
 * likewise. A bf16 pool expects q already rounded to bf16. Rows without a key get zeros. */
cop_status cop_cpu_attention_run(cop_cpu_attention *attention, uint32_t layer,
                                 const cop_plan_tables *tables, const float *q, uint32_t q_stride,
                                 float *out, uint32_t out_stride);

void cop_cpu_attention_counters_read(const cop_cpu_attention *attention,
                                     cop_cpu_attention_counters *out);
