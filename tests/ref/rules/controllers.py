"""Decisions of controllers that run prompts (fixtures/rules/controllers.txt).

Skeleton-of-Thought: imagination-research/sot@54f506f, outline_batch_scheduler.py L71-147, with its
regular expression. Tree of thoughts: princeton-nlp/tree-of-thought-llm@ab40034, src/tot/methods/bfs.py
and scripts/crosswords/search_crosswords-dfs.ipynb. MCTS: UCT as runtime/reason/rules/mcts.h states it
(Kocsis & Szepesvari 2006, Browne et al. 2012). Written from their description as plain recursion;
the model is a draw from a list for each call, in the order of the calls.
"""
import math
import re

from common import Random, count, fnv, main

RULE = 7
OUTLINES = [" Dumplings.\n2. Noodles.\n3. Soup", " A\n2.B\n2. C\n10. D\n", "", "\n\n", " x", "no", " 3",
            " A 2. B\n3.\n4. ", " one\n\n2.\tTwo 22. three\n3.\n\nfour", "1. 1. 1.\n12.5 kg\n5.\n"]
POINTS = [" yes. ", "", "\nlong\ntext\n", "ok"]
STATES = ["a\n", "b\n", "a\n", "c left\n", "x\ny\n", ""]
PROPOSED = ["a\nb", "b\nb\nc", "", "one", "a\n"]
VALUES = ["maybe\nsure", "sure", "likely", "impossible", "so\nlikely", "likely\n", "", "sure\nmaybe"]
VOTES = ["The best choice is 2", "best choice is 12 ok", "none", "best choice is x\nbest choice is 1",
         "best choice is 3 best choice is ", "best choice is 10"]
DFS = ["Abc (certain)\nxyz (low)\nfoo", "abc (low)\nabc (high)", "", "q (medium) w (high)\nr (low)!",
       "(low)", " (low)\nz (certain)"]
STATUS = ["sure\nmaybe", "impossible\nsure", "likely", "maybe\nimpossible ", "likely\nlikely"]
WORDS = [("impossible", 0.001), ("likely", 1), ("sure", 20)]


class Model:
    def __init__(self, r, line):
        self.r, self.line, self.calls = r, line, 0

    def ask(self, prompt, n, replies, partial=""):
        out = []
        for _ in range(n):
            self.calls += 1
            self.line.append("%016x" % fnv(prompt + "|" + partial))
            out.append(self.r.pick(replies))
        return out


def skeleton(r, model, counts):
    limit = 1 + r.below(4) if r.below(2) else 0
    joiner = r.pick(["\n", "\n\n"])
    begin = r.pick([" 1.", ""])
    outline = begin + model.ask("Plan: Why?", 1, OUTLINES, begin)[0]
    points = {}
    for number, text in re.findall(r"(\d+)\.\s?([\s\S]+?)(?=\n|\n*$)", outline):
        if number not in points and not (limit and len(points) == limit):
            points[number] = text
    replies = []
    for number, text in points.items():
        partial = "%s. %s" % (number, text)
        prompt = "Why?/%s/%s/{x}" % (outline, number)
        replies.append(partial + " " + model.ask(prompt, 1, POINTS, partial)[0].strip())
    count(counts, "points", len(points))
    count(counts, "skeleton" if points else "no points")
    return joiner.join(replies)


def last_line(state, x):
    return (state or x).strip().split("\n")[-1]


def bfs(r, model, counts):
    propose = r.below(2) == 1
    vote = r.below(3) == 0
    mended = r.below(2) == 1
    steps, n_generate = 1 + r.below(3), 1 if propose else 1 + r.below(3)
    n_evaluate, n_select = 1 + r.below(3), 1 + r.below(3)
    x, ys, cache, visited = "in\n1 2", [""], {}, 0
    for _ in range(steps):
        new = []
        for y in ys:
            replies = model.ask("G %s %s" % (x, y), n_generate, PROPOSED if propose else STATES)
            for text in replies:
                new += [y + line + "\n" for line in text.split("\n")] if propose else [y + text]
        values = []
        if vote:
            choices = "".join("Choice %d:\n%s\n" % (i + 1, y) for i, y in enumerate(new))
            values = [0] * len(new)
            for text in model.ask("V %s" % choices, n_evaluate, VOTES):
                match = re.match(r".*best choice is .*(\d+).*", text, re.DOTALL)
                if mended and match:
                    match = re.match(r".*best choice is .*?(\d+).*", text, re.DOTALL)
                if match and 1 <= int(match.group(1)) <= len(new):
                    values[int(match.group(1)) - 1] += 1
        else:
            seen = {}
            for y in new:
                if y in seen:
                    values.append(seen[y] if mended else 0)
                    count(counts, "duplicates")
                    continue
                prompt = "E %s" % last_line(y, x)
                if prompt not in cache:
                    ends = [t.split("\n")[-1] for t in model.ask(prompt, n_evaluate, VALUES)]
                    cache[prompt] = sum(v * ends.count(w) for w, v in WORDS)
                seen[y] = cache[prompt]
                values.append(cache[prompt])
        visited += len(new)
        order = sorted(range(len(new)), key=lambda i: values[i], reverse=True)[:n_select]
        ys = [new[i] for i in order]
    count(counts, "bfs")
    model.line.append("visited %d" % visited)
    return ys[0]


