"""Tests of the recipe that need no training: game, tokenizer, forms, checkpoints, decoding.

Run: python test_recipe.py [WEIGHTS.gguf]   (without weights, decoding is tested on random ones)
"""

import copy
import random
import sys
import tempfile
import unittest
from pathlib import Path

import torch

import engine
import export
import forms
import game
import model as model_file
import play
import problems as problem_file
import train
import vocab

WEIGHTS = Path(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].endswith(".gguf") else None


def load():
    return engine.load_model(export.read(WEIGHTS)) if WEIGHTS else small_model()


def small_model():
    return engine.round_bf16(model_file.Model(model_file.Config(), 3)).eval()


class TestGame(unittest.TestCase):
    def test_check_accepts_traces_and_nothing_else(self):
        for record in game.test_problems(40, 3):
            numbers, target = game.parse_prompt(record["prompt"])
            answer = record["answer"].split()
            self.assertTrue(game.check(numbers, target, answer))
            self.assertTrue(game.held_out(numbers, target))
            for i in range(9):
                bad = answer[:i] + ["7" if answer[i] != "7" else "8"] + answer[i + 1:]
                self.assertFalse(game.check(numbers, target, bad) and i % 3 == 1)
            self.assertFalse(game.check(numbers, target, answer[:6]))
        self.assertFalse(game.check((8, 4, 2, 1), 15, "8 + 4 8 + 2 12 + 1".split()))
        self.assertFalse(game.check((7, 2, 2, 1), 10, "7 / 2 3 * 2 6 + 1".split()))

    def test_a_trace_finds_exactly_what_is_reachable(self):
        rng = random.Random(1)
        for _ in range(200):
            numbers = game.draw_numbers(rng)
            move = rng.choice(game.first_moves(numbers))
            target = rng.randint(10, 99)
            found = game.trace(target, move)[1]
            self.assertEqual(bool(found), target in game.reachable(move))
            self.assertTrue(not found or game.check(numbers, target, found))

    def test_bad_problem_sets_are_named(self):
        good = '{"id": "a", "prompt": "T33 18 15 9 8", "answer": "18 + 15 9 - 8 33 * 1"}'
        for bad, word in ((good.replace("18 15", "38 15"), "outside 1..20"),
                          (good.replace("T33", "T133"), "outside 10..99"),
                          (good.replace('"id"', '"name"'), "fields"), ("{", "not JSON"),
                          (good.replace("33 * 1", "33 + 1"), "does not reach"),
                          (good + "\n" + good, "twice"), (good.replace("9 8", "9 x"), "number")):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "p.jsonl"
                path.write_text(bad + "\n")
                with self.assertRaisesRegex(game.ProblemError, word):
                    problem_file.load(path)


class TestForms(unittest.TestCase):
    def test_text_and_tokens_are_one_to_one(self):
        rng = random.Random(2)
        for maker in forms.MAKERS.values():
            for _ in range(20):
                ids = maker(rng).ids
                self.assertEqual(vocab.encode(vocab.decode(ids)), ids)
        for bad in ("<apr> hello", "T75 14\n13", "\u00e9"):
            with self.assertRaises(vocab.EncodeError):
                vocab.encode(bad)

    def test_a_resumed_stream_goes_on_the_same(self):
        one, two = forms.Stream(9), forms.Stream(0)
        for _ in range(30):
            one.batch()
        two.load(copy.deepcopy(one.state()))
        self.assertEqual([one.batch() for _ in range(10)], [two.batch() for _ in range(10)])


class TestCheckpoints(unittest.TestCase):
    def test_a_damaged_one_is_named_and_the_previous_one_used(self):
        with tempfile.TemporaryDirectory() as folder:
            folder, said = Path(folder), []
            for step in (1, 2, 3):
                train.save_checkpoint(folder, step, {"step": step})
            files = sorted(folder.glob("*.pt"))
            self.assertEqual(len(files), train.KEEP)
            data = bytearray(files[-1].read_bytes())
            data[60] ^= 1
            files[-1].write_bytes(data)
            self.assertEqual(train.newest_checkpoint(folder, said.append)["step"], 2)
            self.assertIn("damaged checkpoint", said[0])
            files[0].write_bytes(files[0].read_bytes()[:50])
            with self.assertRaisesRegex(train.CheckpointError, "no usable"):
                train.newest_checkpoint(folder, said.append)


