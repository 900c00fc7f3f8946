/* The KV bookkeeping of a run: pages, segments and views. Integers only; no KV value is touched
 * here.
 *
 * page     a fixed number of tokens (16, 32 or 64) of the backend's pool; belongs to one segment
 * segment  a run of tokens written by exactly one branch: page list + length; open (growing) or
 *          sealed (immutable); reference-counted by the nodes that stand on it
 * node     one step of a view: (parent node, segment). A view is the path from the root to a node,
 *          so the views of a run form a trie; a joined segment that stands under two different
 *          prefixes has two nodes. Reference-counted: one for each holder (a branch) and for each
 * child
 *
 * Fork:   seal the branch's node, open N nodes under it. No token is copied: segments are
 *         page-aligned, so a child always starts on a fresh page.
 * Stitch: append other views' segments to a view, as new nodes over the same segments.
 * Overlay: the same over segments that others are still writing, for one step.
 * Release: drop a holder's reference; nodes, segments and pages that nobody holds are free at once.
 *
 * Invariants: free + held pages == total after every call; a failed call changes nothing. After
 * cop_kv_create nothing is allocated. Indices are reused only after their count reached zero.
 * One thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/tables.h"

#define COP_NODE_NONE UINT32_MAX
#define COP_SEGMENT_NONE UINT32_MAX
#define COP_PAGE_NONE UINT32_MAX

typedef uint32_t cop_node; /* a view: the path from the root to this node */

typedef struct cop_kv_options {
    uint32_t page_tokens; /* 16, 32 or 64 */
    uint32_t n_pages;
    uint32_t max_segments;
    uint32_t max_nodes;                       /* the root included */
    uint32_t chunk_tokens, chunk_tail_tokens; /* the chunk rule (C, W) of plan.h; multiples of 64 */
    /* An open segment takes the pages up to the end of its chunk when it takes its first one there,
     * while enough are free: then its words of the page table change only where it enters a chunk.
     * Pages taken ahead count as free, and are given back when anyone needs them. */
    bool pages_ahead;
} cop_kv_options;

typedef struct cop_kv cop_kv;

cop_status cop_kv_create(const cop_kv_options *options, cop_kv **out);
void cop_kv_destroy(cop_kv *kv); /* NULL is fine */

/* The empty view. Never released. */
cop_node cop_kv_root(const cop_kv *kv);

/* A fresh open segment under `parent`, which must be sealed or the root. The caller holds *out. */
cop_status cop_kv_open(cop_kv *kv, cop_node parent, cop_node *out);

/* Adds `tokens` to the node's open segment, taking pages as needed (COP_ERR_NO_PAGES: nothing
 * changed). The new tokens have offsets old length .. old length + tokens - 1. */
cop_status cop_kv_append(cop_kv *kv, cop_node node, uint32_t tokens);

/* Takes the last `tokens` of an open segment back (a token whose text a tag cut), freeing pages. */
cop_status cop_kv_retract(cop_kv *kv, cop_node node, uint32_t tokens);

void cop_kv_seal(cop_kv *kv, cop_node node);

/* View `base` followed by the segments of each tail[i] that lie below `below` (an ancestor of every
 * tail; exclusive), in order. Segments without tokens are skipped. Everything must be sealed. Nodes
 * that already stand there are reused. The caller holds *out (which may be `base` itself). */
cop_status cop_kv_stitch(cop_kv *kv, cop_node base, cop_node below, const cop_node *tail,
                         uint32_t n_tails, cop_node *out);

/* The same for branches that see each other while they write: tails may be open, each has its own
 * `below`, and what floats takes its place in the new view. What a node says of the tokens before
 * it holds until one of the open segments above it grows: such a view is made for one step, and
 * released after it. */
cop_status cop_kv_overlay(cop_kv *kv, cop_node base, const cop_node *below, const cop_node *tail,
                          uint32_t n_tails, cop_node *out);

/* The segment's keys float: they are rotated to positions 0, 1, .. and wherever the segment stands
 * in a view, n tokens behind its begin, it counts as standing at begin_position + n. A query meets
 * it rotated by cop_kv_shift more. Source: Hogwild! Inference (arXiv 2504.06261), section 3. */
void cop_kv_float(cop_kv *kv, cop_node node, int32_t begin_position);
/* What is added to a query's position where it meets the node's segment. A stitch takes it over
 * from the view that it copies, as it takes positions; an overlay has each part stand where it is
 * put. */
int32_t cop_kv_shift(const cop_kv *kv, cop_node node);

void cop_kv_retain(cop_kv *kv, cop_node node);
void cop_kv_release(cop_kv *kv, cop_node node); /* COP_NODE_NONE and the root are fine */
uint32_t cop_kv_references(const cop_kv *kv, cop_node node); /* holders and children */

/* Reading. A node's chunk state is that of plan.h's fold at the node's first token. */
typedef struct cop_node_info {
    cop_node parent;            /* COP_NODE_NONE for the root */
    uint32_t segment;           /* COP_SEGMENT_NONE for the root */
    uint32_t depth;             /* number of nodes above */
    uint32_t view_tokens;       /* tokens of the view before this node */
    uint32_t chunk, chunk_fill; /* chunk number, and tokens already in it, before this node */
    bool sealed;
} cop_node_info;
cop_node_info cop_kv_node(const cop_kv *kv, cop_node node);
uint32_t cop_kv_own_tokens(const cop_kv *kv, cop_node node);  /* those of its segment */
uint32_t cop_kv_view_tokens(const cop_kv *kv, cop_node node); /* the node's own tokens included */

const cop_segment *cop_kv_segments(const cop_kv *kv); /* [max_segments] */
const uint32_t *cop_kv_page_table(const cop_kv *kv);
uint32_t cop_kv_page_table_capacity(const cop_kv *kv);

/* What changed in the two tables since the last clear, for whoever keeps a copy of them: O(1) a
 * change, and never more than one range for each segment, so nothing overflows. Freed segments and
 * freed words of the page table need not be listed: nobody reads them. A plan on this kv hands the
 * lists out and clears them (cop_plan_view, cop_plan_changes_clear). */
typedef struct cop_kv_changes {
    const uint32_t *segments;      /* offset or length changed; each once */
    const cop_table_range *ranges; /* of the page table; they never overlap */
    uint32_t n_segments, n_ranges;
    bool all; /* never cleared yet: copy both tables */
} cop_kv_changes;
cop_kv_changes cop_kv_changes_read(const cop_kv *kv);
void cop_kv_changes_clear(cop_kv *kv);

/* Depth-first order over the trie, for the plan. Children are kept in order of creation. */
cop_node cop_kv_first_child(const cop_kv *kv, cop_node node);
cop_node cop_kv_next_sibling(const cop_kv *kv, cop_node node);

typedef struct cop_kv_stats {
    uint32_t pages_total, pages_free, pages_held, pages_peak;
    uint32_t pages_ahead; /* of the free ones; taken ahead of need */
    uint64_t given_back;  /* times that a segment had to give such pages back */
    uint32_t segments_held, nodes_held;
    uint64_t tokens_held; /* unique KV tokens */
} cop_kv_stats;
cop_kv_stats cop_kv_stats_read(const cop_kv *kv);
void cop_kv_peak_reset(cop_kv *kv); /* pages_peak = pages_held */

/* Recomputes every count from scratch; COP_ERR_INTERNAL with a message where one disagrees. */
cop_status cop_kv_check(const cop_kv *kv);
