"""Parallel-Probe's published row from the recorded probes of its repository.

  parallel_probe_published.py evaluation/Qwen3-8B-128/aime24.json ..

100 repetitions: each shuffles the recorded branches with its own number and takes 64; the means of
accuracy (%), tokens and sequential tokens are printed. A file takes a few minutes.
"""
import json
import random
import sys

from parallel_probe import published
from rounds import Run


class Silent(list):
    def append(self, item):
        pass


for path in sys.argv[1:]:
    questions = json.load(open(path))
    right = tokens = longest = n = 0
    for seed in range(100):
        for question in questions:
            branches = list(question["each_branch"])
            random.Random(seed).shuffle(branches)
            runs = [Run({"probes": b[0], "length": b[1], "final": b[2]}, question["probe_freq"])
                    for b in branches[:64]]
            winner, _ = published(runs, 40, 7, 15, 100, Silent())
            right += winner == question["gold_answer"]
            tokens += sum(x.cost for x in runs)
            longest += max(x.cost for x in runs)
            n += 1
    print(path, round(100 * right / n, 2), round(tokens / n), round(longest / n))
