"""Decisions of join policies on random events (fixtures/rules/policy.txt).

Quorum by ratio: finished >= ratio * n (ParaThinker, LeslieKid/vllm-parathinker@6efff12); first
finisher, race, budgets and deadlines have no one original: their definitions stand in
runtime/reason/rules/policy.h and are computed here over lists, from scratch at every event.
"""
from common import Random, count, main

RULE = 6


def trace(i, counts):
    r = Random(RULE, i)
    budget = 20 + r.below(150) if r.below(3) == 0 else 0
    probes = r.below(2) == 1 and budget > 0
    quorum = 1 + r.below(3) if r.below(2) else 0
    ratio = r.pick([0.1, 0.5, 0.75, 1.0]) if not quorum and r.below(2) else 0.0
    success = r.below(2) == 1 and (quorum > 0 or ratio > 0)
    tokens = 3 + r.below(17) if r.below(3) == 0 else 0
    ns = 5 + r.below(60) if r.below(3) == 0 or not (budget or quorum or ratio or tokens) else 0
    keep = r.below(2)
    branches, line = [], []
    now = r.below(1000)
    begun = {}      # group -> time of the first decision that saw it
    done = set()    # groups whose quorum or time has come
    spent = 0
    for _ in range(30 + r.below(150)):
        now += r.below(3)
        event = r.below(12)
        live = [b for b in branches if b["state"] == "live"]
        reached = None
        if event == 0 and len(branches) < 10 or not branches:
            branches.append({"state": "live", "group": r.below(3), "tokens": 0})
        elif not live:
            continue
        elif event == 1:
            b = live[r.below(len(live))]
            b["state"] = r.pick(["own", "success", "length", "cut"])
            group = [x for x in branches if x["group"] == b["group"]]
            won = [x for x in group if x["state"] == "success" or
                   (x["state"] == "own" and not success)]
            if (quorum and len(won) >= quorum) or (ratio and len(won) >= ratio * len(group)):
                if b["group"] not in done:
                    reached = b["group"]
        elif event == 2:
            said = r.below(4)
            spent += said if probes else 0
        else:
            b = live[r.below(len(live))]
            b["tokens"] += 1
            spent += 1

        def end(which, reason):
            for j, x in enumerate(branches):
                if x["state"] == "live" and which(x):
                    x["state"] = "pruned"
                    line.append("%s%d@%d" % (reason, j, x["tokens"]))
                    count(counts, reason)

        if tokens:
            end(lambda x: x["tokens"] >= tokens, "t")
        if reached is not None:
            done.add(reached)
            end(lambda x: x["group"] == reached, "q")
        order = []
        for x in branches:
            if x["group"] not in order:
                order.append(x["group"])
        for g in order:
            begun.setdefault(g, now)
        if ns:
            for g in order:
                if now - begun[g] >= ns and ("time", g) not in done:
                    done.update([("time", g), g])
                    end(lambda x: x["group"] == g, "d")
        if budget and spent >= budget:
            line.append("B%d" % keep)
            count(counts, "B")
            break
    line.append("spent %d" % sum(x["tokens"] for x in branches))
    return " ".join(line)


if __name__ == "__main__":
    main("policy", trace, {"t": 300, "q": 150, "d": 300, "B": 60})
