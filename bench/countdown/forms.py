"""Training examples of every form, and the endless bucketed stream of batches made of them.

An example is (ids, loss, positions, groups): loss[i] is the weight of token i, 0 where it is not
the model's own to write; groups[i] is 0 on the trunk and 1 + 16 * block + thread inside a thread of
the stitch form.
"""

import random

from game import (draw_numbers, draw_problem, first_moves, held_out, reachable, trace)
from vocab import END, EOS, FORK, GIVEUP, ID, JOIN, NO, OK, THR, TRY, ids

CONTEXT = 1536
BATCH_TOKENS = 1536
BUCKETS = (64, 104, 128, 192, 320, 512, 768, 1024, 1536)
GROUP_STRIDE = 16
MAX_BLOCKS = 3
K_WEIGHTS = {5: 50, 3: 16, 2: 10, 4: 8, 6: 8, 1: 8}
# What a phase draws: shares of training tokens by form, the weight of the trunk's own tokens in the
# long forms, and the weight of a thread's first five tokens (result, target, remaining numbers).
# The second mixed phase answers what the first one got wrong: conclusions that mix two winners, and
# remaining numbers copied wrongly.
CHILDREN = {"shares": {"child": 1.0}, "trunk": 1, "start": 1, "easy": 0.7}
MIXED = {"shares": {"child": 0.34, "seq": 0.20, "apr": 0.09, "tw": 0.12, "thread": 0.05,
                    "mv": 0.20}, "trunk": 1, "start": 1, "easy": 0.5}
FINISH = {"shares": {"child": 0.28, "seq": 0.16, "apr": 0.14, "tw": 0.16, "thread": 0.06,
                     "mv": 0.20}, "trunk": 6, "start": 2, "easy": 0.4}
# The last phase answers what the finished weights still got wrong on 1,000 problems: 5 % of the
# stitch form's answers mixed two winners. Half of its blocks have at least two.
POLISH = {"shares": {"child": 0.14, "seq": 0.10, "apr": 0.10, "tw": 0.20, "thread": 0.04,
                     "mv": 0.42}, "trunk": 6, "start": 2, "easy": 0.4, "rivals": 0.5}
START_TOKENS = 5


class Example:
    """A sequence under construction."""

    def __init__(self):
        self.ids, self.loss, self.pos, self.group = [], [], [], []
        self.next_pos = 0

    def add(self, tokens, own, group=0):
        """own: the loss weight, 0 for text that is not the model's."""
        n = len(tokens)
        self.ids += tokens
        self.loss += [int(own)] * n
        self.pos += range(self.next_pos, self.next_pos + n)
        self.group += [group] * n
        self.next_pos += n

    def cut(self, n):
        return tuple(x[:n] for x in (self.ids, self.loss, self.pos, self.group))


def head(form, k, numbers, target):
    tags = [form] + (["<k%d>" % k] if k else [])
    return ids(tags + ["T%d" % target, *numbers])


def proposal(move):
    return ids(move[:3])


def ending(equations):
    return [OK, *ids(equations)] if equations else [NO]


def draw_k(rng):
    return rng.choices(list(K_WEIGHTS), list(K_WEIGHTS.values()))[0]


def short_hit(rng):
    """A first move and a target drawn from what its trace meets, half of them early."""
    while True:
        numbers = draw_numbers(rng)
        move = rng.choice(first_moves(numbers))
        found = reachable(move)
        if not found:
            continue
        target = rng.choice(found[:8] if rng.random() < 0.6 else found)
        if not held_out(numbers, target):
            return numbers, target, move


def add_thread(ex, tokens, weight, group=0):
    ex.add(tokens[:START_TOKENS], weight, group)
    ex.add(tokens[START_TOKENS:], 1, group)


def child(rng, phase=MIXED):
    ex = Example()
    if rng.random() < phase["easy"]:
        numbers, target, move = short_hit(rng)
    else:
        numbers, target = draw_problem(rng, test=False)
        moves = first_moves(numbers)
        if rng.random() < 0.5:
            moves = [m for m in moves if target in reachable(m)]
        move = rng.choice(moves)
    text, equations = trace(target, move)
    ex.add(head("<sub>", 0, numbers, target) + [THR] + proposal(move), False)
    add_thread(ex, ids(text) + ending(equations) + [END], phase["start"])
    return ex


def sequential(rng, phase=MIXED):
    ex = Example()
    numbers, target = draw_problem(rng, test=False, solvable=rng.random() > 0.02)
    ex.add(head("<seq>", 0, numbers, target), False)
    for move in first_moves(numbers):
        text, equations = trace(target, move)
        ex.add([TRY] + proposal(move), True)
        add_thread(ex, ids(text) + ending(equations), phase["start"])
        if equations:
            break
    else:
        ex.add([GIVEUP], True)
    ex.add([EOS], True)
    return ex


