/* The attention kernels under the real plan at sizes and places that random trees do not reach:
 * each case is a tree written down by hand, and every row must have the fold's bits.
 *
 * A tree is a list of nodes, parents first; rows stand on the nodes that nobody stands on. K, V and
 * Q are functions of where they stand, so nothing but the pool is kept. */
#include <math.h>
#include <sys/mman.h>

#include "check.h"
#include "emulate/emulate.h"
#include "kernels/attention.h"
#include "kernels/cost.h"
#include "kv/fold_reference.h"
#include "kv/kv.h"
#include "kv/plan.h"
#include "plan_upload.h"

enum { NODES_MAX = 1200, CHUNK = 64, ROOT = UINT16_MAX };

typedef struct tree {
    uint32_t d, n_heads, n_kv_heads, page_tokens;
    uint32_t set_aside; /* tokens in pages of their own that no row sees, before all others */
    uint32_t n_nodes, parent[NODES_MAX], tokens[NODES_MAX];
    /* made by tree_plan */
    cop_kv *kv;
    cop_plan *plan;
    cop_node node[NODES_MAX];
    uint32_t leaf[NODES_MAX], n_rows; /* the node of each row */
    uint32_t n_pages, n_segments;
} tree;

static uint32_t add(tree *t, uint32_t parent, uint32_t tokens) {
    CHECK(t->n_nodes < NODES_MAX);
    t->parent[t->n_nodes] = parent;
    t->tokens[t->n_nodes] = tokens;
    return t->n_nodes++;
}

static float value_of(uint32_t kind, uint32_t a, uint32_t b, uint32_t x) {
    uint64_t z = ((uint64_t)kind << 60 ^ (uint64_t)a << 40 ^ (uint64_t)b << 16 ^ x) * 2 + 1;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return cop_f32_from_bf16(cop_bf16_from_f32((float)((z >> 40) & 0xffff) / 32768.0f - 1.0f));
}

static void tree_plan(tree *t) {
    uint32_t tokens = 0, slots[NODES_MAX];
    t->n_pages = t->set_aside / t->page_tokens + 2;
    for (uint32_t i = 0; i < t->n_nodes; i++) {
        tokens += t->tokens[i];
        t->n_pages += (t->tokens[i] + t->page_tokens - 1) / t->page_tokens;
    }
    t->n_segments = t->n_nodes + 2;
    CHECK_OK(cop_kv_create(&(cop_kv_options){.page_tokens = t->page_tokens,
                                             .n_pages = t->n_pages,
                                             .max_segments = t->n_segments,
                                             .max_nodes = 2 * NODES_MAX + tokens / CHUNK,
                                             .chunk_tokens = CHUNK,
                                             .chunk_tail_tokens = CHUNK},
                           &t->kv));
    const uint32_t group = t->n_heads / t->n_kv_heads;
    CHECK_OK(
        cop_plan_create(&(cop_plan_options){.group = group,
                                            .tile_slots = cop_attention_tile_slots(t->d, group),
                                            .chunk_tokens = CHUNK,
                                            .chunk_tail_tokens = CHUNK,
                                            .max_decode_slots = t->n_nodes},
                        t->kv, &t->plan));
    cop_node aside;
    CHECK_OK(cop_kv_open(t->kv, cop_kv_root(t->kv), &aside));
    CHECK_OK(cop_kv_append(t->kv, aside, t->set_aside));
    bool inner[NODES_MAX] = {false};
    for (uint32_t i = 0; i < t->n_nodes; i++) {
        cop_node parent = cop_kv_root(t->kv);
        if (t->parent[i] != ROOT) {
            parent = t->node[t->parent[i]];
            inner[t->parent[i]] = true;
            if (!cop_kv_node(t->kv, parent).sealed)
                cop_kv_seal(t->kv, parent);
        }
        CHECK_OK(cop_kv_open(t->kv, parent, &t->node[i]));
        CHECK_OK(cop_kv_append(t->kv, t->node[i], t->tokens[i]));
    }
    t->n_rows = 0;
    for (uint32_t i = 0; i < t->n_nodes; i++) {
        if (inner[i])
            continue;
        CHECK_OK(cop_plan_slot_add(t->plan, t->node[i], &slots[t->n_rows]));
        t->leaf[t->n_rows++] = i;
    }
    CHECK_OK(cop_plan_step(t->plan, slots, t->n_rows, NULL, 0));
    CHECK_OK(cop_plan_rebuild(t->plan));
}

static void tree_destroy(tree *t) {
    cop_plan_destroy(t->plan);
    cop_kv_destroy(t->kv);
}

