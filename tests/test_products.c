/* The matrix products against a plain restatement of backend/arith.h: bit for bit, for every type,
 * arithmetic, instruction set, row count and thread count; and against double precision. */
#include <math.h>

#include "backend/cpu/products.h"
#include "base/mapping.h"
#include "base/memory.h"
#include "base/rng.h"
#include "check.h"
#include "kv/fold_reference.h"

static const cop_dtype types[] = {COP_F32, COP_F16, COP_BF16, COP_Q4_0, COP_Q4_1, COP_Q8_0};
enum { TYPES = sizeof types / sizeof *types, VARIANTS = 4 };

/* Instruction sets, and AVX-512 with and without its int8 dot products. */
static bool variant(int index, cop_isa *isa, bool *no_vnni) {
    static const cop_isa isas[VARIANTS] = {COP_ISA_PORTABLE, COP_ISA_AVX2, COP_ISA_AVX512,
                                           COP_ISA_AVX512};
    *isa = isas[index];
    *no_vnni = index == 2;
    return cop_isa_available(*isa) && (index != 3 || cop_isa_has_vnni());
}

typedef struct random_bits {
    cop_rng_key key;
    uint32_t draw;
} random_bits;

static uint32_t next_word(random_bits *random) {
    uint32_t words[4];
    cop_rng_draw4(random->key, random->draw++, words);
    return words[0];
}

static float next_float(random_bits *random) { /* -1 .. 1 */
    return (float)((int32_t)next_word(random) >> 8) * 0x1p-23f;
}

static uint16_t next_half(random_bits *random) { /* 2^-7 .. 2^-4, either sign; some are subnormal */
    const uint32_t word = next_word(random);
    const uint32_t exponent = word % 16 == 0 ? 0 : 8 + word / 16 % 3;
    return (uint16_t)((word >> 31 << 15) | exponent << 10 | (word >> 8 & 0x3ff));
}

/* Any bytes are legal weights of a block type but for its scales. */
static cop_tensor make_tensor(cop_dtype type, uint32_t rows, uint32_t cols, uint64_t seed) {
    random_bits random = {.key = {.seed = seed, .stream = (uint64_t)type}};
    const uint32_t bytes = cop_dtype_block_bytes(type);
    const size_t blocks = (size_t)rows * cols / cop_dtype_block_values(type);
    uint8_t *data = cop_calloc(blocks, bytes);
    CHECK(data);
    for (size_t b = 0; b < blocks; b++) {
        uint8_t *block = data + b * bytes;
        const float value = next_float(&random);
        const uint16_t half = next_half(&random), minimum = next_half(&random);
        const uint16_t brain = cop_bf16_from_f32(value);
        for (uint32_t i = 2; i < bytes; i++)
            block[i] = (uint8_t)next_word(&random);
        memcpy(block, type == COP_BF16 ? &brain : &half, 2);
        if (type == COP_F32)
            memcpy(block, &value, 4);
        if (type == COP_Q4_1)
            memcpy(block + 2, &minimum, 2);
    }
    return (cop_tensor){
        .type = type, .rows = rows, .cols = cols, .data = data, .bytes = blocks * bytes};
}

typedef struct problem {
    cop_arith arith;
    cop_tensor tensors[COP_PRODUCT_PARTS];
    uint32_t n_parts, outputs, inputs, rows;
    float *x, *expected;
    size_t x_stride, y_stride;
} problem;

static float widen_half(const uint8_t *bytes) {
    float value;
    cop_dtype_widen(COP_F16, bytes, 1, &value);
    return value;
}

