"""The tables of a site bundle: made from a site's results and records, and fit to leave the building."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from cardionets import diseases, flow, phenotypes
from cardionets.config import Study, StudyError
from cardionets.disclosure import HIDDEN, people_of, rounded, suppress, suppress_metrics
from cardionets.evaluate import binned
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.estimate import NotEstimableError
from cardionets.evaluate.people import COLUMNS as MIX_COLUMNS
from cardionets.store import Store

OTHER: Final = "other reasons"
CONTINUOUS: Final = ("age", "height_cm", "weight_kg", "rate_bpm", "qrs_ms", *phenotypes.HEADLINE)
PEOPLE_COLUMNS: Final = ("variable", "level", "people", "mean", "sd")
RESULTS: Final = ("metrics", "images")
KEYS: Final = ("endpoint", "arm", "fraction")
FLOW_COLUMNS: Final = ("step", "reason", "records", "persons")


def tables(study: Study, cohort: str) -> dict[str, pd.DataFrame]:
    """All tables of one cohort by name, suppressed and rounded: metrics, images, flow, people, risk_bins, clouds.

    Raises StudyError when the cohort has not been validated.
    """
    minimum = study.protocol.statistics.minimum_cell
    store = Store.open(study.path("store", cohort), study.grid)
    predictions = _predictions(study, cohort)
    found: dict[str, pd.DataFrame] = {}
    for name in RESULTS:
        path = study.path("results", cohort, f"{name}.csv")
        if name == "metrics" and not path.is_file():
            raise StudyError(f"results/{cohort}/metrics.csv: missing; run `make site COHORT={cohort}` first.")
        if path.is_file():
            table = pd.read_csv(path, dtype={"note": str})
            groups = people_of(store.records, list(table["endpoint"].unique())) if name == "metrics" else _NOBODY
            found[name] = suppress_metrics(table, groups, minimum)
    tested = store.records[store.records["split"] == "test"]
    found["flow"] = shared_flow(store.flow, minimum)
    found["people"] = people_table(tested.drop_duplicates("person"), minimum)
    shown = set(found["metrics"].loc[found["metrics"]["note"] != HIDDEN, "endpoint"])
    cube = Cube.of(predictions, store.records, "test").first_records()
    found["risk_bins"] = _stack(_risk_bins(cube, shown, minimum), (*KEYS, *binned.RISK_COLUMNS))
    shown &= set(study.protocol.endpoints.headline_phenotypes)
    found["clouds"] = _stack(_clouds(cube, shown, minimum), (*KEYS, *binned.CLOUD_COLUMNS))
    return found


_NOBODY: Final = pd.DataFrame(columns=["records", "people", "cases", "case_people", "controls", "control_people"])


def _predictions(study: Study, cohort: str) -> pd.DataFrame:
    path = study.path("predictions", f"{cohort}.parquet")
    if not path.is_file():
        raise StudyError(f"predictions/{cohort}.parquet: missing; run `make site COHORT={cohort}` first.")
    return pd.read_parquet(path)


def shared_flow(table: pd.DataFrame, minimum: int) -> pd.DataFrame:
    """The participant flow with small steps merged or hidden: step, reason, records, persons.

    Sexes and ages are left to :func:`people_table`. Exclusions of fewer than ``minimum`` people become one line.
    """
    counts = table[list(FLOW_COLUMNS)].fillna({"reason": ""})
    few = counts["step"].eq("excluded") & (counts["persons"] < minimum)
    if few.sum() > 1:
        merged = counts[few][["records", "persons"]].sum()
        line = pd.DataFrame([{"step": "excluded", "reason": OTHER, **merged}])
        kept = counts.index[counts["step"] == "kept"][0]
        counts = pd.concat([counts[~few].loc[: kept - 1], line, counts[~few].loc[kept:]], ignore_index=True)
    return _hide_flow(counts.reset_index(drop=True), minimum)


def _hide_flow(counts: pd.DataFrame, minimum: int) -> pd.DataFrame:
    """Source = excluded + kept, kept = splits: hide so that no small step follows from the others."""
    step = counts["step"]
    small = ((counts["persons"] > 0) & (counts["persons"] < minimum)).to_numpy()
    places = {name: tuple(np.flatnonzero(step == name).tolist()) for name in flow.STEPS}
    relations = [(places["source"][0], (*places["excluded"], *places["kept"]))]
    relations += [(places["kept"][0], places["split"])] if places["split"] else []
    dear = step.map({"kept": 1e12, "split": 1e11, "source": 1e10})
    hidden = small
    for column in ("records", "persons"):
        cost = dear.fillna(counts[column].astype(float)).to_list()
        hidden = hidden | suppress(counts[column].to_numpy(), relations, minimum, hidden, cost)
    out = counts.astype({"records": "Int64", "persons": "Int64"})
    out.loc[hidden, ["records", "persons"]] = pd.NA
    return out


def people_table(people: pd.DataFrame, minimum: int) -> pd.DataFrame:
    """Who was tested (one row per person in): counts per sex, age band and disease; mean and SD of measures.

    Levels add up to everybody; a small level takes another one with it. Measures known for too few are left out.
    """
    parts = [_levels("people", pd.Series("all", index=people.index), ("all",), minimum)]
    parts.append(_levels("sex", people["sex"].astype(object).fillna("unknown"), ("F", "M", "unknown"), minimum))
    parts.append(_levels("age_band", _age_band(people["age"]), (*flow.BANDS, "unknown"), minimum))
    for name in (name for name in diseases.NAMES if name in people):
        state = people[name].astype("boolean").astype(object).map({True: "yes", False: "no"}).fillna("unknown")
        parts.append(_levels(name, state, ("yes", "no", "unknown"), minimum))
    parts.append(pd.DataFrame(_measures(people, minimum), columns=list(PEOPLE_COLUMNS)))
    return pd.concat([p.reindex(columns=list(PEOPLE_COLUMNS)) for p in parts], ignore_index=True).astype(
        {"people": "Int64", "mean": float, "sd": float}
    )


def case_mix(people: pd.DataFrame, cohort: str) -> pd.DataFrame:
    """What :func:`people_table` says, in the columns of `evaluate.people`; what it hides stays hidden.

    A share needs both of its counts; a mean stands with the people it is of.
    """
    counts = people.pivot_table("people", "variable", "level", aggfunc="first")
    rows: list[tuple[object, ...]] = []
    for name, levels in (("sex", ("F", "M")), *((d, ("yes", "no")) for d in diseases.NAMES)):
        if name in counts.index and counts.loc[name].reindex(levels).notna().all():
            first, other = counts.loc[name].reindex(levels).to_numpy(np.int64)
            share = first / max(first + other, 1)
            about = "female" if name == "sex" else name
            rows.append((cohort, about, "share", first + other, share, np.sqrt(share * (1 - share))))
    measured = people[people["level"] == "mean"]
    rows += [(cohort, v, "number", n, m, s) for v, n, m, s in measured[["variable", "people", "mean", "sd"]].to_numpy()]
    return pd.DataFrame(rows, columns=list(MIX_COLUMNS))


def _age_band(age: pd.Series) -> pd.Series:
    band = pd.Series("unknown", index=age.index, dtype=object)
    for name, (low, high) in flow.BANDS.items():
        band[(age >= low) & (age < high)] = name
    return band


def _levels(variable: str, values: pd.Series, levels: tuple[str, ...], minimum: int) -> pd.DataFrame:
    counts = values.value_counts().reindex(list(levels), fill_value=0).to_numpy(np.int64)
    everybody = np.append(counts, counts.sum())
    relation = (len(levels), tuple(range(len(levels))))
    cost = [*counts.astype(float), np.inf]  # the total of everybody stands in other rows as well: it cannot be hidden
    hidden = suppress(everybody, [relation], minimum, cost=cost)[:-1]
    shown = pd.array(counts, dtype="Int64")
    shown[hidden] = pd.NA
    return pd.DataFrame({"variable": variable, "level": list(levels), "people": shown})


def _measures(people: pd.DataFrame, minimum: int) -> Iterator[tuple[str, str, int, float, float]]:
    for name in (name for name in CONTINUOUS if name in people):
        known = pd.to_numeric(people[name], errors="coerce").dropna()
        if len(known) >= 2 * minimum and not 0 < len(people) - len(known) < minimum:
            mean, sd = rounded(pd.Series([known.mean(), known.std()]), 3)
            yield name, "mean", len(known), mean, sd


def _risk_bins(cube: Cube, shown: set[str], minimum: int) -> Iterator[pd.DataFrame]:
    for endpoint in (name for name in cube.diseases() if name in shown):
        truth, values = cube.truth(endpoint), cube.column(endpoint)
        for (arm, fraction), risk in zip(cube.arms, values):
            known = np.isfinite(truth) & np.isfinite(risk)
            try:
                bins = binned.risk_bins(truth[known] > 0.5, risk[known], minimum)
            except NotEstimableError:
                continue
            yield bins.assign(endpoint=endpoint, arm=arm, fraction=fraction, mean_risk=rounded(bins["mean_risk"]))


def _clouds(cube: Cube, shown: set[str], minimum: int) -> Iterator[pd.DataFrame]:
    for endpoint in (name for name in cube.phenotypes() if name in shown):
        truth, values = cube.truth(endpoint), cube.column(endpoint)
        for (arm, fraction), predicted in zip(cube.arms, values):
            known = np.isfinite(truth) & np.isfinite(predicted)
            if fraction < 1:
                continue
            try:
                cells = binned.cloud(truth[known], predicted[known], minimum)
            except NotEstimableError:
                continue
            edges = {c: rounded(cells[c]) for c in binned.CLOUD_COLUMNS[:4]}
            yield cells.assign(**edges, endpoint=endpoint, arm=arm, fraction=fraction)


def _stack(parts: Iterator[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    found = [part[list(columns)] for part in parts]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(columns))