def dfs(r, model, counts):
    n_generate, n_evaluate = 1 + r.below(3), 1 + r.below(2)
    n_select, max_visited, max_depth = 1 + r.below(3), 1 + r.below(12), 1 + r.below(4)
    prune = r.below(2) == 1
    weights = {"certain": 1, "high": 0.5, "medium": 0.2, "low": 0.1}
    infos = []

    def search(state, depth):
        scores = {}
        for text in model.ask("P %s" % state, n_generate, DFS):
            for line in text.split("\n"):
                match = re.match(r"^(.+?) \((certain|high|medium|low)\).*$", line)
                if match:
                    key = match.group(1).lower()
                    scores[key] = scores.get(key, 0) + weights[match.group(2)]
        tried = 0
        for action in sorted(scores, key=scores.get, reverse=True):
            if len(infos) < max_visited and depth + 1 < max_depth:
                tried += 1
                if tried > n_select:
                    break
                child = state + action + "\n"
                lines = []
                for text in model.ask("S %s" % child, n_evaluate, STATUS):
                    lines += text.split("\n")
                worth = 0.0
                for w in lines:
                    worth += dict(WORDS).get(w, 0)
                infos.append((worth, child))
                if not prune or lines.count("impossible") < 1:
                    search(child, depth + 1)
                else:
                    count(counts, "pruned")

    search("", 0)
    count(counts, "dfs" if infos else "dfs nothing")
    model.line.append("visited %d" % len(infos))
    return max(infos, key=lambda i: i[0])[1] if infos else None


class Node:
    def __init__(self, text, depth, parent):
        self.text, self.depth, self.parent = text, depth, parent
        self.children, self.n, self.q = [], 0, 0.0
        self.expanded, self.worth = False, None


def mcts(r, model, counts):
    iterations, n_expand = 1 + r.below(20), 1 + r.below(3)
    n_evaluate, max_depth = 1 + r.below(2), 1 + r.below(3)
    c = r.pick([1.4142135623730951, 0.5, 0.0])
    root = Node("", 0, None)
    for _ in range(iterations):
        node = root
        while node.children:
            fresh = [k for k in node.children if k.n == 0]
            node = fresh[0] if fresh else max(
                node.children, key=lambda k: k.q / k.n + c * math.sqrt(math.log(node.n) / k.n))
        if not node.expanded and node.depth < max_depth and (node.n > 0 or node is root):
            node.expanded = True
            for text in model.ask("G %s" % node.text, n_expand, STATES):
                if text and all(k.text != node.text + text for k in node.children):
                    node.children.append(Node(node.text + text, node.depth + 1, node))
            if node.children:
                node = node.children[0]
        if node.worth is None:
            worth = 0.0
            for text in model.ask("E %s" % node.text, n_evaluate, VALUES):
                worth += {"likely": 0.5, "sure": 1.0}.get(text.split("\n")[-1], 0)
            node.worth = worth / n_evaluate
        worth = node.worth
        while node:
            node.n += 1
            node.q += worth
            node = node.parent
    count(counts, "mcts" if root.children else "mcts nothing")
    if not root.children:
        return None
    node = root
    while node.children:
        best = max(node.children, key=lambda k: k.n)
        if best.n == 0:
            break
        node = best
    return node.text


def trace(i, counts):
    r = Random(RULE, i)
    line = []
    model = Model(r, line)
    answer = [skeleton, bfs, dfs, mcts][r.below(4)](r, model, counts)
    line.append("calls %d =%s" % (model.calls, "none" if answer is None else answer))
    return " ".join(line)


if __name__ == "__main__":
    main("controllers", trace, {"skeleton": 100, "no points": 15, "bfs": 150, "dfs": 100,
                                "dfs nothing": 20, "mcts": 150, "duplicates": 50, "pruned": 40})