class TestResume(unittest.TestCase):
    def weights_after(self, folder, stop_at=None):
        hyper = {**train.DEFAULTS, **train.SMOKE, "total_tokens": 12_000, "finish_from": 8_000,
                 "polish_from": 10_000,
                 "probe_every_tokens": 0, "save_every_s": 0, "log_every": 1}
        trainer = train.Trainer(folder, hyper)
        if stop_at:
            log = trainer.log

            def stopping_log(**record):
                log(**record)
                if record.get("step") == stop_at:
                    raise KeyboardInterrupt
            trainer.log = stopping_log
        trainer.run()
        return trainer.model.state_dict()

    def test_an_interrupted_run_ends_as_an_uninterrupted_one(self):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            whole = self.weights_after(Path(one))
            with self.assertRaises(KeyboardInterrupt):
                self.weights_after(Path(two), stop_at=6)
            again = self.weights_after(Path(two))
            for name, tensor in whole.items():
                self.assertTrue(torch.equal(tensor, again[name]), name)


class TestDecoding(unittest.TestCase):
    """What the batched cache generates must be the argmax of the training-shaped forward pass."""

    def agree(self, model, ids, pos, group, own, form):
        tokens = torch.tensor([ids])
        mask = model_file.stitch_mask(torch.tensor([group]), forms.GROUP_STRIDE)
        with torch.inference_mode():
            logits = model.trunk(tokens, torch.tensor([pos]), mask) @ model.embed.weight.T
        for i, mine in enumerate(own):
            if mine:
                row = logits[0, i - 1]
                self.assertLess(float(row.max() - row[ids[i]]), 1e-3, "%s token %d" % (form, i))

    def rebuild(self, form, problem, outcome):
        """The run as one training example, with the trunk's and every thread's own tokens."""
        ex, numbers, target = forms.Example(), *problem
        ex.add(forms.head(play.HEADS[form], 5, numbers, target), False)
        for block, (turn, inserted) in enumerate(outcome["turns"]):
            ex.add(turn, True)
            start = last = ex.next_pos
            for i, (move, text) in enumerate((outcome["threads"] + [[]])[block]):
                group = 0
                if form == "stitch":
                    group, ex.next_pos = 1 + forms.GROUP_STRIDE * block + i, start
                ex.add([vocab.THR] + move, False, group)
                # A later re-prefilled thread was written without its siblings in sight.
                ex.add(text, form == "stitch" or i == 0, group)
                last = max(last, ex.next_pos)
            ex.next_pos = last
            if inserted:
                ex.add(inserted, False)
        return ex

    def test_every_form_matches_the_forward_pass(self):
        model, rng = load(), random.Random(4)
        tasks = [game.draw_problem(rng, test=False) for _ in range(6)]
        for form in ("reprefill", "stitch"):
            for task, outcome in zip(tasks, play.play(model, form, tasks, k=5)):
                ex = self.rebuild(form, task, outcome)
                self.agree(model, ex.ids, ex.pos, ex.group, ex.loss, form)
        for task, outcome in zip(tasks, play.play(model, "seq", tasks, limit=300)):
            ids = forms.head("<seq>", 0, *task)
            own = [0] * len(ids) + [1] * outcome["generated"]
            ids = ids + outcome["turns"][0][0]
            self.agree(model, ids, list(range(len(ids))), [0] * len(ids), own, "seq")
        for task, outcome in zip(tasks, play.play(model, "message", tasks, k=5)):
            for move, text in (t for block in outcome["threads"] for t in block):
                ids = forms.head("<sub>", 0, *task) + [vocab.THR] + move
                own = [0] * len(ids) + [1] * len(text)
                ids = ids + text
                self.agree(model, ids, list(range(len(ids))), [0] * len(ids), own, "child")

    def test_a_rows_tokens_do_not_depend_on_its_neighbours(self):
        model, rng = load(), random.Random(6)
        tasks = [game.draw_problem(rng, test=False) for _ in range(5)]
        for form in ("message", "reprefill", "stitch", "seq"):
            together = play.play(model, form, tasks, limit=200)
            alone = [play.play(model, form, [t], limit=200)[0] for t in tasks]
            self.assertEqual([o["turns"] for o in together], [o["turns"] for o in alone], form)

    def test_export_and_read_give_the_same_weights(self):
        model = small_model()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.gguf"
            export.write({"config": model.cfg.as_dict(), "model": model.state_dict()}, path)
            again = export.read(path)["model"]
        for name, tensor in model.state_dict().items():
            self.assertTrue(torch.equal(again[name], tensor), name)


if __name__ == "__main__":
    torch.set_num_threads(1)
    unittest.main()
