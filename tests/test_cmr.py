"""Cine geometry, phase, centring, orientation and measurement, against constructions whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardionets import cmr, measure, motion
from cardionets.cmr import LV, MYO, RV, TURNS, Cine, Placement, Turn
from cardionets.config import Grid, StudyError

GRID = Grid(rate=250, seconds=10, frames=16, size=64, spacing_mm=2.4)
QUICK = settings(max_examples=25, deadline=None)


def beating(
    centre: tuple[float, float] = (48.0, 40.0),
    *,
    frames: int = 25,
    shape: tuple[int, int] = (96, 80),
    spacing: tuple[float, float] = (1.8, 1.8),
    systole: float = 0.35,
    start: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc in a dark ring that contracts once per beat, and its mask: (frame, H, W) each."""
    phase = (np.arange(frames) / frames + start / frames) % 1
    emptied = np.exp(-(((phase - systole) / 0.13) ** 2))
    y, x = np.meshgrid(*((np.arange(n) - c) * s for n, c, s in zip(shape, centre, spacing)), indexing="ij")
    distance = np.hypot(y, x)
    radius = (26 - 9 * emptied)[:, None, None]
    mask = np.where(distance < radius, LV, np.where(distance < np.sqrt(radius**2 + 520), MYO, 0)).astype(np.uint8)
    image = 60 + 30 * np.sin(x / 9) + np.choose(mask, [0, 120, -30])
    return image.astype(np.float32), mask


def cine_of(frames: np.ndarray, spacing: tuple[float, float] = (1.8, 1.8), **more: object) -> Cine:
    return Cine(frames, spacing, **more)  # type: ignore[arg-type]


@QUICK
@given(row=st.floats(38, 58), col=st.floats(34, 46), spacing=st.sampled_from([(1.2, 1.2), (1.8, 1.8), (1.5, 2.1)]))
def test_heart_is_found_by_its_motion_wherever_it_lies(row: float, col: float, spacing: tuple[float, float]) -> None:
    frames, mask = beating((row, col), spacing=spacing)
    found = cmr.heart_centre(cine_of(frames, spacing))
    assert np.hypot((found[0] - row) * spacing[0], (found[1] - col) * spacing[1]) < 4
    assert np.allclose(cmr.heart_centre(cine_of(frames, spacing), mask), (row, col), atol=0.6)


def test_what_stands_still_is_not_the_heart() -> None:
    frames, _ = beating((60.0, 30.0))
    frames[:, 5:20, 60:75] = 4000
    row, col = cmr.heart_centre(cine_of(frames))
    assert abs(row - 60) < 3 and abs(col - 30) < 3


def test_a_cine_without_motion_is_centred_on_the_image() -> None:
    assert cmr.heart_centre(cine_of(np.full((8, 40, 50), 7, np.uint8))) == (19.5, 24.5)


@pytest.mark.parametrize("start", range(0, 25, 2))
def test_end_diastole_stays_at_the_trigger_unless_systole_is_there(start: int) -> None:
    frames, mask = beating(start=start)
    cavity = (mask == LV).sum(axis=(1, 2))
    found = cmr.place(cine_of(frames)).start
    assert cavity[found] > cavity.min() + 0.5 * (cavity.max() - cavity.min())
    if cavity[0] > cavity.min() + 0.75 * (cavity.max() - cavity.min()):
        assert found == 0


def test_contraction_without_skew_proves_nothing() -> None:
    emptied = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(24) / 24)
    distance = np.hypot(*np.meshgrid(np.arange(64) - 32, np.arange(64) - 32))
    frames = np.clip(14 - 3 * emptied[:, None, None] - distance, 0, 1) * 100
    rolled = np.roll(frames, 12, axis=0)
    path = motion.contraction(rolled, (32.0, 32.0), (1.8, 1.8))
    assert abs((path**3).mean() / path.std() ** 3) < motion.MIN_SKEWNESS
    assert cmr.place(cine_of(rolled)).start == 0


@pytest.mark.parametrize("view", cmr.VIEWS)
@pytest.mark.parametrize("turn", TURNS)
def test_every_stored_orientation_comes_back_canonical(turn: Turn, view: str) -> None:
    frames = np.arange(4 * 10 * 12).reshape(4, 10, 12)
    stored = Cine(turn.pixels(frames), (1.5, 1.5), None, view, turn.axes(cmr.AXES[view]))
    back = cmr.canonical_turn(stored).cine(stored)
    assert np.array_equal(back.frames, frames)
    assert back.axes is not None and np.allclose(back.axes, cmr.AXES[view])


