#!/usr/bin/env python3
"""The messages of APR, for dialects apr and apr-corrected: coppice run --program "python3 FILE".

What it does is what Parallel-Reasoning/APR@55779283 does in src/eval/eval_apr.py (E) and
src/eval/parallel_infernce_utils.py (P). Where the original evaluates lists of the text as Python
(P 205-208, 229), literals alone are read here; anything else is an error there too, or worse.
"""
import argparse
import ast
import sys

from message_lines import serve

CALL, CALL_END = "<Calling Sub Searches>\n", "<End Calling Sub Searches>"
GOAL = "Goal Reached"


class Refused(Exception):
    pass


def literal(text):
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise Refused(f"no list: {text[:80]!r}") from error


def state(text):
    target, numbers = text.split(":")[:2]
    return int(target), literal(numbers)


def read_visited(nodes, line, after):
    """P 191-215."""
    name = line.split("Moving to Node #")[1].strip()
    target, numbers = state(after.split("Current State:")[1].split("],")[0] + "]")
    nodes[name] = (target, numbers, literal(after.split("Operations:")[1]))


def read_generated(nodes, line):
    """P 218-240; a node that was visited stays as it was then."""
    name = line.split(":")[0].split("#")[1]
    if name in nodes:
        return
    place, operation = line.split(":", 1)[1].split("Operation:")[:2]
    target, numbers = state(place)
    above = nodes[name.rpartition(",")[0]]
    nodes[name] = (target, numbers, above[2] + [operation.strip()])


def nodes_of(trace, corrected):
    """Node -> (target, numbers, operations). A line that cannot be read ends the run (E 258-260);
    corrected: it is passed over."""
    nodes = {}
    lines = trace.split("\n")
    reads = [(read_visited, pair) for pair in zip(lines, lines[1:])
             if "Moving to Node #" in pair[0] and "Current State:" in pair[1]]
    reads += [(read_generated, (line,)) for line in lines if "Generated Node" in line]
    for read, given in reads:
        try:
            read(nodes, *given)
        except (KeyError, IndexError, ValueError, TypeError, Refused) as error:
            if not corrected:
                raise Refused(f"{type(error).__name__}: {error}") from error
    return nodes


def called(trace):
    """Names of the nodes that the last call asks for (P 241-253)."""
    section = trace.split(CALL)[-1].split("\n" + CALL_END)[0]
    return [line.split("Moving to Node #")[1].strip() for line in section.split("\n")
            if "<Start Sub Search" in line and "Moving to Node" in line]


def before_call(trace):
    """P 278: all before the last call, which goes."""
    parts = trace.split(CALL)
    if len(parts) == 1:
        raise Refused("there is no call to remove")
    return CALL.join(parts[:-1])


def prompt_of(name, node):
    """P 260-263."""
    target, numbers, operations = node
    return (f"Moving to Node #{name}\nCurrent State: {target}:[{', '.join(map(str, numbers))}], "
            f"Operations: {operations}")


def result_of(text):
    """P 155-167: what follows the last but one of the goals; None without two."""
    goals = [i for i in range(len(text)) if text.startswith(GOAL, i)]
    return text[goals[-2]:].strip()[len(GOAL) + 1:] if len(goals) >= 2 else None


def joined(before, names, results):
    """P 280-289."""
    text = before + "<Sub Searches>\n"
    for i, (name, result) in enumerate(zip(names, results)):
        place = f"in Sub Search {i} at level 1 at Node #{name}>\n"
        text += f"<No Solution {place}" if result is None else f"<{GOAL} {place}{result}\n"
    return text + "<End Sub Searches>\n"


def read_call(question, corrected):
    """The trace as the original has it, one newline at its end left out (E 198-200): what stays of
    it behind the prompt, the names that it calls, and the nodes that it knows."""
    text = question["text"] + question["said"]
    trace = question["prompt"] + (text[:-1] if text.endswith("\n") else text)
    return before_call(trace)[len(question["prompt"]):], called(trace), nodes_of(trace, corrected)


def fork(question, corrected):
    before, names, nodes = read_call(question, corrected)
    unknown = [name for name in names if name not in nodes]
    if unknown and not corrected:
        raise Refused(f"KeyError: {unknown[0]!r}") # P 253
    known = [name for name in names if name in nodes]
    if not known:
        return {"text": joined(before, names, [None] * len(names))}
    return {"children": [{"prompt": prompt_of(name, nodes[name])} for name in known],
            "keep": before}


def join(question, corrected):
    before, names, nodes = read_call(question, corrected)
    if len(set(names)) < len(names) and not corrected:
        # E 214-218: all results of one prompt go to its first place, and P 159 asks None for more.
        raise Refused("AttributeError: a node is called twice, and has one result")
    results = iter(result_of(child["text"]) for child in question["children"])
    return {"text": joined(before, names, [next(results) if name in nodes else None
                                           for name in names])}


def main():
    parser = argparse.ArgumentParser(description="the messages of APR")
    parser.add_argument("--corrected", action="store_true",
                        help="what cannot be read, or is called twice, does not end the run")
    corrected = parser.parse_args().corrected

    def guarded(answer):
        def ask(question):
            try:
                return answer(question, corrected)
            except Refused as reason:
                print(f"apr_messages: turn {question['turn']}: {reason}", file=sys.stderr)
                return {"refuse": str(reason)}
        return ask

    serve({"fork": guarded(fork), "join": guarded(join)})


if __name__ == "__main__":
    main()
