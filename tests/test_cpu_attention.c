/* The cpu backend's attention against fold_reference.c, row by row and bit by bit, over random
 * small worlds (attention_world.h). */
#include <math.h>

#include "attention_world.h"
#include "backend/cpu/attention.h"
#include "base/memory.h"
#include "kernels/cost.h"

/* Tokens that tiles load, from the views alone: each trie node of a tile once, up to what is seen
 * of it by a slot with a row. */
static uint64_t expected_loads(const world *w, const tables *t) {
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < t->view.n_tiles; i++) {
        const cop_tile *tile = &t->tiles[i];
        for (uint32_t s = 0; s < tile->n_slots; s++) {
            const view *v = tile->slot[s] == COP_SLOT_HOLE ? NULL : &w->views[tile->slot[s]];
            for (uint32_t x = 0; v && v->row >= 0 && x < v->n; x++) {
                uint32_t covered_by_others = 0;
                for (uint32_t e = 0; e < s; e++) {
                    const view *o =
                        tile->slot[e] == COP_SLOT_HOLE ? NULL : &w->views[tile->slot[e]];
                    if (!o || o->row < 0 || o->n <= x ||
                        memcmp(o->segment, v->segment, (x + 1) * sizeof v->segment[0]))
                        continue;
                    const uint32_t seen = seen_tokens(w, o, x);
                    covered_by_others = seen > covered_by_others ? seen : covered_by_others;
                }
                const uint32_t seen = seen_tokens(w, v, x);
                tokens += seen > covered_by_others ? seen - covered_by_others : 0;
            }
        }
    }
    return tokens;
}

static uint64_t unique_tokens(const world *w) {
    uint64_t tokens = 0;
    for (uint32_t s = 0; s < w->n_segments; s++) {
        uint32_t most = 0;
        for (uint32_t i = 0; i < w->n_views; i++) {
            const view *v = &w->views[i];
            for (uint32_t x = 0; v->row >= 0 && x < v->n; x++) {
                if (v->segment[x] == s && seen_tokens(w, v, x) > most)
                    most = seen_tokens(w, v, x);
            }
        }
        tokens += most;
    }
    return tokens;
}

static void fill_pool(cop_cpu_attention *attention, const world *w, const tables *t,
                      uint32_t layer) {
    const uint32_t row = w->n_kv_heads * w->d, page_tokens = t->view.page_tokens;
    float *poison = malloc(row * sizeof *poison);
    CHECK(poison);
    for (uint32_t i = 0; i < row; i++)
        poison[i] = NAN; /* what lies past a segment's end must not matter */
    for (uint32_t page = 0; page < t->n_pages; page++) {
        for (uint32_t token = 0; token < page_tokens; token++)
            cop_cpu_attention_store(attention, layer, page, token, poison, poison);
    }
    for (uint32_t s = 0; s < w->n_segments; s++) {
        for (uint32_t i = 0; i < w->tokens[s]; i++) {
            const uint32_t page = t->page_table[t->segments[s].page_table_offset + i / page_tokens];
            cop_cpu_attention_store(attention, layer, page, i % page_tokens,
                                    w->k[s] + (size_t)i * row, w->v[s] + (size_t)i * row);
        }
    }
    free(poison);
}

