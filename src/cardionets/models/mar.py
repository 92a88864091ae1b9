"""Masked autoregressive generator of cine tokens from an ECG, with a flow-matching or a diffusion head per token.

Li et al. 2024 (arXiv 2406.11838): a masked auto-encoder predicts, for each hidden token, a condition z, and a small
network samples the continuous token given z; generation reveals tokens in a random order over few iterations. The
prefix is the sequence of the ECG encoder's tokens, dropped at random in training so that guidance (Ho & Salimans 2022,
arXiv 2207.12598) can sharpen the link to the patient. Flow head: Lipman et al. 2023 (arXiv 2210.02747), straight paths
and few Euler steps. Diffusion head: cosine schedule of Nichol & Dhariwal 2021 (arXiv 2102.09672), noise prediction,
deterministic DDIM steps (arXiv 2010.02502).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Literal

import torch
import torch.nn.functional as F
from einops import repeat
from pydantic import Field, model_validator
from torch import Tensor, nn

from cardionets.config import Settings
from cardionets.device import Draw
from cardionets.models.layers import Transformer, hidden_tokens, initialise, keep_visible, put_tokens, take_tokens
from cardionets.train import Batch, TrainSettings

MASK_SD = 0.25  # of the truncated normal about 1 that training's mask ratios follow, as published
DIFFUSION_STEPS = 1000  # resolution of the diffusion head's time


class SampleSettings(Settings):
    """How tokens are drawn from a trained generator."""

    iterations: int = Field(gt=0)  # rounds in which the sequence is revealed, along a cosine
    steps: int = Field(gt=0, le=DIFFUSION_STEPS)  # Euler or DDIM steps per token
    guidance: float = Field(
        default=1.0, ge=0, le=20
    )  # 1 = the model itself; above 1 it leans further towards the ECG; far above, pictures burn out
    temperature: float = Field(
        default=1.0, gt=0, le=1
    )  # share kept of what is drawn about the linear guess: 1 = the model's own spread; low = the likeliest


class MarSettings(Settings):
    """Sizes and budget of the generator."""

    dim: int = Field(gt=0)
    encoder_depth: int = Field(gt=0)
    decoder_depth: int = Field(gt=0)
    heads: int = Field(gt=0)
    head: Literal["flow", "diffusion"] = "flow"
    head_width: int = Field(gt=0)
    head_depth: int = Field(gt=0)
    head_draws: int = Field(
        default=4, gt=0
    )  # noise levels per hidden token and step: the head is cheap, the trunk is not
    patch: tuple[int, int, int] = (1, 2, 2)  # frames, rows, columns of tokens drawn as one; published: (5, 2, 2)
    groups: int = Field(default=5, gt=0)  # stretches of time that the ECG prefix tells apart
    min_mask: float = Field(default=0.7, gt=0, lt=1)  # least share of hidden tokens in training
    latent_flow: int = Field(
        default=0, ge=0
    )  # Euler steps of the older approach, trained beside it on the same budget; 0 = no
    drop_condition: float = Field(default=0.1, ge=0, lt=1)  # share of rows that see no ECG, for guidance
    sample: SampleSettings
    train: TrainSettings

    @model_validator(mode="after")
    def _fits(self) -> MarSettings:
        if self.dim % self.heads:
            raise ValueError("dim must be a multiple of heads")
        return self


class HeadBlock(nn.Module):
    """Residual layer with scale, shift and gate, (n, w) x (n, 3 w) -> (n, w); :meth:`TokenHead.forward` makes them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.body = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.modulate = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """One modulated layer."""
        scale, shift, gate = modulation.chunk(3, dim=-1)
        y: Tensor = x + gate * self.body(self.norm(x) * (1 + scale) + shift)
        return y


