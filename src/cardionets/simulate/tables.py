"""The tables beside a simulated centre's recordings, each in the centre's own layout.

UK Biobank: a wide table by field id and a withdrawal list. MIMIC-IV: the ECG record list and machine measurements, and
three tables of the hospital. Other hospitals: one manifest row per ECG. Every folder has a README that says SIMULATED.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cardionets.simulate import labels
from cardionets.simulate.plan import Plan, cmr_dates, coded_in_time, phenotype_columns, stream

MIMIC_MISSING = 29999
"""What the cart of MIMIC-IV-ECG prints for an interval it could not measure."""


def write_tables(plan: Plan, folder: Path) -> None:
    """Write the tables of ``plan`` and its README below ``folder``."""
    writers = {"cardiosoft": _ukb, "mimic": _mimic}
    writers.get(plan.centre.ecg_format, _manifest)(plan, folder)
    (folder / "README.txt").write_text(_readme(plan), encoding="utf-8")


def _readme(plan: Plan) -> str:
    return (
        f"SIMULATED DATA. Nobody in this folder exists. It imitates the file layout of {plan.centre.label} and\n"
        f"holds no recording, image or number of a real person.\n\n"
        f"Made by `python -m cardionets simulate`: {len(plan.people):,} simulated people, {len(plan.records):,} ECGs, "
        f"seed {plan.seed}.\n{_about_masks(plan)}"
    )


def _about_masks(plan: Plan) -> str:
    if not plan.people["mask"].any():
        return ""
    return (
        f"masks/: true segmentations for {int(plan.people['mask'].sum()):,} of them: 0 background, 1 LV cavity, "
        "2 LV myocardium, 3 RV cavity, 4 LA, 5 RA.\n"
    )


def _save(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, lineterminator="\n", float_format="%.6g", date_format="%Y-%m-%d %H:%M:%S")


def _days(values: pd.Series) -> pd.Series:
    return pd.Series(values.dt.strftime("%Y-%m-%d"))


def _ukb(plan: Plan, folder: Path) -> None:
    """``main.csv`` by field id (sex, age, size, date, phenotypes, ICD-10 codes and dates) and ``withdrawn.csv``."""
    hearts, people = plan.hearts, plan.people
    body = pd.DataFrame(
        {
            "eid": people["person"],
            "31-0.0": (hearts["sex"] == "M").astype(int),
            "21003-2.0": np.floor(hearts["age"]).astype(int),
            "50-2.0": hearts["height_cm"].round(0),
            "21002-2.0": hearts["weight_kg"].round(1),
            "53-2.0": _days(people["date"]),
        }
    )
    measured = plan.measured.round(3).set_axis(phenotype_columns(), axis=1)
    measured.loc[~people["cmr"].to_numpy()] = np.nan
    table = coded_in_time(plan, "icd10")
    table["k"] = table.groupby("person").cumcount()
    kept = table[plan.people["coded"].to_numpy()[table["person"].to_numpy()]]
    codes, dates = (_wide(kept, column, field, len(people)) for column, field in (("code", 41270), ("day", 41280)))
    _save(pd.concat([body, measured, codes, dates], axis=1), folder / "main.csv")
    gone = people.loc[people["withdrawn"], "person"].tolist()
    _save(pd.DataFrame({"eid": sorted([*gone, "1000001", "1000002"])}), folder / "withdrawn.csv")


def _wide(table: pd.DataFrame, column: str, field: int, people: int) -> pd.DataFrame:
    """Long codes or dates as columns ``<field>-0.0`` ... ``<field>-0.k``, one row per person."""
    source = table.assign(day=_days(table["date"]))
    wide = source.pivot(index="person", columns="k", values=column).reindex(range(people))
    return wide.set_axis([f"{field}-0.{k}" for k in wide.columns], axis=1)


def _mimic(plan: Plan, folder: Path) -> None:
    """``record_list.csv``, ``machine_measurements.csv`` and the hospital's patients, admissions and diagnoses."""
    _mimic_records(plan, folder)
    _mimic_patients(plan, folder)
    admissions = _admissions(plan)
    listed = admissions.assign(subject_id=plan.people["person"].to_numpy()[admissions["person"].to_numpy()])
    _save(listed[["subject_id", "hadm_id", "admittime"]], folder / "hosp/admissions.csv")
    _save(_mimic_diagnoses(plan, listed), folder / "hosp/diagnoses_icd.csv")