def test_spacing_turns_with_the_image() -> None:
    stored = cine_of(np.zeros((4, 10, 12)), (1.0, 2.0))
    assert Turn(transpose=True).cine(stored).spacing_mm == (2.0, 1.0)
    assert Turn(flip_rows=True).cine(stored).spacing_mm == (1.0, 2.0)


@pytest.mark.parametrize("axes", [None, np.eye(3)[:2], -np.eye(3)[:2], np.eye(3)[1::-1]])
def test_directions_that_contradict_the_view_turn_nothing(axes: np.ndarray | None) -> None:
    assert cmr.canonical_turn(Cine(np.zeros((4, 9, 9)), (1.0, 1.0), None, "sax", axes)) == Turn()


@QUICK
@given(
    view=st.sampled_from(cmr.VIEWS),
    turn=st.sampled_from(TURNS),
    angles=st.lists(st.floats(-20, 20), min_size=3, max_size=3),
)
def test_plane_and_turn_survive_twenty_degrees_of_obliquity(view: str, turn: Turn, angles: list[float]) -> None:
    axes = cmr.AXES[view]
    for (i, j), angle in zip(((0, 1), (0, 2), (1, 2)), np.radians(angles)):
        rotation = np.eye(3)
        rotation[[i, i, j, j], [i, j, i, j]] = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
        axes = axes @ rotation.T
    cine = Cine(turn.pixels(np.arange(4 * 81).reshape(4, 9, 9)), (1.0, 1.0), None, view, turn.axes(axes))
    assert cmr.plane(turn.axes(axes)) == view
    assert np.array_equal(cmr.canonical_turn(cine).pixels(cine.frames), np.arange(4 * 81).reshape(4, 9, 9))


@QUICK
@given(frames=st.integers(4, 60), count=st.integers(2, 40), data=st.data())
def test_phase_weights_are_a_cyclic_interpolation(frames: int, count: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, frames - 1))
    steps = data.draw(st.lists(st.floats(0.5, 2.0), min_size=frames, max_size=frames))
    phases = np.concatenate([[0.0], np.cumsum(steps)[:-1]]) / np.sum(steps)
    weights = cmr.phase_weights(phases, count, start)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-5) and weights.min() >= 0
    assert weights[0].argmax() == start and weights[0, start] > 0.999
    # a wave of one cycle, sampled unevenly, comes back within the error of linear interpolation
    wave = weights @ np.cos(2 * np.pi * phases)
    error = np.abs(wave - np.cos(2 * np.pi * (phases[start] + np.arange(count) / count)))
    assert error.max() <= (2 * np.pi * np.max(steps) / np.sum(steps)) ** 2 / 8 + 1e-4


def test_the_nominal_interval_places_a_gap_before_the_next_beat() -> None:
    times = np.arange(20) * 30.0
    assert cmr.Cine(np.zeros((20, 9, 9)), (1, 1), times, rr_ms=800.0).phases[-1] == pytest.approx(570 / 800)
    assert cmr.Cine(np.zeros((20, 9, 9)), (1, 1), times, rr_ms=400.0).phases[-1] == pytest.approx(19 / 20)
    assert np.allclose(cmr.Cine(np.zeros((20, 9, 9)), (1, 1), times + 17).phases, np.arange(20) / 20)


@QUICK
@given(length=st.integers(8, 200), centre=st.floats(-30, 230), step=st.floats(0.4, 4))
def test_axis_weights_keep_a_constant_and_leave_the_outside_black(length: int, centre: float, step: float) -> None:
    positions = centre + (np.arange(64) - 31.5) * step
    weights = cmr.axis_weights(positions, length, step)
    inside = (positions >= max(step, 1)) & (positions <= length - 1 - max(step, 1))
    outside = (positions <= -max(step, 1)) | (positions >= length - 1 + max(step, 1))
    assert np.allclose(weights[inside].sum(axis=1), 1, atol=1e-5)
    assert (weights[outside] == 0).all()
    ramp = weights[inside] @ np.arange(length)
    assert np.allclose(ramp, positions[inside], atol=0.1 * max(step, 1))


