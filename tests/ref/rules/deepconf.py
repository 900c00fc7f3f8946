"""Decisions of DeepConf on random traces (fixtures/rules/deepconf.txt).

Formulas of facebookresearch/deepconf@675529d, deepconf/utils.py L41-330, wrapper.py L172-263 and
processors.py L20-55, as arithmetic: means and percentiles as numpy computes them (pairwise sums in
eight parts, linear interpolation from the nearer side, rint(x * 1000) / 1000), written out here so
that no numpy is needed. The original's own code is not used.
"""
from common import Random, bits, count, main, wins

RULE = 1
VOTES = ["majority", "weighted", "mean", "tail", "bottom_window", "min_window",
         "top10_tail_filtered", "top10_bottom_window_filtered"]


def rint(x):
    return float(round(x))  # half to even, as C's


def round3(x):
    return rint(x * 1000) / 1000


def npsum(v):
    n = len(v)
    if n < 8:
        s = 0.0
        for x in v:
            s += x
        return s
    if n > 128:
        half = n // 2
        half -= half % 8
        return npsum(v[:half]) + npsum(v[half:])
    p = v[:8]
    full = n - n % 8
    for i in range(8, full, 8):
        p = [a + b for a, b in zip(p, v[i:i + 8])]
    s = ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7]))
    for x in v[full:]:
        s += x
    return s


def mean(v):
    return npsum(v) / len(v)


def percentile(v, q):
    v = sorted(v)
    at = (len(v) - 1) * (q / 100)
    lo = int(at)
    if lo + 1 >= len(v):
        return v[-1]
    t = at - lo
    if t >= 0.5:
        return v[lo + 1] - (v[lo + 1] - v[lo]) * (1 - t)
    return v[lo] + (v[lo + 1] - v[lo]) * t


def grouped(confs, w):
    """The lowest window mean, every window added up afresh."""
    if not confs:
        return 0.0
    if len(confs) < w:
        s = 0.0
        for x in confs:
            s += x
        return s / len(confs)
    lowest = None
    for i in range(len(confs) - w + 1):
        s = 0.0
        for x in confs[i:i + w]:
            s += x
        m = round3(s / w)
        lowest = m if lowest is None else min(lowest, m)
    return lowest


def trace_score(kind, confs, w):
    if not confs:
        return 0.0
    if kind == "mean":
        return mean(confs)
    if kind == "tail":
        return mean(confs[-w:] if len(confs) > w else confs)
    if len(confs) < w:
        return mean(confs)
    s = 0.0
    for x in confs[:w]:
        s += x
    means = [s / w]
    for i in range(1, len(confs) - w + 1):
        s = s - confs[i - 1] + confs[i + w - 1]
        means.append(s / w)
    k = max(1, int(len(means) * 0.1))
    if kind == "min_window" or k == 1:
        return min(means)
    return mean(sorted(means)[:k])


class Branch:
    def __init__(self, r, n_top):
        self.length = r.below(60)
        self.answer = r.pick(["", "7", "7", "12", "x"])
        level = r.below(24)
        flat = r.below(4) == 0  # every confidence one half: means that equal the threshold
        self.tokens = []
        for _ in range(self.length):
            at = -r.below(8 + level) / 64.0
            top = []
            for _ in range(n_top):
                top.append(at)
                at -= r.below(4 + level) / 64.0
            outside = r.below(4) == 0
            chosen = at - r.below(64) / 64.0 if outside else top[r.below(n_top)]
            if flat:
                top, outside = [-0.5] * n_top, False
            self.tokens.append((top, outside, chosen))
        self.said = 0
        self.state = "live"
        self.live, self.logged = [], []
        self.live_sum = 0.0

    def say(self, w):
        top, outside, chosen = self.tokens[self.said]
        self.said += 1
        entry = top + [chosen] if outside else top
        self.logged.append(round3(-mean(entry)))
        s = 0.0
        for x in top:
            s += x
        value = -s / len(top)
        if len(self.live) == w:
            self.live_sum -= self.live.pop(0)
        self.live.append(value)
        self.live_sum += value


