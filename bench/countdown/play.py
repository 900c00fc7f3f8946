"""The forms as they run: sequential, message join, re-prefill, stitch.  Greedy, batched.

An outcome holds every token in the order of the run, so that another runtime can be compared with
it token by token: `trunk` is a list of [generated, inserted] turns, `threads` a list per block.
"""

import torch

import engine
from forms import head
from game import check, first_moves
from vocab import END, EOS, FORK, JOIN, NO, OK, THR, TRY, words

TRUNK_LIMIT = 128
THREAD_LIMIT = 128
SEQUENTIAL_LIMIT = 2000
HEADS = {"message": "<apr>", "reprefill": "<tw>", "stitch": "<mv>"}
ROUNDS = {"message": 4, "reprefill": 3, "stitch": 3}


def proposals(turn):
    """The id lists that follow each <try> of a turn that ends with <fork>."""
    out = []
    for token in turn[:-1]:
        if token == TRY:
            out.append([])
        elif out:
            out[-1].append(token)
    return out


def reply_of(thread):
    """What a message child returns: from its first <ok> or <no> up to <end>, else <no>."""
    for i, token in enumerate(thread):
        if token in (OK, NO):
            return [t for t in thread[i:] if t not in (END, EOS)]
    return [NO]


def thread_ok(thread):
    """Ends with `<no> <end>`, or with `<ok>`, nine words and `<end>`."""
    return thread[-2:] == [NO, END] or (thread[-1:] == [END] and OK in thread
                                        and len(thread) - thread.index(OK) == 11)


class Run:
    """One problem's outcome while it grows."""

    def __init__(self, numbers, target):
        self.numbers, self.target = numbers, target
        self.turns, self.threads = [], []
        self.generated = self.forced = self.path = 0
        self.well_formed, self.tried, self.refused = True, [], False

    def turn(self, tokens):
        self.turns.append([tokens, []])
        self.generated += len(tokens)
        self.path += len(tokens)

    def insert(self, tokens, on_path):
        self.turns[-1][1].extend(tokens)
        self.forced += len(tokens)
        self.path += on_path

    def block(self, proposed, threads, k):
        legal = [tuple(m[:3]) for m in first_moves(self.numbers)]
        moves = [tuple(words(p)) for p in proposed]
        left = len(legal) - len(self.tried)
        self.well_formed &= (len(moves) == min(k, left) and len(set(moves)) == len(moves)
                             and all(m in legal and m not in self.tried for m in moves)
                             and all(thread_ok(t) for t in threads))
        self.tried += moves
        self.threads.append([[p, t] for p, t in zip(proposed, threads)])
        self.generated += sum(len(t) for t in threads)
        self.forced += sum(1 + len(p) for p in proposed)
        self.path += max((1 + len(p) + len(t) for p, t in zip(proposed, threads)), default=0)

    def outcome(self):
        last = self.turns[-1][0]
        answer = None
        if last[-1:] == [EOS] and OK in last:
            answer = words(last[len(last) - last[::-1].index(OK):-1])
        done = last[-1:] == [EOS]
        return {"turns": self.turns, "threads": self.threads, "answer": answer,
                "claimed": answer is not None,
                "correct": answer is not None and check(self.numbers, self.target, answer),
                "generated": self.generated, "forced": self.forced, "path": self.path,
                "thread_count": sum(len(b) for b in self.threads),
                "blocks": len(self.threads), "finished": done,
                "well_formed": self.well_formed and (done or self.refused)}


def play_sequential(model, problems, limit=SEQUENTIAL_LIMIT):
    prompts = [head("<seq>", 0, n, t) for n, t in problems]
    cache = engine.Cache(model.cfg, len(problems), 512)
    logits = engine.feed_lists(model, cache, prompts)
    texts, live, at = [[] for _ in problems], list(range(len(problems))), 0
    while live and at < limit:
        size = min(128, limit - at)
        cache = cache.take(torch.arange(len(live)), int(cache.length.max()) + size + 8)
        got = engine.generate(model, cache, logits, {EOS}, size)
        for i, tokens in zip(live, got):
            texts[i] += tokens
        at += size
        keep = [j for j, i in enumerate(live) if texts[i][-1] != EOS]
        if keep and at < limit:
            cache = cache.take(torch.tensor(keep))
            # The last token was fed by generate; its logits are asked for again from its own slot.
            cache.length -= 1
            cache.pos -= 1
            logits = engine.feed_lists(model, cache, [[texts[live[j]][-1]] for j in keep])
        live = [live[j] for j in keep]
    outcomes = []
    for (numbers, target), tokens in zip(problems, texts):
        run = Run(numbers, target)
        run.turn(tokens)
        tries = [tuple(words(tokens[i + 1:i + 4])) for i, t in enumerate(tokens) if t == TRY]
        legal = [m[:3] for m in first_moves(numbers)]
        run.well_formed = len(set(tries)) == len(tries) and all(t in legal for t in tries)
        run.refused = len(tokens) == limit
        outcomes.append({**run.outcome(), "tries": len(tries)})
    return outcomes


