/* The plan by hand, where the exact outcome is worth reading. Random trees: test_plan.c. */
#include "check.h"

#include "kv/kv.h"
#include "kv/plan.h"

typedef struct small {
    cop_kv *kv;
    cop_plan *plan;
} small;

static void small_end(small w) {
    cop_plan_destroy(w.plan);
    cop_kv_destroy(w.kv);
}

static cop_node grown(small w, cop_node parent, uint32_t tokens, bool sealed) {
    cop_node node;
    CHECK_OK(cop_kv_open(w.kv, parent, &node));
    CHECK_OK(cop_kv_append(w.kv, node, tokens));
    if (sealed)
        cop_kv_seal(w.kv, node);
    return node;
}

static small small_world(uint32_t tile_slots, uint32_t max_partials) {
    small w;
    CHECK_OK(cop_kv_create(&(cop_kv_options){.page_tokens = 16,
                                             .n_pages = 512,
                                             .max_segments = 64,
                                             .max_nodes = 64,
                                             .chunk_tokens = 128,
                                             .chunk_tail_tokens = 128},
                           &w.kv));
    CHECK_OK(cop_plan_create(&(cop_plan_options){.group = 4,
                                                 .tile_slots = tile_slots,
                                                 .chunk_tokens = 128,
                                                 .chunk_tail_tokens = 128,
                                                 .max_decode_slots = 16,
                                                 .max_prefill_slots = 32,
                                                 .max_partials = max_partials},
                             w.kv, &w.plan));
    return w;
}

static void test_options_are_refused_by_name(void) {
    small w = small_world(4, 0);
    const cop_plan_options good = {
        .group = 1, .chunk_tokens = 128, .chunk_tail_tokens = 128, .max_decode_slots = 1};
    cop_plan *plan;
    cop_plan_options bad = good;
    bad.group = 0;
    CHECK_STATUS(cop_plan_create(&bad, w.kv, &plan), COP_ERR_CONFIG);
    CHECK_MESSAGE("group");
    bad = good;
    bad.tile_slots = 65;
    CHECK_STATUS(cop_plan_create(&bad, w.kv, &plan), COP_ERR_CONFIG);
    CHECK_MESSAGE("tile_slots");
    bad = good;
    bad.chunk_tail_tokens = 64;
    CHECK_STATUS(cop_plan_create(&bad, w.kv, &plan), COP_ERR_MISMATCH);
    bad = good;
    bad.max_decode_slots = 0;
    CHECK_STATUS(cop_plan_create(&bad, w.kv, &plan), COP_ERR_CONFIG);
    CHECK(plan == NULL);
    CHECK_OK(cop_plan_create(&good, w.kv, &plan));
    cop_plan_destroy(plan);
    cop_plan_destroy(NULL);
    small_end(w);
}

static void test_a_tile_walks_the_shared_prefix_once(void) {
    small w = small_world(4, 0);
    const cop_node prompt = grown(w, cop_kv_root(w.kv), 100, true);
    uint32_t slot[3];
    for (uint32_t i = 0; i < 3; i++)
        CHECK_OK(cop_plan_slot_add(w.plan, grown(w, prompt, 10 + i, false), &slot[i]));
    CHECK_OK(cop_plan_step(w.plan, slot, 3, NULL, 0));
    const cop_plan_tables t = cop_plan_view(w.plan);
    CHECK_EQ(t.n_items, 1);
    CHECK_EQ(t.n_partials, 0);
    CHECK_EQ(t.items[0].n_entries, 4);
    const cop_walk_entry *e = &t.entries[t.items[0].first_entry];
    CHECK_EQ(e[0].node, prompt);
    CHECK_EQ(e[0].mask, 7);
    CHECK_EQ(e[0].tokens, 100);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(e[1 + i].mask, 1 << i);
        CHECK_EQ(e[1 + i].tokens, COP_TO_END);
        CHECK_EQ(t.slots[slot[i]].n_partials, 1);
    }
    small_end(w);
}

