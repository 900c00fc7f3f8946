"""Writes the seeds of tests/fuzz/fuzz_tokenizer.c: python3 tests/ref/tokenizer_corpus.py

Needs nothing but Python. The files are committed; run this again after changing the format of the
fuzz target's input."""

import pathlib
import struct

import tokenizer_texts

OUT = pathlib.Path(__file__).parents[1] / "fuzz" / "corpus" / "tokenizer"


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def texts(values):
    return struct.pack("<IQ", 8, len(values)) + b"".join(map(text, values))


def gguf(tokens, merges, types, pre="smollm", extra=()):
    keys = [
        key("tokenizer.ggml.model", 8, text("gpt2")),
        key("tokenizer.ggml.pre", 8, text(pre)),
        key("tokenizer.ggml.tokens", 9, texts(tokens)),
        key("tokenizer.ggml.merges", 9, texts(merges)),
        key("tokenizer.ggml.token_type", 9,
            struct.pack(f"<IQ{len(types)}i", 5, len(types), *types)),
        *extra,
    ]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys)


def seeds():
    samples = ["don't 12345  x\n\n<|x|>y", "été 漢字\u3000\u00a0 '\u017f", "abab" * 20, " \t\r\n" * 9,
               *tokenizer_texts.EMOJI[:4], *tokenizer_texts.CODE[:4], *tokenizer_texts.COMBINING[:4]]
    for i, sample in enumerate(samples):
        yield f"text-{i:02}", bytes([i % 8]) + sample.encode()
    yield "text-bytes", b"\0" + bytes(range(256))
    yield "text-broken", b"\2\xff\xe2\x82\xc0\xaf ab\xed\xa0\x80\xf0\x9f"
    tokens = ["a", "b", "ab", "\u0120", "\u0120a", "<|x|>", "'", "1"]
    types = [1, 1, 1, 1, 1, 3, 1, 1]
    merges = ["a b", "\u0120 a"]
    ids = [key("tokenizer.ggml.bos_token_id", 4, struct.pack("<I", 5)),
           key("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 5)),
           key("tokenizer.ggml.add_bos_token", 7, b"\1")]
    files = {
        "good": gguf(tokens, merges, types),
        "ids": gguf(tokens, merges, types, "llama-bpe", ids),
        "bos-range": gguf(tokens, merges, types, "qwen2",
                          [key("tokenizer.ggml.bos_token_id", 4, struct.pack("<I", 8))]),
        "doubled": gguf(tokens[:7] + ["a"], merges, types),
        "merge-unknown": gguf(tokens, ["a b", "b z"], types),
        "merge-blank": gguf(tokens, ["ab"], types),
        "type-range": gguf(tokens, merges, [9] * 8),
        "type-count": gguf(tokens, merges, types[:7]),
        "pre": gguf(tokens, merges, types, "none"),
        "utf8": gguf(tokens[:7] + [b"\xc3("], merges, types),
        "empty-special": gguf(tokens[:7] + [""], merges, types[:7] + [3]),
    }
    for name, data in files.items():
        yield "file-" + name, b"\x80" + data


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, data in seeds():
        (OUT / name).write_bytes(data)


if __name__ == "__main__":
    main()
