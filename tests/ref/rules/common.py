"""What the fixture scripts share: the generator of random traces, which tests/rules_trace.h has in
C, the hash of a trace's decisions and the files.

A fixture holds one line for each trace: the 64-bit FNV-1a hash of the line of text in which the
script wrote down everything that the rule decided. The C test regenerates the trace from its number,
drives the rule through it, writes its own line and compares the hashes. `<script> --show 17` prints
the line of trace 17, to set beside the one that a failing test prints.
"""
import os
import struct
import sys

TRACES = 1000
MASK = (1 << 64) - 1


class Random:
    """SplitMix64 (Steele, Lea, Flood 2014, figure 16)."""

    def __init__(self, rule, trace):
        self.state = (rule << 32) + trace

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, n):
        return self.next() % n

    def pick(self, items):
        return items[self.below(len(items))]


def bits(value):
    """A double's bits, so that equal means equal."""
    return "%016x" % struct.unpack("<Q", struct.pack("<d", value))[0]


def fnv(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def main(name, trace, coverage):
    """trace(i, counts) gives the line of trace i; coverage: counts that must not be rare."""
    if len(sys.argv) == 3 and sys.argv[1] == "--show":
        print(trace(int(sys.argv[2]), {}))
        return
    counts = {}
    lines = ["%016x" % fnv(trace(i, counts)) for i in range(TRACES)]
    for key, least in coverage.items():
        if counts.get(key, 0) < least:
            sys.exit("%s: %s happened %d times in %d traces, which tests too little" %
                     (name, key, counts.get(key, 0), TRACES))
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "rules",
                        name + ".txt")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as out:
        out.write("\n".join(lines) + "\n")
    print(name, dict(sorted(counts.items())))


def count(counts, key, n=1):
    counts[key] = counts.get(key, 0) + n


def wins(votes):
    """Largest, of equals the first met: Counter.most_common(1) and max over a dict."""
    best = None
    for key in votes:
        if best is None or votes[key] > votes[best]:
            best = key
    return best