/* One block of the formula, straight from the file's bytes. */
static float add_block(cop_dtype type, const uint8_t *block, const float *x, bool int8, float y) {
    const float d = widen_half(block), m = type == COP_Q4_1 ? widen_half(block + 2) : 0.0f;
    int q[32];
    for (int k = 0; k < 32; k++) {
        if (type == COP_Q8_0) {
            q[k] = ((const int8_t *)block)[2 + k];
            continue;
        }
        const uint8_t byte = block[(type == COP_Q4_1 ? 4 : 2) + k % 16];
        q[k] = (k < 16 ? byte & 15 : byte >> 4) - (type == COP_Q4_0 ? 8 : 0);
    }
    if (!int8) {
        float a = 0.0f, sx = x[0];
        for (int k = 0; k < 32; k++)
            a = fmaf(x[k], (float)q[k], a);
        for (int k = 1; k < 32; k++)
            sx += x[k];
        y = fmaf(d, a, y);
        return type == COP_Q4_1 ? fmaf(m, sx, y) : y;
    }
    float largest = 0.0f;
    for (int k = 0; k < 32; k++)
        largest = fmaxf(largest, fabsf(x[k]));
    const float dx = largest / 127.0f, inverse = 1.0f / dx;
    int sum = 0, sq = 0;
    for (int k = 0; k < 32 && dx != 0.0f; k++) {
        const int xq = (int)lrintf(x[k] * inverse);
        sum += xq * q[k];
        sq += xq;
    }
    y = fmaf(d * dx, (float)sum, y);
    return type == COP_Q4_1 ? fmaf(m * dx, (float)sq, y) : y;
}

static float expected_output(cop_arith arith, const cop_tensor *t, uint32_t n, const float *x,
                             float *wide) {
    const bool native = arith == COP_ARITH_NATIVE_F32 || arith == COP_ARITH_NATIVE_A8;
    const uint32_t values = cop_dtype_block_values(t->type), k_count = (uint32_t)t->cols;
    const size_t row_bytes = k_count / values * cop_dtype_block_bytes(t->type);
    const uint8_t *row = (const uint8_t *)t->data + n * row_bytes;
    float y = 0.0f;
    if (native && values > 1) {
        for (uint32_t b = 0; b < k_count / values; b++)
            y = add_block(t->type, row + b * cop_dtype_block_bytes(t->type), x + 32 * b,
                          arith == COP_ARITH_NATIVE_A8, y);
        return y;
    }
    cop_dtype_widen(t->type, row, k_count, wide);
    for (uint32_t k = 0; k < k_count; k++) {
        const float w =
            arith == COP_ARITH_BF16 ? cop_f32_from_bf16(cop_bf16_from_f32(wide[k])) : wide[k];
        y = fmaf(x[k], w, y);
    }
    return y;
}

static problem make_problem(cop_arith arith, const cop_dtype *part_types, const uint32_t *outputs,
                            uint32_t n_parts, uint32_t inputs, uint32_t rows) {
    problem p = {.arith = arith, .n_parts = n_parts, .inputs = inputs, .rows = rows};
    for (uint32_t i = 0; i < n_parts; i++) {
        p.tensors[i] = make_tensor(part_types[i], outputs[i], inputs, 7 + i);
        p.outputs += outputs[i];
    }
    p.x_stride = inputs + 3;
    p.y_stride = p.outputs + 5;
    p.x = cop_calloc(rows * p.x_stride, sizeof *p.x);
    p.expected = cop_calloc((size_t)rows * p.outputs, sizeof *p.expected);
    float *wide = cop_calloc(inputs, sizeof *wide);
    CHECK(p.x && p.expected && wide);
    random_bits random = {.key = {.seed = 99}};
    for (uint32_t r = 0; r < rows; r++) {
        float *x = p.x + r * p.x_stride;
        const float scale = ldexpf(1.0f, (int)(r % 9) - 4);
        for (uint32_t k = 0; k < inputs; k++) /* one whole block of zeros in some rows */
            x[k] = r % 5 == 1 && k < 32 ? 0.0f : scale * next_float(&random);
        uint32_t at = 0;
        for (uint32_t i = 0; i < n_parts; i++)
            for (uint32_t n = 0; n < outputs[i]; n++)
                p.expected[(size_t)r * p.outputs + at++] =
                    expected_output(arith, &p.tensors[i], n, x, wide);
    }
    cop_free(wide);
    return p;
}

