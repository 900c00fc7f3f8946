"""Problem sets as JSONL {id, prompt, answer}: writing the held-out set, reading any set strictly.

Usage: problems.py OUT_DIR   (writes problems-1000.jsonl and problems-200.jsonl)
"""

import json
import sys
from pathlib import Path

import game

SEED = 75
FIELDS = {"id", "prompt", "answer"}


def load(path):
    """[(id, numbers, target)]; ProblemError names file, line and field."""
    out, seen = [], set()
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        where = "%s:%d: " % (path, number)
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise game.ProblemError(where + "not JSON: %s" % error) from None
        if not isinstance(record, dict) or set(record) != FIELDS:
            raise game.ProblemError(where + "fields must be exactly id, prompt, answer")
        if any(not isinstance(record[f], str) for f in FIELDS):
            raise game.ProblemError(where + "id, prompt and answer must be strings")
        if record["id"] in seen:
            raise game.ProblemError(where + "id %r stands twice" % record["id"])
        seen.add(record["id"])
        try:
            numbers, target = game.parse_prompt(record["prompt"])
        except game.ProblemError as error:
            raise game.ProblemError(where + str(error)) from None
        if not game.check(numbers, target, record["answer"].split(" ")):
            raise game.ProblemError(where + "answer %r does not reach the target"
                                    % record["answer"])
        out.append((record["id"], numbers, target))
    return out


def write(folder, count=1000, subset=200):
    folder.mkdir(parents=True, exist_ok=True)
    records = [json.dumps(r) + "\n" for r in game.test_problems(count, SEED)]
    (folder / ("problems-%d.jsonl" % count)).write_text("".join(records))
    (folder / ("problems-%d.jsonl" % subset)).write_text("".join(records[:subset]))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
