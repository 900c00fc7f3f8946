#!/usr/bin/env python3
"""Mathematical equivalence for `coppice grade`, by Math-Verify, over the line protocol.

    pip install -r bench/recipes/requirements.txt
    coppice grade answers.jsonl --set set.jsonl \\
        --checker 'equivalence:python3 bench/recipes/math_verify_lines.py'

One JSON object a line comes in: {"n", "prompt", "reference", "claimed"}; one goes out: {"n",
"equal"}. "equal" is null, and the answer ungraded, where Math-Verify reads no expression in one of
the two: it cannot judge, which is not the same as wrong. The build needs none of this.
"""

import json
import sys

try:
    from math_verify import parse, verify
except ImportError:
    sys.exit("math_verify_lines.py: pip install -r bench/recipes/requirements.txt")


def expressions(text):
    """Math-Verify looks for an expression in running text; a bare answer is put into a box."""
    for form in (text, "$\\boxed{" + text + "}$"):
        found = parse(form)
        if found:
            return found
    return []


def judge(reference, claimed):
    gold, said = expressions(reference), expressions(claimed)
    if not gold or not said:
        return None
    return bool(verify(gold, said))  # the order matters to Math-Verify: the reference stands first


def main():
    for line in sys.stdin:
        question = json.loads(line)
        answer = {"n": question["n"]}
        try:
            answer["equal"] = judge(question["reference"], question["claimed"])
        except Exception as error:  # one expression that it chokes on must not end the run
            answer["equal"] = None
            answer["why"] = f"{type(error).__name__}: {error}"[:200]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
