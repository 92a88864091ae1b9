"""Pictures of a page: small, and moving ones still move."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from cardionets import page
from cardionets.figures import animate


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_drawing_keeps_every_pixel_and_a_photograph_is_lossy() -> None:
    drawing = np.full((300, 400, 3), 255, np.uint8)
    drawing[100:103] = (0, 114, 178)
    with Image.open(io.BytesIO(page.shrink(_png(drawing)))) as image:
        assert image.format == "WEBP"
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), drawing)
    heart = np.random.default_rng(0).integers(0, 200, (300, 400, 3), np.uint8)
    assert len(page.shrink(_png(heart))) < len(_png(heart)) / 2


def test_a_wide_picture_becomes_as_wide_as_a_screen() -> None:
    with Image.open(io.BytesIO(page.shrink(_png(np.full((600, 2400, 3), 255, np.uint8))))) as image:
        assert image.size == (page.MAX_WIDTH, 300)


def test_an_animation_moves_as_before_in_a_fraction_of_its_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    texture = rng.integers(0, 120, (64, 64))
    y, x = np.mgrid[:64, :64] - 32
    radius = 12 + 6 * np.cos(np.linspace(0, 2 * np.pi, 16, endpoint=False))
    cine = np.stack([np.where(np.hypot(x, y) < r, 230, texture) for r in radius]).astype(np.uint8)
    path = tmp_path / "moving.gif"
    path.write_bytes(animate(dict.fromkeys("abcdef", cine), simulated=True))
    made = page.Picture.read(path, "A beating disc")
    assert made.kind == ".webp" and len(made.data) < path.stat().st_size / 2
    assert 'src="data:image/webp;base64,' in made.render()
    with Image.open(io.BytesIO(made.data)) as image, Image.open(path) as source:
        assert image.n_frames == source.n_frames == 16 and image.width == page.MOVING_WIDTH
        image.load()
        assert abs(image.info["duration"] - source.info["duration"]) <= 10 and image.info["loop"] == 0
        bright = [(np.asarray(frame.convert("L")) > 200).sum() for frame in ImageSequence.Iterator(image)]
    assert int(np.argmax(bright)) == 0 and int(np.argmin(bright)) == 8, "the disc shrinks and grows as in the GIF"
