/* The KV bookkeeping against tests/ref/kv_naive.h under random operations. A failing run is shrunk
 * and printed with its seed. By hand: test_kv_rules.c. */
#include "check.h"

#include "base/memory.h"
#include "kv/kv.h"
#include "ref/kv_naive.h"

enum { HANDLES = 48, WORDS = 4, OPS_WORLD = 5000, WORLDS = 20 };

typedef struct kv_world {
    uint64_t seed;
    cop_kv_options options;
} kv_world;

typedef struct kv_counts {
    uint64_t forks, appends, retracts, stitches, stitches_reusing, prunes, no_pages, no_room;
    uint64_t twice_standing; /* a segment under two prefixes was seen */
    uint64_t ahead, given_back;
} kv_counts;

typedef struct kv_run {
    const kv_world *world;
    cop_kv *kv;
    kv_naive *naive;
    cop_node node[HANDLES]; /* what the run holds, in both models */
    uint32_t twin[HANDLES];
    uint32_t n;
    uint32_t *content;    /* [n_pages * page_tokens] what a backend would have stored */
    uint32_t *segment_of; /* naive segment -> segment */
    uint32_t segments_mapped;
    uint32_t *page_owner;
    uint32_t next_id;
    kv_counts counts;
    char why[256];
} kv_run;

#define EXPECT(condition, ...)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            snprintf(run->why, sizeof run->why, __VA_ARGS__);                                      \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

static uint32_t random_word(uint64_t seed, uint64_t index) {
    uint64_t x = seed * 0x9e3779b97f4a7c15ull + index * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return (uint32_t)(x >> 32);
}

static bool same_status(kv_run *run, cop_status status, naive_result expected, const char *what) {
    const cop_status wish[] = {COP_OK, COP_ERR_NO_PAGES, COP_ERR_NO_ROOM};
    EXPECT(status == wish[expected], "%s gave %s, expected %s", what, cop_status_name(status),
           cop_status_name(wish[expected]));
    run->counts.no_pages += status == COP_ERR_NO_PAGES;
    run->counts.no_room += status == COP_ERR_NO_ROOM;
    return true;
}

static bool compare_node(kv_run *run, cop_node node, uint32_t twin) {
    const cop_node_info info = cop_kv_node(run->kv, node);
    uint32_t *view, chunk, fill, tokens = 0;
    const uint32_t depth = kv_naive_view(run->naive, twin, &view);
    for (uint32_t i = 0; i + 1 < depth; i++)
        tokens += run->naive->segments[run->naive->nodes[view[i]].segment].tokens;
    free(view);
    kv_naive_chunk_state(run->naive, twin, &chunk, &fill);
    EXPECT(info.segment == run->segment_of[run->naive->nodes[twin].segment],
           "node %u stands on segment %u", node, info.segment);
    EXPECT(info.depth == depth && info.view_tokens == tokens, "node %u: depth %u tokens %u", node,
           info.depth, info.view_tokens);
    EXPECT(info.chunk == chunk && info.chunk_fill == fill,
           "node %u: chunk %u fill %u, expected %u, %u", node, info.chunk, info.chunk_fill, chunk,
           fill);
    EXPECT(info.sealed == kv_naive_sealed(run->naive, twin), "node %u: sealed", node);
    return true;
}

static bool compare_trie(kv_run *run, cop_node node, uint32_t twin) {
    uint32_t *children;
    const uint32_t n = kv_naive_children(run->naive, twin, &children);
    bool same = true;
    cop_node child = cop_kv_first_child(run->kv, node);
    for (uint32_t i = 0; i < n && same; i++) {
        if (child == COP_NODE_NONE) {
            snprintf(run->why, sizeof run->why, "node %u lost a child", node);
            same = false;
            break;
        }
        same = compare_node(run, child, children[i]) && compare_trie(run, child, children[i]);
        child = cop_kv_next_sibling(run->kv, child);
    }
    free(children);
    EXPECT(!same || child == COP_NODE_NONE, "node %u has a child too many", node);
    return same;
}

