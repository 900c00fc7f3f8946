"""Plays every form on a problem set and reports accuracy, tokens and longest paths.

Usage: evaluate.py WEIGHTS.gguf PROBLEMS.jsonl OUT_DIR [--fixtures DIR] [--forms ..] [--first N]

f32, greedy, the weights exactly as exported.  A path is counted as follows: tokens of the trunk,
for each block the longest thread with its forced header, and whatever the join inserts as new text
(a message's replies and <join>); the problem and re-prefilled text do not count.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

import torch

import engine
import export
import game
import play
import problems as problem_file
from forms import head
from gguf_file import GgufError

# The four that fixtures and comparisons are made of come first; reports grow setting by setting.
FIXTURES = [("message", 5, 4), ("seq", 0, 0), ("reprefill", 5, 3), ("stitch", 5, 3)]
SETTINGS = FIXTURES + [("message", 5, 1), ("message", 3, 4), ("message", 2, 4), ("reprefill", 3, 3),
                       ("stitch", 3, 3)]
LENGTHS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1200, 1600, 2000)
BATCH = {"seq": 250, "message": 250, "reprefill": 50, "stitch": 50}


def label(form, k, rounds):
    return form if form == "seq" else "%s k=%d rounds<=%d" % (form, k, rounds)


def interval(values, seed=1, draws=1000):
    """95 % bootstrap interval of a mean over problems."""
    rng, n = random.Random(seed), len(values)
    means = sorted(sum(rng.choices(values, k=n)) / n for _ in range(draws))
    return [round(means[int(draws * 0.025)], 4), round(means[int(draws * 0.975)], 4)]


def summary(outcomes):
    n = len(outcomes)

    def mean(key):
        return round(sum(o[key] for o in outcomes) / n, 4)

    right = [int(o["correct"]) for o in outcomes]
    threads = sum(o["thread_count"] for o in outcomes)
    return {
        "problems": n, "accuracy": mean("correct"), "accuracy_95": interval(right),
        "wrong_claims": round(sum(o["claimed"] and not o["correct"] for o in outcomes) / n, 4),
        "well_formed": mean("well_formed"), "finished": mean("finished"),
        "forked": round(sum(o["blocks"] > 0 for o in outcomes) / n, 4),
        "blocks": mean("blocks"), "threads": round(threads / n, 3),
        "tokens_generated": mean("generated"), "tokens_forced": mean("forced"),
        "longest_path": mean("path"), "longest_path_95": interval([o["path"] for o in outcomes]),
        "longest_path_max": max(o["path"] for o in outcomes),
        "accuracy_at_path": {str(limit): round(sum(o["correct"] and o["path"] <= limit
                                                   for o in outcomes) / n, 4)
                             for limit in LENGTHS},
    }


def compare(results, outcomes):
    """Sequential against message join at the same longest path, and at the same accuracy."""
    message, sequential = (outcomes.get(x) for x in (label("message", 5, 4), "seq"))
    if not message or not sequential:
        return None
    n, path = len(message), results[label("message", 5, 4)]["longest_path"]
    best = results[label("message", 5, 4)]["accuracy"]
    by_path = sorted(o["path"] for o in sequential if o["correct"])
    need = by_path[int(best * n) - 1] if len(by_path) >= best * n > 0 else None
    return {
        "sequential_accuracy_at_message_mean_path":
            round(sum(o["correct"] and o["path"] <= path for o in sequential) / n, 4),
        "sequential_accuracy_at_each_problems_message_path":
            round(sum(s["correct"] and s["path"] <= m["path"]
                      for s, m in zip(sequential, message)) / n, 4),
        "message_accuracy": best, "sequential_accuracy": results["seq"]["accuracy"],
        "mean_path_ratio": round(path / results["seq"]["longest_path"], 4),
        "sequential_limit_for_message_accuracy": need,
    }


def fixture(setting, name, numbers, target, outcome):
    form, k, rounds = setting
    prompt = head({**play.HEADS, "seq": "<seq>"}[form], k, numbers, target)
    return {"id": name, "form": form, "k": k, "rounds": rounds, "prompt": prompt,
            "turns": outcome["turns"], "threads": outcome["threads"],
            "answer": " ".join(str(w) for w in outcome["answer"] or []),
            "correct": outcome["correct"]}


def play_all(model, setting, tasks, limit, say=print):
    form, k, rounds = setting
    outcomes, began = [], time.time()
    for i in range(0, len(tasks), BATCH[form]):
        part = [(n, t) for _, n, t in tasks[i:i + BATCH[form]]]
        outcomes += play.play(model, form, part, k=k, rounds=rounds, limit=limit)
        say("  %s: %d of %d, %.3f right, %.0f s" % (
            label(*setting), len(outcomes), len(tasks),
            sum(o["correct"] for o in outcomes) / len(outcomes), time.time() - began), flush=True)
    return outcomes


def evaluate(weights, problem_path, out, fixtures=None, forms=None, first=None,
             limit=play.SEQUENTIAL_LIMIT):
    torch.set_num_threads(1)
    model = engine.load_model(export.read(weights))
    tasks = problem_file.load(problem_path)[:first]
    out.mkdir(parents=True, exist_ok=True)
    results, kept = {}, {}
    for setting in SETTINGS:
        if forms and setting[0] not in forms:
            continue
        engine.Margins.smallest = float("inf")
        outcomes = play_all(model, setting, tasks, limit)
        name = label(*setting)
        kept[name] = outcomes
        results[name] = {**summary(outcomes), "smallest_margin": engine.Margins.smallest}
        if fixtures and setting in FIXTURES:
            fixtures.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps(fixture(setting, i, n, t, o), separators=(",", ":")) + "\n"
                     for (i, n, t), o in list(zip(tasks, outcomes))[:200]]
            (fixtures / (setting[0] + ".jsonl")).write_text("".join(lines))
        report = {"weights": weights.name, "problems": Path(problem_path).name,
                  "arithmetic": "f32, greedy, PyTorch", "forms": results,
                  "comparison": compare(results, kept)}
        (out / ("evaluation-%d.json" % len(tasks))).write_text(json.dumps(report, indent=1) + "\n")
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("problems", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fixtures", type=Path)
    parser.add_argument("--forms", nargs="*")
    parser.add_argument("--first", type=int)
    args = parser.parse_args()
    try:
        report = evaluate(args.weights, args.problems, args.out, args.fixtures, args.forms,
                          args.first)
    except (game.ProblemError, GgufError) as error:
        sys.exit("error: %s: %s" % (type(error).__name__, error))
    for name, row in report["forms"].items():
        print("%-26s accuracy %.3f %s wrong %.3f well-formed %.3f path %.0f tokens %.0f "
              "threads %.1f"
              % (name, row["accuracy"], row["accuracy_95"], row["wrong_claims"],
                 row["well_formed"], row["longest_path"], row["tokens_generated"],
                 row["threads"]))


if __name__ == "__main__":
    main()
