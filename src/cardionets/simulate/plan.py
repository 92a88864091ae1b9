"""Who is in a simulated centre and what is written for whom, decided before any signal is drawn.

A plan is small and vectorised: people with their hearts, recordings with dates and planned faults, coded diagnoses.
Every signal and image drawn from it later takes its randomness from (seed, centre, purpose, its own number) alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets import phenotypes
from cardionets.simulate import faults, labels
from cardionets.simulate.centres import Centre
from cardionets.simulate.ecg import determinants
from cardionets.simulate.heart import sample

FAULTY_SHARE: Final = 0.01
REPEAT_RATE_CV: Final = 0.07
_STREAMS: Final = {
    "hearts": 0,
    "measure": 1,
    "people": 2,
    "diagnoses": 3,
    "records": 4,
    "ecg": 5,
    "device": 6,
    "cine": 7,
    "faults": 8,
    "recorder": 9,
    "tachycardia": 10,
}


def stream(seed: int, centre: int, purpose: str, *index: int) -> np.random.Generator:
    """The random stream of one purpose in one centre, of one recording or person where ``index`` names it."""
    return np.random.default_rng([seed, centre, _STREAMS[purpose], *index])


@dataclass(frozen=True)
class Plan:
    """A centre before it is written.

    ``hearts``: latent hearts, one row per person. ``people``: id, date of the first ECG, group flags, per person.
    ``measured``: the 82 phenotypes with error, NaN where missing. ``diagnoses``: see :func:`labels.diagnose`.
    ``records``: one row per ECG: record, person (row of ``hearts``), date, rate_bpm, fault, source (row whose signal it
    carries: its own but for duplicates), recorder (number of the centre's device).
    """

    centre: Centre
    seed: int
    hearts: pd.DataFrame
    people: pd.DataFrame
    measured: pd.DataFrame
    diagnoses: pd.DataFrame
    records: pd.DataFrame

    def signal_hearts(self) -> pd.DataFrame:
        """The heart behind the SIGNAL of every recording, at that day's rate; a duplicate has the other's."""
        source = self.records.iloc[self.records["source"].to_numpy()]
        hearts = self.hearts.iloc[source["person"].to_numpy()].reset_index(drop=True)
        factor = np.cbrt(hearts["rate_bpm"].to_numpy() / source["rate_bpm"].to_numpy())
        return hearts.assign(rate_bpm=source["rate_bpm"].to_numpy(), qt_ms=hearts["qt_ms"].to_numpy() * factor)


def make_plan(centre: Centre, people: int, seed: int) -> Plan:
    """Draw the people, labels and recordings of ``centre``; a function of (centre, people, seed) alone."""
    hearts = sample(people, centre.mix, stream(seed, centre.index, "hearts"))
    rng = stream(seed, centre.index, "measure")
    measured = labels.drop_values(labels.measure(hearts, rng), rng)
    table = _people(centre, people, stream(seed, centre.index, "people"))
    diagnoses = labels.diagnose(hearts, centre.coding, stream(seed, centre.index, "diagnoses"))
    records = _records(centre, hearts, table, stream(seed, centre.index, "records"))
    recorder = stream(seed, centre.index, "recorder").integers(len(centre.devices), size=len(records))
    records["recorder"] = recorder[records["source"].to_numpy()]
    records["rate_bpm"] = _hastened(centre, hearts, records, stream(seed, centre.index, "tachycardia"))
    return Plan(centre, seed, hearts, table, measured, diagnoses, records)


def _people(centre: Centre, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Identity, first ECG date (and CMR date), and who has CMR, masks, codes, or has withdrawn."""
    low, high = centre.id_range
    numbers = low + rng.choice(max(high - low, 4 * n), size=n, replace=False)
    first, last = (np.datetime64(f"{year}-01-01", "D") for year in centre.years)
    cmr = rng.random(n) < centre.cmr_share
    date = first + rng.integers(0, int((last - first).astype(int)), n)
    return pd.DataFrame(
        {
            "person": [centre.person_format.format(number) for number in numbers],
            "date": date.astype("datetime64[s]"),
            "cmr_days": np.where(rng.random(n) < 0.5, 1, -1) * rng.integers(0, centre.cmr_days + 1, n),
            "cmr": cmr,
            "mask": cmr & (rng.random(n) < centre.mask_share),
            "coded": rng.random(n) < centre.coded_share,
            "withdrawn": rng.random(n) < centre.withdrawn_share,
        }
    )


def _records(centre: Centre, hearts: pd.DataFrame, people: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """One row per ECG; repeats follow the first within two years, at another heart rate of the same heart."""
    n = len(people)
    counts = 1 + np.minimum(rng.poisson(centre.repeats, n), 5)
    person = np.repeat(np.arange(n), counts)
    nth = np.arange(len(person)) - np.repeat(np.cumsum(counts) - counts, counts)
    total = np.cumsum(np.where(nth == 0, 0, rng.integers(1, 240, len(person))))
    days = total - np.repeat(total[np.cumsum(counts) - counts], counts)
    jitter = np.where(nth == 0, 1.0, np.exp(REPEAT_RATE_CV * rng.standard_normal(len(person))))
    seconds = rng.integers(8 * 3600, 18 * 3600, len(person)).astype("timedelta64[s]")
    date = people["date"].to_numpy()[person] + days.astype("timedelta64[D]") + seconds
    rate = np.clip(hearts["rate_bpm"].to_numpy()[person] * jitter, 38, 160)
    table = pd.DataFrame({"person": person, "nth": nth, "date": date, "rate_bpm": rate})
    table["record"] = centre.record_names(people["person"].to_numpy()[person], nth, rng)
    return _with_faults(table, rng)


def _hastened(
    centre: Centre, hearts: pd.DataFrame, records: pd.DataFrame, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Heart rate (n,) of every recording, some of those in sinus rhythm above 100 per minute.

    What hastens a heart (fever, pain, anaemia) is not in its structure, so the rate is drawn without it; how far above
    100 is our choice: 18 on average, at most 60.
    """
    sinus = (hearts["rhythm"] != "af").to_numpy()[records["person"].to_numpy()]
    fast = sinus & (rng.random(len(records)) < centre.tachycardia)
    above = np.minimum(rng.gamma(2.0, 9.0, len(records)), 60.0)
    rate: NDArray[np.float64] = np.where(fast, 100 + above, records["rate_bpm"].to_numpy())
    return rate


def _with_faults(records: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Plan a share of faulty recordings, kinds in turn; a duplicate carries a sound recording of somebody else."""
    n = len(records)
    fault, source = np.full(n, "none", dtype=object), np.arange(n)
    order = rng.permutation(n)
    count = min(int(np.ceil(FAULTY_SHARE * n)), n // 2)
    offset = int(rng.integers(len(faults.KINDS)))
    for k, row in enumerate(order[:count]):
        fault[row] = faults.KINDS[(k + offset) % len(faults.KINDS)]
    person = records["person"].to_numpy()
    sound = order[count:]
    for k, row in enumerate(np.flatnonzero(fault == "duplicate")):
        others = sound[person[sound] != person[row]]
        if len(others) == 0:
            fault[row] = "none"
            continue
        source[row] = others[k % len(others)]
    return records.assign(fault=fault, source=source)


def truth(plan: Plan) -> pd.DataFrame:
    """One row per person: id, group flags, latent heart with NOISE-FREE phenotypes, diseases, determinants of the ECG.

    The determinants (:func:`cardionets.simulate.ecg.determinants`) carry the prefix ``ecg_``.
    """
    flags = plan.people[["person", "cmr", "mask", "coded", "withdrawn"]].assign(simulated=True)
    return pd.concat([flags, plan.hearts, determinants(plan.hearts).add_prefix("ecg_")], axis=1)


def record_truth(plan: Plan) -> pd.DataFrame:
    """One row per recording: ids, true heart rate, planned fault, and the recording whose signal it carries."""
    records = plan.records
    return pd.DataFrame(
        {
            "record": records["record"],
            "person": plan.people["person"].to_numpy()[records["person"].to_numpy()],
            "rate_bpm": records["rate_bpm"],
            "fault": records["fault"].astype(str),
            "signal_of": records["record"].to_numpy()[records["source"].to_numpy()],
            "simulated": True,
        }
    )


def coded_in_time(plan: Plan, book: str) -> pd.DataFrame:
    """The plan's diagnoses with code in ``book`` and date; of one code twice in one person the first is kept."""
    table = plan.diagnoses.assign(code=labels.codes(plan.diagnoses, plan.hearts, book))
    first = plan.people["date"].to_numpy()[table["person"].to_numpy()]
    table["date"] = first + table["days"].to_numpy().astype("timedelta64[D]")
    return table.drop_duplicates(["person", "code"], ignore_index=True)


def cmr_dates(plan: Plan) -> pd.Series:
    """Date of everybody's CMR (also of those who have none): ``cmr_days`` from the first ECG."""
    return plan.people["date"] + pd.to_timedelta(plan.people["cmr_days"], unit="D")


def phenotype_columns() -> list[str]:
    """Columns of the 82 phenotypes in a UK Biobank table: ``24100-2.0`` ... ``24181-2.0``."""
    return [f"{p.field}-2.0" for p in phenotypes.PHENOTYPES]
