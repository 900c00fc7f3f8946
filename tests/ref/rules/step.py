"""Decisions of STEP on random events (fixtures/rules/step.txt).

Supercomputing-System-AI-Lab/STEP@8ef9d1e: scores and their mean (vllm/v1/hiddenstate/classifier.py,
v1/engine/core.py L346-400), the order of running requests and the victim
(v1/core/sched/scheduler.py L232, L303-308, L740-792), the vote (STEP/tests/benchmark_eval.py
L146-184), written from their description. Weights and states are multiples of 1/4, so that f32 is
exact whatever the order of its sums; scores are compared to nine decimals.
"""
import math

from common import Random, count, main, wins

RULE = 5
H, INNER = 4, 3
TEXTS = ["a", "a", "\n\n", "x\n\ny", "\n", " \n\n"]


def quarter(r, n):
    return (r.below(2 * n + 1) - n) / 4.0


def trace(i, counts):
    r = Random(RULE, i)
    first = [[quarter(r, 6) for _ in range(H)] for _ in range(INNER)]
    first_bias = [quarter(r, 4) for _ in range(INNER)]
    last = [quarter(r, 6) for _ in range(INNER)]
    last_bias = quarter(r, 4)
    states = [[quarter(r, 8) for _ in range(H)] for _ in range(5)]
    pruned_votes = r.below(2) == 1

    def score(h):
        logit = last_bias
        for row, bias, w in zip(first, first_bias, last):
            logit += w * max(0.0, sum(a * b for a, b in zip(row, h)) + bias)
        return 1 / (1 + math.exp(-logit))

    branches = []  # in order of arrival
    line = []
    for _ in range(20 + r.below(120)):
        event = r.below(10)
        live = [b for b in branches if b["state"] == "live"]
        if event == 0 and len(branches) < 8 or not branches:
            branches.append({"state": "live", "scores": [], "wants": False, "answer": "",
                             "id": len(branches)})
        elif event == 1:  # the pool is full
            if not live:
                line.append("v-")
                continue

            def key(b):
                mean = sum(b["scores"]) / len(b["scores"]) if b["scores"] else 0.0
                return (-mean, b["id"])

            victim = sorted(live, key=key)[-1]
            count(counts, "fresh" if not victim["scores"] else "scored")
            if len([b for b in live if key(b)[0] == key(victim)[0]]) > 1 and victim["scores"]:
                count(counts, "tie")
            victim["state"] = "pruned"
            line.append("v%d" % victim["id"])
            victim["answer"] = r.pick(["", "1", "2"])
        elif live:
            b = live[r.below(len(live))]
            if event == 2 and r.below(3) == 0:
                b["state"] = "ended"
                b["answer"] = r.pick(["", "1", "2", "2"])
                continue
            if b["wants"]:
                b["scores"].append(score(states[r.below(5)]))
                count(counts, "scores")
            b["wants"] = "\n\n" in r.pick(TEXTS)
    votes = {}
    for b in branches:
        mean = sum(b["scores"]) / len(b["scores"]) if b["scores"] else None
        line.append("none" if mean is None else "%.9f" % mean)
        if b["state"] == "live" or mean is None or not b["answer"]:
            continue
        if b["state"] == "pruned" and not pruned_votes:
            continue
        votes[b["answer"]] = votes.get(b["answer"], 0.0) + mean
    best = wins(votes)
    count(counts, "answer" if best else "no answer")
    line.append("=" + (best or "none"))
    return " ".join(line)


if __name__ == "__main__":
    main("step", trace, {"fresh": 500, "scored": 500, "tie": 20, "answer": 300, "no answer": 50})
