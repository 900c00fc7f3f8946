"""Writes tests/ref/fixtures/logits.jsonl: Hugging Face's Llama in float32 on dequantised weights.

    python3 tests/ref/logits_fixtures.py models/SmolLM2-135M-Instruct.Q4_1.gguf

A line is {"ids", "logsumexp", "nll", "top": [[id, logit], ..], "greedy", "margin"}: top, the 50
largest logits of the last position; nll, the sum over positions 1.. of -log p(ids[i] | ids[<i]) in
nats; greedy, the next 48 tokens, end tokens included; margin, the smallest gap between the first
and the second logit on the way, below which two right programs may differ.
"""

import json
import pathlib
import sys

import numpy
import torch
from gguf import GGUFReader, dequantize
from transformers import LlamaConfig, LlamaForCausalLM

import gguf_vocab
import logits_texts

OUT = pathlib.Path(__file__).parent / "fixtures" / "logits.jsonl"
TOP, GREEDY = 50, 48

LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def halves(weight, heads):
    """Rotary pairs that are neighbours (GGUF) -> pairs that are half a head apart (transformers)."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def open_model(path):
    reader = GGUFReader(path)

    def value(key):
        return reader.fields["llama." + key].contents()

    config = LlamaConfig(
        vocab_size=value("vocab_size"), hidden_size=value("embedding_length"),
        intermediate_size=value("feed_forward_length"), num_hidden_layers=value("block_count"),
        num_attention_heads=value("attention.head_count"),
        num_key_value_heads=value("attention.head_count_kv"),
        max_position_embeddings=value("context_length"),
        rms_norm_eps=value("attention.layer_norm_rms_epsilon"), tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": value("rope.freq_base")},
        attn_implementation="eager")
    state = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        parts = tensor.name.split(".")
        if parts[0] == "token_embd":
            name = "model.embed_tokens.weight"
        elif parts[0] == "output_norm":
            name = "model.norm.weight"
        else:
            name = f"model.layers.{parts[1]}.{LAYER_NAMES[parts[2]]}.weight"
            if parts[2] == "attn_q":
                weight = halves(weight, config.num_attention_heads)
            elif parts[2] == "attn_k":
                weight = halves(weight, config.num_key_value_heads)
        state[name] = torch.from_numpy(numpy.ascontiguousarray(weight))
    model = LlamaForCausalLM(config).to(torch.float32).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and missing in ([], ["lm_head.weight"]), (missing, unexpected)
    model.tie_weights()
    return model


@torch.no_grad()
def measure(model, ids):
    out = model(torch.tensor([ids]), use_cache=True)
    logits = out.logits[0]
    log_p = torch.log_softmax(logits.double(), dim=-1)
    last = logits[-1]
    top = torch.topk(last, TOP)
    greedy, margin, cache = [], float("inf"), out.past_key_values
    while True:
        best = torch.topk(last, 2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        greedy.append(best.indices[0].item())
        if len(greedy) == GREEDY:
            break
        out = model(torch.tensor([greedy[-1:]]), past_key_values=cache, use_cache=True)
        last, cache = out.logits[0, -1], out.past_key_values
    return {
        "ids": ids,
        "logsumexp": round(torch.logsumexp(logits[-1].double(), dim=-1).item(), 6),
        "nll": round(-sum(log_p[i - 1, ids[i]].item() for i in range(1, len(ids))), 6),
        "top": [[i, round(v, 6)] for i, v in zip(top.indices.tolist(), top.values.tolist())],
        "greedy": greedy,
        "margin": round(margin, 6),
    }


def main():
    torch.set_num_threads(1)
    tokenizer = gguf_vocab.build(gguf_vocab.open_vocab(sys.argv[1]), "smollm")
    model = open_model(sys.argv[1])
    with open(OUT, "w") as out:
        for count, text in logits_texts.PROMPTS:
            ids = tokenizer.encode(text, add_special_tokens=False).ids[:count]
            assert len(ids) == count, (count, len(ids))
            line = measure(model, ids)
            out.write(json.dumps(line, separators=(",", ":")) + "\n")
            out.flush()
            print(count, "margin", line["margin"], repr(tokenizer.decode(line["greedy"])[:60]))


if __name__ == "__main__":
    main()
