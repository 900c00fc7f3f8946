/* The board of a block and the walk over an item's leaves.
 *
 * The board stands in shared memory: which slots of the tile take part, the item and its heads,
 * where the walk is, and a ring of four leaf descriptors. Warp 0 alone walks, two leaves ahead of
 * the fold, so that entry, segment and page table are looked up while older leaves are folded; a
 * leaf is 64 tokens, anchored at its segment's offset 0, 64, .., and never crosses a segment.
 */
#pragma once

#include "kernels/attention.h"
#include "kernels/ptx.cuh"

COP_MUTANT_DECLARE(attention_mask_shift, "a slot looks at its neighbour's bit of the mask");
COP_MUTANT_DECLARE(attention_limit, "limits let one more token be seen");

constexpr uint32_t COP__BLOCK = 128, COP__LEAF = COP_LEAF_TOKENS;
constexpr uint32_t COP__NO_SLOT = 64; /* tile slot of a row that takes no part */
constexpr uint32_t COP__RING = 4;

/* What the fold and the merge need of either kernel's arguments; by value in constant memory. */
typedef struct cop__attention_io {
    const cop_segment *segments;
    const uint32_t *page_table;
    const cop_walk_entry *entries;
    const int32_t *limits;
    const uint16_t *pool, *q;
    uint16_t *out;
    float *lse, *partial_o, *partial_ml;
    uint64_t q_stride, out_stride;
    uint32_t page_shift, n_heads, n_kv_heads, parts;
    float c;
} cop__attention_io;

/* An item for one KV head, or for a part of its query heads. */
struct cop__job {
    uint32_t chunk, kv_head, part;
    uint32_t head, heads; /* first query head and how many: row r is (slot r / heads, r % heads) */
    uint32_t n_rows;
};

/* One leaf as its readers need it. tokens = 0: the walk has ended. */
struct alignas(16) cop__leaf {
    uint32_t page[4];
    uint32_t tokens, first;
    uint32_t mask[2];
    int32_t limits;
    uint32_t unused[3];
};

/* Where warp 0 stands among the item's entries; in shared memory between two leaves: registers are
 * dear. */
struct alignas(8) cop__walk {
    uint64_t present;    /* tile slots that take part */
    uint64_t mask;       /* of them, those that see the entry under way */
    uint32_t entry, end; /* the next one to look at */
    uint32_t at, last;   /* what is left of the entry under way */
    uint32_t table;      /* where its segment's pages stand */
    int32_t limits;
};

/* The slots of the item's tile that take part, and what the block tells itself. */
struct cop__board {
    cop__leaf ring[COP__RING];
    cop__walk walk;
    cop__job job;
    int32_t row[COP_TILE_SLOTS_MAX]; /* -1: takes no part */
    uint32_t slot[COP_TILE_SLOTS_MAX], first_partial[COP_TILE_SLOTS_MAX];
    uint32_t n_partials[COP_TILE_SLOTS_MAX];
    uint32_t complete[COP_TILE_SLOTS_MAX]; /* this block brought the last partial */
    uint32_t ticket, any_partial;
    uint32_t nought; /* 0 */
};

template <int D> struct cop__shared { /* byte offsets */
    static constexpr bool two_stages = D <= 128;
    static constexpr int wide = D <= 128 ? 1 : 2; /* W of the wide tile */
    static constexpr uint32_t rows = 64 / wide;
    static constexpr uint32_t tile = COP__LEAF * D * 2;
    static constexpr uint32_t stages = (two_stages ? 4 : 2) * tile;
    /* of each group of rows: fragments of P, sums, maxima */
    static constexpr uint32_t sums = 4 * 32 * 16, maxima = sums + 4 * 32 * 8;
    static constexpr uint32_t exchange_bytes = maxima + 4 * 16 * 4;
    static constexpr uint32_t board =
        stages + wide * exchange_bytes + (two_stages ? 0 : rows * D * 2);
    static constexpr uint32_t bytes = board + sizeof(cop__board);
    static constexpr uint32_t query = two_stages ? 2 * tile : stages + wide * exchange_bytes;
    static COP_METHOD uint32_t k(uint32_t i) {
        return two_stages ? (i & 1) * 2 * tile : 0;
    }
    static COP_METHOD uint32_t v(uint32_t i) {
        return k(i) + tile;
    }
};

