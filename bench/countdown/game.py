"""The Countdown game: rules, search traces, problems, the exact checker.

Four numbers of 1..20, a target of 10..99.  Three operations use every number exactly once and end
at the target; every intermediate result lies in 1..100, differences are positive, divisions exact.
x / 1 does not count as an operation of its own (it equals x * 1).

A first move takes one pair of the four numbers.  A trace explores one first move completely, in a
fixed order, and stops at the first hit.  Traces are lists of text tokens, see vocab.py.
"""

import hashlib
import itertools
import random

MAX_NUMBER = 20
MAX_RESULT = 100
TARGET_MIN, TARGET_MAX = 10, 99
OPERATORS = "+-*/"
HELD_OUT_ONE_IN = 16
# A problem counts as hard when at most this share of its first moves leads to a solution.
HARD_SHARE = 0.25


class ProblemError(ValueError):
    """A problem with a wrong field or impossible numbers."""


def results(a, b):
    """The results of + - * / for one pair; 0 where the operation is not allowed."""
    u, v = (a, b) if a >= b else (b, a)
    quotient = u // v if v > 1 and u % v == 0 else 0
    return [r if r <= MAX_RESULT else 0 for r in (u + v, u - v, u * v, quotient)]


def first_moves(numbers):
    """Distinct first moves in canonical order: [(a, operator, b, result, remaining three)]."""
    moves, seen = [], set()
    for i, j in itertools.combinations(range(4), 2):
        a, b = numbers[i], numbers[j]
        for operator, result in zip(OPERATORS, results(a, b)):
            if not result or (a, operator, b) in seen:
                continue
            seen.add((a, operator, b))
            rest = [numbers[k] for k in range(4) if k not in (i, j)]
            moves.append((a, operator, b, result, tuple(sorted(rest + [result], reverse=True))))
    return moves


def trace(target, move, skip_hits=False):
    """What a thread writes after its move: (text tokens, equations or None)."""
    a, operator, b, result, rest = move
    out = [result, "T%d" % target, *rest]
    for i, j, k in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
        p, q, d = rest[i], rest[j], rest[k]
        out += [p, q]
        for second, x in zip(OPERATORS, results(p, q)):
            if not x:
                out += [second, "."]
                continue
            out += [second, x, d]
            for third, r in zip(OPERATORS, results(x, d)):
                out.append(r or ".")
                if r == target and not skip_hits:
                    last = [max(x, d), third, min(x, d)]
                    return out, [a, operator, b, p, second, q, *last]
    return out, None


def reachable(move):
    """Targets that a first move can reach, in the order in which its trace meets them."""
    rest, found = move[4], []
    for i, j, k in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
        for x in results(rest[i], rest[j]):
            if x:
                found += [r for r in results(x, rest[k]) if TARGET_MIN <= r <= TARGET_MAX]
    return found


def held_out(numbers, target):
    """Whether a problem belongs to the test side; decided by a hash, so both sides agree."""
    key = "%d|%s" % (target, " ".join(str(n) for n in sorted(numbers, reverse=True)))
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:4], "little") % HELD_OUT_ONE_IN == 0


def draw_numbers(rng):
    return tuple(sorted((int(rng.random() * MAX_NUMBER) + 1 for _ in range(4)), reverse=True))


def draw_problem(rng, test, solvable=True):
    """A random problem of one side: (numbers, target).  Solvable ones are hard ones."""
    while True:
        numbers = draw_numbers(rng)
        moves = first_moves(numbers)
        sets = [set(reachable(m)) for m in moves]
        target = rng.randint(TARGET_MIN, TARGET_MAX)
        hits = sum(target in s for s in sets)
        if (hits > 0) != solvable or hits > HARD_SHARE * len(moves):
            continue
        if held_out(numbers, target) == test:
            return numbers, target


def prompt_of(numbers, target):
    return "T%d %s" % (target, " ".join(str(n) for n in numbers))


def test_problems(count, seed):
    """The held-out problem set, without repeats, as {id, prompt, answer} records."""
    rng, seen, records = random.Random(seed), set(), []
    while len(records) < count:
        numbers, target = draw_problem(rng, test=True)
        if (numbers, target) in seen:
            continue
        seen.add((numbers, target))
        equations = next(e for m in first_moves(numbers) for _, e in [trace(target, m)] if e)
        records.append({"id": "countdown-%04d" % len(records),
                        "prompt": prompt_of(numbers, target),
                        "answer": " ".join(str(t) for t in equations)})
    return records


def parse_prompt(prompt):
    """(numbers, target) of a prompt; a named error for anything that is not a problem."""
    words = prompt.split(" ")
    if len(words) != 5 or not words[0].startswith("T"):
        raise ProblemError("prompt %r: expected 'T<target> <n> <n> <n> <n>'" % prompt)
    try:
        target, numbers = int(words[0][1:]), tuple(int(w) for w in words[1:])
    except ValueError:
        raise ProblemError("prompt %r: not a number" % prompt) from None
    if not TARGET_MIN <= target <= TARGET_MAX:
        raise ProblemError("prompt %r: target outside %d..%d" % (prompt, TARGET_MIN, TARGET_MAX))
    if any(not 1 <= n <= MAX_NUMBER for n in numbers):
        raise ProblemError("prompt %r: a number outside 1..%d" % (prompt, MAX_NUMBER))
    if list(numbers) != sorted(numbers, reverse=True):
        raise ProblemError("prompt %r: numbers must stand in descending order" % prompt)
    return numbers, target


def check(numbers, target, answer):
    """Exact check of an answer's nine words: three equations, each number used exactly once."""
    if len(answer) != 9:
        return False
    pool = list(numbers)
    for i in range(0, 9, 3):
        left, operator, right = answer[i:i + 3]
        if not (str(left).isdigit() and str(right).isdigit() and str(operator) in OPERATORS):
            return False
        left, right = int(left), int(right)
        for n in (left, right):
            if n not in pool:
                return False
            pool.remove(n)
        if operator == "/":
            if right == 0 or left % right:
                return False
            pool.append(left // right)
        else:
            pool.append({"+": left + right, "-": left - right, "*": left * right}[operator])
    return pool == [target]
