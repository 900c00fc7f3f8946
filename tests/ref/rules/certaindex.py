"""Decisions of Certaindex over several paths (fixtures/rules/certaindex.txt).

hao-ai-lab/Dynasor@0d2f1b9, dynasor/core/entropy.py: item_entropy (L8-33) and majority_voting; the
normalised index 1 - H / log n is the paper's (2412.20993). Written from their description.
"""
import math

from common import Random, count, main
from rounds import Run, matrix

RULE = 4


def entropy(answers):
    counts = {}
    for a in answers:
        counts[a] = counts.get(a, 0) + 1
    h = 0.0
    for c in counts.values():
        p = c / len(answers)
        h += -p * math.log(p, 2)
    return h


def majority(answers, same):
    classes, weights, most, shown = [], [], 0, None
    for a in answers:
        for i, c in enumerate(classes):
            if same(a, c):
                weights[i] += 1
                if weights[i] > most:
                    most, shown = weights[i], a
                break
        else:
            classes.append(a)
            weights.append(1)
            if most == 0:
                most, shown = 1, a
    return shown


def trace(i, counts):
    r = Random(RULE, i)
    every, branches = matrix(r)
    normalised = r.below(2) == 1
    threshold = r.pick([1.0, 0.5, 0.25, 0.8] if normalised else [0.0, 1.0, 1.5, 0.3])
    loose = r.below(2) == 1
    runs = [Run(b, every) for b in branches]
    line = []

    def same(x, y):
        return abs(len(x) - len(y)) <= 1 if loose else x == y

    while True:
        for x in runs:
            if not x.finished:
                x.advance()
        answers = [x.answer for x in runs]
        value = entropy(answers)
        if normalised:
            value = 1.0 if len(answers) == 1 else 1 - value / math.log(len(answers), 2)
        line.append("%.9f" % abs(value))
        certain = value >= threshold if normalised else value <= threshold
        if certain or all(x.finished for x in runs):
            why = "certain" if certain else "done"
            count(counts, why + str(int(normalised)))
            if majority(answers, same) != max(answers, key=answers.count):
                count(counts, "other winner")
            line.append("%s=%s cost %d" % (why, majority(answers, same), sum(x.cost for x in runs)))
            return " ".join(line)


if __name__ == "__main__":
    main("certaindex", trace, {"certain0": 100, "certain1": 100, "done0": 20, "done1": 20,
                               "other winner": 50})
