"""Moving images: a strip of frames (real above generated), and animated GIFs.

A cine whose label begins with :data:`DOUBT` is a map of doubt, not a picture, and is shown in colour.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from typing import Final

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cardionets.config import StudyError
from cardionets.figures.base import styled
from cardionets.figures.ecg import ecg

Cines = Mapping[str, NDArray[np.uint8]]
DOUBT: Final = "doubt"
DOUBT_COLOURS: Final = "inferno"  # even steps of lightness: reads without colour vision


def stretched(spread: NDArray[np.uint8], label: str) -> tuple[str, NDArray[np.uint8]]:
    """A map of doubt (frame, H, W), SD in grey levels, over the whole range of colours, and a label with its scale."""
    most = max(int(spread.max()), 1)
    return f"{DOUBT} {label} 0 to {most} grey", (spread.astype(np.float32) * (255 / most)).astype(np.uint8)


@styled
def cine_strip(cines: Cines, frames: int = 8, title: str = "", window: tuple[float, float] | None = None) -> Figure:
    """Rows of evenly spaced frames, one per label -> cine (frame, H, W) uint8; columns carry the cardiac phase."""
    if not cines:
        raise StudyError("cine strip: no cine was given; generate images for this cohort first.")
    low, high = window or (0.0, 255.0)
    figure, column = plt.subplots(len(cines), 1, figsize=(0.95 * frames, 1.02 * len(cines) + 0.35), squeeze=False)
    for ax, (label, cine) in zip(column[:, 0], cines.items()):
        chosen = np.linspace(0, len(cine), frames, endpoint=False).astype(int)
        shown = np.clip((cine[chosen].astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
        ax.imshow(_side_by_side(shown, label), interpolation="none", extent=(0, frames, 0, 1))
        ax.set(xticks=np.arange(frames) + 0.5, yticks=[])
        ax.set_xticklabels([f"{frame / len(cine):.0%} RR" for frame in chosen], fontsize=6.5)
        ax.tick_params(length=0, top=False, bottom=False, labelbottom=False, labeltop=ax is column[0, 0])
        ax.spines[:].set_visible(False)
        ax.set_ylabel(textwrap.fill(label, 14), fontsize=7)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, weight="bold")
    return figure


def _side_by_side(frames: NDArray[np.uint8], label: str) -> NDArray[np.uint8]:
    """Frames (f, H, W), three times enlarged, with a white gap between them: one picture in colours (3 H, W', 3)."""
    size = (3 * frames.shape[2], 3 * frames.shape[1])
    large = [_coloured(np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BICUBIC)), label) for f in frames]
    gap = np.full((size[1], max(size[0] // 32, 1), 3), 255, np.uint8)
    return np.concatenate([part for frame in large for part in (gap, frame, gap)], axis=1)


def _coloured(grey: NDArray[np.uint8], label: str) -> NDArray[np.uint8]:
    """Grey levels (H, W) as the colours (H, W, 3) of a picture, or of a map of doubt."""
    if not label.startswith(DOUBT):
        return np.repeat(grey[..., None], 3, axis=2)
    table = mpl.colormaps[DOUBT_COLOURS](np.arange(256), bytes=True)[:, :3]  # (grey, 3)
    return np.asarray(table[grey], np.uint8)


def _tile(frame: NDArray[np.uint8], label: str, scale: int, mark: str) -> Image.Image:
    if label.startswith(DOUBT):
        frame = _coloured(frame, label)
    image = Image.fromarray(frame).resize((frame.shape[1] * scale, frame.shape[0] * scale), Image.Resampling.BICUBIC)
    tile = Image.new(image.mode, (image.width, image.height + 16))
    tile.paste(image, (0, 16))
    draw = ImageDraw.Draw(tile)
    draw.text((3, 2), label, fill="white")
    if mark:
        draw.text((3, image.height + 3), mark, fill="lightgrey")
    return tile


def film(cines: Cines, scale: int = 3, simulated: bool = False) -> list[Image.Image]:
    """Cines (frame, H, W) uint8 side by side, a page per frame of the shortest; marked where simulated."""
    if not cines:
        raise StudyError("animation: no cine was given; generate images for this cohort first.")
    count = min(len(cine) for cine in cines.values())
    mark = "SIMULATED" if simulated else ""
    mode = "RGB" if any(label.startswith(DOUBT) for label in cines) else "L"
    pages = []
    for i in range(count):
        tiles = [_tile(cine[i * len(cine) // count], label, scale, mark) for label, cine in cines.items()]
        page = Image.new(mode, (sum(t.width for t in tiles), max(t.height for t in tiles)))
        for j, tile in enumerate(tiles):
            page.paste(tile, (sum(t.width for t in tiles[:j]), 0))
        pages.append(page)
    return pages


def animate(cines: Cines, seconds: float = 1.0, scale: int = 3, simulated: bool = False) -> bytes:
    """Cines (frame, H, W) uint8 side by side as a looping GIF, one RR in ``seconds``; marked where simulated."""
    return gif(film(cines, scale, simulated), seconds)


def beating(
    cines: Cines, signal: NDArray[np.floating], rate_hz: float, seconds: float = 1.0, simulated: bool = False
) -> bytes:
    """The 12-lead ECG (12, T) in uV on its paper above the beating hearts (frame, H, W), as a looping GIF."""
    hearts = film(cines, simulated=simulated)
    buffer = io.BytesIO()
    ecg(signal, rate_hz).savefig(buffer, format="png", dpi=110)
    strip = Image.open(buffer).convert("RGB")
    width = max(hearts[0].width, 720)
    strip = strip.resize((width, round(strip.height * width / strip.width)), Image.Resampling.LANCZOS)
    pages = []
    for heart in hearts:
        page = Image.new("RGB", (width, strip.height + heart.height))
        page.paste(strip, (0, 0))
        page.paste(heart.convert("RGB"), ((width - heart.width) // 2, strip.height))
        pages.append(page)
    palette = pages[0].quantize(128)  # one for all, so that the strip, which does not move, is stored once
    return gif([page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages], seconds)


def gif(pages: list[Image.Image], seconds: float) -> bytes:
    """Pages as a looping GIF that takes ``seconds``."""
    buffer = io.BytesIO()
    each = round(1000 * seconds / len(pages))
    pages[0].save(buffer, "GIF", save_all=True, append_images=pages[1:], duration=each, loop=0)
    return buffer.getvalue()
