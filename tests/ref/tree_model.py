#!/usr/bin/env python3
"""Modelled time of one decode-attention layer over a tree of KV segments, for several plans.

    python3 tests/ref/tree_model.py configs/shapes/tree_shapes.json > tests/ref/fixtures/tree_model.tsv

The second implementation beside kernels/cost_plans.c, from the shape's levels alone: it knows no
tables. A paper model, to compare plans; nothing here was measured. Prints one line for each shape
and its first two head configurations: index, query heads, KV heads, bound, and the modelled times
of unshared, segment, levels, walk at chunk rule 1024/1024 and walk at its best rule, in seconds.
Units: bytes, seconds. d = head size, G = query heads per KV head, bf16 K and V, fp32 partials.
The GPU is an H100-like one: DRAM 3.0 TB/s reached, L2 to SMs 5.5 TB/s, 264 resident blocks that
draw 50 GB/s each, 1.5 us fixed a work item.
  bound    every KV byte, Q and O once from DRAM
  unshared one row walks its own path (paged attention), split every 2048 tokens
  segment  one work item a (segment, chunk, tile of 64 rows); a partial a (row, segment, chunk)
  levels   the same, but one launch a level plus a merge launch a level (4 us each): a cascade
  walk     tiles of at most 64 rows, in depth-first order, walk the union of what their rows see, with masks;
           partials only at chunk ends. Chunk rule, a property of a row's own view alone:
           a chunk ends after C tokens, or at a segment's end once it holds W tokens.
"""
import heapq, json, math, sys

DRAM, L2, SLOTS, SLOT_BPS, ITEM_S, LAUNCH_S = 3.0e12, 5.5e12, 264, 50e9, 1.5e-6, 4e-6


def partial_bytes(d):
    return 2 * (4 * d + 8)


def makespan(items):
    slots = [0.0] * SLOTS
    for b in sorted(items, reverse=True):
        heapq.heappush(slots, heapq.heappop(slots) + b / SLOT_BPS + ITEM_S)
    return max(slots)


def seconds(items, extra, unique):
    return max((unique + extra) / DRAM, (sum(items) + extra) / L2, makespan(items))


def chunks_of_view(tokens, c, w):
    out, cur, n = [], [], 0
    for level, left in enumerate(tokens):
        while left:
            k = min(c - n, left)
            cur.append((level, k))
            n, left = n + k, left - k
            if n == c:
                out.append(cur)
                cur, n = [], 0
        if n >= w:
            out.append(cur)
            cur, n = [], 0
    return out + ([cur] if cur else [])


def walk(nodes, tokens, hq, hk, d, c, w):
    group, rows = hq // hk, nodes[-1]
    chunks = chunks_of_view(tokens, c, w)
    extra = rows * hq * 2 * d * (len(chunks) + 1)
    if len(chunks) > 1:
        extra += rows * hq * len(chunks) * partial_bytes(d)
    unique = sum(a * b for a, b in zip(nodes, tokens)) * hk * 4 * d

    def tiles(chunk, per_tile):  # at most 64 rows; under-filled tiles are allowed
        items = []
        for first in range(0, rows, per_tile):
            last = min(first + per_tile, rows) - 1
            seen = sum(t * (last * nodes[l] // rows - first * nodes[l] // rows + 1) for l, t in chunk)
            items.append(seen * 4 * d)
        return items * hk

    sizes = sorted({max(1, 16 // group), max(1, 64 // group)} | {k for k in (1, 2, 4, 8, 16, 32) if k * group <= 64})
    choices = [[tiles(ch, k) for k in sizes] for ch in chunks]
    spans = [[makespan(x) for x in row] for row in choices]
    best = math.inf
    for weight in (0, 0.05, 0.25, 1, 4):  # few loads against short items: the plan may mix tile classes
        picked = [min(zip(row, span), key=lambda x: sum(x[0]) / L2 + weight * x[1])[0]
                  for row, span in zip(choices, spans)]
        best = min(best, seconds([b for x in picked for b in x], extra, unique))
    return best


def segment(nodes, tokens, hq, hk, d, c, launches=1):
    group, rows = hq // hk, nodes[-1]
    items, parts = [], 0
    for n, t in zip(nodes, tokens):
        tiles = n * math.ceil(rows / n * group / 64)
        for k in range(0, t, c):
            items += [min(c, t - k) * 4 * d] * (tiles * hk)
            parts += 1
    extra = rows * hq * 2 * d * (parts + 1) + (rows * hq * parts * partial_bytes(d) if parts > 1 else 0)
    unique = sum(a * b for a, b in zip(nodes, tokens)) * hk * 4 * d
    return seconds(items, extra, unique) + (launches - 1) * LAUNCH_S


def unshared(nodes, tokens, hq, hk, d):
    view, rows = sum(tokens), nodes[-1]
    parts = math.ceil(view / 2048)
    kv = rows * view * hk * 4 * d
    extra = rows * hq * 2 * d * (parts + 1) + (rows * hq * parts * partial_bytes(d) if parts > 1 else 0)
    item_s = min(view, 2048) * 4 * d / SLOT_BPS + ITEM_S
    return max((kv + extra) / DRAM, math.ceil(rows * hk * parts / SLOTS) * item_s)


def main(path):
    for index, s in enumerate(json.load(open(path))["shapes"]):
        nodes, tokens, d = s["nodes_per_level"], s["tokens_per_node"], s["head_dim"]
        for hq, hk in s["heads"][:2]:
            bound = (sum(a * b for a, b in zip(nodes, tokens)) * hk * 4 * d + nodes[-1] * hq * 4 * d) / DRAM
            chunks = (256, 512, 1024, 2048)
            rules = [(c, w) for c in (256, 512, 1024, 2048, 4096) for w in (128, 256, 512, 1024) if w <= c]
            row = [bound, unshared(nodes, tokens, hq, hk, d),
                   min(segment(nodes, tokens, hq, hk, d, c) for c in chunks),
                   min(segment(nodes, tokens, hq, hk, d, c, 2 * len(nodes) - 1) for c in chunks),
                   walk(nodes, tokens, hq, hk, d, 1024, 1024),
                   min(walk(nodes, tokens, hq, hk, d, c, w) for c, w in rules)]
            print(index, hq, hk, *map(repr, row), sep="\t")


main(sys.argv[1])
