/* The attention kernels on the emulated device: bits, bytes, edges. Mutants:
 * test_attention_mutants.c. */
#include "attention_device.h"

static uint32_t narrow_items, wide_items, split_heads;

static void must_pass(bool passed, const verdict *bad, const char *what) {
    if (!passed)
        fprintf(stderr, "%s: %s\n", what, bad->text);
    CHECK(passed);
}

static void count_classes(const world *w, const tables *t) {
    const uint32_t group = w->n_heads / w->n_kv_heads;
    for (uint32_t i = 0; i < t->view.n_items; i++) {
        const bool narrow = t->tiles[t->items[i].tile].n_slots * group <= 16;
        narrow_items += narrow;
        wide_items += !narrow;
    }
    split_heads += cop_attention_parts(w->d, group) > 1;
}

static shape random_shape(uint32_t i) {
    static const uint32_t dims[] = {64, 128, 96, 64, 256};
    static const uint32_t groups[] = {1, 2, 3, 4, 5, 7, 8, 16, 20, 36};
    const shape s = {.d = dims[i % 5],
                     .n_kv_heads = 1 + (below(4) == 0),
                     .group = groups[below(below(4) ? 7 : 10)],
                     .rule = below(4),
                     .amplitude = below(5) ? 1.0f : 30.0f};
    return s;
}

/* Tiles of any width, narrow and wide, merged here or there, in any schedule: the bits of the fold,
 * which knows nothing of tiles; and the bytes that cost.h predicts. */
static void test_every_row_is_the_fold_of_its_own_view(void) {
    static world w;
    tables *t = malloc(sizeof *t);
    CHECK(t);
    static const uint32_t variants[] = {0, COP_ATTENTION_WIDE_ONLY, COP_ATTENTION_SEPARATE_MERGE};
    const uint32_t n_worlds = check_effort(200, 20);
    for (uint32_t i = 0; i < n_worlds; i++) {
        const shape s = random_shape(i);
        grow_world(&w, &s);
        const uint32_t most = cop_attention_tile_slots(s.d, s.group);
        for (uint32_t pass = 0; pass < 3; pass++) {
            const uint32_t width = pass == 0 ? most : 1 + below(most);
            make_tables(&w, t, 16u << (i + pass) % 3, width);
            count_classes(&w, t);
            device g;
            verdict bad;
            device_create(&w, t, &g);
            emu_vary(i * 3 + pass);
            must_pass(device_run(&g, variants[pass], 1 + below(5), &bad), &bad, "launch");
            must_pass(device_check(&w, &g, &bad), &bad, "bits");
            must_pass(device_check_bytes(&w, t, &g, &bad), &bad, "bytes");
            CHECK_EQ(emu_launches("attention_tree_kernel"), 1);
        }
        world_destroy(&w);
    }
    free(t);
    emu_set_options(NULL);
    for (int c = 0; c < N_COVERED; c++) {
        if (c == WIDE_TILE) /* of the CPU's blocks; wide_items counts the kernels' own */
            continue;
        printf("  %6u %s\n", coverage[c], covered_name[c]);
        CHECK(coverage[c] > 0);
    }
    CHECK(narrow_items > 0 && wide_items > 0 && (split_heads > 0 || n_worlds < 200));
    printf("  %6u narrow items\n  %6u wide items\n  %6u worlds with heads in parts\n", narrow_items,
           wide_items, split_heads);
}

int main(void) {
    (void)&world_create;
    RUN(test_every_row_is_the_fold_of_its_own_view);
    emu_forget_all();
    return check_report();
}