static bool compare_contents(kv_run *run) {
    const uint32_t page_tokens = run->world->options.page_tokens;
    for (size_t i = 0; i < run->naive->n_live_segments; i++) {
        const uint32_t twin = run->naive->live_segments[i];
        const naive_segment *segment = &run->naive->segments[twin];
        const cop_segment *real = &cop_kv_segments(run->kv)[run->segment_of[twin]];
        const uint32_t *pages = cop_kv_page_table(run->kv) + real->page_table_offset;
        for (uint32_t t = 0; t < segment->tokens; t++)
            EXPECT(run->content[pages[t / page_tokens] * page_tokens + t % page_tokens] ==
                       segment->ids[t],
                   "segment %u lost its token %u", run->segment_of[twin], t);
    }
    return true;
}

static bool compare_pages(kv_run *run) {
    const cop_kv_stats stats = cop_kv_stats_read(run->kv);
    const cop_kv_options *o = &run->world->options;
    EXPECT(stats.pages_free + stats.pages_held == stats.pages_total &&
               stats.pages_total == o->n_pages,
           "%u free + %u held != %u", stats.pages_free, stats.pages_held, stats.pages_total);
    EXPECT(stats.pages_held == kv_naive_pages(run->naive), "%u pages held, expected %u",
           stats.pages_held, kv_naive_pages(run->naive));
    EXPECT(stats.tokens_held == kv_naive_tokens(run->naive), "%llu tokens held",
           (unsigned long long)stats.tokens_held);
    EXPECT(stats.segments_held == run->naive->n_live_segments, "%u segments held",
           stats.segments_held);
    EXPECT(stats.nodes_held == run->naive->n_live_nodes, "%u nodes held, expected %zu",
           stats.nodes_held, run->naive->n_live_nodes);
    EXPECT(stats.pages_peak >= stats.pages_held, "peak %u", stats.pages_peak);
    EXPECT(stats.pages_ahead <= (o->pages_ahead ? stats.pages_free : 0), "%u pages ahead of %u",
           stats.pages_ahead, stats.pages_free);
    run->counts.ahead += stats.pages_ahead > 0;

    memset(run->page_owner, 0xff, o->n_pages * sizeof *run->page_owner);
    for (size_t i = 0; i < run->naive->n_live_segments; i++) {
        const uint32_t twin = run->naive->live_segments[i], s = run->segment_of[twin];
        const cop_segment *real = &cop_kv_segments(run->kv)[s];
        EXPECT(real->tokens == run->naive->segments[twin].tokens, "segment %u has %u tokens", s,
               real->tokens);
        const uint32_t pages = (real->tokens + o->page_tokens - 1) / o->page_tokens;
        EXPECT(real->page_table_offset + pages <= cop_kv_page_table_capacity(run->kv),
               "segment %u leaves the page table", s);
        for (uint32_t p = 0; p < pages; p++) {
            const uint32_t page = cop_kv_page_table(run->kv)[real->page_table_offset + p];
            EXPECT(page < o->n_pages, "segment %u names page %u", s, page);
            EXPECT(run->page_owner[page] == UINT32_MAX, "page %u: segments %u and %u", page, s,
                   run->page_owner[page]);
            run->page_owner[page] = s;
        }
    }
    return true;
}

static void hold(kv_run *run, cop_node node, uint32_t twin) {
    run->node[run->n] = node;
    run->twin[run->n++] = twin;
}

static void drop(kv_run *run, uint32_t i) {
    cop_kv_release(run->kv, run->node[i]);
    kv_naive_release(run->naive, run->twin[i]);
    run->n--;
    run->node[i] = run->node[run->n];
    run->twin[i] = run->twin[run->n];
}

static void seal(kv_run *run, uint32_t i) {
    cop_kv_seal(run->kv, run->node[i]);
    kv_naive_seal(run->naive, run->twin[i]);
}

static bool do_fork(kv_run *run, const uint32_t *word) {
    const bool from_root = run->n == 0 || word[1] % 8 == 0;
    const uint32_t i = run->n ? word[1] / 8 % run->n : 0;
    if (!from_root)
        seal(run, i);
    const cop_node parent = from_root ? cop_kv_root(run->kv) : run->node[i];
    const uint32_t twin = from_root ? 0 : run->twin[i];
    const uint32_t children = 1 + word[2] % 4;
    run->counts.forks++;
    for (uint32_t c = 0; c < children && run->n < HANDLES; c++) {
        cop_node node = COP_NODE_NONE;
        uint32_t made = 0;
        const naive_result expected = kv_naive_open(run->naive, twin, &made);
        if (!same_status(run, cop_kv_open(run->kv, parent, &node), expected, "open"))
            return false;
        if (expected != NAIVE_OK)
            return true;
        if (run->segments_mapped < run->naive->n_segments) {
            run->segment_of[run->naive->nodes[made].segment] = cop_kv_node(run->kv, node).segment;
            run->segments_mapped = (uint32_t)run->naive->n_segments;
        }
        hold(run, node, made);
    }
    if (!from_root && word[3] % 4 == 0)
        drop(run, i);
    return true;
}