static void check_bytes(const world *w, const tables *t, const cop_cpu_attention_counters *got) {
    const cop_attention_shape shape = {.n_heads = w->n_heads,
                                       .n_kv_heads = w->n_kv_heads,
                                       .head_dim = w->d,
                                       .kv_element_bytes = w->bf16 ? 2 : 4};
    uint64_t *seen = malloc(cop_cost_scratch_words(w->n_segments, t->n_pages) * sizeof *seen);
    CHECK(seen);
    cop_attention_cost cost;
    cop_cost_attention(&t->view, w->n_segments, &shape, seen, &cost);
    free(seen);
    const uint64_t token = 2ull * w->n_kv_heads * w->d * shape.kv_element_bytes;
    uint64_t keys = 0, partials = 0;
    for (uint32_t s = 0; s < w->n_views; s++) {
        const view *v = &w->views[s];
        for (uint32_t x = 0; v->row >= 0 && x < v->n; x++)
            keys += seen_tokens(w, v, x);
        partials += v->row >= 0 && v->n_chunks > 1 ? 2 * v->n_chunks : 0;
    }
    CHECK_EQ(cost.kv_load_bytes, expected_loads(w, t) * token);
    CHECK_EQ(cost.kv_first_bytes, unique_tokens(w) * token);
    CHECK_EQ(cost.partial_bytes, partials * w->n_heads * (w->d + 2) * 4);
    CHECK_EQ(cost.flops, 4 * keys * w->n_heads * w->d);
    CHECK_EQ(cost.output_bytes, (uint64_t)w->n_rows * w->n_heads * w->d * shape.kv_element_bytes);
    CHECK_EQ(got->load_bytes, cost.kv_load_bytes);
    CHECK_EQ(got->first_bytes, cost.kv_first_bytes);
    CHECK_EQ(got->partial_bytes, cost.partial_bytes);
}

static void run_and_compare(cop_cpu_attention *attention, const world *w, const tables *t,
                            uint32_t layer, const char *what) {
    const size_t stride = (size_t)w->n_heads * w->d, n = w->n_rows * (stride + 3);
    float *q = malloc((n + 1) * sizeof *q), *out = malloc((n + 1) * sizeof *out);
    CHECK(q && out);
    for (size_t i = 0; i <= n; i++)
        out[i] = NAN; /* every element of every row is written */
    for (uint32_t r = 0; r < w->n_rows; r++)
        memcpy(q + r * (stride + 3), w->q + r * stride, stride * sizeof *q);
    cop_cpu_attention_counters before, after;
    cop_cpu_attention_counters_read(attention, &before);
    const uint64_t allocations = cop_memory_count();
    CHECK_OK(cop_cpu_attention_run(attention, layer, &t->view, q, (uint32_t)stride + 3, out,
                                   (uint32_t)stride + 3));
    CHECK_EQ(cop_memory_count(), allocations);
    cop_cpu_attention_counters_read(attention, &after);
    for (uint32_t r = 0; r < w->n_rows; r++) {
        const float *a = out + r * (stride + 3), *b = w->expected + r * stride;
        for (size_t i = 0; i < stride; i++) {
            if (memcmp(&a[i], &b[i], sizeof *a) == 0)
                continue;
            fprintf(
                stderr,
                "%s: d %u, %u/%u heads, %s, page %u: row %u head %zu element %zu is %a, not %a\n",
                what, w->d, w->n_heads, w->n_kv_heads, w->bf16 ? "bf16" : "f32",
                t->view.page_tokens, r, i / w->d, i % w->d, a[i], b[i]);
            exit(1);
        }
        for (size_t i = stride; i < stride + 3; i++)
            CHECK(isnan(a[i])); /* nothing else is */
    }
    after.load_bytes -= before.load_bytes;
    after.first_bytes -= before.first_bytes;
    after.partial_bytes -= before.partial_bytes;
    check_bytes(w, t, &after);
    free(q);
    free(out);
}

static cop_cpu_attention_options options_of(const world *w, const tables *t, cop_isa isa,
                                            uint32_t n_threads) {
    return (cop_cpu_attention_options){.n_layers = N_LAYERS,
                                       .n_heads = w->n_heads,
                                       .n_kv_heads = w->n_kv_heads,
                                       .head_dim = w->d,
                                       .n_pages = t->n_pages + 1,
                                       .page_tokens = t->view.page_tokens,
                                       .max_rows = w->n_rows + 1,
                                       .max_partials = t->view.n_partials + 1,
                                       .bf16 = w->bf16,
                                       .round_output = w->bf16,
                                       .n_threads = n_threads,
                                       .isa = isa};
}