static void test_a_steady_step_changes_nothing(void) {
    small w = small_world(4, 0);
    const cop_node prompt = grown(w, cop_kv_root(w.kv), 100, true);
    const cop_node a = grown(w, prompt, 1, false), b = grown(w, prompt, 0, false);
    uint32_t slot[2];
    CHECK_OK(cop_plan_slot_add(w.plan, a, &slot[0]));
    CHECK_OK(cop_plan_slot_add(w.plan, b, &slot[1]));
    CHECK_OK(cop_plan_step(w.plan, slot, 1, NULL, 0)); /* b is empty and sits out */
    uint64_t epoch = cop_plan_view(w.plan).epoch;
    for (uint32_t tokens = 2; tokens <= 200; tokens++) {
        CHECK_OK(cop_kv_append(w.kv, a, 1));
        CHECK_OK(cop_plan_step(w.plan, slot, 1, NULL, 0));
        const cop_plan_tables t = cop_plan_view(w.plan);
        /* The chunk holds 100 tokens and a leaf of 64 that ends it; the next holds 128. */
        CHECK_EQ(t.epoch != epoch, tokens == 65 || tokens == 193);
        CHECK_EQ(t.slots[slot[0]].n_partials, tokens > 192 ? 3 : tokens > 64 ? 2 : 1);
        /* The range of two is given up for one of three behind it. */
        CHECK_EQ(t.n_partials, tokens > 192 ? 5 : tokens > 64 ? 2 : 0);
        epoch = t.epoch;
    }
    CHECK_EQ(cop_plan_stats_read(w.plan).steps_unchanged, 199 - 2);
    CHECK_OK(cop_plan_step(w.plan, slot, 0, NULL, 0)); /* it sits out: its row is a table too */
    CHECK(cop_plan_view(w.plan).epoch != epoch);
    CHECK_EQ(cop_plan_view(w.plan).slots[slot[0]].row, -1);
    CHECK_EQ(cop_plan_stats_read(w.plan).tiles_rewritten, 3);
    small_end(w);
}

static void test_nothing_to_see_is_no_item(void) {
    small w = small_world(4, 0);
    uint32_t slot;
    CHECK_OK(cop_plan_slot_add(w.plan, grown(w, cop_kv_root(w.kv), 0, false), &slot));
    CHECK_OK(cop_plan_step(w.plan, &slot, 1, NULL, 0));
    const cop_plan_tables t = cop_plan_view(w.plan);
    CHECK_EQ(t.n_items, 0);
    CHECK_EQ(t.slots[slot].row, 0);
    CHECK_EQ(t.slots[slot].n_partials, 0);
    small_end(w);
}

static void test_a_hole_is_filled_by_the_next_child(void) {
    small w = small_world(4, 0);
    const cop_node prompt = grown(w, cop_kv_root(w.kv), 100, true);
    cop_node node[4];
    uint32_t slot[4], fresh;
    for (uint32_t i = 0; i < 4; i++) {
        node[i] = grown(w, prompt, 10, false);
        CHECK_OK(cop_plan_slot_add(w.plan, node[i], &slot[i]));
    }
    CHECK_OK(cop_plan_step(w.plan, slot, 4, NULL, 0));
    cop_plan_slot_remove(w.plan, slot[1]);
    cop_plan_slot_remove(w.plan, slot[1]); /* again: nothing */
    cop_kv_seal(w.kv, node[1]);
    CHECK_OK(cop_plan_step(w.plan, (uint32_t[]){slot[0], slot[2]}, 2, NULL, 0));
    CHECK_EQ(cop_plan_view(w.plan).tiles[0].slot[1], COP_SLOT_HOLE);
    CHECK_EQ(cop_plan_view(w.plan).slots[slot[3]].row, -1); /* sits out */
    CHECK_OK(cop_plan_slot_add(w.plan, grown(w, node[1], 1, false), &fresh));
    CHECK_OK(cop_plan_step(w.plan, &fresh, 1, NULL, 0));
    CHECK_EQ(cop_plan_view(w.plan).tiles[0].slot[1], fresh);
    CHECK_EQ(cop_plan_stats_read(w.plan).rebuilds, 0);
    small_end(w);
}

/* Five slots need two tiles, four need one: what is left of two is too much. */
static void test_tiles_are_made_again_when_they_load_too_much(void) {
    small w = small_world(4, 0);
    const cop_node prompt = grown(w, cop_kv_root(w.kv), 100, true);
    uint32_t slot[5];
    for (uint32_t i = 0; i < 5; i++)
        CHECK_OK(cop_plan_slot_add(w.plan, grown(w, prompt, 10, false), &slot[i]));
    CHECK_OK(cop_plan_step(w.plan, slot, 5, NULL, 0));
    CHECK_EQ(cop_plan_view(w.plan).n_items, 2);
    cop_plan_slot_remove(w.plan, slot[1]);
    CHECK_OK(cop_plan_step(w.plan, slot + 2, 3, NULL, 0));
    CHECK_EQ(cop_plan_view(w.plan).n_items, 1);
    CHECK_EQ(cop_plan_stats_read(w.plan).rebuilds, 1);
    small_end(w);
}

