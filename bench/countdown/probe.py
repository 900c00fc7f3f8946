"""A quick look during training: how often children are right, and later the message form."""

import random

import engine
import forms
import play
from game import draw_problem
from vocab import END, EOS


def child_rates(model, count=200, seed=5):
    """Share of children exactly right, of hits found, of misses kept silent."""
    rng, examples = random.Random(seed), []
    while len(examples) < count:
        examples.append(forms.child(rng, {**forms.MIXED, "easy": 0.3}))
    prompts = [[t for t, own in zip(e.ids, e.loss) if not own] for e in examples]
    wanted = [[t for t, own in zip(e.ids, e.loss) if own] for e in examples]
    cache = engine.Cache(model.cfg, count, 160)
    logits = engine.feed_lists(model, cache, prompts)
    got = engine.generate(model, cache, logits, {END, EOS}, 130)
    hit = [len(w) > 10 and forms.OK in w for w in wanted]
    found = sum(g == w for g, w, h in zip(got, wanted, hit) if h)
    quiet = sum(forms.OK not in g for g, h in zip(got, hit) if not h)
    return {"exact": sum(g == w for g, w in zip(got, wanted)) / count,
            "hits": found / max(1, sum(hit)), "quiet": quiet / max(1, count - sum(hit))}


def probe(model, whole_problems):
    result = child_rates(model)
    if whole_problems:
        rng = random.Random(11)
        problems = [draw_problem(rng, test=False) for _ in range(40)]
        for form in ("message", "seq", "reprefill", "stitch"):
            outcomes = play.play(model, form, problems, k=5, limit=600)
            result[form] = sum(o["correct"] for o in outcomes) / len(outcomes)
            result[form + "_wrong"] = sum(o["claimed"] and not o["correct"]
                                          for o in outcomes) / len(outcomes)
    return result
