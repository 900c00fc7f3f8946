"""Writes tests/ref/fixtures/tokenizer*.jsonl: {"text", "ids"} by Hugging Face's tokenizers library.

    python3 tests/ref/tokenizer_fixtures.py models/SmolLM2-135M-Instruct.Q4_1.gguf

tokenizer.jsonl          the model's own pre-tokenizer, text of special tokens parsed
tokenizer_plain.jsonl    the same, text of special tokens as ordinary text
pieces.jsonl             {"text", <pre>: [bytes of each piece]}: what the pre-tokenizers cut, all four,
                         since SmolLM2's merges hide most of the differences between them

"lossy": true marks a text with a byte that the vocabulary lacks; the library leaves it out.
"""

import json
import pathlib
import sys

import gguf_vocab
import tokenizer_texts

OUT = pathlib.Path(__file__).parent / "fixtures"


def write(name, tokenizer, texts):
    with open(OUT / name, "w") as out:
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            line = {"text": text, "ids": ids}
            if tokenizer.decode(ids, skip_special_tokens=False) != text:
                line["lossy"] = True
            out.write(json.dumps(line, separators=(",", ":")) + "\n")
    print(name, len(texts))


def write_pieces(name, texts):
    """Byte lengths of the pieces; "=" stands for the same cuts as the pre-tokenizer before."""
    splitters = {pre: gguf_vocab.pre_tokenizer(pre) for pre in gguf_vocab.NAMES}
    with open(OUT / name, "w") as out:
        for text in texts:
            line, before = {"text": text}, None
            for pre, splitter in splitters.items():
                pieces = [len(text[begin:end].encode())
                          for _, (begin, end) in splitter.pre_tokenize_str(text)]
                line[pre] = "=" if pieces == before else pieces
                before = pieces
            out.write(json.dumps(line, separators=(",", ":")) + "\n")
    print(name, len(texts))


def main():
    vocab = gguf_vocab.open_vocab(sys.argv[1])
    OUT.mkdir(exist_ok=True)
    texts = tokenizer_texts.all_texts()
    write("tokenizer.jsonl", gguf_vocab.build(vocab, "smollm"), texts)
    plain = gguf_vocab.build(vocab, "smollm")
    plain.encode_special_tokens = True
    write("tokenizer_plain.jsonl", plain, tokenizer_texts.SPECIALS)
    write_pieces("pieces.jsonl", [text for text in texts if len(text) < 400])


if __name__ == "__main__":
    main()