/* Three slots in two tiles look at one growing segment: each tile loads it, and each crosses a
 * chunk with it. */
static void test_slots_on_one_node_grow_together(void) {
    small w = small_world(2, 0);
    const cop_node prompt = grown(w, cop_kv_root(w.kv), 100, true);
    const cop_node a = grown(w, prompt, 1, false);
    uint32_t slot[4];
    for (uint32_t i = 0; i < 3; i++)
        CHECK_OK(cop_plan_slot_add(w.plan, a, &slot[i]));
    CHECK_OK(cop_plan_slot_add(w.plan, grown(w, prompt, 1, false), &slot[3]));
    cop_plan_span span[32];
    for (uint32_t tokens = 2; tokens <= 400; tokens++) {
        CHECK_OK(cop_kv_append(w.kv, a, 1));
        if (tokens % 50 == 0) {
            CHECK_OK(cop_kv_retract(w.kv, a, 3));
            CHECK_OK(cop_plan_step(w.plan, slot, 4, NULL, 0));
            CHECK_OK(cop_plan_check(w.plan));
            CHECK_OK(cop_kv_append(w.kv, a, 3));
        }
        CHECK_OK(cop_plan_step(w.plan, slot, 4, NULL, 0));
        CHECK_OK(cop_plan_check(w.plan));
        const cop_plan_tables t = cop_plan_view(w.plan);
        const size_t n = cop_plan_normalise(&t, span, 32);
        uint32_t seen[4] = {0};
        for (size_t i = 0; i < n; i++)
            seen[span[i].row] += span[i].tokens;
        for (uint32_t i = 0; i < 4; i++)
            CHECK_EQ(seen[i], i < 3 ? 100 + tokens : 101);
    }
    CHECK_EQ(cop_plan_view(w.plan).n_tiles, 2);
    CHECK_EQ(cop_plan_view(w.plan).slots[slot[2]].n_partials, 4);

    /* One leaves after the segment has grown, and a child follows the sealed segment. */
    CHECK_OK(cop_kv_append(w.kv, a, 5));
    cop_plan_slot_remove(w.plan, slot[0]);
    cop_kv_seal(w.kv, a);
    CHECK_OK(cop_plan_slot_add(w.plan, grown(w, a, 1, false), &slot[0]));
    cop_plan_slot_remove(w.plan, slot[1]);
    CHECK_OK(cop_plan_step(w.plan, (uint32_t[]){slot[2], slot[3], slot[0]}, 3, NULL, 0));
    CHECK_OK(cop_plan_check(w.plan));
    cop_plan_slot_remove(w.plan, slot[2]);
    CHECK_OK(cop_plan_step(w.plan, (uint32_t[]){slot[3], slot[0]}, 2, NULL, 0));
    CHECK_OK(cop_plan_check(w.plan));
    small_end(w);
}

static void test_prefill_rows_stop_at_themselves(void) {
    small w = small_world(4, 0);
    const cop_node prompt = grown(w, cop_kv_root(w.kv), 130, true);
    const cop_node a = grown(w, prompt, 70, false);
    const cop_prefill_run run = {.node = a, .first = 62, .tokens = 4, .row = 5};
    CHECK_OK(cop_plan_step(w.plan, NULL, 0, &run, 1));
    const cop_plan_tables t = cop_plan_view(w.plan);
    cop_plan_span span[16];
    CHECK_EQ(cop_plan_normalise(&t, span, 16), 4 * 3);
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(span[3 * i].row, 5 + i);
        CHECK_EQ(span[3 * i].tokens, 128); /* of 130: the chunk ends with its second leaf */
        CHECK_EQ(span[3 * i + 1].tokens, 2);
        CHECK_EQ(span[3 * i + 2].tokens, 63 + i);
        CHECK_EQ(span[3 * i + 2].chunk, 1);
    }
    CHECK_EQ(cop_plan_normalise(&t, NULL, 0), 12);
    CHECK_OK(cop_plan_step(w.plan, NULL, 0, NULL, 0)); /* gone with its step */
    CHECK_EQ(cop_plan_view(w.plan).n_items, 0);
    small_end(w);
}