static uint32_t entries_of(const cop_plan_tables *p) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_items; i++) {
        const uint32_t end = p->items[i].first_entry + p->items[i].n_entries;
        n = end > n ? end : n;
        for (uint32_t e = p->items[i].first_entry; e < end; e++)
            CHECK_EQ(p->entries[e].limits, COP_LIMITS_NONE); /* decode rows alone */
    }
    return n;
}

/* Where a token of a KV head stands in the pool, in elements. */
static uint64_t pool_at(const tree *t, const cop_plan_tables *p, uint32_t node, uint32_t token,
                        uint32_t is_v, uint32_t head) {
    const cop_segment *s = &p->segments[cop_kv_node(t->kv, t->node[node]).segment];
    const uint64_t page = p->page_table[s->page_table_offset + token / t->page_tokens];
    CHECK(page < t->n_pages);
    return (((page * 2 + is_v) * t->n_kv_heads + head) * t->page_tokens + token % t->page_tokens) *
           t->d;
}

/* Gives the offset of the first element. */
static uint64_t fill_pool(const tree *t, const cop_plan_tables *p, uint16_t *pool) {
    uint64_t nearest = UINT64_MAX;
    for (uint32_t i = 0; i < t->n_nodes; i++)
        for (uint32_t token = 0; token < t->tokens[i]; token++)
            for (uint32_t h = 0; h < t->n_kv_heads; h++) {
                const uint64_t k = pool_at(t, p, i, token, 0, h), v = pool_at(t, p, i, token, 1, h);
                nearest = k < nearest ? k : nearest;
                for (uint32_t x = 0; x < t->d; x++) {
                    pool[k + x] = cop_bf16_from_f32(value_of(h, i, token, x));
                    pool[v + x] = cop_bf16_from_f32(value_of(h, i, token, t->d + x));
                }
            }
    return nearest;
}

/* A row by fold_reference.c. Gives its number of chunks. */
static uint32_t expect(const tree *t, uint32_t row, uint32_t head, float *out, float *lse) {
    uint32_t path[8], depth = 0, tokens = 0;
    for (uint32_t i = t->leaf[row]; i != ROOT; i = t->parent[i]) {
        CHECK(depth < 8);
        path[depth++] = i;
        tokens += t->tokens[i];
    }
    const uint32_t most = tokens / CHUNK + depth + 1, kv_head = head / (t->n_heads / t->n_kv_heads);
    float *o = malloc(most * 256 * sizeof *o), *m = malloc(most * sizeof *m);
    float *l = malloc(most * sizeof *l), q[256];
    static float k[COP_LEAF_TOKENS * 256], v[COP_LEAF_TOKENS * 256];
    CHECK(o && m && l);
    for (uint32_t x = 0; x < t->d; x++)
        q[x] = 2 * value_of(15, row, head, x);
    const float scale = (float)(0x1.71547652b82fep+0 / sqrt(t->d));
    uint32_t n = 0, fill = 0;
    cop_fold fold;
    while (depth-- > 0)
        for (uint32_t first = 0; first < t->tokens[path[depth]]; first += COP_LEAF_TOKENS) {
            const uint32_t left = t->tokens[path[depth]] - first;
            const uint32_t here = left < COP_LEAF_TOKENS ? left : COP_LEAF_TOKENS;
            for (uint32_t i = 0; i < here * t->d; i++) {
                k[i] = value_of(kv_head, path[depth], first + i / t->d, i % t->d);
                v[i] = value_of(kv_head, path[depth], first + i / t->d, t->d + i % t->d);
            }
            if (fill == 0) /* a leaf has at least one token */
                cop_fold_reset(&fold, o + (size_t)n * 256, t->d, scale, true);
            cop_fold_leaf(&fold, q, k, v, here, t->d, t->d);
            m[n] = fold.m;
            l[n] = cop_fold_sum(&fold);
            fill += here;
            if (fill >= CHUNK) {
                fill = 0;
                n++;
            }
        }
    n += fill > 0;
    *lse = cop_fold_merge(o, 256, m, l, n, t->d, scale, out);
    free(o);
    free(m);
    free(l);
    return n;
}

static void check_rows(const tree *t, const cop_attention_args *a, uint32_t *most_chunks) {
    for (uint32_t r = 0; r < t->n_rows; r++)
        for (uint32_t h = 0; h < t->n_heads; h++) {
            float out[256], lse;
            const uint32_t n = expect(t, r, h, out, &lse);
            *most_chunks = n > *most_chunks ? n : *most_chunks;
            for (uint32_t x = 0; x < t->d; x++)
                CHECK_EQ(a->out[((size_t)r * t->n_heads + h) * t->d + x],
                         cop_bf16_from_f32(out[x]));
            CHECK(memcmp(&a->lse[r * t->n_heads + h], &lse, sizeof lse) == 0);
        }
}

