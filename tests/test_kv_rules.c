/* The KV bookkeeping by hand, where the exact outcome is worth reading. Random operations:
 * test_kv.c. */
#include "check.h"

#include "kv/kv.h"

static cop_kv *small_kv(uint32_t n_pages) {
    cop_kv *kv;
    CHECK_OK(cop_kv_create(&(cop_kv_options){.page_tokens = 16,
                                             .n_pages = n_pages,
                                             .max_segments = 16,
                                             .max_nodes = 16,
                                             .chunk_tokens = 128,
                                             .chunk_tail_tokens = 64},
                           &kv));
    return kv;
}

static void test_options_are_refused_by_name(void) {
    const cop_kv_options good = {.page_tokens = 16,
                                 .n_pages = 8,
                                 .max_segments = 4,
                                 .max_nodes = 4,
                                 .chunk_tokens = 64,
                                 .chunk_tail_tokens = 64};
    cop_kv *kv;
    cop_kv_options bad = good;
    bad.page_tokens = 24;
    CHECK_STATUS(cop_kv_create(&bad, &kv), COP_ERR_CONFIG);
    CHECK_MESSAGE("page_tokens");
    bad = good;
    bad.n_pages = 0;
    CHECK_STATUS(cop_kv_create(&bad, &kv), COP_ERR_CONFIG);
    CHECK_MESSAGE("n_pages");
    bad.n_pages = UINT32_MAX;
    CHECK_STATUS(cop_kv_create(&bad, &kv), COP_ERR_CONFIG);
    bad = good;
    bad.max_nodes = 1;
    CHECK_STATUS(cop_kv_create(&bad, &kv), COP_ERR_CONFIG);
    CHECK_MESSAGE("max_nodes");
    bad = good;
    bad.chunk_tokens = 100;
    CHECK_STATUS(cop_kv_create(&bad, &kv), COP_ERR_CONFIG);
    CHECK_MESSAGE("chunk_tokens");
    bad = good;
    bad.chunk_tail_tokens = 1;
    CHECK_STATUS(cop_kv_create(&bad, &kv), COP_ERR_CONFIG);
    CHECK_MESSAGE("chunk_tail_tokens");
    CHECK(kv == NULL);
    cop_kv_destroy(NULL);
}

static void test_a_fork_opens_a_fresh_page(void) {
    cop_kv *kv = small_kv(8);
    cop_node parent, a, b;
    CHECK_OK(cop_kv_open(kv, cop_kv_root(kv), &parent));
    CHECK_OK(cop_kv_append(kv, parent, 17));
    CHECK_EQ(cop_kv_stats_read(kv).pages_held, 2);
    CHECK_STATUS(cop_kv_open(kv, parent, &a), COP_ERR_INTERNAL);
    CHECK_MESSAGE("open");
    cop_kv_seal(kv, parent);
    CHECK_OK(cop_kv_open(kv, parent, &a));
    CHECK_OK(cop_kv_open(kv, parent, &b));
    CHECK_EQ(cop_kv_stats_read(kv).pages_held, 2);
    CHECK_OK(cop_kv_append(kv, a, 1));
    CHECK_OK(cop_kv_append(kv, b, 16));
    CHECK_EQ(cop_kv_stats_read(kv).pages_held, 4);
    CHECK_EQ(cop_kv_view_tokens(kv, b), 33);
    CHECK_STATUS(cop_kv_append(kv, b, 16 * 8), COP_ERR_NO_PAGES);
    CHECK_MESSAGE("need 8 pages, 4 of 8 are free");
    CHECK_EQ(cop_kv_view_tokens(kv, b), 33);
    cop_kv_release(kv, parent); /* its children keep it */
    CHECK_EQ(cop_kv_stats_read(kv).pages_held, 4);
    cop_kv_release(kv, a);
    CHECK_EQ(cop_kv_stats_read(kv).pages_held, 3);
    cop_kv_peak_reset(kv);
    CHECK_EQ(cop_kv_stats_read(kv).pages_peak, 3);
    cop_kv_release(kv, b);
    CHECK_EQ(cop_kv_stats_read(kv).pages_held, 0);
    CHECK_EQ(cop_kv_stats_read(kv).nodes_held, 0);
    cop_kv_release(kv, COP_NODE_NONE);
    cop_kv_release(kv, cop_kv_root(kv));
    CHECK_OK(cop_kv_check(kv));
    cop_kv_release(kv, b); /* once too often: reported, not obeyed */
    CHECK_STATUS(cop_kv_check(kv), COP_ERR_INTERNAL);
    CHECK_MESSAGE("release");
    cop_kv_destroy(kv);
}

