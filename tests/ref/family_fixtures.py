"""Writes tests/ref/fixtures/{qwen2,qwen3}.gguf and families.jsonl: Hugging Face's Qwen2 and Qwen3 in
float32 on tiny random weights, and those weights in a file of the gguf package.

    python3 tests/ref/family_fixtures.py

Keys and tensor names of the files come from the gguf package, which llama.cpp's own converter uses,
not from this project; transformers reads the finished files back by its own names and must give the
same logits. Matrices are Q8_0, and the model computes with what they stand for; norms and biases are
F32 and large enough to be missed: without any one of them, or with another pairing of the rotary
embedding, logits change by more than 0.1 (checked here).

A line is {"family", "ids", "logits", "nll", "greedy", "margin"}: logits of the last position; nll, the
sum over positions 1.. of -log p(ids[i] | ids[<i]) in nats; greedy, the next tokens; margin, the
smallest gap between the first and the second logit on the way, below which two right programs may
differ.
"""

import json
import pathlib

import gguf
import numpy
import torch
from transformers import (AutoConfig, AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM,
                          Qwen3Config, Qwen3ForCausalLM)

OUT = pathlib.Path(__file__).parent / "fixtures"
LAYERS, HIDDEN, HEADS, KV_HEADS, FFN, VOCAB, CONTEXT = 2, 64, 4, 2, 96, 160, 512
THETA, EPS = 1000000.0, 1e-6
LENGTHS = (1, 5, 33, 100)  # of the prompts
GREEDY = 24

FAMILIES = {
    "qwen2": (gguf.MODEL_ARCH.QWEN2, Qwen2Config, Qwen2ForCausalLM, HIDDEN // HEADS),
    "qwen3": (gguf.MODEL_ARCH.QWEN3, Qwen3Config, Qwen3ForCausalLM, 32),
}


def random_weight(rng, name, shape):
    if name.endswith("norm.weight"):
        return 1 + 0.3 * rng.standard_normal(shape)
    if name.endswith(".bias"):
        return rng.standard_normal(shape)
    scale = 1 if name.startswith("model.embed_tokens") else 1.5 / shape[1] ** 0.5
    return scale * rng.standard_normal(shape)


def build(family, tied):
    _, make_config, make_model, head_dim = FAMILIES[family]
    sizes = {"head_dim": head_dim} if family == "qwen3" else {}
    config = make_config(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=FFN, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=CONTEXT,
        rms_norm_eps=EPS, tie_word_embeddings=tied, use_sliding_window=False,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        attn_implementation="eager", **sizes)
    model = make_model(config).to(torch.float32).eval()
    model.tie_weights()
    return model


def stored(name, weight):
    """What goes into the file, and what that stands for."""
    if weight.ndim == 1:
        return weight, gguf.GGMLQuantizationType.F32, weight
    kind = gguf.GGMLQuantizationType.Q8_0
    data = gguf.quants.quantize(weight, kind)
    return data, kind, gguf.quants.dequantize(data, kind)


def write_metadata(writer, family):
    head_dim = FAMILIES[family][3]
    writer.add_name(f"tiny {family}")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(THETA)
    writer.add_layer_norm_rms_eps(EPS)
    if family == "qwen3":
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def fill(model, family, path, seed):
    """Random weights into the model and into the file."""
    rng = numpy.random.default_rng(seed)
    arch = FAMILIES[family][0]
    names = gguf.get_tensor_name_map(arch, LAYERS)
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    write_metadata(writer, family)
    parameters = dict(model.named_parameters())  # a tied output stands there once
    for name, parameter in parameters.items():
        weight = random_weight(rng, name, tuple(parameter.shape)).astype(numpy.float32)
        data, kind, meant = stored(name, weight)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(meant.copy()))
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids])).logits[0]


def measure(model, family, ids):
    logits = logits_of(model, ids)
    log_p = torch.log_softmax(logits.double(), dim=-1)
    greedy, margin = [], float("inf")
    for _ in range(GREEDY):
        best = torch.topk(logits_of(model, ids + greedy)[-1], 2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        greedy.append(best.indices[0].item())
    return {
        "family": family,
        "ids": ids,
        "logits": [round(v, 5) for v in logits[-1].tolist()],
        "nll": round(-sum(log_p[i - 1, ids[i]].item() for i in range(1, len(ids))), 5),
        "greedy": greedy,
        "margin": round(margin, 5),
    }


@torch.no_grad()
def check_that_it_shows(model, family, ids):
    """What sets the family apart cannot be left out without moving the logits."""
    right = logits_of(model, ids)[-1]
    for name, parameter in model.named_parameters():
        if not name.endswith((".bias", "q_norm.weight", "k_norm.weight")):
            continue
        kept = parameter.clone()
        parameter.copy_(torch.full_like(kept, 0.0 if name.endswith(".bias") else 1.0))
        moved = (logits_of(model, ids)[-1] - right).abs().max().item()
        parameter.copy_(kept)
        assert moved > 0.1, (name, moved)
    neighbours = build(family, model.config.tie_word_embeddings)
    neighbours.load_state_dict(model.state_dict())
    for layer in neighbours.model.layers:
        for part in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            d = FAMILIES[family][3]
            order = torch.arange(d).reshape(2, d // 2).T.reshape(-1)
            for tensor in part.parameters():
                rows = tensor.reshape(-1, d, *tensor.shape[1:])
                tensor.copy_(rows[:, order].reshape(tensor.shape))
    moved = (logits_of(neighbours, ids)[-1] - right).abs().max().item()
    assert moved > 0.1, moved


def check_that_transformers_reads_it(model, path, ids):
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    config.vocab_size = VOCAB  # transformers counts a tokenizer's tokens, and there is none
    if hasattr(config, "head_dim"):
        config.head_dim = model.config.head_dim  # nor does it read attention.key_length
    for key in ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers",
                "num_attention_heads", "num_key_value_heads", "max_position_embeddings",
                "rms_norm_eps", "tie_word_embeddings"):
        ours, theirs = (getattr(c, key, None) for c in (model.config, config))
        assert ours == theirs or abs(ours - theirs) < 1e-9, (key, ours, theirs)
    assert config.rope_parameters["rope_theta"] == THETA, config.rope_parameters
    again = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, config=config, dtype=torch.float32,
        attn_implementation="eager").eval()
    assert type(again) is type(model), type(again)
    moved = (logits_of(again, ids) - logits_of(model, ids)).abs().max().item()
    assert moved < 1e-4, moved


def main():
    torch.set_num_threads(1)
    with open(OUT / "families.jsonl", "w") as out:
        for seed, family in enumerate(FAMILIES):
            path = OUT / f"{family}.gguf"
            model = build(family, tied=family == "qwen2")
            fill(model, family, path, seed + 1)
            rng = numpy.random.default_rng(100 + seed)
            prompts = [rng.integers(0, VOCAB, n).tolist() for n in LENGTHS]
            check_that_it_shows(model, family, prompts[-1])
            check_that_transformers_reads_it(model, path, prompts[-1])
            for ids in prompts:
                line = measure(model, family, ids)
                out.write(json.dumps(line, separators=(",", ":")) + "\n")
                print(family, len(ids), "margin", line["margin"], "largest logit",
                      max(abs(v) for v in line["logits"]), path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