def test_identity_grid_returns_the_pixels() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (16, 64, 64)).astype(np.uint8)
    frames[:, :2], frames[:, 2:4] = 0, 255  # so that both percentiles are the full range
    cine = cine_of(frames, (2.4, 2.4))
    out = cmr.to_grid(cine, GRID, Placement(Turn(), (31.5, 31.5), 0))
    assert np.array_equal(out, frames)
    shifted = cmr.to_grid(cine, GRID, Placement(Turn(), (31.5, 31.5), 5))
    assert np.array_equal(shifted, np.roll(frames, -5, axis=0))


@pytest.mark.parametrize("spacing", [(1.2, 1.2), (1.8, 1.8), (2.0, 3.0)])
def test_grid_is_in_millimetres_and_centred(spacing: tuple[float, float]) -> None:
    frames, mask = beating((60.0, 50.0), shape=(128, 120), spacing=spacing)
    cine = cine_of(frames, spacing)
    where = cmr.place(cine, mask)
    grid_mask = cmr.mask_to_grid(mask, cine, GRID, where)
    assert grid_mask.shape == (16, 64, 64) and grid_mask.dtype == np.uint8
    area = (grid_mask[0] == LV).sum() * GRID.spacing_mm**2
    assert area == pytest.approx(np.pi * 26**2, rel=0.04)
    rows, cols = np.nonzero(grid_mask[0])
    assert abs(rows.mean() - 31.5) < 0.7 and abs(cols.mean() - 31.5) < 0.7
    image = cmr.to_grid(cine, GRID, where)
    assert image[0][grid_mask[0] == LV].mean() > image[0][grid_mask[0] == MYO].mean() + 60


def test_intensity_is_scaled_by_percentiles_not_extremes() -> None:
    frames, _ = beating()
    frames[3, 48, 40] = 1e6
    plain, spiked = (cmr.to_grid(cine_of(f), GRID) for f in (beating()[0], frames))
    assert np.median(np.abs(plain.astype(int) - spiked.astype(int))) <= 2


def test_mask_of_another_shape_is_refused() -> None:
    frames, mask = beating()
    with pytest.raises(StudyError, match="mask: shape"):
        cmr.place(cine_of(frames), mask[:, :-1])
    with pytest.raises(StudyError, match="mask: shape"):
        cmr.mask_to_grid(mask[:-1], cine_of(frames), GRID, cmr.place(cine_of(frames)))


def test_all_faults_of_a_cine_at_once() -> None:
    with pytest.raises(StudyError) as error:
        Cine(np.zeros((3, 20, 20)), (0.0, 1.0), np.zeros(3), "5ch", source="a.dcm")
    assert [line.split(":")[1].strip() for line in str(error.value).splitlines()] == [
        "frames",
        "pixel spacing",
        "frame times",
        "view",
    ]


@QUICK
@given(count=st.integers(1, 30), base=st.floats(-100, 100), step=st.floats(1, 12))
def test_middle_slice_of_a_stack(count: int, base: float, step: float) -> None:
    assert cmr.middle_slice([base + step * k for k in range(count)]) == (count - 1) // 2


# ---- measurement


def ellipsoid(step: float = 2.0, a: float = 24.0, c: float = 45.0, wall: float = 9.0, es: float = 0.7) -> np.ndarray:
    """Half an ellipsoid with a wall, full and contracted: masks (slice, 2, 96, 96) at 1 mm, base first."""
    x, y = np.meshgrid(np.arange(96) - 47.5, np.arange(96) - 47.5)
    z = np.arange(step / 2, c + wall, step)
    stack = np.zeros((len(z), 2, 96, 96), np.uint8)
    for k, height in enumerate(z):
        for frame, scale in enumerate((1.0, es)):
            inner = (np.hypot(x, y) / (a * scale)) ** 2 + (height / c) ** 2
            outer = (np.hypot(x, y) / (a * scale + wall)) ** 2 + (height / (c + wall)) ** 2
            stack[k, frame] = np.where(inner < 1, LV, np.where(outer < 1, MYO, 0))
    crescent = (np.hypot(x + 20, y) < 30) & (z[:, None, None] < c)
    stack[:, 0][(stack[:, 0] == 0) & crescent] = RV
    return stack


