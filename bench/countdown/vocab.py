"""Tokens, their ids, and how an ordinary byte-level BPE tokenizer reaches them.

Base symbols are the few bytes that numbers and operators need; " 14" is one token reached through
the merges (Ġ,1) and (Ġ1,4).  Tags, k and targets are special tokens.  Text with any other byte
has no encoding: that is an error.
"""

import re

SPACE = "\u0120"  # the byte-level alphabet's symbol for a space
DIGITS = "0123456789"
SIGNS = "+-*/."
TAGS = ["<eos>", "<seq>", "<apr>", "<sub>", "<tw>", "<mv>", "<try>", "<fork>", "<thr>", "<end>",
        "<join>", "<no>", "<ok>", "<giveup>"]
MAX_K = 6
KS = ["<k%d>" % k for k in range(1, MAX_K + 1)]
TARGETS = ["T%d" % t for t in range(10, 100)]
VOCAB_SIZE = 240


class EncodeError(ValueError):
    """Text that the vocabulary cannot express."""


def build():
    """(token texts in byte-level symbols, merges, index of the first special token)."""
    tokens = [SPACE, *DIGITS, *SIGNS]
    merges = []
    for sign in SIGNS:
        merges.append((SPACE, sign))
        tokens.append(SPACE + sign)
    for n in range(1, 101):
        text = SPACE + str(n)
        merges.append((text[:-1], text[-1]))
        tokens.append(text)
    first_special = len(tokens)
    tokens += TAGS + KS + TARGETS
    tokens += ["<unused%d>" % i for i in range(VOCAB_SIZE - len(tokens))]
    return tokens, merges, first_special


TOKENS, MERGES, FIRST_SPECIAL = build()
BYTE_ID = {t: i for i, t in enumerate(TOKENS)}
# The generator writes tokens as numbers, signs and tags; this maps each to its id.
ID = {t: i for i, t in enumerate(TOKENS) if i >= FIRST_SPECIAL}
ID.update({s: BYTE_ID[SPACE + s] for s in SIGNS})
ID.update({n: BYTE_ID[SPACE + str(n)] for n in range(1, 101)})
WORD = {i: w for w, i in ID.items()}
EOS, END, FORK, JOIN = ID["<eos>"], ID["<end>"], ID["<fork>"], ID["<join>"]
TRY, THR, OK, NO, GIVEUP = ID["<try>"], ID["<thr>"], ID["<ok>"], ID["<no>"], ID["<giveup>"]

_SPECIAL = re.compile("|".join(re.escape(t) for t in TAGS + KS + TARGETS))
_PIECE = re.compile(r" ?[0-9]+| ?[^\s0-9A-Za-z]+|\s+|[A-Za-z]+")


def ids(words):
    return [ID[w] for w in words]


def words(token_ids):
    return [WORD.get(i, TOKENS[i]) for i in token_ids]


def decode(token_ids):
    return "".join(TOKENS[i] for i in token_ids).replace(SPACE, " ")


def _encode_piece(piece):
    symbols = [SPACE if c == " " else c for c in piece]
    for s in symbols:
        if s not in BYTE_ID:
            raise EncodeError("cannot encode %r: no token for %r" % (piece, s))
    rank = {m: i for i, m in enumerate(MERGES)}
    while True:
        pairs = [(rank.get(p, len(rank)), i) for i, p in enumerate(zip(symbols, symbols[1:]))]
        best = min(pairs, default=(len(rank), 0))
        if best[0] == len(rank):
            return [BYTE_ID[s] for s in symbols]
        symbols[best[1]:best[1] + 2] = ["".join(symbols[best[1]:best[1] + 2])]


def encode(text):
    """What an ordinary GPT-2 style tokenizer does with this vocabulary; raises EncodeError."""
    out, at = [], 0
    for match in [*_SPECIAL.finditer(text), None]:
        plain = text[at:match.start() if match else len(text)]
        for piece in _PIECE.findall(plain):
            out += _encode_piece(piece)
        if match:
            out.append(BYTE_ID[match.group()])
            at = match.end()
    return out
