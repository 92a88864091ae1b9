"""Moving images: a strip of frames (real above generated), and animated GIFs."""

from __future__ import annotations

import io
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cardionets.config import StudyError
from cardionets.figures.base import styled

Cines = Mapping[str, NDArray[np.uint8]]


@styled
def cine_strip(cines: Cines, frames: int = 8, title: str = "", window: tuple[float, float] | None = None) -> Figure:
    """Rows of evenly spaced frames, one per label -> cine (frame, H, W) uint8; columns carry the cardiac phase."""
    if not cines:
        raise StudyError("cine strip: no cine was given; generate images for this cohort first.")
    low, high = window or (0.0, 255.0)
    figure, grid = plt.subplots(len(cines), frames, figsize=(0.95 * frames, 1.02 * len(cines) + 0.35), squeeze=False)
    for i, (axes, (label, cine)) in enumerate(zip(grid, cines.items())):
        chosen = np.linspace(0, len(cine), frames, endpoint=False).astype(int)
        for ax, frame in zip(axes, chosen):
            ax.imshow(cine[frame], cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if i == 0:
                ax.set_title(f"{frame / len(cine):.0%} RR", fontsize=6.5, loc="center", weight="normal")
        axes[0].set_ylabel(label, fontsize=7)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, weight="bold")
    return figure


def _tile(frame: NDArray[np.uint8], label: str, scale: int, mark: str) -> Image.Image:
    image = Image.fromarray(frame).resize((frame.shape[1] * scale, frame.shape[0] * scale), Image.Resampling.BICUBIC)
    tile = Image.new("L", (image.width, image.height + 16))
    tile.paste(image, (0, 16))
    draw = ImageDraw.Draw(tile)
    draw.text((3, 2), label, fill=255)
    if mark:
        draw.text((3, image.height + 3), mark, fill=200)
    return tile


def animate(cines: Cines, seconds: float = 1.0, scale: int = 3, simulated: bool = False) -> bytes:
    """Cines (frame, H, W) uint8 side by side as a looping GIF, one RR in ``seconds``; marked where simulated."""
    if not cines:
        raise StudyError("animation: no cine was given; generate images for this cohort first.")
    count = min(len(cine) for cine in cines.values())
    mark = "SIMULATED" if simulated else ""
    pictures = []
    for i in range(count):
        tiles = [_tile(cine[i * len(cine) // count], label, scale, mark) for label, cine in cines.items()]
        page = Image.new("L", (sum(t.width for t in tiles), max(t.height for t in tiles)))
        for j, tile in enumerate(tiles):
            page.paste(tile, (sum(t.width for t in tiles[:j]), 0))
        pictures.append(page)
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 * seconds / count), loop=0
    )
    return buffer.getvalue()
