"""The whole recipe: problems, training, export, evaluation, model card.

Usage: recipe.py --out DIR [--smoke]   (run again to go on after any stop)
"""

import argparse
import sys
from pathlib import Path

import card
import evaluate
import export
import problems
import train


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true",
                        help="a minute: everything runs, nothing is learnt")
    args = parser.parse_args()
    run, weights = args.out / "run", args.out / "countdown.gguf"
    count, subset = (8, 4) if args.smoke else (1000, 200)
    problems.write(args.out, count, subset)
    hyper = {**train.DEFAULTS, **(train.SMOKE if args.smoke else {})}
    try:
        train.Trainer(run, hyper).run()
        export.write(train.newest_checkpoint(run), weights)
    except train.CheckpointError as error:
        sys.exit("error: CheckpointError: %s" % error)
    limit = 200 if args.smoke else 2000
    for size, fixtures in ((subset, args.out / "fixtures"), (count, None)):
        evaluate.evaluate(weights, args.out / ("problems-%d.jsonl" % size), args.out / "evaluation",
                          fixtures, limit=limit)
    (args.out / "MODEL_CARD.md").write_text(card.card(run, args.out / "evaluation"))
    print("%s: weights, problem sets, fixtures, evaluation, MODEL_CARD.md" % args.out)


if __name__ == "__main__":
    main()
