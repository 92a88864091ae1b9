import numpy as np
import pytest
import torch
from monai.metrics.regression import SSIMMetric

from cardionets.config import StudyError
from cardionets.evaluate import images
from cardionets.evaluate.estimate import NotEstimableError


def cines(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    real = rng.integers(0, 256, (2, 4, 32, 32)).astype(np.uint8)
    return real, np.clip(real + rng.normal(0, 20, real.shape), 0, 255).astype(np.uint8)


def test_ssim_is_monais() -> None:
    real, made = cines()
    x, y = (torch.tensor(c.reshape(8, 1, 32, 32), dtype=torch.float64) for c in (real, made))
    metric = SSIMMetric(2, data_range=255.0, kernel_type="gaussian", win_size=11, kernel_sigma=1.5)
    reference = metric(x.float(), y.float()).numpy().reshape(2, 4)
    assert images.ssim(real, made) == pytest.approx(reference, abs=1e-4)
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
    summary = images.retrieval_summary(np.array([1, 2, 20]), 100)
    assert summary["recall_at_10"] == pytest.approx(2 / 3)
    assert summary["chance_at_10"] == pytest.approx(0.1)
    assert summary["median_rank"] == 2


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(StudyError, match="differ"):
        images.psnr(np.zeros((4, 4)), np.zeros((4, 5)))
    with pytest.raises(StudyError, match="too few"):
        images.ssim(np.zeros((8, 8)), np.zeros((8, 8)))