static void test_a_stitch_reuses_what_stands(void) {
    cop_kv *kv = small_kv(8);
    cop_node parent, child[3], joined, again;
    CHECK_OK(cop_kv_open(kv, cop_kv_root(kv), &parent));
    CHECK_OK(cop_kv_append(kv, parent, 5));
    cop_kv_seal(kv, parent);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(cop_kv_open(kv, parent, &child[i]));
        CHECK_OK(cop_kv_append(kv, child[i], i == 1 ? 0 : 7)); /* the second stays empty */
        cop_kv_seal(kv, child[i]);
    }
    CHECK_OK(cop_kv_stitch(kv, parent, parent, child, 3, &joined));
    CHECK_EQ(cop_kv_stats_read(kv).nodes_held, 5); /* only the third child's segment again */
    CHECK_EQ(cop_kv_node(kv, joined).parent, child[0]);
    CHECK_EQ(cop_kv_node(kv, joined).segment, cop_kv_node(kv, child[2]).segment);
    CHECK_EQ(cop_kv_view_tokens(kv, joined), 19);
    CHECK_OK(cop_kv_stitch(kv, parent, parent, child, 3, &again));
    CHECK_EQ(again, joined);
    CHECK_EQ(cop_kv_stats_read(kv).nodes_held, 5);
    for (int i = 0; i < 3; i++)
        cop_kv_release(kv, child[i]);
    CHECK_EQ(cop_kv_stats_read(kv).nodes_held, 3); /* the joined view keeps its segments */
    CHECK_EQ(cop_kv_stats_read(kv).pages_held, 3);
    cop_kv_release(kv, joined);
    cop_kv_release(kv, again);
    CHECK_OK(cop_kv_stitch(kv, parent, parent, NULL, 0, &again));
    CHECK_EQ(again, parent);
    cop_kv_release(kv, again);
    cop_kv_release(kv, parent);
    CHECK_EQ(cop_kv_stats_read(kv).pages_held, 0);
    CHECK_OK(cop_kv_check(kv));
    cop_kv_destroy(kv);
}

static cop_node_info after(cop_kv *kv, cop_node base, uint32_t tokens, cop_node *out) {
    CHECK_OK(cop_kv_open(kv, base, out));
    CHECK_OK(cop_kv_append(kv, *out, tokens));
    cop_kv_seal(kv, *out);
    cop_node next;
    CHECK_OK(cop_kv_open(kv, *out, &next));
    const cop_node_info info = cop_kv_node(kv, next);
    cop_kv_release(kv, next);
    return info;
}

static void test_chunks_end_where_the_rule_says(void) {
    cop_kv *kv = small_kv(64); /* C = 128, W = 64 */
    cop_node a, b;
    cop_node_info info = after(kv, cop_kv_root(kv), 63, &a);
    CHECK_EQ(info.chunk, 0);
    CHECK_EQ(info.chunk_fill, 63);
    info = after(kv, a, 1, &b); /* 64 >= W at a segment's end */
    CHECK_EQ(info.chunk, 1);
    CHECK_EQ(info.chunk_fill, 0);
    cop_kv_release(kv, b);
    info = after(kv, a, 129, &b); /* leaves of 64 and 64 end the chunk at 191, one token more */
    CHECK_EQ(info.chunk, 1);
    CHECK_EQ(info.chunk_fill, 1);
    cop_kv_release(kv, b);
    info = after(kv, a, 65, &b); /* 127, then a partial leaf brings it to exactly 128 */
    CHECK_EQ(info.chunk, 1);
    CHECK_EQ(info.chunk_fill, 0);
    cop_kv_release(kv, b);
    info = after(kv, a, 128 + 128, &b); /* a chunk of 191, then 128 tokens make one more */
    CHECK_EQ(info.chunk, 2);
    CHECK_EQ(info.chunk_fill, 0);
    cop_kv_release(kv, b);
    info = after(kv, a, 0, &b);
    CHECK_EQ(info.chunk, 0);
    CHECK_EQ(info.chunk_fill, 63);
    cop_kv_destroy(kv);
}

/* Segments that grew to `pages` and were cut down to `kept`, as many as there are pages for: ranges
 * may not run out before pages do. */
