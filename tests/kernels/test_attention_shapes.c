/* What the tree kernel loads on every published shape at its full size, counted at the load,
 * against cost.h's prediction and the minimum. No arithmetic: counting alone. Heads are symmetric
 * (one small case proves it below), so one KV head stands for all. */
#include "check.h"
#include "emulate/emulate.h"
#include "job/shape_plan.h"
#include "kernels/attention.h"
#include "kernels/cost.h"
#include "measure/tree_shapes.h"
#include "plan_upload.h"

typedef struct counted {
    emu_buffer_counts pool, q, out, partials;
    cop_attention_cost cost;
    uint64_t launches;
} counted;

/* One layer of the shape with so many KV heads, each with `group` query heads. */
static counted count_shape(const cop_tree_shape *shape, uint32_t n_kv_heads, uint32_t group,
                           uint32_t page_tokens) {
    const uint32_t d = shape->head_dim, n_heads = n_kv_heads * group;
    const cop_shape_plan_options options = {.page_tokens = page_tokens,
                                            .chunk_tokens = 1024,
                                            .chunk_tail_tokens = 1024,
                                            .group = group,
                                            .tile_slots = cop_attention_tile_slots(d, group)};
    cop_shape_plan *plan;
    CHECK_OK(cop_shape_plan_create(&shape->tree, &options, &plan));
    const cop_plan_tables t = cop_shape_plan_tables(plan);
    const uint32_t n_segments = cop_shape_plan_segments(plan), n_pages = cop_shape_plan_pages(plan);
    uint32_t n_limits, n_rows = 0;
    const uint32_t n_entries = table_entries(&t, &n_limits);
    for (uint32_t i = 0; i < t.n_slots; i++)
        n_rows += t.slots[i].row >= 0;
    emu_forget_all();
    emu_reset_counts();
    cop_attention_args a = {.page_tokens = page_tokens,
                            .n_heads = n_heads,
                            .n_kv_heads = n_kv_heads,
                            .head_dim = d,
                            .n_slots = t.n_slots,
                            .n_blocks = 3,
                            .q_stride = (uint64_t)n_heads * d,
                            .out_stride = (uint64_t)n_heads * d,
                            .scale_log2 = 0.125f};
    const cop_attention_queue queue = {t.n_items, t.n_slots};
    const uint64_t n_counters = cop_attention_counters(t.n_slots, d, n_heads, n_kv_heads);
    const size_t partials = ((size_t)t.n_partials + 1) * n_heads;
    a.segments = upload(t.segments, n_segments * sizeof *t.segments, "tables");
    a.page_table = upload(t.page_table,
                          cop_shape_plan_page_table_words(plan) * sizeof *t.page_table, "tables");
    a.tiles = upload(t.tiles, t.n_tiles * sizeof *t.tiles, "tables");
    a.entries = upload(t.entries, n_entries * sizeof *t.entries, "tables");
    a.limits = upload(t.limits, n_limits * sizeof *t.limits, "tables");
    a.items = upload(t.items, t.n_items * sizeof *t.items, "tables");
    a.slots = upload(t.slots, t.n_slots * sizeof *t.slots, "tables");
    a.queue = upload(&queue, sizeof queue, "tables");
    a.ticket = emu_alloc(4, "ticket", EMU_OUTPUT);
    a.counters = emu_alloc(n_counters * 4 + 4, "counters", EMU_OUTPUT);
    a.pool = emu_alloc(4ull * n_pages * n_kv_heads * page_tokens * d, "pool", EMU_INPUT);
    a.q = emu_alloc((size_t)n_rows * n_heads * d * 2, "q", EMU_INPUT);
    a.out = emu_alloc((size_t)n_rows * n_heads * d * 2, "out", EMU_WORKSPACE);
    a.lse = emu_alloc((size_t)n_rows * n_heads * 4, "lse", EMU_WORKSPACE);
    a.partial_o = emu_alloc(partials * d * 4, "partials", EMU_WORKSPACE);
    a.partial_ml = emu_alloc(partials * 8, "partials", EMU_WORKSPACE);
    CHECK(a.ticket && a.counters && a.pool && a.q && a.out && a.lse && a.partial_o && a.partial_ml);
    memset(a.ticket, 0, 4);
    memset(a.counters, 0, n_counters * 4);
    if (cop_launch_attention_tree(&a, NULL) != 0) {
        fprintf(stderr, "%s\n", emu_report()->text);
        exit(1);
    }
    counted c = {.launches = emu_launches(NULL)};
    CHECK(emu_counts("pool", &c.pool) && emu_counts("q", &c.q) && emu_counts("out", &c.out) &&
          emu_counts("partials", &c.partials));
    const cop_attention_shape heads = {.n_heads = n_heads,
                                       .n_kv_heads = n_kv_heads,
                                       .head_dim = d,
                                       .kv_element_bytes = 2,
                                       .kernel_parts = cop_attention_parts(d, group)};
    uint64_t *seen = calloc(cop_cost_scratch_words(n_segments, n_pages), sizeof *seen);
    CHECK(seen);
    cop_cost_attention(&t, n_segments, &heads, seen, &c.cost);
    free(seen);
    cop_shape_plan_destroy(plan);
    return c;
}