template <int D> COP_DEVICE cop__board *cop__board_of() {
    return cop_shared_as<cop__board>(cop__shared<D>::board);
}

/* cop_thread(), by a sum that a compiler does not see through: else it keeps what follows from the
 * thread's place, for narrow and wide tiles alike, in registers from item to item, and spills. */
template <int D> COP_DEVICE uint32_t cop__me() {
    return cop_thread() + cop_lds(&cop__board_of<D>()->nought);
}

/* Read again where it is needed: registers are dear inside the fold. */
template <int D> COP_DEVICE cop__job cop__job_of() {
    const cop__job *job = &cop__board_of<D>()->job;
    cop__job copy;
    copy.chunk = cop_lds(&job->chunk);
    copy.kv_head = cop_lds(&job->kv_head);
    copy.part = cop_lds(&job->part);
    copy.head = cop_lds(&job->head);
    copy.heads = cop_lds(&job->heads);
    copy.n_rows = cop_lds(&job->n_rows);
    return copy;
}

template <int D> COP_DEVICE void cop__job_set(const cop__job &job) {
    cop__job *place = &cop__board_of<D>()->job;
    cop_sts(&place->chunk, job.chunk);
    cop_sts(&place->kv_head, job.kv_head);
    cop_sts(&place->part, job.part);
    cop_sts(&place->head, job.head);
    cop_sts(&place->heads, job.heads);
    cop_sts(&place->n_rows, job.n_rows);
    cop_sts(&cop__board_of<D>()->nought, 0);
}

template <int D> COP_DEVICE uint32_t cop__swizzled(uint32_t token, uint32_t chunk) {
    const uint32_t turn = D == 96 ? token >> 1 & 3 : token & 7;
    return token * (D * 2) + ((chunk ^ turn) << 4);
}

/* ---- the walk: warp 0 turns entries into leaves ---- */

/* The largest limit among the slots of the mask. */
COP_DEVICE uint32_t cop__furthest(const int32_t *limits, uint64_t mask) {
    int32_t most = 0;
    COP_UNROLL
    for (uint32_t x = 0; x < COP_TILE_SLOTS_MAX; x += 32) {
        const uint32_t s = x + cop_lane();
        const int32_t limit = mask >> s & 1 ? cop_ld_nc(limits + s) : 0;
        most = limit > most ? limit : most;
    }
    COP_UNROLL
    for (uint32_t step = 16; step > 0; step >>= 1) {
        const int32_t other = cop_shfl_xor(most, step);
        most = other > most ? other : most;
    }
    return static_cast<uint32_t>(most) + (COP_MUTANT(attention_limit) ? 1u : 0u);
}

COP_DEVICE void cop__walk_enter(const cop__attention_io &io, cop__walk &walk) {
    struct alignas(16) half {
        uint32_t word[4];
    };
    const half *entry = reinterpret_cast<const half *>(io.entries + walk.entry++);
    const half a = cop_ld_nc(entry), b = cop_ld_nc(entry + 1);
    walk.mask = (static_cast<uint64_t>(b.word[1]) << 32 | b.word[0]) & walk.present;
    if (walk.mask == 0)
        return;
    struct alignas(8) segment {
        uint32_t table, tokens;
    };
    const segment s = cop_ld_nc(reinterpret_cast<const segment *>(io.segments + a.word[0]));
    const uint32_t first = a.word[1], tokens = a.word[2];
    const bool whole = first >= s.tokens || tokens >= s.tokens - first;
    uint32_t last = whole ? s.tokens : first + tokens;
    walk.limits = static_cast<int32_t>(b.word[2]);
    if (walk.limits != COP_LIMITS_NONE) {
        const uint32_t furthest = cop__furthest(io.limits + walk.limits, walk.mask);
        last = furthest < last ? furthest : last;
    }
    walk.at = first;
    walk.last = last;
    walk.table = s.table;
}

