"""Building blocks shared by every transformer of the study: pre-norm blocks, patch embedding, random masking.

Sources: Vaswani et al. 2017 (arXiv 1706.03762) for attention and sine positions, Dosovitskiy et al. 2021
(arXiv 2010.11929) for patches, He et al. 2022 (arXiv 2111.06377) for encoding visible tokens only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Attention(nn.Module):
    """Multi-head self-attention, (b, n, d) -> (b, n, d)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens (b, n, d)."""
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v)
        y: Tensor = self.out(rearrange(mixed, "b h n e -> b n (h e)"))
        return y

    def weights(self, x: Tensor) -> Tensor:
        """Attention of every token to every token, (b, n, d) -> (b, h, n, n); for looking, not for training."""
        q, k, _ = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.heads)
        scores: Tensor = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        return scores.softmax(-1)


class Block(nn.Module):
    """Pre-norm transformer block, (b, n, d) -> (b, n, d)."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Attend, then transform each token; both residual."""
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class Transformer(nn.Module):
    """``depth`` blocks and a final norm, (b, n, d) -> (b, n, d)."""

    def __init__(self, dim: int, depth: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.recompute = False  # activation checkpointing (Chen et al. 2016, arXiv 1604.06174) in training

    def forward(self, x: Tensor) -> Tensor:
        """All blocks in turn."""
        again = self.recompute and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        y: Tensor = self.norm(x)
        return y


def sine_positions(count: int, dim: int) -> Tensor:
    """Sine and cosine code of positions 0 .. count-1, (count, dim); dim is even."""
    rates = torch.exp(torch.arange(0, dim, 2) * (-torch.log(torch.tensor(10000.0)) / dim))
    angles = torch.arange(count).float()[:, None] * rates  # (count, dim / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def sine_positions_2d(rows: int, columns: int, dim: int) -> Tensor:
    """Half of the code for the row, half for the column, (rows * columns, dim); dim is a multiple of 4."""
    down = sine_positions(rows, dim // 2)[:, None].expand(-1, columns, -1)
    across = sine_positions(columns, dim // 2)[None].expand(rows, -1, -1)
    return torch.cat([down, across], dim=-1).flatten(0, 1)


def keep_visible(noise: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The ``keep`` tokens of lowest noise (b, n): indices (b, keep), ascending, and mask (b, n), 1 = hidden."""
    visible = noise.argsort(dim=1)[:, :keep].sort(dim=1).values
    hidden = torch.ones_like(noise).scatter_(1, visible, 0.0)
    return visible, hidden


def hidden_tokens(hidden: Tensor, visible: int) -> Tensor:
    """Indices (b, h), ascending, of what a mask (b, n) hides, 1 = hidden, where ``visible`` tokens of every row are 0.

    A shape that does not depend on values lets an accelerator go on without waiting and a planner count.
    """
    return hidden.argsort(dim=1, descending=True, stable=True)[:, : hidden.shape[1] - visible]


def take_tokens(x: Tensor, index: Tensor) -> Tensor:
    """Tokens (b, n, d) at ``index`` (b, k) -> (b, k, d)."""
    rows = torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    return x.flatten(0, 1).index_select(0, (rows + index).flatten()).reshape(*index.shape, x.shape[-1])


def put_tokens(x: Tensor, index: Tensor, fill: Tensor, count: int) -> Tensor:
    """Tokens (b, k, d) back at ``index`` among ``count``, the others ``fill`` (d,) -> (b, count, d)."""
    full = fill.to(x.dtype).expand(len(x), count, -1)
    return full.index_put((torch.arange(len(x), device=x.device)[:, None], index), x)


def initialise(module: nn.Module) -> None:
    """Xavier-uniform matrices and zero biases, as masked auto-encoders start; use with ``model.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