static bool do_append(kv_run *run, const uint32_t *word) {
    const uint32_t i = word[1] % run->n;
    if (kv_naive_sealed(run->naive, run->twin[i])) {
        EXPECT(cop_kv_append(run->kv, run->node[i], 1) == COP_ERR_INTERNAL, "append to a sealed");
        return true;
    }
    const uint32_t limits[] = {1, 1, 40, 40, 130, 300, 2000, 20000};
    const uint32_t tokens = word[3] % limits[word[2] % 8] + (word[2] % 64 != 8);
    uint32_t *ids = malloc(tokens * sizeof *ids + 1);
    for (uint32_t t = 0; t < tokens; t++)
        ids[t] = run->next_id++;
    const cop_segment *segment =
        &cop_kv_segments(run->kv)[cop_kv_node(run->kv, run->node[i]).segment];
    const uint32_t first = segment->tokens;
    const naive_result expected = kv_naive_append(run->naive, run->twin[i], ids, tokens);
    const bool same =
        same_status(run, cop_kv_append(run->kv, run->node[i], tokens), expected, "append");
    const uint32_t page_tokens = run->world->options.page_tokens;
    const uint32_t *pages = cop_kv_page_table(run->kv) + segment->page_table_offset;
    for (uint32_t t = 0; same && expected == NAIVE_OK && t < tokens; t++) {
        const uint32_t at = first + t, page = pages[at / page_tokens];
        if (page < run->world->options.n_pages)
            run->content[page * page_tokens + at % page_tokens] = ids[t];
    }
    free(ids);
    run->counts.appends++;
    return same;
}

static bool do_retract(kv_run *run, const uint32_t *word) {
    const uint32_t i = word[1] % run->n;
    if (kv_naive_sealed(run->naive, run->twin[i]))
        return true;
    const uint32_t have = run->naive->segments[run->naive->nodes[run->twin[i]].segment].tokens;
    EXPECT(cop_kv_retract(run->kv, run->node[i], have + 1) == COP_ERR_INTERNAL, "retract %u",
           have + 1);
    const uint32_t tokens = word[2] % 3 ? (have > 0) : word[3] % (have + 1);
    kv_naive_retract(run->naive, run->twin[i], tokens);
    EXPECT(cop_kv_retract(run->kv, run->node[i], tokens) == COP_OK, "retract");
    run->counts.retracts++;
    return true;
}

/* Joins what some handles hold below a common ancestor onto that ancestor, or onto any base. */
static bool do_stitch(kv_run *run, const uint32_t *word) {
    if (run->n == HANDLES)
        return true;
    const uint32_t leader = word[1] % run->n;
    uint32_t *view;
    const uint32_t depth = kv_naive_view(run->naive, run->twin[leader], &view);
    const uint32_t up = word[2] % (depth + 1);
    const uint32_t below_twin = up == 0 ? 0 : view[up - 1];
    free(view);
    cop_node below = run->node[leader];
    for (uint32_t d = depth; d > up; d--)
        below = cop_kv_node(run->kv, below).parent;
    if (!kv_naive_sealed(run->naive, below_twin))
        return true;

    cop_node tail[8];
    uint32_t tail_twin[8], n_tails = 0;
    const uint32_t wish = 1 + word[3] % 4;
    for (uint32_t i = 0; i < run->n && n_tails < wish; i++) {
        bool inside = false;
        for (uint32_t at = run->twin[i];; at = run->naive->nodes[at].parent) {
            inside = inside || at == below_twin;
            if (at == 0)
                break;
        }
        if (!inside || word[3] >> (i % 24) & 1)
            continue;
        seal(run, i);
        tail[n_tails] = run->node[i];
        tail_twin[n_tails++] = run->twin[i];
    }
    cop_node base = below, out = COP_NODE_NONE;
    uint32_t base_twin = below_twin, out_twin = 0;
    const uint32_t other = word[2] / 64 % run->n;
    if (word[2] / 4096 % 3 == 0 && kv_naive_sealed(run->naive, run->twin[other])) {
        base = run->node[other];
        base_twin = run->twin[other];
    }
    const size_t nodes_before = run->naive->n_live_nodes;
    const naive_result expected =
        kv_naive_stitch(run->naive, base_twin, below_twin, tail_twin, n_tails, &out_twin);
    if (!same_status(run, cop_kv_stitch(run->kv, base, below, tail, n_tails, &out), expected,
                     "stitch"))
        return false;
    run->counts.stitches++;
    if (expected != NAIVE_OK)
        return true;
    run->counts.stitches_reusing +=
        out_twin != base_twin && n_tails == 1 && run->naive->n_live_nodes == nodes_before;
    run->counts.twice_standing += run->naive->n_live_nodes > run->naive->n_live_segments;
    hold(run, out, out_twin);
    return true;
}