class TokenHead(nn.Module):
    """Velocity or noise of a noisy token given its condition z and time, (n, c), (n, d), (n,) -> (n, c)."""

    def __init__(self, channels: int, dim: int, width: int, depth: int) -> None:
        super().__init__()
        self.register_buffer("rates", torch.exp(torch.linspace(0, math.log(1000.0), width // 2)), persistent=False)
        self.embed = nn.Linear(channels, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(HeadBlock(width) for _ in range(depth))
        self.out = nn.Linear(width, channels)
        self.apply(initialise)
        for block in self.blocks:
            assert isinstance(block, HeadBlock)
            nn.init.zeros_(block.modulate.weight)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, z: Tensor, time: Tensor) -> Tensor:
        """``time`` runs from 0 (noise) to 1 (token)."""
        return self.apply_modulation(x, self.modulation(self.condition(z) + self.clock(time), bias=True))

    def clock(self, time: Tensor) -> Tensor:
        """Embedding (n, w) of times (n,)."""
        angles = time[:, None] * self.get_buffer("rates")  # (n, width / 2)
        embedded: Tensor = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        return embedded

    def modulation(self, condition: Tensor, bias: bool) -> list[Tensor]:
        """Scale, shift and gate (n, 3 w) of every block from (n, w).

        Linear: what z and what time contribute may be computed apart and added, the bias with one of them.
        """
        layers = [block.get_submodule("modulate") for block in self.blocks]
        return [
            F.linear(condition, m.get_parameter("weight"), m.get_parameter("bias") if bias else None) for m in layers
        ]

    def apply_modulation(self, x: Tensor, modulation: Sequence[Tensor]) -> Tensor:
        """Noisy tokens (n, c) through all blocks -> (n, c)."""
        hidden = self.embed(x)
        for block, part in zip(self.blocks, modulation):
            hidden = block(hidden, part)
        y: Tensor = self.out(hidden)
        return y


def signal_share(time: Tensor) -> Tensor:
    """Share of signal variance at ``time`` of the diffusion head, cosine schedule with the published offset 0.008."""
    noise = (1 - time).clamp(0, 1)
    return (torch.cos((noise + 0.008) / 1.008 * math.pi / 2) ** 2).clamp(1e-4, 1 - 1e-4)


class Conditioned(nn.Module):
    """What every generator knows of the ECG, and how it is kept from knowing it."""

    def __init__(self, dim: int, channels: int, condition: tuple[int, int]) -> None:
        super().__init__()
        prefix, width = condition
        self.condition = nn.Linear(width, dim)
        self.condition.apply(initialise)
        self.no_condition = nn.Parameter(torch.randn(prefix, dim) * 0.02)
        self.prefix_position = nn.Parameter(torch.randn(prefix, dim) * 0.02)
        self.guess = nn.Linear(channels, dim)
        nn.init.zeros_(self.guess.weight)  # the hints start as nothing
        nn.init.zeros_(self.guess.bias)

    def known(self, condition: Tensor, guess: Tensor, dropped: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the ECG says: prefix tokens (b, m, d) of its tokens (b, m, e), and hints (b, n, d) at every place.

        Hints come from the linear ``guess`` (b, n, c) of the tokens. Rows where ``dropped`` (b,) see neither.
        """
        prefix, hints = self.condition(condition), self.guess(guess)
        if dropped is not None:
            prefix = torch.where(dropped[:, None, None], self.no_condition, prefix)
            hints = hints.masked_fill(dropped[:, None, None], 0.0)
        return prefix + self.prefix_position, hints


class Mar(Conditioned):
    """Masked autoregressive transformer over the tokens of both views, conditioned on a prefix of ECG tokens."""

    def __init__(self, settings: MarSettings, tokens: int, channels: int, condition: tuple[int, int]) -> None:
        """``tokens`` x ``channels`` to generate; ``condition`` = (prefix length m, its width e)."""
        super().__init__(settings.dim, channels, condition)
        self.settings, self.tokens, self.channels = settings, tokens, channels
        s, (prefix, _) = settings, condition
        self.embed = nn.Linear(channels, s.dim)
        self.position = nn.Parameter(torch.randn(tokens, s.dim) * 0.02)
        self.decoder_position = nn.Parameter(torch.randn(prefix + tokens, s.dim) * 0.02)
        self.hidden = nn.Parameter(torch.randn(s.dim) * 0.02)
        self.encoder = Transformer(s.dim, s.encoder_depth, s.heads)
        self.decoder = Transformer(s.dim, s.decoder_depth, s.heads)
        for module in (self.embed, self.encoder, self.decoder):
            module.apply(initialise)
        self.head = TokenHead(channels, s.dim, s.head_width, s.head_depth)

    def predict(self, x: Tensor, visible: Tensor, known: tuple[Tensor, Tensor]) -> Tensor:
        """Conditions z (b, n, d) of all tokens from those at ``visible`` (b, k) and :meth:`known`; x (b, n, c)."""
        prefix, hints = known
        m = prefix.shape[1]
        seen = take_tokens(self.embed(x) + self.position + hints, visible)
        encoded = self.encoder(torch.cat([prefix, seen], dim=1))  # (b, m + k, d)
        full = put_tokens(encoded[:, m:], visible, self.hidden, self.tokens) + hints
        decoded = self.decoder(torch.cat([encoded[:, :m], full], dim=1) + self.decoder_position)
        z: Tensor = decoded[:, m:]
        return z

    def head_loss(self, x: Tensor, z: Tensor, draw: Draw) -> Tensor:
        """Squared error of the head's velocity (flow) or noise (diffusion) for tokens x (n, c) given z (n, d)."""
        noise = draw.normal(len(x), self.channels)
        time = draw.uniform(len(x))
        if self.settings.head == "flow":
            noisy = torch.lerp(noise, x, time[:, None])
            flow: Tensor = (self.head(noisy, z, time) - (x - noise)).square().mean(-1)
            return flow
        time = (time * DIFFUSION_STEPS).floor() / DIFFUSION_STEPS
        share = signal_share(time)[:, None]
        noisy = share.sqrt() * x + (1 - share).sqrt() * noise
        error: Tensor = (self.head(noisy, z, time) - noise).square().mean(-1)
        return error

    @torch.no_grad()
    def sample(
        self, condition: Tensor, guess: Tensor, noise: Tensor, order: Tensor, how: SampleSettings | None = None
    ) -> Tensor:
        """Generate tokens (b, n, c) for ECG tokens (b, m, e) and the linear ``guess`` (b, n, c) from them.

        Everything random is given, so that a patient's cine does not depend on who is in the batch: ``noise``
        (b, n, c) is the start of every token, ``order`` (b, n) the sequence in which tokens are revealed.
        """
        how = how or self.settings.sample
        guided = how.guidance != 1
        known = self.known(condition, guess)
        if guided:
            blind = self.known(condition, guess, torch.ones(len(condition), dtype=torch.bool, device=guess.device))
            known = (torch.cat([known[0], blind[0]]), torch.cat([known[1], blind[1]]))
        x = torch.zeros_like(noise)
        for first, last in reveal_schedule(self.tokens, how.iterations):
            visible, new = order[:, :first], order[:, first:last]
            twice = (x.repeat(2, 1, 1), visible.repeat(2, 1)) if guided else (x, visible)
            z = self.predict(*twice, known)
            z = take_tokens(z, new.repeat(len(z) // len(new), 1))
            drawn = self._draw_tokens(take_tokens(noise, new), z, how)
            x = x.scatter(1, new[..., None].expand(-1, -1, self.channels), drawn)
        return x

    def _draw_tokens(self, noise: Tensor, z: Tensor, how: SampleSettings) -> Tensor:
        """Integrate the head from noise (b, k, c) to tokens, with guidance where z holds both halves (2b, k, d)."""
        shape, x, z = noise.shape, noise.flatten(0, 1), z.flatten(0, 1)
        given = self.head.modulation(self.head.condition(z), bias=True)  # the same at every step
        clock = self.head.clock(torch.arange(how.steps, device=x.device) / how.steps)  # the same for every token
        moments = self.head.modulation(clock, bias=False)
        for step in range(how.steps):
            now, then = step / how.steps, (step + 1) / how.steps
            out = self._guided(x, [g + m[step] for g, m in zip(given, moments)], how.guidance)
            if self.settings.head == "flow":
                x = x + out * (then - now)
                continue
            share, next_share = (signal_share(torch.tensor(t)) for t in (now, then))
            token = ((x - (1 - share).sqrt() * out) / share.sqrt()).clamp(-6, 6)
            x = next_share.sqrt() * token + (1 - next_share).sqrt() * out if step + 1 < how.steps else token
        return x.reshape(shape)

    def _guided(self, x: Tensor, modulation: Sequence[Tensor], guidance: float) -> Tensor:
        copies = len(modulation[0]) // len(x)
        out: Tensor = self.head.apply_modulation(x.repeat(copies, 1), modulation)
        if copies == 1:
            return out
        with_ecg, without = out.chunk(2)
        return without + guidance * (with_ecg - without)


def reveal_schedule(tokens: int, iterations: int) -> list[tuple[int, int]]:
    """Ranges of the order revealed per iteration: few tokens first, many last, along a cosine; none is empty."""
    rounds = min(iterations, tokens)
    hidden = [tokens * math.cos(math.pi / 2 * i / rounds) for i in range(rounds + 1)]
    edges = [0]
    for i in range(1, rounds):
        edges.append(min(max(tokens - math.floor(hidden[i]), edges[-1] + 1), tokens - (rounds - i)))
    edges.append(tokens)
    return list(pairwise(edges))


def mask_ratio(uniform: float, least: float) -> float:
    """A draw from the normal about 1 with SD 0.25, truncated to [least, 1], as published."""
    normal = NormalDist()
    low = normal.cdf((least - 1) / MASK_SD)
    return 1 + MASK_SD * min(normal.inv_cdf(low + uniform * (0.5 - low)), 0.0)


def mar_loss(model: Mar, batch: Batch, draw: Draw) -> dict[str, Tensor]:
    """Error of the head on hidden tokens; ``batch``: mean and sd of the tokens and guess, each
    (b, n, c), and condition (b, m, e).
    """
    s, mean = model.settings, batch["mean"]
    x = mean + batch["sd"] * draw.normal(*mean.shape)
    ratio = mask_ratio(draw.number(), s.min_mask)
    keep = model.tokens - max(1, math.ceil(model.tokens * ratio))
    visible, hidden = keep_visible(draw.uniform(len(x), model.tokens), keep)
    known = model.known(batch["condition"], batch["guess"], draw.uniform(len(x)) < s.drop_condition)
    z = model.predict(x, visible, known)
    index = hidden_tokens(hidden, keep)
    target = repeat(take_tokens(x, index), "b k c -> (r b k) c", r=s.head_draws)
    given = repeat(take_tokens(z, index), "b k d -> (r b k) d", r=s.head_draws)
    return {"loss": model.head_loss(target, given, draw).mean()}
