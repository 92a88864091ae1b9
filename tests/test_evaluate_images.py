from pathlib import Path

import numpy as np
import pytest

from cardionets.config import Study, StudyError
from cardionets.evaluate import images
from cardionets.evaluate.cines import Judge, add_features
from cardionets.evaluate.discrimination import wilson
from cardionets.evaluate.estimate import NotEstimableError
from cardionets.evaluate.rows import Rows


def cines(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    real = rng.integers(0, 256, (2, 4, 32, 32)).astype(np.uint8)
    return real, np.clip(real + rng.normal(0, 20, real.shape), 0, 255).astype(np.uint8)


def plain_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang's formula pixel by pixel, weights as a full 11 x 11 kernel."""
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    kernel = np.outer(line, line) / line.sum() ** 2
    found = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11].astype(float), y[i : i + 11, j : j + 11].astype(float)
            ma, mb = (kernel * a).sum(), (kernel * b).sum()
            va, vb = (kernel * (a - ma) ** 2).sum(), (kernel * (b - mb) ** 2).sum()
            cov = (kernel * (a - ma) * (b - mb)).sum()
            top = (2 * ma * mb + 2.55**2) * (2 * cov + 7.65**2)
            found.append(top / ((ma**2 + mb**2 + 2.55**2) * (va + vb + 7.65**2)))
    return float(np.mean(found))


def test_ssim_is_wangs_formula() -> None:
    real, made = cines()
    expected = [[plain_ssim(a, b) for a, b in zip(x, y)] for x, y in zip(real, made)]
    assert images.ssim(real, made) == pytest.approx(np.array(expected), abs=2e-6)
    assert images.ssim(real, real) == pytest.approx(np.ones((2, 4)))


def test_psnr_by_hand() -> None:
    real = np.full((1, 16, 16), 100, np.uint8)
    assert images.psnr(real, real + 5)[0] == pytest.approx(20 * np.log10(255 / 5))
    assert np.isinf(images.psnr(real, real)[0])
    assert images.mean_absolute_error(real, real - 5)[0] == pytest.approx(5)  # no wrap-around of uint8


def test_motion() -> None:
    phase = np.arange(16) / 16 * 2 * np.pi
    smooth = (128 + 50 * np.cos(phase))[:, None, None] * np.ones((16, 16, 16))
    jumpy = smooth + 30 * (np.arange(16) % 2)[:, None, None]
    assert images.temporal_roughness(smooth) == pytest.approx(2 * np.sin(np.pi / 16), rel=1e-6)
    assert images.temporal_roughness(jumpy) > images.temporal_roughness(smooth)
    assert np.isnan(images.temporal_roughness(np.ones((4, 16, 16))))
    assert images.motion_similarity(smooth, smooth / 2) == pytest.approx(1)
    assert images.motion_similarity(smooth, -smooth) == pytest.approx(-1)


def test_frechet_distance_of_known_normals() -> None:
    # equal covariance: squared distance of means; else sum of (sigma1 - sigma2)^2
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20_000, 3))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    assert images.frechet_distance(x, x + np.array([3, 4, 0])) == pytest.approx(25, abs=1e-6)
    assert images.frechet_distance(x, 2 * x) == pytest.approx(3, abs=1e-6)
    with pytest.raises(NotEstimableError, match="too few"):
        images.frechet_distance(x[:3], x[:3])


def test_retrieval_ranks_and_ties() -> None:
    gallery = np.eye(5)
    assert images.retrieval_ranks(gallery, gallery).tolist() == [1] * 5
    assert images.retrieval_ranks(np.ones((5, 5)), gallery).tolist() == [5] * 5  # nothing learnt is the worst rank


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(StudyError, match="differ"):
        images.psnr(np.zeros((4, 4)), np.zeros((4, 5)))
    with pytest.raises(StudyError, match="too few"):
        images.ssim(np.zeros((8, 8)), np.zeros((8, 8)))


def test_a_cycle_that_does_not_close_is_seen() -> None:
    phase = np.arange(16) / 16 * 2 * np.pi
    closed = (128 + 50 * np.cos(phase))[:, None, None] * np.ones((16, 16, 16))
    drifting = closed + 10 * np.arange(16)[:, None, None]
    assert images.cycle_closing(closed) < 1 < 5 < images.cycle_closing(drifting)
    assert np.isnan(images.cycle_closing(np.ones((4, 16, 16))))


def test_doubt_that_knows_the_error_and_doubt_that_does_not() -> None:
    rng, k = np.random.default_rng(4), 8
    sd = rng.uniform(2, 20, (3, 1, 40, 40)) * np.ones((3, 5, 1, 1))
    truth = 120 + sd * rng.normal(size=sd.shape)
    drawn = 120 + sd * rng.normal(size=(k, *sd.shape))
    r, ratio = images.spread_and_error(truth, drawn.mean(0), drawn.std(0), k)
    assert (r > 0.25).all() and ratio == pytest.approx(np.ones(3), abs=0.05)
    blind, _ = images.spread_and_error(truth, drawn.mean(0), rng.permuted(drawn.std(0), axis=-1), k)
    assert (blind < 0.1).all()
    _, overconfident = images.spread_and_error(truth, drawn.mean(0), drawn.std(0) / 3, k)
    assert overconfident == pytest.approx(3 * ratio)


def test_scores_of_whole_cines_are_those_of_their_parts() -> None:
    real, made = cines()
    found = images.dynamics(real, made)
    assert found["motion"] == pytest.approx(images.motion_similarity(real, made))
    assert found["roughness"] == pytest.approx(images.temporal_roughness(made))
    assert found["closing"] == pytest.approx(images.cycle_closing(made))
    one_picture = images.psnr(real.reshape(2, -1, 32), made.reshape(2, -1, 32))
    assert images.cine_psnr(real, made) == pytest.approx(one_picture, rel=1e-6)


def test_everybody_found_again_is_a_share_with_an_interval() -> None:
    features = np.random.default_rng(0).normal(size=(12, 6))
    rows = Rows("ukb", "test")
    judge = Judge(rows, np.arange(12), Study(Path(__file__).parents[1]).protocol.statistics, 0)
    add_features(judge, "real", features, features, None)
    first = rows.frame().set_index("metric").loc["top_1"]
    expected = wilson(1.0, 12)
    assert (first["estimate"], first["lower"], first["upper"]) == (1.0, expected.lower, expected.upper)
    assert expected.lower < 0.8