static void check_counts(const counted *c, uint64_t minimum) {
    CHECK_EQ(c->launches, 1);
    CHECK_EQ(c->pool.load_bytes, c->cost.kv_load_bytes);
    CHECK_EQ(c->pool.first_load_bytes, c->cost.kv_first_bytes);
    CHECK_EQ(c->pool.first_load_bytes, minimum);
    CHECK_EQ(c->partials.load_bytes + c->partials.store_bytes, c->cost.partial_bytes);
    CHECK_EQ(c->q.load_bytes, c->cost.query_bytes);
    CHECK_EQ(c->out.store_bytes, c->cost.output_bytes);
}

static uint64_t minimum_of(const cop_tree_shape *shape, uint32_t n_kv_heads) {
    const cop_attention_shape heads = {.n_heads = n_kv_heads,
                                       .n_kv_heads = n_kv_heads,
                                       .head_dim = shape->head_dim,
                                       .kv_element_bytes = 2};
    return cop_cost_minimum_bytes(&shape->tree, &heads);
}

static void count_file(const char *path, uint32_t step) {
    cop_shape_file *file;
    CHECK_OK(cop_shape_file_load(path, &file));
    for (uint32_t i = 0; i < cop_shape_file_count(file); i += step) {
        const cop_tree_shape *shape = cop_shape_file_shape(file, i);
        const uint32_t h = i % shape->n_heads; /* another head configuration each time */
        const counted c =
            count_shape(shape, 1, shape->heads[h][0] / shape->heads[h][1], 16u << i % 3);
        check_counts(&c, minimum_of(shape, 1));
    }
    cop_shape_file_destroy(file);
}

static void set_counting(bool counting) {
    emu_options options = emu_get_options();
    options.no_arithmetic = counting;
    emu_set_options(&options);
}

static void test_every_published_shape_loads_what_is_predicted(void) {
    set_counting(true);
    count_file("configs/shapes/tree_shapes.json", check_effort(100, 5) == 100 ? 1 : 6);
    count_file("configs/shapes/edge_shapes.json", check_effort(100, 5) == 100 ? 1 : 6);
    set_counting(false);
}

static void test_heads_are_symmetric_and_counting_needs_no_arithmetic(void) {
    cop_shape_file *file;
    CHECK_OK(cop_shape_file_load("configs/shapes/edge_shapes.json", &file));
    const cop_tree_shape *shape = cop_shape_file_shape(file, 0);
    const counted with = count_shape(shape, 1, 4, 32);
    set_counting(true);
    const counted one = count_shape(shape, 1, 4, 32), three = count_shape(shape, 3, 4, 32);
    set_counting(false);
    CHECK_EQ(with.pool.load_bytes, one.pool.load_bytes);
    CHECK_EQ(with.partials.load_bytes, one.partials.load_bytes);
    CHECK_EQ(three.pool.load_bytes, 3 * one.pool.load_bytes);
    CHECK_EQ(three.pool.first_load_bytes, 3 * one.pool.first_load_bytes);
    CHECK_EQ(three.q.load_bytes, 3 * one.q.load_bytes);
    CHECK_EQ(three.partials.store_bytes, 3 * one.partials.store_bytes);
    check_counts(&three, minimum_of(shape, 3));
    cop_shape_file_destroy(file);
}

int main(void) {
    RUN(test_heads_are_symmetric_and_counting_needs_no_arithmetic);
    RUN(test_every_published_shape_loads_what_is_predicted);
    return check_report();
}
