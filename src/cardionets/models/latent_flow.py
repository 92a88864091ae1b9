"""The older approach to compare with: conditional flow over the whole latent at once.

One transformer sees all tokens at one noise level and moves them together along straight paths (flow matching, Lipman
et al. 2023, arXiv 2210.02747; transformers in the place of the U-Net, Peebles and Xie 2023, arXiv 2212.09748), as
latent video diffusion does. It has the depth, width, inputs and training budget of the masked autoregressive generator
(:mod:`cardionets.models.mar`), so that what differs between the two is the approach.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cardionets.device import Draw
from cardionets.models.layers import Transformer, initialise
from cardionets.models.mar import Conditioned, MarSettings
from cardionets.train import Batch


class LatentFlow(Conditioned):
    """Velocity of all noisy tokens (b, n, c) at times (b,), given what the ECG says."""

    def __init__(self, settings: MarSettings, tokens: int, channels: int, condition: tuple[int, int]) -> None:
        """``tokens`` x ``channels`` to generate; ``condition`` = (prefix length m, its width e)."""
        super().__init__(settings.dim, channels, condition)
        self.settings, self.tokens, self.channels = settings, tokens, channels
        s = settings
        self.register_buffer("rates", torch.exp(torch.linspace(0, math.log(1000.0), s.dim // 2)), persistent=False)
        self.time = nn.Sequential(nn.Linear(2 * (s.dim // 2), s.dim), nn.SiLU(), nn.Linear(s.dim, s.dim))
        self.embed = nn.Linear(channels, s.dim)
        self.position = nn.Parameter(torch.randn(tokens, s.dim) * 0.02)
        self.trunk = Transformer(s.dim, s.encoder_depth + s.decoder_depth, s.heads)
        self.out = nn.Linear(s.dim, channels)
        for module in (self.time, self.embed, self.trunk):
            module.apply(initialise)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, time: Tensor, known: tuple[Tensor, Tensor]) -> Tensor:
        """``time`` runs from 0 (noise) to 1 (tokens); ``known`` is that of :meth:`Conditioned.known`."""
        prefix, hints = known
        angles = time[:, None] * self.get_buffer("rates")  # (b, d / 2)
        clock = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))[:, None]  # (b, 1, d)
        tokens = self.embed(x) + self.position + hints + clock
        hidden = self.trunk(torch.cat([prefix + clock, tokens], dim=1))  # (b, m + n, d)
        velocity: Tensor = self.out(hidden[:, prefix.shape[1] :])
        return velocity

    @torch.no_grad()
    def sample(self, condition: Tensor, guess: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Tokens (b, n, c) from ``noise`` (b, n, c) by Euler steps, for ECG tokens (b, m, e) and guess (b, n, c)."""
        known, x = self.known(condition, guess), noise
        for step in range(steps):
            x = x + self(x, torch.full((len(x),), step / steps, device=x.device), known) / steps
        return x


def flow_loss(model: LatentFlow, batch: Batch, draw: Draw) -> dict[str, Tensor]:
    """Squared error of the velocity of all tokens; ``batch`` as for :func:`cardionets.models.mar.mar_loss`."""
    mean = batch["mean"]
    x = mean + batch["sd"] * draw.normal(*mean.shape)
    known = model.known(batch["condition"], batch["guess"], draw.uniform(len(x)) < model.settings.drop_condition)
    noise, time = draw.normal(*x.shape), draw.uniform(len(x))
    velocity = model(torch.lerp(noise, x, time[:, None, None]), time, known)
    return {"loss": (velocity - (x - noise)).square().mean()}