static void problem_release(problem *p) {
    for (uint32_t i = 0; i < p->n_parts; i++)
        cop_free((void *)p->tensors[i].data);
    cop_free(p->x);
    cop_free(p->expected);
}

typedef struct packs {
    cop_packed parts[COP_PRODUCT_PARTS];
    cop_mapping memory[COP_PRODUCT_PARTS];
} packs;

static packs pack_problem(const problem *p, uint32_t threads) {
    packs all;
    for (uint32_t i = 0; i < p->n_parts; i++) {
        CHECK_OK(cop_packed_plan(&p->tensors[i], p->arith, &all.parts[i]));
        CHECK(cop_mapping_create(cop_packed_bytes(&all.parts[i]), &all.memory[i]));
        all.parts[i].data = all.memory[i].start;
        float *scratch = cop_calloc(threads * cop_packed_scratch(&all.parts[i]), sizeof *scratch);
        CHECK(scratch != NULL);
        cop_packed_fill(&all.parts[i], &p->tensors[i], threads, scratch);
        cop_free(scratch);
    }
    return all;
}

static void packs_release(packs *all, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        cop_mapping_destroy(&all->memory[i]);
}

/* Runs the first `rows` rows and compares bits; nothing beside the outputs may be written. */
static void check_rows(const problem *p, const packs *all, cop_products *products, uint32_t rows,
                       const char *what) {
    float *y = cop_calloc(rows * p->y_stride, sizeof *y);
    CHECK(y);
    for (size_t i = 0; i < rows * p->y_stride; i++)
        y[i] = 12345.0f;
    const uint64_t allocated = cop_memory_count();
    const uint64_t bytes = cop_products_run(products, &(cop_product_call){
                                                          .parts = all->parts,
                                                          .n_parts = p->n_parts,
                                                          .x = p->x,
                                                          .x_stride = p->x_stride,
                                                          .n_rows = rows,
                                                          .y = y,
                                                          .y_stride = p->y_stride,
                                                      });
    CHECK_EQ(cop_memory_count(), allocated);
    uint64_t packed = 0;
    for (uint32_t i = 0; i < p->n_parts; i++)
        packed += cop_packed_bytes(&all->parts[i]);
    CHECK_EQ(bytes, packed);
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t n = 0; n < p->y_stride; n++) {
            const float got = y[r * p->y_stride + n];
            const float want = n < p->outputs ? p->expected[(size_t)r * p->outputs + n] : 12345.0f;
            if (memcmp(&got, &want, sizeof got) == 0)
                continue;
            fprintf(stderr, "%s, %s, %u rows: row %u output %u is %.9g, not %.9g\n", what,
                    cop_arith_name(p->arith), rows, r, n, got, want);
            exit(1);
        }
    }
    cop_free(y);
}

static void check_problem(const problem *p, const uint32_t *row_counts, uint32_t n_counts) {
    for (int v = 0; v < VARIANTS; v++) {
        cop_isa isa;
        bool no_vnni;
        if (!variant(v, &isa, &no_vnni))
            continue;
        for (uint32_t threads = 1; threads <= 2; threads++) {
            packs all = pack_problem(p, threads);
            cop_products *products;
            CHECK_OK(cop_products_create(&(cop_products_options){.isa = isa,
                                                                 .no_vnni = no_vnni,
                                                                 .arith = p->arith,
                                                                 .n_threads = threads,
                                                                 .max_rows = p->rows,
                                                                 .max_inputs = p->inputs},
                                         &products));
            for (uint32_t i = 0; i < n_counts; i++)
                check_rows(p, &all, products, row_counts[i], cop_isa_name(isa));
            cop_products_destroy(products);
            packs_release(&all, p->n_parts);
        }
    }
}

