"""What every figure shares: the style sheet, the palette, the line of provenance, and saving so that bytes repeat."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final, ParamSpec

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from cardionets import __version__
from cardionets.config import Study
from cardionets.files import atomic_path

OKABE_ITO: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
GREY: Final = "#7F7F7F"
LINES: Final = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
MARKS: Final = ("o", "s", "^", "D", "v", "P", "X", "*", ">", "<", "h", "p")
METADATA: Final[dict[str, dict[str, str | None]]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
DPI: Final = 300
COMPRESSION: Final = 3
"""Level 3 writes a drawing of lines in half the time of the default and within a tenth of its size."""
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a figure or table comes from: cohort, people, preset, hash of the protocol, commit; is it simulated?"""

    cohort: str
    n: int | None = None
    preset: str = ""
    protocol: str = ""
    simulated: bool = False
    code: str = ""

    @classmethod
    def of(cls, study: Study, cohort: str, n: int | None = None) -> Provenance:
        """For one cohort of a study, or for the whole study when ``cohort`` names none of its cohorts."""
        known = study.cohorts.get(cohort)
        simulated = known.simulated if known else any(c.simulated for c in study.cohorts.values())
        who, preset = known.label if known else cohort, study.protocol.preset
        return cls(who, n, preset, protocol_hash(study), simulated, code_of(study.root))

    def line(self) -> str:
        """One line for people."""
        people = "person" if self.n == 1 else "people"
        parts = [self.cohort, f"n = {self.n:,} {people}" if self.n is not None else ""]
        parts += [f"preset {self.preset}" if self.preset else "", f"protocol {self.protocol}" if self.protocol else ""]
        parts.append(self.code)
        return " · ".join(part for part in parts if part)


@cache
def code_of(root: Path) -> str:
    """The commit that last touched what computes, ``commit 1a2b3c4d5e``, "+" where files differ from it.

    Commits of results and words leave it as it is, so that the same code gives the same bytes. Outside a clone it is
    the version.
    """
    try:
        commit = _git(root, "log", "-1", "--format=%H")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        commit = changed = ""
    return f"commit {commit[:10]}{'+' * bool(changed)}" if commit else f"version {__version__}"


def _git(root: Path, *command: str) -> str:
    done = ["git", *command, "--", "src", "notebooks"]
    return subprocess.run(done, cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def protocol_hash(study: Study) -> str:
    """Eight hex digits that change with any setting of the protocol or the preset."""
    settings = json.dumps([study.protocol.model_dump(mode="json"), study.preset], sort_keys=True, default=str)
    return hashlib.sha256(settings.encode()).hexdigest()[:8]


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Run a drawing function under the package's style sheet, without touching the caller's settings."""

    @wraps(draw)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with as_file(files("cardionets") / "assets" / "style.mplstyle") as sheet, mpl.rc_context():
            plt.style.use(["default", sheet])
            with plt.ioff():
                figure = draw(*args, **kwargs)
            plt.close(figure)
            return figure

    return wrapper


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour per name, in order; after eight the palette repeats and line styles or marks tell names apart."""
    return {name: OKABE_ITO[i % len(OKABE_ITO)] for i, name in enumerate(names)}


def mark(index: int) -> str:
    """The marker of the ``index``-th name; twelve, so that they differ where a colour comes again."""
    return MARKS[index % len(MARKS)]


def stamp(figure: Figure, provenance: Provenance) -> None:
    """Write the provenance below a figure, and SIMULATED in red where it is."""
    engine = figure.get_layout_engine()
    inches = figure.get_figheight()
    if engine is not None and hasattr(engine, "set") and not figure.get_gid():
        engine.set(rect=(0.015, 0.2 / inches, 0.975, 1 - 0.2 / inches))  # type: ignore[call-arg]
    figure.set_gid("stamped")
    figure.text(
        0.01, 0.05 / inches, provenance.line(), fontsize=5.5, color=GREY, ha="left", va="bottom", gid="provenance"
    )
    if provenance.simulated:
        figure.text(
            0.99, 0.05 / inches, "SIMULATED", fontsize=6.5, color="#C00000", weight="bold", ha="right", va="bottom"
        )
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")  # laid out once: every format shows the same, and none solves it again
    for ax in figure.axes:  # the solver's last digits vary from run to run
        ax.set_position(np.round(ax.get_position(original=True).bounds, 6))


def save(
    figure: Figure, stem: Path, provenance: Provenance, suffixes: Sequence[str] = (".png", ".svg", ".pdf")
) -> list[Path]:
    """Stamp a figure and write ``stem`` + each suffix (PNG at 300 dpi), the same bytes for the same figure."""
    if figure.get_gid() != "stamped":
        stamp(figure, provenance)
    written = []
    with mpl.rc_context({"svg.hashsalt": "cardionets", "svg.fonttype": "path", "pdf.fonttype": 42}):
        for suffix in suffixes:
            target = stem.with_name(stem.name + suffix)
            with atomic_path(target) as aside:
                if suffix == ".png":
                    raster(figure).save(aside, "PNG", compress_level=COMPRESSION, dpi=(DPI, DPI))
                else:
                    _vectors(figure, suffix, aside)
            written.append(target)
    return written


def _vectors(figure: Figure, suffix: str, path: Path) -> None:
    """Write SVG or PDF; ``Figure.savefig`` writes the same bytes, after drawing everything once for a layout."""
    figure.set_dpi(DPI)
    if suffix == ".svg":
        FigureCanvasSVG(figure).print_svg(path, metadata=METADATA[suffix])  # type: ignore[no-untyped-call]
    else:
        from matplotlib.backends.backend_pdf import FigureCanvasPdf  # only where a PDF is wanted

        FigureCanvasPdf(figure).print_pdf(path, metadata=METADATA[suffix])  # type: ignore[no-untyped-call]


def raster(figure: Figure, dpi: int = DPI) -> Image.Image:
    """A figure as a picture without transparency."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # type: ignore[no-untyped-call]


def smaller(png: Path, dpi: int = 110) -> bytes:
    """A PNG of :func:`save` at a lower resolution and with a palette, for the notebook."""
    with Image.open(png) as image:
        size = image.width * dpi // DPI, image.height * dpi // DPI
        small = image.convert("RGB").resize(size, Image.Resampling.HAMMING)
    buffer = io.BytesIO()
    small.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, "PNG")
    return buffer.getvalue()


def png_bytes(figure: Figure, provenance: Provenance | None = None, dpi: int = 150) -> bytes:
    """A figure as PNG in memory, for a page."""
    if provenance is not None and figure.get_gid() != "stamped":
        stamp(figure, provenance)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata=METADATA[".png"])
    return buffer.getvalue()
