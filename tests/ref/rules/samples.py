"""Answers of controllers that draw samples (fixtures/rules/samples.txt).

Self-consistency (2203.11171): plurality, ties to the answer first given. Best-of-n by mean
log-probability and by the lowest window mean of token confidence. Definitions in
runtime/reason/rules/samples.h; computed here from whole lists.
"""
from common import Random, bits, count, main

RULE = 8


def trace(i, counts):
    r = Random(RULE, i)
    kind = r.below(4)  # sequential, majority, best by mean, best by group confidence
    n = 1 if kind == 0 else 1 + r.below(8)
    window = 1 + r.below(5)
    samples, line = [], []
    for _ in range(n):
        length = r.below(8)
        lp = [-r.below(16) / 8.0 for _ in range(length)]
        conf = [r.below(32) / 8.0 for _ in range(length)]
        answer = r.pick(["", "1", "2", "2", "3"])
        own = r.below(5) != 0  # else it was cut: it claims nothing
        samples.append((lp, conf, answer if own else ""))
    scores = []
    for lp, conf, _ in samples:
        if kind == 2:
            scores.append(sum(lp) / len(lp) if lp else None)
        elif kind == 3 and len(conf) >= window:
            scores.append(min(sum(conf[j:j + window]) / window
                              for j in range(len(conf) - window + 1)))
        elif kind == 3:
            scores.append(sum(conf) / len(conf) if conf else None)
        else:
            scores.append(None)
    line += ["none" if s is None else bits(s + 0.0) for s in scores]
    answers = [a for _, _, a in samples]
    given = [a for a in answers if a]
    if kind < 2:
        best = max(given, key=given.count) if given else None
    else:
        able = [(s, a) for s, a in zip(scores, answers) if a and s is not None]
        best = max(able, key=lambda p: p[0])[1] if able else None
        count(counts, "ties", len(able) - len(set(s for s, _ in able)))
    count(counts, "kind%d" % kind)
    count(counts, "none", best is None)
    line.append("=" + (best or "none"))
    return " ".join(line)


if __name__ == "__main__":
    main("samples", trace, {"kind0": 200, "kind1": 200, "kind2": 200, "kind3": 200, "ties": 40,
                            "none": 50})
