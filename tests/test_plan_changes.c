/* The lists of changes: a copy that starts out poisoned and follows them alone says the same as the
 * plan's own tables, over random trees. The same program over seeded bugs: plan_mutants.cmake. */
#include "check.h"

#include "kv/kv.h"
#include "kv/plan.h"
#include "ref/tree_generator.h"
#include "table_copy.h"

enum { TRACES = 4000, SPANS = 1 << 16 };

static cop_plan_span spans[2][SPANS];
static uint64_t at_trace, at_batch;

/* plan_mutants.cmake looks for this line. */
#define EXPECT_COPY(copy, condition)                                                               \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("the copy differs: trace %" PRIu64 ", batch %" PRIu64 ": %s\n", at_trace,       \
                   at_batch, (copy)->why);                                                         \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static uint32_t pick(uint64_t seed, uint32_t salt, uint32_t bound) {
    uint64_t x = (seed * 64 + salt + 1) * 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    return (uint32_t)((x ^ x >> 27) * 0x94d049bb133111ebull >> 33) % bound;
}

typedef struct totals {
    tree_coverage coverage;
    uint64_t batches, full, followed, elements, missed, late, rebuilds, whole, steady;
} totals;

static tree_options trace_options(uint64_t seed) {
    return (tree_options){
        .seed = seed,
        .max_steps = 20 + pick(seed, 1, 40),
        .max_branches = pick(seed, 0, 4) == 3 ? 40 : 6 + pick(seed, 2, 12),
        .max_prompt = pick(seed, 3, 3) ? 60 : 400,
        .max_header = pick(seed, 4, 4) ? 8 : 150,
        .max_prefill = pick(seed, 5, 2) ? 64 : 200,
        .max_tokens = 3000,
        .vocab = 1000,
        .fork = 30,
        .finish = 60,
        .prune = 4 + pick(seed, 6, 15),
        .retract = 25,
        .sit_out = pick(seed, 7, 3) ? 0 : 10,
    };
}

static tree_replay_options replay_options(uint64_t seed) {
    const uint32_t page[] = {16, 32, 64}, chunk[] = {64, 128, 192, 1024};
    const uint32_t width[] = {1, 2, 3, 5, 8, 21, 64};
    return (tree_replay_options){
        .page_tokens = page[pick(seed, 10, 3)],
        .chunk_tokens = chunk[pick(seed, 11, 4)],
        .chunk_tail_tokens = 64 * pick(seed, 12, 4),
        .group = 3,
        .tile_slots = width[pick(seed, 13, 7)],
        .pages_ahead = pick(seed, 14, 2),
    };
}

/* Follows after most steps. Now and then the lists grow over several steps, or they are cleared
 * while the copy looks away, or the plan is made anew between two steps. */
static void run_trace(uint64_t seed, totals *sum) {
    const tree_options options = trace_options(seed);
    const tree_replay_options replayed = replay_options(seed);
    tree_trace *trace = tree_trace_create(&options);
    tree_replay *replay = tree_replay_create(trace, &replayed);
    cop_plan *plan = tree_replay_plan(replay);
    table_copy copy;
    tree_batch batch;
    uint64_t epoch = 0;
    bool cleared = false; /* after the last step */
    copy_create(&copy, cop_plan_capacity(plan));
    at_trace = seed;
    for (at_batch = 0; tree_replay_next(replay, &batch); at_batch++) {
        const uint32_t turn = pick(seed * 1000 + at_batch, 20, 100);
        if (turn < 3)
            CHECK_OK(cop_plan_rebuild(plan));
        const cop_plan_tables t = cop_plan_view(plan);
        sum->batches++;
        sum->steady += cleared && t.epoch == epoch;
        if (cleared && t.epoch == epoch && t.changes.n_plan != 0) {
            copy_wrong(&copy, "changes that the epoch does not tell", epoch, t.changes.n_plan);
            EXPECT_COPY(&copy, false);
        }
        epoch = t.epoch;
        cleared = turn < 90;
        if (turn >= 90) { /* later: the lists go on */
            sum->late++;
            continue;
        }
        if (turn < 85) {
            EXPECT_COPY(&copy, copy_follow(&copy, &t));
            EXPECT_COPY(&copy, copy_check(&copy, &t, spans[0], spans[1], SPANS));
        } else {
            sum->missed++;
        }
        cop_plan_changes_clear(plan);
    }
    const cop_plan_stats stats = cop_plan_stats_read(plan);
    sum->rebuilds += stats.rebuilds;
    sum->whole += stats.changes_whole;
    sum->full += copy.full;
    sum->followed += copy.followed;
    sum->elements += copy.elements;
    tree_coverage_add(&sum->coverage, &trace->coverage);
    tree_coverage_add(&sum->coverage, tree_replay_coverage(replay));
    copy_destroy(&copy);
    tree_replay_destroy(replay);
    tree_trace_destroy(trace);
}