static bool do_op(kv_run *run, const uint32_t *word) {
    const uint32_t kind = word[0] % 100;
    if (run->n == 0 || kind < 18)
        return run->n == HANDLES || do_fork(run, word);
    if (kind < 58)
        return do_append(run, word);
    if (kind < 68)
        return do_retract(run, word);
    if (kind < 80)
        return do_stitch(run, word);
    if (kind < 84 && run->n < HANDLES) {
        const uint32_t i = word[1] % run->n;
        cop_kv_retain(run->kv, run->node[i]);
        kv_naive_retain(run->naive, run->twin[i]);
        hold(run, run->node[i], run->twin[i]);
        return true;
    }
    if (kind < 86)
        seal(run, word[1] % run->n);
    const uint32_t pruned = kind == 99 ? run->n : 1; /* now and then everything goes */
    for (uint32_t i = 0; i < pruned; i++)
        drop(run, word[1] % run->n);
    run->counts.prunes += pruned;
    return true;
}

static bool check_op(kv_run *run, uint32_t step) {
    if (!compare_pages(run))
        return false;
    if (step % 16 == 0 && (!compare_trie(run, cop_kv_root(run->kv), 0) || !compare_contents(run)))
        return false;
    EXPECT(step % 64 != 0 || cop_kv_check(run->kv) == COP_OK, "%s", cop_status_message());
    return true;
}

/* Interprets n_ops groups of words; false with a reason when the two models differ. */
static bool run_words(const kv_world *world, const uint32_t *words, uint32_t n_ops, char why[256],
                      kv_counts *counts) {
    const cop_kv_options *o = &world->options;
    kv_run state = {.world = world}, *run = &state;
    CHECK_OK(cop_kv_create(o, &run->kv));
    run->naive = kv_naive_create(o->page_tokens, o->n_pages, o->max_segments, o->max_nodes,
                                 o->chunk_tokens, o->chunk_tail_tokens);
    run->content = calloc((size_t)o->n_pages * o->page_tokens, sizeof *run->content);
    run->page_owner = calloc(o->n_pages, sizeof *run->page_owner);
    run->segment_of = calloc((size_t)n_ops * 4 + 4, sizeof *run->segment_of);
    const uint64_t allocations = cop_memory_count();
    bool same = true;
    for (uint32_t step = 0; step < n_ops && same; step++) {
        same = do_op(run, words + (size_t)step * WORDS) && check_op(run, step);
        if (!same)
            snprintf(run->why + strlen(run->why), sizeof run->why - strlen(run->why), " (step %u)",
                     step);
    }
    while (same && run->n)
        drop(run, run->n - 1);
    if (same && (!check_op(run, 0) || cop_kv_stats_read(run->kv).pages_held != 0)) {
        snprintf(run->why, sizeof run->why, "something is left at the end");
        same = false;
    }
    if (same && cop_memory_count() != allocations) {
        snprintf(run->why, sizeof run->why, "something was allocated after create");
        same = false;
    }
    run->counts.given_back = cop_kv_stats_read(run->kv).given_back;
    memcpy(why, run->why, sizeof run->why);
    if (counts)
        *counts = run->counts;
    cop_kv_destroy(run->kv);
    kv_naive_destroy(run->naive);
    free(run->content);
    free(run->page_owner);
    free(run->segment_of);
    return same;
}