static void test_ranges_never_run_out_before_pages(void) {
    enum { PAGES = 256 };
    cop_kv *kv;
    CHECK_OK(cop_kv_create(&(cop_kv_options){.page_tokens = 16,
                                             .n_pages = PAGES,
                                             .max_segments = PAGES,
                                             .max_nodes = PAGES + 1,
                                             .chunk_tokens = 64},
                           &kv));
    for (uint32_t pages = 1; pages <= PAGES; pages *= 2)
        for (uint32_t kept = 1; kept <= pages; kept += kept < 4 ? 1 : kept / 4) {
            cop_node node[PAGES];
            uint32_t held = 0;
            while (PAGES - cop_kv_stats_read(kv).pages_held >= pages) {
                CHECK_OK(cop_kv_open(kv, cop_kv_root(kv), &node[held]));
                CHECK_OK(cop_kv_append(kv, node[held], 16 * pages));
                CHECK_OK(cop_kv_retract(kv, node[held], 16 * (pages - kept)));
                held++;
            }
            CHECK_OK(cop_kv_check(kv));
            while (held)
                cop_kv_release(kv, node[--held]);
            CHECK_EQ(cop_kv_stats_read(kv).pages_held, 0);
        }
    cop_kv_destroy(kv);
}

/* Three branches out of phase, on an empty pool and on a crowded one. */
static void test_pages_ahead_come_with_chunks(void) {
    cop_kv *kv;
    CHECK_OK(cop_kv_create(&(cop_kv_options){.page_tokens = 16,
                                             .n_pages = 200,
                                             .max_segments = 8,
                                             .max_nodes = 8,
                                             .chunk_tokens = 256,
                                             .chunk_tail_tokens = 256,
                                             .pages_ahead = true},
                           &kv));
    cop_node prompt, node[3];
    CHECK_OK(cop_kv_open(kv, cop_kv_root(kv), &prompt));
    CHECK_OK(cop_kv_append(kv, prompt, 100));
    CHECK_EQ(cop_kv_stats_read(kv).pages_held, 7);
    CHECK_EQ(cop_kv_stats_read(kv).pages_ahead, 9); /* to the end of its chunk */
    cop_kv_seal(kv, prompt);
    CHECK_EQ(cop_kv_stats_read(kv).pages_ahead, 0);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_OK(cop_kv_open(kv, prompt, &node[i]));
        CHECK_OK(cop_kv_append(kv, node[i], 1 + 50 * i));
    }
    for (uint32_t step = 0; step < 400; step++) {
        uint32_t crossings = 0;
        cop_kv_changes_clear(kv);
        for (uint32_t i = 0; i < 3; i++) {
            /* 100 tokens before, and the leaf that fills the chunk: 192; then 256 each. */
            const uint32_t tokens = cop_kv_view_tokens(kv, node[i]) - 100;
            crossings += tokens == 192 || tokens == 192 + 256;
            CHECK_OK(cop_kv_append(kv, node[i], 1));
        }
        CHECK_EQ(cop_kv_changes_read(kv).n_segments, 3);
        CHECK_EQ(cop_kv_changes_read(kv).n_ranges, crossings);
        CHECK_OK(cop_kv_check(kv));
    }
    CHECK_EQ(cop_kv_stats_read(kv).given_back, 0);

    /* The last free page can be had: whoever holds one ahead gives it back. */
    const uint32_t free = cop_kv_stats_read(kv).pages_free;
    CHECK(cop_kv_stats_read(kv).pages_ahead > 0);
    cop_node crowd;
    CHECK_OK(cop_kv_open(kv, cop_kv_root(kv), &crowd));
    CHECK_STATUS(cop_kv_append(kv, crowd, 16 * free + 1), COP_ERR_NO_PAGES);
    CHECK_OK(cop_kv_append(kv, crowd, 16 * free));
    CHECK_EQ(cop_kv_stats_read(kv).pages_free, 0);
    CHECK_EQ(cop_kv_stats_read(kv).pages_ahead, 0);
    CHECK(cop_kv_stats_read(kv).given_back > 0);
    CHECK_OK(cop_kv_check(kv));
    cop_kv_release(kv, crowd);
    for (uint32_t i = 0; i < 3; i++)
        cop_kv_release(kv, node[i]);
    cop_kv_release(kv, prompt);
    CHECK_EQ(cop_kv_stats_read(kv).pages_free, 200);
    CHECK_OK(cop_kv_check(kv));
    cop_kv_destroy(kv);
}

int main(void) {
    RUN(test_options_are_refused_by_name);
    RUN(test_a_fork_opens_a_fresh_page);
    RUN(test_a_stitch_reuses_what_stands);
    RUN(test_chunks_end_where_the_rule_says);
    RUN(test_ranges_never_run_out_before_pages);
    RUN(test_pages_ahead_come_with_chunks);
    return check_report();
}