static void test_prefill_runs_share_a_tile_where_it_saves(void) {
    small w = small_world(8, 0);
    const cop_node prompt = grown(w, cop_kv_root(w.kv), 100, true);
    const cop_node stranger = grown(w, cop_kv_root(w.kv), 3, false);
    const cop_node a = grown(w, prompt, 3, false), b = grown(w, prompt, 6, false);
    const cop_node c = grown(w, prompt, 120, false);
    cop_prefill_run runs[] = {{.node = b, .tokens = 6, .row = 3}, {.node = a, .tokens = 3}};
    CHECK_OK(
        cop_plan_step(w.plan, NULL, 0, runs, 2)); /* a, then b over a tile's end: 6 < 100 / 2 */
    CHECK_EQ(cop_plan_view(w.plan).n_tiles, 2);
    CHECK_EQ(cop_plan_view(w.plan).tiles[0].n_slots, 8);
    runs[0] = (cop_prefill_run){.node = c, .first = 100, .tokens = 6, .row = 3};
    CHECK_OK(cop_plan_step(w.plan, NULL, 0, runs, 2)); /* c's own 120 would be loaded twice */
    CHECK_EQ(cop_plan_view(w.plan).tiles[0].n_slots, 3);
    runs[0] = (cop_prefill_run){.node = stranger, .tokens = 3, .row = 3};
    CHECK_OK(cop_plan_step(w.plan, NULL, 0, runs, 2)); /* nothing in common */
    CHECK_EQ(cop_plan_view(w.plan).n_tiles, 2);
    small_end(w);
}

static void test_what_does_not_fit_is_named_and_forgotten(void) {
    small w = small_world(4, 3);
    const cop_node prompt = grown(w, cop_kv_root(w.kv), 300, true);
    uint32_t slot[2], extra;
    CHECK_OK(cop_plan_slot_add(w.plan, grown(w, prompt, 1, false), &slot[0]));
    CHECK_OK(cop_plan_slot_add(w.plan, grown(w, prompt, 1, false), &slot[1]));
    CHECK_STATUS(cop_plan_step(w.plan, slot, 2, NULL, 0), COP_ERR_NO_ROOM);
    CHECK_MESSAGE("max_partials");
    CHECK_EQ(cop_plan_view(w.plan).n_items, 0);
    CHECK_OK(cop_plan_step(w.plan, slot, 1, NULL, 0)); /* one alone fits */
    CHECK_EQ(cop_plan_view(w.plan).n_partials, 3);
    CHECK_STATUS(cop_plan_step(w.plan, (uint32_t[]){slot[0], slot[0]}, 2, NULL, 0),
                 COP_ERR_INTERNAL);
    CHECK_STATUS(cop_plan_step(w.plan, (uint32_t[]){9}, 1, NULL, 0), COP_ERR_INTERNAL);
    const cop_prefill_run beyond = {.node = prompt, .first = 300, .tokens = 1};
    CHECK_STATUS(cop_plan_step(w.plan, slot, 1, &beyond, 1), COP_ERR_INTERNAL);
    const cop_prefill_run wide = {.node = prompt, .first = 0, .tokens = 33};
    CHECK_STATUS(cop_plan_step(w.plan, slot, 1, &wide, 1), COP_ERR_NO_ROOM);
    CHECK_MESSAGE("max_prefill_slots");
    CHECK_EQ(cop_plan_view(w.plan).n_items, 3); /* refused steps left the last one's tables */
    for (uint32_t i = 2; i < 16; i++)
        CHECK_OK(cop_plan_slot_add(w.plan, grown(w, prompt, 1, false), &extra));
    const cop_node last = grown(w, prompt, 1, false);
    CHECK_STATUS(cop_plan_slot_add(w.plan, last, &extra), COP_ERR_NO_ROOM);
    CHECK_MESSAGE("max_decode_slots");
    CHECK_STATUS(cop_plan_slot_add(w.plan, cop_kv_root(w.kv), &extra), COP_ERR_INTERNAL);
    small_end(w);
}

int main(void) {
    RUN(test_options_are_refused_by_name);
    RUN(test_a_tile_walks_the_shared_prefix_once);
    RUN(test_a_steady_step_changes_nothing);
    RUN(test_nothing_to_see_is_no_item);
    RUN(test_a_hole_is_filled_by_the_next_child);
    RUN(test_tiles_are_made_again_when_they_load_too_much);
    RUN(test_slots_on_one_node_grow_together);
    RUN(test_prefill_rows_stop_at_themselves);
    RUN(test_prefill_runs_share_a_tile_where_it_saves);
    RUN(test_what_does_not_fit_is_named_and_forgotten);
    return check_report();
}