/* Writes the next leaf to the ring. All lanes of warp 0, which meets between two calls. */
template <int D> COP_DEVICE void cop__walk_next(const cop__attention_io &io, uint32_t place) {
    cop__board *board = cop__board_of<D>();
    cop__walk walk;
    walk.present = cop_lds(&board->walk.present);
    walk.mask = cop_lds(&board->walk.mask);
    walk.entry = cop_lds(&board->walk.entry);
    walk.end = cop_lds(&board->walk.end);
    walk.at = cop_lds(&board->walk.at);
    walk.last = cop_lds(&board->walk.last);
    walk.table = cop_lds(&board->walk.table);
    walk.limits = cop_lds(&board->walk.limits);
    while (walk.at >= walk.last && walk.entry < walk.end)
        cop__walk_enter(io, walk);
    const uint32_t left = walk.at < walk.last ? walk.last - walk.at : 0;
    const uint32_t tokens = left < COP__LEAF ? left : COP__LEAF;
    cop__leaf *leaf = &board->ring[place % COP__RING];
    const uint32_t lane = cop_lane();
    if (lane < 4 && (lane << io.page_shift) < tokens)
        cop_sts(&leaf->page[lane],
                cop_ld_nc(io.page_table + walk.table + (walk.at >> io.page_shift) + lane));
    cop_sync_warp(); /* all lanes know where the walk stood */
    if (lane != 0)
        return;
    cop_sts(&leaf->tokens, tokens);
    cop_sts(&leaf->first, walk.at);
    cop_sts(&leaf->mask[0], static_cast<uint32_t>(walk.mask));
    cop_sts(&leaf->mask[1], static_cast<uint32_t>(walk.mask >> 32));
    cop_sts(&leaf->limits, walk.limits);
    cop_sts(&board->walk.mask, walk.mask);
    cop_sts(&board->walk.entry, walk.entry);
    cop_sts(&board->walk.at, walk.at + tokens);
    cop_sts(&board->walk.last, walk.last);
    cop_sts(&board->walk.table, walk.table);
    cop_sts(&board->walk.limits, walk.limits);
}

/* All lanes of warp 0: starts the walk and writes its first two leaves. */
template <int D>
COP_DEVICE void cop__walk_begin(const cop__attention_io &io, const cop__walk &walk) {
    cop__walk *place = &cop__board_of<D>()->walk;
    if (cop_lane() == 0) {
        cop_sts(&place->present, walk.present);
        cop_sts(&place->mask, walk.mask);
        cop_sts(&place->entry, walk.entry);
        cop_sts(&place->end, walk.end);
        cop_sts(&place->at, walk.at);
        cop_sts(&place->last, walk.last);
        cop_sts(&place->table, walk.table);
        cop_sts(&place->limits, walk.limits);
    }
    cop_sync_warp();
    cop__walk_next<D>(io, 0);
    cop_sync_warp();
    cop__walk_next<D>(io, 1);
}

/* How many of the leaf's tokens, counted from its first, the row of this tile slot sees. */
COP_DEVICE uint32_t cop__tokens_seen(const cop__attention_io &io, const cop__leaf *leaf,
                                     uint32_t slot) {
    if (slot == COP__NO_SLOT)
        return 0;
    const uint32_t bit = COP_MUTANT(attention_mask_shift) ? (slot + 1) & 63 : slot;
    if (!(cop_lds(&leaf->mask[bit >> 5]) >> (bit & 31) & 1))
        return 0;
    const uint32_t tokens = cop_lds(&leaf->tokens);
    const int32_t limits = cop_lds(&leaf->limits);
    if (limits == COP_LIMITS_NONE)
        return tokens;
    const int32_t limit = cop_ld_nc(io.limits + limits + static_cast<int32_t>(slot)) +
                          (COP_MUTANT(attention_limit) ? 1 : 0);
    const int32_t first = static_cast<int32_t>(cop_lds(&leaf->first));
    const uint32_t seen = limit > first ? static_cast<uint32_t>(limit - first) : 0;
    return seen < tokens ? seen : tokens;
}