def test_stack_agrees_with_the_formula_of_the_ellipsoid() -> None:
    out = measure.measure_stack(ellipsoid(), (1.0, 1.0), 2.0, rr_ms=1000.0)
    edv = 2 / 3 * np.pi * 24**2 * 45 / 1000
    muscle = 2 / 3 * np.pi * 33**2 * 54 / 1000 - edv
    assert out["lv_edv"] == pytest.approx(edv, rel=0.01)
    assert out["lv_esv"] == pytest.approx(edv * 0.49, rel=0.01)
    assert out["lv_ef"] == pytest.approx(51, abs=1)
    assert out["lv_mass"] == pytest.approx(muscle * 1.05, rel=0.01)
    assert out["lv_co"] == pytest.approx(out["lv_sv"] * 60 / 1000)


@QUICK
@given(seed=st.integers(0, 10_000), spacing=st.tuples(st.floats(0.5, 3), st.floats(0.5, 3)), step=st.floats(2, 12))
def test_volumes_agree_with_a_direct_voxel_count(seed: int, spacing: tuple[float, float], step: float) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, 4, (5, 6, 12, 14)).astype(np.uint8)
    masks[:, 0, :4] = LV  # end-diastole is the fullest
    out = measure.measure_stack(masks, spacing, step)
    voxel = np.prod([*spacing, step]) / 1000
    lv = [sum(int(v == LV) for v in masks[:, f].ravel()) * voxel for f in range(6)]
    assert out["lv_edv"] == pytest.approx(lv[0]) and out["lv_esv"] == pytest.approx(min(lv))
    assert out["lv_ef"] == pytest.approx(100 * (lv[0] - min(lv)) / lv[0])
    assert out["rv_edv"] == pytest.approx(np.count_nonzero(masks[:, 0] == RV) * voxel)
    assert out["lv_mass"] == pytest.approx(np.count_nonzero(masks[:, 0] == MYO) * voxel * 1.05)
    assert np.isnan(out["lv_co"])


@pytest.mark.parametrize("flipped", [False, True])
def test_segments_of_a_uniform_shell_in_either_order(flipped: bool) -> None:
    stack = ellipsoid()
    out = measure.measure_stack(stack[::-1] if flipped else stack, (1.0, 1.0), 2.0)
    assert all(8.0 < out[f"wt_{i}"] < 12.5 for i in range(1, 13))
    assert out["wt_global"] == pytest.approx(np.mean([out[f"wt_{i}"] for i in range(1, 17)]))
    assert out["wt_13"] > out["wt_1"]  # the wall is cut ever more obliquely towards the apex


def test_a_single_frame_has_no_systole() -> None:
    out = measure.measure_stack(ellipsoid()[:, :1], (1.0, 1.0), 2.0)
    assert np.isfinite(out["lv_edv"]) and np.isnan([out["lv_esv"], out["lv_ef"], out["rv_esv"]]).all()
    with pytest.raises(StudyError, match="LV cavity"):
        measure.measure_stack(np.zeros((2, 2, 9, 9), np.uint8), (1.0, 1.0), 2.0)


@pytest.mark.parametrize(("segment", "angle"), [(0, 90), (1, 150), (2, 210), (3, 270), (4, 330), (5, 30)])
@pytest.mark.parametrize("turned", [0, 40])
def test_a_thick_sector_is_found_in_its_segment_also_when_the_heart_is_turned(
    segment: int, angle: int, turned: int
) -> None:
    x, y = np.meshgrid(np.arange(128) - 63.5, 63.5 - np.arange(128))
    theta, radius = np.degrees(np.arctan2(y, x)) - turned, np.hypot(x, y)
    thick = np.where(np.abs((theta - angle + 180) % 360 - 180) < 30, 16, 8)
    mask = np.where(radius < 22, LV, np.where(radius < 22 + thick, MYO, 0)).astype(np.uint8)
    septal = np.abs((theta - 180 + 180) % 360 - 180) < 45
    mask[(mask == 0) & septal & (radius < 55)] = RV
    walls = measure.wall_thickness(mask[None], (1.0, 1.0), 6)[0]
    expected = np.where(np.arange(6) == segment, 16, 8)
    assert np.allclose(walls, expected, atol=0.5)


def test_a_cine_and_its_turned_copy_give_the_same_grid() -> None:
    frames, _ = beating((50.0, 44.0), shape=(100, 90))
    straight = Cine(frames, (1.8, 1.8), None, "sax", cmr.AXES["sax"])
    turn = Turn(transpose=True, flip_cols=True)
    stored = replace(straight, frames=turn.pixels(frames), axes=turn.axes(cmr.AXES["sax"]))
    assert np.abs(cmr.to_grid(straight, GRID).astype(int) - cmr.to_grid(stored, GRID)).max() <= 1
