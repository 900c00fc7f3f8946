"""Decisions of Dynasor's two programs on random traces (fixtures/rules/dynasor.txt).

Client: hao-ai-lab/Dynasor@0d2f1b9, dynasor/core/cot.py openai_chat_completion_stream. Server:
cli/vllm_server.py with core/entropy.py L117-149. Written from their description as loops over
chunks; the C rule is driven token by token. Equality of answers is text, or in half the traces a
relation that is not transitive (lengths that differ by at most one), so that comparing with the
first of a class shows.
"""
from common import Random, count, main

RULE = 2
WORDS = ["wait", "hold", "but", "okay", "no", "hmm"]
SUFFIX = "... Oh, I suddenly got the answer to the whole problem, **Final Answer**\n\n\\[ \\boxed{"
PIECES = ["a", " b", "</think>", "</th", "ink>", "<", "\n", ""]
PROBES = ["7}", "7}", "7}", "7}", "7}. I know", "77} \\]", "{7}}", "x{y}z} Wait", "", "}", "7 } BUT", "777}",
          "open {7", "8}", "HOLDing}"]
PRESETS = [(8, 64), (5, 64), (3, 64), (2, 64), (2, 32)]


def box(s):
    depth = 0
    for i, c in enumerate(s):
        if c == "{":
            depth += 1
        elif c == "}":
            if depth == 0:
                return s[:i]
            depth -= 1
    return ""


def certain(s):
    return all(word not in s.lower() for word in WORDS)


def one_class(answers, same):
    classes = []
    for a in answers:
        if not any(same(a, c) for c in classes):
            classes.append(a)
    return len(classes) == 1


def client(b, k, chunk, limit, same):
    answers, texts = [], []
    asked = 0
    text = ""
    for start in range(0, limit, chunk):
        probe = b["probes"][asked]
        asked += 1
        ends = [j for j in range(start, start + chunk) if b["ends"][j]]
        if ends:  # the model's end, in this chunk: the probe is not used
            return "e@%d" % (ends[0] + 1), asked
        done = start + chunk
        text += "".join(b["tokens"][start:done])
        answers.append(box(probe))
        texts.append(probe)
        last = answers[-k:]
        if (one_class(last, same) and sum(a != "" for a in last) == k and
                sum(certain(t) for t in texts[-k:]) == k):
            closing = "\n\n..." if "</think>" in text else "\n\n...</think>\n"
            closing += (" Oh, I have got the answer to the whole problem\n**Final Answer:**\n\\[\n "
                        "\\boxed{" + answers[-1] + "}\n\\]")
            return "F@%d:%s" % (done, closing), asked
    return "l@%d" % limit, asked


def server(b, k, chunk, limit, same, mended):
    answers, sure = [], []
    asked = 0
    done = 0
    while done < limit:
        for _ in range(min(chunk, limit - done)):
            done += 1
            if b["ends"][done - 1]:
                break  # the request is over; the original asks for more all the same
        if mended and b["ends"][done - 1]:
            return "e@%d" % done, asked
        probe = b["probes"][asked]
        asked += 1
        answers.append(box(probe))
        sure.append(certain(probe))
        if len(answers) < k or not sure[-1]:
            continue
        last = answers[-k:]
        if mended and not (one_class(last, same) and "" not in last and all(sure[-k:])):
            continue
        return "F@%d:%s" % (done, SUFFIX + answers[-1] + "} \\]"), asked
    return "l@%d" % done, asked


def trace(i, counts):
    r = Random(RULE, i)
    mode = r.below(3)  # client, server, server mended
    k, chunk = r.pick(PRESETS)
    if r.below(2) == 0:
        k, chunk = 1 + r.below(4), 1 + r.below(6)
    chunks = 4 + r.below(12)
    limit = chunk * chunks
    if mode:
        limit -= r.below(chunk)
    loose = r.below(2) == 0
    line = []
    for _ in range(1 + r.below(3)):
        n = 1 + r.below(limit + chunk)
        size = limit + chunk
        b = {"tokens": [PIECES[r.below(8)] if r.below(6) == 0 else "a" for _ in range(size)],
             "ends": [j + 1 == n or (j >= n and r.below(16) == 0) for j in range(size)],
             "probes": []}
        sticky = r.below(3)
        for _ in range(size + 1):
            again = r.below(3) < sticky
            text = r.pick(PROBES)
            b["probes"].append(b["probes"][-1] if b["probes"] and again else text)

        def same(x, y):
            return abs(len(x) - len(y)) <= 1 if loose else x == y

        if mode == 0:
            end, asked = client(b, k, chunk, limit, same)
        else:
            end, asked = server(b, k, chunk, limit, same, mode == 2)
        count(counts, ["client ", "server ", "mended "][mode] + end[0])
        if end[0] == "F":
            count(counts, "thought" if mode == 0 and "</think>" not in end else "open")
        line.append("%s asked %d" % (end, asked))
    return " ".join(line)


if __name__ == "__main__":
    main("dynasor", trace, {"client F": 100, "client e": 100, "client l": 10, "server F": 200,
                            "server l": 20, "mended F": 80, "mended e": 100, "thought": 20})
