"""What the study found, as answers to its questions: the first page of the report. Every number comes from a table.

A paired difference whose interval holds 0 is no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cardionets import page, phenotypes, received, tables
from cardionets.arm_table import ARMS
from cardionets.config import Study
from cardionets.evaluate.pooling import Pooled, pool_rows, usable
from cardionets.evaluate.rows import MEAN_OF
from cardionets.figures.base import Provenance

RIVALS = ("covariates", "beat_ridge", "scratch", "cmr")  # the differences from these are said in numbers
GUESSES = ("shuffled", "training_mean", "ridge")  # likewise, of drawn hearts
DRAWN = {"cine_sax": "short axis", "cine_4ch": "four chambers"}
SIDES = {1: "better than", 0: "not told from", -1: "worse than"}
_label = received.label


@dataclass(frozen=True)
class Findings:
    """The metrics of a study, the arm the report is about, and the cohorts that trained nothing."""

    study: Study
    metrics: pd.DataFrame
    arm: str
    external: Sequence[str] = field(default=())

    def section(self) -> page.Section:
        """Answers, the AUC of every disease at every centre, and what the arms are."""
        answers = {question: found for question, found in self._answers() if found}
        return page.Section("Findings", answers=answers, tables=self._auc_table(), remarks=self._arms())

    def in_words(self) -> list[str]:
        """The answers alone, as lines: a question, then a dash before every sentence that answers it."""
        return [line for question, found in self._answers() if found for line in (question, *(f"- {s}" for s in found))]

    def _answers(self) -> Iterator[tuple[str, list[str]]]:
        arms = [name for name in (f"{self.arm}_teacher", self.arm) if (self.metrics["arm"] == name).any()]
        yield (
            f"How well does an ECG tell {len(phenotypes.NAMES)} CMR phenotypes, with few labels and with all?",
            [line for name in arms for line in self._phenotypes(name)],
        )
        yield "How much is that of what an ECG carries of them?", self._shares(arms[0] if arms else self.arm)
        yield "Which diseases does it show at centres that trained nothing?", [*self._pooled_auc(), *self._against()]
        yield "Are its risks right there?", [*self._pooled("oe", "observed / expected"), *self._slopes()]
        yield "Is the heart that is drawn from an ECG that patient's?", [*self._drawn(), *self._measured()]

    def _phenotypes(self, arm: str) -> Iterator[str]:
        """Mean R2 at the lowest and the highest fraction of labels, then what it is better and worse than."""
        means, gaps = (_rows(self.metrics, f"mean_r2{kind}", "all_phenotypes") for kind in ("", "_difference"))
        for cohort, rows in self._by_cohort(means[means["arm"] == arm]):
            for fraction in sorted({rows["fraction"].min(), rows["fraction"].max()}):
                row = rows[rows["fraction"] == fraction].iloc[0]
                own = gaps[(gaps["cohort"] == cohort) & (gaps["fraction"] == fraction)]
                who = f"{_label(self.study, cohort)}, {fraction:.0%} of the labels, n = {int(row['n']):,}"
                said = [
                    f"{who}: mean R² of {plain(arm)} {_phrase(row)}{_remark(row)}",
                    *_verdicts(_gaps(own, arm), RIVALS),
                ]
                yield "; ".join(said) + "."

    def _shares(self, arm: str) -> list[str]:
        """R2 over the R2 of the noise-free heart, of simulated people."""
        rows = _rows(self.metrics, "r2_share")
        rows = rows[(rows["arm"] == arm) & rows["estimate"].notna()]
        named = "; ".join(f"{_quoted(r['endpoint'])} {_phrase(r, 2)}" for _, r in rows.iterrows())
        n = int(rows["n"].max()) if len(rows) else 0
        lead = f"Share of the attainable R², known for simulated people alone (n = {n:,}), reached by {plain(arm)}"
        return [f"{lead}: {named}."] if named else []

    def _of_diseases(self, metric: str) -> pd.DataFrame:
        rows = _rows(self.metrics, metric)
        own: pd.DataFrame = rows[rows["arm"] == self.arm]
        most: pd.DataFrame = own[own["fraction"] == own["fraction"].max()]
        return most

    def _pools(self, metric: str) -> dict[str, Pooled]:
        """Every disease that two external centres or more can tell of, pooled."""
        level = self.study.protocol.statistics.level
        rows = self._of_diseases(metric)
        known = usable(rows[rows["cohort"].isin(self.external)])
        parts = {str(name): rows for name, rows in known.groupby("endpoint", sort=False) if len(rows) > 1}
        return {name: pool_rows(metric, rows, level) for name, rows in parts.items()}

    def _pooled(self, metric: str, words: str) -> list[str]:
        """The lowest and the highest pooled estimate over diseases."""
        found = sorted(self._pools(metric).items(), key=lambda item: item[1].estimate.value)
        if not found:
            return []
        ends = [f"{_interval(p)} for {_quoted(name)}" for name, p in (found[0], found[-1])]
        over = f"Pooled over {len(self.external)} external centres, {words} of {plain(self.arm)}"
        return [f"{over} goes from {ends[0]} to {ends[1]} ({len(found)} diseases that two centres or more can tell)."]

    def _pooled_auc(self) -> list[str]:
        return self._pooled("auc", "AUC")

    def _slopes(self) -> list[str]:
        return self._pooled("calibration_slope", "the calibration slope")

    def _against(self) -> list[str]:
        """How many paired differences in AUC, over diseases and external centres, are on which side."""
        gaps = self.metrics[(self.metrics["metric"] == "auc_difference") & self.metrics["cohort"].isin(self.external)]
        found = [gap for gap in _gaps(gaps, self.arm) if np.isfinite(gap["lower"])]
        said = []
        for rival in RIVALS:
            sides = [_side(gap) for gap in found if gap["rival"] == rival]
            better, same, worse = (sides.count(side) for side in SIDES)
            text = f"{plain(rival)} in {better} of {len(sides)} (not told apart in {same}, worse in {worse})"
            said += [text] if sides else []
        lead = f"One comparison per disease and centre: {plain(self.arm)} has a higher AUC than"
        return [f"{lead} {'; '.join(said)}. Intervals are not corrected for their number."] if said else []

    def _drawn(self) -> Iterator[str]:
        """Similarity of the drawn to the real cine, and to what needs no patient."""
        for cohort, rows in self._by_cohort(_rows(self.metrics, "ssim")):
            for endpoint, view in DRAWN.items():
                mine = rows[(rows["endpoint"] == endpoint) & rows["estimate"].notna()]
                own = mine[mine["arm"] == "generated"]
                if len(own):
                    who = f"{_label(self.study, cohort)}, {view}, n = {int(own['n'].iloc[0]):,}"
                    gaps = _gaps(mine, "generated", " - ")
                    yield "; ".join([f"{who}: SSIM {_phrase(own.iloc[0], 2)}", *_verdicts(gaps, GUESSES)]) + "."

    def _measured(self) -> Iterator[str]:
        """Phenotypes measured on the drawn hearts against the person's own, beside the regression without a picture."""
        rows = _rows(self.metrics, "r")
        rows = rows[rows["endpoint"].isin(self.study.protocol.endpoints.headline_phenotypes) & rows["estimate"].notna()]
        drawn, direct = (rows[rows["arm"] == arm].set_index(["cohort", "endpoint"]) for arm in ("generated", "direct"))
        for cohort, own in self._by_cohort(drawn[drawn.index.isin(direct.index)].reset_index()):
            pairs = [
                f"{_quoted(row['endpoint'])} {_phrase(row, 2)} and {_phrase(direct.loc[(cohort, row['endpoint'])], 2)}"
                for _, row in own.iterrows()
            ]
            who = f"{_label(self.study, cohort)}, n = {int(own['n'].max()):,}"
            lead = "r with the person's own, measured on the drawn heart and said without one"
            yield f"{who}: {lead}: {'; '.join(pairs)}."

    def _by_cohort(self, rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
        """In the order of ``cohorts.yaml``, others after them."""
        parts = {str(cohort): part for cohort, part in rows.groupby("cohort", sort=False)}
        for cohort in sorted(parts, key=lambda c: [*self.study.cohorts, c].index(c)):
            yield cohort, parts[cohort]

    def _auc_table(self) -> list[page.Table]:
        """Diseases in rows, centres in columns: AUC with interval, cases/recordings; external ones pooled."""
        rows = self._of_diseases("auc")
        if rows.empty:
            return []
        texts = {
            _label(self.study, cohort): pd.Series({row["endpoint"]: _with_cases(row) for _, row in own.iterrows()})
            for cohort, own in self._by_cohort(rows)
        }
        wide = pd.DataFrame(texts).reindex(rows["endpoint"].unique())
        pools = self._pools("auc")
        if pools:
            wide["external, pooled"] = [_interval(pools[e]) if e in pools else "–" for e in wide.index]
        wide.index = pd.Index([_quoted(name) for name in wide.index], name="disease")
        title = f"AUC of {plain(self.arm)}: interval, cases/recordings"
        return [tables.on_page(wide.fillna("–").reset_index(), title, Provenance.of(self.study, "All cohorts"))]

    def _arms(self) -> list[str]:
        """What each arm that was evaluated may see."""
        there = set(self.metrics["arm"].astype(str))
        said = [f"{plain(name)}: {arm.about}" for name, arm in ARMS.items() if name in there]
        return [f"Arms. {'; '.join(said)}."] if said else []


def plain(arm: str) -> str:
    """The name of an arm, for people."""
    return arm.replace("_", " ")


def _quoted(endpoint: object) -> str:
    return tables.endpoint_label(str(endpoint))


def _rows(metrics: pd.DataFrame, metric: str, endpoint: str | None = None) -> pd.DataFrame:
    keep = metrics["metric"] == metric
    return metrics[keep if endpoint is None else keep & (metrics["endpoint"] == endpoint)]


def _phrase(row: pd.Series, digits: int = 3) -> str:
    text = tables.interval_text(row, digits)
    return "not estimable" if text == "–" else text


def _remark(row: pd.Series) -> str:
    """Over how many phenotypes a mean is, where it is not over all."""
    note = str(row.get("note", ""))
    return f", {note.partition(';')[0]}" if note.startswith(MEAN_OF) else ""


def _interval(pooled: Pooled) -> str:
    found = pooled.estimate
    return _phrase(pd.Series({"estimate": found.value, "lower": found.lower, "upper": found.upper}), 2)


def _with_cases(row: pd.Series) -> str:
    cases = f", {int(row['events']):,}/{int(row['n']):,}" if row["n"] and not pd.isna(row["events"]) else ""
    return f"{tables.interval_text(row, 2)}{cases}"


def _gaps(rows: pd.DataFrame, arm: str, word: str = " minus ") -> list[pd.Series]:
    """The paired differences of ``arm`` to its ``rival`` among ``rows``, whichever of them a row subtracts."""
    found = []
    for _, row in rows.iterrows():
        pair = str(row["arm"]).split(word)
        if len(pair) == 2 and arm in pair:
            turned = pair[1] == arm
            bounds = (-row["estimate"], -row["upper"], -row["lower"]) if turned else row[["estimate", "lower", "upper"]]
            gap = row.copy()
            gap[["estimate", "lower", "upper"]] = list(bounds)
            gap["rival"] = pair[0] if turned else pair[1]
            found.append(gap)
    return found


def _side(gap: pd.Series) -> int:
    return int(gap["lower"] > 0) - int(gap["upper"] < 0)


def _verdicts(gaps: Sequence[pd.Series], shown: Sequence[str]) -> list[str]:
    """ "better than X by 0.086 (0.065 to 0.107), Y and Z" for each side that has rivals; numbers for ``shown`` ones.

    What has no interval is not judged.
    """
    judged = [gap for gap in gaps if np.isfinite(gap["lower"])]
    said = []
    for side, words in SIDES.items():
        own = sorted((gap for gap in judged if _side(gap) == side), key=lambda gap: gap["rival"] not in shown)
        names = [plain(str(gap["rival"])) + (f" {_phrase(gap)}" if gap["rival"] in shown else "") for gap in own]
        said += [f"{words} {', '.join(names)}"] if names else []
    return said