def trace(i, counts):
    r = Random(RULE, i)
    online = r.below(5) != 0
    w = 1 + r.below(12)
    warmup = 1 + r.below(6)
    n = warmup + r.below(8)
    keep = r.pick([90, 10, 50, 75, 33])
    vote = VOTES[r.below(8)]
    consensus = r.pick([0, 0, 0.95, 0.6])
    n_top = 5 if r.below(4) == 0 else 20
    branches = [Branch(r, n_top) for _ in range(n)]
    line = []
    threshold = None
    stopped = False

    def conf(b):
        return grouped(b.logged, w)

    def voters():
        return [b for b in branches if b.state == "ended" and b.answer and
                (not online or not conf(b) < threshold)]

    def tally(kind):
        chosen = voters()
        if kind == "majority":
            weights = [1.0] * len(chosen)
        elif kind == "weighted":
            weights = [conf(b) for b in chosen]
        else:
            base = {"top10_tail_filtered": "tail", "top10_bottom_window_filtered": "bottom_window"}
            weights = [trace_score(base.get(kind, kind), b.logged, w) for b in chosen]
            if kind in base and chosen:
                least = percentile(weights, (1 - 0.1) * 100)
                kept = [(b, x) for b, x in zip(chosen, weights) if x >= least]
                chosen, weights = [b for b, _ in kept], [x for _, x in kept]
            if not any(x > 0 for x in weights):
                return {}
        votes = {}
        for b, x in zip(chosen, weights):
            votes[b.answer] = votes.get(b.answer, 0.0) + x
        return votes

    def agreed():
        if not consensus:
            return False
        votes = tally("weighted")
        best = wins(votes)
        total = 0.0
        for x in votes.values():
            total += x
        return best is not None and votes[best] >= consensus * total

    def after_end():
        nonlocal stopped
        if agreed():
            stopped = True
            count(counts, "consensus")
            line.append("S")
            for b in branches:
                if b.state == "live":
                    b.state = "pruned"

    def run(first, last, live):
        nonlocal threshold
        ends_left = last - first
        while any(b.state == "live" for b in branches[first:last]) and not stopped:
            for j in range(first, last):
                b = branches[j]
                if b.state != "live":
                    continue
                if b.said < b.length:
                    b.say(w)
                    if (live and b.said < b.length and len(b.live) == w and
                            b.live_sum / w < threshold):
                        b.state = "pruned"
                        line.append("p%d@%d" % (j, b.said))
                        count(counts, "pruned")
                        continue
                if b.said == b.length:
                    b.state = "ended"
                    ends_left -= 1
                    if not live and online and ends_left == 0:
                        threshold = percentile([conf(x) for x in branches[:warmup]], 100 - keep)
                        line.append("t" + bits(threshold))
                    if threshold is not None or not online:
                        after_end()
                        if stopped:
                            break

    opened = branches
    if online:
        run(0, warmup, False)
        if stopped:
            opened = branches[:warmup]
        else:
            run(warmup, n, True)
    else:
        run(0, n, False)
    for b in opened:
        line.append("%s%d:%s" % (b.state[0], b.said, bits(conf(b))))
        line += [bits(trace_score(kind, b.logged, w)) for kind in VOTES[2:6]]
    votes = tally(vote)
    best = wins(votes)
    if best is None:
        count(counts, "no answer")
    count(counts, vote)
    count(counts, "excluded", sum(1 for b in branches if online and threshold is not None and
                                  b.state == "ended" and conf(b) < threshold))
    line.append("=" + (best if best is not None else "none"))
    return " ".join(line)


if __name__ == "__main__":
    main("deepconf", trace, dict({v: 60 for v in VOTES}, pruned=500, consensus=50, excluded=200))