static void test_a_copy_that_follows_the_lists_is_the_plan(void) {
    const uint32_t traces = check_effort(TRACES, 200);
    totals sum = {0};
    for (uint64_t seed = 0; seed < traces; seed++)
        run_trace(seed, &sum);
    printf("  %u traces, %" PRIu64 " batches: %" PRIu64
           " lists followed, %.1f elements each, %" PRIu64 " full copies (%" PRIu64
           " after a turn that was missed); %" PRIu64 " steps listed late, %" PRIu64
           " steady; %" PRIu64 " times made anew, %" PRIu64 " lists of whole tables\n",
           traces, sum.batches, sum.followed, (double)sum.elements / (double)sum.followed, sum.full,
           sum.missed, sum.late, sum.steady, sum.rebuilds, sum.whole);
    tree_coverage_print(&sum.coverage, stdout);
    const char *missing = tree_coverage_missing(&sum.coverage, 0);
    if (missing)
        fprintf(stderr, "not covered: %s\n", missing);
    CHECK(!missing);
    CHECK(sum.followed > 20ull * traces && sum.missed > traces && sum.late > traces);
    CHECK(sum.steady > traces && sum.rebuilds > traces && sum.whole > traces);
}

/* Walks that hardly fit, of slots that come and go: their storage is moved together now and then.
 */
static void test_a_copy_follows_walks_that_move_together(void) {
    enum { DEPTH = 400, SLOTS = 40, LIVE = SLOTS / 2 };
    cop_kv *kv;
    cop_plan *plan;
    const cop_kv_options kv_options = {.page_tokens = 16,
                                       .n_pages = 1200,
                                       .max_segments = 600,
                                       .max_nodes = DEPTH + SLOTS + 2,
                                       .chunk_tokens = 128,
                                       .chunk_tail_tokens = 64};
    CHECK_OK(cop_kv_create(&kv_options, &kv));
    const cop_plan_options options = {.group = 4,
                                      .tile_slots = 1,
                                      .chunk_tokens = 128,
                                      .chunk_tail_tokens = 64,
                                      .max_decode_slots = SLOTS};
    CHECK_OK(cop_plan_create(&options, kv, &plan));
    cop_node deep = cop_kv_root(kv), node[SLOTS];
    uint32_t slot[LIVE];
    for (uint32_t i = 0; i < DEPTH + SLOTS; i++) {
        cop_node *one = i < DEPTH ? &deep : &node[i - DEPTH];
        CHECK_OK(cop_kv_open(kv, deep, one));
        CHECK_OK(cop_kv_append(kv, *one, 1 + i % 7));
        if (i < DEPTH)
            cop_kv_seal(kv, deep);
    }
    for (uint32_t i = 0; i < LIVE; i++)
        CHECK_OK(cop_plan_slot_add(plan, node[i], &slot[i]));
    table_copy copy;
    copy_create(&copy, cop_plan_capacity(plan));
    at_trace = UINT64_MAX;
    for (at_batch = 0; at_batch < 200; at_batch++) {
        const uint32_t i = at_batch * 7 % LIVE, other = LIVE + at_batch % LIVE;
        const cop_node swapped = node[i];
        cop_plan_slot_remove(plan, slot[i]);
        node[i] = node[other];
        node[other] = swapped;
        CHECK_OK(cop_kv_append(kv, node[i], 30)); /* so that walks differ in length */
        CHECK_OK(cop_plan_slot_add(plan, node[i], &slot[i]));
        CHECK_OK(cop_plan_step(plan, slot, LIVE, NULL, 0));
        const cop_plan_tables t = cop_plan_view(plan);
        EXPECT_COPY(&copy, copy_follow(&copy, &t));
        EXPECT_COPY(&copy, copy_check(&copy, &t, spans[0], spans[1], SPANS));
        cop_plan_changes_clear(plan);
    }
    CHECK(cop_plan_stats_read(plan).entries_moved > 10);
    CHECK_EQ(copy.full, 1);
    copy_destroy(&copy);
    cop_plan_destroy(plan);
    cop_kv_destroy(kv);
}