/* 1 to 64 rows; outputs that fill panels, that do not, and fewer than one panel. */
static void test_every_type_has_the_declared_bits(void) {
    static const uint32_t counts[] = {1, 2, 3, 4, 5, 6, 7, 11, 13, 19, 32, 37, 64};
    static const uint32_t shapes[][2] = {{9 * 32, 64}, {80, 96}, {7, 160}};
    for (int arith = 0; arith < COP_ARITH_COUNT; arith++) {
        for (int t = 0; t < TYPES; t++) {
            for (int s = 0; s < 3; s++) {
                const uint32_t rows = s == 1 ? 64 : 7;
                problem p =
                    make_problem((cop_arith)arith, &types[t], &shapes[s][0], 1, shapes[s][1], rows);
                check_problem(&p, counts, rows == 64 ? 13 : 7);
                problem_release(&p);
            }
        }
    }
}

static void test_all_row_counts_to_64(void) {
    uint32_t counts[64];
    for (uint32_t i = 0; i < 64; i++)
        counts[i] = i + 1;
    for (int arith = 0; arith < COP_ARITH_COUNT; arith++) {
        problem p =
            make_problem((cop_arith)arith, &(cop_dtype){COP_Q4_1}, &(uint32_t){40}, 1, 32, 64);
        check_problem(&p, counts, 64);
        problem_release(&p);
    }
}

static void test_plain_inputs_need_not_be_even(void) {
    static const uint32_t counts[] = {1, 2, 5, 8};
    for (int t = 0; t < 3; t++) {
        for (int arith = 0; arith < COP_ARITH_COUNT; arith++) {
            problem p = make_problem((cop_arith)arith, &types[t], &(uint32_t){45}, 1, 37 - t, 8);
            check_problem(&p, counts, 4);
            problem_release(&p);
        }
    }
}

/* Many rows take a long K in several passes over partial sums. */
static void test_long_inputs(void) {
    static const uint32_t counts[] = {1, 6, 7, 9};
    for (int t = 0; t < TYPES; t++) {
        for (int arith = 0; arith < COP_ARITH_COUNT; arith++) {
            problem p = make_problem((cop_arith)arith, &types[t], &(uint32_t){32}, 1, 2080, 9);
            check_problem(&p, counts, 4);
            problem_release(&p);
        }
    }
}

/* Q, K and V of one product may be stored in different types, and end inside panels. */
static void test_parts_of_different_types_stand_side_by_side(void) {
    static const cop_dtype mixed[3] = {COP_Q4_1, COP_F16, COP_Q8_0};
    static const uint32_t outputs[3] = {100, 48, 33}, counts[] = {1, 3, 9};
    for (int arith = 0; arith < COP_ARITH_COUNT; arith++) {
        problem p = make_problem((cop_arith)arith, mixed, outputs, 3, 64, 9);
        check_problem(&p, counts, 3);
        problem_release(&p);
    }
}

static cop_products *products_for(const problem *p, cop_isa isa, bool no_vnni) {
    cop_products *products;
    CHECK_OK(cop_products_create(&(cop_products_options){.isa = isa,
                                                         .no_vnni = no_vnni,
                                                         .arith = p->arith,
                                                         .n_threads = 1,
                                                         .max_rows = p->rows,
                                                         .max_inputs = p->inputs},
                                 &products));
    return products;
}

/* -128 is no value that Q8_0 writers produce, but a file may hold it: every int8 path is exact. */
static void test_extreme_bytes_do_not_saturate(void) {
    problem p =
        make_problem(COP_ARITH_NATIVE_A8, &(cop_dtype){COP_Q8_0}, &(uint32_t){32}, 1, 64, 2);
    uint8_t *data = (uint8_t *)p.tensors[0].data;
    for (size_t i = 0; i < p.tensors[0].bytes; i++)
        if (i % 34 >= 2)
            data[i] = 0x80;
    float wide[64];
    for (uint32_t k = 0; k < 64; k++)
        p.x[k] = 1.0f, p.x[p.x_stride + k] = k % 2 ? -1.0f : 1.0f;
    for (uint32_t r = 0; r < 2; r++)
        for (uint32_t n = 0; n < 32; n++)
            p.expected[r * 32 + n] =
                expected_output(p.arith, &p.tensors[0], n, p.x + r * p.x_stride, wide);
    check_problem(&p, (const uint32_t[]){1, 2}, 2);
    problem_release(&p);
}

