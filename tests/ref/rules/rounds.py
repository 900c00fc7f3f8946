"""Random matrices of probe answers, for the rules that compare branches in rounds.

A branch is a list of probe answers, one after each `every` tokens, its length in tokens and its final
answer: what evaluation/data_loader.py of zhengkid/Parallel-Probe@aaa4c72 calls a branch.
"""


def matrix(r):
    n = 1 + r.below(10)
    every = 1 + r.below(4)
    favourite = r.below(4)
    stubborn = 1 + r.below(8)
    long = 4 + r.below(24)
    branches = []
    for _ in range(n):
        length = 1 + r.below(every * long)
        own = favourite if r.below(3) else r.below(4)
        answers = []
        for _ in range((length - 1) // every + 1):
            answers.append(["1", "2", "30", ""][own if r.below(stubborn + 1) else r.below(4)])
        branches.append({"length": length, "probes": answers[:-1], "final": answers[-1]})
    return every, branches


class Run:
    """One branch as the probes see it: an answer at each advance, the final one at the end."""

    def __init__(self, branch, every):
        self.branch, self.every = branch, every
        self.cost = self.index = 0
        self.answer = None
        self.finished = self.pruned = False
        self.off = 0

    def advance(self):
        b = self.branch
        if self.index < len(b["probes"]):
            self.answer = b["probes"][self.index]
            self.index += 1
            self.cost += self.every
        else:
            self.answer = b["final"]
            self.cost += max(0, b["length"] - self.every * self.index)
            self.finished = True