static void test_every_row_is_the_fold_of_its_own_view(void) {
    static const uint32_t widths[] = {1, 2, 3, 5, 16, 64};
    static world w;
    tables *t = malloc(sizeof *t);
    CHECK(t);
    const char *wanted = getenv("COP_TEST_WORLDS");
    const uint32_t n_worlds = wanted ? (uint32_t)atoi(wanted) : 60;
    for (uint32_t i = 0; i < n_worlds; i++) {
        world_create(&w);
        for (int isa = COP_ISA_PORTABLE; isa <= COP_ISA_AVX512; isa++) {
            if (!cop_isa_available((cop_isa)isa))
                continue;
            for (uint32_t pass = 0; pass < 3; pass++) {
                make_tables(&w, t, 16u << (i + pass) % 3, widths[below(6)]);
                const cop_cpu_attention_options options =
                    options_of(&w, t, (cop_isa)isa, 1 + (i + pass) % 3);
                cop_cpu_attention *attention;
                CHECK_OK(cop_cpu_attention_create(&options, &attention));
                fill_pool(attention, &w, t, pass % N_LAYERS);
                run_and_compare(attention, &w, t, pass % N_LAYERS, cop_isa_name((cop_isa)isa));
                if (pass == 0) /* nothing of a launch is left over */
                    run_and_compare(attention, &w, t, 0, "second launch");
                cop_cpu_attention_destroy(attention);
            }
        }
        world_destroy(&w);
    }
    free(t);
    for (int c = 0; c < N_COVERED; c++) {
        printf("  %6u %s\n", coverage[c], covered_name[c]);
        CHECK(coverage[c] > 0);
    }
}

static void expect_small(world *w) {
    for (uint32_t h = 0; h < 2; h++)
        expect_row(w, &w->views[0], h, w->expected + h * w->d);
}

/* One branch, one segment: what the tests below need of a world. */
static void small_world(world *w, tables *t, uint32_t d, uint32_t tokens) {
    *w = (world){.n_heads = 2, .n_kv_heads = 1, .d = d, .bf16 = true, .n_segments = 1};
    w->chunk_tokens = w->chunk_tail_tokens = 64;
    w->tokens[0] = tokens;
    w->k[0] = random_values((size_t)tokens * d, true, 1.0f);
    w->v[0] = random_values((size_t)tokens * d, true, 1.0f);
    w->views[0] = (view){.n = 1, .limit = UINT32_MAX};
    w->n_views = w->n_rows = 1;
    w->q = random_values(2 * d, true, 2.0f);
    w->expected = random_values(2 * d, true, 2.0f);
    expect_small(w);
    make_tables(w, t, 64, 1);
}

/* Pages whose element offsets lie 2^31 and 2^32 apart and up to 2^33; the pool is mapped and never
 * touched elsewhere. */
static void test_offsets_past_32_bits(void) {
    static const uint32_t pages[] = {3, (1u << 18) + 3, (1u << 19) + 3, (1u << 20) - 1};
    static world w;
    tables *t = malloc(sizeof *t);
    CHECK(t);
    small_world(&w, t, 64, 250);
    memcpy(t->page_table + t->segments[0].page_table_offset, pages, sizeof pages);
    cop_cpu_attention_options options = options_of(&w, t, COP_ISA_PORTABLE, 1);
    options.n_pages = 1u << 20;
    options.n_layers = 1;
    CHECK_OK(cop_isa_choose(NULL, &options.isa));
    cop_cpu_attention *attention;
    CHECK_OK(cop_cpu_attention_create(&options, &attention));
    for (uint32_t i = 0; i < w.tokens[0]; i++)
        cop_cpu_attention_store(attention, 0, pages[i / 64], i % 64, w.k[0] + (size_t)i * w.d,
                                w.v[0] + (size_t)i * w.d);
    run_and_compare(attention, &w, t, 0, "far pages");
    cop_cpu_attention_destroy(attention);
    world_destroy(&w);
    free(t);
}