def message_children(model, runs, proposed):
    """Texts of all children of one round, each in a context of its own."""
    prompts = [head("<sub>", 0, r.numbers, r.target) + [THR] + p
               for r, ps in zip(runs, proposed) for p in ps]
    texts = []
    for i in range(0, len(prompts), 256):
        part = prompts[i:i + 256]
        cache = engine.Cache(model.cfg, len(part), max(map(len, part)) + THREAD_LIMIT + 1)
        logits = engine.feed_lists(model, cache, part)
        texts += engine.generate(model, cache, logits, {END, EOS}, THREAD_LIMIT)
    return texts, None


def forked_children(model, cache, proposed):
    """Threads that continue the trunk's rows, all of them at its next position."""
    rows = torch.tensor([i for i, ps in enumerate(proposed) for _ in ps])
    headers = [[THR] + p for ps in proposed for p in ps]
    slots = int(cache.length.max()) + max(map(len, headers)) + THREAD_LIMIT + 1
    own = cache.take(rows, slots)
    logits = engine.feed_lists(model, own, headers)
    return engine.generate(model, own, logits, {END, EOS}, THREAD_LIMIT), own


def stitch(trunk, own, proposed):
    """Puts the threads' keys behind the trunk's; the next position is 1 + the largest of any."""
    counts = [len(p) for p in proposed]
    start = trunk.length.clone()
    grown = [int(own.length[sum(counts[:i]):sum(counts[:i + 1])].sum()) - c * int(start[i])
             for i, c in enumerate(counts)]
    out = trunk.take(torch.arange(len(proposed)), int(start.max()) + max(grown) + TRUNK_LIMIT + 8)
    at = 0
    for i, count in enumerate(counts):
        for j in range(at, at + count):
            a, b, to = int(start[i]), int(own.length[j]), int(out.length[i])
            for new, old in ((out.k, own.k), (out.v, own.v)):
                new[:, i, to:to + b - a] = old[:, j, a:b]
            out.length[i] += b - a
            out.pos[i] = max(int(out.pos[i]), int(own.pos[j]))
        at += count
    return out


def play_forked(model, form, problems, k, rounds):
    runs = [Run(n, t) for n, t in problems]
    live = list(range(len(runs)))
    prompts = [head(HEADS[form], k, n, t) for n, t in problems]
    cache = engine.Cache(model.cfg, len(runs), max(map(len, prompts)) + TRUNK_LIMIT + 8)
    logits = engine.feed_lists(model, cache, prompts)
    for block in range(rounds + 1):
        turns = engine.generate(model, cache, logits, {FORK, EOS}, TRUNK_LIMIT)
        for i, turn in zip(live, turns):
            runs[i].turn(turn)
        forks = [j for j, t in enumerate(turns) if t[-1] == FORK and proposals(t)]
        if block == rounds:
            for j in forks:
                runs[live[j]].refused = True
        if not forks or block == rounds:
            break
        live = [live[j] for j in forks]
        proposed = [proposals(turns[j]) for j in forks]
        cache = cache.take(torch.tensor(forks))
        if form == "message":
            texts, own = message_children(model, [runs[i] for i in live], proposed)
        else:
            texts, own = forked_children(model, cache, proposed)
        inserts, at = [], 0
        for i, ps in zip(live, proposed):
            mine = texts[at:at + len(ps)]
            at += len(ps)
            runs[i].block(ps, mine, k)
            if form == "message":
                joined = [t for text in mine for t in reply_of(text)] + [JOIN]
                runs[i].insert(joined, len(joined))
            else:
                whole = [t for p, text in zip(ps, mine) for t in [THR] + p + text] + [JOIN]
                joined = whole if form == "reprefill" else [JOIN]
                runs[i].insert([JOIN], 1)
            inserts.append(joined)
        if form == "stitch":
            cache = stitch(cache, own, proposed)
        else:
            room = int(cache.length.max()) + max(map(len, inserts)) + TRUNK_LIMIT + 8
            cache = cache.take(torch.arange(len(live)), room)
        logits = engine.feed_lists(model, cache, inserts)
    return [r.outcome() for r in runs]


def play(model, form, problems, k=5, rounds=None, limit=SEQUENTIAL_LIMIT):
    if form == "seq":
        return play_sequential(model, problems, limit)
    return play_forked(model, form, problems, k, rounds or ROUNDS[form])
