import numpy as np
import pandas as pd
import pytest

from cardionets.config import StudyError
from cardionets.evaluate import readers

SKILL = {"ECG": 0.8, "ECG + generated": 1.4, "ECG + real": 1.8}


def answers(seed: int = 0, cases: int = 120, skill: dict[str, float] = SKILL) -> pd.DataFrame:
    return readers.simulate(np.arange(cases) % 2 == 0, skill, 6, np.random.default_rng(seed))


def test_known_skill_is_found() -> None:
    modalities, names, truth, ratings = readers.cube_of(answers())
    result = readers.obuchowski_rockette(truth, ratings)
    assert ratings.shape == (3, 6, 120)
    assert len(names) == 6
    means = {m: e.value for m, e in zip(modalities, result.means)}
    assert means["ECG"] < means["ECG + generated"] < means["ECG + real"]
    assert result.p < 0.01


def test_size_of_the_test_when_modalities_are_alike() -> None:
    # 1,000 simulated studies, standard error 0.7 %: 5 readers, 80 cases, no difference between two modalities
    truth, rejected, rng = np.arange(80) % 2 == 0, 0, np.random.default_rng(0)
    for _ in range(1000):
        ratings = readers.simulate_ratings(truth, [1.2, 1.2], 5, rng)
        rejected += readers.obuchowski_rockette(truth, ratings.astype(float)).p < 0.05
    assert 0.03 <= rejected / 1000 <= 0.07


def test_accuracy_and_agreement() -> None:
    table = answers()
    cases = table["case"].unique()
    perfect = pd.Series(dict(zip(table["case"], table["truth"])))
    found = readers.accuracy(table, perfect)
    assert (found["minus_model"] < 0).all()
    assert (found["minus_model"] - (found["accuracy"] - 1)).abs().max() < 1e-12
    assert set(found["level"]) == {"junior", "senior"}
    assert (found["cases"] == len(cases)).all()
    assert readers.agreement(table)["kappa"].between(0, 1).all()


def test_all_faults_are_named_at_once() -> None:
    table = answers(cases=10)
    broken = pd.concat([table.iloc[1:], table.iloc[[5]]])
    broken["rating"] = broken["rating"].astype(float)
    broken.iloc[3, broken.columns.get_loc("rating")] = np.nan
    with pytest.raises(StudyError) as error:
        readers.check_answers(broken)
    text = str(error.value)
    assert "answered twice" in text
    assert "is empty" in text
    assert "same cases" in text
    with pytest.raises(StudyError, match="missing columns reader"):
        readers.check_answers(table.drop(columns="reader"))
    with pytest.raises(StudyError, match="predict these cases"):
        readers.accuracy(table, pd.Series({"case 001": True}))
