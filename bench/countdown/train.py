"""Training: tokens decide the schedule, checkpoints survive any stop, the log is the model card's
only source.

Usage: train.py --run DIR [--smoke]   (run again to resume)
"""

import argparse
import hashlib
import io
import json
import math
import os
import sys
import time
from pathlib import Path

import torch

import forms
import model as model_file
import probe
from vocab import VOCAB_SIZE

MAGIC = b"COPCKPT1"
KEEP = 2
DEFAULTS = {
    "seed": 20261, "children_until": 3_600_000, "finish_from": 15_000_000,
    "polish_from": 22_000_000, "polish_lr": 4e-4,
    "total_tokens": 25_500_000, "cosine_tokens": 30_000_000, "warmup_tokens": 300_000,
    "peak_lr": 1.5e-3, "beta2": 0.98, "weight_decay": 0.05, "clip": 1.0,
    "batch_tokens": forms.BATCH_TOKENS, "autocast": "bf16", "compile": True,
    "log_every": 100,
    "probe_every_tokens": 1_000_000, "play_every_probes": 4, "save_every_s": 120,
}
SMOKE = {"children_until": 7_000, "finish_from": 40_000, "polish_from": 52_000,
         "total_tokens": 60_000, "cosine_tokens": 90_000, "warmup_tokens": 5_000, "compile": False, "log_every": 5,
         "probe_every_tokens": 30_000, "save_every_s": 5}


class CheckpointError(RuntimeError):
    """A checkpoint file that is damaged or belongs to another configuration."""


