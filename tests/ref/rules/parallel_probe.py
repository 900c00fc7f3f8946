"""Decisions of Parallel-Probe on random matrices (fixtures/rules/parallel_probe.txt).

zhengkid/Parallel-Probe@aaa4c72, evaluation/method.py: the class of the published row
(ParallelESTPruningBurstMajorityOnActiveBranches, L632-762) and ParallelESTPruning (L457-543), written
from their description. The same loops, run over the repository's own recorded probes, give the
published rows (81.47 / 730781 / 20324 for AIME24 and so on).
"""
from collections import Counter

from common import Random, count, main
from rounds import Run, matrix

RULE = 3


def common(answers):
    return Counter(answers).most_common(1)[0][0]


def published(runs, patience, prune_patience, warmup, max_steps, line):
    stable, prev, step = 0, None, 0
    for x in runs:
        x.advance()
    while step < max_steps:
        for x in runs:
            if not x.pruned and not x.finished:
                x.advance()
        live = [x for x in runs if not x.pruned]
        if not live:
            break
        winner = common([x.answer for x in live])
        if step >= warmup and len(live) > 1:
            for x in live:
                if x.finished:
                    continue
                x.off = x.off + 1 if x.answer != winner else 0
                if x.off >= prune_patience:
                    x.pruned = True
                    line.append("p%d@%d" % (runs.index(x), x.cost))
            live = [x for x in live if not x.pruned]
            if not live:
                break
            winner = common([x.answer for x in live])
        stable = stable + 1 if winner == prev else 0
        prev = winner
        if stable >= patience:
            return winner, "consensus"
        if all(x.finished or x.pruned for x in runs):
            return prev, "done"
        step += 1
    return prev, "done" if all(x.finished or x.pruned for x in runs) else "steps"


def voting(runs, patience, prune_patience, warmup, max_steps, line):
    stable, prev, step = 0, None, 0
    for x in runs:
        x.advance()
    while step < max_steps:
        for x in runs:
            if not x.finished:
                x.advance()
        alive = sum(not x.finished for x in runs)
        winner = common([x.answer for x in runs])
        if step >= warmup and alive > 1:
            for i, x in enumerate(runs):
                if x.finished:
                    continue
                x.off = x.off + 1 if x.answer != winner else 0
                if x.off >= prune_patience:
                    x.finished = x.pruned = True
                    line.append("p%d@%d" % (i, x.cost))
        stable = stable + 1 if winner == prev else 0
        prev = winner
        if stable >= patience:
            return winner, "consensus"
        if all(x.finished for x in runs):
            return prev, "done"
        step += 1
    return prev, "steps"


def trace(i, counts):
    r = Random(RULE, i)
    every, branches = matrix(r)
    patience, prune_patience = 1 + r.below(10), 1 + r.below(4)
    max_steps = 2 + r.below(24)
    warmup = r.below(max_steps) // 3
    kept = r.below(2)
    runs = [Run(b, every) for b in branches]
    line = []
    rule = voting if kept else published
    winner, why = rule(runs, patience, prune_patience, warmup, max_steps, line)
    count(counts, "pruned%d" % kept, len(line))
    count(counts, why)
    line.append("%s=%s cost %d longest %d" % (why, "none" if winner is None else winner,
                                              sum(x.cost for x in runs),
                                              max(x.cost for x in runs)))
    return " ".join(line)


if __name__ == "__main__":
    main("parallel_probe", trace, {"pruned0": 200, "pruned1": 200, "consensus": 200, "done": 100,
                                   "steps": 100})
