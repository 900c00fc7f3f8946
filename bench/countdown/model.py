"""A Llama-shaped decoder: RMSNorm, RoPE on interleaved pairs, grouped-query attention, SwiGLU, tied
embeddings.  Interleaved pairs are the GGUF `llama` convention, so export permutes nothing.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

import vocab


@dataclass
class Config:
    hidden: int = 192
    layers: int = 4
    heads: int = 3
    kv_heads: int = 1
    head_dim: int = 64
    mlp: int = 512
    vocab: int = vocab.VOCAB_SIZE
    context: int = 2048
    rope_base: float = 10000.0
    eps: float = 1e-5

    def as_dict(self):
        return asdict(self)


def rope_tables(cfg, positions):
    """cos and sin, [positions, 1, head_dim / 2]."""
    half = torch.arange(0, cfg.head_dim, 2, dtype=torch.float64) / cfg.head_dim
    angle = positions[:, None].double() * cfg.rope_base ** -half
    return angle.cos().float()[:, None], angle.sin().float()[:, None]


def rotate(x, cos, sin):
    """x [.., heads, head_dim], cos and sin broadcast over heads."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Norm(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(cfg.hidden)), cfg.eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Layer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        width, kv = cfg.heads * cfg.head_dim, cfg.kv_heads * cfg.head_dim
        self.attn_norm, self.ffn_norm = Norm(cfg), Norm(cfg)
        self.q = nn.Linear(cfg.hidden, width, bias=False)
        self.k = nn.Linear(cfg.hidden, kv, bias=False)
        self.v = nn.Linear(cfg.hidden, kv, bias=False)
        self.o = nn.Linear(width, cfg.hidden, bias=False)
        self.gate = nn.Linear(cfg.hidden, cfg.mlp, bias=False)
        self.up = nn.Linear(cfg.hidden, cfg.mlp, bias=False)
        self.down = nn.Linear(cfg.mlp, cfg.hidden, bias=False)

    def qkv(self, x, cos, sin):
        h, c = self.attn_norm(x), self.cfg
        q = rotate(self.q(h).unflatten(-1, (c.heads, c.head_dim)), cos, sin)
        k = rotate(self.k(h).unflatten(-1, (c.kv_heads, c.head_dim)), cos, sin)
        return q, k, self.v(h).unflatten(-1, (c.kv_heads, c.head_dim))

    def attend(self, q, k, v, mask):
        """mask: None for causal, else additive [B, 1, Q, K]."""
        repeat = self.cfg.heads // self.cfg.kv_heads
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.o(y.transpose(1, 2).flatten(-2))

    def mlp(self, x):
        h = self.ffn_norm(x)
        return self.down(F.silu(self.gate(h)) * self.up(h))


def number_features(width):
    """Fourier features of 1..100, scaled like the other embeddings."""
    n = torch.arange(1, 101, dtype=torch.float64)[:, None]
    periods = torch.tensor([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 16, 17, 19, 20, 25, 32, 50, 64, 100,
                            128, 200, 400], dtype=torch.float64)
    angle = 2 * math.pi * n / periods
    waves = torch.cat((angle.cos(), angle.sin(), n / 100, (n / 100) ** 2, n.log() / 4), 1).float()
    out = torch.zeros(100, width)
    out[:, :waves.shape[1]] = waves[:, :width]
    return out / waves.square().sum(1).mean().sqrt()


class Model(nn.Module):
    def __init__(self, cfg, seed=0):
        super().__init__()
        self.cfg = cfg
        torch.manual_seed(seed)
        self.embed = nn.Embedding(cfg.vocab, cfg.hidden)
        self.layers = nn.ModuleList(Layer(cfg) for _ in range(cfg.layers))
        self.norm = Norm(cfg)
        with torch.no_grad():
            self._init()
        cos, sin = rope_tables(cfg, torch.arange(cfg.context))
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def _init(self):
        c = self.cfg
        for name, p in self.named_parameters():
            if p.dim() == 2:
                p.normal_(0, p.shape[1] ** -0.5)
                if name.endswith(("o.weight", "down.weight")):
                    p.mul_((2 * c.layers) ** -0.5)
        e = self.embed.weight
        e.mul_(0.5)
        features, marker = number_features(c.hidden), torch.randn(c.hidden) * c.hidden ** -0.5
        for n in range(1, 101):
            e[vocab.ID[n]] = 0.3 * e[vocab.ID[n]] + features[n - 1]
        for t in range(10, 100):
            e[vocab.ID["T%d" % t]] = e[vocab.ID[t]] + marker

    def trunk(self, tokens, pos, mask=None):
        x, cos, sin = self.embed(tokens), self.cos[pos], self.sin[pos]
        for layer in self.layers:
            x = x + layer.attend(*layer.qkv(x, cos, sin), mask)
            x = x + layer.mlp(x)
        return self.norm(x)

    def loss(self, tokens, pos, targets, weight, mask=None):
        """Mean cross-entropy where weight is 1, and how many of those were predicted right."""
        logits = self.trunk(tokens, pos, mask) @ self.embed.weight.T
        nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        w = weight.flatten()
        right = ((logits.argmax(-1) == targets) * weight).sum()
        return (nll * w).sum() / w.sum().clamp(min=1), right


def stitch_mask(group, stride):
    """Additive mask [B, 1, T, T]: causal, and siblings of one block do not see each other."""
    length = group.shape[1]
    q, k = group[:, :, None], group[:, None, :]
    siblings = (q > 0) & (k > 0) & (q != k) & ((q - 1) // stride == (k - 1) // stride)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    return torch.zeros(siblings.shape).masked_fill(siblings | future, float("-inf"))[:, None]