def _mimic_records(plan: Plan, folder: Path) -> None:
    records, subject = plan.records, plan.people["person"].to_numpy()[plan.records["person"].to_numpy()]
    listing = pd.DataFrame({"subject_id": subject, "study_id": records["record"], "file_name": records["record"]})
    listing["ecg_time"] = records["date"]
    path = [plan.centre.ecg_path(who, name) for who, name in zip(subject, records["record"])]
    listing["path"] = [name.removesuffix(".hea") for name in path]
    _save(listing, folder / "record_list.csv")
    hearts = plan.signal_hearts()
    rng = stream(plan.seed, plan.centre.index, "records", 1)
    pr = np.where(hearts["rhythm"] == "af", np.nan, hearts["pr_ms"])
    onset = 40 + np.where(np.isnan(pr), 120, pr) + rng.normal(0, 4, len(hearts))
    end = onset + hearts["qrs_ms"].to_numpy() + rng.normal(0, 4, len(hearts))
    marks = {
        "rr_interval": 60_000 / hearts["rate_bpm"].to_numpy() + rng.normal(0, 5, len(hearts)),
        "p_onset": np.where(np.isnan(pr), MIMIC_MISSING, 40),
        "p_end": np.where(np.isnan(pr), MIMIC_MISSING, 150),
        "qrs_onset": onset,
        "qrs_end": end,
        "t_end": onset + hearts["qt_ms"].to_numpy() + rng.normal(0, 8, len(hearts)),
    }
    table = listing[["subject_id", "study_id", "ecg_time"]].assign(
        report_0="SIMULATED RECORDING", report_1=_rhythm(hearts)
    )
    for name, values in marks.items():
        table[name] = np.round(values).astype(int)
    _save(table, folder / "machine_measurements.csv")


def _rhythm(hearts: pd.DataFrame) -> np.ndarray:
    """The machine's statement of rhythm and conduction."""
    rhythm = np.where(hearts["rhythm"] == "af", "Atrial fibrillation", "Sinus rhythm").astype(object)
    block = hearts["conduction"].map(
        {"none": "", "rbbb": ", right bundle branch block", "lbbb": ", left bundle branch block"}
    )
    return np.asarray(rhythm + block.to_numpy())


def _mimic_patients(plan: Plan, folder: Path) -> None:
    """Anchor year up to three years before the first ECG; ages above 89 read 91, as in MIMIC-IV."""
    rng = stream(plan.seed, plan.centre.index, "people", 1)
    earlier = rng.integers(0, 4, len(plan.people))
    age = np.floor(plan.hearts["age"]).astype(int).to_numpy() - earlier
    patients = pd.DataFrame(
        {
            "subject_id": plan.people["person"],
            "gender": plan.hearts["sex"],
            "anchor_age": np.where(age > 89, 91, age),
            "anchor_year": plan.people["date"].dt.year - earlier,
            "anchor_year_group": "2014 - 2016",
            "dod": "",
        }
    )
    _save(patients, folder / "hosp/patients.csv")


def _admissions(plan: Plan) -> pd.DataFrame:
    """Hospital stays of the coded people: one at the first ECG, others in the five years before and three after it."""
    rng = stream(plan.seed, plan.centre.index, "diagnoses", 1)
    counts = np.where(plan.people["coded"], 1 + np.minimum(rng.poisson(1.2, len(plan.people)), 5), 0)
    person = np.repeat(np.arange(len(counts)), counts)
    first = np.arange(len(person)) == np.repeat(np.cumsum(counts) - counts, counts)
    days = np.where(first, 0, rng.integers(-5 * 365, 3 * 365, len(person)))
    time = plan.people["date"].to_numpy()[person] + days.astype("timedelta64[D]")
    numbers = 20_000_000 + rng.choice(9_999_999, len(person), replace=False)
    version = np.where(rng.random(len(person)) < 0.55, 9, 10)
    table = pd.DataFrame({"person": person, "hadm_id": numbers, "days": days, "icd_version": version})
    table["admittime"] = time + rng.integers(0, 86_400, len(person)).astype("timedelta64[s]")
    return table.sort_values(["person", "days", "hadm_id"], ignore_index=True)