/* Removes ever smaller blocks of operations as long as the rest still fails, and prints the rest.
 */
static void shrink_and_report(const kv_world *world, uint32_t *words, uint32_t n_ops) {
    char why[256];
    uint32_t *shorter = malloc((size_t)n_ops * WORDS * sizeof *words);
    for (uint32_t block = n_ops / 2; block > 0; block /= 2) {
        for (uint32_t at = 0; at + block <= n_ops;) {
            memcpy(shorter, words, (size_t)at * WORDS * sizeof *words);
            memcpy(shorter + (size_t)at * WORDS, words + (size_t)(at + block) * WORDS,
                   (size_t)(n_ops - at - block) * WORDS * sizeof *words);
            if (run_words(world, shorter, n_ops - block, why, NULL)) {
                at += block;
            } else {
                n_ops -= block;
                memcpy(words, shorter, (size_t)n_ops * WORDS * sizeof *words);
            }
        }
    }
    run_words(world, words, n_ops, why, NULL);
    fprintf(stderr, "seed %" PRIu64 ": shrunk to %u operations: %s\n", world->seed, n_ops, why);
    for (uint32_t i = 0; i < n_ops; i++)
        fprintf(stderr, "  {%u, %u, %u, %u},\n", words[i * WORDS] % 100, words[i * WORDS + 1],
                words[i * WORDS + 2], words[i * WORDS + 3]);
    free(shorter);
}

static void test_random_operations_match_the_naive_model(void) {
    kv_counts total = {0};
    for (uint64_t seed = 0; seed < WORLDS; seed++) {
        const uint32_t page_tokens[] = {16, 32, 64}, chunk[] = {64, 128, 256, 1024};
        const kv_world world = {
            .seed = seed,
            .options = {.page_tokens = page_tokens[seed % 3],
                        .n_pages = seed % 4 == 3 ? 1000 : 40 + random_word(seed, 1) % 80,
                        .max_segments = 20 + random_word(seed, 2) % 30,
                        .max_nodes = 24 + random_word(seed, 3) % 60,
                        .chunk_tokens = chunk[random_word(seed, 4) % 4],
                        .chunk_tail_tokens = 64 * (random_word(seed, 5) % 5),
                        .pages_ahead = seed % 2},
        };
        uint32_t *words = malloc((size_t)OPS_WORLD * WORDS * sizeof *words);
        for (uint32_t i = 0; i < OPS_WORLD * WORDS; i++)
            words[i] = random_word(seed + 1000, i);
        char why[256];
        kv_counts counts;
        if (!run_words(&world, words, OPS_WORLD, why, &counts)) {
            fprintf(stderr, "seed %" PRIu64 ": %s; shrinking\n", seed, why);
            shrink_and_report(&world, words, OPS_WORLD);
            exit(1);
        }
        free(words);
        for (size_t i = 0; i < sizeof counts / sizeof(uint64_t); i++)
            ((uint64_t *)&total)[i] += ((uint64_t *)&counts)[i];
    }
    printf("  %d operations: %" PRIu64 " forks, %" PRIu64 " appends, %" PRIu64 " retracts, %" PRIu64
           " stitches (%" PRIu64 " made nothing new), %" PRIu64 " prunes, %" PRIu64
           " times out of pages, %" PRIu64 " out of room; pages ahead after %" PRIu64
           ", given back %" PRIu64 " times\n",
           WORLDS * OPS_WORLD, total.forks, total.appends, total.retracts, total.stitches,
           total.stitches_reusing, total.prunes, total.no_pages, total.no_room, total.ahead,
           total.given_back);
    CHECK(total.forks > 1000 && total.retracts > 1000 && total.stitches > 1000);
    CHECK(total.prunes > 1000 && total.stitches_reusing > 10 && total.twice_standing > 100);
    CHECK(total.no_pages > 100 && total.no_room > 100);
    CHECK(total.ahead > 1000 && total.given_back > 50);
}

int main(void) {
    RUN(test_random_operations_match_the_naive_model);
    return check_report();
}