static void check_bytes(const tree *t, const cop_plan_tables *p) {
    const cop_attention_shape shape = {.n_heads = t->n_heads,
                                       .n_kv_heads = t->n_kv_heads,
                                       .head_dim = t->d,
                                       .kv_element_bytes = 2,
                                       .kernel_parts =
                                           cop_attention_parts(t->d, t->n_heads / t->n_kv_heads)};
    uint64_t *seen = malloc(cop_cost_scratch_words(t->n_segments, t->n_pages) * sizeof *seen);
    CHECK(seen);
    cop_attention_cost cost;
    cop_cost_attention(p, t->n_segments, &shape, seen, &cost);
    free(seen);
    emu_buffer_counts pool, q, out, partials;
    CHECK(emu_counts("pool", &pool) && emu_counts("q", &q) && emu_counts("out", &out) &&
          emu_counts("partials", &partials));
    CHECK_EQ(pool.load_bytes, cost.kv_load_bytes);
    CHECK_EQ(pool.first_load_bytes, cost.kv_first_bytes);
    CHECK_EQ(partials.load_bytes + partials.store_bytes, cost.partial_bytes);
    CHECK_EQ(q.load_bytes, cost.query_bytes);
    CHECK_EQ(out.store_bytes, cost.output_bytes);
}

typedef struct outcome {
    uint64_t nearest; /* offset in the pool of the first element that stands for a token */
    uint32_t n_items, most_chunks;
} outcome;

/* Plans the tree, runs it in one launch (and one more, with a separate merge), checks all. */
static outcome run(tree *t, bool sparse) {
    emu_forget_all();
    tree_plan(t);
    const cop_plan_tables p = cop_plan_view(t->plan);
    const size_t pool_bytes = 4ull * t->n_pages * t->n_kv_heads * t->page_tokens * t->d;
    const size_t rows = (size_t)t->n_rows * t->n_heads;
    const size_t partials = ((size_t)p.n_partials + 1) * t->n_heads;
    const cop_attention_queue queue = {p.n_items, p.n_slots};
    cop_attention_args a = {.page_tokens = t->page_tokens,
                            .n_heads = t->n_heads,
                            .n_kv_heads = t->n_kv_heads,
                            .head_dim = t->d,
                            .scale_log2 = (float)(0x1.71547652b82fep+0 / sqrt(t->d)),
                            .n_blocks = 3,
                            .n_slots = p.n_slots,
                            .q_stride = (uint64_t)t->n_heads * t->d,
                            .out_stride = (uint64_t)t->n_heads * t->d};
    uint16_t *pool = NULL;
    if (sparse) { /* address space without memory, but for the pages that are written */
        pool = mmap(NULL, pool_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK((void *)pool != MAP_FAILED && emu_register(pool, pool_bytes, "pool", EMU_INPUT));
    } else {
        pool = emu_alloc(pool_bytes, "pool", EMU_INPUT);
        CHECK(pool);
    }
    outcome o = {.nearest = fill_pool(t, &p, pool), .n_items = p.n_items};
    a.pool = pool;
    a.segments = upload(p.segments, t->n_segments * sizeof *p.segments, "tables");
    a.page_table = upload(p.page_table, cop_kv_page_table_capacity(t->kv) * 4ull, "tables");
    a.tiles = upload(p.tiles, p.n_tiles * sizeof *p.tiles, "tables");
    a.entries = upload(p.entries, entries_of(&p) * sizeof *p.entries, "tables");
    a.limits = upload(NULL, 0, "tables");
    a.items = upload(p.items, p.n_items * sizeof *p.items, "tables");
    a.slots = upload(p.slots, p.n_slots * sizeof *p.slots, "tables");
    a.queue = upload(&queue, sizeof queue, "tables");
    a.ticket = emu_alloc(4, "ticket", EMU_OUTPUT);
    const uint64_t counters = cop_attention_counters(p.n_slots, t->d, t->n_heads, t->n_kv_heads);
    a.counters = emu_alloc(counters * 4, "counters", EMU_OUTPUT);
    uint16_t *q = emu_alloc(rows * t->d * 2, "q", EMU_INPUT);
    a.out = emu_alloc(rows * t->d * 2, "out", EMU_WORKSPACE);
    a.lse = emu_alloc(rows * 4, "lse", EMU_WORKSPACE);
    a.partial_o = emu_alloc(partials * t->d * 4, "partials", EMU_WORKSPACE);
    a.partial_ml = emu_alloc(partials * 8, "partials", EMU_WORKSPACE);
    CHECK(a.ticket && a.counters && q && a.out && a.lse && a.partial_o && a.partial_ml);
    memset(a.counters, 0, counters * 4);
    for (size_t i = 0; i < rows * t->d; i++)
        q[i] = cop_bf16_from_f32(2 * value_of(15, (uint32_t)(i / t->d) / t->n_heads,
                                              (uint32_t)(i / t->d) % t->n_heads,
                                              (uint32_t)(i % t->d)));
    a.q = q;
    for (uint32_t pass = 0; pass < 2; pass++) {
        a.flags = pass ? COP_ATTENTION_SEPARATE_MERGE : 0;
        emu_poison();
        emu_vary(pass + 1);
        emu_reset_counts();
        *a.ticket = 0;
        CHECK_EQ(cop_launch_attention_tree(&a, NULL), 0);
        CHECK_EQ(emu_launches("attention_tree_kernel"), 1);
        if (pass)
            CHECK_EQ(cop_launch_attention_merge(&a, NULL), 0);
        check_bytes(t, &p);
        check_rows(t, &a, &o.most_chunks);
        for (uint64_t i = 0; i < counters; i++)
            CHECK_EQ(a.counters[i], 0);
    }
    if (sparse) {
        emu_unregister(pool);
        munmap(pool, pool_bytes);
    }
    tree_destroy(t);
    return o;
}

static void test_1024_branches_in_one_launch(void) {
    static tree t = {.d = 64, .n_heads = 4, .n_kv_heads = 1, .page_tokens = 16};
    const uint32_t prompt = add(&t, ROOT, 100);
    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t thread = add(&t, prompt, 7 + i);
        for (uint32_t j = 0; j < 32; j++)
            add(&t, thread, (i + j) % 6);
    }
    const outcome o = run(&t, false);
    CHECK_EQ(t.n_rows, 1024);
    CHECK(o.most_chunks >= 2);
}