/* Quantising must not turn a value that is not finite into plausible numbers, nor touch others. */
static void test_a_bad_row_is_nan_and_alone(void) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int arith = 0; arith < COP_ARITH_COUNT; arith++) {
        for (int b = 0; b < 3; b++) {
            problem p =
                make_problem((cop_arith)arith, &(cop_dtype){COP_Q4_1}, &(uint32_t){64}, 1, 96, 8);
            packs all = pack_problem(&p, 1);
            p.x[5 * p.x_stride + 40] = bad[b];
            for (int v = 0; v < VARIANTS; v++) {
                cop_isa isa;
                bool no_vnni;
                if (!variant(v, &isa, &no_vnni))
                    continue;
                cop_products *products = products_for(&p, isa, no_vnni);
                float y[8 * 64];
                cop_products_run(products, &(cop_product_call){.parts = all.parts,
                                                               .n_parts = 1,
                                                               .x = p.x,
                                                               .x_stride = p.x_stride,
                                                               .n_rows = 8,
                                                               .y = y,
                                                               .y_stride = 64});
                for (uint32_t i = 0; i < 8 * 64; i++) {
                    if (i / 64 == 5)
                        CHECK(!isfinite(y[i]));
                    else
                        CHECK(memcmp(&y[i], &p.expected[i], sizeof *y) == 0);
                }
                cop_products_destroy(products);
            }
            packs_release(&all, 1);
            problem_release(&p);
        }
    }
}

static void test_tiny_inputs_quantise_to_zero_not_to_infinity(void) {
    problem p =
        make_problem(COP_ARITH_NATIVE_A8, &(cop_dtype){COP_Q8_0}, &(uint32_t){32}, 1, 32, 1);
    packs all = pack_problem(&p, 1);
    for (uint32_t k = 0; k < 32; k++)
        p.x[k] = 0x1p-140f;
    cop_products *products = products_for(&p, COP_ISA_PORTABLE, false);
    float y[32];
    cop_products_run(products, &(cop_product_call){.parts = all.parts,
                                                   .n_parts = 1,
                                                   .x = p.x,
                                                   .x_stride = p.x_stride,
                                                   .n_rows = 1,
                                                   .y = y,
                                                   .y_stride = 32});
    for (uint32_t n = 0; n < 32; n++)
        CHECK(y[n] == 0.0f);
    cop_products_destroy(products);
    packs_release(&all, 1);
    problem_release(&p);
}

static void test_rounding_the_output(void) {
    problem p = make_problem(COP_ARITH_BF16, &(cop_dtype){COP_F32}, &(uint32_t){45}, 1, 64, 9);
    packs all = pack_problem(&p, 1);
    cop_products *products = products_for(&p, COP_ISA_PORTABLE, false);
    float y[9 * 45];
    p.x[8 * p.x_stride] = NAN;
    cop_products_run(products, &(cop_product_call){.parts = all.parts,
                                                   .n_parts = 1,
                                                   .x = p.x,
                                                   .x_stride = p.x_stride,
                                                   .n_rows = 9,
                                                   .y = y,
                                                   .y_stride = 45,
                                                   .round_output = true});
    for (uint32_t i = 0; i < 8 * 45; i++)
        CHECK(y[i] == cop_f32_from_bf16(cop_bf16_from_f32(p.expected[i])));
    for (uint32_t i = 8 * 45; i < 9 * 45; i++)
        CHECK(isnan(y[i]));
    cop_products_destroy(products);
    packs_release(&all, 1);
    problem_release(&p);
}

/* Error of y against double precision, relative to sum |x w|: one rounding a term for f32 inputs,
 * half a quantisation step of the inputs for int8. */
