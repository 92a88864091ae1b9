"""Attribution against networks whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cardionets import attribution
from cardionets.attribution import FAINT, Ecgs, Explainer, deletion_test, tiles, typical, wave_shares
from cardionets.config import StudyError

RATE, LEAD = 100, 7


def ecgs(people: int = 40) -> Ecgs:
    noise = torch.Generator().manual_seed(0)
    return Ecgs(
        torch.randn(people, 12, 60, generator=noise) + 3,
        torch.randn(people, 12, 80, generator=noise) + 1,
    )


def toy(signal: Tensor, beat: Tensor) -> Tensor:
    """``wave``: twice the P window of one lead; ``curved``: a product in the record; ``silent``: a constant."""
    wave = 2 * beat[:, LEAD, :20].sum(1)
    curved = signal[:, 0, 5] * signal[:, 1, 9] + beat[:, 3, 50] ** 2
    return torch.stack([wave, curved, torch.zeros_like(wave)], dim=1)


EXPLAINER = Explainer(toy, ("wave", "curved", "silent"), torch.full((1, 12, 80), 0.5))


def test_a_linear_network_is_explained_exactly() -> None:
    x = ecgs()
    found = EXPLAINER.explain(x, ["wave"])
    expected = np.zeros((40, 12, 80), np.float32)
    expected[:, LEAD, :20] = 2 * (x.beat[:, LEAD, :20].numpy() - 0.5)
    np.testing.assert_allclose(found.of("beat", "wave"), expected, atol=1e-5)
    assert not found.of("record", "wave").any(), "an input that is not read contributes nothing"


def test_contributions_add_up_to_the_difference_of_predictions() -> None:
    x = ecgs()
    found = EXPLAINER.explain(x, EXPLAINER.endpoints, steps=8)
    base = EXPLAINER.base(x)
    assert torch.equal(base.record, FAINT * x.record)
    whole = (toy(x.record, x.beat) - toy(base.record, base.beat)).numpy()
    np.testing.assert_allclose(found.record.sum((2, 3)) + found.beat.sum((2, 3)), whole, rtol=1e-4, atol=1e-4)
    assert not found.of("beat", "silent").any()


def test_people_do_not_influence_each_other() -> None:
    x = ecgs()
    alone = EXPLAINER.explain(x.rows(slice(3, 4)), ["curved"])
    together = EXPLAINER.explain(x, ["curved"])
    np.testing.assert_allclose(alone.record[0], together.record[3], atol=1e-6)


def test_the_map_over_people_and_the_waves_name_the_place() -> None:
    found = EXPLAINER.explain(ecgs(), ["wave", "silent"])
    share = typical(found, "wave", RATE)
    assert share.shape == (12, 20) and share.sum() == pytest.approx(1, abs=1e-5)
    assert share[LEAD, :5].sum() == pytest.approx(1, abs=1e-5)
    waves = wave_shares(found, RATE).set_index("endpoint")
    assert waves.loc["wave", "P"] == pytest.approx(1) and waves.loc["wave", "record"] == 0
    assert not waves.loc["silent"].any()


def test_tiles_add_samples_up_and_keep_a_short_last_one() -> None:
    np.testing.assert_array_equal(tiles(np.ones((2, 12, 7), np.float32), 3)[0, 0], [3, 3, 1])


def test_deleting_what_counts_beats_deleting_by_lot() -> None:
    x = ecgs()
    found = EXPLAINER.explain(x, ["wave", "silent"])
    table = deletion_test(EXPLAINER, x, found, "beat", 4, replicates=200)
    wave = table[table["endpoint"] == "wave"]
    assert (wave["lower"] > 0).all() and (wave["n"] == 40).all()
    assert (table.loc[table["endpoint"] == "silent", "difference"] == 0).all()
    gone = toy(EXPLAINER.base(x).record, EXPLAINER.base(x).beat)[:, 0] - toy(x.record, x.beat)[:, 0]
    spread = toy(x.record, x.beat)[:, 0].std(correction=0)
    assert wave["ranked"].iloc[-1] <= float(gone.abs().mean() / spread) + 1.0
    assert (wave["ranked"] > wave["random"]).all()


def test_a_wrong_map_does_not_pass_the_deletion_test() -> None:
    x = ecgs()
    found = EXPLAINER.explain(x, ["wave"])
    rng = np.random.default_rng(1)
    wrong = attribution.Attribution(found.endpoints, found.record, rng.normal(size=found.beat.shape).astype(np.float32))
    table = deletion_test(EXPLAINER, x, wrong, "beat", 4, replicates=200)
    assert (table["lower"] <= 0).all()


def test_an_unknown_endpoint_is_refused() -> None:
    with pytest.raises(StudyError, match="attribution: wage: not predicted by this arm"):
        EXPLAINER.explain(ecgs(2), ["wage"])
