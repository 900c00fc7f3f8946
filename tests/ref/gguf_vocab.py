"""The tokenizer of a GGUF as Hugging Face's `tokenizers` library runs it.

transformers loses the single-digit pre-tokenizer when it reads a GGUF, so the tokenizer is built
here from the vocabulary and the merges, with the pre-tokenizer that the model was trained with.
"""

from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
NAMES = ("smollm", "gpt-2", "llama-bpe", "qwen2")


def pre_tokenizer(name):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    if name == "gpt-2":
        return byte_level
    pattern = {"llama-bpe": LLAMA3, "qwen2": QWEN2}[name]
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def open_vocab(path):
    """(tokens, merges, token types) of a GGUF."""
    fields = GGUFReader(path).fields
    return tuple(fields["tokenizer.ggml." + key].contents()
                 for key in ("tokens", "merges", "token_type"))


def build(vocab, name):
    tokens, merges, types = vocab
    tokenizer = Tokenizer(models.BPE(
        vocab={text: i for i, text in enumerate(tokens)},
        merges=[tuple(line.split(" ")) for line in merges],
        ignore_merges=name == "llama-bpe"))
    tokenizer.pre_tokenizer = pre_tokenizer(name)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([
        AddedToken(text, special=True, normalized=False)
        for text, kind in zip(tokens, types) if kind == 3])
    return tokenizer