def _mimic_diagnoses(plan: Plan, admissions: pd.DataFrame) -> pd.DataFrame:
    """Codes by stay: at the first stay on or after the disease's date (else the last), and in 80 % of later stays."""
    rng = stream(plan.seed, plan.centre.index, "diagnoses", 2)
    pairs = plan.diagnoses.merge(admissions, on="person", suffixes=("", "_stay"))
    key = ["person", "disease", "draw"]
    pairs["late"] = pairs["days_stay"] >= pairs["days"]
    pairs["order"] = pairs.groupby([*key, "late"]).cumcount()
    any_late = pairs.groupby(key)["late"].transform("any")
    last = pairs.groupby(key).cumcount(ascending=False) == 0
    first_listing = pairs["late"] & (pairs["order"] == 0) | ~any_late & last
    again = pairs["late"] & (pairs["order"] > 0) & (rng.random(len(pairs)) < 0.8)
    listed = pairs[first_listing | again].reset_index(drop=True)
    new, old = (np.array(labels.codes(listed, plan.hearts, book), dtype=object) for book in ("icd10cm", "icd9"))
    listed["icd_code"] = np.where(listed["icd_version"] == 10, new, old)
    listed = listed.drop_duplicates(["hadm_id", "icd_code"], ignore_index=True)
    listed = listed.sort_values(["person", "days_stay", "hadm_id", "draw"], ignore_index=True)
    listed["seq_num"] = listed.groupby("hadm_id").cumcount() + 1
    return listed[["subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"]]


def _manifest(plan: Plan, folder: Path) -> None:
    """``manifest.csv``: one row per ECG with paths, body, codes at any time and, where the centre has it, subtype."""
    centre, row = plan.centre, plan.records["person"].to_numpy()
    people = plan.people.iloc[row].reset_index(drop=True)
    hearts = plan.hearts.iloc[row].reset_index(drop=True)
    later = (plan.records["date"] - people["date"]).dt.days / 365.25
    codes = (
        coded_in_time(plan, "icd10")
        .groupby("person")["code"]
        .agg(";".join)
        .reindex(range(len(plan.people)), fill_value="")
    )
    coded = people["coded"].to_numpy()
    known = coded & hearts["cardiomyopathy"].to_numpy(dtype=bool) & (hearts["subtype"] != "none").to_numpy()
    table = pd.DataFrame(
        {
            "record": plan.records["record"],
            "person": people["person"],
            "ecg": [centre.ecg_path(who, name) for who, name in zip(people["person"], plan.records["record"])],
            "ecg_date": _days(plan.records["date"]),
            "age": (hearts["age"] + later).round(1),
            "sex": hearts["sex"],
            "height_cm": hearts["height_cm"].round(0),
            "weight_kg": hearts["weight_kg"].round(1),
            "cmr_date": _days(cmr_dates(plan)).where(plan.people["cmr"]).to_numpy()[row],
            "sax": [centre.cmr_path(who, "sax") if has else "" for who, has in zip(people["person"], people["cmr"])],
            "lax": [centre.cmr_path(who, "4ch") if has else "" for who, has in zip(people["person"], people["cmr"])],
            "icd10": np.where(coded, codes.to_numpy()[row], ""),
            "coded": coded.astype(int),
            "subtype": np.where(known & centre.subtypes, hearts["subtype"], ""),
        }
    )
    unmeasured = stream(plan.seed, centre.index, "records", 2).random(len(plan.people))[row] < 0.06
    table.loc[unmeasured, ["height_cm", "weight_kg"]] = np.nan
    _save(table, folder / "manifest.csv")