/* Scores of -inf, in whole leaves and among others, and results that underflow to -0. */
static void test_edges_keep_their_bits(void) {
    static world w;
    tables *t = malloc(sizeof *t);
    CHECK(t);
    for (uint32_t edge = 0; edge < 4; edge++) {
        small_world(&w, t, 16, 200);
        w.chunk_tokens = w.chunk_tail_tokens = edge % 2 ? 64 : 1024;
        w.bf16 = edge < 2; /* whose output would round to -0 after the rest was done */
        w.q[0] = w.q[16] = 1;
        for (uint32_t j = 0; j < 200; j++) {
            if (edge < 2 && (j < 128 || j % 3 == 0))
                w.k[0][j * 16] = -INFINITY;
            for (uint32_t i = 0; edge >= 2 && i < 16; i++) {
                w.k[0][j * 16 + i] = 0;
                w.v[0][j * 16 + i] = j == i ? -0x1p-149f : -0.0f;
            }
        }
        expect_small(&w);
        make_tables(&w, t, 64, 1);
        for (int isa = COP_ISA_PORTABLE; isa <= COP_ISA_AVX512; isa++) {
            if (!cop_isa_available((cop_isa)isa))
                continue;
            const cop_cpu_attention_options options = options_of(&w, t, (cop_isa)isa, 1);
            cop_cpu_attention *attention;
            CHECK_OK(cop_cpu_attention_create(&options, &attention));
            fill_pool(attention, &w, t, 0);
            run_and_compare(attention, &w, t, 0, "edges");
            cop_cpu_attention_destroy(attention);
        }
        world_destroy(&w);
    }
    free(t);
}

static void test_what_cannot_run_is_refused(void) {
    static world w;
    tables *t = malloc(sizeof *t);
    CHECK(t);
    small_world(&w, t, 16, 200);
    const cop_cpu_attention_options good = options_of(&w, t, COP_ISA_PORTABLE, 1);
    cop_cpu_attention *attention;
    cop_cpu_attention_options bad = good;
    bad.head_dim = 24;
    CHECK_STATUS(cop_cpu_attention_create(&bad, &attention), COP_ERR_UNSUPPORTED);
    CHECK_MESSAGE("head_dim 24");
    CHECK(!attention);
    bad.head_dim = 272;
    CHECK_STATUS(cop_cpu_attention_create(&bad, &attention), COP_ERR_UNSUPPORTED);
    bad = good;
    bad.n_heads = 3;
    bad.n_kv_heads = 2;
    CHECK_STATUS(cop_cpu_attention_create(&bad, &attention), COP_ERR_UNSUPPORTED);
    bad = good;
    bad.page_tokens = 8;
    CHECK_STATUS(cop_cpu_attention_create(&bad, &attention), COP_ERR_CONFIG);
    bad = good;
    bad.n_layers = bad.n_pages = UINT32_MAX;
    CHECK_STATUS(cop_cpu_attention_create(&bad, &attention), COP_ERR_NO_MEMORY);

    float out[2 * 16];
    CHECK_OK(cop_cpu_attention_create(&good, &attention));
    t->view.page_tokens = 32;
    CHECK_STATUS(cop_cpu_attention_run(attention, 0, &t->view, w.q, 32, out, 32), COP_ERR_MISMATCH);
    t->view.page_tokens = 64;
    t->slots[0].row = 9;
    CHECK_STATUS(cop_cpu_attention_run(attention, 0, &t->view, w.q, 32, out, 32), COP_ERR_NO_ROOM);
    t->slots[0].row = 0;
    t->slots[0].first_partial = 9;
    CHECK_STATUS(cop_cpu_attention_run(attention, 0, &t->view, w.q, 32, out, 32), COP_ERR_NO_ROOM);
    t->slots[0].first_partial = 0;
    t->entries[0].q_shift = 5;
    CHECK_STATUS(cop_cpu_attention_run(attention, 0, &t->view, w.q, 32, out, 32),
                 COP_ERR_UNSUPPORTED);
    t->entries[0].q_shift = 0;
    fill_pool(attention, &w, t, 0);
    run_and_compare(attention, &w, t, 0, "after refusals");
    cop_cpu_attention_destroy(attention);
    cop_cpu_attention_destroy(NULL);
    world_destroy(&w);
    free(t);
}

int main(void) {
    RUN(test_what_cannot_run_is_refused);
    RUN(test_offsets_past_32_bits);
    RUN(test_edges_keep_their_bits);
    RUN(test_every_row_is_the_fold_of_its_own_view);
    return check_report();
}
