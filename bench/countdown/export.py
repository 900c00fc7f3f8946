"""Writes a checkpoint's weights as GGUF, `llama` architecture, with a byte-level BPE tokenizer.

Usage: export.py RUN_DIR OUT.gguf
"""

import argparse
import sys
from pathlib import Path

import gguf_file
import train
import vocab
from gguf_file import ARRAY, BOOL, FLOAT32, INT32, STRING, UINT32

NORMAL, CONTROL = 1, 3
MOSTLY_BF16 = 32
KEYS = {"layers": "llama.block_count", "context": "llama.context_length",
        "hidden": "llama.embedding_length", "mlp": "llama.feed_forward_length",
        "heads": "llama.attention.head_count", "kv_heads": "llama.attention.head_count_kv",
        "eps": "llama.attention.layer_norm_rms_epsilon", "rope_base": "llama.rope.freq_base",
        "head_dim": "llama.rope.dimension_count", "vocab": "llama.vocab_size"}
PARTS = {"attn_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
         "ffn_norm": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}


def metadata(cfg):
    kinds = [CONTROL if i >= vocab.FIRST_SPECIAL else NORMAL for i in range(len(vocab.TOKENS))]
    return [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "coppice-countdown"),
        ("general.alignment", UINT32, gguf_file.ALIGNMENT),
        ("general.file_type", UINT32, MOSTLY_BF16),
        *((key, FLOAT32 if isinstance(cfg[own], float) else UINT32, cfg[own])
          for own, key in KEYS.items()),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "gpt-2"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, vocab.TOKENS)),
        ("tokenizer.ggml.token_type", ARRAY, (INT32, kinds)),
        ("tokenizer.ggml.merges", ARRAY, (STRING, [" ".join(m) for m in vocab.MERGES])),
        ("tokenizer.ggml.bos_token_id", UINT32, vocab.EOS),
        ("tokenizer.ggml.eos_token_id", UINT32, vocab.EOS),
        ("tokenizer.ggml.add_bos_token", BOOL, False),
        ("tokenizer.ggml.add_eos_token", BOOL, False),
    ]


def names(layers):
    """(name in the GGUF, name in the PyTorch model) in file order.

    The output matrix is the tied embedding and is left out, as the `llama` architecture allows.
    """
    pairs = [("token_embd.weight", "embed.weight")]
    for i in range(layers):
        pairs += [("blk.%d.%s.weight" % (i, gguf), "layers.%d.%s.weight" % (i, own))
                  for own, gguf in PARTS.items()]
    return pairs + [("output_norm.weight", "norm.weight")]


def write(state, path):
    cfg, weights = state["config"], state["model"]
    gguf_file.write(path, metadata(cfg), [(g, weights[own]) for g, own in names(cfg["layers"])])


def read(path):
    """An exported file as {config, model}: the weights exactly as other runtimes see them."""
    found, tensors = gguf_file.read(path)
    if found.get("tokenizer.ggml.tokens") != vocab.TOKENS:
        raise gguf_file.GgufError("%s: its vocabulary is not this recipe's" % path)
    cfg = {own: found[key] for own, key in KEYS.items()}
    return {"config": cfg, "model": {own: tensors[g] for g, own in names(cfg["layers"])}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    try:
        state = train.newest_checkpoint(args.run)
    except train.CheckpointError as error:
        sys.exit("error: CheckpointError: %s" % error)
    if not state:
        sys.exit("error: %s: no checkpoint there" % args.run)
    write(state, args.out)
    print("%s: %d bytes, step %d, %d tokens"
          % (args.out, args.out.stat().st_size, state["step"], state["tokens"]))


if __name__ == "__main__":
    main()