def message_parent(rng, phase=MIXED):
    """Children sometimes miss in training, so that late rounds and giving up are learnt."""
    ex = Example()
    numbers, target = draw_problem(rng, test=False)
    k, moves, miss = draw_k(rng), first_moves(numbers), rng.choice((0, 0, 0.3, 1))
    ex.add(head("<apr>", k, numbers, target), False)
    for at in range(0, len(moves), k):
        group = moves[at:at + k]
        ex.add([t for m in group for t in [TRY] + proposal(m)] + [FORK], True)
        replies = [None if rng.random() < miss else trace(target, m)[1] for m in group]
        winner = next((e for e in replies if e), None)
        if winner and rng.random() < 0.1:
            replies = [e if e is winner else None for e in replies]
        ex.add([t for e in replies for t in ending(e)] + [JOIN], False)
        if winner:
            ex.add(ending(winner) + [EOS], True)
            return ex
    ex.add([GIVEUP, EOS], True)
    return ex


def block_problem(rng, rivals):
    """A problem and k; with rivals, the first block that has a winner has another one as well."""
    while True:
        numbers, target = draw_problem(rng, test=False)
        k, moves = draw_k(rng), first_moves(numbers)
        if not rivals:
            return numbers, target, k
        wins = [[target in reachable(m) for m in moves[at:at + k]]
                for at in range(0, len(moves), k)]
        if sum(next((w for w in wins if any(w)), [])) > 1:
            return numbers, target, k


def blocks(rng, form, phase=MIXED):
    """Re-prefill (`<tw>`) or stitch (`<mv>`): the same text; positions and groups differ."""
    ex = Example()
    numbers, target, k = block_problem(rng, rng.random() < phase.get("rivals", 0))
    moves = first_moves(numbers)
    stitch, drop_losers, trunk = form == "<mv>", rng.random() < 0.1, phase["trunk"]
    ex.add(head(form, k, numbers, target), False)
    for block, at in enumerate(range(0, len(moves), k)):
        if block == MAX_BLOCKS and k >= 4:
            return ex
        group = moves[at:at + k]
        ex.add([t for m in group for t in [TRY] + proposal(m)] + [FORK], trunk)
        traces = [(m, *trace(target, m)) for m in group]
        winner = next((e for _, _, e in traces if e), None)
        if winner and drop_losers:
            traces = [t for t in traces if t[2] is winner]
        start = last = ex.next_pos
        for i, (move, text, equations) in enumerate(traces):
            if stitch:
                ex.next_pos = start
            g = 1 + GROUP_STRIDE * block + i
            ex.add([THR] + proposal(move), False, g)
            add_thread(ex, ids(text) + ending(equations) + [END], phase["start"], g)
            last = max(last, ex.next_pos)
        ex.next_pos = last
        ex.add([JOIN], False)
        if winner:
            ex.add(ending(winner) + [EOS], trunk)
            return ex
    ex.add([GIVEUP, EOS], trunk)
    return ex


def one_thread(rng, phase=MIXED):
    """A re-prefill thread as it runs: trunk, then only its own header and text."""
    ex = Example()
    numbers, target = draw_problem(rng, test=False)
    k, moves = draw_k(rng), first_moves(numbers)
    ex.add(head("<tw>", k, numbers, target), False)
    group = moves[:k]
    ex.add([t for m in group for t in [TRY] + proposal(m)] + [FORK], False)
    move = rng.choice(group)
    text, equations = trace(target, move)
    ex.add([THR] + proposal(move), False)
    add_thread(ex, ids(text) + ending(equations) + [END], phase["start"])
    return ex


MAKERS = {"child": child, "seq": sequential, "apr": message_parent,
          "tw": lambda rng, phase=MIXED: blocks(rng, "<tw>", phase), "thread": one_thread,
          "mv": lambda rng, phase=MIXED: blocks(rng, "<mv>", phase)}


class Stream:
    """Batches by length and mask; `state` and `load` make it resumable in the middle."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.pending, self.spent, self.shares = {}, {}, None

    def state(self):
        return {"rng": self.rng.getstate(), "pending": self.pending, "spent": self.spent,
                "shares": self.shares}

    def load(self, state):
        self.rng.setstate(state["rng"])
        self.pending, self.spent = state["pending"], state["spent"]
        self.shares = state.get("shares")

    def _example(self, phase):
        shares = phase["shares"]
        if self.shares != shares:
            self.shares, self.spent = shares, dict.fromkeys(shares, 0)
        form = min(shares, key=lambda f: self.spent[f] / shares[f])
        ex = MAKERS[form](self.rng, phase)
        self.spent[form] += min(len(ex.ids), CONTEXT)
        return form == "mv", ex

    def batch(self, phase=MIXED):
        """(masked, bucket length, list of examples) for one optimizer step."""
        while True:
            masked, ex = self._example(phase)
            ids_, loss, pos, group = ex.cut(CONTEXT + 1)
            length = next((b for b in BUCKETS if len(ids_) - 1 <= b))
            key = (masked, length)
            pool = self.pending.setdefault(key, [])
            pool.append((ids_, loss, pos, group))
            if len(pool) * length + length > BATCH_TOKENS:
                self.pending[key] = []
                return masked, length, pool
