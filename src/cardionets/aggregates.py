"""The tables of a site bundle: made from a site's results and records, and fit to leave the building."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
Rows = NDArray[np.bool_]


def tables(study: Study, cohort: str) -> dict[str, pd.DataFrame]:
    """All tables of one cohort by name, suppressed and rounded: metrics, images, flow, people, risk_bins, clouds.

    Raises StudyError when the cohort has not been validated.
    """
    minimum = study.protocol.statistics.minimum_cell
    store = Store.open(study.path("store", cohort), study.grid)
    cube = Cube.of(_predictions(study, cohort), store.records, "test")
    close = _close_fractions(cube, minimum)
    found: dict[str, pd.DataFrame] = {}
    for name in RESULTS:
        path = study.path("results", cohort, f"{name}.csv")
        if name == "metrics" and not path.is_file():
            raise StudyError(f"results/{cohort}/metrics.csv: missing; run `make site COHORT={cohort}` first.")
        if path.is_file():
            table = pd.read_csv(path, dtype={"note": str})
            judged = name == "metrics"
            groups = people_of(store.records, list(table["endpoint"].unique())) if judged else _NOBODY
            near = close if judged else _close_cines(cube, table, minimum)
            found[name] = suppress_metrics(table, groups, minimum, near)
    found["flow"] = shared_flow(store.flow, minimum)
    shown = set(found["metrics"].loc[found["metrics"]["note"] != HIDDEN, "endpoint"])
    tested = cube.records.drop_duplicates("person")
    found["people"] = people_table(tested, minimum, shown & _few_lost(cube, minimum))
    found["risk_bins"] = _stack(_risk_bins(cube, shown, minimum, close), (*KEYS, *binned.RISK_COLUMNS))
    shown &= set(study.protocol.endpoints.headline_phenotypes)
    found["clouds"] = _stack(_clouds(cube, shown, minimum), (*KEYS, *binned.CLOUD_COLUMNS))
    return found


_NOBODY: Final = pd.DataFrame(columns=["records", "people", "cases", "case_people", "controls", "control_people"])


def _predictions(study: Study, cohort: str) -> pd.DataFrame:
    path = study.path("predictions", f"{cohort}.parquet")
    if not path.is_file():
        raise StudyError(f"predictions/{cohort}.parquet: missing; run `make site COHORT={cohort}` first.")
    return pd.read_parquet(path)


def _masks(cube: Cube, endpoint: str) -> dict[float, Rows]:
    """Label fraction -> the records (n,) its rows of the metrics rest on, the largest fraction first."""
    found = {fraction: cube.common(endpoint, arms)[1] for fraction, arms in cube.fractions().items()}
    return dict(sorted(found.items(), reverse=True))


def _told_apart(cube: Cube, endpoint: str, groups: Sequence[Rows], minimum: int) -> bool:
    """Whether two groups of records (n,) differ by 1 to minimum - 1 people, cases or controls.

    Counts of the two would tell what these few have. People are counted by all their records and by their first.
    """
    person, case = cube.records["person"], cube.truth(endpoint) == 1
    first, everybody = ~person.duplicated().to_numpy(), np.full(len(person), True)
    some = [kind & seen for kind in (everybody, case, ~case) for seen in (everybody, first)]
    apart = [person[(a ^ b) & which].nunique() for a, b in combinations(groups, 2) for which in some]
    return any(0 < few < minimum for few in apart)


def _close_fractions(cube: Cube, minimum: int) -> set[tuple[str, float]]:
    """(disease, fraction) whose people differ by a few from those of a larger fraction that is shown."""
    close = set()
    for endpoint in cube.diseases():
        kept: list[Rows] = []
        for fraction, mask in _masks(cube, endpoint).items():
            if any(_told_apart(cube, endpoint, (mask, other), minimum) for other in kept):
                close.add((endpoint, fraction))
            else:
                kept.append(mask)
    return close


def _close_cines(cube: Cube, images: pd.DataFrame, minimum: int) -> set[tuple[str, float]]:
    """(disease, fraction) of which all but a few people, cases or controls have cines: counts tell about these few."""
    first, close = ~cube.records["person"].duplicated().to_numpy(), set()
    for endpoint in (name for name in cube.diseases() if name in set(images["endpoint"])):
        truth, rows = cube.truth(endpoint), images[images["endpoint"] == endpoint]
        groups = [mask & first for mask in (np.isfinite(truth), *_masks(cube, endpoint).values())]
        whole = np.array([[(g & (truth == 0)).sum(), (g & (truth == 1)).sum(), g.sum()] for g in groups])  # (k, 3)
        n, events = rows[["n", "events"]].to_numpy(float).T
        apart = np.abs(np.stack([n - events, events, n], axis=1)[:, None] - whole)  # (row, k, 3)
        if ((apart > 0) & (apart < minimum)).any():
            close |= {(endpoint, float(fraction)) for fraction in rows["fraction"]}
    return close


def _few_lost(cube: Cube, minimum: int) -> set[str]:
    """Diseases of which a few people, cases or controls have a label and no prediction by every arm."""
    return {
        name
        for name in cube.diseases()
        for mask in _masks(cube, name).values()
        if _told_apart(cube, name, (np.isfinite(cube.truth(name)), mask), minimum)
    }


def shared_flow(table: pd.DataFrame, minimum: int) -> pd.DataFrame:
    """The participant flow with small steps merged or hidden: step, reason, records, persons.

    Sexes and ages are left to :func:`people_table`. Exclusions of fewer than ``minimum`` people become one line; one
    person may stand under several of its reasons, so its people are shown only where they are certain.
    """
    counts = table[list(FLOW_COLUMNS)].fillna({"reason": ""})
    excluded = counts["step"].eq("excluded")
    few = excluded & (counts["persons"] < minimum)
    if few.sum() < 2:
        return _hide_flow(counts.reset_index(drop=True), minimum)
    persons = counts["persons"].groupby(counts["step"]).sum()
    elsewhere = persons["kept"] + counts.loc[excluded & ~few, "persons"].sum()
    least, most = max(counts.loc[few, "persons"].max(), persons["source"] - elsewhere), counts.loc[few, "persons"].sum()
    line = {"step": "excluded", "reason": OTHER, "records": counts.loc[few, "records"].sum(), "persons": least}
    kept = counts.index[counts["step"] == "kept"][0]
    parts = [counts[~few].loc[: kept - 1], pd.DataFrame([line]), counts[~few].loc[kept:]]
    shared = _hide_flow(pd.concat(parts, ignore_index=True), minimum)
    shared.loc[shared["reason"].eq(OTHER) & (least < most), "persons"] = pd.NA
    return shared


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


def people_table(people: pd.DataFrame, minimum: int, withheld: Collection[str] = ()) -> pd.DataFrame:
    """Who was tested (one row per person in): counts per sex, age band and disease; mean and SD of measures.

    Levels add up to everybody; a small level takes another one with it. Measures known for too few are left out, and
    so are the counts of diseases that are ``withheld``.
    """
    parts = [_levels("people", pd.Series("all", index=people.index), ("all",), minimum)]
    parts.append(_levels("sex", people["sex"].astype(object).fillna("unknown"), ("F", "M", "unknown"), minimum))
    parts.append(_levels("age_band", _age_band(people["age"]), (*flow.BANDS, "unknown"), minimum))
    for name in (name for name in diseases.NAMES if name in people):
        state = people[name].astype("boolean").astype(object).map({True: "yes", False: "no"}).fillna("unknown")
        levels = _levels(name, state, ("yes", "no", "unknown"), minimum)
        parts.append(levels.assign(people=levels["people"].mask(np.full(len(levels), name in withheld))))
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


def _risk_bins(
    cube: Cube, shown: Collection[str], minimum: int, close: Collection[tuple[str, float]] = ()
) -> Iterator[pd.DataFrame]:
    """Groups of risk of the people whom the metrics rest on, each by their first record."""
    first = ~cube.records["person"].duplicated().to_numpy()
    for endpoint in (name for name in cube.diseases() if name in shown):
        truth, values = cube.truth(endpoint), cube.column(endpoint)
        for fraction, arms in cube.fractions().items():
            active, mask = cube.common(endpoint, arms)
            known = mask & first
            for arm in (arm for arm in active if (endpoint, fraction) not in close):
                try:
                    bins = binned.risk_bins(truth[known] > 0.5, values[arm][known], minimum)
                except NotEstimableError:
                    continue
                risk = rounded(bins["mean_risk"])
                yield bins.assign(endpoint=endpoint, arm=cube.arms[arm][0], fraction=fraction, mean_risk=risk)


def _clouds(cube: Cube, shown: Collection[str], minimum: int) -> Iterator[pd.DataFrame]:
    """True against predicted with all labels, of the people whom the metrics rest on, each by their first record."""
    first = ~cube.records["person"].duplicated().to_numpy()
    for endpoint in (name for name in cube.phenotypes() if name in shown):
        truth, values = cube.truth(endpoint), cube.column(endpoint)
        active, mask = cube.common(endpoint, cube.fractions().get(1.0, []))
        known = mask & first
        for arm in active:
            try:
                cells = binned.cloud(truth[known], values[arm][known], minimum)
            except NotEstimableError:
                continue
            edges = {c: rounded(cells[c]) for c in binned.CLOUD_COLUMNS[:4]}
            yield cells.assign(**edges, endpoint=endpoint, arm=cube.arms[arm][0], fraction=1.0)


def _stack(parts: Iterator[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    found = [part[list(columns)] for part in parts]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(columns))