def save_checkpoint(folder, step, state):
    """Written beside its final name, synced, renamed: a stop at any moment loses nothing."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    final = folder / ("ckpt-%09d.pt" % step)
    temporary = final.with_suffix(".tmp")
    with open(temporary, "wb") as f:
        f.write(MAGIC + hashlib.sha256(payload).digest() + payload)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, final)
    for old in sorted(folder.glob("ckpt-*.pt"))[:-KEEP]:
        old.unlink()


def load_checkpoint(path):
    data = path.read_bytes()
    if data[:8] != MAGIC:
        raise CheckpointError("%s: not a checkpoint (bad magic at offset 0)" % path)
    if hashlib.sha256(data[40:]).digest() != data[8:40]:
        raise CheckpointError("%s: damaged checkpoint (checksum of bytes 40..%d differs)"
                              % (path, len(data)))
    return torch.load(io.BytesIO(data[40:]), weights_only=True)


def newest_checkpoint(folder, say=print):
    """The newest checkpoint that loads; damaged ones are named and skipped."""
    errors = []
    for path in sorted(folder.glob("ckpt-*.pt"), reverse=True):
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            errors.append(str(error))
            say("error: CheckpointError: %s; trying the previous one" % error)
    if errors:
        raise CheckpointError("no usable checkpoint: " + "; ".join(errors))
    return None


def phase_of(tokens, h):
    if tokens < h["children_until"]:
        return forms.CHILDREN
    if tokens < h["finish_from"]:
        return forms.MIXED
    return forms.FINISH if tokens < h["polish_from"] else forms.POLISH


def learning_rate(tokens, h):
    """Warm-up, a cosine laid out for cosine_tokens, from finish_from on a straight line to 0, and
    once more from polish_lr to 0."""
    if tokens >= h["polish_from"]:
        return h["polish_lr"] * max(0.0, (h["total_tokens"] - tokens)
                                    / (h["total_tokens"] - h["polish_from"]))
    if tokens < h["warmup_tokens"]:
        return h["peak_lr"] * (tokens + 1) / h["warmup_tokens"]
    at = min(tokens, h["finish_from"])
    done = (at - h["warmup_tokens"]) / (h["cosine_tokens"] - h["warmup_tokens"])
    left = (h["polish_from"] - tokens) / (h["polish_from"] - h["finish_from"])
    return h["peak_lr"] * 0.5 * (1 + math.cos(math.pi * done)) * max(0.0, min(1.0, left))


def collate(length, examples):
    n = len(examples)
    tokens = torch.zeros(n, length + 1, dtype=torch.long)
    weight = torch.zeros(n, length + 1)
    pos = torch.zeros(n, length, dtype=torch.long)
    group = torch.zeros(n, length, dtype=torch.long)
    real = 0
    for row, (ids, loss, positions, groups) in enumerate(examples):
        size = len(ids)
        tokens[row, :size] = torch.tensor(ids)
        weight[row, :size] = torch.tensor(loss, dtype=torch.float32)
        pos[row, :size - 1] = torch.tensor(positions[:-1])
        group[row, :size - 1] = torch.tensor(groups[:-1])
        real += size - 1
    return tokens[:, :-1], pos, tokens[:, 1:].contiguous(), weight[:, 1:].contiguous(), group, real


class Trainer:
    def __init__(self, folder, hyper):
        self.folder, self.h = folder, hyper
        folder.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(1)
        self.cfg = model_file.Config()
        self.model = model_file.Model(self.cfg, hyper["seed"])
        decay = [p for p in self.model.parameters() if p.dim() == 2]
        flat = [p for p in self.model.parameters() if p.dim() != 2]
        self.opt = torch.optim.AdamW(
            [{"params": decay, "weight_decay": hyper["weight_decay"]},
             {"params": flat, "weight_decay": 0.0}],
            lr=hyper["peak_lr"], betas=(0.9, hyper["beta2"]), fused=True)
        self.stream = forms.Stream(hyper["seed"])
        self.step = self.tokens = 0
        self.wall_s = self.cpu_s = 0.0
        self.next_probe = hyper["probe_every_tokens"]

    def log(self, **record):
        with open(self.folder / "log.jsonl", "a") as f:
            f.write(json.dumps(record) + "\n")

    def state(self):
        return {"model": self.model.state_dict(), "opt": self.opt.state_dict(),
                "stream": self.stream.state(), "step": self.step, "tokens": self.tokens,
                "wall_s": self.wall_s, "cpu_s": self.cpu_s, "next_probe": self.next_probe,
                "config": self.cfg.as_dict(), "hyper": self.h}

    def resume(self):
        state = newest_checkpoint(self.folder)
        if not state:
            self.log(event="start", config=self.cfg.as_dict(), hyper=self.h,
                     phases=[forms.CHILDREN, forms.MIXED, forms.FINISH, forms.POLISH],
                     k_weights={str(k): w for k, w in forms.K_WEIGHTS.items()},
                     parameters=sum(p.numel() for p in self.model.parameters()),
                     torch=torch.__version__)
            return
        if state["config"] != self.cfg.as_dict():
            raise CheckpointError("%s: checkpoints of another model shape" % self.folder)
        self.model.load_state_dict(state["model"])
        self.opt.load_state_dict(state["opt"])
        self.stream.load(state["stream"])
        for name in ("step", "tokens", "wall_s", "cpu_s", "next_probe"):
            setattr(self, name, state[name])
        self.log(event="resume", step=self.step, tokens=self.tokens, hyper=self.h)

    def play_due(self, phase):
        """Playing whole problems costs half a minute, so only some probes do."""
        every = self.h["play_every_probes"] * self.h["probe_every_tokens"]
        return phase is not forms.CHILDREN and (self.next_probe % every == 0
                                      or self.tokens >= self.h["total_tokens"])

    def save(self):
        save_checkpoint(self.folder, self.step, self.state())

    def run(self):
        self.resume()
        h = self.h
        torch._dynamo.config.recompile_limit = 64  # one graph for each bucket and mask
        loss_of = (torch.compile(self.model.loss, dynamic=False) if h["compile"]
                   else self.model.loss)
        saved = started = time.time()
        cpu = time.process_time()
        sums = [0.0, 0.0, 0.0, 0]
        while self.tokens < h["total_tokens"]:
            phase = phase_of(self.tokens, h)
            masked, length, examples = self.stream.batch(phase)
            tokens, pos, targets, weight, group, real = collate(length, examples)
            mask = model_file.stitch_mask(group, forms.GROUP_STRIDE) if masked else None
            lr = learning_rate(self.tokens, h)
            for g in self.opt.param_groups:
                g["lr"] = lr
            with torch.autocast("cpu", torch.bfloat16, enabled=h["autocast"] == "bf16"):
                loss, right = loss_of(tokens, pos, targets, weight, mask)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), h["clip"])
            self.opt.step()
            self.opt.zero_grad(set_to_none=True)
            if not math.isfinite(loss.item()):
                raise FloatingPointError("loss is %r at step %d" % (loss.item(), self.step))
            self.step += 1
            self.tokens += real
            own = weight.sum().item()
            for i, x in enumerate((loss.item() * own, right.item(), own, 1)):
                sums[i] += x
            now = time.time()
            if self.step % h["log_every"] == 0:
                self.wall_s, started = self.wall_s + now - started, now
                self.cpu_s, cpu = self.cpu_s + time.process_time() - cpu, time.process_time()
                self.log(step=self.step, tokens=self.tokens, loss=round(sums[0] / sums[2], 5),
                         right=round(sums[1] / sums[2], 5), lr=round(lr, 7),
                         wall_s=round(self.wall_s, 1), cpu_s=round(self.cpu_s, 1))
                sums = [0.0, 0.0, 0.0, 0]
            if h["probe_every_tokens"] and (self.tokens >= self.next_probe
                                            or self.tokens >= h["total_tokens"]):
                self.next_probe += h["probe_every_tokens"]
                self.log(step=self.step, tokens=self.tokens,
                         probe=probe.probe(self.model, self.play_due(phase)))
            if now - saved >= h["save_every_s"]:
                self.save()
                saved = now
        self.save()
        self.log(event="end", step=self.step, tokens=self.tokens, wall_s=round(self.wall_s, 1),
                 cpu_s=round(self.cpu_s, 1), spent=self.stream.spent)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    hyper = {**DEFAULTS, **(SMOKE if args.smoke else {})}
    try:
        Trainer(args.run, hyper).run()
    except CheckpointError as error:
        sys.exit("error: CheckpointError: %s" % error)


if __name__ == "__main__":
    main()