/* A merge keeps the weights of 512 chunks; beyond them it reads (m, l) again. */
static void test_rows_of_more_than_512_chunks(void) {
    static tree t = {.d = 64, .n_heads = 2, .n_kv_heads = 1, .page_tokens = 64};
    const uint32_t prompt = add(&t, ROOT, 515 * CHUNK);
    add(&t, prompt, 70);
    add(&t, prompt, 3);
    const outcome o = run(&t, false);
    CHECK_EQ(o.most_chunks, 517);
}

/* Segments that hold nothing, above, between and below others: no item, no arrival, no leaf. */
static void test_empty_segments_and_fresh_forks_inside_a_tree(void) {
    for (uint32_t dim = 0; dim < 4; dim++) {
        static const uint32_t dims[] = {64, 96, 128, 256};
        static tree t;
        memset(&t, 0, sizeof t);
        t.d = dims[dim];
        t.n_heads = 6;
        t.n_kv_heads = 2;
        t.page_tokens = 16u << dim % 3;
        const uint32_t empty_prompt = add(&t, ROOT, 0), prompt = add(&t, empty_prompt, 70);
        const uint32_t hollow = add(&t, prompt, 0), thread = add(&t, hollow, 90);
        add(&t, hollow, 0); /* a fresh fork of an empty segment */
        add(&t, thread, 0); /* a fresh fork */
        const uint32_t hollow_again = add(&t, thread, 0);
        add(&t, hollow_again, 65);
        add(&t, add(&t, hollow_again, 0), 1);
        add(&t, empty_prompt, 0); /* sees nothing */
        const outcome o = run(&t, false);
        CHECK_EQ(t.n_rows, 5);
        CHECK(o.n_items > 0 && o.most_chunks == 4);
    }
}

static void test_no_keys_at_all(void) {
    static tree t = {.d = 128, .n_heads = 4, .n_kv_heads = 2, .page_tokens = 32};
    const uint32_t prompt = add(&t, ROOT, 0);
    for (uint32_t i = 0; i < 5; i++)
        add(&t, prompt, 0);
    const outcome o = run(&t, false);
    CHECK_EQ(t.n_rows, 5);
    CHECK_EQ(o.most_chunks, 0);
}

/* The pool hands out its near pages first: a long segment that no row sees holds them all. */
static void test_pages_beyond_32_bits_of_elements(void) {
    static tree t = {.d = 256, .n_heads = 16, .n_kv_heads = 8, .page_tokens = 64};
    t.set_aside = 64u << 14; /* pages of 2^18 elements */
    const uint32_t prompt = add(&t, ROOT, 100);
    add(&t, prompt, 30);
    add(&t, prompt, 65);
    const outcome o = run(&t, true);
    CHECK(o.nearest >= 1ull << 32);
    CHECK(o.n_items > 0);
}

int main(void) {
    RUN(test_1024_branches_in_one_launch);
    RUN(test_rows_of_more_than_512_chunks);
    RUN(test_empty_segments_and_fresh_forks_inside_a_tree);
    RUN(test_no_keys_at_all);
    RUN(test_pages_beyond_32_bits_of_elements);
    emu_forget_all();
    return check_report();
}
