"""Greedy decoding in PyTorch, f32, many rows at once over one KV cache.

A cache row holds its keys in the order in which they may be seen; position and slot are separate,
so a stitched conclusion is a row whose cache was put together from its threads' rows.  A finished
row keeps stepping into its first free slot, which the next real token overwrites.
"""

import torch
import torch.nn.functional as F

import model as model_file


class Cache:
    """k, v [layers, rows, slots, kv_heads, head_dim]; length and next position of each row."""

    def __init__(self, cfg, rows, slots):
        shape = (cfg.layers, rows, slots, cfg.kv_heads, cfg.head_dim)
        self.k, self.v = torch.zeros(shape), torch.zeros(shape)
        self.length = torch.zeros(rows, dtype=torch.long)
        self.pos = torch.zeros(rows, dtype=torch.long)

    def take(self, rows, slots=None):
        """A new cache with copies of some rows, a row as often as it is named."""
        other = Cache.__new__(Cache)
        top = slots or self.k.shape[2]
        used = min(top, int(self.length[rows].max()) + 1)
        for name in ("k", "v"):
            old = getattr(self, name)
            new = torch.zeros(old.shape[0], len(rows), top, *old.shape[3:])
            new[:, :, :used] = old[:, rows, :used]
            setattr(other, name, new)
        other.length, other.pos = self.length[rows].clone(), self.pos[rows].clone()
        return other


def attend(layer, q, k, v, mask):
    """Attention without copies of k and v: the heads of a group stand as further query rows."""
    n, size, heads, width = q.shape
    kv, repeat = k.shape[2], heads // k.shape[2]
    q = q.reshape(n, size, kv, repeat, width).permute(0, 2, 3, 1, 4).flatten(2, 3)
    y = F.scaled_dot_product_attention(q, k.transpose(1, 2), v.transpose(1, 2),
                                       attn_mask=mask.repeat(1, 1, repeat, 1))
    y = y.unflatten(2, (repeat, size)).permute(0, 3, 1, 2, 4)
    return layer.o(y.flatten(2))


@torch.inference_mode()
def feed(model, cache, tokens, count):
    """Appends tokens [rows, S], the first count[row] of them real; logits after the last real."""
    rows, size = tokens.shape
    step = torch.arange(size)
    slot = cache.length[:, None] + step
    pos = (cache.pos[:, None] + step).clamp(max=model.cfg.context - 1)
    top = int(slot.max()) + 1
    hidden = torch.arange(top)[None, None] > slot[:, :, None]
    mask = torch.zeros(hidden.shape).masked_fill(hidden, float("-inf"))[:, None]
    row = torch.arange(rows)[:, None]
    x, cos, sin = model.embed(tokens), model.cos[pos], model.sin[pos]
    for i, layer in enumerate(model.layers):
        q, k, v = layer.qkv(x, cos, sin)
        cache.k[i][row, slot], cache.v[i][row, slot] = k, v
        x = x + attend(layer, q, cache.k[i][:, :top], cache.v[i][:, :top], mask)
        x = x + layer.mlp(x)
    cache.length += count
    cache.pos += count
    last = x[torch.arange(rows), (count - 1).clamp(min=0)]
    return model.norm(last) @ model.embed.weight.T


def feed_lists(model, cache, lists):
    """Appends a list of ids to each row (all of them non-empty)."""
    count = torch.tensor([len(x) for x in lists])
    tokens = torch.zeros(len(lists), int(count.max()), dtype=torch.long)
    for i, x in enumerate(lists):
        tokens[i, :len(x)] = torch.tensor(x)
    return feed(model, cache, tokens, count)


class Margins:
    """The smallest gap between best and second logit seen so far: how near greedy came to a tie."""

    smallest = float("inf")

    @classmethod
    def note(cls, gaps, live):
        cls.smallest = min([cls.smallest, *(g for g, a in zip(gaps, live) if a)])


def generate(model, cache, logits, stops, limit):
    """Greedy tokens of each row up to and with a stop token, all of them fed to the cache."""
    rows = logits.shape[0]
    out, live = [[] for _ in range(rows)], [True] * rows
    for _ in range(limit):
        top, order = logits.topk(2)
        best = order[:, 0].tolist()
        Margins.note((top[:, 0] - top[:, 1]).tolist(), live)
        fed = torch.tensor([int(a) for a in live])
        for i, token in enumerate(best):
            if live[i]:
                out[i].append(token)
                live[i] = token not in stops
        logits = feed(model, cache, torch.tensor(best)[:, None], fed)
        if not any(live):
            break
    return out


def load_model(state):
    cfg = model_file.Config(**state["config"])
    model = model_file.Model(cfg)
    model.load_state_dict(state["model"])
    return model.eval()


def round_bf16(model):
    """Matrices as they are exported, so that f32 runs elsewhere have the same weights."""
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 2:
                p.copy_(p.bfloat16().float())
    return model