typedef struct pair { /* two plans of two branches each on one kv */
    cop_kv *kv;
    cop_plan *plan[2];
    cop_node node[2];
    uint32_t slot[2][2];
} pair;

static pair pair_create(void) {
    pair p;
    CHECK_OK(cop_kv_create(&(cop_kv_options){.page_tokens = 16,
                                             .n_pages = 64,
                                             .max_segments = 8,
                                             .max_nodes = 8,
                                             .chunk_tokens = 128,
                                             .chunk_tail_tokens = 128},
                           &p.kv));
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_OK(cop_kv_open(p.kv, cop_kv_root(p.kv), &p.node[i]));
        CHECK_OK(cop_kv_append(p.kv, p.node[i], 15));
    }
    const cop_plan_options options = {.group = 1,
                                      .tile_slots = 1,
                                      .chunk_tokens = 128,
                                      .chunk_tail_tokens = 128,
                                      .max_decode_slots = 4};
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_OK(cop_plan_create(&options, p.kv, &p.plan[i]));
        for (uint32_t b = 0; b < 2; b++)
            CHECK_OK(cop_plan_slot_add(p.plan[i], p.node[b], &p.slot[i][b]));
        CHECK_OK(cop_plan_step(p.plan[i], p.slot[i], 2, NULL, 0));
    }
    return p;
}

static void pair_destroy(pair *p) {
    cop_plan_destroy(p->plan[0]);
    cop_plan_destroy(p->plan[1]);
    cop_kv_destroy(p->kv);
}

static void follow_and_check(table_copy *at, cop_plan *plan, bool in_full) {
    const cop_plan_tables t = cop_plan_view(plan);
    const uint64_t full = at->full;
    EXPECT_COPY(at, copy_follow(at, &t));
    EXPECT_COPY(at, copy_check(at, &t, spans[0], spans[1], SPANS));
    CHECK_EQ(at->full - full, in_full);
}

/* Another plan on the kv clears the kv's list as well, and a plan may change between a copy's turn
 * and the clear: the numbers tell. */
static void test_a_list_with_a_gap_is_seen(void) {
    pair p = pair_create();
    table_copy copy;
    copy_create(&copy, cop_plan_capacity(p.plan[0]));
    follow_and_check(&copy, p.plan[0], true);
    follow_and_check(&copy, p.plan[0], true); /* never cleared: everything each time */
    cop_plan_changes_clear(p.plan[0]);
    CHECK_OK(cop_plan_step(p.plan[0], p.slot[0], 2, NULL, 0));
    follow_and_check(&copy, p.plan[0], false);

    CHECK_OK(cop_kv_append(p.kv, p.node[0], 2));
    CHECK_OK(cop_plan_step(p.plan[1], p.slot[1], 2, NULL, 0));
    cop_plan_changes_clear(p.plan[1]);
    CHECK_OK(cop_kv_append(p.kv, p.node[1], 2));
    CHECK_OK(cop_plan_step(p.plan[0], p.slot[0], 2, NULL, 0));
    follow_and_check(&copy, p.plan[0], true);
    cop_plan_changes_clear(p.plan[0]);

    CHECK_OK(cop_plan_step(p.plan[0], p.slot[0], 2, NULL, 0));
    follow_and_check(&copy, p.plan[0], false);
    cop_plan_slot_remove(p.plan[0], p.slot[0][1]);
    cop_plan_changes_clear(p.plan[0]);
    CHECK_OK(cop_plan_step(p.plan[0], p.slot[0], 1, NULL, 0));
    follow_and_check(&copy, p.plan[0], true);
    copy_destroy(&copy);
    pair_destroy(&p);
}

int main(void) {
    RUN(test_a_list_with_a_gap_is_seen);
    RUN(test_a_copy_follows_walks_that_move_together);
    RUN(test_a_copy_that_follows_the_lists_is_the_plan);
    return check_report();
}
