"""Writes the model card from a run's log and its evaluations: no figure is typed by hand.

Usage: card.py RUN_DIR EVALUATION_DIR OUT.md
"""

import json
import sys
from pathlib import Path

import forms
import game
import problems


def read_log(path):
    """Records in order; what a stopped run logged after its last checkpoint is dropped."""
    records = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record.get("event") == "resume":
            records = [r for r in records if r.get("step", 0) <= record["step"]]
        records.append(record)
    return records


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]


def curve(records):
    points = [r for r in records if "loss" in r]
    picked = points[::max(1, len(points) // 24)]
    if points and picked[-1] is not points[-1]:
        picked.append(points[-1])
    return table(["million tokens", "loss", "tokens right", "learning rate"],
                 [["%.2f" % (p["tokens"] / 1e6), p["loss"], p["right"], p["lr"]] for p in picked])


def probes(records):
    rows = []
    for r in records:
        if "probe" in r:
            p = r["probe"]
            rows.append(["%.2f" % (r["tokens"] / 1e6), p["exact"], round(p["hits"], 3),
                         round(p["quiet"], 3)]
                        + [p.get(f, "") for f in ("message", "seq", "reprefill", "stitch")])
    return table(["million tokens", "children exact", "hits found", "misses kept quiet", "message",
                  "sequential (600 tokens)", "re-prefill", "stitch"], rows)


def evaluation(path):
    report = json.loads(path.read_text())
    rows = []
    for name, r in report["forms"].items():
        rows.append([name, "%.3f (%.3f to %.3f)" % (r["accuracy"], *r["accuracy_95"]),
                     r["wrong_claims"], r["well_formed"], r["forked"], "%.0f" % r["longest_path"],
                     r["longest_path_max"], "%.0f" % r["tokens_generated"], r["threads"]])
    count = next(iter(report["forms"].values()))["problems"]
    lines = ["### %d held-out problems (%s), %s" % (count, report["problems"],
                                                     report["arithmetic"]), ""]
    lines += table(["form", "accuracy (95 %)", "wrong claims", "grammar and moves legal", "forked",
                    "longest path", "largest", "tokens generated", "threads"], rows)
    if report["comparison"]:
        c = report["comparison"]
        lines += ["", "Sequential against message join (k = 5, up to four rounds): accuracy %.3f "
                  "against %.3f at the mean longest path of the message form, %.3f when each "
                  "problem is cut at its own message path; mean longest path message / sequential "
                  "%.2f; "
                  "sequential length limit that first reaches the message form's accuracy: %s."
                  % (c["sequential_accuracy_at_message_mean_path"], c["message_accuracy"],
                     c["sequential_accuracy_at_each_problems_message_path"], c["mean_path_ratio"],
                     c["sequential_limit_for_message_accuracy"] or "none")]
    lengths = list(next(iter(report["forms"].values()))["accuracy_at_path"])
    lines += ["", "Accuracy when runs are cut at a longest path of so many tokens:", ""]
    lines += table(["form", *lengths], [[name, *r["accuracy_at_path"].values()]
                                        for name, r in report["forms"].items()])
    return lines + [""]


def pairs(table_of):
    return ", ".join("%s %s" % i for i in table_of.items())


def phases(hyper):
    """The phases of the recipe as it stands; thread starts are five tokens."""
    ends = [hyper["children_until"], hyper["finish_from"], hyper["polish_from"],
            hyper["total_tokens"]]
    rows = [["%.2f" % (end / 1e6), pairs(p["shares"]), p["trunk"], p["start"], p["easy"]]
            for end, p in zip(ends, (forms.CHILDREN, forms.MIXED, forms.FINISH,
                                                  forms.POLISH))]
    return table(["until million tokens", "shares of tokens", "loss weight of the trunk",
                  "loss weight of thread starts", "share of short-hit children"], rows)


def changes(resume, before):
    """What a resumed run did otherwise than the run before it."""
    new = resume["hyper"]
    changed = ["%s %s (was %s)" % (k, new.get(k, "none"), before.get(k, "none"))
               for k in sorted({*new, *before}) if new.get(k) != before.get(k)]
    return ("Resumed at %d tokens with other settings, which are those of the recipe now: %s."
            % (resume["tokens"], "; ".join(changed)))


def card(run, evaluations):
    records = read_log(run / "log.jsonl")
    start = next(r for r in records if r.get("event") == "start")
    ends = [r for r in records if r.get("event") == "end"]
    resumes = [r for r in records if r.get("event") == "resume"]
    hyper = (resumes or [start])[-1]["hyper"]
    lines = ["# Model card: coppice-countdown", "",
             "Written by `card.py` from the run's log. Grammar and task: `README.md`.", "",
             "## Model", "",
             "%d parameters, Llama-shaped, %s." % (start["parameters"], ", ".join(
                 "%s %s" % i for i in start["config"].items())),
             "Matrices are exported as BF16, norms as F32; embeddings are tied.", "",
             "## Data", "",
             "Generated while training, seed %d; numbers 1..%d, results 1..%d, targets %d..%d; "
             "problems hard (at most %d %% of the first moves win). Held out by hash, 1 in %d; the "
             "problem sets use seed %d." % (
                 hyper["seed"], game.MAX_NUMBER, game.MAX_RESULT, game.TARGET_MIN,
                 game.TARGET_MAX, 100 * game.HARD_SHARE, game.HELD_OUT_ONE_IN, problems.SEED), "",
             *phases(hyper), "",
             "k is drawn with weights %s." % pairs(start["k_weights"]),
             "", "## Training", "",
             "AdamW, " + ", ".join("%s %s" % (k, v) for k, v in hyper.items()) + ".",
             "PyTorch %s, one CPU thread. Resumed %d times." % (start["torch"], len(resumes)), ""]
    before = start["hyper"]
    for r in resumes:
        if r["hyper"] != before:
            lines += [changes(r, before), ""]
        before = r["hyper"]
    if ends:
        lines += ["%d steps, %d tokens, %.0f s wall clock, %.0f s of CPU." % (
            ends[-1]["step"], ends[-1]["tokens"], ends[-1]["wall_s"], ends[-1]["cpu_s"])]
    else:
        lines += ["This run has not ended."]
    lines += ["", "### Curve", "", *curve(records), "", "### Probes during training", "",
              "200 children, 40 problems of the training side, greedy, f32 weights.", "",
              *probes(records), "", "## Evaluation", ""]
    paths = sorted(evaluations.glob("evaluation-*.json"), key=lambda p: int(p.stem.split("-")[1]))
    for path in reversed(paths):
        lines += evaluation(path)
    lines += ["## Limits", "",
              "* Only this task, only this text form; numbers must stand in descending order.",
              "* First moves are tried in a fixed order: a search, not an intuition.",
              "* Problems without a solution are rare in training; giving up is not tested.",
              "* Runs longer than 1,536 tokens lie beyond the training length.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(card(Path(sys.argv[1]), Path(sys.argv[2])))