static void test_accuracy_against_double(void) {
    for (int arith = 0; arith < COP_ARITH_COUNT; arith++) {
        for (int t = 0; t < TYPES; t++) {
            problem p = make_problem((cop_arith)arith, &types[t], &(uint32_t){64}, 1, 576, 4);
            float *wide = cop_calloc(p.inputs, sizeof *wide);
            CHECK(wide);
            for (uint32_t i = 0; i < 4 * 64; i++) {
                const cop_tensor *w = &p.tensors[0];
                const size_t row_bytes = w->bytes / w->rows;
                cop_dtype_widen(w->type, (const uint8_t *)w->data + i % 64 * row_bytes, p.inputs,
                                wide);
                const float *x = p.x + i / 64 * p.x_stride;
                double sum = 0, size = 0, reach = 0;
                for (uint32_t k = 0; k < p.inputs; k++) {
                    sum += (double)x[k] * wide[k];
                    size += fabs((double)x[k] * wide[k]);
                    reach += fabs((double)wide[k]) * ldexp(1.0, (int)(i / 64) - 4) / 254.0;
                }
                double tolerance = size * 600 * 0x1p-24;
                if (arith == COP_ARITH_BF16)
                    tolerance += size * 0x1p-8;
                if (arith == COP_ARITH_NATIVE_A8 && t >= 3)
                    tolerance += reach;
                if (t >= 3) /* cancellation of d q against the minimum */
                    tolerance *= 4;
                CHECK(fabs(p.expected[i] - sum) <= tolerance);
            }
            cop_free(wide);
            problem_release(&p);
        }
    }
}

static void test_shapes_are_refused(void) {
    cop_packed packed;
    CHECK_STATUS(cop_packed_plan(&(cop_tensor){.type = COP_F32, .rows = 0, .cols = 4},
                                 COP_ARITH_F32, &packed),
                 COP_ERR_UNSUPPORTED);
    CHECK_STATUS(cop_packed_plan(&(cop_tensor){.type = COP_Q8_0, .rows = 4, .cols = 40},
                                 COP_ARITH_F32, &packed),
                 COP_ERR_FORMAT);
    CHECK_MESSAGE("blocks of 32");
}

static void test_isa_is_chosen_by_name(void) {
    cop_isa isa;
    unsetenv("COPPICE_ISA");
    CHECK_OK(cop_isa_choose("portable", &isa));
    CHECK_EQ(isa, COP_ISA_PORTABLE);
    CHECK_STATUS(cop_isa_choose("sse9", &isa), COP_ERR_USAGE);
    CHECK_MESSAGE("sse9");
    CHECK_OK(cop_isa_choose(NULL, &isa));
    CHECK(cop_isa_available(isa));
    setenv("COPPICE_ISA", "portable", 1);
    CHECK_OK(cop_isa_choose(NULL, &isa));
    CHECK_EQ(isa, COP_ISA_PORTABLE);
    setenv("COPPICE_ISA", "neon", 1);
    CHECK_STATUS(cop_isa_choose(NULL, &isa), COP_ERR_USAGE);
    CHECK_MESSAGE("COPPICE_ISA");
    unsetenv("COPPICE_ISA");
    if (!cop_isa_available(COP_ISA_AVX512)) {
        CHECK_STATUS(cop_isa_choose("avx512", &isa), COP_ERR_UNSUPPORTED);
    }
}

int main(void) {
    RUN(test_isa_is_chosen_by_name);
    RUN(test_shapes_are_refused);
    RUN(test_every_type_has_the_declared_bits);
    RUN(test_all_row_counts_to_64);
    RUN(test_plain_inputs_need_not_be_even);
    RUN(test_long_inputs);
    RUN(test_parts_of_different_types_stand_side_by_side);
    RUN(test_extreme_bytes_do_not_saturate);
    RUN(test_a_bad_row_is_nan_and_alone);
    RUN(test_tiny_inputs_quantise_to_zero_not_to_infinity);
    RUN(test_rounding_the_output);
    RUN(test_accuracy_against_double);
    return check_report();
}
